/* op_ml_tree.c: tree ensembles of ai.onnx.ml: the older form that lists nodes by tree and number, and the newer one with roots and leaves.
 *
 * Both are read into one table of nodes (TNode). Then every test is made a comparison `x > split`, whose other modes are: x < s is
 * x <= the number before s; an equality is two comparisons; membership in a set a search among its sorted members; >, >= and != are their
 * opposites with the children exchanged. What NaN does at a node is kept beside. */
#include "frontend/ml_tree.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FN(f) void imp_##f(Imp *m)
FN(ml_treeclass); FN(ml_treereg); FN(ml_trees);

typedef enum { LEQ, LT, GTE, GT, EQ, NEQ, MEMBER, LEAF, MODES } Mode; /* numbers are those of TreeEnsemble's nodes_modes */

/* ---- every test as x > split */

static double before(const Trees *e, double v)
{
    return e->split == DT_F64 ? nextafter(v, -INFINITY) : (double)nextafterf((float)v, -INFINITY);
}

static TNode test(double split, bool nan_right, uint32_t left, uint32_t right, uint32_t feature)
{
    return (TNode){.feature = feature, .split = split, .nan_right = nan_right, .kid = {left, right}};
}

static uint32_t push(Imp *m, Trees *e, TNode n)
{
    vec_push(m->c, &e->node, n);
    return e->node.n - 1;
}

