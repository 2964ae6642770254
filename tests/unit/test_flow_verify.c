/* verify and inspect: damage is found and named; what inspect shows adds up. */
#include "test.h"

#include <fcntl.h>

#include "base/rng.h"
#include "io/container.h"
#include "io/gguf.h"
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

/* One bit anywhere in front of the data: metadata, tensor infos, padding, and the checksum itself. */
static void header_bit_flips(void **state) {
    struct fixture *f = *state;
    char path[256];
    ht_err err;
    snprintf(path, sizeof path, "%s", in_dir(f, "head.gguf"));
    make(f, path, "Q4_0");
    struct ht_source *s;
    ASSERT_OK(ht_source_open(path, &s, &err), &err);
    uint64_t end = (uint64_t)((const unsigned char *)s->tensors[0].data - s->maps[0].data);
    ht_source_close(s);
    ht_verify_options o;
    ht_verify_options_defaults(&o);
    o.data = false;
    struct ht_rng rng;
    ht_rng_init(&rng, 2);
    size_t told = 0;
    for (int i = 0; i < 200; i++) {
        uint64_t at = ht_rng_below(&rng, end);
        unsigned char mask = (unsigned char)(1u << ht_rng_below(&rng, 8));
        char *json;
        flip(path, at, mask);
        ht_status status = ht_verify(f->ctx, path, &o, &json, &err);
        if (status != HT_CHECKSUM && status != HT_FORMAT && status != HT_LIMIT && status != HT_UNSUPPORTED) {
            fail_msg("bit flipped at %llu: %s", (unsigned long long)at, ht_status_text(status));
        }
        json_t *record = parse(json);
        const json_t *sum = finding(record, "checksum");
        if (sum != NULL) {
            assert_non_null(strstr(json_string_value(json_object_get(sum, "message")), "header of head.gguf: "));
            told++;
        }
        json_decref(record);
        flip(path, at, mask);
    }
    assert_true(told > 60); /* the others break the structure: lengths, types */
    ASSERT_OK(ht_verify(f->ctx, path, NULL, NULL, &err), &err);
}

/* A program that writes the model anew and carries our keys along leaves checksums of another file; a few changed
 * tensors are damage, whatever the header says. */
static void rewritten_or_damaged(void **state) {
    struct fixture *f = *state;
    char path[256], *json;
    ht_err err;
    snprintf(path, sizeof path, "%s", in_dir(f, "anew.gguf"));
    make(f, path, "Q4_0");
    struct ht_source *s = open_source(path);
    struct ht_gguf gguf;
    ASSERT_OK(ht_gguf_parse(s->maps[0].data, s->maps[0].size, path, &gguf, &err), &err);
    uint64_t sum_at = gguf.header_sum_at;
    ht_gguf_deinit(&gguf);
    assert_true(sum_at > 0);
    flip(path, sum_at, 1);
    for (size_t i = 0; i < s->n_tensors; i++) {
        uint64_t at = (uint64_t)((const unsigned char *)s->tensors[i].data - s->maps[0].data);
        if (i == 10) {
            assert_int_equal(ht_verify(f->ctx, path, NULL, &json, &err), HT_CHECKSUM);
            json_t *record = parse(json);
            assert_int_equal(json_array_size(json_object_get(record, "findings")), 11);
            json_decref(record);
        }
        flip(path, at + 2, 1);
    }
    ASSERT_OK(ht_verify(f->ctx, path, NULL, &json, &err), &err);
    json_t *record = parse(json);
    assert_int_equal(json_array_size(json_object_get(record, "findings")), 1);
    assert_string_equal(json_string_value(json_object_get(finding(record, "rewritten"), "severity")), "warning");
    assert_int_equal(json_integer_value(json_object_get(record, "checksums")), 0);
    json_decref(record);
    flip(path, sum_at, 1); /* the header is as it was written: then the data are damaged */
    assert_int_equal(ht_verify(f->ctx, path, NULL, NULL, &err), HT_CHECKSUM);
    ht_source_close(s);
}

