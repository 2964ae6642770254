/* quantize: sizes as predicted, same bytes for any thread count, errors as measured by hand, refusals in words. */
#include "test.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "format/half.h"
#include "io/gguf.h"
#include "io/imatrix.h"
#include "model/model.h"
#include "quant/mix.h"
#include "flow_test.h"

static ht_quantize_options options(const char *input, const char *output, const char *format) {
    ht_quantize_options o;
    ht_quantize_options_defaults(&o);
    o.input = input;
    o.output = output;
    o.format = format;
    return o;
}

static json_t *quantize(ht_context *ctx, const ht_quantize_options *o) {
    ht_err err;
    char *json;
    ASSERT_OK(ht_quantize(ctx, o, &json, &err), &err);
    return parse(json);
}

static uint64_t number(const json_t *record, const char *key) {
    return (uint64_t)json_integer_value(json_object_get(record, key));
}

/* Fails unless the call gives this status and its message contains the words. */
static void refused(ht_context *ctx, const ht_quantize_options *o, ht_status status, const char *words) {
    ht_err err;
    ht_status got = ht_quantize(ctx, o, NULL, &err);
    if (got != status || strstr(err.msg, words) == NULL) {
        fail_msg("expected %s with '%s', got %s: %s", ht_status_text(status), words, ht_status_text(got), err.msg);
    }
}

/* Importance 1 + (column mod 7) for every linear of the tiny model. */
static void make_imatrix(const char *path, uint64_t wrong_by) {
    struct ht_imatrix *m;
    ht_err err = {0};
    ASSERT_OK(ht_imatrix_new(&m, &err), &err);
    m->chunk_count = 1;
    m->chunk_size = 8;
    static const struct {
        const char *name;
        uint64_t n;
    } rows[] = {{"attn_q", 256}, {"attn_k", 256}, {"attn_v", 256}, {"attn_output", 256},
                {"ffn_gate", 256}, {"ffn_up", 256}, {"ffn_down", 768}};
    for (int layer = 0; layer < 5; layer++) {
        for (size_t i = 0; i < 7; i++) {
            char name[64];
            struct ht_imatrix_entry *e;
            snprintf(name, sizeof name, "blk.%d.%s.weight", layer, rows[i].name);
            ASSERT_OK(ht_imatrix_entry(m, name, rows[i].n + wrong_by, 1, &e, &err), &err);
            e->count[0] = 8;
            for (uint64_t k = 0; k < e->n; k++) {
                e->sum2[k] = 8.0f * (float)(1 + k % 7);
            }
        }
    }
    ASSERT_OK(ht_imatrix_save(m, path, true, &err), &err);
    ht_imatrix_free(m);
}

/* ---- what comes out ---------------------------------------------------------------------------------- */

/* Every preset: the dry run's size is the file's, the file is sound, the formats are the preset's. */
static void every_preset(void **state) {
    struct fixture *f = *state;
    char output[256];
    snprintf(output, sizeof output, "%s", in_dir(f, "preset.gguf"));
    make_imatrix(in_dir(f, "preset-i.gguf"), 0);
    size_t n_needy = 0;
#ifdef HT_SANITIZED
    const size_t step = 5; /* lattices take minutes under a sanitizer: a sample of all kinds */
#else
    const size_t step = 1;
#endif
    for (size_t i = 0; i < ht_mix_count(); i += step) {
        const struct ht_mix *mix = ht_mix_at(i);
        const struct ht_mix_facts plain = {5, 4, 2, true, false, false};
        const struct ht_format *q = ht_mix_choose(mix, &plain, HT_ROLE_ATTN_Q, 3, 256, NULL);
        bool needy = ht_mix_needs_importance(mix, HT_ROLE_ATTN_Q, q);
        ht_err err;
        ht_quantize_options o = options(TINY, output, ht_mix_name(mix));
        if (needy) { /* refused without importance, before anything is written */
            refused(f->ctx, &o, HT_INVAL, "needs importance");
            assert_false(ht_path_exists(output));
            o.imatrix = in_dir(f, "preset-i.gguf");
            n_needy++;
        }
        o.dry_run = true;
        json_t *plan = quantize(f->ctx, &o);
        assert_false(ht_path_exists(output));
        o.dry_run = false;
        json_t *record = quantize(f->ctx, &o);
        assert_int_equal(number(record, "bytes"), file_size(output));
        assert_int_equal(number(json_object_get(plan, "predicted"), "bytes"), file_size(output));
        assert_true(json_real_value(json_object_get(json_object_get(plan, "predicted"), "seconds")) > 0);
        ASSERT_OK(ht_verify(f->ctx, output, NULL, NULL, &err), &err);
        struct ht_source *s = open_source(output);
        uint64_t type;
        ASSERT_OK(ht_meta_get_u64(&s->meta, "general.file_type", 2000, &type, NULL, &err), &err);
        assert_int_equal(type, ht_mix_file_type(mix));
        const struct ht_mix_facts facts = {5, 4, 2, true, needy, false};
        const struct ht_tensor *t = ht_source_find(s, "blk.3.ffn_down.weight");
        assert_ptr_equal(t->format, ht_mix_choose(mix, &facts, HT_ROLE_FFN_DOWN, 3, 768, NULL));
        ht_source_close(s);
        json_decref(plan);
        json_decref(record);
        unlink(output);
    }
    assert_true(n_needy == 9 || step > 1);
}

