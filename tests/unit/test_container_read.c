/* Folders of our own that lie: every refusal names the weight and the place; cut short at any byte they are refused. */
#include "test.h"

#include "flow_test.h"
#include "format/half.h"
#include "io/halftone.h"

enum { ROWS = 6, COLS = 16, MAX_PARTS = 24 };

struct part {
    char name[HT_MAX_ST_NAME + 1], dtype[8];
    int n_dims;
    uint64_t ne[2];
    unsigned char *data;
    uint64_t bytes;
    bool dropped;
};

struct folder {
    struct part parts[MAX_PARTS];
    size_t n;
    char *entry; /* of the weight "w" */
};

static const char *const default_entry = "{\"format\": \"uint4:g4\", \"shape\": [6, 16], \"act\": \"uint8:tensor\", "
                                         "\"threshold\": 5.5, \"hadamard\": 8}";

static void make_weight(struct ht_qtensor *q, struct ht_sidecar *s) {
    struct ht_scheme scheme;
    float w[ROWS * COLS];
    ht_err err = {0};
    for (int i = 0; i < ROWS * COLS; i++) {
        w[i] = (float)(i * 37 % 23) - 11;
    }
    ASSERT_OK(ht_scheme_parse("uint4:g4", &scheme, &err), &err);
    ASSERT_OK(ht_qtensor_init(q, &scheme, ROWS, COLS, "w", &err), &err);
    ASSERT_OK(ht_qtensor_encode(q, w, NULL, NULL, &err), &err);
    *s = (struct ht_sidecar){.rows = ROWS, .cols = COLS, .n_out = 3, .rank = 2, .n_clusters = 2, .n_sparse = 4,
                             .hadamard = 8, .threshold = 5.5f};
    s->leaves = ((1u << HT_LEAVES_BITS) - 1) & ~(unsigned)HT_LEAVES_KV;
    ASSERT_OK(ht_scheme_parse("uint8:tensor", &s->act, &err), &err);
    ASSERT_OK(ht_sidecar_init(s, "w", &err), &err);
    for (uint32_t i = 0; i < COLS; i++) {
        s->in_scale[i] = 2;
        s->perm[i] = COLS - 1 - i;
    }
    for (uint32_t i = 0; i < 3; i++) {
        s->out_idx[i] = 4 * i;
    }
    for (uint32_t r = 0; r <= ROWS; r++) {
        s->sp_ptr[r] = r < 4 ? r : 4;
    }
    s->act_idx[1] = 5;
    s->act_scale[0] = s->act_scale[1] = 0.5f;
    s->act_zero[0] = 100;
}

static void make(struct folder *f) {
    struct ht_qtensor q;
    struct ht_sidecar s;
    make_weight(&q, &s);
    const struct ht_pack pack = {"w", ROWS, COLS, NULL, &q, &s};
    struct ht_tensor t;
    char name[HT_MAX_ST_NAME + 1];
    ht_status status = HT_OK;
    f->n = 0;
    for (size_t i = 0; ht_pack_part(&pack, i, &t, name, &status, NULL); i++) {
        struct part *p = &f->parts[f->n++];
        *p = (struct part){.n_dims = t.n_dims, .ne = {t.ne[0], t.ne[1]}, .bytes = t.bytes};
        snprintf(p->name, sizeof p->name, "%s", name);
        snprintf(p->dtype, sizeof p->dtype, "%s", t.format->st_dtype);
        p->data = ht_mem_alloc(t.bytes);
        memcpy(p->data, t.data, t.bytes);
    }
    f->entry = ht_mem_strdup(default_entry);
    ht_qtensor_deinit(&q);
    ht_sidecar_deinit(&s);
}

static void drop(struct folder *f) {
    for (size_t i = 0; i < f->n; i++) {
        ht_mem_free(f->parts[i].data);
    }
    ht_mem_free(f->entry);
}

