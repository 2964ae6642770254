#include "eval/bench_record.h"

#include "base/cpu.h"
#include "base/json.h"
#include "base/pool.h"
#include "eval/eval_json.h"

static const char *const keys[HT_BENCH_FIGURES] = {
#define KEY(name, key) key,
    HT_BENCH_FIGURE_LIST(KEY)
#undef KEY
};

/* Whether a figure was measured: a bench may leave out the prompt or the generation. */
static bool measured(const ht_bench_options *o, enum ht_bench_figure f) {
    switch (f) {
    case HT_BENCH_TTFT:
    case HT_BENCH_PREFILL_CPU:
    case HT_BENCH_PREFILL:
    case HT_BENCH_PREFILL_FLOPS:
    case HT_BENCH_PREFILL_SHARE:
        return o->prompt > 0;
    case HT_BENCH_DECODE:
    case HT_BENCH_DECODE_BYTES:
    case HT_BENCH_DECODE_SHARE:
    case HT_BENCH_CPU_SHARE:
    case HT_BENCH_DECODE_CPU:
    case HT_BENCH_DECODE_CPU_SHARE:
        return o->gen > 0;
    default:
        return true;
    }
}

static json_t *spread(double *rounds, size_t n) {
    json_t *values = json_array();
    for (size_t i = 0; i < n; i++) { /* in the order they were measured */
        json_array_append_new(values, ht_json_real(rounds[i]));
    }
    struct ht_spread s = ht_spread_of(rounds, n);
    return json_pack("{s:o, s:o, s:o, s:o}", "median", ht_json_real(s.median), "low", ht_json_real(s.low), "high",
                     ht_json_real(s.high), "rounds", values);
}

static json_t *threads_record(const struct ht_bench_report *r, struct ht_bench_threads *t) {
    json_t *o = json_pack("{s:i}", "threads", t->threads);
    for (int f = 0; o != NULL && f < HT_BENCH_FIGURES; f++) {
        if (measured(r->options, (enum ht_bench_figure)f)) {
            json_object_set_new(o, keys[f], spread(t->rounds[f], t->n_rounds));
        }
    }
    return o;
}

/* Memory beside the mapped file: what this model added to the pages that belong to no file. */
static json_t *memory_record(const struct ht_bench_model *m, uint64_t file_bytes) {
    uint64_t own = m->after.own > m->before.own ? m->after.own - m->before.own : 0;
    uint64_t peak = m->after.peak > m->before.resident ? m->after.peak - m->before.resident : 0;
    return json_pack("{s:I, s:b, s:I, s:I, s:I, s:I, s:o}", "peak_bytes", (json_int_t)peak, "peak_is_of_this_model",
                     m->peak_is_own, "mapped_bytes", (json_int_t)m->after.mapped, "own_bytes", (json_int_t)own,
                     "activation_bytes", (json_int_t)m->run_bytes, "cache_bytes", (json_int_t)m->kv_bytes,
                     "growth_over_file", ht_json_real((double)own / (double)file_bytes));
}

json_t *ht_bench_model_record(const struct ht_bench_report *r, struct ht_bench_model *m) {
    const struct ht_source *source = m->model->source;
    json_t *runs = json_array();
    for (size_t t = 0; t < r->n_threads; t++) {
        json_array_append_new(runs, threads_record(r, &m->threads[t]));
    }
    json_t *path = json_string(m->path);
    return json_pack(
        "{s:o, s:s, s:I, s:I, s:o, s:o, s:{s:I, s:I, s:o}, s:o, s:o, s:o, s:o}", "path",
        path != NULL ? path : json_string("(name is not UTF-8)"), "architecture", m->model->arch->name,
        "file_bytes", (json_int_t)source->file_bytes, "weights", (json_int_t)m->model->n_params,
        "bits_per_weight", ht_json_real(8.0 * (double)source->data_bytes / (double)m->model->n_params), "formats",
        ht_eval_formats(source), "per_token", "weight_bytes", (json_int_t)m->weight_bytes, "cache_bytes",
        (json_int_t)m->cache_bytes, "operations",
        ht_json_real(m->body_ops[0] + m->body_ops[1] + m->head_ops[0] + m->head_ops[1]), "load_s",
        ht_json_real(m->load_s), "first_ttft_s",
        r->options->prompt > 0 ? ht_json_real(m->first_ttft_s) : json_null(), "memory",
        memory_record(m, source->file_bytes), "runs", runs);
}

json_t *ht_bench_record(const struct ht_bench_report *r, json_t *models) {
    const ht_bench_options *o = r->options;
    char cpu[128];
    return json_pack(
        "{s:s, s:s, s:{s:s, s:s, s:i, s:I, s:I, s:o, s:o}, s:I, s:I, s:I, s:I, s:s, s:f, s:o}", "schema",
        "halftone.bench/1", "version", ht_version(), "machine", "cpu", ht_cpu_model(cpu, sizeof cpu), "kernels",
        ht_cpu_level_name(ht_cpu_best()), "cpus", ht_cpu_count(), "last_cache_bytes",
        (json_int_t)ht_sys_last_cache_bytes(), "read_test_bytes", (json_int_t)r->read_bytes, "load_before",
        ht_json_real(r->load_before), "load_after", ht_json_real(r->load_after), "prompt", (json_int_t)o->prompt,
        "gen", (json_int_t)o->gen, "depth", (json_int_t)o->depth, "repeat", (json_int_t)o->repeat, "math",
        o->exact ? "exact" : "fast", "seconds", r->seconds, "models", models);
}
