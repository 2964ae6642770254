/* Calibration data: kinds of sources, filters and their counts, shares, sampling, texts that must stay
 * unseen, text of the model's own; the same windows for any number of threads; bad input is refused with its
 * place. */
#include "test.h"

#include <math.h>

#include "calib/data.h"
#include "flow_test.h"
#include "io/bytes.h"
#include "token/chat.h"

#define STORY HT_MODEL_DIR "/text/persuasion.txt"
#define WINDOW 64u

static struct ht_model *model;

static int open_model(void **state) {
    ht_err err = {0};
    return setup(state) != 0 || ht_model_load(TINY, &model, &err) != HT_OK ? -1 : 0;
}

static int close_model(void **state) {
    ht_model_unload(model);
    return teardown(state);
}

static const char *put(const struct fixture *f, const char *name, const void *data, size_t len) {
    const char *path = in_dir(f, name);
    ht_err err = {0};
    ASSERT_OK(ht_write_file(path, data, len, true, &err), &err);
    return path;
}

static const char *put_text(const struct fixture *f, const char *name, const char *text) {
    return put(f, name, text, strlen(text));
}

/* Bytes [from, from + len) of a novel. */
static const char *put_story(const struct fixture *f, const char *name, size_t from, size_t len) {
    char *data;
    size_t n;
    ht_err err = {0};
    ASSERT_OK(ht_read_file(STORY, 1u << 24, &data, &n, &err), &err);
    assert_true(from + len <= n);
    const char *path = put(f, name, data + from, len);
    ht_mem_free(data);
    return path;
}

struct result {
    struct ht_calib_windows w;
    json_t *record;
    ht_status status;
    ht_err err;
};

static struct result take(const struct fixture *f, struct ht_calib_data_options o, const char *const *sources,
                          size_t n) {
    struct result r = {.status = HT_OK};
    o.sources = sources;
    o.n_sources = n;
    o.window = o.window != 0 ? o.window : WINDOW;
    r.status = ht_calib_data(f->ctx, model, &o, &r.w, &r.record, &r.err);
    assert_true((r.status == HT_OK) == (r.record != NULL) && (r.status == HT_OK) == (r.w.ids != NULL));
    return r;
}

static void drop(struct result *r) {
    ht_calib_windows_deinit(&r->w);
    json_decref(r->record);
}

static uint64_t count_of(const struct result *r, size_t source, const char *key) {
    const json_t *s = json_array_get(json_object_get(r->record, "sources"), source);
    const json_t *v = json_object_get(s, key);
    v = v != NULL ? v : json_object_get(json_object_get(s, "dropped"), key);
    assert_true(json_is_integer(v));
    return (uint64_t)json_integer_value(v);
}

static void refused(const struct fixture *f, struct ht_calib_data_options o, const char *source,
                    ht_status status, const char *says) {
    struct result r = take(f, o, &source, 1);
    assert_int_equal(r.status, status);
    if (strstr(r.err.msg, says) == NULL) {
        fail_msg("'%s' lacks '%s'", r.err.msg, says);
    }
}

static const struct ht_calib_data_options plain = {.seed = 1};

/* One text in order gives what the plain reader gives. */
static void test_text(void **state) {
    const struct fixture *f = *state;
    ht_err err = {0};
    const char *text = put_story(f, "a.txt", 0, 6000);
    struct result r = take(f, plain, &text, 1);
    struct ht_calib_windows w;
    ASSERT_OK(r.status, &r.err);
    ASSERT_OK(ht_calib_windows(model, &text, 1, 0, WINDOW, &w, &err), &err);
    assert_true(r.w.n == w.n && w.n > 10);
    assert_memory_equal(r.w.ids, w.ids, w.n * WINDOW * sizeof *w.ids);
    assert_true(count_of(&r, 0, "windows") == w.n && count_of(&r, 0, "taken") == w.n);
    assert_int_equal(count_of(&r, 0, "tokens"), w.n * WINDOW + count_of(&r, 0, "rest_tokens"));
    ht_calib_windows_deinit(&w);
    drop(&r);
    /* Asked for less: the first windows. */
    struct ht_calib_data_options o = plain;
    o.tokens = 5 * WINDOW + 3;
    struct result less = take(f, o, &text, 1);
    assert_true(less.w.n == 5 &&
                json_is_true(json_object_get(json_array_get(json_object_get(less.record, "sources"), 0),
                                             "read_in_part")));
    drop(&less);
}

