/* ukr_special.c: what template `nest` runs at a point of the parallel axes of a sort, topk, compact or sequential random
 * stage: plain scalar loops without a branch that depends on data. In: the stage, its coordinates; out: Lir.
 *
 * Sorting is a merge sort of positions, bottom-up between two halves of the scratch, so it is stable and its result is
 * that of the evaluator; NaN is greater than every number. A small topk keeps its k best by insertion instead. */
#include <string.h>

#include "emit_internal.h"

enum { INSERTION = 32, TWISTER = 624, STEP = 397, WORDS = 2 };

typedef struct Sp { Emit *e; Lir *l; const Stage *s; Point *p; int axis; LVal n; } Sp;

static LVal c64(Sp *x, int64_t v) { return lir_i64(x->l, v); }
static LVal op(Sp *x, SOp o, LVal a, LVal b) { return lir_op2(x->l, o, a, b); }
static LVal pick(Sp *x, LVal c, LVal a, LVal b) { return lir_op3(x->l, S_SELECT, c, a, b); }
static LVal load64(Sp *x, LVal ptr, LVal i) { return lir_load(x->l, ptr, i, (LTy){DT_I64, 1}, (LVal){0}, 0); }
static LFor loop(Sp *x, LVal hi, uint32_t n, const LVal *init) { return lir_for(x->l, c64(x, 0), hi, c64(x, 1), n, init); }

/* Body r with the scanned coordinate at position i. */
static LVal value(Sp *x, int r, LVal i) {
    x->p->axis[x->axis] = i;
    emit_memo_reset(x->e);
    return emit_expr(x->e, x->s, x->s->body[r], x->p);
}

static void store(Sp *x, int r, LVal v, LVal i) {
    x->p->axis[x->axis] = i;
    emit_memo_reset(x->e);
    DType from = expr_info(x->e->c, x->s->body[r])->dtype, to = x->s->acc[r];
    emit_store(x->e, x->s, r, from == to ? v : emit_to_acc(x->e, v, from, to), x->p);
}

/* Results of compact and topk that are positions, whatever the body's type. */
static void store_position(Sp *x, int r, LVal v, LVal i) {
    x->p->axis[x->axis] = i;
    emit_memo_reset(x->e);
    emit_store(x->e, x->s, r, v, x->p);
}

/* ---- order ---- */

/* Must a stand before b, strictly? */
static LVal before_value(Sp *x, LVal a, LVal b, bool descending) {
    LVal first = descending ? b : a, second = descending ? a : b;
    if (lir_type(x->l, a).dt == DT_BOOL) return op(x, S_AND, lir_op1(x->l, S_NOT, first), second);
    LVal less = op(x, S_LT, first, second);
    if (!dt_is_float(lir_type(x->l, a).dt)) return less;
    LVal nan = op(x, S_AND, op(x, S_NE, second, second), op(x, S_EQ, first, first));
    return op(x, S_OR, less, nan);
}

static LVal before(Sp *x, LVal i, LVal j, int nkeys, bool descending) {
    LVal result = lir_bool(x->l, false);
    for (int r = nkeys - 1; r >= 0; r--) {
        LVal a = value(x, r, i), b = value(x, r, j);
        LVal ab = before_value(x, a, b, descending), ba = before_value(x, b, a, descending);
        result = op(x, S_OR, ab, op(x, S_AND, lir_op1(x->l, S_NOT, ba), result));
    }
    return result;
}

