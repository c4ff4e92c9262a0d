/* emit_memory.c: loads and stores at a point. One that is affine along the vector axis is of a scalar, a vector or every nth element; any other
 * gathers or scatters. */
#include <string.h>

#include "emit_value.h"

enum { MOST_APART = 4 };

/* ---- vectors that are loaded once ---- */

enum { MOST_SHARED = 64 };
struct EmitShared {
    bool on;
    int n;
    struct { LVal ptr, at, ok, v; } load[MOST_SHARED];
};

void emit_share_loads(Emit *e, bool share) {
    if (!e->shared) e->shared = NEW(e->c, struct EmitShared);
    e->shared->on = share;
    e->shared->n = 0;
}

/* The vector that has been loaded at ptr + at, if ok; else *load is where to remember it, unless that is NULL. */
static LVal shared_load(Emit *e, const KBuf *b, LVal ptr, LVal at, LVal ok, LVal **load) {
    struct EmitShared *s = e->shared;
    *load = NULL;
    if (!s || !s->on || b->kind != KB_IN) return (LVal){0};
    for (int i = 0; i < s->n; i++)
        if (s->load[i].ptr.i == ptr.i && s->load[i].at.i == at.i && s->load[i].ok.i == ok.i) return s->load[i].v;
    if (s->n == MOST_SHARED) return (LVal){0};
    s->load[s->n].ptr = ptr, s->load[s->n].at = at, s->load[s->n].ok = ok;
    *load = &s->load[s->n++].v;
    return (LVal){0};
}

/* ---- addresses ---- */

/* The element offset of an access as one index expression. */
static Expr offset_expr(Emit *e, uint16_t buf, int rank, const Expr *at) {
    Ctx *c = e->c;
    Expr sum = expr_dim(c, e->k->buf[buf].offset);
    for (int d = 0; d < rank; d++) {
        Dim s = e->k->buf[buf].stride[d];
        if (dim_is(c, s, 0)) continue;
        sum = expr_op(c, S_ADD, sum, expr_op(c, S_MUL, at[d], expr_dim(c, s), (Expr){0}), (Expr){0});
    }
    return sum;
}

/* The step along `axis` of an index expression: 0, a constant, or false when it is no constant multiple. */
static bool step_along(Emit *e, const Stage *s, Expr x, int axis, int64_t *step) {
    if (!expr_uses_axis(e->c, x, (uint32_t)axis)) return *step = 0, true;
    Expr coef[K_AXES] = {{0}}, rest;
    if (!expr_affine(e->c, x, s->naxis, coef, &rest)) {
        /* The rest may be non-affine in other axes: look at the difference along this one only. */
        Expr sub[K_AXES] = {{0}};
        sub[axis] = expr_op(e->c, S_ADD, expr_axis(e->c, (uint32_t)axis), expr_int(e->c, DT_I64, 1), (Expr){0});
        Dim extent[K_AXES];
        stage_extents(s, extent);
        Expr diff = expr_op(e->c, S_SUB, expr_subst_axes(e->c, x, sub, s->naxis), x, (Expr){0});
        diff = expr_simplify_index(e->c, diff, extent, s->naxis);
        const ExprInfo *i = expr_info(e->c, diff);
        if (i->kind != E_CONST) return false;
        return *step = i->val.i, true;
    }
    if (!coef[axis].i) return *step = 0, true;
    const ExprInfo *i = expr_info(e->c, coef[axis]);
    if (i->kind != E_CONST) return false;
    return *step = i->val.i, true;
}

static void is_load(void *data, const ExprInfo *load) {
    (void)load;
    *(bool *)data = true;
}

/* What differs between the lanes of an access, as a second offset, or may be any number, as it is loaded; the rest is left in *at. true: as accesses
 * are in range, and the indices in question span less than 2^31 elements, the low 32 bits of it say all. */
