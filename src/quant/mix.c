#include "quant/mix.h"

#include <strings.h>

/* Layers that a rule is about; n is the number of layers, divisions are integer divisions. */
enum span {
    ALL,
    FIRST_2,
    FIRST_4,
    FIRST_16TH, /* i < n / 16 */
    FIRST_8TH,  /* i < n / 8 */
    MIDDLE,     /* n / 8 <= i < 7 * n / 8 */
    MORE        /* the first and last eighth, and every third layer between them */
};

enum when { ANY = 0, GQA4 = 1, IMATRIX = 2, PLAIN = 4 }; /* GQA4: 4 or more heads share K and V */

struct mix_rule { /* the first rule that holds wins; none: the preset's base format */
    enum ht_role role;
    enum span span;
    unsigned when;
    const char *format; /* NULL ends a list */
};

/* What sets the presets below 3 bits apart. */
enum trait {
    HEAD_Q5 = 1,    /* the head gets 5 bits, not 6 */
    V_AS_RULED = 2, /* no extra bits for V in models of the 70B shape */
    Q2_K_NEEDY = 4  /* q2_k wants importance, too: a file that is made of little else */
};

struct ht_mix {
    const char *name, *alias, *summary;
    const char *base;
    uint32_t file_type;
    const struct mix_rule *rules; /* NULL: none */
    unsigned traits;
};

static const struct mix_rule q4_0_rules[] = {{HT_ROLE_FFN_DOWN, FIRST_8TH, IMATRIX, "q4_1"}, {0}};
static const struct mix_rule q5_0_rules[] = {{HT_ROLE_FFN_DOWN, FIRST_8TH, IMATRIX, "q5_1"}, {0}};
static const struct mix_rule q2_k_rules[] = {
    {HT_ROLE_ATTN_V, ALL, GQA4, "q4_k"},
    {HT_ROLE_ATTN_V, ALL, ANY, "q3_k"},
    {HT_ROLE_ATTN_OUTPUT, ALL, ANY, "q3_k"},
    {HT_ROLE_FFN_DOWN, ALL, ANY, "q3_k"},
    {0},
};
static const struct mix_rule q2_k_s_rules[] = {
    {HT_ROLE_ATTN_V, ALL, GQA4, "q4_k"},
    {HT_ROLE_FFN_DOWN, FIRST_8TH, ANY, "q4_k"},
    {0},
};
static const struct mix_rule q3_k_m_rules[] = {
    {HT_ROLE_ATTN_V, FIRST_2, ANY, "q5_k"},
    {HT_ROLE_ATTN_V, ALL, ANY, "q4_k"},
    {HT_ROLE_ATTN_OUTPUT, ALL, ANY, "q4_k"},
    {HT_ROLE_FFN_DOWN, FIRST_16TH, ANY, "q5_k"},
    {HT_ROLE_FFN_DOWN, ALL, ANY, "q4_k"},
    {0},
};
static const struct mix_rule q3_k_l_rules[] = {
    {HT_ROLE_ATTN_V, ALL, ANY, "q5_k"},
    {HT_ROLE_ATTN_OUTPUT, ALL, ANY, "q5_k"},
    {HT_ROLE_FFN_DOWN, ALL, ANY, "q5_k"},
    {0},
};
static const struct mix_rule q4_k_s_rules[] = {
    {HT_ROLE_ATTN_V, FIRST_4, ANY, "q5_k"},
    {HT_ROLE_FFN_DOWN, FIRST_8TH, ANY, "q5_k"},
    {0},
};
static const struct mix_rule more_q6_k_rules[] = {
    {HT_ROLE_ATTN_V, MORE, ANY, "q6_k"},
    {HT_ROLE_FFN_DOWN, MORE, ANY, "q6_k"},
    {0},
};
static const struct mix_rule iq4_rules[] = {
    {HT_ROLE_ATTN_V, ALL, GQA4, "q5_k"},
    {HT_ROLE_FFN_DOWN, FIRST_8TH, PLAIN, "q5_k"},
    {0},
};

