/* op_resize.c: Resize, Upsample and GridSample. Resize is separable: per axis, small vectors of first index and of
 * coefficients are computed in f64 (folded when sizes are known), then one map reads its taps through them. Nearest
 * neighbour of all axes is one map, and whole-number enlargement is a broadcast. Coordinates are those of the
 * specification's reference: ratio in (0, 1], the pixel on the left preferred. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(resize); FN(resize10); FN(upsample);

typedef enum { NEAREST, LINEAR, CUBIC } Kind;
typedef struct Rule {
    Kind kind;
    const char *coord, *nearest;
    bool antialias, outside;            /* outside: exclude_outside */
    double a, extrapolation;
} Rule;
typedef struct Side {                   /* one axis to be resized */
    int axis;
    Dim in, out;
    bool known;                         /* scale is a constant: */
    double value;
    Expr scale, from, to;               /* f64, over operands `in` of Resizer; from and to: region of interest */
} Side;
typedef struct Resizer { Rule rule; int n, nval; Val val[2]; Side side[MAX_RANK]; } Resizer;

#define F(v) xf(m, DT_F64, (v))

/* The coordinate in the operand of output coordinate o (an i64 expression). */
static Expr source(Imp *m, const Rule *r, const Side *s, Expr o)
{
    Expr x = to_f64(m, o), in = to_f64(m, xdim(m, s->in)), len = X2(MUL, s->scale, in), one = F(1);
    Expr half = X2(SUB, X2(DIV, X2(ADD, x, F(0.5)), s->scale), F(0.5)), single = X2(EQ, len, one);
    if (!strcmp(r->coord, "align_corners"))
        return X3(SELECT, single, F(0), X2(DIV, X2(MUL, x, X2(SUB, in, one)), X2(SUB, len, one)));
    if (!strcmp(r->coord, "asymmetric"))
        return X2(DIV, x, s->scale);
    if (!strcmp(r->coord, "tf_half_pixel_for_nn"))
        return X2(DIV, X2(ADD, x, F(0.5)), s->scale);
    if (!strcmp(r->coord, "pytorch_half_pixel"))
        return X3(SELECT, single, F(-0.5), half);
    if (!strcmp(r->coord, "half_pixel_symmetric")) {
        Expr adjust = X2(DIV, to_f64(m, xdim(m, s->out)), len);
        return X2(ADD, X2(MUL, X2(DIV, in, F(2)), X2(SUB, one, adjust)), half);
    }
    if (!strcmp(r->coord, "tf_crop_and_resize")) {
        Expr top = X2(SUB, in, one), span = X2(MUL, X2(SUB, s->to, s->from), top);
        Expr at = X3(SELECT, single, X2(DIV, span, F(2)), X2(DIV, X2(MUL, x, span), X2(SUB, len, one)));
        return X2(ADD, at, X2(MUL, s->from, top));
    }
    return half;
}

/* ceil(x) - 1: the pixel strictly on the left */
static Expr left_of(Imp *m, Expr x) { return X2(SUB, X1(CEIL, x), F(1)); }

static Expr nearest_index(Imp *m, const Rule *r, const Side *s, Expr x)
{
    if (!strcmp(r->nearest, "simple")) { /* of coordinates in float32 */
        x = to_f64(m, expr_cast(m->c, x, DT_F32));
        return X3(SELECT, X2(LT, s->scale, F(1)), X1(CEIL, x), X1(FLOOR, x));
    }
    Expr f = left_of(m, x), ratio = X2(SUB, x, f), up;
    if (!strcmp(r->nearest, "floor"))
        up = X2(EQ, ratio, F(1));
    else if (!strcmp(r->nearest, "ceil"))
        return X2(ADD, f, F(1));
    else if (!strcmp(r->nearest, "round_prefer_ceil"))
        up = X2(GE, ratio, F(0.5));
    else
        up = X2(GT, ratio, F(0.5));
    return X3(SELECT, up, X2(ADD, f, F(1)), f);
}

