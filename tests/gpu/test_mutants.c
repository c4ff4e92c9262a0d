/* test_mutants.c: bugs planted in the code of templates for blocks of a GPU, on the emulator. Each mutant is a template's kernel with one instruction
 * changed: a barrier or a copy's end left out, a wait that is too weak, an address that is off. The emulator must tell, or the result must differ, in
 * some order of the threads. A mutant that lives shows an instruction that is not needed here, or a check that is missing. */
#include "emu_child.h"

#include <math.h>

#include "codegen/kernel.h"
#include "codegen/lir_internal.h"
#include "ir/storage.h"

/* ---- what is done to a kernel ---- */

typedef enum {
    NO_BARRIER, NO_WAIT, WEAK_WAIT, NO_COMMIT, NO_ARRIVAL, OTHER_BLOCK, TO_ONE, TO_ALL, NO_FENCE, ALL_VALID, COPY_ELSEWHERE, FEWER_BYTES,
    TURNED, OTHER_ROW, OTHER_LANE,
    OTHER_WORD, BEYOND, MORE_ARRIVALS, FEWER_ARRIVALS, OTHER_AXIS, OTHER_OFFSET, OTHER_MAP, OTHER_BYTES, OTHER_K, OTHER_PANEL,
    KINDS, NOT_SWIZZLED = KINDS, RIGHT
} Kind;
static const char *const kind_name[] = {
    "no barrier", "no wait", "a wait that is too weak", "no commit", "no arrival",
    "an arrival at another block", "a tile to one block", "a tile to all blocks", "no fence", "all bytes of a copy valid", "a copy to another place",
    "half of the bytes of a copy",
    "a matrix turned", "another row of a matrix", "another lane", "another word of shared memory", "shared memory beyond its end",
    "an mbarrier for more arrivals", "an mbarrier for fewer arrivals", "coordinates of a tile exchanged", "offsets of windows exchanged",
    "another map", "other bytes expected", "other k of a product",
    "other panels of a product", "tiles that are not swizzled"};
enum { MOST_OF_A_KIND = 4, SAMPLE = 8 }; /* but for barriers and waits, which all have their turn */
static uint32_t every = SAMPLE;          /* one mutant in so many; 1 with --all, perhaps of one case: --all NUMBER */

static bool shared_place(const Lir *l, LVal p) {
    const LIns *i = &l->ins.v[p.i];
    return i->op == L_SHARED || ((i->op == L_PTR_ADD || i->op == L_PTR_BYTES) && shared_place(l, l->args.v[i->arg]));
}

static bool swapped(LVal *a, LVal *b) {
    LVal was = *a;
    *a = *b, *b = was;
    return true;
}

/* The number that another arrival names. */
static LVal other_block(const Lir *l, LVal v) {
    for (uint32_t k = 1; k < l->ins.n; k++) {
        const LIns *i = &l->ins.v[k];
        if (i->op == L_MBARRIER_ARRIVE_AT && l->args.v[i->arg + 2].i != v.i) return l->args.v[i->arg + 2];
    }
    return (LVal){0};
}

