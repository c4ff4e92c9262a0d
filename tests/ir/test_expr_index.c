/* test_expr_index.c: index expressions: what simplification, ranges and the affine form find, and
 * that they are right. */
#include "expr_fixture.h"

/* Operands a..d: i64, i32, u8, f32. Axes have the extents given, as dims of text. */
static const DType types[] = {DT_I64, DT_I32, DT_U8, DT_F32};
enum { NTYPES = 4, AXES = 4 };

static Dim dim(Ctx *c, const char *s) {
    Dim d = dim_parse(c, &s);
    ck_assert(d.i && !*s);
    return d;
}

typedef struct Row { const char *extent[AXES], *e, *want; } Row;
static const Row rows[] = {
    /* splits and merges, constant */
    {{"8", "16"}, "fdiv(#0 * 16 + #1, 16)", "#0"},
    {{"8", "16"}, "mod(#0 * 16 + #1, 16)", "#1"},
    {{"8", "16"}, "fdiv(#0 * 16 + #1, 32)", "fdiv(#0, 2)"},
    {{"8", "16"}, "mod(#0 * 16 + #1, 32)", "mod(#0, 2) * 16 + #1"},
    {{"8", "17"}, "fdiv(#0 * 16 + #1, 16)", "#0 + fdiv(#1, 16)"},
    {{"8", "16"}, "(#0 * 16 + #1) / 16", "#0"},
    {{"8", "16"}, "rem(#0 * 16 + #1, 16)", "#1"},
    {{"4", "4", "16"}, "mod(fdiv((#0 * 4 + #1) * 16 + #2, 16), 4)", "#1"},
    {{"4", "4", "16"}, "fdiv(fdiv(#0 * 64 + #1 * 16 + #2, 16), 4)", "#0"},
    {{"64", "3"}, "fdiv(#0 * 12 + #1 * 4 + 3, 12)", "#0"},
    {{"64", "3"}, "fdiv(#0 * 12 + #1 * 4 + 4, 12)", "#0 + fdiv(#1 + 1, 3)"},
    {{"512"}, "fdiv(#0, 32) * 32 + mod(fdiv(#0, 4), 8) * 4 + mod(#0, 4)", "#0"},
    {{"512"}, "fdiv(#0, 32) * 32 + mod(#0, 32)", "#0"},
    {{"512"}, "mod(mod(#0, 64), 16)", "mod(#0, 16)"},
    {{"512"}, "fdiv(mod(#0, 64), 16)", "mod(fdiv(#0, 16), 4)"},
    {{"512"}, "fdiv(fdiv(#0, 4), 8)", "fdiv(#0, 32)"},
    {{"16"}, "fdiv(#0, 16)", "0"},
    {{"16"}, "mod(#0, 16)", "#0"},
    {{"16"}, "mod(#0 + 32, 16)", "#0"},
    {{"16"}, "fdiv(#0 - 16, 16)", "-1"},
    {{"16"}, "mod(#0 - 16, 16)", "#0"},
    {{"16"}, "shr(shl(#0, 4) + 5, 4)", "#0"},
    {{"16"}, "and(#0 + 16, 15)", "#0"},
    {{"16", "10"}, "#1 * 3 + #0 * 2 - #1 - #0 * 2 + 4 - 3", "#1 * 2 + 1"},
    {{"16", "10"}, "5 - #0", "5 - #0"},
    {{"16", "10"}, "#1 - #0", "#1 - #0"},
    {{"16"}, "neg(#0) * 2", "0 - #0 * 2"},
    /* symbolic */
    {{"H", "W"}, "fdiv(#0 * dim(W) + #1, dim(W))", "#0"},
    {{"H", "W"}, "mod(#0 * dim(W) + #1, dim(W))", "#1"},
    {{"N", "H", "W"}, "fdiv((#0 * dim(H) + #1) * dim(W) + #2, dim(H*W))", "#0"},
    {{"N", "H", "W"}, "mod(fdiv((#0 * dim(H) + #1) * dim(W) + #2, dim(W)), dim(H))", "#1"},
    {{"N", "S", "768"}, "fdiv(#0 * dim(S*768) + #1 * 768 + #2, dim(S*768))", "#0"},
    {{"N", "S", "12", "64"}, "mod((#0 * dim(S) + #1) * 768 + #2 * 64 + #3, 768)", "#2 * 64 + #3"},
    {{"N*S", "768"}, "fdiv(#0 * 768 + #1, dim(S*768))", "fdiv(#0, dim(S))"},
    {{"N*S", "768"}, "mod(#0 * 768 + #1, dim(S*768))", "mod(#0, dim(S)) * 768 + #1"},
    {{"N*S"}, "fdiv(#0, dim(S)) * dim(S) + mod(#0, dim(S))", "#0"},
    {{"N"}, "mod(#0, dim(N))", "#0"},
    {{"N"}, "#0 < dim(N)", "true"},
    {{"N"}, "#0 + 1 <= dim(N)", "true"},
    {{"N"}, "#0 - 1 < dim(N)", "true"},
    {{"N"}, "#0 + 1 < dim(N)", "#0 + 1 < dim(N)"},
    {{"N"}, "min(#0, dim(N) - 1)", "#0"},
    {{"N"}, "max(min(#0, dim(N) - 1), 0)", "#0"},
    {{"N"}, "select(#0 < 0, #0 + dim(N), #0)", "#0"},
    {{"N", "M"}, "#0 + #1 < dim(N + M)", "true"},
    /* ranges */
    {{"10"}, "select(#0 < 10, a, 0)", "a"},
    {{"10"}, "#0 == 10", "false"},
    {{"10"}, "#0 != -1", "true"},
    {{"10"}, "min(#0, 9)", "#0"},
    {{"10"}, "max(#0, 9)", "9"},
    {{"10"}, "max(#0, 8)", "max(#0, 8)"},
    {{"10"}, "abs(#0)", "#0"},
    {{"10"}, "i64(i32(#0))", "#0"},
    {{"1000"}, "i64(u8(#0))", "i64(u8(#0))"},
    {{"10"}, "i64(c) < 256", "true"},
    {{"10"}, "and(#0 >= 0, #0 < 10)", "true"},
    {{"10", "3"}, "and(#0 * 2 + #1 - 1 >= 0, #0 * 2 + #1 - 1 < 21)", "#0 * 2 + #1 - 1 >= 0"},
    {{"10"}, "load(3, mod(#0, 10))", "load(3, #0)"},
    {{"10"}, "d + load.clamp(3, fdiv(#0 * 4, 4))", "d + load.clamp(3, #0)"},
    /* loaded numbers of any size: only what holds under wrapping */
    {{"10"}, "a + 3 - a", "3"},
    {{"10"}, "fdiv(a * 16, 16)", "fdiv(a * 16, 16)"},
    {{"10"}, "a + 1 > a", "a + 1 > a"},
    {{"10"}, "fdiv(i64(b) * 16 + #0, 16)", "i64(b)"},
    {{"10"}, "fdiv(max(min(a, 99), 0) * 10 + #0, 10)", "max(min(a, 99), 0)"},
};

