/* build_sugar.c: the builder's reductions, scans and contractions, and what importers and passes build from them.
 *
 * Accumulation types are chosen here and written into the attribute: narrow floats accumulate in f32, everything else in
 * its own type. Combiners are hash-consed expressions, so reduce_is() recognises what b_reduce1() makes. */
#include "build_internal.h"
#include <math.h>
#include <string.h>

/* ==== reduce ====================================================================================================== */

static void guard_like_first(B *b, int n, const Val *in, const char *what) {
    const Type *t = val_type(b->g, in[0]);
    for (int k = 1; k < n; k++) {
        const Type *o = val_type(b->g, in[k]);
        for (int d = 0; d < t->rank && o->rank == t->rank; d++) {
            if (dim_same(b->c, t->dim[d], o->dim[d]) || !t->dim[d].i || !o->dim[d].i) continue;
            b_guard(b, G_EQ, t->dim[d], o->dim[d], "%s: sizes %s and %s of axis %d differ", what,
                    dim_text(b->c, t->dim[d]), dim_text(b->c, o->dim[d]), d);
        }
    }
}

static bool all_present(int n, const Val *in, Val *out) {
    bool ok = n > 0;
    for (int k = 0; k < n; k++) {
        out[k] = (Val){0};
        ok &= in[k].i != 0;
    }
    return ok;
}

void b_reduce(B *b, int n, const Val *in, uint32_t axes, bool keep, const Expr *comb, const Scalar *init,
              const DType *acc, Val *out) {
    Val *x = NEWN(b->c, Val, n + 1); /* out may be in */
    for (int k = 0; k < n; k++) x[k] = in[k];
    if (!all_present(n, x, out)) return;
    size_t un = (size_t)n;
    ReduceAttr a = {axes, keep, ctx_dup(b->c, comb, un * sizeof *comb), ctx_dup(b->c, init, un * sizeof *init),
                    ctx_dup(b->c, acc, un * sizeof *acc)};
    guard_like_first(b, n, x, "reduce");
    b_emit(b, P_REDUCE, n, x, &a, n, out);
}

void b_scan(B *b, int n, const Val *in, int axis, bool reverse, bool exclusive, const Expr *comb, const Scalar *init,
            const DType *acc, Val *out) {
    Val *x = NEWN(b->c, Val, n + 1);
    for (int k = 0; k < n; k++) x[k] = in[k];
    if (!all_present(n, x, out)) return;
    size_t un = (size_t)n;
    ScanAttr a = {axis < 0 || axis >= MAX_RANK ? MAX_RANK : (uint8_t)axis, reverse, exclusive,
                  ctx_dup(b->c, comb, un * sizeof *comb), ctx_dup(b->c, init, un * sizeof *init),
                  ctx_dup(b->c, acc, un * sizeof *acc)};
    guard_like_first(b, n, x, "scan");
    b_emit(b, P_SCAN, n, x, &a, n, out);
}

static DType acc_type(DType t) { return dt_is_float(t) && dt_bits(t) < 32 ? DT_F32 : t; }

static const SOp reduce_op[] = {
    [R_SUM] = S_ADD, [R_PROD] = S_MUL, [R_MAX] = S_MAX, [R_MIN] = S_MIN, [R_AND] = S_AND, [R_OR] = S_OR,
};

static Scalar extreme(DType t, bool least) {
    if (dt_is_float(t)) return (Scalar){.t = t, .f = least ? -(double)INFINITY : (double)INFINITY};
    if (t == DT_BOOL) return (Scalar){.t = t, .i = !least};
    unsigned bits = dt_bits(t);
    if (dt_is_signed(t)) {
        int64_t max = INT64_MAX >> (64 - bits);
        return (Scalar){.t = t, .i = least ? -max - 1 : max};
    }
    return (Scalar){.t = t, .i = least ? 0 : (int64_t)(UINT64_MAX >> (64 - bits))};
}

/* The neutral element of op, of type t. */
static Scalar neutral(ReduceOp op, DType t) {
    if (op == R_MAX || op == R_MIN) return extreme(t, op == R_MAX);
    int64_t v = op == R_PROD || (op == R_AND && t == DT_BOOL) ? 1 : op == R_AND ? -1 : 0;
    return dt_convert((Scalar){.t = DT_I64, .i = v}, t);
}

static bool number(DType t) { return dt_is_float(t) || dt_is_int(t) || t == DT_BOOL; }

static bool can_reduce(B *b, Val v, uint32_t axes) {
    const Type *t = val_type(b->g, v);
    if (!v.i) return false;
    if (t->kind != TY_TENSOR || !number((DType)t->dtype)) BERR(b, "E0303", "reduction of %s", type_text(b->c, t));
    else if (axes >> t->rank) BERR(b, "E0305", "reduction of %s over an axis that it has not", type_text(b->c, t));
    else return true;
    return false;
}

