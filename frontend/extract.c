/* extract.c: what fails in a model, as a model of its own.
 * The compilation runs as far as it gets, and extract_see() remembers what is known of the operands
 * of every node. Each message that has the place of a node names a failing one. Those nodes go into
 * one graph, flat, wherever they stood: a value that one of them computes stays an edge, a constant
 * that an importer could have looked at becomes an initialiser, everything else an input of the
 * type it had. Calls of local functions are expanded in the SrcGraph; a node of a version that the new
 * model cannot import beside those of other nodes gets a function of its own. */
#include "frontend/import.h"
#include <string.h>

typedef struct Versions { /* an opset_import */
    StrMap of; /* domain -> version */
    VEC(Onnx__OperatorSetIdProto *) list;
} Versions;
typedef struct Writer {
    Ctx *c;
    Model *m;
    const Extract *x;
    Versions version;
    StrMap known;     /* "owner name" -> 1 + index in flat */
    StrMap taken;     /* names of the new graph */
    VEC(char *) flat; /* the name in the new graph */
    VEC(Onnx__ValueInfoProto *) in;
    VEC(Onnx__ValueInfoProto *) out;
    VEC(Onnx__TensorProto *) init;
    VEC(Onnx__NodeProto *) node;
    VEC(Onnx__FunctionProto *) function;
} Writer;

#define MAKE(w, T, INIT) ((T *)ctx_dup((w)->c, &(T)INIT, sizeof(T)))
static char *text(Writer *w, const char *s) { return ctx_dup(w->c, s, strlen(s) + 1); }

/* ---- what import saw ---- */

static SeenOperand see(Imp *m, const char *name, Val v) {
    if (!v.i) return (SeenOperand){.name = ""};
    const Tensor *t = const_tensor(m, v);
    return (SeenOperand){name, *val_type(m->b.g, v), t ? tensor_to_const(m->c, t) : NULL};
}

void extract_see(Imp *m) {
    const SrcNode *n = m->n;
    SeenNode s = {.n = n, .noperand = n->nin + n->nout};
    for (uint32_t a = 0; a < n->nattr; a++)
        for (uint32_t k = 0; k < n->attr[a].ngraph; k++)
            s.noperand += n->attr[a].graph[k]->capture.n;
    s.operand = NEWN(m->c, SeenOperand, s.noperand + 1);
    SeenOperand *at = s.operand;
    for (uint32_t i = 0; i < n->nin; i++) *at++ = see(m, n->in[i], m->in[i]);
    for (uint32_t i = 0; i < n->nout; i++) *at++ = see(m, n->out[i], m->out[i]);
    for (uint32_t a = 0; a < n->nattr; a++)
        for (uint32_t k = 0; k < n->attr[a].ngraph; k++)
            for (uint32_t i = 0; i < n->attr[a].graph[k]->capture.n; i++) {
                const char *name = n->attr[a].graph[k]->capture.v[i];
                *at++ = see(m, name, name_value(m, name));
            }
    vec_push(m->c, &m->m->opt->extract->seen, s);
}

static const SeenOperand *seen(const Writer *w, const SrcNode *n, const char *name) {
    for (uint32_t i = w->x->seen.n; i-- > 0;) {
        const SeenNode *s = &w->x->seen.v[i];
        for (uint32_t k = 0; s->n == n && k < s->noperand; k++)
            if (!strcmp(s->operand[k].name, name)) return &s->operand[k];
    }
    return NULL;
}

/* ---- types and tensors ---- */

