/* ukr_order.c: stages of kind SORT and TOPK at a point of their parallel axes. In: the stage; out: Lir.
 *
 * What is sorted are words of 64 bits. Where there is one key of at most 32 bits, a word is that key as a signed integer that orders as the
 * elements do (NaN is greater than every number, -0 equals +0; inverted if descending), and below it the position: so equal elements
 * stay in order, and comparing words is all there is. Of one key of 64 bits it is the distance from the least one, the 32 highest bits that any has.
 * Where there are bits below, words that are equal but for their positions are sorted again, by comparing elements. Else words are positions, and
 * comparing them compares the elements.
 * Few words that are compared as numbers count how many stand before them, a vector at a time; more are radix sorted, a byte at a time; others
 * are merge sorted, bottom-up between two halves of the scratch.
 *
 * topk begins with the first elements. From then on only those that beat the k-th best are taken, which is seen a vector at a time: a few best
 * stay sorted, in registers if they fit, and a new one sinks to its place; many are gathered until there are 2k of them, of which the best k
 * stay: all are sorted, or, words that are compared as numbers, the k-th is found by bisection, and only the last k are sorted. */
#include <string.h>

#include "special.h"

enum { FEW = 128, DIGITS = 4, RADIX = 256, SINK = 64, VECTORS = 4, ALL = 32 };
enum { LIST = 16 /* vectors that are a list of the best */, LANES = 8 /* of a vector of words, at most */, SPARE = 4 * LANES };

static DType key_type(Ctx *c, const Stage *s) { return reg_type(expr_info(c, s->body[0])->dtype); }
static Dim topk_k(const Stage *s) { return ((const TopkAttr *)s->node->attr)->k; }

Order order_of(Ctx *c, const Stage *s) {
    Order o = {.nkeys = 1};
    if (s->kind == ST_SORT) {
        const SortAttr *a = s->node->attr;
        o.nkeys = a->nkeys ? a->nkeys : 1;
        o.descending = a->descending;
    } else {
        o.descending = ((const TopkAttr *)s->node->attr)->largest;
    }
    o.keyed = o.nkeys == 1 && dt_bits(key_type(c, s)) <= 32;
    return o;
}

/* ---- words ---- */

/* v, scalar or vector, as an i32 that orders like it, or i64 if it has 64 bits. */
static LVal key(Order *o, LVal v) {
    Lir *l = o->x->l;
    LTy t = lir_type(l, v);
    const bool wide = dt_bits((DType)t.dt) == 64;
    const DType to = wide ? DT_I64 : DT_I32;
    const int64_t most = wide ? INT64_MAX : INT32_MAX;
    LVal k;
    if (dt_is_float((DType)t.dt)) {
        LVal nan = lir_op2(l, S_NE, v, v), bits = lir_bitcast(l, lir_add(l, v, lir_float(l, (DType)t.dt, 0)), to); /* -0 + 0 = +0 */
        LVal sign = lir_op2(l, S_SHR, bits, lir_int(l, to, wide ? 63 : 31));
        k = lir_op2(l, S_XOR, bits, lir_op2(l, S_AND, sign, lir_int(l, to, most)));
        k = lir_op3(l, S_SELECT, nan, lir_splat(l, lir_int(l, to, most), t.lanes), k);
    } else {
        bool plain = t.dt == DT_U32 || t.dt == DT_U64;
        k = t.dt == to ? v : plain ? lir_bitcast(l, v, to) : lir_cast(l, v, to);
        if (plain) k = lir_op2(l, S_XOR, k, lir_int(l, to, -most - 1));
    }
    return o->descending ? lir_op1(l, S_NOT, k) : k;
}

static LVal joined(Order *o, LVal k, LVal i) {
    return op(o->x, S_OR, op(o->x, S_SHL, lir_cast(o->x->l, k, DT_I64), c64(o->x, 32)), i);
}

/* 32 bits of a long key's distance from the least one, as an i32 that orders like them. */
static LVal window(Order *o, LVal k) {
    Lir *l = o->x->l;
    LVal bits = lir_shru(l, lir_sub(l, k, o->least), o->below);
    return lir_op2(l, S_XOR, lir_cast(l, bits, DT_I32), lir_int(l, DT_I32, INT32_MIN));
}

LVal order_word(Order *o, LVal i) {
    if (!o->keyed && !o->wide) return i;
    LVal k = key(o, special_value(o->x, 0, i));
    return joined(o, o->wide ? window(o, k) : k, i);
}

LVal order_position(Order *o, LVal w) { return o->keyed || o->wide ? op(o->x, S_AND, w, c64(o->x, UINT32_MAX)) : w; }

/* The keys of `lanes` elements from position i on, of those that the mask (or none) has. */
static LVal key_vector(Order *o, LVal i, LVal mask, uint16_t lanes) {
    Sp *x = o->x;
    Point *p = x->p, scalar = *p;
    p->vaxis = (int8_t)x->axis;
    p->lanes = lanes;
    p->mask = mask;
    p->axis[x->axis] = i;
    emit_memo_reset(x->e);
    LVal k = key(o, emit_vec(x->e, x->s, x->s->body[0], p));
    *p = scalar;
    emit_memo_reset(x->e);
    return k;
}

