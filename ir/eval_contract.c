/* eval_contract.c: contract, the one primitive whose speed matters when a whole network is
 * evaluated.
 *
 * Axes with one label in both operands and the result are batches; the others are gathered into the
 * rows m, columns n and sums k of a matrix product whose elements are addressed by offset lists, so
 * a window over an image is read where it lies. Blocks are packed as doubles (or wrapping 64-bit
 * integers) and multiplied by a small kernel. Sums run in the order of k, whatever the vector
 * width, without fused multiply-add: results do not depend on the machine. */
#include "eval_internal.h"
#include <stdlib.h>
#include <string.h>

enum { MR = 4, NR = 8, MC = 64, NC = 128, KC = 256, NLABEL = 32 };

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) &&                             \
    !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CLONES
#endif

typedef double VecF __attribute__((vector_size(NR * 8), aligned(8)));
typedef uint64_t VecU __attribute__((vector_size(NR * 8), aligned(8)));

/* c[MR][NR] += a[k][MR] * b[k][NR], rows of c NC apart. */
#define KERNEL(NAME, T, V)                                                           \
    CLONES static void NAME(T *c, const T *a, const T *b, int64_t k) {               \
        V acc[MR];                                                                   \
        for (int i = 0; i < MR; i++) memcpy(&acc[i], c + i * NC, sizeof(V));         \
        for (int64_t p = 0; p < k; p++) {                                            \
            V x;                                                                     \
            memcpy(&x, b + p * NR, sizeof x);                                        \
            for (int i = 0; i < MR; i++) acc[i] += x * a[p * MR + i];                \
        }                                                                            \
        for (int i = 0; i < MR; i++) memcpy(c + i * NC, &acc[i], sizeof(V));         \
    }
KERNEL(kernel_f, double, VecF)
KERNEL(kernel_u, uint64_t, VecU)

/* One side of the product: offsets of its elements are row[i] + sum[p] + the batch. */
typedef struct Side { const EVal *v; int64_t *row, *sum, nrow; const char *base; } Side;

typedef struct Block {
    Cell *a, *b, *c;            /* packed panels; MC x NC results */
    Cell *line;
    bool fl;                    /* cells are doubles, else integers */
} Block;

/* Panels of `width` rows: to[panel][p][i]; rows past the end are zero. */
static void pack(const Side *s, bool fl, int width, int64_t row, int64_t nrow, int64_t k,
                 int64_t nk, Block *w, Cell *to) {
    bool to_float = fl && !dt_is_float(s->v->dtype);
    for (int64_t r = 0; r < nrow; r += width, to += nk * width) {
        int64_t n = nrow - r < width ? nrow - r : width;
        if (n < width) memset(to, 0, sizeof *to * (size_t)(nk * width));
        for (int64_t i = 0; i < n; i++) {
            const char *p = s->base + s->row[row + r + i] * ev_width(s->v->dtype);
            cells_load_at(s->v->dtype, w->line, p, s->sum + k, nk);
            if (to_float) cells_cast(s->v->dtype, DT_F64, w->line, w->line, nk);
            for (int64_t q = 0; q < nk; q++) to[q * width + i] = w->line[q];
        }
    }
}

static void multiply(Block *w, int64_t nm, int64_t nn, int64_t nk) {
    for (int64_t j = 0; j < nn; j += NR) {
        for (int64_t i = 0; i < nm; i += MR) {
            Cell *c = w->c + i * NC + j;
            const Cell *a = w->a + i * nk, *b = w->b + j * nk;
            if (w->fl) kernel_f(&c->f, &a->f, &b->f, nk);
            else kernel_u((uint64_t *)(void *)&c->i, (const uint64_t *)(const void *)&a->i,
                          (const uint64_t *)(const void *)&b->i, nk);
        }
    }
}

typedef struct Result { EVal *v; const int64_t *row, *col; char *base; DType acc; } Result;

