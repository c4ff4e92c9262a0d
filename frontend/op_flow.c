/* op_flow.c: If, Loop and Scan as regions. Regions capture nothing: values of enclosing graphs become operands, constants
 * are copied in. Scan is a loop whose body gathers its slices. A shape that changes from one trip to the next is found
 * by comparing the body's results with its inputs, and then becomes a symbol of the region. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(if); FN(loop); FN(scan); FN(scan8);

static SrcGraph *graph_attr(Imp *m, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    return a && a->ngraph == 1 ? a->graph[0] : NULL;
}

/* Exporters give one element as a scalar in one branch and as a vector in the other: it gets the greater rank. */
static void same_rank(Imp *a, Val *x, Imp *b, Val *y)
{
    const Type s = *val_type(a->b.g, *x), t = *val_type(b->b.g, *y);
    if (s.kind != TY_TENSOR || t.kind != TY_TENSOR || s.rank == t.rank || !dim_is(a->c, type_count(a->c, &s), 1) ||
        !dim_is(a->c, type_count(a->c, &t), 1))
        return;
    if (s.rank < t.rank)
        *x = reshape_to(a, *x, t.rank, t.dim);
    else
        *y = reshape_to(b, *y, s.rank, s.dim);
}

/* Which branch has the rank that a result is to have, if theirs differ: 0 or 1. -1: they do not, or neither branch can be it. */
static int branch_of_rank(Imp *m, const Imp *inner, Val *const *out)
{
    bool differ = false;
    for (uint32_t i = 0; i < m->n->nout; i++) {
        const Type *t[2] = {val_type(inner[0].b.g, out[0][i]), val_type(inner[1].b.g, out[1][i])};
        if (t[0]->kind != TY_TENSOR || t[1]->kind != TY_TENSOR || t[0]->rank == t[1]->rank)
            continue;
        int rank = model_type_rank(source_info(m->src, m->n->out[i]));
        for (int k = 0; k < 2; k++)
            if (rank == t[k]->rank)
                return k;
        differ = true;
    }
    return differ ? settle_choice(m->m) : -1;
}

static void import_branch(Imp *m, Val cond, const SrcGraph *g, bool then)
{
    const char *which = then ? "then" : "else";
    diag(m->c, SEV_WARNING, m->b.loc, "W0208", "the branches give results of different rank; only the %s branch is compiled, the other fails at "
         "run time", which);
    b_guard_val(&m->b, then ? cond : b_unary(&m->b, S_NOT, cond),
                ctx_printf(m->c, "only the %s branch is compiled, as the other's results have another rank", which));
    import_inline(m, g, 0, NULL, m->out);
}

void imp_if(Imp *m)
{
    SrcGraph *g[2] = {graph_attr(m, "then_branch"), graph_attr(m, "else_branch")};
    Val cond = only_element(m, m->in[0]);
    Scalar s;
    for (int k = 0; k < 2; k++)
        if (!g[k] || g[k]->in.n || g[k]->out.n != m->n->nout) {
            ERR(m, "E0208", "attribute %s: expected a graph with no inputs and %u outputs", k ? "else_branch" :
                "then_branch", m->n->nout);
            return;
        }
    if (const_scalar(m, cond, &s)) {
        import_inline(m, g[s.i ? 0 : 1], 0, NULL, m->out);
        return;
    }
    const char **cap;
    int ncap = region_captures(m, 2, g, &cap);
    if (ncap < 0)
        return;
    Graph *body[2];
    Imp inner[2];
    Val *in = NEWN(m->c, Val, ncap + 1), *out[2];
    for (int k = 0; k < 2; k++) {
        out[k] = NEWN(m->c, Val, m->n->nout + 1);
        region_open(&inner[k], m, g[k]);
        region_capture(&inner[k], m, ncap, cap);
        if (!region_body(&inner[k], out[k]))
            return;
        body[k] = inner[k].b.g;
    }
    for (uint32_t i = 0; i < m->n->nout; i++)
        same_rank(&inner[0], &out[0][i], &inner[1], &out[1][i]);
    int only = branch_of_rank(m, inner, out);
    if (only >= 0) {
        import_branch(m, cond, g[only], !only);
        return;
    }
    for (uint32_t i = 0; i < m->n->nout; i++)
        for (int k = 0; k < 2; k++)
            graph_output(body[k], g[k]->out.v[i].name, out[k][i]);
    for (int i = 0; i < ncap; i++)
        in[i] = name_value(m, cap[i]);
    b_if(&m->b, cond, body[0], body[1], ncap, in, m->out);
}

