/* Ids equal Hugging Face tokenizers' on the golden corpora (tests/oracle/make_tokens.py,
 * make_token_corpus.py): mixed lines, spiteful edges, special tokens parsed and taken literally. */
#include "test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "model/model.h"
#include "token/chat.h"

#define GOLDEN HT_TEST_DIR "/golden/token/"

static struct ht_tokenizer *open_folder(const char *folder) {
    ht_err err = {0};
    struct ht_hf_vocab *hf;
    struct ht_tokenizer *t;
    ASSERT_OK(ht_hf_vocab_load(folder, NULL, &hf, &err), &err);
    ASSERT_OK(ht_tokenizer_new(ht_hf_vocab_view(hf), folder, &t, &err), &err);
    ht_hf_vocab_free(hf);
    return t;
}

static char *read_text(const char *path) {
    ht_err err = {0};
    char *text;
    size_t len;
    ASSERT_OK(ht_read_file(path, 64u << 20, &text, &len, &err), &err);
    return text;
}

/* Compares one line and returns what is behind the golden line. */
static char *check_line(const struct ht_tokenizer *t, const char *line, size_t len, char *want, bool special,
                        size_t number) {
    ht_err err = {0};
    struct ht_ids ids = {0};
    json_t *text = json_loadb(line, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(text);
    ASSERT_OK(
        ht_tokenizer_encode(t, json_string_value(text), json_string_length(text), special, &ids, NULL, &err),
        &err);
    size_t k = 0;
    while (*want != '\n' && *want != '\0') {
        long id = strtol(want, &want, 10);
        want += *want == ' ';
        if (k >= ids.n || ids.ids[k] != id) {
            fail_msg("line %zu, id %zu: want %ld, have %d: %.*s", number, k, id, k < ids.n ? ids.ids[k] : -1,
                     (int)len, line);
        }
        k++;
    }
    if (k != ids.n) {
        fail_msg("line %zu: want %zu ids, have %zu: %.*s", number, k, ids.n, (int)len, line);
    }
    json_decref(text);
    ht_mem_free(ids.ids);
    return want + 1;
}

/* corpus: lines of JSON strings; ids_name: "<vocabulary>.<corpus>". */
static size_t check_corpus(const struct ht_tokenizer *t, const char *corpus, const char *ids_name,
                           bool special) {
    char path[512];
    snprintf(path, sizeof path, GOLDEN "%s.jsonl", corpus);
    char *lines = read_text(path);
    snprintf(path, sizeof path, GOLDEN "%s.ids", ids_name);
    char *ids = read_text(path), *want = ids;
    size_t n = 0;
    for (char *line = lines; *line != '\0'; n++) {
        char *end = strchr(line, '\n');
        want = check_line(t, line, (size_t)(end - line), want, special, n + 1);
        line = end + 1;
    }
    ht_mem_free(lines);
    ht_mem_free(ids);
    return n;
}

/* The system message that the model's own template brings along; NULL: the model has no template. */
static void check_template(const struct ht_tokenizer *t, const char *system) {
    const char *template = ht_tokenizer_vocab(t)->chat_template;
    ht_err err = {0};
    struct ht_chat chat;
    struct ht_buf text;
    if (template == NULL) {
        assert_null(system);
        return;
    }
    ht_buf_init(&text, 0);
    ASSERT_OK(ht_chat_resolve(NULL, template, &chat, &text, &err), &err);
    assert_string_equal(chat.name, "chatml");
    assert_string_equal(chat.default_system, system);
    ht_buf_deinit(&text);
}

static void check_vocabulary(struct ht_tokenizer *t, const char *name, const char *system) {
    char ids[64];
    check_template(t, system);
    snprintf(ids, sizeof ids, "%s.corpus", name);
    assert_int_equal(check_corpus(t, "corpus", ids, true), 1000);
    snprintf(ids, sizeof ids, "%s.edge", name);
    assert_true(check_corpus(t, "edge", ids, true) > 100);
    snprintf(ids, sizeof ids, "%s.special", name);
    assert_true(check_corpus(t, "special", ids, true) > 90);
    snprintf(ids, sizeof ids, "%s.special-literal", name);
    assert_true(check_corpus(t, "special", ids, false) > 90);
    ht_tokenizer_free(t);
}

static void test_tiny(void **state) {
    (void)state;
    char folder[512];
    snprintf(folder, sizeof folder, "%s/tiny", HT_MODEL_DIR);
    if (!ht_path_is_dir(folder) && ref_dir() != NULL) {
        snprintf(folder, sizeof folder, "%s/tiny", ref_dir());
    }
    if (!ht_path_is_dir(folder)) {
        skip();
    }
    check_vocabulary(open_folder(folder), "tiny", NULL);
}

static void test_llama_bpe(void **state) {
    (void)state;
    check_vocabulary(open_folder(GOLDEN "llama-bpe"), "llama-bpe", NULL);
}

/* Vocabularies too large to ship come from the models that have them. */
static struct ht_tokenizer *open_model(const char *name, const char *pre) {
    char path[512];
    ht_err err = {0};
    struct ht_source *source;
    struct ht_tokenizer *t;
    if (ref_dir() == NULL) {
        skip();
    }
    snprintf(path, sizeof path, "%s/%s", ref_dir(), name);
    if (!ht_path_exists(path)) {
        skip();
    }
    ASSERT_OK(ht_source_open(path, &source, &err), &err);
    ASSERT_OK(ht_model_tokenizer(source, pre, &t, &err), &err);
    ht_source_close(source);
    return t;
}

static void test_smollm(void **state) {
    (void)state;
    check_vocabulary(open_model("ref-135m.gguf", NULL), "smollm",
                     "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
}

static void test_qwen2(void **state) {
    (void)state;
    check_vocabulary(open_model("qwen2.5-coder-1.5b-q4.gguf", NULL), "qwen2",
                     "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.");
}

/* The same split without NFC: what stock runtimes compute under the name qwen2. */
static void test_qwen2_raw(void **state) {
    (void)state;
    struct ht_tokenizer *t = open_model("qwen2.5-coder-1.5b-q4.gguf", "deepseek-r1-qwen");
    assert_int_equal(check_corpus(t, "corpus", "qwen2-raw.corpus", true), 1000);
    assert_true(check_corpus(t, "edge", "qwen2-raw.edge", true) > 100);
    ht_tokenizer_free(t);
}

/* Added tokens with every combination of lstrip, rstrip, single_word and normalized, one inside another
 * (tests/oracle/make_added.py). */
static void test_added(void **state) {
    (void)state;
    static const char *const names[] = {"plain", "nfc"};
    for (size_t i = 0; i < 2; i++) {
        char folder[512], ids[64];
        snprintf(folder, sizeof folder, GOLDEN "added/%s", names[i]);
        struct ht_tokenizer *t = open_folder(folder);
        snprintf(ids, sizeof ids, "added/%s", names[i]);
        assert_int_equal(check_corpus(t, "added/cases", ids, true), 600);
        snprintf(ids, sizeof ids, "added/%s-literal", names[i]);
        assert_int_equal(check_corpus(t, "added/cases", ids, false), 600);
        ht_tokenizer_free(t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),  cmocka_unit_test(test_llama_bpe), cmocka_unit_test(test_smollm),
        cmocka_unit_test(test_qwen2), cmocka_unit_test(test_qwen2_raw), cmocka_unit_test(test_added),
    };
    return cmocka_run_group_tests_name("token_golden", tests, NULL, NULL);
}
