/* test_eval.c: the reference evaluator, primitive by primitive.
 *
 * A case is a graph in text that returns pairs: what is computed and what it must be. Random tests
 * compare with loops written out here, and every scalar operation on strips with expr_eval_op(). */
#include "eval_cases.h"
#include "ir/ir.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ==== comparing ============================================================================== */

static double at(const Tensor *t, int64_t k) {
    if (dt_is_packed(t->dtype)) return ((const signed char *)t->data)[k];
    Scalar s = dt_load(t->dtype, t->data, k);
    return dt_is_float(s.t) ? s.f : (double)s.i;
}

static bool close_to(double a, double b) {
    if (isnan(a) || isnan(b)) return isnan(a) && isnan(b);
    if (a == b) return signbit(a) == signbit(b);
    return fabs(a - b) <= 1e-6 * fmax(fabs(a), fabs(b));
}

static void compare(const char *name, const Tensor *got, const Tensor *want) {
    ck_assert_msg(got->kind == want->kind, "%s: kind", name);
    if (got->kind != TY_TENSOR) {
        ck_assert_msg(got->nelem == want->nelem, "%s: %d elements, expected %d", name,
                      (int)got->nelem, (int)want->nelem);
        for (int64_t k = 0; k < got->nelem; k++) compare(name, got->elem[k], want->elem[k]);
        return;
    }
    ck_assert_msg(got->dtype == want->dtype, "%s: type %s, expected %s", name, dt_name(got->dtype),
                  dt_name(want->dtype));
    ck_assert_msg(got->rank == want->rank, "%s: rank %d, expected %d", name, got->rank, want->rank);
    for (int d = 0; d < got->rank; d++) {
        ck_assert_msg(got->dim[d] == want->dim[d], "%s: axis %d: %d, expected %d", name, d,
                      (int)got->dim[d], (int)want->dim[d]);
    }
    for (int64_t k = 0; k < tensor_count(got); k++) {
        if (got->dtype == DT_STR) {
            struct Str { const char *p; uint64_t n; } a, b;
            memcpy(&a, (const char *)got->data + 16 * k, 16);
            memcpy(&b, (const char *)want->data + 16 * k, 16);
            ck_assert_msg(a.n == b.n && !memcmp(a.p, b.p, a.n), "%s: string %d", name, (int)k);
        } else {
            ck_assert_msg(close_to(at(got, k), at(want, k)),
                          "%s: element %d is %.9g, expected %.9g", name, (int)k, at(got, k),
                          at(want, k));
        }
    }
}

/* ==== cases ================================================================================== */

static Graph *parse_case(Ctx *c, const Case *k) {
    Buf b = {.c = c};
    buf_printf(&b, "graph @t (%s) -> (%s) { %s }", k->ins, k->outs, k->body);
    Graph *g = graph_parse(c, buf_str(&b), k->name);
    ck_assert_msg(g, "%s: %s", k->name, ctx_messages(c));
    return g;
}

START_TEST(test_cases) {
    const Case *k = &cases[_i];
    Ctx *c = ctx_new();
    Graph *g = parse_case(c, k);
    Tensor **out = NEWN(c, Tensor *, g->out.n + 1);
    ck_assert_msg(graph_eval(c, g, NULL, out, NULL), "%s: %s", k->name, ctx_messages(c));
    for (uint32_t r = 0; r + 1 < g->out.n; r += 2) compare(k->name, out[r], out[r + 1]);
    ctx_free(c);
}
END_TEST

/* ==== failures =============================================================================== */

static const Case failures[] = {
    {"guard", "%n: i64[1]", "i64[1]", "bind %n[0] as K  guard le K, 3 \"too many rows\" return %n"},
    {"range of a symbol", "%n: i64[1]", "i64[1]", "bind %n[0] as S  %s = shape [S] return %s"},
    {"wrong rank", "%n: i64[1,1]", "i64[1,1]", "return %n"},
    {"wrong size", "%n: i64[2]", "i64[2]", "return %n"},
    {"wrong type", "%n: f32[1]", "f32[1]", "return %n"},
    {"index out of range", "%n: i64[1]", "f32[1]",
     "%x = const f32[2] {1, 2} %r = gather axis 0 fail %x, %n return %r"},
    {"load out of range", "%n: i64[1]", "f32[1]",
     "%x = const f32[2] {1, 2} %r = map { load.fail@\"no such row\"(a, b) } %x, %n : f32[1] return "
     "%r"},
    {"endless loop", "%n: i64[1]", "i64[]",
     "%x = const i64[] {1} %r, %q = loop carried 1 scan 1 iter T _, _, %x, %n : i64[], i64[T,1]"
     "(%i: i64[], %k: bool[], %a: i64[], %n: i64[1]) { yield %k, %a, %n } return %r"},
    {"more memory than allowed", "%n: i64[1]", "i64[]",
     "%b = broadcast [100000000] %n  %m = map { a + 1 } %b  %r = reduce.sum [0] %m return %r"},
    {"no such call", "%n: i64[1]", "i64[1]", "%r = call \"strings\" %n : i64[1] return %r"},
    {"empty sequence", "%n: i64[1]", "i64[D]",
     "%s = seq \"empty\" : seq<i64[1]> %z = const i64[] {0} %r = seq \"at\" %s, %z : i64[D] return "
     "%r"},
};