static struct part *part_of(struct folder *f, const char *suffix) {
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->parts[i].name + 2, suffix) == 0) {
            return &f->parts[i];
        }
    }
    fail_msg("no part %s", suffix);
    return NULL;
}

/* config NULL: one with the weight's entry. *len of the safetensors file. */
static void write_folder(const struct folder *f, const char *dir, const char *config, size_t *len) {
    struct ht_buf head, data;
    ht_err err = {0};
    char path[300], text[1024];
    ht_buf_init(&head, 0);
    ht_buf_init(&data, 0);
    ht_buf_append(&head, "\0\0\0\0\0\0\0\0", 8);
    ht_buf_puts(&head, "{");
    for (int size = 8; size > 0; size /= 2) { /* larger elements first: all lie aligned */
        for (size_t i = 0; i < f->n; i++) {
            const struct part *p = &f->parts[i];
            int elem = p->dtype[1] == '3' ? 4 : p->dtype[1] == '1' ? 2 : p->dtype[1] == '6' ? 8 : 1;
            if (p->dropped || elem != size) {
                continue;
            }
            ht_buf_printf(&head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", data.len > 0 ? "," : "", p->name, p->dtype);
            for (int d = p->n_dims - 1; d >= 0; d--) {
                ht_buf_printf(&head, "%llu%s", (unsigned long long)p->ne[d], d > 0 ? "," : "");
            }
            ht_buf_printf(&head, "],\"data_offsets\":[%zu,%zu]}", data.len, data.len + (size_t)p->bytes);
            ht_buf_append(&data, p->data, p->bytes);
        }
    }
    ht_buf_puts(&head, "}");
    while (head.len % 8 != 0) {
        ht_buf_putc(&head, ' ');
    }
    uint64_t n = head.len - 8;
    memcpy(head.data, &n, 8);
    ht_buf_append(&head, data.data, data.len);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ASSERT_OK(ht_write_file(path, head.data, head.len, true, &err), &err);
    *len = head.len;
    snprintf(text, sizeof text, "{\"quantization_config\": {\"quant_method\": \"halftone\", \"version\": 1, \"weights\": "
             "{\"w\": %s}}}", f->entry);
    snprintf(path, sizeof path, "%s/config.json", dir);
    config = config != NULL ? config : text;
    ASSERT_OK(ht_write_file(path, config, strlen(config), true, &err), &err);
    ht_buf_deinit(&head);
    ht_buf_deinit(&data);
}

/* ---- a sound one ----------------------------------------------------------------------------------------------- */

static void test_sound(void **state) {
    struct fixture *x = *state;
    struct folder f = {.n = 0};
    struct ht_qtensor q;
    struct ht_sidecar s;
    size_t len;
    make(&f);
    write_folder(&f, x->dir, NULL, &len);
    struct ht_source *source = open_source(x->dir);
    assert_int_equal(source->n_tensors, 1);
    const struct ht_tensor *t = ht_source_find(source, "w");
    const struct ht_packed *p = ht_source_packed(source, t);
    assert_true(p != NULL && p->has_q && p->has_side);
    make_weight(&q, &s);
    float a[COLS], b[COLS], scratch[COLS];
    for (uint64_t r = 0; r < ROWS; r++) {
        ht_packed_rows(t, p, r, 1, a, scratch);
        ht_sidecar_dense(&q, &s, r, 1, b, scratch);
        assert_memory_equal(a, b, sizeof a);
    }
    assert_int_equal(p->side.leaves, s.leaves);
    assert_true(p->side.threshold == 5.5f && p->side.hadamard == 8);
    ht_qtensor_deinit(&q);
    ht_sidecar_deinit(&s);
    ht_source_close(source);
    drop(&f);
}

/* ---- lies ---------------------------------------------------------------------------------------------------- */

enum change { ENTRY, CONFIG, DROP, DTYPE, SHAPE, FLAT, WORD, FLOAT, ADD };

struct lie {
    enum change change;
    const char *part; /* or the entry, or the config */
    uint64_t a, b;    /* WORD: entry a becomes b; SHAPE: ne */
    const char *text; /* DTYPE; ADD: name */
    ht_status status;
    const char *message;
    const char *file; /* that is named */
};

#define Q "{\"quantization_config\": {\"quant_method\": \"halftone\", "
#define ENTRY_FILE "/config.json"
#define TENSORS "/model.safetensors"
#define BAD_CONFIG(config, message) {CONFIG, config, 0, 0, "", HT_FORMAT, message, ENTRY_FILE}
#define BAD_CONFIG_TENSORS(config, message) {CONFIG, config, 0, 0, "", HT_FORMAT, message, TENSORS}
#define NEW_CONFIG(config, message) {CONFIG, config, 0, 0, "", HT_UNSUPPORTED, message, ENTRY_FILE}
#define BAD_ENTRY(entry, message) {ENTRY, entry, 0, 0, "", HT_FORMAT, message, ENTRY_FILE}
#define BAD_ENTRY_TENSORS(entry, message) {ENTRY, entry, 0, 0, "", HT_FORMAT, message, TENSORS}
#define NEW_ENTRY(entry, message) {ENTRY, entry, 0, 0, "", HT_UNSUPPORTED, message, ENTRY_FILE}
#define KV(value) Q "\"version\": 1, \"kv_cache\": " value ", \"weights\": {}}}"
#define E(more) "{\"format\": \"uint4:g4\", \"shape\": [6, 16], " more "}"
static const struct lie lies[] = {
    NEW_CONFIG(Q "\"version\": 2, \"weights\": {}}}", "version 2"),
    BAD_CONFIG(Q "\"version\": \"1\", \"weights\": {}}}", "version"),
    NEW_CONFIG(Q "\"weights\": {}}}", "version 0"),
    BAD_CONFIG(Q "\"version\": 1}}", "weights"),
    BAD_CONFIG(Q "\"version\": 1, \"weights\": [1]}}", "weights"),
    NEW_CONFIG(Q "\"version\": 1, \"sparkle\": true, \"weights\": {\"w\": {}}}}", "sparkle"),
    BAD_CONFIG(Q "\"version\": 1, \"weights\": {\"w\": 7}}}", "w: expected an object"),
    BAD_CONFIG_TENSORS(Q "\"version\": 1, \"weights\": {\"v\": {\"format\": \"int4:g4\", \"shape\": [6, 16]}}}}",
                       "v: tensor .codes is missing"),
    BAD_CONFIG(KV("\"int99:token\""), "quantization_config.kv_cache: int99:token: unknown format 'int99'"),
    BAD_CONFIG(KV("\"int8:tensor\""),
               "quantization_config.kv_cache: int8:tensor: the cache takes codes of at most 8 bits"),
    BAD_CONFIG(KV("\"int16:token\""), "as in int8:token or uint4:g32, found int16:token"),
    BAD_CONFIG(KV("\"int8:g0\""), "kv_cache: int8:g0: group 'g0'"),
    BAD_CONFIG(KV("\"+hadamard\""), "kv_cache: +hadamard"),
    BAD_CONFIG(KV("\"\""), "kv_cache: : '': expected a scheme"),
    BAD_CONFIG(KV("8"), "key 'kv_cache': expected a string, found an integer"),
    BAD_CONFIG(KV("null"), "key 'kv_cache': expected a value, found null"),
    BAD_CONFIG(KV("\"int8:token\\u0000x\""), "key 'kv_cache': expected text, found a zero byte"),
    BAD_ENTRY("{}", "\"format\" and \"shape\""),
    BAD_ENTRY("{\"format\": \"uint4:g4\", \"shape\": [6]}", "found an array of 1"),
    BAD_ENTRY("{\"format\": \"uint4:g4\", \"shape\": \"6x16\"}", "found no array"),
    BAD_ENTRY("{\"format\": \"uint4:g4\"}", "w: expected \"shape\""),
    BAD_ENTRY("{\"format\": \"uint4:g4\", \"shape\": [-6, 16]}", "\"shape\""),
    BAD_ENTRY("{\"format\": \"uint4:g4\", \"shape\": [0, 16]}", "\"shape\""),
    BAD_ENTRY("{\"format\": \"uint4:g4\", \"shape\": [9223372036854775807, 16]}", "expected"),
    BAD_ENTRY("{\"format\": \"uint4:g0\", \"shape\": [6, 16]}", "g0"),
    BAD_ENTRY("{\"format\": \"uint4\", \"shape\": [6, 16]}", "uint4"),
    BAD_ENTRY("{\"format\": \"bogus\", \"shape\": [6, 16]}", "bogus"),
    BAD_ENTRY_TENSORS("{\"format\": \"uint4:g8\", \"shape\": [6, 16]}", "w: .scales: expected f16 [2, 6]"),
    BAD_ENTRY_TENSORS("{\"format\": \"uint5:g4\", \"shape\": [6, 16]}", "w: .codes: expected u8 [10, 6]"),
    BAD_ENTRY_TENSORS("{\"format\": \"uint4:g4\", \"shape\": [7, 16]}", "w: .codes"),
    BAD_ENTRY("{\"format\": \"q4_0\", \"shape\": [6, 16]}", "multiple"),
    NEW_ENTRY(E("\"zest\": 1"), "zest"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"hadamard\": 6"), "hadamard block 6"),
    BAD_ENTRY(E("\"act\": \"uint8:token\""), "act_scale"),
    BAD_ENTRY(E("\"act\": \"uint99:token\""), "uint99"),
    BAD_ENTRY("{\"format\": \"uint4:g4\", \"shape\": [6, 16]}", "without their scheme"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"threshold\": -1"), "threshold"),
    BAD_ENTRY("{\"format\": \"uint4:g0\", \"shape\": [6, 16]}", "w: format 'uint4:g0': group 'g0': expected"),
    BAD_ENTRY("{\"format\": \"uint4:g4:g8\", \"shape\": [6, 16]}",
              "w: format 'uint4:g4:g8': the granularity is given twice"),
    BAD_ENTRY("{\"format\": \"uint4:g4:sym\", \"shape\": [6, 16]}", "sym needs signed codes"),
    BAD_ENTRY("{\"format\": \"uint4:h4\", \"shape\": [6, 16]}", "unknown part 'h4'"),
    BAD_ENTRY("{\"format\": 7, \"shape\": [6, 16]}", "w: key 'format': expected a string, found an integer"),
    BAD_ENTRY("{\"format\": null, \"shape\": [6, 16]}", "w: key 'format': expected a value, found null"),
    BAD_ENTRY("{\"format\": \"uint4:g4\\u0000:g8\", \"shape\": [6, 16]}",
              "w: key 'format': expected text, found a zero byte behind 'uint4:g4'"),
    BAD_ENTRY("{\"format\": \"uint4:g4\", \"shape\": [6.0, 16]}", "found numbers of another kind"),
    BAD_ENTRY("{\"format\": \"uint4:g4\", \"shape\": [4611686018427387904, 4611686018427387904]}",
              "a matrix of 4611686018427387904 x 4611686018427387904"),
    BAD_ENTRY("{\"format\": \"q8_0\", \"shape\": [9223372036854775807, 9223372036854775776]}", "overflows 64 bits"),
    BAD_ENTRY("{\"format\": \"q8_0\", \"shape\": [6, 16]}",
              "a row of 16 elements is not a multiple of q8_0's block of 32"),
    BAD_ENTRY_TENSORS("{\"format\": \"f16\", \"shape\": [6, 16]}", "w: .codes: expected u8 [32, 6]"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"hadamard\": 0"), "w: hadamard block 0: expected a power of two"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"hadamard\": 32"),
              "hadamard block 32: expected a power of two above 1 that divides 16"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"hadamard\": -8"), "w: key 'hadamard': expected 0 to 1048576, found -8"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"hadamard\": \"8\""),
              "w: key 'hadamard': expected an integer, found a string"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"hadamard\": 99999999999"), "key 'hadamard': expected 0 to 1048576"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"hadamard\": null"), "w: key 'hadamard': expected a value, found null"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"threshold\": 0"), "w: threshold 0: expected a positive number"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"threshold\": 1e40"), "w: threshold 1e+40"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"threshold\": 1e-60"), "w: threshold 1e-60"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor\", \"threshold\": \"6\""),
              "w: key 'threshold': expected a number, found a string"),
    BAD_ENTRY(E("\"act\": \"int8:channel\""), "w: act 'int8:channel': channel is for weights"),
    BAD_ENTRY(E("\"act\": \"uint8:token\""),
              "w: act 'uint8:token': activations per token or group find their scales at run time"),
    BAD_ENTRY(E("\"act\": \"uint8:g0\""), "w: act 'uint8:g0': group 'g0'"),
    BAD_ENTRY(E("\"act\": 8"), "w: key 'act': expected a string, found an integer"),
    BAD_ENTRY(E("\"act\": \"int24:tensor\""), "w: act 'int24"),
    BAD_ENTRY(E("\"act\": \"int8:g4:nested\""),
              "w: act 'int8:g4:nested': activations need a scheme without offset, nested"),
    BAD_ENTRY(E("\"act\": \"uint8:tensor:offset\""), "without offset"),
    {DROP, "codes", 0, 0, "", HT_FORMAT, "w: tensor .codes is missing", TENSORS},
    {DROP, "scales", 0, 0, "", HT_FORMAT, "w: tensor .scales is missing", TENSORS},
    {DROP, "zeros", 0, 0, "", HT_FORMAT, "w: tensor .zeros is missing", TENSORS},
    {DROP, "out_val", 0, 0, "", HT_FORMAT, "w: tensor .out_val is missing", TENSORS},
    {DROP, "sp_idx", 0, 0, "", HT_FORMAT, "single weights", TENSORS},
    {DROP, "lr_b", 0, 0, "", HT_FORMAT, "w: tensor .lr_b is missing", TENSORS},
    {DROP, "act_zero", 0, 0, "", HT_FORMAT, "w: tensor .act_zero is missing", TENSORS},
    {DTYPE, "scales", 0, 0, "BF16", HT_FORMAT, "w: .scales: expected f16", TENSORS},
    {DTYPE, "perm", 0, 0, "I32", HT_FORMAT, "w: .perm: expected u32", TENSORS},
    {SHAPE, "lr_a", 8, 4, "", HT_FORMAT, "w: .lr_a: expected f16 [16, 4]", TENSORS},
    {SHAPE, "codes", 4, 12, "", HT_FORMAT, "w: .codes: expected u8 [8, 6]", TENSORS},
    {FLAT, "in_scale", 0, 0, "", HT_FORMAT, "w: .in_scale", TENSORS},
    {WORD, "perm", 2, 16, "", HT_FORMAT, "w.perm: entry 2", TENSORS},
    {WORD, "perm", 2, 3, "", HT_FORMAT, "w.perm", TENSORS},
    {WORD, "out_idx", 0, 9, "", HT_FORMAT, "w.out_idx: entry 1", TENSORS},
    {WORD, "out_idx", 2, 16, "", HT_FORMAT, "w.out_idx: entry 2", TENSORS},
    {WORD, "sp_ptr", 6, 400, "", HT_FORMAT, "w.sp_ptr: entry 6", TENSORS},
    {WORD, "sp_ptr", 3, 0xffffffff, "", HT_FORMAT, "w.sp_ptr: entry 3", TENSORS},
    {WORD, "sp_idx", 1, 0x80000000, "", HT_FORMAT, "w.sp_idx: entry 1", TENSORS},
    {WORD, "act_idx", 0, 3, "", HT_FORMAT, "w.act_idx: entry 0", TENSORS},
    {WORD, "act_zero", 1, 256, "", HT_FORMAT, "w.act_zero: entry 1", TENSORS},
    {FLOAT, "act_scale", 1, 0x7fc00000, "", HT_FORMAT, "w.act_scale: entry 1", TENSORS},
    {FLOAT, "in_scale", 15, 0, "", HT_FORMAT, "w.in_scale: entry 15", TENSORS},
    {FLOAT, "in_shift", 3, 0x7f800000, "", HT_FORMAT, "w.in_shift: entry 3", TENSORS},
    {WORD, "out_idx", 1, 999999, "", HT_FORMAT, "w.out_idx: entry 1: expected a column below 16, found 999999", TENSORS},
    {WORD, "sp_ptr", 0, 1, "", HT_FORMAT, "w.sp_ptr: entry 0: expected 0, found 1", TENSORS},
    {WORD, "sp_ptr", 2, 0, "", HT_FORMAT, "w.sp_ptr: entry 2: expected numbers that never fall, up to 4, found 0 behind 1", TENSORS},
    {WORD, "act_idx", 1, 16, "", HT_FORMAT, "w.act_idx: entry 1: expected a column below 16, found 16", TENSORS},
    {FLOAT, "out_bias", 5, 0xff800000, "", HT_FORMAT, "w.out_bias: entry 5: expected a finite number, found -inf", TENSORS},
    {FLOAT, "act_scale", 0, 0xbf800000, "", HT_FORMAT, "w.act_scale: entry 0: expected a positive number, found -1", TENSORS},
    {DROP, "act_scale", 0, 0, "", HT_FORMAT, "w: act 'uint8:tensor': activations per tensor need act_scale", ENTRY_FILE},
    {ADD, "in_scale", 0, 0, "w", HT_FORMAT, "both packed and plain", TENSORS},
};

