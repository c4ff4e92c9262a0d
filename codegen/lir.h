/* lir.h: Lir, the code IR. Structured SSA over scalars and vectors; the only thing templates emit, and the only thing
 * the printers (LLVM IR, text) and the interpreter see. A Lir is one kernel with the signature of rt_kernel (runtime/abi.h).
 *
 * The builder folds constants, numbers pure values (scoped by region), and lets constants float outward in i64 index
 * arithmetic: mul(add(x, 3), 8) becomes add(mul(x, 8), 24), add(add(x, 3), y) becomes add(add(x, y), 3), so that the
 * address parts shared by the elements of a tile are computed once and the rest becomes displacements of loads.
 * Every operation is whitelisted in lir.def; scalar operations that need an expansion (exp, integer division, NaN rules)
 * never reach Lir: math.h expands them. */
#ifndef ACCELC_LIR_H
#define ACCELC_LIR_H
#include "ir/ir.h"

typedef struct Lir Lir;
typedef struct { uint32_t i; } LVal;                   /* 0 = none */
typedef struct { uint8_t dt; uint16_t lanes; } LTy;    /* DType (DT_PTR allowed) and number of lanes; DT_BOOL is i1 / a mask */

Lir *lir_new(Ctx *c, const char *name, uint32_t nbuf, uint32_t ndim);
const char *lir_name(const Lir *l);
void lir_rename(Lir *l, const char *name);
/* Parameters. */
LVal lir_buf(Lir *l, uint32_t k);          /* pointer to buffer k; buffers do not alias unless lir_alias says so */
void lir_alias(Lir *l, uint32_t a, uint32_t b);
LVal lir_dim(Lir *l, uint32_t k);          /* i64 size argument k */
LVal lir_t0(Lir *l);
LVal lir_t1(Lir *l);
LVal lir_tstep(Lir *l);                    /* i64: tasks t0, t0 + tstep, .. below t1 are to be run; 1 on CPUs */
/* A kernel that uses these is run by all threads of a block together: tid (from 0) and ntid are i64, 0 and 1 on CPUs; tasks and scratch
 * are the block's. Every thread comes to every barrier, and none leaves by lir_fail_if. */
LVal lir_tid(Lir *l);
LVal lir_ntid(Lir *l);
void lir_barrier(Lir *l);
LVal lir_scratch(Lir *l);                  /* pointer, 64-byte aligned, private to the thread */
/* The kernel is run by blocks of exactly `threads` threads (a multiple of 32, at most 1024), which have `shared` bytes of memory together.
 * As with tid, tasks and scratch are the block's, and every thread comes to every barrier. Called once; what follows is of such
 * kernels alone. Their vectors are of 2, 4 or 8 lanes, and only scalars are loaded or stored under a mask. */
void lir_block(Lir *l, uint32_t threads, uint32_t shared);
void lir_cluster(Lir *l, uint32_t n);
    /* of such a kernel: n blocks (1 to 8), those with numbers from a multiple of n on, run at the same time and reach each other's shared memory */
void lir_resident(Lir *l); /* of such a kernel: the grid is one block for each multiprocessor at most, and blocks go from task to task */
LVal lir_shared(Lir *l, uint32_t at);
    /* pointer to byte `at` of that memory, which begins at a multiple of 1024. It and what ptr_add and ptr_bytes make of it are for load, store,
       copy_async (to) and load_matrix alone: not selected, carried or mixed with others */
/* Of the threads of a warp (32 in a row) together: all come to the same of these at the same time. */
LVal lir_lane_xor(Lir *l, LVal v, uint32_t mask); /* the 32-bit scalar v of the thread whose number differs in the bits of mask (1..31) */
LVal lir_load_matrix(Lir *l, LVal ptr, LVal at, bool transposed);
    /* four 8 x 8 matrices of 16-bit elements in shared memory: thread t names the 16 bytes at ptr + at (bytes, a multiple of 16) of row t % 8 of
       matrix t / 8. i32x4: of each matrix, elements t % 4 * 2 and the next of row t / 4 (transposed: of that column) */
