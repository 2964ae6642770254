/* Little-endian loads and stores at any alignment: the byte order of every file that is read or written. */
#ifndef HT_IO_BYTES_H
#define HT_IO_BYTES_H

#include <stdint.h>
#include <string.h>

static inline uint16_t ht_le16(const void *p) {
    const unsigned char *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t ht_le32(const void *p) {
    const unsigned char *b = p;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t ht_le64(const void *p) {
    return ht_le32(p) | (uint64_t)ht_le32((const unsigned char *)p + 4) << 32;
}

static inline float ht_le_f32(const void *p) {
    uint32_t u = ht_le32(p);
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline double ht_le_f64(const void *p) {
    uint64_t u = ht_le64(p);
    double f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Stores the low n bytes of v, n <= 8. */
static inline void ht_le_store(void *p, uint64_t v, int n) {
    unsigned char *b = p;
    for (int i = 0; i < n; i++) {
        b[i] = (unsigned char)(v >> (8 * i));
    }
}

/* x [n] as 4 bytes each. */
static inline void ht_le_store_f32s(void *p, const float *x, uint64_t n) {
    unsigned char *b = p;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, &x[i], sizeof u);
        ht_le_store(b + 4 * i, u, 4);
    }
}

#endif
