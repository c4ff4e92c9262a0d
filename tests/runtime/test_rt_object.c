/* test_rt_object.c: values that are no tensors in the runtime: calls, their memory, and ports that are trees. */
#define RT_OBJECTS
#include "rt_fixture.h"

/* ---- plans ---- */

static bool fn_rank2(rt_call *c) { return (c->out[0] = call_tensor(c, 1, 2, (const int64_t[]){1, 1})) != NULL; }
static bool fn_same(rt_call *c) { return (c->out[0] = (rt_value *)(uintptr_t)c->in[0]) != NULL; }
static bool fn_fails(rt_call *c) { return call_fail(c, "operand %d is bad", c->nin); }
static bool fn_large(rt_call *c) {
    return (c->out[0] = call_tensor(c, 1, 1, (const int64_t[]){1 << 20})) != NULL;
}

enum { CONSTRUCT, INSERT, AT, RANK2, SAME, FAILS, LARGE, NFN };
static const rt_call_fn functions[] = {accelc_rt1_call_seq_construct, accelc_rt1_call_seq_insert, accelc_rt1_call_seq_at,
                                       fn_rank2, fn_same, fn_fails, fn_large};
static const rt_calls calls = {&accelc_rt1_objects, functions, NFN, 0};

static int32_t value_buf(Pb *b, uint8_t dtype, int rank, int32_t bytes) {
    int32_t i = pb_buf(b, RT_BUF_VALUE, dtype, bytes);
    b->buf[i].rank = (uint8_t)rank;
    return i;
}

static int32_t add_type(Pb *b, uint8_t kind, uint8_t optional, uint16_t dtype, int32_t rank, int32_t elem) {
    uint32_t i = pb_next(&b->p.type.n, PB_MAX);
    b->type[i] = (rt_type){kind, optional, dtype, rank, elem};
    return (int32_t)i;
}

/* A port that holds what is in buffer buf. */
static void tree_port(Pb *b, bool in, const char *name, int32_t buf, int32_t type) {
    rt_io io = {.name = pb_str(b, name), .kind = b->type[type].kind, .optional = b->type[type].optional,
                .dim = (int32_t)b->p.iodim.n, .buf = buf, .type = type};
    if (in) b->in[pb_next(&b->p.in.n, 16)] = io;
    else b->out[pb_next(&b->p.out.n, 16)] = io;
}

/* Operands (-1: absent, written as -2), results, sizes of operands. */
static rt_step *add_call(Pb *b, int32_t fn, const int32_t *in, const int32_t *out, const int32_t *dims) {
    rt_step *s = pb_step(b, RT_CALL);
    s->kernel = fn;
    s->arg = (int32_t)b->p.arg.n;
    for (; *in != -1; in++, s->nbuf++, s->a++) b->arg[pb_next(&b->p.arg.n, PB_MAX * 4)] = *in == -2 ? -1 : *in;
    for (; *out != -1; out++, s->nbuf++) b->arg[pb_next(&b->p.arg.n, PB_MAX * 4)] = *out;
    for (; *dims != -1; dims++, s->ndim++) b->arg[pb_next(&b->p.arg.n, PB_MAX * 4)] = *dims;
    return s;
}

static void open_calls(M *m, Pb *b, accelc_config c, accelc_status want) {
    model_init(m, b);
    m->model.calls = &calls;
    ck_assert_msg(model_open(m, c) == want, "%s", m->msg);
}

