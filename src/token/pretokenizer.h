/* Pre-tokenizers: regexes (PCRE2) that cut text into pieces before BPE. One row each; tokenizer.ggml.pre
 * names them, and tokenizer.json's pre_tokenizer is matched against them. */
#ifndef HT_TOKEN_PRETOKENIZER_H
#define HT_TOKEN_PRETOKENIZER_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

struct ht_pretokenizer {
    const char *name; /* as in tokenizer.ggml.pre */
    const char *summary;
    const char *const *passes;  /* regexes, applied one after the other to the pieces; NULL ends */
    const char *const *aliases; /* other tokenizer.ggml.pre names of the same split; NULL ends */
    int nfc;                    /* normalizer NFC comes with it (Qwen) */
};

size_t ht_pretokenizer_count(void);
const struct ht_pretokenizer *ht_pretokenizer_at(size_t i);
const struct ht_pretokenizer *ht_pretokenizer_find(const char *name); /* name or alias; NULL: none */
/* The row whose split equals tokenizer.json's "pre_tokenizer" (and normalizer) value; NULL: none. */
const struct ht_pretokenizer *ht_pretokenizer_match(const json_t *pre_tokenizer, const json_t *normalizer);

#endif
