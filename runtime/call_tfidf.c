/* call_tfidf.c: counts of n-grams (TfIdfVectorizer). The n-grams of the pool are paths in a tree: what a row has at a place is followed as long as
 * there is a path, whatever its length. Elements are looked up once, by value if they are integers that lie close together. */
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

enum { SPARSE = 4 /* times: most pairs of elements are no path, and should be nobody's place */ };

typedef struct Grams {
    const rt_value *pool;                   /* elements of all n-grams, shorter ones first */
    int64_t *word, word_mask;               /* hashed: 1 + an element of the pool; unless near */
    int64_t *near, low, high;               /* of each integer from low to high the same, or NULL */
    int64_t *slot, slot_mask;               /* hashed: a node that is not the root, 0; they count from 1 */
    int64_t *parent, *token, *gram, nodes;  /* per node; gram: 1 + number of an n-gram that ends here */
    bool *more;                             /* per node: has it children? */
    int64_t *first;                         /* per token: the node below the root */
} Grams;

/* 1 + the element of the pool that element i of v is, always the same of equal ones; 0: none. */
static int64_t *word_slot(const Grams *g, const rt_value *v, int64_t i)
{
    int64_t h = (int64_t)(mix(key_bits(v, i)) & (uint64_t)g->word_mask);
    while (g->word[h] && !key_same(g->pool, g->word[h] - 1, v, i))
        h = (h + 1) & g->word_mask;
    return &g->word[h];
}

static int64_t token_of(const Grams *g, const rt_value *v, int64_t i)
{
    if (!g->near)
        return *word_slot(g, v, i);
    int64_t key = int_at(v, i);
    return key < g->low || key > g->high ? 0 : g->near[key - g->low];
}

static bool words_read(rt_call *c, Grams *g, int64_t total, int64_t size)
{
    bool numbers = g->pool->dtype != DT_STR && total;
    for (int64_t p = 0; numbers && p < total; p++) {
        int64_t key = int_at(g->pool, p);
        g->low = p && g->low < key ? g->low : key;
        g->high = p && g->high > key ? g->high : key;
    }
    bool close = numbers && (uint64_t)g->high - (uint64_t)g->low < 2 * (uint64_t)size;
    int64_t **table = close ? &g->near : &g->word;
    g->word_mask = size - 1;
    if (!(*table = call_alloc(c, close ? g->high - g->low + 1 : size, sizeof **table)))
        return false;
    for (int64_t p = total - 1; p >= 0 && close; p--)
        g->near[int_at(g->pool, p) - g->low] = p + 1;
    for (int64_t p = 0; p < total && !close; p++) {
        int64_t *s = word_slot(g, g->pool, p);
        if (!*s)
            *s = p + 1;
    }
    return true;
}

/* The node below `from` by a token; 0: there is none, and there is room for it. */
static int64_t *node_slot(const Grams *g, int64_t from, int64_t token)
{
    int64_t h = (int64_t)(mix((uint64_t)from * 0x100000001B3u ^ (uint64_t)token) & (uint64_t)g->slot_mask), k;
    while ((k = g->slot[h]) && (g->parent[k] != from || g->token[k] != token))
        h = (h + 1) & g->slot_mask;
    return &g->slot[h];
}

static int64_t node_below(Grams *g, int64_t from, int64_t token)
{
    int64_t *s = node_slot(g, from, token);
    if (!*s) {
        *s = ++g->nodes;
        g->parent[*s] = from;
        g->token[*s] = token;
        g->more[from] = true;
    }
    if (!from)
        g->first[token] = *s;
    return *s;
}

