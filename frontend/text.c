/* text.c: the ONNX textual syntax (that of onnx.parser) -> the same protobuf structs that a binary
 * file gives. model:    [< ir_version: 8, opset_import: ["" : 18] >] graph function* graph:    name
 * (type x [= value], ...) => (type y, ...) [< value_info or initialisers >] { node* } node:     [
 * "[" name "]" ] y, z = [domain.]Op[:overload] [<attributes>] (a, b) [<attributes>] function: [<
 * domain: "d", opset_import: [...] >] name [<attributes>] (a, b) => (y) [< value_info >] { node* }
 * Attributes are `name [: type] = value`, values numbers, strings, lists, `@reference`, tensors
 * `float[2] {1, 2}`, types and graphs. */
#include "frontend/internal.h"
#include "frontend/text_lex.h"
#include <string.h>

enum { MAX_NESTING = 64, SNIFF_BYTES = 1 << 16 };

/* Arrays grow by doubling whenever their length is a power of two, so that no capacity needs to be
 * kept. */
static void *grow(Ctx *c, void *v, size_t n, size_t elem) {
    if (n & (n - 1)) return v;
    void *to = ctx_alloc(c, (n ? 2 * n : 1) * elem);
    if (n) memcpy(to, v, n * elem);
    return to;
}
#define ADD(t, msg, field, value)                                                                  \
    ((msg)->field = grow((t)->c, (msg)->field, (msg)->n_##field, sizeof *(msg)->field),            \
     (void)((msg)->field[(msg)->n_##field++] = (value)))
#define MESSAGE(T, lower)                                                                          \
    static T *new_##lower(Text *t) {                                                               \
        T *m = NEW(t->c, T);                                                                       \
        onnx__##lower##__init(m);                                                                  \
        return m;                                                                                  \
    }
MESSAGE(Onnx__ModelProto, model_proto)
MESSAGE(Onnx__GraphProto, graph_proto)
MESSAGE(Onnx__FunctionProto, function_proto)
MESSAGE(Onnx__NodeProto, node_proto)
MESSAGE(Onnx__AttributeProto, attribute_proto)
MESSAGE(Onnx__TensorProto, tensor_proto)
MESSAGE(Onnx__TypeProto, type_proto)
MESSAGE(Onnx__TypeProto__Tensor, type_proto__tensor)
MESSAGE(Onnx__TypeProto__SparseTensor, type_proto__sparse_tensor)
MESSAGE(Onnx__TypeProto__Sequence, type_proto__sequence)
MESSAGE(Onnx__TypeProto__Optional, type_proto__optional)
MESSAGE(Onnx__TypeProto__Map, type_proto__map)
MESSAGE(Onnx__TensorShapeProto, tensor_shape_proto)
MESSAGE(Onnx__TensorShapeProto__Dimension, tensor_shape_proto__dimension)
MESSAGE(Onnx__ValueInfoProto, value_info_proto)
MESSAGE(Onnx__OperatorSetIdProto, operator_set_id_proto)
MESSAGE(Onnx__StringStringEntryProto, string_string_entry_proto)

static char *own(const char *s) {
    return (char *)(uintptr_t)s;
} /* protobuf-c's strings are not const */

static bool enter(Text *t) {
    if (++t->depth > MAX_NESTING) text_fail(t, "nested more than %d deep", MAX_NESTING);
    return !t->failed;
}

/* ---- types ---- */

typedef struct NameInt {
    const char *name;
    int value;
} NameInt;
/* clang-format off */
static const NameInt elem_types[] = {
    {"float", 1},           {"uint8", 2},           {"int8", 3},            {"uint16", 4},
    {"int16", 5},           {"int32", 6},           {"int64", 7},           {"string", 8},
    {"bool", 9},            {"float16", 10},        {"double", 11},         {"uint32", 12},
    {"uint64", 13},         {"complex64", 14},      {"complex128", 15},     {"bfloat16", 16},
    {"float8e4m3fn", 17},   {"float8e4m3fnuz", 18}, {"float8e5m2", 19},     {"float8e5m2fnuz", 20},
    {"uint4", 21},          {"int4", 22},           {"float4e2m1", 23},     {"float8e8m0", 24},
    {"uint2", 25},          {"int2", 26},           {NULL, 0},
};
/* clang-format on */
enum { KW_SEQ = 1, KW_MAP, KW_OPTIONAL, KW_SPARSE };
/* clang-format off */
static const NameInt type_words[] = {
    {"seq", KW_SEQ},              {"map", KW_MAP},              {"optional", KW_OPTIONAL},
    {"sparse_tensor", KW_SPARSE}, {NULL, 0},
};
/* clang-format on */
static int lookup(const NameInt *table, const char *name) {
    for (; table->name; table++)
        if (!strcmp(table->name, name)) return table->value;
    return 0;
}

static bool next_is_type(Text *t) {
    const char *w = text_peek_word(t);
    return lookup(elem_types, w) || lookup(type_words, w);
}

/* Nothing: a scalar; []: unknown rank (NULL); [dims]. */
static Onnx__TensorShapeProto *read_shape(Text *t) {
    Onnx__TensorShapeProto *s = new_tensor_shape_proto(t);
    if (!text_accept(t, '[')) return s;
    if (text_accept(t, ']')) return NULL;
    do {
        Onnx__TensorShapeProto__Dimension *d = new_tensor_shape_proto__dimension(t);
        const char *w = "";
        ADD(t, s, dim, d);
        if (text_accept(t, '?')) continue;
        w = text_word(t);
        d->value_case = *w ? ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM
                           : ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        if (*w)
            d->dim_param = own(w);
        else
            d->dim_value = text_int(t);
    } while (text_accept(t, ','));
    text_expect(t, ']');
    return s;
}

static Onnx__TypeProto *read_type(Text *t) {
    Onnx__TypeProto *ty = new_type_proto(t);
    const char *w = text_word(t);
    int elem = lookup(elem_types, w), kw = lookup(type_words, w);
    if (!enter(t)) return ty;
    if (elem) {
        ty->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
        ty->tensor_type = new_type_proto__tensor(t);
        ty->tensor_type->has_elem_type = true;
        ty->tensor_type->elem_type = elem;
        ty->tensor_type->shape = read_shape(t);
    } else if (kw == KW_SEQ) {
        ty->value_case = ONNX__TYPE_PROTO__VALUE_SEQUENCE_TYPE;
        ty->sequence_type = new_type_proto__sequence(t);
        text_expect(t, '(');
        ty->sequence_type->elem_type = read_type(t);
        text_expect(t, ')');
    } else if (kw == KW_OPTIONAL) {
        ty->value_case = ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE;
        ty->optional_type = new_type_proto__optional(t);
        text_expect(t, '(');
        ty->optional_type->elem_type = read_type(t);
        text_expect(t, ')');
    } else if (kw == KW_MAP) {
        ty->value_case = ONNX__TYPE_PROTO__VALUE_MAP_TYPE;
        ty->map_type = new_type_proto__map(t);
        text_expect(t, '(');
        ty->map_type->has_key_type = true;
        ty->map_type->key_type = lookup(elem_types, text_word(t));
        if (!ty->map_type->key_type) text_fail(t, "expected an element type as the key of a map");
        text_expect(t, ',');
        ty->map_type->value_type = read_type(t);
        text_expect(t, ')');
    } else if (kw == KW_SPARSE) {
        ty->value_case = ONNX__TYPE_PROTO__VALUE_SPARSE_TENSOR_TYPE;
        ty->sparse_tensor_type = new_type_proto__sparse_tensor(t);
        text_expect(t, '(');
        ty->sparse_tensor_type->has_elem_type = true;
        ty->sparse_tensor_type->elem_type = lookup(elem_types, text_word(t));
        if (!ty->sparse_tensor_type->elem_type) text_fail(t, "expected an element type");
        ty->sparse_tensor_type->shape = read_shape(t);
        text_expect(t, ')');
    } else {
        text_fail(t, *w ? "\"%s\" is not a type" : "expected a type%s", w);
    }
    t->depth--;
    return ty;
}

/* ---- tensors ---- */

static void read_element(Text *t, Onnx__TensorProto *p) {
    Literal l = text_literal(t);
    bool number = l.kind == LIT_INT || l.kind == LIT_FLOAT;
    bool fits = false;
    switch (p->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
        fits = l.kind == LIT_INT && !l.big;
        ADD(t, p, int64_data, l.i);
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT32:
    case ONNX__TENSOR_PROTO__DATA_TYPE__UINT64:
        fits = l.kind == LIT_INT && (l.big || l.i >= 0) &&
               (p->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__UINT64 ||
                (!l.big && l.i <= UINT32_MAX));
        ADD(t, p, uint64_data, (uint64_t)l.i);
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
    case ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64:
        fits = number;
        ADD(t, p, float_data, (float)l.f);
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
    case ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX128:
        fits = number;
        ADD(t, p, double_data, l.f);
        break;
    case ONNX__TENSOR_PROTO__DATA_TYPE__STRING: {
        ProtobufCBinaryData s = {l.n, (uint8_t *)own(l.s)};
        fits = l.kind == LIT_STRING;
        ADD(t, p, string_data, s);
        break;
    }
    default:
        fits = l.kind == LIT_INT && !l.big && l.i >= INT32_MIN && l.i <= INT32_MAX;
        ADD(t, p, int32_data, (int32_t)l.i);
    }
    if (!fits) text_fail(t, "this value does not fit the tensor's element type");
}

static void read_pairs(Text *t, size_t *n, Onnx__StringStringEntryProto ***list) {
    struct {
        size_t n_pair;
        Onnx__StringStringEntryProto **pair;
    } v = {0};
    do {
        Onnx__StringStringEntryProto *e = new_string_string_entry_proto(t);
        e->key = own(text_string(t));
        text_expect(t, ':');
        e->value = own(text_string(t));
        ADD(t, &v, pair, e);
    } while (text_accept(t, ','));
    *n = v.n_pair;
    *list = v.pair;
}

/* The value after `type name =`: elements in braces, or external data in brackets. */
static Onnx__TensorProto *read_tensor(Text *t, const Onnx__TypeProto *ty, const char *name) {
    Onnx__TensorProto *p = new_tensor_proto(t);
    p->name = own(name);
    if (!ty || ty->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE || !ty->tensor_type->shape) {
        text_fail(t, "a tensor value needs an element type and a shape");
        return p;
    }
    p->has_data_type = true;
    p->data_type = ty->tensor_type->elem_type;
    for (size_t i = 0; i < ty->tensor_type->shape->n_dim; i++) {
        const Onnx__TensorShapeProto__Dimension *d = ty->tensor_type->shape->dim[i];
        if (d->value_case != ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE)
            text_fail(t, "the dims of a tensor value must be numbers");
        ADD(t, p, dims, d->dim_value);
    }
    if (text_accept(t, '{')) {
        if (text_accept(t, '}')) return p;
        do read_element(t, p);
        while (text_accept(t, ','));
        text_expect(t, '}');
    } else if (text_accept(t, '[')) {
        p->has_data_location = true;
        p->data_location = ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
        read_pairs(t, &p->n_external_data, &p->external_data);
        text_expect(t, ']');
    }
    return p;
}

/* ---- attributes ---- */

enum {
    AT_FLOAT = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT,
    AT_INT = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT,
    AT_STRING = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING,
    AT_TENSOR = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR,
    AT_GRAPH = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH,
    AT_TYPE = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO,
    AT_SPARSE = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR
};
/* clang-format off */
static const struct { const char *one, *many; int one_type, many_type; } attr_types[] = {
    {"float", "floats", AT_FLOAT, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS},
    {"int", "ints", AT_INT, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS},
    {"string", "strings", AT_STRING, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS},
    {"tensor", "tensors", AT_TENSOR, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSORS},
    {"graph", "graphs", AT_GRAPH, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPHS},
    {"sparse_tensor", "sparse_tensors", AT_SPARSE,
     ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSORS},
    {"type_proto", "type_protos", AT_TYPE, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTOS},
};
/* clang-format on */
static Onnx__GraphProto *read_graph(Text *t);

static void set_type(Onnx__AttributeProto *a, int type) {
    a->has_type = true;
    a->type = (Onnx__AttributeProto__AttributeType)type;
}

static void read_single(Text *t, Onnx__AttributeProto *a) {
    char c = text_peek(t);
    if (text_accept(t, '@')) {
        a->ref_attr_name = own(text_name(t, NULL));
    } else if (next_is_type(t)) {
        Onnx__TypeProto *ty = read_type(t);
        c = text_peek(t);
        if (c == '{' || c == '=' || c == '"' || *text_peek_word(t)) {
            const char *name = text_name(t, &(bool){false});
            text_accept(t, '=');
            set_type(a, AT_TENSOR);
            a->t = read_tensor(t, ty, name);
        } else {
            set_type(a, AT_TYPE);
            a->tp = ty;
        }
    } else if (*text_peek_word(t) && !text_float_word(text_peek_word(t))) {
        set_type(a, AT_GRAPH);
        a->g = read_graph(t);
    } else {
        Literal l = text_literal(t);
        if (l.kind == LIT_STRING) {
            set_type(a, AT_STRING);
            a->has_s = true;
            a->s = (ProtobufCBinaryData){l.n, (uint8_t *)own(l.s)};
        } else if (l.kind == LIT_FLOAT) {
            set_type(a, AT_FLOAT);
            a->has_f = true;
            a->f = (float)l.f;
        } else {
            if (l.big) text_fail(t, "the integer does not fit int64");
            set_type(a, AT_INT);
            a->has_i = true;
            a->i = l.i;
        }
    }
}

/* `want`: the declared type of a single value, 0 if none. An integer stands for a float where one
 * is wanted. */
static void check_single(Text *t, Onnx__AttributeProto *a, int want) {
    if (a->ref_attr_name && *a->ref_attr_name) {
        if (want) set_type(a, want);
        return;
    }
    if (want == AT_FLOAT && (int)a->type == AT_INT) {
        set_type(a, AT_FLOAT);
        a->has_f = true;
        a->f = (float)a->i;
        a->has_i = false;
        a->i = 0;
    } else if (want && (int)a->type != want) {
        text_fail(t, "the value is not of the attribute's declared type");
    }
}

static void append(Text *t, Onnx__AttributeProto *to, const Onnx__AttributeProto *v) {
    switch ((int)v->type) {
    case AT_FLOAT:
        ADD(t, to, floats, v->f);
        break;
    case AT_INT:
        ADD(t, to, ints, v->i);
        break;
    case AT_STRING:
        ADD(t, to, strings, v->s);
        break;
    case AT_TENSOR:
        ADD(t, to, tensors, v->t);
        break;
    case AT_GRAPH:
        ADD(t, to, graphs, v->g);
        break;
    case AT_TYPE:
        ADD(t, to, type_protos, v->tp);
        break;
    default:
        text_fail(t, "this value cannot be in a list");
    }
}

static void read_list(Text *t, Onnx__AttributeProto *a, int want) {
    Onnx__AttributeProto v;
    int type = want;
    text_expect(t, '[');
    if (text_accept(t, ']')) {
        if (!a->has_type) text_fail(t, "an empty list needs a type: name: ints = []");
        return;
    }
    do {
        onnx__attribute_proto__init(&v);
        read_single(t, &v);
        if (type == AT_INT && !want &&
            (int)v.type == AT_FLOAT) { /* [1, 2.5]: what came before were floats */
            for (size_t i = 0; i < a->n_ints; i++) ADD(t, a, floats, (float)a->ints[i]);
            a->n_ints = 0;
            type = AT_FLOAT;
        }
        type = type ? type : (int)v.type;
        check_single(t, &v, type);
        if (!t->failed) append(t, a, &v);
    } while (text_accept(t, ','));
    text_expect(t, ']');
    for (size_t i = 0; i < sizeof attr_types / sizeof *attr_types; i++)
        if (attr_types[i].one_type == type) set_type(a, attr_types[i].many_type);
}

/* From after the name: [: type] = value. */
static Onnx__AttributeProto *read_attribute(Text *t, const char *name) {
    Onnx__AttributeProto *a = new_attribute_proto(t);
    int one = 0, many = 0;
    a->name = own(name);
    if (text_accept(t, ':')) {
        const char *w = text_word(t);
        for (size_t i = 0; i < sizeof attr_types / sizeof *attr_types; i++) {
            if (!strcmp(attr_types[i].one, w)) one = attr_types[i].one_type;
            if (!strcmp(attr_types[i].many, w)) {
                many = attr_types[i].many_type;
                one = attr_types[i].one_type;
            }
        }
        if (!one) text_fail(t, "\"%s\" is not a type of attributes", w);
        set_type(a, many ? many : one);
    }
    text_expect(t, '=');
    if (text_peek(t) == '[') {
        if (one && !many) text_fail(t, "a list where the attribute's type is a single value");
        read_list(t, a, one);
    } else {
        read_single(t, a);
        check_single(t, a, many ? many : one);
    }
    return a;
}

static void read_attributes(Text *t, Onnx__NodeProto *n) {
    if (!text_accept(t, '<')) return;
    do ADD(t, n, attribute, read_attribute(t, text_name(t, NULL)));
    while (text_accept(t, ','));
    text_expect(t, '>');
}

/* ---- nodes ---- */

/* Names separated by commas; an empty one is absent: `,x`, `"", x`. A comma at the end adds
 * nothing. */
static char **read_names(Text *t, size_t *n) {
    struct {
        size_t n_name;
        char **name;
    } v = {0};
    bool found;
    do {
        const char *s = text_name(t, &found);
        if (!found && text_peek(t) != ',') break;
        ADD(t, &v, name, own(s));
    } while (text_accept(t, ','));
    *n = v.n_name;
    return v.name;
}

static Onnx__NodeProto *read_node(Text *t) {
    Onnx__NodeProto *n = new_node_proto(t);
    if (text_accept(t, '[')) {
        n->name = own(text_name(t, &(bool){false}));
        text_expect(t, ']');
    }
    n->output = read_names(t, &n->n_output);
    text_expect(t, '=');
    const char *domain = "", *op = text_word(t);
    while (text_accept(t, '.')) {
        domain = *domain ? ctx_printf(t->c, "%s.%s", domain, op) : op;
        op = text_word(t);
    }
    if (!*op) text_fail(t, "expected an operator");
    n->domain = own(domain);
    n->op_type = own(op);
    if (text_accept(t, ':')) n->overload = own(text_word(t));
    read_attributes(t, n);
    text_expect(t, '(');
    n->input = read_names(t, &n->n_input);
    text_expect(t, ')');
    if (!n->n_attribute) read_attributes(t, n);
    return n;
}

static Onnx__NodeProto **read_nodes(Text *t, size_t *n) {
    struct {
        size_t n_node;
        Onnx__NodeProto **node;
    } v = {0};
    text_expect(t, '{');
    while (!t->failed && !text_accept(t, '}')) ADD(t, &v, node, read_node(t));
    *n = v.n_node;
    return v.node;
}

/* ---- graphs, functions, model ---- */

static Onnx__ValueInfoProto *read_value(Text *t) {
    Onnx__ValueInfoProto *v = new_value_info_proto(t);
    if (next_is_type(t)) v->type = read_type(t);
    v->name = own(text_name(t, NULL));
    return v;
}

static Onnx__GraphProto *read_graph(Text *t) {
    Onnx__GraphProto *g = new_graph_proto(t);
    if (!enter(t)) return g;
    g->name = own(text_name(t, NULL));
    text_expect(t, '(');
    if (!text_accept(t, ')')) {
        do {
            Onnx__ValueInfoProto *v = read_value(t);
            ADD(t, g, input, v);
            if (text_accept(t, '=')) ADD(t, g, initializer, read_tensor(t, v->type, v->name));
        } while (text_accept(t, ','));
        text_expect(t, ')');
    }
    text_arrow(t);
    text_expect(t, '(');
    if (!text_accept(t, ')')) {
        do ADD(t, g, output, read_value(t));
        while (text_accept(t, ','));
        text_expect(t, ')');
    }
    if (text_accept(t, '<') && !text_accept(t, '>')) {
        do {
            Onnx__ValueInfoProto *v = read_value(t);
            if (text_accept(t, '='))
                ADD(t, g, initializer, read_tensor(t, v->type, v->name));
            else
                ADD(t, g, value_info, v);
        } while (text_accept(t, ','));
        text_expect(t, '>');
    }
    g->node = read_nodes(t, &g->n_node);
    t->depth--;
    return g;
}

static void read_opsets(Text *t, size_t *n, Onnx__OperatorSetIdProto ***list) {
    struct {
        size_t n_opset;
        Onnx__OperatorSetIdProto **opset;
    } v = {0};
    text_expect(t, '[');
    if (!text_accept(t, ']')) {
        do {
            Onnx__OperatorSetIdProto *o = new_operator_set_id_proto(t);
            o->domain = own(text_string(t));
            text_expect(t, ':');
            o->has_version = true;
            o->version = text_int(t);
            ADD(t, &v, opset, o);
        } while (text_accept(t, ','));
        text_expect(t, ']');
    }
    *n = v.n_opset;
    *list = v.opset;
}

static void read_signature(Text *t, Onnx__FunctionProto *f, size_t *n, char ***names) {
    struct {
        size_t n_name;
        char **name;
    } v = {0};
    text_expect(t, '(');
    if (!text_accept(t, ')')) {
        do {
            Onnx__ValueInfoProto *i = read_value(t);
            ADD(t, &v, name, i->name);
            if (i->type) ADD(t, f, value_info, i);
        } while (text_accept(t, ','));
        text_expect(t, ')');
    }
    *n = v.n_name;
    *names = v.name;
}

static Onnx__FunctionProto *read_function(Text *t) {
    Onnx__FunctionProto *f = new_function_proto(t);
    if (text_accept(t, '<')) {
        do {
            const char *w = text_word(t);
            text_expect(t, ':');
            if (!strcmp(w, "opset_import"))
                read_opsets(t, &f->n_opset_import, &f->opset_import);
            else if (!strcmp(w, "domain"))
                f->domain = own(text_string(t));
            else if (!strcmp(w, "overload"))
                f->overload = own(text_string(t));
            else if (!strcmp(w, "doc_string"))
                f->doc_string = own(text_string(t));
            else
                text_fail(t, "\"%s\" is not a property of functions", w);
        } while (text_accept(t, ','));
        text_expect(t, '>');
    }
    f->name = own(text_name(t, NULL));
    if (text_accept(t, '<')) {
        do {
            const char *w = text_name(t, NULL);
            char c = text_peek(t);
            if (c == ':' || c == '=')
                ADD(t, f, attribute_proto, read_attribute(t, w));
            else
                ADD(t, f, attribute, own(w));
        } while (text_accept(t, ','));
        text_expect(t, '>');
    }
    read_signature(t, f, &f->n_input, &f->input);
    text_arrow(t);
    read_signature(t, f, &f->n_output, &f->output);
    if (text_accept(t, '<') && !text_accept(t, '>')) {
        do ADD(t, f, value_info, read_value(t));
        while (text_accept(t, ','));
        text_expect(t, '>');
    }
    f->node = read_nodes(t, &f->n_node);
    return f;
}

static void read_header(Text *t, Onnx__ModelProto *m) {
    do {
        const char *w = text_word(t);
        text_expect(t, ':');
        if (!strcmp(w, "ir_version")) {
            m->has_ir_version = true;
            m->ir_version = text_int(t);
        } else if (!strcmp(w, "model_version")) {
            text_int(t);
        } else if (!strcmp(w, "opset_import")) {
            read_opsets(t, &m->n_opset_import, &m->opset_import);
        } else if (!strcmp(w, "metadata_props")) {
            text_expect(t, '[');
            if (!text_accept(t, ']')) {
                read_pairs(t, &m->n_metadata_props, &m->metadata_props);
                text_expect(t, ']');
            }
        } else if (!strcmp(w, "producer_name") || !strcmp(w, "producer_version") ||
                   !strcmp(w, "domain") || !strcmp(w, "doc_string")) {
            text_string(t);
        } else {
            text_fail(t, "\"%s\" is not a property of models", w);
        }
    } while (text_accept(t, ','));
    text_expect(t, '>');
}

bool text_sniff(const char *path, const uint8_t *data, size_t n) {
    const char *dot = strrchr(path, '.');
    if (dot && (!strcmp(dot, ".onnxtxt") || !strcmp(dot, ".onnxtext"))) return true;
    size_t k = n < SNIFF_BYTES ? n : SNIFF_BYTES;
    for (size_t i = 0; i < k; i++)
        if ((data[i] < ' ' && !strchr("\t\n\r", data[i])) || !data[i]) return false;
    return k && memmem(data, k, "=>", 2);
}

Onnx__ModelProto *text_read(Ctx *c, const char *text, size_t n, const char *file) {
    Text t = {.c = c, .file = file, .start = text, .p = text, .end = text + n};
    Onnx__ModelProto *m = new_model_proto(&t);
    if (text_accept(&t, '<')) read_header(&t, m);
    m->graph = read_graph(&t);
    while (!text_ended(&t)) ADD(&t, m, functions, read_function(&t));
    return t.failed ? NULL : m;
}
