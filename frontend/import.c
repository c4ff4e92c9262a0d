/* import.c: walks the nodes of a SrcGraph and calls their importers; regions; the preflight; the list of operators.
 *
 * In: a Model whose nodes are in topological order and whose names are checked. Out: a Graph of primitives with the
 * inputs and outputs of the model in its order. A node one of whose operands is poison is skipped and its results are poison, so
 * that all independent errors of a model are reported in one run. */
#include "frontend/import.h"
#include <ctype.h>
#include <string.h>

/* Pass 1 over the table: prototypes of the importers. */
#define OP(domain, op, since, in, out, attrs, how) how
#define FN(f) void imp_##f(Imp *m);
#define FNA(f, n) FN(f)
#define EXPR(text)
#define UN(s)
#define BIN(s)
#define BIN1(s)
#define NARY(s)
#define REDUCE(r)
#define WITHDRAWN
void imp_expr(Imp *m);
void imp_unary(Imp *m);
void imp_binary(Imp *m);
void imp_binary1(Imp *m);
void imp_nary(Imp *m);
void imp_reduce(Imp *m);
#include "frontend/ops.def"
#undef OP
#undef FN
#undef FNA
#undef EXPR
#undef UN
#undef BIN
#undef BIN1
#undef NARY
#undef REDUCE
#undef WITHDRAWN
/* Pass 2: the rows. */
#define OP(domain, op, since, in, out, attrs, how) {domain, #op, since, in, out, attrs, how},
#define FN(f) imp_##f, NULL, 0
#define FNA(f, n) imp_##f, NULL, n
#define EXPR(text) imp_expr, text, 0
#define UN(s) imp_unary, NULL, S_##s
#define BIN(s) imp_binary, NULL, S_##s
#define BIN1(s) imp_binary1, NULL, S_##s
#define NARY(s) imp_nary, NULL, S_##s
#define REDUCE(r) imp_reduce, #r, 0
#define WITHDRAWN NULL, NULL, 0
static const OpRow rows[] = {
#include "frontend/ops.def"
};
enum { NROWS = sizeof rows / sizeof *rows };

static const OpRow *row_find(const char *domain, const char *op, int32_t version)
{
    const OpRow *best = NULL;
    for (int i = 0; i < NROWS; i++)
        if (rows[i].op[0] == op[0] && !strcmp(rows[i].op, op) && !strcmp(rows[i].domain, domain) &&
            rows[i].since <= version)
            best = &rows[i];
    return best;
}

bool row_elementwise(const SrcNode *n)
{
    const OpRow *r = row_find(n->domain, n->op, n->version);
    return r && (r->fn == imp_expr || r->fn == imp_unary || r->fn == imp_binary || r->fn == imp_identity ||
                 r->fn == imp_cast || r->fn == imp_cast_like);
}

/* How many letters are to be put in, left out or exchanged for others, capitals or not, to make b of a. */
static int distance(const char *a, const char *b)
{
    enum { LONG = 64 };
    int row[LONG], n = (int)strlen(b);
    if (n >= LONG || strlen(a) >= LONG)
        return LONG;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 0; a[i]; i++) {
        int before = row[0]; /* of the shorter a and the shorter b */
        row[0] = i + 1;
        for (int j = 1; j <= n; j++) {
            int other = before + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[j - 1]));
            int less = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            before = row[j];
            row[j] = other < less ? other : less;
        }
    }
    return row[n];
}

/* What may have been meant by an operator that is not there. */
static const char *hint_operator(Model *m, const SrcNode *n)
{
    const OpRow *near = NULL;
    bool domain = false;
    int best = 3;
    for (int i = 0; i < NROWS; i++) {
        const char *d = rows[i].domain[0] ? rows[i].domain : "ai.onnx";
        if (!strcmp(rows[i].op, n->op))
            return ctx_printf(m->c, "; domain %s has one", d);
        if (strcmp(rows[i].domain, n->domain))
            continue;
        domain = true;
        int k = distance(n->op, rows[i].op);
        if (k < best && (size_t)k * 3 <= strlen(n->op)) {
            best = k;
            near = &rows[i];
        }
    }
    if (!domain)
        return ", which is not known; a function of the model can define it";
    return near ? ctx_printf(m->c, "; %s is one", near->op) : "";
}