/* The weight of a pixel at distance t */
static Expr weight(Imp *m, const Rule *r, Expr t)
{
    t = X1(ABS, t);
    if (r->kind == LINEAR)
        return X2(MAX, F(0), X2(SUB, F(1), t));
    double a = r->a;
    Expr t2 = X2(MUL, t, t);
    Expr inner = X2(ADD, X2(MUL, X2(SUB, X2(MUL, F(a + 2), t), F(a + 3)), t2), F(1));
    Expr outer = X2(SUB, X2(MUL, X2(ADD, X2(MUL, X2(SUB, X2(MUL, F(a), t), F(5 * a)), t), F(8 * a)), t), F(4 * a));
    return X3(SELECT, X2(LE, t, F(1)), inner, X3(SELECT, X2(LT, t, F(2)), outer, F(0)));
}

static Val vector(Imp *m, const Resizer *z, Expr e, int rank, const Dim *d)
{
    return map_over(m, e, z->nval, z->val, rank, d);
}

/* An i64 expression over scalars as a dim: its value, or a symbol. */
static Dim dim_value(Imp *m, const Resizer *z, Expr e, const char *stem, int64_t lo)
{
    Val v = vector(m, z, e, 0, NULL);
    int64_t k;
    int n;
    return const_ints(m, v, &k, 1, &n) ? DC(m, k) : b_bind(&m->b, v, 0, stem, lo, DIM_INF);
}

/* true where a source coordinate is outside of the image (tf_crop_and_resize) */
static Val crop_mask(Imp *m, const Resizer *z, const Side *s)
{
    if (strcmp(z->rule.coord, "tf_crop_and_resize"))
        return (Val){0};
    Expr x = source(m, &z->rule, s, xaxis(m, 0)), top = X2(SUB, to_f64(m, xdim(m, s->in)), F(1));
    return vector(m, z, X2(OR, X2(LT, x, F(0)), X2(GT, x, top)), 1, &s->out);
}

