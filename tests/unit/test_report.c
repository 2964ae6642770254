#include "test.h"

#include <ctype.h>
#include <math.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "flow/flow.h"
#include "flow/report.h"

static char folder[] = "/tmp/ht-report-XXXXXX";
static char paths[16][96];
static size_t n_paths;

static int setup(void **state) {
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static void forget(void) {
    for (size_t i = 0; i < n_paths; i++) {
        unlink(paths[i]);
    }
    n_paths = 0;
}

static int teardown(void **state) {
    (void)state;
    forget();
    return rmdir(folder);
}

static const char *record(const char *json) {
    char *path = paths[n_paths];
    snprintf(path, sizeof paths[0], "%s/r%zu.json", folder, n_paths++);
    ht_err err = {0};
    ASSERT_OK(ht_write_file(path, json, strlen(json), true, &err), &err);
    return path;
}

static ht_status render(const char *title, char **html, char **json, ht_err *err) {
    const char *records[16];
    char out[96];
    for (size_t i = 0; i < n_paths; i++) {
        records[i] = paths[i];
    }
    snprintf(out, sizeof out, "%s/out.html", folder);
    ht_status status = ht_flow_report(NULL, title, records, n_paths, out, true, json, err);
    if (status == HT_OK && html != NULL) {
        size_t len;
        ASSERT_OK(ht_read_file(out, 1u << 24, html, &len, err), err);
        assert_int_equal(strlen(*html), len);
    }
    unlink(out);
    return status;
}

/* An independent look at the page: every element is closed in order, every attribute is quoted, no character
 * data holds a bare '<', and no address of another place occurs. */
struct scan {
    const char *p;
    char stack[64][24];
    int depth, elements;
};

static bool is_void(const char *tag) {
    static const char *const names[] = {"meta", "br", "link", "img", "hr", "input"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(tag, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void scan_tag(struct scan *s) {
    bool closing = s->p[1] == '/', self = false;
    char tag[24] = "";
    size_t n = 0;
    for (s->p += closing ? 2 : 1; isalnum((unsigned char)*s->p) && n < sizeof tag - 1; s->p++) {
        tag[n++] = *s->p;
    }
    assert_true(n > 0);
    while (*s->p != '>') {
        assert_true(*s->p != 0 && *s->p != '<');
        assert_true(strncmp(s->p, "src", 3) != 0 && strncmp(s->p, "href", 4) != 0 && strncmp(s->p, " on", 3) != 0);
        if (*s->p == '"') {
            s->p = strchr(s->p + 1, '"');
            assert_non_null(s->p);
        }
        self = *s->p == '/';
        s->p++;
    }
    s->p++;
    if (closing) {
        assert_true(s->depth > 0);
        assert_string_equal(tag, s->stack[--s->depth]);
    } else if (!self && !is_void(tag)) {
        assert_true(s->depth < 64);
        memcpy(s->stack[s->depth++], tag, sizeof tag);
        s->elements++;
        if (strcmp(tag, "style") == 0 || strcmp(tag, "script") == 0) {
            s->p = strstr(s->p, "</");
            assert_non_null(s->p);
        }
    }
}

static int check_page(const char *html) {
    struct scan s = {.p = html};
    assert_memory_equal(html, "<!doctype html>\n", 16);
    s.p += 16;
    while (*s.p) {
        if (*s.p == '<') {
            scan_tag(&s);
        } else if (*s.p == '&') {
            size_t n = strspn(s.p + 1, "abcdefghijklmnopqrstuvwxyz0123456789#");
            assert_true(n > 0 && s.p[1 + n] == ';');
            s.p += n;
        } else {
            s.p++;
        }
    }
    assert_int_equal(s.depth, 0);
    assert_null(strstr(html, "http://"));
    assert_null(strstr(html, "https://"));
    assert_null(strstr(html, "\"nan"));
    assert_null(strstr(html, "\"-nan"));
    assert_null(strstr(html, ">nan"));
    assert_null(strstr(html, " nan"));
    return s.elements;
}

#define EVAL(path, bytes, bits, ppl, kld)                                                                            \
    "{\"schema\":\"halftone.eval/1\",\"model\":{\"path\":\"" path "\",\"file_bytes\":" bytes                         \
    ",\"bits_per_weight\":" bits "},\"reference\":{\"path\":\"ref.gguf\",\"file_bytes\":115000000,"                  \
    "\"bits_per_weight\":16.0},\"ctx\":512,\"convention\":\"llama\",\"math\":\"exact\",\"windows\":24,"              \
    "\"perplexity\":{\"mean\":" ppl ",\"low\":20.0,\"high\":31.0},"                                                  \
    "\"reference_perplexity\":{\"mean\":24.65,\"low\":20.1,\"high\":30.2},"                                          \
    "\"perplexity_ratio\":{\"mean\":1.012,\"low\":1.009,\"high\":1.015},"                                            \
    "\"kld\":{\"mean\":" kld ",\"low\":" kld ",\"high\":" kld ",\"p99\":0.25,\"max\":3.5},"                          \
    "\"same_top\":{\"mean\":0.91,\"low\":0.9,\"high\":0.92},\"tokens_per_s\":512.5,"                                 \
    "\"texts\":[{\"path\":\"wiki.test.raw\",\"sha256\":\"00ff\",\"windows\":24}]}"

static void test_page_of_several_files(void **state) {
    (void)state;
    ht_err err = {0};
    char *html, *json;
    record(EVAL("out/m-q4.gguf", "41339104", "5.8", "25.1", "0.0108"));
    record(EVAL("out/m-q4_0.gguf", "42339104", "5.9", "25.1", "0.0191"));
    record(EVAL("out/m-q2.gguf", "33981664", "4.8", "27.2", "0.1255"));
    record("{\"schema\":\"halftone.quantize/1\",\"input\":{\"path\":\"ref.gguf\"},\"output\":{\"path\":\"m-q4.gguf\"},\"format\":\"Q4_K_M\","
           "\"method\":\"imatrix\",\"bytes\":41339104,\"tensors\":[{\"name\":\"blk.0.attn_q.weight\",\"role\":"
           "\"attn_q\",\"layer\":0,\"format\":\"q5_0\",\"wanted\":\"q4_k\",\"bytes\":1000,\"rel_error_db\":-21.5},"
           "{\"name\":\"blk.1.attn_q.weight\",\"role\":\"attn_q\",\"layer\":1,\"format\":\"q4_k\",\"bytes\":1000,"
           "\"rel_error_db\":-19.5}]}");
    record("{\"schema\":\"halftone.run/1\",\"model\":\"out/m-q4.gguf\",\"decode_tokens_per_s\":123.4,\"tokens\":64}");
    record("{\"schema\":\"halftone.imatrix/1\",\"output\":\"im.gguf\",\"texts\":[\"wiki.valid.raw\"],\"tokens\":20480}");
    ASSERT_OK(render("Three files", &html, &json, &err), &err);
    assert_true(check_page(html) > 150);
    assert_non_null(strstr(html, "<h1>Three files</h1>"));
    assert_non_null(strstr(html, "1 of 2 tensors are stored in another format than asked for: q4_k -&gt; q5_0 (1)"));
    assert_non_null(strstr(html, "very small loss"));
    assert_non_null(strstr(html, "moderate loss"));
    assert_non_null(strstr(html, "both smaller and closer"));
    ht_mem_free(html);

    json_t *j;
    ASSERT_OK(ht_json_parse(json, strlen(json), 0, "json", &j, &err), &err);
    ht_mem_free(json);
    const json_t *rows = json_object_get(json_object_get(j, "table"), "rows");
    assert_int_equal(json_array_size(rows), 4); /* the reference first, then by size */
    static const char *const names[] = {"ref", "m-q4_0", "m-q4", "m-q2"};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(json_string_value(json_array_get(json_array_get(rows, i), 0)), names[i]);
        assert_int_equal(json_array_size(json_array_get(rows, i)),
                         json_array_size(json_object_get(json_object_get(j, "table"), "columns")));
    }
    const char *markdown = json_string_value(json_object_get(j, "markdown"));
    assert_non_null(strstr(markdown, "| ref (reference) | "));
    assert_non_null(strstr(markdown, "| m-q4 | Q4_K_M, imatrix | 41.3 MB | 5.80 | 25.10 ["));
    assert_non_null(strstr(markdown, "| 123 |"));
    json_decref(j);
    forget();
}

#define ROUND(nearest, loss, more)                                                                                   \
    "\"round\":{\"loss_nearest\":" nearest ",\"loss\":" loss                                                          \
    ",\"output_error_db\":-20.5,\"tokens\":1024,\"damping\":0.01," more "\"seconds\":0.5}"

/* The record of one file, as it lies beside it: totals, figures and a table of what happened to each matrix. */
static void test_page_of_one_record(void **state) {
    (void)state;
    ht_err err = {0};
    char *html;
    record("{\"schema\":\"halftone.quantize/1\",\"output\":{\"path\":\"m.gguf\"},\"format\":\"q4_0\",\"method\":\"gptq\","
           "\"bytes\":1000,\"recipe\":\"name: <gptq>\",\"calibration\":{\"tokens\":1024,\"win<dow\":512},\"tensors\":["
           "{\"name\":\"a\",\"role\":\"attn_q\",\"layer\":0,\"format\":\"q4_0\",\"bytes\":1,"
           ROUND("100", "10", "\"damping_raised\":2,") "},"
           "{\"name\":\"b\",\"role\":\"attn_q\",\"layer\":1,\"format\":\"q4_0\",\"bytes\":1,"
           ROUND("50", "50", "\"rows_kept_nearest\":7,") "}]}");
    ASSERT_OK(render("one", &html, NULL, &err), &err);
    check_page(html);
    /* sqrt(10/100 * 50/50) = 0.32 */
    assert_non_null(strstr(html, "2 matrices, one after the other: squared error of their outputs 0.32 times that of "
                                 "rounding to nearest (-5.0 dB, mean over matrices); 1024 tokens seen; damping raised "
                                 "2 times; 7 rows kept as rounded to nearest, because nothing did better; 1.0 s"));
    assert_non_null(strstr(html, "a, q4_0: -10.0 dB"));
    assert_non_null(strstr(html, "b, q4_0: 0.0 dB"));
    assert_non_null(strstr(html, ">Kept nearest</th>"));
    assert_null(strstr(html, ">Saturated</th>")); /* none was */
    assert_non_null(strstr(html, "name: &lt;gptq&gt;"));
    assert_non_null(strstr(html, "win&lt;dow"));
    assert_non_null(strstr(html, "The loss was not measured"));
    ht_mem_free(html);
    forget();
}

static void test_hostile_names(void **state) {
    (void)state;
    ht_err err = {0};
    char *html;
    record(EVAL("y/<script>alert(1)</script>\\u0000<b>.gguf", "31339104", "4.8", "25.1", "0.0208"));
    record(EVAL("x/<script>alert(1)</script>|\\\"'\\u202e\\u0007&lt;\\n\\ud83d\\ude00.gguf", "41339104", "5.8", "25.1", "0.0108"));
    record("{\"schema\":\"halftone.quantize/1\",\"output\":\"</pre><img src=x onerror=alert(1)>\",\"format\":"
           "\"\\\"><svg/onload=alert(1)>\",\"method\":\"--><b>\",\"tensors\":[{\"name\":\"</td><i>\",\"role\":\"</text>\","
           "\"layer\":1e300,\"format\":\"'\\\"\",\"wanted\":\"<\",\"rel_error_db\":-3}],\"warnings\":[\"</ul><u>\"]}");
    ASSERT_OK(render("</title><script>\xff\"'&", &html, NULL, &err), &err);
    check_page(html);
    assert_null(strstr(html, "<script>alert"));
    assert_null(strstr(html, "<img"));
    assert_null(strstr(html, "<svg/"));
    assert_null(strstr(html, "<u>"));
    assert_non_null(strstr(html, "&lt;/title&gt;&lt;script&gt;?&quot;&#39;&amp;"));
    assert_non_null(strstr(html, "&lt;script&gt;alert(1)&lt;/script&gt;"));
    ht_mem_free(html);
    forget();
}

static void test_malformed_records(void **state) {
    (void)state;
    static const struct {
        const char *text;
        ht_status status;
        const char *says;
    } cases[] = {
        {"", HT_FORMAT, "not valid JSON"},
        {"[1]", HT_FORMAT, "\"schema\""},
        {"{}", HT_FORMAT, "\"schema\""},
        {"{\"schema\":1}", HT_FORMAT, "\"schema\""},
        {"{\"schema\":\"halftone.eval/2\"}", HT_UNSUPPORTED, "halftone.eval/2"},
        {"{\"schema\":\"other\"}", HT_UNSUPPORTED, "other"},
        {"{\"schema\":\"halftone.eval/1\"}", HT_FORMAT, "model.path"},
        {"{\"schema\":\"halftone.eval/1\",\"model\":{\"path\":\"a\"}}", HT_FORMAT, "perplexity.mean"},
        {"{\"schema\":\"halftone.eval/1\",\"model\":{\"path\":\"a\"},\"perplexity\":{\"mean\":\"7\"}}", HT_FORMAT,
         "perplexity.mean"},
        {"{\"schema\":\"halftone.eval/1\",\"model\":\"a\",\"perplexity\":{\"mean\":7},\"kld\":{\"mean\":-1}}", HT_FORMAT,
         "kld.mean"},
        {"{\"schema\":\"halftone.eval/1\",\"model\":\"a\",\"perplexity\":{\"mean\":7},\"texts\":{}}", HT_FORMAT, "texts"},
        {"{\"schema\":\"halftone.eval/1\",\"model\":\"a\",\"perplexity\":{\"mean\":7},\"kld\":{\"mean\":0.17,\"low\":5.2,"
         "\"high\":-0.19}}", HT_FORMAT, "key 'kld' of a halftone.eval/1 record: expected an interval, found low 5.2"},
        {"{\"schema\":\"halftone.eval/1\",\"model\":\"a\",\"perplexity\":{\"mean\":7,\"low\":8,\"high\":6}}", HT_FORMAT,
         "key 'perplexity'"},
        {"{\"schema\":\"halftone.quantize/1\"}", HT_FORMAT, "output"},
        {"{\"schema\":\"halftone.quantize/1\",\"output\":\"o\",\"tensors\":3}", HT_FORMAT, "tensors"},
        {"{\"schema\":\"halftone.run/1\",\"model\":5}", HT_FORMAT, "model"},
        {"{\"schema\":\"halftone.imatrix/1\"}", HT_FORMAT, "output"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ht_err err = {0};
        record(cases[i].text);
        assert_int_equal(render("t", NULL, NULL, &err), cases[i].status);
        assert_non_null(strstr(err.msg, cases[i].says));
        assert_non_null(strstr(err.what, "r0.json"));
        forget();
    }
    ht_err err = {0};
    assert_int_equal(render("t", NULL, NULL, &err), HT_INVAL); /* no records */
}

/* Everything but the required fields may be missing, or of another type, or extreme. */
static void test_tolerated_records(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"schema\":\"halftone.eval/1\",\"model\":\"a.gguf\",\"perplexity\":{\"mean\":7}}",
        "{\"schema\":\"halftone.eval/1\",\"model\":\"a.gguf\",\"perplexity\":{\"mean\":1e300},\"kld\":{\"mean\":1e-300,"
        "\"low\":0,\"high\":1e300},\"same_top\":[],\"ctx\":\"x\",\"warnings\":{\"a\":[]},\"texts\":[1,\"t\",{}]}",
        "{\"schema\":\"halftone.eval/1\",\"model\":{\"path\":\"a\",\"bits_per_weight\":0,\"formats\":7},"
        "\"perplexity\":{\"mean\":7,\"low\":null,\"high\":null},\"kld\":{\"mean\":0,\"low\":0,\"high\":0},"
        "\"reference\":{\"path\":\"a\"}}",
        "{\"schema\":\"halftone.quantize/1\",\"output\":\"\",\"tensors\":[1,{},{\"role\":7,\"rel_error_db\":\"x\"},"
        "{\"role\":\"r\",\"rel_error_db\":0,\"layer\":-7}]}",
        "{\"schema\":\"halftone.quantize/1\",\"output\":\"o\",\"tensors\":[{\"role\":\"r\",\"rel_error_db\":1e308},"
        "{\"role\":\"r\",\"rel_error_db\":-1e308},{\"role\":\"r\",\"rel_error_db\":1}]}",
        "{\"schema\":\"halftone.eval/1\",\"model\":\"a.gguf\",\"perplexity\":{\"mean\":7},\"kld\":{\"mean\":0.17,\"low\":5,"
        "\"high\":6}}",
        "{\"schema\":\"halftone.run/1\",\"model\":{\"path\":\"\"},\"decode_tokens_per_s\":-1}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ht_err err = {0};
        char *html, *json;
        record(texts[i]);
        ASSERT_OK(render(NULL, &html, &json, &err), &err);
        check_page(html);
        ht_mem_free(html);
        ht_mem_free(json);
        forget();
    }
}

/* Rows whose numbers cannot be: figures leave them out, and draw the sound one beside them. */
static void test_figures_of_impossible_numbers(void **state) {
    (void)state;
    static const double values[] = {-INFINITY, -1e308, -1, -0.0, 0, 5e-324, 1e-300, 1e-12, 0.17, 5, 1e300, 1.7e308, INFINITY,
                                    NAN};
    enum { N = sizeof values / sizeof values[0] };
    struct ht_report_row rows[2] = {{.name = "bad", .path = "bad"}, {.name = "sound", .path = "sound"}};
    struct ht_report report = {.rows = rows};
    struct ht_buf out;
    ht_buf_init(&out, 0);
    rows[1].bits = 4;
    rows[1].bytes = 1e9;
    rows[1].kld = (ht_estimate){0.1, 0.09, 0.11};
    for (size_t i = 0; i < (size_t)N * N * N; i++) {
        rows[0].kld = (ht_estimate){values[i % N], values[i / N % N], values[i / N / N]};
        for (size_t k = 0; k < 3; k++) { /* one field at a time, the others sound */
            rows[0].kld.mean = k > 0 ? 0.17 : rows[0].kld.mean;
            rows[0].bits = k == 1 ? values[i % N] : 5;
            rows[0].bytes = k == 2 ? values[i % N] : 2e9;
            rows[1].bits = k == 2 ? NAN : 4; /* then sizes are the axis */
            report.n_rows = 1 + i % 2;
            ht_buf_clear(&out);
            ht_report_scatter(&report, &out);
            ht_report_bars(&report, &out);
            assert_true(ht_buf_ok(&out));
            assert_true(out.len == 0 || (strstr(out.data, "\"nan") == NULL && strstr(out.data, "\"-nan") == NULL &&
                                         strstr(out.data, "inf\"") == NULL));
            assert_true(report.n_rows == 1 || strstr(out.data, ">sound</text>") != NULL);
        }
    }
    ht_buf_deinit(&out);
}

static void test_output_is_kept(void **state) {
    (void)state;
    ht_err err = {0};
    char out[96];
    snprintf(out, sizeof out, "%s/kept.html", folder);
    ASSERT_OK(ht_write_file(out, "mine", 4, false, &err), &err);
    const char *r = record(EVAL("a.gguf", "1", "1", "2", "0.1"));
    assert_int_equal(ht_flow_report(NULL, "t", &r, 1, out, false, NULL, &err), HT_EXISTS);
    unlink(out);
    forget();
}

static void test_numbers(void **state) {
    (void)state;
    static const struct {
        double x;
        int digits;
        const char *text;
    } cases[] = {
        {0.0527, 3, "0.0527"}, {24.6531, 4, "24.65"}, {102.5817, 4, "102.6"}, {1234567, 3, "1234567"},
        {0, 3, "0.00"},        {0.00103, 3, "0.00103"}, {9.999, 3, "10.00"},  {1e-12, 3, "1.00e-12"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        ht_report_format(text, sizeof text, cases[i].x, cases[i].x, cases[i].digits);
        assert_string_equal(text, cases[i].text);
    }
    char size[32];
    ht_report_size(size, sizeof size, 61979840);
    assert_string_equal(size, "62.0 MB");
    ht_report_size(size, sizeof size, 999);
    assert_string_equal(size, "999 B");
}

/* Labels stay inside and do not overlap, for clouds of points as dense as reports have. */
static void test_labels(void **state) {
    (void)state;
    struct ht_box taken[80];
    struct ht_label_plan plan = {.area = {0, 0, 800, 400}, .taken = taken};
    double x[20], y[20];
    for (int i = 0; i < 20; i++) {
        x[i] = 100 + i * 23 % 300;
        y[i] = 80 + i * i * 7 % 240;
        taken[plan.n_taken++] = (struct ht_box){x[i] - 6, y[i] - 6, x[i] + 6, y[i] + 6};
    }
    for (int i = 0; i < 20; i++) {
        struct ht_box b;
        bool far;
        assert_true(ht_label_place(&plan, x[i], y[i], 90, 15, &b, &far));
        assert_true(b.x0 >= 0 && b.y0 >= 0 && b.x1 <= 800 && b.y1 <= 400);
    }
    for (size_t i = 20; i < plan.n_taken; i++) {
        for (size_t k = 0; k < i; k++) {
            bool apart = taken[i].x1 <= taken[k].x0 || taken[k].x1 <= taken[i].x0 || taken[i].y1 <= taken[k].y0 ||
                         taken[k].y1 <= taken[i].y0;
            assert_true(apart);
        }
    }
}

static void test_out_of_memory(void **state) {
    (void)state;
    char out[96];
    const char *r[2];
    snprintf(out, sizeof out, "%s/oom.html", folder);
    r[0] = record(EVAL("out/a-name-that-is-much-too-long-for-the-label-of-a-point.gguf", "41339104", "5.8", "25.1", "0.0108"));
    r[1] = record("{\"schema\":\"halftone.quantize/1\",\"output\":\"b\",\"tensors\":[{\"wanted\":\"q4_k\",\"format\":\"q5_0\"}]}");
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        ht_err err = {0};
        char *json = NULL;
        ht_mem_fail_at(n, 0);
        ht_status status = ht_flow_report(NULL, "t", r, 2, out, true, &json, &err);
        ht_mem_fail_at(0, 0);
        ht_mem_free(json);
        if (status == HT_OK) {
            break;
        }
        assert_int_equal(status, HT_NOMEM);
        assert_in_range(++failures, 1, 1000);
    }
    assert_true(failures > 10);
    unlink(out);
    forget();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_of_several_files), cmocka_unit_test(test_page_of_one_record),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_malformed_records),     cmocka_unit_test(test_tolerated_records),
        cmocka_unit_test(test_figures_of_impossible_numbers),
        cmocka_unit_test(test_output_is_kept),        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_labels),                cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
