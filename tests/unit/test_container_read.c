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
};

#define Q "{\"quantization_config\": {\"quant_method\": \"halftone\", "
static const struct lie lies[] = {
    {CONFIG, Q "\"version\": 2, \"weights\": {}}}", 0, 0, "", HT_UNSUPPORTED, "version 2"},
    {CONFIG, Q "\"version\": \"1\", \"weights\": {}}}", 0, 0, "", HT_FORMAT, "version"},
    {CONFIG, Q "\"weights\": {}}}", 0, 0, "", HT_UNSUPPORTED, "version 0"},
    {CONFIG, Q "\"version\": 1}}", 0, 0, "", HT_FORMAT, "weights"},
    {CONFIG, Q "\"version\": 1, \"weights\": [1]}}", 0, 0, "", HT_FORMAT, "weights"},
    {CONFIG, Q "\"version\": 1, \"sparkle\": true, \"weights\": {\"w\": {}}}}", 0, 0, "", HT_UNSUPPORTED, "sparkle"},
    {CONFIG, Q "\"version\": 1, \"weights\": {\"w\": 7}}}", 0, 0, "", HT_FORMAT, "w: expected an object"},
    {CONFIG, Q "\"version\": 1, \"weights\": {\"v\": {\"format\": \"int4:g4\", \"shape\": [6, 16]}}}}", 0, 0, "", HT_FORMAT,
     "v: tensor .codes is missing"},
    {ENTRY, "{}", 0, 0, "", HT_FORMAT, "\"format\" and \"shape\""},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [6]}", 0, 0, "", HT_FORMAT, "\"shape\""},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [-6, 16]}", 0, 0, "", HT_FORMAT, "\"shape\""},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [0, 16]}", 0, 0, "", HT_FORMAT, "\"shape\""},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [9223372036854775807, 16]}", 0, 0, "", HT_FORMAT, "expected"},
    {ENTRY, "{\"format\": \"uint4:g0\", \"shape\": [6, 16]}", 0, 0, "", HT_FORMAT, "g0"},
    {ENTRY, "{\"format\": \"uint4\", \"shape\": [6, 16]}", 0, 0, "", HT_FORMAT, "uint4"},
    {ENTRY, "{\"format\": \"bogus\", \"shape\": [6, 16]}", 0, 0, "", HT_FORMAT, "bogus"},
    {ENTRY, "{\"format\": \"uint4:g8\", \"shape\": [6, 16]}", 0, 0, "", HT_FORMAT, "w: .scales: expected f16 [2, 6]"},
    {ENTRY, "{\"format\": \"uint5:g4\", \"shape\": [6, 16]}", 0, 0, "", HT_FORMAT, "w: .codes: expected u8 [10, 6]"},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [7, 16]}", 0, 0, "", HT_FORMAT, "w: .codes"},
    {ENTRY, "{\"format\": \"q4_0\", \"shape\": [6, 16]}", 0, 0, "", HT_FORMAT, "multiple"},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [6, 16], \"zest\": 1}", 0, 0, "", HT_UNSUPPORTED, "zest"},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [6, 16], \"act\": \"uint8:tensor\", \"hadamard\": 6}", 0, 0, "", HT_FORMAT,
     "hadamard block 6"},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [6, 16], \"act\": \"uint8:token\"}", 0, 0, "", HT_FORMAT, "act_scale"},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [6, 16], \"act\": \"uint99:token\"}", 0, 0, "", HT_FORMAT, "uint99"},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [6, 16]}", 0, 0, "", HT_FORMAT, "without their scheme"},
    {ENTRY, "{\"format\": \"uint4:g4\", \"shape\": [6, 16], \"act\": \"uint8:tensor\", \"threshold\": -1}", 0, 0, "", HT_FORMAT,
     "threshold"},
    {DROP, "codes", 0, 0, "", HT_FORMAT, "w: tensor .codes is missing"},
    {DROP, "scales", 0, 0, "", HT_FORMAT, "w: tensor .scales is missing"},
    {DROP, "zeros", 0, 0, "", HT_FORMAT, "w: tensor .zeros is missing"},
    {DROP, "out_val", 0, 0, "", HT_FORMAT, "w: tensor .out_val is missing"},
    {DROP, "sp_idx", 0, 0, "", HT_FORMAT, "single weights"},
    {DROP, "lr_b", 0, 0, "", HT_FORMAT, "w: tensor .lr_b is missing"},
    {DROP, "act_zero", 0, 0, "", HT_FORMAT, "w: tensor .act_zero is missing"},
    {DTYPE, "scales", 0, 0, "BF16", HT_FORMAT, "w: .scales: expected f16"},
    {DTYPE, "perm", 0, 0, "I32", HT_FORMAT, "w: .perm: expected u32"},
    {SHAPE, "lr_a", 8, 4, "", HT_FORMAT, "w: .lr_a: expected f16 [16, 4]"},
    {SHAPE, "codes", 4, 12, "", HT_FORMAT, "w: .codes: expected u8 [8, 6]"},
    {FLAT, "in_scale", 0, 0, "", HT_FORMAT, "w: .in_scale"},
    {WORD, "perm", 2, 16, "", HT_FORMAT, "w.perm: entry 2"},
    {WORD, "perm", 2, 3, "", HT_FORMAT, "w.perm"},
    {WORD, "out_idx", 0, 9, "", HT_FORMAT, "w.out_idx: entry 1"},
    {WORD, "out_idx", 2, 16, "", HT_FORMAT, "w.out_idx: entry 2"},
    {WORD, "sp_ptr", 6, 400, "", HT_FORMAT, "w.sp_ptr: entry 6"},
    {WORD, "sp_ptr", 3, 0xffffffff, "", HT_FORMAT, "w.sp_ptr: entry 3"},
    {WORD, "sp_idx", 1, 0x80000000, "", HT_FORMAT, "w.sp_idx: entry 1"},
    {WORD, "act_idx", 0, 3, "", HT_FORMAT, "w.act_idx: entry 0"},
    {WORD, "act_zero", 1, 256, "", HT_FORMAT, "w.act_zero: entry 1"},
    {FLOAT, "act_scale", 1, 0x7fc00000, "", HT_FORMAT, "w.act_scale: entry 1"},
    {FLOAT, "in_scale", 15, 0, "", HT_FORMAT, "w.in_scale: entry 15"},
    {FLOAT, "in_shift", 3, 0x7f800000, "", HT_FORMAT, "w.in_shift: entry 3"},
    {ADD, "in_scale", 0, 0, "w", HT_FORMAT, "both packed and plain"},
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
        if (status != lies[i].status || strstr(err.msg, lies[i].message) == NULL) {
            fail_msg("lie %zu: status %d, expected %d with '%s', found '%s'", i, status, lies[i].status, lies[i].message,
                     err.msg);
        }
        drop(&f);
    }
}

/* A tensor that nobody claims stays visible: models refuse it by name. */
static void test_unclaimed(void **state) {
    struct fixture *x = *state;
    struct folder f = {.n = 0};
    const struct lie more = {ADD, "in_scale", 0, 0, "w.sparkle", HT_OK, ""};
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
