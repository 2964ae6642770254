/* Models end to end: folders and files to logits, against transformers in f32 (tests/oracle/make_logits.py). */
#include "test.h"

#include <math.h>
#include <unistd.h>

#include "base/context.h"
#include "base/mem.h"
#include "model/session.h"

#define MODELS HT_TEST_DIR "/golden/models/"
#define LOGITS HT_TEST_DIR "/golden/logits/"
#define TINY HT_TEST_DIR "/../models/tiny"

struct golden {
    struct ht_source *source;
    const int32_t *ids;
    size_t n_ids;
    const float *logits; /* [n_rows, vocab] */
    size_t n_rows;
    const int32_t *positions; /* [n_rows]; NULL: all */
    struct {
        const int32_t *positions, *ids; /* [n], [n, k] */
        const float *logprobs;          /* [n, k] */
        size_t n, k;
    } top;
};

static const void *data_of(const struct golden *g, const char *name, const struct ht_tensor **t) {
    *t = ht_source_find(g->source, name);
    return *t != NULL ? (*t)->data : NULL;
}

static void golden_open(struct golden *g, const char *path) {
    ht_err err = {0};
    const struct ht_tensor *t;
    memset(g, 0, sizeof *g);
    ASSERT_OK(ht_source_open(path, &g->source, &err), &err);
    g->ids = data_of(g, "ids", &t);
    assert_non_null(g->ids);
    g->n_ids = (size_t)t->ne[0];
    g->logits = data_of(g, "logits", &t);
    g->n_rows = t != NULL ? (size_t)t->ne[1] : 0;
    g->positions = data_of(g, "positions", &t);
    g->top.positions = data_of(g, "top_positions", &t);
    g->top.ids = data_of(g, "top_ids", &t);
    if (t != NULL) {
        g->top.k = (size_t)t->ne[0];
        g->top.n = (size_t)t->ne[1];
    }
    g->top.logprobs = data_of(g, "top_logprobs", &t);
}

static struct ht_model *load(const char *path) {
    struct ht_model *m;
    ht_err err = {0};
    struct ht_model_options options = {.tokenizer_optional = true};
    ASSERT_OK(ht_model_load_with(path, &options, &m, &err), &err);
    return m;
}

static struct ht_pool *pool_of(int threads) {
    struct ht_pool *pool;
    ht_err err = {0};
    ASSERT_OK(ht_pool_new(threads, &pool, &err), &err);
    return pool;
}

/* Logits [n, V] of all tokens, fed in pieces of `piece`. */
static float *run_all(const struct ht_model *m, struct ht_pool *pool, const struct ht_run_options *o,
                      const int32_t *ids, size_t n, size_t piece) {
    struct ht_run *run;
    ht_err err = {0};
    ASSERT_OK(ht_run_new(pool, m, o, &run, &err), &err);
    float *logits = ht_mem_alloc_aligned(n * m->hp.vocab, sizeof *logits);
    assert_non_null(logits);
    for (size_t at = 0; at < n; at += piece) {
        size_t now = n - at < piece ? n - at : piece;
        ASSERT_OK(ht_run_feed(run, ids + at, now, now, logits + at * m->hp.vocab, &err), &err);
    }
    assert_int_equal(ht_run_pos(run), n);
    ht_run_free(run);
    return logits;
}

/* max |a - b| / max |b| */
static double difference(const float *a, const float *b, size_t n) {
    double d = 0, top = 0;
    for (size_t i = 0; i < n; i++) {
        assert_true(isfinite(a[i]));
        d = fmax(d, fabs((double)a[i] - (double)b[i]));
        top = fmax(top, fabs((double)b[i]));
    }
    return d / top;
}

/* sqrt(mean (a - b)^2 / mean b^2) */
static double relative_rms(const float *a, const float *b, size_t n) {
    double d = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(d / all);
}

static double log_prob(const float *row, size_t vocab, int32_t id) {
    return (double)row[id] - ht_kernels()->log_sum_exp(row, vocab, NULL);
}

