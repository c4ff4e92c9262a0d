/* nest_rows.c: reductions and scans of template `nest` across many rows, row by row: accumulators of a strip of columns lie in scratch. */
#include <string.h>

#include "nest.h"

enum { ROWS = 4, FEW_ROWS = 16, MANY_ROWS = 256, SCANNED = 32 << 10 };

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
    bool scan = s->kind == ST_SCAN; /* which writes the rows as well */
    bool far = rows >= (scan ? FEW_ROWS : MANY_ROWS) && rows * columns * 4 > (scan ? SCANNED : t->l2), wide = columns * 4 > JAM * t->vbytes;
    return r.rows && wide && (far || (s->nres > 1 && rows > ROWS));
}

/* ---- strips of accumulators ---- */

static int next_row_axis(const Stage *s, int a) {
    while (a < s->naxis && s->axis[a].kind == AX_PAR) a++;
    return a;
}

static PartSize part_size(const Emit *e, const Stage *s, int a) {
    if (s->kind == ST_SCAN) return (PartSize){0};
    return emit_part_size(e, s, dim_hi(e->c, s->axis[a].extent), emit_terms(e, s, a + 1, -1, 1));
}

Dim nest_strip_bytes(const Emit *e, const Stage *s) {
    int strips = 1;
    for (int a = next_row_axis(s, 0); a < s->naxis; a = next_row_axis(s, a + 1)) {
        PartSize part = part_size(e, s, a);
        strips += (part.rows > 0) + part.each;
    }
    return dim_const(e->c, (int64_t)STRIP * 8 * s->nres * strips);
}

static void strip_access(Nest *n, int st, int sums, const Point *p, LVal *acc, bool store) {
    const Stage *s = &n->k->stage[st];
    Lir *l = n->e->l;
    LVal at = lir_sub(l, p->axis[n->axis[st]], n->rows->first);
    for (int i = 0; i < s->nres; i++) {
        LVal ptr = lir_ptr_bytes(l, n->special[st], lir_i64(l, STRIP * 8 * (i + s->nres * sums)));
        LTy ty = {(uint8_t)reg_type(s->acc[i]), p->lanes};
        if (store) lir_store(l, ptr, at, acc[i], (LVal){0}, 0);
        else acc[i] = lir_load(l, ptr, at, ty, (LVal){0}, 0);
    }
}

static void strip_begin(Nest *n, int st, Point *p) {
    const Stage *s = &n->k->stage[st];
    LVal acc[K_RES];
    for (int i = 0; i < s->nres; i++) acc[i] = emit_initial(n->e, s, i, p->lanes);
    strip_access(n, st, n->rows->sums, p, acc, true);
}

static void strip_rows(Nest *n, int st, Point *p) {
    const Stage *s = &n->k->stage[st];
    const Rows *r = n->rows;
    const bool reverse = s->kind == ST_SCAN && ((const ScanAttr *)s->node->attr)->reverse;
    LVal acc[K_RES], before[K_RES];
    strip_access(n, st, n->rows->sums, p, acc, false);
    for (int i = 0; i < r->count; i++) {
        memcpy(before, acc, sizeof acc);
        p->axis[r->axis] = lir_addi(n->e->l, r->row, reverse ? -i : i);
        emit_accumulate(n->e, s, acc, p);
        if (s->kind == ST_SCAN)
            for (int k = 0; k < s->nres; k++) emit_store(n->e, s, k, ((const ScanAttr *)s->node->attr)->exclusive ? before[k] : acc[k], p);
    }
    strip_access(n, st, n->rows->sums, p, acc, true);
}

/* The sums of a part are added to those of the strip before. */
static void strip_fold(Nest *n, int st, Point *p) {
    LVal part[K_RES], acc[K_RES];
    strip_access(n, st, n->rows->sums, p, part, false);
    strip_access(n, st, n->rows->sums - 1, p, acc, false);
    emit_add_part(n->e, &n->k->stage[st], n->k->stage[st].nres, acc, part);
    strip_access(n, st, n->rows->sums - 1, p, part, true);
}

static void strip_end(Nest *n, int st, Point *p) {
    LVal acc[K_RES];
    strip_access(n, st, n->rows->sums, p, acc, false);
    nest_store_reduced(n, st, acc, p);
}