static char *read_all(const char *path, size_t *len) {
    char *data;
    ht_err err = {0};
    ASSERT_OK(ht_read_file(path, 1u << 28, &data, len, &err), &err);
    return data;
}

static void same_bytes_for_any_threads(void **state) {
    struct fixture *f = *state;
    make_imatrix(in_dir(f, "i.gguf"), 0);
    char *first = NULL;
    size_t len = 0;
    json_t *first_tensors = NULL;
    static const int threads[] = {1, 2, MANY_THREADS};
    for (size_t i = 0; i < 3; i++) {
        ht_context *ctx = make_context(threads[i], NULL, NULL);
        ht_quantize_options o = options(TINY, in_dir(f, "same.gguf"), "Q4_K_M");
        o.imatrix = in_dir(f, "i.gguf");
        o.force = true;
        json_t *record = quantize(ctx, &o);
        size_t n;
        char *data = read_all(o.output, &n);
        if (first == NULL) {
            first = data;
            len = n;
            first_tensors = json_incref(json_object_get(record, "tensors"));
        } else {
            assert_int_equal(n, len);
            assert_memory_equal(data, first, n);
            assert_true(json_equal(first_tensors, json_object_get(record, "tensors"))); /* the figures too */
            ht_mem_free(data);
        }
        json_decref(record);
        ht_context_free(ctx);
    }
    ht_mem_free(first);
    json_decref(first_tensors);
}

/* The record's errors, from the two files by hand: a linear of the checkpoint against what the output holds. */
static void errors_are_true(void **state) {
    struct fixture *f = *state;
    make_imatrix(in_dir(f, "w.gguf"), 0);
    ht_quantize_options o = options(TINY, in_dir(f, "err.gguf"), "Q4_0");
    o.imatrix = in_dir(f, "w.gguf");
    json_t *record = quantize(f->ctx, &o);
    const json_t *found = tensor_row(record, "blk.4.ffn_up.weight");
    struct ht_source *a = open_source(TINY), *b = open_source(o.output);
    const struct ht_tensor *x = ht_source_find(a, "model.layers.4.mlp.up_proj.weight");
    const struct ht_tensor *y = ht_source_find(b, "blk.4.ffn_up.weight");
    uint64_t n = ht_tensor_elems(x);
    float *p = ht_mem_alloc_array(n, sizeof *p), *q = ht_mem_alloc_array(n, sizeof *q);
    x->format->decode(x->data, p, n);
    y->format->decode(y->data, q, n);
    double err_sq = 0, weighted = 0, weights = 0, sum_sq = 0;
    for (uint64_t k = 0; k < n; k++) {
        double d = (double)p[k] - (double)q[k], w = (double)(1 + k % 256 % 7);
        err_sq += d * d;
        weighted += w * d * d;
        weights += w;
        sum_sq += (double)p[k] * (double)p[k];
    }
    assert_string_equal(json_string_value(json_object_get(found, "format")), "q4_0");
    double mse = json_real_value(json_object_get(found, "mse"));
    double wmse = json_real_value(json_object_get(found, "weighted_mse"));
    double db = json_real_value(json_object_get(found, "rel_error_db"));
    assert_true(fabs(mse - err_sq / (double)n) < 1e-5 * mse);
    assert_true(fabs(wmse - weighted / weights) < 1e-5 * wmse);
    assert_true(fabs(db - 10 * log10(err_sq / sum_sq)) < 1e-4);
    assert_true(db < -15 && db > -30); /* 4 bits, blocks of 32 */
    ht_mem_free(p);
    ht_mem_free(q);
    ht_source_close(a);
    ht_source_close(b);
    json_decref(record);
}

