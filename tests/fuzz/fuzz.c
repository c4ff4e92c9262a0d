/* fuzz.c: damaged models and texts, in process. Seeds are files; an input is a seed after a few random edits (of bytes, of
 * numbers in text, of pieces of other seeds), given to the reader that its name calls for: .onnx and .onnxtxt to the
 * importer, .ir to the parser and the verifier. What is accepted must verify, and its text must be read back to the same text.
 *     fuzz INPUTS SEED FOLDER SAVE      that many inputs; SAVE: where those that fail are written; exit status 1 if there are any
 *     fuzz FILE...                      runs these once, as they are
 * Work is done in a child that is replaced when it ends; what it was doing is in shared memory. Inputs follow from SEED and the
 * sorted list of files. A crash, an ICE, more than 2 GiB or more than 10 seconds (100 with sanitizers) is a failure. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frontend/frontend.h"

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
enum { MAX_SEEDS = 4096, LARGEST = 1 << 16, MAX_FAILURES = 20 };
static const rlim_t memory_limit = (rlim_t)2 << 30;

typedef enum { PROTOBUF, TEXT, IR, KINDS } Kind;
static const char *const endings[KINDS] = {".onnx", ".onnxtxt", ".ir"};
typedef struct Seed { char *name; unsigned char *data; size_t n; Kind kind; } Seed;
typedef struct Corpus { Seed seed[MAX_SEEDS]; uint32_t n; } Corpus;

/* What the child is doing. */
typedef struct Shared {
    _Atomic uint64_t turn, accepted;
    uint32_t kind, seed;
    size_t n;
    unsigned char data[LARGEST + 1];
} Shared;

static uint64_t next_random(uint64_t *s) {
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
static size_t below(uint64_t *s, size_t n) { return n ? next_random(s) % n : 0; }

/* ---- seeds ---- */

static bool kind_of(const char *name, Kind *k) {
    size_t n = strlen(name);
    for (int i = 0; i < KINDS; i++) {
        size_t e = strlen(endings[i]);
        if (n > e && !strcmp(name + n - e, endings[i])) return *k = (Kind)i, true;
    }
    return false;
}

static bool load(const char *path, Seed *s) {
    FILE *f = fopen(path, "rb");
    if (!f || !kind_of(path, &s->kind)) return false;
    s->name = strdup(path);
    s->data = malloc(LARGEST + 1);
    s->n = s->data ? fread(s->data, 1, LARGEST, f) : 0;
    bool whole = s->data && fgetc(f) == EOF;
    if (s->data) s->data[s->n] = 0;
    fclose(f);
    return whole;
}

static int by_name(const void *a, const void *b) { return strcmp(((const Seed *)a)->name, ((const Seed *)b)->name); }

static void load_folder(const char *folder, Corpus *c) {
    DIR *d = opendir(folder);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d)) && c->n < MAX_SEEDS;) {
        char path[4096];
        Kind k;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (kind_of(path, &k) && load(path, &c->seed[c->n])) c->n++;
    }
    closedir(d);
    if (c->n) qsort(c->seed, c->n, sizeof *c->seed, by_name);
}

/* ---- edits ---- */

static void replace(Shared *s, size_t at, size_t old, const void *with, size_t n) {
    if (s->n - old + n > LARGEST) return;
    memmove(s->data + at + n, s->data + at + old, s->n - at - old);
    if (n) memcpy(s->data + at, with, n);
    s->n += n - old;
}

