/* const.h: what is known of a constant's elements. */
#ifndef ACCELC_CONST_H
#define ACCELC_CONST_H
#include "ir.h"

bool const_is_finite(const ConstData *d); /* f32 without infinities and NaN */
#endif
