/* A hostile record: any JSON becomes an error or a page. */
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "flow/report.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ht_report_record record = {.path = "record.json"};
    struct ht_report report = {.title = "t", .records = &record, .n_records = 1};
    struct ht_buf page;
    if (ht_json_parse((const char *)data, size, 0, "record.json", &record.json, NULL) != HT_OK) {
        return 0;
    }
    ht_arena_init(&report.arena, 0);
    ht_buf_init(&page, 0);
    if (ht_report_rows(&report, NULL) == HT_OK) {
        ht_report_page(&report, &page);
        ht_report_markdown(&report, &page);
        json_decref(ht_report_cells(&report));
    }
    ht_buf_deinit(&page);
    ht_arena_deinit(&report.arena);
    json_decref(record.json);
    return 0;
}
