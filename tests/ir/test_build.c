/* test_build.c: the builder and what stands behind it: known elements, broadcasting, guards, order, copies, groups,
 * regions, messages, the verifier. Graphs are small; values are checked with the reference evaluator. */
#include "ir/ir.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static Ctx *c;
static Graph *g;
static B bld, *b = &bld;

static void setup(void) {
    c = ctx_new();
    g = graph_new(c, "test", NULL);
    bld = builder(g, (Loc){0});
}
static void teardown(void) { ctx_free(c); }

/* ==== helpers ===================================================================================================== */

static Dim K(int64_t v) { return dim_const(c, v); }
static Dim S(const char *name) { return dim_sym(c, name, 0, DIM_INF); }
static Dim S1(const char *name) { return dim_sym(c, name, 2, DIM_INF); } /* never 1 */

static Val input(DType t, int rank, const Dim *dim) { return graph_input(g, NULL, type_tensor(c, t, rank, dim)); }
#define INPUT(t, ...) input(t, (int)(sizeof((Dim[]){__VA_ARGS__}) / sizeof(Dim)), (Dim[]){__VA_ARGS__})

static Val ints(int n, const int64_t *v) { return b_const_i64(b, 1, &(int64_t){n}, v); }
#define INTS(...) ints((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (int64_t[]){__VA_ARGS__})

static Scalar F(double f) { return (Scalar){.t = DT_F32, .f = f}; }

static int count(PrimOp op) {
    int n = 0;
    for (uint32_t k = 0; k < g->node.n; k++) n += g->node.v[k]->op == op;
    return n;
}

static void type_is(Val v, const char *want) {
    Buf s = {.c = c};
    type_print(&s, c, val_type(g, v));
    ck_assert_str_eq(buf_str(&s), want);
}

static const char *elem_text(Val v, int64_t k) {
    int64_t n;
    const Dim *e = val_elems(g, v, &n);
    Buf s = {.c = c};
    if (e && k < n) dim_print(&s, c, e[k]);
    else buf_puts(&s, "unknown");
    return buf_str(&s);
}
#define elem_is(v, k, want) do { \
        Buf s_ = {.c = c}; \
        dim_print(&s_, c, want); \
        ck_assert_str_eq(elem_text(v, k), buf_str(&s_)); \
    } while (0)

static void no_messages(void) { ck_assert_str_eq(ctx_messages(c), ""); }

static void message(const char *code, const char *part) {
    const char *m = ctx_messages(c);
    ck_assert_msg(strstr(m, code) && strstr(m, part), "expected %s with \"%s\", got: %s", code, part, m);
}

static void verify_ok(void) {
    bool ok = graph_verify(g, "test");
    ck_assert_msg(ok, "%s", ctx_messages(c));
}

static Tensor *floats(int rank, const int64_t *dim) {
    Tensor *t = tensor_new(c, DT_F32, rank, dim);
    for (int64_t k = 0; k < tensor_count(t); k++) ((float *)t->data)[k] = (float)((k * 7) % 11) - 4;
    return t;
}

static Val unsqueeze(Val v) { return b_reshape(b, v, 1, (Dim[]){K(1)}); }
static Val element(Val v, int64_t k) { return unsqueeze(b_gather(b, v, b_scalar(b, (Scalar){.t = DT_I64, .i = k}), 0, OOB_FAIL)); }

/* ==== known elements ============================================================================================== */

START_TEST(shape_chain_is_symbolic) {
    Val x = INPUT(DT_F32, S("N"), K(12), S("T"));
    Val s = b_shape(b, x);
    elem_is(s, 0, S("N"));
    Val n = element(s, 0), t = element(s, -1);
    Val area = b_binary(b, S_MUL, n, t);
    Val parts[3] = {area, INTS(3), b_binary(b, S_DIV, INTS(12), INTS(3))};
    Val to = b_concat(b, 3, parts, 0);
    elem_is(to, 0, dim_mul(c, S("N"), S("T")));
    elem_is(to, 2, K(4));
    const Dim *d = val_elems(g, to, NULL);
    Val y = b_reshape(b, b_permute(b, x, (int[]){0, 2, 1}), 3, d);
    type_is(y, "f32[N*T,3,4]");
    ck_assert_int_eq(count(P_GUARD), 0);
    graph_output(g, "y", y);
    graph_tidy(g);
    ck_assert_int_eq((int)g->node.n, 2);
    verify_ok();
    no_messages();
}
END_TEST

START_TEST(elements_through_every_carrier) {
    Val x = INPUT(DT_F32, S("N"), K(5), S("M"));
    Val s = b_shape(b, x);
    elem_is(b_slice_axis(b, s, 0, K(1), K(2)), 1, S("M"));
    Val back = b_slice(b, s, (Dim[]){K(2)}, (int64_t[]){-1}, (Dim[]){K(3)});
    elem_is(back, 0, S("M"));
    elem_is(back, 2, S("N"));
    Val grid = b_broadcast(b, s, 2, (Dim[]){K(2), K(3)});
    elem_is(b_permute(b, grid, (int[]){1, 0}), 4, S("M"));
    elem_is(b_reduce1(b, R_PROD, s, 1, false), 0, dim_muli(c, dim_mul(c, S("N"), S("M")), 5));
    elem_is(b_reduce1(b, R_SUM, s, 1, true), 0, dim_addi(c, dim_add(c, S("N"), S("M")), 5));
    elem_is(b_reduce1(b, R_MAX, INTS(3, 9, 4), 1, false), 0, K(9));
    elem_is(b_cast(b, b_cast(b, s, DT_I32), DT_I64), 0, S("N"));
    elem_is(b_gather(b, s, INTS(-1, 0), 0, OOB_FAIL), 0, S("M"));
    /* Where(shape == -1, ones, shape), as exporters write Expand */
    Val wild = b_binary(b, S_EQ, s, INTS(-1, -1, -1));
    elem_is(b_select(b, wild, INTS(1, 1, 1), s), 0, S("N"));
    Val half = b_binary(b, S_DIV, s, b_scalar(b, (Scalar){.t = DT_I64, .i = 2}));
    elem_is(half, 0, dim_floordiv(c, S("N"), K(2)));
    /* truncated, -1 / 2 is 0 */
    Val fewer = b_binary(b, S_SUB, s, INTS(1, 1, 1));
    elem_is(b_binary(b, S_DIV, fewer, INTS(2, 2, 2)), 0, dim_floordiv(c, dim_max(c, dim_addi(c, S("N"), -1), K(0)), K(2)));
    /* 9 anchors at each of all positions, by the positions */
    Dim all = dim_add(c, dim_mul(c, S("N"), S("M")), dim_floordiv(c, S("N"), K(2)));
    elem_is(b_binary(b, S_DIV, b_dim_scalar(b, dim_muli(c, all, 9)), b_dim_scalar(b, all)), 0, K(9));
    elem_is(b_binary(b, S_MIN, s, INTS(INT64_MAX, INT64_MAX, 3)), 0, S("N"));
    elem_is(b_dim_scalar(b, S("N")), 0, S("N"));
    /* Range(0, 4): a map over coordinates */
    Expr e = expr_op(c, S_MUL, expr_axis(c, 0), expr_int(c, DT_I64, 3), (Expr){0});
    Val r;
    b_map(b, 1, &e, 0, NULL, 1, (Dim[]){K(4)}, &r);
    elem_is(r, 3, K(9));
    ck_assert(val_const(g, r) != NULL);
    no_messages();
}
END_TEST

