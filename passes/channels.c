/* channels.c: channels last, for GPUs. A value [N, C, spatial..] of a convolutional net lies as [N, spatial.., C] from the first convolution to the
 * last one, and weights [O, C, k..] as [O, k.., C], those that a run computes as a copy, if that pays: so what blocks multiply has 16 bytes side by
 * side along k, and all channels of a point are neighbours. Convolutions, maps, padding, pooling, concats, slices, nearest resizing and global
 * reductions follow, and reshapes that split or join channels: groups are [N, G, C, spatial..] and [N, spatial.., G, C].
 *
 * Nodes are visited in order. `form` maps a plain value to how it lies; the plain value becomes a permuted view of that, dead unless somebody
 * needs it. A convolution whose operand is plain reads it so if it has few channels or no taps; else the operand is copied, where that pays. */
#include <string.h>

#include "layout.h"

/* v is the value with `chan` dims, those behind the first one, moved behind the spatial ones; then come `taps` dims of a window. */
typedef struct Form {
    Val v;
    uint8_t chan, taps;
} Form;

typedef struct Last {
    Graph *g;
    Ctx *c;
    PassCtx *p;
    VEC(Form) form; /* per value; v poison: it is plain */
} Last;

static const Form *form_of(Last *w, Val v) {
    v = graph_resolve(w->g, v);
    return v.i < w->form.n && w->form.v[v.i].v.i ? &w->form.v[v.i] : NULL;
}

/* The form of a value without taps. */
static const Form *whole(Last *w, Val v) {
    const Form *f = form_of(w, v);
    return f && !f->taps ? f : NULL;
}

static void set_form(Last *w, Val plain, Form f) {
    plain = graph_resolve(w->g, plain);
    while (w->form.n <= plain.i) vec_push(w->c, &w->form, (Form){{0}, 0, 0});
    w->form.v[plain.i] = f;
}

/* Dim d of the form is dim perm[d] of the plain value of that rank. */
static void order(int rank, const Form *f, int *perm) {
    int n = 0;
    perm[n++] = 0;
    for (int d = 1 + f->chan; d < rank - f->taps; d++) perm[n++] = d;
    for (int d = 1; d <= f->chan; d++) perm[n++] = d;
    for (int d = rank - f->taps; d < rank; d++) perm[n++] = d;
}

static void inverse(int rank, const Form *f, int *perm) {
    int to[MAX_RANK];
    order(rank, f, to);
    for (int d = 0; d < rank; d++) perm[to[d]] = d;
}

static Val folded(Last *w, Val v) { /* a view of a constant, evaluated now */
    Node *d = val_def(w->g, v);
    if (d && d->op != P_CONST) fold_node(w->g, d, true);
    return graph_resolve(w->g, v);
}

/* v in that form, at least as a view. */
static Val in_form(Last *w, B *b, Val v, const Form *f) {
    const Form *has = form_of(w, v);
    int perm[MAX_RANK];
    if (has && has->chan == f->chan && has->taps == f->taps) return graph_resolve(w->g, has->v);
    order(val_type(w->g, v)->rank, f, perm);
    return folded(w, b_permute(b, v, perm));
}

/* What `old` is, is f.v. */
static void done(Last *w, B *b, Val old, Form f) {
    int perm[MAX_RANK];
    inverse(val_type(w->g, f.v)->rank, &f, perm);
    Val plain = b_permute(b, f.v, perm);
    graph_replace(w->g, old, plain);
    set_form(w, plain, f);
}

/* ---- what follows along ---- */

typedef struct Moved {
    Last *w;
    const Node *n;
    Expr axis[MAX_RANK];
    bool as_is[64]; /* the operand is plain */
    Form form[64];  /* else it is this */
} Moved;

static Expr move_axes(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    const Moved *m = data;
    Expr at[MAX_RANK];
    (void)e;
    if (i->kind == E_AXIS) return m->axis[i->index];
    if (i->kind != E_LOAD || m->as_is[i->index]) return expr_rebuild(c, i, arg);
    int perm[MAX_RANK], rank = val_type(m->w->g, m->n->in[i->index])->rank;
    order(rank, &m->form[i->index], perm);
    for (int d = 0; d < rank; d++) at[d] = arg[perm[d]];
    return expr_load(c, i->index, i->dtype, rank, at, i->oob, i->oob == OOB_VALUE ? arg[i->narg - 1] : (Expr){0}, i->guard);
}