static Onnx__TypeProto__Tensor *tensor_type(Writer *w, const Type *t) {
    Onnx__TypeProto__Tensor *p = MAKE(w, Onnx__TypeProto__Tensor, ONNX__TYPE_PROTO__TENSOR__INIT);
    p->has_elem_type = true;
    p->elem_type = onnx_of_dtype((DType)t->dtype);
    if (t->rank > MAX_RANK) return p;
    p->shape = MAKE(w, Onnx__TensorShapeProto, ONNX__TENSOR_SHAPE_PROTO__INIT);
    p->shape->n_dim = t->rank;
    p->shape->dim = NEWN(w->c, Onnx__TensorShapeProto__Dimension *, t->rank + 1);
    for (int i = 0; i < t->rank; i++) {
        Onnx__TensorShapeProto__Dimension *d = MAKE(w, Onnx__TensorShapeProto__Dimension,
                                                    ONNX__TENSOR_SHAPE_PROTO__DIMENSION__INIT);
        p->shape->dim[i] = d;
        if (!t->dim[i].i) continue; /* any size */
        if (dim_is_const(w->c, t->dim[i], &d->dim_value)) {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            continue;
        }
        Buf b = {.c = w->c};
        dim_print(&b, w->c, t->dim[i]);
        d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
        d->dim_param = text(w, buf_str(&b));
    }
    return p;
}

static Onnx__TypeProto *type_proto(Writer *w, const Type *t) {
    Onnx__TypeProto *p = MAKE(w, Onnx__TypeProto, ONNX__TYPE_PROTO__INIT);
    switch ((TypeKind)t->kind) {
    case TY_TENSOR:
        p->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
        p->tensor_type = tensor_type(w, t);
        break;
    case TY_SEQ:
        p->value_case = ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
        p->sequence_type = MAKE(w, Onnx__TypeProto__Sequence, ONNX__TYPE_PROTO__SEQUENCE__INIT);
        p->sequence_type->elem_type = type_proto(w, t->elem);
        break;
    case TY_OPT:
        p->value_case = ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE;
        p->optional_type = MAKE(w, Onnx__TypeProto__Optional, ONNX__TYPE_PROTO__OPTIONAL__INIT);
        p->optional_type->elem_type = type_proto(w, t->elem);
        break;
    case TY_MAP:
        p->value_case = ONNX__TYPE_PROTO__VALUE_MAP_TYPE;
        p->map_type = MAKE(w, Onnx__TypeProto__Map, ONNX__TYPE_PROTO__MAP__INIT);
        p->map_type->has_key_type = true;
        p->map_type->key_type = onnx_of_dtype((DType)t->dtype);
        p->map_type->value_type = type_proto(w, t->elem);
        break;
    }
    return p;
}

static Onnx__TensorProto *const_proto(Writer *w, const char *name, const ConstData *d, const Type *t) {
    typedef struct {
        const char *s;
        size_t n;
    } Str; /* element of DT_STR */
    Onnx__TensorProto *p = MAKE(w, Onnx__TensorProto, ONNX__TENSOR_PROTO__INIT);
    p->name = text(w, name);
    p->has_data_type = true;
    p->data_type = onnx_of_dtype(d->dtype);
    p->n_dims = t->rank;
    p->dims = NEWN(w->c, int64_t, t->rank + 1);
    type_const_dims(w->c, t, p->dims);
    if (d->dtype == DT_STR) {
        p->n_string_data = (size_t)d->count;
        p->string_data = NEWN(w->c, ProtobufCBinaryData, d->count + 1);
        for (int64_t i = 0; i < d->count; i++) {
            const Str *s = (const Str *)d->data + (d->splat ? 0 : i);
            p->string_data[i] = (ProtobufCBinaryData){s->n, (uint8_t *)(uintptr_t)s->s};
        }
        return p;
    }
    size_t n = dt_bytes(d->dtype, d->count);
    uint8_t *raw = ctx_alloc(w->c, n + 1);
    for (size_t at = 0; at < n && d->bytes; at += d->bytes)
        memcpy(raw + at, d->data, d->bytes < n - at ? d->bytes : n - at);
    p->has_raw_data = true;
    p->raw_data = (ProtobufCBinaryData){n, raw};
    return p;
}

