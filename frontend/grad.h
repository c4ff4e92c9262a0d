/* grad.h: what the files of reverse-mode differentiation share. */
#ifndef ACCELC_FRONTEND_GRAD_H
#define ACCELC_FRONTEND_GRAD_H
#include "frontend/import.h"

/* The derivative of e by a leaf of it, of e's type; none: 0 everywhere. */
Expr grad_expr(Imp *m, Expr e, Expr by);

/* Gradients of values of m's graph, while nodes are walked backwards. */
typedef struct Grad {
    Imp *m;
    uint32_t n;                 /* room in both */
    Val *adj;                   /* per value: the gradient so far, or none */
    bool *active;               /* per value: of a float type, and depends on what is differentiated by */
} Grad;

void grad_room(Grad *g);                        /* for all values of the graph */
void grad_activate(Grad *g, uint32_t from);     /* results of nodes from that one on that have an active operand */
bool grad_active(const Grad *g, Val v);
Val grad_zeros(Grad *g, Val like);
/* "a gradient through `what` of" the node's operator; false. */
bool grad_refuse(Grad *g, const Node *n, const char *what);
/* Adds v, of the value's shape and type, to the gradient of x, if x is active. */
void grad_add(Grad *g, Val x, Val v);
/* Nodes [from, to) backwards: what the gradients of results add to those of operands. false after a message. */
bool grad_nodes(Grad *g, uint32_t from, uint32_t to);

/* grad.c: v, shaped as a scatter's result, at the places that it wrote to: shaped as its updates. */
Val grad_scattered(Grad *g, const Node *n, Val v);

/* grad_fold.c: by the combiner; a scatter that multiplies or compares */
bool grad_any_scan(Grad *g, const Node *n);
bool grad_any_reduce(Grad *g, const Node *n);
bool grad_any_scatter(Grad *g, const Node *n);

/* grad_flow.c */
bool grad_if(Grad *g, const Node *n);
bool grad_loop(Grad *g, const Node *n);
#endif
