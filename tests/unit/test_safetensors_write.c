#include "test.h"

#include "base/json.h"
#include "io/bytes.h"
#include "io/container.h"
#include "io/safetensors.h"
#include "io_build.h"

struct item {
    const char *name, *format;
    int n_dims;
    uint64_t ne[4];
};

/* Tensors of a few formats; byte k of tensor i is 16 i + k. */
static size_t make(const struct item *items, size_t n, struct ht_tensor *tensors) {
    ht_err err = {0};
    for (size_t i = 0; i < n; i++) {
        tensors[i] = (struct ht_tensor){items[i].name, ht_format_find(items[i].format), items[i].n_dims,
                                        {items[i].ne[0], items[i].ne[1], items[i].ne[2], items[i].ne[3]}, NULL, 0};
        assert_non_null(tensors[i].format);
        ASSERT_OK(ht_tensor_check(&tensors[i], "test", &err), &err);
    }
    return n;
}

static ht_status write_all(const char *dir, const struct ht_tensor *t, size_t n, uint64_t shard_bytes, bool overwrite,
                           size_t piece, ht_err *err) {
    struct ht_safetensors_writer *w;
    unsigned char data[4096];
    HT_TRY(ht_safetensors_writer_new(dir, t, n, shard_bytes, overwrite, &w, err));
    for (size_t i = 0; i < n; i++) {
        for (uint64_t k = 0; k < t[i].bytes; k++) {
            data[k] = (unsigned char)(16 * i + k);
        }
        for (uint64_t at = 0; at < t[i].bytes; at += piece) {
            ht_status status = ht_safetensors_writer_tensor(w, data + at, t[i].bytes - at < piece ? t[i].bytes - at : piece, err);
            if (status != HT_OK) {
                ht_safetensors_writer_abort(w);
                return status;
            }
        }
    }
    return ht_safetensors_writer_commit(w, err);
}

static void check(const char *dir, const struct ht_tensor *t, size_t n, size_t files) {
    struct ht_source *s;
    ht_err err = {0};
    put_text(in(dir, "config.json"), "{}");
    ASSERT_OK(ht_source_open(dir, &s, &err), &err);
    assert_int_equal(s->n_maps, files);
    assert_int_equal(s->n_tensors, n);
    for (size_t i = 0; i < n; i++) {
        const struct ht_tensor *got = ht_source_find(s, t[i].name);
        assert_non_null(got);
        assert_ptr_equal(got->format, t[i].format);
        assert_int_equal(got->n_dims, t[i].n_dims);
        assert_memory_equal(got->ne, t[i].ne, sizeof got->ne);
        assert_int_equal((uintptr_t)got->data % (t[i].format->block_bytes), 0); /* maps begin at pages */
        for (uint64_t k = 0; k < got->bytes; k++) {
            assert_int_equal(((const unsigned char *)got->data)[k], (unsigned char)(16 * i + k));
        }
    }
    const char *format = "";
    ASSERT_OK(ht_meta_get_str(&s->meta, "format", &format, NULL, &err), &err);
    assert_string_equal(format, "pt");
    ht_source_close(s);
}

static const struct item plain[] = {
    {"model.embed_tokens.weight", "bf16", 2, {4, 6, 1, 1}},
    {"model.layers.0.q.weight", "bf16", 2, {4, 4, 1, 1}},
    {"quote\"back\\slash", "bf16", 1, {3, 1, 1, 1}},
    {"scalar", "bf16", 0, {1, 1, 1, 1}},
};

static void one_file(void **state) {
    (void)state;
    struct ht_tensor t[4];
    size_t n = make(plain, 4, t);
    static const size_t pieces[] = {1, 7, 4096};
    for (size_t k = 0; k < 3; k++) {
        char dir[64];
        ht_err err = {0};
        temp_dir(dir);
        ASSERT_OK(write_all(dir, t, n, 0, false, pieces[k], &err), &err);
        struct bytes f = get_file(in(dir, "model.safetensors"));
        uint64_t header = ht_le64(f.p);
        assert_int_equal(header % 8, 0);
        assert_memory_equal(f.p + 8, "{\"__metadata__\":{\"format\":\"pt\"},", 32);
        assert_int_equal(f.n, 8 + header + 48 + 32 + 6 + 2);
        ht_mem_free(f.p);
        check(dir, t, n, 1);
        assert_int_equal(remove_dir(dir), 2);
    }
}

