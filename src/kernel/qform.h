/* A qtensor as kernels see it: how a field of bits becomes a level, and the grids of a row as f32 arrays. Unpacking is
 * shared by all formats of one width; what differs between them is data in struct ht_qform. */
#ifndef HT_KERNEL_QFORM_H
#define HT_KERNEL_QFORM_H

#include "kernel/chunk.h"
#include "tensor/qtensor.h"

/* How a field (0 .. 2^bits - 1, bits 1..8) becomes a level in f32. */
enum ht_qkind {
    HT_Q_OTHER,   /* fields of another width: ht_code_unpack serves them */
    HT_Q_INTEGER, /* field + lo */
    HT_Q_TABLE16, /* level[field], at most 4 bits */
    HT_Q_REAL,    /* 5 to 8 bits: a small float whose bits, moved, are an f16 */
    HT_Q_TABLE    /* level[field] */
};

struct ht_qform {
    const struct ht_qtensor *w;
    enum ht_qkind kind;
    int bits;
    float lo;
    float level[256]; /* of every field; those above the range have the level of code `zero` */

    /* HT_Q_REAL: f16 = sign << sign_shift | magnitude << magnitude_shift, times factor; NaN above max_magnitude. */
    int sign_shift, magnitude_shift;
    uint32_t magnitude_mask, max_magnitude;
    float factor;

    /* The compute form of FAST (kernel.h), where the tensor has one: bytes of 8 bits, a scale per shape.group columns,
     * which are 32, or 16 where 32 does not divide the tensor's groups. */
    bool integer;   /* levels are integers */
    bool has_bytes; /* and they fit the compute form */
    bool lookup;    /* byte = byte_of[field], at most 4 bits; else byte = field */
    uint8_t byte_of[16];
    struct ht_chunk_shape shape; /* offset 0: with mins */

    void (*f32_from_f16)(const uint16_t *x, float *y, size_t n); /* of the level */
};

/* level: of the table's ops. */
void ht_qform_init(struct ht_qform *f, const struct ht_qtensor *w, const struct ht_kernels *ops);

/* Grids of n groups of a row from group `first` on: value = scale * (level - shift) with zero points, scale * level +
 * shift with mins. scale, shift and codes have room for n + 7. */
struct ht_qgrids {
    uint64_t first;
    float *scale, *shift;
    int32_t *codes; /* scratch */
};
void ht_qgrids_row(const struct ht_qform *f, uint64_t row, uint64_t first, uint64_t n, struct ht_qgrids *g);
/* Of a tensor with one group per row: the grids of n rows, entry by entry. */
void ht_qgrids_rows(const struct ht_qform *f, uint64_t row0, uint64_t n, struct ht_qgrids *g);

/* Scales and mins of the compute form, value = s * byte - m, one per shape.group columns, n from the first-th on; 0
 * behind the last column. m is written only for shapes with mins. g holds the groups of these columns and changes. */
void ht_qgrids_expand(const struct ht_qform *f, struct ht_qgrids *g, uint64_t first, size_t n, float *s, float *m);

/* Bytes of a struct ht_qgrids' arrays for at most n groups. */
size_t ht_qgrids_bytes(uint64_t n);
/* g over that many bytes of memory, 64-byte aligned. */
void ht_qgrids_place(struct ht_qgrids *g, uint64_t n, void *memory);

#endif
