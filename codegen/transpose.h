/* transpose.h: pointwise kernels that read along one axis and write along another. */
#ifndef ACCELC_TRANSPOSE_H
#define ACCELC_TRANSPOSE_H
#include "emit_internal.h"

enum { MAX_CROSSING = 4 };
typedef struct Crossing { uint16_t buf; Expr load; } Crossing; /* an operand that lies along w, and the one load of it */
typedef struct Crossings { int u, w; /* axes of the result's and of the operands' rows */ Crossing cross[MAX_CROSSING]; int ncross; } Crossings;
bool transpose_plan(const Kernel *k, Crossings *p); /* false: the kernel is none */
#endif
