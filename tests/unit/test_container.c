/* The folder of our own, written and read again: every scheme, blocks, sidecars, row orders; its logits against those of
 * the plain model that it stands for. */
#include "test.h"

#include <math.h>

#include "flow/flow_codes.h"
#include "flow/flow_finish.h"
#include "flow/flow_folder.h"
#include "flow_test.h"
#include "format/half.h"
#include "io/halftone.h"
#include "model/session.h"

/* ---- writing --------------------------------------------------------------------------------------------------- */

/* What becomes of one weight of a plan. */
typedef void assign_fn(struct ht_flow_plan *plan, struct ht_plan_tensor *t, void *user);

static struct ht_flow_plan *plan_of(const char *input, assign_fn *assign, void *user) {
    struct ht_flow_plan *plan;
    ht_err err = {0};
    ASSERT_OK(ht_flow_plan_open(input, NULL, HT_TARGET_HALFTONE, &plan, &err), &err);
    for (size_t i = 0; i < plan->n_tensors; i++) {
        struct ht_plan_tensor *t = &plan->tensors[i];
        if (ht_plan_is_weight(t)) {
            assign(plan, t, user);
        }
    }
    ASSERT_OK(ht_flow_plan_sizes(plan, &err), &err);
    return plan;
}

static void write_folder(struct fixture *f, struct ht_flow_plan *plan, const char *name, uint64_t shard_bytes) {
    ht_err err = {0};
    const struct ht_folder_options place = {in_dir(f, name), shard_bytes, true};
    const struct ht_stream_options options = {.stage = "test", .measure = true};
    uint64_t bytes;
    uint32_t files;
    ASSERT_OK(ht_flow_predict(plan, shard_bytes, &bytes, &files, &err), &err);
    ASSERT_OK(ht_folder_write(f->ctx, plan, ht_format_find("f16"), &place, &options, &err), &err);
    struct ht_source *s = open_source(in_dir(f, name));
    assert_int_equal(s->file_bytes, bytes);
    assert_int_equal(s->n_maps, files);
    ht_source_close(s);
}

static void set_scheme(struct ht_flow_plan *plan, struct ht_plan_tensor *t, const char *text) {
    struct ht_scheme *scheme = ht_arena_calloc(&plan->arena, 1, sizeof *scheme);
    ht_err err = {0};
    ASSERT_OK(ht_scheme_parse(text, scheme, &err), &err);
    t->scheme = scheme;
    t->out.format = t->wanted = scheme->format;
}

/* ---- the walk of all schemes ------------------------------------------------------------------------------------ */

enum { MAX_SCHEMES = 1024 };
struct walk {
    char texts[MAX_SCHEMES][HT_SCHEME_TEXT];
    size_t n, at;
};

static void collect(struct walk *w) {
    static const char *const tails[] = {"tensor", "channel", "g32", "g40", "g64:nested", "channel:nested", "g64:asym",
                                        "channel:offset", "g32:scale=bf16", "g64:scale=e8m0", "tensor:asym",
                                        "channel:narrow", "g128:scale=f32"};
    w->n = w->at = 0;
    for (size_t i = 0; i < ht_format_count(); i++) {
        for (size_t k = 0; ht_format_at(i)->code != NULL && k < sizeof tails / sizeof tails[0]; k++) {
            struct ht_scheme s;
            char text[HT_SCHEME_TEXT];
            snprintf(text, sizeof text, "%s:%s", ht_format_at(i)->name, tails[k]);
            if (ht_scheme_parse(text, &s, NULL) == HT_OK) {
                assert_true(w->n < MAX_SCHEMES);
                ht_scheme_text(&s, w->texts[w->n++]);
            }
        }
    }
    assert_true(w->n > 400);
}

static void next_scheme(struct ht_flow_plan *plan, struct ht_plan_tensor *t, void *user) {
    struct walk *w = user;
    /* Two layers are enough rows; fitted levels take the longest. */
    if (t->layer < 0 || t->role == HT_ROLE_FFN_GATE || t->role == HT_ROLE_FFN_UP) {
        t->out.format = t->wanted = ht_format_find("f16");
    } else {
        set_scheme(plan, t, w->texts[w->at++ % w->n]);
    }
}

