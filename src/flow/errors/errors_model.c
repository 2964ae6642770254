/* inspect --errors: the tensors of a model through every codec. Rows go by in tasks of a fixed size, in batches of
 * a few tasks per thread; sums are merged in task order, so that figures do not depend on the number of threads and
 * memory does not grow with the model. Schemes with one scale per tensor see the rows twice: a histogram first. */
#include <math.h>

#include "base/file.h"
#include "base/mem.h"
#include "flow/errors/errors_model.h"
#include "flow/flow.h"
#include "flow/flow_paths.h"
#include "flow/flow_stream.h"

#define TASKS_PER_THREAD 4

static const char *const default_formats[] = {"q8_0",   "q6_k",  "q5_k",   "q5_0",        "q4_k",         "q4_0",
                                              "iq4_xs", "iq4_nl", "q3_k",  "iq3_s",       "q2_k",         "iq2_xs",
                                              "int8:tensor", "int8:channel", "int4:g128"};
static const char *const default_ranges[] = {"minmax", "percentile:99.9", "entropy", "mse"};
enum {
    N_FORMATS = sizeof default_formats / sizeof default_formats[0],
    N_RANGES = sizeof default_ranges / sizeof default_ranges[0]
};

struct outcome {
    ht_status status;
    ht_err err;
    uint64_t n_nonfinite;
};

struct work {
    const ht_errors_options *o;
    struct ht_context *ctx;
    struct ht_source *source;
    struct ht_binding *bindings; /* or NULL */
    struct ht_error_report report;
    struct ht_affine *grids;       /* [n_codecs] of the tensor in work */
    bool any_per_tensor, any_whole;
    int n_threads;
    size_t batch;                  /* tasks */
    struct ht_codec_room *rooms;   /* [n_threads] */
    float *x;                      /* [n_threads, x_elems] */
    uint64_t x_elems;
    struct ht_error_sums *parts;   /* [batch, n_codecs + 1], the last of the values alone */
    struct ht_range_state *states; /* [batch] or NULL */
    struct outcome *outcomes;      /* [batch] */
    /* in work */
    struct ht_error_subject *subject;
    uint64_t task_rows, first_task;
    struct ht_meter meter;
    uint64_t done, total; /* values */
};

/* ---- what is measured --------------------------------------------------------------------------------- */

static ht_status add_codec(struct work *w, const char *text, const char *range, bool named, ht_err *err) {
    struct ht_codec *c = &w->report.codecs[w->report.n_codecs++];
    HT_TRY(ht_codec_parse(text, c, err));
    if (c->scaled && !c->whole) {
        HT_TRY(ht_codec_set_range(c, range, err));
        w->any_per_tensor |= ht_codec_per_tensor(c);
    }
    w->any_whole |= c->whole;
    if (!c->scaled && named && ht_format_bits(c->format) > 32) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "%s holds every value exactly", c->name);
    }
    return HT_OK;
}

static ht_status choose_codecs(struct work *w, ht_err *err) {
    const ht_errors_options *o = w->o;
    bool named = o->n_formats > 0;
    const char *const *formats = named ? o->formats : default_formats;
    const char *const *ranges = o->n_ranges > 0 ? o->ranges : default_ranges;
    size_t n_formats = named ? o->n_formats : N_FORMATS, n_ranges = o->n_ranges > 0 ? o->n_ranges : N_RANGES;
    w->report.codecs = ht_mem_calloc(n_formats * n_ranges, sizeof *w->report.codecs);
    if (w->report.codecs == NULL) {
        return ht_fail_nomem(err, n_formats * n_ranges * sizeof *w->report.codecs);
    }
    for (size_t i = 0; i < n_formats; i++) {
        if (!named && strchr(formats[i], ':') == NULL && ht_format_find(formats[i]) == NULL) {
            continue;
        }
        HT_TRY(add_codec(w, formats[i], ranges[0], named, err));
        const struct ht_codec *c = &w->report.codecs[w->report.n_codecs - 1];
        for (size_t k = 1; k < n_ranges && c->scaled && !c->whole; k++) {
            HT_TRY(add_codec(w, formats[i], ranges[k], named, err));
        }
    }
    return HT_OK;
}

