/* test_expr.c: scalar semantics, constructors with their identities, and the text form of
 * expressions. */
#include "expr_fixture.h"

static const DType numeric[] = {
    DT_F32, DT_F64, DT_F16, DT_BF16, DT_F8E4M3, DT_F8E5M2, DT_F8E4M3Z, DT_F8E5M2Z, DT_I8, DT_I16,
    DT_I32, DT_I64, DT_U8,  DT_U16,  DT_U32,    DT_U64,    DT_I4,      DT_U4,      DT_I2, DT_U2};
enum { NUMERIC = sizeof numeric / sizeof *numeric };
typedef struct OpRow { const char *text, *rule; int n; } OpRow;
static const OpRow ops[S_COUNT] = {
#define SCALAR(e, text, n, rule, flags) [S_##e] = {text, #rule, n},
#include "ir/scalar.def"
#undef SCALAR
};

static bool takes(SOp op, DType t) {
    const char *rule = ops[op].rule;
    if (t == DT_BOOL)
        return op == S_AND || op == S_OR || op == S_XOR || op == S_NOT || op == S_MIN ||
               op == S_MAX || !strcmp(rule, "CMP") || !strcmp(rule, "SEL");
    if (!strcmp(rule, "INT")) return dt_is_int(t);
    if (!strcmp(rule, "FLT") || !strcmp(rule, "TEST")) return dt_is_float(t);
    return true;
}

static Scalar value(Rng *r, DType t) {
    static const double special[] = {0,    -0.0, 1,     -1,   2,     -2,        0.5,
                                     -1.5, 3,    7,     255,  65504, -INFINITY, INFINITY,
                                     NAN,  1e-7, 1e-40, 1e30, 100,   -100};
    static const int64_t whole[] = {0,         1,         -1,        2,   -2,   3,   5,
                                    7,         8,         16,        127, -128, 255, INT32_MAX,
                                    INT32_MIN, INT64_MAX, INT64_MIN, 63,  64,   100};
    if (dt_is_float(t)) {
        double f = pick(r, 2) ? special[pick(r, 20)] : (double)(int64_t)rnd(r) / 1e17;
        return dt_convert((Scalar){.t = DT_F64, .f = f}, t);
    }
    return dt_convert((Scalar){.t = DT_I64, .i = pick(r, 2) ? whole[pick(r, 20)] : (int64_t)rnd(r)},
                      t);
}

/* ---- semantics ---- */

