/* eval_map.c: map, reduce and scan.
 *
 * All three run a tape over strips: map over its domain, reduce over the kept elements with the
 * reduced ones as an outer loop in row-major order, scan over the lanes beside its axis. Float
 * accumulators are doubles that are rounded once at the end. */
#include "eval_internal.h"
#include <stdlib.h>
#include <string.h>

/* Strides of v along a box of that rank to which it is broadcast, right-aligned. */
static bool broadcast_strides(Ev *e, const EVal *v, int rank, const int64_t *dim, int64_t *stride) {
    if (v->rank > rank)
        return ev_fail(e, "E0805", "an operand of rank %d in a domain of rank %d", v->rank, rank);
    for (int d = 0; d < rank; d++) {
        int o = d - (rank - v->rank);
        stride[d] = o >= 0 && v->dim[o] != 1 ? v->stride[o] : 0;
        if (o >= 0 && v->dim[o] != 1 && v->dim[o] != dim[d]) {
            return ev_fail(e, "E0802", "axis %d of an operand has size %lld, expected %lld or 1", o,
                           (long long)v->dim[o], (long long)dim[d]);
        }
    }
    return true;
}

static bool all_tensors(Ev *e, const Node *n, EVal *const *in) {
    for (unsigned k = 0; k < n->nin; k++) {
        if (in[k]->kind != TY_TENSOR) return ev_fail(e, "E0805", "operand %u is no tensor", k);
    }
    return true;
}

bool ev_map(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const MapAttr *a = n->attr;
    int64_t dim[MAX_RANK];
    DType *type = ev_tmp(e, n->nin, sizeof *type);
    Tape t = {0};
    Walk w = {0};
    bool ok = type && all_tensors(e, n, in);
    for (int d = 0; ok && d < a->rank; d++) ok = ev_dim(e, a->dim[d], &dim[d]);
    for (unsigned k = 0; ok && k < n->nin; k++) type[k] = in[k]->dtype;
    ok = ok && tape_build(e, &t, n->nout, a->body, n->nin, type, false) &&
         walk_init(e, &w, a->rank, dim, n->nin + a->rank);
    for (unsigned k = 0; ok && k < n->nin; k++) {
        if (t.arg[k] >= 0) ok = broadcast_strides(e, in[k], a->rank, dim, w.stride[k]);
    }
    for (unsigned r = 0; ok && r < n->nout; r++) {
        ok = (out[r] = ev_new(e, (DType)expr_info(e->c, a->body[r])->dtype, a->rank, dim)) != NULL;
    }
    if (ok) {
        /* A used coordinate is an operand whose "address" is its value. */
        for (int d = 0; d < a->rank; d++) w.stride[n->nin + d][d] = t.axis[d] >= 0;
        for (int d = a->rank; d < MAX_RANK; d++) {
            if (t.axis[d] >= 0)
                ok = ev_fail(e, "E0801", "an expression uses axis %d of %d", d, a->rank);
        }
        walk_merge(&w);
    }
    for (int64_t pos = 0; ok && pos < w.total; pos += t.len) {
        int len = w.total - pos < t.len ? (int)(w.total - pos) : t.len;
        for (unsigned k = 0; k < n->nin; k++) {
            if (t.arg[k] >= 0)
                walk_load(&w, (int)k, in[k]->dtype, in[k]->base, pos, len, tape_slot(&t, t.arg[k]));
        }
        for (int d = 0; d < a->rank; d++) {
            if (t.axis[d] >= 0) walk_offsets(&w, n->nin + d, pos, len, tape_slot(&t, t.axis[d]));
        }
        ok = ev_spend(e, (int64_t)len * (t.nins + 1)) && tape_run(e, &t, len, in);
        for (unsigned r = 0; ok && r < n->nout; r++) {
            char *p = out[r]->base + pos * ev_width(out[r]->dtype);
            cells_store(out[r]->dtype, p, 1, tape_slot(&t, t.res[r]), len);
        }
    }
    walk_free(&w);
    tape_free(&t);
    free(type);
    return ok;
}

/* ==== combining ============================================================================== */

/* acc = comb(acc, x) over strips of `n` results at once. */
typedef struct Comb {
    uint32_t n;                 /* operands and results */
    const DType *acc;
    SOp simple;                 /* one result acc OP x with OP commutative; S_NONE: run the tape */
    Tape t;
} Comb;

