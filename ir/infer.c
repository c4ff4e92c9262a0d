/* infer.c: the result types of each primitive, one rule per row of prim.def.
 *
 * A rule sees operands that are present and of the right number, and says what is wrong at the node's place (E03xx) or
 * fills in the result types. Facts that cannot be decided here (is N equal to M?) are not errors: the builder adds
 * guards for them. Nodes with bodies: infer_region.c. Poison in an attribute means that a message was given
 * where it arose: no second one is given. */
#include "infer_internal.h"


/* ==== helpers ===================================================================================================== */

const char *dim_text(Ctx *c, Dim d) {
    Buf b = {.c = c};
    dim_print(&b, c, d);
    return buf_str(&b);
}

const char *type_text(Ctx *c, const Type *t) {
    Buf b = {.c = c};
    type_print(&b, c, t);
    return buf_str(&b);
}

bool absent_ok(PrimOp op) { return op == P_LOOP || op == P_IF || op == P_GROUP || op == P_SEQ || op == P_CALL; }
static bool any_kind(PrimOp op) { return absent_ok(op) || op == P_COPY || op == P_SHAPE || op == P_RETURN; }

bool dim_may_be_one(const Ctx *c, Dim d) { return dim_lo(c, d) <= 1 && dim_hi(c, d) >= 1; }

static bool in_bcast(const Ctx *c, Dim whole, Dim d, int *fuel) {
    const DimInfo *i = dim_info(c, whole);
    if (--*fuel < 0) return false;
    if (dim_same(c, whole, d)) return true;
    return i->kind == D_BCAST && (in_bcast(c, i->arg[0], d, fuel) || in_bcast(c, i->arg[1], d, fuel));
}

bool dim_in_bcast(const Ctx *c, Dim whole, Dim d) {
    int fuel = 200;
    return dim_info(c, whole)->kind == D_BCAST && in_bcast(c, whole, d, &fuel);
}

/* Labels up to 0xff; a result label that comes again ends them, too (an array that was filled up with zeros). */
int label_count(const uint8_t *label, bool distinct) {
    int n = 0;
    while (n < MAX_RANK && label[n] != 0xff) {
        for (int k = 0; distinct && k < n; k++) {
            if (label[k] == label[n]) return n;
        }
        n++;
    }
    return n;
}

static bool dims_ok(const Dim *d, int n) {
    for (int k = 0; k < n; k++) {
        if (!d[k].i) return false;
    }
    return true;
}

/* The dim to keep of two that are (or must be) equal: the one that says more. */
static Dim better(const Ctx *c, Dim a, Dim b) { return dim_is_const(c, b, NULL) ? b : a; }

/* May a value of size `from` be read along an axis of size `to`? */
static bool fits(const Ctx *c, Dim from, Dim to) {
    return dim_same(c, from, to) || dim_may_be_one(c, from) || !dim_differ(c, from, to);
}

static bool broadcasts(Inf *f, int k, int rank, const Dim *dim) {
    const Type *t = f->ty[k];
    if (t->rank > rank) {
        return BAD(f, "E0301", "%s: operand %d has type %s, too many dimensions for a result of rank %d",
                   prim_name(f->op), k, type_text(f->c, t), rank);
    }
    for (int d = 0; d < t->rank; d++) {
        Dim to = dim[rank - t->rank + d];
        if (!fits(f->c, t->dim[d], to)) {
            return BAD(f, "E0301", "%s: operand %d has type %s: its size %s along axis %d does not broadcast to %s",
                       prim_name(f->op), k, type_text(f->c, t), dim_text(f->c, t->dim[d]), d, dim_text(f->c, to));
        }
    }
    return true;
}

/* Operand k has the dims of operand 0, as far as is known. */
static bool like_first(Inf *f, int k) {
    const Type *a = f->ty[0], *b = f->ty[k];
    bool ok = a->rank == b->rank;
    for (int d = 0; ok && d < a->rank; d++) ok = !dim_differ(f->c, a->dim[d], b->dim[d]);
    return ok || BAD(f, "E0304", "%s: operands must have the same shape, not %s and %s", prim_name(f->op),
                     type_text(f->c, a), type_text(f->c, b));
}

