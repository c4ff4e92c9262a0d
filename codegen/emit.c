/* emit.c: the hooks through which templates evaluate stage bodies. In: a Kernel stage, an expression and a Point;
 * out: Lir. Values are kept in their "register type": f16, bf16 and f8 live as f32 (rounded after every operation, which
 * is the correctly rounded result for + - * / sqrt since 24 >= 2*11+2), 4- and 2-bit integers as bytes.
 *
 * A vector Point varies along one axis. An expression that does not use that axis is emitted as a scalar; a load that is
 * affine along it becomes a scalar, vector or strided load; anything else a gather. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "emit_internal.h"

enum { MEMO_SLOTS = 4096, MOST_APART = 4, MOST_KEPT = 32 };
typedef struct MemoEntry { uint32_t expr, mode, stamp; LVal v; } MemoEntry;
struct EmitMemo { MemoEntry e[MEMO_SLOTS], kept[MOST_KEPT]; uint32_t stamp; int nkept; };

DType reg_type(DType t) {
    switch (t) {
    case DT_F16: case DT_BF16: case DT_F8E4M3: case DT_F8E4M3Z: case DT_F8E5M2: case DT_F8E5M2Z: case DT_F4E2M1:
    case DT_F8E8M0: return DT_F32;
    case DT_U4: case DT_U2: return DT_U8;
    case DT_I4: case DT_I2: return DT_I8;
    default: return t;
    }
}

static bool narrow_float(DType t) { return dt_is_float(t) && reg_type(t) != t; }

/* The type of an element in memory: packed types are unpacked to bytes in values. */
static DType mem_type(DType t) { return dt_is_packed(t) && !dt_is_float(t) ? reg_type(t) : t; }

void emit_begin(Emit *e) {
    e->memo = NEW(e->c, struct EmitMemo);
    e->memo->stamp = 1;
    e->streamed = emit_streamed(e);
    e->code->buf = NEWN(e->c, Val, K_BUFS);
    e->code->dim = NULL;
    e->code->tasks = dim_const(e->c, 1);
    e->code->scratch = dim_const(e->c, 0);
    e->code->grain = 1;
    for (uint32_t k = 0; k < e->k->nbuf; k++) {
        if (e->k->buf[k].kind == KB_TEMP) continue;
        for (uint32_t j = 0; j < k; j++) /* views of one value share its pointer */
            if (e->k->buf[j].kind == e->k->buf[k].kind && e->k->buf[j].val.i == e->k->buf[k].val.i) e->ptr[k] = e->ptr[j];
        if (e->ptr[k].i) continue;
        if (e->k->buf[k].kind == KB_OUT) e->code->writes |= 1ull << (e->code->nbuf < 63 ? e->code->nbuf : 63);
        e->ptr[k] = lir_buf(e->l, e->code->nbuf);
        e->code->buf[e->code->nbuf++] = e->k->buf[k].val;
    }
}

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

void emit_memo_reset(Emit *e) { e->memo->stamp++; }

LVal emit_dim(Emit *e, Dim d) {
    int64_t v;
    if (dim_is_const(e->c, d, &v)) return lir_i64(e->l, v);
    KernelCode *k = e->code;
    for (uint32_t i = 0; i < k->ndim; i++)
        if (k->dim[i].i == d.i) return lir_dim(e->l, i);
    if (k->ndim % 32 == 0) {
        Dim *grown = NEWN(e->c, Dim, k->ndim + 32);
        if (k->ndim) memcpy(grown, k->dim, k->ndim * sizeof *grown);
        k->dim = grown;
    }
    k->dim[k->ndim] = d;
    return lir_dim(e->l, k->ndim++);
}

/* ---- one operation on register values ---- */

static LVal round_to(Emit *e, LVal v, DType t) {
    return narrow_float(t) ? math_cast(e->l, e->t, math_cast(e->l, e->t, v, DT_F32, t), t, DT_F32) : v;
}

static LVal cast_reg(Emit *e, LVal v, DType from, DType to) {
    if (from == to) return v;
    if (narrow_float(to)) {
        LVal wide = narrow_float(from) ? v : math_cast(e->l, e->t, v, from, DT_F32);
        if (to == DT_F8E5M2) { /* has infinities, but conversion saturates */
            LVal top = lir_splat(e->l, lir_float(e->l, DT_F32, FLT_MAX), lir_type(e->l, wide).lanes), inf = math_op(e->l, e->t, S_ISINF, DT_F32, 1, &wide);
            LVal end = lir_op3(e->l, S_SELECT, lir_op2(e->l, S_GT, wide, lir_float(e->l, DT_F32, 0)), top, lir_op1(e->l, S_NEG, top));
            wide = lir_op3(e->l, S_SELECT, inf, end, wide);
        }
        return round_to(e, wide, to);
    }
    if (dt_is_packed(to)) return math_cast(e->l, e->t, v, reg_type(from), to);
    return math_cast(e->l, e->t, v, reg_type(from), to);
}

static uint16_t lanes_of(Emit *e, LVal v) { return lir_type(e->l, v).lanes; }

static LVal widen(Emit *e, LVal v, uint16_t lanes) {
    return lanes > 1 && lanes_of(e, v) == 1 ? lir_splat(e->l, v, lanes) : v;
}

/* ---- loads ---- */

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
        for (int a = 0; a < s->naxis; a++) extent[a] = s->axis[a].extent;
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