/* A tensor of the file as it stands there, with the payload that wire.c or the exporter left elsewhere. */
static Onnx__TensorProto *tensor_proto(Writer *w, const Onnx__TensorProto *t, const char *name, Loc loc) {
    if (!t) return NULL;
    Onnx__TensorProto *p = ctx_dup(w->c, t, sizeof *t);
    p->name = text(w, name);
    if (t->has_data_location && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL) {
        Type type;
        const ConstData *d = tensor_read(w->m, t, name, loc, &type);
        return d ? const_proto(w, name, d, &type) : p;
    }
    const uint8_t *raw;
    size_t n;
    if (wire_payload(w->m, t, &raw, &n)) {
        p->has_raw_data = true;
        p->raw_data = (ProtobufCBinaryData){n, (uint8_t *)(uintptr_t)raw};
    }
    p->base.n_unknown_fields = 0;
    p->base.unknown_fields = NULL;
    return p;
}

static Onnx__SparseTensorProto *sparse_proto(Writer *w, const Onnx__SparseTensorProto *s, const char *name,
                                             Loc loc) {
    if (!s) return NULL;
    Onnx__SparseTensorProto *p = ctx_dup(w->c, s, sizeof *s);
    p->values = tensor_proto(w, s->values, name, loc);
    p->indices = tensor_proto(w, s->indices, "", loc);
    return p;
}

static Onnx__ValueInfoProto *value_proto(Writer *w, const char *name, const Onnx__TypeProto *t) {
    Onnx__ValueInfoProto *p = MAKE(w, Onnx__ValueInfoProto, ONNX__VALUE_INFO_PROTO__INIT);
    p->name = text(w, name);
    p->type = (Onnx__TypeProto *)(uintptr_t)t;
    return p;
}

/* ---- names ---- */

static const Onnx__TypeProto *declared(const SrcGraph *g, const char *name) {
    for (uint32_t i = 0; i < g->in.n; i++)
        if (!strcmp(g->in.v[i].name, name)) return g->in.v[i].type;
    for (uint32_t i = 0; i < g->out.n; i++)
        if (!strcmp(g->out.v[i].name, name) && g->out.v[i].type) return g->out.v[i].type;
    return source_info(g, name);
}

static bool defines(const SrcGraph *g, const char *name) {
    for (uint32_t i = 0; i < g->in.n; i++)
        if (!strcmp(g->in.v[i].name, name)) return true;
    for (uint32_t i = 0; i < g->init.n; i++)
        if (!strcmp(g->init.v[i].name, name)) return true;
    for (uint32_t i = 0; i < g->node.n; i++)
        for (uint32_t k = 0; k < g->node.v[i].nout; k++)
            if (!strcmp(g->node.v[i].out[k], name)) return true;
    return false;
}

/* The graph, g or around it, that defines a name. */
static const SrcGraph *owner_of(const SrcGraph *g, const char *name) {
    while (g->outer && !defines(g, name)) g = g->outer;
    return g;
}

/* The name in the new graph of the value that is `name` in its owner; *fresh: it did not have one. */
static char *flat_name(Writer *w, const SrcGraph *owner, const char *name, bool *fresh) {
    const char *key = ctx_printf(w->c, "%p %s", (const void *)owner, name);
    uint32_t i = strmap_get(&w->known, key);
    *fresh = !i;
    if (i) return w->flat.v[i - 1];
    char *flat = text(w, name);
    for (int k = 1; strmap_get(&w->taken, flat); k++) flat = ctx_printf(w->c, "%s~%d", name, k);
    strmap_put(&w->taken, flat, 1);
    vec_push(w->c, &w->flat, flat);
    strmap_put(&w->known, key, w->flat.n);
    return flat;
}

/* The name of an operand of a node in graph `at`, which is `base`, the failing node's graph, or in a
 * graph of that node, where inner names stay. */
