/* The architecture table: names, shapes, hyper-parameters from both containers and back, and what is refused.
 * Sources are made in memory: metadata or config.json, and tensors that have shapes only. */
#include "test.h"

#include <math.h>

#include "base/json.h"
#include "model/rope.h"

/* ---- sources in memory ----------------------------------------------------------------------------------- */

struct fake {
    struct ht_source source;
    struct ht_tensor tensors[256];
    char names[256][128];
    float freqs[64];
};

static const struct ht_hparams base_hparams = {
    .vocab = 40, .n_layers = 3, .width = 24, .n_heads = 4, .n_kv_heads = 2, .head_dim = 6, .ffn = 56,
    .context = 128, .rope_dim = 6, .rms_eps = 1e-5f, .rope_base = 10000};

static void fake_init(struct fake *f) {
    memset(f, 0, sizeof *f);
    f->source.path = (char *)"fake";
    f->source.tensors = f->tensors;
    ht_map_init(&f->source.index);
    ht_meta_init(&f->source.meta);
}

static void fake_deinit(struct fake *f) {
    ht_map_deinit(&f->source.index);
    ht_meta_deinit(&f->source.meta);
    json_decref(f->source.config);
}

static struct ht_tensor *fake_add(struct fake *f, const char *name, uint64_t ne0, uint64_t ne1) {
    size_t i = f->source.n_tensors++;
    assert_true(i < 256);
    snprintf(f->names[i], sizeof f->names[i], "%s", name);
    f->tensors[i] = (struct ht_tensor){.name = f->names[i],
                                       .format = ht_format_find("f32"),
                                       .n_dims = ne1 > 1 ? 2 : 1,
                                       .ne = {ne0, ne1, 1, 1}};
    assert_true(ht_map_put(&f->source.index, name, strlen(name), i, NULL));
    return &f->tensors[i];
}

/* All tensors of the table that these hyper-parameters ask for. */
static void fake_tensors(struct fake *f, const struct ht_arch *arch, const struct ht_hparams *hp, bool gguf) {
    char name[128];
    for (const struct ht_arch_tensor *row = arch->tensors; row->role != HT_ROLE_OTHER; row++) {
        bool wanted = (row->flags & HT_TENSOR_REQUIRED) ||
                      ((row->flags & HT_TENSOR_IF_UNTIED) && !hp->tied) ||
                      ((row->flags & HT_TENSOR_IF_ATTN_BIAS) && hp->attn_bias) ||
                      ((row->flags & HT_TENSOR_IF_MLP_BIAS) && hp->mlp_bias) ||
                      (row->role == HT_ROLE_ROPE_FREQS && hp->rope_scaling == HT_ROPE_SCALING_LLAMA3);
        for (uint32_t l = 0; wanted && l < (row->flags & HT_TENSOR_LAYER ? hp->n_layers : 1); l++) {
            if (ht_arch_tensor_name(row, gguf, (int32_t)l, name, sizeof name) != NULL) {
                struct ht_tensor *t =
                    fake_add(f, name, ht_arch_dim(hp, row->ne[0]), ht_arch_dim(hp, row->ne[1]));
                if (row->role == HT_ROLE_ROPE_FREQS) {
                    ht_rope_llama3_divisors(hp, f->freqs);
                    t->data = f->freqs;
                }
            }
        }
    }
}

static void fake_gguf(struct fake *f, const struct ht_arch *arch, const struct ht_hparams *hp) {
    ht_err err = {0};
    fake_init(f);
    ASSERT_OK(ht_arch_meta_from_hparams(arch, hp, &f->source.meta, &err), &err);
    fake_tensors(f, arch, hp, true);
}

static void fake_config(struct fake *f, const char *text) {
    ht_err err = {0};
    fake_init(f);
    ASSERT_OK(ht_json_parse(text, strlen(text), 0, "config.json", &f->source.config, &err), &err);
}

static void assert_same(const struct ht_hparams *a, const struct ht_hparams *b) {
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->width, b->width);
    assert_int_equal(a->n_heads, b->n_heads);
    assert_int_equal(a->n_kv_heads, b->n_kv_heads);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->ffn, b->ffn);
    assert_int_equal(a->context, b->context);
    assert_int_equal(a->rope_dim, b->rope_dim);
    assert_true(a->rms_eps == b->rms_eps && a->rope_base == b->rope_base);
    assert_int_equal(a->tied, b->tied);
    assert_int_equal(a->attn_bias, b->attn_bias);
    assert_int_equal(a->mlp_bias, b->mlp_bias);
    assert_int_equal(a->rope_scaling, b->rope_scaling);
    assert_true(a->rope_factor == b->rope_factor);
    assert_true(a->rope_low_freq == b->rope_low_freq && a->rope_high_freq == b->rope_high_freq);
    assert_int_equal(a->rope_original_context, b->rope_original_context);
}

