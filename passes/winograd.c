/* winograd.c: 3x3 convolutions of stride 1 over blocked channels as Winograd's minimal filtering.
 * In: the contraction that `layout` makes, window(xb [N, C/16, H+2, W+2, 16], 3x3) times constant
 * weights [O/16, C/16, 3, 3, 16, 16]. Out: group "Winograd" (xb padded to whole tiles, U, B^T,
 * A^T), whose body says in primitives what the template computes: d = window (m+2)x(m+2) of stride
 * m;  V = B^T d B;  M = V U over channels, per point;  Y = A^T M A;  tiles to pixels, cut to size.
 *
 * Chosen by estimated cycles (wino_plan against the same count for the direct loop), at typical sizes where
 * the run tells them; F2 unless F4
 * saves a tenth more, for its error is below that of the direct sum (measured at unit variance: F2
 * 6e-7, direct 1.5e-6, F4 5e-6). The estimate, measured in cpu.md 10.3 on one core, us (direct 970
 * each): 64 ch @ 56: F4 340   F2 575 |  256 ch @ 14: F4 523   F2 526 128 ch @ 28: F4 354  F2 514 |
 * 512 ch @ 7: F4 1326   F2 869 Infinities: a tile that holds one gives NaN where the direct sum may
 * give an infinity. */
#include <math.h>
#include <string.h>

#include "ir/winograd.h"

#include "internal.h"

enum { BLOCK = 16 };
#define MAX_WEIGHTS                                                                                \
    (64ll << 20) /* bytes of one convolution's weights: larger ones stay as they are */

typedef struct Wino {
    Graph *g;
    PassCtx *p;
    Val bt[2], at[2]; /* per form: its matrices as constants, once made */
} Wino;

typedef struct Conv {
    Val x;
    const float *w;
    int64_t ob, cb;
    Dim n, h, wd;
} Conv; /* x: padded input; h, wd: of the result */

static bool same_label(const ContractAttr *a, int s, int d, int s2, int d2) {
    return a->label[s][d] == a->label[s2][d2];
}

/* contract permute [0 2 3 1 5 6 4] (window 3x3 of x), weights -> n o y x 16 */
static bool match(Wino *w, const Node *n, Conv *v) {
    Ctx *c = w->g->c;
    static const uint8_t order[7] = {0, 2, 3, 1, 5, 6, 4};
    const ContractAttr *a = n->attr;
    const Type *t[3] = {val_type(w->g, n->in[0]), val_type(w->g, n->in[1]),
                        val_type(w->g, n->out[0])};
    if (t[0]->rank != 7 || t[1]->rank != 6 || t[2]->rank != 5 || a->acc != DT_F32 ||
        a->out != DT_F32)
        return false;
    if (t[0]->dtype != DT_F32 || t[1]->dtype != DT_F32) return false;
    static const uint8_t with_w[4][2] = {{3, 1}, {4, 2}, {5, 3}, {6, 4}},
                         with_out[3][2] = {{0, 0}, {1, 2}, {2, 3}};
    for (int i = 0; i < 4; i++)
        if (!same_label(a, 0, with_w[i][0], 1, with_w[i][1])) return false;
    for (int i = 0; i < 3; i++)
        if (!same_label(a, 0, with_out[i][0], 2, with_out[i][1])) return false;
    if (!same_label(a, 1, 0, 2, 1) || !same_label(a, 1, 5, 2, 4)) return false;
    Node *perm = val_def(w->g, n->in[0]);
    if (!perm || perm->op != P_PERMUTE ||
        memcmp(((const PermAttr *)perm->attr)->perm, order, sizeof order))
        return false;
    Node *win = val_def(w->g, perm->in[0]);
    if (!win || win->op != P_WINDOW) return false;
    const WindowAttr *wa = win->attr;
    if (wa->n != 2) return false;
    for (int i = 0; i < 2; i++)
        if (wa->axis[i] != 2 + i || !dim_is(c, wa->size[i], 3) || wa->stride[i] != 1 ||
            wa->dilation[i] != 1)
            return false;
    const ConstData *d = val_const(w->g, n->in[1]);
    if (!d || d->splat || d->dtype != DT_F32 || (int64_t)d->bytes > MAX_WEIGHTS) return false;
    if (!dim_is(c, t[1]->dim[4], BLOCK) || !dim_is(c, t[1]->dim[5], BLOCK)) return false;
    *v = (Conv){.x = graph_resolve(w->g, win->in[0]), .w = d->data, .n = t[2]->dim[0], .h = t[2]->dim[2], .wd = t[2]->dim[3]};
    return dim_is_const(c, t[1]->dim[0], &v->ob) && dim_is_const(c, t[1]->dim[1], &v->cb) && v->ob > 0 && v->cb > 0;
}

