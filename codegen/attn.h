/* attn.h: what the files of template `attention` share: the shape of such a kernel (attn_match.c), and the state of its code
 * generation (ukr_attn.c, attn_few.c). */
#ifndef ACCELC_ATTN_H
#define ACCELC_ATTN_H
#include "panel.h"

typedef struct Attn {
    const Kernel *k;
    int qk, max, sum, pv;               /* stages */
    Expr q, key, v, x;                  /* q, key: over the axes of qk; v: of pv; x, the scores: of max, loads inlined */
    uint16_t score;                     /* buffer of q * k */
    bool zero_nan;                      /* 0 instead of NaN */
    int t, tq, tv, d, col;              /* keys in max, qk, pv; reduced axis of qk; v's own axis in pv */
    int batch[K_AXES], nbatch, row[K_AXES], nrow; /* axes of max; rows: outermost first */
    int to_qk[K_AXES], to_pv[K_AXES];   /* axis of max -> axis of qk, pv */
    bool causal;                        /* x is -inf at keys past (innermost row + past) */
    Expr past;
} Attn;
bool attn_classify(const Kernel *k, Attn *a);

typedef struct AttnGen {
    Emit *e;
    Lir *l;
    Attn a;
    int lanes, nv, width;
    int64_t mr, rows, keys;             /* sched */
    bool one;                           /* all keys in one chunk */
    bool few;                           /* row by row, k and v read in place */
    LVal at[K_AXES];                    /* coordinates of max's axes: batch and outer rows */
    LVal block;                         /* rows of a task before the current outer row, in rows of scratch */
    LVal r0;                            /* first row of the task along the innermost row axis */
    LVal t0, tn, last;                  /* chunk: first key, number of keys (that the current tile sees), whether it is the last */
    bool whole_vectors;                 /* tn is a multiple of lanes */
    LVal d, dp, vcols, vp;              /* sizes of q and v, and padded */
    LVal q, kp, vs, s, o, m, sum, alpha;/* scratch; alpha: factors of earlier results, then at PANEL_TILE 1 / sum */
    int64_t pitch;                      /* of s */
    LVal value;                         /* of q * k where x is evaluated */
} AttnGen;

/* ukr_attn.c */
LVal attn_f32(AttnGen *g, double v);
LVal attn_splat(AttnGen *g, LVal s);
LVal attn_load(AttnGen *g, LVal p, LVal i);                /* a vector */
LVal attn_load1(AttnGen *g, LVal p, LVal i);
void attn_put(AttnGen *g, LVal p, LVal i, LVal v);
Point attn_point(AttnGen *g, const int *to);               /* batch and outer rows, axes of max renamed by `to` (NULL: as they are) */
int attn_inner(const AttnGen *g);                          /* innermost row axis of max, or -1 */
LVal attn_task_rows(AttnGen *g);                           /* of the current task, along that axis */
void attn_softmax(AttnGen *g, int rows, LVal row);         /* scores of the tile become exp(x - m), factors go to alpha */
typedef struct AttnOut { int rows, nv; LVal row, col; } AttnOut;
void attn_store(AttnGen *g, const AttnOut *t, const LVal *acc); /* final results of rows x nv vectors, times 1 / sum */

/* attn_few.c: few rows, as in decoding: packing would cost more than the products. */
bool attn_few_fits(Emit *e, const Attn *a, int lanes);      /* k and v are read along contiguous axes */
void attn_few_rows(AttnGen *g);                             /* all rows of the task at the current outer rows, for one chunk */
#endif