/* ---- Loop */

static Type scalar_type(Imp *m, DType t) { return type_tensor(m->c, t, 0, NULL); }

/* The type of a carried value: what it has before the loop, or what the body declares if it is absent, or an empty list. */
static bool carried_type(Imp *m, Val v, const SrcValue *formal, Type *t)
{
    if (v.i) {
        Type declared;
        *t = *val_type(m->b.g, v);
        bool none = t->kind == TY_SEQ && t->elem->rank == RANK_NONE && formal->type && model_type_known(formal->type);
        if (none && model_type(m->m, formal->type, formal->name, m->b.loc, &declared) && type_covers(m->c, &declared, t) &&
            declared.elem->rank <= MAX_RANK)
            *t = declared;
        return true;
    }
    if (formal->type && model_type_known(formal->type))
        return model_type(m->m, formal->type, formal->name, m->b.loc, t);
    UNSUP(m, "carried value %s has no initial value and no declared type", formal->name);
    return false;
}

/* A list begins as one type and holds others after the body. */
static bool loosen_list(Imp *m, Type *t, const Type *after)
{
    Type both;
    if (t->kind == TY_TENSOR || !type_join(m->c, t, after, &both) || type_same(m->c, t, &both))
        return false;
    *t = both;
    return true;
}

/* Dims of `t` that the body does not keep become symbols. Returns whether there were any. */
static bool loosen(Imp *m, Type *t, const Type *after, const char *name)
{
    if (t->kind != TY_TENSOR || after->kind != TY_TENSOR || t->rank != after->rank)
        return false;
    Dim d[MAX_RANK];
    bool changed = false;
    for (int i = 0; i < t->rank; i++) {
        d[i] = t->dim[i];
        if (!dim_same(m->c, d[i], after->dim[i])) {
            d[i] = dim_fresh(m->c, name && name[0] ? name : "carried", 0, DIM_INF);
            changed = true;
        }
    }
    if (changed)
        *t = type_tensor(m->c, (DType)t->dtype, t->rank, d);
    return changed;
}

/* ---- Loops written out
 *
 * A loop of a few trips whose carried values nobody declares a shape of may change even their ranks (PyTorch's as_strided adds an
 * axis per trip): it is imported once per trip. */
enum { TRIPS_MAX = 8, WRITTEN_MAX = 512 /* nodes that such a loop becomes, with the loops inside it */ };

static uint32_t written_size(const SrcGraph *g)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->node.n && n <= WRITTEN_MAX; i++) {
        const SrcNode *node = &g->node.v[i];
        n++;
        for (uint32_t a = 0; a < node->nattr; a++)
            for (uint32_t k = 0; k < node->attr[a].ngraph && n <= WRITTEN_MAX; k++)
                n += written_size(node->attr[a].graph[k]) * (strcmp(node->op, "If") ? TRIPS_MAX : 1);
    }
    return n <= WRITTEN_MAX ? n : WRITTEN_MAX + 1;
}

static bool keeps_rank(const Imp *m, Val from, const SrcValue *formal)
{
    if (!formal->type || !model_type_known(formal->type))
        return false;
    const Type *t = val_type(m->b.g, from);
    int rank = model_type_rank(formal->type);
    return t->kind != TY_TENSOR || rank < 0 || rank == t->rank;
}

static bool known_true(Imp *m, Val v)
{
    Scalar s;
    return v.i && const_scalar(m, v, &s) && s.t == DT_BOOL && s.i;
}

/* The body hands its condition on, or a true one from outside. */
static bool goes_on(Imp *m, const SrcGraph *sg)
{
    const char *name = sg->out.v[0].name;
    for (uint32_t i = sg->node.n; i--;) {
        const SrcNode *n = &sg->node.v[i];
        for (uint32_t k = 0; k < n->nout; k++) {
            if (strcmp(n->out[k], name))
                continue;
            if (n->nin != 1 || (strcmp(n->op, "Identity") && strcmp(n->op, "Cast")))
                return false;
            name = n->in[0];
        }
    }
    for (uint32_t i = 0; i < sg->capture.n; i++)
        if (!strcmp(name, sg->capture.v[i]))
            return known_true(m, name_value(m, name));
    return !strcmp(name, sg->in.v[1].name);
}

