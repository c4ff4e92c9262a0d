/* op_shape.c: operators that change the shape and not the elements, and those that read it. Sizes are dims all the
 * way: a Reshape whose target was computed from Shape keeps its symbols. */
#include "frontend/import.h"
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(identity); FN(reshape); FN(reshape_attr); FN(flatten); FN(transpose); FN(squeeze); FN(unsqueeze); FN(shape);
FN(size); FN(depthtospace); FN(spacetodepth);

void imp_identity(Imp *m) { result(m, 0, m->in[0]); }

/* Is the symbol e one of the r sizes d of a tensor, so that it is not negative, whatever its expression allows? */
static bool is_size(Ctx *c, Dim e, int r, const Dim *d)
{
    for (int i = 0; i < r; i++)
        if (dim_same(c, e, d[i]))
            return true;
    return false;
}

/* The size that -1 stands for. A quotient without a rest is that of no elements, too, which is what [B,H,S,D] to [B*H,-1,D] wants. */
static Dim quotient(Imp *m, Dim num, Dim den)
{
    Dim q = dim_is(m->c, den, 0) ? DC(m, 0) : dim_floordiv(m->c, num, den);
    return dim_same(m->c, dim_mul(m->c, q, den), num) ? q : dim_floordiv(m->c, num, dim_max(m->c, den, DC(m, 1)));
}

/* Target dims: 0 copies the operand's (unless allowzero), one -1 is what remains. Elements that may be negative at run
 * time are decided there. What remains of no elements is undefined, unless the sizes that are 0 are known to be copies. */
static void reshape(Imp *m, Dim *e, int n, bool allowzero)
{
    Ctx *c = m->c;
    Val x = m->in[0];
    int r = rank_of(m, x), minus = -1;
    Dim d[MAX_RANK], others = DC(m, 1), known = DC(m, 1), open = DC(m, 0);
    bool maybe[SHAPE_MAX] = {false};
    dims_of(m, x, d);
    const Type t = *val_type(m->b.g, x);
    Dim count = type_count(c, &t);
    if (n > MAX_RANK) {
        UNSUP(m, "rank %d (at most %d)", n, MAX_RANK);
        return;
    }
    for (int i = 0; i < n; i++) {
        int64_t v = 1;
        bool fixed = dim_is_const(c, e[i], &v);
        if (fixed && v == -1 && minus < 0) {
            minus = i;
            continue;
        }
        if (fixed && (v < -1 || v == -1)) {
            ERR(m, "E0203", v == -1 ? "shape has more than one -1" : "shape has the negative size %lld", (long long)v);
            return;
        }
        if (fixed && !v && !allowzero && i >= r) {
            ERR(m, "E0203", "shape copies axis %d of an operand of rank %d", i, r);
            return;
        }
        maybe[i] = !fixed && !dim_is(c, dim_lt(c, e[i], DC(m, 0)), 0) && !is_size(c, e[i], r, d);
        if (maybe[i])
            open = dim_add(c, open, dim_eqv(c, e[i], DC(m, -1)));
        if (!allowzero && i < r && (maybe[i] || (fixed && !v)))
            e[i] = dim_select(c, dim_eqv(c, e[i], DC(m, 0)), d[i], e[i]);
        others = dim_mul(c, others, maybe[i] ? dim_select(c, dim_eqv(c, e[i], DC(m, -1)), DC(m, 1), e[i]) : e[i]);
    }
    b_guard(&m->b, G_LE, open, others, "shape leaves -1 undefined: the other sizes give 0 elements");
    for (int i = 0; i < n; i++)
        if (maybe[i])
            e[i] = dim_select(c, dim_eqv(c, e[i], DC(m, -1)),
                              quotient(m, count, others), e[i]);
    if (minus >= 0) {
        /* Axes at both ends that are copied cancel, so that [B, S, H] to [B, S, h, -1] divides constants only. */
        int64_t v;
        Dim num = count, den = others;
        int lead = 0;
        while (lead < n && lead < r && lead != minus && dim_same(c, e[lead], d[lead]))
            lead++;
        int tail = 0;
        while (tail < n - lead && tail < r - lead && n - 1 - tail != minus &&
               dim_same(c, e[n - 1 - tail], d[r - 1 - tail]))
            tail++;
        num = count_of(m, d + lead, r - lead - tail);
        for (int i = lead; i < n - tail; i++)
            if (i != minus)
                known = dim_mul(c, known, e[i]);
        den = known;
        if (dim_is_const(c, den, &v) && !v) {
            if (!dim_is(c, count, 0)) {
                ERR(m, "E0203", "shape leaves -1 undefined: the other sizes give 0 elements");
                return;
            }
            e[minus] = DC(m, 0);
        } else {
            e[minus] = quotient(m, num, den);
        }
    }
    result(m, 0, reshape_to(m, x, n, e));
}

