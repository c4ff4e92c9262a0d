/* rt_host.c: functions of the runtime under names that rt_object.c and rt_gpu.c can link with. A model
 * that has neither drops them. */
#include "rt_internal.h"

RT_API void *accelc_rt1_mem_get(const accelc_config *c, size_t bytes) { return mem_get(c, bytes); }
RT_API void accelc_rt1_mem_put(const accelc_config *c, void *p) { mem_put(c, p); }
RT_API int accelc_rt1_dtype_bits(int dtype) { return dtype_bits(dtype); }
RT_API size_t accelc_rt1_dtype_align(int dtype) { return dtype_align(dtype); }
RT_API const char *accelc_rt1_dtype_name(int dtype) { return dtype_name(dtype); }

RT_API void accelc_rt1_bits_unpack(const uint8_t *from, uint8_t *to, int64_t n, int dtype) {
    bits_unpack(from, to, n, dtype);
}

RT_API void accelc_rt1_bits_pack(const uint8_t *from, uint8_t *to, int64_t n, int dtype) {
    bits_pack(from, to, n, dtype);
}

RT_API accelc_status accelc_rt1_shape_bytes(Sess *s, const char *what, const char *name,
                                            const int64_t *dims, int rank, int dtype,
                                            size_t *bytes) {
    return shape_bytes(s, what, name, dims, rank, dtype, bytes);
}

RT_API void accelc_rt1_set_ptr(Sess *s, int32_t b, void *p) { set_ptr(s, b, p); }

RT_API accelc_status accelc_rt1_block_new(Sess *s, int32_t *b, int64_t bytes) {
    return block_new(s, b, bytes);
}

RT_API bool accelc_rt1_tail_is_near(const void *p, int64_t bytes, int64_t slack) {
    return tail_is_near(p, bytes, slack);
}

RT_API accelc_status accelc_rt1_kernel_failed(Sess *s, const rt_step *st, int32_t code) {
    return kernel_failed(s, st, code);
}

RT_API accelc_status accelc_rt1_set_dims(Sess *s, const int64_t *dims) {
    for (uint32_t d = 0; d < s->plan->ndim; d++) set_dim(s, (int32_t)d, dims[d]);
    return settle(s, s->nstep);
}
