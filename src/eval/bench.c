#include "eval/bench.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "eval/bench_record.h"
#include "eval/ceiling.h"
#include "model/session.h"

struct bench {
    const ht_bench_options *options;
    struct ht_bench_report report;
    struct ht_pool *pools[HT_BENCH_MAX_THREAD_COUNTS];
    struct ht_run *runs[HT_BENCH_MAX_THREAD_COUNTS];
    int threads[HT_BENCH_MAX_THREAD_COUNTS];
    size_t n_threads;
    struct ht_ceiling ceiling;
    size_t ways[HT_BENCH_MAX_THREAD_COUNTS]; /* of reading memory */
    struct ht_meter meter;
    uint64_t done;
    const char *path; /* of the model in work */
    int32_t *ids; /* [longest of prompt and depth, at least 1] of the model in work */
    uint32_t n_ids;
    float *logits;
};

/* ---- options --------------------------------------------------------------------------------------------- */

static ht_status check_options(const ht_bench_options *o, ht_err *err) {
    uint64_t most = (uint64_t)o->depth + o->gen;
    most = most > o->prompt ? most : o->prompt;
    if (o->prompt == 0 && o->gen == 0) {
        return ht_fail(err, HT_INVAL, "prompt", HT_NO_POS,
                       "neither a prompt nor a generation: nothing would be measured");
    }
    if (most > HT_MAX_CONTEXT) {
        return ht_fail(err, HT_LIMIT, "prompt", HT_NO_POS, "%llu positions: at most %u are possible",
                       (unsigned long long)most, HT_MAX_CONTEXT);
    }
    if (o->repeat < 1 || o->repeat > HT_BENCH_MAX_ROUNDS) {
        return ht_fail(err, HT_INVAL, "repeat", HT_NO_POS, "%u rounds: 1 to %u are possible", o->repeat,
                       HT_BENCH_MAX_ROUNDS);
    }
    if (o->n_threads > HT_BENCH_MAX_THREAD_COUNTS) {
        return ht_fail(err, HT_INVAL, "threads", HT_NO_POS, "%zu thread counts: at most %u are possible",
                       o->n_threads, HT_BENCH_MAX_THREAD_COUNTS);
    }
    return HT_OK;
}

static ht_status make_pools(struct bench *b, ht_err *err) {
    int all = ht_cpu_count();
    b->n_threads = b->options->n_threads;
    for (size_t i = 0; i < b->n_threads; i++) {
        b->threads[i] = b->options->threads[i];
    }
    if (b->n_threads == 0) {
        b->threads[0] = 1;
        b->threads[1] = all;
        b->n_threads = all > 1 ? 2 : 1;
    }
    struct ht_pool *largest = NULL;
    for (size_t i = 0; i < b->n_threads; i++) {
        HT_TRY(ht_pool_new(b->threads[i], &b->pools[i], err));
        if (ht_pool_threads(b->pools[i]) > ht_pool_threads(largest) || largest == NULL) {
            largest = b->pools[i];
        }
    }
    HT_TRY(ht_ceiling_init(&b->ceiling, largest, err));
    for (size_t i = 0; i < b->n_threads; i++) {
        b->ways[i] = ht_ceiling_best_way(&b->ceiling, b->pools[i]);
    }
    return HT_OK;
}

static ht_status tell(struct bench *b, const char *item, ht_err *err) {
    return ht_meter_tell(&b->meter, ++b->done, 0, item, err);
}

/* ---- one model ------------------------------------------------------------------------------------------- */

