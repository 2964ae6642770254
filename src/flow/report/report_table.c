/* The summary table, once for HTML, Markdown and JSON. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "flow/report.h"

#define DASH "\xe2\x80\x93" /* en dash */

void ht_report_format(char *out, size_t len, double x, double scale, int digits) {
    if (isnan(x)) {
        snprintf(out, len, "%s", "");
        return;
    }
    if (isinf(x)) {
        snprintf(out, len, "%s", "unknown");
        return;
    }
    double m = fabs(scale);
    int whole = m > 0.0 ? (int)floor(log10(m)) + 1 : 1; /* digits before the point; <= 0: leading zeros */
    int decimals = digits - whole;
    if (decimals > 8) {
        snprintf(out, len, "%.*e", digits - 1, x);
    } else {
        snprintf(out, len, "%.*f", decimals > 0 ? decimals : 0, x);
    }
}

void ht_report_size(char *out, size_t len, double bytes) {
    static const struct {
        double unit;
        const char *name;
    } units[] = {{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}, {1, "B"}};
    size_t i = 0;
    while (i < 4 && bytes < units[i].unit) {
        i++;
    }
    if (isnan(bytes)) {
        snprintf(out, len, "%s", "");
    } else {
        snprintf(out, len, units[i].unit > 1 ? "%.1f %s" : "%.0f %s", bytes / units[i].unit, units[i].name);
    }
}

static void with_interval(ht_estimate e, int digits, char *main, char *sub) {
    ht_report_format(main, HT_REPORT_CELL, e.mean, e.mean, digits);
    sub[0] = 0;
    if (!isnan(e.low) && !isnan(e.high) && !isinf(e.low) && !isinf(e.high)) {
        char low[24], high[24];
        ht_report_format(low, sizeof low, e.low, e.mean, digits);
        ht_report_format(high, sizeof high, e.high, e.mean, digits);
        snprintf(sub, HT_REPORT_CELL, "%s" DASH "%s", low, high);
    }
}

/* Cuts at a character's start when the cell is full. */
static void put(const char *text, char *main) {
    size_t n = text != NULL ? strlen(text) : 0;
    if (n >= HT_REPORT_CELL) {
        n = HT_REPORT_CELL - 1;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) {
            n--;
        }
    }
    memcpy(main, text != NULL ? text : "", n);
    main[n] = 0;
}

static void cell_format(const struct ht_report_row *r, char *main, char *sub) {
    put(r->format, main);
    put(r->method, sub);
}

static void cell_size(const struct ht_report_row *r, char *main, char *sub) {
    ht_report_size(main, HT_REPORT_CELL, r->bytes);
    sub[0] = 0;
}
static double sort_size(const struct ht_report_row *r) {
    return r->bytes;
}

static void cell_bits(const struct ht_report_row *r, char *main, char *sub) {
    sub[0] = main[0] = 0;
    if (!isnan(r->bits)) {
        snprintf(main, HT_REPORT_CELL, "%.2f", r->bits);
    }
}
static double sort_bits(const struct ht_report_row *r) {
    return r->bits;
}

static void cell_perplexity(const struct ht_report_row *r, char *main, char *sub) {
    with_interval(r->perplexity, 4, main, sub);
}
static double sort_perplexity(const struct ht_report_row *r) {
    return r->perplexity.mean;
}

static void cell_ratio(const struct ht_report_row *r, char *main, char *sub) {
    double mean = 100.0 * (r->ratio.mean - 1.0), low = 100.0 * (r->ratio.low - 1.0);
    double high = 100.0 * (r->ratio.high - 1.0);
    int decimals = fabs(mean) < 10 ? 2 : fabs(mean) < 1000 ? 1 : 0;
    sub[0] = main[0] = 0;
    if (!isnan(mean)) {
        snprintf(main, HT_REPORT_CELL, "%+.*f %%", decimals, mean);
        if (isfinite(low) && isfinite(high)) {
            snprintf(sub, HT_REPORT_CELL, "%+.*f to %+.*f", decimals, low, decimals, high);
        }
    }
}
static double sort_ratio(const struct ht_report_row *r) {
    return r->ratio.mean;
}

static void cell_kld(const struct ht_report_row *r, char *main, char *sub) {
    with_interval(r->kld, 3, main, sub);
    if (r->kld.mean == 0.0) {
        put("0", main);
        sub[0] = 0;
    }
}
static double sort_kld(const struct ht_report_row *r) {
    return r->kld.mean;
}

static void cell_p99(const struct ht_report_row *r, char *main, char *sub) {
    sub[0] = 0;
    ht_report_format(main, HT_REPORT_CELL, r->kld_p99, r->kld_p99, 3);
}
static double sort_p99(const struct ht_report_row *r) {
    return r->kld_p99;
}

static void cell_max(const struct ht_report_row *r, char *main, char *sub) {
    sub[0] = 0;
    ht_report_format(main, HT_REPORT_CELL, r->kld_max, r->kld_max, 3);
}
static double sort_max(const struct ht_report_row *r) {
    return r->kld_max;
}

static void cell_same_top(const struct ht_report_row *r, char *main, char *sub) {
    sub[0] = main[0] = 0;
    if (!isnan(r->same_top.mean)) {
        snprintf(main, HT_REPORT_CELL, "%.1f %%", 100.0 * r->same_top.mean);
        if (isfinite(r->same_top.low) && isfinite(r->same_top.high)) {
            snprintf(sub, HT_REPORT_CELL, "%.1f" DASH "%.1f", 100.0 * r->same_top.low, 100.0 * r->same_top.high);
        }
    }
}
static double sort_same_top(const struct ht_report_row *r) {
    return r->same_top.mean;
}

