/* test_rt.c: inputs, outputs, sizes, control steps, states, levels and errors of the runtime. */
#include "rt_fixture.h"

START_TEST(test_static_run) {
    M m;
    accelc_value out;
    model_init(&m, plan_pipe(N, 0, 10));
    ck_assert_int_eq(model_open(&m, THREADS(_i)), ACCELC_OK);
    for (int k = 0; k < 3; k++) { /* into the caller's buffer, into the session's, again */
        ck_assert_int_eq(pipe_run(&m, N, k == 1 ? NULL : Z, sizeof Z, &out), ACCELC_OK);
        ck_assert(out.data == (k == 1 ? out.data : Z) && out.owned == (k == 1));
        ck_assert_int_eq(out.rank, 1);
        ck_assert_int_eq(out.dims[0], N);
        ck_assert_uint_eq(out.bytes, k == 1 ? N * 4 : sizeof Z);
        pipe_check(X, Y, out.data, N);
    }
    accelc_value v = {0};
    ck_assert_int_eq(accelc_rt1_fetch(m.s, 0, &v), ACCELC_EINVAL); /* it was written to Z */
    ck_assert_str_eq(accelc_rt1_error(m.s), "output \"z\" was written to the buffer given to run");
    ck_assert_int_eq(accelc_rt1_fetch(m.s, 1, &v), ACCELC_EINVAL);
    model_close(&m);
}
END_TEST

START_TEST(test_dynamic_shapes) {
    M m;
    accelc_value out;
    model_init(&m, plan_pipe(0, 1, 10));
    ck_assert_int_eq(model_open(&m, THREADS(_i)), ACCELC_OK);
    static const int64_t sizes[] = {7, 1000, 3, 0, 1, 1000, 3999};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        ck_assert_int_eq(pipe_run(&m, sizes[k], k % 2 ? Z : NULL, sizeof Z, &out), ACCELC_OK);
        ck_assert_int_eq(out.dims[0], sizes[k]);
        pipe_check(X, Y, out.data, sizes[k]);
    }
    model_close(&m);
}
END_TEST

START_TEST(test_bad_inputs) {
    M m;
    accelc_value out;
    Pb *b = plan_pipe(0, 1, 10);
    b->iobind[0].lo = 2, b->iobind[0].hi = 500;
    model_init(&m, b);
    accelc_dim dims[1] = {{"len", 0, -1}};
    accelc_port ports[2] = {{.name = "x", .rank = 1, .dims = dims, .state = -1},
                            {.name = "y", .rank = 1, .dims = dims, .state = -1}};
    m.desc = (accelc_desc){.size = sizeof m.desc, .nin = 2, .nout = 1, .nsym = 1, .in = ports};
    m.api.desc = &m.desc;
    m.bundle.api = &m.api;
    ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_OK);
    int64_t n = 8, other = 9, minus = -1, one = 1, big = 501, huge = INT64_MAX;
    accelc_value good[2] = {tensor(F32, 1, &n, X, 32), tensor(F32, 1, &n, Y, 32)}, in[2];
    pipe_data(X, Y, 8);
