#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/sys.h"
#include "calib/sketch.h"
#include "flow/flow_finish.h"
#include "flow/flow_paths.h"
#include "flow/quantize/quantize.h"
#include "quant/fold_job.h"
#include "quant/recipe_yaml.h"
#include "tensor/act.h"

void ht_quant_warn(struct ht_context *ctx, struct ht_quant_job *j, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    ht_log(ctx, HT_LOG_WARN, "%s", text);
    json_array_append_new(j->warnings, ht_doc_text(text, strlen(text)));
}

static const char *format_name(const struct ht_quant_job *j, char text[HT_SCHEME_TEXT]) {
    return j->mix != NULL ? ht_mix_name(j->mix) : ht_quant_type_text(&j->type, text);
}

/* ---- metadata of the file ---------------------------------------------------------------------------- */

static ht_status set_text(struct ht_meta *m, const char *key, const char *s, ht_err *err) {
    ht_meta_remove(m, key);
    return ht_meta_set_str(m, key, s, strlen(s), err);
}

static ht_status set_u32(struct ht_meta *m, const char *key, uint32_t v, ht_err *err) {
    ht_meta_remove(m, key); /* to the end, as llama-quantize does */
    return ht_meta_set_u32(m, key, v, err);
}

static ht_status set_imatrix_meta(struct ht_quant_job *j, ht_err *err) {
    struct ht_meta *m = &j->plan->meta;
    static const char *const keys[] = {"quantize.imatrix.file", "quantize.imatrix.dataset",
                                       "quantize.imatrix.entries_count", "quantize.imatrix.chunks_count"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        ht_meta_remove(m, keys[i]);
    }
    const ht_quantize_options *o = j->o;
    const struct ht_imatrix *im = j->imatrix; /* NULL: still to be collected from calib */
    if (im == NULL && o->n_calib == 0) {
        return HT_OK;
    }
    char name[256] = "calibration";
    if (o->imatrix != NULL || o->stats != NULL) {
        ht_flow_base_name(o->imatrix != NULL ? o->imatrix : o->stats, name, sizeof name);
    }
    HT_TRY(set_text(m, keys[0], name, err));
    const char *dataset = im == NULL ? o->calib[0] : im->n_datasets > 0 ? im->datasets[0] : NULL;
    if (dataset != NULL) {
        ht_flow_base_name(dataset, name, sizeof name);
        HT_TRY(set_text(m, keys[1], name, err));
    }
    HT_TRY(set_u32(m, keys[2], im != NULL ? (uint32_t)im->n : 0, err));
    return set_u32(m, keys[3], im != NULL ? im->chunk_count : 0, err);
}

/* What the file was calibrated on, for who evaluates it. Of --imatrix nothing is known. */
static ht_status set_sketch(struct ht_quant_job *j, ht_err *err) {
    struct ht_sketch sketch, one;
    json_t *run;
    size_t i;
    bool known = j->data != NULL && ht_sketch_from_json(json_object_get(j->data, "grams"), &sketch);
    if (j->stats != NULL) {
        ht_sketch_init(&sketch);
        json_array_foreach(json_object_get(ht_quant_stats_doc(j->stats), "runs"), i, run) {
            if (ht_sketch_from_json(json_object_get(run, "grams"), &one)) {
                ht_sketch_merge(&sketch, &one);
                known = true;
            }
        }
    }
    return known || j->o->n_calib > 0 ? ht_sketch_to_meta(known ? &sketch : NULL, &j->plan->meta, err) : HT_OK;
}

ht_status ht_quant_set_meta(struct ht_quant_job *j, ht_err *err) {
    struct ht_meta *m = &j->plan->meta;
    const struct ht_mix *mix = j->mix != NULL ? j->mix : ht_mix_find(j->type.format->name);
    char source[256], text[HT_SCHEME_TEXT];
    ht_flow_base_name(j->plan->source->path, source, sizeof source);
    ht_flow_drop_provenance(j->plan);
    HT_TRY(set_u32(m, "general.quantization_version", 2, err));
    HT_TRY(set_u32(m, "general.file_type", mix != NULL ? ht_mix_file_type(mix) : 1024, err)); /* 1024: guessed */
    HT_TRY(set_imatrix_meta(j, err));
    HT_TRY(set_text(m, "halftone.version", ht_version(), err));
    HT_TRY(set_text(m, "halftone.method", j->recipe.name, err));
    HT_TRY(set_text(m, "halftone.format", format_name(j, text), err));
    HT_TRY(ht_meta_set_u64(m, "halftone.seed", j->o->seed, err));
    HT_TRY(set_text(m, "halftone.source.name", source, err));
    const char *xxh3 = j->source_xxh3[0] != '\0' ? j->source_xxh3 : "0000000000000000";
    HT_TRY(set_text(m, "halftone.source.xxh3", xxh3, err));
    HT_TRY(set_sketch(j, err));
    return ht_flow_reserve_checksums(j->plan, err);
}

