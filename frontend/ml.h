/* ml.h: what the importers of ai.onnx.ml share (op_ml.c): lists in attributes as constants, rows of features, scores and labels. */
#ifndef ACCELC_FRONTEND_ML_H
#define ACCELC_FRONTEND_ML_H
#include "frontend/import.h"

/* A list of numbers from an attribute: floats, or a tensor of f32 or f64. n 0: absent. */
typedef struct List { int64_t n; const double *v; DType t; } List;
/* Attribute `name`, or `name`_as_tensor if the row has it and the node too. false after a message (both are given, another type). */
bool ml_list(Imp *m, const char *name, List *out);
int64_t ml_count(Imp *m, const char *name);             /* elements of a list attribute of any kind */
Val ml_const(Imp *m, DType t, int rank, const Dim *dim, const double *v); /* t: a float type */
Val ml_const_i32(Imp *m, int rank, const Dim *dim, const int32_t *v);
Val ml_strings(Imp *m, int64_t n, const ProtobufCBinaryData *v);        /* str[n]; copies */
/* The vector in whichever of the attributes is there, ints or strings: i64[n] or str[n]; poison after a message if none. */
Val ml_labels(Imp *m, const char *ints, const char *strings);

/* x as [rows, features]; a vector is one row. Poison after a message for other ranks. */
Val ml_rows(Imp *m, Val x);
/* post_transform (of the node, by name) of scores f32 or f64 [rows, n]: a single column changes by PROBIT only. */
Val ml_post(Imp *m, Val scores, const char *name);
/* Two columns of one score s [rows, 1]: LOGISTIC: sigmoid(-s), sigmoid(s); PROBIT: probit(s), 0; else -s, s if `odd`, or 1 - s, s. */
Val ml_two_columns(Imp *m, Val s, const char *post, bool odd);
/* labels[i] for i64 indices [rows], which are in range */
Val ml_pick(Imp *m, Val labels, Val index);
/* index of the first greatest column, i64[rows] */
Val ml_argmax(Imp *m, Val scores);
#endif
