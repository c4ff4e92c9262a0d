/* ukr_gemv.c: template `gemv`, for GPUs: contractions one side of which has few rows, so that what counts is to read the other, the wide one, once
 * and by 16 bytes. The threads of a block share k as well as columns (rows of the wide side): a thread has `rows` rows of `width` columns, for the
 * k of its chain. Neighbours in memory along k: a warp walks k, each thread 16 bytes of it, in `width` columns. Neighbours along columns: a thread
 * has 16 bytes of them at each k of its chain.
 * A wide side computed from bytes that are neighbours (quantised weights, several to a byte or not, and their scales) is loaded by 16 bytes, too, and
 * each weight made from its byte in registers.
 * Order of a sum: groups of k (16 bytes, if neighbours lie along k; else one k) go to chain number mod chains; each chain ascending, products
 * fused into it; then chains are added one after the other. Weights made from 16 bytes that have one scale are a sum of their own, times the
 * scale. */
#include <string.h>

#include "gpu_tile.h"
#include "ukr.h"

enum { PAR_ROWS, PAR_COLS, PAR_CHAINS };
enum { THREADS = 256, WARP = 32, VECTOR = 16 /* bytes */, COLUMNS = 32 };
enum { MOST_ROWS = 16, MOST_WIDTH = 8, MOST_GROUP = 8, MOST_AHEAD = 4, MOST_PARTS = 4 };

/* The bytes of a wide side that is computed from them: a load, n of whose elements lie side by side along the innermost reduced axis; everything
 * else is the same for them. Across: along the innermost axis of its rows. `part`: a reduced axis that the load does not depend on, so its points are
 * in the same byte; -1: none. The factor is x, times `scale` (or none), which is the same for all weights of a group. */
typedef struct Bytes {
    ExprInfo load;
    int n, part, nparts;
    bool across;
    Expr x, scale;
} Bytes;

typedef struct Gemv {
    Emit *e;
    Lir *l;
    GpuProduct x;
    int few, wide;              /* sides */
    int rows, cols, chains;     /* of a block */
    int width, group;           /* columns of a thread; elements of a load of the wide side */
    Bytes bytes;                /* n 0: the wide side is no such thing */
    LVal words;                 /* of which bytes are taken now, and which */
    int byte;
    LVal mem, tid, chain, place, ksize, at[K_AXES], first[2], row[2][MOST_ROWS], from[2][MOST_ROWS];
    LVal index[2][MOST_ROWS][GPU_TESTS];
} Gemv;

/* Loads that are not 0 out of range are computed like other expressions. */
static bool product(const Kernel *k, DType acc, DType type, GpuProduct *x) {
    if (!gpu_product(k, acc, type, type, x)) return false;
    for (int side = 0; side < 2; side++)
        if (x->side[side].pad.i) x->side[side].vec = 0;
    return true;
}

/* The factors' own type, if both have been made f32s from 16 bits. */
static bool shape(const Kernel *k, GpuProduct *x) {
    static const DType type[] = {DT_F16, DT_BF16};
    for (int i = 0; i < 2; i++)
        if (product(k, DT_F32, type[i], x) && x->side[0].vec && x->side[1].vec) return true;
    return product(k, DT_F32, DT_F32, x) || product(k, DT_I32, DT_I32, x);
}

static int few_side(const GpuProduct *x) {
    Ctx *c = x->k->c;
    return dim_typical(c, gpu_rows(x, 0)) <= dim_typical(c, gpu_rows(x, 1)) ? 0 : 1;
}

typedef struct Look {
    const GpuProduct *x;
    Bytes *b;
    int n, inner;
    bool across, ok;
    uint32_t axes; /* that the load depends on */
} Look;

static bool multiple(Ctx *c, Expr rest, int n) {
    const ExprInfo *i = expr_info(c, rest);
    return i->kind == E_CONST ? i->val.i % n == 0 : i->kind == E_DIM && dim_divisible(c, (Dim){i->index}, n);
}