/* Changes the instruction, whose operands are a, so, if that kind of change is one for it. */
static bool change(const Lir *l, LIns *i, LVal *a, Kind kind) {
    LIns nothing = {.op = L_CONST, .ty = {DT_I64, 1}};
    uint32_t size = i->aux & LIR_COPY_SIZE;
    switch (kind) {
    case NO_BARRIER:
        return (i->op == L_BARRIER || i->op == L_BARRIER_SOME || i->op == L_CLUSTER_BARRIER) && (*i = nothing, true);
    case NO_WAIT:
        return (i->op == L_COPY_WAIT || i->op == L_MBARRIER_WAIT || (i->op == L_WGMMA_WAIT && !i->narg)) && (*i = nothing, true);
    case WEAK_WAIT:
        return (i->op == L_COPY_WAIT || i->op == L_WGMMA_WAIT) && (i->imm++, true);
    case NO_COMMIT:
        return (i->op == L_COPY_COMMIT || i->op == L_WGMMA_COMMIT) && (*i = nothing, true);
    case NO_ARRIVAL:
        return (i->op == L_MBARRIER_ARRIVE || i->op == L_MBARRIER_ARRIVE_AT) && (*i = nothing, true);
    case OTHER_BLOCK: /* it is a constant; that of no block is none */
        return i->op == L_MBARRIER_ARRIVE_AT && (a[2] = other_block(l, a[2]), a[2].i);
    case TO_ONE:
        return i->op == L_TENSOR_LOAD && i->flags && (i->flags = 0, true);
    case TO_ALL:
        return i->op == L_TENSOR_LOAD && l->cluster && !i->flags && (i->flags = 1, true);
    case NO_FENCE:
        return (i->op == L_FENCE_MBARRIERS || i->op == L_FENCE_ASYNC) && (*i = nothing, true);
    case MORE_ARRIVALS:
        return i->op == L_MBARRIER_INIT && (i->imm++, true);
    case FEWER_ARRIVALS:
        return i->op == L_MBARRIER_INIT && i->imm > 1 && (i->imm--, true);
    case OTHER_AXIS:
        return i->op == L_TENSOR_LOAD && swapped(&a[4], &a[5]);
    case OTHER_OFFSET:
        if (i->op != L_TENSOR_LOAD || l->map.v[i->imm].rank != 4 || !l->map.v[i->imm].windows) return false;
        return swapped(&a[8], &a[9]);
    case OTHER_MAP:
        return i->op == L_TENSOR_LOAD && l->map.n == 2 && (i->imm ^= 1, true);
    case OTHER_BYTES:
        return i->op == L_MBARRIER_EXPECT && (a[2] = a[1], true);
    case OTHER_K:
        return i->op == L_WGMMA && (i->imm += i->flags & LIR_A_FRAGMENTS ? (int64_t)2048 << 32 : 32, true);
    case OTHER_PANEL:
        return i->op == L_WGMMA && i->flags & LIR_B_TURNED && (i->aux += LIR_SWIZZLE, true);
    case ALL_VALID:
        return i->op == L_COPY_ASYNC && i->narg == 5 && (i->narg = 4, true);
    case COPY_ELSEWHERE:
        return i->op == L_COPY_ASYNC && (i->aux = (uint32_t)((lir_copy_to(i) + size) * (LIR_COPY_SIZE + 1)) | size, true);
    case FEWER_BYTES:
        return i->op == L_COPY_ASYNC && size > 4 && (i->aux -= size / 2, true);
    case TURNED:
        return i->op == L_LOAD_MATRIX && (i->flags ^= 1, true);
    case OTHER_ROW:
        return i->op == L_LOAD_MATRIX && (i->imm += 16, true);
    case OTHER_LANE:
        return i->op == L_LANE_XOR && (i->imm = i->imm == 1 ? 2 : i->imm / 2, true);
    case OTHER_WORD:
        return (i->op == L_LOAD || i->op == L_STORE) && shared_place(l, l->args.v[i->arg]) &&
               (i->imm += i->op == L_LOAD && i->ty.lanes > 1 ? i->ty.lanes : 1, true);
    default:
        return i->op == L_SHARED && (i->imm += l->shared, true);
    }
}

typedef struct Mutant {
    Lir *l;
    Kind kind;
    uint32_t at; /* instruction, or map */
} Mutant;
typedef VEC(Mutant) Mutants;

enum { MOST_OPERANDS = 64 };
static bool changed(const Lir *l, uint32_t at, Kind kind, LIns *i, LVal *a) {
    *i = l->ins.v[at];
    ck_assert_uint_lt(i->narg, MOST_OPERANDS);
    memcpy(a, l->args.v + i->arg, i->narg * sizeof *a);
    return change(l, i, a, kind);
}

