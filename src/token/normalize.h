/* Unicode normalization form C (utf8proc), the normalizer that Qwen's tokenizers put before the split. */
#ifndef HT_TOKEN_NORMALIZE_H
#define HT_TOKEN_NORMALIZE_H

#include "base/buf.h"

/* True when NFC surely leaves the text alone: every character below U+0300, where composition starts. */
bool ht_nfc_is_plain(const char *text, size_t len);
/* Appends NFC(text); text is well-formed UTF-8. HT_NOMEM. */
ht_status ht_nfc(const char *text, size_t len, struct ht_buf *out, ht_err *err);

#endif