START_TEST(unknown_elements_stay_unknown) {
    Val v = INPUT(DT_I64, K(3));
    ck_assert_ptr_null(val_elems(g, v, NULL));
    Val cat = b_concat(b, 2, (Val[]){v, INTS(7)}, 0);
    ck_assert_ptr_null(val_elems(g, cat, NULL));
    ck_assert_ptr_null(val_elems(g, b_shape(b, (Val){0}), NULL));
    /* INT64_MAX + 1 wraps, as the scalar does: no overflow message */
    elem_is(b_binary(b, S_ADD, INTS(INT64_MAX), INTS(1)), 0, K(INT64_MIN));
    Val s = b_shape(b, INPUT(DT_F32, S("N")));
    ck_assert_ptr_null(val_elems(g, b_binary(b, S_ADD, s, INTS(INT64_MAX)), NULL));
    ck_assert_ptr_null(val_elems(g, b_binary(b, S_DIV, INTS(5), s), NULL)); /* N may be 0 */
    ck_assert_ptr_null(val_elems(g, b_binary(b, S_DIV, b_binary(b, S_SUB, s, INTS(2)), s), NULL));
    no_messages();
}
END_TEST

/* Exporters compute the sizes of what a convolution leaves before it, and so before the guard that its operand is large enough. */
START_TEST(truncated_quotients_learn_from_guards) {
    Dim n = S("N"), less = dim_addi(c, n, -9);
    Val quotient = b_binary(b, S_DIV, b_binary(b, S_SUB, b_shape(b, INPUT(DT_F32, n)), INTS(9)), INTS(8));
    Dim e = *val_elems(g, quotient, NULL);
    int64_t sym[8] = {0}, got;
    ck_assert_uint_le(dim_nsyms(c), 8);
    for (int64_t v = 0; v < 30; v++) {
        sym[dim_info(c, n)->val] = v;
        ck_assert(dim_eval(c, e, sym, &got));
        ck_assert_int_eq(got, (v - 9) / 8);
    }
    b_guard(b, G_LE, K(9), n, "too small");
    ck_assert(dim_same(c, e, dim_floordiv(c, less, K(8))));
    elem_is(b_binary(b, S_DIV, b_dim_scalar(b, less), b_scalar(b, (Scalar){.t = DT_I64, .i = 4})), 0, dim_floordiv(c, less, K(4)));
    no_messages();
}
END_TEST

static Val scalar(float f) { return b_scalar(b, F(f)); }

/* i64(round(f32(n) / by * times + more)) is a quotient of integers for all n that the guards let through. */
static void quotient_in_floats(Dim n, SOp round, float by, float times, float more) {
    uint32_t before = g->node.n;
    Val f = b_binary(b, S_DIV, b_cast(b, b_dim_scalar(b, n), DT_F32), scalar(by));
    if (times != 1) f = b_binary(b, S_MUL, f, scalar(times));
    f = b_binary(b, S_ADD, f, scalar(more));
    const Dim *e = val_elems(g, b_cast(b, round == S_COUNT ? f : b_unary(b, round, f), DT_I64), NULL);
    ck_assert_msg(e != NULL, "%d / %g * %g + %g", round, by, times, more);
    int64_t most = 1 << 23, got, sym[32] = {0};
    for (uint32_t k = before; k < g->node.n; k++) {
        const GuardAttr *a = g->node.v[k]->attr;
        if (g->node.v[k]->op == P_GUARD)
            while (most > 0 && (sym[dim_info(c, n)->val] = most, dim_eval(c, a->a, sym, &got) && got > dim_hi(c, a->b))) most -= 1;
    }
    ck_assert_int_gt(most, 1 << 21);
    for (int64_t i = 0; i < 40000; i++) {
        int64_t v = i < 20000 ? i : most - (i - 20000);
        float x = (float)v / by * times + more;
        x = round == S_CEIL ? ceilf(x) : round == S_FLOOR ? floorf(x) : x;
        sym[dim_info(c, n)->val] = v;
        ck_assert(dim_eval(c, *e, sym, &got));
        ck_assert_msg(got == (int64_t)x, "%lld / %g * %g + %g: %lld", (long long)v, by, times, more, (long long)got);
    }
}

START_TEST(sizes_through_floats) {
    static const SOp rounds[] = {S_CEIL, S_FLOOR, S_COUNT};
    for (int r = 0; r < 3; r++) {
        quotient_in_floats(dim_fresh(c, "t", 0, DIM_INF), rounds[r], 1, 1, 1);
        quotient_in_floats(dim_fresh(c, "t", 0, DIM_INF), rounds[r], 2, 0.75f, 3);
        quotient_in_floats(dim_fresh(c, "t", 0, DIM_INF), rounds[r], 3, 1, 1);
        quotient_in_floats(dim_fresh(c, "t", 0, DIM_INF), rounds[r], 320, 1, 7);
    }
    Val f = b_cast(b, b_dim_scalar(b, S("N")), DT_F32), third = b_binary(b, S_DIV, f, scalar(3));
    elem_is(b_cast(b, b_unary(b, S_CEIL, third), DT_I64), 0, dim_ceildiv(c, S("N"), K(3)));
    elem_is(b_cast(b, b_binary(b, S_ADD, f, b_cast(b, b_dim_scalar(b, S("M")), DT_F32)), DT_I64), 0, dim_add(c, S("N"), S("M")));
    /* What is rounded twice may be no integer that it should be. */
    ck_assert_ptr_null(val_elems(g, b_cast(b, b_binary(b, S_MUL, third, scalar(3)), DT_I64), NULL));
    ck_assert_ptr_null(val_elems(g, b_cast(b, b_binary(b, S_ADD, third, third), DT_I64), NULL));
    ck_assert_ptr_null(val_elems(g, b_cast(b, b_binary(b, S_ADD, third, scalar(0.5f)), DT_I64), NULL));
    ck_assert_ptr_null(val_elems(g, b_cast(b, b_binary(b, S_MUL, f, scalar(0.1f)), DT_I64), NULL));
    ck_assert_ptr_null(val_elems(g, b_cast(b, b_binary(b, S_ADD, f, scalar(INFINITY)), DT_I64), NULL));
    /* Nor is what is always too large: no guard could let it through. */
    Val large = b_cast(b, b_dim_scalar(b, dim_fresh(c, "large", 1 << 25, DIM_INF)), DT_F32);
    ck_assert_ptr_null(val_elems(g, b_cast(b, b_unary(b, S_FLOOR, b_binary(b, S_DIV, large, scalar(3))), DT_I64), NULL));
    no_messages();
}
END_TEST

