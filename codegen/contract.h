/* contract.h: a contraction as templates see it: which axes are rows, columns, batches, sums. contract_shape.c finds out. */
#ifndef ACCELC_CONTRACT_H
#define ACCELC_CONTRACT_H
#include "emit_internal.h"

typedef struct Operand { Expr load; uint16_t buf; Affine f; DType type; } Operand;
/* A dim of A that is read out of range, too, as zero: at index rest + row * step + tap * far of its `size`. */
typedef struct Border { int row, tap; int64_t step, far; Expr rest; Dim size; } Border;
typedef struct Shape {
    const Kernel *k;
    const Stage *s;
    Operand a, b;
    int vec;                        /* n axis of unit stride */
    int nblk;                       /* n axis whose blocks are tiled when the vector axis is one block of 16, else -1 */
    int m[K_AXES], nm;              /* m axes, outermost first */
    int batch[K_AXES], nbatch;      /* axes of both or neither */
    int nout[K_AXES], nnout;        /* other n axes: walked like batch */
    int red[K_AXES], nred;
    int quad;                       /* reduced axis of four bytes, or -1; not in red */
    Border border[K_AXES];
    int nborder;
    double more;                    /* what symbols that nothing bounds count times the usual */
} Shape;

/* The kernel is one contraction of loads that are affine in its axes, and epilogues; of two ways to see it, the one whose results
 * lie along the vector axis. */
bool contract_shape(const Kernel *k, Shape *x);
double shape_extent(const Shape *x, int axis);                     /* at typical sizes */
double shape_product(const Shape *x, const int *axis, int n);      /* of extents */
/* B is no panel, and its rows are so many steps of a large power of two that a column of them falls into few sets of the second-level cache: none
 * stays there until the next tile, and no prefetcher follows. */
bool shape_rows_collide(const Shape *x, const Target *t);

/* contract_border.c: the border that an index makes, if it is one. */
bool contract_border(const Kernel *k, const Stage *s, Expr index, Dim size, Border *b);
bool contract_border_neutral(const Shape *x);                      /* zeros there add nothing: B is finite */
/* The taps in range, [lo[tap], hi[tap]), of all borders but the one along the innermost m axis, which is returned: of that one, from `row` up to the
 * row that is returned, at most `end`. */
const Border *contract_taps_across(Emit *e, const Shape *x, const LVal *at, LVal *lo, LVal *hi);
LVal contract_taps_along(Emit *e, const Shape *x, const Border *b, LVal row, LVal end, LVal *lo, LVal *hi);

/* Rows of a tile: ty points of the second innermost m axis times tx of the innermost one; at most mr. */
typedef struct TileRows { int ty, tx; } TileRows;
TileRows contract_rows(const Shape *x, int mr);
/* A lone m axis of known extent without borders is cut by tiles, so that their even sizes stay; how many. */
bool contract_by_tiles(const Shape *x, TileRows tr, int64_t *tiles);
Dim contract_column_tiles(const Shape *x, const Target *t, int nv);

/* A task is a chunk of rows (of tiles, if contract_by_tiles) and `tiles` column tiles. depth > 0: it goes over the reduced axis in passes of so many
 * points, as the chunk's elements of A do not stay in the second-level cache otherwise; with `copies`, each copies its elements of A first: rows that
 * lie a multiple of 4096 bytes apart fall into one set of the first-level cache. rows_first: B stays in the second-level cache and A does not, so
 * all column tiles pass over a chunk before the next one. */
typedef struct Plan {
    int64_t chunk, depth, tiles;
    bool copies, rows_first;
} Plan;
Plan contract_plan(const Shape *x, const Target *t, TileRows tr, int nv);
Shape contract_large(const Shape *x);                              /* the same where sizes that nothing bounds are large */
double contract_tile_cost(const Shape *x, const Target *t, int mr, int nv); /* cycles of the kernel in tiles of mr rows, nv vectors */

/* contract_pairs.c: pairs of products may be summed in 16 bits: of B as it is (data NULL), or of the first bytes of `data`. Behind them is what is
 * left: a table of 64-bit numbers: the offset of the places, and the first vector of each vector of columns, one more for the end; vectors of quads;
 * and the place of each in A, 64 bits, too. Offsets here depend on shapes alone, so that kernels stay equal. */
enum { MOST_QUADS = 2 };
typedef struct Pairs {
    const ConstData *data;
    int quads;                         /* neighbours along the innermost reduced axis that may be summed in 16 bits */
    int64_t panel;                     /* bytes of a panel of 16 columns */
    int64_t table, vectors;            /* offsets in data, in bytes */
} Pairs;
bool contract_pairs(const Shape *x, const Target *t, int rows, Pairs *out); /* false: products must be exact one by one */
#endif
