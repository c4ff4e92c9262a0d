/* build_seq.c: the builder's sequences, optionals and calls.
 *
 * A list whose elements are known here never comes to exist: what is taken from it is the element, its length is a
 * constant, and joining it is a concat. */
#include "build_internal.h"
#include <string.h>

enum { KNOWN_MAX = 64 };        /* elements of a list that are followed one by one */

static const Node *made(B *b, Val v, const char *sub) {
    const Node *n = val_def(b->g, v);
    return n && n->op == P_SEQ && !strcmp(((const SeqAttr *)n->attr)->sub, sub) ? n : NULL;
}

static bool const_int(B *b, Val v, int64_t *x) {
    Scalar s;
    if (!v.i || !b_const_elem(b, v, 0, &s)) return false;
    *x = s.i;
    return true;
}

/* A constant position among n, from the end if negative. */
static bool position(B *b, Val v, int64_t n, int64_t *at) {
    if (!const_int(b, v, at)) return false;
    if (*at < 0) *at += n;
    return *at >= 0 && *at < n;
}

static bool axis_of(B *b, Val v, int rank, int *axis) {
    int64_t x;
    if (!const_int(b, v, &x)) return false;
    *axis = (int)(x < 0 ? x + rank : x);
    return x >= -rank && x < rank;
}

/* v without an axis of size 1. */
static Val drop_axis(B *b, Val v, int axis) {
    const Type *t = val_type(b->g, v);
    Dim dim[MAX_RANK];
    int n = 0;
    for (int d = 0; d < t->rank; d++)
        if (d != axis) dim[n++] = t->dim[d];
    return b_reshape(b, v, n, dim);
}

static Val add_axis(B *b, Val v, int axis) {
    const Type *t = val_type(b->g, v);
    Dim dim[MAX_RANK];
    for (int d = 0; d <= t->rank; d++) dim[d] = d == axis ? dim_const(b->c, 1) : t->dim[d - (d > axis)];
    return b_reshape(b, v, t->rank + 1, dim);
}

/* The sizes of the parts of `seq "split"`: their number, -1 if it is not known. */
static int parts(B *b, const Node *n, int axis, Dim *size) {
    const Type *x = val_type(b->g, n->in[0]), *s = val_type(b->g, n->in[1]);
    int64_t count, each, whole;
    const Dim *elem = val_elems(b->g, n->in[1], &count);
    if (!elem || count < 1 || count > KNOWN_MAX) return -1;
    if (s->rank) {
        Dim sum = dim_const(b->c, 0);
        for (int64_t k = 0; k < count; k++) sum = dim_add(b->c, sum, size[k] = elem[k]);
        return dim_same(b->c, sum, x->dim[axis]) ? (int)count : -1;
    }
    if (!dim_is_const(b->c, elem[0], &each) || !dim_is_const(b->c, x->dim[axis], &whole) || each < 1) return -1;
    count = whole / each + (whole % each != 0);
    for (int64_t k = 0; k < count && k < KNOWN_MAX; k++)
        size[k] = dim_const(b->c, each < whole - k * each ? each : whole - k * each);
    return count <= KNOWN_MAX ? (int)count : -1;
}

/* The elements of a list: their number, -1 if they are not known. */
static int known(B *b, Val seq, Val *elem) {
    const Node *n = made(b, seq, "construct");
    if (!n) n = made(b, seq, "empty");
    if (n) {
        if (n->nin <= KNOWN_MAX) memcpy(elem, n->in, sizeof *elem * n->nin);
        return n->nin <= KNOWN_MAX ? n->nin : -1;
    }
    Dim size[KNOWN_MAX];
    int axis, count;
    bool drop = (n = made(b, seq, "unstack")) != NULL;
    if (!n) n = made(b, seq, "split");
    if (!n || !axis_of(b, n->in[drop ? 1 : 2], val_type(b->g, n->in[0])->rank, &axis)) return -1;
    if (drop) {
        int64_t whole;
        if (!dim_is_const(b->c, val_type(b->g, n->in[0])->dim[axis], &whole) || whole > KNOWN_MAX) return -1;
        count = (int)whole;
        for (int k = 0; k < count; k++) size[k] = dim_const(b->c, 1);
    } else if ((count = parts(b, n, axis, size)) < 0) {
        return -1;
    }
    Dim at = dim_const(b->c, 0);
    for (int k = 0; k < count; k++) {
        elem[k] = b_slice_axis(b, n->in[0], axis, at, size[k]);
        if (drop) elem[k] = drop_axis(b, elem[k], axis);
        at = dim_add(b->c, at, size[k]);
    }
    return count;
}

static Val construct(B *b, Type t, int n, const Val *elem) {
    SeqAttr a = {ctx_str(b->c, n ? "construct" : "empty"), t};
    return b_emit1(b, P_SEQ, n, elem, &a);
}

/* ==== one function per operation: the result without it, or poison =============================================== */

typedef Val (*Rule)(B *b, const Type *t, int nin, const Val *in);

/* A slice of a tensor at any position is gathered from it. */
static Val at_slice(B *b, Val seq, Val pos) {
    const Node *n = made(b, seq, "unstack"), *s = made(b, seq, "split");
    int axis;
    int64_t each;
    if (!n && s && val_type(b->g, s->in[1])->rank == 0 && const_int(b, s->in[1], &each) && each == 1) n = s;
    if (!n || val_type(b->g, pos)->rank || !axis_of(b, n->in[n == s ? 2 : 1], val_type(b->g, n->in[0])->rank, &axis))
        return (Val){0};
    Val y = b_gather(b, n->in[0], b_cast(b, pos, DT_I64), axis, OOB_FAIL);
    return n == s && y.i ? add_axis(b, y, axis) : y;
}

