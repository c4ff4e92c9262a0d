/* llvm_hopper.c: operations of targets with F_WGMMA as instructions of PTX. What products change
 * beside the thread's other work are operands of wait and fence as well, tied to their results:
 * ordinary instructions can neither come before the one nor after the other, and registers stay the
 * same. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "lir_internal.h"
#include "llvm_ptx.h"

typedef LLVMValueRef LV;
enum { MAP_BYTES = 128, TEXT = 4096 };

typedef struct Text {
    char s[TEXT];
    size_t n;
} Text;
static void put(Text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(Text *t, const char *format, ...) {
    va_list a;
    va_start(a, format);
    t->n += (size_t)vsnprintf(t->s + t->n, TEXT - t->n, format, a);
    va_end(a);
    CHECK(t->n < TEXT);
}

static LLVMTypeRef word(const Printer *p) { return LLVMInt32TypeInContext(p->cx); }
static LLVMTypeRef nothing(const Printer *p) { return LLVMVoidTypeInContext(p->cx); }
static LV narrow(const Printer *p, LV v) { return LLVMBuildTrunc(p->b, v, word(p), ""); }
static LV address(const Printer *p, LV ptr) { return llvm_ptx_shared_address(p, ptr); }
static void effect(const Printer *p, const char *text, const char *constraints, unsigned n, LV *a) {
    (void)llvm_ptx_assembly(p, nothing(p), text, constraints, n, a, PTX_EFFECT);
}

/* ---- values that are changed where they are ---- */

typedef struct Registers { /* of values of four lanes */
    LLVMTypeRef type[PTX_OPERANDS];
    LV in[PTX_OPERANDS];
    uint32_t n;
} Registers;

static Registers registers(const Printer *p, uint32_t n, LV *v) {
    Registers r = {.n = 4 * n};
    CHECK(r.n <= PTX_OPERANDS);
    for (uint32_t k = 0; k < r.n; k++) {
        r.in[k] = llvm_ptx_lane(p, v[k / 4], k % 4);
        r.type[k] = LLVMTypeOf(r.in[k]);
    }
    return r;
}

static char class_of(const Printer *p, LLVMTypeRef t) { return t == word(p) ? 'r' : 'f'; }
static void outputs(const Printer *p, Text *t, const Registers *r) {
    for (uint32_t k = 0; k < r->n; k++) put(t, "%s=%c", k ? "," : "", class_of(p, r->type[k]));
}
static void tied(Text *t, const Registers *r) {
    for (uint32_t k = 0; k < r->n; k++) put(t, ",%u", k);
}

/* The results that follow instruction i. */
static void results(Printer *p, const LIns *i, LV of, const Registers *r) {
    for (uint32_t k = 0; k < r->n / 4; k++)
        p->val[(i - p->ins) + 1 + k] = llvm_ptx_four(p, of, 4 * k);
}

static void in_place(Printer *p, const LIns *i, const char *text, LV *v) {
    Registers r = registers(p, i->narg, v);
    Text constraints = {.n = 0};
    if (!r.n) {
        effect(p, text, "~{memory}", 0, NULL);
        return;
    }
    outputs(p, &constraints, &r), tied(&constraints, &r), put(&constraints, ",~{memory}");
    results(p, i,
            llvm_ptx_assembly(p, LLVMStructTypeInContext(p->cx, r.type, r.n, 0), text,
                              constraints.s, r.n, r.in, PTX_WARP | PTX_EFFECT),
            &r);
}

/* ---- products ---- */

/* "Matrix descriptor" of the PTX manual: bits 0 to 13 address / 16; 16 to 29 bytes / 16 to the next
 * panel; 32 to 45 bytes / 16 to the next 8 rows; 62 and 63 the swizzle: 1 is that of 128 bytes. */
