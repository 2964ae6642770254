/* The steps before BPE: UTF-8 repair, NFC and the split, against golden data (tests/oracle/make_text.py). */
#include "test.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "token/bytelevel.h"
#include "token/normalize.h"
#include "token/splitter.h"
#include "token/utf8.h"

#define GOLDEN HT_TEST_DIR "/golden/token/text/"

/* Calls line for each line of a file, without its end; returns how many. */
static size_t each_line(const char *path, void (*line)(const char *s, size_t len, size_t number)) {
    ht_err err = {0};
    char *text;
    size_t len, n = 0;
    ASSERT_OK(ht_read_file(path, 4u << 20, &text, &len, &err), &err);
    for (char *s = text; *s != '\0'; n++) {
        char *end = strchr(s, '\n');
        *end = '\0';
        line(s, (size_t)(end - s), n + 1);
        s = end + 1;
    }
    ht_mem_free(text);
    return n;
}

/* ---- UTF-8 -------------------------------------------------------------------------------------------- */

static size_t unhex(const char *s, size_t len, char *out) {
    for (size_t i = 0; i + 1 < len; i += 2) {
        char pair[3] = {s[i], s[i + 1], 0};
        out[i / 2] = (char)strtoul(pair, NULL, 16);
    }
    return len / 2;
}

static void check_repair(const char *s, size_t len, size_t number) {
    char raw[128], want[256];
    const char *space = strchr(s, ' ');
    size_t n_raw = unhex(s, (size_t)(space - s), raw),
           n_want = unhex(space + 1, len - (size_t)(space + 1 - s), want);
    struct ht_buf have;
    ht_buf_init(&have, 0);
    uint64_t n_broken = ht_utf8_repair(raw, n_raw, &have);
    if (have.len != n_want || memcmp(have.data, want, n_want) != 0) {
        fail_msg("line %zu: %s", number, s);
    }
    assert_int_equal(n_broken == 0, ht_utf8_valid(raw, n_raw) == n_raw);
    assert_int_equal(ht_utf8_valid(have.data, have.len), have.len);
    ht_buf_deinit(&have);
}

static void test_repair(void **state) {
    (void)state;
    assert_true(each_line(GOLDEN "repair.txt", check_repair) > 1000);
}

static void test_code_points(void **state) {
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        char bytes[4];
        size_t n, len = ht_utf8_put(c, bytes);
        bool surrogate = c >= 0xD800 && c < 0xE000;
        assert_int_equal(ht_utf8_valid(bytes, len), surrogate ? 0 : len);
        if (!surrogate) {
            assert_int_equal(ht_utf8_at(bytes, len, &n), c);
            assert_int_equal(n, len);
            for (size_t cut = 1; cut < len; cut++) {
                assert_int_equal(ht_utf8_valid(bytes, cut), 0);
            }
        }
    }
}

static void test_space_ends(void **state) {
    (void)state;
    static const char text[] = " \t\xE3\x80\x80\xC2\xA0x y\xC2\x85\xE2\x80\xA8\n";
    size_t len = sizeof text - 1;
    assert_int_equal(ht_utf8_space_head(text, len), 7);
    assert_int_equal(ht_utf8_space_tail(text, len), 6);
    assert_int_equal(ht_utf8_space_head(text, 7), 7);
    assert_int_equal(ht_utf8_space_tail(text, 7), 7);
    assert_int_equal(ht_utf8_space_tail("x\xE2\x80\x8B", 4), 0); /* U+200B is no white space */
    assert_int_equal(ht_utf8_space_tail("", 0), 0);
    assert_int_equal(ht_utf8_space_head("\xE1\xA0\x8E", 3), 0); /* nor is U+180E */
}

/* ---- bytes and their characters ----------------------------------------------------------------------- */

