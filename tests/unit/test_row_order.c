/* Folders made of a GGUF file whose rows of q and k are kept by pairs: the same bytes as of the folder that the file was
 * made of, whatever is stored for neighbouring rows together. With biases of q and k, and over two layers. */
#include "test.h"

#include "flow_test.h"
#include "io/safetensors.h"
#include "model/row_order.h"
#include "tiny_model.h"

#define LAYERS 2

static const char *const TEXT[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};

static bool beyond(const char *name) {
    unsigned layer;
    return sscanf(name, "model.layers.%u.", &layer) == 1 && layer >= LAYERS;
}

/* One tensor of the copy. */
static void put(json_t *head, const char *name, json_t *shape, size_t at, size_t n) {
    json_object_set_new(head, name, json_pack("{s:s, s:O, s:[I, I]}", "dtype", "BF16", "shape", shape, "data_offsets",
                                              (json_int_t)at, (json_int_t)(at + n)));
}

/* The first layers of the tiny model, with biases of attention that grow by rows. */
static void shrink(const char *path) {
    char *data, name[256];
    size_t len, at = 0;
    ht_err err = {0};
    ASSERT_OK(ht_read_file(path, 1u << 26, &data, &len, &err), &err);
    uint64_t head_bytes;
    memcpy(&head_bytes, data, sizeof head_bytes);
    unsigned char *body = ht_mem_alloc(2 * len);
    json_t *tensors, *t, *head = json_object();
    const char *key;
    ASSERT_OK(ht_json_parse(data + 8, (size_t)head_bytes, 0, path, &tensors, &err), &err);
    json_object_foreach(tensors, key, t) {
        json_t *shape = json_object_get(t, "shape");
        if (shape == NULL || beyond(key)) {
            continue;
        }
        size_t from = (size_t)json_integer_value(json_array_get(json_object_get(t, "data_offsets"), 0));
        size_t n = (size_t)json_integer_value(json_array_get(json_object_get(t, "data_offsets"), 1)) - from;
        memcpy(body + at, data + 8 + head_bytes + from, n);
        put(head, key, shape, at, n);
        at += n;
        if (strstr(key, "self_attn") != NULL) {
            size_t rows = (size_t)json_integer_value(json_array_get(shape, 0));
            snprintf(name, sizeof name, "%.*sbias", (int)(strlen(key) - strlen("weight")), key);
            for (size_t r = 0; r < rows; r++) {
                uint16_t x = (uint16_t)(0x3c00 + r); /* 0.0078 and on, each its own */
                memcpy(body + at + 2 * r, &x, sizeof x);
            }
            json_t *one = json_pack("[I]", (json_int_t)rows);
            put(head, name, one, at, 2 * rows);
            json_decref(one);
            at += 2 * rows;
        }
    }
    char *text = json_dumps(head, JSON_COMPACT);
    head_bytes = strlen(text);
    char *file = ht_mem_alloc(8 + (size_t)head_bytes + at);
    memcpy(file, &head_bytes, 8);
    memcpy(file + 8, text, (size_t)head_bytes);
    memcpy(file + 8 + head_bytes, body, at);
    ASSERT_OK(ht_write_file(path, file, 8 + (size_t)head_bytes + at, true, &err), &err);
    free(text);
    json_decref(head);
    json_decref(tensors);
    ht_mem_free(file);
    ht_mem_free(body);
    ht_mem_free(data);
}

static int setup_both(void **state) {
    if (setup(state) != 0 || tiny_model() == NULL) {
        return tiny_model() == NULL ? 0 : -1;
    }
    const struct fixture *f = *state;
    const char *folder = in_dir(f, "hf");
    char *path = ht_path_join(folder, "model.safetensors"), *config = ht_path_join(folder, "config.json");
    ht_err err = {0};
    mkdir(folder, 0755);
    tiny_copy(folder, NULL);
    shrink(path);
    json_t *c = json_load_file(config, 0, NULL);
    json_object_set_new(c, "attention_bias", json_true());
    json_object_set_new(c, "num_hidden_layers", json_integer(LAYERS));
    assert_int_equal(json_dump_file(c, config, 0), 0);
    json_decref(c);
    ht_convert_options o;
    ht_convert_options_defaults(&o);
    o.input = folder;
    o.output = in_dir(f, "model.gguf");
    ASSERT_OK(ht_convert(f->ctx, &o, NULL, &err), &err);
    ht_mem_free(path);
    ht_mem_free(config);
    return 0;
}

/* ---- a model ---- */

static void a_layer_by_halves(void **state) {
    const struct fixture *f = *state;
    struct ht_model *a, *b;
    struct ht_row_order o = {0};
    ht_err err = {0};
    need_tiny();
    ASSERT_OK(ht_model_load(in_dir(f, "hf"), &a, &err), &err);
    ASSERT_OK(ht_model_load(in_dir(f, "model.gguf"), &b, &err), &err);
    assert_false(ht_row_order_begin(a));
    assert_true(ht_row_order_begin(b));
    assert_int_equal(b->rope, HT_ROPE_HALVES);
    for (size_t l = 0; l < LAYERS; l++) {
        size_t moved = 0;
        const void *was[HT_ROLES] = {NULL};
        for (int role = 0; role < HT_ROLES; role++) {
            was[role] = b->layers[l].linears[role] != NULL ? b->layers[l].linears[role]->w.data : NULL;
        }
        ASSERT_OK(ht_row_order_layer(&o, b, &b->layers[l], &err), &err);
        for (int role = 0; role < HT_ROLES; role++) {
            const struct ht_linear *x = a->layers[l].linears[role], *y = b->layers[l].linears[role];
            if (x != NULL) {
                assert_memory_equal(x->w.data, y->w.data, x->w.rows * x->w.row_bytes);
                moved += y->w.data != was[role];
                assert_true(x->bias == NULL || memcmp(x->bias, y->bias, x->w.rows * sizeof *x->bias) == 0);
                assert_true((x->bias == NULL) == (y->bias == NULL));
            }
        }
        assert_int_equal(moved, 2);
        assert_non_null(b->layers[l].linears[HT_ROLE_ATTN_K]->bias);
        ht_row_order_deinit(&o);
        ht_row_order_deinit(&o);
    }
    ht_model_unload(a);
    ht_model_unload(b);
}