/* x == v, at node `at`: x <= v, and not x <= what is before v. NaN goes where `nan` says. */
static void equality(Imp *m, Trees *e, uint32_t at, double v, uint32_t feature, uint32_t yes, uint32_t no, bool nan_yes)
{
    if (isnan(v)) { /* nothing equals it */
        e->node.v[at] = test(INFINITY, true, no, nan_yes ? yes : no, feature);
        return;
    }
    bool lowest = isinf(v) && v < 0;
    uint32_t not_below = lowest ? yes : push(m, e, test(before(e, v), true, no, yes, feature));
    /* NaN passes the first test to the left if it is to be a member: right at the second */
    e->node.v[at] = test(v, !nan_yes, not_below, no, feature);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* x among the n sorted values, at node `at`: a search by halves. */
static void membership(Imp *m, Trees *e, uint32_t at, const double *v, int64_t n, uint32_t feature, uint32_t yes, uint32_t no, bool nan_yes)
{
    if (n < 2) {
        equality(m, e, at, n ? v[0] : (double)NAN, feature, yes, no, nan_yes);
        return;
    }
    int64_t half = n / 2;
    TNode hole = {0};
    uint32_t left = push(m, e, hole), right = push(m, e, hole);
    membership(m, e, left, v, half, feature, yes, no, nan_yes);
    membership(m, e, right, v + half, n - half, feature, yes, no, nan_yes);
    e->node.v[at] = test(v[half - 1], true, left, right, feature);
}

static void branch(Imp *m, Trees *e, uint32_t at, Mode mode, double v, bool missing, uint32_t feature, uint32_t yes, uint32_t no)
{
    static const Mode opposite[] = {[GTE] = LT, [GT] = LEQ, [NEQ] = EQ};
    /* a test that is a negation is true of NaN exactly if != */
    bool nan_yes = missing || mode == NEQ, swapped = mode == GTE || mode == GT || mode == NEQ;
    if (swapped) {
        uint32_t t = yes;
        yes = no;
        no = t;
        mode = opposite[mode];
        nan_yes = !nan_yes;
    }
    if (isnan(v) && mode != EQ) { /* no number compares with it */
        bool all_no = !swapped;
        uint32_t dest = all_no ? no : yes;
        e->node.v[at] = test(INFINITY, true, dest, nan_yes ? yes : no, feature);
    } else if (mode == EQ) {
        equality(m, e, at, v, feature, yes, no, nan_yes);
    } else if (mode == LT && isinf(v) && v < 0) { /* below -inf is nothing */
        e->node.v[at] = test(INFINITY, true, no, nan_yes ? yes : no, feature);
    } else {
        e->node.v[at] = test(mode == LT ? before(e, v) : v, !nan_yes, yes, no, feature);
    }
}

/* ---- reading: what both forms share */

static bool lengths(Imp *m, const char *what, int64_t n, int nname, const char *const *name)
{
    for (int i = 0; i < nname; i++)
        if (ml_count(m, name[i]) != n) {
            ERR(m, "E0202", "attribute %s: expected %lld elements, as %s has, got %lld", name[i], (long long)n, what,
                (long long)ml_count(m, name[i]));
            return false;
        }
    return true;
}

static bool feature_ok(Imp *m, int64_t f)
{
    if (f < 0 || f > INT32_MAX)
        ERR(m, "E0202", "attribute nodes_featureids: %lld", (long long)f);
    return f >= 0 && f <= INT32_MAX;
}

static void wider(Trees *e, DType t)
{
    if (t == DT_F64)
        e->split = DT_F64;
}

/* ---- the older form */

typedef struct Key { int64_t tree, id; uint32_t node; } Key;

static int by_key(const void *a, const void *b)
{
    const Key *x = a, *y = b;
    return x->tree != y->tree ? (x->tree > y->tree) - (x->tree < y->tree) : (x->id > y->id) - (x->id < y->id);
}

static bool key_find(Imp *m, const Key *k, int64_t n, int64_t tree, int64_t id, const char *what, uint32_t *node)
{
    Key want = {tree, id, 0};
    const Key *hit = bsearch(&want, k, (size_t)n, sizeof *k, by_key);
    if (!hit)
        ERR(m, "E0202", "attribute %s: tree %lld has no node %lld", what, (long long)tree, (long long)id);
    else
        *node = hit->node;
    return hit != NULL;
}

static Mode mode_named(const ProtobufCBinaryData *s)
{
    static const char *const name[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "", "LEAF"};
    for (Mode k = LEQ; k < MODES; k++)
        if (s->len && s->len == strlen(name[k]) && !memcmp(s->data, name[k], s->len))
            return k;
    return MODES;
}

/* kind: "class" or "target", of which the names of the attributes with the leaves' weights are made */
static bool read_listed(Imp *m, Trees *e, const char *kind)
{
    static const char *const per_node[] = {"nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_truenodeids", "nodes_falsenodeids"};
    char *ids = ctx_printf(m->c, "%s_ids", kind), *weights = ctx_printf(m->c, "%s_weights", kind);
    const char *per_leaf[] = {ctx_printf(m->c, "%s_treeids", kind), ctx_printf(m->c, "%s_nodeids", kind)};
    int64_t n = ml_count(m, "nodes_treeids"), nw = ml_count(m, ids), missing = ml_count(m, "nodes_missing_value_tracks_true");
    List split, weight;
    int k;
    if (!n || n > INT32_MAX / 8) {
        ERR(m, "E0201", "attribute nodes_treeids: expected one element for each node, got %lld", (long long)n);
        return false;
    }
    if (!lengths(m, "nodes_treeids", n, 5, per_node) || !lengths(m, ids, nw, 2, per_leaf) || !ml_list(m, "nodes_values", &split) ||
        !ml_list(m, weights, &weight))
        return false;
    if (split.n != n || weight.n != nw || (missing && missing != n)) {
        ERR(m, "E0202", "%lld nodes with %lld of nodes_values and %lld of nodes_missing_value_tracks_true, %lld leaves' targets with %lld weights",
            (long long)n, (long long)split.n, (long long)missing, (long long)nw, (long long)weight.n);
        return false;
    }
    wider(e, split.t);
    wider(e, weight.t);
    const int64_t *tree = attr_ints(m, "nodes_treeids", &k), *id = attr_ints(m, per_node[0], &k), *feature = attr_ints(m, per_node[1], &k);
    const int64_t *yes = attr_ints(m, per_node[3], &k), *no = attr_ints(m, per_node[4], &k);
    const int64_t *nan_yes = attr_ints(m, "nodes_missing_value_tracks_true", &k);
    const ProtobufCBinaryData *mode = attr_find(m, "nodes_modes")->p->strings;
    Key *key = NEWN(m->c, Key, n);
    for (int64_t i = 0; i < n; i++) {
        key[i] = (Key){tree[i], id[i], (uint32_t)i};
        vec_push(m->c, &e->node, (TNode){.leaf = true});
        if (!i || tree[i] != tree[i - 1])
            vec_push(m->c, &e->root, (uint32_t)i);
    }
    qsort(key, (size_t)n, sizeof *key, by_key);
    for (int64_t i = 1; i < n; i++)
        if (!by_key(&key[i - 1], &key[i])) {
            ERR(m, "E0202", "tree %lld has two nodes %lld", (long long)key[i].tree, (long long)key[i].id);
            return false;
        }
    for (int64_t i = 0; i < n; i++) {
        uint32_t a, b;
        Mode how = mode_named(&mode[i]);
        if (how == LEAF)
            continue;
        if (how == MODES) {
            ERR(m, "E0202", "attribute nodes_modes: \"%.*s\"", (int)(mode[i].len < 40 ? mode[i].len : 40), (const char *)mode[i].data);
            return false;
        }
        if (!feature_ok(m, feature[i]) || !key_find(m, key, n, tree[i], yes[i], "nodes_truenodeids", &a) ||
            !key_find(m, key, n, tree[i], no[i], "nodes_falsenodeids", &b))
            return false;
        branch(m, e, (uint32_t)i, how, split.v[i], nan_yes && nan_yes[i] == 1, (uint32_t)feature[i], a, b);
    }
    const int64_t *target = attr_ints(m, ids, &k), *wt = attr_ints(m, per_leaf[0], &k), *wn = attr_ints(m, per_leaf[1], &k);
    for (int64_t i = 0; i < nw; i++) {
        Weight w = {.target = target[i], .value = weight.v[i]};
        if (!key_find(m, key, n, wt[i], wn[i], per_leaf[1], &w.leaf))
            return false;
        vec_push(m->c, &e->weight, w);
    }
    return true;
}

/* ---- the newer form */

/* Sets of the MEMBER nodes in their order, divided by NaN. */
static int64_t next_set(const List *l, int64_t *at, const double **set)
{
    int64_t n = 0;
    *set = l->v + *at;
    while (*at < l->n && !isnan(l->v[(*at)++]))
        n++;
    return n;
}

static bool read_rooted(Imp *m, Trees *e)
{
    static const char *const per_node[] = {"nodes_truenodeids", "nodes_falsenodeids", "nodes_trueleafs", "nodes_falseleafs"};
    int k, nroot;
    int64_t n = ml_count(m, "nodes_featureids"), leaves = ml_count(m, "leaf_targetids"), nan = ml_count(m, "nodes_missing_value_tracks_true");
    List split, weight, set;
    Type t;
    const ConstData *mode = tensor_read(m->m, attr_tensor(m, "nodes_modes"), "nodes_modes", m->b.loc, &t);
    if (!mode || !lengths(m, "nodes_featureids", n, 4, per_node) || !ml_list(m, "nodes_splits", &split) || !ml_list(m, "leaf_weights", &weight) ||
        !ml_list(m, "membership_values", &set))
        return false;
    if (!n || n > INT32_MAX / 8 || !leaves || leaves > INT32_MAX / 8 || mode->count != n || !dt_is_int(mode->dtype) || split.n != n ||
        weight.n != leaves || (nan && nan != n)) {
        ERR(m, "E0202", "%lld nodes with %lld of nodes_modes, %lld of nodes_splits and %lld of nodes_missing_value_tracks_true, "
            "%lld leaves with %lld weights", (long long)n, (long long)mode->count, (long long)split.n, (long long)nan, (long long)leaves,
            (long long)weight.n);
        return false;
    }
    wider(e, split.t);
    wider(e, weight.t);
    const int64_t *feature = attr_ints(m, "nodes_featureids", &k), *root = attr_ints(m, "tree_roots", &nroot);
    const int64_t *kid[2] = {attr_ints(m, per_node[0], &k), attr_ints(m, per_node[1], &k)};
    const int64_t *is_leaf[2] = {attr_ints(m, per_node[2], &k), attr_ints(m, per_node[3], &k)};
    const int64_t *nan_yes = attr_ints(m, "nodes_missing_value_tracks_true", &k), *target = attr_ints(m, "leaf_targetids", &k);
    for (int64_t i = 0; i < n + leaves; i++) /* leaves behind the nodes */
        vec_push(m->c, &e->node, (TNode){.leaf = true});
    for (int64_t i = 0, at = 0; i < n; i++) {
        uint32_t to[2];
        const double *member = NULL;
        int64_t how = dt_load(mode->dtype, mode->data, mode->splat ? 0 : i).i, count = how == MEMBER ? next_set(&set, &at, &member) : 0;
        if (!feature_ok(m, feature[i]))
            return false;
        if (how < LEQ || how > MEMBER) {
            ERR(m, "E0202", "attribute nodes_modes: %lld", (long long)how);
            return false;
        }
        for (int s = 0; s < 2; s++) {
            if (kid[s][i] < 0 || kid[s][i] >= (is_leaf[s][i] ? leaves : n)) {
                ERR(m, "E0202", "attribute %s: there is no %s %lld", per_node[s], is_leaf[s][i] ? "leaf" : "node", (long long)kid[s][i]);
                return false;
            }
            to[s] = (uint32_t)(kid[s][i] + (is_leaf[s][i] ? n : 0));
        }
        bool missing = nan_yes && nan_yes[i] == 1;
        if (how == MEMBER) {
            double *sorted = NEWN(m->c, double, count + 1);
            memcpy(sorted, member, (size_t)count * sizeof *member);
            qsort(sorted, (size_t)count, sizeof *sorted, by_value);
            membership(m, e, (uint32_t)i, sorted, count, (uint32_t)feature[i], to[0], to[1], missing);
        } else {
            branch(m, e, (uint32_t)i, (Mode)how, split.v[i], missing, (uint32_t)feature[i], to[0], to[1]);
        }
    }
    for (int i = 0; i < nroot; i++) {
        if (root[i] < 0 || root[i] >= n) {
            ERR(m, "E0202", "attribute tree_roots: there is no node %lld", (long long)root[i]);
            return false;
        }
        /* a tree of one leaf is a node whose children are both that leaf */
        vec_push(m->c, &e->root, (uint32_t)root[i]);
    }
    for (int64_t i = 0; i < leaves; i++)
        vec_push(m->c, &e->weight, (Weight){.leaf = (uint32_t)(n + i), .target = target[i], .value = weight.v[i]});
    if (!e->root.n)
        ERR(m, "E0201", "attribute tree_roots is empty");
    return e->root.n != 0;
}

/* ---- operators */

static bool targets_ok(Imp *m, const Trees *e, int64_t n, const char *what)
{
    if (n < 1 || n > INT32_MAX) {
        ERR(m, "E0202", "expected one %s or more, got %lld", what, (long long)n);
        return false;
    }
    for (uint32_t i = 0; i < e->weight.n; i++)
        if (e->weight.v[i].target < 0 || e->weight.v[i].target >= n) {
            ERR(m, "E0202", "%s %lld, there are %lld", what, (long long)e->weight.v[i].target, (long long)n);
            return false;
        }
    return true;
}

/* A leaf's first weight alone, as ONNX Runtime reads the only target there is: converters write one for each class of a forest. */
static void first_weights(Imp *m, Trees *e)
{
    bool *seen = NEWN(m->c, bool, e->node.n);
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->weight.n; i++) {
        Weight w = e->weight.v[i];
        if (!seen[w.leaf])
            e->weight.v[n++] = w;
        seen[w.leaf] = true;
    }
    e->weight.n = n;
}