static const struct mix_rule ternary_rules[] = {{HT_ROLE_TOKEN_EMBD, ALL, ANY, "q4_k"}, {0}};
static const struct mix_rule iq1_rules[] = {
    {HT_ROLE_TOKEN_EMBD, ALL, ANY, "q2_k"},
    {HT_ROLE_ATTN_V, ALL, GQA4, "q4_k"},
    {HT_ROLE_ATTN_V, ALL, ANY, "q2_k"},
    {HT_ROLE_ATTN_OUTPUT, ALL, ANY, "iq2_xxs"},
    {HT_ROLE_FFN_DOWN, FIRST_8TH, ANY, "q2_k"},
    {0},
};
static const struct mix_rule iq2_x_rules[] = {
    {HT_ROLE_TOKEN_EMBD, ALL, ANY, "q2_k"},
    {HT_ROLE_ATTN_V, ALL, GQA4, "q4_k"},
    {HT_ROLE_ATTN_V, ALL, ANY, "q2_k"},
    {HT_ROLE_FFN_DOWN, FIRST_8TH, ANY, "q2_k"},
    {0},
};
static const struct mix_rule iq2_s_rules[] = {
    {HT_ROLE_TOKEN_EMBD, ALL, ANY, "iq3_s"},
    {HT_ROLE_ATTN_V, ALL, GQA4, "q4_k"},
    {HT_ROLE_ATTN_V, ALL, ANY, "iq3_s"},
    {HT_ROLE_ATTN_OUTPUT, ALL, ANY, "iq3_s"},
    {HT_ROLE_FFN_DOWN, FIRST_8TH, ANY, "iq3_s"},
    {0},
};
static const struct mix_rule iq3_xxs_rules[] = {
    {HT_ROLE_TOKEN_EMBD, ALL, ANY, "iq3_s"},
    {HT_ROLE_ATTN_V, ALL, GQA4, "q4_k"},
    {HT_ROLE_ATTN_V, ALL, PLAIN, "iq3_s"},
    {HT_ROLE_ATTN_Q, ALL, ANY, "iq2_s"},
    {HT_ROLE_ATTN_K, ALL, ANY, "iq2_s"},
    {HT_ROLE_ATTN_OUTPUT, ALL, ANY, "iq3_s"},
    {HT_ROLE_FFN_DOWN, FIRST_8TH, PLAIN, "q4_k"},
    {HT_ROLE_FFN_DOWN, ALL, PLAIN, "q3_k"},
    {0},
};
static const struct mix_rule iq3_xs_rules[] = {
    {HT_ROLE_ATTN_V, ALL, GQA4, "q4_k"},
    {HT_ROLE_ATTN_Q, ALL, ANY, "iq3_xxs"},
    {HT_ROLE_ATTN_K, ALL, ANY, "iq3_xxs"},
    {HT_ROLE_FFN_GATE, MIDDLE, ANY, "iq3_xxs"},
    {HT_ROLE_FFN_UP, MIDDLE, ANY, "iq3_xxs"},
    {0},
};
static const struct mix_rule iq3_s_rules[] = {{HT_ROLE_ATTN_V, ALL, GQA4, "q4_k"}, {0}};
static const struct mix_rule iq3_m_rules[] = {
    {HT_ROLE_ATTN_V, ALL, ANY, "q4_k"},
    {HT_ROLE_ATTN_OUTPUT, ALL, ANY, "q4_k"},
    {HT_ROLE_FFN_DOWN, FIRST_8TH, ANY, "q4_k"},
    {0},
};

