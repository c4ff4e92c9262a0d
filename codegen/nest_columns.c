/* nest_columns.c: maps of template `nest` whose columns are dear: what a column computes without its row (where a row that is resized is read, and
 * with which weights), a vector of columns computes once for a block of rows. Lanes that read other elements than neighbours look once whether one
 * vector has them all (emit_near), and are permutations of it in all rows then. Where a row costs little, several vectors go from row to row
 * together: memory is at its best when lines are read and written one after the other.
 * Tasks: a point of the axes before the rows, and a block of rows. */
#include "nest.h"

enum { BLOCK = 64, FEWEST = 8 /* rows */, DEAR = 8, CHEAP = 48 };
/* Vectors that go together: that only move, that also compute; that move rows of any length, where little is constant and much is code. */
enum { TOGETHER = 16, FEW = 8, UNKNOWN = 4 };

/* reach: bytes that the lanes of a row choose from, at most */
typedef struct Find { const Kernel *k; const Stage *s; int v, row; bool gathers; double reach; } Find;

/* Are lanes, as index d of an access, a whole number of elements apart? */
static bool steps(const Find *f, const KBuf *b, bool clamped, Expr at, int d) {
    Expr coef[K_AXES] = {{0}}, rest;
    if (clamped) return at.i == expr_axis(f->k->c, (uint32_t)f->v).i && dim_same(f->k->c, f->s->axis[f->v].extent, b->dim[d]);
    return expr_affine(f->k->c, at, f->s->naxis, coef, &rest);
}

static void note_load(void *data, const ExprInfo *x) {
    Find *f = data;
    Ctx *c = f->k->c;
    const KBuf *b = &f->k->buf[x->index];
    bool row = false, both = false, gathers = false;
    double reach = dt_bits(b->dtype) / 8.0;
    for (int d = 0; d < b->rank; d++) {
        const bool l = expr_uses_axis(c, x->arg[d], (uint32_t)f->v), r = expr_uses_axis(c, x->arg[d], (uint32_t)f->row);
        row |= r, both |= l && r;
        if (l) reach *= (double)dim_typical(c, b->dim[d]);
        gathers |= l && !steps(f, b, x->oob == OOB_CLAMP, x->arg[d], d);
    }
    if (!row || !gathers || both) return;
    f->gathers = true;
    if (reach > f->reach) f->reach = reach;
}

/* Operations on what a column knows without its row, by expressions that have not been seen. */
static int column_cost(const Find *f, Expr x, uint8_t *seen) {
    Ctx *c = f->k->c;
    const ExprInfo i = *expr_info(c, x);
    int cost = 0;
    if (seen[x.i] || !expr_uses_axis(c, x, (uint32_t)f->v)) return 0;
    seen[x.i] = 1;
    if (!expr_uses_axis(c, x, (uint32_t)f->row)) return expr_cost(c, x);
    for (int k = 0; k < i.narg; k++) cost += column_cost(f, i.arg[k], seen);
    return cost;
}

int64_t nest_columns_rows(const Kernel *k, const Target *t, int prefix) {
    const Stage *s = &k->stage[0];
    const int v = s->naxis - 1;
    if (k->nstage != 1 || s->kind != ST_NEST || s->comb[0].i || prefix != v || v < 1 || !(t->flags & F_AVX2)) return 0;
    if (nest_vector_axis(k, s, t, 0) != v || dim_typical(k->c, s->axis[v - 1].extent) < FEWEST) return 0;
    Find f = {.k = k, .s = s, .v = v, .row = v - 1};
    int cost = 0;
    for (int r = 0; r < s->nres; r++) {
        if (s->out[r].oob != OOB_NEVER) return 0;
        expr_loads(k->c, s->body[r], note_load, &f);
        cost += column_cost(&f, s->body[r], NEWN(k->c, uint8_t, s->body[r].i + 1));
    }
    if (!f.gathers && cost < DEAR) return 0;
    /* a column goes through what all rows reach, before the next one does */
    int64_t rows = BLOCK;
    while (rows > FEWEST && (double)rows * f.reach > t->l2 / 2.0) rows /= 2;
    return rows;
}

int nest_columns_jam(const Nest *n, int st) {
    const Stage *s = &n->k->stage[st];
    int64_t points;
    const bool known = dim_is_const(n->e->c, s->axis[s->naxis - 1].extent, &points);
    int cost = 0;
    for (int r = 0; r < s->nres; r++) cost += expr_cost(n->e->c, s->body[r]);
    if (s->nres == 1 && expr_info(n->e->c, s->body[0])->kind == E_LOAD) return known ? TOGETHER : UNKNOWN;
    return known && cost <= CHEAP ? FEW : 1;
}

/* Each vector remembers what it knows of its columns in a memo of its own. */
void nest_column(Nest *n, int st, Point *p) {
    Emit *e = n->e;
    const Columns *c = n->columns;
    struct EmitMemo *memo[TOGETHER], *before = e->memo;
    Point q[TOGETHER];
    e->near = true;
    for (int j = 0; j < n->jam; j++) {
        emit_memo_new(e);
        memo[j] = e->memo;
        q[j] = nest_jammed(n, p, j);
        emit_keep_columns(e, &n->k->stage[st], &q[j], c->row);
    }
    LFor f = lir_for(e->l, c->lo, c->hi, lir_i64(e->l, 1), 0, NULL);
    for (int j = 0; j < n->jam; j++) {
        e->memo = memo[j];
        q[j].axis[c->row] = f.iv;
        nest_point(n, st, &q[j], -1, 1);
    }
    lir_for_end(e->l, &f, NULL, NULL);
    e->memo = before;
    emit_memo_reset(e);
    e->near = false;
}

void nest_by_columns(Emit *e, int64_t rows) {
    Nest n = {.e = e, .k = e->k, .chunk_axis = -1, .jam = 1, .together = 1};
    Lir *l = e->l;
    const Stage *s = &e->k->stage[0];
    const int v = s->naxis - 1;
    Columns c = {.row = v - 1};
    Point p = {.vaxis = -1, .lanes = 1};
    LVal block;
    Tasks tasks = {0};
    n.prefix = v;
    n.axis[0] = v;
    n.columns = &c;
    tasks_along(&tasks, dim_ceildiv(e->c, s->axis[v - 1].extent, dim_const(e->c, rows)), &block);
    tasks_points(&tasks, s, (1u << (v - 1)) - 1, &p);
    tasks_begin(e, &tasks);
    tasks_grain(e, nest_stage_cost(e->k, s, e->t));
    LVal first = lir_t0(l), past = lir_t1(l), step = lir_tstep(l), extent;
    LFor t = lir_for(l, first, past, step, 0, NULL);
    tasks_split(e, &tasks, t.iv);
    c.lo = lir_muli(l, block, rows);
    extent = emit_dim(e, s->axis[v - 1].extent);
    c.hi = lir_op2(l, S_MIN, lir_addi(l, c.lo, rows), extent);
    nest_stage(&n, 0, &p);
    lir_for_end(l, &t, NULL, NULL);
}
