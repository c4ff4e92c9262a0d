/* eval.c: the reference evaluator: symbols, and the walk over the nodes of a graph.
 *
 * In: a verified graph and one tensor per input. Out: one dense tensor per output, in the arena, or
 * one message. Values are freed after their last use, so that memory is what is live, not what was
 * ever computed (eval_value.c). The primitives are in eval_*.c, one function each, found through the table below.
 */
#include "eval_internal.h"
#include "graph_internal.h"
#include <stdlib.h>
#include <string.h>

/* ==== failing ================================================================================ */

bool ev_fail(Ev *e, const char *code, const char *fmt, ...) {
    if (!e->failed && !e->quiet) {
        char text[512];
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(text, sizeof text, fmt, ap);
        va_end(ap);
        diag(e->c, SEV_ERROR, e->node ? e->node->loc : (Loc){0}, code, "%s", text);
    }
    e->failed = true;
    return false;
}

bool ev_spend(Ev *e, int64_t steps) {
    if (steps < e->budget) {
        e->budget -= steps;
        return true;
    }
    return ev_fail(e, "E0804", "the evaluation takes too many steps");
}

/* ==== symbols ================================================================================ */

/* Are all symbols of d known? fuel bounds the walk over a shared expression. */
static bool ready(const Ev *e, Dim d, int *fuel) {
    if (--*fuel < 0) return false;
    const DimInfo *i = dim_info(e->c, d);
    if (i->kind == D_SYM) return i->val >= 0 && i->val < e->nsym && e->known[i->val];
    if (i->kind == D_POISON) return false;
    for (int k = 0; k < i->n; k++) {
        if (!ready(e, i->arg[k], fuel)) return false;
    }
    return true;
}

bool ev_known(const Ev *e, Dim d, int64_t *out) {
    int fuel = 10000;
    return dim_is_const(e->c, d, out) || (ready(e, d, &fuel) && dim_eval(e->c, d, e->sym, out));
}

bool ev_dim(Ev *e, Dim d, int64_t *out) {
    if (ev_known(e, d, out)) return true;
    if (e->quiet) return ev_fail(e, "E0802", "unknown");
    return ev_fail(e, "E0802", "the value of dimension %s is not known here, or overflows",
                   dim_text(e->c, d));
}

bool ev_define(Ev *e, Dim d, int64_t v, const char *what, int axis) {
    const DimInfo *i = dim_info(e->c, d);
    int64_t now;
    if (i->kind == D_SYM && i->val >= 0 && i->val < e->nsym && !e->known[i->val]) {
        const SymInfo *s = dim_sym_info(e->c, (uint32_t)i->val);
        if (v < s->lo || v > s->hi) {
            return ev_fail(e, "E0802", "%s: axis %d: %s is %lld, outside [%lld, %lld]", what, axis,
                           s->name, (long long)v, (long long)s->lo, (long long)s->hi);
        }
        e->sym[i->val] = v;
        return e->known[i->val] = true;
    }
    if (!ev_known(e, d, &now) || now == v) return true;
    if (e->quiet) return ev_fail(e, "E0802", "differs");
    return ev_fail(e, "E0802", "%s: axis %d has size %lld, expected %lld (%s)", what, axis,
                   (long long)v, (long long)now, dim_text(e->c, d));
}

static const char *kind_name(int k) {
    static const char *const name[] = {"tensor", "sequence", "optional", "map"};
    return k >= 0 && k < 4 ? name[k] : "?";
}

bool ev_bind_type(Ev *e, const Type *t, const EVal *v, const char *what) {
    if (t->kind != v->kind) {
        return ev_fail(e, "E0802", "%s is a %s, expected a %s", what, kind_name(v->kind),
                       kind_name(t->kind));
    }
    if (t->kind != TY_TENSOR) return true;
    if (t->dtype != v->dtype) {
        return ev_fail(e, "E0802", "%s has element type %s, expected %s", what, dt_name(v->dtype),
                       dt_name((DType)t->dtype));
    }
    if (t->rank != v->rank) {
        return ev_fail(e, "E0802", "%s has rank %d, expected %d", what, v->rank, t->rank);
    }
    for (int d = 0; d < t->rank;
         d++) { /* lone symbols first: other dims may be expressions of them */
        if (dim_info(e->c, t->dim[d])->kind == D_SYM &&
            !ev_define(e, t->dim[d], v->dim[d], what, d))
            return false;
    }
    for (int d = 0; d < t->rank; d++) {
        if (!ev_define(e, t->dim[d], v->dim[d], what, d)) return false;
    }
    return true;
}

