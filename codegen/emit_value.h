/* emit_value.h: what emit.c, emit_value.c, emit_memory.c and emit_reduce.c share; templates see kernel.h and emit_internal.h. */
#ifndef ACCELC_EMIT_VALUE_H
#define ACCELC_EMIT_VALUE_H
#include "emit_internal.h"

/* emit_value.c: v is a register value, of type reg_type(t) */
DType reg_mem_type(DType t);                                  /* type of an element in memory: packed types are unpacked to bytes in values */
LVal reg_round(Emit *e, LVal v, DType t);                     /* to the precision of t */
LVal reg_const(Emit *e, Scalar s);
LVal reg_from_memory(Emit *e, LVal v, DType t);               /* an element of type t as it was loaded */
LVal reg_to_memory(Emit *e, LVal v, DType t);                 /* as it is stored */
uint16_t reg_lanes(Emit *e, LVal v);
LVal reg_widen(Emit *e, LVal v, uint16_t lanes);              /* a scalar in every lane; vectors as they are */

/* emit.c: i64 expressions may come as i32 where they provably fit */
Point emit_scalar_point(const Point *p);                      /* lane 0 */
LVal emit_mode(Emit *e, const Stage *s, Expr x, const Point *p, bool scalar); /* x at p; scalar: at lane 0 only (addresses, invariants) */
LVal emit_low(Emit *e, const Stage *s, Expr x, const Point *p); /* the low 32 bits of an i64 expression, as i32 */
bool emit_fits_i32(const Emit *e, const Stage *s, Expr x);    /* is the i64 expression x within i32 at every point of the stage? */
LVal emit_as_i32(Emit *e, LVal v);                            /* an i64 that fits, or what is i32 already */
LVal emit_typed(Emit *e, Expr x, LVal v);                     /* v as expression x's own type */

/* emit_memory.c. Where: all indices, those that are the same in all lanes and not in p->inside, the others */
typedef enum { WHERE_ALL, WHERE_POINT, WHERE_LANES } Where;
/* Is index d of an access to b, at, in range at every point of the stage? */
bool emit_always_inside(Ctx *c, const Stage *s, const KBuf *b, Expr at, int d);
/* Are the indices of an access in range: a scalar or a mask; none if they always are. */
LVal emit_bounds(Emit *e, const Stage *s, const KBuf *b, int rank, const Expr *at, const Point *p, Where where);
/* Load x at p. With `inside`: the caller has checked WHERE_POINT, and takes care of the lanes that are out of range: *inside is the mask of the
 * others, or none. */
LVal emit_load(Emit *e, const Stage *s, const ExprInfo *x, const Point *p, LVal *inside);

/* What the offset of load x is made of that is the same at all points along the axis, and of a store all of it. */
void emit_load_offsets(Emit *e, const Stage *s, const ExprInfo *x, int axis, Expr *offset);
Expr emit_store_offset(Emit *e, const KOut *o);

/* The indices of load x: those of the nearest element, if it is clamped. */
void emit_load_at(Emit *e, const Stage *s, const ExprInfo *x, Expr *at);

/* emit_few.c: the lanes of an access in range, by permuting what one vector loads; none if they read too many places. ok: a scalar, whether there is
 * anything to read, or none. */
LVal emit_few(Emit *e, const Stage *s, uint16_t buf, const Expr *at, LVal ok, const Point *p);
/* With e->near: lanes of an access that may turn out to be near; parts 0: they do not ask. */
enum { NEAR_PARTS = 4 };
typedef struct Near {
    DType type;                 /* of an element as it is moved */
    uint16_t lanes;             /* of a register */
    int parts, dim;             /* registers of the vector; which index differs */
    LVal which, all;            /* indices; are all near, and is there anything to read? */
    /* of each part: where its register begins, the least or what ends the row; where the lanes are from there; what may be read, if not all */
    LVal first[NEAR_PARTS], from_first[NEAR_PARTS], mask[NEAR_PARTS];
} Near;
Near emit_near(Emit *e, const Stage *s, uint16_t buf, const Expr *at, LVal ok, const Point *p);
/* With e->near, where a gather takes an instruction for every lane: where they are, as scalars. lanes 0: they are gathered. */
enum { APART_LANES = 16 };
typedef struct Apart {
    uint16_t lanes;
    Expr row[MAX_RANK];         /* the indices that all lanes share, 0 for the others */
    LVal at[APART_LANES];       /* elements from there; where the mask is false, another lane's */
    LVal mask, any;             /* none: all lanes */
} Apart;
Apart emit_apart(Emit *e, const Stage *s, uint16_t buf, const Expr *at, LVal mask, const Point *p);
LVal emit_load_apart(Emit *e, const Stage *s, uint16_t buf, const Apart *a, const Point *p); /* reads 0 where the mask is false */
/* Whether b has elements at all: a scalar, or none where that is known. */
LVal emit_has_elements(Emit *e, const Stage *s, const KBuf *b, const Point *p);
#endif
