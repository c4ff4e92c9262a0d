/* contract_plan.c: tiles of template `contract`, what a task has of them, and what that costs. */
#include <math.h>

#include "contract.h"

TileRows contract_rows(const Shape *x, int mr) {
    int64_t w, h;
    if (!x->nm) return (TileRows){1, 1};
    if (x->nborder) return (TileRows){1, mr};
    if (!dim_is_const(x->k->c, x->s->axis[x->m[x->nm - 1]].extent, &w)) return (TileRows){1, mr};
    if (!w) return (TileRows){1, 1};
    if (w >= mr || x->nm < 2 || !dim_is_const(x->k->c, x->s->axis[x->m[x->nm - 2]].extent, &h)) {
        int64_t tiles = (w + mr - 1) / mr;
        return (TileRows){1, (int)((w + tiles - 1) / tiles)};
    }
    int64_t ty = mr / w;
    if (ty > h) ty = h;
    if (ty < 1) ty = 1;
    int64_t tiles = h ? (h + ty - 1) / ty : 1;
    return (TileRows){(int)((h + tiles - 1) / tiles), (int)w};
}

bool contract_by_tiles(const Shape *x, TileRows tr, int64_t *tiles) {
    int64_t w;
    if (x->nm != 1 || x->nborder || !dim_is_const(x->k->c, x->s->axis[x->m[0]].extent, &w)) return false;
    *tiles = (w + tr.tx - 1) / tr.tx;
    return true;
}

/* The axis that tasks cut into chunks of rows. */
static int chunk_axis(const Shape *x) { return x->m[x->nm >= 2 ? x->nm - 2 : 0]; }

Shape contract_large(const Shape *x) {
    enum { MORE = 32 };
    Shape large = *x;
    large.more = MORE;
    return large;
}

static double columns(const Shape *x) { return x->nblk >= 0 ? shape_extent(x, x->nblk) * 16 : shape_extent(x, x->vec); }

/* Rows (or tiles, if contract_by_tiles) per task: whole axis unless there are too few tasks to share; a multiple of the tile. */
static int64_t chunk_rows(const Shape *x, TileRows tr, double column_tiles) {
    int64_t h;
    if (!x->nm) return 0;
    int unit = x->nm >= 2 ? tr.ty : tr.tx;
    if (!dim_is_const(x->k->c, x->s->axis[chunk_axis(x)].extent, &h)) return x->nm >= 2 ? 8 : (int64_t)unit * 8;
    double others = column_tiles * shape_product(x, x->batch, x->nbatch) * shape_product(x, x->nout, x->nnout);
    if (x->nm > 2) others *= shape_product(x, x->m, x->nm - 2);
    int64_t want = others >= 24 || others < 1 ? 1 : (int64_t)(24 / others) + 1, units = (h + unit - 1) / unit;
    if (contract_by_tiles(x, tr, &units)) unit = 1;
    if (!units) return unit;
    int64_t chunks = want < units ? want : units;
    return (units + chunks - 1) / chunks * unit;
}

/* Do the rows of a tile fall into one set of the first-level cache, which holds 8 to 12 lines? */
static bool tile_collides(const Shape *x, TileRows tr, int nv) {
    int64_t pitch;
    return x->nm && tr.tx > 2 && tr.tx + nv > 10 && dim_is_const(x->k->c, x->a.f.coef[x->m[x->nm - 1]], &pitch) &&
           pitch * dt_bits(x->a.type) / 8 % 4096 == 0;
}

/* Passes over an A whose rows of a task do not stay in the second-level cache: a stretch of the reduced axis that does, and
 * the column tiles of a task, so that A comes from beyond once for all of them, their sums fit beside it, and tasks remain to be
 * shared out. */