static bool axis_ok(Inf *f, int axis, int rank) {
    return axis < rank || BAD(f, "E0305", "%s: axis %d of a value of rank %d", prim_name(f->op), axis, rank);
}

static bool is_index(DType t) { return t == DT_I32 || t == DT_I64; }
static bool is_number(DType t) { return dt_is_float(t) || dt_is_int(t) || t == DT_BOOL; }

bool infer_nout(Inf *f, int n) {
    return f->nout == n || BAD(f, "E0303", "%s: %d results, expected %d", prim_name(f->op), f->nout, n);
}

/* ==== expressions in attributes =================================================================================== */

typedef struct BodyCheck { Inf *f; int rank; const DType *acc; int nacc; const char *why; } BodyCheck;

static bool check_part(void *data, Ctx *c, const ExprInfo *i) {
    BodyCheck *b = data;
    const Inf *f = b->f;
    bool comb = b->acc != NULL;
    if (i->kind == E_ARG) {
        if (comb) {
            if (i->index >= 2u * (unsigned)b->nacc) b->why = "argument out of range";
            else if (b->acc[i->index % (unsigned)b->nacc] != i->dtype) b->why = "argument of another element type";
        } else if (i->index >= (unsigned)f->nin) {
            b->why = "argument out of range";
        } else if (f->ty[i->index]->dtype != i->dtype) {
            b->why = "argument of another element type than the operand";
        }
    } else if (i->kind == E_AXIS) {
        if (comb || i->index >= (unsigned)b->rank) b->why = "axis out of range";
    } else if (i->kind == E_LOAD) {
        unsigned nidx = i->narg - (i->oob == OOB_VALUE ? 1u : 0u);
        if (comb || i->index >= (unsigned)f->nin) b->why = "load of no operand";
        else if (f->ty[i->index]->rank != nidx) b->why = "load with a wrong number of indices";
        else if (f->ty[i->index]->dtype != i->dtype) b->why = "load of another element type than the operand";
    } else if (i->kind == E_DIM && !dim_info(c, (Dim){i->index})->kind) {
        b->why = "";
    }
    return !b->why;
}

static bool body_ok(Inf *f, Expr e, int rank, const DType *acc, int nacc) {
    if (!e.i) return false;
    BodyCheck b = {f, rank, acc, nacc, NULL};
    if (expr_each(f->c, e, check_part, &b)) return true;
    return *b.why && BAD(f, "E0303", "%s: %s", prim_name(f->op), b.why);
}

static bool few_enough(Inf *f) {
    return f->nin <= MAX_FOLDED || BAD(f, "E0302", "%s of %d operands (at most %d)", prim_name(f->op), f->nin, MAX_FOLDED);
}

static bool combiner_ok(Inf *f, const Expr *comb, const Scalar *init, const DType *acc) {
    if (!few_enough(f) || !infer_nout(f, f->nin)) return false;
    for (int r = 0; r < f->nout; r++) {
        if (r && !like_first(f, r)) return false;
        if (!is_number((DType)f->ty[r]->dtype) || !is_number(acc[r])) {
            return BAD(f, "E0303", "%s of elements of type %s", prim_name(f->op), dt_name((DType)f->ty[r]->dtype));
        }
        if (!body_ok(f, comb[r], 0, acc, f->nout)) return false;
        if (expr_info(f->c, comb[r])->dtype != acc[r] || init[r].t != acc[r]) {
            return BAD(f, "E0303", "%s: combiner and initial value must have type %s", prim_name(f->op), dt_name(acc[r]));
        }
    }
    return true;
}

/* ==== rules ======================================================================================================= */

