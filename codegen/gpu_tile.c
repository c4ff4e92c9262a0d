/* gpu_tile.c: tiles of a contraction's operands in shared memory, the loop over k, and the way of the results (gpu_tile.h). */
#include "gpu_tile.h"

#include <string.h>

enum { WARP = 32, WORD = 4, CHUNK = 16 /* bytes: of a copy, and of what swizzles move */, SUM_PAD = 4 /* sums between lines, for the banks */ };

static int esize(const GpuTiles *g) { return gpu_bytes(&g->x); }
static int vec_of(const GpuTiles *g, int side) { return g->x.side[side].vec ? g->x.side[side].vec : 1; }
static LVal clamp(Lir *l, LVal v, LVal top) { return lir_op2(l, S_MAX, lir_op2(l, S_MIN, v, top), lir_i64(l, 0)); }

/* ---- tiles in shared memory ---- */

static int64_t line_bytes(const GpuTiles *g, int side) { return (g->x.side[side].along_k ? g->depth : g->rows[side]) * (int64_t)esize(g); }

/* What chunks of line `line` are permuted by: exclusive or with this. */
static LVal swizzle(const GpuTiles *g, int side, LVal line) {
    Lir *l = g->l;
    int64_t chunks = line_bytes(g, side) / CHUNK;
    if (chunks >= 8) return lir_op2(l, S_AND, line, lir_i64(l, 7));
    return lir_op2(l, S_AND, lir_divi(l, line, 8 / chunks), lir_i64(l, chunks - 1)); /* several lines in 128 bytes */
}

LVal gpu_tile_at(const GpuTiles *g, int side, LVal row, LVal k) {
    Lir *l = g->l;
    bool along_k = g->x.side[side].along_k;
    LVal line = along_k ? row : k, at = lir_muli(l, along_k ? k : row, esize(g)), start = lir_muli(l, line, line_bytes(g, side));
    if (g->swizzle[side]) {
        LVal in = lir_remi(l, at, CHUNK), chunk = lir_divi(l, at, CHUNK);
        chunk = lir_op2(l, S_XOR, chunk, swizzle(g, side, line));
        at = lir_add(l, lir_muli(l, chunk, CHUNK), in);
    }
    return lir_add(l, lir_addi(l, start, g->base[side]), at);
}

/* Those of matrix instructions lie in threads as pairs of columns of eight rows: the banks of four rows differ by an exclusive or, those of eight
 * columns by what is between them. */
LVal gpu_sum_at(const GpuTiles *g, LVal row, LVal col) {
    Lir *l = g->l;
    if (!g->x.near) return lir_add(l, lir_muli(l, col, g->rows[0] + SUM_PAD), row);
    LVal move = lir_muli(l, lir_op2(l, S_AND, row, lir_i64(l, 3)), 8);
    LVal line = lir_muli(l, row, g->rows[1]);
    return lir_add(l, line, lir_op2(l, S_XOR, col, move));
}

int64_t gpu_tiles_bytes(const int rows[2], int size, int depth, int stages) {
    int64_t slots = (int64_t)stages * (rows[0] + rows[1]) * depth * size, least = rows[0] < rows[1] ? rows[0] : rows[1];
    int64_t sums = ((int64_t)rows[0] * rows[1] + (least == rows[0] ? rows[1] : rows[0]) * (int64_t)SUM_PAD) * 4;
    return slots > sums ? slots : sums;
}

/* ---- copies of a thread ---- */

/* Integers of 8 bits, or of 32, out of range. */
static LVal pad_word(GpuTiles *g, Expr pad) {
    Lir *l = g->l;
    Point p = {.vaxis = -1, .lanes = 1};
    emit_memo_reset(g->e);
    LVal v = emit_expr(g->e, g->x.s, pad, &p);
    return esize(g) == WORD ? v : lir_mul(l, lir_cast(l, lir_bitcast(l, v, DT_U8), DT_I32), lir_int(l, DT_I32, 0x01010101));
}

/* This thread's places in lines, its lines, and all about its rows that does not change along k. Lines of rows are shared by at most a warp, so
 * that a thread has few k, whose addresses may need divisions. */
