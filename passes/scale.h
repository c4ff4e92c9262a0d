/* scale.h: constant factors that move through a graph: algebra.c decides, scale.c moves. */
#ifndef ACCELC_PASSES_SCALE_H
#define ACCELC_PASSES_SCALE_H
#include "internal.h"

typedef struct Alg {
    Graph *g;
    Ctx *c;
    PassCtx *p;
    uint32_t *uses, nval; /* as of the start of the round; values from nval on are new */
    bool *taken;          /* per old value: part of something that was rewritten in this round */
    B b;                  /* where new nodes go; loc of the node at hand */
} Alg;

/* y = x*mul + add of a map body, x being operand `arg` of the map; mul, add: expressions over
 * constants, 0 = absent. arg < 0: y is the constant `add`. */
typedef struct Affine {
    bool ok;
    int arg;
    Expr mul, add;
} Affine;
Affine affine_of(Alg *a, const Node *map);
/* v evaluated now: a constant, or poison if it does not fold. */
Val alg_const(Alg *a, Val v);
/* An expression over the constant operands of a map, as a constant. */
Val alg_expr(Alg *a, const Node *map, Expr e);
/* Products and sums of constants; poison counts as absent. */
Val alg_mul(Alg *a, Val x, Val y);
Val alg_add(Alg *a, Val x, Val y);
/* v is read once, and was not rewritten in this round. */
bool alg_single(const Alg *a, Val v);
void alg_take(Alg *a, Val v);
/* The same node over other operands of the same types. */
Node *alg_again(Alg *a, const Node *n, const Val *in);

/* A factor of value v is a constant of v's rank whose dims are 1 or those of v.
 * scale_fit: s, which broadcasts to t, as a factor of it; poison if it does not. */
Val scale_fit(Alg *a, Val s, const Type *t);
bool scale_varies(const Alg *a, Val s, int d);
/* The factor of a view's result as one of its operand, and the reverse; poison if that cannot be.
 */
Val scale_up(Alg *a, const Node *view, Val s);
Val scale_down(Alg *a, const Node *view, Val s);
/* A factor whose dims have labels `from`, as one of a value of `rank` dims with labels `to`; poison
 * if it varies along others. */
Val scale_relabel(Alg *a, Val s, const uint8_t *from, int rank, const uint8_t *to);
/* The product of a weight and a factor of it. */
Val scale_weight(Alg *a, Val w, Val f);
/* w is a constant of floats that may get a scaled copy. */
bool scale_weight_ok(Alg *a, Val w);
/* v*s without a multiplication at run time, s being a factor of v: poison if that cannot be. Unless
 * `commit` nothing is rewritten, and the answer is only poison or not. */
Val scale_push(Alg *a, Val v, Val s, bool commit, int depth);
#endif