/* ---- choosing ---- */

static Dim tiles(Ctx *c, Dim size, int m) { return dim_ceildiv(c, size, dim_const(c, m)); }

static int64_t images(Ctx *c, Dim n) {
    int64_t v;
    return dim_is_const(c, n, &v) && v > 0 && v < 1 << 20 ? v : 1;
}

/* The direct loop's cycles: products at nine tenths of the peak, weights at the rate of the memory
 * they fit. */
static double direct(const Target *t, const Conv *v, double pixels) {
    double o = (double)(v->ob * BLOCK), c = (double)(v->cb * BLOCK), bytes = o * c * 36;
    double products = o * c * 9 * pixels / (t->vbytes / 4 * t->fma_per_cycle) / 0.92,
           stream = bytes / wino_rate(t, bytes);
    return wino_max(products, stream) + 0.2 * (products < stream ? products : stream);
}

static const WinoForm *choose(Wino *w, const Conv *v) {
    Ctx *c = w->g->c;
    const Target *t = w->p->target;
    const int64_t h = (int64_t)ceil(dim_typical(c, v->h)), wd = (int64_t)ceil(dim_typical(c, v->wd)), n = images(c, v->n);
    if (!t || v->ob < 2 || v->cb < 2 || h > 1 << 14 || wd > 1 << 14) return NULL;
    const WinoForm *best = NULL;
    double cost = 0.9 * direct(t, v, (double)n * (double)h * (double)wd);
    for (int i = 0; i < 2; i++) {
        const WinoForm *f = &wino_form[i];
        const int64_t rows = (h + f->m - 1) / f->m, columns = (wd + f->m - 1) / f->m;
        WinoShape s = {v->cb, v->ob, n, rows * columns};
        if (rows < 2 || columns < 2) continue;
        double cycles = wino_plan(t, f, &s).cycles;
        if (cycles >= cost) continue;
        cost = 0.9 * cycles;
        best = f;
    }
    return best;
}

/* ---- rewriting ---- */

/* U[p][q][o][c][i][j] = sum over k, l of G[p][k] w[o][c][k][l][i][j] G[q][l] */
static Val weights(Wino *w, B *b, const Conv *v, const WinoForm *f) {
    int a = f->a;
    int64_t blocks = v->ob * v->cb, inner = BLOCK * BLOCK, count = blocks * inner * a * a;
    float *u = ctx_allocn(w->g->c, sizeof *u, (size_t)count);
    for (int64_t at = 0; at < blocks * inner; at++) {
        const float *g = v->w + at / inner * 9 * inner + at % inner;
        double half[WINO_MAX][3];
        for (int p = 0; p < a; p++)
            for (int l = 0; l < 3; l++) {
                half[p][l] = 0;
                for (int k = 0; k < 3; k++)
                    half[p][l] += f->g[p][k] * (double)g[(k * 3 + l) * inner];
            }
        for (int p = 0; p < a; p++)
            for (int q = 0; q < a; q++) {
                double sum = 0;
                for (int l = 0; l < 3; l++) sum += half[p][l] * f->g[q][l];
                u[(p * a + q) * blocks * inner + at] = (float)sum;
            }
    }
    ConstData *d = NEW(w->g->c, ConstData);
    *d =
        (ConstData){.dtype = DT_F32, .count = count, .data = u, .bytes = (size_t)count * sizeof *u};
    int64_t dim[6] = {a, a, v->ob, v->cb, BLOCK, BLOCK};
    return b_const(b, d, type_consts(w->g->c, DT_F32, 6, dim));
}

static Val matrix(Wino *w, B *b, Val *made, const float (*x)[WINO_MAX], int rows, int cols) {
    if (made->i) return *made;
    float *data = ctx_allocn(w->g->c, sizeof *data, (size_t)(rows * cols));
    for (int i = 0; i < rows * cols; i++) data[i] = x[i / cols][i % cols];
    ConstData *d = NEW(w->g->c, ConstData);
    *d = (ConstData){.dtype = DT_F32,
                     .count = rows * cols,
                     .data = data,
                     .bytes = (size_t)(rows * cols) * sizeof *data};
    int64_t dim[2] = {rows, cols};
    return *made = b_const(b, d, type_consts(w->g->c, DT_F32, 2, dim));
}

