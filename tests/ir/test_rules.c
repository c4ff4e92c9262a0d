/* test_rules.c: every row of passes/rules.def, for every element type it holds for: both sides
 * evaluated on special and random values agree as the row says, the rule fires on its own left
 * side, and does so in any order of commutative arguments. */
#include "passes/rules.h"

#include "expr_fixture.h"

#ifdef __SANITIZE_ADDRESS__ /* each try costs ten times as much */
enum { LETTERS = 26, TRIES = 400 };
#else
enum { LETTERS = 26, TRIES = 4000 };
#endif
static const DType types[] = {DT_F32, DT_F64, DT_F16, DT_BF16, DT_I8,  DT_I16, DT_I32,
                              DT_I64, DT_U8,  DT_U16, DT_U32,  DT_U64, DT_BOOL};
enum { NTYPES = sizeof types / sizeof *types };

static Scalar value(Rng *r, DType t) {
    static const double special[] = {0,     -0.0,  1,      -1,     2,        -2,        0.5, -0.5,
                                     3,     -3,    4,      7,      INFINITY, -INFINITY, NAN, 1e-7,
                                     -1e-7, 1e-30, -1e-40, 3e-308, 1e30,     -1e30,     88,  -88,
                                     104,   -104,  10.5,   -0.25,  64,       1024};
    static const int64_t whole[] = {0,   1,         -1,        2,         -2,        3,   -3,
                                    4,   5,         7,         8,         16,        127, -128,
                                    255, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, 64};
    if (t == DT_BOOL) return (Scalar){.t = t, .i = pick(r, 2)};
    if (!dt_is_float(t))
        return dt_convert(
            (Scalar){.t = DT_I64, .i = pick(r, 3) ? whole[pick(r, 20)] : (int64_t)rnd(r)}, t);
    double x = (double)(int64_t)rnd(r) * 0x1p-63;
    int how = pick(r, 4);
    double f = how == 0   ? special[pick(r, 30)]
               : how == 1 ? x
               : how == 2 ? 20 * x
                          : ldexp(x, pick(r, 250) - 125);
    return dt_convert((Scalar){.t = DT_F64, .f = f}, t);
}

static double ulp_of(DType t, double v) {
    int digits = t == DT_F64   ? 53
                 : t == DT_F32 ? 24
                 : t == DT_F16 ? 11
                               : 8,
        least = t == DT_F64   ? -1021
                : t == DT_F16 ? -13
                              : -125,
        e;
    frexp(v, &e);
    return ldexp(1, (e < least ? least : e) - digits);
}

static bool agree(Scalar a, Scalar b, int ulp) {
    if (same_scalar(a, b)) return true;
    if (!ulp || a.t != b.t || !dt_is_float(a.t) || isnan(a.f) || isnan(b.f)) return false;
    if (isinf(a.f) || isinf(b.f)) { /* the other side is next to the largest number */
        double finite = isinf(a.f) ? b.f : a.f,
               most = dt_convert((Scalar){.t = DT_F64,
                                          .f = a.t == DT_F16   ? 65504
                                               : a.t == DT_F64 ? 1.79e308
                                                               : 3.38e38},
                                 a.t)
                          .f;
        return isfinite(finite) && fabs(finite) >= most - ulp * ulp_of(a.t, most);
    }
    double big = fabs(a.f) > fabs(b.f) ? fabs(a.f) : fabs(b.f);
    double smallest = a.t == DT_F64 ? 0x1p-1022 : a.t == DT_F16 ? 0x1p-14 : 0x1p-126;
    return fabs(a.f - b.f) <= ulp * ulp_of(a.t, big) || fabs(a.f - b.f) <= ulp * smallest;
}

static bool pow2_in(const RuleView *v, const Scalar *arg) {
    return !v->pow2 || rule_power_of_two(arg['k' - 'a']);
}

/* Integer rules with "pow" of more than the type holds wrap on both sides: exact. */
static int tolerance(const RuleView *v) { return dt_is_float(v->type) ? v->ulp : 0; }

START_TEST(sides_agree) {
    Ctx *c = ctx_new();
    Rules *rules = rules_new(c, 100);
    Rng r = {0x1234567};
    uint32_t rows = 0;
    for (int t = 0; t < NTYPES; t++) {
        RuleView v;
        for (uint32_t k = 0; rules_view(rules, types[t], k, &v); k++, rows++) {
            uint32_t tried = 0;
            for (int n = 0; n < TRIES; n++) {
                Scalar arg[LETTERS];
                for (int l = 0; l < LETTERS; l++)
                    arg[l] = value(&r, l >= 'p' - 'a' && l <= 's' - 'a' ? DT_BOOL : types[t]);
                if (v.pow2 && n % 2)
                    arg['k' - 'a'] = dt_convert(
                        (Scalar){.t = DT_F64, .f = ldexp(n % 4 == 1 ? 1 : -1, pick(&r, 24) - 12)},
                        types[t]);
                World w = {.arg = arg};
                if (!pow2_in(&v, arg) || (v.cond.i && !eval_expr(c, v.cond, &w).i)) continue;
                tried++;
                Scalar left = eval_expr(c, v.left, &w), right = eval_expr(c, v.right, &w);
                ck_assert_msg(agree(left, right, tolerance(&v)),
                              "%s over %s: a=%.9g b=%.9g k=%.9g l=%.9g (a=%lld b=%lld k=%lld "
                              "l=%lld p=%d q=%d): %.17g (%lld) against %.17g (%lld)",
                              v.text, dt_name(types[t]), arg[0].f, arg[1].f, arg[10].f, arg[11].f,
                              (long long)arg[0].i, (long long)arg[1].i, (long long)arg[10].i,
                              (long long)arg[11].i, (int)arg[15].i, (int)arg[16].i, left.f,
                              (long long)left.i, right.f, (long long)right.i);
            }
            ck_assert_msg(tried > 50, "%s over %s: the condition held %u times", v.text,
                          dt_name(types[t]), tried);
        }
    }
    ck_assert_uint_gt(rows, 200);
    ctx_free(c);
}
END_TEST

