/* dim_internal.h: the table of dimensions, shared by dim.c (table, symbols, accessors), dim_poly.c
 * (sums of products, ranges), dim_ops.c (constructors) and dim_text.c.
 *
 * A node is CONST, an *atom* (a symbol, or an operation that is neither sum nor product), a
 * product coef * ((atom * atom) * atom).., or a sum ((product + product) + ..) + const of products
 * in their order (dim_poly.c). Two dims with one polynomial over the same atoms are therefore one
 * node. Size and depth of a node are bounded, so that whoever walks a dim needs no guard against
 * hostile input.
 *
 * dim_unify links a symbol to a dim of other symbols. Nodes that mention a linked symbol stay in
 * the table; dim_canon() finds what they have become, and memoises it until the next link. So it does
 * for those that mention a symbol of a fact (dim_assume_le). */
#ifndef ACCELC_DIM_INTERNAL_H
#define ACCELC_DIM_INTERNAL_H
#include "internal.h"

enum {
    MAX_TERMS = 64,     /* products in a flattened sum; larger sums stay nested ("opaque") */
    MAX_FACTORS = 16,   /* atoms in a flattened product */
    MAX_ATOMS_DEEP = 64,/* nesting of atoms */
    MAX_SIZE = 4096     /* nodes of the expression written out as a tree */
};

typedef struct DimNode {
    DimInfo info;
    bool opaque;        /* ADD, MUL: an atom to the polynomials */
    bool pinned;        /* SYM: links are not followed */
    uint16_t depth;     /* of atoms */
    uint32_t size;      /* as a tree */
    uint64_t syms;      /* Bloom set of the ids of its symbols that are not pinned */
    uint32_t canon;     /* what it has become, valid if epoch is the table's */
    uint32_t epoch;
} DimNode;

typedef struct DimSym {
    SymInfo info;
    Dim self;           /* its SYM node */
    Dim link;           /* what it was unified with; 0 = nothing */
} DimSym;

typedef struct Term {
    int64_t coef;
    uint32_t n;
    Dim f[MAX_FACTORS]; /* sorted by dim_order */
} Term;
typedef struct Poly {
    int64_t k;
    uint32_t n;
    Term t[MAX_TERMS];  /* value: k + the sum of t; sorted, no coef is 0 */
} Poly;
typedef enum { P_OK, P_OVERFLOW, P_BIG } PolyResult;
typedef struct Range { int64_t lo, hi; } Range; /* INT64_MIN, INT64_MAX: unbounded */

typedef struct DimTable {
    VEC(DimNode) node;          /* [0] poison */
    uint32_t *slot, nslot;      /* hash of node */
    VEC(DimSym) sym;
    StrMap name;                /* symbol -> id + 1 */
    StrMap stem;                /* of dim_fresh -> last number given */
    uint64_t linked;            /* Bloom set of symbols that are linked or in facts */
    uint32_t epoch;             /* number of links and facts */
    VEC(Dim) fact;              /* of symbols that are not bound (of_inputs): known not to be negative */
    bool looking;               /* a fact is being brought up to date: it may mention what it is about */
    VEC(Poly *) pool;           /* scratch, taken and given back like a stack */
    uint32_t taken;
    int relax;                  /* work left to the current range proof */
    bool told[3];               /* messages given: overflow, division by zero, too large */
} DimTable;

/* dim.c */
DimTable *dim_table(Ctx *c);
const DimNode *dim_node(const Ctx *c, Dim d);       /* as it is in the table */
Dim dim_canon(const Ctx *c, Dim d);                 /* links followed */
/* val: CONST, SYM; flag: opaque, pinned */
Dim dim_intern(Ctx *c, DimKind kind, int n, const Dim *arg, int64_t val, bool flag);
void dim_tighten(Ctx *c, Dim d, Range r);           /* a fact: the value of operation d is in r */
typedef enum { DIM_OVERFLOW, DIM_ZERO_DIVIDE, DIM_TOO_LARGE } DimFailure;
Dim dim_fail(Ctx *c, DimFailure f);                 /* poison, and one message of each kind */
int dim_order(const Ctx *c, Dim a, Dim b);          /* total; by structure and names, not by age */
bool dim_mentions(const Ctx *c, Dim d, uint32_t sym);

/* dim_poly.c; dims given to these are canonical */
Poly *poly_take(Ctx *c);                            /* k = 0, n = 0 */
void poly_give(Ctx *c, int n);                      /* the last n taken */
PolyResult poly_add(Ctx *c, Poly *p, Dim d, int64_t scale);             /* p += scale * d */
PolyResult poly_add_poly(Ctx *c, Poly *p, const Poly *q, int64_t scale);
PolyResult poly_add_term(Ctx *c, Poly *p, const Term *t, int64_t scale);
PolyResult poly_mul(Ctx *c, Poly *out, const Poly *a, const Poly *b);   /* out must be empty */
/* false unless b divides a without remainder; quotient must be empty, and is undefined if false */
bool poly_divide(Ctx *c, Poly *quotient, const Poly *a, const Poly *b);
bool term_divide(Term *quotient, const Term *a, const Term *b);
int64_t poly_content(const Poly *p);                /* gcd of the coefficients, without k, or 0 */
void poly_scale_down(Poly *p, int64_t by);          /* exact */
Dim poly_dim(Ctx *c, const Poly *p);
Range poly_range(Ctx *c, const Poly *p);
Range range_add(Range a, Range b);
Range range_mul(Range a, Range b);
int64_t gcd64(int64_t a, int64_t b);                /* of magnitudes; gcd(0, x) = |x| */
int64_t floor_div(int64_t a, int64_t b);            /* b != 0, not INT64_MIN / -1 */
int64_t ceil_div(int64_t a, int64_t b);
#endif
