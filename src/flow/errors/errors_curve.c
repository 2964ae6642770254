/* list formats --curve: seeded rows of known densities through every format, beside what theory allows. */
#include <math.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "flow/errors.h"
#include "flow/flow.h"
#include "flow/flow_paths.h"

#define COLS 4096u
#define TASK_ROWS 4u
#define MAX_ROWS 4096u

/* The schemes of code formats that are measured when none are named. */
static const char *const schemes[] = {
    "int2:g32",     "int3:g64",     "int3:channel",     "int4:g32",         "int4:g128",       "int4:channel",
    "uint4:g64",    "int5:channel", "int6:channel",     "int8:channel",     "ternary:g256",    "nf4:g64",
    "fp4:g64",      "fp4_e2m1:g32:scale=e8m0",          "fp6_e2m3:channel", "fp8_e4m3:channel", "fp8_e5m2:channel"};

struct task_end {
    ht_status status;
    ht_err err;
};

struct curve {
    const ht_curve_options *o;
    struct ht_codec *codecs;
    size_t n_codecs, n_densities;
    const struct ht_density **densities;
    struct ht_error_limits *limits; /* [n_densities] */
    float *x;                       /* [n_densities, rows, COLS] */
    size_t rows, n_tasks;           /* tasks: of one density */
    size_t codec;                   /* in work */
    struct ht_affine *grids;        /* [n_densities] of a codec with one scale per tensor */
    struct ht_range_state *state;
    struct task_end *ends;          /* [n_densities, n_tasks] */
    struct ht_error_sums *parts;    /* [n_densities, n_tasks] */
    struct ht_error_sums *sums;     /* [n_codecs, n_densities] */
    struct ht_codec_room *rooms;    /* [threads] */
    int n_rooms;
};

static void draw_task(void *ctx, size_t i, int thread) {
    struct curve *c = ctx;
    (void)thread;
    const struct ht_density *d = c->densities[i / c->rows];
    struct ht_rng rng;
    ht_rng_init(&rng, c->o->seed * 0x9e3779b97f4a7c15u + i % c->rows); /* a stream per row */
    for (uint32_t k = 0; k < COLS; k++) {
        c->x[i * COLS + k] = (float)d->draw(&rng);
    }
}

static void measure_task(void *ctx, size_t i, int thread) {
    struct curve *c = ctx;
    size_t first = i % c->n_tasks * TASK_ROWS, rows = c->rows - first < TASK_ROWS ? c->rows - first : TASK_ROWS;
    const struct ht_codec *codec = &c->codecs[c->codec];
    size_t density = i / c->n_tasks;
    c->parts[i] = (struct ht_error_sums){0};
    c->ends[i] = (struct task_end){0};
    c->ends[i].status = ht_codec_rows(codec, ht_codec_per_tensor(codec) ? &c->grids[density] : NULL,
                                      c->x + (density * c->rows + first) * COLS, rows, COLS, &c->rooms[thread],
                                      &c->parts[i], &c->ends[i].err);
}

/* ---- what is measured --------------------------------------------------------------------------------- */

static bool by_default(const struct ht_format *f) {
    return f->kind != HT_KIND_INT && f->kind != HT_KIND_CODE && f->encode != NULL && ht_format_bits(f) <= 16;
}

static ht_status add_codec(struct curve *c, const char *text, ht_err *err) {
    struct ht_codec *codec = &c->codecs[c->n_codecs++];
    HT_TRY(ht_codec_parse(text, codec, err));
    if (codec->scaled && !codec->whole) {
        HT_TRY(ht_codec_set_range(codec, c->o->range != NULL ? c->o->range : "mse", err));
    }
    return ht_codec_fits(codec, COLS) ? HT_OK
                                      : ht_fail(err, HT_INVAL, "format", HT_NO_POS,
                                                "%s with this range does not fit rows of %u values", codec->name, COLS);
}