/* The least and the greatest of 64-bit integers, in vectors until range_end. */
static void range_begin(Sp *x, uint16_t lanes, LVal *range) {
    range[0] = lir_splat(x->l, c64(x, INT64_MAX), lanes);
    range[1] = lir_splat(x->l, c64(x, INT64_MIN), lanes);
}

static void range_widen(Sp *x, const LVal *range, LVal mask, LVal v, LVal *wider) {
    LVal none[2];
    range_begin(x, lir_type(x->l, v).lanes, none);
    wider[0] = op(x, S_MIN, range[0], mask.i ? pick(x, mask, v, none[0]) : v);
    wider[1] = op(x, S_MAX, range[1], mask.i ? pick(x, mask, v, none[1]) : v);
}

static void range_end(Sp *x, LVal *range) {
    if (lir_type(x->l, range[0]).lanes == 1) return;
    range[0] = lir_hreduce(x->l, S_MIN, range[0]);
    range[1] = lir_hreduce(x->l, S_MAX, range[1]);
}

/* The least of the long keys, and how many bits of the distances from it are below the 32 that go into words. */
static void find_window(Order *o) {
    Sp *x = o->x;
    Lir *l = x->l;
    const uint16_t lanes = target_lanes(x->e->t, DT_I64);
    LVal none = c64(x, 0), range[2], next[2];
    range_begin(x, lanes, range);
    LFor f = lir_for(l, none, x->n, c64(x, lanes), 2, range);
    LVal mask = lanes > 1 ? lir_mask(l, lir_sub(l, x->n, f.iv), lanes) : (LVal){0};
    range_widen(x, f.c, mask, lanes > 1 ? key_vector(o, f.iv, mask, lanes) : key(o, special_value(x, 0, f.iv)), next);
    lir_for_end(l, &f, next, range);
    range_end(x, range);
    o->least = range[0];
    LVal width = lir_sub(l, range[1], range[0]);
    f = loop(x, c64(x, 32), 1, &none);
    next[0] = lir_add(l, f.c[0], lir_cast(l, op(x, S_NE, lir_shru(l, width, lir_addi(l, f.iv, 32)), none), DT_I64));
    lir_for_end(l, &f, next, &o->below);
}

/* Must a stand before b, strictly? */
static LVal before_value(Sp *x, LVal a, LVal b, bool descending) {
    LVal first = descending ? b : a, second = descending ? a : b;
    if (lir_type(x->l, a).dt == DT_BOOL) return op(x, S_AND, lir_op1(x->l, S_NOT, first), second);
    LVal less = op(x, S_LT, first, second);
    if (!dt_is_float(lir_type(x->l, a).dt)) return less;
    LVal number = op(x, S_EQ, first, first), nan = op(x, S_NE, second, second);
    return op(x, S_OR, less, op(x, S_AND, nan, number));
}

LVal order_before(Order *o, LVal i, LVal j) {
    Sp *x = o->x;
    if (o->keyed || (o->wide && !o->elements)) return op(x, S_LT, i, j);
    i = order_position(o, i);
    j = order_position(o, j);
    LVal result = lir_bool(x->l, false);
    for (int r = o->nkeys - 1; r >= 0; r--) {
        LVal a = special_value(x, r, i), b = special_value(x, r, j);
        LVal ab = before_value(x, a, b, o->descending), ba = before_value(x, b, a, o->descending);
        result = op(x, S_OR, ab, op(x, S_AND, lir_op1(x->l, S_NOT, ba), result));
    }
    return result;
}

/* ---- sorting the n words at `room`, which has space for another `cap` >= n behind the first cap ---- */

static void merge_sort(Order *o, LVal room, LVal n, LVal cap) {
    Sp *x = o->x;
    Lir *l = x->l;
    LVal one = c64(x, 1), none = c64(x, 0), passes;
    LFor f = loop(x, c64(x, 62), 1, &none);
    LVal more = lir_cast(l, op(x, S_LT, op(x, S_SHL, one, f.iv), n), DT_I64), next = lir_add(l, f.c[0], more);
    lir_for_end(l, &f, &next, &passes);
    LFor pass = loop(x, passes, 0, NULL);
    LVal w = op(x, S_SHL, one, pass.iv), odd = op(x, S_AND, pass.iv, one);
    LVal src = lir_mul(l, odd, cap), dst = lir_sub(l, cap, src);
    LFor run = lir_for(l, none, n, lir_muli(l, w, 2), 0, NULL);
    LVal lo = run.iv, mid = op(x, S_MIN, lir_add(l, lo, w), n), hi = op(x, S_MIN, lir_add(l, mid, w), n), at[2] = {lo, mid};
    LFor k = lir_for(l, lo, hi, one, 2, at);
    LVal i = k.c[0], j = k.c[1], last = lir_addi(l, n, -1);
    LVal a = load64(x, room, lir_add(l, src, op(x, S_MIN, i, last))), b = load64(x, room, lir_add(l, src, op(x, S_MIN, j, last)));
    LVal left = op(x, S_LT, i, mid), right = op(x, S_LT, j, hi);
    LVal take = op(x, S_AND, left, lir_op1(l, S_NOT, op(x, S_AND, right, order_before(o, b, a))));
    a = pick(x, take, a, b);
    store64(x, room, lir_add(l, dst, k.iv), a);
    LVal t = lir_cast(l, take, DT_I64), to[2] = {lir_add(l, i, t), lir_add(l, j, lir_sub(l, one, t))};
    lir_for_end(l, &k, to, at);
    lir_for_end(l, &run, NULL, NULL);
    lir_for_end(l, &pass, NULL, NULL);
    LFor back = loop(x, lir_mul(l, n, op(x, S_AND, passes, one)), 0, NULL);
    store64(x, room, back.iv, load64(x, room, lir_add(l, cap, back.iv)));
    lir_for_end(l, &back, NULL, NULL);
}

