/* op_grad.c: Gradient. The nodes between the tensors named xs and zs and the one named y are imported once more into a graph of
 * their own, whose inputs are xs and zs; its nodes are walked backwards, each adding to the gradients of its operands (grad.c);
 * then the graph is put in place of the operator, and what is computed twice becomes one. */
#include "frontend/grad.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(gradient);

static const char **strings(Imp *m, const char *name, int *n)
{
    const SrcAttr *a = attr_find(m, name);
    *n = a ? (int)a->p->n_strings : 0;
    const char **s = NEWN(m->c, const char *, *n + 1);
    for (int i = 0; i < *n; i++)
        s[i] = ctx_strn(m->c, (const char *)a->p->strings[i].data, a->p->strings[i].len);
    return s;
}

/* ---- the nodes that make y of xs and zs */

typedef struct Cut { Imp *m; StrMap known, need; SrcGraph *to; } Cut; /* known: inputs, captured, made by a node taken */

typedef void NameFn(Cut *c, const char *name);

static void each_name(Cut *c, const SrcNode *n, NameFn *fn)
{
    for (uint32_t i = 0; i < n->nin; i++)
        fn(c, n->in[i]);
    for (uint32_t i = 0; i < n->nattr; i++) {
        for (uint32_t k = 0; k < n->attr[i].ngraph; k++)
            for (uint32_t j = 0; j < n->attr[i].graph[k]->capture.n; j++)
                fn(c, n->attr[i].graph[k]->capture.v[j]);
        if (!strcmp(n->op, "Gradient") && !strcmp(n->attr[i].name, "y")) /* what it differentiates is needed again */
            fn(c, ctx_strn(c->m->c, (const char *)n->attr[i].p->s.data, n->attr[i].p->s.len));
    }
}

static void need(Cut *c, const char *name)
{
    if (name[0] && !strmap_get(&c->known, name))
        strmap_put(&c->need, name, 1);
}

static void capture(Cut *c, const char *name)
{
    if (!name[0] || strmap_get(&c->known, name))
        return;
    strmap_put(&c->known, name, 1);
    vec_push(c->m->c, &c->to->capture, name);
}

/* Backwards over the order of nodes; what no node makes is captured. */
static void cut(Cut *c)
{
    const SrcGraph *src = c->m->src;
    bool *taken = NEWN(c->m->c, bool, src->node.n + 1);
    for (uint32_t k = src->node.n; k-- > 0;) {
        const SrcNode *n = &src->node.v[k];
        for (uint32_t r = 0; r < n->nout; r++)
            taken[k] |= n->out[r][0] && strmap_get(&c->need, n->out[r]);
        if (taken[k])
            each_name(c, n, need);
    }
    for (uint32_t k = 0; k < src->node.n; k++) {
        if (!taken[k])
            continue;
        SrcNode n = src->node.v[k];
        n.out = ctx_dup(c->m->c, n.out, sizeof *n.out * (n.nout + 1));
        each_name(c, &n, capture);
        for (uint32_t r = 0; r < n.nout; r++) {
            if (strmap_get(&c->known, n.out[r])) /* its value is an input */
                n.out[r] = "";
            else
                strmap_put(&c->known, n.out[r], 1);
        }
        vec_push(c->m->c, &c->to->node, n);
    }
}

/* ---- the operator */

static void output_gradients(Imp *m, int nx, const Val *x, Val y)
{
    Graph *gr = m->b.g;
    Grad g = {.m = m};
    uint32_t nodes = gr->node.n;
    grad_room(&g);
    for (int i = 0; i < nx; i++)
        g.active[x[i].i] = true;
    grad_activate(&g, 0);
    const Type *t = val_type(gr, y);
    grad_add(&g, y, b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 1}, (DType)t->dtype), t->rank, t->dim));
    if (!grad_nodes(&g, 0, nodes))
        return;
    for (int i = 0; i < nx; i++) {
        const Type *xt = val_type(gr, x[i]);
        Val v = g.adj[x[i].i];
        graph_output(gr, "", v.i ? v : b_splat(&m->b, (Scalar){.t = xt->dtype}, xt->rank, xt->dim));
    }
}

/* d sum(y) / d x for every x, at the values given for xs and zs */
void imp_gradient(Imp *m)
{
    int nx, nz;
    const char **xs = strings(m, "xs", &nx), **zs = strings(m, "zs", &nz), *yname = ctx_str(m->c, attr_s(m, "y"));
    if (nx + nz != (int)m->n->nin || nx < (int)m->n->nout || !nx) {
        ERR(m, "E0203", "%u operands and %u results for %d tensors xs and %d tensors zs", m->n->nin, m->n->nout, nx, nz);
        return;
    }
    SrcGraph *sg = NEW(m->c, SrcGraph);
    Cut c = {.m = m, .known = {.c = m->c}, .need = {.c = m->c}, .to = sg};
    sg->name = "gradient";
    sg->outer = m->src->outer;
    for (int i = 0; i < nx + nz; i++) {
        const char *name = i < nx ? xs[i] : zs[i - nx];
        strmap_put(&c.known, name, 1);
        vec_push(m->c, &sg->in, (SrcValue){.name = name});
    }
    need(&c, yname);
    cut(&c);
    vec_push(m->c, &sg->out, (SrcValue){.name = yname});
    const char **cap;
    int ncap = region_captures(m, 1, &sg, &cap);
    if (ncap < 0)
        return;
    Imp inner;
    Val *x = NEWN(m->c, Val, nx + nz + 1), *in = NEWN(m->c, Val, nx + nz + ncap + 1), *out = NEWN(m->c, Val, nx + 1), y = {0};
    region_open(&inner, m, sg);
    for (int i = 0; i < nx + nz; i++) {
        x[i] = region_input(&inner, i, *val_type(m->b.g, m->in[i]));
        in[i] = m->in[i];
    }
    region_capture(&inner, m, ncap, cap);
    for (int i = 0; i < ncap; i++)
        in[nx + nz + i] = name_value(m, cap[i]);
    if (!region_body(&inner, &y) || !y.i)
        return;
    y = graph_resolve(inner.b.g, y);
    if (val_type(inner.b.g, y)->kind != TY_TENSOR || !dt_is_float(dtype_of(&inner, y))) {
        ERR(m, "E0204", "tensor \"%s\" is not of a float type", yname);
        return;
    }
    uint32_t errors = ctx_errors(m->c);
    inner.n = m->n;
    inner.row = m->row;
    output_gradients(&inner, nx, x, y);
    if (ctx_errors(m->c) != errors)
        return;
    graph_tidy(inner.b.g);
    graph_inline(m->b.g, inner.b.g, in, out);
    for (uint32_t i = 0; i < m->n->nout; i++)
        result(m, i, out[i]);
}
