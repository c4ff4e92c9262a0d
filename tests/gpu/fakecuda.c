/* fakecuda.c: a look-alike of libcuda.so.1; see emu.h. One lock around everything. What goes into a stream waits there until the stream is
 * waited for, so whoever does not wait finds nothing done, and whoever changes what a copy reads changes the copy. */
#include "emu_internal.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes" /* users look the functions up by name */
#define EXPORT __attribute__((visibility("default")))
#define DIE(...) (fprintf(stderr, "fakecuda: " __VA_ARGS__), fputc('\n', stderr), abort())

enum {
    INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_CONTEXT = 201,
    NO_BINARY = 209, INVALID_PTX = 218, NOT_FOUND = 500, NOT_READY = 600, NOT_SUPPORTED = 801, UNKNOWN = 999
};
enum { MOST_DEVICES = 4, MOST_ALLOCS = 4096, DEPTH = 16, GUARD = 256, ALIGN = 256 };
#define MEMORY ((size_t)1 << 32)

typedef struct CUctx_st {
    int refs, live; /* what lives in it */
} Context;
typedef struct Handle { /* a stream, module, function, event, graph (g) or one that is ready (x): `kind` tells, 0 when it is gone */
    char kind;
    struct Handle *next; /* functions of a module; the other streams */
    Context *context;
    emu_kernel *run;
    uint32_t nbuf, nmap, cluster;
    bool together; /* threads of a block meet */
    char *name;
    int shared;
    struct Work *first, **last; /* of a stream or graph */
    struct Handle *graph;       /* of a stream: what is put into it goes there */
    bool stale;                 /* of a graph that is ready: memory that it uses is gone */
    uint64_t time;              /* of an event that has happened */
    void *code;                 /* of a module: the shared object that has its kernels, or NULL */
} Handle;
typedef struct Work { /* an event, a copy, a fill with `value` (no `from`), or a launch of `kernel` */
    struct Work *next;
    void *to;
    const void *from;
    size_t bytes; /* of the copy, or of the parameters */
    uint32_t value;
    Handle *kernel, *event; /* event: of which the time is noted */
    unsigned grid, block, shared, cluster;
    uint64_t parameter[];
} Work;
typedef struct {
    size_t at, bytes;
    Context *context;
} Alloc;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static fakecuda_counts counts;
static Context context[MOST_DEVICES];
static Alloc alloc[MOST_ALLOCS]; /* by address */
static size_t nalloc, used, limit = MEMORY;
static char *memory;
static Handle *streams, *graphs;
static char *kernels; /* the file that has those of texts */
static bool initialized;
static int devices = 2, arch = 90, version = 13000, fail_code, lost;
static long fail_at;
static __thread Context *stack[DEPTH];
static __thread int depth, capturing;

EXPORT const fakecuda_counts *fakecuda_look(void) { return &counts; }
EXPORT int fakecuda_depth(void) { return depth; }

static long setting(const char *name, long otherwise) {
    const char *v = getenv(name);
    return v && *v ? strtol(v, NULL, 0) : otherwise;
}

