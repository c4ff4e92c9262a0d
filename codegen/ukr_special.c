/* ukr_special.c: what template `nest` runs at a point of the parallel axes of a compact or sequential random stage, and the way to
 * sort and topk (ukr_order.c). In: the stage, its coordinates; out: Lir. */
#include <string.h>

#include "special.h"

enum { TWISTER = 624, STEP = 397, WORDS = 2 };

/* Body r with the scanned coordinate at position i. */
LVal special_value(Sp *x, int r, LVal i) {
    x->p->axis[x->axis] = i;
    emit_memo_reset(x->e);
    return emit_expr(x->e, x->s, x->s->body[r], x->p);
}

void special_store(Sp *x, int r, LVal v, LVal i) {
    x->p->axis[x->axis] = i;
    emit_memo_reset(x->e);
    DType from = expr_info(x->e->c, x->s->body[r])->dtype, to = x->s->acc[r];
    emit_store(x->e, x->s, r, from == to ? v : reg_cast(x->e, v, from, to), x->p);
}

/* Results of compact and topk that are positions, whatever the body's type. */
void special_store_position(Sp *x, int r, LVal v, LVal i) {
    x->p->axis[x->axis] = i;
    emit_memo_reset(x->e);
    emit_store(x->e, x->s, r, v, x->p);
}

/* ---- compact ---- */

/* Elements from .. to - 1, `found` of those before are set. sure: there is room for all of them, so that each may be stored where the next one goes
 * if it is not set: which are is hard to guess. */
static LVal compact_points(Sp *x, LVal from, LVal to, LVal found, LVal bound, bool sure) {
    Lir *l = x->l;
    LFor f = lir_for(l, from, to, c64(x, 1), 1, &found);
    LVal v = special_value(x, 0, f.iv), set = lir_type(l, v).dt == DT_BOOL ? v : op(x, S_NE, v, lir_int(l, lir_type(l, v).dt, 0));
    if (sure) special_store_position(x, 0, f.iv, f.c[0]);
    else {
        LIf i = lir_if(l, set, 0);
        lir_fail_if(l, op(x, S_GE, f.c[0], bound), x->s->guard);
        special_store_position(x, 0, f.iv, f.c[0]);
        lir_else(l, &i, NULL);
        lir_endif(l, &i, NULL, NULL);
    }
    LVal next = lir_add(l, f.c[0], lir_cast(l, set, DT_I64));
    lir_for_end(l, &f, &next, &found);
    return found;
}

static void compact_stage(Sp *x) {
    enum { STRETCH = 64 };
    const CompactAttr *a = x->s->node->attr;
    Lir *l = x->l;
    LVal bound = emit_dim(x->e, a->bound), found = c64(x, 0);
    LFor f = lir_for(l, c64(x, 0), x->n, c64(x, STRETCH), 1, &found);
    LVal to = op(x, S_MIN, lir_addi(l, f.iv, STRETCH), x->n), next;
    LIf room = lir_if(l, op(x, S_LE, lir_addi(l, f.c[0], STRETCH), bound), 1);
    next = compact_points(x, f.iv, to, f.c[0], bound, true);
    lir_else(l, &room, &next);
    next = compact_points(x, f.iv, to, f.c[0], bound, false);
    lir_endif(l, &room, &next, &next);
    lir_for_end(l, &f, &next, &found);
    special_store_position(x, 1, found, c64(x, 0));
    f = lir_for(l, found, bound, c64(x, 1), 0, NULL);
    special_store_position(x, 0, c64(x, 0), f.iv);
    lir_for_end(l, &f, NULL, NULL);
}

/* ---- numpy's RandomState(seed).random_sample(): a Mersenne twister, `state` holds its 624 words ---- */

static LVal u32(Sp *x, uint32_t v) { return lir_int(x->l, DT_U32, (int64_t)v); }
static LVal word(Sp *x, LVal state, LVal i) { return lir_load(x->l, state, i, (LTy){DT_U32, 1}, (LVal){0}, 0); }
static LVal shr(Sp *x, LVal v, uint32_t by) { return lir_shru(x->l, v, u32(x, by)); }
static LVal shl(Sp *x, LVal v, uint32_t by) { return op(x, S_SHL, v, u32(x, by)); }
static LVal wrapped(Sp *x, LVal k) {
    LVal beyond = op(x, S_GE, k, c64(x, TWISTER));
    return pick(x, beyond, lir_addi(x->l, k, -TWISTER), k);
}

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
    LVal top = op(x, S_AND, word(x, state, f.iv), u32(x, 0x80000000u)), next = word(x, state, wrapped(x, lir_addi(l, f.iv, 1)));
    LVal y = op(x, S_OR, top, op(x, S_AND, next, u32(x, 0x7fffffffu)));
    LVal odd = op(x, S_NE, op(x, S_AND, y, u32(x, 1)), u32(x, 0));
    LVal far = word(x, state, wrapped(x, lir_addi(l, f.iv, STEP)));
    LVal v = op(x, S_XOR, far, shr(x, y, 1));
    v = op(x, S_XOR, v, pick(x, odd, u32(x, 0x9908b0dfu), u32(x, 0)));
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
    emit_store(x->e, s, 0, reg_cast(x->e, v, DT_F64, s->acc[0]), x->p);
    LVal used = lir_addi(l, at, WORDS);
    lir_for_end(l, &f, &used, &end);
}

/* ---- the two entries ---- */

Dim special_scratch(const Emit *e, const Stage *s) {
    Ctx *c = e->c;
    Dim words = dim_const(c, 0);
    if (s->kind == ST_SORT || s->kind == ST_TOPK) words = order_scratch(e, s);
    if (s->kind == ST_RANDOM) words = dim_const(c, TWISTER / 2);
    return dim_muli(c, dim_ceildiv(c, words, dim_const(c, 8)), 64);
}

void special_stage(Emit *e, int st, Point *p, LVal scratch) {
    const Stage *s = &e->k->stage[st];
    Sp x = {.e = e, .l = e->l, .s = s, .p = p};
    for (int a = 0; a < s->naxis; a++) if (s->axis[a].kind == AX_SCAN) x.axis = a;
    if (s->naxis) x.n = emit_dim(e, s->axis[x.axis].extent);
    switch (s->kind) {
    case ST_SORT: case ST_TOPK: order_stage(&x, scratch); break;
    case ST_COMPACT: compact_stage(&x); break;
    default: random_stage(&x, scratch); break;
    }
}