static SOp simple_op(const Ctx *c, uint32_t n, const Expr *comb) {
    const ExprInfo *i = expr_info(c, comb[0]);
    if (n != 1 || i->kind != E_OP || i->narg != 2) return S_NONE;
    if (i->op != S_ADD && i->op != S_MUL && i->op != S_MAX && i->op != S_MIN) return S_NONE;
    const ExprInfo *x = expr_info(c, i->arg[0]), *y = expr_info(c, i->arg[1]);
    bool args = x->kind == E_ARG && y->kind == E_ARG && x->index + y->index == 1;
    return args && (dt_is_float((DType)i->dtype) || dt_is_signed((DType)i->dtype)) ? (SOp)i->op
                                                                                   : S_NONE;
}

static bool comb_open(Ev *e, Comb *k, uint32_t n, const Expr *comb, const DType *acc) {
    *k = (Comb){.n = n, .acc = acc, .simple = simple_op(e->c, n, comb)};
    DType *type = ev_tmp(e, 2 * (int64_t)n, sizeof *type);
    if (!type) return false;
    for (uint32_t r = 0; r < 2 * n; r++) type[r] = acc[r % n];
    bool ok = tape_build(e, &k->t, n, comb, 2 * n, type, true);
    free(type);
    for (uint32_t r = 0; ok && r < n; r++) {
        if (expr_info(e->c, comb[r])->dtype != acc[r])
            ok = ev_fail(e, "E0805", "result %u of the combiner", r);
    }
    return ok;
}

static void comb_close(Comb *k) { tape_free(&k->t); }

#define COMB(F, I)                                                                       \
    if (fl) for (int i = 0; i < len; i++) { double p = acc[i].f, q = x[i].f; acc[i].f = (F); } \
    else for (int i = 0; i < len; i++) { int64_t p = acc[i].i, q = x[i].i; acc[i].i = (I); } \
    break;
static void comb_simple(SOp op, bool fl, Cell *acc, const Cell *x, int len) {
    switch (op) {
    case S_ADD: COMB(p + q, (int64_t)((uint64_t)p + (uint64_t)q))
    case S_MUL: COMB(p * q, (int64_t)((uint64_t)p * (uint64_t)q))
    case S_MAX: COMB(cell_max(p, q), p > q ? p : q)
    default: COMB(cell_min(p, q), p < q ? p : q)
    }
}

/* acc and x: one strip of `len` cells per operand, `pitch` cells apart. */
static bool comb_run(Ev *e, Comb *k, Cell *acc, const Cell *x, int64_t pitch, int len) {
    if (k->simple) {
        bool fl = dt_is_float(k->acc[0]);
        comb_simple(k->simple, fl, acc, x, len);
        if (!fl) cells_round(k->acc[0], acc, len);
        return true;
    }
    const Tape *t = &k->t;
    size_t bytes = sizeof(Cell) * (size_t)len;
    for (uint32_t r = 0; r < k->n; r++) {
        if (t->arg[r] >= 0) memcpy(tape_slot(t, t->arg[r]), acc + r * pitch, bytes);
        if (t->arg[k->n + r] >= 0) memcpy(tape_slot(t, t->arg[k->n + r]), x + r * pitch, bytes);
    }
    if (!tape_run(e, t, len, NULL)) return false;
    for (uint32_t r = 0; r < k->n; r++) memcpy(acc + r * pitch, tape_slot(t, t->res[r]), bytes);
    return true;
}

static void load_acc(const Walk *w, int op, const EVal *v, int64_t off, DType acc, int64_t pos,
                     int64_t n, Cell *d) {
    walk_load(w, op, v->dtype, v->base + off * ev_width(v->dtype), pos, n, d);
    cells_cast(v->dtype, acc, d, d, n);
}

static void fill_init(Cell *acc, DType t, Scalar init, int len) {
    Cell v = cell_of(dt_convert(init, t));
    for (int i = 0; i < len; i++) acc[i] = v;
}

/* To the operand's type, through the accumulator's. */
static void finish(DType acc, DType to, Cell *d, const Cell *s, int len) {
    memmove(d, s, sizeof *d * (size_t)len);
    cells_round(acc, d, len);
    cells_cast(acc, to, d, d, len);
}

/* ==== reduce ================================================================================= */

