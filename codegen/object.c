/* object.c: the model's own object file: accelc_desc, accelc_api, one rt_model per CPU level, and the exported function
 * <name>_accelc. Constants and four thunks, built through LLVM's C API so that relocations are its business. Only
 * structures of runtime/accelc_rt.h and runtime/abi.h are laid out here, field by field in their order. */
#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <string.h>

#include "llvm_gpu.h"
#include "object.h"
#include "runtime/abi.h"

typedef struct Obj {
    Ctx *c;
    const CodegenOptions *o;
    LLVMContextRef cx;
    LLVMModuleRef m;
    LLVMBuilderRef b;
    LLVMTypeRef ptr, i8, i16, i32, i64, fn_kernel;
    uint32_t serial;
} Obj;

static LLVMValueRef c8(Obj *x, unsigned v) { return LLVMConstInt(x->i8, v, 0); }
static LLVMValueRef c16(Obj *x, unsigned v) { return LLVMConstInt(x->i16, v, 0); }
static LLVMValueRef c32(Obj *x, uint32_t v) { return LLVMConstInt(x->i32, v, 0); }
static LLVMValueRef c64(Obj *x, uint64_t v) { return LLVMConstInt(x->i64, v, 0); }
static LLVMValueRef null_ptr(Obj *x) { return LLVMConstNull(x->ptr); }

static LLVMValueRef global(Obj *x, LLVMValueRef init, unsigned align) {
    LLVMValueRef g = LLVMAddGlobal(x->m, LLVMTypeOf(init), ctx_printf(x->c, ".d%u", x->serial++));
    LLVMSetInitializer(g, init);
    LLVMSetGlobalConstant(g, 1);
    LLVMSetLinkage(g, LLVMPrivateLinkage);
    LLVMSetAlignment(g, align);
    return g;
}

static LLVMValueRef bytes(Obj *x, const void *p, size_t n, unsigned align) {
    return global(x, LLVMConstStringInContext2(x->cx, p, n, 1), align);
}

static LLVMValueRef text(Obj *x, const char *s) { return bytes(x, s ? s : "", strlen(s ? s : "") + 1, 1); }

static LLVMValueRef record(Obj *x, unsigned n, LLVMValueRef *f) { return LLVMConstStructInContext(x->cx, f, n, 0); }

static LLVMValueRef table(Obj *x, unsigned n, LLVMValueRef *v) {
    if (!n) return null_ptr(x);
    return global(x, LLVMConstArray2(LLVMTypeOf(v[0]), v, n), 16);
}

/* Memory of the runtime's. */
static LLVMValueRef zeros(Obj *x, unsigned n, unsigned align) {
    LLVMTypeRef t = LLVMArrayType2(x->i8, n);
    LLVMValueRef g = LLVMAddGlobal(x->m, t, ".zeros");
    LLVMSetInitializer(g, LLVMConstNull(t));
    LLVMSetLinkage(g, LLVMPrivateLinkage);
    LLVMSetAlignment(g, align);
    return g;
}

static LLVMValueRef declare(Obj *x, const char *name, LLVMTypeRef ty, bool hidden) {
    LLVMValueRef f = LLVMGetNamedFunction(x->m, name);
    if (f) return f;
    f = LLVMAddFunction(x->m, name, ty);
    if (hidden) LLVMSetVisibility(f, LLVMHiddenVisibility);
    return f;
}

/* A size that the type leaves open (of what an optional holds) is "?". */
static LLVMValueRef dims(Obj *x, const Type *t) {
    LLVMValueRef v[MAX_RANK];
    if (t->kind != TY_TENSOR || t->rank > MAX_RANK) return null_ptr(x);
    for (int d = 0; d < t->rank; d++) {
        Buf b = {.c = x->c};
        bool open = !t->dim[d].i;
        if (open) buf_puts(&b, "?");
        else dim_print(&b, x->c, t->dim[d]);
        int64_t lo = open ? 0 : dim_lo(x->c, t->dim[d]), hi = open ? DIM_INF : dim_hi(x->c, t->dim[d]);
        LLVMValueRef f[] = {text(x, buf_str(&b)), c64(x, (uint64_t)lo), c64(x, hi == DIM_INF ? UINT64_MAX : (uint64_t)hi)};
        v[d] = record(x, 3, f);
    }
    return table(x, t->rank, v);
}

