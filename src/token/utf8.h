/* UTF-8 as the tokenizer needs it: validation, repair, single code points, character classes.
 * Needs nothing of vocabularies. */
#ifndef HT_TOKEN_UTF8_H
#define HT_TOKEN_UTF8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

/* Length of the well-formed prefix; len when all of it is (Unicode 15, table 3-7: no surrogates, no
 * overlong forms, nothing above U+10FFFF). */
size_t ht_utf8_valid(const char *s, size_t len);
/* Appends s with each maximal broken part replaced by one U+FFFD (Unicode 15, section 3.9, as Python's
 * errors="replace"); returns how many. */
uint64_t ht_utf8_repair(const char *s, size_t len, struct ht_buf *out);
/* Code point at s (len > 0, well-formed); *n: its bytes. */
uint32_t ht_utf8_at(const char *s, size_t len, size_t *n);
size_t ht_utf8_put(uint32_t c, char out[4]); /* bytes written */

bool ht_utf8_is_space(uint32_t c); /* property White_Space: what \s is in tokenizer.json */
bool ht_utf8_is_word(uint32_t c);  /* \w: letters, marks, decimal and letter numbers, connectors, joiners */

/* White space at either end of well-formed text, in bytes. */
size_t ht_utf8_space_head(const char *s, size_t len);
size_t ht_utf8_space_tail(const char *s, size_t len);

#endif