/* File types are llama.cpp's numbers (general.file_type). */
static const struct ht_mix mixes[] = {
    {"F32", NULL, "32-bit floats", "f32", 0, NULL, 0},
    {"F16", NULL, "16-bit floats", "f16", 1, NULL, 0},
    {"BF16", NULL, "bfloat16", "bf16", 32, NULL, 0},
    {"Q8_0", NULL, "8-bit integers, blocks of 32; nothing is lost that people notice", "q8_0", 7, NULL, 0},
    {"Q6_K", NULL, "6-bit, super-blocks of 256", "q6_k", 18, NULL, 0},
    {"Q5_K_M", "Q5_K", "5-bit, more bits for half of the V and FFN-down matrices", "q5_k", 17, more_q6_k_rules, 0},
    {"Q5_K_S", NULL, "5-bit, super-blocks of 256", "q5_k", 16, NULL, 0},
    {"Q5_1", NULL, "5-bit with minimum, blocks of 32", "q5_1", 9, NULL, 0},
    {"Q5_0", NULL, "5-bit, blocks of 32", "q5_0", 8, q5_0_rules, 0},
    {"Q4_K_M", "Q4_K", "4-bit, more bits for half of the V and FFN-down matrices; the usual choice", "q4_k", 15,
     more_q6_k_rules, 0},
    {"Q4_K_S", NULL, "4-bit, more bits for a few first layers", "q4_k", 14, q4_k_s_rules, 0},
    {"Q4_1", NULL, "4-bit with minimum, blocks of 32", "q4_1", 3, NULL, 0},
    {"IQ4_NL", NULL, "4-bit non-linear levels, blocks of 32", "iq4_nl", 25, iq4_rules, 0},
    {"Q4_0", NULL, "4-bit, blocks of 32", "q4_0", 2, q4_0_rules, 0},
    {"IQ4_XS", NULL, "4-bit non-linear levels, super-blocks of 256", "iq4_xs", 30, iq4_rules, 0},
    {"Q3_K_L", NULL, "3-bit; V, attention output and FFN down at 5 bits", "q3_k", 13, q3_k_l_rules, 0},
    {"Q3_K_M", "Q3_K", "3-bit; V, attention output and FFN down at 4 bits", "q3_k", 12, q3_k_m_rules, 0},
    {"IQ3_M", NULL, "3.44-bit lattice; V, attention output and first FFN downs at 4 bits", "iq3_s", 27, iq3_m_rules, 0},
    {"Q3_K_S", NULL, "3-bit, super-blocks of 256", "q3_k", 11, NULL, 0},
    {"IQ3_S", NULL, "3.44-bit lattice", "iq3_s", 26, iq3_s_rules, 0},
    {"IQ3_XS", NULL, "3.44-bit lattice; Q, K and most of the FFN at 3.06 bits; wants an importance matrix", "iq3_s", 22,
     iq3_xs_rules, 0},
    {"IQ3_XXS", NULL, "3.06-bit lattice; Q and K at 2.56 bits; wants an importance matrix", "iq3_xxs", 23,
     iq3_xxs_rules, HEAD_Q5},
    {"Q2_K", NULL, "2-bit; V, attention output and FFN down at 3 bits", "q2_k", 10, q2_k_rules, 0},
    {"Q2_K_S", NULL, "2-bit; wants an importance matrix", "q2_k", 21, q2_k_s_rules, Q2_K_NEEDY},
    {"IQ2_M", NULL, "2.56-bit lattice; V, attention output and first FFN downs at 3 bits; wants an importance matrix",
     "iq2_s", 29, iq2_s_rules, HEAD_Q5 | V_AS_RULED},
    {"IQ2_S", NULL, "2.31-bit lattice, the rest as IQ2_M; wants an importance matrix", "iq2_xs", 28, iq2_s_rules,
     HEAD_Q5 | V_AS_RULED},
    {"IQ2_XS", NULL, "2.31-bit lattice; wants an importance matrix", "iq2_xs", 20, iq2_x_rules, HEAD_Q5 | V_AS_RULED},
    {"IQ2_XXS", NULL, "2.06-bit lattice; wants an importance matrix", "iq2_xxs", 19, iq2_x_rules,
     HEAD_Q5 | V_AS_RULED},
    {"Q2_0", NULL, "2-bit, blocks of 64", "q2_0", 41, ternary_rules, 0},
    {"TQ2_0", NULL, "ternary, 2 bits each: for models trained so", "tq2_0", 37, ternary_rules, 0},
    {"TQ1_0", NULL, "ternary, 1.6 bits each: for models trained so", "tq1_0", 36, ternary_rules, 0},
    {"IQ1_M", NULL, "1.75-bit ternary lattice; wants an importance matrix", "iq1_m", 31, iq1_rules,
     HEAD_Q5 | V_AS_RULED},
    {"IQ1_S", NULL, "1.56-bit ternary lattice; wants an importance matrix", "iq1_s", 24, iq1_rules,
     HEAD_Q5 | V_AS_RULED},
};
enum { N_MIXES = sizeof mixes / sizeof mixes[0] };

/* What takes the place of a format whose block does not divide the row: blocks of 32, about the same error. */
static const struct {
    const char *from, *to;
} fallbacks[] = {
    {"q2_k", "q4_0"}, {"q3_k", "q4_0"}, {"q4_k", "q5_0"}, {"q5_k", "q5_1"}, {"q6_k", "q8_0"}, {"iq4_xs", "iq4_nl"},
    {"iq1_s", "iq4_nl"}, {"iq1_m", "iq4_nl"}, {"iq2_xxs", "iq4_nl"}, {"iq2_xs", "iq4_nl"}, {"iq2_s", "iq4_nl"},
    {"iq3_xxs", "iq4_nl"}, {"iq3_s", "iq4_nl"}, {"tq1_0", "q4_0"}, {"tq2_0", "q4_0"}, {"q2_0", "q4_0"},
};

size_t ht_mix_count(void) {
    return N_MIXES;
}

const struct ht_mix *ht_mix_at(size_t i) {
    return &mixes[i];
}

const struct ht_mix *ht_mix_find(const char *name) {
    for (size_t i = 0; i < N_MIXES; i++) {
        if (strcasecmp(mixes[i].name, name) == 0 ||
            (mixes[i].alias != NULL && strcasecmp(mixes[i].alias, name) == 0)) {
            return &mixes[i];
        }
    }
    return NULL;
}