/* ==== graphs ================================================================================= */

static const EvFn table[P_COUNT] = {
    [P_CONST] = ev_const,     [P_MAP] = ev_map,         [P_REDUCE] = ev_reduce,
    [P_CONTRACT] = ev_contract, [P_SCAN] = ev_scan,     [P_RESHAPE] = ev_reshape,
    [P_PERMUTE] = ev_permute, [P_BROADCAST] = ev_broadcast, [P_SLICE] = ev_slice,
    [P_PAD] = ev_pad,         [P_CONCAT] = ev_concat,   [P_WINDOW] = ev_window,
    [P_GATHER] = ev_gather,   [P_SCATTER] = ev_scatter, [P_UPDATE] = ev_update,
    [P_SORT] = ev_sort,       [P_TOPK] = ev_topk,       [P_COMPACT] = ev_compact,
    [P_LOOP] = ev_loop,       [P_IF] = ev_if,           [P_BIND] = ev_bind,
    [P_GUARD] = ev_guard,     [P_COPY] = ev_copy_node,  [P_SEQ] = ev_seq,
    [P_RANDOM] = ev_random,   [P_SHAPE] = ev_shape,     [P_GROUP] = ev_group,
    [P_CALL] = ev_call,       [P_RETURN] = NULL,
};
_Static_assert(P_RETURN == P_COUNT - 1, "every primitive has a row in the table above");

static bool is_root(unsigned op) { return op == P_GUARD || op == P_BIND || op == P_CALL; }

/* A node with a body may be needed only for a size that it defines. */
static bool defines_size(const Ev *e, const Graph *g, const Node *n) {
    if (!absent_ok((PrimOp)n->op)) return false;
    for (unsigned k = 0; k < n->nout; k++) {
        const Type *t = val_type(g, n->out[k]);
        for (int d = 0; d < t->rank; d++) {
            if (!dim_is_const(e->c, t->dim[d], NULL)) return true;
        }
    }
    return false;
}

static bool is_live(const Ev *e, const Graph *g, const Node *n, const uint32_t *uses) {
    bool live = is_root(n->op) || defines_size(e, g, n);
    for (unsigned k = 0; k < n->nout; k++) live |= uses[n->out[k].i] != 0;
    return live && n->op != P_RETURN;
}

static bool ordered(Ev *e, const Graph *g) {
    unsigned char *seen = ev_tmp(e, g->val.n, 1);
    if (!seen) return false;
    for (uint32_t v = 0; v < g->val.n; v++) seen[v] = !g->val.v[v].def;
    bool ok = true;
    for (uint32_t k = 0; k < g->node.n && ok; k++) {
        const Node *n = g->node.v[k];
        for (unsigned i = 0; i < n->nin; i++) ok &= seen[graph_resolve(g, n->in[i]).i] != 0;
        for (unsigned i = 0; i < n->nout; i++) seen[n->out[i].i] = 1;
    }
    free(seen);
    return ok;
}

/* Uses by nodes that matter and by the outputs; a value with none is never computed. */
static bool count_uses(Ev *e, Graph *g, uint32_t **uses) {
    if (!ordered(e, g)) {
        if (e->failed) return false;
        graph_tidy(g);
        if (!ordered(e, g))
            return ev_fail(e, "E0801", "graph %s is not in order", g->name ? g->name : "");
    }
    uint32_t *u = ev_tmp(e, g->val.n, sizeof *u);
    if (!u) return false;
    memset(u, 0, sizeof *u * g->val.n);
    for (uint32_t k = 0; k < g->out.n; k++) u[graph_resolve(g, g->out.v[k].val).i]++;
    for (uint32_t k = g->node.n; k-- > 0;) {
        const Node *n = g->node.v[k];
        bool live = is_live(e, g, n, u);
        for (unsigned i = 0; live && i < n->nin; i++) u[graph_resolve(g, n->in[i]).i]++;
    }
    *uses = u;
    return true;
}

