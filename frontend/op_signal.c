/* op_signal.c: signals: windows, Fourier transforms (op_fft.c, op_fft_any.c), mel filters, and causal convolution with a state. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(window); FN(dft); FN(stft); FN(melweights); FN(causalconv); FN(rfft); FN(irfft);

static const double TURN = 6.283185307179586476925;

static Expr f64(Imp *m, double v) { return xf(m, DT_F64, v); }

/* ---- windows: a0 - a1 cos(2 pi i / n) + a2 cos(4 pi i / n), n one less if not periodic */

void imp_window(Imp *m)
{
    static const double coef[][3] = {{0.5, 0.5, 0}, {25.0 / 46, 21.0 / 46, 0}, {0.42, 0.5, 0.08}};
    const double *a = coef[m->row->arg];
    DType t = attr_dtype(m, "output_datatype", DT_F32);
    Dim n;
    if (!t || !operand_dim(m, cast_to(m, m->in[0], DT_I64), "size", 0, DIM_INF, &n))
        return;
    Dim period = attr_i(m, "periodic") ? n : dim_max(m->c, dim_addi(m->c, n, -1), DC(m, 1));
    Expr turn = X2(DIV, X2(MUL, to_f64(m, xaxis(m, 0)), f64(m, TURN)), to_f64(m, xdim(m, period)));
    Expr e = X2(SUB, f64(m, a[0]), X2(MUL, f64(m, a[1]), X1(COS, turn)));
    if (a[2] != 0)
        e = X2(ADD, e, X2(MUL, f64(m, a[2]), X1(COS, X2(MUL, turn, f64(m, 2)))));
    result(m, 0, map_over(m, expr_cast(m->c, e, t), 0, NULL, 1, &n));
}

/* ---- Fourier transforms */

/* Element i of a one-sided spectrum x = [outer, n/2 + 1, inner, 1 or 2], for i up to n: the other half mirrors the first, conjugate. */
static Val whole_spectrum(Imp *m, Val x, Dim len)
{
    DType t = dtype_of(m, x);
    Dim d[4];
    dims_of(m, x, d);
    Expr i = xaxis(m, 1), first = X2(LT, i, xdim(m, d[1]));
    Expr at[4] = {xaxis(m, 0), X3(SELECT, first, i, X2(SUB, xdim(m, len), i)), xaxis(m, 2), xaxis(m, 3)};
    Expr e = load_at(m, 0, t, 4, at);
    e = X3(SELECT, X2(OR, first, X2(EQ, at[3], XI(0))), e, X1(NEG, e));
    d[1] = len;
    return map_over(m, e, 1, &x, 4, d);
}

/* x: [outer, n, inner, 1 or 2] to [outer, count, inner, 2], or [.., 1] for a one-sided inverse, whose operand is the
 * first half of a spectrum that the other half mirrors. As in NumPy, which the standard refers to, forward transforms are computed in
 * f64 (their sums cancel) and inverse ones in the operand's type, if the length is known. */