/* Matrices that a recipe may quantize; of unknown architectures every float matrix. */
static bool is_subject(const struct work *w, size_t i) {
    const struct ht_tensor *t = &w->source->tensors[i];
    bool values = t->format->kind != HT_KIND_CODE || ht_source_packed(w->source, t) != NULL;
    if (t->format->kind == HT_KIND_INT || !values || ht_tensor_rows(t) < 2) {
        return false;
    }
    return w->bindings == NULL || (ht_role_quantizable(w->bindings[i].role) && !w->bindings[i].ignored);
}

static ht_status choose_subjects(struct work *w, ht_err *err) {
    struct ht_error_report *r = &w->report;
    size_t n = w->source->n_tensors;
    r->subjects = ht_mem_calloc(n + 1, sizeof *r->subjects);
    if (r->subjects == NULL) {
        return ht_fail_nomem(err, n * sizeof *r->subjects);
    }
    for (size_t i = 0; i < n; i++) {
        if (!is_subject(w, i)) {
            continue;
        }
        const struct ht_tensor *t = &w->source->tensors[i];
        struct ht_error_subject *s = &r->subjects[r->n_subjects++];
        *s = (struct ht_error_subject){.tensor = t, .layer = -1, .rows = ht_tensor_rows(t), .cols = t->ne[0]};
        s->measured = w->o->rows > 0 && w->o->rows < s->rows ? w->o->rows : s->rows;
        if (w->bindings != NULL) {
            s->role = w->bindings[i].role;
            s->layer = w->bindings[i].layer;
        }
        s->sums = ht_mem_calloc(r->n_codecs, sizeof *s->sums);
        if (s->sums == NULL) {
            return ht_fail_nomem(err, r->n_codecs * sizeof *s->sums);
        }
        r->quantized |= t->format->fit != NULL || t->format->kind == HT_KIND_CODE;
        w->total += s->measured * s->cols;
    }
    return r->n_subjects > 0 ? HT_OK
                             : ht_fail(err, HT_INVAL, w->o->path, HT_NO_POS, "it has no weight matrix to measure");
}

static ht_status make_room(struct work *w, ht_err *err) {
    uint64_t cols = 0;
    for (size_t i = 0; i < w->report.n_subjects; i++) {
        cols = w->report.subjects[i].cols > cols ? w->report.subjects[i].cols : cols;
    }
    w->n_threads = ht_pool_threads(w->ctx->pool);
    w->batch = (size_t)w->n_threads * TASKS_PER_THREAD;
    w->x_elems = cols > HT_TASK_ELEMS ? cols : HT_TASK_ELEMS;
    w->x = ht_mem_alloc_array((size_t)w->n_threads, w->x_elems * sizeof *w->x);
    w->rooms = ht_mem_calloc((size_t)w->n_threads, sizeof *w->rooms);
    w->parts = ht_mem_calloc(w->batch * (w->report.n_codecs + 1), sizeof *w->parts);
    w->outcomes = ht_mem_calloc(w->batch, sizeof *w->outcomes);
    w->grids = ht_mem_calloc(w->report.n_codecs, sizeof *w->grids);
    if (w->any_per_tensor) {
        w->states = ht_mem_calloc(w->batch + 1, sizeof *w->states);
    }
    bool ok = w->x != NULL && w->rooms != NULL && w->parts != NULL && w->outcomes != NULL && w->grids != NULL &&
              (w->states != NULL || !w->any_per_tensor);
    if (!ok) {
        return ht_fail_nomem(err, w->x_elems * sizeof *w->x * (uint64_t)w->n_threads);
    }
    for (int i = 0; i < w->n_threads; i++) {
        HT_TRY(ht_codec_room_init(&w->rooms[i], cols, err));
    }
    return HT_OK;
}

/* ---- one tensor --------------------------------------------------------------------------------------- */

