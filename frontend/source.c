/* source.c: ModelProto -> SrcGraph tree.
 * Resolves every name in its lexical scope, puts nodes into topological order, looks up the version
 * of each operator's domain, expands calls of model-local functions in place (inner names get a
 * prefix that no other value has) and substitutes attribute references. Afterwards every used name
 * is defined before its use, once per graph. Work is bounded: the number of nodes after expansion,
 * the depth of graphs and calls, and the attributes of a node are limited. */
#include "frontend/internal.h"
#include <string.h>

enum {
    MAX_DEPTH = 200,
    MAX_CALLS = 64,
    MAX_ATTRS = 100,
    MIN_NODE_LIMIT = 1 << 18,
    CYCLE_SHOWN = 8
};

typedef struct Bind { /* what a name of the file means in some scope */
    const char *name; /* in the SrcGraph; "": an operand that the caller left out */
    SrcGraph *owner;
} Bind;
typedef struct Scope Scope;
struct Scope {
    Scope *outer;
    StrMap map; /* name in the file -> 1 + index in bind */
    VEC(Bind) bind;
    StrMap alias; /* function body: name of an output -> 1 + index in the call's results */
    const char *const *result; /* names that the caller gave them */
};
typedef struct Env Env; /* where nodes stand: the model's graph or the body of a function */
struct Env {
    const Env *caller; /* NULL: the model's graph; the other fields but version are then empty */
    StrMap version;    /* domain -> version */
    const Onnx__FunctionProto *fn;
    const Onnx__NodeProto *call;
    Scope *scope;          /* of the call: subgraphs among its attributes see it */
    const char *prefix;    /* of inner names */
    const char *node_name; /* of the call, for messages */
    int32_t node;          /* index of the call in the model's graph */
    int depth;
};
typedef struct AttrValue {
    const Onnx__AttributeProto *p;
    const Env *env; /* where its subgraphs' names are looked up */
    Scope *scope;
} AttrValue;
typedef struct Src {
    Model *m;
    Ctx *c;
    StrMap fn; /* "domain\1name\1overload" -> 1 + index in proto->functions */
    uint64_t nodes, limit;
    uint32_t calls;
    int depth;
} Src;
typedef VEC(uint32_t) U32s;

static const char *str(const char *s) { return s ? s : ""; }

/* "ai.onnx" and "" are one domain. */
static const char *domain_of(const char *s) {
    s = str(s);
    return strcmp(s, "ai.onnx") ? s : "";
}

static const char *shown(const char *domain) { return *domain ? domain : "ai.onnx"; }

static void read_opsets(Src *s, size_t n, Onnx__OperatorSetIdProto *const *opset, const char *where,
                        StrMap *version) {
    Loc loc = model_loc(s->m, where);
    for (size_t i = 0; i < n; i++) {
        const char *d = domain_of(opset[i]->domain);
        uint32_t old = strmap_get(version, d);
        int64_t v = opset[i]->version;
        if (v < 1 || v > INT32_MAX)
            diag(s->c, SEV_ERROR, loc, "E0140", "opset_import: domain \"%s\" has version %lld",
                 shown(d), (long long)v);
        else if (old && old != (uint32_t)v)
            diag(s->c, SEV_ERROR, loc, "E0140",
                 "opset_import: domain \"%s\" has versions %u and %lld", shown(d), old,
                 (long long)v);
        strmap_put(version, d, v < 1 || v > INT32_MAX ? 1 : (uint32_t)v);
    }
}

/* ---- scopes ---- */

static const Bind *scope_find(const Scope *sc, const char *name) {
    for (; sc; sc = sc->outer) {
        uint32_t i = strmap_get(&sc->map, name);
        if (i) return &sc->bind.v[i - 1];
    }
    return NULL;
}

static void scope_put(Src *s, Scope *sc, const char *name, const char *as, SrcGraph *owner) {
    Bind b = {as, owner};
    vec_push(s->c, &sc->bind, b);
    strmap_put(&sc->map, name, sc->bind.n);
}

