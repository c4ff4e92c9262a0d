/* rt_fixture.h: what the tests of the runtime share: the runtime itself, included as source so that
 * nothing but a test file and libcheck is needed, a count of mallocs, kernels as C functions, and
 * models made from hand-written plans. cc -std=c17 -Iruntime tests/runtime/test_rt.c $(pkg-config
 * --cflags --libs check) -lpthread Also run the tests with -fsanitize=thread and with
 * -fsanitize=address,undefined. */
#ifndef RT_FIXTURE_H
#define RT_FIXTURE_H
#include "rt_all.c"
#ifdef RT_OBJECTS /* with what models with calls link */
#include "call_all.c"
#include "rt_object.c"
#endif

#include <check.h>
#include <sys/wait.h>

#include "plan_builder.h"

/* ---- no-malloc check: everything goes through here (glibc only, not under sanitizers) ---- */

__attribute__((unused)) static _Atomic long mallocs;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define COUNTED 0
#else
#define COUNTED 1
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void *malloc(size_t n) {
    mallocs++;
    return __libc_malloc(n);
}
void *calloc(size_t a, size_t b) {
    mallocs++;
    return __libc_calloc(a, b);
}
void *realloc(void *p, size_t n) {
    mallocs++;
    return __libc_realloc(p, n);
}
int posix_memalign(void **p, size_t a, size_t n) {
    mallocs++;
    return (*p = __libc_memalign(a, n)) ? 0 : 12;
}
#endif

/* ---- kernels ---- */

static int32_t k_add(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    const float *x = b[0], *y = b[1];
    float *z = b[2];
    (void)d, (void)scratch;
    for (int64_t i = t0; i < t1; i++) z[i] = x[i] + y[i];
    return 0;
}

static int32_t k_scale(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    const float *x = b[0];
    float *z = b[1];
    (void)d, (void)scratch;
    for (int64_t i = t0; i < t1; i++) z[i] = x[i] * 1.25f + 0.5f;
    return 0;
}

/* z[i] = x[n - 1 - i]: reads what another thread wrote. */
static int32_t k_flip(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    const float *x = b[0];
    float *z = b[1];
    (void)scratch;
    for (int64_t i = t0; i < t1; i++) z[i] = x[d[0] - 1 - i];
    return 0;
}

/* Fails with guard d[0] at the first element that is negative. */
static int32_t k_check(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    const float *x = b[0];
    (void)scratch;
    for (int64_t i = t0; i < t1; i++)
        if (x[i] < 0) return 1 + (int32_t)d[0] + (x[i] < -1);
    return 0;
}

/* The nonzeros of x come first in y; n[0] = how many. One task. */
static int32_t k_compact(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    const float *x = b[0];
    float *y = b[1];
    int64_t *n = b[2];
    (void)scratch, (void)t0, (void)t1;
    *n = 0;
    for (int64_t i = 0; i < d[0]; i++)
        if (x[i] != 0) y[(*n)++] = x[i];
    return 0;
}

/* y[j] = d[0] for j in tasks: shows a size that control steps change. */
static int32_t k_fill(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    float *y = b[0];
    (void)scratch;
    for (int64_t i = t0; i < t1; i++) y[i] = (float)d[0];
    return 0;
}

static int32_t k_scratch(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    float *y = b[0], *mine = scratch;
    for (int64_t i = t0; i < t1; i++) {
        for (int64_t k = 0; k < d[0]; k++) mine[k] = (float)(i + k);
        float sum = 0;
        for (int64_t k = 0; k < d[0]; k++) sum += mine[k];
        y[i] = sum;
    }
    return 0;
}

static accelc_session *cancel_me;
static int32_t k_cancel(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    (void)b, (void)d, (void)t0, (void)t1, (void)scratch;
    accelc_rt1_cancel(cancel_me);
    return 0;
}

static _Atomic int inside, go_on;
static int32_t k_block(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    (void)b, (void)d, (void)t0, (void)t1, (void)scratch;
    inside = 1;
    while (!go_on) sched_yield();
    return 0;
}

static int32_t k_slow(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    (void)b, (void)d, (void)t0, (void)t1, (void)scratch;
    struct timespec t = {.tv_nsec = 2000000};
    nanosleep(&t, NULL);
    return 0;
}

enum { ADD, SCALE, FLIP, CHECK, COMPACT, FILL, SCRATCH, CANCEL, BLOCK, SLOW };
static const rt_kernel kernels[] = {k_add,  k_scale,   k_flip,   k_check, k_compact,
                                    k_fill, k_scratch, k_cancel, k_block, k_slow};

/* ---- a model from a builder ---- */

typedef struct {
    rt_model model;
    const rt_model *list[1];
    rt_bundle bundle;
    accelc_desc desc;
    accelc_api api;
    accelc_session *s;
    char msg[512];
} M;

