/* Hashes: XXH3-64 for quick checks of stored tensors, SHA-256 (OpenSSL) for identity of files. */
#ifndef HT_BASE_HASH_H
#define HT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

uint64_t ht_hash_xxh3(const void *data, size_t len);

/* The same in pieces. new and final leave it ready for the first piece. */
struct ht_xxh3; /* opaque */
ht_status ht_xxh3_new(struct ht_xxh3 **ctx, ht_err *err);
void ht_xxh3_update(struct ht_xxh3 *ctx, const void *data, size_t len);
uint64_t ht_xxh3_final(struct ht_xxh3 *ctx);
void ht_xxh3_free(struct ht_xxh3 *ctx);

struct ht_sha256; /* opaque */
ht_status ht_sha256_new(struct ht_sha256 **ctx, ht_err *err);
void ht_sha256_update(struct ht_sha256 *ctx, const void *data, size_t len);
void ht_sha256_final(struct ht_sha256 *ctx, char hex[65]); /* also resets for the next use */
void ht_sha256_free(struct ht_sha256 *ctx);

#endif
