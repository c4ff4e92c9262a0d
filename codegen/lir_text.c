/* lir_text.c: a Lir as text, its verifier, and its identity (hash, equality: code and aliasing, not
 * the name). */
#include <inttypes.h>
#include <string.h>

#include "lir_internal.h"

static const char *const op_text[L_COUNT] = {
#define LIR(e, text, narg) [L_##e] = text,
#include "lir.def"
#undef LIR
};
static const int8_t op_narg[L_COUNT] = {
#define LIR(e, text, narg) [L_##e] = narg,
#include "lir.def"
#undef LIR
};
static const char *const sop_text[S_COUNT] = {
#define SCALAR(e, text, n, rule, flags) [S_##e] = text,
#include "ir/scalar.def"
#undef SCALAR
};

/* ---- print ----------------------------------------------------------------------------------- */

static void print_type(Buf *b, LTy t) {
    buf_puts(b, t.dt == DT_PTR ? "ptr" : dt_name(t.dt));
    if (t.lanes > 1) buf_printf(b, "x%u", t.lanes);
}
static void print_value(Buf *b, const Lir *l, uint32_t v) {
    buf_printf(b, "%%%u:", v);
    print_type(b, l->ins.v[v].ty);
}
static void print_args(Buf *b, const Lir *l, const LIns *i, uint32_t from) {
    for (uint32_t k = from; k < i->narg; k++)
        buf_printf(b, "%s%%%u", k > from ? ", " : " ", l->args.v[i->arg + k].i);
}
static void print_place(Buf *b, const Lir *l, const LIns *i, uint32_t first, int64_t disp) { /* operands first, first + 1 */
    buf_printf(b, " %%%u[%%%u", l->args.v[i->arg + first].i, l->args.v[i->arg + first + 1].i);
    if (disp) buf_printf(b, disp < 0 ? " - %" PRIu64 : " + %" PRIu64, disp < 0 ? 0 - (uint64_t)disp : (uint64_t)disp);
    buf_puts(b, "]");
}
static void print_address(Buf *b, const Lir *l, const LIns *i) { print_place(b, l, i, 0, i->imm); }
static void print_scalar(Buf *b, DType t, int64_t i, double f) {
    if (dt_is_float(t))
        buf_printf(b, "%.17g", f);
    else if (t == DT_U64)
        buf_printf(b, "%" PRIu64, (uint64_t)i);
    else
        buf_printf(b, "%" PRId64, i);
}

