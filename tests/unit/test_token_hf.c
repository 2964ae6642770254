/* tokenizer.json and the files beside it: what is read from them, and what is refused with which words. */
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/mem.h"
#include "token/tokenizer.h"

/* A whole byte-level tokenizer in one line: four letters, three merges, two added tokens, a hole at id 8. */
#define VOCAB "{\"a\":0,\"b\":1,\"c\":2,\"\\u0120\":3,\"ab\":4,\"abc\":5,\"\\u0120a\":6}"
#define MERGES "[\"a b\",\"ab c\",\"\\u0120 a\"]"
#define ADDED \
    "[{\"id\":7,\"content\":\"<s>\",\"special\":true,\"lstrip\":false,\"rstrip\":false,\"normalized\":" \
    "false}," \
    "{\"id\":9,\"content\":\"tool\",\"special\":false,\"normalized\":false}]"
#define PRE "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define MODEL(vocab, merges, more) "{\"type\":\"BPE\",\"vocab\":" vocab ",\"merges\":" merges more "}"
#define ROOT(added, pre, model, more) \
    "{\"added_tokens\":" added ",\"normalizer\":null,\"pre_tokenizer\":" pre ",\"model\":" model more "}"
#define GOOD ROOT(ADDED, PRE, MODEL(VOCAB, MERGES, ""), "")

static const char *const side_files[] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
    "config.json",    "chat_template.jinja",   "chat_template.json"};
static char folder[64];

/* Thousands of files: without the atomic writer's fsync. */
static void put(const char *name, const char *text, size_t len) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void clean(void) {
    for (size_t i = 0; i < sizeof side_files / sizeof *side_files; i++) {
        char path[160];
        snprintf(path, sizeof path, "%s/%s", folder, side_files[i]);
        unlink(path);
    }
}

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/ht-token-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int drop_folder(void **state) {
    (void)state;
    clean();
    return rmdir(folder);
}

/* Loads the folder with this tokenizer.json; side: name and text of one further file, or NULL. */
static struct ht_hf_vocab *load(const char *json, const char *side, const char *side_text) {
    ht_err err = {0};
    struct ht_hf_vocab *hf;
    clean();
    put("tokenizer.json", json, strlen(json));
    if (side != NULL) {
        put(side, side_text, strlen(side_text));
    }
    ASSERT_OK(ht_hf_vocab_load(folder, NULL, &hf, &err), &err);
    return hf;
}

static void test_tokens_and_merges(void **state) {
    (void)state;
    static const char *const forms[] = {
        GOOD, ROOT(ADDED, PRE, MODEL(VOCAB, "[[\"a\",\"b\"],[\"ab\",\"c\"],[\"\\u0120\",\"a\"]]", ""), "")};
    static const struct {
        const char *text;
        enum ht_token_type type;
    } want[] = {{"a", HT_TOKEN_NORMAL},
                {"b", HT_TOKEN_NORMAL},
                {"c", HT_TOKEN_NORMAL},
                {"\xC4\xA0", HT_TOKEN_NORMAL},
                {"ab", HT_TOKEN_NORMAL},
                {"abc", HT_TOKEN_NORMAL},
                {"\xC4\xA0"
                 "a",
                 HT_TOKEN_NORMAL},
                {"<s>", HT_TOKEN_CONTROL},
                {"[PAD8]", HT_TOKEN_UNUSED},
                {"tool", HT_TOKEN_USER_DEFINED},
                {"[PAD10]", HT_TOKEN_UNUSED},
                {"[PAD11]", HT_TOKEN_UNUSED}};
    for (size_t f = 0; f < 2; f++) {
        ht_err err = {0};
        struct ht_hf_vocab *hf = load(forms[f], NULL, NULL);
        const struct ht_vocab *v = ht_hf_vocab_view(hf);
        assert_int_equal(v->n_tokens, 10);
        ASSERT_OK(ht_hf_vocab_pad(hf, 12, "config.json", &err), &err);
        assert_int_equal(v->n_tokens, 12);
        for (uint32_t i = 0; i < 12; i++) {
            assert_int_equal(v->tokens[i].len, strlen(want[i].text));
            assert_memory_equal(v->tokens[i].text, want[i].text, v->tokens[i].len);
            assert_int_equal(v->tokens[i].type, want[i].type);
        }
        assert_int_equal(v->n_merges, 3);
        assert_int_equal(v->merges[1].left_len, 2);
        assert_memory_equal(v->merges[1].left, "ab", 2);
        assert_memory_equal(v->merges[1].right, "c", 1);
        assert_string_equal(v->pre, "gpt-2");
        assert_int_equal(v->bos, -1);
        assert_false(v->add_bos || v->add_eos || v->ignore_merges || v->unk_for_bytes);
        assert_int_equal(ht_hf_vocab_pad(hf, 11, "config.json", &err), HT_FORMAT);
        ht_err_clear(&err);
        assert_int_equal(ht_hf_vocab_pad(hf, HT_MAX_VOCAB, "config.json", &err), HT_LIMIT);
        ht_hf_vocab_free(hf);
    }
}