/* An odd number of 2-byte elements in front of 8-byte ones: the larger elements go first, whatever the order. */
static void misaligned_order(void **state) {
    (void)state;
    static const struct item items[] = {
        {"byte", "u8", 1, {3, 1, 1, 1}}, {"half", "f16", 1, {5, 1, 1, 1}}, {"long", "i64", 0, {1, 1, 1, 1}},
        {"float", "f32", 2, {3, 2, 1, 1}}, {"half2", "f16", 1, {2, 1, 1, 1}},
    };
    struct ht_tensor t[5];
    size_t n = make(items, 5, t);
    static const size_t pieces[] = {1, 4096};
    for (size_t k = 0; k < 2; k++) {
        char dir[64];
        ht_err err = {0};
        temp_dir(dir);
        ASSERT_OK(write_all(dir, t, n, 0, false, pieces[k], &err), &err);
        check(dir, t, n, 1);
        struct ht_source *s;
        ASSERT_OK(ht_source_open(in(dir, "model.safetensors"), &s, &err), &err);
        static const char *const order[] = {"long", "float", "half", "half2", "byte"};
        for (size_t i = 0; i < 5; i++) {
            assert_string_equal(s->tensors[i].name, order[i]);
        }
        ht_source_close(s);
        remove_dir(dir);
    }
}

static void shards(void **state) {
    (void)state;
    struct ht_tensor t[4];
    size_t n = make(plain, 4, t);
    static const struct {
        uint64_t shard_bytes;
        size_t files;
    } cases[] = {{1, 4}, {600, 2}, {100000, 1}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        char dir[64];
        ht_err err = {0};
        temp_dir(dir);
        ASSERT_OK(write_all(dir, t, n, cases[k].shard_bytes, false, 4096, &err), &err);
        if (cases[k].files > 1) {
            json_t *index;
            ASSERT_OK(ht_json_load_file(in(dir, "model.safetensors.index.json"), 1 << 20, &index, &err), &err);
            assert_int_equal(json_integer_value(json_object_get(json_object_get(index, "metadata"), "total_size")), 88);
            assert_int_equal(json_object_size(json_object_get(index, "weight_map")), 4);
            json_decref(index);
            for (size_t i = 1; i <= cases[k].files; i++) {
                char name[64];
                snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i, cases[k].files);
                struct bytes f = get_file(in(dir, name));
                assert_true(f.n <= cases[k].shard_bytes || cases[k].shard_bytes == 1);
                ht_mem_free(f.p);
            }
        }
        check(dir, t, n, cases[k].files);
        assert_int_equal(remove_dir(dir), cases[k].files + 1 + (cases[k].files > 1));
    }
}

static void all_or_nothing(void **state) {
    (void)state;
    struct ht_tensor t[4];
    size_t n = make(plain, 4, t);
    char dir[64];
    struct ht_safetensors_writer *w;
    ht_err err = {0};
    temp_dir(dir);
    ASSERT_OK(ht_safetensors_writer_new(dir, t, n, 1, false, &w, &err), &err);
    check_refused("short", ht_safetensors_writer_commit(w, &err), HT_INVAL, &err, "got 0 of 48 bytes", t[0].name);
    assert_int_equal(remove_dir(dir), 0);

    /* Weights of the other kind are in the way: a loader would take model.safetensors and ignore the index. */
    temp_dir(dir);
    ht_err_clear(&err);
    ASSERT_OK(write_all(dir, t, n, 0, false, 4096, &err), &err);
    check_refused("other kind", ht_safetensors_writer_new(dir, t, n, 1, false, &w, &err), HT_EXISTS, &err, "holds other weights",
                  "model.safetensors");
    ht_err_clear(&err);
    check_refused("same kind", ht_safetensors_writer_new(dir, t, n, 0, false, &w, &err), HT_EXISTS, &err, "exists already",
                  "model.safetensors");
    ht_err_clear(&err);
    ASSERT_OK(write_all(dir, t, n, 1, true, 4096, &err), &err);
    assert_false(ht_path_exists(in(dir, "model.safetensors")));
    check(dir, t, n, 4);
    ASSERT_OK(write_all(dir, t, n, 0, true, 4096, &err), &err);
    assert_false(ht_path_exists(in(dir, "model.safetensors.index.json")));
    check(dir, t, n, 1);
    remove_dir(dir);
}

