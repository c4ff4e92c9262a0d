/* op_grid.c: operators on images and grids that are maps with computed coordinates: centred crops, sampling grids, folding
 * of columns, unpooling, deformable convolution, aligned regions. Sums over samples are reductions of such maps. */
#include "frontend/import.h"
#include "frontend/window.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(centercroppad); FN(affinegrid); FN(col2im); FN(maxunpool); FN(deformconv); FN(roialign);
FN(maxroipool);

/* Attribute `name`: n numbers, all `deflt` if it is absent. */
static bool ints_or(Imp *m, const char *name, int n, int64_t deflt, int64_t least, int64_t *out)
{
    int have;
    const int64_t *v = attr_ints(m, name, &have);
    for (int i = 0; i < n; i++) {
        out[i] = v && i < have ? v[i] : deflt;
        if ((v && have != n) || out[i] < least || out[i] > INT32_MAX) {
            ERR(m, "E0202", "attribute %s: expected %d numbers of at least %lld", name, n, (long long)least);
            return false;
        }
    }
    return true;
}

void imp_centercroppad(Imp *m)
{
    Val x = m->in[0];
    int n, k, r = rank_of(m, x);
    const int64_t *axes = attr_ints(m, "axes", &n);
    uint32_t mask;
    Dim in[MAX_RANK], d[MAX_RANK], want[SHAPE_MAX];
    Expr at[MAX_RANK];
    if (attr_has(m, "axes") && !axes_ok(m, axes, n, r, &mask))
        return;
    n = attr_has(m, "axes") ? n : r;
    if (!operand_dims(m, m->in[1], "shape", 0, DIM_INF, n, want, &k))
        return;
    if (k != n) {
        ERR(m, "E0203", "%d sizes for %d axes", k, n);
        return;
    }
    dims_of(m, x, in);
    memcpy(d, in, sizeof d);
    for (int i = 0; i < n; i++)
        d[attr_has(m, "axes") ? (int)(axes[i] < 0 ? axes[i] + r : axes[i]) : i] = want[i];
    for (int i = 0; i < r; i++) {
        Expr crop = X2(FDIV, X2(SUB, xdim(m, in[i]), xdim(m, d[i])), XI(2));
        Expr pad = X2(FDIV, X2(SUB, xdim(m, d[i]), xdim(m, in[i])), XI(2));
        at[i] = X3(SELECT, X2(GE, xdim(m, in[i]), xdim(m, d[i])), X2(ADD, xaxis(m, i), crop), X2(SUB, xaxis(m, i), pad));
    }
    DType t = dtype_of(m, x);
    Expr e = expr_load(m->c, 0, t, r, at, OOB_VALUE, expr_int(m->c, t, 0), 0);
    result(m, 0, map_over(m, e, 1, &x, r, d));
}

/* theta [N,k,k+1] times the homogeneous positions of a grid of the given size; the last axis comes first in a position */
void imp_affinegrid(Imp *m)
{
    Val theta = m->in[0];
    DType t = dtype_of(m, theta), w = wide_type(t);
    int n, hint = hint_rank(m, 0), len = length_of(m, m->in[1]);
    int64_t k;
    Dim size[SHAPE_MAX], d[MAX_RANK];
    if (rank_of(m, theta) != 3) {
        ERR(m, "E0203", "theta: expected rank 3, got %d", rank_of(m, theta));
        return;
    }
    if (len < 0 && dim_is_const(m->c, dim_of(m, theta, 1), &k))
        hint = (int)k + 2;
    if (!operand_dims(m, m->in[1], "size", 0, DIM_INF, hint, size, &n))
        return;
    if (n != 4 && n != 5) {
        ERR(m, "E0203", "size: expected 4 or 5 elements, got %d", n);
        return;
    }
    int s = n - 2;
    b_guard(&m->b, G_EQ, dim_of(m, theta, 0), size[0], "the batches of theta and size differ");
    b_guard(&m->b, G_EQ, dim_of(m, theta, 1), DC(m, s), "theta must have a row for each of %d axes", s);
    b_guard(&m->b, G_EQ, dim_of(m, theta, 2), DC(m, s + 1), "theta must have %d columns", s + 1);
    d[0] = size[0];
    memcpy(d + 1, size + 2, sizeof *d * (size_t)s);
    d[s + 1] = DC(m, s);
    Expr at[3] = {xaxis(m, 0), xaxis(m, s + 1), XI(s)}, sum = expr_cast(m->c, load_at(m, 0, t, 3, at), w);
    for (int j = 0; j < s; j++) {
        int a = s - 1 - j; /* column j belongs to the j-th axis from the end */
        Expr i = expr_cast(m->c, xaxis(m, 1 + a), w), c;
        if (attr_i(m, "align_corners")) {
            Dim last = dim_max(m->c, dim_addi(m->c, d[1 + a], -1), DC(m, 1));
            Dim alone = dim_eqv(m->c, d[1 + a], DC(m, 1)), begin = dim_addi(m->c, dim_muli(m->c, alone, 2), -1); /* a lone point is at 1 */
            c = X2(ADD, X2(DIV, X2(MUL, i, xf(m, w, 2)), expr_cast(m->c, xdim(m, last), w)), expr_cast(m->c, xdim(m, begin), w));
        } else {
            Expr twice = X2(ADD, X2(MUL, i, xf(m, w, 2)), xf(m, w, 1));
            c = X2(SUB, X2(DIV, twice, expr_cast(m->c, xdim(m, d[1 + a]), w)), xf(m, w, 1));
        }
        at[2] = XI(j);
        sum = X2(ADD, sum, X2(MUL, expr_cast(m->c, load_at(m, 0, t, 3, at), w), c));
    }
    result(m, 0, map_over(m, expr_cast(m->c, sum, t), 1, &theta, s + 2, d));
}