START_TEST(test_rows) {
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        Ctx *c = ctx_new();
        Dim extent[AXES];
        uint32_t n = 0;
        for (; n < AXES && rows[k].extent[n]; n++) extent[n] = dim(c, rows[k].extent[n]);
        Expr e = parse(c, rows[k].e, types, NTYPES), got = expr_simplify_index(c, e, extent, n);
        Expr want = parse(c, rows[k].want, types, NTYPES);
        ck_assert_msg(got.i == want.i, "%s is %s, not %s", rows[k].e, text_of(c, got),
                      text_of(c, want));
        ck_assert_uint_eq(expr_simplify_index(c, got, extent, n).i, got.i);
        ck_assert_msg(ctx_errors(c) == 0, "%s: %s", rows[k].e, ctx_messages(c));
        ctx_free(c);
    }
}
END_TEST

typedef struct BoundRow { const char *extent[2], *e, *n; bool in; } BoundRow;
static const BoundRow bound_rows[] = {
    {{"N"}, "#0", "N", true},
    {{"N"}, "#0", "N+1", true},
    {{"N"}, "#0 + 1", "N", false},
    {{"N"}, "#0 - 1", "N", false},
    {{"N", "K"}, "#0 + #1", "N+K-1", true},
    {{"N", "3"}, "#0 * 2 + #1", "2*N+1", true},
    {{"N", "3"}, "#0 * 2 + #1", "2*N", false},
    {{"N*S"}, "mod(#0, dim(S))", "S", true},
    {{"N*S"}, "fdiv(#0, dim(S))", "N", true},
    {{"M"}, "mod(#0, dim(S))", "S", false}, /* S may be 0 */
    {{"M"}, "max(min(a, dim(N)), 0)", "N+1", true},
    {{"M"}, "max(min(#0, dim(N)), 0)", "N+1", true},
    {{"M"}, "min(#0, a)", "M", false},
    {{"10"}, "a", "10", false},
    {{"10"}, "i64(c)", "256", true},
    {{"10"}, "i64(c)", "255", false},
};

