#include "kernel/arm/rows_q8_arm.h"

HT_INLINE int32x4_t dot16(int8x16_t codes, int8x16_t q) {
    return vdotq_s32(vdupq_n_s32(0), codes, q);
}

HT_INLINE int32x4_t dot32(const int8_t *codes, const int8_t *q) {
    return vdotq_s32(dot16(vld1q_s8(codes), vld1q_s8(q)), vld1q_s8(codes + 16), vld1q_s8(q + 16));
}

HT_FORM_LIST(HT_ROWS_FORM)
HT_ROWS_ANY(16)
HT_ROWS_ANY(32)

static const struct ht_rows_form_row list[] = {HT_FORM_LIST(HT_ROWS_FORM_ROW)};

void ht_rows_q8_init_dotprod(struct ht_kernel_table *t) {
    ht_rows_form_set(t, list, sizeof list / sizeof list[0], rows_any_16, rows_any_32);
}