static ht_status choose_codecs(struct curve *c, ht_err *err) {
    size_t n_schemes = sizeof schemes / sizeof schemes[0];
    size_t room = c->o->n_formats > 0 ? c->o->n_formats : ht_format_count() + n_schemes;
    c->codecs = ht_mem_calloc(room, sizeof *c->codecs);
    if (c->codecs == NULL) {
        return ht_fail_nomem(err, room * sizeof *c->codecs);
    }
    for (size_t i = 0; i < c->o->n_formats; i++) {
        HT_TRY(add_codec(c, c->o->formats[i], err));
    }
    if (c->o->n_formats > 0) {
        return HT_OK;
    }
    for (size_t i = 0; i < ht_format_count(); i++) {
        if (by_default(ht_format_at(i))) {
            HT_TRY(add_codec(c, ht_format_at(i)->name, err));
        }
    }
    for (size_t i = 0; i < n_schemes; i++) {
        HT_TRY(add_codec(c, schemes[i], err));
    }
    return HT_OK;
}

static ht_status choose_densities(struct curve *c, ht_err *err) {
    char near[128];
    c->densities = ht_mem_calloc(ht_density_count(), sizeof *c->densities);
    c->limits = ht_mem_calloc(ht_density_count(), sizeof *c->limits);
    if (c->densities == NULL || c->limits == NULL) {
        return ht_fail_nomem(err, ht_density_count() * sizeof *c->limits);
    }
    const struct ht_density *only = c->o->source != NULL ? ht_density_find(c->o->source) : NULL;
    if (c->o->source != NULL && only == NULL) {
        ht_nearest(c->o->source, ht_density_name_at, NULL, ht_density_count(), near, sizeof near);
        return ht_fail(err, HT_INVAL, "source", HT_NO_POS,
                       "no source is called '%.64s'%s%s; there are gaussian, laplace and student-t", c->o->source,
                       near[0] != '\0' ? "; did you mean " : "", near);
    }
    for (size_t i = 0; i < ht_density_count(); i++) {
        if (only == NULL || only == ht_density_at(i)) {
            c->densities[c->n_densities++] = ht_density_at(i);
        }
    }
    for (size_t i = 0; i < c->n_densities; i++) {
        HT_TRY(ht_error_limits_of(c->densities[i], &c->limits[i], err));
    }
    return HT_OK;
}

static ht_status make_room(struct curve *c, struct ht_context *ctx, ht_err *err) {
    int threads = ht_pool_threads(ctx->pool);
    c->rows = c->o->rows;
    c->n_tasks = (c->rows + TASK_ROWS - 1) / TASK_ROWS;
    c->x = ht_mem_alloc_array(c->n_densities * c->rows, COLS * sizeof *c->x);
    c->parts = ht_mem_calloc(c->n_densities * c->n_tasks, sizeof *c->parts);
    c->sums = ht_mem_calloc(c->n_codecs * c->n_densities, sizeof *c->sums);
    c->rooms = ht_mem_calloc((size_t)threads, sizeof *c->rooms);
    c->ends = ht_mem_calloc(c->n_densities * c->n_tasks, sizeof *c->ends);
    c->grids = ht_mem_calloc(c->n_densities, sizeof *c->grids);
    c->state = ht_mem_calloc(1, sizeof *c->state);
    if (c->x == NULL || c->parts == NULL || c->sums == NULL || c->rooms == NULL || c->ends == NULL ||
        c->grids == NULL || c->state == NULL) {
        return ht_fail_nomem(err, c->n_densities * c->rows * COLS * sizeof *c->x);
    }
    for (; c->n_rooms < threads; c->n_rooms++) {
        HT_TRY(ht_codec_room_init(&c->rooms[c->n_rooms], COLS, err));
    }
    return HT_OK;
}

/* One grid for all rows of a density. */
static ht_status fit_tensor(struct curve *c, ht_err *err) {
    for (size_t d = 0; d < c->n_densities; d++) {
        HT_TRY(ht_range_state_init(c->state, 0, err));
        HT_TRY(ht_range_state_add(c->state, c->x + d * c->rows * COLS, c->rows * COLS, err));
        HT_TRY(ht_codec_fit_tensor(&c->codecs[c->codec], c->state, &c->grids[d], err));
    }
    return HT_OK;
}

