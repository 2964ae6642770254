/* Tokenizers: text to ids and back. Needs base only; io and model hand it vocabularies.
 *
 * Byte-level BPE: added (special) tokens are cut out first, the rest is split by the pre-tokenizer's regex
 * (pretokenizer.h), each piece is mapped byte by byte to printable characters (GPT-2's table) and merged by
 * rank. Sources: Radford et al. 2019 (GPT-2 encoder); Hugging Face tokenizers (ids are equal to its). */
#ifndef HT_TOKEN_TOKENIZER_H
#define HT_TOKEN_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* tokenizer.ggml.token_type */
enum ht_token_type {
    HT_TOKEN_NORMAL = 1,
    HT_TOKEN_UNKNOWN,
    HT_TOKEN_CONTROL,
    HT_TOKEN_USER_DEFINED,
    HT_TOKEN_UNUSED,
    HT_TOKEN_BYTE
};

struct ht_token_text {
    const char *text; /* as the file has it: byte-level characters, not raw bytes; not NUL terminated */
    size_t len;
    enum ht_token_type type;
    /* Added tokens only (HF): take white space on that side along; match normalized text; only between
     * characters that are no letters. */
    bool lstrip, rstrip, normalized, single_word;
};

/* Everything a tokenizer is made of, whichever file it came from. Views; the maker owns them. */
struct ht_vocab {
    const char *model; /* "bpe" */
    const char *pre;   /* pre-tokenizer name: "gpt-2", "llama-bpe", "qwen2", "smollm" */
    uint32_t n_tokens;
    const struct ht_token_text *tokens; /* [n_tokens] */
    uint32_t n_merges;
    const struct ht_merge {
        const char *left, *right;
        size_t left_len, right_len;
    } *merges;                       /* [n_merges] in rank order */
    bool ignore_merges;              /* a piece that is a token as a whole needs no merging (Llama 3) */
    int32_t bos, eos, eot, unk, pad; /* -1: none */
    bool add_bos, add_eos;
    const char *chat_template; /* Jinja text or NULL */
    bool unk_for_bytes;        /* a byte without a token becomes unk; else it is dropped and counted (HF) */
    const int32_t *ends;       /* [n_ends] further ids that end a text (generation_config.json), or NULL */
    uint32_t n_ends;
};

struct ht_tokenizer; /* read-only after new; shared by threads */

/* what names the source in errors. Copies all it needs. */
ht_status ht_tokenizer_new(const struct ht_vocab *vocab, const char *what, struct ht_tokenizer **tokenizer,
                           ht_err *err);
void ht_tokenizer_free(struct ht_tokenizer *tokenizer);
const struct ht_vocab *ht_tokenizer_vocab(const struct ht_tokenizer *tokenizer);

/* A Hugging Face folder's tokenizer.json as a vocabulary, with what the files beside it say about special
 * tokens and the chat template (docs/tokenizers.md). pre: name that overrides detection, or NULL; an
 * unknown one is HT_INVAL; HT_UNSUPPORTED when tokenizer.json's split is unknown. */
struct ht_hf_vocab;
ht_status ht_hf_vocab_load(const char *folder, const char *pre, struct ht_hf_vocab **hf, ht_err *err);
const struct ht_vocab *ht_hf_vocab_view(const struct ht_hf_vocab *hf);
/* Fills the list up to config.json's vocab_size with "[PADn]" of type UNUSED, as stock's converter does.
 * HT_FORMAT when the vocabulary is larger than n_tokens. The view stays valid; its tokens move. */
ht_status ht_hf_vocab_pad(struct ht_hf_vocab *hf, uint32_t n_tokens, const char *what, ht_err *err);
void ht_hf_vocab_free(struct ht_hf_vocab *hf);

struct ht_ids { /* growing list; init with {0}, free ids with ht_mem_free */
    int32_t *ids;
    size_t n, cap;
};

ht_status ht_ids_push(struct ht_ids *ids, int32_t id, ht_err *err);

/* Appends; BOS and EOS are the caller's affair. special: control tokens written in the text become their
 * ids, else they are plain text; user-defined tokens become their ids always (HF).
 * text must be UTF-8: every broken sequence becomes one U+FFFD. *n_invalid (may be NULL) grows by the
 * number of those, and of bytes that were dropped because the vocabulary has no token for them. */
ht_status ht_tokenizer_encode(const struct ht_tokenizer *tokenizer, const char *text, size_t len,
                              bool special, struct ht_ids *out, uint64_t *n_invalid, ht_err *err);
/* Raw bytes of one token: view in *bytes. Control tokens give their text only when special, else nothing.
 * HT_INVAL for an id outside the vocabulary. */
ht_status ht_tokenizer_piece(const struct ht_tokenizer *tokenizer, int32_t id, bool special,
                             const char **bytes, size_t *len, ht_err *err);
bool ht_tokenizer_is_end(const struct ht_tokenizer *tokenizer, int32_t id); /* EOS, EOT, <|im_end|> ... */
/* Id of a special token by its text, -1: none. */
int32_t ht_tokenizer_special(const struct ht_tokenizer *tokenizer, const char *text);

#endif
