/* op_move.c: operators that copy elements to other places: Concat, Split, Slice, Expand, Tile, Pad, Trilu and
 * ReverseSequence. Bounds that are known only at run time become symbols; the arithmetic on them is the specification's,
 * written with dims. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(concat); FN(split); FN(slice); FN(slice_attr); FN(expand); FN(tile); FN(tile_axis); FN(pad); FN(pad_attr);
FN(trilu); FN(reversesequence);

void imp_concat(Imp *m)
{
    int axis, r = rank_of(m, m->in[0]);
    if (!axis_ok(m, attr_i(m, "axis"), r, &axis))
        return;
    for (uint32_t i = 1; i < m->n->nin; i++) {
        if (rank_of(m, m->in[i]) != r || dtype_of(m, m->in[i]) != dtype_of(m, m->in[0])) {
            ERR(m, "E0203", "operand %u has rank %d of %s, operand 0 rank %d of %s", i, rank_of(m, m->in[i]),
                dt_name(dtype_of(m, m->in[i])), r, dt_name(dtype_of(m, m->in[0])));
            return;
        }
    }
    result(m, 0, m->n->nin == 1 ? m->in[0] : b_concat(&m->b, (int)m->n->nin, m->in, axis));
}

/* Equal parts if no sizes are given; since version 18 the last may be smaller. */
void imp_split(Imp *m)
{
    Val x = m->in[0];
    int axis, n = 0, parts = (int)m->n->nout;
    Dim size[SHAPE_MAX], *sz = parts > SHAPE_MAX ? NEWN(m->c, Dim, parts) : size;
    if (!axis_ok(m, attr_i(m, "axis"), rank_of(m, x), &axis))
        return;
    Dim d = dim_of(m, x, axis);
    const int64_t *v = row_has_attr(m->row, "split") ? attr_ints(m, "split", &n) : NULL;
    if (row_has_attr(m->row, "num_outputs") && attr_has(m, "num_outputs") && attr_i(m, "num_outputs") != parts) {
        ERR(m, "E0202", "attribute num_outputs is %lld, the node has %d results",
            (long long)attr_i(m, "num_outputs"), parts);
        return;
    }
    if (v && n <= SHAPE_MAX) {
        for (int i = 0; i < n; i++)
            sz[i] = DC(m, v[i]);
    } else if (present(m, 1)) {
        if (parts <= SHAPE_MAX && !operand_dims(m, m->in[1], "split", 0, DIM_INF, parts, sz, &n))
            return;
    } else {
        Dim chunk = dim_ceildiv(m->c, d, DC(m, parts ? parts : 1));
        if (m->n->version < 18)
            b_guard(&m->b, G_EQ, dim_mod(m->c, d, DC(m, parts ? parts : 1)), DC(m, 0),
                    "the size of axis %d must be divisible by %d", axis, parts);
        for (n = 0; n < parts; n++)
            sz[n] = n < parts - 1 ? chunk : dim_sub(m->c, d, dim_muli(m->c, chunk, parts - 1));
    }
    if (n != parts) {
        ERR(m, "E0203", "%d sizes for %d results", n, parts);
        return;
    }
    Dim start = DC(m, 0);
    for (int i = 0; i < n; i++) {
        int64_t c;
        if (dim_is_const(m->c, sz[i], &c) && c < 0) {
            ERR(m, "E0203", "part %d has the negative size %lld", i, (long long)c);
            return;
        }
        start = dim_add(m->c, start, sz[i]);
    }
    b_guard(&m->b, G_EQ, start, d, "the parts must add up to the size of axis %d", axis);
    start = DC(m, 0);
    for (int i = 0; i < n; i++) {
        if (wanted(m, (uint32_t)i))
            result(m, (uint32_t)i, n == 1 ? x : b_slice_axis(&m->b, x, axis, start, sz[i]));
        start = dim_add(m->c, start, sz[i]);
    }
}

/* ---- Slice */

typedef struct Cut { Dim start, end, step; } Cut;

