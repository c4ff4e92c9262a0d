/* llvm_gpu.h: what callers of llvm_compile know of kernels of a GPU (llvm_gpu.c has their interface). */
#ifndef ACCELC_LLVM_GPU_H
#define ACCELC_LLVM_GPU_H
#include "lir.h"
enum { LLVM_GPU_BLOCK = 256 };             /* most threads of a block */
const char *llvm_gpu_refuses(const Lir *l); /* why this is no kernel of a GPU, or NULL */
bool llvm_gpu_block(const Lir *l);          /* whether the threads of a block run a task together */
uint32_t llvm_gpu_threads(const Lir *l);    /* of a block: exactly so many, or at most (if lir_block_threads tells nothing) */
bool llvm_gpu_guards(const Lir *l);         /* whether it may leave a status */
#endif