static bool split_lanes(Emit *e, const Stage *s, uint16_t buf, int rank, Expr *at, int vaxis, Expr *lanes) {
    const KBuf *b = &e->k->buf[buf];
    const Expr zero = expr_int(e->c, DT_I64, 0);
    int64_t all = 0, stride, span;
    bool low = true;
    *lanes = zero;
    for (int d = 0; d < rank; d++) {
        bool loaded = false;
        expr_loads(e->c, at[d], is_load, &loaded);
        const bool fits = emit_fits_i32(e, s, at[d]);
        if (dim_is(e->c, b->stride[d], 0) || ((!loaded || fits) && !expr_uses_axis(e->c, at[d], (uint32_t)vaxis))) continue;
        *lanes = expr_op(e->c, S_ADD, *lanes, expr_op(e->c, S_MUL, at[d], expr_dim(e->c, b->stride[d]), (Expr){0}), (Expr){0});
        at[d] = zero;
        const int64_t most = fits && dim_hi(e->c, b->dim[d]) > INT32_MAX ? INT32_MAX - 8 : dim_hi(e->c, b->dim[d]);
        low = low && dim_is_const(e->c, b->stride[d], &stride) && stride > 0 && most <= INT32_MAX && !__builtin_mul_overflow(most, stride, &span) &&
              !__builtin_add_overflow(all, span, &all) && all <= INT32_MAX - 4; /* words around bytes */
    }
    return low;
}

LVal emit_address(Emit *e, const Stage *s, uint16_t buf, int rank, const Expr *at, const Point *p, int64_t *step, LVal *vec) {
    Expr off = offset_expr(e, buf, rank, at), lanes, rest[MAX_RANK];
    *vec = (LVal){0};
    *step = 0;
    if (p->vaxis < 0 || step_along(e, s, off, p->vaxis, step)) return emit_mode(e, s, off, p, true);
    *step = -1;
    memcpy(rest, at, (size_t)rank * sizeof *at);
    bool low = split_lanes(e, s, buf, rank, rest, p->vaxis, &lanes);
    *vec = reg_widen(e, low ? emit_low(e, s, lanes, p) : emit_mode(e, s, lanes, p, false), p->lanes);
    return emit_mode(e, s, offset_expr(e, buf, rank, rest), p, true);
}

void emit_load_at(Emit *e, const Stage *s, const ExprInfo *x, Expr *at) {
    const KBuf *b = &e->k->buf[x->index];
    for (int d = 0; d < b->rank; d++) {
        at[d] = x->arg[d];
        if (x->oob != OOB_CLAMP || emit_always_inside(e->c, s, b, at[d], d)) continue;
        Expr top = expr_dim(e->c, dim_addi(e->c, b->dim[d], -1)), zero = expr_int(e->c, DT_I64, 0);
        at[d] = expr_op(e->c, S_MAX, expr_op(e->c, S_MIN, at[d], top, (Expr){0}), zero, (Expr){0});
    }
}

void emit_load_offsets(Emit *e, const Stage *s, const ExprInfo *x, int axis, Expr *offset) {
    const uint16_t buf = (uint16_t)x->index;
    const int rank = e->k->buf[buf].rank;
    Expr at[MAX_RANK], lanes;
    int64_t step;
    emit_load_at(e, s, x, at);
    *offset = offset_expr(e, buf, rank, at);
    if (step_along(e, s, *offset, axis, &step)) return;
    split_lanes(e, s, buf, rank, at, axis, &lanes);
    *offset = offset_expr(e, buf, rank, at);
}

Expr emit_store_offset(Emit *e, const KOut *o) { return offset_expr(e, o->buf, o->rank, o->at); }

/* ---- bounds ---- */

bool emit_always_inside(Ctx *c, const Stage *s, const KBuf *b, Expr at, int d) {
    Dim extent[K_AXES];
    int64_t lo, hi;
    stage_extents(s, extent);
    if (expr_range(c, at, extent, s->naxis, &lo, &hi) && lo >= 0 && hi < dim_lo(c, b->dim[d])) return true;
    const ExprInfo *axis = expr_info(c, at);
    return axis->kind == E_AXIS && dim_same(c, extent[axis->index], b->dim[d]); /* the whole of it, whatever the size */
}

LVal emit_bounds(Emit *e, const Stage *s, const KBuf *b, int rank, const Expr *at, const Point *p, Where where) {
    LVal all = {0};
    for (int d = 0; d < rank; d++) {
        if (emit_always_inside(e->c, s, b, at[d], d)) continue;
        bool differs = p->vaxis >= 0 && expr_uses_axis(e->c, at[d], (uint32_t)p->vaxis);
        if (where != WHERE_ALL && differs != (where == WHERE_LANES)) continue;
        if (where == WHERE_POINT && p->inside >> d & 1) continue;
        LVal i = emit_mode(e, s, at[d], p, !differs), n = emit_dim(e, b->dim[d]);
        if (lir_type(e->l, i).dt == DT_I32 && dim_hi(e->c, b->dim[d]) <= INT32_MAX) n = emit_as_i32(e, n);
        else i = emit_typed(e, at[d], i);
        LVal ok = lir_ltu(e->l, i, reg_widen(e, n, reg_lanes(e, i)));
        if (all.i && reg_lanes(e, all) != reg_lanes(e, ok)) {
            uint16_t w = p->lanes;
            all = reg_widen(e, all, w);
            ok = reg_widen(e, ok, w);
        }
        all = all.i ? lir_op2(e->l, S_AND, all, ok) : ok;
    }
    return all;
}