static LV descriptor(const Printer *p, LV ptr, int64_t at, uint32_t panel) {
    LLVMTypeRef i64 = LLVMInt64TypeInContext(p->cx);
    uint64_t fixed = (uint64_t)1 << 62 | (uint64_t)(LIR_SWIZZLE / 16) << 32 |
                     (uint64_t)(panel ? panel / 16 : 1) << 16;
    LV low = LLVMBuildAnd(p->b, address(p, ptr), LLVMConstInt(word(p), 0x3ffff, 0), "");
    LV sixteenths =
        LLVMBuildZExt(p->b, LLVMBuildLShr(p->b, low, LLVMConstInt(word(p), 4, 0), ""), i64, "");
    return LLVMBuildAdd(p->b, LLVMBuildOr(p->b, sixteenths, LLVMConstInt(i64, fixed, 0), ""),
                        LLVMConstInt(i64, (uint64_t)(at / 16), 1), "");
}

static void wgmma(Printer *p, const LIns *i, LV *a) {
    static const struct {
        DType in;
        const char *k, *a, *b, *sum;
    } kind[] = {{DT_F16, "k16", "f16", "f16", "f32"},
                {DT_BF16, "k16", "bf16", "bf16", "f32"},
                {DT_F32, "k8", "tf32", "tf32", "f32"},
                {DT_I8, "k32", "s8", "s8", "s32"},
                {DT_U8, "k32", "u8", "s8", "s32"}};
    size_t of = 0;
    while (kind[of].in != i->sop) of++;
    uint32_t values = lir_hopper_values(i), at = values, n = 0;
    bool fragments = i->flags & LIR_A_FRAGMENTS;
    Registers c = registers(p, values, a);
    LV x[PTX_OPERANDS], add = i->flags & LIR_ADD ? a[at + 2] : NULL;
    bool begins = add && LLVMIsConstant(add) && LLVMIsNull(add);
    Text text = {.n = 0}, constraints = {.n = 0};
    outputs(p, &constraints, &c);
    put(&text, "{\n.reg .pred add;\nsetp.ne.b32 add, ");
    if (add && !begins)
        put(&text, "$%u, 0;\n", c.n + (fragments ? 5 : 2));
    else
        put(&text, "%d, 0;\n", !begins);
    put(&text, "wgmma.mma_async.sync.aligned.m64n%u%s.%s.%s.%s {", 2 * c.n, kind[of].k,
        kind[of].sum, kind[of].a, kind[of].b);
    for (uint32_t k = 0; k < c.n; k++) put(&text, "%s$%u", k ? ", " : "", k);
    if (fragments) {
        for (uint32_t k = 0; k < 4; k++) x[n++] = llvm_ptx_lane(p, a[at], k);
        put(&text, "}, {$%u, $%u, $%u, $%u}, ", c.n, c.n + 1, c.n + 2, c.n + 3),
            put(&constraints, ",r,r,r,r");
    } else {
        x[n++] = descriptor(p, a[at], lir_wgmma_a(i), 0);
        put(&text, "}, $%u, ", c.n), put(&constraints, ",l");
    }
    x[n++] = descriptor(p, a[at + 1], lir_wgmma_b(i), i->aux);
    put(&text, "$%u, add", c.n + n - 1), put(&constraints, ",l");
    if (add && !begins) x[n++] = LLVMBuildZExt(p->b, add, word(p), ""), put(&constraints, ",r");
    if (c.type[0] != word(p)) put(&text, ", 1, 1");
    if (i->sop != DT_F32 && c.type[0] != word(p)) {
        if (!fragments) put(&text, ", %d", (i->flags & LIR_A_TURNED) != 0);
        put(&text, ", %d", (i->flags & LIR_B_TURNED) != 0);
    }
    put(&text, ";\n}");
    if (!begins) {
        tied(&constraints, &c);
        for (uint32_t k = 0; k < c.n; k++) x[n++] = c.in[k];
    }
    put(&constraints, ",~{memory}");
    results(p, i,
            llvm_ptx_assembly(p, LLVMStructTypeInContext(p->cx, c.type, c.n, 0), text.s,
                              constraints.s, n, x, PTX_WARP | PTX_EFFECT),
            &c);
}