/* Quantizing the folder is quantizing its GGUF: same tensors, bit for bit. */
static void folder_or_file(void **state) {
    struct fixture *f = *state;
    ht_convert_options c;
    ht_err err;
    ht_convert_options_defaults(&c);
    c.input = TINY;
    c.output = in_dir(f, "whole.gguf");
    ASSERT_OK(ht_convert(f->ctx, &c, NULL, &err), &err);
    ht_quantize_options o = options(TINY, in_dir(f, "from-hf.gguf"), "Q3_K_M");
    json_decref(quantize(f->ctx, &o));
    o = options(in_dir(f, "whole.gguf"), in_dir(f, "from-gguf.gguf"), "Q3_K_M");
    json_decref(quantize(f->ctx, &o));
    struct ht_source *a = open_source(in_dir(f, "from-hf.gguf")), *b = open_source(in_dir(f, "from-gguf.gguf"));
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        assert_string_equal(a->tensors[i].name, b->tensors[i].name);
        assert_ptr_equal(a->tensors[i].format, b->tensors[i].format);
        assert_memory_equal(a->tensors[i].data, b->tensors[i].data, a->tensors[i].bytes);
    }
    ht_source_close(a);
    ht_source_close(b);
}

static const char *format_of(const json_t *record, const char *name) {
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(record, "tensors"), i, row) {
        if (strcmp(json_string_value(json_object_get(row, "name")), name) == 0) {
            return json_string_value(json_object_get(row, "format"));
        }
    }
    return "none";
}

static void rules_and_overrides(void **state) {
    struct fixture *f = *state;
    static const char *const rules[] = {"ffn_down=q5_1", "attn_v=q6_k", "FFN_DOWN=Q8_0"};
    ht_quantize_options o = options(TINY, in_dir(f, "rules.gguf"), "q4_k_s");
    o.tensor_rules = rules;
    o.n_tensor_rules = 3;
    o.embd = "q5_0";
    o.dry_run = true;
    json_t *record = quantize(f->ctx, &o);
    assert_string_equal(format_of(record, "blk.0.ffn_down.weight"), "q8_0"); /* the later rule */
    assert_string_equal(format_of(record, "blk.4.attn_v.weight"), "q6_k");
    assert_string_equal(format_of(record, "blk.4.attn_k.weight"), "q4_k");
    assert_string_equal(format_of(record, "token_embd.weight"), "q5_0");
    assert_string_equal(format_of(record, "blk.0.attn_norm.weight"), "f32");
    json_decref(record);
    o.embd = NULL;
    o.head = "f16"; /* tied: the embedding is the head */
    o.n_tensor_rules = 0;
    record = quantize(f->ctx, &o);
    assert_string_equal(format_of(record, "token_embd.weight"), "f16");
    json_decref(record);
    o.head = NULL;
    o.pure = true;
    record = quantize(f->ctx, &o);
    assert_string_equal(format_of(record, "token_embd.weight"), "q4_k");
    assert_string_equal(format_of(record, "blk.0.ffn_down.weight"), "q4_k");
    json_decref(record);
}

static void provenance(void **state) {
    struct fixture *f = *state;
    make_imatrix(in_dir(f, "prov-i.gguf"), 0);
    ht_quantize_options o = options(TINY, in_dir(f, "prov.gguf"), "iq4_nl");
    o.imatrix = in_dir(f, "prov-i.gguf");
    o.seed = 7;
    json_decref(quantize(f->ctx, &o));
    static const struct {
        const char *key, *value;
    } texts[] = {{"quantize.imatrix.file", "prov-i.gguf"}, {"halftone.method", "imatrix"},
                 {"halftone.format", "IQ4_NL"}, {"halftone.source.name", "tiny"},
                 {"general.architecture", "llama"}};
    struct ht_source *s = open_source(o.output);
    ht_err err = {0};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *v = NULL;
        ASSERT_OK(ht_meta_get_str(&s->meta, texts[i].key, &v, NULL, &err), &err);
        assert_string_equal(v, texts[i].value);
    }
    uint64_t n = 0;
    ASSERT_OK(ht_meta_get_u64(&s->meta, "quantize.imatrix.entries_count", 1000, &n, NULL, &err), &err);
    assert_int_equal(n, 35);
    ASSERT_OK(ht_meta_get_u64(&s->meta, "halftone.seed", 1000, &n, NULL, &err), &err);
    assert_int_equal(n, 7);
    for (size_t i = 0; i < s->meta.n; i++) { /* no path of this machine */
        if (s->meta.kv[i].type == HT_META_STRING) {
            assert_null(strstr(s->meta.kv[i].v.str.s, f->dir));
            assert_null(strstr(s->meta.kv[i].v.str.s, HT_MODEL_DIR));
        }
    }
    ht_source_close(s);
}

