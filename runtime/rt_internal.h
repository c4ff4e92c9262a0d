/* rt_internal.h: what the files of the runtime share. All of them are compiled as one translation
 * unit (rt_all.c), so every function here is static and the only names an object exports are the
 * weak, hidden accelc_rt1_* of abi.h and rt_session.h. */
#ifndef ACCELC_RT_INTERNAL_H
#define ACCELC_RT_INTERNAL_H
#include "rt_session.h"

#define HUGE_PAGE ((size_t)2 << 20)

/* rt.c */
static void *mem_get(const accelc_config *c, size_t bytes);
static void mem_put(const accelc_config *c, void *p);
static int dtype_bits(int dtype);
static size_t dtype_align(int dtype);
static bool dtype_is_signed(int dtype);
static const char *dtype_name(int dtype);

/* rt_setup.c */
static accelc_status sess_open(const rt_bundle *m, const rt_model *model, const accelc_config *cfg,
                               bool dry, Sess **out, char *msg, size_t msg_bytes);
static void sess_close(Sess *s);

/* rt_pages.c */
static void weights_to_huge_pages(const char *weights, uint64_t bytes);

/* rt_cpu.c */
static accelc_status level_next(const rt_bundle *m, const accelc_config *c, uint32_t *next,
                                const rt_model **model, char *msg, size_t n);
static int cpus_usable(void);

/* rt_place.c */
static void set_dim(Sess *s, int32_t d, int64_t v);
static void set_ptr(Sess *s, int32_t b, void *p);
static accelc_status eval_dims(Sess *s, uint32_t a, uint32_t b);
static accelc_status check_guards(Sess *s, uint32_t a, uint32_t b);
static accelc_status settle(Sess *s, uint32_t pc);
static accelc_status block_need(Sess *s, int32_t b, int64_t bytes, int64_t keep);
static accelc_status block_new(Sess *s, int32_t *b, int64_t bytes);
static int64_t block_room(Sess *s, int32_t b);
static bool tail_is_near(const void *p, int64_t bytes, int64_t slack);

/* rt_bind.c */
static accelc_status bind_inputs(Sess *s, const accelc_value *in);
static accelc_status bind_outputs(Sess *s, const accelc_value *out);
static void bind_output(Sess *s, int32_t port);
static accelc_status finish_outputs(Sess *s, accelc_value *out);
static bool needs_extra(const Sess *s, uint32_t i);
static accelc_status give_output(Sess *s, uint32_t i, accelc_value *v);
static accelc_status shape_bytes(Sess *s, const char *what, const char *name, const int64_t *dims,
                                 int rank, int dtype, size_t *bytes);
static accelc_status output_dims(Sess *s, uint32_t i, size_t *bytes);

/* rt_run.c */
static uint32_t advance(Sess *s, uint32_t pc, uint32_t who);
static void run_part(Sess *s, uint32_t pc, uint32_t part, uint32_t who);
static uint32_t step_parts(const Sess *s, const rt_step *st);
static accelc_status kernel_failed(Sess *s, const rt_step *st, int32_t code);

/* threads.c */
static accelc_status team_open(Sess *s, char *msg, size_t msg_bytes);
static void team_start(Sess *s);
static void team_close(Sess *s);
static void team_run(Sess *s);
static void member_join(Sess *s, uint32_t who);

#ifdef RT_OPENMP
/* rt_omp.c */
static void omp_run(Sess *s);
#endif
#endif
