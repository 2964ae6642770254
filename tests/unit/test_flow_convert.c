/* convert: against stock's converter, and there and back again. */
#include "test.h"

#include "base/buf.h"
#include "base/hash.h"
#include "io/container.h"
#include "token/tokenizer.h"
#include "flow_test.h"

static json_t *convert(ht_context *ctx, const char *input, const char *output, const char *dtype) {
    ht_convert_options o;
    ht_err err;
    char *json;
    ht_convert_options_defaults(&o);
    o.input = input;
    o.output = output;
    o.dtype = dtype;
    ASSERT_OK(ht_convert(ctx, &o, &json, &err), &err);
    return parse(json);
}

static void hash_of(const void *data, size_t len, char hex[65]) {
    struct ht_sha256 *sha;
    ht_err err = {0};
    ASSERT_OK(ht_sha256_new(&sha, &err), &err);
    ht_sha256_update(sha, data, len);
    ht_sha256_final(sha, hex);
    ht_sha256_free(sha);
}

/* Array elements, one per line, as the golden file hashes them. */
static void hash_array(const struct ht_meta_kv *kv, char hex[65]) {
    struct ht_buf buf;
    ht_buf_init(&buf, 0);
    for (uint64_t i = 0; i < kv->n; i++) {
        struct ht_str s = ht_meta_elem_str(kv, i);
        if (i > 0) {
            ht_buf_putc(&buf, '\n');
        }
        if (kv->elem_type == HT_META_STRING) {
            ht_buf_append(&buf, s.s, s.len);
        } else {
            ht_buf_printf(&buf, "%lld", (long long)ht_meta_elem_i64(kv, i));
        }
    }
    hash_of(buf.data, buf.len, hex);
    ht_buf_deinit(&buf);
}

static void check_value(const char *key, const json_t *golden, const struct ht_meta_kv *kv) {
    char hex[65];
    if (kv == NULL) {
        fail_msg("key %s is missing", key);
        return;
    }
    if (json_is_object(golden)) {
        assert_int_equal(kv->n, json_integer_value(json_object_get(golden, "count")));
        hash_array(kv, hex);
        assert_string_equal(hex, json_string_value(json_object_get(golden, "sha256")));
    } else if (json_is_string(golden)) {
        assert_string_equal(kv->v.str.s, json_string_value(golden));
    } else if (json_is_boolean(golden)) {
        assert_int_equal(kv->v.u, json_is_true(golden));
    } else if (json_is_real(golden)) {
        assert_true(kv->type == HT_META_F32 && (float)kv->v.f == (float)json_real_value(golden));
    } else {
        assert_int_equal(kv->v.u, json_integer_value(golden));
    }
}

/* Every key and every byte of every tensor as llama.cpp's converter writes them, but for the name, which stock
 * makes of the folder's in its own way. */
static void gguf_equals_stock(void **state) {
    struct fixture *f = *state;
    json_t *golden, *record = convert(f->ctx, TINY, in_dir(f, "stock.gguf"), NULL);
    ht_err err = {0};
    ASSERT_OK(ht_json_load_file(HT_TEST_DIR "/golden/convert/tiny.json", 1u << 20, &golden, &err), &err);
    assert_string_equal(json_string_value(json_object_get(record, "dtype")), "bf16");
    struct ht_source *s = open_source(in_dir(f, "stock.gguf"));
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(golden, "metadata"), key, value) {
        if (strcmp(key, "general.name") != 0) {
            check_value(key, value, ht_meta_find(&s->meta, key));
        }
    }
    assert_int_equal(s->n_tensors, json_object_size(json_object_get(golden, "tensors")));
    json_object_foreach(json_object_get(golden, "tensors"), key, value) {
        const struct ht_tensor *t = ht_source_find(s, key);
        char hex[65];
        assert_non_null(t);
        assert_string_equal(t->format->name, json_string_value(json_array_get(value, 0)));
        assert_int_equal(t->n_dims, json_array_size(json_array_get(value, 1)));
        for (int i = 0; i < t->n_dims; i++) {
            assert_int_equal(t->ne[i], json_integer_value(json_array_get(json_array_get(value, 1), (size_t)i)));
        }
        hash_of(t->data, t->bytes, hex);
        assert_string_equal(hex, json_string_value(json_array_get(value, 2)));
    }
    ht_source_close(s);
    json_decref(golden);
    json_decref(record);
}