typedef struct Reads {
    bool loaded[64], here[64];
} Reads;

static Expr note_read(void *data, Ctx *c, Expr e, const ExprInfo *i, const Expr *arg) {
    Reads *r = data;
    (void)c, (void)arg;
    if (i->kind == E_LOAD) r->loaded[i->index] = true;
    if (i->kind == E_ARG) r->here[i->index] = true;
    return e;
}

/* An operand with fewer dims than the domain gets leading ones of 1. */
static Val full_rank(B *b, Val v, int rank) {
    const Type *t = val_type(b->g, v);
    Dim dim[MAX_RANK];
    int skip = rank - t->rank;
    if (!skip) return v;
    for (int d = 0; d < rank; d++) dim[d] = d < skip ? dim_const(b->c, 1) : t->dim[d - skip];
    return b_reshape(b, v, rank, dim);
}

static double elements(Last *w, Val v) {
    const Type *t = val_type(w->g, v);
    double n = 1;
    for (int d = 0; d < t->rank; d++) {
        int64_t e;
        n *= dim_is_const(w->c, t->dim[d], &e) ? (double)e : 128;
    }
    return n;
}

/* Does most of what the node reads lie so, and in which form? */
static bool mostly(Last *w, const Node *n, int rank, Form *out) {
    double so = 0, plain = 0;
    for (int k = 0; k < n->nin; k++) {
        const Form *f = n->in[k].i ? whole(w, n->in[k]) : NULL;
        bool fits = f && val_type(w->g, n->in[k])->rank == rank && (so == 0 || f->chan == out->chan);
        if (fits) *out = *f;
        if (!n->in[k].i || val_const(w->g, n->in[k])) continue;
        *(fits ? &so : &plain) += elements(w, n->in[k]);
    }
    return so > 0 && so >= plain;
}

static bool map(Last *w, Node *n) {
    const MapAttr *a = n->attr;
    Form f;
    if (n->nin > 64 || n->nout > 8 || !mostly(w, n, a->rank, &f)) return false;
    Reads reads = {{0}, {0}};
    for (int r = 0; r < n->nout; r++) expr_rewrite(w->c, a->body[r], note_read, &reads);
    for (int k = 0; k < n->nin; k++) {
        const Form *has = whole(w, n->in[k]);
        if (reads.loaded[k] && reads.here[k] && !(has && has->chan == f.chan && val_type(w->g, n->in[k])->rank == a->rank)) return false;
    }
    if (!pass_allow(w->p)) return false;
    B b = builder(w->g, n->loc);
    Moved m = {.w = w, .n = n};
    Val in[64], out[8];
    int perm[MAX_RANK];
    for (int k = 0; k < n->nin; k++) {
        const Form *has = whole(w, n->in[k]);
        m.form[k] = reads.loaded[k] && has ? *has : f;
        m.as_is[k] = reads.loaded[k] && !has;
        in[k] = m.as_is[k] ? n->in[k] : reads.loaded[k] ? graph_resolve(w->g, has->v) : in_form(w, &b, full_rank(&b, n->in[k], a->rank), &f);
    }
    inverse(a->rank, &f, perm);
    for (int d = 0; d < a->rank; d++) m.axis[d] = expr_axis(w->c, (uint32_t)perm[d]);
    Expr body[8];
    Dim dim[MAX_RANK];
    for (int r = 0; r < n->nout; r++) body[r] = expr_rewrite(w->c, a->body[r], move_axes, &m);
    for (int d = 0; d < a->rank; d++) dim[perm[d]] = a->dim[d];
    b_map(&b, n->nout, body, n->nin, in, a->rank, dim, out);
    for (int r = 0; r < n->nout; r++) done(w, &b, n->out[r], (Form){out[r], f.chan, 0});
    return true;
}