START_TEST(test_in_bounds) {
    for (size_t k = 0; k < sizeof bound_rows / sizeof *bound_rows; k++) {
        const BoundRow *r = &bound_rows[k];
        Ctx *c = ctx_new();
        Dim extent[2];
        uint32_t n = 0;
        for (; n < 2 && r->extent[n]; n++) extent[n] = dim(c, r->extent[n]);
        bool in = expr_in_bounds(c, parse(c, r->e, types, NTYPES), dim(c, r->n), extent, n);
        ck_assert_msg(in == r->in, "0 <= %s < %s: %s", r->e, r->n, in ? "proven" : "not proven");
        ctx_free(c);
    }
}
END_TEST

START_TEST(test_range) {
    Ctx *c = ctx_new();
    Dim extent[2] = {dim_const(c, 10), dim(c, "N")};
    int64_t lo, hi;
    ck_assert(expr_range(c, parse(c, "#0 * 3 - 4", types, NTYPES), extent, 2, &lo, &hi));
    ck_assert(lo == -4 && hi == 23);
    ck_assert(expr_range(c, parse(c, "#1 * 3 + 1", types, NTYPES), extent, 2, &lo, &hi));
    ck_assert(lo == 1 && hi == INT64_MAX);
    ck_assert(expr_range(c, parse(c, "min(max(a, -5), 5)", types, NTYPES), extent, 2, &lo, &hi));
    ck_assert(lo == -5 && hi == 5);
    ck_assert(!expr_range(c, parse(c, "a", types, NTYPES), extent, 2, &lo, &hi));
    ctx_free(c);
}
END_TEST

/* ---- properties ---- */

typedef struct Domain {
    Ctx *c;
    Dim extent[AXES];
    uint32_t n;
    bool symbolic;
    Dim free;                   /* a symbol that is no extent, and may be 0 */
} Domain;

static Expr op(Ctx *c, SOp o, Expr a, Expr b) { return expr_op(c, o, a, b, (Expr){0}); }

/* A divisor or factor: a small number, an extent or another symbol, or a product of two. */
static Expr factor(Domain *d, Rng *r) {
    static const int64_t sizes[] = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64};
    if (pick(r, 2)) return expr_int(d->c, DT_I64, sizes[pick(r, 10)]);
    Dim x = d->extent[pick(r, (int)d->n)];
    if (d->symbolic && !pick(r, 5)) x = d->free;
    if (pick(r, 2)) x = dim_mul(d->c, x, d->extent[pick(r, (int)d->n)]);
    return expr_dim(d->c, x);
}