static bool inf_const(Inf *f) {
    const ConstAttr *a = f->attr;
    int64_t dim[MAX_RANK], n = 1;
    if (!a->data || a->type.kind != TY_TENSOR || !dims_ok(a->type.dim, a->type.rank)) return false;
    if (a->data->dtype != a->type.dtype) {
        return BAD(f, "E0303", "constant of type %s has %s data", type_text(f->c, &a->type), dt_name(a->data->dtype));
    }
    bool known = type_const_dims(f->c, &a->type, dim);
    for (int d = 0; known && d < a->type.rank; d++) known = dim[d] >= 0 && !__builtin_mul_overflow(n, dim[d], &n);
    if (!a->data->splat && (!known || n != a->data->count)) {
        return BAD(f, "E0303", "constant of type %s has %lld elements", type_text(f->c, &a->type),
                   (long long)a->data->count);
    }
    if (a->data->bytes < dt_bytes(a->data->dtype, a->data->splat ? 1 : n) && (a->data->splat || n)) {
        return BAD(f, "E0303", "constant of type %s has only %zu bytes", type_text(f->c, &a->type), a->data->bytes);
    }
    f->out[0] = a->type;
    return true;
}

static bool is_other_arg(void *data, Ctx *c, const ExprInfo *i) {
    (void)c;
    return i->kind != E_ARG || i->index != (uint32_t) * (const int *)data;
}

typedef struct Reads { uint8_t *how; uint32_t n; } Reads;

static bool note_read(void *data, Ctx *c, const ExprInfo *i) {
    const Reads *r = data;
    (void)c;
    if (i->kind == E_ARG && i->index < r->n) r->how[i->index] |= READ_POINT;
    if (i->kind == E_LOAD && i->index < r->n) r->how[i->index] |= READ_LOAD;
    return true;
}

uint8_t *map_reads(Ctx *c, int nres, const Expr *body, int nin) {
    Reads r = {NEWN(c, uint8_t, nin + 1), (uint32_t)nin};
    for (int k = 0; k < nres; k++) expr_each(c, body[k], note_read, &r);
    return r.how;
}

static bool inf_map(Inf *f) {
    const MapAttr *a = f->attr;
    if (a->rank > MAX_RANK) return BAD(f, "E0302", "a value of rank %d (the limit is %d)", a->rank, MAX_RANK);
    if (!dims_ok(a->dim, a->rank)) return false;
    for (int k = 0; k < f->nin; k++) {
        bool loaded = true; /* operands that are only loaded from need not broadcast */
        for (int r = 0; r < f->nout && loaded; r++) loaded = expr_each(f->c, a->body[r], is_other_arg, &k);
        if (!loaded && !broadcasts(f, k, a->rank, a->dim)) return false;
    }
    for (int r = 0; r < f->nout; r++) {
        if (!body_ok(f, a->body[r], a->rank, NULL, 0)) return false;
        f->out[r] = type_tensor(f->c, (DType)expr_info(f->c, a->body[r])->dtype, a->rank, a->dim);
    }
    return f->nout > 0 || BAD(f, "E0303", "map without results");
}

static bool inf_reduce(Inf *f) {
    const ReduceAttr *a = f->attr;
    const Type *t = f->ty[0];
    Dim dim[MAX_RANK];
    int n = 0;
    if (a->axes >> t->rank) return BAD(f, "E0305", "reduce: axes beyond a value of rank %d", t->rank);
    if (!combiner_ok(f, a->comb, a->init, a->acc)) return false;
    for (int d = 0; d < t->rank; d++) {
        bool gone = a->axes >> d & 1;
        if (!gone || a->keep) dim[n++] = gone ? dim_const(f->c, 1) : t->dim[d];
    }
    for (int r = 0; r < f->nout; r++) f->out[r] = type_tensor(f->c, (DType)f->ty[r]->dtype, n, dim);
    return true;
}

