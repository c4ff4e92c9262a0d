/* llvm_ptx.h: what llvm_ptx.c and llvm_hopper.c share: instructions of PTX as inline assembly. */
#ifndef ACCELC_LLVM_PTX_H
#define ACCELC_LLVM_PTX_H
#include "llvm_internal.h"

enum {
    PTX_VALUE = 0,
    PTX_WARP = 1 /* all threads of the warp come to it */,
    PTX_EFFECT = 2 /* on memory, or an order in which it happens */
};
enum { PTX_OPERANDS = 160 };
/* One instruction, $0 .. its results and then its operands. */
LLVMValueRef llvm_ptx_assembly(const Printer *p, LLVMTypeRef result, const char *text,
                               const char *constraints, unsigned n, LLVMValueRef *a, int how);
LLVMValueRef llvm_ptx_four(const Printer *p, LLVMValueRef r,
                           unsigned from); /* a vector of results from .. from + 3 */
LLVMValueRef llvm_ptx_lane(const Printer *p, LLVMValueRef v, unsigned k);
LLVMValueRef llvm_ptx_shared_address(const Printer *p, LLVMValueRef ptr);

/* llvm_hopper.c */
LLVMValueRef llvm_hopper_together(Printer *p, const LIns *i, LLVMValueRef *a);
#endif