static void plant(Ctx *c, const Lir *l, Kind kind, Mutants *out) {
    uint32_t of_kind = 0, skip = 0, seen = 0;
    LVal a[MOST_OPERANDS];
    LIns i;
    for (uint32_t v = 1; v < l->ins.n; v++) of_kind += changed(l, v, kind, &i, a);
    if (kind > NO_FENCE && of_kind > MOST_OF_A_KIND) skip = (of_kind + MOST_OF_A_KIND - 1) / MOST_OF_A_KIND;
    for (uint32_t v = 1; v < l->ins.n; v++) {
        if (!changed(l, v, kind, &i, a) || (skip && seen++ % skip)) continue;
        Mutant m = {ctx_dup(c, l, sizeof *l), kind, v};
        m.l->ins.v = ctx_dup(c, l->ins.v, l->ins.n * sizeof *l->ins.v);
        m.l->ins.v[v] = i;
        m.l->args.v = ctx_dup(c, l->args.v, l->args.n * sizeof *l->args.v);
        memcpy(m.l->args.v + i.arg, a, i.narg * sizeof *a);
        lir_rename(m.l, ctx_printf(c, "mutant%u", out->n));
        if (lir_verify(c, m.l)) vec_push(c, out, m); /* else it is found */
    }
}

/* Copies bring tiles as they lie in memory, while products read them swizzled. */
static void plant_maps(Ctx *c, const Lir *l, Mutants *out) {
    for (uint32_t k = 0; k < l->map.n; k++) {
        if (!l->map.v[k].swizzled) continue;
        Mutant m = {ctx_dup(c, l, sizeof *l), NOT_SWIZZLED, k};
        m.l->map.v = ctx_dup(c, l->map.v, l->map.n * sizeof *l->map.v);
        m.l->map.v[k].swizzled = false;
        lir_rename(m.l, ctx_printf(c, "mutant%u", out->n));
        vec_push(c, out, m);
    }
}

/* ---- a kernel and its operands ---- */

typedef struct Case {
    const char *schedule, *in, *out, *body;
    double tolerance;
    int bits;      /* of random numbers: few make products exact, many make each element count */
    uint32_t live; /* how many may live */
    double turns;  /* of shared memory that it may take, times the least */
} Case;

enum { BUFFER = 1 << 18, MOST_BUFFERS = 8, SCRATCH = 1 << 16, BLOCKS = 2, MOST_WORDS = 96 };
typedef struct Memory {
    uint8_t buffer[MOST_BUFFERS][BUFFER], scratch[BLOCKS * SCRATCH];
    uint32_t status;
} Memory;
static Memory *memory;
static size_t bytes[MOST_BUFFERS];

static bool on_device(const void *p, size_t n) {
    size_t at = (size_t)((const uint8_t *)p - memory->buffer[0]), b = at / BUFFER;
    if (at >= offsetof(Memory, scratch) && at + n <= offsetof(Memory, status)) return true;
    return b < MOST_BUFFERS && at % BUFFER + n <= bytes[b];
}

static double drawn(uint64_t *state, int bits) { /* from -2 to 2 */
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return ldexp((double)(*state >> (64 - bits)), 2 - bits) - 2;
}

typedef struct Job { /* a kernel whose operands are in memory */
    Ctx *c;
    const KernelCode *code;
    Tensor *want;
    int64_t word[MOST_WORDS];
    uint32_t out; /* which buffer has the result */
} Job;

/* What the runtime makes of a map. */
static void put_map(Ctx *c, const LMap *m, const KMap *k, emu_map *out) {
    int64_t none = 0, v, size = lir_bits((DType)m->dt) / 8;
    *out = (emu_map){.is = EMU_IS_MAP, .rank = m->rank, .swizzled = m->swizzled, .windows = m->windows != 0};
    ck_assert(dim_eval(c, k->offset, &none, &v));
    out->base = memory->buffer[k->buf] + v * size;
    for (int a = 0; a < m->rank; a++) {
        out->box[a] = m->box[a];
        ck_assert(dim_eval(c, k->extent[a], &none, &v));
        out->extent[a] = (uint64_t)v;
        ck_assert(dim_eval(c, k->step[a], &none, &v));
        out->step[a] = (uint64_t)(v * size);
    }
    for (int a = 0; m->windows && a < m->rank - 2; a++) {
        ck_assert(dim_eval(c, k->window[a].first, &none, &v));
        out->window[a].first = (int16_t)v;
        ck_assert(dim_eval(c, k->window[a].last, &none, &v));
        out->window[a].end = (int16_t)(v - (int64_t)out->extent[1 + a] + 1);
        out->stride[a] = k->window[a].stride;
    }
}

