/* llvm.h: Lir -> machine code through LLVM's C API. Only llvm*.c and target_x86.c see LLVM. */
#ifndef ACCELC_LLVM_H
#define ACCELC_LLVM_H
#include "ir/ir.h"
#include "ir/target.h"
#include "lir.h"

enum { LLVM_OBJECT, LLVM_TEXT, LLVM_ASSEMBLY, LLVM_PTX };
typedef struct LlvmBlob {
    void *data;
    size_t bytes;
} LlvmBlob; /* data in the arena; texts end with a NUL that is not counted */
typedef struct LlvmOut {
    int kind; /* in: LLVM_OBJECT, LLVM_TEXT, LLVM_ASSEMBLY; LLVM_PTX: assembly, as complete as an object */
    uint32_t nblob;
    LlvmBlob *blob;
} LlvmOut;
/* Compiles kernels (each its own name) for one target. A kernel becomes a hidden global function of
 * type rt_kernel with the name lir_name (of a GPU: see llvm_gpu.c). Blobs are a few modules of several kernels each, compiled
 * in parallel; which kernel is in which blob depends on the kernels alone. The objects have no
 * undefined symbol. false after messages. */
bool llvm_compile(Ctx *c, const Target *t, uint32_t n, Lir *const *kernel, LlvmOut *out);
#endif
