/* ukr_bitonic.c: template `bitonic`, for GPUs: sort and topk of a row by the threads of a block. A bitonic network (Batcher, Sorting networks and
 * their applications, 1968) in the form in which the smaller word always moves to the smaller place: pass p begins with pairs of words that mirror
 * each other in blocks of 2^(p+1), then come those at distances 2^(p-1), .. 1. Words beyond the end would be the largest, so pairs that have one
 * are left out. Words are in shared memory if they fit, else in the block's scratch. topk of a few keeps those, and takes as many others as there
 * is room for until none are left. */
#include "emit_internal.h"
#include "special.h"
#include "ukr.h"

enum { PAR_THREADS, N_PARS };
enum { LEAST = 64, MOST = 512, WORD = 8, STRETCH = 4096 /* words: what topk sorts at once, at least */ };

static bool bitonic_match(const Kernel *k, const Target *t) {
    const Stage *s = &k->stage[0];
    bool orders = k->nstage == 1 && (s->kind == ST_SORT || s->kind == ST_TOPK);
    (void)t;
    return orders && kernel_is_total(k) && dim_typical(k->c, order_extent(s)) >= LEAST;
}

static int bitonic_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    double n = dim_typical(k->c, order_extent(&k->stage[0]));
    int threads = LEAST;
    (void)t, (void)max;
    while (threads < MOST && 2 * threads < n) threads *= 2;
    out[0].par[PAR_THREADS] = threads;
    return 1;
}

static double bitonic_cost(const Kernel *k, const Sched *s, const Target *t) {
    (void)s;
    return nest_stage_cost(k, &k->stage[0], t) / 8;
}

typedef struct Block {
    Order o;
    Sp x;
    int threads;
    LVal tid, room;
} Block;

/* Words that the block has room for in shared memory; 0: it has the whole row in scratch. */
static uint32_t shared_words(Ctx *c, const Stage *s, const Target *t) {
    int64_t most = t->shared / WORD, n = dim_hi(c, order_extent(s));
    if (n <= most && s->kind == ST_SORT) return (uint32_t)n;
    if (s->kind == ST_SORT) return 0;
    int64_t k = dim_hi(c, ((const TopkAttr *)s->node->attr)->k), words = 2 * k > STRETCH ? 2 * k : STRETCH;
    if (k > most / 2) return n <= most ? (uint32_t)n : 0;
    return (uint32_t)(n < words ? n : words);
}

static LFor each(Block *b, LVal lo, LVal hi) { return lir_for(b->x.l, lir_add(b->x.l, lo, b->tid), hi, lir_i64(b->x.l, b->threads), 0, NULL); }

static void put_in_order(Block *b, LVal lo, LVal hi, LVal n) {
    Sp *x = &b->x;
    Lir *l = x->l;
    LIf there = lir_if(l, op(x, S_LT, hi, n), 0);
    LVal first = load64(x, b->room, lo), second = load64(x, b->room, hi), wrong = order_before(&b->o, second, first);
    if (!b->o.keyed) {
        LVal equal = lir_op1(l, S_NOT, order_before(&b->o, first, second));
        equal = op(x, S_AND, equal, op(x, S_LT, second, first));
        wrong = op(x, S_OR, wrong, equal);
    }
    LIf swap = lir_if(l, wrong, 0);
    store64(x, b->room, lo, second);
    store64(x, b->room, hi, first);
    lir_else(l, &swap, NULL);
    lir_endif(l, &swap, NULL, NULL);
    lir_else(l, &there, NULL);
    lir_endif(l, &there, NULL, NULL);
}

/* Passes over n words: the least p with 2^p >= n. */
static LVal passes_of(Sp *x, LVal n) {
    LVal none = c64(x, 0), passes;
    LFor f = loop(x, c64(x, 62), 1, &none);
    LVal next = lir_add(x->l, f.c[0], lir_cast(x->l, op(x, S_LT, op(x, S_SHL, c64(x, 1), f.iv), n), DT_I64));
    lir_for_end(x->l, &f, &next, &passes);
    return passes;
}

