/* call_tfidf.c: counts of n-grams (TfIdfVectorizer). */
#include "call_internal.h"

/* Elements are equal if they are the same string, or equal integers. */
static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0x9E3779B97F4A7C15u;
    return h ^ h >> 29;
}

static uint64_t bytes_hash(const char *p, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u ^ n;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)p[i]) * 0x100000001B3u;
    return mix(h);
}

/* Element i as bits that are equal where keys are equal; strings: their hash. */
static uint64_t key_bits(const rt_value *v, int64_t i)
{
    if (v->dtype == DT_STR) {
        accelc_str s = call_strs(v)[i];
        return bytes_hash(s.ptr, s.len);
    }
    return (uint64_t)int_at(v, i);
}

static bool key_same(const rt_value *a, int64_t i, const rt_value *b, int64_t j)
{
    if (a->dtype != DT_STR)
        return key_bits(a, i) == key_bits(b, j);
    accelc_str s = call_strs(a)[i], t = call_strs(b)[j];
    return s.len == t.len && (!s.len || !memcmp(s.ptr, t.ptr, s.len));
}

typedef struct Grams {
    const rt_value *pool, *x;   /* elements of all n-grams, shorter ones first; what is looked at */
    const int64_t *start;       /* per length 1..nsize: where its n-grams begin in the pool; the end of the pool is last */
    int64_t nsize;
    int64_t *slot, mask;        /* 1 + number of an n-gram */
    int64_t *at, *len;          /* per n-gram: where in the pool, and its length */
} Grams;

static uint64_t gram_hash(const rt_value *v, int64_t at, int64_t step, int64_t n)
{
    uint64_t h = (uint64_t)n;
    for (int64_t k = 0; k < n; k++)
        h = mix(h * 0x100000001B3u ^ key_bits(v, at + k * step));
    return h;
}

static int64_t *gram_slot(const Grams *g, const rt_value *v, int64_t at, int64_t step, int64_t n)
{
    int64_t h = (int64_t)(gram_hash(v, at, step, n) & (uint64_t)g->mask);
    for (; g->slot[h]; h = (h + 1) & g->mask) {
        int64_t id = g->slot[h] - 1, k = 0;
        while (g->len[id] == n && k < n && key_same(g->pool, g->at[id] + k, v, at + k * step))
            k++;
        if (g->len[id] == n && k == n)
            break;
    }
    return &g->slot[h];
}

/* The n-grams of the pool in a table; *n is how many there are. */
static bool grams_read(rt_call *c, Grams *g, const rt_value *counts, int64_t *n)
{
    int64_t total = call_count(g->pool), size = 16;
    g->nsize = call_count(counts);
    g->start = counts->data;
    while (size < 2 * total)
        size *= 2;
    g->at = call_alloc(c, total, sizeof *g->at);
    g->len = call_alloc(c, total, sizeof *g->len);
    g->slot = call_alloc(c, size, sizeof *g->slot);
    g->mask = size - 1;
    if (!g->at || !g->len || !g->slot)
        return false;
    *n = 0;
    for (int64_t k = 0; k < g->nsize; k++) {
        int64_t from = g->start[k], to = k + 1 < g->nsize ? g->start[k + 1] : total;
        if (from < 0 || to < from || to > total || (to - from) % (k + 1))
            return call_fail(c, "ngram_counts: %lld elements of the pool for n-grams of length %lld", (long long)(to - from), (long long)k + 1);
        for (int64_t p = from; p < to; p += k + 1) {
            g->at[*n] = p;
            g->len[*n] = k + 1;
            int64_t *s = gram_slot(g, g->pool, p, 1, k + 1);
            if (!*s)
                *s = *n + 1;
            ++*n;
        }
    }
    return true;
}

static void count_row(const Grams *g, int64_t at, int64_t len, int64_t min, int64_t max, int64_t skips, const int64_t *column, float *y)
{
    for (int64_t n = min; n <= max && n <= g->nsize; n++)
        for (int64_t step = 1; step <= (n == 1 ? 1 : skips + 1) && (n - 1) * step < len; step++)
            for (int64_t i = 0; i + (n - 1) * step < len; i++) {
                int64_t id = *gram_slot(g, g->x, at + i, step, n);
                if (id)
                    y[column[id - 1]] += 1;
            }
}

/* (x[c] or x[n, c] of strings or integers, pool of the same type, counts i64[k], indexes i64[], weights f32[] or none,
 * i64[4]: shortest and longest n-gram, most skips, mode: 0 TF, 1 IDF, 2 TFIDF) -> f32[max(indexes) + 1] or f32[n, ..] */
CALL_FN(tfidf)
{
    Grams g = {.pool = tensor_operand(c, 1, 0), .x = tensor_operand(c, 0, 0)};
    const rt_value *counts = tensor_operand(c, 2, DT_I64), *indexes = tensor_operand(c, 3, DT_I64), *weights = c->in[4],
                   *how = tensor_operand(c, 5, DT_I64);
    int64_t n, width = 0;
    if (!g.pool || !g.x || !counts || !indexes || !how)
        return false;
    bool strings = g.x->dtype == DT_STR;
    if (call_count(how) != 4 || g.x->rank > 2 || strings != (g.pool->dtype == DT_STR) || (!strings && (!is_int(g.x) || !is_int(g.pool))))
        return call_fail(c, "the pool and what is looked up in it do not fit");
    if (!grams_read(c, &g, counts, &n))
        return false;
    const int64_t *column = indexes->data, *p = how->data;
    if (call_count(indexes) != n || (weights && call_count(weights) != n))
        return call_fail(c, "%lld n-grams in the pool, %lld in ngram_indexes", (long long)n, (long long)call_count(indexes));
    for (int64_t k = 0; k < n; k++) {
        if (column[k] < 0 || column[k] >= INT32_MAX)
            return call_fail(c, "ngram_indexes: %lld", (long long)column[k]);
        width = column[k] >= width ? column[k] + 1 : width;
    }
    int64_t rows = g.x->rank == 2 ? g.x->dims[0] : 1, len = g.x->rank ? g.x->dims[g.x->rank - 1] : 1, dims[2] = {rows, width};
    rt_value *y = c->out[0] = call_tensor(c, DT_F32, g.x->rank == 2 ? 2 : 1, g.x->rank == 2 ? dims : dims + 1);
    float *scale = call_alloc(c, width, sizeof *scale);
    if (!y || !scale)
        return false;
    for (int64_t k = 0; k < width; k++)
        scale[k] = 1;
    for (int64_t k = 0; weights && k < n; k++)
        scale[column[k]] = ((const float *)weights->data)[k];
    for (int64_t r = 0; r < rows; r++) {
        float *to = (float *)y->data + r * width;
        count_row(&g, r * len, len, p[0], p[1], p[2], column, to);
        for (int64_t k = 0; p[3] && k < width; k++)
            to[k] = (p[3] == 1 ? to[k] > 0 : to[k]) * scale[k];
    }
    return true;
}