/* The folder holds what encoding the plain tensor gives, bit for bit. */
static void check_tensor(const struct ht_source *plain, const struct ht_source *s, const struct ht_tensor *t) {
    const struct ht_packed *p = ht_source_packed(s, t);
    const struct ht_tensor *in = ht_source_find(plain, t->name);
    uint64_t rows = t->ne[1], cols = t->ne[0];
    float *x = ht_mem_alloc_array(rows * cols, sizeof *x), *scratch = ht_mem_alloc_array(cols, sizeof *scratch);
    struct ht_qtensor q;
    struct ht_qpart part;
    ht_err err = {0};
    assert_non_null(in);
    in->format->decode(in->data, x, rows * cols);
    ASSERT_OK(ht_qtensor_init(&q, &p->q.scheme, rows, cols, t->name, &err), &err);
    ASSERT_OK(ht_qtensor_encode(&q, x, NULL, NULL, &err), &err);
    for (size_t i = 0; ht_qtensor_part(&q, i, &part); i++) {
        char name[HT_MAX_ST_NAME];
        snprintf(name, sizeof name, "%s.%s", t->name, part.suffix);
        const struct ht_tensor *stored = NULL;
        for (size_t k = 0; k < s->n_parts; k++) {
            stored = strcmp(s->parts[k].name, name) == 0 ? &s->parts[k] : stored;
        }
        assert_non_null(stored);
        assert_int_equal(stored->bytes, part.bytes);
        assert_memory_equal(stored->data, *part.slot, part.bytes);
    }
    assert_int_equal(t->bytes, ht_qtensor_bytes(&q));
    float *back = ht_mem_alloc_array(rows * cols, sizeof *back);
    ht_packed_rows(t, p, 0, rows, back, scratch);
    ht_qtensor_decode(&q, 0, rows, x);
    assert_memory_equal(x, back, rows * cols * sizeof *x);
    ht_qtensor_deinit(&q);
    ht_mem_free(back);
    ht_mem_free(x);
    ht_mem_free(scratch);
}

static void test_every_scheme(void **state) {
    struct fixture *f = *state;
    static struct walk w;
    collect(&w);
    struct ht_source *plain = open_source(TINY);
    while (w.at < w.n) {
        struct ht_flow_plan *plan = plan_of(TINY, next_scheme, &w);
        write_folder(f, plan, "walk", 0);
        ht_flow_plan_close(plan);
        struct ht_source *s = open_source(in_dir(f, "walk"));
        assert_string_equal(s->container->name, "halftone");
        size_t packed = 0;
        for (size_t i = 0; i < s->n_tensors; i++) {
            if (ht_source_packed(s, &s->tensors[i]) != NULL) {
                check_tensor(plain, s, &s->tensors[i]);
                packed++;
            }
        }
        assert_int_equal(packed, 25);
        ht_source_close(s);
    }
    ht_source_close(plain);
}

/* ---- sidecars and blocks ---------------------------------------------------------------------------------------- */

struct many {
    size_t n;
    struct ht_sidecar sides[64];
    struct ht_qtensor q[64];
};

static void fill(struct ht_sidecar *s) {
    for (uint64_t j = 0; j < s->cols; j++) {
        if (s->in_scale != NULL) {
            s->in_scale[j] = 0.5f + (float)(j % 7) / 8;
        }
        if (s->perm != NULL) {
            s->perm[j] = (uint32_t)(s->cols - 1 - j);
        }
    }
    for (uint32_t i = 0; i < s->n_out; i++) {
        s->out_idx[i] = 3 * i + 1;
    }
    for (uint64_t i = 0; i < s->n_out * s->rows; i++) {
        s->out_val[i] = ht_f16_from_f32((float)(int64_t)(i % 97 - 48) / 1000);
    }
    for (uint64_t r = 0; s->sp_ptr != NULL && r < s->rows; r++) {
        uint32_t n = r % 3 == 0 ? 2 : r % 3 == 1 ? 0 : 1; /* n_sparse = rows, when 3 divides it; else see below */
        n = s->sp_ptr[r] + n > s->n_sparse ? (uint32_t)s->n_sparse - s->sp_ptr[r] : n;
        n = r + 1 == s->rows ? (uint32_t)s->n_sparse - s->sp_ptr[r] : n;
        s->sp_ptr[r + 1] = s->sp_ptr[r] + n;
        for (uint32_t i = 0; i < n; i++) {
            s->sp_idx[s->sp_ptr[r] + i] = (uint32_t)(r % 64) + 5 * i;
            s->sp_val[s->sp_ptr[r] + i] = ht_f16_from_f32(0.01f * (float)(r % 5));
        }
    }
    for (uint64_t i = 0; i < s->rank * s->cols; i++) {
        s->lr_a[i] = ht_f16_from_f32((float)(int64_t)(i % 31 - 15) / 300);
    }
    for (uint64_t i = 0; i < s->rank * s->rows; i++) {
        s->lr_b[i] = ht_f16_from_f32((float)(int64_t)(i % 29 - 14) / 300);
    }
}

