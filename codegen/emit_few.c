/* emit_few.c: a vector whose lanes read few places. In: an access that is no constant step along the vector axis; out: its lanes, from one load and a
 * permutation of it, where a gather would go to memory for every lane:
 * - a row of no more elements than lanes, whatever the index (the columns of a tile that is repeated);
 * - the quotient of the axis by a constant (pixels shown several times);
 * - rows that take turns, elements of one at its quotient, the row at its remainder (images that are put together of their phases);
 * - with e->near, elements that the run finds within a register of each other (rows that are resized or reflected), or else it gathers.
 * Where gathers are no faster than loads of the lanes, and many rows share the places, these are in scalars before the rows. */
#include "emit_value.h"

/* The only dim of b whose index differs between lanes, if its elements are neighbours; else -1. */
static int lane_dim(const Emit *e, const KBuf *b, const Expr *at, int vaxis) {
    int found = -1;
    for (int d = 0; d < b->rank; d++) {
        if (dim_is(e->c, b->stride[d], 0) || !expr_uses_axis(e->c, at[d], (uint32_t)vaxis)) continue;
        if (found >= 0 || !dim_is(e->c, b->stride[d], 1)) return -1;
        found = d;
    }
    return found;
}

/* k of axis / k, 2 or more; else 0. */
static int64_t quotient_by(const Emit *e, Expr x, int axis) {
    const ExprInfo *i = expr_info(e->c, x);
    if (i->kind != E_OP || (i->op != S_FDIV && i->op != S_DIV) || i->arg[0].i != expr_axis(e->c, (uint32_t)axis).i) return 0;
    const ExprInfo *by = expr_info(e->c, i->arg[1]);
    return by->kind == E_CONST && by->val.i >= 2 && by->val.i <= INT32_MAX ? by->val.i : 0;
}

typedef struct Row { LVal ptr, at; DType type; uint16_t lanes; } Row; /* a row from element `at` on, and the lanes of a register */

/* table[which] for the first `count` elements from `first` on */
static LVal look_up(Emit *e, const Row *r, LVal first, LVal count, LVal which) {
    Lir *l = e->l;
    LVal at = lir_add(l, r->at, first);
    LVal v = lir_load(l, r->ptr, at, (LTy){(uint8_t)r->type, r->lanes}, lir_mask(l, count, r->lanes), 0);
    if (r->type == DT_F32) return lir_permute_var(l, v, which);
    return lir_bitcast(l, lir_permute_var(l, lir_bitcast(l, v, DT_F32), which), r->type);
}

/* Elements x / by of the row, for x from `from` on, all below `end`. */
static LVal quotients(Emit *e, const Row *r, LVal from, LVal end, int64_t by) {
    Lir *l = e->l;
    LVal k = lir_i64(l, by), first = lir_op2(l, S_DIV, from, k), past = lir_op2(l, S_MIN, lir_addi(l, from, r->lanes), end);
    LVal count = lir_addi(l, lir_sub(l, lir_op2(l, S_DIV, lir_addi(l, past, -1), k), first), 1);
    LVal skip = lir_cast(l, lir_sub(l, from, lir_mul(l, first, k)), DT_U32);
    LVal which = lir_add(l, lir_splat(l, skip, r->lanes), lir_iota(l, DT_U32, r->lanes));
    which = lir_op2(l, S_DIV, which, lir_splat(l, lir_int(l, DT_U32, by), r->lanes));
    return look_up(e, r, first, count, lir_bitcast(l, which, DT_I32));
}

/* ---- rows that take turns ---- */

/* Elements axis / by of row axis % by; the places of `row` in terms of axis / by. beside: an axis that nobody has, instead of others' */
typedef struct Turns { int axis, beside; int64_t by, row; bool ok; } Turns;

static Expr in_row(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    Turns *t = data;
    if (i->kind == E_AXIS && (int)i->index == t->axis) return expr_axis(c, (uint32_t)t->beside);
    if (i->kind != E_OP || (i->op != S_FDIV && i->op != S_MOD) || i->arg[0].i != expr_axis(c, (uint32_t)t->axis).i)
        return i->narg ? expr_rebuild(c, i, arg) : e;
    const ExprInfo *by = expr_info(c, i->arg[1]);
    if (by->kind != E_CONST || (t->by && by->val.i != t->by)) return t->ok = false, e;
    t->by = by->val.i;
    return i->op == S_MOD ? expr_int(c, DT_I64, t->row) : expr_axis(c, (uint32_t)t->axis);
}