/* v clamped to [lo, hi], negative ones counted from the end d */
static Dim position(Imp *m, Dim v, Dim d, Dim lo, Dim hi)
{
    enum { FAR = 1000000000 }; /* exporters write such numbers for "the end" */
    Ctx *c = m->c;
    int64_t k;
    if (dim_is_const(c, v, &k) && (k >= FAR || k <= -FAR) && !dim_is_const(c, d, NULL)) {
        if (k != INT64_MAX && k > -INT64_MAX)
            b_guard(&m->b, G_LE, d, DC(m, k < 0 ? -k : k), "an axis of more than %d elements", FAR);
        return k < 0 ? lo : hi;
    }
    Dim near = dim_max(c, dim_min(c, v, d), dim_sub(c, DC(m, -1), d)); /* no overflow in the sum */
    near = dim_select(c, dim_lt(c, near, DC(m, 0)), dim_add(c, near, d), near);
    return dim_max(c, lo, dim_min(c, near, hi));
}

/* start and size of a cut along an axis of size d; the step must be known to be positive or negative */
static void bounds(Imp *m, const Cut *k, Dim d, bool down, Dim stride, Dim *start, Dim *size)
{
    Ctx *c = m->c;
    Dim zero = DC(m, 0), top = dim_addi(c, d, -1);
    Dim s = down ? position(m, k->start, d, dim_min(c, zero, top), top) : position(m, k->start, d, zero, d);
    Dim e = down ? position(m, k->end, d, DC(m, -1), top) : position(m, k->end, d, zero, d);
    Dim span = down ? dim_sub(c, s, e) : dim_sub(c, e, s);
    *start = s;
    *size = dim_max(c, zero, dim_ceildiv(c, span, stride));
}

/* cut[i] for every axis of x */
static void slice(Imp *m, Val x, const Cut *cut)
{
    int r = rank_of(m, x);
    Dim d[MAX_RANK], start[MAX_RANK], size[MAX_RANK];
    int64_t step[MAX_RANK];
    bool fixed = true;
    dims_of(m, x, d);
    for (int i = 0; i < r; i++)
        fixed &= dim_is_const(m->c, cut[i].step, &step[i]);
    for (int i = 0; i < r; i++) {
        if (dim_is(m->c, cut[i].step, 0)) {
            ERR(m, "E0202", "step 0 along axis %d", i);
            return;
        }
        int64_t st;
        if (dim_is_const(m->c, cut[i].step, &st)) {
            bounds(m, &cut[i], d[i], st < 0, DC(m, st < -INT64_MAX ? INT64_MAX : st < 0 ? -st : st), &start[i],
                   &size[i]);
            continue;
        }
        /* a step of unknown sign: both ways, chosen at run time */
        b_guard(&m->b, G_EQ, dim_eqv(m->c, cut[i].step, DC(m, 0)), DC(m, 0), "the step along axis %d is 0", i);
        Dim s[2], z[2], neg = dim_lt(m->c, cut[i].step, DC(m, 0)), one = DC(m, 1);
        bounds(m, &cut[i], d[i], false, dim_max(m->c, cut[i].step, one), &s[0], &z[0]);
        bounds(m, &cut[i], d[i], true, dim_max(m->c, dim_muli(m->c, cut[i].step, -1), one), &s[1], &z[1]);
        start[i] = dim_select(m->c, neg, s[1], s[0]);
        size[i] = dim_select(m->c, neg, z[1], z[0]);
    }
    if (fixed) {
        bool whole = true;
        for (int i = 0; i < r; i++)
            whole &= step[i] == 1 && dim_is(m->c, start[i], 0) && dim_same(m->c, size[i], d[i]);
        result(m, 0, whole ? x : b_slice(&m->b, x, start, step, size));
        return;
    }
    Expr idx[MAX_RANK];
    for (int i = 0; i < r; i++)
        idx[i] = X2(ADD, xdim(m, start[i]), X2(MUL, xaxis(m, i), xdim(m, cut[i].step)));
    result(m, 0, map_over(m, load_at(m, 0, dtype_of(m, x), r, idx), 1, &x, r, size));
}

