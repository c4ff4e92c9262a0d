/* storage.h: where each value of the final graph lives. Written by passes/memplan.c, read by codegen. */
#ifndef ACCELC_STORAGE_H
#define ACCELC_STORAGE_H
#include "ir.h"

/* strides.c: strided views. A value seen as base + offset + sum index[d] * stride[d] elements. */
typedef struct Strides { uint8_t rank; Dim dim[MAX_RANK], stride[MAX_RANK], offset; } Strides;
Strides strides_dense(Ctx *c, const Type *t);
/* The result of view node n (reshape, permute, broadcast, slice, window, copy) over an operand stored as `in`, if strides can express it
 * (a reshape that would have to merge dims that are not adjacent in memory cannot be). */
bool strides_view(Ctx *c, const Graph *g, const Node *n, const Strides *in, Strides *out);
/* The reverse: the strides of n's operand such that writing it writes n's result stored as `out` (reshape, permute). */
bool strides_unview(Ctx *c, const Graph *g, const Node *n, const Strides *out, Strides *in);

typedef enum {
    ST_NONE, /* not materialised */
    ST_ARENA, ST_CONST, ST_INPUT, ST_OUTPUT, ST_VIEW,
    ST_VALUE /* in the pool of a run: result of a call, or no tensor (then root may be another value, the same at run time) */
} StorageKind;
typedef struct Storage {
    uint8_t kind;               /* StorageKind */
    uint8_t rank;
    int32_t port;               /* INPUT, OUTPUT: position */
    Val root;                   /* VIEW: the value whose buffer it lies in (never itself a VIEW); else itself */
    Dim offset;                 /* VIEW: first element, in elements of the root's type */
    Dim stride[MAX_RANK];       /* elements */
    Dim bytes;                  /* roots: size */
    int64_t place;              /* ARENA: byte offset, 64-byte aligned; -1 = placed at run time */
    int32_t first, last;        /* ARENA roots: first and last step at which it is live */
} Storage;
/* What runs, in order, with the bodies of loops and ifs laid out between jumps. Symbols that are defined on the way come in
 * segments: the sizes that depend on them are evaluated by DIMS after each definition. */
typedef enum { SP_KERNEL, SP_BIND, SP_GUARD, SP_SET, SP_DIMS, SP_LABEL, SP_JUMP, SP_BRANCH, SP_COPY, SP_LIVE /* keeps `to` */,
               SP_CALL /* seq, call */, SP_SIZE /* sym = size of axis `index` of `from`, a result of a call */ } StepKind;
typedef struct Step {
    uint8_t kind;               /* StepKind */
    bool inside;                /* of a region: a guard is checked here and not on entry */
    uint32_t node;              /* KERNEL, GUARD, CALL: position in the graph */
    Loc loc;
    Val to, from;               /* COPY: to = from, of one size; BIND: from */
    int64_t index, lo, hi;      /* BIND, SIZE: element or axis, and the range it must lie in */
    Dim sym, dim;               /* BIND, SET, SIZE: sym = the element, or dim; BRANCH: to the label if dim is 0 */
    uint32_t segment, last;     /* BIND, SET, SIZE: of sym; DIMS: the first and last to evaluate */
    uint32_t label;             /* LABEL, JUMP, BRANCH */
} Step;
typedef struct Alias { Val val, root; Dim offset; } Alias; /* val lies in root from element `offset` on; root none: has its own memory */
typedef struct Program {        /* what passes hand to codegen */
    Graph *g;                   /* group "kernel" nodes, const, concat in place, bind, guard, seq, call; those of regions, too */
    Storage *storage;           /* per value of g, g->val.n entries */
    int64_t arena;              /* bytes of the offline-placed arena */
    uint32_t *barrier_after;    /* per node: 1 = the next step depends on it */
    VEC(Step) step;
    VEC(Alias) alias;           /* values that no node of g makes */
    uint32_t nsegment, nlabel;
} Program;
#endif
