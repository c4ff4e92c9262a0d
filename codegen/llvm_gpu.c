/* llvm_gpu.c: kernels of NVIDIA GPUs, as entry functions of PTX; and, for tests, as functions that do on a CPU what one thread of a
 * GPU does.
 *
 * A kernel has one parameter, a block of 64-bit words: buf[nbuf], dim[ndim], tasks, scratch, scratch_bytes, status (see Word); one that uses maps has
 * another before it, which are they, of 128 bytes each. Thread
 * t of n runs tasks t, t + n, ..; its scratch begins at scratch + t * scratch_bytes. status points to a u32, 0 before the run: the
 * first thread that finds a guard broken leaves 1 + the guard's number there, and kernels after it that would believe what it has not
 * written (lir_chases) do nothing. A kernel that uses tid is run by blocks: block b of n runs tasks b, b + n, .., its scratch begins at
 * scratch + b * scratch_bytes. Any grid is right. Blocks have llvm_gpu_threads threads at most, those of kernels that say so (lir_block)
 * exactly.
 *
 * The twin on a CPU is void NAME_thread(const void *thread, const void *block): thread has four u32, the index in its block, the size of
 * that, the block's index in the grid, the size of that; the rest is in llvm_twin.c.
 * Maps and words are one block there. NAME_nbuf is how many words are addresses of buffers, NAME_nmap how many maps come before them (where there are
 * any), NAME_block exists for kernels of blocks, NAME_cluster is how many of them run together, if it is more than one. */
#include <stdio.h>
#include <string.h>

#include <llvm-c/Target.h>
#include <llvm/Config/llvm-config.h>

#include "lir_internal.h"
#include "llvm_gpu.h"
#include "llvm_internal.h"

typedef LLVMValueRef LV;
typedef enum { W_TASKS, W_SCRATCH, W_SCRATCH_BYTES, W_STATUS, W_COUNT } Word; /* those after buffers and sizes */
typedef enum { R_TID, R_NTID, R_CTAID, R_NCTAID, R_COUNT } Register;
enum { PTX_KERNEL = 71, GLOBAL = 1 /* address space */ };

/* ---- the parts both share ---- */

static LV number(const Printer *p, uint64_t v) { return LLVMConstInt(LLVMInt64TypeInContext(p->cx), v, 0); }
static LV number32(const Printer *p, uint32_t v) { return LLVMConstInt(LLVMInt32TypeInContext(p->cx), v, 0); }
static LLVMTypeRef pointer(const Printer *p) { return LLVMPointerTypeInContext(p->cx, p->m->address_space); }
static uint64_t words(const Printer *p) { return lir_nbuf(p->l) + lir_ndim(p->l) + W_COUNT; }
enum { MAP_WORDS = 16, MAP_ALIGN = 64 };
static uint64_t map_words(const Printer *p) { return MAP_WORDS * (uint64_t)lir_nmap(p->l); }
static uint64_t word_at(const Printer *p, Word w) { return lir_nbuf(p->l) + lir_ndim(p->l) + w; }

static LV at_word(const Printer *p, LV block, uint64_t k) {
    LV at = number(p, 8 * k);
    return k ? LLVMBuildGEP2(p->b, pr_int(p, 8, 1), block, &at, 1, "") : block;
}

static LV word(const Printer *p, LLVMTypeRef t, uint64_t k) {
    if (p->m == &llvm_emulated) k += map_words(p); /* one block has both */
    LV v = LLVMBuildLoad2(p->b, t, at_word(p, LLVMGetParam(p->fn, LLVMCountParams(p->fn) - 1), k), "");
    LLVMSetAlignment(v, 8);
    pr_invariant(p, v);
    return v;
}

static LV special_register(const Printer *p, Register r) {
    static const char *const name[R_COUNT] = {"tid", "ntid", "ctaid", "nctaid"};
    char text[48];
    snprintf(text, sizeof text, "llvm.nvvm.read.ptx.sreg.%s.x", name[r]);
    LV v;
    if (p->m == &llvm_nvptx) {
        v = pr_intrinsic(p, text, 0, NULL, 0, NULL);
    } else {
        LV at = number(p, 4u * r);
        v = LLVMBuildLoad2(p->b, LLVMInt32TypeInContext(p->cx), LLVMBuildGEP2(p->b, pr_int(p, 8, 1), LLVMGetParam(p->fn, 0), &at, 1, ""), "");
    }
    return LLVMBuildZExt(p->b, v, LLVMInt64TypeInContext(p->cx), "");
}

static LV thread(const Printer *p) {
    LV block = special_register(p, R_CTAID), start = LLVMBuildMul(p->b, block, special_register(p, R_NTID), "");
    return LLVMBuildAdd(p->b, start, special_register(p, R_TID), "");
}

