/* internal.h: what passes share. */
#ifndef ACCELC_PASSES_INTERNAL_H
#define ACCELC_PASSES_INTERNAL_H
#include "passes.h"

/* A node without work of its own: its result is other coordinates of its operand. */
static inline bool is_view(const Node *n) {
    switch (n->op) {
    case P_RESHAPE: case P_PERMUTE: case P_BROADCAST: case P_SLICE: case P_WINDOW: case P_PAD: return true;
    default: return false;
    }
}
bool fold_node(Graph *g, Node *n, bool may_grow); /* fold.c: n's results become constants, if its operands are (and the bytes do not grow) */
Val copy_of(Graph *g, Val v, Loc loc); /* bufferise.c: a value of its own with the same elements, on this device */
/* A line of --explain, if node n or one of its results has the name asked for (a value's, or the source node's). */
void explain(PassCtx *p, const Graph *g, const Node *n, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
Expr expr_to_tf32(Ctx *c, Expr x); /* narrow.c */
/* linear.c: the steps of g, whose node list becomes that of all regions too; storage and places are left to memplan. */
Program *linearise(Graph *g);
/* One prototype per pass of the table in pipeline.c. */
#define PASS(name, fn, level, needs, brief) bool fn(Graph *g, PassCtx *p);
#include "passes.def"
#undef PASS
#endif