/* One model against its golden logits with exact math. */
static void check_golden(const char *model_path, const char *golden_path, double limit, double limit_top) {
    struct golden g;
    struct ht_model *m = load(model_path);
    struct ht_pool *pool = pool_of(2);
    struct ht_run_options o = {.ctx = 128, .math = HT_MATH_EXACT, .f32_cache = true};
    golden_open(&g, golden_path);
    float *logits = run_all(m, pool, &o, g.ids, g.n_ids, g.n_ids);
    size_t V = m->hp.vocab;
    double worst = 0, worst_top = 0;
    for (size_t r = 0; r < g.n_rows; r++) {
        size_t at = g.positions != NULL ? (size_t)g.positions[r] : r;
        worst = fmax(worst, difference(logits + at * V, g.logits + r * V, V));
    }
    for (size_t i = 0; i < g.top.n * g.top.k; i++) {
        const float *row = logits + (size_t)g.top.positions[i / g.top.k] * V;
        worst_top = fmax(worst_top, fabs(log_prob(row, V, g.top.ids[i]) - (double)g.top.logprobs[i]));
    }
    print_message("# %s: max|d|/max|logit| %.2e, top log-probabilities %.2e nat\n", model_path, worst,
                  worst_top);
    assert_true(g.n_rows + g.top.n > 0);
    assert_true(worst <= limit);
    assert_true(worst_top <= limit_top);
    ht_mem_free_aligned(logits);
    ht_source_close(g.source);
    ht_pool_free(pool);
    ht_model_unload(m);
}

static void test_golden_qwen2(void **state) {
    (void)state;
    check_golden(MODELS "qwen2-rand", MODELS "qwen2-rand/logits.safetensors", 1e-4, 0);
}

static void test_golden_qwen3(void **state) {
    (void)state;
    check_golden(MODELS "qwen3-rand", MODELS "qwen3-rand/logits.safetensors", 1e-4, 0);
}

static void test_golden_llama3_rope(void **state) {
    (void)state;
    check_golden(MODELS "llama3rope-rand", MODELS "llama3rope-rand/logits.safetensors", 1e-4, 0);
}

/* Quantized weights, reordered rows, rope divisors, biases, head norms: tests/oracle/make_gguf_logits.py. Fast
 * math stays near: 8-bit activations in groups of 32 cost 1 to 2 % in a model this small. */
static void test_golden_gguf(void **state) {
    (void)state;
    for (size_t a = 0; a < ht_arch_count(); a++) {
        char model[4096], golden[4096];
        struct golden g;
        snprintf(model, sizeof model, "%s/../fuzz/corpus/fuzz_model/%s.gguf", HT_TEST_DIR,
                 ht_arch_at(a)->name);
        snprintf(golden, sizeof golden, "%sgguf/%s.safetensors", MODELS, ht_arch_at(a)->name);
        check_golden(model, golden, 1e-4, 0);
        struct ht_model *m = load(model);
        assert_non_null(m->tokenizer);
        golden_open(&g, golden);
        struct ht_run_options o = {.ctx = 64, .math = HT_MATH_FAST};
        float *fast = run_all(m, NULL, &o, g.ids, g.n_ids, g.n_ids);
        double d = relative_rms(fast, g.logits, g.n_ids * m->hp.vocab);
        print_message("# fast math: relative rms %.2e\n", d);
        assert_true(d < 0.04);
        ht_mem_free_aligned(fast);
        ht_source_close(g.source);
        ht_model_unload(m);
    }
}

static void check_reference(const char *name, const char *golden) {
    char path[4096];
    if (ref_dir() == NULL) {
        skip();
    }
    snprintf(path, sizeof path, "%s/%s", ref_dir(), name);
    check_golden(path, golden, 1e-4, 2e-3);
}

static void test_golden_tiny(void **state) {
    (void)state;
    check_golden(TINY, LOGITS "tiny.safetensors", 1e-4, 2e-3);
}