/* The first n words of the room. All threads come here, and see what the others left. */
static void sort_room(Block *b, LVal n) {
    Sp *x = &b->x;
    Lir *l = x->l;
    LVal one = c64(x, 1), zero = c64(x, 0);
    lir_barrier(l);
    LFor pass = loop(x, passes_of(x, n), 0, NULL);
    LVal half = op(x, S_SHL, one, pass.iv), shift = lir_addi(l, pass.iv, 1);
    LVal blocks = op(x, S_SHR, lir_addi(l, lir_add(l, n, lir_muli(l, half, 2)), -1), shift);
    LFor p = each(b, zero, op(x, S_SHL, blocks, pass.iv));
    LVal begin = op(x, S_SHL, op(x, S_SHR, p.iv, pass.iv), shift), at = op(x, S_AND, p.iv, lir_addi(l, half, -1));
    LVal low = lir_add(l, begin, at), high = lir_sub(l, lir_add(l, begin, lir_addi(l, lir_muli(l, half, 2), -1)), at);
    put_in_order(b, low, high, n);
    lir_for_end(l, &p, NULL, NULL);
    lir_barrier(l);
    LFor step = loop(x, pass.iv, 0, NULL);
    LVal by = lir_addi(l, lir_sub(l, pass.iv, step.iv), -1), far = op(x, S_SHL, one, by), next = lir_addi(l, by, 1);
    p = each(b, zero, op(x, S_SHL, blocks, pass.iv));
    begin = op(x, S_SHL, op(x, S_SHR, p.iv, by), next);
    low = lir_add(l, begin, op(x, S_AND, p.iv, lir_addi(l, far, -1)));
    put_in_order(b, low, lir_add(l, low, far), n);
    lir_for_end(l, &p, NULL, NULL);
    lir_barrier(l);
    lir_for_end(l, &step, NULL, NULL);
    lir_for_end(l, &pass, NULL, NULL);
}

/* Words of elements [from, to) of the row, to place `at` of the room. */
static void take(Block *b, LVal from, LVal to, LVal at) {
    Lir *l = b->x.l;
    LFor f = each(b, from, to);
    LVal place = lir_add(l, at, lir_sub(l, f.iv, from));
    store64(&b->x, b->room, place, order_word(&b->o, f.iv));
    lir_for_end(l, &f, NULL, NULL);
}

static void sort_row(Block *b) {
    Sp *x = &b->x;
    take(b, c64(x, 0), x->n, c64(x, 0));
    sort_room(b, x->n);
    LFor f = each(b, c64(x, 0), x->n);
    LVal i = order_position(&b->o, load64(x, b->room, f.iv));
    for (int r = 0; r < x->s->nres; r++) special_store(x, r, special_value(x, r, i), f.iv);
    lir_for_end(x->l, &f, NULL, NULL);
}

static void topk_row(Block *b, LVal words) {
    Sp *x = &b->x;
    Lir *l = x->l;
    LVal k = emit_dim(x->e, ((const TopkAttr *)x->s->node->attr)->k), zero = c64(x, 0), first = op(x, S_MIN, x->n, words);
    take(b, zero, first, zero);
    sort_room(b, first);
    LVal more = op(x, S_MAX, lir_sub(l, words, k), c64(x, 1)); /* that fit besides the best */
    LFor f = lir_for(l, first, x->n, more, 0, NULL);
    LVal end = op(x, S_MIN, lir_add(l, f.iv, more), x->n);
    take(b, f.iv, end, k);
    sort_room(b, lir_add(l, k, lir_sub(l, end, f.iv)));
    lir_for_end(l, &f, NULL, NULL);
    f = each(b, zero, k);
    LVal i = order_position(&b->o, load64(x, b->room, f.iv));
    special_store(x, 0, special_value(x, 0, i), f.iv);
    special_store_position(x, 1, i, f.iv);
    lir_for_end(l, &f, NULL, NULL);
}

static void bitonic_build(Emit *e) {
    const Stage *s = &e->k->stage[0];
    Lir *l = e->l;
    Block b = {.o = order_of(e->c, s), .threads = (int)e->s->par[PAR_THREADS]};
    Point p = {.vaxis = -1, .lanes = 1};
    uint32_t words = shared_words(e->c, s, e->t);
    Dim n = order_extent(s);
    b.x = (Sp){.e = e, .l = l, .s = s, .p = &p};
    b.o.x = &b.x;
    lir_block(l, (uint32_t)b.threads, words * WORD);
    b.tid = lir_tid(l);
    b.room = words ? lir_shared(l, 0) : lir_scratch(l);
    if (!words) e->code->scratch = dim_muli(e->c, dim_ceildiv(e->c, n, dim_const(e->c, 8)), 64);
    for (int a = 0; a < s->naxis; a++)
        if (s->axis[a].kind == AX_SCAN) b.x.axis = a;
    Tasks tasks = {0};
    tasks_points(&tasks, s, ~(1u << b.x.axis), &p);
    tasks_begin(e, &tasks);
    b.x.n = emit_dim(e, n);
    LFor t = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    tasks_split(e, &tasks, t.iv);
    if (s->kind == ST_SORT) sort_row(&b);
    else topk_row(&b, words ? lir_i64(l, words) : b.x.n);
    emit_memo_reset(e); /* no barrier: a thread puts words of the next row where it has just read some, or others did before the last barrier */
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_bitonic = {"bitonic", "threads", F_BLOCKS, bitonic_match, bitonic_candidates, bitonic_cost, bitonic_build};
