#include "base/hash.h"

#include <openssl/evp.h> /* SHA-256 */

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/mem.h"

uint64_t ht_hash_xxh3(const void *data, size_t len) {
    return XXH3_64bits(data, len);
}

struct ht_xxh3 {
    XXH3_state_t state; /* wants 64-byte alignment */
};

ht_status ht_xxh3_new(struct ht_xxh3 **ctx, ht_err *err) {
    *ctx = ht_mem_alloc_aligned(1, sizeof **ctx);
    if (*ctx == NULL) {
        return ht_fail_nomem(err, sizeof **ctx);
    }
    XXH3_INITSTATE(&(*ctx)->state);
    XXH3_64bits_reset(&(*ctx)->state);
    return HT_OK;
}

void ht_xxh3_update(struct ht_xxh3 *ctx, const void *data, size_t len) {
    XXH3_64bits_update(&ctx->state, data, len);
}

uint64_t ht_xxh3_final(struct ht_xxh3 *ctx) {
    uint64_t hash = XXH3_64bits_digest(&ctx->state);
    XXH3_64bits_reset(&ctx->state);
    return hash;
}

void ht_xxh3_free(struct ht_xxh3 *ctx) {
    ht_mem_free_aligned(ctx);
}

struct ht_sha256 {
    EVP_MD_CTX *md;
};

ht_status ht_sha256_new(struct ht_sha256 **ctx, ht_err *err) {
    struct ht_sha256 *c = ht_mem_calloc(1, sizeof *c);
    *ctx = NULL;
    if (c == NULL) {
        return ht_fail_nomem(err, sizeof *c);
    }
    c->md = EVP_MD_CTX_new();
    if (c->md == NULL || EVP_DigestInit_ex(c->md, EVP_sha256(), NULL) != 1) {
        ht_sha256_free(c);
        return ht_fail(err, HT_INTERNAL, NULL, HT_NO_POS, "OpenSSL cannot start SHA-256");
    }
    *ctx = c;
    return HT_OK;
}

void ht_sha256_update(struct ht_sha256 *ctx, const void *data, size_t len) {
    EVP_DigestUpdate(ctx->md, data, len);
}

void ht_sha256_final(struct ht_sha256 *ctx, char hex[65]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char raw[EVP_MAX_MD_SIZE] = {0};
    unsigned n = 0;
    EVP_DigestFinal_ex(ctx->md, raw, &n);
    for (unsigned i = 0; i < 32; i++) {
        hex[2 * i] = digits[raw[i] >> 4];
        hex[2 * i + 1] = digits[raw[i] & 15];
    }
    hex[64] = '\0';
    EVP_DigestInit_ex(ctx->md, EVP_sha256(), NULL);
}

void ht_sha256_free(struct ht_sha256 *ctx) {
    if (ctx != NULL) {
        EVP_MD_CTX_free(ctx->md);
        ht_mem_free(ctx);
    }
}
