/* test_gpu.c: sessions on a GPU: the plans of rt_fixture.h, their kernels shared out between the host and a look-alike device (emu.h)
 * in every possible way. */
#define RT_OBJECTS
#include "rt_fixture.h"

#include <dirent.h>
#include <dlfcn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "emu.h"

#ifndef FAKECUDA
#error "FAKECUDA and EMU_KERNELS are the files of the look-alike and of its kernels"
#endif

static int32_t h_rows(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    const float *x = b[0], *bias = b[1];
    float *y = b[2];
    (void)scratch;
    for (int64_t i = t0; i < t1; i++) {
        y[i] = bias[i];
        for (int64_t k = 0; k < d[0]; k++) y[i] += x[i * d[0] + k];
    }
    return 0;
}

enum { ROWS = CANCEL, KERNELS };
static const rt_kernel on_cpu[KERNELS] = {k_add, k_scale, k_flip, k_check, k_compact, k_fill, k_scratch, h_rows};
static const rt_gpu_kernel on_gpu[KERNELS] = {
    [ADD] = {"k_add", RT_GPU_THREADS, 32, 0, 0, 0, 0, 0, 1 << 2},       [SCALE] = {"k_scale", RT_GPU_THREADS, 32, 0, 0, 0, 0, 0, 1 << 1},
    [FLIP] = {"k_flip", RT_GPU_THREADS, 8, 0, 0, 0, 0, 0, 1 << 1},      [CHECK] = {"k_check", RT_GPU_THREADS, 8, 0, 1, 0, 0, 0, 0},
    [COMPACT] = {"k_compact", RT_GPU_THREADS, 4, 0, 0, 0, 0, 0, 3 << 1}, [FILL] = {"k_fill", RT_GPU_THREADS, 64, 0, 0, 0, 0, 0, 1},
    [SCRATCH] = {"k_scratch", RT_GPU_THREADS, 4, 0, 0, 0, 0, 0, 1},     [ROWS] = {"k_rows", RT_GPU_BLOCK, 4, 49 << 10, 0, 1, 0, 0, 1 << 2},
};
static const char ptx[] = "a text of PTX", too_new[] = "broken", cubin[] = "a cubin";
static const rt_gpu_image images[] = {{RT_GPU_ONLY | 100, RT_GPU_CUBIN, cubin, sizeof cubin},
                                      {90, RT_GPU_PTX, too_new, sizeof too_new},
                                      {80, RT_GPU_PTX, ptx, sizeof ptx}};

typedef struct { /* a bundle of a level for the GPU and, if it has two, one for the CPU */
    M m;
    rt_model model;
    rt_gpu gpu;
    rt_gpu_kernel row[KERNELS];
    rt_kernel host[KERNELS];
    const rt_model *list[2];
    _Alignas(16) char shared[RT_GPU_SHARED];
    fakecuda_look_fn *look;
    fakecuda_depth_fn *depth;
} G;

enum { ALL = (1 << KERNELS) - 1 };

static void *symbol(const char *name) {
    void *lib = dlopen(FAKECUDA, RTLD_NOW | RTLD_LOCAL), *f = lib ? dlsym(lib, name) : NULL;
    ck_assert_msg(f != NULL, "%s", dlerror());
    return f;
}

/* device: a bit for each kernel that runs there */
static void gpu_init(G *g, Pb *b, unsigned device) {
    setenv("ACCELC_LIBCUDA", FAKECUDA, 1);
    setenv("ACCELC_EMU_KERNELS", EMU_KERNELS, 1);
    memset(g, 0, sizeof *g);
    model_init(&g->m, b);
    g->m.model.kernel = on_cpu;
    g->model = g->m.model;
    for (int k = 0; k < KERNELS; k++) {
        g->row[k] = on_gpu[k];
        if (device >> k & 1) continue;
        g->row[k].name = NULL;
        g->host[k] = on_cpu[k];
    }
    g->gpu = (rt_gpu){3, KERNELS, images, g->row, &accelc_rt1_gpu, g->shared};
    g->model.gpu = &g->gpu;
    g->model.kernel = g->host;
    g->list[0] = &g->model;
    g->list[1] = &g->m.model;
    g->m.bundle.model = g->list;
    *(void **)&g->look = symbol("fakecuda_look");
    *(void **)&g->depth = symbol("fakecuda_depth");
}

static void gpu_done(G *g) {
    model_close(&g->m);
    ck_assert_int_eq(g->look()->live, 0);
    ck_assert_int_eq(g->depth(), 0);
}

#define GPU(n) ((accelc_config){.threads = (n), .device = 1})

/* ---- results ---- */

START_TEST(test_pipe) { /* every way to share three kernels out, fixed and symbolic sizes, buffers of the caller and of the session */
    for (unsigned mask = 0; mask < 8; mask++)
        for (int sym = 0; sym < 2; sym++)
            for (int threads = 1; threads < 4; threads += 2) {
                G g;
                accelc_value out;
                gpu_init(&g, plan_pipe(N, sym, 10), mask);
                ck_assert_msg(model_open(&g.m, GPU(threads)) == ACCELC_OK, "%s", g.m.msg);
                for (int64_t n = sym ? 1 : N; n <= N; n += 333) {
                    memset(Z, 0, sizeof Z);
                    ck_assert_int_eq(pipe_run(&g.m, n, Z, sizeof Z, &out), ACCELC_OK);
                    pipe_check(X, Y, Z, n);
                    ck_assert_int_eq(pipe_run(&g.m, n, NULL, 0, &out), ACCELC_OK);
                    ck_assert(out.owned && out.device == 0);
                    pipe_check(X, Y, out.data, n);
                    ck_assert_int_eq(g.depth(), 0);
                }
                gpu_done(&g);
            }
}
END_TEST

START_TEST(test_copies) { /* what stays on the device is not copied */
    G g;
    accelc_value out;
    gpu_init(&g, plan_pipe(N, 1, 10), ALL);
    ck_assert_int_eq(model_open(&g.m, GPU(1)), ACCELC_OK);
    for (int r = 0; r < 3; r++) {
        fakecuda_counts c = *g.look();
        ck_assert_int_eq(pipe_run(&g.m, N, Z, sizeof Z, &out), ACCELC_OK);
        pipe_check(X, Y, Z, N);
        ck_assert_int_eq(g.look()->launches - c.launches, 3);
        ck_assert_int_eq(g.look()->uploads - c.uploads, 2); /* x and y */
        ck_assert_int_eq(g.look()->downloads - c.downloads, 1);
        ck_assert_int_eq(g.look()->moves - c.moves, 0);
        ck_assert_int_eq(g.look()->waits - c.waits, 1);
        ck_assert_int_eq(g.look()->graphs - c.graphs, r > 0);
    }
    gpu_done(&g);
}
END_TEST

/* y[i] = bias[i] + the sum of row i of x[n, 16], bias a weight; z = y at once, so that x may come from the host or the device */
static Pb *plan_rows(void) {
    Pb *b = pb_new();
    int32_t n = pb_sym(b), sixteen = pb_const(b, 16), four = pb_const(b, 4), elements = pb_op(b, RT_DIM_MUL, n, sixteen);
    int32_t bytes = pb_op(b, RT_DIM_MUL, elements, four), rows = pb_op(b, RT_DIM_MUL, n, four), zero = pb_const(b, 0), stride = pb_const(b, 64);
    int32_t x = pb_in(b, "x", F32, 2, DIMS(n, sixteen), bytes), w = pb_buf(b, RT_BUF_WEIGHT, F32, rows);
    int32_t y = pb_out(b, "y", F32, 1, DIMS(n), rows), z = pb_out(b, "z", F32, 1, DIMS(n), rows);
    b->buf[w].offset = 64;
    pb_entry(b);
    rt_step *s = pb_kernel(b, ROWS, n, 1, 1, LIST(x, w, y, ), LIST(sixteen, ));
    pb_map(b, s, 0, zero, n, sixteen, stride); /* whether it is used depends on the device */
    pb_kernel(b, SCALE, n, 1, 1, LIST(y, z, ), LIST());
    pb_step(b, RT_END);
    return b;
}

static _Alignas(64) float weights[16 + 8]; /* 8 at offset 64 */

static void rows_init(G *g, unsigned mask) {
    gpu_init(g, plan_rows(), mask);
    for (int i = 0; i < 8; i++) weights[16 + i] = (float)i * 100;
    g->m.desc = (accelc_desc){.size = sizeof(accelc_desc), .nin = 1, .nout = 2, .weight_bytes = sizeof weights};
    static const accelc_port port[2] = {{.state = -1}, {.state = -1}};
    g->m.desc.in = g->m.desc.out = port;
    g->m.api.desc = &g->m.desc;
    g->m.bundle.api = &g->m.api;
    g->model.weights = g->m.model.weights = weights;
    for (int i = 0; i < 8 * 16; i++) X[i] = (float)(i % 7);
}

static void rows_check(const float *y, const float *z, int n) {
    for (int i = 0; i < n; i++) {
        float sum = (float)i * 100;
        for (int k = 0; k < 16; k++) sum += X[i * 16 + k];
        ck_assert_float_eq(y[i], sum);
        ck_assert_float_eq(z[i], sum * 1.25f + 0.5f);
    }
}

START_TEST(test_rows) {
    for (unsigned mask = 0; mask < 4; mask++) {
        G g;
        rows_init(&g, (mask & 1) << ROWS | (mask >> 1) << SCALE);
        ck_assert_msg(model_open(&g.m, GPU(2)) == ACCELC_OK, "%s", g.m.msg);
        for (int64_t n = 0; n <= 8; n += 4) {
            int64_t dims[] = {n, 16};
            accelc_value in = tensor(F32, 2, dims, X, (size_t)n * 64), out[2] = {{0}, {.data = Z, .bytes = sizeof Z}};
            ck_assert_int_eq(accelc_rt1_run(g.m.s, &in, out), ACCELC_OK);
            rows_check(out[0].data, Z, (int)n);
        }
        gpu_done(&g);
    }
}
END_TEST

