#include "test.h"

#include "base/limits.h"
#include "io/container.h"
#include "io/safetensors.h"
#include "io_build.h"

/* A file from its header text and a number of data bytes, byte i of which is i. */
static struct bytes st_file(const char *header, size_t data_bytes) {
    struct bytes b = {malloc(8 + strlen(header) + data_bytes), 0, 8 + strlen(header) + data_bytes};
    assert_non_null(b.p);
    bytes_int(&b, strlen(header), 8);
    bytes_add(&b, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++) {
        bytes_fill(&b, 1, (int)i);
    }
    return b;
}

#define E(name, dtype, shape, begin, end) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #begin "," #end "]}"

#define VALID                                                                                                   \
    "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"a\\u0000b\"}," E("b.weight", "BF16", "[2,3]", 12, 24) ","    \
    E("a", "F32", "[3]", 0, 12) "," E("scalar", "I64", "[]", 24, 32) "," E("u8", "U8", "[1,1,2,2]", 32, 36) "}   "

static void values(void **state) {
    (void)state;
    struct bytes b = st_file(VALID, 36);
    struct ht_safetensors st;
    ht_err err = {0};
    ASSERT_OK(ht_safetensors_parse(b.p, b.n, "valid", &st, &err), &err);
    assert_int_equal(st.n_tensors, 4);
    static const char *const order[] = {"a", "b.weight", "scalar", "u8"}; /* by offset */
    static const unsigned first[] = {0, 12, 24, 32};
    for (size_t i = 0; i < 4; i++) {
        assert_string_equal(st.tensors[i].name, order[i]);
        assert_int_equal(*(const unsigned char *)st.tensors[i].data, first[i]);
    }
    assert_int_equal(st.tensors[1].ne[0], 3); /* [out, in] = [2, 3] */
    assert_int_equal(st.tensors[1].ne[1], 2);
    assert_int_equal(st.tensors[1].n_dims, 2);
    assert_int_equal(st.tensors[2].n_dims, 0);
    assert_int_equal(st.tensors[3].n_dims, 4);
    assert_string_equal(st.tensors[1].format->name, "bf16");
    const char *format = "";
    ASSERT_OK(ht_meta_get_str(&st.meta, "format", &format, NULL, &err), &err);
    assert_string_equal(format, "pt");
    assert_int_equal(ht_meta_find(&st.meta, "note")->v.str.len, 3);
    ht_safetensors_deinit(&st);
    free(b.p);
    b = st_file("{}", 0);
    ASSERT_OK(ht_safetensors_parse(b.p, b.n, "none", &st, &err), &err);
    assert_int_equal(st.n_tensors, 0);
    ht_safetensors_deinit(&st);
    free(b.p);
}

#define LONG_NAME "0123456789012345678901234567890123456789012345678901234567890123"

