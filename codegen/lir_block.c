/* lir_block.c: what the threads of a block of known size do together (builder). */
#include "lir_internal.h"

void lir_block(Lir *l, uint32_t threads, uint32_t shared) {
    CHECK(!l->threads && threads && threads % LIR_WARP == 0 && threads <= LIR_MOST_THREADS);
    l->threads = threads, l->shared = shared;
}
uint32_t lir_block_threads(const Lir *l) { return l->threads; }
uint32_t lir_shared_bytes(const Lir *l) { return l->shared; }
void lir_resident(Lir *l) {
    CHECK(l->threads);
    l->resident = true;
}
bool lir_is_resident(const Lir *l) { return l->resident; }
void lir_cluster(Lir *l, uint32_t n) {
    CHECK(l->threads % LIR_WARPGROUP == 0 && n >= 1 && n <= LIR_MOST_CLUSTER);
    l->cluster = n;
}
uint32_t lir_cluster_blocks(const Lir *l) { return l->cluster ? l->cluster : 1; }

LVal lir_shared(Lir *l, uint32_t at) {
    LIns i = lir_mk(L_SHARED, DT_PTR, 1);
    i.imm = at;
    CHECK(at <= l->shared);
    return lir_pure(l, i, 0, NULL);
}

LVal lir_lane_xor(Lir *l, LVal v, uint32_t mask) {
    LTy ty = lir_type(l, v);
    LIns i = lir_mk(L_LANE_XOR, ty.dt, 1);
    i.imm = mask;
    CHECK(ty.lanes == 1 && lir_bits((DType)ty.dt) == 32 && mask > 0 && mask < LIR_WARP);
    return lir_append(l, i, 1, &v); /* not numbered: all threads come here, whoever needs it */
}

LVal lir_load_matrix(Lir *l, LVal ptr, LVal at, bool transposed) {
    LAddr a = lir_address(l, ptr, at, DT_NONE);
    LIns i = lir_mk(L_LOAD_MATRIX, DT_I32, 4);
    i.imm = a.disp, i.flags = transposed;
    return lir_append(l, i, 2, (LVal[]){a.ptr, a.idx});
}

LVal lir_mma(Lir *l, DType in, LVal a, LVal b, LVal c) {
    LIns i = lir_mk(L_MMA, lir_type(l, c).dt, 4);
    i.aux = in;
    return lir_append(l, i, 3, (LVal[]){a, b, c});
}

void lir_copy_async(Lir *l, LVal to, LVal to_at, LVal from, LVal from_at, LVal valid, uint32_t size) {
    LAddr x = lir_address(l, to, to_at, DT_NONE), y = lir_address(l, from, from_at, DT_NONE);
    int64_t k;
    CHECK(size == 4 || size == 8 || size == 16);
    CHECK(x.disp > -(1 << 26) && x.disp < 1 << 26);
    if (valid.i && lir_is_const(l, valid, &k) && k == size) valid.i = 0;
    LIns i = {.op = L_COPY_ASYNC, .imm = y.disp, .aux = (uint32_t)(x.disp * (LIR_COPY_SIZE + 1)) | size};
    lir_append(l, i, valid.i ? 5 : 4, (LVal[]){x.ptr, x.idx, y.ptr, y.idx, valid});
}

void lir_copy_commit(Lir *l) { lir_append(l, (LIns){.op = L_COPY_COMMIT}, 0, NULL); }
void lir_copy_wait(Lir *l, uint32_t pending) { lir_append(l, (LIns){.op = L_COPY_WAIT, .imm = pending}, 0, NULL); }