static LVal emit_mode(Emit *e, const Stage *s, Expr x, const Point *p, bool scalar);
static LVal emit_low(Emit *e, const Stage *s, Expr x, const Point *p);

/* ---- vectors of indices: i64 by type, computed as i32 where every value on the way provably fits ---- */

static LVal as_i32(Emit *e, LVal v) { return lir_type(e->l, v).dt == DT_I64 ? lir_cast(e->l, v, DT_I32) : v; }

/* v as expression x's own type */
static LVal as_typed(Emit *e, Expr x, LVal v) {
    return expr_info(e->c, x)->dtype == DT_I64 && lir_type(e->l, v).dt == DT_I32 ? lir_cast(e->l, v, DT_I64) : v;
}

static Point scalar_point(const Point *p) {
    Point q = *p;
    q.vaxis = -1;
    q.lanes = 1;
    q.mask = (LVal){0};
    return q;
}

static void is_load(void *data, const ExprInfo *load) {
    (void)load;
    *(bool *)data = true;
}

/* What differs between the lanes of an access, as a second offset; the rest is left in *at. true: as accesses are in range, and the dims in question
 * span less than 2^31 elements, the low 32 bits of it say all. */
static bool split_lanes(Emit *e, uint16_t buf, int rank, Expr *at, int vaxis, Expr *lanes) {
    const KBuf *b = &e->k->buf[buf];
    const Expr zero = expr_int(e->c, DT_I64, 0);
    int64_t all = 0, stride, span;
    bool low = true;
    *lanes = zero;
    for (int d = 0; d < rank; d++) {
        bool loaded = false;
        expr_loads(e->c, at[d], is_load, &loaded);
        if (dim_is(e->c, b->stride[d], 0) || (!loaded && !expr_uses_axis(e->c, at[d], (uint32_t)vaxis))) continue;
        *lanes = expr_op(e->c, S_ADD, *lanes, expr_op(e->c, S_MUL, at[d], expr_dim(e->c, b->stride[d]), (Expr){0}), (Expr){0});
        at[d] = zero;
        low = low && dim_is_const(e->c, b->stride[d], &stride) && stride > 0 && dim_hi(e->c, b->dim[d]) <= INT32_MAX &&
              !__builtin_mul_overflow(dim_hi(e->c, b->dim[d]), stride, &span) && !__builtin_add_overflow(all, span, &all) && all <= INT32_MAX;
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
    bool low = split_lanes(e, buf, rank, rest, p->vaxis, &lanes);
    *vec = widen(e, low ? emit_low(e, s, lanes, p) : emit_mode(e, s, lanes, p, false), p->lanes);
    return emit_mode(e, s, offset_expr(e, buf, rank, rest), p, true);
}

/* In-bounds condition of a load: a scalar or mask, or none if always in range. */
typedef enum { WHERE_ALL, WHERE_POINT /* indices that are the same in all lanes, and not in p->inside */, WHERE_LANES /* the others */ } Where;

/* Is index d of a load from b in range at every point of the stage? */
static bool always_inside(Emit *e, const Stage *s, const KBuf *b, Expr at, int d) {
    Dim extent[K_AXES];
    int64_t lo, hi;
    for (int a = 0; a < s->naxis; a++) extent[a] = s->axis[a].extent;
    if (expr_range(e->c, at, extent, s->naxis, &lo, &hi) && lo >= 0 && hi < dim_lo(e->c, b->dim[d])) return true;
    const ExprInfo *axis = expr_info(e->c, at);
    return axis->kind == E_AXIS && dim_same(e->c, extent[axis->index], b->dim[d]); /* the whole of it, whatever the size */
}

static LVal bounds(Emit *e, const Stage *s, const KBuf *b, int rank, const Expr *at, const Point *p, Where where) {
    LVal all = {0};
    for (int d = 0; d < rank; d++) {
        if (always_inside(e, s, b, at[d], d)) continue;
        bool differs = p->vaxis >= 0 && expr_uses_axis(e->c, at[d], (uint32_t)p->vaxis);
        if (where != WHERE_ALL && differs != (where == WHERE_LANES)) continue;
        if (where == WHERE_POINT && p->inside >> d & 1) continue;
        LVal i = emit_mode(e, s, at[d], p, !differs), n = emit_dim(e, b->dim[d]);
        if (lir_type(e->l, i).dt == DT_I32 && dim_hi(e->c, b->dim[d]) <= INT32_MAX) n = as_i32(e, n);
        else i = as_typed(e, at[d], i);
        LVal ok = lir_ltu(e->l, i, widen(e, n, lanes_of(e, i)));
        if (all.i && lanes_of(e, all) != lanes_of(e, ok)) {
            uint16_t w = p->lanes;
            all = widen(e, all, w);
            ok = widen(e, ok, w);
        }
        all = all.i ? lir_op2(e->l, S_AND, all, ok) : ok;
    }
    return all;
}

static LVal from_memory(Emit *e, LVal v, DType t) {
    return narrow_float(t) ? math_cast(e->l, e->t, v, t, DT_F32) : v;
}

/* What is known of an address along the axis of which something is known; 0: that it is an element's. */
static uint32_t known_align(const Emit *e, DType mt, const Expr *at, int rank) {
    bool along = false;
    for (int d = 0; d < rank && e->aligned && !along; d++) along = expr_uses_axis(e->c, at[d], (uint32_t)e->aligned_axis);
    return along ? dt_bits(mt) / 8u * e->aligned : 0;
}

/* Every step-th element of a row, from vectors that lie side by side: the last ends with the last element, so nothing beyond is read. */
static LVal load_apart(Emit *e, LVal ptr, LVal base, int step, DType mt, uint16_t lanes) {
    int16_t idx[64];
    LVal v = {0};
    for (int q = 0; q < step; q++) {
        int from = q + 1 < step ? q * lanes : step * (lanes - 1) + 1 - lanes;
        LVal part = lir_load(e->l, ptr, lir_addi(e->l, base, from), (LTy){(uint8_t)mt, lanes}, (LVal){0}, 0);
        for (int i = 0; i < lanes; i++) {
            int at = i * step;
            bool here = q + 1 < step ? at / lanes == q : at / lanes >= q;
            idx[i] = (int16_t)(here ? lanes + at - from : i);
        }
        v = lir_shuffle(e->l, q ? v : part, part, lanes, idx);
    }
    return v;
}

static LVal load_strided(Emit *e, LVal ptr, LVal base, int64_t step, DType mt, uint16_t lanes, LVal mask) {
    if (step > 1 && step <= MOST_APART && !mask.i && mt != DT_BOOL && lanes > 2 && lanes <= 64)
        return load_apart(e, ptr, base, (int)step, mt, lanes);
    DType t = step > -(1 << 24) && step < 1 << 24 ? DT_I32 : DT_I64;
    LVal idx = lir_mul(e->l, lir_iota(e->l, t, lanes), lir_splat(e->l, lir_int(e->l, t, step), lanes));
    return lir_gather(e->l, lir_ptr_add(e->l, ptr, base, mt), idx, mt, mask);
}

/* Neighbours that are all in range, if `ok`, or none, for machines that have no vectors under a mask. */
static LVal load_or_pad(Emit *e, const Stage *s, const ExprInfo *x, const Point *p, LVal ok, LVal base) {
    const KBuf *b = &e->k->buf[x->index];
    LTy vector = {(uint8_t)mem_type(b->dtype), p->lanes};
    LVal *known, v = shared_load(e, b, e->ptr[x->index], base, ok, &known);
    if (v.i) return v;
    uint32_t align = known_align(e, (DType)vector.dt, x->arg, b->rank);
    if (ok.i) {
        Expr pad = x->arg[x->narg - 1];
        bool scalar = p->vaxis < 0 || !expr_uses_axis(e->c, pad, (uint32_t)p->vaxis);
        LVal other = widen(e, as_typed(e, pad, emit_mode(e, s, pad, p, scalar)), p->lanes);
        LIf in = lir_if(e->l, ok, 1);
        v = from_memory(e, lir_load(e->l, e->ptr[x->index], base, vector, (LVal){0}, align), b->dtype);
        lir_else(e->l, &in, &v);
        lir_endif(e->l, &in, &other, &v);
    } else {
        v = from_memory(e, lir_load(e->l, e->ptr[x->index], base, vector, (LVal){0}, align), b->dtype);
    }
    if (known) *known = v;
    return v;
}

/* With `inside`: the caller has checked WHERE_POINT, and takes care of the lanes that are out of range: *inside is the mask of the others, or none. */
static LVal emit_load(Emit *e, const Stage *s, const ExprInfo *x, const Point *p, LVal *inside) {
    uint16_t bufno = (uint16_t)x->index;
    const KBuf *b = &e->k->buf[bufno];
    int rank = b->rank;
    Expr at[MAX_RANK];
    for (int d = 0; d < rank; d++) at[d] = x->arg[d];
    Oob oob = x->oob;
    if (e->temp[bufno]) return e->temp[bufno](e, e->temp_data[bufno], at, p);
    if (oob == OOB_CLAMP) {
        for (int d = 0; d < rank; d++) {
            Expr top = expr_dim(e->c, dim_addi(e->c, b->dim[d], -1)), zero = expr_int(e->c, DT_I64, 0);
            at[d] = expr_op(e->c, S_MAX, expr_op(e->c, S_MIN, at[d], top, (Expr){0}), zero, (Expr){0});
        }
        oob = OOB_NEVER;
    }
    LVal ok = {0};
    if (oob == OOB_VALUE || oob == OOB_FAIL) ok = bounds(e, s, b, rank, at, p, inside ? WHERE_LANES : WHERE_ALL);
    if (oob == OOB_FAIL && ok.i) {
        LVal bad = lir_op1(e->l, S_NOT, ok);
        if (lanes_of(e, bad) > 1) {
            if (p->mask.i) bad = lir_op2(e->l, S_AND, bad, p->mask);
            bad = lir_any(e->l, bad);
        } else if (p->mask.i) {
            bad = lir_op2(e->l, S_AND, bad, lir_any(e->l, p->mask));
        }
        lir_fail_if(e->l, bad, x->guard);
        ok = (LVal){0}; /* lanes beyond the mask are covered by p->mask below */
    }
    DType mt = mem_type(b->dtype);
    int64_t step;
    LVal vec, base = emit_address(e, s, bufno, rank, at, p, &step, &vec);
    LVal v;
    bool whole = !inside && !(e->t->flags & F_SIMD) && p->vaxis >= 0 && step == 1 && !vec.i && !p->mask.i;
    if (whole && (ok.i ? oob == OOB_VALUE && lanes_of(e, ok) == 1 : oob == OOB_NEVER)) return load_or_pad(e, s, x, p, ok, base);
    if (p->vaxis >= 0 && (step != 0 || vec.i)) {
        LVal mask = b->kind == KB_TEMP && !vec.i && step > 0 && step <= MOST_APART ? (LVal){0} : p->mask;
        if (ok.i) mask = mask.i ? lir_op2(e->l, S_AND, widen(e, ok, p->lanes), mask) : widen(e, ok, p->lanes);
        if (vec.i) v = lir_gather(e->l, lir_ptr_add(e->l, e->ptr[bufno], base, mt), vec, mt, mask);
        else if (step == 1) v = lir_load(e->l, e->ptr[bufno], base, (LTy){(uint8_t)mt, p->lanes}, mask, known_align(e, mt, at, rank));
        else v = load_strided(e, e->ptr[bufno], base, step, mt, p->lanes, mask);
    } else if (ok.i && lanes_of(e, ok) > 1) { /* one address, but lanes differ in being inside */
        v = lir_load(e->l, e->ptr[bufno], base, (LTy){(uint8_t)mt, 1}, lir_any(e->l, ok), 0);
    } else {
        v = lir_load(e->l, e->ptr[bufno], base, (LTy){(uint8_t)mt, 1}, ok, known_align(e, mt, at, rank));
    }
    v = from_memory(e, v, b->dtype);
    if (inside) {
        *inside = ok;
        return v;
    }
    if (oob == OOB_VALUE && ok.i) {
        const Expr pad = x->arg[x->narg - 1];
        LVal other = as_typed(e, pad, emit_mode(e, s, pad, p, p->vaxis < 0 || !expr_uses_axis(e->c, pad, (uint32_t)p->vaxis)));
        uint16_t w = lanes_of(e, ok) > lanes_of(e, v) ? lanes_of(e, ok) : lanes_of(e, v);
        if (lanes_of(e, other) > w) w = lanes_of(e, other);
        v = lir_op3(e->l, S_SELECT, widen(e, ok, w), widen(e, v, w), widen(e, other, w));
    }
    return v;
}

/* ---- expressions ---- */

static LVal emit_const(Emit *e, Scalar s) {
    DType r = reg_type(s.t);
    if (s.t == DT_BOOL) return lir_bool(e->l, s.i != 0);
    return dt_is_float(s.t) ? lir_float(e->l, r, s.f) : lir_int(e->l, r, s.i);
}

/* rint(x) or rint(x) + z, in f32. */
static bool rounded(const Emit *e, Expr v, Expr *x, int *z) {
    const ExprInfo *i = expr_info(e->c, v);
    *z = 0;
    if (i->kind == E_OP && i->op == S_ADD) {
        const ExprInfo *k = expr_info(e->c, i->arg[1]);
        if (k->kind != E_CONST || !(fabs(k->val.f) < 1 << 16) || k->val.f != (int)k->val.f) return false;
        *z = (int)k->val.f;
        i = expr_info(e->c, i->arg[0]);
    }
    *x = i->arg[0];
    return i->kind == E_OP && i->op == S_RINT && i->dtype == DT_F32;
}

/* Entries of a table, 16 lanes at a time; no value where x is none, or lanes are too few. */
static LVal emit_table(Emit *e, const Stage *s, Expr x, const Point *p) {
    enum { LANES = 16 };
    Expr bits;
    Scalar entry[LANES];
    int16_t lane[LANES], both[2 * LANES];
    if (p->vaxis < 0 || p->lanes % LANES || p->lanes > 2 * LANES || !emit_is_table(e, x, &bits, entry)) return (LVal){0};
    LVal table = lir_table(e->l, DT_F32, LANES, entry), at = widen(e, emit_mode(e, s, bits, p, false), p->lanes), part[2];
    if (p->lanes == LANES) return lir_permute_var(e->l, table, at);
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < LANES; i++) lane[i] = both[i + h * LANES] = (int16_t)(i + h * LANES);
        part[h] = lir_permute_var(e->l, table, lir_shuffle(e->l, at, at, LANES, lane));
    }
    return lir_shuffle(e->l, part[0], part[1], 2 * LANES, both);
}

