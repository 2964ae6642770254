#include "kernel/arm/rows_q8_arm.h"

/* |code| <= 128 and |q| <= 127: the sum of two products stays below 32,768. */
HT_INLINE int32x4_t dot16(int8x16_t codes, int8x16_t q) {
    int16x8_t p = vmull_s8(vget_low_s8(codes), vget_low_s8(q));
    return vpaddlq_s16(vmlal_high_s8(p, codes, q));
}

HT_INLINE int32x4_t dot32(const int8_t *codes, const int8_t *q) {
    int8x16_t c = vld1q_s8(codes + 16), x = vld1q_s8(q + 16);
    int16x8_t p = vmull_s8(vget_low_s8(c), vget_low_s8(x));
    return vpadalq_s16(dot16(vld1q_s8(codes), vld1q_s8(q)), vmlal_high_s8(p, c, x));
}

HT_FORM_LIST(HT_ROWS_FORM)
HT_ROWS_ANY(16)
HT_ROWS_ANY(32)

static const struct ht_rows_form_row list[] = {HT_FORM_LIST(HT_ROWS_FORM_ROW)};

void ht_rows_q8_init_neon(struct ht_kernel_table *t) {
    ht_rows_form_set(t, list, sizeof list / sizeof list[0], rows_any_16, rows_any_32);
}