/* The n-grams of the pool as a tree; *n is how many there are. */
static bool grams_read(rt_call *c, Grams *g, const rt_value *counts, int64_t *n)
{
    const int64_t total = call_count(g->pool), lengths = call_count(counts), *start = counts->data;
    int64_t size = 16;
    while (size < 2 * total)
        size *= 2;
    g->slot_mask = SPARSE * size - 1;
    g->slot = call_alloc(c, g->slot_mask + 1, sizeof *g->slot);
    g->parent = call_alloc(c, total + 1, sizeof *g->parent);
    g->token = call_alloc(c, total + 1, sizeof *g->token);
    g->gram = call_alloc(c, total + 1, sizeof *g->gram);
    g->first = call_alloc(c, total + 1, sizeof *g->first);
    g->more = call_alloc(c, total + 1, sizeof *g->more);
    if (!g->slot || !g->parent || !g->token || !g->gram || !g->first || !g->more || !words_read(c, g, total, size))
        return false;
    *n = 0;
    for (int64_t k = 0; k < lengths; k++) {
        int64_t from = start[k], to = k + 1 < lengths ? start[k + 1] : total;
        if (from < 0 || to < from || to > total || (to - from) % (k + 1))
            return call_fail(c, "ngram_counts: %lld elements of the pool for n-grams of length %lld", (long long)(to - from), (long long)k + 1);
        for (int64_t p = from; p < to; p += k + 1) {
            int64_t node = 0;
            for (int64_t j = 0; j <= k; j++)
                node = node_below(g, node, token_of(g, g->pool, p + j));
            ++*n;
            if (!g->gram[node])
                g->gram[node] = *n;
        }
    }
    return true;
}

static void count_row(const Grams *g, const int64_t *token, int64_t len, int64_t min, int64_t max, int64_t skips, const int64_t *column, float *y)
{
    for (int64_t step = 1; step == 1 || (max > 1 && step - 1 <= skips && step < len); step++)
        for (int64_t i = 0; i < len; i++) {
            int64_t node = g->first[token[i]];
            for (int64_t n = 1, k = i; node && n <= max; n++) {
                if (g->gram[node] && n >= min && (n > 1 || step == 1))
                    y[column[g->gram[node] - 1]] += 1;
                k += step;
                if (k >= len || !token[k] || !g->more[node])
                    break;
                node = *node_slot(g, node, token[k]);
            }
        }
}

/* (x[c] or x[n, c] of strings or integers, pool of the same type, counts i64[k], indexes i64[], weights f32[] or none,
 * i64[4]: shortest and longest n-gram, most skips, mode: 0 TF, 1 IDF, 2 TFIDF) -> f32[max(indexes) + 1] or f32[n, ..] */
CALL_FN(tfidf)
{
    Grams g = {.pool = tensor_operand(c, 1, 0)};
    const rt_value *x = tensor_operand(c, 0, 0), *counts = tensor_operand(c, 2, DT_I64), *indexes = tensor_operand(c, 3, DT_I64), *weights = c->in[4],
                   *how = tensor_operand(c, 5, DT_I64);
    int64_t n, width = 0;
    if (!g.pool || !x || !counts || !indexes || !how)
        return false;
    bool strings = x->dtype == DT_STR;
    if (call_count(how) != 4 || x->rank > 2 || strings != (g.pool->dtype == DT_STR) || (!strings && (!is_int(x) || !is_int(g.pool))))
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
    int64_t rows = x->rank == 2 ? x->dims[0] : 1, len = x->rank ? x->dims[x->rank - 1] : 1, dims[2] = {rows, width};
    rt_value *y = c->out[0] = call_tensor(c, DT_F32, x->rank == 2 ? 2 : 1, x->rank == 2 ? dims : dims + 1);
    float *scale = call_alloc(c, width, sizeof *scale);
    int64_t *token = call_alloc(c, len, sizeof *token);
    if (!y || !scale || !token)
        return false;
    for (int64_t k = 0; k < width; k++)
        scale[k] = 1;
    for (int64_t k = 0; weights && k < n; k++)
        scale[column[k]] = ((const float *)weights->data)[k];
    for (int64_t r = 0; r < rows; r++) {
        float *to = (float *)y->data + r * width;
        for (int64_t k = 0; k < len; k++)
            token[k] = token_of(&g, x, r * len + k);
        count_row(&g, token, len, p[0], p[1], p[2], column, to);
        for (int64_t k = 0; p[3] && k < width; k++)
            to[k] = (p[3] == 1 ? to[k] > 0 : to[k]) * scale[k];
    }
    return true;
}
