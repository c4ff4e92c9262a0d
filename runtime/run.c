/* run.c: accelc-run, which loads a compiled model and runs it: tensors from and to .npy files,
 * random ones where no file is given, latencies, times of steps. A user of accelc_rt.h like any
 * other. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "accelc_rt.h"
#include "npy.h"
#include "profile.h"

#ifndef ACCELC_VERSION
#define ACCELC_VERSION "of no known version"
#endif

static const char usage[] =
    "accelc-run runs a model that accelc compiled to a .so.\n"
    "\n"
    "Usage:\n"
    "  accelc-run [options] MODEL.so\n"
    "\n"
    "Inputs and outputs:\n"
    "  --input NAME=FILE       value of an input, a .npy file; those not given are random, optional ones absent\n"
    "  --output NAME=FILE      where to write an output\n"
    "  --dim SYMBOL=N          a size for random inputs (default: the least that the model allows, but 1)\n"
    "  --seed N                of random inputs and of random operators\n"
    "\n"
    "Where and how:\n"
    "  --device WHERE          a GPU by its number (0, 1, ..), or cpu; by default GPU 0 if the model has code for it and\n"
    "                          it can be used, else the CPU\n"
    "  --cpu LEVEL             force a CPU level of the model, e.g. x86-64-v3\n"
    "  --threads N             default 0: all usable CPUs\n"
    "  --executor KIND         model: as compiled (default); serial; gang, tasks: threads of this program\n"
    "  --weights FILE          for a model whose weights are kept outside\n"
    "  --code-cache FOLDER     keeps what a GPU's driver makes of PTX, for the next process (default: $ACCELC_CUDA_CACHE, if set)\n"
    "  --map-weights           large weights stay pages of the model's file, which processes share, rather than huge pages\n"
    "\n"
    "Measuring:\n"
    "  --repeat N              timed runs, default 1\n"
    "  --warmup N              runs before those, default 0\n"
    "  --profile               time of every step (on GPUs by its clock: events around each kernel), median of the\n"
    "                          runs, with the bytes that it has to move and its arithmetic\n"
    "  --json FILE             write what was measured as JSON; - is standard output, which then has nothing else\n"
    "\n"
    "Information:\n"
    "  --info                  print the model's description and stop\n"
    "  --version               print the version\n"
    "  --help                  print this help (also -h)\n"
    "\n"
    "Exit status: 0 success, 1 something failed, 2 wrong usage.\n";

#define MAX_BINDINGS 256
typedef struct {
    const char *name, *value;
    size_t len;
} Binding; /* NAME=VALUE of the command line */

typedef struct {
    const char *model, *executor, *cpu, *weights, *json, *code_cache;
    Binding in[MAX_BINDINGS], out[MAX_BINDINGS], dim[MAX_BINDINGS];
    int nin, nout, ndim;
    int64_t repeat, warmup, threads, seed, device; /* device: as in accelc_config */
    int profile, info, map_weights;
} Options;

