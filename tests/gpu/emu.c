/* emu.c: the emulator: threads of a block take turns on stacks of their own, from meeting to meeting; see emu.h for what it finds. One launch at
 * a time: its callers hold the look-alike's lock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "emu_block.h"

#define HIDDEN __attribute__((visibility("hidden")))
enum { STACK = 128 << 10, PAGE = 4096 };

static const char *const state_name[] = {[READY] = "on its way",       [BARRIER] = "a barrier",
                                         [CLUSTER_BARRIER] = "a barrier of the cluster",
                                         [LANE_XOR] = "lane_xor",
                                         [LANE_FIRST] = "lane_first",  [LOAD_MATRIX] = "load_matrix",    [STORE_MATRIX] = "store_matrix",
                                         [MMA] = "mma",                [WGMMA] = "wgmma",                [WGMMA_ORDER] = "what orders products",
                                         [REGISTERS] = "registers",    [FOR_REGISTERS] = "registers",    [BARRIER_SOME] = "barrier_some",
                                         [MBARRIER] = "an mbarrier",   [DONE] = "its end"};

uint64_t emu_steps;
emu_block emu = {.shared = {.name = "shared memory"}, .scratch = {.name = "scratch"}};

_Noreturn void emu_die(const Thread *t, uint32_t at, const char *what) {
    fprintf(stderr, "emu: kernel %s, block %u, thread %u, %%%u: %s\n", emu.l->name, t->t.ctaid, t->t.tid, at, what);
    abort();
}

void emu_need(const void *p) {
    if (p && p != MAP_FAILED) return;
    fputs("emu: no memory\n", stderr);
    abort();
}

uint32_t emu_below(uint32_t n) { /* a random number (xorshift) */
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

void emu_pause(Thread *t) { emu_switch(&t->sp, emu.scheduler); }

static Meeting *warp_of(const Thread *t) { return &emu.warp[t->number / WARP]; }

static void thread_ends(Thread *t) {
    Meeting *group = &emu.group[t->number / WARPGROUP];
    const Thread *u = warp_of(t)->here ? warp_of(t)->first : group->here ? group->first : emu.all[t->rank].here ? emu.all[t->rank].first :
                      emu.cluster.here ? emu.cluster.first : NULL;
    t->state = DONE;
    emu.done++, warp_of(t)->done++, group->done++, emu.rank[t->rank].done++;
    if (emu_unseen(emu.rank[t->rank].touched, t->number))
        DIE(t, t->at, "the thread ends, and another block of the cluster may be reaching into its own");
    emu_hopper_ends(t);
    if (u) DIE(u, u->at, "thread %u has come to its end, this one waits for it at %s", t->number, state_name[u->state]);
}

static void thread_main(void) {
    Thread *t = emu.now;
    emu.l->run(&t->t, emu.l->params);
    thread_ends(t);
    emu_pause(t);
    abort();
}

static void thread_begin(Thread *t) {
    uint8_t *top = emu.stacks + (size_t)(t->number + 1) * STACK;
    void (*start)(void) = thread_main;
    void *frame[8] = {0}; /* six registers, where to return to, and nothing: a function begins 8 bytes below a multiple of 16 */
    memcpy(&frame[6], &start, sizeof start);
    t->sp = top - sizeof frame;
    memcpy(t->sp, frame, sizeof frame);
    t->state = READY;
    t->ncopy = t->group = t->nstore = t->store_group = t->fences = 0;
}

static void shuffle(uint32_t n, bool back) {
    for (uint32_t k = 0; k < n; k++) emu.order[k] = back ? n - 1 - k : k;
    for (uint32_t k = n; emu.random && k > 1; k--) {
        uint32_t other = emu_below(k), was = emu.order[k - 1];
        emu.order[k - 1] = emu.order[other], emu.order[other] = was;
    }
}

/* Nobody can go on. */
static _Noreturn void deadlock(void) {
    const Thread *a = NULL, *b = NULL;
    char why[2][120];
    for (uint32_t k = 0; k < emu.threads; k++) {
        const Thread *t = &emu.thread[k];
        if (t->state == DONE) continue;
        a = a ? a : t;
        b = t->at != a->at ? t : b;
    }
    for (int k = 0; k < 2; k++) {
        const Thread *t = k ? b : a;
        if (!t) continue;
        snprintf(why[k], sizeof why[k], "%s", state_name[t->state]);
        if (t->state >= FOR_REGISTERS) emu_hopper_why(t, why[k], sizeof why[k]);
    }
    if (b) DIE(a, a->at, "the threads wait for each other: this one at %s, thread %u at %s (%%%u)", why[0], b->t.tid, why[1], b->at);
    DIE(a, a->at, "the threads wait at %s for threads that do not come", why[0]);
}

