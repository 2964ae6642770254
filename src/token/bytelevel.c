#include "token/bytelevel.h"

#include "token/utf8.h"

/* The bytes that are not their own character, in order: 0-32, 127-160, 173. */
enum { N_LOW = 33, FIRST_HIGH = 127, LAST_HIGH = 160, SOFT_HYPHEN = 173 };

uint32_t ht_bytelevel_char(unsigned char byte) {
    if (byte < N_LOW) {
        return 0x100u + byte;
    }
    if (byte >= FIRST_HIGH && byte <= LAST_HIGH) {
        return 0x100u + N_LOW + (byte - FIRST_HIGH);
    }
    return byte == SOFT_HYPHEN ? 0x100u + N_LOW + (LAST_HIGH - FIRST_HIGH + 1) : byte;
}

/* -1: the character stands for no byte. */
static int byte_of(uint32_t c) {
    const uint32_t n_high = LAST_HIGH - FIRST_HIGH + 1;
    if (c >= 0x100) {
        c -= 0x100;
        return c < N_LOW             ? (int)c
               : c < N_LOW + n_high  ? (int)(c - N_LOW + FIRST_HIGH)
               : c == N_LOW + n_high ? SOFT_HYPHEN
                                     : -1;
    }
    return ht_bytelevel_char((unsigned char)c) == c ? (int)c : -1;
}

size_t ht_bytelevel_decode(const char *text, size_t len, char *bytes) {
    size_t out = 0, n;
    for (size_t i = 0; i < len; i += n) {
        int b = byte_of(ht_utf8_at(text + i, len - i, &n));
        if (b < 0) {
            return SIZE_MAX;
        }
        bytes[out++] = (char)b;
    }
    return out;
}
