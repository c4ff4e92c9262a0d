/* lir_arith.c: the arithmetic of the builder. Out: folded constants, identities applied, one order
 * of operands for what commutes, and i64 and i32 sums with their constant outermost: (x + 3) * 8 is
 * x * 8 + 24, (x + 3) + y is (x + y) + 3. Integers wrap, so all of this is exact; of floats only
 * constants and exact identities are folded. */
#include <math.h>

#include "lir_internal.h"

#define NIL ((LVal){0})

static const uint8_t sop_narg[S_COUNT] = {
#define SCALAR(e, text, n, rule, flags) [S_##e] = n,
#include "ir/scalar.def"
#undef SCALAR
};
int lir_sop_args(SOp op) { return sop_narg[op]; }

const uint8_t lir_sop_class[S_COUNT] = {
    [S_ADD] = LC_FLOAT | LC_INT,
    [S_SUB] = LC_FLOAT | LC_INT,
    [S_MUL] = LC_FLOAT | LC_INT,
    [S_DIV] = LC_FLOAT | LC_INT,
    [S_REM] = LC_INT,
    [S_FDIV] = LC_INT,
    [S_MOD] = LC_INT,
    [S_NEG] = LC_FLOAT | LC_INT,
    [S_ABS] = LC_FLOAT | LC_INT,
    [S_MIN] = LC_FLOAT | LC_INT,
    [S_MAX] = LC_FLOAT | LC_INT,
    [S_FLOOR] = LC_FLOAT,
    [S_CEIL] = LC_FLOAT,
    [S_TRUNC] = LC_FLOAT,
    [S_RINT] = LC_FLOAT,
    [S_SQRT] = LC_FLOAT,
    [S_FMA] = LC_FLOAT,
    [S_EQ] = LC_CMP | LC_FLOAT | LC_INT | LC_BOOL,
    [S_NE] = LC_CMP | LC_FLOAT | LC_INT | LC_BOOL,
    [S_LT] = LC_CMP | LC_FLOAT | LC_INT,
    [S_LE] = LC_CMP | LC_FLOAT | LC_INT,
    [S_GT] = LC_CMP | LC_FLOAT | LC_INT,
    [S_GE] = LC_CMP | LC_FLOAT | LC_INT,
    [S_AND] = LC_INT | LC_BOOL,
    [S_OR] = LC_INT | LC_BOOL,
    [S_XOR] = LC_INT | LC_BOOL,
    [S_NOT] = LC_INT | LC_BOOL,
    [S_SHL] = LC_INT,
    [S_SHR] = LC_INT,
    [S_SELECT] = LC_FLOAT | LC_INT | LC_BOOL | LC_PTR | LC_OTHER,
};

static bool is_int_const(const Lir *l, LVal v, int64_t *out) { /* at any number of lanes */
    const LIns *i = lir_as_const(l, v);
    if (!i || !(lir_class(i->ty.dt) & (LC_INT | LC_BOOL))) return false;
    return *out = i->imm, true;
}
static bool is_bool(const Lir *l, LVal v, bool b) {
    int64_t k;
    return lir_type(l, v).dt == DT_BOOL && is_int_const(l, v, &k) && (k != 0) == b;
}

/* ---- integer arithmetic: constants outermost ------------------------------------------------- */

static LVal raw(Lir *l, SOp op, LTy ty, uint32_t n, const LVal *a) {
    LIns i = lir_mk(L_OP, ty.dt, ty.lanes);
    i.sop = (uint8_t)op;
    return lir_pure(l, i, n, a);
}
static LVal raw2(Lir *l, SOp op, LVal a, LVal b) {
    return raw(l, op, lir_type(l, a), 2, (LVal[]){a, b});
}