typedef struct IntRow { SOp op; DType t; int64_t x, y, want; } IntRow;
static const IntRow int_rows[] = {
    {S_ADD, DT_I8, 127, 1, -128},          {S_ADD, DT_U8, 255, 1, 0},
    {S_ADD, DT_I4, 7, 1, -8},              {S_ADD, DT_U4, 15, 1, 0},
    {S_ADD, DT_I64, INT64_MAX, 1, INT64_MIN}, {S_SUB, DT_U32, 0, 1, UINT32_MAX},
    {S_SUB, DT_U64, 0, 1, -1},             {S_MUL, DT_I32, 65536, 65536, 0},
    {S_MUL, DT_I16, 300, 300, 24464},      {S_DIV, DT_I32, 7, 0, 0},
    {S_DIV, DT_I32, INT32_MIN, -1, INT32_MIN}, {S_DIV, DT_I64, INT64_MIN, -1, INT64_MIN},
    {S_DIV, DT_I32, -7, 2, -3},            {S_DIV, DT_U64, -1, 2, INT64_MAX},
    {S_FDIV, DT_I32, -7, 2, -4},           {S_FDIV, DT_I32, 7, -2, -4},
    {S_FDIV, DT_I32, -8, 2, -4},           {S_FDIV, DT_I64, 5, 0, 0},
    {S_FDIV, DT_I64, INT64_MIN, -1, INT64_MIN}, {S_FDIV, DT_U64, -1, 2, INT64_MAX},
    {S_MOD, DT_I32, -7, 2, 1},             {S_MOD, DT_I32, 7, -2, -1},
    {S_MOD, DT_I32, -7, -2, -1},           {S_MOD, DT_I32, 5, 0, 0},
    {S_MOD, DT_I64, INT64_MIN, -1, 0},     {S_MOD, DT_U8, 250, 7, 5},
    {S_REM, DT_I32, -7, 2, -1},            {S_REM, DT_I32, 7, -2, 1},
    {S_REM, DT_I32, 7, 0, 0},              {S_REM, DT_I64, INT64_MIN, -1, 0},
    {S_POW, DT_I32, 3, 4, 81},             {S_POW, DT_I32, 0, 0, 1},
    {S_POW, DT_I32, 2, -1, 0},             {S_POW, DT_I32, -1, -3, -1},
    {S_POW, DT_I32, 0, -1, 0},             {S_POW, DT_I8, 2, 7, -128},
    {S_POW, DT_U64, 3, -1, -6148914691236517205}, {S_MIN, DT_U64, -1, 1, 1},
    {S_MAX, DT_U64, -1, 1, -1},            {S_MIN, DT_I64, -1, 1, -1},
    {S_NEG, DT_I8, -128, 0, -128},         {S_NEG, DT_U8, 1, 0, 255},
    {S_ABS, DT_I8, -128, 0, -128},         {S_ABS, DT_I8, -5, 0, 5},
    {S_ABS, DT_U64, -1, 0, -1},            {S_SIGN, DT_I32, -9, 0, -1},
    {S_SIGN, DT_U64, -1, 0, 1},            {S_SIGN, DT_I32, 0, 0, 0},
    {S_AND, DT_I8, -1, 15, 15},            {S_OR, DT_I8, -128, 1, -127},
    {S_XOR, DT_U8, 255, 15, 240},          {S_NOT, DT_U8, 1, 0, 254},
    {S_NOT, DT_I8, 1, 0, -2},              {S_NOT, DT_BOOL, 1, 0, 0},
    {S_NOT, DT_BOOL, 0, 0, 1},             {S_XOR, DT_BOOL, 1, 1, 0},
    {S_AND, DT_BOOL, 1, 0, 0},             {S_OR, DT_BOOL, 1, 0, 1},
    {S_SHL, DT_I8, 1, 7, -128},            {S_SHL, DT_I8, 1, 8, 0},
    {S_SHL, DT_U64, 1, 64, 0},             {S_SHL, DT_I32, 1, -1, 0},
    {S_SHR, DT_I8, -128, 7, -1},           {S_SHR, DT_I8, -128, 100, -1},
    {S_SHR, DT_U8, 128, 8, 0},             {S_SHR, DT_U64, -1, 63, 1},
    {S_SHR, DT_I64, 5, 64, 0},             {S_LT, DT_U64, 1, -1, 1},
    {S_LT, DT_I64, 1, -1, 0},              {S_GE, DT_U64, -1, 1, 1},
    {S_EQ, DT_I8, -1, -1, 1},              {S_NE, DT_I8, -1, -1, 0},
    {S_LE, DT_BOOL, 0, 1, 1},              {S_GT, DT_I16, 3, 2, 1},
};

START_TEST(test_integer_table) {
    for (size_t k = 0; k < sizeof int_rows / sizeof *int_rows; k++) {
        const IntRow *r = &int_rows[k];
        Scalar a[2] = {{.t = r->t, .i = r->x}, {.t = r->t, .i = r->y}};
        Scalar s = expr_eval_op(r->op, r->t, a);
        ck_assert_msg(s.i == r->want, "%s.%s(%lld, %lld) = %lld", ops[r->op].text, dt_name(r->t),
                      (long long)r->x, (long long)r->y, (long long)s.i);
    }
}
END_TEST