static ht_status measure_codec(struct curve *c, struct ht_context *ctx, ht_err *err) {
    const struct ht_codec *codec = &c->codecs[c->codec];
    struct ht_error_sums *sums = c->sums + c->codec * c->n_densities;
    if (codec->whole) {
        for (size_t d = 0; d < c->n_densities; d++) {
            HT_TRY(ht_codec_whole(codec, c->x + d * c->rows * COLS, c->rows, COLS, ctx->pool, &sums[d], err));
        }
        return HT_OK;
    }
    if (ht_codec_per_tensor(codec)) {
        HT_TRY(fit_tensor(c, err));
    }
    ht_pool_run(ctx->pool, c->n_densities * c->n_tasks, measure_task, c);
    for (size_t i = 0; i < c->n_densities * c->n_tasks; i++) { /* in task order, whatever ran first */
        if (c->ends[i].status != HT_OK) {
            return ht_fail(err, c->ends[i].status, codec->name, HT_NO_POS, "%s", c->ends[i].err.msg);
        }
        ht_error_merge(&sums[i / c->n_tasks], &c->parts[i]);
    }
    return HT_OK;
}

static ht_status measure(struct curve *c, struct ht_context *ctx, ht_err *err) {
    struct ht_meter meter;
    ht_meter_init(&meter, ctx, "curve", "formats", c->n_codecs);
    ht_pool_run(ctx->pool, c->n_densities * c->rows, draw_task, c);
    for (c->codec = 0; c->codec < c->n_codecs; c->codec++) {
        HT_TRY(ht_meter_tell(&meter, c->codec, 0, c->codecs[c->codec].name, err));
        HT_TRY(measure_codec(c, ctx, err));
    }
    return ht_meter_tell(&meter, c->n_codecs, 0, NULL, err);
}

/* ---- results ------------------------------------------------------------------------------------------ */

static void add_laws(struct ht_doc *d) {
    static const struct {
        const char *name;
        double peak;
    } rows[] = {{"even over the range", 1.7320508075688772}, {"sine over the range", 1.4142135623730951},
                {"Gaussian, range of 4 sigma", 4}};
    json_t *laws = ht_doc_array(d, d->root, "laws");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ht_doc_append(d, laws, json_pack("{s:s, s:f, s:f}", "input", rows[i].name, "db_per_bit", HT_DB_PER_BIT,
                                         "constant_db", ht_law_constant(rows[i].peak)));
    }
}

static ht_status describe(const struct curve *c, char **json, ht_err *err) {
    struct ht_doc d;
    ht_doc_init(&d, "halftone.curve/1");
    ht_doc_set(&d, d.root, "seed", json_integer((json_int_t)c->o->seed));
    ht_doc_set(&d, d.root, "rows", json_integer((json_int_t)c->rows));
    ht_doc_set(&d, d.root, "cols", json_integer(COLS));
    add_laws(&d);
    json_t *sources = ht_doc_array(&d, d.root, "sources");
    for (size_t i = 0; i < c->n_densities; i++) {
        json_t *o = json_pack("{s:s, s:s, s:f, s:f}", "name", c->densities[i]->name, "summary",
                              c->densities[i]->summary, "bound_factor", c->limits[i].power, "panter_dite",
                              c->limits[i].panter_dite);
        ht_doc_set(&d, o, "limits", ht_error_limits_json(&d, &c->limits[i]));
        ht_doc_append(&d, sources, o);
    }
    json_t *formats = ht_doc_array(&d, d.root, "formats");
    for (size_t k = 0; k < c->n_codecs; k++) {
        json_t *o = json_object();
        double bits = ht_codec_bits(&c->codecs[k], c->rows, COLS);
        ht_doc_set(&d, o, "name", json_string(c->codecs[k].name));
        const char *range = c->codecs[k].range_name;
        ht_doc_set(&d, o, "range", range[0] != '\0' ? json_string(range) : json_null());
        ht_doc_set(&d, o, "family", json_string(ht_codec_group(&c->codecs[k])));
        ht_doc_set(&d, o, "bits_per_weight", ht_doc_real(bits));
        for (size_t i = 0; i < c->n_densities; i++) {
            ht_doc_set(&d, o, c->densities[i]->name, ht_errors_json(&d, &c->sums[k * c->n_densities + i], bits));
        }
        ht_doc_append(&d, formats, o);
    }
    ht_precision_json(&d);
    if (c->o->output != NULL) {
        char name[256];
        ht_flow_base_name(c->o->output, name, sizeof name);
        ht_doc_set(&d, d.root, "output", ht_doc_text(name, strlen(name)));
    }
    return ht_doc_finish(&d, json, err);
}

