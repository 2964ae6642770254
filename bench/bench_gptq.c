/* Error feedback on the codes of a scheme, a whole model in memory: where time goes, peak memory, and the divergence it
 * leaves, f32 activations, second half of each window of 512.
 *   bench_gptq MODEL SCHEME CALIBRATION.txt TOKENS EVALUATION.txt TOKENS [HOW]
 * HOW: nearest, or an order of feedback: falling (the default), natural, groups, dynamic (natural, grids fitted on the
 * way; so are those of groups). Every linear of every layer gets the scheme; embedding and head stay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sys.h"
#include "calib/calib.h"
#include "eval/eval.h"
#include "model/session.h"
#include "quant/round/round.h"

#define WINDOW 512

struct bench {
    ht_context *ctx;
    struct ht_model *model, *original;
    struct ht_scheme scheme;
    struct ht_round_options options;
    bool nearest;
    struct ht_qtensor *codes; /* [layers * HT_ROLES] */
    double collect, solve, advance, before, after;
    uint64_t dead, kept, bytes;
};

/* The linear computes with the values of its codes, in f32: what is measured is the rounding, not products with codes. */
static ht_status use_values(struct ht_linear *linear, ht_err *err) {
    uint64_t rows = linear->w.rows, cols = linear->w.cols;
    float *w = ht_mem_alloc_aligned(rows * cols, sizeof *w);
    if (w == NULL) {
        return ht_fail_nomem(err, rows * cols * sizeof *w);
    }
    ht_qtensor_decode(linear->q, 0, rows, w);
    linear->w = (struct ht_mat){.format = ht_format_find("f32"), .data = w, .rows = rows, .cols = cols,
                                .row_bytes = cols * sizeof *w};
    linear->q = NULL;
    return HT_OK;
}

static void drop_values(struct bench *b, uint32_t layer) {
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_qtensor *q = &b->codes[layer * HT_ROLES + (uint32_t)role];
        struct ht_linear *linear = b->model->layers[layer].linears[role];
        if (q->codes != NULL && linear->q == NULL) {
            ht_mem_free_aligned((void *)(uintptr_t)linear->w.data);
            linear->w = (struct ht_mat){.rows = q->rows, .cols = q->cols};
            linear->q = q;
        }
    }
}

static ht_status round_linear(struct bench *b, struct ht_calib_layers *calib, struct ht_linear *linear,
                              struct ht_qtensor *q, ht_err *err) {
    const struct ht_calib_gram *gram = ht_calib_layers_gram(calib, linear);
    uint64_t rows = linear->w.rows, cols = linear->w.cols;
    float *w = ht_mem_alloc_aligned(rows * cols, sizeof *w);
    struct ht_round_report report = {0};
    ht_status status = HT_OK;
    if (w == NULL || gram == NULL) {
        status = ht_fail_nomem(err, rows * cols * sizeof *w);
        goto done;
    }
    for (uint64_t r = 0; r < rows; r++) {
        ht_linear_row(linear, r, w + r * cols, NULL);
    }
    if (b->nearest) {
        struct ht_qtensor_options o = {.pool = b->ctx->pool};
        HT_TRY_DONE(ht_qtensor_init(q, &b->scheme, rows, cols, linear->name, err));
        HT_TRY_DONE(ht_qtensor_encode(q, w, &o, NULL, err));
    } else {
        HT_TRY_DONE(ht_round_qtensor(b->ctx->pool, &b->scheme, w, rows, cols, gram->h, &b->options, q, &report, err));
    }
    b->before += report.loss_nearest;
    b->after += report.loss;
    b->dead += report.dead;
    b->kept += report.kept_nearest;
    b->bytes += ht_qtensor_bytes(q);
    linear->q = q;
    ht_mem_free_aligned(w);
    w = NULL;
    status = use_values(linear, err);
done:
    ht_mem_free_aligned(w);
    return status;
}

static ht_status quantize(struct bench *b, const struct ht_calib_windows *windows, ht_err *err) {
    struct ht_calib_layers *calib = NULL;
    ht_status status = HT_OK;
    HT_TRY(ht_calib_layers_new(b->ctx, b->model, windows, HT_MATH_EXACT, &calib, err));
    for (uint32_t layer = 0; layer < b->model->hp.n_layers; layer++) {
        double t0 = ht_sys_now();
        HT_TRY_DONE(ht_calib_layers_collect(calib, (int32_t)layer, err));
        double t1 = ht_sys_now();
        for (int role = 0; role < HT_ROLES; role++) {
            struct ht_linear *linear = b->model->layers[layer].linears[role];
            if (linear != NULL && ht_calib_layers_gram(calib, linear) != NULL) {
                HT_TRY_DONE(round_linear(b, calib, linear, &b->codes[layer * HT_ROLES + (uint32_t)role], err));
            }
        }
        double t2 = ht_sys_now();
        HT_TRY_DONE(ht_calib_layers_advance(calib, (int32_t)layer, err));
        b->collect += t1 - t0;
        b->solve += t2 - t1;
        drop_values(b, layer);
        b->advance += ht_sys_now() - t2;
    }
done:
    ht_calib_layers_free(calib);
    return status;
}