LVal lir_mma(Lir *l, DType in, LVal a, LVal b, LVal c);
    /* c + a b; a i32x4, b i32x2, fragments as in the PTX manual. f16, bf16: m16n8k16, f32: m16n8k8, of a and b rounded to tf32; c f32x4. i8:
       m16n8k32, u8: the same with u8 in a and i8 in b; c i32x4 */
/* Copies of `size` (4, 8, 16) bytes from the device's memory into shared memory, beside the thread's other work: from + from_at to to + to_at, both
 * in bytes, multiples of size in the end. valid (i64, 0..size; none: size): bytes that are read; zeros are written for the others. A group is what
 * the thread has begun since the one before. When the wait is over, the thread sees what its groups brought, but for the newest `pending`; others see
 * it after a barrier behind that. */
void lir_copy_async(Lir *l, LVal to, LVal to_at, LVal from, LVal from_at, LVal valid, uint32_t size);
void lir_copy_commit(Lir *l);              /* ends a group */
void lir_copy_wait(Lir *l, uint32_t pending);

/* ---- what follows is of targets with F_WGMMA alone; lir_hopper.c ----
 *
 * Parts of a block may go ways of their own. Then operations of a warp (above, and lane_first and store_matrix) have all threads of the warp, those
 * of a warpgroup (128 threads, from a multiple of 128; registers, wgmma and what belongs to it) all threads of the warpgroup, and barrier all
 * threads of the block, each at the same instruction of the same round; barrier_some has as many as it says, of whole warps. Everything else here is
 * for any thread: one thread does it for all. Who waits for threads that do not come waits for ever. */
LVal lir_lane_first(Lir *l, LVal v);
    /* the 32-bit scalar v of the warp's first thread. Where all have the same, machines know that from then on: which part of the block a thread
       belongs to, and what addresses of matrices depend on, should come from it */
LVal lir_halves(Lir *l, DType t, LVal low, LVal high); /* two f32, rounded to f16 or bf16, as the halves of an i32 */
LVal lir_exp2(Lir *l, LVal v); /* 2^v of an f32, within 2 ulp, subnormal results 0: what the machine has an instruction for */
void lir_store_matrix(Lir *l, LVal ptr, LVal at, LVal v, bool transposed); /* i32x4 to where load_matrix would load it from */
/* The threads of some warps meet: `threads` of them (a multiple of 32), at barrier `id` (1 to 15; 0 is lir_barrier). Who arrives does not wait; what
 * it has stored before is seen by those that wait. */
void lir_barrier_some(Lir *l, uint32_t id, uint32_t threads);
void lir_barrier_arrive(Lir *l, uint32_t id, uint32_t threads);
/* From here on each thread of the warpgroup may use n registers (24 to 240, a multiple of 8), which is more, or less, than before. A block has what
 * its threads began with, for all: who needs more waits until others have given it back. */
void lir_registers(Lir *l, uint32_t n, bool more);
/* An mbarrier is 8 bytes of shared memory, at a multiple of 8, for nothing else. It counts phases, from 0. A phase is over when `arrivals` threads
 * have arrived in it and all bytes that were expected in it have come. wait(parity): until the phase that is going on has another parity, so that a
 * wait for the parity of the phase before comes back at once (as does one for 1 on a new mbarrier). Who comes back sees what those that arrived had
 * stored, and the bytes. Arrivals of later phases must not overtake: a thread arrives for the next phase when it knows that this is over. After
 * init: fence_mbarriers by the same thread, then a barrier before others use them. expect: arrives, and adds to the bytes of this phase. */
void lir_mbarrier_init(Lir *l, LVal ptr, LVal at, uint32_t arrivals);
void lir_fence_mbarriers(Lir *l);
void lir_mbarrier_arrive(Lir *l, LVal ptr, LVal at);
void lir_mbarrier_expect(Lir *l, LVal ptr, LVal at, LVal bytes);  /* i64 */
void lir_mbarrier_wait(Lir *l, LVal ptr, LVal at, LVal parity);   /* i64, 0 or 1 */
/* Clusters. cluster_barrier: all threads of all its blocks come here, and see what the others have stored; what mbarriers a block has, others use
 * after one, and a block that others reach ends after one. arrive_at: at the mbarrier in the same place of block `rank` (i64) of the cluster. */
