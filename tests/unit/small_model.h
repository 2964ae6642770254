/* A Llama of random weights in a folder, small enough for every method in a moment; its tokenizer is the embedded
 * model's. */
#ifndef HT_TESTS_UNIT_SMALL_MODEL_H
#define HT_TESTS_UNIT_SMALL_MODEL_H

#include "test.h"

#include "base/buf.h"
#include "base/rng.h"
#include "flow_test.h"
#include "tiny_model.h"

#define SMALL_VOCAB 4096
#define SMALL_WIDTH 64
#define SMALL_FFN 96
#define SMALL_HEADS 4
#define SMALL_KV 2
#define SMALL_LAYERS 2

struct small_file {
    struct ht_buf head, data;
    struct ht_rng rng;
    const char *nan; /* of the tensor of this name the third weight is NaN; NULL: none */
};

/* Rows 0: a vector around 1, as norms are, or around 0. */
static inline void small_tensor(struct small_file *f, const char *name, int rows, int cols, bool norm) {
    size_t n = (size_t)(rows > 0 ? rows : 1) * (size_t)cols, from = f->data.len;
    for (size_t i = 0; i < n; i++) {
        float x = (float)(ht_rng_normal(&f->rng) * (rows > 0 ? 0.1 : 0.05)) + (norm ? 1.0f : 0.0f);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        uint16_t half = f->nan != NULL && strcmp(f->nan, name) == 0 && i == 2 ? 0x7fc0 : (uint16_t)(bits >> 16);
        ht_buf_append(&f->data, (const char *)&half, sizeof half);
    }
    ht_buf_printf(&f->head, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[", f->head.len > 1 ? "," : "", name);
    if (rows > 0) {
        ht_buf_printf(&f->head, "%d,", rows);
    }
    ht_buf_printf(&f->head, "%d],\"data_offsets\":[%zu,%zu]}", cols, from, f->data.len);
}

static inline void small_layer(struct small_file *f, int layer, bool biases) {
    const int d = SMALL_WIDTH / SMALL_HEADS;
    const struct {
        const char *name;
        int rows, cols;
        bool attn;
    } all[] = {
        {"self_attn.q_proj", SMALL_WIDTH, SMALL_WIDTH, true}, {"self_attn.k_proj", SMALL_KV * d, SMALL_WIDTH, true},
        {"self_attn.v_proj", SMALL_KV * d, SMALL_WIDTH, true}, {"self_attn.o_proj", SMALL_WIDTH, SMALL_WIDTH, true},
        {"mlp.gate_proj", SMALL_FFN, SMALL_WIDTH, false},     {"mlp.up_proj", SMALL_FFN, SMALL_WIDTH, false},
        {"mlp.down_proj", SMALL_WIDTH, SMALL_FFN, false},
    };
    char name[96];
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, all[i].name);
        small_tensor(f, name, all[i].rows, all[i].cols, false);
        if (biases && all[i].attn) {
            snprintf(name, sizeof name, "model.layers.%d.%s.bias", layer, all[i].name);
            small_tensor(f, name, 0, all[i].rows, false);
        }
    }
    snprintf(name, sizeof name, "model.layers.%d.input_layernorm.weight", layer);
    small_tensor(f, name, 0, SMALL_WIDTH, true);
    snprintf(name, sizeof name, "model.layers.%d.post_attention_layernorm.weight", layer);
    small_tensor(f, name, 0, SMALL_WIDTH, true);
}

static inline void small_write(const char *folder, const char *name, const char *data, size_t len) {
    char *path = ht_path_join(folder, name);
    ht_err err = {0};
    ASSERT_OK(ht_write_file(path, data, len, true, &err), &err);
    ht_mem_free(path);
}

static inline void small_weights(const char *folder, bool biases, const char *nan) {
    struct small_file f = {.nan = nan};
    struct ht_buf file;
    ht_buf_init(&f.head, 0);
    ht_buf_init(&f.data, 0);
    ht_buf_init(&file, 0);
    ht_rng_init(&f.rng, 17);
    ht_buf_putc(&f.head, '{');
    small_tensor(&f, "model.embed_tokens.weight", SMALL_VOCAB, SMALL_WIDTH, false);
    for (int layer = 0; layer < SMALL_LAYERS; layer++) {
        small_layer(&f, layer, biases);
    }
    small_tensor(&f, "model.norm.weight", 0, SMALL_WIDTH, true);
    ht_buf_putc(&f.head, '}');
    while (f.head.len % 8 != 0) {
        ht_buf_putc(&f.head, ' ');
    }
    uint64_t head = f.head.len;
    ht_buf_append(&file, (const char *)&head, sizeof head);
    ht_buf_append(&file, f.head.data, f.head.len);
    ht_buf_append(&file, f.data.data, f.data.len);
    assert_true(ht_buf_ok(&file));
    small_write(folder, "model.safetensors", file.data, file.len);
    ht_buf_deinit(&f.head);
    ht_buf_deinit(&f.data);
    ht_buf_deinit(&file);
}

static inline void small_model(const char *folder, bool biases, const char *nan) {
    char config[1024], *data;
    size_t len;
    ht_err err = {0};
    mkdir(folder, 0755);
    int n = snprintf(config, sizeof config,
                     "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"vocab_size\": %d, "
                     "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
                     "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"max_position_embeddings\": 512, "
                     "\"rms_norm_eps\": 1e-05, \"rope_theta\": 10000.0, \"tie_word_embeddings\": true, "
                     "\"hidden_act\": \"silu\", \"attention_bias\": %s, \"bos_token_id\": 0, \"eos_token_id\": 0, "
                     "\"torch_dtype\": \"bfloat16\"}",
                     SMALL_VOCAB, SMALL_WIDTH, SMALL_FFN, SMALL_LAYERS, SMALL_HEADS, SMALL_KV,
                     biases ? "true" : "false");
    small_write(folder, "config.json", config, (size_t)n);
    static const char *const files[] = {"tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < 2; i++) {
        char *from = ht_path_join(tiny_model(), files[i]);
        ASSERT_OK(ht_read_file(from, 1u << 26, &data, &len, &err), &err);
        small_write(folder, files[i], data, len);
        ht_mem_free(data);
        ht_mem_free(from);
    }
    small_weights(folder, biases, nan);
}

#endif