/* Measured row k of the tensor in work, decoded. */
static void read_row(const struct work *w, uint64_t k, float *x, float *scratch) {
    const struct ht_error_subject *s = w->subject;
    uint64_t row = k * (s->rows / s->measured) + k * (s->rows % s->measured) / s->measured;
    ht_packed_rows(s->tensor, ht_source_packed(w->source, s->tensor), row, 1, x, scratch);
}

static uint64_t read_task(const struct work *w, size_t task, int thread, float **x) {
    const struct ht_error_subject *s = w->subject;
    uint64_t first = (w->first_task + task) * w->task_rows;
    uint64_t rows = s->measured - first < w->task_rows ? s->measured - first : w->task_rows;
    *x = w->x + (uint64_t)thread * w->x_elems;
    for (uint64_t r = 0; r < rows; r++) {
        read_row(w, first + r, *x + r * s->cols, w->rooms[thread].y);
    }
    return rows;
}

static void see_task(void *p, size_t i, int thread) {
    struct work *w = p;
    struct outcome *o = &w->outcomes[i];
    float *x;
    uint64_t rows = read_task(w, i, thread, &x);
    *o = (struct outcome){.n_nonfinite = ht_count_nonfinite(x, rows * w->subject->cols)};
    if (o->n_nonfinite == 0) {
        ht_range_state_init(&w->states[i], 0, NULL);
        o->status = ht_range_state_add(&w->states[i], x, rows * w->subject->cols, &o->err);
    }
}

static void measure_task(void *p, size_t i, int thread) {
    struct work *w = p;
    const struct ht_error_subject *s = w->subject;
    struct outcome *o = &w->outcomes[i];
    struct ht_error_sums *parts = w->parts + i * (w->report.n_codecs + 1);
    float *x;
    uint64_t rows = read_task(w, i, thread, &x);
    *o = (struct outcome){.n_nonfinite = ht_count_nonfinite(x, rows * s->cols)};
    memset(parts, 0, (w->report.n_codecs + 1) * sizeof *parts);
    for (size_t c = 0; c < w->report.n_codecs && o->status == HT_OK && o->n_nonfinite == 0; c++) {
        const struct ht_codec *codec = &w->report.codecs[c];
        if (!codec->whole && ht_codec_fits(codec, s->cols)) {
            o->status = ht_codec_rows(codec, ht_codec_per_tensor(codec) ? &w->grids[c] : NULL, x, rows, s->cols,
                                      &w->rooms[thread], &parts[c], &o->err);
        }
    }
    for (uint64_t r = 0; r < rows; r++) {
        ht_error_add(&parts[w->report.n_codecs], x + r * s->cols, x + r * s->cols, NULL, s->cols);
    }
}

static ht_status check_outcomes(const struct work *w, size_t n, ht_err *err) {
    for (size_t i = 0; i < n; i++) {
        const struct outcome *o = &w->outcomes[i];
        if (o->n_nonfinite > 0) {
            return ht_fail(err, HT_NUMERIC, w->subject->tensor->name, HT_NO_POS,
                           "%llu of its values are NaN or infinite, whose error has no meaning; halftone verify lists "
                           "such tensors",
                           (unsigned long long)o->n_nonfinite);
        }
        if (o->status != HT_OK) {
            return ht_fail(err, o->status, w->subject->tensor->name, HT_NO_POS, "%s", o->err.msg);
        }
    }
    return HT_OK;
}

/* Runs fn over all tasks of the tensor, batch by batch; merge takes the n results of each in task order. */
static ht_status run_tasks(struct work *w, ht_task_fn *fn, ht_status (*merge)(struct work *w, size_t n, ht_err *err),
                           ht_err *err) {
    uint64_t n_tasks = (w->subject->measured + w->task_rows - 1) / w->task_rows;
    for (w->first_task = 0; w->first_task < n_tasks; w->first_task += w->batch) {
        size_t n = n_tasks - w->first_task < w->batch ? (size_t)(n_tasks - w->first_task) : w->batch;
        ht_pool_run(w->ctx->pool, n, fn, w);
        HT_TRY(check_outcomes(w, n, err));
        HT_TRY(merge(w, n, err));
        HT_TRY(ht_meter_tell(&w->meter, w->done, w->done * 4, w->subject->tensor->name, err));
    }
    return HT_OK;
}

