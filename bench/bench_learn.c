/* Learned rounding beside others on the same calibration windows, all layers one after the other, each on the inputs
 * that the quantized layers before it give; embedding, head and vectors stay as they are. Prints the loss of layers
 * and, on other text, the divergence from the unquantized model.
 *   bench_learn MODEL CALIBRATION_TEXT TEST_TEXT FORMAT METHOD [WINDOWS [STEPS [BATCH [THREADS]]]]
 * FORMAT: a scheme (int4:g64) or a GGUF type; METHOD: rtn gptq autoround distil adaround. Default 32 windows of 512
 * tokens, 100 steps of 2 windows. 12 windows of 512 tokens are tested. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"
#include "calib/calib.h"
#include "model/session.h"
#include "quant/round/dense.h"
#include "quant/round/round.h"
#include "quant/soft/relax.h"
#include "train/learn.h"

enum { WINDOW = 512, TESTS = 12 };

struct bench {
    struct ht_pool *pool;
    struct ht_model *ref, *m;
    struct ht_calib_windows text;
    const char *method;
    const struct ht_format *format; /* GGUF, or NULL: scheme */
    struct ht_scheme scheme;
    struct ht_learn_options learn;
    struct ht_relax_options gram;
    float *exact, *real; /* hidden states [windows * WINDOW, C] of both models */
    float *target;
    size_t n; /* elements of one window */
    double before, after;
};

static float *floats(size_t n) {
    return ht_mem_alloc_aligned(n, sizeof(float));
}

/* The second moments of what a linear reads, over all windows. */
static ht_status gram_of(struct bench *b, struct ht_train_block *block, enum ht_role role, float *h, ht_err *err) {
    uint64_t cols = block->params[role].cols;
    int in = -1;
    for (size_t i = 0; i < block->n_steps; i++) {
        if (block->steps[i].kind == HT_STEP_LINEAR && block->steps[i].role == role) {
            in = block->steps[i].in[0];
        }
    }
    memset(h, 0, cols * cols * sizeof *h);
    for (size_t w = 0; w < b->text.n; w++) {
        ht_train_block_forward(block, b->real + w * b->n, 1, WINDOW);
        HT_TRY(ht_dense_gram(b->pool, block->values[in].x, WINDOW, cols, h, err));
    }
    for (uint64_t i = 0; i < cols * cols; i++) {
        h[i] /= (float)(b->text.n * WINDOW);
    }
    return HT_OK;
}

struct result {
    struct ht_qtensor q;
    unsigned char *bytes;
};

static void decode(const struct bench *b, const struct result *r, struct ht_train_param *p) {
    if (b->format == NULL) {
        ht_qtensor_decode(&r->q, 0, p->rows, p->w);
    } else {
        b->format->decode(r->bytes, p->w, p->rows * p->cols);
    }
}

static ht_status solve_alone(struct bench *b, struct ht_train_block *block, enum ht_role role, struct result *r,
                             ht_err *err) {
    struct ht_train_param *p = &block->params[role];
    struct ht_round_options o;
    struct ht_round_report report;
    ht_round_defaults(&o);
    if (strcmp(b->method, "rtn") == 0) {
        struct ht_qtensor_options qo = {.pool = b->pool};
        if (b->format == NULL) {
            return ht_qtensor_encode(&r->q, p->w, &qo, NULL, err);
        }
        b->format->encode(p->w, NULL, r->bytes, p->rows * p->cols);
        return HT_OK;
    }
    float *h = floats(p->cols * p->cols);
    struct ht_learn_linear to = {role, b->format == NULL ? &r->q : NULL, b->format, r->bytes, NULL};
    ht_status status = h != NULL ? gram_of(b, block, role, h, err) : ht_fail_nomem(err, 0);
    if (status == HT_OK && strcmp(b->method, "adaround") == 0) {
        status = ht_relax(b->pool, p->w, p->rows, p->cols, h, &to, &b->gram, NULL, NULL, err);
    } else if (status == HT_OK && b->format == NULL) {
        ht_qtensor_deinit(&r->q);
        status = ht_round_qtensor(b->pool, &b->scheme, p->w, p->rows, p->cols, h, &o, &r->q, &report, err);
    } else if (status == HT_OK) {
        status = ht_round_feedback(b->pool, b->format, p->w, p->rows, p->cols, h, &o, r->bytes, &report, err);
    }
    ht_mem_free_aligned(h);
    return status;
}

static double loss_of(struct bench *b, struct ht_train_block *block) {
    double sum = 0;
    for (size_t w = 0; w < b->text.n; w++) {
        ht_train_block_forward(block, b->real + w * b->n, 1, WINDOW);
        sum += ht_train_block_mse(block, b->target + w * b->n, false, 1);
    }
    return sum / (double)b->text.n;
}

