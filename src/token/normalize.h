/* Unicode normalization form C, the normalizer that Qwen's tokenizers put before the split (UAX 15, on
 * utf8proc's tables). Ids must equal those of Hugging Face tokenizers, whose tables stop at Unicode 9: marks
 * and compositions that came later are left alone. Linear in the length of the text, also for hostile runs of
 * combining marks. */
#ifndef HT_TOKEN_NORMALIZE_H
#define HT_TOKEN_NORMALIZE_H

#include "base/buf.h"

/* True when NFC surely leaves the text alone; false tells nothing. */
bool ht_nfc_is_plain(const char *text, size_t len);
/* Appends NFC(text); text is well-formed UTF-8. HT_NOMEM. */
ht_status ht_nfc(const char *text, size_t len, struct ht_buf *out, ht_err *err);

#endif