/* ---- refusals ---------------------------------------------------------------------------------------- */

static void bad_names(void **state) {
    struct fixture *f = *state;
    const char *out = in_dir(f, "no.gguf");
    ht_quantize_options o = options(TINY, out, "Q4_K_X");
    refused(f->ctx, &o, HT_INVAL, "did you mean");
    o.format = "Q4_0";
    o.method = "imatrx";
    refused(f->ctx, &o, HT_INVAL, "did you mean imatrix");
    o.method = "imatrix";
    refused(f->ctx, &o, HT_INVAL, "--imatrix");
    o.method = NULL;
    const char *rule = "ffn_dwn=q4_0";
    o.tensor_rules = &rule;
    o.n_tensor_rules = 1;
    refused(f->ctx, &o, HT_INVAL, "did you mean ffn_down");
    rule = "ffn_down=q4_9";
    refused(f->ctx, &o, HT_INVAL, "did you mean");
    rule = "attn_norm=q4_0";
    refused(f->ctx, &o, HT_INVAL, "no matrix");
    rule = "ffn_down";
    refused(f->ctx, &o, HT_INVAL, "ROLE=FORMAT");
    o.n_tensor_rules = 0;
    o.input = in_dir(f, "missing.gguf");
    assert_int_equal(ht_quantize(f->ctx, &o, NULL, NULL), HT_NOTFOUND);
    o.input = TINY;
    o.output = in_dir(f, "no/such/folder.gguf");
    refused(f->ctx, &o, HT_NOTFOUND, "does not exist");
    assert_false(ht_path_exists(out));
}

static void same_path(void **state) {
    struct fixture *f = *state;
    ht_convert_options c;
    ht_err err;
    char input[256], soft[256], hard[256];
    snprintf(input, sizeof input, "%s", in_dir(f, "in.gguf"));
    snprintf(soft, sizeof soft, "%s", in_dir(f, "soft.gguf"));
    snprintf(hard, sizeof hard, "%s", in_dir(f, "hard.gguf"));
    ht_convert_options_defaults(&c);
    c.input = TINY;
    c.output = input;
    ASSERT_OK(ht_convert(f->ctx, &c, NULL, &err), &err);
    assert_int_equal(symlink(input, soft), 0);
    assert_int_equal(link(input, hard), 0);
    size_t len, after;
    char *before = read_all(input, &len);
    const char *outputs[] = {input, soft, hard};
    for (size_t i = 0; i < 3; i++) {
        ht_quantize_options o = options(input, outputs[i], "Q8_0");
        o.force = true;
        refused(f->ctx, &o, HT_INVAL, "the input");
        c.input = input;
        c.output = outputs[i];
        c.force = true;
        assert_int_equal(ht_convert(f->ctx, &c, NULL, NULL), HT_INVAL);
    }
    ht_quantize_options o = options(TINY, TINY, "Q8_0"); /* the folder itself */
    o.force = true;
    refused(f->ctx, &o, HT_INVAL, "a folder of this name exists");
    char *now = read_all(input, &after);
    assert_int_equal(after, len);
    assert_memory_equal(before, now, len);
    ht_mem_free(before);
    ht_mem_free(now);
}

static void existing_output(void **state) {
    struct fixture *f = *state;
    ht_err err;
    ht_quantize_options o = options(TINY, in_dir(f, "old.gguf"), "Q8_0");
    ASSERT_OK(ht_write_file(o.output, "precious", 8, false, &err), &err);
    refused(f->ctx, &o, HT_EXISTS, "--force");
    assert_int_equal(file_size(o.output), 8);
    o.shard_bytes = 1u << 20; /* a split output has other names: known before the calibration, which would fail */
    static const char *const none[] = {"/no/such/text"}, *const some[] = {HT_MODEL_DIR "/text/persuasion.txt"};
    char shard[256];
    o.calib = some;
    o.n_calib = 1;
    o.dry_run = true;
    json_t *plan = quantize(f->ctx, &o);
    int64_t files = json_integer_value(json_object_get(json_object_get(plan, "output"), "files"));
    json_decref(plan);
    o.calib = none;
    ht_err missing = {0};
    assert_int_equal(ht_quantize(f->ctx, &o, NULL, &missing), HT_NOTFOUND); /* a plan reads the text */
    o.dry_run = false;
    snprintf(shard, sizeof shard, "%s-00002-of-%05d.gguf", in_dir(f, "old"), (int)files);
    ASSERT_OK(ht_write_file(shard, "precious", 8, false, &err), &err);
    refused(f->ctx, &o, HT_EXISTS, "--force");
    unlink(shard);
    refused(f->ctx, &o, HT_NOTFOUND, "");
    o = options(TINY, in_dir(f, "old.gguf"), "Q8_0");
    o.force = true;
    json_decref(quantize(f->ctx, &o));
    assert_true(file_size(o.output) > 1000000);
}

