/* emu_matrix.c: load_matrix and mma for the 32 threads of a warp. Where elements lie: the PTX manual, "Matrix fragments". Thread t has place t / 4
 * along the rows (of a, c) or columns (of b), and t % 4 along the other axis. */
#include <string.h>

#include "emu_internal.h"

void emu_load_matrix(const uint8_t *const row[WARP], bool transposed, uint32_t (*const word[WARP])[EMU_WORDS]) {
    for (int t = 0; t < WARP; t++)
        for (int m = 0; m < 4; m++) {
            uint16_t e[2];
            for (int k = 0; k < 2; k++) {
                int r = transposed ? t % 4 * 2 + k : t / 4, c = transposed ? t / 4 : t % 4 * 2 + k;
                memcpy(&e[k], row[m * 8 + r] + 2 * c, 2);
            }
            (*word[t])[m] = e[0] | (uint32_t)e[1] << 16;
        }
}

void emu_store_matrix(const uint8_t *const row[WARP], bool transposed, uint32_t (*const word[WARP])[EMU_WORDS]) {
    for (int t = 0; t < WARP; t++)
        for (int m = 0; m < 4; m++)
            for (int k = 0; k < 2; k++) {
                int r = transposed ? t % 4 * 2 + k : t / 4, c = transposed ? t / 4 : t % 4 * 2 + k;
                uint16_t e = (uint16_t)((*word[t])[m] >> 16 * k);
                memcpy((uint8_t *)(uintptr_t)row[m * 8 + r] + 2 * c, &e, 2);
            }
}

static float from_bits(uint32_t v) {
    float f;
    memcpy(&f, &v, sizeof f);
    return f;
}

static float from_f16(uint32_t h) {
    uint32_t v = (h & 0x7fff) << 13, sign = h >> 15 << 31;
    bool finite = (h >> 10 & 31) != 31;
    return finite ? (sign ? -1.0f : 1.0f) * (from_bits(v) * 0x1p112f) : from_bits(sign | 0x7f800000 | v);
}

static float from_tf32(uint32_t v) { /* to nearest, ties away from zero */
    bool finite = (v >> 23 & 255) != 255;
    return from_bits(finite ? (v + 0x1000) & ~0x1fffu : v);
}

enum { F32 = 1, U8 = 2, I8 = 3, F16 = 10, BF16 = 16 }; /* numbers of ONNX */

/* Element k of a word of n elements. */
static float real(uint32_t in, uint32_t w, int k) {
    return in == F32 ? from_tf32(w) : in == F16 ? from_f16(w >> 16 * k & 0xffff) : from_bits(w >> 16 * k << 16);
}
static int32_t whole(bool is_signed, uint32_t w, int k) {
    uint8_t b = (uint8_t)(w >> 8 * k);
    return is_signed ? (int8_t)b : b;
}

/* The operands as matrices a[16][k], b[k][8], by words. */
void emu_mma(uint32_t in, uint32_t (*const word[WARP])[EMU_WORDS]) {
    bool integers = in == I8 || in == U8;
    int n = integers ? 4 : in == F32 ? 1 : 2; /* elements of a word */
    float fa[16][32], fb[32][8], fc[16][8];
    int32_t ia[16][32], ib[32][8];
    uint32_t ic[16][8];
    for (int t = 0; t < WARP; t++) {
        int g = t / 4, q = t % 4;
        const uint32_t *w = *word[t];
        for (int r = 0; r < 6; r++)
            for (int j = 0; j < n; j++) {
                int k = n * q + j + 4 * n * (r < 4 ? r >> 1 : r - 4), row = g + 8 * (r & 1);
                if (integers && r < 4)
                    ia[row][k] = whole(in == I8, w[r], j);
                else if (integers)
                    ib[k][g] = whole(true, w[r], j);
                else if (r < 4)
                    fa[row][k] = real(in, w[r], j);
                else
                    fb[k][g] = real(in, w[r], j);
            }
        for (int r = 0; r < 4; r++) ic[g + 8 * (r >> 1)][2 * q + (r & 1)] = w[6 + r], fc[g + 8 * (r >> 1)][2 * q + (r & 1)] = from_bits(w[6 + r]);
    }
    for (int i = 0; i < 16 && integers; i++)
        for (int k = 0; k < 8 * n; k++)
            for (int j = 0; j < 8; j++) ic[i][j] += (uint32_t)(ia[i][k] * ib[k][j]);
    for (int i = 0; i < 16 && !integers; i++)
        for (int k = 0; k < 8 * n; k++)
            for (int j = 0; j < 8; j++) fc[i][j] += fa[i][k] * fb[k][j];
    for (int t = 0; t < WARP; t++)
        for (int r = 0; r < 4; r++) {
            int i = t / 4 + 8 * (r >> 1), j = t % 4 * 2 + (r & 1);
            if (integers)
                (*word[t])[6 + r] = ic[i][j];
            else
                memcpy(&(*word[t])[6 + r], &fc[i][j], 4);
        }
}

/* c[64][columns] += a b; a and columns of b are rows of 32 bytes; word[t] are c's of thread t. What tf32 does not have is cut off. */
void emu_wgmma(uint32_t in, const uint8_t *a, const uint8_t *b, uint32_t columns, uint32_t (*word)[EMU_FRAGMENTS]) {
    bool integers = in == I8 || in == U8;
    uint32_t n = integers ? 4 : in == F32 ? 1 : 2; /* elements of a word */
    static float fa[64][16], fb[256][16];
    static int32_t ia[64][32], ib[256][32];
    for (uint32_t r = 0; r < 64 + columns; r++)
        for (uint32_t k = 0; k < 8 * n; k++) {
            uint32_t w;
            memcpy(&w, (r < 64 ? a + r * 32 : b + (r - 64) * 32) + k / n * 4, 4);
            if (in == F32) w &= ~0x1fffu;
            if (integers)
                *(r < 64 ? &ia[r][k] : &ib[r - 64][k]) = whole(in == I8 || r >= 64, w, (int)(k % n));
            else
                *(r < 64 ? &fa[r][k] : &fb[r - 64][k]) = real(in, w, (int)(k % n));
        }
    for (uint32_t t = 0; t < 128; t++)
        for (uint32_t v = 0; v < columns / 2; v++) {
            uint32_t row = t / 32 * 16 + t % 32 / 4 + 8 * (v >> 1 & 1), column = v / 4 * 8 + t % 4 * 2 + (v & 1), whole_sum = word[t][v];
            float sum = from_bits(whole_sum);
            for (uint32_t k = 0; k < 8 * n && integers; k++) whole_sum += (uint32_t)(ia[row][k] * ib[column][k]);
            for (uint32_t k = 0; k < 8 * n && !integers; k++) sum += fa[row][k] * fb[column][k];
            if (!integers) memcpy(&whole_sum, &sum, 4);
            word[t][v] = whole_sum;
        }
}
