/* tensor.c: TensorProto -> ConstData.
 * Inline raw data, typed data fields, strings, sparse tensors and external files. Every length is
 * checked against the shape before memory is taken for it. Bytes stay where they are (model file or
 * external file, both mapped) if they are aligned; otherwise they are copied once and the pages
 * they came from are given back. */
#include "frontend/internal.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SPARSE_BYTES = 1 << 30, DROP_BYTES = 1 << 20 };

typedef struct ExtFile ExtFile;
struct ExtFile {
    ExtFile *next;
    const char *location;
    const uint8_t *data;
    uint64_t size;
};
/* What messages are about. */
typedef struct Read {
    Model *m;
    Loc loc;
    const char *name;
} Read;

static bool fail(const Read *r, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool fail(const Read *r, const char *code, const char *fmt, ...) {
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    diag(r->m->c, SEV_ERROR, r->loc.i ? r->loc : model_loc(r->m, NULL), code,
         "tensor \"%.200s\": %s", r->name, text);
    return false;
}

/* clang-format off */
static const struct { int32_t onnx; DType t; } dtypes[] = {
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, DT_F32},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT8, DT_U8},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT8, DT_I8},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT16, DT_U16},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT16, DT_I16},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT32, DT_I32},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT64, DT_I64},
    {ONNX__TENSOR_PROTO__DATA_TYPE__STRING, DT_STR},
    {ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, DT_BOOL},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16, DT_F16},
    {ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE, DT_F64},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT32, DT_U32},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT64, DT_U64},
    {ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64, DT_C64},
    {ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX128, DT_C128},
    {ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16, DT_BF16},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E4M3FN, DT_F8E4M3},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E4M3FNUZ, DT_F8E4M3Z},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E5M2, DT_F8E5M2},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E5M2FNUZ, DT_F8E5M2Z},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT4, DT_U4},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT4, DT_I4},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT4E2M1, DT_F4E2M1},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT8E8M0, DT_F8E8M0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT2, DT_U2},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT2, DT_I2},
};
/* clang-format on */
DType dtype_of_onnx(int32_t data_type) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (dtypes[i].onnx == data_type) return dtypes[i].t;
    return DT_NONE;
}

int32_t onnx_of_dtype(DType t) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (dtypes[i].t == t) return dtypes[i].onnx;
    return 0;
}

/* Element type, dims, number of elements and of bytes; refuses what does not fit into 2^62 bytes.
 */
static bool header(const Read *r, int32_t data_type, size_t ndims, const int64_t *dims, Type *type,
                   int64_t *count, size_t *bytes) {
    DType t = dtype_of_onnx(data_type);
    if (t == DT_NONE) return fail(r, "E0110", "element type %d is unknown", data_type);
    if (ndims > MAX_RANK) return fail(r, "E0111", "rank %zu, the limit is %d", ndims, MAX_RANK);
    int64_t n = 1,
            cap = 1; /* cap: product with zeros left out, so that their place does not matter */
    for (size_t i = 0; i < ndims; i++) {
        if (dims[i] < 0)
            return fail(r, "E0112", "dim %zu is negative: %lld", i, (long long)dims[i]);
        if (dims[i] && (__builtin_mul_overflow(cap, dims[i], &cap) || cap > INT64_MAX / 32))
            return fail(r, "E0113", "the number of elements overflows at dim %zu (%lld)", i,
                        (long long)dims[i]);
        n *= dims[i] ? 1 : 0;
    }
    *count = n ? cap : 0;
    *bytes = dt_bytes(t, *count);
    *type = type_consts(r->m->c, t, (int)ndims, dims);
    return true;
}

static bool same_bytes(const uint8_t *p, size_t n, size_t unit) {
    return n > unit && !memcmp(p, p + unit, n - unit);
}

static const ConstData *make(Ctx *c, DType t, int64_t count, const void *data, size_t bytes) {
    ConstData *d = NEW(c, ConstData);
    size_t unit = dt_bits(t) / 8;
    *d = (ConstData){.dtype = t, .count = count, .data = data, .bytes = bytes};
    if (unit && t != DT_STR && same_bytes(data, bytes, unit)) {
        d->splat = true;
        d->data = ctx_dup(c, data, unit);
        d->bytes = unit;
    }
    return d;
}

/* Bytes in the model or in an external file: used in place, or copied and their pages given back.
 */