/* ---- pointers to the device ---- */

/* The driver as the caller of a model uses it: memory that one session lends to another. */
typedef struct {
    int (*retain)(void **, int), (*release)(int), (*push)(void *), (*pop)(void **), (*alloc)(uint64_t *, size_t), (*free)(uint64_t);
    int (*up)(uint64_t, const void *, size_t, void *), (*down)(void *, uint64_t, size_t, void *), (*stream)(void **, unsigned);
    int (*end)(void *), (*wait)(void *);
    void *context, *queue;
} Caller;

static void caller_open(Caller *c) {
    setenv("ACCELC_EMU_KERNELS", EMU_KERNELS, 1);
    *(void **)&c->retain = symbol("cuDevicePrimaryCtxRetain");
    *(void **)&c->release = symbol("cuDevicePrimaryCtxRelease_v2");
    *(void **)&c->push = symbol("cuCtxPushCurrent_v2");
    *(void **)&c->pop = symbol("cuCtxPopCurrent_v2");
    *(void **)&c->alloc = symbol("cuMemAlloc_v2");
    *(void **)&c->free = symbol("cuMemFree_v2");
    *(void **)&c->up = symbol("cuMemcpyHtoDAsync_v2");
    *(void **)&c->down = symbol("cuMemcpyDtoHAsync_v2");
    *(void **)&c->stream = symbol("cuStreamCreate");
    *(void **)&c->end = symbol("cuStreamDestroy_v2");
    *(void **)&c->wait = symbol("cuStreamSynchronize");
    int (*init)(unsigned);
    *(void **)&init = symbol("cuInit");
    ck_assert_int_eq(init(0), 0);
    ck_assert_int_eq(c->retain(&c->context, 0), 0);
    ck_assert_int_eq(c->push(c->context), 0);
    ck_assert_int_eq(c->stream(&c->queue, 1), 0);
}

/* Host memory to the device, or back. */
static void caller_up(Caller *c, uint64_t to, const void *from, size_t n) {
    ck_assert_int_eq(c->up(to, from, n, c->queue), 0);
    ck_assert_int_eq(c->wait(c->queue), 0);
}

static void caller_down(Caller *c, void *to, uint64_t from, size_t n) {
    ck_assert_int_eq(c->down(to, from, n, c->queue), 0);
    ck_assert_int_eq(c->wait(c->queue), 0);
}

static void caller_close(Caller *c) {
    ck_assert_int_eq(c->end(c->queue), 0);
    ck_assert_int_eq(c->pop(&c->context), 0);
    ck_assert_int_eq(c->release(0), 0);
}

START_TEST(test_device_pointers) {
    for (unsigned mask = 0; mask < 8; mask++)
        for (unsigned odd = 0; odd < 2; odd++) { /* 4 bytes off: kernels cannot work there, so it is copied */
            G g;
            Caller c;
            uint64_t x, z;
            int64_t n = N;
            caller_open(&c);
            gpu_init(&g, plan_pipe(N, 1, 10), mask);
            ck_assert_int_eq(c.alloc(&x, N * 4 + 64), 0);
            ck_assert_int_eq(c.alloc(&z, N * 4 + 64), 0);
            pipe_data(X, Y, N);
            if (!odd) caller_up(&c, x, X, N * 4);
            else ck_assert_int_eq(c.up(x + 4, X, N * 4, c.queue), 0); /* on its way in the stream that the session gets */
            accelc_config config = GPU(2);
            config.stream = odd ? c.queue : NULL;
            ck_assert_int_eq(model_open(&g.m, config), ACCELC_OK);
            accelc_value in[2] = {tensor(F32, 1, &n, (void *)(x + odd * 4), N * 4), tensor(F32, 1, &n, Y, N * 4)}, out;
            in[0].device = 1;
            for (int r = 0; r < 2; r++) { /* to the caller's memory */
                fakecuda_counts before = *g.look();
                out = (accelc_value){.data = (void *)(z + odd * 4), .bytes = N * 4, .device = 1};
                ck_assert_msg(accelc_rt1_run(g.m.s, in, &out) == ACCELC_OK, "%s", accelc_rt1_error(g.m.s));
                ck_assert(out.device == 1 && !out.owned && out.data == (void *)(z + odd * 4));
                if (mask == 7) {
                    ck_assert_int_eq(g.look()->downloads, before.downloads);
                    ck_assert_int_eq(g.look()->uploads - before.uploads, 1);
                    ck_assert_int_eq(g.look()->moves - before.moves, odd ? 2 : 0);
                }
                caller_down(&c, Z, z + odd * 4, N * 4);
                pipe_check(X, Y, Z, N);
            }
            out = (accelc_value){.device = 1}; /* lent */
            ck_assert_int_eq(accelc_rt1_run(g.m.s, in, &out), ACCELC_OK);
            ck_assert(out.device == 1 && out.owned && out.bytes == N * 4);
            memset(Z, 0, sizeof Z);
            caller_down(&c, Z, (uint64_t)(uintptr_t)out.data, N * 4);
            pipe_check(X, Y, Z, N);
            memset(Z, 0, sizeof Z);
            accelc_value again = {.data = Z, .bytes = sizeof Z}; /* fetched to the other side */
            ck_assert_int_eq(accelc_rt1_fetch(g.m.s, 0, &again), ACCELC_OK);
            pipe_check(X, Y, Z, N);
            out = (accelc_value){.data = (void *)z, .bytes = 8, .device = 1}; /* too small */
            ck_assert_int_eq(accelc_rt1_run(g.m.s, in, &out), ACCELC_ESPACE);
            ck_assert_int_eq(out.dims[0], N);
            again = (accelc_value){.data = (void *)z, .bytes = N * 4, .device = 1};
            ck_assert_int_eq(accelc_rt1_fetch(g.m.s, 0, &again), ACCELC_OK);
            memset(Z, 0, sizeof Z);
            caller_down(&c, Z, z, N * 4);
            pipe_check(X, Y, Z, N);
            in[0].device = 2;
            ck_assert_int_eq(accelc_rt1_run(g.m.s, in, &out), ACCELC_EDEVICE);
            ck_assert_str_eq(accelc_rt1_error(g.m.s), "input \"x\" is on device 2, the model runs on device 1");
            model_close(&g.m);
            ck_assert_int_eq(c.free(x), 0);
            ck_assert_int_eq(c.free(z), 0);
            caller_close(&c);
            ck_assert_int_eq(g.look()->live, 0);
        }
}
END_TEST

/* A run that is as an earlier one is played again: one launch of a graph. Sizes come back after others, memory of the caller's comes and
 * goes, data may change, guards fail; without graphs the same happens without them. */
START_TEST(test_graphs) {
    static const char *const without[] = {
        NULL, NULL, "cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuGraphDestroy"};
    for (size_t way = 0; way < sizeof without / sizeof *without; way++) {
        int graphs = way == 0;
        G g;
        Caller c;
        uint64_t z;
        accelc_value out;
        static const int64_t len[] = {N, N, 10, N, 10, 10, 500, N, 500, 500, 20, 30, 40, N, N};
        static const bool again[] = {0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1}; /* the four that were of use last are remembered */
        if (way == 1) setenv("ACCELC_EMU_GRAPHS", "0", 1);
        else unsetenv("ACCELC_EMU_GRAPHS");
        if (without[way]) setenv("ACCELC_EMU_WITHOUT", without[way], 1);
        caller_open(&c);
        gpu_init(&g, plan_pipe(N, 1, 10), ALL);
        ck_assert_int_eq(c.alloc(&z, N * 4), 0);
        ck_assert_int_eq(model_open(&g.m, GPU(1)), ACCELC_OK);
        for (size_t r = 0; r < sizeof len / sizeof *len; r++) {
            fakecuda_counts before = *g.look();
            memset(Z, 0, sizeof Z);
            ck_assert_int_eq(pipe_run(&g.m, len[r], r % 2 ? Z : NULL, r % 2 ? sizeof Z : 0, &out), ACCELC_OK);
            pipe_check(X, Y, out.data, len[r]);
            ck_assert_msg(g.look()->graphs - before.graphs == (graphs && again[r]), "run %zu: %ld graphs", r, g.look()->graphs - before.graphs);
            ck_assert_int_eq(g.look()->launches - before.launches, 3);
        }
        for (int r = 0; r < 6; r++) { /* results in memory of the caller's, or lent */
            int64_t n = N;
            fakecuda_counts before = *g.look();
            accelc_value in[2] = {tensor(F32, 1, &n, X, N * 4), tensor(F32, 1, &n, Y, N * 4)};
            out = (accelc_value){.data = r % 2 ? (void *)z : NULL, .bytes = N * 4, .device = 1};
            ck_assert_int_eq(accelc_rt1_run(g.m.s, in, &out), ACCELC_OK);
            memset(Z, 0, sizeof Z);
            caller_down(&c, Z, (uint64_t)(uintptr_t)out.data, N * 4);
            pipe_check(X, Y, Z, N);
            ck_assert_int_eq(g.look()->graphs - before.graphs, graphs && r != 1);
        }
        model_close(&g.m);
        ck_assert_int_eq(c.free(z), 0);
        caller_close(&c);
        ck_assert_int_eq(g.look()->live, 0);
    }
    unsetenv("ACCELC_EMU_WITHOUT");
}
END_TEST

/* ---- guards, sizes from data, states, scratch, loops ---- */