static LVal bucket(Sp *x, LVal w, int digit) {
    LVal d = lir_shru(x->l, w, c64(x, 32 + 8 * digit));
    if (digit == DIGITS - 1) d = op(x, S_XOR, d, c64(x, RADIX / 2)); /* the sign */
    return lir_addi(x->l, op(x, S_AND, d, c64(x, RADIX - 1)), digit * RADIX);
}

/* An even number of passes: the words end where they began. */
static void radix_sort(Order *o, LVal room, LVal n, LVal cap) {
    Sp *x = o->x;
    Lir *l = x->l;
    const uint16_t lanes = target_lanes(x->e->t, DT_I64);
    LVal count = lir_ptr_add(l, room, lir_muli(l, cap, 2), DT_I64), one = c64(x, 1), none = lir_splat(l, c64(x, 0), lanes), sum[DIGITS], next[DIGITS];
    LFor f = lir_for(l, c64(x, 0), c64(x, DIGITS * RADIX), c64(x, lanes), 0, NULL);
    lir_store(l, count, f.iv, none, (LVal){0}, 0);
    lir_for_end(l, &f, NULL, NULL);
    f = loop(x, n, 0, NULL);
    LVal w = load64(x, room, f.iv);
    for (int d = 0; d < DIGITS; d++) {
        LVal b = bucket(x, w, d);
        store64(x, count, b, lir_add(l, load64(x, count, b), one));
    }
    lir_for_end(l, &f, NULL, NULL);
    for (int d = 0; d < DIGITS; d++) sum[d] = c64(x, 0);
    f = loop(x, c64(x, RADIX), DIGITS, sum);
    for (int d = 0; d < DIGITS; d++) {
        LVal at = lir_addi(l, f.iv, d * RADIX), here = load64(x, count, at);
        next[d] = lir_add(l, f.c[d], here);
        store64(x, count, at, f.c[d]);
    }
    lir_for_end(l, &f, next, sum);
    for (int d = 0; d < DIGITS; d++) {
        LVal src = d % 2 ? cap : c64(x, 0), dst = d % 2 ? c64(x, 0) : cap;
        f = loop(x, n, 0, NULL);
        w = load64(x, room, lir_add(l, src, f.iv));
        LVal b = bucket(x, w, d), at = load64(x, count, b);
        store64(x, room, lir_add(l, dst, at), w);
        store64(x, count, b, lir_add(l, at, one));
        lir_for_end(l, &f, NULL, NULL);
    }
}

/* The place of a word is how many are less than it. */
static void count_sort(Order *o, LVal room, LVal n, LVal cap, int vectors) {
    Sp *x = o->x;
    Lir *l = x->l;
    const LTy words = {DT_I64, target_lanes(x->e->t, DT_I64)};
    LVal one = lir_splat(l, c64(x, 1), words.lanes), none = lir_splat(l, c64(x, 0), words.lanes), to = lir_ptr_add(l, room, cap, DT_I64);
    LVal w[VECTORS], mask[VECTORS], place[VECTORS], next[VECTORS];
    LFor f = lir_for(l, c64(x, 0), n, c64(x, (int64_t)vectors * words.lanes), 0, NULL);
    for (int v = 0; v < vectors; v++) {
        LVal at = lir_addi(l, f.iv, (int64_t)v * words.lanes);
        mask[v] = lir_mask(l, lir_sub(l, n, at), words.lanes);
        w[v] = lir_load(l, room, at, words, mask[v], 0);
        place[v] = none;
    }
    LFor u = loop(x, n, (uint32_t)vectors, place);
    LVal other = lir_splat(l, load64(x, room, u.iv), words.lanes);
    for (int v = 0; v < vectors; v++) next[v] = lir_add(l, u.c[v], pick(x, op(x, S_LT, other, w[v]), one, none));
    lir_for_end(l, &u, next, place);
    for (int v = 0; v < vectors; v++) lir_scatter(l, to, place[v], w[v], mask[v]);
    lir_for_end(l, &f, NULL, NULL);
    f = lir_for(l, c64(x, 0), n, c64(x, words.lanes), 0, NULL);
    mask[0] = lir_mask(l, lir_sub(l, n, f.iv), words.lanes);
    lir_store(l, room, f.iv, lir_load(l, to, f.iv, words, mask[0], 0), mask[0], 0);
    lir_for_end(l, &f, NULL, NULL);
}