/* Address of the row's element 0, if its elements are neighbours; else none. */
static LVal row_of(Emit *e, const Stage *s, uint16_t buf, const Expr *at, const Point *p, Turns *t) {
    const KBuf *b = &e->k->buf[buf];
    Expr row[MAX_RANK];
    Point first = *p;
    int64_t step;
    LVal vec;
    for (int d = 0; d < b->rank; d++) {
        row[d] = expr_rewrite(e->c, at[d], in_row, t);
        if (!t->ok || expr_uses_axis(e->c, row[d], (uint32_t)t->beside)) return (LVal){0};
    }
    first.axis[p->vaxis] = lir_i64(e->l, 0);
    emit_memo_reset(e); /* what is known is of p */
    LVal from = emit_address(e, s, buf, b->rank, row, &first, &step, &vec);
    emit_memo_reset(e);
    return t->by && step == 1 && !vec.i ? from : (LVal){0};
}

enum { MOST_ROWS = 4 /* of more, a gather is no worse */ };

/* A whole vector that begins with an element of row 0: neighbours of each row, interleaved. */
static LVal whole_turns(Emit *e, const Row *row, int rows, LVal first, uint16_t lanes) {
    LVal part[MOST_ROWS];
    LTy few = {(uint8_t)row->type, (uint16_t)(lanes / rows)};
    for (int i = 0; i < rows; i++) part[i] = lir_load(e->l, row[i].ptr, lir_add(e->l, row[i].at, first), few, (LVal){0}, 0);
    for (int n = rows / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++) {
            const int16_t len = (int16_t)reg_lanes(e, part[i]);
            int16_t idx[64];
            for (int16_t k = 0; k < len; k++) idx[2 * k] = k, idx[2 * k + 1] = (int16_t)(len + k);
            part[i] = lir_shuffle(e->l, part[i], part[i + n], (uint16_t)(2 * len), idx);
        }
    return part[0];
}

/* Any lanes of one register from element `from` of the turns on, all below `end`. */
static LVal some_turns(Emit *e, const Row *row, int rows, LVal from, LVal end) {
    Lir *l = e->l;
    const uint16_t lanes = row->lanes;
    LVal v = {0}, skip = lir_cast(l, lir_op2(l, S_REM, from, lir_i64(l, rows)), DT_U32);
    LVal which = lir_add(l, lir_splat(l, skip, lanes), lir_iota(l, DT_U32, lanes));
    which = lir_op2(l, S_REM, which, lir_splat(l, lir_int(l, DT_U32, rows), lanes));
    for (int i = 0; i < rows; i++) {
        LVal part = quotients(e, &row[i], from, lir_addi(l, end, -i), rows); /* what lies behind is not this row's */
        LVal here = lir_op2(l, S_EQ, which, lir_splat(l, lir_int(l, DT_U32, i), lanes));
        v = i ? lir_op3(l, S_SELECT, here, part, v) : part;
    }
    return v;
}