/* All threads of a block, until they have ended. */
static void take_turns(bool back) {
    uint32_t n = emu.threads;
    for (uint32_t k = 0; k < n; k++) thread_begin(&emu.thread[k]);
    while (emu.done < n) {
        bool any = false;
        shuffle(n, back);
        for (uint32_t k = 0; k < n; k++) {
            emu.now = &emu.thread[emu.order[k]];
            if (emu.now->state >= FOR_REGISTERS && emu.now->state < DONE && emu_hopper_ready(emu.now)) emu.now->state = READY;
            if (emu.now->state != READY) continue;
            any = true;
            emu_switch(&emu.scheduler, emu.now->sp);
        }
        if (any) continue;
        deadlock();
    }
}

/* ---- meetings ---- */

static void count_logs(void) {
    for (uint32_t w = 0; w < emu.threads && emu.counts; w += WARP)
        emu_count_warp(&emu.thread[w].log, sizeof(Thread), emu.threads - w < WARP ? emu.threads - w : WARP);
}

static void perform(Thread *first, State s) { /* what a warp has met for */
    uint32_t(*word[WARP])[EMU_WORDS], value[WARP];
    const uint8_t *row[WARP];
    for (int k = 0; k < WARP; k++) word[k] = &first[k].t.word, row[k] = first[k].row, value[k] = first[k].value;
    if (s == LOAD_MATRIX) emu_load_matrix(row, first->mask, word);
    if (s == STORE_MATRIX) emu_store_matrix(row, first->mask, word);
    if (s == MMA) emu_mma(first->in, word);
    for (uint32_t k = 0; k < WARP && s == LANE_XOR; k++) first[k].value = value[k ^ first->mask];
    for (uint32_t k = 0; k < WARP && s == LANE_FIRST; k++) first[k].value = value[0];
}

static void come(Meeting *m, const Thread *t) {
    const Thread *u = m->first;
    if (m->here++ == 0)
        m->first = t;
    else if (u->state != t->state || u->at != t->at)
        DIE(t, t->at, "thread %u is at %s (%%%u), this one at %s", u->t.tid, state_name[u->state], u->at, state_name[t->state]);
}

/* All n threads from `first` on have met at a barrier. */
static void everybody_sees(uint32_t first, uint32_t n) {
    static uint32_t all[WHO_COUNT];
    if (!emu.clocks) {
        emu.time++;
        return;
    }
    memset(all, 0, sizeof all);
    for (uint32_t k = first; k < first + n; k++) emu_release(&emu.thread[k], all);
    for (uint32_t k = first; k < first + n; k++) emu_acquire(&emu.thread[k], all);
}

void emu_meet(Thread *t, State s, uint32_t at) {
    bool cluster = s == CLUSTER_BARRIER, all = s == BARRIER || cluster, group = s == WGMMA || s == WGMMA_ORDER || s == REGISTERS;
    uint32_t n = cluster ? emu.threads : all ? emu.l->block : group ? WARPGROUP : WARP, first = t->number / n * n;
    Meeting *m = cluster ? &emu.cluster : all ? &emu.all[t->rank] : group ? &emu.group[first / n] : warp_of(t);
    if (!all && emu.l->block % n) DIE(t, at, "%s in a block of %u threads", state_name[s], emu.l->block);
    uint32_t gone = cluster ? emu.done : all ? emu.rank[t->rank].done : m->done;
    if (gone) DIE(t, at, "threads have come to their end, this one waits for them at %s", state_name[s]);
    emu_steps++;
    t->state = s, t->at = at;
    come(warp_of(t), t);
    if (m != warp_of(t)) come(m, t);
    if (m->here < n) {
        emu_pause(t);
        return;
    }
    for (uint32_t k = first; k < first + n; k++) emu.thread[k].state = READY;
    for (uint32_t k = first; k < first + n; k += WARP) emu.warp[k / WARP].here = 0;
    m->here = 0;
    if (all)
        everybody_sees(first, n), count_logs();
    else if (group)
        emu_hopper_perform(first / n, s);
    else
        perform(&emu.thread[first], s);
}