/* The name under which b is known in g; graphs between g and the owner capture it. */
static const char *use(Src *s, SrcGraph *g, const Bind *b) {
    for (; *b->name && g && g != b->owner && !strmap_get(&g->captured, b->name); g = g->outer) {
        strmap_put(&g->captured, b->name, 1);
        vec_push(s->c, &g->capture, b->name);
    }
    return b->name;
}

/* What a name defined in this scope is called in the SrcGraph. */
static const char *fresh_name(Src *s, const Scope *sc, const Env *env, const char *name) {
    uint32_t i = strmap_get(&sc->alias, name);
    if (i && *sc->result[i - 1]) return sc->result[i - 1];
    return ctx_str(s->c, env->caller ? ctx_printf(s->c, "%s%s", env->prefix, name) : name);
}

static const char *define(Src *s, SrcGraph *g, Scope *sc, const Env *env, const char *name, Loc loc,
                          const char *what) {
    const char *as = fresh_name(s, sc, env, name);
    if (!*name)
        diag(s->c, SEV_ERROR, loc, "E0152", "%s has no name", what);
    else if (strmap_get(&sc->map, name))
        diag(s->c, SEV_ERROR, loc, "E0153", "%s \"%s\": a value of that name is already defined",
             what, name);
    else
        scope_put(s, sc, name, as, g);
    return as;
}

static Loc node_loc(Src *s, const Env *env, const Onnx__NodeProto *n, size_t index,
                    int32_t version) {
    const char *name = str(n->name);
    LocInfo i = {.file = s->m->file, .op = ctx_str(s->c, str(n->op_type)), .version = version};
    i.name = ctx_str(s->c, env->caller ? ctx_printf(s->c, "%s/%s", env->node_name, name) : name);
    i.node = env->caller ? env->node : (int32_t)index;
    return loc_new(s->c, &i);
}

/* ---- topological order ---- */

typedef struct Order {
    Src *s;
    const Env *env;
    const Scope *scope; /* what is defined before the nodes */
    Onnx__NodeProto *const *node;
    size_t n;
    StrMap def;     /* output name -> 1 + node */
    U32s *dep;      /* per node: what must come before it */
    uint32_t *at;   /* per node: next of dep to visit */
    uint8_t *state; /* 0 new, 1 on the path, 2 done */
    U32s path, out;
} Order;
typedef struct Hidden {
    const StrMap *local;
    const struct Hidden *up;
} Hidden;

static void depend(Order *o, const char *name, const Hidden *h, U32s *dep) {
    uint32_t d = strmap_get(&o->def, name);
    for (; d && h; h = h->up)
        if (strmap_get(h->local, name)) return;
    if (d) vec_push(o->s->c, dep, d - 1);
}

/* Nodes that define what a node's subgraphs use without defining it themselves. */
static void depend_graph(Order *o, const Onnx__GraphProto *g, const Hidden *up, U32s *dep) {
    StrMap local = {.c = o->s->c};
    Hidden h = {&local, up};
    for (size_t i = 0; i < g->n_input; i++) strmap_put(&local, str(g->input[i]->name), 1);
    for (size_t i = 0; i < g->n_initializer; i++)
        strmap_put(&local, str(g->initializer[i]->name), 1);
    for (size_t i = 0; i < g->n_node; i++)
        for (size_t j = 0; j < g->node[i]->n_output; j++)
            strmap_put(&local, g->node[i]->output[j], 1);
    for (size_t i = 0; i < g->n_output; i++) depend(o, str(g->output[i]->name), &h, dep);
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto *n = g->node[i];
        for (size_t j = 0; j < n->n_input; j++) depend(o, n->input[j], &h, dep);
        for (size_t j = 0; j < n->n_attribute; j++) {
            if (n->attribute[j]->g) depend_graph(o, n->attribute[j]->g, &h, dep);
            for (size_t k = 0; k < n->attribute[j]->n_graphs; k++)
                depend_graph(o, n->attribute[j]->graphs[k], &h, dep);
        }
    }
}

