/* text.h: what print.c and parse.c must agree on. Words of enumerations, short forms of combiners,
 * limits. */
#ifndef ACCELC_TEXT_H
#define ACCELC_TEXT_H
#include "ir.h"
#include <math.h>

enum { CONST_LIST = 64, CONST_HEX = 4096 }; /* elements one by one; bytes as hex digits */
#define LABELS "abcdefghijklmnopqrstuvwxyzABCDEF"

static const char *const pad_modes[] = {
    [PAD_VALUE] = "value", [PAD_EDGE] = "edge", [PAD_REFLECT] = "reflect", [PAD_WRAP] = "wrap"};
static const char *const oob_names[] = {[OOB_NEVER] = "never",
                                        [OOB_VALUE] = "zero",
                                        [OOB_CLAMP] = "clamp",
                                        [OOB_FAIL] = "fail",
                                        [OOB_DROP] = "drop"};
static const char *const scatter_modes[] = {
    [SC_SET] = "set", [SC_ADD] = "add", [SC_MUL] = "mul", [SC_MIN] = "min", [SC_MAX] = "max"};
static const char *const guard_names[] = {
    [G_EQ] = "eq", [G_LE] = "le", [G_LT] = "lt", [G_BCAST] = "bcast", [G_TRUE] = "true"};

/* reduce.sum and its like: one operand, acc = acc OP x from the neutral element, accumulated in
 * fold_acc(type). */
typedef struct FoldName { const char *name; uint8_t op; } FoldName;
static const FoldName fold_table[] = {{"sum", S_ADD}, {"prod", S_MUL}, {"max", S_MAX},
                                      {"min", S_MIN}, {"and", S_AND},  {"or", S_OR}};
enum { fold_count = sizeof fold_table / sizeof *fold_table };

static inline DType fold_acc(DType t) { return dt_is_float(t) && t != DT_F64 ? DT_F32 : t; }

static inline Expr fold_comb(Ctx *c, const FoldName *f, DType t) {
    bool bits = f->op == S_AND || f->op == S_OR, whole = dt_is_int(t) || (bits && t == DT_BOOL);
    if (!whole && (bits || !dt_is_float(t))) return (Expr){0};
    return expr_op(c, (SOp)f->op, expr_arg(c, 0, t), expr_arg(c, 1, t), (Expr){0});
}

static inline Scalar fold_init(const FoldName *f, DType t) {
    unsigned bits = dt_bits(t);
    uint64_t ones = ~(uint64_t)0 >> (64 - (t == DT_BOOL || !bits ? 1 : bits < 64 ? bits : 64));
    uint64_t most = dt_is_signed(t) ? ones >> 1 : ones;
    int64_t least = dt_is_signed(t) ? -(int64_t)most - 1 : 0;
    Scalar s = {.t = t};
    switch (f->op) {
    case S_ADD: case S_OR: break;
    case S_MUL:
        if (dt_is_float(t)) s.f = 1;
        else s.i = 1;
        break;
    case S_AND: s.i = dt_is_signed(t) ? -1 : (int64_t)ones; break;
    case S_MAX:
        if (dt_is_float(t)) s.f = -(double)INFINITY;
        else s.i = least;
        break;
    default:
        if (dt_is_float(t)) s.f = (double)INFINITY;
        else s.i = (int64_t)most;
    }
    return s;
}
#endif
