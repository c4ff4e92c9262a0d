/* gpu_product.c: recognises a contraction that blocks of a GPU can compute by tiles, and how its operands lie in memory (gpu_tile.h). */
#include <math.h>

#include "gpu_tile.h"

enum { WORD = 4 };

/* The steps of a side's forms along axes, where outer and inner ones that all of them walk as one are merged. */
static Walk walk_along(const GpuProduct *x, const Side *s, const int *axis, int n) {
    Ctx *c = x->k->c;
    Walk w = {0};
    for (int i = 0; i < n; i++) {
        Dim extent = x->s->axis[axis[i]].extent;
        bool joins = w.n > 0;
        for (int f = 0; f <= s->ntest && joins; f++) joins = dim_same(c, w.coef[f][w.n - 1], dim_mul(c, s->f[f].coef[axis[i]], extent));
        if (!joins) w.n++;
        w.extent[w.n - 1] = joins ? dim_mul(c, w.extent[w.n - 1], extent) : extent;
        for (int f = 0; f <= s->ntest; f++) w.coef[f][w.n - 1] = s->f[f].coef[axis[i]];
    }
    return w;
}

/* Is the index expression, which is of no axis, a multiple of n? */
static bool multiple(Ctx *c, Expr e, int n) {
    const ExprInfo i = *expr_info(c, e);
    if (i.kind == E_CONST) return i.val.i % n == 0;
    if (i.kind == E_DIM) return dim_divisible(c, (Dim){i.index}, n);
    if (i.kind == E_OP && i.op == S_ADD) return multiple(c, i.arg[0], n) && multiple(c, i.arg[1], n);
    if (i.kind == E_OP && i.op == S_MUL) return multiple(c, i.arg[0], n) || multiple(c, i.arg[1], n);
    return false;
}

bool gpu_as_dim(Ctx *c, Expr e, Dim *d) {
    const ExprInfo i = *expr_info(c, e);
    Dim a, b;
    if (i.kind == E_CONST) return *d = dim_const(c, i.val.i), true;
    if (i.kind == E_DIM) return *d = (Dim){i.index}, true;
    if (i.kind != E_OP || (i.op != S_ADD && i.op != S_MUL) || !gpu_as_dim(c, i.arg[0], &a) || !gpu_as_dim(c, i.arg[1], &b)) return false;
    *d = i.op == S_ADD ? dim_add(c, a, b) : dim_mul(c, a, b);
    return true;
}

/* Do n neighbours, from every n-th on, lie side by side along the walk, in range all of them or none? The last ones may be cut off. */
static bool runs(Ctx *c, const Side *s, const Walk *w, int n) {
    if (!w->n || !dim_is(c, w->coef[0][w->n - 1], 1)) return false;
    if (w->n > 1 && !dim_divisible(c, w->extent[w->n - 1], n)) return false;
    for (int i = 0; i < w->n - 1; i++)
        if (!dim_divisible(c, w->coef[0][i], n)) return false;
    for (int f = 1; f <= s->ntest; f++)
        if (!dim_is(c, w->coef[f][w->n - 1], 0)) return false;
    return true;
}

static bool steps_by(Ctx *c, const Walk *w, int n) {
    for (int i = 0; i < w->n; i++)
        if (!dim_divisible(c, w->coef[0][i], n)) return false;
    return true;
}

static bool can_copy(const GpuProduct *x, const Side *s, int n) {
    Ctx *c = x->k->c;
    for (int i = 0; i < x->nbatch; i++)
        if (!dim_divisible(c, s->f[0].coef[x->batch[i]], n)) return false;
    return multiple(c, s->f[0].rest, n) && runs(c, s, s->near_k ? &s->k : &s->row, n) && steps_by(c, s->near_k ? &s->row : &s->k, n);
}

static bool is_zero(Ctx *c, Expr e) {
    const ExprInfo *i = expr_info(c, e);
    uint64_t bits = 0;
    if (i->kind == E_CONST) dt_store(i->dtype, &bits, 0, i->val);
    return i->kind == E_CONST && !bits;
}

/* The tests that the load needs; false if they are too many, or a copy cannot make them. Floats must be zero out of range: beyond the last k, too,
 * it is what the other side's zeros meet. */