/* ---- loads ---- */

/* What is known of an address along the axis of which something is known; 0: that it is an element's. */
static uint32_t known_align(const Emit *e, DType mt, const Expr *at, int rank) {
    bool along = false;
    for (int d = 0; d < rank && e->aligned && !along; d++) along = expr_uses_axis(e->c, at[d], (uint32_t)e->aligned_axis);
    return along ? dt_bits(mt) / 8u * e->aligned : 0;
}

/* Of the elements from `from` on, counted in memory from that of the lane there: those that a lane of the mask wants, `width` apart. */
static LVal part_mask(Emit *e, LVal mask, int from, int width, bool down, uint16_t lanes) {
    int16_t idx[64];
    if (!mask.i) return mask;
    for (int i = 0; i < lanes; i++) {
        const int at = from + i, lane = down ? lanes - 1 - at / width : at / width;
        idx[i] = (int16_t)(at % width ? lanes : lane);
    }
    return lir_shuffle(e->l, mask, lir_splat(e->l, lir_bool(e->l, false), lanes), lanes, idx);
}

/* Every step-th element of a row, onwards or backwards, from vectors that lie side by side: the last ends with the last element, so nothing beyond
 * is read. */
static LVal load_apart(Emit *e, LVal ptr, LVal base, int step, DType mt, uint16_t lanes, LVal mask) {
    const bool down = step < 0;
    const int width = down ? -step : step;
    int16_t idx[64];
    LVal v = {0};
    if (down) base = lir_addi(e->l, base, step * (lanes - 1));
    for (int q = 0; q < width; q++) {
        int from = q + 1 < width ? q * lanes : width * (lanes - 1) + 1 - lanes;
        LVal wanted = part_mask(e, mask, from, width, down, lanes);
        LVal part = lir_load(e->l, ptr, lir_addi(e->l, base, from), (LTy){(uint8_t)mt, lanes}, wanted, 0);
        for (int i = 0; i < lanes; i++) {
            int at = (down ? lanes - 1 - i : i) * width;
            bool here = q + 1 < width ? at / lanes == q : at / lanes >= q;
            idx[i] = (int16_t)(here ? lanes + at - from : i);
        }
        v = lir_shuffle(e->l, q ? v : part, part, lanes, idx);
    }
    return v;
}

static LVal load_strided(Emit *e, LVal ptr, LVal base, int64_t step, DType mt, uint16_t lanes, LVal mask) {
    const bool masks = !mask.i || (e->t->flags & F_SIMD && (e->t->flags & F_AVX512 || (e->t->flags & F_AVX2 && dt_bits(mt) >= 32)));
    if (step != 1 && step >= -MOST_APART && step <= MOST_APART && masks && mt != DT_BOOL && lanes > 2 && lanes <= 64)
        return load_apart(e, ptr, base, (int)step, mt, lanes, mask);
    DType t = step > -(1 << 24) && step < 1 << 24 ? DT_I32 : DT_I64;
    LVal idx = lir_mul(e->l, lir_iota(e->l, t, lanes), lir_splat(e->l, lir_int(e->l, t, step), lanes));
    return lir_gather(e->l, lir_ptr_add(e->l, ptr, base, mt), idx, mt, mask);
}

static LVal pad_value(Emit *e, const Stage *s, Expr pad, const Point *p) {
    return emit_typed(e, pad, emit_mode(e, s, pad, p, p->vaxis < 0 || !expr_uses_axis(e->c, pad, (uint32_t)p->vaxis)));
}

/* Neighbours that are all in range, if `ok`, or none, for machines that have no vectors under a mask. */
static LVal load_or_pad(Emit *e, const Stage *s, const ExprInfo *x, const Point *p, LVal ok, LVal base) {
    const KBuf *b = &e->k->buf[x->index];
    LTy vector = {(uint8_t)reg_mem_type(b->dtype), p->lanes};
    LVal *known, v = shared_load(e, b, e->ptr[x->index], base, ok, &known);
    if (v.i) return v;
    uint32_t align = known_align(e, (DType)vector.dt, x->arg, b->rank);
    if (ok.i) {
        LVal other = reg_widen(e, pad_value(e, s, x->arg[x->narg - 1], p), p->lanes);
        LIf in = lir_if(e->l, ok, 1);
        v = reg_from_memory(e, lir_load(e->l, e->ptr[x->index], base, vector, (LVal){0}, align), b->dtype);
        lir_else(e->l, &in, &v);
        lir_endif(e->l, &in, &other, &v);
    } else {
        v = reg_from_memory(e, lir_load(e->l, e->ptr[x->index], base, vector, (LVal){0}, align), b->dtype);
    }
    if (known) *known = v;
    return v;
}