Val b_reduce1(B *b, ReduceOp op, Val v, uint32_t axes, bool keep) {
    if (!can_reduce(b, v, axes)) return (Val){0};
    const Type *t = val_type(b->g, v);
    bool nothing = true;
    Dim dim[MAX_RANK];
    int n = 0;
    for (int d = 0; d < t->rank; d++) {
        if (axes >> d & 1) nothing &= dim_is(b->c, t->dim[d], 1);
        if (!(axes >> d & 1) || keep) dim[n++] = t->dim[d];
    }
    if (nothing) return b_reshape(b, v, n, dim);
    DType acc = acc_type((DType)t->dtype);
    Expr comb = expr_op(b->c, reduce_op[op], expr_arg(b->c, 0, acc), expr_arg(b->c, 1, acc), (Expr){0});
    Scalar init = neutral(op, acc);
    Val out;
    b_reduce(b, 1, &v, axes, keep, &comb, &init, &acc, &out);
    return out;
}

bool reduce_is(const Ctx *c, const ReduceAttr *a, ReduceOp op, DType t) {
    const ExprInfo *i = expr_info(c, a->comb[0]);
    if (i->kind != E_OP || i->op != reduce_op[op] || i->narg != 2) return false;
    const ExprInfo *x = expr_info(c, i->arg[0]), *y = expr_info(c, i->arg[1]);
    if (x->kind != E_ARG || y->kind != E_ARG || x->index + y->index != 1 || x->index == y->index) return false;
    DType acc = a->acc[0];
    if (t != DT_NONE && acc != t && acc != acc_type(t)) return false;
    Scalar n = neutral(op, acc);
    return dt_is_float(acc) ? !(n.f < a->init[0].f) && !(n.f > a->init[0].f) && !isnan(a->init[0].f)
                            : n.i == a->init[0].i;
}

/* x is as good as y, or better: a NaN is better than any number, and as good as another one. */
static Expr as_good(Ctx *c, Expr x, Expr y, bool max, bool nan) {
    Expr none = {0}, good = expr_op(c, max ? S_GE : S_LE, x, y, none);
    return nan ? expr_op(c, S_OR, good, expr_op(c, S_NE, x, x, none), none) : good;
}

/* Of the pairs (value, index) the better value wins, of equal ones the lower (last: higher) index. after: all indices of the second pair are higher
 * than that of the first, so only values need be compared. */
static void pick_best(Ctx *c, DType t, DType index, bool max, bool last, bool after, Expr comb[2]) {
    Expr m = expr_arg(c, 0, t), i = expr_arg(c, 1, index), x = expr_arg(c, 2, t), j = expr_arg(c, 3, index), none = {0};
    Expr good = as_good(c, x, m, max, dt_is_float(t)), better = expr_op(c, S_NOT, as_good(c, m, x, max, dt_is_float(t)), none, none);
    Expr first = expr_op(c, S_OR, better, expr_op(c, last ? S_GT : S_LT, j, i, none), none);
    Expr take = !after ? expr_op(c, S_AND, good, first, none) : last ? good : better;
    comb[0] = expr_op(c, S_SELECT, take, x, m);
    comb[1] = expr_op(c, S_SELECT, take, j, i);
}

bool picks_best(Ctx *c, const Expr comb[2], DType index, Picks *out) {
    const DType t = expr_info(c, comb[0])->dtype, own = expr_info(c, comb[1])->dtype;
    for (int k = 0; k < 4; k++) {
        Picks p;
        pick_best(c, t, own, k & 1, k >> 1, false, p.comb);
        if (p.comb[0].i != comb[0].i || p.comb[1].i != comb[1].i) continue;
        pick_best(c, t, index, k & 1, k >> 1, false, out->comb);
        pick_best(c, t, index, k & 1, k >> 1, true, out->after);
        return true;
    }
    return false;
}

Val b_argminmax(B *b, Val v, int axis, bool keep, bool max, bool last) {
    Ctx *c = b->c;
    if (axis < 0 || axis >= MAX_RANK) axis = MAX_RANK;
    if (!can_reduce(b, v, 1u << axis)) return (Val){0};
    v = b_cast(b, v, acc_type((DType)val_type(b->g, v)->dtype)); /* a type that has infinities */
    const Type *t = val_type(b->g, v);
    DType d = (DType)t->dtype;
    Expr at = expr_axis(c, (uint32_t)axis), comb[2];
    Val in[2] = {v, {0}}, out[2];
    b_map(b, 1, &at, 0, NULL, t->rank, t->dim, &in[1]);
    pick_best(c, d, DT_I64, max, last, false, comb);
    Scalar init[2] = {extreme(d, max), {.t = DT_I64, .i = 0}};
    b_reduce(b, 2, in, 1u << axis, keep, comb, init, (DType[]){d, DT_I64}, out);
    return out[1];
}

