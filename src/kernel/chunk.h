/* The activations' side of a chunk of 256 inputs, for kernels that multiply straight from packed blocks.
 * A chunk is 16 pieces of 16 elements; the shape says in which order a format's unpacking yields them. */
#ifndef HT_KERNEL_CHUNK_H
#define HT_KERNEL_CHUNK_H

#include "kernel/slots.h"

/* offset of shapes whose codes are signed as they are: there is neither a shift nor a min to make up for. */
#define HT_CODES_SIGNED (-1)

/* How a vector of 64 codes is filled. */
enum ht_chunk_order {
    HT_ORDER_PIECES, /* 128-bit lane l of vector v holds the 16 elements piece[4 v + l] */
    HT_ORDER_LANES,  /* groups of 16: 32-bit lane g of vector v holds elements 4 v .. 4 v + 3 of group g */
    /* Four 2-bit codes that shared a byte, not shifted apart: lane 8 h + 4 b + k of vector m holds 4^k times elements
     * 4 i .. 4 i + 3 of group 8 h + 2 k + b, i = (k + m) % 4. */
    HT_ORDER_LANES4,
    /* Points of 8: qword i of vector v holds point v of group i of 32 (4 i + v), or point v % 2 of group 8 (v / 2) + i
     * of 16. */
    HT_ORDER_EIGHTS,
    /* Low and high nibbles of 64 bytes: 128-bit lane l of vector 2 h + o holds elements 2 i + o of group 4 h + l. */
    HT_ORDER_NIBBLES
};

struct ht_chunk_shape {
    uint8_t piece[16];
    int group;         /* 16 or 32 */
    int offset;        /* codes are stored shifted up by this; 0: the format has mins; HT_CODES_SIGNED */
    bool chained;      /* vectors 0, 1 and 2, 3 hold the same groups lane by lane */
    uint32_t bytes;    /* of 256 weights */
    enum ht_chunk_order order;
};

struct ht_chunk_acts {
    int8_t q[256]; /* in the shape's order */
    /* groups of 32: 8 scales, then 8 times -scale * sum * (offset or 1). Groups of 16: the scales, divided by
     * what HT_ORDER_LANES4 multiplied the codes by. */
    float d[16];
    /* Groups of 16 only: -scale * sum * (offset or 1). HT_ORDER_LANES4 with an offset: the bits of the int32
     * -offset * sum * 4^k, where the chain of dot products starts. */
    float ns[16];
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