START_TEST(small_constants_fold) {
    int64_t two = 2;
    float f[2] = {1.5f, 2.0f};
    ConstData d = {.dtype = DT_F32, .count = 2, .data = f, .bytes = sizeof f};
    Val k = b_const(b, &d, type_consts(c, DT_F32, 1, &two));
    Val n = b_cast(b, b_shape(b, INPUT(DT_F32, K(4), K(10))), DT_F32);
    Val size = b_cast(b, b_unary(b, S_FLOOR, b_binary(b, S_MUL, n, k)), DT_I64);
    elem_is(size, 0, K(6));
    elem_is(size, 1, K(20));
    Val half = b_splat(b, F(0.5), 2, (Dim[]){S("N"), K(3)});
    Val one = b_binary(b, S_ADD, half, b_scalar(b, F(0.5)));
    Scalar s;
    ck_assert(val_scalar(g, one, &s) && s.f == 1.0);
    type_is(one, "f32[N,3]");
    no_messages();
}
END_TEST

/* ==== simplification ============================================================================================== */

START_TEST(identities_vanish) {
    Val x = INPUT(DT_F32, S("N"), K(4), K(6));
    const Dim *d = val_type(g, x)->dim;
    Val bool_x;
    ck_assert_uint_eq(b_reshape(b, x, 3, d).i, x.i);
    ck_assert_uint_eq(b_permute(b, x, (int[]){0, 1, 2}).i, x.i);
    ck_assert_uint_eq(b_broadcast(b, x, 3, d).i, x.i);
    ck_assert_uint_eq(b_slice(b, x, (Dim[]){K(0), K(0), K(0)}, NULL, d).i, x.i);
    ck_assert_uint_eq(b_concat(b, 1, &x, 1).i, x.i);
    Dim z[3] = {K(0), K(0), K(0)};
    ck_assert_uint_eq(b_pad(b, x, z, z, NULL, PAD_VALUE, F(0), (Val){0}).i, x.i);
    ck_assert_uint_eq(b_cast(b, x, DT_F32).i, x.i);
    ck_assert_uint_eq(b_map1(b, expr_arg(c, 0, DT_F32), 1, &x).i, x.i);
    ck_assert_uint_eq(b_update(b, x, x, z).i, x.i);
    ck_assert_int_eq((int)g->node.n, 0);
    Val r = b_reshape(b, b_reshape(b, x, 2, (Dim[]){S("N"), K(24)}), 3, (Dim[]){S("N"), K(6), K(4)});
    ck_assert_int_eq((int)val_def(g, r)->in[0].i, (int)x.i);
    ck_assert_uint_eq(b_reshape(b, r, 3, d).i, x.i);
    Val p = b_permute(b, x, (int[]){2, 0, 1});
    ck_assert_uint_eq(b_permute(b, p, (int[]){1, 2, 0}).i, x.i);
    Val q = b_permute(b, p, (int[]){0, 2, 1});
    ck_assert_uint_eq(val_def(g, q)->in[0].i, x.i);
    type_is(q, "f32[6,4,N]");
    bool_x = b_reduce1(b, R_SUM, b_reshape(b, x, 4, (Dim[]){S("N"), K(1), K(4), K(6)}), 2, false);
    ck_assert_uint_eq(bool_x.i, x.i); /* a sum over one element */
    Val empty = b_slice_axis(b, x, 1, K(0), K(0));
    ck_assert_uint_eq(b_concat(b, 2, (Val[]){x, empty}, 1).i, x.i);
    no_messages();
}
END_TEST

START_TEST(map_operands_are_pruned) {
    Val x = INPUT(DT_F32, S("N")), y = INPUT(DT_F32, S("N"));
    Val in[3] = {x, y, x};
    Expr e = expr_op(c, S_MUL, expr_arg(c, 0, DT_F32), expr_arg(c, 2, DT_F32), (Expr){0}), none = {0};
    Val v = b_map1(b, e, 3, in);
    const Node *n = val_def(g, v);
    ck_assert_int_eq(n->nin, 1);
    Buf s = {.c = c};
    expr_print(&s, c, ((const MapAttr *)n->attr)->body[0]);
    ck_assert_str_eq(buf_str(&s), "a * a");
    (void)none;
    graph_output(g, NULL, v);
    verify_ok();
}
END_TEST

/* ==== broadcasting and guards ===================================================================================== */

static Val add(Val x, Val y) { return b_binary(b, S_ADD, x, y); }

START_TEST(broadcast_rules) {
    Val n = INPUT(DT_F32, S("N")), m = INPUT(DT_F32, S("M")), one = INPUT(DT_F32, K(1)), ten = INPUT(DT_F32, K(10));
    type_is(add(n, n), "f32[N]");
    type_is(add(n, one), "f32[N]");
    ck_assert_int_eq(count(P_GUARD), 0);
    Val nm = add(n, m);
    type_is(nm, "f32[bcast(M,N)]");
    ck_assert_int_eq(count(P_GUARD), 1);
    type_is(add(nm, m), "f32[bcast(M,N)]"); /* fits already */
    ck_assert_int_eq(count(P_GUARD), 1);
    type_is(add(n, ten), "f32[10]");
    ck_assert_int_eq(count(P_GUARD), 2);
    const GuardAttr *a = g->node.v[g->node.n - 2]->attr;
    ck_assert_int_eq(a->cmp, G_BCAST);
    Val p = INPUT(DT_F32, S1("P")), q = INPUT(DT_F32, S1("Q"));
    add(p, q);
    a = g->node.v[g->node.n - 2]->attr;
    ck_assert_int_eq(a->cmp, G_EQ);
    ck_assert(dim_same(c, S1("P"), S1("Q")));
    type_is(add(p, ten), "f32[10]");
    ck_assert(dim_is(c, S1("Q"), 10));
    no_messages();
    ck_assert_uint_eq(add(ten, INPUT(DT_F32, K(9))).i, 0);
    message("E0301", "sizes 10 and 9 do not broadcast");
}
END_TEST