static const ConstData *adopt(Ctx *c, DType t, int64_t count, const uint8_t *p, size_t n,
                              bool mapped) {
    size_t unit = dt_bits(t) / 8;
    if (t == DT_BOOL) {
        size_t i = 0;
        while (i < n && p[i] <= 1) i++;
        if (i < n) { /* a file may hold any byte; values are 0 and 1 */
            uint8_t *b = ctx_dup(c, p, n);
            for (; i < n; i++) b[i] = b[i] != 0;
            return make(c, t, count, b, n);
        }
    }
    if (!n || unit <= 1 || (uintptr_t)p % unit == 0 || same_bytes(p, n, unit))
        return make(c, t, count, n ? p : (const uint8_t *)"", n);
    const void *copy = ctx_dup(c, p, n);
    if (mapped && n >= DROP_BYTES) {
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        uintptr_t lo = ((uintptr_t)p + page - 1) / page * page,
                  hi = ((uintptr_t)p + n) / page * page;
        if (lo < hi) madvise((void *)lo, hi - lo, MADV_DONTNEED);
    }
    return make(c, t, count, copy, n);
}

/* ---- external data ---- */

static bool entry_number(const Read *r, const char *key, const char *s, uint64_t *v) {
    char *end;
    errno = 0;
    unsigned long long x = strtoull(s, &end, 10);
    if (*s < '0' || *s > '9' || *end || errno || x > INT64_MAX)
        return fail(r, "E0120", "external data: %s \"%.40s\" is not a number", key, s);
    *v = x;
    return true;
}

/* A relative path without "..", whose real place is inside the model's directory. */
static bool resolve(const Read *r, const char *location, char path[PATH_MAX]) {
    if (!*location || *location == '/')
        return fail(r, "E0121", "external data: location \"%.200s\" is not a relative path",
                    location);
    for (const char *s = location; *s;) {
        size_t n = strcspn(s, "/");
        if (n == 2 && s[0] == '.' && s[1] == '.')
            return fail(r, "E0121",
                        "external data: location \"%.200s\" leaves the model's directory",
                        location);
        s += n + (s[n] == '/');
    }
    char dir[PATH_MAX], joined[PATH_MAX];
    int n = snprintf(joined, sizeof joined, "%s/%s", r->m->dir, location);
    if (n < 0 || n >= (int)sizeof joined)
        return fail(r, "E0121", "external data: the path is too long");
    if (!realpath(r->m->dir, dir) || !realpath(joined, path))
        return fail(r, "E0122", "external data: cannot open \"%.200s\": %s", location,
                    strerror(errno));
    size_t k = strcmp(dir, "/") ? strlen(dir) : 0;
    if (strncmp(path, dir, k) || path[k] != '/')
        return fail(r, "E0121", "external data: location \"%.200s\" leaves the model's directory",
                    location);
    return true;
}

