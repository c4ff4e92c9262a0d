/* lower.c: the body of a `kernel` group -> Kernel. Views disappear into index expressions, maps are inlined into their
 * consumers; reductions, contractions, scans and the like become stages, as do the group's results and maps that are
 * dear and used by more than one stage.
 *
 * Two directions of reading: lower_pull.c pulls a value at given coordinates back to loads; lower_stage.c makes stages and
 * pushes the coordinates of a stage's result through the views and maps that follow it to a result of the group, so that such an
 * epilogue is pointwise over the stage's own axes and a template can run it on its accumulators. Here: what gets a buffer. */
#include <string.h>

#include "lower_internal.h"

enum { DEAR = 5 }; /* cost in cycles per element from which a shared map is worth a buffer */

/* ---- buffers ---- */

/* Bytes that an address `offset` elements behind a multiple of 64 is a multiple of. */
static uint8_t view_align(Ctx *c, Dim offset, unsigned bits) {
    unsigned n = 64;
    while (n > 1 && !dim_divisible(c, dim_muli(c, offset, bits < 8 ? 1 : (int64_t)bits / 8), n)) n /= 2;
    return (uint8_t)n;
}

uint16_t lower_buf(Low *w, uint8_t kind, const Type *t, Val outer) {
    Kernel *k = w->k;
    if (k->nbuf == K_BUFS) ICE("kernel %s has more than %d buffers", k->name, K_BUFS);
    KBuf *b = &k->buf[k->nbuf];
    *b = (KBuf){.kind = kind, .rank = t->rank, .dtype = t->dtype, .val = outer, .offset = dim_const(w->c, 0)};
    Dim dense = dim_const(w->c, 1);
    const Storage *st = outer.i ? &w->storage[outer.i] : NULL;
    b->align = st && st->kind == ST_VIEW ? view_align(w->c, st->offset, dt_bits(t->dtype)) : 64;
    for (int d = t->rank - 1; d >= 0; d--) {
        b->dim[d] = t->dim[d];
        Dim s = st && st->kind != ST_NONE ? st->stride[d] : dense;
        if (dim_is(w->c, t->dim[d], 1)) s = dim_const(w->c, 0);
        b->stride[d] = s;
        dense = dim_mul(w->c, dense, t->dim[d]);
    }
    return k->nbuf++;
}

static Strides strides_of(const KBuf *b) {
    Strides s = {.rank = b->rank, .offset = b->offset};
    memcpy(s.dim, b->dim, sizeof s.dim);
    memcpy(s.stride, b->stride, sizeof s.stride);
    return s;
}

static uint16_t alias_buf(Low *w, uint16_t of, const Strides *s) {
    Kernel *k = w->k;
    if (k->nbuf == K_BUFS) return 0;
    KBuf *b = &k->buf[k->nbuf];
    *b = k->buf[of];
    b->rank = s->rank;
    b->offset = s->offset;
    memcpy(b->dim, s->dim, sizeof b->dim);
    memcpy(b->stride, s->stride, sizeof b->stride);
    return (uint16_t)(++k->nbuf);
}

/* Views of operands that strides can express become buffers of their own over the same memory. */
static void alias_operands(Low *w) {
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        Node *n = w->g->node.v[i];
        if (n->op != P_RESHAPE && n->op != P_PERMUTE && n->op != P_SLICE && n->op != P_BROADCAST) continue;
        uint16_t of = w->buf[graph_resolve(w->g, n->in[0]).i];
        if (!of) continue;
        Strides in = strides_of(&w->k->buf[of - 1]), out;
        if (!strides_view(w->c, w->g, n, &in, &out)) continue;
        uint16_t a = alias_buf(w, (uint16_t)(of - 1), &out);
        if (!a) continue;
        w->buf[n->out[0].i] = a;
        w->made[n->out[0].i] = true;
    }
}

/* Results that are reshaped or permuted from a value nobody else reads: that value is written in their place. */
static void alias_results(Low *w) {
    uint32_t *uses = graph_uses(w->g);
    for (uint32_t o = 0; o < w->g->out.n; o++) {
        Val v = w->target[o] = graph_resolve(w->g, w->g->out.v[o].val);
        uint16_t b = lower_buf(w, KB_OUT, val_type(w->g, v), w->group->out[o]);
        for (Node *n = val_def(w->g, v); n && (n->op == P_RESHAPE || n->op == P_PERMUTE || n->op == P_COPY); n = val_def(w->g, v)) {
            Val x = graph_resolve(w->g, n->in[0]);
            Strides out = strides_of(&w->k->buf[b]), in;
            if (w->buf[x.i] || uses[x.i] != 1 || !strides_unview(w->c, w->g, n, &out, &in)) break;
            Kernel *k = w->k; /* the buffer is described in the operand's dims instead */
            k->buf[b].rank = in.rank;
            k->buf[b].offset = in.offset;
            memcpy(k->buf[b].dim, in.dim, sizeof in.dim);
            memcpy(k->buf[b].stride, in.stride, sizeof in.stride);
            v = w->target[o] = x;
        }
        if (w->buf[v.i]) ICE("kernel %s: two results are one value, or a result is an operand", w->k->name);
        w->k->buf[b].final = result_is_final(w->outer, w->storage, w->group->out[o]);
        w->buf[v.i] = (uint16_t)(b + 1);
    }
}

/* ---- deciding what gets a buffer ---- */

