/* expr_affine.c: the affine form of an index expression: a coefficient for each axis, free of axes, and the rest. */
#include "expr_internal.h"
#include <stdlib.h>
#include <string.h>

typedef struct Affine {
    bool ok;
    Expr rest;                  /* of a node with axes, and the node itself if it has none */
} Affine;

/* Part k of the form of a node: coefficient k, or the rest for k == naxis; 0 = absent. */
static Expr part_of(const Ctx *c, const Affine *f, const Expr *coef, uint32_t naxis, uint32_t k,
                    Expr e) {
    if (k == naxis) return f->rest;
    return expr_axes(c, e) ? coef[k] : (Expr){0};
}

static bool is_zero(const Ctx *c, Expr e) {
    int64_t v;
    return expr_is_int(c, e, &v) && v == 0;
}

static Expr combine(Ctx *c, SOp op, Expr x, Expr y) {
    if (op == S_MUL || op == S_NEG) {
        if (!x.i) return x;
        return op == S_NEG ? expr_opn(c, S_NEG, 1, &x) : expr_op(c, S_MUL, x, y, (Expr){0});
    }
    if (!y.i) return x;
    if (!x.i) return op == S_SUB ? expr_opn(c, S_NEG, 1, &y) : y;
    return expr_op(c, op, x, y, (Expr){0});
}

bool expr_affine(Ctx *c, Expr e, uint32_t naxis, Expr *coef, Expr *rest) {
    for (uint32_t k = 0; k < naxis; k++) coef[k] = (Expr){0};
    *rest = (Expr){0};
    if (!e.i) return false;
    if (!expr_axes(c, e)) return *rest = e, true;
    ExprWalk w;
    expr_walk(c, &w, e);
    Affine *f = expr_scratch(c, NULL, w.n, sizeof *f);
    Expr *all = expr_scratch(c, NULL, (size_t)w.n * naxis, sizeof *all);
    memset(all, 0, sizeof *all * w.n * naxis);
    for (uint32_t n = 0; n < w.n; n++) {
        Expr x = {w.e[n]};
        const ExprInfo *i = expr_info(c, x);
        Expr *own = all + (size_t)n * naxis;
        f[n] = (Affine){.ok = !expr_axes(c, x), .rest = x};
        if (f[n].ok) continue;
        f[n].rest = (Expr){0};
        if (i->kind == E_AXIS && i->index < naxis) {
            own[i->index] = expr_int(c, DT_I64, 1);
            f[n].ok = true;
            continue;
        }
        bool sum = i->op == S_ADD || i->op == S_SUB || i->op == S_NEG;
        if (i->kind != E_OP || i->dtype != DT_I64 || !(sum || i->op == S_MUL)) continue;
        Expr l = i->arg[0], r = i->op == S_NEG ? (Expr){0} : i->arg[1];
        if (i->op == S_MUL && !expr_axes(c, l)) {
            r = l;
            l = i->arg[1];
        }
        if (i->op == S_MUL && expr_axes(c, r)) continue;
        uint32_t a = expr_walk_at(&w, l), b = r.i ? expr_walk_at(&w, r) : a;
        if (!f[a].ok || !f[b].ok) continue;
        f[n].ok = true;
        for (uint32_t k = 0; k <= naxis; k++) {
            Expr x0 = part_of(c, &f[a], all + (size_t)a * naxis, naxis, k, l), x1 = r;
            if (sum && r.i) x1 = part_of(c, &f[b], all + (size_t)b * naxis, naxis, k, r);
            Expr y = combine(c, (SOp)i->op, x0, x1);
            if (y.i && is_zero(c, y)) y = (Expr){0};
            if (k == naxis) f[n].rest = y;
            else own[k] = y;
        }
    }
    bool ok = f[w.n - 1].ok;
    if (ok) {
        memcpy(coef, all + (size_t)(w.n - 1) * naxis, sizeof *coef * naxis);
        *rest = f[w.n - 1].rest.i ? f[w.n - 1].rest : expr_int(c, DT_I64, 0);
    }
    free(f);
    free(all);
    expr_walk_free(&w);
    return ok;
}