void gpu_begin_side(GpuTiles *g, int side) {
    Lir *l = g->l;
    const Side *s = &g->x.side[side];
    GpuCopies *c = &g->copy[side];
    c->word = s->vec || esize(g) >= WORD ? 1 : WORD / esize(g);
    int vec = vec_of(g, side), groups = s->near_k ? g->depth / vec / c->word : g->rows[side] / vec;
    int sharers = s->near_k || groups < WARP ? groups : WARP;
    CHECK(g->threads % sharers == 0 && groups % sharers == 0);
    c->step = g->threads / sharers;
    c->lines = (s->near_k ? g->rows[side] : g->depth / c->word) / (int)c->step;
    c->places = groups / sharers;
    CHECK(c->lines >= 1 && c->lines * c->places <= GPU_MOST_COPIES && (!s->near_k || c->places == 1));
    c->line = lir_divi(l, g->tid, sharers);
    for (int j = 0; j < c->places; j++)
        c->place[j] = lir_muli(l, lir_addi(l, lir_remi(l, g->tid, sharers), j * sharers), s->near_k ? vec * c->word : vec);
    LVal base = s->vec ? gpu_base(g->e, &g->x, side, 0, g->at) : lir_i64(l, 0);
    if (s->vec && s->pad.i) c->pad = pad_word(g, s->pad);
    for (int i = 0; i < (s->near_k ? c->lines : c->places); i++) {
        LVal row = lir_add(l, g->first[side], s->near_k ? lir_addi(l, c->line, i * c->step) : c->place[i]), left = lir_sub(l, g->count[side], row);
        LVal in = lir_op2(l, S_GT, left, lir_i64(l, 0));
        c->row[i] = lir_op3(l, S_SELECT, in, row, lir_i64(l, 0));
        c->valid[i] = s->near_k ? in : lir_muli(l, clamp(l, left, lir_i64(l, vec)), esize(g));
        if (!s->vec) continue;
        c->offset[i] = lir_muli(l, lir_add(l, base, gpu_walked(g->e, &s->row, 0, c->row[i])), esize(g));
        gpu_tested(g->e, &g->x, side, g->at, c->row[i], c->index[i]);
    }
}

/* Element k of a row, made an element of the tile; 0 if k is beyond the end, or the row is not `in` range. */
static LVal value_at(GpuTiles *g, int side, LVal row, LVal in, LVal k) {
    Lir *l = g->l;
    DType acc = g->x.s->acc[0], type = g->x.side[side].type;
    LVal v = gpu_factor(g->e, &g->x, side, g->at, row, lir_op2(l, S_MIN, k, lir_addi(l, g->ksize, -1)));
    v = lir_op3(l, S_SELECT, lir_op2(l, S_AND, in, lir_op2(l, S_LT, k, g->ksize)), v, gpu_zero(l, acc));
    return type == acc ? v : dt_is_float(type) ? math_cast(l, g->e->t, v, acc, type) : lir_cast(l, v, type);
}

/* n elements from k on, as one element or as a word. */
static LVal word_at(GpuTiles *g, int side, LVal row, LVal in, LVal k, int n) {
    Lir *l = g->l;
    LVal word = {0};
    if (n == 1) return value_at(g, side, row, in, k);
    for (int i = 0; i < n; i++) {
        LVal v = value_at(g, side, row, in, lir_addi(l, k, i));
        DType bits = n == 2 ? DT_U16 : DT_U8;
        v = lir_cast(l, lir_type(l, v).dt == bits ? v : lir_bitcast(l, v, bits), DT_I32);
        word = i ? lir_op2(l, S_OR, word, lir_op2(l, S_SHL, v, lir_int(l, DT_I32, 32 / n * i))) : v;
    }
    return word;
}

/* Row and k, in the tile, of the j-th place of the i-th line. */
typedef struct Spot {
    int index; /* of what is known of the row */
    LVal row, k;
} Spot;
static Spot spot(const GpuTiles *g, int side, int i, int j) {
    const GpuCopies *c = &g->copy[side];
    LVal line = lir_addi(g->l, c->line, i * c->step);
    return g->x.side[side].near_k ? (Spot){i, line, c->place[j]} : (Spot){j, c->place[j], lir_muli(g->l, line, c->word)};
}

/* A copy that is `pad`, which is not 0, where it is not `in` range. */
static void copy_or_pad(GpuTiles *g, int side, LVal in, LVal to, LVal from, LVal valid, int bytes) {
    Lir *l = g->l;
    LIf f = lir_if(l, in, 0);
    lir_copy_async(l, g->mem, to, g->e->ptr[g->x.side[side].buf], from, valid, (uint32_t)bytes);
    lir_else(l, &f, NULL);
    LVal words = lir_splat(l, g->copy[side].pad, (uint16_t)(bytes / WORD));
    lir_store(l, lir_ptr_bytes(l, g->mem, to), lir_i64(l, 0), words, (LVal){0}, (uint32_t)bytes);
    lir_endif(l, &f, NULL, NULL);
}

