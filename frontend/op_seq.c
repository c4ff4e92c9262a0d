/* op_seq.c: sequences and optionals, as `seq` nodes. What is taken from a list has a rank: that of the list's elements if all
 * have one, else the declared one, checked at run time. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(seqempty); FN(seqconstruct); FN(seqinsert); FN(seqerase); FN(seqat); FN(seqlength); FN(seqconcat); FN(seqsplit); FN(seqmap);
FN(optional); FN(opthas); FN(optget);

enum { INLINE_MAX = 16 };       /* SequenceMap over that many known elements is written out */

Dim fresh_size(Imp *m)
{
    uint32_t s;
    Dim d = dim_fresh(m->c, "n", 0, DIM_INF);
    s = (uint32_t)dim_info(m->c, d)->val;
    dim_sym_mark_bound(m->c, s);
    return d;
}

static const Type *elem_of(const Imp *m, Val list) { return val_type(m->b.g, list)->elem; }

/* The type of a value taken from a list; rank is used where the list does not know (-1: nobody does). */
static bool taken_type(Imp *m, const Type *elem, int rank, Type *t)
{
    Dim dim[MAX_RANK];
    *t = *elem;
    if (elem->kind != TY_TENSOR)
        return true;
    bool known = elem->rank <= MAX_RANK;
    if (known)
        rank = elem->rank;
    if (rank < 0) {
        UNSUP(m, "the rank of the element is not known" DECLARE_IT);
        return false;
    }
    for (int d = 0; d < rank; d++)
        dim[d] = known && elem->dim[d].i ? elem->dim[d] : fresh_size(m);
    *t = type_tensor(m->c, (DType)elem->dtype, rank, dim);
    return true;
}

Val list_take(Imp *m, const char *sub, int nin, const Val *in, int rank)
{
    Val v = b_seq_try(&m->b, sub, nin, in);
    Type t;
    return v.i || !taken_type(m, elem_of(m, in[0]), rank, &t) ? v : b_seq(&m->b, sub, t, nin, in);
}

/* The type of a sequence that has elements of *list's type, and v. */
static bool join_elem(Imp *m, Type *list, Val v)
{
    Type one = type_list(m->c, TY_SEQ, val_type(m->b.g, v)), both;
    if (type_join(m->c, list, &one, &both)) {
        *list = both;
        return true;
    }
    Buf b = {.c = m->c};
    type_print(&b, m->c, val_type(m->b.g, v));
    ERR(m, "E0204", "an element of type %s does not fit into the sequence", buf_str(&b));
    return false;
}

static Type empty_type(Imp *m, DType t)
{
    Type none = type_unranked(t, RANK_NONE);
    return type_list(m->c, TY_SEQ, &none);
}

void imp_seqempty(Imp *m)
{
    DType t = attr_dtype(m, "dtype", DT_F32);
    if (t)
        result(m, 0, b_seq(&m->b, "empty", empty_type(m, t), 0, NULL));
}

void imp_seqconstruct(Imp *m)
{
    Type t = empty_type(m, dtype_of(m, m->in[0]));
    for (uint32_t k = 0; k < m->n->nin; k++)
        if (!join_elem(m, &t, m->in[k]))
            return;
    result(m, 0, b_seq(&m->b, "construct", t, (int)m->n->nin, m->in));
}

/* A position as i64[]. */
static Val position(Imp *m, uint32_t k) { return cast_to(m, only_element(m, m->in[k]), DT_I64); }

void imp_seqinsert(Imp *m)
{
    Type t = *val_type(m->b.g, m->in[0]);
    Val in[3] = {m->in[0], m->in[1]};
    if (present(m, 2))
        in[2] = position(m, 2);
    if (join_elem(m, &t, m->in[1]))
        result(m, 0, b_seq(&m->b, "insert", t, in[2].i ? 3 : 2, in));
}

void imp_seqerase(Imp *m)
{
    Val in[2] = {m->in[0]};
    if (present(m, 1))
        in[1] = position(m, 1);
    result(m, 0, b_seq(&m->b, "erase", *val_type(m->b.g, m->in[0]), in[1].i ? 2 : 1, in));
}

void imp_seqat(Imp *m)
{
    Val in[2] = {m->in[0], position(m, 1)};
    result(m, 0, list_take(m, "at", 2, in, hint_rank(m, 0)));
}

void imp_seqlength(Imp *m)
{
    result(m, 0, b_seq(&m->b, "length", type_tensor(m->c, DT_I64, 0, NULL), 1, m->in));
}