/* Does ACCELC_EMU_WITHOUT name the function? */
static bool lacks(const char *name) {
    const char *list = getenv("ACCELC_EMU_WITHOUT"), *at = list ? strstr(list, name) : NULL;
    return at && (at[strlen(name)] == ',' || !at[strlen(name)]) && (at == list || at[-1] == ',');
}
/* What old drivers do not have: whoever looks `name` up finds `fake` or nothing, as the environment says at that time. */
#define SOMETIMES(name, fake)                                                                               \
    __attribute__((used)) static __typeof__(&fake) find_##fake(void) { return lacks(#name) ? NULL : fake; } \
    EXPORT __typeof__(fake) name __attribute__((ifunc("find_" #fake)));

static void open_memory(void) {
    pthread_mutex_lock(&lock);
    if (memory && mprotect(memory, MEMORY, PROT_READ | PROT_WRITE)) DIE("mprotect");
}

/* What a thread that captures must not do. */
static void no_capture(const char *what) {
    if (capturing) DIE("%s while this thread captures", what);
}

/* Every function of the driver begins and ends with these two. */
static int begin(bool in_context) {
    open_memory();
    counts.calls++;
    if (lost) return lost;
    if (counts.calls == fail_at) {
        if (fail_code >= 700 && fail_code != UNKNOWN) lost = fail_code;
        return fail_code;
    }
    if (!initialized) return NOT_INITIALIZED;
    return in_context && !depth ? INVALID_CONTEXT : 0;
}

static int end(int e) {
    if (memory && mprotect(memory, MEMORY, PROT_NONE)) DIE("mprotect");
    pthread_mutex_unlock(&lock);
    return e;
}

/* Something comes (1) or goes (-1) in the current context. */
static void lives(int n) {
    counts.live += n;
    stack[depth - 1]->live += n;
}

static Handle *handle_new(char kind) {
    Handle *h = calloc(1, sizeof *h);
    if (!h) DIE("no memory");
    h->kind = kind;
    h->context = stack[depth - 1];
    return h;
}

static Handle *handle(void *p, char kind) {
    Handle *h = p;
    if (!h || h->kind != kind)
        DIE("%p is no %s", p,
            kind == 's' ? "stream" : kind == 'm' ? "module" : kind == 'f' ? "function" : kind == 'e' ? "event" : kind == 'l' ? "link" : "graph");
    if (h->context != stack[depth - 1]) DIE("a handle of another context");
    return h;
}

/* Allocation i is gone. */
static void forget(size_t i) {
    memset(memory + alloc[i].at, 0xdd, alloc[i].bytes);
    used -= alloc[i].bytes;
    memmove(alloc + i, alloc + i + 1, (nalloc - i - 1) * sizeof *alloc);
    nalloc--;
}

/* ---- streams ---- */

/* Adds work to a stream, with room for `bytes` of parameters. */
static Work *work_new(Handle *stream, size_t bytes) {
    Work *w = calloc(1, sizeof *w + bytes);
    if (!w) DIE("no memory");
    Handle *to = handle(stream, 's')->graph ? stream->graph : stream;
    *to->last = w;
    to->last = &w->next;
    counts.waiting += to == stream;
    return w;
}

static bool on_device(const void *p, size_t n) {
    size_t at = (size_t)((const char *)p - memory), lo = 0, hi = nalloc; /* the last allocation that begins at `at` or before */
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (alloc[mid].at <= at) lo = mid + 1;
        else hi = mid;
    }
    return lo && at - alloc[lo - 1].at < alloc[lo - 1].bytes && n <= alloc[lo - 1].bytes - (at - alloc[lo - 1].at);
}

static void run_kernel(const Work *w) {
    const uint64_t *rest = w->parameter + w->bytes / 8 - 4; /* of the block: tasks, scratch, its size, status (runtime/abi.h) */
    bool together = w->kernel->together;
    emu_run(&(emu_launch){w->kernel->name, w->kernel->run, w->parameter, w->grid, w->block, w->shared,
                          together ? (uint8_t *)(uintptr_t)rest[1] : NULL, together ? rest[2] : 0, together, on_device, w->cluster});
}

static uint64_t now_ns(void) {
    struct timespec t;
    if (setting("ACCELC_EMU_CLOCK", 0)) return 1 + emu_steps * 1000;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void run_work(const Work *w) {
    if (w->event) w->event->time = now_ns();
    else if (w->kernel) run_kernel(w);
    else if (w->from) memcpy(w->to, w->from, w->bytes);
    else for (size_t i = 0; i < w->bytes / 4; i++) ((uint32_t *)w->to)[i] = w->value;
}

/* Everything in the stream happens, or is forgotten. */
static void stream_run(Handle *s, bool happens) {
    while (s->first) {
        Work *w = s->first;
        s->first = w->next;
        if (happens) run_work(w);
        counts.waiting--;
        free(w);
    }
    s->last = &s->first;
}

static void work_drop(Handle *graph) {
    for (Work *w = graph->first, *next; w; w = next) {
        next = w->next;
        free(w);
    }
}

static void work_copy(const Handle *from, Handle *to) {
    for (const Work *w = from->first; w; w = w->next) {
        size_t bytes = sizeof *w + (w->kernel ? w->bytes : 0);
        Work *x = memcpy(malloc(bytes), w, bytes);
        x->next = NULL;
        *to->last = x;
        to->last = &x->next;
    }
}

static void graph_gone(Handle *x) {
    Handle **at = &graphs;
    while (*at != x) at = &(*at)->next;
    *at = x->next;
    work_drop(x);
    x->kind = 0;
    free(x);
}

static void stream_gone(Handle *s) {
    Handle **at = &streams;
    while (*at != s) at = &(*at)->next;
    *at = s->next;
    s->kind = 0;
    free(s);
}

/* ---- the driver, devices, contexts ---- */

EXPORT int cuInit(unsigned flags) {
    open_memory();
    int refs = 0;
    for (int i = 0; i < MOST_DEVICES; i++) refs += context[i].refs;
    if (!refs) lost = 0;
    const char *fail = getenv("ACCELC_EMU_FAIL"), *comma = fail ? strchr(fail, ',') : NULL;
    counts.calls = 1;
    fail_at = setting("ACCELC_EMU_FAIL", 0);
    fail_code = comma ? atoi(comma + 1) : UNKNOWN;
    limit = (size_t)setting("ACCELC_EMU_MEMORY", (long)MEMORY);
    devices = (int)setting("ACCELC_EMU_DEVICES", 2);
    arch = (int)setting("ACCELC_EMU_ARCH", 90);
    version = (int)setting("ACCELC_EMU_DRIVER", 13000);
    if (limit > MEMORY || devices > MOST_DEVICES) DIE("a setting is too large");
    if (!memory) {
        memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) DIE("mmap");
    }
    if (!kernels && getenv("ACCELC_EMU_KERNELS")) {
        kernels = strdup(getenv("ACCELC_EMU_KERNELS"));
        if (!dlopen(kernels, RTLD_NOW | RTLD_LOCAL)) DIE("%s", dlerror());
    }
    initialized = fail_at != 1 && devices > 0;
    return end(fail_at == 1 ? fail_code : lost ? lost : flags ? INVALID_VALUE : devices ? 0 : NO_DEVICE);
}

EXPORT int cuDriverGetVersion(int *v) {
    int e = begin(false);
    if (!e) *v = version;
    return end(e);
}

EXPORT int cuGetErrorName(int e, const char **name) {
    *name = e == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : e == NO_DEVICE ? "CUDA_ERROR_NO_DEVICE" :
            e == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : e == UNKNOWN ? "CUDA_ERROR_UNKNOWN" : NULL;
    return *name ? 0 : INVALID_VALUE;
}

EXPORT int cuGetErrorString(int e, const char **text) {
    *text = e == OUT_OF_MEMORY ? "out of memory" : e == NO_DEVICE ? "no CUDA-capable device is detected" :
            e == 719 ? "unspecified launch failure" : e == UNKNOWN ? "unknown error" : NULL;
    return *text ? 0 : INVALID_VALUE;
}

EXPORT int cuDeviceGetCount(int *n) {
    int e = begin(false);
    if (!e) *n = devices;
    return end(e);
}

EXPORT int cuDeviceGet(int *device, int ordinal) {
    int e = begin(false);
    if (!e && (ordinal < 0 || ordinal >= devices)) e = INVALID_DEVICE;
    if (!e) *device = ordinal;
    return end(e);
}

EXPORT int cuDeviceGetName(char *name, int n, int device) {
    int e = begin(false);
    if (!e) snprintf(name, (size_t)n, "look-alike %d", device);
    return end(e);
}

EXPORT int cuDeviceGetAttribute(int *v, int attribute, int device) {
    int e = begin(false);
    if (!e && (device < 0 || device >= devices)) e = INVALID_DEVICE;
    if (!e) switch (attribute) {
        case 16: *v = 3; break;
        case 75: *v = arch / 10; break;
        case 76: *v = arch % 10; break;
        default: DIE("attribute %d of a device", attribute);
        }
    return end(e);
}

EXPORT int cuDevicePrimaryCtxRetain(Context **c, int device) {
    int e = begin(false);
    if (!e && (device < 0 || device >= devices)) e = INVALID_DEVICE;
    if (!e) {
        *c = &context[device];
        counts.live += (*c)->refs++ == 0;
    }
    return end(e);
}

EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
    int e = begin(false);
    Context *c = &context[device];
    if (c->refs <= 0) DIE("a context is released that nobody has");
    if (--c->refs == 0) {
        if (c->live && !lost) DIE("%d streams, modules and allocations are left in a context that goes", c->live);
        for (size_t i = nalloc; i-- > 0;)
            if (alloc[i].context == c) forget(i);
        for (Handle *s = streams, *next; s; s = next) {
            next = s->next;
            if (s->context != c) continue;
            stream_run(s, false);
            stream_gone(s);
        }
        for (Handle *x = graphs, *next; x; x = next) {
            next = x->next;
            if (x->context == c) graph_gone(x);
        }
        counts.live -= 1 + c->live;
        c->live = lost = 0;
    }
    return end(e);
}

EXPORT int cuCtxPushCurrent_v2(Context *c) {
    int e = begin(false);
    if (c < context || c >= context + MOST_DEVICES || c->refs <= 0) DIE("no context is pushed");
    if (!e && depth == DEPTH) DIE("contexts are pushed, but not popped");
    if (!e) stack[depth++] = c;
    return end(e);
}

EXPORT int cuCtxPopCurrent_v2(Context **c) {
    int e = begin(false);
    if (!depth) DIE("a context is popped that is not there");
    *c = stack[--depth];
    return end(e);
}

/* ---- modules, functions, streams ---- */

/* What refuses an image: a text that is broken; machine code of another device or of a newer driver. Counts texts that are compiled. */
static int image_error(const char *image) {
    int made_for, by;
    if (strncmp(image, "broken", 6) == 0) return image[6] ? atoi(image + 7) : INVALID_PTX;
    if (sscanf(image, EMU_CUBIN, &made_for, &by) == 2) return made_for != arch ? NO_BINARY : by > version ? INVALID_IMAGE : 0;
    counts.compiled += strcmp(image, EMU_TWINS) != 0;
    return 0;
}

EXPORT int cuModuleLoadDataEx(Handle **m, const void *image, unsigned n, int *option, void **value) {
    int e = begin(true);
    (void)option, (void)value, (void)n;
    bool twins = !e && strcmp(image, EMU_TWINS) == 0;
    Dl_info from = {0};
    if (!e) e = image_error(image);
    if (twins && !dladdr(image, &from)) DIE("an image that is in no file");
    if (!e) {
        *m = handle_new('m');
        if (twins || kernels) (*m)->code = dlopen(twins ? from.dli_fname : kernels, RTLD_NOW | RTLD_LOCAL);
        lives(1);
    }
    return end(e);
}

EXPORT int cuModuleUnload(Handle *m) {
    int e = begin(true);
    handle(m, 'm')->kind = 0;
    for (Handle *f = m->next, *next; f; f = next) {
        next = f->next;
        f->kind = 0;
        free(f->name);
        free(f);
    }
    if (m->code) dlclose(m->code);
    free(m);
    lives(-1);
    return end(e);
}

/* The machine code of a text is EMU_CUBIN and the text; twins have none. */
static int fake_LinkCreate_v2(unsigned n, const int *option, void *const *value, Handle **link) {
    int e = begin(true);
    for (unsigned i = 0; i < n && !e; i++)
        if (option[i] != 9 || (uintptr_t)value[i] != 0x10000u + (unsigned)arch) e = INVALID_VALUE;
    if (e) return end(e);
    *link = handle_new('l');
    lives(1);
    return end(0);
}
SOMETIMES(cuLinkCreate_v2, fake_LinkCreate_v2)

EXPORT int cuLinkAddData_v2(Handle *link, int type, const void *data, size_t bytes, const char *name, unsigned n, const int *option,
                            void *const *value) {
    int e = begin(true);
    const char *text = data;
    (void)option, (void)value;
    if (!e && (type != 1 || !bytes || text[bytes - 1] || !name || n || handle(link, 'l')->name)) e = INVALID_VALUE;
    if (!e) e = strcmp(text, EMU_TWINS) == 0 ? INVALID_PTX : image_error(text);
    if (!e && asprintf(&link->name, EMU_CUBIN "\n%s", arch, version, text) < 0) DIE("no memory");
    return end(e);
}

EXPORT int cuLinkComplete(Handle *link, void **code, size_t *bytes) {
    int e = begin(true);
    if (!e && !handle(link, 'l')->name) e = INVALID_VALUE;
    if (!e) *code = link->name, *bytes = strlen(link->name) + 1;
    return end(e);
}

EXPORT int cuLinkDestroy(Handle *link) {
    int e = begin(true);
    handle(link, 'l')->kind = 0;
    if (link->name) memset(link->name, 0, strlen(link->name));
    free(link->name);
    free(link);
    lives(-1);
    return end(e);
}

static void *symbol(void *code, const char *name, const char *end_) {
    char text[1000];
    if (snprintf(text, sizeof text, "%s%s", name, end_) >= (int)sizeof text) DIE("the name %s is too long", name);
    return dlsym(code, text);
}

EXPORT int cuModuleGetFunction(Handle **f, Handle *m, const char *name) {
    int e = begin(true);
    void *code = handle(m, 'm')->code, *run = code ? symbol(code, name, "_thread") : NULL;
    if (code && !run) run = symbol(code, name, "");
    if (!e && !run) e = NOT_FOUND;
    if (!e) {
        const uint32_t *n = symbol(code, name, "_nbuf");
        *f = handle_new('f');
        memcpy(&(*f)->run, &run, sizeof run);
        (*f)->nbuf = n ? *n : 0;
        n = symbol(code, name, "_nmap");
        (*f)->nmap = n ? *n : 0;
        n = symbol(code, name, "_cluster");
        (*f)->cluster = n ? *n : 1;
        (*f)->together = symbol(code, name, "_block") != NULL;
        (*f)->shared = 48 << 10;
        (*f)->name = strdup(name);
        (*f)->next = handle(m, 'm')->next;
        m->next = *f;
    }
    return end(e);
}

EXPORT int cuFuncSetAttribute(Handle *f, int attribute, int v) {
    int e = begin(true);
    if (!e && (attribute != 8 || v < 0 || v > 227 << 10)) e = INVALID_VALUE;
    if (!e) handle(f, 'f')->shared = v;
    return end(e);
}

EXPORT int cuStreamCreate(Handle **s, unsigned flags) {
    int e = begin(true);
    if (!e && flags > 1) e = INVALID_VALUE;
    if (!e) {
        *s = handle_new('s');
        (*s)->last = &(*s)->first;
        (*s)->next = streams;
        streams = *s;
        lives(1);
    }
    return end(e);
}

EXPORT int cuStreamSynchronize(Handle *s) {
    int e = begin(true);
    no_capture("a stream is waited for");
    counts.waits++;
    if (depth) stream_run(handle(s, 's'), !lost);
    return end(e);
}

EXPORT int cuStreamDestroy_v2(Handle *s) {
    int e = begin(true);
    if (handle(s, 's')->first && !lost) DIE("a stream goes that has work to do");
    stream_run(s, false);
    stream_gone(s);
    lives(-1);
    return end(e);
}

/* ---- memory ---- */

static size_t room(size_t bytes) { return (bytes + GUARD + ALIGN - 1) / ALIGN * ALIGN; }

EXPORT int cuMemAlloc_v2(uint64_t *p, size_t bytes) {
    int e = begin(true);
    size_t i = 0, at = 0;
    no_capture("memory is allocated");
    if (!e && !bytes) e = INVALID_VALUE;
    if (!e && (bytes > limit || used + bytes > limit)) e = OUT_OF_MEMORY;
    if (e) return end(e);
    for (; i < nalloc && alloc[i].at - at < room(bytes); i++) at = alloc[i].at + room(alloc[i].bytes);
    if (at + room(bytes) > MEMORY) return end(OUT_OF_MEMORY);
    if (nalloc == MOST_ALLOCS) DIE("too many allocations");
    memmove(alloc + i + 1, alloc + i, (nalloc - i) * sizeof *alloc);
    alloc[i] = (Alloc){at, bytes, stack[depth - 1]};
    nalloc++;
    used += bytes;
    lives(1);
    memset(memory + at, 0xff, bytes);
    memset(memory + at + bytes, 0xa5, room(bytes) - bytes);
    *p = (uint64_t)(uintptr_t)(memory + at);
    return end(0);
}

static bool work_uses(const Work *w, const char *p, size_t n) {
    if (!w->kernel) return ((char *)w->to >= p && (char *)w->to < p + n) || ((const char *)w->from >= p && (const char *)w->from < p + n);
    for (size_t k = 0; k < w->bytes / 8; k++)
        if (w->parameter[k] - (uint64_t)(uintptr_t)p < n) return true;
    return false;
}

EXPORT int cuMemFree_v2(uint64_t p) {
    int e = begin(true);
    size_t i = 0;
    while (i < nalloc && (uint64_t)(uintptr_t)(memory + alloc[i].at) != p) i++;
    no_capture("memory is freed");
    if (i == nalloc) DIE("%#llx is freed, which is no allocation", (unsigned long long)p);
    Alloc a = alloc[i];
    for (Handle *s = streams; s && !lost; s = s->next)
        for (Work *w = s->first; w; w = w->next)
            if (work_uses(w, memory + a.at, a.bytes)) DIE("memory is freed that work in a stream uses");
    for (Handle *x = graphs; x; x = x->next)
        for (Work *w = x->first; w; w = w->next) x->stale |= work_uses(w, memory + a.at, a.bytes);
    if (a.context != stack[depth - 1]) DIE("memory of another context is freed");
    for (size_t k = a.bytes; k < room(a.bytes); k++)
        if ((unsigned char)memory[a.at + k] != 0xa5) DIE("something was written %zu bytes behind an allocation of %zu", k - a.bytes, a.bytes);
    forget(i);
    lives(-1);
    return end(e);
}

/* Memory of the host that the driver gives: it must not go while work in a stream uses it. */
EXPORT int cuMemHostAlloc(void **p, size_t n, unsigned flags) {
    int e = begin(true);
    if (!e && (!n || flags)) e = INVALID_VALUE;
    if (!e && !(*p = malloc(n))) e = OUT_OF_MEMORY;
    if (!e) {
        memset(*p, 0xff, n);
        lives(1);
    }
    return end(e);
}

EXPORT int cuMemFreeHost(void *p) {
    int e = begin(true);
    for (Handle *s = streams; s && !lost; s = s->next)
        for (Work *w = s->first; w; w = w->next)
            if (!w->kernel && (work_uses(w, p, malloc_usable_size(p)))) DIE("memory of the host is freed that work in a stream uses");
    free(p);
    lives(-1);
    return end(e);
}

/* Bytes [p, p + n) must lie in one allocation of this context. */
static void *inside(uint64_t p, size_t n, const char *what) {
    for (size_t i = 0; i < nalloc; i++) {
        uint64_t at = (uint64_t)(uintptr_t)(memory + alloc[i].at);
        if (p >= at && p < at + alloc[i].bytes && n <= at + alloc[i].bytes - p) {
            if (alloc[i].context != stack[depth - 1]) DIE("%s: memory of another context", what);
            return memory + alloc[i].at + (p - at);
        }
    }
    DIE("%s: %zu bytes at %#llx are not in one allocation", what, n, (unsigned long long)p);
}

static void host_memory(const void *p, size_t n, const char *what) {
    const char *c = p;
    if (c + n > memory && c < memory + MEMORY) DIE("%s: %p is not the host's", what, p);
}

EXPORT int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, Handle *s) {
    int e = begin(true);
    if (e) return end(e);
    no_capture("host memory is copied");
    Work *w = work_new(s, 0);
    host_memory(from, n, "cuMemcpyHtoD");
    w->to = inside(to, n, "cuMemcpyHtoD");
    w->from = from;
    w->bytes = n;
    counts.uploads++;
    return end(0);
}

EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, Handle *s) {
    int e = begin(true);
    if (e) return end(e);
    no_capture("host memory is copied");
    Work *w = work_new(s, 0);
    host_memory(to, n, "cuMemcpyDtoH");
    w->to = to;
    w->from = inside(from, n, "cuMemcpyDtoH");
    w->bytes = n;
    counts.downloads++;
    return end(0);
}

EXPORT int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t n, Handle *s) {
    int e = begin(true);
    if (e) return end(e);
    Work *w = work_new(s, 0);
    char *x = inside(to, n, "cuMemcpyDtoD"), *y = inside(from, n, "cuMemcpyDtoD");
    if (x < y + n && y < x + n) DIE("cuMemcpyDtoD: the ranges overlap");
    w->to = x;
    w->from = y;
    w->bytes = n;
    counts.moves += !s->graph;
    return end(0);
}

EXPORT int cuMemsetD32Async(uint64_t p, unsigned v, size_t n, Handle *s) {
    int e = begin(true);
    if (e) return end(e);
    Work *w = work_new(s, 0);
    w->to = inside(p, n * 4, "cuMemsetD32");
    w->bytes = n * 4;
    w->value = v;
    return end(0);
}

/* ---- kernels ---- */

/* What the manual demands of maps without interleaving, of the types and swizzles that emu_map has. */
typedef struct Bulk { /* what tiles and windows have in common */
    int type, interleave, swizzle, promotion, fill;
    uint32_t rank, axes; /* axes: of the box */
    uint64_t base;
    const uint64_t *extent, *stride;
    const uint32_t *box;
} Bulk;
static bool encode(emu_map *m, Bulk b) {
    static const uint8_t size[] = {[0] = 1, [1] = 2, [2] = 4, [4] = 8};
    if ((uintptr_t)m % 64) DIE("cuTensorMapEncode: the map is not aligned");
    bool bad = b.type < 0 || (size_t)b.type >= sizeof size || !size[b.type] || b.rank < 1 || b.rank > EMU_AXES || b.base % 16 || b.interleave ||
               (b.swizzle != 0 && b.swizzle != 3) || b.promotion < 0 || b.promotion > 3 || b.fill;
    for (uint32_t d = 0; d < b.rank && !bad; d++) {
        bad = !b.extent[d] || b.extent[d] > (uint64_t)1 << 32 || (d < b.axes && (!b.box[d] || b.box[d] > 256));
        if (d) bad |= b.stride[d - 1] % 16 || b.stride[d - 1] >= (uint64_t)1 << 40;
    }
    if (bad || b.box[0] * size[b.type] % 16 || (b.swizzle && b.box[0] * size[b.type] > 128)) return false;
    inside(b.base, 0, "the tensor of a map");
    *m = (emu_map){.is = EMU_IS_MAP, .base = (uint8_t *)(uintptr_t)b.base, .rank = (uint8_t)b.rank, .swizzled = b.swizzle == 3};
    for (uint32_t d = 0; d < b.axes; d++) m->box[d] = (uint16_t)b.box[d];
    for (uint32_t d = 0; d < b.rank; d++) m->extent[d] = b.extent[d], m->step[d] = d ? b.stride[d - 1] : size[b.type];
    return true;
}