const char *ht_mix_name(const struct ht_mix *mix) {
    return mix->name;
}

const char *ht_mix_name_at(const void *unused, size_t i) {
    (void)unused;
    return mixes[i].name;
}

const char *ht_mix_alias(const struct ht_mix *mix) {
    return mix->alias;
}

const char *ht_mix_summary(const struct ht_mix *mix) {
    return mix->summary;
}

const struct ht_format *ht_mix_base(const struct ht_mix *mix) {
    return ht_format_find(mix->base);
}

uint32_t ht_mix_file_type(const struct ht_mix *mix) {
    return mix->file_type;
}

static bool in_span(enum span span, uint32_t i, uint32_t n) {
    switch (span) {
    case ALL: return true;
    case FIRST_2: return i < 2;
    case FIRST_4: return i < 4;
    case FIRST_16TH: return i < n / 16;
    case FIRST_8TH: return i < n / 8;
    case MIDDLE: return i >= n / 8 && i < 7 * (uint64_t)n / 8;
    case MORE: return i < n / 8 || i >= 7 * (uint64_t)n / 8 || (i - n / 8) % 3 == 2;
    }
    return false;
}

static const struct ht_format *by_rules(const struct ht_mix *mix, const struct ht_mix_facts *facts,
                                        enum ht_role role, uint32_t layer) {
    unsigned holds = facts->imatrix ? IMATRIX : PLAIN;
    if (facts->n_kv_heads != 0 && facts->n_heads / facts->n_kv_heads >= 4) {
        holds |= GQA4;
    }
    const char *format = mix->base;
    for (const struct mix_rule *r = mix->rules; r != NULL && r->format != NULL; r++) {
        if (r->role == role && (r->when & ~holds) == 0 && in_span(r->span, layer, facts->n_layers)) {
            format = r->format;
            break;
        }
    }
    /* In models of Llama's 70B shape 8 heads share one V: more bits for it cost next to nothing. */
    bool shape_70b = facts->n_layers == 80 && facts->n_heads != facts->n_kv_heads;
    if (role == HT_ROLE_ATTN_V && shape_70b && (mix->traits & V_AS_RULED) == 0 &&
        (strcasecmp(format, "q3_k") == 0 || strcasecmp(format, "q4_k") == 0)) {
        format = "q5_k";
    }
    return ht_format_find(format);
}

/* The head (or the embedding that serves as head) gets 6 bits or 5, 8 where the base's block does not fit. */
static const struct ht_format *for_head(const struct ht_mix *mix, uint64_t row_elems) {
    const struct ht_format *base = ht_mix_base(mix), *q8_0 = ht_format_find("q8_0");
    if (base == q8_0 || row_elems % base->block_elems != 0) {
        return q8_0;
    }
    return ht_format_find(mix->traits & HEAD_Q5 ? "q5_k" : "q6_k");
}

bool ht_mix_needs_importance(const struct ht_mix *mix, enum ht_role role, const struct ht_format *format) {
    static const char *const needy[] = {"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs"};
    if (role == HT_ROLE_TOKEN_EMBD || role == HT_ROLE_OUTPUT) {
        return false;
    }
    for (size_t i = 0; i < sizeof needy / sizeof needy[0]; i++) {
        if (strcasecmp(needy[i], format->name) == 0) {
            return true;
        }
    }
    return (mix->traits & Q2_K_NEEDY) != 0 && strcasecmp(format->name, "q2_k") == 0;
}

const struct ht_format *ht_mix_choose(const struct ht_mix *mix, const struct ht_mix_facts *facts,
                                      enum ht_role role, uint32_t layer, uint64_t row_elems,
                                      const struct ht_format **wanted) {
    const struct ht_format *base = ht_mix_base(mix), *f = base;
    if (base->kind != HT_KIND_FLOAT && !facts->pure) {
        bool head = role == HT_ROLE_OUTPUT || (role == HT_ROLE_TOKEN_EMBD && facts->tied);
        f = head ? for_head(mix, row_elems) : by_rules(mix, facts, role, layer);
    }
    if (wanted != NULL) {
        *wanted = f;
    }
    return ht_format_fallback(f, row_elems);
}

const struct ht_format *ht_format_fallback(const struct ht_format *format, uint64_t row_elems) {
    if (row_elems % format->block_elems == 0) {
        return format;
    }
    for (size_t i = 0; i < sizeof fallbacks / sizeof fallbacks[0]; i++) {
        if (strcasecmp(fallbacks[i].from, format->name) == 0) {
            const struct ht_format *to = ht_format_find(fallbacks[i].to);
            if (row_elems % to->block_elems == 0) {
                return to;
            }
        }
    }
    return ht_format_find("f16");
}