/* ---- record ------------------------------------------------------------------------------------------ */

static json_t *error_db(double error, double signal) {
    return error > 0 && signal > 0 ? ht_doc_real(10.0 * log10(error / signal)) : json_null();
}

/* How a linear came to be: losses are mean squared errors of its output, summed over outputs: tr(E H E^T); with moments
 * none, squared errors of the weights. */
static void add_report(struct ht_doc *d, json_t *o, const struct ht_job_report *report) {
    static const char *const moments[] = {"none", "mean square", "gram"};
    json_t *r = ht_doc_object(d, o, "round");
    ht_doc_set(d, r, "loss_nearest", ht_doc_real(report->loss_nearest));
    ht_doc_set(d, r, "loss", ht_doc_real(report->loss));
    ht_doc_set(d, r, "moments", json_string(moments[report->moments <= 2 ? report->moments : 0]));
    if (report->signal > 0 && report->moments != 0) {
        ht_doc_set(d, r, "output_error_db", error_db(report->loss, report->signal));
    }
    ht_doc_set(d, r, "tokens", json_integer((json_int_t)report->tokens));
    ht_doc_set(d, r, "damping", ht_doc_real(report->damping));
    ht_doc_set(d, r, "damping_raised", json_integer((json_int_t)report->dampings));
    if (report->kept_nearest != 0) {
        ht_doc_set(d, r, "rows_kept_nearest", json_integer((json_int_t)report->kept_nearest));
    }
    if (report->drift > 0) {
        ht_doc_set(d, r, "drift", ht_doc_real(report->drift));
    }
    if (report->columns != 0 || report->sparse != 0) {
        ht_doc_set(d, r, "columns_apart", json_integer((json_int_t)report->columns));
        ht_doc_set(d, r, "weights_apart", json_integer((json_int_t)report->sparse));
    }
    if (report->pruned != 0) {
        ht_doc_set(d, r, "weights_pruned", json_integer((json_int_t)report->pruned));
    }
    if (report->saturated != 0) {
        ht_doc_set(d, r, "saturated", json_integer((json_int_t)report->saturated));
    }
    if (report->steps != 0) { /* with the whole layer: the error of its output */
        json_t *l = ht_doc_object(d, r, "learned");
        ht_doc_set(d, l, "steps", json_integer(report->steps));
        ht_doc_set(d, l, "best_step", json_integer(report->best_step));
        ht_doc_set(d, l, "layer_signal", ht_doc_real(report->layer_signal));
        ht_doc_set(d, l, "layer_loss_start", ht_doc_real(report->layer_start));
        ht_doc_set(d, l, "layer_loss", ht_doc_real(report->layer_loss));
    }
    ht_doc_set(d, r, "dead_inputs", json_integer((json_int_t)report->dead));
    ht_doc_set(d, r, "seconds", ht_doc_real(report->seconds));
}

/* Smallest and largest level of codes. */
static void levels_of(const struct ht_scheme *s, float *least, float *most) {
    const struct ht_affine unit = {.scale = 1};
    *least = *most = 0;
    for (int32_t code = ht_scheme_lo(s); code <= ht_scheme_hi(s); code++) {
        float v = ht_scheme_value(s, NULL, &unit, code);
        *least = v < *least && isfinite(v) ? v : *least; /* small floats have codes for NaN and Inf */
        *most = v > *most && isfinite(v) ? v : *most;
    }
}