static void test_golden_ref_57m(void **state) {
    (void)state;
    check_reference("ref-57m.gguf", LOGITS "ref-57m.safetensors");
}

static void test_golden_ref_135m(void **state) {
    (void)state;
    check_reference("ref-135m.gguf", LOGITS "ref-135m.safetensors");
}

static const struct {
    const char *model, *golden;
} models[] = {
    {MODELS "qwen2-rand", MODELS "qwen2-rand/logits.safetensors"},
    {MODELS "qwen3-rand", MODELS "qwen3-rand/logits.safetensors"},
    {MODELS "llama3rope-rand", MODELS "llama3rope-rand/logits.safetensors"},
    {TINY, LOGITS "tiny.safetensors"},
};

/* Tokens fed one by one, in odd pieces, and in small inner batches give the logits of one batch. */
static void test_batches_agree(void **state) {
    (void)state;
    static const size_t pieces[] = {1, 7, 33};
    for (size_t f = 0; f < sizeof models / sizeof models[0]; f++) {
        struct golden g;
        struct ht_model *m = load(models[f].model);
        golden_open(&g, models[f].golden);
        /* f32 cache: rounding to f16 would turn last-bit differences of a key into 2^-11. */
        struct ht_run_options o = {.ctx = 128, .math = HT_MATH_EXACT, .f32_cache = true};
        float *whole = run_all(m, NULL, &o, g.ids, g.n_ids, g.n_ids);
        for (size_t p = 0; p < 3; p++) {
            float *parts = run_all(m, NULL, &o, g.ids, g.n_ids, pieces[p]);
            assert_true(difference(parts, whole, g.n_ids * m->hp.vocab) < 2e-5);
            ht_mem_free_aligned(parts);
        }
        o.batch = 5;
        float *inner = run_all(m, NULL, &o, g.ids, g.n_ids, g.n_ids);
        assert_true(difference(inner, whole, g.n_ids * m->hp.vocab) < 2e-5);
        ht_mem_free_aligned(inner);
        ht_mem_free_aligned(whole);
        ht_source_close(g.source);
        ht_model_unload(m);
    }
}

/* The same bytes for 1, 2 and 5 threads, exact and fast, in a batch and token by token. */
static void test_threads_agree(void **state) {
    (void)state;
    static const int counts[] = {2, 5};
    static const size_t pieces[] = {1, 40, 96};
    for (size_t f = 0; f < 4 * 2 * 3; f++) {
        struct ht_model *m = load(models[f / 6].model);
        struct golden g;
        struct ht_run_options o = {.ctx = 128, .math = f / 3 % 2 ? HT_MATH_FAST : HT_MATH_EXACT};
        golden_open(&g, models[f / 6].golden);
        size_t n = pieces[f % 3] == 1 ? 12 : g.n_ids;
        float *one = run_all(m, NULL, &o, g.ids, n, pieces[f % 3]);
        for (size_t c = 0; c < 2; c++) {
            struct ht_pool *pool = pool_of(counts[c]);
            float *many = run_all(m, pool, &o, g.ids, n, pieces[f % 3]);
            assert_memory_equal(many, one, n * m->hp.vocab * sizeof *one);
            ht_mem_free_aligned(many);
            ht_pool_free(pool);
        }
        ht_mem_free_aligned(one);
        ht_source_close(g.source);
        ht_model_unload(m);
    }
}

struct pieces {
    float *logits;
    size_t vocab, next, calls, stop_at;
};

static int take_piece(void *user, size_t first, size_t count, const float *logits) {
    struct pieces *p = user;
    assert_int_equal(first, p->next);
    assert_in_range(count, 1, 64);
    memcpy(p->logits + first * p->vocab, logits, count * p->vocab * sizeof *logits);
    p->next += count;
    return ++p->calls == p->stop_at;
}

