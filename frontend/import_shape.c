/* import_shape.c: axes, ranks and operands whose values decide shapes.
 *
 * Elements that are known as dims (constants, or arithmetic on shapes) are used as they are; others become symbols that
 * a bind defines at run time. Axes that are known only at run time become 0/1 symbols, one per axis of the operand, and
 * sizes are selected by them, so that one program serves every value. */
#include "frontend/import.h"
#include <string.h>

bool axis_ok(Imp *m, int64_t axis, int rank, int *out)
{
    if (axis < -rank || axis >= rank) {
        ERR(m, "E0206", "axis %lld is out of range for rank %d", (long long)axis, rank);
        return false;
    }
    *out = (int)(axis < 0 ? axis + rank : axis);
    return true;
}

bool axes_ok(Imp *m, const int64_t *axis, int n, int rank, uint32_t *mask)
{
    *mask = 0;
    for (int i = 0; i < n; i++) {
        int a;
        if (!axis_ok(m, axis[i], rank, &a))
            return false;
        if (*mask >> a & 1) {
            ERR(m, "E0206", "axis %d is named twice", a);
            return false;
        }
        *mask |= 1u << a;
    }
    return true;
}

static const Onnx__TypeProto *declared(const Imp *m, const char *name)
{
    for (uint32_t i = 0; i < m->src->out.n; i++)
        if (!strcmp(m->src->out.v[i].name, name))
            return m->src->out.v[i].type;
    return source_info(m->src, name);
}

static int declared_rank(const Imp *m, const char *name)
{
    int rank = model_type_rank(declared(m, name));
    return rank <= MAX_RANK ? rank : -1;
}

/* Declared, or declared for what elementwise operators make of it. What is built on a hint is checked at run time. */
int hint_rank(const Imp *m, uint32_t k)
{
    const char *name = wanted(m, k) ? m->n->out[k] : NULL;
    int r = name ? declared_rank(m, name) : -1;
    for (uint32_t i = 0; name && r < 0 && i < m->src->node.n; i++) { /* users come later in the list */
        const SrcNode *n = &m->src->node.v[i];
        if (n->nin && n->nout == 1 && row_elementwise(n))
            for (uint32_t j = 0; j < n->nin; j++)
                if (!strcmp(n->in[j], name)) {
                    name = n->out[0];
                    r = declared_rank(m, name);
                    break;
                }
    }
    return r;
}

int length_of(Imp *m, Val v)
{
    const Type *t = val_type(m->b.g, v);
    int64_t n;
    return t->rank == 0 ? 1 : t->rank == 1 && dim_is_const(m->c, t->dim[0], &n) && n <= SHAPE_MAX ? (int)n : -1;
}

bool operand_dims(Imp *m, Val v, const char *what, int64_t lo, int64_t hi, int want, Dim *out, int *n)
{
    const Type t = *val_type(m->b.g, v);
    int64_t count;
    const Dim *elem = val_elems(m->b.g, v, &count);
    if (elem && count <= SHAPE_MAX) {
        *n = (int)count;
        if (count)
            memcpy(out, elem, sizeof *out * (size_t)count);
        return true;
    }
    int64_t value[SHAPE_MAX];
    if (const_ints(m, v, value, SHAPE_MAX, n)) {
        for (int i = 0; i < *n; i++) {
            out[i] = DC(m, value[i]);
            if (value[i] < lo || value[i] > hi) {
                ERR(m, "E0203", hi == DIM_INF ? "%s is %lld, expected at least %lld" : "%s is %lld, expected a value from %lld to %lld", what,
                    (long long)value[i], (long long)lo, (long long)hi);
                return false;
            }
        }
        return true;
    }
    if (t.rank > 1) {
        ERR(m, "E0203", "%s: expected one dimension, got rank %d", what, t.rank);
        return false;
    }
    *n = length_of(m, v);
    if (*n < 0 && (t.rank == 0 || dim_is_const(m->c, t.dim[0], NULL))) {
        ERR(m, "E0203", "%s has more than %d elements", what, SHAPE_MAX);
        return false;
    }
    if (*n < 0) {
        if (want < 0 || want > SHAPE_MAX) {
            UNSUP(m, "%s: its length, and so the rank of the result, is known only at run time" DECLARE_IT, what);
            return false;
        }
        b_guard(&m->b, G_EQ, t.dim[0], DC(m, want), "%s must have %d elements", what, want);
        *n = want;
    }
    Val iv = cast_to(m, v, DT_I64);
    for (int i = 0; i < *n; i++)
        out[i] = b_bind(&m->b, iv, i, what, lo, hi);
    if (hi < DIM_INF) /* wrong is wrong, even where no size depends on it, and so nobody looks at the symbol */
        b_guard_val(&m->b, b_map1(&m->b, in_range(m, xarg(m, 0, DT_I64), XI(lo), XI(hi + 1)), 1, &iv), ctx_printf(m->c, "%s is out of range", what));
    return true;
}