/* A byte without a token is dropped and counted, or becomes model.unk_token. */
static void test_missing_bytes(void **state) {
    (void)state;
    static const char *const forms[] = {GOOD,
                                        ROOT(ADDED, PRE, MODEL(VOCAB, MERGES, ",\"unk_token\":\"<s>\""), "")};
    for (size_t f = 0; f < 2; f++) {
        ht_err err = {0};
        struct ht_hf_vocab *hf = load(forms[f], NULL, NULL);
        struct ht_tokenizer *t;
        struct ht_ids ids = {0};
        uint64_t n_lost = 0;
        ASSERT_OK(ht_tokenizer_new(ht_hf_vocab_view(hf), "x", &t, &err), &err);
        ASSERT_OK(ht_tokenizer_encode(t, "axbc<s>", 7, true, &ids, &n_lost, &err), &err);
        /* Dropped: "a" and "bc" close up and merge to "abc". As <s>: it stands between them. */
        static const int32_t want[2][5] = {{5, 7}, {0, 7, 1, 2, 7}};
        assert_int_equal(ids.n, f == 0 ? 2 : 5);
        assert_memory_equal(ids.ids, want[f], ids.n * sizeof *ids.ids);
        assert_int_equal(n_lost, f == 0 ? 1 : 0);
        ht_mem_free(ids.ids);
        ht_tokenizer_free(t);
        ht_hf_vocab_free(hf);
    }
}

static void test_control_by_looks(void **state) {
    (void)state;
    static const char *const control[] = {"<|tool|>", "<pad>", "<unused12>",
                                          "<\xEF\xBD\x9C"
                                          "x\xEF\xBD\x9C>"};
    static const char *const user[] = {"<|>", "<tool>", "unused", "<|a|> "};
    for (size_t i = 0; i < 8; i++) {
        char json[1024];
        const char *text = i < 4 ? control[i] : user[i - 4];
        snprintf(json, sizeof json,
                 ROOT("[{\"id\":7,\"content\":\"%s\"}]", PRE, MODEL(VOCAB, MERGES, ""), ""), text);
        struct ht_hf_vocab *hf = load(json, NULL, NULL);
        const struct ht_token_text *t = &ht_hf_vocab_view(hf)->tokens[7];
        assert_int_equal(t->type, i < 4 ? HT_TOKEN_CONTROL : HT_TOKEN_USER_DEFINED);
        assert_true(t->normalized); /* what an added token is that is not special and does not say */
        ht_hf_vocab_free(hf);
    }
}

/* ---- the files beside it ------------------------------------------------------------------------------ */

struct side_case {
    const char *file, *text;
    int32_t bos, eos, pad, eot;
    int add_bos, add_eos;
    uint32_t n_ends;
    const char *chat;
};

