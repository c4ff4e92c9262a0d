/* emu.c: the emulator: threads of a block take turns on stacks of their own, from meeting to meeting; see emu.h for what it finds. One launch at
 * a time: its callers hold the look-alike's lock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "emu_internal.h"

#define HIDDEN __attribute__((visibility("hidden")))
enum { STACK = 128 << 10, PAGE = 4096, SEVERAL = MOST_THREADS /* "several threads" among readers */ };

typedef enum { READY, BARRIER, LANE_XOR, LOAD_MATRIX, MMA, DONE } State; /* what a thread waits for the others at */
static const char *const state_name[] = {"on its way", "a barrier", "lane_xor", "load_matrix", "mma", "its end"};

typedef struct Copy {
    uint8_t *to;
    const uint8_t *from;
    uint32_t size, valid, group;
} Copy;
typedef struct Thread {
    emu_thread t; /* what the kernel sees */
    void *sp;
    State state;
    uint32_t at;              /* instruction where it waits */
    uint32_t value, mask, in; /* operands of what it waits for */
    const uint8_t *row;
    Copy *copy; /* under way */
    uint32_t ncopy, cap, group;
    emu_log log;
} Thread;
/* Memory that the threads of a block have together, and who has touched which byte since the last barrier: epoch (its number) << 11 | thread. */
typedef struct Region {
    const char *name;
    uint8_t *base;
    size_t bytes, room; /* room: of the shadows */
    uint32_t *wrote, *read;
    uint16_t *flight; /* 1 + thread whose copy is under way to it */
} Region;

typedef struct Meeting {
    uint32_t here, done; /* threads that wait; that have ended */
    const Thread *first; /* of those that wait */
} Meeting;

static struct {
    const emu_launch *l;
    uint32_t block, epoch, done;
    Region shared, scratch;
    Thread thread[MOST_THREADS], *now;
    Meeting warp[MOST_THREADS / WARP], all; /* of each warp, and, at barriers, of the block besides */
    uint32_t order[MOST_THREADS];
    uint8_t *stacks;
    void *scheduler;
    uint64_t random; /* 0: no seed was given */
    bool counts;
} emu = {.shared = {.name = "shared memory"}, .scratch = {.name = "scratch"}};

static _Noreturn void die(const Thread *t, uint32_t at, const char *what) {
    fprintf(stderr, "emu: kernel %s, block %u, thread %u, %%%u: %s\n", emu.l->name, emu.block, t->t.tid, at, what);
    abort();
}
#define DIE(t, at, ...)                                                                                                                              \
    do {                                                                                                                                             \
        char die_text[300];                                                                                                                          \
        snprintf(die_text, sizeof die_text, __VA_ARGS__);                                                                                            \
        die(t, at, die_text);                                                                                                                        \
    } while (0)

static void need(const void *p) {
    if (p && p != MAP_FAILED) return;
    fputs("emu: no memory\n", stderr);
    abort();
}

static Thread *of(emu_thread *t) { return (Thread *)(void *)t; }

static uint32_t below(uint32_t n) { /* a random number (xorshift) */
    emu.random ^= emu.random << 13, emu.random ^= emu.random >> 7, emu.random ^= emu.random << 17;
    return (uint32_t)(emu.random >> 20) % n;
}

/* ---- turns ---- */

/* Saves the registers that functions keep, goes on where `to` was saved. */
HIDDEN void emu_switch(void **save, void *to);
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\n.type emu_switch, @function\n"
        "emu_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        ".size emu_switch, . - emu_switch\n");

static void pause_thread(Thread *t) { emu_switch(&t->sp, emu.scheduler); }

static Meeting *warp_of(const Thread *t) { return &emu.warp[t->t.tid / WARP]; }

static void thread_ends(Thread *t) {
    const Thread *u = warp_of(t)->here ? warp_of(t)->first : emu.all.here ? emu.all.first : NULL;
    t->state = DONE;
    emu.done++, warp_of(t)->done++;
    if (u) DIE(u, u->at, "thread %u has come to its end, this one waits for it at %s", t->t.tid, state_name[u->state]);
}

static void thread_main(void) {
    Thread *t = emu.now;
    emu.l->run(&t->t, emu.l->params);
    thread_ends(t);
    pause_thread(t);
    abort();
}

static void thread_begin(Thread *t) {
    uint8_t *top = emu.stacks + (size_t)(t->t.tid + 1) * STACK;
    void (*start)(void) = thread_main;
    void *frame[8] = {0}; /* six registers, where to return to, and nothing: a function begins 8 bytes below a multiple of 16 */
    memcpy(&frame[6], &start, sizeof start);
    t->sp = top - sizeof frame;
    memcpy(t->sp, frame, sizeof frame);
    t->state = READY;
    t->ncopy = t->group = 0;
}

