/* emu_hopper.c: what goes on beside the threads' work: phases of mbarriers, copies of tiles,
 * products of warpgroups.
 *
 * Found are: a phase that gets more arrivals, or bytes, than it should, or never ends (its
 * mbarrier's place and what it lacks are told); an mbarrier that is used before its init can be
 * seen; a copy to bytes that others may still need, or that a product or store under way reads, and
 * reads of what a copy brings by who has not waited for that mbarrier; stores that no fence_async
 * follows before they are read here; tiles that are not aligned, are not what the kernel takes them
 * for, or leave shared memory or allocations, or begin where their map has no window; products whose
 * threads differ, that no fence precedes, whose sums are not what one product left, or are taken
 * before a wait has retired them; stores and products that are under way when a thread ends, copies
 * when the block ends. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu_block.h"

enum {
    PHASE_BYTES = 8,
    SIXTEEN = 16,
    TILE_ALIGN = 128,
    SWIZZLE = 1024,
    ROW = 128,
    STEP = 32 /* bytes of k that a product takes of a row */
};
enum {
    REGISTERS_OF_ALL = 65536,
    MOST_REGISTERS = 255,
    SUMS = 256,
    VERSIONS = 128,
    MOST_PRODUCTS = 64
};
#define TICKET                                                                                     \
    0x7fc00000u /* a value that is no number, for a word of a sum: | its version << 15 | the sum   \
                   << 7 | which word */

typedef struct Load { /* to be done for an mbarrier */
    size_t to;
    const emu_map *map; /* NULL: bytes from `from` */
    const uint8_t *from;
    int32_t at[EMU_NUMBERS];
    uint32_t bytes;
} Load;
typedef struct Mbarrier {
    size_t place;
    uint32_t arrivals, missing, phase; /* phase: how many are over */
    int64_t bytes;                     /* that are expected and have not come */
    uint32_t init_by, init_mark;
    bool fenced;
    Load *load;
    uint32_t nload, cap;
    uint32_t now[WHO_COUNT], over[WHO_COUNT]; /* what those know that have arrived in this phase, in
                                                 those that are over */
} Mbarrier;
typedef struct Named {
    uint32_t threads, here, round, of_warp[MOST_WARPS];
    uint32_t known[WHO_COUNT];
} Named;
typedef struct Sum {
    uint32_t version, products; /* products: under way, that make it */
    uint32_t word[WARPGROUP][EMU_FRAGMENTS];
} Sum;
typedef struct Product {
    size_t a, b;
    uint32_t in, how, columns, panel, add, group;
    Sum *sum;
    uint32_t fragment[WARPGROUP][4];
} Product;
typedef struct Group { /* a warpgroup */
    uint32_t registers, nproduct, commits, sums;
    bool fenced;
    Product *product; /* MOST_PRODUCTS */
    Sum *sum;         /* SUMS */
} Group;

static struct {
    Mbarrier *mbarrier[MOST_MBARRIERS];
    uint32_t nmbarrier;
    Named named[MOST_RANKS][BARRIERS];
    Group group[MOST_GROUPS];
    uint32_t registers[MOST_RANKS]; /* that nobody of a block has */
} hop;

static uint32_t group_of(const Thread *t) { return t->number / WARPGROUP; }

/* ---- bytes of shared memory ---- */

static size_t swizzle(size_t x) { return x ^ (x >> 3 & 7 * SIXTEEN); }

/* Bytes that are read beside the threads' work, for `who`. */
static void read_here(const Thread *t, size_t x, uint32_t n, uint32_t who, uint32_t at,
                      const char *what) {
    const Region *s = &emu.shared;
    emu_no_race(s, t, x, n, who, false, at, what);
    for (size_t k = x; k < x + n; k++) {
        uint32_t by = s->fresh[k] & (WHO_COUNT - 1);
        if (s->fresh[k] && s->fresh[k] >> WHO_BITS == emu.thread[by].fences + 1)
            DIE(t, at, "%s: byte %zu of %s was stored by thread %u, and no fence_async is between",
                what, k, s->name, by);
    }
}

static void busy(size_t x, uint32_t n, int change) {
    for (size_t k = x; k < x + n; k++) emu.shared.busy[k] = (uint16_t)(emu.shared.busy[k] + change);
}

/* ---- tiles ---- */