/* Words are in order but for the bits below those that they have. */
static void sort_ties(Order *o, LVal room, LVal n, LVal cap) {
    Sp *x = o->x;
    Lir *l = x->l;
    LVal first = c64(x, 0), high = c64(x, 32), end;
    LIf more = lir_if(l, op(x, S_GT, o->below, c64(x, 0)), 0);
    LFor f = lir_for(l, c64(x, 1), lir_addi(l, n, 1), c64(x, 1), 1, &first);
    LVal last = op(x, S_EQ, f.iv, n), here = load64(x, room, op(x, S_MIN, f.iv, lir_addi(l, n, -1))), before = load64(x, room, f.c[0]);
    here = op(x, S_SHR, here, high), before = op(x, S_SHR, before, high);
    LVal other = op(x, S_OR, last, op(x, S_NE, here, before)), count = lir_sub(l, f.iv, f.c[0]);
    LIf ties = lir_if(l, op(x, S_AND, other, op(x, S_GT, count, c64(x, 1))), 0);
    o->elements = true;
    merge_sort(o, lir_ptr_add(l, room, f.c[0], DT_I64), count, cap);
    o->elements = false;
    lir_else(l, &ties, NULL);
    lir_endif(l, &ties, NULL, NULL);
    LVal next = pick(x, other, f.iv, f.c[0]);
    lir_for_end(l, &f, &next, &end);
    lir_else(l, &more, NULL);
    lir_endif(l, &more, NULL, NULL);
}

/* As many words as are sorted at once, of which there is room for more where k is not known. */
static int64_t most_words(Ctx *c, const Order *o, const Stage *s, Dim cap) {
    const int64_t n = dim_hi(c, order_extent(s)), room = dim_hi(c, o->selects ? topk_k(s) : cap);
    return n < room ? n : room;
}

static bool by_radix(Ctx *c, const Order *o, const Stage *s, Dim cap) { return (o->keyed || o->wide) && most_words(c, o, s, cap) > FEW; }

static void sort_words(Order *o, LVal room, LVal n, Dim cap) {
    Emit *e = o->x->e;
    const int64_t lanes = target_lanes(e->t, DT_I64), most = most_words(e->c, o, o->x->s, cap);
    LVal space = emit_dim(e, cap);
    if ((o->keyed || o->wide) && lanes > 1 && most <= FEW)
        count_sort(o, room, n, space, most > VECTORS * lanes ? VECTORS : (int)((most + lanes - 1) / lanes));
    else (by_radix(e->c, o, o->x->s, cap) ? radix_sort : merge_sort)(o, room, n, space);
    if (o->wide) sort_ties(o, room, n, space);
}

/* ---- the stages ---- */

Dim order_extent(const Stage *s) {
    return s->axis[s->kind == ST_SORT ? ((const SortAttr *)s->node->attr)->axis : ((const TopkAttr *)s->node->attr)->axis].extent;
}

/* A few best stay sorted: a new one sinks to its place. */
static bool sinks(Ctx *c, const Stage *s) { return dim_hi(c, topk_k(s)) <= SINK; }

/* Are all elements sorted, and not the best of those so far again and again? */
static bool sorts_all(Ctx *c, const Stage *s) {
    return s->kind == ST_SORT || dim_hi(c, order_extent(s)) <= ALL || dim_same(c, order_extent(s), topk_k(s));
}

/* Vectors of words, or of long keys (as many again are their positions), that are the list of the best; 0: the best are elsewhere. */
static int list_vectors(Ctx *c, const Stage *s, bool wide, int lanes) {
    if (s->kind == ST_SORT || lanes == 1 || !sinks(c, s)) return 0;
    const int64_t k = dim_hi(c, topk_k(s)), n = (k + lanes - 1) / lanes;
    if (sorts_all(c, s) && (!wide || n > 2)) return 0;
    return n * (1 + wide) <= LIST ? (int)n : 0;
}

/* The order of a stage for vectors of `lanes` words: long keys are sorted by 32 of their bits where all elements are sorted or they are vectors. */
static Order stage_order(Ctx *c, const Stage *s, int lanes) {
    Order o = order_of(c, s);
    o.wide = !o.keyed && o.nkeys == 1 && dt_bits(key_type(c, s)) == 64 && (lanes > 1 || sorts_all(c, s));
    o.list = list_vectors(c, s, o.wide, lanes);
    o.selects = o.keyed && lanes > 1 && s->kind == ST_TOPK && !o.list && !sorts_all(c, s);
    return o;
}