/* ---- what is made of it ---- */

static int seen, stop_at; /* calls in stage "round"; 0: never stop */

static int stop(void *user, const ht_progress *p) {
    (void)user;
    return strcmp(p->stage, "round") == 0 && ++seen == stop_at;
}

static ht_status quantize(const struct fixture *f, const char *input, const char *output, const char *method,
                          const char *format, ht_err *err) {
    /* What stays plain has no rows in another order: the test need not pay for it. */
    static const char *const plain[] = {"ffn_gate=f16", "ffn_up=f16", "ffn_down=f16", "token_embd=f16"};
    ht_context *ctx = make_context(2, stop, NULL);
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = in_dir(f, input);
    o.output = in_dir(f, output);
    o.method = method;
    o.format = format;
    o.tensor_rules = plain;
    o.n_tensor_rules = sizeof plain / sizeof plain[0];
    if (strcmp(method, "nf4") != 0) {
        o.calib = TEXT;
        o.n_calib = 1;
        o.calib_tokens = 64;
        o.ctx = 64;
    }
    seen = 0;
    ht_status status = ht_quantize(ctx, &o, NULL, err);
    ht_context_free(ctx);
    return status;
}

/* Norms and biases are f32 in a GGUF file: these are compared as values. */
static bool same_vector(const struct ht_tensor *x, const struct ht_tensor *y) {
    uint64_t n = ht_tensor_elems(x);
    float *v = ht_mem_alloc_array((size_t)(2 * n), sizeof *v);
    x->format->decode(x->data, v, (size_t)n);
    y->format->decode(y->data, v + n, (size_t)n);
    bool same = memcmp(v, v + n, (size_t)n * sizeof *v) == 0;
    ht_mem_free(v);
    return same;
}

static const struct ht_tensor *find(const struct ht_tensor *t, size_t n, const char *name) {
    size_t i = 0;
    while (i < n && strcmp(t[i].name, name) != 0) {
        i++;
    }
    if (i == n) {
        fail_msg("%s: not there", name);
    }
    return &t[i];
}

/* How many parts of attention's matrices were compared. */
static size_t same_folders(const char *a_path, const char *b_path) {
    struct ht_source *a = open_source(a_path), *b = open_source(b_path);
    size_t n = 0, m = 0, parts = 0;
    const struct ht_tensor *xs = ht_source_stored(a, &n), *ys = ht_source_stored(b, &m);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++) {
        const struct ht_tensor *x = &xs[i], *y = find(ys, m, x->name);
        bool vector = x->n_dims == 1 && x->format != y->format;
        if (vector ? !same_vector(x, y) : x->bytes != y->bytes || memcmp(x->data, y->data, x->bytes) != 0) {
            fail_msg("%s: not what the folder gives", x->name);
        }
        parts += strstr(x->name, "self_attn") != NULL && !vector;
    }
    ht_source_close(a);
    ht_source_close(b);
    return parts;
}

/* spqr: feedback on what was calibrated, nested scales, single weights by row. os+: biases that the shift changes. lqer:
 * low rank by row, blocks of 256 rather than codes with scales apart. */
static void folders_are_the_same(void **state) {
    const struct fixture *f = *state;
    static const char *const ways[][2] = {
        {"nf4", NULL}, {"spqr", NULL}, {"os+", "int8:g64:nested"}, {"lqer", "q4_0"}, {"gptq", "int4:channel:asym"}};
    need_tiny();
    stop_at = 0;
#ifdef HT_SANITIZED
    const size_t n_ways = 2;
#else
    const size_t n_ways = sizeof ways / sizeof ways[0];
#endif
    for (size_t i = 0; i < n_ways; i++) {
        char a[32], b[32];
        ht_err err = {0};
        snprintf(a, sizeof a, "a%zu", i);
        snprintf(b, sizeof b, "b%zu", i);
        ASSERT_OK(quantize(f, "hf", a, ways[i][0], ways[i][1], &err), &err);
        ASSERT_OK(quantize(f, "model.gguf", b, ways[i][0], ways[i][1], &err), &err);
        assert_true(same_folders(in_dir(f, a), in_dir(f, b)) >= LAYERS * 8);
    }
}

/* What a stopped run has finished is in the folder's order, too. */
static void gone_on(void **state) {
    const struct fixture *f = *state;
    ht_err err = {0};
    need_tiny();
    stop_at = 6; /* in the second layer */
    assert_int_equal(quantize(f, "model.gguf", "stopped", "spqr", NULL, &err), HT_CANCELLED);
    assert_true(ht_path_exists(in_dir(f, "stopped.work")));
    ht_err_clear(&err);
    stop_at = 0;
    ASSERT_OK(quantize(f, "model.gguf", "stopped", "spqr", NULL, &err), &err);
    assert_true(same_folders(in_dir(f, "a1"), in_dir(f, "stopped")) >= LAYERS * 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_by_halves),
        cmocka_unit_test(folders_are_the_same),
        cmocka_unit_test(gone_on), /* from what the one before has made */
    };
    return cmocka_run_group_tests(tests, setup_both, teardown);
}