static Job prepare(Ctx *c, const Case *t) {
    Job j = {.c = c};
    Buf names = {.c = c};
    for (const char *p = strchr(t->in, '%'); p; p = strchr(p + 1, '%')) buf_printf(&names, "%s%.*s", names.n ? ", " : "", (int)strcspn(p, ":"), p);
    const char *n = buf_str(&names);
    Graph *g = graph_parse(c,
                           ctx_printf(c, "graph @t (%s) -> (%%y: %s) {\n  %%y = group \"kernel\" %s : %s (%s) {\n%s\n  }\n  return %%y\n}\n", t->in,
                                      t->out, n, t->out, t->in, t->body),
                           "test.ir");
    ck_assert_msg(g != NULL, "%s", ctx_messages(c));
    Tensor **in = NEWN(c, Tensor *, g->in.n);
    uint64_t state = 1;
    for (uint32_t i = 0; i < g->in.n; i++) {
        const Type *ty = val_type(g, g->in.v[i].val);
        int64_t dim[MAX_RANK];
        for (int d = 0; d < ty->rank; d++) ck_assert(dim_is_const(c, ty->dim[d], &dim[d]));
        in[i] = tensor_new(c, (DType)ty->dtype, ty->rank, dim);
        for (int64_t e = 0; e < tensor_count(in[i]); e++) {
            double v = drawn(&state, t->bits);
            dt_store(in[i]->dtype, in[i]->data, (size_t)e,
                     dt_is_float(in[i]->dtype) ? (Scalar){in[i]->dtype, {.f = v}} : (Scalar){in[i]->dtype, {.i = (int64_t)(v * 8)}});
        }
    }
    EvalOptions eo = {0};
    ck_assert_msg(graph_eval(c, g, (const Tensor *const *)in, &j.want, &eo), "%s", ctx_messages(c));
    const Node *group = NULL;
    for (uint32_t i = 0; i < g->node.n; i++)
        if (g->node.v[i]->op == P_GROUP) group = g->node.v[i];
    Kernel *k = kernel_lower(c, g, group, NEWN(c, Storage, g->val.n));
    bool hopper = !strncmp(t->schedule, "wg", 2);
    j.code = kernel_compile(c, k, target_of_gpus(hopper ? "gpu-emulated-sm_90a" : "gpu-emulated"), t->schedule);
    size_t len = strcspn(t->schedule, " ");
    ck_assert_msg(j.code && !strncmp(j.code->sched.tmpl->name, t->schedule, len), "%s does not take\n%s", t->schedule, t->body);
    ck_assert(j.code->nbuf <= MOST_BUFFERS && j.code->nbuf + j.code->ndim + 4 <= MOST_WORDS);
    int64_t *w = j.word, none = 0, scratch;
    for (uint32_t m = 0; m < lir_nmap(j.code->lir); m++, w += sizeof(emu_map) / sizeof *w)
        put_map(c, &lir_maps(j.code->lir)[m], &j.code->map[m], (emu_map *)(void *)w);
    for (uint32_t b = 0; b < j.code->nbuf; b++) {
        const Tensor *x = j.want;
        for (uint32_t i = 0; i < g->in.n; i++)
            if (graph_resolve(g, g->in.v[i].val).i == j.code->buf[b].i) x = in[i];
        bytes[b] = dt_bytes(x->dtype, tensor_count(x));
        ck_assert_uint_le(bytes[b], BUFFER);
        if (x == j.want)
            j.out = b;
        else
            memcpy(memory->buffer[b], x->data, bytes[b]);
        *w++ = (int64_t)(uintptr_t)memory->buffer[b];
    }
    for (uint32_t i = 0; i < j.code->ndim; i++) ck_assert(dim_eval(c, j.code->dim[i], &none, w++));
    ck_assert(dim_eval(c, j.code->tasks, &none, w++) && dim_eval(c, j.code->scratch, &none, &scratch) && scratch <= SCRATCH);
    *w++ = (int64_t)(uintptr_t)memory->scratch;
    *w++ = SCRATCH;
    *w++ = (int64_t)(uintptr_t)&memory->status;
    return j;
}