void imp_seqconcat(Imp *m)
{
    bool stack = attr_i(m, "new_axis") != 0;
    const char *sub = stack ? "stack" : "concat";
    const Type *elem = elem_of(m, m->in[0]);
    Val in[2] = {m->in[0], scalar_i64(m, attr_i(m, "axis"))}, v = b_seq_try(&m->b, sub, 2, in);
    int hint = hint_rank(m, 0), rank = elem->rank <= MAX_RANK ? elem->rank : hint - stack, axis;
    Type t;
    Dim dim[MAX_RANK];
    if (v.i) {
        result(m, 0, v);
        return;
    }
    if (elem->kind != TY_TENSOR || rank + stack > MAX_RANK) {
        ERR(m, "E0204", "elements of this type cannot be joined");
        return;
    }
    if (!taken_type(m, elem, hint < 0 ? -1 : rank, &t) || !axis_ok(m, attr_i(m, "axis"), rank + stack, &axis))
        return;
    for (int d = 0; d < rank + stack; d++)
        dim[d] = d == axis ? fresh_size(m) : t.dim[d - (stack && d > axis)];
    result(m, 0, b_seq(&m->b, sub, type_tensor(m->c, (DType)t.dtype, rank + stack, dim), 2, in));
}

/* The size that all parts have, if that is known: one number that divides the axis, or a list of equal ones. */
static Dim part_size(Imp *m, Val split, Dim whole)
{
    Dim size;
    int64_t each;
    Scalar s;
    if (rank_of(m, split))
        return const_scalar(m, split, &s) && s.i >= 0 ? DC(m, s.i) : (Dim){0};
    bool fits = operand_dim(m, split, "split", 1, DIM_INF, &size) && dim_is_const(m->c, size, &each) && dim_divisible(m->c, whole, each);
    return fits ? size : (Dim){0};
}

void imp_seqsplit(Imp *m)
{
    Val x = m->in[0], in[3] = {x};
    int axis, rank = rank_of(m, x);
    Dim dim[MAX_RANK], size;
    if (!axis_ok(m, attr_i(m, "axis"), rank, &axis))
        return;
    bool drop = !present(m, 1) && !attr_i(m, "keepdims");
    if (present(m, 1) && rank_of(m, m->in[1]) > 1) {
        ERR(m, "E0206", "operand split has rank %d, expected 0 or 1", rank_of(m, m->in[1]));
        return;
    }
    dims_of(m, x, dim);
    in[1] = drop ? (Val){0} : present(m, 1) ? cast_to(m, m->in[1], DT_I64) : scalar_i64(m, 1);
    size = drop ? (Dim){0} : part_size(m, in[1], dim[axis]);
    for (int d = axis; d < rank; d++)
        dim[d] = drop ? d + 1 < rank ? dim[d + 1] : (Dim){0} : d == axis ? size : dim[d];
    Type t = {.kind = TY_TENSOR, .dtype = (uint8_t)dtype_of(m, x), .rank = (uint8_t)(rank - drop), .dim = dim};
    in[drop ? 1 : 2] = scalar_i64(m, axis);
    result(m, 0, b_seq(&m->b, drop ? "unstack" : "split", type_list(m->c, TY_SEQ, &t), drop ? 2 : 3, in));
}

/* ---- SequenceMap */

static SrcGraph *map_body(Imp *m)
{
    const SrcAttr *a = attr_find(m, "body");
    SrcGraph *sg = a && a->ngraph == 1 ? a->graph[0] : NULL;
    if (sg && sg->in.n == m->n->nin && sg->out.n >= m->n->nout)
        return sg;
    ERR(m, "E0208", "attribute body: expected a graph with %u inputs and at least %u outputs", m->n->nin, m->n->nout);
    return NULL;
}

/* Element `at` (of `list`, a value of `in`) as the k-th input of the body. */
static Val map_element(Imp *in, const SrcGraph *sg, uint32_t k, Val list, Val at)
{
    const Onnx__TypeProto *p = sg->in.v[k].type;
    bool ranked = p && p->value_case == ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE && p->tensor_type->shape;
    Val operands[2] = {list, at};
    return list_take(in, "at", 2, operands, ranked && p->tensor_type->shape->n_dim <= MAX_RANK ? (int)p->tensor_type->shape->n_dim : -1);
}

/* n copies of the body, for elements that are known. */
static void map_inline(Imp *m, const SrcGraph *sg, int64_t n)
{
    Val *in = NEWN(m->c, Val, m->n->nin), *out = NEWN(m->c, Val, sg->out.n * (size_t)(n + 1) + 1);
    Val *elem = NEWN(m->c, Val, n + 1);
    for (int64_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < m->n->nin; k++) {
            bool list = val_type(m->b.g, m->in[k])->kind == TY_SEQ;
            in[k] = list ? map_element(m, sg, k, m->in[k], scalar_i64(m, i)) : m->in[k];
            if (!in[k].i)
                return;
        }
        if (!import_inline(m, sg, (int)m->n->nin, in, out + i * sg->out.n))
            return;
    }
    for (uint32_t r = 0; r < m->n->nout; r++) {
        Type t = n ? empty_type(m, dtype_of(m, out[r])) : (Type){0};
        for (int64_t i = 0; i < n; i++) {
            elem[i] = out[i * sg->out.n + r];
            if (!join_elem(m, &t, elem[i]))
                return;
        }
        result(m, r, b_seq(&m->b, "construct", t, (int)n, elem));
    }
}

