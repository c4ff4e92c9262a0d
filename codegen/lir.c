/* lir.c: the builder of Lir: storage, numbering of values, parameters and constants. In: calls of
 * templates; out: a list of instructions in which constants are folded (lir_arith.c), equal pure
 * values of enclosing regions are one, and addresses are split into shared parts and displacements
 * (lir_build.c).
 *
 * Invariant: an operand's index is below its user's, and its region encloses the user's (or it has
 * no operands). A wrong call (types, nesting) is a bug of a template and ends in ICE. */
#include "lir.h"

#include <string.h>

#include "lir_internal.h"

#define NIL ((LVal){0})

unsigned lir_class(DType t) {
    if (t == DT_F32 || t == DT_F64) return LC_FLOAT;
    if (t == DT_BOOL) return LC_BOOL;
    if (t == DT_PTR) return LC_PTR;
    return dt_is_int(t) && !dt_is_packed(t) ? LC_INT : LC_OTHER;
}

unsigned lir_bits(DType t) {
    if (t == DT_PTR) return 64;
    unsigned b = t == DT_NONE ? 0 : dt_bits(t);
    return b < 8 && b ? 8 : b; /* strings are {ptr, bytes}: moved, and compared by lir_streq */
}

int64_t lir_wrap(DType t, int64_t v) {
    switch (t) {
    case DT_BOOL:
        return v != 0;
    case DT_I8:
        return (int8_t)v;
    case DT_U8:
        return (uint8_t)v;
    case DT_I16:
        return (int16_t)v;
    case DT_U16:
        return (uint16_t)v;
    case DT_I32:
        return (int32_t)v;
    case DT_U32:
        return (uint32_t)v;
    default:
        return v;
    }
}

/* ---- storage and value numbering ------------------------------------------------------------- */

Lir *lir_new(Ctx *c, const char *name, uint32_t nbuf, uint32_t ndim) {
    Lir *l = NEW(c, Lir);
    l->c = c, l->name = ctx_str(c, name), l->nbuf = nbuf, l->ndim = ndim;
    vec_push(c, &l->ins, (LIns){0});
    vec_push(c, &l->chain, 0);
    return l;
}

const char *lir_name(const Lir *l) { return l->name; }
void lir_rename(Lir *l, const char *name) { l->name = ctx_str(l->c, name); }
const LIns *lir_ins(const Lir *l, uint32_t *n) { return *n = l->ins.n, l->ins.v; }
const LVal *lir_args(const Lir *l) { return l->args.v; }
const int16_t *lir_shuffles(const Lir *l) { return l->shuf.v; }
const Scalar *lir_tables(const Lir *l) { return l->tab.v; }
uint32_t lir_nbuf(const Lir *l) { return l->nbuf; }
uint32_t lir_ndim(const Lir *l) { return l->ndim; }
uint32_t lir_nmap(const Lir *l) { return l->map.n; }
const LMap *lir_maps(const Lir *l) { return l->map.v; }

static const LIns *ins_of(const Lir *l, LVal v) {
    if (v.i == 0 || v.i >= l->ins.n) ICE("lir: %s: operand %u does not exist", l->name, v.i);
    return &l->ins.v[v.i];
}
LVal lir_arg(const Lir *l, LVal v, uint32_t k) { return l->args.v[ins_of(l, v)->arg + k]; }
LTy lir_type(const Lir *l, LVal v) { return v.i ? ins_of(l, v)->ty : (LTy){0}; }

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}
static uint64_t bits_of(double d) {
    uint64_t u;
    memcpy(&u, &d, sizeof u);
    return u;
}

/* Key of an instruction for value numbering; the contents of a shuffle or table are part of it. */
static uint64_t key_hash(const Lir *l, const LIns *i, const LVal *a) {
    uint64_t h =
        mix(i->op | (uint64_t)i->sop << 16 | (uint64_t)i->ty.dt << 24 | (uint64_t)i->ty.lanes << 32,
            (uint64_t)i->imm);
    h = mix(h, bits_of(i->fimm));
    for (uint32_t k = 0; k < i->narg; k++) h = mix(h, a[k].i);
    if (i->op == L_SHUFFLE)
        return mix(h, hash_bytes(l->shuf.v + i->aux, sizeof(int16_t) * i->ty.lanes, 1));
    if (i->op != L_TABLE) return mix(h, i->aux);
    for (uint32_t k = 0; k < i->ty.lanes; k++) h = mix(h, (uint64_t)l->tab.v[i->aux + k].i);
    return h;
}