/* ---- both directions ------------------------------------------------------------------------------------- */

/* Variants of the hyper-parameters that every row must carry through both containers. */
static bool variant(int i, const struct ht_arch *arch, struct ht_hparams *hp) {
    *hp = base_hparams;
    switch (i) {
    case 0:
        return true;
    case 1:
        hp->tied = true;
        hp->rope_base = 1e6f;
        return true;
    case 2:
        hp->head_dim = hp->rope_dim = 10; /* does not follow from width and heads */
        hp->rms_eps = 1e-6f;
        return true;
    case 3:
        hp->rope_scaling = HT_ROPE_SCALING_LINEAR;
        hp->rope_factor = 2.5f;
        return true;
    case 4:
        hp->n_kv_heads = hp->n_heads;
        hp->attn_bias = arch->has_bias_choice;
        hp->mlp_bias = arch->has_bias_choice;
        return true;
    case 5: /* Llama 3.2's numbers: 11 of 32 pairs are blended */
        hp->head_dim = hp->rope_dim = 64;
        hp->rope_base = 500000;
        hp->rope_scaling = HT_ROPE_SCALING_LLAMA3;
        hp->rope_factor = 32;
        hp->rope_low_freq = 1;
        hp->rope_high_freq = 4;
        hp->rope_original_context = 8192;
        return strcmp(arch->name, "llama") == 0;
    default:
        return false;
    }
}
#define VARIANTS 6

static void test_gguf_and_back(void **state) {
    (void)state;
    for (size_t a = 0; a < ht_arch_count(); a++) {
        for (int i = 0; i < VARIANTS; i++) {
            struct ht_hparams hp, got;
            const struct ht_arch *arch;
            struct ht_binding bindings[256];
            struct fake f;
            ht_err err = {0};
            if (!variant(i, ht_arch_at(a), &hp)) {
                continue;
            }
            fake_gguf(&f, ht_arch_at(a), &hp);
            ASSERT_OK(ht_arch_read(&f.source, &arch, &got, &err), &err);
            assert_ptr_equal(arch, ht_arch_at(a));
            assert_same(&got, &hp);
            ASSERT_OK(ht_arch_bind(&f.source, arch, &got, bindings, &err), &err);
            ASSERT_OK(ht_arch_refuse_unknown(&f.source, arch, bindings, &err), &err);
            fake_deinit(&f);
        }
    }
}

static void test_config_and_back(void **state) {
    (void)state;
    for (size_t a = 0; a < ht_arch_count(); a++) {
        for (int i = 0; i < VARIANTS; i++) {
            struct ht_hparams hp, got;
            const struct ht_arch *arch;
            struct ht_binding bindings[256];
            struct fake f;
            ht_err err = {0};
            if (!variant(i, ht_arch_at(a), &hp)) {
                continue;
            }
            fake_init(&f);
            ASSERT_OK(ht_arch_config_from_hparams(ht_arch_at(a), &hp, &f.source.config, &err), &err);
            fake_tensors(&f, ht_arch_at(a), &hp, false);
            ASSERT_OK(ht_arch_read(&f.source, &arch, &got, &err), &err);
            assert_ptr_equal(arch, ht_arch_at(a));
            assert_same(&got, &hp);
            ASSERT_OK(ht_arch_bind(&f.source, arch, &got, bindings, &err), &err);
            ASSERT_OK(ht_arch_refuse_unknown(&f.source, arch, bindings, &err), &err);
            fake_deinit(&f);
        }
    }
}

/* Decimals in config.json are the short ones that people wrote. */
static void test_config_decimals(void **state) {
    (void)state;
    struct ht_hparams hp = base_hparams;
    json_t *config;
    ht_err err = {0};
    ASSERT_OK(ht_arch_config_from_hparams(ht_arch_find("llama"), &hp, &config, &err), &err);
    assert_true(json_real_value(json_object_get(config, "rms_norm_eps")) == 1e-5);
    assert_true(json_real_value(json_object_get(config, "rope_theta")) == 10000);
    assert_string_equal(json_string_value(json_array_get(json_object_get(config, "architectures"), 0)),
                        "LlamaForCausalLM");
    json_decref(config);
}