/* Integers of fewer bits than 8 have a byte each in memory. */
static bool in_a_byte(DType t) { return dt_is_int(t) && dt_bits(t) <= 8; }

static void look_at_load(void *data, const ExprInfo *load) {
    Look *k = data;
    const GpuProduct *x = k->x;
    Ctx *c = x->k->c;
    const KBuf *b = &x->k->buf[load->index];
    bool along = false;
    Affine f;
    for (int d = 0; d < b->rank; d++) along |= expr_uses_axis(c, load->arg[d], (uint32_t)k->inner);
    if (!along || (k->across && !in_a_byte((DType)load->dtype))) return; /* scales of rows are loaded one by one */
    k->ok = k->ok && !k->b->load.narg && in_a_byte((DType)load->dtype) && load->oob == OOB_NEVER && b->align % k->n == 0 &&
            access_affine(x->k, x->s, (uint16_t)load->index, b->rank, load->arg, &f) && dim_is(c, f.coef[k->inner], 1) && multiple(c, f.rest, k->n);
    for (int a = 0; a < x->s->naxis && k->ok; a++) {
        k->ok = a == k->inner || !f.has[a] || dim_divisible(c, f.coef[a], k->n);
        k->axes |= (uint32_t)f.has[a] << a;
    }
    k->b->load = *load;
}

typedef struct Count { uint32_t buf; int n; } Count;
static void count_load(void *data, const ExprInfo *load) { ((Count *)data)->n += load->index == ((Count *)data)->buf; }

static bool bytes_along(const GpuProduct *x, int wide, int inner, bool across, Bytes *b, uint32_t *axes) {
    const Side *s = &x->side[wide];
    int64_t size, n = VECTOR;
    if (s->vec || x->s->acc[0] != DT_F32 || !dim_is_const(x->k->c, x->s->axis[inner].extent, &size)) return false;
    while (n >= 4 && size % n) n /= 2;
    if (n < 4) return false;
    *b = (Bytes){.n = (int)n, .part = -1, .nparts = 1, .across = across, .x = s->x};
    Look k = {x, b, (int)n, inner, across, true, 0};
    expr_loads(x->k->c, s->x, look_at_load, &k);
    Count count = {b->load.index, 0};
    if (k.ok && b->load.narg) expr_loads(x->k->c, s->x, count_load, &count);
    *axes = k.axes;
    return count.n == 1;
}

static bool is_part(const GpuProduct *x, int i, uint32_t axes) {
    int64_t size;
    return !(axes >> x->red[i] & 1) && dim_is_const(x->k->c, x->s->axis[x->red[i]].extent, &size) && size <= MOST_PARTS;
}

/* Is the side computed from bytes along k? The axis of parts is no longer one of x->red then. */
static bool in_bytes(GpuProduct *x, int wide, Bytes *b) {
    Ctx *c = x->k->c;
    uint32_t axes;
    int inner = x->red[x->nred - 1], part = x->nred - 2;
    const Side *s = &x->side[wide];
    if (!bytes_along(x, wide, inner, false, b, &axes)) return s->naxis && bytes_along(x, wide, s->axis[s->naxis - 1], true, b, &axes);
    while (part >= 0 && !is_part(x, part, axes)) part--;
    if (part >= 0) {
        int64_t size = 0;
        b->part = x->red[part];
        dim_is_const(c, x->s->axis[b->part].extent, &size);
        b->nparts = (int)size;
        x->nred--;
        memmove(&x->red[part], &x->red[part + 1], sizeof *x->red * (size_t)(x->nred - part));
    }
    const ExprInfo mul = *expr_info(c, b->x);
    for (int i = 0; i < 2 && mul.kind == E_OP && mul.op == S_MUL && mul.dtype == DT_F32; i++) {
        bool same = !expr_uses_axis(c, mul.arg[i], (uint32_t)inner) && (b->part < 0 || !expr_uses_axis(c, mul.arg[i], (uint32_t)b->part));
        if (same) b->scale = mul.arg[i], b->x = mul.arg[!i];
    }
    return true;
}