static void print_fields(Buf *b, const Lir *l, const LIns *i) {
    if (lir_is_hopper(i)) {
        lir_hopper_print(b, l, i);
        return;
    }
    uint32_t masked = (i->op == L_LOAD || i->op == L_GATHER) ? 3 : 4;
    switch (i->op) {
    case L_CONST:
        buf_puts(b, " "), print_scalar(b, i->ty.dt, i->imm, i->fimm);
        break;
    case L_TABLE:
        for (uint32_t k = 0; k < i->ty.lanes; k++) {
            const Scalar *s = &l->tab.v[i->aux + k];
            buf_puts(b, k ? ", " : " "), print_scalar(b, s->t, s->i, dt_is_float(s->t) ? s->f : 0);
        }
        break;
    case L_SHUFFLE:
        print_args(b, l, i, 0), buf_puts(b, " {");
        for (uint32_t k = 0; k < i->ty.lanes; k++)
            buf_printf(b, k ? " %d" : "%d", l->shuf.v[i->aux + k]);
        buf_puts(b, "}");
        break;
    case L_BUF:
    case L_DIM:
    case L_SHARED:
    case L_COPY_WAIT:
        buf_printf(b, " %" PRId64, i->imm);
        break;
    case L_LANE_XOR:
        print_args(b, l, i, 0), buf_printf(b, " by %" PRId64, i->imm);
        break;
    case L_MMA:
        buf_printf(b, ".%s", dt_name((DType)i->aux)), print_args(b, l, i, 0);
        break;
    case L_LOAD_MATRIX:
        if (i->flags) buf_puts(b, ".transposed");
        print_address(b, l, i);
        break;
    case L_COPY_ASYNC:
        print_place(b, l, i, 0, lir_copy_to(i)), buf_puts(b, " from"), print_place(b, l, i, 2, i->imm);
        buf_printf(b, " bytes %u", i->aux & LIR_COPY_SIZE);
        if (i->narg == 5) buf_printf(b, " valid %%%u", l->args.v[i->arg + 4].i);
        break;
    case L_EXTRACT:
    case L_INSERT:
        print_args(b, l, i, 0), buf_printf(b, " lane %" PRId64, i->imm);
        break;
    case L_HREDUCE:
        buf_printf(b, ".%s", sop_text[i->sop]), print_args(b, l, i, 0);
        break;
    case L_LOAD:
    case L_STORE:
    case L_GATHER:
    case L_SCATTER:
        if (i->op == L_LOAD && i->flags) buf_puts(b, ".separate");
        if (i->op == L_STORE && i->flags) buf_puts(b, ".streamed");
        print_address(b, l, i);
        if (i->op == L_STORE || i->op == L_SCATTER)
            buf_printf(b, ", %%%u", l->args.v[i->arg + 2].i);
        if (i->narg == masked) buf_printf(b, " mask %%%u", l->args.v[i->arg + masked - 1].i);
        if (i->op == L_LOAD || i->op == L_STORE) buf_printf(b, " align %u", i->aux);
        break;
    case L_PTR_ADD:
        buf_printf(b, ".%s", dt_name((DType)i->aux)), print_address(b, l, i);
        break;
    case L_PTR_BYTES:
        print_address(b, l, i);
        break;
    case L_PREFETCH:
        buf_printf(b, ".l%u %s", i->sop, dt_name((DType)i->aux)), print_address(b, l, i);
        break;
    case L_TILE_ZERO:
        buf_printf(b, " t%lld", (long long)i->imm);
        break;
    case L_TILE_DOT4:
        buf_printf(b, " t%lld, t%lld, t%lld", (long long)i->imm & 15, (long long)i->imm >> 4 & 15, (long long)i->imm >> 8);
        break;
    case L_TILE_LOAD:
    case L_TILE_STORE:
        buf_printf(b, " t%u", i->aux), print_address(b, l, i), buf_printf(b, " pitch %%%u", l->args.v[i->arg + 2].i);
        break;
    case L_FAIL_IF:
        print_args(b, l, i, 0), buf_printf(b, " guard %u", i->aux);
        break;
    default:
        print_args(b, l, i, 0);
    }
}

static void indent(Buf *b, int depth) { buf_printf(b, "%*s", 2 + 2 * depth, ""); }