typedef struct Swap {
    Rng *r;
} Swap;

static Expr shuffle(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    static const char commutes[S_COUNT] = {
#define SCALAR(e, text, n, rule, flags) [S_##e] = sizeof flags > 1,
#include "ir/scalar.def"
#undef SCALAR
    };
    Swap *s = data;
    (void)e;
    if (i->kind == E_OP && commutes[i->op] && pick(s->r, 2))
        return expr_op(c, (SOp)i->op, newarg[1], newarg[0], (Expr){0});
    return i->narg ? expr_rebuild(c, i, newarg) : e;
}

/* Constants for k..n that satisfy the condition; other letters stay operands, in a random order. */
START_TEST(rules_fire) {
    Rng r = {0x9876543};
    for (int t = 0; t < NTYPES; t++) {
        for (uint32_t k = 0;; k++) {
            Ctx *c = ctx_new(); /* a fresh table: the order of commutative arguments is that of
                                   first use */
            RuleView v;
            if (!rules_view(rules_new(c, 100), types[t], k, &v)) {
                ctx_free(c);
                break;
            }
            bool fired = false;
            for (int n = 0; n < 400 && !fired; n++) {
                Expr to[LETTERS];
                Scalar arg[LETTERS];
                for (uint32_t l = 0; l < LETTERS; l++) {
                    bool boolean = l >= 'p' - 'a' && l <= 's' - 'a';
                    arg[l] = value(&r, boolean ? DT_BOOL : types[t]);
                    if (v.pow2 && l == 'k' - 'a')
                        arg[l] = dt_convert((Scalar){.t = DT_F64, .f = ldexp(1, pick(&r, 24) - 12)},
                                            types[t]);
                    to[l] = rule_letter_is_const(l)
                                ? expr_const(c, arg[l])
                                : expr_arg(c, (uint32_t)(LETTERS - l) * 3 % LETTERS,
                                           boolean ? DT_BOOL : types[t]);
                }
                World w = {.arg = arg};
                if (v.cond.i && !eval_expr(c, v.cond, &w).i) continue;
                Expr e =
                    expr_rewrite(c, expr_subst_args(c, v.left, to, LETTERS), shuffle, &(Swap){&r});
                uint32_t count = 0;
                Expr done = rules_apply(rules_new(c, 100), e, &count);
                fired = count > 0 && done.i != e.i;
            }
            ck_assert_msg(fired, "%s over %s never fires", v.text, dt_name(types[t]));
            ctx_free(c);
        }
    }
}
END_TEST

/* Whole expressions: input, result. f32. */
static const char *const whole[][2] = {
    {"pow(a, 2) + 0", "a * a + 0"},
    {"recip(1 + exp(0 - a))", "sigmoid(a)"},
    {"min(max(min(max(a, 0), 6), 1), 5)", "min(max(a, 1), 5)"},
    {"recip(1 + exp(-(a * b)))", "sigmoid(a * b)"},
    {"1 / sqrt(a + 1e-05)", "rsqrt(a + 1e-05)"},
    {"a / sqrt(b + 1e-05)", "a * rsqrt(b + 1e-05)"},
    {"a / 8", "a * 0.125"},
    {"a / 3", "a / 3"},
    {"a / (1 + exp(-a))", "a * sigmoid(a)"},
    {"select(a > 0, a, select(a > 0, b, 1))", "select(a > 0, a, 1)"},
};

START_TEST(expressions) {
    Ctx *c = ctx_new();
    DType t[] = {DT_F32, DT_F32};
    for (size_t k = 0; k < sizeof whole / sizeof *whole; k++) {
        uint32_t fired = 0;
        Expr e = rules_apply(rules_new(c, 100), parse(c, whole[k][0], t, 2), &fired);
        ck_assert_msg(e.i == parse(c, whole[k][1], t, 2).i, "%s gives %s", whole[k][0],
                      text_of(c, e));
    }
    ctx_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("rules");
    TCase *t = tcase_create("rules");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, sides_agree);
    tcase_add_test(t, rules_fire);
    tcase_add_test(t, expressions);
    suite_add_tcase(s, t);
    return run_suite(s);
}
