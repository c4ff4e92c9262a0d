/* grad_flow.c: gradients through loops and ifs. A loop runs once more with its states stored, stacked where they keep their shape, else in
 * a sequence; then a loop over the trips from the last to the first computes each body again from its state and takes the
 * gradients of what the trip made to those of what it read. */
#include "frontend/grad.h"
#include <string.h>

/* The importer at work in a new region of its graph. */
static Imp inside(const Grad *g, const char *name)
{
    Imp im = *g->m;
    im.b = builder(graph_new(im.c, name, im.b.g), im.b.loc);
    return im;
}

/* Which inputs of a body are active and which results are, given those inputs that are for sure; a carried value (the first nc from input
 * 2 and result 1 on) is also if the body makes it so. */
static void activity(const Grad *g, Graph *body, int nc, bool *in, bool *out)
{
    Imp im = *g->m;
    im.b = builder(body, im.b.loc);
    for (bool changed = true; changed;) {
        Grad h = {.m = &im};
        changed = false;
        grad_room(&h);
        for (uint32_t k = 0; k < body->in.n; k++)
            h.active[graph_resolve(body, body->in.v[k].val).i] = in[k];
        grad_activate(&h, 0);
        for (uint32_t r = 0; r < body->out.n; r++)
            out[r] = h.active[graph_resolve(body, body->out.v[r].val).i];
        for (int k = 0; k < nc; k++) {
            changed |= out[1 + k] && !in[2 + k];
            in[2 + k] |= out[1 + k];
        }
    }
}

/* Two values have one shape, which sizes that a body decides do not show. */
static void agree(Imp *m, Val a, Val b)
{
    const Type x = *val_type(m->b.g, a), y = *val_type(m->b.g, b);
    for (int d = 0; d < x.rank; d++)
        b_guard(&m->b, G_EQ, x.dim[d], y.dim[d], "a gradient has another shape than its value");
}

/* A body in im's graph at the values in[], then backwards from the gradients of its results (none: 0) to those of the active inputs.
 * false after a message. */
static bool body_back(Imp *im, Graph *body, const Val *in, const bool *active, const Val *adj, Val *dx)
{
    Grad h = {.m = im};
    Val *out = NEWN(im->c, Val, body->out.n + 1);
    uint32_t from = im->b.g->node.n;
    graph_inline(im->b.g, body, in, out);
    uint32_t to = im->b.g->node.n;
    grad_room(&h);
    for (uint32_t k = 0; k < body->in.n; k++)
        if (active[k])
            h.active[graph_resolve(im->b.g, in[k]).i] = true;
    grad_activate(&h, from);
    for (uint32_t r = 0; r < body->out.n; r++) {
        if (!adj[r].i)
            continue;
        agree(im, adj[r], out[r]);
        grad_add(&h, out[r], adj[r]);
    }
    if (!grad_nodes(&h, from, to))
        return false;
    for (uint32_t k = 0; k < body->in.n; k++) {
        Val v = active[k] ? h.adj[graph_resolve(im->b.g, in[k]).i] : (Val){0};
        dx[k] = active[k] && !v.i ? grad_zeros(&h, in[k]) : v;
    }
    return true;
}

/* ---- if */

bool grad_if(Grad *g, const Node *n)
{
    Imp *m = g->m;
    const IfAttr *a = n->attr;
    Graph *branch[2] = {a->then_g, a->else_g}, *back[2];
    int nin = n->nin - 1, nadj = 0, nout = 0;
    bool *active = NEWN(m->c, bool, nin + 1);
    Val *in = NEWN(m->c, Val, nin + n->nout + 1), *out = NEWN(m->c, Val, nin + 1);
    for (int k = 0; k < nin; k++) {
        in[k] = n->in[1 + k];
        active[k] = grad_active(g, in[k]);
    }
    for (int r = 0; r < n->nout; r++)
        if (g->adj[n->out[r].i].i)
            in[nin + nadj++] = g->adj[n->out[r].i];
    for (int s = 0; s < 2; s++) {
        Imp w = inside(g, "gradient");
        Val *formal = NEWN(m->c, Val, nin + nadj + 1), *adj = NEWN(m->c, Val, n->nout + 1), *dx = NEWN(m->c, Val, nin + 1);
        for (int k = 0; k < nin + nadj; k++)
            formal[k] = graph_input(w.b.g, "", *val_type(m->b.g, in[k]));
        for (int r = 0, k = nin; r < n->nout; r++)
            adj[r] = g->adj[n->out[r].i].i ? formal[k++] : (Val){0};
        if (!body_back(&w, branch[s], formal, active, adj, dx))
            return false;
        for (int k = 0; k < nin; k++) {
            if (!active[k])
                continue;
            agree(&w, dx[k], formal[k]);
            graph_output(w.b.g, "", dx[k]);
        }
        back[s] = w.b.g;
    }
    b_if(&m->b, n->in[0], back[0], back[1], nin + nadj, in, out);
    for (int k = 0; k < nin; k++) {
        if (!active[k] || !out[nout].i)
            continue;
        agree(m, out[nout], in[k]);
        grad_add(g, in[k], out[nout++]);
    }
    return true;
}