/* t = scale(x); s = [x, t]; t = scale(t); s2 = s + [t] at p; v = s2[p]; z = scale(v). Outputs s2, z. */
static Pb *plan_sequence(int32_t at_function) {
    Pb *b = pb_new();
    int32_t n = pb_sym(b), k = pb_sym(b), four = pb_const(b, 4), eight = pb_const(b, 8), zero = pb_const(b, 0);
    int32_t bytes = pb_op(b, RT_DIM_MUL, n, four);
    int32_t x = pb_in(b, "x", F32, 1, DIMS(n), bytes), p = pb_in(b, "p", I64, 0, NULL, eight);
    b->buf[x].rank = 1;
    int32_t t = pb_arena(b, F32, bytes, 0, 3), u = pb_arena(b, F32, bytes, 2, 4);
    b->buf[t].rank = b->buf[u].rank = 1;
    int32_t s = value_buf(b, 0, 0, zero), s2 = value_buf(b, 0, 0, zero);
    pb_entry(b);
    int32_t kbytes = pb_op(b, RT_DIM_MUL, k, four), v = value_buf(b, F32, 1, kbytes);
    int32_t z = pb_out(b, "z", F32, 1, DIMS(k), kbytes);
    tree_port(b, false, "s", s2, add_type(b, ACCELC_SEQUENCE, 0, 0, 0, add_type(b, ACCELC_TENSOR, 0, F32, -1, -1)));
    pb_kernel(b, SCALE, n, 10, 1, LIST(x, t, ), LIST());
    add_call(b, CONSTRUCT, LIST(x, t, ), LIST(s, ), LIST(n, n, ));
    pb_kernel(b, SCALE, n, 10, 1, LIST(t, u, ), LIST());
    pb_kernel(b, SCALE, n, 10, 1, LIST(u, t, ), LIST());
    add_call(b, INSERT, LIST(s, u, p, ), LIST(s2, ), LIST(n, ));
    add_call(b, at_function, LIST(s2, p, ), LIST(v, ), LIST());
    rt_step *size_ = pb_ctl(b, RT_SIZE, k, v, 0);
    size_->lo = 0, size_->hi = -1;
    pb_ctl(b, RT_DIMS, (int32_t)b->p.entry_dimops, (int32_t)b->p.dimop.n, 0);
    pb_kernel(b, SCALE, k, 10, 1, LIST(v, z, ), LIST());
    pb_step(b, RT_END);
    return b;
}

static float scaled(float x, int times) {
    while (times-- > 0) x = x * 1.25f + 0.5f;
    return x;
}

static accelc_status run_sequence(M *m, int64_t n, int64_t p, accelc_value out[2]) {
    for (int64_t i = 0; i < n; i++) X[i] = (float)i;
    accelc_value in[2] = {tensor(F32, 1, &n, X, (size_t)n * 4), tensor(I64, 0, NULL, &p, 8)};
    return accelc_rt1_run(m->s, in, out);
}

START_TEST(test_sequence) {
    static const int times[3] = {0, 2, 1}; /* that each element was scaled: [x, t] with u before the last */
    M m;
    open_calls(&m, plan_sequence(AT), THREADS(1 + _i), ACCELC_OK);
    long allocated = 0;
    for (int run = 0; run < 12; run++) {
        int64_t n = (int64_t[]){5, 1000, 0}[run % 3], p = run % 2 ? 1 : -1;
        accelc_value out[2] = {{0}};
        long before = mallocs;
        accelc_status st = run_sequence(&m, n, p, out);
        if (run >= 6) allocated += mallocs - before;
        ck_assert_msg(st == ACCELC_OK, "%s", accelc_rt1_error(m.s));
        ck_assert_int_eq(out[1].kind, ACCELC_SEQUENCE);
        ck_assert_int_eq(out[1].owned, 1);
        ck_assert_uint_eq(out[1].nelem, 3);
        for (int e = 0; e < 3; e++) {
            const accelc_value *v = &out[1].elem[e];
            ck_assert_int_eq(v->rank, 1);
            ck_assert_int_eq(v->dims[0], n);
            ck_assert_uint_eq(v->bytes, (size_t)n * 4);
            ck_assert_ptr_ne(v->data, X);
            for (int64_t i = 0; i < n; i++) ck_assert_float_eq(((float *)v->data)[i], scaled((float)i, times[e]));
        }
        ck_assert_int_eq(out[0].dims[0], n);
        for (int64_t i = 0; i < n; i++)
            ck_assert_float_eq(((float *)out[0].data)[i], scaled((float)i, 1 + times[p < 0 ? 2 : 1]));
        accelc_value again = {0};
        ck_assert_int_eq(accelc_rt1_fetch(m.s, 1, &again), ACCELC_OK);
        ck_assert_ptr_eq(again.elem, out[1].elem);
    }
    ck_assert_int_eq(allocated, 0); /* the memory of earlier runs is enough */
    model_close(&m);
}
END_TEST

