/* Range parts take any text, any floats and any importance: they refuse or give a finite grid; streams count every
 * value once whatever the order. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "quant/range.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_VALUES = 256 };

static const float table[5] = {-1.0f, -0.25f, 0.0f, 0.5f, 1.0f};
static const struct ht_range_grid grids[] = {
    {NULL, -8, 7, true, false}, {NULL, 0, 255, false, true}, {NULL, 0, 3, false, false},
    {NULL, -1, 1, true, false}, {NULL, 0, 15, true, false},  {table, 0, 4, true, false},
};

static void need(int condition) {
    if (!condition) {
        abort();
    }
}

static void check(const struct ht_range_choice *choice, const struct ht_range_input *in, const struct ht_range_grid *grid) {
    struct ht_range r = {-1, 0};
    float low, high;
    if (ht_range_fit(choice, in, grid, &r, NULL) != HT_OK) {
        return;
    }
    need(isfinite(r.scale) && r.scale >= 0 && isfinite(r.zero) && (!grid->symmetric || r.zero == 0));
    need(!grid->integer_zero || (r.zero == rintf(r.zero) && r.zero >= (float)grid->lo && r.zero <= (float)grid->hi));
    ht_range_reach(grid, &r, &low, &high);
    need(low <= high);
    for (size_t i = 0; in->x != NULL && i < in->n; i++) {
        float y = ht_range_nearest(grid, &r, in->x[i]);
        need(y >= low && y <= high);
    }
}

static void check_stream(const struct ht_range_choice *choice, const float *x, size_t n, const struct ht_range_grid *grid) {
    static struct ht_range_state whole, parts, late;
    need(ht_range_state_init(&whole, 0.5, NULL) == HT_OK);
    parts = late = whole;
    if (ht_range_state_add(&whole, x, n, NULL) != HT_OK) {
        return;
    }
    for (size_t i = n / 2; i < n; i++) {
        need(ht_range_state_add(&late, x + i, 1, NULL) == HT_OK);
    }
    need(ht_range_state_add(&parts, x, n / 2, NULL) == HT_OK && ht_range_state_merge(&parts, &late, NULL) == HT_OK);
    need(parts.n == n && parts.n_zero == whole.n_zero && memcmp(parts.count, whole.count, sizeof whole.count) == 0);
    check(choice, &(struct ht_range_input){.state = &whole}, grid);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ht_range_choice choice;
    char text[64];
    float x[MAX_VALUES], weight[MAX_VALUES];
    if (size < 4) {
        return 0;
    }
    size_t len = data[0] % 48, n;
    len = len < size - 2 ? len : size - 2;
    memcpy(text, data + 2, len);
    text[len] = '\0';
    if (ht_range_parse(text, &choice, NULL) != HT_OK) { /* most texts are no part: the bytes are values all the same */
        need(ht_range_parse(ht_range_at(data[0] % ht_range_count())->part.name, &choice, NULL) == HT_OK);
        len = 0;
    }
    data += 2 + len;
    n = (size - 2 - len) / sizeof *x / 2;
    n = n < MAX_VALUES ? n : MAX_VALUES;
    memcpy(x, data, n * sizeof *x);
    memcpy(weight, data + n * sizeof *x, n * sizeof *x);
    const struct ht_range_grid *grid = &grids[data[-1] % (sizeof grids / sizeof grids[0])];
    check(&choice, &(struct ht_range_input){.x = x, .weight = weight, .n = n}, grid);
    check_stream(&choice, x, n, grid);
    return 0;
}
