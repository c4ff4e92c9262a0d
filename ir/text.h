/* text.h: what print.c and parse.c must agree on. Words of enumerations, short forms of combiners, limits. */
#ifndef ACCELC_TEXT_H
#define ACCELC_TEXT_H
#include "ir.h"
#include <math.h>

enum { CONST_LIST = 64, CONST_HEX = 4096 }; /* elements printed one by one; bytes printed as hex digits */
#define LABELS "abcdefghijklmnopqrstuvwxyzABCDEF"

static const char *const pad_modes[] = {[PAD_VALUE] = "value", [PAD_EDGE] = "edge", [PAD_REFLECT] = "reflect",
                                        [PAD_WRAP] = "wrap"};
static const char *const oob_names[] = {[OOB_NEVER] = "never", [OOB_VALUE] = "zero", [OOB_CLAMP] = "clamp",
                                        [OOB_FAIL] = "fail", [OOB_DROP] = "drop"};
static const char *const scatter_modes[] = {[SC_SET] = "set", [SC_ADD] = "add", [SC_MUL] = "mul", [SC_MIN] = "min",
                                            [SC_MAX] = "max"};
static const char *const guard_names[] = {[G_EQ] = "eq", [G_LE] = "le", [G_LT] = "lt", [G_BCAST] = "bcast",
                                          [G_TRUE] = "true"};

/* reduce.sum and its like: one operand, acc = acc OP x from the neutral element, accumulated in fold_acc(type). */
typedef struct FoldName { const char *name; uint8_t op; } FoldName;
static const FoldName fold_table[] = {{"sum", S_ADD}, {"prod", S_MUL}, {"max", S_MAX},
                                      {"min", S_MIN}, {"and", S_AND},  {"or", S_OR}};
enum { fold_count = sizeof fold_table / sizeof *fold_table };

static inline DType fold_acc(DType t) { return dt_is_float(t) && t != DT_F64 ? DT_F32 : t; }

static inline Expr fold_comb(Ctx *c, const FoldName *f, DType t) {
    bool bits = f->op == S_AND || f->op == S_OR;
    if (bits ? dt_is_float(t) || t == DT_STR : !dt_is_float(t) && !dt_is_int(t)) return (Expr){0};
    return expr_op(c, (SOp)f->op, expr_arg(c, 0, t), expr_arg(c, 1, t), (Expr){0});
}

static inline Scalar fold_init(const FoldName *f, DType t) {
    bool fl = dt_is_float(t), top = f->op == S_MIN; /* min starts at the greatest value, max at the least */
    Scalar s = {.t = t};
    if (f->op == S_MUL || f->op == S_AND) {
        if (fl) s.f = 1;
        else s.i = f->op == S_MUL || t == DT_BOOL || !dt_is_signed(t) ? 1 : -1;
        if (f->op == S_AND && dt_is_int(t) && !dt_is_signed(t)) s.i = dt_bits(t) == 64 ? -1 : ((int64_t)1 << dt_bits(t)) - 1;
    } else if (f->op == S_MAX || f->op == S_MIN) {
        unsigned bits = dt_bits(t);
        if (fl) s.f = top ? (double)INFINITY : -(double)INFINITY;
        else if (!dt_is_signed(t)) s.i = !top ? 0 : bits >= 64 ? -1 : ((int64_t)1 << bits) - 1;
        else s.i = top ? (int64_t)(((uint64_t)1 << (bits - 1)) - 1) : -(int64_t)(((uint64_t)1 << (bits - 1)) - 1) - 1;
    }
    return s;
}
#endif