static double predicted(ht_context *ctx, const char *out, const char *method, const char *format, uint64_t tokens) {
    static const char *const texts[] = {HT_MODEL_DIR "/text/northanger-abbey.txt"};
    ht_quantize_options o = options(TINY, out, format);
    o.method = method;
    o.calib = texts;
    o.n_calib = 1;
    o.calib_tokens = tokens;
    o.dry_run = true;
    json_t *record = quantize(ctx, &o);
    double seconds = json_real_value(json_object_get(json_object_get(record, "predicted"), "seconds"));
    assert_true(json_array_size(json_object_get(record, "warnings")) == 0 && json_object_get(record, "folded") == NULL);
    json_decref(record);
    return seconds;
}

/* Layer by layer: what calibration takes grows with its text, and nothing of a rehearsal stays in the plan. */
static void seconds_of_blocks(void **state) {
    struct fixture *f = *state;
    static const char *const rows[][2] = {{"gptq", "q4_0"}, {"awq", "int4:g64"}, {"smoothquant", NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *out = rows[i][1] != NULL && strchr(rows[i][1], ':') == NULL ? in_dir(f, "s.gguf") : in_dir(f, "s");
        double some = predicted(f->ctx, out, rows[i][0], rows[i][1], 512);
        double many = predicted(f->ctx, out, rows[i][0], rows[i][1], 65536);
        assert_true(some > 0 && many > 2 * some);
    }
    ht_quantize_options o = options(TINY, in_dir(f, "s"), "int4:g64"); /* no text: rounding alone */
    o.method = "rtn";
    o.dry_run = true;
    json_t *record = quantize(f->ctx, &o);
    assert_true(json_real_value(json_object_get(json_object_get(record, "predicted"), "seconds")) > 0);
    json_decref(record);
}

static void requantizing(void **state) {
    struct fixture *f = *state;
    ht_quantize_options o = options(TINY, in_dir(f, "q8.gguf"), "Q8_0");
    json_decref(quantize(f->ctx, &o));
    o = options(in_dir(f, "q8.gguf"), in_dir(f, "q4.gguf"), "Q4_0");
    refused(f->ctx, &o, HT_INVAL, "--allow-requantize");
    assert_false(ht_path_exists(o.output));
    o.allow_requantize = true;
    json_decref(quantize(f->ctx, &o));
    o = options(in_dir(f, "q8.gguf"), in_dir(f, "q8-again.gguf"), "Q8_0"); /* the same type: copied */
    json_decref(quantize(f->ctx, &o));
    struct ht_source *a = open_source(in_dir(f, "q8.gguf")), *b = open_source(in_dir(f, "q8-again.gguf"));
    for (size_t i = 0; i < a->n_tensors; i++) {
        assert_memory_equal(a->tensors[i].data, b->tensors[i].data, a->tensors[i].bytes);
    }
    ht_source_close(a);
    ht_source_close(b);
}

static void wrong_imatrix(void **state) {
    struct fixture *f = *state;
    struct ht_imatrix *m;
    struct ht_imatrix_entry *e;
    ht_err err = {0};
    ht_quantize_options o = options(TINY, in_dir(f, "wi.gguf"), "Q4_0");
    make_imatrix(in_dir(f, "wrong.gguf"), 32);
    o.imatrix = in_dir(f, "wrong.gguf");
    refused(f->ctx, &o, HT_INVAL, "another model");
    ASSERT_OK(ht_imatrix_new(&m, &err), &err);
    ASSERT_OK(ht_imatrix_entry(m, "model.layers.0.mlp.down_proj", 768, 1, &e, &err), &err);
    e->count[0] = 1;
    e->sum2[0] = 1;
    m->chunk_count = m->chunk_size = 1;
    ASSERT_OK(ht_imatrix_save(m, in_dir(f, "names.gguf"), true, &err), &err);
    ht_imatrix_free(m);
    o.imatrix = in_dir(f, "names.gguf");
    refused(f->ctx, &o, HT_INVAL, "names a weight");
    o.imatrix = HT_MODEL_DIR "/tiny/config.json";
    assert_int_not_equal(ht_quantize(f->ctx, &o, NULL, NULL), HT_OK);
    assert_false(ht_path_exists(o.output));
}

/* --calib: the same as collecting first and then quantizing with the matrix. */
static void calibration_inside(void **state) {
    struct fixture *f = *state;
    ht_err err;
    char matrix[256];
    static const char *const text = HT_MODEL_DIR "/text/persuasion.txt";
    snprintf(matrix, sizeof matrix, "%s", in_dir(f, "first.gguf"));
    ht_imatrix_options m;
    ht_imatrix_options_defaults(&m);
    m.model = TINY;
    m.texts = &text;
    m.n_texts = 1;
    m.ctx = 128;
    m.tokens = 700; /* five windows */
    m.output = matrix;
    ASSERT_OK(ht_imatrix_collect(f->ctx, &m, NULL, &err), &err);
    ht_quantize_options o = options(TINY, in_dir(f, "inside.gguf"), "Q3_K_S");
    o.calib = &text;
    o.n_calib = 1;
    o.calib_tokens = 700;
    o.ctx = 128;
    json_t *record = quantize(f->ctx, &o);
    assert_string_equal(json_string_value(json_object_get(record, "method")), "imatrix");
    const json_t *im = json_object_get(record, "imatrix");
    assert_int_equal(json_integer_value(json_object_get(im, "chunks")), 5);
    assert_int_equal(json_integer_value(json_object_get(im, "entries")), 35);
    assert_string_equal(json_string_value(json_array_get(json_object_get(im, "texts"), 0)), "persuasion.txt");
    json_decref(record);
    ht_quantize_options two = options(TINY, in_dir(f, "two-steps.gguf"), "Q3_K_S");
    two.imatrix = matrix;
    json_decref(quantize(f->ctx, &two));
    ht_quantize_options none = options(TINY, in_dir(f, "no-weights.gguf"), "Q3_K_S");
    json_decref(quantize(f->ctx, &none));
    struct ht_source *a = open_source(o.output), *b = open_source(two.output), *c = open_source(none.output);
    size_t differ = 0;
    assert_int_equal(a->n_tensors, b->n_tensors);
    for (size_t i = 0; i < a->n_tensors; i++) {
        assert_memory_equal(a->tensors[i].data, b->tensors[i].data, a->tensors[i].bytes);
        differ += memcmp(a->tensors[i].data, c->tensors[i].data, a->tensors[i].bytes) != 0;
    }
    assert_int_equal(differ, 35); /* all linears; the embedding has no importance */
    const struct ht_meta_kv *chunks = ht_meta_find(&a->meta, "quantize.imatrix.chunks_count");
    assert_int_equal(chunks->v.u, 5);
    ht_source_close(a);
    ht_source_close(b);
    ht_source_close(c);
}

/* Writes a copy of the tiny model in f32 with one changed value. */
static void make_damaged(struct fixture *f, const char *path, const char *dtype, float value) {
    ht_convert_options c;
    ht_err err;
    ht_convert_options_defaults(&c);
    c.input = TINY;
    c.output = path;
    c.dtype = dtype;
    c.force = true;
    ASSERT_OK(ht_convert(f->ctx, &c, NULL, &err), &err);
    struct ht_source *s = open_source(path);
    const struct ht_tensor *t = ht_source_find(s, "blk.2.ffn_up.weight");
    off_t at = (off_t)((const unsigned char *)t->data - s->maps[0].data) + 4000;
    ht_source_close(s);
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, &value, sizeof value, at), sizeof value);
    close(fd);
}

