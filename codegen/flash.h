/* flash.h: what the templates for attention on GPUs share (ukr_flash.c, ukr_wgflash.c): 64 rows of results in four warps, 16 a warp, whose scores,
 * weights and results are where lir_mma has sums: vector j is of columns 8 j .., of rows lane / 4 and that plus 8. */
#ifndef ACCELC_FLASH_H
#define ACCELC_FLASH_H
#include "attn.h"
#include "gpu_tile.h"

enum { FLASH_ROWS = 64, FLASH_WARP = 32, FLASH_WARPS = 4, FLASH_THREADS = FLASH_WARP * FLASH_WARPS };
enum { FLASH_MOST = 128 /* elements of a query, of a value */ };
enum { FLASH_TALL = 16, FLASH_MATRIX = 8, FLASH_MOST_SCORES = 128 / FLASH_MATRIX, FLASH_MOST_OUT = FLASH_MOST / FLASH_MATRIX };

typedef struct Flash {
    Emit *e;
    Lir *l;
    Attn a;
    DType type;
    int keys, d, v;         /* of a step; of a query, of a value */
    LVal tid, lane, warp, nkeys, nrows, row[2], at[K_AXES], t0; /* tid: of the four warps */
    LVal score;             /* where x is evaluated */
    LVal out;               /* memory for results on their way: flash_out_bytes */
    void (*meet)(const struct Flash *f); /* the four warps */
    /* of `flash` alone */
    bool split;             /* f32 by three products; weights are not by lir_exp2, whose last bits would show */
    GpuTiles query, key, value;
    int64_t slot;           /* bytes of a step's keys and values */
    LVal mem;
} Flash;

typedef struct FlashState {
    LVal m[2], sum[2]; /* of the thread's rows: maximum, and sum of this thread's keys */
    LVal out[FLASH_MOST_OUT];
} FlashState;

static inline int flash_round_up(int n, int by) { return (n + by - 1) / by * by; }
int flash_known(const Kernel *k, int stage, int axis); /* extent in 1..FLASH_MOST, or 0 */
bool flash_fits(const Kernel *k, Attn *a);             /* whether it is attention that may be done so */
DType flash_type(const Attn *a);                       /* the 16-bit type of all operands, or f32 */
Dim flash_rows(const Flash *f);
uint32_t flash_out_bytes(const Flash *f);
/* Everything but memory and parts of the block: sizes, lanes, scores by flash_x. */
void flash_begin(Flash *f);
void flash_thread_rows(Flash *f, LVal q0); /* the rows of a thread, in range; q0: the first of the 64 */
LVal flash_keys_seen(Flash *f, LVal q0, int rows); /* by some of these rows */
/* Scores become weights relative to the maximum so far; what was summed before follows it. */
void flash_soften(Flash *f, LVal *s, FlashState *z);
/* Weights of steps of 16 keys from k on as the first operand, of 16-bit types. */
LVal flash_weights(const Flash *f, const LVal *p, int k);
void flash_start(const Flash *f, FlashState *z);
/* Results divided by the sums, through f->out, which nobody of the four warps uses any more. */
void flash_leave(Flash *f, LVal q0, FlashState *z);
#endif
