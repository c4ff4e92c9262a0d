/* call_internal.h: what the files of call_all.c share. They are one translation unit: all but the functions of call.h is static. */
#ifndef ACCELC_CALL_INTERNAL_H
#define ACCELC_CALL_INTERNAL_H
#include "call.h"

#define CALL(symbol) CALL_FN(symbol);
#include "call.def"
#undef CALL

enum { /* onnx.TensorProto.DataType, as far as functions look at it */
    DT_F32 = 1, DT_U8, DT_I8, DT_U16, DT_I16, DT_I32, DT_I64, DT_STR, DT_BOOL, DT_F16, DT_F64, DT_U32, DT_U64, DT_BF16 = 16
};
#endif