/* One axis with weights. x is of type w. */
static Val interpolate(Imp *m, const Resizer *z, const Side *s, Val x, DType w)
{
    const Rule *r = &z->rule;
    Expr src = source(m, r, s, xaxis(m, 0)), f = left_of(m, src), start = F(r->kind == LINEAR ? 0 : -1), shrink = F(1);
    Dim taps = DC(m, r->kind == LINEAR ? 2 : 4);
    double reach = r->kind == LINEAR ? 1 : 2;
    if (r->antialias) {
        shrink = X2(MIN, s->scale, F(1));
        start = X2(ADD, X1(FLOOR, X2(DIV, F(-reach), shrink)), F(1));
        Expr count = expr_cast(m->c, X2(SUB, F(2), X2(MUL, F(2), start)), DT_I64);
        taps = dim_value(m, z, count, "taps", 2);
    }
    Dim grid[2] = {s->out, taps};
    Expr at = X2(ADD, start, to_f64(m, xaxis(m, 1)));
    Expr c = weight(m, r, X2(MUL, X2(SUB, at, X2(SUB, src, f)), shrink));
    if (r->outside) {
        Expr p = X2(ADD, f, at), in = to_f64(m, xdim(m, s->in));
        c = X3(SELECT, X2(OR, X2(LT, p, F(0)), X2(GE, p, in)), F(0), c);
    }
    Val coef = vector(m, z, c, 2, grid);
    if (r->antialias || r->outside) {
        Val in[2] = {coef, b_reduce1(&m->b, R_SUM, coef, 2, true)};
        coef = map_text(m, "a / select(b == 0, 1, b)", 2, in);
    }
    coef = cast_to(m, coef, w);
    Val base = vector(m, z, expr_cast(m->c, X2(ADD, f, start), DT_I32), 1, &s->out), mask = crop_mask(m, z, s);
    if (!coef.i || !base.i)
        return (Val){0};
    int rank = rank_of(m, x);
    Dim d[MAX_RANK + 1];
    Expr idx[MAX_RANK], o = xaxis(m, s->axis), e = {0};
    dims_of(m, x, d);
    d[s->axis] = s->out;
    for (int i = 0; i < rank; i++)
        idx[i] = xaxis(m, i);
    Expr first = expr_cast(m->c, expr_load(m->c, 2, DT_I32, 1, &o, OOB_CLAMP, (Expr){0}, 0), DT_I64), end = X2(SUB, xdim(m, s->in), XI(1));
    Val in[4] = {x, coef, base, mask}, y;
    int64_t n;
    bool unrolled = dim_is_const(m->c, taps, &n) && n <= 8;
    for (int64_t j = 0; j < (unrolled ? n : 1); j++) {
        Expr tap = unrolled ? XI(j) : xaxis(m, rank), cj[2] = {o, tap};
        idx[s->axis] = X2(MAX, XI(0), X2(MIN, X2(ADD, first, tap), end));
        Expr term = X2(MUL, expr_load(m->c, 1, w, 2, cj, OOB_CLAMP, (Expr){0}, 0),
                       expr_load(m->c, 0, w, rank, idx, OOB_CLAMP, (Expr){0}, 0));
        e = j ? X2(ADD, e, term) : term;
    }
    if (!unrolled) {
        if (rank == MAX_RANK)
            return (Val){0};
        d[rank] = taps;
        y = map_over(m, e, 3, in, rank + 1, d);
        y = b_reduce1(&m->b, R_SUM, y, 1u << rank, false);
        e = xarg(m, 0, w);
        in[0] = y;
    }
    if (mask.i)
        e = X3(SELECT, expr_load(m->c, 3, DT_BOOL, 1, &o, OOB_CLAMP, (Expr){0}, 0), xf(m, w, r->extrapolation), e);
    return !unrolled && !mask.i ? in[0] : map_over(m, e, mask.i ? 4 : 3, in, rank, d);
}

/* Does output o show operand o / k for a whole k? (k, or 0) */
static int64_t whole_factor(const Rule *r, const Side *s)
{
    double k = s->value;
    if (!s->known || k < 1 || k > 1024 || k != floor(k))
        return 0;
    bool round = !strncmp(r->nearest, "round", 5), half = !strncmp(r->coord, "half_pixel", 10);
    bool asym = !strcmp(r->coord, "asymmetric") &&
                (!strcmp(r->nearest, "floor") || !strcmp(r->nearest, "simple") || (k == 2 && !strcmp(r->nearest, "round_prefer_floor")));
    return (half && round) || asym || k == 1 ? (int64_t)k : 0;
}