static void cut_all(Imp *m, int r, Cut *cut)
{
    for (int i = 0; i < r; i++)
        cut[i] = (Cut){DC(m, 0), DC(m, INT64_MAX), DC(m, 1)};
}

void imp_slice_attr(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), ns, ne, na;
    const int64_t *s = attr_ints(m, "starts", &ns), *e = attr_ints(m, "ends", &ne), *a = attr_ints(m, "axes", &na);
    Cut cut[MAX_RANK];
    uint32_t mask;
    if (ns != ne || (a && na != ns) || ns > r) {
        ERR(m, "E0203", "%d starts, %d ends and %d axes for rank %d", ns, ne, a ? na : ns, r);
        return;
    }
    if (!axes_ok(m, a, a ? na : 0, r, &mask))
        return;
    cut_all(m, r, cut);
    for (int i = 0; i < ns; i++) {
        int64_t ax = a ? a[i] : i;
        cut[ax < 0 ? ax + r : ax] = (Cut){DC(m, s[i]), DC(m, e[i]), DC(m, 1)};
    }
    slice(m, x, cut);
}

/* Everything at run time: starts, ends and steps of each axis are looked up by axis. */
static void slice_runtime(Imp *m, int r)
{
    Cut cut[MAX_RANK];
    Val axes = operand(m, 3);
    if (!axes.i) { /* the first axes, as many as there are starts */
        const Type t = *val_type(m->b.g, m->in[1]);
        axes = map_over(m, xaxis(m, 0), 0, NULL, 1, (Dim[]){type_count(m->c, &t)});
    }
    Val s = by_axis(m, m->in[1], axes, r, 0), e = by_axis(m, m->in[2], axes, r, INT64_MAX);
    Val st = present(m, 4) ? by_axis(m, m->in[4], axes, r, 1) : (Val){0};
    for (int i = 0; i < r; i++) {
        cut[i].start = b_bind(&m->b, s, i, "start", INT64_MIN, DIM_INF);
        cut[i].end = b_bind(&m->b, e, i, "end", INT64_MIN, DIM_INF);
        cut[i].step = st.i ? b_bind(&m->b, st, i, "step", INT64_MIN, DIM_INF) : DC(m, 1);
    }
    slice(m, m->in[0], cut);
}

void imp_slice(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), n, ne, na, nt;
    int64_t axes[SHAPE_MAX];
    Dim s[SHAPE_MAX], e[SHAPE_MAX], t[SHAPE_MAX];
    Cut cut[MAX_RANK];
    uint32_t mask;
    bool listed = !present(m, 3) || const_ints(m, m->in[3], axes, SHAPE_MAX, &na);
    if (!listed || length_of(m, m->in[1]) < 0) {
        slice_runtime(m, r);
        return;
    }
    if (!operand_dims(m, m->in[1], "start", INT64_MIN, DIM_INF, -1, s, &n) ||
        !operand_dims(m, m->in[2], "end", INT64_MIN, DIM_INF, n, e, &ne))
        return;
    if (!present(m, 3))
        for (na = 0; na < n; na++)
            axes[na] = na;
    nt = n;
    if (present(m, 4) && !operand_dims(m, m->in[4], "step", INT64_MIN, DIM_INF, n, t, &nt))
        return;
    if (n != ne || n != na || n != nt) {
        ERR(m, "E0203", "%d starts, %d ends, %d axes and %d steps", n, ne, na, nt);
        return;
    }
    if (!axes_ok(m, axes, na, r, &mask))
        return;
    cut_all(m, r, cut);
    for (int i = 0; i < n; i++)
        cut[axes[i] < 0 ? axes[i] + r : axes[i]] = (Cut){s[i], e[i], present(m, 4) ? t[i] : DC(m, 1)};
    slice(m, x, cut);
}

/* ---- Expand, Tile */