void lir_cluster_barrier(Lir *l);
void lir_mbarrier_arrive_at(Lir *l, LVal ptr, LVal at, LVal rank);
/* What copies and products read of shared memory, they read beside the thread's ordinary work: of what a thread has stored, they see what it stored
 * before its fence_async, if whoever starts them has met it (by a barrier) after that. They need no fence to overwrite what has been loaded, but
 * whoever starts them must know that it has been: by a barrier or an mbarrier. */
void lir_fence_async(Lir *l);
/* `bytes` (i64, a multiple of 16) from the device's memory into shared memory, both at multiples of 16; they count for the mbarrier. */
void lir_bulk_load(Lir *l, LVal to, LVal to_at, LVal from, LVal from_at, LVal bytes, LVal mbarrier, LVal mbarrier_at);
/* Tiles of a tensor in the device's memory. A map tells what a tile is; which tensor it is of, KernelCode.map[k] (kernel.h) tells for map k. Axis 0
 * is the one whose elements lie side by side. Coordinates (i64) are those of the tile's first element. What lies outside of the tensor is loaded as
 * zeros, which count as bytes as well, and is not stored. In shared memory a tile is dense, axis 0 innermost, and begins at a multiple of 128.
 * SWIZZLED: axis 0 of the tile has 128 bytes, the tile begins at a multiple of 1024, and the 16 bytes with number c of row r (of 128 bytes) lie at c
 * ^ (r & 7).
 * WINDOWS: of 3 to 5 axes; a tile is of box[1] points, one after the other, box[0] elements along axis 0 each; it can only be loaded. Each point has
 * coordinates along the axes from 1 on, the first one those that the tile is loaded from. Axes between the first and the last are those of a
 * window: the next point is a step of axis 1 further on (KMap tells how far that is); beyond the axis' last point it is at its first one again, and a
 * step of the next axis further on, and so on. So rows of a convolution, which are one row of indices, may begin anywhere. After the coordinates come
 * the window's offsets, one for each of its axes, not negative: they are added to the coordinates of all points. */
enum { LIR_AXES = 5, LIR_WINDOW = LIR_AXES - 2, LIR_MOST_BOX = 256, LIR_SWIZZLE_ROW = 128, LIR_SWIZZLE = 1024 };
typedef struct LMap {
    uint16_t dt;
    uint8_t rank, swizzled;
    uint16_t box[LIR_AXES], windows; /* box: elements of a tile, 1 to 256 per axis, of axis 0 a multiple of 16 bytes; 0 beyond its own axes */
} LMap;
uint32_t lir_map(Lir *l, LMap m);          /* its number: they count from 0 */
uint32_t lir_map_bytes(const LMap *m);     /* of a tile */
static inline uint32_t lir_map_numbers(const LMap *m) { return m->windows ? 2u * m->rank - 2u : m->rank; } /* coordinates and offsets of a load */
void lir_tensor_load(Lir *l, LVal to, LVal to_at, uint32_t map, const LVal *at, LVal mbarrier, LVal mbarrier_at);
/* The same, to every block of the cluster: into the same place, for the mbarrier in the same place. */
void lir_tensor_load_all(Lir *l, LVal to, LVal to_at, uint32_t map, const LVal *at, LVal mbarrier, LVal mbarrier_at);
/* Stores in groups of the thread that begins them, as copy_async has them. Wait: until all groups but the newest `pending` are over; `read`: until
 * shared memory may be written again. Others see what was stored when the kernel is over. A thread waits for its groups before it ends. */