static void damaged_values(void **state) {
    struct fixture *f = *state;
    char bad[256];
    ht_err err;
    snprintf(bad, sizeof bad, "%s", in_dir(f, "bad.gguf"));
    static const float values[] = {NAN, INFINITY};
    for (size_t i = 0; i < 2; i++) {
        make_damaged(f, bad, "f32", values[i]);
        ht_quantize_options o = options(bad, in_dir(f, "bad-q.gguf"), "Q4_K_M");
        refused(f->ctx, &o, HT_NUMERIC, "1 of 196608 values");
        assert_false(ht_path_exists(o.output));
        ht_convert_options c;
        ht_convert_options_defaults(&c);
        c.input = bad;
        c.output = in_dir(f, "bad-c.gguf");
        assert_int_equal(ht_convert(f->ctx, &c, NULL, &err), HT_NUMERIC);
        assert_false(ht_path_exists(c.output));
        o.allow_nonfinite = true;
        o.force = true;
        json_t *record = quantize(f->ctx, &o);
        assert_int_equal(number(record, "nonfinite_zeroed"), 1);
        assert_int_equal(json_array_size(json_object_get(record, "warnings")), 1);
        json_decref(record);
        ASSERT_OK(ht_verify(f->ctx, o.output, NULL, NULL, &err), &err);
        unlink(o.output);
    }
    make_damaged(f, bad, "f32", 70000.0f);
    ht_convert_options c;
    ht_convert_options_defaults(&c);
    c.input = bad;
    c.output = in_dir(f, "narrow.gguf");
    c.dtype = "f16";
    assert_int_equal(ht_convert(f->ctx, &c, NULL, &err), HT_NUMERIC);
    assert_non_null(strstr(err.msg, "too large for f16"));
    assert_string_equal(err.what, "blk.2.ffn_up.weight");
    c.dtype = "bf16";
    ASSERT_OK(ht_convert(f->ctx, &c, NULL, &err), &err);
    make_damaged(f, bad, "f32", 1e30f); /* its block's scale does not fit into f16 */
    ht_quantize_options o = options(bad, in_dir(f, "huge.gguf"), "Q8_0");
    refused(f->ctx, &o, HT_NUMERIC, "too large for q8_0");
}

