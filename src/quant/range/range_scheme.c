#include "quant/range_scheme.h"

#include <math.h>
#include <string.h>

int ht_range_levels(const struct ht_format *format, const float *table, float levels[HT_LEVELS_MAX],
                    int32_t codes[HT_LEVELS_MAX]) {
    const struct ht_code *c = format->code;
    int n = 0;
    for (int32_t code = c->lo; code <= c->hi; code++) {
        float v = table[code - c->lo];
        int at = n;
        while (at > 0 && levels[at - 1] > v) {
            at--;
        }
        if (!isfinite(v) || (at > 0 && levels[at - 1] == v)) {
            continue; /* +0 and -0: the first code serves */
        }
        memmove(levels + at + 1, levels + at, (size_t)(n - at) * sizeof *levels);
        memmove(codes + at + 1, codes + at, (size_t)(n - at) * sizeof *codes);
        levels[at] = v;
        codes[at] = code;
        n++;
    }
    return n;
}

ht_status ht_range_scheme_init(struct ht_range_scheme *r, const struct ht_range_choice *choice,
                               const struct ht_scheme *scheme, ht_err *err) {
    const struct ht_code *c = scheme->format->code;
    int32_t codes[HT_LEVELS_MAX];
    r->choice = *choice;
    r->grid = (struct ht_range_grid){.lo = ht_scheme_lo(scheme), .hi = ht_scheme_hi(scheme),
                                     .symmetric = scheme->zero == HT_ZERO_NONE,
                                     .integer_zero = scheme->zero == HT_ZERO_CODE};
    if (c->fitted) {
        return ht_fail(err, HT_INVAL, scheme->format->name, HT_NO_POS, "its levels are fitted to the tensor after its "
                       "scales; range parts need a format with levels of its own");
    }
    if (c->levels != NULL) {
        r->grid.levels = r->levels;
        r->grid.lo = 0;
        r->grid.hi = ht_range_levels(scheme->format, c->levels, r->levels, codes) - 1;
    }
    return HT_OK;
}

ht_status ht_range_of_scheme(const void *ctx, const struct ht_scheme *scheme, const float *x, const float *weight,
                             size_t n, float *lo, float *hi, ht_err *err) {
    (void)scheme;
    const struct ht_range_scheme *r = ctx;
    struct ht_range_input in = {.x = x, .weight = weight, .n = n};
    struct ht_range range;
    HT_TRY(ht_range_fit(&r->choice, &in, &r->grid, &range, err));
    ht_range_reach(&r->grid, &range, lo, hi);
    return HT_OK;
}