/* Each file of a split carries the checksum of its own header. */
static void split_headers(void **state) {
    struct fixture *f = *state;
    ht_convert_options c;
    ht_err err;
    char *json;
    ht_convert_options_defaults(&c);
    c.input = TINY;
    c.output = in_dir(f, "parts.gguf");
    c.shard_bytes = 4u << 20;
    ASSERT_OK(ht_convert(f->ctx, &c, &json, &err), &err);
    json_t *record = parse(json), *output = json_object_get(record, "output");
    int n = (int)json_integer_value(json_object_get(output, "files"));
    assert_true(n > 1);
    char first[256], last[256], name[64];
    snprintf(name, sizeof name, "parts-00001-of-%05d.gguf", n);
    snprintf(first, sizeof first, "%s", in_dir(f, name));
    snprintf(name, sizeof name, "parts-%05d-of-%05d.gguf", n, n);
    snprintf(last, sizeof last, "%s", in_dir(f, name));
    json_decref(record);
    ASSERT_OK(ht_verify(f->ctx, first, NULL, &json, &err), &err);
    record = parse(json);
    assert_int_equal(json_integer_value(json_object_get(record, "checksums")), 47 + n);
    json_decref(record);
    /* The last letter of the key's name: "halftone.header_xxh3". */
    char *data;
    size_t len;
    ASSERT_OK(ht_read_file(last, 64u << 20, &data, &len, &err), &err);
    const char *at = memmem(data, len, "halftone.header_xxh3", 20);
    assert_non_null(at);
    flip(last, (uint64_t)(at - data) + 19, 1);
    ht_mem_free(data);
    assert_int_equal(ht_verify(f->ctx, first, NULL, NULL, &err), HT_CHECKSUM);
    assert_non_null(strstr(err.msg, "its checksum is missing"));
    assert_non_null(strstr(err.msg, name));
}

static void make_folder(struct fixture *f, const char *folder, uint64_t shard_bytes) {
    ht_convert_options c;
    ht_err err;
    ht_convert_options_defaults(&c);
    c.input = TINY;
    c.output = folder;
    c.shard_bytes = shard_bytes;
    c.force = true;
    ASSERT_OK(ht_convert(f->ctx, &c, NULL, &err), &err);
}