void imp_col2im(Imp *m)
{
    Val x = m->in[0];
    int n, nb, want = hint_rank(m, 0) > 2 ? hint_rank(m, 0) - 2 : -1;
    int64_t stride[MAX_RANK], dil[MAX_RANK], pad[2 * MAX_RANK];
    Dim image[SHAPE_MAX], block[SHAPE_MAX];
    Overlap axis[MAX_RANK];
    if (!operand_dims(m, m->in[1], "image_shape", 0, DIM_INF, want, image, &n) ||
        !operand_dims(m, m->in[2], "block_shape", 1, DIM_INF, n, block, &nb))
        return;
    if (n < 1 || n != nb || 2 + 2 * n > MAX_RANK || rank_of(m, x) != 3) {
        ERR(m, "E0203", "image of %d axes, blocks of %d axes, columns of rank %d", n, nb, rank_of(m, x));
        return;
    }
    if (!ints_or(m, "strides", n, 1, 1, stride) || !ints_or(m, "dilations", n, 1, 1, dil) || !ints_or(m, "pads", 2 * n, 0, 0, pad))
        return;
    for (int i = 0; i < n; i++) {
        Dim span = dim_addi(m->c, dim_muli(m->c, dim_addi(m->c, block[i], -1), dil[i]), 1);
        Dim whole = dim_addi(m->c, image[i], pad[i] + pad[n + i]), room = dim_sub(m->c, whole, span);
        b_guard(&m->b, G_LE, span, whole, "the block is larger than the image on axis %d", i);
        Dim count = dim_max(m->c, dim_addi(m->c, dim_floordiv(m->c, room, DC(m, stride[i])), 1), DC(m, 0));
        axis[i] = (Overlap){image[i], block[i], count, stride[i], dil[i], pad[i]};
    }
    result(m, 0, overlap_sum(m, x, n, axis));
}

