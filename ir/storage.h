/* storage.h: where each value of the final graph lives. Written by passes/memplan.c, read by codegen. */
#ifndef ACCELC_STORAGE_H
#define ACCELC_STORAGE_H
#include "ir.h"

/* strides.c: strided views. A value seen as base + offset + sum index[d] * stride[d] elements. */
typedef struct Strides { uint8_t rank; Dim dim[MAX_RANK], stride[MAX_RANK], offset; } Strides;
Strides strides_dense(Ctx *c, const Type *t);
bool strides_are_dense(Ctx *c, const Strides *s);
/* The result of view node n (reshape, permute, broadcast, slice, window, copy) over an operand stored as `in`, if strides can express it
 * (a reshape that would have to merge dims that are not adjacent in memory cannot be). */
bool strides_view(Ctx *c, const Graph *g, const Node *n, const Strides *in, Strides *out);
/* The reverse: the strides of n's operand such that writing it writes n's result stored as `out` (reshape, permute). */
bool strides_unview(Ctx *c, const Graph *g, const Node *n, const Strides *out, Strides *in);

typedef enum { ST_NONE /* not materialised */, ST_ARENA, ST_CONST, ST_INPUT, ST_OUTPUT, ST_VIEW } StorageKind;
typedef struct Storage {
    uint8_t kind;               /* StorageKind */
    uint8_t rank;
    int32_t port;               /* INPUT, OUTPUT: position */
    Val root;                   /* VIEW: the value whose buffer it lies in (never itself a VIEW); else itself */
    Dim offset;                 /* VIEW: first element, in elements of the root's type */
    Dim stride[MAX_RANK];       /* elements */
    Dim bytes;                  /* roots: size */
    int64_t place;              /* ARENA: byte offset, 64-byte aligned; -1 = placed at run time */
    int32_t first, last;        /* ARENA roots: first and last node (position in graph) at which it is live */
} Storage;
typedef struct Program {        /* what passes hand to codegen */
    Graph *g;                   /* top level: group "kernel" nodes, const, bind, guard, loop, if, and placed concat/pad/update/views */
    Storage *storage;           /* per value of g, g->val.n entries */
    int64_t arena;              /* bytes of the offline-placed arena */
    uint32_t *barrier_after;    /* per node: 1 = the next step depends on it */
    struct Program **region;    /* programs of loop/if bodies, in order of appearance; their storage kinds refer to the outer program's arena */
    uint32_t nregion;
} Program;
#endif