typedef struct FloatRow { SOp op; DType t; double x, y, want; } FloatRow;
static const FloatRow float_rows[] = {
    {S_ADD, DT_F32, 16777216, 1, 16777216},    {S_ADD, DT_F64, 16777216, 1, 16777217},
    {S_ADD, DT_F16, 2048, 1, 2048},            {S_ADD, DT_BF16, 256, 1, 256},
    {S_MUL, DT_F16, 1000, 1000, INFINITY},     {S_DIV, DT_F32, 1, 0, INFINITY},
    {S_DIV, DT_F32, -1, 0, -INFINITY},         {S_DIV, DT_F32, 0, 0, NAN},
    {S_DIV, DT_F32, 1, 3, 0.3333333432674408}, {S_MIN, DT_F32, 0.0, -0.0, -0.0},
    {S_MIN, DT_F32, -0.0, 0.0, -0.0},          {S_MAX, DT_F32, -0.0, 0.0, 0.0},
    {S_MAX, DT_F32, 0.0, -0.0, 0.0},           {S_MIN, DT_F32, NAN, 1, NAN},
    {S_MAX, DT_F32, 1, NAN, NAN},              {S_MOD, DT_F32, -7, 3, 2},
    {S_MOD, DT_F32, 7, -3, -2},                {S_MOD, DT_F32, 6, -3, -0.0},
    {S_MOD, DT_F32, 5, 0, NAN},                {S_MOD, DT_F32, -1, INFINITY, INFINITY},
    {S_REM, DT_F32, -7, 3, -1},                {S_REM, DT_F32, 7, -3, 1},
    {S_POW, DT_F32, 2, 10, 1024},              {S_POW, DT_F32, 0, 0, 1},
    {S_POW, DT_F32, -8, 1.0 / 3, NAN},         {S_POW, DT_F32, 3, 2, 9},
    {S_POW, DT_F32, NAN, 0, 1},                {S_POW, DT_F32, 4, -1, 0.25},
    {S_NEG, DT_F32, 0.0, 0, -0.0},             {S_ABS, DT_F32, -0.0, 0, 0.0},
    {S_SIGN, DT_F32, -3, 0, -1},               {S_SIGN, DT_F32, NAN, 0, NAN},
    {S_RINT, DT_F32, 2.5, 0, 2},               {S_RINT, DT_F32, 3.5, 0, 4},
    {S_RINT, DT_F32, -0.5, 0, -0.0},           {S_FLOOR, DT_F32, -1.5, 0, -2},
    {S_CEIL, DT_F32, 1.5, 0, 2},               {S_TRUNC, DT_F32, -1.5, 0, -1},
    {S_SQRT, DT_F32, 2, 0, 1.4142135381698608}, {S_SQRT, DT_F32, -1, 0, NAN},
    {S_RSQRT, DT_F32, 4, 0, 0.5},              {S_RECIP, DT_F32, -0.0, 0, -INFINITY},
    {S_SIGMOID, DT_F32, 0, 0, 0.5},            {S_SIGMOID, DT_F32, -1000, 0, 0},
    {S_SIGMOID, DT_F64, 1000, 0, 1},           {S_EXP, DT_F32, 100, 0, INFINITY},
    {S_LOG, DT_F32, 0, 0, -INFINITY},          {S_TANH, DT_F32, 50, 0, 1},
    {S_ERF, DT_F32, -50, 0, -1},               {S_EXPM1, DT_F64, 0, 0, 0},
};

START_TEST(test_float_table) {
    for (size_t k = 0; k < sizeof float_rows / sizeof *float_rows; k++) {
        const FloatRow *r = &float_rows[k];
        Scalar a[2] = {dt_convert((Scalar){.t = DT_F64, .f = r->x}, r->t),
                       dt_convert((Scalar){.t = DT_F64, .f = r->y}, r->t)};
        Scalar s = expr_eval_op(r->op, r->t, a);
        ck_assert_msg(same_scalar(s, (Scalar){.t = r->t, .f = r->want}), "%s.%s(%g, %g) = %.17g",
                      ops[r->op].text, dt_name(r->t), r->x, r->y, s.f);
    }
    /* f8e5m2 has infinities: an operation keeps one, overflow saturates */
    Scalar q[2] = {{.t = DT_F8E5M2, .f = 1}, {.t = DT_F8E5M2, .f = 0}};
    ck_assert(isinf(expr_eval_op(S_DIV, DT_F8E5M2, q).f));
    q[0].f = q[1].f = 57344;
    ck_assert(expr_eval_op(S_ADD, DT_F8E5M2, q).f == 57344);
    /* rounded once: 1 + 2^-24 + 2^-48 lies above a tie of f32 */
    double e = ldexp(1, -24);
    Scalar f[3] = {{.t = DT_F32, .f = 1 + ldexp(1, -12)},
                   {.t = DT_F32, .f = 1 + ldexp(1, -12)},
                   {.t = DT_F32, .f = -1}};
    ck_assert(expr_eval_op(S_FMA, DT_F32, f).f == ldexp(1, -11) + e);
}
END_TEST