typedef enum { LOADS, STORES, LOOKS } Tile;

static uint32_t tile_bytes(const emu_map *m) {
    uint32_t n = (uint32_t)m->step[0];
    for (int d = 0; d < (m->windows ? 2 : m->rank); d++) n *= m->box[d];
    return n;
}

/* Whether a tile of windows may be loaded from there: from a point of theirs, with offsets that
 * there are bits for. */
static bool is_window(const emu_map *m, const int32_t *at) {
    for (int d = 1; d < m->rank - 1; d++) {
        int64_t way = (int64_t)at[d] - m->window[d - 1].first,
                most = (int64_t)m->extent[d] - 1 + m->window[d - 1].end - m->window[d - 1].first;
        int32_t offset = at[m->rank + d - 1],
                offsets = 1 << (m->rank == 3 ? 16 : m->rank == 4 ? 8 : 5);
        if (way < 0 || way > most || way % m->stride[d - 1]) return false;
        if (offset < 0 || offset >= offsets) return false;
    }
    return true;
}

/* The next point of windows. */
static void step(const emu_map *m, int32_t *point) {
    int d = 1;
    while (d < m->rank - 1) {
        point[d] += m->stride[d - 1];
        if (point[d] <= (int64_t)m->extent[d] - 1 + m->window[d - 1].end) return;
        point[d] = m->window[d - 1].first, d++;
    }
    point[d]++;
}

/* Coordinate along an axis but the first of a tile's row. */
static int64_t coordinate(const emu_map *m, const int32_t *at, const int32_t *point, int d,
                          uint32_t row) {
    if (m->windows) return (int64_t)point[d] + (d < m->rank - 1 ? at[m->rank + d - 1] : 0);
    for (int k = 1; k < d; k++) row /= m->box[k];
    return (int64_t)at[d] + row % m->box[d];
}

/* A tile, element by element: it is copied, or (LOOKS) what is read or written must be on the
 * device. */
static void tile(const emu_map *m, const int32_t *at, size_t x, Tile what, const Thread *t,
                 uint32_t ins) {
    uint32_t size = (uint32_t)m->step[0], rows = tile_bytes(m) / size / m->box[0];
    int32_t point[EMU_AXES];
    memcpy(point, at, sizeof point);
    for (uint32_t r = 0; r < rows; r++) {
        bool inside = true;
        uint8_t *row = m->base;
        for (int d = 1; d < m->rank; d++) {
            int64_t k = coordinate(m, at, point, d, r);
            inside &= k >= 0 && k < (int64_t)m->extent[d];
            row += (int64_t)m->step[d] * k;
        }
        for (uint32_t e = 0; e < m->box[0]; e++) {
            int64_t k = (int64_t)at[0] + e;
            bool is = inside && k >= 0 && k < (int64_t)m->extent[0];
            size_t here = x + (size_t)(r * m->box[0] + e) * size;
            uint8_t *shared = emu.shared.base + (m->swizzled ? swizzle(here) : here);
            if (what == LOOKS && is) emu_on_device(t, row + k * size, size, 1, ins, "a tile");
            if (what == LOADS && is) memcpy(shared, row + k * size, size);
            if (what == LOADS && !is) memset(shared, 0, size);
            if (what == STORES && is) memcpy(row + k * size, shared, size);
        }
        if (m->windows) step(m, point);
    }
}

/* ---- mbarriers ---- */

static Mbarrier *mbarrier_at(const Thread *t, size_t x, uint32_t at, const char *what) {
    for (uint32_t k = 0; k < hop.nmbarrier; k++) {
        Mbarrier *m = hop.mbarrier[k];
        if (m->place != x) continue;
        if (m->init_by != t->number && (!m->fenced || emu_unseen(m->init_mark, t->number)))
            DIE(t, at,
                "%s: the init of the mbarrier at byte %zu, by thread %u, cannot be seen here", what,
                x, m->init_by);
        return m;
    }
    DIE(t, at, "%s: there is no mbarrier at byte %zu", what, x);
}

static uint32_t who_is(const Mbarrier *m) {
    uint32_t k = 0;
    while (hop.mbarrier[k] != m) k++;
    return OF_MBARRIER + k;
}

