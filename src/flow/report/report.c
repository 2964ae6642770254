#include "flow/report.h"

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/mem.h"
#include "flow/flow.h"
#include "flow/flow_paths.h"

#define RECORDS_MAX 1000

/* The caller's text as UTF-8: other bytes become '?'. */
static const char *clean(struct ht_arena *arena, const char *s) {
    json_t *probe = json_string(s);
    bool utf8 = probe != NULL;
    json_decref(probe);
    char *copy = ht_arena_strdup(arena, s);
    for (char *c = copy; c != NULL && !utf8 && *c; c++) {
        *c = (unsigned char)*c >= 0x80 ? '?' : *c;
    }
    return copy;
}

static ht_status load(struct ht_report *report, const char *const *paths, size_t n, ht_err *err) {
    report->records = ht_arena_calloc(&report->arena, n, sizeof *report->records);
    if (report->records == NULL) {
        return ht_fail_nomem(err, n * sizeof *report->records);
    }
    for (size_t i = 0; i < n; i++) {
        struct ht_report_record *r = &report->records[i];
        r->path = clean(&report->arena, paths[i]);
        if (r->path == NULL) {
            return ht_fail_nomem(err, 0);
        }
        HT_TRY(ht_json_load_file(paths[i], HT_MAX_JSON_BYTES, &r->json, err));
        report->n_records++;
    }
    return HT_OK;
}

static void unload(struct ht_report *report) {
    for (size_t i = 0; i < report->n_records; i++) {
        json_decref(report->records[i].json);
    }
    ht_arena_deinit(&report->arena);
}

static json_t *warnings_json(const struct ht_report *report) {
    json_t *array = json_array();
    for (size_t i = 0; i < report->n_warnings; i++) {
        const struct ht_report_warning *w = &report->warnings[i];
        json_array_append_new(array, w->about != NULL ? json_sprintf("%s: %s", w->about, w->text)
                                                      : json_string(w->text));
    }
    return array;
}

static ht_status describe(const struct ht_report *report, const char *output, size_t bytes, char **json,
                          ht_err *err) {
    struct ht_buf markdown;
    ht_buf_init(&markdown, 0);
    ht_report_markdown(report, &markdown);
    ht_status status;
    if (!ht_buf_ok(&markdown)) {
        status = ht_fail_nomem(err, 0);
    } else {
        const char *shown = clean((struct ht_arena *)&report->arena, output);
        json_t *record = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:o, s:s, s:o}", "schema", "halftone.report/1",
                                   "version", ht_version(), "title", report->title, "output", shown, "bytes",
                                   (json_int_t)bytes, "records", (json_int_t)report->n_records, "table",
                                   ht_report_cells(report), "markdown", markdown.data, "warnings",
                                   warnings_json(report));
        status = ht_json_text(record, json, err);
        json_decref(record);
    }
    ht_buf_deinit(&markdown);
    return status;
}

ht_status ht_flow_report(struct ht_context *ctx, const char *title, const char *const *records, size_t n,
                         const char *output, bool force, char **json, ht_err *err) {
    (void)ctx;
    if (n == 0 || n > RECORDS_MAX) {
        return ht_fail(err, HT_INVAL, "records", HT_NO_POS, "a report needs 1 to %d records, found %zu", RECORDS_MAX,
                       n);
    }
    HT_TRY(ht_flow_check_inputs(output, records, n, err));
    struct ht_report report = {0};
    struct ht_buf page;
    ht_arena_init(&report.arena, 0);
    ht_buf_init(&page, 0);
    ht_status status = HT_OK;
    report.title = clean(&report.arena, title != NULL && title[0] != 0 ? title : "Quantization report");
    if (report.title == NULL) {
        status = ht_fail_nomem(err, 0);
        goto done;
    }
    HT_TRY_DONE(load(&report, records, n, err));
    HT_TRY_DONE(ht_report_rows(&report, err));
    ht_report_page(&report, &page);
    if (!ht_buf_ok(&page)) {
        status = ht_fail_nomem(err, page.len);
        goto done;
    }
    HT_TRY_DONE(ht_write_file(output, page.data, page.len, force, err));
    if (json != NULL) {
        status = describe(&report, output, page.len, json, err);
    }
done:
    ht_buf_deinit(&page);
    unload(&report);
    return status;
}
