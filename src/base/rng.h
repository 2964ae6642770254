/* Random numbers: xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators",
 * 2018), seeded through splitmix64. The same seed gives the same stream on every machine. */
#ifndef HT_BASE_RNG_H
#define HT_BASE_RNG_H

#include <stdint.h>

struct ht_rng {
    uint64_t s[4];
};

void ht_rng_init(struct ht_rng *rng, uint64_t seed);
uint64_t ht_rng_u64(struct ht_rng *rng);
uint64_t ht_rng_below(struct ht_rng *rng, uint64_t n); /* uniform in [0, n), n > 0, without bias */
double ht_rng_uniform(struct ht_rng *rng);             /* [0, 1), 53 bits */
double ht_rng_normal(struct ht_rng *rng);              /* mean 0, variance 1 */

uint64_t ht_rng_entropy(void); /* a fresh seed from the system; not for cryptography */

#endif