/* Elements go back to where the indices (into the flat result) say; a larger result is zero behind that. */
void imp_maxunpool(Imp *m)
{
    Val x = m->in[0], idx = m->in[1];
    DType t = dtype_of(m, x);
    int r = rank_of(m, x), n = r - 2, have, want;
    const int64_t *kernel = attr_ints(m, "kernel_shape", &have);
    int64_t stride[MAX_RANK], pad[2 * MAX_RANK];
    Dim d[MAX_RANK], out[MAX_RANK], none[MAX_RANK], more[MAX_RANK];
    if (n < 1 || have != n || rank_of(m, idx) != r) {
        ERR(m, "E0203", "input of rank %d, indices of rank %d, kernel of %d axes", r, rank_of(m, idx), have);
        return;
    }
    if (!ints_or(m, "strides", n, 1, 1, stride) || !ints_or(m, "pads", 2 * n, 0, 0, pad))
        return;
    dims_of(m, x, d);
    for (int i = 0; i < r; i++) {
        b_guard(&m->b, G_EQ, d[i], dim_of(m, idx, i), "axis %d of input and indices differ", i);
        none[i] = DC(m, 0);
        out[i] = i < 2 ? d[i] : dim_addi(m->c, dim_muli(m->c, dim_addi(m->c, d[i], -1), stride[i - 2]),
                                         kernel[i - 2] - pad[i - 2] - pad[n + i - 2]);
        if (dim_hi(m->c, out[i]) < 0) {
            ERR(m, "E0202", "the pads are larger than axis %d", i);
            return;
        }
        out[i] = dim_max(m->c, out[i], DC(m, 0));
    }
    Dim flat = count_of(m, out, r), count = count_of(m, d, r);
    Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, t);
    ScatterAttr a = {.mode = SC_SET, .elements = true, .axis = 0};
    Val y = b_scatter(&m->b, b_splat(&m->b, zero, 1, &flat), reshape_to(m, cast_to(m, idx, DT_I64), 1, &count),
                      reshape_to(m, x, 1, &count), &a);
    y = reshape_to(m, y, r, out);
    if (present(m, 2)) {
        Dim size[SHAPE_MAX];
        if (!operand_dims(m, m->in[2], "output_shape", 0, DIM_INF, r, size, &want))
            return;
        for (int i = 0; i < r && i < want; i++) {
            b_guard(&m->b, G_LE, out[i], size[i], "output_shape is too small on axis %d", i);
            more[i] = dim_sub(m->c, size[i], out[i]);
        }
        if (want != r) {
            ERR(m, "E0203", "output_shape has %d elements for rank %d", want, r);
            return;
        }
        y = b_pad(&m->b, y, none, more, NULL, PAD_VALUE, zero, (Val){0});
    }
    result(m, 0, y);
}

/* ---- linear interpolation of operand 0 at positions pos[] of its last n axes */

typedef struct Sample { DType t, w; Oob oob; int rank, lead, n; Expr at[MAX_RANK], low[MAX_RANK], weight[MAX_RANK]; } Sample;

/* sum over the 2^n neighbours, those outside being zero, or the nearest inside; or the greatest weighted neighbour */
static Expr sample(Imp *m, Sample *s, int axis, Expr weight, bool greatest)
{
    if (axis == s->n) {
        Expr pad = s->oob == OOB_VALUE ? expr_int(m->c, s->t, 0) : (Expr){0};
        return X2(MUL, expr_cast(m->c, expr_load(m->c, 0, s->t, s->rank, s->at, s->oob, pad, 0), s->w), weight);
    }
    Expr part[2];
    for (int k = 0; k < 2; k++) {
        Expr f = k ? s->weight[axis] : X2(SUB, xf(m, s->w, 1), s->weight[axis]);
        s->at[s->lead + axis] = k ? X2(ADD, s->low[axis], XI(1)) : s->low[axis];
        part[k] = sample(m, s, axis + 1, weight.i ? X2(MUL, weight, f) : f, greatest);
    }
    return greatest ? X2(MAX, part[0], part[1]) : X2(ADD, part[0], part[1]);
}

typedef struct Deform {
    Val x, w, offset, mask;
    DType t, acc;
    int rank, n;                /* n: spatial axes */
    int64_t stride[3], dil[3], pad[6], group, ogroup;
    Dim k[3], o[3];             /* sizes of the kernel and of the result */
} Deform;

static bool deform_attrs(Imp *m, Deform *f)
{
    int r = f->rank, n = f->n;
    if (n < 1 || n > 3 || rank_of(m, f->w) != r || rank_of(m, f->offset) != r || (f->mask.i && rank_of(m, f->mask) != r) || f->group < 1 ||
        f->ogroup < 1) {
        ERR(m, "E0203", "expected 1 to 3 spatial axes everywhere and positive groups");
        return false;
    }
    return ints_or(m, "strides", n, 1, 1, f->stride) && ints_or(m, "dilations", n, 1, 1, f->dil) && ints_or(m, "pads", 2 * n, 0, 0, f->pad);
}