static char *use(Writer *w, const SrcGraph *at, const SrcGraph *base, const char *name) {
    bool fresh;
    if (!*name) return text(w, name);
    const SrcGraph *owner = owner_of(at, name), *g = base;
    while (g && g != owner) g = g->outer;
    return g ? flat_name(w, owner, name, &fresh) : text(w, name);
}

/* ---- nodes ---- */

static Onnx__GraphProto *graph_proto(Writer *w, const SrcGraph *g, const SrcGraph *base);

static Onnx__AttributeProto *attr_proto(Writer *w, const SrcAttr *a, const SrcGraph *base, Loc loc) {
    Onnx__AttributeProto *p = ctx_dup(w->c, a->p, sizeof *p);
    p->name = text(w, a->name);
    p->ref_attr_name = NULL;
    p->has_type = true;
    p->t = tensor_proto(w, p->t, p->t && p->t->name ? p->t->name : "", loc);
    p->sparse_tensor = sparse_proto(w, p->sparse_tensor, "", loc);
    p->tensors = NEWN(w->c, Onnx__TensorProto *, p->n_tensors + 1);
    for (size_t i = 0; i < p->n_tensors; i++)
        p->tensors[i] = tensor_proto(w, a->p->tensors[i], "", loc);
    p->sparse_tensors = NEWN(w->c, Onnx__SparseTensorProto *, p->n_sparse_tensors + 1);
    for (size_t i = 0; i < p->n_sparse_tensors; i++)
        p->sparse_tensors[i] = sparse_proto(w, a->p->sparse_tensors[i], "", loc);
    Onnx__GraphProto **graph = NEWN(w->c, Onnx__GraphProto *, a->ngraph + 1);
    for (uint32_t i = 0; i < a->ngraph; i++) graph[i] = graph_proto(w, a->graph[i], base);
    bool one = p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
    p->g = one ? graph[0] : NULL;
    p->n_graphs = one ? 0 : a->ngraph;
    p->graphs = graph;
    return p;
}

/* A node of graph `at`; its results get their names from flat_name() if that is `base`. */
static Onnx__NodeProto *node_proto(Writer *w, const SrcNode *n, const SrcGraph *at, const SrcGraph *base) {
    Onnx__NodeProto *p = MAKE(w, Onnx__NodeProto, ONNX__NODE_PROTO__INIT);
    p->name = text(w, loc_info(w->c, n->loc)->name);
    p->op_type = text(w, n->op);
    p->domain = text(w, n->domain);
    p->n_input = n->nin;
    p->n_output = n->nout;
    p->n_attribute = n->nattr;
    p->input = NEWN(w->c, char *, n->nin + 1);
    p->output = NEWN(w->c, char *, n->nout + 1);
    p->attribute = NEWN(w->c, Onnx__AttributeProto *, n->nattr + 1);
    for (uint32_t i = 0; i < n->nin; i++) p->input[i] = use(w, at, base, n->in[i]);
    for (uint32_t i = 0; i < n->nout; i++) p->output[i] = use(w, at, base, n->out[i]);
    for (uint32_t i = 0; i < n->nattr; i++) p->attribute[i] = attr_proto(w, &n->attr[i], base, n->loc);
    return p;
}

