/* gpu_bulk.c: operands of a contraction that copies of tiles of tensors bring (gpu_bulk.h). */
#include "gpu_bulk.h"

#include <string.h>

/* ---- boxes ---- */

bool gpu_may_repeat(Ctx *c, Dim step) { return dim_lo(c, step) < 1; }

static bool add_axis(Ctx *c, GpuBulk *t, GpuOf of, int index, Dim extent, Dim step) {
    if (t->n == LIR_AXES || dim_lo(c, step) < 0 || (t->n < 2 && gpu_may_repeat(c, step))) return false;
    t->axis[t->n++] = (GpuBulkAxis){.of = of, .index = index, .extent = extent, .step = step};
    return true;
}

/* Level `i` of k, or the reduced axis. */
static bool add_k(const GpuProduct *x, const Side *s, GpuBulk *t, int i) {
    Ctx *c = x->k->c;
    if (!t->by_lines) return add_axis(c, t, OF_K, i, s->k.extent[i], s->k.coef[0][i]);
    Dim extent = x->s->axis[x->red[i]].extent, step = s->f[0].coef[x->red[i]];
    if (i < x->nred - 1 && dim_is(c, extent, 1)) return true;
    return (dim_divisible(c, step, s->vec) || dim_is(c, step, t->n ? 0 : 1)) && add_axis(c, t, OF_K, x->red[i], extent, step);
}

/* A box has rows of one level, and k of one level or a part of the innermost one. */
static bool boxes(const GpuProduct *x, const Side *s, bool by_lines, GpuBulk *t) {
    Ctx *c = x->k->c;
    int size = gpu_bytes(x), nk = by_lines ? x->nred : s->k.n;
    *t = (GpuBulk){.by_lines = by_lines};
    if (s->ntest || s->row.n != 1 || (!s->near_k && size != 2)) return false;
    if (!by_lines && nk > 1 && !dim_divisible(c, s->k.extent[nk - 1], GPU_LINE / size)) return false;
    if (!gpu_as_dim(c, s->f[0].rest, &t->offset)) return false;
    for (int i = 0; i < 2; i++)
        if (i == s->near_k ? !add_axis(c, t, OF_ROWS, 0, s->row.extent[0], s->row.coef[0][0]) : !add_k(x, s, t, nk - 1)) return false;
    for (int i = nk - 2; i >= 0; i--)
        if (!add_k(x, s, t, i)) return false;
    for (int i = 0; i < x->nbatch; i++) {
        Dim step = s->f[0].coef[x->batch[i]];
        if (!dim_is(c, step, 0) && !add_axis(c, t, OF_BATCHES, x->batch[i], x->s->axis[x->batch[i]].extent, step)) return false;
    }
    return true;
}

/* Rows of several levels are those of the innermost one, for each point of the others. */
static void one_level(GpuProduct *x, Side *s) {
    while (s->vec && !s->ntest && s->row.n > 1) {
        x->batch[x->nbatch++] = s->axis[0];
        memmove(s->axis, s->axis + 1, (size_t)--s->naxis * sizeof *s->axis);
        s->vec = 0;
        gpu_side_memory(x, s);
    }
}

/* ---- windows ---- */

/* How many of the axes the index depends on; the last of them. */
static int uses(const Affine *f, const int *axis, int n, int *last) {
    int found = 0;
    for (int i = 0; i < n; i++)
        if (f->has[axis[i]]) found++, *last = axis[i];
    return found;
}

static bool within(const Ctx *c, Dim d, int64_t lo, int64_t hi) { return dim_lo(c, d) >= lo && dim_hi(c, d) <= hi; }

/* Where the axis may have no element, no rows are then either: nothing is loaded. */
static bool none_without(const Ctx *c, Dim points, Dim extent) { return dim_lo(c, extent) > 0 || dim_same(c, points, extent); }

/* Are the axis' elements the channels? Those of a copy are of one tap, and zeros beyond the last one. */
static bool as_channels(const GpuProduct *x, bool by_lines, GpuBulkAxis *a) {
    Ctx *c = x->k->c;
    int near = x->red[x->nred - 1], k = 0, size = gpu_bytes(x);
    Dim channels = x->s->axis[near].extent;
    if (uses(&a->at, x->red, x->nred, &k) != 1 || k != near || !dim_is(c, a->at.coef[near], 1) || !dim_is(c, a->step, 1)) return false;
    for (int side = 0; side < 2; side++)
        if (uses(&a->at, x->side[side].axis, x->side[side].naxis, &k)) return false;
    if (dim_divisible(c, channels, GPU_LINE / size)) return true;
    for (int i = 0; i < x->nred - 1 && !by_lines; i++)
        if (!dim_is(c, x->s->axis[x->red[i]].extent, 1)) return false;
    a->extent = dim_add(c, a->rest, channels);
    return !uses(&a->at, x->batch, x->nbatch, &k);
}