/* ---- copies ---- */

/* A load: a = to, mbarrier, coordinates; a store: from, coordinates. */
static void tensor(const Printer *p, const LIns *i, LV *a) {
    bool load = i->op == L_TENSOR_LOAD;
    const LMap *m = &lir_maps(p->l)[i->imm];
    uint32_t rank = m->rank, first = load ? 2 : 1, n = 0;
    LV x[4 + LIR_AXES + LIR_WINDOW],
        at = LLVMConstInt(LLVMInt64TypeInContext(p->cx), (uint64_t)i->imm * MAP_BYTES, 0);
    Text text = {.n = 0}, constraints = {.n = 0};
    x[n++] = LLVMBuildGEP2(p->b, LLVMInt8TypeInContext(p->cx), LLVMGetParam(p->fn, 0), &at, 1, "");
    x[n++] = address(p, a[0]);
    put(&text, "cp.async.bulk.tensor.%ud.", rank);
    put(&text, load ? "shared::cluster.global%s.mbarrier::complete_tx::bytes%s [$1], [$0, {" : "global.shared::cta.bulk_group%s%s [$0, {",
        m->windows ? ".im2col" : "", i->flags ? ".multicast::cluster" : "");
    put(&constraints, "l,r");
    for (uint32_t d = 0; d < rank; d++)
        put(&text, d ? ", $%u" : "$%u", n), put(&constraints, ",r"),
            x[n++] = narrow(p, a[first + d]);
    if (load) {
        put(&text, "}], [$%u]", n), put(&constraints, ",r");
        x[n++] = address(p, a[1]);
        for (uint32_t d = rank; d < lir_map_numbers(m); d++) {
            put(&text, d == rank ? ", {$%u" : ", $%u", n), put(&constraints, ",h");
            x[n++] = LLVMBuildTrunc(p->b, a[first + d], LLVMInt16TypeInContext(p->cx), "");
        }
        if (m->windows) put(&text, "}");
        if (i->flags) {
            put(&text, ", $%u", n), put(&constraints, ",h");
            x[n++] = LLVMConstInt(LLVMInt16TypeInContext(p->cx), (1u << lir_cluster_blocks(p->l)) - 1, 0);
        }
        put(&text, ";");
    } else {
        put(&text, "}], [$1];");
    }
    put(&constraints, ",~{memory}");
    effect(p, text.s, constraints.s, n, x);
}

static void mbarrier(const Printer *p, const LIns *i, LV *a) {
    LV x[2] = {address(p, a[0])};
    switch (i->op) {
    case L_MBARRIER_INIT:
        x[1] = LLVMConstInt(word(p), (uint64_t)i->imm, 0);
        effect(p, "mbarrier.init.shared::cta.b64 [$0], $1;", "r,r,~{memory}", 2, x);
        break;
    case L_MBARRIER_ARRIVE:
        effect(p, "mbarrier.arrive.shared::cta.b64 _, [$0];", "r,~{memory}", 1, x);
        break;
    case L_MBARRIER_EXPECT:
        x[1] = narrow(p, a[1]);
        effect(p, "mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], $1;", "r,r,~{memory}", 2, x);
        break;
    case L_MBARRIER_ARRIVE_AT:
        x[1] = narrow(p, a[1]);
        effect(p,
               "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, $0, $1;\n"
               "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}",
               "r,r,~{memory}", 2, x);
        break;
    default:
        x[1] = narrow(p, a[1]);
        effect(p,
               "{\n.reg .pred over;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 over, [$0], "
               "$1;\n@over bra OVER;\nbra WAIT;\nOVER:\n}",
               "r,r,~{memory}", 2, x);
    }
}

