/* layout.h: what layout.c (values), layout_conv.c (convolutions) and channels.c (both, for GPUs) share. */
#ifndef ACCELC_PASSES_LAYOUT_H
#define ACCELC_PASSES_LAYOUT_H
#include "internal.h"

enum { BLOCK = 16, WIDE = 64, QUAD = 4, TAPS = 16 };

typedef struct Lay {
    Graph *g;
    Ctx *c;
    PassCtx *p;
    int64_t block;              /* channels per block: 16, or 64 */
    VEC(Val) blk;               /* per value: its blocked form, or poison */
    VEC(uint8_t) windowed;      /* per value with a blocked form: number of trailing window dims */
    uint8_t *planes;            /* per value at the beginning: all convolutions that read its windows read planes */
} Lay;

Val lay_blocked(Lay *w, Val v); /* v in blocks, or poison */
void lay_set_blocked(Lay *w, Val plain, Val b, int windows);
Val lay_folded(Lay *w, Val v); /* a chain of views of a constant, evaluated now: the next step must see a constant */
int64_t lay_nblocks(const Lay *w, int64_t c);
Val lay_pad_dim(Lay *w, B *b, Val v, int d, int64_t block, bool edge); /* dim d of v up to a multiple of `block`: zeros, or the last element again */
Val lay_pad_channels(Lay *w, B *b, Val v, int d, bool edge); /* the same, by BLOCK */
Val lay_in_blocks(Lay *w, B *b, Val v, int64_t block, bool edge); /* [N, C, s..] -> [N, C/block, s.., block] */
Val lay_from_blocked(Lay *w, B *b, Val v, int64_t c); /* [N, C/16, s.., 16] -> [N, C, s..] */
void lay_done(Lay *w, B *b, Val old, Val blk, int64_t c); /* blk is the blocked form of what `old` is */

/* layout_conv.c: contract n g? c s.. k.., g? o c k.. -> n g? o s.. with constant weights. */
typedef struct Conv {
    Val x, w;                   /* x: [N, C, s.., k..] windowed */
    int spatial;
    int64_t cin, cout, groups;  /* cin, cout per group */
    bool grouped;               /* there are dims for groups */
    bool bytes;                 /* u8 times i8, summed in i32 */
} Conv;
bool conv_match(const Graph *g, const Node *n, Conv *v);

/* The convolution n on blocks, if it is one that fits; sets w->planes; channels per block of a net. */
bool layout_conv(Lay *w, Node *n);
void layout_planes(Lay *w);
int64_t layout_block(Lay *w);
#endif