/* ---- loop */

/* A loop whose states are stored: state[k] is [trips, ..], or a sequence where that cannot be; count: of trips, i64[]. */
typedef struct Stored { Val *state, count; bool *varies; } Stored;

static bool draws(const Graph *g)
{
    for (uint32_t i = 0; i < g->node.n; i++) {
        const Node *n = g->node.v[i];
        const IfAttr *f = n->attr;
        if (n->op == P_RANDOM || (n->op == P_LOOP && draws(((const LoopAttr *)n->attr)->body)) ||
            (n->op == P_GROUP && draws(((const GroupAttr *)n->attr)->body)) || (n->op == P_IF && (draws(f->then_g) || draws(f->else_g))))
            return true;
    }
    return false;
}

static Val same_input(Imp *m, Graph *of, Val v)
{
    int64_t n;
    const Dim *elem = val_elems(of, v, &n);
    Val to = graph_input(m->b.g, val_info(of, v)->name, *val_type(of, v));
    if (elem)
        val_set_elems(m->b.g, to, elem);
    return to;
}

/* The loop with its states as further results takes n's place: it defines the same symbols. */
static Stored store(Grad *g, const Node *n)
{
    Imp *m = g->m, w = inside(g, "states");
    Graph *gr = m->b.g;
    LoopAttr a = *(const LoopAttr *)n->attr;
    Graph *body = a.body;
    int nc = a.ncarried, ns = a.nscan_out, rest = n->nin - 2 - nc, nseq = 0, nstack = 0;
    Stored s = {.state = NEWN(m->c, Val, nc + 1), .varies = NEWN(m->c, bool, nc + 1)};
    Val *in = NEWN(m->c, Val, n->nin + nc), *bin = NEWN(m->c, Val, n->nin + 1);
    Val *out = NEWN(m->c, Val, 1 + nc + ns), *list = NEWN(m->c, Val, nc + 1);
    Type *t = NEWN(m->c, Type, n->nout + nc + 1);
    Dim trips = ns ? val_type(gr, n->out[nc])->dim[0] : (Dim){0};
    for (int k = 0; k < 2 + nc; k++) {
        in[k] = n->in[k];
        bin[k] = same_input(&w, body, body->in.v[k].val);
    }
    for (int k = 0; k < nc; k++) {
        const Type *f = val_type(w.b.g, bin[2 + k]), *from = val_type(gr, n->in[2 + k]);
        s.varies[k] = f->rank == MAX_RANK; /* no room for the trips */
        for (int d = 0; d < f->rank; d++)
            s.varies[k] |= !dim_same(m->c, f->dim[d], from->dim[d]);
        if (!s.varies[k])
            continue;
        Type seq = type_list(m->c, TY_SEQ, f);
        in[2 + nc + nseq] = b_seq(&m->b, "empty", seq, 0, NULL);
        t[nc + nseq] = seq;
        list[nseq++] = graph_input(w.b.g, "", seq);
    }
    for (int k = 0; k < rest; k++) {
        in[2 + nc + nseq + k] = n->in[2 + nc + k];
        bin[2 + nc + k] = same_input(&w, body, body->in.v[2 + nc + k].val);
    }
    graph_inline(w.b.g, body, bin, out);
    for (int k = 0; k <= nc; k++)
        graph_output(w.b.g, "", out[k]);
    for (int k = 0, i = 0; k < nc; k++)
        if (s.varies[k]) {
            graph_output(w.b.g, "", b_seq(&w.b, "insert", t[nc + i], 2, (Val[]){list[i], bin[2 + k]}));
            i++;
        }
    for (int k = 0; k < ns; k++)
        graph_output(w.b.g, "", out[1 + nc + k]);
    for (int k = 0; k < nc; k++)
        t[k] = *val_type(gr, n->out[k]);
    for (int k = 0; k < ns; k++)
        t[nc + nseq + k] = *val_type(gr, n->out[nc + k]);
    if (!ns && nseq < nc) {
        trips = dim_fresh(m->c, "trips", 0, DIM_INF);
        dim_sym_mark_bound(m->c, (uint32_t)dim_info(m->c, trips)->val);
        a.iter = trips;
    }
    for (int k = 0; k < nc; k++) {
        if (s.varies[k])
            continue;
        const Type f = *val_type(w.b.g, bin[2 + k]);
        Dim dim[MAX_RANK] = {trips};
        memcpy(dim + 1, f.dim, sizeof *dim * f.rank);
        graph_output(w.b.g, "", bin[2 + k]);
        t[nc + nseq + ns + nstack++] = type_tensor(m->c, (DType)f.dtype, f.rank + 1, dim);
    }
    a.body = w.b.g;
    a.ncarried = (uint16_t)(nc + nseq);
    a.nscan_out = (uint16_t)(ns + nstack);
    Node *to = graph_node(gr, P_LOOP, n->nin + nseq, in, n->nout + nc, t, ctx_dup(m->c, &a, sizeof a), n->loc);
    for (int k = 0, i = 0, j = 0; k < nc; k++)
        s.state[k] = s.varies[k] ? to->out[nc + i++] : to->out[nc + nseq + ns + j++];
    for (int k = 0; k < nc + ns; k++)
        graph_replace(gr, n->out[k], to->out[k < nc ? k : nseq + k]);
    s.count = trips.i ? b_dim_scalar(&m->b, trips) : b_seq(&m->b, "length", type_tensor(m->c, DT_I64, 0, NULL), 1, &to->out[nc]);
    return s;
}