static bool inf_contract(Inf *f) {
    const ContractAttr *a = f->attr;
    Dim size[32] = {{0}}, dim[MAX_RANK];
    for (int s = 0; s < 2; s++) {
        const Type *t = f->ty[s];
        if (label_count(a->label[s], false) < t->rank || !is_number((DType)t->dtype)) {
            return BAD(f, "E0305", "contract: operand %d of type %s does not fit its labels", s, type_text(f->c, t));
        }
        for (int d = 0; d < t->rank; d++) {
            uint8_t l = a->label[s][d];
            if (l >= 32) return BAD(f, "E0305", "contract: label %d", l);
            if (size[l].i && dim_differ(f->c, size[l], t->dim[d])) {
                return BAD(f, "E0304", "contract: sizes %s and %s of one axis differ (%s, %s)", dim_text(f->c, size[l]),
                           dim_text(f->c, t->dim[d]), type_text(f->c, f->ty[0]), type_text(f->c, f->ty[1]));
            }
            size[l] = size[l].i ? better(f->c, size[l], t->dim[d]) : t->dim[d];
        }
    }
    int n = label_count(a->label[2], true);
    for (int d = 0; d < n; d++) {
        uint8_t l = a->label[2][d];
        if (l >= 32 || !size[l].i) return BAD(f, "E0305", "contract: result label %d", l);
        dim[d] = size[l];
    }
    if (!is_number(a->acc) || !is_number(a->out)) return BAD(f, "E0303", "contract: no such accumulation");
    f->out[0] = type_tensor(f->c, a->out, n, dim);
    return true;
}

static bool inf_scan(Inf *f) {
    const ScanAttr *a = f->attr;
    if (!axis_ok(f, a->axis, f->ty[0]->rank) || !combiner_ok(f, a->comb, a->init, a->acc)) return false;
    for (int r = 0; r < f->nout; r++) f->out[r] = *f->ty[r];
    return true;
}

static bool inf_reshape(Inf *f) {
    const DimsAttr *a = f->attr;
    if (a->rank > MAX_RANK) return BAD(f, "E0302", "a value of rank %d (the limit is %d)", a->rank, MAX_RANK);
    if (!dims_ok(a->dim, a->rank)) return false;
    Type t = type_tensor(f->c, (DType)f->ty[0]->dtype, a->rank, a->dim);
    Dim from = type_count(f->c, f->ty[0]), to = type_count(f->c, &t);
    if (from.i && to.i && dim_differ(f->c, from, to)) {
        return BAD(f, "E0306", "cannot reshape %s to %s: %s elements against %s", type_text(f->c, f->ty[0]),
                   type_text(f->c, &t), dim_text(f->c, from), dim_text(f->c, to));
    }
    f->out[0] = t;
    return true;
}

static bool inf_permute(Inf *f) {
    const PermAttr *a = f->attr;
    const Type *t = f->ty[0];
    Dim dim[MAX_RANK];
    uint32_t seen = 0;
    for (int d = 0; d < t->rank; d++) {
        if (a->perm[d] >= t->rank || seen >> a->perm[d] & 1) return BAD(f, "E0305", "permute: not a permutation");
        seen |= 1u << a->perm[d];
        dim[d] = t->dim[a->perm[d]];
    }
    f->out[0] = type_tensor(f->c, (DType)t->dtype, t->rank, dim);
    return true;
}

static bool inf_broadcast(Inf *f) {
    const DimsAttr *a = f->attr;
    if (a->rank > MAX_RANK) return BAD(f, "E0302", "a value of rank %d (the limit is %d)", a->rank, MAX_RANK);
    if (!dims_ok(a->dim, a->rank) || !broadcasts(f, 0, a->rank, a->dim)) return false;
    f->out[0] = type_tensor(f->c, (DType)f->ty[0]->dtype, a->rank, a->dim);
    return true;
}

/* First and last element of a slice lie in [0, size) unless nothing is taken; wrong only if provably so. */
static bool slice_bounds(Inf *f, int axis, Dim start, int64_t step, Dim size, Dim whole) {
    Ctx *c = f->c;
    Dim last = dim_add(c, start, dim_muli(c, dim_addi(c, size, -1), step));
    if (!last.i) return false;
    Dim low = step > 0 ? start : last, high = step > 0 ? last : start, past = dim_sub(c, high, whole);
    bool over = past.i && dim_lo(c, past) >= 0;
    if (dim_hi(c, size) < 0 || (dim_lo(c, size) > 0 && (dim_hi(c, low) < 0 || over))) {
        return BAD(f, "E0307", "%s: axis %d has size %s; it cannot hold %s elements from %s by %lld", prim_name(f->op),
                   axis, dim_text(c, whole), dim_text(c, size), dim_text(c, start), (long long)step);
    }
    return true;
}