/* Sizes, and guards that they fit each other. */
static void deform_sizes(Imp *m, Deform *f)
{
    Dim channels = dim_of(m, f->x, 1), outs = dim_of(m, f->w, 0), kernel = DC(m, 1);
    int n = f->n;
    for (int i = 0; i < n; i++) {
        f->k[i] = dim_of(m, f->w, 2 + i);
        f->o[i] = dim_of(m, f->offset, 2 + i);
        kernel = dim_mul(m->c, kernel, f->k[i]);
        Dim span = dim_addi(m->c, dim_muli(m->c, dim_addi(m->c, f->k[i], -1), f->dil[i]), 1);
        Dim room = dim_sub(m->c, dim_addi(m->c, dim_of(m, f->x, 2 + i), f->pad[i] + f->pad[n + i]), span);
        b_guard(&m->b, G_EQ, f->o[i], dim_addi(m->c, dim_floordiv(m->c, room, DC(m, f->stride[i])), 1),
                "axis %d of the offsets does not fit the convolution", 2 + i);
    }
    b_guard(&m->b, G_EQ, channels, dim_muli(m->c, dim_of(m, f->w, 1), f->group), "the kernel's channels times group must be those of the input");
    b_guard(&m->b, G_EQ, dim_mod(m->c, outs, DC(m, f->group)), DC(m, 0), "the kernels must be a multiple of group");
    b_guard(&m->b, G_EQ, dim_of(m, f->offset, 1), dim_muli(m->c, kernel, f->ogroup * n), "channels of the offsets");
    b_guard(&m->b, G_EQ, dim_mod(m->c, channels, DC(m, f->ogroup)), DC(m, 0), "the channels must be a multiple of offset_group");
    if (f->mask.i)
        b_guard(&m->b, G_EQ, dim_of(m, f->mask, 1), dim_muli(m->c, kernel, f->ogroup), "channels of the mask");
}

/* What the kernel multiplies, [batch, o.., k.., group of offsets, channel of it], so that channels share the places. */
static Val deform_samples(Imp *m, const Deform *f)
{
    const int n = f->n, r = f->rank, at_k = 1 + n, at_group = 1 + 2 * n, rank = 3 + 2 * n;
    Sample s = {.t = f->t, .w = f->acc, .oob = OOB_VALUE, .rank = 3 + n, .lead = 1, .n = n, .at = {xaxis(m, 0)}};
    Dim d[MAX_RANK] = {dim_of(m, f->x, 0)};
    Dim apart[MAX_RANK] = {d[0], DC(m, f->ogroup), dim_floordiv(m->c, dim_of(m, f->x, 1), DC(m, f->ogroup))};
    int perm[MAX_RANK] = {0};
    Expr flat = xaxis(m, at_group), at[MAX_RANK] = {xaxis(m, 0)};
    for (int i = 0; i < n; i++) {
        flat = X2(ADD, X2(MUL, flat, xdim(m, f->k[i])), xaxis(m, at_k + i));
        at[2 + i] = xaxis(m, 1 + i);
        d[1 + i] = f->o[i];
        d[at_k + i] = f->k[i];
        apart[3 + i] = dim_of(m, f->x, 2 + i);
        perm[1 + i] = 3 + i;
    }
    for (int i = 0; i < 2; i++) {
        d[at_group + i] = apart[1 + i];
        s.at[1 + n + i] = xaxis(m, at_group + i);
        perm[1 + n + i] = 1 + i;
    }
    Val in[3] = {b_permute(&m->b, reshape_to(m, f->x, 3 + n, apart), perm), f->offset, f->mask};
    for (int i = 0; i < n; i++) {
        at[1] = X2(ADD, X2(MUL, flat, XI(n)), XI(i));
        Expr base = X2(ADD, X2(SUB, X2(MUL, xaxis(m, 1 + i), XI(f->stride[i])), XI(f->pad[i])), X2(MUL, xaxis(m, at_k + i), XI(f->dil[i])));
        Expr p = X2(ADD, expr_cast(m->c, base, f->acc), expr_cast(m->c, load_at(m, 1, f->t, r, at), f->acc)), low = X1(FLOOR, p);
        s.low[i] = position_of(m, low);
        s.weight[i] = X2(SUB, p, low);
    }
    Expr e = sample(m, &s, 0, (Expr){0}, false);
    at[1] = flat;
    if (f->mask.i)
        e = X2(MUL, e, expr_cast(m->c, load_at(m, 2, f->t, r, at), f->acc));
    return map_over(m, e, f->mask.i ? 3 : 2, in, rank, d);
}

