/* grad_fold.c: gradients through combiners: scans and reductions that are no plain sum, and scatters that multiply or compare.
 *
 * With the state p before an element x and the state c(p, x) after it, a and b being the derivatives of c by p and x there, and d the gradient of
 * what a scan gives for the element, the gradient h of the state before it is a (d + h'), where h' is the one before the next element; x gets
 * b (d + h'). So h is a scan backwards of the functions h' -> a h' + a d, which two numbers describe and which compose associatively. */
#include "frontend/grad.h"
#include <string.h>

/* What is folded: n operands along an axis, and the gradient of each result at each element (of a reduction: none but the last has one). */
typedef struct Fold { const Node *n; int nop, axis; bool reverse, exclusive; const Expr *comb; const Scalar *init; const DType *acc; Val x[8]; } Fold;

static Val like(Grad *g, Expr e, int nin, const Val *in, Val shape)
{
    const Type t = *val_type(g->m->b.g, shape);
    return map_over(g->m, e, nin, in, t.rank, t.dim);
}

/* For result r: h' of each element, from a and what it adds to h. */
static Val backwards(Grad *g, const Fold *f, DType t, Val a, Val add)
{
    Imp *m = g->m;
    Expr a0 = xarg(m, 0, t), h0 = xarg(m, 1, t), a1 = xarg(m, 2, t), h1 = xarg(m, 3, t);
    Expr comb[2] = {X2(MUL, a0, a1), X2(ADD, X2(MUL, h0, a1), h1)};
    Scalar init[2] = {dt_convert((Scalar){.t = DT_I64, .i = 1}, t), dt_convert((Scalar){.t = DT_I64}, t)};
    Val in[2] = {a, add}, out[2];
    b_scan(&m->b, 2, in, f->axis, !f->reverse, true, comb, init, (DType[]){t, t}, out);
    return out[1];
}

/* d: the gradients of the results at each element, none for some; dx: those of the operands, none where there is none. */
static bool fold_back(Grad *g, const Fold *f, const Val *d, Val *dx)
{
    Imp *m = g->m;
    Val in[16 + 4], before[8];
    for (int k = 0; k < f->nop; k++)
        in[f->nop + k] = cast_to(m, f->x[k], f->acc[k]);
    b_scan(&m->b, f->nop, in + f->nop, f->axis, f->reverse, true, f->comb, f->init, f->acc, before);
    memcpy(in, before, sizeof *in * (size_t)f->nop);
    const int n = 2 * f->nop;
    for (int r = 0; r < f->nop; r++) {
        const DType t = f->acc[r];
        dx[r] = (Val){0};
        if (!d[r].i || !dt_is_float(t))
            continue;
        for (int k = 0; k < f->nop; k++) {
            bool mixes = k != r && dt_is_float(f->acc[k]) &&
                         (grad_expr(m, f->comb[r], xarg(m, k, f->acc[k])).i || grad_expr(m, f->comb[r], xarg(m, f->nop + k, f->acc[k])).i);
            if (mixes)
                return grad_refuse(g, f->n, "a combiner of several floats");
        }
        Expr zero = xf(m, t, 0), a = grad_expr(m, f->comb[r], xarg(m, r, t)), b = grad_expr(m, f->comb[r], xarg(m, f->nop + r, t));
        Expr after = xarg(m, n + 1, t), own = xarg(m, n, t);
        in[n] = cast_to(m, d[r], t);
        a = a.i ? a : zero;
        in[n + 1] = backwards(g, f, t, like(g, a, n, in, f->x[r]), f->exclusive ? in[n] : like(g, X2(MUL, a, own), n + 1, in, f->x[r]));
        if (b.i)
            dx[r] = like(g, X2(MUL, b, f->exclusive ? after : X2(ADD, own, after)), n + 2, in, f->x[r]);
    }
    return true;
}

bool grad_any_scan(Grad *g, const Node *n)
{
    const ScanAttr *a = n->attr;
    Fold f = {n, n->nin, a->axis, a->reverse, a->exclusive, a->comb, a->init, a->acc, {{0}}};
    Val d[8], dx[8];
    if (n->nin > 8)
        return grad_refuse(g, n, "a scan of so many operands");
    for (int k = 0; k < n->nin; k++) {
        f.x[k] = n->in[k];
        d[k] = g->adj[n->out[k].i];
    }
    if (!fold_back(g, &f, d, dx))
        return false;
    for (int k = 0; k < n->nin; k++)
        grad_add(g, n->in[k], dx[k]);
    return true;
}

