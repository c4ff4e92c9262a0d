/* expr.c: the table of hash-consed scalar expressions, and their constructors.
 *
 * In: operations and arguments. Out: handles; equal expressions are equal handles. Constructors
 * check types (a message and poison if they do not fit), fold constants with expr_eval_op(), and
 * apply the identities of fold_op(), all of which are exact: for floats under IEEE (signed zeros,
 * infinities, NaN), for integers under wrapping. Constants of a commutative operation stand on the
 * right, and of `a + b` and `b + a` only the one seen first exists. */
#include "dim_internal.h"
#include "expr_internal.h"
#include <math.h>
#include <string.h>

enum { CHUNK = 512 };
typedef struct ExprRow { ExprInfo info; uint64_t axes; uint32_t hash; } ExprRow;
typedef struct Guard { Loc loc; const char *text; } Guard;
typedef struct ExprTable {
    VEC(ExprRow *) chunk;       /* of CHUNK rows each; rows never move */
    uint32_t n;                 /* rows in use, [0] is poison */
    uint32_t *slot, nslot;      /* open addressing: handle or 0; a power of two */
    VEC(Guard) guard;           /* [0] is unused */
    StrMap guards;              /* location and text -> index */
} ExprTable;

static const SOpInfo sops[S_COUNT] = {
#define SCALAR(e, text, n, rule, flags) \
    [S_##e] = {text, n, RULE_##rule, sizeof flags > 1, sizeof flags > 2},
#include "scalar.def"
#undef SCALAR
};

const SOpInfo *sop_info(SOp op) {
    CHECK(op > S_NONE && op < S_COUNT);
    return &sops[op];
}

/* ---- the table ---- */

static const ExprRow poison_row;

static ExprRow *row_at(const ExprTable *t, uint32_t i) { return &t->chunk.v[i / CHUNK][i % CHUNK]; }

static const ExprRow *row_of(const Ctx *c, Expr e) {
    if (!c->expr || e.i == 0) return &poison_row;
    CHECK(e.i < c->expr->n);
    return row_at(c->expr, e.i);
}

const ExprInfo *expr_info(const Ctx *c, Expr e) { return &row_of(c, e)->info; }
uint64_t expr_axes(const Ctx *c, Expr e) { return row_of(c, e)->axes; }

static ExprTable *table(Ctx *c) {
    ExprTable *t = c->expr;
    if (t) return t;
    t = c->expr = NEW(c, ExprTable);
    t->n = 1;
    t->nslot = 1024;
    t->slot = NEWN(c, uint32_t, t->nslot);
    t->guards.c = c;
    vec_push(c, &t->chunk, NEWN(c, ExprRow, CHUNK));
    vec_push(c, &t->guard, (Guard){{0}, NULL});
    return t;
}

static uint32_t hash_info(const ExprInfo *i) {
    struct { uint8_t kind, dtype, op, oob; uint32_t narg, index, guard; int64_t val; } key = {
        i->kind, i->dtype, i->op, i->oob, i->narg, i->index, i->guard, i->val.i};
    uint64_t h = hash_bytes(&key, sizeof key, 0x9e3779b97f4a7c15u);
    if (i->narg) h = hash_bytes(i->arg, sizeof *i->arg * i->narg, h);
    return (uint32_t)(h ^ h >> 32);
}

static bool same_info(const ExprInfo *a, const ExprInfo *b) {
    return a->kind == b->kind && a->dtype == b->dtype && a->op == b->op && a->oob == b->oob &&
           a->narg == b->narg && a->index == b->index && a->guard == b->guard &&
           a->val.i == b->val.i &&
           (a->narg == 0 || !memcmp(a->arg, b->arg, sizeof *a->arg * a->narg));
}

static uint32_t *find_slot(const ExprTable *t, const ExprInfo *i, uint32_t hash) {
    uint32_t at = hash & (t->nslot - 1);
    for (; t->slot[at]; at = (at + 1) & (t->nslot - 1)) {
        const ExprRow *r = row_at(t, t->slot[at]);
        if (r->hash == hash && same_info(&r->info, i)) break;
    }
    return &t->slot[at];
}

static void grow_slots(Ctx *c, ExprTable *t) {
    t->nslot *= 2;
    t->slot = NEWN(c, uint32_t, t->nslot);
    for (uint32_t i = 1; i < t->n; i++) {
        uint32_t at = row_at(t, i)->hash & (t->nslot - 1);
        while (t->slot[at]) at = (at + 1) & (t->nslot - 1);
        t->slot[at] = i;
    }
}

static uint64_t axes_of(const Ctx *c, const ExprInfo *i) {
    if (i->kind == E_AXIS) return (uint64_t)1 << (i->index < 63 ? i->index : 63);
    uint64_t m = 0;
    for (int k = 0; k < i->narg; k++) m |= expr_axes(c, i->arg[k]);
    return m;
}

static Expr intern(Ctx *c, const ExprInfo *i) {
    ExprTable *t = table(c);
    uint32_t hash = hash_info(i);
    uint32_t found = *find_slot(t, i, hash);
    if (found) return (Expr){found};
    if (t->n == UINT32_MAX) ctx_fatal(c, "too many scalar expressions");
    if (t->n * (uint64_t)3 >= t->nslot * (uint64_t)2) grow_slots(c, t);
    if (t->n % CHUNK == 0) vec_push(c, &t->chunk, NEWN(c, ExprRow, CHUNK));
    ExprRow *r = row_at(t, t->n);
    r->info = *i;
    if (i->narg) r->info.arg = ctx_dup(c, i->arg, sizeof *i->arg * i->narg);
    r->hash = hash;
    r->axes = axes_of(c, i);
    *find_slot(t, i, hash) = t->n;
    return (Expr){t->n++};
}

/* ---- leaves ---- */

/* The value of s as one of its own type: integers in range, floats representable, one NaN. */
static Scalar normal(Scalar s) {
    if (dt_is_float(s.t)) {
        if (isnan(s.f)) s.f = (double)NAN;
        else if (s.t != DT_F64)
            s.f = s.t == DT_F32 ? (double)(float)s.f : (double)dt_round_f32(s.t, (float)s.f);
        if (isnan(s.f)) s.f = (double)NAN; /* rounding to a type without infinity may give NaN */
        return s;
    }
    if (s.t == DT_BOOL) s.i = s.i != 0;
    else if (dt_is_int(s.t)) {
        Scalar pair[2] = {s, {.t = s.t, .i = 0}};
        s = expr_eval_op(S_ADD, s.t, pair); /* wraps */
    } else {
        s.i = 0; /* strings and complex numbers: the empty one is the only constant */
    }
    return s;
}

Expr expr_const(Ctx *c, Scalar s) {
    if (s.t == DT_NONE || s.t >= DT_PTR) return (Expr){0};
    s = normal(s);
    return intern(c, &(ExprInfo){.kind = E_CONST, .dtype = (uint8_t)s.t, .val = s});
}

Expr expr_int(Ctx *c, DType t, int64_t v) {
    if (dt_is_float(t)) return expr_const(c, dt_convert((Scalar){.t = DT_I64, .i = v}, t));
    return expr_const(c, (Scalar){.t = t, .i = v});
}

Expr expr_float(Ctx *c, DType t, double v) {
    if (dt_is_float(t)) return expr_const(c, (Scalar){.t = t, .f = v});
    return expr_const(c, dt_convert((Scalar){.t = DT_F64, .f = v}, t));
}

Expr expr_arg(Ctx *c, uint32_t k, DType t) {
    if (t == DT_NONE) return (Expr){0};
    return intern(c, &(ExprInfo){.kind = E_ARG, .dtype = (uint8_t)t, .index = k});
}

Expr expr_axis(Ctx *c, uint32_t a) {
    return intern(c, &(ExprInfo){.kind = E_AXIS, .dtype = DT_I64, .index = a});
}

Expr expr_dim(Ctx *c, Dim d) {
    int64_t v;
    if (d.i == 0) return (Expr){0};
    d = dim_canon(c, d);
    if (dim_is_const(c, d, &v)) return expr_int(c, DT_I64, v);
    return intern(c, &(ExprInfo){.kind = E_DIM, .dtype = DT_I64, .index = d.i});
}

/* ---- facts about expressions ---- */

static bool is_const(const Ctx *c, Expr e) { return expr_info(c, e)->kind == E_CONST; }

bool expr_is_int(const Ctx *c, Expr e, int64_t *v) {
    const ExprInfo *i = expr_info(c, e);
    if (i->kind != E_CONST || i->dtype != DT_I64) return false;
    *v = i->val.i;
    return true;
}

/* A constant that is v exactly; zeros must agree in sign. */
static bool is_value(const Ctx *c, Expr e, double v) {
    const ExprInfo *i = expr_info(c, e);
    if (i->kind != E_CONST) return false;
    if (!dt_is_float(i->dtype)) return (double)i->val.i == v && i->val.i == (int64_t)v;
    return i->val.f == v && signbit(i->val.f) == signbit(v);
}

static const ExprInfo *is_op(const Ctx *c, Expr e, SOp op) {
    const ExprInfo *i = expr_info(c, e);
    return i->kind == E_OP && i->op == op ? i : NULL;
}

static bool same(Expr a, Expr b) { return a.i == b.i; }

/* ---- folding ---- */

static Expr op1(Ctx *c, SOp op, Expr a) { return expr_opn(c, op, 1, &a); }
static Expr op2(Ctx *c, SOp op, Expr a, Expr b) { return expr_opn(c, op, 2, (Expr[]){a, b}); }

/* Dims that may be joined: constants are kept far from the ends so that dim arithmetic cannot
 * overflow on them. */
static bool as_dim(Ctx *c, Expr e, Dim *d) {
    const ExprInfo *i = expr_info(c, e);
    if (i->kind == E_DIM) return *d = (Dim){i->index}, true;
    int64_t limit = (int64_t)1 << 40;
    if (i->kind != E_CONST || i->dtype != DT_I64 || i->val.i > limit || i->val.i < -limit)
        return false;
    return *d = dim_const(c, i->val.i), true;
}

static Expr fold_dim_compare(Ctx *c, SOp op, Dim a, Dim b) {
    if (op == S_GT || op == S_GE) {
        Dim t = a;
        a = b;
        b = t;
        op = op == S_GT ? S_LT : S_LE;
    }
    Dim diff = dim_sub(c, b, a);
    if (!diff.i) return (Expr){0};
    int64_t lo = dim_lo(c, diff), hi = dim_hi(c, diff);
    int truth = -1;
    switch (op) {
    case S_LT: truth = lo > 0 ? 1 : hi <= 0 ? 0 : -1; break;
    case S_LE: truth = lo >= 0 ? 1 : hi < 0 ? 0 : -1; break;
    default:
        if (dim_same(c, a, b)) truth = op == S_EQ;
        else if (dim_differ(c, a, b) || lo > 0 || hi < 0) truth = op == S_NE;
    }
    return truth < 0 ? (Expr){0} : expr_int(c, DT_BOOL, truth);
}

/* An operation on two dims (or a dim and a constant) is a dim where both agree for every value. */
static Expr fold_dims(Ctx *c, SOp op, const Expr *arg) {
    Dim a, b, r = {0};
    if (sops[op].n != 2 ||
        (expr_info(c, arg[0])->kind != E_DIM && expr_info(c, arg[1])->kind != E_DIM))
        return (Expr){0};
    if (!as_dim(c, arg[0], &a) || !as_dim(c, arg[1], &b)) return (Expr){0};
    bool divides = dim_lo(c, b) >= 1, floors = divides && dim_lo(c, a) >= 0;
    switch (op) {
    case S_ADD: r = dim_add(c, a, b); break;
    case S_SUB: r = dim_sub(c, a, b); break;
    case S_MUL: r = dim_mul(c, a, b); break;
    case S_MIN: r = dim_min(c, a, b); break;
    case S_MAX: r = dim_max(c, a, b); break;
    case S_FDIV: if (divides) r = dim_floordiv(c, a, b); break;
    case S_MOD: if (divides) r = dim_mod(c, a, b); break;
    case S_DIV: if (floors) r = dim_floordiv(c, a, b); break;
    case S_REM: if (floors) r = dim_mod(c, a, b); break;
    default:
        if (sops[op].rule == RULE_CMP) return fold_dim_compare(c, op, a, b);
    }
    return r.i ? expr_dim(c, r) : (Expr){0};
}

/* (x op k1) op k2 with constants: one constant, for integer operations that associate. */
static Expr fold_chain(Ctx *c, SOp op, DType t, Expr x, Expr k) {
    const ExprInfo *in = is_op(c, x, op);
    if (!in || dt_is_float(t) || !is_const(c, in->arg[1])) return (Expr){0};
    Scalar v = expr_eval_op(op, t, (Scalar[]){expr_info(c, in->arg[1])->val, expr_info(c, k)->val});
    return op2(c, op, in->arg[0], expr_const(c, v));
}

static Expr fold_add(Ctx *c, DType t, Expr x, Expr y) {
    if (is_value(c, y, dt_is_float(t) ? -0.0 : 0)) return x;
    return is_const(c, y) ? fold_chain(c, S_ADD, t, x, y) : (Expr){0};
}

static Expr fold_sub(Ctx *c, DType t, Expr x, Expr y) {
    if (is_value(c, y, 0)) return x; /* +0.0 too: -0 - 0 = -0 */
    if (dt_is_float(t)) return (Expr){0};
    if (same(x, y)) return expr_int(c, t, 0);
    if (is_value(c, x, 0)) return op1(c, S_NEG, y);
    if (dt_is_signed(t) && is_const(c, y)) return op2(c, S_ADD, x, op1(c, S_NEG, y));
    return (Expr){0};
}

static Expr fold_mul(Ctx *c, DType t, Expr x, Expr y) {
    if (is_value(c, y, 1)) return x;
    if (!is_const(c, y) || dt_is_float(t)) return (Expr){0};
    return is_value(c, y, 0) ? y : fold_chain(c, S_MUL, t, x, y);
}

static Expr fold_divide(Ctx *c, SOp op, DType t, Expr x, Expr y) {
    bool whole = op == S_DIV || op == S_FDIV;
    if (whole && is_value(c, y, 1)) return x;
    if (dt_is_float(t)) return (Expr){0};
    if (!whole && is_value(c, y, 1)) return expr_int(c, t, 0);
    return is_value(c, x, 0) || is_value(c, y, 0) ? expr_int(c, t, 0) : (Expr){0};
}

static Expr fold_pow(Ctx *c, DType t, Expr x, Expr y) {
    if (is_value(c, y, 0)) return expr_int(c, t, 1);
    if (is_value(c, y, 1)) return x;
    if (is_value(c, y, 2)) return op2(c, S_MUL, x, x);
    if (dt_is_float(t) && is_value(c, y, -1)) return op1(c, S_RECIP, x);
    return (Expr){0};
}

static Expr fold_minmax(Ctx *c, SOp op, DType t, Expr x, Expr y) {
    if (same(x, y)) return x;
    if (dt_is_float(t) && is_value(c, y, op == S_MIN ? (double)INFINITY : -(double)INFINITY))
        return x;
    return is_const(c, y) ? fold_chain(c, op, t, x, y) : (Expr){0};
}

static Expr fold_bits(Ctx *c, SOp op, DType t, Expr x, Expr y) {
    if (same(x, y)) return op == S_XOR ? expr_int(c, t, 0) : x;
    if (!is_const(c, y)) return (Expr){0};
    bool zero = is_value(c, y, 0), ones = same(y, op1(c, S_NOT, expr_int(c, t, 0)));
    if (zero) return op == S_AND ? y : x;
    if (ones) return op == S_AND ? x : op == S_OR ? y : op1(c, S_NOT, x);
    return fold_chain(c, op, t, x, y);
}

static Expr fold_shift(Ctx *c, Expr x, Expr y) {
    return is_value(c, y, 0) || is_value(c, x, 0) ? x : (Expr){0};
}

static Expr fold_compare(Ctx *c, SOp op, Expr x, Expr y) {
    DType t = expr_info(c, x)->dtype;
    if (t == DT_BOOL && is_const(c, y) && (op == S_EQ || op == S_NE))
        return is_value(c, y, op == S_EQ) ? x : op1(c, S_NOT, x);
    if (!same(x, y)) return (Expr){0};
    bool strict = op == S_NE || op == S_LT || op == S_GT;
    if (dt_is_float(t) && op != S_LT && op != S_GT) return (Expr){0}; /* NaN decides */
    return expr_int(c, DT_BOOL, !strict);
}

static Expr fold_not(Ctx *c, Expr x) {
    static const SOp inverse[S_COUNT] = {[S_EQ] = S_NE, [S_NE] = S_EQ, [S_LT] = S_GE,
                                         [S_GE] = S_LT, [S_GT] = S_LE, [S_LE] = S_GT};
    const ExprInfo *i = expr_info(c, x);
    if (i->kind != E_OP) return (Expr){0};
    if (i->op == S_NOT) return i->arg[0];
    bool ordered = i->op == S_EQ || i->op == S_NE || !dt_is_float(expr_info(c, i->arg[0])->dtype);
    return inverse[i->op] && ordered ? op2(c, inverse[i->op], i->arg[0], i->arg[1]) : (Expr){0};
}

static Expr fold_select(Ctx *c, Expr k, Expr x, Expr y) {
    if (is_const(c, k)) return is_value(c, k, 0) ? y : x;
    if (same(x, y)) return x;
    const ExprInfo *not = is_op(c, k, S_NOT);
    if (not) return expr_opn(c, S_SELECT, 3, (Expr[]){not->arg[0], y, x});
    if (expr_info(c, x)->dtype == DT_BOOL && is_const(c, x) && is_const(c, y)) /* they differ */
        return is_value(c, x, 1) ? k : op1(c, S_NOT, k);
    return (Expr){0};
}

static Expr fold_unary(Ctx *c, SOp op, Expr x) {
    const ExprInfo *i = expr_info(c, x);
    if (op == S_NOT) return fold_not(c, x);
    if (i->kind != E_OP) return (Expr){0};
    if (op == S_NEG && i->op == S_NEG) return i->arg[0];
    if (op == S_ABS && i->op == S_NEG && (dt_is_float(i->dtype) || dt_is_signed(i->dtype)))
        return op1(c, S_ABS, i->arg[0]);
    bool idempotent = op == S_ABS || op == S_SIGN;
    bool rounds = op == S_FLOOR || op == S_CEIL || op == S_TRUNC || op == S_RINT;
    bool rounded = i->op == S_FLOOR || i->op == S_CEIL || i->op == S_TRUNC || i->op == S_RINT;
    return (idempotent && i->op == op) || (rounds && rounded) ? x : (Expr){0};
}

/* A simpler equal of op applied to arg (constants on the right), or none. */
static Expr fold_op(Ctx *c, SOp op, DType t, const Expr *arg) {
    switch (op) {
    case S_ADD: return fold_add(c, t, arg[0], arg[1]);
    case S_SUB: return fold_sub(c, t, arg[0], arg[1]);
    case S_MUL: return fold_mul(c, t, arg[0], arg[1]);
    case S_DIV: case S_FDIV: case S_MOD: case S_REM: return fold_divide(c, op, t, arg[0], arg[1]);
    case S_POW: return fold_pow(c, t, arg[0], arg[1]);
    case S_MIN: case S_MAX: return fold_minmax(c, op, t, arg[0], arg[1]);
    case S_AND: case S_OR: case S_XOR: return fold_bits(c, op, t, arg[0], arg[1]);
    case S_SHL: case S_SHR: return fold_shift(c, arg[0], arg[1]);
    case S_SELECT: return fold_select(c, arg[0], arg[1], arg[2]);
    default: break;
    }
    if (sops[op].rule == RULE_CMP) return fold_compare(c, op, arg[0], arg[1]);
    return sops[op].n == 1 ? fold_unary(c, op, arg[0]) : (Expr){0};
}

/* ---- operations ---- */

/* The type an operation gives for these arguments; DT_NONE if they do not fit. */
static DType result_type(const Ctx *c, SOp op, int n, const Expr *arg) {
    DType t = expr_info(c, arg[n - 1])->dtype;
    for (int k = op == S_SELECT ? 1 : 0; k < n; k++)
        if (expr_info(c, arg[k])->dtype != t) return DT_NONE;
    bool num = dt_is_float(t) || dt_is_int(t);
    bool bit = op == S_AND || op == S_OR || op == S_XOR || op == S_NOT;
    switch (sops[op].rule) {
    case RULE_SAME: return num || (t == DT_BOOL && (op == S_MIN || op == S_MAX)) ? t : DT_NONE;
    case RULE_INT: return dt_is_int(t) || (t == DT_BOOL && bit) ? t : DT_NONE;
    case RULE_FLT: return dt_is_float(t) ? t : DT_NONE;
    case RULE_CMP: return num || t == DT_BOOL || (t == DT_STR && (op == S_EQ || op == S_NE)) ? DT_BOOL : DT_NONE;
    case RULE_TEST: return dt_is_float(t) ? DT_BOOL : DT_NONE;
    default: return expr_info(c, arg[0])->dtype == DT_BOOL ? t : DT_NONE;
    }
}

static void report_types(Ctx *c, SOp op, int n, const Expr *arg) {
    char types[64] = "";
    size_t used = 0;
    for (int k = 0; k < n; k++) {
        const char *name = dt_name(expr_info(c, arg[k])->dtype);
        used += (size_t)snprintf(types + used, sizeof types - used, "%s%s", k ? ", " : "", name);
    }
    diag(c, SEV_ERROR, (Loc){0}, "E0350", "scalar operation %s does not take (%s)", sops[op].text,
         types);
}

/* Whether x and y, arguments of a commutative operation, are in the wrong order: constants go last,
 * operands and axes are sorted; anything else stays as it was written. */
static bool out_of_order(const Ctx *c, Expr x, Expr y) {
    const ExprInfo *a = expr_info(c, x), *b = expr_info(c, y);
    int ka = a->kind == E_CONST ? 2 : a->kind == E_DIM;
    int kb = b->kind == E_CONST ? 2 : b->kind == E_DIM;
    if (ka || kb) return ka > kb;
    return a->kind == b->kind && (a->kind == E_ARG || a->kind == E_AXIS) && a->index > b->index;
}

Expr expr_opn(Ctx *c, SOp op, int n, const Expr *given) {
    CHECK(op > S_NONE && op < S_COUNT && n == sops[op].n);
    Expr arg[3] = {{0}};
    bool constant = true;
    for (int k = 0; k < n; k++) {
        if (!given[k].i) return (Expr){0};
        arg[k] = given[k];
        constant &= is_const(c, arg[k]);
    }
    DType t = result_type(c, op, n, arg);
    if (t == DT_NONE) return report_types(c, op, n, arg), (Expr){0};
    if (constant && op != S_SELECT) {
        Scalar v[3] = {{0}};
        for (int k = 0; k < n; k++) v[k] = expr_info(c, arg[k])->val;
        return expr_const(c, expr_eval_op(op, sops[op].rule == RULE_CMP ? v[0].t : t, v));
    }
    ExprInfo i = {
        .kind = E_OP, .dtype = (uint8_t)t, .op = (uint8_t)op, .narg = (uint16_t)n, .arg = arg};
    if (sops[op].commutes) {
        Expr swapped[3] = {arg[1], arg[0]};
        if (out_of_order(c, arg[0], arg[1])) memcpy(arg, swapped, sizeof arg);
        else if (!out_of_order(c, arg[1], arg[0])) { /* no preference: the order seen first */
            i.arg = swapped;
            if (*find_slot(table(c), &i, hash_info(&i))) memcpy(arg, swapped, sizeof arg);
            i.arg = arg;
        }
    }
    Expr r = fold_op(c, op, t, arg);
    if (!r.i) r = fold_dims(c, op, arg);
    return r.i ? r : intern(c, &i);
}

Expr expr_op(Ctx *c, SOp op, Expr a, Expr b, Expr d) {
    return expr_opn(c, op, sop_info(op)->n, (Expr[]){a, b, d});
}

/* ---- conversions ---- */

/* Bits of the largest integers that a float type holds exactly, i.e. its significand. */
static unsigned float_digits(DType t) {
    switch (t) {
    case DT_F64: return 53;
    case DT_F32: return 24;
    case DT_F16: return 11;
    case DT_BF16: return 8;
    default: return 0;
    }
}

/* Every value of `from` is one of `to`. */
static bool lossless(DType from, DType to) {
    if (from == to) return true;
    bool ff = dt_is_float(from), tf = dt_is_float(to);
    if (from == DT_BOOL)
        return dt_is_int(to) ? dt_bits(to) > 2 || !dt_is_signed(to) : float_digits(to) > 0;
    if (ff && tf) {
        if (to == DT_F64) return true;
        if (to == DT_F32) return from != DT_F64;
        if (dt_bits(from) > 8 || from == DT_F8E8M0) return false;
        return to == DT_F16 || (to == DT_BF16 && dt_bits(from) <= 8);
    }
    if (ff || !dt_is_int(from)) return false;
    unsigned bits = dt_bits(from) - (dt_is_signed(from) ? 1 : 0); /* of the magnitude */
    if (tf) return bits <= float_digits(to);
    if (!dt_is_int(to) || (dt_is_signed(from) && !dt_is_signed(to))) return false;
    return bits <= dt_bits(to) - (dt_is_signed(to) ? 1 : 0);
}

Expr expr_cast(Ctx *c, Expr a, DType to) {
    const ExprInfo *i = expr_info(c, a);
    if (!a.i || to == DT_NONE) return (Expr){0};
    if (i->dtype == to) return a;
    bool from_ok = dt_is_float(i->dtype) || dt_is_int(i->dtype) || i->dtype == DT_BOOL;
    if (!from_ok || !(dt_is_float(to) || dt_is_int(to) || to == DT_BOOL)) {
        diag(c, SEV_ERROR, (Loc){0}, "E0351", "no cast of %s to %s", dt_name(i->dtype),
             dt_name(to));
        return (Expr){0};
    }
    if (i->kind == E_CONST) return expr_const(c, dt_convert(i->val, to));
    if (i->kind == E_CAST) {
        DType from = (DType)expr_info(c, i->arg[0])->dtype;
        bool saturates = dt_is_int(from) && dt_is_float(i->dtype) && dt_is_int(to); /* not wraps */
        if (lossless(from, i->dtype) && (!saturates || lossless(from, to)))
            return expr_cast(c, i->arg[0], to);
    }
    return intern(c, &(ExprInfo){.kind = E_CAST, .dtype = (uint8_t)to, .narg = 1, .arg = &a});
}

Expr expr_bitcast(Ctx *c, Expr a, DType to) {
    const ExprInfo *i = expr_info(c, a);
    if (!a.i || to == DT_NONE) return (Expr){0};
    if (i->dtype == to) return a;
    if (dt_bits(i->dtype) != dt_bits(to)) {
        diag(c, SEV_ERROR, (Loc){0}, "E0351", "no bitcast of %s to %s: sizes differ",
             dt_name(i->dtype), dt_name(to));
        return (Expr){0};
    }
    if (to == DT_BOOL) /* a bool is 0 or 1, whatever the bits were */
        return op2(c, S_NE, expr_bitcast(c, a, DT_U8), expr_int(c, DT_U8, 0));
    if (i->kind == E_BITCAST) return expr_bitcast(c, i->arg[0], to);
    bool plain = !dt_is_packed(to) && !dt_is_packed(i->dtype) && dt_bits(to) <= 64 && to != DT_C64;
    if (i->kind == E_CONST && plain && i->dtype != DT_C64) {
        int64_t bits = 0;
        dt_store(i->dtype, &bits, 0, i->val);
        Scalar s = dt_load(to, &bits, 0);
        if (!dt_is_float(to) || !isnan(s.f))
            return expr_const(c, s); /* a NaN's payload is no value of a Scalar */
    }
    return intern(c, &(ExprInfo){.kind = E_BITCAST, .dtype = (uint8_t)to, .narg = 1, .arg = &a});
}

/* ---- loads ---- */

Expr expr_load(Ctx *c, uint32_t operand, DType t, int nidx, const Expr *idx, Oob oob, Expr pad,
               uint32_t guard) {
    Expr arg[MAX_RANK + 1];
    CHECK(nidx >= 0 && nidx <= MAX_RANK);
    if (t == DT_NONE) return (Expr){0};
    for (int k = 0; k < nidx; k++) {
        if (!idx[k].i) return (Expr){0};
        if (expr_info(c, idx[k])->dtype != DT_I64) {
            diag(c, SEV_ERROR, (Loc){0}, "E0352", "index %d of a load is %s, not i64", k,
                 dt_name(expr_info(c, idx[k])->dtype));
            return (Expr){0};
        }
        arg[k] = idx[k];
    }
    int n = nidx;
    if (oob == OOB_VALUE) {
        if (!pad.i) return (Expr){0};
        if (expr_info(c, pad)->dtype != t) {
            diag(c, SEV_ERROR, (Loc){0}, "E0352", "the pad value of a load of %s is %s", dt_name(t),
                 dt_name(expr_info(c, pad)->dtype));
            return (Expr){0};
        }
        arg[n++] = pad;
    }
    return intern(c, &(ExprInfo){.kind = E_LOAD,
                                 .dtype = (uint8_t)t,
                                 .oob = (uint8_t)oob,
                                 .narg = (uint16_t)n,
                                 .index = operand,
                                 .guard = oob == OOB_FAIL ? guard : 0,
                                 .arg = arg});
}

uint32_t expr_guard(Ctx *c, Loc loc, const char *text) {
    ExprTable *t = table(c);
    const char *key = ctx_printf(c, "%u:%s", loc.i, text);
    uint32_t found = strmap_get(&t->guards, key);
    if (found) return found;
    vec_push(c, &t->guard, (Guard){loc, ctx_str(c, text)});
    strmap_put(&t->guards, key, t->guard.n - 1);
    return t->guard.n - 1;
}

uint32_t expr_nguards(const Ctx *c) { return c->expr ? c->expr->guard.n : 1; }

const char *expr_guard_text(const Ctx *c, uint32_t guard) {
    return guard && guard < expr_nguards(c) ? c->expr->guard.v[guard].text
                                            : "an index is out of range";
}

Loc expr_guard_loc(const Ctx *c, uint32_t guard) {
    return guard && guard < expr_nguards(c) ? c->expr->guard.v[guard].loc : (Loc){0};
}

/* ---- the same node with other arguments ---- */

Expr expr_rebuild(Ctx *c, const ExprInfo *i, const Expr *newarg) {
    bool pad = i->oob == OOB_VALUE;
    switch (i->kind) {
    case E_NONE: return (Expr){0};
    case E_DIM: return expr_dim(c, (Dim){i->index});
    case E_OP: return expr_opn(c, (SOp)i->op, i->narg, newarg);
    case E_CAST: return expr_cast(c, newarg[0], (DType)i->dtype);
    case E_BITCAST: return expr_bitcast(c, newarg[0], (DType)i->dtype);
    case E_LOAD:
        return expr_load(c, i->index, (DType)i->dtype, i->narg - pad, newarg, (Oob)i->oob,
                         pad ? newarg[i->narg - 1] : (Expr){0}, i->guard);
    default: return intern(c, i);
    }
}