static void plan_passes(const Shape *x, const Target *t, TileRows tr, int nv, int64_t ntiles, Plan *p) {
    int64_t units, extent, line = 64 / (dt_bits(x->a.type) / 8);
    const Ctx *c = x->k->c;
    double l2 = t->l2, row = tr.tx * (double)dt_bits(x->a.type) / 8, sums = (double)tr.tx * nv * t->vbytes;
    if (x->nred != 1 || x->quad >= 0 || x->nblk < 0 || !dt_is_float(x->s->acc[0]) || !contract_by_tiles(x, tr, &units)) return;
    if (!dim_is_const(c, x->s->axis[x->red[0]].extent, &extent) || !dim_is(c, x->b.f.coef[x->red[0]], 16)) return;
    if ((double)p->chunk * row * (double)extent <= 0.8 * l2) return;
    int64_t rows = p->chunk, most = (int64_t)(0.3 * l2 / (row * 256));
    if (rows > most) rows = most;
    if (rows < 1) return;
    int64_t deep = (int64_t)(0.3 * l2 / (row * (double)rows)) / line * line;
    if (deep > extent / 2) deep = extent / 2 / line * line;
    while (deep > 0 && extent % deep) deep -= line;
    if (deep < 192) return;
    double others = shape_product(x, x->batch, x->nbatch) * shape_product(x, x->nout, x->nnout) * (double)((units + rows - 1) / rows);
    int64_t n = (int64_t)(0.2 * l2 / (sums * (double)rows)), share = (int64_t)((double)ntiles * others / 12);
    if (n > share) n = share;
    if (n > ntiles) n = ntiles;
    if (n < 2) return;
    *p = (Plan){.chunk = rows, .depth = deep, .tiles = n, .copies = dim_is(c, x->a.f.coef[x->red[0]], 1) && tile_collides(x, tr, nv)};
}

/* Bytes of an operand's buffer that one of its batches takes, with what lies between the elements that are read. */
static double batch_bytes(const Shape *x, const Operand *o) {
    const KBuf *b = &x->k->buf[o->buf];
    double bytes = dt_bits(o->type) / 8.0;
    for (int d = 0; d < b->rank; d++) bytes *= dim_typical(x->k->c, b->dim[d]);
    for (int i = 0; i < x->nbatch; i++)
        if (o->f.has[x->batch[i]]) bytes /= shape_extent(x, x->batch[i]);
    return bytes;
}

/* Chunks of rows that stay in the second-level cache beside all of B, where all of A does not. */
static void plan_rows_first(const Shape *x, const Target *t, TileRows tr, Plan *p) {
    double a = batch_bytes(x, &x->a), b = columns(x) * shape_product(x, x->red, x->nred) * (x->quad >= 0 ? 4 : 1) * dt_bits(x->b.type) / 8;
    if (!x->nm || !(a > 0.7 * t->l2) || b > 0.4 * t->l2) return; /* a of no batch is not a number */
    double row = a / shape_product(x, x->m, x->nm > 1 ? x->nm - 1 : 1); /* of the axis that is cut */
    int64_t tiles, unit = x->nm >= 2 ? tr.ty : tr.tx, most = (int64_t)(0.3 * t->l2 / row) / unit;
    if (!contract_by_tiles(x, tr, &tiles)) most *= unit;
    p->rows_first = most > 0;
    if (p->rows_first && p->chunk > most) p->chunk = most;
}

Dim contract_column_tiles(const Shape *x, const Target *t, int nv) {
    Ctx *c = x->k->c;
    int lanes = target_lanes(t, x->s->acc[0]);
    if (x->nblk >= 0) return dim_ceildiv(c, x->s->axis[x->nblk].extent, dim_const(c, (int64_t)nv * lanes / 16));
    return dim_ceildiv(c, x->s->axis[x->vec].extent, dim_const(c, (int64_t)nv * lanes));
}

Plan contract_plan(const Shape *x, const Target *t, TileRows tr, int nv) {
    Dim count = contract_column_tiles(x, t, nv);
    Plan p = {.tiles = 1, .chunk = chunk_rows(x, tr, dim_typical(x->k->c, count))};
    int64_t ntiles;
    if (dim_is_const(x->k->c, count, &ntiles)) plan_passes(x, t, tr, nv, ntiles, &p);
    if (!p.depth) plan_rows_first(x, t, tr, &p);
    return p;
}

/* Cycles of a tile of `rows` points and nv vectors, one of tiles_m over the same columns, and of its stores. batch: they may be
 * more. */
