#include "token/utf8.h"

#include <string.h>
#include <utf8proc.h> /* utf8proc_category: character classes */

/* Bytes of the well-formed character at s, or 0; *bad: length of the maximal broken part then. */
static size_t char_len(const unsigned char *s, size_t len, size_t *bad) {
    unsigned char c = s[0];
    if (c < 0x80) {
        return 1;
    }
    *bad = 1;
    if (c < 0xC2 || c > 0xF4) {
        return 0;
    }
    size_t need = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    unsigned char high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    for (size_t i = 1; i < need; i++) {
        if (i == len || s[i] < low || s[i] > high) {
            *bad = i;
            return 0;
        }
        low = 0x80;
        high = 0xBF;
    }
    return need;
}

size_t ht_utf8_valid(const char *s, size_t len) {
    size_t i = 0, bad;
    while (i < len) {
        uint64_t word;
        if (len - i >= 8 && (memcpy(&word, s + i, 8), (word & 0x8080808080808080u) == 0)) {
            i += 8;
            continue;
        }
        size_t n = char_len((const unsigned char *)s + i, len - i, &bad);
        if (n == 0) {
            break;
        }
        i += n;
    }
    return i;
}

uint64_t ht_utf8_repair(const char *s, size_t len, struct ht_buf *out) {
    uint64_t n_broken = 0;
    size_t i = 0;
    while (i < len) {
        size_t good = ht_utf8_valid(s + i, len - i);
        ht_buf_append(out, s + i, good);
        i += good;
        if (i < len) {
            size_t bad = 1;
            char_len((const unsigned char *)s + i, len - i, &bad);
            ht_buf_append(out, "\xEF\xBF\xBD", 3);
            i += bad;
            n_broken++;
        }
    }
    return n_broken;
}

uint32_t ht_utf8_at(const char *s, size_t len, size_t *n) {
    const unsigned char *u = (const unsigned char *)s;
    size_t bad;
    *n = char_len(u, len, &bad);
    switch (*n) {
    case 1:
        return u[0];
    case 2:
        return (u[0] & 0x1Fu) << 6 | (u[1] & 0x3Fu);
    case 3:
        return (u[0] & 0x0Fu) << 12 | (u[1] & 0x3Fu) << 6 | (u[2] & 0x3Fu);
    case 4:
        return (u[0] & 0x07u) << 18 | (u[1] & 0x3Fu) << 12 | (u[2] & 0x3Fu) << 6 | (u[3] & 0x3Fu);
    default:
        *n = 1;
        return 0xFFFD;
    }
}

size_t ht_utf8_put(uint32_t c, char out[4]) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}

bool ht_utf8_is_space(uint32_t c) {
    return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

bool ht_utf8_is_word(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC ||
           c == 0x200C || c == 0x200D;
}

size_t ht_utf8_space_head(const char *s, size_t len) {
    size_t i = 0, n;
    while (i < len && ht_utf8_is_space(ht_utf8_at(s + i, len - i, &n))) {
        i += n;
    }
    return i;
}

size_t ht_utf8_space_tail(const char *s, size_t len) {
    size_t end = len;
    while (end > 0) {
        size_t start = end - 1, n;
        while (start > 0 && end - start < 4 && ((unsigned char)s[start] & 0xC0) == 0x80) {
            start--;
        }
        if (!ht_utf8_is_space(ht_utf8_at(s + start, end - start, &n)) || n != end - start) {
            break;
        }
        end = start;
    }
    return len - end;
}