/* ---- memory ---- */

size_t emu_place(const Thread *t, const void *p, uint32_t n, uint32_t align, uint32_t at, const char *what) {
    size_t own = t->rank * emu.each;
    ptrdiff_t x = (const uint8_t *)p - emu.shared.base - (ptrdiff_t)own;
    if (x < 0 || (size_t)x + n > emu.l->shared) DIE(t, at, "%s: bytes %td to %td of %zu of shared memory", what, x, x + n, emu.l->shared);
    if (x % align) DIE(t, at, "%s: byte %td of shared memory is no multiple of %u", what, x, align);
    return own + (size_t)x;
}

size_t emu_reach(const Thread *t, size_t x, uint32_t rank, uint32_t at, const char *what) {
    if (rank >= emu.ranks) DIE(t, at, "%s: there is no block %u in a cluster of %u", what, rank, emu.ranks);
    if (rank == t->rank) return x;
    if (emu.rank[rank].done == emu.l->block) DIE(t, at, "%s: block %u of the cluster has come to its end", what, rank);
    (void)emu_seen(t->number);
    emu.rank[rank].touched = (emu.time + 1) << WHO_BITS | t->number;
    return x - t->rank * emu.each + rank * emu.each;
}

void emu_on_device(const Thread *t, const void *p, uint32_t n, uint32_t align, uint32_t at, const char *what) {
    if (!emu.l->on_device(p, n)) DIE(t, at, "%s: %u bytes at %p are in no allocation", what, n, p);
    if ((uintptr_t)p % align) DIE(t, at, "%s: address %p is no multiple of %u", what, p, align);
}

static uint32_t mark(uint32_t who) { return (emu.time + 1) << WHO_BITS | who; }

/* Threads [*first, *last). */
static void threads_of(uint32_t who, uint32_t *first, uint32_t *last) {
    uint32_t n = who < OF_WARP ? 1 : who < OF_GROUP ? WARP : WARPGROUP;
    *first = who < OF_WARP ? who : who < OF_GROUP ? (who - OF_WARP) * WARP : (who - OF_GROUP) % MOST_GROUPS * WARPGROUP;
    *last = *first + n < emu.threads ? *first + n : emu.threads;
}

/* The least set that has both, of one warpgroup. */
static uint32_t both(uint32_t a, uint32_t b) {
    uint32_t a0, a1, b0, b1;
    if (a == b || b >= ANY_OF_GROUP || a >= ANY_OF_GROUP) return b;
    threads_of(a, &a0, &a1), threads_of(b, &b0, &b1);
    return a0 / WARP == (b1 - 1) / WARP && b0 / WARP == (a1 - 1) / WARP ? OF_WARP + a0 / WARP : OF_GROUP + a0 / WARPGROUP;
}

uint32_t *emu_seen(uint32_t thread) {
    if (!emu.seen) emu_need(emu.seen = calloc((size_t)MOST_THREADS * WHO_COUNT, sizeof *emu.seen));
    for (uint32_t t = 0; t < emu.threads && !emu.clocks; t++) {
        memset(emu.seen + (size_t)t * WHO_COUNT, 0, WHO_COUNT * sizeof *emu.seen);
        for (uint32_t u = 0; u < emu.threads; u++) emu.seen[(size_t)t * WHO_COUNT + u] = emu.time;
    }
    emu.clocks = true;
    return emu.seen + (size_t)thread * WHO_COUNT;
}

void emu_release(Thread *t, uint32_t *into) {
    uint32_t *mine = emu_seen(t->number);
    if (++emu.time >= UINT32_MAX >> (WHO_BITS + 1)) DIE(t, t->at, "the block has more releases than the emulator can count");
    mine[t->number] = emu.time;
    for (uint32_t k = 0; k < WHO_COUNT; k++) into[k] = into[k] > mine[k] ? into[k] : mine[k];
}

void emu_acquire(const Thread *t, const uint32_t *from) {
    uint32_t *mine = emu_seen(t->number);
    for (uint32_t k = 0; k < WHO_COUNT; k++) mine[k] = mine[k] > from[k] ? mine[k] : from[k];
}