/* What has been begun for it comes. */
static void land(Mbarrier *m) {
    Region *s = &emu.shared;
    for (uint32_t k = 0; k < m->nload; k++) {
        const Load *l = &m->load[k];
        if (l->map)
            tile(l->map, l->at, l->to, LOADS, NULL, 0);
        else
            memcpy(s->base + l->to, l->from, l->bytes);
        for (size_t x = l->to; x < l->to + l->bytes; x++) {
            s->wrote[x] = (m->phase + 1) << WHO_BITS | who_is(m), s->fresh[x] = 0, s->flight[x] = 0;
            for (uint32_t g = 0; g * WARPGROUP < emu.threads; g++) s->read[g][x] = 0;
        }
        m->bytes -= l->bytes;
    }
    m->nload = 0;
}

/* When all have arrived, the bytes come; when all have come, the phase is over. */
static void settle(Mbarrier *m, const Thread *t, uint32_t at) {
    if (m->missing) return;
    land(m);
    if (m->bytes < 0)
        DIE(t, at, "mbarrier at byte %zu, phase %u: %lld more bytes have come than were expected",
            m->place, m->phase, (long long)-m->bytes);
    if (m->bytes) return;
    m->phase++, m->missing = m->arrivals;
    for (uint32_t k = 0; k < WHO_COUNT; k++)
        m->over[k] = m->over[k] > m->now[k] ? m->over[k] : m->now[k];
    memset(m->now, 0, sizeof m->now);
}

static void mbarrier_init(Thread *t, void *place, uint32_t arrivals, uint32_t at) {
    size_t x = emu_place(t, place, PHASE_BYTES, PHASE_BYTES, at, "mbarrier_init");
    emu_no_race(&emu.shared, t, x, PHASE_BYTES, t->number, true, at, "mbarrier_init");
    if (hop.nmbarrier == MOST_MBARRIERS) DIE(t, at, "more than %d mbarriers", MOST_MBARRIERS);
    Mbarrier **m = &hop.mbarrier[hop.nmbarrier++];
    if (!*m) emu_need(*m = calloc(1, sizeof **m));
    Load *load = (*m)->load;
    uint32_t cap = (*m)->cap;
    **m = (Mbarrier){.place = x,
                     .arrivals = arrivals,
                     .missing = arrivals,
                     .init_by = t->number,
                     .load = load,
                     .cap = cap};
    (void)emu_seen(t->number);
    (*m)->init_mark = (emu.time + 1) << WHO_BITS | t->number;
    for (size_t k = x; k < x + PHASE_BYTES; k++) emu.shared.flight[k] = IS_MBARRIER;
}

static bool over(const Mbarrier *m, uint32_t parity) { return (m->phase & 1) != parity; }

static void see(const Thread *t, Mbarrier *m) {
    emu_acquire(t, m->over);
    emu_seen(t->number)[who_is(m)] = m->phase;
}

static void hook_mbarrier(emu_thread *e, void *place, uint32_t what, int64_t v, uint32_t at) {
    static const char *const name[] = {"mbarrier_init", "mbarrier_arrive", "mbarrier_expect",
                                       "mbarrier_wait", "mbarrier_arrive_at"};
    Thread *t = emu_of(e);
    if (what == EMU_INIT) {
        mbarrier_init(t, place, (uint32_t)v, at);
        return;
    }
    if (emu.random && emu_below(4) == 0) emu_pause(t);
    size_t x = emu_place(t, place, PHASE_BYTES, PHASE_BYTES, at, name[what]);
    if (what == EMU_ARRIVE_AT) x = emu_reach(t, x, (uint32_t)v, at, name[what]);
    Mbarrier *m = mbarrier_at(t, x, at, name[what]);
    if (what == EMU_WAIT) {
        if (v < 0 || v > 1) DIE(t, at, "mbarrier_wait: %lld is no parity", (long long)v);
        t->value = who_is(m) - OF_MBARRIER, t->mask = (uint32_t)v, t->at = at;
        if (over(m, t->mask)) {
            see(t, m);
            return;
        }
        t->state = MBARRIER;
        emu_pause(t);
        return;
    }
    if (what == EMU_EXPECT && (v < 0 || v >= 1 << 20))
        DIE(t, at, "mbarrier_expect: %lld bytes", (long long)v);
    if (!m->missing)
        DIE(t, at,
            "%s: all %u have arrived at the mbarrier at byte %zu, whose phase %u is not over",
            name[what], m->arrivals, m->place, m->phase);
    if (what == EMU_EXPECT) m->bytes += v;
    emu_release(t, m->now);
    m->missing--;
    settle(m, t, at);
}

