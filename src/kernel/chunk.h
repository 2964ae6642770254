/* The activations' side of a chunk of 256 inputs, for kernels that multiply straight from packed blocks.
 * A chunk is 16 pieces of 16 elements; the shape says in which order a format's unpacking yields them. */
#ifndef HT_KERNEL_CHUNK_H
#define HT_KERNEL_CHUNK_H

#include "kernel/slots.h"

/* offset of shapes whose codes are signed as they are: there is neither a shift nor a min to make up for. */
#define HT_CODES_SIGNED (-1)

struct ht_chunk_shape {
    uint8_t piece[16]; /* piece[4 v + l]: what 128-bit lane l of code vector v holds */
    int group;         /* 16 or 32 */
    int offset;        /* codes are stored shifted up by this; 0: the format has mins; HT_CODES_SIGNED */
    bool chained;      /* vectors 0, 1 and 2, 3 hold the same groups lane by lane */
    uint32_t bytes;    /* of 256 weights */
};

struct ht_chunk_acts {
    int8_t q[256]; /* in the shape's order */
    float d[16]; /* groups of 32: 8 scales, then 8 times -scale * sum * (offset or 1). Groups of 16: scales */
    float ns[16]; /* groups of 16 only: -scale * sum * (offset or 1) */
};

/* One token of acts [cols_padded] -> [cols_padded / 256]. */
void ht_chunk_acts_fill(const struct ht_chunk_shape *shape, const struct ht_acts *acts, size_t token,
                        struct ht_chunk_acts *out);

/* What makes up for the stored codes' offset or min, one per group of the shape: the integer -offset * sum,
 * where the product starts, or, for a format with mins, the bits of the f32 scale * sum. One token,
 * [cols_padded / group]. */
void ht_corrections_fill(const struct ht_chunk_shape *shape, const struct ht_acts *acts, size_t token,
                         int32_t *out);

#endif