static bool run_node(Ev *e, const Graph *g, const Node *n, EVal **val, uint32_t *uses) {
    if (!is_live(e, g, n, uses)) return true;
    const Node *outer = e->node;
    const Graph *outer_g = e->g;
    e->node = n;
    e->g = g;
    EVal **io = ev_tmp(e, (int64_t)n->nin + n->nout, sizeof *io);
    if (!io) return false;
    EVal **in = io, **out = io + n->nin;
    bool ok = true;
    for (unsigned i = 0; i < n->nin; i++) {
        in[i] = val[graph_resolve(g, n->in[i]).i];
        if (!in[i] && !absent_ok((PrimOp)n->op))
            ok = ev_fail(e, "E0801", "%s: operand %u is absent", prim_name((PrimOp)n->op), i);
    }
    for (unsigned i = 0; i < n->nout; i++) out[i] = NULL;
    ok = ok &&
         (table[n->op] ? table[n->op](e, n, in, out) : ev_fail(e, "E0801", "no such primitive"));
    for (unsigned i = 0; i < n->nout; i++) {
        if (ok && out[i])
            ok = ev_bind_type(e, val_type(g, n->out[i]), out[i], prim_name((PrimOp)n->op));
        if (ok && uses[n->out[i].i]) val[n->out[i].i] = out[i];
        else ev_unref(e, out[i]);
    }
    for (unsigned i = 0; i < n->nin; i++) {
        uint32_t v = graph_resolve(g, n->in[i]).i;
        if (v && --uses[v] == 0) {
            ev_unref(e, val[v]);
            val[v] = NULL;
        }
    }
    free(io);
    if (ok) {
        e->node = outer;
        e->g = outer_g;
    }
    return ok;
}

bool ev_graph(Ev *e, Graph *g, EVal *const *in, EVal **out) {
    if (e->depth >= 200) return ev_fail(e, "E0804", "regions are nested too deeply");
    uint32_t *uses = NULL;
    if (!count_uses(e, g, &uses)) return false;
    EVal **val = ev_tmp(e, g->val.n, sizeof *val);
    if (!val) {
        free(uses);
        return false;
    }
    memset(val, 0, sizeof *val * g->val.n);
    e->depth++;
    bool ok = true;
    for (uint32_t k = 0; k < 2 * g->in.n && ok;
         k++) { /* twice: the last input may define a size of the first */
        const Port *port = &g->in.v[k % g->in.n];
        EVal *x = in[k % g->in.n];
        uint32_t v = port->val.i;
        if (!x) continue;
        char what[100];
        snprintf(what, sizeof what, "input %.80s", port->name ? port->name : "");
        ok = ev_bind_type(e, &g->val.v[v].type, x, what);
        if (uses[v] && !val[v]) val[v] = ev_ref(x);
    }
    for (uint32_t k = 0; k < g->node.n && ok; k++) ok = run_node(e, g, g->node.v[k], val, uses);
    for (uint32_t k = 0; k < g->out.n; k++) {
        EVal *v = val[graph_resolve(g, g->out.v[k].val).i];
        out[k] = ok && v ? ev_ref(v) : NULL;
        if (ok && !v)
            ok = ev_fail(e, "E0801", "output %u of %s has no value", k,
                         g->name ? g->name : "the graph");
    }
    for (uint32_t v = 0; v < g->val.n; v++) ev_unref(e, val[v]);
    for (uint32_t k = 0; !ok && k < g->out.n; k++) {
        ev_unref(e, out[k]);
        out[k] = NULL;
    }
    free(val);
    free(uses);
    e->depth--;
    return ok;
}

