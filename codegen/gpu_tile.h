/* gpu_tile.h: contractions by blocks of a GPU: out[m.., n..] += A[m.., k..] * B[n.., k..], both perhaps along batch axes, and epilogues. Products of
 * matrices and convolutions differ in the coefficients of the operands' addresses alone. What templates (ukr_gemm.c, ukr_mma.c) share is here:
 * recognising the contraction, bringing tiles of the operands into shared memory, the loop over k, and the results' way out.
 *
 * A block computes a tile of rows[0] points of the m axes by rows[1] points of the n axes, as one row of indices each, for one point of the
 * batch axes. It walks k, all reduced axes as one row of indices, in steps of `depth`, ascending. Tiles lie in `stages` slots, filled that
 * many steps minus one ahead: by asynchronous copies where a factor is a load whose elements are those of the tile, of 16 bytes where
 * they are neighbours, of zeros where it is out of range; through registers by emit_expr otherwise. Beyond the last k both operands are 0, which
 * changes no sum; beyond the last row of a side they are 0, and the results are dropped. */
#ifndef ACCELC_GPU_TILE_H
#define ACCELC_GPU_TILE_H
#include "emit_internal.h"

enum { GPU_MOST_COPIES = 32 /* of a thread, of a side, for a step */, GPU_TESTS = 3, GPU_FORMS = 1 + GPU_TESTS };

/* Forms of a load, its address first, along a list of axes as one index, neighbours that all forms walk as one merged; outermost first. */
typedef struct Walk {
    int n;
    Dim extent[K_AXES], coef[GPU_FORMS][K_AXES];
} Walk;

/* An index of a load that may be out of range: not in 0 .. size. */
typedef struct Test {
    Dim size;
    bool narrow; /* it fits 32 bits */
} Test;

/* A factor of the product. */
typedef struct Side {
    Expr x;
    int axis[K_AXES], naxis; /* parallel axes that it has alone: its rows, outermost first */
    DType type;              /* of elements in shared memory; both sides' are of one size */
    bool near_k;             /* in the operand's memory, neighbours are neighbours in k, not in rows */
    bool along_k;            /* the same in shared memory */
    int vec;                 /* elements that are copied at once; 0: they go through registers, in words of several k if they are small */
    uint16_t buf;            /* of a load: what it is of, its address and the indices that are tested, and these along rows and along k */
    int ntest;
    Test test[GPU_TESTS];    /* of form 1 + the test's number */
    Expr pad;                /* of no axis: what the load is where one fails; none: 0 */
    Affine f[GPU_FORMS];
    Walk row, k;
} Side;

typedef struct GpuProduct {
    const Kernel *k;
    const Stage *s;
    Side side[2];
    int batch[K_AXES], nbatch, red[K_AXES], nred;
    int near; /* side along whose rows neighbours in the result are neighbours in memory */
} GpuProduct;

/* Is the kernel a contraction in type `acc` and epilogues, none of which may fail? The sides' elements are kept as type0 and type1. */
bool gpu_product(const Kernel *k, DType acc, DType type0, DType type1, GpuProduct *x);
void gpu_swap(GpuProduct *x); /* the sides */
/* Is it one that matrix instructions compute, of the types that both factors have, or may be rounded to on this target? Of bytes side 1 is signed. */
bool gpu_matrix_product(const Kernel *k, const Target *t, GpuProduct *x);
static inline int gpu_bytes(const GpuProduct *x) { return (int)dt_bits(x->side[0].type) / 8; } /* of an element */
/* The axis of stages along which n neighbouring results, from every n-th on, are one access each, for all that is loaded and stored with
 * them; or -1. */
int gpu_together(const GpuProduct *x, int n);
Dim gpu_rows(const GpuProduct *x, int side);
Dim gpu_depth(const GpuProduct *x);
Dim gpu_batches(const GpuProduct *x);
/* Cycles, if all multiprocessors take tiles of that size in rounds, each with `speed` products a cycle: of all of them together. */
double gpu_tile_cost(const GpuProduct *x, int rows, int cols, double speed);
double gpu_tiles_of(const GpuProduct *x, int rows, int cols); /* how many */

/* An index expression of no axis as a size. */
bool gpu_as_dim(Ctx *c, Expr e, Dim *d);