static void test_side_files(void **state) {
    (void)state;
    static const struct side_case cases[] = {
        {"tokenizer_config.json", "{}", -1, -1, -1, -1, 0, 0, 0, NULL},
        {"tokenizer_config.json", "{\"bos_token\":\"<s>\",\"eos_token\":null}", 7, -1, -1, -1, 0, 0, 0, NULL},
        {"tokenizer_config.json", "{\"bos_token\":{\"content\":\"<s>\"},\"add_bos_token\":true}", 7, -1, -1,
         -1, 1, 0, 0, NULL},
        {"tokenizer_config.json", "{\"eos_token\":\"tool\",\"add_eos_token\":true,\"eot_token\":\"<s>\"}", -1,
         9, -1, 7, 0, 1, 0, NULL},
        {"tokenizer_config.json", "{\"pad_token\":\"no such token\"}", -1, -1, -1, -1, 0, 0, 0, NULL},
        {"tokenizer_config.json", "{\"chat_template\":\"{{ x }}\"}", -1, -1, -1, -1, 0, 0, 0, "{{ x }}"},
        {"tokenizer_config.json",
         "{\"chat_template\":[{\"name\":\"tools\",\"template\":\"T\"},{\"name\":\"default\",\"template\":"
         "\"D\"}]}",
         -1, -1, -1, -1, 0, 0, 0, "D"},
        {"tokenizer_config.json", "{\"chat_template\":[{\"name\":\"tools\",\"template\":\"T\"}]}", -1, -1, -1,
         -1, 0, 0, 0, "T"},
        {"tokenizer_config.json", "{\"chat_template\":[]}", -1, -1, -1, -1, 0, 0, 0, NULL},
        {"special_tokens_map.json", "{\"bos_token\":\"<s>\",\"pad_token\":{\"content\":\"tool\"}}", 7, -1, 9,
         -1, 0, 0, 0, NULL},
        {"generation_config.json", "{\"bos_token_id\":7,\"eos_token_id\":9}", 7, 9, -1, -1, 0, 0, 0, NULL},
        {"generation_config.json", "{\"eos_token_id\":[9,7],\"pad_token_id\":-1}", -1, 9, -1, -1, 0, 0, 2,
         NULL},
        {"generation_config.json", "{\"eos_token_id\":[]}", -1, -1, -1, -1, 0, 0, 0, NULL},
        {"config.json", "{\"bos_token_id\":7,\"eos_token_id\":[9],\"pad_token_id\":null,\"vocab_size\":12}",
         7, 9, -1, -1, 0, 0, 1, NULL},
        {"chat_template.jinja", "{{ jinja }}", -1, -1, -1, -1, 0, 0, 0, "{{ jinja }}"},
        {"chat_template.json", "{\"chat_template\":\"J\"}", -1, -1, -1, -1, 0, 0, 0, "J"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct side_case *c = &cases[i];
        struct ht_hf_vocab *hf = load(GOOD, c->file, c->text);
        const struct ht_vocab *v = ht_hf_vocab_view(hf);
        assert_int_equal(v->bos, c->bos);
        assert_int_equal(v->eos, c->eos);
        assert_int_equal(v->pad, c->pad);
        assert_int_equal(v->eot, c->eot);
        assert_int_equal(v->add_bos, c->add_bos);
        assert_int_equal(v->add_eos, c->add_eos);
        assert_int_equal(v->n_ends, c->n_ends);
        if (c->chat == NULL) {
            assert_null(v->chat_template);
        } else {
            assert_string_equal(v->chat_template, c->chat);
        }
        ht_hf_vocab_free(hf);
    }
}

#define TEMPLATE(single) ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":" single "}"
#define SPECIAL "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}}"
#define SEQUENCE "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"

static void test_post_processor(void **state) {
    (void)state;
    static const struct {
        const char *post, *config;
        int add_bos, add_eos;
        int32_t bos;
    } cases[] = {
        {TEMPLATE("[" SPECIAL "," SEQUENCE "]"), NULL, 1, 0, 7},
        {TEMPLATE("[" SEQUENCE "," SPECIAL "]"), NULL, 0, 1, -1},
        {TEMPLATE("[" SEQUENCE "]"), NULL, 0, 0, -1},
        {TEMPLATE("[" SPECIAL "," SEQUENCE "]"), "{\"bos_token\":\"<s>\"}", 1, 0, 7},
        {TEMPLATE("[" SPECIAL "," SEQUENCE "]"), "{\"bos_token\":\"tool\"}", 0, 0,
         9}, /* another token than BOS */
        {TEMPLATE("[" SPECIAL "," SEQUENCE "]"), "{\"add_bos_token\":false}", 0, 0,
         7}, /* the config has the last word */
        {",\"post_processor\":{\"type\":\"ByteLevel\"}", "{\"bos_token\":\"<s>\"}", 0, 0, 7},
        {",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"},"
         "{\"type\":\"TemplateProcessing\",\"single\":[" SPECIAL "," SEQUENCE "]}]}",
         NULL, 1, 0, 7},
        {",\"post_processor\":null", NULL, 0, 0, -1},
        {",\"post_processor\":[1,2]", NULL, 0, 0, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[2048];
        snprintf(json, sizeof json, "%.*s%s}", (int)strlen(GOOD) - 1, GOOD, cases[i].post);
        struct ht_hf_vocab *hf =
            load(json, cases[i].config ? "tokenizer_config.json" : NULL, cases[i].config);
        const struct ht_vocab *v = ht_hf_vocab_view(hf);
        assert_int_equal(v->add_bos, cases[i].add_bos);
        assert_int_equal(v->add_eos, cases[i].add_eos);
        assert_int_equal(v->bos, cases[i].bos);
        ht_hf_vocab_free(hf);
    }
}

/* ---- malformed ---------------------------------------------------------------------------------------- */

struct bad_case {
    const char *file, *text; /* file NULL: tokenizer.json */
    ht_status code;
    const char *says; /* part of the message */
};

#define WITH_VOCAB(vocab) ROOT(ADDED, PRE, MODEL(vocab, "[]", ""), "")
#define WITH_MERGES(merges) ROOT(ADDED, PRE, MODEL(VOCAB, merges, ""), "")
#define WITH_ADDED(added) ROOT(added, PRE, MODEL(VOCAB, MERGES, ""), "")
#define WITH_PRE(pre) ROOT(ADDED, pre, MODEL(VOCAB, MERGES, ""), "")
#define WITH_MODEL(more) ROOT(ADDED, PRE, MODEL(VOCAB, MERGES, more), "")

static const struct bad_case bad_cases[] = {
    /* no JSON, or not this one */
    {NULL, "", HT_FORMAT, "JSON"},
    {NULL, "{", HT_FORMAT, "JSON"},
    {NULL, "[]", HT_FORMAT, "model: expected an object"},
    {NULL, "{}", HT_FORMAT, "model: expected an object"},
    {NULL, "null", HT_FORMAT, "JSON"},
    {NULL, GOOD "x", HT_FORMAT, "JSON"},
    {NULL, "{\"model\":1}", HT_FORMAT, "model: expected an object"},
    {NULL, "{\"model\":null}", HT_FORMAT, "model: expected an object"},
    {NULL, "{\"model\":[]}", HT_FORMAT, "model: expected an object"},
    {NULL, "{\"model\":{},\"model\":{}}", HT_FORMAT, "duplicate"},
    {NULL, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xFF\":0}}}", HT_FORMAT, "0xff"},
    {NULL, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\ud800\":0}}}", HT_FORMAT, "JSON"},
    {NULL, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e}}}", HT_FORMAT, "JSON"},
    {NULL, "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":NaN}}}", HT_FORMAT, "JSON"},
    /* model */
    {NULL, "{\"model\":{\"type\":\"Unigram\"}}", HT_UNSUPPORTED, "Unigram"},
    {NULL, "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", HT_UNSUPPORTED, "WordPiece"},
    {NULL, "{\"model\":{\"type\":7,\"vocab\":{\"a\":0},\"merges\":[]}}", HT_FORMAT, "type"},
    {NULL, "{\"model\":{\"type\":\"BPE\"}}", HT_FORMAT, "model.vocab: expected an object"},
    {NULL, ROOT(ADDED, PRE, MODEL("[]", "[]", ""), ""), HT_FORMAT, "model.vocab: expected an object"},
    {NULL, ROOT(ADDED, PRE, MODEL("null", "[]", ""), ""), HT_FORMAT, "model.vocab: expected an object"},
    {NULL, ROOT(ADDED, PRE, MODEL("\"a\"", "[]", ""), ""), HT_FORMAT, "model.vocab: expected an object"},
    {NULL, WITH_MERGES("{}"), HT_FORMAT, "model.merges: expected an array"},
    {NULL, WITH_MERGES("null"), HT_FORMAT, "model.merges: expected an array"},
    {NULL, WITH_MODEL(",\"dropout\":0.1"), HT_UNSUPPORTED, "dropout"},
    {NULL, WITH_MODEL(",\"byte_fallback\":true"), HT_UNSUPPORTED, "byte_fallback"},
    {NULL, WITH_MODEL(",\"continuing_subword_prefix\":\"##\""), HT_UNSUPPORTED, "continuing_subword_prefix"},
    {NULL, WITH_MODEL(",\"end_of_word_suffix\":\"</w>\""), HT_UNSUPPORTED, "end_of_word_suffix"},
    {NULL, WITH_MODEL(",\"fuse_unk\":true"), HT_UNSUPPORTED, "fuse_unk"},
    {NULL, WITH_MODEL(",\"ignore_merges\":1"), HT_FORMAT, "ignore_merges"},
    {NULL, WITH_MODEL(",\"unk_token\":\"nope\""), HT_FORMAT, "unk_token 'nope' is not a token"},
    {NULL, WITH_MODEL(",\"unk_token\":3"), HT_FORMAT, "unk_token"},
    /* vocabulary */
    {NULL, ROOT("[]", PRE, MODEL("{}", "[]", ""), ""), HT_FORMAT, "no token"},
    {NULL, WITH_VOCAB("{\"a\":-1}"), HT_FORMAT, "id -1"},
    {NULL, WITH_VOCAB("{\"a\":\"0\"}"), HT_FORMAT, "id is no integer"},
    {NULL, WITH_VOCAB("{\"a\":0.5}"), HT_FORMAT, "id is no integer"},
    {NULL, WITH_VOCAB("{\"a\":null}"), HT_FORMAT, "id is no integer"},
    {NULL, WITH_VOCAB("{\"a\":true}"), HT_FORMAT, "id is no integer"},
    {NULL, WITH_VOCAB("{\"a\":[0]}"), HT_FORMAT, "id is no integer"},
    {NULL, WITH_VOCAB("{\"a\":4194304}"), HT_LIMIT, "HT_MAX_VOCAB"},
    {NULL, WITH_VOCAB("{\"a\":9223372036854775807}"), HT_LIMIT, "HT_MAX_VOCAB"},
    {NULL, WITH_VOCAB("{\"a\":9223372036854775808}"), HT_FORMAT, "JSON"},
    {NULL, WITH_VOCAB("{\"a\":-9223372036854775808}"), HT_FORMAT, "expected 0 to"},
    {NULL, WITH_VOCAB("{\"a\":0,\"b\":0}"), HT_FORMAT, "id 0 stands for both 'a' and 'b'"},
    {NULL, WITH_VOCAB("{\"a\":0,\"a\":1}"), HT_FORMAT, "duplicate"},
    {NULL, WITH_VOCAB("{\"a\":0,\"b\":100000}"), HT_LIMIT, "HT_MAX_VOCAB_HOLES"},
    /* merges */
    {NULL, WITH_MERGES("[\"a\"]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[\"a b\",\"a  b\"]"), HT_FORMAT, "merge 1: expected"},
    {NULL, WITH_MERGES("[\" b\"]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[\"a \"]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[\"\"]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[\"a b c\"]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[[\"a\"]]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[[\"a\",\"b\",\"c\"]]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[[\"a\",\"\"]]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[[\"a\",1]]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[[]]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[7]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[null]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[{\"a\":\"b\"}]"), HT_FORMAT, "merge 0: expected"},
    {NULL, WITH_MERGES("[\"x b\"]"), HT_FORMAT, "left side 'x' is not in model.vocab"},
    {NULL, WITH_MERGES("[\"a x\"]"), HT_FORMAT, "right side 'x' is not in model.vocab"},
    {NULL, WITH_MERGES("[\"b a\"]"), HT_FORMAT, "result 'ba' is not in model.vocab"},
    {NULL, WITH_MERGES("[\"a <s>\"]"), HT_FORMAT, "right side '<s>' is not in model.vocab"},
    /* added tokens */
    {NULL, WITH_ADDED("{}"), HT_FORMAT, "added_tokens: expected an array"},
    {NULL, WITH_ADDED("[1]"), HT_FORMAT, "added_tokens: expected objects"},
    {NULL, WITH_ADDED("[{}]"), HT_FORMAT, "added_tokens: expected objects"},
    {NULL, WITH_ADDED("[{\"id\":7}]"), HT_FORMAT, "added_tokens: expected objects"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"\"}]"), HT_FORMAT, "added_tokens: expected objects"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":[\"a\"]}]"), HT_FORMAT, "added_tokens: expected objects"},
    {NULL, WITH_ADDED("[{\"content\":\"<s>\"}]"), HT_FORMAT, "id is no integer"},
    {NULL, WITH_ADDED("[{\"id\":-7,\"content\":\"<s>\"}]"), HT_FORMAT, "id -7"},
    {NULL, WITH_ADDED("[{\"id\":9999999,\"content\":\"<s>\"}]"), HT_LIMIT, "HT_MAX_VOCAB"},
    {NULL, WITH_ADDED("[{\"id\":\"7\",\"content\":\"<s>\"}]"), HT_FORMAT, "id is no integer"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"<s>\",\"special\":\"yes\"}]"), HT_FORMAT, "special"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"<s>\",\"lstrip\":1}]"), HT_FORMAT, "lstrip"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"<s>\",\"rstrip\":0}]"), HT_FORMAT, "rstrip"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"<s>\",\"normalized\":\"\"}]"), HT_FORMAT, "normalized"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"<s>\",\"single_word\":{}}]"), HT_FORMAT, "single_word"},
    {NULL, WITH_ADDED("[{\"id\":0,\"content\":\"<s>\"}]"), HT_FORMAT, "id 0 stands for both 'a' and '<s>'"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"a\"}]"), HT_FORMAT, "id 7, but 0 in model.vocab"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"x\"},{\"id\":7,\"content\":\"y\"}]"), HT_FORMAT,
     "two added tokens"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"x\"},{\"id\":7,\"content\":\"x\"}]"), HT_FORMAT,
     "two added tokens"},
    {NULL, WITH_ADDED("[{\"id\":7,\"content\":\"x\"},{\"id\":8,\"content\":\"x\"}]"), HT_FORMAT, "same text"},
    /* pre-tokenizer */
    {NULL, WITH_PRE("null"), HT_UNSUPPORTED, "--pre NAME overrides"},
    {NULL, WITH_PRE("7"), HT_UNSUPPORTED, "--pre NAME overrides"},
    {NULL, WITH_PRE("{\"type\":\"Whitespace\"}"), HT_UNSUPPORTED, "gpt-2, llama-bpe"},
    {NULL, WITH_PRE("{\"type\":\"ByteLevel\",\"add_prefix_space\":true}"), HT_UNSUPPORTED,
     "add_prefix_space"},
    {NULL, WITH_PRE("{\"type\":\"Sequence\",\"pretokenizers\":7}"), HT_UNSUPPORTED, "--pre NAME"},
    {NULL, "{\"model\":" MODEL(VOCAB, MERGES, "") "}", HT_UNSUPPORTED, "--pre NAME"},
    {NULL, ROOT(ADDED, PRE, MODEL(VOCAB, MERGES, ",\"ignore_merges\":true"), ""), HT_UNSUPPORTED,
     "ignore_merges"},
    /* the files beside it */
    {"tokenizer_config.json", "{", HT_FORMAT, "JSON"},
    {"tokenizer_config.json", "[]", HT_FORMAT, "expected a JSON object"},
    {"tokenizer_config.json", "{\"bos_token\":7}", HT_FORMAT, "bos_token"},
    {"tokenizer_config.json", "{\"eos_token\":{\"text\":\"x\"}}", HT_FORMAT, "eos_token"},
    {"tokenizer_config.json", "{\"add_bos_token\":\"true\"}", HT_FORMAT, "add_bos_token"},
    {"tokenizer_config.json", "{\"chat_template\":7}", HT_FORMAT, "chat_template"},
    {"tokenizer_config.json", "{\"chat_template\":[{\"name\":\"x\"}]}", HT_FORMAT, "chat_template"},
    {"tokenizer_config.json", "{\"chat_template\":[7]}", HT_FORMAT, "chat_template"},
    {"tokenizer_config.json", "{\"chat_template\":\"a\\u0000b\"}", HT_FORMAT, "NUL"},
    {"special_tokens_map.json", "{\"pad_token\":[]}", HT_FORMAT, "pad_token"},
    {"generation_config.json", "{\"eos_token_id\":10}", HT_FORMAT, "0 to 9"},
    {"generation_config.json", "{\"eos_token_id\":[0,10]}", HT_FORMAT, "0 to 9"},
    {"generation_config.json", "{\"eos_token_id\":[\"x\"]}", HT_FORMAT, "eos_token_id"},
    {"generation_config.json", "{\"bos_token_id\":-2}", HT_FORMAT, "bos_token_id"},
    {"config.json", "{\"pad_token_id\":\"0\"}", HT_FORMAT, "pad_token_id"},
    {"config.json", "{\"bos_token_id\":[0]}", HT_FORMAT, "bos_token_id"},
    {"chat_template.json", "{\"chat_template\":{}}", HT_FORMAT, "chat_template"},
};