/* A number in text, or a byte that ends a varint, becomes one that is likely to hurt. */
static void edit_number(Shared *s, uint64_t *r, size_t at) {
    static const char *const numbers[] = {"0", "1", "-1", "2", "9223372036854775807", "-9223372036854775808", "4294967296", "1e400", "nan",
                                          "99999999999999999999", "2147483648", "65536", "127", "-3"};
    static const unsigned char varints[][10] = {{0}, {1}, {0x7f}, {0xff, 0xff, 0xff, 0xff, 0x07},
                                                {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
                                                {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, {0x80, 0x80, 0x80, 0x80, 0x10}};
    static const size_t lengths[] = {1, 1, 1, 5, 9, 10, 5};
    if (s->kind == PROTOBUF) {
        size_t k = below(r, sizeof lengths / sizeof *lengths);
        replace(s, at, 1, varints[k], lengths[k]);
        return;
    }
    size_t from = at;
    while (from < s->n && (s->data[from] < '0' || s->data[from] > '9')) from++;
    size_t to = from;
    while (to < s->n && s->data[to] >= '0' && s->data[to] <= '9') to++;
    const char *with = numbers[below(r, sizeof numbers / sizeof *numbers)];
    if (to > from) replace(s, from, to - from, with, strlen(with));
}

static void edit(Shared *s, const Corpus *c, uint64_t *r) {
    if (!s->n) return;
    size_t at = below(r, s->n), n = 1 + below(r, below(r, 2) ? 4 : 60);
    if (n > s->n - at) n = s->n - at;
    const Seed *other = &c->seed[below(r, c->n)];
    unsigned char byte = (unsigned char)next_random(r), copy[64];
    switch (below(r, 9)) {
    case 0: s->data[at] = byte; break;
    case 1: s->data[at] ^= (unsigned char)(1u << (byte & 7)); break;
    case 2: replace(s, at, n, NULL, 0); break;
    case 3:
        memcpy(copy, s->data + at, n);
        replace(s, below(r, s->n), 0, copy, n);
        break;
    case 4:
        memcpy(copy, s->data + at, n);
        replace(s, at, n, NULL, 0);
        replace(s, below(r, s->n + 1), 0, copy, n);
        break;
    case 5:
        if (other->kind == s->kind && other->n) {
            size_t from = below(r, other->n), k = 1 + below(r, 60);
            replace(s, at, 0, other->data + from, k < other->n - from ? k : other->n - from);
        }
        break;
    case 6: replace(s, at, 0, &byte, 1); break;
    case 7: if (!below(r, 20)) s->n = at; break; /* cut off */
    default: edit_number(s, r, at);
    }
}

/* ---- one input ---- */

static void must_agree(Graph *g, Ctx *c) {
    Buf one = {.c = c}, two = {.c = c};
    if (!graph_verify(g, "fuzz")) ICE("an accepted graph does not verify: %s", ctx_messages(c));
    graph_print(&one, g);
    Ctx *again = ctx_new();
    Graph *h = graph_parse(again, buf_str(&one), "again.ir");
    if (!h) ICE("printed text is not read: %s", ctx_messages(again));
    graph_print(&two, h);
    bool noise = strstr(buf_str(&one), " blob \""); /* large constants are not in the text */
    if (!noise && strcmp(buf_str(&one), buf_str(&two))) ICE("text changes when it is read and printed:\n%s\n---\n%s", buf_str(&one), buf_str(&two));
    ctx_free(again);
}

static bool accept_input(Kind kind, const unsigned char *data, size_t n) {
    Ctx *c = ctx_new();
    Graph *g;
    if (kind == IR) {
        g = graph_parse(c, (const char *)data, "fuzz.ir");
        if (g && !graph_verify(g, "parsing")) g = NULL; /* declared types that do not follow */
    } else {
        FrontendOptions o = {.syntax = kind == TEXT ? SYNTAX_TEXT : SYNTAX_PROTOBUF};
        g = frontend_read_bytes(c, data, n, "fuzz.onnx", NULL, &o);
    }
    if (g) must_agree(g, c);
    else if (!ctx_errors(c)) ICE("refused without a message");
    ctx_free(c);
    return g != NULL;
}

/* ---- the two processes ---- */

static void limit_child(void) {
    struct rlimit memory = {memory_limit, memory_limit}, core = {0, 0};
    setrlimit(RLIMIT_CORE, &core);
    if (!SANITIZED) setrlimit(RLIMIT_AS, &memory); /* shadow memory is larger than that */
}

static void child(Shared *s, const Corpus *c, uint64_t random_seed, uint64_t inputs) {
    limit_child();
    while (s->turn < inputs) {
        uint64_t turn = atomic_fetch_add(&s->turn, 1) + 1, r = random_seed * 1000003u + turn;
        const Seed *seed = &c->seed[s->seed = (uint32_t)below(&r, c->n)];
        s->kind = seed->kind;
        s->n = seed->n;
        memcpy(s->data, seed->data, seed->n);
        for (size_t k = below(&r, 6); k-- > 0 || s->n > LARGEST;) edit(s, c, &r);
        s->data[s->n] = 0;
        alarm(SANITIZED ? 100 : 10);
        if (accept_input(s->kind, s->data, s->n)) atomic_fetch_add(&s->accepted, 1);
        alarm(0);
    }
    fflush(NULL);
    _exit(0);
}

static void save(const Shared *s, const Corpus *c, const char *folder, int status, int number) {
    char path[4096];
    const char *why = !WIFSIGNALED(status) ? "gave up" : WTERMSIG(status) == SIGALRM ? "does not end" : strsignal(WTERMSIG(status));
    snprintf(path, sizeof path, "%s/fail%d%s", folder, number, endings[s->kind]);
    FILE *f = fopen(path, "wb");
    if (f) {
        fwrite(s->data, 1, s->n, f);
        fclose(f);
    }
    printf("FAIL %s (from %s): %s\n", path, c->seed[s->seed].name, why);
    fflush(stdout);
}

static int hunt(const char *inputs, const char *random_seed, const char *folder, const char *where) {
    static Corpus c;
    load_folder(folder, &c);
    Shared *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!c.n || s == MAP_FAILED) {
        fprintf(stderr, "fuzz: no seeds in %s, or no memory\n", folder);
        return 2;
    }
    uint64_t n = strtoull(inputs, NULL, 0);
    int failures = 0;
    while (s->turn < n && failures < MAX_FAILURES) {
        fflush(NULL);
        pid_t pid = fork();
        if (!pid) child(s, &c, strtoull(random_seed, NULL, 0), n);
        int status = 0;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        if (status) save(s, &c, where, status, ++failures);
    }
    printf("%u seeds, %llu inputs, %llu accepted, %d failures\n", c.n, (unsigned long long)s->turn, (unsigned long long)s->accepted, failures);
    return failures ? 1 : 0;
}

int main(int argc, char **argv) {
    Kind k;
    if (argc == 5 && !kind_of(argv[1], &k)) return hunt(argv[1], argv[2], argv[3], argv[4]);
    limit_child();
    for (int i = 1; i < argc; i++) {
        Seed s;
        if (!load(argv[i], &s)) {
            fprintf(stderr, "fuzz: cannot use %s\n", argv[i]);
            return 2;
        }
        printf("%s: %s\n", argv[i], accept_input(s.kind, s.data, s.n) ? "accepted" : "refused");
    }
    return argc < 2 ? 2 : 0;
}
