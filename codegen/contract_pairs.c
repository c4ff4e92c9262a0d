/* contract_pairs.c: products of bytes that may be summed in 16 bits (lir_pairs), which takes half the work of exact products, or less, where no
 * instruction sums four: the two of a pair, or those of neighbouring quads, too. As 255 * 128 < 2^15, sums fit if the weights above zero are at
 * most 128 together, and those below as well. In: a constant B of panels with quads. Out: B again, of which some weights are moved to what is left:
 * vectors of quads, in lists, one for each vector of columns. They are multiplied after all of B, the quad of A at its place in the row. So the sum
 * is exact whatever A is. */
#include <string.h>

#include "contract.h"

enum { QUAD = 4, PANEL = 16, LINE = QUAD * PANEL, MOST = 128, MOST_LEFT = 2 * MOST_QUADS };

typedef struct Weights8 {
    const int8_t *w;
    int64_t panel, panels;      /* bytes of a panel, and how many there are */
    int64_t nquad, *in_b, *in_a; /* where the quads lie in a panel, and in A from the first one on */
    int64_t inner;              /* quads along the innermost reduced axis */
    int columns;                /* of a vector */
} Weights8;

/* ---- one vector of columns of some quads ---- */

typedef struct Quads { int n, bytes; int8_t w[MOST_QUADS][LINE]; } Quads;
typedef struct Left { int quad; int8_t w[LINE]; } Left;

/* The sign of the weights that overflow in the sum of bytes i and i + 1 of all quads, or 0. */
static int overflow(const Quads *x, int i) {
    int above = 0, below = 0;
    for (int q = 0; q < x->n; q++)
        for (int j = i; j < i + 2; j++) *(x->w[q][j] > 0 ? &above : &below) += x->w[q][j];
    return above > MOST ? 1 : below < -MOST ? -1 : 0;
}

/* Moves weights of one quad to `left`: the larger one of those that overflow, then the other one if that is not enough and they are no pair that
 * overflows itself. How far that is from nothing overflowing; less is better, also where it is only fewer weights. */
static int take(Quads *x, int quad, Left *left) {
    int still = 0, moved = 0;
    *left = (Left){.quad = quad};
    for (int i = 0; i < x->bytes; i += 2) {
        for (int sign, k = 0; k < 2 && (sign = overflow(x, i)); k++) {
            int8_t *w = x->w[quad];
            int j = i + (sign * w[i + 1] > sign * w[i]), other = left->w[j ^ 1];
            if (sign * w[j] <= 0 || sign * (w[j] + other) > MOST) break;
            left->w[j] = w[j];
            w[j] = 0;
            moved++;
        }
        still += overflow(x, i) != 0;
    }
    return still * 2 * LINE - moved;
}

/* Until nothing overflows; how many vectors are left. Each takes a weight of every sum that has one in its quad, so they are few. */
static int separate(Quads *x, Left *left) {
    for (int n = 0;; n++) {
        int i = 0, best = 0;
        while (i < x->bytes && !overflow(x, i)) i += 2;
        if (i >= x->bytes) return n;
        CHECK(n < MOST_LEFT);
        Quads found = *x;
        for (int q = 0; q < x->n; q++) {
            Quads trial = *x;
            Left l;
            int far = take(&trial, q, &l);
            if (q && far >= best) continue;
            best = far;
            found = trial;
            left[n] = l;
        }
        *x = found;
    }
}

/* ---- all of B ---- */

/* Where a divided B goes. */
typedef struct Divided { int8_t *w, *vector; int64_t *first, *place; } Divided;

/* How many vectors are left if so many quads are summed. *sums: how many are summed in 16 bits. */
static int64_t divide(const Weights8 *p, int quads, Divided *d, int64_t *sums) {
    int64_t vector = QUAD * p->columns, groups = LINE / vector, left = 0;
    *sums = 0;
    for (int64_t g = 0; g < p->panels * groups; g++) {
        int64_t base = g / groups * p->panel + g % groups * vector;
        if (d) d->first[g] = left;
        for (int64_t q = 0, n; q < p->nquad; q += n, ++*sums) {
            Quads x = {.bytes = (int)vector};
            Left l[MOST_LEFT];
            n = p->inner - q % p->inner;
            if (n > quads) n = quads;
            x.n = (int)n;
            for (int64_t k = 0; k < n; k++) memcpy(x.w[k], p->w + base + p->in_b[q + k], (size_t)vector);
            int more = separate(&x, l);
            for (int k = 0; k < more && d; k++) {
                memcpy(d->vector + (left + k) * vector, l[k].w, (size_t)vector);
                d->place[left + k] = p->in_a[q + l[k].quad];
            }
            for (int64_t k = 0; k < n && d; k++) memcpy(d->w + base + p->in_b[q + k], x.w[k], (size_t)vector);
            left += more;
        }
    }
    if (d) d->first[p->panels * groups] = left;
    return left;
}

/* ---- which B ---- */

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
    p->inner = x->nred ? extent[x->nred - 1] : 1;
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

/* As Pairs has it. */
static const ConstData *divided(Ctx *c, const Weights8 *p, int64_t left, Pairs *out) {
    int64_t vector = QUAD * p->columns, lists = p->panels * (LINE / vector), sums;
    out->table = p->panel * p->panels;
    out->vectors = (out->table + (lists + 2) * 8 + vector - 1) / vector * vector;
    int64_t places = out->vectors + left * vector, *table = NEWN(c, int64_t, lists + 2), *place = NEWN(c, int64_t, left);
    ConstData *d = NEW(c, ConstData);
    d->dtype = DT_I8;
    d->count = places + left * 8;
    d->bytes = (size_t)d->count;
    int8_t *to = NEWN(c, int8_t, d->count);
    *table = places;
    divide(p, out->quads, &(Divided){to, to + out->vectors, table + 1, place}, &sums);
    memcpy(to + out->table, table, (size_t)(lists + 2) * 8);
    memcpy(to + places, place, (size_t)left * 8);
    d->data = to;
    return d;
}

bool contract_pairs(const Shape *x, const Target *t, int rows, Pairs *out) {
    Weights8 p;
    *out = (Pairs){0};
    if (!(t->flags & F_AVX2) || t->flags & F_VNNI || !panels(x, t, &p)) return false;
    /* Measured, in tenths: a quad has two instructions that multiply, another one in the same sum one; a vector that is left comes by its list. */
    enum { EXACT = 28, FIRST = 20, NEXT = 13, LEFT = 23 };
    int64_t all = p.panel * p.panels / (QUAD * p.columns), left = 0, best = all * EXACT, sums;
    for (int quads = 1; quads <= (rows > 1 ? MOST_QUADS : 1); quads++) { /* one row waits for memory instead */
        int64_t n = divide(&p, quads, NULL, &sums), cost = FIRST * sums + NEXT * (all - sums) + LEFT * n;
        if (cost >= best) break;
        best = cost;
        left = n;
        out->quads = quads;
    }
    out->panel = p.panel;
    if (left) out->data = divided(x->k->c, &p, left, out);
    return out->quads > 0;
}