/* Some faults show only when the tokenizer is built: two tokens of one text. */
static ht_status load_and_build(ht_err *err) {
    struct ht_hf_vocab *hf;
    struct ht_tokenizer *t = NULL;
    HT_TRY(ht_hf_vocab_load(folder, NULL, &hf, err));
    ht_status status = ht_tokenizer_new(ht_hf_vocab_view(hf), folder, &t, err);
    ht_tokenizer_free(t);
    ht_hf_vocab_free(hf);
    return status;
}

static void test_malformed(void **state) {
    (void)state;
    size_t n = sizeof bad_cases / sizeof *bad_cases;
    assert_true(n >= 60);
    for (size_t i = 0; i < n; i++) {
        const struct bad_case *c = &bad_cases[i];
        ht_err err = {0};
        clean();
        if (c->file != NULL) {
            put("tokenizer.json", GOOD, strlen(GOOD));
        }
        put(c->file != NULL ? c->file : "tokenizer.json", c->text, strlen(c->text));
        ht_status status = load_and_build(&err);
        if (status != c->code || strstr(err.msg, c->says) == NULL) {
            fail_msg("case %zu: %s\n  want %s, \"%s\"\n  have %s, \"%s\"", i, c->text,
                     ht_status_text(c->code), c->says, ht_status_text(status), err.msg);
        }
        assert_non_null(strstr(err.what, c->file != NULL ? c->file : "ht-token-"));
    }
}

