/* emit_range.c: which indices fit 32 bits. In: an i64 expression of a stage; out: bounds of its value over all points. It runs for every index
 * of a vector, so it takes expressions as they are, without simplifying them. */
#include "emit_internal.h"

typedef struct Range { int64_t lo, hi; } Range; /* INT64_MIN, INT64_MAX: no bound */

static const Range unbounded = {INT64_MIN, INT64_MAX};

static Range range_of(const Emit *e, const Stage *s, Expr x, int depth);

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t bound_sum(int64_t a, int64_t b, int64_t none) {
    int64_t v;
    return a == none || b == none || __builtin_add_overflow(a, b, &v) ? none : v;
}

static Range difference(Range a, Range b) {
    if (b.hi == INT64_MIN) return unbounded;
    return (Range){b.hi == INT64_MAX ? INT64_MIN : bound_sum(a.lo, -b.hi, INT64_MIN), b.lo == INT64_MIN ? INT64_MAX : bound_sum(a.hi, -b.lo, INT64_MAX)};
}

static Range range_of_op(const Emit *e, const Stage *s, const ExprInfo *i, int depth) {
    int at = i->op == S_SELECT;
    if (i->op == S_ABS) {
        Range x = range_of(e, s, i->arg[0], depth + 1);
        return x.lo == INT64_MIN || x.hi == INT64_MAX ? unbounded : (Range){0, most(x.hi, -x.lo)};
    }
    if (i->op == S_NEG) return difference((Range){0, 0}, range_of(e, s, i->arg[0], depth + 1));
    if (i->narg != 2 + at) return unbounded;
    Range a = range_of(e, s, i->arg[at], depth + 1), b = range_of(e, s, i->arg[at + 1], depth + 1);
    bool bounded = a.lo > INT64_MIN && a.hi < INT64_MAX && b.lo > INT64_MIN && b.hi < INT64_MAX;
    int64_t v[4];
    switch (i->op) {
    case S_ADD: return (Range){bound_sum(a.lo, b.lo, INT64_MIN), bound_sum(a.hi, b.hi, INT64_MAX)};
    case S_SUB: return difference(a, b);
    case S_MUL:
        if (!bounded || __builtin_mul_overflow(a.lo, b.lo, &v[0]) || __builtin_mul_overflow(a.lo, b.hi, &v[1]) ||
            __builtin_mul_overflow(a.hi, b.lo, &v[2]) || __builtin_mul_overflow(a.hi, b.hi, &v[3])) return unbounded;
        return (Range){least(least(v[0], v[1]), least(v[2], v[3])), most(most(v[0], v[1]), most(v[2], v[3]))};
    case S_SELECT: return (Range){least(a.lo, b.lo), most(a.hi, b.hi)};
    case S_MIN: return (Range){least(a.lo, b.lo), least(a.hi, b.hi)};
    case S_MAX: return (Range){most(a.lo, b.lo), most(a.hi, b.hi)};
    case S_FDIV: case S_DIV: return a.lo < 0 || b.lo < 1 ? unbounded : (Range){0, a.hi == INT64_MAX ? a.hi : a.hi / b.lo};
    case S_MOD: return b.lo < 1 ? unbounded : (Range){0, b.hi == INT64_MAX ? b.hi : b.hi - 1};
    case S_REM: return a.lo < 0 || b.lo < 1 ? unbounded : (Range){0, b.hi == INT64_MAX ? b.hi : b.hi - 1};
    default: return unbounded;
    }
}

/* Of an i64 expression at any point of the stage. */
static Range range_of(const Emit *e, const Stage *s, Expr x, int depth) {
    const ExprInfo *i = expr_info(e->c, x);
    if (depth > 12 || i->dtype != DT_I64) return unbounded;
    switch ((ExprKind)i->kind) {
    case E_CONST: return (Range){i->val.i, i->val.i};
    case E_AXIS: return (Range){0, dim_hi(e->c, s->axis[i->index].extent)};
    case E_DIM: return (Range){dim_lo(e->c, (Dim){i->index}), dim_hi(e->c, (Dim){i->index})};
    case E_CAST: {
        DType from = expr_info(e->c, i->arg[0])->dtype;
        bool small = from == DT_BOOL || (dt_is_int(from) && dt_bits(from) <= 32 && from != DT_U32);
        return small ? (Range){INT32_MIN, INT32_MAX} : unbounded;
    }
    case E_OP: return range_of_op(e, s, i, depth);
    default: return unbounded;
    }
}

bool emit_fits_i32(const Emit *e, const Stage *s, Expr x) {
    Range r = range_of(e, s, x, 0);
    return r.lo >= INT32_MIN && r.hi <= INT32_MAX;
}