static Val transform(Imp *m, Val x, Dim len, bool inverse, bool onesided)
{
    int64_t n;
    bool mirrored = inverse && onesided, known = dim_is_const(m->c, len, &n) && n > 0;
    DType t = dtype_of(m, x), w = inverse && known ? wide_type(t) : DT_F64;
    Dim half = dim_addi(m->c, dim_floordiv(m->c, len, DC(m, 2)), 1), want = mirrored ? half : len, d[4], zero[4], hi[4];
    Dim have = dim_min(m->c, dim_of(m, x, 1), want);
    x = b_slice_axis(&m->b, x, 1, DC(m, 0), have);
    for (int i = 0; i < 4; i++)
        zero[i] = hi[i] = DC(m, 0);
    hi[1] = dim_sub(m->c, want, have);
    x = b_pad(&m->b, x, zero, hi, NULL, PAD_VALUE, dt_convert((Scalar){.t = DT_F64}, t), (Val){0});
    if (mirrored)
        x = whole_spectrum(m, x, len);
    x = cast_to(m, x, w);
    if (!x.i)
        return x;
    dims_of(m, x, d);
    Val part[2] = {{0}};
    part[0] = reshape_to(m, b_slice_axis(&m->b, x, 3, DC(m, 0), DC(m, 1)), 3, d);
    if (!known || !dim_is(m->c, d[3], 1)) { /* 0 if there turns out to be none */
        Expr at[4] = {xaxis(m, 0), xaxis(m, 1), xaxis(m, 2), XI(1)};
        Oob oob = dim_lo(m->c, d[3]) > 1 ? OOB_NEVER : OOB_VALUE;
        part[1] = map_over(m, expr_load(m->c, 0, w, 4, at, oob, xf(m, w, 0), 0), 1, &x, 3, d);
    }
    if (known)
        fft(m, &part[0], &part[1], n, inverse);
    else if (!fft_any(m, &part[0], &part[1], len, inverse))
        return (Val){0};
    d[3] = DC(m, 1);
    for (int k = 0; k < 2; k++)
        part[k] = cast_to(m, reshape_to(m, part[k], 4, d), t);
    x = mirrored ? part[0] : b_concat(&m->b, 2, part, 3);
    return onesided && !inverse ? b_slice_axis(&m->b, x, 1, DC(m, 0), half) : x;
}

/* x along one of its axes but the last; the axis may be known at run time only: flag[i] is 1 for it, else 0. */
static Val transform_axis(Imp *m, Val x, const Dim *flag, Dim *len, bool inverse, bool onesided)
{
    int r = rank_of(m, x);
    Dim d[MAX_RANK], four[4] = {DC(m, 1), DC(m, 0), DC(m, 1)}, seen = DC(m, 0), one = DC(m, 1);
    dims_of(m, x, d);
    four[3] = d[r - 1];
    for (int i = 0; i < r - 1; i++) {
        four[1] = dim_add(m->c, four[1], dim_mul(m->c, flag[i], d[i]));
        Dim other = dim_select(m->c, flag[i], one, d[i]);
        four[0] = dim_mul(m->c, four[0], dim_select(m->c, seen, one, other));
        four[2] = dim_mul(m->c, four[2], dim_select(m->c, seen, other, one));
        seen = dim_add(m->c, seen, flag[i]);
    }
    b_guard(&m->b, G_EQ, seen, one, "the axis is out of range");
    if (!len->i)
        *len = inverse && onesided ? dim_muli(m->c, dim_addi(m->c, four[1], -1), 2) : four[1];
    Val y = transform(m, reshape_to(m, x, 4, four), *len, inverse, onesided);
    if (!y.i)
        return y;
    for (int i = 0; i < r - 1; i++)
        d[i] = dim_select(m->c, flag[i], dim_of(m, y, 1), d[i]);
    d[r - 1] = dim_of(m, y, 3);
    return reshape_to(m, y, r, d);
}

static bool known_sizes(Imp *m, Val x, Dim len)
{
    bool known = !len.i || dim_is_const(m->c, len, NULL);
    for (int i = 0; i < rank_of(m, x) - 1; i++)
        known &= dim_is_const(m->c, dim_of(m, x, i), NULL);
    return known;
}

