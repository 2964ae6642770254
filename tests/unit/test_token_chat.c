/* Chat formats against Jinja templates (tests/oracle/make_chat.py): the text, its ids, the default system
 * message; and that contents cannot write special tokens. */
#include "test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
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

static struct ht_tokenizer *open_tiny(void) {
    char folder[512];
    snprintf(folder, sizeof folder, "%s/tiny", HT_MODEL_DIR);
    if (!ht_path_is_dir(folder) && ref_dir() != NULL) {
        snprintf(folder, sizeof folder, "%s/tiny", ref_dir());
    }
    return ht_path_is_dir(folder) ? open_folder(folder) : NULL;
}

static size_t read_messages(const json_t *list, ht_message *messages) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);
        messages[i] =
            (ht_message){json_string_value(json_array_get(m, 0)), json_string_value(json_array_get(m, 1))};
    }
    return json_array_size(list);
}

static void check_ids(const struct ht_tokenizer *t, const struct ht_chat *chat, const ht_message *messages,
                      size_t n, const json_t *want) {
    ht_err err = {0};
    struct ht_ids ids = {0};
    ASSERT_OK(ht_chat_encode(t, chat, messages, n, &ids, NULL, &err), &err);
    assert_int_equal(ids.n, json_array_size(want));
    for (size_t i = 0; i < ids.n; i++) {
        assert_int_equal(ids.ids[i], json_integer_value(json_array_get(want, i)));
    }
    ht_mem_free(ids.ids);
}

static void test_golden(void **state) {
    (void)state;
    ht_err err = {0};
    char *lines;
    size_t len, n_lines = 0;
    struct ht_tokenizer *llama = open_folder(GOLDEN "llama-bpe"), *tiny = open_tiny();
    ASSERT_OK(ht_read_file(GOLDEN "chat.jsonl", 4u << 20, &lines, &len, &err), &err);
    for (char *s = lines, *end; (end = strchr(s, '\n')) != NULL; s = end + 1, n_lines++) {
        json_t *c = json_loadb(s, (size_t)(end - s), 0, NULL);
        const char *format = json_string_value(json_object_get(c, "format"));
        const char *system = json_string_value(json_object_get(c, "system"));
        struct ht_chat chat;
        struct ht_buf own, text;
        ht_buf_init(&own, 0);
        ht_buf_init(&text, 0);
        ASSERT_OK(ht_chat_resolve(NULL, json_string_value(json_object_get(c, "template")), &chat, &own, &err),
                  &err);
        assert_string_equal(chat.name, format);
        assert_int_equal(system == NULL, chat.default_system == NULL);
        if (system != NULL) {
            assert_string_equal(chat.default_system, system);
        }
        ht_message messages[8];
        size_t n = read_messages(json_object_get(c, "messages"), messages);
        ASSERT_OK(ht_chat_write(&chat, messages, n, &text, &err), &err);
        assert_string_equal(text.data, json_string_value(json_object_get(c, "text")));
        const struct ht_tokenizer *t = strcmp(format, "llama3") == 0 ? llama : tiny;
        if (t != NULL) {
            check_ids(t, &chat, messages, n, json_object_get(c, "ids"));
        }
        ht_buf_deinit(&own);
        ht_buf_deinit(&text);
        json_decref(c);
    }
    assert_true(n_lines > 50);
    ht_mem_free(lines);
    ht_tokenizer_free(llama);
    ht_tokenizer_free(tiny);
}

/* No content puts a control token among the ids; the format's own are as many as the turns ask for. */
static void test_no_injection(void **state) {
    (void)state;
    ht_err err = {0};
    struct ht_tokenizer *t = open_folder(GOLDEN "llama-bpe");
    const struct ht_vocab *v = ht_tokenizer_vocab(t);
    const struct ht_chat *chat = ht_chat_find("llama3");
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        if (v->tokens[i].type != HT_TOKEN_CONTROL) {
            continue;
        }
        ht_message messages[2] = {{"user", v->tokens[i].text}, {"user", "x"}};
        struct ht_ids ids = {0};
        size_t n_control = 0;
        ASSERT_OK(ht_chat_encode(t, chat, messages, 2, &ids, NULL, &err), &err);
        for (size_t k = 0; k < ids.n; k++) {
            n_control += v->tokens[ids.ids[k]].type == HT_TOKEN_CONTROL;
        }
        assert_int_equal(n_control, 1 + 2 * 3 + 2); /* BOS, two turns of three, an open turn of two */
        ht_mem_free(ids.ids);
    }
    ht_tokenizer_free(t);
}

