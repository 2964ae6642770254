/* Chat formats: how a conversation becomes text. One row each (ChatML, Llama 3); the model's Jinja template
 * is recognized by the markers it writes, and carried through files unchanged. */
#ifndef HT_TOKEN_CHAT_H
#define HT_TOKEN_CHAT_H

#include "base/buf.h"
#include "halftone.h"

struct ht_chat {
    const char *name; /* "chatml", "llama3" */
    const char *summary;
    const char *marker;         /* text that a template of this format contains */
    const char *begin;          /* before the first message, may be empty */
    const char *before_role, *after_role, *after_content;
    const char *end_token;      /* ends the assistant's turn */
    const char *default_system; /* written when there is no system message; NULL: none */
};

size_t ht_chat_count(void);
const struct ht_chat *ht_chat_at(size_t i);
const struct ht_chat *ht_chat_find(const char *name);
const struct ht_chat *ht_chat_match(const char *chat_template); /* NULL: none */

ht_status ht_chat_write(const struct ht_chat *chat, const ht_message *messages, size_t n, struct ht_buf *out,
                        ht_err *err);

#endif