/* Words that are kept at once, for which there is room twice; a list of all elements may need SPARE words more. */
static Dim capacity(Ctx *c, const Stage *s) {
    if (s->kind == ST_SORT) return order_extent(s);
    Dim k = topk_k(s);
    if (sorts_all(c, s)) return dim_max(c, order_extent(s), k);
    if (sinks(c, s)) return dim_const(c, 2 * ((dim_hi(c, k) + LANES - 1) / LANES * LANES));
    return dim_min(c, dim_muli(c, k, 2), dim_max(c, order_extent(s), k));
}

/* Are words made, and compared as numbers, a vector at a time? */
static bool by_vectors(Order *o) { return (o->keyed || o->wide) && target_lanes(o->x->e->t, DT_I64) > 1; }

/* The words of the first n elements. */
static void take_words(Order *o, LVal room, LVal n) {
    Sp *x = o->x;
    Lir *l = x->l;
    const uint16_t lanes = by_vectors(o) ? target_lanes(x->e->t, DT_I64) : 1;
    LFor f = lir_for(l, c64(x, 0), n, c64(x, lanes), 0, NULL);
    if (lanes > 1) {
        LVal mask = lir_mask(l, lir_sub(l, n, f.iv), lanes), k = key_vector(o, f.iv, mask, lanes);
        LVal at = lir_add(l, lir_splat(l, f.iv, lanes), lir_iota(l, DT_I64, lanes));
        lir_store(l, room, f.iv, joined(o, o->wide ? window(o, k) : k, at), mask, 0);
    } else {
        store64(x, room, f.iv, order_word(o, f.iv));
    }
    lir_for_end(l, &f, NULL, NULL);
}

static void sort_stage(Order *o, LVal room) {
    Sp *x = o->x;
    take_words(o, room, x->n);
    sort_words(o, room, x->n, capacity(x->e->c, x->s));
    LFor f = loop(x, x->n, 0, NULL);
    LVal i = order_position(o, load64(x, room, f.iv));
    for (int r = 0; r < x->s->nres; r++) special_store(x, r, special_value(x, r, i), f.iv);
    lir_for_end(x->l, &f, NULL, NULL);
}

/* Words in the room; the k-th best of them when they were last sorted, or its key where elements come as vectors; the list. */
typedef struct Held { LVal v[2 + LIST]; } Held;
enum { COUNT, WORST, BEST };

static uint32_t held(const Order *o) { return BEST + (uint32_t)(o->list * (1 + o->wide)); }
static DType key_dtype(const Order *o) { return o->wide ? DT_I64 : DT_I32; }
static LVal word_key(Order *o, LVal w) { return lir_cast(o->x->l, op(o->x, S_SHR, w, c64(o->x, 32)), DT_I32); }

/* What the others have to beat, of sorted words. */
static LVal worst_of(Order *o, LVal room, LVal k) {
    LVal w = load64(o->x, room, lir_addi(o->x->l, k, -1));
    if (!by_vectors(o)) return w;
    return o->wide ? key(o, special_value(o->x, 0, order_position(o, w))) : word_key(o, w);
}

static LVal sink(Order *o, LVal room, LVal k, LVal w) {
    Sp *x = o->x;
    LVal rest;
    LFor f = loop(x, k, 1, &w);
    LVal there = load64(x, room, f.iv), first = order_before(o, f.c[0], there);
    if (!o->keyed) first = op(x, S_OR, first, op(x, S_NE, f.c[0], w)); /* what was displaced stands before its equals */
    LVal next = pick(x, first, there, f.c[0]);
    store64(x, room, f.iv, pick(x, first, f.c[0], there));
    lir_for_end(x->l, &f, &next, &rest);
    return worst_of(o, room, k);
}

/* A new element in the list, of which the first `filled` are elements (none: all are). Each stays, or is the new one, or the one before it. */
static void list_sink(Order *o, LVal *list, LVal key, LVal i, LVal filled) {
    Sp *x = o->x;
    Lir *l = x->l;
    const uint16_t lanes = target_lanes(x->e->t, DT_I64);
    const int n = o->list;
    int16_t by_one[LANES];
    for (int j = 0; j < lanes; j++) by_one[j] = (int16_t)(lanes - 1 + j);
    LVal least = lir_splat(l, c64(x, INT64_MIN), lanes), one = lir_splat(l, o->wide ? key : joined(o, key, i), lanes), at = lir_splat(l, i, lanes);
    for (int v = n - 1; v >= 0; v--) {
        LVal here = list[v], before = lir_shuffle(l, v ? list[v - 1] : least, here, lanes, by_one);
        if (!o->wide) {
            list[v] = op(x, S_MIN, here, op(x, S_MAX, before, one));
            continue;
        }
        LVal stays = op(x, S_LE, here, one), passed = op(x, S_LE, before, one);
        if (filled.i) {
            LVal number = lir_addi(l, lir_iota(l, DT_I64, lanes), (int64_t)v * lanes), all = lir_splat(l, filled, lanes);
            stays = op(x, S_AND, stays, op(x, S_LT, number, all));
            passed = op(x, S_AND, passed, op(x, S_LE, number, all));
        }
        LVal position = list[n + v], above = lir_shuffle(l, v ? list[n + v - 1] : least, position, lanes, by_one);
        list[v] = pick(x, stays, here, pick(x, passed, one, before));
        list[n + v] = pick(x, stays, position, pick(x, passed, at, above));
    }
}