static Onnx__GraphProto *graph_proto(Writer *w, const SrcGraph *g, const SrcGraph *base) {
    Onnx__GraphProto *p = MAKE(w, Onnx__GraphProto, ONNX__GRAPH_PROTO__INIT);
    p->name = text(w, g->name);
    p->n_input = g->in.n;
    p->n_output = g->out.n;
    p->n_value_info = g->info.n;
    p->n_node = g->node.n;
    p->input = NEWN(w->c, Onnx__ValueInfoProto *, g->in.n + g->out.n + g->info.n + 1);
    p->output = p->input + g->in.n;
    p->value_info = p->output + g->out.n;
    p->node = NEWN(w->c, Onnx__NodeProto *, g->node.n + 1);
    p->initializer = NEWN(w->c, Onnx__TensorProto *, g->init.n + 1);
    p->sparse_initializer = NEWN(w->c, Onnx__SparseTensorProto *, g->init.n + 1);
    for (uint32_t i = 0; i < g->in.n; i++) p->input[i] = value_proto(w, g->in.v[i].name, g->in.v[i].type);
    for (uint32_t i = 0; i < g->out.n; i++)
        p->output[i] = value_proto(w, use(w, g, base, g->out.v[i].name), g->out.v[i].type);
    for (uint32_t i = 0; i < g->info.n; i++)
        p->value_info[i] = value_proto(w, g->info.v[i].name, g->info.v[i].type);
    for (uint32_t i = 0; i < g->node.n; i++) p->node[i] = node_proto(w, &g->node.v[i], g, base);
    for (uint32_t i = 0; i < g->init.n; i++) {
        const SrcInit *in = &g->init.v[i];
        if (in->dense)
            p->initializer[p->n_initializer++] = tensor_proto(w, in->dense, in->name, (Loc){0});
        else
            p->sparse_initializer[p->n_sparse_initializer++] = sparse_proto(w, in->sparse, in->name, (Loc){0});
    }
    return p;
}

/* ---- the new model ---- */

/* What is known of the type of value `name` of node n; operands as they were imported, else as declared. */
static const Onnx__TypeProto *known_type(Writer *w, const SrcNode *n, const SrcGraph *owner, const char *name) {
    const SeenOperand *s = seen(w, n, name);
    return s ? type_proto(w, &s->type) : declared(owner, name);
}

/* The operand `name` of a failing node: an edge if another one computes it, else a constant or an input. */
static void put_operand(Writer *w, const SrcNode *n, const SrcGraph *g, const char *name) {
    bool fresh;
    if (!*name) return;
    const SrcGraph *owner = owner_of(g, name);
    const char *flat = flat_name(w, owner, name, &fresh);
    const SeenOperand *s = seen(w, n, name);
    if (!fresh) return;
    if (s && s->data)
        vec_push(w->c, &w->init, const_proto(w, flat, s->data, &s->type));
    else
        vec_push(w->c, &w->in, value_proto(w, flat, known_type(w, n, owner, name)));
}

static bool add_version(Writer *w, Versions *v, const char *domain, int32_t version) {
    uint32_t old = strmap_get(&v->of, domain);
    if (old) return old == (uint32_t)version;
    Onnx__OperatorSetIdProto *p = MAKE(w, Onnx__OperatorSetIdProto, ONNX__OPERATOR_SET_ID_PROTO__INIT);
    p->domain = text(w, domain);
    p->has_version = true;
    p->version = version;
    strmap_put(&v->of, domain, (uint32_t)version);
    vec_push(w->c, &v->list, p);
    return true;
}

/* Can the node and those inside it stand beside what has these versions? Then theirs are added. */
static bool add_versions(Writer *w, Versions *v, const SrcNode *n) {
    bool ok = add_version(w, v, n->domain, n->version);
    for (uint32_t a = 0; a < n->nattr; a++)
        for (uint32_t k = 0; k < n->attr[a].ngraph; k++)
            for (uint32_t i = 0; i < n->attr[a].graph[k]->node.n; i++)
                ok = ok && add_versions(w, v, &n->attr[a].graph[k]->node.v[i]);
    return ok;
}

/* The names, each once, in `list`, which has room for them. */
static size_t distinct(Writer *w, char **list, size_t n) {
    StrMap listed = {.c = w->c};
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (!*list[i] || strmap_get(&listed, list[i])) continue;
        strmap_put(&listed, list[i], 1);
        list[kept++] = list[i];
    }
    return kept;
}

/* The call of a function that holds just that node. Inside, values have the names that they have outside; the names of
 * the call and of the node are together what messages call it. */
