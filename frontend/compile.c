/* compile.c: the pipeline of libaccelc: model -> graph -> passes and memory plan per target ->
 * artefact or listing. Calls the stages in order and owns nothing else. An output file appears
 * complete or not at all (output.c). */
#include "frontend/frontend.h"
#include "codegen/codegen.h"
#include "passes/passes.h"
#include "runtime/abi.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MAX_TARGETS = 8 };

typedef struct Job {
    Ctx *c;
    const CompileOptions *o;
    FILE *info;
    OutputKind emit;
    const char *name;
    const Target *target[2 * MAX_TARGETS]; /* levels, best first */
    uint32_t ntarget;
    const Target *gpu[MAX_TARGETS]; /* architectures, if some of the targets are for GPUs: the newest first */
    uint32_t ngpu;
    Paths files;
    double start, read, passes, codegen; /* seconds */
    CodegenStats stats;
    Buf explain;
} Job;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void compile_defaults(CompileOptions *o) {
    *o = (CompileOptions){.target = "host", .gpu = "sm_80", .executor = "team", .precision = "float32", .level = 2, .bisect = UINT32_MAX};
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* clang-format off */
static const struct { const char *ending; OutputKind kind; } endings[] = {
    {".so", OUT_SO},     {".o", OUT_OBJ},     {".a", OUT_ARCHIVE}, {".ir", OUT_IR},
    {".ll", OUT_LLVM},   {".s", OUT_ASM},     {".h", OUT_HEADER},  {".ptx", OUT_PTX},
};
/* clang-format on */
static OutputKind output_kind(const CompileOptions *o) {
    bool partial = o->stop_after || o->passes;
    if (o->emit != OUT_AUTO) return o->emit;
    for (size_t i = 0; !partial && i < sizeof endings / sizeof *endings; i++)
        if (ends_with(o->output, endings[i].ending)) return endings[i].kind;
    return partial ? OUT_IR : OUT_SO;
}

/* clang-format off */
static const struct { OutputKind out; EmitKind emit; } emits[] = {
    {OUT_SO, EMIT_SO},           {OUT_OBJ, EMIT_OBJ},         {OUT_ARCHIVE, EMIT_ARCHIVE},
    {OUT_KERNELS, EMIT_KERNELS}, {OUT_LIR, EMIT_LIR},         {OUT_LLVM, EMIT_LLVM},
    {OUT_ASM, EMIT_ASM},         {OUT_HEADER, EMIT_HEADER},   {OUT_PTX, EMIT_ASM},
};
/* clang-format on */
static EmitKind emit_kind(OutputKind k) {
    for (size_t i = 0; i < sizeof emits / sizeof *emits; i++)
        if (emits[i].out == k) return emits[i].emit;
    ICE("no emitter for output %d", (int)k);
}

/* clang-format off */
static const struct { const char *name; uint32_t id; } executors[] = {
    {"team", RT_EXEC_TEAM}, {"serial", RT_EXEC_SERIAL}, {"openmp", RT_EXEC_OPENMP},
};
/* clang-format on */
static bool find_executor(Ctx *c, const char *name, uint32_t *id) {
    for (size_t i = 0; i < sizeof executors / sizeof *executors; i++)
        if (!strcmp(executors[i].name, name)) {
            *id = executors[i].id;
            return true;
        }
    diag(c, SEV_ERROR, (Loc){0}, "E0502", "there is no executor \"%s\": team, serial, openmp",
         name);
    return false;
}

/* The targets of a list, each once, in its order. */
static bool find_listed(Job *j, const char *list, const Target *(*find)(const char *), const char *names, const Target **to, uint32_t *n) {
    for (const char *s = list; *s;) {
        size_t len = strcspn(s, ",");
        const char *name = ctx_strn(j->c, s, len);
        const Target *t = find(name);
        if (!t || *n == MAX_TARGETS) {
            diag(j->c, SEV_ERROR, (Loc){0}, "E0503",
                 t ? "too many targets at \"%s\": %s" : "there is no target \"%s\"; there are %s",
                 name, names);
            return false;
        }
        bool twice = false;
        for (uint32_t i = 0; i < *n; i++) twice |= to[i] == t;
        if (!twice) to[(*n)++] = t;
        s += len + (s[len] == ',');
    }
    if (!*n) diag(j->c, SEV_ERROR, (Loc){0}, "E0503", "no target is given; there are %s", names);
    return *n > 0;
}

static const char *read_text(Ctx *c, const char *path) {
    bool std = !strcmp(path, "-");
    FILE *f = std ? stdin : fopen(path, "r");
    Buf b = {.c = c};
    char block[1 << 12];
    size_t n;
    errno = 0;
    while (f && (n = fread(block, 1, sizeof block - 1, f)) > 0) {
        block[n] = 0;
        if (strlen(block) != n) {
            errno = EILSEQ;
            break;
        }
        buf_puts(&b, block);
    }
    bool bad = !f || ferror(f) || errno;
    if (bad) diag(c, SEV_ERROR, (Loc){0}, "E0100", "cannot read \"%s\": %s", path, strerror(errno));
    if (f && !std) fclose(f);
    return bad ? NULL : buf_str(&b);
}

/* What the user has measured goes with the targets that it may be of. */
static bool find_tuned(Job *j) {
    const char *text = j->o->tuned ? read_text(j->c, j->o->tuned) : NULL;
    for (uint32_t t = 0; t < j->ntarget && text; t++) {
        if (!(j->target[t]->flags & F_BLOCKS)) continue;
        Target *own = NEW(j->c, Target);
        *own = *j->target[t];
        own->tuned = text;
        j->target[t] = own;
    }
    return text || !j->o->tuned;
}

/* GPUs may round what is multiplied. */
static bool find_precision(Job *j) {
    static const struct { const char *name; uint32_t flag; } precisions[] = {
        {"float32", 0}, {"tf32", F_TO_TF32}, {"bf16", F_TO_BF16}, {"f16", F_TO_F16}};
    for (size_t i = 0; i < sizeof precisions / sizeof *precisions; i++) {
        if (strcmp(precisions[i].name, j->o->precision) != 0) continue;
        for (uint32_t t = 0; t < j->ntarget; t++) {
            if (!(j->target[t]->flags & F_BLOCKS) || !precisions[i].flag) continue;
            Target *own = NEW(j->c, Target);
            *own = *j->target[t];
            own->flags |= precisions[i].flag;
            j->target[t] = own;
        }
        return true;
    }
    diag(j->c, SEV_ERROR, (Loc){0}, "E0504", "there is no precision \"%s\": float32, tf32, bf16, f16", j->o->precision);
    return false;
}

static int newest_first(const void *a, const void *b) {
    uint32_t x = target_gpu_arch(*(const Target *const *)a), y = target_gpu_arch(*(const Target *const *)b);
    uint32_t nx = x & ~RT_GPU_ONLY, ny = y & ~RT_GPU_ONLY;
    return nx != ny ? (nx < ny) - (nx > ny) : (x < y) - (x > y);
}

/* "cuda" stands for the levels of all architectures that are asked for, the newest first. */
static bool find_targets(Job *j) {
    const Target *listed[MAX_TARGETS];
    uint32_t n = 0;
    if (!find_listed(j, j->emit == OUT_PTX ? "cuda" : j->o->target, target_find, target_names(), listed, &n)) return false;
    for (uint32_t i = 0; i < n; i++) {
        bool gpu = listed[i]->machine == MACHINE_NVPTX;
        if (!gpu) j->target[j->ntarget++] = listed[i];
        if (gpu && !find_listed(j, j->o->gpu, target_gpu, target_gpu_names(), j->gpu, &j->ngpu)) return false;
        qsort(j->gpu, j->ngpu, sizeof *j->gpu, newest_first);
        for (uint32_t a = 0; gpu && a < j->ngpu; a++) {
            const Target *level = target_gpu_level(j->gpu[a]);
            if (!a || level != target_gpu_level(j->gpu[a - 1])) j->target[j->ntarget++] = level;
        }
    }
    return find_precision(j) && find_tuned(j);
}

const char *compile_name(Ctx *c, const char *path) {
    const char *slash = strrchr(path, '/'), *s = slash ? slash + 1 : path;
    Buf b = {.c = c};
    if (!strncmp(s, "lib", 3) && ends_with(s, ".a")) s += 3;
    if (!isalpha((unsigned char)*s) && *s != '_') buf_puts(&b, "m_");
    for (const char *dot = strrchr(s, '.'); *s && (s != dot || !b.n); s++)
        buf_printf(&b, "%c", isalnum((unsigned char)*s) && !(*s & 0x80) ? *s : '_');
    return buf_str(&b);
}

Graph *compile_read(Ctx *c, const CompileOptions *o, Paths *files) {
    bool ir = o->from == FROM_IR || (o->from == FROM_AUTO && ends_with(o->input, ".ir"));
    if (!ir) {
        FrontendOptions f = {.dim = o->dim, .ndim = o->ndim, .files = files, .extract = o->extract};
        f.syntax = o->from == FROM_TEXT   ? SYNTAX_TEXT
                   : o->from == FROM_ONNX ? SYNTAX_PROTOBUF
                                          : SYNTAX_AUTO;
        return frontend_read(c, o->input, &f);
    }
    const char *slash = strrchr(o->input, '/'), *text = read_text(c, o->input);
    if (o->ndim)
        diag(c, SEV_ERROR, (Loc){0}, "E0143",
             "--dim does not apply to IR text, which declares its own ranges");
    if (!text || o->ndim) return NULL;
    if (files && strcmp(o->input, "-")) vec_push(c, &files->path, ctx_str(c, o->input));
    Graph *g = graph_parse(c, text, slash ? slash + 1 : o->input);
    return g && graph_verify(g, "parsing") ? g : NULL;
}

static PassOptions pass_options(Job *j, const Target *t) {
    const CompileOptions *o = j->o;
    return (PassOptions){.target = t,
                         .level = o->level,
                         .only = o->passes,
                         .stop_after = o->stop_after,
                         .dump_after = o->dump_after,
                         .dump = j->info,
                         .verify_each = o->verify_each,
                         .time_passes = o->time_passes,
                         .bisect = o->bisect,
                         .explain = o->explain,
                         .explain_out = o->explain ? &j->explain : NULL};
}

static bool run_passes(Job *j, Graph *g, const Target *t) {
    PassOptions p = pass_options(j, t);
    if (j->o->stop_after && !strcmp(j->o->stop_after, "import")) return true;
    return passes_run(g, &p);
}

/* Everything that decides the artefact besides the model; no path, so that builds agree wherever
 * they happen. */
static const char *options_digest(Job *j) {
    const CompileOptions *o = j->o;
    Buf b = {.c = j->c};
    buf_printf(&b, "%s O%d %s %s %s", ACCELC_VERSION, o->level, j->name, o->executor, o->precision);
    for (uint32_t i = 0; i < j->ntarget; i++) buf_printf(&b, " %s", j->target[i]->name);
    for (uint32_t i = 0; i < j->ngpu; i++) buf_printf(&b, " %s%s", j->gpu[i]->name, o->cubin ? "+cubin" : "");
    for (uint32_t i = 0; i < o->ndim; i++)
        buf_printf(&b, " %s=%lld..%lld", o->dim[i].name, (long long)o->dim[i].lo,
                   (long long)o->dim[i].hi);
    buf_printf(&b, " %s %s %u", o->passes ? o->passes : "-", o->sched ? o->sched : "-", o->bisect);
    return buf_str(&b);
}

static bool write_code(Job *j, Graph *g, Output *out, Output *header) {
    Program *program[2 * MAX_TARGETS];
    uint32_t executor;
    if (!find_executor(j->c, j->o->executor, &executor)) return false;
    double t0 = seconds();
    for (uint32_t i = 0; i < j->ntarget; i++) {
        Graph *copy = i + 1 < j->ntarget ? graph_clone(g) : g;
        PassOptions p = pass_options(j, j->target[i]);
        if (!run_passes(j, copy, j->target[i]) || !(program[i] = passes_plan(copy, &p)))
            return false;
    }
    j->passes = seconds() - t0;
    CodegenOptions co = {.emit = emit_kind(j->emit),
                         .name = j->name,
                         .target = j->target,
                         .ntarget = j->ntarget,
                         .gpu = j->gpu,
                         .ngpu = j->ngpu,
                         .cubin = j->o->cubin,
                         .executor = executor,
                         .producer = "accelc " ACCELC_VERSION,
                         .options_digest = options_digest(j),
                         .sched = j->o->sched};
    t0 = seconds();
    bool ok = codegen_write(j->c, program, &co, out->temp, &j->stats);
    if (ok && header->open) {
        CodegenStats ignored;
        co.emit = EMIT_HEADER;
        ok = codegen_write(j->c, program, &co, header->temp, &ignored);
    }
    j->codegen = seconds() - t0;
    return ok;
}

static bool write_ir(Job *j, Graph *g, Output *out) {
    Buf b = {.c = j->c};
    double t0 = seconds();
    if (!run_passes(j, g, j->target[0])) return false;
    j->passes = seconds() - t0;
    graph_print(&b, g);
    return output_text(out, buf_str(&b));
}

/* A make rule: output: inputs. Spaces, '#' and '$' are escaped as make wants it. */
static void put_path(Buf *b, const char *s) {
    for (; *s; s++) buf_printf(b, "%s%c", *s == '$' ? "$" : *s == ' ' || *s == '#' ? "\\" : "", *s);
}

static bool write_depfile(Job *j) {
    Buf b = {.c = j->c};
    Output out;
    put_path(&b, j->o->deptarget ? j->o->deptarget : j->o->output);
    buf_puts(&b, ":");
    for (uint32_t i = 0; i < j->files.path.n; i++) {
        buf_puts(&b, " ");
        put_path(&b, j->files.path.v[i]);
    }
    buf_puts(&b, "\n");
    for (uint32_t i = 0; i < j->files.path.n;
         i++) { /* as compilers do: a file that disappears is no error for make */
        buf_puts(&b, "\n");
        put_path(&b, j->files.path.v[i]);
        buf_puts(&b, ":\n");
    }
    return output_begin(&out, j->c, j->o->depfile, false) && output_text(&out, buf_str(&b)) &&
           output_commit(&out);
}

static void print_stats(Job *j) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    const CodegenStats *s = &j->stats;
    fprintf(j->info,
            "read      %8.1f ms\npasses    %8.1f ms\ncodegen   %8.1f ms  (LLVM %.1f, link "
            "%.1f)\ntotal     %8.1f ms\n",
            1e3 * j->read, 1e3 * j->passes, 1e3 * j->codegen, 1e3 * s->llvm_seconds,
            1e3 * s->link_seconds, 1e3 * (seconds() - j->start));
    fprintf(j->info,
            "kernels   %8u     (%u different)\ncode      %8.1f KiB\nweights   %8.1f KiB\narena     "
            "%8.1f KiB\n",
            s->kernels, s->unique_kernels, (double)s->code_bytes / 1024,
            (double)s->weight_bytes / 1024, (double)s->arena_bytes / 1024);
    fprintf(j->info, "peak      %8.1f MiB    (compiler's memory)\n", (double)u.ru_maxrss / 1024);
}