static int fake_TensorMapEncodeTiled(emu_map *m, int type, uint32_t rank, uint64_t base, const uint64_t *extent, const uint64_t *stride,
                                     const uint32_t *box, const uint32_t *each, int interleave, int swizzle, int promotion, int fill) {
    int e = begin(true);
    if (e) return end(e);
    for (uint32_t d = 0; d < rank && d < EMU_AXES; d++)
        if (each[d] != 1) return end(INVALID_VALUE);
    return end(encode(m, (Bulk){type, interleave, swizzle, promotion, fill, rank, rank, base, extent, stride, box}) ? 0 : INVALID_VALUE);
}
SOMETIMES(cuTensorMapEncodeTiled, fake_TensorMapEncodeTiled)

static int fake_TensorMapEncodeIm2col(emu_map *m, int type, uint32_t rank, uint64_t base, const uint64_t *extent, const uint64_t *stride,
                                      const int *lower, const int *upper, uint32_t channels, uint32_t points, const uint32_t *each, int interleave,
                                      int swizzle, int promotion, int fill) {
    static const int reach[] = {[3] = 1 << 15, [4] = 1 << 7, [5] = 1 << 4}; /* bits of a corner, which share a word */
    const uint32_t box[2] = {channels, points};
    int e = begin(true);
    if (e) return end(e);
    if (rank < 3 || !encode(m, (Bulk){type, interleave, swizzle, promotion, fill, rank, 2, base, extent, stride, box})) return end(INVALID_VALUE);
    m->windows = 1;
    for (uint32_t d = 0; d < rank - 2; d++) {
        bool bad = lower[d] < -reach[rank] || lower[d] >= reach[rank] || upper[d] < -reach[rank] || upper[d] >= reach[rank];
        if (bad || !each[1 + d] || each[1 + d] > 8) return end(INVALID_VALUE);
        m->window[d].first = (int16_t)lower[d], m->window[d].end = (int16_t)upper[d], m->stride[d] = (uint8_t)each[1 + d];
    }
    return end(each[0] == 1 && each[rank - 1] == 1 ? 0 : INVALID_VALUE);
}
SOMETIMES(cuTensorMapEncodeIm2col, fake_TensorMapEncodeIm2col)