static void list_store(Order *o, LVal room, const LVal *list) {
    const uint16_t lanes = target_lanes(o->x->e->t, DT_I64);
    for (int v = 0; v < o->list * (1 + o->wide); v++) lir_store(o->x->l, room, c64(o->x, (int64_t)v * lanes), list[v], (LVal){0}, 0);
}

/* The key of the k-th in the list. */
static LVal list_worst(Order *o, LVal room, LVal k, const LVal *list) {
    Sp *x = o->x;
    const uint16_t lanes = target_lanes(x->e->t, DT_I64);
    int64_t n;
    LVal w;
    if (lir_is_const(x->l, k, &n)) w = n ? lir_extract(x->l, list[(n - 1) / lanes], (uint16_t)((n - 1) % lanes)) : c64(x, 0);
    else {
        list_store(o, room, list);
        w = load64(x, room, lir_addi(x->l, k, -1));
    }
    return o->wide ? w : word_key(o, w);
}

/* The first k elements as a list. */
static Held list_begin(Order *o, LVal room, LVal k) {
    Sp *x = o->x;
    Lir *l = x->l;
    const uint32_t n = held(o) - BEST;
    Held h = {{k}};
    for (uint32_t v = 0; v < n; v++) h.v[BEST + v] = lir_splat(l, c64(x, INT64_MAX), target_lanes(x->e->t, DT_I64));
    LFor f = loop(x, k, n, &h.v[BEST]);
    list_sink(o, f.c, key(o, special_value(x, 0, f.iv)), f.iv, f.iv);
    lir_for_end(l, &f, f.c, &h.v[BEST]);
    h.v[WORST] = list_worst(o, room, k, &h.v[BEST]);
    return h;
}

/* How many of the n words are not greater than `most`: vectors of the n + SPARE that there are, those behind n being the greatest. */
static LVal count_words(Order *o, LVal room, LVal n, LVal most) {
    Sp *x = o->x;
    Lir *l = x->l;
    const LTy words = {DT_I64, target_lanes(x->e->t, DT_I64)};
    LVal one = lir_splat(l, c64(x, 1), words.lanes), none = lir_splat(l, c64(x, 0), words.lanes), sum[VECTORS], next[VECTORS];
    most = lir_splat(l, most, words.lanes);
    for (int v = 0; v < VECTORS; v++) sum[v] = none;
    LFor f = lir_for(l, c64(x, 0), n, c64(x, VECTORS * words.lanes), VECTORS, sum);
    for (int v = 0; v < VECTORS; v++) {
        LVal w = lir_load(l, room, lir_addi(l, f.iv, v * words.lanes), words, (LVal){0}, 0);
        next[v] = lir_add(l, f.c[v], pick(x, op(x, S_LE, w, most), one, none));
    }
    lir_for_end(l, &f, next, sum);
    for (int v = 1; v < VECTORS; v++) sum[0] = lir_add(l, sum[0], sum[v]);
    return lir_hreduce(l, S_ADD, sum[0]);
}

/* The k-th best of n different words, k >= 1, or a number between it and the next. By bisection: it ends with the first number that just k words do
 * not exceed, which for words at random takes some log2(n) steps, and BITS in any case. Behind the words there is space for SPARE. */
static LVal kth_word(Order *o, LVal room, LVal n, LVal k) {
    enum { BITS = 64 };
    Sp *x = o->x;
    Lir *l = x->l;
    const LTy words = {DT_I64, target_lanes(x->e->t, DT_I64)};
    LVal range[2], next[2], half[2];
    range_begin(x, words.lanes, range);
    LFor f = lir_for(l, c64(x, 0), n, c64(x, words.lanes), 2, range);
    LVal mask = lir_mask(l, lir_sub(l, n, f.iv), words.lanes);
    range_widen(x, f.c, mask, lir_load(l, room, f.iv, words, mask, 0), next);
    lir_for_end(l, &f, next, range);
    range_end(x, range);
    range[0] = pick(x, op(x, S_EQ, n, k), range[1], range[0]);
    f = lir_for(l, n, lir_addi(l, n, SPARE), c64(x, words.lanes), 0, NULL);
    lir_store(l, room, f.iv, lir_splat(l, c64(x, INT64_MAX), words.lanes), (LVal){0}, 0);
    lir_for_end(l, &f, NULL, NULL);
    f = loop(x, c64(x, BITS), 2, range);
    LIf open = lir_if(l, op(x, S_LT, f.c[0], f.c[1]), 2);
    LVal middle = lir_add(l, f.c[0], lir_shru(l, lir_sub(l, f.c[1], f.c[0]), c64(x, 1))), count = count_words(o, room, n, middle);
    LVal few = op(x, S_LT, count, k), just = op(x, S_EQ, count, k), above = lir_addi(l, middle, 1);
    half[0] = pick(x, few, above, pick(x, just, middle, f.c[0]));
    half[1] = pick(x, few, f.c[1], middle);
    lir_else(l, &open, half);
    lir_endif(l, &open, f.c, next);
    lir_for_end(l, &f, next, range);
    return range[1];
}

