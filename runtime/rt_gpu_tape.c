/* rt_gpu_tape.c: runs that are played again. Where all steps are the device's and all sizes follow from those of the inputs, a run puts the
 * same launches and copies into the stream as the last one did with the same sizes and addresses. Such a run is recorded; the second
 * one makes a graph of the record (by then the driver has loaded the kernels, which it may not do while a stream is captured), and from then on a
 * run is one launch. Without graphs (old drivers) the record itself is played.
 * Inputs go to the device before, results come from it afterwards. What is recorded is useless when memory that it names has moved. */
#include "rt_gpu.h"

enum { MOST_ACTIONS = 1 << 16 };

/* ---- recording ---- */

static void tape_stop(Device *d) {
    if (d->recording) d->recording->played = 0;
    d->recording = NULL;
}

static bool grow(Sess *s, void **list, size_t n, size_t *most, size_t more, size_t size) {
    if (n + more <= *most) return true;
    size_t want = (n + more) * 2;
    void *p = accelc_rt1_mem_get(&s->cfg, want * size);
    if (!p) return false;
    if (n) memcpy(p, *list, n * size);
    accelc_rt1_mem_put(&s->cfg, *list);
    *list = p;
    *most = want;
    return true;
}

static void record(Sess *s, const Action *a, const uint64_t *word) {
    Tape *t = s->device->recording;
    size_t n = a->bytes / sizeof *word;
    if (!t) return;
    bool room = t->naction < MOST_ACTIONS && grow(s, (void **)&t->action, t->naction, &t->maxaction, 1, sizeof *a) &&
                (!word || grow(s, (void **)&t->word, t->nword, &t->maxword, n, sizeof *word));
    if (!room) {
        tape_stop(s->device);
        return;
    }
    t->action[t->naction] = *a;
    t->action[t->naction++].at = t->nword;
    if (!word) return;
    memcpy(t->word + t->nword, word, a->bytes);
    t->nword += n;
}

static void tape_launch(Sess *s, uint32_t step, CUfunction kernel, const Grid *grid, const uint64_t *word, size_t bytes) {
    record(s, &(Action){.kernel = kernel, .grid = *grid, .bytes = bytes, .step = step}, word);
}

static void tape_move(Sess *s, CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    record(s, &(Action){.to = to, .from = from, .bytes = bytes}, NULL);
}

static CUdeviceptr place(const Sess *s, uint32_t b) {
    if (b == s->nbuf) return s->device->scratch.at;
    return s->buf[b].kind == RT_BUF_VIEW ? 0 : root_place(s, (int32_t)b);
}

static void forget(Device *d, Tape *t) {
    if (t->graph) d->cu.graph_exec_free(t->graph);
    t->graph = NULL;
    t->tried = false;
    t->naction = t->nword = 0;
    t->played = 0;
}

/* Records what comes in place of what was not played for longest. */
static void start(Sess *s) {
    Device *d = s->device;
    Tape *t = d->tape;
    for (int i = 1; i < TAPES; i++)
        if (d->tape[i].played < t->played) t = &d->tape[i];
    forget(d, t);
    memcpy(t->in_dims, s->in_dims, s->niodim * sizeof *t->in_dims);
    memcpy(t->before, s->valid, s->nbuf);
    t->guarded = NULL;
    d->recording = t;
}

/* The run went well so far. */
static void gpu_ran(Sess *s) {
    Device *d = s->device;
    Tape *t = d->recording;
    d->recording = NULL;
    if (!t || s->status != ACCELC_OK) return;
    memcpy(t->dims, s->dims, s->plan->ndim * sizeof *t->dims);
    memcpy(t->after, s->valid, s->nbuf);
    for (uint32_t b = 0; b <= s->nbuf; b++) t->place[b] = place(s, b);
    t->guarded = d->guarded;
    t->played = ++d->plays;
}

/* ---- playing ---- */

static CUresult play(Sess *s, const Tape *t, CUstream stream, bool captured) {
    const Device *d = s->device;
    CUresult e = 0;
    for (size_t i = 0; i < t->naction && e == 0; i++) {
        const Action *a = &t->action[i];
        size_t bytes = a->bytes;
        void *extra[] = {CU_PARAM_POINTER, t->word + a->at, CU_PARAM_SIZE, &bytes, NULL};
        e = a->kernel ? launch_timed(s, a->step, a->kernel, &a->grid, stream, captured, extra)
                      : d->cu.move(a->to, a->from, a->bytes, stream);
    }
    return e;
}