/* Every row has a role of its own, a GGUF name, and its linears have a width on both sides. */
static void test_table(void **state) {
    (void)state;
    for (size_t a = 0; a < ht_arch_count(); a++) {
        const struct ht_arch *arch = ht_arch_at(a);
        bool seen[HT_ROLES] = {false};
        assert_ptr_equal(ht_arch_find(arch->name), arch);
        assert_true(arch->summary[0] && arch->source[0] && arch->hf_model_type[0] && arch->hf_class[0]);
        for (const struct ht_arch_tensor *row = arch->tensors; row->role != HT_ROLE_OTHER; row++) {
            char name[128];
            assert_false(seen[row->role]);
            seen[row->role] = true;
            assert_true(ht_role_quantizable(row->role) == (row->ne[1] != HT_DIM_NONE));
            assert_non_null(ht_arch_tensor_name(row, true, 4095, name, sizeof name));
            assert_true(strlen(name) <= HT_MAX_TENSOR_NAME);
            assert_null(strchr(name, '%'));
            assert_null(ht_arch_tensor_name(row, true, 0, name, 4)); /* too small a buffer */
        }
        for (const struct ht_block_step *s = arch->block; s->kind != HT_STEPS; s++) {
            assert_true(s->role == HT_ROLE_OTHER || seen[s->role]);
        }
    }
    assert_null(ht_arch_find("gpt9"));
}

/* ---- what config.json may look like ---------------------------------------------------------------------- */

#define SIZES                                                                                           \
    "\"vocab_size\": 40, \"hidden_size\": 24, \"intermediate_size\": 56, \"num_hidden_layers\": 3, "    \
    "\"num_attention_heads\": 4, \"max_position_embeddings\": 128"
#define LLAMA "{\"model_type\": \"llama\", " SIZES

static struct ht_hparams read_config(const char *text) {
    struct fake f;
    struct ht_hparams hp;
    const struct ht_arch *arch;
    ht_err err = {0};
    fake_config(&f, text);
    ASSERT_OK(ht_arch_read(&f.source, &arch, &hp, &err), &err);
    fake_deinit(&f);
    return hp;
}

static void test_config_forms(void **state) {
    (void)state;
    struct ht_hparams hp = read_config(LLAMA "}"); /* all defaults */
    assert_int_equal(hp.n_kv_heads, 4);
    assert_int_equal(hp.head_dim, 6);
    assert_true(hp.rms_eps == 1e-6f && hp.rope_base == 10000);
    assert_false(hp.tied);

    hp = read_config(LLAMA ", \"head_dim\": null, \"num_key_value_heads\": 2, \"rope_scaling\": null}");
    assert_int_equal(hp.n_kv_heads, 2);
    assert_int_equal(hp.head_dim, 6);

    hp = read_config("{\"model_type\": \"qwen3\", " SIZES "}");
    assert_int_equal(hp.head_dim, 128); /* transformers' default */

    hp = read_config(LLAMA ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5e5}}");
    assert_true(hp.rope_base == 500000);
    assert_int_equal(hp.rope_scaling, HT_ROPE_SCALING_NONE);

    hp = read_config(LLAMA ", \"rope_theta\": 2e4, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}");
    assert_true(hp.rope_base == 20000 && hp.rope_factor == 4);
    assert_int_equal(hp.rope_scaling, HT_ROPE_SCALING_LINEAR);

    hp = read_config(
        LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
              "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}}");
    assert_int_equal(hp.rope_scaling, HT_ROPE_SCALING_LLAMA3);
    assert_int_equal(hp.rope_original_context, 8192);

    /* A window that never closes changes nothing. */
    read_config("{\"model_type\": \"qwen2\", " SIZES
                ", \"use_sliding_window\": true, \"sliding_window\": 128}");
    read_config("{\"model_type\": \"qwen2\", " SIZES
                ", \"use_sliding_window\": true, \"sliding_window\": 64, \"max_window_layers\": 3}");
    read_config(LLAMA ", \"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\"]}");
}

