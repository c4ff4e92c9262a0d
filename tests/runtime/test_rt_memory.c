/* test_rt_memory.c: where the runtime puts buffers, and whose memory it takes. */
#include "rt_fixture.h"

START_TEST(test_unaligned_output) {
    M m;
    accelc_value out;
    model_init(&m, plan_pipe(N, 0, 10));
    ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_OK);
    char *odd = (char *)Z + 2;
    ck_assert_int_eq(pipe_run(&m, N, (float *)(void *)odd, N * 4, &out), ACCELC_OK);
    ck_assert_ptr_eq(out.data, odd);
    static float z[N];
    memcpy(z, odd, sizeof z);
    pipe_check(X, Y, z, N);
    model_close(&m);
}
END_TEST

/* A carried value whose shape changes each trip: c = [x0]; 5 times: w = flip(c) one longer than c;
 * c = w. Sizes are set in several places, so c lives alone and keeps its bytes when it grows. */
START_TEST(test_growing_carried) {
    Pb *b = pb_new();
    int32_t len = pb_sym(b), i = pb_sym(b), four = pb_const(b, 4), one = pb_const(b, 1),
            zero = pb_const(b, 0);
    int32_t trips = pb_const(b, 500);
    int32_t x = pb_in(b, "x", F32, 1, DIMS(one), four);
    pb_entry(b);
    int32_t cb = pb_dim(b), more = pb_dim(b);
    uint32_t d0 = b->p.dimop.n;
    pb_op_to(b, cb, RT_DIM_MUL, len, four, -1);
    pb_op_to(b, more, RT_DIM_LT, i, trips, -1);
    uint32_t d1 = b->p.dimop.n;
    int32_t off = pb_op(b, RT_DIM_SUB, cb, four); /* last element */
    uint32_t d2 = b->p.dimop.n;
    int32_t c = pb_arena(b, F32, cb, 0, 12), last = pb_view(b, c, 0, off, four);
    int32_t y = pb_out(b, "y", F32, 1, DIMS(len), cb);
    pb_ctl(b, RT_SET, i, zero, 0);
    pb_ctl(b, RT_SET, len, one, 0);
    pb_ctl(b, RT_DIMS, (int32_t)d0, (int32_t)d1, 0);
    pb_ctl(b, RT_COPYBUF, c, x, 0);
    pb_ctl(b, RT_DIMS, (int32_t)d0, (int32_t)d1, 0); /* 4: loop head */
    pb_ctl(b, RT_BRANCH, 11, more, 0);
    pb_ctl(b, RT_SET, len, len, 1);
    pb_ctl(b, RT_SET, i, i, 1);
    pb_ctl(b, RT_DIMS, (int32_t)d0, (int32_t)d2, 0); /* c grows, keeps its values */
    pb_kernel(b, FILL, one, 1, 1, LIST(last, ), LIST(i, ));
    pb_ctl(b, RT_JUMP, 4, 0, 0);
    pb_ctl(b, RT_COPYBUF, y, c, 0); /* 11 */
    pb_step(b, RT_END);
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, (accelc_config){.threads = 2, .mem_limit = 100000}), ACCELC_OK);
    for (int r = 0; r < 3; r++) {
        int64_t n = 1;
        X[0] = 0;
        accelc_value in = tensor(F32, 1, &n, X, 4), out = {0};
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_OK);
        ck_assert_int_eq(out.dims[0], 501);
        for (int k = 0; k < 501; k++) ck_assert_float_eq(((float *)out.data)[k], (float)k);
    }
    accelc_rt1_destroy(m.s);
    ck_assert_int_eq(model_open(&m, (accelc_config){.threads = 2, .mem_limit = 3000}), ACCELC_OK);
    for (int r = 0; r < 2; r++) {
        int64_t n = 1;
        accelc_value in = tensor(F32, 1, &n, X, 4), out = {0};
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_ENOMEM);
        ck_assert_ptr_nonnull(strstr(accelc_rt1_error(m.s), "over the limit of 3000"));
        ck_assert_ptr_null(out.data);
    }
    model_close(&m);
}
END_TEST