static bool open_trees(Imp *m, Trees *e)
{
    memset(e, 0, sizeof *e);
    DType t = dtype_of(m, m->in[0]);
    e->split = t == DT_F64 ? DT_F64 : DT_F32;
    e->type = t;
    e->numbers = dt_is_int(t);
    e->x = ml_rows(m, m->in[0]);
    return e->x.i != 0;
}

/* post_transform(aggregate of the trees + base values), of type `out` */
static void regression(Imp *m, Trees *e, int64_t n, const char *aggregate, const char *post, const List *base, DType out)
{
    static const struct { const char *name; ReduceOp op; } how[] = {{"SUM", R_SUM}, {"AVERAGE", R_SUM}, {"MIN", R_MIN}, {"MAX", R_MAX}};
    ReduceOp op = R_SUM;
    for (size_t i = 0; i < sizeof how / sizeof *how; i++)
        op = !strcmp(aggregate, how[i].name) ? how[i].op : op;
    if (base->n && base->n != n && base->n != 1) {
        ERR(m, "E0202", "attribute base_values: expected %lld elements, got %lld", (long long)n, (long long)base->n);
        return;
    }
    Val y = trees_scores(m, e, n, op);
    if (y.i && !strcmp(aggregate, "AVERAGE"))
        y = b_map1(&m->b, X2(DIV, xarg(m, 0, e->split), xf(m, e->split, e->root.n)), 1, &y);
    if (y.i && base->n)
        y = b_binary(&m->b, S_ADD, y, ml_const(m, e->split, 1, (Dim[]){DC(m, base->n)}, base->v));
    result(m, 0, cast_to(m, ml_post(m, y, post), out));
}

