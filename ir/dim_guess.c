/* dim_guess.c: sizes that only the run tells, as costs assume them. In: dims; out: numbers. */
#include <string.h>

#include "ir/ir.h"

void dim_guess_in(const Graph *g) {
    dim_forget_parts(g->c);
    for (uint32_t v = 1; v < g->val.n; v++) {
        const Type *t = &g->val.v[v].type;
        for (int d = 0; t->kind == TY_TENSOR && d < t->rank; d++) dim_note_parts(g->c, t->dim[d]);
    }
}

/* What nothing bounds is this large; or, where so little would leave sizes that divide it almost nothing (frames of 320 samples), as many parts. */
enum { USUAL = 128, USUAL_PARTS = 16, FEWEST_PARTS = 4 };

double dim_guess(Ctx *c, Dim d, double more) {
    int64_t v;
    if (dim_is_const(c, d, &v)) return (double)v;
    const DimInfo *i = dim_info(c, d);
    if (i->kind == D_SYM) {
        const SymInfo *s = dim_sym_info(c, (uint32_t)i->val);
        if (s->hi != DIM_INF && s->hi < 4096) return (double)s->hi;
        if (strstr(s->name, "batch")) return more;
        return (s->parts * FEWEST_PARTS > USUAL ? (double)s->parts * USUAL_PARTS : USUAL) * more;
    }
    DimInfo copy = *i;
    double a[3] = {0};
    for (int k = 0; k < copy.n; k++) a[k] = dim_guess(c, copy.arg[k], more);
    switch (copy.kind) {
    case D_ADD: return a[0] + a[1];
    case D_MUL: return a[0] * a[1];
    case D_FLOORDIV: case D_CEILDIV: return a[1] != 0 ? a[0] / a[1] : 0;
    case D_MOD: return a[1] / 2;
    case D_MIN: return a[0] < a[1] ? a[0] : a[1];
    case D_MAX: return a[0] > a[1] ? a[0] : a[1];
    case D_BCAST: return a[0] == 1 ? a[1] : a[0];
    case D_EQ: return a[0] == a[1];
    case D_LT: return a[0] < a[1];
    case D_SELECT: return a[0] != 0 ? a[1] : a[2];
    default: return 1;
    }
}

double dim_typical(Ctx *c, Dim d) { return dim_guess(c, d, 1); }