void imp_deformconv(Imp *m)
{
    static const char *const spec[] = {"nxugc,gdcu->ngdx", "nxyuvgc,gdcuv->ngdxy", "nxyzuvwgc,gdcuvw->ngdxyz"};
    Deform f = {.x = m->in[0], .w = m->in[1], .offset = m->in[2], .mask = operand(m, 4), .t = dtype_of(m, m->in[0]), .rank = rank_of(m, m->in[0]),
                .group = attr_i(m, "group"), .ogroup = attr_i(m, "offset_group")};
    Val bias = operand(m, 3);
    f.n = f.rank - 2;
    f.acc = wide_type(f.t);
    if (!deform_attrs(m, &f))
        return;
    deform_sizes(m, &f);
    Val v = deform_samples(m, &f);
    const int n = f.n;
    Dim d[MAX_RANK] = {{0}}, outs = dim_of(m, f.w, 0), wd[6] = {DC(m, f.group), dim_floordiv(m->c, outs, DC(m, f.group)), dim_of(m, f.w, 1)};
    dims_of(m, v, d);
    d[1 + 2 * n] = wd[0];
    d[2 + 2 * n] = wd[2];
    memcpy(wd + 3, f.k, sizeof *f.k * (size_t)n);
    v = reshape_to(m, v, 3 + 2 * n, d);
    Val y = b_contract(&m->b, spec[n - 1], v, reshape_to(m, cast_to(m, f.w, f.acc), 3 + n, wd), f.acc, f.acc);
    d[1] = outs;
    memcpy(d + 2, f.o, sizeof *f.o * (size_t)n);
    y = reshape_to(m, y, f.rank, d);
    if (bias.i)
        y = b_binary(&m->b, S_ADD, y, along(m, cast_to(m, bias, f.acc), f.rank, 1));
    result(m, 0, cast_to(m, y, f.t));
}

/* ---- RoiAlign */

enum { MANY_CHANNELS = 4 };

typedef struct Roi {
    Val in[9];                  /* image, regions, indices of images; if regions decide about samples: per bin along y and x of each region,
                                   i64[R]; the first one that is looked at, i64[R, bins]; positions along each */
    DType t, w;
    double scale, shift;        /* a position in the image is scale * that of the region - shift */
    bool half;                  /* regions may be smaller than a pixel */
    int64_t ratio, bins[2];
} Roi;

/* Where region #0 begins along axis i (0: y, 1: x), and its length. */
static void roi_extent(Imp *m, const Roi *r, int i, Expr *from, Expr *length)
{
    Expr side[2];
    for (int k = 0; k < 2; k++) { /* a region is x1, y1, x2, y2 */
        Expr v = expr_cast(m->c, load_at(m, 1, r->t, 2, (Expr[]){xaxis(m, 0), XI(2 * k + 1 - i)}), r->w);
        side[k] = X2(SUB, X2(MUL, v, xf(m, r->w, r->scale)), xf(m, r->w, r->shift));
    }
    *from = side[0];
    *length = X2(SUB, side[1], side[0]);
    if (!r->half)
        *length = X2(MAX, *length, xf(m, r->w, 1));
}

/* Sample k < n of bin `bin` is at from + bin * step + (k + 0.5) * step / n, rounded in this order as ONNX Runtime does: a rounding decides
 * whether a sample on the border counts. */
static Expr roi_step(Imp *m, const Roi *r, int i, Expr length) { return X2(DIV, length, xf(m, r->w, (double)r->bins[i])); }

/* Samples per bin that are looked at, a dimension: sampling_ratio, or the size of a bin rounded up, different for every region; the most of
 * them. Those are half a pixel apart at least, so of a huge region only some from the last one before the image on. */