/* How its inputs are rounded; fixed scales, and the values that their grids reach. */
static void add_inputs(struct ht_doc *d, json_t *o, const struct ht_sidecar *side, const struct ht_job_report *report) {
    char text[HT_SCHEME_TEXT];
    json_t *a = ht_doc_object(d, o, "activations");
    uint64_t n = ht_act_segments(side);
    ht_doc_set(d, a, "format", json_string(ht_scheme_text(&side->act, text)));
    if ((side->leaves & HT_LEAVES_ACT_SCALE) == 0) {
        return; /* each token's own */
    }
    float least = INFINITY, most = 0, low = 0, high = 0, first, last;
    levels_of(&side->act, &first, &last);
    for (uint64_t i = 0; i < n; i++) {
        float zero = side->act.zero == HT_ZERO_CODE ? (float)side->act_zero[i] : 0;
        least = fminf(least, side->act_scale[i]);
        most = fmaxf(most, side->act_scale[i]);
        low = fminf(low, side->act_scale[i] * (first - zero));
        high = fmaxf(high, side->act_scale[i] * (last - zero));
    }
    if (report != NULL && report->searched != 0) {
        ht_doc_set(d, a, "searched_values", json_integer(report->searched));
    }
    if (n > 1) { /* clusters */
        ht_doc_set(d, a, "scales", json_integer((json_int_t)n));
        ht_doc_set(d, a, "least_scale", ht_doc_real(least));
    }
    ht_doc_set(d, a, n > 1 ? "largest_scale" : "scale", ht_doc_real(most));
    ht_doc_set(d, a, "low", ht_doc_real(low));
    ht_doc_set(d, a, "high", ht_doc_real(high));
}

static void add_tensor(struct ht_doc *d, json_t *all, const struct ht_plan_tensor *t, bool measured) {
    char text[HT_SCHEME_TEXT];
    json_t *o = json_object();
    ht_doc_set(d, o, "name", ht_doc_text(t->out.name, strlen(t->out.name)));
    ht_doc_set(d, o, "role", json_string(ht_role_name(t->role)));
    ht_doc_set(d, o, "layer", t->layer < 0 ? json_null() : json_integer(t->layer));
    ht_doc_set(d, o, "from", t->in != NULL ? json_string(t->in->format->name) : json_null());
    ht_doc_set(d, o, "format", json_string(ht_plan_format(t, text)));
    if (t->wanted != t->out.format) {
        ht_doc_set(d, o, "wanted", json_string(t->wanted->name));
    }
    ht_doc_set(d, o, "bytes", json_integer((json_int_t)t->out.bytes));
    ht_doc_set(d, o, "rows", json_integer((json_int_t)ht_tensor_rows(&t->out)));
    ht_doc_set(d, o, "cols", json_integer((json_int_t)t->out.ne[0]));
    ht_doc_set(d, o, "weighted", json_boolean(t->importance != NULL));
    if (t->n_nonfinite != 0) { /* what follows is of the other values, and of zeros in the place of these */
        ht_doc_set(d, o, "nonfinite_zeroed", json_integer((json_int_t)t->n_nonfinite));
    }
    if (measured && t->in != NULL && t->in->format == t->out.format && t->packed == NULL) {
        /* Carried over bit for bit, but for the stretches with a NaN or Inf: these were encoded again, and only
         * their errors were summed. */
        ht_doc_set(d, o, "mse", ht_doc_real(t->err_sq / (double)ht_tensor_elems(&t->out)));
    } else if (measured && t->sum_sq > 0) {
        ht_doc_set(d, o, "mse", ht_doc_real(t->err_sq / (double)ht_tensor_elems(&t->out)));
        ht_doc_set(d, o, "weighted_mse",
                   t->weight_sum > 0 ? ht_doc_real(t->weight_err / t->weight_sum) : json_null());
        ht_doc_set(d, o, "rel_error_db", error_db(t->err_sq, t->sum_sq));
    } else if (t->report != NULL && t->report->moments == 0) { /* of the weights that the codes stand for */
        ht_doc_set(d, o, "rel_error_db", error_db(t->report->loss, t->report->signal));
    }
    if (t->report != NULL) {
        add_report(d, o, t->report);
    }
    if (t->side != NULL && (t->side->leaves & HT_LEAVES_ACT) != 0) {
        add_inputs(d, o, t->side, t->report);
    }
    ht_doc_append(d, all, o);
}

static void add_fallbacks(struct ht_doc *d, const struct ht_flow_plan *p) {
    json_t *all = ht_doc_array(d, d->root, "fallbacks");
    for (size_t i = 0; i < p->n_tensors; i++) {
        const struct ht_plan_tensor *t = &p->tensors[i];
        size_t count = 0;
        for (size_t k = 0; k < p->n_tensors; k++) {
            const struct ht_plan_tensor *u = &p->tensors[k];
            if (u->wanted == t->wanted && u->out.format == t->out.format) {
                if (k < i) { /* counted with the first of its kind */
                    count = 0;
                    break;
                }
                count++;
            }
        }
        if (t->wanted != t->out.format && count > 0) {
            ht_doc_append(d, all, json_pack("{s:s, s:s, s:I}", "from", t->wanted->name, "to", t->out.format->name,
                                            "count", (json_int_t)count));
        }
    }
}