static bool run(Job *j, const Mutant *m, emu_kernel *k, const char *seed, bool count) {
    const Lir *l = j->code->lir;
    for (uint32_t i = 0; i < l->map.n; i++) ((emu_map *)(void *)j->word)[i].swizzled = m->l->map.v[i].swizzled;
    uint32_t threads = lir_block_threads(l) ? lir_block_threads(l) : 256;
    memset(memory->buffer[j->out], 0xff, BUFFER);
    memset(memory->scratch, 0xff, sizeof memory->scratch);
    emu_launch e = {lir_name(m->l), k, j->word, BLOCKS, threads, lir_shared_bytes(l), memory->scratch, SCRATCH, true, on_device,
                    lir_cluster_blocks(l)};
    return child_launch(&e, seed, count);
}

static void check_right(const Job *j, const Case *t, const char *seed) {
    for (int64_t i = 0; i < tensor_count(j->want); i++) {
        Scalar w = dt_load(j->want->dtype, j->want->data, (size_t)i), g = dt_load(j->want->dtype, memory->buffer[j->out], (size_t)i);
        bool same = dt_is_float(j->want->dtype) ? fabs(w.f - g.f) <= t->tolerance * fmax(1, fabs(w.f)) : w.i == g.i;
        ck_assert_msg(same, "%s, seed %s: element %lld is %g instead of %g", t->schedule, seed ? seed : "none", (long long)i, g.f, w.f);
    }
}

/* ---- the cases ---- */

#define SOFTMAX(s, t)                                                                                                                                \
    "%0 = reduce.max [1] keep %x : f32" s "\n%1 = map { exp(a - b) } %x, %0 : f32" t "\n%2 = reduce.sum [1] keep %1 : f32" s                         \
    "\n%3 = map { a / b } %1, %2 : f32" t "\nyield %3"
#define ATTENTION                                                                                                                                    \
    "%0 = contract \"abdf,abef->abde\" %q, %k : f32[1,2,70,120]\n%1 = map { a * 0.125 } %0 : f32[1,2,70,120]\n"                                      \
    "%2 = reduce.max [3] keep %1 : f32[1,2,70,1]\n%3 = map { exp(a - b) } %1, %2 : f32[1,2,70,120]\n"                                                \
    "%4 = reduce.sum [3] keep %3 : f32[1,2,70,1]\n%5 = map { a / b } %3, %4 : f32[1,2,70,120]\n"                                                     \
    "%6 = contract \"abde,abeg->abdg\" %5, %v : f32[1,2,70,24]\nyield %6"
#define ATTENTION_HALF                                                                                                                               \
    "%a = map { f32(a) } %q : f32[1,1,270,72]\n%c = map { f32(a) } %k : f32[1,1,270,72]\n%d = map { f32(a) } %v : f32[1,1,270,72]\n"                \
    "%0 = contract \"abdf,abef->abde\" %a, %c : f32[1,1,270,270]\n%1 = map { a * 0.125 } %0 : f32[1,1,270,270]\n"                                  \
    "%2 = reduce.max [3] keep %1 : f32[1,1,270,1]\n%3 = map { exp(a - b) } %1, %2 : f32[1,1,270,270]\n"                                             \
    "%4 = reduce.sum [3] keep %3 : f32[1,1,270,1]\n%5 = map { a / b } %3, %4 : f32[1,1,270,270]\n"                                                  \
    "%6 = contract \"abde,abeg->abdg\" %5, %d : f32[1,1,270,72]\nyield %6"
#define PRODUCT(type, spec) "%0 = contract \"" spec "\" acc f32 %x, %w : " type "[70,136]\n%1 = map { a + b } %0, %b : " type "[70,136]\nyield %1"
#define WINDOWS                                                                                                                                     \
    "%0 = pad lo [0, 1, 1, 0] hi [0, 1, 1, 0] value 0 %x : f16[2,11,14,64]\n"                                                                       \
    "%1 = window axes [1, 2] size [3, 3] stride [1, 2] dilation [1, 1] %0 : f16[2,9,6,64,3,3]\n"                                                    \
    "%2 = permute [0, 1, 2, 4, 5, 3] %1 : f16[2,9,6,3,3,64]\n%3 = contract \"aefhid,chid->aefc\" acc f32 %2, %w : f16[2,9,6,136]\n"                \
    "%4 = map { a + b } %3, %b : f16[2,9,6,136]\nyield %4"
