/* attn.h: what the files of template `attention` share: the shape of such a kernel (attn_match.c),
 * and the state of its code generation (ukr_attn.c, attn_softmax.c, attn_few.c). */
#ifndef ACCELC_ATTN_H
#define ACCELC_ATTN_H
#include "panel.h"

typedef struct Attn {
    const Kernel *k;
    int qk, max, sum, pv; /* stages */
    Expr q, key;          /* operands of the scores, over the axes of qk */
    Expr v;               /* operand of the results, over the axes of pv */
    Expr x;               /* what softmax is taken of, over the axes of max: reads `score` once */
    uint16_t score;       /* buffer of q * key */
    bool zero_nan;        /* 0 instead of NaN */
    int t, tq, tv;        /* the axis of keys in max, qk and pv */
    int d, col;           /* reduced axis of qk; v's own axis in pv */
    int batch[K_AXES], nbatch; /* axes of max that key or v have */
    int row[K_AXES], nrow;     /* its other ones but t, outermost first */
    int to_qk[K_AXES], to_pv[K_AXES]; /* axis of max -> axis of qk, pv */
    bool causal;          /* x is -inf at keys past (innermost row + past) */
    Expr past;
} Attn;
bool attn_classify(const Kernel *k, Attn *a);

typedef struct AttnGen {
    Emit *e;
    Lir *l;
    Attn a;
    int lanes, nv, width;     /* vectors of a panel, lanes * nv columns */
    int64_t mr, rows, keys;   /* rows of a tile; of a task (innermost axis); keys of a chunk */
    bool one;                 /* all keys in one chunk */
    bool few;                 /* row by row, key and v read in place */
    LVal at[K_AXES];          /* coordinates of max's axes: batch and outer rows */
    LVal block;               /* rows of scratch before those of the current outer row */
    LVal r0;                  /* first row of the task along the innermost row axis */
    LVal t0, tn;              /* chunk: first key, number of keys (that the current tile sees) */
    LVal last;                /* it is the last chunk */
    bool whole_vectors;       /* tn is a multiple of lanes */
    LVal d, dp, vcols, vp;    /* sizes of q and v, and padded */
    LVal q, kp, vs;           /* scratch: rows of q, panels of keys, rows of v */
    LVal s, o, m, sum;        /* scratch: scores of a tile; results, maximum and sum so far per row */
    LVal alpha;               /* scratch: factor of earlier results per row of the tile; then, from
                                 PANEL_TILE on, 1 / sum */
    int64_t pitch;            /* of s */
    LVal value;               /* of q * key where x is evaluated */
} AttnGen;

/* ukr_attn.c */
LVal attn_f32(AttnGen *g, double v);
LVal attn_splat(AttnGen *g, LVal s);
LVal attn_load(AttnGen *g, LVal p, LVal i); /* a vector */
LVal attn_load1(AttnGen *g, LVal p, LVal i);
void attn_put(AttnGen *g, LVal p, LVal i, LVal v);
/* Batch and outer rows as coordinates of a stage: axes of max renamed by `to` (NULL: max itself). */
Point attn_point(AttnGen *g, const int *to);
int attn_inner(const AttnGen *g);        /* innermost row axis of max, or -1 */
LVal attn_task_rows(AttnGen *g);         /* rows of the current task along it */
/* Final results: nv vectors of columns from col for rows from row (of the task), times 1 / sum. */
typedef struct AttnOut { int rows, nv; LVal row, col; } AttnOut;
void attn_store(AttnGen *g, const AttnOut *t, const LVal *acc);

/* attn_softmax.c: scores of the tile's rows become exp(x - m), factors go to alpha. */
void attn_softmax(AttnGen *g, int rows, LVal row);
LVal attn_exp(Lir *l, LVal d); /* of f32 d <= 0, or NaN: in any number of lanes */

/* attn_few.c: few rows, as in decoding: packing would cost more than the products. */
bool attn_few_fits(Emit *e, const Attn *a, int lanes); /* key and v have contiguous axes */
void attn_few_rows(AttnGen *g); /* rows of the task at the current outer rows, for one chunk */
#endif