/* Elements of the wide side that are read at once: 16 bytes, if that goes on to the end. */
static int group_of(const GpuProduct *x, int wide) {
    const Side *s = &x->side[wide];
    int n = VECTOR / gpu_bytes(x);
    return s->vec == n && dim_divisible(x->k->c, s->along_k ? gpu_depth(x) : gpu_rows(x, wide), n) ? n : 1;
}

static bool gemv_match(const Kernel *k, const Target *t) {
    GpuProduct x;
    (void)t;
    return shape(k, &x) && dim_typical(k->c, gpu_rows(&x, few_side(&x))) <= 4 * MOST_ROWS;
}

static int gemv_candidates(const Kernel *k, const Target *t, Sched *out, int max) {
    GpuProduct x;
    int n = 0;
    if (!shape(k, &x)) return 0;
    Bytes b;
    int few = few_side(&x), group = group_of(&x, !few);
    bool bytes = in_bytes(&x, !few, &b), along = bytes ? !b.across : x.side[!few].along_k;
    if (bytes) group = b.n;
    for (int rows = 1; rows <= MOST_ROWS && n < max; rows *= 2) {
        if (rows > 1 && rows >= 2 * dim_typical(k->c, gpu_rows(&x, few))) break;
        for (int width = 1; width <= (along ? 4 : 1) && n < max; width *= 2) {
            int cols = along ? THREADS / WARP * width : COLUMNS, chains = along ? WARP : THREADS / (COLUMNS / group);
            if ((uint32_t)(rows * cols * chains * 4) > t->shared) continue;
            if (bytes && (rows > 8 || rows * (along ? width : group / 4) > 16)) continue; /* or registers run out */
            int64_t par[] = {rows, cols, chains};
            memcpy(out[n++].par, par, sizeof par);
        }
    }
    return n;
}

/* Rounds of blocks; in each, what a multiprocessor takes for the loads of a step, which outweigh its products. In the unit of gpu_tile_cost. */
static double gemv_cost(const Kernel *k, const Sched *s, const Target *t) {
    GpuProduct x;
    (void)t;
    if (!shape(k, &x)) return 1e30;
    int few = few_side(&x), rows = (int)s->par[PAR_ROWS], cols = (int)s->par[PAR_COLS];
    Bytes b;
    bool along = x.side[!few].along_k, bytes = in_bytes(&x, !few, &b);
    double loads = along ? rows + cols / (THREADS / WARP) : rows * 1.5 + 4, slow = group_of(&x, !few) == 1 ? 4 : 1;
    if (bytes) { /* for four k: what each weight takes to be made counts, too */
        double width = cols / (THREADS / WARP);
        loads = rows + width / (4 * b.nparts) + width * (4 + rows) / 4, slow = b.nparts;
        if (b.across) loads = (rows * 1.5 + 4) * 4 / b.n + 3 + rows;
    }
    double work = gpu_tile_cost(&x, few ? cols : rows, few ? rows : cols, 1) / (rows * cols);
    return work * loads * slow * 0.64;
}

/* ---- operands ---- */

static LVal as_f32(Lir *l, LVal word, int half, DType type) { /* of a word of two 16-bit floats */
    if (type == DT_BF16) {
        LVal high = half ? lir_op2(l, S_AND, word, lir_int(l, DT_I32, ~0xffff)) : lir_op2(l, S_SHL, word, lir_int(l, DT_I32, 16));
        return lir_bitcast(l, high, DT_F32);
    }
    LVal low = half ? lir_shru(l, word, lir_int(l, DT_I32, 16)) : word;
    return lir_cast(l, lir_bitcast(l, lir_cast(l, low, DT_I16), DT_F16), DT_F32);
}