static bool pad(Last *w, Node *n) {
    const PadAttr *a = n->attr;
    const Form *f = whole(w, n->in[0]);
    int perm[MAX_RANK], rank = val_type(w->g, n->in[0])->rank;
    Dim lo[MAX_RANK], hi[MAX_RANK];
    int64_t interior[MAX_RANK];
    if (!f || !pass_allow(w->p)) return false;
    order(rank, f, perm);
    for (int d = 0; d < rank; d++) {
        lo[d] = a->lo[perm[d]];
        hi[d] = a->hi[perm[d]];
        interior[d] = a->interior ? a->interior[perm[d]] : 0;
    }
    B b = builder(w->g, n->loc);
    Val y = b_pad(&b, f->v, lo, hi, a->interior ? interior : NULL, a->mode, a->value, n->nin > 1 ? n->in[1] : (Val){0});
    done(w, &b, n->out[0], (Form){y, f->chan, 0});
    return true;
}

/* The plain node stays, dead if all its readers follow. */
static bool window(Last *w, Node *n) {
    const Form *f = whole(w, n->in[0]);
    WindowAttr a = *(const WindowAttr *)n->attr;
    if (!f) return false;
    for (int i = 0; i < a.n; i++) {
        if (a.axis[i] <= f->chan) return false;
        a.axis[i] = (uint8_t)(a.axis[i] - f->chan);
    }
    B b = builder(w->g, n->loc);
    set_form(w, n->out[0], (Form){b_window(&b, f->v, &a), f->chan, a.n});
    return true;
}

/* Over dims that are kept, or over spatial ones and all taps of a window. */
static bool reduce(Last *w, Node *n) {
    const ReduceAttr *a = n->attr;
    const Form *f = n->nin == 1 && n->nout == 1 ? form_of(w, n->in[0]) : NULL;
    if (!f) return false;
    int perm[MAX_RANK], rank = val_type(w->g, n->in[0])->rank;
    uint32_t taps = (1u << rank) - (1u << (rank - f->taps)), axes = 0;
    if (f->taps ? a->keep || (a->axes & taps) != taps : 0) return false;
    if (!a->keep && (a->axes & ((2u << f->chan) - 1))) return false;
    if (!pass_allow(w->p)) return false;
    order(rank, f, perm);
    for (int d = 0; d < rank; d++) axes |= (a->axes >> perm[d] & 1) << d;
    B b = builder(w->g, n->loc);
    Val y;
    b_reduce(&b, 1, &f->v, axes, a->keep, a->comb, a->init, a->acc, &y);
    if (val_type(w->g, y)->rank > 1 + f->chan) done(w, &b, n->out[0], (Form){y, f->chan, 0});
    else graph_replace(w->g, n->out[0], y); /* no spatial dim is left */
    return true;
}

static bool concat(Last *w, Node *n) {
    int perm[MAX_RANK], rank = val_type(w->g, n->out[0])->rank;
    Form f;
    if (!mostly(w, n, rank, &f) || !pass_allow(w->p)) return false;
    B b = builder(w->g, n->loc);
    Val *in = NEWN(w->c, Val, n->nin);
    for (int k = 0; k < n->nin; k++) in[k] = in_form(w, &b, n->in[k], &f);
    inverse(rank, &f, perm);
    done(w, &b, n->out[0], (Form){b_concat(&b, n->nin, in, perm[((const AxisAttr *)n->attr)->axis]), f.chan, 0});
    return true;
}

static bool slice(Last *w, Node *n) {
    const SliceAttr *a = n->attr;
    const Form *f = whole(w, n->in[0]);
    int perm[MAX_RANK], rank = val_type(w->g, n->in[0])->rank;
    Dim start[MAX_RANK], size[MAX_RANK];
    int64_t step[MAX_RANK];
    if (!f || !pass_allow(w->p)) return false;
    order(rank, f, perm);
    for (int d = 0; d < rank; d++) {
        start[d] = a->start[perm[d]];
        size[d] = a->size[perm[d]];
        step[d] = a->step[perm[d]];
    }
    B b = builder(w->g, n->loc);
    done(w, &b, n->out[0], (Form){b_slice(&b, f->v, start, step, size), f->chan, 0});
    return true;
}

static bool broadcast(Last *w, Node *n) {
    const Form *f = whole(w, n->in[0]);
    const Type *t = val_type(w->g, n->out[0]);
    int perm[MAX_RANK];
    Dim dim[MAX_RANK];
    if (!f || t->rank != val_type(w->g, n->in[0])->rank || !pass_allow(w->p)) return false;
    order(t->rank, f, perm);
    for (int d = 0; d < t->rank; d++) dim[d] = t->dim[perm[d]];
    B b = builder(w->g, n->loc);
    done(w, &b, n->out[0], (Form){b_broadcast(&b, f->v, t->rank, dim), f->chan, 0});
    return true;
}

