/* Any bytes as config.json and as model.safetensors.index.json. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "io/hf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_index(const char *text, size_t size) {
    struct ht_hf_index index;
    ht_err err = {0};
    if (ht_hf_index_parse(text, size, "input", &index, &err) != HT_OK) {
        if (err.code == HT_OK || err.msg[0] == '\0') {
            abort();
        }
        return;
    }
    if (index.n_shards == 0 || index.n_shards > index.n_tensors) {
        abort();
    }
    for (size_t i = 0; i < index.n_shards; i++) { /* no name leaves the folder */
        if (strchr(index.shards[i], '/') != NULL || index.shards[i][0] == '.' || strlen(index.shards[i]) < 13) {
            abort();
        }
    }
    for (size_t i = 0; i < index.n_tensors; i++) {
        int fits = 0;
        for (size_t k = 0; k < index.n_shards && k < 64; k++) {
            fits += ht_hf_index_check(&index, index.names[i], k, "input", NULL) == HT_OK;
        }
        if (fits > 1 || (index.n_shards <= 64 && fits != 1)) {
            abort();
        }
    }
    ht_hf_index_deinit(&index);
}

static void as_config(const char *text, size_t size) {
    static const char *const keys[] = {"hidden_size", "rope_theta", "tie_word_embeddings", "model_type", ""};
    json_t *config;
    ht_err err = {0};
    if (ht_hf_config_parse(text, size, "input", &config, &err) != HT_OK) {
        if (err.code == HT_OK || err.msg[0] == '\0' || config != NULL) {
            abort();
        }
        return;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        uint64_t u = 0;
        double f = 0;
        bool b = false;
        const char *s = "";
        if (ht_json_get_u64(config, keys[i], 1000, "input", &u, NULL) == HT_OK && u > 1000) {
            abort();
        }
        (void)ht_json_get_f64(config, keys[i], "input", &f, NULL);
        (void)ht_json_get_bool(config, keys[i], "input", &b, NULL);
        (void)ht_json_get_str(config, keys[i], "input", &s, NULL);
    }
    json_decref(config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    as_config((const char *)data, size);
    as_index((const char *)data, size);
    return 0;
}