static void apply(struct folder *f, const struct lie *l) {
    if (l->change == ENTRY) {
        ht_mem_free(f->entry);
        f->entry = ht_mem_strdup(l->part);
        return;
    }
    if (l->change == CONFIG) {
        return;
    }
    struct part *p = part_of(f, l->part);
    switch (l->change) {
    case DROP: p->dropped = true; break;
    case DTYPE: snprintf(p->dtype, sizeof p->dtype, "%s", l->text); break;
    case SHAPE: p->ne[0] = l->a; p->ne[1] = l->b; break;
    case FLAT: p->n_dims = 2; p->ne[0] /= 2; p->ne[1] = 2; break;
    case ADD: {
        struct part *q = &f->parts[f->n++];
        *q = *p;
        q->data = ht_mem_alloc(p->bytes);
        memcpy(q->data, p->data, p->bytes);
        snprintf(q->name, sizeof q->name, "%s", l->text);
        break;
    }
    default: {
        uint32_t v = (uint32_t)l->b;
        memcpy(p->data + 4 * l->a, &v, sizeof v);
    }
    }
}

static void test_lies(void **state) {
    struct fixture *x = *state;
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct folder f = {.n = 0};
        struct ht_source *s;
        ht_err err = {0};
        size_t len;
        make(&f);
        apply(&f, &lies[i]);
        write_folder(&f, x->dir, lies[i].change == CONFIG ? lies[i].part : NULL, &len);
        ht_status status = ht_source_open(x->dir, &s, &err);
        const char *file = lies[i].file;
        size_t len_what = strlen(err.what), len_file = strlen(file);
        /* err.code makes the program's exit code */
        if (status != lies[i].status || err.code != status || strstr(err.msg, lies[i].message) == NULL ||
            len_what < len_file || strcmp(err.what + len_what - len_file, file) != 0) {
            fail_msg("lie %zu: status %d (%d), expected %d for %s with '%s', found '%s: %s'", i, status, err.code,
                     lies[i].status, file, lies[i].message, err.what, err.msg);
        }
        drop(&f);
    }
}