/* n neighbours at k of row number `index`, n of 16 bytes or 1, in the type of sums; 0 out of range. */
static void load_group(const Gemv *v, int side, int index, LVal k, int n, LVal *out) {
    Lir *l = v->l;
    const Side *s = &v->x.side[side];
    DType type = s->type, acc = v->x.s->acc[0];
    LVal ptr = v->e->ptr[s->buf], at = lir_add(l, v->from[side][index], gpu_walked(v->e, &s->k, 0, k));
    LVal in = gpu_in_range(v->e, s, v->index[side][index], k);
    if (n == 1) {
        LVal one = lir_load(l, ptr, at, (LTy){(uint8_t)type, 1}, in, 0);
        out[0] = type == acc ? one : math_cast(l, v->e->t, one, type, acc);
        return;
    }
    LTy vector = {(uint8_t)(type == acc ? acc : DT_I32), 4};
    LIf f;
    if (in.i) f = lir_if(l, in, 1);
    LVal four = lir_load(l, lir_ptr_add(l, ptr, at, type), lir_i64(l, 0), vector, (LVal){0}, VECTOR);
    if (in.i) {
        LVal none = lir_splat(l, gpu_zero(l, (DType)vector.dt), 4);
        lir_else(l, &f, &four);
        lir_endif(l, &f, &none, &four);
    }
    for (int i = 0; i < n; i++) {
        LVal lane = lir_extract(l, four, (uint16_t)(type == acc ? i : i / 2));
        out[i] = type == acc ? lane : as_f32(l, lane, i % 2, type);
    }
}

/* n elements of row number `index` of those this thread has of a side, from k on, or of n rows of one k. */
static void read(const Gemv *v, int side, int index, LVal k, int n, LVal *out) {
    const Side *s = &v->x.side[side];
    Lir *l = v->l;
    bool together = s->vec * gpu_bytes(&v->x) == VECTOR && n * gpu_bytes(&v->x) == VECTOR && (side == v->wide || s->along_k);
    if (s->vec && (together || n == 1)) {
        load_group(v, side, index, k, n, out);
        return;
    }
    for (int i = 0; i < n; i++) {
        if (s->vec) load_group(v, side, index, lir_addi(l, k, i), 1, &out[i]);
        else out[i] = gpu_factor(v->e, &v->x, side, v->at, v->row[side][index], lir_addi(l, k, i));
    }
}

/* Steps at k, k + stride, ..: loads of all of them, then their products. */
static void steps(const Gemv *v, LVal k, int64_t stride, int n, LVal *acc) {
    Lir *l = v->l;
    bool along = v->x.side[v->wide].along_k;
    int deep = along ? v->group : 1, loads = along ? v->width : 1;
    LVal w[MOST_AHEAD][MOST_WIDTH][MOST_GROUP], x[MOST_AHEAD][MOST_ROWS][MOST_GROUP];
    for (int u = 0; u < n; u++)
        for (int i = 0; i < loads; i++) read(v, v->wide, i, lir_addi(l, k, u * stride), v->group, w[u][i]);
    for (int u = 0; u < n; u++)
        for (int r = 0; r < v->rows; r++) read(v, v->few, r, lir_addi(l, k, u * stride), deep, x[u][r]);
    for (int u = 0; u < n; u++)
        for (int j = 0; j < deep; j++)
            for (int r = 0; r < v->rows; r++)
                for (int c = 0; c < v->width; c++) {
                    LVal *sum = &acc[r * v->width + c], b = along ? w[u][c][j] : w[u][0][c];
                    *sum = dt_is_float(v->x.s->acc[0]) ? lir_fma(l, x[u][r][j], b, *sum) : lir_add(l, *sum, lir_mul(l, x[u][r][j], b));
                }
}

static LVal byte_value(Emit *e, void *data, const Expr *at, const Point *p) {
    const Gemv *v = data;
    Lir *l = e->l;
    LVal word = lir_extract(l, v->words, (uint16_t)(v->byte / 4)), low = lir_shru(l, word, lir_int(l, DT_I32, v->byte % 4 * 8));
    (void)at, (void)p;
    return lir_cast(l, lir_op2(l, S_AND, low, lir_int(l, DT_I32, 255)), reg_type((DType)v->bytes.load.dtype));
}