static void test_malformed_configs(void **state) {
    (void)state;
    static const struct {
        const char *text;
        ht_status code;
        const char *says;
    } cases[] = {
        {"{}", HT_FORMAT, "'model_type' is missing"},
        {"{\"model_type\": \"lama\"}", HT_UNSUPPORTED, "nearest: llama"},
        {"{\"model_type\": 3}", HT_FORMAT, "'model_type': expected a string"},
        {"{\"model_type\": \"mixtral\"}", HT_UNSUPPORTED, "llama, qwen2, qwen3"},
        {LLAMA ", \"architectures\": [\"LlamaForSequenceClassification\"]}", HT_UNSUPPORTED,
         "LlamaForCausalLM"},
        {"{\"model_type\": \"llama\"}", HT_FORMAT, "'vocab_size' is missing"},
        {LLAMA ", \"num_key_value_heads\": 3}", HT_FORMAT, "3 key-value heads"},
        {LLAMA ", \"num_key_value_heads\": 0}", HT_FORMAT, "'num_key_value_heads': expected 1"},
        {LLAMA ", \"num_key_value_heads\": -1}", HT_FORMAT, "'num_key_value_heads'"},
        {LLAMA ", \"num_key_value_heads\": \"2\"}", HT_FORMAT, "'num_key_value_heads': expected an integer"},
        {LLAMA ", \"head_dim\": 5}", HT_FORMAT, "even"},
        {LLAMA ", \"head_dim\": 1048576}", HT_LIMIT, "4 heads of 1048576"},
        {LLAMA ", \"hidden_act\": \"gelu\"}", HT_UNSUPPORTED, "'gelu'"},
        {LLAMA ", \"rms_norm_eps\": 0}", HT_FORMAT, "rms_norm_eps"},
        {LLAMA ", \"rms_norm_eps\": -1e-5}", HT_FORMAT, "rms_norm_eps"},
        {LLAMA ", \"rms_norm_eps\": \"1e-5\"}", HT_FORMAT, "rms_norm_eps"},
        {LLAMA ", \"rope_theta\": 0}", HT_FORMAT, "rope_theta"},
        {LLAMA ", \"rope_theta\": 1e300}", HT_FORMAT, "rope_theta"},
        {LLAMA ", \"rope_scaling\": 3}", HT_FORMAT, "'rope_scaling': expected an object"},
        {LLAMA ", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4}}", HT_UNSUPPORTED, "'yarn'"},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"longrope\"}}", HT_UNSUPPORTED, "'longrope'"},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 2}}", HT_UNSUPPORTED,
         "'dynamic'"},
        {LLAMA ", \"rope_scaling\": {\"type\": \"linear\"}}", HT_FORMAT, "factor"},
        {LLAMA ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": -2}}", HT_FORMAT, "factor"},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}", HT_FORMAT,
         "low_freq_factor"},
        {LLAMA ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
               "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}}",
         HT_FORMAT, "low_freq_factor"},
        {"{\"model_type\": \"qwen2\", " SIZES
         ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 1, "
         "\"high_freq_factor\": 4, \"original_max_position_embeddings\": 8192}}",
         HT_UNSUPPORTED, "qwen2"},
        {LLAMA ", \"partial_rotary_factor\": 0.5}", HT_UNSUPPORTED, "partial_rotary_factor"},
        {LLAMA ", \"quantization_config\": {\"quant_method\": \"gptq\"}}", HT_UNSUPPORTED, "gptq"},
        {"{\"model_type\": \"qwen2\", " SIZES
         ", \"use_sliding_window\": true, \"sliding_window\": 64, \"max_window_layers\": 1}",
         HT_UNSUPPORTED, "sliding window"},
        {LLAMA ", \"layer_types\": [\"sliding_attention\"]}", HT_UNSUPPORTED, "layer_types"},
        {LLAMA ", \"tie_word_embeddings\": 1}", HT_FORMAT, "tie_word_embeddings"},
        {LLAMA ", \"attention_bias\": \"yes\"}", HT_FORMAT, "attention_bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake f;
        struct ht_hparams hp;
        const struct ht_arch *arch;
        ht_err err = {0};
        fake_config(&f, cases[i].text);
        ht_status status = ht_arch_read(&f.source, &arch, &hp, &err);
        if (status != cases[i].code || strstr(err.msg, cases[i].says) == NULL) {
            fail_msg("case %zu: %s: %s", i, ht_status_text(status), err.msg);
        }
        assert_string_equal(err.what, "fake");
        fake_deinit(&f);
    }
}

/* ---- hostile GGUF metadata ------------------------------------------------------------------------------- */

