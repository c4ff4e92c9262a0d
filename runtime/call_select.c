/* call_select.c: functions that choose among many: boxes that overlap too much, and what is there several times. */
#include "call_internal.h"

enum { DT_C64 = 14, DT_C128 = 15, FEW = 64 };

/* ==== suppress_boxes ============================================================================================== */

typedef struct Box { float lo[2], hi[2], area; } Box;

/* Corners in any order, or centre and size, with the two axes in any order: all that follows is symmetric in them. */
static Box box_at(const float *p, bool centred)
{
    Box b;
    for (int d = 0; d < 2; d++) {
        float u = centred ? p[d] - p[2 + d] / 2 : p[d], v = centred ? p[d] + p[2 + d] / 2 : p[2 + d];
        bool turned = !centred && !(u < v);
        b.lo[d] = turned ? v : u;
        b.hi[d] = turned ? u : v;
    }
    b.area = (b.hi[1] - b.lo[1]) * (b.hi[0] - b.lo[0]);
    return b;
}

/* Intersection over union is above the limit; boxes without area overlap nothing. */
static bool overlaps(const Box *a, const Box *b, float limit)
{
    float size[2];
    for (int d = 0; d < 2; d++) {
        float lo = a->lo[d] > b->lo[d] ? a->lo[d] : b->lo[d], hi = a->hi[d] < b->hi[d] ? a->hi[d] : b->hi[d];
        if (!(hi > lo))
            return false;
        size[d] = hi - lo;
    }
    float both = size[1] * size[0], all = a->area + b->area - both;
    return both > 0 && a->area > 0 && b->area > 0 && all > 0 && both / all > limit;
}

/* Higher scores first, of equal ones the lower index; NaN is below every number. 0 if the score is not above the floor, unless all stay. Without
 * branches, as what scores are is hard to guess. */
static uint64_t score_key(float score, uint32_t i, uint32_t all, float floor)
{
    uint32_t bits, stays = 0 - (all | (uint32_t)(score > floor));
    score += 0.0f; /* -0 is +0 */
    memcpy(&bits, &score, sizeof bits);
    bits ^= (0 - (bits >> 31)) | 1u << 31;
    bits &= (0 - (uint32_t)(score == score)) & stays;
    return (uint64_t)bits << 32 | (~i & stays);
}

/* The highest of many keys, again and again: level 0 has all keys, each higher one the highest of every FAN of the level below, the last one a group.
 * Which that is, no branch asks. */
enum { FAN = 16, LEVELS = 8 };
typedef struct Best { uint64_t *level[LEVELS]; int top; } Best;