START_TEST(test_placement) { /* random lifetimes and sizes never overlap, and memory is reused */
    Pb *b = pb_new();
    enum { K = 60 };
    int32_t n = pb_sym(b), buf[K];
    pb_in(b, "x", F32, 1, DIMS(n), n);
    unsigned seed = 1;
    int64_t sum = 0;
    for (int i = 0; i < K; i++) {
        seed = seed * 1103515245u + 12345u;
        int32_t k = pb_const(b, seed >> 16 & 1023), size = pb_op(b, RT_DIM_MUL, n, k);
        seed = seed * 1103515245u + 12345u;
        int32_t first = (int32_t)(seed >> 16 & 63);
        buf[i] = pb_arena(b, U8, size, first, first + (int32_t)(seed >> 24 & 15));
        b->buf[buf[i]].slack = i % 3 * 16;
    }
    pb_entry(b);
    for (int i = 0; i < 80; i++) pb_kernel(b, SLOW, n, 1 << 30, 0, LIST(buf[i % K], ), LIST());
    b->p.step.n = 0; /* lifetimes only; nothing runs */
    pb_step(b, RT_END);
    b->p.arena = 100;
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_OK);
    for (int64_t size = 1; size < 5; size++) {
        int64_t dims = size == 3 ? 1 : size;
        accelc_value in = tensor(F32, 1, &dims, X, 100);
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, NULL), ACCELC_OK);
        const Sess *s = m.s;
        for (int i = 0; i < K; i++) {
            ck_assert_int_ge(s->at[buf[i]], 128);
            ck_assert_int_eq(s->at[buf[i]] % 64, 0);
            ck_assert_int_ge(s->room[buf[i]],
                             buf_bytes(s, buf[i]) +
                                 (buf_bytes(s, buf[i]) ? s->buf[buf[i]].slack : 0));
            ck_assert_ptr_eq(s->ptr[buf[i]], s->block[0].p + s->at[buf[i]]);
            for (int j = 0; j < i; j++) {
                const rt_buf *p = &s->buf[buf[i]], *q = &s->buf[buf[j]];
                int64_t a = s->at[buf[i]], c = s->at[buf[j]];
                if (p->first <= q->last && q->first <= p->last)
                    ck_assert(a + s->room[buf[i]] <= c || c + s->room[buf[j]] <= a ||
                              !s->room[buf[i]] || !s->room[buf[j]]);
            }
        }
        sum = 0;
        for (int i = 0; i < K; i++) sum += s->room[buf[i]];
        ck_assert_int_lt((int64_t)s->block[0].cap, sum / 2);
    }
    int64_t sym = 4;
    uint64_t arena = 0, scratch = 7;
    ck_assert_int_eq(accelc_rt1_sizes(&m.bundle, &sym, &arena, &scratch, NULL), ACCELC_OK);
    ck_assert(arena > 128 && arena <= m.s->block[0].cap && scratch == 0);
    ck_assert_int_eq(accelc_rt1_sizes(&m.bundle, NULL, &arena, &scratch, NULL), ACCELC_EINVAL);
    model_close(&m);
}
END_TEST

START_TEST(test_sizes_and_arena) {
    M m;
    model_init(&m, plan_pipe(0, 1, 10));
    int64_t sym = N, d = 0;
    int64_t *dims[1] = {&d};
    uint64_t arena, scratch;
    ck_assert_int_eq(accelc_rt1_sizes(&m.bundle, &sym, &arena, &scratch, dims), ACCELC_OK);
    ck_assert_int_eq(d, N);
    ck_assert_uint_eq(arena, 4032 * 3); /* t and u overlap in phase one, z lives throughout */
    sym = -1;
    ck_assert_int_eq(accelc_rt1_sizes(&m.bundle, &sym, &arena, &scratch, dims), ACCELC_ESHAPE);
    static _Alignas(64) char mem[4032 * 3];
    accelc_value out;
    ck_assert_int_eq(
        model_open(&m, (accelc_config){.threads = 2, .arena = mem, .arena_bytes = sizeof mem}),
        ACCELC_OK);
    ck_assert_int_eq(pipe_run(&m, N, NULL, 0, &out), ACCELC_OK);
    ck_assert((char *)out.data >= mem && (char *)out.data < mem + sizeof mem);
    pipe_check(X, Y, out.data, N);
    ck_assert_int_eq(pipe_run(&m, N + 100, NULL, 0, &out), ACCELC_ENOMEM);
    ck_assert_str_eq(accelc_rt1_error(m.s),
                     "the arena given to create has 12096 usable bytes, 13248 are needed");
    ck_assert_int_eq(pipe_run(&m, N, NULL, 0, &out), ACCELC_OK);
    pipe_check(X, Y, out.data, N);
    model_close(&m);
    model_init(&m, plan_compact(-1));
    int64_t shape[2][1];
    int64_t *both[2] = {shape[0], shape[1]}, two[2] = {5, 0};
    ck_assert_int_eq(accelc_rt1_sizes(&m.bundle, two, &arena, &scratch, both), ACCELC_OK);
    ck_assert(shape[0][0] == -1 && shape[1][0] == -1); /* known after a run only */
    model_close(&m);
}
END_TEST