/* ---- copies ---- */

static void load(Thread *t, Load l, size_t mbarrier, uint32_t at, const char *what) {
    Mbarrier *m = mbarrier_at(t, mbarrier, at, what);
    emu_no_race(&emu.shared, t, l.to, l.bytes, t->number, true, at, what);
    for (size_t x = l.to; x < l.to + l.bytes; x++) emu.shared.flight[x] = (uint16_t)(t->number + 1);
    if (m->nload == m->cap)
        emu_need(m->load = realloc(m->load, (m->cap = m->cap * 2 + 8) * sizeof *m->load));
    m->load[m->nload++] = l;
    settle(m, t, at);
}

static void hook_bulk_load(emu_thread *e, void *to, const void *from, int64_t bytes, void *mbarrier,
                           uint32_t at) {
    Thread *t = emu_of(e);
    if (bytes < 0 || bytes % SIXTEEN || (uint64_t)bytes > emu.l->shared)
        DIE(t, at, "bulk_load: %lld bytes", (long long)bytes);
    if (bytes) emu_on_device(t, from, (uint32_t)bytes, SIXTEEN, at, "bulk_load");
    load(t,
         (Load){.to = emu_place(t, to, (uint32_t)bytes, SIXTEEN, at, "bulk_load"),
                .from = from,
                .bytes = (uint32_t)bytes},
         emu_place(t, mbarrier, PHASE_BYTES, PHASE_BYTES, at, "bulk_load"), at, "bulk_load");
}

static void hook_tensor(emu_thread *e, const emu_map *m, void *place, void *mbarrier,
                        uint32_t bytes, uint32_t how, uint32_t at) {
    Thread *t = emu_of(e);
    const char *what = mbarrier ? "tensor_load" : "tensor_store";
    uint32_t swizzled = how & EMU_SWIZZLED;
    if (m->is != EMU_IS_MAP) DIE(t, at, "%s: there is no map", what);
    if (tile_bytes(m) != bytes || m->swizzled != swizzled)
        DIE(t, at, "%s: the map is of another tile", what);
    size_t x = emu_place(t, place, bytes, swizzled ? SWIZZLE : TILE_ALIGN, at, what);
    int32_t c[EMU_NUMBERS];
    memcpy(c, e->word, sizeof c);
    if (m->windows && (!mbarrier || !is_window(m, c))) DIE(t, at, "%s: no window is there", what);
    tile(m, c, x, LOOKS, t, at);
    if (emu.random && emu_below(4) == 0) emu_pause(t);
    if (mbarrier) {
        Load l = {.to = x, .map = m, .bytes = bytes};
        memcpy(l.at, c, sizeof c);
        size_t own = emu_place(t, mbarrier, PHASE_BYTES, PHASE_BYTES, at, what);
        for (uint32_t r = 0; r < emu.ranks; r++) {
            if (r != t->rank && !(how & EMU_TO_ALL)) continue;
            l.to = emu_reach(t, x, r, at, what);
            load(t, l, emu_reach(t, own, r, at, what), at, what);
        }
        return;
    }
    read_here(t, x, bytes, t->number, at, what);
    busy(x, bytes, 1);
    if (t->nstore == t->store_cap)
        emu_need(t->store =
                     realloc(t->store, (t->store_cap = t->store_cap * 2 + 8) * sizeof *t->store));
    t->store[t->nstore] = (Store){.map = m, .from = x, .bytes = bytes, .group = t->store_group};
    memcpy(t->store[t->nstore].at, c, sizeof t->store[t->nstore].at);
    t->nstore++;
}

static void hook_bulk_group(emu_thread *e, uint32_t what, uint32_t pending, uint32_t at) {
    Thread *t = emu_of(e);
    uint32_t left = 0;
    if (what == EMU_COMMIT) {
        t->store_group++;
        return;
    }
    for (uint32_t k = 0; k < t->nstore; k++) {
        Store s = t->store[k];
        if (s.group + pending >= t->store_group) {
            t->store[left++] = s;
            continue;
        }
        busy(s.from, s.bytes, -1);
        tile(s.map, s.at, s.from, STORES, t, at);
        emu_reads(&emu.shared, t, s.from, s.bytes, t->number, at, "bulk_wait");
    }
    t->nstore = left;
}

