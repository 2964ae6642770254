/* Vocabularies in GGUF metadata: every array's type and length, every id; and a sound one works. */
#include "test.h"

#include "base/mem.h"
#include "io/container.h"
#include "model/model.h"

enum { N = 12 };

static void sound(struct ht_source *s) {
    static const char *const tokens[N] = {"a", "b", "c", "\xc4\xa0", "ab", "abc", "\xc4\xa0" "a", "<|end|>",
                                          "d", "e", "f", "g"};
    static const char *const merges[] = {"a b", "ab c", "\xc4\xa0 a"};
    static const int32_t types[N] = {1, 1, 1, 1, 1, 1, 1, 3, 1, 1, 1, 0};
    struct ht_str strings[N];
    struct ht_meta *m = &s->meta;
    ht_err err = {0};
    memset(s, 0, sizeof *s);
    s->path = (char *)"fake";
    ht_meta_init(m);
    for (int i = 0; i < N; i++) {
        strings[i] = (struct ht_str){tokens[i], strlen(tokens[i])};
    }
    ASSERT_OK(ht_meta_set_array(m, "tokenizer.ggml.tokens", HT_META_STRING, strings, N, &err), &err);
    for (int i = 0; i < 3; i++) {
        strings[i] = (struct ht_str){merges[i], strlen(merges[i])};
    }
    ASSERT_OK(ht_meta_set_array(m, "tokenizer.ggml.merges", HT_META_STRING, strings, 3, &err), &err);
    ASSERT_OK(ht_meta_set_array(m, "tokenizer.ggml.token_type", HT_META_I32, types, N, &err), &err);
    ASSERT_OK(ht_meta_set_str(m, "tokenizer.ggml.model", "gpt2", 4, &err), &err);
    ASSERT_OK(ht_meta_set_str(m, "tokenizer.ggml.pre", "gpt-2", 5, &err), &err);
    ASSERT_OK(ht_meta_set_u32(m, "tokenizer.ggml.eos_token_id", 7, &err), &err);
    ASSERT_OK(ht_meta_set_str(m, "tokenizer.chat_template", "{{x}}", 5, &err), &err);
}

static void test_sound(void **state) {
    (void)state;
    struct ht_source s;
    struct ht_tokenizer *t;
    struct ht_ids ids = {0};
    ht_err err = {0};
    sound(&s);
    ASSERT_OK(ht_model_tokenizer(&s, NULL, &t, &err), &err);
    const struct ht_vocab *v = ht_tokenizer_vocab(t);
    assert_int_equal(v->n_tokens, N);
    assert_int_equal(v->eos, 7);
    assert_int_equal(v->bos, -1);
    assert_false(v->add_bos);
    assert_string_equal(v->chat_template, "{{x}}");
    ASSERT_OK(ht_tokenizer_encode(t, "abc a<|end|>", 12, true, &ids, NULL, &err), &err);
    assert_int_equal(ids.n, 3);
    assert_int_equal(ids.ids[0], 5);
    assert_int_equal(ids.ids[1], 6);
    assert_int_equal(ids.ids[2], 7);
    assert_true(ht_tokenizer_is_end(t, 7));
    ht_mem_free(ids.ids);
    ht_tokenizer_free(t);

    /* A name from outside wins over the file's, and stands in for a missing one. */
    ht_meta_remove(&s.meta, "tokenizer.ggml.pre");
    ASSERT_OK(ht_model_tokenizer(&s, "llama-bpe", &t, &err), &err);
    assert_true(ht_tokenizer_vocab(t)->add_bos);
    assert_true(ht_tokenizer_vocab(t)->ignore_merges);
    ht_tokenizer_free(t);
    ht_meta_deinit(&s.meta);
}

/* One change to the sound metadata: u (u32), b(ool), s(tring), f(32), - (removed), S (strings of text s),
 * I (i32 array), F (f32 array); n elements for arrays. */
