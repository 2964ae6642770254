/* verify and inspect: damage is found and named; what inspect shows adds up. */
#include "test.h"

#include <fcntl.h>

#include "base/rng.h"
#include "io/container.h"
#include "flow_test.h"

static void make(struct fixture *f, const char *output, const char *format) {
    ht_quantize_options o;
    ht_err err;
    ht_quantize_options_defaults(&o);
    o.input = TINY;
    o.output = output;
    o.format = format;
    o.force = true;
    ASSERT_OK(ht_quantize(f->ctx, &o, NULL, &err), &err);
}

static void flip(const char *path, uint64_t at, unsigned char mask) {
    unsigned char b;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &b, 1, (off_t)at), 1);
    b ^= mask;
    assert_int_equal(pwrite(fd, &b, 1, (off_t)at), 1);
    close(fd);
}

static const json_t *finding(const json_t *record, const char *kind) {
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(record, "findings"), i, row) {
        if (strcmp(json_string_value(json_object_get(row, "kind")), kind) == 0) {
            return row;
        }
    }
    return NULL;
}

/* One bit anywhere in the data is found by the checksum of its tensor. */
static void bit_flips(void **state) {
    struct fixture *f = *state;
    char path[256];
    ht_err err;
    snprintf(path, sizeof path, "%s", in_dir(f, "flip.gguf"));
    make(f, path, "Q4_0");
    struct ht_rng rng;
    ht_rng_init(&rng, 1);
    struct ht_source *s;
    ASSERT_OK(ht_source_open(path, &s, &err), &err);
    for (int i = 0; i < 100; i++) {
        const struct ht_tensor *t = &s->tensors[ht_rng_below(&rng, s->n_tensors)];
        uint64_t from = (uint64_t)((const unsigned char *)t->data - s->maps[0].data);
        uint64_t at = from + ht_rng_below(&rng, t->bytes);
        unsigned char mask = (unsigned char)(1u << ht_rng_below(&rng, 8));
        char *json;
        flip(path, at, mask);
        assert_int_equal(ht_verify(f->ctx, path, NULL, &json, &err), HT_CHECKSUM);
        json_t *record = parse(json);
        const json_t *found = finding(record, "checksum");
        assert_non_null(found);
        assert_string_equal(json_string_value(json_object_get(found, "tensor")), t->name);
        assert_string_equal(err.what, t->name);
        assert_true(json_is_false(json_object_get(record, "sound")));
        json_decref(record);
        flip(path, at, mask);
    }
    ht_source_close(s);
    ASSERT_OK(ht_verify(f->ctx, path, NULL, NULL, &err), &err);
}

static void infinite_scale(void **state) {
    struct fixture *f = *state;
    char path[256];
    ht_err err;
    char *json;
    snprintf(path, sizeof path, "%s", in_dir(f, "inf.gguf"));
    make(f, path, "Q8_0");
    struct ht_source *s;
    ASSERT_OK(ht_source_open(path, &s, &err), &err);
    const struct ht_tensor *t = ht_source_find(s, "blk.1.attn_k.weight");
    uint64_t from = (uint64_t)((const unsigned char *)t->data - s->maps[0].data);
    ht_source_close(s);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\x00\x7c", 2, (off_t)(from + 34 * 5)), 2); /* f16 Inf as the scale of block 5 */
    close(fd);
    ht_verify_options o;
    ht_verify_options_defaults(&o);
    o.checksums = false;
    assert_int_equal(ht_verify(f->ctx, path, &o, &json, &err), HT_NUMERIC);
    json_t *record = parse(json);
    const json_t *found = finding(record, "nonfinite");
    assert_string_equal(json_string_value(json_object_get(found, "tensor")), "blk.1.attn_k.weight");
    assert_string_equal(json_string_value(json_object_get(found, "message")), "32 of 32768 values are NaN or Inf");
    json_decref(record);
    o.data = false;
    ASSERT_OK(ht_verify(f->ctx, path, &o, NULL, &err), &err);
    assert_int_equal(ht_verify(f->ctx, path, NULL, NULL, &err), HT_CHECKSUM); /* says more than NaN */
}