LLin lir_lin(const Lir *l, LVal v) {
    int64_t c;
    if (is_int_const(l, v, &c)) return (LLin){NIL, c};
    if (lir_is_op(l, v, S_ADD) && is_int_const(l, lir_arg(l, v, 1), &c))
        return (LLin){lir_arg(l, v, 0), c};
    return (LLin){v, 0};
}
static LVal join(Lir *l, LTy ty, LVal base, int64_t c) {
    c = lir_wrap(ty.dt, c);
    if (!base.i) return lir_const_int(l, ty.dt, ty.lanes, c);
    return c ? raw2(l, S_ADD, base, lir_const_int(l, ty.dt, ty.lanes, c)) : base;
}
static LVal scale_of(const Lir *l, LVal v, int64_t *k) { /* v = result * k */
    if (lir_is_op(l, v, S_MUL) && is_int_const(l, lir_arg(l, v, 1), k)) return lir_arg(l, v, 0);
    return *k = 1, v;
}
static int64_t add64(int64_t a, int64_t b) { return (int64_t)((uint64_t)a + (uint64_t)b); }
static int64_t sub64(int64_t a, int64_t b) { return (int64_t)((uint64_t)a - (uint64_t)b); }
static int64_t mul64(int64_t a, int64_t b) { return (int64_t)((uint64_t)a * (uint64_t)b); }

static LVal int_mul(Lir *l, LVal a, LVal b) {
    LTy ty = lir_type(l, a);
    int64_t k, j;
    if (is_int_const(l, a, &k)) {
        LVal t = a;
        a = b, b = t;
    }
    if (is_int_const(l, b, &k)) {
        LLin x = lir_lin(l, a);
        if (!x.base.i) return lir_const_int(l, ty.dt, ty.lanes, mul64(x.c, k));
        if (k == 0) return b;
        LVal base = scale_of(l, x.base, &j);
        j = lir_wrap(ty.dt, mul64(j, k));
        if (j == 0)
            base = NIL;
        else if (j != 1)
            base = raw2(l, S_MUL, base, lir_const_int(l, ty.dt, ty.lanes, j));
        return join(l, ty, base, mul64(x.c, k));
    }
    return a.i < b.i ? raw2(l, S_MUL, a, b) : raw2(l, S_MUL, b, a);
}

/* a + b, or a - b if neg; terms with one base are collected, (x - y) + y and (x + y) - y are x. */
static LVal int_sum(Lir *l, LVal a, LVal b, bool neg) {
    LTy ty = lir_type(l, a);
    LLin x = lir_lin(l, a), y = lir_lin(l, b);
    int64_t c = neg ? sub64(x.c, y.c) : add64(x.c, y.c), i, j;
    if (!y.base.i) return join(l, ty, x.base, c);
    if (!x.base.i && !neg) return join(l, ty, y.base, c);
    if (!x.base.i) {
        LVal zero = lir_const_int(l, ty.dt, ty.lanes, 0);
        return join(l, ty, raw2(l, S_SUB, zero, y.base), c);
    }
    LVal p = scale_of(l, x.base, &i), q = scale_of(l, y.base, &j), r;
    if (p.i == q.i) {
        r = int_mul(l, p, lir_const_int(l, ty.dt, ty.lanes, neg ? sub64(i, j) : add64(i, j)));
        LLin z = lir_lin(l, r);
        return join(l, ty, z.base, add64(z.c, c));
    }
    if (neg) {
        if (lir_is_op(l, x.base, S_ADD) && lir_arg(l, x.base, 0).i == y.base.i)
            r = lir_arg(l, x.base, 1);
        else if (lir_is_op(l, x.base, S_ADD) && lir_arg(l, x.base, 1).i == y.base.i)
            r = lir_arg(l, x.base, 0);
        else
            r = raw2(l, S_SUB, x.base, y.base);
    } else if (lir_is_op(l, x.base, S_SUB) && lir_arg(l, x.base, 1).i == y.base.i &&
               lir_as_const(l, lir_arg(l, x.base, 0)) == NULL) {
        r = lir_arg(l, x.base, 0);
    } else if (lir_is_op(l, y.base, S_SUB) && lir_arg(l, y.base, 1).i == x.base.i &&
               lir_as_const(l, lir_arg(l, y.base, 0)) == NULL) {
        r = lir_arg(l, y.base, 0);
    } else {
        r = x.base.i < y.base.i ? raw2(l, S_ADD, x.base, y.base) : raw2(l, S_ADD, y.base, x.base);
    }
    LLin z = lir_lin(l, r);
    return join(l, ty, z.base, add64(z.c, c));
}
static bool linear(DType t) { return t == DT_I64 || t == DT_I32; }

