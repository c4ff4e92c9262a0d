/* memplan.c: the steps of a fused graph (linear.c) -> where each value lives, when it is live, and between which steps threads
 * must meet.
 * Operands of concat lie inside its result (root, offset, strides), and so does what a scatter updates. Sizes that are known, or bounded by the
 * declared ranges of their symbols, are packed offline; the rest is placed at run time by the same rule (largest first, lowest fit). */
#include <stdlib.h>
#include <string.h>

#include "ir/storage.h"

#include "internal.h"

enum { ALIGN = 64, MAX_BOUNDED = 1 << 30 };

typedef struct Plan {
    Ctx *c;
    Graph *g;
    Program *p;
    Storage *st;
} Plan;

static Storage dense(Plan *p, Val v, StorageKind kind) {
    const Type *t = val_type(p->g, v);
    if (t->kind != TY_TENSOR) return (Storage){.kind = ST_VALUE, .root = v, .bytes = dim_const(p->c, 0), .place = -1, .last = -1, .port = -1};
    Strides s = strides_dense(p->c, t);
    Storage x = {.kind = (uint8_t)kind, .rank = t->rank, .root = v, .offset = dim_const(p->c, 0), .place = -1, .first = INT32_MAX, .last = -1,
                 .port = -1};
    memcpy(x.stride, s.stride, sizeof x.stride);
    unsigned bits = dt_bits(t->dtype) < 8 ? 8 : dt_bits(t->dtype);
    x.bytes = dim_muli(p->c, type_count(p->c, t), bits / 8);
    return x;
}

/* Values that no node makes: of loops and ifs. */
static void assign_aliases(Plan *p) {
    for (uint32_t i = 0; i < p->p->alias.n; i++) {
        Alias a = p->p->alias.v[i];
        Storage *s = &p->st[a.val.i];
        *s = dense(p, a.val, a.root.i ? ST_VIEW : ST_ARENA);
        if (!a.root.i) continue;
        s->root = a.root; /* of a value that is no tensor: the same value */
        s->offset = a.offset;
    }
}

static StorageKind home_of(const Node *n) {
    return n->op == P_CONST ? ST_CONST : n->op == P_SEQ || n->op == P_CALL ? ST_VALUE : ST_ARENA;
}

/* Which operand of a kernel that scatters is the tensor it updates, if that is made for it alone (bufferise.c); -1: none. */
static int updated_operand(const Plan *p, const Node *n, const uint32_t *uses) {
    const GroupAttr *a = n->attr;
    if (n->op != P_GROUP || n->nout != 1) return -1;
    const Graph *body = a->body;
    const Node *s = val_def(body, graph_resolve(body, body->out.v[0].val));
    for (int k = 0; s && s->op == P_SCATTER && k < n->nin; k++) {
        Val v = graph_resolve(p->g, n->in[k]);
        const Node *d = val_def(p->g, v);
        if (graph_resolve(body, s->in[0]).i == graph_resolve(body, body->in.v[k].val).i)
            return d && (d->op == P_GROUP || d->op == P_CONCAT) && uses[v.i] == 1 && p->st[v.i].kind == ST_NONE ? k : -1;
    }
    return -1;
}

/* Later nodes first, so that a concat's storage is known before its operands'. */
static void assign(Plan *p) {
    Graph *g = p->g;
    for (uint32_t i = 0; i < g->in.n; i++) {
        Val v = g->in.v[i].val;
        p->st[v.i] = dense(p, v, ST_INPUT);
        p->st[v.i].port = (int32_t)i;
    }
    for (uint32_t o = 0; o < g->out.n; o++) {
        Val v = g->out.v[o].val = graph_resolve(g, g->out.v[o].val);
        if (val_type(g, v)->kind != TY_TENSOR) continue;
        p->st[v.i] = dense(p, v, ST_OUTPUT);
        p->st[v.i].port = (int32_t)o;
    }
    const uint32_t *uses = graph_uses(g);
    for (uint32_t i = g->node.n; i-- > 0;) {
        Node *n = g->node.v[i];
        for (int r = 0; r < n->nout; r++)
            if (p->st[n->out[r].i].kind == ST_NONE) p->st[n->out[r].i] = dense(p, n->out[r], home_of(n));
        int updated = updated_operand(p, n, uses);
        if (updated >= 0) {
            Val v = n->in[updated] = graph_resolve(g, n->in[updated]);
            p->st[v.i] = p->st[n->out[0].i];
            p->st[v.i].kind = ST_VIEW;
        }
        if (n->op != P_CONCAT) continue;
        int axis = ((const AxisAttr *)n->attr)->axis;
        Storage whole = p->st[n->out[0].i];
        Dim start = dim_const(p->c, 0);
        for (int k = 0; k < n->nin; k++) {
            Val v = n->in[k] = graph_resolve(g, n->in[k]);
            const Type *t = val_type(g, v);
            Storage part = dense(p, v, ST_VIEW);
            part.root = whole.root;
            part.offset = dim_add(p->c, whole.offset, dim_mul(p->c, start, whole.stride[axis]));
            memcpy(part.stride, whole.stride, sizeof part.stride);
            CHECK(p->st[v.i].kind == ST_NONE);
            p->st[v.i] = part;
            start = dim_add(p->c, start, t->dim[axis]);
        }
    }
}

