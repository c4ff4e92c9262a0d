/* import_attr.c: attributes of the node being imported, checked against its row of ops.def, and operands whose value is
 * known at compile time. After attrs_check() the accessors cannot fail: kinds agree, required ones are there, strings
 * are one of the row's choices. */
#include "frontend/import.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One entry of a row's attribute list: name:kind and what follows. */
typedef struct Entry { const char *name; size_t len; char kind, mark; const char *text; size_t textlen; } Entry;

static bool entry_next(const char **s, Entry *e)
{
    const char *p = *s + strspn(*s, " ");
    if (!*p)
        return false;
    e->name = p;
    e->len = strcspn(p, ":");
    p += e->len + 1;
    e->kind = *p++;
    e->mark = *p == '!' || *p == '=' ? *p++ : 0;
    e->text = p;
    e->textlen = strcspn(p, " ");
    *s = p + e->textlen;
    return true;
}

static bool entry_find(const OpRow *r, const char *name, Entry *e)
{
    for (const char *s = r->attrs; entry_next(&s, e);)
        if (strlen(name) == e->len && !memcmp(name, e->name, e->len))
            return true;
    return false;
}

bool row_has_attr(const OpRow *r, const char *name)
{
    Entry e;
    return entry_find(r, name, &e);
}

static const struct { char kind; int type; const char *name; } kinds[] = {
    {'i', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT, "int"},
    {'f', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT, "float"},
    {'s', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING, "string"},
    {'I', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS, "ints"},
    {'F', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOATS, "floats"},
    {'S', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRINGS, "strings"},
    {'t', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TENSOR, "tensor"},
    {'g', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH, "graph"},
    {'y', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__TYPE_PROTO, "type"},
    {'p', ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__SPARSE_TENSOR, "sparse tensor"},
};

static const char *kind_name(int type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].type == type)
            return kinds[i].name;
    return "another kind";
}

const SrcAttr *attr_find(const Imp *m, const char *name)
{
    for (uint32_t i = 0; i < m->n->nattr; i++)
        if (!strcmp(m->n->attr[i].name, name))
            return &m->n->attr[i];
    return NULL;
}

static bool one_of(const char *s, size_t n, const char *list, size_t len)
{
    for (const char *p = list, *end = list + len; p < end;) {
        size_t k = 0;
        while (p + k < end && p[k] != '|')
            k++;
        if ((k == n && !memcmp(p, s, n)) || (k == 1 && *p == '*'))
            return true;
        p += k + 1;
    }
    return false;
}

static bool attr_check(Imp *m, const Entry *e)
{
    char *name = ctx_printf(m->c, "%.*s", (int)e->len, e->name);
    const SrcAttr *a = attr_find(m, name);
    if (!a) {
        if (e->mark == '!')
            ERR(m, "E0201", "attribute %s is required", name);
        return e->mark != '!';
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i].kind == e->kind && kinds[i].type != (int)a->p->type) {
            ERR(m, "E0201", "attribute %s: expected %s, got %s", name, kinds[i].name, kind_name((int)a->p->type));
            return false;
        }
    if (e->kind == 'g' && a->ngraph != 1) {
        ERR(m, "E0201", "attribute %s holds no graph", name);
        return false;
    }
    if (e->kind == 's' && e->textlen &&
        !one_of((const char *)a->p->s.data, a->p->s.len, e->text, e->textlen)) {
        ERR(m, "E0202", "attribute %s: expected %.*s, got \"%.*s\"", name, (int)e->textlen, e->text,
            (int)(a->p->s.len < 60 ? a->p->s.len : 60), (const char *)a->p->s.data);
        return false;
    }
    return true;
}

bool attrs_check(Imp *m)
{
    bool ok = true;
    Entry e;
    for (const char *s = m->row->attrs; entry_next(&s, &e);)
        ok &= attr_check(m, &e);
    return ok;
}

/* ---- operands */

static bool class_has(char cls, const Type *t, const Type *first)
{
    DType d = t->dtype;
    bool flt = d == DT_F32 || d == DT_F64 || d == DT_F16 || d == DT_BF16;
    if (cls == 'v')
        return true;
    if (cls == 'S' || t->kind != TY_TENSOR)
        return cls == 'S' && t->kind == TY_SEQ;
    switch (cls) {
    case 'f': return flt;
    case 'F': return dt_is_float(d);
    case 'n': return flt || dt_is_int(d);
    case 'N': return flt || dt_is_int(d) || d == DT_BOOL;
    case 'i': return dt_is_int(d);
    case 'u': return dt_is_int(d) && !dt_is_signed(d);
    case 'b': return d == DT_BOOL;
    case 's': return d == DT_STR;
    case 'l': return d == DT_I64;
    case 'x': return d == DT_I64 || d == DT_I32;
    case 'q': return dt_is_int(d) || (dt_is_float(d) && dt_bits(d) <= 8);
    case '=': return d == first->dtype;
    default: return true;
    }
}