void gpu_fetch(GpuTiles *g, int side, LVal k0, LVal slot, LVal *v) {
    Lir *l = g->l;
    const Side *s = &g->x.side[side];
    const GpuCopies *c = &g->copy[side];
    int vec = vec_of(g, side), size = esize(g);
    LVal zero = lir_i64(l, 0);
    for (int i = 0; i < c->lines; i++)
        for (int j = 0; j < c->places; j++) {
            Spot p = spot(g, side, i, j);
            LVal k = lir_add(l, k0, p.k), valid = c->valid[p.index];
            if (!s->vec) {
                v[i * c->places + j] = word_at(g, side, c->row[p.index], s->near_k ? valid : lir_op2(l, S_GT, valid, zero), k, c->word);
                continue;
            }
            LVal left = lir_muli(l, clamp(l, lir_sub(l, g->ksize, k), lir_i64(l, vec)), size);
            valid = s->near_k ? lir_op3(l, S_SELECT, valid, left, zero) : lir_op3(l, S_SELECT, lir_op2(l, S_LT, k, g->ksize), valid, zero);
            LVal from = lir_add(l, c->offset[p.index], lir_muli(l, gpu_walked(g->e, &s->k, 0, k), size));
            LVal to = lir_add(l, slot, gpu_tile_at(g, side, p.row, p.k)), in = gpu_in_range(g->e, s, c->index[p.index], k);
            if (s->pad.i) {
                copy_or_pad(g, side, in, to, from, valid, vec * size);
                continue;
            }
            if (s->ntest) valid = lir_op3(l, S_SELECT, in, valid, zero);
            lir_copy_async(l, g->mem, to, g->e->ptr[s->buf], from, valid, (uint32_t)(vec * size));
        }
}

void gpu_put(GpuTiles *g, int side, LVal slot, const LVal *v) {
    Lir *l = g->l;
    const GpuCopies *c = &g->copy[side];
    if (g->x.side[side].vec) return;
    for (int i = 0; i < c->lines; i++)
        for (int j = 0; j < c->places; j++) {
            Spot p = spot(g, side, i, j);
            LVal to = lir_ptr_bytes(l, g->mem, lir_add(l, slot, gpu_tile_at(g, side, p.row, p.k)));
            lir_store(l, to, lir_i64(l, 0), v[i * c->places + j], (LVal){0}, 0);
        }
}

/* ---- a tile of results ---- */

static bool copies(const GpuTiles *g) { return g->x.side[0].vec || g->x.side[1].vec; }

static void along_depth(GpuTiles *g, const GpuCore *core, LVal *acc) {
    Lir *l = g->l;
    Ctx *c = g->e->c;
    int ahead = g->stages - 1;
    LVal steps = emit_dim(g->e, dim_ceildiv(c, gpu_depth(&g->x), dim_const(c, g->depth))), zero = lir_i64(l, 0);
    LVal from = lir_op3(l, S_SELECT, lir_op2(l, S_GT, steps, zero), lir_i64(l, -ahead), zero);
    LFor f = lir_for(l, from, steps, lir_i64(l, 1), core->nacc, acc);
    LVal next[64], early[2][GPU_MOST_COPIES];
    if (copies(g)) lir_copy_wait(l, (uint32_t)ahead - 1);
    lir_barrier(l);
    LVal number = lir_addi(l, f.iv, ahead), slot = lir_muli(l, lir_remi(l, number, g->stages), g->slot);
    for (int side = 0; side < 2; side++) gpu_fetch(g, side, lir_muli(l, number, g->depth), slot, early[side]);
    if (copies(g)) lir_copy_commit(l);
    LIf ready = lir_if(l, lir_op2(l, S_GE, f.iv, zero), core->nacc);
    memcpy(next, f.c, core->nacc * sizeof *next);
    core->product(g, core->data, lir_muli(l, lir_remi(l, f.iv, g->stages), g->slot), next);
    lir_else(l, &ready, next);
    lir_endif(l, &ready, f.c, next);
    for (int side = 0; side < 2; side++) gpu_put(g, side, slot, early[side]);
    lir_for_end(l, &f, next, acc);
    if (copies(g)) lir_copy_wait(l, 0);
}

/* Neighbouring threads take neighbouring results, 16 bytes of them each where that is one access; each keeps its place along the near side, and
 * walks the far one. */
