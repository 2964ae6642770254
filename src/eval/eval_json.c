#include "eval/eval_json.h"

#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/sys.h"
#include "io/halftone.h"

static json_t *estimate(ht_estimate e) {
    return json_pack("{s:o, s:o, s:o}", "mean", ht_json_real(e.mean), "low", ht_json_real(e.low), "high",
                     ht_json_real(e.high));
}

static json_t *path_string(const char *path) {
    return ht_json_str(path, strlen(path));
}

static json_t *divergence(const struct ht_summary *s, const struct ht_eval_report *r) {
    const struct ht_eval_text *t = r->texts;
    size_t n = r->options->n_texts;
    while (n > 1 && s->max_window >= t->first + t->windows) {
        t++;
        n--;
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:{s:o, s:I, s:I}}", "mean",
                     ht_json_real(s->kld.mean), "low", ht_json_real(s->kld.low), "high",
                     ht_json_real(s->kld.high), "median", ht_json_real(s->kld_median), "p99",
                     ht_json_real(s->kld_p99.mean), "p99_low", ht_json_real(s->kld_p99.low), "p99_high",
                     ht_json_real(s->kld_p99.high), "p999", ht_json_real(s->kld_p999), "max",
                     ht_json_real(s->kld_max), "max_at", "text", path_string(t->path), "window",
                     (json_int_t)(s->max_window - t->first), "position",
                     (json_int_t)(s->max_position + r->lockstep->first));
}

/* The figures, the same for a text and for all of them. */
static json_t *figures(const struct ht_summary *s, const struct ht_eval_report *r) {
    json_t *o = json_pack("{s:I, s:I, s:b, s:o}", "windows", (json_int_t)s->windows, "tokens_scored",
                          (json_int_t)s->tokens_scored, "interval_reliable",
                          s->windows >= HT_EVAL_RELIABLE_WINDOWS, "perplexity", estimate(s->perplexity));
    if (o == NULL || r->options->reference == NULL) {
        return o;
    }
    json_t *more = json_pack("{s:o, s:o, s:o, s:o}", "reference_perplexity", estimate(s->reference_perplexity),
                             "perplexity_ratio", estimate(s->ratio), "kld", divergence(s, r), "same_top",
                             estimate(s->same_top));
    if (more == NULL || json_object_update(o, more) != 0) {
        json_decref(o);
        o = NULL;
    }
    json_decref(more);
    return o;
}

static json_t *text_record(const struct ht_eval_text *t, const struct ht_eval_report *r) {
    json_t *o = figures(&t->summary, r);
    json_t *head = json_pack("{s:o, s:I, s:s, s:I}", "path", path_string(t->path), "bytes",
                             (json_int_t)t->file_bytes, "sha256", t->sha256, "tokens", (json_int_t)t->tokens);
    if (o == NULL || head == NULL || json_object_update(head, o) != 0) {
        json_decref(head);
        head = NULL;
    }
    json_decref(o);
    return head;
}

json_t *ht_eval_formats(const struct ht_source *source) {
    json_t *array = json_array();
    struct ht_format_sums *rows;
    size_t n;
    if (ht_source_formats(source, &rows, &n, NULL) != HT_OK) {
        json_decref(array);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        json_array_append_new(array, json_pack("{s:s, s:I, s:I}", "format", rows[i].name, "tensors",
                                               (json_int_t)rows[i].tensors, "weights", (json_int_t)rows[i].weights));
    }
    ht_mem_free(rows);
    return array;
}

static json_t *side_record(const struct ht_eval_side *side, const char *path) {
    const struct ht_source *source = side->model->source;
    uint64_t weights = 0;
    for (size_t i = 0; i < source->n_tensors; i++) {
        weights += ht_tensor_elems(&source->tensors[i]);
    }
    char kv[HT_KV_TEXT];
    return json_pack("{s:o, s:s, s:I, s:I, s:o, s:o, s:s, s:I, s:o}", "path", path_string(path), "architecture",
                     side->model->arch->name, "file_bytes", (json_int_t)source->file_bytes, "weights",
                     (json_int_t)weights, "bits_per_weight",
                     ht_json_real(8.0 * (double)source->data_bytes / (double)weights), "formats",
                     ht_eval_formats(source), "kv", ht_kv_text(ht_run_cache(side->run), kv),
                     "tokens_run", (json_int_t)side->tokens, "tokens_per_s",
                     ht_json_real((double)side->tokens / side->seconds));
}