void lir_tensor_store(Lir *l, LVal from, LVal from_at, uint32_t map, const LVal *at);
void lir_bulk_commit(Lir *l);
void lir_bulk_wait(Lir *l, uint32_t pending, bool read);
/* c + a b by a warpgroup, c 64 x n: c[j] (f32x4, i32x4 for integers) is columns 8 j .. 8 j + 7, as lir_mma has it, of rows 16 w .. 16 w + 15, w the
 * thread's warp in the warpgroup. a is 64 x k, b k x n, where k is 32 bytes of elements. In shared memory they are rows of 128 bytes, swizzled as
 * above, one behind the other from a multiple of 1024: rows of a are rows, columns of b are rows, of which a product takes 32 bytes, from ptr + at
 * (the next 32 at at + 32). TURNED (f16, bf16): rows are k's, with 64 rows of a or columns of b each; a product takes 16 of them, the next 2048
 * bytes further on; b with more columns has panels of 64 columns, b_panel bytes (a multiple of 1024) apart. Of f32, the bits that tf32 does not have
 * are ignored. i8: both are i8; u8: a is u8, b is i8.
 *
 * Products go on beside the thread's other work: in groups, as copy_async has them, in order. Until a wait has been told c, and its group is over, c
 * is UNDER WAY: it may be c of other products of its shape, carried, told to wait or fence, and nothing else; a and b must stay as they are. What a
 * thread's ordinary operations have made of c or of fragments of a must go through a fence before a product takes it, and a fence comes before the
 * first product after any of those. */
typedef struct LProduct {
    DType in;                /* f16, bf16, f32, i8, u8 */
    LVal a, a_at, b, b_at;   /* places; or a_at is none, and a is i32x4, fragments of rows 16 w .. as lir_mma has them */
    bool a_turned, b_turned; /* fragments are not turned */
    uint32_t b_panel;
    LVal add;                /* scalar bool: whether c is added, or is not looked at; none: it is added */
} LProduct;
void lir_wgmma(Lir *l, const LProduct *p, uint32_t n, LVal *c);
    /* n: 8 to 256, a multiple of 8 (of integers: 8, 24 and multiples of 16); c[n / 8] become the sums */
void lir_wgmma_fence(Lir *l, uint32_t n, LVal *v);
    /* v[n] become what products may take; these come next, as ptxas adds a fence where a loop (a wait for an mbarrier) is between */
void lir_wgmma_commit(Lir *l);
void lir_wgmma_wait(Lir *l, uint32_t pending, uint32_t n, LVal *v);
    /* all groups but the newest `pending` are over; v[n], c of those, become what anybody may take */
/* Constants. */
LVal lir_i64(Lir *l, int64_t v);
LVal lir_int(Lir *l, DType t, int64_t v);
LVal lir_float(Lir *l, DType t, double v);
LVal lir_bool(Lir *l, bool v);
LVal lir_iota(Lir *l, DType t, uint16_t lanes);         /* {0, 1, ..} of an integer type */
LVal lir_table(Lir *l, DType t, uint16_t lanes, const Scalar *v); /* constant vector */
LTy lir_type(const Lir *l, LVal v);
bool lir_is_const(const Lir *l, LVal v, int64_t *out);  /* scalar integer constant */
bool lir_all_const(const Lir *l, LVal v, int64_t *out); /* integer constant, in any number of lanes */
/* Arithmetic: both operands of one type (a scalar operand is splatted if the other is a vector). Integers wrap; DIV, REM,
 * FDIV, MOD only on i64/i32 with a divisor known to be nonzero (index arithmetic); shifts in range only. Floats: f32, f64
 * (others only in load/store/cast). Whitelisted SOps: ADD SUB MUL DIV REM FDIV MOD NEG ABS FLOOR CEIL TRUNC RINT SQRT FMA EQ..GE AND OR XOR NOT SHL
 * SHR SELECT; MIN and MAX here mean `a < b ? a : b`, `a > b ? a : b` (b if unordered: one instruction on x86). */
LVal lir_op1(Lir *l, SOp op, LVal a);
LVal lir_op2(Lir *l, SOp op, LVal a, LVal b);
LVal lir_op3(Lir *l, SOp op, LVal a, LVal b, LVal c);
static inline LVal lir_add(Lir *l, LVal a, LVal b) { return lir_op2(l, S_ADD, a, b); }
static inline LVal lir_sub(Lir *l, LVal a, LVal b) { return lir_op2(l, S_SUB, a, b); }
static inline LVal lir_mul(Lir *l, LVal a, LVal b) { return lir_op2(l, S_MUL, a, b); }
LVal lir_addi(Lir *l, LVal a, int64_t b);
LVal lir_muli(Lir *l, LVal a, int64_t b);
static inline LVal lir_divi(Lir *l, LVal a, int64_t b) { return lir_op2(l, S_DIV, a, lir_i64(l, b)); }
static inline LVal lir_remi(Lir *l, LVal a, int64_t b) { return lir_op2(l, S_REM, a, lir_i64(l, b)); }
LVal lir_shru(Lir *l, LVal a, LVal b);     /* logical shift right */
LVal lir_ltu(Lir *l, LVal a, LVal b);      /* unsigned less-than: bounds checks */
LVal lir_fma(Lir *l, LVal a, LVal b, LVal c);
LVal lir_cast(Lir *l, LVal v, DType to);   /* int<->int (sign from source type), int->float, float<->float, float->int only in range;
                                              bool -> 0/1; f16/bf16 <-> f32 */