static double fold_f(SOp op, double a, const Cell *x, int64_t n) {
    switch (op) {
    case S_ADD: for (int64_t i = 0; i < n; i++) a += x[i].f; break;
    case S_MUL: for (int64_t i = 0; i < n; i++) a *= x[i].f; break;
    case S_MAX: for (int64_t i = 0; i < n; i++) a = cell_max(a, x[i].f); break;
    default: for (int64_t i = 0; i < n; i++) a = cell_min(a, x[i].f); break;
    }
    return a;
}

/* One result at a time, its elements in strips: for rows that lie together. Same order, same sums.
 */
static bool reduce_rows(Ev *e, const ReduceAttr *a, Comb *k, const EVal *v, const Walk *keep,
                        const Walk *red, EVal *out) {
    int cap = k->t.len;
    Cell *x = ev_tmp(e, cap, sizeof *x);
    bool ok = x != NULL;
    for (int64_t pos = 0; ok && pos < keep->total; pos++) {
        Cell off, acc = cell_of(dt_convert(a->init[0], a->acc[0]));
        walk_offsets(keep, 0, pos, 1, &off);
        for (int64_t r = 0; r < red->total; r += cap) {
            int64_t len = red->total - r < cap ? red->total - r : cap;
            load_acc(red, 0, v, off.i, a->acc[0], r, len, x);
            acc.f = fold_f(k->simple, acc.f, x, len);
        }
        finish(a->acc[0], out->dtype, &acc, &acc, 1);
        cells_store(out->dtype, out->base + pos * ev_width(out->dtype), 1, &acc, 1);
        ok = ev_spend(e, red->total);
    }
    free(x);
    return ok;
}

static bool reduce_strips(Ev *e, const ReduceAttr *a, Comb *k, EVal *const *in, const Walk *keep,
                          const Walk *red, EVal **out) {
    int cap = k->t.len;
    Cell *acc = ev_tmp(e, (int64_t)k->n * cap * 2, sizeof *acc),
         *x = acc + (size_t)k->n * (size_t)cap;
    bool ok = acc != NULL;
    for (int64_t pos = 0; ok && pos < keep->total; pos += cap) {
        int len = keep->total - pos < cap ? (int)(keep->total - pos) : cap;
        for (uint32_t r = 0; r < k->n; r++)
            fill_init(acc + r * (size_t)cap, a->acc[r], a->init[r], len);
        for (int64_t p = 0; ok && p < red->total; p++) {
            for (uint32_t r = 0; r < k->n; r++) {
                Cell off;
                walk_offsets(red, (int)r, p, 1, &off);
                load_acc(keep, (int)r, in[r], off.i, a->acc[r], pos, len, x + r * (size_t)cap);
            }
            ok = comb_run(e, k, acc, x, cap, len) && ev_spend(e, (int64_t)len * (k->t.nins + 1));
        }
        for (uint32_t r = 0; ok && r < k->n; r++) {
            finish(a->acc[r], out[r]->dtype, x, acc + r * (size_t)cap, len);
            cells_store(out[r]->dtype, out[r]->base + pos * ev_width(out[r]->dtype), 1, x, len);
        }
    }
    free(acc);
    return ok;
}

static bool same_dims(Ev *e, const Node *n, EVal *const *in) {
    if (!all_tensors(e, n, in)) return false;
    for (unsigned k = 1; k < n->nin; k++) {
        bool same = in[k]->rank == in[0]->rank;
        for (int d = 0; same && d < in[0]->rank; d++) same = in[k]->dim[d] == in[0]->dim[d];
        if (!same) return ev_fail(e, "E0802", "operands %u and 0 differ in shape", k);
    }
    return true;
}