void imp_ml_treereg(Imp *m)
{
    Trees e;
    List base;
    int64_t n = attr_i(m, "n_targets");
    if (!open_trees(m, &e) || !ml_list(m, "base_values", &base))
        return;
    wider(&e, base.t);
    if (!read_listed(m, &e, "target") || !targets_ok(m, &e, n, "target"))
        return;
    if (n == 1)
        first_weights(m, &e);
    regression(m, &e, n, attr_s(m, "aggregate_function"), attr_s(m, "post_transform"), &base, DT_F32);
}

void imp_ml_trees(Imp *m)
{
    static const char *const aggregate[] = {"AVERAGE", "SUM", "MIN", "MAX"};
    static const char *const post[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
    Trees e;
    List none = {0};
    int64_t n = attr_i(m, "n_targets"), a = attr_i(m, "aggregate_function"), p = attr_i(m, "post_transform");
    if (a < 0 || a > 3 || p < 0 || p > 4) {
        ERR(m, "E0202", "aggregate_function %lld, post_transform %lld", (long long)a, (long long)p);
        return;
    }
    if (open_trees(m, &e) && read_rooted(m, &e) && targets_ok(m, &e, n, "target"))
        regression(m, &e, n, aggregate[a], post[p], &none, dtype_of(m, m->in[0]));
}

/* Two classes, as ONNX Runtime has it. Weights for the first class alone (y has one column): they are the score of the second, which wins above
 * 1/2 if no weight is negative, else above 0. Otherwise the second wins if its own score is above 0 (1/2 if all weights are its own, and none
 * is negative). */
static void two_classes(Imp *m, const Trees *e, Val y, Val labels, bool one, bool alone, const char *post)
{
    bool positive = true;
    for (uint32_t i = 0; i < e->weight.n; i++)
        positive &= e->weight.v[i].value >= 0;
    Val s = one ? y : b_slice_axis(&m->b, y, 1, DC(m, 1), DC(m, 1));
    Expr wins = X2(GT, xarg(m, 0, e->split), xf(m, e->split, positive && alone ? 0.5 : 0));
    Val at = drop_axes(m, b_map1(&m->b, expr_cast(m->c, wins, DT_I64), 1, &s), 2);
    result(m, 0, ml_pick(m, labels, at));
    result(m, 1, cast_to(m, one ? ml_two_columns(m, s, post, !positive) : ml_post(m, y, post), DT_F32));
}

void imp_ml_treeclass(Imp *m)
{
    Trees e;
    List base;
    Val labels = ml_labels(m, "classlabels_int64s", "classlabels_strings");
    int64_t n;
    bool has[2] = {false, false};
    if (!labels.i || !dim_is_const(m->c, dim_of(m, labels, 0), &n) || !open_trees(m, &e) || !ml_list(m, "base_values", &base))
        return;
    wider(&e, base.t);
    if (!read_listed(m, &e, "class") || !targets_ok(m, &e, n, "class"))
        return;
    if (base.n && base.n != n && !(base.n == 1 && n == 2)) {
        ERR(m, "E0202", "attribute base_values: expected %lld elements, got %lld", (long long)n, (long long)base.n);
        return;
    }
    for (uint32_t i = 0; i < e.weight.n && n == 2; i++)
        has[e.weight.v[i].target] = true;
    bool one = n == 2 && !has[1];
    int64_t columns = one ? 1 : n;
    Val y = trees_scores(m, &e, columns, R_SUM);
    if (y.i && base.n) { /* a single one of two is that of the first class */
        double *v = NEWN(m->c, double, n);
        memcpy(v, base.v, sizeof *v * (size_t)base.n);
        y = b_binary(&m->b, S_ADD, y, ml_const(m, e.split, 1, (Dim[]){DC(m, columns)}, v));
    }
    const char *post = attr_s(m, "post_transform");
    if (y.i && n == 2) {
        two_classes(m, &e, y, labels, one, has[0] != has[1], post);
    } else if (y.i) { /* the best of the scores that are the other result, of which a class without votes has 0; ONNX Runtime's kernel leaves it out,
                       * so that where all votes are negative its label is not that of its best score */
        result(m, 0, ml_pick(m, labels, ml_argmax(m, y)));
        result(m, 1, cast_to(m, ml_post(m, y, post), DT_F32));
    }
}