/* A factor, or a part of it, at a point, in the type of sums. */
static LVal factor_at(Emit *e, const GpuProduct *x, Expr factor, const Point *p) {
    emit_memo_reset(e);
    return reg_cast(e, emit_expr(e, x->s, factor, p), expr_info(e->c, factor)->dtype, x->s->acc[0]);
}

/* Do the elements of the few side that meet a group of bytes lie side by side, from a multiple of 16 bytes on? */
static bool few_together(const Gemv *v) {
    const GpuProduct *x = &v->x;
    const Side *s = &x->side[v->few];
    const Bytes *b = &v->bytes;
    Ctx *c = v->e->c;
    int inner = x->red[x->nred - 1], four = VECTOR / 4;
    if (!s->vec || s->type != DT_F32 || expr_info(c, s->x)->kind != E_LOAD || x->k->buf[s->buf].align % VECTOR ||
        !multiple(c, s->f[0].rest, four))
        return false;
    bool ok = dim_is(c, s->f[0].coef[inner], b->nparts) && (b->part < 0 || dim_is(c, s->f[0].coef[b->part], 1));
    for (int a = 0; a < x->s->naxis; a++) ok = ok && (a == inner || a == b->part || !s->f[0].has[a] || dim_divisible(c, s->f[0].coef[a], four));
    return ok;
}

/* Elements of row number r that meet those from `first` on of the group: four, or as many for each weight of a byte. */
static void load_few(const Gemv *v, int r, const Point *p, bool together, LVal first, int j, LVal *out) {
    Emit *e = v->e;
    Lir *l = v->l;
    const GpuProduct *x = &v->x;
    const Side *s = &x->side[v->few];
    const Bytes *b = &v->bytes;
    Point at = *p;
    LVal from = v->from[v->few][r];
    for (int i = 0; i < x->nred && together; i++) from = lir_add(l, from, lir_mul(l, p->axis[x->red[i]], emit_dim(e, s->f[0].coef[x->red[i]])));
    for (int i = 0; i < 4 * b->nparts; i++) {
        if (together && i % 4) continue;
        if (together) {
            LVal ptr = lir_ptr_add(l, e->ptr[s->buf], from, DT_F32);
            LVal four = lir_load(l, ptr, lir_i64(l, j * b->nparts + i), (LTy){DT_F32, 4}, (LVal){0}, VECTOR);
            for (int q = 0; q < 4; q++) out[i + q] = lir_extract(l, four, (uint16_t)q);
            continue;
        }
        at.axis[x->red[x->nred - 1]] = lir_addi(l, first, j + i / b->nparts);
        if (b->part >= 0) at.axis[b->part] = lir_i64(l, i % b->nparts);
        out[i] = factor_at(e, x, s->x, &at);
    }
}