/* feed_each hands over the same rows as feed, in order; cancelling leaves the position. */
static void test_feed_each(void **state) {
    (void)state;
    struct ht_model *m = load(MODELS "qwen2-rand");
    struct ht_run *run;
    ht_err err = {0};
    enum { N = 200, N_OUT = 150 };
    int32_t ids[N];
    struct pieces p = {.vocab = m->hp.vocab};
    struct ht_run_options o = {.ctx = N, .batch = 90, .math = HT_MATH_EXACT};
    for (int i = 0; i < N; i++) {
        ids[i] = i * 37 % (int32_t)m->hp.vocab;
    }
    float *all = run_all(m, NULL, &o, ids, N, N);
    ASSERT_OK(ht_run_new(NULL, m, &o, &run, &err), &err);
    p.logits = ht_mem_alloc_array(N_OUT * p.vocab, sizeof *p.logits);
    ASSERT_OK(ht_run_feed_each(run, ids, N, N_OUT, take_piece, &p, &err), &err);
    assert_int_equal(p.next, N_OUT);
    assert_memory_equal(p.logits, all + (N - N_OUT) * p.vocab, N_OUT * p.vocab * sizeof *all);

    ht_run_rewind(run, 0);
    p.next = p.calls = 0;
    p.stop_at = 2;
    assert_int_equal(ht_run_feed_each(run, ids, N, N_OUT, take_piece, &p, &err), HT_CANCELLED);
    assert_int_equal(ht_run_pos(run), 0);
    ht_mem_free(p.logits);
    ht_mem_free_aligned(all);
    ht_run_free(run);
    ht_model_unload(m);
}

/* Rewinding and feeding other tokens equals never having fed the first ones. */
static void test_rewind(void **state) {
    (void)state;
    struct ht_model *m = load(MODELS "llama3rope-rand");
    struct ht_run *run;
    ht_err err = {0};
    static const int32_t a[] = {5, 6, 7, 8, 9}, b[] = {5, 6, 100, 101};
    struct ht_run_options o = {.ctx = 8, .math = HT_MATH_EXACT};
    float *fresh = run_all(m, NULL, &o, b, 4, 2);
    size_t V = m->hp.vocab;
    float *got = ht_mem_alloc_array(2 * V, sizeof *got);
    ASSERT_OK(ht_run_new(NULL, m, &o, &run, &err), &err);
    ASSERT_OK(ht_run_feed(run, a, 2, 0, NULL, &err), &err);
    ASSERT_OK(ht_run_feed(run, a + 2, 3, 0, NULL, &err), &err);
    ht_run_rewind(run, 2);
    assert_int_equal(ht_run_pos(run), 2);
    ASSERT_OK(ht_run_feed(run, b + 2, 2, 2, got, &err), &err);
    assert_memory_equal(got, fresh + 2 * V, 2 * V * sizeof *got);
    ht_run_rewind(run, 100);
    assert_int_equal(ht_run_pos(run), 4);
    ht_mem_free(got);
    ht_mem_free_aligned(fresh);
    ht_run_free(run);
    ht_model_unload(m);
}

static void test_refused_feeds(void **state) {
    (void)state;
    struct ht_model *m = load(MODELS "qwen2-rand");
    struct ht_run *run;
    static const int32_t ok[9] = {1, 2, 3}, high[] = {1, 151}, negative[] = {-1};
    float logits[151];
    struct ht_run_options o = {.ctx = 8};
    ht_err err = {0};
    ASSERT_OK(ht_run_new(NULL, m, &o, &run, &err), &err);
    assert_int_equal(ht_run_feed(run, ok, 9, 0, NULL, &err), HT_LIMIT);
    assert_non_null(strstr(err.msg, "8 positions"));
    ht_err_clear(&err);
    assert_int_equal(ht_run_feed(run, high, 2, 0, NULL, &err), HT_INVAL);
    assert_non_null(strstr(err.msg, "token 1 is 151"));
    ht_err_clear(&err);
    assert_int_equal(ht_run_feed(run, negative, 1, 0, NULL, &err), HT_INVAL);
    ht_err_clear(&err);
    assert_int_equal(ht_run_feed(run, ok, 1, 2, logits, &err), HT_INVAL);
    ht_err_clear(&err);
    assert_int_equal(ht_run_pos(run), 0);
    ASSERT_OK(ht_run_feed(run, ok, 8, 1, logits, &err), &err);
    assert_int_equal(ht_run_feed(run, ok, 1, 1, logits, &err), HT_LIMIT);
    ht_err_clear(&err);
    ASSERT_OK(ht_run_feed(run, ok, 0, 0, NULL, &err), &err);
    ht_run_free(run);

    o.ctx = 0;
    assert_int_equal(ht_run_new(NULL, m, &o, &run, &err), HT_INVAL);
    assert_null(run);
    ht_model_unload(m);
}