static double tile_cycles(const Shape *x, const Target *t, TileRows r, const Plan *plan, double rows, int nv, double tiles_m,
                          bool batch) {
    enum { CHAIN = 4, LINE = 64 };
    double kk = shape_product(x, x->red, x->nred), deep = plan->depth ? (double)plan->depth : kk, bytes = nv * t->vbytes;
    double acc = rows * nv, fma = acc / t->fma_per_cycle, loads = (rows + nv) / 2.0;
    if (x->nblk < 0 && x->nred && !dim_divisible(x->k->c, x->b.f.coef[x->red[x->nred - 1]], t->vbytes / (dt_bits(x->b.type) / 8)))
        loads += bytes / LINE / 2; /* vectors that lie across two lines are loaded twice */
    /* Over many rows a panel of B comes from the second-level cache (40 bytes a cycle; 52 if it is read once), or from beyond if it and the next one
     * are too large. */
    double stream = tiles_m > 1 ? bytes / (deep * bytes > 0.4 * t->l2 ? 8.0 : 40.0) : batch ? bytes / 52 : 0;
    if (tiles_m > 1 && shape_rows_collide(x, t)) stream = bytes / 6.5;
    double step = fma > 1.2 * loads ? fma : 1.2 * loads; /* a port is free for a load five times of six */
    if (step < stream) step = stream;
    if (step < CHAIN) step = CHAIN;
    /* What does not bind still costs a little; an A beyond the second-level cache is read again for every column tile. */
    double a_bytes = shape_product(x, x->m, x->nm) * kk * 4; /* of a quad, too */
    bool again = a_bytes > 0.6 * t->l2 && x->nred < 3 && !plan->depth && !plan->rows_first;
    step += 0.05 * (loads + 2 * stream) + (again ? 0.15 * rows * 4 / 7 : 0);
    if (plan->depth) step += 2 * acc / deep + (plan->copies ? 0.2 * rows / (double)plan->tiles : 0);
    if (x->s->acc[0] == DT_I32 && x->quad < 0) step *= 4;
    if (x->quad >= 0 && !(t->flags & F_VNNI)) step *= 4;
    if (!plan->copies && tile_collides(x, r, nv)) step *= 1.6;
    return kk * step + acc * 4 + 30;
}

static double kernel_cycles(const Shape *x, const Target *t, const Plan *plan, int mr, int nv) {
    int lanes = target_lanes(t, x->s->acc[0]);
    TileRows r = contract_rows(x, mr);
    bool unknown = x->nm && !dim_is_const(x->k->c, x->s->axis[x->m[x->nm - 1]].extent, NULL);
    double points = shape_product(x, x->batch, x->nbatch) * shape_product(x, x->nout, x->nnout), tiles_m = 1;
    for (int i = 0; i < x->nm; i++) {
        double e = shape_extent(x, x->m[i]);
        double by = i == x->nm - 1 ? r.tx : i == x->nm - 2 ? r.ty : 1;
        bool whole = i == x->nm - 1 && unknown; /* what is left has small tiles */
        tiles_m *= whole ? fmax(e / by, 1) : by > 1 ? ceil(e / by) : e;
    }
    double last = x->nm ? shape_extent(x, x->m[x->nm - 1]) : 1; /* rows are shared out evenly: the mean tile counts */
    double wide = unknown ? fmin(last, r.tx) : r.tx > 1 && last >= r.tx ? last / ceil(last / r.tx) : r.tx;
    double high = x->nm > 1 ? shape_extent(x, x->m[x->nm - 2]) : 1;
    double tall = r.ty > 1 && high >= r.ty ? high / ceil(high / r.ty) : r.ty;
    double cols = columns(x), whole = (double)(int64_t)(cols / (nv * lanes)), left = cols - whole * nv * lanes; /* for a narrow tile at the edge */
    double cycles = whole * tile_cycles(x, t, r, plan, tall * wide, nv, tiles_m, unknown);
    if (left > 0) cycles += tile_cycles(x, t, r, plan, tall * wide, (int)((left + lanes - 1) / lanes), tiles_m, unknown);
    return points * tiles_m * cycles;
}

static double work(const Shape *x) {
    double n = 1;
    for (int a = 0; a < x->s->naxis; a++) n *= shape_extent(x, a);
    return n;
}

/* Sizes that nothing bounds may be a batch's, and small tiles lose more at many rows than large ones at few: what counts is the mean, in ratios, of
 * the usual size and of the large one. */
double contract_tile_cost(const Shape *x, const Target *t, int mr, int nv) {
    Shape large = contract_large(x);
    Plan plan = contract_plan(x, t, contract_rows(x, mr), nv);
    double usual = kernel_cycles(x, t, &plan, mr, nv), times = work(&large) / work(x);
    return times > 1 ? sqrt(usual * kernel_cycles(&large, t, &plan, mr, nv) / times) : usual;
}