#define BAD(change, status, text)                                                                  \
    do {                                                                                           \
        memcpy(in, good, sizeof in);                                                               \
        change;                                                                                    \
        out = (accelc_value){0};                                                                   \
        ck_assert_int_eq(accelc_rt1_run(m.s, in, &out), status);                                   \
        ck_assert_str_eq(accelc_rt1_error(m.s), text);                                             \
        ck_assert_ptr_null(out.data);                                                              \
        ck_assert_int_eq(accelc_rt1_run(m.s, good, &out), ACCELC_OK);                              \
        ck_assert_str_eq(accelc_rt1_error(m.s), "");                                               \
        pipe_check(X, Y, out.data, 8);                                                             \
    } while (0)
    BAD(in[0].rank = 2, ACCELC_ESHAPE, "input \"x\": expected rank 1, got 2");
    BAD(in[1].dtype = I64, ACCELC_EDTYPE, "input \"y\": expected type float32, got int64");
    BAD(in[1].dtype = 999, ACCELC_EDTYPE, "input \"y\": expected type float32, got undefined");
    BAD(in[1].dims = &other, ACCELC_ESHAPE,
        "input \"y\": dimension 0 (\"len\"): expected 8, got 9");
    BAD(in[0].dims = &minus, ACCELC_ESHAPE, "input \"x\": dimension 0 is -1");
    BAD(in[0].dims = &one, ACCELC_ESHAPE,
        "input \"x\": dimension 0 (\"len\"): expected 2 to 500, got 1");
    BAD(in[0].dims = &big, ACCELC_ESHAPE,
        "input \"x\": dimension 0 (\"len\"): expected 2 to 500, got 501");
    BAD(in[0].dims = &huge, ACCELC_ESHAPE,
        "input \"x\": dimension 0 (\"len\"): expected 2 to 500, got 9223372036854775807");
    BAD(in[0].dims = NULL, ACCELC_EINVAL, "input \"x\": dims is NULL");
    BAD(in[0].data = NULL, ACCELC_EINVAL, "input \"x\": data is NULL");
    BAD(in[1].bytes = 31, ACCELC_EINVAL, "input \"y\": expected 32 bytes, got 31");
    BAD(in[1].data = (char *)Y + 2, ACCELC_EINVAL, "input \"y\": data is not aligned to 4 bytes");
    BAD(in[1].kind = ACCELC_ABSENT, ACCELC_EINVAL, "input \"y\" is missing");
    BAD(in[1].kind = ACCELC_SEQUENCE, ACCELC_EINVAL,
        "input \"y\": expected a tensor, got a sequence");
    BAD(in[1].device = 1, ACCELC_EDEVICE, "input \"y\" is on device 1, the model runs on the host");
    ck_assert_int_eq(accelc_rt1_run(m.s, NULL, &out), ACCELC_EINVAL);
    ck_assert_int_eq(accelc_rt1_run(NULL, good, &out), ACCELC_EINVAL);
    model_close(&m);
}
END_TEST

START_TEST(test_overflow_and_guards) {
    Pb *b = pb_new();
    int32_t n = pb_sym(b), k = pb_sym(b), four = pb_const(b, 4), nk = pb_op(b, RT_DIM_MUL, n, k);
    int32_t bytes = pb_op(b, RT_DIM_MUL, nk, four);
    pb_op(b, RT_DIM_FLOORDIV, n, k);
    int32_t x = pb_in(b, "x", F32, 2, DIMS(n, k), bytes),
            z = pb_out(b, "z", F32, 2, DIMS(n, k), bytes);
    pb_guard(b, RT_CMP_LE, n, k, "Node 'r': n must not exceed k");
    pb_entry(b);
    pb_kernel(b, SCALE, nk, 1, 1, LIST(x, z, ), LIST());
    pb_step(b, RT_END);
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, THREADS(2)), ACCELC_OK);
    int64_t wide[] = {INT64_MAX / 2, 3}, zero[] = {2, 0}, swapped[] = {3, 2}, good[] = {2, 3};
    accelc_value in = tensor(F32, 2, wide, X, SIZE_MAX), out = {0};
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_ESHAPE);
    ck_assert_ptr_nonnull(
        strstr(accelc_rt1_error(m.s), "product of 4611686018427387903 and 3 overflows"));
    in.dims = zero;
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_ESHAPE); /* n / 0 */
    in.dims = swapped;
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_ESHAPE);
    ck_assert_str_eq(accelc_rt1_error(m.s), "Node 'r': n must not exceed k (got 3 and 2)");
    in.dims = good;
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_OK);
    ck_assert_int_eq(out.dims[1], 3);
    model_close(&m);
}
END_TEST