static void broken_structure(void **state) {
    struct fixture *f = *state;
    char path[256];
    ht_err err;
    char *json;
    snprintf(path, sizeof path, "%s", in_dir(f, "cut.gguf"));
    make(f, path, "Q8_0");
    uint64_t size = file_size(path);
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "tail", 4), 4);
    close(fd);
    ASSERT_OK(ht_verify(f->ctx, path, NULL, &json, &err), &err); /* harmless, but told */
    json_t *record = parse(json);
    assert_string_equal(json_string_value(json_object_get(finding(record, "trailing"), "severity")), "warning");
    json_decref(record);
    assert_int_equal(truncate(path, (off_t)(size - 100000)), 0);
    assert_int_equal(ht_verify(f->ctx, path, NULL, &json, &err), HT_FORMAT);
    record = parse(json);
    assert_non_null(finding(record, "structure"));
    json_decref(record);
    assert_int_equal(ht_verify(f->ctx, in_dir(f, "none.gguf"), NULL, &json, &err), HT_NOTFOUND);
    assert_null(json);
}

static void folder_is_sound(void **state) {
    struct fixture *f = *state;
    ht_err err;
    char *json;
    ASSERT_OK(ht_verify(f->ctx, TINY, NULL, &json, &err), &err);
    json_t *record = parse(json);
    assert_int_equal(json_integer_value(json_object_get(record, "checksums")), 0);
    assert_int_equal(json_array_size(json_object_get(record, "findings")), 0);
    json_decref(record);
}

static json_int_t sum(const json_t *array, const char *key) {
    json_int_t total = 0;
    json_t *row;
    size_t i;
    json_array_foreach(array, i, row) {
        total += json_integer_value(json_object_get(row, key));
    }
    return total;
}

static void inspect_adds_up(void **state) {
    struct fixture *f = *state;
    ht_err err;
    char *json;
    make(f, in_dir(f, "look.gguf"), "Q4_K_M");
    const char *paths[] = {in_dir(f, "look.gguf"), TINY};
    for (size_t i = 0; i < 2; i++) {
        ASSERT_OK(ht_inspect(f->ctx, paths[i], &json, &err), &err);
        json_t *r = parse(json);
        assert_string_equal(json_string_value(json_object_get(r, "architecture")), "llama");
        json_int_t weights = json_integer_value(json_object_get(r, "weights"));
        json_int_t bytes = json_integer_value(json_object_get(r, "data_bytes"));
        assert_int_equal(weights, 4983552);
        assert_int_equal(sum(json_object_get(r, "formats"), "weights"), weights);
        assert_int_equal(sum(json_object_get(r, "roles"), "weights"), weights);
        assert_int_equal(sum(json_object_get(r, "formats"), "bytes"), bytes);
        assert_int_equal(sum(json_object_get(r, "tensors"), "bytes"), bytes);
        assert_int_equal(json_array_size(json_object_get(r, "tensors")), 47);
        const json_t *hp = json_object_get(r, "hparams");
        assert_int_equal(json_integer_value(json_object_get(hp, "layers")), 5);
        assert_int_equal(json_integer_value(json_object_get(hp, "kv_heads")), 2);
        /* 2 (K, V) * 5 layers * 2 heads * 64 * 2 bytes */
        assert_int_equal(json_integer_value(json_object_get(json_object_get(r, "kv_cache_f16"), "bytes_per_token")), 2560);
        assert_string_equal(json_string_value(json_object_get(json_object_get(r, "tokenizer"), "pre")), "gpt-2");
        json_decref(r);
    }
    ASSERT_OK(ht_inspect(f->ctx, TINY "/model.safetensors", &json, &err), &err); /* no config beside it counts */
    json_t *r = parse(json);
    assert_int_equal(json_array_size(json_object_get(r, "tensors")), 47);
    json_decref(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bit_flips),       cmocka_unit_test(infinite_scale), cmocka_unit_test(broken_structure),
        cmocka_unit_test(folder_is_sound), cmocka_unit_test(inspect_adds_up),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
