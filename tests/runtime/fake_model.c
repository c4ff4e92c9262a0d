/* fake_model.c: a hand-written compiled model for test_py.py and for accelc-run. -DMODEL chooses
 * it: 1: z = x + y over [n] floats; 2: y = the nonzeros of x[n], a size that only the run knows; 3:
 * outputs that repeat the inputs: s string[k], q int4[k], b bfloat16[k] (optional). Built together
 * with runtime/rt_all.c. */
#include "plan_builder.h"

static int32_t k_add(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    const float *x = b[0], *y = b[1];
    float *z = b[2];
    (void)d, (void)scratch;
    for (int64_t i = t0; i < t1; i++) z[i] = x[i] + y[i];
    return 0;
}

static int32_t k_compact(void *const *b, const int64_t *d, int64_t t0, int64_t t1, void *scratch) {
    const float *x = b[0];
    float *y = b[1];
    int64_t *n = b[2];
    (void)scratch, (void)t0, (void)t1;
    for (int64_t i = *n = 0; i < d[0]; i++) {
        if (x[i] < 0) return 1;
        if (x[i] != 0) y[(*n)++] = x[i];
    }
    return 0;
}

static const rt_kernel kernels[] = {k_add, k_compact};

static rt_model model = {RT_MAGIC, sizeof(rt_model), NULL, kernels, NULL, "x86-64", NULL, NULL};
static const rt_model *const models[] = {&model};
static accelc_desc desc = {
    .size = sizeof desc, .name = "fake", .producer = "plan_builder", .target = "x86-64"};
static rt_bundle bundle;

static accelc_status create(const accelc_config *c, accelc_session **s, char *msg, size_t n) {
    return accelc_rt1_create(&bundle, c, s, msg, n);
}
static accelc_status sizes(const int64_t *sym, uint64_t *arena, uint64_t *scratch,
                           int64_t *const *dims) {
    return accelc_rt1_sizes(&bundle, sym, arena, scratch, dims);
}
static accelc_status step_name(int step, const char **kernel, const char **nodes) {
    return accelc_rt1_step_name(&bundle, step, kernel, nodes);
}

static const accelc_api api = {.abi = ACCELC_ABI,
                               .size = sizeof api,
                               .desc = &desc,
                               .create = create,
                               .destroy = accelc_rt1_destroy,
                               .run = accelc_rt1_run,
                               .fetch = accelc_rt1_fetch,
                               .reset = accelc_rt1_reset,
                               .sizes = sizes,
                               .cancel = accelc_rt1_cancel,
                               .error = accelc_rt1_error,
                               .step_name = step_name,
                               .step_info = accelc_rt1_step_info};
static rt_bundle bundle = {.magic = RT_MAGIC, .nmodel = 1, .model = models, .api = &api};

#define PORT(n, t, num, r, d, o)                                                                   \
    {                                                                                              \
        .name = n, .type = t, .kind = ACCELC_TENSOR, .dtype = num, .rank = r, .dims = d,           \
        .state = -1, .optional = o                                                                 \
    }
static const accelc_dim dim_n[] = {{"n", 0, -1}};
static const char *const syms[] = {"n"};

#if MODEL == 1
static const accelc_port ins[] = {PORT("x", "tensor(float)", 1, 1, dim_n, 0),
                                  PORT("y", "tensor(float)", 1, 1, dim_n, 0)};
static const accelc_port outs[] = {PORT("z", "tensor(float)", 1, 1, dim_n, 0)};
enum { NIN = 2, NOUT = 1, NSYM = 1 };
static void build(Pb *b) {
    int32_t n = pb_sym(b), bytes = pb_op(b, RT_DIM_MUL, n, pb_const(b, 4));
    int32_t x = pb_in(b, "x", F32, 1, DIMS(n), bytes), y = pb_in(b, "y", F32, 1, DIMS(n), bytes);
    int32_t z = pb_out(b, "z", F32, 1, DIMS(n), bytes);
    pb_entry(b);
    pb_kernel(b, 0, n, 1000, 1, LIST(x, y, z, ), LIST());
}
#elif MODEL == 2
static const accelc_dim dim_k[] = {{"k", 0, -1}};
static const accelc_port ins[] = {PORT("x", "tensor(float)", 1, 1, dim_n, 0)};
static const accelc_port outs[] = {PORT("y", "tensor(float)", 1, 1, dim_k, 0),
                                   PORT("t", "tensor(float)", 1, 1, dim_n, 0)};
enum { NIN = 1, NOUT = 2, NSYM = 1 };
static void build(Pb *b) {
    int32_t n = pb_sym(b), k = pb_sym(b), one = pb_const(b, 1), eight = pb_const(b, 8);
    int32_t bytes = pb_op(b, RT_DIM_MUL, n, pb_const(b, 4));
    int32_t x = pb_in(b, "x", F32, 1, DIMS(n), bytes), y = pb_out(b, "y", F32, 1, DIMS(k), bytes);
    int32_t t = pb_out(b, "t", F32, 1, DIMS(n), bytes), count = pb_arena(b, I64, eight, 0, 9);
    pb_entry(b);
    pb_guard(b, RT_CMP_TRUE, -1, -1, "node 'c': x must not be negative");
    pb_kernel(b, 1, one, 1, 0, LIST(x, y, count, ), LIST(n, ));
    pb_kernel(b, 0, n, 1, 1, LIST(x, x, t, ), LIST());
    pb_ctl(b, RT_BIND, k, count, 0)->hi = -1;
}
#else
static const accelc_port ins[] = {PORT("s", "tensor(string)", 8, 1, dim_n, 0),
                                  PORT("q", "tensor(int4)", 22, 1, dim_n, 0),
                                  PORT("b", "tensor(bfloat16)", 16, 1, dim_n, 1)};
static const accelc_port outs[] = {PORT("S", "tensor(string)", 8, 1, dim_n, 0),
                                   PORT("Q", "tensor(int4)", 22, 1, dim_n, 0),
                                   PORT("B", "tensor(bfloat16)", 16, 1, dim_n, 0)};
enum { NIN = 3, NOUT = 3, NSYM = 1 };
static void build(Pb *b) {
    static const char *const name[] = {"s", "q", "b", "S", "Q", "B"};
    int32_t n = pb_sym(b), two = pb_const(b, 2), bytes[3];
    bytes[0] = pb_op(b, RT_DIM_MUL, n, pb_const(b, 16));
    bytes[1] = n; /* kernels see packed types as a byte per element */
    bytes[2] = pb_op(b, RT_DIM_MUL, n, two);
    for (int i = 0; i < 3; i++) pb_in(b, name[i], ins[i].dtype, 1, DIMS(n), bytes[i]);
    b->in[2].optional = 1;
    for (int i = 0; i < 3; i++)
        b->out[b->p.out.n++] = pb_port(b, name[3 + i], ins[i].dtype, 1, DIMS(n), i, 0, 0, 0);
    pb_entry(b);
}
#endif

const accelc_api *accelc_main(void);
const accelc_api *accelc_main(void) {
    if (!model.plan) {
        Pb *b = pb_new();
        build(b);
        pb_step(b, RT_END);
        model.plan = pb_finish(b);
        desc.nin = NIN, desc.nout = NOUT, desc.nsym = NSYM;
        desc.in = ins, desc.out = outs, desc.sym = syms;
    }
    return &api;
}