static bool is_images(const GpuProduct *x, const Side *s, const GpuBulkAxis *a) {
    Ctx *c = x->k->c;
    int row = -1, unused;
    return uses(&a->at, s->axis, s->naxis, &row) == 1 && row == s->axis[0] && dim_is(c, a->at.coef[row], 1) &&
           none_without(c, x->s->axis[row].extent, a->extent) && !uses(&a->at, x->red, x->nred, &unused);
}

/* Is it an axis of windows, in a map of that rank? Then tells where its points are. */
static bool as_window(const GpuProduct *x, const Side *s, int rank, GpuBulkAxis *a) {
    Ctx *c = x->k->c;
    int row = -1, reach = kmap_reach(rank), rows = uses(&a->at, s->axis, s->naxis, &row), unused;
    int64_t stride = 1;
    Dim points = rows ? x->s->axis[row].extent : dim_const(c, 1), most = dim_const(c, 0);
    if (rows > 1 || !none_without(c, points, a->extent) || uses(&a->at, x->batch, x->nbatch, &unused)) return false;
    if (rows && (!dim_is_const(c, a->at.coef[row], &stride) || stride < 1 || stride > KMAP_MOST_STRIDE)) return false;
    for (int i = 0; i < x->nred; i++) {
        Dim way = a->at.coef[x->red[i]];
        if (dim_lo(c, way) < 0) return false;
        most = dim_add(c, most, dim_mul(c, way, dim_addi(c, x->s->axis[x->red[i]].extent, -1)));
    }
    a->window = (KWindow){a->rest, dim_add(c, a->rest, dim_muli(c, dim_addi(c, points, -1), stride)), (uint8_t)stride};
    Dim end = dim_addi(c, dim_sub(c, a->window.last, a->extent), 1);
    return within(c, a->rest, -reach, reach - 1) && within(c, end, -reach, reach - 1) && dim_hi(c, most) < 2 * reach;
}

/* The buffer's axes along which the side is walked, into list; what the others add to the offset. */
static int walked_axes(const GpuProduct *x, const Side *s, const ExprInfo *load, GpuBulkAxis *list, Dim *offset) {
    Ctx *c = x->k->c;
    const KBuf *b = &x->k->buf[load->index];
    Dim extent[K_AXES];
    int n = 0;
    for (int a = 0; a < x->s->naxis; a++) extent[a] = x->s->axis[a].extent;
    *offset = b->offset;
    for (int d = 0; d < b->rank; d++) {
        GpuBulkAxis a = {.extent = b->dim[d], .step = b->stride[d]};
        bool used = false;
        if (!index_affine(x->k, x->s, load->arg[d], &a.at) || !gpu_as_dim(c, a.at.rest, &a.rest)) return -1;
        for (int k = 0; k < x->s->naxis; k++) used |= a.at.has[k];
        if (!used) {
            if (!expr_in_bounds(c, load->arg[d], b->dim[d], extent, x->s->naxis)) return -1;
            *offset = dim_add(c, *offset, dim_mul(c, a.rest, a.step));
            continue;
        }
        if (n == LIR_AXES || dim_lo(c, a.step) < 0 || dim_is(c, a.step, 0) || !(dim_is(c, a.step, 1) || dim_divisible(c, a.step, s->vec))) return -1;
        list[n++] = a;
    }
    return dim_divisible(c, *offset, s->vec) ? n : -1;
}

static void take(GpuBulk *t, GpuBulkAxis *list, int *n, int k) {
    t->axis[t->n++] = list[k];
    memmove(list + k, list + k + 1, (size_t)(--*n - k) * sizeof *list);
}

static bool windows(const GpuProduct *x, const Side *s, bool by_lines, GpuBulk *t) {
    Ctx *c = x->k->c;
    GpuBulkAxis list[LIR_AXES];
    ExprInfo load = *expr_info(c, s->x);
    int row;
    if (load.kind == E_CAST) load = *expr_info(c, load.arg[0]);
    *t = (GpuBulk){.windows = true, .by_lines = by_lines};
    int n = s->near_k && !s->pad.i ? walked_axes(x, s, &load, list, &t->offset) : -1;
    for (int k = 0; k < n && !t->n; k++)
        if (as_channels(x, by_lines, &list[k])) take(t, list, &n, k);
    if (!t->n) return false;
    for (int k = n - 1; k >= 0; k--) /* along which there is one point */
        if (!uses(&list[k].at, s->axis, s->naxis, &row)) take(t, list, &n, k);
    for (int i = s->naxis - 1, found; i >= 0; i--) {
        found = t->n;
        for (int k = n - 1; k >= 0; k--)
            if (list[k].at.has[s->axis[i]]) take(t, list, &n, k);
        if (t->n != found + 1) return false;
    }
    if (!is_images(x, s, &t->axis[t->n - 1])) {
        if (t->n == LIR_AXES) return false;
        t->axis[t->n++] = (GpuBulkAxis){.extent = dim_const(c, 1), .step = dim_const(c, s->vec), .rest = dim_const(c, 0)};
    }
    if (t->n < 3) return false;
    for (int d = 1; d < t->n - 1; d++)
        if (!as_window(x, s, t->n, &t->axis[d])) return false;
    return true;
}

