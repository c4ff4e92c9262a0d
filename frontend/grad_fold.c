/* grad_fold.c: gradients through combiners: scans and reductions that are no plain sum, and scatters that multiply or compare.
 *
 * With the state p before an element x and the state c(p, x) after it, a and b being the derivatives of c by p and x there, and d the gradient of
 * what a scan gives for the element, the gradient h of the state before it is a (d + h'), where h' is the one before the next element; x gets
 * b (d + h'). So h is a scan backwards of the functions h' -> a h' + a d, which two numbers describe and which compose associatively; a matrix
 * and a vector for several states that depend on each other. */
#include "frontend/grad.h"
#include <string.h>

/* What is folded: n operands along an axis, and the gradient of each result at each element (of a reduction: none but the last has one). */
typedef struct Fold {
    const Node *n;
    int nop, axis;
    bool reverse, exclusive;
    const Expr *comb;
    const Scalar *init;
    const DType *acc;
    Val x[MAX_FOLDED];
} Fold;

static Val like(Grad *g, Expr e, int nin, const Val *in, Val shape)
{
    const Type t = *val_type(g->m->b.g, shape);
    return map_over(g->m, e, nin, in, t.rank, t.dim);
}

static Expr add(Imp *m, Expr a, Expr b) { return !a.i ? b : !b.i ? a : X2(ADD, a, b); }

/* h' of the n states at each element, from the matrices a[n, n] and vectors v[n] of the functions h' -> a h' + v. */
static void backwards(Imp *m, const Fold *f, DType t, int n, const Val *a, const Val *v, Val *after)
{
    const int size = n * n + n; /* of a function: first its matrix */
    Val in[MAX_FOLDED], out[MAX_FOLDED];
    Expr comb[MAX_FOLDED];
    Scalar init[MAX_FOLDED];
    DType acc[MAX_FOLDED];
    memcpy(in, a, sizeof *in * (size_t)(n * n));
    memcpy(in + n * n, v, sizeof *in * (size_t)n);
    for (int e = 0; e < size; e++) { /* that of this element after that of the ones behind it */
        const int row = e < n * n ? e / n : e - n * n;
        comb[e] = e < n * n ? (Expr){0} : xarg(m, size + e, t);
        for (int k = 0; k < n; k++) {
            Expr behind = xarg(m, e < n * n ? k * n + e % n : n * n + k, t);
            comb[e] = add(m, X2(MUL, behind, xarg(m, size + row * n + k, t)), comb[e]);
        }
        init[e] = dt_convert((Scalar){.t = DT_I64, .i = e < n * n && e / n == e % n}, t);
        acc[e] = t;
    }
    b_scan(&m->b, size, in, f->axis, !f->reverse, true, comb, init, acc, out);
    memcpy(after, out + n * n, sizeof *after * (size_t)n);
}

/* The n states `set`, n * n + n <= MAX_FOLDED, which no other one depends on. in[]: what is before each element and the elements; d and dx as
 * for fold_back. */
static void states_back(Grad *g, const Fold *f, int n, const int *set, Val *in, const Val *d, Val *dx)
{
    Imp *m = g->m;
    const int nin = 2 * f->nop;
    DType t = f->acc[set[0]];
    Val a[MAX_FOLDED], v[MAX_FOLDED];
    Expr own[MAX_FOLDED], sum;
    for (int j = 0; j < n; j++)
        t = f->acc[set[j]] == DT_F64 ? DT_F64 : t;
    for (int j = 0; j < n; j++) {
        in[nin + j] = cast_to(m, d[set[j]].i ? d[set[j]] : grad_zeros(g, f->x[set[j]]), t);
        own[j] = xarg(m, nin + j, t);
    }
    for (int i = 0; i < n; i++) {
        sum = (Expr){0};
        for (int j = 0; j < n; j++) {
            Expr e = grad_expr(m, f->comb[set[j]], xarg(m, set[i], f->acc[set[i]]));
            e = e.i ? expr_cast(m->c, e, t) : xf(m, t, 0);
            a[i * n + j] = like(g, e, nin, in, f->x[0]);
            sum = add(m, sum, X2(MUL, e, own[j]));
        }
        v[i] = f->exclusive ? in[nin + i] : like(g, sum, nin + n, in, f->x[0]);
    }
    backwards(m, f, t, n, a, v, in + nin + n);
    for (int i = 0; i < n; i++) {
        sum = (Expr){0};
        for (int j = 0; j < n; j++) {
            Expr e = grad_expr(m, f->comb[set[j]], xarg(m, f->nop + set[i], f->acc[set[i]])), after = xarg(m, nin + n + j, t);
            if (e.i)
                sum = add(m, sum, X2(MUL, expr_cast(m->c, e, t), f->exclusive ? after : X2(ADD, own[j], after)));
        }
        dx[set[i]] = sum.i ? like(g, sum, nin + 2 * n, in, f->x[0]) : (Val){0};
    }
}

/* d: the gradients of the results at each element, none for some; dx: those of the operands, none where there is none. */
static bool fold_back(Grad *g, const Fold *f, const Val *d, Val *dx)
{
    Imp *m = g->m;
    Val in[4 * MAX_FOLDED] = {{0}}, before[MAX_FOLDED];
    int set[MAX_FOLDED], n = 0;
    bool mixed = false;
    for (int k = 0; k < f->nop; k++) {
        in[f->nop + k] = cast_to(m, f->x[k], f->acc[k]);
        dx[k] = (Val){0};
        if (dt_is_float(f->acc[k]))
            set[n++] = k;
    }
    b_scan(&m->b, f->nop, in + f->nop, f->axis, f->reverse, true, f->comb, f->init, f->acc, before);
    memcpy(in, before, sizeof *in * (size_t)f->nop);
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            mixed |= i != j && (grad_expr(m, f->comb[set[j]], xarg(m, set[i], f->acc[set[i]])).i ||
                                grad_expr(m, f->comb[set[j]], xarg(m, f->nop + set[i], f->acc[set[i]])).i);
    if (mixed && n * n + n > MAX_FOLDED)
        return grad_refuse(g, f->n, "a combiner of so many floats");
    if (mixed)
        states_back(g, f, n, set, in, d, dx);
    for (int i = 0; i < n && !mixed; i++)
        if (d[set[i]].i)
            states_back(g, f, 1, set + i, in, d, dx);
    return true;
}

bool grad_any_scan(Grad *g, const Node *n)
{
    const ScanAttr *a = n->attr;
    Fold f = {n, n->nin, a->axis, a->reverse, a->exclusive, a->comb, a->init, a->acc, {{0}}};
    Val d[MAX_FOLDED], dx[MAX_FOLDED];
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
    Val d[MAX_FOLDED], dx[MAX_FOLDED];
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