void lir_print(Buf *b, const Lir *l) {
    int depth = 0;
    buf_printf(b, "lir @%s bufs %u dims %u", l->name, l->nbuf, l->ndim);
    for (uint32_t k = 0; k < l->alias.n; k++)
        buf_printf(b, " alias %u-%u", l->alias.v[k].a, l->alias.v[k].b);
    if (l->threads) buf_printf(b, " threads %u shared %u%s", l->threads, l->shared, l->resident ? " resident" : "");
    if (l->cluster) buf_printf(b, " cluster %u", l->cluster);
    for (uint32_t k = 0; k < l->map.n; k++) {
        const LMap *m = &l->map.v[k];
        buf_printf(b, " map %s", dt_name((DType)m->dt));
        for (int d = 0; d < m->rank && m->box[d]; d++) buf_printf(b, d ? " %u" : "[%u", m->box[d]);
        buf_puts(b, m->swizzled ? "] swizzled" : "]");
        if (m->windows) buf_printf(b, " windows of %u axes", m->rank);
    }
    buf_puts(b, " {\n");
    for (uint32_t v = 1; v < l->ins.n; v++) {
        const LIns *i = &l->ins.v[v];
        const LVal *a = l->args.v + i->arg;
        switch (i->op) {
        case L_FOR:
            indent(b, depth++);
            buf_printf(b, "for %%%u = %%%u .. %%%u step %%%u", v, a[0].i, a[1].i, a[2].i);
            for (uint32_t k = 3; k < i->narg; k++) {
                buf_puts(b, k == 3 ? " (" : ", "), print_value(b, l, v + k - 2);
                buf_printf(b, " = %%%u", a[k].i);
            }
            buf_puts(b, i->narg > 3 ? ") {\n" : " {\n");
            continue;
        case L_CARRY:
            continue;
        case L_IF:
            indent(b, depth++), buf_printf(b, "if %%%u {\n", a[0].i);
            continue;
        case L_ELSE:
            if (i->narg)
                indent(b, depth), buf_puts(b, "yield"), print_args(b, l, i, 0), buf_puts(b, "\n");
            indent(b, depth - 1), buf_puts(b, "} else {\n");
            continue;
        case L_ENDFOR:
        case L_ENDIF:
            if (i->narg)
                indent(b, depth), buf_puts(b, "yield"), print_args(b, l, i, 0), buf_puts(b, "\n");
            indent(b, --depth), buf_puts(b, "}");
            for (uint32_t k = 0; k < i->narg; k++)
                buf_puts(b, k ? ", " : " -> "), print_value(b, l, v + 1 + k);
            buf_puts(b, "\n");
            continue;
        case L_RESULT:
            continue;
        default:
            break;
        }
        indent(b, depth);
        if (i->ty.dt != DT_NONE) print_value(b, l, v), buf_puts(b, " = ");
        buf_puts(b, i->op == L_OP ? sop_text[i->sop] : op_text[i->op]);
        print_fields(b, l, i);
        for (uint32_t k = 0; k < lir_hopper_values(i); k++) buf_puts(b, k ? ", " : " -> "), print_value(b, l, v + 1 + k);
        buf_puts(b, "\n");
    }
    buf_puts(b, "}\n");
}

/* ---- verify ---------------------------------------------------------------------------------- */

typedef struct V {
    Ctx *c;
    const Lir *l;
    bool ok;
    uint32_t at;
    bool *shared; /* per value: it points into the block's memory */
} V;
static void bad(V *v, const char *what) {
    if (v->ok)
        diag(v->c, SEV_ERROR, (Loc){0}, "X0501", "lir @%s: instruction %%%u (%s): %s", v->l->name,
             v->at, op_text[v->l->ins.v[v->at].op], what);
    v->ok = false;
}
static LTy type_of(const V *v, const LIns *i, uint32_t k) {
    return v->l->ins.v[v->l->args.v[i->arg + k].i].ty;
}
static bool same(LTy a, LTy b) { return a.dt == b.dt && a.lanes == b.lanes; }
static bool is(LTy a, DType t, uint32_t lanes) { return a.dt == t && a.lanes == lanes; }

static bool check_op(const V *v, const LIns *i) {
    LTy a = type_of(v, i, 0), last = type_of(v, i, i->narg - 1u);
    if (i->sop >= S_COUNT || i->narg != lir_sop_args((SOp)i->sop) ||
        !(lir_sop_class[i->sop] & lir_class(last.dt)))
        return false;
    if (i->sop == S_SELECT)
        return is(a, DT_BOOL, last.lanes) && same(last, type_of(v, i, 1)) && same(last, i->ty);
    for (uint32_t k = 0; k < i->narg; k++)
        if (!same(a, type_of(v, i, k))) return false;
    return lir_sop_class[i->sop] & LC_CMP ? is(i->ty, DT_BOOL, a.lanes) : same(i->ty, a);
}

static bool check_memory(const V *v, const LIns *i) {
    bool store = i->op == L_STORE || i->op == L_SCATTER,
         vec = i->op == L_GATHER || i->op == L_SCATTER;
    uint32_t plain = store ? 3 : 2;
    if (i->narg != plain && i->narg != plain + 1) return false;
    LTy val = store ? type_of(v, i, 2) : i->ty, idx = type_of(v, i, 1);
    if (!is(type_of(v, i, 0), DT_PTR, 1) || lir_bits(val.dt) == 0 || val.dt == DT_PTR) return false;
    if (vec ? (idx.dt != DT_I64 && idx.dt != DT_I32) || idx.lanes != val.lanes
            : !is(idx, DT_I64, 1))
        return false;
    if (i->aux == 0 || (i->aux & (i->aux - 1))) return false;
    return i->narg == plain || is(type_of(v, i, plain), DT_BOOL, val.lanes);
}