static void hook_fence(emu_thread *e, uint32_t what, uint32_t at) {
    Thread *t = emu_of(e);
    (void)at;
    if (what == EMU_FENCE_ASYNC) t->fences++;
    for (uint32_t k = 0; k < hop.nmbarrier && what == EMU_FENCE_MBARRIERS; k++)
        hop.mbarrier[k]->fenced |= hop.mbarrier[k]->init_by == t->number;
}

/* ---- products ---- */

/* 16 bytes of an operand: number c (of two) of row r; turned: number c of row r of panel p. */
static size_t chunk(size_t from, uint32_t panel, uint32_t p, uint32_t r, uint32_t c) {
    return swizzle(from + (size_t)p * panel + r * ROW + c * SIXTEEN);
}

typedef void ChunkFn(const Thread *t, size_t x, uint32_t at);
static void chunk_begins(const Thread *t, size_t x, uint32_t at) {
    read_here(t, x, SIXTEEN, OF_GROUP + group_of(t), at, "wgmma");
    busy(x, SIXTEEN, 1);
}
static void chunk_ends(const Thread *t, size_t x, uint32_t at) {
    uint32_t who = ANY_OF_GROUP + group_of(t);
    (void)at;
    busy(x, SIXTEEN, -1);
    for (size_t k = x; k < x + SIXTEEN; k++)
        emu.shared.read[group_of(t)][k] = (emu.time + 1) << WHO_BITS | who;
}

static void operand_chunks(const Thread *t, size_t from, bool turned, uint32_t rows, uint32_t panel,
                           ChunkFn *f, uint32_t at) {
    uint32_t k = STEP / 2; /* turned: rows are k's, of 16-bit elements */
    for (uint32_t r = 0; r < rows && !turned; r++)
        f(t, chunk(from, 0, 0, r, 0), at), f(t, chunk(from, 0, 0, r, 1), at);
    for (uint32_t p = 0; turned && p * 64 < rows; p++)
        for (uint32_t r = 0; r < k; r++)
            for (uint32_t c = 0; c < ROW / SIXTEEN && p * 64 + c * 8 < rows; c++)
                f(t, chunk(from, panel, p, r, c), at);
}

static void product_chunks(const Thread *t, const Product *p, ChunkFn *f, uint32_t at) {
    if (!(p->how & EMU_A_FRAGMENTS)) operand_chunks(t, p->a, p->how & EMU_A_TURNED, 64, 0, f, at);
    operand_chunks(t, p->b, p->how & EMU_B_TURNED, p->columns, p->panel, f, at);
}

static size_t operand_place(const Thread *t, uint64_t place, bool turned, uint32_t rows,
                            uint32_t panel, uint32_t at) {
    size_t own = t->rank * emu.each, x = (size_t)(place - (uint64_t)(uintptr_t)emu.shared.base) - own,
           n = turned ? (size_t)(rows - 1) / 64 * panel + STEP / 2 * ROW : (size_t)rows * ROW;
    if (turned ? x % SWIZZLE : x % SWIZZLE % STEP || x % SWIZZLE >= ROW)
        DIE(t, at, "wgmma: byte %zu of shared memory is no place of a matrix", x);
    if (x - x % SWIZZLE + n > emu.l->shared)
        DIE(t, at, "wgmma: bytes %zu to %zu of %zu of shared memory", x, x + n, emu.l->shared);
    return own + x;
}

static uint32_t ticket(const Group *g, const Sum *s, uint32_t k) {
    return TICKET | s->version << 15 | (uint32_t)(s - g->sum) << 7 | k;
}

/* The sum of which v is word k, or NULL. */
static Sum *sum_of(const Group *g, uint32_t v, uint32_t k) {
    Sum *s = &g->sum[v >> 7 & (SUMS - 1)];
    return g->sums > (uint32_t)(s - g->sum) && v == ticket(g, s, k) ? s : NULL;
}