static const char *in_folder(const char *folder, const char *name) {
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Damage in any file of a folder is found, and its place named: the file, or the tensor. */
static void folder_damage(void **state) {
    struct fixture *f = *state;
    char folder[256];
    ht_err err;
    char *json;
    for (int cut = 0; cut < 2; cut++) {
        snprintf(folder, sizeof folder, "%s", in_dir(f, cut ? "sums-cut" : "sums-one"));
        make_folder(f, folder, cut ? 3u << 20 : 0);
        ASSERT_OK(ht_verify(f->ctx, folder, NULL, &json, &err), &err);
        json_t *record = parse(json);
        assert_true(json_integer_value(json_object_get(record, "checksums")) > 47);
        json_decref(record);
        const char *names[] = {"config.json", "tokenizer.json", "tokenizer_config.json",
                               cut ? "model.safetensors.index.json" : "model.safetensors"};
        for (size_t i = 0; i < 4; i++) {
            const char *path = in_folder(folder, names[i]);
            char *data;
            size_t len;
            ASSERT_OK(ht_read_file(path, 64u << 20, &data, &len, &err), &err);
            /* A space between two items becomes a tab: the JSON says the same. */
            size_t at = 8;
            while (at < len && data[at] != ' ') {
                at++;
            }
            ht_mem_free(data);
            unsigned char mask = ' ' ^ '\t';
            if (i == 3 && !cut) { /* its header has blanks only in names and as padding, if any: the first name's letter */
                at = 8 + 40;
                mask = 'a' ^ 'b';
            }
            flip(path, at, mask);
            ht_status status = ht_verify(f->ctx, folder, NULL, &json, &err);
            record = parse(json);
            if (status == HT_CHECKSUM) {
                assert_non_null(strstr(json_string_value(json_object_get(finding(record, "checksum"), "message")),
                                       names[i]));
            } else if (i != 3 || cut || status != HT_FORMAT) {
                fail_msg("%s: %s", names[i], ht_status_text(status));
            }
            json_decref(record);
            flip(in_folder(folder, names[i]), at, mask);
        }
        struct ht_source *s;
        ASSERT_OK(ht_source_open(folder, &s, &err), &err);
        for (size_t i = 0; i < s->n_tensors; i += 5) {
            uint32_t map = s->tensor_map[i];
            uint64_t at = (uint64_t)((const unsigned char *)s->tensors[i].data - s->maps[map].data) + 1;
            flip(s->map_paths[map], at, 1);
            assert_int_equal(ht_verify(f->ctx, folder, NULL, NULL, &err), HT_CHECKSUM);
            assert_string_equal(err.what, s->tensors[i].name);
            flip(s->map_paths[map], at, 1);
        }
        ht_source_close(s);
        ASSERT_OK(ht_verify(f->ctx, folder, NULL, NULL, &err), &err);
        unlink(in_folder(folder, "generation_config.json"));
        assert_int_equal(ht_verify(f->ctx, folder, NULL, NULL, &err), HT_CHECKSUM);
        assert_string_equal(err.msg, "generation_config.json: the file is missing");
    }
}

/* The list is input like any other. */
static void damaged_lists(void **state) {
    struct fixture *f = *state;
    char folder[256];
    ht_err err;
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"", "JSON"},
        {"{", "JSON"},
        {"[]", "expected \"schema\""},
        {"{\"schema\": \"halftone.checksums/2\", \"files\": {}, \"tensors\": {}}", "expected \"schema\""},
        {"{\"schema\": \"halftone.checksums/1\", \"files\": [], \"tensors\": {}}", "expected \"schema\""},
        {"{\"schema\": \"halftone.checksums/1\", \"files\": {}, \"tensors\": {}}", "has no checksum"},
        {"{\"schema\": \"halftone.checksums/1\", \"files\": {\"../x\": {\"bytes\": 1, \"hashed\": 1, \"xxh3\": "
         "\"0123456789abcdef\"}}, \"tensors\": {}}", "entry of \"files\" is damaged"},
        {"{\"schema\": \"halftone.checksums/1\", \"files\": {\"config.json\": {\"bytes\": -1, \"hashed\": 1, \"xxh3\": "
         "\"0123456789abcdef\"}}, \"tensors\": {}}", "entry of \"files\" is damaged"},
        {"{\"schema\": \"halftone.checksums/1\", \"files\": {\"config.json\": {\"bytes\": 1, \"hashed\": 1, \"xxh3\": "
         "\"0123456789ABCDEF\"}}, \"tensors\": {}}", "entry of \"files\" is damaged"},
        {"{\"schema\": \"halftone.checksums/1\", \"files\": {\"config.json\": 7}, \"tensors\": {}}",
         "entry of \"files\" is damaged"},
        {"{\"schema\": \"halftone.checksums/1\", \"files\": {\"config.json\": {\"bytes\": 1, \"hashed\": 9000, \"xxh3\": "
         "\"0123456789abcdef\"}}, \"tensors\": {}}", "the file has changed"},
    };
    snprintf(folder, sizeof folder, "%s", in_dir(f, "lists"));
    make_folder(f, folder, 0);
    const char *path = in_folder(folder, "halftone.checksums.json");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ASSERT_OK(ht_write_file(path, rows[i].text, strlen(rows[i].text), true, &err), &err);
        assert_int_equal(ht_verify(f->ctx, folder, NULL, NULL, &err), HT_CHECKSUM);
        if (strstr(err.msg, rows[i].words) == NULL) {
            fail_msg("list %zu: %s", i, err.msg);
        }
    }
    unlink(path); /* folders of others have none */
    ASSERT_OK(ht_verify(f->ctx, folder, NULL, NULL, &err), &err);
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
        cmocka_unit_test(bit_flips),       cmocka_unit_test(header_bit_flips), cmocka_unit_test(split_headers),
        cmocka_unit_test(rewritten_or_damaged),
        cmocka_unit_test(folder_damage),   cmocka_unit_test(damaged_lists),  cmocka_unit_test(infinite_scale), cmocka_unit_test(broken_structure),
        cmocka_unit_test(folder_is_sound), cmocka_unit_test(inspect_adds_up),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
