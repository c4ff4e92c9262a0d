/* plan.h: a compiled level of a model on its way into an object. */
#ifndef ACCELC_PLAN_H
#define ACCELC_PLAN_H
#include "ir/storage.h"
#include "kernel.h"

typedef struct Bytes { Ctx *c; uint8_t *p; size_t n, cap; } Bytes;
void bytes_put(Bytes *b, const void *p, size_t n);

/* Constant data of all levels, each piece once. Offsets are 64-byte aligned. */
typedef struct WeightItem { const ConstData *data; uint64_t offset, bytes; } WeightItem;
typedef struct Weights { VEC(WeightItem) item; uint64_t bytes; } Weights;
/* A string of a constant; in the artefact `ptr` is an offset from the start of the table. */
typedef struct StrConst { const char *ptr; uint64_t bytes; } StrConst;
uint64_t weights_add(Ctx *c, Weights *w, const ConstData *d);

/* The part of a level that runs on a GPU. */
/* kind: as rt_gpu_image has it; a text has the NUL at its end */
typedef struct GpuImage { const Target *arch; const void *data; size_t bytes; uint32_t kind; } GpuImage;
typedef struct GpuPart {
    const char **host;          /* per function: why it runs on the host, or NULL */
    uint64_t *writes;           /* per function, as KernelCode has it */
    Lir **device; uint32_t ndevice; /* what the device runs */
    GpuImage *image; uint32_t nimage; /* best first; none: no function runs on the device */
} GpuPart;

typedef struct Level {          /* one CPU level, or a GPU and a CPU */
    const Target *target;
    Program *program;
    KernelCode **code;          /* per node of the program's graph; NULL where it is no kernel */
    const char **symbol;        /* per node: name of the function */
    uint32_t nsymbol;           /* distinct functions, in order of first use */
    const char **function;      /* nsymbol names */
    Lir **lir;                  /* their code */
    const uint8_t *plan;        /* rt_plan bytes */
    size_t plan_bytes;
    uint64_t arena;
    VEC(const char *) call;     /* functions of the runtime that the plan calls */
    GpuPart *gpu;               /* NULL: all is the CPU's */
    bool objects;               /* it needs the machinery for calls and for values that are no tensors */
} Level;
bool plan_build(Ctx *c, Level *l, Weights *w); /* fills plan; false after messages */
#endif