START_TEST(test_dim_program) {
    Pb *b = pb_new();
    static const struct {
        uint32_t op;
        int64_t a, b, want;
    } t[] = {
        {RT_DIM_ADD, 2, 3, 5},        {RT_DIM_SUB, 2, 3, -1},       {RT_DIM_MUL, -2, 3, -6},
        {RT_DIM_FLOORDIV, -7, 2, -4}, {RT_DIM_FLOORDIV, 7, -2, -4}, {RT_DIM_FLOORDIV, 7, 2, 3},
        {RT_DIM_CEILDIV, 7, 2, 4},    {RT_DIM_CEILDIV, -7, 2, -3},  {RT_DIM_CEILDIV, 6, 2, 3},
        {RT_DIM_MOD, -7, 3, 2},       {RT_DIM_MOD, 7, -3, -2},      {RT_DIM_MOD, INT64_MIN, -1, 0},
        {RT_DIM_MIN, 4, 5, 4},        {RT_DIM_MAX, 4, 5, 5},        {RT_DIM_BCAST, 1, 9, 9},
        {RT_DIM_BCAST, 8, 1, 8},      {RT_DIM_EQ, 3, 3, 1},         {RT_DIM_EQ, 3, 4, 0},
        {RT_DIM_LT, 3, 4, 1},         {RT_DIM_LT, 4, 4, 0}};
    enum { COUNT = sizeof t / sizeof *t };
    int32_t d[COUNT], sel[2];
    for (int i = 0; i < COUNT; i++) {
        int32_t x = pb_const(b, t[i].a), y = pb_const(b, t[i].b);
        d[i] = pb_op(b, t[i].op, x, y);
    }
    for (int i = 0; i < 2; i++)
        sel[i] = pb_op_to(b, pb_dim(b), RT_DIM_SELECT, d[16 + i], d[0], d[1]);
    pb_entry(b);
    pb_step(b, RT_END);
    b->p.flags = RT_STATIC;
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_OK);
    for (int i = 0; i < COUNT; i++) ck_assert_int_eq(m.s->dims[d[i]], t[i].want);
    ck_assert_int_eq(m.s->dims[sel[0]], 5);
    ck_assert_int_eq(m.s->dims[sel[1]], -1);
    ck_assert_int_eq(accelc_rt1_run(m.s, NULL, NULL), ACCELC_OK); /* no inputs, no outputs */
    model_close(&m);
}
END_TEST

START_TEST(test_data_dependent) {
    M m;
    model_init(&m, plan_compact(50));
    ck_assert_int_eq(model_open(&m, THREADS(1 + _i)), ACCELC_OK);
    for (int r = 0; r < 30; r++) {
        int64_t n = 10 + r, k = 0;
        for (int i = 0; i < n; i++) k += (X[i] = (float)((i * (r + 1)) % 3)) != 0;
        accelc_value in = tensor(F32, 1, &n, X, (size_t)n * 4),
                     out[2] = {{.data = r % 2 ? Z : NULL, .bytes = 400}, {0}};
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, out), ACCELC_OK);
        for (int o = 0; o < 2; o++) {
            const float *z = out[o].data;
            ck_assert_int_eq(out[o].dims[0], k);
            for (int64_t i = 0, j = k; i < n; i++)
                if (X[i] != 0) ck_assert_float_eq(z[--j], X[i] * 1.25f + 0.5f);
        }
    }
    int64_t n = 60;
    for (int i = 0; i < n; i++) X[i] = 1;
    accelc_value in = tensor(F32, 1, &n, X, 240), out[2] = {{0}, {0}};
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, out), ACCELC_EDATA);
    ck_assert_str_eq(accelc_rt1_error(m.s), "node: expected a value from 0 to 50, got 60");
    n = 5;
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, out), ACCELC_OK);
    ck_assert_int_eq(out[1].dims[0], 5);
    model_close(&m);
}
END_TEST

START_TEST(test_space_and_fetch) {
    M m;
    model_init(&m, plan_compact(-1));
    ck_assert_int_eq(model_open(&m, THREADS(2)), ACCELC_OK);
    int64_t n = 12;
    for (int i = 0; i < n; i++) X[i] = i < 9 ? (float)(i + 1) : 0;
    float small[4] = {7, 7, 7, 7}, exact[9];
    accelc_value in = tensor(F32, 1, &n, X, 48),
                 out[2] = {{.data = small, .bytes = 16}, {.data = exact, .bytes = 36}};
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, out), ACCELC_ESPACE);
    ck_assert_str_eq(accelc_rt1_error(m.s), "output \"z\" needs 36 bytes, its buffer has 16");
    ck_assert_int_eq(out[0].dims[0], 9);
    ck_assert_int_eq(out[1].dims[0], 9);
    ck_assert(out[0].data == small && small[0] == 7);
    accelc_value v = {.data = small, .bytes = 16};
    ck_assert_int_eq(accelc_rt1_fetch(m.s, 0, &v), ACCELC_ESPACE);
    v = (accelc_value){.data = exact, .bytes = sizeof exact};
    ck_assert_int_eq(accelc_rt1_fetch(m.s, 0, &v), ACCELC_OK);
    for (int i = 0; i < 9; i++) ck_assert_float_eq(exact[i], X[8 - i] * 1.25f + 0.5f);
    v = (accelc_value){
        0}; /* lent; the bound of w is 48 bytes, so it was computed in the session's space */
    ck_assert_int_eq(accelc_rt1_fetch(m.s, 1, &v), ACCELC_OK);
    ck_assert(v.owned && v.bytes == 36 && v.dims[0] == 9);
    ck_assert_mem_eq(v.data, exact, sizeof exact);
    out[0].bytes = 36, out[0].data = exact, out[1] = (accelc_value){0};
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, out), ACCELC_OK);
    ck_assert(out[1].owned);
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, out),
                     ACCELC_OK); /* `owned` of last time is no buffer of the caller */
    in.rank = 0;
    ck_assert_int_eq(accelc_rt1_run(m.s, &in, out), ACCELC_ESHAPE);
    ck_assert_int_eq(accelc_rt1_fetch(m.s, 1, &v), ACCELC_EINVAL); /* no result now */
    model_close(&m);
}
END_TEST