static ht_status solve(struct bench *b, struct ht_train_block *block, ht_err *err) {
    struct result results[HT_ROLES] = {{.bytes = NULL}};
    struct ht_learn_linear linears[HT_ROLES];
    size_t n = 0;
    ht_status status = HT_OK;
    bool whole = strcmp(b->method, "autoround") == 0 || strcmp(b->method, "distil") == 0;
    for (int role = 0; status == HT_OK && role < HT_ROLES; role++) {
        struct ht_train_param *p = &block->params[role];
        struct result *r = &results[role];
        if (p->cols == 0) {
            continue;
        }
        if (b->format == NULL) {
            status = ht_qtensor_init(&r->q, &b->scheme, p->rows, p->cols, NULL, err);
        } else {
            r->bytes = ht_mem_alloc_aligned(p->rows, ht_format_row_bytes(b->format, p->cols));
        }
        linears[n++] = (struct ht_learn_linear){(enum ht_role)role, b->format == NULL ? &r->q : NULL, b->format,
                                                r->bytes, NULL};
        if (status == HT_OK && !whole) {
            status = solve_alone(b, block, (enum ht_role)role, r, err);
        }
    }
    struct ht_learn_report report = {0};
    if (status == HT_OK && whole) {
        status = ht_learn_block(block, b->real, b->target, b->text.n, WINDOW, linears, n, &b->learn, &report, err);
    }
    for (int role = 0; role < HT_ROLES; role++) {
        if (status == HT_OK && block->params[role].cols != 0) {
            decode(b, &results[role], &block->params[role]);
        }
        ht_mem_free_aligned(results[role].bytes);
        ht_qtensor_deinit(&results[role].q);
    }
    if (status == HT_OK) {
        double after = loss_of(b, block);
        b->before += report.loss_start;
        b->after += after;
        printf("layer %2d  nearest %.4e  loss %.4e  best step %u  moved %llu\n", (int)block->layer,
               report.loss_start, after, report.best_step, (unsigned long long)report.moved);
        fflush(stdout);
    }
    return status;
}

/* The layer's weights as f32 in the second model. */
static void install(struct bench *b, const struct ht_train_block *block) {
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_linear *linear = b->m->layers[block->layer].linears[role];
        const struct ht_train_param *p = &block->params[role];
        if (linear != NULL && p->cols != 0) {
            float *w = floats(p->rows * p->cols);
            memcpy(w, p->w, p->rows * p->cols * sizeof *w);
            linear->w = (struct ht_mat){ht_format_find("f32"), w, p->rows, p->cols, p->cols * sizeof *w};
        }
    }
}

static ht_status layer(struct bench *b, int32_t l, ht_err *err) {
    struct ht_train_block *block;
    size_t batch = b->learn.batch;
    HT_TRY(ht_train_block_new(b->pool, b->ref, l, batch, WINDOW, &block, err));
    for (size_t w = 0; w < b->text.n; w++) {
        memcpy(b->target + w * b->n, ht_train_block_forward(block, b->exact + w * b->n, 1, WINDOW),
               b->n * sizeof(float));
    }
    ht_status status = solve(b, block, err);
    for (size_t w = 0; status == HT_OK && w < b->text.n; w++) {
        memcpy(b->real + w * b->n, ht_train_block_forward(block, b->real + w * b->n, 1, WINDOW),
               b->n * sizeof(float));
    }
    memcpy(b->exact, b->target, b->text.n * b->n * sizeof(float));
    install(b, block);
    ht_train_block_free(block);
    return status;
}