static void add_imatrix(struct ht_doc *d, const struct ht_quant_job *j) {
    if (j->imatrix == NULL) {
        ht_doc_set(d, d->root, "imatrix", json_null());
        return;
    }
    char name[256];
    json_t *o = ht_doc_object(d, d->root, "imatrix");
    if (j->o->imatrix != NULL) {
        ht_flow_base_name(j->o->imatrix, name, sizeof name);
        ht_doc_set(d, o, "path", ht_doc_text(name, strlen(name)));
    }
    ht_doc_set(d, o, "entries", json_integer((json_int_t)j->imatrix->n));
    ht_doc_set(d, o, "chunks", json_integer(j->imatrix->chunk_count));
    ht_doc_set(d, o, "unweighted_tensors", json_integer((json_int_t)j->n_unweighted));
    json_t *texts = ht_doc_array(d, o, "texts");
    for (size_t i = 0; i < j->imatrix->n_datasets; i++) {
        ht_flow_base_name(j->imatrix->datasets[i], name, sizeof name);
        ht_doc_append(d, texts, ht_doc_text(name, strlen(name)));
    }
}

static void add_shift(struct ht_doc *d, json_t *o, const struct ht_transform_report *r) {
    ht_doc_set(d, o, "shifted", json_boolean(r->shifted));
    if (r->shifted) {
        ht_doc_set(d, o, "least_shift", ht_doc_real(r->least_shift));
        ht_doc_set(d, o, "largest_shift", ht_doc_real(r->most_shift));
        ht_doc_set(d, o, "at_run_time", json_boolean(r->run_time));
    }
    ht_doc_set(d, o, r->shifted ? "loss_unshifted" : "loss_shifted", ht_doc_real(r->loss_other));
    ht_doc_set(d, o, "threshold", ht_doc_real(r->alpha)); /* share of the widest input's reach */
}

/* One part at one site: what it took there, and what its trials lost per token before and after. The exponent is null
 * where no factors were better. */
static void add_fold(struct ht_doc *d, json_t *folds, const struct ht_fold_note *note) {
    const struct ht_transform_report *r = &note->report;
    json_t *o = json_object();
    bool clip = strcmp(note->part, "clip") == 0, cluster = strcmp(note->part, "cluster") == 0;
    bool shift = strcmp(note->part, "shift") == 0, order = strcmp(note->part, "order") == 0;
    ht_doc_set(d, o, "site", json_string(note->site));
    ht_doc_set(d, o, "layer", json_integer(note->layer));
    ht_doc_set(d, o, "part", json_string(note->part));
    ht_doc_set(d, o, clip ? "groups" : "channels", json_integer((json_int_t)r->channels));
    if (clip) {
        ht_doc_set(d, o, "clipped_groups", json_integer((json_int_t)r->cut));
    } else if (cluster) {
        ht_doc_set(d, o, "clusters", json_integer(r->clusters));
        ht_doc_set(d, o, "at_run_time", json_boolean(r->run_time));
    } else if (order) {
        ht_doc_set(d, o, "left_out", json_boolean(r->left_out));
    } else {
        ht_doc_set(d, o, "least_factor", ht_doc_real(r->least));
        ht_doc_set(d, o, "largest_factor", ht_doc_real(r->most));
        ht_doc_set(d, o, "clamped_factors", json_integer((json_int_t)r->clamped));
        ht_doc_set(d, o, "dead_channels", json_integer((json_int_t)r->dead));
    }
    if (r->trials > 0) {
        ht_doc_set(d, o, "trials", json_integer((json_int_t)r->trials));
        ht_doc_set(d, o, "loss_before", ht_doc_real(r->loss_before));
        ht_doc_set(d, o, "loss", ht_doc_real(r->loss));
    }
    if (shift) {
        add_shift(d, o, r);
    } else if (!clip && !order && (r->trials > 0 || r->alpha > 0)) {
        ht_doc_set(d, o, "alpha", r->alpha >= 0 ? ht_doc_real(r->alpha) : json_null());
    }
    ht_doc_append(d, folds, o);
}