static bool unseen_by(uint32_t mark_, uint32_t thread) {
    uint32_t who = mark_ & (WHO_COUNT - 1), when = mark_ >> WHO_BITS, first, last, unseen = 0, members;
    if (who >= OF_MBARRIER) return emu_seen(thread)[who] < when;
    threads_of(who, &first, &last);
    members = last - first;
    for (uint32_t u = first; u < last; u++) unseen += u != thread && (emu.clocks ? emu_seen(thread)[u] : emu.time) < when;
    return who >= ANY_OF_GROUP ? unseen == members : unseen > 0;
}

bool emu_unseen(uint32_t mark_, uint32_t who) {
    uint32_t first, last;
    bool unseen = false;
    if (!mark_ || (!emu.clocks && mark_ >> WHO_BITS <= emu.time)) return false;
    threads_of(who, &first, &last);
    for (uint32_t t = first; t < last && !unseen; t++) unseen = unseen_by(mark_, t);
    return unseen;
}

static uint32_t groups(void) { return (emu.threads + WARPGROUP - 1) / WARPGROUP; }

static _Noreturn void race(const Region *s, const Thread *t, size_t k, uint32_t mark_, const char *how, uint32_t at, const char *what) {
    uint32_t other = mark_ & (WHO_COUNT - 1);
    if (other >= OF_MBARRIER) DIE(t, at, "%s: byte %zu of %s was loaded by a copy that this thread has not waited for", what, k, s->name);
    if (other >= OF_WARP) DIE(t, at, "%s: byte %zu of %s was %s by several threads, and no barrier is between", what, k, s->name, how);
    DIE(t, at, "%s: byte %zu of %s was %s by thread %u, and no barrier is between", what, k, s->name, how, other);
}

/* Byte k is marked so: others have touched it. Marks that have been seen are remembered in *known: neighbours have the same. */
static bool news(uint32_t mark_, uint32_t who, uint32_t *known) {
    if (mark_ == *known) return false;
    if (emu_unseen(mark_, who)) return true;
    *known = mark_;
    return false;
}

void emu_no_race(const Region *s, const Thread *t, size_t x, uint32_t n, uint32_t who, bool store, uint32_t at, const char *what) {
    uint32_t wrote = 0, read[MOST_GROUPS] = {0};
    for (size_t k = x; k < x + n; k++) {
        if (s->flight[k] == IS_MBARRIER) DIE(t, at, "%s: byte %zu of %s is an mbarrier's", what, k, s->name);
        if (s->flight[k]) DIE(t, at, "%s: a copy of thread %u to byte %zu of %s is under way", what, s->flight[k] - 1u, k, s->name);
        if (news(s->wrote[k], who, &wrote)) race(s, t, k, s->wrote[k], "written", at, what);
        if (!store) continue;
        if (s->busy[k]) DIE(t, at, "%s: byte %zu of %s is read by a product or a store that is under way", what, k, s->name);
        for (uint32_t g = 0; g < groups(); g++)
            if (news(s->read[g][k], who, &read[g])) race(s, t, k, s->read[g][k], "read", at, what);
    }
}

void emu_reads(Region *s, const Thread *t, size_t x, uint32_t n, uint32_t who, uint32_t at, const char *what) {
    uint32_t last = 0, next = 0, *read = s->read[t->number / WARPGROUP];
    emu_no_race(s, t, x, n, who, false, at, what);
    for (size_t k = x; k < x + n; k++) {
        if (k == x || read[k] != last) last = read[k], next = mark(emu_unseen(last, who) ? both(last & (WHO_COUNT - 1), who) : who);
        read[k] = next;
    }
}

void emu_writes(Region *s, const Thread *t, size_t x, uint32_t n) {
    for (size_t k = x; k < x + n; k++) s->wrote[k] = mark(t->number), s->fresh[k] = (t->fences + 1) << WHO_BITS | t->number;
}

/* ---- what kernels call ---- */

static void hook_barrier(emu_thread *t, uint32_t at) { emu_meet(emu_of(t), BARRIER, at); }
static void hook_cluster_barrier(emu_thread *t, uint32_t at) { emu_meet(emu_of(t), CLUSTER_BARRIER, at); }