/* What a kernel with a block of known size may do besides, what only such kernels may do, and what may become of pointers into the block's
 * memory: NULL, or what is wrong. */
static const char *check_block(const V *v, const LIns *i) {
    const LVal *a = v->l->args.v + i->arg;
    bool together = i->op == L_SHARED || (i->op >= L_LANE_XOR && i->op <= L_COPY_WAIT) || lir_is_hopper(i), copy = i->op == L_COPY_ASYNC,
         move = i->op == L_LOAD || i->op == L_STORE;
    uint64_t places = lir_hopper_places(v->l, i);
    if (!v->l->threads) return together ? "the kernel has no block" : NULL;
    for (uint32_t k = 0; k < i->narg; k++) {
        bool must = k < 64 && places >> k & 1;
        bool place = must || (k == 0 && (copy || move || i->op == L_LOAD_MATRIX || i->op == L_PTR_ADD || i->op == L_PTR_BYTES));
        if (must && !v->shared[a[k].i]) return "this is not the block's memory";
        if (v->shared[a[k].i] && !place) return "a pointer into the block's memory must not go here";
    }
    if ((copy || i->op == L_LOAD_MATRIX) && !v->shared[a[0].i]) return "this is not the block's memory";
    bool masked = move && i->narg == (i->op == L_LOAD ? 3u : 4u);
    if (masked && (i->op == L_LOAD ? i->ty : type_of(v, i, 2)).lanes > 1) return "a vector under a mask";
    if (i->op == L_FAIL_IF || i->op == L_GATHER || i->op == L_SCATTER || i->op == L_NTID) return "not with a block of known size";
    return i->ty.lanes <= 2 || i->ty.lanes == 4 || i->ty.lanes == 8 ? NULL : "no vector of a GPU";
}

static bool check_mma(const V *v, const LIns *i) {
    bool whole = i->aux == DT_I8 || i->aux == DT_U8;
    if (!whole && i->aux != DT_F32 && i->aux != DT_F16 && i->aux != DT_BF16) return false;
    return is(type_of(v, i, 0), DT_I32, 4) && is(type_of(v, i, 1), DT_I32, 2) && is(type_of(v, i, 2), whole ? DT_I32 : DT_F32, 4) &&
        same(i->ty, type_of(v, i, 2));
}

static bool check_copy(const V *v, const LIns *i) {
    uint32_t size = i->aux & LIR_COPY_SIZE;
    bool ok = (i->narg == 4 || i->narg == 5) && (size == 4 || size == 8 || size == 16);
    for (uint32_t k = 0; k < i->narg; k++) ok &= is(type_of(v, i, k), k == 0 || k == 2 ? DT_PTR : DT_I64, 1);
    return ok;
}

