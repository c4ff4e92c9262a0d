/* accelc.c: the command. One table of options drives parsing and --help; the work is in compile.c
 * and tools.c. Exit status: 0 success, 1 the input or the machine is at fault (messages on standard
 * error), 2 wrong usage. */
#include "frontend/frontend.h"
#include "runtime/accelc_rt.h"
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct Args {
    CompileOptions c;
    EvalFiles eval_files;
    uint64_t seed;
    const char *extract;
    bool eval, inspect, bench, depend;
    int nrest; /* of bench: what follows the model is accelc-run's */
    char *const *rest;
    bool help, version, list_ops, list_passes, list_targets, list_templates;
} Args;

typedef enum { FLAG, TEXT, NUMBER, CHOICE, FORM, DIM, IN_FILE, OUT_FILE } OptKind;
typedef struct Opt {
    const char *name, *arg; /* arg NULL: none */
    OptKind kind;
    size_t offset; /* in Args */
    const char *help;
} Opt;
#define AT(f) offsetof(Args, f)
/* clang-format off */
static const Opt options[] = {
    {NULL, NULL, FLAG, 0, "Output"},
    {"-o", "FILE", TEXT, AT(c.output),
     "write FILE; its ending decides: .so, .o, .a (with a header), .ir, .ll, .s, .ptx, .h;\n"
     "- is standard output"},
    {"--emit", "KIND", CHOICE, AT(c.emit),
     "so, obj, archive, header, or a listing: ir, kernels, lir, llvm, asm, ptx"},
    {"--name", "NAME", TEXT, AT(c.name),
     "name of the model, a C identifier (default: from the file's name)"},
    {"--target", "LIST", TEXT, AT(c.target),
     "CPU levels, separated by commas; several make one fat artefact:\n"
     "host (default), x86-64, x86-64-v3, x86-64-v4; cuda: a GPU of NVIDIA's"},
    {"--gpu", "LIST", TEXT, AT(c.gpu),
     "architectures of cuda and --emit=ptx, separated by commas; each is a text of its own:\n"
     "sm_80 (default, runs on all newer ones), sm_86, sm_89, sm_90; sm_90a is a level of\n"
     "its own, with other kernels"},
    {"--cubin", NULL, FLAG, AT(c.cubin),
     "machine code for each of them besides the text, by ptxas of a CUDA toolkit\n"
     "($ACCELC_PTXAS, PATH, /usr/local/cuda/bin): saves the driver's compilation"},
    {"--executor", "NAME", TEXT, AT(c.executor),
     "who runs the work by default: team (of threads), serial, openmp"},
    {"-MD", NULL, FLAG, AT(depend),
     "write a rule for make next to the output, naming every file that was read"},
    {"-MF", "FILE", TEXT, AT(c.depfile), "write that rule to FILE"},
    {"-MT", "NAME", TEXT, AT(c.deptarget), "the rule's target (default: the output)"},
    {NULL, NULL, FLAG, 0, "Input"},
    {"--from", "FORM", FORM, AT(c.from),
     "onnx, text (ONNX textual syntax), ir (accelc's own); default: by name and content"},
    {"--dim", "NAME=N", DIM, 0, "bind a symbolic dimension"},
    {"--dim", "NAME=LO..HI", DIM, 0, "declare its range (HI may be left out)"},
    {NULL, NULL, FLAG, 0, "Evaluation without compiling"},
    {"--eval", NULL, FLAG, AT(eval),
     "run the model in the reference evaluator and print or write its outputs;\nas imported, or "
     "after the passes of --passes or --stop-after"},
    {"--input", "NAME=FILE", IN_FILE, 0, "value of an input, a .npy file"},
    {"--output", "NAME=FILE", OUT_FILE, 0, "where to write an output (default: print all)"},
    {"--seed", "N", NUMBER, AT(seed), "of random operators"},
    {NULL, NULL, FLAG, 0, "Models that cannot be compiled"},
    {"--extract-failing", "FILE", TEXT, AT(extract),
     "write an ONNX model of just the nodes that fail, with what is known of\ntheir operands"},
    {NULL, NULL, FLAG, 0, "Optimisation"},
    {"-O", "<N>", NUMBER, AT(c.level), "0 (fold and fuse only), 1, 2 (default)"},
    {"--precision", "TYPE", TEXT, AT(c.precision),
     "factors of products of float32 matrices and of convolutions on GPUs: float32 (default),\n"
     "or rounded to tf32, bf16, f16 for the matrix units; sums are float32"},
    {"--passes", "LIST", TEXT, AT(c.passes),
     "run just these passes, in this order, and print the IR"},
    {"--stop-after", "PASS", TEXT, AT(c.stop_after),
     "print the IR after PASS; \"import\": before all of them"},
    {"--dump-after", "PASS", TEXT, AT(c.dump_after),
     "print the IR to standard error after PASS, or after \"all\" that changed it"},
    {"--verify-each", NULL, FLAG, AT(c.verify_each), "check the IR after every pass"},
    {"--time-passes", NULL, FLAG, AT(c.time_passes), "print the time that each pass took"},
    {"--bisect", "N", NUMBER, AT(c.bisect), "stop rewriting after N changes"},
    {"--explain", "VALUE", TEXT, AT(c.explain), "say what the passes decided about VALUE, and why"},
    {"--sched", "TEXT", TEXT, AT(c.sched),
     "prefer a template, \"NAME [PARAMETER=VALUE ..]\" as --emit=kernels prints it, for\nkernels that it can compile so"},
    {"--tuned", "FILE", TEXT, AT(c.tuned), "schedules that were the fastest on a device, as tests/gpu/tune.py writes them"},
    {NULL, NULL, FLAG, 0, "Information"},
    {"--stats", NULL, FLAG, AT(c.stats), "print times, sizes and peak memory of the compilation"},
    {"--list-ops", NULL, FLAG, AT(list_ops),
     "list the supported ONNX operators: versions, operands, results; a line for each\nmeaning (also: accelc list-ops)"},
    {"--list-passes", NULL, FLAG, AT(list_passes), "list the passes in order"},
    {"--list-targets", NULL, FLAG, AT(list_targets), "list the CPU levels"},
    {"--list-templates", NULL, FLAG, AT(list_templates), "list the templates of kernels"},
    {"-v", NULL, FLAG, AT(c.verbose), "say what is being done"},
    {"--version", NULL, FLAG, AT(version), "print the version"},
    {"--help", NULL, FLAG, AT(help), "print this help (also -h)"},
};
/* clang-format on */
enum { NOPTIONS = sizeof options / sizeof *options, HELP_COLUMN = 26 };