LVal lir_bitcast(Lir *l, LVal v, DType to);/* same width per lane */
LVal lir_splat(Lir *l, LVal s, uint16_t lanes);         /* identity if already that many lanes */
LVal lir_extract(Lir *l, LVal v, uint16_t lane);
LVal lir_insert(Lir *l, LVal v, uint16_t lane, LVal s);
LVal lir_shuffle(Lir *l, LVal a, LVal b, uint16_t lanes, const int16_t *idx); /* idx into a ++ b; -1 undefined */
void lir_transpose(Lir *l, LVal *v, uint16_t n);        /* n vectors of n lanes (a power of two, at most 64): v[j][i] = v[i][j] */
LVal lir_permute_var(Lir *l, LVal table, LVal idx);     /* table[idx & (lanes-1)]: of f32 by i32 (vpermps), u16 by u16, u8 by u8 */
LVal lir_hreduce(Lir *l, SOp op, LVal v);               /* ADD MUL MIN MAX AND OR: fixed tree, halves first: v[i] op v[i+n/2] ... */
LVal lir_mask(Lir *l, LVal n, uint16_t lanes);          /* lane i active iff i < n (n i64) */
LVal lir_any(Lir *l, LVal mask);                        /* scalar bool: any lane set */
LVal lir_streq(Lir *l, LVal a, LVal b);                 /* strings: equal bytes */
LVal lir_dot4(Lir *l, LVal acc, LVal u8x4, LVal s8x4);  /* i32 lanes += dot of 4 u8 (packed in i32 lanes) and 4 s8: vpdpbusd semantics, exact */
/* The same in parts. Each i32 lane of a pair is two i16; both get the sum of two of the products, which saturates, and saturating (vpmaddubsw,
 * vpaddsw). lir_add_pair: i32 lanes += both of a pair. */
LVal lir_pairs(Lir *l, LVal pair, LVal u8x4, LVal s8x4);
LVal lir_add_pair(Lir *l, LVal acc, LVal pair);
LVal lir_scalef(Lir *l, LVal x, LVal n);                /* x * 2^n for float n integral-valued, with overflow to inf and gradual underflow */
/* Memory. Address = ptr + (idx + disp) * size of element, idx i64; bool in memory is a byte 0/1 (converted to/from masks).
 * With `mask` (or none) inactive lanes read as 0 / are not written. align: bytes known (0: element size). */
LVal lir_load(Lir *l, LVal ptr, LVal idx, LTy ty, LVal mask, uint32_t align);
void lir_store(Lir *l, LVal ptr, LVal idx, LVal v, LVal mask, uint32_t align);
LVal lir_gather(Lir *l, LVal ptr, LVal idx /* i64 or i32 vector */, DType t, LVal mask);
void lir_scatter(Lir *l, LVal ptr, LVal idx, LVal v, LVal mask); /* lanes in order: a later lane wins */
void lir_volatile_next(Lir *l);            /* the next load must stay a separate load (keeps splats of overlapping loads unmerged) */
void lir_stream_next(Lir *l);              /* the next store, if of whole lines without a mask, need not stay in caches */
LVal lir_ptr_add(Lir *l, LVal ptr, LVal idx, DType elem); /* ptr + idx * size */
LVal lir_ptr_bytes(Lir *l, LVal ptr, LVal bytes);
void lir_prefetch(Lir *l, LVal ptr, LVal idx, DType elem, int level); /* 1: L1, 2: L2, 3: L3 */
/* Matrix tiles (levels with F_AMX): between lir_tiles and lir_tiles_end, tiles 0 to 5 have `rows` (i64, 1 to 16) rows of 64 bytes,
 * tiles 6 and 7 have 16. Row r of a sum gains, in its i32 lane n, the products of 4 u8 of row r with 4 s8 at lane n of row q, over all q:
 * what lir_dot4 does for 16 quads. Exact, wrapping. */