static Onnx__NodeProto *call_proto(Writer *w, Onnx__NodeProto *node, const Versions *v, char **in, size_t nin) {
    static const char domain[] = "accelc.extracted";
    Onnx__FunctionProto *f = MAKE(w, Onnx__FunctionProto, ONNX__FUNCTION_PROTO__INIT);
    Onnx__NodeProto *call = MAKE(w, Onnx__NodeProto, ONNX__NODE_PROTO__INIT);
    f->name = call->op_type = ctx_printf(w->c, "Node%u", w->function.n);
    f->domain = call->domain = text(w, domain);
    f->n_opset_import = v->list.n;
    f->opset_import = v->list.v;
    f->node = ctx_dup(w->c, &node, sizeof node);
    f->n_node = 1;
    f->input = call->input = in;
    f->n_input = call->n_input = distinct(w, in, nin);
    f->output = call->output = ctx_dup(w->c, node->output, sizeof *node->output * (node->n_output + 1));
    f->n_output = call->n_output = distinct(w, f->output, node->n_output);
    const char *slash = strrchr(node->name, '/');
    call->name = ctx_printf(w->c, "%.*s", slash ? (int)(slash - node->name) : 0, node->name);
    node->name = text(w, slash ? slash + 1 : node->name);
    vec_push(w->c, &w->function, f);
    add_version(w, &w->version, domain, 1);
    return call;
}

static void put_node(Writer *w, const SrcNode *n, const SrcGraph *g) {
    VEC(const char *) used = {0};
    for (uint32_t i = 0; i < n->nin; i++) vec_push(w->c, &used, n->in[i]);
    for (uint32_t a = 0; a < n->nattr; a++)
        for (uint32_t k = 0; k < n->attr[a].ngraph; k++)
            for (uint32_t i = 0; i < n->attr[a].graph[k]->capture.n; i++)
                vec_push(w->c, &used, n->attr[a].graph[k]->capture.v[i]);
    Versions own = {.of = {.c = w->c}};
    bool here = add_versions(w, &w->version, n);
    if (!here && !add_versions(w, &own, n)) {
        diag(w->c, SEV_WARNING, n->loc, "W0601", "is not extracted: its graphs use several versions of a domain");
        return;
    }
    char **in = NEWN(w->c, char *, used.n + 1);
    for (uint32_t i = 0; i < used.n; i++) {
        put_operand(w, n, g, used.v[i]);
        in[i] = use(w, g, g, used.v[i]);
    }
    for (uint32_t i = 0; i < n->nout; i++) {
        bool fresh;
        const char *name = n->out[i];
        if (*name) vec_push(w->c, &w->out, value_proto(w, flat_name(w, g, name, &fresh), known_type(w, n, g, name)));
    }
    Onnx__NodeProto *node = node_proto(w, n, g, g);
    vec_push(w->c, &w->node, here ? node : call_proto(w, node, &own, in, used.n));
}

static bool fails(const Ctx *c, Loc l) {
    Sev sev;
    Loc loc;
    const char *line;
    for (uint32_t k = 0; ctx_message(c, k, &sev, &loc, &line); k++)
        if (sev <= SEV_UNSUPPORTED && loc.i && loc.i == l.i) return true;
    return false;
}

/* Inner nodes come first: what they use is defined before the node they are in. */
static void put_failing(Writer *w, const SrcGraph *g) {
    for (uint32_t i = 0; i < g->node.n; i++) {
        const SrcNode *n = &g->node.v[i];
        for (uint32_t a = 0; a < n->nattr; a++)
            for (uint32_t k = 0; k < n->attr[a].ngraph; k++) put_failing(w, n->attr[a].graph[k]);
        if (fails(w->c, n->loc)) put_node(w, n, g);
    }
}