static const ExtFile *ext_open(const Read *r, const char *location) {
    Model *m = r->m;
    for (const ExtFile *f = m->ext; f; f = f->next)
        if (!strcmp(f->location, location)) return f;
    char path[PATH_MAX];
    if (!m->dir) {
        fail(r, "E0122", "external data is refused: the model has no directory");
        return NULL;
    }
    if (!resolve(r, location, path)) return NULL;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    const uint8_t *data = NULL;
    if (fd < 0 || fstat(fd, &st)) {
        fail(r, "E0122", "external data: cannot open \"%.200s\": %s", location, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        fail(r, "E0122", "external data: \"%.200s\" is not a regular file", location);
    } else {
        void *p =
            st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : (void *)"";
        if (p == MAP_FAILED)
            fail(r, "E0122", "external data: cannot map \"%.200s\": %s", location, strerror(errno));
        else
            data = p;
    }
    if (fd >= 0) close(fd);
    if (!data) return NULL;
    ExtFile *f = NEW(m->c, ExtFile);
    *f = (ExtFile){m->ext, ctx_str(m->c, location), data, (uint64_t)st.st_size};
    m->ext = f;
    if (m->opt->files)
        vec_push(m->c, &m->opt->files->path, ctx_printf(m->c, "%s/%s", m->dir, location));
    return f;
}

static const ConstData *read_external(const Read *r, const Onnx__TensorProto *t, DType dt,
                                      int64_t count, size_t bytes) {
    const char *location = NULL;
    uint64_t offset = 0, length = bytes;
    for (size_t i = 0; i < t->n_external_data; i++) {
        const char *k = t->external_data[i]->key, *v = t->external_data[i]->value;
        k = k ? k : "";
        v = v ? v : "";
        if (!strcmp(k, "location"))
            location = v;
        else if (!strcmp(k, "offset") ? !entry_number(r, k, v, &offset)
                                      : !strcmp(k, "length") && !entry_number(r, k, v, &length))
            return NULL;
    }
    if (!location) {
        fail(r, "E0120", "external data without a location");
        return NULL;
    }
    if (dt == DT_STR) {
        fail(r, "E0120", "strings cannot be external data");
        return NULL;
    }
    const ExtFile *f = ext_open(r, location);
    if (!f) return NULL;
    if (length != bytes) {
        fail(r, "E0123", "external data has length %llu, its shape needs %zu bytes",
             (unsigned long long)length, bytes);
        return NULL;
    }
    if (offset > f->size || length > f->size - offset) {
        fail(r, "E0123",
             "external data out of range: bytes %llu to %llu of \"%.200s\", which has %llu",
             (unsigned long long)offset, (unsigned long long)(offset + length), location,
             (unsigned long long)f->size);
        return NULL;
    }
    return adopt(r->m->c, dt, count, f->data + offset, bytes, true);
}

/* ---- typed fields ---- */

static bool expect(const Read *r, const char *field, size_t have, size_t want) {
    return have == want ||
           fail(r, "E0114", "%s has %zu elements, its shape needs %zu", field, have, want);
}

static const ConstData *read_strings(const Read *r, const Onnx__TensorProto *t, int64_t count) {
    typedef struct {
        const char *s;
        size_t n;
    } Str;
    _Static_assert(sizeof(Str) == 16, "element of DT_STR");
    if (!expect(r, "string_data", t->n_string_data, (size_t)count)) return NULL;
    Str *s = NEWN(r->m->c, Str, count ? count : 1);
    for (size_t i = 0; i < t->n_string_data; i++)
        s[i] = (Str){(const char *)t->string_data[i].data, t->string_data[i].len};
    return make(r->m->c, DT_STR, count, s, 16 * (size_t)count);
}

/* int32_data holds every type of at most 32 bits but float32 and uint32; 4- and 2-bit types are
 * packed into its bytes. */
static const ConstData *read_int32(const Read *r, const Onnx__TensorProto *t, DType dt,
                                   int64_t count, size_t bytes) {
    size_t unit = dt_bits(dt) < 8 ? 1 : dt_bits(dt) / 8;
    if (!expect(r, "int32_data", t->n_int32_data, bytes / unit)) return NULL;
    uint8_t *p = ctx_alloc(r->m->c, bytes + 1);
    for (size_t i = 0; i < t->n_int32_data; i++) {
        int32_t v = t->int32_data[i];
        if (dt == DT_BOOL) v = v != 0;
        memcpy(p + i * unit, &v, unit); /* little endian: the low bytes */
    }
    return make(r->m->c, dt, count, p, bytes);
}

static const ConstData *read_fields(const Read *r, const Onnx__TensorProto *t, DType dt,
                                    int64_t count, size_t bytes) {
    const void *data;
    if (count && !t->n_float_data && !t->n_int32_data && !t->n_int64_data && !t->n_double_data &&
        !t->n_uint64_data && !t->n_string_data) {
        fail(r, "E0114", "it has no data, its shape needs %zu bytes", bytes);
        return NULL;
    }
    switch (dt) {
    case DT_STR:
        return read_strings(r, t, count);
    case DT_F32:
    case DT_C64:
        data = t->float_data;
        if (!expect(r, "float_data", t->n_float_data, bytes / 4)) return NULL;
        break;
    case DT_F64:
    case DT_C128:
        data = t->double_data;
        if (!expect(r, "double_data", t->n_double_data, bytes / 8)) return NULL;
        break;
    case DT_I64:
        data = t->int64_data;
        if (!expect(r, "int64_data", t->n_int64_data, bytes / 8)) return NULL;
        break;
    case DT_U64:
        data = t->uint64_data;
        if (!expect(r, "uint64_data", t->n_uint64_data, bytes / 8)) return NULL;
        break;
    case DT_U32: {
        if (!expect(r, "uint64_data", t->n_uint64_data, bytes / 4)) return NULL;
        uint32_t *p = NEWN(r->m->c, uint32_t, count ? count : 1);
        for (size_t i = 0; i < t->n_uint64_data; i++) p[i] = (uint32_t)t->uint64_data[i];
        data = p;
        break;
    }
    default:
        return read_int32(r, t, dt, count, bytes);
    }
    return make(r->m->c, dt, count, data ? data : "", bytes);
}

const ConstData *tensor_read(Model *m, const Onnx__TensorProto *t, const char *name, Loc loc,
                             Type *type) {
    Read r = {m, loc, name && *name ? name : t->name && *t->name ? t->name : "(no name)"};
    int64_t count;
    size_t bytes, have;
    const uint8_t *raw;
    if (!header(&r, t->data_type, t->n_dims, t->dims, type, &count, &bytes)) return NULL;
    DType dt = type->dtype;
    if (t->has_data_location && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL)
        return read_external(&r, t, dt, count, bytes);
    if (!wire_payload(m, t, &raw, &have)) return read_fields(&r, t, dt, count, bytes);
    if (dt == DT_STR) {
        fail(&r, "E0114", "strings cannot be raw data");
        return NULL;
    }
    if (have != bytes) {
        fail(&r, "E0114", "raw data has %zu bytes, its shape needs %zu", have, bytes);
        return NULL;
    }
    return adopt(m->c, dt, count, raw, bytes, m->mapped && raw >= m->map && raw < m->map + m->size);
}

/* values[NNZ] at indices, linear [NNZ] or coordinates [NNZ, rank] -> dense. */
const ConstData *tensor_read_sparse(Model *m, const Onnx__SparseTensorProto *s, const char *name,
                                    Loc loc, Type *type) {
    Read r = {m, loc, name};
    if (!s->values || !s->indices) {
        fail(&r, "E0130", "a sparse tensor needs values and indices");
        return NULL;
    }
    Type vt, it;
    const ConstData *v = tensor_read(m, s->values, name, loc, &vt);
    const ConstData *ix = tensor_read(m, s->indices, name, loc, &it);
    int64_t count;
    size_t bytes;
    if (!v || !ix || !header(&r, s->values->data_type, s->n_dims, s->dims, type, &count, &bytes))
        return NULL;
    bool linear = it.rank == 1;
    if (vt.rank != 1 || ix->dtype != DT_I64 || (!linear && it.rank != 2) ||
        ix->count != v->count * (linear ? 1 : (int64_t)s->n_dims) ||
        (!linear && !dim_is(m->c, it.dim[0], v->count))) {
        fail(&r, "E0130", "the indices of a sparse tensor must be int64 [NNZ] or [NNZ, rank]");
        return NULL;
    }
    size_t unit = dt_bits(v->dtype) / 8;
    if (!unit || v->dtype == DT_STR || bytes > MAX_SPARSE_BYTES) {
        fail(&r, "E0131",
             "a sparse tensor of %zu bytes when dense, or of this element type, is not supported",
             bytes);
        return NULL;
    }
    uint8_t *p = ctx_alloc(m->c, bytes + 1);
    for (int64_t i = 0; i < v->count; i++) {
        int64_t at = 0;
        for (int64_t d = 0, k = linear ? 1 : (int64_t)s->n_dims; d < k; d++) {
            int64_t x = dt_load(DT_I64, ix->data, ix->splat ? 0 : i * k + d).i,
                    limit = linear ? count : s->dims[d];
            if (x < 0 || x >= limit) {
                fail(&r, "E0130", "index %lld of a sparse tensor is not in 0..%lld", (long long)x,
                     (long long)limit - 1);
                return NULL;
            }
            at = linear ? x : at * limit + x;
        }
        memcpy(p + (size_t)at * unit, (const uint8_t *)v->data + (v->splat ? 0 : (size_t)i * unit),
               unit);
    }
    return make(m->c, v->dtype, count, p, bytes);
}

const ConstData *tensor_read_init(Model *m, const SrcInit *i, Loc loc, Type *type) {
    return i->dense ? tensor_read(m, i->dense, i->name, loc, type)
                    : tensor_read_sparse(m, i->sparse, i->name, loc, type);
}