START_TEST(test_failures) {
    const Case *k = &failures[_i];
    Ctx *c = ctx_new();
    dim_sym(c, "S", 0, 5);
    Graph *g = parse_case(c, k);
    int64_t one = 1, seven = 7;
    Tensor *in = tensor_new(c, DT_I64, 1, &one), *out[2];
    memcpy(in->data, &seven, sizeof seven);
    EvalOptions o = {.max_bytes = 1 << 16};
    ck_assert_msg(!graph_eval(c, g, (const Tensor *const *)&in, out, &o), "%s: no failure",
                  k->name);
    ck_assert_msg(ctx_errors(c) == 1, "%s: %s", k->name, ctx_messages(c));
    ctx_free(c);
}
END_TEST

/* ==== random ================================================================================= */

typedef struct Rng { uint64_t s; } Rng;
static uint64_t rnd(Rng *r) {
    r->s ^= r->s << 13;
    r->s ^= r->s >> 7;
    r->s ^= r->s << 17;
    return r->s * 0x2545f4914f6cdd1du;
}
static int pick(Rng *r, int n) { return (int)((rnd(r) >> 33) % (uint64_t)n); }

static Tensor *noise(Ctx *c, Rng *r, DType t, int rank, const int64_t *dim) {
    Tensor *x = tensor_new(c, t, rank, dim);
    for (int64_t k = 0; k < tensor_count(x); k++) {
        Scalar s = {.t = DT_I64, .i = pick(r, 17) - 8};
        dt_store(t, x->data, k, dt_convert(s, t));
    }
    return x;
}

static Tensor *eval1(Ctx *c, Graph *g, const Tensor *const *in) {
    Tensor *out[1];
    ck_assert_msg(graph_eval(c, g, in, out, NULL), "%s", ctx_messages(c));
    return out[0];
}

static double *doubles(Ctx *c, const Tensor *t) {
    double *d = NEWN(c, double, tensor_count(t) + 1);
    for (int64_t k = 0; k < tensor_count(t); k++) d[k] = at(t, k);
    return d;
}

/* Small integers, so that every order of summation gives the same. */
START_TEST(test_contract_random) {
    static const DType types[] = {DT_F32, DT_F64, DT_I32, DT_I64, DT_U8, DT_BF16};
    Rng r = {.s = (uint64_t)_i * 77 + 5};
    Ctx *c = ctx_new();
    DType t = types[pick(&r, 6)], acc = dt_is_float(t) ? DT_F32 : DT_I32;
    int64_t b = 1 + pick(&r, 3), m = 1 + pick(&r, 150), n = 1 + pick(&r, 150),
            k = pick(&r, 20) ? 1 + pick(&r, 300) : 0;
    if (pick(&r, 3) == 0) m = 1;
    if (pick(&r, 3) == 0) n = 1;
    int64_t da[3] = {m, b, k}, db[3] = {b, n, k};
    Tensor *x = noise(c, &r, t, 3, da), *y = noise(c, &r, t, 3, db);
    Graph *g = graph_new(c, "t", NULL);
    Val vx = graph_input(g, "x", type_consts(c, t, 3, da)),
        vy = graph_input(g, "y", type_consts(c, t, 3, db));
    ContractAttr a = {.acc = acc, .out = acc};
    memset(a.label, 0xff, sizeof a.label);
    memcpy(a.label[0], (uint8_t[]){1, 0, 3}, 3);
    memcpy(a.label[1], (uint8_t[]){0, 2, 3}, 3);
    memcpy(a.label[2], (uint8_t[]){0, 1, 2}, 3);
    int64_t dc[3] = {b, m, n};
    Type tc = type_consts(c, acc, 3, dc);
    Node *node = graph_node(g, P_CONTRACT, 2, (Val[]){vx, vy}, 1, &tc, &a, (Loc){0});
    graph_output(g, "z", node->out[0]);
    Tensor *z = eval1(c, g, (const Tensor *[]){x, y});
    double *fx = doubles(c, x), *fy = doubles(c, y);
    for (int64_t p = 0; p < b * m * n; p++) {
        int64_t i = p / n % m, j = p % n, q = p / n / m;
        double sum = 0;
        for (int64_t s = 0; s < k; s++) sum += fx[(i * b + q) * k + s] * fy[(q * n + j) * k + s];
        ck_assert_msg(at(z, p) == sum, "%s %dx%dx%d: %g, expected %g", dt_name(t), (int)m, (int)n,
                      (int)k, at(z, p), sum);
    }
    ctx_free(c);
}
END_TEST