START_TEST(guards_prove_and_refute) {
    b_guard(b, G_EQ, S("N"), S("N"), "same");
    b_guard(b, G_LE, K(3), K(3), "3 <= 3");
    b_guard(b, G_LT, S("N"), dim_addi(c, S("N"), 1), "N < N+1");
    b_guard(b, G_LE, K(0), S("N"), "0 <= N");
    b_guard(b, G_BCAST, K(1), S("N"), "1 fits");
    b_guard(b, G_EQ, (Dim){0}, K(1), "poison");
    ck_assert_int_eq((int)g->node.n, 0);
    no_messages();
    b_guard(b, G_EQ, S("N"), K(4), "N is %d", 4);
    ck_assert_int_eq(count(P_GUARD), 1);
    ck_assert(dim_is(c, S("N"), 4));
    b_guard(b, G_EQ, S("N"), K(4), "again");
    ck_assert_int_eq(count(P_GUARD), 1);
    no_messages();
    b_guard(b, G_EQ, S("N"), K(5), "N is not five");
    message("E0308", "N is not five");
    b_guard(b, G_LT, dim_addi(c, S("M"), 3), S("M"), "M+3 < M");
    message("E0308", "M+3 < M");
}
END_TEST

START_TEST(bound_symbols_keep_their_check) {
    Val v = INPUT(DT_I64, K(2));
    Dim n = b_bind(b, v, 0, "n", 0, 100);
    ck_assert(dim_same(c, n, b_bind(b, v, 0, "n", 0, 100)));
    ck_assert_int_eq(count(P_BIND), 1);
    Val x = INPUT(DT_F32, K(6));
    Val y = b_reshape(b, x, 1, &n);
    ck_assert(dim_is(c, n, 6));
    graph_output(g, NULL, y);
    graph_tidy(g);
    verify_ok();
    ck_assert_int_eq(count(P_BIND), 1);
    ck_assert_int_eq(count(P_GUARD), 1);
    Tensor *in[2] = {tensor_new(c, DT_I64, 1, (int64_t[]){2}), floats(1, (int64_t[]){6})}, *out;
    ((int64_t *)in[0]->data)[0] = 6;
    ck_assert(graph_eval(c, g, (const Tensor *const *)in, &out, NULL));
    ((int64_t *)in[0]->data)[0] = 5;
    ck_assert(!graph_eval(c, g, (const Tensor *const *)in, &out, NULL));
}
END_TEST

START_TEST(bind_looks_through_movement) {
    Val v = INPUT(DT_I64, K(2)), x = INPUT(DT_F32, S("N"));
    Val cat = b_concat(b, 3, (Val[]){b_shape(b, x), v, INTS(9)}, 0);
    ck_assert(dim_same(c, b_bind(b, cat, 0, "n", 0, DIM_INF), S("N")));
    ck_assert(dim_is(c, b_bind(b, cat, 3, "n", 0, DIM_INF), 9));
    Dim d = b_bind(b, cat, 2, "n", 0, DIM_INF);
    const BindAttr *a = g->node.v[g->node.n - 1]->attr;
    ck_assert_int_eq((int)a->index, 1);
    ck_assert_uint_eq(g->node.v[g->node.n - 1]->in[0].i, v.i);
    ck_assert(dim_same(c, d, b_bind(b, v, 1, "other", 0, DIM_INF)));
    ck_assert_uint_eq(b_bind(b, INTS(-3), 0, "count", 0, DIM_INF).i, 0);
    message("E0308", "count is -3");
}
END_TEST

START_TEST(reshape_and_slice_guards) {
    Val x = INPUT(DT_F32, S("N"), S("M"));
    b_reshape(b, x, 1, (Dim[]){S("L")});
    ck_assert_int_eq(count(P_GUARD), 1);
    no_messages();
    ck_assert_uint_eq(b_reshape(b, INPUT(DT_F32, K(6)), 2, (Dim[]){K(2), K(4)}).i, 0);
    message("E0306", "cannot reshape f32[6] to f32[2,4]");
    int before = count(P_GUARD);
    Val y = b_slice_axis(b, x, 0, K(2), K(3)); /* N >= 5? */
    type_is(y, "f32[3,M]");
    ck_assert_int_eq(count(P_GUARD), before + 1);
    b_slice_axis(b, x, 0, K(0), dim_floordiv(c, S("N"), K(2)));
    ck_assert_int_eq(count(P_GUARD), before + 1);
    ck_assert_uint_eq(b_slice_axis(b, INPUT(DT_F32, K(4)), 0, K(2), K(3)).i, 0);
    message("E0307", "it cannot hold 3 elements from 2 by 1");
}
END_TEST

/* ==== messages, poison ============================================================================================ */

START_TEST(poison_spreads_silently) {
    Val p = {0}, x = INPUT(DT_F32, K(3)), out[2];
    Dim bad[1] = {{0}}, none[1];
    none[0] = K(3);
    ck_assert_uint_eq(add(p, x).i | b_unary(b, S_EXP, p).i | b_cast(b, p, DT_F16).i | b_select(b, p, x, x).i, 0);
    ck_assert_uint_eq(b_reshape(b, x, 1, bad).i | b_broadcast(b, x, 1, bad).i | b_reshape(b, p, 1, none).i, 0);
    ck_assert_uint_eq(b_slice_axis(b, x, 0, bad[0], K(1)).i | b_gather(b, x, p, 0, OOB_FAIL).i, 0);
    ck_assert_uint_eq(b_concat(b, 2, (Val[]){x, p}, 0).i | b_concat(b, 0, NULL, 0).i, 0);
    ck_assert_uint_eq(b_contract(b, "a,a->", x, p, DT_F32, DT_F32).i | b_softmax(b, p, 1).i | b_mean(b, p, 1, true).i, 0);
    ck_assert_uint_eq(b_argminmax(b, p, 0, true, true, false).i | b_shape(b, p).i | b_dims(b, 1, bad).i, 0);
    ck_assert_uint_eq(b_splat(b, F(1), 1, bad).i | b_bind(b, p, 0, "n", 0, 1).i, 0);
    b_topk(b, p, &(TopkAttr){.k = K(1)}, &out[0], &out[1]);
    ck_assert_uint_eq(out[0].i | out[1].i, 0);
    Expr none_e = {0};
    ck_assert_uint_eq(b_map1(b, none_e, 1, &x).i, 0);
    b_guard_val(b, p, "nothing");
    Val w[1] = {p};
    b_wrap(b, "Nothing", b_mark(b), 1, w);
    ck_assert_uint_eq(w[0].i, 0);
}
END_TEST