/* What c is now: the sum that a product before has left, or a new one. */
static Sum *sum_for(Group *g, Thread *first, uint32_t words, uint32_t at) {
    Sum *s = sum_of(g, first->t.word[0], 0);
    for (uint32_t t = 0; t < WARPGROUP; t++)
        for (uint32_t k = 0; k < words; k++)
            if (sum_of(g, first[t].t.word[k], k) != s)
                DIE(&first[t], at, "wgmma: word %u of c is not of the sum that word 0 is of", k);
    if (s) return s;
    static uint32_t turn;
    s = &g->sum[g->sums < SUMS ? g->sums++ : turn++ % SUMS];
    if (s->products) DIE(first, at, "wgmma: more than %d sums", SUMS);
    s->version = (s->version + 1) % VERSIONS;
    for (uint32_t t = 0; t < WARPGROUP; t++) memcpy(s->word[t], first[t].t.word, sizeof s->word[t]);
    return s;
}

static void product_begins(Group *g, Thread *first, uint32_t at) {
    if (!g->product) {
        emu_need(g->product = calloc(MOST_PRODUCTS, sizeof *g->product));
        emu_need(g->sum = calloc(SUMS, sizeof *g->sum));
    }
    for (uint32_t t = 1; t < WARPGROUP; t++)
        if (first[t].a != first->a || first[t].b != first->b || first[t].value != first->value)
            DIE(&first[t], at, "wgmma: the threads' matrices are not the same");
    if (!g->fenced) DIE(first, at, "wgmma: no wgmma_fence is before it");
    if (g->nproduct == MOST_PRODUCTS)
        DIE(first, at, "wgmma: more than %d products are under way", MOST_PRODUCTS);
    Product *p = &g->product[g->nproduct++];
    *p = (Product){.in = first->in & 255,
                   .how = first->in >> 8 & 255,
                   .columns = first->in >> 16,
                   .panel = first->mask,
                   .add = first->value,
                   .group = g->commits};
    if (!(p->how & EMU_A_FRAGMENTS))
        p->a = operand_place(first, first->a, p->how & EMU_A_TURNED, 64, 0, at);
    p->b = operand_place(first, first->b, p->how & EMU_B_TURNED, p->columns, p->panel, at);
    product_chunks(first, p, chunk_begins, at);
    p->sum = sum_for(g, first, p->columns / 2, at);
    p->sum->products++;
    for (uint32_t t = 0; t < WARPGROUP; t++) {
        memcpy(p->fragment[t], first[t].t.word + EMU_FRAGMENTS, sizeof p->fragment[t]);
        for (uint32_t k = 0; k < p->columns / 2; k++) first[t].t.word[k] = ticket(g, p->sum, k);
    }
}

/* Both operands as rows of STEP bytes: of a 64, of b `columns`. */
static void fetch(uint8_t *to, size_t from, bool turned, uint32_t rows, uint32_t panel) {
    const uint8_t *s = emu.shared.base;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t k = 0; k < STEP / 2; k++) /* two bytes each time */
            memcpy(to + r * STEP + 2 * k,
                   turned ? s + chunk(from, panel, r / 64, k, r % 64 / 8) + r % 8 * 2
                          : s + chunk(from, 0, 0, r, k / 8) + k % 8 * 2,
                   2);
}

/* Fragments of a: those of a warp as emu_mma has them. */
static void gather(uint8_t *to, const Product *p) {
    for (uint32_t t = 0; t < WARPGROUP; t++)
        for (uint32_t r = 0; r < 4; r++) {
            uint32_t row = t / WARP * 16 + t % WARP / 4 + 8 * (r & 1), word = t % 4 + 4 * (r >> 1);
            memcpy(to + row * STEP + word * 4, &p->fragment[t][r], 4);
        }
}

static void product_ends(Product *p, const Thread *first, uint32_t at) {
    static uint8_t a[64 * STEP], b[256 * STEP];
    if (p->how & EMU_A_FRAGMENTS)
        gather(a, p);
    else
        fetch(a, p->a, p->how & EMU_A_TURNED, 64, 0);
    fetch(b, p->b, p->how & EMU_B_TURNED, p->columns, p->panel);
    if (!p->add)
        for (uint32_t t = 0; t < WARPGROUP; t++) memset(p->sum->word[t], 0, sizeof p->sum->word[t]);
    emu_wgmma(p->in, a, b, p->columns, p->sum->word);
    product_chunks(first, p, chunk_ends, at);
    p->sum->products--;
}