static void hook_access(emu_thread *e, const void *p, uint32_t bytes, uint32_t align, uint32_t how, uint32_t at) {
    Thread *t = emu_of(e);
    bool store = how & EMU_STORE;
    emu_steps++;
    if (emu.random && emu_below(16) == 0) emu_pause(t);
    if (emu.counts) emu_count(&t->log, at, how & EMU_SHARED ? COST_SHARED : COST_DEVICE, p, bytes);
    bool shared = how & EMU_SHARED;
    const char *what = store ? "store" : "load";
    size_t x;
    if (shared) {
        x = emu_place(t, p, bytes, align, at, what);
    } else {
        emu_on_device(t, p, bytes, align, at, what);
        size_t each = emu.l->scratch_bytes;
        x = (size_t)((const uint8_t *)p - emu.l->scratch);
        if (x >= each * emu.l->grid) return;
        if (x / each != t->t.ctaid || x % each + bytes > each)
            DIE(t, at, "%s: bytes %zu to %zu of the scratch of block %zu", what, x % each, x % each + bytes, x / each);
        x = x % each + t->rank * each;
    }
    Region *s = shared ? &emu.shared : &emu.scratch;
    if (!store) {
        emu_reads(s, t, x, bytes, t->number, at, what);
        return;
    }
    emu_no_race(s, t, x, bytes, t->number, true, at, what);
    emu_writes(s, t, x, bytes);
}

static uint32_t hook_lane_xor(emu_thread *e, uint32_t v, uint32_t mask, uint32_t at) {
    Thread *t = emu_of(e);
    t->value = v, t->mask = mask;
    emu_meet(t, LANE_XOR, at);
    return t->value;
}

static void hook_load_matrix(emu_thread *e, const void *row, uint32_t transposed, uint32_t at) {
    Thread *t = emu_of(e);
    size_t x = emu_place(t, row, 16, 16, at, "load_matrix");
    if (emu.counts) emu_count(&t->log, at, COST_SHARED, row, 16);
    t->row = row, t->mask = transposed;
    emu_reads(&emu.shared, t, x, 16, OF_WARP + t->number / WARP, at, "load_matrix"); /* others get what it names */
    emu_meet(t, LOAD_MATRIX, at);
}

static void hook_store_matrix(emu_thread *e, void *row, uint32_t transposed, uint32_t at) {
    Thread *t = emu_of(e);
    size_t x = emu_place(t, row, 16, 16, at, "store_matrix");
    if (emu.counts) emu_count(&t->log, at, COST_SHARED, row, 16);
    t->row = row, t->mask = transposed;
    emu_no_race(&emu.shared, t, x, 16, t->number, true, at, "store_matrix");
    emu_writes(&emu.shared, t, x, 16);
    emu_meet(t, STORE_MATRIX, at);
}

static uint32_t hook_lane_first(emu_thread *e, uint32_t v, uint32_t at) {
    emu_of(e)->value = v;
    emu_meet(emu_of(e), LANE_FIRST, at);
    return emu_of(e)->value;
}

static void hook_mma(emu_thread *e, uint32_t in, uint32_t at) {
    emu_of(e)->in = in;
    emu_meet(emu_of(e), MMA, at);
}

static void hook_copy_async(emu_thread *e, void *to, const void *from, uint32_t size, int64_t valid, uint32_t at) {
    Thread *t = emu_of(e);
    size_t x = emu_place(t, to, size, size, at, "copy_async");
    if (valid < 0 || valid > size) DIE(t, at, "copy_async: %lld of %u bytes are valid", (long long)valid, size);
    if (valid) emu_on_device(t, from, (uint32_t)valid, size, at, "copy_async");
    emu_no_race(&emu.shared, t, x, size, t->number, true, at, "copy_async");
    if (emu.counts) emu_count(&t->log, at, COST_SHARED, to, size), emu_count(&t->log, at, COST_DEVICE, from, (uint32_t)valid);
    for (size_t k = x; k < x + size; k++) emu.shared.flight[k] = (uint16_t)(t->number + 1);
    if (t->ncopy == t->cap) emu_need(t->copy = realloc(t->copy, (t->cap = t->cap * 2 + 16) * sizeof *t->copy));
    t->copy[t->ncopy++] = (Copy){to, from, size, (uint32_t)valid, t->group};
}

static void hook_copy_commit(emu_thread *e, uint32_t at) {
    (void)at;
    emu_of(e)->group++;
}

static void hook_copy_wait(emu_thread *e, uint32_t pending, uint32_t at) {
    Thread *t = emu_of(e);
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
        emu_writes(&emu.shared, t, x, c.size);
    }
    t->ncopy = left;
}

/* ---- a launch ---- */