static LVal emit_node(Emit *e, const Stage *s, Expr x, const Point *p) {
    ExprInfo i = *expr_info(e->c, x); /* a copy: emission may intern expressions */
    LVal looked_up = emit_table(e, s, x, p);
    if (looked_up.i) return looked_up;
    switch ((ExprKind)i.kind) {
    case E_CONST: return emit_const(e, i.val);
    case E_DIM: return emit_dim(e, (Dim){i.index});
    case E_AXIS:
        if ((int)i.index == p->vaxis && emit_fits_i32(e, s, x))
            return lir_add(e->l, lir_splat(e->l, as_i32(e, p->axis[i.index]), p->lanes), lir_iota(e->l, DT_I32, p->lanes));
        if ((int)i.index == p->vaxis)
            return lir_add(e->l, lir_splat(e->l, p->axis[i.index], p->lanes), lir_iota(e->l, DT_I64, p->lanes));
        return p->axis[i.index];
    case E_LOAD: return emit_load(e, s, &i, p, NULL);
    case E_CAST: {
        DType from = expr_info(e->c, i.arg[0])->dtype;
        Expr inner;
        int z;
        if (from == DT_F32 && dt_is_int(i.dtype) && dt_bits(i.dtype) <= 16 && rounded(e, i.arg[0], &inner, &z))
            return math_cast_rint(e->l, e->t, emit_mode(e, s, inner, p, false), z, i.dtype);
        bool cut = from == DT_I64 && dt_is_int(i.dtype) && dt_bits(i.dtype) <= 32; /* of the low bits alone */
        LVal v = cut && p->vaxis >= 0 ? emit_low(e, s, i.arg[0], p) : emit_mode(e, s, i.arg[0], p, false);
        if (lir_type(e->l, v).dt == DT_I32 && from == DT_I64) from = DT_I32;
        if (lanes_of(e, v) > 1 && i.dtype == DT_I64 && emit_fits_i32(e, s, x)) return cast_reg(e, v, from, DT_I32);
        return cast_reg(e, v, from, i.dtype);
    }
    case E_BITCAST: {
        DType from = expr_info(e->c, i.arg[0])->dtype;
        LVal v = as_typed(e, i.arg[0], emit_mode(e, s, i.arg[0], p, false));
        if (narrow_float(from)) v = math_cast(e->l, e->t, v, DT_F32, from);
        if (from == DT_BOOL || i.dtype == DT_BOOL) return math_cast(e->l, e->t, v, from, i.dtype); /* a byte, 0 or 1 */
        return from_memory(e, lir_bitcast(e->l, v, i.dtype), i.dtype);
    }
    case E_OP: {
        LVal a[3];
        uint16_t w = 1;
        for (int k = 0; k < i.narg; k++) {
            a[k] = emit_mode(e, s, i.arg[k], p, false);
            if (lanes_of(e, a[k]) > w) w = lanes_of(e, a[k]);
        }
        int first = i.op == S_SELECT;
        DType ot = expr_info(e->c, i.arg[first])->dtype;
        if (ot == DT_I64) {
            bool narrow = w > 1 && (i.dtype != DT_I64 || emit_fits_i32(e, s, x));
            for (int k = first; k < i.narg && narrow; k++) narrow = emit_fits_i32(e, s, i.arg[k]);
            for (int k = first; k < i.narg; k++) a[k] = narrow ? as_i32(e, a[k]) : as_typed(e, i.arg[k], a[k]);
            if (narrow) ot = DT_I32;
        }
        for (int k = 0; k < i.narg; k++) a[k] = widen(e, a[k], w);
        if (ot == DT_STR && i.op != S_SELECT) {
            LVal same = lir_streq(e->l, a[0], a[1]);
            return i.op == S_NE ? lir_op1(e->l, S_NOT, same) : same;
        }
        return round_to(e, math_op(e->l, e->t, i.op, reg_type(ot), i.narg, a), i.dtype);
    }
    case E_ARG: case E_NONE: break;
    }
    ICE("kernel %s: an expression of kind %d cannot be emitted", e->k->name, i.kind);
}

