/* One line per format: its name, a checksum over the bytes that encode gives, and one over what decode makes
 * of them and of random bytes. Encoders are deterministic plain C: two machines must print the same. */
#include <stdio.h>

#include "base/mem.h"
#include "base/rng.h"
#include "format/format.h"

enum { BLOCKS = 24 };

/* FNV-1a, 64 bits (RFC 9923). */
static uint64_t add(uint64_t sum, const void *p, size_t n) {
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++) {
        sum = (sum ^ b[i]) * 0x100000001b3u;
    }
    return sum;
}

static const uint64_t start = 0xcbf29ce484222325u;

/* Bell-shaped without the C library, whose logarithms may differ in the last bit. */
static void fill(struct ht_rng *rng, float *x, float *weight, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double v =
            ht_rng_uniform(rng) + ht_rng_uniform(rng) + ht_rng_uniform(rng) + ht_rng_uniform(rng) - 2.0;
        x[i] = (float)(0.04 * v * (i % 61 == 0 ? 20.0 : 1.0));
        weight[i] = (float)(1.0 + v * v);
    }
}

static int print_sums(const struct ht_format *f) {
    size_t n = (size_t)f->block_elems * BLOCKS, bytes = (size_t)f->block_bytes * BLOCKS;
    float *x = ht_mem_alloc_array(3 * n, sizeof *x);
    uint8_t *blocks = ht_mem_alloc(bytes);
    if (x == NULL || blocks == NULL) {
        ht_mem_free(x);
        ht_mem_free(blocks);
        return 1;
    }
    float *weight = x + n, *y = x + 2 * n;
    uint64_t encoded = start, decoded = start;
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    fill(&rng, x, weight, n);
    for (int weighted = 0; weighted < 2; weighted++) {
        f->encode(x, weighted ? weight : NULL, blocks, n);
        encoded = add(encoded, blocks, bytes);
        f->decode(blocks, y, n);
        decoded = add(decoded, y, n * sizeof *y);
    }
    for (size_t i = 0; i < bytes; i++) {
        blocks[i] = (uint8_t)ht_rng_u64(&rng);
    }
    f->decode(blocks, y, n);
    for (size_t i = 0; i < n; i++) {
        if (y[i] != y[i]) { /* which NaN a machine makes of an operation is its own affair */
            y[i] = 0;
        }
    }
    decoded = add(decoded, y, n * sizeof *y);
    printf("%-10s encoded %016llx decoded %016llx\n", f->name, (unsigned long long)encoded,
           (unsigned long long)decoded);
    ht_mem_free(x);
    ht_mem_free(blocks);
    return 0;
}

int main(void) {
    int failed = 0;
    for (size_t i = 0; i < ht_format_count(); i++) {
        if (ht_format_at(i)->encode != NULL && ht_format_at(i)->decode != NULL) {
            failed |= print_sums(ht_format_at(i));
        }
    }
    return failed;
}
