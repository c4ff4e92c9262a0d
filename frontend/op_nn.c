/* op_nn.c: convolutions: pad, then a window view, then a contract over the window's axes; pooling (op_pool.c) reduces over them.
 * ConvTranspose is split into the phases of its stride, each an ordinary convolution; no zeros are multiplied.
 * Sizes follow the specification for auto_pad, ceil_mode and dilations, with symbolic image sizes. */
#include "frontend/window.h"
#include <math.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(conv); FN(convtranspose);

enum { PHASES = 64 };

/* An attribute with one (or two) numbers per axis in [min, 2^31); `deflt` if it is absent. */
static bool per_axis(Imp *m, const char *name, int n, int64_t min, int64_t deflt, int64_t *v)
{
    int k = 0;
    const int64_t *a = row_has_attr(m->row, name) ? attr_ints(m, name, &k) : NULL;
    if (a && k != n) {
        ERR(m, "E0203", "attribute %s: expected %d numbers, got %d", name, n, k);
        return false;
    }
    for (int i = 0; i < n; i++) {
        v[i] = a ? a[i] : deflt;
        if (v[i] < min || v[i] > INT32_MAX) {
            ERR(m, "E0202", "attribute %s: expected at least %lld, got %lld", name, (long long)min, (long long)v[i]);
            return false;
        }
    }
    return true;
}

/* Strides, dilations and kernel against the image; kernel[] are the weight's spatial dims or NULL (pooling). */
static bool geo_kernel(Imp *m, Val x, const Dim *kernel, Geo *g)
{
    int64_t k[SPATIAL] = {0};
    int r = rank_of(m, x);
    Dim d[MAX_RANK];
    memset(g, 0, sizeof *g);
    g->n = r - 2;
    if (g->n < 1 || g->n > SPATIAL) {
        if (g->n < 1)
            ERR(m, "E0203", "expected rank 3 or more, got %d", r);
        else
            UNSUP(m, "%d spatial axes (at most %d)", g->n, SPATIAL);
        return false;
    }
    dims_of(m, x, d);
    if (!per_axis(m, "strides", g->n, 1, 1, g->stride) || !per_axis(m, "dilations", g->n, 1, 1, g->dil) ||
        !per_axis(m, "kernel_shape", g->n, 1, 1, k))
        return false;
    for (int i = 0; i < g->n; i++) {
        g->in[i] = d[2 + i];
        g->size[i] = kernel ? kernel[i] : DC(m, k[i]);
        if (kernel && attr_has(m, "kernel_shape") && dim_differ(m->c, kernel[i], DC(m, k[i]))) {
            Buf b = {.c = m->c};
            dim_print(&b, m->c, kernel[i]);
            ERR(m, "E0203", "attribute kernel_shape: %lld along axis %d, the weight has %s", (long long)k[i], i,
                buf_str(&b));
            return false;
        }
        if (kernel && attr_has(m, "kernel_shape"))
            b_guard(&m->b, G_EQ, kernel[i], DC(m, k[i]), "attribute kernel_shape does not fit the weight along axis %d", i);
        g->ext[i] = dim_addi(m->c, dim_muli(m->c, dim_addi(m->c, g->size[i], -1), g->dil[i]), 1);
    }
    return true;
}