#define ALL_SIDES (HT_LEAVES_COLUMNS | HT_LEAVES_SPARSE | HT_LEAVES_LOWRANK | HT_LEAVES_IN_SCALE | HT_LEAVES_PERM | \
                   HT_LEAVES_HADAMARD)

static void add_side(struct many *m, struct ht_plan_tensor *t, unsigned leaves) {
    struct ht_sidecar *s = &m->sides[m->n];
    ht_err err = {0};
    *s = (struct ht_sidecar){.rows = t->out.ne[1], .cols = t->out.ne[0], .leaves = leaves};
    s->hadamard = (leaves & HT_LEAVES_HADAMARD) != 0 ? 64 : 0;
    s->n_out = (leaves & HT_LEAVES_COLUMNS) != 0 ? 4 : 0;
    s->n_sparse = (leaves & HT_LEAVES_SPARSE) != 0 ? s->rows : 0;
    s->rank = (leaves & HT_LEAVES_LOWRANK) != 0 ? 3 : 0;
    ASSERT_OK(ht_sidecar_init(s, t->out.name, &err), &err);
    fill(s);
    ASSERT_OK(ht_sidecar_check(s, "test", t->out.name, &err), &err);
    t->side = s;
}

/* Blocks, codes made while streaming, and finished codes, each with other sidecars; finished codes are in the order of
 * the output's rows. */
static void mixture(struct ht_flow_plan *plan, struct ht_plan_tensor *t, void *user) {
    static const char *const schemes[] = {"int4:g64", "nf4:g64:nested", "uint3:g32:offset", "fp8_e4m3:channel", "int8:tensor"};
    struct many *m = user;
    ht_err err = {0};
    if (t->layer < 0) {
        t->out.format = t->wanted = ht_format_find("f16");
        return;
    }
    if (t->role == HT_ROLE_ATTN_V) {
        t->out.format = t->wanted = ht_format_find("q4_k");
        add_side(m, t, t->layer == 0 ? 0 : t->layer == 1 ? ALL_SIDES : HT_LEAVES_SPARSE);
    } else if (t->role == HT_ROLE_FFN_DOWN) {
        t->out.format = t->wanted = ht_format_find("iq4_xs");
    } else {
        set_scheme(plan, t, schemes[(m->n + (size_t)t->layer) % 5]);
        add_side(m, t, t->role == HT_ROLE_ATTN_OUTPUT ? ALL_SIDES : t->layer == 2 ? HT_LEAVES_LOWRANK : HT_LEAVES_SPARSE);
        if (t->role == HT_ROLE_ATTN_Q || t->role == HT_ROLE_FFN_UP) {
            set_scheme(plan, t, schemes[(size_t)t->layer % 2]);
            uint64_t cols = t->out.ne[0], rows = t->out.ne[1];
            float *x = ht_mem_alloc_array(ht_tensor_elems(&t->out), sizeof *x);
            for (uint64_t r = 0; r < rows; r++) {
                ht_packed_rows(t->in, t->packed, ht_plan_source_row(t, r, rows), 1, x + r * cols, NULL);
            }
            t->q = &m->q[m->n];
            ASSERT_OK(ht_qtensor_init(t->q, t->scheme, t->out.ne[1], t->out.ne[0], t->out.name, &err), &err);
            ASSERT_OK(ht_qtensor_encode(t->q, x, NULL, NULL, &err), &err);
            ht_mem_free(x);
        }
    }
    if (t->side != NULL && t->side->leaves == 0) {
        ht_sidecar_deinit(t->side);
        t->side = NULL;
    }
    m->n++;
}

static void drop_many(struct many *m) {
    for (size_t i = 0; i < m->n; i++) {
        ht_sidecar_deinit(&m->sides[i]);
        ht_qtensor_deinit(&m->q[i]);
    }
    m->n = 0;
}

static float *logits_of(struct fixture *f, const char *path, size_t *n_out) {
    static const int32_t ids[] = {17, 4, 99, 1200, 3000, 5, 5, 812, 64, 2048, 7, 1};
    enum { N = sizeof ids / sizeof ids[0] };
    struct ht_model *m;
    struct ht_run *run;
    ht_err err = {0};
    ASSERT_OK(ht_model_load(path, &m, &err), &err);
    const struct ht_run_options o = {.ctx = 64, .math = HT_MATH_EXACT, .f32_cache = true};
    float *logits = ht_mem_alloc_array(N * m->hp.vocab, sizeof *logits);
    ASSERT_OK(ht_run_new(f->ctx->pool, m, &o, &run, &err), &err);
    ASSERT_OK(ht_run_feed(run, ids, N, N, logits, &err), &err);
    *n_out = N * m->hp.vocab;
    ht_run_free(run);
    ht_model_unload(m);
    return logits;
}