/* ---- folding --------------------------------------------------------------------------------- */

static int64_t fdiv64(int64_t a, int64_t b) {
    return a / b - ((a % b != 0) & ((a < 0) != (b < 0)));
}

/* Integer and bool operations on constants; false where the result is not defined. */
static bool fold_int(SOp op, DType t, int64_t a, int64_t b, int64_t *r) {
    bool uns = !dt_is_signed(t);
    uint64_t ua = (uint64_t)a, ub = (uint64_t)b;
    switch (op) {
    case S_ADD:
        *r = add64(a, b);
        break;
    case S_SUB:
        *r = sub64(a, b);
        break;
    case S_MUL:
        *r = mul64(a, b);
        break;
    case S_DIV:
    case S_REM:
    case S_FDIV:
    case S_MOD:
        if (b == 0 || (!uns && b == -1 && a == INT64_MIN)) return false;
        if (uns)
            *r = (int64_t)(op == S_DIV || op == S_FDIV ? ua / ub : ua % ub);
        else
            *r = op == S_DIV    ? a / b
                 : op == S_REM  ? a % b
                 : op == S_FDIV ? fdiv64(a, b)
                                : a - fdiv64(a, b) * b;
        break;
    case S_MIN:
        *r = (uns ? ua < ub : a < b) ? a : b;
        break;
    case S_MAX:
        *r = (uns ? ua > ub : a > b) ? a : b;
        break;
    case S_EQ:
        *r = a == b;
        return true;
    case S_NE:
        *r = a != b;
        return true;
    case S_LT:
        *r = uns ? ua < ub : a < b;
        return true;
    case S_LE:
        *r = uns ? ua <= ub : a <= b;
        return true;
    case S_GT:
        *r = uns ? ua > ub : a > b;
        return true;
    case S_GE:
        *r = uns ? ua >= ub : a >= b;
        return true;
    case S_AND:
        *r = a & b;
        break;
    case S_OR:
        *r = a | b;
        break;
    case S_XOR:
        *r = a ^ b;
        break;
    case S_SHL:
    case S_SHR:
        if (b < 0 || b >= (int64_t)lir_bits(t)) return false;
        *r = op == S_SHL ? (int64_t)(ua << b) : uns ? (int64_t)(ua >> b) : a >> b;
        break;
    default:
        return false;
    }
    *r = lir_wrap(t, *r);
    return true;
}

static bool fold_float(SOp op, DType t, double a, double b,
                       double *r) { /* arithmetic results only */
    bool s = t == DT_F32;
    float fa = (float)a, fb = (float)b;
    switch (op) {
    case S_ADD:
        *r = s ? (double)(fa + fb) : a + b;
        break;
    case S_SUB:
        *r = s ? (double)(fa - fb) : a - b;
        break;
    case S_MUL:
        *r = s ? (double)(fa * fb) : a * b;
        break;
    case S_DIV:
        *r = s ? (double)(fa / fb) : a / b;
        break;
    case S_MIN:
        *r = a < b ? a : b;
        break;
    case S_MAX:
        *r = a > b ? a : b;
        break;
    case S_NEG:
        *r = -a;
        break;
    case S_ABS:
        *r = fabs(a);
        break;
    case S_FLOOR:
        *r = floor(a);
        break;
    case S_CEIL:
        *r = ceil(a);
        break;
    case S_TRUNC:
        *r = trunc(a);
        break;
    case S_RINT:
        *r = rint(a);
        break;
    case S_SQRT:
        *r = s ? (double)sqrtf(fa) : sqrt(a);
        break;
    default:
        return false;
    }
    return !isnan(*r); /* which NaN is the machine's business */
}

static bool fold_cmp(SOp op, double a, double b) {
    return op == S_EQ   ? a == b
           : op == S_NE ? a != b
           : op == S_LT ? a < b
           : op == S_LE ? a <= b
           : op == S_GT ? a > b
                        : a >= b;
}

