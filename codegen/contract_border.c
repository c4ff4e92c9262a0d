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
    LVal rest = emit_expr(e, x->s, b->rest, &p);
    return lir_add(e->l, rest, lir_muli(e->l, row, b->step));
}

/* The taps in range at that row. */
static void taps_at(Emit *e, const Shape *x, const Border *b, LVal row, LVal *lo, LVal *hi) {
    Lir *l = e->l;
    LVal below = lir_op1(l, S_NEG, index_of(e, x, b, row)), above = lir_add(l, below, emit_dim(e, b->size));
    LVal taps = emit_dim(e, x->s->axis[b->tap].extent);
    below = steps_to(l, below, b->far);
    above = steps_to(l, above, b->far);
    *lo = lir_op2(l, S_MIN, below, taps);
    *hi = lir_op2(l, S_MIN, above, taps);
}

const Border *contract_taps_across(Emit *e, const Shape *x, const LVal *at, LVal *lo, LVal *hi) {
    const Border *along = NULL;
    for (int i = 0; i < x->nborder; i++) {
        const Border *b = &x->border[i];
        if (b->row == x->m[x->nm - 1]) along = b;
        else taps_at(e, x, b, at[b->row], &lo[b->tap], &hi[b->tap]);
    }
    return along;
}

/* The row from which on tap t's index is in range (or beyond it), `below` being what tap 0's lacks at row `from`; end if nobody asks. */
static LVal reaches(Lir *l, const Border *b, LVal from, LVal below, LVal t, LVal asked, LVal end) {
    LVal left = lir_sub(l, below, lir_muli(l, t, b->far)), n = steps_to(l, left, b->step);
    return lir_op3(l, S_SELECT, asked, lir_add(l, from, n), end);
}

LVal contract_taps_along(Emit *e, const Shape *x, const Border *b, LVal row, LVal end, LVal *lo, LVal *hi) {
    Lir *l = e->l;
    LVal zero = lir_i64(l, 0), *first = &lo[b->tap], *last = &hi[b->tap];
    taps_at(e, x, b, row, first, last);
    LVal below = lir_op1(l, S_NEG, index_of(e, x, b, row)), above = lir_add(l, below, emit_dim(e, b->size));
    LVal some_before = lir_op2(l, S_GT, *first, zero), some = lir_op2(l, S_GT, *last, zero);
    LVal enters = reaches(l, b, row, below, lir_addi(l, *first, -1), some_before, end);
    LVal leaves = reaches(l, b, row, above, lir_addi(l, *last, -1), some, end);
    enters = lir_op2(l, S_MIN, enters, leaves);
    return lir_op2(l, S_MIN, end, enters);
}