static bool has(const Lir *l, LOp op) {
    uint32_t n;
    const LIns *i = lir_ins(l, &n);
    for (uint32_t v = 1; v < n; v++)
        if (i[v].op == op) return true;
    return false;
}

bool llvm_gpu_block(const Lir *l) { return lir_block_threads(l) || has(l, L_TID); }
uint32_t llvm_gpu_threads(const Lir *l) { return lir_block_threads(l) ? lir_block_threads(l) : LLVM_GPU_BLOCK; }

static LV parameter(Printer *p, const LIns *i) {
    bool block = llvm_gpu_block(p->l);
    LLVMTypeRef i64 = LLVMInt64TypeInContext(p->cx);
    switch (i->op) {
    case L_BUF:
        return word(p, pointer(p), (uint64_t)i->imm);
    case L_DIM:
        return word(p, i64, lir_nbuf(p->l) + (uint64_t)i->imm);
    case L_T0:
        return block ? special_register(p, R_CTAID) : thread(p);
    case L_T1:
        return word(p, i64, word_at(p, W_TASKS));
    case L_TSTEP: {
        LV blocks = special_register(p, R_NCTAID);
        return block ? blocks : LLVMBuildMul(p->b, special_register(p, R_NTID), blocks, "");
    }
    case L_TID:
        return special_register(p, R_TID);
    case L_NTID:
        return special_register(p, R_NTID);
    case L_SHARED:
        return p->m == &llvm_nvptx ? llvm_ptx_shared(p, i->imm) : llvm_twin_shared(p, i->imm);
    default: {
        LV at = block ? special_register(p, R_CTAID) : thread(p);
        at = LLVMBuildMul(p->b, at, word(p, i64, word_at(p, W_SCRATCH_BYTES)), "");
        return LLVMBuildGEP2(p->b, pr_int(p, 8, 1), word(p, pointer(p), word_at(p, W_SCRATCH)), &at, 1, "");
    }
    }
}

/* Threads of a block agree: kernels of blocks have no guards, so the status does not change while one runs. */
static void enter(Printer *p) {
    if (!lir_chases(p->l)) return;
    LV status = LLVMBuildLoad2(p->b, LLVMInt32TypeInContext(p->cx), word(p, pointer(p), word_at(p, W_STATUS)), "");
    LLVMBasicBlockRef skip = LLVMAppendBasicBlockInContext(p->cx, p->fn, ""), on = LLVMAppendBasicBlockInContext(p->cx, p->fn, "");
    LLVMBuildCondBr(p->b, LLVMBuildICmp(p->b, LLVMIntEQ, status, number32(p, 0), ""), on, skip);
    LLVMPositionBuilderAtEnd(p->b, skip);
    LLVMBuildRetVoid(p->b);
    LLVMPositionBuilderAtEnd(p->b, on);
}

static void leave(Printer *p, LV status) {
    if (!LLVMIsConstant(status)) {
        LV at = word(p, pointer(p), word_at(p, W_STATUS));
        LLVMBuildAtomicCmpXchg(p->b, at, number32(p, 0), status, LLVMAtomicOrderingMonotonic, LLVMAtomicOrderingMonotonic, 0);
    }
    LLVMBuildRetVoid(p->b);
}

/* ---- PTX ---- */

static void nvptx_initialize(void) {
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
}

/* A bound of launches: LLVM 19 reads the metadata, newer ones the attribute. */
static void launch_bound(const Printer *p, const char *attribute, const char *metadata, uint32_t v) {
    char text[16];
    snprintf(text, sizeof text, "%u", v);
    pr_text_attr(p, attribute, text);
    LLVMMetadataRef name = LLVMMDStringInContext2(p->cx, metadata, strlen(metadata));
    LLVMMetadataRef note[3] = {LLVMValueAsMetadata(p->fn), name, LLVMValueAsMetadata(number32(p, v))};
    LLVMAddNamedMetadataOperand(p->md, "nvvm.annotations", LLVMMetadataAsValue(p->cx, LLVMMDNodeInContext2(p->cx, note, 3)));
}

/* The most threads of a block. One that has memory together lives by its registers: ptxas shall not spill them to make room for another. */
static void launch_bounds(const Printer *p) {
    launch_bound(p, "nvvm.maxntid", "maxntidx", llvm_gpu_threads(p->l));
    if (lir_shared_bytes(p->l)) launch_bound(p, "nvvm.minctasm", "minctasm", 1);
}

static void by_value(const Printer *p, unsigned at, uint64_t words_, unsigned align) {
    unsigned byval = LLVMGetEnumAttributeKindForName("byval", 5);
    LLVMAddAttributeAtIndex(p->fn, at, LLVMCreateTypeAttribute(p->cx, byval, LLVMArrayType2(LLVMInt64TypeInContext(p->cx), words_)));
    pr_enum_attr(p, at, "align", align);
}

/* The device reads maps where the launch has put them: they are constants of the grid, and no copies of a thread's. LLVM 19 reads the metadata, which
 * newer ones choke on, those the attribute. */
