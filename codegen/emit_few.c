/* emit_few.c: a vector whose lanes read few places. In: an access that is no constant step along the vector axis; out: its lanes, from one load and a
 * permutation of it, where a gather would go to memory for every lane:
 * - a row of no more elements than lanes, whatever the index (the columns of a tile that is repeated);
 * - the quotient of the axis by a constant (pixels shown several times). */
#include "emit_value.h"

/* The only dim of b whose index differs between lanes, if its elements are neighbours; else -1. */
static int lane_dim(const Emit *e, const KBuf *b, const Expr *at, int vaxis) {
    int found = -1;
    for (int d = 0; d < b->rank; d++) {
        if (dim_is(e->c, b->stride[d], 0) || !expr_uses_axis(e->c, at[d], (uint32_t)vaxis)) continue;
        if (found >= 0 || !dim_is(e->c, b->stride[d], 1)) return -1;
        found = d;
    }
    return found;
}

/* k of axis / k, 2 or more; else 0. */
static int64_t quotient_by(const Emit *e, Expr x, int axis) {
    const ExprInfo *i = expr_info(e->c, x);
    if (i->kind != E_OP || (i->op != S_FDIV && i->op != S_DIV) || i->arg[0].i != expr_axis(e->c, (uint32_t)axis).i) return 0;
    const ExprInfo *by = expr_info(e->c, i->arg[1]);
    return by->kind == E_CONST && by->val.i >= 2 && by->val.i <= INT32_MAX ? by->val.i : 0;
}

typedef struct Row { LVal ptr, at; DType type; uint16_t lanes; } Row; /* a row from element `at` on, and the lanes of a register */

/* table[which] for the first `count` elements from `first` on */
static LVal look_up(Emit *e, const Row *r, LVal first, LVal count, LVal which) {
    Lir *l = e->l;
    LVal at = lir_add(l, r->at, first);
    LVal v = lir_load(l, r->ptr, at, (LTy){(uint8_t)r->type, r->lanes}, lir_mask(l, count, r->lanes), 0);
    if (r->type == DT_F32) return lir_permute_var(l, v, which);
    return lir_bitcast(l, lir_permute_var(l, lir_bitcast(l, v, DT_F32), which), r->type);
}

/* Elements x / by of the row, for x from `from` on, all below `end`. */
static LVal quotients(Emit *e, const Row *r, LVal from, LVal end, int64_t by) {
    Lir *l = e->l;
    LVal k = lir_i64(l, by), first = lir_op2(l, S_DIV, from, k), past = lir_op2(l, S_MIN, lir_addi(l, from, r->lanes), end);
    LVal count = lir_addi(l, lir_sub(l, lir_op2(l, S_DIV, lir_addi(l, past, -1), k), first), 1);
    LVal skip = lir_cast(l, lir_sub(l, from, lir_mul(l, first, k)), DT_U32);
    LVal which = lir_add(l, lir_splat(l, skip, r->lanes), lir_iota(l, DT_U32, r->lanes));
    which = lir_op2(l, S_DIV, which, lir_splat(l, lir_int(l, DT_U32, by), r->lanes));
    return look_up(e, r, first, count, lir_bitcast(l, which, DT_I32));
}

LVal emit_few(Emit *e, const Stage *s, uint16_t buf, const Expr *at, const Point *p) {
    enum { MOST = 16 };
    const KBuf *b = &e->k->buf[buf];
    const int rank = b->rank, d = lane_dim(e, b, at, p->vaxis);
    Lir *l = e->l;
    Row r = {.ptr = e->ptr[buf], .type = b->dtype, .lanes = e->t->vbytes / 4};
    const int halves = p->lanes / r.lanes; /* of a vector of two registers, or one */
    if (d < 0 || (r.type != DT_F32 && r.type != DT_I32) || !(e->t->flags & F_AVX2) || p->lanes % r.lanes || halves > 2) return (LVal){0};
    const int64_t by = quotient_by(e, at[d], p->vaxis);
    if (!by && dim_hi(e->c, b->dim[d]) > r.lanes) return (LVal){0};
    Expr row[MAX_RANK];
    int64_t step;
    LVal vec, part[2], which = {0};
    int16_t lane[2][2 * MOST];
    for (int i = 0; i < 2 * MOST; i++) lane[0][i] = (int16_t)i, lane[1][i] = (int16_t)(i + r.lanes);
    for (int i = 0; i < rank; i++) row[i] = i == d ? expr_int(e->c, DT_I64, 0) : at[i];
    r.at = emit_address(e, s, buf, rank, row, p, &step, &vec);
    if (!by) which = lir_splat(l, emit_as_i32(e, emit_low(e, s, at[d], p)), p->lanes);
    LVal count = emit_dim(e, by ? s->axis[p->vaxis].extent : b->dim[d]);
    for (int h = 0; h < halves; h++) {
        if (by) part[h] = quotients(e, &r, lir_addi(l, p->axis[p->vaxis], h * r.lanes), count, by);
        else part[h] = look_up(e, &r, lir_i64(l, 0), count, halves > 1 ? lir_shuffle(l, which, which, r.lanes, lane[h]) : which);
    }
    return halves > 1 ? lir_shuffle(l, part[0], part[1], p->lanes, lane[0]) : part[0];
}