static bool check_types(const V *v, const LIns *i) {
    if (lir_is_hopper(i)) return lir_hopper_fits(v->l, i);
    LTy a = i->narg > 0 ? type_of(v, i, 0) : (LTy){0},
        b = i->narg > 1 ? type_of(v, i, 1) : (LTy){0};
    uint32_t n = i->ty.lanes;
    switch (i->op) {
    case L_BUF:
        return is(i->ty, DT_PTR, 1) && i->imm >= 0 && i->imm < v->l->nbuf;
    case L_DIM:
        return is(i->ty, DT_I64, 1) && i->imm >= 0 && i->imm < v->l->ndim;
    case L_T0:
    case L_T1:
    case L_TSTEP:
    case L_TID:
    case L_NTID:
        return is(i->ty, DT_I64, 1);
    case L_SCRATCH:
        return is(i->ty, DT_PTR, 1);
    case L_SHARED:
        return is(i->ty, DT_PTR, 1) && i->imm >= 0 && i->imm <= v->l->shared;
    case L_LANE_XOR:
        return same(a, i->ty) && n == 1 && lir_bits((DType)a.dt) == 32 && i->imm > 0 && i->imm < LIR_WARP;
    case L_LOAD_MATRIX:
        return is(a, DT_PTR, 1) && is(b, DT_I64, 1) && is(i->ty, DT_I32, 4);
    case L_MMA:
        return check_mma(v, i);
    case L_COPY_ASYNC:
        return check_copy(v, i);
    case L_COPY_WAIT:
        return i->imm >= 0;
    case L_CONST:
    case L_IOTA:
        return lir_bits(i->ty.dt) != 0;
    case L_TABLE:
        return i->aux + (uint64_t)n <= v->l->tab.n && v->l->tab.v[i->aux].t == i->ty.dt;
    case L_OP:
        return i->narg >= 1 && i->narg <= 3 && check_op(v, i);
    case L_SHRU:
        return lir_class(a.dt) == LC_INT && same(a, b) && same(a, i->ty);
    case L_LTU:
        return lir_class(a.dt) == LC_INT && same(a, b) && is(i->ty, DT_BOOL, a.lanes);
    case L_CAST:
        return a.lanes == n && a.dt != i->ty.dt;
    case L_BITCAST:
        return a.lanes == n && lir_bits(a.dt) == lir_bits(i->ty.dt);
    case L_SPLAT:
        return a.dt == i->ty.dt && a.lanes == 1 && n > 1;
    case L_EXTRACT:
        return a.dt == i->ty.dt && n == 1 && i->imm >= 0 && i->imm < a.lanes;
    case L_INSERT:
        return same(a, i->ty) && is(b, a.dt, 1) && i->imm >= 0 && i->imm < a.lanes;
    case L_SHUFFLE:
        if (!same(a, b) || a.dt != i->ty.dt || i->aux + (uint64_t)n > v->l->shuf.n) return false;
        for (uint32_t k = 0; k < n; k++)
            if (v->l->shuf.v[i->aux + k] >= 2 * a.lanes) return false;
        return true;
    case L_PERMUTE:
        return same(a, i->ty) && lir_permutes((DType)a.dt, (DType)b.dt) && b.lanes == n;
    case L_HREDUCE:
        return is(i->ty, a.dt, 1) && (a.lanes & (a.lanes - 1)) == 0;
    case L_MASK:
        return is(a, DT_I64, 1) && i->ty.dt == DT_BOOL;
    case L_ANY:
        return a.dt == DT_BOOL && is(i->ty, DT_BOOL, 1);
    case L_STREQ:
        return is(a, DT_STR, 1) && is(b, DT_STR, 1) && is(i->ty, DT_BOOL, 1);
    case L_DOT4:
    case L_PAIRS:
        return same(a, i->ty) && same(a, b) && same(a, type_of(v, i, 2)) && a.dt == DT_I32;
    case L_ADD_PAIR:
        return same(a, i->ty) && same(a, b) && a.dt == DT_I32;
    case L_SCALEF:
        return same(a, b) && same(a, i->ty) && lir_class(a.dt) == LC_FLOAT;
    case L_PTR_ADD:
    case L_PTR_BYTES:
        return is(a, DT_PTR, 1) && is(b, DT_I64, 1) && is(i->ty, DT_PTR, 1);
    case L_TILES:
        return is(a, DT_I64, 1);
    case L_TILE_ZERO:
        return i->imm >= 0 && i->imm < LIR_TILES;
    case L_TILE_DOT4:
        return i->imm >= 0 && (i->imm & 15) < LIR_TILES && (i->imm >> 4 & 15) < LIR_TILES && i->imm >> 8 < LIR_TILES;
    case L_TILE_LOAD:
    case L_TILE_STORE:
        return is(a, DT_PTR, 1) && is(b, DT_I64, 1) && is(type_of(v, i, 2), DT_I64, 1) && i->aux < LIR_TILES;
    case L_PREFETCH:
        return is(a, DT_PTR, 1) && is(b, DT_I64, 1);
    case L_LOAD:
    case L_STORE:
    case L_GATHER:
    case L_SCATTER:
        return check_memory(v, i);
    case L_IF:
    case L_FAIL_IF:
        return is(a, DT_BOOL, 1);
    case L_FOR:
        return i->narg >= 3 && is(a, DT_I64, 1) && is(b, DT_I64, 1) &&
               is(type_of(v, i, 2), DT_I64, 1);
    default:
        return true;
    }
}