static Val at(B *b, const Type *t, int nin, const Val *in) {
    (void)t, (void)nin;
    Val elem[KNOWN_MAX], v = at_slice(b, in[0], in[1]);
    int64_t k;
    int n = v.i || !const_int(b, in[1], &k) ? -1 : known(b, in[0], elem);
    return n >= 0 && position(b, in[1], n, &k) ? elem[k] : v;
}

static Val insert(B *b, const Type *t, int nin, const Val *in) {
    Val elem[KNOWN_MAX + 1];
    int64_t k;
    const Node *list = made(b, in[0], "construct");
    int n = list || made(b, in[0], "empty") ? known(b, in[0], elem) : -1;
    if (n < 0 || n == KNOWN_MAX) return (Val){0};
    if (nin < 3 || !in[2].i) k = n;
    else if (!position(b, in[2], n, &k) && !(const_int(b, in[2], &k) && k == n)) return (Val){0};
    memmove(elem + k + 1, elem + k, sizeof *elem * (size_t)(n - k));
    elem[k] = in[1];
    return construct(b, *t, n + 1, elem);
}

static Val erase(B *b, const Type *t, int nin, const Val *in) {
    Val elem[KNOWN_MAX];
    int64_t k;
    int n = known(b, in[0], elem);
    if (n < 1) return (Val){0};
    if (nin < 2 || !in[1].i) k = n - 1;
    else if (!position(b, in[1], n, &k)) return (Val){0};
    memmove(elem + k, elem + k + 1, sizeof *elem * (size_t)(n - 1 - k));
    return construct(b, *t, n - 1, elem);
}

static Val length(B *b, const Type *t, int nin, const Val *in) {
    (void)t, (void)nin;
    Val elem[KNOWN_MAX];
    const Node *u = made(b, in[0], "unstack");
    int axis, n = known(b, in[0], elem);
    if (n >= 0) return b_dim_scalar(b, dim_const(b->c, n));
    bool slices = u && axis_of(b, u->in[1], val_type(b->g, u->in[0])->rank, &axis);
    return slices ? b_dim_scalar(b, val_type(b->g, u->in[0])->dim[axis]) : (Val){0};
}

static Val join(B *b, const Val *in, bool fresh) {
    Val elem[KNOWN_MAX];
    int axis, n = known(b, in[0], elem), rank = n > 0 ? val_type(b->g, elem[0])->rank : 0;
    if (n < 1 || rank + fresh > MAX_RANK || !axis_of(b, in[1], rank + fresh, &axis)) return (Val){0};
    for (int k = 0; k < n; k++) {
        const Type *t = val_type(b->g, elem[k]);
        if (t->kind != TY_TENSOR || t->rank != rank) return (Val){0};
    }
    for (int k = 0; fresh && k < n; k++) elem[k] = add_axis(b, elem[k], axis);
    return b_concat(b, n, elem, axis);
}

static Val concat(B *b, const Type *t, int nin, const Val *in) {
    (void)t, (void)nin;
    const Node *s = made(b, in[0], "split");
    int x, y, rank = s ? val_type(b->g, s->in[0])->rank : 0;
    if (s && axis_of(b, s->in[2], rank, &x) && axis_of(b, in[1], rank, &y) && x == y) return s->in[0];
    return join(b, in, false);
}

static Val stack(B *b, const Type *t, int nin, const Val *in) {
    (void)t, (void)nin;
    return join(b, in, true);
}

static Val has(B *b, const Type *t, int nin, const Val *in) {
    (void)t;
    const Node *n = nin ? made(b, in[0], "make") : NULL;
    bool optional = nin && in[0].i && val_type(b->g, in[0])->kind == TY_OPT;
    if (optional && !n) return (Val){0};
    return b_scalar(b, (Scalar){.t = DT_BOOL, .i = n ? n->nin > 0 : nin && in[0].i});
}

static Val get(B *b, const Type *t, int nin, const Val *in) {
    (void)t, (void)nin;
    const Node *n = made(b, in[0], "make");
    if (n) return n->nin ? n->in[0] : (Val){0};
    return in[0].i && val_type(b->g, in[0])->kind != TY_OPT ? in[0] : (Val){0};
}

static const struct { const char *sub; Rule fn; } rules[] = {
    {"at", at}, {"insert", insert}, {"erase", erase}, {"length", length}, {"concat", concat}, {"stack", stack}, {"has", has}, {"get", get},
};

static Val simpler(B *b, const char *sub, const Type *t, int nin, const Val *in) {
    for (size_t k = 0; k < sizeof rules / sizeof *rules; k++)
        if (!strcmp(rules[k].sub, sub)) return rules[k].fn(b, t, nin, in);
    return (Val){0};
}

Val b_seq_try(B *b, const char *sub, int nin, const Val *in) { return simpler(b, sub, &(Type){0}, nin, in); }

Val b_seq(B *b, const char *sub, Type t, int nin, const Val *in) {
    SeqAttr a = {ctx_str(b->c, sub), t};
    Val v = simpler(b, sub, &t, nin, in);
    return v.i ? v : b_emit1(b, P_SEQ, nin, in, &a);
}

void b_call(B *b, const char *symbol, int nout, const Type *t, int nin, const Val *in, Val *out) {
    CallAttr a = {ctx_str(b->c, symbol), (uint8_t)nout, ctx_dup(b->c, t, sizeof *t * (size_t)nout)};
    b_emit(b, P_CALL, nin, in, &a, nout, out);
}