static void whole_strip(Nest *n, int st, Point *p, uint16_t lanes, LVal end, Rows *r, void (*fn)(Nest *, int, Point *)) {
    void (*was)(Nest *, int, Point *) = r->fn;
    r->fn = fn;
    nest_vector_loop(n, st, p, n->axis[st], lanes, r->first, end);
    r->fn = was;
}

static void part_begin(Nest *n, int st, Point *p, uint16_t lanes, LVal end, Rows *r) {
    r->sums++;
    whole_strip(n, st, p, lanes, end, r, strip_begin);
}

static void part_end(Nest *n, int st, Point *p, uint16_t lanes, LVal end, Rows *r) {
    whole_strip(n, st, p, lanes, end, r, strip_fold);
    r->sums--;
}

/* Rows that pass while a vector of accumulators is in registers. A scan writes rows, too: of more bytes than the second cache holds, with AVX2, one
 * at a time is faster (1024 x 1024 f32: 130 us, four at a time 130 to 240, by where they lie), of fewer slower (320 x 320: 17, 13). */
static int rows_at_once(const Nest *n, const Stage *s) {
    const Target *t = n->e->t;
    double elements = 1;
    if (s->kind != ST_SCAN || t->flags & F_AVX512) return ROWS;
    for (int a = 0; a < s->naxis; a++) elements *= dim_typical(n->k->c, s->axis[a].extent);
    return elements * (double)dt_bits(s->acc[0]) / 8 > t->l2 ? 1 : ROWS;
}

/* Loops over the reduced or scanned axes from `a` on, the innermost several rows at a time. */
static void row_loops(Nest *n, int st, int a, Point *p, uint16_t lanes, LVal end, Rows *r) {
    const Stage *s = &n->k->stage[st];
    Lir *l = n->e->l;
    const bool scan = s->kind == ST_SCAN;
    const int next = next_row_axis(s, a + 1);
    const PartSize part = part_size(n->e, s, a);
    LVal extent = emit_dim(n->e, s->axis[a].extent), from = lir_i64(l, 0), to = extent;
    LFor parts, f;
    if (part.rows) {
        parts = lir_for(l, from, to, lir_i64(l, part.rows), 0, NULL);
        from = parts.iv;
        to = lir_op2(l, S_MIN, lir_addi(l, from, part.rows), extent);
        part_begin(n, st, p, lanes, end, r);
    }
    if (next < s->naxis) {
        f = lir_for(l, from, to, lir_i64(l, 1), 0, NULL);
        p->axis[a] = f.iv;
        if (part.each) part_begin(n, st, p, lanes, end, r);
        row_loops(n, st, next, p, lanes, end, r);
        if (part.each) part_end(n, st, p, lanes, end, r);
        lir_for_end(l, &f, NULL, NULL);
    } else {
        r->axis = a;
        for (r->count = rows_at_once(n, s); r->count; r->count /= ROWS) {
            LVal step = lir_i64(l, r->count), whole = lir_add(l, from, lir_op2(l, S_MUL, lir_op2(l, S_DIV, lir_sub(l, to, from), step), step));
            f = lir_for(l, from, whole, step, 0, NULL);
            r->row = scan && ((const ScanAttr *)s->node->attr)->reverse ? lir_sub(l, lir_addi(l, extent, -1), f.iv) : f.iv;
            nest_vector_loop(n, st, p, n->axis[st], lanes, r->first, end);
            lir_for_end(l, &f, NULL, NULL);
            from = whole;
        }
    }
    if (part.rows) {
        part_end(n, st, p, lanes, end, r);
        lir_for_end(l, &parts, NULL, NULL);
    }
}

void nest_strip_loop(Nest *n, int st, Point *p, int v, uint16_t lanes, LVal lo, LVal hi) {
    Lir *l = n->e->l;
    const Stage *s = &n->k->stage[st];
    LFor f = lir_for(l, lo, hi, lir_i64(l, STRIP), 0, NULL);
    LVal end = lir_op2(l, S_MIN, lir_addi(l, f.iv, STRIP), hi);
    Rows r = {.fn = strip_begin, .first = f.iv};
    n->rows = &r;
    nest_vector_loop(n, st, p, v, lanes, f.iv, end);
    r.fn = strip_rows;
    row_loops(n, st, next_row_axis(s, 0), p, lanes, end, &r);
    r.fn = strip_end;
    if (s->kind != ST_SCAN) nest_vector_loop(n, st, p, v, lanes, f.iv, end);
    n->rows = NULL;
    lir_for_end(l, &f, NULL, NULL);
}
