/* Any bytes as tokenizer.json (up to the first NUL) and, behind it, as tokenizer_config.json: refused, or a
 * tokenizer that encodes and whose pieces can be read. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "token/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder_name[64];

static void remove_folder(void) {
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder_name, names[i]);
        unlink(path);
    }
    rmdir(folder_name);
}

static const char *folder(void) {
    if (folder_name[0] == '\0') {
        snprintf(folder_name, sizeof folder_name, "/tmp/ht-fuzz-XXXXXX");
        if (mkdtemp(folder_name) == NULL || atexit(remove_folder) != 0) {
            abort();
        }
    }
    return folder_name;
}

static void put(const char *name, const uint8_t *data, size_t size) {
    char *path = ht_path_join(folder(), name);
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
        abort();
    }
    ht_mem_free(path);
}

static void use(const struct ht_vocab *v) {
    static const char text[] =
        "Hello <s> world's 123\n\n caf\xC3\xA9 e\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD<|im_end|> ab abc";
    struct ht_tokenizer *t;
    if (ht_tokenizer_new(v, "fuzz", &t, NULL) != HT_OK) {
        return;
    }
    struct ht_ids ids = {0};
    if (ht_tokenizer_encode(t, text, sizeof text - 1, true, &ids, NULL, NULL) != HT_OK) {
        abort();
    }
    for (size_t i = 0; i < ids.n; i++) {
        const char *bytes;
        size_t len;
        if (ht_tokenizer_piece(t, ids.ids[i], true, &bytes, &len, NULL) != HT_OK) {
            abort();
        }
        ht_tokenizer_is_end(t, ids.ids[i]);
    }
    ht_mem_free(ids.ids);
    struct ht_chat chat;
    struct ht_buf own, out;
    ht_buf_init(&own, 0);
    ht_buf_init(&out, 0);
    ht_message message = {"user", "x"};
    if (v->chat_template != NULL && ht_chat_resolve(NULL, v->chat_template, &chat, &own, NULL) == HT_OK &&
        ht_chat_write(&chat, &message, 1, &out, NULL) != HT_OK) {
        abort();
    }
    ht_buf_deinit(&own);
    ht_buf_deinit(&out);
    ht_tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *nul = memchr(data, 0, size);
    size_t first = nul != NULL ? (size_t)(nul - data) : size;
    put("tokenizer.json", data, first);
    put("tokenizer_config.json", nul != NULL ? nul + 1 : (const uint8_t *)"{}",
        nul != NULL ? size - first - 1 : 2);
    struct ht_hf_vocab *hf;
    if (ht_hf_vocab_load(folder(), NULL, &hf, NULL) == HT_OK) {
        ht_hf_vocab_pad(hf, ht_hf_vocab_view(hf)->n_tokens + size % 7, "fuzz", NULL);
        use(ht_hf_vocab_view(hf));
        ht_hf_vocab_free(hf);
    }
    return 0;
}