/* x with more padding after its last row and column, to whole tiles. */
static Val whole_tiles(Wino *w, B *b, const Conv *v, const WinoForm *f) {
    Ctx *c = w->g->c;
    Val x = v->x;
    Node *pad = val_def(w->g, x);
    const PadAttr *a = pad && pad->op == P_PAD ? pad->attr : NULL;
    Dim lo[5], hi[5];
    Scalar value = {.t = DT_F32};
    for (int d = 0; d < 5; d++) lo[d] = hi[d] = dim_const(c, 0);
    if (a && (a->mode != PAD_VALUE || a->interior || (pad->nin > 1 && pad->in[1].i))) a = NULL; /* a value like any other */
    if (a) {
        for (int d = 0; d < 5; d++) {
            lo[d] = a->lo[d];
            hi[d] = a->hi[d];
        }
        value = a->value;
    }
    Dim more_h = dim_sub(c, dim_muli(c, tiles(c, v->h, f->m), f->m), v->h), more_w = dim_sub(c, dim_muli(c, tiles(c, v->wd, f->m), f->m), v->wd);
    if (dim_is(c, more_h, 0) && dim_is(c, more_w, 0)) return x;
    hi[2] = dim_add(c, hi[2], more_h);
    hi[3] = dim_add(c, hi[3], more_w);
    if (a) x = graph_resolve(w->g, pad->in[0]);
    return b_pad(b, x, lo, hi, NULL, PAD_VALUE, value, (Val){0});
}

static Graph *body(Wino *w, const Conv *v, const WinoForm *f, const Val *operand, Loc loc) {
    Ctx *c = w->g->c;
    Graph *g = graph_new(c, "Winograd", w->g);
    Val in[4];
    for (int k = 0; k < 4; k++) in[k] = graph_input(g, NULL, *val_type(w->g, operand[k]));
    B b = builder(g, loc);
    Dim a = dim_const(c, f->a),
        dim[5] = {v->n, dim_const(c, v->ob), dim_muli(c, tiles(c, v->h, f->m), f->m), dim_muli(c, tiles(c, v->wd, f->m), f->m), dim_const(c, BLOCK)};
    WindowAttr win = {
        .n = 2, .axis = {2, 3}, .size = {a, a}, .stride = {f->m, f->m}, .dilation = {1, 1}};
    Val x = b_window(&b, in[0], &win);
    x = b_contract(&b, "ncyxiab,pa->ncyxpbi", x, in[2], DT_F32, DT_F32);
    x = b_contract(&b, "ncyxpbi,qb->ncyxpqi", x, in[2], DT_F32, DT_F32);
    x = b_contract(&b, "ncyxpqi,pqocij->noyxpqj", x, in[1], DT_F32, DT_F32);
    x = b_contract(&b, "noyxpqj,rp->noyxrqj", x, in[3], DT_F32, DT_F32);
    x = b_contract(&b, "noyxrqj,sq->noyrxsj", x, in[3], DT_F32, DT_F32);
    x = b_reshape(&b, x, 5, dim);
    x = b_slice_axis(&b, x, 2, dim_const(c, 0), v->h);
    x = b_slice_axis(&b, x, 3, dim_const(c, 0), v->wd);
    if (!x.i) return NULL;
    graph_output(g, NULL, x);
    return g;
}

static bool rewrite(Wino *w, Node *n) {
    Conv v;
    if (n->op != P_CONTRACT || !match(w, n, &v)) return false;
    const WinoForm *f = choose(w, &v);
    if (!f) return false;
    B b = builder(w->g, n->loc);
    Val x = whole_tiles(w, &b, &v, f);
    if (!x.i || !pass_allow(w->p)) return false;
    int i = (int)(f - wino_form);
    Val in[4] = {x, weights(w, &b, &v, f), matrix(w, &b, &w->bt[i], f->bt, f->a, f->a),
                 matrix(w, &b, &w->at[i], f->at, f->m, f->a)},
        out;
    Graph *g = body(w, &v, f, in, n->loc);
    if (!g) return false;
    b_group(&b, "Winograd", g, 4, in, &out);
    if (!out.i) return false;
    graph_replace(w->g, n->out[0], out);
    return true;
}

bool pass_winograd(Graph *g, PassCtx *p) {
    graph_tidy(g);
    dim_guess_in(g);
    Wino w = {.g = g, .p = p};
    uint32_t n = g->node.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    bool changed = false;
    for (uint32_t i = 0; i < n; i++) changed |= rewrite(&w, node[i]);
    if (changed) graph_tidy(g);
    return changed;
}