#define WIDE(shape, spec) "%0 = contract \"" spec "\" acc f32 %x, %w : f16" shape "\n%1 = map { a + b } %0, %b : f16" shape "\nyield %1"
/* What lives: barriers after a tile, which matter if the next one has no steps, and in `rows` between what the same threads write and read; copies
 * whose bytes are all valid at these sizes; the end of flash's first group, which may as well be part of the next; a warp's maximum where it is not
 * the row's; turns of wgflash, which only tell when things are done. */
static const Case cases[] = {
    {"gemm rows=64 cols=64", "%x: f32[70,168], %w: f32[168,136], %b: f32[136]", "f32[70,136]", PRODUCT("f32", "qs,sr->qr"), 1e-5, 5, 2, 1.05},
    {"gemm rows=32 cols=64", "%x: f32[168,70], %w: f32[136,168], %b: f32[136]", "f32[70,136]", PRODUCT("f32", "sq,rs->qr"), 1e-5, 5, 2, 1.05},
    {"mma rows=32 cols=64", "%x: f16[70,168], %w: f16[168,136], %b: f16[136]", "f16[70,136]", PRODUCT("f16", "qs,sr->qr"), 1e-3, 5, 1, 1.125},
    {"mma rows=64 cols=64", "%x: f16[168,70], %w: f16[136,168], %b: f16[136]", "f16[70,136]", PRODUCT("f16", "sq,rs->qr"), 1e-3, 5, 2, 1.125},
    {"wgmma rows=128 cols=256", "%x: f16[200,296], %w: f16[264,296], %b: f16[264]", "f16[200,264]", WIDE("[200,264]", "qs,rs->qr"), 1e-3, 5, 0,
     1.125},
    {"wgmma rows=256 cols=128", "%x: f16[296,304], %w: f16[296,136], %b: f16[136]", "f16[304,136]", WIDE("[304,136]", "sq,sr->qr"), 1e-3, 5, 0,
     1.125},
    {"wgmma rows=128 cols=128 cluster=2", "%x: f16[300,136], %w: f16[200,136], %b: f16[200]", "f16[300,200]", WIDE("[300,200]", "qs,rs->qr"), 1e-3, 5,
     0, 1.125},
    {"wgmma rows=64 cols=256 cluster=2", "%x: f16[296,200], %w: f16[296,264], %b: f16[264]", "f16[200,264]", WIDE("[200,264]", "sq,sr->qr"), 1e-3, 5,
     0, 1.125},
    {"wgmma rows=64 cols=128", "%x: f16[2,9,12,64], %w: f16[136,3,3,64], %b: f16[136]", "f16[2,9,6,136]", WINDOWS, 2e-3, 5, 0, 1.125},
    {"gemv rows=2", "%x: f32[2,200], %w: f32[200,136]", "f32[2,136]", "%0 = contract \"qs,sr->qr\" %x, %w : f32[2,136]\nyield %0", 1e-5, 5, 0, 3},
    {"gemv rows=1", "%x: f32[1,200], %w: f32[136,200]", "f32[1,136]", "%0 = contract \"qs,rs->qr\" %x, %w : f32[1,136]\nyield %0", 1e-5, 5, 0, 3},
    {"flash rows=64", "%q: f32[1,2,70,40], %k: f32[1,2,120,40], %v: f32[1,2,120,24]", "f32[1,2,70,24]", ATTENTION, 1e-4, 12, 2, 1.125},
    {"wgflash rows=128", "%q: f16[1,1,270,72], %k: f16[1,1,270,72], %v: f16[1,1,270,72]", "f32[1,1,270,72]", ATTENTION_HALF, 2e-3, 12, 5, 9},
    {"rows", "%x: f32[5,300]", "f32[5,300]", SOFTMAX("[5,1]", "[5,300]"), 1e-5, 24, 1, 1},
    {"rows", "%x: f32[5,5000]", "f32[5,5000]", SOFTMAX("[5,1]", "[5,5000]"), 1e-5, 24, 3, 1},
    {"scan", "%x: f32[3,600]", "f32[3,600]", "%0 = scan.sum axis 1 exclusive %x : f32[3,600]\nyield %0", 1e-5, 5, 0, 1},
    {"turn", "%x: f32[70,150]", "f32[150,70]", "%0 = permute [1, 0] %x : f32[150,70]\n%1 = map { -a } %0 : f32[150,70]\nyield %1", 0, 24, 0, 1},
    {"bitonic", "%x: f32[5,300]", "f32[5,300]", "%0 = sort axis 1 keys 1 stable %x : f32[5,300]\nyield %0", 0, 24, 0, 2},
};
static const char *const seeds[] = {NULL, "1", "2"};
enum { SEEDS = sizeof seeds / sizeof *seeds };