static bool bulk_of(GpuProduct *x, int side, bool by_lines, GpuBulk *t) {
    Side *s = &x->side[side];
    if (s->vec * gpu_bytes(x) != 16 || x->k->buf[s->buf].align < 16) return false;
    if (boxes(x, s, by_lines, t) || windows(x, s, by_lines, t)) return true;
    one_level(x, s);
    return s->vec * gpu_bytes(x) == 16 && boxes(x, s, by_lines, t);
}

bool gpu_bulks(GpuProduct *x, GpuBulk bulk[2]) {
    for (int by_lines = 0; by_lines < 2; by_lines++) {
        GpuProduct y = *x;
        if (!bulk_of(&y, 0, by_lines, &bulk[0]) || !bulk_of(&y, 1, by_lines, &bulk[1])) continue;
        *x = y;
        return true;
    }
    return false;
}

/* Lines of the innermost k. */
static Dim lines_of(const GpuProduct *x) {
    return dim_ceildiv(x->k->c, x->s->axis[x->red[x->nred - 1]].extent, dim_const(x->k->c, GPU_LINE / gpu_bytes(x)));
}

Dim gpu_bulk_steps(const GpuProduct *x, const GpuBulk bulk[2]) {
    Ctx *c = x->k->c;
    if (!bulk[0].by_lines) return dim_ceildiv(c, gpu_depth(x), dim_const(c, GPU_LINE / gpu_bytes(x)));
    Dim n = lines_of(x);
    for (int i = 0; i < x->nred - 1; i++) n = dim_mul(c, n, x->s->axis[x->red[i]].extent);
    return n;
}

/* ---- code ---- */

uint32_t gpu_argument(const Emit *e, uint16_t buf) {
    uint32_t k = 0;
    while (e->code->buf[k].i != e->k->buf[buf].val.i) k++;
    return k;
}

Dim gpu_map_step(Ctx *c, Dim step, int vec) { return gpu_may_repeat(c, step) ? dim_max(c, step, dim_const(c, vec)) : step; }

LVal gpu_map_at(Emit *e, Dim step, LVal i) {
    Lir *l = e->l;
    if (!gpu_may_repeat(e->c, step)) return i;
    return lir_op3(l, S_SELECT, lir_op2(l, S_EQ, emit_dim(e, step), lir_i64(l, 0)), lir_i64(l, 0), i);
}

void gpu_ring_next(Lir *l, int stages, GpuRing *r) {
    LVal next = lir_addi(l, r->at[0], 1), around = lir_op2(l, S_EQ, next, lir_i64(l, stages));
    r->at[0] = lir_op3(l, S_SELECT, around, lir_i64(l, 0), next);
    r->at[1] = lir_op2(l, S_XOR, r->at[1], lir_cast(l, around, DT_I64));
}

void gpu_ring_barriers(Lir *l, LVal mem, LVal thread, LVal full, LVal empty, int n, uint32_t readers) {
    LIf first = lir_if(l, lir_op2(l, S_EQ, thread, lir_i64(l, 0)), 0);
    for (int i = 0; i < n; i++) {
        lir_mbarrier_init(l, mem, lir_addi(l, full, i * GPU_MBARRIER), 1);
        lir_mbarrier_init(l, mem, lir_addi(l, empty, i * GPU_MBARRIER), readers);
    }
    lir_fence_mbarriers(l);
    lir_else(l, &first, NULL);
    lir_endif(l, &first, NULL, NULL);
    if (lir_cluster_blocks(l) > 1) lir_cluster_barrier(l);
    else lir_barrier(l);
}

/* Rows of a copy. */
static int rows_at_once(const Side *s, int rows) { return s->near_k ? rows : GPU_TALL; }