static int launch(Handle *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, unsigned cluster,
                  Handle *s, void **params, void **extra) {
    int e = begin(true);
    if (e) return end(e);
    handle(f, 'f');
    if (cluster != f->cluster) DIE("kernel %s is launched in clusters of %u instead of %u", f->name, cluster, f->cluster);
    if (params || !extra || extra[0] != (void *)1 || extra[2] != (void *)2 || extra[4]) DIE("cuLaunchKernel: one parameter block is expected");
    if (!gx || gx > 0x7fffffff || gy != 1 || gz != 1 || !bx || bx > 1024 || by != 1 || bz != 1 || shared > (unsigned)f->shared || gx % cluster)
        return end(INVALID_VALUE);
    size_t bytes = *(size_t *)extra[3];
    Work *w = work_new(s, bytes);
    memcpy(w->parameter, extra[1], bytes);
    w->bytes = bytes;
    const emu_map *map = (const emu_map *)(void *)w->parameter;
    const uint64_t *word = (const uint64_t *)(const void *)(map + f->nmap);
    for (uint32_t k = 0; k < f->nmap; k++)
        if (map[k].is != EMU_IS_MAP) DIE("cuLaunchKernel: map %u of kernel %s is none", k, f->name);
    for (uint32_t k = 0; k < f->nbuf; k++)
        if (word[k]) inside(word[k], 0, "a buffer of a kernel");
    w->kernel = f;
    w->grid = gx;
    w->block = bx;
    w->shared = shared;
    w->cluster = cluster;
    counts.launches += !s->graph;
    return end(0);
}

