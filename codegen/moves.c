/* moves.c: what a kernel only moves, it moves as integers. In: a kernel; out: the same one, where results that are elements of operands, chosen by
 * conditions that do not look at them, are no floats of 8 or 16 bits and no truth values any more. Registers have those as f32 and as masks. */
#include "emit_internal.h"

enum { MOST_NODES = 256 };

typedef struct Moves { const Kernel *k; uint64_t moved; int nodes; bool ok; } Moves;

static DType as_integer(DType t) {
    if (t != DT_BOOL && (!dt_is_float(t) || dt_bits(t) > 16 || dt_is_packed(t))) return t;
    return dt_bits(t) == 16 ? DT_U16 : DT_U8;
}

/* Is e an element of a buffer, a constant, or one of two such values? Their buffers are noted. */
static void note_move(Moves *m, Expr e) {
    const ExprInfo *i = expr_info(m->k->c, e);
    m->ok = m->ok && ++m->nodes <= MOST_NODES;
    if (!m->ok || i->kind == E_CONST) return;
    if (i->kind == E_OP && i->op == S_SELECT) {
        for (int a = 1; a < 3; a++) note_move(m, expr_info(m->k->c, e)->arg[a]);
        return;
    }
    m->ok = i->kind == E_LOAD && m->k->buf[i->index].dtype == i->dtype;
    if (m->ok) m->moved |= 1ull << i->index;
    if (m->ok && i->oob == OOB_VALUE) note_move(m, i->arg[i->narg - 1]);
}

/* What is looked at: conditions, and indices of loads. */
static uint64_t looked_at(const Kernel *k, Expr e) {
    const ExprInfo i = *expr_info(k->c, e);
    uint64_t seen = 0;
    if (i.kind == E_OP) return expr_bufs(k->c, i.arg[0]) | looked_at(k, i.arg[1]) | looked_at(k, i.arg[2]);
    for (int a = 0; i.kind == E_LOAD && a < i.narg - (i.oob == OOB_VALUE); a++) seen |= expr_bufs(k->c, i.arg[a]);
    return i.kind == E_LOAD && i.oob == OOB_VALUE ? seen | looked_at(k, i.arg[i.narg - 1]) : seen;
}

static Expr moved(const Kernel *k, Expr e) {
    const ExprInfo i = *expr_info(k->c, e);
    Expr at[MAX_RANK + 1];
    uint64_t bits = 0;
    if (i.kind == E_CONST) {
        dt_store(i.dtype, &bits, 0, i.val);
        return expr_const(k->c, dt_load(as_integer(i.dtype), &bits, 0));
    }
    if (i.kind == E_OP) return expr_op(k->c, S_SELECT, i.arg[0], moved(k, i.arg[1]), moved(k, i.arg[2]));
    const int rank = i.narg - (i.oob == OOB_VALUE);
    for (int a = 0; a < rank; a++) at[a] = i.arg[a];
    return expr_load(k->c, i.index, as_integer(i.dtype), rank, at, i.oob, i.oob == OOB_VALUE ? moved(k, i.arg[rank]) : (Expr){0}, i.guard);
}

void kernel_moves(Kernel *k) {
    uint64_t looked = 0;
    Moves m = {.k = k, .ok = true};
    bool any = false;
    for (int st = 0; st < k->nstage; st++) {
        const Stage *s = &k->stage[st];
        if (s->kind != ST_NEST || s->comb[0].i) return;
        for (int r = 0; r < s->nres; r++) {
            const DType t = k->buf[s->out[r].buf].dtype;
            any |= as_integer(t) != t;
            m.ok = m.ok && s->acc[r] == t && expr_info(k->c, s->body[r])->dtype == t;
            if (m.ok) note_move(&m, s->body[r]);
            if (!m.ok) return;
            m.moved |= 1ull << s->out[r].buf;
            looked |= looked_at(k, s->body[r]);
        }
    }
    if (!any || looked & m.moved) return;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) {
            Stage *s = &k->stage[st];
            s->body[r] = moved(k, s->body[r]);
            s->acc[r] = as_integer(s->acc[r]);
        }
    for (int b = 0; b < k->nbuf; b++) if (m.moved >> b & 1) k->buf[b].dtype = as_integer(k->buf[b].dtype);
}