static MemoEntry *memo_of(Emit *e, Expr x, uint32_t mode) {
    return &e->memo->e[(x.i * 2654435761u ^ mode * 40503u) % MEMO_SLOTS];
}

/* The low 32 bits of an i64 expression, as i32: sums and products need no more of their operands. */
static LVal emit_low(Emit *e, const Stage *s, Expr x, const Point *p) {
    enum { LOW = 3 };
    const ExprInfo i = *expr_info(e->c, x);
    const DType from = i.narg ? expr_info(e->c, i.arg[0])->dtype : i.dtype;
    if (i.kind == E_CAST && (from == DT_BOOL || (dt_is_int(from) && dt_bits(from) <= 32)))
        return cast_reg(e, emit_mode(e, s, i.arg[0], p, false), from, DT_I32);
    if (i.kind != E_OP || (i.op != S_ADD && i.op != S_SUB && i.op != S_MUL)) return as_i32(e, emit_mode(e, s, x, p, false));
    MemoEntry *m = memo_of(e, x, LOW);
    if (m->stamp == e->memo->stamp && m->expr == x.i && m->mode == LOW) return m->v;
    LVal a[2] = {emit_low(e, s, i.arg[0], p), emit_low(e, s, i.arg[1], p)};
    uint16_t w = lanes_of(e, a[0]) > lanes_of(e, a[1]) ? lanes_of(e, a[0]) : lanes_of(e, a[1]);
    for (int k = 0; k < 2; k++) a[k] = widen(e, a[k], w);
    LVal v = math_op(e->l, e->t, i.op, DT_I32, 2, a);
    *memo_of(e, x, LOW) = (MemoEntry){x.i, LOW, e->memo->stamp, v};
    return v;
}