/* What one decode step reads and computes, from the steps that run. */
static void count_work(const struct ht_model *m, const ht_bench_options *o, struct ht_bench_model *bm) {
    for (size_t i = 0; i < m->plan.n; i++) {
        const struct ht_step *s = &m->plan.steps[i];
        if (s->linear != NULL) {
            const struct ht_mat *w = &s->linear->w;
            bool integers = ht_linear_is_integer(s->linear, o->exact ? HT_MATH_EXACT : HT_MATH_FAST);
            bm->weight_bytes += ht_linear_bytes(s->linear);
            (i < m->plan.n_body ? bm->body_ops : bm->head_ops)[integers ? HT_CEILING_INT8 : HT_CEILING_F32] +=
                2.0 * (double)w->rows * (double)w->cols;
        } else if (s->weight != NULL) {
            bm->weight_bytes +=
                (s->kind == HT_STEP_HEAD_NORM ? m->hp.head_dim : ht_act_width(m, s->in)) * sizeof(float);
        }
    }
    bm->weight_bytes += ht_linear_bytes(m->token_embd) / m->token_embd->w.rows;
    struct ht_qtensor row; /* of a cache of codes: one position of one head */
    bool codes = m->kv.scheme.format != NULL &&
                 ht_qtensor_shape(&row, &m->kv.scheme, 1, m->hp.head_dim, NULL, NULL) == HT_OK;
    uint64_t per_head = codes ? ht_qtensor_bytes(&row) : (uint64_t)m->hp.head_dim * (o->exact ? 4 : 2);
    uint64_t per_position = 2ull * m->hp.n_layers * m->hp.n_kv_heads * per_head;
    bm->cache_bytes = o->gen == 0 ? 0 : per_position * (o->depth + (o->gen + 1) / 2);
}

/* A prompt of a large model takes many seconds: cancelling is seen between its steps, and between tokens. */
static ht_status watch(void *user, uint32_t pos, ht_err *err) {
    struct bench *b = user;
    (void)pos;
    return ht_meter_tell(&b->meter, b->done, 0, b->path, err);
}

static ht_status feed(struct bench *b, size_t t, uint32_t n, bool logits, ht_err *err) {
    return ht_run_feed(b->runs[t], b->ids, n, logits ? 1 : 0, logits ? b->logits : NULL, err);
}

/* The token a greedy user would see first. */
static int32_t pick(const float *logits, uint32_t vocab) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < vocab; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return (int32_t)best;
}

static ht_status prefill(struct bench *b, size_t t, uint32_t vocab, double *seconds, double *cpu, ht_err *err) {
    ht_run_rewind(b->runs[t], 0);
    double start = ht_sys_now(), cpu_start = ht_sys_cpu_seconds();
    ht_run_watch(b->runs[t], watch, b);
    ht_status status = feed(b, t, b->options->prompt, true, err);
    ht_run_watch(b->runs[t], NULL, NULL);
    HT_TRY(status);
    int32_t first = pick(b->logits, vocab);
    *seconds = ht_sys_now() - start;
    *cpu = ht_sys_cpu_seconds() - cpu_start;
    b->ids[0] = first; /* the picked token is used, so that picking it cannot be left out */
    return HT_OK;
}

static ht_status decode(struct bench *b, size_t t, uint32_t n, double *seconds, double *cpu, ht_err *err) {
    ht_run_rewind(b->runs[t], 0);
    HT_TRY(b->options->depth > 0 ? feed(b, t, b->options->depth, false, err) : HT_OK);
    double start = ht_sys_now(), cpu_start = ht_sys_cpu_seconds();
    for (uint32_t i = 0; i < n; i++) {
        HT_TRY(ht_run_feed(b->runs[t], b->ids + i % b->n_ids, 1, 1, b->logits, err));
        HT_TRY(watch(b, i, err));
    }
    *seconds = ht_sys_now() - start;
    *cpu = ht_sys_cpu_seconds() - cpu_start;
    return HT_OK;
}