/* Which versions have attribute `name` that row r lacks, or else what r has. */
static const char *hint_attribute(Model *m, const OpRow *r, const char *name)
{
    for (int i = 0; i < NROWS; i++)
        if (!strcmp(rows[i].op, r->op) && !strcmp(rows[i].domain, r->domain) && row_has_attr(&rows[i], name))
            return rows[i].since > r->since ? ctx_printf(m->c, "; %s has it since version %d", r->op, rows[i].since)
                                            : ctx_printf(m->c, "; %s has it before version %d", r->op, r->since);
    Buf b = {.c = m->c};
    for (const char *s = r->attrs; *s; s += strcspn(s, " "), s += strspn(s, " "))
        if (strncmp(s, "consumed_inputs:", 16) != 0) /* nobody gives it */
            buf_printf(&b, "%s %.*s", b.n ? "," : "", (int)strcspn(s, ":"), s);
    return ctx_printf(m->c, "; %s has%s", r->op, b.n ? buf_str(&b) : " none");
}

bool import_supported(Model *m, const SrcNode *n, const char **why)
{
    const char *domain = n->domain[0] ? n->domain : "ai.onnx";
    const OpRow *r = row_find(n->domain, n->op, n->version);
    if (!r) {
        const OpRow *later = row_find(n->domain, n->op, INT32_MAX);
        while (later && later > rows && !strcmp(later[-1].op, later->op))
            later--;
        *why = later ? ctx_printf(m->c, "%s exists since version %d of %s, the model imports version %d", n->op,
                                  later->since, domain, n->version)
                     : ctx_printf(m->c, "no operator %s in domain %s%s", n->op, domain, hint_operator(m, n));
        return false;
    }
    if (!n->domain[0] && n->version > NEWEST_OPSET) {
        *why = ctx_printf(m->c, "version %d of %s is newer than %d, the newest known: convert the model", n->version, domain,
                          NEWEST_OPSET);
        return false;
    }
    if (!r->fn) {
        *why = ctx_printf(m->c, "%s was withdrawn in version %d of %s", n->op, r->since, domain);
        return false;
    }
    for (uint32_t i = 0; i < n->nattr; i++)
        if (!row_has_attr(r, n->attr[i].name)) {
            *why = ctx_printf(m->c, "attribute %s is not supported%s", n->attr[i].name, hint_attribute(m, r, n->attr[i].name));
            return false;
        }
    return true;
}

static const char *mark_text(char mark)
{
    return mark == '?' ? " (optional)" : mark == '*' ? " (any number)" : "";
}

static void list_operands(Buf *b, const char *s)
{
    int first = (int)strcspn(s, ":");
    for (const char *p = s; *p; p += strspn(p, " ")) {
        int len = (int)strcspn(p, ":");
        buf_printf(b, "%s%.*s: ", p == s ? "" : ", ", len, p);
        if (p[len + 1] == '=')
            buf_printf(b, "as %.*s", first, s);
        else
            buf_puts(b, operand_class(p[len + 1]));
        buf_puts(b, mark_text(p[len + 2]));
        p += strcspn(p, " ");
    }
}