bool geo_read(Imp *m, Val x, const Dim *kernel, Geo *g)
{
    Ctx *c = m->c;
    int64_t pads[2 * SPATIAL];
    if (!geo_kernel(m, x, kernel, g) || !per_axis(m, "pads", 2 * g->n, 0, 0, pads))
        return false;
    const char *autopad = attr_s(m, "auto_pad");
    bool same = !strncmp(autopad, "SAME", 4), upper = !strcmp(autopad, "SAME_UPPER");
    bool valid = !strcmp(autopad, "VALID");
    bool ceil_mode = row_has_attr(m->row, "ceil_mode") && attr_i(m, "ceil_mode");
    for (int i = 0; i < g->n; i++) {
        Dim s = DC(m, g->stride[i]), zero = DC(m, 0);
        g->extra[i] = zero;
        if (same) {
            g->out[i] = dim_ceildiv(c, g->in[i], s);
            Dim need = dim_add(c, dim_mul(c, dim_addi(c, g->out[i], -1), s), g->ext[i]);
            Dim total = dim_max(c, dim_sub(c, need, g->in[i]), zero), half = dim_floordiv(c, total, DC(m, 2));
            Dim rest = dim_sub(c, total, half);
            g->lo[i] = upper ? half : rest;
            g->hi[i] = upper ? rest : half;
            continue;
        }
        g->lo[i] = valid ? zero : DC(m, pads[i]);
        g->hi[i] = valid ? zero : DC(m, pads[g->n + i]);
        Dim padded = dim_add(c, g->in[i], dim_add(c, g->lo[i], g->hi[i]));
        b_guard(&m->b, G_LE, g->ext[i], padded, "the kernel is larger than the padded image along axis %d", i);
        Dim span = dim_sub(c, padded, g->ext[i]);
        g->out[i] = dim_addi(c, dim_floordiv(c, span, s), 1);
        if (!m->b.g->parent) /* the guard says so */
            dim_assume_le(c, DC(m, 1), g->out[i]);
        if (ceil_mode && g->stride[i] > 1) {
            /* a last window counts if it starts inside the image or the padding in front of it */
            Dim up = dim_addi(c, dim_ceildiv(c, span, s), 1);
            Dim last = dim_mul(c, dim_addi(c, up, -1), s), edge = dim_add(c, g->in[i], g->lo[i]);
            g->out[i] = dim_select(c, dim_lt(c, last, edge), up, dim_addi(c, up, -1));
            Dim need = dim_add(c, dim_mul(c, dim_addi(c, g->out[i], -1), s), g->ext[i]);
            g->extra[i] = dim_max(c, zero, dim_sub(c, need, padded));
        }
    }
    return true;
}

Val pad_ends(Imp *m, Val x, int n, const Dim *lo, const Dim *hi, Scalar value)
{
    int r = rank_of(m, x), from = r - n;
    Dim l[MAX_RANK], h[MAX_RANK], start[MAX_RANK], d[MAX_RANK], size[MAX_RANK];
    int64_t step[MAX_RANK];
    bool any = false, cut = false, sure = true;
    dims_of(m, x, d);
    for (int i = 0; i < r; i++) {
        Dim a = i < from ? DC(m, 0) : lo[i - from], b = i < from ? DC(m, 0) : hi[i - from];
        bool la = dim_lo(m->c, a) >= 0, lb = dim_lo(m->c, b) >= 0;
        bool ha = dim_hi(m->c, a) <= 0, hb = dim_hi(m->c, b) <= 0;
        sure &= (la || ha) && (lb || hb);
        l[i] = la ? a : DC(m, 0);
        h[i] = lb ? b : DC(m, 0);
        start[i] = la ? DC(m, 0) : dim_muli(m->c, a, -1);
        size[i] = dim_add(m->c, d[i], dim_add(m->c, la ? DC(m, 0) : a, lb ? DC(m, 0) : b));
        step[i] = 1;
        any |= !dim_is(m->c, l[i], 0) || !dim_is(m->c, h[i], 0);
        cut |= !la || !lb;
    }
    if (!sure) {
        Expr idx[MAX_RANK];
        DType t = dtype_of(m, x);
        for (int i = 0; i < r; i++) {
            idx[i] = xaxis(m, i);
            size[i] = d[i];
            if (i >= from) {
                idx[i] = X2(SUB, idx[i], xdim(m, lo[i - from]));
                size[i] = dim_add(m->c, d[i], dim_add(m->c, lo[i - from], hi[i - from]));
            }
        }
        Expr e = expr_load(m->c, 0, t, r, idx, OOB_VALUE, expr_const(m->c, value), 0);
        return map_over(m, e, 1, &x, r, size);
    }
    if (cut)
        x = b_slice(&m->b, x, start, step, size);
    return any ? b_pad(&m->b, x, l, h, NULL, PAD_VALUE, value, (Val){0}) : x;
}