static void cell_prefill(const struct ht_report_row *r, char *main, char *sub) {
    sub[0] = 0;
    ht_report_format(main, HT_REPORT_CELL, r->prefill, r->prefill, 3);
}
static double sort_prefill(const struct ht_report_row *r) {
    return r->prefill;
}

static void cell_decode(const struct ht_report_row *r, char *main, char *sub) {
    sub[0] = 0;
    ht_report_format(main, HT_REPORT_CELL, r->decode, r->decode, 3);
}
static double sort_decode(const struct ht_report_row *r) {
    return r->decode;
}

static const struct ht_report_column COLUMNS[] = {
    {"format", "Format", "what was asked for, and the method", true, cell_format, NULL},
    {"size", "Size", "bytes of the file", false, cell_size, sort_size},
    {"bits_per_weight", "Bits/weight", "bits of the tensors per weight, without metadata", false, cell_bits, sort_bits},
    {"perplexity", "Perplexity", "exp of the mean negative log-likelihood, with 95 % interval", false,
     cell_perplexity, sort_perplexity},
    {"perplexity_change", "Change", "perplexity against the reference's on the same tokens, with paired 95 % interval",
     false, cell_ratio, sort_ratio},
    {"kld", "KL divergence", "mean over positions in nats, with 95 % interval", false, cell_kld, sort_kld},
    {"kld_p99", "99 %", "99 % of the positions diverge less", false, cell_p99, sort_p99},
    {"kld_max", "Max", "the worst position", false, cell_max, sort_max},
    {"same_top", "Same top", "share of positions where both models rate the same token highest", false,
     cell_same_top, sort_same_top},
    {"prefill_tokens_per_s", "Prefill t/s", "tokens per second of the evaluation or of a prompt", false,
     cell_prefill, sort_prefill},
    {"decode_tokens_per_s", "Decode t/s", "tokens per second of generation", false, cell_decode, sort_decode},
};

const struct ht_report_column *const *ht_report_columns(const struct ht_report *report, size_t *n,
                                                        const struct ht_report_column *room[16]) {
    *n = 0;
    for (size_t c = 0; c < sizeof COLUMNS / sizeof COLUMNS[0]; c++) {
        bool filled = false;
        for (size_t i = 0; i < report->n_rows && !filled; i++) {
            char main[HT_REPORT_CELL], sub[HT_REPORT_CELL];
            COLUMNS[c].cell(&report->rows[i], main, sub);
            filled = main[0] != 0;
        }
        if (filled) {
            room[(*n)++] = &COLUMNS[c];
        }
    }
    return room;
}

/* '|' would end a Markdown cell; line breaks would end the row. */
static void markdown_text(struct ht_buf *out, const char *s) {
    for (; *s; s++) {
        if (*s == '|') {
            ht_buf_puts(out, "\\|");
        } else {
            ht_buf_putc(out, (unsigned char)*s < ' ' ? ' ' : *s);
        }
    }
}

void ht_report_markdown(const struct ht_report *report, struct ht_buf *out) {
    const struct ht_report_column *room[16];
    size_t n;
    const struct ht_report_column *const *columns = ht_report_columns(report, &n, room);
    ht_buf_puts(out, "| File |");
    for (size_t c = 0; c < n; c++) {
        ht_buf_printf(out, " %s |", columns[c]->head);
    }
    ht_buf_puts(out, "\n|---|");
    for (size_t c = 0; c < n; c++) {
        ht_buf_puts(out, columns[c]->left ? "---|" : "--:|");
    }
    ht_buf_putc(out, '\n');
    for (size_t i = 0; i < report->n_rows; i++) {
        ht_buf_puts(out, "| ");
        markdown_text(out, report->rows[i].name);
        ht_buf_puts(out, report->rows[i].reference ? " (reference) |" : " |");
        for (size_t c = 0; c < n; c++) {
            char main[HT_REPORT_CELL], sub[HT_REPORT_CELL];
            columns[c]->cell(&report->rows[i], main, sub);
            ht_buf_putc(out, ' ');
            markdown_text(out, main);
            if (sub[0] != 0) {
                ht_buf_puts(out, columns[c]->left ? ", " : " [");
                markdown_text(out, sub);
                ht_buf_puts(out, columns[c]->left ? "" : "]");
            }
            ht_buf_puts(out, " |");
        }
        ht_buf_putc(out, '\n');
    }
}

json_t *ht_report_cells(const struct ht_report *report) {
    const struct ht_report_column *room[16];
    size_t n;
    const struct ht_report_column *const *columns = ht_report_columns(report, &n, room);
    json_t *head = json_array(), *rows = json_array();
    json_array_append_new(head, json_string("File"));
    for (size_t c = 0; c < n; c++) {
        json_array_append_new(head, json_string(columns[c]->head));
    }
    for (size_t i = 0; i < report->n_rows; i++) {
        json_t *row = json_array();
        json_array_append_new(row, json_string(report->rows[i].name));
        for (size_t c = 0; c < n; c++) {
            char main[HT_REPORT_CELL], sub[HT_REPORT_CELL];
            columns[c]->cell(&report->rows[i], main, sub);
            json_array_append_new(row, sub[0] != 0 ? json_sprintf("%s [%s]", main, sub) : json_string(main));
        }
        json_array_append_new(rows, row);
    }
    return json_pack("{s:o, s:o}", "columns", head, "rows", rows);
}
