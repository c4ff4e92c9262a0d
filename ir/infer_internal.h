/* infer_internal.h: what a type rule sees; shared by infer.c and infer_region.c. */
#ifndef ACCELC_INFER_INTERNAL_H
#define ACCELC_INFER_INTERNAL_H
#include "graph_internal.h"

typedef struct Inf {
    Graph *g;
    Ctx *c;
    PrimOp op;
    int nin, nout;
    const Val *in;
    const Type *const *ty;      /* types of the operands */
    const void *attr;
    Type *out;
    Loc loc;
} Inf;

#define BAD(f, code, ...) (diag((f)->c, SEV_ERROR, (f)->loc, code, __VA_ARGS__), false)

bool infer_nout(Inf *f, int n);     /* the node has n results; false after a message */
bool infer_loop(Inf *f);            /* infer_region.c */
bool infer_if(Inf *f);
bool infer_group(Inf *f);
#endif