static void same_type(const Lir *l, SOp op, LTy a, LTy b) {
    if (a.dt != b.dt || a.lanes != b.lanes)
        ICE("lir: %s: operation %d on %s x%u and %s x%u", l->name, op, dt_name(a.dt), a.lanes,
            dt_name(b.dt), b.lanes);
}
static void allowed(const Lir *l, SOp op, int n, DType t) {
    if (op >= S_COUNT || !(lir_sop_class[op] & lir_class(t)) || sop_narg[op] != n)
        ICE("lir: %s: scalar operation %d with %d operands of type %s is not in Lir", l->name, op,
            n, dt_name(t));
}

LVal lir_op1(Lir *l, SOp op, LVal a) {
    LTy ty = lir_type(l, a);
    allowed(l, op, 1, ty.dt);
    const LIns *k = lir_as_const(l, a);
    double f;
    if (k && lir_class(ty.dt) == LC_FLOAT) {
        if (fold_float(op, ty.dt, k->fimm, 0, &f)) return lir_const_float(l, ty.dt, ty.lanes, f);
    } else if (k && op == S_NOT) {
        return lir_const_int(l, ty.dt, ty.lanes, ty.dt == DT_BOOL ? !k->imm : ~k->imm);
    } else if (k && op == S_ABS) {
        return lir_const_int(l, ty.dt, ty.lanes,
                             k->imm < 0 && dt_is_signed(ty.dt) ? sub64(0, k->imm) : k->imm);
    }
    if (op == S_NEG && lir_class(ty.dt) == LC_INT)
        return lir_op2(l, S_SUB, lir_const_int(l, ty.dt, ty.lanes, 0), a);
    if (op == S_ABS && lir_class(ty.dt) == LC_INT && !dt_is_signed(ty.dt)) return a;
    if ((op == S_NOT || (op == S_NEG && lir_class(ty.dt) == LC_FLOAT)) && lir_is_op(l, a, op))
        return lir_arg(l, a, 0);
    return raw(l, op, ty, 1, &a);
}

static LVal fold_op2(Lir *l, SOp op, LTy ty, LVal a, LVal b) { /* none: no rule applies */
    const LIns *x = lir_as_const(l, a), *y = lir_as_const(l, b);
    unsigned cls = lir_class(ty.dt);
    int64_t r;
    double f;
    bool cmp = lir_sop_class[op] & LC_CMP;
    if (x && y && cls == LC_FLOAT) {
        if (cmp) return lir_const_int(l, DT_BOOL, ty.lanes, fold_cmp(op, x->fimm, y->fimm));
        return fold_float(op, ty.dt, x->fimm, y->fimm, &f) ? lir_const_float(l, ty.dt, ty.lanes, f)
                                                           : NIL;
    }
    if (x && y)
        return fold_int(op, ty.dt, x->imm, y->imm, &r)
                   ? lir_const_int(l, cmp ? DT_BOOL : ty.dt, ty.lanes, r)
                   : NIL;
    if (cls == LC_FLOAT) {
        if ((op == S_MUL || op == S_DIV) && y && y->fimm == 1) return a;
        if (op == S_MUL && x && x->fimm == 1) return b;
        if (op == S_SUB && y && y->fimm == 0 && !signbit(y->fimm)) return a;
        if (op == S_ADD && y && y->fimm == 0 && signbit(y->fimm)) return a;
        return NIL;
    }
    if (a.i == b.i) {
        if (op == S_AND || op == S_OR || op == S_MIN || op == S_MAX) return a;
        if (op == S_XOR) return lir_const_int(l, ty.dt, ty.lanes, 0);
        if (cmp) return lir_const_int(l, DT_BOOL, ty.lanes, op == S_EQ || op == S_LE || op == S_GE);
    }
    if (op == S_AND || op == S_OR || op == S_XOR) {
        const LIns *k = x ? x : y;
        LVal v = x ? b : a;
        if (!k) return NIL;
        bool ones = k->imm == lir_wrap(ty.dt, -1);
        if (k->imm == 0) return op == S_AND ? lir_const_int(l, ty.dt, ty.lanes, 0) : v;
        if (ones && op != S_XOR) return op == S_AND ? v : lir_const_int(l, ty.dt, ty.lanes, -1);
        if (ones) return lir_op1(l, S_NOT, v);
        return NIL;
    }
    if (!y) return NIL;
    int64_t k = y->imm;
    bool pow2 = k > 0 && (k & (k - 1)) == 0, uns = !dt_is_signed(ty.dt);
    switch (op) {
    case S_SHL:
    case S_SHR:
        if (k == 0) return a;
        if (op == S_SHL && ty.dt == DT_I64 && ty.lanes == 1 && k > 0 && k < 63)
            return lir_muli(l, a, (int64_t)1 << k);
        return NIL;
    case S_DIV:
    case S_FDIV:
        if (k == 1) return a;
        if (k == -1 && !uns) return lir_op1(l, S_NEG, a);
        if (pow2 && (op == S_FDIV || uns))
            return lir_op2(l, S_SHR, a,
                           lir_const_int(l, ty.dt, ty.lanes, __builtin_ctzll((uint64_t)k)));
        return NIL;
    case S_REM:
    case S_MOD:
        if (k == 1 || (k == -1 && !uns)) return lir_const_int(l, ty.dt, ty.lanes, 0);
        if (pow2 && (op == S_MOD || uns))
            return lir_op2(l, S_AND, a, lir_const_int(l, ty.dt, ty.lanes, k - 1));
        return NIL;
    default:
        return NIL;
    }
}