static bool is_normal(Scalar s) {
    if (dt_is_float(s.t) && isinf(s.f)) return s.t == DT_F64 || isinf(dt_round_f32(s.t, (float)s.f));
    if (dt_is_float(s.t))
        return isnan(s.f) || same_scalar(s, dt_convert((Scalar){.t = DT_F64, .f = s.f}, s.t));
    if (s.t == DT_BOOL) return s.i == 0 || s.i == 1;
    return same_scalar(s, dt_convert((Scalar){.t = DT_I64, .i = s.i}, s.t));
}

/* Every operation on every type it takes gives a value of the right type; integers agree with wide
 * arithmetic. */
START_TEST(test_total) {
    Rng r = {88172645463325252u};
    for (SOp op = 1; op < S_COUNT; op++)
        for (int k = 0; k <= NUMERIC; k++) {
            DType t = k < NUMERIC ? numeric[k] : DT_BOOL;
            if (!takes(op, t)) continue;
            bool test = !strcmp(ops[op].rule, "CMP") || !strcmp(ops[op].rule, "TEST");
            for (int n = 0; n < 400; n++) {
                Scalar a[3] = {value(&r, t), value(&r, t), value(&r, t)};
                if (op == S_SELECT) a[0] = value(&r, DT_BOOL);
                Scalar s = expr_eval_op(op, t, a);
                ck_assert_int_eq(s.t, test ? DT_BOOL : t);
                ck_assert_msg(is_normal(s), "%s.%s gives %g", ops[op].text, dt_name(t), s.f);
                if (!dt_is_int(t) || t == DT_U64) continue;
                __int128 x = a[0].i, y = a[1].i, w;
                bool floors = y != 0 && x % y != 0 && (x < 0) != (y < 0);
                if (op == S_ADD) w = x + y;
                else if (op == S_SUB) w = x - y;
                else if (op == S_MUL) w = x * y;
                else if (op == S_DIV) w = y ? x / y : 0;
                else if (op == S_REM) w = y ? x % y : 0;
                else if (op == S_FDIV) w = y ? x / y - floors : 0;
                else if (op == S_MOD) w = y ? x % y + (floors ? y : 0) : 0;
                else continue;
                ck_assert(same_scalar(s, dt_convert((Scalar){.t = DT_I64, .i = (int64_t)w}, t)));
            }
        }
}
END_TEST

/* ---- constructors ---- */

/* a, b: f32; c, d: i32; e, f: bool; g: i64; h: u8; i: f16 */
static const DType types[] = {DT_F32,  DT_F32, DT_I32, DT_I32, DT_BOOL,
                              DT_BOOL, DT_I64, DT_U8,  DT_F16};
enum { NTYPES = sizeof types / sizeof *types };