Val geo_windows(Imp *m, Val x, int first, const Geo *g)
{
    WindowAttr w = {.n = (uint8_t)g->n};
    for (int i = 0; i < g->n; i++) {
        w.axis[i] = (uint8_t)(first + i);
        w.size[i] = g->size[i];
        w.stride[i] = g->stride[i];
        w.dilation[i] = g->dil[i];
    }
    return b_window(&m->b, x, &w);
}

/* x [N, G*C, in..] (padded) with w [G*O, C, k..], or [G*C, O, k..] if swapped, to [N, G*O, out..]; strides from g. */
static Val correlate(Imp *m, Val x, Val w, int64_t groups, bool swapped, const Geo *g, DType acc, DType out)
{
    enum { N, G, C, O, Y, K = Y + SPATIAL };
    Ctx *c = m->c;
    ContractAttr a = {.label = NO_LABELS, .acc = acc, .out = out};
    Dim xd[MAX_RANK], wd[MAX_RANK];
    int n = g->n, first = 2, k[3] = {0};
    bool grouped = groups != 1;
    if (!x.i || !w.i)
        return (Val){0};
    dims_of(m, x, xd);
    dims_of(m, w, wd);
    Dim per = swapped ? wd[1] : dim_floordiv(c, wd[0], DC(m, groups)); /* results per group */
    if (grouped) {
        Dim gx[MAX_RANK] = {xd[0], DC(m, groups), dim_floordiv(c, xd[1], DC(m, groups))};
        Dim gw[MAX_RANK] = {DC(m, groups), dim_floordiv(c, wd[0], DC(m, groups)), wd[1]};
        memcpy(gx + 3, xd + 2, sizeof *xd * (size_t)n);
        memcpy(gw + 3, wd + 2, sizeof *wd * (size_t)n);
        x = reshape_to(m, x, n + 3, gx);
        w = reshape_to(m, w, n + 3, gw);
        first = 3;
    }
    if (swapped) { /* weights of convolutions have their results first */
        int perm[MAX_RANK];
        for (int i = 0; i < n + first; i++)
            perm[i] = i == first - 2 ? first - 1 : i == first - 1 ? first - 2 : i;
        w = b_permute(&m->b, w, perm);
    }
    x = geo_windows(m, x, first, g);
    if (!x.i)
        return x;
#define LABEL(i, l) a.label[i][k[i]++] = (uint8_t)(l)
    LABEL(0, N);
    LABEL(2, N);
    for (int i = 0; i < 3 && grouped; i++)
        LABEL(i, G);
    LABEL(0, C);
    LABEL(1, O);
    LABEL(1, C);
    LABEL(2, O);
    for (int i = 0; i < n; i++) {
        LABEL(0, Y + i);
        LABEL(2, Y + i);
    }
    for (int i = 0; i < n; i++) {
        LABEL(0, K + i);
        LABEL(1, K + i);
    }
#undef LABEL
    Val y = b_contract_attr(&m->b, &a, x, w);
    if (!grouped || !y.i)
        return y;
    Dim yd[MAX_RANK], od[MAX_RANK];
    dims_of(m, y, yd);
    od[0] = yd[0];
    od[1] = dim_mul(c, DC(m, groups), per);
    memcpy(od + 2, yd + 3, sizeof *yd * (size_t)n);
    return reshape_to(m, y, n + 2, od);
}

static bool groups_ok(Imp *m, Val x, Val w, bool swapped, int64_t *groups)
{
    *groups = attr_i(m, "group");
    if (rank_of(m, x) != rank_of(m, w) || rank_of(m, w) < 3) {
        ERR(m, "E0203", "input of rank %d, weight of rank %d", rank_of(m, x), rank_of(m, w));
        return false;
    }
    if (*groups < 1 || *groups > INT32_MAX) {
        ERR(m, "E0202", "attribute group: expected a positive number, got %lld", (long long)*groups);
        return false;
    }
    Dim want = swapped ? dim_of(m, w, 0) : dim_muli(m->c, dim_of(m, w, 1), *groups);
    int64_t wc, xc;
    if (dim_is_const(m->c, dim_of(m, w, swapped ? 0 : 1), &wc) && dim_is_const(m->c, dim_of(m, x, 1), &xc) &&
        dim_differ(m->c, want, dim_of(m, x, 1))) {
        ERR(m, "E0203", "weight has %lld input channels, input has %lld (group=%lld)", (long long)wc, (long long)xc,
            (long long)*groups);
        return false;
    }
    b_guard(&m->b, G_EQ, dim_of(m, x, 1), want, "the channels of input and weight differ");
    b_guard(&m->b, G_EQ, dim_mod(m->c, dim_of(m, w, 0), DC(m, *groups)), DC(m, 0),
            "the channels of the weight must be divisible by group=%lld", (long long)*groups);
    return true;
}

