#include "test.h"

#include <math.h>

#include "io/gguf.h"
#include "io/imatrix.h"
#include "io_build.h"

/* ---- .dat -------------------------------------------------------------------------------------------- */

#define DAT_VALID                                                                                \
    "w4:2 w4:3 t:b.w w4:4 w4:2 f4:8 f4:2 w4:3 t:a.w w4:2 w4:3 f4:2 f4:4 f4:0 w4:4 w4:8 t:text.txt"

static void dat_values(void **state) {
    (void)state;
    struct bytes b = build(DAT_VALID);
    struct ht_imatrix *m;
    ht_err err = {0};
    ASSERT_OK(ht_imatrix_parse(b.p, b.n, "x.dat", &m, &err), &err);
    assert_int_equal(m->n, 2);
    assert_int_equal(m->chunk_count, 4);
    assert_int_equal(m->chunk_size, 0);
    assert_int_equal(m->n_datasets, 1);
    assert_string_equal(m->datasets[0], "text.txt");
    const struct ht_imatrix_entry *e = ht_imatrix_find(m, "a.w");
    assert_int_equal(e->n, 3);
    assert_int_equal(e->n_mat, 1);
    float x[3];
    ASSERT_OK(ht_imatrix_importance(e, x, "x.dat", &err), &err);
    assert_true(x[0] == 1 && x[1] == 2 && x[2] == 0);
    assert_null(ht_imatrix_find(m, "c.w"));
    ht_imatrix_free(m);
    free(b.p);
    /* files of old versions end behind the entries, or behind the number of chunks */
    static const char *const shorter[] = {"w4:1 w4:1 t:x w4:1 w4:1 f4:1", "w4:1 w4:1 t:x w4:1 w4:1 f4:1 w4:9",
                                          "w4:1 w4:1 t:x w4:1 w4:1 f4:1 w4:9 w4:0"};
    for (size_t i = 0; i < 3; i++) {
        b = build(shorter[i]);
        ASSERT_OK(ht_imatrix_parse(b.p, b.n, "x.dat", &m, &err), &err);
        assert_int_equal(m->n_datasets, 0);
        assert_int_equal(m->chunk_count, i == 0 ? 0 : 9);
        ht_imatrix_free(m);
        free(b.p);
    }
}

static const struct {
    const char *name, *script, *part;
} bad_dat[] = {
    {"empty", "", "expected an importance file, found 0 bytes"},
    {"three bytes", "z:3", "found 3 bytes"},
    {"no entries", "w4:0 z:40", "it would have 0 entries"},
    {"negative entries", "w4:-1 z:40", "it would have -1 entries"},
    {"more entries than bytes", "w4:3 z:40", "it would have 3 entries in 44 bytes"},
    {"text", "t:hello_this_is_no_importance_matrix", "expected an importance file (GGUF or .dat)"},
    {"name of no length", "w4:1 w4:0 w4:1 w4:1 f4:1 z:8", "entry 0: the length of the name is 0"},
    {"name of negative length", "w4:1 w4:-5 w4:1 w4:1 f4:1 z:8", "the length of the name is -5"},
    {"name beyond the file", "w4:1 w4:1000 t:x w4:1 w4:1 f4:1", "entry 0: the name needs 1000 bytes"},
    {"name too long", "w4:1 w4:513 r:513:120 w4:1 w4:1 f4:1", "entry 0: the name is too long"},
    {"name with NUL", "w4:1 w4:3 x:610062 w4:1 w4:1 f4:1", "the name holds a control character"},
    {"name not UTF-8", "w4:1 w4:1 x:ff w4:1 w4:1 f4:1", "the name is not valid UTF-8"},
    {"negative calls", "w4:1 w4:1 t:x w4:-1 w4:1 f4:1", "entry 0: the number of calls is -1"},
    {"no values", "w4:1 w4:1 t:x w4:1 w4:0 f4:1", "entry 0: the number of values is 0"},
    {"negative values", "w4:1 w4:1 t:x w4:1 w4:-1 f4:1", "the number of values is -1"},
    {"values beyond the file", "w4:1 w4:1 t:x w4:1 w4:2 f4:1", "entry 0: the values needs 8 bytes, the file has 4"},
    {"2^31-1 values", "w4:1 w4:1 t:x w4:1 w4:0x7fffffff f4:1", "needs 8589934588 bytes"},
    {"entry twice", "w4:2 w4:1 t:x w4:1 w4:1 f4:1 w4:1 t:x w4:1 w4:1 f4:1", "entry 1: 'x' appears twice"},
    {"second entry is cut", "w4:2 w4:1 t:x w4:1 w4:1 f4:1 w4:1 t:y w4:1 w4:2 f4:1 w2:1", "entry 1: the values needs 8 bytes"},
    {"negative chunks", "w4:1 w4:1 t:x w4:1 w4:1 f4:1 w4:-2", "the number of chunks is -2"},
    {"negative text", "w4:1 w4:1 t:x w4:1 w4:1 f4:1 w4:2 w4:-1", "the length of the text's name is -1"},
    {"text beyond the file", "w4:1 w4:1 t:x w4:1 w4:1 f4:1 w4:2 w4:9 t:abc", "the text's name needs 9 bytes"},
    {"text with NUL", "w4:1 w4:1 t:x w4:1 w4:1 f4:1 w4:2 w4:3 x:610062", "a NUL among them"},
    {"rest", "w4:1 w4:1 t:x w4:1 w4:1 f4:1 w4:2 w4:0 t:rest", "4 bytes behind the end"},
};

