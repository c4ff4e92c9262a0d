/* test_rt_threads.c: executors agree bit for bit, nobody hangs, nobody spins between runs. */
#include "rt_fixture.h"

/* All numbers of threads, and all executors, give the same bits. */
static void *one_task(void *p) {
    void **a = p;
    ((accelc_task)(uintptr_t)a[0])(a[1], (int)(uintptr_t)a[2], (int)(uintptr_t)a[3]);
    return NULL;
}
static void for_each_gang(void *ctx, int n, accelc_task fn, void *arg) {
    pthread_t t[16];
    void *a[16][4];
    (void)ctx;
    for (int i = 0; i < n; i++) {
        a[i][0] = (void *)(uintptr_t)fn, a[i][1] = arg, a[i][2] = (void *)(uintptr_t)i,
        a[i][3] = (void *)(uintptr_t)n;
        pthread_create(&t[i], NULL, one_task, a[i]);
    }
    for (int i = 0; i < n; i++) pthread_join(t[i], NULL);
}
static void for_each_reverse(void *ctx, int n, accelc_task fn, void *arg) {
    (*(int *)ctx)++;
    for (int i = n; i-- > 0;) fn(arg, i, n);
}

START_TEST(test_executors_agree) {
    M m;
    accelc_value out;
    int calls = 0;
    accelc_exec gang = {.width = 4, .gang = 1, .for_each = for_each_gang};
    accelc_exec late = {
        .ctx = &calls, .width = 5, .gang = 1, .for_each = for_each_reverse}; /* lies about gang */
    accelc_exec tasks = {.ctx = &calls, .width = 5, .for_each = for_each_reverse};
    accelc_config c[] = {THREADS(1),
                         THREADS(2),
                         THREADS(3),
                         THREADS(7),
                         {.threads = 3, .spin_us = -1},
                         {.threads = 2, .spin_us = 5},
                         {.exec = &gang},
                         {.exec = &late},
                         {.exec = &tasks},
                         THREADS(0)};
    static float first[N];
    for (size_t k = 0; k < sizeof c / sizeof *c; k++) {
        model_init(&m, plan_pipe(N, (int)(k & 1), 3));
        ck_assert_int_eq(model_open(&m, c[k]), ACCELC_OK);
        for (int r = 0; r < 50; r++) {
            memset(Z, 0xff, sizeof Z);
            ck_assert_int_eq(pipe_run(&m, N, Z, sizeof Z, &out), ACCELC_OK);
            if (k == 0 && r == 0) memcpy(first, Z, sizeof first);
            ck_assert_mem_eq(first, Z, sizeof first);
        }
        model_close(&m);
    }
#ifdef RT_OPENMP
    for (int threads = 1; threads < 5; threads++) {
        model_init(&m, plan_pipe(N, 0, 3));
        m.bundle.executor = RT_EXEC_OPENMP;
        ck_assert_int_eq(model_open(&m, THREADS(threads)), ACCELC_OK);
        for (int r = 0; r < 50; r++) {
            memset(Z, 0xff, sizeof Z);
            ck_assert_int_eq(pipe_run(&m, N, Z, sizeof Z, &out), ACCELC_OK);
            ck_assert_mem_eq(first, Z, sizeof first);
        }
        model_close(&m);
    }
#endif
    ck_assert_int_eq(calls, 50 + 100); /* one for the whole run, one per phase (two phases) */
}
END_TEST

START_TEST(test_many_phases) { /* a long chain, so that every kind of waiting happens */
    Pb *b = pb_new();
    int32_t d = pb_const(b, 64), bytes = pb_const(b, 256);
    int32_t x = pb_in(b, "x", F32, 1, DIMS(d), bytes), z = pb_out(b, "z", F32, 1, DIMS(d), bytes);
    int32_t t = pb_arena(b, F32, bytes, 0, 1000), u = pb_arena(b, F32, bytes, 0, 1000);
    pb_entry(b);
    pb_kernel(b, FLIP, d, 4, 1, LIST(x, t, ), LIST(d, ));
    for (int i = 0; i < 200; i++) {
        pb_kernel(b, FLIP, d, i % 7 == 0 ? 64 : 4, 1, LIST(i % 2 ? u : t, i % 2 ? t : u, ),
                  LIST(d, ));
        if (i % 50 == 49) pb_kernel(b, SLOW, d, i % 100 == 49 ? 64 : 32, 1, LIST(), LIST());
    }
    pb_kernel(b, FLIP, d, 4, 1, LIST(t, z, ), LIST(d, ));
    pb_step(b, RT_END);
    b->p.flags = RT_STATIC;
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, (accelc_config){.threads = 1 + _i,
                                                    .spin_us = _i == 3   ? -1
                                                               : _i == 4 ? 20
                                                                         : 0}),
                     ACCELC_OK);
    for (int r = 0; r < 20; r++) {
        int64_t n = 64;
        for (int i = 0; i < 64; i++) X[i] = (float)(i * r);
        accelc_value in = tensor(F32, 1, &n, X, 256), out = {.data = Z, .bytes = 256};
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, &out), ACCELC_OK);
        for (int i = 0; i < 64; i++) ck_assert_float_eq(Z[i], X[i]); /* 202 flips */
    }
    model_close(&m);
}
END_TEST

