/* ukr.h: one declaration per row of ukr.def. */
#ifndef ACCELC_UKR_H
#define ACCELC_UKR_H
#include "kernel.h"
#define UKR(name) extern const Tmpl tmpl_##name;
#include "ukr.def"
#undef UKR
const char *templates_text(Ctx *c);
#endif