/* ---- GGUF -------------------------------------------------------------------------------------------- */

#define IM_HEAD(n) "t:GGUF w4:3 w8:" #n " w8:4 s:general.type w4:8 s:imatrix s:imatrix.datasets w4:9 w4:8 w8:1 s:text.txt " \
    "s:imatrix.chunk_count w4:4 w4:5 s:imatrix.chunk_size w4:4 w4:512 "
#define IM_MAT(name, ne0, ne1, offset) "s:" name " w4:2 w8:" #ne0 " w8:" #ne1 " w4:0 w8:" #offset " "
#define GGUF_VALID                                                                                           \
    IM_HEAD(6) IM_MAT("a.w.in_sum2", 2, 1, 0) IM_MAT("a.w.counts", 1, 1, 32) "s:a.w.stats w4:1 w8:1 w4:0 w8:64 " \
    IM_MAT("e.w.counts", 1, 3, 96) IM_MAT("e.w.in_sum", 2, 3, 128) IM_MAT("e.w.in_sum2", 2, 3, 160)            \
    "p:32 f4:8 f4:2 p:32 f4:4 p:32 f4:9 p:32 f4:2 f4:0 f4:1 p:32 z:24 p:32 f4:2 f4:4 f4:7 f4:7 f4:5 f4:6 p:32"

static void gguf_values(void **state) {
    (void)state;
    struct bytes b = build(GGUF_VALID);
    struct ht_imatrix *m;
    ht_err err = {0};
    ASSERT_OK(ht_imatrix_parse(b.p, b.n, "x.gguf", &m, &err), &err);
    assert_int_equal(m->n, 2);
    assert_int_equal(m->chunk_count, 5);
    assert_int_equal(m->chunk_size, 512);
    assert_string_equal(m->datasets[0], "text.txt");
    float x[6];
    ASSERT_OK(ht_imatrix_importance(ht_imatrix_find(m, "a.w"), x, "x", &err), &err);
    assert_true(x[0] == 2 && x[1] == 0.5f);
    const struct ht_imatrix_entry *e = ht_imatrix_find(m, "e.w");
    assert_int_equal(e->n_mat, 3);
    ASSERT_OK(ht_imatrix_importance(e, x, "x", &err), &err);
    const float want[6] = {1, 2, 1, 1, 5, 6}; /* the second expert saw no token */
    assert_memory_equal(x, want, sizeof want);
    ht_imatrix_free(m);
    free(b.p);
}