/* Of the first density. */
static ht_status draw_figure(const struct curve *c, struct ht_buf *out, ht_err *err) {
    struct ht_error_point *points = ht_mem_calloc(c->n_codecs, sizeof *points);
    struct ht_error_line lines[3];
    char title[160];
    if (points == NULL) {
        return ht_fail_nomem(err, c->n_codecs * sizeof *points);
    }
    for (size_t k = 0; k < c->n_codecs; k++) {
        struct ht_error_figures f;
        ht_error_figures(&c->sums[k * c->n_densities], &f);
        points[k] = (struct ht_error_point){c->codecs[k].name, ht_codec_group(&c->codecs[k]),
                                            ht_codec_bits(&c->codecs[k], c->rows, COLS), f.relative};
    }
    ht_error_limits_lines(&c->limits[0], lines);
    snprintf(title, sizeof title, "Error of each format on %s rows (%zu x %u values, seed %llu)", c->densities[0]->name,
             c->rows, COLS, (unsigned long long)c->o->seed);
    struct ht_error_plot plot = {title, "mean squared error over variance", points, c->n_codecs, lines, 3, true};
    ht_errors_figure(&plot, true, out);
    ht_mem_free(points);
    return ht_buf_ok(out) ? HT_OK : ht_fail_nomem(err, out->len);
}

static void release(struct curve *c) {
    for (int i = 0; i < c->n_rooms; i++) {
        ht_codec_room_deinit(&c->rooms[i]);
    }
    for (size_t i = 0; c->codecs != NULL && i < c->n_codecs; i++) {
        ht_codec_deinit(&c->codecs[i]);
    }
    ht_mem_free(c->ends);
    ht_mem_free(c->grids);
    ht_mem_free(c->state);
    ht_mem_free(c->rooms);
    ht_mem_free(c->parts);
    ht_mem_free(c->sums);
    ht_mem_free(c->x);
    ht_mem_free(c->limits);
    ht_mem_free(c->densities);
    ht_mem_free(c->codecs);
}

ht_status ht_flow_curve(struct ht_context *ctx, const ht_curve_options *o, char **json, ht_err *err) {
    struct curve c = {.o = o};
    struct ht_buf figure;
    ht_status status = HT_OK;
    ht_buf_init(&figure, 0);
    if (o->rows == 0 || o->rows > MAX_ROWS) {
        return ht_fail(err, HT_INVAL, "rows", HT_NO_POS, "expected 1 to %u rows, found %u", MAX_ROWS, o->rows);
    }
    if (o->output != NULL) {
        HT_TRY(ht_flow_check_place(o->output, false, o->force, err));
    }
    HT_TRY_DONE(choose_codecs(&c, err));
    HT_TRY_DONE(choose_densities(&c, err));
    HT_TRY_DONE(make_room(&c, ctx, err));
    HT_TRY_DONE(measure(&c, ctx, err));
    if (o->output != NULL) {
        HT_TRY_DONE(draw_figure(&c, &figure, err));
        HT_TRY_DONE(ht_write_file(o->output, figure.data, figure.len, o->force, err));
    }
    status = json != NULL ? describe(&c, json, err) : HT_OK;
done:
    ht_buf_deinit(&figure);
    release(&c);
    return status;
}
