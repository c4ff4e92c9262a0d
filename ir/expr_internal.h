/* expr_internal.h: what the files expr*.c share. Not included by anybody else.
 *
 * Expressions are rows of a table in chunks, so a `const ExprInfo *` stays valid for the life of
 * the Ctx. An argument is always interned before its user: ascending handles are a topological
 * order, and no walk below needs a stack. */
#ifndef ACCELC_EXPR_INTERNAL_H
#define ACCELC_EXPR_INTERNAL_H
#include "internal.h"

typedef enum { RULE_SAME, RULE_INT, RULE_FLT, RULE_CMP, RULE_TEST, RULE_SEL } SRule;
typedef struct SOpInfo {
    const char *text;           /* name in the text form */
    uint8_t n;                  /* arguments */
    uint8_t rule;               /* SRule */
    bool commutes, associates;
} SOpInfo;
const SOpInfo *sop_info(SOp op);

/* expr_fold.c: a simpler equal of op applied to arg (constants on the right), or none; the dim that an operation on two dims,
 * or a dim and a constant, is, if both agree for every value. */
Expr expr_fold_op(Ctx *c, SOp op, DType t, const Expr *arg);
Expr expr_fold_dims(Ctx *c, SOp op, const Expr *arg);

/* The nodes reachable from some roots, arguments before users, each once. */
typedef struct ExprWalk {
    uint32_t *e;                /* handles, ascending */
    uint32_t n, cap;
    uint32_t *slot;             /* open addressing: position + 1 */
    uint32_t nslot;             /* a power of two */
} ExprWalk;
void expr_walk(const Ctx *c, ExprWalk *w, Expr root);
uint32_t expr_walk_at(const ExprWalk *w, Expr e);   /* position of a reachable node */
void expr_walk_free(ExprWalk *w);

uint64_t expr_axes(const Ctx *c,
                   Expr e); /* bit a: axis a occurs below e; bit 63: some axis >= 63 */
bool expr_is_int(const Ctx *c, Expr e, int64_t *v); /* an i64 constant */
void *expr_scratch(const Ctx *c, void *old, size_t n,
                   size_t elem); /* realloc that ends the compilation if refused */
#endif
