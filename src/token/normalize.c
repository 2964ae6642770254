#include "token/normalize.h"

#include <utf8proc.h> /* decomposition, canonical order, composition */

#include "token/utf8.h"

bool ht_nfc_is_plain(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] >= 0xCC) { /* the lead byte of U+0300 */
            return false;
        }
    }
    return true;
}

ht_status ht_nfc(const char *text, size_t len, struct ht_buf *out, ht_err *err) {
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    const utf8proc_uint8_t *s = (const utf8proc_uint8_t *)text;
    utf8proc_ssize_t n = utf8proc_decompose(s, (utf8proc_ssize_t)len, NULL, 0, options);
    utf8proc_int32_t *c = n < 0 ? NULL : ht_mem_alloc_array((size_t)n + 1, sizeof *c);
    if (c == NULL) {
        return n == 0 || n == UTF8PROC_ERROR_OVERFLOW || c == NULL
                   ? ht_fail_nomem(err, len)
                   : ht_fail(err, HT_INTERNAL, NULL, HT_NO_POS, "%s", utf8proc_errmsg(n));
    }
    n = utf8proc_decompose(s, (utf8proc_ssize_t)len, c, n, options);
    n = utf8proc_normalize_utf32(c, n, options);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char bytes[4];
        ht_buf_append(out, bytes, ht_utf8_put((uint32_t)c[i], bytes));
    }
    ht_mem_free(c);
    return ht_buf_ok(out) ? HT_OK : ht_fail_nomem(err, len);
}
