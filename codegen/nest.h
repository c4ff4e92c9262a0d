/* nest.h: what the files of template `nest` share. ukr_nest.c: the template; nest_axis.c: which axes are tasks and vectors; nest_loop.c: the points
 * of a stage; nest_rows.c: reductions across many rows; nest_columns.c: maps a vector of columns at a time. */
#ifndef ACCELC_NEST_H
#define ACCELC_NEST_H
#include "emit_internal.h"

enum { JAM = 16, STRIP = 4096 /* columns */ };

typedef struct Nest Nest;

/* Rows of a strip of columns, the first of them at column `first`: what is done with a vector; `count` rows from `row` on along axis. sums: which of
 * the strips of accumulators, one for each kind of part (emit_parts.c), the last of which takes the rows. */
typedef struct Rows { void (*fn)(Nest *n, int st, Point *p); LVal first, row; int axis, count, sums; } Rows;

/* Rows lo to hi - 1 along axis `row`: what a map computes of its columns alone is computed once for all of them. */
typedef struct Columns { int row; LVal lo, hi; } Columns;

/* Operands are asked for at the point that is `by` further along `axis`; nothing if by is 0. */
typedef struct Ahead { int axis; int64_t by; } Ahead;

struct Nest {
    Emit *e;
    const Kernel *k;
    int prefix;                     /* shared leading axes = task space */
    int chunk_axis;                 /* the only parallel axis, cut into chunks that are the tasks; or -1 */
    int jam;                        /* vectors of points that run together, next to each other along the vector axis */
    int64_t together;               /* tasks whose stages take turns */
    int axis[64];                   /* the vector axis of each stage, or -1 */
    const Rows *rows;               /* row by row; else NULL */
    const Columns *columns;         /* a vector of columns at a time, for a block of rows; else NULL */
    bool done[64];                  /* stages already run as somebody's epilogue, or with the map before them */
    uint64_t epilogue[64];
    Ahead ahead[64];                /* where a stage asks for memory before it is needed */
    LVal special[64];               /* scratch of sort, topk and the like; by rows: accumulators of a strip */
};

/* ukr_nest.c */
void nest_stage(Nest *n, int st, const Point *p);              /* along its axes from n->prefix on, at p of the others */

/* nest_axis.c */
int nest_vector_axis(const Kernel *k, const Stage *s, const Target *t, int first); /* among the axes from `first` on, or -1 */
int nest_strided(const Kernel *k, const Stage *s, int axis); /* accesses that step along the axis: gathers and scatters */
int nest_scatter_axis(const Kernel *k, const Stage *s, const Target *t);

/* nest_loop.c */
Point nest_jammed(const Nest *n, const Point *p, int j);      /* the j-th of the jammed vectors of points, p being the first */
DType nest_widest(const Kernel *k, const Stage *s);           /* of what a vector of the stage holds */
bool nest_pairs(const Nest *n, int st);                       /* do two vectors of the map run in turns? */
Ahead nest_ahead(const Nest *n, int st);
void nest_store_reduced(Nest *n, int st, const LVal *acc, const Point *p);
/* One point (or vector of points, or n->jam of them) of the parallel axes; or the reduction of one along lanes of an axis. */
void nest_point(Nest *n, int st, Point *p, int red_lanes_axis, uint16_t red_lanes);
void nest_vector_loop(Nest *n, int st, Point *p, int v, uint16_t lanes, LVal lo, LVal hi); /* points lo to hi of parallel axis v */
/* Does the reduction after map `st` combine just what the map makes of a row of whole vectors? Then both are one loop. */
bool nest_reduces_next(const Nest *n, int st, uint16_t lanes);
void nest_map_and_reduce(Nest *n, int st, Point *p);

/* nest_columns.c: maps whose columns are dear, or gather at places that do not depend on the row */
int64_t nest_columns_rows(const Kernel *k, const Target *t, int prefix); /* rows of a block; 0: it is no such map */
void nest_by_columns(Emit *e, int64_t rows);
int nest_columns_jam(const Nest *n, int st);                   /* vectors of columns that go from row to row together */
void nest_column(Nest *n, int st, Point *p);                   /* n->jam vectors of columns of all rows of n->columns */

/* nest_rows.c */
bool nest_by_rows(const Kernel *k, const Target *t, int st, int v);
Dim nest_strip_bytes(const Emit *e, const Stage *s);           /* of scratch */
void nest_strip_loop(Nest *n, int st, Point *p, int v, uint16_t lanes, LVal lo, LVal hi);
#endif