static void fail_outside(Emit *e, LVal ok, const Point *p, uint32_t guard) {
    LVal bad = lir_op1(e->l, S_NOT, ok);
    if (reg_lanes(e, bad) > 1) {
        if (p->mask.i) bad = lir_op2(e->l, S_AND, bad, p->mask);
        bad = lir_any(e->l, bad);
    } else if (p->mask.i) {
        bad = lir_op2(e->l, S_AND, bad, lir_any(e->l, p->mask));
    }
    lir_fail_if(e->l, bad, guard);
}

/* v where it is in range, the value of the policy elsewhere. */
static LVal select_inside(Emit *e, const Stage *s, LVal ok, LVal v, Expr pad, const Point *p) {
    LVal other = pad_value(e, s, pad, p);
    uint16_t w = reg_lanes(e, ok) > reg_lanes(e, v) ? reg_lanes(e, ok) : reg_lanes(e, v);
    if (reg_lanes(e, other) > w) w = reg_lanes(e, other);
    ok = reg_widen(e, ok, w), v = reg_widen(e, v, w);
    return lir_op3(e->l, S_SELECT, ok, v, reg_widen(e, other, w));
}

LVal emit_has_elements(Emit *e, const Stage *s, const KBuf *b, const Point *p) {
    Expr some = {0}, zero = expr_int(e->c, DT_I64, 0);
    for (int d = 0; d < b->rank; d++) {
        if (dim_lo(e->c, b->dim[d]) > 0) continue;
        Expr one = expr_op(e->c, S_GT, expr_dim(e->c, b->dim[d]), zero, (Expr){0});
        some = some.i ? expr_op(e->c, S_AND, some, one, (Expr){0}) : one;
    }
    return some.i ? emit_typed(e, some, emit_mode(e, s, some, p, true)) : (LVal){0};
}

LVal emit_load(Emit *e, const Stage *s, const ExprInfo *x, const Point *p, LVal *inside) {
    uint16_t bufno = (uint16_t)x->index;
    const KBuf *b = &e->k->buf[bufno];
    int rank = b->rank;
    Expr at[MAX_RANK];
    emit_load_at(e, s, x, at);
    Oob oob = x->oob;
    if (e->temp[bufno]) return e->temp[bufno](e, e->temp_data[bufno], x->arg, p);
    LVal ok = {0};
    if (oob == OOB_CLAMP) {
        ok = emit_has_elements(e, s, b, p); /* lanes under a mask read 0 */
        oob = OOB_NEVER;
    }
    if (oob == OOB_VALUE || oob == OOB_FAIL) ok = emit_bounds(e, s, b, rank, at, p, inside ? WHERE_LANES : WHERE_ALL);
    if (oob == OOB_FAIL && ok.i) {
        fail_outside(e, ok, p, x->guard);
        ok = (LVal){0}; /* lanes beyond the mask are covered by p->mask below */
    }
    if (oob == OOB_FAIL) oob = OOB_NEVER;
    DType mt = reg_mem_type(b->dtype);
    int64_t step;
    LVal vec, base = emit_address(e, s, bufno, rank, at, p, &step, &vec);
    LVal v = vec.i && oob == OOB_NEVER ? emit_few(e, s, bufno, at, ok, p) : (LVal){0};
    if (v.i) {
        if (inside) *inside = ok;
        return v;
    }
    bool whole = !inside && !(e->t->flags & F_SIMD) && p->vaxis >= 0 && step == 1 && !vec.i && !p->mask.i;
    if (whole && (ok.i ? oob == OOB_VALUE && reg_lanes(e, ok) == 1 : oob == OOB_NEVER)) return load_or_pad(e, s, x, p, ok, base);
    if (p->vaxis >= 0 && (step != 0 || vec.i)) {
        LVal mask = b->kind == KB_TEMP && !vec.i && step > 0 && step <= MOST_APART ? (LVal){0} : p->mask;
        if (ok.i) mask = mask.i ? lir_op2(e->l, S_AND, reg_widen(e, ok, p->lanes), mask) : reg_widen(e, ok, p->lanes);
        const Apart apart = vec.i ? emit_apart(e, s, bufno, at, mask, p) : (Apart){0};
        if (apart.lanes) v = emit_load_apart(e, s, bufno, &apart, p);
        else if (vec.i) v = lir_gather(e->l, lir_ptr_add(e->l, e->ptr[bufno], base, mt), vec, mt, mask);
        else if (step == 1) v = lir_load(e->l, e->ptr[bufno], base, (LTy){(uint8_t)mt, p->lanes}, mask, known_align(e, mt, at, rank));
        else v = load_strided(e, e->ptr[bufno], base, step, mt, p->lanes, mask);
    } else if (ok.i && reg_lanes(e, ok) > 1) { /* one address, but lanes differ in being inside */
        v = lir_load(e->l, e->ptr[bufno], base, (LTy){(uint8_t)mt, 1}, lir_any(e->l, ok), 0);
    } else {
        v = lir_load(e->l, e->ptr[bufno], base, (LTy){(uint8_t)mt, 1}, ok, known_align(e, mt, at, rank));
    }
    v = reg_from_memory(e, v, b->dtype);
    if (inside) {
        *inside = oob == OOB_NEVER ? (LVal){0} : ok;
        return v;
    }
    return oob == OOB_VALUE && ok.i ? select_inside(e, s, ok, v, x->arg[x->narg - 1], p) : v;
}