static LVal take_turns(Emit *e, const Stage *s, uint16_t buf, const Expr *at, const Point *p, Row r) {
    Lir *l = e->l;
    Row row[MOST_ROWS] = {r};
    Turns t = {.axis = p->vaxis, .beside = K_AXES, .ok = true};
    row->at = row_of(e, s, buf, at, p, &t);
    if (!row->at.i || t.by < 2 || t.by > MOST_ROWS || dim_lo(e->c, s->axis[p->vaxis].extent) < t.by) return (LVal){0};
    const int rows = (int)t.by;
    for (t.row = 1; t.row < rows; t.row++) {
        row[t.row] = r;
        row[t.row].at = row_of(e, s, buf, at, p, &t);
    }
    LVal from = p->axis[p->vaxis], end = emit_dim(e, s->axis[p->vaxis].extent), v = {0}, part[2] = {{0}};
    LIf whole = {0};
    if (rows != 3) {
        LVal begins = lir_op2(l, S_EQ, lir_op2(l, S_AND, from, lir_i64(l, rows - 1)), lir_i64(l, 0));
        LVal fits = lir_op2(l, S_LE, lir_addi(l, from, p->lanes), end);
        whole = lir_if(l, lir_op2(l, S_AND, begins, fits), 1);
        v = whole_turns(e, row, rows, lir_op2(l, S_DIV, from, lir_i64(l, rows)), p->lanes);
        lir_else(l, &whole, &v);
    }
    int16_t lane[64];
    for (int i = 0; i < p->lanes; i++) lane[i] = (int16_t)i;
    for (int h = 0; h < p->lanes / r.lanes; h++) part[h] = some_turns(e, row, rows, lir_addi(l, from, h * r.lanes), end);
    LVal some = p->lanes > r.lanes ? lir_shuffle(l, part[0], part[1], p->lanes, lane) : part[0];
    if (rows != 3) lir_endif(l, &whole, &some, &v);
    return rows != 3 ? v : some;
}

/* ---- near each other, as it turns out ---- */

static DType moved_type(DType t) { return dt_bits(t) == 8 ? DT_U8 : dt_bits(t) == 16 ? DT_U16 : DT_F32; }

/* Lanes of the vector from that one on, as many as a register has; those beyond its end are the first of them. */
static LVal part_of(Emit *e, LVal v, int from, uint16_t lanes) {
    int16_t idx[64];
    const int n = reg_lanes(e, v);
    for (int i = 0; i < lanes; i++) idx[i] = (int16_t)(from + i < n ? from + i : from);
    return lanes == n ? v : lir_shuffle(e->l, v, v, lanes, idx);
}

Near emit_near(Emit *e, const Stage *s, uint16_t buf, const Expr *at, LVal ok, const Point *p) {
    const KBuf *b = &e->k->buf[buf];
    const unsigned bits = dt_bits(b->dtype);
    const bool types = b->dtype != DT_BOOL && (bits == 32 || (e->t->flags & F_AVX512 && (bits == 8 || bits == 16)));
    Lir *l = e->l;
    Near n = {.dim = -1};
    if (!e->near || p->vaxis < 0 || !types || !(e->t->flags & F_AVX2) || (n.dim = lane_dim(e, b, at, p->vaxis)) < 0) return n;
    n.lanes = (uint16_t)(e->t->vbytes * 8u / bits);
    const int parts = (p->lanes + n.lanes - 1) / n.lanes;
    if (parts > NEAR_PARTS || p->lanes > 64 || p->lanes < 4 || (p->lanes > n.lanes && p->lanes % n.lanes)) return n;
    const bool low = dim_hi(e->c, b->dim[n.dim]) <= INT32_MAX || emit_fits_i32(e, s, at[n.dim]);
    n.which = low ? emit_as_i32(e, emit_low(e, s, at[n.dim], p)) : emit_expr(e, s, at[n.dim], p);
    if (reg_lanes(e, n.which) != p->lanes) return n;
    const bool whole = dim_lo(e->c, b->dim[n.dim]) >= n.lanes; /* then what is read lies in the row */
    LVal known = p->mask.i ? lir_op3(l, S_SELECT, p->mask, n.which, lir_splat(l, lir_extract(l, n.which, 0), p->lanes)) : n.which;
    for (int i = 0; i < parts; i++) {
        LVal x = part_of(e, known, i * n.lanes, n.lanes);
        n.first[i] = lir_hreduce(l, S_MIN, x);
        if (whole) {
            LVal last = lir_cast(l, lir_addi(l, emit_dim(e, b->dim[n.dim]), -n.lanes), low ? DT_I32 : DT_I64);
            n.first[i] = lir_op2(l, S_MIN, n.first[i], last);
        }
        n.from_first[i] = lir_sub(l, x, lir_splat(l, n.first[i], n.lanes));
        LVal far = lir_any(l, lir_op1(l, S_NOT, lir_ltu(l, n.from_first[i], lir_splat(l, lir_int(l, low ? DT_I32 : DT_I64, n.lanes), n.lanes))));
        LVal near = lir_op1(l, S_NOT, far);
        n.all = n.all.i ? lir_op2(l, S_AND, n.all, near) : near;
        n.first[i] = lir_cast(l, n.first[i], DT_I64);
        if (!whole) n.mask[i] = lir_mask(l, lir_sub(l, emit_dim(e, b->dim[n.dim]), n.first[i]), n.lanes);
        n.from_first[i] = lir_cast(l, n.from_first[i], bits < 32 ? moved_type(b->dtype) : DT_I32);
    }
    if (ok.i) n.all = lir_op2(l, S_AND, n.all, ok);
    n.parts = parts;
    n.type = moved_type(b->dtype);
    return n;
}