START_TEST(messages_say_what_does_not_fit) {
    Val x = INPUT(DT_F32, K(3), K(4)), h = INPUT(DT_F16, K(3), K(4)), i = INPUT(DT_I64, K(2));
    add(x, h);
    message("E0303", "f32[3,4] and f16[3,4]");
    b_contract(b, "mk,kn->mn", x, x, DT_F32, DT_F32);
    message("E0304", "sizes 4 and 3");
    b_contract(b, "mk,nk->mz", x, x, DT_F32, DT_F32);
    message("E0305", "result label 25");
    b_concat(b, 2, (Val[]){x, INPUT(DT_F32, K(3), K(5))}, 0);
    message("E0304", "concat along axis 0");
    b_gather(b, x, x, 0, OOB_FAIL);
    message("E0303", "gather with indices of type f32[3,4]");
    b_gather(b, x, i, 2, OOB_FAIL);
    message("E0305", "axis 2");
    b_permute(b, x, (int[]){0, 0});
    message("E0305", "not a permutation");
    b_broadcast(b, x, 1, (Dim[]){K(4)});
    message("E0301", "too many dimensions");
    b_reduce1(b, R_SUM, x, 4, true);
    message("E0305", "an axis that it has not");
    b_window(b, x, &(WindowAttr){.n = 1, .axis = {1}, .size = {K(5)}, .stride = {1}, .dilation = {1}});
    message("E0307", "axis 1 has size 4, the window spans 5");
    b_splat(b, F(0), 2, (Dim[]){K(1ll << 40), K(1ll << 40)});
    message("E0302", "too large");
    b_splat(b, F(0), 17, val_type(g, x)->dim);
    message("E0302", "rank 17");
    Val nine[MAX_FOLDED + 1], sorted[MAX_FOLDED + 1];
    for (int k = 0; k <= MAX_FOLDED; k++) nine[k] = x;
    b_sort(b, MAX_FOLDED + 1, nine, &(SortAttr){.axis = 1, .nkeys = 1}, sorted);
    message("E0302", "sort of 9 operands (at most 8)");
    b_topk(b, x, &(TopkAttr){.axis = 1, .k = K(5)}, &x, &i);
    message("E0307", "topk: 5 elements");
    Type seq = {.kind = TY_SEQ, .elem = ctx_dup(c, val_type(g, h), sizeof(Type))};
    b_unary(b, S_EXP, b_seq(b, "empty", seq, 0, NULL));
}
END_TEST

/* ==== order, copies =============================================================================================== */

START_TEST(tidy_drops_and_orders) {
    Val x = INPUT(DT_F32, S("N")), k = INPUT(DT_I64, K(1));
    b_unary(b, S_EXP, x); /* dead */
    Dim unused = b_bind(b, k, 0, "unused", 0, 9), m;
    (void)unused;
    Val later = INPUT(DT_I64, K(1));
    m = b_bind(b, later, 0, "m", 0, 9);
    Val z = b_splat(b, F(1), 1, &m); /* mentions m in its type alone */
    b_guard(b, G_LE, S("N"), K(7), "N is small");
    GuardAttr *again = ctx_dup(c, g->node.v[g->node.n - 1]->attr, sizeof *again);
    graph_node(g, P_GUARD, 0, NULL, 0, NULL, again, (Loc){0});
    graph_output(g, NULL, z);
    /* the bind comes last in the list: it must move before its users */
    for (uint32_t i = 0; i < g->node.n; i++) {
        if (g->node.v[i]->op != P_BIND || g->node.v[i]->in[0].i != later.i) continue;
        Node *n = g->node.v[i];
        memmove(&g->node.v[i], &g->node.v[i + 1], (g->node.n - i - 1) * sizeof n);
        g->node.v[g->node.n - 1] = n;
        break;
    }
    graph_tidy(g);
    ck_assert_int_eq(count(P_MAP), 0);
    ck_assert_int_eq(count(P_GUARD), 1);
    ck_assert_int_eq(count(P_BIND), 1);
    uint32_t bind_at = 0, user_at = 0;
    for (uint32_t i = 0; i < g->node.n; i++) {
        if (g->node.v[i]->op == P_BIND) bind_at = i;
        if (g->node.v[i]->op == P_BROADCAST) user_at = i;
    }
    ck_assert_uint_lt(bind_at, user_at);
    verify_ok();
}
END_TEST

START_TEST(replace_reaches_every_use) {
    Val x = INPUT(DT_F32, S("N")), e = b_unary(b, S_EXP, x), y = add(e, x), z = b_unary(b, S_NEG, e);
    graph_output(g, "y", y);
    graph_output(g, "e", e);
    uint32_t *u = graph_uses(g);
    ck_assert_uint_eq(u[e.i], 3);
    Val t = b_unary(b, S_TANH, x);
    graph_replace(g, e, t);
    ck_assert_uint_eq(val_def(g, y)->in[0].i, t.i);
    ck_assert_uint_eq(val_def(g, z)->in[0].i, t.i);
    ck_assert_uint_eq(g->out.v[1].val.i, t.i);
    ck_assert_uint_eq(graph_resolve(g, e).i, t.i);
    Val s = b_unary(b, S_SIN, x);
    graph_replace(g, t, s);
    ck_assert_uint_eq(graph_resolve(g, e).i, s.i);
    graph_replace(g, s, e); /* what it is already */
    graph_tidy(g);
    ck_assert_int_eq((int)g->node.n, 2);
    verify_ok();
}
END_TEST

static const char *text(Graph *of) {
    Buf s = {.c = c};
    graph_print(&s, of);
    return strstr(ctx_dup(c, buf_str(&s), strlen(buf_str(&s)) + 1), "graph @"); /* without declarations of symbols */
}

START_TEST(clone_and_inline) {
    Val x = INPUT(DT_F32, S("N"), K(8));
    uint32_t mark = b_mark(b);
    Val y = b_softmax(b, x, 2);
    b_wrap(b, "Softmax", mark, 1, &y);
    graph_output(g, "y", add(y, b_mean(b, x, 2, true)));
    graph_tidy(g);
    verify_ok();
    Graph *copy = graph_clone(g);
    ck_assert_str_eq(text(copy), text(g));
    ck_assert(graph_verify(copy, "clone"));
    /* inlined for a known size, the body is about that size */
    Graph *into = graph_new(c, "into", NULL);
    Val in = graph_input(into, "x", type_consts(c, DT_F32, 2, (int64_t[]){5, 8})), out;
    graph_inline(into, g, &in, &out);
    graph_output(into, "y", out);
    Buf s = {.c = c};
    type_print(&s, c, val_type(into, out));
    ck_assert_str_eq(buf_str(&s), "f32[5,8]");
    ck_assert_msg(graph_verify(into, "inline"), "%s", ctx_messages(c));
    Tensor *t = floats(2, (int64_t[]){5, 8}), *p, *q;
    ck_assert(graph_eval(c, g, (const Tensor *const *)&t, &p, NULL));
    ck_assert(graph_eval(c, into, (const Tensor *const *)&t, &q, NULL));
    ck_assert_mem_eq(p->data, q->data, 40 * sizeof(float));
}
END_TEST