/* scalar: at lane 0 only (addresses, invariants). */
static LVal emit_mode(Emit *e, const Stage *s, Expr x, const Point *p, bool scalar) {
    Point q;
    for (int k = 0; k < e->memo->nkept; k++)
        if (e->memo->kept[k].expr == x.i) return e->memo->kept[k].v;
    if (p->vaxis < 0) scalar = true;
    else if (!scalar && !expr_uses_axis(e->c, x, (uint32_t)p->vaxis)) {
        bool plain = true; /* an invariant expression is one scalar, unless its loads must see the lane mask or a register home */
        for (uint32_t k = 0; k < e->k->nbuf; k++) if (e->temp[k]) plain = false;
        scalar = plain;
    }
    if (scalar && p->vaxis >= 0) {
        q = scalar_point(p);
        p = &q;
    }
    uint32_t mode = scalar ? 1 : 2;
    MemoEntry *m = memo_of(e, x, mode);
    if (m->stamp == e->memo->stamp && m->expr == x.i && m->mode == mode) return m->v;
    LVal v = emit_node(e, s, x, p);
    *m = (MemoEntry){x.i, mode, e->memo->stamp, v};
    return v;
}

LVal emit_expr(Emit *e, const Stage *s, Expr x, const Point *p) { return as_typed(e, x, emit_mode(e, s, x, p, false)); }

