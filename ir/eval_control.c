/* eval_control.c: loop, if, group, bind, guard, shape, copy, call.
 *
 * Regions take all they use as operands. Symbols defined inside a branch or an iteration end with
 * it; those of a group and of bind stay. */
#include "eval_internal.h"
#include <stdlib.h>
#include <string.h>

static bool flag(Ev *e, const EVal *v, bool *out) {
    if (v->kind != TY_TENSOR || (v->dtype != DT_BOOL && !dt_is_int(v->dtype)) || ev_count(v) != 1) {
        return ev_fail(e, "E0805", "a condition is not one bool");
    }
    *out = ev_int(v, 0) != 0;
    return true;
}

static EVal *scalar_i64(Ev *e, int64_t x) {
    EVal *v = ev_new(e, DT_I64, 0, NULL);
    if (v) memcpy(v->base, &x, sizeof x);
    return v;
}

static EVal *scalar_bool(Ev *e, bool x) {
    EVal *v = ev_new(e, DT_BOOL, 0, NULL);
    if (v) *v->base = x;
    return v;
}

/* ==== loop =================================================================================== */

typedef struct Pile { EVal **v; int64_t n, cap; } Pile; /* slices of one scan output */

static bool pile_up(Ev *e, Pile *p, EVal *v) {
    if (e->limit && p->n > e->limit / 16)
        return ev_fail(e, "E0804", "a loop ran %lld times", (long long)p->n);
    if (p->n == p->cap) {
        int64_t cap = p->cap ? 2 * p->cap : 16;
        EVal **q = realloc(p->v, sizeof *q * (size_t)cap);
        if (!q) return ev_fail(e, "E0804", "no memory");
        p->v = q;
        p->cap = cap;
    }
    p->v[p->n++] = ev_ref(v);
    return true;
}

/* All slices along a new first axis. Without any, the dims come from the declared type. */
static bool pile_stack(Ev *e, Pile *p, const Type *t, EVal **out) {
    int64_t dim[MAX_RANK] = {0};
    if (!p->n) {
        for (int d = 1; d < t->rank; d++) {
            int64_t lo = dim_lo(e->c, t->dim[d]);
            if (!ev_known(e, t->dim[d], &dim[d])) dim[d] = lo > 0 ? lo : 0;
        }
        return (*out = ev_new(e, (DType)t->dtype, t->rank, dim)) != NULL;
    }
    for (int64_t k = 0; k < p->n; k++) {
        EVal *v = p->v[k];
        if (v->kind != TY_TENSOR || v->rank == MAX_RANK)
            return ev_fail(e, "E0805", "a scan output is no tensor");
        EVal *w = ev_view(e, v);
        if (!w) return false;
        w->rank++;
        memmove(w->dim + 1, v->dim, sizeof *w->dim * (size_t)v->rank);
        memmove(w->stride + 1, v->stride, sizeof *w->stride * (size_t)v->rank);
        w->dim[0] = 1;
        w->stride[0] = 0;
        ev_unref(e, v);
        p->v[k] = w;
    }
    return ev_stack(e, p->n, p->v, 0, out);
}

bool ev_loop(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const LoopAttr *a = n->attr;
    Graph *b = a->body;
    int nc = a->ncarried, ns = a->nscan_out, ncap = n->nin - 2 - nc;
    if (ncap < 0 || b->in.n != (uint32_t)(2 + nc + ncap) || b->out.n != (uint32_t)(1 + nc + ns) ||
        n->nout != nc + ns) {
        return ev_fail(e, "E0805", "the body of a loop does not fit");
    }
    int64_t trips = INT64_MAX, iter = 0;
    bool go = true;
    if (in[0]) {
        if (in[0]->kind != TY_TENSOR || !dt_is_int(in[0]->dtype) || ev_count(in[0]) != 1) {
            return ev_fail(e, "E0805", "the trip count is not one integer");
        }
        trips = ev_int(in[0], 0);
    }
    if (in[1] && !flag(e, in[1], &go)) return false;
    EVal **arg = ev_tmp(e, (int64_t)b->in.n + b->out.n, sizeof *arg),
         **res = arg ? arg + b->in.n : NULL;
    Pile *pile = ev_tmp(e, ns, sizeof *pile);
    bool ok = arg && pile;
    if (arg) memset(arg, 0, sizeof *arg * ((size_t)b->in.n + b->out.n));
    if (pile) memset(pile, 0, sizeof *pile * (size_t)ns);
    for (int k = 0; ok && k < nc + ncap; k++) arg[2 + k] = in[2 + k] ? ev_ref(in[2 + k]) : NULL;
    for (; ok && go && iter < trips; iter++) {
        arg[0] = scalar_i64(e, iter);
        arg[1] = scalar_bool(e, true);
        ok = arg[0] && arg[1] && ev_spend(e, 20000) && ev_region(e, b, arg, res) &&
             flag(e, res[0], &go);
        for (int k = 0; k < 2; k++) {
            ev_unref(e, arg[k]);
            arg[k] = NULL;
        }
        for (int k = 0; ok && k < nc; k++) { /* ownership moves from result to argument */
            ev_unref(e, arg[2 + k]);
            arg[2 + k] = res[1 + k];
            res[1 + k] = NULL;
        }
        for (int k = 0; ok && k < ns; k++) ok = pile_up(e, &pile[k], res[1 + nc + k]);
        for (uint32_t k = 0; k < b->out.n; k++) {
            ev_unref(e, res[k]);
            res[k] = NULL;
        }
    }
    if (ok && a->iter.i) ok = ev_define(e, a->iter, iter, "iterations of the loop", 0);
    for (int k = 0; ok && k < nc; k++) {
        ok = arg[2 + k] || ev_fail(e, "E0805", "carried value %d is absent", k);
        if (ok) out[k] = ev_ref(arg[2 + k]);
    }
    for (int k = 0; ok && k < ns; k++)
        ok = pile_stack(e, &pile[k], val_type(e->g, n->out[nc + k]), &out[nc + k]);
    for (uint32_t k = 0; arg && k < b->in.n; k++) ev_unref(e, arg[k]);
    for (int k = 0; pile && k < ns; k++) {
        for (int64_t j = 0; j < pile[k].n; j++) ev_unref(e, pile[k].v[j]);
        free(pile[k].v);
    }
    free(pile);
    free(arg);
    return ok;
}

