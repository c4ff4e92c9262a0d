/* op_fft_any.c: discrete Fourier transforms of a length n that only the run knows, in O(n log n).
 *
 * Any n is a convolution with a chirp (Bluestein's algorithm), done by transforms of a length `big`, the least power of two that is at
 * least 2n - 1. These are Stockham's passes of two (op_fft.c), one for each trip of a loop: pass s combines the elements
 * 2h - i and 2h - i + rest to h and h + big/2, for h < big/2, rest = big >> (s + 1), and i = h mod rest. */
#include "frontend/import.h"
#include <math.h>

enum { RE, IM, PARTS };
static const double TURN = 6.283185307179586476925;

typedef struct Any {
    Imp *m;
    Dim big, half;
    Val trips;                  /* log2 big */
    Val root[PARTS];            /* cos and sin of 2 pi q / big for q < half */
} Any;

static Expr load(Any *a, int operand, int rank, const Expr *at, bool inside)
{
    Oob oob = inside ? OOB_NEVER : OOB_VALUE;
    return expr_load(a->m->c, (uint32_t)operand, DT_F64, rank, at, oob, inside ? (Expr){0} : xf(a->m, DT_F64, 0), 0);
}

/* The least power of two that is at least 2n - 1, as a dim, and its logarithm. */
static bool padded_length(Any *a, Dim n)
{
    Imp *m = a->m;
    Expr ones = X2(MAX, X2(SUB, X2(MUL, xdim(m, n), XI(2)), XI(2)), XI(0));
    for (int k = 1; k < 64; k *= 2)
        ones = X2(OR, ones, X2(SHR, ones, XI(k)));
    Val big = map_over(m, X2(ADD, ones, XI(1)), 0, NULL, 0, NULL);
    Expr bits = expr_bitcast(m->c, expr_cast(m->c, xarg(m, 0, DT_I64), DT_F64), DT_I64); /* the exponent */
    a->trips = map_over(m, X2(SUB, X2(SHR, bits, XI(52)), XI(1023)), 1, &big, 0, NULL);
    return operand_dim(m, big, "the padded length", 1, DIM_INF, &a->big);
}

/* One pass over x = [outer, big, inner] of operands re, im, cos, sin and the trip's number. */
static void pass_bodies(Any *a, Expr *y)
{
    Imp *m = a->m;
    Expr trip = xarg(m, 4, DT_I64), half = xdim(m, a->half), o = xaxis(m, 1), upper = X2(GE, o, half);
    Expr h = X3(SELECT, upper, X2(SUB, o, half), o), rest = X2(SHR, xdim(m, a->big), X2(ADD, trip, XI(1)));
    Expr i = X2(AND, h, X2(SUB, rest, XI(1))), q = X2(SHL, i, trip), cosine = load(a, 2, 1, &q, true), sine = load(a, 3, 1, &q, true);
    Expr first[3] = {xaxis(m, 0), X2(SUB, X2(MUL, h, XI(2)), i), xaxis(m, 2)}, second[3] = {first[0], X2(ADD, first[1], rest), first[2]};
    Expr sum[PARTS], dif[PARTS];
    for (int k = 0; k < PARTS; k++) {
        Expr u = load(a, k, 3, first, true), v = load(a, k, 3, second, true);
        sum[k] = X2(ADD, u, v);
        dif[k] = X2(SUB, u, v);
    }
    y[RE] = X3(SELECT, upper, X2(ADD, X2(MUL, dif[RE], cosine), X2(MUL, dif[IM], sine)), sum[RE]);
    y[IM] = X3(SELECT, upper, X2(SUB, X2(MUL, dif[IM], cosine), X2(MUL, dif[RE], sine)), sum[IM]);
}

/* x = [outer, big, inner] to its transform; of exchanged parts it is the inverse times big, exchanged. */
static void passes(Any *a, Val *x)
{
    Imp *m = a->m;
    B outer = m->b;
    Graph *g = graph_new(m->c, NULL, outer.g);
    Val in[6] = {a->trips, {0}, x[RE], x[IM], a->root[RE], a->root[IM]}, inner[5], y[PARTS];
    Dim d[3];
    Expr body[PARTS];
    dims_of(m, x[RE], d);
    inner[4] = graph_input(g, NULL, type_tensor(m->c, DT_I64, 0, NULL));
    Val go = graph_input(g, NULL, type_tensor(m->c, DT_BOOL, 0, NULL));
    for (int k = 0; k < 4; k++)
        inner[k] = graph_input(g, NULL, *val_type(outer.g, in[2 + k]));
    m->b = builder(g, outer.loc);
    pass_bodies(a, body);
    b_map(&m->b, PARTS, body, 5, inner, 3, d, y);
    graph_output(g, NULL, go);
    for (int k = 0; k < PARTS; k++)
        graph_output(g, NULL, y[k]);
    m->b = outer;
    b_loop(&m->b, g, PARTS, 0, 6, in, x);
}