/* Positions 0..n-1 in order: returns where they are. room: 2n positions. */
static LVal sorted(Sp *x, LVal room, int nkeys, bool descending) {
    Lir *l = x->l;
    LVal one = c64(x, 1), none = c64(x, 0);
    LFor f = loop(x, x->n, 0, NULL);
    lir_store(l, room, f.iv, f.iv, (LVal){0}, 0);
    lir_for_end(l, &f, NULL, NULL);
    LVal passes;
    f = loop(x, c64(x, 62), 1, &none);
    LVal more = lir_cast(l, op(x, S_LT, op(x, S_SHL, one, f.iv), x->n), DT_I64), next = lir_add(l, f.c[0], more);
    lir_for_end(l, &f, &next, &passes);
    LFor pass = loop(x, passes, 0, NULL);
    LVal w = op(x, S_SHL, one, pass.iv), odd = op(x, S_AND, pass.iv, one);
    LVal src = lir_mul(l, odd, x->n), dst = lir_sub(l, x->n, src);
    LFor run = lir_for(l, none, x->n, lir_muli(l, w, 2), 0, NULL);
    LVal lo = run.iv, mid = op(x, S_MIN, lir_add(l, lo, w), x->n), hi = op(x, S_MIN, lir_add(l, mid, w), x->n), at[2] = {lo, mid};
    LFor k = lir_for(l, lo, hi, one, 2, at);
    LVal i = k.c[0], j = k.c[1], last = lir_addi(l, x->n, -1);
    LVal a = load64(x, room, lir_add(l, src, op(x, S_MIN, i, last))), b = load64(x, room, lir_add(l, src, op(x, S_MIN, j, last)));
    LVal left = op(x, S_LT, i, mid), right = op(x, S_LT, j, hi);
    LVal take = op(x, S_AND, left, lir_op1(l, S_NOT, op(x, S_AND, right, before(x, b, a, nkeys, descending))));
    lir_store(l, room, lir_add(l, dst, k.iv), pick(x, take, a, b), (LVal){0}, 0);
    LVal t = lir_cast(l, take, DT_I64), to[2] = {lir_add(l, i, t), lir_add(l, j, lir_sub(l, one, t))};
    lir_for_end(l, &k, to, at);
    lir_for_end(l, &run, NULL, NULL);
    lir_for_end(l, &pass, NULL, NULL);
    return lir_ptr_add(l, room, lir_mul(l, op(x, S_AND, passes, one), x->n), DT_I64);
}

static void sort_stage(Sp *x, LVal room) {
    const SortAttr *a = x->s->node->attr;
    LVal at = sorted(x, room, a->nkeys ? a->nkeys : 1, a->descending);
    LFor f = loop(x, x->n, 0, NULL);
    LVal i = load64(x, at, f.iv);
    for (int r = 0; r < x->s->nres; r++) store(x, r, value(x, r, i), f.iv);
    lir_for_end(x->l, &f, NULL, NULL);
}

static bool inserts(Ctx *c, const TopkAttr *a) { return dim_hi(c, a->k) <= INSERTION; }

/* The k best so far stay in order in `room`; every element goes as far up as it beats what is there. */
static void insert_best(Sp *x, LVal room, LVal k, bool largest) {
    Lir *l = x->l;
    LVal one = c64(x, 1);
    LFor f = loop(x, x->n, 0, NULL);
    LVal have = op(x, S_MIN, f.iv, k), last = op(x, S_MAX, lir_addi(l, have, -1), c64(x, 0)), full = op(x, S_EQ, have, k);
    LVal worst = load64(x, room, last);
    worst = pick(x, op(x, S_GT, have, c64(x, 0)), worst, f.iv);
    LVal in = op(x, S_OR, lir_op1(l, S_NOT, full), before(x, f.iv, worst, 1, largest));
    LIf i = lir_if(l, in, 0);
    LVal hole = pick(x, full, last, have);
    LFor m = lir_for(l, c64(x, 0), hole, one, 1, &hole); /* downwards: shift what stands behind the new one */
    LVal pos = lir_sub(l, lir_addi(l, hole, -1), m.iv), there = load64(x, room, pos), beats = before(x, f.iv, there, 1, largest);
    LVal slot = lir_addi(l, pos, 1), old = load64(x, room, slot);
    lir_store(l, room, slot, pick(x, beats, there, old), (LVal){0}, 0);
    LVal next = pick(x, beats, pos, m.c[0]), end;
    lir_for_end(l, &m, &next, &end);
    lir_store(l, room, end, f.iv, (LVal){0}, 0);
    lir_else(l, &i, NULL);
    lir_endif(l, &i, NULL, NULL);
    lir_for_end(l, &f, NULL, NULL);
}