void gpu_bulk_map(Emit *e, const GpuProduct *x, int side, int rows, GpuBulk *t) {
    const Side *s = &x->side[side];
    int depth = GPU_LINE / gpu_bytes(x);
    LMap m = {.dt = (uint16_t)s->type, .rank = (uint8_t)t->n, .swizzled = true, .windows = t->windows};
    KMap *own = &e->code->map[side];
    own->buf = gpu_argument(e, s->buf);
    own->offset = t->offset;
    for (int d = 0; d < t->n; d++) {
        const GpuBulkAxis *a = &t->axis[d];
        bool k = t->windows ? d == 0 : a->of == OF_K;
        m.box[d] = (uint16_t)(d > 1 ? 1 : k ? depth : rows_at_once(s, rows)); /* of the nearest two; of all else there is one */
        own->extent[d] = a->extent;
        own->step[d] = gpu_map_step(e->c, a->step, s->vec);
        if (t->windows && d > 0 && d < t->n - 1) own->window[d - 1] = a->window;
    }
    t->map = lir_map(e->l, m);
}

/* What the axes add to the index, at a point of theirs. */
static LVal along(Emit *e, const Affine *f, const int *axis, int n, const LVal *at) {
    LVal sum = lir_i64(e->l, 0);
    for (int i = 0; i < n; i++)
        if (f->has[axis[i]]) sum = lir_add(e->l, sum, lir_mul(e->l, at[axis[i]], emit_dim(e, f->coef[axis[i]])));
    return sum;
}

void gpu_bulk_tile(Emit *e, const GpuProduct *x, int side, GpuBulk *t, const LVal *at, LVal first) {
    Lir *l = e->l;
    const Side *s = &x->side[side];
    LVal row[K_AXES];
    if (t->windows) gpu_split(e, x, first, s->axis, s->naxis, row);
    for (int d = 0; d < t->n; d++) {
        const GpuBulkAxis *a = &t->axis[d];
        if (t->windows) {
            LVal from = emit_dim(e, a->rest);
            from = lir_add(l, from, along(e, &a->at, x->batch, x->nbatch, at));
            t->fixed[d] = lir_add(l, from, along(e, &a->at, s->axis, s->naxis, row));
        } else {
            t->fixed[d] = a->of == OF_K ? lir_i64(l, 0) : a->of == OF_ROWS ? first : gpu_map_at(e, a->step, at[a->index]);
        }
    }
}

/* Step `step` along k: coordinates along the reduced axes. */
static void split_k(Emit *e, const GpuProduct *x, const GpuBulk *t, LVal step, LVal *at) {
    Lir *l = e->l;
    int depth = GPU_LINE / gpu_bytes(x);
    if (!t->by_lines) {
        gpu_split(e, x, lir_muli(l, step, depth), x->red, x->nred, at);
        return;
    }
    LVal lines = emit_dim(e, lines_of(x));
    gpu_split(e, x, lir_op2(l, S_DIV, step, lines), x->red, x->nred - 1, at);
    at[x->red[x->nred - 1]] = lir_muli(l, lir_op2(l, S_REM, step, lines), depth);
}

void gpu_bulk_load(Emit *e, const GpuProduct *x, int side, const GpuBulk *t, int rows, LVal step, LVal mem, LVal to, LVal mbarrier) {
    Lir *l = e->l;
    const Side *s = &x->side[side];
    LVal at[LIR_AXES + LIR_WINDOW], k[K_AXES];
    void (*load)(Lir *, LVal, LVal, uint32_t, const LVal *, LVal, LVal) = t->to_all ? lir_tensor_load_all : lir_tensor_load;
    memcpy(at, t->fixed, sizeof t->fixed);
    if (t->windows) {
        split_k(e, x, t, step, k);
        at[0] = lir_add(l, at[0], k[x->red[x->nred - 1]]);
        for (int d = 1; d < t->n - 1; d++) at[t->n + d - 1] = along(e, &t->axis[d].at, x->red, x->nred, k);
        load(l, mem, to, t->map, at, mem, mbarrier);
        return;
    }
    if (t->by_lines) split_k(e, x, t, step, k);
    else gpu_levels(e, &s->k, lir_muli(l, step, GPU_LINE / gpu_bytes(x)), k);
    int near_rows = t->axis[0].of == OF_ROWS ? 0 : 1;
    for (int d = 0; d < t->n; d++)
        if (t->axis[d].of == OF_K) at[d] = gpu_map_at(e, t->axis[d].step, k[t->axis[d].index]);
    for (int row = 0; row < rows; row += rows_at_once(s, rows)) {
        at[near_rows] = lir_addi(l, t->fixed[near_rows], row);
        load(l, mem, lir_addi(l, to, (int64_t)row * GPU_LINE), t->map, at, mem, mbarrier);
    }
}