static LLVMValueRef port_table(Obj *x, const Graph *g, const Port *p, uint32_t n) {
    LLVMValueRef *v = NEWN(x->c, LLVMValueRef, n + 1);
    for (uint32_t i = 0; i < n; i++) {
        const Type *t = val_type(g, p[i].val);
        Buf b = {.c = x->c};
        type_print(&b, x->c, t);
        bool optional = t->kind == TY_OPT;
        while (t->kind == TY_OPT) t = t->elem;
        unsigned kind = t->kind == TY_SEQ ? ACCELC_SEQUENCE : t->kind == TY_MAP ? ACCELC_MAP : ACCELC_TENSOR;
        const Type *e = t; /* the tensors in it have a type, if not the keys */
        while (e->elem) e = e->elem;
        LLVMValueRef f[] = {text(x, p[i].name), text(x, buf_str(&b)), c8(x, kind), c8(x, optional), c16(x, e->dtype),
                            c32(x, t->rank > MAX_RANK ? UINT32_MAX : t->rank),
                            dims(x, t), c32(x, UINT32_MAX)};
        v[i] = record(x, 8, f);
    }
    return table(x, n, v);
}

static LLVMValueRef symbol_table(Obj *x, const Graph *g, uint32_t *count) {
    /* The symbols of the inputs in the order of the plan: first occurrence among the input dims. */
    LLVMValueRef *v = NEWN(x->c, LLVMValueRef, dim_nsyms(x->c) + 1);
    bool *seen = NEWN(x->c, bool, dim_nsyms(x->c) + 1);
    *count = 0;
    for (uint32_t i = 0; i < g->in.n; i++) {
        const Type *t = val_type(g, g->in.v[i].val);
        for (int d = 0; d < t->rank; d++) {
            const DimInfo *s = dim_info(x->c, t->dim[d]);
            if (s->kind != D_SYM || seen[s->val]) continue;
            seen[s->val] = true;
            v[(*count)++] = text(x, dim_sym_info(x->c, (uint32_t)s->val)->name);
        }
    }
    return table(x, *count, v);
}

/* name(args...) { return target(bundle, args...); } */
static LLVMValueRef thunk(Obj *x, const char *what, const char *target, LLVMValueRef bundle, unsigned n, LLVMTypeRef *arg) {
    LLVMTypeRef inner[8] = {x->ptr};
    for (unsigned i = 0; i < n; i++) inner[i + 1] = arg[i];
    LLVMTypeRef ty = LLVMFunctionType(x->i32, inner, n + 1, 0);
    LLVMValueRef callee = declare(x, target, ty, true);
    LLVMValueRef f = LLVMAddFunction(x->m, ctx_printf(x->c, "accelc_%s_%s", x->o->name, what), LLVMFunctionType(x->i32, arg, n, 0));
    LLVMSetVisibility(f, LLVMHiddenVisibility);
    LLVMPositionBuilderAtEnd(x->b, LLVMAppendBasicBlockInContext(x->cx, f, ""));
    LLVMValueRef a[8] = {bundle};
    for (unsigned i = 0; i < n; i++) a[i + 1] = LLVMGetParam(f, i);
    LLVMValueRef r = LLVMBuildCall2(x->b, ty, callee, a, n + 1, "");
    LLVMSetTailCall(r, 1);
    LLVMBuildRet(x->b, r);
    return f;
}

static void exported(Obj *x, const char *name, LLVMValueRef api, bool weak) {
    LLVMValueRef f = LLVMAddFunction(x->m, name, LLVMFunctionType(x->ptr, NULL, 0, 0));
    if (weak) LLVMSetLinkage(f, LLVMWeakAnyLinkage);
    LLVMPositionBuilderAtEnd(x->b, LLVMAppendBasicBlockInContext(x->cx, f, ""));
    LLVMBuildRet(x->b, api);
}

const char *weights_symbol(Ctx *c, const CodegenOptions *o) { return ctx_printf(c, "accelc_%s_weights", o->name); }

/* rt_calls, or NULL for a model that needs none of it. */
static LLVMValueRef level_calls(Obj *x, const Level *l) {
    if (!l->objects) return null_ptr(x);
    LLVMTypeRef arg[] = {x->ptr}, type = LLVMFunctionType(LLVMInt1TypeInContext(x->cx), arg, 1, 0);
    LLVMValueRef *f = NEWN(x->c, LLVMValueRef, l->call.n + 1);
    for (uint32_t i = 0; i < l->call.n; i++) f[i] = declare(x, ctx_printf(x->c, "accelc_rt1_call_%s", l->call.v[i]), type, true);
    LLVMValueRef ops = LLVMGetNamedGlobal(x->m, "accelc_rt1_objects");
    if (!ops) {
        ops = LLVMAddGlobal(x->m, x->i8, "accelc_rt1_objects");
        LLVMSetVisibility(ops, LLVMHiddenVisibility);
    }
    LLVMValueRef r[] = {ops, table(x, l->call.n, f), c32(x, l->call.n), c32(x, 0)};
    return global(x, record(x, 4, r), 16);
}