/* ---- rows and ids ---- */

static void test_rows(void **state) {
    const struct fixture *f = *state;
    struct ht_ids ids = {0};
    ht_err err = {0};
    const struct ht_vocab *v = ht_tokenizer_vocab(model->tokenizer);
    char rows[8192] = "";
    size_t n = 0;
    for (int i = 0; i < 40; i++) {
        char text[128];
        int len = snprintf(text, sizeof text, "She had %d sisters, and number %d was called Anne.", i, 3 * i);
        n += (size_t)snprintf(rows + n, sizeof rows - n, i % 2 ? "{\"text\": \"%s\"}\n\n" : "\"%s\"\r\n",
                              text);
        ASSERT_OK(ht_tokenizer_encode(model->tokenizer, text, (size_t)len, false, &ids, NULL, &err), &err);
        ASSERT_OK(ht_ids_push(&ids, v->eos, &err), &err);
    }
    rows[n] = '\0';
    const char *path = put_text(f, "rows.jsonl", rows);
    struct result r = take(f, plain, &path, 1);
    ASSERT_OK(r.status, &r.err);
    assert_true(count_of(&r, 0, "documents") == 40 &&
                r.w.n == (ids.n + (v->add_bos && v->bos >= 0)) / WINDOW);
    size_t shift = v->add_bos && v->bos >= 0; /* a window's first place is then BOS */
    for (uint64_t i = 0; i < r.w.n * WINDOW; i++) {
        assert_true(r.w.ids[i] == (i < shift ? v->bos : ids.ids[i - shift]) || (shift && i % WINDOW == 0));
    }
    drop(&r);
    /* The same as ids, in four containers. */
    uint64_t whole = ids.n / WINDOW * WINDOW;
    for (int kind = 0; kind < 4; kind++) {
        unsigned char *file = ht_mem_calloc(1, 200 + whole * 8);
        char *text = (char *)file;
        size_t at = 0, bytes = kind == 0 ? 4 : kind == 1 ? 2 : 8;
        const char *name = kind == 2 ? "ids.safetensors" : kind == 3 ? "ids.jsonl" : "ids.npy";
        if (kind < 2) {
            memcpy(file, "\x93NUMPY\x01\x00", 8);
            int len =
                snprintf(text + 10, 128, "{'descr': '<%s', 'fortran_order': False, 'shape': (%llu, %u), }\n",
                         kind == 0 ? "i4" : "u2", (unsigned long long)(whole / WINDOW), WINDOW);
            ht_le_store(file + 8, (uint64_t)len, 2);
            at = 10 + (size_t)len;
        } else if (kind == 2) {
            int len =
                snprintf(text + 8, 160,
                         "{\"input_ids\":{\"dtype\":\"I64\",\"shape\":[%llu],\"data_offsets\":[0,%llu]}}",
                         (unsigned long long)whole, (unsigned long long)whole * 8);
            ht_le_store(file, (uint64_t)len, 8);
            at = 8 + (size_t)len;
        } else {
            at = (size_t)snprintf(text, 32, "{\"input_ids\": [");
        }
        for (uint64_t i = 0; i < whole; i++) {
            if (kind < 3) {
                ht_le_store(file + at, (uint64_t)ids.ids[i], (int)bytes);
                at += bytes;
            } else {
                at += (size_t)snprintf(text + at, 12, "%s%d", i > 0 ? "," : "", ids.ids[i]);
            }
        }
        at += kind == 3 ? (size_t)snprintf(text + at, 12, "]}") : 0;
        path = put(f, name, file, at);
        struct ht_calib_data_options o = plain;
        o.no_filters = true;
        r = take(f, o, &path, 1);
        ASSERT_OK(r.status, &r.err);
        assert_int_equal(r.w.n, whole / WINDOW);
        for (uint64_t i = 0; i < whole; i++) { /* of JSONL the first place may be BOS */
            assert_true(r.w.ids[i] == ids.ids[i] || (kind == 3 && v->add_bos && i % WINDOW == 0));
        }
        drop(&r);
        /* Cut short anywhere it is refused, never read. */
        for (size_t cut = 0; kind < 3 && cut < at; cut += cut < 100 ? 1 : 97) {
            path = put(f, name, file, cut);
            r = take(f, o, &path, 1);
            assert_true(r.status != HT_OK && r.err.msg[0] != '\0');
        }
        ht_mem_free(file);
    }
    ht_mem_free(ids.ids);
}