static void test_long_token(void **state) {
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        ht_err err = {0};
        size_t len = HT_MAX_TOKEN_BYTES + over;
        char *json = ht_mem_alloc(len + 4096);
        char *text = ht_mem_alloc(len + 1);
        memset(text, 'a', len);
        text[len] = '\0';
        snprintf(json, len + 4096, ROOT("[]", PRE, MODEL("{\"%s\":0}", "[]", ""), ""), text);
        clean();
        put("tokenizer.json", json, strlen(json));
        assert_int_equal(load_and_build(&err), over ? HT_LIMIT : HT_OK);
        ht_mem_free(json);
        ht_mem_free(text);
    }
}

static void test_deep_json(void **state) {
    (void)state;
    char json[4 * HT_MAX_JSON_DEPTH];
    memset(json, '[', sizeof json);
    ht_err err = {0};
    clean();
    put("tokenizer.json", json, sizeof json);
    assert_int_equal(load_and_build(&err), HT_LIMIT);
}

static void test_missing_file(void **state) {
    (void)state;
    ht_err err = {0};
    clean();
    assert_int_equal(load_and_build(&err), HT_NOTFOUND);
    assert_non_null(strstr(err.what, "tokenizer.json"));
}

static void test_pre_override(void **state) {
    (void)state;
    ht_err err = {0};
    struct ht_hf_vocab *hf;
    clean();
    put("tokenizer.json", WITH_PRE("{\"type\":\"Whitespace\"}"),
        strlen(WITH_PRE("{\"type\":\"Whitespace\"}")));
    ASSERT_OK(ht_hf_vocab_load(folder, "starcoder", &hf, &err), &err);
    assert_string_equal(ht_hf_vocab_view(hf)->pre, "starcoder"); /* the alias, as asked for */
    ht_hf_vocab_free(hf);
    assert_int_equal(ht_hf_vocab_load(folder, "gpt2", &hf, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "did you mean gpt-2"));
}