static void test_byte_level(void **state) {
    (void)state;
    bool used[0x200] = {false};
    for (unsigned b = 0; b < 256; b++) {
        uint32_t c = ht_bytelevel_char((unsigned char)b);
        char text[4], back[4];
        assert_true(c < 0x144 && !used[c]);
        used[c] = true;
        size_t len = ht_utf8_put(c, text);
        assert_int_equal(ht_bytelevel_decode(text, len, back), 1);
        assert_int_equal((unsigned char)back[0], b);
    }
    /* Figures of the GPT-2 release: space, newline, NUL, soft hyphen, DEL; '!' and '~' are themselves. */
    assert_int_equal(ht_bytelevel_char(' '), 0x120);
    assert_int_equal(ht_bytelevel_char('\n'), 0x10A);
    assert_int_equal(ht_bytelevel_char(0), 0x100);
    assert_int_equal(ht_bytelevel_char(0xAD), 0x143);
    assert_int_equal(ht_bytelevel_char(0x7F), 0x121);
    assert_int_equal(ht_bytelevel_char('!'), '!');
    assert_int_equal(ht_bytelevel_char('~'), '~');
    char bytes[8];
    assert_int_equal(ht_bytelevel_decode("a b", 3, bytes), SIZE_MAX);
    assert_int_equal(ht_bytelevel_decode("\xC5\x84", 2, bytes), SIZE_MAX); /* U+0144, behind the table */
    assert_int_equal(ht_bytelevel_decode("a\xC5", 2, bytes), SIZE_MAX);
}

/* ---- NFC ---------------------------------------------------------------------------------------------- */

static void check_nfc(const char *s, size_t len, size_t number) {
    ht_err err = {0};
    json_t *pair = json_loadb(s, len, JSON_ALLOW_NUL, NULL);
    const json_t *text = json_array_get(pair, 0), *want = json_array_get(pair, 1);
    struct ht_buf have;
    ht_buf_init(&have, 0);
    ASSERT_OK(ht_nfc(json_string_value(text), json_string_length(text), &have, &err), &err);
    if (have.len != json_string_length(want) || memcmp(have.data, json_string_value(want), have.len) != 0) {
        fail_msg("line %zu: %s", number, s);
    }
    if (ht_nfc_is_plain(json_string_value(text), json_string_length(text))) {
        assert_int_equal(have.len, json_string_length(text));
        assert_memory_equal(have.data, json_string_value(text), have.len);
    }
    ht_buf_deinit(&have);
    json_decref(pair);
}

static void test_nfc(void **state) {
    (void)state;
    assert_true(each_line(GOLDEN "nfc.jsonl", check_nfc) > 2500);
}

/* A million marks in descending order of class: sorting neighbours would take 10^12 steps. */
static void test_nfc_long_run(void **state) {
    (void)state;
    ht_err err = {0};
    struct ht_buf text, have;
    ht_buf_init(&text, 0);
    ht_buf_init(&have, 0);
    ht_buf_putc(&text, 'q');
    for (size_t i = 0; i < 500000; i++) {
        ht_buf_puts(&text, "\xCC\x81"); /* U+0301, class 230 */
    }
    for (size_t i = 0; i < 500000; i++) {
        ht_buf_puts(&text, "\xCC\xA7"); /* U+0327, class 202 */
    }
    ASSERT_OK(ht_nfc(text.data, text.len, &have, &err), &err);
    assert_int_equal(have.len, text.len);
    assert_memory_equal(have.data + 1, text.data + 1 + 1000000, 1000000);
    assert_memory_equal(have.data + 1 + 1000000, text.data + 1, 1000000);
    ht_buf_deinit(&text);
    ht_buf_deinit(&have);
}

/* ---- the split ---------------------------------------------------------------------------------------- */

static ht_status note_size(void *user, const char *piece, size_t len, ht_err *err) {
    (void)piece;
    (void)err;
    ht_buf_printf(user, "%s%zu", ((struct ht_buf *)user)->len ? "," : "", len);
    return HT_OK;
}

static struct ht_split_run *runs[4];

static void check_split(const char *s, size_t len, size_t number) {
    ht_err err = {0};
    char *rest, c[4], text[64];
    int n_c = (int)ht_utf8_put((uint32_t)strtoul(s, &rest, 16), c);
    int n = 0;
    for (const char *p = "aC C1CC'C  x"; *p != '\0'; p++) {
        memcpy(text + n, *p == 'C' ? c : p, *p == 'C' ? (size_t)n_c : 1);
        n += *p == 'C' ? n_c : 1;
    }
    (void)len;
    for (size_t i = 0; i < 4; i++) {
        struct ht_buf have;
        ht_buf_init(&have, 0);
        ASSERT_OK(ht_split_run_text(runs[i], text, (size_t)n, note_size, &have, &err), &err);
        size_t want = strcspn(rest + 1, " ");
        if (have.len != want || memcmp(have.data, rest + 1, want) != 0) {
            fail_msg("line %zu, splitter %zu: want %.*s, have %s", number, i, (int)want, rest + 1, have.data);
        }
        rest += 1 + want;
        ht_buf_deinit(&have);
    }
}

