/* llvm.c: kernels -> modules -> objects (or texts). Modules are filled by estimated size and
 * compiled in parallel, each with an LLVM context of its own; what a module contains depends on the
 * kernels alone, so the output does not depend on the number of threads. An object that needs a
 * symbol from outside is a bug of ours (see llvm_ops.c) and ends in ICE. */
#include "llvm.h"

#include <elf.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Support.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>

#include "llvm_kernel.h"

#define MODULE_WEIGHT 6000 /* instructions that make a module worth its overhead */
#define MODULES 16         /* most modules of one call on any machine */

typedef struct Module {
    uint32_t first, last; /* kernels [first, last) */
    char *data;           /* malloc'ed result */
    size_t bytes;
    char message[512]; /* what went wrong; empty: nothing */
} Module;

static const Machine *const machines[] = {
    [MACHINE_X86] = &llvm_x86, [MACHINE_NVPTX] = &llvm_nvptx, [MACHINE_EMULATED] = &llvm_emulated};

/* What LLVM keeps per process, written once: its targets, and two options. Addresses of a GPU's shared memory have 32 bits. Loop strength reduction
 * trades the addresses [base + index * scale + displacement] that templates ask for against chains
 * of additions; in a tile with twelve row pointers that made vectors spill and cost half of the
 * speed, and without it nothing measured became slower. */
static void register_target(void) {
    const char *const option[] = {"accelc", "-disable-lsr", "-nvptx-short-ptr"};
    for (size_t k = 0; k < sizeof machines / sizeof *machines; k++)
        if (machines[k]->initialize) machines[k]->initialize();
    LLVMParseCommandLineOptions(3, option, NULL);
}
static pthread_once_t registered = PTHREAD_ONCE_INIT;

static void on_diagnostic(LLVMDiagnosticInfoRef info, void *data) {
    Module *m = data;
    if (LLVMGetDiagInfoSeverity(info) != LLVMDSError || m->message[0]) return;
    char *s = LLVMGetDiagInfoDescription(info);
    snprintf(m->message, sizeof m->message, "%s", s);
    LLVMDisposeMessage(s);
}

/* Name of an undefined symbol of a relocatable object, or NULL. */
static const char *undefined_symbol(const char *o, size_t n) {
    Elf64_Ehdr eh;
    if (n < sizeof eh) return "(no object)";
    memcpy(&eh, o, sizeof eh);
    for (uint32_t s = 0; s < eh.e_shnum; s++) {
        Elf64_Shdr sh, str;
        memcpy(&sh, o + eh.e_shoff + s * sizeof sh, sizeof sh);
        if (sh.sh_type != SHT_SYMTAB) continue;
        memcpy(&str, o + eh.e_shoff + sh.sh_link * sizeof str, sizeof str);
        for (uint64_t at = sizeof(Elf64_Sym); at < sh.sh_size; at += sizeof(Elf64_Sym)) {
            Elf64_Sym sym;
            memcpy(&sym, o + sh.sh_offset + at, sizeof sym);
            const char *name = o + str.sh_offset + sym.st_name; /* streq calls memcmp, nothing else calls */
            if (sym.st_shndx == SHN_UNDEF && strcmp(name, "memcmp")) return name;
        }
    }
    return NULL;
}

static void keep(Module *m, const char *data, size_t n) {
    m->data = malloc(n + 1);
    if (!m->data) {
        snprintf(m->message, sizeof m->message, "out of memory for %zu bytes of code", n);
        return;
    }
    memcpy(m->data, data, n);
    m->data[n] = 0, m->bytes = n;
}

static void emit(Module *m, LLVMModuleRef md, LLVMTargetMachineRef tm, int kind) {
    char *err = NULL;
    if (kind == LLVM_TEXT) {
        char *s = LLVMPrintModuleToString(md);
        keep(m, s, strlen(s));
        LLVMDisposeMessage(s);
        return;
    }
    LLVMMemoryBufferRef out = NULL;
    if (LLVMTargetMachineEmitToMemoryBuffer(
            tm, md, kind == LLVM_OBJECT ? LLVMObjectFile : LLVMAssemblyFile, &err, &out)) {
        if (!m->message[0])
            snprintf(m->message, sizeof m->message, "%s", err ? err : "no code was made");
        LLVMDisposeMessage(err);
        return;
    }
    keep(m, LLVMGetBufferStart(out), LLVMGetBufferSize(out));
    LLVMDisposeMemoryBuffer(out);
    const char *sym = kind == LLVM_OBJECT && m->data ? undefined_symbol(m->data, m->bytes) : NULL;
    if (kind == LLVM_PTX && m->data) sym = strstr(m->data, ".extern .func");
    if (sym) snprintf(m->message, sizeof m->message, "the code calls %.80s", sym);
}

