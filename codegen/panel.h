/* panel.h: products of matrices through packed panels in thread scratch: what `attention` and
 * `contract_packed` share. */
#ifndef ACCELC_PANEL_H
#define ACCELC_PANEL_H
#include "emit_internal.h"

enum { PANEL_TILE = 32 }; /* most vectors of accumulators in a tile */

/* An operand of a contraction as an expression over the axes of stage s, to be packed along axis
 * `n` (columns of panels) and axis `k` (rows of panels). `at` holds the coordinates of all other
 * axes; f32 in registers. */
typedef struct PanelSource {
    const Stage *s;
    Expr x;
    int n, k;
    Point at;
} PanelSource;
/* Every load of x that varies along the axis is contiguous there. */
bool panel_contiguous(const Kernel *k, const Stage *s, Expr x, int axis);
/* Columns [n0, n0 + count) into panels dst[p][k][width], k padded to `lanes`: count > 0, columns
 * past it repeat the last one or are 0 and must be ignored. width is a multiple of lanes. */
void panel_pack(Emit *e, const PanelSource *src, LVal n0, LVal count, LVal dst, int lanes,
                int width);
LVal panel_rows(Emit *e, const PanelSource *src, int lanes); /* k rounded up to lanes */
/* Rows [n0, n0 + count) along axis n, each as [k] of pitch elements (a multiple of lanes, at least
 * k): dst[n][pitch]; what is past k is 0. */
void panel_rows_copy(Emit *e, const PanelSource *src, LVal n0, LVal count, LVal dst, LVal pitch,
                     int lanes);

/* acc[r * nv + v] += sum over i < n of a[row[r] + i * astep] * b[col + i * bstep + v * lanes], i
 * ascending, one chain each. */
typedef struct TileProduct {
    int rows, nv, lanes;
    LVal a, b; /* pointers to f32 */
    LVal row[PANEL_TILE], astep, col, bstep, n;
} TileProduct;
void tile_product(Lir *l, const TileProduct *t, LVal *acc);

typedef struct TileSize {
    int mr, nv;
} TileSize;
TileSize panel_tile(const Target *t); /* accumulators that fit the registers */
#endif