LV llvm_hopper_together(Printer *p, const LIns *i, LV *a) {
    Text text = {.n = 0};
    LV x[5];
    switch (i->op) {
    case L_LANE_FIRST:
        x[0] = LLVMBuildBitCast(p->b, a[0], word(p), "");
        return LLVMBuildBitCast(p->b,
                                llvm_ptx_assembly(p, word(p),
                                                  "shfl.sync.idx.b32 $0, $1, 0, 31, -1;", "=r,r", 1,
                                                  x, PTX_WARP),
                                LLVMTypeOf(a[0]), "");
    case L_EXP2:
        return llvm_ptx_assembly(p, LLVMTypeOf(a[0]), "ex2.approx.ftz.f32 $0, $1;", "=f,f", 1, a, PTX_VALUE);
    case L_HALVES:
        put(&text, "cvt.rn.%sx2.f32 $0, $1, $2;", i->aux == DT_F16 ? "f16" : "bf16");
        x[0] = a[1], x[1] = a[0];
        return llvm_ptx_assembly(p, word(p), text.s, "=r,f,f", 2, x, PTX_VALUE);
    case L_STORE_MATRIX:
        put(&text, "stmatrix.sync.aligned.m8n8.x4%s.shared.b16 [$0+%lld], {$1, $2, $3, $4};",
            i->flags ? ".trans" : "", (long long)i->imm);
        x[0] = address(p, a[0]);
        for (unsigned k = 0; k < 4; k++) x[1 + k] = llvm_ptx_lane(p, a[1], k);
        effect(p, text.s, "r,r,r,r,r,~{memory}", 5, x);
        return NULL;
    case L_MBARRIER_INIT:
    case L_MBARRIER_ARRIVE:
    case L_MBARRIER_EXPECT:
    case L_MBARRIER_WAIT:
    case L_MBARRIER_ARRIVE_AT:
        mbarrier(p, i, a);
        return NULL;
    case L_BULK_LOAD:
        x[0] = address(p, a[0]), x[1] = a[1], x[2] = narrow(p, a[3]), x[3] = address(p, a[2]);
        effect(p,
               "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], $2, "
               "[$3];",
               "r,l,r,r,~{memory}", 4, x);
        return NULL;
    case L_TENSOR_LOAD:
    case L_TENSOR_STORE:
        tensor(p, i, a);
        return NULL;
    case L_WGMMA:
        wgmma(p, i, a);
        return NULL;
    case L_WGMMA_FENCE:
        in_place(p, i, "wgmma.fence.sync.aligned;", a);
        return NULL;
    case L_WGMMA_WAIT:
        put(&text, "wgmma.wait_group.sync.aligned %lld;", (long long)i->imm);
        in_place(p, i, text.s, a);
        return NULL;
    case L_BARRIER_SOME:
        put(&text, "bar.%s %lld, %u;", i->flags ? "sync" : "arrive", (long long)i->imm, i->aux);
        break;
    case L_REGISTERS:
        put(&text, "setmaxnreg.%s.sync.aligned.u32 %lld;", i->flags ? "inc" : "dec",
            (long long)i->imm);
        break;
    case L_BULK_WAIT:
        put(&text, "cp.async.bulk.wait_group%s %lld;", i->flags ? ".read" : "", (long long)i->imm);
        break;
    case L_CLUSTER_BARRIER:
        put(&text, "barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;");
        break;
    case L_BULK_COMMIT:
        put(&text, "cp.async.bulk.commit_group;");
        break;
    case L_WGMMA_COMMIT:
        put(&text, "wgmma.commit_group.sync.aligned;");
        break;
    default:
        put(&text, "%s",
            i->op == L_FENCE_ASYNC ? "fence.proxy.async.shared::cta;"
                                   : "fence.mbarrier_init.release.cluster;");
    }
    effect(p, text.s, "~{memory}", 0, NULL);
    return NULL;
}