static void check_same_vocab(const char *a, const char *b) {
    struct ht_hf_vocab *x, *y;
    ht_err err = {0};
    ASSERT_OK(ht_hf_vocab_load(a, NULL, &x, &err), &err);
    ASSERT_OK(ht_hf_vocab_load(b, NULL, &y, &err), &err);
    const struct ht_vocab *v = ht_hf_vocab_view(x), *w = ht_hf_vocab_view(y);
    assert_string_equal(v->pre, w->pre);
    assert_int_equal(v->n_tokens, w->n_tokens);
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        assert_int_equal(v->tokens[i].len, w->tokens[i].len);
        assert_memory_equal(v->tokens[i].text, w->tokens[i].text, v->tokens[i].len);
        assert_int_equal(v->tokens[i].type, w->tokens[i].type);
    }
    assert_int_equal(v->n_merges, w->n_merges);
    for (uint32_t i = 0; i < v->n_merges; i++) {
        assert_int_equal(v->merges[i].left_len, w->merges[i].left_len);
        assert_memory_equal(v->merges[i].left, w->merges[i].left, v->merges[i].left_len);
        assert_int_equal(v->merges[i].right_len, w->merges[i].right_len);
        assert_memory_equal(v->merges[i].right, w->merges[i].right, v->merges[i].right_len);
    }
    assert_int_equal(v->bos, w->bos);
    assert_int_equal(v->eos, w->eos);
    assert_int_equal(v->pad, w->pad);
    assert_int_equal(v->add_bos, w->add_bos);
    ht_hf_vocab_free(x);
    ht_hf_vocab_free(y);
}

/* Hugging Face -> GGUF -> Hugging Face: every tensor's bytes, and the tokenizer. */
static void round_trip(void **state) {
    struct fixture *f = *state;
    json_decref(convert(f->ctx, TINY, in_dir(f, "trip.gguf"), NULL));
    json_decref(convert(f->ctx, in_dir(f, "trip.gguf"), in_dir(f, "trip"), NULL));
    struct ht_source *a = open_source(TINY), *b = open_source(in_dir(f, "trip"));
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        const struct ht_tensor *t = &a->tensors[i], *u = ht_source_find(b, t->name);
        assert_non_null(u);
        assert_ptr_equal(t->format, u->format);
        assert_memory_equal(t->data, u->data, t->bytes);
    }
    static const char *const keys[] = {"vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                                       "num_key_value_heads", "head_dim", "intermediate_size", "rms_norm_eps",
                                       "rope_theta", "tie_word_embeddings", "bos_token_id", "eos_token_id", "dtype",
                                       "max_position_embeddings", "architectures"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_true(json_equal(json_object_get(a->config, keys[i]), json_object_get(b->config, keys[i])));
    }
    ht_source_close(a);
    ht_source_close(b);
    check_same_vocab(TINY, in_dir(f, "trip"));
}

/* A change of type rounds each value once, whichever way it takes. */
static void dtypes_agree(void **state) {
    struct fixture *f = *state;
    static const char *const types[] = {"f32", "f16", "bf16"};
    for (size_t i = 0; i < 3; i++) {
        char direct[32], twice[32];
        snprintf(direct, sizeof direct, "direct-%s.gguf", types[i]);
        snprintf(twice, sizeof twice, "twice-%s.gguf", types[i]);
        json_decref(convert(f->ctx, TINY, in_dir(f, direct), types[i]));
        json_decref(convert(f->ctx, in_dir(f, "direct-f32.gguf"), in_dir(f, twice), types[i]));
        struct ht_source *a = open_source(in_dir(f, direct)), *b = open_source(in_dir(f, twice));
        assert_int_equal(a->n_tensors, b->n_tensors);
        for (size_t k = 0; k < a->n_tensors; k++) {
            assert_string_equal(a->tensors[k].name, b->tensors[k].name);
            assert_ptr_equal(a->tensors[k].format, b->tensors[k].format);
            assert_string_equal(a->tensors[k].format->name, a->tensors[k].n_dims == 1 ? "f32" : types[i]);
            assert_memory_equal(a->tensors[k].data, b->tensors[k].data, a->tensors[k].bytes);
        }
        ht_source_close(a);
        ht_source_close(b);
    }
}

