#include <assert.h>
#include <pthread.h>
#include <string.h>

#include "kernel/slots.h"

static struct ht_kernel_table tables[HT_CPU_LEVELS];
static pthread_once_t once = PTHREAD_ONCE_INIT;

void ht_kernels_init_ref(struct ht_kernel_table *t) {
    t->ops = (struct ht_kernels){
        .dot_f32 = ht_dot_f32_ref,
        .dot_f32_f16 = ht_dot_f32_f16_ref,
        .axpy_f32 = ht_axpy_f32_ref,
        .axpy_f16 = ht_axpy_f16_ref,
        .f16_from_f32 = ht_f16_from_f32_ref,
        .f32_from_f16 = ht_f32_from_f16_ref,
        .rms_norm = ht_rms_norm_ref,
        .softmax = ht_softmax_ref,
        .silu_mul = ht_silu_mul_ref,
        .log_sum_exp = ht_log_sum_exp_ref,
        .attention = ht_attention_ref,
    };
    t->quantize_q8 = ht_quantize_q8_ref;
    t->pack_f32 = ht_pack_f32_ref;
    t->gemm_f32 = ht_gemm_f32_ref;
    t->syrk_f32 = ht_syrk_f32_ref;
    t->q_decode = ht_q_decode_ref;
    t->int_rows = t->int_tile = ht_int_ref;
    for (size_t i = 0; i < ht_format_count(); i++) {
        t->decode[i] = ht_format_at(i)->decode;
        t->rows_f32[i] = ht_rows_f32_ref;
        t->rows_q8[i] = ht_format_at(i)->unpack != NULL ? ht_rows_q8_ref : NULL;
    }
}

void ht_slots_set(struct ht_kernel_table *t, const struct ht_slot_row *rows, size_t n) {
    for (const struct ht_slot_row *r = rows; r < rows + n; r++) {
        const struct ht_format *f = ht_format_find(r->format);
        size_t i = f != NULL ? ht_format_slot(f) : 0;
        if (f == NULL) {
            continue;
        }
        t->decode[i] = r->decode != NULL ? r->decode : t->decode[i];
        t->rows_f32[i] = r->rows_f32 != NULL ? r->rows_f32 : t->rows_f32[i];
        if (r->rows_q8 != NULL) {
            t->rows_q8[i] = r->rows_q8;
            t->shape[i] = r->shape;
        }
        if (r->panel_q8 != NULL) {
            t->panel_q8[i] = r->panel_q8;
            t->panel_shape[i] = r->panel_shape;
        }
    }
}

typedef void level_init_fn(struct ht_kernel_table *t);

/* In the order of base/cpu.h: each level starts from the table of the one below it. */
static level_init_fn *const level_init[HT_CPU_LEVELS] = {
    [HT_CPU_REF] = ht_kernels_init_ref,
#if defined(__x86_64__)
    [HT_CPU_AVX2] = ht_kernels_init_avx2,
    [HT_CPU_AVXVNNI] = ht_kernels_init_avxvnni,
    [HT_CPU_AVX512] = ht_kernels_init_avx512,
    [HT_CPU_AVX512VNNI] = ht_kernels_init_avx512vnni,
    [HT_CPU_AVX512BF16] = ht_kernels_init_avx512bf16,
#elif defined(__aarch64__)
    [HT_CPU_NEON] = ht_kernels_init_neon,
    [HT_CPU_DOTPROD] = ht_kernels_init_dotprod,
    [HT_CPU_I8MM] = ht_kernels_init_i8mm,
#endif
};

static void init_tables(void) {
    assert(ht_format_count() <= HT_SLOT_FORMATS);
    const struct ht_kernel_table *below = NULL;
    for (int i = 0; i < HT_CPU_LEVELS; i++) {
        if (!ht_cpu_found((enum ht_cpu_level)i)) {
            continue;
        }
        if (below != NULL) {
            tables[i] = *below;
        }
        if (level_init[i] != NULL) {
            level_init[i](&tables[i]);
        }
        below = &tables[i];
    }
}

const struct ht_kernel_table *ht_kernel_table_at(enum ht_cpu_level level) {
    pthread_once(&once, init_tables);
    return ht_cpu_found(level) ? &tables[level] : NULL;
}

const struct ht_kernel_table *ht_kernel_table(void) {
    static _Atomic(const struct ht_kernel_table *) best;
    const struct ht_kernel_table *t = best;
    if (t == NULL) {
        t = ht_kernel_table_at(ht_cpu_best());
        best = t;
    }
    return t;
}

const struct ht_kernels *ht_kernels(void) {
    return &ht_kernel_table()->ops;
}

