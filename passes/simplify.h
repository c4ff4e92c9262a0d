/* simplify.h: what simplify.c (moves, concats, guards, regions), simplify_map.c (maps) and least.c (bounds) share. */
#ifndef ACCELC_PASSES_SIMPLIFY_H
#define ACCELC_PASSES_SIMPLIFY_H
#include "internal.h"
#include "rules.h"

typedef struct Simp {
    Graph *g;
    Ctx *c;
    PassCtx *p;
    Rules *rules;
    uint32_t *uses, nval; /* as of the start of the round; values from nval on are new */
    B b;                  /* where new nodes go; loc of the node at hand */
} Simp;
static inline bool simp_single(const Simp *s, Val v) {
    v = graph_resolve(s->g, v);
    return v.i < s->nval && s->uses[v.i] == 1;
}
static inline Node *simp_made_by(const Simp *s, Val v, PrimOp op) {
    Node *n = val_def(s->g, v);
    return n && n->op == op ? n : NULL;
}
bool simp_same_dims(Ctx *c, int n, const Dim *x, const Dim *y);
bool simp_pointwise(Ctx *c,
                    Expr body); /* reads operands at the current point only, and no coordinate */
/* Replaces result 0 of n by v, if v is something else and of the same type. false: nothing done. */
bool simp_replace(Simp *s, Node *n, Val v);
/* v, if it is a scalar constant broadcast to known dims, as a constant of its type (which still
 * holds one element); else poison. */
Val splat_const(B *b, Val v);
bool simp_map(Simp *s, Node *n); /* simplify_map.c */
/* least.c: no value of float expression e over operands in[] is below it, NaN apart; -infinity if nothing is known. */
double simp_at_least(Simp *s, Expr e, const Val *in);
#endif
