/* npy.h: read and write .npy files for accelc-run. Element types are onnx.TensorProto.DataType
 * numbers; types that numpy lacks travel as unsigned integers or void of the same width, and 2- and
 * 4-bit ones as a byte per element. */
#ifndef ACCELC_NPY_H
#define ACCELC_NPY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPY_RANK 32

typedef struct {
    int rank;               /* number of dims */
    int64_t dims[NPY_RANK]; /* >= 0 */
    void *data; /* dense, row-major, native; malloc'd, 64-byte aligned; packed if the type is below
                   a byte */
    size_t bytes; /* size of data */
} Npy;

/* Reads `path` as a tensor of type dtype. False: nothing is allocated, msg says why. */
bool npy_read(const char *path, int dtype, Npy *out, char *msg, size_t msg_bytes);
bool npy_write(const char *path, int dtype, int rank, const int64_t *dims, const void *data,
               char *msg, size_t msg_bytes);
/* Bits of an element as the runtime holds it; 0 for types that have no .npy form. */
int npy_bits(int dtype);
const char *npy_type(int dtype);
#endif