static void build(Module *m, const Target *t, Lir *const *kernel, int kind) {
    const Machine *mc = machines[t->machine];
    LLVMContextRef cx = LLVMContextCreate();
    LLVMContextSetDiagnosticHandler(cx, on_diagnostic, m);
    LLVMModuleRef md = LLVMModuleCreateWithNameInContext("kernels", cx);
    char *err = NULL;
    LLVMTargetRef target;
    LLVMTargetMachineRef tm = NULL;
    if (!LLVMGetTargetFromTriple(mc->triple, &target, &err))
        tm = LLVMCreateTargetMachine(target, mc->triple, mc->cpu ? mc->cpu : t->tune, t->features, LLVMCodeGenLevelDefault,
                                     LLVMRelocPIC, LLVMCodeModelDefault);
    if (!tm) {
        snprintf(m->message, sizeof m->message, "%s", err ? err : "LLVM lacks the target");
        LLVMDisposeMessage(err);
        LLVMDisposeModule(md), LLVMContextDispose(cx);
        return;
    }
    LLVMSetTarget(md, mc->triple);
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(tm);
    LLVMSetModuleDataLayout(md, layout);
    LLVMDisposeTargetData(layout);
    for (uint32_t k = m->first; k < m->last; k++) llvm_kernel(cx, md, t, mc, kernel[k]);
    if (LLVMVerifyModule(md, LLVMReturnStatusAction, &err))
        snprintf(m->message, sizeof m->message, "%s", err);
    LLVMDisposeMessage(err);
    if (!m->message[0]) {
        LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
        LLVMErrorRef e = LLVMRunPasses(md, mc->passes, tm, options);
        LLVMDisposePassBuilderOptions(options);
        if (e) {
            char *s = LLVMGetErrorMessage(e);
            snprintf(m->message, sizeof m->message, "%s", s);
            LLVMDisposeErrorMessage(s);
        } else {
            emit(m, md, tm, kind);
        }
    }
    LLVMDisposeTargetMachine(tm);
    LLVMDisposeModule(md);
    LLVMContextDispose(cx);
}

static uint64_t
weight(const Lir *l, const Target *t) { /* vectors wider than a register are several instructions */
    uint32_t n;
    const LIns *ins = lir_ins(l, &n);
    uint64_t w = 50;
    for (uint32_t i = 1; i < n; i++) w += 1 + ins[i].ty.lanes * 4u / t->vbytes;
    return w;
}

bool llvm_compile(Ctx *c, const Target *t, uint32_t n, Lir *const *kernel, LlvmOut *out) {
    Module module[MODULES];
    uint64_t total = 0, done = 0;
    uint32_t nmodule = 0, most = machines[t->machine]->modules;
    out->nblob = 0, out->blob = NULL;
    if (n == 0) return true;
    for (uint32_t k = 0; k < n; k++) total += weight(kernel[k], t);
    uint64_t share = total / most + 1;
    if (share < MODULE_WEIGHT)
        share = total / 2 + 1 < MODULE_WEIGHT ? total / 2 + 1 : MODULE_WEIGHT; /* two at least */
    for (uint32_t k = 0; k < n; k++) {
        if (k == 0 || (done >= share * nmodule && nmodule < most))
            module[nmodule++] = (Module){.first = k};
        module[nmodule - 1].last = k + 1;
        done += weight(kernel[k], t);
    }
    pthread_once(&registered, register_target);
#pragma omp parallel for schedule(dynamic, 1) if (nmodule > 1) /* a team that has nothing to do spins */
    for (uint32_t m = 0; m < nmodule; m++) build(&module[m], t, kernel, out->kind);

    bool ok = true;
    out->blob = NEWN(c, LlvmBlob, nmodule);
    for (uint32_t m = 0; m < nmodule; m++) {
        if (module[m].message[0]) {
            if ((out->kind == LLVM_OBJECT || out->kind == LLVM_PTX) && module[m].data)
                ICE("llvm: kernels %s .. %s: %s", lir_name(kernel[module[m].first]),
                    lir_name(kernel[module[m].last - 1]), module[m].message);
            diag(c, SEV_ERROR, (Loc){0}, "X0510", "llvm: kernels %s .. %s: %s",
                 lir_name(kernel[module[m].first]), lir_name(kernel[module[m].last - 1]),
                 module[m].message);
            ok = false;
        } else {
            out->blob[out->nblob++] =
                (LlvmBlob){ctx_dup(c, module[m].data, module[m].bytes + 1), module[m].bytes};
        }
        free(module[m].data);
    }
    return ok;
}
