/* emit_parts.c: long sums of floats in parts, so that their error stays small: a chain of n terms, whose last bits add up to n of them, becomes
 * chains of at most PART terms, whose sums are summed. What the parts are follows from extents and schedule alone. */
#include <string.h>

#include "emit_internal.h"

enum { PART = 512 };

/* Is one of the results a sum of floats? (Others gain nothing; what they combine is associative, too.) */
static bool sums_floats(const Emit *e, const Stage *s) {
    for (int r = 0; r < s->nres; r++) {
        if (!s->comb[r].i || !dt_is_float(s->acc[r])) continue;
        const ExprInfo *i = expr_info(e->c, s->comb[r]);
        if (i->kind == E_OP && i->op == S_ADD) return true;
    }
    return false;
}

int64_t emit_terms(const Emit *e, const Stage *s, int a, int lanes_axis, int64_t lanes) {
    int64_t terms = 1;
    for (; a < s->naxis; a++) {
        if (s->axis[a].kind != AX_RED) continue;
        int64_t n = dim_hi(e->c, s->axis[a].extent);
        if (a == lanes_axis) n = n / lanes + 1;
        if (n < 1) n = 1;
        terms = n >= PART || n * terms >= PART ? PART : n * terms; /* enough for a part of its own */
    }
    return terms;
}

void emit_initial_all(Emit *e, const Stage *s, uint32_t count, LVal *acc) {
    for (uint32_t i = 0; i < count; i++) acc[i] = emit_initial(e, s, (int)(i % s->nres), lir_type(e->l, acc[i]).lanes);
}

PartSize emit_part_size(const Emit *e, const Stage *s, int64_t most, int64_t terms) {
    if (!sums_floats(e, s)) return (PartSize){0};
    int64_t rows = terms < PART ? PART / terms : PART;
    return (PartSize){.rows = most > rows ? rows : 0, .each = terms >= PART};
}

Parts emit_parts(Emit *e, const Stage *s, int64_t most, int64_t terms, int64_t step, LVal *lo, LVal *hi, uint32_t count, LVal *acc) {
    Parts p = {.size = emit_part_size(e, s, most, terms)};
    if (!p.size.rows) return p;
    Lir *l = e->l;
    p.loop = lir_for(l, *lo, *hi, lir_i64(l, p.size.rows * step), count, acc);
    *lo = p.loop.iv;
    *hi = lir_op2(l, S_MIN, lir_addi(l, *lo, p.size.rows * step), *hi);
    emit_initial_all(e, s, count, acc);
    return p;
}

void emit_add_part(Emit *e, const Stage *s, uint32_t count, const LVal *sum, LVal *acc) {
    LVal out[64];
    for (uint32_t i = 0; i < count; i++) out[i] = emit_combine(e, s, (int)(i % s->nres), &sum[i - i % s->nres], &acc[i - i % s->nres]);
    memcpy(acc, out, count * sizeof *out);
}

void emit_parts_end(Emit *e, const Stage *s, Parts *p, uint32_t count, LVal *acc) {
    if (!p->size.rows) return;
    emit_add_part(e, s, count, p->loop.c, acc);
    lir_for_end(e->l, &p->loop, acc, acc);
}
