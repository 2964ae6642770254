/* GPT-2's table between bytes and printable characters, in which byte-level vocabularies are written.
 * Printable Latin-1 bytes stand for themselves; the 68 others are U+0100 + their rank among those.
 * Source: Radford et al. 2019, encoder of the GPT-2 release (bytes_to_unicode). */
#ifndef HT_TOKEN_BYTELEVEL_H
#define HT_TOKEN_BYTELEVEL_H

#include <stddef.h>
#include <stdint.h>

uint32_t ht_bytelevel_char(unsigned char byte);
/* Bytes that the characters of text stand for: at most len of them into bytes.
 * SIZE_MAX when a character is not of the table (or text is not UTF-8). */
size_t ht_bytelevel_decode(const char *text, size_t len, char *bytes);

#endif