LVal emit_vec(Emit *e, const Stage *s, Expr x, const Point *p) { return widen(e, emit_expr(e, s, x, p), p->lanes); }

/* ---- what a loop need not compute again ---- */

static void may_fail(void *data, const ExprInfo *load) { *(bool *)data |= load->oob == OOB_FAIL; }

static void keep(Emit *e, const Stage *s, Expr x, const Point *p, int axis, uint64_t written, uint8_t *seen) {
    struct EmitMemo *m = e->memo;
    const ExprInfo i = *expr_info(e->c, x);
    bool fails = false;
    if (seen[x.i] || (i.kind != E_OP && i.kind != E_CAST && i.kind != E_LOAD)) return;
    seen[x.i] = 1;
    if (expr_uses_axis(e->c, x, (uint32_t)axis)) {
        for (int k = 0; k < i.narg && i.kind != E_LOAD; k++) keep(e, s, i.arg[k], p, axis, written, seen);
        return;
    }
    expr_loads(e->c, x, may_fail, &fails);
    if (fails || expr_bufs(e->c, x) & written || m->nkept == MOST_KEPT) return;
    LVal v = emit_mode(e, s, x, p, true);
    m->kept[m->nkept++] = (MemoEntry){.expr = x.i, .v = v};
}

void emit_keep(Emit *e, const Stage *s, const Point *p, int axis, uint64_t written) {
    for (int r = 0; r < s->nres; r++) keep(e, s, s->body[r], p, axis, written, NEWN(e->c, uint8_t, s->body[r].i + 1));
}

void emit_forget(Emit *e) { e->memo->nkept = 0; }

/* ---- stores ---- */

LVal emit_to_acc(Emit *e, LVal v, DType from, DType acc) { return cast_reg(e, v, from, acc); }

void emit_store(Emit *e, const Stage *s, int r, LVal v, const Point *p) {
    const KOut *o = &s->out[r];
    const KBuf *b = &e->k->buf[o->buf];
    if (e->hold == o->buf + 1) {
        *e->held = v;
        return;
    }
    LVal ok = o->oob != OOB_NEVER ? bounds(e, s, b, o->rank, o->at, p, WHERE_ALL) : (LVal){0};
    if (o->oob == OOB_FAIL && ok.i) {
        CHECK(lanes_of(e, ok) == 1);
        lir_fail_if(e->l, lir_op1(e->l, S_NOT, ok), s->guard);
        ok = (LVal){0};
    }
    if (!e->ptr[o->buf].i) return; /* a result that nobody reads in memory */
    v = cast_reg(e, v, s->acc[r], b->dtype);
    if (narrow_float(b->dtype)) v = math_cast(e->l, e->t, v, DT_F32, b->dtype);
    int64_t step;
    LVal vec, base = emit_address(e, s, o->buf, o->rank, o->at, p, &step, &vec);
    if (p->vaxis < 0) {
        lir_store(e->l, e->ptr[o->buf], base, v, ok, known_align(e, mem_type(b->dtype), o->at, o->rank));
        return;
    }
    LVal mask = p->mask;
    if (step == 1 && !vec.i && e->streamed >> o->buf & 1) lir_stream_next(e->l);
    if (ok.i) mask = mask.i ? lir_op2(e->l, S_AND, widen(e, ok, p->lanes), mask) : widen(e, ok, p->lanes);
    v = widen(e, v, p->lanes);
    if (vec.i && lir_type(e->l, vec).dt == DT_I32) vec = lir_cast(e->l, vec, DT_I64);
    if (vec.i) lir_scatter(e->l, lir_ptr_add(e->l, e->ptr[o->buf], base, mem_type(b->dtype)), vec, v, mask);
    else if (step == 1) lir_store(e->l, e->ptr[o->buf], base, v, mask, known_align(e, mem_type(b->dtype), o->at, o->rank));
    else {
        LVal idx = lir_add(e->l, lir_splat(e->l, base, p->lanes),
                           lir_mul(e->l, lir_iota(e->l, DT_I64, p->lanes), lir_splat(e->l, lir_i64(e->l, step), p->lanes)));
        lir_scatter(e->l, e->ptr[o->buf], idx, v, mask);
    }
}

/* ---- epilogues: later stages on register values ---- */

LVal emit_held(Emit *e, void *data, const Expr *at, const Point *p) {
    (void)at; (void)p; /* the very point */
    const EmitHeld *h = data;
    return cast_reg(e, h->v, h->from, h->to);
}

LVal emit_combine(Emit *e, const Stage *s, int r, const LVal *acc, const LVal *nw) {
    typedef struct Frame { Expr e; LVal v; } Frame;
    Frame memo[64];
    int n = 0;
    /* The combiner is a small tree over 2n arguments: evaluate it bottom-up. */
    ExprInfo top = *expr_info(e->c, s->comb[r]);
    if (top.kind == E_ARG) return top.index < s->nres ? acc[top.index] : nw[top.index - s->nres];
    LVal arg[3] = {{0}};
    Stage part = *s;
    uint16_t w = 1;
    for (int k = 0; k < top.narg; k++) {
        for (int m = 0; m < n; m++) if (memo[m].e.i == top.arg[k].i) arg[k] = memo[m].v;
        if (!arg[k].i) {
            part.comb[r] = top.arg[k];
            arg[k] = expr_info(e->c, top.arg[k])->kind == E_CONST ? emit_const(e, expr_info(e->c, top.arg[k])->val) : emit_combine(e, &part, r, acc, nw);
            if (n < 64) memo[n++] = (Frame){top.arg[k], arg[k]};
        }
        if (lanes_of(e, arg[k]) > w) w = lanes_of(e, arg[k]);
    }
    for (int k = 0; k < top.narg; k++) arg[k] = widen(e, arg[k], w);
    if (top.kind == E_CAST) return cast_reg(e, arg[0], expr_info(e->c, top.arg[0])->dtype, top.dtype);
    CHECK(top.kind == E_OP);
    DType ot = expr_info(e->c, top.arg[top.op == S_SELECT ? 1 : 0])->dtype;
    return round_to(e, math_op(e->l, e->t, top.op, reg_type(ot), top.narg, arg), top.dtype);
}