static const struct {
    const char *name, *script;
    ht_status code;
    const char *part;
} bad_gguf[] = {
    {"only the magic", "t:GGUF", HT_FORMAT, "header: the version"},
    {"no type", "t:GGUF w4:3 w8:0 w8:0", HT_FORMAT, "found a GGUF file of type ''"},
    {"a model", "t:GGUF w4:3 w8:0 w8:1 s:general.type w4:8 s:model", HT_FORMAT, "type 'model'"},
    {"type is a number", "t:GGUF w4:3 w8:0 w8:1 s:general.type w4:4 w4:1", HT_FORMAT, "'general.type': expected a string"},
    {"no tensors", IM_HEAD(0), HT_FORMAT, "0 entries with sums"},
    {"counts are missing", IM_HEAD(1) IM_MAT("a.in_sum2", 2, 1, 0) "p:32 z:32", HT_FORMAT, "entry 'a': .counts is missing"},
    {"sums are missing", IM_HEAD(1) IM_MAT("a.counts", 1, 1, 0) "p:32 z:32", HT_FORMAT, "0 entries with sums and 1 with counts"},
    {"one sum is missing", IM_HEAD(3) IM_MAT("a.in_sum2", 1, 1, 0) IM_MAT("a.counts", 1, 1, 32) IM_MAT("b.counts", 1, 1, 64) "p:32 z:96",
     HT_FORMAT, "1 entries with sums and 2 with counts"},
    {"counts do not divide", IM_HEAD(2) IM_MAT("a.in_sum2", 5, 1, 0) IM_MAT("a.counts", 1, 2, 32) "p:32 z:64", HT_FORMAT,
     "entry 'a': 5 sums and 2 counts"},
    {"more counts than sums", IM_HEAD(2) IM_MAT("a.in_sum2", 1, 1, 0) IM_MAT("a.counts", 1, 2, 32) "p:32 z:64", HT_FORMAT,
     "entry 'a': 1 sums and 2 counts"},
    {"sums in f16", IM_HEAD(2) "s:a.in_sum2 w4:1 w8:2 w4:1 w8:0 " IM_MAT("a.counts", 1, 1, 32) "p:32 z:64", HT_FORMAT,
     "entry 'a': expected f32, found f16 and f32"},
    {"counts in i32", IM_HEAD(2) IM_MAT("a.in_sum2", 2, 1, 0) "s:a.counts w4:1 w8:1 w4:26 w8:32 p:32 z:64", HT_FORMAT,
     "found f32 and i32"},
    {"sum of no name", IM_HEAD(1) IM_MAT(".in_sum2", 2, 1, 0) "p:32 z:32", HT_FORMAT, "0 entries with sums"},
    {"datasets are text", "t:GGUF w4:3 w8:0 w8:2 s:general.type w4:8 s:imatrix s:imatrix.datasets w4:8 s:x", HT_FORMAT,
     "'imatrix.datasets': expected an array"},
    {"negative chunks", "t:GGUF w4:3 w8:0 w8:2 s:general.type w4:8 s:imatrix s:imatrix.chunk_count w4:5 w4:-1", HT_FORMAT,
     "'imatrix.chunk_count'"},
    {"chunk size is a string", "t:GGUF w4:3 w8:0 w8:2 s:general.type w4:8 s:imatrix s:imatrix.chunk_size w4:8 s:x", HT_FORMAT,
     "'imatrix.chunk_size'"},
};

static void refuses(void **state) {
    (void)state;
    size_t n = sizeof bad_dat / sizeof bad_dat[0], n_gguf = sizeof bad_gguf / sizeof bad_gguf[0];
    assert_true(n + n_gguf >= 20);
    for (size_t i = 0; i < n + n_gguf; i++) {
        struct bytes b = build(i < n ? bad_dat[i].script : bad_gguf[i - n].script);
        struct ht_imatrix *m;
        ht_err err = {0};
        ht_status got = ht_imatrix_parse(b.p, b.n, "x.imatrix", &m, &err);
        if (i < n) {
            check_refused(bad_dat[i].name, got, HT_FORMAT, &err, bad_dat[i].part, "x.imatrix");
        } else {
            check_refused(bad_gguf[i - n].name, got, bad_gguf[i - n].code, &err, bad_gguf[i - n].part, "x.imatrix");
        }
        assert_null(m);
        free(b.p);
    }
}