START_TEST(wrap_keeps_symbols_outside) {
    Val x = INPUT(DT_F32, S("N"), K(8)), k = INPUT(DT_I64, K(1));
    uint32_t mark = b_mark(b);
    Val dead = b_binary(b, S_ADD, k, INTS(1)), e = b_unary(b, S_EXP, x);
    Dim m = b_bind(b, dead, 0, "m", 1, 8);
    Val y = b_slice_axis(b, b_unary(b, S_TANH, e), 1, K(0), m), aside = b_unary(b, S_NEG, e);
    Val outs[2] = {y, (Val){0}};
    b_wrap(b, "Thing", mark, 2, outs);
    ck_assert_int_eq(count(P_GROUP), 1);
    ck_assert_int_eq(count(P_BIND), 1);
    ck_assert_int_eq(val_def(g, outs[0])->op, P_GROUP);
    graph_output(g, NULL, outs[0]);
    graph_output(g, NULL, aside); /* reads the inside of the group */
    verify_ok();
    graph_tidy(g);
    verify_ok();
    const GroupAttr *a = val_def(g, outs[0])->attr;
    ck_assert_int_eq((int)a->body->node.n, 3);
    ck_assert_int_eq((int)a->body->out.n, 2);
    Tensor *in[2] = {floats(2, (int64_t[]){3, 8}), tensor_new(c, DT_I64, 1, (int64_t[]){1})}, *out[2];
    ((int64_t *)in[1]->data)[0] = 3;
    ck_assert_msg(graph_eval(c, g, (const Tensor *const *)in, out, NULL), "%s", ctx_messages(c));
    ck_assert_int_eq((int)out[0]->dim[1], 4);
    ck_assert_double_eq_tol((double)((float *)out[1]->data)[1], -exp((double)((float *)in[0]->data)[1]), 1e-3);
}
END_TEST

/* ==== regions ===================================================================================================== */

static Graph *branch(bool twice) {
    Graph *r = graph_new(c, twice ? "then" : "else", g);
    Val x = graph_input(r, "x", type_tensor(c, DT_F32, 1, (Dim[]){S("N")}));
    B in = builder(r, (Loc){0});
    graph_output(r, NULL, twice ? b_concat(&in, 2, (Val[]){x, x}, 0) : b_unary(&in, S_NEG, x));
    graph_output(r, NULL, b_unary(&in, S_EXP, x));
    return r;
}

START_TEST(if_joins_types) {
    Val x = INPUT(DT_F32, S("N")), cond = input(DT_BOOL, 0, NULL), out[2];
    b_if(b, cond, branch(true), branch(false), 1, &x, out);
    ck_assert_uint_ne(out[0].i, 0);
    ck_assert_int_eq(dim_info(c, val_type(g, out[0])->dim[0])->kind, D_SYM);
    ck_assert(!dim_same(c, val_type(g, out[0])->dim[0], S("N")));
    type_is(out[1], "f32[N]");
    /* the new size is defined by the if: users of the size alone come after it */
    Val z = b_splat(b, F(2), 1, val_type(g, out[0])->dim);
    graph_output(g, NULL, z);
    graph_output(g, NULL, out[0]);
    graph_tidy(g);
    verify_ok();
    ck_assert_int_eq(count(P_IF), 1);
    Tensor *in[2] = {floats(1, (int64_t[]){3}), tensor_new(c, DT_BOOL, 0, NULL)}, *y[2];
    ((char *)in[1]->data)[0] = 1;
    ck_assert_msg(graph_eval(c, g, (const Tensor *const *)in, y, NULL), "%s", ctx_messages(c));
    ck_assert_int_eq((int)y[0]->dim[0], 6);
    b_if(b, b_scalar(b, (Scalar){.t = DT_BOOL, .i = 0}), branch(true), branch(false), 1, &x, out);
    ck_assert_int_eq(val_def(g, out[0])->op, P_MAP);
}
END_TEST

START_TEST(loop_types) {
    /* s += x; a = concat(a, x): a grows, s does not; the trips' x*s are stacked */
    Val x = INPUT(DT_F32, S("N")), trip = input(DT_I64, 0, NULL), out[3];
    Graph *r = graph_new(c, "body", g);
    Val iter = graph_input(r, "i", type_tensor(c, DT_I64, 0, NULL));
    Val go = graph_input(r, "go", type_tensor(c, DT_BOOL, 0, NULL));
    Val s = graph_input(r, "s", *val_type(g, x));
    Dim grown = dim_fresh(c, "len", 0, DIM_INF);
    Val a = graph_input(r, "a", type_tensor(c, DT_F32, 1, &grown)), xi = graph_input(r, "x", *val_type(g, x));
    (void)iter;
    B in = builder(r, (Loc){0});
    graph_output(r, NULL, go);
    Val next = b_binary(&in, S_ADD, s, xi);
    graph_output(r, NULL, next);
    graph_output(r, NULL, b_concat(&in, 2, (Val[]){a, xi}, 0));
    graph_output(r, NULL, b_binary(&in, S_MUL, next, xi));
    b_loop(b, r, 2, 1, 5, (Val[]){trip, {0}, x, x, x}, out);
    type_is(out[0], "f32[N]");
    ck_assert_int_eq(dim_info(c, val_type(g, out[1])->dim[0])->kind, D_SYM);
    ck_assert(!dim_same(c, val_type(g, out[1])->dim[0], grown));
    ck_assert_int_eq(val_type(g, out[2])->rank, 2);
    for (int k = 0; k < 3; k++) graph_output(g, NULL, out[k]);
    graph_tidy(g);
    verify_ok();
    Tensor *t[2] = {floats(1, (int64_t[]){2}), tensor_new(c, DT_I64, 0, NULL)}, *y[3];
    ((int64_t *)t[1]->data)[0] = 3;
    ck_assert_msg(graph_eval(c, g, (const Tensor *const *)t, y, NULL), "%s", ctx_messages(c));
    ck_assert_int_eq((int)y[1]->dim[0], 8);
    ck_assert_int_eq((int)y[2]->dim[0], 3);
    /* a known trip count is the first size of what is stacked */
    b_loop(b, graph_clone(r), 2, 1, 5, (Val[]){b_dim_scalar(b, S("T")), {0}, x, x, x}, out);
    type_is(out[2], "f32[T,N]");
    no_messages();
}
END_TEST