static bool sums(const Emit *e, const Stage *s) {
    if (s->nres != 1 || (s->acc[0] != DT_F32 && s->acc[0] != DT_F64)) return false;
    const ExprInfo *i = expr_info(e->c, s->comb[0]);
    return i->kind == E_OP && i->op == S_ADD && expr_info(e->c, i->arg[0])->kind == E_ARG && expr_info(e->c, i->arg[1])->kind == E_ARG;
}

/* Is the body a load that gives the neutral element where it is out of range? Nothing happens to the accumulator there. */
static bool neutral_outside(const Emit *e, const Stage *s, const ExprInfo *body) {
    if (s->nres != 1 || body->kind != E_LOAD || body->oob != OOB_VALUE || body->dtype != s->acc[0] || e->temp[body->index]) return false;
    const ExprInfo *pad = expr_info(e->c, body->arg[body->narg - 1]);
    return pad->kind == E_CONST && pad->val.t == s->init[0].t && pad->val.i == s->init[0].i;
}

/* (max(x, 0) + by - 1) / by */
static LVal ceil_div(Emit *e, LVal x, int64_t by) {
    LVal v = lir_op2(e->l, S_MAX, x, lir_i64(e->l, 0));
    return by == 1 ? v : lir_op2(e->l, S_DIV, lir_addi(e->l, v, by - 1), lir_i64(e->l, by));
}

bool emit_inside(Emit *e, const Stage *s, int axis, Point *p, LVal *lo, LVal *hi) {
    const ExprInfo body = *expr_info(e->c, s->body[0]);
    uint32_t before = p->inside;
    if (!neutral_outside(e, s, &body)) return false;
    const KBuf *b = &e->k->buf[body.index];
    Point first = scalar_point(p);
    first.axis[axis] = lir_i64(e->l, 0);
    emit_memo_reset(e);
    for (int d = 0; d < b->rank; d++) {
        Expr coef[K_AXES], rest;
        bool alone = expr_uses_axis(e->c, body.arg[d], (uint32_t)axis) && !always_inside(e, s, b, body.arg[d], d);
        for (int a = 0; a < s->naxis; a++)
            if ((a == p->vaxis || (s->axis[a].kind == AX_RED && a != axis)) && expr_uses_axis(e->c, body.arg[d], (uint32_t)a)) alone = false;
        if (!alone || !expr_affine(e->c, body.arg[d], s->naxis, coef, &rest) || !coef[axis].i) continue;
        const ExprInfo by = *expr_info(e->c, coef[axis]);
        if (by.kind != E_CONST || by.val.i < 1) continue;
        LVal from = emit_expr(e, s, body.arg[d], &first), below = lir_op1(e->l, S_NEG, from);
        *lo = lir_op2(e->l, S_MAX, *lo, ceil_div(e, below, by.val.i));
        *hi = lir_op2(e->l, S_MIN, *hi, ceil_div(e, lir_add(e->l, emit_dim(e, b->dim[d]), below), by.val.i));
        p->inside |= 1u << d;
    }
    emit_memo_reset(e);
    return p->inside != before;
}

void emit_accumulate(Emit *e, const Stage *s, LVal *acc, const Point *p) {
    emit_memo_reset(e);
    ExprInfo body = *expr_info(e->c, s->body[0]);
    if (neutral_outside(e, s, &body)) {
        LVal point = bounds(e, s, &e->k->buf[body.index], e->k->buf[body.index].rank, body.arg, p, WHERE_POINT);
        LIf some;
        if (point.i) some = lir_if(e->l, point, 1);
        LVal inside, v = emit_load(e, s, &body, p, &inside), sum = emit_combine(e, s, 0, acc, &v);
        uint16_t w = lanes_of(e, acc[0]);
        if (inside.i) sum = lir_op3(e->l, S_SELECT, widen(e, inside, w), sum, acc[0]);
        if (point.i) {
            lir_else(e->l, &some, &sum);
            lir_endif(e->l, &some, acc, &sum);
            emit_memo_reset(e); /* what was made inside is not known outside */
        }
        acc[0] = sum;
        return;
    }
    if (sums(e, s) && body.kind == E_OP && body.op == S_MUL && body.dtype == s->acc[0]) {
        uint16_t w = lanes_of(e, acc[0]);
        LVal a = widen(e, emit_expr(e, s, body.arg[0], p), w), b = widen(e, emit_expr(e, s, body.arg[1], p), w);
        acc[0] = lir_fma(e->l, a, b, acc[0]);
        return;
    }
    LVal nw[K_RES], out[K_RES];
    for (int r = 0; r < s->nres; r++) {
        LVal v = p->lanes > 1 ? emit_vec(e, s, s->body[r], p) : emit_expr(e, s, s->body[r], p);
        nw[r] = cast_reg(e, v, expr_info(e->c, s->body[r])->dtype, s->acc[r]);
    }
    for (int r = 0; r < s->nres; r++) out[r] = emit_combine(e, s, r, acc, nw);
    for (int r = 0; r < s->nres; r++) acc[r] = out[r];
}