/* for (i = 0; i < trips; i++) y[i] = i * 2, through a view whose offset changes, if trips > 0; a
 * branch around it. */
START_TEST(test_loop) {
    Pb *b = pb_new();
    int32_t n = pb_sym(b), i = pb_sym(b), four = pb_const(b, 4), one = pb_const(b, 1),
            zero = pb_const(b, 0);
    int32_t bytes = pb_op(b, RT_DIM_MUL, n, four);
    pb_in(b, "x", F32, 1, DIMS(n), bytes);
    int32_t y = pb_out(b, "y", F32, 1, DIMS(n), bytes);
    pb_entry(b);
    int32_t more = pb_dim(b), off = pb_dim(b), twice = pb_dim(b);
    pb_op_to(b, more, RT_DIM_LT, i, n, -1);
    pb_op_to(b, off, RT_DIM_MUL, i, four, -1);
    pb_op_to(b, twice, RT_DIM_ADD, i, i, -1);
    int32_t v = pb_view(b, y, 0, off, four);
    pb_ctl(b, RT_SET, i, zero, 0);
    pb_ctl(b, RT_DIMS, (int32_t)b->p.entry_dimops, (int32_t)b->p.dimop.n, 0); /* 1 */
    pb_ctl(b, RT_BRANCH, 6, more, 0);
    pb_kernel(b, FILL, one, 1, 1, LIST(v, ), LIST(twice, ));
    pb_ctl(b, RT_SET, i, i, 1);
    pb_ctl(b, RT_JUMP, 1, 0, 0);
    pb_step(b, RT_END); /* 6 */
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, THREADS(1 + _i)), ACCELC_OK);
    for (int64_t k = 0; k < 40; k = k * 2 + 1)
        for (int r = 0; r < 2; r++) {
            accelc_value in = tensor(F32, 1, &k, X, (size_t)k * 4),
                         out = {.data = r ? Z : NULL, .bytes = sizeof Z};
            ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_OK);
            for (int64_t j = 0; j < k; j++)
                ck_assert_float_eq(((float *)out.data)[j], (float)(2 * j));
        }
    model_close(&m);
}
END_TEST

