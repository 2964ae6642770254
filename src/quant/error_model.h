/* What theory says about rounding error: sources with known densities, the least error at R bits, the least error of
 * scalar quantizers, and the laws of the form 6.02 b + C. Everything has variance 1. Figures are computed, not
 * tabled. Sources: Gersho and Gray, "Vector Quantization and Signal Compression", 1992, sections 5.2 to 6.3. */
#ifndef HT_QUANT_ERROR_MODEL_H
#define HT_QUANT_ERROR_MODEL_H

#include "base/error.h"
#include "base/rng.h"

struct ht_density {
    const char *name;    /* "gaussian" */
    const char *summary;
    double (*at)(double x);              /* symmetric, variance 1 */
    double (*draw)(struct ht_rng *rng);
};

size_t ht_density_count(void);
const struct ht_density *ht_density_at(size_t i);
const struct ht_density *ht_density_find(const char *name); /* without case; NULL: none */
const char *ht_density_name_at(const void *unused, size_t i); /* for ht_nearest */

/* A density with its moments, ready for questions. */
struct ht_density_table;
ht_status ht_density_table_new(const struct ht_density *density, struct ht_density_table **table, ht_err *err);
void ht_density_table_free(struct ht_density_table *table);

/* No code of R bits per value has a mean squared error below power * 4^-R (Shannon 1959); power is
 * 4^h / (2 pi e), h the differential entropy in bits; 1 for the Gaussian, whose bound is also reached. */
double ht_density_power(const struct ht_density_table *t);
/* Mean squared error of the best scalar quantizer with n levels, n <= 4096: Lloyd 1957, Max 1960. HT_NOMEM. */
ht_status ht_density_lloyd_max(const struct ht_density_table *t, int n, double *mse, ht_err *err);
/* The same for n levels at equal distances; *step: that distance. */
double ht_density_uniform(const struct ht_density_table *t, int n, double *step);
/* Error of Lloyd-Max levels for many bits b: c * 4^-b, c = (integral of density^(1/3))^3 / 12; Panter and Dite
 * 1951. */
double ht_density_panter_dite(const struct ht_density_table *t);

/* ---- laws: signal-to-noise ratio in dB of b bits is 6.02 b + C when the error is that of an even cell, Delta^2 / 12,
 * and nothing is clipped. peak: half of the range over the standard deviation.
 *     C = 4.77 - 20 log10(peak):   uniform (peak sqrt 3) 0,   sine (peak sqrt 2) 1.76,   Gaussian to 4 sigma -7.27 */
double ht_law_constant(double peak);
#define HT_DB_PER_BIT 6.020599913279624

double ht_db(double ratio); /* 10 log10 */
/* Bits above the Gaussian bound: rate - log2(1 / relative_error) / 2. */
double ht_gap_bits(double rate, double relative_error);

#endif