START_TEST(test_guard) {
    for (unsigned mask = 0; mask < 4; mask++) {
        Pb *b = pb_new();
        int32_t n = pb_sym(b), bytes = pb_op(b, RT_DIM_MUL, n, pb_const(b, 4)), zero = pb_const(b, 0);
        int32_t x = pb_in(b, "x", F32, 1, DIMS(n), bytes), y = pb_out(b, "y", F32, 1, DIMS(n), bytes);
        pb_entry(b);
        pb_guard(b, RT_CMP_TRUE, -1, -1, "node 'a': x must not be negative");
        pb_guard(b, RT_CMP_TRUE, -1, -1, "node 'b': x must not be below -1");
        pb_kernel(b, CHECK, n, 1, 1, LIST(x, ), LIST(zero, ));
        pb_kernel(b, SCALE, n, 1, 1, LIST(x, y, ), LIST());
        pb_step(b, RT_END);
        G g;
        gpu_init(&g, b, (mask & 1) << CHECK | (mask >> 1) << SCALE);
        ck_assert_int_eq(model_open(&g.m, GPU(2)), ACCELC_OK);
        for (int r = 0; r < 6; r++) {
            int64_t len = N;
            accelc_value in = tensor(F32, 1, &len, X, N * 4), out = {.data = Z, .bytes = N * 4};
            pipe_data(X, Y, N);
            Z[500] = -7;
            X[500] = r % 3 == 1 ? -0.5f : r % 3 == 2 ? -3.f : 1.f;
            fakecuda_counts before = *g.look();
            ck_assert_int_eq(accelc_rt1_run(g.m.s, &in, &out), r % 3 ? ACCELC_EDATA : ACCELC_OK);
            ck_assert_float_eq(Z[500], r % 3 ? -7 : 1.75f);
            if (r % 3)
                ck_assert_str_eq(accelc_rt1_error(g.m.s), r % 3 == 1 ? "node 'a': x must not be negative" : "node 'b': x must not be below -1");
            /* the device is not waited for in between, the host only runs when it is known that no guard failed */
            ck_assert_int_eq(g.look()->launches - before.launches, (mask & 1) + (mask == 3 || (mask == 2 && r % 3 == 0)));
            ck_assert_int_eq(g.look()->waits - before.waits, mask && !(mask == 2 && r % 3));
        }
        gpu_done(&g);
    }
}
END_TEST

START_TEST(test_compact) { /* a size that the device computes */
    for (unsigned mask = 0; mask < 8; mask++) {
        G g;
        gpu_init(&g, plan_compact(N), (mask & 1) << COMPACT | (mask >> 1 & 1) << FLIP | (mask >> 2) << SCALE);
        ck_assert_int_eq(model_open(&g.m, GPU(3)), ACCELC_OK);
        for (int r = 0; r < 6; r++) {
            int64_t n = r < 3 ? 10 + r * 400 : 1000 - r * 100, k = 0;
            static float want[N];
            for (int64_t i = 0; i < n; i++) {
                X[i] = (float)((i * 7 + r) % 3);
                if (X[i] != 0) want[k++] = X[i];
            }
            accelc_value in = tensor(F32, 1, &n, X, (size_t)n * 4), out[2] = {{0}, {.data = Z, .bytes = sizeof Z}};
            ck_assert_msg(accelc_rt1_run(g.m.s, &in, out) == ACCELC_OK, "%s", accelc_rt1_error(g.m.s));
            ck_assert_int_eq(out[0].dims[0], k);
            for (int64_t i = 0; i < k; i++) {
                ck_assert_float_eq(((float *)out[0].data)[i], want[k - 1 - i] * 1.25f + 0.5f);
                ck_assert_float_eq(Z[i], want[k - 1 - i] * 1.25f + 0.5f);
            }
        }
        gpu_done(&g);
    }
}
END_TEST

/* sum' = sum + x; the state stays on the device */
START_TEST(test_state) {
    for (unsigned mask = 0; mask < 2; mask++) {
        Pb *b = pb_new();
        int32_t n = pb_const(b, 100), bytes = pb_const(b, 400);
        int32_t x = pb_in(b, "x", F32, 1, DIMS(n), bytes), s = pb_in(b, "s", F32, 1, DIMS(n), bytes), y = pb_out(b, "y", F32, 1, DIMS(n), bytes);
        pb_entry(b);
        pb_kernel(b, ADD, n, 1, 1, LIST(x, s, y, ), LIST());
        pb_step(b, RT_END);
        b->p.flags = RT_STATIC;
        G g;
        gpu_init(&g, b, mask << ADD);
        static const accelc_port in_port[] = {{.state = -1}, {.state = 0}}, out_port[] = {{.state = -1}};
        g.m.desc = (accelc_desc){.size = sizeof(accelc_desc), .nin = 2, .nout = 1, .in = in_port, .out = out_port};
        g.m.api.desc = &g.m.desc;
        g.m.bundle.api = &g.m.api;
        ck_assert_int_eq(model_open(&g.m, GPU(1)), ACCELC_OK);
        for (int i = 0; i < 100; i++) X[i] = (float)i;
        for (int r = 1; r < 12; r++) {
            int64_t len = 100;
            accelc_value in[2] = {tensor(F32, 1, &len, X, 400), {0}}, out = {.device = r % 4 == 1 ? 1 : 0};
            if (r == 6) ck_assert_int_eq(accelc_rt1_reset(g.m.s), ACCELC_OK);
            fakecuda_counts before = *g.look();
            ck_assert_int_eq(accelc_rt1_run(g.m.s, in, &out), ACCELC_OK);
            if (mask && r != 1 && r != 6) ck_assert_int_eq(g.look()->uploads - before.uploads, 1);
            if (mask && r % 4 == 1) ck_assert_int_eq(g.look()->downloads, before.downloads);
            if (r % 4 == 1) continue;
            for (int i = 0; i < 100; i++) ck_assert_float_eq(((float *)out.data)[i], (float)(i * (r < 6 ? r : r - 5)));
        }
        gpu_done(&g);
    }
}
END_TEST

/* t = 1; u = scale(t); t = 2; z = u + t, ending with a guard: the host changes t while the device may still read it, and a run that
 * fails leaves nothing behind that reads what is the caller's. */
START_TEST(test_waiting) {
    for (unsigned mask = 0; mask < 8; mask++) {
        Pb *b = pb_new();
        int32_t n = pb_sym(b), one = pb_const(b, 1), two = pb_const(b, 2), most = pb_const(b, 500), bytes = pb_op(b, RT_DIM_MUL, n, pb_const(b, 4));
        int32_t x = pb_in(b, "x", F32, 1, DIMS(n), bytes), z = pb_out(b, "z", F32, 1, DIMS(n), bytes);
        int32_t t = pb_arena(b, F32, bytes, 0, 9), u = pb_arena(b, F32, bytes, 0, 9), v = pb_arena(b, F32, bytes, 0, 9);
        pb_entry(b);
        int32_t g0 = pb_guard(b, RT_CMP_LE, n, most, "too long");
        pb_kernel(b, FILL, n, 1, 1, LIST(t, ), LIST(one, ));
        pb_kernel(b, SCALE, n, 1, 1, LIST(t, u, ), LIST());
        pb_kernel(b, FILL, n, 1, 1, LIST(t, ), LIST(two, ));
        pb_kernel(b, ADD, n, 1, 1, LIST(u, t, v, ), LIST());
        pb_kernel(b, ADD, n, 1, 1, LIST(v, x, z, ), LIST());
        pb_ctl(b, RT_GUARDS, g0, g0 + 1, 0);
        pb_step(b, RT_END);
        G g;
        gpu_init(&g, b, (mask & 1) << FILL | (mask >> 1 & 1) << SCALE | mask >> 2 << ADD);
        ck_assert_int_eq(model_open(&g.m, GPU(1)), ACCELC_OK);
        for (int64_t len = 500; len < 502; len++) {
            accelc_value in = tensor(F32, 1, &len, X, (size_t)len * 4), out = {0};
            for (int64_t i = 0; i < len; i++) X[i] = (float)i;
            ck_assert_int_eq(accelc_rt1_run(g.m.s, &in, &out), len == 500 ? ACCELC_OK : ACCELC_ESHAPE);
            ck_assert_int_eq(g.look()->waiting, 0);
            for (int64_t i = 0; i < len && len == 500; i++) ck_assert_float_eq(((float *)out.data)[i], 1.75f + 2 + X[i]);
        }
        gpu_done(&g);
    }
}
END_TEST

START_TEST(test_scratch) {
    Pb *b = pb_new();
    int32_t n = pb_sym(b), m = pb_sym(b), four = pb_const(b, 4), rows = pb_op(b, RT_DIM_MUL, n, four), mine = pb_op(b, RT_DIM_MUL, m, four);
    pb_in(b, "x", F32, 2, DIMS(n, m), pb_op(b, RT_DIM_MUL, rows, m));
    int32_t y = pb_out(b, "y", F32, 1, DIMS(n), rows), large = pb_op(b, RT_DIM_MUL, mine, pb_const(b, 100)), unused = pb_arena(b, F32, rows, 0, 9);
    pb_entry(b);
    pb_kernel(b, SCRATCH, n, 1, 1, LIST(y, ), LIST(m, ))->scratch = mine;
    pb_kernel(b, SCRATCH, n, 1, 1, LIST(unused, ), LIST(m, ))->scratch = large; /* grows while the first may still run */
    pb_step(b, RT_END);
    b->p.scratch = -1;
    G g;
    gpu_init(&g, b, 1 << SCRATCH);
    ck_assert_int_eq(model_open(&g.m, GPU(1)), ACCELC_OK);
    for (int64_t len = 1; len < 60; len += 19) {
        int64_t dims[] = {N, len % 4};
        accelc_value in = tensor(F32, 2, dims, X, sizeof X), out = {0};
        ck_assert_int_eq(accelc_rt1_run(g.m.s, &in, &out), ACCELC_OK);
        for (int64_t i = 0; i < N; i++) ck_assert_float_eq(((float *)out.data)[i], (float)(i * dims[1] + dims[1] * (dims[1] - 1) / 2));
    }
    ck_assert_ptr_null(g.m.s->scratch.p); /* that of the host */
    gpu_done(&g);
}
END_TEST

