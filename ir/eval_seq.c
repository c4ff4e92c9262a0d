/* eval_seq.c: sequences, optionals and maps as run-time values.
 *
 * One function per sub-operation of `seq`, in the table at the end; IR.md lists their operands.
 * Lists are immutable: insert and erase copy the headers, never the elements. */
#include "eval_internal.h"
#include <stdlib.h>
#include <string.h>

typedef bool (*SeqFn)(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out);

static bool is_list(Ev *e, const EVal *v, TypeKind kind) {
    return (v && v->kind == kind) ||
           ev_fail(e, "E0805", "the operand is no %s", kind == TY_SEQ ? "sequence" : "optional");
}

static bool number(Ev *e, const EVal *v, int64_t *x) {
    bool ok = v && v->kind == TY_TENSOR && dt_is_int(v->dtype) && ev_count(v) == 1;
    if (ok) *x = ev_int(v, 0);
    return ok || ev_fail(e, "E0805", "a position is not one integer");
}

/* A position among n, counting from the end if negative. */
static bool position(Ev *e, const EVal *v, int64_t n, int64_t *at) {
    int64_t x = 0;
    if (!number(e, v, &x)) return false;
    *at = x < 0 ? x + n : x;
    if (*at >= 0 && *at < n) return true;
    return ev_fail(e, "E0803", "position %lld is out of range for %lld elements", (long long)x,
                   (long long)n);
}

static bool seq_construct(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a;
    EVal *v = *out = ev_list(e, TY_SEQ, nin);
    for (int k = 0; v && k < nin; k++) {
        if (!in[k]) return ev_fail(e, "E0805", "element %d is absent", k);
        v->elem[k] = ev_ref(in[k]);
    }
    return v != NULL;
}

static bool seq_at(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a, (void)nin;
    int64_t at;
    if (!is_list(e, in[0], TY_SEQ) || !position(e, in[1], in[0]->nelem, &at)) return false;
    *out = ev_ref(in[0]->elem[at]);
    return true;
}

static bool seq_insert(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a;
    if (!is_list(e, in[0], TY_SEQ) || !in[1]) return ev_fail(e, "E0805", "nothing to insert");
    int64_t n = in[0]->nelem, at = n;
    /* n itself is a position here: append. */
    if (nin > 2 && in[2]) {
        int64_t x = 0;
        if (!number(e, in[2], &x)) return false;
        if (x != n && !position(e, in[2], n, &at)) return false;
    }
    EVal *v = *out = ev_list(e, TY_SEQ, n + 1);
    for (int64_t k = 0; v && k <= n; k++) {
        v->elem[k] = ev_ref(k < at ? in[0]->elem[k] : k == at ? in[1] : in[0]->elem[k - 1]);
    }
    return v != NULL;
}

static bool seq_erase(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a;
    if (!is_list(e, in[0], TY_SEQ)) return false;
    int64_t n = in[0]->nelem, at = n - 1;
    if (!n) return ev_fail(e, "E0803", "nothing to erase from an empty sequence");
    if (nin > 1 && in[1] && !position(e, in[1], n, &at)) return false;
    EVal *v = *out = ev_list(e, TY_SEQ, n - 1);
    for (int64_t k = 0; v && k < n - 1; k++) v->elem[k] = ev_ref(in[0]->elem[k < at ? k : k + 1]);
    return v != NULL;
}

static bool seq_length(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a, (void)nin;
    if (!is_list(e, in[0], TY_SEQ)) return false;
    EVal *v = *out = ev_new(e, DT_I64, 0, NULL);
    if (v) memcpy(v->base, &in[0]->nelem, 8);
    return v != NULL;
}

/* v with a new axis of size 1. */
static EVal *with_axis(Ev *e, const EVal *v, int64_t axis) {
    EVal *w = ev_view(e, v);
    if (!w) return NULL;
    w->rank++;
    for (int d = v->rank; d > axis; d--) {
        w->dim[d] = v->dim[d - 1];
        w->stride[d] = v->stride[d - 1];
    }
    w->dim[axis] = 1;
    w->stride[axis] = 0;
    return w;
}

