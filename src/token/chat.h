/* Chat formats: how a conversation becomes text. One row each (ChatML, Llama 3); the model's Jinja template
 * is recognized by the markers it writes, and carried through files unchanged.
 *
 * Contents are data: ht_chat_encode parses special tokens in the format's own markers only, so a message
 * that contains "<|im_end|>" ends nothing. The text of ht_chat_write does not keep the two apart; do not
 * encode it with special tokens on when a message comes from outside. */
#ifndef HT_TOKEN_CHAT_H
#define HT_TOKEN_CHAT_H

#include "base/buf.h"
#include "halftone.h"
#include "token/tokenizer.h"

struct ht_chat {
    const char *name; /* "chatml", "llama3" */
    const char *summary;
    const char *marker; /* text that a template of this format contains */
    const char *begin;  /* before the first message, may be empty */
    const char *before_role, *after_role, *after_content;
    const char *end_token;      /* ends the assistant's turn */
    const char *default_system; /* written when there is no system message; NULL: none */
    bool trim_content;          /* white space around a message's content is left out */
};

size_t ht_chat_count(void);
const struct ht_chat *ht_chat_at(size_t i);
const struct ht_chat *ht_chat_find(const char *name);
const struct ht_chat *ht_chat_match(const char *chat_template); /* NULL: none */

/* The format of one model: by name when not NULL, else by its template (may be NULL). *chat becomes a copy of
 * the row; the default system message is what the template writes when a conversation has none (SmolLM2,
 * Qwen2.5), kept in *text, which must outlive *chat. HT_INVAL for an unknown name,
 * HT_UNSUPPORTED when neither tells. */
ht_status ht_chat_resolve(const char *name, const char *chat_template, struct ht_chat *chat,
                          struct ht_buf *text, ht_err *err);

/* Appends the conversation up to where the assistant speaks. Roles are words of letters, digits, '_' and '-';
 * HT_INVAL for others. */
ht_status ht_chat_write(const struct ht_chat *chat, const ht_message *messages, size_t n, struct ht_buf *out,
                        ht_err *err);
/* The same as ids, for benign contents those of the written text. BOS is part of the format: add none.
 * HT_UNSUPPORTED when the vocabulary lacks one of the format's special tokens, since contents could
 * then write it. *n_invalid as in ht_tokenizer_encode. */
ht_status ht_chat_encode(const struct ht_tokenizer *tokenizer, const struct ht_chat *chat,
                         const ht_message *messages, size_t n, struct ht_ids *out, uint64_t *n_invalid,
                         ht_err *err);

#endif
