/* split.c: products of few tiles, for GPUs. In: contractions whose results are fewer tiles than a device has multiprocessors, over a long axis.
 * Out: contractions over parts of that axis, one after the other in memory, as many as fill the device, and a sum over the parts, which what follows
 * joins. How many parts follows from the sizes alone, so results depend neither on the device nor on the grid.
 * Sizes that are symbols count with their upper bounds. A summed axis that has none (keys of a cache that grows) counts as LONG: parts that turn out
 * short cost little, a long sum that is not split waits for a few multiprocessors. Batches without one are few where rows are few, as in a step of a
 * decoder; other sizes without one are many tiles, and nothing is split. A symbolic axis is split into whole steps, and what its last parts have too
 * much of is padding of both factors. */
#include <string.h>

#include "internal.h"

enum { MULTIPROCESSORS = 132, TILE = 64, FEW = 16, COLUMNS = 32 /* of a block where rows are few */, MOST_PARTS = 64 };
enum { LEAST = 256 /* k of a part */, STEP = 16 /* elements that are copied at once, at most */, LONG = 4096 };
enum { LAUNCH = 4000 /* cycles that one more kernel takes */ };
enum { MEMORY = 2500, FLOW = 20 /* bytes a cycle: of the device; that a block has under way */ };

typedef struct Sizes {
    double side[2], batches, depth; /* rows that one operand has alone; what both have; what is summed */
    int axis;                       /* label of the longest axis that is summed */
    int64_t longest;                /* its size, at most */
    bool known;
} Sizes;

static int find(const uint8_t *labels, int rank, uint8_t label) {
    for (int d = 0; d < rank; d++)
        if (labels[d] == label) return d;
    return -1;
}

static bool twice(const ContractAttr *a, const int *rank) {
    for (int t = 0; t < 3; t++)
        for (int d = 0; d < rank[t]; d++)
            if (find(a->label[t], d, a->label[t][d]) >= 0) return true;
    return false;
}

static bool measure(Graph *g, const Node *n, Sizes *z) {
    const ContractAttr *a = n->attr;
    const Type *t[3] = {val_type(g, n->in[0]), val_type(g, n->in[1]), val_type(g, n->out[0])};
    int rank[3] = {t[0]->rank, t[1]->rank, t[2]->rank};
    *z = (Sizes){{1, 1}, 1, 1, -1, 0, false};
    bool few = false; /* batches without a bound */
    if (twice(a, rank) || rank[0] == MAX_RANK || rank[1] == MAX_RANK || rank[2] == MAX_RANK) return false;
    for (int s = 0; s < 2; s++)
        for (int d = 0; d < rank[s]; d++) {
            uint8_t label = a->label[s][d];
            bool both = find(a->label[!s], rank[!s], label) >= 0, out = find(a->label[2], rank[2], label) >= 0;
            int64_t most = dim_hi(g->c, t[s]->dim[d]);
            if (both && s) continue;
            if (most == DIM_INF && out && !both) return false;
            if (most == DIM_INF) few |= out, most = out ? 1 : LONG;
            *(!out ? &z->depth : both ? &z->batches : &z->side[s]) *= (double)most;
            if (!out && both && most > z->longest) z->longest = most, z->axis = label, z->known = dim_is_const(g->c, t[s]->dim[d], NULL);
        }
    return z->axis >= 0 && !(few && z->side[0] > FEW && z->side[1] > FEW);
}

/* Cycles of a block for one k. */
static double step_cycles(const Graph *g, const Node *n, const Target *t, bool few, int wide) {
    DType type = (DType)val_type(g, n->in[wide])->dtype;
    unsigned bits = dt_bits(type);
    double size = bits < 8 ? 1 : bits / 8;
    if (few) return COLUMNS * size / FLOW;
    bool rounded = type == DT_F32 && t->flags & (F_TO_TF32 | F_TO_BF16 | F_TO_F16);
    double products = size == 1 ? 1500 : size == 2 ? 1000 : rounded ? 500 : 110;
    return TILE * TILE / products;
}

static double up(double n, double by) { return (double)(int64_t)((n + by - 1) / by); }