/* The hook sees every linear of every layer in order, with its input's width, and the head for wanted rows. */
struct seen {
    size_t n, head_rows;
    const struct ht_model *m;
};

static void note(void *user, const struct ht_linear *l, const float *x, size_t n_tokens) {
    struct seen *s = user;
    char expected[64];
    static const char *const names[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                        "ffn_gate", "ffn_up", "ffn_down"};
    if (l->role == HT_ROLE_OUTPUT) {
        s->head_rows += n_tokens;
        return;
    }
    snprintf(expected, sizeof expected, "blk.%zu.%s.weight", s->n / 7, names[s->n % 7]);
    assert_string_equal(l->name, expected);
    assert_int_equal(n_tokens, 5);
    for (size_t i = 0; i < n_tokens * l->w.cols; i++) {
        assert_true(isfinite(x[i]));
    }
    s->n++;
}

static void test_hook(void **state) {
    (void)state;
    struct ht_model *m = load(MODELS "qwen3-rand");
    struct seen seen = {.m = m};
    struct ht_run *run;
    ht_err err = {0};
    static const int32_t ids[] = {1, 2, 3, 4, 5};
    float *logits = ht_mem_alloc_array(2 * m->hp.vocab, sizeof *logits);
    struct ht_run_options o = {.ctx = 8, .hook = note, .hook_user = &seen};
    ASSERT_OK(ht_run_new(NULL, m, &o, &run, &err), &err);
    ASSERT_OK(ht_run_feed(run, ids, 5, 2, logits, &err), &err);
    assert_int_equal(seen.n, m->hp.n_layers * 7);
    assert_int_equal(seen.head_rows, 2);
    ht_mem_free(logits);
    ht_run_free(run);
    ht_model_unload(m);
}

/* An f16 cache costs little against f32, and is really used. */
static void test_f16_cache(void **state) {
    (void)state;
    struct ht_model *m = load(MODELS "qwen3-rand");
    struct golden g;
    golden_open(&g, MODELS "qwen3-rand/logits.safetensors");
    struct ht_run_options o = {.ctx = 64, .math = HT_MATH_EXACT};
    float *f16 = run_all(m, NULL, &o, g.ids, g.n_ids, g.n_ids);
    double d = difference(f16, g.logits, g.n_ids * m->hp.vocab);
    assert_true(d < 3e-3);
    assert_true(d > 1e-6);
    ht_mem_free_aligned(f16);
    ht_source_close(g.source);
    ht_model_unload(m);
}

static void test_predicted_bytes(void **state) {
    (void)state;
    struct ht_model *m = load(MODELS "qwen2-rand");
    uint64_t kv = 0;
    struct ht_run_options o = {.ctx = 100, .batch = 10};
    uint64_t bytes = ht_run_bytes(&kv, m, &o, 2);
    assert_int_equal(kv, 2u * 2 * 100 * 32 * 2); /* layers, K and V, positions, kv width, bytes */
    /* residual, normed, delta: 64 each; q, attn: 64; k, v: 32; gate, up: 96; angles 16. */
    assert_true(bytes >= 10 * 4 * (3 * 64 + 2 * 64 + 2 * 32 + 2 * 96 + 16));
    o.f32_cache = true;
    ht_run_bytes(&kv, m, &o, 2);
    assert_int_equal(kv, 2u * 2 * 100 * 32 * 4);
    ht_model_unload(m);
}