static const struct {
    const char *name, *header;
    size_t data_bytes;
    ht_status code;
    const char *part;
} malformed[] = {
    /* JSON */
    {"one letter", "{", 0, HT_FORMAT, "begins with '{'"},
    {"array", "[]", 0, HT_FORMAT, "begins with '{'"},
    {"space in front", " {}", 0, HT_FORMAT, "begins with '{'"},
    {"line break in front", "\n{}", 0, HT_FORMAT, "begins with '{'"},
    {"byte order mark", "\xef\xbb\xbf{}", 0, HT_FORMAT, "begins with '{'"},
    {"not closed", "{\"a\":", 0, HT_FORMAT, "not valid JSON"},
    {"text behind", "{} x", 0, HT_FORMAT, "not valid JSON"},
    {"two objects", "{}{}", 0, HT_FORMAT, "not valid JSON"},
    {"comma behind the last", "{" E("a", "U8", "[1]", 0, 1) ",}", 1, HT_FORMAT, "not valid JSON"},
    {"comment", "{/* x */}", 0, HT_FORMAT, "not valid JSON"},
    {"single quotes", "{'a':1}", 0, HT_FORMAT, "not valid JSON"},
    {"not UTF-8", "{\"\xff\":1}", 0, HT_FORMAT, "not valid JSON"},
    {"lone surrogate", "{\"\\ud800\":1}", 0, HT_FORMAT, "not valid JSON"},
    {"number with leading zero", "{" E("a", "U8", "[01]", 0, 1) "}", 1, HT_FORMAT, "not valid JSON"},
    {"number beyond int64", "{" E("a", "U8", "[18446744073709551617]", 0, 1) "}", 1, HT_FORMAT, "not valid JSON"},
    {"NaN", "{" E("a", "U8", "[NaN]", 0, 1) "}", 1, HT_FORMAT, "not valid JSON"},
    {"NUL in the middle", "{\"a\":\\u0000}", 0, HT_FORMAT, "not valid JSON"},
    {"tensor twice", "{" E("a", "U8", "[1]", 0, 1) "," E("a", "U8", "[1]", 1, 2) "}", 2, HT_FORMAT, "duplicate object key"},
    {"field twice", "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, HT_FORMAT, "duplicate"},
    {"five levels", "{\"a\":[[[[1]]]]}", 0, HT_LIMIT, "nests deeper than 4"},
    {"deep", "{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 0, HT_LIMIT, "nests deeper"},
    /* names and metadata */
    {"empty name", "{" E("", "U8", "[1]", 0, 1) "}", 1, HT_FORMAT, "the name is empty"},
    {"name with NUL", "{" E("a\\u0000b", "U8", "[1]", 0, 1) "}", 1, HT_FORMAT, "NUL"},
    {"name with escape", "{" E("a\\u001b[2J", "U8", "[1]", 0, 1) "}", 1, HT_FORMAT, "tensor 0 of the header: the name holds a control"},
    {"name of 576 bytes",
     "{" E(LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME LONG_NAME, "U8", "[1]", 0, 1) "}", 1, HT_FORMAT,
     "the name is too long"},
    {"metadata is a list", "{\"__metadata__\":[]}", 0, HT_FORMAT, "__metadata__: expected an object"},
    {"metadata of a number", "{\"__metadata__\":{\"k\":1}}", 0, HT_FORMAT, "__metadata__: key 'k': expected a string"},
    {"metadata of an object", "{\"__metadata__\":{\"k\":{}}}", 0, HT_FORMAT, "key 'k': expected a string"},
    {"metadata with an empty key", "{\"__metadata__\":{\"\":\"x\"}}", 0, HT_FORMAT, "a key is empty"},
    /* entries */
    {"entry is a number", "{\"a\":1}", 0, HT_FORMAT, "tensor 'a': expected an object"},
    {"entry is null", "{\"a\":null}", 0, HT_FORMAT, "tensor 'a': expected an object"},
    {"entry is empty", "{\"a\":{}}", 0, HT_FORMAT, "tensor 'a': expected dtype, shape, data_offsets and no other"},
    {"a field too many", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1, HT_FORMAT, "found 4 fields"},
    {"another field", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"offsets\":[0,1]}}", 1, HT_FORMAT, "'a': expected \"data_offsets\""},
    {"no dtype", "{\"a\":{\"type\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, HT_FORMAT, "'a': expected a string \"dtype\""},
    {"dtype is a number", "{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, HT_FORMAT, "expected a string \"dtype\""},
    {"unknown dtype", "{" E("a", "Q4", "[1]", 0, 1) "}", 1, HT_FORMAT, "'a': unknown dtype 'Q4'"},
    {"dtype in lower case", "{" E("a", "f32", "[1]", 0, 4) "}", 4, HT_FORMAT, "unknown dtype 'f32'"},
    {"float8", "{" E("a", "F8_E4M3", "[1]", 0, 1) "}", 1, HT_UNSUPPORTED, "'a': dtype F8_E4M3 is not supported"},
    {"shape is a number", "{" E("a", "U8", "1", 0, 1) "}", 1, HT_FORMAT, "'a': expected an array \"shape\""},
    {"shape of text", "{" E("a", "U8", "[\\\"1\\\"]", 0, 1) "}", 1, HT_FORMAT, "not valid JSON"},
    {"negative dimension", "{" E("a", "U8", "[-1]", 0, 1) "}", 1, HT_FORMAT, "'a': dimension 0 of the shape"},
    {"real dimension", "{" E("a", "U8", "[1.0]", 0, 1) "}", 1, HT_FORMAT, "dimension 0 of the shape is no whole"},
    {"true dimension", "{" E("a", "U8", "[true]", 0, 1) "}", 1, HT_FORMAT, "dimension 0 of the shape is no whole"},
    {"dimension 0", "{" E("a", "U8", "[3,0]", 0, 0) "}", 0, HT_UNSUPPORTED, "'a': dimension 1 is 0"},
    {"five dimensions", "{" E("a", "U8", "[1,1,1,1,1]", 0, 1) "}", 1, HT_UNSUPPORTED, "'a': 5 dimensions, at most 4"},
    {"elements overflow", "{" E("a", "U8", "[4294967296,4294967296]", 0, 1) "}", 1, HT_FORMAT, "'a': the size overflows"},
    {"rows overflow", "{" E("a", "U8", "[4294967296,4294967296,2]", 0, 1) "}", 1, HT_FORMAT, "'a': the shape overflows"},
    {"bytes overflow", "{" E("a", "F32", "[4611686018427387904]", 0, 1) "}", 1, HT_FORMAT, "'a': the size overflows"},
    /* offsets */
    {"offsets are a number", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":0}}", 1, HT_FORMAT, "'a': expected \"data_offsets\""},
    {"one offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, HT_FORMAT, "expected \"data_offsets\""},
    {"three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 1, HT_FORMAT, "expected \"data_offsets\""},
    {"negative offset", "{" E("a", "U8", "[1]", -1, 0) "}", 1, HT_FORMAT, "expected \"data_offsets\""},
    {"real offset", "{" E("a", "U8", "[1]", 0, 1.0) "}", 1, HT_FORMAT, "expected \"data_offsets\""},
    {"begin behind end", "{" E("a", "U8", "[1]", 1, 0) "}", 1, HT_FORMAT, "'a': data_offsets [1, 0]"},
    {"end beyond the file", "{" E("a", "F32", "[2]", 0, 8) "}", 7, HT_FORMAT, "[0, 8] do not lie in the file's 7 bytes of data; it is cut"},
    {"end of 2^63-1", "{" E("a", "U8", "[1]", 0, 9223372036854775807) "}", 1, HT_FORMAT, "do not lie in the file"},
    {"size does not match", "{" E("a", "F32", "[2]", 0, 4) "}", 4, HT_FORMAT, "'a': data_offsets span 4 bytes, dtype and shape need 8"},
    {"span of nothing", "{" E("a", "U8", "[1]", 0, 0) "}", 0, HT_FORMAT, "span 0 bytes"},
    {"hole at the start", "{" E("a", "U8", "[1]", 1, 2) "}", 2, HT_FORMAT, "'a' begins at offset 1, expected 0"},
    {"hole between", "{" E("a", "U8", "[1]", 0, 1) "," E("b", "U8", "[1]", 2, 3) "}", 3, HT_FORMAT, "'b' begins at offset 2, expected 1"},
    {"overlap", "{" E("a", "U8", "[2]", 0, 2) "," E("b", "U8", "[2]", 1, 3) "}", 3, HT_FORMAT, "'b' begins at offset 1, expected 2"},
    {"same bytes twice", "{" E("a", "U8", "[2]", 0, 2) "," E("b", "U8", "[2]", 0, 2) "}", 2, HT_FORMAT, "begins at offset 0, expected 2"},
    {"rest behind", "{" E("a", "U8", "[1]", 0, 1) "}", 3, HT_FORMAT, "the tensors end at offset 1, the data at 3"},
    {"data without tensors", "{}", 1, HT_FORMAT, "the tensors end at offset 0, the data at 1"},
};

static const struct {
    const char *name, *script;
    ht_status code;
    const char *part;
} raw[] = {
    {"empty", "", HT_FORMAT, "found 0 bytes"},
    {"seven bytes", "z:7", HT_FORMAT, "found 7 bytes"},
    {"header of nothing", "w8:0", HT_FORMAT, "begins with '{'"},
    {"header beyond the file", "w8:3 t:{}", HT_FORMAT, "length is 3 bytes, the file has 2 left"},
    {"header of 100 MB and one", "w8:104857601 t:{}", HT_LIMIT, "104857601 bytes, the limit is 104857600"},
    {"header of 2^63", "w8:0x8000000000000000 t:{}", HT_LIMIT, "the limit is"},
    {"header of 2^64-1", "w8:-1 t:{}", HT_LIMIT, "18446744073709551615 bytes"},
};

static void refuses(void **state) {
    (void)state;
    size_t n = sizeof malformed / sizeof malformed[0], n_raw = sizeof raw / sizeof raw[0];
    assert_true(n + n_raw >= 40);
    for (size_t i = 0; i < n + n_raw; i++) {
        struct bytes b = i < n ? st_file(malformed[i].header, malformed[i].data_bytes) : build(raw[i - n].script);
        struct ht_safetensors st;
        ht_err err = {0};
        ht_status got = ht_safetensors_parse(b.p, b.n, "a.safetensors", &st, &err);
        if (i < n) {
            check_refused(malformed[i].name, got, malformed[i].code, &err, malformed[i].part, "a.safetensors");
        } else {
            check_refused(raw[i - n].name, got, raw[i - n].code, &err, raw[i - n].part, "a.safetensors");
        }
        free(b.p);
    }
}

/* Headers that would cost much memory are refused before they are parsed. */
static void too_much(void **state) {
    (void)state;
    static const struct {
        const char *name, *before, *item, *after;
        size_t n;
        const char *part;
    } cases[] = {
        {"list of 13 million", "{\"a\":[0", ",0", "]}", 13000000, "JSON with more than 12582912 items"},
        {"text of commas is no list", "{\"__metadata__\":{\"k\":\"", ",:", "\"},\"a\":0}", 7000000, "tensor 'a': expected an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t step = strlen(cases[i].item), before = strlen(cases[i].before);
        char *header = malloc(before + cases[i].n * step + strlen(cases[i].after) + 1);
        assert_non_null(header);
        memcpy(header, cases[i].before, before);
        for (size_t k = 0; k < cases[i].n; k++) {
            memcpy(header + before + k * step, cases[i].item, step);
        }
        memcpy(header + before + cases[i].n * step, cases[i].after, strlen(cases[i].after) + 1);
        struct bytes b = st_file(header, 0);
        struct ht_safetensors st;
        ht_err err = {0};
        ht_status got = ht_safetensors_parse(b.p, b.n, "a.safetensors", &st, &err);
        check_refused(cases[i].name, got, i == 0 ? HT_LIMIT : HT_FORMAT, &err, cases[i].part, "a.safetensors");
        free(b.p);
        free(header);
    }
    struct bytes text = {NULL, 0, 0}; /* 65,537 keys of metadata */
    bytes_add(&text, "{\"__metadata__\":{", 17);
    for (unsigned k = 0; k <= HT_MAX_KV; k++) {
        char item[32];
        snprintf(item, sizeof item, "%s\"%u\":\"\"", k ? "," : "", k);
        bytes_add(&text, item, strlen(item));
    }
    bytes_add(&text, "}}", 3);
    struct bytes b = st_file((const char *)text.p, 0);
    struct ht_safetensors st;
    ht_err err = {0};
    check_refused("metadata", ht_safetensors_parse(b.p, b.n, "a.safetensors", &st, &err), HT_LIMIT, &err,
                  "__metadata__: 65537 keys, the limit is 65536", "a.safetensors");
    free(b.p);
    free(text.p);
}

/* Data may begin at any address: decoding reads the same values there. */
static void misaligned_data(void **state) {
    (void)state;
    static const char *const formats[] = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "U16", "U32", "U64"};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        char header[256];
        const struct ht_format *f = ht_format_by_st(formats[i]);
        assert_non_null(f);
        snprintf(header, sizeof header, "{" E("a", "U8", "[1]", 0, 1) ",\"x\":{\"dtype\":\"%s\",\"shape\":[2],\"data_offsets\":[1,%u]}}",
                 formats[i], 1 + 2 * f->block_bytes);
        struct bytes b = st_file(header, 1 + 2 * f->block_bytes);
        struct ht_safetensors st;
        ht_err err = {0};
        ASSERT_OK(ht_safetensors_parse(b.p, b.n, "a", &st, &err), &err);
        unsigned char aligned[16];
        float here[2], there[2];
        memcpy(aligned, st.tensors[1].data, st.tensors[1].bytes);
        f->decode(st.tensors[1].data, here, 2);
        f->decode(aligned, there, 2);
        assert_memory_equal(here, there, sizeof here);
        ht_safetensors_deinit(&st);
        free(b.p);
    }
}

static void truncated_at_every_byte(void **state) {
    (void)state;
    struct bytes b = st_file(VALID, 36);
    for (size_t n = 0; n < b.n; n++) {
        unsigned char *p = prefix(&b, n);
        struct ht_safetensors st;
        ht_err err = {0};
        assert_int_equal(ht_safetensors_parse(p, n, "cut", &st, &err), HT_FORMAT);
        assert_true(err.msg[0] != '\0');
        free(p);
    }
    free(b.p);
}

static void flipped_bits(void **state) {
    (void)state;
    struct bytes b = st_file(VALID, 36);
    for (size_t bit = 0; bit < 8 * b.n; bit++) {
        b.p[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        struct ht_safetensors st;
        ht_err err = {0};
        if (ht_safetensors_parse(b.p, b.n, "flip", &st, &err) == HT_OK) {
            uint64_t total = 0;
            for (size_t i = 0; i < st.n_tensors; i++) {
                const unsigned char *d = st.tensors[i].data;
                assert_true(d >= b.p + st.data_offset && st.tensors[i].bytes <= (uint64_t)(b.p + b.n - d));
                total += st.tensors[i].bytes;
            }
            assert_int_equal(total, b.n - st.data_offset);
            ht_safetensors_deinit(&st);
        } else {
            assert_true(err.msg[0] != '\0');
        }
        b.p[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    free(b.p);
}

static void out_of_memory(void **state) {
    (void)state;
    struct bytes b = st_file(VALID, 36);
    for (uint64_t n = 1;; n++) {
        struct ht_safetensors st;
        ht_err err = {0};
        ht_mem_fail_at(n, 0);
        ht_status got = ht_safetensors_parse(b.p, b.n, "file", &st, &err);
        ht_mem_fail_at(0, 0);
        if (got == HT_OK) {
            ht_safetensors_deinit(&st);
            assert_true(n > 5);
            break;
        }
        assert_int_equal(got, HT_NOMEM);
    }
    free(b.p);
}

/* ---- folders ----------------------------------------------------------------------------------------- */

#define INDEX "model.safetensors.index.json"
#define SHARD_1 "model-00001-of-00002.safetensors"
#define SHARD_2 "model-00002-of-00002.safetensors"

static void put_st(const char *path, const char *header, size_t data_bytes) {
    struct bytes b = st_file(header, data_bytes);
    put_file(path, b.p, b.n);
    free(b.p);
}

static void put_folder(const char *dir) {
    put_text(in(dir, "config.json"), "{\"model_type\": \"llama\", \"hidden_size\": 4}");
    put_text(in(dir, INDEX), "{\"metadata\":{\"total_size\":6},\"weight_map\":{\"a\":\"" SHARD_1 "\",\"b\":\"" SHARD_2 "\",\"c\":\"" SHARD_1
                             "\"}}");
    put_st(in(dir, SHARD_1), "{" E("a", "U8", "[1]", 0, 1) "," E("c", "U8", "[2]", 1, 3) "}", 3);
    put_st(in(dir, SHARD_2), "{" E("b", "U8", "[3]", 0, 3) "}", 3);
}

static void folder(void **state) {
    (void)state;
    char dir[64];
    struct ht_source *s;
    ht_err err = {0};
    temp_dir(dir);
    put_folder(dir);
    ASSERT_OK(ht_source_open(dir, &s, &err), &err);
    assert_string_equal(s->container->name, "hf");
    assert_int_equal(s->n_tensors, 3);
    assert_int_equal(s->n_maps, 2);
    assert_int_equal(s->data_bytes, 6);
    assert_int_equal(json_integer_value(json_object_get(s->config, "hidden_size")), 4);
    assert_int_equal(ht_source_find(s, "c")->bytes, 2);
    assert_true(ht_source_is(s, dir));
    assert_true(ht_source_is(s, in(dir, SHARD_2)));
    assert_true(ht_source_is(s, in(dir, ".")));
    assert_false(ht_source_is(s, "/tmp"));
    ht_source_close(s);
    /* one shard alone is a safetensors file; model.safetensors beside an index wins, as in transformers */
    ASSERT_OK(ht_source_open(in(dir, SHARD_2), &s, &err), &err);
    assert_string_equal(s->container->name, "safetensors");
    assert_int_equal(s->n_tensors, 1);
    assert_null(s->config);
    ht_source_close(s);
    put_st(in(dir, "model.safetensors"), "{" E("only", "U8", "[1]", 0, 1) "}", 1);
    ASSERT_OK(ht_source_open(dir, &s, &err), &err);
    assert_non_null(ht_source_find(s, "only"));
    assert_int_equal(s->n_tensors, 1);
    ht_source_close(s);
    remove_dir(dir);
}

static void bad_folders(void **state) {
    (void)state;
    static const struct {
        const char *name, *file, *text; /* file of put_folder that is replaced; NULL text: removed */
        ht_status code;
        const char *part, *what;
    } cases[] = {
        {"no config", "config.json", NULL, HT_NOTFOUND, "needs its config.json", "config.json"},
        {"config is no JSON", "config.json", "{", HT_FORMAT, "not valid JSON", "config.json"},
        {"config is a list", "config.json", "[]", HT_FORMAT, "expected a JSON object", "config.json"},
        {"config is empty", "config.json", "", HT_FORMAT, "not valid JSON", "config.json"},
        {"config with a key twice", "config.json", "{\"a\":1,\"a\":2}", HT_FORMAT, "duplicate object key", "config.json"},
        {"shard is missing", SHARD_2, NULL, HT_NOTFOUND, "file 2 of 2 named by " INDEX " is missing", SHARD_2},
        {"shard is broken", SHARD_2, "xxxxxxxxxxxx", HT_LIMIT, "the header's length", SHARD_2},
        {"no weights", INDEX, NULL, HT_NOTFOUND, "expected model.safetensors or", ""},
        {"index is no JSON", INDEX, "weights", HT_FORMAT, "not valid JSON", INDEX},
        {"index is a list", INDEX, "[]", HT_FORMAT, "\"weight_map\"", INDEX},
        {"index without map", INDEX, "{\"metadata\":{}}", HT_FORMAT, "\"weight_map\"", INDEX},
        {"map is a list", INDEX, "{\"weight_map\":[]}", HT_FORMAT, "\"weight_map\"", INDEX},
        {"map is empty", INDEX, "{\"weight_map\":{}}", HT_FORMAT, "\"weight_map\"", INDEX},
        {"file is a number", INDEX, "{\"weight_map\":{\"a\":1}}", HT_FORMAT, "tensor 'a': expected a file name", INDEX},
        {"file with a NUL", INDEX, "{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}", HT_FORMAT, "expected a file name", INDEX},
        {"path up", INDEX, "{\"weight_map\":{\"a\":\"../x.safetensors\"}}", HT_FORMAT, "'../x.safetensors' is not a plain file name", INDEX},
        {"absolute path", INDEX, "{\"weight_map\":{\"a\":\"/etc/x.safetensors\"}}", HT_FORMAT, "is not a plain file name", INDEX},
        {"path into a folder", INDEX, "{\"weight_map\":{\"a\":\"sub/x.safetensors\"}}", HT_FORMAT, "is not a plain file name", INDEX},
        {"backslash", INDEX, "{\"weight_map\":{\"a\":\"..\\\\x.safetensors\"}}", HT_FORMAT, "is not a plain file name", INDEX},
        {"hidden file", INDEX, "{\"weight_map\":{\"a\":\".x.safetensors\"}}", HT_FORMAT, "is not a plain file name", INDEX},
        {"another ending", INDEX, "{\"weight_map\":{\"a\":\"pytorch_model.bin\"}}", HT_FORMAT, "does not end in .safetensors", INDEX},
        {"only the ending", INDEX, "{\"weight_map\":{\"a\":\"safetensors\"}}", HT_FORMAT, "does not end in", INDEX},
        {"empty file name", INDEX, "{\"weight_map\":{\"a\":\"\"}}", HT_FORMAT, "is empty", INDEX},
        {"empty tensor name", INDEX, "{\"weight_map\":{\"\":\"" SHARD_1 "\"}}", HT_FORMAT, "the name of entry 0 is empty", INDEX},
        {"tensor twice", INDEX, "{\"weight_map\":{\"a\":\"" SHARD_1 "\",\"a\":\"" SHARD_2 "\"}}", HT_FORMAT, "duplicate", INDEX},
        {"tensor is missing", INDEX,
         "{\"weight_map\":{\"a\":\"" SHARD_1 "\",\"b\":\"" SHARD_2 "\",\"c\":\"" SHARD_1 "\",\"d\":\"" SHARD_2 "\"}}", HT_FORMAT,
         "tensor 'd' should lie in " SHARD_2, INDEX},
        {"tensor is not listed", INDEX, "{\"weight_map\":{\"a\":\"" SHARD_1 "\",\"b\":\"" SHARD_2 "\"}}", HT_FORMAT,
         "tensor 'c' is not in " INDEX, SHARD_1},
        {"tensor in the wrong shard", INDEX, "{\"weight_map\":{\"a\":\"" SHARD_1 "\",\"b\":\"" SHARD_2 "\",\"c\":\"" SHARD_2 "\"}}", HT_FORMAT,
         "tensor 'c' lies here, but " INDEX " says in " SHARD_2, SHARD_1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[64];
        struct ht_source *s;
        ht_err err = {0};
        temp_dir(dir);
        put_folder(dir);
        if (cases[i].text != NULL) {
            put_text(in(dir, cases[i].file), cases[i].text);
        } else {
            unlink(in(dir, cases[i].file));
        }
        ht_status got = ht_source_open(dir, &s, &err);
        check_refused(cases[i].name, got, cases[i].code, &err, cases[i].part, cases[i].what);
        assert_null(s);
        remove_dir(dir);
    }
}

static void tensor_in_two_shards(void **state) {
    (void)state;
    char dir[64];
    struct ht_source *s;
    ht_err err = {0};
    temp_dir(dir);
    put_folder(dir);
    put_st(in(dir, SHARD_2), "{" E("b", "U8", "[3]", 0, 3) "," E("c", "U8", "[2]", 3, 5) "}", 5);
    check_refused("twice", ht_source_open(dir, &s, &err), HT_FORMAT, &err, "tensor 'c' lies here, but", SHARD_2);
    remove_dir(dir);
}

static void pickles_are_refused(void **state) {
    (void)state;
    static const char *const names[] = {"pytorch_model.bin", "consolidated.00.pth", "model.pt", "weights.ckpt", "model.pkl"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char dir[64];
        struct ht_source *s;
        ht_err err = {0};
        temp_dir(dir);
        put_text(in(dir, "config.json"), "{}");
        put_text(in(dir, names[i]), "PK\3\4");
        check_refused(names[i], ht_source_open(dir, &s, &err), HT_UNSUPPORTED, &err, names[i], dir);
        assert_non_null(strstr(err.msg, "convert them to safetensors"));
        remove_dir(dir);
    }
}

/* Files of the safetensors package, one and two (tests/oracle/io_golden.py). */
static void golden(void **state) {
    (void)state;
    static const char *const dirs[] = {HT_TEST_DIR "/golden/io/hf", HT_TEST_DIR "/golden/io/hf-shards"};
    for (int i = 0; i < 2; i++) {
        struct ht_source *s;
        ht_err err = {0};
        ASSERT_OK(ht_source_open(dirs[i], &s, &err), &err);
        assert_int_equal(s->n_tensors, 4);
        assert_int_equal(s->n_maps, 1 + i);
        const struct ht_tensor *t = ht_source_find(s, "model.embed_tokens.weight");
        assert_non_null(t);
        assert_string_equal(t->format->name, "f16");
        assert_int_equal(t->ne[0], 4);
        assert_int_equal(t->ne[1], 6);
        float norm[4];
        memcpy(norm, ht_source_find(s, "model.norm.weight")->data, sizeof norm);
        assert_true(norm[0] == 0 && norm[3] == 3);
        int64_t step;
        memcpy(&step, ht_source_find(s, "step")->data, sizeof step);
        assert_int_equal(step, 3);
        assert_int_equal(json_integer_value(json_object_get(s->config, "hidden_size")), 4);
        ht_source_close(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),        cmocka_unit_test(refuses),     cmocka_unit_test(truncated_at_every_byte),
        cmocka_unit_test(flipped_bits),  cmocka_unit_test(out_of_memory), cmocka_unit_test(folder),
        cmocka_unit_test(bad_folders),   cmocka_unit_test(tensor_in_two_shards), cmocka_unit_test(pickles_are_refused),
        cmocka_unit_test(golden),        cmocka_unit_test(too_much),    cmocka_unit_test(misaligned_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