bool operand_dim(Imp *m, Val v, const char *what, int64_t lo, int64_t hi, Dim *out)
{
    int n;
    Dim d[SHAPE_MAX];
    if (!operand_dims(m, v, what, lo, hi, 1, d, &n))
        return false;
    if (n != 1) {
        ERR(m, "E0203", "%s: expected one element, got %d", what, n);
        return false;
    }
    *out = d[0];
    return true;
}

/* axes[j] names axis i of `rank`, over the domain [rank, n]; axes is operand k. */
static Expr names_axis(Imp *m, int k, int rank)
{
    Expr a = xarg(m, k, DT_I64), i = xaxis(m, 0);
    return X2(OR, X2(EQ, a, i), X2(EQ, a, X2(SUB, i, XI(rank))));
}

/* Every element of axes, i64[n], is one of `rank`. */
static void guard_axes(Imp *m, Val axes, int rank)
{
    b_guard_val(&m->b, b_map1(&m->b, in_range(m, xarg(m, 0, DT_I64), XI(-rank), XI(rank)), 1, &axes),
                ctx_printf(m->c, "an axis is out of range for rank %d", rank));
}

bool runtime_axes(Imp *m, Val v, int rank, int empty, Dim *flag)
{
    const Type t = *val_type(m->b.g, v);
    Dim known[SHAPE_MAX];
    int64_t count;
    const Dim *elem = val_elems(m->b.g, v, &count);
    int64_t value[SHAPE_MAX];
    int n = -1;
    if (elem || const_ints(m, v, value, SHAPE_MAX, &n)) {
        if (elem) {
            n = (int)count;
            memcpy(known, elem, sizeof *known * (size_t)count);
        }
        bool all = true;
        for (int i = 0; i < n && elem; i++)
            all &= dim_is_const(m->c, known[i], &value[i]);
        uint32_t mask;
        if (all) {
            if (!axes_ok(m, value, n, rank, &mask))
                return false;
            for (int i = 0; i < rank; i++)
                flag[i] = DC(m, n ? (int64_t)(mask >> i & 1) : empty);
            return true;
        }
    }
    if (t.rank > 1) {
        ERR(m, "E0203", "axes: expected one dimension, got rank %d", t.rank);
        return false;
    }
    Val axes = reshape_to(m, cast_to(m, v, DT_I64), 1, &(Dim){type_count(m->c, &t).i});
    Dim len = type_count(m->c, &t);
    guard_axes(m, axes, rank);
    Val hit = map_over(m, names_axis(m, 0, rank), 1, &axes, 2, (Dim[]){DC(m, rank), len});
    Val any = b_reduce1(&m->b, R_OR, hit, 1u << 1, false);
    Expr e = expr_cast(m->c, xarg(m, 0, DT_BOOL), DT_I64);
    if (empty)
        e = X3(SELECT, X2(EQ, xdim(m, len), XI(0)), XI(1), e);
    Val flags = map_over(m, e, 1, &any, 1, (Dim[]){DC(m, rank)});
    for (int i = 0; i < rank; i++)
        flag[i] = b_bind(&m->b, flags, i, "axis", 0, 1);
    return true;
}

Val by_axis(Imp *m, Val v, Val axes, int rank, int64_t deflt)
{
    const Type t = *val_type(m->b.g, axes);
    const Type vt = *val_type(m->b.g, v);
    Val in[2] = {cast_to(m, v, DT_I64), cast_to(m, axes, DT_I64)};
    b_guard(&m->b, G_EQ, type_count(m->c, &vt), type_count(m->c, &t), "there must be one number for each of the axes");
    guard_axes(m, in[1], rank);
    Dim dom[2] = {DC(m, rank), type_count(m->c, &t)};
    Expr hit = names_axis(m, 1, rank);
    Expr body[2] = {X3(SELECT, hit, X2(SUB, xarg(m, 0, DT_I64), XI(deflt)), XI(0))};
    Val parts = map_over(m, body[0], 2, in, 2, dom);
    Val sum = b_reduce1(&m->b, R_SUM, parts, 1u << 1, false);
    return map_over(m, X2(ADD, xarg(m, 0, DT_I64), XI(deflt)), 1, &sum, 1, dom);
}

Dim count_of(Imp *m, const Dim *dim, int n)
{
    Dim p = DC(m, 1);
    for (int i = 0; i < n; i++)
        p = dim_mul(m->c, p, dim[i]);
    return p;
}

Dim kept_dim(Imp *m, const Dim *dim, const Dim *flag, int rank, int k)
{
    Ctx *c = m->c;
    Dim r = DC(m, 1), before = DC(m, 0);
    for (int i = 0; i < rank; i++) {
        Dim here = dim_mul(c, dim_sub(c, DC(m, 1), flag[i]), dim_eqv(c, before, DC(m, k)));
        r = dim_select(c, here, dim[i], r);
        before = dim_add(c, before, dim_sub(c, DC(m, 1), flag[i]));
    }
    return r;
}
