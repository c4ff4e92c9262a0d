/* ml_tree.h: tree ensembles between their readers (op_ml_tree.c) and the primitives that walk them (op_ml_walk.c). */
#ifndef ACCELC_FRONTEND_ML_TREE_H
#define ACCELC_FRONTEND_ML_TREE_H
#include "frontend/ml.h"

typedef struct TNode {
    double split;               /* x <= split: kid[0], else kid[1] */
    uint32_t feature, kid[2];   /* kid: positions in Trees.node; several nodes may have the same */
    bool leaf, nan_right;       /* nan_right: NaN goes to kid[1], else to kid[0] */
} TNode;
typedef struct Weight { uint32_t leaf; int64_t target; double value; } Weight;
typedef struct Trees {
    VEC(TNode) node;
    VEC(uint32_t) root;         /* of each tree */
    VEC(Weight) weight;         /* of the leaves, any number for each; targets are in range */
    Val x;                      /* [rows, features] */
    DType split;                /* f32 or f64: of splits, weights and scores; x is compared as this */
    bool numbers;               /* x are integers: none is NaN */
} Trees;

/* Scores [rows, n] of type e->split: for each row and target the sum (or R_MIN, R_MAX; 0 if there is none) of the weights of the leaves that the row
 * reaches. Poison after a message if the nodes have a cycle or x has too few features. */
Val trees_scores(Imp *m, Trees *e, int64_t n, ReduceOp op);
#endif