static bool find_tests(const GpuProduct *x, Side *s, const ExprInfo *load) {
    Ctx *c = x->k->c;
    Dim extent[K_AXES];
    const KBuf *b = &x->k->buf[load->index];
    if (load->oob == OOB_NEVER) return true;
    if (load->oob != OOB_VALUE) return false;
    s->pad = load->arg[load->narg - 1];
    for (int a = 0; a < x->s->naxis; a++) {
        extent[a] = x->s->axis[a].extent;
        if (expr_uses_axis(c, s->pad, (uint32_t)a)) return false;
    }
    if (is_zero(c, s->pad)) s->pad = (Expr){0};
    if (s->pad.i && !dt_is_int(load->dtype)) return false;
    for (int d = 0; d < b->rank; d++) {
        int64_t lo, hi;
        if (expr_in_bounds(c, load->arg[d], b->dim[d], extent, x->s->naxis)) continue;
        if (s->ntest == GPU_TESTS || !index_affine(x->k, x->s, load->arg[d], &s->f[1 + s->ntest])) return false;
        bool known = expr_range(c, load->arg[d], extent, x->s->naxis, &lo, &hi);
        s->test[s->ntest++] = (Test){b->dim[d], known && lo > INT32_MIN / 2 && hi < INT32_MAX / 2 && dim_hi(c, b->dim[d]) < INT32_MAX / 2};
    }
    if (!s->ntest) s->pad = (Expr){0};
    return true;
}

/* The first load of a factor says along what its neighbours lie. */
typedef struct Lie {
    const GpuProduct *x;
    const Side *side;
    bool seen, along_k;
} Lie;

static void note_lie(void *data, const ExprInfo *load) {
    Lie *a = data;
    const GpuProduct *x = a->x;
    Affine f;
    if (a->seen || !access_affine(x->k, x->s, (uint16_t)load->index, x->k->buf[load->index].rank, load->arg, &f)) return;
    int n = a->side->naxis, last = n ? a->side->axis[n - 1] : -1;
    bool rows = last >= 0 && dim_is(x->k->c, f.coef[last], 1);
    a->along_k = !rows && dim_is(x->k->c, f.coef[x->red[x->nred - 1]], 1);
    a->seen = rows || a->along_k;
}

void gpu_side_memory(GpuProduct *x, Side *s) {
    Ctx *c = x->k->c;
    Lie lie = {x, s, false, false};
    expr_loads(c, s->x, note_lie, &lie);
    s->near_k = s->along_k = lie.along_k;
    int size = (int)dt_bits(s->type) / 8;
    ExprInfo i = *expr_info(c, s->x);
    if (i.kind == E_CAST) i = *expr_info(c, i.arg[0]);
    bool transposed = !s->near_k && size == 1; /* which ldmatrix does not do */
    bool copied = i.kind == E_LOAD && i.dtype == s->type && !transposed && find_tests(x, s, &i) &&
                  access_affine(x->k, x->s, (uint16_t)i.index, x->k->buf[i.index].rank, i.arg, &s->f[0]);
    if (copied) {
        s->buf = (uint16_t)i.index;
        s->row = walk_along(x, s, s->axis, s->naxis);
        s->k = walk_along(x, s, x->red, x->nred);
        for (int bytes = 16; bytes >= 4 && !s->vec; bytes /= 2)
            if (bytes == size || (bytes > size && can_copy(x, s, bytes / size))) s->vec = bytes / size;
    }
    if (!s->vec && size < WORD) s->along_k = true;
}

/* The side along whose innermost axis neighbours of the last result lie. */
static int near_side(const GpuProduct *x) {
    const Kernel *k = x->k;
    const Stage *s = &k->stage[k->nstage - 1];
    Affine f;
    if (!access_affine(k, s, s->out[0].buf, s->out[0].rank, s->out[0].at, &f)) return 1;
    for (int side = 0; side < 2; side++) {
        int n = x->side[side].naxis, axis = n ? x->side[side].axis[n - 1] : -1, at = axis;
        if (s != x->s)
            for (int a = 0; a < axis; a++) at -= x->s->axis[a].kind != AX_PAR; /* axes of epilogues are the parallel ones */
        if (n && dim_is(k->c, f.coef[at], 1)) return side;
    }
    return 1;
}

typedef struct Pieces {
    const Kernel *k;
    const Stage *s;
    uint64_t held; /* buffers whose values are in registers where they are loaded */
    int axis, n;
    bool ok;
} Pieces;

static void look_at_load(void *data, const ExprInfo *load) {
    Pieces *p = data;
    unsigned bits;
    if (p->held >> load->index & 1) return;
    p->ok = p->ok && access_in_pieces(p->k, p->s, (uint16_t)load->index, load->arg, load->oob, p->axis, p->n, &bits);
}

int gpu_together(const GpuProduct *x, int n) {
    const Kernel *k = x->k;
    const Side *near = &x->side[x->near];
    unsigned bits;
    if (!near->naxis || !dim_divisible(k->c, x->s->axis[near->axis[near->naxis - 1]].extent, n)) return -1;
    Pieces p = {.k = k, .axis = near->axis[near->naxis - 1], .n = n, .ok = true};
    for (int a = 0; a < p.axis; a++) p.ok = p.ok && x->s->axis[a].kind == AX_PAR; /* epilogues count it as the contraction does */
    for (int st = 0; st < k->nstage && p.ok; st++) {
        p.s = &k->stage[st];
        for (int r = 0; st && r < p.s->nres; r++) expr_loads(k->c, p.s->body[r], look_at_load, &p);
        for (int r = 0; r < p.s->nres; r++) {
            const KOut *o = &p.s->out[r];
            p.held |= 1ull << o->buf;
            if (k->buf[o->buf].kind == KB_OUT) p.ok = p.ok && access_in_pieces(k, p.s, o->buf, o->at, o->oob, p.axis, n, &bits);
        }
    }
    return p.ok ? p.axis : -1;
}