typedef struct Ports { Ctx *c; Graph *g; VEC(Val) in; } Ports; /* operands of a loop, while its body's inputs are made */

static Val port(Ports *p, Val v, Type t)
{
    vec_push(p->c, &p->in, v);
    return graph_input(p->g, "", t);
}

bool grad_loop(Grad *g, const Node *n)
{
    Imp *m = g->m;
    Graph *gr = m->b.g;
    const LoopAttr a = *(const LoopAttr *)n->attr;
    int nc = a.ncarried, ns = a.nscan_out, ncar = 0;
    bool *active = NEWN(m->c, bool, n->nin + 1), *made = NEWN(m->c, bool, 1 + nc + ns);
    Val *adj = NEWN(m->c, Val, 1 + nc + ns), *bin = NEWN(m->c, Val, n->nin), *dx = NEWN(m->c, Val, n->nin), *sum = NEWN(m->c, Val, n->nin);
    for (int k = 0; k < nc; k++)
        if (val_type(gr, n->in[2 + k])->kind != TY_TENSOR)
            return grad_refuse(g, n, "lists that a loop carries");
    if (draws(a.body))
        return grad_refuse(g, n, "random numbers in a loop");
    for (int k = 2; k < n->nin; k++)
        active[k] = grad_active(g, n->in[k]);
    activity(g, a.body, nc, active, made);
    Stored s = store(g, n);
    Imp w = inside(g, "gradient");
    Ports p = {.c = m->c, .g = w.b.g};
    const Type number = type_tensor(m->c, DT_I64, 0, NULL);
    Val iter = port(&p, s.count, number), go = port(&p, (Val){0}, type_tensor(m->c, DT_BOOL, 0, NULL));
    for (int k = 0; k < nc; k++) { /* carried: gradients of the carried values */
        if (!active[2 + k])
            continue;
        Val d = g->adj[n->out[k].i].i ? g->adj[n->out[k].i] : grad_zeros(g, n->out[k]);
        Type t = *val_type(gr, d);
        Dim dim[MAX_RANK];
        for (int i = 0; i < t.rank; i++)
            dim[i] = s.varies[k] ? dim_fresh(m->c, "carried", 0, DIM_INF) : t.dim[i];
        adj[1 + k] = port(&p, d, type_tensor(m->c, (DType)t.dtype, t.rank, dim));
        ncar++;
    }
    for (int k = 2 + nc; k < n->nin; k++) { /* and those of captured values so far */
        if (!active[k])
            continue;
        sum[k] = port(&p, grad_zeros(g, n->in[k]), *val_type(gr, n->in[k]));
        ncar++;
    }
    Val at = b_binary(&w.b, S_SUB, port(&p, b_binary(&m->b, S_SUB, s.count, scalar_i64(m, 1)), number), iter);
    for (int k = 0; k < nc; k++) {
        Val v = port(&p, s.state[k], *val_type(gr, s.state[k]));
        bin[2 + k] = s.varies[k] ? list_take(&w, "at", 2, (Val[]){v, at}, -1) : b_gather(&w.b, v, at, 0, OOB_FAIL);
    }
    for (int r = 0; r < ns; r++) {
        Val d = g->adj[n->out[nc + r].i];
        if (d.i && made[1 + nc + r])
            adj[1 + nc + r] = b_gather(&w.b, port(&p, d, *val_type(gr, d)), at, 0, OOB_FAIL);
    }
    for (int k = 2 + nc; k < n->nin; k++)
        bin[k] = port(&p, n->in[k], *val_type(gr, n->in[k]));
    bin[0] = at;
    bin[1] = b_scalar(&w.b, (Scalar){.t = DT_BOOL, .i = 1});
    if (!body_back(&w, a.body, bin, active, adj, dx))
        return false;
    graph_output(w.b.g, "", go);
    for (int k = 2; k < n->nin; k++)
        if (active[k])
            graph_output(w.b.g, "", k < 2 + nc ? dx[k] : b_binary(&w.b, S_ADD, sum[k], dx[k]));
    Val *out = NEWN(m->c, Val, ncar + 1);
    b_loop(&m->b, w.b.g, ncar, 0, (int)p.in.n, p.in.v, out);
    for (int k = 2, i = 0; k < n->nin; k++) {
        if (!active[k] || !out[i].i)
            continue;
        agree(m, out[i], n->in[k]);
        grad_add(g, n->in[k], out[i++]);
    }
    return true;
}