/* clang-format off */
static const struct { const char *name; OutputKind kind; bool listing; } emit_kinds[] = {
    {"so", OUT_SO, false},
    {"obj", OUT_OBJ, false},
    {"archive", OUT_ARCHIVE, false},
    {"header", OUT_HEADER, true},
    {"ir", OUT_IR, true},
    {"kernels", OUT_KERNELS, true},
    {"lir", OUT_LIR, true},
    {"llvm", OUT_LLVM, true},
    {"asm", OUT_ASM, true},
    {"ptx", OUT_PTX, true},
};
/* clang-format on */
static const struct {
    const char *name;
    InputKind kind;
} input_kinds[] = {
    {"auto", FROM_AUTO},
    {"onnx", FROM_ONNX},
    {"text", FROM_TEXT},
    {"ir", FROM_IR},
};

static int usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static int usage(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    fputs("accelc: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs("\nTry 'accelc --help'.\n", stderr);
    va_end(ap);
    return 2;
}

static void print_help(FILE *out) {
    fputs(
        "accelc compiles ONNX models to self-contained machine code.\n\n"
        "Usage:\n"
        "  accelc [options] MODEL -o FILE       compile MODEL (.onnx, ONNX text, accelc IR, or - "
        "for standard input)\n"
        "  accelc --eval MODEL --input x=x.npy  run it in the reference evaluator\n"
        "  accelc inspect [options] FILE        describe a model, or an artefact made by accelc\n"
        "  accelc bench [options] FILE [..]     measure its steps; what follows are options of accelc-run:\n"
        "                                       --device, --repeat, --input, --dim, --threads, --json ..\n",
        out);
    for (size_t i = 0; i < NOPTIONS; i++) {
        const Opt *o = &options[i];
        if (!o->name) {
            fprintf(out, "\n%s:\n", o->help);
            continue;
        }
        const char *join = !o->arg || *o->arg == '<'                  ? ""
                           : o->name[1] != '-' || strchr(o->arg, '=') ? " "
                                                                      : "=";
        int n = fprintf(out, "  %s%s%s", o->name, join, o->arg ? o->arg : "");
        for (const char *s = o->help; *s;) {
            size_t k = strcspn(s, "\n");
            fprintf(out, "%*s%.*s\n", n < HELP_COLUMN ? HELP_COLUMN - n : 1, "", (int)k, s);
            n = 0;
            s += k + (s[k] == '\n');
        }
    }
    fputs("\nExit status: 0 success, 1 error in the input or while writing, 2 wrong usage.\n", out);
}

/* ---- values ---- */

static bool parse_int(const char *s, const char **end, int64_t *v) {
    char *e;
    errno = 0;
    if (!isdigit((unsigned char)*s)) return false;
    *v = strtoll(s, &e, 10);
    *end = e;
    return !errno;
}

static bool parse_dim(const char *s, DimOption *d, Ctx *c) {
    const char *eq = strrchr(s, '='), *p = eq ? eq + 1 : s;
    if (!eq || eq == s || !parse_int(p, &p, &d->lo)) return false;
    d->name = ctx_strn(c, s, (size_t)(eq - s));
    d->hi = d->lo;
    if (!strncmp(p, "..", 2)) {
        d->hi = DIM_INF;
        p += 2;
        if (*p && !parse_int(p, &p, &d->hi)) return false;
    }
    return !*p && d->lo <= d->hi;
}

static bool is_identifier(const char *s) {
    bool ok = *s && !isdigit((unsigned char)*s);
    for (; *s && ok; s++) ok = isalnum((unsigned char)*s) || *s == '_';
    return ok;
}

static bool parse_file(const char *s, NamedFile *list, uint32_t *n, Ctx *c) {
    const char *eq = strrchr(s, '=');
    if (!eq || eq == s || !eq[1]) return false;
    list[(*n)++] = (NamedFile){ctx_strn(c, s, (size_t)(eq - s)), eq + 1};
    return true;
}

static bool set_number(Args *a, const Opt *o, const char *v) {
    int64_t x;
    const char *end;
    void *to = (char *)a + o->offset;
    if (!parse_int(v, &end, &x) || *end) return false;
    if (o->offset == AT(c.level)) {
        if (x > 3) return false;
        *(int *)to = (int)x;
    } else if (o->offset == AT(c.bisect)) {
        if (x >= UINT32_MAX) return false;
        *(uint32_t *)to = (uint32_t)x;
    } else {
        *(uint64_t *)to = (uint64_t)x;
    }
    return true;
}

/* false: v is not a value for this option. */
static bool set(Args *a, Ctx *c, const Opt *o, const char *v) {
    void *to = (char *)a + o->offset;
    switch (o->kind) {
    case FLAG:
        *(bool *)to = true;
        return true;
    case TEXT:
        *(const char **)to = v;
        return o->offset != AT(c.name) || is_identifier(v);
    case NUMBER:
        return set_number(a, o, v);
    case DIM:
        return parse_dim(v, &a->c.dim[a->c.ndim++], c);
    case IN_FILE:
        return parse_file(v, a->eval_files.in, &a->eval_files.nin, c);
    case OUT_FILE:
        return parse_file(v, a->eval_files.out, &a->eval_files.nout, c);
    case CHOICE:
        for (size_t i = 0; i < sizeof emit_kinds / sizeof *emit_kinds; i++)
            if (!strcmp(emit_kinds[i].name, v)) {
                a->c.emit = emit_kinds[i].kind;
                return true;
            }
        return false;
    case FORM:
        for (size_t i = 0; i < sizeof input_kinds / sizeof *input_kinds; i++)
            if (!strcmp(input_kinds[i].name, v)) {
                a->c.from = input_kinds[i].kind;
                return true;
            }
        return false;
    }
    return false;
}

/* The option that word s names, and its attached value (--name=value, -O2, -oFILE), or NULL. */
static const Opt *find_option(const char *s, const char **value) {
    const Opt *best = NULL;
    *value = NULL;
    for (size_t i = 0; i < NOPTIONS; i++) {
        const Opt *o = &options[i];
        size_t n = o->name ? strlen(o->name) : 0;
        if (!n || strncmp(s, o->name, n)) continue;
        bool exact = !s[n], attached = o->arg && (o->name[1] == '-' ? s[n] == '=' : s[n] != 0);
        if (!exact && (!attached || best)) continue;
        best = o;
        *value = exact ? NULL : s + n + (s[n] == '=' && o->name[1] == '-');
        if (exact) break;
    }
    return best;
}

/* -1: go on; else an exit status. */
static int parse_args(Args *a, Ctx *c, int argc, char **argv) {
    bool only_files = false;
    compile_defaults(&a->c);
    a->c.dim = NEWN(c, DimOption, argc);
    a->eval_files.in = NEWN(c, NamedFile, argc);
    a->eval_files.out = NEWN(c, NamedFile, argc);
    for (int i = 1; i < argc; i++) {
        const char *s = argv[i], *v;
        if (only_files || *s != '-' || !s[1]) {
            if (i == 1 && !strcmp(s, "inspect"))
                a->inspect = true;
            else if (i == 1 && !strcmp(s, "bench"))
                a->bench = true;
            else if (i == 1 && !strcmp(s, "list-ops"))
                a->list_ops = true;
            else if (a->c.input)
                return usage("two models are given: %s and %s", a->c.input, s);
            else
                a->c.input = s;
            if (a->bench && a->c.input) {
                a->nrest = argc - i - 1;
                a->rest = argv + i + 1;
                break;
            }
            continue;
        }
        if (!strcmp(s, "--")) {
            only_files = true;
            continue;
        }
        const Opt *o = find_option(strcmp(s, "-h") ? s : "--help", &v);
        if (!o) return usage("unknown option %s", s);
        if (o->arg && !v) {
            if (++i == argc) return usage("option %s needs a value: %s", o->name, o->arg);
            v = argv[i];
        }
        if (!set(a, c, o, v))
            return usage("option %s: \"%s\" is not a valid %s", o->name, v, o->arg);
    }
    return -1;
}

/* ---- inspect ---- */

static void print_accelc_ports(Buf *b, const char *title, const accelc_port *p, int32_t n) {
    buf_printf(b, "%s\n", title);
    for (int32_t i = 0; i < n; i++) buf_printf(b, "  %s %s\n", p[i].name, p[i].type);
}

/* The declared range of a symbol is that of the input dim which it alone is. */
static void print_symbols(Buf *b, const accelc_desc *d) {
    if (d->nsym) buf_puts(b, "dims\n");
    for (int32_t s = 0; s < d->nsym; s++) {
        const accelc_dim *found = NULL;
        for (int32_t i = 0; i < d->nin; i++)
            for (int32_t k = 0; k < d->in[i].rank; k++)
                if (!found && !strcmp(d->in[i].dims[k].expr, d->sym[s])) found = &d->in[i].dims[k];
        if (found)
            print_range(b, d->sym[s], found->min, found->max);
        else
            buf_printf(b, "  %s (computed)\n", d->sym[s]);
    }
}

/* What a compiled model says about itself; it has to be loaded for that. */
static bool inspect_artefact(Ctx *c, const char *path, FILE *out) {
    void *so =
        dlopen(strchr(path, '/') ? path : ctx_printf(c, "./%s", path), RTLD_NOW | RTLD_LOCAL);
    const accelc_api *(*entry)(void) = NULL;
    void *sym = so ? dlsym(so, "accelc_main") : NULL;
    memcpy(&entry, &sym, sizeof entry); /* ISO C has no cast from object to function pointers */
    const accelc_api *api = sym ? entry() : NULL;
    if (!api || api->abi != ACCELC_ABI) {
        diag(c, SEV_ERROR, (Loc){0}, "E0512", "\"%s\" is not a model compiled by accelc: %s", path,
             !so    ? dlerror()
             : !sym ? "it has no accelc_main"
                    : "it has another version of the ABI");
        if (so) dlclose(so);
        return false;
    }
    const accelc_desc *d = api->desc;
    Buf b = {.c = c};
    buf_printf(&b, "model %s, %s, for %s, digest %s\n", d->name, d->producer, d->target, d->digest);
    print_accelc_ports(&b, "inputs", d->in, d->nin);
    print_accelc_ports(&b, "outputs", d->out, d->nout);
    print_symbols(&b, d);
    buf_printf(&b, "memory\n  weights %llu bytes\n  code %llu bytes\n",
               (unsigned long long)d->weight_bytes, (unsigned long long)d->code_bytes);
    uint64_t arena, scratch;
    if (!d->nsym && api->sizes(NULL, &arena, &scratch, NULL) == ACCELC_OK)
        buf_printf(&b, "  arena %llu bytes\n  scratch %llu bytes per thread\n",
                   (unsigned long long)arena, (unsigned long long)scratch);
    buf_puts(&b, "kernels\n");
    const char *kernel, *nodes;
    for (int i = 0; api->step_name(i, &kernel, &nodes) == ACCELC_OK; i++)
        if (kernel && *kernel)
            buf_printf(&b, "  %s%s%s\n", kernel, nodes && *nodes ? "  # " : "", nodes ? nodes : "");
    fputs(buf_str(&b), out);
    dlclose(so);
    return true;
}

/* ---- the command ---- */

static bool is_listing(const Args *a) {
    bool listing = a->c.passes || a->c.stop_after;
    for (size_t i = 0; i < sizeof emit_kinds / sizeof *emit_kinds; i++)
        listing |= emit_kinds[i].listing && emit_kinds[i].kind == a->c.emit;
    return listing;
}

/* Names that follow from others. -1: go on. */
static int complete_args(Args *a, Ctx *c) {
    CompileOptions *o = &a->c;
    if (!o->input) return usage("no model is given");
    if (a->eval + a->inspect + a->bench + (a->extract != NULL) > 1)
        return usage("inspect, bench, --eval and --extract-failing exclude each other");
    if (a->bench && (o->output || o->emit || is_listing(a))) return usage("bench writes no output of the compiler");
    if (a->eval || a->inspect) return -1;
    if (a->eval_files.nin || a->eval_files.nout) return usage("--input and --output need --eval");
    if (a->extract || a->bench) return -1;
    if (!o->output && is_listing(a)) o->output = "-";
    if (!o->output && !strcmp(o->input, "-")) return usage("no output is given: -o FILE");
    if (!o->output) {
        const char *slash = strrchr(o->input, '/'), *base = slash ? slash + 1 : o->input,
                   *dot = strrchr(base, '.');
        o->output = ctx_printf(c, "%.*s%s",
                               dot && dot != base ? (int)(dot - base) : (int)strlen(base), base,
                               o->emit == OUT_OBJ       ? ".o"
                               : o->emit == OUT_ARCHIVE ? ".a"
                                                        : ".so");
    }
    if ((a->depend || o->depfile) && !strcmp(o->output, "-") && !o->deptarget)
        return usage("a rule for make needs an output file, or -MT NAME");
    if (a->depend && !o->depfile) {
        const char *slash = strrchr(o->output, '/'), *dot = strrchr(o->output, '.');
        size_t n = dot && (!slash || dot > slash) ? (size_t)(dot - o->output) : strlen(o->output);
        o->depfile = ctx_printf(c, "%.*s.d", (int)n, o->output);
    }
    return -1;
}

static bool list(const Args *a, Ctx *c) {
    Buf b = {.c = c};
    if (a->help) print_help(stdout);
    if (a->version) puts("accelc " ACCELC_VERSION);
    if (a->list_ops) frontend_list_ops(&b);
    if (a->list_passes) compile_list_passes(&b);
    if (a->list_targets) buf_printf(&b, "%s\n", compile_list_targets());
    if (a->list_templates) buf_puts(&b, compile_list_templates(c));
    fputs(buf_str(&b), stdout);
    return a->help || a->version || a->list_ops || a->list_passes || a->list_targets ||
           a->list_templates;
}

/* Names from a file may hold control characters: those do not reach the terminal. */
static void print_messages(const char *s) {
    for (; *s; s++) fputc(((unsigned char)*s < ' ' && *s != '\n') || *s == 127 ? '?' : *s, stderr);
}

static bool ends_with_so(const char *s) {
    size_t n = strlen(s);
    return n > 3 && !strcmp(s + n - 3, ".so");
}

static int run(Args *a, Ctx *c, int argc, char **argv) {
    int status = parse_args(a, c, argc, argv);
    if (status >= 0) return status;
    if (list(a, c)) return 0;
    if ((status = complete_args(a, c)) >= 0) return status;
    bool ok;
    if (a->eval) {
        Graph *g = compile_read(c, &a->c, NULL);
        a->eval_files.seed = a->seed;
        bool as_imported = !a->c.passes && !a->c.stop_after;
        ok = g && (as_imported || compile_passes(c, &a->c, g)) &&
             tool_eval(c, g, &a->eval_files, stdout);
    } else if (a->extract) {
        ok = extract_failing(c, &a->c, a->extract, strcmp(a->extract, "-") ? stdout : stderr);
    } else if (a->bench) {
        status = tool_bench(c, &a->c, ends_with_so(a->c.input), a->nrest, a->rest);
        print_messages(ctx_messages(c));
        return status;
    } else if (a->inspect) {
        ok = ends_with_so(a->c.input) ? inspect_artefact(c, a->c.input, stdout)
                                      : tool_inspect_model(c, &a->c, stdout);
    } else {
        ok = accelc_compile(c, &a->c, stderr);
    }
    print_messages(ctx_messages(c));
    return ok ? 0 : 1;
}

int main(int argc, char **argv) {
    Ctx *c = ctx_new();
    Args a = {0};
    int status = run(&a, c, argc, argv);
    if ((fflush(stdout) || ferror(stdout)) && status == 0) {
        fprintf(stderr, "accelc: cannot write to standard output: %s\n", strerror(errno));
        status = 1;
    }
    ctx_free(c);
    return status;
}