static void shards(void **state) {
    struct fixture *f = *state;
    ht_convert_options o;
    ht_err err;
    char *json;
    ht_convert_options_defaults(&o);
    o.input = TINY;
    o.output = in_dir(f, "cut.gguf");
    o.shard_bytes = 3u << 20;
    o.dry_run = true;
    ASSERT_OK(ht_convert(f->ctx, &o, &json, &err), &err);
    json_t *plan = parse(json);
    o.dry_run = false;
    ASSERT_OK(ht_convert(f->ctx, &o, &json, &err), &err);
    json_t *record = parse(json);
    json_t *output = json_object_get(record, "output");
    assert_true(json_equal(output, json_object_get(plan, "output")));
    json_int_t files = json_integer_value(json_object_get(output, "files"));
    assert_true(files >= 3);
    char first[64];
    snprintf(first, sizeof first, "cut-00001-of-%05lld.gguf", (long long)files);
    struct ht_source *a = open_source(in_dir(f, first)), *b = open_source(TINY);
    assert_int_equal(a->n_maps, files);
    assert_int_equal(a->file_bytes, json_integer_value(json_object_get(output, "bytes")));
    assert_int_equal(a->n_tensors, b->n_tensors);
    ht_source_close(a);
    ht_source_close(b);
    ASSERT_OK(ht_verify(f->ctx, in_dir(f, first), NULL, NULL, &err), &err);
    assert_string_equal(json_string_value(json_object_get(output, "path")), first);
    json_decref(plan);
    json_decref(record);
}

/* The same of a folder: what is foretold is what lies there. */
static void folder_shards(void **state) {
    struct fixture *f = *state;
    ht_convert_options o;
    ht_err err;
    char *json;
    for (int cut = 0; cut < 2; cut++) {
        ht_convert_options_defaults(&o);
        o.input = TINY;
        o.output = in_dir(f, cut ? "cut-folder" : "one-folder");
        o.shard_bytes = cut ? 3u << 20 : 0;
        o.dry_run = true;
        ASSERT_OK(ht_convert(f->ctx, &o, &json, &err), &err);
        json_t *plan = parse(json);
        assert_false(ht_path_exists(o.output));
        o.dry_run = false;
        ASSERT_OK(ht_convert(f->ctx, &o, &json, &err), &err);
        json_t *record = parse(json), *output = json_object_get(record, "output");
        assert_true(json_equal(output, json_object_get(plan, "output")));
        struct ht_source *s = open_source(o.output);
        assert_int_equal(s->n_maps, json_integer_value(json_object_get(output, "files")));
        assert_int_equal(s->file_bytes, json_integer_value(json_object_get(output, "bytes")));
        assert_true(cut ? s->n_maps >= 3 : s->n_maps == 1);
        ht_source_close(s);
        json_decref(plan);
        json_decref(record);
    }
}

static void copy_to(const char *folder, const char *name) {
    char from[300], to[400], *data;
    size_t len;
    ht_err err = {0};
    snprintf(from, sizeof from, "%s/%s", TINY, name);
    snprintf(to, sizeof to, "%s/%s", folder, name);
    ASSERT_OK(ht_read_file(from, 64u << 20, &data, &len, &err), &err);
    ASSERT_OK(ht_write_file(to, data, len, false, &err), &err);
    ht_mem_free(data);
}

#define N_IDS 48
#define N_VOCAB 4096

