#include "io/name.h"

#include <utf8proc.h> /* utf8proc_iterate: strict UTF-8 decoding */

const char *ht_name_fault(const char *s, size_t len, size_t max_len) {
    if (len == 0) {
        return "is empty";
    }
    if (len > max_len) {
        return "is too long";
    }
    for (size_t i = 0; i < len;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)s + i, (utf8proc_ssize_t)(len - i), &c);
        if (n <= 0) {
            return "is not valid UTF-8";
        }
        if (c < 0x20 || (c >= 0x7f && c < 0xa0)) {
            return "holds a control character";
        }
        i += (size_t)n;
    }
    return NULL;
}
