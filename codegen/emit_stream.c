/* emit_stream.c: which results go to memory without staying in caches. In: a kernel, the model that it is part of; out: a set of its buffers.
 *
 * A store into a line that no cache holds reads the line first, and something must leave for it. That is well if somebody reads the result while it
 * is there. A result of the whole model that no kernel reads, of more than a core's share of the caches, is written by stores that do neither. Where
 * everything would fit, they take 1.1 times as long as others on machines whose second-level caches are large, and 2.5 times as long on those whose
 * third level is fast (22 GB/s for 55); where it does not, a third or less (16 MB: 0.7 ms for 0.6 to 3 ms). */
#include "emit_internal.h"
#include "ir/storage.h"

enum { SHARE = 3 }; /* second-level caches, if a core's share of the third is no more */

static void note_read(void *data, const ExprInfo *x) { *(uint64_t *)data |= 1ull << x->index; }

bool result_is_final(Graph *g, const Storage *storage, Val v) {
    v = graph_resolve(g, v);
    if (storage[v.i].kind == ST_VIEW && graph_uses(g)[v.i] == 1) v = storage[v.i].root; /* read by what it is a part of, or what updates it there */
    for (uint32_t o = 0; o < g->out.n; o++)
        if (graph_resolve(g, g->out.v[o].val).i == v.i) return graph_uses(g)[v.i] == 1;
    return false;
}

uint64_t emit_streamed(const Emit *e) {
    const Kernel *k = e->k;
    const double share = SHARE * (double)e->t->l2 > e->t->l3 ? SHARE * (double)e->t->l2 : e->t->l3;
    uint64_t read = 0, streamed = 0;
    for (int st = 0; st < k->nstage; st++)
        for (int r = 0; r < k->stage[st].nres; r++) expr_loads(k->c, k->stage[st].body[r], note_read, &read);
    for (int i = 0; i < k->nbuf; i++) {
        const KBuf *b = &k->buf[i];
        double bytes = dt_bits(b->dtype) / 8.0;
        for (int d = 0; d < b->rank; d++) bytes *= (double)dim_lo(k->c, b->dim[d]);
        if (b->kind == KB_OUT && b->final && !(read >> i & 1) && bytes > share) streamed |= 1ull << i;
    }
    return e->t->flags & F_SIMD ? streamed : 0;
}