static ht_status measure(struct bench *b, struct ht_bench_model *bm, size_t t, size_t round, ht_err *err) {
    const ht_bench_options *o = b->options;
    struct ht_bench_threads *bt = &bm->threads[t];
    double figures[HT_BENCH_FIGURES] = {0}, seconds, cpu, read_cpu, read_cpu_after;
    figures[HT_BENCH_READ] = ht_ceiling_read(&b->ceiling, b->pools[t], b->ways[t], &read_cpu);
    if (o->gen > 0) {
        HT_TRY(decode(b, t, o->gen, &seconds, &cpu, err));
        double after = ht_ceiling_read(&b->ceiling, b->pools[t], b->ways[t], &read_cpu_after);
        figures[HT_BENCH_READ] = 0.5 * (figures[HT_BENCH_READ] + after);
        figures[HT_BENCH_DECODE] = o->gen / seconds;
        figures[HT_BENCH_DECODE_BYTES] = o->gen * (double)bm->weight_bytes / seconds;
        figures[HT_BENCH_DECODE_SHARE] = figures[HT_BENCH_DECODE_BYTES] / figures[HT_BENCH_READ];
        figures[HT_BENCH_CPU_SHARE] = cpu / (seconds * bt->threads);
        figures[HT_BENCH_DECODE_CPU] = o->gen / cpu;
        figures[HT_BENCH_DECODE_CPU_SHARE] =
            o->gen * (double)bm->weight_bytes / cpu / (0.5 * (read_cpu + read_cpu_after));
    }
    figures[HT_BENCH_F32] = ht_ceiling_product(&b->ceiling, b->pools[t], HT_CEILING_F32);
    figures[HT_BENCH_INT8] = ht_ceiling_product(&b->ceiling, b->pools[t], HT_CEILING_INT8);
    if (o->prompt > 0) {
        double ops = 0, least = 0;
        HT_TRY(prefill(b, t, bm->model->hp.vocab, &seconds, &cpu, err));
        for (int c = 0; c < 2; c++) {
            double here = bm->body_ops[c] * o->prompt + bm->head_ops[c];
            ops += here;
            least += here / figures[c == HT_CEILING_INT8 ? HT_BENCH_INT8 : HT_BENCH_F32];
        }
        figures[HT_BENCH_TTFT] = seconds;
        figures[HT_BENCH_PREFILL] = o->prompt / seconds;
        figures[HT_BENCH_PREFILL_CPU] = o->prompt / cpu;
        figures[HT_BENCH_PREFILL_FLOPS] = ops / seconds;
        figures[HT_BENCH_PREFILL_SHARE] = least / seconds;
    }
    for (int f = 0; f < HT_BENCH_FIGURES; f++) {
        bt->rounds[f][round] = figures[f];
    }
    bt->n_rounds = round + 1;
    return tell(b, bm->path, err);
}

/* The first pass brings the file's pages in; memory is looked at behind it, with one run alive: the first. */
static ht_status warm_up(struct bench *b, struct ht_bench_model *bm, size_t t, ht_err *err) {
    double seconds, cpu;
    if (b->options->prompt > 0) {
        HT_TRY(prefill(b, t, bm->model->hp.vocab, &seconds, &cpu, err));
        bm->first_ttft_s = t == 0 ? seconds : bm->first_ttft_s;
    }
    if (b->options->gen > 0) {
        uint32_t n = t == 0 ? b->options->gen : 1;
        HT_TRY(decode(b, t, n, &seconds, &cpu, err));
    }
    if (t == 0) {
        ht_sys_memory(&bm->after);
    }
    return tell(b, bm->path, err);
}

static ht_status open_model(struct bench *b, struct ht_bench_model *bm, ht_err *err) {
    struct ht_model_options mo = {.tokenizer_optional = true};
    b->path = bm->path;
    bm->peak_is_own = ht_sys_peak_rss_reset();
    ht_sys_memory(&bm->before);
    double start = ht_sys_now();
    HT_TRY(ht_model_load_with(bm->path, &mo, &bm->model, err));
    bm->load_s = ht_sys_now() - start;
    uint32_t vocab = bm->model->hp.vocab;
    b->n_ids = b->options->prompt > b->options->depth ? b->options->prompt : b->options->depth;
    b->n_ids = b->n_ids > 0 ? b->n_ids : 1;
    b->ids = ht_mem_alloc_array(b->n_ids, sizeof *b->ids);
    b->logits = ht_mem_alloc_array(vocab, sizeof *b->logits);
    if (b->ids == NULL || b->logits == NULL) {
        return ht_fail_nomem(err, vocab * sizeof *b->logits);
    }
    for (uint32_t i = 0; i < b->n_ids; i++) {
        b->ids[i] = (int32_t)((i * 7919ull + 13) % vocab);
    }
    count_work(bm->model, b->options, bm);
    return HT_OK;
}