static Dim roi_samples(Imp *m, Roi *r, int i, Dim size)
{
    if (r->ratio > 0)
        return DC(m, r->ratio);
    Expr from, length, region = xaxis(m, 0);
    roi_extent(m, r, i, &from, &length);
    Expr step = roi_step(m, r, i, length);
    Dim d[2] = {dim_of(m, r->in[1], 0), DC(m, r->bins[i])}, near = dim_addi(m->c, dim_muli(m->c, size, 2), 8);
    r->in[3 + i] = map_over(m, X2(MAX, expr_cast(m->c, X1(CEIL, step), DT_I64), XI(0)), 2, r->in, 1, d);
    Expr n = load_at(m, 2, DT_I64, 1, &region);
    Expr steps = X2(SUB, X2(DIV, X2(SUB, xf(m, r->w, -1), from), step), expr_cast(m->c, xaxis(m, 1), r->w));
    Expr first = expr_cast(m->c, X2(SUB, X1(FLOOR, X2(MUL, steps, expr_cast(m->c, n, r->w))), xf(m, r->w, 1)), DT_I64);
    first = X3(SELECT, X2(GT, n, xdim(m, near)), X2(MIN, X2(MAX, first, XI(0)), n), XI(0));
    r->in[5 + i] = map_over(m, first, 3, (Val[]){r->in[0], r->in[1], r->in[3 + i]}, 2, d);
    Val most = b_reduce1(&m->b, R_MAX, r->in[3 + i], 1, false);
    return dim_min(m->c, b_bind(&m->b, map_text(m, "max(a, 0)", 1, &most), 0, "samples", 0, DIM_INF), near);
}

/* How many samples region #0 has per bin along axis i. */
static Expr roi_count(Imp *m, const Roi *r, int i)
{
    Expr region = xaxis(m, 0);
    return r->ratio > 0 ? XI(r->ratio) : load_at(m, 3 + i, DT_I64, 1, &region);
}

/* Positions along axis i of an image of that size, [regions, bins, samples], -1 for what is outside; `base` operands come before them. */
static Val roi_positions(Imp *m, const Roi *r, int i, Dim image, int base, Dim samples)
{
    Expr begin, length, n = roi_count(m, r, i), k = xaxis(m, 2), bin[2] = {xaxis(m, 0), xaxis(m, 1)};
    roi_extent(m, r, i, &begin, &length);
    if (r->ratio <= 0)
        k = X2(ADD, k, load_at(m, 5 + i, DT_I64, 2, bin));
    Expr step = roi_step(m, r, i, length), within = X2(MUL, X2(ADD, expr_cast(m->c, k, r->w), xf(m, r->w, 0.5)), step);
    Expr p = X2(ADD, X2(ADD, begin, X2(MUL, expr_cast(m->c, bin[1], r->w), step)), X2(DIV, within, expr_cast(m->c, n, r->w)));
    Expr size = expr_cast(m->c, xdim(m, image), r->w), last = X2(SUB, size, xf(m, r->w, 1));
    Expr ok = X2(AND, X2(LT, k, n), X2(AND, X2(GE, p, xf(m, r->w, -1)), X2(LE, p, size)));
    p = X3(SELECT, ok, X2(MIN, X2(MAX, p, xf(m, r->w, 0)), last), xf(m, r->w, -1));
    return map_over(m, p, base, r->in, 3, (Dim[]){dim_of(m, r->in[1], 0), DC(m, r->bins[i]), samples});
}

