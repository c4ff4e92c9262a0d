/* threads.c: executors. A phase of n parts is opened by storing (number of the phase, n) in `gate`;
 * part i belongs to member i, who claims it by writing the phase's number into member[i].claim.
 * Whoever finishes the last part runs the control steps (advance) and opens the next phase, so the
 * gate is the barrier. Idle members take parts of members that are asleep at once, and of the
 * others when they have waited for some microseconds: a thread that wakes up late, that the system
 * does not run, or that does not exist (after fork, or OpenMP giving fewer) costs time but never a
 * hang. A waiter spins for spin_ns, then yields the CPU until yield_ns, then sleeps on a futex.
 * gate with 0 parts = no run: then workers sleep at once. Executors: serial (n = 1), the team of
 * our own threads, the caller's gang, the caller's task queue (one for_each per phase, nothing
 * waits inside a task), OpenMP (rt_omp.c). */
#include "rt_internal.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#define SPIN_NS 4000    /* before a waiter yields */
#define YIELD_NS 200000 /* default of spin_us: before it sleeps */
#define STACK_BYTES (1 << 20)

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Kernels expect the default floating-point environment, in every thread, whatever the caller has
 * set (flush to zero would change bits). Returns what was there. */
static inline uint32_t fp_enter(void) {
#if defined(__x86_64__)
    uint32_t old = __builtin_ia32_stmxcsr();
    if ((old & 0xffc0u) != 0x1f80u) __builtin_ia32_ldmxcsr(0x1f80u);
    return old;
#else
    return 0;
#endif
}

static inline void fp_leave(uint32_t old) {
#if defined(__x86_64__)
    if ((old & 0xffc0u) != 0x1f80u) __builtin_ia32_ldmxcsr(old);
#else
    (void)old;
#endif
}

static void *gate_word(Team *t) {
    return &t->gate;
} /* its low half, which changes with every phase */

static uint32_t gate_parts(uint64_t g) { return (uint32_t)(g & 0xffff); }
static uint64_t gate_phase(uint64_t g) { return g >> 16; }