bool ev_reduce(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const ReduceAttr *a = n->attr;
    if (!same_dims(e, n, in)) return false;
    const EVal *v = in[0];
    int64_t kdim[MAX_RANK], rdim[MAX_RANK], odim[MAX_RANK];
    int kaxis[MAX_RANK], raxis[MAX_RANK], nk = 0, nr = 0, no = 0;
    for (int d = 0; d < v->rank; d++) {
        bool r = a->axes >> d & 1;
        if (r) {
            raxis[nr] = d;
            rdim[nr++] = v->dim[d];
        } else {
            kaxis[nk] = d;
            kdim[nk++] = v->dim[d];
        }
        if (!r || a->keep) odim[no++] = r ? 1 : v->dim[d];
    }
    Walk keep = {0}, red = {0};
    Comb k = {0};
    bool ok = comb_open(e, &k, n->nin, a->comb, a->acc) && walk_init(e, &keep, nk, kdim, n->nin) &&
              walk_init(e, &red, nr, rdim, n->nin);
    for (unsigned r = 0; ok && r < n->nin; r++) {
        for (int d = 0; d < nk; d++) keep.stride[r][d] = in[r]->stride[kaxis[d]];
        for (int d = 0; d < nr; d++) red.stride[r][d] = in[r]->stride[raxis[d]];
        ok = (out[r] = ev_new(e, in[r]->dtype, no, odim)) != NULL;
    }
    if (ok) {
        walk_merge(&keep);
        walk_merge(&red);
        bool rows = k.simple && dt_is_float(a->acc[0]) && red.dim[red.rank - 1] >= 8 &&
                    red.stride[0][red.rank - 1] == 1;
        ok = rows ? reduce_rows(e, a, &k, v, &keep, &red, out[0])
                  : reduce_strips(e, a, &k, in, &keep, &red, out);
    }
    walk_free(&keep);
    walk_free(&red);
    comb_close(&k);
    return ok;
}

/* ==== scan =================================================================================== */

static bool scan_lanes(Ev *e, const ScanAttr *a, Comb *k, EVal *const *in, const Walk *w,
                       EVal **out) {
    int cap = k->t.len;
    size_t part = (size_t)k->n * (size_t)cap;
    Cell *acc = ev_tmp(e, (int64_t)part * 3, sizeof *acc), *x = acc + part, *y = x + part;
    bool ok = acc != NULL;
    int64_t count = in[0]->dim[a->axis];
    for (int64_t pos = 0; ok && pos < w->total; pos += cap) {
        int len = w->total - pos < cap ? (int)(w->total - pos) : cap;
        for (uint32_t r = 0; r < k->n; r++)
            fill_init(acc + r * (size_t)cap, a->acc[r], a->init[r], len);
        for (int64_t s = 0; ok && s < count; s++) {
            int64_t at = a->reverse ? count - 1 - s : s;
            for (uint32_t r = 0; r < k->n; r++) {
                load_acc(w, (int)r, in[r], at * in[r]->stride[a->axis], a->acc[r], pos, len,
                         x + r * (size_t)cap);
            }
            if (a->exclusive) memcpy(y, acc, sizeof *y * part);
            ok = comb_run(e, k, acc, x, cap, len) && ev_spend(e, (int64_t)len * (k->t.nins + 1));
            if (!a->exclusive) memcpy(y, acc, sizeof *y * part);
            for (uint32_t r = 0; ok && r < k->n; r++) {
                Cell *z = y + r * (size_t)cap;
                finish(a->acc[r], out[r]->dtype, z, z, len);
                char *p = out[r]->base + at * out[r]->stride[a->axis] * ev_width(out[r]->dtype);
                walk_store(w, (int)(k->n + r), out[r]->dtype, p, pos, len, z);
            }
        }
    }
    free(acc);
    return ok;
}

bool ev_scan(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const ScanAttr *a = n->attr;
    if (!same_dims(e, n, in)) return false;
    int rank = in[0]->rank, lanes = 0;
    if (a->axis >= rank) return ev_fail(e, "E0805", "axis %d of rank %d", a->axis, rank);
    int64_t dim[MAX_RANK];
    for (int d = 0; d < rank; d++) {
        if (d != a->axis) dim[lanes++] = in[0]->dim[d];
    }
    Walk w = {0};
    Comb k = {0};
    bool ok = comb_open(e, &k, n->nin, a->comb, a->acc) && walk_init(e, &w, lanes, dim, 2 * n->nin);
    for (unsigned r = 0; ok && r < n->nin; r++) {
        ok = (out[r] = ev_new(e, in[r]->dtype, rank, in[0]->dim)) != NULL;
        for (int d = 0, l = 0; ok && d < rank; d++) {
            if (d == a->axis) continue;
            w.stride[r][l] = in[r]->stride[d];
            w.stride[n->nin + r][l++] = out[r]->stride[d];
        }
    }
    if (ok) walk_merge(&w);
    ok = ok && scan_lanes(e, a, &k, in, &w, out);
    walk_free(&w);
    comb_close(&k);
    return ok;
}
