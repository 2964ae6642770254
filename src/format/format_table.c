#include "format/code/rows.h"
#include "format/format_impl.h"

#include <strings.h>

static const struct ht_format *const rows[] = {
    &ht_format_f64,  &ht_format_f32,  &ht_format_tf32, &ht_format_f16,  &ht_format_bf16,
    &ht_format_i8,   &ht_format_i16,  &ht_format_i32,  &ht_format_i64,
    &ht_format_u8,   &ht_format_u16,  &ht_format_u32,  &ht_format_u64,    &ht_format_bool,
    &ht_format_q4_0, &ht_format_q4_1, &ht_format_q5_0, &ht_format_q5_1,   &ht_format_q8_0,
    &ht_format_q2_k, &ht_format_q3_k, &ht_format_q4_k, &ht_format_q5_k,   &ht_format_q6_k,
    &ht_format_iq1_s, &ht_format_iq1_m, &ht_format_iq2_xxs, &ht_format_iq2_xs, &ht_format_iq2_s,
    &ht_format_iq3_xxs, &ht_format_iq3_s, &ht_format_iq4_nl, &ht_format_iq4_xs,
    &ht_format_tq1_0, &ht_format_tq2_0, &ht_format_q1_0, &ht_format_q2_0, &ht_format_mxfp4, &ht_format_nvfp4,
    &ht_format_tr2, &ht_format_tr3, &ht_format_tr4, &ht_format_ovp4,
#define CODE_ROW(name) &ht_format_##name,
    HT_CODE_ROWS(CODE_ROW)
#undef CODE_ROW
};

size_t ht_format_count(void) {
    return sizeof rows / sizeof rows[0];
}

const struct ht_format *ht_format_at(size_t i) {
    return i < ht_format_count() ? rows[i] : NULL;
}

const struct ht_format *ht_format_find(const char *name) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        if (strcasecmp(rows[i]->name, name) == 0) {
            return rows[i];
        }
    }
    return NULL;
}

const struct ht_format *ht_format_by_gguf(uint32_t gguf_type) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        if (rows[i]->gguf_type >= 0 && (uint32_t)rows[i]->gguf_type == gguf_type) {
            return rows[i];
        }
    }
    return NULL;
}

const struct ht_format *ht_format_by_st(const char *st_dtype) {
    for (size_t i = 0; i < ht_format_count(); i++) {
        if (rows[i]->st_dtype && strcmp(rows[i]->st_dtype, st_dtype) == 0) {
            return rows[i];
        }
    }
    return NULL;
}

const char *ht_format_name_at(const void *unused, size_t i) {
    (void)unused;
    return i < ht_format_count() ? rows[i]->name : NULL;
}