static void test_splits(void **state) {
    (void)state;
    static const char *const names[4] = {"gpt-2", "llama-bpe", "qwen2", "smollm"};
    struct ht_splitter *splitters[4];
    ht_err err = {0};
    for (size_t i = 0; i < 4; i++) {
        ASSERT_OK(ht_splitter_new(ht_pretokenizer_find(names[i]), &splitters[i], &err), &err);
        ASSERT_OK(ht_split_run_begin(splitters[i], &runs[i], &err), &err);
    }
    assert_true(each_line(GOLDEN "splits.txt", check_split) > 2000);
    for (size_t i = 0; i < 4; i++) {
        ht_split_run_end(runs[i]);
        ht_splitter_free(splitters[i]);
    }
}

/* Long runs neither overflow PCRE2's stack nor hit its limits: 4 MiB of one kind is one piece. */
static void test_long_runs(void **state) {
    (void)state;
    static const char *const units[] = {" ", "a", "!", "\n", "\xE3\x80\x80", "\xC3\xA9"};
    ht_err err = {0};
    for (size_t r = 0; r < ht_pretokenizer_count(); r++) {
        struct ht_splitter *splitter;
        struct ht_split_run *run;
        ASSERT_OK(ht_splitter_new(ht_pretokenizer_at(r), &splitter, &err), &err);
        ASSERT_OK(ht_split_run_begin(splitter, &run, &err), &err);
        for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
            struct ht_buf text, have;
            ht_buf_init(&text, 0);
            ht_buf_init(&have, 0);
            while (text.len < 4u << 20) {
                ht_buf_puts(&text, units[u]);
            }
            ASSERT_OK(ht_split_run_text(run, text.data, text.len, note_size, &have, &err), &err);
            assert_int_equal(strtoul(have.data, NULL, 10), text.len);
            ht_buf_deinit(&text);
            ht_buf_deinit(&have);
        }
        ht_split_run_end(run);
        ht_splitter_free(splitter);
    }
}

/* ---- the table ---------------------------------------------------------------------------------------- */

static void test_table(void **state) {
    (void)state;
    for (size_t i = 0; i < ht_pretokenizer_count(); i++) {
        const struct ht_pretokenizer *row = ht_pretokenizer_at(i);
        assert_true(row->summary[0] != '\0' && row->passes[0] != NULL);
        assert_ptr_equal(ht_pretokenizer_find(row->name), row);
        for (const char *const *alias = row->aliases; *alias != NULL; alias++) {
            assert_ptr_equal(ht_pretokenizer_find(*alias), row); /* so no name stands twice */
        }
    }
    assert_null(ht_pretokenizer_at(ht_pretokenizer_count()));
    assert_null(ht_pretokenizer_find("gpt2"));
    assert_null(ht_pretokenizer_find(""));
}

#define LLAMA3 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]" \
    "+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define QWEN2 \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| " \
    "?[^\\\\s\\\\p{L}\\\\p{N}]" \
    "+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"
#define BYTES_REGEX \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define SPLIT(regex, how) "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex "\"}," how "}"
#define ISOLATED "\"behavior\":\"Isolated\",\"invert\":false"
#define SEQUENCE(steps) "{\"type\":\"Sequence\",\"pretokenizers\":[" steps "]}"
#define DIGITS "{\"type\":\"Digits\",\"individual_digits\":true}"
#define NFC "{\"type\":\"NFC\"}"
#define EMPTY "{\"type\":\"Sequence\",\"normalizers\":[]}"

