/* lir_lanes.h: shared by lir_run.c (the machine) and lir_lanes.c (what one operation does to its
 * lanes). A lane is one uint64: integers sign- or zero-extended as their type says, bool 0 or 1,
 * floats by their bits, a pointer as buffer number << 48 | byte offset (48 bits, signed). */
#ifndef ACCELC_LIR_LANES_H
#define ACCELC_LIR_LANES_H
#include "lir.h"

typedef struct Step Step;
typedef struct Run { /* one run of the interpreter */
    Ctx *c;
    const Lir *l;
    uint64_t *s;       /* all lanes of all values */
    const char *fault; /* set by an operation without a defined result */
} Run;
typedef void (*LaneFn)(Run *r, const Step *d);
struct Step {  /* an instruction, decoded */
    LaneFn fn; /* NULL: memory and structure, see lir_run.c */
    uint64_t *dst;
    const uint64_t *a, *b, *c;
    uint32_t n; /* lanes */
    uint16_t op;
    uint8_t dt;     /* type of the result, or of the value stored */
    uint8_t size;   /* bytes of an element in memory */
    uint32_t width; /* FOR, ENDFOR, ..: lanes of all carried values */
    LaneFn combine; /* HREDUCE */
};
LaneFn lane_op(SOp op, DType t); /* t: type of the operands (SELECT: of the values) */
LaneFn lane_other(LOp op, DType from,
                  DType to); /* the other operations without side effect; NULL if there is none */
#endif