START_TEST(test_views_and_passthrough) { /* outputs that are views, inputs, weights */
    static _Alignas(64) const float weights[20] = {1, 2, 3, 4};
    Pb *b = pb_new();
    int32_t two = pb_const(b, 2), four = pb_const(b, 4), eight = pb_const(b, 8),
            bytes = pb_const(b, 16);
    int32_t x = pb_in(b, "x", F32, 1, DIMS(four), bytes);
    pb_out(b, "same", F32, 1, DIMS(four), bytes);
    b->out[0].buf = x;
    b->p.buf.n--;
    int32_t w = pb_buf(b, RT_BUF_WEIGHT, F32, bytes);
    int32_t t = pb_arena(b, F32, bytes, 0, 10), half = pb_view(b, t, 8, -1, eight),
            deep = pb_view(b, half, -4, -1, eight);
    b->out[b->p.out.n++] = pb_port(b, "w", F32, 1, DIMS(four), w, 0, 0, 0);
    b->out[b->p.out.n++] = pb_port(b, "half", F32, 1, DIMS(two), half, 0, 0, 0);
    b->out[b->p.out.n++] = pb_port(b, "deep", F32, 1, DIMS(two), deep, 0, 0, 0);
    int32_t root = pb_out(b, "root", F32, 1, DIMS(four), bytes), v = pb_view(b, root, 8, -1, eight);
    pb_entry(b);
    pb_kernel(b, ADD, four, 1, 1, LIST(x, w, t, ), LIST());
    pb_kernel(b, SCALE, two, 1, 0, LIST(half, root, ), LIST());
    pb_kernel(b, SCALE, two, 1, 1, LIST(deep, v, ), LIST());
    pb_step(b, RT_END);
    b->p.flags = RT_STATIC;
    M m;
    model_init(&m, b);
    m.model.weights = weights;
    ck_assert_int_eq(model_open(&m, THREADS(2)), ACCELC_OK);
    int64_t n = 4;
    for (int r = 0; r < 4; r++) {
        float x4[4] = {10, 20, 30, 40}, o[5][4];
        accelc_value in = tensor(F32, 1, &n, x4, 16), out[5];
        for (int i = 0; i < 5; i++)
            out[i] = (accelc_value){.data = r & 1 ? o[i] : NULL, .bytes = 16};
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, out), ACCELC_OK);
        memset(x4, 0, sizeof x4); /* results do not depend on the caller's input any more */
        const float *y[5];
        for (int i = 0; i < 5; i++) y[i] = out[i].data;
        ck_assert(y[0][0] == 10 && y[0][3] == 40 && y[1][2] == 3);
        ck_assert(y[2][0] == 33 && y[2][1] == 44 && y[3][0] == 22 && y[3][1] == 33);
        ck_assert(y[4][0] == 33 * 1.25f + .5f && y[4][1] == 44 * 1.25f + .5f &&
                  y[4][2] == 22 * 1.25f + .5f);
    }
    model_close(&m);
}
END_TEST

START_TEST(test_state) { /* total += x, kept by the session; optional inputs */
    Pb *b = pb_new();
    int32_t n = pb_sym(b), four = pb_const(b, 4), bytes = pb_op(b, RT_DIM_MUL, n, four);
    int32_t s = pb_in(b, "past", F32, 1, DIMS(n), bytes), x = pb_in(b, "x", F32, 1, DIMS(n), bytes);
    int32_t y = pb_out(b, "total", F32, 1, DIMS(n), bytes);
    pb_entry(b);
    pb_kernel(b, ADD, n, 1, 1, LIST(s, x, y, ), LIST());
    pb_step(b, RT_END);
    M m;
    model_init(&m, b);
    accelc_dim dims[1] = {{"n", 0, -1}};
    accelc_port ports[2] = {{.name = "past", .rank = 1, .dims = dims, .state = 0},
                            {.name = "x", .rank = 1, .dims = dims, .state = -1}};
    m.desc = (accelc_desc){.size = sizeof m.desc, .nin = 2, .nout = 1, .nsym = 1, .in = ports};
    m.api.desc = &m.desc;
    m.bundle.api = &m.api;
    ck_assert_int_eq(model_open(&m, THREADS(2)), ACCELC_OK);
    for (int64_t len = 3; len < 400; len *= 10) {
        for (int i = 0; i < len; i++) X[i] = (float)i, Y[i] = 100;
        for (int r = 1; r < 6; r++) {
            accelc_value in[2] = {{.kind = ACCELC_ABSENT}, tensor(F32, 1, &len, X, sizeof X)};
            accelc_value out = {.data = r == 2 ? Z : NULL, .bytes = sizeof Z};
            if (r == 4) in[0] = tensor(F32, 1, &len, Y, sizeof Y);
            ck_assert_int_eq(accelc_rt1_run(m.s, in, &out), ACCELC_OK);
            for (int i = 0; i < len; i++)
                ck_assert_float_eq(((float *)out.data)[i],
                                   r < 4 ? (float)(i * r) : (float)(100 + i * (r - 3)));
        }
        int64_t more = len + 1; /* does not agree with the state */
        accelc_value in[2] = {{.kind = ACCELC_ABSENT}, tensor(F32, 1, &more, X, sizeof X)},
                     out = {0};
        ck_assert_int_eq(accelc_rt1_run(m.s, in, &out), ACCELC_ESHAPE);
        ck_assert_int_eq(accelc_rt1_reset(m.s), ACCELC_OK);
    }
    model_close(&m);
}
END_TEST

