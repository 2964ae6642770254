/* The report: joins the records of quantize, eval, run and imatrix into one table, and draws it as one HTML
 * page without scripts from outside, fonts or pictures. Nothing here measures anything.
 *
 *   report.c        loads records, writes the page
 *   report_rows.c   records -> rows, one per measured file, and what deserves a warning
 *   report_table.c  rows -> cells, once, for HTML, Markdown and JSON
 *   report_html.c   the page; report_style.c its CSS
 *   report_svg.c    the figures; report_label.c places their labels
 *   report_tensors.c, report_heat.c  what happened to each tensor
 *
 * Names in records are hostile: everything goes through ht_report_escape. */
#ifndef HT_FLOW_REPORT_H
#define HT_FLOW_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/arena.h"
#include "base/buf.h"
#include "halftone.h"

struct ht_report_row {
    const char *name, *path;
    const char *format, *method;         /* or NULL */
    const json_t *quantize, *eval, *run; /* records, or NULL */
    bool reference;                      /* the model that the others are compared with */
    /* NAN: not known */
    double bytes, bits, weights, prefill, decode;
    ht_estimate perplexity, ratio, kld, same_top;
    double kld_median, kld_p99, kld_max;
    const struct ht_report_row *beaten_by; /* smaller and closer, with intervals apart; or NULL */
};

struct ht_report_warning {
    const char *about; /* name of a row, or NULL */
    const char *text;
};

struct ht_report_record {
    const char *path, *schema;
    json_t *json;
};

struct ht_report {
    struct ht_arena arena; /* rows, names, warnings */
    const char *title;
    struct ht_report_record *records; /* [n_records] */
    size_t n_records;
    struct ht_report_row *rows; /* [n_rows] reference first, then from large to small */
    size_t n_rows;
    struct ht_report_warning *warnings;
    size_t n_warnings, cap_warnings;
    bool failed; /* out of memory while looking for warnings */
};

/* ---- report_rows.c */
ht_status ht_report_rows(struct ht_report *report, ht_err *err);
/* Text of a field, or NULL; number of a field, or NAN. record may be NULL. */
const char *ht_report_text(const json_t *record, const char *key);
double ht_report_number(const json_t *record, const char *key);
/* What the mean divergence of a row means in words, and its level 0 (none) .. 6; "" and -1 without one. */
const char *ht_report_verdict(const struct ht_report_row *row, int *level);

/* ---- report_table.c */
enum { HT_REPORT_CELL = 64 };
struct ht_report_column {
    const char *key, *head, *hint;
    bool left; /* text */
    /* main: what the cell says, "" when unknown; sub: its interval or "" */
    void (*cell)(const struct ht_report_row *row, char main[HT_REPORT_CELL], char sub[HT_REPORT_CELL]);
    double (*sort)(const struct ht_report_row *row); /* NULL: by text */
};
/* Columns that at least one row fills; *n of them. */
const struct ht_report_column *const *ht_report_columns(const struct ht_report *report, size_t *n,
                                                        const struct ht_report_column *room[16]);
void ht_report_markdown(const struct ht_report *report, struct ht_buf *out);
json_t *ht_report_cells(const struct ht_report *report); /* {"columns": [...], "rows": [[...]]} */
/* digits significant digits of |scale|, never an exponent between 1e-6 and 1e7. */
void ht_report_format(char *out, size_t len, double x, double scale, int digits);
void ht_report_size(char *out, size_t len, double bytes);

/* ---- report_html.c */
void ht_report_page(const struct ht_report *report, struct ht_buf *out);
void ht_report_escape(struct ht_buf *out, const char *s);
void ht_report_name(struct ht_buf *out, const char *s); /* kept from reordering the text around it */
void ht_report_number_cell(struct ht_buf *out, double v, int digits); /* of a table; NAN: empty */
extern const char *const ht_report_style[]; /* NULL ends */
extern const char ht_report_script[];

/* ---- report_svg.c */
void ht_report_scatter(const struct ht_report *report, struct ht_buf *out);
void ht_report_bars(const struct ht_report *report, struct ht_buf *out);
void ht_report_dots(struct ht_buf *out);                                     /* the page's ornament */

/* ---- report_tensors.c */
void ht_report_tensors(const struct ht_report *report, struct ht_buf *out);

/* ---- report_heat.c: roles x layers of one file, in dB */
void ht_report_heats(const json_t *tensors, struct ht_buf *out);
double ht_report_gain_db(const json_t *tensor); /* error of its outputs against rounding to nearest, or NAN */

/* ---- report_label.c */
struct ht_box {
    double x0, y0, x1, y1;
};
struct ht_label_plan {
    struct ht_box area;     /* labels stay inside */
    struct ht_box *taken;   /* [n_taken] obstacles, then placed labels; room for n_labels more */
    size_t n_taken;
};
/* Finds a free place for a label of the given size near (x, y). False: none is free; *out is then the least bad
 * place inside the area. *far: the label is not adjacent and wants a line to its point. */
bool ht_label_place(struct ht_label_plan *plan, double x, double y, double width, double height,
                    struct ht_box *out, bool *far);

#endif