void lir_widen(Lir *l, LVal *a, LVal *b) {
    uint16_t n = lir_type(l, *a).lanes, m = lir_type(l, *b).lanes;
    if (n == 1 && m > 1) *a = lir_splat(l, *a, m);
    if (m == 1 && n > 1) *b = lir_splat(l, *b, n);
}

LVal lir_op2(Lir *l, SOp op, LVal a, LVal b) {
    lir_widen(l, &a, &b);
    LTy ty = lir_type(l, a);
    same_type(l, op, ty, lir_type(l, b));
    allowed(l, op, 2, ty.dt);
    LVal v = fold_op2(l, op, ty, a, b);
    if (v.i) return v;
    unsigned cls = lir_class(ty.dt);
    if (cls == LC_INT && !dt_is_signed(ty.dt)) op = op == S_FDIV ? S_DIV : op == S_MOD ? S_REM : op;
    if (linear(ty.dt)) {
        if (op == S_MUL) return int_mul(l, a, b);
        if (op == S_ADD || op == S_SUB) return int_sum(l, a, b, op == S_SUB);
    } else if (cls == LC_INT) {
        int64_t k;
        if ((op == S_ADD || op == S_SUB) && is_int_const(l, b, &k) && k == 0) return a;
        if (op == S_MUL && is_int_const(l, b, &k) && k <= 1 && k >= 0) return k ? a : b;
    }
    /* One order for what commutes: constants last, else the older value first. MIN and MAX of
     * floats do not commute, and float ADD and MUL only up to the choice of a NaN. */
    bool commutes = op == S_ADD || op == S_MUL || op == S_EQ || op == S_NE || op == S_AND ||
                    op == S_OR || op == S_XOR || (cls == LC_INT && (op == S_MIN || op == S_MAX));
    if (commutes && (lir_as_const(l, a) || (!lir_as_const(l, b) && b.i < a.i))) {
        LVal t = a;
        a = b, b = t;
    }
    if (lir_sop_class[op] & LC_CMP) ty.dt = DT_BOOL;
    return raw(l, op, ty, 2, (LVal[]){a, b});
}