/* A tensor that nobody claims stays visible: models refuse it by name. */
static void test_unclaimed(void **state) {
    struct fixture *x = *state;
    struct folder f = {.n = 0};
    const struct lie more = {ADD, "in_scale", 0, 0, "w.sparkle", HT_OK, "", NULL};
    size_t len;
    make(&f);
    apply(&f, &more);
    write_folder(&f, x->dir, NULL, &len);
    struct ht_source *s = open_source(x->dir);
    assert_int_equal(s->n_tensors, 2);
    assert_non_null(ht_source_find(s, "w.sparkle"));
    ht_source_close(s);
    drop(&f);
}

static void test_truncated(void **state) {
    struct fixture *x = *state;
    struct folder f = {.n = 0};
    char path[300];
    size_t len;
    make(&f);
    write_folder(&f, x->dir, NULL, &len);
    snprintf(path, sizeof path, "%s/model.safetensors", x->dir);
    for (size_t cut = len; cut-- > 0; cut -= cut > 97 ? 13 : 0) {
        struct ht_source *s;
        ht_err err = {0};
        assert_int_equal(truncate(path, (off_t)cut), 0);
        assert_true(ht_source_open(x->dir, &s, &err) != HT_OK);
        assert_true(err.msg[0] != '\0');
    }
    drop(&f);
}

