/* emit.c: the hooks through which templates evaluate stage bodies. In: a Kernel stage, an expression and a Point; out: Lir. Values are in registers
 * (emit_value.c); loads and stores are emit_memory.c, sums and epilogues emit_reduce.c.
 *
 * A vector Point varies along one axis. An expression that does not use that axis is emitted as a scalar. */
#include <math.h>
#include <string.h>

#include "emit_value.h"

enum { MEMO_SLOTS = 4096, MOST_KEPT = 32 };
enum { ONE = 1, LANES, LOW }; /* modes: a scalar, a vector, the low 32 bits of one */
typedef struct MemoEntry { uint32_t expr, mode, stamp; LVal v; } MemoEntry;
struct EmitMemo { MemoEntry e[MEMO_SLOTS], kept[MOST_KEPT]; uint32_t stamp; int nkept; };

void emit_memo_new(Emit *e) {
    e->memo = NEW(e->c, struct EmitMemo);
    e->memo->stamp = 1;
}

void emit_begin(Emit *e) {
    emit_memo_new(e);
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

void emit_instead(Emit *e, int buf, const ConstData *data) {
    KernelCode *code = e->code;
    if (!code->data) code->data = NEWN(e->c, const ConstData *, K_BUFS);
    for (uint32_t a = 0; a < code->nbuf; a++)
        if (code->buf[a].i == e->k->buf[buf].val.i) code->data[a] = data;
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

/* ---- vectors of indices: i64 by type, computed as i32 where every value on the way provably fits ---- */

bool emit_fits_i32(const Emit *e, const Stage *s, Expr x) {
    Dim extent[K_AXES];
    int64_t lo, hi;
    stage_extents(s, extent);
    return expr_range(e->c, x, extent, s->naxis, &lo, &hi) && lo >= INT32_MIN && hi <= INT32_MAX;
}

LVal emit_as_i32(Emit *e, LVal v) { return lir_type(e->l, v).dt == DT_I64 ? lir_cast(e->l, v, DT_I32) : v; }

LVal emit_typed(Emit *e, Expr x, LVal v) {
    return expr_info(e->c, x)->dtype == DT_I64 && lir_type(e->l, v).dt == DT_I32 ? lir_cast(e->l, v, DT_I64) : v;
}

Point emit_scalar_point(const Point *p) {
    Point q = *p;
    q.vaxis = -1;
    q.lanes = 1;
    q.mask = (LVal){0};
    return q;
}

/* ---- expressions ---- */

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
    enum { ENTRIES = 16 };
    Expr bits;
    Scalar entry[ENTRIES];
    int16_t lane[ENTRIES], both[2 * ENTRIES];
    if (p->vaxis < 0 || p->lanes % ENTRIES || p->lanes > 2 * ENTRIES || !emit_is_table(e, x, &bits, entry)) return (LVal){0};
    LVal table = lir_table(e->l, DT_F32, ENTRIES, entry), at = reg_widen(e, emit_mode(e, s, bits, p, false), p->lanes), part[2];
    if (p->lanes == ENTRIES) return lir_permute_var(e->l, table, at);
    for (int h = 0; h < 2; h++) {
        for (int i = 0; i < ENTRIES; i++) lane[i] = both[i + h * ENTRIES] = (int16_t)(i + h * ENTRIES);
        part[h] = lir_permute_var(e->l, table, lir_shuffle(e->l, at, at, ENTRIES, lane));
    }
    return lir_shuffle(e->l, part[0], part[1], 2 * ENTRIES, both);
}

/* The value within i32 that is nearest to scalar v. */
static LVal within_i32(Emit *e, LVal v) {
    return lir_op2(e->l, S_MIN, lir_op2(e->l, S_MAX, v, lir_i64(e->l, INT32_MIN)), lir_i64(e->l, INT32_MAX));
}

static LVal emit_node(Emit *e, const Stage *s, Expr x, const Point *p) {
    ExprInfo i = *expr_info(e->c, x); /* a copy: emission may intern expressions */
    LVal looked_up = emit_table(e, s, x, p);
    if (looked_up.i) return looked_up;
    switch ((ExprKind)i.kind) {
    case E_CONST: return reg_const(e, i.val);
    case E_DIM: return emit_dim(e, (Dim){i.index});
    case E_AXIS:
        if ((int)i.index == p->vaxis && emit_fits_i32(e, s, x))
            return lir_add(e->l, lir_splat(e->l, emit_as_i32(e, p->axis[i.index]), p->lanes), lir_iota(e->l, DT_I32, p->lanes));
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
        if (reg_lanes(e, v) > 1 && i.dtype == DT_I64 && emit_fits_i32(e, s, x)) return reg_cast(e, v, from, DT_I32);
        return reg_cast(e, v, from, i.dtype);
    }
    case E_BITCAST: {
        DType from = expr_info(e->c, i.arg[0])->dtype;
        LVal v = emit_typed(e, i.arg[0], emit_mode(e, s, i.arg[0], p, false));
        v = reg_to_memory(e, v, from);
        if (from == DT_BOOL) v = math_cast(e->l, e->t, v, from, DT_U8); /* a byte, 0 or 1 */
        return reg_from_memory(e, lir_bitcast(e->l, v, i.dtype), i.dtype);
    }
    case E_OP: {
        LVal a[3];
        uint16_t w = 1;
        for (int k = 0; k < i.narg; k++) {
            a[k] = emit_mode(e, s, i.arg[k], p, false);
            if (reg_lanes(e, a[k]) > w) w = reg_lanes(e, a[k]);
        }
        int first = i.op == S_SELECT;
        DType ot = expr_info(e->c, i.arg[first])->dtype;
        if (ot == DT_I64) {
            bool narrow = w > 1 && (i.dtype != DT_I64 || emit_fits_i32(e, s, x));
            const bool bound = i.op == S_MIN || i.op == S_MAX; /* beyond what the result may be, it does not matter where */
            for (int k = first; k < i.narg && narrow; k++) narrow = emit_fits_i32(e, s, i.arg[k]) || (bound && reg_lanes(e, a[k]) == 1);
            for (int k = first; k < i.narg; k++) {
                if (narrow && bound && reg_lanes(e, a[k]) == 1) a[k] = within_i32(e, emit_typed(e, i.arg[k], a[k]));
                a[k] = narrow ? emit_as_i32(e, a[k]) : emit_typed(e, i.arg[k], a[k]);
            }
            if (narrow) ot = DT_I32;
        }
        for (int k = 0; k < i.narg; k++) a[k] = reg_widen(e, a[k], w);
        if (ot == DT_STR && i.op != S_SELECT) {
            LVal same = lir_streq(e->l, a[0], a[1]);
            return i.op == S_NE ? lir_op1(e->l, S_NOT, same) : same;
        }
        return reg_round(e, math_op(e->l, e->t, i.op, reg_type(ot), i.narg, a), i.dtype);
    }
    case E_NONE: /* of a size whose expression is too large: that has been said */
        if (ctx_errors(e->c)) ctx_fatal(e->c, "kernel %s: no code without that size", e->k->name);
        break;
    case E_ARG: break;
    }
    ICE("kernel %s: an expression of kind %d cannot be emitted", e->k->name, i.kind);
}