/* broadcast of the operand with a shape, both ways */
void imp_expand(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), n;
    Dim e[SHAPE_MAX], d[MAX_RANK], od[MAX_RANK];
    Val shape = m->in[1];
    if (rank_of(m, shape) == 1 && length_of(m, shape) < 0 && hint_rank(m, 0) >= r) {
        /* of unknown length: ones in front make it as long as the declared rank */
        Dim full = DC(m, hint_rank(m, 0)), len = dim_of(m, shape, 0);
        Expr at = X2(ADD, xaxis(m, 0), xdim(m, dim_sub(m->c, len, full)));
        b_guard(&m->b, G_LE, len, full, "the shape has more elements than the declared rank");
        shape = map_over(m, expr_load(m->c, 0, DT_I64, 1, &at, OOB_VALUE, XI(1), 0), 1, &shape, 1, &full);
    }
    if (!operand_dims(m, shape, "shape", 0, DIM_INF, hint_rank(m, 0), e, &n))
        return;
    int out = n > r ? n : r;
    if (out > MAX_RANK) {
        UNSUP(m, "rank %d (at most %d)", out, MAX_RANK);
        return;
    }
    dims_of(m, x, d);
    for (int i = 0; i < out; i++) {
        Dim a = i < out - r ? DC(m, 1) : d[i - (out - r)], b = i < out - n ? DC(m, 1) : e[i - (out - n)];
        b_guard(&m->b, G_BCAST, a, b, "axis %d of the operand does not broadcast to the shape", i);
        od[i] = dim_bcast(m->c, a, b);
    }
    result(m, 0, b_broadcast(&m->b, x, out, od));
}

/* [d] -> [1, d] -> [rep, d] -> [rep*d] */
static void tile(Imp *m, Val x, const Dim *rep)
{
    int r = rank_of(m, x), k = 0;
    Dim d[MAX_RANK], one[2 * MAX_RANK], full[2 * MAX_RANK], out[MAX_RANK];
    dims_of(m, x, d);
    for (int i = 0; i < r; i++) {
        out[i] = dim_mul(m->c, rep[i], d[i]);
        if (!dim_is(m->c, rep[i], 1)) {
            one[k] = DC(m, 1);
            full[k++] = rep[i];
        }
        one[k] = full[k] = d[i];
        k++;
    }
    if (k > MAX_RANK) { /* index by the remainder instead */
        Expr idx[MAX_RANK];
        for (int i = 0; i < r; i++)
            idx[i] = X2(MOD, xaxis(m, i), xdim(m, d[i]));
        result(m, 0, map_over(m, load_at(m, 0, dtype_of(m, x), r, idx), 1, &x, r, out));
        return;
    }
    Val v = b_broadcast(&m->b, reshape_to(m, x, k, one), k, full);
    result(m, 0, reshape_to(m, v, r, out));
}

void imp_tile(Imp *m)
{
    int r = rank_of(m, m->in[0]), n;
    Dim rep[SHAPE_MAX];
    if (!operand_dims(m, m->in[1], "repeats", 0, DIM_INF, r, rep, &n))
        return;
    if (n != r) {
        ERR(m, "E0203", "%d repeats for rank %d", n, r);
        return;
    }
    tile(m, m->in[0], rep);
}

/* Tile-1: how often, along one axis */
void imp_tile_axis(Imp *m)
{
    int r = rank_of(m, m->in[0]), n;
    Dim rep[SHAPE_MAX];
    Val axis = only_element(m, cast_to(m, m->in[2], DT_I64)), times = only_element(m, cast_to(m, m->in[1], DT_I64));
    if (!axis.i || !times.i || !operand_dims(m, by_axis(m, times, axis, r, 1), "tiles", 0, DIM_INF, r, rep, &n))
        return;
    tile(m, m->in[0], rep);
}

/* ---- Pad */

static const struct { const char *name; PadMode mode; } modes[] = {
    {"constant", PAD_VALUE}, {"edge", PAD_EDGE}, {"reflect", PAD_REFLECT}, {"wrap", PAD_WRAP}};