/* Every allocation of an opening fails once. */
static void test_no_memory(void **state) {
    struct fixture *x = *state;
    struct folder f = {.n = 0};
    ht_status status = HT_NOMEM;
    size_t len;
    make(&f);
    write_folder(&f, x->dir, NULL, &len);
    for (uint64_t n = 1; status != HT_OK; n++) {
        struct ht_source *s = NULL;
        ht_err err = {0};
        ht_mem_fail_at(n, 0);
        status = ht_source_open(x->dir, &s, &err);
        ht_mem_fail_at(0, 0);
        if (status != HT_OK && status != HT_NOMEM) {
            fail_msg("allocation %llu: status %d: %s", (unsigned long long)n, status, err.msg);
        }
        assert_true(status != HT_OK || n > 10);
        ht_source_close(s);
    }
    drop(&f);
}

/* How the folder is recognized: by the pair of key and value, however it is written. */
static void test_probe(void **state) {
    struct fixture *x = *state;
    static const struct {
        const char *config;
        bool ours;
    } cases[] = {
        {"{\"quantization_config\":{\"quant_method\":\"halftone\"}}", true},
        {"{ \"quant_method\" \n:\t \"halftone\" }", true},
        {"{\"a\": \"\"quant_method\": \"halftone\"", true},
        {"{\"quant_method\": \"gptq\", \"name\": \"halftone\"}", false},
        {"{\"quant_method\": \"halftones\"}", false},
        {"{\"quant_method\": halftone}", false},
        {"\"quant_method\":\"halfton", false},
        {"", false},
    };
    char path[300];
    ht_err err = {0};
    snprintf(path, sizeof path, "%s/config.json", x->dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ASSERT_OK(ht_write_file(path, cases[i].config, strlen(cases[i].config), true, &err), &err);
        assert_int_equal(ht_halftone_probe(x->dir), cases[i].ours);
    }
    unlink(path);
    assert_false(ht_halftone_probe(x->dir));
    assert_false(ht_halftone_probe(TINY "/config.json"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sound),     cmocka_unit_test(test_lies),      cmocka_unit_test(test_unclaimed),
        cmocka_unit_test(test_truncated), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_probe),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