void frontend_list_ops(Buf *b)
{
    for (const OpRow *r = rows; r < rows + NROWS; r++) {
        bool last = r + 1 == rows + NROWS || strcmp(r[1].op, r->op) || strcmp(r[1].domain, r->domain);
        Buf versions = {.c = b->c};
        buf_printf(&versions, "%d", r->since);
        if (last)
            buf_puts(&versions, "..");
        else if (r[1].since - 1 > r->since)
            buf_printf(&versions, "..%d", r[1].since - 1);
        buf_printf(b, "%-13s %-26s %-7s ", r->domain[0] ? r->domain : "ai.onnx", r->op, buf_str(&versions));
        if (!r->fn) {
            buf_puts(b, "withdrawn\n");
            continue;
        }
        list_operands(b, r->in);
        buf_puts(b, r->in[0] ? " -> " : "-> ");
        for (const char *p = r->out; *p; p += strspn(p, " ")) {
            int len = (int)strcspn(p, " ?*");
            buf_printf(b, "%s%.*s%s", p == r->out ? "" : ", ", len, p, mark_text(p[len]));
            p += strcspn(p, " ");
        }
        buf_puts(b, "\n");
    }
}

void dims_of(const Imp *m, Val v, Dim *dim)
{
    const Type *t = val_type(m->b.g, v);
    if (t->rank)
        memcpy(dim, t->dim, sizeof *dim * t->rank);
}

/* ---- names */

static void name_put(Imp *m, const char *name, Val v)
{
    strmap_put(&m->names, name, v.i + 1);
    v = graph_resolve(m->b.g, v);
    if (v.i && !m->b.g->val.v[v.i].name)
        m->b.g->val.v[v.i].name = name;
}

Val name_value(Imp *m, const char *name)
{
    for (const Imp *i = m; i; i = i->up) {
        uint32_t k = strmap_get(&i->names, name);
        if (k)
            return (Val){k - 1};
    }
    return (Val){0};
}

/* ---- nodes */

/* Evidence under the node's last message, if that is not of a node inside it: what came in. */
static void note_operands(Imp *m)
{
    Sev sev;
    Loc loc, last = {0};
    const char *text;
    for (uint32_t k = 0; ctx_message(m->c, k, &sev, &loc, &text); k++)
        if (sev != SEV_NOTE)
            last = loc;
    if (last.i != m->b.loc.i)
        return;
    for (uint32_t i = 0; i < m->n->nin && i < 8; i++)
        if (m->in[i].i) {
            Buf b = {.c = m->c};
            type_print(&b, m->c, val_type(m->b.g, m->in[i]));
            diag_note(m->c, "input %s %s", m->n->in[i], buf_str(&b));
        }
}

static void import_node(Imp *m, const SrcNode *n)
{
    m->n = n;
    m->b.loc = n->loc;
    diag_here(m->c, n->loc);
    m->row = row_find(n->domain, n->op, n->version);
    m->in = NEWN(m->c, Val, n->nin + 16);
    m->out = NEWN(m->c, Val, n->nout + 16);
    bool poisoned = false;
    for (uint32_t i = 0; i < n->nin; i++)
        if (n->in[i][0]) {
            m->in[i] = name_value(m, n->in[i]);
            poisoned |= !m->in[i].i;
        }
    uint32_t errors = ctx_errors(m->c);
    const char *why;
    if (!import_supported(m->m, n, &why)) {
        if (!errors) /* else the preflight has said so */
            UNSUP(m, "%s", why);
    } else if (!poisoned && attrs_check(m) && operands_check(m)) {
        m->row->fn(m);
        for (uint32_t i = 0; i < n->nout; i++)
            if (n->out[i][0] && !m->out[i].i && !ctx_errors(m->c))
                ERR(m, "E0299", "result %u of %s could not be made", i, n->op);
    }
    if (ctx_errors(m->c) != errors)
        note_operands(m);
    if (m->m->opt->extract)
        extract_see(m);
    for (uint32_t i = 0; i < n->nout; i++)
        if (n->out[i][0])
            name_put(m, n->out[i], m->out[i]);
}

static void import_init(Imp *m, const SrcInit *in)
{
    Type t;
    const ConstData *d = tensor_read_init(m->m, in, (Loc){0}, &t);
    name_put(m, in->name, d ? b_const(&m->b, d, t) : (Val){0});
}