/* The coordinate of the operand that position p (may be outside of [0, d)) shows. */
static Expr pad_index(Imp *m, PadMode mode, Expr p, Dim d)
{
    Expr n = xdim(m, d);
    if (mode == PAD_WRAP)
        return X2(MOD, p, n);
    if (mode == PAD_EDGE)
        return X2(MAX, XI(0), X2(MIN, p, X2(SUB, n, XI(1))));
    if (mode == PAD_REFLECT) { /* period 2(d-1), one element alone repeats */
        Expr period = X2(MAX, XI(1), X2(MUL, X2(SUB, n, XI(1)), XI(2)));
        Expr q = X2(MOD, p, period);
        return X2(MIN, q, X2(SUB, period, q));
    }
    return p;
}

static void pad(Imp *m, Val x, const Dim *lo, const Dim *hi, PadMode mode, Val value)
{
    int r = rank_of(m, x);
    DType t = dtype_of(m, x);
    Scalar v = dt_convert((Scalar){.t = DT_I64, .i = 0}, t);
    bool plain = mode != PAD_WRAP;
    Dim d[MAX_RANK], od[MAX_RANK];
    dims_of(m, x, d);
    if (value.i && const_scalar(m, value, &v))
        value = (Val){0};
    for (int i = 0; i < r; i++) {
        plain &= dim_lo(m->c, lo[i]) >= 0 && dim_lo(m->c, hi[i]) >= 0;
        if (mode == PAD_REFLECT) /* one reflection at most */
            plain &= dim_hi(m->c, lo[i]) < dim_lo(m->c, d[i]) && dim_hi(m->c, hi[i]) < dim_lo(m->c, d[i]);
        od[i] = dim_add(m->c, d[i], dim_add(m->c, lo[i], hi[i]));
        b_guard(&m->b, G_LE, DC(m, 0), od[i], "axis %d is padded to a negative size", i);
        od[i] = dim_max(m->c, od[i], DC(m, 0));
    }
    if (plain) {
        result(m, 0, b_pad(&m->b, x, lo, hi, NULL, mode, v, value));
        return;
    }
    Expr idx[MAX_RANK], e;
    Val in[2] = {x, value};
    int nin = 1;
    for (int i = 0; i < r; i++)
        idx[i] = pad_index(m, mode, X2(SUB, xaxis(m, i), xdim(m, lo[i])), d[i]);
    if (mode == PAD_VALUE) {
        Expr fill = value.i ? xarg(m, nin++, t) : expr_const(m->c, v);
        e = expr_load(m->c, 0, t, r, idx, OOB_VALUE, fill, 0);
    } else {
        e = load_at(m, 0, t, r, idx);
    }
    result(m, 0, map_over(m, e, nin, in, r, od));
}

static PadMode pad_mode(Imp *m)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (attr_is(m, "mode", modes[i].name))
            return modes[i].mode;
    return PAD_VALUE;
}

void imp_pad_attr(Imp *m)
{
    int r = rank_of(m, m->in[0]), n;
    const int64_t *p = attr_ints(m, row_has_attr(m->row, "pads") ? "pads" : "paddings", &n);
    Dim lo[MAX_RANK], hi[MAX_RANK];
    if (n != 2 * r) {
        ERR(m, "E0203", "attribute pads: expected %d numbers, got %d", 2 * r, n);
        return;
    }
    for (int i = 0; i < r; i++) {
        lo[i] = DC(m, p[i]);
        hi[i] = DC(m, p[r + i]);
    }
    pad(m, m->in[0], lo, hi, pad_mode(m), scalar_of(m, dtype_of(m, m->in[0]), attr_f(m, "value")));
}