static void truncated_at_every_byte(void **state) {
    (void)state;
    static const struct {
        const char *script;
        size_t spare[3]; /* lengths at which the rest may be missing */
        size_t padding;  /* of the last tensor */
    } files[] = {{DAT_VALID, {54, 58, 0}, 0}, {GGUF_VALID, {0}, 8}};
    for (size_t k = 0; k < 2; k++) {
        struct bytes b = build(files[k].script);
        for (size_t n = 0; n < b.n - files[k].padding; n++) {
            unsigned char *p = prefix(&b, n);
            struct ht_imatrix *m;
            ht_err err = {0};
            ht_status got = ht_imatrix_parse(p, n, "cut", &m, &err);
            bool fine = k == 0 && (n == files[k].spare[0] || n == files[k].spare[1]);
            if (fine != (got == HT_OK) || (!fine && got != HT_FORMAT)) {
                fail_msg("file %zu cut to %zu bytes: %s: %s", k, n, ht_status_text(got), err.msg);
            }
            ht_imatrix_free(m);
            free(p);
        }
        free(b.p);
    }
}

/* ---- importance -------------------------------------------------------------------------------------- */

static void importance(void **state) {
    (void)state;
    static const struct {
        const char *name;
        float sum2[4], count[2]; /* two experts of two inputs */
        const char *part;        /* NULL: fine */
        float want[4];
    } cases[] = {
        {"fine", {2, 4, 3, 0}, {2, 1}, NULL, {1, 2, 3, 0}},
        {"no tokens", {0, 0, 3, 1}, {0, 1}, NULL, {1, 1, 3, 1}},
        {"NaN", {1, NAN, 1, 1}, {1, 1}, "entry 'x': the sum of input 1 is", {0}},
        {"Inf", {1, 1, INFINITY, 1}, {1, 1}, "the sum of input 0 is inf", {0}},
        {"negative", {1, 1, 1, -1}, {1, 1}, "the sum of input 1 is -1", {0}},
        {"NaN without tokens", {1, 1, NAN, 1}, {1, 0}, "the sum of input 0 is", {0}},
        {"all zero", {1, 1, 0, 0}, {1, 1}, "entry 'x': every input is zero", {0}},
        {"negative count", {1, 1, 1, 1}, {1, -1}, "entry 'x': the count is -1", {0}},
        {"NaN count", {1, 1, 1, 1}, {NAN, 1}, "the count is", {0}},
        {"Inf count", {1, 1, 1, 1}, {INFINITY, 1}, "the count is inf", {0}},
        {"overflow", {3e38f, 1, 1, 1}, {1e-30f, 1}, "overflows", {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float sum2[4], count[2], x[4];
        ht_err err = {0};
        memcpy(sum2, cases[i].sum2, sizeof sum2);
        memcpy(count, cases[i].count, sizeof count);
        struct ht_imatrix_entry e = {"x", 2, 2, sum2, count};
        ht_status got = ht_imatrix_importance(&e, x, "file.gguf", &err);
        if (cases[i].part == NULL) {
            ASSERT_OK(got, &err);
            assert_memory_equal(x, cases[i].want, sizeof x);
        } else {
            check_refused(cases[i].name, got, HT_NUMERIC, &err, cases[i].part, "file.gguf");
        }
    }
}

/* ---- merging and writing ----------------------------------------------------------------------------- */

static struct ht_imatrix *small(const char *name, float scale, uint32_t chunk_size) {
    struct ht_imatrix *m;
    struct ht_imatrix_entry *e;
    ht_err err = {0};
    ASSERT_OK(ht_imatrix_new(&m, &err), &err);
    ASSERT_OK(ht_imatrix_entry(m, "z.shared", 3, 1, &e, &err), &err);
    e->sum2[0] = 4 * scale;
    e->sum2[2] = 8 * scale;
    e->count[0] = 1024;
    ASSERT_OK(ht_imatrix_entry(m, name, 2, 2, &e, &err), &err);
    e->sum2[0] = e->sum2[3] = scale;
    e->count[0] = 100;
    ASSERT_OK(ht_imatrix_dataset(m, name, &err), &err);
    m->chunk_size = chunk_size;
    m->chunk_count = 2;
    return m;
}

static void merge(void **state) {
    (void)state;
    struct ht_imatrix *a = small("a", 1, 512), *b = small("b", 10, 512), *sum;
    struct ht_imatrix_entry *e;
    ht_err err = {0};
    ASSERT_OK(ht_imatrix_new(&sum, &err), &err);
    ASSERT_OK(ht_imatrix_add(sum, a, &err), &err);
    ASSERT_OK(ht_imatrix_add(sum, b, &err), &err);
    ASSERT_OK(ht_imatrix_add(sum, a, &err), &err);
    assert_int_equal(sum->n, 3);
    assert_int_equal(sum->chunk_count, 6);
    assert_int_equal(sum->chunk_size, 512);
    assert_int_equal(sum->n_datasets, 3);
    assert_string_equal(sum->datasets[1], "b");
    const struct ht_imatrix_entry *s = ht_imatrix_find(sum, "z.shared");
    assert_true(s->sum2[0] == 48 && s->sum2[1] == 0 && s->sum2[2] == 96 && s->count[0] == 3072);
    assert_true(ht_imatrix_find(sum, "a")->sum2[3] == 2 && ht_imatrix_find(sum, "b")->sum2[3] == 10);
    assert_int_equal(ht_imatrix_entry(sum, "a", 3, 2, &e, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "'a' is 2 x 2 here and 3 x 2 there"));
    assert_null(e);
    ht_err_clear(&err);
    assert_int_equal(ht_imatrix_entry(sum, "new", 0, 1, &e, &err), HT_INVAL);
    ht_err_clear(&err);
    assert_int_equal(ht_imatrix_entry(sum, "new", UINT64_MAX / 2, 4, &e, &err), HT_INVAL);
    struct ht_imatrix *old = small("c", 1, 0);
    ht_err_clear(&err);
    assert_int_equal(ht_imatrix_add(sum, old, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "cannot be compared"));
    ht_imatrix_free(old);
    ht_imatrix_free(a);
    ht_imatrix_free(b);
    ht_imatrix_free(sum);
}

static void round_trip(void **state) {
    (void)state;
    static const char *const names[] = {"o.gguf", "o.dat", "o"};
    for (size_t k = 0; k < 3; k++) {
        char dir[64];
        struct ht_imatrix *a = small("a", 1, 512), *back;
        ht_err err = {0};
        temp_dir(dir);
        const char *path = in(dir, names[k]);
        ASSERT_OK(ht_imatrix_save(a, path, false, &err), &err);
        check_refused("exists", ht_imatrix_save(a, path, false, &err), HT_EXISTS, &err, "exists already", names[k]);
        ht_err_clear(&err);
        ASSERT_OK(ht_imatrix_load(path, &back, &err), &err);
        assert_int_equal(back->n, 2);
        assert_string_equal(back->entries[0].name, "a"); /* sorted */
        assert_int_equal(back->chunk_count, 2);
        assert_int_equal(back->chunk_size, k == 1 ? 0 : 512);
        assert_string_equal(back->datasets[0], "a");
        float want[3], got[3];
        ASSERT_OK(ht_imatrix_importance(ht_imatrix_find(a, "z.shared"), want, "x", &err), &err);
        ASSERT_OK(ht_imatrix_importance(ht_imatrix_find(back, "z.shared"), got, "x", &err), &err);
        assert_memory_equal(want, got, sizeof want);
        const struct ht_imatrix_entry *e = ht_imatrix_find(back, "a");
        assert_int_equal(e->n * e->n_mat, 4);
        assert_int_equal(e->n_mat, k == 1 ? 1 : 2); /* .dat knows no experts */
        if (k == 1) { /* chunks: ceil(100 / 512) and 1024 / 512; an expert without tokens has importance 1 */
            assert_true(e->count[0] == 1 && ht_imatrix_find(back, "z.shared")->count[0] == 2);
            assert_true(e->sum2[0] == 0.01f && e->sum2[1] == 0 && e->sum2[2] == 1 && e->sum2[3] == 1);
        }
        ht_imatrix_free(back);
        ht_imatrix_free(a);
        assert_int_equal(remove_dir(dir), 1);
    }
}

static void refuses_to_write(void **state) {
    (void)state;
    char dir[64];
    struct ht_imatrix *m;
    struct ht_imatrix_entry *e;
    ht_err err = {0};
    temp_dir(dir);
    ASSERT_OK(ht_imatrix_new(&m, &err), &err);
    check_refused("nothing", ht_imatrix_save(m, in(dir, "o.gguf"), false, &err), HT_INVAL, &err, "no entries", "o.gguf");
    ht_err_clear(&err);
    ASSERT_OK(ht_imatrix_entry(m, "0123456789012345678901234567890123456789012345678901234", 1, 1, &e, &err), &err);
    e->sum2[0] = 1;
    e->count[0] = 1;
    ASSERT_OK(ht_imatrix_save(m, in(dir, "55.gguf"), false, &err), &err);
    ASSERT_OK(ht_imatrix_entry(m, "01234567890123456789012345678901234567890123456789012345", 1, 1, &e, &err), &err);
    check_refused("name", ht_imatrix_save(m, in(dir, "o.gguf"), false, &err), HT_LIMIT, &err, "exceeds GGUF's 63 bytes", NULL);
    ht_err_clear(&err);
    check_refused("no tokens", ht_imatrix_save(m, in(dir, "o.dat"), false, &err), HT_NUMERIC, &err, "do not fit the .dat", NULL);
    ht_imatrix_free(m);
    assert_int_equal(remove_dir(dir), 1);
}

static void out_of_memory(void **state) {
    (void)state;
    static const char *const scripts[] = {DAT_VALID, GGUF_VALID};
    char dir[64];
    temp_dir(dir);
    for (size_t k = 0; k < 2; k++) {
        struct bytes b = build(scripts[k]);
        const char *path = in(dir, k == 0 ? "o.dat" : "o.gguf");
        for (uint64_t n = 1;; n++) {
            struct ht_imatrix *m = NULL;
            ht_err err = {0};
            ht_mem_fail_at(n, 0);
            ht_status got = ht_imatrix_parse(b.p, b.n, "x", &m, &err);
            if (got == HT_OK) {
                got = ht_imatrix_save(m, path, true, &err);
            }
            ht_mem_fail_at(0, 0);
            ht_imatrix_free(m);
            if (got == HT_OK) {
                assert_true(n > 5);
                break;
            }
            assert_int_equal(got, HT_NOMEM);
        }
        free(b.p);
    }
    assert_int_equal(remove_dir(dir), 2);
}

/* One run of llama-imatrix, kept by itself in both layouts (tests/oracle/io_golden.py): entry by entry the same
 * importance, and the .dat that we write of its GGUF is its own .dat. */
static void stock_files(void **state) {
    (void)state;
    struct ht_imatrix *g, *d;
    char dir[64];
    ht_err err = {0};
    ASSERT_OK(ht_imatrix_load(HT_TEST_DIR "/golden/io/stock-imatrix.gguf", &g, &err), &err);
    ASSERT_OK(ht_imatrix_load(HT_TEST_DIR "/golden/io/stock-imatrix.dat", &d, &err), &err);
    assert_int_equal(g->n, 35); /* 5 layers of 7 linears */
    assert_int_equal(d->n, 35);
    assert_int_equal(g->chunk_count, 3);
    assert_int_equal(g->n_datasets, 1);
    assert_string_equal(g->datasets[0], "northanger-abbey.txt");
    assert_string_equal(d->datasets[0], "northanger-abbey.txt");
    for (size_t i = 0; i < g->n; i++) {
        const struct ht_imatrix_entry *e = &g->entries[i], *o = ht_imatrix_find(d, e->name);
        float x[768], y[768];
        assert_non_null(o);
        assert_true(e->n == o->n && e->n <= 768 && e->n_mat == 1);
        ASSERT_OK(ht_imatrix_importance(e, x, "gguf", &err), &err);
        ASSERT_OK(ht_imatrix_importance(o, y, "dat", &err), &err);
        for (uint64_t k = 0; k < e->n; k++) {
            assert_true(fabsf(x[k] - y[k]) <= 1e-6f * x[k]); /* .dat keeps the mean times the chunks: two roundings */
        }
    }
    temp_dir(dir);
    ASSERT_OK(ht_imatrix_save(g, in(dir, "o.dat"), false, &err), &err);
    struct bytes mine = get_file(in(dir, "o.dat")), theirs = get_file(HT_TEST_DIR "/golden/io/stock-imatrix.dat");
    assert_same_bytes(&mine, &theirs);
    ht_mem_free(mine.p);
    ht_mem_free(theirs.p);
    remove_dir(dir);
    ht_imatrix_free(g);
    ht_imatrix_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dat_values), cmocka_unit_test(gguf_values),  cmocka_unit_test(refuses),
        cmocka_unit_test(truncated_at_every_byte),                    cmocka_unit_test(importance),
        cmocka_unit_test(merge),      cmocka_unit_test(round_trip),   cmocka_unit_test(refuses_to_write),
        cmocka_unit_test(out_of_memory),                              cmocka_unit_test(stock_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