/* How often, or -1: the loop stays one, as it does where nothing tells what the shape of no rows is. */
static int64_t written_trips(Imp *m, const SrcGraph *sg, int nc, int ns)
{
    Scalar s;
    bool may_change = false;
    for (int i = 0; i < nc; i++) {
        Val from = operand(m, 2 + (uint32_t)i);
        if (!from.i)
            return -1;
        may_change |= !keeps_rank(m, from, &sg->in.v[2 + i]);
    }
    if (!may_change || !present(m, 0) || !const_scalar(m, m->in[0], &s) || s.i < (ns ? 1 : 0) || s.i > TRIPS_MAX ||
        (present(m, 1) && !known_true(m, m->in[1])) || !goes_on(m, sg))
        return -1;
    return written_size(sg) * s.i <= WRITTEN_MAX ? s.i : -1;
}

static void write_out(Imp *m, const SrcGraph *sg, int64_t trips, int nc, int ns)
{
    Val *in = NEWN(m->c, Val, 2 + nc), *out = NEWN(m->c, Val, 1 + nc + ns), *row = NEWN(m->c, Val, ns * TRIPS_MAX + 1);
    for (int i = 0; i < nc; i++)
        in[2 + i] = m->in[2 + i];
    in[1] = b_scalar(&m->b, (Scalar){.t = DT_BOOL, .i = 1});
    for (int64_t i = 0; i < trips; i++) {
        in[0] = scalar_i64(m, i);
        if (!import_inline(m, sg, 2 + nc, in, out))
            return;
        memcpy(in + 2, out + 1, sizeof *in * (size_t)nc);
        for (int k = 0; k < ns; k++) {
            Dim dim[MAX_RANK + 1] = {DC(m, 1)};
            dims_of(m, out[1 + nc + k], dim + 1);
            row[k * trips + i] = reshape_to(m, out[1 + nc + k], rank_of(m, out[1 + nc + k]) + 1, dim);
        }
    }
    for (uint32_t i = 0; i < m->n->nout; i++)
        result(m, i, (int)i < nc ? in[2 + i] : b_concat(&m->b, (int)trips, &row[((int)i - nc) * trips], 0));
}

void imp_loop(Imp *m)
{
    SrcGraph *sg = graph_attr(m, "body");
    int nc = m->n->nin > 2 ? (int)m->n->nin - 2 : 0;
    int ns = sg ? (int)sg->out.n - 1 - nc : -1;
    if (!sg || (int)sg->in.n != nc + 2 || ns < 0 || (int)m->n->nout > nc + ns) {
        ERR(m, "E0208", "attribute body: expected %d inputs and at least %d outputs, got %u and %u", nc + 2, nc + 1,
            sg ? sg->in.n : 0, sg ? sg->out.n : 0);
        return;
    }
    int64_t trips = written_trips(m, sg, nc, ns);
    if (trips >= 0) {
        write_out(m, sg, trips, nc, ns);
        return;
    }
    const char **cap;
    int ncap = region_captures(m, 1, &sg, &cap);
    if (ncap < 0)
        return;
    Type *ty = NEWN(m->c, Type, nc + 1);
    Val *out = NEWN(m->c, Val, nc + ns + 1), *in = NEWN(m->c, Val, 2 + nc + ncap);
    bool *opens = NEWN(m->c, bool, nc + 1);
    for (int i = 0; i < nc; i++)
        if (!carried_type(m, operand(m, 2 + (uint32_t)i), &sg->in.v[2 + i], &ty[i]))
            return;
    Graph *body = NULL;
    for (int round = 0; !body; round++) {
        Imp inner;
        bool changed = false;
        region_open(&inner, m, sg);
        region_input(&inner, 0, scalar_type(m, DT_I64));
        region_input(&inner, 1, scalar_type(m, DT_BOOL));
        for (int i = 0; i < nc; i++)
            region_input(&inner, 2 + i, ty[i]);
        region_capture(&inner, m, ncap, cap);
        if (!region_body(&inner, out))
            return;
        for (int i = 0; i < nc; i++) {
            const Type *after = val_type(inner.b.g, out[1 + i]);
            if (ty[i].kind == TY_OPT && after->kind != TY_OPT) { /* begins as an optional, goes on as what it holds */
                opens[i] = true;
                out[1 + i] = b_seq(&inner.b, "make", type_list(m->c, TY_OPT, after), 1, &out[1 + i]);
                after = val_type(inner.b.g, out[1 + i]);
            }
            changed |= loosen_list(m, &ty[i], after) || (round < 3 && loosen(m, &ty[i], after, sg->in.v[2 + i].name));
        }
        if (changed)
            continue;
        out[0] = only_element(&inner, out[0]);
        for (int i = 0; i < 1 + nc + ns; i++)
            graph_output(inner.b.g, sg->out.v[i].name, out[i]);
        body = inner.b.g;
    }
    in[0] = present(m, 0) ? only_element(m, m->in[0]) : (Val){0};
    in[1] = present(m, 1) ? only_element(m, m->in[1]) : (Val){0};
    for (int i = 0; i < nc; i++)
        in[2 + i] = m->in[2 + i];
    for (int i = 0; i < ncap; i++)
        in[2 + nc + i] = name_value(m, cap[i]);
    Val *res = NEWN(m->c, Val, nc + ns + 1);
    b_loop(&m->b, body, nc, ns, 2 + nc + ncap, in, res);
    for (uint32_t i = 0; i < m->n->nout; i++)
        result(m, i, (int)i < nc && opens[i] ? list_take(m, "get", 1, &res[i], hint_rank(m, i)) : res[i]);
}