/* ==== if, group ============================================================================== */

bool ev_if(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const IfAttr *a = n->attr;
    bool yes = false;
    if (!in[0]) return ev_fail(e, "E0805", "the condition is absent");
    if (!flag(e, in[0], &yes)) return false;
    Graph *g = yes ? a->then_g : a->else_g;
    if (g->in.n != (uint32_t)n->nin - 1 || g->out.n != n->nout)
        return ev_fail(e, "E0805", "a branch does not fit");
    return ev_region(e, g, in + 1, out);
}

bool ev_group(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const GroupAttr *a = n->attr;
    if (a->body->in.n != n->nin || a->body->out.n != n->nout)
        return ev_fail(e, "E0805", "the body of a group does not fit");
    return ev_graph(e, a->body, in, out);
}

/* ==== bind, guard, shape ===================================================================== */

bool ev_bind(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    (void)out;
    const BindAttr *a = n->attr;
    const EVal *v = in[0];
    if (v->kind != TY_TENSOR || (!dt_is_int(v->dtype) && v->dtype != DT_BOOL)) {
        return ev_fail(e, "E0805", "bind needs an integer tensor");
    }
    if (a->index < 0 || a->index >= ev_count(v)) {
        return ev_fail(e, "E0803", "element %lld of %lld", (long long)a->index,
                       (long long)ev_count(v));
    }
    return ev_define(e, a->sym, ev_int(v, a->index), "bound value", 0);
}

bool ev_guard(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    (void)out;
    const GuardAttr *a = n->attr;
    const char *text = a->text ? a->text : "a check failed";
    if (a->cmp == G_TRUE) {
        const EVal *v = n->nin ? in[0] : NULL;
        if (!v || v->kind != TY_TENSOR || v->dtype != DT_BOOL || ev_count(v) != 1)
            return ev_fail(e, "E0805", "guard needs one bool");
        return ev_int(v, 0) || ev_fail(e, "E0803", "%s", text);
    }
    int64_t x, y;
    if (!ev_dim(e, a->a, &x) || !ev_dim(e, a->b, &y)) return false;
    bool ok = a->cmp == G_EQ   ? x == y
              : a->cmp == G_LE ? x <= y
              : a->cmp == G_LT ? x < y
                               : x == y || x == 1 || y == 1;
    return ok || ev_fail(e, "E0803", "%s (%lld, %lld)", text, (long long)x, (long long)y);
}

bool ev_shape(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    (void)in;
    const ShapeAttr *a = n->attr;
    int64_t count = a->n == 0xff ? 1 : a->n;
    EVal *v = out[0] = ev_new(e, DT_I64, a->n == 0xff ? 0 : 1, &count);
    for (int64_t k = 0; v && k < count; k++) {
        int64_t x;
        if (!ev_dim(e, a->dim[k], &x)) return false;
        memcpy(v->base + k * 8, &x, 8);
    }
    return v != NULL;
}

bool ev_copy_node(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    (void)e, (void)n;
    out[0] = ev_ref(in[0]);
    return true;
}

bool ev_call(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const char *symbol = ((const CallAttr *)n->attr)->symbol;
    if (!e->call) return ev_fail(e, "E0805", "%s is known to the runtime only", symbol);
    const Tensor **arg = NEWN(e->c, const Tensor *, n->nin + 1);
    Tensor **res = NEWN(e->c, Tensor *, n->nout + 1);
    for (int k = 0; k < n->nin; k++) {
        EVal *v = in[k] && in[k]->kind == TY_OPT && in[k]->nelem ? in[k]->elem[0] : in[k];
        if (v && !(arg[k] = ev_to_tensor(e, v))) return false;
    }
    int64_t before = e->limit ? e->limit - e->live : INT64_MAX, room = before;
    char error[256] = "";
    if (!e->call(e->c, symbol, n->nin, arg, n->nout, res, &room, error)) return ev_fail(e, "E0806", "%s", error);
    e->live += before - room;
    for (int k = 0; k < n->nout; k++) {
        EVal *v = ev_from_tensor(e, res[k], 0);
        if (!v || !(out[k] = ev_optional(e, val_type(e->g, n->out[k]), v))) return false;
    }
    return true;
}