void imp_reshape(Imp *m)
{
    Dim e[SHAPE_MAX];
    int n;
    if (operand_dims(m, m->in[1], "shape", -1, DIM_INF, hint_rank(m, 0), e, &n))
        reshape(m, e, n, row_has_attr(m->row, "allowzero") && attr_i(m, "allowzero"));
}

void imp_reshape_attr(Imp *m)
{
    int n;
    const int64_t *v = attr_ints(m, "shape", &n);
    Dim e[SHAPE_MAX];
    if (n > MAX_RANK) {
        UNSUP(m, "rank %d (at most %d)", n, MAX_RANK);
        return;
    }
    for (int i = 0; i < n; i++)
        e[i] = DC(m, v[i]);
    reshape(m, e, n, false);
}

/* [d0*..*d(axis-1), d(axis)*..] */
void imp_flatten(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), axis = r;
    int64_t a = attr_i(m, "axis");
    Dim d[MAX_RANK];
    if (a != r && !axis_ok(m, a, r, &axis))
        return;
    dims_of(m, x, d);
    result(m, 0, reshape_to(m, x, 2, (Dim[]){count_of(m, d, axis), count_of(m, d + axis, r - axis)}));
}

void imp_transpose(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), n, perm[MAX_RANK];
    const int64_t *p = attr_ints(m, "perm", &n);
    uint32_t mask;
    if (attr_has(m, "perm") && n != r) {
        ERR(m, "E0203", "attribute perm: expected %d axes, got %d", r, n);
        return;
    }
    if (!axes_ok(m, p, n, r, &mask))
        return;
    for (int i = 0; i < r; i++)
        perm[i] = n ? (int)(p[i] < 0 ? p[i] + r : p[i]) : r - 1 - i;
    result(m, 0, b_permute(&m->b, x, perm));
}

/* ---- Squeeze, Unsqueeze */

/* The flags of the axes: attribute, operand (constant or not), or for Squeeze without axes those of size 1. */
static bool flags(Imp *m, int rank, Dim *flag, bool *known)
{
    int n = 0;
    uint32_t mask = 0;
    const int64_t *axes = row_has_attr(m->row, "axes") ? attr_ints(m, "axes", &n) : NULL;
    if (present(m, 1)) {
        if (!runtime_axes(m, m->in[1], rank, 0, flag))
            return false;
    } else {
        if (!axes_ok(m, axes, n, rank, &mask))
            return false;
        for (int i = 0; i < rank; i++)
            flag[i] = DC(m, mask >> i & 1);
    }
    *known = true;
    for (int i = 0; i < rank; i++)
        *known &= dim_is_const(m->c, flag[i], NULL);
    return true;
}

void imp_squeeze(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), hint = hint_rank(m, 0), ones = 0, out = 0;
    Dim d[MAX_RANK], flag[MAX_RANK], od[MAX_RANK];
    bool all = !present(m, 1) && !(row_has_attr(m->row, "axes") && attr_has(m, "axes")), known;
    dims_of(m, x, d);
    if (!flags(m, r, flag, &known))
        return;
    if (all) {
        bool fixed = true;
        for (int i = 0; i < r; i++) {
            ones += dim_is(m->c, d[i], 1);
            fixed &= dim_is_const(m->c, d[i], NULL) || dim_lo(m->c, d[i]) > 1;
        }
        /* Sizes that may turn out to be 1 stay, unless the declared rank says otherwise. */
        known = fixed || hint < 0 || hint == r - ones;
        for (int i = 0; i < r; i++)
            flag[i] = known ? DC(m, dim_is(m->c, d[i], 1)) : dim_eqv(m->c, d[i], DC(m, 1));
    }
    if (known) {
        for (int i = 0; i < r; i++)
            if (dim_is(m->c, flag[i], 0))
                od[out++] = d[i];
            else
                b_guard(&m->b, G_EQ, d[i], DC(m, 1), "axis %d is squeezed and must have size 1", i);
    } else {
        int n = present(m, 1) ? length_of(m, m->in[1]) : -1;
        out = n >= 0 ? r - n : hint;
        if (out < 0 || out > r) {
            UNSUP(m, "the number of axes, and so the rank of the result, is known only at run time" DECLARE_IT);
            return;
        }
        for (int i = 0; i < out; i++)
            od[i] = kept_dim(m, d, flag, r, i);
    }
    result(m, 0, reshape_to(m, x, out, od));
}