EXPORT int cuLaunchKernel(Handle *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Handle *s,
                          void **params, void **extra) {
    return launch(f, gx, gy, gz, bx, by, bz, shared, 1, s, params, extra);
}

typedef struct { /* CUlaunchConfig, whose attributes have 72 bytes: a number, and from byte 8 on what it is */
    unsigned grid[3], block[3], shared;
    Handle *stream;
    const uint32_t (*attribute)[18];
    unsigned nattribute;
} Config;
static int fake_LaunchKernelEx(const Config *c, Handle *f, void **params, void **extra) {
    const uint32_t *a = *c->attribute;
    if (c->nattribute != 1 || a[0] != 4 || !a[2] || a[2] > 8 || a[3] != 1 || a[4] != 1) DIE("cuLaunchKernelEx: a cluster along x is expected");
    return launch(f, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], c->shared, a[2], c->stream, params, extra);
}
SOMETIMES(cuLaunchKernelEx, fake_LaunchKernelEx)

/* ---- events ---- */

EXPORT int cuEventCreate(Handle **event, unsigned flags) {
    int e = begin(true);
    if (!e && flags) e = INVALID_VALUE;
    if (e) return end(e);
    *event = handle_new('e');
    lives(1);
    return end(0);
}

EXPORT int cuEventDestroy_v2(Handle *event) {
    int e = begin(true);
    handle(event, 'e')->kind = 0;
    free(event);
    lives(-1);
    return end(e);
}

