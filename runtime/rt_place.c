/* rt_place.c: from sizes to addresses. The dims program fills `dims`; settle() carries every change
 * into the kernel arguments and gives each buffer without a fixed offset its place. Buffers of one
 * group (all sizes known on entry, or set by the same RT_DIMS step) share one block, packed
 * greedily: largest first, lowest offset that no buffer alive at the same time covers. A placement
 * stays good while nothing outgrows its room, so a session that has seen its largest shapes never
 * places again. */
#include "rt_internal.h"

/* ---- sizes ---- */

static void set_dim(Sess *s, int32_t d, int64_t v) {
    if (s->dims[d] == v) return;
    s->dims[d] = v;
    if (!s->is_dirty[d]) {
        s->is_dirty[d] = 1;
        s->dirty[s->ndirty++] = d;
    }
}

/* floor(a / b); false when it has no value. */
static bool floor_div(int64_t a, int64_t b, int64_t *q) {
    if (b == 0 || (b == -1 && a == INT64_MIN)) return false;
    *q = a / b - (a % b != 0 && (a < 0) != (b < 0));
    return true;
}

static bool eval_dim(const Sess *s, const rt_dimop *o, int64_t *r) {
    const int64_t *d = s->dims;
    int64_t a = o->a >= 0 ? d[o->a] : 0, b = o->b >= 0 ? d[o->b] : 0;
    *r = 0;
    switch (o->op) {
    case RT_DIM_CONST:
        *r = o->imm;
        return true;
    case RT_DIM_ADD:
        return !__builtin_add_overflow(a, b, r);
    case RT_DIM_SUB:
        return !__builtin_sub_overflow(a, b, r);
    case RT_DIM_MUL:
        return !__builtin_mul_overflow(a, b, r);
    case RT_DIM_FLOORDIV:
        return floor_div(a, b, r);
    case RT_DIM_CEILDIV: /* -floor(-a / b) without negating a */
        if (!floor_div(a, b, r)) return false;
        *r += a % b != 0;
        return true;
    case RT_DIM_MOD:
        if (b == 0) return false;
        *r = b == -1 ? 0 : a % b;
        *r += *r != 0 && (*r < 0) != (b < 0) ? b : 0;
        return true;
    case RT_DIM_MIN:
        *r = a < b ? a : b;
        return true;
    case RT_DIM_MAX:
        *r = a > b ? a : b;
        return true;
    case RT_DIM_BCAST:
        *r = a == 1 ? b : a;
        return true;
    case RT_DIM_EQ:
        *r = a == b;
        return true;
    case RT_DIM_LT:
        *r = a < b;
        return true;
    case RT_DIM_SELECT:
        *r = a ? b : d[o->c];
        return true;
    default:
        return false;
    }
}

/* dimops [a, b) in order. ACCELC_ESHAPE at the first that has no value. */
static accelc_status eval_dims(Sess *s, uint32_t a, uint32_t b) {
    static const char *const name[] = {
        "constant", "sum",     "difference", "product",    "quotient",   "quotient", "remainder",
        "minimum",  "maximum", "broadcast",  "comparison", "comparison", "choice"};
    for (uint32_t i = a; i < b; i++) {
        const rt_dimop *o = &s->dimop[i];
        int64_t r;
        if (!eval_dim(s, o, &r))
            return fail(s, ACCELC_ESHAPE,
                        "a size of the model cannot be computed for these inputs: "
                        "%s of %lld and %lld overflows or divides by 0",
                        name[o->op], (long long)(o->a >= 0 ? s->dims[o->a] : 0),
                        (long long)(o->b >= 0 ? s->dims[o->b] : 0));
        set_dim(s, o->dst, r);
    }
    return ACCELC_OK;
}

static accelc_status check_guards(Sess *s, uint32_t a, uint32_t b) {
    for (uint32_t i = a; i < b; i++) {
        const rt_guard *g = &s->guard[i];
        int64_t x = g->a >= 0 ? s->dims[g->a] : 0, y = g->b >= 0 ? s->dims[g->b] : 0;
        bool ok = g->cmp == RT_CMP_EQ      ? x == y
                  : g->cmp == RT_CMP_LE    ? x <= y
                  : g->cmp == RT_CMP_LT    ? x < y
                  : g->cmp == RT_CMP_BCAST ? x == y || x == 1 || y == 1
                                           : g->a < 0 || x != 0;
        if (!ok)
            return g->cmp == RT_CMP_TRUE ? fail(s, ACCELC_EDATA, "%s", s->str + g->msg)
                                         : fail(s, ACCELC_ESHAPE, "%s (got %lld and %lld)",
                                                s->str + g->msg, (long long)x, (long long)y);
    }
    return ACCELC_OK;
}

