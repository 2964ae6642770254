/* Names from files: metadata keys, tensor names, shard names. They end up in messages, reports and paths, so
 * they are held to plain text once, where they are read. */
#ifndef HT_IO_NAME_H
#define HT_IO_NAME_H

#include <stddef.h>

/* NULL when s[len] is a fit name: 1 to max_len bytes of UTF-8 without control characters (NUL among them);
 * else what is wrong with it, for a message: "is empty", "is not UTF-8", ... */
const char *ht_name_fault(const char *s, size_t len, size_t max_len);

#endif
