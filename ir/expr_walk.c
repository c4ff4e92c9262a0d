/* expr_walk.c: traversal of expressions: rewriting, substitution, and what can be read off the
 * reachable nodes.
 *
 * In: a root. Each reachable node is visited once, arguments first, without recursion, so the time
 * is linear in the size of the graph (not of the tree) and its depth does not matter. Scratch
 * memory is freed before returning. */
#include "expr_internal.h"
#include <stdlib.h>
#include <string.h>

void *expr_scratch(const Ctx *c, void *old, size_t n, size_t elem) {
    void *p = n < SIZE_MAX / 2 / elem ? realloc(old, (n ? n : 1) * elem) : NULL;
    if (!p)
        ctx_fatal((Ctx *)c, "out of memory (%zu items)",
                  n); /* ends the process: constness no longer matters */
    return p;
}

static uint32_t *walk_slot(const ExprWalk *w, uint32_t e) {
    uint32_t at = (e * 2654435761u) & (w->nslot - 1);
    while (w->slot[at] && w->e[w->slot[at] - 1] != e) at = (at + 1) & (w->nslot - 1);
    return &w->slot[at];
}

static void walk_rehash(const Ctx *c, ExprWalk *w, uint32_t nslot) {
    w->slot = expr_scratch(c, w->slot, nslot, sizeof *w->slot);
    w->nslot = nslot;
    memset(w->slot, 0, sizeof *w->slot * nslot);
    for (uint32_t k = 0; k < w->n; k++) *walk_slot(w, w->e[k]) = k + 1;
}

static void walk_add(const Ctx *c, ExprWalk *w, Expr e) {
    if (!e.i || *walk_slot(w, e.i)) return;
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 32;
        w->e = expr_scratch(c, w->e, w->cap, sizeof *w->e);
        walk_rehash(c, w, 2 * w->cap);
    }
    w->e[w->n++] = e.i;
    *walk_slot(w, e.i) = w->n;
}

static int by_handle(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void expr_walk(const Ctx *c, ExprWalk *w, Expr root) {
    *w = (ExprWalk){0};
    walk_rehash(c, w, 64);
    walk_add(c, w, root);
    for (uint32_t k = 0; k < w->n; k++) {
        const ExprInfo *i = expr_info(c, (Expr){w->e[k]});
        for (int a = 0; a < i->narg; a++) walk_add(c, w, i->arg[a]);
    }
    if (w->n > 1) {
        qsort(w->e, w->n, sizeof *w->e, by_handle);
        walk_rehash(c, w, w->nslot);
    }
}

uint32_t expr_walk_at(const ExprWalk *w, Expr e) {
    uint32_t s = *walk_slot(w, e.i);
    CHECK(s);
    return s - 1;
}

void expr_walk_free(ExprWalk *w) {
    free(w->e);
    free(w->slot);
}

Expr expr_rewrite(Ctx *c, Expr e, ExprFn fn, void *data) {
    if (!e.i) return e;
    ExprWalk w;
    expr_walk(c, &w, e);
    Expr *res = expr_scratch(c, NULL, w.n, sizeof *res), *arg = NULL;
    uint32_t cap = 0;
    for (uint32_t k = 0; k < w.n; k++) {
        const ExprInfo *i = expr_info(c, (Expr){w.e[k]});
        if (i->narg > cap) arg = expr_scratch(c, arg, cap = i->narg, sizeof *arg);
        for (int a = 0; a < i->narg; a++) arg[a] = res[expr_walk_at(&w, i->arg[a])];
        res[k] = fn(data, c, (Expr){w.e[k]}, i, arg);
    }
    e = res[w.n - 1]; /* the root has the highest handle */
    free(res);
    free(arg);
    expr_walk_free(&w);
    return e;
}

typedef struct Subst { ExprKind kind; const Expr *to; uint32_t n; } Subst;

static Expr subst_leaf(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *newarg) {
    const Subst *s = data;
    if (i->kind == s->kind) return i->index < s->n && s->to[i->index].i ? s->to[i->index] : e;
    return i->narg && memcmp(newarg, i->arg, sizeof *newarg * i->narg) ? expr_rebuild(c, i, newarg)
                                                                       : e;
}

Expr expr_subst_args(Ctx *c, Expr e, const Expr *args, uint32_t n) {
    return expr_rewrite(c, e, subst_leaf, &(Subst){E_ARG, args, n});
}

Expr expr_subst_axes(Ctx *c, Expr e, const Expr *axes, uint32_t n) {
    return expr_axes(c, e) ? expr_rewrite(c, e, subst_leaf, &(Subst){E_AXIS, axes, n}) : e;
}

bool expr_uses_axis(const Ctx *c, Expr e, uint32_t axis) {
    uint64_t m = expr_axes(c, e);
    if (axis < 63 || !(m >> 63)) return axis < 63 && (m >> axis & 1);
    ExprWalk w;
    expr_walk(c, &w, e);
    bool found = false;
    for (uint32_t k = 0; k < w.n && !found; k++) {
        const ExprInfo *i = expr_info(c, (Expr){w.e[k]});
        found = i->kind == E_AXIS && i->index == axis;
    }
    expr_walk_free(&w);
    return found;
}

int expr_cost(const Ctx *c, Expr e) {
    /* Cycles per element on a vector unit, by operation; 1 unless named. */
    static const uint8_t cycles[S_COUNT] = {
        [S_DIV] = 5,      [S_MOD] = 12,   [S_REM] = 12,   [S_FDIV] = 8,   [S_POW] = 25,
        [S_SQRT] = 5,     [S_RSQRT] = 6,  [S_RECIP] = 5,  [S_EXP] = 7,    [S_EXPM1] = 9,
        [S_LOG] = 8,      [S_LOG1P] = 9,  [S_SIN] = 12,   [S_COS] = 12,   [S_TAN] = 14,
        [S_ASIN] = 12,    [S_ACOS] = 12,  [S_ATAN] = 12,  [S_SINH] = 12,  [S_COSH] = 12,
        [S_TANH] = 10,    [S_ASINH] = 14, [S_ACOSH] = 14, [S_ATANH] = 14, [S_ERF] = 10,
        [S_SIGMOID] = 10, [S_SIGN] = 2,
    };
    if (!e.i) return 0;
    ExprWalk w;
    expr_walk(c, &w, e);
    int64_t sum = 0;
    for (uint32_t k = 0; k < w.n; k++) {
        const ExprInfo *i = expr_info(c, (Expr){w.e[k]});
        if (i->kind == E_OP) sum += cycles[i->op] ? cycles[i->op] : 1;
        else sum += i->kind == E_CAST || i->kind == E_LOAD;
    }
    expr_walk_free(&w);
    return sum < INT32_MAX ? (int)sum : INT32_MAX;
}
