/* The bf16 mode of the matrix product is the exact one on inputs rounded beforehand, bit for bit, whatever serves it. */
#include "base/mem.h"
#include "base/rng.h"
#include "format/half.h"
#include "kernel/kernel.h"
#include "test.h"

#define ROWS 37
#define COLS 512
#define TOKENS 40

static void inputs_are_rounded_and_nothing_else(void **state) {
    (void)state;
    static const size_t counts[] = {1, 4, 5, 33, TOKENS};
    struct ht_pool *pool;
    struct ht_rng rng;
    ht_err err;
    ASSERT_OK(ht_pool_new(2, &pool, &err), &err);
    ht_rng_init(&rng, 3);
    float *x = ht_mem_alloc_aligned(TOKENS * COLS, 4), *rounded = ht_mem_alloc_aligned(TOKENS * COLS, 4);
    float *w = ht_mem_alloc_aligned(ROWS * COLS, 4), *y = ht_mem_alloc_aligned(TOKENS * ROWS, 4);
    float *want = ht_mem_alloc_aligned(TOKENS * ROWS, 4);
    for (size_t i = 0; i < TOKENS * COLS; i++) {
        x[i] = (float)ht_rng_normal(&rng);
        rounded[i] = ht_bf16_to_f32(ht_bf16_from_f32(x[i]));
    }
    for (size_t i = 0; i < ROWS * COLS; i++) {
        w[i] = (float)ht_rng_normal(&rng);
    }
    static const char *const names[] = {"bf16", "f16", "f32", "q8_0", "q4_k"};
    for (size_t f = 0; f < sizeof names / sizeof names[0]; f++) {
        const struct ht_format *format = ht_format_find(names[f]);
        struct ht_mat mat = {.format = format, .rows = ROWS, .cols = COLS,
                             .row_bytes = ht_format_row_bytes(format, COLS)};
        unsigned char *data = ht_mem_alloc_aligned(ROWS, mat.row_bytes);
        for (size_t r = 0; r < ROWS; r++) {
            format->encode(w + r * COLS, NULL, data + r * mat.row_bytes, COLS);
        }
        mat.data = data;
        void *scratch = ht_mem_alloc_aligned(ht_matmul_scratch_bytes(&mat, TOKENS, 2), 1);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            ht_matmul(pool, &mat, rounded, counts[c], want, ROWS, HT_MATH_EXACT, scratch);
            ht_matmul(pool, &mat, x, counts[c], y, ROWS, HT_MATH_BF16, scratch);
            assert_memory_equal(y, want, counts[c] * ROWS * sizeof *y);
            ht_matmul(pool, &mat, x, counts[c], want, ROWS, HT_MATH_EXACT, scratch);
            assert_memory_not_equal(y, want, counts[c] * ROWS * sizeof *y);
        }
        ht_mem_free_aligned(scratch);
        ht_mem_free_aligned(data);
    }
    ht_mem_free_aligned(x);
    ht_mem_free_aligned(rounded);
    ht_mem_free_aligned(w);
    ht_mem_free_aligned(y);
    ht_mem_free_aligned(want);
    ht_pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(inputs_are_rounded_and_nothing_else)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