/* reach[v]: bit set of stages (by node position mod 64) that read v when everything between is inlined. */
static void count_consumers(Low *w, uint64_t *reach) {
    uint32_t stage = 0;
    for (uint32_t o = 0; o < w->g->out.n; o++) reach[graph_resolve(w->g, w->g->out.v[o].val).i] |= 1ull << (stage++ % 64);
    for (uint32_t i = w->g->node.n; i-- > 0;) {
        Node *n = w->g->node.v[i];
        uint64_t m = 0;
        if (lower_is_root(n)) m = 1ull << (stage++ % 64);
        else for (int r = 0; r < n->nout; r++) m |= reach[n->out[r].i];
        for (int k = 0; k < n->nin; k++) reach[n->in[k].i] |= m;
    }
}

/* Does it compute from constants alone? Such weights are unpacked where the contraction reads them (fuse.c). */
static bool of_constants(Low *w, const Node *n) {
    for (int k = 0; k < n->nin; k++) {
        Val v = graph_resolve(w->g, n->in[k]);
        for (Node *d = val_def(w->g, v); d && d->nin == 1; d = val_def(w->g, v)) v = graph_resolve(w->g, d->in[0]);
        if (!w->buf[v.i] || !w->k->buf[w->buf[v.i] - 1].data) return false;
    }
    return n->nin > 0;
}

static bool wants_home(Low *w, const Node *n, const uint64_t *reach, const bool *into_contract) {
    if (n->op != P_MAP) return false;
    const MapAttr *a = n->attr;
    for (int r = 0; r < n->nout; r++) {
        int cost = expr_cost(w->c, a->body[r]);
        uint64_t m = reach[n->out[r].i];
        if (cost >= DEAR && (m & (m - 1)) != 0) return true;
        if (cost >= DEAR && into_contract[n->out[r].i] && !of_constants(w, n)) return true;
    }
    return false;
}

static bool *feeds_contract(Low *w) {
    bool *f = NEWN(w->c, bool, w->g->val.n);
    for (uint32_t i = w->g->node.n; i-- > 0;) {
        Node *n = w->g->node.v[i];
        bool m = n->op == P_CONTRACT;
        if (!lower_is_root(n) && n->op != P_MAP) for (int r = 0; r < n->nout; r++) m |= f[n->out[r].i];
        if (m) for (int k = 0; k < n->nin; k++) f[n->in[k].i] = true;
    }
    return f;
}

static const char *node_names(Low *w) {
    Buf b = {.c = w->c};
    Loc seen[16];
    int n = 0;
    for (uint32_t i = 0; i < w->g->node.n && n < 16; i++) {
        Loc l = w->g->node.v[i]->loc;
        bool dup = l.i == 0;
        for (int k = 0; k < n; k++) dup |= seen[k].i == l.i;
        if (dup) continue;
        seen[n++] = l;
        const LocInfo *info = loc_info(w->c, l);
        buf_printf(&b, "%s%s", b.n ? ", " : "", info->name && *info->name ? info->name : info->op ? info->op : "");
    }
    return buf_str(&b);
}

Kernel *kernel_lower(Ctx *c, Graph *outer, const Node *group, const Storage *storage) {
    const GroupAttr *ga = group->attr;
    Low low = {.c = c, .outer = outer, .g = ga->body, .group = group, .storage = storage}, *w = &low;
    Kernel *k = w->k = NEW(c, Kernel);
    k->c = c;
    k->name = ga->note ? ga->note : ga->name;
    k->loc = group->loc;
    w->buf = NEWN(c, uint16_t, w->g->val.n);
    w->made = NEWN(c, bool, w->g->val.n);
    w->target = NEWN(c, Val, w->g->out.n);
    k->nodes = node_names(w);
    for (uint32_t i = 0; i < w->g->in.n; i++) {
        Val v = w->g->in.v[i].val;
        uint16_t b = lower_buf(w, KB_IN, val_type(w->g, v), graph_resolve(outer, group->in[i]));
        k->buf[b].data = val_const(outer, group->in[i]);
        w->buf[v.i] = (uint16_t)(b + 1);
        w->made[v.i] = true;
    }
    alias_operands(w);
    alias_results(w);
    uint64_t *reach = NEWN(c, uint64_t, w->g->val.n);
    count_consumers(w, reach);
    bool *into_contract = feeds_contract(w);
    for (uint32_t i = 0; i < w->g->node.n; i++) {
        Node *n = w->g->node.v[i];
        if (n->op == P_REDUCE || n->op == P_CONTRACT) {
            uint32_t first = w->stages.n;
            if (n->op == P_REDUCE) lower_reduce(w, n);
            else lower_contract(w, n);
            lower_epilogue(w, n, first);
        } else if (n->op == P_SCATTER) {
            lower_scatter(w, n);
        } else if (lower_is_root(n)) {
            lower_special(w, n);
        } else if (wants_home(w, n, reach, into_contract)) {
            for (int r = 0; r < n->nout; r++)
                if (!w->made[n->out[r].i]) lower_pointwise(w, n->out[r], n->out[r]);
        }
    }
    for (uint32_t o = 0; o < w->g->out.n; o++)
        if (!w->made[w->target[o].i]) lower_pointwise(w, w->target[o], w->target[o]);
    k->nstage = (uint16_t)w->stages.n;
    k->stage = w->stages.v;
    CHECK(kernel_verify(k));
    return k;
}