/* In a stream that is captured, only with flag 1 has an event a time when the graph ran. */
static int fake_EventRecordWithFlags(Handle *event, Handle *s, unsigned flags) {
    int e = begin(true);
    if (!e && flags > 1) e = INVALID_VALUE;
    if (e) return end(e);
    handle(event, 'e')->time = 0;
    if ((handle(s, 's')->graph != NULL) != flags)
        DIE("an event is recorded %s", flags ? "for a graph, but nothing is captured" : "while its stream is captured");
    work_new(s, 0)->event = event;
    return end(0);
}
SOMETIMES(cuEventRecordWithFlags, fake_EventRecordWithFlags)

EXPORT int cuEventRecord(Handle *event, Handle *s) { return fake_EventRecordWithFlags(event, s, 0); }

EXPORT int cuEventElapsedTime(float *ms, Handle *a, Handle *b) {
    int e = begin(true);
    if (!e && (!handle(a, 'e')->time || !handle(b, 'e')->time)) e = NOT_READY;
    if (!e) *ms = (float)((double)(int64_t)(b->time - a->time) / 1e6);
    return end(e);
}

/* ---- graphs ---- */

static int fake_StreamBeginCapture_v2(Handle *s, int mode) {
    int e = begin(true);
    if (!e && !setting("ACCELC_EMU_GRAPHS", 1)) e = NOT_SUPPORTED;
    if (mode != 1) DIE("a capture concerns other threads");
    if (!e && handle(s, 's')->first) DIE("a stream is captured that has work to do");
    if (!e) {
        s->graph = handle_new('g');
        s->graph->last = &s->graph->first;
        capturing++;
    }
    return end(e);
}
SOMETIMES(cuStreamBeginCapture_v2, fake_StreamBeginCapture_v2)