static bool inf_slice(Inf *f) {
    const SliceAttr *a = f->attr;
    const Type *t = f->ty[0];
    if (!dims_ok(a->start, t->rank) || !dims_ok(a->size, t->rank)) return false;
    for (int d = 0; d < t->rank; d++) {
        if (a->step[d] == 0) return BAD(f, "E0307", "slice: step 0 along axis %d", d);
        if (!slice_bounds(f, d, a->start[d], a->step[d], a->size[d], t->dim[d])) return false;
    }
    f->out[0] = type_tensor(f->c, (DType)t->dtype, t->rank, a->size);
    return true;
}

static bool inf_update(Inf *f) {
    const SliceAttr *a = f->attr;
    const Type *t = f->ty[0], *p = f->ty[1];
    if (!dims_ok(a->start, t->rank)) return false;
    if (t->rank != p->rank || t->dtype != p->dtype) {
        return BAD(f, "E0303", "update of %s by %s", type_text(f->c, t), type_text(f->c, p));
    }
    for (int d = 0; d < t->rank; d++) {
        if (!slice_bounds(f, d, a->start[d], 1, p->dim[d], t->dim[d])) return false;
    }
    f->out[0] = *t;
    return true;
}

static bool inf_pad(Inf *f) {
    const PadAttr *a = f->attr;
    const Type *t = f->ty[0];
    Ctx *c = f->c;
    Dim dim[MAX_RANK];
    if (!dims_ok(a->lo, t->rank) || !dims_ok(a->hi, t->rank)) return false;
    for (int d = 0; d < t->rank; d++) {
        int64_t between = a->interior ? a->interior[d] : 0;
        if (between < 0 || dim_hi(c, a->lo[d]) < 0 || dim_hi(c, a->hi[d]) < 0) {
            return BAD(f, "E0307", "pad: negative padding along axis %d", d);
        }
        dim[d] = dim_add(c, dim_add(c, a->lo[d], a->hi[d]), t->dim[d]);
        if (between) {
            Dim gaps = dim_addi(c, t->dim[d], -1);
            if (dim_lo(c, gaps) < 0) gaps = dim_max(c, gaps, dim_const(c, 0));
            dim[d] = dim_add(c, dim[d], dim_muli(c, gaps, between));
        }
    }
    if (f->nin == 2 && (f->ty[1]->rank || f->ty[1]->dtype != t->dtype)) {
        return BAD(f, "E0303", "pad of %s with a value of type %s", type_text(c, t), type_text(c, f->ty[1]));
    }
    if (f->nin == 1 && a->mode == PAD_VALUE && a->value.t != t->dtype) {
        return BAD(f, "E0303", "pad of %s with a value of type %s", type_text(c, t), dt_name(a->value.t));
    }
    f->out[0] = type_tensor(c, (DType)t->dtype, t->rank, dim);
    return dims_ok(dim, t->rank);
}

static bool inf_concat(Inf *f) {
    const AxisAttr *a = f->attr;
    const Type *t = f->ty[0];
    Dim dim[MAX_RANK];
    if (!axis_ok(f, a->axis, t->rank)) return false;
    for (int d = 0; d < t->rank; d++) dim[d] = t->dim[d];
    for (int k = 1; k < f->nin; k++) {
        const Type *o = f->ty[k];
        bool ok = o->rank == t->rank && o->dtype == t->dtype;
        for (int d = 0; ok && d < t->rank; d++) {
            if (d == a->axis) continue;
            ok = !dim_differ(f->c, dim[d], o->dim[d]);
            dim[d] = better(f->c, dim[d], o->dim[d]);
        }
        if (!ok) {
            return BAD(f, "E0304", "concat along axis %d: %s does not fit %s", a->axis, type_text(f->c, o),
                       type_text(f->c, t));
        }
        dim[a->axis] = dim_add(f->c, dim[a->axis], o->dim[a->axis]);
    }
    f->out[0] = type_tensor(f->c, (DType)t->dtype, t->rank, dim);
    return dims_ok(dim, t->rank);
}