/* Logits of every position of a fixed row of tokens, in f32. */
static float *logits_of(ht_context *ctx, const char *path) {
    ht_model *model;
    ht_session *session;
    ht_session_options o;
    ht_err err;
    int32_t ids[N_IDS];
    float *logits = ht_mem_alloc_array((size_t)N_IDS * N_VOCAB, sizeof *logits);
    for (int32_t i = 0; i < N_IDS; i++) {
        ids[i] = 300 + 37 * i;
    }
    ht_session_options_defaults(&o);
    o.exact = true;
    ASSERT_OK(ht_model_open(ctx, path, &model, &err), &err);
    ASSERT_OK(ht_session_new(ctx, model, &o, &session, &err), &err);
    ASSERT_OK(ht_session_feed(session, ids, N_IDS, true, logits, &err), &err);
    ht_session_free(session);
    ht_model_close(model);
    return logits;
}

static float most_apart(const float *a, const float *b) {
    float apart = 0, most = 0;
    for (size_t i = 0; i < (size_t)N_IDS * N_VOCAB; i++) {
        float d = a[i] > b[i] ? a[i] - b[i] : b[i] - a[i], m = a[i] > 0 ? a[i] : -a[i];
        apart = d > apart ? d : apart;
        most = m > most ? m : most;
    }
    return apart / most;
}

/* config.json says how positions are scaled; GGUF has the divisors as a tensor; both give the same logits, and so does
 * the folder made of the GGUF file. That the numbers are right is test_model's affair (llama3rope-rand). */
static void llama3_scaling(void **state) {
    struct fixture *f = *state;
    char folder[256], gguf[256], back[256];
    ht_err err = {0};
    json_t *config;
    snprintf(folder, sizeof folder, "%s", in_dir(f, "scaled"));
    snprintf(gguf, sizeof gguf, "%s", in_dir(f, "scaled.gguf"));
    snprintf(back, sizeof back, "%s", in_dir(f, "scaled-back"));
    ASSERT_OK(ht_make_dir(folder, &err), &err);
    static const char *const names[] = {"model.safetensors", "tokenizer.json", "tokenizer_config.json"};
    for (size_t i = 0; i < 3; i++) {
        copy_to(folder, names[i]);
    }
    ASSERT_OK(ht_json_load_file(TINY "/config.json", 1u << 20, &config, &err), &err);
    json_object_set_new(config, "rope_scaling",
                        json_pack("{s:s, s:f, s:f, s:f, s:i}", "rope_type", "llama3", "factor", 8.0, "low_freq_factor",
                                  1.0, "high_freq_factor", 4.0, "original_max_position_embeddings", 64));
    char *text = json_dumps(config, 0);
    ASSERT_OK(ht_write_file(in_dir(f, "scaled/config.json"), text, strlen(text), false, &err), &err);
    free(text);
    json_decref(config);
    json_decref(convert(f->ctx, folder, gguf, "f32"));
    json_decref(convert(f->ctx, gguf, back, "f32"));
    struct ht_source *s = open_source(gguf);
    const struct ht_tensor *freqs = ht_source_find(s, "rope_freqs.weight");
    assert_non_null(freqs);
    assert_int_equal(freqs->ne[0], 32);
    assert_true(((const float *)freqs->data)[0] == 1 && ((const float *)freqs->data)[31] == 8);
    ht_source_close(s);
    float *plain = logits_of(f->ctx, TINY), *want = logits_of(f->ctx, folder);
    float *a = logits_of(f->ctx, gguf), *b = logits_of(f->ctx, back);
    assert_true(most_apart(plain, want) > 0.01f);
    assert_true(most_apart(want, a) < 1e-5f);
    assert_true(most_apart(want, b) < 1e-5f);
    ht_mem_free(plain);
    ht_mem_free(want);
    ht_mem_free(a);
    ht_mem_free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_equals_stock), cmocka_unit_test(round_trip), cmocka_unit_test(dtypes_agree),
        cmocka_unit_test(shards),            cmocka_unit_test(folder_shards),
        cmocka_unit_test(llama3_scaling),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
