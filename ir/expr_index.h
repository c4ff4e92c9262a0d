/* expr_index.h: what expr_index.c and expr_bound.c share: index expressions under the extents of their axes, as affine sums
 * and with bounds. In all that follows a Dim of 0 means: unknown. */
#ifndef ACCELC_EXPR_INDEX_H
#define ACCELC_EXPR_INDEX_H
#include "expr_internal.h"

enum { LIN_MAX = 32, DEPTH_MAX = 24 };
#define SIMP_LARGE ((int64_t)1 << 40) /* constants beyond it are not reasoned about */

/* A sum: rest + coef * atom + .. */
typedef struct LinTerm { Expr atom; Dim coef; } LinTerm;
typedef struct Lin {
    uint32_t n;
    bool bad;                   /* too long, or a coefficient could not be computed */
    Dim rest;
    LinTerm t[LIN_MAX];
} Lin;
typedef struct Bound {
    Dim lo, hi;                 /* 0: unknown */
    bool tame;                  /* far from the ends of i64: sums are those of integers */
} Bound;
typedef struct BoundEntry { uint32_t key; Bound b; } BoundEntry;
typedef struct Simp {
    Ctx *c;
    const Dim *extent;
    uint32_t naxis;
    Dim zero, one, minus;       /* 0, 1, -1 */
    BoundEntry *memo;           /* open addressing by expression */
    uint32_t nmemo, cap;
    int depth;
} Simp;

/* Dims, without those that are large. */
bool simp_small(const Ctx *c, Dim d);                   /* known, and no large constant */
Dim simp_mul(Simp *s, Dim a, Dim b);
Dim simp_add(Simp *s, Dim a, Dim b);
Dim simp_mul_divisors(Simp *s, Dim a, Dim b);           /* the product of two divisors; none if it may be large */
bool simp_divides(Simp *s, Dim a, Dim d, Dim *q);       /* a == d * q for every value of the symbols */
bool simp_positive(Simp *s, Dim d);                     /* d >= 1 at every point */
bool dim_at_least(const Ctx *c, Dim d, int64_t v);      /* provably; false of one that is unknown */
bool dim_at_most(const Ctx *c, Dim d, int64_t v);
bool expr_as_dim(Ctx *c, Expr e, Dim *d);               /* the value of an i64 constant or dim expression */

/* Sums. */
void lin_add(Simp *s, Lin *l, Expr atom, Dim coef);
void lin_add_dim(Simp *s, Lin *l, Dim d);
void lin_add_scaled(Simp *s, Lin *l, const Lin *x, Dim by);
void lin_read(Simp *s, Expr e, Lin *l);                 /* e, whose parts are simplified; a sum that is too long becomes one atom */
Expr lin_emit(Simp *s, Lin *l);                         /* none if it is bad */

/* Bounds. */
Bound lin_bound(Simp *s, const Lin *l);
Bound simp_bound(Simp *s, Expr e);
Bound simp_bound_cast(Simp *s, const ExprInfo *i);      /* of what a cast from a narrow integer type can be */
#endif