static bool inf_window(Inf *f) {
    const WindowAttr *a = f->attr;
    const Type *t = f->ty[0];
    Ctx *c = f->c;
    Dim dim[MAX_RANK];
    uint32_t seen = 0;
    if (a->n > 4 || t->rank + a->n > MAX_RANK) return BAD(f, "E0302", "window over %d axes of %s", a->n, type_text(c, t));
    for (int d = 0; d < t->rank; d++) dim[d] = t->dim[d];
    for (int k = 0; k < a->n; k++) {
        int d = a->axis[k];
        if (!axis_ok(f, d, t->rank) || !a->size[k].i) return false;
        if (seen >> d & 1 || a->stride[k] < 1 || a->dilation[k] < 1 || dim_hi(c, a->size[k]) < 1) {
            return BAD(f, "E0307", "window of size %s, stride %lld, dilation %lld along axis %d", dim_text(c, a->size[k]),
                       (long long)a->stride[k], (long long)a->dilation[k], d);
        }
        seen |= 1u << d;
        Dim reach = dim_addi(c, dim_muli(c, dim_addi(c, a->size[k], -1), a->dilation[k]), 1);
        Dim room = dim_sub(c, t->dim[d], reach);
        if (!room.i) return false;
        if (dim_hi(c, room) < 0) {
            return BAD(f, "E0307", "window: axis %d has size %s, the window spans %s", d, dim_text(c, t->dim[d]),
                       dim_text(c, reach));
        }
        dim[d] = dim_addi(c, dim_floordiv(c, room, dim_const(c, a->stride[k])), 1);
        dim[t->rank + k] = a->size[k];
    }
    f->out[0] = type_tensor(c, (DType)t->dtype, t->rank + a->n, dim);
    return dims_ok(dim, t->rank + a->n);
}

static bool inf_gather(Inf *f) {
    const GatherAttr *a = f->attr;
    const Type *x = f->ty[0], *i = f->ty[1];
    Dim dim[2 * MAX_RANK];
    int n = 0;
    if (!axis_ok(f, a->axis, x->rank)) return false;
    if (!is_index((DType)i->dtype)) return BAD(f, "E0303", "gather with indices of type %s", type_text(f->c, i));
    for (int d = 0; d < a->axis; d++) dim[n++] = x->dim[d];
    for (int d = 0; d < i->rank; d++) dim[n++] = i->dim[d];
    for (int d = a->axis + 1; d < x->rank; d++) dim[n++] = x->dim[d];
    if (n > MAX_RANK) return BAD(f, "E0302", "gather: a result of rank %d (the limit is %d)", n, MAX_RANK);
    f->out[0] = type_tensor(f->c, (DType)x->dtype, n, dim);
    return true;
}

static bool inf_scatter(Inf *f) {
    const ScatterAttr *a = f->attr;
    const Type *x = f->ty[0], *i = f->ty[1], *u = f->ty[2];
    Ctx *c = f->c;
    if (!is_index((DType)i->dtype)) return BAD(f, "E0303", "scatter with indices of type %s", type_text(c, i));
    bool ok = x->dtype == u->dtype;
    if (a->elements) {
        ok &= x->rank == i->rank && i->rank == u->rank && a->axis < x->rank;
        for (int d = 0; ok && d < i->rank; d++) ok = !dim_differ(c, i->dim[d], u->dim[d]);
    } else {
        int64_t k = 0;
        ok &= i->rank > 0 && dim_is_const(c, i->dim[i->rank - 1], &k) && k >= 0 && k <= x->rank;
        ok = ok && u->rank == i->rank - 1 + x->rank - (int)k;
        for (int d = 0; ok && d < u->rank; d++) {
            ok = !dim_differ(c, u->dim[d], d < i->rank - 1 ? i->dim[d] : x->dim[d - (i->rank - 1) + (int)k]);
        }
    }
    if (!ok) {
        return BAD(f, "E0304", "scatter: %s, indices %s and updates %s do not fit", type_text(c, x), type_text(c, i),
                   type_text(c, u));
    }
    f->out[0] = *x;
    return true;
}

