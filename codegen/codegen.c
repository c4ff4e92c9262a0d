/* codegen.c: the road from Programs to an artefact: lower and schedule every kernel, share equal ones, print them through
 * LLVM, build the plans, write weights, link. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "codegen.h"
#include "llvm.h"
#include "llvm_gpu.h"
#include "object.h"
#include "runtime/abi.h"
#include "ukr.h"

/* Objects of the runtime (cmake/runtime.cmake). */
#define BLOB(name) extern const unsigned char accelc_rt_##name##_blob[], accelc_rt_##name##_blob_end[];
BLOB(object) BLOB(openmp) BLOB(call) BLOB(objects) BLOB(image) BLOB(gpu)
#undef BLOB

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const char *identifier(Ctx *c, const char *s) {
    char *out = ctx_printf(c, "%s", s);
    for (char *p = out; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9'))) *p = '_';
    return out;
}

/* Every kernel of a level; equal code gets one function. */
static bool compile_level(Ctx *c, Level *l, const CodegenOptions *o, Buf *kernels) {
    Graph *g = l->program->g;
    l->code = NEWN(c, KernelCode *, g->node.n);
    l->symbol = NEWN(c, const char *, g->node.n);
    l->function = NEWN(c, const char *, g->node.n + 1);
    l->lir = NEWN(c, Lir *, g->node.n + 1);
    uint64_t *hash = NEWN(c, uint64_t, g->node.n + 1);
    bool cpu = l->target->machine == MACHINE_X86;
    dim_guess_in(g);
    const char *place = identifier(c, cpu ? l->target->name : target_gpu_level(l->target)->name);
    if (!cpu) {
        l->gpu = NEW(c, GpuPart);
        l->gpu->host = NEWN(c, const char *, g->node.n + 1);
        l->gpu->writes = NEWN(c, uint64_t, g->node.n + 1);
    }
    for (uint32_t i = 0; i < g->node.n; i++) {
        Node *n = g->node.v[i];
        if (n->op != P_GROUP) continue;
        Kernel *k = kernel_lower(c, g, n, l->program->storage);
        if (o->emit == EMIT_KERNELS) kernel_print(kernels, k);
        KernelCode *code = l->code[i] = kernel_compile(c, k, l->target, o->sched);
        if (!code) continue;
        if (o->emit == EMIT_KERNELS) {
            buf_puts(kernels, "  schedule: ");
            sched_print(kernels, &code->sched);
            if (code->product) buf_printf(kernels, "\n  product: %s", code->product);
            buf_printf(kernels, "\n  estimate: %.0f cycles\n\n", code->cycles);
        }
        uint64_t h = lir_hash(code->lir);
        uint32_t f = 0;
        while (f < l->nsymbol && !(hash[f] == h && lir_equal(l->lir[f], code->lir))) f++;
        if (f == l->nsymbol) {
            const char *name = ctx_printf(c, "accelc_%s_%s_k%u_%s", o->name, place, f, identifier(c, k->name));
            lir_rename(code->lir, name);
            l->lir[f] = code->lir;
            l->function[f] = name;
            hash[f] = h;
            l->nsymbol++;
        }
        l->symbol[i] = l->function[f];
        if (l->gpu) l->gpu->writes[f] |= code->writes;
    }
    return ctx_errors(c) == 0;
}

static bool write_text(Ctx *c, const char *path, const char *s, size_t n) { return link_write_file(c, path, s, n); }

/* Code of the device for every architecture of the level, and the functions that the host runs. Twins become objects of the artefact, where the
 * look-alike of the driver finds them by name (tests/gpu/emu.h). dir: a directory for temporary files, or NULL: texts alone. */
static bool compile_device(Ctx *c, Level *l, const CodegenOptions *o, const char *dir, uint32_t *nhost, Lir **host) {
    static const char twins[] = "accelc-twins";
    GpuPart *g = l->gpu;
    g->device = NEWN(c, Lir *, l->nsymbol + 1);
    g->ndevice = *nhost = 0;
    for (uint32_t f = 0; f < l->nsymbol; f++) {
        g->host[f] = llvm_gpu_refuses(l->lir[f]);
        if (g->host[f]) host[(*nhost)++] = l->lir[f];
        else g->device[g->ndevice++] = l->lir[f];
    }
    g->image = NEWN(c, GpuImage, 2 * o->ngpu + 1);
    if (l->target->machine == MACHINE_EMULATED && g->ndevice)
        g->image[g->nimage++] = (GpuImage){target_gpu_oldest(l->target), twins, sizeof twins, RT_GPU_PTX};
    for (uint32_t a = 0; a < o->ngpu && g->ndevice && l->target->machine == MACHINE_NVPTX; a++) {
        LlvmOut out = {.kind = LLVM_PTX};
        if (target_gpu_level(o->gpu[a]) != target_gpu_level(l->target)) continue;
        if (!llvm_compile(c, o->gpu[a], g->ndevice, g->device, &out)) return false;
        Blob text = {out.blob[0].data, out.blob[0].bytes}, code;
        if (o->cubin && dir) {
            if (!cubin_assemble(c, dir, o->gpu[a]->name, text, &code)) return false;
            g->image[g->nimage++] = (GpuImage){o->gpu[a], code.data, code.bytes, RT_GPU_CUBIN};
        }
        g->image[g->nimage++] = (GpuImage){o->gpu[a], text.data, text.bytes + 1, RT_GPU_PTX};
    }
    return true;
}

/* A text for each architecture; functions of the host are named first. */
static bool print_device(Ctx *c, Level *l, const CodegenOptions *o, Buf *text) {
    uint32_t nhost;
    if (!compile_device(c, l, o, NULL, &nhost, NEWN(c, Lir *, l->nsymbol + 1))) return false;
    for (uint32_t f = 0; f < l->nsymbol; f++)
        if (l->gpu->host[f]) buf_printf(text, "// on the host: %s: %s\n", l->function[f], l->gpu->host[f]);
    for (uint32_t i = 0; i < l->gpu->nimage; i++) buf_printf(text, "%s\n", (const char *)l->gpu->image[i].data);
    return true;
}

/* What follows is of the level; of one alone nobody needs to be told. */
static void print_level(Buf *text, const CodegenOptions *o, const Target *t) {
    const char *comment = o->emit == EMIT_LLVM ? ";" : t->machine == MACHINE_NVPTX && o->emit == EMIT_ASM ? "//" : "#";
    if (o->ntarget > 1) buf_printf(text, "%s level %s\n", comment, t->name);
}

static bool write_listing(Ctx *c, Level *level, uint32_t n, const CodegenOptions *o, Buf *text, const char *path) {
    for (uint32_t i = 0; i < n; i++) {
        if (o->emit != EMIT_KERNELS) print_level(text, o, level[i].target);
        if (o->emit == EMIT_LIR) {
            for (uint32_t f = 0; f < level[i].nsymbol; f++) lir_print(text, level[i].lir[f]);
        } else if (o->emit == EMIT_ASM && level[i].target->machine == MACHINE_NVPTX) {
            if (!print_device(c, &level[i], o, text)) return false;
        } else if (o->emit == EMIT_LLVM || o->emit == EMIT_ASM) {
            LlvmOut out = {.kind = o->emit == EMIT_LLVM ? LLVM_TEXT : LLVM_ASSEMBLY};
            if (!llvm_compile(c, level[i].target, level[i].nsymbol, level[i].lir, &out)) return false;
            for (uint32_t b = 0; b < out.nblob; b++) buf_printf(text, "%.*s\n", (int)out.blob[b].bytes, (const char *)out.blob[b].data);
        }
    }
    return write_text(c, path, buf_str(text), text->n);
}

static const char *header_text(Ctx *c, const CodegenOptions *o, const Level *l, const Weights *w) {
    Buf b = {.c = c};
    const Graph *g = l->program->g;
    buf_printf(&b, "/* Model \"%s\", compiled by %s for %s.\n", o->name, o->producer, l->target->name);
    for (int side = 0; side < 2; side++)
        for (uint32_t i = 0; i < (side ? g->out.n : g->in.n); i++) {
            Port p = side ? g->out.v[i] : g->in.v[i];
            buf_printf(&b, " * %s %u: %s ", side ? "output" : "input ", i, p.name ? p.name : "");
            type_print(&b, c, val_type(g, p.val));
            buf_puts(&b, "\n");
        }
    char upper[128];
    size_t n = 0;
    for (const char *s = o->name; *s && n + 1 < sizeof upper; s++) upper[n++] = (char)(*s >= 'a' && *s <= 'z' ? *s - 32 : *s);
    upper[n] = 0;
    buf_printf(&b, " */\n#ifndef ACCELC_MODEL_%s_H\n#define ACCELC_MODEL_%s_H\n#include <accelc_rt.h>\n", upper, upper);
    buf_printf(&b, "#define %s_INPUTS %u\n#define %s_OUTPUTS %u\n", upper, g->in.n, upper, g->out.n);
    buf_printf(&b, "#define %s_WEIGHT_BYTES %lluull\n#define %s_ARENA_BYTES %lluull /* of the part that is placed at compile time */\n", upper,
               (unsigned long long)w->bytes, upper, (unsigned long long)l->arena);
    for (int side = 0; side < 2; side++)
        for (uint32_t i = 0; i < (side ? g->out.n : g->in.n); i++) {
            const Type *t = val_type(g, (side ? g->out.v[i] : g->in.v[i]).val);
            int64_t count;
            if (t->kind == TY_TENSOR && dim_is_const(c, type_count(c, t), &count))
                buf_printf(&b, "#define %s_%s%u_BYTES %zu\n", upper, side ? "OUT" : "IN", i, dt_bytes(t->dtype, count));
        }
    buf_printf(&b, "#ifdef __cplusplus\nextern \"C\"\n#endif\nconst accelc_api *%s_accelc(void);\n#endif\n", o->name);
    return buf_str(&b);
}

/* The object that has a function of the runtime; "": that of most of them. */
static const char *call_object(const char *symbol) {
    static const char *const apart[][2] = {
#define CALL(symbol)
#define CALL_IN(object, symbol) {#symbol, #object},
#include "runtime/call.def"
#undef CALL
    };
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        if (!strcmp(apart[i][0], symbol)) return apart[i][1];
    return "";
}

/* What call_image.c was built with, for models that decode images. */
static const char *const image_libraries[] = {IMAGE_LINK NULL};

typedef struct Objects { /* what is linked */
    const char *dir;
    VEC(const char *) path;
    uint64_t code, digest;
} Objects;

/* Functions become objects whose names begin with `stem`. */
static bool add_objects(Ctx *c, Objects *x, const char *stem, const Target *t, uint32_t count, Lir *const *lir) {
    LlvmOut out = {.kind = LLVM_OBJECT};
    if (!llvm_compile(c, t, count, lir, &out)) return false;
    for (uint32_t b = 0; b < out.nblob; b++) {
        const char *name = ctx_printf(c, "%s/%s_%u.o", x->dir, stem, b);
        if (!link_write_file(c, name, out.blob[b].data, out.blob[b].bytes)) return false;
        x->digest = hash_bytes(out.blob[b].data, out.blob[b].bytes, x->digest);
        x->code += out.blob[b].bytes;
        vec_push(c, &x->path, name);
    }
    return true;
}

static bool write_objects(Ctx *c, const CodegenOptions *o, Level *level, uint32_t n, Weights *w, const char *path, const char *dir,
                          CodegenStats *st) {
    Objects x = {.dir = dir, .digest = hash_bytes(o->options_digest, strlen(o->options_digest), 0)};
    const char *weights = ctx_printf(c, "%s/w.o", dir);
    if (w->bytes) vec_push(c, &x.path, weights); /* first: linkers that know no large sections keep the order (elf.c) */
    double t0 = seconds();
    for (uint32_t i = 0; i < n; i++) {
        Lir **lir = level[i].lir;
        uint32_t count = level[i].nsymbol;
        GpuPart *gpu = level[i].gpu;
        if (gpu && !compile_device(c, &level[i], o, dir, &count, lir = NEWN(c, Lir *, count + 1))) return false;
        for (uint32_t k = 0; gpu && k < gpu->nimage; k++) {
            x.digest = hash_bytes(gpu->image[k].data, gpu->image[k].bytes, x.digest);
            x.code += gpu->image[k].bytes;
        }
        bool twins = level[i].target->machine == MACHINE_EMULATED;
        if (twins && !add_objects(c, &x, ctx_printf(c, "t%u", i), level[i].target, gpu->ndevice, gpu->device)) return false;
        if (!add_objects(c, &x, ctx_printf(c, "k%u", i), gpu ? target_find(OBJECT_HOST) : level[i].target, count, lir)) return false;
        x.digest = hash_bytes(level[i].plan, level[i].plan_bytes, x.digest);
    }
    st->llvm_seconds = seconds() - t0;
    t0 = seconds();
    if (w->bytes && !elf_write_weights(weights, weights_symbol(c, o), w, &x.digest)) {
        diag(c, SEV_ERROR, (Loc){0}, "E0602", "cannot write %s: %s", weights, strerror(errno));
        return false;
    }
    Blob model;
    if (!object_model(c, o, level, n, w, x.code, x.digest, o->emit == EMIT_SO, &model)) return false;
    bool omp = o->executor == RT_EXEC_OPENMP;
    bool objects = false, image = false, gpu = false;
    for (uint32_t i = 0; i < n; i++) {
        objects |= level[i].objects;
        gpu |= level[i].gpu && level[i].gpu->nimage;
        for (uint32_t k = 0; k < level[i].call.n; k++) image |= !strcmp(call_object(level[i].call.v[k]), "image");
    }
    const struct { const char *name; const void *data; size_t bytes; bool wanted; } part[] = {
#define BLOB(name) accelc_rt_##name##_blob, (size_t)(accelc_rt_##name##_blob_end - accelc_rt_##name##_blob)
        {"m.o", model.data, model.bytes, true}, {"rt1.o", BLOB(object), !omp}, {"rt1.o", BLOB(openmp), omp},
        {"rt1o.o", BLOB(objects), objects},     {"rt1c.o", BLOB(call), objects},
        {"rt1i.o", BLOB(image), image},         {"rt1g.o", BLOB(gpu), gpu},
#undef BLOB
    };
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
        const char *name = ctx_printf(c, "%s/%s", dir, part[i].name);
        if (!part[i].wanted) continue;
        if (!link_write_file(c, name, part[i].data, part[i].bytes)) return false;
        vec_push(c, &x.path, name);
    }
    for (const char *const *l = image_libraries; image && o->emit == EMIT_SO && *l; l++) vec_push(c, &x.path, *l);
    st->code_bytes = x.code;
    st->weight_bytes = w->bytes;
    bool ok = o->emit == EMIT_SO ? link_shared(c, path, x.path.n, x.path.v, omp) :
              o->emit == EMIT_OBJ ? link_relocatable(c, path, x.path.n, x.path.v) : link_archive(c, path, x.path.n, x.path.v);
    st->link_seconds = seconds() - t0;
    return ok;
}