/* c = [x0]; 50 times: c one longer, its last = i; d = c. As in test_rt_memory.c: c keeps its bytes when it grows. */
START_TEST(test_growing_carried) {
    for (unsigned mask = 0; mask < 2; mask++) {
        Pb *b = pb_new();
        int32_t len = pb_sym(b), i = pb_sym(b), four = pb_const(b, 4), one = pb_const(b, 1), zero = pb_const(b, 0), trips = pb_const(b, 50);
        int32_t x = pb_in(b, "x", F32, 1, DIMS(one), four);
        pb_entry(b);
        int32_t cb = pb_dim(b), more = pb_dim(b);
        int32_t d0 = (int32_t)b->p.dimop.n;
        pb_op_to(b, cb, RT_DIM_MUL, len, four, -1);
        pb_op_to(b, more, RT_DIM_LT, i, trips, -1);
        int32_t d1 = (int32_t)b->p.dimop.n, off = pb_op(b, RT_DIM_SUB, cb, four), d2 = (int32_t)b->p.dimop.n;
        int32_t c = pb_arena(b, F32, cb, 0, 12), last = pb_view(b, c, 0, off, four), y = pb_out(b, "y", F32, 1, DIMS(len), cb);
        pb_ctl(b, RT_SET, i, zero, 0);
        pb_ctl(b, RT_SET, len, one, 0);
        pb_ctl(b, RT_DIMS, d0, d1, 0);
        pb_ctl(b, RT_COPYBUF, c, x, 0);
        pb_ctl(b, RT_DIMS, d0, d1, 0); /* 4: loop head */
        pb_ctl(b, RT_BRANCH, 11, more, 0);
        pb_ctl(b, RT_SET, len, len, 1);
        pb_ctl(b, RT_SET, i, i, 1);
        pb_ctl(b, RT_DIMS, d0, d2, 0);
        pb_kernel(b, FILL, one, 1, 1, LIST(last, ), LIST(i, ));
        pb_ctl(b, RT_JUMP, 4, 0, 0);
        pb_ctl(b, RT_COPYBUF, y, c, 0); /* 11 */
        pb_step(b, RT_END);
        G g;
        gpu_init(&g, b, mask << FILL);
        ck_assert_int_eq(model_open(&g.m, GPU(2)), ACCELC_OK);
        for (int r = 0; r < 3; r++) {
            int64_t n = 1;
            X[0] = 0;
            accelc_value in = tensor(F32, 1, &n, X, 4), out = {0};
            ck_assert_msg(accelc_rt1_run(g.m.s, &in, &out) == ACCELC_OK, "%s", accelc_rt1_error(g.m.s));
            ck_assert_int_eq(out.dims[0], 51);
            for (int k = 0; k < 51; k++) ck_assert_float_eq(((float *)out.data)[k], (float)k);
        }
        gpu_done(&g);
    }
}
END_TEST

/* Memory that is not there any more when it has been freed. */
static void *map_alloc(void *ctx, size_t bytes, size_t align) {
    (void)ctx, (void)align; /* a page is enough */
    char *p = mmap(NULL, bytes + RT_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    *(size_t *)(void *)p = bytes + RT_PAGE;
    return p + RT_PAGE;
}

static void map_free(void *ctx, void *p) {
    char *page = (char *)p - RT_PAGE;
    (void)ctx;
    munmap(page, *(size_t *)(void *)page);
}

/* 4 times: len doubles; t = i; u = scale(t), both placed for len. The block of t and u grows while the device may still have to read the
 * t of the trip before. */
START_TEST(test_growing_group) {
    for (unsigned mask = 0; mask < 4; mask++) {
        Pb *b = pb_new();
        int32_t n = pb_sym(b), len = pb_sym(b), i = pb_sym(b), four = pb_const(b, 4), zero = pb_const(b, 0), two = pb_const(b, 2);
        pb_in(b, "x", F32, 1, DIMS(n), pb_op(b, RT_DIM_MUL, n, four));
        pb_entry(b);
        int32_t d0 = (int32_t)b->p.dimop.n, more = pb_op(b, RT_DIM_LT, i, four), twice = pb_op(b, RT_DIM_MUL, len, two);
        int32_t d1 = (int32_t)b->p.dimop.n, bytes = pb_op(b, RT_DIM_MUL, len, four), d2 = (int32_t)b->p.dimop.n;
        int32_t ybytes = pb_op(b, RT_DIM_MUL, len, four), y = pb_out(b, "y", F32, 1, DIMS(len), ybytes);
        int32_t t = pb_arena(b, F32, bytes, 7, 8), u = pb_arena(b, F32, bytes, 8, 11);
        pb_ctl(b, RT_SET, i, zero, 0);
        pb_ctl(b, RT_SET, len, n, 0);
        pb_ctl(b, RT_DIMS, d0, d1, 0); /* 2: the loop */
        pb_ctl(b, RT_BRANCH, 10, more, 0);
        pb_ctl(b, RT_SET, len, twice, 0);
        pb_ctl(b, RT_SET, i, i, 1);
        pb_ctl(b, RT_DIMS, d1, d2, 0);
        pb_kernel(b, FILL, len, 1, 1, LIST(t, ), LIST(i, ));
        pb_kernel(b, SCALE, len, 1, 1, LIST(t, u, ), LIST());
        pb_ctl(b, RT_JUMP, 2, 0, 0);
        pb_ctl(b, RT_DIMS, d2, d2 + 1, 0); /* 10 */
        pb_ctl(b, RT_COPYBUF, y, u, 0);
        pb_step(b, RT_END);
        G g;
        gpu_init(&g, b, (mask & 1) << FILL | (mask >> 1) << SCALE);
        ck_assert_int_eq(model_open(&g.m, (accelc_config){.threads = 1, .device = 1, .alloc = map_alloc, .free = map_free}), ACCELC_OK);
        for (int64_t len0 = N; len0 <= 4 * N; len0 += 3 * N) {
            accelc_value in = tensor(F32, 1, &len0, X, (size_t)len0 * 4), out = {0};
            ck_assert_msg(accelc_rt1_run(g.m.s, &in, &out) == ACCELC_OK, "%s", accelc_rt1_error(g.m.s));
            ck_assert_int_eq(out.dims[0], 16 * len0);
            for (int64_t e = 0; e < 16 * len0; e++) ck_assert_float_eq(((float *)out.data)[e], 5.5f);
        }
        gpu_done(&g);
    }
}
END_TEST

/* ---- calls, outputs that are inputs ---- */

static bool fn_again(rt_call *c) { /* x, and behind it x once more */
    int64_t n = c->in[0]->dims[0], size = 2 * n;
    rt_value *v = call_tensor(c, F32, 1, &size);
    if (!v) return false;
    for (int64_t i = 0; i < size; i++) ((float *)v->data)[i] = ((const float *)c->in[0]->data)[i % n];
    c->out[0] = v;
    return true;
}

static const rt_call_fn functions[] = {fn_again};
static const rt_calls calls = {&accelc_rt1_objects, functions, 1, 0};

/* t = scale(x); twice: v = t t; z = scale(v); t = scale(z[0..n)). Calls run on the host, and the device must look for what they give
 * anew each time. */
START_TEST(test_call) {
    for (unsigned mask = 0; mask < 2; mask++) {
        Pb *b = pb_new();
        int32_t n = pb_sym(b), k = pb_sym(b), i = pb_sym(b), zero = pb_const(b, 0), two = pb_const(b, 2), four = pb_const(b, 4);
        int32_t bytes = pb_op(b, RT_DIM_MUL, n, four);
        int32_t x = pb_in(b, "x", F32, 1, DIMS(n), bytes), t = pb_arena(b, F32, bytes, 0, 12);
        b->buf[t].rank = 1;
        pb_entry(b);
        int32_t d0 = (int32_t)b->p.dimop.n, more = pb_op(b, RT_DIM_LT, i, two), d1 = (int32_t)b->p.dimop.n;
        int32_t kbytes = pb_op(b, RT_DIM_MUL, k, four), v = pb_buf(b, RT_BUF_VALUE, F32, kbytes), z = pb_out(b, "z", F32, 1, DIMS(k), kbytes);
        int32_t half = pb_view(b, z, 0, -1, bytes);
        b->buf[v].rank = 1;
        pb_kernel(b, SCALE, n, 10, 1, LIST(x, t, ), LIST());
        pb_ctl(b, RT_SET, i, zero, 0);
        rt_step *s = pb_kernel(b, 0, 0, 1, 1, LIST(t, v, ), LIST(n, )); /* 2: the loop */
        s->op = RT_CALL;
        s->a = 1;
        s = pb_ctl(b, RT_SIZE, k, v, 0);
        s->lo = 0, s->hi = -1;
        pb_ctl(b, RT_DIMS, d1, (int32_t)b->p.dimop.n, 0);
        pb_kernel(b, SCALE, k, 10, 1, LIST(v, z, ), LIST());
        pb_kernel(b, SCALE, n, 10, 1, LIST(half, t, ), LIST());
        pb_ctl(b, RT_SET, i, i, 1);
        pb_ctl(b, RT_DIMS, d0, d1, 0);
        pb_ctl(b, RT_BRANCH, 11, more, 0);
        pb_ctl(b, RT_JUMP, 2, 0, 0);
        pb_step(b, RT_END); /* 11 */
        G g;
        gpu_init(&g, b, mask << SCALE);
        g.model.calls = &calls;
        ck_assert_msg(model_open(&g.m, GPU(2)) == ACCELC_OK, "%s", g.m.msg);
        for (int r = 0; r < 5; r++) {
            int64_t len = 100 * (1 + r % 3);
            for (int64_t e = 0; e < len; e++) X[e] = (float)(e + r);
            accelc_value in = tensor(F32, 1, &len, X, (size_t)len * 4), out = {0};
            ck_assert_msg(accelc_rt1_run(g.m.s, &in, &out) == ACCELC_OK, "%s", accelc_rt1_error(g.m.s));
            ck_assert_int_eq(out.dims[0], 2 * len);
            for (int64_t e = 0; e < 2 * len; e++) {
                float want = X[e % len];
                for (int times = 0; times < 4; times++) want = want * 1.25f + 0.5f;
                ck_assert_float_eq(((float *)out.data)[e], want);
            }
        }
        gpu_done(&g);
    }
}
END_TEST

/* Copies to a part of a buffer, from elsewhere and from another part: a = 3 3 3 3; a[1] = x; a[2, 3] = a[1, 2] (which overlap);
 * z = scale(a). Each is E floats. */
START_TEST(test_copy_part) {
    for (unsigned mask = 0; mask < 8; mask++) {
        Pb *b = pb_new();
        enum { E = 100 };
        int32_t one = pb_const(b, E), four = pb_const(b, 4 * E), bytes1 = pb_const(b, 4 * E), bytes2 = pb_const(b, 8 * E);
        int32_t bytes4 = pb_const(b, 16 * E);
        int32_t three = pb_const(b, 3);
        int32_t x = pb_in(b, "x", F32, 1, DIMS(one), bytes1), t = pb_arena(b, F32, bytes1, 0, 9), a = pb_arena(b, F32, bytes4, 0, 9);
        int32_t a1 = pb_view(b, a, 4 * E, -1, bytes1), a12 = pb_view(b, a, 4 * E, -1, bytes2), a23 = pb_view(b, a, 8 * E, -1, bytes2);
        int32_t z = pb_out(b, "z", F32, 1, DIMS(four), bytes4);
        pb_entry(b);
        pb_kernel(b, FILL, four, 1, 1, LIST(a, ), LIST(three, ));
        pb_kernel(b, ADD, one, 1, 1, LIST(x, x, t, ), LIST());
        pb_ctl(b, RT_COPYBUF, a1, t, 0);
        pb_ctl(b, RT_COPYBUF, a23, a12, 0);
        pb_kernel(b, SCALE, four, 1, 1, LIST(a, z, ), LIST());
        pb_step(b, RT_END);
        b->p.flags = RT_STATIC;
        G g;
        gpu_init(&g, b, (mask & 1) << FILL | (mask >> 1 & 1) << ADD | mask >> 2 << SCALE);
        ck_assert_msg(model_open(&g.m, GPU(1)) == ACCELC_OK, "%s", g.m.msg);
        for (int r = 0; r < 2; r++) {
            int64_t len = E;
            accelc_value in = tensor(F32, 1, &len, X, E * 4), out = {0};
            for (int i = 0; i < E; i++) X[i] = (float)(i + r);
            ck_assert_msg(accelc_rt1_run(g.m.s, &in, &out) == ACCELC_OK, "%s", accelc_rt1_error(g.m.s));
            for (int i = 0; i < 4 * E; i++)
                ck_assert_float_eq(((float *)out.data)[i], (i / E == 0 || i / E == 3 ? 3 : 2 * X[i % E]) * 1.25f + 0.5f);
        }
        gpu_done(&g);
    }
}
END_TEST

/* Outputs that are inputs, one of them of 4 bits; all on either side, in memory of the caller and of the session. */
START_TEST(test_repeated) {
    enum { INT4 = 22, LEN = 7, PACKED = 4 };
    static uint8_t q[PACKED] = {0x21, 0x43, 0xf5, 0x0e}, back[LEN * 4];
    static const int dtype[2] = {INT4, F32};
    static const size_t size[2] = {PACKED, LEN * 4};
    void *const data[2] = {q, X};
    Pb *b = pb_new();
    int32_t n = pb_sym(b), bytes = pb_op(b, RT_DIM_MUL, n, pb_const(b, 4));
    pb_in(b, "q", INT4, 1, DIMS(n), n);
    pb_in(b, "x", F32, 1, DIMS(n), bytes);
    for (int i = 0; i < 2; i++) b->out[b->p.out.n++] = pb_port(b, "out", (uint16_t)dtype[i], 1, DIMS(n), i, 0, 0, 0);
    pb_entry(b);
    pb_step(b, RT_END);
    for (int i = 0; i < LEN; i++) X[i] = (float)i;
    G g;
    Caller c;
    uint64_t from[2], to[2];
    caller_open(&c);
    gpu_init(&g, b, ALL);
    ck_assert_int_eq(model_open(&g.m, GPU(1)), ACCELC_OK);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(c.alloc(&from[i], size[i]), 0);
        ck_assert_int_eq(c.alloc(&to[i], size[i]), 0);
        caller_up(&c, from[i], data[i], size[i]);
    }
    for (int way = 0; way < 8; way++) {
        bool in_device = way & 1, out_device = way & 2, mine = way & 4;
        int64_t len = LEN;
        accelc_value in[2], out[2];
        static uint8_t host[2][LEN * 4];
        memset(host, 0, sizeof host);
        for (int i = 0; i < 2; i++) {
            in[i] = tensor(dtype[i], 1, &len, in_device ? (void *)(uintptr_t)from[i] : data[i], size[i]);
            in[i].device = in_device;
            out[i] = (accelc_value){.device = out_device, .data = !mine ? NULL : out_device ? (void *)(uintptr_t)to[i] : host[i], .bytes = size[i]};
        }
        ck_assert_msg(accelc_rt1_run(g.m.s, in, out) == ACCELC_OK, "%s", accelc_rt1_error(g.m.s));
        for (int i = 0; i < 2; i++) {
            ck_assert(out[i].device == out_device && out[i].owned == !mine && out[i].bytes == size[i]);
            ck_assert_ptr_ne(out[i].data, in[i].data);
            if (out_device) caller_down(&c, back, (uint64_t)(uintptr_t)out[i].data, size[i]);
            else memcpy(back, out[i].data, size[i]);
            ck_assert_mem_eq(back, data[i], size[i]);
        }
    }
    model_close(&g.m);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(c.free(from[i]), 0);
        ck_assert_int_eq(c.free(to[i]), 0);
    }
    caller_close(&c);
    ck_assert_int_eq(g.look()->live, 0);
}
END_TEST