static uint64_t higher(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t highest_of_four(const uint64_t *v) { return higher(higher(v[0], v[1]), higher(v[2], v[3])); }

static uint64_t highest(const uint64_t *group)
{
    return higher(higher(highest_of_four(group), highest_of_four(group + 4)), higher(highest_of_four(group + 8), highest_of_four(group + 12)));
}

static int64_t groups(int64_t n) { return (n + FAN - 1) / FAN; }

static bool best_room(rt_call *c, Best *b, int64_t n)
{
    for (b->top = 0;; b->top++, n = groups(n)) {
        int64_t room = groups(n) * FAN;
        uint64_t *v = b->level[b->top] = call_alloc(c, room, sizeof *v);
        if (!v)
            return false;
        memset(v + n, 0, (size_t)(room - n) * sizeof *v);
        if (n <= FAN)
            return true;
    }
}

/* Groups by a number of elements that compilers know: they make vectors of them. */
static void score_keys(uint64_t *restrict key, const float *restrict score, int64_t n, uint32_t all, float floor)
{
    int64_t i = 0;
    for (; i + FAN <= n; i += FAN)
        for (int k = 0; k < FAN; k++)
            key[i + k] = score_key(score[i + k], (uint32_t)i + (uint32_t)k, all, floor);
    for (; i < n; i++)
        key[i] = score_key(score[i], (uint32_t)i, all, floor);
}

static void best_of_all(Best *b, int64_t n)
{
    for (int k = 0; k < b->top; k++, n = groups(n))
        for (int64_t g = 0; g < groups(n); g++)
            b->level[k + 1][g] = highest(b->level[k] + g * FAN);
}

/* Key `at` of level 0 leaves. */
static void best_leaves(Best *b, int64_t at)
{
    b->level[0][at] = 0;
    for (int k = 0; k < b->top; k++, at /= FAN)
        b->level[k + 1][at / FAN] = highest(b->level[k] + at / FAN * FAN);
}

typedef struct Triples { int64_t *v, n, room; } Triples;

static bool triple(rt_call *c, Triples *t, int64_t a, int64_t b, int64_t k)
{
    if (t->n == t->room) {
        int64_t *v = call_alloc(c, 6 * (t->room ? t->room : 64), sizeof *v);
        if (!v)
            return false;
        if (t->n)
            memcpy(v, t->v, (size_t)(3 * t->n) * sizeof *v);
        t->room = 2 * (t->room ? t->room : 64);
        t->v = v;
    }
    memcpy(t->v + 3 * t->n++, (int64_t[]){a, b, k}, 3 * sizeof(int64_t));
    return true;
}

/* (boxes f32[b,n,4], scores f32[b,k,n], most i64, limit f32, least f32 or absent, centred i64) -> i64[m,3]: batch, class and
 * index of the boxes that stay. Of each class, in order of score, a box above `least` stays unless it overlaps one that stayed
 * before; at most `most`. Those never looked at cost little. */
CALL_FN(suppress_boxes)
{
    const rt_value *boxes = tensor_operand(c, 0, DT_F32), *scores = tensor_operand(c, 1, DT_F32);
    const rt_value *limit = tensor_operand(c, 3, DT_F32), *least = c->in[4];
    int64_t most, centred;
    if (!boxes || !scores || !limit || !call_int(c, tensor_operand(c, 2, DT_I64), "the number of boxes", &most) ||
        !call_int(c, tensor_operand(c, 5, DT_I64), "the form of boxes", &centred))
        return false;
    int64_t nb = scores->dims[0], nk = scores->dims[1], n = scores->dims[2];
    if (boxes->rank != 3 || scores->rank != 3 || boxes->dims[0] != nb || boxes->dims[1] != n || boxes->dims[2] != 4)
        return call_fail(c, "boxes and scores have different sizes");
    if (n > INT32_MAX)
        return call_fail(c, "%lld boxes are too many", (long long)n);
    most = most < 0 ? 0 : most < n ? most : n;
    Box *kept = call_alloc(c, most, sizeof *kept);
    Best best;
    Triples out = {0};
    if (!kept || !best_room(c, &best, n))
        return false;
    float iou = *(const float *)limit->data, floor = least ? *(const float *)least->data : 0;
    for (int64_t g = 0; g < nb * nk && most; g++) {
        const float *score = (const float *)scores->data + g * n, *box = (const float *)boxes->data + g / nk * n * 4;
        int64_t stayed = 0;
        score_keys(best.level[0], score, n, !least, floor);
        best_of_all(&best, n);
        while (stayed < most) {
            uint64_t key = highest(best.level[best.top]);
            int64_t i = (uint32_t)~key, k = 0;
            if (!key)
                break;
            best_leaves(&best, i);
            Box b = box_at(box + 4 * i, centred != 0);
            while (k < stayed && !overlaps(&b, &kept[k], iou))
                k++;
            if (k < stayed)
                continue;
            kept[stayed++] = b;
            if (!triple(c, &out, g / nk, g % nk, i))
                return false;
        }
    }
    c->out[0] = call_tensor(c, DT_I64, 2, (int64_t[]){out.n, 3});
    if (c->out[0] && out.n)
        memcpy(c->out[0]->data, out.v, (size_t)(3 * out.n) * sizeof *out.v);
    return c->out[0] != NULL;
}

/* ==== unique ====================================================================================================== */

#define ORDER(a, b) (((a) > (b)) - ((a) < (b)))

/* Keys order as elements do, and are the same for equal ones: NaN is equal to itself and above every number, -0 is +0. */
static uint64_t key_of_float(uint64_t bits, uint64_t infinity, uint64_t sign)
{
    uint64_t size = bits & (sign - 1);
    return size > infinity ? UINT64_MAX : bits & sign && size ? ~bits & (2 * sign - 1) : size | sign;
}

static uint64_t key_of(int dtype, const void *p, int64_t i)
{
    const uint64_t sign = 1ull << 63;
#define ITEM(t) ((const t *)p)[i]
    switch (dtype) {
    case DT_F32: case DT_C64: return key_of_float(ITEM(uint32_t), 0xffull << 23, 1ull << 31);
    case DT_F64: case DT_C128: return key_of_float(ITEM(uint64_t), 0x7ffull << 52, sign);
    case DT_F16: return key_of_float(ITEM(uint16_t), 0x1f << 10, 1 << 15);
    case DT_BF16: return key_of_float(ITEM(uint16_t), 0xff << 7, 1 << 15);
    case DT_I8: return (uint64_t)ITEM(int8_t) ^ sign;
    case DT_I16: return (uint64_t)ITEM(int16_t) ^ sign;
    case DT_U16: return ITEM(uint16_t);
    case DT_I32: return (uint64_t)ITEM(int32_t) ^ sign;
    case DT_U32: return ITEM(uint32_t);
    case DT_I64: return (uint64_t)ITEM(int64_t) ^ sign;
    case DT_U64: return ITEM(uint64_t);
    default: return ITEM(uint8_t);
    }
#undef ITEM
}

/* A tensor as n slices along its middle axis: [outer, n, inner]. key: the keys of one slice after the other, `width` each; strings have none. */
typedef struct Slices { const rt_value *x; int64_t outer, n, inner, width; uint64_t *key; } Slices;

/* Complex numbers are two. */
static bool find_keys(rt_call *c, Slices *s)
{
    int64_t parts = s->inner * (s->x->dtype == DT_C64 || s->x->dtype == DT_C128 ? 2 : 1);
    s->width = s->outer * parts;
    s->key = s->x->dtype == DT_STR ? NULL : call_alloc(c, s->n, (size_t)s->width * sizeof *s->key);
    if (!s->key)
        return s->x->dtype == DT_STR;
    for (int64_t o = 0, at = 0; o < s->outer; o++)
        for (int64_t i = 0; i < s->n; i++)
            for (int64_t k = 0; k < parts; k++)
                s->key[i * s->width + o * parts + k] = key_of(s->x->dtype, s->x->data, at++);
    return true;
}

static int order_strings(const accelc_str *a, const accelc_str *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int o = n ? memcmp(a->ptr, b->ptr, n) : 0;
    return o ? o : ORDER(a->len, b->len);
}

static int order_slices(const Slices *s, int64_t i, int64_t j)
{
    const accelc_str *text = s->x->data;
    for (int64_t k = 0; s->key && k < s->width; k++) {
        uint64_t a = s->key[i * s->width + k], b = s->key[j * s->width + k];
        if (a != b)
            return ORDER(a, b);
    }
    for (int64_t o = 0; !s->key && o < s->outer; o++)
        for (int64_t k = 0; k < s->inner; k++) {
            int64_t at = o * s->n * s->inner + k;
            int c = order_strings(&text[at + i * s->inner], &text[at + j * s->inner]);
            if (c)
                return c;
        }
    return 0;
}

typedef struct Keyed { uint64_t key; int64_t at; } Keyed;

/* Positions 0 .. n-1 in order of their keys, one each, equal ones in order of position, by the bytes in which keys differ. room: 4 n words. */
static int64_t *order_by_keys(const Slices *s, int64_t *room)
{
    Keyed *from = (Keyed *)room, *to = from + s->n;
    uint64_t differ = 0;
    for (int64_t i = 0; i < s->n; i++) {
        from[i] = (Keyed){s->key[i], i};
        differ |= from[i].key ^ from[0].key;
    }
    for (int shift = 0; shift < 64; shift += 8) {
        int64_t start[256] = {0}, sum = 0;
        if (!(differ >> shift & 255))
            continue;
        for (int64_t i = 0; i < s->n; i++)
            start[from[i].key >> shift & 255]++;
        for (int d = 0; d < 256; d++) {
            int64_t here = start[d];
            start[d] = sum;
            sum += here;
        }
        for (int64_t i = 0; i < s->n; i++)
            to[start[from[i].key >> shift & 255]++] = from[i];
        Keyed *t = from;
        from = to;
        to = t;
    }
    int64_t *at = (int64_t *)to;
    for (int64_t i = 0; i < s->n; i++)
        at[i] = from[i].at;
    return at;
}

/* Positions 0 .. n-1 in order of their slices, equal ones in order of position: merges between two halves of room. */
static int64_t *order_positions(const Slices *s, int64_t *room)
{
    int64_t *from = room, *to = room + s->n;
    for (int64_t i = 0; i < s->n; i++)
        from[i] = i;
    for (int64_t w = 1; w < s->n; w *= 2) {
        for (int64_t lo = 0; lo < s->n; lo += 2 * w) {
            int64_t mid = lo + w < s->n ? lo + w : s->n, hi = mid + w < s->n ? mid + w : s->n, i = lo, j = mid;
            for (int64_t k = lo; k < hi; k++)
                to[k] = i < mid && (j == hi || order_slices(s, from[i], from[j]) <= 0) ? from[i++] : from[j++];
        }
        int64_t *t = from;
        from = to;
        to = t;
    }
    return from;
}

/* (x, axis i64: -1 takes the elements of x, sorted i64) -> (i64[u] where what is different of x is first, i64[n] which of those each
 * is, i64[u] how often it is there). Sorted: ascending, slices by their elements in order; else by the first position. */
CALL_FN(unique)
{
    const rt_value *x = tensor_operand(c, 0, 0);
    int64_t axis, sorted;
    if (!x || !call_int(c, tensor_operand(c, 1, DT_I64), "axis", &axis) || !call_int(c, tensor_operand(c, 2, DT_I64), "sorted", &sorted))
        return false;
    if (axis >= x->rank)
        return call_fail(c, "axis %lld of a tensor of rank %d", (long long)axis, x->rank);
    Slices s = {.x = x, .outer = 1, .n = axis < 0 ? call_count(x) : x->dims[axis], .inner = 1};
    for (int d = 0; d < x->rank && axis >= 0; d++)
        *(d < axis ? &s.outer : &s.inner) *= d == axis ? 1 : x->dims[d];
    int64_t n = s.n, u = 0, *room = call_alloc(c, n, 4 * sizeof *room), *first = call_alloc(c, n, sizeof *first);
    int64_t *rank = call_alloc(c, n, sizeof *rank);
    rt_value *inverse = c->out[1] = call_tensor(c, DT_I64, 1, &n);
    if (!room || !first || !rank || !inverse || !find_keys(c, &s))
        return false;
    const int64_t *at = n > FEW && s.key && s.width == 1 ? order_by_keys(&s, room) : order_positions(&s, room);
    int64_t *group = inverse->data;
    for (int64_t i = 0; i < n; i++) { /* groups in order; the first of a group is its lowest position */
        if (!i || order_slices(&s, at[i - 1], at[i]))
            first[u++] = at[i];
        group[at[i]] = u - 1;
    }
    for (int64_t g = 0; g < u; g++)
        rank[g] = g;
    if (!sorted) { /* by walking all positions, groups are met in order of their first one */
        int64_t next = 0;
        for (int64_t i = 0; i < n; i++)
            if (first[group[i]] == i)
                rank[group[i]] = next++;
    }
    rt_value *where = c->out[0] = call_tensor(c, DT_I64, 1, &u), *count = c->out[2] = call_tensor(c, DT_I64, 1, &u);
    if (!where || !count)
        return false;
    for (int64_t g = 0; g < u; g++)
        ((int64_t *)where->data)[rank[g]] = first[g];
    for (int64_t i = 0; i < n; i++)
        ((int64_t *)count->data)[group[i] = rank[group[i]]]++;
    return true;
}