static ht_status divergence(struct bench *b, const char *path, double *kld, ht_err *err) {
    struct ht_calib_windows t = {0};
    struct ht_run_options o = {.ctx = WINDOW, .batch = WINDOW, .math = HT_MATH_EXACT, .f32_cache = true};
    struct ht_run *run[2] = {NULL, NULL};
    size_t V = b->ref->hp.vocab;
    float *logits[2] = {floats(WINDOW * V), floats(WINDOW * V)};
    HT_TRY(ht_calib_windows(b->ref, &path, 1, TESTS * WINDOW, WINDOW, &t, err));
    HT_TRY(ht_run_new(b->pool, b->ref, &o, &run[0], err));
    HT_TRY(ht_run_new(b->pool, b->m, &o, &run[1], err));
    double sum = 0;
    for (size_t w = 0; w < t.n; w++) {
        for (int k = 0; k < 2; k++) {
            ht_run_rewind(run[k], 0);
            HT_TRY(ht_run_feed(run[k], t.ids + w * WINDOW, WINDOW, WINDOW, logits[k], err));
        }
        for (size_t i = 0; i < WINDOW; i++) {
            const float *p = logits[0] + i * V, *q = logits[1] + i * V;
            double lp = ht_kernels()->log_sum_exp(p, V, NULL), lq = ht_kernels()->log_sum_exp(q, V, NULL);
            for (size_t v = 0; v < V; v++) {
                double a = (double)p[v] - lp;
                sum += exp(a) * (a - ((double)q[v] - lq));
            }
        }
    }
    *kld = sum / (double)(t.n * WINDOW);
    for (int k = 0; k < 2; k++) {
        ht_run_free(run[k]);
        ht_mem_free_aligned(logits[k]);
    }
    ht_calib_windows_deinit(&t);
    return HT_OK;
}

static ht_status work(struct bench *b, char **argv, size_t windows, ht_err *err) {
    struct ht_model_options options = {.tokenizer_optional = false};
    HT_TRY(ht_model_load_with(argv[1], &options, &b->ref, err));
    HT_TRY(ht_model_load_with(argv[1], &options, &b->m, err));
    const char *path = argv[2];
    HT_TRY(ht_calib_windows(b->ref, &path, 1, windows * WINDOW, WINDOW, &b->text, err));
    b->n = (size_t)WINDOW * b->ref->hp.width;
    b->exact = floats(b->text.n * b->n);
    b->real = floats(b->text.n * b->n);
    b->target = floats(b->text.n * b->n);
    const struct ht_linear *e = b->ref->token_embd;
    uint64_t C = e->w.cols;
    for (size_t i = 0; i < b->text.n * WINDOW; i++) {
        ht_linear_row(e, (uint64_t)b->text.ids[i], b->exact + i * C, NULL);
    }
    memcpy(b->real, b->exact, b->text.n * b->n * sizeof(float));
    double start = ht_sys_now(), cpu = ht_sys_cpu_seconds(), kld = 0;
    for (uint32_t l = 0; l < b->ref->hp.n_layers; l++) {
        HT_TRY(layer(b, (int32_t)l, err));
    }
    double wall = ht_sys_now() - start;
    cpu = ht_sys_cpu_seconds() - cpu;
    HT_TRY(divergence(b, argv[3], &kld, err));
    printf("%s %s: %zu x %d tokens, %u steps of %u, sum of losses %.4e (nearest on the same inputs %.4e), KLD %.5f, "
           "%.0f s wall, %.0f s CPU, peak %.0f MiB\n", argv[5], argv[4], (size_t)b->text.n, WINDOW, b->learn.steps,
           b->learn.batch, b->after, b->before, kld, wall, cpu, (double)ht_sys_peak_rss_bytes() / 1048576.0);
    return HT_OK;
}

int main(int argc, char **argv) {
    struct bench b = {0};
    ht_err err = {0};
    if (argc < 6) {
        fprintf(stderr, "usage: bench_learn MODEL CALIBRATION TEST FORMAT METHOD [WINDOWS [STEPS [BATCH [THREADS]]]]\n");
        return 2;
    }
    long windows = argc > 6 ? strtol(argv[6], NULL, 10) : 32, steps = argc > 7 ? strtol(argv[7], NULL, 10) : 100;
    long batch = argc > 8 ? strtol(argv[8], NULL, 10) : 2, threads = argc > 9 ? strtol(argv[9], NULL, 10) : 0;
    b.method = argv[5];
    ht_learn_defaults(strcmp(b.method, "distil") == 0 ? HT_LEARN_DISTIL : HT_LEARN_SIGN, &b.learn);
    b.learn.steps = (uint32_t)steps;
    b.learn.batch = (uint32_t)batch;
    b.learn.checks = 4;
    if (b.learn.method == HT_LEARN_SIGN) {
        b.learn.lr = b.learn.lr_range = 1.0 / (double)steps;
    }
    ht_relax_defaults(&b.gram);
    b.format = ht_format_find(argv[4]);
    ht_status status = b.format != NULL ? HT_OK : ht_scheme_parse(argv[4], &b.scheme, &err);
    status = status == HT_OK ? ht_pool_new(threads > 0 ? (int)threads : ht_cpu_count(), &b.pool, &err) : status;
    status = status == HT_OK ? work(&b, argv, (size_t)windows, &err) : status;
    if (status != HT_OK) {
        fprintf(stderr, "bench_learn: %s %s\n", err.what, err.msg);
    }
    return status != HT_OK;
}