static Storage *root_of(Plan *p, Val v) { return &p->st[p->st[v.i].root.i]; }

static void touch(Plan *p, Val v, int32_t at) {
    Storage *r = root_of(p, v);
    if (at < r->first) r->first = at;
    if (at > r->last) r->last = at;
}

/* What is alive when a loop begins and is used in it, is alive until it ends. */
static void extend(Plan *p, int32_t head, int32_t end) {
    for (uint32_t v = 1; v < p->g->val.n; v++) {
        Storage *s = &p->st[v];
        if (s->first < head && s->last >= head && s->last < end) s->last = end;
    }
}

static void lifetimes(Plan *p) {
    Graph *g = p->g;
    const Program *o = p->p;
    int32_t *label = NEWN(p->c, int32_t, o->nlabel + 1);
    for (uint32_t l = 0; l < o->nlabel; l++) label[l] = INT32_MAX;
    for (int32_t i = 0; i < (int32_t)o->step.n; i++) {
        const Step *s = &o->step.v[i];
        if (s->to.i) touch(p, s->to, i);
        if (s->from.i) touch(p, s->from, i);
        if (s->kind == SP_LABEL) label[s->label] = i;
        if (s->kind == SP_JUMP && label[s->label] < i) extend(p, label[s->label], i); /* inner loops first */
        if (s->kind != SP_KERNEL && s->kind != SP_GUARD && s->kind != SP_CALL) continue;
        Node *n = g->node.v[s->node];
        for (int k = 0; k < n->nin; k++) {
            if (!n->in[k].i) continue;
            n->in[k] = graph_resolve(g, n->in[k]);
            touch(p, n->in[k], i);
        }
        for (int r = 0; r < n->nout; r++) touch(p, n->out[r], i);
    }
}

/* ---- packing ---- */

typedef struct Item { Storage *s; int64_t bytes; int64_t key; uint32_t id; } Item;

static int by_key(const void *a, const void *b) {
    const Item *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int by_place(const void *a, const void *b) {
    const Item *x = *(const Item *const *)a, *y = *(const Item *const *)b;
    return x->s->place < y->s->place ? -1 : x->s->place > y->s->place;
}

static int64_t pack_in_order(Ctx *c, Item *item, uint32_t n) {
    Item **live = NEWN(c, Item *, n + 1);
    int64_t top = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t m = 0;
        for (uint32_t j = 0; j < i; j++)
            if (item[j].s->first <= item[i].s->last && item[i].s->first <= item[j].s->last) live[m++] = &item[j];
        if (m) qsort(live, m, sizeof *live, by_place);
        int64_t at = 0;
        for (uint32_t j = 0; j < m; j++) {
            if (at + item[i].bytes <= live[j]->s->place) break;
            int64_t end = live[j]->s->place + live[j]->bytes;
            if (end > at) at = end;
        }
        item[i].s->place = at;
        if (at + item[i].bytes > top) top = at + item[i].bytes;
    }
    return top;
}

static int64_t bounded_bytes(Plan *p, const Storage *s) {
    int64_t v;
    if (dim_is_const(p->c, s->bytes, &v)) return v;
    int64_t hi = dim_hi(p->c, s->bytes);
    return hi <= MAX_BOUNDED ? hi : -1;
}

