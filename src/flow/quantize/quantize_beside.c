/* The record beside the output: OUTPUT.record.json, and the same as a page, OUTPUT.record.html. */
#include <stdio.h>
#include <string.h>

#include "base/append.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/mem.h"
#include "flow/flow.h"
#include "flow/flow_paths.h"
#include "flow/quantize/quantize.h"

static char *with_suffix(const char *output, const char *suffix) {
    size_t len = strlen(output);
    while (len > 1 && output[len - 1] == '/') { /* of a folder */
        len--;
    }
    size_t room = len + strlen(suffix) + 1;
    char *path = ht_mem_alloc(room);
    if (path != NULL) {
        snprintf(path, room, "%.*s%s", (int)len, output, suffix);
    }
    return path;
}

/* A record that this program wrote. */
static bool is_record(const char *json) {
    static const char mark[] = "\"schema\": \"halftone.quantize/1\"";
    char *data = NULL;
    size_t len = 0;
    bool ours = ht_path_exists(json) && ht_read_file(json, HT_MAX_JSON_BYTES, &data, &len, NULL) == HT_OK &&
                len > sizeof mark && memmem(data, len < 100 ? len : 100, mark, sizeof mark - 1) != NULL;
    ht_mem_free(data);
    return ours;
}

static bool may_replace(const char *json, const char *html) {
    return (!ht_path_exists(json) && !ht_path_exists(html)) || is_record(json);
}

static ht_status write_both(struct ht_context *ctx, struct ht_quant_job *j, const char *record, ht_err *err) {
    char *json = with_suffix(j->o->output, HT_RECORD_JSON), *html = with_suffix(j->o->output, HT_RECORD_HTML);
    char name[256], title[400];
    const char *const inputs[] = {json};
    struct ht_buf text;
    ht_status status;
    ht_buf_init(&text, 0);
    ht_buf_puts(&text, record);
    ht_buf_putc(&text, '\n');
    ht_flow_base_name(j->o->output, name, sizeof name);
    snprintf(title, sizeof title, "%s, %s", name, j->recipe.name);
    if (json == NULL || html == NULL || !ht_buf_ok(&text)) {
        status = ht_fail_nomem(err, strlen(j->o->output));
    } else if (!j->o->force && !may_replace(json, html)) {
        status = ht_fail(err, HT_EXISTS, json, HT_NO_POS, "it exists and is no record; --force replaces it");
    } else {
        status = ht_write_file(json, text.data, text.len, true, err);
        ht_err page = {0};
        if (status == HT_OK && ht_flow_report(ctx, title, inputs, 1, html, true, NULL, &page) != HT_OK) {
            ht_quant_warn(ctx, j, "the record's page could not be written: %s: %s", page.what, page.msg);
        }
    }
    ht_buf_deinit(&text);
    ht_mem_free(json);
    ht_mem_free(html);
    return status;
}

void ht_quant_drop_records(struct ht_context *ctx, struct ht_quant_job *j) {
    char *json = with_suffix(j->o->output, HT_RECORD_JSON), *html = with_suffix(j->o->output, HT_RECORD_HTML);
    if (json != NULL && html != NULL && is_record(json)) {
        ht_err err = {0};
        bool gone = ht_remove_file(json, &err) == HT_OK && ht_remove_file(html, &err) == HT_OK;
        ht_quant_warn(ctx, j, "%s was the record of an earlier output%s%s", ht_path_base(json),
                      gone ? ": removed, with its page" : ", and could not be removed: ", gone ? "" : err.msg);
    }
    ht_mem_free(json);
    ht_mem_free(html);
}

bool ht_quant_write_records(struct ht_context *ctx, struct ht_quant_job *j, const char *record) {
    ht_err err = {0};
    if (write_both(ctx, j, record, &err) == HT_OK) {
        return true;
    }
    ht_quant_warn(ctx, j, "the output is complete, but its record could not be written: %s: %s", err.what, err.msg);
    ht_quant_drop_records(ctx, j);
    return false;
}
