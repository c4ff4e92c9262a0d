/* codegen.h: Program -> object bytes, artefacts, listings. */
#ifndef ACCELC_CODEGEN_H
#define ACCELC_CODEGEN_H
#include "ir/ir.h"
#include "ir/storage.h"
#include "ir/target.h"

const Target *target_find(const char *name);    /* "host", "x86-64", "x86-64-v3", "x86-64-v4"; NULL if unknown */
const char *target_names(void);                 /* for --help */
const Target *target_gpu(const char *name);     /* "sm_80", ..; NULL if unknown */
uint32_t target_gpu_arch(const Target *t);      /* as rt_gpu_image has it */
/* The level that programs and kernels are made for, which some architectures share: of an architecture, a level, or the level's twins. */
const Target *target_gpu_level(const Target *t);
const Target *target_gpu_oldest(const Target *t); /* the oldest architecture of that level */
/* For target_find: "cuda", the level of the oldest architecture, for whichever are asked for, and "gpu-emulated" and "gpu-emulated-sm_90a", not
 * among the names: a level's kernels on a CPU, for tests. Or NULL. */
const Target *target_of_gpus(const char *name);
const char *target_gpu_names(void);
typedef enum { EMIT_SO, EMIT_OBJ, EMIT_ARCHIVE, EMIT_KERNELS, EMIT_LIR, EMIT_LLVM, EMIT_ASM, EMIT_HEADER } EmitKind;
typedef struct CodegenOptions {
    EmitKind emit;
    const char *name;           /* model name: a C identifier; the exported symbol is <name>_accelc */
    const Target *const *target; uint32_t ntarget; /* levels, best first */
    const Target *const *gpu; uint32_t ngpu; /* architectures of the levels for GPUs, at least one of each */
    bool cubin;                 /* machine code for each, too, in artefacts */
    uint32_t executor;          /* RT_EXEC_* of runtime/abi.h */
    const char *producer;       /* "accelc 0.1.0" */
    const char *options_digest; /* folded into desc.digest */
    const char *sched;          /* forced schedule text or NULL */
} CodegenOptions;
typedef struct CodegenStats {
    uint32_t kernels, unique_kernels;
    uint64_t code_bytes, weight_bytes, arena_bytes;
    double llvm_seconds, link_seconds;
} CodegenStats;
/* program[t] is the model as optimised for target[t]. Writes the artefact to `path` (a temporary name chosen by the caller, who renames it);
 * text kinds are written there too. false after messages. */
bool codegen_write(Ctx *c, Program *const *program, const CodegenOptions *o, const char *path, CodegenStats *stats);
/* For --explain and inspect: one line per kernel: name, template and numbers, estimated cycles, source nodes. */
bool codegen_describe(Ctx *c, Program *p, const Target *t, Buf *out);
const char *codegen_templates(Ctx *c);          /* text of --list-templates */
#endif