START_TEST(mutants_are_found) {
    const Case *t = &cases[_i];
    Ctx *c = ctx_new();
    memory = shared_memory(sizeof *memory);
    Job j = prepare(c, t);
    lir_rename(j.code->lir, "right");
    Mutants m = {0};
    vec_push(c, &m, (Mutant){.l = j.code->lir, .kind = RIGHT});
    for (int kind = 0; kind < KINDS; kind++) plant(c, j.code->lir, (Kind)kind, &m);
    plant_maps(c, j.code->lir, &m);
    uint32_t kept = 1;
    for (uint32_t k = 1 + (uint32_t)_i % every; k < m.n; k += every) m.v[kept++] = m.v[k];
    m.n = kept;
    Lir **l = NEWN(c, Lir *, m.n);
    for (uint32_t k = 0; k < m.n; k++) {
        l[k] = m.v[k].l;
    }
    void *twins = twins_open(c, m.n, l), *right = malloc(bytes[j.out]);
    for (int s = 0; s < SEEDS; s++) {
        ck_assert_msg(run(&j, &m.v[0], twin_of(c, twins, l[0]), seeds[s], false), "%s", child_text);
        if (!s) memcpy(right, memory->buffer[j.out], bytes[j.out]);
        check_right(&j, t, seeds[s]);
        ck_assert_msg(!memcmp(right, memory->buffer[j.out], bytes[j.out]), "%s: the order of threads matters", t->schedule);
    }
    unsigned long long turns, least;
    ck_assert_msg(run(&j, &m.v[0], twin_of(c, twins, l[0]), NULL, true), "%s", child_text);
    child_total("shared memory, turns", &turns, &least);
    ck_assert_msg((double)turns <= (double)least * t->turns, "%s: %llu turns of shared memory instead of %llu", t->schedule, turns, least);
    uint32_t alive = 0;
    for (uint32_t k = 1; k < m.n; k++) {
        bool found = false;
        for (int s = 0; s < SEEDS && !found; s++)
            found = !run(&j, &m.v[k], twin_of(c, twins, l[k]), seeds[s], false) || memcmp(right, memory->buffer[j.out], bytes[j.out]);
        if (found) continue;
        alive++;
        fprintf(stderr, "%s: %%%u, %s: nobody finds that\n", t->schedule, m.v[k].at, kind_name[m.v[k].kind]);
    }
    if (alive) {
        Buf b = {.c = c};
        lir_print(&b, l[0]);
        if (getenv("ACCELC_TEST_PRINT")) fputs(buf_str(&b), stderr);
    }
    ck_assert_msg(alive <= t->live, "%s: %u of %u mutants live", t->schedule, alive, m.n - 1);
    free(right);
    ctx_free(c);
}
END_TEST

int main(int argc, char **argv) {
    int first = argc > 2 ? atoi(argv[2]) : 0, end = argc > 2 ? first + 1 : (int)(sizeof cases / sizeof *cases);
    if (argc > 1 && !strcmp(argv[1], "--all")) every = 1;
    Suite *s = suite_create("mutants");
    TCase *t = tcase_create("mutants");
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, mutants_are_found, first, end);
    suite_add_tcase(s, t);
    return run_suite(s);
}