static bool join(Ev *e, EVal *const *in, EVal **out, bool fresh) {
    int64_t axis = 0;
    if (!is_list(e, in[0], TY_SEQ) || !number(e, in[1], &axis)) return false;
    int64_t n = in[0]->nelem;
    if (!n) return ev_fail(e, "E0803", "an empty sequence cannot be joined");
    int rank = in[0]->elem[0]->rank + fresh;
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank || rank > MAX_RANK)
        return ev_fail(e, "E0803", "axis %lld of rank %d", (long long)axis, rank);
    if (!fresh) return ev_stack(e, n, in[0]->elem, (int)axis, out);
    EVal **v = ev_tmp(e, n, sizeof *v);
    bool ok = v != NULL;
    if (v) memset(v, 0, sizeof *v * (size_t)n);
    for (int64_t k = 0; ok && k < n; k++) {
        ok = in[0]->elem[k]->kind == TY_TENSOR && in[0]->elem[k]->rank == rank - 1;
        ok = ok ? (v[k] = with_axis(e, in[0]->elem[k], axis)) != NULL
                : ev_fail(e, "E0802", "elements differ in rank");
    }
    ok = ok && ev_stack(e, n, v, (int)axis, out);
    for (int64_t k = 0; v && k < n; k++) ev_unref(e, v[k]);
    free(v);
    return ok;
}

static bool seq_concat(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a, (void)nin;
    return join(e, in, out, false);
}

static bool seq_stack(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a, (void)nin;
    return join(e, in, out, true);
}

/* Elements [at, at + size) of v along an axis; `drop` removes the axis (size 1). */
static EVal *part(Ev *e, const EVal *v, int axis, int64_t at, int64_t size, bool drop) {
    EVal *w = ev_view(e, v);
    if (!w) return NULL;
    if (size) w->base += at * v->stride[axis] * ev_width(v->dtype);
    w->dim[axis] = size;
    if (!drop) return w;
    w->rank--;
    for (int d = axis; d < w->rank; d++) {
        w->dim[d] = v->dim[d + 1];
        w->stride[d] = v->stride[d + 1];
    }
    return w;
}

static bool split_axis(Ev *e, const EVal *v, const EVal *axis, int *out) {
    int64_t x = 0;
    if (!v || v->kind != TY_TENSOR || !number(e, axis, &x))
        return ev_fail(e, "E0805", "only tensors are split");
    if (x < 0) x += v->rank;
    *out = (int)x;
    return (x >= 0 && x < v->rank) ||
           ev_fail(e, "E0803", "axis %lld of rank %d", (long long)x, v->rank);
}

static bool seq_split(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a, (void)nin;
    int axis;
    const EVal *size = in[1];
    if (!split_axis(e, in[0], in[2], &axis)) return false;
    if (!size || size->kind != TY_TENSOR || !dt_is_int(size->dtype) || size->rank > 1) {
        return ev_fail(e, "E0805", "sizes are not integers");
    }
    int64_t total = in[0]->dim[axis], each = size->rank ? 0 : ev_int(size, 0), n, at = 0;
    if (!size->rank && each < 1) return ev_fail(e, "E0803", "parts of size %lld", (long long)each);
    n = size->rank ? size->dim[0] : total / each + (total % each != 0);
    EVal *v = *out = ev_list(e, TY_SEQ, n);
    for (int64_t k = 0; v && k < n; k++) {
        int64_t s = size->rank ? ev_int(size, k) : total - at < each ? total - at : each;
        if (s < 0 || s > total - at)
            return ev_fail(e, "E0803", "the parts do not fill an axis of size %lld",
                           (long long)total);
        if (!(v->elem[k] = part(e, in[0], axis, at, s, false))) return false;
        at += s;
    }
    return v && (at == total || ev_fail(e, "E0803", "the parts do not fill an axis of size %lld",
                                        (long long)total));
}