void gpu_leave(GpuTiles *g) {
    Emit *e = g->e;
    Lir *l = e->l;
    const Stage *s = g->x.s, *last = &g->x.k->stage[g->x.k->nstage - 1];
    int near = g->x.near, far = !near, lanes = dt_bits(g->x.k->buf[last->out[0].buf].dtype) < 32 ? 8 : 4, axis = gpu_together(&g->x, lanes);
    if (axis < 0) axis = gpu_together(&g->x, lanes = 4);
    if (axis < 0) lanes = 1;
    int wide = g->rows[near] / lanes;
    CHECK(g->threads % wide == 0 || wide % g->threads == 0);
    int strip = wide < g->threads ? wide : g->threads, lines = g->threads / strip;
    LVal start = lir_muli(l, lir_remi(l, g->tid, strip), lanes);
    LFor across = lir_for(l, start, lir_i64(l, g->rows[near]), lir_i64(l, (int64_t)strip * lanes), 0, NULL);
    LVal n = lir_add(l, g->first[near], across.iv);
    LIf inside = lir_if(l, lir_op2(l, S_LT, n, g->count[near]), 0);
    Point p = {.vaxis = (int8_t)axis, .lanes = (uint16_t)lanes}, q, par;
    for (int a = 0; a < K_AXES; a++) p.axis[a] = g->at[a];
    gpu_split(g->e, &g->x, n, g->x.side[near].axis, g->x.side[near].naxis, p.axis);
    LVal end = lir_op2(l, S_MIN, lir_sub(l, g->count[far], g->first[far]), lir_i64(l, g->rows[far]));
    LFor down = lir_for(l, lir_divi(l, g->tid, strip), end, lir_i64(l, lines), 0, NULL);
    q = p;
    gpu_split(g->e, &g->x, lir_add(l, g->first[far], down.iv), g->x.side[far].axis, g->x.side[far].naxis, q.axis);
    LVal at = near ? gpu_sum_at(g, down.iv, across.iv) : gpu_sum_at(g, across.iv, down.iv);
    LVal sum = lir_load(l, g->mem, at, (LTy){(uint8_t)s->acc[0], (uint16_t)lanes}, (LVal){0}, axis < 0 ? 0 : CHUNK);
    emit_parallel_point(s, &q, &par);
    if (axis >= 0) e->aligned = (uint8_t)lanes, e->aligned_axis = (uint8_t)axis;
    emit_epilogue(e, 0, &sum, &par);
    e->aligned = 0;
    lir_for_end(l, &down, NULL, NULL);
    lir_else(l, &inside, NULL);
    lir_endif(l, &inside, NULL, NULL);
    lir_for_end(l, &across, NULL, NULL);
}

void gpu_tiles_build(GpuTiles *g, const GpuCore *core) {
    Emit *e = g->e;
    Lir *l = g->l = e->l;
    Ctx *c = e->c;
    Dim tiles[2], tasks = gpu_batches(&g->x);
    g->base[1] = (int64_t)g->rows[0] * g->depth * esize(g);
    g->slot = g->base[1] + (int64_t)g->rows[1] * g->depth * esize(g);
    lir_block(l, (uint32_t)g->threads, (uint32_t)gpu_tiles_bytes(g->rows, esize(g), g->depth, g->stages));
    g->mem = lir_shared(l, 0);
    g->tid = lir_tid(l);
    g->ksize = emit_dim(e, gpu_depth(&g->x));
    for (int side = 0; side < 2; side++) {
        Dim n = gpu_rows(&g->x, side);
        g->count[side] = emit_dim(e, n);
        tiles[side] = dim_ceildiv(c, n, dim_const(c, g->rows[side]));
        tasks = dim_mul(c, tasks, tiles[side]);
    }
    e->code->tasks = tasks;
    core->prepare(g, core->data);
    DType type = g->x.s->acc[0];
    LVal zero = lir_splat(l, gpu_zero(l, type), (uint16_t)core->lanes);
    LFor t = lir_for_tasks(l, lir_tstep(l), 0, NULL);
    LVal rest = t.iv, acc[64];
    for (int side = 0; side < 2; side++) { /* blocks that run together share rows of side 1 */
        LVal n = emit_dim(e, tiles[side]);
        g->first[side] = lir_muli(l, lir_op2(l, S_REM, rest, n), g->rows[side]);
        rest = lir_op2(l, S_DIV, rest, n);
    }
    for (int a = 0; a < K_AXES; a++) g->at[a] = lir_i64(l, 0);
    gpu_split(g->e, &g->x, rest, g->x.batch, g->x.nbatch, g->at);
    for (int side = 0; side < 2; side++) gpu_begin_side(g, side);
    for (uint32_t i = 0; i < core->nacc; i++) acc[i] = zero;
    along_depth(g, core, acc);
    lir_barrier(l);
    core->sums(g, core->data, acc);
    lir_barrier(l);
    gpu_leave(g);
    lir_barrier(l);
    lir_for_end(l, &t, NULL, NULL);
}
