/* import_build.c: small pieces of primitives that importers share. In: values and expressions; out: values appended to
 * m->b.g. Everything accepts poison and gives it back. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

DType wide_type(DType t)
{
    return dt_is_float(t) && dt_bits(t) < 32 ? DT_F32 : t;
}

Expr bits_of(Imp *m, Expr byte, Expr shift, int bits)
{
    Expr w = expr_cast(m->c, byte, DT_I32);
    if (bits == 8)
        return w;
    return X2(AND, X2(SHR, w, expr_cast(m->c, shift, DT_I32)), expr_int(m->c, DT_I32, (1 << bits) - 1));
}

/* $name -> the attribute's value, as a literal that has a decimal point or exponent. */
static const char *attrs_substitute(Imp *m, const char *text)
{
    Buf b = {.c = m->c};
    while (*text) {
        size_t n = strcspn(text, "$");
        buf_printf(&b, "%.*s", (int)n, text);
        text += n;
        if (*text) {
            n = strspn(++text, "abcdefghijklmnopqrstuvwxyz_");
            double v = attr_f(m, ctx_strn(m->c, text, n));
            buf_printf(&b, v < 0 ? "(%.17g)" : "%.17g", v);
            text += n;
        }
    }
    return buf_str(&b);
}

Expr text_expr(Imp *m, const char *text, DType t, int narg)
{
    CHECK(narg <= 8);
    DType w = wide_type(t), types[8];
    Expr args[8];
    for (int i = 0; i < narg; i++) {
        types[i] = w;
        args[i] = expr_cast(m->c, xarg(m, i, t), w);
    }
    const char *s = strchr(text, '$') ? attrs_substitute(m, text) : text;
    Expr e = expr_parse(m->c, &s, types, (uint32_t)narg);
    if (w != t)
        e = expr_subst_args(m->c, e, args, (uint32_t)narg);
    return expr_info(m->c, e)->dtype == w ? expr_cast(m->c, e, t) : e;
}

Val map_text(Imp *m, const char *text, int nin, const Val *in)
{
    if (!nin || !in[0].i)
        return (Val){0};
    return b_map1(&m->b, text_expr(m, text, dtype_of(m, in[0]), nin), nin, in);
}

Expr arg_or_const(Imp *m, Val v, Val *in, int *nin)
{
    Scalar s;
    if (val_scalar(m->b.g, v, &s) && rank_of(m, v) == 0)
        return expr_const(m->c, s);
    in[*nin] = v;
    return xarg(m, (*nin)++, dtype_of(m, v));
}

void maps_over(Imp *m, int nres, const Expr *body, int nin, const Val *in, int rank, const Dim *dim, Val *out)
{
    memset(out, 0, sizeof *out * (size_t)nres);
    for (int r = 0; r < nres; r++)
        if (!body[r].i)
            return;
    for (int i = 0; i < nin; i++)
        if (!in[i].i)
            return;
    b_guard_domain(&m->b, nres, body, nin, in, rank, dim);
    b_map(&m->b, nres, body, nin, in, rank, dim, out);
}

Val map_over(Imp *m, Expr body, int nin, const Val *in, int rank, const Dim *dim)
{
    Val out;
    maps_over(m, 1, &body, nin, in, rank, dim, &out);
    return out;
}

Val cast_to(Imp *m, Val v, DType t)
{
    return !v.i || dtype_of(m, v) == t ? v : b_cast(&m->b, v, t);
}

Val reshape_to(Imp *m, Val v, int rank, const Dim *dim)
{
    if (!v.i)
        return v;
    const Type *t = val_type(m->b.g, v);
    bool same = t->rank == rank;
    for (int i = 0; i < rank && same; i++)
        same = dim_same(m->c, t->dim[i], dim[i]);
    return same ? v : b_reshape(&m->b, v, rank, dim);
}

Val insert_axes(Imp *m, Val v, int rank, uint32_t mask)
{
    Dim d[MAX_RANK], out[MAX_RANK];
    dims_of(m, v, d);
    for (int i = 0, k = 0; i < rank; i++)
        out[i] = mask >> i & 1 ? DC(m, 1) : d[k++];
    return reshape_to(m, v, rank, out);
}

Val drop_axes(Imp *m, Val v, uint32_t mask)
{
    Dim d[MAX_RANK], out[MAX_RANK];
    int n = 0;
    dims_of(m, v, d);
    for (int i = 0; i < rank_of(m, v); i++)
        if (!(mask >> i & 1))
            out[n++] = d[i];
    return reshape_to(m, v, n, out);
}

Val along(Imp *m, Val v, int rank, int axis)
{
    Dim d[MAX_RANK];
    for (int i = 0; i < rank; i++)
        d[i] = DC(m, 1);
    const Type t = *val_type(m->b.g, v);
    d[axis] = type_count(m->c, &t);
    return reshape_to(m, v, rank, d);
}

Val scalar_of(Imp *m, DType t, double v)
{
    Scalar s = {.t = DT_F64, .f = v};
    return b_scalar(&m->b, dt_convert(s, t));
}

Val scalar_i64(Imp *m, int64_t v)
{
    Scalar s = {.t = DT_I64, .i = v};
    return b_scalar(&m->b, s);
}

Val only_element(Imp *m, Val v)
{
    return reshape_to(m, v, 0, NULL);
}

Expr position_of(Imp *m, Expr whole)
{
    return expr_cast(m->c, expr_cast(m->c, whole, DT_I32), DT_I64);
}

Expr wrap_index(Imp *m, Expr i, Dim d)
{
    if (expr_info(m->c, i)->kind == E_CONST && expr_info(m->c, i)->val.i >= 0)
        return i;
    return X3(SELECT, X2(LT, i, XI(0)), X2(ADD, i, xdim(m, d)), i);
}

Expr in_range(Imp *m, Expr i, Expr lo, Expr end)
{
    return X2(AND, X2(GE, i, lo), X2(LT, i, end));
}

Expr load_at(Imp *m, int k, DType t, int n, const Expr *idx)
{
    uint32_t guard = expr_guard(m->c, m->b.loc, "index out of range");
    return expr_load(m->c, (uint32_t)k, t, n, idx, OOB_FAIL, (Expr){0}, guard);
}

Val minus_zero_point(Imp *m, Val x, Val zp, int axis, DType t)
{
    Scalar s;
    Val wide = cast_to(m, x, t);
    if (!zp.i || (const_scalar(m, zp, &s) && (dt_is_float(s.t) ? s.f == 0 : s.i == 0)))
        return wide;
    const Type *zt = val_type(m->b.g, zp);
    int rank = rank_of(m, x);
    if (zt->rank == 1 && !dim_is(m->c, zt->dim[0], 1))
        zp = along(m, zp, rank, axis);
    else if (zt->rank == 1)
        zp = only_element(m, zp);
    return b_binary(&m->b, S_SUB, wide, cast_to(m, zp, t));
}