/* Every prefix of a sound file is refused, and nothing else happens. */
static void test_truncated(void **state) {
    (void)state;
    clean();
    for (size_t len = 0; len < strlen(GOOD); len++) {
        ht_err err = {0};
        put("tokenizer.json", GOOD, len);
        assert_int_equal(load_and_build(&err), HT_FORMAT);
    }
}

/* Each allocation in turn fails: HT_NOMEM, no leak (the sanitizer build watches), no crash. */
static void test_no_memory(void **state) {
    (void)state;
    struct ht_hf_vocab *hf =
        load(GOOD, "tokenizer_config.json", "{\"bos_token\":\"<s>\",\"chat_template\":\"x\"}");
    ht_hf_vocab_free(hf);
    put("generation_config.json", "{\"eos_token_id\":[7,9]}", strlen("{\"eos_token_id\":[7,9]}"));
    size_t n = 0;
    for (;; n++) {
        ht_err err = {0};
        ht_mem_fail_at(n + 1, 1);
        ht_status status = load_and_build(&err);
        ht_mem_fail_at(0, 0);
        if (status == HT_OK) {
            break;
        }
        assert_int_equal(status, HT_NOMEM);
        assert_int_equal(err.code, HT_NOMEM);
    }
    assert_true(n > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_and_merges), cmocka_unit_test(test_missing_bytes),
        cmocka_unit_test(test_control_by_looks),  cmocka_unit_test(test_side_files),
        cmocka_unit_test(test_post_processor),    cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_long_token),        cmocka_unit_test(test_deep_json),
        cmocka_unit_test(test_missing_file),      cmocka_unit_test(test_pre_override),
        cmocka_unit_test(test_truncated),         cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("token_hf", tests, make_folder, drop_folder);
}