/* A stretch of a quantized tensor that holds an infinite scale is encoded again: the record says how far off. */
static void damaged_and_kept(void **state) {
    struct fixture *f = *state;
    char bad[256], again[256];
    static const char name[] = "blk.1.attn_k.weight";
    snprintf(bad, sizeof bad, "%s", in_dir(f, "kept.gguf"));
    snprintf(again, sizeof again, "%s", in_dir(f, "kept-again.gguf"));
    ht_quantize_options o = options(TINY, bad, "q4_k"); /* no fixed point of its encoder */
    json_decref(quantize(f->ctx, &o));
    struct ht_source *a = open_source(bad);
    const struct ht_tensor *t = ht_source_find(a, name);
    off_t at = (off_t)((const unsigned char *)t->data - a->maps[0].data);
    ht_source_close(a);
    int fd = open(bad, O_WRONLY);
    assert_int_equal(pwrite(fd, "\x00\x7c", 2, at + 144 * 5), 2); /* f16 Inf as the scale of block 5 */
    close(fd);
    o = options(bad, again, "q4_k");
    o.allow_nonfinite = true;
    json_t *record = quantize(f->ctx, &o);
    const json_t *row = tensor_row(record, name);
    a = open_source(bad);
    struct ht_source *b = open_source(again);
    t = ht_source_find(a, name);
    uint64_t n = ht_tensor_elems(t);
    float *x = ht_mem_alloc_array(n, sizeof *x), *y = ht_mem_alloc_array(n, sizeof *y);
    t->format->decode(t->data, x, n);
    t->format->decode(ht_source_find(b, name)->data, y, n);
    double sum = 0, zeroed = 0;
    for (uint64_t k = 0; k < n; k++) {
        double d = isfinite(x[k]) ? (double)x[k] - (double)y[k] : (double)y[k];
        zeroed += !isfinite(x[k]);
        sum += d * d;
    }
    double mse = json_number_value(json_object_get(row, "mse"));
    assert_int_equal(number(row, "nonfinite_zeroed"), (uint64_t)zeroed);
    assert_true(zeroed > 0 && sum > 0);
    assert_true(fabs(mse - sum / (double)n) < 1e-6 * mse);
    ht_mem_free(x);
    ht_mem_free(y);
    ht_source_close(a);
    ht_source_close(b);
    json_decref(record);
}

/* ---- interruptions ----------------------------------------------------------------------------------- */

static int kill_midway(void *user, const ht_progress *p) {
    (void)user;
    if (strcmp(p->stage, "quantize") == 0 && p->done * 2 > p->total) {
        raise(SIGKILL);
    }
    return 0;
}

static int stop_midway(void *user, const ht_progress *p) {
    (void)user;
    return strcmp(p->stage, "quantize") == 0 && p->done * 2 > p->total;
}

