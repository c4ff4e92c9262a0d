/* contract_pairs.c: products of bytes whose pairs may be summed in 16 bits (lir_dot4_sat), which takes half the work of exact products where no
 * instruction sums four: 255 (|v| + |w|) fits if v and w have different signs, or |v| + |w| <= 128. In: a constant B of panels with quads. Out: B
 * again, of which the second weight of every other pair is moved to what is left: vectors of quads, in lists, one for each vector of columns. They
 * are multiplied after all of B, the quad of A at its place in the row. So the sum is exact whatever A is. */
#include <string.h>

#include "contract.h"

enum { QUAD = 4, PANEL = 16, LINE = QUAD * PANEL, MOST = 128 };

typedef struct Weights8 {
    const int8_t *w;
    int64_t panel, panels;      /* bytes of a panel, and how many there are */
    int64_t nquad, *in_b, *in_a; /* where the quads lie in a panel, and in A from the first one on */
    int columns;                /* of a vector */
} Weights8;

static bool overflows(int v, int w) { return (v < 0) == (w < 0) && (v < 0 ? -v - w : v + w) > MOST; }

/* A vector of columns of a quad: does a pair overflow? */
static bool vector_overflows(const int8_t *w, int columns) {
    for (int i = 0; i < QUAD * columns; i += 2) if (overflows(w[i], w[i + 1])) return true;
    return false;
}

typedef struct Readers { const Kernel *k; Val val; int n; } Readers;

static void note_reader(void *data, const ExprInfo *load) {
    Readers *r = data;
    r->n += r->k->buf[load->index].val.i == r->val.i;
}

/* No other load of the kernel reads what B does. */
static bool only_reader(const Shape *x) {
    Readers r = {x->k, x->k->buf[x->b.buf].val, 0};
    for (int s = 0; s < x->k->nstage; s++)
        for (int i = 0; i < x->k->stage[s].nres; i++) expr_loads(x->k->c, x->k->stage[s].body[i], note_reader, &r);
    return r.n == 1;
}

static bool constant_coef(const Shape *x, const Operand *o, int axis, int64_t *by) {
    *by = 0;
    return !o->f.has[axis] || dim_is_const(x->k->c, o->f.coef[axis], by);
}

/* Places of all quads, by walking the reduced axes; each line of a panel is one of them. */
static bool places(const Shape *x, Weights8 *p) {
    Ctx *c = x->k->c;
    int64_t extent[K_AXES], by_a[K_AXES], by_b[K_AXES], n = 1;
    for (int i = 0; i < x->nred; i++) {
        if (!dim_is_const(c, x->s->axis[x->red[i]].extent, &extent[i]) || extent[i] < 1 || extent[i] > p->panel) return false;
        if (!constant_coef(x, &x->a, x->red[i], &by_a[i]) || !constant_coef(x, &x->b, x->red[i], &by_b[i])) return false;
        if (by_b[i] <= 0 || by_b[i] % LINE || (n *= extent[i]) > p->panel / LINE) return false;
    }
    if (n != p->panel / LINE) return false;
    bool *met = NEWN(c, bool, n);
    p->nquad = n;
    p->in_a = NEWN(c, int64_t, n);
    p->in_b = NEWN(c, int64_t, n);
    for (int64_t q = 0; q < n; q++) {
        int64_t rest = q;
        for (int i = x->nred - 1; i >= 0; rest /= extent[i--]) {
            p->in_a[q] += rest % extent[i] * by_a[i];
            p->in_b[q] += rest % extent[i] * by_b[i];
        }
        int64_t line = p->in_b[q] / LINE;
        if (line >= n || met[line]) return false;
        met[line] = true;
    }
    return true;
}

/* Panels follow each other, and all parallel axes of B step by whole ones. */
static bool panels(const Shape *x, const Target *t, Weights8 *p) {
    const KBuf *b = &x->k->buf[x->b.buf];
    const ExprInfo *rest = expr_info(x->k->c, x->b.f.rest);
    int64_t by;
    if (x->quad < 0 || x->nblk < 0 || !b->data || b->data->splat || rest->kind != E_CONST || rest->val.i != 0 || !only_reader(x)) return false;
    if (!dim_is_const(x->k->c, x->b.f.coef[x->nblk], &p->panel) || p->panel < LINE || (int64_t)b->data->bytes % p->panel) return false;
    for (int a = 0; a < x->s->naxis; a++) {
        bool own = x->s->axis[a].kind == AX_RED || a == x->vec;
        if (!own && (!constant_coef(x, &x->b, a, &by) || by % p->panel)) return false;
    }
    p->w = b->data->data;
    p->panels = (int64_t)b->data->bytes / p->panel;
    p->columns = target_lanes(t, DT_I32);
    return p->columns <= PANEL && places(x, p);
}

/* Moves the second weight of pairs that overflow. */
static void move_second(int8_t *from, int8_t *to, int columns) {
    for (int i = 0; i < QUAD * columns; i += 2) {
        if (!overflows(from[i], from[i + 1])) continue;
        to[i + 1] = from[i + 1];
        from[i + 1] = 0;
    }
}

/* As Pairs has it. */
static const ConstData *divide(Ctx *c, const Weights8 *p, int64_t left, Pairs *out) {
    int64_t vector = QUAD * p->columns, groups = LINE / vector, lists = p->panels * groups, n = 0;
    out->table = p->panel * p->panels;
    out->vectors = (out->table + (lists + 2) * 8 + vector - 1) / vector * vector;
    int64_t places = out->vectors + left * vector, *table = NEWN(c, int64_t, lists + 2), *place = NEWN(c, int64_t, left);
    ConstData *d = NEW(c, ConstData);
    d->dtype = DT_I8;
    d->count = places + left * 8;
    d->bytes = (size_t)d->count;
    int8_t *to = NEWN(c, int8_t, d->count);
    memcpy(to, p->w, (size_t)out->table);
    *table = places;
    for (int64_t g = 0; g < lists; g++) {
        table[1 + g] = n;
        for (int64_t q = 0; q < p->nquad; q++) {
            int8_t *from = to + g / groups * p->panel + p->in_b[q] + g % groups * vector;
            if (!vector_overflows(from, p->columns)) continue;
            move_second(from, to + out->vectors + n * vector, p->columns);
            place[n++] = p->in_a[q];
        }
    }
    table[1 + lists] = n;
    memcpy(to + out->table, table, (size_t)(lists + 2) * 8);
    memcpy(to + places, place, (size_t)left * 8);
    d->data = to;
    return d;
}

bool contract_pairs(const Shape *x, const Target *t, Pairs *out) {
    Weights8 p;
    int64_t left = 0;
    *out = (Pairs){0};
    if (!(t->flags & F_AVX2) || t->flags & F_VNNI || !panels(x, t, &p)) return false;
    int64_t vector = QUAD * p.columns, all = p.panel * p.panels / vector;
    for (int64_t v = 0; v < all; v++) left += vector_overflows(p.w + v * vector, p.columns);
    if (left * 5 > all * 2) return false; /* exact products take no more */
    out->panel = p.panel;
    if (left) out->data = divide(x->k->c, &p, left, out);
    return true;
}