static _Noreturn void die(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static _Noreturn void die(int status, const char *fmt, ...) {
    va_list ap;
    fputs("accelc-run: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputs(status == 2 ? "; --help shows how it is used\n" : "\n", stderr);
    exit(status);
}

static void *need(void *p) {
    if (!p) die(1, "out of memory");
    return p;
}

/* ---- the command line ---- */

static int64_t integer(const char *option, const char *text, int64_t least) {
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || errno || v < least)
        die(2, "%s: expected a number of at least %lld, got \"%s\"", option, (long long)least,
            text);
    return v;
}

/* As accelc_config counts: the host is -1, GPU n is n + 1. */
static int64_t device(const char *text) {
    if (strcmp(text, "cpu") == 0) return -1;
    if (text[0] < '0' || text[0] > '9') die(2, "--device: expected cpu or the number of a GPU, got \"%s\"", text);
    int64_t n = integer("--device", text, 0);
    if (n >= INT32_MAX) die(2, "--device: %s is too large", text);
    return n + 1;
}

static void binding(const char *option, const char *text, Binding *list, int *n) {
    const char *eq = strrchr(text, '='); /* names of tensors may contain '=' */
    if (!eq || eq == text || !eq[1]) die(2, "%s: expected NAME=VALUE, got \"%s\"", option, text);
    if (*n == MAX_BINDINGS) die(2, "%s is given more than %d times", option, MAX_BINDINGS);
    list[(*n)++] = (Binding){text, eq + 1, (size_t)(eq - text)};
}

static const char *find(const Binding *list, int n, const char *name) {
    for (int i = n; i-- > 0;)
        if (strlen(name) == list[i].len && strncmp(name, list[i].name, list[i].len) == 0)
            return list[i].value;
    return NULL;
}

static void parse(int argc, char **argv, Options *o) {
    *o = (Options){.executor = "model", .repeat = 1};
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            fputs(usage, stdout);
            exit(0);
        }
        if (strcmp(a, "--version") == 0) {
            puts("accelc-run " ACCELC_VERSION);
            exit(0);
        }
        if (strcmp(a, "--profile") == 0) {
            o->profile = 1;
            continue;
        }
        if (strcmp(a, "--info") == 0) {
            o->info = 1;
            continue;
        }
        if (strcmp(a, "--map-weights") == 0) {
            o->map_weights = 1;
            continue;
        }
        if (a[0] != '-') {
            if (o->model) die(2, "two models: %s and %s", o->model, a);
            o->model = a;
            continue;
        }
        if (!v) die(2, "%s is no option, or lacks its value", a);
        i++;
        if (strcmp(a, "--input") == 0)
            binding(a, v, o->in, &o->nin);
        else if (strcmp(a, "--output") == 0)
            binding(a, v, o->out, &o->nout);
        else if (strcmp(a, "--dim") == 0)
            binding(a, v, o->dim, &o->ndim);
        else if (strcmp(a, "--seed") == 0)
            o->seed = integer(a, v, 0);
        else if (strcmp(a, "--threads") == 0)
            o->threads = integer(a, v, 0);
        else if (strcmp(a, "--repeat") == 0)
            o->repeat = integer(a, v, 1);
        else if (strcmp(a, "--warmup") == 0)
            o->warmup = integer(a, v, 0);
        else if (strcmp(a, "--executor") == 0)
            o->executor = v;
        else if (strcmp(a, "--device") == 0)
            o->device = device(v);
        else if (strcmp(a, "--cpu") == 0)
            o->cpu = v;
        else if (strcmp(a, "--json") == 0)
            o->json = v;
        else if (strcmp(a, "--weights") == 0)
            o->weights = v;
        else if (strcmp(a, "--code-cache") == 0)
            o->code_cache = v;
        else
            die(2, "there is no option %s", a);
    }
    if (!o->model) die(2, "which model?");
    if (o->repeat > 100000000 || o->threads > 4096) die(2, "--repeat or --threads is too large");
}

/* ---- sizes of random inputs ---- */

typedef struct {
    const char *p;
    const Options *o;
    const accelc_desc *d;
    const int64_t *sym;
    int bad;
} Expr;

static int64_t sum(Expr *e);

static char peek(Expr *e) {
    while (*e->p == ' ') e->p++;
    return *e->p;
}

static int64_t atom(Expr *e) {
    char c = peek(e);
    if (c == '(') {
        e->p++;
        int64_t v = sum(e);
        e->bad |= peek(e) != ')';
        e->p += *e->p == ')';
        return v;
    }
    if (c >= '0' && c <= '9') {
        char *end;
        int64_t v = strtoll(e->p, &end, 10);
        e->p = end;
        return v;
    }
    size_t n = strcspn(e->p, " ()+-*/,");
    for (int i = 0; i < e->d->nsym && n > 0; i++)
        if (strlen(e->d->sym[i]) == n && strncmp(e->d->sym[i], e->p, n) == 0) {
            e->p += n;
            return e->sym[i];
        }
    e->bad = 1;
    return 0;
}

static int64_t product(Expr *e) {
    int64_t v = atom(e), w;
    for (char c; !e->bad && ((c = peek(e)) == '*' || c == '/');) {
        e->p++;
        w = atom(e);
        if (c == '*')
            e->bad |= __builtin_mul_overflow(v, w, &v);
        else if (w > 0)
            v /= w;
        else
            e->bad = 1;
    }
    return v;
}

