/* target.h: what passes and templates may know about a CPU or GPU: numbers, never names. */
#ifndef ACCELC_TARGET_H
#define ACCELC_TARGET_H
#include "ir.h"

enum { F_SSE2 = 1, F_AVX2 = 2, F_FMA = 4, F_F16C = 8, F_AVX512 = 16 /* F BW CD DQ VL */, F_VNNI = 32 /* 512 or AVX-VNNI at the level's width */,
       F_AMX = 64 /* tiles of 8-bit integers */, F_ROUND = 128 /* instructions that round to integers */,
       F_SIMD = 256 /* vectors in registers: what the templates for CPUs, and passes that lay data out for them, are about */,
       F_BLOCKS = 512 /* threads of a block that work together */,
       F_TO_TF32 = 1024, F_TO_BF16 = 2048, F_TO_F16 = 4096, /* what factors of sums of f32 products may be rounded to; one at most */
       F_WGMMA = 8192 /* matrix products of four warps, bulk copies */ };
typedef enum { MACHINE_X86, MACHINE_NVPTX, MACHINE_EMULATED /* kernels of a GPU, for tests on a CPU */ } MachineKind;
typedef struct Target {
    const char *name;       /* "x86-64", "x86-64-v3", "x86-64-v4", "sm_80" */
    const char *features;   /* LLVM feature string */
    const char *tune;       /* LLVM tune-cpu */
    uint32_t flags;         /* F_* */
    uint16_t vbytes;        /* vector register bytes: 16, 32, 64; without F_SIMD 4 */
    uint16_t vregs;         /* vector registers: 16 or 32 */
    uint32_t l1, l2, l3;    /* bytes per core (l3: usable share) */
    double fma_per_cycle;   /* f32 FMA vector instructions per cycle */
    uint8_t machine;        /* MachineKind: who prints its code */
    uint32_t shared;        /* bytes of memory that the threads of a block may have together; 0 without F_BLOCKS */
    const char *tuned;      /* rows that the user has measured (codegen/tuned.c), or NULL */
} Target;
static inline uint16_t target_lanes(const Target *t, DType d) {
    unsigned bits = dt_bits(d) < 8 ? 8 : dt_bits(d);
    return (uint16_t)(t->flags & F_SIMD ? t->vbytes * 8u / bits : 1);
}
#endif