static bool inf_sort(Inf *f) {
    const SortAttr *a = f->attr;
    if (!few_enough(f) || !infer_nout(f, f->nin) || !axis_ok(f, a->axis, f->ty[0]->rank)) return false;
    if (a->nkeys < 1 || a->nkeys > f->nin) return BAD(f, "E0305", "sort: %d keys of %d operands", a->nkeys, f->nin);
    for (int r = 0; r < f->nout; r++) {
        if (!like_first(f, r)) return false;
        f->out[r] = *f->ty[r];
    }
    return true;
}

static bool inf_topk(Inf *f) {
    const TopkAttr *a = f->attr;
    const Type *t = f->ty[0];
    Dim dim[MAX_RANK];
    if (!axis_ok(f, a->axis, t->rank) || !a->k.i) return false;
    Dim excess = dim_sub(f->c, a->k, t->dim[a->axis]);
    if (!excess.i) return false;
    if (dim_hi(f->c, a->k) < 0 || dim_lo(f->c, excess) > 0) {
        return BAD(f, "E0307", "topk: %s elements of an axis of size %s", dim_text(f->c, a->k),
                   dim_text(f->c, t->dim[a->axis]));
    }
    for (int d = 0; d < t->rank; d++) dim[d] = d == a->axis ? a->k : t->dim[d];
    f->out[0] = type_tensor(f->c, (DType)t->dtype, t->rank, dim);
    f->out[1] = type_tensor(f->c, DT_I64, t->rank, dim);
    return true;
}

static bool inf_compact(Inf *f) {
    const CompactAttr *a = f->attr;
    const Type *t = f->ty[0];
    if (!a->bound.i) return false;
    if (t->rank != 1 || t->dtype != DT_BOOL) return BAD(f, "E0303", "compact of %s", type_text(f->c, t));
    f->out[0] = type_tensor(f->c, DT_I64, 1, &a->bound);
    f->out[1] = type_tensor(f->c, DT_I64, 0, NULL);
    return true;
}

static bool inf_bind(Inf *f) {
    const BindAttr *a = f->attr;
    const Type *t = f->ty[0];
    int64_t n;
    if (!a->sym.i) return false;
    Dim count = type_count(f->c, t);
    if (!elem_dtype((DType)t->dtype) || a->index < 0 || (dim_is_const(f->c, count, &n) && a->index >= n)) {
        return BAD(f, "E0305", "bind of element %lld of %s", (long long)a->index, type_text(f->c, t));
    }
    return true;
}

static bool inf_guard(Inf *f) {
    const GuardAttr *a = f->attr;
    bool on_value = a->cmp == G_TRUE;
    if (f->nin != (on_value ? 1 : 0)) return BAD(f, "E0303", "guard with %d operands", f->nin);
    if (on_value && (f->ty[0]->kind != TY_TENSOR || f->ty[0]->dtype != DT_BOOL || f->ty[0]->rank))
        return BAD(f, "E0303", "guard on %s", type_text(f->c, f->ty[0]));
    return on_value || (a->a.i && a->b.i);
}

static bool inf_copy(Inf *f) {
    f->out[0] = *f->ty[0];
    return true;
}

static bool inf_seq(Inf *f) {
    f->out[0] = ((const SeqAttr *)f->attr)->type;
    return true;
}

static bool inf_random(Inf *f) {
    const RandomAttr *a = f->attr;
    if (a->type.kind != TY_TENSOR || !dims_ok(a->type.dim, a->type.rank)) return false;
    f->out[0] = a->type;
    return true;
}

static bool inf_shape(Inf *f) {
    const ShapeAttr *a = f->attr;
    if (!dims_ok(a->dim, a->n == 0xff ? 1 : a->n)) return false;
    Dim n = dim_const(f->c, a->n);
    f->out[0] = type_tensor(f->c, DT_I64, a->n == 0xff ? 0 : 1, &n);
    return true;
}

static bool inf_call(Inf *f) {
    const CallAttr *a = f->attr;
    if (!infer_nout(f, a->nout)) return false;
    for (int r = 0; r < f->nout; r++) f->out[r] = a->type[r];
    return true;
}