/* ---- Scan */

typedef struct ScanSpec {
    int nstate, nin, nout;              /* states, scan inputs, scan outputs */
    int64_t *in_axis, *in_dir, *out_axis, *out_dir; /* direction 1: backwards */
} ScanSpec;

/* From trip `upto` on a state keeps its value and a scan output is 0. */
static Val until(Imp *m, Val iter, Val upto, Val v, Val old)
{
    DType t = dtype_of(m, v);
    Val in[4] = {v, iter, upto, old};
    Expr rest = old.i ? xarg(m, 3, t) : expr_int(m->c, t, 0);
    return b_map1(&m->b, X3(SELECT, X2(LT, xarg(m, 1, DT_I64), xarg(m, 2, DT_I64)), xarg(m, 0, t), rest), old.i ? 4 : 3, in);
}

/* states[], xs[] are values of m; results are values of m, too. upto: how many trips count (i64[]), or none: all. */
static bool scan(Imp *m, const SrcGraph *sg, const ScanSpec *sp, const Val *state, const Val *xs, Val upto, Val *res)
{
    const char **cap;
    SrcGraph *one = (SrcGraph *)(uintptr_t)sg;
    int ncap = region_captures(m, 1, &one, &cap), n = sp->nstate;
    if (ncap < 0)
        return false;
    Val *out = NEWN(m->c, Val, sg->out.n + 1), *in = NEWN(m->c, Val, 3 + n + sp->nin + ncap), *px, *ps = NEWN(m->c, Val, n + 1);
    Imp inner;
    int axis[64];
    if (sp->nin > 64) {
        UNSUP(m, "%d scan inputs (at most 64)", sp->nin);
        return false;
    }
    region_open(&inner, m, sg);
    Val iter = graph_input(inner.b.g, "iter", scalar_type(m, DT_I64));
    Val cond = graph_input(inner.b.g, "cond", scalar_type(m, DT_BOOL));
    for (int i = 0; i < n; i++)
        ps[i] = region_input(&inner, i, *val_type(m->b.g, state[i]));
    px = NEWN(m->c, Val, sp->nin + 1);
    for (int i = 0; i < sp->nin; i++)
        px[i] = graph_input(inner.b.g, "", *val_type(m->b.g, xs[i]));
    region_capture(&inner, m, ncap, cap);
    Val last = upto.i ? graph_input(inner.b.g, "", scalar_type(m, DT_I64)) : (Val){0};
    Dim len = {0};
    for (int i = 0; i < sp->nin; i++) {
        if (!axis_ok(m, sp->in_axis[i], rank_of(m, xs[i]), &axis[i]))
            return false;
        Dim d = dim_of(m, xs[i], axis[i]);
        if (i)
            b_guard(&m->b, G_EQ, len, d, "the scan inputs have different lengths");
        else
            len = d;
        Val at = iter;
        if (sp->in_dir[i]) { /* past the end: the first element, which nothing looks at */
            Expr end = upto.i ? X2(SUB, xarg(m, 1, DT_I64), XI(1)) : expr_dim(m->c, dim_addi(m->c, d, -1)), back = X2(SUB, end, xarg(m, 0, DT_I64));
            at = map_over(&inner, upto.i ? X2(MAX, back, XI(0)) : back, upto.i ? 2 : 1, (Val[]){iter, last}, 0, NULL);
        }
        region_name(&inner, n + i, b_gather(&inner.b, px[i], at, axis[i], OOB_FAIL));
    }
    if (!region_body(&inner, out))
        return false;
    graph_output(inner.b.g, "cond", cond);
    for (int i = 0; i < n + sp->nout && upto.i; i++)
        out[i] = until(&inner, iter, last, out[i], i < n ? ps[i] : (Val){0});
    for (int i = 0; i < n + sp->nout; i++)
        graph_output(inner.b.g, sg->out.v[i].name, out[i]);
    in[0] = b_dim_scalar(&m->b, len);
    in[1] = (Val){0};
    memcpy(in + 2, state, sizeof *state * (size_t)n);
    memcpy(in + 2 + n, xs, sizeof *xs * (size_t)sp->nin);
    for (int i = 0; i < ncap; i++)
        in[2 + n + sp->nin + i] = name_value(m, cap[i]);
    in[2 + n + sp->nin + ncap] = upto;
    b_loop(&m->b, inner.b.g, n, sp->nout, 2 + n + sp->nin + ncap + (upto.i != 0), in, res);
    for (int i = 0; i < sp->nout; i++) {
        Val *y = &res[n + i];
        int r = rank_of(m, *y), to, perm[MAX_RANK];
        if (!y->i || !axis_ok(m, sp->out_axis[i], r, &to))
            return false;
        if (sp->out_dir[i]) {
            Dim start[MAX_RANK], size[MAX_RANK];
            int64_t step[MAX_RANK];
            dims_of(m, *y, size);
            for (int k = 0; k < r; k++) {
                start[k] = k ? DC(m, 0) : dim_addi(m->c, size[0], -1);
                step[k] = k ? 1 : -1;
            }
            *y = b_slice(&m->b, *y, start, step, size);
        }
        for (int k = 0; k < r; k++)
            perm[k] = k == to ? 0 : k < to ? k + 1 : k;
        *y = to ? b_permute(&m->b, *y, perm) : *y;
    }
    return true;
}