/* One change to a sound file. value kinds: u, i, f, s(tring), b(ool), A(rray of u32), -(removed). */
static const struct malformed {
    const char *key;
    char kind;
    double v;
    const char *s;
    ht_status code;
    const char *says;
} malformed[] = {
    {"general.architecture", '-', 0, NULL, HT_UNSUPPORTED, "general.architecture"},
    {"general.architecture", 's', 0, "llamo", HT_UNSUPPORTED, "nearest: llama"},
    {"general.architecture", 's', 0, "", HT_UNSUPPORTED, "known architectures"},
    {"general.architecture", 'u', 1, NULL, HT_FORMAT, "general.architecture"},
    {"general.type", 's', 0, "adapter", HT_UNSUPPORTED, "'adapter'"},
    {"llama.block_count", '-', 0, NULL, HT_FORMAT, "'llama.block_count' is missing"},
    {"llama.block_count", 'u', 0, NULL, HT_FORMAT, "'llama.block_count': expected 1"},
    {"llama.block_count", 'u', 2147483648.0, NULL, HT_FORMAT, "'llama.block_count'"},
    {"llama.block_count", 'u', 4294967295.0, NULL, HT_FORMAT, "'llama.block_count'"},
    {"llama.block_count", 'i', -1, NULL, HT_FORMAT, "'llama.block_count'"},
    {"llama.block_count", 'f', 3, NULL, HT_FORMAT, "'llama.block_count'"},
    {"llama.block_count", 's', 0, "3", HT_FORMAT, "'llama.block_count'"},
    {"llama.block_count", 'A', 3, NULL, HT_FORMAT, "'llama.block_count'"},
    {"llama.block_count", 'u', 4000, NULL, HT_FORMAT, "4000 layers"},
    {"llama.block_count", 'u', 4, NULL, HT_FORMAT, "'blk.3.attn_norm.weight' is missing"},
    {"llama.block_count", 'u', 2, NULL, HT_UNSUPPORTED, "'blk.2."},
    {"llama.embedding_length", '-', 0, NULL, HT_FORMAT, "'llama.embedding_length' is missing"},
    {"llama.embedding_length", 'u', 0, NULL, HT_FORMAT, "'llama.embedding_length'"},
    {"llama.embedding_length", 'u', 1073741824.0, NULL, HT_FORMAT, "'llama.embedding_length'"},
    {"llama.embedding_length", 'u', 25, NULL, HT_FORMAT, "4 attention heads do not divide"},
    {"llama.embedding_length", 'u', 32, NULL, HT_UNSUPPORTED, "rope over 6"},
    {"llama.feed_forward_length", '-', 0, NULL, HT_FORMAT, "'llama.feed_forward_length' is missing"},
    {"llama.feed_forward_length", 'u', 57, NULL, HT_FORMAT,
     "'blk.0.ffn_gate.weight': expected the shape [24, 57]"},
    {"llama.feed_forward_length", 'A', 56, NULL, HT_OK, ""},
    {"llama.attention.head_count", '-', 0, NULL, HT_FORMAT, "'llama.attention.head_count' is missing"},
    {"llama.attention.head_count", 'u', 0, NULL, HT_FORMAT, "'llama.attention.head_count'"},
    {"llama.attention.head_count", 'u', 5, NULL, HT_FORMAT, "5 attention heads do not divide"},
    {"llama.attention.head_count", 'u', 4294967295.0, NULL, HT_FORMAT, "'llama.attention.head_count'"},
    {"llama.attention.head_count_kv", 'u', 0, NULL, HT_FORMAT, "'llama.attention.head_count_kv'"},
    {"llama.attention.head_count_kv", 'u', 8, NULL, HT_FORMAT, "8 key-value heads"},
    {"llama.attention.head_count_kv", 'u', 3, NULL, HT_FORMAT, "3 key-value heads"},
    {"llama.attention.head_count_kv", 'u', 1, NULL, HT_FORMAT,
     "'blk.0.attn_k.weight': expected the shape [24, 6]"},
    {"llama.attention.head_count_kv", 'A', 2, NULL, HT_OK, ""},
    {"llama.attention.head_count_kv", 'a', 2, NULL, HT_UNSUPPORTED, "layers of different sizes"},
    {"llama.attention.key_length", 'u', 7, NULL, HT_FORMAT, "even number"},
    {"llama.attention.key_length", 'u', 8, NULL, HT_UNSUPPORTED, "rope over 6 of a head's 8"},
    {"llama.attention.key_length", 'u', 4294967295.0, NULL, HT_FORMAT, "'llama.attention.key_length'"},
    {"llama.attention.value_length", 'u', 8, NULL, HT_UNSUPPORTED, "two sizes"},
    {"llama.attention.layer_norm_rms_epsilon", '-', 0, NULL, HT_FORMAT, "layer_norm_rms_epsilon' is missing"},
    {"llama.attention.layer_norm_rms_epsilon", 'f', 0, NULL, HT_FORMAT, "layer_norm_rms_epsilon"},
    {"llama.attention.layer_norm_rms_epsilon", 'f', -1, NULL, HT_FORMAT, "layer_norm_rms_epsilon"},
    {"llama.attention.layer_norm_rms_epsilon", 'f', NAN, NULL, HT_FORMAT, "layer_norm_rms_epsilon"},
    {"llama.attention.layer_norm_rms_epsilon", 'f', INFINITY, NULL, HT_FORMAT, "layer_norm_rms_epsilon"},
    {"llama.attention.layer_norm_rms_epsilon", 's', 0, "1e-5", HT_FORMAT, "layer_norm_rms_epsilon"},
    {"llama.rope.freq_base", 'f', 0, NULL, HT_FORMAT, "rope.freq_base"},
    {"llama.rope.freq_base", 'f', NAN, NULL, HT_FORMAT, "rope.freq_base"},
    {"llama.rope.freq_base", 'f', -10000, NULL, HT_FORMAT, "rope.freq_base"},
    {"llama.rope.dimension_count", 'u', 4, NULL, HT_UNSUPPORTED, "rope over 4 of a head's 6"},
    {"llama.rope.dimension_count", 'u', 4294967295.0, NULL, HT_FORMAT, "'llama.rope.dimension_count'"},
    {"llama.rope.scaling.type", 's', 0, "yarn", HT_UNSUPPORTED, "'yarn'"},
    {"llama.rope.scaling.type", 's', 0, "longrope", HT_UNSUPPORTED, "'longrope'"},
    {"llama.rope.scaling.type", 'u', 1, NULL, HT_FORMAT, "rope.scaling.type"},
    {"llama.rope.scaling.factor", 'f', -2, NULL, HT_FORMAT, "factor"},
    {"llama.rope.scaling.factor", 'f', NAN, NULL, HT_FORMAT, "factor"},
    {"llama.rope.scaling.attn_factor", 'f', 2, NULL, HT_UNSUPPORTED, "rope.scaling.attn_factor"},
    {"llama.context_length", '-', 0, NULL, HT_FORMAT, "'llama.context_length' is missing"},
    {"llama.context_length", 'u', 0, NULL, HT_FORMAT, "'llama.context_length'"},
    {"llama.context_length", 'u', 4294967295.0, NULL, HT_FORMAT, "'llama.context_length'"},
    {"llama.vocab_size", 'u', 41, NULL, HT_FORMAT, "'token_embd.weight': expected the shape [24, 41]"},
    {"llama.vocab_size", 'u', 0, NULL, HT_FORMAT, "'llama.vocab_size'"},
    {"llama.vocab_size", '-', 0, NULL, HT_OK, ""}, /* the embedding tells */
    {"tokenizer.ggml.tokens", 'S', 39, NULL, HT_FORMAT, "tokenizer.ggml.tokens has 39 tokens"},
    {"tokenizer.ggml.tokens", 'u', 40, NULL, HT_FORMAT, "tokenizer.ggml.tokens"},
    {"llama.expert_count", 'u', 8, NULL, HT_UNSUPPORTED, "mixtures of experts"},
    {"llama.attention.sliding_window", 'u', 64, NULL, HT_UNSUPPORTED, "sliding windows"},
    {"llama.final_logit_softcapping", 'f', 30, NULL, HT_UNSUPPORTED, "soft-capped"},
    {"llama.logit_scale", 'f', 0.5, NULL, HT_UNSUPPORTED, "logit scale"},
};

