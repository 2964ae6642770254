/* Any text through every pre-tokenizer: what decodes from the ids is the text, with broken UTF-8 repaired
 * (and in form NFC where that belongs to the split). The vocabulary has all bytes, some merges, some added
 * tokens. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/bytelevel.h"
#include "token/normalize.h"
#include "token/pretokenizer.h"
#include "token/tokenizer.h"
#include "token/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_BYTES = 256, N_MERGES = 200, N_ADDED = 5, N_ROWS = 16 };

static struct ht_tokenizer *tokenizers[N_ROWS];

static void build(void) {
    static char text[N_BYTES + N_MERGES][64];
    static struct ht_token_text tokens[N_BYTES + N_MERGES + N_ADDED];
    static struct ht_merge merges[N_MERGES];
    static const char *const added[N_ADDED] = {"<s>", "<|im_end|>", "<<", "ab ", "\xE4\xB8\xAD"};
    uint32_t n = 0, n_merges = 0;
    for (; n < N_BYTES; n++) {
        size_t len = ht_utf8_put(ht_bytelevel_char((unsigned char)n), text[n]);
        tokens[n] = (struct ht_token_text){.text = text[n], .len = len, .type = HT_TOKEN_NORMAL};
    }
    for (uint32_t seed = 1;
         n_merges < N_MERGES;) { /* pairs of what is there: bytes of all kinds, then longer */
        seed = seed * 1664525u + 1013904223u;
        uint32_t a = (seed >> 8) % n, b = (seed >> 20) % (n_merges % 3 ? N_BYTES : n);
        size_t len = tokens[a].len + tokens[b].len;
        memcpy(text[n], tokens[a].text, tokens[a].len);
        if (len >= sizeof text[n]) {
            continue;
        }
        memcpy(text[n] + tokens[a].len, tokens[b].text, tokens[b].len);
        uint32_t i = 0;
        while (i < n && (tokens[i].len != len || memcmp(tokens[i].text, text[n], len) != 0)) {
            i++;
        }
        if (i == n) {
            tokens[n] = (struct ht_token_text){.text = text[n], .len = len, .type = HT_TOKEN_NORMAL};
            merges[n_merges++] =
                (struct ht_merge){tokens[a].text, tokens[b].text, tokens[a].len, tokens[b].len};
            n++;
        }
    }
    for (size_t i = 0; i < N_ADDED; i++) {
        tokens[n++] = (struct ht_token_text){.text = added[i],
                                             .len = strlen(added[i]),
                                             .type = i < 2 ? HT_TOKEN_CONTROL : HT_TOKEN_USER_DEFINED};
    }
    for (size_t i = 0; i < ht_pretokenizer_count(); i++) {
        struct ht_vocab v = {.model = "bpe",
                             .pre = ht_pretokenizer_at(i)->name,
                             .n_tokens = n,
                             .tokens = tokens,
                             .n_merges = n_merges,
                             .merges = merges,
                             .bos = -1,
                             .eos = -1,
                             .eot = -1,
                             .unk = -1,
                             .pad = -1,
                             .ignore_merges = ht_pretokenizer_at(i)->ignore_merges};
        if (ht_tokenizer_new(&v, "fuzz", &tokenizers[i], NULL) != HT_OK) {
            abort();
        }
    }
}

/* NFC of the parts between added tokens is not NFC of the whole, so both sides are normalized to compare. */
static void normalize(struct ht_buf *text) {
    struct ht_buf out;
    ht_buf_init(&out, 0);
    if (text->len > 0 && ht_nfc(text->data, text->len, &out, NULL) != HT_OK) {
        abort();
    }
    ht_buf_deinit(text);
    *text = out;
}

static void check(const struct ht_tokenizer *t, const char *text, size_t size, bool special, bool nfc) {
    struct ht_ids ids = {0};
    struct ht_buf have, want;
    uint64_t n_invalid = 0;
    ht_buf_init(&have, 0);
    ht_buf_init(&want, 0);
    if (ht_tokenizer_encode(t, text, size, special, &ids, &n_invalid, NULL) != HT_OK ||
        n_invalid != ht_utf8_repair(text, size, &want)) {
        abort();
    }
    for (size_t i = 0; i < ids.n; i++) {
        const char *bytes;
        size_t len;
        if (ht_tokenizer_piece(t, ids.ids[i], true, &bytes, &len, NULL) != HT_OK) {
            abort();
        }
        ht_buf_append(&have, bytes, len);
    }
    if (nfc) {
        normalize(&have);
        normalize(&want);
    }
    if (have.len != want.len || (have.len > 0 && memcmp(have.data, want.data, have.len) != 0)) {
        abort();
    }
    ht_mem_free(ids.ids);
    ht_buf_deinit(&have);
    ht_buf_deinit(&want);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (tokenizers[0] == NULL) {
        build();
    }
    for (size_t i = 0; i < ht_pretokenizer_count(); i++) {
        check(tokenizers[i], (const char *)data, size, size % 2 == 0, ht_pretokenizer_at(i)->nfc);
    }
    return 0;
}