static DType acc_type(DType t) { return wide_type(t); }

Val conv(Imp *m, Val x, Val w, DType acc, DType out)
{
    int64_t groups;
    Geo g;
    Dim wd[MAX_RANK];
    if (!groups_ok(m, x, w, false, &groups))
        return (Val){0};
    dims_of(m, w, wd);
    if (!geo_read(m, x, wd + 2, &g))
        return (Val){0};
    Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, dtype_of(m, x));
    return correlate(m, pad_ends(m, x, g.n, g.lo, g.hi, zero), w, groups, false, &g, acc, out);
}

Val conv_bias(Imp *m, Val y, Val bias)
{
    if (!bias.i || !y.i)
        return y;
    b_guard(&m->b, G_EQ, dim_of(m, y, 1), rank_of(m, bias) == 1 ? dim_of(m, bias, 0) : DC(m, -1),
            "the bias must have one element per output channel");
    return b_binary(&m->b, S_ADD, y, along(m, bias, rank_of(m, y), 1));
}

void imp_conv(Imp *m)
{
    DType t = dtype_of(m, m->in[0]);
    result(m, 0, conv_bias(m, conv(m, m->in[0], m->in[1], acc_type(t), t), operand(m, 2)));
}

/* ---- ConvTranspose: y[s*i + d*k - lo] += x[i] * w[k] */

/* Padding and output size: pads, auto_pad or output_shape (then the padding is what makes it fit). */
static bool geo_transpose(Imp *m, Val x, const Dim *kernel, Geo *g)
{
    Ctx *c = m->c;
    int64_t pads[2 * SPATIAL], op[SPATIAL], shape[SPATIAL];
    if (!geo_kernel(m, x, kernel, g) || !per_axis(m, "output_padding", g->n, 0, 0, op) ||
        !per_axis(m, "pads", 2 * g->n, 0, 0, pads))
        return false;
    int listed = 0;
    const int64_t *os = attr_ints(m, "output_shape", &listed);
    if (os && listed == g->n + 2) /* some exporters include batch and channels */
        os += 2;
    else if (os && !per_axis(m, "output_shape", g->n, 1, 1, shape))
        return false;
    const char *autopad = attr_s(m, "auto_pad");
    bool same = !strncmp(autopad, "SAME", 4), upper = !strcmp(autopad, "SAME_UPPER");
    for (int i = 0; i < g->n; i++) {
        Dim full = dim_add(c, dim_muli(c, dim_addi(c, g->in[i], -1), g->stride[i]),
                           dim_addi(c, g->ext[i], op[i])), zero = DC(m, 0);
        g->lo[i] = !strcmp(autopad, "VALID") ? zero : DC(m, pads[i]);
        g->hi[i] = !strcmp(autopad, "VALID") ? zero : DC(m, pads[g->n + i]);
        if (os || same) {
            g->out[i] = os ? DC(m, os[i]) : dim_muli(c, g->in[i], g->stride[i]);
            Dim total = dim_max(c, dim_sub(c, full, g->out[i]), zero), half = dim_floordiv(c, total, DC(m, 2));
            g->lo[i] = upper ? half : dim_sub(c, total, half);
        } else {
            g->out[i] = dim_sub(c, full, dim_add(c, g->lo[i], g->hi[i]));
            b_guard(&m->b, G_LE, DC(m, 0), g->out[i], "the padding is larger than the image along axis %d", i);
        }
    }
    return true;
}

/* Taps k = first, first + step, .. (count of them) reach an output position s*j + phase, from x[j + off + dil*u],
 * u = 0 being the last tap. */
