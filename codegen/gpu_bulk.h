/* gpu_bulk.h: operands of a contraction (gpu_tile.h) that lie in memory as they are multiplied, so that copies of tiles of tensors (lir_tensor_load)
 * bring them: the tensor that a side is, its map, and the coordinates of what a tile of results needs of it. Two kinds:
 *
 * Boxes. The tensor's axes are the levels along which rows and k are walked, and batches. Rows and k of a copy are of one level each, so rows of
 * several levels are those of the innermost one, for each point of the others, which are batches then.
 *
 * Windows. Rows of several axes, as one row of indices, of which elements may be out of range: convolutions with channels last. An axis of the
 * tensor is one of the buffer. The channels lie side by side and are the innermost k. Along the axes of windows rows are a stride apart, and the
 * other k, the taps, move all rows of a copy. Along the last axis rows are images, one each; there may be a single one. So a tile is whole wherever
 * it begins, in a line or an image, at any stride, dilation and padding that maps have bits for (KMap of kernel.h). */
#ifndef ACCELC_GPU_BULK_H
#define ACCELC_GPU_BULK_H
#include "gpu_tile.h"

enum { GPU_LINE = LIR_SWIZZLE_ROW /* bytes of k of a copy; or of rows, of which it has TALL then (16-bit types) */, GPU_TALL = 64 };

/* A line is of the innermost k alone. Where that is no whole number of lines, and there are others outside of it, the last line of each ends with
 * zeros (BY_LINES); else k is one row of indices. */
typedef enum { OF_ROWS, OF_K, OF_BATCHES } GpuOf;
typedef struct GpuBulkAxis {
    Dim extent, step;
    GpuOf of;      /* of boxes: the level of the side's walk, by lines the reduced axis; or the batch axis */
    int index;
    Affine at;     /* of windows: the index along it, and what of that is of no axis */
    Dim rest;
    KWindow window;
} GpuBulkAxis;

typedef struct GpuBulk {
    bool windows, by_lines; /* by_lines: both sides are, or none */
    int n;
    GpuBulkAxis axis[LIR_AXES]; /* the nearest first; of windows: channels, window axes, images */
    Dim offset;
    uint32_t map;
    bool to_all; /* copies come to every block of the cluster */
    LVal fixed[LIR_AXES]; /* coordinates of a tile of results, but for what k adds */
} GpuBulk;

/* Where only the run knows that an operand is repeated along an axis, its step is 0 then; a box has no such axis. Nothing is walked backwards. */
bool gpu_may_repeat(Ctx *c, Dim step);
Dim gpu_map_step(Ctx *c, Dim step, int vec);    /* of a map, which takes no 0: vec elements then */
LVal gpu_map_at(Emit *e, Dim step, LVal i);     /* the coordinate for index i: 0 then */
uint32_t gpu_argument(const Emit *e, uint16_t buf);

/* Where a ring of stages is: the one that comes next, and the parity that its mbarrier has when it may be used. */
typedef struct GpuRing { LVal at[2]; } GpuRing;
void gpu_ring_next(Lir *l, int stages, GpuRing *r);
/* Thread 0 makes n mbarriers of one arrival from byte `full` of mem on, and n for `readers` of them from `empty` on; then all threads go on, of all
 * blocks of the cluster. */
void gpu_ring_barriers(Lir *l, LVal mem, LVal thread, LVal full, LVal empty, int n, uint32_t readers);
enum { GPU_MBARRIER = 8 /* bytes */ };

/* Whether both sides are such operands. Outer levels of rows may become batches. */
bool gpu_bulks(GpuProduct *x, GpuBulk bulk[2]);
Dim gpu_bulk_steps(const GpuProduct *x, const GpuBulk bulk[2]); /* copies of a row, along k */
/* Makes the map of a side, copies of `rows` rows and GPU_LINE bytes: map number `side` of the code. */
void gpu_bulk_map(Emit *e, const GpuProduct *x, int side, int rows, GpuBulk *t);
/* For a tile of results that begins at row `first` of the side, at a point of the batch axes. */
void gpu_bulk_tile(Emit *e, const GpuProduct *x, int side, GpuBulk *t, const LVal *at, LVal first);
/* Copies what step `step` along k needs of it, `rows` rows (a tile's), to byte `to` of mem, for the mbarrier. */
void gpu_bulk_load(Emit *e, const GpuProduct *x, int side, const GpuBulk *t, int rows, LVal step, LVal mem, LVal to, LVal mbarrier);
#endif
