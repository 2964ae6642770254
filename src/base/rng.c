#include "base/rng.h"

#include <math.h>
#include <sys/random.h>
#include <time.h>

static uint64_t splitmix(uint64_t *x) {
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k) {
    return (x << k) | (x >> (64 - k));
}

void ht_rng_init(struct ht_rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        rng->s[i] = splitmix(&seed);
    }
}

uint64_t ht_rng_u64(struct ht_rng *rng) {
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t ht_rng_below(struct ht_rng *rng, uint64_t n) {
    uint64_t reject = -n % n; /* 2^64 mod n */
    uint64_t x;
    do {
        x = ht_rng_u64(rng);
    } while (x < reject);
    return x % n;
}

double ht_rng_uniform(struct ht_rng *rng) {
    return (double)(ht_rng_u64(rng) >> 11) * 0x1p-53;
}

double ht_rng_normal(struct ht_rng *rng) {
    double u = 1.0 - ht_rng_uniform(rng); /* (0, 1]: log is finite */
    double v = ht_rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t ht_rng_entropy(void) {
    uint64_t x = 0;
    if (getrandom(&x, sizeof x, GRND_NONBLOCK) != (long)sizeof x) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        x ^= (uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec;
    }
    return x;
}