typedef struct Phase { int64_t first, step, count, off, dil; } Phase;

static Phase phase_of(int64_t s, int64_t d, int64_t size, int64_t lo, int64_t r)
{
    Phase p = {0, 1, 0, 0, 1};
    int64_t gcd = s, b = d % s;
    while (b) {
        int64_t t = gcd % b;
        gcd = b;
        b = t;
    }
    p.step = s / gcd;
    p.dil = d / gcd;
    int64_t want = (r + lo) % s;
    for (p.first = 0; p.first < p.step && d * p.first % s != want; p.first++)
        ;
    if (p.first >= p.step || p.first >= size)
        return p;
    p.count = (size - 1 - p.first) / p.step + 1;
    int64_t last = p.first + (p.count - 1) * p.step;
    p.off = (r + lo - d * last) / s; /* exact */
    return p;
}

/* All phases side by side: [S, N, O, J..] to [N, O, J*s..], cut to the output's size. */
static Val interleave(Imp *m, Val stacked, const Geo *g, const Dim *j)
{
    int n = g->n, perm[MAX_RANK];
    Dim d[MAX_RANK], six[MAX_RANK], flat[MAX_RANK];
    dims_of(m, stacked, d);
    for (int i = 0; i < n; i++)
        six[i] = DC(m, g->stride[i]);
    for (int i = 0; i < n + 2; i++)
        six[n + i] = d[1 + i];
    perm[0] = n;
    perm[1] = n + 1;
    for (int i = 0; i < n; i++) {
        perm[2 + 2 * i] = n + 2 + i;
        perm[3 + 2 * i] = i;
    }
    for (int i = 0; i < 2; i++)
        flat[i] = d[1 + i];
    for (int i = 0; i < n; i++)
        flat[2 + i] = dim_muli(m->c, j[i], g->stride[i]);
    Val y = reshape_to(m, b_permute(&m->b, reshape_to(m, stacked, 2 * n + 2, six), perm), n + 2, flat);
    for (int i = 0; i < n; i++)
        if (!dim_same(m->c, flat[2 + i], g->out[i]))
            y = b_slice_axis(&m->b, y, 2 + i, DC(m, 0), g->out[i]);
    return y;
}

static Val one_phase(Imp *m, Val x, Val w, int64_t groups, const Geo *g, const Phase *p, const Dim *j, DType t)
{
    Dim start[MAX_RANK], size[MAX_RANK], lo[SPATIAL], hi[SPATIAL];
    int64_t step[MAX_RANK];
    Geo q = *g;
    dims_of(m, w, size);
    for (int i = 0; i < 2; i++) {
        start[i] = DC(m, 0);
        step[i] = 1;
    }
    for (int i = 0; i < g->n; i++) {
        if (!p[i].count) { /* no tap reaches this phase */
            Dim zd[MAX_RANK] = {dim_of(m, x, 0), dim_muli(m->c, dim_of(m, w, 1), groups)};
            memcpy(zd + 2, j, sizeof *j * (size_t)g->n);
            return b_splat(&m->b, dt_convert((Scalar){.t = DT_I64, .i = 0}, t), g->n + 2, zd);
        }
        start[2 + i] = DC(m, p[i].first + (p[i].count - 1) * p[i].step);
        step[2 + i] = -p[i].step;
        size[2 + i] = q.size[i] = DC(m, p[i].count);
        q.stride[i] = 1;
        q.dil[i] = p[i].dil;
        lo[i] = DC(m, -p[i].off);
        Dim need = dim_addi(m->c, j[i], (p[i].count - 1) * p[i].dil + p[i].off);
        hi[i] = dim_sub(m->c, need, g->in[i]);
    }
    Scalar zero = dt_convert((Scalar){.t = DT_I64, .i = 0}, t);
    return correlate(m, pad_ends(m, x, g->n, lo, hi, zero), b_slice(&m->b, w, start, step, size), groups, true, &q,
                     acc_type(t), t);
}

