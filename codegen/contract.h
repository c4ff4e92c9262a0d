/* contract.h: a contraction as templates see it: which axes are rows, columns, batches, sums. contract_shape.c finds out. */
#ifndef ACCELC_CONTRACT_H
#define ACCELC_CONTRACT_H
#include "emit_internal.h"

typedef struct Operand { Expr load; uint16_t buf; Affine f; DType type; } Operand;
typedef struct Shape {
    const Kernel *k;
    const Stage *s;
    Operand a, b;
    int vec;                        /* n axis of unit stride */
    int nblk;                       /* n axis whose blocks are tiled when the vector axis is one block of 16, else -1 */
    int m[K_AXES], nm;              /* m axes, outermost first */
    int batch[K_AXES], nbatch;      /* axes of both or neither */
    int nout[K_AXES], nnout;        /* other n axes: walked like batch */
    int red[K_AXES], nred;
    int quad;                       /* reduced axis of four bytes, or -1; not in red */
} Shape;

/* The kernel is one contraction of loads that are affine in its axes, and epilogues; of two ways to see it, the one whose results
 * lie along the vector axis. */
bool contract_shape(const Kernel *k, Shape *x);
double shape_extent(const Shape *x, int axis);                     /* at typical sizes */
double shape_product(const Shape *x, const int *axis, int n);      /* of extents */
/* B is no panel, and its rows are so many steps of a large power of two that a column of them falls into few sets of the second-level cache: none stays
 * there until the next tile, and no prefetcher follows. */
bool shape_rows_collide(const Shape *x, const Target *t);
#endif