void lir_tiles(Lir *l, LVal rows);
void lir_tiles_end(Lir *l);
void lir_tile_zero(Lir *l, int tile);
void lir_tile_load(Lir *l, int tile, LVal ptr, LVal idx, LVal pitch);  /* bytes */
void lir_tile_store(Lir *l, int tile, LVal ptr, LVal idx, LVal pitch);
void lir_tile_dot4(Lir *l, int sum, int u8, int s8);
/* Structure. for iv in [lo, hi) by step (> 0): carried values c[] start as init[], become next[] at the end. */
typedef struct LFor { LVal iv; LVal c[64]; uint32_t n, ins; } LFor;
LFor lir_for(Lir *l, LVal lo, LVal hi, LVal step, uint32_t n, const LVal *init);
LFor lir_for_tasks(Lir *l, LVal step, uint32_t n, const LVal *init); /* from t0 to t1 */
void lir_for_end(Lir *l, LFor *f, const LVal *next, LVal *result);   /* result[n]: values after the loop */
typedef struct LIf { uint32_t ins, n; } LIf;
LIf lir_if(Lir *l, LVal cond, uint32_t n);
void lir_else(Lir *l, LIf *i, const LVal *v);                        /* v[n]: results of the then part */
void lir_endif(Lir *l, LIf *i, const LVal *v, LVal *result);         /* v[n]: results of the else part (empty else: lir_else, then lir_endif) */
void lir_fail_if(Lir *l, LVal cond, uint32_t guard);                 /* return 1 + guard from the kernel if cond */

/* Instruction list, for printers and the interpreter (see lir.def for the meaning of the fields per operation). */
typedef enum LOp { L_NONE,
#define LIR(e, text, narg) L_##e,
#include "lir.def"
#undef LIR
    L_COUNT } LOp;
typedef struct LIns { uint16_t op; uint8_t sop, flags; LTy ty; uint16_t narg; uint32_t arg; /* first, in lir_args */
                      int64_t imm; double fimm; uint32_t aux; /* guard, alignment, index into lir_aux tables */ } LIns;
const LIns *lir_ins(const Lir *l, uint32_t *n);   /* 1-based: instruction i defines LVal i */
const LVal *lir_args(const Lir *l);
const int16_t *lir_shuffles(const Lir *l);
const Scalar *lir_tables(const Lir *l);
uint32_t lir_nbuf(const Lir *l);
uint32_t lir_ndim(const Lir *l);
bool lir_may_alias(const Lir *l, uint32_t a, uint32_t b);
uint32_t lir_block_threads(const Lir *l);         /* 0: not told */
uint32_t lir_shared_bytes(const Lir *l);
bool lir_is_resident(const Lir *l);
uint32_t lir_cluster_blocks(const Lir *l); /* 1: each block is alone */
uint32_t lir_nmap(const Lir *l);
const LMap *lir_maps(const Lir *l);
/* Whether an address or the rounds of a loop depend on what is loaded: then wrong contents of operands can do more than give wrong results. */
bool lir_chases(const Lir *l);
void lir_print(Buf *b, const Lir *l);
bool lir_verify(Ctx *c, const Lir *l);
/* Canonical hash of code (names excluded): equal kernels are compiled once. */
uint64_t lir_hash(const Lir *l);
bool lir_equal(const Lir *a, const Lir *b);
/* The interpreter: runs tasks [t0, t1) with bounds checks: bytes[k] is the size of buffer k (reads may use `slack` bytes
 * after it). Returns rt_kernel's status, or -1 with a message in the Ctx for an out-of-bounds access. */
int32_t lir_run(Ctx *c, const Lir *l, void *const *buf, const size_t *bytes, const int64_t *dim, int64_t t0, int64_t t1,
                void *scratch, size_t scratch_bytes, size_t slack);
#endif