static Val nearest(Imp *m, const Resizer *z, Val x)
{
    int rank = rank_of(m, x), nin = 1;
    Dim d[MAX_RANK], one[MAX_RANK], full[MAX_RANK];
    Expr idx[MAX_RANK], crop = {0};
    Val in[1 + 2 * MAX_RANK] = {x};
    DType t = dtype_of(m, x);
    bool whole = true;
    int k = 0;
    dims_of(m, x, d);
    for (int i = 0; i < rank; i++) {
        const Side *s = NULL;
        for (int j = 0; j < z->n; j++)
            s = z->side[j].axis == i ? &z->side[j] : s;
        int64_t f = s ? whole_factor(&z->rule, s) : 1;
        whole &= f > 0 && k + 2 <= MAX_RANK && (!s || dim_same(m->c, s->out, dim_muli(m->c, s->in, f)));
        if (whole) {
            one[k] = full[k] = d[i];
            k++;
            if (f > 1) {
                one[k] = DC(m, 1);
                full[k++] = DC(m, f);
            }
        }
        idx[i] = xaxis(m, i);
        if (!s)
            continue;
        d[i] = s->out;
    }
    if (whole && strcmp(z->rule.coord, "tf_crop_and_resize"))
        return reshape_to(m, b_broadcast(&m->b, reshape_to(m, x, k, one), k, full), rank, d);
    for (int j = 0; j < z->n; j++) {
        const Side *s = &z->side[j];
        Expr o = xaxis(m, s->axis), p = nearest_index(m, &z->rule, s, source(m, &z->rule, s, xaxis(m, 0)));
        p = X2(MAX, F(0), X2(MIN, p, X2(SUB, to_f64(m, xdim(m, s->in)), F(1))));
        in[nin] = vector(m, z, expr_cast(m->c, p, DT_I32), 1, &s->out);
        idx[s->axis] = expr_cast(m->c, expr_load(m->c, (uint32_t)nin++, DT_I32, 1, &o, OOB_CLAMP, (Expr){0}, 0), DT_I64);
        in[nin] = crop_mask(m, z, s);
        if (in[nin].i) {
            Expr c = expr_load(m->c, (uint32_t)nin++, DT_BOOL, 1, &o, OOB_CLAMP, (Expr){0}, 0);
            crop = crop.i ? X2(OR, crop, c) : c;
        }
    }
    Expr e = expr_load(m->c, 0, t, rank, idx, OOB_CLAMP, (Expr){0}, 0);
    if (crop.i)
        e = X3(SELECT, crop, xf(m, t, z->rule.extrapolation), e);
    return map_over(m, e, nin, in, rank, d);
}

static void resize(Imp *m, const Resizer *all)
{
    Resizer z = *all;
    Val x = m->in[0];
    DType t = dtype_of(m, x), w = t == DT_F64 || !dt_is_float(t) ? DT_F64 : DT_F32;
    bool crop = !strcmp(z.rule.coord, "tf_crop_and_resize");
    z.n = 0;
    for (int i = 0; i < all->n; i++) {
        const Side *s = &all->side[i];
        if (crop || !s->known || s->value != 1 || !dim_same(m->c, s->in, s->out))
            z.side[z.n++] = *s;
    }
    if (z.rule.kind == NEAREST) {
        result(m, 0, z.n ? nearest(m, &z, x) : x);
        return;
    }
    Val y = z.n ? cast_to(m, x, w) : x;
    for (int i = 0; i < z.n && y.i; i++)
        y = interpolate(m, &z, &z.side[i], y, w);
    /* integers: ONNX Runtime truncates between two neighbours, and rounds all other sums as the specification's reference does */
    if (y.i && z.n && !dt_is_float(t) && (z.rule.kind == CUBIC || z.rule.antialias))
        y = map_text(m, "rint(a)", 1, &y);
    result(m, 0, cast_to(m, y, t));
}

/* ---- sizes and scales */

/* floor(in * v) */
static Dim scaled(Imp *m, const Resizer *z, const Side *s)
{
    int64_t in;
    int e;
    if (s->known && dim_is_const(m->c, s->in, &in)) {
        double v = floor((double)in * s->value);
        if (v >= 0 && v < 0x1p40)
            return DC(m, (int64_t)v);
        ERR(m, "E0203", "axis %d: size %lld times %g", s->axis, (long long)in, s->value);
        return (Dim){0};
    }
    if (s->known && s->value > 0 && s->value < 0x1p20) { /* p / 2^q */
        double p = s->value, q = 1;
        for (e = 0; e < 10 && p != floor(p); e++, q *= 2)
            p *= 2;
        if (p == floor(p) && p < 0x1p20)
            return dim_floordiv(m->c, dim_muli(m->c, s->in, (int64_t)p), DC(m, (int64_t)q));
    }
    Expr v = X1(FLOOR, X2(MUL, s->scale, to_f64(m, xdim(m, s->in))));
    return dim_value(m, z, expr_cast(m->c, v, DT_I64), "resized", 0);
}