const struct ht_kernels *ht_kernels_at(enum ht_cpu_level level) {
    const struct ht_kernel_table *t = ht_kernel_table_at(level);
    return t != NULL ? &t->ops : NULL;
}

size_t ht_format_slot(const struct ht_format *format) {
    size_t i = 0;
    while (ht_format_at(i) != format) {
        i++;
        assert(i < ht_format_count());
    }
    return i;
}

/* ---- what serves a slot: the highest level whose pointer differs from the level below ------------------ */

struct op_row {
    const char *name;
    size_t offset;
};

#define OP(name)                                                                                             \
    { #name, offsetof(struct ht_kernel_table, ops.name) }
#define MATMUL(name)                                                                                         \
    { #name, offsetof(struct ht_kernel_table, name) }
static const struct op_row ops[] = {
    OP(dot_f32),      OP(dot_f32_f16),     OP(axpy_f32),     OP(axpy_f16),     OP(f16_from_f32),
    OP(f32_from_f16), OP(rms_norm),        OP(softmax),      OP(silu_mul),     OP(log_sum_exp),
    OP(attention),    MATMUL(quantize_q8), MATMUL(pack_f32), MATMUL(gemm_f32), MATMUL(gemm_q8),
    MATMUL(syrk_f32), MATMUL(q_decode),    MATMUL(q_rows_q8), MATMUL(q_panel_q8),
    MATMUL(int_rows), MATMUL(int_tile),
};
/* Arrays over formats. */
static const struct op_row format_ops[] = {
    MATMUL(decode),
    MATMUL(rows_f32),
    MATMUL(rows_q8),
    MATMUL(panel_q8),
};
#undef OP
#undef MATMUL

enum { N_OPS = sizeof ops / sizeof ops[0], N_FORMAT_OPS = sizeof format_ops / sizeof format_ops[0] };

static bool slot_differs(const struct ht_kernel_table *a, const struct ht_kernel_table *b, size_t offset) {
    return memcmp((const char *)a + offset, (const char *)b + offset, sizeof(void (*)(void))) != 0;
}

static const char *serving_level(size_t offset) {
    const struct ht_kernel_table *top = ht_kernel_table();
    int level = HT_CPU_REF;
    for (int i = HT_CPU_LEVELS - 1; i > HT_CPU_REF; i--) {
        if (!ht_cpu_has((enum ht_cpu_level)i)) {
            continue;
        }
        if (slot_differs(&tables[i], top, offset)) {
            break;
        }
        level = i;
    }
    if (!slot_differs(&tables[HT_CPU_REF], top, offset)) {
        level = HT_CPU_REF;
    }
    return ht_cpu_level_name((enum ht_cpu_level)level);
}

static bool slot_empty(size_t offset) {
    static const struct ht_kernel_table none;
    return !slot_differs(ht_kernel_table(), &none, offset);
}

static const char *const *slot_names(void);

const char *ht_kernel_slot(size_t i, const char **level) {
    size_t offset;
    const char *name;
    if (i < N_OPS) {
        offset = ops[i].offset;
        name = ops[i].name;
    } else {
        size_t j = i - N_OPS, f = j / N_FORMAT_OPS;
        for (size_t k = 0; k <= f && k < ht_format_count(); k++) {
            f += ht_format_at(k)->kind == HT_KIND_CODE; /* multiplied as qtensors: not slots of their own */
        }
        if (f >= ht_format_count()) {
            return NULL;
        }
        j = f * N_FORMAT_OPS + j % N_FORMAT_OPS;
        offset = format_ops[j % N_FORMAT_OPS].offset + f * sizeof(void (*)(void));
        name = slot_names()[j];
    }
    if (level != NULL) {
        *level = slot_empty(offset) ? "-" : serving_level(offset);
    }
    return name;
}

static char name_text[HT_SLOT_FORMATS * N_FORMAT_OPS][32];
static const char *name_list[HT_SLOT_FORMATS * N_FORMAT_OPS];
static pthread_once_t names_once = PTHREAD_ONCE_INIT;

static void init_names(void) {
    for (size_t j = 0; j < ht_format_count() * N_FORMAT_OPS; j++) {
        const char *op = format_ops[j % N_FORMAT_OPS].name, *format = ht_format_at(j / N_FORMAT_OPS)->name;
        size_t n = strlen(op), m = strlen(format);
        n = n > 15 ? 15 : n;
        m = m > 15 ? 15 : m;
        memcpy(name_text[j], op, n);
        name_text[j][n] = ' ';
        memcpy(name_text[j] + n + 1, format, m);
        name_list[j] = name_text[j];
    }
}

static const char *const *slot_names(void) {
    pthread_once(&names_once, init_names);
    return name_list;
}
