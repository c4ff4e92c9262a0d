/* emu_count.c: what accesses of warps cost. Shared memory has 32 banks of 4 bytes: a turn serves 128 bytes, if no two words of it are in one bank;
 * accesses of 8 and 16 bytes go by halves and quarters of a warp. The device's memory is read and written in sectors of 32 bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emu_internal.h"

enum { BANKS = 32, SECTOR = 32 };

struct emu_entry {
    uint32_t at, turn; /* instruction; how often the thread was there */
    uintptr_t p;
    uint32_t bytes;
    uint8_t cost, lane;
};
typedef struct emu_entry Entry;
typedef struct {
    uint64_t warps, is, least; /* turns or sectors */
} Sum;
static Sum (*sum)[COST_COUNT]; /* by instruction */
static uint32_t (*seen)[COST_COUNT], nsum;

static void *grown(void *p, size_t bytes) {
    if (!(p = realloc(p, bytes))) abort();
    return p;
}

void emu_count(emu_log *l, uint32_t at, Cost c, const void *p, uint32_t bytes) {
    if (l->n == l->cap) l->entry = grown(l->entry, (l->cap = l->cap * 2 + 64) * sizeof *l->entry);
    l->entry[l->n++] = (Entry){at, 0, (uintptr_t)p, bytes, (uint8_t)c, 0};
    if (at < nsum) return;
    uint32_t n = at + 256;
    sum = grown(sum, n * sizeof *sum);
    seen = grown(seen, n * sizeof *seen);
    memset(sum + nsum, 0, (n - nsum) * sizeof *sum);
    nsum = n;
}

static int by_instruction(const void *x, const void *y) {
    const Entry *a = x, *b = y;
    if (a->at != b->at) return a->at < b->at ? -1 : 1;
    if (a->cost != b->cost) return a->cost < b->cost ? -1 : 1;
    if (a->turn != b->turn) return a->turn < b->turn ? -1 : 1;
    return (a->lane > b->lane) - (a->lane < b->lane);
}

static int by_number(const void *x, const void *y) {
    uintptr_t a = *(const uintptr_t *)x, b = *(const uintptr_t *)y;
    return (a > b) - (a < b);
}

/* How many different numbers there are; they are sorted. */
static uint32_t distinct(uintptr_t *v, uint32_t n) {
    uint32_t m = 0;
    qsort(v, n, sizeof *v, by_number);
    for (uint32_t k = 0; k < n; k++)
        if (!m || v[m - 1] != v[k]) v[m++] = v[k];
    return m;
}

static void device(const Entry *e, uint32_t n, Sum *s) {
    uintptr_t sector[WARP * 2];
    uint32_t m = 0, bytes = 0;
    for (uint32_t k = 0; k < n; k++) {
        if (!e[k].bytes) continue;
        sector[m++] = e[k].p / SECTOR;
        if ((e[k].p + e[k].bytes - 1) / SECTOR != sector[m - 1]) sector[m] = sector[m - 1] + 1, m++;
        bytes += e[k].bytes;
    }
    s->is += distinct(sector, m);
    s->least += (bytes + SECTOR - 1) / SECTOR;
}

static void shared(const Entry *e, uint32_t n, Sum *s) {
    for (uint32_t from = 0; from < n;) {
        uint32_t lanes = e[from].bytes > 8 ? 8 : e[from].bytes > 4 ? 16 : 32, group = e[from].lane / lanes, m = 0, bank[BANKS] = {0}, most = 0;
        uintptr_t word[WARP * 4];
        for (; from < n && e[from].lane / lanes == group; from++)
            for (uint32_t b = 0; b < e[from].bytes; b += 4) word[m++] = (e[from].p + b) / 4;
        m = distinct(word, m);
        for (uint32_t k = 0; k < m; k++)
            if (++bank[word[k] % BANKS] > most) most = bank[word[k] % BANKS];
        s->is += most, s->least += (m + BANKS - 1) / BANKS;
    }
}

void emu_count_warp(emu_log *thread, size_t stride, uint32_t n) {
    static Entry *all;
    static uint32_t cap;
    uint32_t m = 0;
    for (uint32_t t = 0; t < n; t++) {
        emu_log *l = (emu_log *)(void *)((char *)thread + t * stride);
        if (m + l->n > cap) all = grown(all, (cap = (m + l->n) * 2) * sizeof *all);
        for (uint32_t k = 0; k < l->n; k++) seen[l->entry[k].at][l->entry[k].cost] = 0;
        for (uint32_t k = 0; k < l->n; k++, m++) {
            all[m] = l->entry[k];
            all[m].lane = (uint8_t)t;
            all[m].turn = seen[all[m].at][all[m].cost]++;
        }
        l->n = 0;
    }
    if (m) qsort(all, m, sizeof *all, by_instruction);
    for (uint32_t k = 0, end; k < m; k = end) {
        for (end = k; end < m && all[end].at == all[k].at && all[end].cost == all[k].cost && all[end].turn == all[k].turn; end++) {}
        Sum *s = &sum[all[k].at][all[k].cost];
        s->warps++;
        if (all[k].cost == COST_SHARED)
            shared(all + k, end - k, s);
        else
            device(all + k, end - k, s);
    }
}

void emu_count_print(const char *kernel) {
    static const char *const what[] = {"shared memory, turns", "device memory, sectors"};
    for (uint32_t at = 0; at < nsum; at++)
        for (int c = 0; c < COST_COUNT; c++) {
            Sum *s = &sum[at][c];
            if (s->warps)
                fprintf(stderr, "emu: kernel %s, %%%u, %s: %llu, at least %llu, of %llu warps\n", kernel, at, what[c], (unsigned long long)s->is,
                        (unsigned long long)s->least, (unsigned long long)s->warps);
            *s = (Sum){0};
        }
}