static ht_status evaluate(struct bench *b, const struct ht_calib_windows *windows, ht_err *err) {
    struct ht_run_options options = {.ctx = WINDOW, .batch = WINDOW, .math = HT_MATH_EXACT, .f32_cache = true};
    size_t vocab = b->model->hp.vocab, scored = 0, same = 0, rows = WINDOW / 2;
    float *a = ht_mem_alloc_array(rows * vocab, sizeof *a), *p = ht_mem_alloc_array(rows * vocab, sizeof *p);
    struct ht_run *run = NULL, *original = NULL;
    double kld = 0, nll = 0, reference = 0;
    ht_status status = a == NULL || p == NULL ? ht_fail_nomem(err, rows * vocab * sizeof *a) : HT_OK;
    for (uint32_t i = 0; status == HT_OK && i < b->model->hp.n_layers * HT_ROLES; i++) {
        if (b->codes[i].codes != NULL) {
            status = use_values(b->model->layers[i / HT_ROLES].linears[i % HT_ROLES], err);
        }
    }
    if (status != HT_OK) {
        goto done;
    }
    HT_TRY_DONE(ht_run_new(b->ctx->pool, b->model, &options, &run, err));
    HT_TRY_DONE(ht_run_new(b->ctx->pool, b->original, &options, &original, err));
    for (uint64_t i = 0; i < windows->n; i++) {
        const int32_t *ids = windows->ids + i * WINDOW;
        ht_run_rewind(run, 0);
        ht_run_rewind(original, 0);
        HT_TRY_DONE(ht_run_feed(run, ids, WINDOW, rows, a, err));
        HT_TRY_DONE(ht_run_feed(original, ids, WINDOW, rows, p, err));
        for (size_t t = 0; t + 1 < rows; t++) {
            struct ht_score s;
            if (ht_score_position(a + t * vocab, p + t * vocab, vocab, ids[WINDOW - rows + t + 1], &s)) {
                kld += s.kld;
                nll += s.nll;
                reference += s.ref_nll;
                same += s.same_top;
                scored++;
            }
        }
    }
    printf("kld %.5f, nll %.4f (%.4f), same top %.2f %%, %zu positions\n", kld / (double)scored, nll / (double)scored,
           reference / (double)scored, 100.0 * (double)same / (double)scored, scored);
done:
    ht_run_free(run);
    ht_run_free(original);
    ht_mem_free(a);
    ht_mem_free(p);
    return status;
}

static void choose(struct bench *b, const char *how) {
    ht_round_defaults(&b->options);
    b->nearest = strcmp(how, "nearest") == 0;
    b->options.dynamic = strcmp(how, "dynamic") == 0 || strcmp(how, "groups") == 0;
    b->options.order = strcmp(how, "natural") == 0 || strcmp(how, "dynamic") == 0 ? HT_ORDER_NATURAL
                       : strcmp(how, "groups") == 0 ? HT_ORDER_GROUPS : HT_ORDER_FALLING;
}

int main(int argc, char **argv) {
    struct bench b = {0};
    struct ht_calib_windows calibration = {0}, evaluation = {0};
    ht_context_options co;
    ht_err err = {0};
    ht_status status = HT_OK;
    if (argc < 7) {
        fprintf(stderr, "usage: bench_gptq MODEL SCHEME CALIBRATION.txt TOKENS EVALUATION.txt TOKENS [HOW]\n");
        return 2;
    }
    choose(&b, argc > 7 ? argv[7] : "falling");
    const char *const texts[] = {argv[3]}, *const others[] = {argv[5]};
    ht_context_options_defaults(&co);
    HT_TRY_DONE(ht_context_new(&co, &b.ctx, &err));
    HT_TRY_DONE(ht_scheme_parse(argv[2], &b.scheme, &err));
    HT_TRY_DONE(ht_model_load(argv[1], &b.model, &err));
    HT_TRY_DONE(ht_calib_windows(b.model, texts, 1, strtoull(argv[4], NULL, 10), WINDOW, &calibration, &err));
    HT_TRY_DONE(ht_calib_windows(b.model, others, 1, strtoull(argv[6], NULL, 10), WINDOW, &evaluation, &err));
    b.codes = ht_mem_calloc(b.model->hp.n_layers * HT_ROLES, sizeof *b.codes);
    if (b.codes == NULL) {
        status = HT_NOMEM;
        goto done;
    }
    double cpu = ht_sys_cpu_seconds(), wall = ht_sys_now();
    HT_TRY_DONE(quantize(&b, &calibration, &err));
    printf("%s %s: %.1f s (collect %.1f, solve %.1f, advance %.1f), %.1f CPU s, peak %.0f MiB\n", argv[2],
           argc > 7 ? argv[7] : "falling", ht_sys_now() - wall, b.collect, b.solve, b.advance,
           ht_sys_cpu_seconds() - cpu, (double)ht_sys_peak_rss_bytes() / 1048576.0);
    printf("loss %.6g, %.3f of nearest, %llu rows kept nearest, %.2f MB of codes and scales\n", b.after, b.after / b.before,
           (unsigned long long)b.kept, (double)b.bytes / 1e6);
    HT_TRY_DONE(ht_model_load(argv[1], &b.original, &err));
    HT_TRY_DONE(evaluate(&b, &evaluation, &err));
done:
    if (status != HT_OK) {
        fprintf(stderr, "%s: %s\n", ht_status_text(status), err.msg);
    }
    for (uint32_t i = 0; b.codes != NULL && i < b.model->hp.n_layers; i++) {
        drop_values(&b, i);
    }
    for (uint32_t i = 0; b.codes != NULL && i < b.model->hp.n_layers * HT_ROLES; i++) {
        ht_qtensor_deinit(&b.codes[i]);
    }
    ht_mem_free(b.codes);
    ht_model_unload(b.original);
    ht_model_unload(b.model);
    ht_calib_windows_deinit(&calibration);
    ht_calib_windows_deinit(&evaluation);
    ht_context_free(b.ctx);
    return status == HT_OK ? 0 : 1;
}