START_TEST(test_failures) {
    static const struct {
        int fn;
        int64_t p;
        accelc_status status;
        const char *text;
    } t[] = {{AT, 3, ACCELC_EDATA, "node: position 3 is out of range for 2 elements"},
             {FAILS, 0, ACCELC_EDATA, "node: operand 2 is bad"},
             {RANK2, 0, ACCELC_ESHAPE, "node: expected a tensor of rank 1, got rank 2"},
             {SAME, 0, ACCELC_EDATA, "node: expected a tensor, got a sequence"}};
    M m;
    accelc_value out[2] = {{0}};
    open_calls(&m, plan_sequence(t[_i].fn), THREADS(2), ACCELC_OK);
    for (int run = 0; run < 2; run++) {
        ck_assert_int_eq(run_sequence(&m, 7, t[_i].p, out), t[_i].status);
        ck_assert_str_eq(accelc_rt1_error(m.s), t[_i].text);
        ck_assert_ptr_null(out[1].elem);
    }
    if (t[_i].fn == AT) ck_assert_int_eq(run_sequence(&m, 7, 0, out), ACCELC_OK);
    out[0] = (accelc_value){0};
    out[1] = (accelc_value){.data = Z, .bytes = sizeof Z};
    ck_assert_int_eq(run_sequence(&m, 7, 0, out), ACCELC_EINVAL);
    ck_assert_str_eq(accelc_rt1_error(m.s), "output \"s\" comes in memory of the session, a buffer cannot be given");
    model_close(&m);
}
END_TEST

START_TEST(test_limit) {
    M m;
    accelc_value out[2] = {{0}};
    accelc_config c = {.threads = 1, .mem_limit = 1 << 20};
    open_calls(&m, plan_sequence(LARGE), c, ACCELC_OK); /* asks for 4 MiB */
    ck_assert_int_eq(run_sequence(&m, 7, 0, out), ACCELC_ENOMEM);
    ck_assert_str_eq(accelc_rt1_error(m.s),
                     "node: values whose size depends on data need more memory than the limit of 1048576 bytes");
    model_close(&m);
    c.mem_limit = 16 << 20;
    open_calls(&m, plan_sequence(LARGE), c, ACCELC_OK);
    ck_assert_int_eq(run_sequence(&m, 7, 0, out), ACCELC_OK);
    ck_assert_int_eq(out[0].dims[0], 1 << 20);
    model_close(&m);
}
END_TEST

/* ---- trees ---- */

/* Inputs that are outputs: s seq<f32[1 dim]>, o opt<i4[any]>, m seq<map<i64, f32[]>>. */
static Pb *plan_trees(void) {
    Pb *b = pb_new();
    int32_t zero = pb_const(b, 0), buf[3], type[3];
    for (int k = 0; k < 3; k++) buf[k] = value_buf(b, 0, 0, zero);
    type[0] = add_type(b, ACCELC_SEQUENCE, 0, 0, 0, add_type(b, ACCELC_TENSOR, 0, F32, 1, -1));
    type[1] = add_type(b, ACCELC_TENSOR, 1, 22, -1, -1);
    type[2] = add_type(b, ACCELC_SEQUENCE, 0, 0, 0,
                       add_type(b, ACCELC_MAP, 0, I64, 0, add_type(b, ACCELC_TENSOR, 0, F32, 0, -1)));
    for (int k = 0; k < 3; k++) {
        tree_port(b, true, (const char *[]){"s", "o", "m"}[k], buf[k], type[k]);
        tree_port(b, false, (const char *[]){"s2", "o2", "m2"}[k], buf[k], type[k]);
    }
    pb_entry(b);
    pb_step(b, RT_END);
    b->p.flags = RT_STATIC;
    return b;
}

static int64_t one = 1, two = 2, three = 3, keys[2] = {7, -7};
static float values[2] = {1.5f, 2.5f}, row[3] = {1, 2, 3};
static uint8_t packed[2] = {0x8f, 0x07}; /* -1, -8, 7 */

typedef struct {
    accelc_value in[3], seq[2], map[2], entry[2];
} Trees;