/* ==== sugar ======================================================================================================= */

START_TEST(sugar_computes) {
    int64_t dim[2] = {3, 5};
    Val x = input(DT_F32, 2, (Dim[]){K(3), K(5)});
    Val sm = b_softmax(b, x, 2), mean = b_mean(b, x, 1, false), top = b_argminmax(b, x, 1, false, true, false);
    Val low = b_argminmax(b, x, 0, true, false, true);
    graph_output(g, NULL, sm);
    graph_output(g, NULL, mean);
    graph_output(g, NULL, top);
    graph_output(g, NULL, low);
    verify_ok();
    Tensor *t = floats(2, dim), *y[4];
    ((float *)t->data)[1] = ((float *)t->data)[3] = 30; /* a tie */
    for (int k = 10; k < 15; k++) ((float *)t->data)[k] = -INFINITY;
    ck_assert_msg(graph_eval(c, g, (const Tensor *const *)&t, y, NULL), "%s", ctx_messages(c));
    float *s = y[0]->data;
    ck_assert_double_eq_tol((double)(s[5] + s[6] + s[7] + s[8] + s[9]), 1.0, 1e-6);
    ck_assert_int_eq(y[1]->rank, 1);
    ck_assert_int_eq((int)((int64_t *)y[2]->data)[0], 1);
    ck_assert_int_eq((int)((int64_t *)y[2]->data)[2], 0);
    ck_assert_int_eq((int)((int64_t *)y[3]->data)[0], 2);
}
END_TEST

START_TEST(reductions_are_recognised) {
    static const DType type[] = {DT_F32, DT_F16, DT_F64, DT_I32, DT_U8, DT_I64, DT_U64, DT_BOOL};
    for (unsigned k = 0; k < sizeof type / sizeof *type; k++) {
        for (int op = R_SUM; op <= R_OR; op++) {
            bool logic = op == R_AND || op == R_OR;
            if (logic != (type[k] == DT_BOOL)) continue;
            Val v = b_reduce1(b, (ReduceOp)op, input(type[k], 1, (Dim[]){S("N")}), 1, true);
            const ReduceAttr *a = val_def(g, v)->attr;
            for (int q = R_SUM; q <= R_OR; q++) {
                bool same = reduce_is(c, a, (ReduceOp)q, type[k]);
                ck_assert_msg(same == (q == op), "%s %d %d", dt_name(type[k]), op, q);
            }
        }
    }
    no_messages();
}
END_TEST

/* ==== the verifier ================================================================================================ */

START_TEST(verifier_finds_what_is_broken) {
    Val x = INPUT(DT_F32, S("N")), e = b_unary(b, S_EXP, x), y = add(e, x);
    graph_output(g, NULL, y);
    verify_ok();
    Node *n = val_def(g, y), *first = g->node.v[0];
    g->node.v[0] = g->node.v[1];
    g->node.v[1] = first;
    ck_assert(!graph_verify(g, "order"));
    message("X0302", "after order");
    g->node.v[1] = g->node.v[0];
    g->node.v[0] = first;
    g->val.v[y.i].type = type_tensor(c, DT_F32, 1, (Dim[]){dim_addi(c, S("N"), 1)});
    ck_assert(!graph_verify(g, "types"));
    message("X0304", "result 0 has type f32[N+1], inferred is f32[N]");
    g->val.v[y.i].type = *val_type(g, x);
    Val kept = n->in[0];
    n->in[0] = (Val){99};
    ck_assert(!graph_verify(g, "operand"));
    message("X0301", "operand 0 is value 99");
    n->in[0] = kept;
    Dim m = dim_fresh(c, "m", 0, 9);
    dim_sym_mark_bound(c, (uint32_t)dim_info(c, m)->val);
    graph_output(g, NULL, b_splat(b, F(1), 1, &m));
    ck_assert(!graph_verify(g, "scope"));
    message("X0303", "symbol m is not defined here");
}
END_TEST

/* ==== hostile ===================================================================================================== */

typedef struct Rng { uint64_t s; } Rng;
static uint32_t pick(Rng *r, uint32_t n) {
    r->s = r->s * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(r->s >> 33) % n;
}

/* Random calls on random values, good and bad: never a crash; what was built verifies, tidies, and integer elements that the
 * builder knows are what the evaluator computes. */
