/* object.h: the object that ties a model together: description, plans, kernel tables, thunks. Printed through LLVM. */
#ifndef ACCELC_OBJECT_H
#define ACCELC_OBJECT_H
#include "codegen.h"
#include "link.h"

#define OBJECT_HOST "x86-64" /* the CPU level of what a model for GPUs runs on the host */
bool object_model(Ctx *c, const CodegenOptions *o, const Level *level, uint32_t nlevel, const Weights *w, uint64_t code_bytes,
                  uint64_t digest, bool shared, Blob *out);
const char *weights_symbol(Ctx *c, const CodegenOptions *o);
#endif
