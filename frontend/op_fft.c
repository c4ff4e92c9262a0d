/* op_fft.c: discrete Fourier transforms of a known length in O(n log n), as maps.
 *
 * A length whose prime factors are small is transformed by Stockham's autosorting passes: for each factor p, [l, p, m] becomes
 * [p, l, m], y[j, k, i] = w(j i / (p m)) sum_b w(j b / p) x[k, b, i] with w(t) = exp(-+2 pi i t), l being the product of the
 * factors before and m of those after. The factors are one 2 if needed, then 4, then the odd primes, whose results come in
 * pairs that share their sums. Every other length is a convolution with a chirp (Bluestein's algorithm), done by
 * transforms of a longer, smooth length. */
#include "frontend/import.h"
#include <math.h>

enum { LARGEST_FACTOR = 13, FACTORS = 64, PARTS = 2 };
static const double TURN = 6.283185307179586476925;

typedef struct Cx { Expr re, im; } Cx;          /* a part that is none is 0 */
typedef struct Cv { Val re, im; } Cv;           /* [outer, n, inner]; im none: real */
typedef struct Fft { Imp *m; DType t; double sign; /* of the exponent */ Dim outer, inner; } Fft;

static Expr plus(Imp *m, Expr a, Expr b) { return !a.i ? b : !b.i ? a : X2(ADD, a, b); }
static Expr minus(Imp *m, Expr a, Expr b) { return !b.i ? a : !a.i ? X1(NEG, b) : X2(SUB, a, b); }
static Expr negated(Imp *m, Expr a) { return a.i ? X1(NEG, a) : a; }
static Expr times(Imp *m, Expr a, Expr b) { return !a.i || !b.i ? (Expr){0} : X2(MUL, a, b); }
static Cx cplus(Imp *m, Cx a, Cx b) { return (Cx){plus(m, a.re, b.re), plus(m, a.im, b.im)}; }
static Cx cminus(Imp *m, Cx a, Cx b) { return (Cx){minus(m, a.re, b.re), minus(m, a.im, b.im)}; }
static Cx cscale(Imp *m, Cx a, Expr s) { return (Cx){times(m, a.re, s), times(m, a.im, s)}; }

static Cx ctimes(Imp *m, Cx a, Cx b)
{
    return (Cx){minus(m, times(m, a.re, b.re), times(m, a.im, b.im)), plus(m, times(m, a.re, b.im), times(m, a.im, b.re))};
}

/* ---- butterflies: results u and p - u (u and u + p/2 for even p) of p points */

static void butterfly_even(Fft *f, int p, const Cx *x, int u, Cx *a, Cx *b)
{
    Imp *m = f->m;
    Cx even = x[0], odd = x[1];
    if (p == 4) {
        even = u ? cminus(m, x[0], x[2]) : cplus(m, x[0], x[2]);
        odd = u ? cminus(m, x[1], x[3]) : cplus(m, x[1], x[3]);
    }
    if (u) /* times i or -i */
        odd = f->sign > 0 ? (Cx){negated(m, odd.im), odd.re} : (Cx){odd.im, negated(m, odd.re)};
    *a = cplus(m, even, odd);
    *b = cminus(m, even, odd);
}

static void butterfly_odd(Fft *f, int p, const Cx *x, int u, Cx *a, Cx *b)
{
    Imp *m = f->m;
    Cx even = x[0], odd = {{0}, {0}};
    for (int j = 1; j <= p / 2; j++) {
        double turn = TURN * (u * j % p) / p;
        Cx sum = cplus(m, x[j], x[p - j]), dif = cminus(m, x[j], x[p - j]);
        even = cplus(m, even, u ? cscale(m, sum, xf(m, f->t, cos(turn))) : sum);
        if (u)
            odd = cplus(m, odd, cscale(m, dif, xf(m, f->t, f->sign * sin(turn))));
    }
    odd = (Cx){negated(m, odd.im), odd.re};
    *a = cplus(m, even, odd);
    *b = cminus(m, even, odd);
}

/* ---- passes */


/* cos and sin of 2 pi q / n as a vector along `rank` axes of sizes dim, q an integer expression over them. */
static Cv roots(Fft *f, Expr q, int64_t n, int rank, const Dim *dim)
{
    Imp *m = f->m;
    Expr turn = X2(MUL, to_f64(m, q), xf(m, DT_F64, f->sign * TURN / (double)n));
    return (Cv){map_over(m, expr_cast(m->c, X1(COS, turn), f->t), 0, NULL, rank, dim),
                map_over(m, expr_cast(m->c, X1(SIN, turn), f->t), 0, NULL, rank, dim)};
}