/* While the source is hashed, before anything is written. */
static int stop_at_first_hash(void *user, const ht_progress *p) {
    (void)user;
    return strcmp(p->stage, "hash") == 0;
}

static bool g_quantized;

/* While the finished output is hashed. */
static int stop_at_last_hash(void *user, const ht_progress *p) {
    (void)user;
    g_quantized |= strcmp(p->stage, "quantize") == 0;
    return g_quantized && strcmp(p->stage, "hash") == 0;
}

static ht_status quantize_with(ht_progress_fn *progress, const char *output, bool force) {
    ht_context *ctx = make_context(2, progress, NULL);
    ht_quantize_options o = options(TINY, output, "Q4_K_M");
    o.force = force;
    ht_status status = ht_quantize(ctx, &o, NULL, NULL);
    ht_context_free(ctx);
    return status;
}

static void killed(void **state) {
#if defined(__SANITIZE_THREAD__)
    skip(); /* its run time does not support threads in a forked child */
#endif
    struct fixture *f = *state;
    ht_err err;
    char dir[300], output[320];
    snprintf(dir, sizeof dir, "%s", in_dir(f, "killed"));
    snprintf(output, sizeof output, "%s/out.gguf", dir);
    ASSERT_OK(ht_make_dir(dir, &err), &err);
    for (int old = 0; old < 2; old++) {
        pid_t pid = fork();
        if (pid == 0) {
            quantize_with(kill_midway, output, true);
            _exit(0);
        }
        int how;
        waitpid(pid, &how, 0);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
        assert_int_equal(file_size(output), old ? 8 : 0); /* nothing, or the old file */
        if (!old) {
            ASSERT_OK(ht_write_file(output, "precious", 8, false, &err), &err);
        }
    }
    assert_int_equal(quantize_with(NULL, output, true), HT_OK);
    ASSERT_OK(ht_verify(f->ctx, output, NULL, NULL, &err), &err);
    assert_int_equal(count_files(dir), 1); /* what the killed ones left is gone */
}

static void cancelled(void **state) {
    struct fixture *f = *state;
    ht_err err;
    char dir[300], output[320];
    snprintf(dir, sizeof dir, "%s", in_dir(f, "cancelled"));
    snprintf(output, sizeof output, "%s/out.gguf", dir);
    ASSERT_OK(ht_make_dir(dir, &err), &err);
    assert_int_equal(quantize_with(stop_midway, output, false), HT_CANCELLED);
    assert_int_equal(count_files(dir), 0);
    assert_int_equal(quantize_with(stop_at_first_hash, output, false), HT_CANCELLED);
    assert_int_equal(count_files(dir), 0);
    g_quantized = false;
    assert_int_equal(quantize_with(stop_at_last_hash, output, false), HT_OK); /* it stands already */
    assert_true(g_quantized);
    ASSERT_OK(ht_verify(f->ctx, output, NULL, NULL, &err), &err);
}

/* A limit on file sizes stands in for a full disk: writing fails part of the way. */
static void no_space(void **state) {
#if defined(__SANITIZE_THREAD__)
    skip(); /* its run time does not support threads in a forked child */
#endif
    struct fixture *f = *state;
    ht_err err;
    char dir[300], output[320];
    snprintf(dir, sizeof dir, "%s", in_dir(f, "full"));
    snprintf(output, sizeof output, "%s/out.gguf", dir);
    ASSERT_OK(ht_make_dir(dir, &err), &err);
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit limit = {1u << 20, 1u << 20};
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(-(int)quantize_with(NULL, output, false));
    }
    int how;
    waitpid(pid, &how, 0);
    assert_true(WIFEXITED(how));
    assert_int_equal(-WEXITSTATUS(how), HT_NOSPACE);
    assert_int_equal(count_files(dir), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_preset),       cmocka_unit_test(same_bytes_for_any_threads),
        cmocka_unit_test(errors_are_true),    cmocka_unit_test(folder_or_file),
        cmocka_unit_test(rules_and_overrides), cmocka_unit_test(provenance),
        cmocka_unit_test(bad_names),          cmocka_unit_test(same_path),
        cmocka_unit_test(existing_output),    cmocka_unit_test(seconds_of_blocks),
        cmocka_unit_test(requantizing),
        cmocka_unit_test(wrong_imatrix),      cmocka_unit_test(damaged_values),
        cmocka_unit_test(damaged_and_kept),   cmocka_unit_test(calibration_inside),
        cmocka_unit_test(killed),             cmocka_unit_test(cancelled),
        cmocka_unit_test(no_space),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