static const char *const identities[][2] = {
    {"a * 1", "a"},
    {"1 * a", "a"},
    {"a + -0", "a"},
    {"a + 0", "a + 0"},
    {"a - 0", "a"},
    {"a / 1", "a"},
    {"a * 0", "a * 0"},
    {"a - a", "a - a"},
    {"neg(neg(a))", "a"},
    {"-(-a)", "a"},
    {"a / 2", "a / 2"},
    {"abs(neg(a))", "abs(a)"},
    {"abs(abs(a))", "abs(a)"},
    {"floor(rint(a))", "rint(a)"},
    {"min(a, inf)", "a"},
    {"max(-inf, a)", "a"},
    {"min(a, a)", "a"},
    {"pow(a, 2)", "a * a"},
    {"pow(a, 1)", "a"},
    {"pow(a, -1)", "recip(a)"},
    {"pow(a, 0)", "1:f32"},
    {"a == a", "a == a"},
    {"a < a", "false"},
    {"not(a < b)", "not(a < b)"},
    {"not(a == b)", "a != b"},
    {"select(e, a, a)", "a"},
    {"select(true, a, b)", "a"},
    {"select(not(e), a, b)", "select(e, b, a)"},
    {"select(e, true, false)", "e"},
    {"select(e, false, true)", "not(e)"},
    {"select(e, 1:f32, 2)", "select(e, 1:f32, 2)"},
    {"b + a", "a + b"},
    {"(a * b) + a", "a * b + a"},
    {"2 + a", "a + 2"},
    {"2 - a", "2 - a"},
    {"c + 0", "c"},
    {"c * 0", "0:i32"},
    {"c - c", "0:i32"},
    {"c - 1", "c - 1"},
    {"c + -1", "c - 1"},
    {"(c + 3) + 4", "c + 7"},
    {"(c - 3) + 3", "c"},
    {"(c * 3) * 4", "c * 12"},
    {"0 - c", "neg(c)"},
    {"fdiv(c, 1)", "c"},
    {"mod(c, 1)", "0:i32"},
    {"c / 0", "0:i32"},
    {"mod(0, c)", "0:i32"},
    {"not(c < d)", "c >= d"},
    {"c <= c", "true"},
    {"c != c", "false"},
    {"and(c, c)", "c"},
    {"xor(c, c)", "0:i32"},
    {"and(c, -1)", "c"},
    {"or(c, 0)", "c"},
    {"xor(c, -1)", "not(c)"},
    {"and(and(c, 12), 10)", "and(c, 8)"},
    {"and(e, true)", "e"},
    {"or(e, true)", "true"},
    {"e == true", "e"},
    {"e == false", "not(e)"},
    {"shl(c, 0)", "c"},
    {"pow(c, 2)", "c * c"},
    {"max(max(c, 3), 5)", "max(c, 5)"},
    {"f32(a)", "a"},
    {"f64(f32(i))", "f64(i)"},
    {"f16(f32(i))", "i"},
    {"f32(f16(a))", "f32(f16(a))"},
    {"i32(i64(h))", "i32(h)"},
    {"u8(i32(h))", "h"},
    {"i8(u8(c))", "i8(u8(c))"},
    {"bool(i32(e))", "e"},
    {"i64(f32(h))", "i64(h)"},
    {"f32(i32(h))", "f32(h)"},
    {"f32(i32(g))", "f32(i32(g))"},
    {"f32(3)", "3:f32"},
    {"u8(255)", "255:u8"},
    {"i32(2.75)", "2:i32"},
    {"i32(nan)", "0:i32"},
    {"bitcast.i32(1:f32)", "1065353216:i32"},
    {"bitcast.f32(bitcast.i32(a))", "a"},
    {"bitcast.f32(c)", "bitcast.f32(c)"},
    {"g + dim(N)", "g + dim(N)"},
    {"dim(N) * dim(M)", "dim(M*N)"},
    {"dim(N) + 1", "dim(N+1)"},
    {"dim(N) == dim(N)", "true"},
    {"dim(N) < dim(N) + 1", "true"},
    {"dim(4)", "4"},
    {"dim(N) - dim(N)", "0"},
    {"load(0, #0, #1 + 1)", "load(0, #0, #1 + 1)"},
    {"load.clamp(b, #0)", "load.clamp(1, #0)"},
    {"load.value(c, g; 7)", "load.value(2, g; 7)"},
    {"load.fail@\"bad \\\"x\\\"\"(0, g)", "load.fail@\"bad \\\"x\\\"\"(0, g)"},
    {"a + b * c", NULL}, {"a + b * b", "a + b * b"},
    {"(a + b) * a", "(a + b) * a"}, {"u8(f32(h))", "h"}, {"i8(f32(h))", "i8(f32(h))"},
    {"a - (b - a)", "a - (b - a)"},
    {"a - b - a", "a - b - a"},
    {"a / (b * a)", "a / (a * b)"},
    {"(a < b) == (b < a)", "(a < b) == (b < a)"},
    {"select(a < b, a * 2, exp(-b))", "select(a < b, a * 2, exp(neg(b)))"},
    {"1 + 2", "3"},
    {"2 < 3", "true"},
    {"fma(a, 2, 1)", "fma(a, 2, 1)"},
    {"a * 0.1", "a * 0.1"},
    {"i * 0.1", "i * 0.1"},
    {"a + nan", "a + nan"},
    {"1e10 + a", "a + 1e+10"},
    {"let t0 = a * b; t0 + t0", "a * b + a * b"},
    {"g - 9223372036854775808", NULL},
    {"h + 256", NULL},
    {"c + 1.5", NULL},
    {"a + c", NULL},
    {"sqrt(c)", NULL},
    {"e + e", NULL},
    {"z", NULL},
    {"load(0, c)", NULL},
    {"a +", NULL},
    {"(a", NULL},
    {"foo(a)", NULL},
    {"a < b < a", "a < b"},
    {"t0", NULL},
    {"let t1 = a; t1", NULL},
    {"x26", NULL},
    {"load.fail@7(0)", NULL},
    {"0x10 + a", NULL},
    {"", NULL},
    {"load.value(0, g)", NULL},
    {"exp(a, b)", NULL},
    {"max(a)", NULL},
    {"1:f33", NULL},
    {"bitcast.f64(a)", NULL},
    {"#", NULL},
    {"#99999999999", NULL},
    {"a + 99999999999999999999999", "a + 1e+23"},
    {"dim()", NULL},
};