static void refuses(void **state) {
    (void)state;
    char dir[64], long_name[514];
    memset(long_name, 'x', 513);
    long_name[513] = '\0';
    temp_dir(dir);
    const struct ht_format *f32 = ht_format_find("f32"), *q8 = ht_format_find("q8_0");
    const struct {
        const char *name, *dir;
        struct ht_tensor t[2];
        ht_status code;
        const char *part;
    } cases[] = {
        {"long name", dir, {{long_name, f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, HT_INVAL, "is too long"},
        {"empty name", dir, {{"", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, HT_INVAL, "is empty"},
        {"reserved", dir, {{"__metadata__", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, HT_INVAL, "is reserved"},
        {"duplicate", dir, {{"y", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, HT_INVAL, "two tensors are named 'y'"},
        {"block format", dir, {{"x", q8, 1, {32}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, HT_UNSUPPORTED, "no dtype for the format q8_0"},
        {"zero", dir, {{"x", f32, 2, {1, 0}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, HT_FORMAT, "dimension 1 is 0"},
        {"no folder", "/tmp/ht-io-there-is-none", {{"x", f32, 1, {1}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, HT_NOTFOUND, "cannot create"},
        {"larger than any disk", dir, {{"x", f32, 1, {1ull << 60}, NULL, 0}, {"y", f32, 1, {1}, NULL, 0}}, HT_NOSPACE, "the output needs"},
        {"sum overflow", dir, {{"x", f32, 1, {(1ull << 61) - 1}, NULL, 0}, {"y", f32, 1, {(1ull << 61) - 1}, NULL, 0}}, HT_LIMIT, "sizes overflow"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ht_safetensors_writer *w;
        ht_err err = {0};
        ht_status got = ht_safetensors_writer_new(cases[i].dir, cases[i].t, 2, 0, false, &w, &err);
        check_refused(cases[i].name, got, cases[i].code, &err, cases[i].part, NULL);
        assert_null(w);
    }
    struct ht_tensor t[4];
    make(plain, 4, t);
    struct ht_safetensors_writer *w;
    ht_err err = {0};
    ASSERT_OK(ht_safetensors_writer_new(dir, t + 3, 1, 0, false, &w, &err), &err);
    check_refused("too much", ht_safetensors_writer_tensor(w, "123", 3, &err), HT_INVAL, &err, "3 bytes, expected 2", "scalar");
    ht_err_clear(&err);
    ASSERT_OK(ht_safetensors_writer_tensor(w, "12", 2, &err), &err);
    check_refused("behind", ht_safetensors_writer_tensor(w, "1", 1, &err), HT_INVAL, &err, "behind the last", "model.safetensors");
    ht_safetensors_writer_abort(w);
    assert_int_equal(remove_dir(dir), 0);
}

static void out_of_memory(void **state) {
    (void)state;
    struct ht_tensor t[4];
    size_t count = make(plain, 4, t);
    char dir[64];
    temp_dir(dir);
    uint64_t n = 1;
    for (;; n++) {
        ht_err err = {0};
        ht_mem_fail_at(n, 0);
        ht_status got = write_all(dir, t, count, 1, true, 4096, &err);
        ht_mem_fail_at(0, 0);
        if (got == HT_OK) {
            break;
        }
        assert_int_equal(got, HT_NOMEM);
        assert_false(ht_path_exists(in(dir, "model.safetensors.index.json")));
    }
    assert_true(n > 20);
    assert_int_equal(remove_dir(dir), 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file), cmocka_unit_test(misaligned_order), cmocka_unit_test(shards),
        cmocka_unit_test(all_or_nothing), cmocka_unit_test(refuses),    cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