static void visit(Order *o, uint32_t i) {
    const Onnx__NodeProto *n = o->node[i];
    o->state[i] = 1;
    for (size_t j = 0; j < n->n_input; j++) depend(o, n->input[j], NULL, &o->dep[i]);
    for (size_t j = 0; j < n->n_attribute; j++) {
        if (n->attribute[j]->g) depend_graph(o, n->attribute[j]->g, NULL, &o->dep[i]);
        for (size_t k = 0; k < n->attribute[j]->n_graphs; k++)
            depend_graph(o, n->attribute[j]->graphs[k], NULL, &o->dep[i]);
    }
    vec_push(o->s->c, &o->path, i);
}

static void report_cycle(Order *o, uint32_t back) {
    Buf b = {.c = o->s->c};
    uint32_t from = o->path.n, shown = 0;
    while (o->path.v[from - 1] != back) from--;
    /* The path runs from user to definition; data flows the other way. */
    for (uint32_t i = o->path.n; i >= from && shown < CYCLE_SHOWN; i--, shown++) {
        const Onnx__NodeProto *n = o->node[o->path.v[i - 1]];
        const char *quote = *str(n->name) ? "\"" : "";
        buf_printf(&b, "#%u %s%s%s%s(%s) -> ", o->path.v[i - 1], quote, str(n->name), quote,
                   *quote ? " " : "", str(n->op_type));
    }
    if (o->path.n - from + 1 > shown) buf_puts(&b, "... -> ");
    buf_printf(&b, "#%u", o->path.v[o->path.n - 1]);
    diag(o->s->c, SEV_ERROR, node_loc(o->s, o->env, o->node[back], back, 0), "E0154",
         "the graph has a cycle: %s", buf_str(&b));
}

/* Depth first in the order of the file: a file that is in order keeps it. false after a message
 * about a cycle. */
static bool sort_nodes(Order *o) {
    Ctx *c = o->s->c;
    o->def.c = c;
    o->dep = NEWN(c, U32s, o->n + 1);
    o->at = NEWN(c, uint32_t, o->n + 1);
    o->state = NEWN(c, uint8_t, o->n + 1);
    for (size_t i = 0; i < o->n; i++)
        for (size_t j = 0; j < o->node[i]->n_output; j++)
            if (*o->node[i]->output[j] && !strmap_get(&o->scope->map, o->node[i]->output[j]))
                strmap_put(&o->def, o->node[i]->output[j], (uint32_t)i + 1);
    for (uint32_t root = 0; root < o->n; root++) {
        if (!o->state[root]) visit(o, root);
        while (o->path.n) {
            uint32_t i = o->path.v[o->path.n - 1];
            if (o->at[i] == o->dep[i].n) {
                o->state[i] = 2;
                o->path.n--;
                vec_push(c, &o->out, i);
                continue;
            }
            uint32_t d = o->dep[i].v[o->at[i]++];
            if (o->state[d] == 1) {
                report_cycle(o, d);
                return false;
            }
            if (!o->state[d]) visit(o, d);
        }
    }
    return true;
}

/* ---- attributes ---- */

/* The value of attribute `name` of the call that env expands; p == NULL: neither given nor
 * defaulted. */
static AttrValue env_attr(const Env *env, const char *name) {
    for (;;) {
        const Onnx__AttributeProto *a = NULL;
        for (size_t i = 0; i < env->call->n_attribute && !a; i++)
            if (!strcmp(str(env->call->attribute[i]->name), name)) a = env->call->attribute[i];
        if (!a) {
            for (size_t i = 0; i < env->fn->n_attribute_proto; i++)
                if (!strcmp(str(env->fn->attribute_proto[i]->name), name))
                    return (AttrValue){env->fn->attribute_proto[i], env, NULL};
            return (AttrValue){0};
        }
        if (!*str(a->ref_attr_name)) return (AttrValue){a, env->caller, env->scope};
        name = a->ref_attr_name;
        env = env->caller;
        if (!env->caller) return (AttrValue){0};
    }
}