static void apply(struct fake *f, const struct malformed *m) {
    ht_err err = {0};
    struct ht_meta *meta = &f->source.meta;
    static const uint32_t mixed[3] = {2, 4, 2};
    uint32_t many[3] = {(uint32_t)m->v, (uint32_t)m->v, (uint32_t)m->v};
    struct ht_str strings[64];
    ht_meta_remove(meta, m->key);
    switch (m->kind) {
    case 'u':
        ASSERT_OK(ht_meta_set_u32(meta, m->key, (uint32_t)m->v, &err), &err);
        break;
    case 'i':
        ASSERT_OK(ht_meta_set_i32(meta, m->key, (int32_t)m->v, &err), &err);
        break;
    case 'f':
        ASSERT_OK(ht_meta_set_f32(meta, m->key, (float)m->v, &err), &err);
        break;
    case 's':
        ASSERT_OK(ht_meta_set_str(meta, m->key, m->s, strlen(m->s), &err), &err);
        break;
    case 'A':
        ASSERT_OK(ht_meta_set_array(meta, m->key, HT_META_U32, many, 3, &err), &err);
        break;
    case 'a':
        ASSERT_OK(ht_meta_set_array(meta, m->key, HT_META_U32, mixed, 3, &err), &err);
        break;
    case 'S':
        for (size_t i = 0; i < (size_t)m->v; i++) {
            strings[i] = (struct ht_str){"x", 1};
        }
        ASSERT_OK(ht_meta_set_array(meta, m->key, HT_META_STRING, strings, (uint64_t)m->v, &err), &err);
        break;
    default:
        break;
    }
}