static bool inf_return(Inf *f) { return infer_nout(f, 0); }

/* ==== the table =================================================================================================== */

static bool (*const rules[P_COUNT])(Inf *) = {
    [P_CONST] = inf_const,   [P_MAP] = inf_map,         [P_REDUCE] = inf_reduce, [P_CONTRACT] = inf_contract,
    [P_SCAN] = inf_scan,     [P_RESHAPE] = inf_reshape, [P_PERMUTE] = inf_permute, [P_BROADCAST] = inf_broadcast,
    [P_SLICE] = inf_slice,   [P_PAD] = inf_pad,         [P_CONCAT] = inf_concat, [P_WINDOW] = inf_window,
    [P_GATHER] = inf_gather, [P_SCATTER] = inf_scatter, [P_UPDATE] = inf_update, [P_SORT] = inf_sort,
    [P_TOPK] = inf_topk,     [P_COMPACT] = inf_compact, [P_LOOP] = infer_loop,     [P_IF] = infer_if,
    [P_BIND] = inf_bind,     [P_GUARD] = inf_guard,     [P_COPY] = inf_copy,     [P_SEQ] = inf_seq,
    [P_RANDOM] = inf_random, [P_SHAPE] = inf_shape,     [P_GROUP] = infer_group,   [P_CALL] = inf_call,
    [P_RETURN] = inf_return,
};

/* A tensor whose bytes can be counted. Sizes known only at run time are checked there. */
static bool size_ok(Inf *f, const Type *t) {
    if (t->kind != TY_TENSOR) return true;
    int64_t n = dt_bits((DType)t->dtype) > 8 ? dt_bits((DType)t->dtype) / 8 : 1, v;
    bool over = false, empty = false;
    for (int d = 0; d < t->rank; d++) {
        if (!t->dim[d].i) continue;
        if (dim_hi(f->c, t->dim[d]) < 0) {
            return BAD(f, "E0302", "%s: a result with negative size: %s", prim_name(f->op), type_text(f->c, t));
        }
        if (!dim_is_const(f->c, t->dim[d], &v)) continue;
        if (v == 0) empty = true;
        else over |= __builtin_mul_overflow(n, v, &n);
    }
    if (empty || (!over && n <= INT64_MAX / 64)) return true;
    return BAD(f, "E0302", "%s: a result of type %s is too large", prim_name(f->op), type_text(f->c, t));
}

bool infer(Graph *g, PrimOp op, int nin, const Val *in, const void *attr, int nout, Type *out, Loc loc) {
    const PrimInfo *p = prim_info(op);
    Inf inf = {.g = g, .c = g->c, .op = op, .nin = nin, .nout = nout, .in = in, .attr = attr, .out = out, .loc = loc};
    Inf *f = &inf;
    if (nin > MAX_OPERANDS || nout > MAX_OPERANDS) {
        return BAD(f, "E0302", "%s with more than %d operands or results", p->text, MAX_OPERANDS);
    }
    if (nin < p->min || (p->max >= 0 && nin > p->max) || (p->nout >= 0 && nout != p->nout)) {
        return BAD(f, "E0303", "%s with %d operands and %d results", p->text, nin, nout);
    }
    const Type *few[8], **ty = nin <= 8 ? few : NEWN(g->c, const Type *, nin);
    for (int k = 0; k < nin; k++) {
        if (!in[k].i && !(absent_ok(op) && !(op == P_IF && k == 0))) return false;
        ty[k] = val_type(g, in[k]);
        if (in[k].i && ty[k]->kind != TY_TENSOR && !any_kind(op)) {
            return BAD(f, "E0303", "%s of a value of type %s", p->text, type_text(g->c, ty[k]));
        }
    }
    f->ty = ty;
    if (!attr && op != P_RETURN) return BAD(f, "E0303", "%s without attributes", p->text);
    if (!rules[op](f)) return false;
    for (int r = 0; r < nout; r++) {
        if (!size_ok(f, &out[r])) return false;
    }
    return true;
}
