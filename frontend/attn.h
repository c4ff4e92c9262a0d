/* attn.h: the pieces of attention that its importers share: operands with their heads apart, scores, what is done to scores,
 * and the product with the values. Everything accepts poison and gives it back; what returns bool reports before it returns
 * false. */
#ifndef ACCELC_FRONTEND_ATTN_H
#define ACCELC_FRONTEND_ATTN_H
#include "frontend/import.h"

typedef struct Heads {
    Val v;
    bool flat;                          /* [B, S, H, D] instead of [B, H, S, D] */
    Dim batch, heads, len, size;
} Heads;

/* q k^T. Grouped heads are an axis of their own, so that keys are never copied. */
typedef struct Scores {
    Val v;                              /* [B, H, S, T], or [B, KV, G, S, T] */
    bool grouped;
    Dim kv, group;                      /* key heads, query heads for each */
    Dim dim[4];                         /* batch, query heads, queries, keys */
    Expr at[4];                         /* their coordinates */
} Scores;

/* ==== op_attn.c =================================================================================================== */
/* Operand of rank 4, [B, H, S, D], or of rank 3, [B, S, n * D]; `count` names the attribute n. */
bool heads_apart(Imp *m, Val v, int64_t n, const char *count, Heads *h);
/* [B, S, n * D] */
bool heads_of_rows(Imp *m, Val v, int64_t n, const char *count, Heads *h);
void heads_first(Imp *m, Heads *h);     /* as [B, H, S, D] */
bool heads_append(Imp *m, Val past, Heads *h);  /* concat(past, new) along the sequence, heads first; past may be absent */
/* In the type in which q is computed. */
bool scores_of(Imp *m, Heads *q, const Heads *k, Scores *s);
void scores_scale(Imp *m, Scores *s, bool given, double scale, Dim size); /* else by 1/sqrt(size) */
void scores_map(Imp *m, Scores *s, Expr body, int nin, const Val *in);    /* argument 0 is the score, the others are in[] */
void scores_keep(Imp *m, Scores *s, Expr seen, double low, int nin, const Val *in); /* the score where seen, else low */
/* + mask, or -inf where a bool mask is false. The mask has up to 4 axes, sizes that are 1 broadcast, keys behind its end are
 * masked. */
bool scores_mask(Imp *m, Scores *s, Val mask, const char *what);
Val scores_flat(Imp *m, const Scores *s);       /* as [B, H, S, T] */
void scores_softmax(Imp *m, Scores *s);
/* p v, of element type t: [B, S, H * D] if rows, else [B, H, S, D]. */
Val scores_times(Imp *m, const Scores *p, const Heads *v, bool rows, DType t);

/* ==== op_ms_attn.c ================================================================================================ */
typedef struct SelfAttention { /* absent: poison */
    Val mask, bias, past;
    Val used;                           /* past is a buffer of which so much is taken */
    Val indirection;                    /* [batch, beams, ..]: the beam that each key of a beam is from */
} SelfAttention;
/* The rest of com.microsoft's Attention behind the product y[B, S, n[0] + n[1] + n[2]] of the input with the weights of queries, keys
 * and values, bias included: results 0 (of type t) and 1 of the node. */
void self_attention(Imp *m, Val y, const Dim *n, const SelfAttention *s, DType t);

/* ==== op_rotary.c ================================================================================================= */
typedef struct Rotary { Val cos, sin; Dim size; /* rotated part of a head */ bool pairs; /* neighbours, not halves */ } Rotary;
/* h turned by the caches, which are [B or 1, S, size / 2]. */
bool rotate(Imp *m, Heads *h, const Rotary *r);
#endif
