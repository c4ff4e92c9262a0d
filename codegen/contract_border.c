/* contract_border.c: contractions of windows that reach beyond an operand, where it counts as zero: taps out of range are not walked. Rows are cut
 * where their taps change, so all points of a tile have the same ones; that pays where taps lie far apart (see bufferise). */
#include "ir/const.h"

#include "contract.h"
#include "emit_value.h"

static bool steps_by(Ctx *c, const Affine *f, int axis, int64_t *by) { return dim_is_const(c, f->coef[axis], by) && *by > 0; }

bool contract_border(const Kernel *k, const Stage *s, Expr index, Dim size, Border *b) {
    *b = (Border){.row = -1, .tap = -1, .size = size};
    Affine f;
    if (!index_affine(k, s, index, &f)) return false;
    b->rest = f.rest;
    for (int a = 0; a < s->naxis; a++) {
        if (!f.has[a]) continue;
        bool reduced = s->axis[a].kind == AX_RED;
        if ((reduced ? b->tap : b->row) >= 0 || !steps_by(k->c, &f, a, reduced ? &b->far : &b->step)) return false;
        *(reduced ? &b->tap : &b->row) = a;
    }
    return b->row >= 0 && b->tap >= 0 && dim_is_const(k->c, s->axis[b->tap].extent, NULL);
}

bool contract_border_neutral(const Shape *x) {
    const ConstData *d = x->k->buf[x->b.buf].data;
    return !x->nborder || (d && const_is_finite(d));
}

/* The smallest n >= 0 with n * by >= v. */
static LVal steps_to(Lir *l, LVal v, int64_t by) {
    LVal n = lir_op2(l, S_MAX, v, lir_i64(l, 0));
    return by == 1 ? n : lir_op2(l, S_DIV, lir_addi(l, n, by - 1), lir_i64(l, by));
}

/* The index of tap 0. */
static LVal index_of(Emit *e, const Shape *x, const Border *b, LVal row) {
    Point p = {.vaxis = -1, .lanes = 1};
    for (int a = 0; a < K_AXES; a++) p.axis[a] = lir_i64(e->l, 0);
    emit_memo_reset(e);
    return lir_add(e->l, emit_expr(e, x->s, b->rest, &p), lir_muli(e->l, row, b->step));
}

void contract_taps(Emit *e, const Shape *x, const Border *b, LVal row, LVal *lo, LVal *hi) {
    Lir *l = e->l;
    LVal below = lir_op1(l, S_NEG, index_of(e, x, b, row)), taps = emit_dim(e, x->s->axis[b->tap].extent);
    *lo = lir_op2(l, S_MIN, steps_to(l, below, b->far), taps);
    *hi = lir_op2(l, S_MIN, steps_to(l, lir_add(l, emit_dim(e, b->size), below), b->far), taps);
}

LVal contract_taps_end(Emit *e, const Shape *x, const Border *b, LVal row, LVal lo, LVal hi, LVal end) {
    Lir *l = e->l;
    LVal zero = lir_i64(l, 0), below = lir_op1(l, S_NEG, index_of(e, x, b, row));
    /* The tap before the first one comes into range, or the last one leaves it. */
    LVal enters = steps_to(l, lir_sub(l, below, lir_muli(l, lir_addi(l, lo, -1), b->far)), b->step);
    LVal leaves = steps_to(l, lir_sub(l, lir_add(l, emit_dim(e, b->size), below), lir_muli(l, lir_addi(l, hi, -1), b->far)), b->step);
    enters = lir_op3(l, S_SELECT, lir_op2(l, S_GT, lo, zero), lir_add(l, row, enters), end);
    leaves = lir_op3(l, S_SELECT, lir_op2(l, S_GT, hi, zero), lir_add(l, row, leaves), end);
    return lir_op2(l, S_MIN, end, lir_op2(l, S_MIN, enters, leaves));
}