static void trees(Trees *t) {
    *t = (Trees){0};
    t->seq[0] = tensor(F32, 1, &three, row, sizeof row);
    t->seq[1] = tensor(F32, 1, &two, row + 1, 8);
    t->entry[0] = tensor(I64, 1, &two, keys, sizeof keys);
    t->entry[1] = tensor(F32, 1, &two, values, sizeof values);
    t->map[0] = (accelc_value){.kind = ACCELC_MAP, .elem = t->entry, .nelem = 2};
    t->in[0] = (accelc_value){.kind = ACCELC_SEQUENCE, .elem = t->seq, .nelem = 2};
    t->in[1] = tensor(22, 1, &three, packed, sizeof packed);
    t->in[2] = (accelc_value){.kind = ACCELC_SEQUENCE, .elem = t->map, .nelem = 1};
}

START_TEST(test_trees) {
    M m;
    Trees t;
    accelc_value out[3] = {{0}};
    open_calls(&m, plan_trees(), THREADS(2), ACCELC_OK);
    for (int run = 0; run < 3; run++) {
        trees(&t);
        if (run == 1) t.in[1] = (accelc_value){.kind = ACCELC_ABSENT};
        if (run == 2) t.in[0].nelem = 0, t.in[0].elem = NULL;
        ck_assert_msg(accelc_rt1_run(m.s, t.in, out) == ACCELC_OK, "%s", accelc_rt1_error(m.s));
        ck_assert_int_eq(out[0].kind, ACCELC_SEQUENCE);
        ck_assert_uint_eq(out[0].nelem, run == 2 ? 0 : 2);
        if (run < 2) {
            ck_assert_mem_eq(out[0].elem[0].data, row, sizeof row);
            ck_assert_mem_eq(out[0].elem[1].data, row + 1, 8);
            ck_assert_ptr_ne(out[0].elem[0].data, row); /* nothing of the caller's passes for ours */
        }
        ck_assert_int_eq(out[1].kind, run == 1 ? ACCELC_ABSENT : ACCELC_TENSOR);
        if (run != 1) {
            ck_assert_uint_eq(out[1].bytes, 2);
            ck_assert_mem_eq(out[1].data, packed, 2);
        }
        const accelc_value *map = out[2].elem;
        ck_assert_int_eq(map->kind, ACCELC_MAP);
        ck_assert_uint_eq(map->nelem, 2);
        ck_assert_mem_eq(map->elem[0].data, keys, sizeof keys);
        ck_assert_mem_eq(map->elem[1].data, values, sizeof values);
        ck_assert_int_eq(map->elem[1].dims[0], 2);
    }
    model_close(&m);
}
END_TEST