START_TEST(test_identities) {
    for (size_t k = 0; k < sizeof identities / sizeof *identities; k++) {
        Ctx *c = ctx_new();
        const char *s = identities[k][0], *want = identities[k][1];
        Expr e = expr_parse(c, &s, types, NTYPES);
        if (!want) {
            ck_assert_msg(!e.i, "'%s' is accepted as %s", identities[k][0], text_of(c, e));
            ck_assert_msg(ctx_errors(c) > 0, "'%s': no message", identities[k][0]);
        } else {
            ck_assert_msg(e.i, "'%s': %s", identities[k][0], ctx_messages(c));
            ck_assert_msg(!strcmp(text_of(c, e), want), "'%s' is %s, not %s", identities[k][0],
                          text_of(c, e), want);
            ck_assert_msg(parse(c, text_of(c, e), types, NTYPES).i == e.i,
                          "'%s' reads back otherwise", want);
        }
        ctx_free(c);
    }
}
END_TEST

START_TEST(test_poison) {
    Ctx *c = ctx_new();
    Expr none = {0}, a = expr_arg(c, 0, DT_F32);
    ck_assert_uint_eq(expr_op(c, S_ADD, none, a, none).i, 0);
    ck_assert_uint_eq(expr_cast(c, none, DT_F32).i, 0);
    ck_assert_uint_eq(expr_load(c, 0, DT_F32, 1, &none, OOB_NEVER, none, 0).i, 0);
    ck_assert_uint_eq(expr_dim(c, (Dim){0}).i, 0);
    ck_assert_int_eq(expr_info(c, none)->kind, E_NONE);
    ck_assert_int_eq(expr_cost(c, none), 0);
    ck_assert_uint_eq(expr_simplify_index(c, none, NULL, 0).i, 0);
    ck_assert_uint_eq(ctx_errors(c), 0);
    ck_assert_str_eq(text_of(c, none), "poison");
    ck_assert_uint_eq(expr_op(c, S_ADD, a, expr_arg(c, 1, DT_I32), none).i, 0);
    ck_assert_uint_eq(ctx_errors(c), 1);
    ctx_free(c);
}
END_TEST

START_TEST(test_guards) {
    Ctx *c = ctx_new();
    Loc l = loc_new(c, &(LocInfo){.name = "n", .node = 3});
    uint32_t g = expr_guard(c, l, "too far"), h = expr_guard(c, (Loc){0}, "too far");
    ck_assert_uint_ge(g, 1);
    ck_assert_uint_ne(g, h);
    ck_assert_uint_eq(expr_guard(c, l, "too far"), g);
    ck_assert_str_eq(expr_guard_text(c, g), "too far");
    ck_assert_uint_eq(expr_guard_loc(c, g).i, l.i);
    ck_assert_ptr_nonnull(expr_guard_text(c, 99));
    ctx_free(c);
}
END_TEST

/* ---- random expressions: the value of what is built is the value of what was asked for ---- */

enum { POOL = 40, WORLDS = 6 };
typedef struct Made { Expr e; Scalar v[WORLDS]; } Made;

static DType type_of(Ctx *c, Expr e) { return (DType)expr_info(c, e)->dtype; }