static void topk_stage(Sp *x, LVal room) {
    const TopkAttr *a = x->s->node->attr;
    LVal k = emit_dim(x->e, a->k), at = room;
    if (inserts(x->e->c, a)) {
        LIf some = lir_if(x->l, op(x, S_GT, k, c64(x, 0)), 0);
        insert_best(x, room, k, a->largest);
        lir_else(x->l, &some, NULL);
        lir_endif(x->l, &some, NULL, NULL);
    } else {
        at = sorted(x, room, 1, a->largest);
    }
    LFor f = loop(x, k, 0, NULL);
    LVal i = load64(x, at, f.iv);
    store(x, 0, value(x, 0, i), f.iv);
    store_position(x, 1, i, f.iv);
    lir_for_end(x->l, &f, NULL, NULL);
}

/* ---- compact ---- */

static void compact_stage(Sp *x) {
    const CompactAttr *a = x->s->node->attr;
    Lir *l = x->l;
    LVal bound = emit_dim(x->e, a->bound), found = c64(x, 0);
    LFor f = loop(x, x->n, 1, &found);
    LVal v = value(x, 0, f.iv), set = lir_type(l, v).dt == DT_BOOL ? v : op(x, S_NE, v, lir_int(l, lir_type(l, v).dt, 0));
    LIf i = lir_if(l, set, 0);
    lir_fail_if(l, op(x, S_GE, f.c[0], bound), x->s->guard);
    store_position(x, 0, f.iv, f.c[0]);
    lir_else(l, &i, NULL);
    lir_endif(l, &i, NULL, NULL);
    LVal next = lir_add(l, f.c[0], lir_cast(l, set, DT_I64));
    lir_for_end(l, &f, &next, &found);
    store_position(x, 1, found, c64(x, 0));
    f = lir_for(l, found, bound, c64(x, 1), 0, NULL);
    store_position(x, 0, c64(x, 0), f.iv);
    lir_for_end(l, &f, NULL, NULL);
}

/* ---- numpy's RandomState(seed).random_sample(): a Mersenne twister, `state` holds its 624 words ---- */

static LVal u32(Sp *x, uint32_t v) { return lir_int(x->l, DT_U32, (int64_t)v); }
static LVal word(Sp *x, LVal state, LVal i) { return lir_load(x->l, state, i, (LTy){DT_U32, 1}, (LVal){0}, 0); }
static LVal shr(Sp *x, LVal v, uint32_t by) { return lir_shru(x->l, v, u32(x, by)); }
static LVal shl(Sp *x, LVal v, uint32_t by) { return op(x, S_SHL, v, u32(x, by)); }
static LVal wrapped(Sp *x, LVal k) { return pick(x, op(x, S_GE, k, c64(x, TWISTER)), lir_addi(x->l, k, -TWISTER), k); }

static void twister_seed(Sp *x, LVal state, uint32_t seed) {
    Lir *l = x->l;
    LVal v = u32(x, seed);
    LFor f = loop(x, c64(x, TWISTER), 1, &v);
    lir_store(l, state, f.iv, f.c[0], (LVal){0}, 0);
    LVal mixed = op(x, S_XOR, f.c[0], shr(x, f.c[0], 30)), k = lir_cast(l, lir_addi(l, f.iv, 1), DT_U32);
    LVal next = lir_add(l, lir_mul(l, mixed, u32(x, 1812433253u)), k);
    lir_for_end(l, &f, &next, &v);
}

static void twister_turn(Sp *x, LVal state) {
    Lir *l = x->l;
    LFor f = loop(x, c64(x, TWISTER), 0, NULL);
    LVal y = op(x, S_OR, op(x, S_AND, word(x, state, f.iv), u32(x, 0x80000000u)),
                op(x, S_AND, word(x, state, wrapped(x, lir_addi(l, f.iv, 1))), u32(x, 0x7fffffffu)));
    LVal odd = op(x, S_NE, op(x, S_AND, y, u32(x, 1)), u32(x, 0));
    LVal far = word(x, state, wrapped(x, lir_addi(l, f.iv, STEP)));
    LVal v = op(x, S_XOR, op(x, S_XOR, far, shr(x, y, 1)), pick(x, odd, u32(x, 0x9908b0dfu), u32(x, 0)));
    lir_store(l, state, f.iv, v, (LVal){0}, 0);
    lir_for_end(l, &f, NULL, NULL);
}

