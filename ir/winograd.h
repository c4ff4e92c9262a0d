/* winograd.h: what the pass `winograd` and its template share: the matrices of F(m x m, 3x3), the
 * size of a task, and the estimate by which the pass chooses and the template is weighed. Pure
 * functions of the shape and of the target. Y = A^T [U . (B^T d B)] A for tiles d of a = m + 2
 * points; U = G g G^T is computed at compile time. */
#ifndef ACCELC_WINOGRAD_H
#define ACCELC_WINOGRAD_H
#include "ir/target.h"

enum { WINO_MAX = 6 };  /* largest a */
#define WINO_NEVER 1e30 /* cycles of what is not to be done */
typedef struct WinoForm {
    int m, a;
    float bt[WINO_MAX][WINO_MAX], at[WINO_MAX][WINO_MAX];
    double g[WINO_MAX][3];
} WinoForm;
static const WinoForm wino_form[2] = {
    {2,
     4,
     {{1, 0, -1, 0}, {0, 1, 1, 0}, {0, -1, 1, 0}, {0, 1, 0, -1}},
     {{1, 1, 1, 0}, {0, 1, -1, -1}},
     {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}}},
    {4,
     6,
     {{4, 0, -5, 0, 1, 0},
      {0, -4, -4, 1, 1, 0},
      {0, 4, -4, -1, 1, 0},
      {0, -2, -1, 2, 1, 0},
      {0, 2, -1, -2, 1, 0},
      {0, 4, 0, -5, 0, 1}},
     {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}},
     {{1. / 4, 0, 0},
      {-1. / 6, -1. / 6, -1. / 6},
      {-1. / 6, 1. / 6, -1. / 6},
      {1. / 24, 1. / 12, 1. / 6},
      {1. / 24, -1. / 12, 1. / 6},
      {0, 0, 1}}},
};

/* A convolution: blocks of 16 channels in and out, images, tiles of one image. */
typedef struct WinoShape {
    int64_t cb, ob, n, tiles;
} WinoShape;
/* A task: `block` tiles of an image times one of `groups` ranges of output channels; tiles are
 * multiplied `rows` at a time. */
typedef struct WinoPlan {
    int64_t block, blocks, groups, columns; /* columns of a group, a multiple of unit */
    int rows, unit;
    double cycles;
} WinoPlan;

/* Bytes per cycle that a stream of this many bytes comes at, when read again and again
 * (cpu.md 10.1); of weights beyond that, which other layers evict between two runs, in a network:
 * the 17 MB of 512 channels took 3.4 ms, where the direct loop takes 2.3 with its 9. */
static inline double wino_rate(const Target *t, double bytes) {
    return bytes <= 0.5 * t->l2 ? 40 : bytes <= 5.0 * t->l2 ? 7 : 2.5;
}

static inline double wino_max(double a, double b) { return a > b ? a : b; }

/* Scratch of a task in floats: transformed input and products, lines of the planes of a point odd
 * in number, so that the points of a tile lie in different cache sets. */
static inline int64_t wino_plane(int64_t block, int64_t channels) {
    return (block * (channels + 16) / 16 | 1) * 16;
}

static inline WinoPlan wino_try(const Target *t, const WinoForm *f, const WinoShape *s,
                                int64_t blocks, int64_t groups) {
    int lanes = t->vbytes / 4, nv = 2, points = f->a * f->a;
    WinoPlan p = {.unit = nv * lanes, .blocks = blocks};
    int mr = (t->vregs - nv - 1) / nv;
    p.block = (s->tiles + blocks - 1) / blocks;
    p.blocks = (s->tiles + p.block - 1) / p.block;
    int64_t units = (s->ob * 16 + p.unit - 1) / p.unit, per = (units + groups - 1) / groups;
    p.columns = per * p.unit;
    p.groups = (units + per - 1) / per;
    int64_t passes = (p.block + mr - 1) / mr;
    p.rows = (int)((p.block + passes - 1) / passes);
    double tasks = (double)(s->n * p.blocks * p.groups), fma = p.rows * nv / t->fma_per_cycle;
    double product =
        points * (double)(passes * per) *
        ((double)s->cb * 16 * wino_max(wino_max(fma, (p.rows + nv) / 2.0), 4) + 2.0 * p.rows + 10);
    double u = points * (double)s->cb * 16 * (double)s->ob * 64, slice = u / (double)p.groups;
    double stream = slice / wino_rate(t, u);
    double scratch =
        4.0 * points * (double)(wino_plane(p.block, s->cb * 16) + wino_plane(p.block, p.columns));
    double spill = scratch > 0.6 * t->l2 ? 2 * scratch / 7 : 0;
    double parts = 16.0 / lanes, in = (f->m == 4 ? 130 : 45) * parts,
           out = (f->m == 4 ? 130 : 45) * parts;
    double move = (double)p.block * ((double)s->cb * in + (double)p.columns / 16 * out);
    double task =
        wino_max(product, stream) + 0.4 * (product < stream ? product : stream) + spill + move;
    p.cycles = tasks * task * (tasks < 4 ? 1.08 : 1); /* threads want something to share */
    if (scratch > 2.0 * t->l2) p.cycles = WINO_NEVER;
    return p;
}

static inline WinoPlan wino_plan(const Target *t, const WinoForm *f, const WinoShape *s) {
    WinoPlan best = {.cycles = 2 * WINO_NEVER};
    for (int64_t groups = 1; groups <= 8; groups *= 2)
        for (int64_t block = s->tiles < 112 ? s->tiles : 112; block > 0; block--) {
            WinoPlan p = wino_try(t, f, s, (s->tiles + block - 1) / block, groups);
            if (p.cycles < best.cycles) best = p;
            if (block <= 6) break;
        }
    return best;
}
#endif
