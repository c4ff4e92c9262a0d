/* op_sample.c: GridSample: a map per spatial axis makes positions in pixels from the grid, and one map for all channels loads the pixels
 * around them. The grid's last axis holds coordinates in [-1, 1], the last spatial axis first. Pixels outside are 0, the border, or mirrored;
 * coordinates that are nowhere (NaN, infinitely often mirrored) count as -1, as in ONNX Runtime; as there, a cubic position may be outside
 * of a border, which its pixels are not. */
#include "frontend/import.h"
#include <math.h>
#include <string.h>

void imp_gridsample(Imp *m);

typedef enum { ZEROS, BORDER, REFLECTION } Padding;
typedef struct Grid { int n; bool align; Padding pad; DType w, t; Dim size[MAX_RANK]; } Grid;

#define F(v) xf(m, g->w, (v))

/* x mirrored into [lo, hi] as often as needed */
static Expr reflect(Imp *m, const Grid *g, Expr x, Expr lo, Expr hi)
{
    Expr range = X2(SUB, hi, lo), under = X2(LT, x, lo);
    Expr d = X2(MAX, F(0), X2(MAX, X2(SUB, lo, x), X2(SUB, x, hi)));
    Expr n = X1(TRUNC, X2(DIV, d, range)), r = X2(SUB, d, X2(MUL, n, range));
    Expr even = X2(EQ, X2(SUB, n, X2(MUL, F(2), X1(FLOOR, X2(DIV, n, F(2))))), F(0));
    Expr near_lo = X3(SELECT, under, even, X1(NOT, even)); /* measured from lo, else from hi */
    Expr y = X3(SELECT, near_lo, X2(ADD, lo, r), X2(SUB, hi, r));
    Expr outside = X2(OR, under, X2(GT, x, hi));
    return X3(SELECT, X2(LE, range, F(0)), lo, X3(SELECT, outside, y, x));
}

static void border(Imp *m, const Grid *g, int axis, Expr *lo, Expr *hi)
{
    Expr n = expr_cast(m->c, xdim(m, g->size[axis]), g->w);
    *lo = F(g->align ? 0 : -0.5);
    *hi = X2(SUB, n, F(g->align ? 1 : 0.5));
}

/* Pixel index (a float with a whole value) along an axis as i64, after padding. */
static Expr pixel(Imp *m, const Grid *g, int axis, Expr i)
{
    if (g->pad == REFLECTION) {
        Expr lo, hi;
        border(m, g, axis, &lo, &hi);
        i = X1(TRUNC, reflect(m, g, i, lo, hi));
    }
    return position_of(m, i);
}

/* The weight of tap k for a position `r` right of tap 0 (linear) or tap 1 (cubic, a = -0.75). */
static Expr tap_weight(Imp *m, const Grid *g, int taps, int k, Expr r)
{
    if (taps == 2)
        return k ? r : X2(SUB, F(1), r);
    const double a = -0.75;
    Expr t = k == 0 ? X2(ADD, r, F(1)) : k == 1 ? r : X2(SUB, F(k - 1), r);
    if (k == 1 || k == 2)
        return X2(ADD, X2(MUL, X2(MUL, X2(SUB, X2(MUL, F(a + 2), t), F(a + 3)), t), t), F(1));
    return X2(SUB, X2(MUL, X2(ADD, X2(MUL, X2(SUB, X2(MUL, F(a), t), F(5 * a)), t), F(8 * a)), t), F(4 * a));
}

/* Sum over the taps of axes from `axis` on. */
static Expr taps_sum(Imp *m, const Grid *g, int axis, int taps, const Expr *x, Expr *idx)
{
    if (axis == g->n) {
        Expr zero = expr_int(m->c, g->t, 0);
        Expr v = expr_load(m->c, 0, g->t, g->n + 2, idx, g->pad == ZEROS ? OOB_VALUE : OOB_CLAMP,
                           g->pad == ZEROS ? zero : (Expr){0}, 0);
        return expr_cast(m->c, v, g->w);
    }
    Expr f = X1(FLOOR, x[axis]), r = X2(SUB, x[axis], f), sum = {0};
    for (int k = 0; k < taps; k++) {
        idx[2 + axis] = pixel(m, g, axis, X2(ADD, f, F(taps == 2 ? k : k - 1)));
        Expr v = X2(MUL, tap_weight(m, g, taps, k, r), taps_sum(m, g, axis + 1, taps, x, idx));
        sum = k ? X2(ADD, sum, v) : v;
    }
    return sum;
}