static void warn(json_t *array, const char *what, const char *fmt, ...) HT_PRINTF(3, 4);

static void warn(json_t *array, const char *what, const char *fmt, ...) {
    char text[1024], words[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(words, sizeof words, fmt, args);
    va_end(args);
    snprintf(text, sizeof text, "%s: %s", what, words);
    json_array_append_new(array, ht_json_str(text, strlen(text)));
}

static json_t *warnings(const struct ht_eval_report *r) {
    json_t *array = json_array();
    for (size_t i = 0; i < r->options->n_texts; i++) {
        const struct ht_eval_text *t = &r->texts[i];
        if (t->windows < HT_EVAL_RELIABLE_WINDOWS) {
            warn(array, t->path, "%llu windows are too few for a reliable interval", (unsigned long long)t->windows);
        }
        if (t->n_invalid > 0) {
            warn(array, t->path, "%llu bytes are not UTF-8 and were replaced", (unsigned long long)t->n_invalid);
        }
        if (t->calibrated >= 0.05) {
            warn(array, t->path,
                 "about %.0f %% of it is text that the model was calibrated on: its loss looks smaller than it is",
                 100 * t->calibrated);
        }
    }
    uint32_t trained = r->lockstep->model.model->hp.context;
    if (trained != 0 && r->options->ctx > trained) {
        warn(array, r->options->model, "windows are longer than the %u tokens that the model was trained on",
             trained);
    }
    return array;
}

static json_t *tokenizer_record(const struct ht_eval_report *r) {
    const struct ht_vocab *v = ht_tokenizer_vocab(r->lockstep->model.model->tokenizer);
    return json_pack("{s:s, s:s, s:I, s:b, s:s}", "model", v->model, "pre", v->pre ? v->pre : "", "tokens",
                     (json_int_t)v->n_tokens, "add_bos", v->add_bos && v->bos >= 0, "check",
                     r->options->reference ? "both models give the same ids for every text" : "one model");
}

json_t *ht_eval_record(const struct ht_eval_report *r) {
    const ht_eval_options *o = r->options;
    json_t *texts = json_array();
    for (size_t i = 0; i < o->n_texts; i++) {
        json_t *text = text_record(&r->texts[i], r);
        double share = r->texts[i].calibrated;
        json_object_set_new(text, "calibration_overlap", share < 0 ? json_null() : json_real(share));
        json_array_append_new(texts, text);
    }
    char cpu[128];
    json_t *record = json_pack(
        "{s:s, s:s, s:o, s:o, s:s, s:s, s:I, s:f, s:I, s:o, s:i, s:f, s:f, s:o, s:I, s:{s:s, s:s}, s:o, s:o, s:o}",
        "schema", "halftone.eval/1", "version", ht_version(), "model", side_record(&r->lockstep->model, o->model),
        "reference",
        o->reference != NULL ? side_record(&r->lockstep->reference, o->reference) : json_null(), "convention",
        o->windows_all ? "all" : "llama", "math", o->exact ? "exact" : "fast", "ctx", (json_int_t)o->ctx,
        "confidence", 0.95, "resamples", (json_int_t)o->resamples, "seed", ht_json_u64(o->seed), "threads",
        ht_pool_threads(r->lockstep->ctx->pool), "seconds", r->seconds, "cpu_seconds", r->cpu_seconds,
        "tokens_per_s",
        ht_json_real((double)r->lockstep->model.tokens / r->lockstep->model.seconds), "peak_rss_bytes",
        (json_int_t)ht_sys_peak_rss_bytes(), "machine", "cpu", ht_cpu_model(cpu, sizeof cpu), "kernels",
        ht_cpu_level_name(ht_cpu_best()), "tokenizer", tokenizer_record(r), "warnings", warnings(r), "texts",
        texts);
    json_t *total = figures(&r->total, r);
    if (record == NULL || total == NULL || json_object_update(record, total) != 0) {
        json_decref(record);
        record = NULL;
    }
    json_decref(total);
    return record;
}