static void add_calibration(struct ht_doc *d, const struct ht_quant_job *j) {
    struct ht_buf yaml;
    ht_buf_init(&yaml, 0);
    ht_recipe_write(&j->recipe, &yaml);
    ht_doc_set(d, d->root, "recipe", ht_buf_ok(&yaml) ? ht_doc_text(yaml.data, yaml.len) : NULL);
    ht_buf_deinit(&yaml);
    if (j->stats != NULL) {
        char name[256];
        json_t *o = ht_doc_object(d, d->root, "calibration");
        ht_flow_base_name(j->o->stats, name, sizeof name);
        ht_doc_set(d, o, "stats", ht_doc_text(name, strlen(name)));
        ht_doc_set(d, o, "tokens", json_integer((json_int_t)ht_quant_stats_tokens(j->stats)));
        ht_doc_set(d, o, "sequential", json_false());
        json_t *runs = json_deep_copy(json_object_get(ht_quant_stats_doc(j->stats), "runs")), *run;
        size_t i;
        json_array_foreach(runs, i, run) {
            json_object_del(run, "grams");
        }
        ht_doc_set(d, o, "runs", runs);
    } else if (j->calib_tokens != 0) {
        json_t *o = ht_doc_object(d, d->root, "calibration");
        ht_doc_set(d, o, "tokens", json_integer((json_int_t)j->calib_tokens));
        if (j->tokens_guessed) {
            ht_doc_set(d, o, "tokens_guessed", json_true()); /* by the bytes of the text */
        }
        ht_doc_set(d, o, "window", json_integer(j->window));
        ht_doc_set(d, o, "sequential", json_boolean(j->recipe.calibration.sequential));
        ht_doc_set(d, o, "hidden_states_in_file", json_boolean(j->spilled));
        if (j->o->memory_bytes != 0) {
            ht_doc_set(d, o, "memory_limit_bytes", ht_json_u64(j->o->memory_bytes));
            ht_doc_set(d, o, "predicted_rss_bytes", ht_json_u64(j->predicted_rss_bytes));
        }
    }
    if (j->data != NULL) {
        json_t *o = json_object_get(d->root, "calibration");
        o = o != NULL ? o : ht_doc_object(d, d->root, "calibration");
        json_t *data = json_deep_copy(j->data);
        json_object_del(data, "grams"); /* in the file */
        ht_doc_set(d, o, "data", data);
    }
    if (j->folded_sites != 0) {
        json_t *o = ht_doc_object(d, d->root, "folded");
        ht_doc_set(d, o, "sites", json_integer((json_int_t)j->folded_sites));
        ht_doc_set(d, o, "dead_channels", json_integer((json_int_t)j->folded_dead));
        ht_doc_set(d, o, "clamped_factors", json_integer((json_int_t)j->folded_clamped));
        ht_doc_set(d, o, "clipped_groups", json_integer((json_int_t)j->folded_cut));
    }
    uint64_t left_out = 0;
    json_t *folds = ht_doc_array(d, d->root, "folds");
    for (size_t i = 0; i < j->n_folds; i++) {
        add_fold(d, folds, &j->folds[i]);
        left_out += j->folds[i].report.left_out;
    }
    if (left_out > 0) {
        json_t *o = json_object_get(d->root, "folded");
        ht_doc_set(d, o != NULL ? o : ht_doc_object(d, d->root, "folded"), "left_out_sites", ht_json_u64(left_out));
    }
}

/* Formats that were asked for beside the recipe's; nothing where there are none. */
static void add_overrides(struct ht_doc *d, const ht_quantize_options *o) {
    if (o->embd == NULL && o->head == NULL && o->n_tensor_rules == 0 && !o->pure) {
        return;
    }
    json_t *all = ht_doc_object(d, d->root, "overrides");
    const struct {
        const char *key, *text;
    } formats[] = {{"embd", o->embd}, {"head", o->head}};
    for (size_t i = 0; i < 2; i++) {
        if (formats[i].text != NULL) {
            ht_doc_set(d, all, formats[i].key, ht_doc_text(formats[i].text, strlen(formats[i].text)));
        }
    }
    if (o->n_tensor_rules > 0) {
        json_t *rules = ht_doc_array(d, all, "tensor");
        for (size_t i = 0; i < o->n_tensor_rules; i++) {
            ht_doc_append(d, rules, ht_doc_text(o->tensor_rules[i], strlen(o->tensor_rules[i])));
        }
    }
    if (o->pure) {
        ht_doc_set(d, all, "pure", json_true());
    }
}