static int64_t sum(Expr *e) {
    int64_t v = product(e), w;
    for (char c; !e->bad && ((c = peek(e)) == '+' || c == '-');) {
        e->p++;
        w = product(e);
        e->bad |= c == '+' ? __builtin_add_overflow(v, w, &v) : __builtin_sub_overflow(v, w, &v);
    }
    return v;
}

static int symbol(const accelc_desc *d, const char *name) {
    for (int i = 0; i < d->nsym; i++)
        if (strcmp(d->sym[i], name) == 0) return i;
    return -1;
}

/* ---- random data ---- */

static uint64_t next(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static uint16_t half(float x) { /* of a number in (-1, 1) that is 0 or no smaller than 2^-14 */
    uint32_t u;
    memcpy(&u, &x, 4);
    return x == 0 ? 0
                  : (uint16_t)((u >> 16 & 0x8000) | (((u >> 23 & 255) - 112) << 10) |
                               (u >> 13 & 0x3ff));
}

/* Floats in (-1, 1), booleans, integers from 0 to 9 (indices must be small), other types bit
 * patterns of one byte. */
static void randomise(void *p, size_t bytes, int dtype, uint64_t seed) {
    int bits = npy_bits(dtype), size = bits < 8 ? 1 : bits / 8;
    uint64_t s = seed * 0x9e3779b97f4a7c15u + 0x1234567u;
    for (size_t i = 0; i < bytes / (size_t)size; i++) {
        uint64_t r = next(&s) >> 11;
        float x = (float)((int64_t)(r & 0xffff) - 0x8000) / 0x8000;
        double xx = x;
        uint32_t u;
        char *q = (char *)p + i * (size_t)size;
        memcpy(&u, &x, 4);
        uint16_t h = dtype == 10 ? half(x) : (uint16_t)(u >> 16);
        uint64_t k = dtype == 9                   ? r & 1
                     : bits < 8                   ? r & 255
                     : dtype >= 17 && dtype <= 24 ? r & 0x3f
                                                  : r % 10;
        if (dtype == 1 || dtype == 14) {
            memcpy(q, &x, 4);
            if (dtype == 14) memcpy(q + 4, &x, 4);
        } else if (dtype == 11 || dtype == 15) {
            memcpy(q, &xx, 8);
            if (dtype == 15) memcpy(q + 8, &xx, 8);
        } else if (dtype == 10 || dtype == 16)
            memcpy(q, &h, 2);
        else
            memcpy(q, &k, (size_t)size); /* little-endian */
    }
}

/* ---- inputs ---- */

static void load_file(const accelc_port *port, const char *path, accelc_value *v) {
    char msg[512];
    if (port->kind != ACCELC_TENSOR)
        die(1, "input \"%s\" has type %s: only tensors can be given as files", port->name, port->type);
    Npy *t = need(
        malloc(sizeof *t)); /* lives as long as the process, like everything that a run needs */
    if (!npy_read(path, port->dtype, t, msg, sizeof msg))
        die(1, "input \"%s\": %s", port->name, msg);
    *v = (accelc_value){.kind = ACCELC_TENSOR,
                        .dtype = port->dtype,
                        .rank = t->rank,
                        .dims = t->dims,
                        .data = t->data,
                        .bytes = t->bytes};
}

static void make_random(const Options *o, const accelc_desc *d, int i, const int64_t *sym,
                        accelc_value *v) {
    const accelc_port *port = &d->in[i];
    int bits = npy_bits(port->dtype);
    int64_t *dims = need(calloc((size_t)port->rank + 1, sizeof *dims)), n = bits;
    if (port->kind != ACCELC_TENSOR || bits == 0)
        die(1, "input \"%s\" has type %s, which cannot be random", port->name,
            port->type ? port->type : "unknown");
    for (int k = 0; k < port->rank; k++) {
        Expr e = {port->dims[k].expr, o, d, sym, 0};
        dims[k] = sum(&e);
        if (e.bad || *e.p || dims[k] < 0 || __builtin_mul_overflow(n, dims[k], &n))
            die(1,
                "input \"%s\": size \"%s\" of dimension %d has no value; give the input as a file",
                port->name, port->dims[k].expr, k);
    }
    size_t bytes = ((size_t)n + 7) / 8;
    void *data = need(aligned_alloc(64, (bytes + 191) / 64 * 64));
    randomise(data, bytes, port->dtype, (uint64_t)o->seed * 1000 + (uint64_t)i + 1);
    *v = (accelc_value){.kind = ACCELC_TENSOR,
                        .dtype = port->dtype,
                        .rank = port->rank,
                        .dims = dims,
                        .data = data,
                        .bytes = bytes};
}

static accelc_value *make_inputs(const Options *o, const accelc_desc *d) {
    accelc_value *in = need(calloc((size_t)d->nin + 1, sizeof *in));
    int64_t *sym = need(calloc((size_t)d->nsym + 1, sizeof *sym));
    for (int i = 0; i < d->nsym; i++) {
        const char *v = find(o->dim, o->ndim, d->sym[i]);
        sym[i] = v ? integer("--dim", v, 0) : -1;
    }
    for (int i = 0; i < o->ndim; i++) {
        char *name = need(strndup(o->dim[i].name, o->dim[i].len));
        if (symbol(d, name) < 0) die(1, "--dim %s: the model has no such symbol", name);
        free(name);
    }
    for (int i = 0; i < d->nin; i++) { /* files first: they decide sizes */
        const char *path = find(o->in, o->nin, d->in[i].name);
        if (path) load_file(&d->in[i], path, &in[i]);
        for (int k = 0; path && k < d->in[i].rank && k < in[i].rank; k++) {
            int s = symbol(d, d->in[i].dims[k].expr);
            if (s >= 0 && sym[s] < 0) sym[s] = in[i].dims[k];
        }
    }
    for (int i = 0; i < d->nin; i++) /* then the least that the model allows */
        for (int k = 0; k < d->in[i].rank; k++) {
            int s = symbol(d, d->in[i].dims[k].expr);
            if (s >= 0 && sym[s] < 0) sym[s] = d->in[i].dims[k].min > 1 ? d->in[i].dims[k].min : 1;
        }
    for (int i = 0; i < d->nin; i++)
        if (in[i].kind == ACCELC_ABSENT && d->in[i].state < 0 && !d->in[i].optional)
            make_random(o, d, i, sym, &in[i]);
    for (int i = 0; i < o->nin; i++) {
        int known = 0;
        for (int k = 0; k < d->nin; k++)
            known |= strlen(d->in[k].name) == o->in[i].len &&
                     strncmp(d->in[k].name, o->in[i].name, o->in[i].len) == 0;
        if (!known) die(1, "the model has no input \"%.*s\"", (int)o->in[i].len, o->in[i].name);
    }
    free(sym);
    return in;
}

/* ---- executors of our own, for trying out what products may bring ---- */

typedef struct {
    accelc_task fn;
    void *arg;
    int i, n;
} Task;

static void *task_main(void *p) {
    const Task *t = p;
    t->fn(t->arg, t->i, t->n);
    return NULL;
}

static void gang(void *ctx, int n, accelc_task fn, void *arg) {
    pthread_t thread[256];
    Task task[256];
    (void)ctx;
    for (int i = 1; i < n; i++) {
        task[i] = (Task){fn, arg, i, n};
        if (pthread_create(&thread[i], NULL, task_main, &task[i]) != 0)
            die(1, "cannot make thread %d", i);
    }
    fn(arg, 0, n);
    for (int i = 1; i < n; i++) pthread_join(thread[i], NULL);
}

static void tasks_in_turn(void *ctx, int n, accelc_task fn, void *arg) {
    (void)ctx;
    for (int i = n; i-- > 0;) fn(arg, i, n);
}

/* ---- measuring ---- */

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

typedef struct {
    double created, least, median, p99; /* ms */
} Latency;

static Latency latency(uint64_t created, uint64_t *ns, int64_t n) {
    qsort(ns, (size_t)n, sizeof *ns, by_value);
    return (Latency){(double)created / 1e6, (double)ns[0] / 1e6, (double)ns[n / 2] / 1e6, (double)ns[(n * 99 - 1) / 100] / 1e6};
}

static void write_json(const Options *o, const accelc_desc *d, const Latency *l, const Profile *p) {
    FILE *f = strcmp(o->json, "-") ? fopen(o->json, "w") : stdout;
    if (!f) die(1, "cannot write %s: %s", o->json, strerror(errno));
    fputs("{\n  \"model\": ", f);
    json_text(f, d->name ? d->name : "");
    fputs(", \"target\": ", f);
    json_text(f, d->target ? d->target : "");
    fprintf(f, ",\n  \"runs\": %lld, \"create_ms\": %.4f, \"least_ms\": %.4f, \"median_ms\": %.4f, \"p99_ms\": %.4f", (long long)o->repeat,
            l->created, l->least, l->median, l->p99);
    if (o->profile) {
        fputs(",\n  \"steps\": ", f);
        if (!profile_json(p, f)) die(1, "out of memory");
    }
    fputs("\n}\n", f);
    if (fflush(f) || ferror(f) || (f != stdout && fclose(f))) die(1, "cannot write %s: %s", o->json, strerror(errno));
}

static void print_ports(const char *what, const accelc_port *p, int n) {
    for (int i = 0; i < n; i++) {
        printf("%s %s: %s", what, p[i].name, p[i].type ? p[i].type : npy_type(p[i].dtype));
        for (int k = 0; k < p[i].rank && !(p[i].type && strchr(p[i].type, '[')); k++)
            printf("%s%s%s", k ? ", " : " [", p[i].dims[k].expr, k + 1 == p[i].rank ? "]" : "");
        printf("%s%s\n", p[i].optional ? ", optional" : "", p[i].state >= 0 ? ", state" : "");
    }
}

/* Kinds, types and shapes; elements of sequences and maps on lines of their own. */
static void print_value(const accelc_value *v, int depth) {
    static const char *const map[] = {"keys", "values"};
    int is_map = v->kind == ACCELC_MAP;
    if (v->kind == ACCELC_ABSENT) printf("nothing\n");
    if (v->kind == ACCELC_TENSOR) {
        printf("%s [", npy_type(v->dtype));
        for (int k = 0; k < v->rank; k++) printf("%s%lld", k ? ", " : "", (long long)v->dims[k]);
        printf("]\n");
    }
    if (v->kind != ACCELC_SEQUENCE && !is_map) return;
    printf(is_map ? "map\n" : "sequence of %zu\n", v->nelem);
    for (size_t i = 0; i < v->nelem; i++) {
        printf("%*s", 2 * depth, "");
        if (is_map)
            printf("%s: ", map[i & 1]);
        else
            printf("[%zu]: ", i);
        print_value(&v->elem[i], depth + 1);
    }
}

static void save_outputs(const Options *o, const accelc_desc *d, const accelc_value *out, int quiet) {
    char msg[512];
    for (int i = 0; i < d->nout && !quiet; i++) {
        printf("output %s: ", d->out[i].name);
        print_value(&out[i], 1);
    }
    for (int f = 0; f < o->nout; f++) {
        int i = 0;
        while (i < d->nout && !(strlen(d->out[i].name) == o->out[f].len &&
                                strncmp(d->out[i].name, o->out[f].name, o->out[f].len) == 0))
            i++;
        if (i == d->nout)
            die(1, "the model has no output \"%.*s\"", (int)o->out[f].len, o->out[f].name);
        if (out[i].kind != ACCELC_TENSOR)
            die(1, "output \"%s\" is no tensor: a file holds one", d->out[i].name);
        if (!npy_write(o->out[f].value, out[i].dtype, out[i].rank, out[i].dims, out[i].data, msg,
                       sizeof msg))
            die(1, "output \"%s\": %s", d->out[i].name, msg);
    }
}

static const accelc_api *load(const char *path) {
    const accelc_api *(*entry)(void) = NULL;
    char *local = strchr(path, '/')
                      ? NULL
                      : need(malloc(strlen(path) + 3)); /* else dlopen searches system folders */
    if (local) sprintf(local, "./%s", path);
    void *so = dlopen(local ? local : path, RTLD_NOW | RTLD_LOCAL);
    void *symbol_ = so ? dlsym(so, "accelc_main") : NULL;
    free(local);
    if (!so) die(1, "%s", dlerror());
    if (!symbol_) die(1, "%s is not a model: it has no accelc_main", path);
    memcpy(&entry, &symbol_, sizeof entry); /* ISO C has no cast for it */
    const accelc_api *api = entry();
    if (!api || api->abi != ACCELC_ABI || api->size < offsetof(accelc_api, step_info) || !api->desc)
        die(1, "%s was made for another version of the runtime interface", path);
    return api;
}

int main(int argc, char **argv) {
    static Options o;
    static Profile profile;
    char msg[512] = "";
    parse(argc, argv, &o);
    const accelc_api *api = load(o.model);
    const accelc_desc *d = api->desc;
    if (o.info) {
        printf("model %s, made by %s for %s, weights %llu bytes, code %llu bytes\n",
               d->name ? d->name : "?", d->producer ? d->producer : "?",
               d->target ? d->target : "?", (unsigned long long)d->weight_bytes,
               (unsigned long long)d->code_bytes);
        print_ports("input", d->in, d->nin);
        print_ports("output", d->out, d->nout);
        return 0;
    }
    accelc_exec exec = {.width = o.threads > 0 ? (int)o.threads : 2};
    accelc_config c = {.size = sizeof c,
                       .threads = (int)o.threads,
                       .device = (int32_t)o.device,
                       .cpu = o.cpu,
                       .seed = (uint64_t)o.seed,
                       .weights_path = o.weights,
                       .map_weights = o.map_weights,
                       .code_cache = o.code_cache};
    if (strcmp(o.executor, "serial") == 0)
        c.threads = 1;
    else if (strcmp(o.executor, "gang") == 0 || strcmp(o.executor, "tasks") == 0) {
        exec.gang = o.executor[0] == 'g';
        exec.for_each = exec.gang ? gang : tasks_in_turn;
        exec.width = exec.width > 256 ? 256 : exec.width;
        c.exec = &exec;
    } else if (strcmp(o.executor, "model") != 0)
        die(2, "--executor: expected model, serial, gang or tasks, got \"%s\"", o.executor);
    if (o.profile) {
        c.on_step = profile_step;
        c.prof_ctx = &profile;
    }
    accelc_session *s;
    uint64_t begin = now();
    if (api->create(&c, &s, msg, sizeof msg) != ACCELC_OK) die(1, "%s: %s", o.model, msg);
    uint64_t created = now() - begin;
    if (o.profile && api->size < sizeof *api) die(1, "%s was made by a compiler that tells nothing about steps", o.model);
    if (o.profile && !profile_start(&profile, api, s, o.repeat)) die(1, "out of memory: --repeat is too large for a profile");
    accelc_value *in = make_inputs(&o, d), *out = need(calloc((size_t)d->nout + 1, sizeof *out));
    uint64_t *ns = need(calloc((size_t)o.repeat, sizeof *ns));
    for (int64_t i = -o.warmup; i < o.repeat; i++) {
        begin = now();
        accelc_status st = api->run(s, in, out);
        if (i >= 0) ns[i] = now() - begin;
        if (st != ACCELC_OK) die(1, "%s: %s", o.model, api->error(s));
        if (o.profile) profile_run(&profile, i >= 0);
    }
    Latency l = latency(created, ns, o.repeat);
    int quiet = o.json && strcmp(o.json, "-") == 0;
    if (!quiet)
        printf("create ms: %.4f\nlatency ms: min %.4f  median %.4f  p99 %.4f  (%lld runs)\n", l.created, l.least, l.median, l.p99,
               (long long)o.repeat);
    save_outputs(&o, d, out, quiet);
    if (o.profile && !quiet && !profile_print(&profile, stdout)) die(1, "out of memory");
    if (o.json) write_json(&o, d, &l, &profile);
    api->destroy(s);
    return 0;
}