/* ---- choosing, failing ---- */

static void expect(G *g, accelc_config c, accelc_status st, const char *text) {
    accelc_status got = model_open(&g->m, c);
    ck_assert_msg(got == st && strstr(g->m.msg, text), "%d: %s", got, g->m.msg);
    ck_assert_ptr_null(g->m.s);
}

START_TEST(test_level) {
    G g;
    accelc_value out;
    int64_t arena_dims = 0, sym = 1;
    const char *kernel;
    (void)arena_dims;
    gpu_init(&g, plan_pipe(N, 1, 10), ALL);
    expect(&g, (accelc_config){.device = 3}, ACCELC_EDEVICE, "there is no GPU 2, the machine has 2");
    expect(&g, (accelc_config){.device = -1}, ACCELC_EDEVICE, "code for devices only");
    expect(&g, (accelc_config){.cpu = "x86-64-v9"}, ACCELC_ECPU, "no code for level");
    static const struct {
        const char *name, *value, *text;
    } bad[] = {{"ACCELC_LIBCUDA", "/nowhere/libcuda.so.1", "the driver of the GPU is missing"},
               {"ACCELC_LIBCUDA", EMU_KERNELS, "the driver of the GPU is too old"},
               {"ACCELC_EMU_DEVICES", "0", "no GPU can be used: no CUDA-capable device is detected (CUDA_ERROR_NO_DEVICE)"},
               {"ACCELC_EMU_ARCH", "75", "GPU 0 (look-alike 0) has compute capability 7.5, the model was compiled for 8.0"},
               {"ACCELC_EMU_MEMORY", "2", "out of memory"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv(bad[i].name, bad[i].value, 1);
        bool memory = i == 4;
        g.m.bundle.nmodel = 1;
        expect(&g, (accelc_config){0}, memory ? ACCELC_ENOMEM : ACCELC_EDEVICE, bad[i].text);
        expect(&g, (accelc_config){.device = 1}, memory ? ACCELC_ENOMEM : ACCELC_EDEVICE, bad[i].text);
        if (!memory) ck_assert_int_eq(accelc_rt1_sizes(&g.m.bundle, &sym, NULL, NULL, NULL), ACCELC_EDEVICE);
        g.m.bundle.nmodel = 2; /* the CPU takes over */
        expect(&g, (accelc_config){.device = 1}, memory ? ACCELC_ENOMEM : ACCELC_EDEVICE, bad[i].text);
        ck_assert_int_eq(model_open(&g.m, THREADS(1)), ACCELC_OK);
        ck_assert_ptr_eq(g.m.s->model, &g.m.model);
        ck_assert_int_eq(pipe_run(&g.m, N, Z, sizeof Z, &out), ACCELC_OK);
        pipe_check(X, Y, Z, N);
        accelc_rt1_destroy(g.m.s);
        if (i == 0) setenv("ACCELC_LIBCUDA", FAKECUDA, 1);
        else if (i == 1) setenv("ACCELC_LIBCUDA", FAKECUDA, 1);
        else unsetenv(bad[i].name);
    }
    /* sizes and step_name look at the level that create takes: another plan for the CPU tells them apart */
    Pb *b = pb_new();
    int32_t n = pb_sym(b);
    pb_in(b, "x", F32, 1, DIMS(n), n);
    pb_entry(b);
    pb_step(b, RT_END)->name = pb_str(b, "of the CPU");
    const rt_plan *other = pb_finish(b), *plan = g.m.model.plan;
    g.m.model.plan = other;
    ck_assert_int_eq(accelc_rt1_step_name(&g.m.bundle, 0, &kernel, NULL), ACCELC_OK);
    ck_assert_str_eq(kernel, "kernel");
    setenv("ACCELC_EMU_DEVICES", "0", 1);
    ck_assert_int_eq(accelc_rt1_step_name(&g.m.bundle, 0, &kernel, NULL), ACCELC_OK);
    ck_assert_str_eq(kernel, "of the CPU");
    uint64_t arena;
    ck_assert_int_eq(accelc_rt1_sizes(&g.m.bundle, &sym, &arena, NULL, NULL), ACCELC_OK);
    ck_assert_int_eq(arena, 0);
    unsetenv("ACCELC_EMU_DEVICES");
    ck_assert_int_eq(accelc_rt1_sizes(&g.m.bundle, &sym, &arena, NULL, NULL), ACCELC_OK);
    ck_assert_int_gt(arena, 0);
    g.m.model.plan = plan;
    free((void *)(uintptr_t)other);
    ck_assert_int_eq(model_open(&g.m, (accelc_config){.device = 2}), ACCELC_OK);
    ck_assert_int_eq(g.m.s->where, 2);
    ck_assert_int_eq(pipe_run(&g.m, N, Z, sizeof Z, &out), ACCELC_OK);
    gpu_done(&g);
}
END_TEST

static accelc_status rows_run(G *g, float *z) {
    int64_t dims[] = {8, 16};
    accelc_value in = tensor(F32, 2, dims, X, 8 * 64), out[2] = {{0}, {.data = z, .bytes = 32}};
    memset(z, 0, 32);
    accelc_status st = accelc_rt1_run(g->m.s, &in, out);
    if (st == ACCELC_OK) rows_check(out[0].data, z, 8);
    else ck_assert_ptr_null(out[0].data);
    return st;
}

/* Each call of the driver fails in turn, in ways that pass and in ways that stay: the status and a message tell, nothing is left, and
 * a session after it works. */
START_TEST(test_failures) {
    static const int codes[] = {999, 2, 719};
    const int code = codes[_i];
    G g;
    float z[8];
    rows_init(&g, ALL);
    g.m.bundle.nmodel = 1;
    ck_assert_int_eq(model_open(&g.m, GPU(1)), ACCELC_OK);
    ck_assert_int_eq(rows_run(&g, z), ACCELC_OK);
    accelc_rt1_destroy(g.m.s);
    long total = g.look()->calls, seen = 0, opened = 0;
    ck_assert_int_gt(total, 40);
    for (long n = 1; n <= total; n++) {
        char text[40];
        snprintf(text, sizeof text, "%ld,%d", n, code);
        setenv("ACCELC_EMU_FAIL", text, 1);
        accelc_status st = model_open(&g.m, GPU(1));
        const char *why = g.m.msg;
        if (st == ACCELC_OK) {
            opened++;
            st = rows_run(&g, z);
            why = accelc_rt1_error(g.m.s);
        } else
            ck_assert_ptr_null(g.m.s);
        bool told = st == ACCELC_EDEVICE || (st == ACCELC_ENOMEM && code == 2);
        ck_assert_msg(told ? strstr(why, "GPU") != NULL : st == ACCELC_OK, "call %ld: %d: %s", n, st, why);
        if (told) ck_assert_ptr_nonnull(strstr(why, code == 2 ? "out of memory" : code == 719 ? "launch failure" : "unknown error"));
        seen += told;
        if (opened && g.m.s && told && code != 719) ck_assert_int_eq(rows_run(&g, z), ACCELC_OK); /* it was only this once */
        accelc_rt1_destroy(g.m.s);
        ck_assert_int_eq(g.look()->live, 0);
        ck_assert_int_eq(g.depth(), 0);
        unsetenv("ACCELC_EMU_FAIL");
    }
    ck_assert_int_gt(opened, 5);
    ck_assert_int_gt(seen, 30);
    int without = 0;
    g.m.bundle.nmodel = 2; /* with a level for the CPU whatever fails in create is no failure */
    for (long n = 1; n <= total - opened; n++) {
        char text[40];
        snprintf(text, sizeof text, "%ld,%d", n, code);
        setenv("ACCELC_EMU_FAIL", text, 1);
        ck_assert_msg(model_open(&g.m, THREADS(1)) == ACCELC_OK, "call %ld: %s", n, g.m.msg);
        without += g.m.s->model != &g.m.model; /* memory of the host that the driver gives makes copies faster, no more */
        ck_assert_int_eq(rows_run(&g, z), ACCELC_OK);
        accelc_rt1_destroy(g.m.s);
        ck_assert_int_eq(g.look()->live, 0);
    }
    ck_assert_int_eq(without, code != 719);
    unsetenv("ACCELC_EMU_FAIL");
    ck_assert_int_eq(model_open(&g.m, GPU(1)), ACCELC_OK);
    ck_assert_int_eq(rows_run(&g, z), ACCELC_OK);
    gpu_done(&g);
}
END_TEST

START_TEST(test_no_memory) { /* at every size up to what is enough */
    G g;
    accelc_value out;
    gpu_init(&g, plan_pipe(N, 1, 10), ALL);
    int failed = 0, good = 0;
    for (int bytes = 0; bytes < 32000; bytes += 500) {
        char text[40];
        snprintf(text, sizeof text, "%d", bytes);
        setenv("ACCELC_EMU_MEMORY", text, 1);
        accelc_status st = model_open(&g.m, GPU(1));
        for (int r = 0; st == ACCELC_OK && r < 2; r++) {
            st = pipe_run(&g.m, 10 + r * (N - 10), Z, sizeof Z, &out);
            if (st == ACCELC_OK) pipe_check(X, Y, Z, 10 + r * (N - 10));
            else ck_assert_ptr_nonnull(strstr(accelc_rt1_error(g.m.s), "out of memory"));
        }
        ck_assert(st == ACCELC_OK || st == ACCELC_ENOMEM);
        failed += st != ACCELC_OK;
        good += st == ACCELC_OK;
        accelc_rt1_destroy(g.m.s);
        ck_assert_int_eq(g.look()->live, 0);
    }
    unsetenv("ACCELC_EMU_MEMORY");
    ck_assert(failed > 5 && good > 5);
    g.m.s = NULL;
    gpu_done(&g);
}
END_TEST

/* ---- several sessions, threads ---- */

static void *runner(void *arg) {
    G *g = arg;
    accelc_session *s;
    accelc_config c = GPU(2);
    static __thread float x[N], y[N], z[N];
    int64_t n = N;
    c.size = sizeof c;
    c.device = 1 + (pthread_self() >> 12 & 1);
    for (int r = 0; r < 4; r++) {
        if (accelc_rt1_create(&g->m.bundle, &c, &s, NULL, 0) != ACCELC_OK) return g;
        pipe_data(x, y, n);
        x[3] = (float)r;
        for (int k = 0; k < 10; k++) {
            accelc_value in[2] = {tensor(F32, 1, &n, x, N * 4), tensor(F32, 1, &n, y, N * 4)}, out = {.data = z, .bytes = sizeof z};
            if (accelc_rt1_run(s, in, &out) != ACCELC_OK) return g;
            for (int64_t i = 0; i < n; i++)
                if (z[i] != (x[n - 1 - i] + y[n - 1 - i]) * 1.25f + 0.5f) return g;
        }
        accelc_rt1_destroy(s);
    }
    return g->depth() ? g : NULL;
}

/* Four threads run fn(g), which gives NULL if all was well. */
static void in_threads(G *g, void *(*fn)(void *)) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) ck_assert_int_eq(pthread_create(&t[i], NULL, fn, g), 0);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        ck_assert_ptr_null(bad);
    }
}