static void import_body(Imp *m)
{
    m->b.loc = (Loc){0};
    for (uint32_t i = 0; i < m->src->init.n; i++)
        import_init(m, &m->src->init.v[i]);
    for (uint32_t i = 0; i < m->src->node.n; i++)
        import_node(m, &m->src->node.v[i]);
    m->b.loc = (Loc){0};
    diag_here(m->c, m->b.loc);
}

static void imp_init(Imp *m, Model *model, const SrcGraph *src, Graph *g)
{
    memset(m, 0, sizeof *m);
    m->b = builder(g, (Loc){0});
    m->c = model->c;
    m->m = model;
    m->src = src;
    m->names.c = model->c;
}

/* The declared type of a graph output against what was inferred: the element type must agree. A shape that does not is worth a warning: exporters
   guess it, and what the nodes compute is what the model means. */
static bool output_check(Imp *m, const SrcValue *o, Val v)
{
    const Type *t = val_type(m->b.g, v);
    if (!v.i || !o->type)
        return v.i != 0;
    if (o->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || t->kind != TY_TENSOR) {
        bool same = (o->type->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) == (t->kind == TY_TENSOR);
        if (!same)
            diag(m->c, SEV_ERROR, model_loc(m->m, ctx_printf(m->c, "output \"%s\"", o->name)), "E0207",
                 "is declared as another kind of value than the graph computes");
        return same;
    }
    Loc loc = model_loc(m->m, ctx_printf(m->c, "output \"%s\"", o->name));
    const Onnx__TypeProto__Tensor *p = o->type->tensor_type;
    DType declared = p->elem_type ? dtype_of_onnx(p->elem_type) : t->dtype;
    Buf got = {.c = m->c};
    type_print(&got, m->c, t);
    if (declared != t->dtype) {
        diag(m->c, SEV_ERROR, loc, "E0207", "is declared as %s, the graph computes %s",
             declared ? dt_name(declared) : "an unknown type", buf_str(&got));
        return false;
    }
    m->m->odd += p->shape && p->shape->n_dim != t->rank;
    if (p->shape && p->shape->n_dim != t->rank)
        diag(m->c, SEV_WARNING, loc, "W0207", "is declared with rank %zu, the graph computes %s", p->shape->n_dim, buf_str(&got));
    for (int i = 0; p->shape && p->shape->n_dim == t->rank && i < t->rank; i++) {
        const Onnx__TensorShapeProto__Dimension *d = p->shape->dim[i];
        if (d->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE && d->dim_value >= 0 &&
            dim_differ(m->c, dim_const(m->c, d->dim_value), t->dim[i]))
            diag(m->c, SEV_WARNING, loc, "W0207", "is declared with size %lld along axis %d, the graph computes %s", (long long)d->dim_value, i,
                 buf_str(&got));
    }
    return true;
}

Graph *import_model(Model *model)
{
    const SrcGraph *src = model->graph;
    Graph *g = graph_new(model->c, src->name && src->name[0] ? src->name : "main", NULL);
    uint32_t errors = model->errors;
    Imp imp, *m = &imp;
    imp_init(m, model, src, g);
    for (uint32_t i = 0; i < src->in.n; i++) {
        const SrcValue *v = &src->in.v[i];
        Type t;
        Loc loc = model_loc(model, ctx_printf(model->c, "input \"%s\"", v->name));
        bool said = !v->type && ctx_errors(model->c) != errors; /* extract.c: the operand of an unsupported node */
        bool ok = !said && model_type(model, v->type, v->name, loc, &t);
        name_put(m, v->name, ok ? graph_input(g, v->name, t) : (Val){0});
    }
    import_body(m);
    for (uint32_t i = 0; i < src->out.n; i++) {
        const SrcValue *o = &src->out.v[i];
        Val v = name_value(m, o->name);
        if (v.i && o->type && o->type->value_case == ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE && val_type(g, v)->kind != TY_OPT)
            v = b_seq(&m->b, "make", type_list(m->c, TY_OPT, val_type(g, v)), 1, &v);
        if (output_check(m, o, v))
            graph_output(g, o->name, v);
        else if (ctx_errors(model->c) == errors)
            diag(model->c, SEV_ERROR, model_loc(model, ctx_printf(model->c, "output \"%s\"", o->name)), "E0299",
                 "is not computed");
    }
    if (ctx_errors(model->c) != errors)
        return NULL;
    graph_tidy(g);  /* a size learnt late may have left a view of a result behind those who read it */
    return g;
}