static long gets, puts_, limit;
static void *my_alloc(void *ctx, size_t bytes, size_t align) {
    ck_assert_ptr_eq(ctx, &gets);
    if (limit && gets >= limit) return NULL;
    gets++;
    return aligned_alloc(align, (bytes + align - 1) / align * align);
}
static void my_free(void *ctx, void *p) {
    ck_assert_ptr_eq(ctx, &gets);
    puts_ += p != NULL;
    free(p);
}

START_TEST(test_allocator) { /* all memory comes from the config; running out of it anywhere is an
                                error, no more */
    for (limit = 1; limit < 12; limit++) {
        M m;
        model_init(&m, plan_compact(-1));
        gets = puts_ = 0;
        accelc_config c = {.threads = 2, .alloc = my_alloc, .free = my_free, .mem_ctx = &gets};
        accelc_status st = model_open(&m, c);
        ck_assert(st == ACCELC_OK || st == ACCELC_ENOMEM);
        for (int64_t n = 3; st == ACCELC_OK && n < 300; n *= 3) {
            accelc_value in = tensor(F32, 1, &n, X, (size_t)n * 4), out[2] = {{0}, {0}};
            accelc_status r = accelc_rt1_run(m.s, &in, out);
            ck_assert(r == ACCELC_OK || (r == ACCELC_ENOMEM && accelc_rt1_error(m.s)[0]));
        }
        model_close(&m);
        ck_assert_int_eq(gets, puts_);
    }
    limit = 0;
    accelc_config bad = {.alloc = my_alloc};
    M m;
    model_init(&m, plan_pipe(N, 0, 1));
    ck_assert_int_eq(model_open(&m, bad), ACCELC_EINVAL);
    ck_assert_str_eq(m.msg, "the config has only one of alloc and free");
    model_close(&m);
}
END_TEST

START_TEST(test_too_large_once) { /* values that did not fit leave nothing behind */
    M m;
    Pb *b = plan_compact(-1);
    for (int i = 0; i < N; i++) X[i] = (float)(i + 1);
    pb_arena(b, F32, b->buf[3].bytes_dim, 3, 4); /* beside t, so that one of them is not first */
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, (accelc_config){.threads = 1, .mem_limit = 1000}), ACCELC_OK);
    for (int round = 0; round < 2; round++)
        for (int64_t n = N; n > 0; n = n == N ? 3 : 0) {
            accelc_value in = tensor(F32, 1, &n, X, (size_t)n * 4), out[2] = {{0}, {0}};
            ck_assert_int_eq(accelc_rt1_run(m.s, &in, out), n == N ? ACCELC_ENOMEM : ACCELC_OK);
        }
    model_close(&m);
}
END_TEST

START_TEST(test_no_malloc_in_run) {
    M m;
    accelc_value out;
    model_init(&m, plan_pipe(N, _i & 1, 10));
    int64_t most = N;
    ck_assert_int_eq(model_open(&m, (accelc_config){.threads = 1 + _i / 2, .sym_max = &most}),
                     ACCELC_OK);
    long before = mallocs;
    for (int r = 0; r < 10; r++)
        if (pipe_run(&m, N, r & 1 ? Z : NULL, sizeof Z, &out) != ACCELC_OK) abort();
    ck_assert_int_eq(mallocs, before);
    model_close(&m);
}
END_TEST

START_TEST(test_scratch) {
    Pb *b = pb_new();
    int32_t n = pb_sym(b), k = pb_sym(b), four = pb_const(b, 4),
            bytes = pb_op(b, RT_DIM_MUL, n, four);
    int32_t kb = pb_op(b, RT_DIM_MUL, k, four);
    pb_in(b, "x", F32, 2, DIMS(n, k), bytes);
    int32_t y = pb_out(b, "y", F32, 1, DIMS(n), bytes);
    pb_entry(b);
    pb_kernel(b, SCRATCH, n, 1, 1, LIST(y, ), LIST(k, ))->scratch = kb;
    pb_step(b, RT_END);
    b->p.scratch = -1;
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, THREADS(1 + _i)), ACCELC_OK);
    for (int64_t r = 1; r < 100; r += 13) {
        int64_t dims[] = {37, r};
        accelc_value in = tensor(F32, 2, dims, X, sizeof X), out = {0};
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_OK);
        for (int64_t i = 0; i < 37; i++)
            ck_assert_float_eq(((float *)out.data)[i], (float)(i * r + r * (r - 1) / 2));
    }
    model_close(&m);
}
END_TEST