static int64_t parts_of(const Graph *g, const Node *n, const Target *t, const Sizes *z) {
    int wide = z->side[1] >= z->side[0];
    bool few = z->side[!wide] <= FEW;
    double blocks = z->batches * (few ? up(z->side[wide], COLUMNS) : up(z->side[0], TILE) * up(z->side[1], TILE));
    double step = step_cycles(g, n, t, few, wide);
    double best = z->depth * step * up(blocks, MULTIPROCESSORS) * 0.75; /* what is won should be worth it */
    int64_t parts = 1;
    for (int64_t s = 2; s <= MOST_PARTS && (double)(s * LEAST) <= z->depth; s *= 2) {
        if (z->known && z->longest % (s * STEP)) break;
        double sums = (double)s * z->side[0] * z->side[1] * z->batches;
        double time = z->depth / (double)s * step * up(blocks * (double)s, MULTIPROCESSORS) + LAUNCH + sums * 8 / MEMORY;
        if (time < best) best = time, parts = s;
    }
    return parts;
}

/* v with the axis in two: parts, and what is in one. */
static Val parted(B *b, Val v, int axis, int64_t parts) {
    Ctx *c = b->g->c;
    const Type *t = val_type(b->g, v);
    Dim dim[MAX_RANK], lo[MAX_RANK], hi[MAX_RANK], all = t->dim[axis], n = dim_const(c, parts);
    Dim part = dim_divisible(c, all, parts) ? dim_floordiv(c, all, n) : dim_muli(c, dim_ceildiv(c, all, dim_const(c, parts * STEP)), STEP);
    for (int d = 0; d < t->rank; d++) lo[d] = dim_const(c, 0), hi[d] = d == axis ? dim_sub(c, dim_mul(c, part, n), all) : lo[d];
    for (int d = 0; d <= t->rank; d++) dim[d] = d == axis ? n : d == axis + 1 ? part : t->dim[d > axis ? d - 1 : d];
    if (!dim_is(c, hi[axis], 0)) v = b_pad(b, v, lo, hi, NULL, PAD_VALUE, dt_convert((Scalar){.t = DT_I64}, (DType)t->dtype), (Val){0});
    return b_reshape(b, v, t->rank + 1, dim);
}

static uint8_t unused(const ContractAttr *a, const int *rank) {
    uint8_t label = 0;
    while (find(a->label[0], rank[0], label) >= 0 || find(a->label[1], rank[1], label) >= 0) label++;
    return label;
}

static bool rewrite(Graph *g, Node *n, PassCtx *p) {
    Sizes z;
    if (n->op != P_CONTRACT || !measure(g, n, &z)) return false;
    int64_t parts = parts_of(g, n, p->target, &z);
    if (parts < 2 || !pass_allow(p)) return false;
    const ContractAttr *old = n->attr;
    int rank[2] = {val_type(g, n->in[0])->rank, val_type(g, n->in[1])->rank}, out = val_type(g, n->out[0])->rank;
    uint8_t label = unused(old, rank);
    ContractAttr a = {NO_LABELS, old->acc, old->acc};
    B b = builder(g, n->loc);
    Val in[2];
    for (int s = 0; s < 2; s++) {
        int axis = find(old->label[s], rank[s], (uint8_t)z.axis);
        in[s] = parted(&b, n->in[s], axis, parts);
        for (int d = 0; d <= rank[s]; d++) a.label[s][d] = d == axis ? label : old->label[s][d > axis ? d - 1 : d];
    }
    a.label[2][0] = label;
    memcpy(&a.label[2][1], old->label[2], (size_t)out);
    explain(p, g, n, "is summed in %lld parts: a block for each tile would leave most of a device idle", (long long)parts);
    Val sum = b_reduce1(&b, R_SUM, b_contract_attr(&b, &a, in[0], in[1]), 1, false);
    graph_replace(g, n->out[0], b_cast(&b, sum, old->out));
    return true;
}

bool pass_split(Graph *g, PassCtx *p) {
    graph_tidy(g);
    uint32_t n = g->node.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    bool changed = false;
    for (uint32_t i = 0; i < n; i++) changed |= rewrite(g, node[i], p);
    if (changed) graph_tidy(g);
    return changed;
}