static void shuffle(uint32_t n, bool back) {
    for (uint32_t k = 0; k < n; k++) emu.order[k] = back ? n - 1 - k : k;
    for (uint32_t k = n; emu.random && k > 1; k--) {
        uint32_t other = below(k), was = emu.order[k - 1];
        emu.order[k - 1] = emu.order[other], emu.order[other] = was;
    }
}

/* All threads of a block, until they have ended. */
static void take_turns(bool back) {
    uint32_t n = emu.l->block;
    for (uint32_t k = 0; k < n; k++) thread_begin(&emu.thread[k]);
    while (emu.done < n) {
        bool any = false;
        shuffle(n, back);
        for (uint32_t k = 0; k < n; k++) {
            emu.now = &emu.thread[emu.order[k]];
            if (emu.now->state != READY) continue;
            any = true;
            emu_switch(&emu.scheduler, emu.now->sp);
        }
        if (any) continue;
        const Thread *a = NULL, *b = NULL;
        for (uint32_t k = 0; k < n; k++) {
            const Thread *t = &emu.thread[k];
            if (t->state == DONE) continue;
            a = a ? a : t;
            b = t->at != a->at ? t : b;
        }
        if (b)
            DIE(a, a->at, "the threads wait for each other: this one at %s, thread %u at %s (%%%u)", state_name[a->state], b->t.tid,
                state_name[b->state], b->at);
        DIE(a, a->at, "the threads wait at %s for threads that do not come", state_name[a->state]);
    }
}

/* ---- meetings ---- */

static void count_logs(void) {
    for (uint32_t w = 0; w < emu.l->block && emu.counts; w += WARP)
        emu_count_warp(&emu.thread[w].log, sizeof(Thread), emu.l->block - w < WARP ? emu.l->block - w : WARP);
}

static void perform(Thread *first, State s) { /* what a warp has met for */
    uint32_t(*word[WARP])[10], value[WARP];
    const uint8_t *row[WARP];
    for (int k = 0; k < WARP; k++) word[k] = &first[k].t.word, row[k] = first[k].row, value[k] = first[k].value;
    if (s == LOAD_MATRIX) emu_load_matrix(row, first->mask, word);
    if (s == MMA) emu_mma(first->in, word);
    for (uint32_t k = 0; k < WARP && s == LANE_XOR; k++) first[k].value = value[k ^ first->mask];
}

static void come(Meeting *m, const Thread *t) {
    const Thread *u = m->first;
    if (m->here++ == 0)
        m->first = t;
    else if (u->state != t->state || u->at != t->at)
        DIE(t, t->at, "thread %u is at %s (%%%u), this one at %s", u->t.tid, state_name[u->state], u->at, state_name[t->state]);
}

/* Thread t waits until all of its warp, or block, are where it is. */
static void meet(Thread *t, State s, uint32_t at) {
    bool all = s == BARRIER;
    uint32_t n = all ? emu.l->block : WARP, first = all ? 0 : t->t.tid / WARP * WARP;
    if (!all && emu.l->block % WARP) DIE(t, at, "%s in a block of %u threads", state_name[s], emu.l->block);
    if (all ? emu.done : warp_of(t)->done) DIE(t, at, "threads have come to their end, this one waits for them at %s", state_name[s]);
    t->state = s, t->at = at;
    come(warp_of(t), t);
    if (all) come(&emu.all, t);
    if ((all ? emu.all.here : warp_of(t)->here) < n) {
        pause_thread(t);
        return;
    }
    if (all) {
        emu.epoch++;
        count_logs();
    } else {
        perform(&emu.thread[first], s);
    }
    for (uint32_t k = first; k < first + n; k++) emu.thread[k].state = READY;
    for (uint32_t k = first; k < first + n; k += WARP) emu.warp[k / WARP].here = 0;
    if (all) emu.all.here = 0;
}

/* ---- memory ---- */

/* The place in shared memory of bytes [p, p + n). */
static size_t place(const Thread *t, const void *p, uint32_t n, uint32_t align, uint32_t at, const char *what) {
    ptrdiff_t x = (const uint8_t *)p - emu.shared.base;
    if (x < 0 || (size_t)x + n > emu.l->shared) DIE(t, at, "%s: bytes %td to %td of %zu of shared memory", what, x, x + n, emu.l->shared);
    if (x % align) DIE(t, at, "%s: byte %td of shared memory is no multiple of %u", what, x, align);
    return (size_t)x;
}

static void on_device(const Thread *t, const void *p, uint32_t n, uint32_t align, uint32_t at, const char *what) {
    if (!emu.l->on_device(p, n)) DIE(t, at, "%s: %u bytes at %p are in no allocation", what, n, p);
    if ((uintptr_t)p % align) DIE(t, at, "%s: address %p is no multiple of %u", what, p, align);
}