/* x.a -> x.h */
static const char *header_path(Job *j) {
    size_t n = strlen(j->o->output);
    return ctx_printf(j->c, "%.*s.h", (int)(ends_with(j->o->output, ".a") ? n - 2 : n),
                      j->o->output);
}

bool accelc_compile(Ctx *c, const CompileOptions *o, FILE *info) {
    Job j = {.c = c, .o = o, .info = info, .start = seconds(), .explain = {.c = c}};
    Output out = {0}, header = {0};
    j.emit = output_kind(o);
    j.name = o->name ? o->name : compile_name(c, strcmp(o->output, "-") ? o->output : o->input);
    bool with_header = j.emit == OUT_ARCHIVE && strcmp(o->output, "-");
    bool ok = find_targets(&j) && output_begin(&out, c, o->output, j.emit == OUT_SO) &&
              (!with_header || output_begin(&header, c, header_path(&j), false));
    Graph *g = ok ? compile_read(c, o, &j.files) : NULL;
    j.read = seconds() - j.start;
    if (g && o->verbose)
        fprintf(info, "%s: %u inputs, %u outputs, %u nodes\n", o->input, g->in.n, g->out.n,
                g->node.n);
    ok = g && (!o->verify_each || graph_verify(g, "import"));
    ok = ok && (j.emit == OUT_IR ? write_ir(&j, g, &out) : write_code(&j, g, &out, &header));
    ok = ok && !ctx_errors(c);
    ok = ok && (!header.open || output_commit(&header)) && (!o->depfile || write_depfile(&j)) &&
         output_commit(&out);
    output_abandon(&out);
    output_abandon(&header);
    if (o->explain) fputs(j.explain.n ? buf_str(&j.explain) : "--explain: no value or node of that name was seen\n", info);
    if (ok && o->stats) print_stats(&j);
    if (!ok && !ctx_errors(c))
        diag(c, SEV_ERROR, (Loc){0}, "E0500", "compilation of \"%s\" failed", o->input);
    return ok;
}

bool compile_passes(Ctx *c, const CompileOptions *o, Graph *g) {
    Job j = {.c = c, .o = o, .info = stderr, .explain = {.c = c}};
    return find_targets(&j) && run_passes(&j, g, j.target[0]);
}

bool compile_describe(Ctx *c, const CompileOptions *o, Graph *g, Buf *b) {
    Job j = {.c = c, .o = o, .info = stderr, .explain = {.c = c}};
    if (!find_targets(&j) || !run_passes(&j, g, j.target[0])) return false;
    PassOptions po = pass_options(&j, j.target[0]);
    Program *p = passes_plan(g, &po);
    if (!p) return false;
    buf_printf(b, "memory\n  %lld bytes planned%s\nkernels for %s\n", (long long)p->arena,
               dim_nsyms(c) ? " before sizes are known" : "", j.target[0]->name);
    return codegen_describe(c, p, j.target[0], b);
}

void compile_list_passes(Buf *b) { passes_list(b); }
const char *compile_list_targets(void) { return target_names(); }
const char *compile_list_templates(Ctx *c) { return codegen_templates(c); }