/* Makes a graph of the tape, in a stream of its own: the other may be the caller's. Without success it is not tried again. */
static void capture(Sess *s, Tape *t) {
    Device *d = s->device;
    CUstream stream;
    CUgraph graph = NULL;
    bool able = d->cu.capture_begin && d->cu.capture_end && d->cu.graph_ready && d->cu.graph_launch && d->cu.graph_exec_free && d->cu.graph_free &&
                (!s->cfg.on_step || d->cu.event_in_graph);
    t->tried = true;
    if (!able || d->cu.stream_new(&stream, CU_STREAM_NON_BLOCKING) != 0) return;
    if (d->cu.capture_begin(stream, CU_CAPTURE_THREAD_LOCAL) == 0) {
        CUresult e = play(s, t, stream, true), end = d->cu.capture_end(stream, &graph);
        if (e == 0 && end == 0 && graph && d->cu.graph_ready(&t->graph, graph, 0) != 0) t->graph = NULL;
        if (end == 0 && graph) d->cu.graph_free(graph);
    }
    d->cu.stream_free(stream);
    d->ntimed = 0; /* nothing ran */
}

static accelc_status put(Sess *s, Tape *t) {
    Device *d = s->device;
    accelc_status st = clear_status(s);
    if (st != ACCELC_OK) return st;
    if (!t->tried) capture(s, t);
    d->busy = true;
    d->nlast += (uint32_t)t->naction;
    d->last = NULL;
    if (t->graph) timed_graph(s, t);
    TRY(t->graph ? d->cu.graph_launch(t->graph, d->stream) : play(s, t, d->stream, false), "a launch");
    return ACCELC_OK;
}

/* The tape of a run that would be the same as this, whose inputs are bound, or NULL (which may be a failure). Sizes become those that they
 * have when it has ended, as places depend on them. */
static Tape *find(Sess *s) {
    Device *d = s->device;
    for (Tape *t = d->tape; t < d->tape + TAPES; t++) {
        bool same = t->played && !memcmp(t->in_dims, s->in_dims, s->niodim * sizeof *t->in_dims) && !memcmp(t->before, s->valid, s->nbuf);
        if (!same) continue;
        if ((s->status = accelc_rt1_set_dims(s, t->dims)) != ACCELC_OK) return NULL;
        for (uint32_t b = 0; same && b <= s->nbuf; b++) same = t->place[b] == place(s, b);
        if (same) return t;
    }
    return NULL;
}

static bool gpu_replay(Sess *s) {
    Device *d = s->device;
    if (!d->whole) return false;
    Tape *t = find(s);
    if (!t) {
        if (s->status == ACCELC_OK && enter(s) == ACCELC_OK) { /* an old graph may have to go */
            start(s);
            leave(s, ACCELC_OK);
        }
        return false;
    }
    s->status = enter(s);
    if (s->status == ACCELC_OK) s->status = leave(s, put(s, t));
    memcpy(s->valid, t->after, s->nbuf);
    if (t->guarded) d->guarded = t->guarded;
    t->played = ++d->plays;
    return true;
}

/* ---- opening and closing ---- */

static accelc_status tape_open(Sess *s) {
    Device *d = s->device;
    d->whole = !s->model->calls && !s->mixed; /* mixed: a run begins with other sizes than it ends with */
    for (uint32_t i = 0; i < s->nstep; i++) {
        uint8_t op = s->step[i].op;
        d->whole &= op == RT_KERNEL ? on_device(s, &s->step[i]) : op != RT_BIND && op != RT_CALL && op != RT_SIZE && op != RT_SEED;
    }
    for (int i = 0; i < TAPES && d->whole; i++) {
        Tape *t = &d->tape[i];
        size_t bytes = (s->niodim + s->plan->ndim + s->nbuf + 1) * sizeof(int64_t) + 2 * s->nbuf;
        t->in_dims = accelc_rt1_mem_get(&s->cfg, bytes);
        if (!t->in_dims) return fail(s, ACCELC_ENOMEM, "out of memory: %zu bytes for the session", bytes);
        t->dims = t->in_dims + s->niodim;
        t->place = (CUdeviceptr *)(t->dims + s->plan->ndim);
        t->before = (uint8_t *)(t->place + s->nbuf + 1);
        t->after = t->before + s->nbuf;
    }
    return ACCELC_OK;
}

static void graphs_free(Device *d) {
    for (int i = 0; i < TAPES; i++) forget(d, &d->tape[i]);
}

static void tape_close(Sess *s) {
    for (Tape *t = s->device->tape; t < s->device->tape + TAPES; t++) {
        accelc_rt1_mem_put(&s->cfg, t->action);
        accelc_rt1_mem_put(&s->cfg, t->word);
        accelc_rt1_mem_put(&s->cfg, t->in_dims);
    }
    accelc_rt1_mem_put(&s->cfg, s->device->timed);
}