static Onnx__AttributeProto__AttributeType deduce_type(const Onnx__AttributeProto *a) {
    /* clang-format off */
    return a->has_f              ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT
           : a->has_i            ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT
           : a->has_s            ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING
           : a->t                ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR
           : a->g                ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH
           : a->sparse_tensor    ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR
           : a->tp               ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO
           : a->n_floats         ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS
           : a->n_ints           ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS
           : a->n_strings        ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS
           : a->n_tensors        ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSORS
           : a->n_graphs         ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPHS
           : a->n_sparse_tensors ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSORS
           : a->n_type_protos    ? ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTOS
                                 : ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED;
    /* clang-format on */
}

/* Is the member that the type names there? (Lists may be empty.) */
static bool attr_complete(const Onnx__AttributeProto *a) {
    /* clang-format off */
    switch (a->type) {
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR: return a->t;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH: return a->g;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR: return a->sparse_tensor;
    case ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO: return a->tp;
    default: return a->type > ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED &&
                    a->type <= ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTOS;
    }
    /* clang-format on */
}

static SrcGraph *build_graph(Src *s, const Onnx__GraphProto *p, SrcGraph *outer, Scope *scope,
                             const Env *env);

static void read_attrs(Src *s, SrcGraph *g, Scope *sc, const Env *env, const Onnx__NodeProto *n,
                       SrcNode *node) {
    if (n->n_attribute > MAX_ATTRS) {
        diag(s->c, SEV_ERROR, node->loc, "E0150", "%zu attributes, the limit is %d", n->n_attribute,
             MAX_ATTRS);
        return;
    }
    SrcAttr *attr = NEWN(s->c, SrcAttr, n->n_attribute + 1);
    for (size_t i = 0; i < n->n_attribute; i++) {
        AttrValue v = {n->attribute[i], env, sc};
        const char *name = str(v.p->name), *ref = str(v.p->ref_attr_name);
        bool twice = false;
        for (size_t j = 0; j < i && !twice; j++) twice = !strcmp(name, str(n->attribute[j]->name));
        if (twice || !*name) {
            diag(s->c, SEV_ERROR, node->loc, "E0150",
                 twice ? "attribute \"%s\" occurs twice" : "an attribute has no name%s", name);
            continue;
        }
        if (*ref) {
            if (!env->caller) {
                diag(s->c, SEV_ERROR, node->loc, "E0151",
                     "attribute \"%s\" refers to \"%s\", but the node is not in a function", name,
                     ref);
                continue;
            }
            v = env_attr(env, ref);
            if (!v.p) continue; /* not given by the caller: the operator's own default applies */
        }
        Onnx__AttributeProto *p = (Onnx__AttributeProto *)(uintptr_t)v.p;
        if (!p->has_type || p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__UNDEFINED)
            p->type = deduce_type(p);
        if (!attr_complete(p)) {
            diag(s->c, SEV_ERROR, node->loc, "E0151",
                 "attribute \"%s\" has no value, or one of unknown type", name);
            continue;
        }
        SrcAttr *a = &attr[node->nattr++];
        *a = (SrcAttr){.name = ctx_str(s->c, name), .p = p};
        bool one = p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH;
        if (!one && p->type != ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPHS) continue;
        a->ngraph = one ? 1 : (uint32_t)p->n_graphs;
        a->graph = NEWN(s->c, SrcGraph *, a->ngraph + 1);
        for (uint32_t j = 0; j < a->ngraph; j++)
            a->graph[j] = build_graph(s, one ? p->g : p->graphs[j], g, v.scope, v.env);
    }
    node->attr = attr;
}

/* ---- nodes ---- */

static bool build_nodes(Src *s, SrcGraph *g, Scope *sc, const Env *env,
                        Onnx__NodeProto *const *node, size_t n);

static const char *read_use(Src *s, SrcGraph *g, const Scope *sc, const char *name, Loc loc,
                            const char *what) {
    if (!*name) return "";
    const Bind *b = scope_find(sc, name);
    if (b) return use(s, g, b);
    diag(s->c, SEV_ERROR, loc, "E0155",
         "%s \"%s\" is not defined: no input, initialiser or node output has this name", what,
         name);
    return "";
}

static const Onnx__FunctionProto *find_function(Src *s, const char *domain, const char *op,
                                                const char *overload) {
    if (!s->fn.n) return NULL;
    uint32_t i = strmap_get(&s->fn, ctx_printf(s->c, "%s\1%s\1%s", domain, op, overload));
    return i ? s->m->proto->functions[i - 1] : NULL;
}