static void maps_of_grid(const Printer *p) {
    static const char name[] = "nvvm.grid_constant";
    if (LLVM_VERSION_MAJOR >= 21) {
        LLVMAddAttributeAtIndex(p->fn, 1, LLVMCreateStringAttribute(p->cx, name, sizeof name - 1, "", 0));
        return;
    }
    LLVMMetadataRef first = LLVMValueAsMetadata(number32(p, 1));
    LLVMMetadataRef key = LLVMMDStringInContext2(p->cx, "grid_constant", 13);
    LLVMMetadataRef note[3] = {LLVMValueAsMetadata(p->fn), key, LLVMMDNodeInContext2(p->cx, &first, 1)};
    LLVMAddNamedMetadataOperand(p->md, "nvvm.annotations", LLVMMetadataAsValue(p->cx, LLVMMDNodeInContext2(p->cx, note, 3)));
}

static LV nvptx_function(Printer *p) {
    LLVMTypeRef ptr = LLVMPointerTypeInContext(p->cx, 0), param[2] = {ptr, ptr};
    unsigned n = lir_nmap(p->l) ? 2 : 1;
    p->fn = LLVMAddFunction(p->md, lir_name(p->l), LLVMFunctionType(LLVMVoidTypeInContext(p->cx), param, n, 0));
    LLVMSetFunctionCallConv(p->fn, PTX_KERNEL);
    by_value(p, n, words(p), 8);
    if (n == 2) by_value(p, 1, map_words(p), MAP_ALIGN), maps_of_grid(p);
    pr_enum_attr(p, LLVMAttributeFunctionIndex, "nounwind", 0);
    pr_text_attr(p, "no-builtins", "");
    if (llvm_gpu_block(p->l)) pr_enum_attr(p, LLVMAttributeFunctionIndex, "convergent", 0);
    launch_bounds(p);
    return p->fn;
}

const Machine llvm_nvptx = {.triple = "nvptx64-nvidia-cuda",
                            .passes = "early-cse,simplifycfg,instcombine<no-verify-fixpoint>",
                            .modules = 1, /* a PTX text has one head */
                            .address_space = GLOBAL,
                            .initialize = nvptx_initialize,
                            .function = nvptx_function,
                            .parameter = parameter,
                            .enter = enter,
                            .leave = leave,
                            .together = llvm_ptx_together};

const char *llvm_gpu_refuses(const Lir *l) {
    uint32_t n;
    const LIns *i = lir_ins(l, &n);
    for (uint32_t v = 1; v < n; v++) {
        if (i[v].op == L_STREQ) return "it compares strings";
        if (i[v].ty.dt != DT_NONE && lir_bits((DType)i[v].ty.dt) > 64) return "it moves strings";
    }
    return NULL;
}

bool llvm_gpu_guards(const Lir *l) { return has(l, L_FAIL_IF); }

/* ---- the twin on a CPU ---- */

static LV twin_function(Printer *p) {
    char name[512];
    snprintf(name, sizeof name, "%s_thread", lir_name(p->l));
    LLVMTypeRef ptr = LLVMPointerTypeInContext(p->cx, 0), param[2] = {ptr, ptr};
    p->fn = LLVMAddFunction(p->md, name, LLVMFunctionType(LLVMVoidTypeInContext(p->cx), param, 2, 0));
    pr_enum_attr(p, LLVMAttributeFunctionIndex, "nounwind", 0);
    pr_text_attr(p, "no-builtins", "");
    pr_text_attr(p, "target-features", p->t->features);
    return p->fn;
}

static void twin_constant(const Printer *p, const char *stem, uint32_t v) {
    char name[512];
    snprintf(name, sizeof name, "%s_%s", lir_name(p->l), stem);
    LV g = LLVMAddGlobal(p->md, LLVMInt32TypeInContext(p->cx), name);
    LLVMSetInitializer(g, number32(p, v));
    LLVMSetGlobalConstant(g, 1);
}

static void twin_facts(Printer *p) {
    twin_constant(p, "nbuf", lir_nbuf(p->l));
    if (lir_nmap(p->l)) twin_constant(p, "nmap", lir_nmap(p->l));
    if (llvm_gpu_block(p->l)) twin_constant(p, "block", 1);
    if (lir_cluster_blocks(p->l) > 1) twin_constant(p, "cluster", lir_cluster_blocks(p->l));
}

const Machine llvm_emulated = {.triple = "x86_64-unknown-linux-gnu",
                               .cpu = "x86-64",
                               .passes = "early-cse,simplifycfg,instcombine<no-verify-fixpoint>",
                               .modules = 16,
                               .function = twin_function,
                               .parameter = parameter,
                               .enter = enter,
                               .leave = leave,
                               .together = llvm_twin_together,
                               .access = llvm_twin_access,
                               .more = twin_facts};