/* Moves the best k of n words to the front, in any order; the worst of them. */
static LVal keep_best(Order *o, LVal room, LVal n, LVal k) {
    Sp *x = o->x;
    Lir *l = x->l;
    LVal limit = kth_word(o, room, n, k), least = c64(x, INT64_MIN), kept[2] = {c64(x, 0), least}, next[2];
    LFor f = loop(x, n, 2, kept);
    LVal w = load64(x, room, f.iv), in = op(x, S_LE, w, limit);
    store64(x, room, f.c[0], w);
    next[0] = lir_add(l, f.c[0], lir_cast(l, in, DT_I64));
    next[1] = op(x, S_MAX, f.c[1], pick(x, in, w, least));
    lir_for_end(l, &f, next, kept);
    return kept[1];
}

/* Brings the best k of the n words in the room to the front; what others have to beat. */
static LVal narrow(Order *o, LVal room, LVal n, LVal k, Dim cap) {
    if (o->selects) return word_key(o, keep_best(o, room, n, k));
    sort_words(o, room, n, cap);
    return worst_of(o, room, k);
}

/* Takes element i if it beats the k-th; only the best stay when the room is full. Its key, where elements come as vectors. */
static Held offer(Order *o, LVal room, LVal k, Held h, LVal key, LVal i) {
    Sp *x = o->x;
    Lir *l = x->l;
    Dim cap = capacity(x->e->c, x->s);
    Held some = h;
    LVal w = key.i ? (LVal){0} : order_word(o, i);
    LIf in = lir_if(l, key.i ? op(x, S_LT, key, h.v[WORST]) : order_before(o, w, h.v[WORST]), held(o));
    if (o->list) {
        list_sink(o, &some.v[BEST], key, i, (LVal){0});
        some.v[WORST] = list_worst(o, room, k, &some.v[BEST]);
    } else if (sinks(x->e->c, x->s) && key.i == 0) {
        some.v[WORST] = sink(o, room, k, w);
    } else {
        if (key.i) w = joined(o, o->wide ? window(o, key) : key, i);
        store64(x, room, h.v[COUNT], w);
        LVal count = lir_addi(l, h.v[COUNT], 1), grown[2] = {count, h.v[WORST]};
        LIf full = lir_if(l, op(x, S_EQ, count, emit_dim(x->e, cap)), 2);
        LVal worst = narrow(o, room, count, k, cap);
        lir_else(l, &full, (LVal[]){k, worst});
        lir_endif(l, &full, grown, some.v);
    }
    lir_else(l, &in, some.v);
    lir_endif(l, &in, h.v, some.v);
    return some;
}

/* The keys of VECTORS vectors from position i on, stored at `keys`; true if one of them beats `worst`. What lies beyond the `left`
 * elements (none: all are there) never does. */
static LVal look(Order *o, LVal keys, LVal i, LVal left, LVal worst, uint16_t lanes) {
    Sp *x = o->x;
    Lir *l = x->l;
    LVal any = {0}, mask = {0}, most = lir_splat(l, lir_int(l, key_dtype(o), o->wide ? INT64_MAX : INT32_MAX), lanes);
    for (int u = 0; u < VECTORS; u++) {
        if (left.i) mask = lir_mask(l, lir_addi(l, left, -u * lanes), lanes);
        LVal k = key_vector(o, lir_addi(l, i, u * lanes), mask, lanes);
        if (left.i) k = pick(x, mask, k, most);
        lir_store(l, keys, c64(x, u * lanes), k, (LVal){0}, 0);
        LVal beats = op(x, S_LT, k, worst);
        any = any.i ? op(x, S_OR, any, beats) : beats;
    }
    return lir_any(l, any);
}

