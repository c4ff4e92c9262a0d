/* infer_region.c: result types of nodes with bodies: loop, if, group.
 *
 * Bodies take operands as their inputs, in order, and capture nothing. Where two ways to a result (branches, or the first
 * and a later trip) do not agree on a size, it is poison in the inferred type: the builder puts a fresh symbol there,
 * which the node defines when it runs, and the verifier takes any. */
#include "infer_internal.h"

/* Region `body` takes operands from `first` on as its inputs from `formal` on. */
static bool region_takes(Inf *f, const Graph *body, int first, int formal, bool exact) {
    if ((int)body->in.n - formal != f->nin - first) {
        return BAD(f, "E0303", "%s: a body with %u inputs for %d operands", prim_name(f->op), body->in.n, f->nin);
    }
    for (int k = first; k < f->nin; k++) {
        const Type *t = val_type(body, body->in.v[formal + k - first].val), *a = f->ty[k];
        bool ok = !f->in[k].i || (t->kind == a->kind && t->dtype == a->dtype && t->rank == a->rank);
        for (int d = 0; ok && exact && f->in[k].i && d < t->rank; d++) ok = !dim_differ(f->c, t->dim[d], a->dim[d]);
        if (!ok) {
            return BAD(f, "E0303", "%s: operand %d has type %s, its body takes %s", prim_name(f->op), k,
                       type_text(f->c, a), type_text(f->c, t));
        }
    }
    return true;
}

static bool scalar_of(const Type *t, DType d) { return t->kind == TY_TENSOR && t->rank == 0 && t->dtype == d; }

bool infer_loop(Inf *f) {
    const LoopAttr *a = f->attr;
    Graph *g = a->body;
    int nc = a->ncarried, ns = a->nscan_out;
    if (!g) return false;
    if (f->nin < 2 + nc || g->in.n < 2 || (int)g->out.n != 1 + nc + ns || !infer_nout(f, nc + ns)) {
        return BAD(f, "E0303", "loop: %d operands, %d carried values and a body with %u results", f->nin, nc, g->out.n);
    }
    if ((f->in[0].i && !scalar_of(f->ty[0], DT_I64)) || (f->in[1].i && !scalar_of(f->ty[1], DT_BOOL)) ||
        !scalar_of(val_type(g, g->out.v[0].val), DT_BOOL)) {
        return BAD(f, "E0303", "loop: trip count and condition must be i64[] and bool[]");
    }
    if (!region_takes(f, g, 2, 2, false)) return false;
    for (int k = 0; k < nc; k++) {
        const Type *from = f->ty[2 + k], *to = val_type(g, g->out.v[1 + k].val);
        if (!f->in[2 + k].i) from = to;
        if (!type_join(f->c, from, to, &f->out[k])) {
            return BAD(f, "E0303", "loop: carried value %d begins as %s and becomes %s", k, type_text(f->c, from),
                       type_text(f->c, to));
        }
    }
    for (int k = 0; k < ns; k++) {
        const Type *t = val_type(g, g->out.v[1 + nc + k].val);
        Dim dim[MAX_RANK + 1] = {{0}};
        if (t->kind != TY_TENSOR || t->rank >= MAX_RANK) {
            return BAD(f, "E0303", "loop: results of type %s cannot be stacked", type_text(f->c, t));
        }
        for (int d = 0; d < t->rank; d++) dim[d + 1] = t->dim[d];
        f->out[nc + k] = type_tensor(f->c, (DType)t->dtype, t->rank + 1, dim);
    }
    return true;
}

bool infer_if(Inf *f) {
    const IfAttr *a = f->attr;
    Graph *g[2] = {a->then_g, a->else_g};
    if (!g[0] || !g[1]) return false;
    if (f->ty[0]->kind != TY_TENSOR || f->ty[0]->dtype != DT_BOOL || f->ty[0]->rank) {
        return BAD(f, "E0303", "if: the condition has type %s", type_text(f->c, f->ty[0]));
    }
    for (int s = 0; s < 2; s++) {
        if ((int)g[s]->out.n != f->nout || !region_takes(f, g[s], 1, 0, true)) {
            return (int)g[s]->out.n == f->nout ? false : BAD(f, "E0303", "if: branches must have %d results", f->nout);
        }
    }
    for (int r = 0; r < f->nout; r++) {
        const Type *x = val_type(g[0], g[0]->out.v[r].val), *y = val_type(g[1], g[1]->out.v[r].val);
        if (type_join(f->c, x, y, &f->out[r])) continue;
        if (x->kind == y->kind && x->dtype == y->dtype) {
            diag(f->c, SEV_UNSUPPORTED, f->loc, "U0301", "if: the branches give results of different rank: %s and %s",
                 type_text(f->c, x), type_text(f->c, y));
            return false;
        }
        return BAD(f, "E0303", "if: the branches give %s and %s", type_text(f->c, x), type_text(f->c, y));
    }
    return true;
}

bool infer_group(Inf *f) {
    const GroupAttr *a = f->attr;
    if (!a->body) return false;
    if (!infer_nout(f, (int)a->body->out.n) || !region_takes(f, a->body, 0, 0, true)) return false;
    for (int r = 0; r < f->nout; r++) f->out[r] = *val_type(a->body, a->body->out.v[r].val);
    return true;
}