START_TEST(
    test_kernel_guard) { /* the first failure in task order wins, for any number of threads */
    Pb *b = pb_new();
    int32_t d = pb_const(b, 100), bytes = pb_const(b, 400);
    int32_t x = pb_in(b, "x", F32, 1, DIMS(d), bytes);
    int32_t g = pb_guard(b, RT_CMP_TRUE, -1, -1, "Gather 'g': an index is out of range");
    pb_guard(b, RT_CMP_TRUE, -1, -1, "Gather 'g': the second message");
    int32_t gi = pb_const(b, g);
    b->p.entry_dimops = b->p.dimop.n; /* kernel guards are not checked on entry */
    pb_kernel(b, CHECK, d, 1, 0, LIST(x, ), LIST(gi, ));
    pb_kernel(b, SLOW, d, 1, 1, LIST(), LIST());
    pb_kernel(b, CHECK, d, 1, 1, LIST(x, ), LIST(gi, ));
    pb_step(b, RT_END);
    b->p.flags = RT_STATIC;
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, THREADS(1 + _i)), ACCELC_OK);
    int64_t n = 100;
    accelc_value in = tensor(F32, 1, &n, X, 400);
    for (int r = 0; r < 5; r++) {
        memset(X, 0, 400);
        X[20] = -1, X[80] = -2;
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, NULL), ACCELC_EDATA);
        ck_assert_str_eq(accelc_rt1_error(m.s), "Gather 'g': an index is out of range");
        X[20] = -2;
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, NULL), ACCELC_EDATA);
        ck_assert_str_eq(accelc_rt1_error(m.s), "Gather 'g': the second message");
        X[20] = X[80] = 1;
        ck_assert_int_eq(accelc_rt1_run(m.s, &in, NULL), ACCELC_OK);
    }
    model_close(&m);
}
END_TEST

static void *run_blocked(void *p) {
    return (void *)(uintptr_t)accelc_rt1_run(((M *)p)->s, NULL, NULL);
}

START_TEST(test_busy_and_cancel) {
    Pb *b = pb_new();
    int32_t d = pb_const(b, 8);
    pb_entry(b);
    pb_kernel(b, BLOCK, d, 1, 1, LIST(), LIST());
    pb_kernel(b, CANCEL, d, 1, 1, LIST(), LIST());
    pb_kernel(b, BLOCK, d, 1, 1, LIST(), LIST());
    pb_step(b, RT_END);
    b->p.flags = RT_STATIC;
    M m;
    model_init(&m, b);
    ck_assert_int_eq(model_open(&m, THREADS(1 + _i)), ACCELC_OK);
    cancel_me = m.s;
    inside = go_on = 0;
    pthread_t t;
    void *st;
    pthread_create(&t, NULL, run_blocked, &m);
    while (!inside) sched_yield();
    accelc_value v = {0};
    ck_assert_int_eq(accelc_rt1_run(m.s, NULL, NULL), ACCELC_EBUSY);
    ck_assert_int_eq(accelc_rt1_fetch(m.s, 0, &v), ACCELC_EBUSY);
    ck_assert_int_eq(accelc_rt1_reset(m.s), ACCELC_EBUSY);
    go_on = 1;
    pthread_join(t, &st);
    ck_assert_int_eq((int)(uintptr_t)st, ACCELC_ECANCEL);
    ck_assert_str_eq(accelc_rt1_error(m.s), "cancelled");
    ck_assert_int_eq(accelc_rt1_run(m.s, NULL, NULL),
                     ACCELC_ECANCEL); /* the kernel cancels every run anew */
    ck_assert_int_eq(accelc_rt1_reset(m.s), ACCELC_OK);
    model_close(&m);
}
END_TEST

static _Atomic int steps_seen[8];
static void on_step(void *ctx, int step, int thread, uint64_t t0, uint64_t t1) {
    ck_assert(ctx == steps_seen && t0 <= t1 && thread >= 0 && thread < 3);
    steps_seen[step]++;
}

START_TEST(test_profile_and_names) {
    M m;
    accelc_value out;
    Pb *b = plan_pipe(N, 0, 10);
    b->step[1].name = pb_str(b, "scale_kernel");
    b->step[1].nodes = pb_str(b, "Mul_1, Add_2");
    model_init(&m, b);
    ck_assert_int_eq(
        model_open(&m, (accelc_config){.threads = 3, .on_step = on_step, .prof_ctx = steps_seen}),
        ACCELC_OK);
    ck_assert_int_eq(pipe_run(&m, N, Z, sizeof Z, &out), ACCELC_OK);
    ck_assert(steps_seen[0] == 3 && steps_seen[1] == 3 && steps_seen[2] == 3 && steps_seen[3] == 0);
    const char *kernel, *nodes;
    ck_assert_int_eq(accelc_rt1_step_name(&m.bundle, 1, &kernel, &nodes), ACCELC_OK);
    ck_assert_str_eq(kernel, "scale_kernel");
    ck_assert_str_eq(nodes, "Mul_1, Add_2");
    ck_assert_int_eq(accelc_rt1_step_name(&m.bundle, 4, &kernel, &nodes), ACCELC_EINVAL);
    ck_assert_int_eq(accelc_rt1_step_name(&m.bundle, -1, &kernel, &nodes), ACCELC_EINVAL);
    model_close(&m);
}
END_TEST

