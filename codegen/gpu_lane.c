/* gpu_lane.c: exchange among the threads of a warp, of scalars of any type. */
#include "emit_internal.h"

LVal emit_lane_xor(Lir *l, LVal v, uint32_t mask) {
    DType t = (DType)lir_type(l, v).dt;
    unsigned bits = dt_bits(t);
    if (t == DT_BOOL) return lir_op2(l, S_NE, lir_lane_xor(l, lir_cast(l, v, DT_I32), mask), lir_int(l, DT_I32, 0));
    if (bits < 32) return lir_cast(l, lir_lane_xor(l, lir_cast(l, v, DT_I32), mask), t);
    if (bits == 32) return lir_lane_xor(l, v, mask);
    LVal all = lir_bitcast(l, v, DT_I64), shift = lir_i64(l, 32), half[2];
    for (int h = 0; h < 2; h++) {
        LVal part = lir_cast(l, h ? lir_op2(l, S_SHR, all, shift) : all, DT_I32);
        half[h] = lir_cast(l, lir_lane_xor(l, part, mask), DT_I64);
    }
    LVal low = lir_op2(l, S_AND, half[0], lir_i64(l, 0xffffffff));
    return lir_bitcast(l, lir_op2(l, S_OR, lir_op2(l, S_SHL, half[1], shift), low), t);
}