static void model_init(M *m, Pb *b) {
    memset(m, 0, sizeof *m);
    m->model = (rt_model){RT_MAGIC, sizeof(rt_model), pb_finish(b), kernels, NULL, "x86-64", NULL, NULL};
    m->list[0] = &m->model;
    m->bundle =
        (rt_bundle){.magic = RT_MAGIC, .nmodel = 1, .model = m->list, .executor = RT_EXEC_TEAM};
}

static accelc_status model_open(M *m, accelc_config c) {
    c.size = sizeof c;
    return accelc_rt1_create(&m->bundle, &c, &m->s, m->msg, sizeof m->msg);
}

static void model_close(M *m) {
    accelc_rt1_destroy(m->s);
    free((void *)(uintptr_t)m->model.plan);
}

static accelc_value tensor(int dtype, int rank, const int64_t *dims, void *data, size_t bytes) {
    return (accelc_value){.kind = ACCELC_TENSOR,
                          .dtype = (uint16_t)dtype,
                          .rank = rank,
                          .dims = dims,
                          .data = data,
                          .bytes = bytes};
}

#define THREADS(n) ((accelc_config){.threads = (n)})

/* z = flip(scale(x + y)) over n floats; sym: n is a symbol. Three phases. */
static inline Pb *plan_pipe(int64_t n, int sym, int32_t grain) {
    Pb *b = pb_new();
    int32_t d = sym ? pb_sym(b) : pb_const(b, n), four = pb_const(b, 4),
            bytes = pb_op(b, RT_DIM_MUL, d, four);
    int32_t x = pb_in(b, "x", F32, 1, DIMS(d), bytes), y = pb_in(b, "y", F32, 1, DIMS(d), bytes);
    int32_t z = pb_out(b, "z", F32, 1, DIMS(d), bytes);
    int32_t t = pb_arena(b, F32, bytes, 0, 1), u = pb_arena(b, F32, bytes, 1, 2);
    pb_entry(b);
    pb_kernel(b, ADD, d, grain, 0, LIST(x, y, t, ), LIST());
    pb_kernel(b, SCALE, d, grain, 1, LIST(t, u, ), LIST());
    pb_kernel(b, FLIP, d, grain, 1, LIST(u, z, ), LIST(d, ));
    pb_step(b, RT_END);
    b->p.flags = sym ? 0 : RT_STATIC;
    return b;
}

static void pipe_data(float *x, float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = (float)(i % 17) * 0.37f, y[i] = (float)(i % 5) - 2.f;
}

static inline void pipe_check(const float *x, const float *y, const float *z, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        ck_assert_float_eq(z[i], (x[n - 1 - i] + y[n - 1 - i]) * 1.25f + 0.5f);
}

#define N 1000
static float X[N * 4], Y[N * 4], Z[N * 4];

static inline accelc_status pipe_run(M *m, int64_t n, float *z, size_t zbytes, accelc_value *out) {
    accelc_value in[2] = {tensor(F32, 1, &n, X, (size_t)n * 4),
                          tensor(F32, 1, &n, Y, (size_t)n * 4)};
    *out = (accelc_value){.data = z, .bytes = zbytes};
    pipe_data(X, Y, n);
    return accelc_rt1_run(m->s, in, out);
}

/* y = nonzeros of x, at the upper bound; k bound from data; then z = flip(y) sized by k, placed
 * late. */
static inline Pb *plan_compact(int64_t hi) {
    Pb *b = pb_new();
    int32_t n = pb_sym(b), k = pb_sym(b), four = pb_const(b, 4), one = pb_const(b, 1),
            eight = pb_const(b, 8);
    int32_t bytes = pb_op(b, RT_DIM_MUL, n, four);
    int32_t x = pb_in(b, "x", F32, 1, DIMS(n), bytes), y = pb_arena(b, F32, bytes, 0, 9);
    int32_t count = pb_arena(b, I64, eight, 0, 1);
    pb_entry(b);
    int32_t kbytes = pb_op(b, RT_DIM_MUL, k, four);
    int32_t t = pb_arena(b, F32, kbytes, 3, 4), z = pb_out(b, "z", F32, 1, DIMS(k), kbytes);
    int32_t w = pb_out(b, "w", F32, 1, DIMS(k), bytes); /* at the bound */
    pb_kernel(b, COMPACT, one, 1, 1, LIST(x, y, count, ), LIST(n, ));
    rt_step *s = pb_ctl(b, RT_BIND, k, count, 0);
    s->lo = 0, s->hi = hi;
    pb_ctl(b, RT_DIMS, (int32_t)b->p.entry_dimops, (int32_t)b->p.dimop.n, 0);
    pb_kernel(b, FLIP, k, 2, 1, LIST(y, t, ), LIST(k, ));
    pb_kernel(b, SCALE, k, 2, 0, LIST(t, z, ), LIST());
    pb_kernel(b, SCALE, k, 2, 1, LIST(t, w, ), LIST());
    pb_step(b, RT_END);
    return b;
}

/* Runs the suite; the exit status of the program. */
static int run_suite(const char *name, void (*add)(TCase *)) {
    Suite *suite = suite_create(name);
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    add(c);
    suite_add_tcase(suite, c);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
#endif