LVal lir_op3(Lir *l, SOp op, LVal a, LVal b, LVal c) {
    if (op == S_FMA) return lir_fma(l, a, b, c);
    CHECK(op == S_SELECT);
    lir_widen(l, &b, &c);
    lir_widen(l, &a, &b);
    lir_widen(l, &b, &c);
    LTy ty = lir_type(l, b), ct = lir_type(l, a);
    same_type(l, op, ty, lir_type(l, c));
    allowed(l, op, 3, ty.dt);
    CHECK(ct.dt == DT_BOOL && ct.lanes == ty.lanes);
    if (b.i == c.i || is_bool(l, a, true)) return b;
    if (is_bool(l, a, false)) return c;
    if (ty.dt == DT_BOOL && is_bool(l, c, false)) return lir_op2(l, S_AND, a, b);
    if (ty.dt == DT_BOOL && is_bool(l, b, true)) return lir_op2(l, S_OR, a, c);
    if (lir_is_op(l, a, S_NOT)) return raw(l, op, ty, 3, (LVal[]){lir_arg(l, a, 0), c, b});
    if (lir_is_op(l, b, S_SELECT)) { /* c unless two conditions hold: one selection */
        LVal inner = lir_arg(l, b, 0), yes = lir_arg(l, b, 1), no = lir_arg(l, b, 2);
        if (no.i == c.i) return raw(l, op, ty, 3, (LVal[]){lir_op2(l, S_AND, a, inner), yes, c});
        if (yes.i == c.i) return raw(l, op, ty, 3, (LVal[]){lir_op2(l, S_AND, a, lir_op1(l, S_NOT, inner)), no, c});
    }
    return raw(l, op, ty, 3, (LVal[]){a, b, c});
}

LVal lir_fma(Lir *l, LVal a, LVal b, LVal c) {
    lir_widen(l, &a, &b);
    lir_widen(l, &b, &c);
    lir_widen(l, &a, &b);
    LTy ty = lir_type(l, a);
    same_type(l, S_FMA, ty, lir_type(l, b));
    same_type(l, S_FMA, ty, lir_type(l, c));
    allowed(l, S_FMA, 3, ty.dt);
    const LIns *x = lir_as_const(l, a), *y = lir_as_const(l, b);
    if (x && x->fimm == 1) return lir_add(l, b, c);
    if (y && y->fimm == 1) return lir_add(l, a, c);
    return raw(l, S_FMA, ty, 3, (LVal[]){a, b, c});
}

LVal lir_addi(Lir *l, LVal a, int64_t b) {
    LTy ty = lir_type(l, a);
    return lir_add(l, a, lir_const_int(l, ty.dt, ty.lanes, b));
}
LVal lir_muli(Lir *l, LVal a, int64_t b) {
    LTy ty = lir_type(l, a);
    return lir_mul(l, a, lir_const_int(l, ty.dt, ty.lanes, b));
}

static LVal unsigned2(Lir *l, int op, DType result, LVal a, LVal b) {
    lir_widen(l, &a, &b);
    LTy ty = lir_type(l, a);
    same_type(l, S_NONE, ty, lir_type(l, b));
    CHECK(lir_class(ty.dt) == LC_INT);
    int64_t x, y;
    if (is_int_const(l, a, &x) && is_int_const(l, b, &y)) {
        unsigned w = lir_bits(ty.dt);
        uint64_t m = w == 64 ? ~(uint64_t)0 : ((uint64_t)1 << w) - 1, ux = (uint64_t)x & m,
                 uy = (uint64_t)y & m;
        if (op == L_LTU) return lir_const_int(l, DT_BOOL, ty.lanes, ux < uy);
        if (uy < w) return lir_const_int(l, ty.dt, ty.lanes, (int64_t)(ux >> uy));
    }
    if (op == L_SHRU && is_int_const(l, b, &y) && y == 0) return a;
    if (op == L_LTU && a.i == b.i) return lir_const_int(l, DT_BOOL, ty.lanes, 0);
    return lir_pure(l, lir_mk(op, result, ty.lanes), 2, (LVal[]){a, b});
}
LVal lir_shru(Lir *l, LVal a, LVal b) { return unsigned2(l, L_SHRU, lir_type(l, a).dt, a, b); }
LVal lir_ltu(Lir *l, LVal a, LVal b) { return unsigned2(l, L_LTU, DT_BOOL, a, b); }
