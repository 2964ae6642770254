/* Rotary position embedding: the divisors of Llama 3's context extension, and the angles of a batch.
 * Sources: Su et al. 2021 (RoFormer, arXiv 2104.09864), section 3.2; Chen et al. 2023 (linear position
 * interpolation, arXiv 2306.15595); Llama 3.1 model card and its reference code for the wavelength rule. */
#ifndef HT_MODEL_ROPE_H
#define HT_MODEL_ROPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/arch.h"

/* divisors: [rope_dim / 2]; pair i turns by pos * base^(-2i / rope_dim) / divisors[i]. hp must have LLAMA3
 * scaling. This is also what the tensor rope_freqs.weight of a GGUF file holds. */
void ht_rope_llama3_divisors(const struct ht_hparams *hp, float *divisors);

/* The inverse: finds factor, low_freq, high_freq and original context that give these divisors (of
 * hp->rope_base and hp->rope_dim) within 1e-5 relative, and sets hp to LLAMA3 scaling. False when the rule does
 * not explain them; hp is then unchanged. Only the ratios original : low : high are determined, so low_freq
 * is 1, as in every published model, unless that leaves the original context not an integer. */
bool ht_rope_llama3_fit(const float *divisors, struct ht_hparams *hp);

/* inv_freq: [rope_dim / 2] angles per position, in double so that long contexts keep their phase.
 * divisors may be NULL. Linear scaling is applied. */
void ht_rope_frequencies(const struct ht_hparams *hp, const float *divisors, double *inv_freq);

/* cos and sin of n positions from first on: cs [n, rope_dim / 2, 2]. */
void ht_rope_angles(const double *inv_freq, size_t half, uint32_t first, size_t n, float *cs);

/* Rows of a matrix of heads of d rows, kept by pairs or by halves: the row of the other order that is row r of `to`. */
uint64_t ht_rope_row(enum ht_rope_style to, uint64_t r, uint64_t d);

/* Turns n_heads heads of head_dim each, in place, by one position's angles cs [rope_dim / 2, 2]. */
void ht_rope_turn(enum ht_rope_style style, const float *cs, size_t rope_dim, size_t head_dim, size_t n_heads,
                  float *x);

#endif