/* A call that is wrong: its results count as defined, so that nobody complains about them. */
static void define_results(Src *s, SrcGraph *g, Scope *sc, const Env *env, const Onnx__NodeProto *n,
                           Loc loc) {
    for (size_t i = 0; i < n->n_output; i++)
        if (*n->output[i]) define(s, g, sc, env, n->output[i], loc, "output");
}

static bool callable(Src *s, const Env *env, const Onnx__NodeProto *n, const Onnx__FunctionProto *f,
                     Loc loc) {
    Ctx *c = s->c;
    const char *name = str(f->name);
    for (const Env *e = env; e->caller; e = e->caller)
        if (e->fn == f || e->depth >= MAX_CALLS) {
            diag(c, SEV_ERROR, loc, "E0156", "function \"%s\" %s", name,
                 e->fn == f ? "calls itself" : "is nested too deeply in calls");
            return false;
        }
    if (n->n_input > f->n_input || n->n_output > f->n_output)
        diag(c, SEV_ERROR, loc, "E0157",
             "function \"%s\" has %zu inputs and %zu outputs, the call has %zu and %zu", name,
             f->n_input, f->n_output, n->n_input, n->n_output);
    else if (n->n_attribute > MAX_ATTRS || f->n_attribute_proto > MAX_ATTRS)
        diag(c, SEV_ERROR, loc, "E0150", "function \"%s\" or its call has more than %d attributes",
             name, MAX_ATTRS);
    else
        return true;
    return false;
}

/* Emits the body of f with its operands bound to the caller's values; then binds the caller's
 * results. */
static void expand(Src *s, SrcGraph *g, Scope *sc, const Env *env, const Onnx__NodeProto *n,
                   size_t index, const Onnx__FunctionProto *f, Loc loc) {
    Ctx *c = s->c;
    if (!callable(s, env, n, f, loc)) {
        define_results(s, g, sc, env, n, loc);
        return;
    }
    const char *node_name = *str(n->name) ? n->name : str(f->name);
    node_name = env->caller ? ctx_printf(c, "%s/%s", env->node_name, node_name)
                            : ctx_printf(c, "%s", node_name);
    Env in = {.caller = env,
              .version = {.c = c},
              .fn = f,
              .call = n,
              .scope = sc,
              .node_name = node_name,
              .prefix = ctx_printf(c, "%s@%u/", str(f->name), s->calls++),
              .node = env->caller ? env->node : (int32_t)index,
              .depth = env->depth + 1};
    read_opsets(s, f->n_opset_import, f->opset_import, str(f->name), &in.version);
    Scope *body = NEW(c, Scope);
    body->map.c = body->alias.c = c;
    for (size_t i = 0; i < f->n_input; i++) {
        const char *actual = i < n->n_input ? n->input[i] : "";
        const Bind *b = *actual ? scope_find(sc, actual) : NULL;
        if (*actual && !b) read_use(s, g, sc, actual, loc, "input");
        if (strmap_get(&body->map, f->input[i]))
            diag(c, SEV_ERROR, loc, "E0153", "function \"%s\" has two inputs \"%s\"", str(f->name),
                 f->input[i]);
        scope_put(s, body, f->input[i], b ? b->name : "", b ? b->owner : NULL);
    }
    const char **result = NEWN(c, const char *, f->n_output + 1);
    for (size_t i = 0; i < f->n_output; i++) {
        result[i] = i < n->n_output && *n->output[i] ? fresh_name(s, sc, env, n->output[i]) : "";
        if (!strmap_get(&body->alias, f->output[i]))
            strmap_put(&body->alias, f->output[i], (uint32_t)i + 1);
    }
    body->result = result;
    bool complete = build_nodes(s, g, body, &in, f->node, f->n_node);
    for (size_t i = 0; i < n->n_output; i++) {
        if (!*n->output[i]) continue;
        const char *as = define(s, g, sc, env, n->output[i], loc, "output");
        const Bind *b = scope_find(body, f->output[i]);
        if (!b || !*b->name) {
            if (complete)
                diag(c, SEV_ERROR, loc, "E0155",
                     "output \"%s\" of function \"%s\" is not defined in it", f->output[i],
                     str(f->name));
        } else if (b->name != as) { /* an input handed through, or a result named twice */
            const char **io = NEWN(c, const char *, 2);
            io[0] = use(s, g, b);
            io[1] = as;
            uint32_t v = strmap_get(&env->version, "");
            SrcNode id = {.domain = ctx_str(c, ""),
                          .op = ctx_str(c, "Identity"),
                          .name = ctx_str(c, node_name),
                          .version = v ? (int32_t)v : 16,
                          .loc = loc,
                          .nin = 1,
                          .nout = 1,
                          .in = io,
                          .out = io + 1};
            vec_push(c, &g->node, id);
        }
    }
}