static void check_logits(struct fixture *f, const char *a, const char *b) {
    size_t n, n_b;
    float *x = logits_of(f, a, &n), *y = logits_of(f, b, &n_b);
    double worst = 0, most = 0;
    assert_int_equal(n, n_b);
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)x[i] - y[i]));
        most = fmax(most, fabs((double)y[i]));
    }
    if (!(worst <= 1e-5 * most)) {
        fail_msg("logits differ by %g of %g", worst, most);
    }
    ht_mem_free(x);
    ht_mem_free(y);
}

static void convert_to(struct fixture *f, const char *from, const char *to, const char *dtype) {
    ht_convert_options o;
    ht_err err = {0};
    char *json;
    ht_convert_options_defaults(&o);
    o.input = from;
    o.output = to;
    o.dtype = dtype;
    o.force = true;
    ASSERT_OK(ht_convert(f->ctx, &o, &json, &err), &err);
    ht_string_free(json);
}

/* The folder computes what the f32 folder made of it computes; from a GGUF file, whose rows of q and k are in another
 * order, too. */
static void test_logits_of_plain_model(void **state) {
    struct fixture *f = *state;
    static struct many m;
    convert_to(f, TINY, in_dir(f, "tiny.gguf"), "bf16");
    for (int gguf = 0; gguf < 2; gguf++) {
        struct ht_flow_plan *plan = plan_of(gguf ? in_dir(f, "tiny.gguf") : TINY, mixture, &m);
        write_folder(f, plan, "mixture", gguf ? 1u << 20 : 0);
        ht_flow_plan_close(plan);
        drop_many(&m);
        convert_to(f, in_dir(f, "mixture"), in_dir(f, "plain"), "f32");
        check_logits(f, in_dir(f, "mixture"), in_dir(f, "plain"));
        convert_to(f, in_dir(f, "mixture"), in_dir(f, "plain.gguf"), "f32");
        check_logits(f, in_dir(f, "mixture"), in_dir(f, "plain.gguf"));
    }
}

/* The folder says how its cache is kept. */
static void test_cache_of_folder(void **state) {
    struct fixture *f = *state;
    struct ht_model *m;
    static struct walk w;
    char text[HT_KV_TEXT];
    ht_err err = {0};
    collect(&w);
    struct ht_flow_plan *plan = plan_of(TINY, next_scheme, &w);
    ASSERT_OK(ht_kv_parse("uint4:g32+hadamard", &plan->kv, &err), &err);
    write_folder(f, plan, "cache", 0);
    ht_flow_plan_close(plan);
    ASSERT_OK(ht_model_load(in_dir(f, "cache"), &m, &err), &err);
    assert_string_equal(ht_kv_text(&m->kv, text), "uint4:g32+hadamard");
    ht_model_unload(m);
}

static void test_verified_and_inspected(void **state) {
    struct fixture *f = *state;
    static struct many m;
    struct ht_flow_plan *plan = plan_of(TINY, mixture, &m);
    write_folder(f, plan, "mixture", 0);
    ht_flow_plan_close(plan);
    drop_many(&m);
    ht_verify_options o;
    ht_err err = {0};
    char *json;
    ht_verify_options_defaults(&o);
    ASSERT_OK(ht_verify(f->ctx, in_dir(f, "mixture"), &o, &json, &err), &err);
    json_t *v = parse(json);
    assert_true(json_is_true(json_object_get(v, "sound")));
    assert_true(json_integer_value(json_object_get(v, "checksums")) > 80);
    json_decref(v);
    ASSERT_OK(ht_inspect(f->ctx, in_dir(f, "mixture"), &json, &err), &err);
    v = parse(json);
    assert_string_equal(json_string_value(json_object_get(v, "container")), "halftone");
    assert_true(json_is_true(json_object_get(v, "quantized")));
    struct ht_source *s = open_source(in_dir(f, "mixture"));
    assert_int_equal(json_integer_value(json_object_get(v, "data_bytes")), s->data_bytes);
    bool blocks = false, codes = false;
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(v, "formats"), i, row) {
        const char *name = json_string_value(json_object_get(row, "format"));
        blocks = blocks || strcmp(name, "iq4_xs") == 0;
        codes = codes || strcmp(name, "int4:g64") == 0;
    }
    assert_true(blocks && codes);
    json_decref(v);
    ht_source_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_scheme),
        cmocka_unit_test(test_logits_of_plain_model),
        cmocka_unit_test(test_cache_of_folder),
        cmocka_unit_test(test_verified_and_inspected),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