/* A step at k of a wide side that is computed from bytes: loads of all columns, then weights, a word of bytes at a time. */
static void byte_step(Gemv *v, LVal k, LVal *acc) {
    Emit *e = v->e;
    Lir *l = v->l;
    const GpuProduct *x = &v->x;
    const Bytes *b = &v->bytes;
    const uint32_t buf = b->load.index;
    int inner = x->red[x->nred - 1];
    LVal word[MOST_WIDTH], sum[64], f[MOST_ROWS][4 * MOST_PARTS], none;
    int64_t step;
    bool together = few_together(v);
    Point wide[MOST_WIDTH], few[MOST_ROWS], p = {.vaxis = -1, .lanes = 1};
    for (int a = 0; a < K_AXES; a++) p.axis[a] = v->at[a];
    gpu_split(e, x, k, x->red, x->nred, p.axis);
    LVal first = p.axis[inner];
    for (int c = 0; c < v->width; c++) {
        wide[c] = p;
        gpu_split(e, x, v->row[v->wide][c], x->side[v->wide].axis, x->side[v->wide].naxis, wide[c].axis);
        emit_memo_reset(e);
        LVal at = emit_address(e, x->s, (uint16_t)buf, x->k->buf[buf].rank, b->load.arg, &wide[c], &step, &none);
        word[c] = lir_load(l, lir_ptr_add(l, e->ptr[buf], at, DT_U8), lir_i64(l, 0), (LTy){DT_I32, (uint16_t)(b->n / 4)}, (LVal){0}, (uint32_t)b->n);
    }
    for (int r = 0; r < v->rows; r++) {
        few[r] = p;
        gpu_split(e, x, v->row[v->few][r], x->side[v->few].axis, x->side[v->few].naxis, few[r].axis);
    }
    for (int i = 0; i < v->rows * v->width; i++) sum[i] = b->scale.i ? gpu_zero(l, DT_F32) : acc[i];
    for (int j = 0; j < b->n; j++) {
        for (int r = 0; r < v->rows && j % 4 == 0; r++) load_few(v, r, &few[r], together, first, j, f[r]);
        e->temp[buf] = byte_value;
        e->temp_data[buf] = v;
        v->byte = j;
        for (int c = 0; c < v->width; c++)
            for (int part = 0; part < b->nparts; part++) {
                wide[c].axis[inner] = lir_addi(l, first, j);
                if (b->part >= 0) wide[c].axis[b->part] = lir_i64(l, part);
                v->words = word[c];
                LVal w = factor_at(e, x, b->x, &wide[c]);
                for (int r = 0; r < v->rows; r++) sum[r * v->width + c] = lir_fma(l, f[r][j % 4 * b->nparts + part], w, sum[r * v->width + c]);
            }
        e->temp[buf] = NULL;
    }
    for (int c = 0; c < v->width; c++) {
        LVal scale = b->scale.i ? factor_at(e, x, b->scale, &wide[c]) : (LVal){0};
        for (int r = 0; r < v->rows; r++) {
            int at = r * v->width + c;
            acc[at] = b->scale.i ? lir_fma(l, sum[at], scale, acc[at]) : sum[at];
        }
    }
    emit_memo_reset(e);
}

/* The same where the bytes are those of n columns at one k. */
static void byte_row(Gemv *v, LVal k, LVal *acc) {
    Emit *e = v->e;
    Lir *l = v->l;
    const GpuProduct *x = &v->x;
    const Side *s = &x->side[v->wide];
    const Bytes *b = &v->bytes;
    const uint32_t buf = b->load.index;
    int inner = s->axis[s->naxis - 1];
    LVal f[MOST_ROWS], none;
    int64_t step;
    Point p = {.vaxis = -1, .lanes = 1};
    for (int a = 0; a < K_AXES; a++) p.axis[a] = v->at[a];
    gpu_split(e, x, k, x->red, x->nred, p.axis);
    gpu_split(e, x, v->row[v->wide][0], s->axis, s->naxis, p.axis);
    emit_memo_reset(e);
    LVal first = p.axis[inner], at = emit_address(e, x->s, (uint16_t)buf, x->k->buf[buf].rank, b->load.arg, &p, &step, &none);
    v->words = lir_load(l, lir_ptr_add(l, e->ptr[buf], at, DT_U8), lir_i64(l, 0), (LTy){DT_I32, (uint16_t)(b->n / 4)}, (LVal){0}, (uint32_t)b->n);
    for (int r = 0; r < v->rows; r++) read(v, v->few, r, k, 1, &f[r]);
    e->temp[buf] = byte_value;
    e->temp_data[buf] = v;
    for (v->byte = 0; v->byte < b->n; v->byte++) {
        p.axis[inner] = lir_addi(l, first, v->byte);
        LVal w = factor_at(e, x, b->x, &p);
        for (int r = 0; r < v->rows; r++) acc[r * v->width + v->byte] = lir_fma(l, f[r], w, acc[r * v->width + v->byte]);
    }
    e->temp[buf] = NULL;
    emit_memo_reset(e);
}