Val b_mean(B *b, Val x, uint32_t axes, bool keep) {
    Ctx *c = b->c;
    if (!can_reduce(b, x, axes)) return (Val){0};
    const Type *t = val_type(b->g, x);
    DType own = (DType)t->dtype, wide = acc_type(own);
    Dim n = dim_const(c, 1);
    for (int d = 0; d < t->rank; d++) {
        if (axes >> d & 1) n = dim_mul(c, n, t->dim[d]);
    }
    if (!n.i) return (Val){0};
    Val sum = b_reduce1(b, R_SUM, b_cast(b, x, wide), axes, keep);
    if (!sum.i) return sum;
    Expr count = expr_cast(c, expr_dim(c, n), wide);
    Expr mean = expr_op(c, S_DIV, expr_arg(c, 0, wide), count, (Expr){0});
    return b_map1(b, expr_cast(c, mean, own), 1, &sum);
}

/* exp(x - max) / sum exp(x - max); narrow floats in f32. */
Val b_softmax(B *b, Val x, uint32_t axes) {
    Ctx *c = b->c;
    if (!can_reduce(b, x, axes)) return (Val){0};
    DType own = (DType)val_type(b->g, x)->dtype, wide = acc_type(own);
    if (!dt_is_float(own)) {
        BERR(b, "E0303", "softmax of %s", type_text(c, val_type(b->g, x)));
        return (Val){0};
    }
    Expr p = expr_arg(c, 0, wide), q = expr_arg(c, 1, wide), none = {0};
    Val w = b_cast(b, x, wide);
    Val in[2] = {w, b_reduce1(b, R_MAX, w, axes, true)};
    in[0] = b_map1(b, expr_op(c, S_EXP, expr_op(c, S_SUB, p, q, none), none, none), 2, in);
    in[1] = b_reduce1(b, R_SUM, in[0], axes, true);
    return b_map1(b, expr_cast(c, expr_op(c, S_DIV, p, q, none), own), 2, in);
}

/* ==== contract ==================================================================================================== */

Val b_contract_attr(B *b, const ContractAttr *a, Val x, Val y) {
    Val in[2] = {x, y};
    Type out;
    if (!x.i || !y.i || !infer(b->g, P_CONTRACT, 2, in, a, 1, &out, b->loc)) return (Val){0};
    Dim size[32] = {{0}};
    for (int s = 0; s < 2; s++) {
        const Type *t = val_type(b->g, in[s]);
        for (int d = 0; d < t->rank; d++) {
            Dim *known = &size[a->label[s][d]];
            if (!known->i) *known = t->dim[d];
            else if (!dim_same(b->c, *known, t->dim[d]))
                b_guard(b, G_EQ, *known, t->dim[d], "sizes %s and %s of a contraction differ", dim_text(b->c, *known),
                        dim_text(b->c, t->dim[d]));
        }
    }
    ContractAttr own = *a;
    for (int s = 0; s < 3; s++) {
        int rank = s < 2 ? val_type(b->g, in[s])->rank : out.rank;
        memset(own.label[s] + rank, 0xff, (size_t)(MAX_RANK - rank));
    }
    return b_emit1(b, P_CONTRACT, 2, in, &own);
}

static int label_of(char x) {
    if (x >= 'a' && x <= 'z') return x - 'a';
    return x >= 'A' && x <= 'F' ? 26 + x - 'A' : -1;
}

Val b_contract(B *b, const char *spec, Val x, Val y, DType acc, DType out) {
    ContractAttr a = {.label = NO_LABELS, .acc = acc, .out = out};
    int part = 0, n = 0;
    for (const char *s = spec; *s; s++) {
        int l = label_of(*s);
        bool comma = part == 0 && *s == ',', arrow = part == 1 && s[0] == '-' && s[1] == '>';
        if (comma || arrow) {
            part++;
            n = 0;
            s += arrow;
        } else if (l >= 0 && n < MAX_RANK) {
            a.label[part][n++] = (uint8_t)l;
        } else {
            BERR(b, "E0305", "contract: bad specification \"%s\"", spec);
            return (Val){0};
        }
    }
    Val in[2] = {x, y};
    for (int s = 0; s < 2; s++) {
        if (!in[s].i) return (Val){0};
        if (part == 2 && label_count(a.label[s], false) == val_type(b->g, in[s])->rank) continue;
        BERR(b, "E0305", "contract \"%s\" of %s and %s", spec, type_text(b->c, val_type(b->g, x)),
             type_text(b->c, val_type(b->g, y)));
        return (Val){0};
    }
    return b_contract_attr(b, &a, x, y);
}

/* ==== the rest ==================================================================================================== */

Val b_random(B *b, const RandomAttr *a, int nin, const Val *in) { return b_emit1(b, P_RANDOM, nin, in, a); }