/* Sizes that are known only at run time: a convolution over the image with zeros between its elements. */
static Val dilated(Imp *m, Val x, Val w, int64_t groups, const Geo *g, DType t)
{
    int r = g->n + 2;
    Dim zero[MAX_RANK], lo[SPATIAL], hi[SPATIAL], start[MAX_RANK], size[MAX_RANK];
    int64_t interior[MAX_RANK], step[MAX_RANK];
    Geo q = *g;
    dims_of(m, w, size);
    for (int i = 0; i < r; i++) {
        zero[i] = DC(m, 0);
        interior[i] = i < 2 ? 0 : g->stride[i - 2] - 1;
        step[i] = i < 2 ? 1 : -1;
        start[i] = i < 2 ? zero[i] : dim_addi(m->c, size[i], -1);
    }
    for (int i = 0; i < g->n; i++) {
        Dim wide = dim_addi(m->c, dim_muli(m->c, dim_addi(m->c, g->in[i], -1), g->stride[i]), 1);
        lo[i] = dim_sub(m->c, dim_addi(m->c, g->ext[i], -1), g->lo[i]);
        hi[i] = dim_sub(m->c, dim_addi(m->c, dim_add(m->c, g->out[i], g->ext[i]), -1), dim_add(m->c, wide, lo[i]));
        q.stride[i] = 1;
    }
    Scalar none = dt_convert((Scalar){.t = DT_I64, .i = 0}, t);
    Val spread = b_pad(&m->b, x, zero, zero, interior, PAD_VALUE, none, (Val){0});
    return correlate(m, pad_ends(m, spread, g->n, lo, hi, none), b_slice(&m->b, w, start, step, size), groups, true,
                     &q, acc_type(t), t);
}

/* Kernel equal to stride and no padding: outputs do not overlap, y[i*s + k] = x[i] * w[k]; all phases are one product, w as [S*O, C]. */
static Val disjoint(Imp *m, Val x, Val w, const Geo *g, DType t)
{
    int n = g->n, perm[MAX_RANK], swap[MAX_RANK];
    Dim d[MAX_RANK], wd[MAX_RANK], one = DC(m, 1), phases = one;
    Geo q = *g;
    dims_of(m, w, wd);
    for (int i = 0; i < n; i++) {
        perm[i] = 2 + i;
        phases = dim_mul(m->c, phases, wd[2 + i]);
        q.size[i] = d[2 + i] = one;
        q.stride[i] = 1;
    }
    perm[n] = 1;
    perm[n + 1] = 0;
    d[0] = dim_mul(m->c, phases, wd[1]);
    d[1] = wd[0];
    w = reshape_to(m, b_permute(&m->b, w, perm), n + 2, d);
    Val y = correlate(m, x, w, 1, false, &q, acc_type(t), t);
    if (!y.i)
        return y;
    d[0] = dim_of(m, x, 0);
    d[1] = phases;
    d[2] = wd[1];
    memcpy(d + 3, g->in, sizeof *d * (size_t)n);
    for (int i = 0; i < n + 3; i++)
        swap[i] = i > 1 ? i : !i;
    return interleave(m, b_permute(&m->b, reshape_to(m, y, n + 3, d), swap), g, g->in);
}

/* All products of an input pixel with the kernel, a matrix product with w as [O*K, C], and then their sums where they overlap. */
static Val products_first(Imp *m, Val x, Val w, const Geo *g, const int64_t *lo, DType t)
{
    int n = g->n, perm[MAX_RANK];
    Dim d[MAX_RANK], wd[MAX_RANK], one = DC(m, 1), rows, pixels = one;
    Overlap axis[SPATIAL];
    Geo q = *g;
    dims_of(m, w, wd);
    rows = wd[1];
    for (int i = 0; i < n; i++) {
        rows = dim_mul(m->c, rows, wd[2 + i]);
        pixels = dim_mul(m->c, pixels, g->in[i]);
        axis[i] = (Overlap){g->out[i], wd[2 + i], g->in[i], g->stride[i], g->dil[i], lo[i]};
        perm[i] = 1 + i;
        q.size[i] = d[2 + i] = one;
        q.stride[i] = 1;
    }
    perm[n] = n + 1;
    perm[n + 1] = 0;
    d[0] = rows;
    d[1] = wd[0];
    w = reshape_to(m, b_permute(&m->b, w, perm), n + 2, d);
    Val y = correlate(m, x, w, 1, false, &q, acc_type(t), t);
    return overlap_sum(m, reshape_to(m, y, 3, (Dim[]){dim_of(m, x, 0), rows, pixels}), n, axis);
}

