/* rt_gpu_launch.c: launches: the grid, scratch, parameters. What guards say is found out at the next wait: until then, kernels that would
 * believe what the failed one left do nothing (rt_gpu of abi.h). */
#include "rt_gpu.h"

#define SCRATCH_MOST ((int64_t)256 << 20) /* bytes of scratch for one launch, unless a single block needs more */

/* A step wrote to buffers `where`. */
static void written(Sess *s, const rt_step *st, uint8_t where) {
    uint64_t mask = s->model->gpu->kernel[st->kernel].writes;
    for (uint32_t k = 0; k < st->nbuf; k++)
        if (mask >> (k < 63 ? k : 63) & 1) s->valid[root_of(s, s->arg[st->arg + (int32_t)k])] = where;
}

/* The grid: any is right, so there are as many blocks as keep the device busy and have room for their scratch. */
static int64_t blocks_of(const Device *d, const rt_gpu_kernel *k, int64_t tasks, int64_t scratch) {
    bool threads = k->mode == RT_GPU_THREADS;
    int64_t n = threads ? (tasks - 1) / k->block + 1 : tasks, processors = d->found.processors;
    int64_t most = threads ? processors * 64 : k->mode == RT_GPU_RESIDENT ? processors : INT32_MAX;
    if (scratch) {
        int64_t fit = SCRATCH_MOST / scratch / (threads ? k->block : 1);
        most = fit < most ? fit : most;
    }
    most = most < 1 ? 1 : most;
    n = n < most ? n : most;
    int64_t cluster = k->cluster > 1 ? k->cluster : 1;
    return n < cluster ? cluster : n - n % cluster;
}

static accelc_status step_scratch(Sess *s, const rt_step *st, int64_t *each) {
    int64_t n = st->scratch >= 0 ? s->dims[st->scratch] : 0;
    *each = 0;
    if (n < 0 || n > INT64_MAX / 4096) return fail(s, ACCELC_ENOMEM, "%s: scratch of %lld bytes", s->str + st->nodes, (long long)n);
    *each = align_up(n);
    return ACCELC_OK;
}

/* A map, with its buffer at address `at`. A tensor without elements is never loaded: any memory will do. */
static accelc_status encode(Sess *s, const rt_step *st, const rt_map *m, CUdeviceptr at, uint64_t *to) {
    static const uint8_t type[] = {[1] = CU_UINT8, [2] = CU_UINT16, [4] = CU_UINT32, [8] = CU_UINT64}; /* bytes are all that matters */
    const Device *d = s->device;
    CUtensorMap map;
    uint64_t extent[RT_AXES], stride[RT_AXES];
    uint32_t box[RT_AXES], each[RT_AXES] = {1, 1, 1, 1, 1};
    int first[RT_WINDOW] = {0}, end[RT_WINDOW] = {0}; /* of the last point, counted from the axis' last element */
    bool none = false;
    for (int k = 0; k < m->rank; k++) {
        extent[k] = (uint64_t)s->dims[m->extent[k]], stride[k] = (uint64_t)s->dims[m->stride[k]], box[k] = m->box[k];
        none |= extent[k] == 0;
    }
    for (int k = 0; k < m->rank && none; k++) extent[k] = 1;
    for (int k = 0; k < m->rank - 2 && m->windows && !none; k++) {
        first[k] = (int)s->dims[m->window[k].first], each[1 + k] = (uint32_t)m->window[k].stride;
        end[k] = (int)(s->dims[m->window[k].last] - s->dims[m->extent[1 + k]] + 1);
    }
    CUdeviceptr place = none ? d->status : at + (CUdeviceptr)s->dims[m->offset];
    int swizzle = m->swizzled ? CU_SWIZZLE_128 : CU_SWIZZLE_NONE;
    CUresult e = m->windows ? d->cu.windows_encode(&map, type[m->bytes], m->rank, place, extent, stride + 1, first, end, box[0], box[1], each,
                                                   CU_INTERLEAVE_NONE, swizzle, CU_PROMOTION_256, CU_FILL_ZERO)
                            : d->cu.map_encode(&map, type[m->bytes], m->rank, place, extent, stride + 1, box, each, CU_INTERLEAVE_NONE, swizzle,
                                               CU_PROMOTION_256, CU_FILL_ZERO);
    if (e != 0) return broken_step(s, e, st);
    memcpy(to, &map, sizeof map);
    return ACCELC_OK;
}