/* ---- memory ---- */

/* Makes room for `bytes` in block b; the first `keep` bytes survive. The addresses of its buffers
 * are not updated. */
static accelc_status block_need(Sess *s, int32_t b, int64_t bytes, int64_t keep) {
    Block *k = &s->block[b];
    if (bytes <= (int64_t)k->cap || s->dry) return ACCELC_OK;
    if (k->lent)
        return fail(s, ACCELC_ENOMEM,
                    "the arena given to create has %zu usable bytes, %lld are needed", k->cap,
                    (long long)bytes);
    int64_t grown = (int64_t)(k->cap + k->cap / 4), limit = INT64_MAX;
    if (b > 0 && s->cfg.mem_limit) {
        limit = s->cfg.mem_limit > INT64_MAX ? INT64_MAX : (int64_t)s->cfg.mem_limit;
        limit -= s->late_bytes - (int64_t)k->cap;
    }
    if (bytes > limit)
        return fail(s, ACCELC_ENOMEM,
                    "values whose size depends on data need %lld bytes more, over the limit of %zu",
                    (long long)(bytes - (int64_t)k->cap), s->cfg.mem_limit);
    if (grown < bytes || grown > limit) grown = bytes;
    accelc_status idle = s->device && k->p ? s->model->gpu->ops->wait(s) : ACCELC_OK; /* a copy may still read it */
    if (idle != ACCELC_OK) return idle;
    if (keep == 0 && k->p) {
        mem_put(&s->cfg, k->p);
        s->late_bytes -= b > 0 ? (int64_t)k->cap : 0;
        k->p = NULL;
        k->cap = 0;
    }
    char *p = mem_get(&s->cfg, (size_t)grown);
    if (!p)
        return fail(s, ACCELC_ENOMEM, "out of memory: %lld bytes for %s", (long long)grown,
                    b ? "values whose size depends on data" : "the arena");
    if (k->p) {
        memcpy(p, k->p, (size_t)keep < k->cap ? (size_t)keep : k->cap);
        mem_put(&s->cfg, k->p);
    }
    s->late_bytes += b > 0 ? grown - (int64_t)k->cap : 0;
    k->p = p;
    k->cap = (size_t)grown;
    return ACCELC_OK;
}

/* *b: an existing block, or -1 for a new one that is then remembered there. Room for `bytes` in it.
 */
static accelc_status block_new(Sess *s, int32_t *b, int64_t bytes) {
    if (*b < 0)
        *b = (int32_t)s->nblock++; /* the table has an entry for every buffer, input and output that
                                      may come */
    return block_need(s, *b, bytes, 0);
}

/* Bytes that buffer b needs, slack included and rounded; -1: not a possible size. */
static int64_t block_room(Sess *s, int32_t b) {
    int64_t n = buf_bytes(s, b), r;
    if (n < 0 || __builtin_add_overflow(n, s->buf[b].slack, &r) || r > INT64_MAX - RT_ALIGN)
        return -1;
    return n == 0 ? 0 : align_up(r);
}

/* Whether `slack` bytes behind p[bytes] can be read: they lie in the last page of the data. */
static bool tail_is_near(const void *p, int64_t bytes, int64_t slack) {
    if (slack <= 0 || bytes <= 0) return true;
    uintptr_t last = (uintptr_t)p + (uintptr_t)bytes - 1;
    return last / RT_PAGE == (last + (uintptr_t)slack) / RT_PAGE;
}

/* Buffer b is at p now: tells the kernels that use it and the views of it. */
static void set_ptr(Sess *s, int32_t b, void *p) {
    s->ptr[b] = p;
    for (int32_t u = s->buf_use[b]; u < s->buf_use[b + 1]; u++) s->slot[s->use[u]].p = p;
    for (int32_t v = s->child[b]; v >= 0; v = s->sibling[v])
        set_ptr(s, v, (void *)((uintptr_t)p + (uintptr_t)view_offset(s, v)));
}