/* The axis is known at run time only, but every size is: a branch for each axis from `first` on. */
static Val transform_branches(Imp *m, Val x, Val axis, int first, Dim len, bool inverse, bool onesided)
{
    int r = rank_of(m, x);
    Dim flag[MAX_RANK];
    for (int i = 0; i < r; i++)
        flag[i] = DC(m, i == first);
    if (first == r - 2)
        return transform_axis(m, x, flag, &len, inverse, onesided);
    Expr a = xarg(m, 0, DT_I64);
    Val is_first = b_map1(&m->b, X2(OR, X2(EQ, a, XI(first)), X2(EQ, a, XI(first - r))), 1, &axis), in[2] = {x, axis}, out;
    Graph *g[2];
    for (int k = 0; k < 2; k++) {
        Imp inner = *m;
        g[k] = graph_new(m->c, "axis", m->b.g);
        inner.b = builder(g[k], m->b.loc);
        Val x2 = graph_input(g[k], "x", *val_type(m->b.g, x)), axis2 = graph_input(g[k], "axis", *val_type(m->b.g, axis)), y;
        Dim n = len;
        if (k == 0)
            y = transform_axis(&inner, x2, flag, &n, inverse, onesided);
        else
            y = transform_branches(&inner, x2, axis2, first + 1, n, inverse, onesided);
        graph_output(g[k], "y", y);
    }
    b_if(&m->b, is_first, g[0], g[1], 2, in, &out);
    return out;
}

void imp_dft(Imp *m)
{
    Val x = m->in[0];
    int r = rank_of(m, x), axis = 0;
    bool inverse = attr_i(m, "inverse") != 0, onesided = attr_i(m, "onesided") != 0;
    Dim flag[MAX_RANK], len = {0};
    if (r < 2) {
        ERR(m, "E0203", "expected rank 2 or more, got %d", r);
        return;
    }
    b_guard(&m->b, G_LE, dim_of(m, x, r - 1), DC(m, 2), "the last axis must have one number or two, real and imaginary part");
    if (present(m, 1) && !operand_dim(m, cast_to(m, m->in[1], DT_I64), "dft_length", 1, DIM_INF, &len))
        return;
    if (present(m, 2) && !const_tensor(m, m->in[2]) && known_sizes(m, x, len)) {
        Val a = only_element(m, m->in[2]);
        Expr i = xarg(m, 0, DT_I64);
        Expr ok = X2(AND, in_range(m, i, XI(-r), XI(r - 1)), X2(NE, i, XI(-1)));
        b_guard_val(&m->b, b_map1(&m->b, ok, 1, &a), "the axis is out of range");
        result(m, 0, transform_branches(m, x, a, 0, len, inverse, onesided));
        return;
    }
    if (present(m, 2)) {
        if (!runtime_axes(m, m->in[2], r, 0, flag))
            return;
    } else {
        if (!axis_ok(m, row_has_attr(m->row, "axis") ? attr_i(m, "axis") : -2, r, &axis))
            return;
        if (axis == r - 1) {
            ERR(m, "E0203", "axis %d is the one of real and imaginary part", axis);
            return;
        }
        for (int i = 0; i < r; i++)
            flag[i] = DC(m, i == axis);
    }
    result(m, 0, transform_axis(m, x, flag, &len, inverse, onesided));
}

/* Rfft and Irfft of com.microsoft: real signals along the last signal_ndim axes, half a spectrum with an axis for its parts. */
static void real_transform(Imp *m, bool inverse)
{
    Val x = m->in[0];
    int64_t n = attr_i(m, "signal_ndim");
    int r = rank_of(m, x) + !inverse;
    Dim flag[MAX_RANK], len;
    if (attr_i(m, "onesided") != 1 || attr_i(m, "normalized")) {
        UNSUP(m, "two-sided or normalised transforms are not defined");
        return;
    }
    if (n < 1 || n >= r || r > MAX_RANK) {
        ERR(m, "E0203", "attribute signal_ndim: %lld for an operand of rank %d", (long long)n, rank_of(m, x));
        return;
    }
    if (inverse)
        b_guard(&m->b, G_EQ, dim_of(m, x, r - 1), DC(m, 2), "the last axis must hold the two parts");
    else
        x = insert_axes(m, x, r, 1u << (r - 1));
    for (int k = 0; k < n; k++) {  /* half a spectrum along the last axis alone: that one comes first, or inversely last */
        int axis = inverse ? r - 1 - (int)n + k : r - 2 - k;
        for (int i = 0; i < r; i++)
            flag[i] = DC(m, i == axis);
        len = (Dim){0};
        x = transform_axis(m, x, flag, &len, inverse, axis == r - 2);
    }
    result(m, 0, inverse ? drop_axes(m, x, 1u << (r - 1)) : x);
}