/* How a side that has x, type and axes lies in memory, given batch and red. */
void gpu_side_memory(GpuProduct *x, Side *s);

/* Index i of rows, k or batches as coordinates along the axes: at[axis] of each. */
void gpu_split(Emit *e, const GpuProduct *x, LVal i, const int *axis, int n, LVal *at);
void gpu_levels(Emit *e, const Walk *w, LVal i, LVal *at); /* the same along the levels of a walk */
/* What index i adds to a form, addresses in elements; and where a point of the batch axes begins. */
LVal gpu_walked(Emit *e, const Walk *w, int form, LVal i);
LVal gpu_base(Emit *e, const GpuProduct *x, int side, int form, const LVal *at);
/* The part that a row has in the indices that are tested, at a point of the batch axes; and whether all are in range at k. */
void gpu_tested(Emit *e, const GpuProduct *x, int side, const LVal *at, LVal row, LVal index[GPU_TESTS]);
LVal gpu_in_range(Emit *e, const Side *s, const LVal index[GPU_TESTS], LVal k);
/* The factor in the accumulator's type; at: coordinates of the batch axes. */
LVal gpu_factor(Emit *e, const GpuProduct *x, int side, const LVal *at, LVal row, LVal k);
LVal gpu_zero(Lir *l, DType t);

/* What a thread brings of a side's tile: from `line` on every step-th line (a row if near_k, else a k), `places` elements of each, or
 * groups of them, or words of `word` k. Of its rows, those in range, others 0: byte offsets in the operand; near_k: whether they are in
 * range, else how many bytes are. */
typedef struct GpuCopies {
    int lines, places, word;
    int64_t step;
    LVal line, place[GPU_MOST_COPIES], row[GPU_MOST_COPIES], offset[GPU_MOST_COPIES], valid[GPU_MOST_COPIES];
    LVal index[GPU_MOST_COPIES][GPU_TESTS]; /* the rows' part of indices that are tested */
    LVal pad;                               /* a word of it, if it is not 0 */
} GpuCopies;

typedef struct GpuTiles {
    Emit *e;
    Lir *l;
    GpuProduct x;
    int rows[2], depth, threads, stages;
    bool swizzle[2];    /* 16-byte chunks of a line are permuted by its number, so that eight lines can be read at once */
    int64_t slot, base[2]; /* bytes of a stage; where in it a side begins */
    LVal mem, tid, count[2], ksize, first[2];
    LVal at[K_AXES];    /* coordinates of the batch axes */
    GpuCopies copy[2];
} GpuTiles;

/* Templates with loops of their own bring tiles so, given e, l, x, rows, depth, threads, swizzle, base, mem, tid, count, ksize, first, at:
 * begin for every tile of results; fetch: this thread's part of the tile that begins at k0 begins to be copied into the slot at byte `slot`,
 * or is in v until put stores it. */
void gpu_begin_side(GpuTiles *g, int side);
void gpu_fetch(GpuTiles *g, int side, LVal k0, LVal slot, LVal *v);
void gpu_put(GpuTiles *g, int side, LVal slot, const LVal *v);

/* Byte address in a slot of row `row`, element `k` of a side's tile. */
LVal gpu_tile_at(const GpuTiles *g, int side, LVal row, LVal k);
/* Element index in shared memory of the sum at (row, col) of the tile, once the loop over k is over. */
LVal gpu_sum_at(const GpuTiles *g, LVal row, LVal col);
/* Sums go from there to the epilogues, and out. */
void gpu_leave(GpuTiles *g);

typedef struct GpuCore {
    uint32_t nacc; /* sums, or vectors of four sums, of a thread */
    int lanes;
    void (*prepare)(GpuTiles *g, void *data);                       /* once, before all tiles */
    void (*product)(GpuTiles *g, void *data, LVal slot, LVal *acc); /* a step: acc in, acc out; slot: byte address of the stage */
    void (*sums)(GpuTiles *g, void *data, const LVal *acc);         /* stores every sum of this thread at gpu_sum_at */
    void *data;
} GpuCore;
/* Shared bytes that a kernel of these tiles takes. */
int64_t gpu_tiles_bytes(const int rows[2], int esize, int depth, int stages);
/* Everything: tasks, blocks, loops. g has e, rows, depth, threads, stages, swizzle, x. */
void gpu_tiles_build(GpuTiles *g, const GpuCore *core);
#endif
