/* Presets people know (Q4_K_M ...): which format each tensor gets, by role, layer and shape. The rules give the
 * same types as llama.cpp's llama-quantize, so that sizes and names mean the same everywhere. Pure functions over
 * roles: no model in sight. Rules for mixture-of-experts models come with the first such architecture. */
#ifndef HT_QUANT_MIX_H
#define HT_QUANT_MIX_H

#include <stdbool.h>

#include "format/format.h"
#include "tensor/role.h"

struct ht_mix; /* one preset: base type and rule list */

size_t ht_mix_count(void);
const struct ht_mix *ht_mix_at(size_t i);
const struct ht_mix *ht_mix_find(const char *name); /* name or alias, without case; NULL: none */
const char *ht_mix_name(const struct ht_mix *mix);
const char *ht_mix_name_at(const void *unused, size_t i); /* for ht_nearest */
const char *ht_mix_alias(const struct ht_mix *mix); /* second name, "Q4_K" of Q4_K_M; NULL: none */
const char *ht_mix_summary(const struct ht_mix *mix);
const struct ht_format *ht_mix_base(const struct ht_mix *mix);
uint32_t ht_mix_file_type(const struct ht_mix *mix); /* general.file_type */

struct ht_mix_facts { /* about the model and the job */
    uint32_t n_layers, n_heads, n_kv_heads;
    bool tied;    /* no output tensor: token_embd serves as head */
    bool imatrix; /* importance is there */
    bool pure;    /* the base type for every tensor */
};

/* Format of one 2-D weight; layer: 0-based, ignored for tensors outside of layers. The row length decides the
 * fallback: *wanted (may be NULL) is the format that the rules ask for; it differs from the result when the
 * row is not a multiple of its block. */
const struct ht_format *ht_mix_choose(const struct ht_mix *mix, const struct ht_mix_facts *facts,
                                      enum ht_role role, uint32_t layer, uint64_t row_elems,
                                      const struct ht_format **wanted);
/* Whether a tensor of the preset that has come to this format is not to be quantized without importance: the formats
 * below 3.4 bits, which then go for the wrong weights, outside of embedding and head, as llama-quantize has it. */
bool ht_mix_needs_importance(const struct ht_mix *mix, enum ht_role role, const struct ht_format *format);
/* The fallback alone: format itself when its block divides row_elems, else stock's substitute (f16 at last). */
const struct ht_format *ht_format_fallback(const struct ht_format *format, uint64_t row_elems);

#endif