const char *operand_class(char cls)
{
    switch (cls) {
    case 'f': return "a float type";
    case 'F': return "a float type, 8-bit ones included";
    case 'n': return "a numeric type";
    case 'N': return "a numeric type or bool";
    case 'i': return "an integer type";
    case 'u': return "an unsigned integer type";
    case 'b': return "bool";
    case 's': return "strings";
    case 'S': return "a sequence";
    case 'l': return "i64";
    case 'x': return "i32 or i64";
    case 'q': return "a quantised type";
    case 'v': return "any value";
    default: return "a tensor";
    }
}

static const char *class_text(Imp *m, char cls, const Type *first)
{
    return cls == '=' ? ctx_printf(m->c, "%s, as the first operand", dt_name((DType)first->dtype)) : operand_class(cls);
}

/* Numbers of operands and results against the row's lists, and the class of each operand. */
bool operands_check(Imp *m)
{
    const SrcNode *n = m->n;
    const Type *first = n->nin ? val_type(m->b.g, m->in[0]) : NULL;
    uint32_t k = 0;
    bool ok = true, many = false;
    for (const char *s = m->row->in; *(s += strspn(s, " ")) && ok; k++) {
        size_t len = strcspn(s, ":");
        char cls = s[len + 1], mark = s[len + 2];
        many = mark == '*';
        if (!many && mark != '?' && !present(m, k)) {
            ERR(m, "E0205", "operand %.*s (number %u) is missing", (int)len, s, k);
            return false;
        }
        for (uint32_t i = k; many && i < (n->nin > k ? n->nin : k + 1); i++)
            if (!present(m, i) && cls != 'v') {
                ERR(m, "E0205", "operand %.*s (number %u) is missing", (int)len, s, i);
                return false;
            }
        for (uint32_t i = k; i < (many ? n->nin : k + 1); i++)
            if (present(m, i) && !class_has(cls, val_type(m->b.g, m->in[i]), first)) {
                Buf b = {.c = m->c};
                type_print(&b, m->c, val_type(m->b.g, m->in[i]));
                ERR(m, "E0204", "operand %.*s: expected %s, got %s", (int)len, s, class_text(m, cls, first),
                    buf_str(&b));
                ok = false;
            }
        s += strcspn(s, " ");
    }
    if (ok && !many && n->nin > k) {
        ERR(m, "E0205", "takes at most %u operands, got %u", k, n->nin);
        ok = false;
    }
    uint32_t results = 0;
    for (const char *s = m->row->out; *(s += strspn(s, " ")); results++)
        s += strcspn(s, " ");
    if (!strchr(m->row->out, '*') && n->nout > results) {
        ERR(m, "E0205", "gives at most %u results, %u are named", results, n->nout);
        ok = false;
    }
    return ok;
}

/* ---- values of attributes */

bool attr_has(const Imp *m, const char *name) { return attr_find(m, name) != NULL; }

static const char *attr_default(const Imp *m, const char *name, size_t *len)
{
    Entry e;
    if (!entry_find(m->row, name, &e) || e.mark != '=')
        return *len = 0, "";
    *len = e.textlen;
    return e.text;
}

int64_t attr_i(const Imp *m, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    size_t len;
    return a ? a->p->i : strtoll(attr_default(m, name, &len), NULL, 10);
}

double attr_f(const Imp *m, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    size_t len;
    if (a)
        return (double)(a->p->type == ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT ? (float)a->p->i : a->p->f);
    return (double)strtof(attr_default(m, name, &len), NULL);
}

const char *attr_s(const Imp *m, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    if (a)
        return a->p->s.len ? ctx_strn(m->c, (const char *)a->p->s.data, a->p->s.len) : "";
    size_t len;
    const char *s = attr_default(m, name, &len);
    const char *bar = memchr(s, '|', len);
    return ctx_strn(m->c, s, bar ? (size_t)(bar - s) : len);
}

bool attr_is(const Imp *m, const char *name, const char *value) { return !strcmp(attr_s(m, name), value); }

