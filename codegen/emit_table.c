/* emit_table.c: f32 functions of four bits or fewer, such as what a packed weight stands for, are tables of 16 entries: one instruction of AVX-512,
 * whatever the function. */
#include "emit_internal.h"

enum { ENTRIES = 16, DEEPEST = 8 };

/* `bits`: the i32 expression whose low bits `mask` are the argument; `masked`: the `and` that says so. */
typedef struct Bits { Expr bits, masked; int64_t mask; } Bits;

static bool find_bits(Ctx *c, Expr x, Bits *b, int depth) {
    const ExprInfo *i = expr_info(c, x);
    if (x.i == b->masked.i || i->kind == E_CONST) return true;
    if (depth > DEEPEST || (i->kind != E_OP && i->kind != E_CAST)) return false;
    for (int k = 0; k < 2 && i->kind == E_OP && i->op == S_AND && i->dtype == DT_I32; k++) {
        const ExprInfo *m = expr_info(c, i->arg[k]);
        if (m->kind != E_CONST || m->val.i < 1 || m->val.i >= ENTRIES) continue;
        if (b->masked.i) return false;
        *b = (Bits){i->arg[!k], x, m->val.i};
        return true;
    }
    for (int k = 0; k < i->narg; k++) if (!find_bits(c, i->arg[k], b, depth + 1)) return false;
    return true;
}

typedef struct Entry { Expr masked; int64_t value; } Entry;

static Expr at_entry(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    const Entry *at = data;
    return e.i == at->masked.i ? expr_int(c, DT_I32, at->value) : expr_rebuild(c, i, arg);
}

bool emit_is_table(const Emit *e, Expr x, Expr *bits, Scalar *entry) {
    Ctx *c = e->c;
    const ExprInfo *i = expr_info(c, x);
    Bits b = {{0}, {0}, 0};
    if (!(e->t->flags & F_AVX512) || i->dtype != DT_F32 || (i->kind != E_OP && i->kind != E_CAST)) return false;
    if (!find_bits(c, x, &b, 0) || !b.masked.i) return false;
    for (int64_t k = 0; k < ENTRIES; k++) {
        const ExprInfo *v = expr_info(c, expr_rewrite(c, x, at_entry, &(Entry){b.masked, k & b.mask}));
        if (v->kind != E_CONST) return false;
        entry[k] = v->val;
    }
    *bits = b.bits;
    return true;
}
