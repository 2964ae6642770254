#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/ckd.h"
#include "base/context.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/map.h"
#include "base/nearest.h"
#include "base/rng.h"

static void test_status_table(void **state) {
    (void)state;
#define CHECK(name, code, exit_code, text)                    \
    assert_string_equal(ht_status_text(HT_##name), text);     \
    assert_int_equal(ht_status_exit_code(HT_##name), exit_code);
    HT_STATUS_LIST(CHECK)
#undef CHECK
}

static void test_first_error_wins(void **state) {
    (void)state;
    ht_err err = {0};
    assert_int_equal(ht_fail(&err, HT_FORMAT, "file", 7, "first %d", 1), HT_FORMAT);
    assert_int_equal(ht_fail(&err, HT_IO, "other", 8, "second"), HT_IO);
    assert_int_equal(err.code, HT_FORMAT);
    assert_string_equal(err.msg, "first 1");
    assert_int_equal(err.pos, 7);
    char longer[300];
    memset(longer, 'x', sizeof longer - 1);
    strcpy(longer + sizeof longer - 10, "tail.gguf");
    ht_err_clear(&err);
    ht_fail(&err, HT_IO, longer, 0, "m");
    assert_string_equal(err.what + strlen(err.what) - 9, "tail.gguf");
    ht_err_clear(&err);
    ht_fail(&err, HT_FORMAT, "a\nb", 0, "token '%s'", "\x1b[31m\x7f\xC3\xA9");
    assert_string_equal(err.what, "a?b");
    assert_string_equal(err.msg, "token '?[31m?\xC3\xA9'");
}

static void test_arena(void **state) {
    (void)state;
    struct ht_arena a;
    ht_arena_init(&a, 1024);
    unsigned char *p[200];
    for (size_t i = 0; i < 200; i++) {
        p[i] = ht_arena_alloc(&a, i * 7 % 900);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 16, 0);
        memset(p[i], (int)i, i * 7 % 900);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t j = 0; j < i * 7 % 900; j++) {
            assert_int_equal(p[i][j], (unsigned char)i);
        }
    }
    assert_null(ht_arena_alloc(&a, SIZE_MAX - 4));
    ht_arena_deinit(&a);
}

static void test_buf_cap(void **state) {
    (void)state;
    struct ht_buf b;
    ht_buf_init(&b, 10);
    ht_buf_puts(&b, "12345");
    ht_buf_printf(&b, "%d", 67890);
    assert_true(ht_buf_ok(&b));
    assert_string_equal(b.data, "1234567890");
    ht_buf_putc(&b, '!');
    assert_false(ht_buf_ok(&b));
    assert_null(ht_buf_take(&b));
}

static void test_map(void **state) {
    (void)state;
    struct ht_map m;
    ht_map_init(&m);
    char key[32];
    for (int i = 0; i < 5000; i++) {
        bool existed;
        int n = snprintf(key, sizeof key, "key %d", i);
        assert_true(ht_map_put(&m, key, (size_t)n, (uint64_t)i, &existed));
        assert_false(existed);
    }
    bool existed = false;
    assert_true(ht_map_put(&m, "key 7", 5, 99, &existed));
    assert_true(existed);
    for (int i = 0; i < 5000; i++) {
        uint64_t v;
        snprintf(key, sizeof key, "key %d", i);
        assert_true(ht_map_get_str(&m, key, &v));
        assert_int_equal(v, i);
    }
    uint64_t v;
    assert_false(ht_map_get_str(&m, "no", &v));
    ht_map_deinit(&m);
}

static void test_checked(void **state) {
    (void)state;
    uint64_t r;
    assert_true(ht_ckd_mul(&r, 1ull << 40, 1ull << 40));
    assert_true(ht_ckd_add(&r, UINT64_MAX, 1));
    assert_true(ht_ckd_align(&r, UINT64_MAX - 3, 32));
    assert_false(ht_ckd_align(&r, 33, 32));
    assert_int_equal(r, 64);
}

/* Published first outputs of xoshiro256** seeded by splitmix64(0): state check by an independent derivation. */
static void test_rng(void **state) {
    (void)state;
    struct ht_rng r;
    ht_rng_init(&r, 0);
    assert_true(r.s[0] == 0xe220a8397b1dcdafu && r.s[1] == 0x6e789e6aa1b965f4u); /* splitmix64(0) */
    uint64_t first = ht_rng_u64(&r);
    ht_rng_init(&r, 0);
    assert_true(first == ht_rng_u64(&r));
    double sum = 0, sum2 = 0;
    for (int i = 0; i < 100000; i++) {
        double x = ht_rng_normal(&r);
        sum += x;
        sum2 += x * x;
        assert_true(ht_rng_below(&r, 7) < 7);
    }
    assert_true(sum / 1e5 < 0.02 && sum / 1e5 > -0.02 && sum2 / 1e5 > 0.97 && sum2 / 1e5 < 1.03);
}

static void test_hash(void **state) {
    (void)state;
    struct ht_sha256 *h;
    char hex[65];
    assert_int_equal(ht_sha256_new(&h, NULL), HT_OK);
    ht_sha256_update(h, "abc", 3); /* FIPS 180-4 example */
    ht_sha256_final(h, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    ht_sha256_final(h, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ht_sha256_free(h);
    assert_true(ht_hash_xxh3("", 0) == 0x2d06800538d394c2u); /* XXH3 specification */
}

static void test_json(void **state) {
    (void)state;
    static const struct {
        const char *text;
        ht_status status;
    } cases[] = {
        {"{\"a\": 1}", HT_OK},          {"{\"a\": 1, \"a\": 2}", HT_FORMAT}, {"{\"a\": NaN}", HT_FORMAT},
        {"{\"a\": 01}", HT_FORMAT},     {"{\"a\": \"\\ud800\"}", HT_FORMAT}, {"{} x", HT_FORMAT},
        {"[[[[[[]]]]]]", HT_LIMIT},     {"", HT_FORMAT},                     {"{\"a\":\"[[[[[[[[\"}", HT_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *j;
        ht_err err = {0};
        assert_int_equal(ht_json_parse(cases[i].text, strlen(cases[i].text), 5, "t", &j, &err), cases[i].status);
        json_decref(j);
    }
    json_t *j;
    ht_err err = {0};
    uint64_t u = 5;
    ASSERT_OK(ht_json_parse("{\"n\": -1, \"x\": null}", 20, 5, "t", &j, &err), &err);
    assert_int_equal(ht_json_get_u64(j, "n", 10, "t", &u, &err), HT_FORMAT);
    assert_int_equal(ht_json_get_u64(j, "x", 10, "t", &u, NULL), HT_OK);
    assert_int_equal(u, 5);
    json_decref(j);
}

static const char *name_at(const void *table, size_t i) {
    return ((const char *const *)table)[i];
}

static void test_json_values(void **state) {
    (void)state;
    static const struct {
        uint64_t v;
        const char *text; /* NULL: an integer */
    } numbers[] = {{0, NULL}, {INT64_MAX, NULL}, {1ull << 63, "9223372036854775808"},
                   {UINT64_MAX, "18446744073709551615"}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        json_t *v = ht_json_u64(numbers[i].v);
        if (numbers[i].text != NULL) {
            assert_string_equal(json_string_value(v), numbers[i].text);
        } else {
            assert_true(json_is_integer(v) && (uint64_t)json_integer_value(v) == numbers[i].v);
        }
        json_decref(v);
    }
    json_t *good = ht_json_str("caf\xc3\xa9", 5), *bad = ht_json_str("caf\xe9.txt", 8);
    assert_string_equal(json_string_value(good), "caf\xc3\xa9");
    assert_string_equal(json_string_value(bad), "caf?.txt");
    json_decref(good);
    json_decref(bad);
}

static void test_nearest(void **state) {
    (void)state;
    static const char *const names[] = {"q4_0", "q4_1", "q8_0", "iq4_nl"};
    char out[64];
    assert_string_equal(ht_nearest("Q4-0", name_at, names, 4, out, sizeof out), "q4_0, q4_1, q8_0");
    assert_string_equal(ht_nearest("nothing_like", name_at, names, 4, out, sizeof out), "");
}

static void sum_task(void *ctx, size_t task, int thread) {
    (void)thread;
    ((uint64_t *)ctx)[task] += task * task;
}

static void test_pool(void **state) {
    (void)state;
    ht_err err = {0};
    for (int threads = 1; threads <= 7; threads += 3) {
        struct ht_pool *pool;
        ASSERT_OK(ht_pool_new(threads, &pool, &err), &err);
        uint64_t out[101] = {0};
        for (int run = 0; run < 300; run++) {
            ht_pool_run(pool, 101, sum_task, out);
        }
        for (size_t i = 0; i < 101; i++) {
            assert_int_equal(out[i], 300 * i * i);
        }
        ht_pool_free(pool);
    }
    struct ht_pool *pool;
    assert_int_equal(ht_pool_new(0, &pool, &err), HT_INVAL);
}

/* Many short runs of every size around the number of threads: each task once, whoever wakes late. */
static void test_pool_short_runs(void **state) {
    (void)state;
    ht_err err = {0};
    for (int threads = 2; threads <= 5; threads++) {
        struct ht_pool *pool;
        ASSERT_OK(ht_pool_new(threads, &pool, &err), &err);
        for (size_t run = 0; run < 4000; run++) {
            size_t n = run % 13;
            uint64_t out[13] = {0};
            ht_pool_run(pool, n, sum_task, out);
            for (size_t i = 0; i < 13; i++) {
                assert_int_equal(out[i], i < n ? i * i : 0);
            }
        }
        ht_pool_free(pool);
    }
}

static void test_writer(void **state) {
    (void)state;
    char dir[] = "/tmp/ht-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out.bin", dir);
    ht_err err = {0};
    struct ht_writer *w;
    struct ht_writer_options o = {.expect_bytes = 1 << 20};
    ASSERT_OK(ht_writer_open(path, &o, &w, &err), &err);
    ASSERT_OK(ht_writer_write(w, "hello", 5, &err), &err);
    assert_false(ht_path_exists(path)); /* nothing under the final name before commit */
    ASSERT_OK(ht_writer_write_at(w, 0, "J", 1, &err), &err);
    ASSERT_OK(ht_writer_commit(w, &err), &err);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 5);
    char *data;
    size_t len;
    ASSERT_OK(ht_read_file(path, 100, &data, &len, &err), &err);
    assert_string_equal(data, "Jello");
    ht_mem_free(data);
    assert_int_equal(ht_read_file(path, 4, &data, &len, NULL), HT_LIMIT);
    assert_int_equal(ht_writer_open(path, &o, &w, &err), HT_EXISTS);
    ht_err_clear(&err);
    /* An aborted overwrite leaves the old file and no temporary one. */
    o.overwrite = true;
    ASSERT_OK(ht_writer_open(path, &o, &w, &err), &err);
    ASSERT_OK(ht_writer_write(w, "new", 3, &err), &err);
    ht_writer_abort(w);
    ASSERT_OK(ht_read_file(path, 100, &data, &len, &err), &err);
    assert_string_equal(data, "Jello");
    ht_mem_free(data);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0); /* fails when a temporary file is left */
    assert_int_equal(ht_writer_open("/nonexistent-folder/x", &o, &w, &err), HT_NOTFOUND);
}

static int cancel(void *user, const ht_progress *p) {
    (void)user;
    return p->done == p->total;
}

static int count_calls(void *user, const ht_progress *p) {
    (void)p;
    ++*(int *)user;
    return 0;
}

/* The first and the last step are told, those between when the pause is over. */
static void test_meter_pause(void **state) {
    (void)state;
    const struct {
        double every_s;
        int calls;
    } cases[] = {{0, 100}, {1e9, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int calls = 0;
        ht_err err = {0};
        ht_context *ctx = make_context(1, count_calls, &calls);
        struct ht_meter m;
        ctx->tell_every_s = cases[i].every_s;
        ht_meter_init(&m, ctx, "test", "items", 100);
        for (uint64_t done = 1; done <= 100; done++) {
            ASSERT_OK(ht_meter_tell(&m, done, 0, NULL, &err), &err);
        }
        assert_int_equal(calls, cases[i].calls);
        ht_context_free(ctx);
    }
}

static void test_context(void **state) {
    (void)state;
    ht_context_options o;
    ht_context *ctx;
    ht_err err = {0};
    ht_context_options_defaults(&o);
    o.progress = cancel;
    o.threads = 2;
    ASSERT_OK(ht_context_new(&o, &ctx, &err), &err);
    struct ht_meter m;
    ht_meter_init(&m, ctx, "test", "items", 2);
    assert_int_equal(ht_meter_tell(&m, 1, 0, NULL, &err), HT_OK);
    assert_int_equal(ht_meter_tell(&m, 2, 0, NULL, &err), HT_CANCELLED);
    ht_context_free(ctx);
    o.size = sizeof o + 8;
    assert_int_equal(ht_context_new(&o, &ctx, NULL), HT_INVAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status_table), cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_arena),        cmocka_unit_test(test_buf_cap),
        cmocka_unit_test(test_map),          cmocka_unit_test(test_checked),
        cmocka_unit_test(test_rng),          cmocka_unit_test(test_hash),
        cmocka_unit_test(test_json), cmocka_unit_test(test_json_values),         cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_pool), cmocka_unit_test(test_pool_short_runs),         cmocka_unit_test(test_writer),
        cmocka_unit_test(test_meter_pause),  cmocka_unit_test(test_context),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
