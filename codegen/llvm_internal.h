/* llvm_internal.h: the printer Lir -> LLVM IR, split in llvm_ops.c (values), llvm_kernel.c (memory, structure, the function), llvm.c
 * (modules), and a file for each kind of machine, which knows its instructions and how its kernels are called. */
#ifndef ACCELC_LLVM_INTERNAL_H
#define ACCELC_LLVM_INTERNAL_H
#include <llvm-c/Core.h>

#include "llvm.h"

typedef struct Printer { /* of one kernel */
    const Target *t;
    const struct Machine *m;
    const Lir *l;
    const LIns *ins; /* lir_ins(l) and friends */
    const LVal *args;
    uint32_t n;
    LLVMContextRef cx;
    LLVMModuleRef md;
    LLVMBuilderRef b;
    LLVMValueRef fn;
    LLVMValueRef *val; /* by LVal */
    bool streams;       /* there are streamed stores */
    LLVMValueRef tiles; /* memory of the configuration of matrix tiles, once there is one */
} Printer;

/* What differs between machines. Functions marked [NULL] may give NULL, or be NULL: there is no such instruction, use others. */
typedef struct Machine {
    const char *triple, *cpu; /* cpu NULL: the target's tune */
    const char *passes;
    unsigned modules;      /* most modules of one call */
    unsigned address_space; /* of operands, results and scratch */
    void (*initialize)(void); /* LLVM's part of it, once per process, or NULL */
    /* The function and its attributes. Its parameters become values at the start: buffers, sizes, tasks, scratch. The end: with the
     * number of a guard that was broken plus 1, or 0. The builder stands at the end of a block, which this completes. */
    LLVMValueRef (*function)(Printer *p);
    LLVMValueRef (*parameter)(Printer *p, const LIns *i);
    void (*enter)(Printer *p); /* what comes first, or NULL */
    void (*leave)(Printer *p, LLVMValueRef status);
    /* Barriers, and what threads of a block do together; NULL: a block is one thread. a: operands, addresses without what i adds to them. */
    LLVMValueRef (*together)(Printer *p, const LIns *i, LLVMValueRef *a);
    /* Before a load or store at an address, or NULL. mask: of a scalar access, or NULL; shared: memory of the block. */
    void (*access)(const Printer *p, const LIns *i, LLVMValueRef address, LLVMValueRef mask, bool shared);
    void (*more)(Printer *p); /* what else a kernel needs in its module, or NULL */
    LLVMValueRef (*float_minmax)(const Printer *p, SOp op, LTy t, LLVMValueRef *a);        /* [NULL] */
    LLVMValueRef (*permute)(const Printer *p, LTy t, LLVMValueRef table, LLVMValueRef idx); /* [NULL] */
    LLVMValueRef (*scalef)(const Printer *p, LTy t, LLVMValueRef *a);                       /* [NULL] */
    /* What follows is of machines whose templates ask for it. */
    LLVMValueRef (*dot4)(const Printer *p, LOp op, LTy t, LLVMValueRef *a); /* DOT4, PAIRS, ADD_PAIR */
    void (*tile)(Printer *p, const LIns *i, LLVMValueRef address); /* address: of TILE_LOAD and TILE_STORE */
} Machine;
extern const Machine llvm_x86, llvm_nvptx, llvm_emulated;

/* llvm_ops.c */
LLVMTypeRef pr_type(const Printer *p,
                    LTy t); /* as a value: f16 and the like are integers, bool is i1 */
LLVMTypeRef pr_int(const Printer *p, unsigned bits, uint32_t lanes);
LLVMValueRef pr_const(const Printer *p, LTy t, int64_t i, double f);
LLVMValueRef pr_splat(const Printer *p, LLVMValueRef s, uint32_t lanes);
LLVMValueRef pr_slice(const Printer *p, LLVMValueRef v, uint32_t from,
                      uint32_t lanes); /* lanes beyond the end: poison */
LLVMValueRef pr_shuffle(const Printer *p, LLVMValueRef a, LLVMValueRef b, uint32_t lanes,
                        const int16_t *idx); /* lanes idx[0..lanes) of a ++ b; negative: poison */
LLVMValueRef pr_concat(const Printer *p, LLVMValueRef a, LLVMValueRef b); /* equal types */
/* f applied to values of n lanes in pieces of w lanes (a power of two); pr_chunk_lanes: w for the least register that holds n lanes, or
 * the widest. */
typedef LLVMValueRef (*ChunkFn)(const Printer *p, uint32_t w, LLVMValueRef *a);
LLVMValueRef pr_chunked(const Printer *p, uint32_t n, uint32_t w, int narg, LLVMValueRef *a, ChunkFn f);
uint32_t pr_chunk_lanes(const Printer *p, uint32_t n, unsigned bytes);
LLVMValueRef pr_intrinsic(const Printer *p, const char *name, unsigned nov, LLVMTypeRef *ov,
                          unsigned n, LLVMValueRef *a);
LLVMValueRef pr_pure(
    Printer *p,
    const LIns *i); /* any instruction without side effect but parameters, carries and results */

/* llvm_ptx.c, llvm_twin.c: of Machine, and lir_shared. */
LLVMValueRef llvm_ptx_together(Printer *p, const LIns *i, LLVMValueRef *a);
LLVMValueRef llvm_ptx_shared(const Printer *p, int64_t at);
LLVMValueRef llvm_twin_together(Printer *p, const LIns *i, LLVMValueRef *a);
LLVMValueRef llvm_twin_shared(const Printer *p, int64_t at);
void llvm_twin_access(const Printer *p, const LIns *i, LLVMValueRef address, LLVMValueRef mask, bool shared);
/* llvm_kernel.c */
void pr_enum_attr(const Printer *p, LLVMAttributeIndex at, const char *name, uint64_t v); /* of p->fn */
void pr_text_attr(const Printer *p, const char *name, const char *v);
void pr_invariant(const Printer *p, LLVMValueRef load); /* of memory that nobody writes */
#endif