static bool key_same(const Lir *l, const LIns *x, const LVal *xa, const LIns *y, const LVal *ya) {
    if (x->op != y->op || x->sop != y->sop || x->ty.dt != y->ty.dt || x->ty.lanes != y->ty.lanes ||
        x->narg != y->narg || x->imm != y->imm || bits_of(x->fimm) != bits_of(y->fimm))
        return false;
    for (uint32_t k = 0; k < x->narg; k++)
        if (xa[k].i != ya[k].i) return false;
    if (x->op == L_SHUFFLE)
        return !memcmp(l->shuf.v + x->aux, l->shuf.v + y->aux, sizeof(int16_t) * x->ty.lanes);
    if (x->op != L_TABLE) return x->aux == y->aux;
    for (uint32_t k = 0; k < x->ty.lanes; k++)
        if (l->tab.v[x->aux + k].i != l->tab.v[y->aux + k].i) return false;
    return true;
}

static void tab_link(Lir *l, LTab *t, uint32_t i) {
    const LIns *x = &l->ins.v[i];
    uint32_t *head = &t->head[key_hash(l, x, l->args.v + x->arg) & (t->cap - 1)];
    l->chain.v[i] = *head, *head = i;
}

static void tab_add(Lir *l, LTab *t, uint32_t i) {
    vec_push(l->c, &t->list, i);
    if (t->list.n * 2 >
        t->cap) { /* rebuilt in insertion order, so that lir_forget finds its entries in front */
        t->cap = t->cap ? t->cap * 2 : 256;
        t->head = NEWN(l->c, uint32_t, t->cap);
        for (uint32_t k = 0; k < t->list.n; k++) tab_link(l, t, t->list.v[k]);
    } else {
        tab_link(l, t, i);
    }
}

void lir_forget(Lir *l, uint32_t mark) {
    LTab *t = &l->scoped;
    while (t->list.n > mark) {
        uint32_t i = t->list.v[--t->list.n];
        const LIns *x = &l->ins.v[i];
        t->head[key_hash(l, x, l->args.v + x->arg) & (t->cap - 1)] = l->chain.v[i];
    }
}

LVal lir_append(Lir *l, LIns i, uint32_t narg, const LVal *a) {
    if (l->ins.n >= LIR_MAX_INS)
        ctx_fatal(l->c, "kernel %s: more than %u instructions", l->name, LIR_MAX_INS);
    CHECK(narg <= UINT16_MAX && i.ty.lanes <= LIR_MAX_LANES);
    i.narg = (uint16_t)narg, i.arg = l->args.n;
    for (uint32_t k = 0; k < narg; k++) vec_push(l->c, &l->args, a[k]);
    vec_push(l->c, &l->ins, i);
    vec_push(l->c, &l->chain, 0);
    return (LVal){l->ins.n - 1};
}

LVal lir_pure(Lir *l, LIns i, uint32_t narg, const LVal *a) {
    LTab *t = narg ? &l->scoped : &l->global;
    i.narg = (uint16_t)narg;
    if (t->cap)
        for (uint32_t k = t->head[key_hash(l, &i, a) & (t->cap - 1)]; k; k = l->chain.v[k])
            if (key_same(l, &l->ins.v[k], l->args.v + l->ins.v[k].arg, &i, a)) return (LVal){k};
    LVal v = lir_append(l, i, narg, a);
    tab_add(l, t, v.i);
    return v;
}

LIns lir_mk(int op, DType t, uint32_t lanes) {
    CHECK(lanes >= 1 && lanes <= LIR_MAX_LANES);
    return (LIns){.op = (uint16_t)op, .ty = {(uint8_t)t, (uint16_t)lanes}};
}

/* ---- parameters and constants ---------------------------------------------------------------- */