START_TEST(random_calls) {
    Rng r = {(uint64_t)_i * 7919 + 1};
    Dim pool[10] = {K(1), K(2), K(3), K(4), K(6), S("N"), S("M"), dim_muli(c, S("N"), 2), K(0), {0}};
    DType types[5] = {DT_F32, DT_I64, DT_I32, DT_BOOL, DT_F16};
    VEC(Val) v = {0};
    vec_push(c, &v, ((Val){0}));
    for (int k = 0; k < 4; k++) {
        Dim dim[3];
        int rank = (int)pick(&r, 4);
        for (int d = 0; d < rank; d++) dim[d] = pool[pick(&r, 8)];
        vec_push(c, &v, input(types[pick(&r, 3)], rank, dim));
    }
    uint32_t ninput = v.n - 1;
    vec_push(c, &v, INTS(1, 2, 3));
    vec_push(c, &v, INTS(2));
    vec_push(c, &v, b_scalar(b, F(0.5)));
    vec_push(c, &v, b_shape(b, v.v[1]));
    for (int step = 0; step < 60; step++) {
        Val x = v.v[pick(&r, v.n)], y = v.v[pick(&r, v.n)], z = v.v[pick(&r, v.n)], made = {0}, other = {0};
        Dim dim[4], size[4];
        int rank = (int)pick(&r, 4), axis = (int)pick(&r, 3);
        int64_t by[4];
        for (int d = 0; d < 4; d++) {
            dim[d] = pool[pick(&r, 10)];
            size[d] = pool[pick(&r, 9)];
            by[d] = (int64_t)pick(&r, 5) - 2;
        }
        const Type *t = val_type(g, x);
        int64_t n;
        const Dim *e = val_elems(g, y, &n);
        switch (pick(&r, 20)) {
        case 0: made = b_binary(b, (SOp)(S_ADD + pick(&r, 10)), x, y); break;
        case 1: made = b_binary(b, (SOp)(S_EQ + pick(&r, 6)), x, y); break;
        case 2: made = b_select(b, z, x, y); break;
        case 3: made = b_cast(b, x, types[pick(&r, 5)]); break;
        case 4: made = e && n < 5 ? b_reshape(b, x, (int)n, e) : b_reshape(b, x, rank, dim); break;
        case 5: made = t->rank <= 4 ? b_permute(b, x, (int[4]){2 - axis, axis, 1, 3}) : x; break;
        case 6: made = b_broadcast(b, x, rank, dim); break;
        case 7: made = t->rank <= 4 ? b_slice(b, x, dim, by, size) : x; break;
        case 8: made = b_slice_axis(b, x, axis, dim[0], size[0]); break;
        case 9: made = t->rank <= 4 ? b_pad(b, x, dim, size, NULL, (PadMode)pick(&r, 4),
                                            (Scalar){.t = (DType)t->dtype}, (Val){0}) : x; break;
        case 10: made = b_concat(b, 2, (Val[]){x, y}, axis); break;
        case 11: made = b_gather(b, x, y, axis, OOB_FAIL); break;
        case 12: made = b_reduce1(b, (ReduceOp)pick(&r, 4), x, pick(&r, 8), pick(&r, 2)); break;
        case 13: made = b_shape(b, x); break;
        case 14: made = b_mean(b, x, pick(&r, 8), true); break;
        case 15: made = b_argminmax(b, x, axis, true, pick(&r, 2), pick(&r, 2)); break;
        case 16: b_topk(b, x, &(TopkAttr){.axis = (uint8_t)axis, .k = dim[0]}, &made, &other); break;
        case 17: {
            Dim s = b_bind(b, x, axis, "k", 0, 50);
            if (s.i) pool[pick(&r, 5)] = s;
            break;
        }
        case 18: made = b_contract(b, "ab,bc->ac", x, y, DT_F32, DT_F32); break;
        default: {
            uint32_t mark = b_mark(b);
            made = b_softmax(b, b_unary(b, S_EXP, x), pick(&r, 4));
            other = b_unary(b, S_NEG, made);
            Val outs[2] = {made, other};
            b_wrap(b, "Wrapped", mark, 2, outs);
            made = outs[0];
            break;
        }
        }
        if (made.i) vec_push(c, &v, made);
    }
    graph_output(g, NULL, v.v[v.n - 1]);
    for (uint32_t k = ninput; k < v.n; k++) {
        if (val_elems(g, v.v[k], NULL)) graph_output(g, NULL, v.v[k]);
    }
    if (!graph_verify(g, "build")) { /* guards that contradict each other */
        ck_assert_msg(strstr(ctx_messages(c), "E0309") && !strstr(ctx_messages(c), "[X"), "seed %d: %s", _i, ctx_messages(c));
        return;
    }
    graph_tidy(g);
    ck_assert_msg(graph_verify(g, "tidy"), "seed %d: %s", _i, ctx_messages(c));
    Graph *copy = graph_clone(g);
    ck_assert_msg(!strcmp(text(copy), text(g)), "seed %d: %s\n%s", _i, text(copy), text(g));

    /* N = 3, M = 1 or 3; guards may refuse that */
    int64_t *sym = NEWN(c, int64_t, dim_nsyms(c) + 1);
    for (uint32_t k = 0; k < dim_nsyms(c); k++) sym[k] = 3;
    Tensor **in = NEWN(c, Tensor *, g->in.n + 1), **out = NEWN(c, Tensor *, g->out.n + 1);
    for (uint32_t k = 0; k < g->in.n; k++) {
        const Type *t = val_type(g, g->in.v[k].val);
        int64_t dim[MAX_RANK];
        for (int d = 0; d < t->rank; d++) ck_assert(dim_eval(c, t->dim[d], sym, &dim[d]));
        in[k] = tensor_new(c, (DType)t->dtype, t->rank, dim);
    }
    if (!graph_eval(c, g, (const Tensor *const *)in, out, NULL)) return;
    for (uint32_t k = 0; k < g->out.n; k++) {
        int64_t n, want;
        const Dim *e = val_elems(g, g->out.v[k].val, &n);
        if (!e) continue;
        for (int64_t i = 0; i < n; i++) {
            if (!dim_eval(c, e[i], sym, &want)) continue; /* a bound symbol */
            Scalar got = dt_load(out[k]->dtype, out[k]->data, i);
            bool bound = false;
            for (uint32_t s = 0; s < dim_nsyms(c); s++) bound |= dim_sym_info(c, s)->bound;
            if (!bound) ck_assert_msg(got.i == want, "seed %d: element %d is %d, known as %d", _i, (int)i, (int)got.i, (int)want);
        }
    }
}
END_TEST

START_TEST(deep_chains_do_not_recurse) {
    Val x = INPUT(DT_F32, K(4)), y = x;
    for (int k = 0; k < 100000; k++) y = b_unary(b, k & 1 ? S_EXP : S_NEG, y);
    graph_output(g, NULL, y);
    graph_tidy(g);
    ck_assert_int_eq((int)g->node.n, 100000);
    verify_ok();
}
END_TEST

int main(void) {
    Suite *s = suite_create("build");
    TCase *t = tcase_create("build");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, shape_chain_is_symbolic);
    tcase_add_test(t, elements_through_every_carrier);
    tcase_add_test(t, unknown_elements_stay_unknown);
    tcase_add_test(t, truncated_quotients_learn_from_guards);
    tcase_add_test(t, sizes_through_floats);
    tcase_add_test(t, small_constants_fold);
    tcase_add_test(t, identities_vanish);
    tcase_add_test(t, map_operands_are_pruned);
    tcase_add_test(t, broadcast_rules);
    tcase_add_test(t, guards_prove_and_refute);
    tcase_add_test(t, bound_symbols_keep_their_check);
    tcase_add_test(t, bind_looks_through_movement);
    tcase_add_test(t, reshape_and_slice_guards);
    tcase_add_test(t, poison_spreads_silently);
    tcase_add_test(t, messages_say_what_does_not_fit);
    tcase_add_test(t, tidy_drops_and_orders);
    tcase_add_test(t, replace_reaches_every_use);
    tcase_add_test(t, clone_and_inline);
    tcase_add_test(t, wrap_keeps_symbols_outside);
    tcase_add_test(t, if_joins_types);
    tcase_add_test(t, loop_types);
    tcase_add_test(t, sugar_computes);
    tcase_add_test(t, reductions_are_recognised);
    tcase_add_test(t, verifier_finds_what_is_broken);
    tcase_add_loop_test(t, random_calls, 0, 300);
    tcase_add_test(t, deep_chains_do_not_recurse);
    suite_add_tcase(s, t);
    return run_suite(s);
}