void imp_unsqueeze(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), n = 0, from = 0;
    Dim d[MAX_RANK], flag[MAX_RANK], od[MAX_RANK];
    bool known;
    dims_of(m, x, d);
    if (present(m, 1)) {
        int64_t k;
        n = val_elems(m->b.g, m->in[1], &k) ? (int)k : length_of(m, m->in[1]);
        if (n < 0 && hint_rank(m, 0) >= 0)
            n = hint_rank(m, 0) - r;
    } else {
        attr_ints(m, "axes", &n);
    }
    if (n < 0 || r + n > MAX_RANK) {
        UNSUP(m, n < 0 ? "the number of axes, and so the rank of the result, is known only at run time" DECLARE_IT
                       : "rank above %d", MAX_RANK);
        return;
    }
    if (!flags(m, r + n, flag, &known))
        return;
    if (known) {
        for (int i = 0; i < r + n; i++)
            od[i] = dim_is(m->c, flag[i], 1) ? DC(m, 1) : from < r ? d[from++] : DC(m, 1);
    } else {
        /* axis i holds operand axis i - (axes inserted before it) */
        Dim before = DC(m, 0);
        for (int i = 0; i < r + n; i++) {
            od[i] = DC(m, 1);
            for (int k = 0; k < r; k++)
                od[i] = dim_select(m->c, dim_eqv(m->c, dim_addi(m->c, before, k), DC(m, i)), d[k], od[i]);
            od[i] = dim_select(m->c, flag[i], DC(m, 1), od[i]);
            before = dim_add(m->c, before, flag[i]);
        }
    }
    result(m, 0, reshape_to(m, x, r + n, od));
}

/* ---- Shape, Size */

void imp_shape(Imp *m)
{
    int64_t r = rank_of(m, m->in[0]), start = 0, end = r;
    Dim d[MAX_RANK];
    if (row_has_attr(m->row, "start")) {
        start = attr_i(m, "start");
        end = attr_has(m, "end") ? attr_i(m, "end") : r;
        start += start < 0 ? r : 0;
        end += end < 0 ? r : 0;
        start = start < 0 ? 0 : start > r ? r : start;
        end = end < start ? start : end > r ? r : end;
    }
    if (start == 0 && end == r) {
        result(m, 0, b_shape(&m->b, m->in[0]));
        return;
    }
    dims_of(m, m->in[0], d);
    result(m, 0, b_dims(&m->b, (int)(end - start), d + start));
}

void imp_size(Imp *m)
{
    const Type t = *val_type(m->b.g, m->in[0]);
    result(m, 0, b_dim_scalar(&m->b, type_count(m->c, &t)));
}

/* ---- DepthToSpace, SpaceToDepth */

static bool block(Imp *m, Dim *d, int64_t *bs)
{
    *bs = attr_i(m, "blocksize");
    if (rank_of(m, m->in[0]) != 4) {
        ERR(m, "E0203", "expected rank 4, got %d", rank_of(m, m->in[0]));
        return false;
    }
    if (*bs < 1 || *bs > 1 << 20) {
        ERR(m, "E0202", "attribute blocksize: expected a positive number, got %lld", (long long)*bs);
        return false;
    }
    dims_of(m, m->in[0], d);
    return true;
}

/* DCR: [N, b, b, C/b2, H, W]; CRD: [N, C/b2, b, b, H, W]; then [N, C/b2, H, b, W, b] */
void imp_depthtospace(Imp *m)
{
    Dim d[4];
    int64_t bs;
    if (!block(m, d, &bs))
        return;
    bool crd = row_has_attr(m->row, "mode") && attr_is(m, "mode", "CRD");
    Dim b = DC(m, bs), c = dim_floordiv(m->c, d[1], DC(m, bs * bs));
    b_guard(&m->b, G_EQ, dim_mod(m->c, d[1], DC(m, bs * bs)), DC(m, 0),
            "the channels must be divisible by blocksize squared, %lld", (long long)(bs * bs));
    Val six = reshape_to(m, m->in[0], 6, crd ? (Dim[]){d[0], c, b, b, d[2], d[3]} : (Dim[]){d[0], b, b, c, d[2], d[3]});
    Val p = b_permute(&m->b, six, crd ? (int[]){0, 1, 4, 2, 5, 3} : (int[]){0, 3, 4, 1, 5, 2});
    result(m, 0, reshape_to(m, p, 4, (Dim[]){d[0], c, dim_mul(m->c, d[2], b), dim_mul(m->c, d[3], b)}));
}

/* [N, C, H/b, b, W/b, b] to [N, b, b, C, H/b, W/b] */
void imp_spacetodepth(Imp *m)
{
    Dim d[4];
    int64_t bs;
    if (!block(m, d, &bs))
        return;
    Dim b = DC(m, bs), h = dim_floordiv(m->c, d[2], b), w = dim_floordiv(m->c, d[3], b);
    for (int i = 2; i < 4; i++)
        b_guard(&m->b, G_EQ, dim_mod(m->c, d[i], b), DC(m, 0), "axis %d must be divisible by blocksize %lld", i,
                (long long)bs);
    Val six = reshape_to(m, m->in[0], 6, (Dim[]){d[0], d[1], h, b, w, b});
    Val p = b_permute(&m->b, six, (int[]){0, 3, 5, 1, 2, 4});
    result(m, 0, reshape_to(m, p, 4, (Dim[]){d[0], dim_mul(m->c, d[1], DC(m, bs * bs)), h, w}));
}