/* Only channels change places. */
static bool permute(Last *w, Node *n) {
    const PermAttr *a = n->attr;
    const Form *f = whole(w, n->in[0]);
    int perm[MAX_RANK], to[MAX_RANK], rank = val_type(w->g, n->out[0])->rank;
    if (!f || f->chan < 2) return false;
    for (int d = 0; d < rank; d++) {
        bool channel = d >= 1 && d <= f->chan;
        if (channel ? a->perm[d] < 1 || a->perm[d] > f->chan : a->perm[d] != d) return false;
    }
    if (!pass_allow(w->p)) return false;
    inverse(rank, f, perm);
    for (int d = 0; d < rank; d++) to[perm[d]] = perm[a->perm[d]];
    B b = builder(w->g, n->loc);
    done(w, &b, n->out[0], (Form){b_permute(&b, f->v, to), f->chan, 0});
    return true;
}

/* Dims from `at` on, one or two of them, whose product is n; else 0. */
static int channels(Ctx *c, const Type *t, Dim n) {
    Dim product = dim_const(c, 1);
    for (int d = 1; d < t->rank && d <= 2; d++) {
        product = dim_mul(c, product, t->dim[d]);
        if (dim_same(c, product, n)) return d;
    }
    return 0;
}

/* Channels are split or joined, or spatial dims are. */
static bool reshape(Last *w, Node *n) {
    const Form *f = whole(w, n->in[0]);
    const Type *from = val_type(w->g, n->in[0]), *to = val_type(w->g, n->out[0]);
    Dim dim[MAX_RANK], channel = dim_const(w->c, 1), space = channel, other = channel;
    if (!f || to->rank < 3 || !dim_same(w->c, from->dim[0], to->dim[0])) return false;
    for (int d = 1; d <= f->chan; d++) channel = dim_mul(w->c, channel, from->dim[d]);
    for (int d = 1 + f->chan; d < from->rank; d++) space = dim_mul(w->c, space, from->dim[d]);
    int chan = channels(w->c, to, channel);
    if (chan == 1 && dim_is(w->c, to->dim[2], 1) && from->rank == to->rank - 1 && f->chan == 1) chan = 2; /* groups of one */
    if (!chan || to->rank < 2 + chan) return false;
    for (int d = 1 + chan; d < to->rank; d++) other = dim_mul(w->c, other, to->dim[d]);
    if (!dim_same(w->c, space, other) || !pass_allow(w->p)) return false;
    Form y = {{0}, (uint8_t)chan, 0};
    int perm[MAX_RANK];
    order(to->rank, &y, perm);
    for (int d = 0; d < to->rank; d++) dim[d] = to->dim[perm[d]];
    B b = builder(w->g, n->loc);
    y.v = b_reshape(&b, f->v, to->rank, dim);
    done(w, &b, n->out[0], y);
    return true;
}

/* ---- convolutions ---- */

enum { L_N, L_G, L_O, L_C, L_S /* 3 */, L_K = L_S + 3 };

typedef struct Labels {
    uint8_t *at;
    int n;
} Labels;
static void put(Labels *l, int label) { l->at[l->n++] = (uint8_t)label; }
static void put_all(Labels *l, int label, int n) { for (int i = 0; i < n; i++) put(l, label + i); }

/* Weights [G, O, C, k..] as [G, O, k.., C]; with one channel per group, neighbours are neighbouring groups: [k.., C, O, G]. */
static Val weights_last(Last *w, B *b, const Conv *v, Labels *l) {
    int perm[MAX_RANK], n = 0, group = v->grouped, s = v->spatial;
    bool depthwise = group && v->cin == 1;
    if (group && !depthwise) perm[n++] = 0, put(l, L_G);
    if (!depthwise) perm[n++] = group, put(l, L_O);
    for (int i = 0; i < s; i++) perm[n++] = 2 + group + i;
    put_all(l, L_K, s);
    perm[n++] = 1 + group, put(l, L_C);
    if (depthwise) perm[n++] = 1, put(l, L_O), perm[n++] = 0, put(l, L_G);
    Val y = folded(w, b_permute(b, v->w, perm));
    return val_const(w->g, y) ? y : copy_of(w->g, y, b->loc);
}

static bool run_rule(Last *w, Node *n);