/* ---- regions */

int region_captures(Imp *m, int ngraph, SrcGraph *const *g, const char ***names)
{
    VEC(const char *) list = {0};
    StrMap seen = {.c = m->c};
    for (int k = 0; k < ngraph; k++)
        for (uint32_t i = 0; i < g[k]->capture.n; i++) {
            const char *name = g[k]->capture.v[i];
            Val v = name_value(m, name);
            if (!v.i)
                return -1;
            if (strmap_get(&seen, name) || val_const(m->b.g, v))
                continue;
            strmap_put(&seen, name, 1);
            vec_push(m->c, &list, name);
        }
    *names = list.v;
    return (int)list.n;
}

void region_open(Imp *inner, Imp *m, const SrcGraph *sg)
{
    imp_init(inner, m->m, sg, graph_new(m->c, sg->name, m->b.g));
    inner->b.loc = m->b.loc;
}

Val region_input(Imp *inner, int k, Type t)
{
    const char *name = (uint32_t)k < inner->src->in.n ? inner->src->in.v[k].name : NULL;
    Val v = graph_input(inner->b.g, name ? name : "", t);
    if (name)
        name_put(inner, name, v);
    return v;
}

void region_name(Imp *inner, int k, Val v)
{
    if ((uint32_t)k < inner->src->in.n)
        strmap_put(&inner->names, inner->src->in.v[k].name, v.i + 1);
}

void region_capture(Imp *inner, Imp *m, int ncap, const char *const *cap)
{
    for (int i = 0; i < ncap; i++) {
        Val outer = name_value(m, cap[i]);
        int64_t n;
        const Dim *elem = val_elems(m->b.g, outer, &n);
        Val v = graph_input(inner->b.g, cap[i], *val_type(m->b.g, outer));
        if (elem)
            val_set_elems(inner->b.g, v, elem);
        name_put(inner, cap[i], v);
    }
    for (uint32_t i = 0; i < inner->src->capture.n; i++) {
        Val outer = name_value(m, inner->src->capture.v[i]);
        const ConstData *d = val_const(m->b.g, outer);
        if (d)
            name_put(inner, inner->src->capture.v[i], b_const(&inner->b, d, *val_type(m->b.g, outer)));
    }
}

bool region_body(Imp *inner, Val *out)
{
    uint32_t errors = ctx_errors(inner->c);
    Loc loc = inner->b.loc;
    import_body(inner);
    inner->b.loc = loc;
    bool ok = ctx_errors(inner->c) == errors;
    for (uint32_t i = 0; i < inner->src->out.n; i++) {
        out[i] = name_value(inner, inner->src->out.v[i].name);
        ok &= out[i].i != 0;
    }
    return ok;
}

bool import_inline(Imp *m, const SrcGraph *sg, int nformal, const Val *in, Val *out)
{
    uint32_t errors = ctx_errors(m->c);
    Imp inner;
    imp_init(&inner, m->m, sg, m->b.g);
    inner.up = m;
    for (int i = 0; i < nformal && (uint32_t)i < sg->in.n; i++)
        strmap_put(&inner.names, sg->in.v[i].name, in[i].i + 1);
    import_body(&inner);
    for (uint32_t i = 0; i < sg->out.n; i++)
        out[i] = name_value(&inner, sg->out.v[i].name);
    return ctx_errors(m->c) == errors;
}
