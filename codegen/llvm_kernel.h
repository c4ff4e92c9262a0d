/* llvm_kernel.h: the printer of one kernel, for llvm.c. */
#ifndef ACCELC_LLVM_KERNEL_H
#define ACCELC_LLVM_KERNEL_H
#include "llvm_internal.h"
void llvm_kernel(LLVMContextRef cx, LLVMModuleRef md, const Target *t, const Machine *m,
                 const Lir *l); /* adds function lir_name(l) to md */
#endif