static bool yields(const V *v, const LIns *end, uint32_t first,
                   uint32_t n) { /* n CARRY or RESULT like end's operands */
    if (end->narg != n || first + n > v->l->ins.n) return false;
    for (uint32_t k = 0; k < n; k++)
        if (!same(type_of(v, end, k), v->l->ins.v[first + k].ty)) return false;
    return true;
}

bool lir_verify(Ctx *c, const Lir *l) {
    V v = {c, l, true, 0, NEWN(c, bool, l->ins.n)};
    bool hopper = false;
    VEC(uint32_t) open = {0};
    /* hidden[i]: i is defined in a region that has ended */
    bool *hidden = NEWN(c, bool, l->ins.n);
    for (v.at = 1; v.at < l->ins.n && v.ok; v.at++) {
        const LIns *i = &l->ins.v[v.at], *owner = NULL;
        uint32_t first = 0;
        if (i->op == L_NONE || i->op >= L_COUNT) return bad(&v, "no such operation"), false;
        if (op_narg[i->op] >= 0 && op_narg[i->op] != i->narg) bad(&v, "number of operands");
        for (uint32_t k = 0; k < i->narg && v.ok; k++) {
            uint32_t a = l->args.v[i->arg + k].i;
            if (a == 0 || a >= v.at || l->ins.v[a].ty.dt == DT_NONE)
                bad(&v, "operand is not a value above");
            else if (hidden[a])
                bad(&v, "operand belongs to a region that has ended");
        }
        if (!v.ok) break;
        hopper |= lir_is_hopper(i);
        if (!check_types(&v, i)) bad(&v, "types or fields do not fit");
        const char *wrong = check_block(&v, i);
        if (wrong) bad(&v, wrong);
        v.shared[v.at] = i->op == L_SHARED || ((i->op == L_PTR_ADD || i->op == L_PTR_BYTES) && v.shared[l->args.v[i->arg].i]);
        if (i->op == L_ELSE || i->op == L_ENDFOR || i->op == L_ENDIF) {
            if (open.n == 0) return bad(&v, "no region is open"), false;
            first = open.v[--open.n];
            owner = &l->ins.v[first];
            if (owner->op != (i->op == L_ELSE ? L_IF : i->op == L_ENDFOR ? L_FOR : L_ELSE))
                return bad(&v, "wrong end of region"), false;
            if (i->op != L_ENDFOR && owner->imm != v.at) bad(&v, "link to the next part");
            if (i->op == L_ENDFOR && (owner->imm != v.at || i->imm != first ||
                                      !yields(&v, i, first + 1, owner->narg - 3u)))
                bad(&v, "carried values");
            if (i->op == L_ENDIF)
                for (uint32_t k = 0; k < i->narg || k < owner->narg; k++)
                    if (i->narg != owner->narg || !same(type_of(&v, i, k), type_of(&v, owner, k))) {
                        bad(&v, "results of the two parts differ");
                        break;
                    }
            for (uint32_t k = first; k < v.at; k++) hidden[k] |= l->ins.v[k].op > L_TABLE;
        }
        if (i->op == L_FOR || i->op == L_IF || i->op == L_ELSE) vec_push(c, &open, v.at);
        if (i->op == L_CARRY || i->op == L_RESULT) {
            uint32_t o = i->aux;
            bool room = !lir_is_hopper(&l->ins.v[o]) || (uint64_t)i->imm < lir_hopper_values(&l->ins.v[o]);
            if (o + 1 + (uint64_t)i->imm != v.at || (i->op == L_CARRY) != (l->ins.v[o].op == L_FOR) || !room)
                bad(&v, "place of a carried value");
            else if (!same(type_of(&v, &l->ins.v[o], (uint32_t)i->imm + (i->op == L_CARRY ? 3 : 0)),
                           i->ty))
                bad(&v, "type of a carried value");
        }
    }
    if (v.ok && open.n) v.at = open.v[open.n - 1], bad(&v, "region is never closed");
    const char *wrong = v.ok && hopper ? lir_hopper_order(l, &v.at) : NULL;
    if (wrong) bad(&v, wrong);
    return v.ok;
}