/* The mean or greatest of samples on a grid inside every bin of every region. */
void imp_roialign(Imp *m)
{
    Roi r = {.in = {m->in[0], m->in[1], cast_to(m, m->in[2], DT_I64)}, .scale = attr_f(m, "spatial_scale"), .ratio = attr_i(m, "sampling_ratio"),
             .bins = {attr_i(m, "output_height"), attr_i(m, "output_width")}};
    bool greatest = attr_is(m, "mode", "max");
    r.t = dtype_of(m, r.in[0]);
    r.w = wide_type(r.t);
    r.half = row_has_attr(m->row, "coordinate_transformation_mode") && attr_is(m, "coordinate_transformation_mode", "half_pixel");
    r.shift = r.half ? 0.5 : 0;
    if (rank_of(m, r.in[0]) != 4 || rank_of(m, r.in[1]) != 2 || rank_of(m, r.in[2]) != 1 || r.bins[0] < 1 || r.bins[1] < 1) {
        ERR(m, "E0203", "expected an input of rank 4, regions of rank 2, indices of rank 1 and positive output sizes");
        return;
    }
    Dim image[4], regions = dim_of(m, r.in[1], 0), d[6];
    dims_of(m, r.in[0], image);
    b_guard(&m->b, G_EQ, dim_of(m, r.in[1], 1), DC(m, 4), "regions must have 4 numbers");
    b_guard(&m->b, G_EQ, regions, dim_of(m, r.in[2], 0), "there must be an index for every region");
    Expr at = wrap_index(m, xarg(m, 0, DT_I64), image[0]);
    b_guard_val(&m->b, b_map1(&m->b, in_range(m, at, XI(0), xdim(m, image[0])), 1, &r.in[2]), "batch_indices: an index is out of range");
    Expr region = xaxis(m, 0), inside = expr_int(m->c, DT_BOOL, 1), zero = xf(m, r.w, 0), count = XI(1), among[2];
    /* Axes: region, channel, bins, samples; of many channels region, bins, samples, channel, so that all of them share the places. */
    const bool inner = dim_lo(m->c, image[1]) >= MANY_CHANNELS;
    const int channel = inner ? 5 : 1, bins = inner ? 1 : 2, samples = bins + 2;
    Sample s = {.t = r.t, .w = r.w, .oob = OOB_CLAMP, .rank = 4, .lead = inner ? 1 : 2, .n = 2};
    s.at[0] = wrap_index(m, load_at(m, 2, DT_I64, 1, &region), image[0]);
    s.at[inner ? 3 : 1] = xaxis(m, channel);
    d[0] = regions;
    d[channel] = image[1];
    for (int k = 3; k < 7; k++)
        r.in[k] = r.in[0]; /* until it is known: an operand that nothing reads */
    int base = r.ratio > 0 ? 3 : 7; /* operands before the positions */
    for (int i = 0; i < 2; i++) {
        d[bins + i] = DC(m, r.bins[i]);
        d[samples + i] = roi_samples(m, &r, i, image[2 + i]);
        r.in[base + i] = roi_positions(m, &r, i, image[2 + i], base, d[samples + i]);
        Expr n = roi_count(m, &r, i), bin[2] = {region, xaxis(m, bins + i)}, k = xaxis(m, samples + i);
        count = X2(MUL, count, n);
        among[i] = r.ratio > 0 ? inside : X2(LT, X2(ADD, k, load_at(m, 5 + i, DT_I64, 2, bin)), n);
        Expr p = load_at(m, base + i, r.w, 3, (Expr[]){region, bin[1], k});
        inside = X2(AND, inside, X2(GE, p, zero));
        Expr f = X1(FLOOR, p);
        s.low[i] = position_of(m, f);
        s.weight[i] = X2(SUB, p, f);
    }
    Expr e = X3(SELECT, inside, sample(m, &s, 0, (Expr){0}, greatest), zero);
    if (greatest && r.ratio <= 0) /* what other regions have more of counts as the least number; no sample at all gives 0 */
        e = X3(SELECT, X2(AND, among[0], among[1]), e, xf(m, r.w, -INFINITY));
    if (inner)
        r.in[0] = b_permute(&m->b, r.in[0], (int[]){0, 2, 3, 1});
    Val v = b_reduce1(&m->b, greatest ? R_MAX : R_SUM, map_over(m, e, base + 2, r.in, 6, d), 3u << samples, false);
    if (greatest)
        v = r.ratio > 0 ? v : map_text(m, "select(a == -inf, 0, a)", 1, &v);
    else if (r.ratio > 0)
        v = b_binary(&m->b, S_MUL, v, scalar_of(m, r.w, 1 / (double)(r.ratio * r.ratio)));
    else
        v = b_binary(&m->b, S_DIV, v, along(m, map_over(m, expr_cast(m->c, X2(MAX, count, XI(1)), r.w), 5, r.in, 1, &regions), 4, 0));
    if (inner)
        v = b_permute(&m->b, v, (int[]){0, 3, 1, 2});
    result(m, 0, cast_to(m, v, r.t));
}

/* The bins along spatial axis i (0: height) of every region: where each begins and ends, i64[regions, bins]: rounded corners, both included, divided
 * evenly. Returns the elements of the longest. */