/* Is that less work than a convolution for each of the phases? Those multiply with the padding, too, pad x once each, and leave vectors of few
 * output channels partly empty where rows are short. Where sizes are known at run time alone, the image is as large as the phases make it. */
static bool products_pay(Imp *m, Val x, Val w, const Geo *g, const int64_t *size, int64_t phases)
{
    enum { MOVE = 12 /* as many products take as long as an element's way through memory */, LANES = 16, ROW = 32 };
    int64_t ci, co, in = 1, out = 1, taps = 1, row;
    const bool known_row = dim_is_const(m->c, g->out[g->n - 1], &row);
    if (!dim_is_const(m->c, dim_of(m, x, 1), &ci) || !dim_is_const(m->c, dim_of(m, w, 1), &co) || co > LANES)
        return false;
    for (int i = 0; i < g->n; i++) {
        int64_t a, b;
        taps *= size[i];
        if (!dim_is_const(m->c, g->in[i], &a) || !dim_is_const(m->c, g->out[i], &b))
            a = 1, b = g->stride[i];
        in *= a;
        out *= b;
    }
    const double lanes = known_row && row / g->stride[g->n - 1] < ROW ? LANES : (double)co;
    const double apart = (double)ci * ((double)taps / (double)phases * (double)out * lanes + (double)(MOVE * phases) * (double)in);
    return (double)(co * taps) * (double)in * (double)(ci + MOVE) < apart;
}

void imp_convtranspose(Imp *m)
{
    Val x = m->in[0], w = m->in[1], y;
    DType t = dtype_of(m, x);
    int64_t groups, size[SPATIAL], lo[SPATIAL], total = 1;
    Geo g;
    Dim wd[MAX_RANK], j[SPATIAL];
    if (!groups_ok(m, x, w, true, &groups))
        return;
    dims_of(m, w, wd);
    if (!geo_transpose(m, x, wd + 2, &g))
        return;
    bool known = true, apart = groups == 1, first = groups == 1 && t == DT_F32 && 2 + 3 * g.n <= MAX_RANK;
    for (int i = 0; i < g.n; i++) {
        known &= dim_is_const(m->c, g.size[i], &size[i]) && dim_is_const(m->c, g.lo[i], &lo[i]) &&
                 g.stride[i] <= PHASES;
        total = known ? total * g.stride[i] : total;
        known &= total <= PHASES;
        apart &= known && size[i] == g.stride[i] && g.dil[i] == 1 && lo[i] == 0 &&
                 dim_same(m->c, g.out[i], dim_muli(m->c, g.in[i], size[i]));
        first &= known && lo[i] >= 0;
        j[i] = dim_ceildiv(m->c, g.out[i], DC(m, g.stride[i]));
    }
    if (!known) {
        y = dilated(m, x, w, groups, &g, t);
    } else if (apart) {
        y = disjoint(m, x, w, &g, t);
    } else if (first && products_pay(m, x, w, &g, size, total)) {
        y = products_first(m, x, w, &g, lo, t);
    } else {
        Val part[PHASES];
        for (int64_t f = 0; f < total; f++) {
            Phase p[SPATIAL];
            int64_t rest = f;
            for (int i = g.n - 1; i >= 0; i--, rest /= g.stride[i + 1])
                p[i] = phase_of(g.stride[i], g.dil[i], size[i], lo[i], rest % g.stride[i]);
            part[f] = one_phase(m, x, w, groups, &g, p, j, t);
            if (total > 1)
                part[f] = insert_axes(m, part[f], g.n + 3, 1);
        }
        y = total == 1 ? part[0] : interleave(m, b_concat(&m->b, (int)total, part, 0), &g, j);
    }
    result(m, 0, conv_bias(m, y, operand(m, 2)));
}