void imp_seqmap(Imp *m)
{
    SrcGraph *sg = map_body(m);
    Val length = b_seq(&m->b, "length", type_tensor(m->c, DT_I64, 0, NULL), 1, m->in);
    const char **cap;
    Scalar n;
    if (!sg)
        return;
    if (val_type(m->b.g, m->in[0])->kind == TY_SEQ && const_scalar(m, length, &n) && n.i > 0 && n.i <= INLINE_MAX) {
        map_inline(m, sg, n.i);
        return;
    }
    int ncap = region_captures(m, 1, &sg, &cap), nin = (int)m->n->nin, nout = (int)sg->out.n;
    if (ncap < 0)
        return;
    Imp inner;
    region_open(&inner, m, sg);
    Graph *g = inner.b.g;
    Val *list = NEWN(m->c, Val, nout + 1), *given = NEWN(m->c, Val, nin + 1), *out = NEWN(m->c, Val, nout + 1);
    Val *in = NEWN(m->c, Val, 2 + nout + nin + ncap), *res = NEWN(m->c, Val, nout + 1);
    Val at = graph_input(g, "i", type_tensor(m->c, DT_I64, 0, NULL)), go = graph_input(g, "go", type_tensor(m->c, DT_BOOL, 0, NULL));
    for (int k = 0; k < nout; k++)
        list[k] = graph_input(g, "", empty_type(m, DT_F32));
    for (int k = 0; k < nin; k++)
        given[k] = graph_input(g, "", *val_type(m->b.g, m->in[k]));
    region_capture(&inner, m, ncap, cap);
    for (int k = 0; k < nin; k++)
        region_name(&inner, k, val_type(g, given[k])->kind == TY_SEQ ? map_element(&inner, sg, (uint32_t)k, given[k], at) : given[k]);
    if (ctx_errors(m->c) || !region_body(&inner, out))
        return;
    graph_output(g, "go", go);
    in[0] = length;
    for (int k = 0; k < nout; k++) { /* what the body gives tells what the lists hold */
        Type t = type_list(m->c, TY_SEQ, val_type(g, out[k]));
        g->val.v[list[k].i].type = t;
        Val operands[2] = {list[k], out[k]};
        graph_output(g, sg->out.v[k].name, b_seq(&inner.b, "insert", t, 2, operands));
        in[2 + k] = b_seq(&m->b, "empty", t, 0, NULL);
    }
    memcpy(in + 2 + nout, m->in, sizeof *in * (size_t)nin);
    for (int k = 0; k < ncap; k++)
        in[2 + nout + nin + k] = name_value(m, cap[k]);
    b_loop(&m->b, g, nout, 0, 2 + nout + nin + ncap, in, res);
    for (uint32_t k = 0; k < m->n->nout; k++)
        result(m, k, res[k]);
}

/* ---- optionals */

void imp_optional(Imp *m)
{
    Type t;
    const SrcAttr *a = attr_find(m, "type");
    if (present(m, 0)) {
        const Type *x = val_type(m->b.g, m->in[0]);
        t = type_list(m->c, TY_OPT, x);
        result(m, 0, x->kind == TY_OPT ? m->in[0] : b_seq(&m->b, "make", t, 1, m->in));
    } else if (!a) {
        ERR(m, "E0203", "without an operand the attribute type is needed");
    } else {
        Onnx__TypeProto__Optional o = ONNX__TYPE_PROTO__OPTIONAL__INIT;
        Onnx__TypeProto p = ONNX__TYPE_PROTO__INIT;
        o.elem_type = a->p->tp;
        p.value_case = ONNX__TYPE_PROTO__VALUE_OPTIONAL_TYPE;
        p.optional_type = &o;
        if (model_type(m->m, &p, m->n->out[0], m->b.loc, &t))
            result(m, 0, b_seq(&m->b, "make", t, 0, NULL));
    }
}

void imp_opthas(Imp *m)
{
    result(m, 0, b_seq(&m->b, "has", type_tensor(m->c, DT_BOOL, 0, NULL), present(m, 0) ? 1 : 0, m->in));
}

void imp_optget(Imp *m)
{
    result(m, 0, list_take(m, "get", 1, m->in, hint_rank(m, 0)));
}