static void put(const Result *r, Block *w, int64_t m, int64_t nm, int64_t n, int64_t nn) {
    DType t = r->v->dtype;
    bool exact = w->fl && !dt_is_float(r->acc); /* integers that were summed as doubles */
    for (int64_t i = 0; i < nm; i++) {
        Cell *c = w->c + i * NC;
        for (int64_t j = 0; exact && j < nn; j++) c[j].i = (int64_t)c[j].f;
        cells_round(r->acc, c, nn);
        cells_cast(r->acc, t, c, c, nn);
        cells_store_at(t, r->base + r->row[m + i] * ev_width(t), r->col + n, c, nn);
    }
}

static bool product(Ev *e, Side *a, Side *b, const Result *r, int64_t nsum, Block *w) {
    for (int64_t n = 0; n < b->nrow; n += NC) {
        int64_t nn = b->nrow - n < NC ? b->nrow - n : NC;
        for (int64_t m = 0; m < a->nrow; m += MC) {
            int64_t nm = a->nrow - m < MC ? a->nrow - m : MC;
            memset(w->c, 0, sizeof *w->c * (size_t)((nm + MR - 1) / MR * MR * NC));
            if (!ev_spend(e, nm * nn * (nsum / 8 + 1))) return false;
            for (int64_t k = 0; k < nsum; k += KC) {
                int64_t nk = nsum - k < KC ? nsum - k : KC;
                pack(a, w->fl, MR, m, nm, k, nk, w, w->a);
                pack(b, w->fl, NR, n, nn, k, nk, w, w->b);
                multiply(w, nm, nn, nk);
            }
            put(r, w, m, nm, n, nn);
        }
    }
    return true;
}

/* What a label is: its size and the strides of the three tensors along it. */
typedef struct Label { int64_t size; int64_t stride[3]; bool in[3]; } Label;

static bool labels(Ev *e, const ContractAttr *a, EVal *const *v, int rank_out, Label *l) {
    for (int s = 0; s < 2; s++) {
        for (int d = 0; d < v[s]->rank; d++) {
            unsigned k = a->label[s][d];
            if (k >= NLABEL) return ev_fail(e, "E0805", "axis label %u", k);
            if ((l[k].in[0] || l[k].in[1]) && l[k].size != v[s]->dim[d]) {
                return ev_fail(e, "E0802", "axis %d of operand %d has size %lld, expected %lld", d,
                               s, (long long)v[s]->dim[d], (long long)l[k].size);
            }
            l[k].size = v[s]->dim[d];
            l[k].in[s] = true;
            l[k].stride[s] += v[s]->stride[d];
        }
    }
    for (int d = 0; d < rank_out; d++) {
        unsigned k = a->label[2][d];
        if (k >= NLABEL || (!l[k].in[0] && !l[k].in[1]) || l[k].in[2])
            return ev_fail(e, "E0805", "result axis %d", d);
        l[k].in[2] = true;
    }
    return true;
}

/* Offsets of tensor `s` for all values of the labels in `set`, the last label running fastest. */
static int64_t *offsets(Ev *e, const Label *l, const int *set, int n, int s, int64_t *count) {
    int64_t total = 1;
    for (int k = 0; k < n; k++) {
        if (__builtin_mul_overflow(total, l[set[k]].size, &total)) {
            ev_fail(e, "E0804", "a product is too large");
            return NULL;
        }
    }
    int64_t *off = ev_tmp(e, total + 1, sizeof *off);
    *count = total;
    if (!off || !total) return off;
    off[0] = 0;
    int64_t have = 1;
    for (int k = 0; k < n; k++) { /* spread what is there, from the back */
        int64_t size = l[set[k]].size, step = l[set[k]].stride[s];
        for (int64_t i = have - 1; i >= 0; i--) {
            for (int64_t j = size - 1; j >= 0; j--) off[i * size + j] = off[i] + j * step;
        }
        have *= size;
    }
    return off;
}