static Expr random_index(Domain *d, Rng *r, int depth) {
    Ctx *c = d->c;
    int kind = depth <= 0 ? pick(r, 5) : pick(r, 18);
    if (kind < 3) return expr_axis(c, (uint32_t)pick(r, (int)d->n));
    if (kind == 3) return expr_int(c, DT_I64, pick(r, 40) - 15);
    if (kind == 4)
        return pick(r, 4) ? expr_dim(c, d->extent[pick(r, (int)d->n)])
                          : expr_cast(c, expr_arg(c, 2, DT_U8), DT_I64);
    Expr a = random_index(d, r, depth - 1);
    if (kind < 8) return op(c, S_MUL, a, factor(d, r));
    if (kind < 10) return op(c, S_FDIV, a, factor(d, r));
    if (kind < 12) return op(c, S_MOD, a, factor(d, r));
    Expr b = random_index(d, r, depth - 1);
    if (kind < 15) return op(c, S_ADD, a, b);
    if (kind == 15) return op(c, pick(r, 2) ? S_SUB : S_DIV, a, b);
    if (kind == 16) return op(c, pick(r, 2) ? S_MIN : S_MAX, a, b);
    Expr cond = op(c, (SOp)(S_EQ + pick(r, 6)), a, b);
    return expr_op(c, S_SELECT, cond, random_index(d, r, depth - 1), b);
}

/* A split of a flat index into coordinates of a random factorisation, merged again in part: what
 * reshapes give. */
static Expr random_reshape(Domain *d, Rng *r) {
    Ctx *c = d->c;
    Expr flat = expr_int(c, DT_I64, 0), e = {0};
    for (uint32_t a = 0; a < d->n; a++)
        flat = op(c, S_ADD, op(c, S_MUL, flat, expr_dim(c, d->extent[a])), expr_axis(c, a));
    int parts = 1 + pick(r, 3);
    for (int k = 0; k < parts; k++) {
        Expr x = op(c, S_MOD, op(c, S_FDIV, flat, factor(d, r)), factor(d, r));
        e = e.i ? op(c, S_ADD, op(c, S_MUL, e, factor(d, r)), x) : x;
    }
    return e;
}

static void random_domain(Domain *d, Rng *r, const int64_t *size) {
    static const char *const names[] = {"N", "H", "W", "C"};
    d->n = (uint32_t)(1 + pick(r, AXES));
    for (uint32_t a = 0; a < d->n; a++)
        d->extent[a] = d->symbolic ? dim_sym(d->c, names[a], 0, DIM_INF) : dim_const(d->c, size[a]);
    if (d->symbolic) d->free = dim_sym(d->c, "Z", 0, DIM_INF);
}