static void random_step(Ctx *c, Rng *r, Made *pool, int n, Made *out) {
    for (;;) {
        int kind = pick(r, 10);
        Made *a = &pool[pick(r, n)];
        DType t = type_of(c, a->e);
        if (kind == 0) {
            DType to = pick(r, 8) ? numeric[pick(r, NUMERIC)] : DT_BOOL;
            out->e = expr_cast(c, a->e, to);
            for (int w = 0; w < WORLDS; w++) out->v[w] = dt_convert(a->v[w], to);
            return;
        }
        if (kind == 1) {
            Scalar s = value(r, t);
            out->e = expr_const(c, s);
            for (int w = 0; w < WORLDS; w++) out->v[w] = s;
            return;
        }
        SOp op = (SOp)(1 + pick(r, S_COUNT - 1));
        Made *arg[3] = {a, a, a};
        if (op == S_SELECT && t != DT_BOOL) continue;
        if (op == S_SELECT) t = type_of(c, (arg[1] = &pool[pick(r, n)])->e);
        if (!takes(op, t)) continue;
        bool ok = true;
        for (int k = op == S_SELECT ? 2 : 1; k < ops[op].n; k++) {
            int tries = 0;
            do arg[k] = &pool[pick(r, n)];
            while (type_of(c, arg[k]->e) != t && ++tries < 50);
            ok &= type_of(c, arg[k]->e) == t;
        }
        if (!ok) continue;
        Expr x[3] = {arg[0]->e, arg[1]->e, arg[2]->e};
        out->e = expr_opn(c, op, ops[op].n, x);
        for (int w = 0; w < WORLDS; w++) {
            Scalar v[3] = {arg[0]->v[w], arg[1]->v[w], arg[2]->v[w]};
            out->v[w] = expr_eval_op(op, op == S_SELECT ? t : v[0].t, v);
        }
        return;
    }
}

START_TEST(test_random) {
    Rng r = {(uint64_t)_i * 7919 + 12345};
    Ctx *c = ctx_new(), *fresh = ctx_new();
    Made pool[POOL];
    Scalar in[WORLDS][NUMERIC + 1];
    DType argtype[NUMERIC + 1];
    int n = 0;
    for (int k = 0; k <= NUMERIC; k++) {
        argtype[k] = k < NUMERIC ? numeric[k] : DT_BOOL;
        for (int w = 0; w < WORLDS; w++) in[w][k] = value(&r, argtype[k]);
        pool[n].e = expr_arg(c, (uint32_t)k, argtype[k]);
        for (int w = 0; w < WORLDS; w++) pool[n].v[w] = in[w][k];
        n++;
    }
    for (int step = 0; step < 1500; step++) {
        Made m;
        random_step(c, &r, pool, n, &m);
        ck_assert_uint_ne(m.e.i, 0);
        for (int w = 0; w < WORLDS; w++) {
            Scalar got = eval_expr(c, m.e, &(World){.arg = in[w]});
            ck_assert_msg(same_scalar(got, m.v[w]), "%s: %s is %.17g or %lld, not %.17g or %lld",
                          dt_name(got.t), text_of(c, m.e), got.f, (long long)got.i, m.v[w].f,
                          (long long)m.v[w].i);
        }
        const char *s = text_of(c, m.e);
        ck_assert_msg(parse(c, s, argtype, NUMERIC + 1).i == m.e.i, "%s reads back otherwise", s);
        ck_assert_str_eq(text_of(fresh, parse(fresh, s, argtype, NUMERIC + 1)), s);
        if (n < POOL) pool[n++] = m;
        else pool[NUMERIC + 1 + pick(&r, POOL - NUMERIC - 1)] = m;
    }
    ctx_free(fresh);
    ctx_free(c);
}
END_TEST

/* The text of an expression does not depend on what was made before it. */
START_TEST(test_let_order) {
    static const char *const shared[] = {"exp(a * b)", "exp(a - b)", "exp(a / b)"};
    Ctx *c = ctx_new(), *other = ctx_new();
    Buf b = {.c = c};
    for (int k = 1; k <= 20; k++)
        buf_printf(&b, "%s%s * %s + %s * %d", k > 1 ? " + " : "", shared[0], shared[1], shared[2], k);
    for (int k = 2; k >= 0; k--) parse(other, shared[k], types, NTYPES);
    const char *s = text_of(c, parse(c, buf_str(&b), types, NTYPES));
    ck_assert_msg(strstr(s, "let t1 = ") != NULL, "%s", s);
    ck_assert_str_eq(text_of(other, parse(other, s, types, NTYPES)), s);
    ctx_free(other);
    ctx_free(c);
}
END_TEST

#ifdef __SANITIZE_ADDRESS__ /* each costs ten times as much */
enum { DAMAGED = 4000 };
#else
enum { DAMAGED = 20000 };
#endif