static void test_chats(void **state) {
    const struct fixture *f = *state;
    static const char row[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"What is the time?\"}, "
                              "{\"role\": \"assistant\", \"content\": \"It is late, and she is tired.\"}]}\n";
    const struct ht_vocab *v = ht_tokenizer_vocab(model->tokenizer);
    const char *path = put_text(f, "chat.jsonl", row);
    struct ht_calib_data_options o = plain;
    o.window = 8;
    if (v->chat_template == NULL || ht_chat_match(v->chat_template) == NULL) {
        refused(f, o, path, HT_UNSUPPORTED, "line 1: ");
        return;
    }
    struct result r = take(f, o, &path, 1);
    ASSERT_OK(r.status, &r.err);
    drop(&r);
}

static void test_bad_input(void **state) {
    const struct fixture *f = *state;
    static const struct {
        const char *name, *text;
        ht_status status;
        const char *says;
    } rows[] = {
        {"x.jsonl", "{\"text\": \"a\"}\n{\"text\": \n", HT_FORMAT, "line 2: not valid JSON"},
        {"x.jsonl", "\n\n{\"body\": \"a\"}\n", HT_FORMAT, "line 3: expected {\"text\""},
        {"x.jsonl", "7\n", HT_FORMAT, "line 1: expected"},
        {"x.jsonl", "\"a\", \"b\"\n", HT_FORMAT, "line 1: expected"},
        {"x.jsonl", "{\"text\": 3}\n", HT_FORMAT, "line 1: expected"},
        {"x.jsonl", "{\"input_ids\": [1, 99999999]}\n", HT_FORMAT, "line 1: token 1"},
        {"x.jsonl", "{\"input_ids\": [-1]}\n", HT_FORMAT, "line 1: token 0"},
        {"x.jsonl", "{\"messages\": []}\n", HT_FORMAT, "line 1: \"messages\" is empty"},
        {"x.jsonl", "{\"messages\": [{\"role\": \"user\"}]}\n", HT_FORMAT, "line 1: message 0"},
        {"x.jsonl", "{\"text\": \"a\", \"text\": \"b\"}\n", HT_FORMAT, "line 1: "},
        {"x.jsonl", "", HT_INVAL, "empty"},
        {"x.txt", "", HT_INVAL, "empty"},
        {"x.txt", "a few words", HT_INVAL, "one window needs 64"},
        {"x.txt", "\xff\xfe\xff\xfe\xff\xfe abc", HT_FORMAT, "not UTF-8"},
        {"x.npy", "not an array at all", HT_FORMAT, "NUMPY"},
        {"x.safetensors", "not tensors at all", HT_LIMIT, "header"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        refused(f, plain, put_text(f, rows[i].name, rows[i].text), rows[i].status, rows[i].says);
    }
    refused(f, plain, put(f, "x.txt", "text\0more", 9), HT_FORMAT, "zero byte");
    refused(f, plain, in_dir(f, "none.txt"), HT_NOTFOUND, "");
    struct ht_calib_data_options o = plain;
    o.tokens = 10;
    refused(f, o, put_text(f, "x.txt", "abc"), HT_INVAL, "do not fill one window");
    o = plain;
    o.sampling = "divers";
    refused(f, o, put_text(f, "x.txt", "abc"), HT_INVAL, "did you mean diverse");
    o = plain;
    refused(f, o, HT_CALIB_SELF, HT_INVAL, "say how many");
    o.weights = (const uint32_t[]){1, 2};
    o.n_weights = 2;
    o.tokens = 640;
    refused(f, o, put_text(f, "x.txt", "abc"), HT_INVAL, "2 weights for 1 sources");
}

/* ---- filters ---- */

static void test_filters(void **state) {
    const struct fixture *f = *state;
    char *text = ht_mem_calloc(1, 60000), *data;
    size_t n, at = 0;
    ht_err err = {0};
    ASSERT_OK(ht_read_file(STORY, 1u << 24, &data, &n, &err), &err);
    for (int i = 0; i < 300; i++) { /* one line again and again */
        at += (size_t)snprintf(text + at, 60000 - at, "I am the very same line. ");
    }
    memcpy(text + at, data, 4000);
    at += 4000;
    for (int i = 0; i < 600; i++) { /* control characters, all different in their surroundings */
        text[at++] = (char)(1 + i % 7);
        text[at++] = data[5000 + i];
    }
    const char *path = put(f, "mixed.txt", text, at);
    struct result r = take(f, plain, &path, 1);
    ASSERT_OK(r.status, &r.err);
    uint64_t all = count_of(&r, 0, "windows"), repeated = count_of(&r, 0, "repeated"),
             none = count_of(&r, 0, "no_text");
    assert_true(repeated >= 20 && none >= 5);
    assert_int_equal(r.w.n + repeated + none + count_of(&r, 0, "duplicate"), all);
    assert_true(r.w.n >= 10);
    drop(&r);
    struct ht_calib_data_options o = plain;
    o.no_filters = true;
    r = take(f, o, &path, 1);
    assert_true(r.status == HT_OK && r.w.n == all);
    drop(&r);
    /* The same file twice: the second gives nothing new. */
    const char *twice[] = {put_story(f, "a.txt", 0, 6000), put_story(f, "b.txt", 0, 6000)};
    r = take(f, plain, twice, 2);
    ASSERT_OK(r.status, &r.err);
    assert_int_equal(count_of(&r, 1, "duplicate"), count_of(&r, 0, "windows"));
    assert_int_equal(count_of(&r, 1, "taken"), 0);
    drop(&r);
    refused(f, plain, put(f, "bad.txt", text, 25 * 300), HT_INVAL, "all of");
    /* Rows of a few tokens. */
    char rows[100 * 16];
    for (size_t i = 0; i < 100; i++) {
        memcpy(rows + 16 * i, "{\"text\": \"Oh.\"}\n", 16);
    }
    path = put(f, "short.jsonl", rows, sizeof rows);
    refused(f, plain, path, HT_INVAL, "100 of 100 rows were dropped, since they have fewer than 8 tokens: --no-filters");
    struct ht_calib_data_options keep = plain;
    keep.no_filters = true;
    r = take(f, keep, &path, 1);
    ASSERT_OK(r.status, &r.err);
    assert_in_range(count_of(&r, 0, "taken"), 1, 100);
    drop(&r);
    ht_mem_free(text);
    ht_mem_free(data);
}

static void test_not_in(void **state) {
    const struct fixture *f = *state;
    const char *calib = put_story(f, "calib.txt", 0, 12000), *far = put_story(f, "far.txt", 100000, 12000);
    const char *near[] = {put_story(f, "near.txt", 9000, 8000)};
    struct ht_calib_data_options o = plain;
    o.not_in = near;
    o.n_not_in = 1;
    refused(f, o, calib, HT_INVAL, "must stay unseen");
    struct result r = take(f, o, &far, 1);
    ASSERT_OK(r.status, &r.err);
    assert_int_equal(count_of(&r, 0, "overlap"), 0);
    assert_int_equal(json_array_size(json_object_get(r.record, "not_in")), 1);
    drop(&r);
    o.drop_overlap = true;
    r = take(f, o, &calib, 1);
    ASSERT_OK(r.status, &r.err);
    uint64_t gone = count_of(&r, 0, "overlap"), all = count_of(&r, 0, "windows");
    assert_true(gone >= all / 5 && gone <= all / 3); /* a quarter of the text, and the window at its edge */
    assert_int_equal(r.w.n, all - gone);
    drop(&r);
}

/* A file carries a sketch of its calibration text; evaluating on that text is told, on other text it is not.
 */
static void test_calibrated_text_is_told(void **state) {
    const struct fixture *f = *state;
    const char *calib = put_story(f, "calib.txt", 0, 12000), *far = put_story(f, "far.txt", 100000, 12000);
    const char *half = put_story(f, "half.txt", 6000, 12000), *out = in_dir(f, "out.gguf");
    ht_err err = {0};
    ht_quantize_options q;
    ht_quantize_options_defaults(&q);
    q.input = TINY;
    q.output = out;
    q.format = "q4_0";
    q.calib = &calib;
    q.n_calib = 1;
    q.ctx = WINDOW;
    q.calib_tokens = 0;
    ASSERT_OK(ht_quantize(f->ctx, &q, NULL, &err), &err);
    const char *texts[] = {calib, half, far};
    double share[3];
    for (int i = 0; i < 3; i++) {
        ht_eval_options e;
        char *json = NULL;
        ht_eval_options_defaults(&e);
        e.model = out;
        e.texts = &texts[i];
        e.n_texts = 1;
        e.ctx = WINDOW;
        ASSERT_OK(ht_eval(f->ctx, &e, NULL, &json, &err), &err);
        json_t *record = parse(json), *row = json_array_get(json_object_get(record, "texts"), 0);
        share[i] = json_number_value(json_object_get(row, "calibration_overlap"));
        const char *last = json_string_value(json_array_get(
            json_object_get(record, "warnings"), json_array_size(json_object_get(record, "warnings")) - 1));
        assert_true((last != NULL && strstr(last, "calibrated on") != NULL) == (i < 2));
        json_decref(record);
    }
    /* Windows cut sequences at their edges: 51 of 64 are whole. */
    assert_true(share[0] > 0.6 && share[1] > 0.25 && share[1] < 0.6 && share[2] == 0);
}

/* ---- shares and sampling ---- */

static void test_shares(void **state) {
    static const struct {
        uint64_t total, there[3], want[3];
        uint32_t weights[3];
    } rows[] = {
        {9, {100, 100, 100}, {3, 3, 3}, {1, 1, 1}}, {10, {100, 100, 100}, {4, 3, 3}, {1, 1, 1}},
        {8, {100, 100, 100}, {6, 2, 0}, {3, 1, 0}}, {12, {2, 100, 100}, {2, 5, 5}, {1, 1, 1}},
        {12, {2, 1, 3}, {2, 1, 3}, {1, 1, 1}},      {0, {5, 5, 5}, {0, 0, 0}, {1, 1, 1}},
        {6, {0, 0, 9}, {0, 0, 6}, {5, 5, 1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t got[3];
        ht_data_shares(rows[i].total, rows[i].there, rows[i].weights, 3, got);
        for (int k = 0; k < 3; k++) {
            assert_int_equal(got[k], rows[i].want[k]);
        }
    }
    const struct fixture *f = *state;
    const char *two[] = {put_story(f, "a.txt", 0, 20000), put_story(f, "b.txt", 30000, 20000)};
    struct ht_calib_data_options o = plain;
    o.tokens = 16 * WINDOW;
    o.weights = (const uint32_t[]){3, 1};
    o.n_weights = 2;
    struct result r = take(f, o, two, 2);
    ASSERT_OK(r.status, &r.err);
    assert_true(count_of(&r, 0, "taken") == 12 && count_of(&r, 1, "taken") == 4);
    drop(&r);
}

/* Smallest distance between two of the windows, computed densely. */
static double closest(const int32_t *w, uint64_t k) {
    double least = 2;
    for (uint64_t i = 0; i < k; i++) {
        for (uint64_t j = i + 1; j < k; j++) {
            double common = 0;
            for (uint32_t a = 0; a < WINDOW; a++) { /* each different id of i once */
                double x = 0, y = 0;
                bool first = true;
                for (uint32_t b = 0; b < WINDOW; b++) {
                    first &= b >= a || w[i * WINDOW + b] != w[i * WINDOW + a];
                    x += w[i * WINDOW + b] == w[i * WINDOW + a];
                    y += w[j * WINDOW + b] == w[i * WINDOW + a];
                }
                common += first ? sqrt(x * y) / WINDOW : 0;
            }
            least = fmin(least, 1 - common);
        }
    }
    return least;
}

static void test_sampling(void **state) {
    struct fixture *f = *state;
    const char *text = put_story(f, "a.txt", 0, 40000);
    static const char *const names[] = {"sequential", "random", "diverse"};
    struct result r[3];
    for (int i = 0; i < 3; i++) {
        struct ht_calib_data_options o = plain;
        o.sampling = names[i];
        o.tokens = 8 * WINDOW;
        r[i] = take(f, o, &text, 1);
        ASSERT_OK(r[i].status, &r[i].err);
        assert_int_equal(r[i].w.n, 8);
        ht_context *own = f->ctx; /* one thread: the same */
        f->ctx = make_context(1, NULL, NULL);
        struct result one = take(f, o, &text, 1);
        ht_context_free(f->ctx);
        f->ctx = own;
        assert_memory_equal(one.w.ids, r[i].w.ids, 8 * WINDOW * sizeof(int32_t));
        drop(&one);
        o.seed = 2; /* another seed: others, but in order */
        one = take(f, o, &text, 1);
        assert_int_equal(memcmp(one.w.ids, r[i].w.ids, 8 * WINDOW * sizeof(int32_t)) == 0, i == 0);
        drop(&one);
    }
    assert_true(closest(r[2].w.ids, 8) > closest(r[0].w.ids, 8) &&
                closest(r[2].w.ids, 8) > closest(r[1].w.ids, 8));
    for (int i = 0; i < 3; i++) {
        drop(&r[i]);
    }
    /* Random is without repetition and reaches every window. */
    uint64_t hits[10] = {0}, picked[4];
    ht_err err = {0};
    for (uint64_t seed = 0; seed < 500; seed++) {
        ASSERT_OK(ht_pick_random(10, 4, seed, picked, &err), &err);
        for (int k = 0; k < 4; k++) {
            assert_true(picked[k] < 10 && (k == 0 || picked[k] > picked[k - 1]));
            hits[picked[k]]++;
        }
    }
    for (int i = 0; i < 10; i++) {
        assert_in_range(hits[i], 150, 250); /* 200 expected, 11 standard deviation */
    }
}

static void test_self(void **state) {
    struct fixture *f = *state;
    const char *self = HT_CALIB_SELF;
    struct ht_calib_data_options o = plain;
    o.tokens = 3 * 32;
    o.window = 32;
    struct result a = take(f, o, &self, 1);
    ASSERT_OK(a.status, &a.err);
    assert_true(a.w.n >= 1 && count_of(&a, 0, "windows") == 3);
    ht_context *own = f->ctx;
    f->ctx = make_context(1, NULL, NULL);
    struct result b = take(f, o, &self, 1);
    ht_context_free(f->ctx);
    f->ctx = own;
    assert_true(b.w.n == a.w.n);
    assert_memory_equal(a.w.ids, b.w.ids, a.w.n * 32 * sizeof(int32_t));
    drop(&b);
    o.seed = 9;
    b = take(f, o, &self, 1);
    assert_true(b.status == HT_OK && memcmp(a.w.ids, b.w.ids, 32 * sizeof(int32_t)) != 0);
    drop(&a);
    drop(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_chats),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_filters),
        cmocka_unit_test(test_not_in),
        cmocka_unit_test(test_calibrated_text_is_told),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_self),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
