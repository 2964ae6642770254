/* Inside of ht_hf_vocab, shared by the reader of tokenizer.json (hf_vocab.c) and that of the files beside it
 * (hf_special.c). */
#ifndef HT_TOKEN_HF_VOCAB_H
#define HT_TOKEN_HF_VOCAB_H

#include <jansson.h>

#include "base/arena.h"
#include "token/tokenizer.h"

struct ht_hf_vocab {
    struct ht_arena arena; /* all texts */
    struct ht_vocab view;
    struct ht_token_text *tokens; /* [view.n_tokens], ht_mem */
};

/* Id of the token with this text, added tokens first; -1: none. */
int32_t ht_hf_find(const struct ht_hf_vocab *hf, const char *text, size_t len);
/* BOS, EOS ..., add_bos, add_eos and the chat template, from tokenizer.json's post_processor and from
 * tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json and chat_template.*
 * where folder has them. Needs the tokens. */
ht_status ht_hf_load_special(struct ht_hf_vocab *hf, const char *folder, const json_t *post_processor,
                             ht_err *err);

#endif