static MemoEntry *memo_of(Emit *e, Expr x, uint32_t mode) {
    return &e->memo->e[(x.i * 2654435761u ^ mode * 40503u) % MEMO_SLOTS];
}

/* Sums and products need no more of their operands. */
LVal emit_low(Emit *e, const Stage *s, Expr x, const Point *p) {
    for (int k = 0; k < e->memo->nkept; k++)
        if (e->memo->kept[k].expr == x.i) return emit_as_i32(e, e->memo->kept[k].v);
    const ExprInfo i = *expr_info(e->c, x);
    const DType from = i.narg ? expr_info(e->c, i.arg[0])->dtype : i.dtype;
    if (i.kind == E_CAST && (from == DT_BOOL || (dt_is_int(from) && dt_bits(from) <= 32)))
        return reg_cast(e, emit_mode(e, s, i.arg[0], p, false), from, DT_I32);
    if (i.kind != E_OP || (i.op != S_ADD && i.op != S_SUB && i.op != S_MUL)) return emit_as_i32(e, emit_mode(e, s, x, p, false));
    MemoEntry *m = memo_of(e, x, LOW);
    if (m->stamp == e->memo->stamp && m->expr == x.i && m->mode == LOW) return m->v;
    LVal a[2] = {emit_low(e, s, i.arg[0], p), emit_low(e, s, i.arg[1], p)};
    uint16_t w = reg_lanes(e, a[0]) > reg_lanes(e, a[1]) ? reg_lanes(e, a[0]) : reg_lanes(e, a[1]);
    for (int k = 0; k < 2; k++) a[k] = reg_widen(e, a[k], w);
    LVal v = math_op(e->l, e->t, i.op, DT_I32, 2, a);
    *memo_of(e, x, LOW) = (MemoEntry){x.i, LOW, e->memo->stamp, v};
    return v;
}

LVal emit_mode(Emit *e, const Stage *s, Expr x, const Point *p, bool scalar) {
    Point q;
    if (p->vaxis < 0) scalar = true;
    else if (!scalar && !expr_uses_axis(e->c, x, (uint32_t)p->vaxis)) {
        bool plain = true; /* an invariant expression is one scalar, unless its loads must see the lane mask or a register home */
        for (uint32_t k = 0; k < e->k->nbuf; k++) if (e->temp[k]) plain = false;
        scalar = plain;
    }
    for (int k = 0; k < e->memo->nkept; k++)
        if (e->memo->kept[k].expr == x.i && !(scalar && e->memo->kept[k].mode == LANES)) return e->memo->kept[k].v;
    if (scalar && p->vaxis >= 0) {
        q = emit_scalar_point(p);
        p = &q;
    }
    uint32_t mode = scalar ? ONE : LANES;
    MemoEntry *m = memo_of(e, x, mode);
    if (m->stamp == e->memo->stamp && m->expr == x.i && m->mode == mode) return m->v;
    LVal v = emit_node(e, s, x, p);
    *m = (MemoEntry){x.i, mode, e->memo->stamp, v};
    return v;
}