void imp_rfft(Imp *m) { real_transform(m, false); }
void imp_irfft(Imp *m) { real_transform(m, true); }

/* frames of the signal, `step` apart, times the window, transformed */
void imp_stft(Imp *m)
{
    Val in[2] = {m->in[0], operand(m, 2)};
    DType t = dtype_of(m, in[0]);
    Dim step, len = {0}, d[4];
    if (rank_of(m, in[0]) == 2) /* a real signal without the axis of its parts, as exporters write it */
        in[0] = insert_axes(m, in[0], 3, 1u << 2);
    if (rank_of(m, in[0]) != 3 || (in[1].i && rank_of(m, in[1]) != 1) || (!in[1].i && !present(m, 3))) {
        ERR(m, "E0203", "expected a signal of rank 3 and a window of rank 1 or a length");
        return;
    }
    if (!operand_dim(m, cast_to(m, m->in[1], DT_I64), "frame_step", 1, DIM_INF, &step) ||
        (present(m, 3) && !operand_dim(m, cast_to(m, m->in[3], DT_I64), "frame_length", 1, DIM_INF, &len)))
        return;
    if (in[1].i && len.i)
        b_guard(&m->b, G_EQ, len, dim_of(m, in[1], 0), "the window must have frame_length elements");
    if (in[1].i)
        len = dim_of(m, in[1], 0);
    Dim room = dim_sub(m->c, dim_of(m, in[0], 1), len);
    b_guard(&m->b, G_LE, len, dim_of(m, in[0], 1), "a frame is longer than the signal");
    d[0] = dim_of(m, in[0], 0);
    d[1] = dim_addi(m->c, dim_floordiv(m->c, dim_max(m->c, room, DC(m, 0)), step), 1);
    d[2] = len;
    d[3] = dim_of(m, in[0], 2);
    Expr at[3] = {xaxis(m, 0), X2(ADD, X2(MUL, xaxis(m, 1), xdim(m, step)), xaxis(m, 2)), xaxis(m, 3)}, w = at[0];
    Expr e = load_at(m, 0, t, 3, at);
    if (in[1].i) {
        w = xaxis(m, 2);
        e = X2(MUL, e, load_at(m, 1, t, 1, &w));
    }
    Val frames = map_over(m, e, in[1].i ? 2 : 1, in, 4, d);
    Dim four[4] = {dim_mul(m->c, d[0], d[1]), len, DC(m, 1), d[3]};
    Val y = transform(m, reshape_to(m, frames, 4, four), len, false, attr_i(m, "onesided") != 0);
    d[2] = dim_of(m, y, 1);
    d[3] = dim_of(m, y, 3);
    result(m, 0, reshape_to(m, y, 4, d));
}