bool codegen_write(Ctx *c, Program *const *program, const CodegenOptions *o, const char *path, CodegenStats *stats) {
    Level *level = NEWN(c, Level, o->ntarget);
    Weights w = {0};
    Buf text = {.c = c};
    memset(stats, 0, sizeof *stats);
    if (o->sched && !sched_check(c, o->sched)) return false;
    for (uint32_t i = 0; i < o->ntarget; i++) {
        level[i] = (Level){.target = o->target[i], .program = program[i]};
        if (o->emit == EMIT_KERNELS) print_level(&text, o, o->target[i]);
        if (!compile_level(c, &level[i], o, &text)) return false;
        stats->unique_kernels += level[i].nsymbol;
        for (uint32_t k = 0; k < program[i]->g->node.n; k++) stats->kernels += level[i].code[k] != NULL;
    }
    if (o->emit == EMIT_KERNELS || o->emit == EMIT_LIR || o->emit == EMIT_LLVM || o->emit == EMIT_ASM)
        return write_listing(c, level, o->ntarget, o, &text, path);
    for (uint32_t i = 0; i < o->ntarget; i++)
        if (!plan_build(c, &level[i], &w)) return false;
    stats->arena_bytes = level[0].arena;
    if (o->emit == EMIT_HEADER) {
        const char *h = header_text(c, o, &level[0], &w);
        return write_text(c, path, h, strlen(h));
    }
    const char *dir = link_temp_dir(c);
    bool ok = dir && write_objects(c, o, level, o->ntarget, &w, path, dir, stats);
    link_remove_dir(dir);
    return ok;
}

bool codegen_describe(Ctx *c, Program *p, const Target *t, Buf *out) {
    Graph *g = p->g;
    dim_guess_in(g);
    for (uint32_t i = 0; i < g->node.n; i++) {
        if (g->node.v[i]->op != P_GROUP) continue;
        Kernel *k = kernel_lower(c, g, g->node.v[i], p->storage);
        KernelCode *code = kernel_compile(c, k, t, NULL);
        if (!code) return false;
        buf_printf(out, "%-28s %12.0f cycles  ", k->name, code->cycles);
        sched_print(out, &code->sched);
        buf_printf(out, "  [%s]\n", k->nodes);
    }
    return true;
}

const char *codegen_templates(Ctx *c) { return templates_text(c); }