/* Scales from a list of constants (v) or from operand `scales`; one per entry of z->side. */
static bool take_scales(Imp *m, Resizer *z, Val scales, const double *v, int n)
{
    double c[MAX_RANK];
    if (scales.i) {
        if (!const_floats(m, scales, c, MAX_RANK, &n)) {
            z->val[z->nval] = scales;
            Expr v1 = to_f64(m, xarg(m, 0, dtype_of(m, scales)));
            b_guard_val(&m->b, b_map1(&m->b, X2(AND, X2(GT, v1, F(0)), X2(LT, v1, F(INFINITY))), 1, &scales), "a scale is not a positive number");
            n = length_of(m, scales);
            b_guard(&m->b, G_EQ, rank_of(m, scales) == 1 ? dim_of(m, scales, 0) : DC(m, 1), DC(m, z->n),
                    "scales must have one element per axis");
            n = n < 0 ? z->n : n;
        } else {
            v = c;
        }
    }
    if (n != z->n) {
        ERR(m, "E0203", "%d scales for %d axes", n, z->n);
        return false;
    }
    for (int i = 0; i < n; i++) {
        Side *s = &z->side[i];
        Expr at = XI(i);
        s->known = v != NULL;
        if (v && !(v[i] > 0 && v[i] < INFINITY)) {
            ERR(m, "E0202", "scale %d: expected a positive number, got %g", i, v[i]);
            return false;
        }
        s->value = v ? v[i] : 0;
        s->scale = v ? F(v[i]) : to_f64(m, load_at(m, z->nval, dtype_of(m, scales), 1, &at));
    }
    z->nval += !v;
    for (int i = 0; i < n; i++) {
        z->side[i].out = scaled(m, z, &z->side[i]);
        if (!z->side[i].out.i)
            return false;
    }
    return true;
}

static bool take_sizes(Imp *m, Resizer *z, const char *policy)
{
    Dim out[SHAPE_MAX];
    int n;
    int64_t a, b;
    bool stretch = !strcmp(policy, "stretch"), known = true;
    double best = 0;
    Expr all = {0};
    if (!operand_dims(m, m->in[3], "size", 0, DIM_INF, z->n, out, &n))
        return false;
    if (n != z->n) {
        ERR(m, "E0203", "%d sizes for %d axes", n, z->n);
        return false;
    }
    for (int i = 0; i < n; i++) {
        Side *s = &z->side[i];
        s->out = out[i];
        s->scale = X2(DIV, to_f64(m, xdim(m, s->out)), to_f64(m, xdim(m, s->in)));
        s->known = dim_is_const(m->c, s->out, &a) && dim_is_const(m->c, s->in, &b) && b > 0;
        s->value = s->known ? (double)a / (double)b : 0;
        bool less = !strcmp(policy, "not_larger");
        known &= s->known;
        if (s->known && (!i || (less ? s->value < best : s->value > best)))
            best = s->value;
        all = !i ? s->scale : less ? X2(MIN, all, s->scale) : X2(MAX, all, s->scale);
    }
    for (int i = 0; i < n && !stretch; i++) {
        Side *s = &z->side[i];
        s->known = known;
        s->value = best;
        s->scale = all;
        Expr v = X2(ADD, X2(MUL, all, to_f64(m, xdim(m, s->in))), F(0.5));
        s->out = dim_value(m, z, expr_cast(m->c, v, DT_I64), "resized", 0);
    }
    return true;
}

static void every_axis(Imp *m, Resizer *z)
{
    z->n = rank_of(m, m->in[0]);
    for (int i = 0; i < z->n; i++)
        z->side[i] = (Side){.axis = i, .in = dim_of(m, m->in[0], i)};
}

