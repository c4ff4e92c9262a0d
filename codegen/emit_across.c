/* emit_across.c: the epilogues of neighbours along an axis. Where their last results lie along that axis, and not along the lanes, those are
 * transposed in registers and stored along it. */
#include "emit_internal.h"

enum { FEWEST = 4, MOST = 16 };

/* Do results of the last stage lie along axis `row` of the first one, and not along axis `vec`? */
static bool lies_across(const Kernel *k, int row, int vec) {
    const Stage *root = &k->stage[0], *s = &k->stage[k->nstage - 1];
    Affine f;
    if (s->nres != 1 || s->out[0].oob == OOB_FAIL || dt_bits(s->acc[0]) != 32) return false;
    if (!access_affine(k, s, s->out[0].buf, s->out[0].rank, s->out[0].at, &f)) return false;
    int axis[K_AXES] = {0}, np = 0; /* of the last stage: it has the parallel axes alone, unless it is the root */
    for (int a = 0; a < root->naxis; a++) axis[a] = s == root ? a : root->axis[a].kind == AX_PAR ? np++ : 0;
    return dim_is(k->c, f.coef[axis[row]], 1) && !dim_is(k->c, f.coef[axis[vec]], 1);
}

/* At most as many rows as lanes. */
static void store_across(Emit *e, int row, const LVal *acc, int step, const Point *first, int rows) {
    const Stage *root = &e->k->stage[0], *last = &e->k->stage[e->k->nstage - 1];
    Lir *l = e->l;
    const uint16_t lanes = first->lanes;
    Point at = *first, par;
    LVal value[MOST];
    for (int i = 0; i < rows; i++) {
        at.axis[row] = lir_addi(l, first->axis[row], i);
        emit_parallel_point(root, &at, &par);
        e->hold = (uint16_t)(last->out[0].buf + 1);
        e->held = &value[i];
        emit_epilogue(e, 0, &acc[i * step], &par);
    }
    e->hold = 0;
    for (int i = rows; i < lanes; i++) value[i] = value[0];
    lir_transpose(l, value, lanes);
    at.axis[row] = first->axis[row];
    at.vaxis = (int8_t)row;
    if (rows < lanes) at.mask = lir_mask(l, lir_i64(l, rows), lanes);
    for (int i = 0; i < lanes; i++) {
        at.axis[first->vaxis] = lir_addi(l, first->axis[first->vaxis], i);
        par = at;
        if (last != root) emit_parallel_point(root, &at, &par);
        emit_memo_reset(e);
        emit_store(e, last, 0, value[i], &par);
    }
    emit_memo_reset(e);
}

void emit_epilogue_rows(Emit *e, int row, const LVal *acc, int step, const Point *first, int rows) {
    const bool across = rows >= FEWEST && first->lanes <= MOST && !first->mask.i && lies_across(e->k, row, first->vaxis);
    Point at = *first, par;
    for (int r = 0, n; r < rows; r += n) {
        const int left = rows - r;
        at.axis[row] = lir_addi(e->l, first->axis[row], r);
        n = !across || left < FEWEST ? 1 : left < first->lanes ? left : first->lanes;
        if (n > 1) {
            store_across(e, row, &acc[r * step], step, &at, n);
            continue;
        }
        emit_parallel_point(&e->k->stage[0], &at, &par);
        emit_epilogue(e, 0, &acc[r * step], &par);
    }
}
