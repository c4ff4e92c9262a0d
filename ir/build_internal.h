/* build_internal.h: what the files of the builder share.
 *
 * Every b_ function: operands that are poison give poison without a message; attributes are copied into the arena;
 * types are inferred (infer.c reports what does not fit); results whose elements are all known become constants. */
#ifndef ACCELC_BUILD_INTERNAL_H
#define ACCELC_BUILD_INTERNAL_H
#include "graph_internal.h"

/* Appends the node. false after a message or for poison, and then the results are poison. */
bool b_emit(B *b, PrimOp op, int nin, const Val *in, const void *attr, int nout, Val *out);
Val b_emit1(B *b, PrimOp op, int nin, const Val *in, const void *attr);
const Dim *b_copy_dims(B *b, const Dim *d, int n);
bool b_same_dims(B *b, const Type *t, int rank, const Dim *dim);
/* Element `flat` (row-major) of a constant or of known elements that are constant. */
bool b_const_elem(B *b, Val v, int64_t flat, Scalar *s);
/* The size of two broadcast dims; guards what cannot be proven. false after a message. */
bool b_bcast_dim(B *b, Dim x, Dim y, Dim *out);
/* Guards that size `from` can be read along an axis of size `to`. */
void b_guard_fits(B *b, Dim from, Dim to, const char *what);
#define BERR(b, code, ...) diag((b)->c, SEV_ERROR, (b)->loc, code, __VA_ARGS__)
#endif