/* Every allocation of load and run may fail: HT_NOMEM, nothing leaked, no crash. */
static void test_out_of_memory(void **state) {
    (void)state;
    struct ht_model_options mo = {.tokenizer_optional = true};
    struct ht_run_options o = {.ctx = 8};
    static const int32_t ids[] = {1, 2};
    float logits[151];
    bool done = false;
    struct ht_source *source;
    ht_err e = {0};
    ht_mem_fail_at(0, 0);
    ASSERT_OK(ht_source_open(MODELS "qwen2-rand", &source, &e), &e);
    uint64_t from = ht_mem_alloc_count() + 1; /* opening is the containers' test */
    ht_source_close(source);
    for (uint64_t n = from; !done && n < 10000; n++) {
        struct ht_model *m = NULL;
        struct ht_run *run = NULL;
        ht_err err = {0};
        ht_mem_fail_at(n, 0);
        ht_status s = ht_model_load_with(MODELS "qwen2-rand", &mo, &m, &err);
        if (s == HT_OK) {
            s = ht_run_new(NULL, m, &o, &run, &err);
        }
        if (s == HT_OK) {
            s = ht_run_feed(run, ids, 2, 1, logits, &err);
        }
        done = ht_mem_alloc_count() < n;
        ht_mem_fail_at(0, 0);
        if (s != HT_NOMEM && !done) {
            fail_msg("allocation %u: %s: %s", (unsigned)n, ht_status_text(s), err.msg);
        }
        ht_run_free(run);
        ht_model_unload(m);
    }
    assert_true(done);
}

/* A file cut anywhere is refused; nothing crashes. */
static void test_truncated(void **state) {
    (void)state;
    static const char path[] = HT_TEST_DIR "/../fuzz/corpus/fuzz_model/llama.gguf";
    char *data, cut[] = "/tmp/test_model_XXXXXX";
    size_t len;
    ht_err err = {0};
    int fd = mkstemp(cut);
    assert_true(fd >= 0);
    ASSERT_OK(ht_read_file(path, 1u << 20, &data, &len, &err), &err);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    for (size_t n = len; n > 0; n -= n < 211 ? n : 211) {
        struct ht_model *m;
        ht_err_clear(&err);
        assert_int_equal(ftruncate(fd, (off_t)n), 0);
        ht_status status = ht_model_load(cut, &m, &err);
        assert_true((status == HT_OK) == (n == len));
        assert_true(n == len || status == HT_FORMAT || status == HT_UNSUPPORTED);
        ht_model_unload(m);
    }
    close(fd);
    unlink(cut);
    ht_mem_free(data);
}

static void test_no_tokenizer(void **state) {
    (void)state;
    struct ht_model *m;
    ht_err err = {0};
    assert_int_equal(ht_model_load(MODELS "qwen2-rand", &m, &err), HT_NOTFOUND);
    assert_null(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_qwen2),
        cmocka_unit_test(test_golden_qwen3),
        cmocka_unit_test(test_golden_llama3_rope),
        cmocka_unit_test(test_golden_gguf),
        cmocka_unit_test(test_golden_tiny),
        cmocka_unit_test(test_golden_ref_57m),
        cmocka_unit_test(test_golden_ref_135m),
        cmocka_unit_test(test_batches_agree),
        cmocka_unit_test(test_threads_agree),
        cmocka_unit_test(test_feed_each),
        cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_refused_feeds),
        cmocka_unit_test(test_hook),
        cmocka_unit_test(test_f16_cache),
        cmocka_unit_test(test_predicted_bytes),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_no_tokenizer), cmocka_unit_test(test_truncated),
    };
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