START_TEST(test_config) {
    M m;
    model_init(&m, plan_pipe(N, 0, 10));
    accelc_exec none = {.width = 0};
    ck_assert_int_eq(model_open(&m, (accelc_config){.device = 1}), ACCELC_EDEVICE);
    ck_assert_int_eq(model_open(&m, THREADS(-1)), ACCELC_EINVAL);
    ck_assert_int_eq(model_open(&m, (accelc_config){.exec = &none}), ACCELC_EINVAL);
    ck_assert_int_eq(model_open(&m, THREADS(100000)), ACCELC_OK); /* as many as the plan can use */
    ck_assert_int_eq((int)m.s->team.n, 100);
    accelc_rt1_destroy(m.s);
    accelc_config c = {
        .size = 8, .threads = 2, .cpu = "none"}; /* an old caller's config ends before `cpu` */
    ck_assert_int_eq(accelc_rt1_create(&m.bundle, &c, &m.s, NULL, 0), ACCELC_OK);
    accelc_rt1_destroy(m.s);
    ck_assert_int_eq(accelc_rt1_create(&m.bundle, NULL, &m.s, NULL, 0), ACCELC_OK);
    model_close(&m);
}
END_TEST

#if COUNTED /* not under sanitizers: a child with threads is not for them */
START_TEST(
    test_fork) { /* workers do not survive a fork; the child's runs and destroy must not hang */
    M m;
    accelc_value out;
    model_init(&m, plan_pipe(N, 0, 10));
    ck_assert_int_eq(model_open(&m, THREADS(3)), ACCELC_OK);
    ck_assert_int_eq(pipe_run(&m, N, Z, sizeof Z, &out), ACCELC_OK);
    pid_t pid = fork();
    if (pid == 0) {
        int bad = 0;
        for (int r = 0; r < 10; r++) bad |= pipe_run(&m, N, Z, sizeof Z, &out) != ACCELC_OK;
        accelc_rt1_destroy(m.s);
        _exit(bad);
    }
    int st = -1;
    waitpid(pid, &st, 0);
    ck_assert_int_eq(st, 0);
    ck_assert_int_eq(pipe_run(&m, N, Z, sizeof Z, &out), ACCELC_OK);
    model_close(&m);
}
END_TEST
#endif

START_TEST(test_float_environment) { /* the caller's flush-to-zero changes nothing, and is back
                                        afterwards */
#if defined(__x86_64__)
    M m;
    accelc_value out;
    model_init(&m, plan_pipe(N, 0, 10));
    ck_assert_int_eq(model_open(&m, THREADS(2)), ACCELC_OK);
    uint32_t old = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x9fc0);
    accelc_status st = pipe_run(&m, N, Z, sizeof Z, &out);
    uint32_t now = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(old);
    ck_assert_int_eq(st, ACCELC_OK);
    ck_assert_uint_eq(now & 0xffc0, 0x9fc0);
    model_close(&m);
#endif
}
END_TEST

START_TEST(test_idle_is_idle) { /* nobody spins outside run() */
    M m;
    accelc_value out;
    model_init(&m, plan_pipe(N, 0, 10));
    ck_assert_int_eq(model_open(&m, THREADS(4)), ACCELC_OK);
    ck_assert_int_eq(pipe_run(&m, N, Z, sizeof Z, &out), ACCELC_OK);
    struct timespec rest = {.tv_nsec = 20000000}, t0, t1;
    nanosleep(&rest, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t0);
    rest.tv_nsec = 200000000;
    nanosleep(&rest, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t1);
    long ns = (t1.tv_sec - t0.tv_sec) * 1000000000L + t1.tv_nsec - t0.tv_nsec;
    ck_assert_int_lt(ns, 5000000);
    model_close(&m);
}
END_TEST

static void add(TCase *c) {
    tcase_add_test(c, test_executors_agree);
    tcase_add_loop_test(c, test_many_phases, 0, 5);
    tcase_add_loop_test(c, test_kernel_guard, 0, 4);
    tcase_add_loop_test(c, test_busy_and_cancel, 0, 2);
    tcase_add_test(c, test_profile_and_names);
    tcase_add_test(c, test_config);
#if COUNTED
    tcase_add_test(c, test_fork);
#endif
    tcase_add_test(c, test_float_environment);
    tcase_add_test(c, test_idle_is_idle);
}

int main(void) { return run_suite("runtime threads", add); }
