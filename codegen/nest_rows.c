/* nest_rows.c: reductions and scans of template `nest` across many rows, row by row: accumulators of a strip of columns lie in scratch. */
#include <string.h>

#include "nest.h"

enum { ROWS = 4, MANY_ROWS = 256 };

typedef struct Reads { const Kernel *k; const Stage *s; int v; bool rows; } Reads;

static void note_rows(void *data, const ExprInfo *x) {
    Reads *r = data;
    Affine f;
    if (!access_affine(r->k, r->s, (uint16_t)x->index, r->k->buf[x->index].rank, x->arg, &f) || !dim_is(r->k->c, f.coef[r->v], 1)) return;
    for (int a = 0; a < r->s->naxis; a++) r->rows |= r->s->axis[a].kind != AX_PAR && f.has[a];
}

/* A reduction or scan across many rows reads them whole, a strip of accumulators in memory: as many columns as there are registers for would be a
 * walk through all pages of the operand, again and again. Where there are few registers for a column's chain, also across fewer rows. */
bool nest_by_rows(const Kernel *k, const Target *t, int st, int v) {
    const Stage *s = &k->stage[st];
    if (v < 0 || !s->comb[0].i || s->axis[v].kind != AX_PAR || (s->kind != ST_NEST && s->kind != ST_SCAN)) return false;
    Reads r = {.k = k, .s = s, .v = v};
    double rows = 1, columns = dim_typical(k->c, s->axis[v].extent);
    for (int a = 0; a < s->naxis; a++) rows *= s->axis[a].kind == AX_PAR ? 1 : dim_typical(k->c, s->axis[a].extent);
    for (int i = 0; i < s->nres; i++) expr_loads(k->c, s->body[i], note_rows, &r);
    bool far = rows >= MANY_ROWS && rows * columns * 4 > t->l2, wide = columns * 4 > JAM * t->vbytes;
    return r.rows && wide && (far || (s->nres > 1 && rows > ROWS));
}

Dim nest_strip_bytes(Ctx *c, const Stage *s) { return dim_const(c, STRIP * 8 * s->nres); }

static void strip_access(Nest *n, int st, const Point *p, LVal *acc, bool store) {
    const Stage *s = &n->k->stage[st];
    Lir *l = n->e->l;
    LVal at = lir_sub(l, p->axis[n->axis[st]], n->rows->first);
    for (int i = 0; i < s->nres; i++) {
        LVal ptr = lir_ptr_bytes(l, n->special[st], lir_i64(l, STRIP * 8 * i));
        LTy ty = {(uint8_t)reg_type(s->acc[i]), p->lanes};
        if (store) lir_store(l, ptr, at, acc[i], (LVal){0}, 0);
        else acc[i] = lir_load(l, ptr, at, ty, (LVal){0}, 0);
    }
}

static void strip_begin(Nest *n, int st, Point *p) {
    const Stage *s = &n->k->stage[st];
    LVal acc[K_RES];
    for (int i = 0; i < s->nres; i++) acc[i] = emit_initial(n->e, s, i, p->lanes);
    strip_access(n, st, p, acc, true);
}

static void strip_rows(Nest *n, int st, Point *p) {
    const Stage *s = &n->k->stage[st];
    const Rows *r = n->rows;
    LVal acc[K_RES], before[K_RES];
    strip_access(n, st, p, acc, false);
    for (int i = 0; i < r->count; i++) {
        memcpy(before, acc, sizeof acc);
        p->axis[r->axis] = lir_addi(n->e->l, r->row, i);
        emit_accumulate(n->e, s, acc, p);
        if (s->kind == ST_SCAN)
            for (int k = 0; k < s->nres; k++) emit_store(n->e, s, k, ((const ScanAttr *)s->node->attr)->exclusive ? before[k] : acc[k], p);
    }
    strip_access(n, st, p, acc, true);
}

static void strip_end(Nest *n, int st, Point *p) {
    LVal acc[K_RES];
    strip_access(n, st, p, acc, false);
    nest_store_reduced(n, st, acc, p);
}

/* Loops over the reduced or scanned axes from `a` on, the innermost several rows at a time. */
static void row_loops(Nest *n, int st, int a, Point *p, uint16_t lanes, LVal end, Rows *r) {
    const Stage *s = &n->k->stage[st];
    Lir *l = n->e->l;
    bool scan = s->kind == ST_SCAN;
    int next = a + 1;
    while (next < s->naxis && s->axis[next].kind == AX_PAR) next++;
    LVal extent = emit_dim(n->e, s->axis[a].extent), from = lir_i64(l, 0);
    if (next < s->naxis) {
        LFor f = lir_for(l, from, extent, lir_i64(l, 1), 0, NULL);
        p->axis[a] = f.iv;
        row_loops(n, st, next, p, lanes, end, r);
        lir_for_end(l, &f, NULL, NULL);
        return;
    }
    r->axis = a;
    for (r->count = scan ? 1 : ROWS; r->count; r->count /= ROWS) {
        LVal step = lir_i64(l, r->count), to = lir_op2(l, S_MUL, lir_op2(l, S_DIV, extent, step), step);
        LFor f = lir_for(l, from, to, step, 0, NULL);
        r->row = scan && ((const ScanAttr *)s->node->attr)->reverse ? lir_sub(l, lir_addi(l, extent, -1), f.iv) : f.iv;
        nest_vector_loop(n, st, p, n->axis[st], lanes, r->first, end);
        lir_for_end(l, &f, NULL, NULL);
        from = to;
    }
}

void nest_strip_loop(Nest *n, int st, Point *p, int v, uint16_t lanes, LVal lo, LVal hi) {
    Lir *l = n->e->l;
    const Stage *s = &n->k->stage[st];
    int first = 0;
    while (s->axis[first].kind == AX_PAR) first++;
    LFor f = lir_for(l, lo, hi, lir_i64(l, STRIP), 0, NULL);
    LVal end = lir_op2(l, S_MIN, lir_addi(l, f.iv, STRIP), hi);
    Rows r = {.fn = strip_begin, .first = f.iv};
    n->rows = &r;
    nest_vector_loop(n, st, p, v, lanes, f.iv, end);
    r.fn = strip_rows;
    row_loops(n, st, first, p, lanes, end, &r);
    r.fn = strip_end;
    if (s->kind != ST_SCAN) nest_vector_loop(n, st, p, v, lanes, f.iv, end);
    n->rows = NULL;
    lir_for_end(l, &f, NULL, NULL);
}