/* Sets the address of a buffer of ours after its block or its offset changed. */
static void home_changed(Sess *s, int32_t b) {
    if (s->buf[b].kind == RT_BUF_OUTPUT) {
        bind_output(s, s->buf[b].index);
        return;
    }
    char *base = s->block[s->home[b]].p, *p = base ? base + s->at[b] : NULL;
    if (s->ptr[b] != p) set_ptr(s, b, p);
}

/* ---- placing ---- */

static int32_t life_first(const Sess *s, int32_t b) {
    return s->buf[b].kind == RT_BUF_OUTPUT ? 0 : s->buf[b].first;
}

static int32_t life_last(const Sess *s, int32_t b) {
    return s->buf[b].kind == RT_BUF_OUTPUT ? INT32_MAX : s->buf[b].last;
}

/* Packs the n buffers of `list` (room known) from `base` up: fills `at`, returns the end, or -1 if
 * it has no number. `placed` is scratch for n. O(n^2) with a small constant: a few hundred buffers
 * take some ten microseconds. */
static int64_t pack(Sess *s, int32_t *list, int32_t *placed, int32_t n, int64_t base) {
    for (int32_t gap = n / 2; gap > 0;
         gap /= 2) /* shell sort: by room, largest first, then by number */
        for (int32_t i = gap; i < n; i++) {
            int32_t x = list[i], j = i;
            for (; j >= gap && (s->room[list[j - gap]] < s->room[x] ||
                                (s->room[list[j - gap]] == s->room[x] && list[j - gap] > x));
                 j -= gap)
                list[j] = list[j - gap];
            list[j] = x;
        }
    int64_t end = base;
    for (int32_t i = 0; i < n; i++) {
        int32_t b = list[i], first = life_first(s, b), last = life_last(s, b);
        int64_t at = base, room = s->room[b];
        int32_t j = 0;
        for (; j < i; j++) { /* placed ones by offset: find the first gap among those alive at the
                                same time */
            int32_t o = placed[j];
            if (life_last(s, o) < first || life_first(s, o) > last) continue;
            if (s->at[o] - at >= room) break;
            int64_t top = s->at[o] + s->room[o];
            at = top > at ? top : at;
        }
        if (at > INT64_MAX - room) return -1;
        s->at[b] = at;
        end = at + room > end ? at + room : end;
        for (j = i; j > 0 && s->at[placed[j - 1]] > at; j--) placed[j] = placed[j - 1];
        placed[j] = b;
    }
    return end;
}

static accelc_status place_group(Sess *s, int32_t g) {
    int32_t *list = s->order, *placed = s->order + s->nbuf, n = 0;
    int64_t base = g == 0 ? align_up(s->plan->arena) : 0, end = base;
    bool again = false;
    for (int32_t b = 0; b < (int32_t)s->nbuf; b++) {
        if (s->member_of[b] != g) continue;
        int64_t need = block_room(s, b);
        if (need < 0)
            return fail(s, ACCELC_ESHAPE, "a value has the impossible size of %lld bytes",
                        (long long)buf_bytes(s, b));
        again |= need > s->room[b];
        list[n++] = b;
    }
    if (again) {
        for (int pass = 0; pass < 2;
             pass++) { /* room for the largest sizes so far; if that is too much, for these */
            for (int32_t i = 0; i < n; i++) {
                int64_t need = block_room(s, list[i]);
                s->room[list[i]] = pass == 1 || need > s->room[list[i]] ? need : s->room[list[i]];
            }
            end = pack(s, list, placed, n, base);
            if (end >= 0 && (!s->block[g].lent || end <= (int64_t)s->block[g].cap)) break;
        }
    } else
        for (int32_t i = 0; i < n; i++)
            end = s->at[list[i]] + s->room[list[i]] > end ? s->at[list[i]] + s->room[list[i]] : end;
    char *old = s->block[g].p;
    accelc_status st = end < 0
                           ? fail(s, ACCELC_ENOMEM, "the values do not fit into an address space")
                           : block_need(s, g, end, 0);
    if (s->dry) s->block[g].cap = end < 0 ? 0 : (size_t)end; /* what accelc_rt1_sizes asks for */
    if (st != ACCELC_OK || s->dry) {
        for (int32_t i = 0; i < n; i++) s->room[list[i]] = s->at[list[i]] = 0; /* nothing has a place */
        return st;
    }
    if (s->block[g].p != old) {
        for (int32_t b = 0; b < (int32_t)s->nbuf; b++)
            if (s->home[b] == g) home_changed(s, b);
    } else
        for (int32_t i = 0; i < n; i++) home_changed(s, list[i]);
    return ACCELC_OK;
}

