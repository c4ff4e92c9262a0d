/* const.c: what is known of a constant's elements. */
#include <math.h>

#include "const.h"

bool const_is_finite(const ConstData *d) {
    const float *v = d->data;
    if (d->dtype != DT_F32) return false;
    for (size_t i = 0; i < d->bytes / sizeof *v; i++)
        if (!isfinite(v[i])) return false;
    return true;
}