/* cos and sin of 2 pi q / n along `rank` axes of sizes dim */
static void roots(Imp *m, Expr q, Expr n, int rank, const Dim *dim, Val *out)
{
    Expr angle = X2(DIV, X2(MUL, to_f64(m, q), xf(m, DT_F64, TURN)), to_f64(m, n));
    out[RE] = map_over(m, X1(COS, angle), 0, NULL, rank, dim);
    out[IM] = map_over(m, X1(SIN, angle), 0, NULL, rank, dim);
}

/* With c[k] = exp(-i pi k k / n): X[k] = c[k] sum_j (x[j] c[j]) conj c[k - j]. */
bool fft_any(Imp *m, Val *re, Val *im, Dim n, bool inverse)
{
    Any any = {.m = m}, *a = &any;
    Val in[7] = {inverse ? *im : *re, inverse ? *re : *im}, x[PARTS], kernel[PARTS];
    Dim d[3], wide[3], line[3] = {DC(m, 1), {0}, DC(m, 1)};
    Expr body[PARTS];
    if (!padded_length(a, n))
        return false;
    dims_of(m, *re, d);
    a->half = dim_floordiv(m->c, a->big, DC(m, 2));
    line[1] = a->big;
    wide[0] = d[0], wide[1] = a->big, wide[2] = d[2];
    roots(m, xaxis(m, 0), xdim(m, a->big), 1, &a->half, a->root);
    Expr k = xaxis(m, 0), size = xdim(m, n), turn = X2(MUL, size, XI(2));
    roots(m, X2(MOD, X2(MUL, k, k), turn), turn, 1, &n, in + 2);
    /* conj c[|k|] for -n < k < n, k modulo big */
    k = X2(MIN, xaxis(m, 1), X2(SUB, xdim(m, a->big), xaxis(m, 1)));
    for (int p = 0; p < PARTS; p++)
        kernel[p] = map_over(m, load(a, 0, 1, &k, false), 1, in + 2 + p, 3, line);
    passes(a, kernel);
    Expr at[3] = {xaxis(m, 0), xaxis(m, 1), xaxis(m, 2)}, c = load(a, 2, 1, at + 1, false), s = load(a, 3, 1, at + 1, false);
    Expr u = load(a, 0, 3, at, false), v = load(a, 1, 3, at, false);
    body[RE] = X2(ADD, X2(MUL, u, c), X2(MUL, v, s));
    body[IM] = X2(SUB, X2(MUL, v, c), X2(MUL, u, s));
    b_map(&m->b, PARTS, body, 4, in, 3, wide, x);
    passes(a, x);
    Val both[4] = {x[RE], x[IM], kernel[RE], kernel[IM]};
    u = xarg(m, 0, DT_F64), v = xarg(m, 1, DT_F64), c = xarg(m, 2, DT_F64), s = xarg(m, 3, DT_F64);
    body[IM] = X2(SUB, X2(MUL, u, c), X2(MUL, v, s)); /* exchanged, for the inverse */
    body[RE] = X2(ADD, X2(MUL, u, s), X2(MUL, v, c));
    b_map(&m->b, PARTS, body, 4, both, 3, wide, x);
    passes(a, x);
    in[4] = x[IM], in[5] = x[RE];
    u = load(a, 2, 3, at, true), v = load(a, 3, 3, at, true), c = load(a, 0, 1, at + 1, true), s = load(a, 1, 1, at + 1, true);
    body[RE] = X2(ADD, X2(MUL, u, c), X2(MUL, v, s));
    body[IM] = X2(SUB, X2(MUL, v, c), X2(MUL, u, s));
    Expr scale = to_f64(m, inverse ? X2(MUL, xdim(m, a->big), size) : xdim(m, a->big));
    for (int p = 0; p < PARTS; p++)
        body[p] = X2(DIV, body[p], scale);
    b_map(&m->b, PARTS, body, 4, in + 2, 3, d, x);
    *re = x[inverse];
    *im = x[!inverse];
    return true;
}