/* A buffer with a block of its own, number k. What is in it survives if it is alive at step pc. */
static accelc_status place_single(Sess *s, int32_t k, uint32_t pc) {
    for (int32_t b = 0; b < (int32_t)s->nbuf; b++) {
        if (s->home[b] != k || s->member_of[b] >= 0) continue;
        int64_t need = block_room(s, b);
        if (need < 0)
            return fail(s, ACCELC_ESHAPE, "a value has the impossible size of %lld bytes",
                        (long long)buf_bytes(s, b));
        bool alive = pc > 0 && life_first(s, b) <= (int32_t)pc && (int32_t)pc <= life_last(s, b);
        accelc_status st = ACCELC_OK;
        if (s->device && alive && need > (int64_t)s->block[k].cap) { /* the device's grows, too, without keeping */
            st = s->model->gpu->ops->get(s, b);
            if (st == ACCELC_OK) st = s->model->gpu->ops->wait(s);
            s->valid[b] &= ON_HOST;
        }
        if (st == ACCELC_OK) st = block_need(s, k, need, alive ? s->room[b] : 0);
        if (st != ACCELC_OK) return st;
        s->room[b] = need;
        home_changed(s, b);
    }
    return ACCELC_OK;
}

/* The scratch of all members, if some step needs more than there is. Never while kernels run. */
static accelc_status place_scratch(Sess *s) {
    int64_t each = s->plan->scratch, n = s->team.n ? s->team.n : 1, all;
    for (uint32_t i = 0; i < s->nscratch_dim && s->plan->scratch < 0; i++)
        each = s->dims[s->scratch_dim[i]] > each ? s->dims[s->scratch_dim[i]] : each;
    if (each <= s->scratch_each) return ACCELC_OK;
    if (each > INT64_MAX - 128 || __builtin_mul_overflow((each + 127) & ~(int64_t)127, n, &all))
        return fail(s, ACCELC_ENOMEM, "scratch of %lld bytes for each of %lld threads",
                    (long long)each, (long long)n);
    each = all / n;
    if (!s->dry && (size_t)all > s->scratch.cap) {
        if (!s->scratch.lent) mem_put(&s->cfg, s->scratch.p);
        s->scratch = (Block){.p = mem_get(&s->cfg, (size_t)all), .cap = (size_t)all};
        s->scratch_each = 0;
        if (!s->scratch.p) {
            s->scratch.cap = 0;
            return fail(s, ACCELC_ENOMEM,
                        "out of memory: scratch of %lld bytes for each of %lld threads",
                        (long long)each, (long long)n);
        }
    }
    s->scratch_each = each;
    return ACCELC_OK;
}

/* Carries all changed sizes into slots, places and addresses. pc: the step that is about to run. On
 * failure the session must bind anew (bound = false); groups without a place stay marked. */
static accelc_status settle(Sess *s, uint32_t pc) {
    for (uint32_t i = 0; i < s->ndirty; i++) {
        int32_t d = s->dirty[i];
        s->is_dirty[d] = 0;
        for (int32_t u = s->dim_use[d]; u < s->dim_use[d + 1]; u++) {
            int32_t x = s->use[u], b = ~x;
            if (x >= 0)
                s->slot[x].v = s->dims[d];
            else if (s->buf[b].kind == RT_BUF_VIEW)
                set_ptr(
                    s, b,
                    (void *)((uintptr_t)s->ptr[s->buf[b].index] + (uintptr_t)view_offset(s, b)));
            else
                s->grew[s->home[b]] = 1;
        }
    }
    s->ndirty = 0;
    for (int32_t k = 0; k < (int32_t)s->nblock; k++) {
        if (!s->grew[k]) continue;
        accelc_status st = k < (int32_t)s->ngroup ? place_group(s, k) : place_single(s, k, pc);
        if (st != ACCELC_OK) {
            s->bound = false;
            return st;
        }
        s->grew[k] = 0;
    }
    accelc_status st = place_scratch(s);
    s->bound &= st == ACCELC_OK;
    return st;
}