START_TEST(test_sessions) {
    G g;
    gpu_init(&g, plan_pipe(N, 1, 10), 1 << ADD | 1 << FLIP);
    in_threads(&g, runner);
    gpu_done(&g);
}
END_TEST

/* Images are tried in order, as long as the driver says that it cannot use them. */
START_TEST(test_images) {
    static const struct {
        const char *refusal;
        bool next;
    } row[] = {{"broken 200", 1}, {"broken 209", 1}, {"broken 218", 1}, {"broken 221", 1}, {"broken 222", 1}, {"broken 2", 0}, {"broken 999", 0}};
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        G g;
        accelc_value out;
        const rt_gpu_image two[] = {{RT_GPU_ONLY | 90, RT_GPU_CUBIN, row[r].refusal, 11}, {80, RT_GPU_PTX, ptx, sizeof ptx}};
        gpu_init(&g, plan_pipe(N, 1, 10), ALL);
        g.gpu.image = two;
        g.gpu.nimage = 2;
        g.m.bundle.nmodel = 1;
        accelc_status st = model_open(&g.m, GPU(1));
        ck_assert_int_eq(st == ACCELC_OK, row[r].next);
        if (st == ACCELC_OK) ck_assert_int_eq(pipe_run(&g.m, N, Z, sizeof Z, &out), ACCELC_OK);
        else ck_assert_ptr_nonnull(strstr(g.m.msg, "its code cannot be loaded"));
        gpu_done(&g);
        gpu_init(&g, plan_pipe(N, 1, 10), ALL);
        g.gpu.image = two;
        g.gpu.nimage = 1; /* nothing after it */
        g.m.bundle.nmodel = 1;
        ck_assert_int_ne(model_open(&g.m, GPU(1)), ACCELC_OK);
        ck_assert_ptr_nonnull(strstr(g.m.msg, "its code cannot be loaded"));
        gpu_done(&g);
    }
}
END_TEST

