/* Records -> rows. A record of eval makes a row; those of quantize and run join it when they speak of the same
 * file, else they make rows of their own. */
#include "flow/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"

#define WARNINGS_MAX 200

/* ---- reading fields ---------------------------------------------------------------------------------- */

const char *ht_report_text(const json_t *record, const char *key) {
    return json_string_value(json_object_get(record, key));
}

double ht_report_number(const json_t *record, const char *key) {
    const json_t *v = json_object_get(record, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static ht_estimate unknown(void) {
    return (ht_estimate){NAN, NAN, NAN};
}

static ht_estimate read_estimate(const json_t *record, const char *key) {
    const json_t *o = json_object_get(record, key);
    ht_estimate e = {ht_report_number(o, "mean"), ht_report_number(o, "low"), ht_report_number(o, "high")};
    return e;
}

/* A file is named by its path, or by an object with one. */
static const char *file_path(const json_t *record, const char *key) {
    const json_t *v = json_object_get(record, key);
    return json_is_object(v) ? ht_report_text(v, "path") : json_string_value(v);
}

/* ---- checks of a record ------------------------------------------------------------------------------ */

static ht_status malformed(const struct ht_report_record *r, const char *key, const char *expected, ht_err *err) {
    return ht_fail(err, HT_FORMAT, r->path, HT_NO_POS, "key '%s' of a %s record should be %s", key, r->schema,
                   expected);
}

/* Intervals are ordered where both ends are known. */
static ht_status check_interval(const struct ht_report_record *r, const char *key, ht_err *err) {
    ht_estimate e = read_estimate(r->json, key);
    if (e.low > e.high) {
        return ht_fail(err, HT_FORMAT, r->path, HT_NO_POS,
                       "key '%s' of a %s record: expected an interval, found low %g above high %g", key, r->schema,
                       e.low, e.high);
    }
    return HT_OK;
}

static ht_status check_eval(const struct ht_report_record *r, ht_err *err) {
    static const char *const estimates[] = {"perplexity",
                                            "reference_perplexity", "perplexity_ratio", "kld", "same_top"};
    if (file_path(r->json, "model") == NULL) {
        return malformed(r, "model.path", "a file name", err);
    }
    if (!(read_estimate(r->json, "perplexity").mean > 0)) {
        return malformed(r, "perplexity.mean", "a positive number", err);
    }
    const json_t *kld = json_object_get(r->json, "kld");
    if (kld != NULL && !(read_estimate(r->json, "kld").mean >= 0)) {
        return malformed(r, "kld.mean", "a number, at least 0", err);
    }
    for (size_t i = 0; i < sizeof estimates / sizeof estimates[0]; i++) {
        HT_TRY(check_interval(r, estimates[i], err));
    }
    const json_t *texts = json_object_get(r->json, "texts");
    if (texts != NULL && !json_is_array(texts)) {
        return malformed(r, "texts", "an array", err);
    }
    return HT_OK;
}

static ht_status check_quantize(const struct ht_report_record *r, ht_err *err) {
    if (file_path(r->json, "output") == NULL) {
        return malformed(r, "output.path", "a file name", err);
    }
    const json_t *tensors = json_object_get(r->json, "tensors");
    if (tensors != NULL && !json_is_array(tensors)) {
        return malformed(r, "tensors", "an array", err);
    }
    return HT_OK;
}

static ht_status check_run(const struct ht_report_record *r, ht_err *err) {
    return file_path(r->json, "model") != NULL ? HT_OK : malformed(r, "model", "a file name", err);
}

static ht_status check_imatrix(const struct ht_report_record *r, ht_err *err) {
    return file_path(r->json, "output") != NULL ? HT_OK : malformed(r, "output", "a file name", err);
}

static const struct {
    const char *schema;
    ht_status (*check)(const struct ht_report_record *r, ht_err *err);
} SCHEMAS[] = {
    {"halftone.eval/1", check_eval},
    {"halftone.quantize/1", check_quantize},
    {"halftone.run/1", check_run},
    {"halftone.imatrix/1", check_imatrix},
};

static ht_status check_record(struct ht_report_record *r, ht_err *err) {
    r->schema = ht_report_text(r->json, "schema");
    if (r->schema == NULL) {
        return ht_fail(err, HT_FORMAT, r->path, HT_NO_POS,
                       "not a record of halftone: an object with the key \"schema\" is expected, as --json "
                       "prints it");
    }
    for (size_t i = 0; i < sizeof SCHEMAS / sizeof SCHEMAS[0]; i++) {
        if (strcmp(r->schema, SCHEMAS[i].schema) == 0) {
            return SCHEMAS[i].check(r, err);
        }
    }
    return ht_fail(err, HT_UNSUPPORTED, r->path, HT_NO_POS,
                   "schema '%.64s' is not shown in reports; records of quantize, eval, run and imatrix are",
                   r->schema);
}

static bool is_kind(const struct ht_report_record *r, const char *kind) {
    size_t n = strlen(kind);
    return strncmp(r->schema, "halftone.", 9) == 0 && strncmp(r->schema + 9, kind, n) == 0 &&
           r->schema[9 + n] == '/';
}

/* ---- rows -------------------------------------------------------------------------------------------- */

static struct ht_report_row *add_row(struct ht_report *report, const char *path) {
    struct ht_report_row *row = &report->rows[report->n_rows++]; /* room: two per record */
    *row = (struct ht_report_row){.path = path, .bytes = NAN, .bits = NAN, .weights = NAN, .prefill = NAN,
                                  .decode = NAN, .kld_median = NAN, .kld_p99 = NAN, .kld_max = NAN};
    row->perplexity = row->ratio = row->kld = row->same_top = unknown();
    return row;
}

/* Records may name a file by its last part only: then size decides where both are known. */
static bool may_be(const struct ht_report_row *row, const char *path, double bytes) {
    return strcmp(ht_path_base(row->path), ht_path_base(path)) == 0 &&
           (isnan(bytes) || isnan(row->bytes) || row->bytes == bytes);
}

/* The path under which rows know the file: the same path, or the only one it may be; NULL: none. */
static const char *known_path(const struct ht_report *report, const char *path, double bytes) {
    const char *found = NULL;
    for (size_t i = 0; i < report->n_rows; i++) {
        if (strcmp(report->rows[i].path, path) == 0) {
            return report->rows[i].path;
        }
    }
    for (size_t i = 0; i < report->n_rows; i++) {
        const struct ht_report_row *row = &report->rows[i];
        if (may_be(row, path, bytes)) {
            if (found != NULL && strcmp(found, row->path) != 0) {
                return NULL;
            }
            found = row->path;
        }
    }
    return found;
}

/* The format that most weights of a file are stored in. */
static const char *main_format(const json_t *file) {
    const char *format = NULL;
    double most = 0.0;
    const json_t *f;
    size_t i;
    json_array_foreach(json_object_get(file, "formats"), i, f) {
        if (ht_report_number(f, "weights") > most) {
            most = ht_report_number(f, "weights");
            format = ht_report_text(f, "format");
        }
    }
    return format;
}

static void read_eval(struct ht_report_row *row, const json_t *e) {
    const json_t *model = json_object_get(e, "model"), *kld = json_object_get(e, "kld");
    row->eval = e;
    row->bytes = ht_report_number(model, "file_bytes");
    row->bits = ht_report_number(model, "bits_per_weight");
    row->weights = ht_report_number(model, "weights");
    row->prefill = ht_report_number(e, "tokens_per_s");
    row->perplexity = read_estimate(e, "perplexity");
    row->ratio = read_estimate(e, "perplexity_ratio");
    row->kld = read_estimate(e, "kld");
    row->same_top = read_estimate(e, "same_top");
    row->kld_median = ht_report_number(kld, "median");
    row->kld_p99 = ht_report_number(kld, "p99");
    row->kld_max = ht_report_number(kld, "max");
    row->format = main_format(model);
}

/* Speeds of the reference were measured beside another model; only its size and perplexity are shown. */
static void read_reference(struct ht_report_row *row, const json_t *e) {
    const json_t *ref = json_object_get(e, "reference");
    row->reference = true;
    row->bytes = ht_report_number(ref, "file_bytes");
    row->bits = ht_report_number(ref, "bits_per_weight");
    row->weights = ht_report_number(ref, "weights");
    row->prefill = ht_report_number(ref, "tokens_per_s");
    row->perplexity = read_estimate(e, "reference_perplexity");
    row->format = main_format(ref);
}

static void join_quantize(struct ht_report *report, const json_t *q) {
    const char *output = file_path(q, "output");
    double bytes = ht_report_number(q, "bytes");
    const char *path = known_path(report, output, bytes);
    if (path == NULL) {
        path = add_row(report, output)->path;
    }
    for (size_t i = 0; i < report->n_rows; i++) {
        struct ht_report_row *row = &report->rows[i];
        if (strcmp(row->path, path) == 0) {
            row->quantize = q;
            row->format = ht_report_text(q, "format") != NULL ? ht_report_text(q, "format") : row->format;
            row->method = ht_report_text(q, "method");
            row->bytes = isnan(row->bytes) ? bytes : row->bytes;
            row->bits = isnan(row->bits) ? ht_report_number(q, "bits_per_weight") : row->bits;
            row->weights = isnan(row->weights) ? ht_report_number(q, "weights") : row->weights;
        }
    }
}

static void join_run(struct ht_report *report, const json_t *run) {
    const char *model = file_path(run, "model"), *path = known_path(report, model, NAN);
    if (path == NULL) {
        path = add_row(report, model)->path;
    }
    for (size_t i = 0; i < report->n_rows; i++) {
        struct ht_report_row *row = &report->rows[i];
        if (strcmp(row->path, path) == 0) {
            row->run = run;
            row->decode = ht_report_number(run, "decode_tokens_per_s");
            row->prefill = isnan(row->prefill) ? ht_report_number(run, "prefill_tokens_per_s") : row->prefill;
        }
    }
}

/* The row of an evaluation's reference, which another record may have made already. */
static void join_reference(struct ht_report *report, const json_t *e) {
    const char *path = file_path(e, "reference");
    if (path == NULL) {
        return;
    }
    const char *known = known_path(report, path, ht_report_number(json_object_get(e, "reference"), "file_bytes"));
    if (known == NULL) {
        read_reference(add_row(report, path), e);
    }
    for (size_t i = 0; known != NULL && i < report->n_rows; i++) {
        report->rows[i].reference |= strcmp(report->rows[i].path, known) == 0;
    }
}

static void make_rows(struct ht_report *report) {
    for (size_t i = 0; i < report->n_records; i++) {
        const struct ht_report_record *r = &report->records[i];
        if (is_kind(r, "eval")) {
            read_eval(add_row(report, file_path(r->json, "model")), r->json);
        }
    }
    size_t n_evals = report->n_rows;
    for (size_t i = 0; i < n_evals; i++) {
        join_reference(report, report->rows[i].eval);
    }
    for (size_t i = 0; i < report->n_records; i++) {
        if (is_kind(&report->records[i], "quantize")) {
            join_quantize(report, report->records[i].json);
        }
    }
    for (size_t i = 0; i < report->n_records; i++) {
        if (is_kind(&report->records[i], "run")) {
            join_run(report, report->records[i].json);
        }
    }
}

static int by_size(const void *a, const void *b) {
    const struct ht_report_row *x = a, *y = b;
    if (x->reference != y->reference) {
        return x->reference ? -1 : 1;
    }
    double xb = isnan(x->bytes) ? -1.0 : x->bytes, yb = isnan(y->bytes) ? -1.0 : y->bytes;
    if (xb != yb) {
        return xb < yb ? 1 : -1;
    }
    return strcmp(x->path, y->path);
}

/* The last part of the path; two parts when several rows would read the same. */
static ht_status name_rows(struct ht_report *report, ht_err *err) {
    for (size_t i = 0; i < report->n_rows; i++) {
        struct ht_report_row *row = &report->rows[i];
        const char *name = ht_path_base(row->path);
        for (size_t k = 0; k < report->n_rows; k++) {
            const char *other = report->rows[k].path;
            if (k != i && strcmp(other, row->path) != 0 && strcmp(ht_path_base(other), name) == 0) {
                name = row->path;
            }
        }
        size_t len = strlen(name);
        if (len > 5 && strcmp(name + len - 5, ".gguf") == 0) {
            len -= 5;
        }
        row->name = ht_arena_strndup(&report->arena, name, len);
        if (row->name == NULL) {
            return ht_fail_nomem(err, len);
        }
    }
    return HT_OK;
}

/* A row is beaten by a smaller one whose interval of the divergence lies wholly below its own. */
static void find_beaten(struct ht_report *report) {
    for (size_t i = 0; i < report->n_rows; i++) {
        struct ht_report_row *row = &report->rows[i];
        for (size_t k = 0; k < report->n_rows; k++) {
            const struct ht_report_row *o = &report->rows[k];
            if (o->bytes < row->bytes && o->kld.high < row->kld.low &&
                (row->beaten_by == NULL || o->kld.mean < row->beaten_by->kld.mean)) {
                row->beaten_by = o;
            }
        }
    }
}

static const struct {
    double below;
    const char *word;
} VERDICTS[] = {
    {1e-12, "identical"},    {0.005, "nearly lossless"}, {0.02, "very small loss"}, {0.05, "small loss"},
    {0.15, "moderate loss"}, {0.5, "heavy loss"},        {INFINITY, "severe loss"},
};

const char *ht_report_verdict(const struct ht_report_row *row, int *level) {
    *level = -1;
    if (isnan(row->kld.mean)) {
        return "";
    }
    int i = 0;
    while (!(row->kld.mean < VERDICTS[i].below) && i < 6) {
        i++;
    }
    *level = i;
    return VERDICTS[i].word;
}

/* ---- warnings ---------------------------------------------------------------------------------------- */

static void warn(struct ht_report *report, const char *about, const char *text) {
    if (text == NULL || report->n_warnings == report->cap_warnings) {
        return;
    }
    for (size_t i = 0; i < report->n_warnings; i++) {
        const struct ht_report_warning *w = &report->warnings[i];
        if (strcmp(w->text, text) == 0 && (w->about == about || (w->about && about && strcmp(w->about, about) == 0))) {
            return;
        }
    }
    report->warnings[report->n_warnings++] = (struct ht_report_warning){about, text};
}

static void warn_all(struct ht_report *report, const char *about, const json_t *array) {
    size_t i;
    const json_t *v;
    json_array_foreach(array, i, v) {
        const char *text = json_is_object(v) ? ht_report_text(v, "message") : json_string_value(v);
        warn(report, about, text);
    }
}

/* "180 tensors fell back: q4_k -> q5_0 (150), q6_k -> q8_0 (30)". */
static const char *fallback_text(struct ht_report *report, const json_t *tensors) {
    struct {
        const char *wanted, *format;
        unsigned n;
    } kinds[12] = {{0}};
    size_t n_kinds = 0, i;
    unsigned total = 0;
    const json_t *t;
    json_array_foreach(tensors, i, t) {
        const char *wanted = ht_report_text(t, "wanted"), *format = ht_report_text(t, "format");
        if (wanted == NULL || format == NULL || strcmp(wanted, format) == 0) {
            continue;
        }
        total++;
        size_t k = 0;
        while (k < n_kinds && (strcmp(kinds[k].wanted, wanted) != 0 || strcmp(kinds[k].format, format) != 0)) {
            k++;
        }
        if (k == n_kinds && n_kinds < sizeof kinds / sizeof kinds[0]) {
            kinds[n_kinds].wanted = wanted;
            kinds[n_kinds++].format = format;
        }
        if (k < n_kinds) {
            kinds[k].n++;
        }
    }
    if (total == 0) {
        return NULL;
    }
    struct ht_buf b;
    ht_buf_init(&b, 0);
    ht_buf_printf(&b, "%u of %zu tensors are stored in another format than asked for:", total,
                  json_array_size(tensors));
    for (size_t k = 0; k < n_kinds; k++) {
        ht_buf_printf(&b, "%s %.40s -> %.40s (%u)", k ? "," : "", kinds[k].wanted, kinds[k].format, kinds[k].n);
    }
    const char *text = ht_buf_ok(&b) ? ht_arena_strdup(&report->arena, b.data) : NULL;
    report->failed |= text == NULL;
    ht_buf_deinit(&b);
    return text;
}

static bool differs(const struct ht_report *report, const char *key) {
    const json_t *first = NULL;
    for (size_t i = 0; i < report->n_rows; i++) {
        const json_t *v = json_object_get(report->rows[i].eval, key);
        if (v != NULL && first != NULL && !json_equal(first, v)) {
            return true;
        }
        first = first != NULL ? first : v;
    }
    return false;
}

static bool texts_differ(const struct ht_report *report) {
    const json_t *first = NULL;
    for (size_t i = 0; i < report->n_rows; i++) {
        const json_t *texts = json_object_get(report->rows[i].eval, "texts");
        if (texts != NULL && first != NULL) {
            bool same = json_array_size(texts) == json_array_size(first);
            for (size_t k = 0; same && k < json_array_size(texts); k++) {
                const char *a = ht_report_text(json_array_get(texts, k), "sha256");
                const char *b = ht_report_text(json_array_get(first, k), "sha256");
                same = a != NULL && b != NULL && strcmp(a, b) == 0;
            }
            if (!same) {
                return true;
            }
        }
        first = first != NULL ? first : texts;
    }
    return false;
}

static bool references_differ(const struct ht_report *report) {
    size_t n = 0;
    for (size_t i = 0; i < report->n_rows; i++) {
        n += report->rows[i].reference;
    }
    return n > 1;
}

static void find_warnings(struct ht_report *report) {
    static const char *const settings[] = {"ctx", "convention", "math", "tokens_scored"};
    bool mixed = texts_differ(report);
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        mixed |= differs(report, settings[i]);
    }
    if (!mixed && !references_differ(report)) {
        find_beaten(report);
    } else if (mixed) {
        warn(report, NULL, "the rows were measured with different settings or texts (see Provenance): compare "
                           "figures only within one setting");
    }
    if (references_differ(report)) {
        warn(report, NULL, "the rows have different reference models: divergences are comparable only within one");
    }
    for (size_t i = 0; i < report->n_rows; i++) {
        const struct ht_report_row *row = &report->rows[i];
        warn_all(report, NULL, json_object_get(row->eval, "warnings"));
        if (json_is_false(json_object_get(row->eval, "interval_reliable"))) {
            warn(report, NULL, "intervals from fewer than 8 windows are too narrow: measure on more text");
        }
        const json_t *tensors = json_object_get(row->quantize, "tensors");
        warn(report, row->name, fallback_text(report, tensors));
        warn_all(report, row->name, json_object_get(row->quantize, "warnings"));
        if (ht_report_number(row->quantize, "nonfinite_zeroed") > 0) {
            warn(report, row->name, "NaN or infinite weights of the input became 0");
        }
    }
}

ht_status ht_report_rows(struct ht_report *report, ht_err *err) {
    for (size_t i = 0; i < report->n_records; i++) {
        HT_TRY(check_record(&report->records[i], err));
    }
    report->cap_warnings = WARNINGS_MAX;
    report->rows = ht_arena_calloc(&report->arena, 2 * report->n_records + 1, sizeof *report->rows);
    report->warnings = ht_arena_calloc(&report->arena, WARNINGS_MAX, sizeof *report->warnings);
    if (report->rows == NULL || report->warnings == NULL) {
        return ht_fail_nomem(err, WARNINGS_MAX * sizeof *report->warnings);
    }
    make_rows(report);
    qsort(report->rows, report->n_rows, sizeof *report->rows, by_size);
    HT_TRY(name_rows(report, err));
    find_warnings(report);
    return report->failed ? ht_fail_nomem(err, 0) : HT_OK;
}
