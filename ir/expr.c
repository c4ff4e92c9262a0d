/* expr.c: the table of hash-consed scalar expressions, and their constructors.
 *
 * In: operations and arguments. Out: handles; equal expressions are equal handles. Constructors
 * check types (a message and poison if they do not fit), fold constants with expr_eval_op(), and
 * apply the identities of expr_fold_op(), all of which are exact: for floats under IEEE (signed zeros,
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
    Expr r = expr_fold_op(c, op, t, arg);
    if (!r.i) r = expr_fold_dims(c, op, arg);
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
        return expr_op(c, S_NE, expr_bitcast(c, a, DT_U8), expr_int(c, DT_U8, 0), (Expr){0});
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
