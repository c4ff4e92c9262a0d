/* contract_shape.c: recognises a contraction in a kernel and sorts its axes. One operand (B) is read as vectors along an axis of unit
 * stride, or of four bytes where quads of bytes are multiplied at once; the other (A) is broadcast. */
#include <string.h>

#include "contract.h"
#include "emit_value.h"

/* The dims of a load that may be out of range, where it gives zero. */
static bool borders(const Kernel *k, const Stage *s, const ExprInfo *load, Shape *x) {
    const KBuf *b = &k->buf[load->index];
    if (load->oob == OOB_NEVER) return true;
    const ExprInfo pad = *expr_info(k->c, load->arg[load->narg - 1]);
    if (load->oob != OOB_VALUE || load->dtype != DT_F32 || pad.kind != E_CONST || pad.val.i != 0) return false;
    for (int d = 0; d < b->rank; d++) {
        Border *own = &x->border[x->nborder];
        if (emit_always_inside(k->c, s, b, load->arg[d], d)) continue;
        if (!contract_border(k, s, load->arg[d], b->dim[d], own)) return false;
        for (int i = 0; i < x->nborder; i++) if (x->border[i].row == own->row || x->border[i].tap == own->tap) return false;
        x->nborder++;
    }
    return true;
}

/* Borders of x, if any, are of this operand. */
static bool operand(const Kernel *k, const Stage *s, Expr e, Operand *o, Shape *x) {
    ExprInfo i = *expr_info(k->c, e);
    if (i.kind == E_CAST) {
        e = i.arg[0];
        i = *expr_info(k->c, e);
    }
    if (i.kind != E_LOAD || (x ? !borders(k, s, &i, x) : i.oob != OOB_NEVER)) return false;
    *o = (Operand){.load = e, .buf = (uint16_t)i.index, .type = i.dtype};
    return access_affine(k, s, o->buf, k->buf[o->buf].rank, i.arg, &o->f);
}

/* The axis of four neighbouring bytes in both operands, while other axes of B keep to multiples of four. */
static int quad_axis(const Shape *x) {
    Ctx *c = x->k->c;
    int quad = -1;
    if (x->s->acc[0] != DT_I32 || x->a.type != DT_U8 || x->b.type != DT_I8) return -1;
    for (int a = 0; a < x->s->naxis; a++)
        if (x->s->axis[a].kind == AX_RED && dim_is(c, x->s->axis[a].extent, 4) && dim_is(c, x->a.f.coef[a], 1) && dim_is(c, x->b.f.coef[a], 1))
            quad = a;
    return quad;
}

static bool classify(const Kernel *k, Shape *x, bool swapped) {
    const Stage *s = &k->stage[0];
    *x = (Shape){.k = k, .s = s, .vec = -1, .nblk = -1, .more = 1};
    if (s->kind != ST_NEST || s->nres != 1 || !s->comb[0].i) return false;
    if (k->nstage > 1 && epilogue_mask(k, 0) != ((1ull << k->nstage) - 2)) return false;
    ExprInfo body = *expr_info(k->c, s->body[0]), comb = *expr_info(k->c, s->comb[0]);
    if (body.kind != E_OP || body.op != S_MUL || comb.kind != E_OP || comb.op != S_ADD) return false;
    if (expr_info(k->c, comb.arg[0])->kind != E_ARG || expr_info(k->c, comb.arg[1])->kind != E_ARG) return false;
    if (s->acc[0] != DT_F32 && s->acc[0] != DT_F64 && s->acc[0] != DT_I32) return false;
    if (s->init[0].i != 0) return false; /* 0 and 0.0 */
    if (!operand(k, s, body.arg[swapped], &x->a, x) || !operand(k, s, body.arg[!swapped], &x->b, NULL)) return false;
    x->quad = quad_axis(x);
    Dim unit = dim_const(k->c, x->quad >= 0 ? 4 : 1);
    for (int a = 0; a < s->naxis; a++) {
        bool ua = x->a.f.has[a], ub = x->b.f.has[a];
        if (a == x->quad) continue;
        if (s->axis[a].kind == AX_RED) x->red[x->nred++] = a;
        else if (ua && !ub) x->m[x->nm++] = a;
        else if (ub && !ua) {
            if (dim_same(k->c, x->b.f.coef[a], unit)) x->vec = a;
            else x->nout[x->nnout++] = a;
        } else x->batch[x->nbatch++] = a;
    }
    if (x->vec < 0 || (!x->nred && x->quad < 0)) return false;
    for (int i = 0; i < x->nborder; i++)
        if (x->b.f.has[x->border[i].row]) return false;
    if (dim_is(k->c, s->axis[x->vec].extent, 16) && x->nnout) {
        x->nblk = x->nout[x->nnout - 1];
        x->nnout--;
    }
    return true;
}

/* Does the result lie along the vector axis? */
static bool stores_along(const Shape *x) {
    const Kernel *k = x->k;
    int st = k->nstage - 1, p = 0, vec = -1;
    for (int a = 0; a < x->s->naxis; a++)
        if (x->s->axis[a].kind == AX_PAR) {
            if (a == x->vec) vec = p;
            p++;
        }
    const Stage *s = &k->stage[st];
    if (st == 0) vec = x->vec;
    Affine f;
    return access_affine(k, s, s->out[0].buf, s->out[0].rank, s->out[0].at, &f) && dim_is(k->c, f.coef[vec], 1);
}

/* A tile takes rows along the two innermost m axes. Where those are short (the taps of a transposed convolution), the longest of the others comes
 * last. */
static void long_rows_last(Shape *x) {
    enum { FEW = 8 };
    int longest = 0;
    if (x->nm < 3 || shape_product(x, x->m + x->nm - 2, 2) >= FEW) return;
    for (int i = 1; i < x->nm; i++) if (shape_extent(x, x->m[i]) > shape_extent(x, x->m[longest])) longest = i;
    int axis = x->m[longest];
    memmove(&x->m[longest], &x->m[longest + 1], sizeof *x->m * (size_t)(x->nm - longest - 1));
    x->m[x->nm - 1] = axis;
}

/* Few lanes of a vector would be used. */
static bool is_short(const Shape *x) { return shape_extent(x, x->vec) < 8; }

bool contract_shape(const Kernel *k, Shape *x) {
    Shape other;
    bool first = classify(k, x, false), second = classify(k, &other, true);
    if (first && second && is_short(x) != is_short(&other)) first = !is_short(x);
    else if (first && second && stores_along(&other) && !stores_along(x)) first = false;
    if (!first && second) *x = other;
    if (first || second) long_rows_last(x);
    return first || second;
}

double shape_extent(const Shape *x, int axis) { return dim_guess(x->k->c, x->s->axis[axis].extent, x->more); }

double shape_product(const Shape *x, const int *axis, int n) {
    double p = 1;
    for (int i = 0; i < n; i++) p *= shape_extent(x, axis[i]);
    return p;
}

bool shape_rows_collide(const Shape *x, const Target *t) {
    int64_t pitch;
    if (x->nblk >= 0 || !x->nred) return false;
    int k = x->red[x->nred - 1];
    if (!x->b.f.has[k] || !dim_is_const(x->k->c, x->b.f.coef[k], &pitch)) return false;
    int64_t bytes = pitch * dt_bits(x->b.type) / 8, step = bytes & -bytes; /* the power of two in it */
    return step >= 2048 && shape_extent(x, k) * (double)step > 0.9 * t->l2;
}