static LVal param(Lir *l, int op, DType t, int64_t k) {
    LIns i = lir_mk(op, t, 1);
    i.imm = k;
    return lir_pure(l, i, 0, NULL);
}
LVal lir_buf(Lir *l, uint32_t k) {
    if (k >= l->nbuf) l->nbuf = k + 1;
    return param(l, L_BUF, DT_PTR, k);
}
LVal lir_dim(Lir *l, uint32_t k) {
    if (k >= l->ndim) l->ndim = k + 1;
    return param(l, L_DIM, DT_I64, k);
}
LVal lir_t0(Lir *l) { return param(l, L_T0, DT_I64, 0); }
LVal lir_t1(Lir *l) { return param(l, L_T1, DT_I64, 0); }
LVal lir_tstep(Lir *l) { return param(l, L_TSTEP, DT_I64, 0); }
LVal lir_tid(Lir *l) { return param(l, L_TID, DT_I64, 0); }
LVal lir_ntid(Lir *l) { return l->threads ? lir_i64(l, l->threads) : param(l, L_NTID, DT_I64, 0); }
LVal lir_scratch(Lir *l) { return param(l, L_SCRATCH, DT_PTR, 0); }

void lir_alias(Lir *l, uint32_t a, uint32_t b) {
    if (!lir_may_alias(l, a, b)) vec_push(l->c, &l->alias, (LPair){a < b ? a : b, a < b ? b : a});
}
bool lir_may_alias(const Lir *l, uint32_t a, uint32_t b) {
    if (a == b) return true;
    for (uint32_t k = 0; k < l->alias.n; k++)
        if (l->alias.v[k].a == (a < b ? a : b) && l->alias.v[k].b == (a < b ? b : a)) return true;
    return false;
}

LVal lir_const_int(Lir *l, DType t, uint32_t lanes, int64_t v) {
    LIns i = lir_mk(L_CONST, t, lanes);
    i.imm = lir_wrap(t, v);
    return lir_pure(l, i, 0, NULL);
}
LVal lir_const_float(Lir *l, DType t, uint32_t lanes, double v) {
    LIns i = lir_mk(L_CONST, t, lanes);
    i.fimm = t == DT_F64   ? v
             : t == DT_F32 ? (double)(float)v
                           : dt_convert((Scalar){DT_F64, {.f = v}}, t).f;
    return lir_pure(l, i, 0, NULL);
}
LVal lir_i64(Lir *l, int64_t v) { return lir_const_int(l, DT_I64, 1, v); }
LVal lir_bool(Lir *l, bool v) { return lir_const_int(l, DT_BOOL, 1, v); }
LVal lir_int(Lir *l, DType t, int64_t v) {
    return dt_is_float(t) ? lir_const_float(l, t, 1, (double)v) : lir_const_int(l, t, 1, v);
}
LVal lir_float(Lir *l, DType t, double v) {
    CHECK(dt_is_float(t));
    return lir_const_float(l, t, 1, v);
}
LVal lir_iota(Lir *l, DType t, uint16_t lanes) {
    CHECK(lir_class(t) == LC_INT);
    return lanes == 1 ? lir_const_int(l, t, 1, 0) : lir_pure(l, lir_mk(L_IOTA, t, lanes), 0, NULL);
}

LVal lir_table(Lir *l, DType t, uint16_t lanes, const Scalar *v) {
    bool same = true, count = lir_class(t) == LC_INT;
    for (uint32_t k = 0; k < lanes; k++) {
        CHECK(v[k].t == t);
        same &= v[k].i == v[0].i; /* floats: by their bits */
        count &= v[k].i == k;
    }
    if (same)
        return dt_is_float(t) ? lir_const_float(l, t, lanes, v[0].f)
                              : lir_const_int(l, t, lanes, v[0].i);
    if (count) return lir_iota(l, t, lanes);
    LIns i = lir_mk(L_TABLE, t, lanes);
    i.aux = l->tab.n;
    for (uint32_t k = 0; k < lanes; k++) vec_push(l->c, &l->tab, v[k]);
    LVal r = lir_pure(l, i, 0, NULL);
    if (ins_of(l, r)->aux != i.aux) l->tab.n = i.aux;
    return r;
}

const LIns *lir_as_const(const Lir *l, LVal v) {
    const LIns *i = ins_of(l, v);
    return i->op == L_CONST ? i : NULL;
}
bool lir_all_const(const Lir *l, LVal v, int64_t *out) {
    const LIns *i = v.i ? lir_as_const(l, v) : NULL;
    if (!i || !(lir_class(i->ty.dt) & (LC_INT | LC_BOOL))) return false;
    if (out) *out = i->imm;
    return true;
}
bool lir_is_const(const Lir *l, LVal v, int64_t *out) { return lir_all_const(l, v, out) && lir_type(l, v).lanes == 1; }
bool lir_is_op(const Lir *l, LVal v, SOp op) {
    const LIns *i = ins_of(l, v);
    return i->op == L_OP && i->sop == op;
}