/* Names of the files that hold this record, beside the output. */
static void add_record_files(struct ht_doc *d, const char *output) {
    static const char *const suffixes[] = {HT_RECORD_JSON, HT_RECORD_HTML};
    json_t *files = ht_doc_array(d, d->root, "record_files");
    for (size_t i = 0; i < 2; i++) {
        char base[256], name[300];
        ht_flow_base_name(output, base, sizeof base);
        int n = snprintf(name, sizeof name, "%s%s", base, suffixes[i]);
        ht_doc_append(d, files, ht_doc_text(name, (size_t)n));
    }
}

/* How predicted bytes may differ from those that will be written: by enum ht_expect. */
static const char *const expect_names[] = {"exact", "at most", "at least", "about"};

static json_t *text_or_null(const char *s) {
    return s[0] != '\0' ? json_string(s) : json_null();
}

ht_status ht_quant_record(const struct ht_context *ctx, const struct ht_quant_job *j, char **json, ht_err *err) {
    const struct ht_flow_plan *p = j->plan;
    struct ht_doc d;
    char text[HT_SCHEME_TEXT];
    uint64_t weights = 0, data_bytes = 0, nonfinite = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        weights += ht_tensor_elems(&p->tensors[i].out);
        data_bytes += p->tensors[i].out.bytes;
        nonfinite += p->tensors[i].n_nonfinite;
    }
    ht_doc_init(&d, "halftone.quantize/1");
    ht_flow_record_input(&d, p);
    ht_doc_set(&d, json_object_get(d.root, "input"), "xxh3", text_or_null(j->source_xxh3));
    ht_flow_record_output(&d, p, j->o->output, j->o->shard_bytes > 0, j->bytes, j->n_files);
    ht_doc_set(&d, json_object_get(d.root, "output"), "xxh3", text_or_null(j->output_xxh3));
    if (j->o->record && !j->o->dry_run && !j->no_record) {
        add_record_files(&d, j->o->output);
    }
    ht_doc_set(&d, d.root, "format", json_string(format_name(j, text)));
    ht_doc_set(&d, d.root, "method", json_string(j->recipe.name));
    add_overrides(&d, j->o);
    add_imatrix(&d, j);
    add_calibration(&d, j);
    ht_doc_set(&d, d.root, "weights", json_integer((json_int_t)weights));
    ht_doc_set(&d, d.root, "bytes", json_integer((json_int_t)j->bytes));
    ht_doc_set(&d, d.root, "data_bytes", json_integer((json_int_t)data_bytes)); /* bytes without metadata */
    ht_doc_set(&d, d.root, "bits_per_weight", ht_doc_real(8.0 * (double)data_bytes / (double)weights));
    ht_doc_set(&d, d.root, "nonfinite_zeroed", json_integer((json_int_t)nonfinite));
    ht_doc_set(&d, d.root, "seed", ht_json_u64(j->o->seed));
    if (j->resumed_layers != 0) {
        json_t *resumed = ht_doc_object(&d, d.root, "resumed");
        ht_doc_set(&d, resumed, "layers", json_integer(j->resumed_layers));
        ht_doc_set(&d, resumed, "of", json_integer(j->n_layers));
    }
    ht_doc_set(&d, d.root, "dry_run", json_boolean(j->o->dry_run));
    if (j->o->dry_run) {
        json_t *predicted = ht_doc_object(&d, d.root, "predicted");
        ht_doc_set(&d, predicted, "bytes", json_integer((json_int_t)j->bytes));
        ht_doc_set(&d, predicted, "bytes_are", json_string(expect_names[j->expect]));
        ht_doc_set(&d, predicted, "seconds", ht_doc_real(j->predicted_s));
        ht_doc_set(&d, predicted, "peak_rss_bytes", json_integer((json_int_t)j->predicted_rss_bytes));
    }
    ht_flow_record_cost(&d, ctx, j->started_s, j->started_cpu_s);
    add_fallbacks(&d, p);
    ht_doc_set(&d, d.root, "warnings", json_deep_copy(j->warnings));
    json_t *all = ht_doc_array(&d, d.root, "tensors");
    for (size_t i = 0; i < p->n_tensors; i++) {
        /* What a transform has moved is not to be compared with the input, weight by weight: matrices, and the vectors
         * that they were folded with. */
        const struct ht_plan_tensor *t = &p->tensors[i];
        bool moved = (t->report != NULL || t->stored != NULL) && j->recipe.places[HT_PLACE_WEIGHTS].n_transforms != 0;
        add_tensor(&d, all, t, !j->o->dry_run && !moved);
    }
    return ht_doc_finish(&d, json, err);
}