static uint8_t *pack(Writer *w, size_t *size) {
    enum { IR_VERSION = 8, FREE_INITIALISERS = 4 }; /* the first in which an initialiser is no input */
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    const Onnx__ModelProto *from = w->m->proto;
    graph.name = text(w, "failing");
    graph.n_node = w->node.n;
    graph.node = w->node.v;
    graph.n_input = w->in.n;
    graph.input = w->in.v;
    graph.n_output = w->out.n;
    graph.output = w->out.v;
    graph.n_initializer = w->init.n;
    graph.initializer = w->init.v;
    model.has_ir_version = true;
    model.ir_version = !from->has_ir_version                   ? IR_VERSION
                       : from->ir_version < FREE_INITIALISERS ? FREE_INITIALISERS
                                                               : from->ir_version;
    model.producer_name = text(w, "accelc");
    model.producer_version = text(w, ACCELC_VERSION);
    model.n_opset_import = w->version.list.n;
    model.opset_import = w->version.list.v;
    model.n_functions = w->function.n;
    model.functions = w->function.v;
    model.graph = &graph;
    *size = onnx__model_proto__get_packed_size(&model);
    uint8_t *data = ctx_alloc(w->c, *size + 1);
    onnx__model_proto__pack(&model, data);
    return data;
}

/* ---- the command ---- */

static bool compiles(Ctx *c, const CompileOptions *o, Graph *g) {
    Buf ignored = {.c = c};
    return g && compile_describe(c, o, g, &ignored) && !ctx_errors(c);
}

/* A message without its place. */
static const char *what(Sev sev, const char *line) {
    const char *s = strstr(line, sev == SEV_ERROR ? "error[" : "unsupported[");
    return s ? s : line;
}

static bool says(const Ctx *c, const char *text) {
    Sev sev;
    Loc loc;
    const char *line;
    for (uint32_t k = 0; ctx_message(c, k, &sev, &loc, &line); k++)
        if (sev <= SEV_UNSUPPORTED && !strcmp(what(sev, line), text)) return true;
    return false;
}

/* Does the new model fail as the old one does? */
static bool shows_it(Writer *w, const CompileOptions *o, const void *data, size_t n) {
    Ctx *c = ctx_new();
    FrontendOptions f = {.syntax = SYNTAX_PROTOBUF};
    compiles(c, o, frontend_read_bytes(c, data, n, "failing.onnx", NULL, &f));
    bool same = true;
    for (uint32_t k = 0; same; k++) {
        Sev sev;
        Loc loc;
        const char *line;
        if (!ctx_message(w->c, k, &sev, &loc, &line)) break;
        if (sev <= SEV_UNSUPPORTED && loc_info(w->c, loc)->node >= 0) same = says(c, what(sev, line));
    }
    ctx_free(c);
    return same;
}

bool extract_failing(Ctx *c, const CompileOptions *o, const char *path, FILE *info) {
    Extract x = {0};
    CompileOptions own = *o;
    own.extract = &x;
    if (compiles(c, &own, compile_read(c, &own, NULL))) {
        fprintf(info, "nothing fails in \"%s\"; \"%s\" is not written\n", o->input, path);
        return true;
    }
    Writer w = {.c = c, .m = x.model, .x = &x, .version = {.of = {.c = c}}, .known = {.c = c}, .taken = {.c = c}};
    if (x.model && x.model->graph) put_failing(&w, x.model->graph);
    if (!w.node.n) {
        fprintf(info, "no node of \"%s\" fails by itself; \"%s\" is not written\n", o->input, path);
        return false;
    }
    Output out;
    size_t size;
    const uint8_t *data = pack(&w, &size);
    if (!shows_it(&w, &own, data, size))
        diag(c, SEV_WARNING, model_loc(x.model, NULL), "W0602",
             "the extracted nodes alone do not fail in the same way: it depends on what comes before them");
    if (output_begin(&out, c, path, false) && output_bytes(&out, data, size) && output_commit(&out))
        fprintf(info, "\"%s\": %u failing node%s, written to \"%s\"\n", o->input, w.node.n, w.node.n > 1 ? "s" : "", path);
    return false;
}