const int64_t *attr_ints(const Imp *m, const char *name, int *n)
{
    const SrcAttr *a = attr_find(m, name);
    if (a) {
        *n = (int)a->p->n_ints;
        return a->p->ints;
    }
    size_t len;
    const char *s = attr_default(m, name, &len), *end = s + len;
    int64_t *v = NEWN(m->c, int64_t, len / 2 + 1);
    for (*n = 0; s < end; s++) {
        char *next;
        v[(*n)++] = strtoll(s, &next, 10);
        s = next;
    }
    return *n ? v : NULL;
}

const Onnx__TensorProto *attr_tensor(const Imp *m, const char *name)
{
    const SrcAttr *a = attr_find(m, name);
    return a ? a->p->t : NULL;
}

DType attr_dtype(Imp *m, const char *name, DType deflt)
{
    const SrcAttr *a = attr_find(m, name);
    int64_t v = attr_i(m, name);
    if (!a && !v)
        return deflt;
    if (a && !v && deflt)
        return deflt;
    DType t = v > 0 && v < 1000 ? dtype_of_onnx((int32_t)v) : DT_NONE;
    if (!t)
        ERR(m, "E0202", "attribute %s: %lld is no element type", name, (long long)v);
    return t;
}

/* ---- operands known now */

enum { CONST_COUNT = 65536, CONST_DEPTH = 24 };

static const Tensor *fold(Imp *m, Val v, int depth)
{
    Graph *g = m->b.g;
    v = graph_resolve(g, v);
    const Type *t = val_type(g, v);
    int64_t count;
    if (!v.i || t->kind != TY_TENSOR || !dim_is_const(m->c, type_count(m->c, t), &count) || count > CONST_COUNT)
        return NULL;
    const ConstData *d = val_const(g, v);
    if (d)
        return tensor_from_const(m->c, d, t);
    int64_t n;
    const Dim *elem = val_elems(g, v, &n);
    if (elem) {
        int64_t dims[MAX_RANK], x;
        type_const_dims(m->c, t, dims);
        Tensor *r = tensor_new(m->c, (DType)t->dtype, t->rank, dims);
        for (int64_t i = 0; i < n; i++) {
            if (!dim_is_const(m->c, elem[i], &x))
                return NULL;
            Scalar s = {.t = DT_I64, .i = x};
            dt_store((DType)t->dtype, r->data, i, dt_convert(s, (DType)t->dtype));
        }
        return r;
    }
    Node *def = val_def(g, v);
    if (!def || depth >= CONST_DEPTH || def->nin > 8 || !def->nin || def->nout > 4)
        return NULL;
    const Tensor *in[8];
    Tensor *out[4] = {0};
    for (int i = 0; i < def->nin; i++)
        if (!(in[i] = fold(m, def->in[i], depth + 1)))
            return NULL;
    if (!node_eval(m->c, g, def, in, out))
        return NULL;
    for (int i = 0; i < def->nout; i++)
        if (graph_resolve(g, def->out[i]).i == v.i)
            return out[i];
    return NULL;
}

const Tensor *const_tensor(Imp *m, Val v) { return fold(m, v, 0); }

bool const_ints(Imp *m, Val v, int64_t *out, int max, int *n)
{
    const Tensor *t = const_tensor(m, v);
    if (!t || !(dt_is_int(t->dtype) || t->dtype == DT_BOOL) || tensor_count(t) > max)
        return false;
    *n = (int)tensor_count(t);
    for (int i = 0; i < *n; i++)
        out[i] = dt_load(t->dtype, t->data, i).i;
    return true;
}

bool const_floats(Imp *m, Val v, double *out, int max, int *n)
{
    const Tensor *t = const_tensor(m, v);
    if (!t || !dt_is_float(t->dtype) || tensor_count(t) > max)
        return false;
    *n = (int)tensor_count(t);
    for (int i = 0; i < *n; i++)
        out[i] = dt_load(t->dtype, t->data, i).f;
    return true;
}

bool const_scalar(Imp *m, Val v, Scalar *s)
{
    if (!v.i)
        return false;
    if (val_scalar(m->b.g, v, s))
        return true;
    const Tensor *t = const_tensor(m, v);
    bool number = t && t->dtype != DT_STR && t->dtype != DT_C64 && t->dtype != DT_C128; /* that a Scalar holds */
    if (!number || tensor_count(t) != 1)
        return false;
    *s = dt_load(t->dtype, t->data, 0);
    return true;
}
