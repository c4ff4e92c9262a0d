/* internal.h: the Ctx, shared by the files of ir/ alone. */
#ifndef ACCELC_IR_INTERNAL_H
#define ACCELC_IR_INTERNAL_H
#include "ir.h"

typedef struct Block Block;
typedef struct Diag { Sev sev; Loc loc; const char *text; } Diag;
struct ExprTable;   /* expr.c */
struct DimTable;    /* dim.c */
typedef struct StrTable { const char **s; uint32_t n, cap; } StrTable;
struct Ctx {
    Block *block;               /* arena: newest block first */
    size_t used, limit;         /* bytes handed out; the most that may be */
    StrTable str;               /* interned strings */
    VEC(LocInfo) loc;           /* [0] nowhere */
    VEC(Diag) diag;
    uint32_t nerrors, nsilent;  /* errors and unsupported so far; messages beyond the limit */
    uint32_t nkept, nwarned;    /* messages kept: errors and unsupported; warnings and notes */
    bool silent;                /* the last message was beyond the limit */
    Loc here;                   /* what is being imported: for messages about dims and expressions, which have no place of their own */
    struct ExprTable *expr;     /* created by expr.c on first use */
    struct DimTable *dim;       /* created by dim.c on first use */
};
#endif