void imp_pad(Imp *m)
{
    Val x = m->in[0], value = operand(m, 2), axes = operand(m, 3);
    int r = rank_of(m, x), n, na = r;
    int64_t ax[SHAPE_MAX];
    Dim lo[MAX_RANK], hi[MAX_RANK], p[SHAPE_MAX];
    if (value.i)
        value = only_element(m, value);
    for (int i = 0; i < r; i++)
        lo[i] = hi[i] = DC(m, 0);
    if (axes.i && !const_ints(m, axes, ax, SHAPE_MAX, &na)) {
        /* pads[0..n) and pads[n..2n) of the axes listed */
        const Type t = *val_type(m->b.g, axes);
        Dim len = type_count(m->c, &t);
        const Type pt = *val_type(m->b.g, m->in[1]);
        b_guard(&m->b, G_EQ, type_count(m->c, &pt), dim_muli(m->c, len, 2), "pads must hold two numbers per axis");
        Val half[2], flat = reshape_to(m, m->in[1], 1, (Dim[]){dim_muli(m->c, len, 2)});
        for (int i = 0; i < 2; i++) {
            half[i] = by_axis(m, b_slice_axis(&m->b, flat, 0, dim_muli(m->c, len, i), len), axes, r, 0);
            for (int k = 0; k < r; k++)
                *(i ? &hi[k] : &lo[k]) = b_bind(&m->b, half[i], k, "pad", INT64_MIN, DIM_INF);
        }
        pad(m, x, lo, hi, pad_mode(m), value);
        return;
    }
    uint32_t mask;
    if (!axes.i)
        for (int i = 0; i < r; i++)
            ax[i] = i;
    if (!axes_ok(m, ax, na, r, &mask) ||
        !operand_dims(m, m->in[1], "pad", INT64_MIN, DIM_INF, 2 * na, p, &n))
        return;
    if (n != 2 * na) {
        ERR(m, "E0203", "pads: expected %d numbers, got %d", 2 * na, n);
        return;
    }
    for (int i = 0; i < na; i++) {
        int a = (int)(ax[i] < 0 ? ax[i] + r : ax[i]);
        lo[a] = p[i];
        hi[a] = p[na + i];
    }
    pad(m, x, lo, hi, pad_mode(m), value);
}

/* ---- Trilu, ReverseSequence */

/* upper: column - row >= k, else column - row <= k; the rest is 0 */
void imp_trilu(Imp *m)
{
    Val in[2] = {m->in[0]};
    int r = rank_of(m, in[0]), n = 1;
    DType t = dtype_of(m, in[0]);
    if (r < 2) {
        ERR(m, "E0203", "expected a matrix, got rank %d", r);
        return;
    }
    Expr k = XI(0), off = X2(SUB, xaxis(m, r - 1), xaxis(m, r - 2));
    Scalar s;
    if (const_scalar(m, operand(m, 1), &s)) {
        k = XI(s.i);
    } else if (present(m, 1)) {
        in[1] = only_element(m, m->in[1]);
        k = xarg(m, n++, DT_I64);
    }
    Expr hit = attr_i(m, "upper") ? X2(GE, off, k) : X2(LE, off, k);
    Expr e = X3(SELECT, hit, xarg(m, 0, t), expr_int(m->c, t, 0));
    Dim d[MAX_RANK];
    dims_of(m, in[0], d);
    result(m, 0, map_over(m, e, n, in, r, d));
}

/* y[b, t] = x[b, t < len[b] ? len[b] - 1 - t : t] */
void imp_reversesequence(Imp *m)
{
    Val in[2] = {m->in[0], m->in[1]};
    int r = rank_of(m, in[0]), batch, time;
    if (!axis_ok(m, attr_i(m, "batch_axis"), r, &batch) || !axis_ok(m, attr_i(m, "time_axis"), r, &time))
        return;
    if (batch > 1 || time > 1 || batch == time || rank_of(m, in[1]) != 1) {
        ERR(m, "E0202", "batch_axis and time_axis must be 0 and 1, sequence_lens one dimension");
        return;
    }
    Dim d[MAX_RANK];
    Expr idx[MAX_RANK], b = xaxis(m, batch), t = xaxis(m, time);
    dims_of(m, in[0], d);
    b_guard(&m->b, G_EQ, dim_of(m, in[1], 0), d[batch], "sequence_lens must have one element per batch");
    Expr len = load_at(m, 1, DT_I64, 1, &b);
    for (int i = 0; i < r; i++)
        idx[i] = xaxis(m, i);
    idx[time] = X3(SELECT, X2(LT, t, len), X2(SUB, X2(SUB, len, XI(1)), t), t);
    result(m, 0, map_over(m, load_at(m, 0, dtype_of(m, in[0]), r, idx), 2, in, r, d));
}