static void build_node(Src *s, SrcGraph *g, Scope *sc, const Env *env, const Onnx__NodeProto *n,
                       size_t index) {
    Ctx *c = s->c;
    const char *domain = domain_of(n->domain), *op = str(n->op_type);
    uint32_t version = strmap_get(&env->version, domain);
    Loc loc = node_loc(s, env, n, index, (int32_t)version);
    const Onnx__FunctionProto *f = find_function(s, domain, op, str(n->overload));
    if (f) {
        expand(s, g, sc, env, n, index, f, loc);
        return;
    }
    if (!*op)
        diag(c, SEV_ERROR, loc, "E0159", "the node has no operator");
    else if (!version)
        diag(c, SEV_ERROR, loc, "E0141", "domain \"%s\" is not in the opset_import of the %s",
             shown(domain), env->caller ? "function" : "model");
    SrcNode node = {.domain = ctx_str(c, domain),
                    .op = ctx_str(c, op),
                    .name = ctx_str(c, str(n->name)),
                    .version = (int32_t)version,
                    .loc = loc,
                    .nin = (uint32_t)n->n_input,
                    .nout = (uint32_t)n->n_output};
    node.in = NEWN(c, const char *, n->n_input + n->n_output + 1);
    node.out = node.in + n->n_input;
    for (size_t i = 0; i < n->n_input; i++)
        node.in[i] = ctx_str(c, read_use(s, g, sc, n->input[i], loc, "input"));
    read_attrs(s, g, sc, env, n, &node);
    for (size_t i = 0; i < n->n_output; i++)
        node.out[i] =
            *n->output[i] ? define(s, g, sc, env, n->output[i], loc, "output") : ctx_str(c, "");
    vec_push(c, &g->node, node);
}

/* false after a message that makes later ones about undefined names worthless. */
static bool build_nodes(Src *s, SrcGraph *g, Scope *sc, const Env *env,
                        Onnx__NodeProto *const *node, size_t n) {
    Order o = {.s = s, .env = env, .scope = sc, .node = node, .n = n};
    if (s->nodes + n > s->limit) {
        if (s->nodes <= s->limit)
            diag(s->c, SEV_ERROR, model_loc(s->m, g->name), "E0158",
                 "the model's functions expand to more than %llu nodes",
                 (unsigned long long)s->limit);
        s->nodes = s->limit + 1;
        return false;
    }
    s->nodes += n;
    if (!sort_nodes(&o)) return false;
    for (uint32_t i = 0; i < o.out.n; i++) build_node(s, g, sc, env, node[o.out.v[i]], o.out.v[i]);
    return true;
}

/* ---- graphs ---- */

static void read_inits(Src *s, SrcGraph *g, Scope *sc, const Env *env, const Onnx__GraphProto *p,
                       Loc loc, StrMap *seen) {
    for (size_t i = 0; i < p->n_initializer + p->n_sparse_initializer; i++) {
        SrcInit in = {0};
        const char *name;
        if (i < p->n_initializer) {
            in.dense = p->initializer[i];
            name = str(in.dense->name);
        } else {
            in.sparse = p->sparse_initializer[i - p->n_initializer];
            name = in.sparse->values ? str(in.sparse->values->name) : "";
        }
        in.name = define(s, g, sc, env, name, loc, "initialiser");
        strmap_put(seen, name, 1);
        vec_push(s->c, &g->init, in);
    }
}