static ht_status merge_states(struct work *w, size_t n, ht_err *err) {
    for (size_t i = 0; i < n; i++) {
        HT_TRY(ht_range_state_merge(&w->states[w->batch], &w->states[i], err));
    }
    return HT_OK;
}

static ht_status merge_sums(struct work *w, size_t n, ht_err *err) {
    (void)err;
    size_t stride = w->report.n_codecs + 1;
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < w->report.n_codecs; c++) {
            ht_error_merge(&w->subject->sums[c], &w->parts[i * stride + c]);
        }
        ht_error_merge(&w->subject->plain, &w->parts[i * stride + w->report.n_codecs]);
        w->done += w->parts[i * stride + w->report.n_codecs].n;
    }
    return HT_OK;
}

static ht_status fit_tensor(struct work *w, ht_err *err) {
    HT_TRY(ht_range_state_init(&w->states[w->batch], 0, err));
    HT_TRY(run_tasks(w, see_task, merge_states, err));
    for (size_t c = 0; c < w->report.n_codecs; c++) {
        if (ht_codec_per_tensor(&w->report.codecs[c])) {
            HT_TRY(ht_codec_fit_tensor(&w->report.codecs[c], &w->states[w->batch], &w->grids[c], err));
        }
    }
    return HT_OK;
}

static ht_status measure_whole(struct work *w, ht_err *err) {
    struct ht_error_subject *s = w->subject;
    float *x = ht_mem_alloc_array(s->measured * s->cols, sizeof *x);
    if (x == NULL) {
        return ht_fail_nomem(err, s->measured * s->cols * sizeof *x);
    }
    for (uint64_t r = 0; r < s->measured; r++) {
        read_row(w, r, x + r * s->cols, w->rooms[0].y);
    }
    ht_status status = HT_OK;
    for (size_t c = 0; c < w->report.n_codecs && status == HT_OK; c++) {
        if (w->report.codecs[c].whole) {
            status = ht_codec_whole(&w->report.codecs[c], x, s->measured, s->cols, w->ctx->pool, &s->sums[c], err);
        }
    }
    ht_mem_free(x);
    return status;
}

static ht_status measure(struct work *w, ht_err *err) {
    ht_meter_init(&w->meter, w->ctx, "errors", "weights", w->total);
    for (size_t i = 0; i < w->report.n_subjects; i++) {
        w->subject = &w->report.subjects[i];
        w->task_rows = HT_TASK_ELEMS / w->subject->cols;
        w->task_rows = w->task_rows > 0 ? w->task_rows : 1;
        if (w->any_per_tensor) {
            HT_TRY(fit_tensor(w, err));
        }
        HT_TRY(run_tasks(w, measure_task, merge_sums, err));
        if (w->any_whole) {
            HT_TRY(measure_whole(w, err));
        }
        ht_source_drop(w->source, w->subject->tensor);
    }
    return ht_meter_tell(&w->meter, w->total, w->total * 4, NULL, err);
}

/* ---- results ------------------------------------------------------------------------------------------ */