/* rt_gpu, or NULL for a level that has no code of a device. */
static LLVMValueRef level_gpu(Obj *x, const Level *l) {
    const GpuPart *g = l->gpu;
    if (!g || !g->nimage) return null_ptr(x);
    LLVMValueRef *image = NEWN(x->c, LLVMValueRef, g->nimage), *kernel = NEWN(x->c, LLVMValueRef, l->nsymbol);
    for (uint32_t i = 0; i < g->nimage; i++) {
        LLVMValueRef f[] = {c32(x, target_gpu_arch(g->image[i].arch)), c32(x, g->image[i].kind), bytes(x, g->image[i].data, g->image[i].bytes, 16),
                            c64(x, g->image[i].bytes)};
        image[i] = record(x, 4, f);
    }
    for (uint32_t k = 0; k < l->nsymbol; k++) {
        LLVMValueRef f[] = {g->host[k] ? null_ptr(x) : text(x, l->function[k]),
                            c32(x, lir_is_resident(l->lir[k]) ? RT_GPU_RESIDENT : llvm_gpu_block(l->lir[k]) ? RT_GPU_BLOCK : RT_GPU_THREADS),
                            c32(x, llvm_gpu_threads(l->lir[k])), c32(x, lir_shared_bytes(l->lir[k])),
                            c32(x, llvm_gpu_guards(l->lir[k])), c32(x, lir_nmap(l->lir[k])),
                            c32(x, lir_cluster_blocks(l->lir[k])), c32(x, 0), c64(x, g->writes[k])};
        kernel[k] = record(x, 9, f);
    }
    LLVMValueRef ops = LLVMGetNamedGlobal(x->m, "accelc_rt1_gpu");
    if (!ops) {
        ops = LLVMAddGlobal(x->m, x->i8, "accelc_rt1_gpu");
        LLVMSetVisibility(ops, LLVMHiddenVisibility);
    }
    LLVMValueRef r[] = {c32(x, g->nimage), c32(x, l->nsymbol), table(x, g->nimage, image), table(x, l->nsymbol, kernel), ops,
                        zeros(x, RT_GPU_SHARED, 16)};
    return global(x, record(x, 6, r), 16);
}

static LLVMValueRef level_model(Obj *x, const Level *l, LLVMValueRef weights) {
    LLVMValueRef *k = NEWN(x->c, LLVMValueRef, l->nsymbol + 1);
    bool device = l->gpu && l->gpu->nimage;
    for (uint32_t i = 0; i < l->nsymbol; i++) k[i] = device && !l->gpu->host[i] ? null_ptr(x) : declare(x, l->function[i], x->fn_kernel, true);
    LLVMValueRef f[] = {c32(x, RT_MAGIC), c32(x, sizeof(rt_model)), bytes(x, l->plan, l->plan_bytes, 64), table(x, l->nsymbol, k), weights,
                        text(x, l->gpu ? OBJECT_HOST : l->target->name), level_calls(x, l), level_gpu(x, l)};
    return global(x, record(x, 8, f), 16);
}

