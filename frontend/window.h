/* window.h: windows over the spatial axes of an image [N, C, spatial..], for convolutions (op_nn.c) and pooling (op_pool.c). */
#ifndef ACCELC_WINDOW_H
#define ACCELC_WINDOW_H
#include "frontend/import.h"

enum { SPATIAL = 4 };
typedef struct Geo {
    int n;                              /* spatial axes */
    int64_t stride[SPATIAL], dil[SPATIAL];
    Dim size[SPATIAL], ext[SPATIAL];    /* of the kernel; what it covers with dilation */
    Dim in[SPATIAL], out[SPATIAL];
    Dim lo[SPATIAL], hi[SPATIAL];       /* padding, as declared or from auto_pad */
    Dim extra[SPATIAL];                 /* more at the end, from ceil_mode */
} Geo;

/* The attributes strides, dilations, kernel_shape, pads, auto_pad and ceil_mode for image x; kernel: the weight's spatial dims, or NULL
 * (pooling). false after a message. */
bool geo_read(Imp *m, Val x, const Dim *kernel, Geo *g);
/* x with lo and hi elements more (or fewer, if negative) at the ends of its last n axes. */
Val pad_ends(Imp *m, Val x, int n, const Dim *lo, const Dim *hi, Scalar value);
/* The windows of x (padded), whose spatial axes begin at `first`: the axes of a window come last. */
Val geo_windows(Imp *m, Val x, int first, const Geo *g);

/* overlap.c: an axis of an image, of blocks that are `stride` apart over it, the first beginning `pad` pixels before it, and positions in a block
 * `dilation` apart. */
typedef struct Overlap { Dim image, block, count; int64_t stride, dilation, pad; } Overlap;
/* x [N, C * block.., count..] with the positions in blocks and the blocks each as one axis -> [N, C, image..]: sums where blocks overlap. */
Val overlap_sum(Imp *m, Val x, int n, const Overlap *axis);
#endif