static const struct malformed {
    const char *key;
    char kind;
    uint32_t n;
    const char *s;
    ht_status code;
    const char *says;
} malformed[] = {
    {"tokenizer.ggml.model", '-', 0, NULL, HT_NOTFOUND, "no tokenizer"},
    {"tokenizer.ggml.model", 's', 0, "none", HT_NOTFOUND, "no tokenizer"},
    {"tokenizer.ggml.model", 's', 0, "llama", HT_UNSUPPORTED, "'llama': expected gpt2"},
    {"tokenizer.ggml.model", 's', 0, "bert", HT_UNSUPPORTED, "'bert': expected gpt2"},
    {"tokenizer.ggml.model", 'u', 1, NULL, HT_FORMAT, "tokenizer.ggml.model"},
    {"tokenizer.ggml.pre", '-', 0, NULL, HT_UNSUPPORTED, "--pre NAME"},
    {"tokenizer.ggml.pre", 's', 0, "gtp-2", HT_UNSUPPORTED, "gtp-2"},
    {"tokenizer.ggml.pre", 'u', 1, NULL, HT_FORMAT, "tokenizer.ggml.pre"},
    {"tokenizer.ggml.tokens", '-', 0, NULL, HT_FORMAT, "tokenizer.ggml.tokens"},
    {"tokenizer.ggml.tokens", 'I', N, NULL, HT_FORMAT, "expected an array of strings"},
    {"tokenizer.ggml.tokens", 's', 0, "a", HT_FORMAT, "expected an array of strings"},
    {"tokenizer.ggml.tokens", 'S', 0, "a", HT_FORMAT, "empty"},
    {"tokenizer.ggml.token_type", 'I', N - 1, NULL, HT_FORMAT, "an array of 12 integers"},
    {"tokenizer.ggml.token_type", 'I', N + 1, NULL, HT_FORMAT, "an array of 12 integers"},
    {"tokenizer.ggml.token_type", 'F', N, NULL, HT_FORMAT, "an array of 12 integers"},
    {"tokenizer.ggml.token_type", 'S', N, "1", HT_FORMAT, "an array of 12 integers"},
    {"tokenizer.ggml.token_type", 'J', N, NULL, HT_FORMAT, "has type 7"},
    {"tokenizer.ggml.token_type", 'K', N, NULL, HT_FORMAT, "has type -1"},
    {"tokenizer.ggml.merges", '-', 0, NULL, HT_FORMAT, "'tokenizer.ggml.merges' is missing"},
    {"tokenizer.ggml.merges", 'I', 3, NULL, HT_FORMAT, "expected an array of strings"},
    {"tokenizer.ggml.merges", 'S', 2, "ab", HT_FORMAT, "element 0: expected two pieces"},
    {"tokenizer.ggml.merges", 'S', 2, "", HT_FORMAT, "element 0: expected two pieces"},
    {"tokenizer.ggml.merges", 'S', 2, "ab ", HT_FORMAT, "element 0: expected two pieces"},
    {"tokenizer.ggml.merges", 'S', 2, " ab", HT_FORMAT, "element 0: expected two pieces"},
    {"tokenizer.ggml.bos_token_id", 'u', N, NULL, HT_FORMAT, "expected a token below 12, found 12"},
    {"tokenizer.ggml.eos_token_id", 'u', 4000000000u, NULL, HT_FORMAT, "expected a token below 12"},
    {"tokenizer.ggml.unknown_token_id", 'f', 1, NULL, HT_FORMAT, "unknown_token_id"},
    {"tokenizer.ggml.padding_token_id", 's', 0, "1", HT_FORMAT, "padding_token_id"},
    {"tokenizer.ggml.eot_token_id", 'u', 13, NULL, HT_FORMAT, "expected a token below 12"},
    {"tokenizer.ggml.eom_token_id", 'u', 13, NULL, HT_FORMAT, "expected a token below 12"},
    {"tokenizer.ggml.add_bos_token", 'u', 1, NULL, HT_FORMAT, "add_bos_token"},
    {"tokenizer.chat_template", 'u', 1, NULL, HT_FORMAT, "chat_template"},
    {"tokenizer.ggml.bos_token_id", 'u', UINT32_MAX, NULL, HT_OK, ""}, /* "none" */
};

static void apply(struct ht_meta *meta, const struct malformed *m) {
    ht_err err = {0};
    struct ht_str strings[N + 1];
    int32_t ints[N + 1];
    float floats[N + 1];
    for (int i = 0; i <= N; i++) {
        strings[i] = (struct ht_str){m->s, m->s != NULL ? strlen(m->s) : 0};
        ints[i] = m->kind == 'J' ? 7 : m->kind == 'K' ? -1 : 1;
        floats[i] = 1;
    }
    ht_meta_remove(meta, m->key);
    switch (m->kind) {
    case 'u':
        ASSERT_OK(ht_meta_set_u32(meta, m->key, m->n, &err), &err);
        break;
    case 'f':
        ASSERT_OK(ht_meta_set_f32(meta, m->key, (float)m->n, &err), &err);
        break;
    case 's':
        ASSERT_OK(ht_meta_set_str(meta, m->key, m->s, strlen(m->s), &err), &err);
        break;
    case 'S':
        ASSERT_OK(ht_meta_set_array(meta, m->key, HT_META_STRING, strings, m->n, &err), &err);
        break;
    case 'F':
        ASSERT_OK(ht_meta_set_array(meta, m->key, HT_META_F32, floats, m->n, &err), &err);
        break;
    case 'I':
    case 'J':
    case 'K':
        ASSERT_OK(ht_meta_set_array(meta, m->key, HT_META_I32, ints, m->n, &err), &err);
        break;
    default:
        break;
    }
}

static void test_malformed(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct ht_source s;
        struct ht_tokenizer *t = NULL;
        ht_err err = {0};
        sound(&s);
        apply(&s.meta, &malformed[i]);
        ht_status status = ht_model_tokenizer(&s, NULL, &t, &err);
        if (status != malformed[i].code || strstr(err.msg, malformed[i].says) == NULL) {
            fail_msg("case %zu (%s): %s: %s", i, malformed[i].key, ht_status_text(status), err.msg);
        }
        assert_true((status == HT_OK) == (t != NULL));
        ht_tokenizer_free(t);
        ht_meta_deinit(&s.meta);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sound), cmocka_unit_test(test_malformed)};
    return cmocka_run_group_tests_name("model_tokenizer", tests, NULL, NULL);
}