static ht_status read_and_bind(struct fake *f, ht_err *err) {
    const struct ht_arch *arch;
    struct ht_hparams hp;
    struct ht_binding bindings[256];
    HT_TRY(ht_arch_read(&f->source, &arch, &hp, err));
    HT_TRY(ht_arch_bind(&f->source, arch, &hp, bindings, err));
    return ht_arch_refuse_unknown(&f->source, arch, bindings, err);
}

static void test_malformed_gguf(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct fake f;
        ht_err err = {0};
        fake_gguf(&f, ht_arch_find("llama"), &base_hparams);
        apply(&f, &malformed[i]);
        ht_status status = read_and_bind(&f, &err);
        if (status != malformed[i].code || strstr(err.msg, malformed[i].says) == NULL) {
            fail_msg("case %zu (%s): %s: %s", i, malformed[i].key, ht_status_text(status), err.msg);
        }
        fake_deinit(&f);
    }
}

/* ---- tensors that are missing, wrong or too many --------------------------------------------------------- */

/* Without any one of its tensors a model is refused by name; so it is with a wrong shape in any of them. */
static void test_every_tensor_counts(void **state) {
    (void)state;
    for (size_t a = 0; a < ht_arch_count(); a++) {
        const struct ht_arch *arch = ht_arch_at(a);
        for (int gguf = 0; gguf < 2; gguf++) {
            struct fake f;
            struct ht_binding bindings[256];
            struct ht_hparams hp = base_hparams;
            fake_init(&f);
            f.source.config = gguf ? NULL : json_object();
            fake_tensors(&f, arch, &hp, gguf);
            size_t n = f.source.n_tensors;
            for (size_t i = 0; i < n; i++) {
                char quoted[160];
                struct ht_tensor kept = f.tensors[i];
                ht_err err = {0};
                snprintf(quoted, sizeof quoted, "'%s'", kept.name);
                f.tensors[i].ne[kept.n_dims - 1]++;
                assert_int_equal(ht_arch_bind(&f.source, arch, &hp, bindings, &err), HT_FORMAT);
                assert_non_null(strstr(err.msg, quoted));
                f.tensors[i] = kept;

                struct fake without;
                fake_init(&without);
                without.source.config = gguf ? NULL : json_object();
                for (size_t j = 0; j < n; j++) {
                    if (j != i) {
                        fake_add(&without, f.tensors[j].name, f.tensors[j].ne[0], f.tensors[j].ne[1]);
                    }
                }
                ht_err_clear(&err);
                assert_int_equal(ht_arch_bind(&without.source, arch, &hp, bindings, &err), HT_FORMAT);
                assert_non_null(strstr(err.msg, quoted));
                assert_non_null(strstr(err.msg, "is missing"));
                fake_deinit(&without);
            }
            fake_deinit(&f);
        }
    }
}