static int64_t pack(Plan *p) {
    Graph *g = p->g;
    VEC(Item) item = {0};
    for (uint32_t v = 1; v < g->val.n; v++) {
        Storage *s = &p->st[v];
        if (s->kind != ST_ARENA || s->root.i != v || s->last < 0) continue;
        int64_t bytes = bounded_bytes(p, s);
        if (bytes < 0) continue;
        bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
        if (bytes == 0) bytes = ALIGN;
        vec_push(p->c, &item, (Item){s, bytes, 0, v});
    }
    int64_t best = -1;
    int64_t *place = NEWN(p->c, int64_t, item.n + 1);
    for (int order = 0; order < 3; order++) { /* by size, by size times life, by time */
        for (uint32_t i = 0; i < item.n; i++) {
            Item *x = &item.v[i];
            int64_t life = x->s->last - x->s->first + 1;
            x->key = order == 0 ? x->bytes : order == 1 ? x->bytes / ALIGN * life : -(int64_t)x->s->first;
        }
        if (item.n) qsort(item.v, item.n, sizeof *item.v, by_key);
        int64_t top = pack_in_order(p->c, item.v, item.n);
        if (best >= 0 && top >= best) continue;
        best = top;
        for (uint32_t i = 0; i < item.n; i++) place[i] = item.v[i].s->place;
        for (uint32_t i = 0; i < item.n; i++) item.v[i].s->port = (int32_t)i; /* remembers the slot of the best order */
    }
    for (uint32_t i = 0; i < item.n; i++) {
        Storage *s = item.v[i].s;
        s->place = place[s->port];
        s->port = -1;
    }
    return best < 0 ? 0 : best;
}

/* ---- barriers ---- */

typedef struct Access { Val root, val; bool write; } Access;

static bool may_overlap(Plan *p, const Storage *a, const Storage *b) {
    if (a->kind != ST_ARENA || b->kind != ST_ARENA) return false;
    bool together = a->first <= b->last && b->first <= a->last;
    if (together) return false; /* the plan keeps them apart */
    if (a->place < 0 || b->place < 0) return true;
    return a->place < b->place + bounded_bytes(p, b) && b->place < a->place + bounded_bytes(p, a);
}

static bool conflict(Plan *p, const Access *a, const Access *b) {
    if (!a->write && !b->write) return false;
    if (a->root.i == b->root.i) return !(a->write && b->write && a->val.i != b->val.i);
    return may_overlap(p, &p->st[a->root.i], &p->st[b->root.i]);
}

/* An operand that is a concat result depends on everything written into its root. Steps that are no kernels run alone. */
static void barriers(Plan *p, uint32_t *after) {
    Graph *g = p->g;
    VEC(Access) phase = {0};
    int32_t last = -1;
    for (uint32_t i = 0; i < p->p->step.n; i++) {
        const Step *s = &p->p->step.v[i];
        if (s->kind == SP_LIVE) continue;
        bool control = s->kind != SP_KERNEL, meet = control;
        Access mine[64];
        int m = 0;
        uint32_t at = s->node;
        if (!control) {
            Node *n = g->node.v[at];
            for (int k = 0; k < n->nin; k++)
                if (n->in[k].i && m < 64) mine[m++] = (Access){p->st[n->in[k].i].root, n->in[k], false};
            for (int r = 0; r < n->nout; r++)
                if (m < 64) mine[m++] = (Access){p->st[n->out[r].i].root, n->out[r], true};
            if (n->nin + n->nout > 64) meet = true;
        }
        for (int k = 0; k < m && !meet; k++)
            for (uint32_t j = 0; j < phase.n && !meet; j++) meet = conflict(p, &mine[k], &phase.v[j]);
        if (meet) {
            if (last >= 0) after[last] = 1;
            phase.n = 0;
        }
        if (!control) for (int k = 0; k < m; k++) vec_push(p->c, &phase, mine[k]);
        if (!control) last = (int32_t)at;
    }
    if (last >= 0) after[last] = 1;
}

Program *passes_plan(Graph *g, const PassOptions *o) {
    (void)o;
    Program *p = linearise(g);
    if (!p) return NULL;
    Plan plan = {g->c, g, p, NEWN(g->c, Storage, g->val.n)};
    assign_aliases(&plan);
    assign(&plan);
    lifetimes(&plan);
    p->storage = plan.st;
    p->arena = pack(&plan);
    p->barrier_after = NEWN(g->c, uint32_t, g->node.n + 1);
    barriers(&plan, p->barrier_after);
    return p;
}