/* The plain operand of a convolution, which may be padded and split into groups on the way, is copied. */
static bool lead(Last *w, Val v, int spatial) {
    Node *d = val_def(w->g, v);
    int perm[MAX_RANK];
    if (form_of(w, v)) return true;
    if (d && (d->op == P_WINDOW || d->op == P_PAD || d->op == P_RESHAPE) && lead(w, d->in[0], spatial)) return run_rule(w, d) && form_of(w, v);
    const Type *t = val_type(w->g, v);
    if (t->rank != 2 + spatial) return false;
    B b = builder(w->g, d ? d->loc : (Loc){0});
    Form f = {{0}, 1, 0};
    order(t->rank, &f, perm);
    bool so = d && d->op == P_PERMUTE; /* was it made of one that lies so? */
    for (int i = 0; so && i < t->rank; i++) so = ((const PermAttr *)d->attr)->perm[perm[i]] == i;
    if (so) {
        f.v = graph_resolve(w->g, d->in[0]);
    } else {
        f.v = copy_of(w->g, b_permute(&b, v, perm), b.loc);
    }
    set_form(w, v, f);
    return true;
}

/* Is a copy of the plain operand worth it? It costs as much as some hundred products per element, or fewer of small ones, of which nothing could be
 * copied into the products' tiles as it is; without taps the product reads planes as well. */
static bool copy_pays(Last *w, const Conv *v, bool small) {
    enum { PRODUCTS = 256, OF_SMALL = 64 };
    const Type *k = val_type(w->g, v->w);
    const Node *win = val_def(w->g, v->x);
    double taps = 1, stride = 1;
    if (!win || win->op != P_WINDOW) return false;
    for (int i = 0; i < v->spatial; i++) {
        int64_t e;
        CHECK(dim_is_const(w->c, k->dim[2 + v->grouped + i], &e));
        taps *= (double)e;
        stride *= (double)((const WindowAttr *)win->attr)->stride[i];
    }
    return taps > 1 && taps * (double)v->cout >= (small ? OF_SMALL : PRODUCTS) * stride;
}

static Val pad_channels(Last *w, B *b, Val v, int64_t by) {
    const Type *t = val_type(w->g, v);
    Dim lo[MAX_RANK], hi[MAX_RANK];
    for (int d = 0; d < t->rank; d++) lo[d] = hi[d] = dim_const(w->c, 0);
    hi[1] = dim_const(w->c, by);
    return folded(w, b_pad(b, v, lo, hi, NULL, PAD_VALUE, dt_convert((Scalar){.t = DT_I64}, t->dtype), (Val){0}));
}

/* The plain operand of a first layer as a form with `by` more channels, which weights of zero meet; poison if something else is on the way. */
static Val first_layer(Last *w, B *b, Val v, int64_t by, int spatial) {
    static const Form form = {{0}, 1, 0};
    const Node *d = val_def(w->g, v);
    int perm[MAX_RANK], rank = val_type(w->g, v)->rank;
    Val x = {0};
    if (d && d->op == P_WINDOW) {
        WindowAttr a = *(const WindowAttr *)d->attr;
        for (int i = 0; i < a.n; i++)
            if (a.axis[i]-- < 2) return x;
        x = first_layer(w, b, d->in[0], by, spatial);
        return x.i ? b_window(b, x, &a) : x;
    }
    if (rank != 2 + spatial) return x;
    order(rank, &form, perm);
    if (d && d->op == P_PAD) {
        const PadAttr *a = d->attr;
        Dim lo[MAX_RANK], hi[MAX_RANK];
        if (a->mode != PAD_VALUE || a->interior || !dim_is(w->c, a->lo[1], 0) || !dim_is(w->c, a->hi[1], 0)) return x;
        for (int i = 0; i < rank; i++) lo[i] = a->lo[perm[i]], hi[i] = a->hi[perm[i]];
        x = first_layer(w, b, d->in[0], by, spatial);
        return x.i ? b_pad(b, x, lo, hi, NULL, PAD_VALUE, a->value, d->nin > 1 ? d->in[1] : (Val){0}) : x;
    }
    return copy_of(w->g, b_permute(b, pad_channels(w, b, v, by), perm), b->loc);
}

