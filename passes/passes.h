/* passes.h: Graph -> Graph, then Graph -> Program. One pass, one file, one row of the table in pipeline.c. */
#ifndef ACCELC_PASSES_H
#define ACCELC_PASSES_H
#include "ir/ir.h"
#include "ir/storage.h"
#include "ir/target.h"

typedef struct PassCtx {
    Ctx *c;
    const Target *target;
    int level;                  /* -O level: 0 folding and fusion only, 2 default */
    bool region;                /* the graph is the body of a loop or if */
    uint32_t changes;           /* rewrites done so far (all passes) */
    uint32_t max_changes;       /* --bisect: stop rewriting after this many; UINT32_MAX = none */
    const char *explain;        /* value name for --explain, or NULL */
    Buf *explain_out;
    const char *pass;           /* the pass that runs */
} PassCtx;
/* Every rewrite asks first; false = leave the graph alone from here on (bisect). */
static inline bool pass_allow(PassCtx *p) { return p->changes < p->max_changes ? (p->changes++, true) : false; }
typedef struct Pass {
    const char *name;
    bool (*run)(Graph *g, PassCtx *p);  /* true if it changed anything */
    int level;                          /* runs at this -O level and above */
    uint32_t needs;                     /* F_* that the target, if it is known, must have */
    const char *brief;                  /* for --list-passes */
} Pass;
extern const Pass pass_table[];
extern const int npasses;
typedef struct PassOptions {
    const Target *target;
    int level;
    const char *only;           /* --passes=a,b: just these, in this order; NULL = the table */
    const char *stop_after;     /* pass name or NULL */
    const char *dump_after;     /* pass name, "all", or NULL */
    FILE *dump;                 /* where dumps go */
    bool verify_each, time_passes;
    uint32_t bisect;            /* UINT32_MAX: off */
    const char *explain;
    Buf *explain_out;
} PassOptions;
bool passes_run(Graph *g, const PassOptions *o);           /* false after messages */
Program *passes_plan(Graph *g, const PassOptions *o);      /* memory plan of a graph that went through `fuse`; NULL after messages */
void passes_list(Buf *b);
#endif