START_TEST(test_bad_trees) {
    M m;
    Trees t;
    accelc_value out[3] = {{0}};
    int64_t negative = -2;
    open_calls(&m, plan_trees(), THREADS(1), ACCELC_OK);
#define BAD_TREE(change, status, text)                                                             \
    do {                                                                                           \
        trees(&t);                                                                                 \
        change;                                                                                    \
        ck_assert_int_eq(accelc_rt1_run(m.s, t.in, out), status);                                  \
        ck_assert_str_eq(accelc_rt1_error(m.s), "input " text);                                    \
    } while (0)
    BAD_TREE(t.in[0].kind = ACCELC_ABSENT, ACCELC_EINVAL, "\"s\" is missing");
    BAD_TREE(t.in[0] = t.seq[0], ACCELC_EINVAL, "\"s\": expected a sequence, got a tensor");
    BAD_TREE(t.in[0].elem = NULL, ACCELC_EINVAL, "\"s\": elem is NULL");
    BAD_TREE(t.seq[1].kind = 9, ACCELC_EINVAL, "\"s\"[1]: expected a tensor, got a value of no known kind");
    BAD_TREE(t.seq[1].kind = ACCELC_ABSENT, ACCELC_EINVAL, "\"s\"[1] is missing");
    BAD_TREE(t.seq[1].dtype = I64, ACCELC_EDTYPE, "\"s\"[1]: expected type float32, got int64");
    BAD_TREE(t.seq[1].rank = 2, ACCELC_ESHAPE, "\"s\"[1]: expected rank 1, got 2");
    BAD_TREE(t.seq[0].dims = NULL, ACCELC_EINVAL, "\"s\"[0]: dims is NULL");
    BAD_TREE(t.seq[0].dims = &negative, ACCELC_ESHAPE, "\"s\"[0]: dimension 0 is -2");
    BAD_TREE(t.seq[0].data = NULL, ACCELC_EINVAL, "\"s\"[0]: data is NULL");
    BAD_TREE(t.seq[0].bytes = 11, ACCELC_EINVAL, "\"s\"[0]: expected 12 bytes, got 11");
    BAD_TREE(t.seq[0].data = (char *)row + 1, ACCELC_EINVAL, "\"s\"[0]: data is not aligned to 4 bytes");
    BAD_TREE(t.seq[0].device = 1, ACCELC_EDEVICE, "\"s\"[0] is on device 1, the model runs on the host");
    BAD_TREE(t.in[0].nelem = SIZE_MAX / 2, ACCELC_ENOMEM,
             "\"s\": out of memory for values whose size depends on data");
    BAD_TREE(t.in[1].rank = 17, ACCELC_ESHAPE, "\"o\": rank 17, expected 0 to 16");
    BAD_TREE(t.map[0].nelem = 1, ACCELC_EINVAL, "\"m\"[0]: a map has two elements, keys and values, this one has 1");
    BAD_TREE(t.entry[0].dtype = F32, ACCELC_EDTYPE, "\"m\"[0] keys: expected type int64, got float32");
    BAD_TREE(t.entry[0].kind = ACCELC_MAP, ACCELC_EINVAL, "\"m\"[0] keys: expected a tensor, got a map");
    BAD_TREE(t.entry[1].kind = ACCELC_MAP, ACCELC_EINVAL, "\"m\"[0] values: expected a sequence, got a map");
    BAD_TREE(t.entry[1].dims = &one, ACCELC_ESHAPE, "\"m\"[0]: 2 keys and 1 values");
#undef BAD_TREE
    trees(&t);
    ck_assert_int_eq(accelc_rt1_run(m.s, t.in, out), ACCELC_OK);
    model_close(&m);
}
END_TEST

START_TEST(test_broken_calls) {
    static const char *const text[] = {"function", "result", "argument", "sizes", "kind or dim", "dim, buffer or axis", "kind"};
    Pb *b = plan_sequence(AT);
    M m;
    int step = _i == 5 ? 6 : _i == 4 ? 0 : 1;
    if (_i == 0) b->step[1].kernel = NFN;
    if (_i == 1) b->arg[b->step[1].arg + 2] = 0;
    if (_i == 2) b->arg[b->step[1].arg] = 99;
    if (_i == 3) b->buf[b->arg[b->step[1].arg]].rank = 2;
    if (_i == 4) b->buf[0].kind = 9;
    if (_i == 5) b->step[6].imm = 1;
    if (_i == 6) b->out[1].type = 5;
    open_calls(&m, b, THREADS(1), ACCELC_EABI);
    char want[100];
    snprintf(want, sizeof want, "broken plan: %s %d: %s", _i == 4 ? "buffer" : _i == 6 ? "output" : "step", step, text[_i]);
    ck_assert_str_eq(m.msg, want);
    model_close(&m);
}
END_TEST

START_TEST(test_without_machinery) { /* a plan with calls in a model that has none */
    M m;
    model_init(&m, plan_sequence(AT));
    ck_assert_int_eq(model_open(&m, THREADS(1)), ACCELC_EABI);
    model_close(&m);
}
END_TEST

static void add(TCase *c) {
    tcase_add_loop_test(c, test_sequence, 0, 3);
    tcase_add_loop_test(c, test_failures, 0, 4);
    tcase_add_test(c, test_limit);
    tcase_add_test(c, test_trees);
    tcase_add_test(c, test_bad_trees);
    tcase_add_loop_test(c, test_broken_calls, 0, 7);
    tcase_add_test(c, test_without_machinery);
}

int main(void) { return run_suite("runtime objects", add); }