/* This thread's chain: several steps at a time, then one by one. */
static void walk(Gemv *v, LVal *acc) {
    Lir *l = v->l;
    uint32_t n = (uint32_t)(v->rows * v->width);
    int deep = v->bytes.n ? v->bytes.across ? 1 : v->bytes.n : v->x.side[v->wide].along_k ? v->group : 1;
    int ahead = v->bytes.n ? 1 : v->rows <= 2 ? MOST_AHEAD : v->rows <= 4 ? 2 : 1;
    int64_t stride = (int64_t)deep * v->chains, many = stride * ahead;
    LVal from = lir_muli(l, v->chain, deep), next[64], zero = lir_i64(l, 0);
    if (ahead > 1) {
        LVal end = lir_addi(l, v->ksize, stride - many), left = lir_op2(l, S_MAX, lir_sub(l, end, from), zero);
        LFor f = lir_for(l, from, end, lir_i64(l, many), n, acc);
        memcpy(next, f.c, n * sizeof *next);
        steps(v, f.iv, stride, ahead, next);
        lir_for_end(l, &f, next, acc);
        from = lir_add(l, from, lir_muli(l, lir_op2(l, S_DIV, lir_addi(l, left, many - 1), lir_i64(l, many)), many));
    }
    LFor f = lir_for(l, from, v->ksize, lir_i64(l, stride), n, acc);
    memcpy(next, f.c, n * sizeof *next);
    if (v->bytes.n) (v->bytes.across ? byte_row : byte_step)(v, f.iv, next);
    else steps(v, f.iv, stride, 1, next);
    lir_for_end(l, &f, next, acc);
}

/* Do threads of a warp share k? */
static bool along_k(const Gemv *v) { return v->bytes.n ? !v->bytes.across : v->x.side[v->wide].along_k; }

/* A row in range for each this thread reads, and where it begins. */
static void begin(Gemv *v, LVal count[2]) {
    Lir *l = v->l;
    int loads = along_k(v) ? v->width : 1;
    for (int side = 0; side < 2; side++) {
        const Side *s = &v->x.side[side];
        LVal top = lir_addi(l, count[side], -1), base = s->vec ? gpu_base(v->e, &v->x, side, 0, v->at) : lir_i64(l, 0);
        if (side == v->wide && v->group > 1 && loads == 1 && !s->along_k) top = lir_addi(l, top, 1 - v->group);
        for (int i = 0; i < (side == v->few ? v->rows : loads); i++) {
            LVal row = lir_op2(l, S_MIN, lir_add(l, v->first[side], side == v->few ? lir_i64(l, i) : lir_addi(l, v->place, i)), top);
            v->row[side][i] = row;
            if (!s->vec) continue;
            v->from[side][i] = lir_add(l, base, gpu_walked(v->e, &s->row, 0, row));
            gpu_tested(v->e, &v->x, side, v->at, row, v->index[side][i]);
        }
    }
}

/* Chains meet in shared memory: sum (row, column) of chain c at c * rows * cols + row * cols + column. */
static void leave(Gemv *v, const LVal *acc, LVal count[2]) {
    Lir *l = v->l;
    DType type = v->x.s->acc[0];
    int sums = v->rows * v->cols;
    LTy one = {(uint8_t)type, 1};
    for (int r = 0; r < v->rows; r++)
        for (int c = 0; c < v->width; c++) {
            LVal at = lir_muli(l, v->chain, sums);
            at = lir_add(l, at, lir_addi(l, v->place, r * v->cols + c));
            lir_store(l, v->mem, at, acc[r * v->width + c], (LVal){0}, 0);
        }
    lir_barrier(l);
    LFor f = lir_for(l, v->tid, lir_i64(l, sums), lir_i64(l, THREADS), 0, NULL);
    LVal index[2], sum = lir_load(l, v->mem, f.iv, one, (LVal){0}, 0);
    index[v->few] = lir_add(l, v->first[v->few], lir_op2(l, S_DIV, f.iv, lir_i64(l, v->cols)));
    index[v->wide] = lir_add(l, v->first[v->wide], lir_op2(l, S_REM, f.iv, lir_i64(l, v->cols)));
    LVal inside = lir_op2(l, S_LT, index[0], count[0]);
    LIf in = lir_if(l, lir_op2(l, S_AND, inside, lir_op2(l, S_LT, index[1], count[1])), 0);
    LFor c = lir_for(l, lir_i64(l, 1), lir_i64(l, v->chains), lir_i64(l, 1), 1, &sum);
    LVal more = lir_load(l, v->mem, lir_add(l, f.iv, lir_muli(l, c.iv, sums)), one, (LVal){0}, 0);
    more = lir_add(l, c.c[0], more);
    lir_for_end(l, &c, &more, &sum);
    Point p = {.vaxis = -1, .lanes = 1}, par;
    for (int a = 0; a < K_AXES; a++) p.axis[a] = v->at[a];
    for (int side = 0; side < 2; side++) gpu_split(v->e, &v->x, index[side], v->x.side[side].axis, v->x.side[side].naxis, p.axis);
    emit_parallel_point(v->x.s, &p, &par);
    emit_epilogue(v->e, 0, &sum, &par);
    lir_else(l, &in, NULL);
    lir_endif(l, &in, NULL, NULL);
    lir_for_end(l, &f, NULL, NULL);
    lir_barrier(l);
}

