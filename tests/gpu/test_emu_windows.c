/* test_emu_windows.c: tiles of windows (lir_tensor_load) on the emulator: the points that a copy brings are rows of a convolution, which this test
 * finds by division, from any row on; and a copy that begins where no window is, or whose offsets a map has no bits for, is found. */
#include "emu_child.h"

enum { CHANNELS = 8, POINTS = 32, LINE = CHANNELS * 2, TILE = POINTS * LINE, THREADS = 128, AXES = 3 };

/* The tensor is x[image][..][axis 1][axis 0][channel]. Rows are images times points of the axes. */
typedef struct Case {
    int axes, images, size[AXES], first[AXES], stride[AXES], points[AXES], offset[AXES], row;
    const char *says; /* NULL: the tile is right */
    int move;         /* of where it begins, along axis 0 */
} Case;
static const Case cases[] = {
    {1, 3, {20}, {-2}, {1}, {20}, {0}, 0, NULL, 0},
    {1, 3, {20}, {-2}, {3}, {6}, {4}, 7, NULL, 0},
    {2, 2, {7, 5}, {-1, -1}, {1, 1}, {7, 5}, {2, 0}, 3, NULL, 0},
    {2, 2, {7, 5}, {0, -3}, {2, 3}, {3, 3}, {1, 4}, 5, NULL, 0}, /* fewer rows than points: zeros */
    {2, 2, {9, 9}, {-4, 2}, {1, 8}, {12, 1}, {0, 127}, 9, NULL, 0},
    {3, 2, {3, 4, 3}, {-1, -1, -1}, {1, 2, 1}, {3, 2, 3}, {2, 1, 2}, 10, NULL, 0},
    {2, 2, {7, 5}, {-1, -1}, {2, 1}, {4, 5}, {0, 0}, 3, "no window is there", 1},
    {2, 2, {7, 5}, {-1, -1}, {1, 1}, {7, 5}, {0, 0}, 6, "no window is there", 1},
    {2, 2, {7, 5}, {-1, -1}, {1, 1}, {7, 5}, {0, 0}, 0, "no window is there", -1},
    {2, 2, {7, 5}, {-1, -1}, {1, 1}, {7, 5}, {256, 0}, 0, "no window is there", 0},
    {3, 1, {3, 4, 3}, {0, 0, 0}, {1, 1, 1}, {3, 4, 3}, {0, 0, 32}, 0, "no window is there", 0},
    {1, 1, {20}, {0}, {1}, {20}, {-1}, 0, "no window is there", 0},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct Memory { /* of the device, shared with the process that runs the kernel */
    uint16_t x[1 << 12], out[POINTS * CHANNELS];
} Memory;
static Memory *memory;
static bool on_device(const void *p, size_t n) {
    return (const uint8_t *)p >= (uint8_t *)memory && (const uint8_t *)p + n <= (uint8_t *)(memory + 1);
}

/* Where the row's point is along each axis, its offset apart, and which image it is of. */
static int point_of(const Case *t, int row, int *at) {
    for (int d = 0; d < t->axes; d++) at[d] = t->first[d] + row % t->points[d] * t->stride[d], row /= t->points[d];
    return row;
}

static uint16_t element(const Case *t, int row, int channel) {
    int at[AXES], image = point_of(t, row, at), index = image;
    if (image >= t->images) return 0;
    for (int d = t->axes - 1; d >= 0; d--) {
        at[d] += t->offset[d];
        if (at[d] < 0 || at[d] >= t->size[d]) return 0;
        index = index * t->size[d] + at[d];
    }
    return (uint16_t)(index * CHANNELS + channel + 1);
}

/* One thread brings the tile; each of them stores two words of it. */
static Lir *kernel(Ctx *c, const Case *t, int number) {
    Lir *l = lir_new(c, ctx_printf(c, "windows%d", number), 1, 0);
    int at[AXES];
    LVal zero = lir_i64(l, 0), tid, here, k[LIR_AXES + LIR_WINDOW];
    lir_block(l, THREADS, TILE + 8);
    uint32_t map = lir_map(l, (LMap){DT_F16, (uint8_t)(t->axes + 2), false, .box = {CHANNELS, POINTS}, .windows = true});
    tid = lir_tid(l), here = lir_shared(l, 0);
    k[0] = zero, k[1 + t->axes] = lir_i64(l, point_of(t, t->row, at));
    for (int d = 0; d < t->axes; d++) k[1 + d] = lir_i64(l, at[d] + (d ? 0 : t->move)), k[2 + t->axes + d] = lir_i64(l, t->offset[d]);
    LIf one = lir_if(l, lir_op2(l, S_EQ, tid, zero), 0);
    lir_mbarrier_init(l, here, lir_i64(l, TILE), 1);
    lir_fence_mbarriers(l);
    lir_mbarrier_expect(l, here, lir_i64(l, TILE), lir_i64(l, TILE));
    lir_tensor_load(l, here, zero, map, k, here, lir_i64(l, TILE));
    lir_else(l, &one, NULL);
    lir_endif(l, &one, NULL, NULL);
    lir_barrier(l);
    lir_mbarrier_wait(l, here, lir_i64(l, TILE), zero);
    LFor f = lir_for(l, tid, lir_i64(l, TILE / 4), lir_i64(l, THREADS), 0, NULL);
    lir_store(l, lir_buf(l, 0), f.iv, lir_load(l, here, f.iv, (LTy){DT_I32, 1}, (LVal){0}, 0), (LVal){0}, 0);
    lir_for_end(l, &f, NULL, NULL);
    ck_assert_msg(lir_verify(c, l), "%s", ctx_messages(c));
    return l;
}

static emu_map map_of(const Case *t) {
    emu_map m = {.is = EMU_IS_MAP, .base = (uint8_t *)memory->x, .rank = (uint8_t)(t->axes + 2), .windows = 1, .box = {CHANNELS, POINTS}};
    m.extent[0] = CHANNELS, m.step[0] = 2, m.step[1] = LINE;
    for (int d = 0; d < t->axes; d++) {
        m.extent[1 + d] = (uint64_t)t->size[d], m.step[2 + d] = m.step[1 + d] * m.extent[1 + d];
        m.window[d].first = (int16_t)t->first[d], m.stride[d] = (uint8_t)t->stride[d];
        m.window[d].end = (int16_t)(t->first[d] + (t->points[d] - 1) * t->stride[d] - t->size[d] + 1);
    }
    m.extent[1 + t->axes] = (uint64_t)t->images;
    return m;
}

START_TEST(tiles_are_rows) {
    Ctx *c = ctx_new();
    Lir *l[CASES];
    struct { emu_map map; int64_t word[5]; } block;
    memory = shared_memory(sizeof *memory);
    for (size_t k = 0; k < sizeof memory->x / 2; k++) memory->x[k] = (uint16_t)(k + 1);
    for (int k = 0; k < CASES; k++) l[k] = kernel(c, &cases[k], k);
    void *twins = twins_open(c, CASES, l);
    for (int k = 0; k < CASES; k++) {
        const Case *t = &cases[k];
        block.map = map_of(t);
        memcpy(block.word, (int64_t[]){(int64_t)(uintptr_t)memory->out, 1, 0, 0, (int64_t)(uintptr_t)memory->out}, sizeof block.word);
        emu_launch x = {lir_name(l[k]), twin_of(c, twins, l[k]), &block, 1, THREADS, TILE + 8, (uint8_t *)memory->out, 0, true, on_device, 1};
        bool ends = child_launch(&x, NULL, false);
        if (t->says) {
            ck_assert_msg(!ends && strstr(child_text, t->says) != NULL, "case %d: %s", k, child_text);
            continue;
        }
        ck_assert_msg(ends, "case %d: %s", k, child_text);
        for (int i = 0; i < POINTS * CHANNELS; i++)
            ck_assert_msg(memory->out[i] == element(t, t->row + i / CHANNELS, i % CHANNELS), "case %d: point %d", k, i / CHANNELS);
    }
    munmap(memory, sizeof *memory);
    ctx_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("emu_windows");
    TCase *t = tcase_create("emu_windows");
    tcase_add_test(t, tiles_are_rows);
    suite_add_tcase(s, t);
    return run_suite(s);
}
