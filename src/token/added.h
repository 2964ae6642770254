/* Added tokens: texts that are cut out of the input before anything else, longest at each place first.
 * Matching and the white space that lstrip and rstrip take along equal Hugging Face tokenizers'. */
#ifndef HT_TOKEN_ADDED_H
#define HT_TOKEN_ADDED_H

#include "token/tokenizer.h"

struct ht_added_token {
    const char *text; /* view */
    size_t len;
    int32_t id;
    bool special, lstrip, rstrip, single_word;
};

struct ht_added {                  /* read-only once sorted */
    struct ht_added_token *tokens; /* [n], sorted by text */
    size_t n;
    uint32_t first[257]; /* tokens whose first byte is b: [first[b], first[b + 1]) */
};

/* Sorts tokens[n] and takes them over (ht_mem). */
void ht_added_adopt(struct ht_added *added, struct ht_added_token *tokens, size_t n);
void ht_added_deinit(struct ht_added *added);

struct ht_added_match {
    size_t begin, end; /* bytes of text, with stripped white space */
    size_t resume;     /* where to look for the next match: behind the token's own text */
    int32_t id;
};

/* The first match whose own text starts at from or later; white space to the left is taken along back to
 * floor. false: none. special: else control tokens are passed over, together with whatever they contain. */
bool ht_added_find(const struct ht_added *added, const char *text, size_t len, size_t from, size_t floor,
                   bool special, struct ht_added_match *match);

#endif
