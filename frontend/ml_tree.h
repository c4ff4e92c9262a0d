/* ml_tree.h: tree ensembles between their readers (op_ml_tree.c), the two ways to find a row's leaf (op_ml_walk.c, op_ml_bits.c), and what is made of
 * the leaves (op_ml_score.c). */
#ifndef ACCELC_FRONTEND_ML_TREE_H
#define ACCELC_FRONTEND_ML_TREE_H
#include "frontend/ml.h"

typedef struct TNode {
    double split;               /* x <= split: kid[0], else kid[1] */
    uint32_t feature, kid[2];   /* kid: positions in Trees.node; several nodes may have the same */
    bool leaf, nan_right;       /* nan_right: NaN goes to kid[1], else to kid[0] */
} TNode;
typedef struct Weight { uint32_t leaf; int64_t target; double value; } Weight;
typedef enum { NAN_LEFT, NAN_RIGHT, NAN_MIXED } NanWay; /* at all nodes; LEFT also if x is never NaN */
typedef struct Trees {
    VEC(TNode) node;
    VEC(uint32_t) root;         /* of each tree */
    VEC(Weight) weight;         /* of the leaves, any number for each; targets are in range */
    Val x;                      /* [rows, features], of type `type` */
    DType type;
    DType split;                /* f32 or f64: of splits, weights and scores; x is compared as this */
    bool numbers;               /* x are integers: none is NaN */
    const int32_t *height;      /* of each node above its deepest leaf, -1 where no tree has it; trees_measure */
    NanWay nan;
} Trees;

/* The trees to find leaves in: root + 1 of each, or 0 for an empty one, which has one leaf. */
typedef struct Grove { const uint32_t *root; int64_t n; } Grove;
enum { NO_NODE = -1 };
typedef struct Leaves {
    Val at;                     /* i32[rows, trees]: the slot of the leaf that the row reaches in the tree */
    int64_t slots;
    const int32_t *node;        /* of each slot: its leaf, as a position in Trees.node, or NO_NODE */
} Leaves;

/* ==== op_ml_walk.c ================================================================================================ */
bool trees_measure(Imp *m, Trees *e);   /* sets height and nan; false after a message: the nodes have a cycle */
bool trees_walk(Imp *m, const Trees *e, const Grove *g, Leaves *out);
/* x of that feature (an i64 expression) as e->split */
Expr trees_feature(Imp *m, const Trees *e, int operand, Expr row, Expr feature);
/* ==== op_ml_bits.c ================================================================================================ */
bool trees_fit_bits(Imp *m, const Trees *e, const Grove *g);    /* small trees without shared nodes */
bool trees_bits(Imp *m, const Trees *e, const Grove *g, Leaves *out);
/* ==== op_ml_score.c =============================================================================================== */
/* Scores [rows, n] of type e->split: for each row and target the sum (or R_MIN, R_MAX; 0 if there is none) of the weights of the leaves that the row
 * reaches. Poison after a message if the nodes have a cycle or x has too few features. */
Val trees_scores(Imp *m, Trees *e, int64_t n, ReduceOp op);
#endif