void ht_error_total_of(const struct ht_error_report *r, size_t codec, enum ht_role role, struct ht_error_total *out) {
    *out = (struct ht_error_total){0};
    for (size_t i = 0; i < r->n_subjects; i++) {
        const struct ht_error_subject *s = &r->subjects[i];
        const struct ht_error_sums *e = &s->sums[codec];
        double weights = (double)s->rows * (double)s->cols;
        if (role != HT_ROLES && s->role != role) {
            continue;
        }
        if (e->n == 0) {
            out->skipped++;
            continue;
        }
        out->tensors++;
        out->weights += weights;
        out->bits += weights * ht_codec_bits(&r->codecs[codec], s->rows, s->cols);
        out->relative += weights * (e->xx > 0 ? e->ee / e->xx : 0);
        ht_error_merge(&out->sums, e);
    }
    out->bits = out->weights > 0 ? out->bits / out->weights : NAN;
    out->relative = out->weights > 0 ? out->relative / out->weights : NAN;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

static ht_status write_output(struct work *w, ht_err *err) {
    struct ht_buf text;
    ht_buf_init(&text, 0);
    if (ends_with(w->o->output, ".svg")) {
        ht_error_report_figure(&w->report, true, &text);
    } else {
        ht_error_report_page(&w->report, &text);
    }
    ht_status status = ht_buf_ok(&text) ? ht_write_file(w->o->output, text.data, text.len, w->o->force, err)
                                        : ht_fail_nomem(err, text.len);
    ht_buf_deinit(&text);
    return status;
}

static ht_status bind(struct work *w, ht_err *err) {
    const struct ht_arch *arch = NULL;
    struct ht_hparams hp;
    ht_err why = {.pos = HT_NO_POS};
    if (ht_arch_read(w->source, &arch, &hp, &why) != HT_OK) {
        return HT_OK; /* shapes are enough */
    }
    w->bindings = ht_mem_calloc(w->source->n_tensors + 1, sizeof *w->bindings);
    if (w->bindings == NULL) {
        return ht_fail_nomem(err, w->source->n_tensors * sizeof *w->bindings);
    }
    if (ht_arch_bind(w->source, arch, &hp, w->bindings, &why) == HT_OK) {
        w->report.arch = arch->name;
    } else {
        ht_mem_free(w->bindings);
        w->bindings = NULL;
    }
    return HT_OK;
}

static void release(struct work *w) {
    for (size_t i = 0; w->report.subjects != NULL && i < w->report.n_subjects; i++) {
        ht_mem_free(w->report.subjects[i].sums);
    }
    for (size_t i = 0; w->report.codecs != NULL && i < w->report.n_codecs; i++) {
        ht_codec_deinit(&w->report.codecs[i]);
    }
    for (int i = 0; w->rooms != NULL && i < w->n_threads; i++) {
        ht_codec_room_deinit(&w->rooms[i]);
    }
    ht_mem_free(w->report.subjects);
    ht_mem_free(w->report.codecs);
    ht_mem_free(w->rooms);
    ht_mem_free(w->x);
    ht_mem_free(w->parts);
    ht_mem_free(w->states);
    ht_mem_free(w->outcomes);
    ht_mem_free(w->grids);
    ht_mem_free(w->bindings);
    ht_source_close(w->source);
}

static ht_status check_place(const ht_errors_options *o, ht_err *err) {
    if (o->output == NULL) {
        return HT_OK;
    }
    if (!ends_with(o->output, ".svg") && !ends_with(o->output, ".html")) {
        return ht_fail(err, HT_INVAL, o->output, HT_NO_POS, "expected a name that ends in .svg (the figure) or .html "
                       "(a page with tables)");
    }
    return ht_flow_check_place(o->output, false, o->force, err);
}

ht_status ht_flow_errors(struct ht_context *ctx, const ht_errors_options *o, char **json, ht_err *err) {
    struct work w = {.o = o, .ctx = ctx};
    char name[256];
    ht_status status = HT_OK;
    HT_TRY(check_place(o, err));
    HT_TRY_DONE(choose_codecs(&w, err));
    HT_TRY_DONE(ht_source_open(o->path, &w.source, err));
    if (o->output != NULL) {
        HT_TRY_DONE(ht_flow_check_output(w.source, o->output, err));
    }
    ht_flow_base_name(o->path, name, sizeof name);
    w.report.path = name;
    HT_TRY_DONE(bind(&w, err));
    HT_TRY_DONE(choose_subjects(&w, err));
    HT_TRY_DONE(make_room(&w, err));
    HT_TRY_DONE(ht_error_limits_of(ht_density_find("gaussian"), &w.report.limits, err));
    HT_TRY_DONE(measure(&w, err));
    if (o->output != NULL) {
        HT_TRY_DONE(write_output(&w, err));
    }
    status = json != NULL ? ht_error_report_json(&w.report, o->output, json, err) : HT_OK;
done:
    release(&w);
    return status;
}