void imp_gridsample(Imp *m)
{
    Val in[1 + 3] = {m->in[0], m->in[1]}, from = m->in[1];
    int r = rank_of(m, in[0]), n = r - 2;
    DType tg = dtype_of(m, in[1]), t = dtype_of(m, in[0]);
    Dim d[MAX_RANK], gd[MAX_RANK], xd[MAX_RANK];
    Grid grid = {.n = n, .align = attr_i(m, "align_corners") != 0, .t = t,
                 .w = t == DT_F64 || tg == DT_F64 || !dt_is_float(t) ? DT_F64 : DT_F32}, *g = &grid;
    if (n < 1 || n > 3 || rank_of(m, in[1]) != r) {
        if (n > 3)
            UNSUP(m, "%d spatial axes (at most 3)", n);
        else
            ERR(m, "E0203", "input of rank %d, grid of rank %d", r, rank_of(m, in[1]));
        return;
    }
    g->pad = attr_is(m, "padding_mode", "zeros") ? ZEROS : attr_is(m, "padding_mode", "border") ? BORDER : REFLECTION;
    dims_of(m, in[0], xd);
    dims_of(m, in[1], gd);
    b_guard(&m->b, G_EQ, gd[r - 1], DC(m, n), "the grid's last axis must hold one coordinate per spatial axis");
    b_guard(&m->b, G_EQ, gd[0], xd[0], "the batches of input and grid differ");
    d[0] = xd[0];
    d[1] = xd[1];
    memcpy(d + 2, gd + 1, sizeof *d * (size_t)n);
    memcpy(g->size, xd + 2, sizeof *xd * (size_t)n);
    const char *mode = attr_s(m, "mode");
    bool nearest = !strcmp(mode, "nearest"), cubic = !strcmp(mode, "cubic") || !strcmp(mode, "bicubic");
    Expr x[MAX_RANK], at[MAX_RANK], idx[MAX_RANK];
    for (int i = 0; i < n; i++) {
        for (int k = 0; k <= n; k++)
            at[k] = xaxis(m, k);
        at[n + 1] = XI(n - 1 - i);
        Expr v = expr_cast(m->c, load_at(m, 0, tg, r, at), g->w), lo, hi;
        Expr size = expr_cast(m->c, xdim(m, g->size[i]), g->w);
        Expr nowhere = g->pad == REFLECTION ? X1(NOT, X2(LT, X1(ABS, v), F(INFINITY))) : X1(ISNAN, v);
        v = X3(SELECT, nowhere, F(-1), v);
        x[i] = g->align ? X2(MUL, X2(DIV, X2(ADD, v, F(1)), F(2)), X2(SUB, size, F(1)))
                        : X2(DIV, X2(SUB, X2(MUL, X2(ADD, v, F(1)), size), F(1)), F(2));
        if (nearest)
            x[i] = X1(RINT, x[i]);
        border(m, g, i, &lo, &hi);
        const double margin = g->pad == BORDER && !cubic ? 0 : 4; /* finite, and far enough that all taps are outside */
        x[i] = g->pad == REFLECTION ? reflect(m, g, x[i], lo, hi) : X2(MAX, F(-margin), X2(MIN, x[i], X2(ADD, size, F(margin - 1))));
        in[1 + i] = map_over(m, x[i], 1, &from, n + 1, gd);
        for (int k = 1; k <= n; k++)
            at[k] = xaxis(m, k + 1);
        x[i] = expr_load(m->c, 1 + (uint32_t)i, g->w, n + 1, at, OOB_NEVER, (Expr){0}, 0);
    }
    idx[0] = xaxis(m, 0);
    idx[1] = xaxis(m, 1);
    Expr e;
    if (nearest) {
        for (int i = 0; i < n; i++)
            idx[2 + i] = pixel(m, g, i, x[i]);
        e = taps_sum(m, g, n, 1, x, idx);
    } else {
        e = taps_sum(m, g, 0, cubic ? 4 : 2, x, idx);
    }
    result(m, 0, map_over(m, expr_cast(m->c, e, t), 1 + n, in, r, d));
}