/* ---- stores ---- */

void emit_store(Emit *e, const Stage *s, int r, LVal v, const Point *p) {
    const KOut *o = &s->out[r];
    const KBuf *b = &e->k->buf[o->buf];
    if (e->hold == o->buf + 1) {
        *e->held = v;
        return;
    }
    /* A mask of which no lane is set costs hundreds of cycles where it saves a store from a page that is not there: lanes that agree branch. */
    const bool branches = o->oob == OOB_DROP && p->vaxis >= 0 && e->t->flags & F_SIMD;
    LVal some = branches ? emit_bounds(e, s, b, o->rank, o->at, p, WHERE_POINT) : (LVal){0};
    LVal ok = o->oob != OOB_NEVER ? emit_bounds(e, s, b, o->rank, o->at, p, branches ? WHERE_LANES : WHERE_ALL) : (LVal){0};
    if (o->oob == OOB_FAIL && ok.i) {
        CHECK(reg_lanes(e, ok) == 1);
        lir_fail_if(e->l, lir_op1(e->l, S_NOT, ok), s->guard);
        ok = (LVal){0};
    }
    if (!e->ptr[o->buf].i) return; /* a result that nobody reads in memory */
    v = reg_cast(e, v, s->acc[r], b->dtype);
    v = reg_to_memory(e, v, b->dtype);
    int64_t step;
    LVal vec, base = emit_address(e, s, o->buf, o->rank, o->at, p, &step, &vec);
    if (p->vaxis < 0) {
        lir_store(e->l, e->ptr[o->buf], base, v, ok, known_align(e, reg_mem_type(b->dtype), o->at, o->rank));
        return;
    }
    LVal mask = p->mask;
    LIf in = {0};
    if (some.i) in = lir_if(e->l, some, 0);
    if (ok.i) mask = mask.i ? lir_op2(e->l, S_AND, reg_widen(e, ok, p->lanes), mask) : reg_widen(e, ok, p->lanes);
    v = reg_widen(e, v, p->lanes);
    if (vec.i && lir_type(e->l, vec).dt == DT_I32) vec = lir_cast(e->l, vec, DT_I64);
    if (step == 1 && !vec.i && e->streamed >> o->buf & 1) lir_stream_next(e->l);
    if (vec.i) lir_scatter(e->l, lir_ptr_add(e->l, e->ptr[o->buf], base, reg_mem_type(b->dtype)), vec, v, mask);
    else if (step == 1) lir_store(e->l, e->ptr[o->buf], base, v, mask, known_align(e, reg_mem_type(b->dtype), o->at, o->rank));
    else {
        LVal by = lir_mul(e->l, lir_iota(e->l, DT_I64, p->lanes), lir_splat(e->l, lir_i64(e->l, step), p->lanes));
        lir_scatter(e->l, e->ptr[o->buf], lir_add(e->l, lir_splat(e->l, base, p->lanes), by), v, mask);
    }
    if (some.i) {
        lir_else(e->l, &in, NULL);
        lir_endif(e->l, &in, NULL, NULL);
    }
}