static void products_order(Group *g, Thread *first, uint32_t at) {
    uint32_t what = first->value, words = first->in, left = 0;
    if (what == EMU_WGMMA_COMMIT) g->commits++;
    if (what == EMU_WGMMA_FENCE) g->fenced = true;
    if (what != EMU_WGMMA_WAIT) return;
    for (uint32_t k = 0; k < g->nproduct; k++) {
        if (g->product[k].group + first->mask >= g->commits)
            g->product[left++] = g->product[k];
        else
            product_ends(&g->product[k], first, at);
    }
    g->nproduct = left;
    for (uint32_t t = 0; t < WARPGROUP && g->sum; t++)
        for (uint32_t k = 0; k < words; k++) {
            uint32_t *v = &first[t].t.word[k], place = *v & 127;
            const Sum *s = sum_of(g, *v, place);
            if (s && s->products) DIE(&first[t], at, "wgmma_wait: a sum is still under way");
            if (s) *v = s->word[t][place];
        }
    if (words) g->fenced = false;
}

static void hook_wgmma(emu_thread *e, const void *a, const void *b, uint32_t in, uint32_t how,
                       uint32_t columns, uint32_t panel, uint32_t add, uint32_t at) {
    Thread *t = emu_of(e);
    t->a = how & EMU_A_FRAGMENTS ? 0 : (uint64_t)(uintptr_t)a, t->b = (uint64_t)(uintptr_t)b;
    t->in = in | how << 8 | columns << 16, t->mask = panel, t->value = add;
    emu_meet(t, WGMMA, at);
}

static void hook_wgmma_order(emu_thread *e, uint32_t what, uint32_t pending, uint32_t words,
                             uint32_t at) {
    Thread *t = emu_of(e);
    t->value = what, t->mask = pending, t->in = words;
    emu_meet(t, WGMMA_ORDER, at);
}

/* ---- registers, barriers of some ---- */

static bool give_registers(Group *g, uint32_t n) {
    uint32_t need = (n - g->registers) * WARPGROUP,
             *left = &hop.registers[(uint32_t)(g - hop.group) * WARPGROUP / emu.l->block];
    if (n > g->registers && need > *left) return false;
    *left -= need; /* wraps: less is more for others */
    g->registers = n;
    return true;
}

static void registers_change(Group *g, Thread *first, uint32_t at) {
    uint32_t n = first->value;
    if (first->mask ? n < g->registers : n > g->registers)
        DIE(first, at, "registers: %u are not %s than %u", n, first->mask ? "more" : "less",
            g->registers);
    if (give_registers(g, n)) return;
    for (uint32_t t = 0; t < WARPGROUP; t++) first[t].state = FOR_REGISTERS;
}

static void hook_registers(emu_thread *e, uint32_t n, uint32_t more, uint32_t at) {
    Thread *t = emu_of(e);
    t->value = n, t->mask = more;
    emu_meet(t, REGISTERS, at);
    if (t->state == FOR_REGISTERS) emu_pause(t);
}

static void hook_barrier_some(emu_thread *e, uint32_t id, uint32_t threads, uint32_t wait,
                              uint32_t at) {
    Thread *t = emu_of(e);
    Named *n = &hop.named[t->rank][id];
    if (n->here && n->threads != threads)
        DIE(t, at, "barrier_some %u: of %u threads here, of %u elsewhere", id, threads, n->threads);
    n->threads = threads;
    emu_release(t, n->known);
    n->here++, n->of_warp[t->number / WARP]++;
    t->value = id, t->mask = n->round, t->at = at;
    if (n->here == threads) {
        for (uint32_t w = 0; w < MOST_WARPS; w++)
            if (n->of_warp[w] % WARP)
                DIE(t, at, "barrier_some %u: %u threads of warp %u have come", id, n->of_warp[w],
                    w);
        n->here = 0, n->round++;
        memset(n->of_warp, 0, sizeof n->of_warp);
    }
    if (!wait) return;
    if (n->round == t->mask) {
        t->state = BARRIER_SOME;
        emu_pause(t);
    } else {
        emu_acquire(t, n->known);
    }
}

static float hook_exp2(emu_thread *e, float v, uint32_t at) {
    float r = exp2f(v);
    (void)e, (void)at;
    return r < 0x1p-126f ? 0 : r;
}

