/* call.h: functions that a model calls for what is not arithmetic on dense numbers: sequences, strings, images.
 *
 * A function is the symbol of a `call` node (ir/IR.md): `call "regex_match"` is call_regex_match below. Attributes of the
 * operator are operands too, constants. Functions are pure: the same operands give the same results, nothing is kept between
 * calls, operands are never written. They run on one thread. Two things call them: the runtime of a compiled model, which
 * links only those that the model names, and the reference evaluator, by the table of call.def.
 *
 * Memory comes from call_alloc alone and lives until the run (of a model, or of the evaluator) ends and its results were
 * taken; it is never freed singly. Results may point into operands. */
#ifndef ACCELC_CALL_H
#define ACCELC_CALL_H
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "accelc_rt.h"

#define CALL_RANK 16

/* A value. An optional is the value it holds, or one of kind ACCELC_ABSENT; an absent operand is NULL. */
typedef struct rt_value rt_value;
struct rt_value {
    uint8_t kind;               /* accelc_kind */
    uint16_t dtype;             /* TENSOR: onnx.TensorProto.DataType; MAP: of the keys */
    int32_t rank;
    int64_t dims[CALL_RANK];
    void *data;                 /* TENSOR: dense, row-major; 4- and 2-bit types have a byte per element; strings are accelc_str */
    rt_value **elem;            /* SEQUENCE: its elements; MAP: elem[0] the keys, a tensor of rank 1; elem[1] the values, likewise,
                                   or a sequence */
    int64_t nelem;
};

typedef struct rt_call {
    int32_t nin, nout;
    const rt_value *const *in;
    rt_value **out;             /* to be set, each to a value of the kind, type and rank that the node declares */
    void *(*alloc)(struct rt_call *c, size_t bytes);
    void *owner;                /* of whoever made the call */
    char error[256];            /* what went wrong, if the function returns false */
} rt_call;
typedef bool (*rt_call_fn)(rt_call *c);

/* Everything here exists under names with the version of the ABI, weak and hidden like the rest of the runtime. */
#define CALL_API __attribute__((weak, visibility("hidden")))
#define CALL_FN(symbol) CALL_API bool accelc_rt1_call_##symbol(rt_call *c)
#define call_fail accelc_rt1_help_fail
#define call_alloc accelc_rt1_help_alloc
#define call_tensor accelc_rt1_help_tensor
#define call_list accelc_rt1_help_list
#define call_count accelc_rt1_help_count
#define call_width accelc_rt1_help_width
#define call_int accelc_rt1_help_int

/* false, and the message */
CALL_API bool call_fail(rt_call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Zeroed memory for n elements of `size` bytes, 64-byte aligned; NULL after a message if there is no room. */
CALL_API void *call_alloc(rt_call *c, int64_t n, size_t size);
/* A new tensor with room for its elements, zeroed; NULL after a message. */
CALL_API rt_value *call_tensor(rt_call *c, int dtype, int rank, const int64_t *dims);
/* A new list of n elements, to be set by the caller. */
CALL_API rt_value *call_list(rt_call *c, accelc_kind kind, int64_t n);
CALL_API int64_t call_count(const rt_value *v);         /* elements of a tensor */
CALL_API size_t call_width(int dtype);                  /* bytes of an element in memory */
/* The only element of an integer tensor (bool included). */
CALL_API bool call_int(rt_call *c, const rt_value *v, const char *what, int64_t *out);
static inline const accelc_str *call_strs(const rt_value *v) { return (const accelc_str *)v->data; }
#endif