START_TEST(test_values) {
    Rng r = {(uint64_t)_i * 104729 + 17};
    static const int64_t sizes[] = {1, 2, 3, 4, 5, 8, 12, 16};
    for (int round = 0; round < 250; round++) {
        int64_t size[AXES], sym[AXES + 1] = {0}, at[AXES];
        Domain d = {.c = ctx_new(), .symbolic = pick(&r, 2)};
        for (int a = 0; a < AXES; a++) size[a] = sizes[pick(&r, 8)];
        random_domain(&d, &r, size);
        Ctx *c = d.c;
        Expr e = pick(&r, 2) ? random_reshape(&d, &r) : random_index(&d, &r, 1 + pick(&r, 5));
        Expr s = expr_simplify_index(c, e, d.extent, d.n);
        Dim top = dim_const(c, 1 + pick(&r, 100));
        bool in = expr_in_bounds(c, e, top, d.extent, d.n);
        int64_t lo, hi, n;
        bool ranged = expr_range(c, e, d.extent, d.n, &lo, &hi);
        ck_assert_msg(ctx_errors(c) == 0, "%s: %s", text_of(c, e), ctx_messages(c));
        dim_is_const(c, top, &n);
        Expr coef[AXES] = {{0}}, rest = {0};
        bool affine = expr_affine(c, s, d.n, coef, &rest);
        for (int point = 0; point < 60; point++) {
            if (d.symbolic && point % 10 == 0)
                for (int a = 0; a < AXES; a++) size[a] = sizes[pick(&r, 8)];
            memcpy(sym, size, sizeof size);
            sym[d.n] = pick(&r, 4);
            for (uint32_t a = 0; a < d.n; a++) at[a] = pick(&r, (int)size[a]);
            Scalar arg[3] = {{.t = DT_I64}, {.t = DT_I32}, {.t = DT_U8, .i = pick(&r, 256)}};
            World w = {.arg = arg, .axis = at, .sym = sym};
            int64_t x = eval_expr(c, e, &w).i, y = eval_expr(c, s, &w).i;
            ck_assert_msg(
                x == y, "%s = %lld but %s = %lld at %lld %lld %lld %lld of %lld %lld %lld %lld",
                text_of(c, e), (long long)x, text_of(c, s), (long long)y, (long long)at[0],
                (long long)at[1], (long long)at[2], (long long)at[3], (long long)size[0],
                (long long)size[1], (long long)size[2], (long long)size[3]);
            if (ranged) ck_assert_msg(x >= lo && x <= hi, "%s", text_of(c, e));
            if (in) ck_assert_msg(x >= 0 && x < n, "%s < %lld", text_of(c, e), (long long)n);
            if (!affine) continue;
            uint64_t sum = (uint64_t)eval_expr(c, rest, &w).i;
            for (uint32_t a = 0; a < d.n; a++)
                if (coef[a].i) sum += (uint64_t)eval_expr(c, coef[a], &w).i * (uint64_t)at[a];
            ck_assert_msg((int64_t)sum == x, "%s is not the sum of its parts", text_of(c, s));
        }
        ctx_free(c);
    }
}
END_TEST

/* Every chain of reshapes and permutations of an array that returns to its shape returns to its
 * index. */
START_TEST(test_round_trip) {
    Ctx *c = ctx_new();
    static const char *const shapes[][4] = {
        {"4", "6", "8"}, {"N", "6", "8"}, {"N", "S", "8"}, {"N", "S", "W"}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        Dim d[3], all = dim_const(c, 1);
        for (int a = 0; a < 3; a++) all = dim_mul(c, all, d[a] = dim(c, shapes[k][a]));
        Expr flat = expr_axis(c, 0), x[3], back, inner = expr_dim(c, dim_mul(c, d[1], d[2]));
        x[0] = op(c, S_FDIV, flat, inner);
        x[1] = op(c, S_MOD, op(c, S_FDIV, flat, expr_dim(c, d[2])), expr_dim(c, d[1]));
        x[2] = op(c, S_MOD, flat, expr_dim(c, d[2]));
        back = op(c, S_ADD,
                  op(c, S_MUL, op(c, S_ADD, op(c, S_MUL, x[0], expr_dim(c, d[1])), x[1]),
                     expr_dim(c, d[2])),
                  x[2]);
        Expr s = expr_simplify_index(c, back, &all, 1);
        ck_assert_msg(s.i == flat.i, "%s is %s", text_of(c, back), text_of(c, s));
    }
    ctx_free(c);
}
END_TEST