static bool seq_unstack(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a, (void)nin;
    int axis;
    if (!split_axis(e, in[0], in[1], &axis)) return false;
    int64_t n = in[0]->dim[axis];
    EVal *v = *out = ev_list(e, TY_SEQ, n);
    for (int64_t k = 0; v && k < n; k++) {
        if (!(v->elem[k] = part(e, in[0], axis, k, 1, true))) return false;
    }
    return v != NULL;
}

/* ==== optionals, maps ======================================================================== */

static bool opt_make(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a;
    bool some = nin > 0 && in[0];
    EVal *v = *out = ev_list(e, TY_OPT, some);
    if (v && some) v->elem[0] = ev_ref(in[0]);
    return v != NULL;
}

static bool opt_has(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a;
    EVal *v = *out = ev_new(e, DT_BOOL, 0, NULL);
    if (v) *v->base = nin > 0 && in[0] && (in[0]->kind != TY_OPT || in[0]->nelem);
    return v != NULL;
}

static bool opt_get(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a, (void)nin;
    if (in[0] && in[0]->kind != TY_OPT) {
        *out = ev_ref(in[0]);
        return true;
    }
    if (!is_list(e, in[0], TY_OPT)) return false;
    if (!in[0]->nelem) return ev_fail(e, "E0803", "the optional is empty");
    *out = ev_ref(in[0]->elem[0]);
    return true;
}

/* keys[k], values[n, k] -> a sequence of n maps */
static bool map_zip(Ev *e, const SeqAttr *a, int nin, EVal *const *in, EVal **out) {
    (void)a, (void)nin;
    const EVal *k = in[0], *x = in[1];
    if (!k || !x || k->kind != TY_TENSOR || x->kind != TY_TENSOR || k->rank != 1 || x->rank != 2 ||
        x->dim[1] != k->dim[0]) {
        return ev_fail(e, "E0802", "keys and values do not fit");
    }
    EVal *v = *out = ev_list(e, TY_SEQ, x->dim[0]);
    for (int64_t i = 0; v && i < x->dim[0]; i++) {
        EVal *m = v->elem[i] = ev_list(e, TY_MAP, 2);
        if (!m || !(m->elem[1] = part(e, x, 0, i, 1, true))) return false;
        m->elem[0] = ev_ref(in[0]);
    }
    return v != NULL;
}

static const struct { const char *sub; int min, max; SeqFn fn;
} seq_table[] = {
    {"empty", 0, 0, seq_construct}, {"construct", 0, 65535, seq_construct},
    {"at", 2, 2, seq_at},           {"insert", 2, 3, seq_insert},
    {"erase", 1, 2, seq_erase},     {"length", 1, 1, seq_length},
    {"concat", 2, 2, seq_concat},   {"stack", 2, 2, seq_stack},
    {"split", 3, 3, seq_split},     {"unstack", 2, 2, seq_unstack},
    {"make", 0, 1, opt_make},       {"has", 0, 1, opt_has},
    {"get", 1, 1, opt_get},         {"zip", 2, 2, map_zip},
};

bool ev_seq(Ev *e, const Node *n, EVal *const *in, EVal **out) {
    const SeqAttr *a = n->attr;
    for (size_t k = 0; k < sizeof seq_table / sizeof *seq_table; k++) {
        if (strcmp(a->sub, seq_table[k].sub)) continue;
        if (n->nin < seq_table[k].min || n->nin > seq_table[k].max) {
            return ev_fail(e, "E0805", "seq %s has %u operands", a->sub, n->nin);
        }
        return seq_table[k].fn(e, a, n->nin, in, out);
    }
    return ev_fail(e, "E0805", "seq has no operation %s", a->sub);
}
