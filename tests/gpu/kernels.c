/* kernels.c: the kernels of rt_fixture.h as a GPU has them, for the look-alike (emu.h). */
#include "emu.h"

typedef struct { /* what follows the buffers and sizes */
    int64_t tasks;
    char *scratch;
    int64_t scratch_bytes;
    uint32_t *status;
} Rest;

#define KERNEL(name, n)                 \
    const uint32_t name##_nbuf = n;     \
    emu_kernel name;                    \
    void name(emu_thread *t, const void *params)
#define EACH_TASK(i) for (int64_t i = (int64_t)t->ctaid * t->ntid + t->tid; i < p->rest.tasks; i += (int64_t)t->ntid * t->nctaid)

static void guard(const Rest *r, uint32_t g) {
    uint32_t none = 0;
    __atomic_compare_exchange_n(r->status, &none, 1 + g, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

KERNEL(k_add, 3) {
    const struct {
        const float *x, *y;
        float *z;
        Rest rest;
    } *p = params;
    EACH_TASK(i) p->z[i] = p->x[i] + p->y[i];
}

KERNEL(k_scale, 2) {
    const struct {
        const float *x;
        float *z;
        Rest rest;
    } *p = params;
    EACH_TASK(i) p->z[i] = p->x[i] * 1.25f + 0.5f;
}

KERNEL(k_flip, 2) {
    const struct {
        const float *x;
        float *z;
        int64_t n;
        Rest rest;
    } *p = params;
    EACH_TASK(i) p->z[i] = p->x[p->n - 1 - i];
}

KERNEL(k_check, 1) {
    const struct {
        const float *x;
        int64_t g;
        Rest rest;
    } *p = params;
    EACH_TASK(i) if (p->x[i] < 0) guard(&p->rest, (uint32_t)p->g + (p->x[i] < -1));
}

KERNEL(k_compact, 3) {
    const struct {
        const float *x;
        float *y;
        int64_t *count, n;
        Rest rest;
    } *p = params;
    EACH_TASK(one) {
        (void)one;
        *p->count = 0;
        for (int64_t i = 0; i < p->n; i++)
            if (p->x[i] != 0) p->y[(*p->count)++] = p->x[i];
    }
}

KERNEL(k_fill, 1) {
    const struct {
        float *y;
        int64_t v;
        Rest rest;
    } *p = params;
    EACH_TASK(i) p->y[i] = (float)p->v;
}

KERNEL(k_scratch, 1) {
    const struct {
        float *y;
        int64_t n;
        Rest rest;
    } *p = params;
    float *mine = (float *)(void *)(p->rest.scratch + ((int64_t)t->ctaid * t->ntid + t->tid) * p->rest.scratch_bytes);
    EACH_TASK(i) {
        float sum = 0;
        for (int64_t k = 0; k < p->n; k++) mine[k] = (float)(i + k);
        for (int64_t k = 0; k < p->n; k++) sum += mine[k];
        p->y[i] = sum;
    }
}

/* A block adds up a row, which a map tells, in shared memory; the last of its threads to come here tells the result. */
const uint32_t k_rows_nmap = 1;
KERNEL(k_rows, 3) {
    const struct {
        emu_map map;
        const float *x, *bias;
        float *y;
        int64_t n;
        Rest rest;
    } *p = params;
    struct {
        float sum;
        uint32_t come;
    } *mine = t->shared;
    for (int64_t i = t->ctaid; i < p->rest.tasks; i += t->nctaid) {
        if (mine->come == ~0u || mine->come == t->ntid) mine->sum = 0, mine->come = 0;
        const uint8_t *row = p->map.base + (uint64_t)i * p->map.step[1];
        for (int64_t k = t->tid; k < (int64_t)p->map.extent[0]; k += t->ntid) mine->sum += *(const float *)(const void *)(row + k * 4);
        if (++mine->come == t->ntid) p->y[i] = mine->sum + p->bias[i];
    }
}
