/* llvm_internal.h: the printer Lir -> LLVM IR, split in llvm_ops.c (values) and llvm.c (memory,
 * structure, modules). */
#ifndef ACCELC_LLVM_INTERNAL_H
#define ACCELC_LLVM_INTERNAL_H
#include <llvm-c/Core.h>

#include "llvm.h"

typedef struct Printer { /* of one kernel */
    const Target *t;
    const Lir *l;
    const LIns *ins; /* lir_ins(l) and friends */
    const LVal *args;
    uint32_t n;
    LLVMContextRef cx;
    LLVMModuleRef md;
    LLVMBuilderRef b;
    LLVMValueRef fn;
    LLVMValueRef *val; /* by LVal */
} Printer;

/* llvm_ops.c */
LLVMTypeRef pr_type(const Printer *p,
                    LTy t); /* as a value: f16 and the like are integers, bool is i1 */
LLVMTypeRef pr_int(const Printer *p, unsigned bits, uint32_t lanes);
LLVMValueRef pr_const(const Printer *p, LTy t, int64_t i, double f);
LLVMValueRef pr_splat(const Printer *p, LLVMValueRef s, uint32_t lanes);
LLVMValueRef pr_slice(const Printer *p, LLVMValueRef v, uint32_t from,
                      uint32_t lanes); /* lanes beyond the end: poison */
LLVMValueRef pr_intrinsic(const Printer *p, const char *name, unsigned nov, LLVMTypeRef *ov,
                          unsigned n, LLVMValueRef *a);
LLVMValueRef pr_pure(
    Printer *p,
    const LIns *i); /* any instruction without side effect but parameters, carries and results */
#endif