/* The lanes, if all are near; else they are gathered. */
static LVal load_near(Emit *e, const KBuf *b, const Near *n, LVal ptr, LVal row, LVal ok, const Point *p) {
    Lir *l = e->l;
    const DType mt = reg_mem_type(b->dtype);
    LVal part[NEAR_PARTS], v;
    LIf near = lir_if(l, n->all, 1);
    for (int i = 0; i < n->parts; i++) {
        LVal x = lir_load(l, ptr, lir_add(l, row, n->first[i]), (LTy){(uint8_t)mt, n->lanes}, n->mask[i], 0);
        if (mt != n->type) x = lir_bitcast(l, x, n->type);
        part[i] = lir_permute_var(l, x, n->from_first[i]);
    }
    for (int count = n->parts; count > 1; count /= 2)
        for (int i = 0; i < count / 2; i++) {
            int16_t both[64];
            const uint16_t lanes = (uint16_t)(2 * reg_lanes(e, part[2 * i]));
            for (int k = 0; k < lanes; k++) both[k] = (int16_t)k;
            part[i] = lir_shuffle(l, part[2 * i], part[2 * i + 1], lanes, both);
        }
    v = part_of(e, part[0], 0, p->lanes);
    if (mt != n->type) v = lir_bitcast(l, v, mt);
    lir_else(l, &near, &v);
    LVal mask = p->mask;
    if (ok.i) mask = mask.i ? lir_op2(l, S_AND, reg_widen(e, ok, p->lanes), mask) : reg_widen(e, ok, p->lanes);
    LVal far = lir_gather(l, lir_ptr_add(l, ptr, row, mt), n->which, mt, mask);
    lir_endif(l, &near, &far, &v);
    return reg_from_memory(e, v, b->dtype);
}

LVal emit_few(Emit *e, const Stage *s, uint16_t buf, const Expr *at, LVal ok, const Point *p) {
    enum { MOST = 16 };
    const KBuf *b = &e->k->buf[buf];
    const int rank = b->rank, d = lane_dim(e, b, at, p->vaxis);
    Lir *l = e->l;
    Row r = {.ptr = e->ptr[buf], .type = b->dtype, .lanes = e->t->vbytes / 4};
    const int halves = p->lanes / r.lanes; /* of a vector of two registers, or one */
    const Near near = emit_near(e, s, buf, at, ok, p);
    Expr row[MAX_RANK];
    int64_t step;
    LVal vec, part[2], which = {0};
    for (int i = 0; i < rank; i++) row[i] = i == d ? expr_int(e->c, DT_I64, 0) : at[i];
    if (near.parts) {
        r.at = emit_address(e, s, buf, rank, row, p, &step, &vec);
        return load_near(e, b, &near, r.ptr, r.at, ok, p);
    }
    if (ok.i || (r.type != DT_F32 && r.type != DT_I32) || !(e->t->flags & F_AVX2) || p->lanes % r.lanes || halves > 2) return (LVal){0};
    if (d < 0) return take_turns(e, s, buf, at, p, r);
    const int64_t by = quotient_by(e, at[d], p->vaxis);
    if (!by && dim_hi(e->c, b->dim[d]) > r.lanes) return (LVal){0};
    int16_t lane[2][2 * MOST];
    for (int i = 0; i < 2 * MOST; i++) lane[0][i] = (int16_t)i, lane[1][i] = (int16_t)(i + r.lanes);
    r.at = emit_address(e, s, buf, rank, row, p, &step, &vec);
    if (!by) which = lir_splat(l, emit_as_i32(e, emit_low(e, s, at[d], p)), p->lanes);
    LVal count = emit_dim(e, by ? s->axis[p->vaxis].extent : b->dim[d]);
    for (int h = 0; h < halves; h++) {
        if (by) part[h] = quotients(e, &r, lir_addi(l, p->axis[p->vaxis], h * r.lanes), count, by);
        else part[h] = look_up(e, &r, lir_i64(l, 0), count, halves > 1 ? lir_shuffle(l, which, which, r.lanes, lane[h]) : which);
    }
    return halves > 1 ? lir_shuffle(l, part[0], part[1], p->lanes, lane[0]) : part[0];
}