/* Of several levels for GPUs the first is taken that the device has an image for which the driver does not refuse; then that for the CPU. */
START_TEST(test_levels) {
    enum { OLD = 1, MAPS, CLUSTERS }; /* the driver knows no maps of tensors; kernels of the first level have some, too; the same of clusters */
    static const struct {
        const char *arch, *code;
        int device, level; /* 0 and 1: for GPUs, 2: for the CPU, 3: none */
        int without;
    } row[] = {{"90", "code", 0, 0, 0},       {"90", "code", 1, 0, 0},       {"80", "code", 0, 1, 0},       {"80", "code", 2, 1, 0},
               {"100", "code", 1, 1, 0},      {"90", "broken 222", 0, 1, 0}, {"90", "broken 222", 1, 1, 0}, {"90", "broken 999", 1, 1, 0},
               {"75", "code", 0, 2, 0},       {"75", "code", 1, 3, 0},       {"90", "code", -1, 2, 0},      {"90", "code", 0, 0, OLD},
               {"90", "code", 0, 1, MAPS},    {"90", "code", 1, 1, MAPS},    {"90", "code", 0, 1, CLUSTERS}};
    for (size_t r = 0; r < sizeof row / sizeof *row; r++) {
        G g;
        accelc_value out;
        char notes[RT_GPU_SHARED] __attribute__((aligned(16))) = {0};
        gpu_init(&g, plan_pipe(N, 1, 10), ALL);
        const rt_gpu_image best = {RT_GPU_ONLY | 90, RT_GPU_PTX, row[r].code, strlen(row[r].code) + 1}, other = {80, RT_GPU_PTX, ptx, sizeof ptx};
        rt_gpu gpu = g.gpu;
        rt_model first = g.model;
        const rt_model *list[] = {&first, &g.model, &g.m.model};
        gpu.image = &best, g.gpu.image = &other;
        gpu.nimage = g.gpu.nimage = 1;
        gpu.shared = notes;
        rt_gpu_kernel kernel[KERNELS];
        memcpy(kernel, g.row, sizeof kernel);
        kernel[ROWS].maps = row[r].without == MAPS;
        kernel[ROWS].cluster = row[r].without == CLUSTERS ? 2 : 0;
        g.row[ROWS].maps = 0;
        gpu.kernel = kernel;
        first.gpu = &gpu;
        const char *lacks = row[r].without == CLUSTERS ? "cuLaunchKernelEx" : "cuTensorMapEncodeTiled";
        if (row[r].without) setenv("ACCELC_EMU_WITHOUT", lacks, 1);
        g.m.bundle.model = list;
        setenv("ACCELC_EMU_ARCH", row[r].arch, 1);
        g.m.bundle.nmodel = 1;
        char text[100];
        snprintf(text, sizeof text, "the driver of the GPU is too old: it has no %s", lacks);
        if (row[r].without > OLD) expect(&g, GPU(1), ACCELC_EDEVICE, text);
        g.m.bundle.nmodel = 3;
        accelc_status st = model_open(&g.m, (accelc_config){.threads = 1, .device = row[r].device});
        ck_assert_int_eq(st, row[r].level == 3 ? ACCELC_EDEVICE : ACCELC_OK);
        if (st == ACCELC_OK) {
            ck_assert_ptr_eq(g.m.s->model, list[row[r].level]);
            ck_assert_int_eq(pipe_run(&g.m, N, Z, sizeof Z, &out), ACCELC_OK);
            pipe_check(X, Y, Z, N);
        } else ck_assert_ptr_nonnull(strstr(g.m.msg, "has compute capability 7.5, the model was compiled for 8.0"));
        gpu_done(&g);
        unsetenv("ACCELC_EMU_ARCH");
        unsetenv("ACCELC_EMU_WITHOUT");
    }
}
END_TEST

/* Destroys sessions s[n] in turn; those that are left still run. */
static void close_in_turn(G *g, accelc_session **s, int n, float *z) {
    for (int i = 0; i < n; i++) {
        for (int k = i; k < n; k++) {
            g->m.s = s[k];
            ck_assert_int_eq(rows_run(g, z), ACCELC_OK);
        }
        accelc_rt1_destroy(s[i]);
    }
    g->m.s = NULL;
    gpu_done(g);
}

/* The first session on a device loads code and weights, the last one frees them. */
START_TEST(test_shared) {
    G g;
    float z[8];
    accelc_session *s[4];
    rows_init(&g, ALL);
    long live[5] = {0}, loads[5] = {0};
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(model_open(&g.m, (accelc_config){.threads = 1, .device = i == 2 ? 2 : 1}), ACCELC_OK);
        s[i] = g.m.s;
        live[i + 1] = g.look()->live;
        loads[i + 1] = g.look()->uploads;
    }
    ck_assert_int_eq(loads[2], loads[1]);
    ck_assert_int_eq(loads[3], loads[2] + 1); /* another device */
    ck_assert_int_eq(loads[4], loads[3]);
    ck_assert_int_eq(live[2] - live[1], 3); /* stream, status, stage */
    ck_assert_int_eq(live[3] - live[2], 6); /* context, module, weights as well */
    ck_assert_int_eq(live[4] - live[3], 3);
    close_in_turn(&g, s, 4, z);
}
END_TEST

static void *sharer(void *arg) {
    G *g = arg;
    accelc_config c = {.size = sizeof c, .threads = 1, .device = 1};
    for (int r = 0; r < 20; r++) {
        accelc_session *s;
        int64_t dims[] = {8, 16};
        float z[8];
        accelc_value in = tensor(F32, 2, dims, X, 8 * 64), out[2] = {{0}, {.data = z, .bytes = sizeof z}};
        if (accelc_rt1_create(&g->m.bundle, &c, &s, NULL, 0) != ACCELC_OK) return g;
        bool bad = accelc_rt1_run(s, &in, out) != ACCELC_OK || z[3] != ((const float *)out[0].data)[3] * 1.25f + 0.5f;
        accelc_rt1_destroy(s);
        if (bad) return g;
    }
    return NULL;
}

START_TEST(test_sharers) {
    G g;
    rows_init(&g, ALL);
    in_threads(&g, sharer);
    gpu_done(&g);
}
END_TEST

/* ---- the folder of machine code ---- */

/* One session's life with a pipe: the texts that were compiled for it. */
static long compiled_by(G *g, const char *folder) {
    accelc_value out;
    accelc_config c = GPU(1);
    long before = g->look()->compiled;
    c.code_cache = folder;
    ck_assert_msg(model_open(&g->m, c) == ACCELC_OK, "%s", g->m.msg);
    memset(Z, 0, sizeof Z);
    ck_assert_int_eq(pipe_run(&g->m, N, Z, sizeof Z, &out), ACCELC_OK);
    pipe_check(X, Y, Z, N);
    accelc_rt1_destroy(g->m.s);
    g->m.s = NULL;
    return g->look()->compiled - before;
}

/* Entries of the folder; `name` is the path of one that is not hidden. */
static int entries(const char *folder, char *name, size_t n) {
    int count = 0;
    DIR *d = opendir(folder);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            count++;
            ck_assert_int_ne(e->d_name[0], '.'); /* a temporary file that was left */
            if (name) snprintf(name, n, "%s/%s", folder, e->d_name);
        }
    closedir(d);
    return count;
}

static void empty(const char *folder) {
    char name[400];
    while (entries(folder, name, sizeof name)) ck_assert_int_eq(remove(name), 0);
    rmdir(folder);
}

/* A model whose one image is the text. */
static void cached_init(G *g, const rt_gpu_image *image) {
    gpu_init(g, plan_pipe(N, 1, 10), ALL);
    g->gpu.image = image;
    g->gpu.nimage = 1;
    g->m.bundle.nmodel = 1;
}

static const rt_gpu_image one_text = {80, RT_GPU_PTX, ptx, sizeof ptx};

#define CACHE(var)                                   \
    char var[] = "/tmp/accelc-cache-XXXXXX";         \
    ck_assert_ptr_nonnull(mkdtemp(var));

START_TEST(test_cache) {
    static const char other[] = "another text of PTX";
    const rt_gpu_image only = {RT_GPU_ONLY | 90, RT_GPU_PTX, ptx, sizeof ptx}, second = {80, RT_GPU_PTX, other, sizeof other};
    CACHE(folder)
    char inner[100], name[400];
    G g;
    snprintf(inner, sizeof inner, "%s/made", folder); /* is made when it is needed */
    cached_init(&g, &one_text);
    ck_assert_int_eq(compiled_by(&g, NULL), 1);
    ck_assert_int_eq(compiled_by(&g, ""), 1);
    ck_assert_int_eq(entries(folder, NULL, 0), 0);
    ck_assert_int_eq(compiled_by(&g, inner), 1);
    ck_assert_int_eq(compiled_by(&g, inner), 0);
    setenv("ACCELC_CUDA_CACHE", inner, 1); /* the same, but whoever wants none has none */
    ck_assert_int_eq(compiled_by(&g, NULL), 0);
    ck_assert_int_eq(compiled_by(&g, ""), 1);
    unsetenv("ACCELC_CUDA_CACHE");
    ck_assert_int_eq(entries(inner, NULL, 0), 1);
    setenv("ACCELC_EMU_DRIVER", "12040", 1); /* another driver, another device, another text: other files */
    ck_assert_int_eq(compiled_by(&g, inner), 1);
    unsetenv("ACCELC_EMU_DRIVER");
    setenv("ACCELC_EMU_ARCH", "100", 1);
    ck_assert_int_eq(compiled_by(&g, inner), 1);
    ck_assert_int_eq(compiled_by(&g, inner), 0);
    unsetenv("ACCELC_EMU_ARCH");
    gpu_done(&g);
    cached_init(&g, &second);
    ck_assert_int_eq(compiled_by(&g, inner), 1);
    ck_assert_int_eq(entries(inner, NULL, 0), 4);
    gpu_done(&g);
    cached_init(&g, &only); /* the architecture is named to the compiler */
    ck_assert_int_eq(compiled_by(&g, inner), 0);
    empty(inner);
    ck_assert_int_eq(compiled_by(&g, inner), 1);
    ck_assert_int_eq(entries(inner, name, sizeof name), 1);
    gpu_done(&g);
    empty(inner);
    empty(folder);
}
END_TEST