static void build(Obj *x, const Level *level, uint32_t nlevel, const Weights *w, uint64_t code_bytes, uint64_t digest, bool shared) {
    const CodegenOptions *o = x->o;
    const Graph *g = level[0].program->g;
    LLVMValueRef weights = null_ptr(x);
    if (w->bytes) {
        weights = LLVMAddGlobal(x->m, x->i8, weights_symbol(x->c, o));
        LLVMSetVisibility(weights, LLVMHiddenVisibility);
        LLVMSetGlobalConstant(weights, 1);
    }
    LLVMValueRef *models = NEWN(x->c, LLVMValueRef, nlevel);
    Buf names = {.c = x->c};
    for (uint32_t i = 0; i < nlevel; i++) {
        models[i] = level_model(x, &level[i], weights);
        buf_printf(&names, "%s%s", i ? "," : "", level[i].target->name);
    }
    uint32_t nsym;
    LLVMValueRef syms = symbol_table(x, g, &nsym);
    bool objects = false; /* their memory grows with what the run puts into them */
    for (uint32_t i = 0; i < nlevel; i++) objects |= level[i].objects;
    uint64_t flags = nsym || objects ? 0 : 1;
    LLVMValueRef in = port_table(x, g, g->in.v, g->in.n), out = port_table(x, g, g->out.v, g->out.n);
    LLVMValueRef d[] = {c32(x, sizeof(accelc_desc)), text(x, o->name), text(x, o->producer), text(x, buf_str(&names)),
                        text(x, ctx_printf(x->c, "%016llx", (unsigned long long)digest)), c32(x, g->in.n), c32(x, g->out.n), c32(x, nsym), in, out,
                        syms,
                        c64(x, w->bytes), c64(x, code_bytes), c64(x, flags)};
    LLVMValueRef desc = global(x, record(x, 14, d), 16);
    /* api and bundle refer to each other. */
    LLVMTypeRef bundle_fields[] = {x->i32, x->i32, x->ptr, x->ptr, x->i32, x->i32};
    LLVMValueRef bundle = LLVMAddGlobal(x->m, LLVMStructTypeInContext(x->cx, bundle_fields, 6, 0), ".bundle");
    LLVMSetLinkage(bundle, LLVMPrivateLinkage);
    LLVMSetGlobalConstant(bundle, 1);
    LLVMTypeRef create_args[] = {x->ptr, x->ptr, x->ptr, x->i64}, size_args[] = {x->ptr, x->ptr, x->ptr, x->ptr};
    LLVMTypeRef step_args[] = {x->i32, x->ptr, x->ptr};
    LLVMTypeRef any = LLVMFunctionType(x->i32, NULL, 0, 1);
    LLVMValueRef a[] = {c32(x, ACCELC_ABI), c32(x, sizeof(accelc_api)), desc,
                        thunk(x, "create", "accelc_rt1_create", bundle, 4, create_args), declare(x, "accelc_rt1_destroy", any, true),
                        declare(x, "accelc_rt1_run", any, true), declare(x, "accelc_rt1_fetch", any, true), declare(x, "accelc_rt1_reset", any, true),
                        thunk(x, "sizes", "accelc_rt1_sizes", bundle, 4, size_args), declare(x, "accelc_rt1_cancel", any, true),
                        declare(x, "accelc_rt1_error", any, true), thunk(x, "step_name", "accelc_rt1_step_name", bundle, 3, step_args),
                        declare(x, "accelc_rt1_step_info", any, true)};
    LLVMValueRef api = global(x, record(x, 13, a), 16);
    LLVMValueRef bf[] = {c32(x, RT_MAGIC), c32(x, nlevel), table(x, nlevel, models), api, c32(x, o->executor), c32(x, 0)};
    LLVMSetInitializer(bundle, record(x, 6, bf));
    exported(x, ctx_printf(x->c, "%s_accelc", o->name), api, false);
    if (shared) exported(x, "accelc_main", api, true);
}

bool object_model(Ctx *c, const CodegenOptions *o, const Level *level, uint32_t nlevel, const Weights *w, uint64_t code_bytes,
                  uint64_t digest, bool shared, Blob *out) {
    static const char triple[] = "x86_64-unknown-linux-gnu";
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    char *err = NULL;
    LLVMTargetRef target;
    if (LLVMGetTargetFromTriple(triple, &target, &err)) ICE("LLVM has no x86-64: %s", err);
    LLVMTargetMachineRef tm = LLVMCreateTargetMachine(target, triple, "x86-64", "", LLVMCodeGenLevelNone, LLVMRelocPIC, LLVMCodeModelDefault);
    Obj obj = {.c = c, .o = o, .cx = LLVMContextCreate()}, *x = &obj;
    x->m = LLVMModuleCreateWithNameInContext(o->name, x->cx);
    LLVMSetTarget(x->m, triple);
    LLVMTargetDataRef dl = LLVMCreateTargetDataLayout(tm);
    LLVMSetModuleDataLayout(x->m, dl);
    x->b = LLVMCreateBuilderInContext(x->cx);
    x->ptr = LLVMPointerTypeInContext(x->cx, 0);
    x->i8 = LLVMInt8TypeInContext(x->cx);
    x->i16 = LLVMInt16TypeInContext(x->cx);
    x->i32 = LLVMInt32TypeInContext(x->cx);
    x->i64 = LLVMInt64TypeInContext(x->cx);
    LLVMTypeRef kargs[] = {x->ptr, x->ptr, x->i64, x->i64, x->ptr};
    x->fn_kernel = LLVMFunctionType(x->i32, kargs, 5, 0);
    build(x, level, nlevel, w, code_bytes, digest, shared);
    LLVMMemoryBufferRef mb;
    if (LLVMTargetMachineEmitToMemoryBuffer(tm, x->m, LLVMObjectFile, &err, &mb)) ICE("LLVM cannot write an object: %s", err);
    out->bytes = LLVMGetBufferSize(mb);
    out->data = ctx_dup(c, LLVMGetBufferStart(mb), out->bytes);
    LLVMDisposeMemoryBuffer(mb);
    LLVMDisposeBuilder(x->b);
    LLVMDisposeModule(x->m);
    LLVMContextDispose(x->cx);
    LLVMDisposeTargetData(dl);
    LLVMDisposeTargetMachine(tm);
    return true;
}
