/* Pre-tokenizers: regexes (PCRE2) that cut text into pieces before BPE. One row each; tokenizer.ggml.pre
 * names them, and tokenizer.json's pre_tokenizer is matched against them. */
#ifndef HT_TOKEN_PRETOKENIZER_H
#define HT_TOKEN_PRETOKENIZER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

struct ht_pretokenizer {
    const char *name; /* as in tokenizer.ggml.pre */
    const char *summary;
    const char *const *passes;  /* regexes, applied one after the other to the pieces; NULL ends */
    const char *const *aliases; /* other tokenizer.ggml.pre names of the same split; NULL ends */
    int nfc;                    /* normalizer NFC comes with it (Qwen) */
    /* What stock runtimes take this name to mean; a GGUF file has no key for the first. */
    bool ignore_merges;
    bool add_bos; /* when tokenizer.ggml.add_bos_token is absent */
};

size_t ht_pretokenizer_count(void);
const struct ht_pretokenizer *ht_pretokenizer_at(size_t i);
const struct ht_pretokenizer *ht_pretokenizer_find(const char *name); /* name or alias; NULL: none */
void ht_pretokenizer_names(struct ht_buf *out); /* "gpt-2, llama-bpe, ..." for messages */
/* find, or `code` with the known names and the way out (--pre NAME): HT_UNSUPPORTED for a name that stands in a file,
 * HT_INVAL for one that the caller gave. */
ht_status ht_pretokenizer_require(const char *name, const char *what, ht_status code,
                                  const struct ht_pretokenizer **row, ht_err *err);
/* The row whose split equals tokenizer.json's "pre_tokenizer" (and normalizer) value; NULL: none. */
const struct ht_pretokenizer *ht_pretokenizer_match(const json_t *pre_tokenizer, const json_t *normalizer);
/* As match, but only rows with this ignore_merges: what tokenizer.json's model says. */
const struct ht_pretokenizer *ht_pretokenizer_match_model(const json_t *pre_tokenizer,
                                                          const json_t *normalizer, bool ignore_merges);

#endif