/* One number per scan input or output; default 0. */
static int64_t *list(Imp *m, const char *name, int n)
{
    int k = 0;
    const int64_t *a = row_has_attr(m->row, name) ? attr_ints(m, name, &k) : NULL;
    int64_t *v = NEWN(m->c, int64_t, n + 1);
    if (a && k != n) {
        ERR(m, "E0203", "attribute %s: expected %d numbers, got %d", name, n, k);
        return NULL;
    }
    for (int i = 0; i < n; i++)
        v[i] = a ? a[i] : 0;
    return v;
}

static SrcGraph *scan_read(Imp *m, int operands, ScanSpec *sp)
{
    SrcGraph *sg = graph_attr(m, "body");
    int64_t n = attr_i(m, "num_scan_inputs");
    if (!sg || n < 1 || n > operands || (int)sg->in.n != operands || (int64_t)sg->out.n < operands - n ||
        m->n->nout > sg->out.n) {
        ERR(m, "E0208", "body with %u inputs and %u outputs for %d operands, %lld of them scanned", sg ? sg->in.n : 0,
            sg ? sg->out.n : 0, operands, (long long)n);
        return NULL;
    }
    sp->nin = (int)n;
    sp->nstate = operands - sp->nin;
    sp->nout = (int)sg->out.n - sp->nstate;
    sp->in_axis = list(m, "scan_input_axes", sp->nin);
    sp->in_dir = list(m, row_has_attr(m->row, "directions") ? "directions" : "scan_input_directions", sp->nin);
    sp->out_axis = list(m, "scan_output_axes", sp->nout);
    sp->out_dir = list(m, "scan_output_directions", sp->nout);
    return sp->in_axis && sp->in_dir && sp->out_axis && sp->out_dir ? sg : NULL;
}