/* A map over permuted, sliced and broadcast views, against its own elements. */
START_TEST(test_views_random) {
    Rng r = {.s = (uint64_t)_i * 31 + 9};
    Ctx *c = ctx_new();
    int64_t dim[3] = {1 + pick(&r, 40), 1 + pick(&r, 5), 1 + pick(&r, 40)};
    static const int perms[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    const int *perm = perms[pick(&r, 6)];
    int64_t start[3], step[3], size[3], wide[3];
    for (int d = 0; d < 3; d++) {
        int64_t n = dim[perm[d]];
        size[d] = 1 + pick(&r, (int)n);
        step[d] = size[d] > 1 && pick(&r, 2) ? -1 : 1;
        start[d] = step[d] < 0 ? n - 1 : n - size[d];
        wide[d] = size[d];
    }
    if (size[1] == 1) wide[1] = 1 + pick(&r, 4);
    Tensor *x = noise(c, &r, DT_I16, 3, dim);
    Graph *g = graph_new(c, "t", NULL);
    B b = builder(g, (Loc){0});
    Val v = graph_input(g, "x", type_consts(c, DT_I16, 3, dim));
    Dim ds[3], dz[3], dw[3];
    for (int d = 0; d < 3; d++) {
        ds[d] = dim_const(c, start[d]);
        dz[d] = dim_const(c, size[d]);
        dw[d] = dim_const(c, wide[d]);
    }
    v = b_broadcast(&b, b_slice(&b, b_permute(&b, v, perm), ds, step, dz), 3, dw);
    Expr e =
        expr_op(c, S_ADD, expr_arg(c, 0, DT_I16), expr_cast(c, expr_axis(c, 2), DT_I16), (Expr){0});
    v = b_map1(&b, e, 1, &v);
    Dim flat = dim_const(c, wide[0] * wide[1] * wide[2]);
    graph_output(g, "y", b_reshape(&b, v, 1, &flat));
    Tensor *y = eval1(c, g, (const Tensor *const *)&x);
    for (int64_t p = 0; p < tensor_count(y); p++) {
        int64_t co[3] = {p / wide[2] / wide[1], p / wide[2] % wide[1], p % wide[2]}, src[3];
        for (int d = 0; d < 3; d++) src[perm[d]] = start[d] + (size[d] == 1 ? 0 : co[d]) * step[d];
        ck_assert(at(y, p) == at(x, (src[0] * dim[1] + src[1]) * dim[2] + src[2]) + (double)co[2]);
    }
    ctx_free(c);
}
END_TEST

/* ==== every scalar operation on strips ======================================================= */

typedef struct OpRow { const char *text, *rule; int n; } OpRow;
static const OpRow ops[S_COUNT] = {
#define SCALAR(e, text, n, rule, flags) [S_##e] = {text, #rule, n},
#include "ir/scalar.def"
#undef SCALAR
};
static const DType number[] = {DT_F32, DT_F64, DT_F16,  DT_BF16, DT_F8E4M3, DT_F8E5M2Z,
                               DT_I8,  DT_I16, DT_I32,  DT_I64,  DT_U8,     DT_U16,
                               DT_U32, DT_U64, DT_BOOL, DT_I4,   DT_U2};
enum { NUMBERS = sizeof number / sizeof *number, LANES = 300 };

static bool takes(SOp op, DType t) {
    const char *rule = ops[op].rule;
    bool logic = op == S_AND || op == S_OR || op == S_XOR || op == S_NOT || op == S_EQ ||
                 op == S_NE || op == S_SELECT;
    if (t == DT_BOOL) return logic;
    if (!strcmp(rule, "INT")) return dt_is_int(t);
    if (!strcmp(rule, "FLT") || !strcmp(rule, "TEST")) return dt_is_float(t);
    return true;
}

static Scalar odd_value(Rng *r, DType t) {
    static const double f[] = {0,   -0.0,  1,         -1,       2,   0.5,  -1.5, 3,
                               255, 65504, -INFINITY, INFINITY, NAN, 1e-7, 1e30, 1e300};
    static const int64_t w[] = {0,   1,    -1,  2,         -2,        3,         7,         8,
                                127, -128, 255, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 64};
    if (dt_is_float(t))
        return dt_convert(
            (Scalar){.t = DT_F64, .f = pick(r, 2) ? f[pick(r, 16)] : pick(r, 2000) / 100.0 - 10},
            t);
    return dt_convert((Scalar){.t = DT_I64, .i = pick(r, 2) ? w[pick(r, 16)] : (int64_t)rnd(r)}, t);
}

static void put(Tensor *x, int64_t k, Scalar s) {
    if (dt_is_packed(s.t)) ((signed char *)x->data)[k] = (signed char)s.i;
    else dt_store(s.t, x->data, k, s);
}

static void check_op(Ctx *c, Rng *r, SOp op, DType t) {
    int64_t dim = LANES;
    Graph *g = graph_new(c, "t", NULL);
    Tensor *x[3];
    Expr arg[3];
    Scalar val[3][LANES];
    Val in[3], out;
    Dim d = dim_const(c, dim);
    for (int k = 0; k < ops[op].n; k++) {
        DType ta = op == S_SELECT && !k ? DT_BOOL : t;
        x[k] = tensor_new(c, ta, 1, &dim);
        for (int i = 0; i < LANES; i++) put(x[k], i, val[k][i] = odd_value(r, ta));
        arg[k] = expr_arg(c, (uint32_t)k, ta);
        in[k] = graph_input(g, ops[op].text, type_consts(c, ta, 1, &dim));
    }
    Expr e = expr_opn(c, op, ops[op].n, arg);
    B b = builder(g, (Loc){0});
    b_map(&b, 1, &e, ops[op].n, in, 1, &d, &out);
    graph_output(g, "y", out);
    Tensor *y = eval1(c, g, (const Tensor *const *)x);
    for (int i = 0; i < LANES; i++) {
        Scalar a[3] = {val[0][i], ops[op].n > 1 ? val[1][i] : val[0][i],
                       ops[op].n > 2 ? val[2][i] : val[0][i]};
        Scalar want = expr_eval_op(op, t, a);
        double w = dt_is_float(want.t) ? want.f : (double)want.i, v = at(y, i);
        bool same = isnan(w) ? isnan(v) : v == w && signbit(v) == signbit(w);
        ck_assert_msg(same, "%s %s: %.17g, expected %.17g (%.17g)", ops[op].text, dt_name(t), v, w,
                      dt_is_float(t) ? a[0].f : (double)a[0].i);
    }
}

START_TEST(test_ops) {
    Rng r = {.s = (uint64_t)_i + 1};
    Ctx *c = ctx_new();
    for (int k = 0; k < NUMBERS; k++) {
        if (takes((SOp)_i, number[k])) check_op(c, &r, (SOp)_i, number[k]);
    }
    ctx_free(c);
}
END_TEST

START_TEST(test_casts) {
    Rng r = {.s = (uint64_t)_i + 1};
    Ctx *c = ctx_new();
    DType from = number[_i];
    int64_t dim = LANES;
    for (int k = 0; k < NUMBERS; k++) {
        Graph *g = graph_new(c, "t", NULL);
        B b = builder(g, (Loc){0});
        Tensor *x = tensor_new(c, from, 1, &dim);
        Scalar val[LANES];
        for (int i = 0; i < LANES; i++) put(x, i, val[i] = odd_value(&r, from));
        Val v = graph_input(g, "x", type_consts(c, from, 1, &dim));
        graph_output(g, "y", b_cast(&b, v, number[k]));
        Tensor *y = eval1(c, g, (const Tensor *const *)&x);
        for (int i = 0; i < LANES; i++) {
            Scalar want = dt_convert(val[i], number[k]);
            double w = dt_is_float(want.t) ? want.f : (double)want.i, z = at(y, i);
            ck_assert_msg(isnan(w) ? isnan(z) : z == w, "%s to %s: %.17g, expected %.17g",
                          dt_name(from), dt_name(number[k]), z, w);
        }
    }
    ctx_free(c);
}
END_TEST

/* ==== folding ================================================================================ */

START_TEST(test_node_eval) {
    Ctx *c = ctx_new();
    Graph *g = graph_parse(c,
                           "graph @t () -> (f32[2,3]) { %x = const f32[2,3] splat 2  %r = map { a "
                           "* 3 } %x return %r }",
                           "t");
    ck_assert_msg(g, "%s", ctx_messages(c));
    const ConstAttr *a = g->node.v[0]->attr;
    Tensor *x = tensor_from_const(c, a->data, &a->type), *y = NULL;
    ck_assert(node_eval(c, g, g->node.v[1], (const Tensor *const *)&x, &y));
    const ConstData *k = tensor_to_const(c, y);
    ck_assert(k->splat && k->count == 6 && k->bytes == 4 && dt_load(DT_F32, k->data, 0).f == 6);
    ck_assert_uint_eq(ctx_errors(c), 0);
    ctx_free(c);
}
END_TEST

/* What cannot be folded is no error. */
START_TEST(test_node_eval_refuses) {
    static const char *const text[] = {
        "graph @t () -> (f32[1]) { %x = const f32[1] {1} %i = const i64[1] {5} %r = gather axis 0 "
        "fail %x, %i return %r }",
        "graph @t () -> (f32[N]) { %x = const f32[1] {1} %i = const i64[1] {5} %r = broadcast [N] "
        "%x return %r }",
        "graph @t () -> (i64[]) { %x = const i64[] {1} %c = const bool[] {1} %r = loop carried 1 "
        "scan 0 _, %c, %x : i64[]"
        " (%i: i64[], %k: bool[], %a: i64[]) { yield %k, %a } return %r }",
    };
    Ctx *c = ctx_new();
    Graph *g = graph_parse(c, text[_i], "t");
    ck_assert_msg(g, "%s", ctx_messages(c));
    const Node *n = g->node.v[2];
    Tensor *in[3] = {0}, *out[1];
    for (unsigned k = 0; k < n->nin; k++) {
        const Node *def = n->in[k].i ? val_def(g, n->in[k]) : NULL;
        if (def)
            in[k] = tensor_from_const(c, ((const ConstAttr *)def->attr)->data,
                                      &((const ConstAttr *)def->attr)->type);
    }
    ck_assert(!node_eval(c, g, n, (const Tensor *const *)in, out));
    ck_assert_uint_eq(ctx_errors(c), 0);
    ctx_free(c);
}
END_TEST

START_TEST(test_symbols) {
    Ctx *c = ctx_new();
    Graph *g = graph_parse(
        c, "graph @t (%x: f32[N,3], %y: f32[N]) -> (i64[2]) { %s = shape [N, 2*N] return %s }",
        "t");
    ck_assert_msg(g, "%s", ctx_messages(c));
    int64_t dx[2] = {4, 3}, four = 4, five = 5;
    Tensor *x = tensor_new(c, DT_F32, 2, dx), *y = tensor_new(c, DT_F32, 1, &four),
           *z = tensor_new(c, DT_F32, 1, &five), *out[1];
    ck_assert(graph_eval(c, g, (const Tensor *[]){x, y}, out, NULL));
    ck_assert(at(out[0], 0) == 4 && at(out[0], 1) == 8);
    ck_assert(!graph_eval(c, g, (const Tensor *[]){x, z}, out, NULL));
    ctx_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("eval");
    TCase *t = tcase_create("eval");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_cases, 0, (int)(sizeof cases / sizeof *cases));
    tcase_add_loop_test(t, test_failures, 0, (int)(sizeof failures / sizeof *failures));
    tcase_add_loop_test(t, test_contract_random, 0, 60);
    tcase_add_loop_test(t, test_views_random, 0, 60);
    tcase_add_loop_test(t, test_ops, S_NONE + 1, S_COUNT);
    tcase_add_loop_test(t, test_casts, 0, NUMBERS);
    tcase_add_test(t, test_node_eval);
    tcase_add_loop_test(t, test_node_eval_refuses, 0, 3);
    tcase_add_test(t, test_symbols);
    suite_add_tcase(s, t);
    return run_suite(s);
}