/* Triangular filters whose corners are evenly spaced in mels. */
void imp_melweights(Imp *m)
{
    DType t = attr_dtype(m, "output_datatype", DT_F32);
    Dim d[2], len;
    if (!t || !operand_dim(m, cast_to(m, m->in[0], DT_I64), "num_mel_bins", 0, DIM_INF, &d[1]) ||
        !operand_dim(m, cast_to(m, m->in[1], DT_I64), "dft_length", 0, DIM_INF, &len))
        return;
    d[0] = dim_addi(m->c, dim_floordiv(m->c, len, DC(m, 2)), 1);
    Val in[3];
    for (int k = 0; k < 3; k++)
        in[k] = cast_to(m, only_element(m, m->in[2 + k]), DT_F64);
    Expr mel[2], corner[3];
    for (int k = 0; k < 2; k++) /* 2595 log10(1 + hertz / 700) */
        mel[k] = X2(MUL, f64(m, 2595 / log(10)),
                    X1(LOG, X2(ADD, X2(DIV, xarg(m, 1 + k, DT_F64), f64(m, 700)), f64(m, 1))));
    Expr step = X2(DIV, X2(SUB, mel[1], mel[0]), to_f64(m, xdim(m, dim_addi(m->c, d[1], 2))));
    for (int k = 0; k < 3; k++) { /* as an index into the spectrum */
        Expr at = X2(ADD, mel[0], X2(MUL, step, to_f64(m, X2(ADD, xaxis(m, 1), XI(k)))));
        Expr hertz = X2(MUL, f64(m, 700), X1(EXPM1, X2(MUL, at, f64(m, log(10) / 2595))));
        Expr bin = X2(DIV, X2(MUL, hertz, to_f64(m, xdim(m, dim_addi(m->c, len, 1)))), xarg(m, 0, DT_F64));
        corner[k] = X1(FLOOR, bin);
    }
    Expr j = to_f64(m, xaxis(m, 0)), zero = f64(m, 0);
    Expr up = X2(DIV, X2(SUB, j, corner[0]), X2(SUB, corner[1], corner[0]));
    Expr down = X2(DIV, X2(SUB, corner[2], j), X2(SUB, corner[2], corner[1]));
    Expr falls = X2(AND, X2(GE, j, corner[1]), X2(LT, j, corner[2]));
    Expr rises = X2(AND, X2(GE, j, corner[0]), X2(LE, j, corner[1]));
    Expr peak = X2(AND, X2(EQ, corner[0], corner[1]), X2(EQ, j, corner[1]));
    Expr e = X3(SELECT, falls, down, X3(SELECT, peak, f64(m, 1), X3(SELECT, rises, up, zero)));
    result(m, 0, map_over(m, expr_cast(m->c, e, t), 3, in, 2, d));
}

/* ---- depthwise convolution that looks back only; the last k-1 positions are the next call's past */

void imp_causalconv(Imp *m)
{
    Val x = m->in[0], w = m->in[1], bias = operand(m, 2), past = operand(m, 3);
    DType t = dtype_of(m, x), acc = wide_type(t);
    if (rank_of(m, x) != 3 || rank_of(m, w) != 3 || (bias.i && rank_of(m, bias) != 1) || (past.i && rank_of(m, past) != 3)) {
        ERR(m, "E0203", "expected input, weight and past of rank 3 and a bias of rank 1");
        return;
    }
    Dim d[3], k = dim_of(m, w, 2), back = dim_addi(m->c, k, -1), none = DC(m, 0);
    dims_of(m, x, d);
    b_guard(&m->b, G_EQ, dim_of(m, w, 0), d[1], "there must be a kernel for every channel");
    b_guard(&m->b, G_EQ, dim_of(m, w, 1), DC(m, 1), "the convolution is depthwise");
    b_guard(&m->b, G_LE, DC(m, 1), k, "the kernel is empty");
    if (past.i) {
        b_guard(&m->b, G_EQ, dim_of(m, past, 2), back, "the past must have one position less than the kernel");
        x = b_concat(&m->b, 2, (Val[]){past, x}, 2);
    } else {
        Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, t);
        x = b_pad(&m->b, x, (Dim[]){none, none, back}, (Dim[]){none, none, none}, NULL, PAD_VALUE, zero, (Val){0});
    }
    WindowAttr win = {.n = 1, .axis = {2}, .size = {k}, .stride = {1}, .dilation = {1}};
    Val y = b_contract(&m->b, "bclk,ck->bcl", b_window(&m->b, x, &win), reshape_to(m, w, 2, (Dim[]){d[1], k}), acc, acc);
    if (bias.i)
        y = b_binary(&m->b, S_ADD, y, along(m, cast_to(m, bias, acc), 3, 1));
    if (!attr_is(m, "activation", "none"))
        y = map_text(m, "a * sigmoid(a)", 1, &y);
    result(m, 0, cast_to(m, y, t));
    result(m, 1, b_slice_axis(&m->b, x, 2, d[2], back));
}