static void prepare(void) { /* once */
    const char *seed = getenv("ACCELC_EMU_SEED");
    if (emu.stacks) return;
    emu.stacks = mmap(NULL, (size_t)MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    emu_need(emu.stacks);
    for (uint32_t t = 0; t < MOST_THREADS; t++) mprotect(emu.stacks + (size_t)t * STACK, PAGE, PROT_NONE);
    emu.random = seed && *seed ? strtoull(seed, NULL, 0) * 2 + 1 : 0;
    emu.counts = getenv("ACCELC_EMU_COUNT") != NULL;
    for (uint32_t t = 0; t < MOST_THREADS; t++) {
        emu.thread[t].number = t;
        emu.thread[t].t = (emu_thread){.barrier = hook_barrier,
                                       .cluster_barrier = hook_cluster_barrier,
                                       .access = hook_access,
                                       .lane_xor = hook_lane_xor,
                                       .load_matrix = hook_load_matrix,
                                       .mma = hook_mma,
                                       .copy_async = hook_copy_async,
                                       .copy_commit = hook_copy_commit,
                                       .copy_wait = hook_copy_wait,
                                       .lane_first = hook_lane_first,
                                       .store_matrix = hook_store_matrix};
        emu_hopper_hooks(&emu.thread[t].t);
    }
}

/* Room for shadows of n bytes, nobody's. */
static void region_begin(Region *s, uint8_t *base, size_t n) {
    size_t each = (2 + groups()) * sizeof *s->wrote + 2 * sizeof *s->flight;
    if (n * each > s->room) {
        free(s->wrote);
        emu_need(s->wrote = malloc(s->room = n * each));
    }
    s->base = base, s->bytes = n;
    if (!n) return;
    memset(s->wrote, 0, n * each);
    s->fresh = s->wrote + n;
    for (uint32_t g = 0; g < groups(); g++) s->read[g] = s->fresh + (g + 1) * n;
    s->flight = (uint16_t *)(void *)(s->fresh + (groups() + 1) * n), s->busy = s->flight + n;
}

/* The blocks from `block` on that run together. */
static void run_cluster(uint32_t block, uint8_t *memory, bool back) {
    const emu_launch *l = emu.l;
    emu.time = emu.done = 0, emu.clocks = false, emu.cluster = (Meeting){0};
    memset(emu.warp, 0, sizeof emu.warp);
    memset(emu.group, 0, sizeof emu.group);
    memset(emu.all, 0, sizeof emu.all);
    memset(emu.rank, 0, sizeof emu.rank);
    memset(memory, 0xff, emu.ranks * emu.each);
    region_begin(&emu.shared, memory, emu.ranks * emu.each);
    region_begin(&emu.scratch, l->scratch + block * l->scratch_bytes, emu.ranks * l->scratch_bytes);
    emu_hopper_begin();
    for (uint32_t t = 0; t < emu.threads; t++) {
        emu_thread *e = &emu.thread[t].t;
        uint32_t rank = emu.thread[t].rank = t / l->block;
        e->tid = t % l->block, e->ntid = l->block, e->ctaid = block + rank, e->nctaid = l->grid, e->shared = memory + rank * emu.each;
    }
    if (emu.ranks > 1) (void)emu_seen(0);
    if (l->together) take_turns(back);
    for (uint32_t t = 0; t < emu.threads && !l->together; t++) l->run(&emu.thread[back ? emu.threads - 1 - t : t].t, l->params);
    emu_hopper_end();
    count_logs();
}

void emu_run(const emu_launch *l) {
    static unsigned launches;
    prepare();
    emu.l = l;
    emu.ranks = l->cluster ? l->cluster : 1, emu.threads = l->block * emu.ranks;
    emu.each = l->shared / SHARED_ALIGN * SHARED_ALIGN + SHARED_ALIGN;
    if (emu.ranks > 1 && (emu.ranks > MOST_RANKS || l->grid % emu.ranks || l->block % WARPGROUP || emu.threads > MOST_THREADS || !l->together)) {
        fprintf(stderr, "emu: kernel %s: %u blocks of %u threads in clusters of %u\n", l->name, l->grid, l->block, emu.ranks);
        abort();
    }
    uint8_t *memory = aligned_alloc(SHARED_ALIGN, emu.ranks * emu.each);
    emu_need(memory);
    bool back = launches++ % 2; /* no order is promised */
    for (uint32_t b = 0; b < l->grid; b += emu.ranks) run_cluster(back ? l->grid - emu.ranks - b : b, memory, back);
    if (emu.counts) emu_count_print(l->name);
    free(memory);
}