START_TEST(test_affine) {
    Ctx *c = ctx_new();
    Expr coef[3], rest;
    ck_assert(expr_affine(c, parse(c, "(#0 * dim(W) + #1 - a) * 4 + 7 - #0", types, NTYPES), 3,
                          coef, &rest));
    ck_assert_str_eq(text_of(c, coef[0]), "dim(4*W-1)");
    ck_assert_str_eq(text_of(c, coef[1]), "4");
    ck_assert_uint_eq(coef[2].i, 0);
    ck_assert(expr_affine(c, parse(c, "a * #2 + i64(b)", types, NTYPES), 3, coef, &rest));
    ck_assert_str_eq(text_of(c, coef[2]), "a");
    ck_assert_str_eq(text_of(c, rest), "i64(b)");
    ck_assert(expr_affine(c, parse(c, "#0 - #0 + #1 - #1", types, NTYPES), 3, coef, &rest));
    ck_assert(!coef[0].i && !coef[1].i);
    ck_assert_str_eq(text_of(c, rest), "0");
    ck_assert(expr_affine(c, parse(c, "load(3, a)", types, NTYPES), 3, coef, &rest));
    ck_assert(!expr_affine(c, parse(c, "#0 * #1", types, NTYPES), 3, coef, &rest));
    ck_assert(!expr_affine(c, parse(c, "mod(#0, 3)", types, NTYPES), 3, coef, &rest));
    ck_assert(!expr_affine(c, parse(c, "#3", types, NTYPES), 3, coef, &rest));
    ck_assert(!expr_affine(c, parse(c, "i64(load(1, #0))", types, NTYPES), 3, coef, &rest));
    ctx_free(c);
}
END_TEST

/* Dims that were unified after an expression was made are one when it is simplified. */
START_TEST(test_unified) {
    Ctx *c = ctx_new();
    Expr e = parse(c, "fdiv(#0 * dim(W) + #1, dim(V)) + dim(K)", types, NTYPES);
    Dim extent[2] = {dim(c, "H"), dim(c, "W")};
    dim_unify(c, dim(c, "V"), dim(c, "W"));
    dim_unify(c, dim(c, "K"), dim_const(c, 3));
    ck_assert_str_eq(text_of(c, expr_simplify_index(c, e, extent, 2)), "#0 + 3");
    Expr k = parse(c, "dim(K)", types, NTYPES);
    ck_assert_str_eq(text_of(c, expr_simplify_index(c, k, NULL, 0)), "3");
    ctx_free(c);
}
END_TEST

/* Numbers near the ends of i64 are let alone. */
START_TEST(test_large) {
    static const char *const texts[] = {"fdiv(#0 * 4611686018427387904 + 5, 4611686018427387904)",
                                        "mod(#0 + 9223372036854775807, 9223372036854775807)",
                                        "#0 * 9223372036854775807 * 9223372036854775807",
                                        "(#0 + 9223372036854775807) * dim(N)",
                                        "min(#0 + 9223372036854775807, 0) < 5",
                                        "fdiv(fdiv(#0, 4611686018427387904), 4611686018427387904)",
                                        "#0 * -9223372036854775808 - 1",
                                        "fdiv(#0 * -9223372036854775808, -1)",
                                        "mod(#0, -9223372036854775808)",
                                        "fdiv(#0 * 3, 0)",
                                        "mod(#0 * 3, -4)",
                                        "dim(N) * 9223372036854775807 + #0"};
    Ctx *c = ctx_new();
    Dim extent[1] = {dim_const(c, 100)};
    dim_sym(c, "N", 0, DIM_INF);
    for (size_t k = 0; k < sizeof texts / sizeof *texts; k++) {
        Expr e = parse(c, texts[k], types, NTYPES), s = expr_simplify_index(c, e, extent, 1);
        for (int64_t x = 0; x < 100; x += 9) {
            int64_t n = 3;
            World w = {.axis = &x, .sym = &n};
            ck_assert_msg(eval_expr(c, e, &w).i == eval_expr(c, s, &w).i, "%s is not %s", texts[k],
                          text_of(c, s));
        }
    }
    ctx_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("expr_index");
    TCase *t = tcase_create("index");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_rows);
    tcase_add_test(t, test_in_bounds);
    tcase_add_test(t, test_range);
    tcase_add_loop_test(t, test_values, 0, 16);
    tcase_add_test(t, test_round_trip);
    tcase_add_test(t, test_affine);
    tcase_add_test(t, test_unified);
    tcase_add_test(t, test_large);
    suite_add_tcase(s, t);
    return run_suite(s);
}