void imp_scan(Imp *m)
{
    ScanSpec sp;
    SrcGraph *sg = scan_read(m, (int)m->n->nin, &sp);
    if (!sg)
        return;
    Val *res = NEWN(m->c, Val, sg->out.n + 1);
    if (scan(m, sg, &sp, m->in, m->in + sp.nstate, (Val){0}, res))
        for (uint32_t i = 0; i < m->n->nout; i++)
            result(m, i, res[i]);
}

/* Scan-8: every operand has a batch axis in front, and each batch is scanned by itself: a loop over batches whose
 * results are all stacked. */
void imp_scan8(Imp *m)
{
    ScanSpec sp;
    int n = (int)m->n->nin - 1, ncap;
    const char **cap;
    SrcGraph *sg = scan_read(m, n, &sp);
    if (!sg)
        return;
    if (present(m, 0)) {
        Val first = m->in[1 + sp.nstate], lens = m->in[0];
        if (rank_of(m, lens) != 1 || rank_of(m, first) < 2) {
            ERR(m, "E0203", "sequence_lens: expected rank 1, got %d; scan inputs: expected rank 2 or more, got %d", rank_of(m, lens),
                rank_of(m, first));
            return;
        }
        b_guard(&m->b, G_EQ, dim_of(m, lens, 0), dim_of(m, m->in[1], 0), "sequence_lens must have one element per batch");
        Expr v = xarg(m, 0, DT_I64), ok = X2(AND, X2(GE, v, XI(0)), X2(LE, v, xdim(m, dim_of(m, first, 1))));
        b_guard_val(&m->b, b_map1(&m->b, ok, 1, &lens), "an element of sequence_lens is negative or beyond the end of the scan inputs");
    }
    ncap = region_captures(m, 1, &sg, &cap);
    if (ncap < 0)
        return;
    SrcGraph none = {.name = "batch", .outer = sg->outer, .capture = sg->capture};
    Imp inner;
    region_open(&inner, m, NEW(m->c, SrcGraph));
    *(SrcGraph *)(uintptr_t)inner.src = none;
    inner.n = m->n;
    inner.row = m->row;
    Val iter = graph_input(inner.b.g, "iter", scalar_type(m, DT_I64));
    Val cond = graph_input(inner.b.g, "cond", scalar_type(m, DT_BOOL));
    Val *slice = NEWN(m->c, Val, n + 1), *in = NEWN(m->c, Val, 3 + n + ncap), *res = NEWN(m->c, Val, sg->out.n + 1), upto = {0};
    for (int i = 0; i < n; i++)
        slice[i] = graph_input(inner.b.g, "", *val_type(m->b.g, m->in[1 + i]));
    region_capture(&inner, m, ncap, cap);
    for (int i = 0; i < n; i++)
        slice[i] = b_gather(&inner.b, slice[i], iter, 0, OOB_FAIL);
    if (present(m, 0))
        upto = b_gather(&inner.b, graph_input(inner.b.g, "", *val_type(m->b.g, m->in[0])), iter, 0, OOB_FAIL);
    if (!scan(&inner, sg, &sp, slice, slice + sp.nstate, upto, res))
        return;
    graph_output(inner.b.g, "cond", cond);
    for (uint32_t i = 0; i < sg->out.n; i++)
        graph_output(inner.b.g, sg->out.v[i].name, res[i]);
    in[0] = b_dim_scalar(&m->b, dim_of(m, m->in[1], 0));
    in[1] = (Val){0};
    memcpy(in + 2, m->in + 1, sizeof *in * (size_t)n);
    for (int i = 0; i < ncap; i++)
        in[2 + n + i] = name_value(m, cap[i]);
    in[2 + n + ncap] = m->in[0];
    b_loop(&m->b, inner.b.g, 0, (int)sg->out.n, 2 + n + ncap + present(m, 0), in, res);
    for (uint32_t i = 0; i < m->n->nout; i++)
        result(m, i, res[i]);
}