void gpu_swap(GpuProduct *x) {
    Side first = x->side[0];
    x->side[0] = x->side[1];
    x->side[1] = first;
    x->near = !x->near;
}

bool gpu_product(const Kernel *k, DType acc, DType type0, DType type1, GpuProduct *x) {
    const Stage *s = &k->stage[0];
    *x = (GpuProduct){.k = k, .s = s, .side = {{.type = type0}, {.type = type1}}};
    if (s->kind != ST_NEST || s->nres != 1 || !s->comb[0].i || s->acc[0] != acc || s->init[0].i || k->nstage > 64) return false;
    if (k->nstage > 1 && epilogue_mask(k, 0) != (k->nstage == 64 ? ~1ull : (1ull << k->nstage) - 2)) return false;
    const ExprInfo body = *expr_info(k->c, s->body[0]), comb = *expr_info(k->c, s->comb[0]);
    if (body.kind != E_OP || body.op != S_MUL || body.dtype != acc || comb.kind != E_OP || comb.op != S_ADD) return false;
    if (expr_info(k->c, comb.arg[0])->kind != E_ARG || expr_info(k->c, comb.arg[1])->kind != E_ARG || !kernel_is_total(k)) return false;
    for (int side = 0; side < 2; side++) x->side[side].x = body.arg[side];
    for (int a = 0; a < s->naxis; a++) {
        bool used[2];
        for (int side = 0; side < 2; side++) used[side] = expr_uses_axis(k->c, body.arg[side], (uint32_t)a);
        if (s->axis[a].kind == AX_RED) x->red[x->nred++] = a;
        else if (used[0] == used[1]) x->batch[x->nbatch++] = a;
        else x->side[used[1]].axis[x->side[used[1]].naxis++] = a;
    }
    if (!x->nred) return false;
    for (int side = 0; side < 2; side++) gpu_side_memory(x, &x->side[side]);
    x->near = near_side(x);
    return true;
}

static Dim product_of(const GpuProduct *x, const int *axis, int n) {
    Dim d = dim_const(x->k->c, 1);
    for (int i = 0; i < n; i++) d = dim_mul(x->k->c, d, x->s->axis[axis[i]].extent);
    return d;
}

Dim gpu_rows(const GpuProduct *x, int side) { return product_of(x, x->side[side].axis, x->side[side].naxis); }
Dim gpu_depth(const GpuProduct *x) { return product_of(x, x->red, x->nred); }
Dim gpu_batches(const GpuProduct *x) { return product_of(x, x->batch, x->nbatch); }

static double tiles_along(double n, int by) { return (double)(int64_t)((n + by - 1) / by); }

static double points(const GpuProduct *x, double more) {
    Ctx *c = x->k->c;
    return dim_guess(c, gpu_rows(x, 0), more) * dim_guess(c, gpu_rows(x, 1), more) * dim_guess(c, gpu_batches(x), more);
}

static double tiles_of(const GpuProduct *x, int rows, int cols, double more) {
    Ctx *c = x->k->c;
    double tiles = tiles_along(dim_guess(c, gpu_rows(x, 0), more), rows) * tiles_along(dim_guess(c, gpu_rows(x, 1), more), cols);
    return tiles * dim_guess(c, gpu_batches(x), more);
}
double gpu_tiles_of(const GpuProduct *x, int rows, int cols) { return tiles_of(x, rows, cols, 1); }

static double tiles_cost(const GpuProduct *x, int rows, int cols, double speed, double more) {
    enum { MULTIPROCESSORS = 132, BEGINS = 32 /* k that the time before and after the loop is worth */ };
    double depth = dim_guess(x->k->c, gpu_depth(x), more) + BEGINS;
    return tiles_along(tiles_of(x, rows, cols, more), MULTIPROCESSORS) * MULTIPROCESSORS * rows * cols * depth / speed;
}

/* Sizes that nothing bounds may be a request's or a batch's, and small tiles lose more at large ones than large tiles at small ones: what counts is
 * the mean, in ratios, of both. */