typedef struct Operands { Val v[12]; int n; } Operands;

static int operand_of(Operands *o, Val v)
{
    if (!v.i)
        return -1;
    o->v[o->n] = v;
    return o->n++;
}

static Expr arg_of(Fft *f, Operands *o, Val v)
{
    int k = operand_of(o, v);
    return k < 0 ? (Expr){0} : xarg(f->m, k, f->t);
}

/* Point b of the butterfly at [outer, k, i, inner] of an operand [outer, n, inner]. */
static Expr point_of(Fft *f, int operand, int b, int p, int64_t rest)
{
    Imp *m = f->m;
    Expr at = X2(ADD, X2(MUL, X2(ADD, X2(MUL, xaxis(m, 1), XI(p)), XI(b)), XI(rest)), xaxis(m, 2));
    Expr idx[3] = {xaxis(m, 0), at, xaxis(m, 3)};
    return operand < 0 ? (Expr){0} : expr_load(m->c, (uint32_t)operand, f->t, 3, idx, OOB_NEVER, (Expr){0}, 0);
}

static Cv pass(Fft *f, Cv x, int64_t l, int p, int64_t rest)
{
    Imp *m = f->m;
    Dim four[4] = {f->outer, DC(m, l), DC(m, rest), f->inner}, five[5] = {f->outer, DC(m, 1), four[1], four[2], four[3]};
    Val to[PARTS][LARGEST_FACTOR];
    for (int u = 0; u <= (p % 2 ? p / 2 : p / 2 - 1); u++) {
        int at[2] = {u, p % 2 ? (p - u) % p : u + p / 2}, count = at[1] == at[0] ? 1 : 2;
        Operands o = {.n = 0};
        Cx in[LARGEST_FACTOR], y[2];
        int re = operand_of(&o, x.re), im = operand_of(&o, x.im);
        for (int b = 0; b < p; b++)
            in[b] = (Cx){point_of(f, re, b, p, rest), point_of(f, im, b, p, rest)};
        (p % 2 ? butterfly_odd : butterfly_even)(f, p, in, u, &y[0], &y[1]);
        Expr body[2 * PARTS];
        for (int k = 0; k < count; k++) {
            if (rest > 1 && at[k]) {
                Cv w = roots(f, X2(MUL, xaxis(m, 0), XI(at[k])), p * rest, 2, (Dim[]){four[2], DC(m, 1)});
                Cx twiddle = {arg_of(f, &o, w.re), {0}};
                twiddle.im = arg_of(f, &o, w.im);
                y[k] = ctimes(m, y[k], twiddle);
            }
            body[2 * k] = y[k].re;
            body[2 * k + 1] = y[k].im.i ? y[k].im : xf(m, f->t, 0);
        }
        Val out[2 * PARTS] = {{0}};
        b_map(&m->b, 2 * count, body, o.n, o.v, 4, four, out);
        for (int k = 0; k < 2 * count; k++)
            to[k % 2][at[k / 2]] = reshape_to(m, out[k], 5, five);
    }
    Dim three[3] = {f->outer, DC(m, l * p * rest), f->inner};
    return (Cv){reshape_to(m, b_concat(&m->b, p, to[0], 1), 3, three), reshape_to(m, b_concat(&m->b, p, to[1], 1), 3, three)};
}

/* Factors of n in the order of the passes, 0 if one is too large. */
static int factors(int64_t n, int *p)
{
    int k = 0;
    if (n % 2 == 0 && __builtin_ctzll((unsigned long long)n) % 2)
        p[k++] = 2, n /= 2;
    for (; n % 4 == 0; n /= 4)
        p[k++] = 4;
    for (int q = 3; q <= LARGEST_FACTOR; q += 2)
        for (; n % q == 0; n /= q)
            p[k++] = q;
    return n == 1 ? k : 0;
}

static Cv smooth(Fft *f, Cv x, int64_t n)
{
    int p[FACTORS], count = factors(n, p);
    int64_t l = 1;
    for (int k = 0; k < count; l *= p[k++])
        x = pass(f, x, l, p[k], n / l / p[k]);
    return x;
}

/* ---- every other length */