static LVal tempered(Sp *x, LVal y) {
    y = op(x, S_XOR, y, shr(x, y, 11));
    y = op(x, S_XOR, y, op(x, S_AND, shl(x, y, 7), u32(x, 0x9d2c5680u)));
    y = op(x, S_XOR, y, op(x, S_AND, shl(x, y, 15), u32(x, 0xefc60000u)));
    return op(x, S_XOR, y, shr(x, y, 18));
}

static void random_stage(Sp *x, LVal state) {
    const RandomAttr *a = x->s->node->attr;
    const Stage *s = x->s;
    Lir *l = x->l;
    Dim total = dim_const(x->e->c, 1);
    for (int d = 0; d < s->naxis; d++) total = dim_mul(x->e->c, total, s->axis[d].extent);
    twister_seed(x, state, (uint32_t)a->seed);
    LVal none = c64(x, TWISTER), end;
    LFor f = loop(x, emit_dim(x->e, total), 1, &none); /* carried: words of the state used up */
    LVal empty = op(x, S_EQ, f.c[0], c64(x, TWISTER)), at = pick(x, empty, c64(x, 0), f.c[0]);
    LIf i = lir_if(l, empty, 0);
    twister_turn(x, state);
    lir_else(l, &i, NULL);
    lir_endif(l, &i, NULL, NULL);
    LVal hi = lir_cast(l, shr(x, tempered(x, word(x, state, at)), 5), DT_I64);
    LVal lo = lir_cast(l, shr(x, tempered(x, word(x, state, lir_addi(l, at, 1))), 6), DT_I64);
    LVal u = lir_op2(l, S_MUL, lir_cast(l, lir_add(l, lir_muli(l, hi, 67108864), lo), DT_F64), lir_float(l, DT_F64, 1 / 9007199254740992.0));
    LVal v = lir_add(l, lir_float(l, DT_F64, a->a), lir_mul(l, lir_float(l, DT_F64, a->b - a->a), u));
    LVal rest = f.iv;
    for (int d = s->naxis - 1; d >= 0; d--) {
        LVal n = op(x, S_MAX, emit_dim(x->e, s->axis[d].extent), c64(x, 1));
        x->p->axis[d] = d ? op(x, S_REM, rest, n) : rest;
        rest = op(x, S_DIV, rest, n);
    }
    emit_memo_reset(x->e);
    emit_store(x->e, s, 0, emit_to_acc(x->e, v, DT_F64, s->acc[0]), x->p);
    LVal used = lir_addi(l, at, WORDS);
    lir_for_end(l, &f, &used, &end);
}

/* ---- the two entries ---- */

Dim special_scratch(Ctx *c, const Stage *s) {
    const Node *n = s->node;
    Dim words = dim_const(c, 0);
    if (s->kind == ST_SORT) words = dim_muli(c, s->axis[((const SortAttr *)n->attr)->axis].extent, 2);
    if (s->kind == ST_RANDOM) words = dim_const(c, TWISTER / 2);
    if (s->kind == ST_TOPK) {
        const TopkAttr *a = n->attr;
        words = inserts(c, a) ? dim_addi(c, a->k, 1) : dim_muli(c, s->axis[a->axis].extent, 2);
    }
    return dim_muli(c, dim_ceildiv(c, words, dim_const(c, 8)), 64);
}

void special_stage(Emit *e, int st, Point *p, LVal scratch) {
    const Stage *s = &e->k->stage[st];
    Sp x = {.e = e, .l = e->l, .s = s, .p = p};
    for (int a = 0; a < s->naxis; a++) if (s->axis[a].kind == AX_SCAN) x.axis = a;
    if (s->naxis) x.n = emit_dim(e, s->axis[x.axis].extent);
    switch (s->kind) {
    case ST_SORT: sort_stage(&x, scratch); break;
    case ST_TOPK: topk_stage(&x, scratch); break;
    case ST_COMPACT: compact_stage(&x); break;
    default: random_stage(&x, scratch); break;
    }
}