static uint32_t bits_of(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static uint32_t half(float v, bool brain) { /* rounded to nearest, ties to even */
    enum { INFINITE = 0x477ff000 /* 65520 */, NORMAL = 0x38800000 /* 2^-14 */, BIAS = 0x38000000 /* of the exponents, 112 */ };
    uint32_t bits = bits_of(v), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (v != v) return 0x7fff;
    if (brain) return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    if (size >= INFINITE) return sign | 0x7c00;
    if (size < NORMAL) return sign | (bits_of(fabsf(v) + 0.5f) - bits_of(0.5f)); /* whose last bit is 2^-24 */
    return sign | (size - BIAS + 0xfff + (size >> 13 & 1)) >> 13;
}

static uint32_t hook_halves(emu_thread *e, float low, float high, uint32_t type, uint32_t at) {
    enum { BF16 = 16 };
    (void)e, (void)at;
    return half(low, type == BF16) | half(high, type == BF16) << 16;
}

/* ---- for emu.c ---- */

void emu_hopper_hooks(emu_thread *t) {
    t->barrier_some = hook_barrier_some, t->registers = hook_registers, t->mbarrier = hook_mbarrier,
    t->fence = hook_fence;
    t->bulk_load = hook_bulk_load, t->tensor = hook_tensor, t->bulk_group = hook_bulk_group,
    t->wgmma = hook_wgmma;
    t->wgmma_order = hook_wgmma_order, t->exp2 = hook_exp2, t->halves = hook_halves;
}

void emu_hopper_begin(void) {
    uint32_t each = REGISTERS_OF_ALL / emu.l->block / 8 * 8;
    hop.nmbarrier = 0;
    memset(hop.registers, 0, sizeof hop.registers);
    memset(hop.named, 0, sizeof hop.named);
    for (uint32_t g = 0; g < MOST_GROUPS; g++) {
        Group *x = &hop.group[g];
        x->nproduct = x->commits = x->sums = 0, x->fenced = false;
        x->registers = each < MOST_REGISTERS ? each : MOST_REGISTERS / 8 * 8;
    }
}

void emu_hopper_end(void) {
    for (uint32_t k = 0; k < hop.nmbarrier; k++)
        if (hop.mbarrier[k]->nload)
            DIE(&emu.thread[hop.mbarrier[k]->init_by], 0,
                "the block ends, and copies for the mbarrier at byte %zu are under way",
                hop.mbarrier[k]->place);
}

void emu_hopper_ends(const Thread *t) {
    if (t->nstore) DIE(t, t->at, "the thread ends, and its stores are under way");
    if (hop.group[group_of(t)].nproduct)
        DIE(t, t->at, "the thread ends, and products are under way");
}

void emu_hopper_perform(uint32_t group, State s) {
    Group *g = &hop.group[group];
    Thread *first = &emu.thread[group * WARPGROUP];
    if (s == WGMMA) product_begins(g, first, first->at);
    if (s == WGMMA_ORDER) products_order(g, first, first->at);
    if (s == REGISTERS) registers_change(g, first, first->at);
}

bool emu_hopper_ready(Thread *t) {
    if (t->state == FOR_REGISTERS)
        return hop.group[group_of(t)].registers == t->value ||
               give_registers(&hop.group[group_of(t)], t->value);
    if (t->state == BARRIER_SOME) {
        const Named *n = &hop.named[t->rank][t->value];
        if (n->round == t->mask) return false;
        emu_acquire(t, n->known);
        return true;
    }
    Mbarrier *m = hop.mbarrier[t->value];
    if (!over(m, t->mask)) return false;
    see(t, m);
    return true;
}

void emu_hopper_why(const Thread *t, char *text, size_t n) {
    const Mbarrier *m = t->state == MBARRIER ? hop.mbarrier[t->value] : NULL;
    if (m)
        snprintf(text, n,
                 "the mbarrier at byte %zu, whose phase %u lacks %u arrivals and %lld bytes",
                 m->place, m->phase, m->missing, (long long)m->bytes);
    else if (t->state == BARRIER_SOME)
        snprintf(text, n, "barrier_some %u, where %u of %u threads are", t->value,
                 hop.named[t->rank][t->value].here, hop.named[t->rank][t->value].threads);
}