static uint32_t mark(uint32_t thread) { return emu.epoch << 11 | thread; }
static bool others(uint32_t mark_, uint32_t thread) { return mark_ >> 11 == emu.epoch && (mark_ & 2047) != thread; }

/* The first byte of [x, x + n) that another thread than `self` has touched since the last barrier ends everything. */
static void no_race(const Region *s, const Thread *t, size_t x, uint32_t n, uint32_t self, bool store, uint32_t at, const char *what) {
    bool bad = false;
    for (size_t k = x; k < x + n; k++) bad |= (int)others(s->wrote[k], self) | (s->flight[k] != 0) | (int)(store & others(s->read[k], self));
    if (!bad) return;
    while (!others(s->wrote[x], self) && !s->flight[x] && !(store && others(s->read[x], self))) x++;
    if (s->flight[x]) DIE(t, at, "%s: a copy of thread %u to byte %zu of %s is under way", what, s->flight[x] - 1u, x, s->name);
    bool wrote = others(s->wrote[x], self);
    uint32_t who = (wrote ? s->wrote[x] : s->read[x]) & 2047;
    if (who == SEVERAL) DIE(t, at, "%s: byte %zu of %s was read by several threads, and no barrier is between", what, x, s->name);
    DIE(t, at, "%s: byte %zu of %s was %s by thread %u, and no barrier is between", what, x, s->name, wrote ? "written" : "read", who);
}

static void reads(Region *s, const Thread *t, size_t x, uint32_t n, uint32_t who, uint32_t at, const char *what) {
    no_race(s, t, x, n, who, false, at, what);
    for (size_t k = x; k < x + n; k++) s->read[k] = mark(s->read[k] >> 11 == emu.epoch && (s->read[k] & 2047) != who ? (uint32_t)SEVERAL : who);
}

static void writes(Region *s, const Thread *t, size_t x, uint32_t n) {
    for (size_t k = x; k < x + n; k++) s->wrote[k] = mark(t->t.tid);
}

/* ---- what kernels call ---- */

static void hook_barrier(emu_thread *t, uint32_t at) { meet(of(t), BARRIER, at); }

static void hook_access(emu_thread *e, const void *p, uint32_t bytes, uint32_t align, uint32_t how, uint32_t at) {
    Thread *t = of(e);
    bool store = how & EMU_STORE;
    if (emu.random && below(16) == 0) pause_thread(t);
    if (emu.counts) emu_count(&t->log, at, how & EMU_SHARED ? COST_SHARED : COST_DEVICE, p, bytes);
    bool shared = how & EMU_SHARED;
    const char *what = store ? "store" : "load";
    size_t x;
    if (shared) {
        x = place(t, p, bytes, align, at, what);
    } else {
        on_device(t, p, bytes, align, at, what);
        size_t each = emu.l->scratch_bytes;
        x = (size_t)((const uint8_t *)p - emu.l->scratch);
        if (x >= each * emu.l->grid) return;
        if (x / each != emu.block || x % each + bytes > each)
            DIE(t, at, "%s: bytes %zu to %zu of the scratch of block %zu", what, x % each, x % each + bytes, x / each);
        x %= each;
    }
    Region *s = shared ? &emu.shared : &emu.scratch;
    if (!store) {
        reads(s, t, x, bytes, t->t.tid, at, what);
        return;
    }
    no_race(s, t, x, bytes, t->t.tid, true, at, what);
    writes(s, t, x, bytes);
}

static uint32_t hook_lane_xor(emu_thread *e, uint32_t v, uint32_t mask, uint32_t at) {
    Thread *t = of(e);
    t->value = v, t->mask = mask;
    meet(t, LANE_XOR, at);
    return t->value;
}

static void hook_load_matrix(emu_thread *e, const void *row, uint32_t transposed, uint32_t at) {
    Thread *t = of(e);
    size_t x = place(t, row, 16, 16, at, "load_matrix");
    if (emu.counts) emu_count(&t->log, at, COST_SHARED, row, 16);
    t->row = row, t->mask = transposed;
    reads(&emu.shared, t, x, 16, SEVERAL, at, "load_matrix"); /* others get what it names */
    meet(t, LOAD_MATRIX, at);
}

static void hook_mma(emu_thread *e, uint32_t in, uint32_t at) {
    of(e)->in = in;
    meet(of(e), MMA, at);
}