static ht_status make_run(struct bench *b, struct ht_bench_model *bm, size_t t, ht_err *err) {
    uint32_t ctx = b->options->depth + b->options->gen;
    struct ht_run_options o = {.ctx = ctx > b->options->prompt ? ctx : b->options->prompt,
                               .math = b->options->exact ? HT_MATH_EXACT : HT_MATH_FAST,
                               .f32_cache = b->options->exact};
    struct ht_bench_threads *bt = &bm->threads[t];
    bt->threads = b->threads[t];
    double *all = ht_mem_calloc((size_t)HT_BENCH_FIGURES * b->options->repeat, sizeof *all);
    if (all == NULL) {
        return ht_fail_nomem(err, (uint64_t)HT_BENCH_FIGURES * b->options->repeat * sizeof *all);
    }
    for (size_t f = 0; f < HT_BENCH_FIGURES; f++) {
        bt->rounds[f] = all + f * b->options->repeat;
    }
    if (t == 0) {
        bm->run_bytes = ht_run_bytes(&bm->kv_bytes, bm->model, &o, bt->threads);
    }
    return ht_run_new(b->pools[t], bm->model, &o, &b->runs[t], err);
}

static void close_model(struct bench *b, struct ht_bench_model *bm) {
    for (size_t t = 0; t < b->n_threads; t++) {
        ht_run_free(b->runs[t]);
        b->runs[t] = NULL;
        if (bm->threads != NULL) {
            ht_mem_free(bm->threads[t].rounds[0]);
        }
    }
    ht_mem_free(bm->threads);
    ht_mem_free(b->ids);
    ht_mem_free(b->logits);
    ht_model_unload(bm->model);
    b->ids = NULL;
    b->logits = NULL;
    bm->threads = NULL;
    bm->model = NULL;
}

static ht_status bench_model(struct bench *b, struct ht_bench_model *bm, json_t *records, ht_err *err) {
    ht_status status = HT_OK;
    bm->threads = ht_mem_calloc(b->n_threads, sizeof *bm->threads);
    if (bm->threads == NULL) {
        return ht_fail_nomem(err, b->n_threads * sizeof *bm->threads);
    }
    HT_TRY_DONE(open_model(b, bm, err));
    for (size_t t = 0; t < b->n_threads; t++) {
        HT_TRY_DONE(make_run(b, bm, t, err));
        HT_TRY_DONE(warm_up(b, bm, t, err));
    }
    for (size_t round = 0; round < b->options->repeat; round++) {
        for (size_t t = 0; t < b->n_threads; t++) {
            HT_TRY_DONE(measure(b, bm, t, round, err));
        }
    }
    json_t *record = ht_bench_model_record(&b->report, bm);
    if (record == NULL || json_array_append_new(records, record) != 0) {
        status = ht_fail_nomem(err, 0);
    }
done:
    close_model(b, bm);
    return status;
}

ht_status ht_bench_run(struct ht_context *ctx, const ht_bench_options *options, char **json, ht_err *err) {
    HT_TRY(check_options(options, err));
    struct bench b = {.options = options};
    json_t *records = json_array(), *record = NULL;
    ht_status status = HT_OK;
    double start = ht_sys_now();
    b.report = (struct ht_bench_report){.options = options, .load_before = ht_sys_load_average()};
    b.report.models = ht_mem_calloc(options->n_models, sizeof *b.report.models);
    if (b.report.models == NULL) {
        HT_TRY_DONE(ht_fail_nomem(err, options->n_models * sizeof *b.report.models));
    }
    HT_TRY_DONE(make_pools(&b, err));
    b.report.threads = b.threads;
    b.report.n_threads = b.n_threads;
    b.report.read_bytes = b.ceiling.bytes;
    ht_meter_init(&b.meter, ctx, "bench", "rounds",
                  options->n_models * b.n_threads * ((uint64_t)options->repeat + 1));
    for (size_t i = 0; i < options->n_models; i++) {
        b.report.models[i].path = options->models[i];
        HT_TRY_DONE(bench_model(&b, &b.report.models[i], records, err));
    }
    b.report.load_after = ht_sys_load_average();
    b.report.seconds = ht_sys_now() - start;
    if (json != NULL) {
        record = ht_bench_record(&b.report, records);
        records = NULL;
        HT_TRY_DONE(ht_json_text(record, json, err));
    }
done:
    json_decref(record);
    json_decref(records);
    for (size_t t = 0; t < b.n_threads; t++) {
        ht_pool_free(b.pools[t]);
    }
    ht_ceiling_deinit(&b.ceiling);
    ht_mem_free(b.report.models);
    return status;
}