static void test_extra_tensors(void **state) {
    (void)state;
    static const struct {
        const char *name;
        bool tied, ignored;
    } cases[] = {
        {"model.layers.0.self_attn.rotary_emb.inv_freq", false, true},
        {"lm_head.weight", true, true},
        {"model.layers.0.self_attn.q_proj.bias", false, false}, /* attention_bias is false */
        {"model.layers.3.mlp.up_proj.weight", false, false},    /* a layer too many */
        {"model.embed_positions.weight", false, false},
        {"rotary_emb.inv_freq.weight", false, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fake f;
        struct ht_binding bindings[256];
        struct ht_hparams hp = base_hparams;
        const struct ht_arch *arch = ht_arch_find("llama");
        ht_err err = {0};
        hp.tied = cases[i].tied;
        fake_init(&f);
        f.source.config = json_object();
        fake_tensors(&f, arch, &hp, false);
        size_t at = f.source.n_tensors;
        fake_add(&f, cases[i].name, 24, 40);
        ASSERT_OK(ht_arch_bind(&f.source, arch, &hp, bindings, &err), &err);
        assert_int_equal(bindings[at].role, HT_ROLE_OTHER);
        assert_int_equal(bindings[at].ignored, cases[i].ignored);
        assert_int_equal(ht_arch_refuse_unknown(&f.source, arch, bindings, &err),
                         cases[i].ignored ? HT_OK : HT_UNSUPPORTED);
        fake_deinit(&f);
    }
}

/* ---- rope ------------------------------------------------------------------------------------------------ */

/* The divisors give back the rule they came from, for published models and odd numbers; else not at all. */
static void test_llama3_fit(void **state) {
    (void)state;
    static const struct {
        uint32_t dim, context;
        float base, factor, low, high;
    } cases[] = {
        {128, 8192, 500000, 8, 1, 4},  {64, 8192, 500000, 32, 1, 4},   {128, 4096, 10000, 2, 1, 8},
        {256, 16384, 1e6f, 16, 1, 3.5f}, {64, 8192, 500000, 32, 2, 8}, /* the same as 4096, 1, 4 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_hparams hp = base_hparams, got;
        float divisors[128], again[128];
        hp.rope_dim = hp.head_dim = cases[i].dim;
        hp.rope_base = cases[i].base;
        got = hp;
        hp.rope_scaling = HT_ROPE_SCALING_LLAMA3;
        hp.rope_factor = cases[i].factor;
        hp.rope_low_freq = cases[i].low;
        hp.rope_high_freq = cases[i].high;
        hp.rope_original_context = cases[i].context;
        ht_rope_llama3_divisors(&hp, divisors);
        assert_true(divisors[0] == 1 && divisors[cases[i].dim / 2 - 1] == cases[i].factor);
        assert_true(ht_rope_llama3_fit(divisors, &got));
        assert_int_equal(got.rope_original_context, (uint32_t)((float)cases[i].context / cases[i].low));
        assert_true(fabsf(got.rope_high_freq - cases[i].high / cases[i].low) < 1e-6f);
        ht_rope_llama3_divisors(&got, again);
        for (uint32_t j = 0; j < cases[i].dim / 2; j++) {
            assert_true(fabsf(again[j] - divisors[j]) <= 1e-5f * divisors[j]);
        }
        divisors[cases[i].dim / 4] *= 1.01f;
        struct ht_hparams before = hp;
        if (divisors[cases[i].dim / 4] != 1.01f) { /* a blended one: the line is broken */
            assert_false(ht_rope_llama3_fit(divisors, &hp));
            assert_memory_equal(&before, &hp, sizeof hp);
        }
    }
}

/* A turn keeps lengths, position 0 changes nothing, and the two styles are one rotation of reordered rows. */
static void test_rope_turn(void **state) {
    (void)state;
    struct ht_hparams hp = base_hparams;
    enum { D = 6, H = 2 };
    double inv_freq[D / 2];
    float cs[2 * D], halves[H * D], pairs[H * D], start[H * D];
    ht_rope_frequencies(&hp, NULL, inv_freq);
    assert_true(inv_freq[0] == 1);
    ht_rope_angles(inv_freq, D / 2, 0, 2, cs);
    for (int i = 0; i < H * D; i++) {
        start[i] = (float)(i * i % 7) - 2.5f;
        halves[i] = start[i];
    }
    for (int h = 0; h < H; h++) {
        for (int i = 0; i < D; i++) {
            pairs[h * D + i] = start[h * D + i / 2 + (i % 2) * (D / 2)];
        }
    }
    ht_rope_turn(HT_ROPE_HALVES, cs, D, D, H, halves);
    assert_memory_equal(halves, start, sizeof halves);
    ht_rope_turn(HT_ROPE_HALVES, cs + D, D, D, H, halves);
    ht_rope_turn(HT_ROPE_PAIRS, cs + D, D, D, H, pairs);
    for (int h = 0; h < H; h++) {
        float before = 0, after = 0;
        for (int i = 0; i < D; i++) {
            assert_true(pairs[h * D + i] == halves[h * D + i / 2 + (i % 2) * (D / 2)]);
            before += start[h * D + i] * start[h * D + i];
            after += halves[h * D + i] * halves[h * D + i];
        }
        assert_true(fabsf(before - after) < 1e-5f * before);
    }
    assert_true(fabsf(halves[0] - (start[0] * cosf(1) - start[3] * sinf(1))) < 1e-6f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),           cmocka_unit_test(test_gguf_and_back),
        cmocka_unit_test(test_config_and_back), cmocka_unit_test(test_config_decimals),
        cmocka_unit_test(test_config_forms),    cmocka_unit_test(test_malformed_configs),
        cmocka_unit_test(test_malformed_gguf),  cmocka_unit_test(test_every_tensor_counts),
        cmocka_unit_test(test_extra_tensors),   cmocka_unit_test(test_llama3_fit),
        cmocka_unit_test(test_rope_turn),
    };
    return cmocka_run_group_tests_name("arch", tests, NULL, NULL);
}
