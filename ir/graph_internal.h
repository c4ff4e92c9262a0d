/* graph_internal.h: what graph.c, attr.c, tidy.c, infer.c, elem.c, build*.c and verify.c share. Not for other folders.
 *
 * Attributes are plain structs chosen by the primitive; attr.c is the one place that knows which of their fields hold
 * dims, expressions, types and regions, so that every walk over "all dims of a node" is written once. */
#ifndef ACCELC_GRAPH_INTERNAL_H
#define ACCELC_GRAPH_INTERNAL_H
#include "ir.h"

#define MAX_NODES (1u << 20)    /* of one graph */
#define MAX_OPERANDS 60000      /* of one node */
#define MAX_ELEMS 64            /* known elements of a small integer tensor */
#define MAX_REGION_DEPTH 100

typedef struct PrimInfo { const char *text; int min, max, nout; size_t attr_size; } PrimInfo;
const PrimInfo *prim_info(PrimOp op);

/* ==== attr.c ====================================================================================================== */
typedef Dim (*DimFn)(void *data, Ctx *c, Dim d);
/* Calls fn on every dim of n's attribute, of its expressions and, if `deep`, of the graphs in it. */
void attr_visit(Ctx *c, const Graph *g, const Node *n, bool deep, DimFn fn, void *data);
/* A copy of the attribute with every dim replaced by fn's answer (fn NULL: as it is) and every region copied. */
const void *attr_copy(Ctx *c, const Graph *g, const Node *n, DimFn fn, void *data);
Type type_map(Ctx *c, const Type *t, DimFn fn, void *data);     /* fn NULL: *t */
int node_regions(const Node *n, Graph *out[2]);                 /* how many; out holds them */
bool dim_uses_sym(const Ctx *c, Dim d, uint32_t sym);
bool dim_lone_sym(const Ctx *c, Dim d, uint32_t *sym);          /* d is a symbol */

/* ==== elem.c ====================================================================================================== */
/* The elements of result r of such a node (of type t) as dims, in the arena, or NULL. */
enum { MAX_NEEDS = 8 };
typedef struct ElemNeeds { int n; Dim dim[MAX_NEEDS]; int64_t most[MAX_NEEDS]; } ElemNeeds; /* sizes that must be at most so large */
const Dim *elem_infer(Graph *g, PrimOp op, int nin, const Val *in, const void *attr, int nout, int r, const Type *t, ElemNeeds *needs);
bool elem_dtype(DType t);                                       /* i32, i64, bool: element types that are tracked */
bool elem_count(Ctx *c, const Type *t, int64_t *dim, int64_t *n); /* constant dims, at most MAX_ELEMS elements */

/* ==== graph.c, infer.c ============================================================================================ */
/* graph_node with the known elements of result 0 (NULL: compute them). */
Node *graph_node_elems(Graph *g, PrimOp op, int nin, const Val *in, int nout, const Type *outtype, const void *attr,
                       Loc loc, const Dim *elem);
void graph_rebuild_uses(Graph *g);
bool dim_may_be_one(const Ctx *c, Dim d);
bool dim_in_bcast(const Ctx *c, Dim whole, Dim d);              /* whole is bcast(.., d, ..) */
int label_count(const uint8_t *label, bool distinct);           /* of a contract operand, or of its result (distinct) */
/* How bodies read each operand: READ_ flags. One that is only loaded from need not broadcast to the domain. */
enum { READ_POINT = 1, READ_LOAD = 2 };
uint8_t *map_reads(Ctx *c, int nres, const Expr *body, int nin);
const char *dim_text(Ctx *c, Dim d);
const char *type_text(Ctx *c, const Type *t);
bool absent_ok(PrimOp op);                                      /* operands may be poison */
#endif