bool ev_region(Ev *e, Graph *g, EVal *const *in, EVal **out) {
    int64_t *sym = ev_tmp(e, e->nsym, sizeof *sym + sizeof *e->known);
    if (!sym) return false;
    memcpy(sym, e->sym, sizeof *sym * e->nsym);
    memcpy(sym + e->nsym, e->known, sizeof *e->known * e->nsym);
    bool ok = ev_graph(e, g, in, out);
    memcpy(e->sym, sym, sizeof *sym * e->nsym);
    memcpy(e->known, sym + e->nsym, sizeof *e->known * e->nsym);
    free(sym);
    return ok;
}

/* ==== the interface ========================================================================== */

static void ev_open(Ev *e, Ctx *c, const EvalOptions *o) {
    uint32_t n = dim_nsyms(c);
    *e = (Ev){.c = c, .nsym = n, .budget = INT64_MAX};
    if (o) {
        e->limit = o->max_bytes;
        e->seed = o->seed;
        e->call = o->call;
    }
    e->sym = calloc((size_t)n + 1, sizeof *e->sym);
    e->known = calloc((size_t)n + 1, sizeof *e->known);
    if (!e->sym || !e->known) ctx_fatal(c, "no memory for %u symbols", n);
}

static void ev_close(Ev *e) {
    free(e->sym);
    free(e->known);
    free(e->draw);
}

EVal *ev_optional(Ev *e, const Type *t, EVal *v) {
    if (!v || t->kind != TY_OPT || v->kind == TY_OPT) return v;
    EVal *o = ev_list(e, TY_OPT, 1);
    if (!o) ev_unref(e, v);
    else o->elem[0] = v;
    return o;
}

bool graph_eval(Ctx *c, Graph *g, const Tensor *const *in, Tensor **out, const EvalOptions *o) {
    Ev e;
    ev_open(&e, c, o);
    uint32_t nin = g->in.n, nout = g->out.n;
    EVal **v = ev_tmp(&e, (int64_t)nin + nout, sizeof *v);
    bool ok = v != NULL;
    if (v) memset(v, 0, sizeof *v * (nin + nout));
    for (uint32_t k = 0; ok && k < nin; k++) {
        if (!in[k]) {
            ok =
                ev_fail(&e, "E0802", "input %s is missing", g->in.v[k].name ? g->in.v[k].name : "");
            break;
        }
        v[k] = ev_optional(&e, &g->val.v[g->in.v[k].val.i].type, ev_from_tensor(&e, in[k], 0));
        ok = v[k] != NULL;
    }
    ok = ok && ev_graph(&e, g, v, v + nin);
    for (uint32_t k = 0; ok && k < nout; k++) {
        out[k] = ev_to_tensor(&e, v[nin + k]);
        ok = out[k] != NULL;
    }
    for (uint32_t k = 0; v && k < nin + nout; k++) ev_unref(&e, v[k]);
    free(v);
    ev_close(&e);
    return ok;
}

bool node_eval(Ctx *c, Graph *g, const Node *n, const Tensor *const *in, Tensor **out) {
    if (is_root(n->op) || n->op == P_RETURN || n->op == P_RANDOM || !table[n->op]) return false;
    Ev e;
    ev_open(&e, c, NULL);
    e.quiet = true;
    e.node = n;
    e.g = g;
    e.limit = (int64_t)1 << 33;
    e.budget = (int64_t)1 << 31;
    EVal **v = ev_tmp(&e, (int64_t)n->nin + n->nout, sizeof *v);
    bool ok = v != NULL;
    if (v) memset(v, 0, sizeof *v * ((size_t)n->nin + n->nout));
    for (unsigned k = 0; ok && k < n->nin; k++) {
        if (in[k]) ok = (v[k] = ev_from_tensor(&e, in[k], 0)) != NULL;
        else ok = absent_ok((PrimOp)n->op);
    }
    ok = ok && table[n->op](&e, n, v, v + n->nin);
    for (unsigned k = 0; ok && k < n->nout; k++) {
        ok = v[n->nin + k] != NULL;
        if (ok) ok = (out[k] = ev_to_tensor(&e, v[n->nin + k])) != NULL;
    }
    for (unsigned k = 0; v && k < (unsigned)n->nin + n->nout; k++) ev_unref(&e, v[k]);
    free(v);
    ev_close(&e);
    return ok;
}