static void gate_wake(Team *t) {
    syscall(SYS_futex, gate_word(t), FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Opens the next phase with n parts, or with 0 ends the run. The caller has finished the last part
 * of this one. */
static void gate_open(Sess *s, uint32_t n) {
    Team *t = &s->team;
    uint64_t phase = gate_phase(atomic_load_explicit(&t->gate, memory_order_relaxed)) + 1;
    atomic_store_explicit(&t->left, n, memory_order_relaxed);
    atomic_store(&t->gate, phase << 16 | n); /* seq_cst: before reading sleepers */
    if (atomic_load(&t->sleepers) && (n > 1 || t->foreign || !atomic_load(&t->member[0].awake)))
        gate_wake(t);
}

/* Sleeps until the gate is no longer g. */
static void member_sleep(Team *t, uint32_t who, uint64_t g) {
    atomic_store(&t->member[who].awake, 0);
    atomic_fetch_add(&t->sleepers, 1);
    if (atomic_load(&t->gate) == g)
        syscall(SYS_futex, gate_word(t), FUTEX_WAIT_PRIVATE, (uint32_t)g, NULL, NULL, 0);
    atomic_fetch_sub(&t->sleepers, 1);
    atomic_store(&t->member[who].awake, 1);
}

/* Takes part i of the phase that gate value g tells of. True: the phase is open, cannot end before
 * the part is done, and team.pc is that of the phase. A claim later than g's phase means that g is
 * old. */
static bool part_claim(Team *t, uint32_t i, uint64_t g) {
    uint64_t phase = gate_phase(g),
             have = atomic_load_explicit(&t->member[i].claim, memory_order_relaxed);
    return have < phase &&
           atomic_compare_exchange_strong_explicit(&t->member[i].claim, &have, phase,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

/* Runs a claimed part; the one who finishes the phase goes on with the plan. */
static void part_work(Sess *s, uint32_t i, uint32_t who) {
    Team *t = &s->team;
    run_part(s, t->pc, i, who);
    if (atomic_fetch_sub_explicit(&t->left, 1, memory_order_acq_rel) == 1)
        gate_open(s, advance(s, t->next, who));
}

/* Waits until the gate is no longer g, or until there is something to do for others; then does it.
 */
static void member_wait(Sess *s, uint32_t who, uint64_t g) {
    Team *t = &s->team;
    uint32_t n = gate_parts(g);
    uint64_t begin = 0;
    bool late = t->spin_ns == 0;
    for (;;) {
        for (uint32_t i = 0; i < n; i++)
            if (i != who &&
                (late || !atomic_load_explicit(&t->member[i].awake, memory_order_relaxed)) &&
                part_claim(t, i, g)) {
                part_work(s, i, who);
                return;
            }
        for (int k = 0; k < 16; k++) {
            if (atomic_load_explicit(&t->gate, memory_order_acquire) != g) return;
            if (!late) relax();
        }
        uint64_t now = now_ns();
        begin = begin ? begin : now;
        late = late || now - begin > (uint64_t)t->spin_ns;
        if (now - begin >= (uint64_t)t->yield_ns && late) {
            member_sleep(t, who, g);
            return;
        }
        if (late) sched_yield();
    }
}

/* One member's life during a run; the threads of our own team stay (`worker`) and sleep between
 * runs. */
static void member_loop(Sess *s, uint32_t who, bool worker) {
    Team *t = &s->team;
    atomic_store(&t->member[who].awake, 1);
    for (;;) {
        uint64_t g = atomic_load_explicit(&t->gate, memory_order_acquire);
        uint32_t n = gate_parts(g);
        if (n == 0) {
            if (!worker || atomic_load(&t->stop)) break;
            member_sleep(t, who, g);
        } else if (who < n && part_claim(t, who, g))
            part_work(s, who, who);
        else
            member_wait(s, who, g);
    }
    atomic_store(&t->member[who].awake, 0);
}

/* A thread that somebody else made takes part in the run that is on. */
static void member_join(Sess *s, uint32_t who) {
    uint32_t fp = fp_enter();
    if (who < s->team.n) member_loop(s, who, false);
    fp_leave(fp);
}

static void *worker_main(void *arg) {
    Member *m = arg;
    fp_enter();
    member_loop(m->session, (uint32_t)(m - m->session->team.member), true);
    return NULL;
}

/* ---- the caller's executor ---- */

static void gang_task(void *arg, int i, int n) {
    (void)n;
    member_join(arg, (uint32_t)i);
}

static void phase_task(void *arg, int i, int n) {
    Sess *s = arg;
    uint32_t fp = fp_enter();
    (void)n;
    run_part(s, s->team.pc, (uint32_t)i, (uint32_t)i);
    fp_leave(fp);
}

/* ---- the team ---- */

/* Makes the threads that the config asks for. Too few threads in the system is no error: the others
 * do their parts. */
static accelc_status team_open(Sess *s, char *msg, size_t msg_bytes) {
    Team *t = &s->team;
    const accelc_exec *e = s->cfg.exec;
    int usable = e || s->cfg.threads == 1 ? 1 : cpus_usable(),
        n = s->cfg.threads > 0 ? s->cfg.threads : usable;
    if (e && (e->width < 1 || !e->for_each)) {
        snprintf(msg, msg_bytes, "the executor of the config has width %d and %s", e->width,
                 e->for_each ? "a for_each" : "no for_each");
        return ACCELC_EINVAL;
    }
    if (s->cfg.threads < 0) {
        snprintf(msg, msg_bytes, "threads is %d", s->cfg.threads);
        return ACCELC_EINVAL;
    }
    n = e ? e->width : n;
    if (!e && s->cfg.threads == 0 && s->bundle->executor == RT_EXEC_SERIAL) n = 1;
    t->n = (uint32_t)(n > RT_MAX_THREADS ? RT_MAX_THREADS : n);
    bool crowded = !e && n > usable; /* then whoever waits keeps another from running */
    t->spin_ns = crowded || s->cfg.spin_us < 0 ? 0 : SPIN_NS;
    t->yield_ns = s->cfg.spin_us < 0   ? 0
                  : s->cfg.spin_us > 0 ? (int64_t)s->cfg.spin_us * 1000
                                       : YIELD_NS;
    t->spin_ns = t->yield_ns < t->spin_ns ? t->yield_ns : t->spin_ns;
    t->foreign = e != NULL;
    t->pid = getpid();
#ifdef RT_OPENMP
    if (!e && s->bundle->executor == RT_EXEC_OPENMP) t->foreign = true;
#endif
    if (t->n > 1 && (s->plan->flags & RT_STATIC)) { /* no more than the widest phase can use */
        uint32_t most = 1;
        for (uint32_t i = 0; i < s->nstep; i++)
            if (on_host(s, &s->step[i])) {
                uint32_t k = step_parts(s, &s->step[i]);
                most = k > most ? k : most;
            }
        t->n = most;
    }
    size_t bytes = t->n * sizeof(Member);
    t->member = mem_get(&s->cfg, bytes + t->n * sizeof(pthread_t));
    if (!t->member) {
        snprintf(msg, msg_bytes, "out of memory: a team of %u threads", t->n);
        return ACCELC_ENOMEM;
    }
    memset(t->member, 0, bytes);
    t->thread = (pthread_t *)(void *)(t->member + t->n);
    for (uint32_t i = 0; i < t->n; i++) {
        t->member[i].session = s;
        t->member[i].fail_step = -1;
    }
    return ACCELC_OK;
}

static void team_start(Sess *s) {
    Team *t = &s->team;
    pthread_attr_t attr;
    sigset_t all_signals, old;
    if (t->foreign || t->n == 1 || pthread_attr_init(&attr) != 0) return;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&all_signals); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all_signals, &old);
    for (uint32_t i = 1; i < t->n; i++) {
        if (pthread_create(&t->thread[t->nworker], &attr, worker_main, &t->member[i]) != 0) break;
        t->nworker++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
}

static void team_close(Sess *s) {
    Team *t = &s->team;
    if (t->nworker && getpid() == t->pid) {
        atomic_store(&t->stop, 1);
        gate_open(s, 0);
        gate_wake(t);
        for (uint32_t i = 0; i < t->nworker; i++) pthread_join(t->thread[i], NULL);
    }
    if (t->member) mem_put(&s->cfg, t->member);
}

/* Runs the plan from step 0; the outcome is in s->status. The inputs and outputs are bound. */
static void team_run(Sess *s) {
    Team *t = &s->team;
    const accelc_exec *e = s->cfg.exec;
    uint32_t fp = fp_enter(), n;
    if (e && !e->gang) {
        for (n = advance(s, 0, 0); n; n = advance(s, t->next, 0))
            e->for_each(e->ctx, (int)n, phase_task, s);
    } else if ((n = advance(s, 0, 0)) != 0) {
        if (e || t->foreign)
            atomic_store(&t->member[0].awake, 0);
        else
            atomic_store(&t->member[0].awake, 1);
        gate_open(s, n);
        if (e) e->for_each(e->ctx, (int)t->n, gang_task, s);
#ifdef RT_OPENMP
        else if (t->foreign)
            omp_run(s);
#endif
        else
            member_loop(s, 0, false);
    }
    fp_leave(fp);
}