/* A reduction is the last state of a scan along its axes, which become one behind the others. */
bool grad_any_reduce(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const ReduceAttr *a = n->attr;
    const Type t = *val_type(m->b.g, n->in[0]);
    int perm[MAX_RANK], back[MAX_RANK], kept = 0, k = 0;
    Dim dim[MAX_RANK], moved[MAX_RANK], count = DC(m, 1);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < t.rank; i++)
            if ((a->axes >> i & 1) == (uint32_t)pass) {
                back[i] = k;
                moved[k] = t.dim[i];
                perm[k++] = i;
                kept += !pass;
            }
    for (int i = 0; i < t.rank; i++)
        if (i < kept)
            dim[i] = moved[i];
        else
            count = dim_mul(m->c, count, moved[i]);
    dim[kept] = count;
    Fold f = {n, n->nin, kept, false, false, a->comb, a->init, a->acc, {{0}}};
    Val d[8], dx[8];
    if (n->nin > 8)
        return grad_refuse(g, n, "a reduction of so many operands");
    for (int r = 0; r < n->nin; r++) {
        f.x[r] = reshape_to(m, b_permute(&m->b, n->in[r], perm), kept + 1, dim);
        d[r] = g->adj[n->out[r].i];
        if (!d[r].i)
            continue;
        DType dt = dtype_of(m, d[r]);
        dim[kept] = DC(m, 1);
        Val whole = reshape_to(m, d[r], kept + 1, dim);
        dim[kept] = count;
        Expr last = X2(EQ, xaxis(m, kept), X2(SUB, xdim(m, count), XI(1)));
        d[r] = map_over(m, X3(SELECT, last, xarg(m, 0, dt), xf(m, dt, 0)), 1, &whole, kept + 1, dim);
    }
    if (!fold_back(g, &f, d, dx))
        return false;
    for (int r = 0; r < n->nin; r++)
        if (dx[r].i)
            grad_add(g, n->in[r], b_permute(&m->b, reshape_to(m, dx[r], t.rank, moved), back));
    return true;
}

/* ---- scatters: x and the updates u, both where they meet */

/* y = x times the product of the updates; each gets the product of the others, without division by 0. */
static void product_back(Grad *g, const Node *n, Val d, const ScatterAttr *a)
{
    Imp *m = g->m;
    Val x = n->in[0], u = n->in[2], one = b_binary(&m->b, S_ADD, grad_zeros(g, x), scalar_of(m, dtype_of(m, x), 1));
    ScatterAttr add = *a;
    add.mode = SC_ADD;
    Val zero = cast_to(m, map_text(m, "a == 0", 1, &u), dtype_of(m, u));
    Val product = b_scatter(&m->b, one, n->in[1], map_text(m, "select(a == 0, 1, a)", 1, &u), a);
    Val zeros = b_scatter(&m->b, grad_zeros(g, x), n->in[1], zero, &add);
    grad_add(g, x, map_text(m, "select(c == 0, a * b, 0)", 3, (Val[]){d, product, zeros}));
    Val rest = grad_scattered(g, n, map_text(m, "a * b * c", 3, (Val[]){d, x, product})), others = grad_scattered(g, n, zeros);
    grad_add(g, u, map_text(m, "select(a == 0, select(c == 1, b, 0), select(c == 0, b / a, 0))", 3, (Val[]){u, rest, others}));
}

/* y is the least or the greatest: those that are it share its gradient. */
static void extreme_back(Grad *g, const Node *n, Val d, const ScatterAttr *a)
{
    Imp *m = g->m;
    Val x = n->in[0], u = n->in[2], y = n->out[0];
    ScatterAttr add = *a;
    add.mode = SC_ADD;
    Val own = cast_to(m, b_binary(&m->b, S_EQ, x, y), dtype_of(m, x)), hit = b_binary(&m->b, S_EQ, u, grad_scattered(g, n, y));
    hit = cast_to(m, hit, dtype_of(m, u));
    Val share = b_binary(&m->b, S_DIV, d, b_scatter(&m->b, own, n->in[1], hit, &add));
    grad_add(g, x, map_text(m, "select(a == 0, 0, b)", 2, (Val[]){own, share}));
    grad_add(g, u, map_text(m, "select(a == 0, 0, b)", 2, (Val[]){hit, grad_scattered(g, n, share)}));
}

bool grad_any_scatter(Grad *g, const Node *n)
{
    const ScatterAttr *a = n->attr;
    Val d = g->adj[n->out[0].i];
    (a->mode == SC_MUL ? product_back : extreme_back)(g, n, d, a);
    return true;
}