static SrcGraph *build_graph(Src *s, const Onnx__GraphProto *p, SrcGraph *outer, Scope *scope,
                             const Env *env) {
    Ctx *c = s->c;
    SrcGraph *g = NEW(c, SrcGraph);
    Scope *sc = NEW(c, Scope);
    Loc loc = model_loc(s->m, outer ? str(p->name) : NULL);
    StrMap seen = {.c = c}, outputs = {.c = c};
    g->captured.c = sc->map.c = sc->alias.c = c;
    g->name = ctx_str(c, str(p->name));
    g->outer = outer;
    sc->outer = scope;
    if (s->depth >= MAX_DEPTH) {
        diag(c, SEV_ERROR, loc, "E0158", "graphs are nested more than %d deep", MAX_DEPTH);
        return g;
    }
    s->depth++;
    read_inits(s, g, sc, env, p, loc, &seen);
    for (size_t i = 0; i < p->n_input; i++) {
        const char *name = str(p->input[i]->name);
        if (strmap_get(&seen, name) == 1) { /* a default: the initialiser is the value */
            strmap_put(&seen, name, 2);
            continue;
        }
        SrcValue v = {define(s, g, sc, env, name, loc, "input"), p->input[i]->type};
        vec_push(c, &g->in, v);
    }
    bool complete = build_nodes(s, g, sc, env, p->node, p->n_node);
    for (size_t i = 0; i < p->n_output && complete; i++) {
        const char *name = str(p->output[i]->name);
        if (!*name)
            diag(c, SEV_ERROR, loc, "E0152", "output %zu has no name", i);
        else if (!outer && strmap_get(&outputs, name))
            diag(c, SEV_ERROR, loc, "E0153", "two outputs are named \"%s\"", name);
        strmap_put(&outputs, name, 1);
        SrcValue v = {ctx_str(c, read_use(s, g, sc, name, loc, "output")), p->output[i]->type};
        vec_push(c, &g->out, v);
    }
    for (size_t i = 0; i < p->n_value_info; i++) {
        uint32_t k = strmap_get(&sc->map, str(p->value_info[i]->name));
        SrcValue v = {k ? sc->bind.v[k - 1].name : NULL, p->value_info[i]->type};
        if (k) vec_push(c, &g->info, v);
    }
    s->depth--;
    return g;
}

const Onnx__TypeProto *source_info(const SrcGraph *g, const char *name) {
    for (uint32_t i = 0; i < g->info.n; i++)
        if (!strcmp(g->info.v[i].name, name)) return g->info.v[i].type;
    return NULL;
}

SrcGraph *source_build(Model *m) {
    const Onnx__ModelProto *p = m->proto;
    Src s = {.m = m, .c = m->c, .fn = {.c = m->c}, .limit = MIN_NODE_LIMIT};
    Env top = {.version = {.c = m->c}};
    uint32_t errors = ctx_errors(m->c);
    s.limit += p->graph->n_node;
    read_opsets(&s, p->n_opset_import, p->opset_import, NULL, &top.version);
    for (size_t i = 0; i < p->n_functions; i++) {
        const Onnx__FunctionProto *f = p->functions[i];
        const char *key =
            ctx_printf(m->c, "%s\1%s\1%s", domain_of(f->domain), str(f->name), str(f->overload));
        if (strmap_get(&s.fn, key))
            diag(m->c, SEV_ERROR, model_loc(m, NULL), "E0153",
                 "function \"%s\" of domain \"%s\" is defined twice", str(f->name),
                 shown(domain_of(f->domain)));
        strmap_put(&s.fn, key, (uint32_t)i + 1);
    }
    SrcGraph *g = build_graph(&s, p->graph, NULL, NULL, &top);
    if (!g->out.n && ctx_errors(m->c) == errors)
        diag(m->c, SEV_ERROR, model_loc(m, NULL), "E0152", "the graph has no outputs");
    return ctx_errors(m->c) == errors ? g : NULL;
}