/* Damaged texts are refused or accepted, nothing else. */
START_TEST(test_hostile_text) {
    Rng r = {4711};
    static const char alphabet[] = "abct019.#()+-*/<=>!:;, \"@xelndimof";
    for (int k = 0; k < DAMAGED; k++) {
        Ctx *c = ctx_new();
        char s[80];
        size_t rows = sizeof identities / sizeof *identities;
        snprintf(s, sizeof s, "%s", identities[(size_t)pick(&r, (int)rows)][0]);
        for (int m = 1 + pick(&r, 3); m && *s; m--)
            s[pick(&r, (int)strlen(s))] = alphabet[pick(&r, sizeof alphabet - 1)];
        const char *at = s;
        Expr e = expr_parse(c, &at, types, NTYPES);
        ck_assert(e.i || ctx_errors(c));
        ck_assert(at >= s && at <= s + strlen(s));
        if (e.i) parse(c, text_of(c, e), types, NTYPES);
        ctx_free(c);
    }
    static char deep[200001];
    static const char *const units[] = {"(", "-", "exp(", "a+", "a<(", "#0*(", "f32(", "load(0,"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t len = strlen(units[u]), n = (sizeof deep - 1) / len;
        for (size_t k = 0; k < n; k++) memcpy(deep + k * len, units[u], len);
        deep[n * len] = 0;
        Ctx *c = ctx_new();
        const char *at = deep;
        ck_assert_uint_eq(expr_parse(c, &at, types, NTYPES).i, 0);
        ck_assert_uint_gt(ctx_errors(c), 0);
        ctx_free(c);
    }
}
END_TEST

static Expr keep(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    (void)e;
    ++*(int *)data;
    return expr_rebuild(c, i, newarg);
}

/* Deep graphs with sharing cost time in their nodes, and no stack. */
START_TEST(test_deep) {
    enum { N = 10000 };
    Ctx *c = ctx_new();
    DType t[2] = {DT_F32, DT_I64};
    Expr none = {0}, e = expr_arg(c, 0, DT_F32), x = expr_arg(c, 1, DT_I64), y = x;
    for (int k = 0; k < N; k++) e = expr_op(c, S_MUL, expr_op(c, S_EXP, e, none, none), e, none);
    for (int k = 0; k < N; k++) {
        y = expr_op(c, k % 2 ? S_MAX : S_ADD, y,
                    expr_op(c, S_MOD, y, expr_int(c, DT_I64, k + 2), none), none);
        x = expr_op(c, k % 3 ? S_ADD : S_MUL, x, expr_axis(c, (uint32_t)k % 7), none);
    }
    int visits = 0;
    ck_assert_uint_eq(expr_rewrite(c, e, keep, &visits).i, e.i);
    ck_assert_int_eq(visits, 2 * N + 1);
    ck_assert_int_eq(expr_cost(c, e), 8 * N);
    const char *s = text_of(c, e);
    ck_assert_uint_lt(strlen(s), 60 * N);
    ck_assert_uint_eq(parse(c, s, t, 2).i, e.i);
    Expr to[2] = {expr_float(c, DT_F32, 0.25), x};
    ck_assert_uint_ne(expr_subst_args(c, e, to, 2).i, 0);
    Dim extent[7];
    for (int k = 0; k < 7; k++) extent[k] = dim_const(c, 100 + k);
    ck_assert_uint_ne(expr_simplify_index(c, x, extent, 7).i, 0);
    ck_assert_uint_ne(expr_simplify_index(c, y, extent, 7).i, 0);
    ck_assert_uint_ne(expr_simplify_index(c, expr_op(c, S_ADD, x, y, none), extent, 7).i, 0);
    Expr coef[7], rest;
    ck_assert(!expr_affine(c, x, 7, coef, &rest));
    ck_assert(expr_uses_axis(c, x, 6) && !expr_uses_axis(c, x, 7) && !expr_uses_axis(c, x, 70));
    ck_assert(expr_uses_axis(c, expr_op(c, S_ADD, x, expr_axis(c, 70), none), 70));
    ctx_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("expr");
    TCase *t = tcase_create("expr");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_integer_table);
    tcase_add_test(t, test_float_table);
    tcase_add_test(t, test_total);
    tcase_add_test(t, test_identities);
    tcase_add_test(t, test_poison);
    tcase_add_test(t, test_guards);
    tcase_add_loop_test(t, test_random, 0, 12);
    tcase_add_test(t, test_let_order);
    tcase_add_test(t, test_hostile_text);
    tcase_add_test(t, test_deep);
    suite_add_tcase(s, t);
    return run_suite(s);
}
