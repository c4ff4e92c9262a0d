/* lower_internal.h: what the parts of lower.c share: a kernel in the making, index expressions, reading of values. */
#ifndef ACCELC_LOWER_INTERNAL_H
#define ACCELC_LOWER_INTERNAL_H
#include "emit_internal.h"
#include "ir/storage.h"

typedef struct Pull { uint32_t v; bool guarded; Expr idx[MAX_RANK]; Expr out; struct Pull *next; } Pull;
typedef struct Low {
    Ctx *c;
    Graph *outer, *g;           /* g: the body */
    const Node *group;
    const Storage *storage;
    Kernel *k;
    uint16_t *buf;              /* per body value: 1 + kernel buffer, 0 = inline */
    bool *made;                 /* per body value: its buffer holds it (an operand, or a stage wrote it) */
    Val *target;                /* per result: the value written in its place (the result itself, or what it is a view of) */
    Dim extent[K_AXES];         /* of the stage being built */
    uint32_t naxis;
    Pull *pull[256];            /* memo of lower_value for the stage being built */
    int guarded;                /* > 0: loads must be safe at any index */
    bool *ready;                /* per body value: nothing it needs waits for a later stage (set by lower_epilogue) */
    VEC(Stage) stages;
} Low;

static inline Expr ci(Low *w, int64_t v) { return expr_int(w->c, DT_I64, v); }
static inline Expr add(Low *w, Expr a, Expr b) { return expr_op(w->c, S_ADD, a, b, (Expr){0}); }
static inline Expr sub(Low *w, Expr a, Expr b) { return expr_op(w->c, S_SUB, a, b, (Expr){0}); }
static inline Expr mul(Low *w, Expr a, Expr b) { return expr_op(w->c, S_MUL, a, b, (Expr){0}); }
static inline Expr cmp(Low *w, SOp op, Expr a, Expr b) { return expr_op(w->c, op, a, b, (Expr){0}); }
static inline Expr both(Low *w, Expr a, Expr b) { return !a.i ? b : !b.i ? a : expr_op(w->c, S_AND, a, b, (Expr){0}); }
static inline Expr dimx(Low *w, Dim d) { return expr_dim(w->c, d); }
static inline Expr tidy(Low *w, Expr e) { return expr_simplify_index(w->c, e, w->extent, w->naxis); }

/* lower_pull.c. A flat row-major index of coordinates, and coordinates of one. */
Expr lower_flatten(Low *w, int rank, const Dim *dim, const Expr *idx);
void lower_unflatten(Low *w, Expr flat, int rank, const Dim *dim, Expr *idx);
Expr lower_inside(Low *w, Expr i, Dim n); /* 0 <= i < n where not provable; none if it always holds */
Expr lower_load(Low *w, uint16_t buf, const Expr *idx, Oob oob, Expr pad, uint32_t guard); /* an element of a kernel buffer */
Expr lower_operand(Low *w, const Node *n, const MapAttr *a, uint32_t k, const Expr *idx); /* operand k of a map, at a point of its domain */
Expr lower_map_load(Low *w, const Node *n, const ExprInfo *i, const Expr *arg); /* load i of the body of map n, its arguments at the point */
Expr lower_value(Low *w, Val v, const Expr *idx); /* an element of a value of the body, as loads of buffers that are made */

/* lower_stage.c: a stage for a node of the body. */
bool lower_is_root(const Node *n); /* does it need one of its own? */
void lower_reduce(Low *w, Node *n);
void lower_contract(Low *w, Node *n);
void lower_pointwise(Low *w, Val v, Val to); /* all elements of v into the buffer of `to` */
void lower_scatter(Low *w, Node *n);
void lower_special(Low *w, Node *n);
/* Stages for the group's results that follow from the results of `root` (a reduce or contract) alone along its own points. */
void lower_epilogue(Low *w, Node *root, uint32_t root_stage);

/* lower.c: a buffer of the kernel for a value of the outer graph, or a temporary. */
uint16_t lower_buf(Low *w, uint8_t kind, const Type *t, Val outer);
#endif
