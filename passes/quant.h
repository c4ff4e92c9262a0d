/* quant.h: integer contractions. quant.c rewrites them, quant_match.c says what an operand is in terms of its 8-bit values,
 * quant_scale.c shortens what lies between a product and the next quantisation. */
#ifndef ACCELC_PASSES_QUANT_H
#define ACCELC_PASSES_QUANT_H
#include "scale.h"

enum { FLAT_IN = 16, QUANT_VIEWS = 8 };

/* A value as one expression over others: E_ARG(k) is in[k], broadcast to the value's domain. Constants that are equal
 * everywhere are part of the expression. */
typedef struct Flat { Expr e; Val in[FLAT_IN]; int nin; } Flat;

/* A value made from 8-bit integers: views of (q - zero) * scale. zero is i32, scale of the value's type; none: 0 and 1. */
typedef struct Dequant {
    Flat f;
    Val q;                      /* u8 or i8, of the shape that the views start from */
    Expr zero, scale;           /* over f.in */
    const Node *view[QUANT_VIEWS];
    int nview;                  /* first one: the last applied */
} Dequant;

/* Maps that lead to v, as one expression. inner: also maps that others read; else those only if they convert 8-bit values. */
bool flat_of(Alg *a, Val v, bool inner, Flat *f);
bool flat_const(const Alg *a, const Flat *f, Expr e);   /* e reads constants alone */
void flat_used(const Alg *a, Expr e, bool *used);        /* used[k] = true for the operands that e reads */
/* e over constant operands, evaluated; over operands of one element, computed as a scalar. Poison if it is neither. */
Val flat_value(Alg *a, const Flat *f, Expr e);
Val flat_scalar(Alg *a, const Flat *f, Expr e);
bool dequant_of(Alg *a, Val v, Dequant *d);

/* Quantisations of what was made from products (product[v]) or 8-bit values: one multiplication and one addition per term. */
bool quant_scales(Alg *a, const bool *product);
#endif
