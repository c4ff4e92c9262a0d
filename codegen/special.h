/* special.h: what the stages that are no plain nests share: the stage at a point of its parallel axes, one axis of which is walked. */
#ifndef ACCELC_SPECIAL_H
#define ACCELC_SPECIAL_H
#include "emit_internal.h"

typedef struct Sp { Emit *e; Lir *l; const Stage *s; Point *p; int axis; LVal n; } Sp;

static inline LVal c64(Sp *x, int64_t v) { return lir_i64(x->l, v); }
static inline LVal op(Sp *x, SOp o, LVal a, LVal b) { return lir_op2(x->l, o, a, b); }
static inline LVal pick(Sp *x, LVal c, LVal a, LVal b) { return lir_op3(x->l, S_SELECT, c, a, b); }
static inline LVal load64(Sp *x, LVal ptr, LVal i) { return lir_load(x->l, ptr, i, (LTy){DT_I64, 1}, (LVal){0}, 0); }
static inline void store64(Sp *x, LVal ptr, LVal i, LVal v) { lir_store(x->l, ptr, i, v, (LVal){0}, 0); }
static inline LFor loop(Sp *x, LVal hi, uint32_t n, const LVal *init) { return lir_for(x->l, c64(x, 0), hi, c64(x, 1), n, init); }

/* ukr_special.c */
LVal special_value(Sp *x, int r, LVal i);               /* body r with the walked coordinate at i */
void special_store(Sp *x, int r, LVal v, LVal i);       /* result r at i */
void special_store_position(Sp *x, int r, LVal v, LVal i); /* the same for results that are positions, whatever the body's type */
/* ukr_order.c: sort and topk. A word of 64 bits stands for an element: order_word of the one at i, whose position order_position gives back.
 * order_before: must word i stand before word j, strictly? keyed: words are compared as numbers, and no two are equal. wide: so they are, but for
 * `below` bits of the elements, unless `elements` is set: then these are compared. list: vectors that are the best in order; selects: of topk, only
 * the best k are sorted (ukr_order.c). */
typedef struct Order { Sp *x; int nkeys, list; bool descending, keyed, wide, elements, selects; LVal least, below; } Order;
Order order_of(Ctx *c, const Stage *s);                 /* but for x */
LVal order_word(Order *o, LVal i);
LVal order_position(Order *o, LVal w);
LVal order_before(Order *o, LVal i, LVal j);
Dim order_extent(const Stage *s);                       /* elements that are ordered */
Dim order_scratch(const Emit *e, const Stage *s);       /* in words of 8 bytes */
void order_stage(Sp *x, LVal room);
#endif