/* A capture ends, even if the call fails. */
static int fake_StreamEndCapture(Handle *s, Handle **graph) {
    int e = begin(true);
    if (!handle(s, 's')->graph) DIE("a capture ends that has not begun");
    *graph = e ? NULL : s->graph;
    if (e) {
        work_drop(s->graph);
        free(s->graph);
    } else lives(1);
    s->graph = NULL;
    capturing--;
    return end(e);
}
SOMETIMES(cuStreamEndCapture, fake_StreamEndCapture)

static int fake_GraphInstantiateWithFlags(Handle **x, Handle *graph, unsigned long long flags) {
    int e = begin(true);
    if (!e && flags) e = INVALID_VALUE;
    if (e) return end(e);
    *x = handle_new('x');
    (*x)->last = &(*x)->first;
    work_copy(handle(graph, 'g'), *x);
    (*x)->next = graphs;
    graphs = *x;
    lives(1);
    return end(0);
}
SOMETIMES(cuGraphInstantiateWithFlags, fake_GraphInstantiateWithFlags)

static int fake_GraphLaunch(Handle *x, Handle *s) {
    int e = begin(true);
    if (e) return end(e);
    if (handle(x, 'x')->stale) DIE("a graph uses memory that was freed");
    if (handle(s, 's')->graph) DIE("a graph is captured");
    for (Work *w = x->first; w; w = w->next) counts.waiting++, counts.launches += w->kernel != NULL, counts.moves += w->from != NULL;
    work_copy(x, s);
    counts.graphs++;
    return end(0);
}
SOMETIMES(cuGraphLaunch, fake_GraphLaunch)

static int fake_GraphExecDestroy(Handle *x) {
    int e = begin(true);
    graph_gone(handle(x, 'x'));
    lives(-1);
    return end(e);
}
SOMETIMES(cuGraphExecDestroy, fake_GraphExecDestroy)

static int fake_GraphDestroy(Handle *graph) {
    int e = begin(true);
    work_drop(handle(graph, 'g'));
    graph->kind = 0;
    free(graph);
    lives(-1);
    return end(e);
}
SOMETIMES(cuGraphDestroy, fake_GraphDestroy)

__attribute__((destructor)) static void at_exit(void) {
    if (counts.live) DIE("%ld contexts, streams, modules and allocations are left at exit", counts.live);
}