/* Elements [from, n): those of a vector are looked at one by one only if one of them beats the k-th. */
static Held offer_vectors(Order *o, LVal room, LVal k, Held h, LVal from, LVal keys) {
    Sp *x = o->x;
    Lir *l = x->l;
    const DType type = key_dtype(o);
    const uint16_t lanes = target_lanes(x->e->t, type);
    const uint32_t n = held(o);
    int block = VECTORS * lanes;
    LVal any;
    Held r;
    LFor f = lir_for(l, from, x->n, c64(x, block), n, h.v);
    LVal left = lir_sub(l, x->n, f.iv), worst = lir_splat(l, f.c[WORST], lanes);
    LIf whole = lir_if(l, op(x, S_GE, left, c64(x, block)), 1);
    any = look(o, keys, f.iv, (LVal){0}, worst, lanes);
    lir_else(l, &whole, &any);
    any = look(o, keys, f.iv, left, worst, lanes);
    lir_endif(l, &whole, &any, &any);
    LIf some = lir_if(l, any, n);
    LFor v = lir_for(l, c64(x, 0), c64(x, block), c64(x, lanes), n, f.c);
    LVal vector = lir_load(l, keys, v.iv, (LTy){(uint8_t)type, lanes}, (LVal){0}, 0);
    worst = lir_splat(l, v.c[WORST], lanes);
    LIf here = lir_if(l, lir_any(l, op(x, S_LT, vector, worst)), n);
    LFor lane = lir_for(l, v.iv, lir_addi(l, v.iv, lanes), c64(x, 1), n, v.c);
    LVal one = lir_load(l, keys, lane.iv, (LTy){(uint8_t)type, 1}, (LVal){0}, 0);
    memcpy(r.v, lane.c, n * sizeof *r.v);
    r = offer(o, room, k, r, one, lir_add(l, f.iv, lane.iv));
    lir_for_end(l, &lane, r.v, r.v);
    lir_else(l, &here, r.v);
    lir_endif(l, &here, v.c, r.v);
    lir_for_end(l, &v, r.v, r.v);
    lir_else(l, &some, r.v);
    lir_endif(l, &some, f.c, r.v);
    lir_for_end(l, &f, r.v, h.v);
    return h;
}

static Held offer_words(Order *o, LVal room, LVal k, Held h, LVal from) {
    Sp *x = o->x;
    LFor f = lir_for(x->l, from, x->n, c64(x, 1), 2, h.v);
    h = offer(o, room, k, (Held){{f.c[COUNT], f.c[WORST]}}, (LVal){0}, f.iv);
    lir_for_end(x->l, &f, h.v, h.v);
    return h;
}

/* The list, in the room, and the way to the positions in it. */
static LVal list_stage(Order *o, LVal room, LVal k, LVal keys) {
    Held h = offer_vectors(o, room, k, list_begin(o, room, k), k, keys);
    list_store(o, room, &h.v[BEST]);
    return o->wide ? lir_ptr_add(o->x->l, room, c64(o->x, (int64_t)o->list * target_lanes(o->x->e->t, DT_I64)), DT_I64) : room;
}

static void gather_stage(Order *o, LVal room, LVal k, LVal keys) {
    Sp *x = o->x;
    Lir *l = x->l;
    Ctx *c = x->e->c;
    Dim cap = capacity(c, x->s);
    LVal first = op(x, S_MIN, x->n, emit_dim(x->e, cap));
    take_words(o, room, first);
    Held h = {{k, narrow(o, room, first, k, cap)}};
    LIf more = lir_if(l, op(x, S_LT, first, x->n), 0);
    h = by_vectors(o) ? offer_vectors(o, room, k, h, first, keys) : offer_words(o, room, k, h, first);
    if (by_vectors(o) || !sinks(c, x->s)) narrow(o, room, h.v[COUNT], k, cap);
    lir_else(l, &more, NULL);
    lir_endif(l, &more, NULL, NULL);
    if (o->selects) sort_words(o, room, k, cap);
}

static void topk_stage(Order *o, LVal room) {
    Sp *x = o->x;
    Lir *l = x->l;
    Ctx *c = x->e->c;
    Dim cap = capacity(c, x->s);
    LVal k = emit_dim(x->e, topk_k(x->s)), from = room;
    const int64_t more = (by_radix(c, o, x->s, cap) ? DIGITS * RADIX : 0) + SPARE;
    LVal keys = lir_ptr_add(l, room, emit_dim(x->e, dim_addi(c, dim_muli(c, cap, 2), more)), DT_I64);
    LIf some = lir_if(l, op(x, S_GT, k, c64(x, 0)), 0);
    if (o->list) from = list_stage(o, room, k, keys);
    else gather_stage(o, room, k, keys);
    LFor f = loop(x, k, 0, NULL);
    LVal w = load64(x, from, f.iv), i = o->list && o->wide ? w : order_position(o, w);
    special_store(x, 0, special_value(x, 0, i), f.iv);
    special_store_position(x, 1, i, f.iv);
    lir_for_end(l, &f, NULL, NULL);
    lir_else(l, &some, NULL);
    lir_endif(l, &some, NULL, NULL);
}

Dim order_scratch(const Emit *e, const Stage *s) {
    Ctx *c = e->c;
    Order o = stage_order(c, s, target_lanes(e->t, DT_I64));
    Dim cap = capacity(c, s);
    int64_t more = (by_radix(c, &o, s, cap) ? DIGITS * RADIX : 0) + SPARE + 8 * VECTORS; /* and vectors of keys */
    return dim_addi(c, dim_muli(c, cap, 2), more);
}

void order_stage(Sp *x, LVal room) {
    Order o = stage_order(x->e->c, x->s, target_lanes(x->e->t, DT_I64));
    o.x = x;
    if (o.wide && !o.list) find_window(&o);
    (x->s->kind == ST_SORT ? sort_stage : topk_stage)(&o, room);
}
