/* scale.h: constant factors that move through a graph: algebra.c decides, scale.c moves. */
#ifndef ACCELC_PASSES_SCALE_H
#define ACCELC_PASSES_SCALE_H
#include "internal.h"

typedef struct Alg {
    Graph *g;
    Ctx *c;
    PassCtx *p;
    uint32_t *uses, nval;       /* as of the start of the round; values from nval on are new */
    bool *taken;                /* per old value: part of something that was rewritten in this round */
    B b;                        /* where new nodes go; loc of the node at hand */
} Alg;

/* y = x*mul + add of a map body, x being operand `arg` of the map; mul, add: expressions over constants, 0 = absent. arg < 0: y
 * is the constant `add`. ops: operations in the body. */
typedef struct Affine { bool ok; int arg; Expr mul, add; } Affine;
Affine affine_of(Alg *a, const Node *map);
Val alg_const(Alg *a, Val v);                           /* v evaluated now: a constant, or poison if it does not fold */
Val alg_expr(Alg *a, const Node *map, Expr e);          /* an expression over the constant operands of a map, as a constant */
Val alg_mul(Alg *a, Val x, Val y);                      /* products and sums of constants; poison counts as absent */
Val alg_add(Alg *a, Val x, Val y);
bool alg_single(const Alg *a, Val v);                   /* read once, and not rewritten in this round */
void alg_take(Alg *a, Val v);
Node *alg_again(Alg *a, const Node *n, const Val *in);  /* the same node over other operands of the same types */

/* A factor of value v is a constant of v's rank whose dims are 1 or those of v. */
Val scale_fit(Alg *a, Val s, const Type *t);            /* s, which broadcasts to t, as a factor of it; poison if it does not */
bool scale_varies(const Alg *a, Val s, int d);
Val scale_up(Alg *a, const Node *view, Val s);          /* the factor of a view's result as one of its operand; poison: no */
Val scale_down(Alg *a, const Node *view, Val s);        /* the reverse */
/* A factor whose dims have labels `from`, as one of a value of `rank` dims with labels `to`: poison if it varies along others. */
Val scale_relabel(Alg *a, Val s, const uint8_t *from, int rank, const uint8_t *to);
Val scale_weight(Alg *a, Val w, Val f);                 /* their product; f is a factor of w */
bool scale_weight_ok(Alg *a, Val w);                    /* a constant of floats that may get a scaled copy */
/* v*s without a multiplication at run time, s being a factor of v: poison if that cannot be. Nothing is appended for keeps unless
 * `commit`. */
Val scale_push(Alg *a, Val v, Val s, bool commit, int depth);
#endif
