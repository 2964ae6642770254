/* Fields of 1..16 bits in a little-endian string of bits, and five ternary fields in a byte. */
#include <string.h>

#include "base/compiler.h"
#include "format/code/rows.h"

enum { TRITS = 5 };

uint64_t ht_code_row_bytes(const struct ht_format *f, uint64_t n) {
    uint64_t bits = f->code->bits;
    return bits == 0 ? n / TRITS + (n % TRITS != 0) : n / 8 * bits + (n % 8 * bits + 7) / 8;
}

double ht_code_bits(const struct ht_format *f) {
    return f->code->bits == 0 ? 8.0 / TRITS : f->code->bits;
}

/* Any field to a code: what is above the range reads as 0. */
static int32_t code_of(const struct ht_code *c, uint32_t field) {
    return field <= (uint32_t)(c->hi - c->lo) ? (int32_t)field + c->lo : c->zero;
}

static void pack_bits(const struct ht_code *c, const int32_t *codes, uint8_t *p, size_t n) {
    uint32_t window = 0;
    unsigned have = 0;
    for (size_t i = 0; i < n; i++) {
        window |= (uint32_t)(codes[i] - c->lo) << have;
        for (have += c->bits; have >= 8; have -= 8) {
            *p++ = (uint8_t)window;
            window >>= 8;
        }
    }
    if (have > 0) {
        *p = (uint8_t)window;
    }
}

static void unpack_bits(const struct ht_code *c, const uint8_t *p, int32_t *codes, size_t n) {
    uint32_t window = 0, mask = (1u << c->bits) - 1;
    unsigned have = 0;
    for (size_t i = 0; i < n; i++) {
        for (; have < c->bits; have += 8) {
            window |= (uint32_t)*p++ << have;
        }
        codes[i] = code_of(c, window & mask);
        window >>= c->bits;
        have -= c->bits;
    }
}

/* Fields of 4 and of 8 bits: span = hi - lo. */
HT_CLONES
static void unpack_nibbles(const uint8_t *p, int32_t *codes, size_t n, int32_t lo, int32_t span, int32_t zero) {
    for (size_t i = 0; i < n / 2; i++) {
        int32_t a = p[i] & 15, b = p[i] >> 4;
        codes[2 * i] = a <= span ? a + lo : zero;
        codes[2 * i + 1] = b <= span ? b + lo : zero;
    }
    if (n % 2 != 0) {
        int32_t a = p[n / 2] & 15;
        codes[n - 1] = a <= span ? a + lo : zero;
    }
}

HT_CLONES
static void unpack_bytes(const uint8_t *p, int32_t *codes, size_t n, int32_t lo, int32_t span, int32_t zero) {
    for (size_t i = 0; i < n; i++) {
        codes[i] = p[i] <= span ? p[i] + lo : zero;
    }
}

static void pack_trits(const struct ht_code *c, const int32_t *codes, uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i += TRITS) {
        uint32_t v = 0;
        for (size_t j = i; j < i + TRITS; j++) {
            v = 3 * v + (j < n ? (uint32_t)(codes[j] - c->lo) : 0u);
        }
        p[i / TRITS] = (uint8_t)((256 * v + 242) / 243);
    }
}

static void unpack_trits(const struct ht_code *c, const uint8_t *p, int32_t *codes, size_t n) {
    uint32_t v = 0;
    for (size_t i = 0; i < n; i++) {
        v = 3 * (i % TRITS == 0 ? p[i / TRITS] : v & 255);
        codes[i] = (int32_t)(v >> 8) + c->lo;
    }
}

void ht_code_pack(const struct ht_format *f, const int32_t *codes, void *dst, size_t n) {
    const struct ht_code *c = f->code;
    uint8_t *p = dst;
    if (c->bits == 0) {
        pack_trits(c, codes, p, n);
    } else if (c->bits == 4) {
        for (size_t i = 0; i + 1 < n; i += 2) {
            p[i / 2] = (uint8_t)((codes[i] - c->lo) | (codes[i + 1] - c->lo) << 4);
        }
        if (n % 2 != 0) {
            p[n / 2] = (uint8_t)(codes[n - 1] - c->lo);
        }
    } else if (c->bits == 8) {
        for (size_t i = 0; i < n; i++) {
            p[i] = (uint8_t)(codes[i] - c->lo);
        }
    } else {
        pack_bits(c, codes, p, n);
    }
}

void ht_code_unpack(const struct ht_format *f, const void *src, int32_t *codes, size_t n) {
    const struct ht_code *c = f->code;
    const uint8_t *p = src;
    if (c->bits == 0) {
        unpack_trits(c, p, codes, n);
    } else if (c->bits == 4) {
        unpack_nibbles(p, codes, n, c->lo, c->hi - c->lo, c->zero);
    } else if (c->bits == 8) {
        unpack_bytes(p, codes, n, c->lo, c->hi - c->lo, c->zero);
    } else {
        unpack_bits(c, p, codes, n);
    }
}

int32_t ht_code_get(const struct ht_format *f, const void *row, uint64_t i) {
    const struct ht_code *c = f->code;
    const uint8_t *p = row;
    if (c->bits == 0) {
        int32_t five[TRITS];
        unpack_trits(c, p + i / TRITS, five, TRITS);
        return five[i % TRITS];
    }
    uint64_t bit = i * c->bits;
    unsigned shift = (unsigned)(bit % 8), last = (shift + c->bits - 1) / 8;
    uint32_t window = 0;
    for (unsigned k = 0; k <= last; k++) {
        window |= (uint32_t)p[bit / 8 + k] << 8 * k;
    }
    return code_of(c, window >> shift & ((1u << c->bits) - 1));
}

void ht_code_put(const struct ht_format *f, void *row, uint64_t i, int32_t code) {
    const struct ht_code *c = f->code;
    uint8_t *p = row;
    if (c->bits == 0) {
        int32_t five[TRITS];
        unpack_trits(c, p + i / TRITS, five, TRITS);
        five[i % TRITS] = code;
        pack_trits(c, five, p + i / TRITS, TRITS);
        return;
    }
    uint64_t bit = i * c->bits;
    unsigned shift = (unsigned)(bit % 8), last = (shift + c->bits - 1) / 8;
    uint32_t mask = ((1u << c->bits) - 1) << shift, window = (uint32_t)(code - c->lo) << shift;
    for (unsigned k = 0; k <= last; k++) {
        uint8_t m = (uint8_t)(mask >> 8 * k);
        p[bit / 8 + k] = (uint8_t)((p[bit / 8 + k] & ~m) | (window >> 8 * k & m));
    }
}