void imp_resize(Imp *m)
{
    Resizer z = {.rule = {.coord = attr_s(m, "coordinate_transformation_mode"), .nearest = attr_s(m, "nearest_mode"),
                          .outside = attr_i(m, "exclude_outside") != 0, .a = attr_f(m, "cubic_coeff_a"),
                          .extrapolation = attr_f(m, "extrapolation_value")}};
    int n = 0, r = rank_of(m, m->in[0]);
    z.rule.kind = attr_is(m, "mode", "nearest") ? NEAREST : attr_is(m, "mode", "linear") ? LINEAR : CUBIC;
    z.rule.antialias = row_has_attr(m->row, "antialias") && attr_i(m, "antialias");
    if (z.rule.kind == NEAREST && z.rule.antialias) {
        ERR(m, "E0202", "attribute antialias: not defined for mode nearest");
        return;
    }
    every_axis(m, &z);
    const int64_t *axes = row_has_attr(m->row, "axes") ? attr_ints(m, "axes", &n) : NULL;
    uint32_t mask;
    if (axes) {
        if (!axes_ok(m, axes, n, r, &mask))
            return;
        for (z.n = 0; z.n < n; z.n++) {
            int a = (int)(axes[z.n] < 0 ? axes[z.n] + r : axes[z.n]);
            z.side[z.n] = (Side){.axis = a, .in = dim_of(m, m->in[0], a)};
        }
    }
    bool sizes = present(m, 3) && (rank_of(m, m->in[3]) != 1 || !dim_is(m->c, dim_of(m, m->in[3], 0), 0));
    bool scales = present(m, 2) && (rank_of(m, m->in[2]) != 1 || !dim_is(m->c, dim_of(m, m->in[2], 0), 0));
    if (sizes && scales && dim_is_const(m->c, dim_of(m, m->in[3], 0), NULL))
        scales = dim_is_const(m->c, dim_of(m, m->in[2], 0), NULL); /* of a length that the run knows: empty, since only one may be given */
    if (!sizes && !scales) {
        ERR(m, "E0205", "one of scales and sizes must be given");
        return;
    }
    if (sizes && !scales
            ? !take_sizes(m, &z, row_has_attr(m->row, "keep_aspect_ratio_policy")
                                     ? attr_s(m, "keep_aspect_ratio_policy") : "stretch")
            : !take_scales(m, &z, m->in[2], NULL, 0))
        return;
    if (!strcmp(z.rule.coord, "tf_crop_and_resize")) {
        if (!present(m, 1)) {
            ERR(m, "E0205", "tf_crop_and_resize needs operand roi");
            return;
        }
        z.val[z.nval] = m->in[1];
        for (int i = 0; i < z.n; i++) {
            Expr a = XI(i), b = XI(z.n + i);
            z.side[i].from = to_f64(m, load_at(m, z.nval, dtype_of(m, m->in[1]), 1, &a));
            z.side[i].to = to_f64(m, load_at(m, z.nval, dtype_of(m, m->in[1]), 1, &b));
        }
        z.nval++;
    }
    resize(m, &z);
}

/* Before version 11 there is one rule: asymmetric, and as in ONNX Runtime the pixel on the right along axes that shrink, else that on the left. */
static void resize_old(Imp *m, Val scales, const double *v, int n)
{
    Resizer z = {.rule = {.coord = "asymmetric", .nearest = "simple"}};
    z.rule.kind = attr_is(m, "mode", "nearest") ? NEAREST : LINEAR;
    every_axis(m, &z);
    if (take_scales(m, &z, scales, v, n))
        resize(m, &z);
}

void imp_resize10(Imp *m) { resize_old(m, m->in[1], NULL, 0); }

void imp_upsample(Imp *m)
{
    double v[MAX_RANK] = {1, 1};
    if (present(m, 1)) {
        resize_old(m, m->in[1], NULL, 0);
        return;
    }
    const SrcAttr *a = attr_find(m, "scales");
    int n = a ? (int)a->p->n_floats : 4;
    for (int i = 0; a && i < n && i < MAX_RANK; i++)
        v[i] = (double)a->p->floats[i];
    if (!a) {
        v[2] = attr_f(m, "height_scale");
        v[3] = attr_f(m, "width_scale");
    }
    resize_old(m, (Val){0}, v, n);
}