LVal emit_initial(Emit *e, const Stage *s, int r, uint16_t lanes) {
    return lir_splat(e->l, emit_const(e, (Scalar){.t = s->acc[r], .i = s->init[r].i}), lanes);
}

void emit_parallel_point(const Stage *s, const Point *p, Point *out) {
    int np = 0;
    *out = *p;
    out->vaxis = -1;
    for (int a = 0; a < s->naxis; a++) {
        if (s->axis[a].kind != AX_PAR) continue;
        if (a == p->vaxis) out->vaxis = (int8_t)np;
        out->axis[np++] = p->axis[a];
    }
}

LVal emit_hreduce(Emit *e, const Stage *s, LVal v) {
    uint16_t n = lanes_of(e, v);
    int16_t idx[64];
    while (n > 1) {
        n /= 2;
        LVal half[2];
        for (int h = 0; h < 2; h++) {
            for (int i = 0; i < n; i++) idx[i] = (int16_t)(i + h * n);
            half[h] = lir_shuffle(e->l, v, v, n, idx);
        }
        v = emit_combine(e, s, 0, &half[0], &half[1]);
    }
    return lir_type(e->l, v).lanes == 1 ? v : lir_extract(e->l, v, 0);
}

void emit_epilogue(Emit *e, int of, const LVal *acc, const Point *p) {
    const Stage *a = &e->k->stage[of];
    uint64_t mask = epilogue_mask(e->k, of);
    EmitHeld held[K_RES], later[32];
    int n = 0;
    emit_memo_reset(e); /* a new point */
    Point own = *p; /* the root's results are indexed by all of its axes */
    own.vaxis = -1;
    for (int x = 0, np = 0; x < a->naxis; x++) {
        if (a->axis[x].kind != AX_PAR) continue;
        if (np == p->vaxis) own.vaxis = (int8_t)x;
        own.axis[x] = p->axis[np++];
    }
    for (int r = 0; r < a->nres; r++) {
        uint16_t b = a->out[r].buf;
        emit_store(e, a, r, acc[r], &own);
        held[r] = (EmitHeld){acc[r], a->acc[r], e->k->buf[b].dtype};
        e->temp[b] = emit_held;
        e->temp_data[b] = &held[r];
    }
    emit_memo_reset(e);
    for (int st = of + 1; st < e->k->nstage; st++) {
        const Stage *s = &e->k->stage[st];
        if (!(mask >> st & 1)) continue;
        for (int r = 0; r < s->nres; r++) {
            LVal v = cast_reg(e, emit_vec(e, s, s->body[r], p), expr_info(e->c, s->body[r])->dtype, s->acc[r]);
            uint16_t b = s->out[r].buf;
            emit_store(e, s, r, v, p);
            CHECK(n < 32);
            later[n] = (EmitHeld){v, s->acc[r], e->k->buf[b].dtype};
            e->temp[b] = emit_held;
            e->temp_data[b] = &later[n++];
        }
    }
    for (int r = 0; r < a->nres; r++) e->temp[a->out[r].buf] = NULL;
    for (int st = of + 1; st < e->k->nstage; st++)
        if (mask >> st & 1)
            for (int r = 0; r < e->k->stage[st].nres; r++) e->temp[e->k->stage[st].out[r].buf] = NULL;
    emit_memo_reset(e);
}

static void affine_of(Ctx *c, Dim offset, Affine *out) {
    memset(out, 0, sizeof *out);
    for (int a = 0; a < K_AXES; a++) out->coef[a] = dim_const(c, 0);
    out->rest = expr_dim(c, offset);
}

static bool add_index(Ctx *c, const Stage *s, Expr x, Dim stride, Affine *out) {
    Expr coef[K_AXES] = {{0}}, rest;
    if (!expr_affine(c, x, s->naxis, coef, &rest)) return false;
    for (int a = 0; a < s->naxis; a++) {
        if (!coef[a].i) continue;
        const ExprInfo *i = expr_info(c, coef[a]);
        Dim f;
        if (i->kind == E_CONST) f = dim_const(c, i->val.i);
        else if (i->kind == E_DIM) f = (Dim){i->index};
        else return false;
        out->coef[a] = dim_add(c, out->coef[a], dim_mul(c, f, stride));
        out->has[a] = !dim_is(c, out->coef[a], 0);
    }
    out->rest = expr_op(c, S_ADD, out->rest, expr_op(c, S_MUL, rest, expr_dim(c, stride), (Expr){0}), (Expr){0});
    return true;
}

bool index_affine(const Kernel *k, const Stage *s, Expr x, Affine *out) {
    affine_of(k->c, dim_const(k->c, 0), out);
    return add_index(k->c, s, x, dim_const(k->c, 1), out);
}

bool access_affine(const Kernel *k, const Stage *s, uint16_t buf, int rank, const Expr *at, Affine *out) {
    affine_of(k->c, k->buf[buf].offset, out);
    for (int d = 0; d < rank; d++) {
        Dim stride = k->buf[buf].stride[d];
        if (!dim_is(k->c, stride, 0) && !add_index(k->c, s, at[d], stride, out)) return false;
    }
    return true;
}