static accelc_status launch(Sess *s, const rt_step *st) {
    Device *d = s->device;
    const rt_gpu_kernel *k = &s->model->gpu->kernel[st->kernel];
    int64_t tasks = s->dims[st->tasks], each;
    const int32_t *arg = s->arg + st->arg;
    uint64_t *map = d->parameters, *p = map + st->nmap * sizeof(CUtensorMap) / sizeof *map;
    accelc_status bad;
    if (tasks <= 0) return ACCELC_OK;
    for (uint32_t i = 0; i < st->nbuf; i++)
        if ((bad = to_device(s, root_of(s, arg[i]))) != ACCELC_OK || (bad = address(s, arg[i], &p[i])) != ACCELC_OK) return bad;
    for (uint32_t i = 0; i < st->nmap; i++, map += sizeof(CUtensorMap) / sizeof *map)
        if ((bad = encode(s, st, &s->maps[st->lo + i], p[s->maps[st->lo + i].arg], map)) != ACCELC_OK) return bad;
    if ((bad = step_scratch(s, st, &each)) != ACCELC_OK) return bad;
    int64_t blocks = blocks_of(d, k, tasks, each);
    size_t scratch = (size_t)each * (size_t)blocks * (k->mode == RT_GPU_THREADS ? k->block : 1);
    if ((bad = region_need(s, &d->scratch, scratch, "scratch")) != ACCELC_OK) return bad;
    p += st->nbuf;
    for (uint32_t i = 0; i < st->ndim; i++) *p++ = (uint64_t)s->dims[arg[st->nbuf + i]];
    *p++ = (uint64_t)tasks;
    *p++ = each ? d->scratch.at : 0;
    *p++ = (uint64_t)each;
    *p++ = d->status;
    size_t bytes = (size_t)(p - d->parameters) * sizeof *p;
    void *extra[] = {CU_PARAM_POINTER, d->parameters, CU_PARAM_SIZE, &bytes, NULL};
    d->busy = true;
    uint32_t step = (uint32_t)(st - s->step);
    Grid grid = {(unsigned)blocks, k->block, k->shared, k->cluster};
    tape_launch(s, step, d->shared->code->kernel[st->kernel], &grid, d->parameters, bytes);
    CUresult e = launch_timed(s, step, d->shared->code->kernel[st->kernel], &grid, d->stream, false, extra);
    if (e != 0) return broken_step(s, e, st);
    written(s, st, ON_DEVICE);
    d->last = st;
    d->nlast++;
    if (k->guards) d->guarded = st;
    return ACCELC_OK;
}

static accelc_status clear_status(Sess *s) {
    Device *d = s->device;
    if (!d->stale) return ACCELC_OK;
    d->busy = true;
    TRY(d->cu.set32(d->status, 0, 1, d->stream), "memory for the status");
    d->stale = false;
    return ACCELC_OK;
}

static accelc_status gpu_steps(Sess *s, uint32_t *pc) {
    bool last;
    accelc_status st = enter(s);
    if (st != ACCELC_OK) return st;
    if ((st = clear_status(s)) != ACCELC_OK) return leave(s, st);
    do {
        last = s->step[*pc].barrier;
        st = launch(s, &s->step[*pc]);
        ++*pc;
    } while (st == ACCELC_OK && !last && *pc < s->nstep && on_device(s, &s->step[*pc]));
    return leave(s, st);
}