LVal emit_expr(Emit *e, const Stage *s, Expr x, const Point *p) { return emit_typed(e, x, emit_mode(e, s, x, p, false)); }

LVal emit_vec(Emit *e, const Stage *s, Expr x, const Point *p) { return reg_widen(e, emit_expr(e, s, x, p), p->lanes); }

/* ---- what a loop need not compute again ---- */

static void may_fail(void *data, const ExprInfo *load) { *(bool *)data |= load->oob == OOB_FAIL; }

/* seen: by expressions of the body, below nseen; offsets are newer */
typedef struct Keep { Emit *e; const Stage *s; const Point *p; int axis; uint64_t written; uint8_t *seen; uint32_t nseen; } Keep;

static void keep(const Keep *w, Expr x);

static void keep_indices(const Keep *w, const ExprInfo *load) {
    Expr at[MAX_RANK], offset;
    if (w->axis == w->p->vaxis) {
        emit_load_offsets(w->e, w->s, load, w->axis, &offset);
        keep(w, offset);
        return;
    }
    emit_load_at(w->e, w->s, load, at);
    for (int d = 0; d < w->e->k->buf[load->index].rank; d++) keep(w, at[d]);
    if (load->oob == OOB_VALUE) keep(w, load->arg[load->narg - 1]);
}

static void keep(const Keep *w, Expr x) {
    Emit *e = w->e;
    struct EmitMemo *m = e->memo;
    const ExprInfo i = *expr_info(e->c, x);
    bool fails = false;
    if ((x.i < w->nseen && w->seen[x.i]) || (i.kind != E_OP && i.kind != E_CAST && i.kind != E_LOAD)) return;
    if (x.i < w->nseen) w->seen[x.i] = 1;
    if (expr_uses_axis(e->c, x, (uint32_t)w->axis)) {
        for (int k = 0; k < i.narg && i.kind != E_LOAD; k++) keep(w, i.arg[k]);
        if (i.kind == E_LOAD && !e->temp[i.index]) keep_indices(w, &i);
        return;
    }
    for (int k = 0; k < m->nkept; k++) if (m->kept[k].expr == x.i) return;
    expr_loads(e->c, x, may_fail, &fails);
    if (fails || expr_bufs(e->c, x) & w->written || m->nkept == MOST_KEPT) return;
    const bool one = w->p->vaxis < 0 || !expr_uses_axis(e->c, x, (uint32_t)w->p->vaxis);
    LVal v = emit_mode(e, w->s, x, w->p, one);
    m->kept[m->nkept++] = (MemoEntry){.expr = x.i, .mode = one ? ONE : LANES, .v = v};
}

void emit_keep(Emit *e, const Stage *s, const Point *p, int axis, uint64_t written) {
    for (int r = 0; r < s->nres; r++) {
        const uint32_t n = s->body[r].i + 1;
        const Keep w = {e, s, p, axis, written, NEWN(e->c, uint8_t, n), n};
        keep(&w, s->body[r]);
        keep(&w, emit_store_offset(e, &s->out[r]));
    }
}

typedef struct Columns { Emit *e; const Stage *s; const Point *p; int row; } Columns;

static void find_near(void *data, const ExprInfo *x) {
    const Columns *w = data;
    const KBuf *b = &w->e->k->buf[x->index];
    const int v = w->p->vaxis;
    Expr at[MAX_RANK];
    bool row = false;
    emit_load_at(w->e, w->s, x, at);
    for (int d = 0; d < b->rank; d++) row |= expr_uses_axis(w->e->c, at[d], (uint32_t)v) && expr_uses_axis(w->e->c, at[d], (uint32_t)w->row);
    if (row || w->e->temp[x->index]) return;
    LVal ok = {0};
    if (x->oob == OOB_VALUE || x->oob == OOB_FAIL) ok = emit_bounds(w->e, w->s, b, b->rank, at, w->p, WHERE_LANES);
    if (x->oob == OOB_CLAMP) ok = emit_has_elements(w->e, w->s, b, w->p);
    if (x->oob == OOB_FAIL) ok = (LVal){0};
    const Near near = emit_near(w->e, w->s, (uint16_t)x->index, at, x->oob == OOB_VALUE ? (LVal){0} : ok, w->p);
    if (!near.parts || x->oob == OOB_VALUE) emit_apart(w->e, w->s, (uint16_t)x->index, at, ok, w->p);
}

/* What is found here is found again in the loop, where equal values are one. */
void emit_keep_columns(Emit *e, const Stage *s, const Point *p, int row) {
    Columns w = {e, s, p, row};
    emit_memo_reset(e);
    emit_keep(e, s, p, row, 0);
    for (int r = 0; r < s->nres && p->vaxis >= 0; r++) expr_loads(e->c, s->body[r], find_near, &w);
    emit_memo_reset(e);
}

void emit_forget(Emit *e) { e->memo->nkept = 0; }

int emit_kept(Emit *e, int n) {
    int before = e->memo->nkept;
    e->memo->nkept = n;
    return before;
}