static void gemv_build(Emit *e) {
    const int64_t *par = e->s->par;
    Gemv gemv = {.e = e, .l = e->l, .rows = (int)par[PAR_ROWS], .cols = (int)par[PAR_COLS], .chains = (int)par[PAR_CHAINS]}, *v = &gemv;
    Lir *l = e->l;
    Ctx *c = e->c;
    CHECK(shape(e->k, &v->x));
    v->few = few_side(&v->x);
    v->wide = !v->few;
    v->group = group_of(&v->x, v->wide);
    if (!in_bytes(&v->x, v->wide, &v->bytes)) v->bytes = (Bytes){0};
    if (v->bytes.across) v->group = v->bytes.n;
    bool along = along_k(v);
    v->width = along ? v->cols / (THREADS / WARP) : v->group;
    lir_block(l, THREADS, (uint32_t)(v->rows * v->cols * v->chains * 4));
    v->mem = lir_shared(l, 0);
    v->tid = lir_tid(l);
    LVal inner = lir_i64(l, along ? v->chains : v->cols / v->width), low = lir_op2(l, S_REM, v->tid, inner), high = lir_op2(l, S_DIV, v->tid, inner);
    v->chain = along ? low : high;
    v->place = lir_muli(l, along ? high : low, v->width);
    v->ksize = emit_dim(e, gpu_depth(&v->x));
    Dim tiles[2], tasks = gpu_batches(&v->x);
    LVal count[2];
    for (int side = 0; side < 2; side++) {
        count[side] = emit_dim(e, gpu_rows(&v->x, side));
        tiles[side] = dim_ceildiv(c, gpu_rows(&v->x, side), dim_const(c, side == v->few ? v->rows : v->cols));
        tasks = dim_mul(c, tasks, tiles[side]);
    }
    e->code->tasks = tasks;
    LFor t = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    LVal rest = t.iv, acc[64];
    for (int i = 0; i < 2; i++) { /* blocks that run together read the same columns */
        int side = i ? v->wide : v->few;
        LVal n = emit_dim(e, tiles[side]);
        v->first[side] = lir_muli(l, lir_op2(l, S_REM, rest, n), i ? v->cols : v->rows);
        rest = lir_op2(l, S_DIV, rest, n);
    }
    for (int a = 0; a < K_AXES; a++) v->at[a] = lir_i64(l, 0);
    gpu_split(e, &v->x, rest, v->x.batch, v->x.nbatch, v->at);
    begin(v, count);
    for (int i = 0; i < v->rows * v->width; i++) acc[i] = gpu_zero(l, v->x.s->acc[0]);
    walk(v, acc);
    leave(v, acc, count);
    lir_for_end(l, &t, NULL, NULL);
}

const Tmpl tmpl_gemv = {"gemv", "rows cols chains", F_BLOCKS, gemv_match, gemv_candidates, gemv_cost, gemv_build};