START_TEST(test_slack) { /* kernels may read behind inputs and outputs: then those at the end of a
                            page are staged */
    Pb *b = plan_pipe(N, 0, 10);
    for (uint32_t i = 0; i < 3; i++) b->buf[i].slack = 64;
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_OK);
    char *page = mmap(NULL, 4096 * 6, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096), munmap(page + 4096 * 3, 4096), munmap(page + 4096 * 5, 4096);
    float *x = (float *)(void *)(page + 4096) - N, *y = (float *)(void *)(page + 4096 * 3) - N;
    float *z = (float *)(void *)(page + 4096 * 5) - N;
    int64_t n = N;
    pipe_data(x, y, N);
    long before = mallocs;
    accelc_value in[2] = {tensor(F32, 1, &n, x, N * 4), tensor(F32, 1, &n, y, N * 4)},
                 out = {.data = z, .bytes = N * 4};
    accelc_status st = accelc_rt1_run(m.s, in, &out);
    long after = mallocs;
    ck_assert_int_eq(st, ACCELC_OK);
    ck_assert_ptr_ne(m.s->ptr[m.s->in_root[0]], x);
    ck_assert_ptr_ne(m.s->ptr[m.s->out_root[0]], z);
    if (COUNTED) ck_assert_int_eq(before, after);
    pipe_check(x, y, z, N);
    in[0].data = X;
    memcpy(X, x, N * 4);
    ck_assert_int_eq(accelc_rt1_run(m.s, in, &out), ACCELC_OK);
    ck_assert_ptr_eq(m.s->ptr[m.s->in_root[0]], X);
    model_close(&m);
}
END_TEST

/* y = x + w, w at byte `offset` of the weights, which are `total` bytes. */
static void model_add_weight(M *m, int64_t offset, uint64_t total) {
    static const accelc_port port = {.name = "x", .rank = 1, .state = -1};
    Pb *b = pb_new();
    int32_t four = pb_const(b, 4), bytes = pb_const(b, 16);
    int32_t x = pb_in(b, "x", F32, 1, DIMS(four), bytes), w = pb_buf(b, RT_BUF_WEIGHT, F32, bytes);
    int32_t y = pb_out(b, "y", F32, 1, DIMS(four), bytes);
    b->buf[w].offset = offset;
    pb_entry(b);
    pb_kernel(b, ADD, four, 1, 1, LIST(x, w, y, ), LIST());
    pb_step(b, RT_END);
    b->p.flags = RT_STATIC;
    model_init(m, b);
    m->desc = (accelc_desc){
        .size = sizeof m->desc, .nin = 1, .nout = 1, .in = &port, .weight_bytes = total};
    m->api.desc = &m->desc;
    m->bundle.api = &m->api;
}

static void check_add_weight(M *m, const float *w) {
    int64_t n = 4;
    accelc_value in = tensor(F32, 1, &n, X, 16), out = {0};
    for (int i = 0; i < 4; i++) X[i] = 10;
    ck_assert_int_eq(accelc_rt1_run(m->s, &in, &out), ACCELC_OK);
    for (int i = 0; i < 4; i++) ck_assert_float_eq(((float *)out.data)[i], 10 + w[i]);
}

/* Large weights leave the file that they are mapped from for huge pages where these are offered,
 * unless the session is to map them; small ones stay. Nobody sees the difference. */