static void test_bad_roles(void **state) {
    (void)state;
    static const char *const roles[] = {
        "", "user\n", "<|im_start|>", "a b", "\xC3\xA9", NULL, "a23456789b23456789c23456789d23456"};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
        ht_err err = {0};
        ht_message message = {roles[i], "x"};
        struct ht_buf text;
        ht_buf_init(&text, 0);
        assert_int_equal(ht_chat_write(ht_chat_find("chatml"), &message, 1, &text, &err), HT_INVAL);
        assert_int_equal(text.len, 0);
        ht_buf_deinit(&text);
    }
    ht_err err = {0};
    ht_message message = {"user", NULL};
    struct ht_buf text;
    ht_buf_init(&text, 0);
    assert_int_equal(ht_chat_write(ht_chat_find("chatml"), &message, 1, &text, &err), HT_INVAL);
    ht_buf_deinit(&text);
}

static void test_resolve(void **state) {
    (void)state;
    ht_err err = {0};
    struct ht_chat chat;
    struct ht_buf text;
    ht_buf_init(&text, 0);
    ASSERT_OK(ht_chat_resolve("llama3", NULL, &chat, &text, &err), &err);
    assert_string_equal(chat.name, "llama3");
    /* By name against a template of another format: its system message is not this format's. */
    ASSERT_OK(ht_chat_resolve("llama3", "'<|im_start|>system\nx<|im_end|>'", &chat, &text, &err), &err);
    assert_null(chat.default_system);
    ASSERT_OK(ht_chat_resolve("chatml", "'<|im_start|>system\nx<|im_end|>'", &chat, &text, &err), &err);
    assert_string_equal(chat.default_system, "x");
    /* A turn whose content is computed, or that never ends, is no default. */
    static const char *const none[] = {"'<|im_start|>system\n' + x + '<|im_end|>'",
                                       "'<|im_start|>system\nx'",
                                       "'<|im_start|>user\nx<|im_end|>'",
                                       "'<|im_start|>system x<|im_end|>'",
                                       "<|im_start|>system\\",
                                       "<|im_start|>system\\n<|im_end|>"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        char t[128];
        snprintf(t, sizeof t, "%s {# <|im_end|> #}", none[i]);
        ASSERT_OK(ht_chat_resolve(NULL, t, &chat, &text, &err), &err);
        assert_null(chat.default_system);
    }
    assert_int_equal(ht_chat_resolve("chatlm", NULL, &chat, &text, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "did you mean chatml"));
    ht_err_clear(&err);
    assert_int_equal(ht_chat_resolve(NULL, NULL, &chat, &text, &err), HT_UNSUPPORTED);
    ht_err_clear(&err);
    assert_int_equal(ht_chat_resolve(NULL, "[INST] {{ x }} [/INST]", &chat, &text, &err), HT_UNSUPPORTED);
    ht_buf_deinit(&text);
}

static void test_missing_marker(void **state) {
    (void)state;
    ht_err err = {0};
    struct ht_tokenizer *t = open_folder(GOLDEN "llama-bpe");
    ht_message message = {"user", "x"};
    struct ht_ids ids = {0};
    assert_int_equal(ht_chat_encode(t, ht_chat_find("chatml"), &message, 1, &ids, NULL, &err),
                     HT_UNSUPPORTED);
    assert_non_null(strstr(err.msg, "<|im_start|>"));
    assert_int_equal(ids.n, 0);
    ht_mem_free(ids.ids);
    ht_tokenizer_free(t);
}

static void test_table(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_chat_count(); i++) {
        const struct ht_chat *row = ht_chat_at(i);
        assert_ptr_equal(ht_chat_find(row->name), row);
        assert_ptr_equal(ht_chat_match(row->marker), NULL); /* a marker alone is no template */
        char template[128];
        snprintf(template, sizeof template, "%s%s", row->marker, row->end_token);
        assert_ptr_equal(ht_chat_match(template), row);
    }
    assert_null(ht_chat_at(ht_chat_count()));
    assert_null(ht_chat_find("none"));
}

static void test_no_memory(void **state) {
    (void)state;
    struct ht_tokenizer *t = open_folder(GOLDEN "llama-bpe");
    ht_message messages[2] = {{"system", "caf\xC3\xA9"}, {"user", "hello <|eot_id|> world"}};
    size_t n = 0;
    for (;; n++) {
        ht_err err = {0};
        struct ht_ids ids = {0};
        ht_mem_fail_at(n + 1, 1);
        ht_status status = ht_chat_encode(t, ht_chat_find("llama3"), messages, 2, &ids, NULL, &err);
        ht_mem_fail_at(0, 0);
        ht_mem_free(ids.ids);
        if (status == HT_OK) {
            break;
        }
        assert_int_equal(status, HT_NOMEM);
        assert_int_equal(ids.n, 0);
    }
    assert_true(n > 5);
    ht_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),         cmocka_unit_test(test_no_injection),
        cmocka_unit_test(test_bad_roles),      cmocka_unit_test(test_resolve),
        cmocka_unit_test(test_missing_marker), cmocka_unit_test(test_table),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("token_chat", tests, NULL, NULL);
}