/* ---- one by one ---- */

Apart emit_apart(Emit *e, const Stage *s, uint16_t buf, const Expr *at, LVal mask, const Point *p) {
    const KBuf *b = &e->k->buf[buf];
    Lir *l = e->l;
    Apart a = {0};
    Expr lane[MAX_RANK];
    int64_t step;
    LVal vec;
    if (!e->near || p->vaxis < 0 || e->t->flags & F_AVX512 || !(e->t->flags & F_AVX2)) return a;
    if (b->dtype == DT_BOOL || dt_bits(b->dtype) < 32 || p->lanes < 4 || p->lanes > APART_LANES) return a;
    for (int d = 0; d < b->rank; d++) {
        const bool differs = expr_uses_axis(e->c, at[d], (uint32_t)p->vaxis);
        lane[d] = differs ? at[d] : expr_int(e->c, DT_I64, 0);
        a.row[d] = differs ? expr_int(e->c, DT_I64, 0) : at[d];
    }
    LVal from = emit_address(e, s, buf, b->rank, lane, p, &step, &vec);
    if (!vec.i || reg_lanes(e, vec) != p->lanes) return a;
    from = lir_sub(l, from, emit_dim(e, b->offset)); /* which the row's address has */
    if (mask.i) {
        const DType it = (DType)lir_type(l, vec).dt;
        a.mask = reg_widen(e, mask, p->lanes);
        a.any = lir_any(l, a.mask);
        LVal least = lir_splat(l, lir_int(l, it, it == DT_I32 ? INT32_MIN : INT64_MIN), p->lanes);
        LVal last = lir_hreduce(l, S_MAX, lir_op3(l, S_SELECT, a.mask, vec, least));
        vec = lir_op3(l, S_SELECT, a.mask, vec, lir_splat(l, last, p->lanes));
    }
    for (int i = 0; i < p->lanes; i++) {
        LVal x = lir_cast(l, lir_extract(l, vec, (uint16_t)i), DT_I64);
        a.at[i] = lir_add(l, from, x);
    }
    a.lanes = p->lanes;
    return a;
}

LVal emit_load_apart(Emit *e, const Stage *s, uint16_t buf, const Apart *a, const Point *p) {
    const KBuf *b = &e->k->buf[buf];
    const DType mt = reg_mem_type(b->dtype);
    Lir *l = e->l;
    int64_t step;
    LVal vec, ptr = lir_ptr_add(l, e->ptr[buf], emit_address(e, s, buf, b->rank, a->row, p, &step, &vec), mt);
    LIf any;
    if (a->mask.i) any = lir_if(l, a->any, 1);
    LVal v = lir_splat(l, lir_load(l, ptr, a->at[0], (LTy){(uint8_t)mt, 1}, (LVal){0}, 0), a->lanes);
    for (uint16_t i = 1; i < a->lanes; i++) {
        LVal x = lir_load(l, ptr, a->at[i], (LTy){(uint8_t)mt, 1}, (LVal){0}, 0);
        v = lir_insert(l, v, i, x);
    }
    if (!a->mask.i) return v;
    LVal none = lir_splat(l, lir_bitcast(l, lir_int(l, dt_bits(mt) == 32 ? DT_I32 : DT_I64, 0), mt), a->lanes);
    v = lir_op3(l, S_SELECT, a->mask, v, none);
    lir_else(l, &any, &v);
    lir_endif(l, &any, &none, &v);
    return v;
}