/* Files that are not what they should be are replaced, and do no harm. */
START_TEST(test_cache_spoiled) {
    CACHE(folder)
    char name[400], good[4096], bad[4096];
    G g;
    cached_init(&g, &one_text);
    ck_assert_int_eq(compiled_by(&g, folder), 1);
    ck_assert_int_eq(entries(folder, name, sizeof name), 1);
    FILE *f = fopen(name, "rb");
    size_t n = fread(good, 1, sizeof good, f);
    fclose(f);
    ck_assert(n > 64 && n < sizeof good);
    for (size_t i = 0; i < 2 * n; i++) { /* one byte is another, or the file ends there */
        memcpy(bad, good, n);
        if (i < n) bad[i] ^= 0x10;
        f = fopen(name, "wb");
        ck_assert_uint_eq(fwrite(bad, 1, i < n ? n : i - n, f), i < n ? n : i - n);
        fclose(f);
        ck_assert_int_eq(compiled_by(&g, folder), 1);
        ck_assert_int_eq(compiled_by(&g, folder), 0);
        ck_assert_int_eq(entries(folder, NULL, 0), 1);
    }
    f = fopen(name, "wb"); /* longer */
    ck_assert(fwrite(good, 1, n, f) == n && fputc(0, f) == 0);
    fclose(f);
    ck_assert_int_eq(compiled_by(&g, folder), 1);
    remove(name); /* a link, which is not followed, and gives way */
    ck_assert_int_eq(symlink("/dev/zero", name), 0);
    ck_assert_int_eq(compiled_by(&g, folder), 1);
    ck_assert_int_eq(compiled_by(&g, folder), 0);
    remove(name); /* a folder, which does not */
    ck_assert_int_eq(mkdir(name, 0777), 0);
    ck_assert_int_eq(compiled_by(&g, folder), 1);
    ck_assert_int_eq(compiled_by(&g, folder), 1);
    ck_assert_int_eq(entries(folder, NULL, 0), 1);
    gpu_done(&g);
    empty(folder);
}
END_TEST

/* Without room to write, without the driver's help, with a text that it does not take: as if there were no cache. */
START_TEST(test_cache_refused) {
    static const char broken[] = "broken";
    CACHE(folder)
    char path[200], message[sizeof ((G *)0)->m.msg];
    G g;
    cached_init(&g, &one_text);
    ck_assert_int_eq(compiled_by(&g, "/proc/none/there"), 1);
    ck_assert_int_eq(compiled_by(&g, "/dev/null"), 1);
    snprintf(path, sizeof path, "%s/read-only", folder);
    ck_assert_int_eq(compiled_by(&g, path), 1);
    ck_assert_int_eq(chmod(path, 0555), 0); /* root may write all the same */
    ck_assert_int_eq(compiled_by(&g, path), 0);
    setenv("ACCELC_EMU_ARCH", "80", 1);
    ck_assert_int_eq(compiled_by(&g, path), 1);
    ck_assert_int_eq(compiled_by(&g, path), geteuid() != 0);
    unsetenv("ACCELC_EMU_ARCH");
    chmod(path, 0777);
    empty(path);
    setenv("ACCELC_EMU_WITHOUT", "cuLinkCreate_v2", 1);
    ck_assert_int_eq(compiled_by(&g, folder), 1);
    ck_assert_int_eq(entries(folder, NULL, 0), 0);
    unsetenv("ACCELC_EMU_WITHOUT");
    for (int call = 1, good = 0; good < 3; call++) { /* every call fails once: the session opens, or the message is the one without a cache */
        accelc_config c = GPU(1);
        snprintf(path, sizeof path, "%d", call);
        c.code_cache = folder;
        setenv("ACCELC_EMU_FAIL", path, 1);
        good += model_open(&g.m, c) == ACCELC_OK;
        accelc_rt1_destroy(g.m.s);
        g.m.s = NULL;
        ck_assert_int_eq(g.look()->live, 0);
    }
    unsetenv("ACCELC_EMU_FAIL");
    gpu_done(&g);
    const rt_gpu_image bad = {80, RT_GPU_PTX, broken, sizeof broken};
    cached_init(&g, &bad);
    for (int cache = 0; cache < 2; cache++) {
        accelc_config c = GPU(1);
        c.code_cache = cache ? folder : "";
        ck_assert_int_eq(model_open(&g.m, c), ACCELC_EDEVICE);
        if (cache) ck_assert_str_eq(g.m.msg, message);
        else memcpy(message, g.m.msg, sizeof message);
    }
    gpu_done(&g);
    empty(folder);
}
END_TEST

/* Processes that begin at the same time, several times: each is served, and whole files are left. */
START_TEST(test_cache_processes) {
    CACHE(folder)
    G g;
    cached_init(&g, &one_text);
    for (int r = 0; r < 10; r++) {
        pid_t child[4];
        for (int i = 0; i < 4; i++) {
            child[i] = fork();
            ck_assert_int_ge(child[i], 0);
            if (child[i] == 0) {
                bool good = compiled_by(&g, folder) <= 1 && compiled_by(&g, folder) == 0;
                _exit(good ? 0 : 1);
            }
        }
        for (int i = 0, status; i < 4; i++) {
            ck_assert_int_eq(waitpid(child[i], &status, 0), child[i]);
            ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        }
        ck_assert_int_eq(compiled_by(&g, folder), 0);
        empty(folder);
    }
    gpu_done(&g);
}
END_TEST

/* Weights that sessions bring themselves: each has a copy on the device, all have the code in common. */
START_TEST(test_shared_code) {
    G g;
    float z[8];
    accelc_session *s[3];
    static _Alignas(64) float given[3][32];
    rows_init(&g, ALL);
    g.m.model.weights = g.model.weights = NULL;
    for (int i = 0; i < 3; i++) {
        long compiled = g.look()->compiled, live = g.look()->live, uploads = g.look()->uploads;
        accelc_config c = {.threads = 1, .device = 1, .weights = given[i], .weights_bytes = sizeof given[i]};
        for (int k = 0; k < 8; k++) given[i][16 + k] = (float)(100 * k);
        ck_assert_msg(model_open(&g.m, c) == ACCELC_OK, "%s", g.m.msg);
        s[i] = g.m.s;
        ck_assert_int_eq(g.look()->uploads - uploads, 1);
        ck_assert_int_eq(g.look()->compiled - compiled, i == 0);
        if (i) ck_assert_int_eq(g.look()->live - live, 4); /* stream, status, stage, weights */
    }
    close_in_turn(&g, s, 3, z);
}
END_TEST

static int steps_seen[8];
static void on_step(void *ctx, int step, int thread, uint64_t t0, uint64_t t1) {
    (void)ctx, (void)thread;
    ck_assert(t1 >= t0);
    steps_seen[step]++;
}

START_TEST(test_profile) {
    static const unsigned masks[] = {1 << ADD | 1 << FLIP, ALL};
    for (int i = 0; i < 2; i++) {
        G g;
        accelc_value out;
        accelc_step step = {.size = sizeof step};
        gpu_init(&g, plan_pipe(N, 1, 10), masks[i]);
        accelc_config c = GPU(1);
        c.on_step = on_step;
        memset(steps_seen, 0, sizeof steps_seen);
        ck_assert_int_eq(model_open(&g.m, c), ACCELC_OK);
        for (int run = 1; run <= 4; run++) { /* where all is the device's: recorded, then as a graph */
            ck_assert_int_eq(pipe_run(&g.m, N, Z, sizeof Z, &out), ACCELC_OK);
            pipe_check(X, Y, Z, N);
            for (int k = 0; k < 3; k++) ck_assert_int_eq(steps_seen[k], run);
        }
        ck_assert_int_eq(g.look()->graphs, i == 0 ? 0 : 3);
        ck_assert_int_eq(accelc_rt1_step_info(g.m.s, 1, &step), ACCELC_OK);
        ck_assert_int_eq(step.device, i == 0 ? 0 : 1);
        ck_assert_int_eq(accelc_rt1_step_info(g.m.s, 99, &step), ACCELC_EINVAL);
        gpu_done(&g);
    }
}
END_TEST

static void add(TCase *c) {
    tcase_add_test(c, test_pipe);
    tcase_add_test(c, test_copies);
    tcase_add_test(c, test_rows);
    tcase_add_test(c, test_device_pointers);
    tcase_add_test(c, test_graphs);
    tcase_add_test(c, test_guard);
    tcase_add_test(c, test_compact);
    tcase_add_test(c, test_state);
    tcase_add_test(c, test_waiting);
    tcase_add_test(c, test_scratch);
    tcase_add_test(c, test_growing_carried);
    tcase_add_test(c, test_growing_group);
    tcase_add_test(c, test_call);
    tcase_add_test(c, test_copy_part);
    tcase_add_test(c, test_repeated);
    tcase_add_test(c, test_level);
    tcase_add_loop_test(c, test_failures, 0, 3);
    tcase_add_test(c, test_no_memory);
    tcase_add_test(c, test_sessions);
    tcase_add_test(c, test_images);
    tcase_add_test(c, test_levels);
    tcase_add_test(c, test_shared);
    tcase_add_test(c, test_sharers);
    tcase_add_test(c, test_shared_code);
    tcase_add_test(c, test_cache);
    tcase_add_test(c, test_cache_spoiled);
    tcase_add_test(c, test_cache_refused);
    tcase_add_test(c, test_cache_processes);
    tcase_add_test(c, test_profile);
}

int main(void) { return run_suite("gpu", add); }