static Dim pool_bins(Imp *m, int i, int64_t bins, Dim size, DType t, Val end[2])
{
    Dim d[2] = {dim_of(m, m->in[1], 0), DC(m, bins)};
    Expr corner[2], scale = xf(m, DT_F32, attr_f(m, "spatial_scale")), half = xf(m, DT_F32, 0.5), region = xaxis(m, 0);
    for (int k = 0; k < 2; k++) { /* batch, x, y, x, y; halves are rounded away from zero */
        Expr at[2] = {region, XI(2 - i + 2 * k)}, v = X2(MUL, expr_cast(m->c, load_at(m, 0, t, 2, at), DT_F32), scale);
        corner[k] = expr_cast(m->c, X1(TRUNC, X2(ADD, v, X3(SELECT, X2(LT, v, xf(m, DT_F32, 0)), X1(NEG, half), half))), DT_I64);
    }
    Expr length = X2(MAX, X2(ADD, X2(SUB, corner[1], corner[0]), XI(1)), XI(1)), bin = expr_cast(m->c, xaxis(m, 1), DT_F32);
    Expr step = X2(DIV, expr_cast(m->c, length, DT_F32), xf(m, DT_F32, (double)bins));
    Expr bound[2] = {X1(FLOOR, X2(MUL, bin, step)), X1(CEIL, X2(MUL, X2(ADD, bin, xf(m, DT_F32, 1)), step))};
    for (int k = 0; k < 2; k++) {
        Expr e = X2(ADD, expr_cast(m->c, bound[k], DT_I64), corner[0]);
        end[k] = map_over(m, X2(MIN, X2(MAX, e, XI(0)), xdim(m, size)), 1, &m->in[1], 2, d);
    }
    Val most = b_reduce1(&m->b, R_MAX, b_binary(&m->b, S_SUB, end[1], end[0]), 3, false);
    return dim_min(m->c, b_bind(&m->b, map_text(m, "max(a, 0)", 1, &most), 0, "bin", 0, DIM_INF), size);
}

/* Greatest element of each bin, 0 of empty ones: first over rows, [regions, channels, bins, width], then over columns. */
void imp_maxroipool(Imp *m)
{
    int n;
    const int64_t *bins = attr_ints(m, "pooled_shape", &n);
    DType t = dtype_of(m, m->in[0]), w = wide_type(t);
    if (n != 2 || bins[0] < 1 || bins[1] < 1 || rank_of(m, m->in[0]) != 4 || rank_of(m, m->in[1]) != 2) {
        ERR(m, "E0203", "expected an input of rank 4, regions of rank 2 and two positive sizes as pooled_shape");
        return;
    }
    Dim image[4], regions = dim_of(m, m->in[1], 0);
    dims_of(m, m->in[0], image);
    b_guard(&m->b, G_EQ, dim_of(m, m->in[1], 1), DC(m, 5), "regions must have 5 numbers");
    Expr region = xaxis(m, 0), batch = expr_cast(m->c, load_at(m, 3, t, 2, (Expr[]){region, XI(0)}), DT_I64);
    /* Bins begin at places of their own: where there are channels for vectors, these lie side by side. */
    const bool deep = dim_lo(m->c, image[1]) >= 32;
    const int row = deep ? 1 : 2, k = deep ? 3 : 4, channel = deep ? 4 : 1;
    Val v = deep ? b_permute(&m->b, m->in[0], (int[]){0, 2, 3, 1}) : m->in[0];
    for (int i = 0; i < 2; i++) {
        Val in[4] = {v, {0}, {0}, m->in[1]};
        Dim longest = pool_bins(m, i, bins[i], image[2 + i], t, in + 1), d[5] = {regions};
        Expr bin[2] = {region, xaxis(m, row + i)}, at = X2(ADD, load_at(m, 1, DT_I64, 2, bin), xaxis(m, k)), p[4] = {i ? region : batch};
        p[deep ? 3 : 1] = xaxis(m, channel);
        p[row + i] = X2(MIN, at, X2(SUB, xdim(m, image[2 + i]), XI(1)));
        p[row + !i] = xaxis(m, row + !i);
        Expr x = i ? load_at(m, 0, w, 4, p) : expr_cast(m->c, load_at(m, 0, t, 4, p), w);
        x = X3(SELECT, X2(LT, at, load_at(m, 2, DT_I64, 2, bin)), x, xf(m, w, -INFINITY));
        d[channel] = image[1], d[row] = DC(m, bins[0]), d[row + 1] = i ? DC(m, bins[1]) : image[3], d[k] = longest;
        v = map_over(m, x, 4, in, 5, d);
        v = b_reduce1(&m->b, R_MAX, v, 1u << k, false);
    }
    if (deep) v = b_permute(&m->b, v, (int[]){0, 3, 1, 2});
    result(m, 0, cast_to(m, map_text(m, "select(a == -inf, 0, a)", 1, &v), t));
}