/* How the operand lies, made so if that pays: a copy of planes where there are channels enough, or where a few are small. */
static Form operand(Last *w, B *b, Conv *v) {
    enum { FEW = 8, LEAST = 3, TOGETHER = 4 };
    const Form *f = form_of(w, v->x);
    bool small = dt_bits((DType)val_type(w->g, v->x)->dtype) <= 16;
    if (f || !copy_pays(w, v, small)) return f ? *f : (Form){{0}, 0, 0};
    if (v->cin >= FEW) {
        lead(w, v->x, v->spatial);
        f = form_of(w, v->x);
        return f ? *f : (Form){{0}, 0, 0};
    }
    int64_t by = (TOGETHER - v->cin % TOGETHER) % TOGETHER;
    Form made = {small && !v->grouped && v->cin >= LEAST ? first_layer(w, b, v->x, by, v->spatial) : (Val){0}, 1, (uint8_t)v->spatial};
    if (made.v.i) v->w = pad_channels(w, b, v->w, by);
    return made;
}

/* Weights that a run computes: a copy is worth it where each meets many points. (Without a window this may be any product.) */
static bool worth_copying(Last *w, const Node *n, const Conv *v) {
    enum { POINTS = 256 };
    const Node *win = val_def(w->g, v->x);
    return win && win->op == P_WINDOW && elements(w, n->out[0]) >= (double)(v->cout * v->groups) * POINTS;
}

static bool conv(Last *w, Node *n) {
    Conv v;
    if (!conv_match(w->g, n, &v)) return false;
    if (!val_const(w->g, v.w) && !worth_copying(w, n, &v)) return false;
    ContractAttr a = *(const ContractAttr *)n->attr;
    int s = v.spatial, group = v.grouped, perm[MAX_RANK], m = 0;
    B b = builder(w->g, n->loc);
    Form f = operand(w, &b, &v);
    bool last = f.v.i && f.taps == s && f.chan == 1 + group;
    if ((!last && group) || !pass_allow(w->p)) return false;
    Labels x = {a.label[0], 0}, k = {a.label[1], 0}, y = {a.label[2], 0};
    memset(a.label, 0xff, sizeof a.label);
    Val in = v.x, weights = v.w;
    put(&x, L_N), put(&y, L_N);
    if (last) { /* [N, s.., G, C, k..]: k is walked before C, which lies innermost */
        for (int i = 0; i <= s + group; i++) perm[m++] = i;
        for (int i = 0; i < s; i++) perm[m++] = 2 + s + group + i;
        perm[m++] = 1 + s + group;
        in = b_permute(&b, f.v, perm);
        put_all(&x, L_S, s);
        if (group) put(&x, L_G);
        put_all(&x, L_K, s), put(&x, L_C);
        weights = weights_last(w, &b, &v, &k);
    } else {
        put(&x, L_C), put_all(&x, L_S, s), put_all(&x, L_K, s);
        put(&k, L_O), put(&k, L_C), put_all(&k, L_K, s);
    }
    put_all(&y, L_S, s);
    if (group) put(&y, L_G);
    put(&y, L_O);
    Val out = b_contract_attr(&b, &a, in, weights);
    done(w, &b, n->out[0], (Form){out, (uint8_t)(1 + group), 0});
    return true;
}

/* ---- the pass ---- */

static bool (*const rule[P_COUNT])(Last *, Node *) = {
    [P_CONTRACT] = conv, [P_MAP] = map, [P_PAD] = pad, [P_WINDOW] = window, [P_REDUCE] = reduce, [P_CONCAT] = concat, [P_SLICE] = slice,
    [P_BROADCAST] = broadcast, [P_PERMUTE] = permute, [P_RESHAPE] = reshape,
};

static bool run_rule(Last *w, Node *n) { return rule[n->op] && rule[n->op](w, n); }

bool pass_channels(Graph *g, PassCtx *p) {
    graph_tidy(g);
    Last last = {.g = g, .c = g->c, .p = p};
    uint32_t n = g->node.n;
    Node **node = ctx_dup(g->c, g->node.v, n * sizeof *node);
    bool changed = false;
    for (uint32_t i = 0; i < n; i++) {
        if (!rule[node[i]->op]) continue;
        bool follows = run_rule(&last, node[i]);
        explain(p, g, node[i], follows ? "has its channels last" : "stays in plain layout");
        changed |= follows;
    }
    if (changed) graph_tidy(g);
    return changed;
}