START_TEST(test_weights_move) {
    enum { LARGE = 9 << 20, SMALL = 3 << 20 };
    M m;
    char path[] = "/tmp/accelc-weights-XXXXXX";
    int fd = mkstemp(path), bytes = _i == 2 ? SMALL : LARGE;
    static float data[LARGE / 4];
    for (int i = 0; i < LARGE / 4; i++) data[i] = (float)i;
    ck_assert_int_eq(write(fd, data, LARGE), LARGE);
    char *weights = mmap(NULL, LARGE, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    for (int session = 0; session < 2; session++) {
        int at = LARGE / 8 & ~63;
        model_add_weight(&m, at, (uint64_t)bytes);
        m.model.weights = weights;
        ck_assert_int_eq(model_open(&m, (accelc_config){.threads = 1, .map_weights = _i == 1}),
                         ACCELC_OK);
        check_add_weight(&m, data + at / 4);
        ck_assert_int_eq(memcmp(weights, data, LARGE), 0);
        ck_assert_int_eq(lies_in_file(weights + SMALL), _i > 0 || !huge_pages_offered());
        ck_assert(lies_in_file(weights) || !((uintptr_t)weights % HUGE_PAGE));
        model_close(&m);
    }
    munmap(weights, LARGE);
    unlink(path);
}
END_TEST

/* Weights kept outside the model: given, mapped from a file, missing, too short, misaligned. */
START_TEST(test_weights_outside) {
    M m;
    model_add_weight(&m, 64, 80);
    static _Alignas(64) float weights[32];
    for (int i = 0; i < 4; i++) weights[16 + i] = (float)(i + 1);
    char path[] = "/tmp/accelc-weights-XXXXXX", small[] = "/tmp/accelc-weights-XXXXXX";
    int fd = mkstemp(path), fd2 = mkstemp(small);
    ck_assert_int_eq(write(fd, weights, 80), 80);
    ck_assert_int_eq(write(fd2, weights, 79), 79);
    close(fd);
    close(fd2);
    accelc_config good[] = {{.weights = weights, .weights_bytes = 80}, {.weights_path = path}};
    for (int k = 0; k < 2; k++) {
        ck_assert_int_eq(model_open(&m, good[k]), ACCELC_OK);
        check_add_weight(&m, weights + 16);
        accelc_rt1_destroy(m.s);
    }
    accelc_config bad[] = {{.weights = NULL},
                           {.weights = weights, .weights_bytes = 79},
                           {.weights = weights + 1, .weights_bytes = 80},
                           {.weights_path = small},
                           {.weights_path = "/tmp/accelc-no-such-file"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        ck_assert_int_eq(model_open(&m, bad[k]), ACCELC_EINVAL);
        ck_assert(m.msg[0] && !m.s);
    }
    unlink(path);
    unlink(small);
    model_close(&m);
}
END_TEST

/* The caller's arena holds scratch as well if it is large enough: then only the session itself is
 * allocated. */
START_TEST(test_arena_with_scratch) {
    static _Alignas(64) char mem[4096];
    for (int roomy = 0; roomy < 2; roomy++) {
        Pb *b = pb_new();
        int32_t n = pb_const(b, 16), k = pb_const(b, 30), bytes = pb_const(b, 64);
        int32_t kb = pb_const(b, 120), y = pb_out(b, "y", F32, 1, DIMS(n), bytes);
        pb_entry(b);
        pb_kernel(b, SCRATCH, n, 1, 1, LIST(y, ), LIST(k, ))->scratch = kb;
        pb_step(b, RT_END);
        b->p.flags = RT_STATIC;
        b->p.scratch = 120;
        M m;
        model_init(&m, b);
        uint64_t arena, each;
        ck_assert_int_eq(accelc_rt1_sizes(&m.bundle, NULL, &arena, &each, NULL), ACCELC_OK);
        ck_assert(arena == 64 && each == 128);
        size_t given = roomy ? arena + 3 * each : arena;
        memset(mem, 0x55, sizeof mem);
        ck_assert_int_eq(
            model_open(&m, (accelc_config){.threads = 3, .arena = mem, .arena_bytes = given}),
            ACCELC_OK);
        for (int r = 0; r < 20; r++) {
            accelc_value out = {0};
            ck_assert_int_eq(accelc_rt1_run(m.s, NULL, &out), ACCELC_OK);
            ck_assert_ptr_eq(out.data, mem);
            for (int i = 0; i < 16; i++)
                ck_assert_float_eq(((float *)out.data)[i], (float)(i * 30 + 435));
        }
        ck_assert_int_eq(m.s->scratch.lent, roomy);
        for (size_t i = given; i < sizeof mem; i++)
            ck_assert_int_eq(mem[i], 0x55); /* not a byte behind it */
        model_close(&m);
    }
}
END_TEST

static void add(TCase *c) {
    tcase_add_test(c, test_weights_outside);
    tcase_add_loop_test(c, test_weights_move, 0, 3);
    tcase_add_test(c, test_arena_with_scratch);
    tcase_add_test(c, test_unaligned_output);
    tcase_add_test(c, test_growing_carried);
    tcase_add_test(c, test_placement);
    tcase_add_test(c, test_sizes_and_arena);
    tcase_add_test(c, test_allocator);
    tcase_add_test(c, test_too_large_once);
    if (COUNTED) tcase_add_loop_test(c, test_no_malloc_in_run, 0, 6);
    tcase_add_loop_test(c, test_scratch, 0, 3);
    tcase_add_test(c, test_slack);
}

int main(void) { return run_suite("runtime memory", add); }