double gpu_tile_cost(const GpuProduct *x, int rows, int cols, double speed) {
    enum { MORE = 8 };
    Ctx *c = x->k->c;
    double usual = tiles_cost(x, rows, cols, speed, 1), large = tiles_cost(x, rows, cols, speed, MORE);
    double work = points(x, MORE) * (dim_guess(c, gpu_depth(x), MORE) + 1), less = points(x, 1) * (dim_guess(c, gpu_depth(x), 1) + 1);
    return usual > 0 && less > 0 ? usual * sqrt(large / usual / (work / less)) : usual;
}

/* ---- code ---- */

LVal gpu_zero(Lir *l, DType t) { return dt_is_float(t) ? lir_float(l, t, 0) : lir_int(l, t, 0); }

/* i as coordinates along axes of these extents, the last one innermost; in 32 bits if they can hold it. */
static void split(Emit *e, LVal i, const Dim *extent, int n, LVal *out) {
    Lir *l = e->l;
    double most = 1;
    for (int a = 0; a < n; a++) most *= (double)dim_hi(e->c, extent[a]);
    DType t = most < INT32_MAX / 2 ? DT_I32 : DT_I64; /* tiles reach a little beyond the end */
    LVal rest = n > 1 ? lir_cast(l, i, t) : i;
    for (int a = n - 1; a > 0; a--) {
        LVal size = lir_cast(l, emit_dim(e, extent[a]), t);
        out[a] = lir_cast(l, lir_op2(l, S_REM, rest, size), DT_I64);
        rest = lir_op2(l, S_DIV, rest, size);
    }
    if (n) out[0] = lir_cast(l, rest, DT_I64);
}

void gpu_split(Emit *e, const GpuProduct *x, LVal i, const int *axis, int n, LVal *at) {
    Dim extent[K_AXES] = {{0}};
    LVal out[K_AXES];
    for (int a = 0; a < n; a++) extent[a] = x->s->axis[axis[a]].extent;
    split(e, i, extent, n, out);
    for (int a = 0; a < n; a++) at[axis[a]] = out[a];
}

void gpu_levels(Emit *e, const Walk *w, LVal i, LVal *at) { split(e, i, w->extent, w->n, at); }

LVal gpu_walked(Emit *e, const Walk *w, int form, LVal i) {
    LVal at[K_AXES], sum = lir_i64(e->l, 0);
    split(e, i, w->extent, w->n, at);
    for (int a = 0; a < w->n; a++) sum = lir_add(e->l, sum, lir_mul(e->l, at[a], emit_dim(e, w->coef[form][a])));
    return sum;
}

LVal gpu_base(Emit *e, const GpuProduct *x, int side, int form, const LVal *at) {
    const Affine *f = &x->side[side].f[form];
    Point p = {.vaxis = -1, .lanes = 1};
    for (int a = 0; a < K_AXES; a++) p.axis[a] = lir_i64(e->l, 0);
    emit_memo_reset(e);
    LVal sum = emit_expr(e, x->s, f->rest, &p);
    for (int i = 0; i < x->nbatch; i++) sum = lir_add(e->l, sum, lir_mul(e->l, at[x->batch[i]], emit_dim(e, f->coef[x->batch[i]])));
    return sum;
}

static LVal narrowed(Lir *l, const Test *t, LVal index) { return t->narrow ? lir_cast(l, index, DT_I32) : index; }

void gpu_tested(Emit *e, const GpuProduct *x, int side, const LVal *at, LVal row, LVal index[GPU_TESTS]) {
    const Side *s = &x->side[side];
    for (int t = 0; t < s->ntest; t++) {
        LVal base = gpu_base(e, x, side, 1 + t, at);
        index[t] = narrowed(e->l, &s->test[t], lir_add(e->l, base, gpu_walked(e, &s->row, 1 + t, row)));
    }
}

LVal gpu_in_range(Emit *e, const Side *s, const LVal index[GPU_TESTS], LVal k) {
    Lir *l = e->l;
    LVal all = {0};
    for (int t = 0; t < s->ntest; t++) {
        LVal at = lir_add(l, index[t], narrowed(l, &s->test[t], gpu_walked(e, &s->k, 1 + t, k)));
        LVal in = lir_ltu(l, at, narrowed(l, &s->test[t], emit_dim(e, s->test[t].size)));
        all = t ? lir_op2(l, S_AND, all, in) : in;
    }
    return all;
}

LVal gpu_factor(Emit *e, const GpuProduct *x, int side, const LVal *at, LVal row, LVal k) {
    const Side *s = &x->side[side];
    Point p = {.vaxis = -1, .lanes = 1};
    for (int a = 0; a < K_AXES; a++) p.axis[a] = at[a];
    gpu_split(e, x, row, s->axis, s->naxis, p.axis);
    gpu_split(e, x, k, x->red, x->nred, p.axis);
    emit_memo_reset(e);
    return reg_cast(e, emit_expr(e, x->s, s->x, &p), expr_info(e->c, s->x)->dtype, x->s->acc[0]);
}