static void hook_copy_async(emu_thread *e, void *to, const void *from, uint32_t size, int64_t valid, uint32_t at) {
    Thread *t = of(e);
    size_t x = place(t, to, size, size, at, "copy_async");
    if (valid < 0 || valid > size) DIE(t, at, "copy_async: %lld of %u bytes are valid", (long long)valid, size);
    if (valid) on_device(t, from, (uint32_t)valid, size, at, "copy_async");
    no_race(&emu.shared, t, x, size, t->t.tid, true, at, "copy_async");
    if (emu.counts) emu_count(&t->log, at, COST_SHARED, to, size), emu_count(&t->log, at, COST_DEVICE, from, (uint32_t)valid);
    for (size_t k = x; k < x + size; k++) emu.shared.flight[k] = (uint16_t)(t->t.tid + 1);
    if (t->ncopy == t->cap) need(t->copy = realloc(t->copy, (t->cap = t->cap * 2 + 16) * sizeof *t->copy));
    t->copy[t->ncopy++] = (Copy){to, from, size, (uint32_t)valid, t->group};
}

static void hook_copy_commit(emu_thread *e, uint32_t at) {
    (void)at;
    of(e)->group++;
}

static void hook_copy_wait(emu_thread *e, uint32_t pending, uint32_t at) {
    Thread *t = of(e);
    uint32_t left = 0;
    (void)at;
    for (uint32_t k = 0; k < t->ncopy; k++) {
        Copy c = t->copy[k];
        if (c.group + pending >= t->group) {
            t->copy[left++] = c;
            continue;
        }
        size_t x = (size_t)(c.to - emu.shared.base);
        memcpy(c.to, c.from, c.valid);
        memset(c.to + c.valid, 0, c.size - c.valid);
        memset(emu.shared.flight + x, 0, c.size * sizeof *emu.shared.flight);
        writes(&emu.shared, t, x, c.size);
    }
    t->ncopy = left;
}

/* ---- a launch ---- */

static void prepare(void) { /* once */
    const char *seed = getenv("ACCELC_EMU_SEED");
    if (emu.stacks) return;
    emu.stacks = mmap(NULL, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    need(emu.stacks);
    for (uint32_t t = 0; t < MOST_THREADS; t++) mprotect(emu.stacks + (size_t)t * STACK, PAGE, PROT_NONE);
    emu.random = seed && *seed ? strtoull(seed, NULL, 0) * 2 + 1 : 0;
    emu.counts = getenv("ACCELC_EMU_COUNT") != NULL;
    for (uint32_t t = 0; t < MOST_THREADS; t++)
        emu.thread[t].t = (emu_thread){.tid = t,
                                       .barrier = hook_barrier,
                                       .access = hook_access,
                                       .lane_xor = hook_lane_xor,
                                       .load_matrix = hook_load_matrix,
                                       .mma = hook_mma,
                                       .copy_async = hook_copy_async,
                                       .copy_commit = hook_copy_commit,
                                       .copy_wait = hook_copy_wait};
}

/* Room for shadows of n bytes, nobody's. */
static void region_begin(Region *s, uint8_t *base, size_t n) {
    if (n > s->room) {
        free(s->wrote), free(s->read), free(s->flight);
        need(s->wrote = malloc(n * sizeof *s->wrote));
        need(s->read = malloc(n * sizeof *s->read));
        need(s->flight = malloc(n * sizeof *s->flight));
        s->room = n;
    }
    s->base = base, s->bytes = n;
    if (n) memset(s->wrote, 0, n * sizeof *s->wrote), memset(s->read, 0, n * sizeof *s->read), memset(s->flight, 0, n * sizeof *s->flight);
}

static void run_block(uint32_t block, uint8_t *memory, bool back) {
    const emu_launch *l = emu.l;
    emu.block = block, emu.epoch = 1, emu.done = 0, emu.all = (Meeting){0};
    memset(emu.warp, 0, sizeof emu.warp);
    memset(memory, 0xff, l->shared);
    region_begin(&emu.shared, memory, l->shared);
    region_begin(&emu.scratch, l->scratch + block * l->scratch_bytes, l->scratch_bytes);
    for (uint32_t t = 0; t < l->block; t++) {
        emu_thread *e = &emu.thread[t].t;
        e->ntid = l->block, e->ctaid = block, e->nctaid = l->grid, e->shared = memory;
    }
    if (l->together) take_turns(back);
    for (uint32_t t = 0; t < l->block && !l->together; t++) l->run(&emu.thread[back ? l->block - 1 - t : t].t, l->params);
    count_logs();
}

void emu_run(const emu_launch *l) {
    static unsigned launches;
    prepare();
    uint8_t *memory = aligned_alloc(SHARED_ALIGN, l->shared / SHARED_ALIGN * SHARED_ALIGN + SHARED_ALIGN);
    need(memory);
    bool back = launches++ % 2; /* no order is promised */
    emu.l = l;
    for (uint32_t b = 0; b < l->grid; b++) run_block(back ? l->grid - 1 - b : b, memory, back);
    if (emu.counts) emu_count_print(l->name);
    free(memory);
}