START_TEST(test_seed) {
    Pb *b = pb_new();
    int32_t seed = pb_sym(b), run = pb_sym(b), one = pb_const(b, 1), four = pb_const(b, 4);
    int32_t y = pb_out(b, "y", F32, 1, DIMS(one), four),
            z = pb_out(b, "z", F32, 1, DIMS(one), four);
    pb_entry(b);
    pb_ctl(b, RT_SEED, seed, run, 0);
    pb_kernel(b, FILL, one, 1, 0, LIST(y, ), LIST(seed, ));
    pb_kernel(b, FILL, one, 1, 1, LIST(z, ), LIST(run, ));
    pb_step(b, RT_END);
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, (accelc_config){.threads = 1, .seed = 77}), ACCELC_OK);
    for (int r = 0; r < 6; r++) {
        accelc_value out[2] = {{0}, {0}};
        ck_assert_int_eq(accelc_rt1_run(m.s, NULL, out), ACCELC_OK);
        ck_assert(*(float *)out[0].data == 77 && *(float *)out[1].data == (float)(r % 3));
        if (r == 2) accelc_rt1_reset(m.s);
    }
    model_close(&m);
}
END_TEST

START_TEST(test_levels) {
    M m;
    model_init(&m, plan_pipe(N, 0, 10));
    rt_model future = m.model, plain = m.model;
    future.level = "x86-64-v9";
    const rt_model *list[2] = {&future, &plain};
    m.bundle.model = list;
    m.bundle.nmodel = 2;
    ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_OK);
    ck_assert_ptr_eq(m.s->model, &plain);
    accelc_rt1_destroy(m.s);
    ck_assert_int_eq(model_open(&m, (accelc_config){.threads = 1, .cpu = "x86-64"}), ACCELC_OK);
    accelc_rt1_destroy(m.s);
    ck_assert_int_eq(model_open(&m, (accelc_config){.cpu = "x86-64-v9"}), ACCELC_ECPU);
    ck_assert_str_eq(m.msg, "this CPU does not have level \"x86-64-v9\"");
    ck_assert_int_eq(model_open(&m, (accelc_config){.cpu = "x86-64-v3"}), ACCELC_ECPU);
    ck_assert_str_eq(m.msg,
                     "the model has no code for level \"x86-64-v3\", only for x86-64-v9, x86-64");
    m.bundle.nmodel = 1;
    ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_ECPU);
    ck_assert_ptr_null(m.s);
#if defined(__x86_64__)
    __builtin_cpu_init();
    ck_assert_int_eq(level_runs("x86-64-v3"),
                     __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
    ck_assert_int_eq(level_runs("x86-64-v4"),
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"));
    ck_assert_int_eq(level_runs("x86-64-v4+vnni"), __builtin_cpu_supports("avx512vnni") != 0);
#endif
    ck_assert(!level_runs("x86-64-v3+nonsense") && !level_runs("x86-64-") &&
              !level_runs("x86-64-v3x"));
    model_close(&m);
}
END_TEST

START_TEST(test_broken_plans) {
    M m;
    static const struct {
        int what;
        const char *text;
    } t[] = {{0, "broken plan: step 0: argument"},
             {1, "broken plan: buffer 0: index"},
             {2, "broken plan: dimop 0: operation or dim"},
             {3, "the model was made by an incompatible compiler"},
             {4, "broken plan: step 3: operation"}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        Pb *b = plan_pipe(N, 0, 10);
        if (t[i].what == 0)
            b->arg[1] = 99;
        else if (t[i].what == 1)
            b->buf[0].index = 2;
        else if (t[i].what == 2)
            b->dimop[0].dst = 1000;
        else if (t[i].what == 3)
            b->p.version = 2;
        else
            b->step[3].op = 77;
        model_init(&m, b);
        ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_EABI);
        ck_assert_str_eq(m.msg, t[i].text);
        model_close(&m);
    }
}
END_TEST

static void add(TCase *c) {
    tcase_add_loop_test(c, test_static_run, 1, 4);
    tcase_add_loop_test(c, test_dynamic_shapes, 1, 4);
    tcase_add_test(c, test_bad_inputs);
    tcase_add_test(c, test_overflow_and_guards);
    tcase_add_test(c, test_dim_program);
    tcase_add_loop_test(c, test_data_dependent, 0, 3);
    tcase_add_test(c, test_space_and_fetch);
    tcase_add_loop_test(c, test_loop, 0, 2);
    tcase_add_test(c, test_views_and_passthrough);
    tcase_add_test(c, test_state);
    tcase_add_test(c, test_seed);
    tcase_add_test(c, test_levels);
    tcase_add_test(c, test_broken_plans);
}

int main(void) { return run_suite("runtime", add); }