static Cv padded(Fft *f, Cv x, int64_t more)
{
    Imp *m = f->m;
    Dim none[3] = {DC(m, 0), DC(m, 0), DC(m, 0)}, hi[3] = {none[0], DC(m, more), none[0]};
    Scalar zero = dt_convert((Scalar){.t = DT_F64}, f->t);
    x.re = b_pad(&m->b, x.re, none, hi, NULL, PAD_VALUE, zero, (Val){0});
    if (x.im.i)
        x.im = b_pad(&m->b, x.im, none, hi, NULL, PAD_VALUE, zero, (Val){0});
    return x;
}

/* x times y (rank 2, [n, 1]), and times a constant */
static Cv product(Fft *f, Cv x, Cv y, double scale)
{
    Imp *m = f->m;
    Operands o = {.n = 0};
    Dim d[3];
    dims_of(m, x.re, d);
    Expr xre = arg_of(f, &o, x.re), xim = arg_of(f, &o, x.im), yre = arg_of(f, &o, y.re), yim = arg_of(f, &o, y.im);
    Cx z = ctimes(m, (Cx){xre, xim}, (Cx){yre, yim});
    Expr body[2] = {z.re, z.im};
    for (int k = 0; k < 2 && scale != 1; k++)
        body[k] = X2(MUL, body[k], xf(m, f->t, scale));
    Val out[2] = {{0}};
    b_map(&m->b, 2, body, o.n, o.v, 3, d, out);
    return (Cv){out[0], out[1]};
}

/* X[k] = c[k] sum_i (x[i] c[i]) conj c[k - i], c[k] = w(k k / 2n) */
static Cv chirped(Fft *f, Cv x, int64_t n)
{
    Imp *m = f->m;
    int64_t big = 2 * n - 1;
    for (int p[FACTORS]; !factors(big, p) || big % 2;)
        big++;
    Fft back = *f, one = *f, conj = *f;
    Dim wide[2] = {DC(m, n), DC(m, 1)}, all[3] = {DC(m, 1), DC(m, big), DC(m, 1)};
    Expr i = xaxis(m, 0), square = X2(MOD, X2(MUL, i, i), XI(2 * n));
    Cv chirp = roots(f, square, 2 * n, 2, wide);
    /* conj c[|k|] for -n < k < n, k modulo `big` */
    conj.sign = -f->sign;
    i = xaxis(m, 1);
    Expr k = X2(MIN, i, X2(SUB, XI(big), i)), inside = X2(LT, k, XI(n));
    Cv kernel = roots(&conj, X2(MOD, X2(MUL, k, k), XI(2 * n)), 2 * n, 3, all);
    Expr cut = X3(SELECT, inside, xarg(m, 0, f->t), xf(m, f->t, 0));
    kernel = (Cv){map_over(m, cut, 1, &kernel.re, 3, all), map_over(m, cut, 1, &kernel.im, 3, all)};
    one.outer = one.inner = DC(m, 1);
    one.sign = -1;
    Cv spectrum = smooth(&one, kernel, big);
    spectrum = (Cv){reshape_to(m, spectrum.re, 2, all + 1), reshape_to(m, spectrum.im, 2, all + 1)};
    back.sign = -1;
    Cv y = smooth(&back, padded(f, product(f, x, chirp, 1), big - n), big);
    back.sign = 1;
    y = smooth(&back, product(f, y, spectrum, 1 / (double)big), big);
    y.re = b_slice_axis(&m->b, y.re, 1, DC(m, 0), DC(m, n));
    y.im = b_slice_axis(&m->b, y.im, 1, DC(m, 0), DC(m, n));
    return product(f, y, chirp, 1);
}

void fft(Imp *m, Val *re, Val *im, int64_t n, bool inverse)
{
    Fft f = {.m = m, .t = dtype_of(m, *re), .sign = inverse ? 1 : -1, .outer = dim_of(m, *re, 0), .inner = dim_of(m, *re, 2)};
    int p[FACTORS];
    Cv x = {*re, *im};
    x = n == 1 ? x : factors(n, p) ? smooth(&f, x, n) : chirped(&f, x, n);
    if (!x.im.i)
        x.im = map_text(m, "a * 0", 1, &x.re);
    if (inverse) {
        Val scale = scalar_of(m, f.t, 1 / (double)n);
        x.re = b_binary(&m->b, S_MUL, x.re, scale);
        x.im = b_binary(&m->b, S_MUL, x.im, scale);
    }
    *re = x.re;
    *im = x.im;
}