/* ---- identity -------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t x) {
    h = (h ^ x) * 0xff51afd7ed558ccdu;
    return h ^ (h >> 32);
}
static uint64_t float_bits(double d) {
    uint64_t u;
    memcpy(&u, &d, sizeof u);
    return u;
}

uint64_t lir_hash(const Lir *l) {
    uint64_t h = mix(mix(mix(l->nbuf, l->ndim), l->ins.n), (uint64_t)l->shared << 32 | l->threads);
    for (uint32_t k = 0; k < l->alias.n; k++)
        h = mix(h, (uint64_t)l->alias.v[k].a << 32 | l->alias.v[k].b);
    for (uint32_t v = 1; v < l->ins.n; v++) {
        const LIns *i = &l->ins.v[v];
        h = mix(h, (uint64_t)i->op << 48 | (uint64_t)i->sop << 40 | (uint64_t)i->flags << 32 |
                       (uint64_t)i->ty.dt << 16 | i->ty.lanes);
        h = mix(mix(mix(h, (uint64_t)i->imm), float_bits(i->fimm)), i->narg);
        if (i->op != L_SHUFFLE && i->op != L_TABLE) h = mix(h, i->aux);
    }
    h = l->args.n ? hash_bytes(l->args.v, l->args.n * sizeof *l->args.v, h) : h;
    for (uint32_t k = 0; k < l->map.n; k++) h = hash_bytes(&l->map.v[k], sizeof l->map.v[k], h);
    h = l->shuf.n ? hash_bytes(l->shuf.v, l->shuf.n * sizeof *l->shuf.v, h) : h;
    for (uint32_t k = 0; k < l->tab.n; k++) h = mix(mix(h, l->tab.v[k].t), (uint64_t)l->tab.v[k].i);
    return h;
}

bool lir_equal(const Lir *a, const Lir *b) {
    if (a->nbuf != b->nbuf || a->ndim != b->ndim || a->ins.n != b->ins.n ||
        a->args.n != b->args.n || a->shuf.n != b->shuf.n || a->tab.n != b->tab.n ||
        a->alias.n != b->alias.n || a->threads != b->threads || a->shared != b->shared || a->resident != b->resident ||
        a->cluster != b->cluster || a->map.n != b->map.n)
        return false;
    if (a->map.n && memcmp(a->map.v, b->map.v, a->map.n * sizeof *a->map.v)) return false;
    for (uint32_t k = 0; k < a->alias.n; k++)
        if (a->alias.v[k].a != b->alias.v[k].a || a->alias.v[k].b != b->alias.v[k].b) return false;
    for (uint32_t v = 1; v < a->ins.n; v++) {
        const LIns *x = &a->ins.v[v], *y = &b->ins.v[v];
        if (x->op != y->op || x->sop != y->sop || x->flags != y->flags || x->ty.dt != y->ty.dt ||
            x->ty.lanes != y->ty.lanes || x->narg != y->narg || x->arg != y->arg ||
            x->imm != y->imm || float_bits(x->fimm) != float_bits(y->fimm) || x->aux != y->aux)
            return false;
    }
    if (a->args.n && memcmp(a->args.v, b->args.v, a->args.n * sizeof *a->args.v)) return false;
    if (a->shuf.n && memcmp(a->shuf.v, b->shuf.v, a->shuf.n * sizeof *a->shuf.v)) return false;
    for (uint32_t k = 0; k < a->tab.n; k++)
        if (a->tab.v[k].t != b->tab.v[k].t || a->tab.v[k].i != b->tab.v[k].i) return false;
    return true;
}