static void test_match(void **state) {
    (void)state;
    static const struct {
        const char *pre, *normalizer, *name;
    } cases[] = {
        {BYTES_REGEX, NULL, "gpt-2"},
        {"{\"type\":\"ByteLevel\"}", "null", "gpt-2"}, /* use_regex is on where it is left out */
        {SEQUENCE(BYTES_REGEX), EMPTY, "gpt-2"},
        {SEQUENCE(DIGITS "," BYTES_REGEX), NULL, "smollm"},
        {SEQUENCE(SPLIT("\\\\p{N}", ISOLATED) "," BYTES_REGEX), NULL, "smollm"},
        {SEQUENCE(SPLIT(LLAMA3, ISOLATED) "," BYTES), NULL, "llama-bpe"},
        {SEQUENCE(SPLIT(LLAMA3, "\"behavior\":\"Removed\",\"invert\":true") "," BYTES), NULL, "llama-bpe"},
        {SEQUENCE(SEQUENCE(SPLIT(LLAMA3, ISOLATED)) "," BYTES), NULL, "llama-bpe"},
        {SEQUENCE(SPLIT(QWEN2, ISOLATED) "," BYTES), NFC, "qwen2"},
        {SEQUENCE(SPLIT(QWEN2, ISOLATED) "," BYTES), "{\"type\":\"Sequence\",\"normalizers\":[" NFC "]}",
         "qwen2"},
        {SEQUENCE(SPLIT(QWEN2, ISOLATED) "," BYTES), NULL, "deepseek-r1-qwen"},
        /* near misses */
        {SEQUENCE(SPLIT(LLAMA3, ISOLATED)), NULL, NULL},                 /* no byte level */
        {SEQUENCE(SPLIT(LLAMA3, ISOLATED) "," BYTES_REGEX), NULL, NULL}, /* GPT-2's regex on top */
        {SEQUENCE(BYTES "," SPLIT(LLAMA3, ISOLATED)), NULL, NULL},       /* split behind the byte level */
        {SEQUENCE(SPLIT(LLAMA3, ISOLATED) "," BYTES), NFC, NULL},
        {SEQUENCE(SPLIT(LLAMA3 "|x", ISOLATED) "," BYTES), NULL, NULL},
        {SEQUENCE(SPLIT(LLAMA3, "\"behavior\":\"Removed\",\"invert\":false") "," BYTES), NULL, NULL},
        {SEQUENCE(SPLIT(LLAMA3, "\"behavior\":\"Isolated\",\"invert\":true") "," BYTES), NULL, NULL},
        {SEQUENCE(SPLIT("\\\\p{N}", "\"behavior\":\"Removed\",\"invert\":true") "," BYTES_REGEX), NULL, NULL},
        {SEQUENCE("{\"type\":\"Digits\",\"individual_digits\":false}," BYTES_REGEX), NULL, NULL},
        {SEQUENCE("{\"type\":\"Split\",\"pattern\":{\"String\":\" \"}," ISOLATED "}," BYTES), NULL, NULL},
        {SEQUENCE(DIGITS "," DIGITS "," BYTES_REGEX), NULL, NULL},
        {SEQUENCE(DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS "," DIGITS
                         "," DIGITS),
         NULL, NULL},
        {SEQUENCE(""), NULL, NULL},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", NULL, NULL},
        {"{\"type\":\"Metaspace\"}", NULL, NULL},
        {BYTES_REGEX, "{\"type\":\"Lowercase\"}", NULL},
        {BYTES_REGEX, "{\"type\":\"Sequence\",\"normalizers\":[" NFC "," NFC "]}", NULL},
        {BYTES_REGEX, "7", NULL},
        {"7", NULL, NULL},
        {"null", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *pre = json_loads(cases[i].pre, JSON_DECODE_ANY, NULL);
        json_t *normalizer =
            cases[i].normalizer ? json_loads(cases[i].normalizer, JSON_DECODE_ANY, NULL) : NULL;
        assert_non_null(pre);
        const struct ht_pretokenizer *row = ht_pretokenizer_match(pre, normalizer);
        if ((row == NULL) != (cases[i].name == NULL) ||
            (row != NULL && strcmp(row->name, cases[i].name) != 0)) {
            fail_msg("%s: want %s, have %s", cases[i].pre, cases[i].name ? cases[i].name : "none",
                     row ? row->name : "none");
        }
        json_decref(pre);
        json_decref(normalizer);
    }
    assert_null(ht_pretokenizer_match(NULL, NULL));
}

/* The same split under another name where the model does not ignore merges. */
static void test_match_model(void **state) {
    (void)state;
    json_t *pre = json_loads(SEQUENCE(SPLIT(LLAMA3, ISOLATED) "," BYTES), 0, NULL);
    assert_string_equal(ht_pretokenizer_match_model(pre, NULL, true)->name, "llama-bpe");
    assert_string_equal(ht_pretokenizer_match_model(pre, NULL, false)->name, "smaug-bpe");
    json_decref(pre);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_repair),      cmocka_unit_test(test_code_points),
        cmocka_unit_test(test_space_ends),  cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_nfc),         cmocka_unit_test(test_nfc_long_run),
        cmocka_unit_test(test_splits),      cmocka_unit_test(test_long_runs),
        cmocka_unit_test(test_table),       cmocka_unit_test(test_match),
        cmocka_unit_test(test_match_model),
    };
    return cmocka_run_group_tests_name("token_text", tests, NULL, NULL);
}