static bool run(Ev *e, const ContractAttr *a, EVal *const *in, EVal *out, Label *l) {
    int set[4][NLABEL], n[4] = {0}; /* batch, m, n, k */
    for (int d = 0; d < out->rank; d++) l[a->label[2][d]].stride[2] = out->stride[d];
    for (int d = 0; d < out->rank; d++) {
        int k = a->label[2][d], kind = l[k].in[0] && l[k].in[1] ? 0 : l[k].in[0] ? 1 : 2;
        set[kind][n[kind]++] = k;
    }
    for (int k = 0; k < NLABEL; k++) {
        if ((l[k].in[0] || l[k].in[1]) && !l[k].in[2]) set[3][n[3]++] = k;
    }
    int64_t count[4], sums, bat[3] = {0};
    Side s[2] = {{.v = in[0]}, {.v = in[1]}};
    int64_t *batch[3] = {0}, *line[2] = {0};
    bool ok = true;
    for (int x = 0; x < 3; x++)
        ok = ok && (batch[x] = offsets(e, l, set[0], n[0], x, &count[0])) != NULL;
    for (int x = 0; x < 2; x++) {
        ok = ok && (s[x].row = offsets(e, l, set[1 + x], n[1 + x], x, &s[x].nrow)) != NULL;
        ok = ok && (line[x] = offsets(e, l, set[1 + x], n[1 + x], 2, &count[1 + x])) != NULL;
        ok = ok && (s[x].sum = offsets(e, l, set[3], n[3], x, &sums)) != NULL;
    }
    /* The longer side goes along the vectors. */
    int x = ok && s[0].nrow > s[1].nrow, y = 1 - x;
    DType ta = in[0]->dtype, tb = in[1]->dtype;
    bool small =
        dt_bits(ta) <= 8 && dt_bits(tb) <= 8; /* integer sums below 2^53 are exact in doubles */
    Block w = {.fl = dt_is_float(a->acc) || (small && ok && sums < (int64_t)1 << 36)};
    w.a = ev_tmp(e, MC * KC, sizeof *w.a);
    w.b = ev_tmp(e, NC * KC, sizeof *w.b);
    w.c = ev_tmp(e, MC * NC, sizeof *w.c);
    w.line = ev_tmp(e, KC, sizeof *w.line);
    ok = ok && w.a && w.b && w.c && w.line;
    for (int64_t b = 0; ok && b < count[0]; b++) {
        for (int k = 0; k < 3; k++) bat[k] = batch[k][b];
        s[0].base = in[0]->base + bat[0] * ev_width(ta);
        s[1].base = in[1]->base + bat[1] * ev_width(tb);
        Result r = {out, line[x], line[y], out->base + bat[2] * ev_width(out->dtype), a->acc};
        ok = product(e, &s[x], &s[y], &r, sums, &w);
    }
    free(w.a);
    free(w.b);
    free(w.c);
    free(w.line);
    for (int k = 0; k < 3; k++) free(batch[k]);
    for (int k = 0; k < 2; k++) {
        free(s[k].row);
        free(s[k].sum);
        free(line[k]);
    }
    return ok;
}

bool ev_contract(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const ContractAttr *a = n->attr;
    int rank = val_type(e->g, n->out[0])->rank;
    for (int s = 0; s < 2; s++) {
        DType t = in[s]->dtype;
        bool fits = dt_is_float(t) ? dt_is_float(a->acc) : dt_is_int(t) || t == DT_BOOL;
        if (in[s]->kind != TY_TENSOR || !fits)
            return ev_fail(e, "E0805", "operand %d of contract is %s", s, dt_name(t));
    }
    Label l[NLABEL] = {0};
    if (!labels(e, a, in, rank, l)) return false;
    int64_t dim[MAX_RANK];
    for (int d = 0; d < rank; d++) dim[d] = l[a->label[2][d]].size;
    out[0] = ev_new(e, a->out, rank, dim);
    return out[0] && run(e, a, in, out[0], l);
}
