/* Error analysis: formats against theory (curve) and against a model's tensors (errors).
 *
 *   errors_codec.c   a format, or a scheme with a range part, as something that rows can be put through
 *   errors_curve.c   seeded rows of known densities through each codec
 *   errors_model.c   the tensors of a file through each codec, streamed
 *   errors_json.c    figures as JSON
 *   errors_svg.c     error against bits, with the bounds
 *   errors_precision.c   precision of one value against its size
 *   errors_page.c    the HTML page */
#ifndef HT_FLOW_ERRORS_H
#define HT_FLOW_ERRORS_H

#include "base/buf.h"
#include "base/context.h"
#include "flow/flow_doc.h"
#include "format/scheme.h"
#include "quant/error.h"
#include "quant/error_model.h"
#include "quant/range.h"

/* ---- errors_codec.c ---------------------------------------------------------------------------------------- */

struct ht_codec {
    char name[HT_SCHEME_TEXT];      /* as people write it: "q4_k", "int4:g64" */
    const struct ht_format *format;
    bool scaled;                    /* a scheme; the rest is its */
    bool whole;                     /* it looks at the whole matrix: fitted levels, nested scales */
    struct ht_scheme scheme;
    struct ht_range_grid grid;
    float *levels;                  /* [grid.hi + 1] ascending, or NULL: integers */
    struct ht_range_choice range;   /* ignored by whole ones, which have their own */
    char range_name[48];
};

/* HT_INVAL: no such format or scheme, or one that weights are not stored in. */
ht_status ht_codec_parse(const char *text, struct ht_codec *codec, ht_err *err);
/* Which range part fits a scheme's scales. HT_INVAL: unknown, or none for weights. */
ht_status ht_codec_set_range(struct ht_codec *codec, const char *range, ht_err *err);
void ht_codec_deinit(struct ht_codec *codec);
/* A row of cols can be stored; entropy: the values of a scale are enough for a histogram. */
bool ht_codec_fits(const struct ht_codec *codec, uint64_t cols);
/* Per weight of a matrix, everything counted. */
double ht_codec_bits(const struct ht_codec *codec, uint64_t rows, uint64_t cols);
/* Family, in words: for colours and legends. */
const char *ht_codec_group(const struct ht_codec *codec);

/* What putting rows through a codec needs besides: one per thread. */
struct ht_codec_room {
    float *y, *cell;      /* [cols] */
    unsigned char *bytes; /* of a stored row */
};
ht_status ht_codec_room_init(struct ht_codec_room *room, uint64_t cols, ht_err *err);
void ht_codec_room_deinit(struct ht_codec_room *room);
/* x [rows, cols], finite; adds to sums. tensor: the grid of a scheme with one scale per tensor, else NULL. */
ht_status ht_codec_rows(const struct ht_codec *codec, const struct ht_affine *tensor, const float *x, uint64_t rows,
                        uint64_t cols, struct ht_codec_room *room, struct ht_error_sums *sums, ht_err *err);

static inline bool ht_codec_per_tensor(const struct ht_codec *codec) {
    return codec->scaled && !codec->whole && codec->scheme.granularity == HT_PER_TENSOR;
}
/* The grid of a scheme with one scale per tensor, from what was seen of the tensor. */
ht_status ht_codec_fit_tensor(const struct ht_codec *codec, const struct ht_range_state *state, struct ht_affine *out,
                              ht_err *err);
/* Codecs that are whole: x [rows, cols] at once. */
ht_status ht_codec_whole(const struct ht_codec *codec, const float *x, uint64_t rows, uint64_t cols,
                         struct ht_pool *pool, struct ht_error_sums *sums, ht_err *err);

/* ---- errors_json.c ----------------------------------------------------------------------------------------- */

/* {"mse", "snr_db", ...}; rate: bits per weight. */
json_t *ht_errors_json(struct ht_doc *doc, const struct ht_error_sums *sums, double rate);

/* ---- errors_svg.c ------------------------------------------------------------------------------------------ */

struct ht_error_point {
    const char *name;
    const char *group;     /* family, for colour and legend */
    double bits, relative; /* relative > 0 */
};

struct ht_error_line {
    const char *name;
    const char *style;      /* class: "bound", "best", "even" */
    size_t n;
    const double *bits, *relative;
};

struct ht_error_plot {
    const char *title;
    const char *error; /* what the vertical axis says */
    const struct ht_error_point *points;
    size_t n_points;
    const struct ht_error_line *lines;
    size_t n_lines;
    bool precision; /* a third panel: ht_precision_panel */
};

/* Two panels over the same bits: the error, and how many bits each point lies from the Gaussian bound. A complete SVG
 * file when alone, else a part of a page. */
void ht_errors_figure(const struct ht_error_plot *plot, bool alone, struct ht_buf *out);

/* ---- errors_precision.c ------------------------------------------------------------------------------------ */

/* Least ratio of a value to its error, in dB, over values just below max * 10^(-below_db / 20), max the format's
 * largest value (level). INFINITY: all of them are exact; 0: they become 0. */
double ht_precision_db(const struct ht_format *f, double below_db);
/* "precision": [{"format", "dynamic_range_db", "points": [[dB below the largest value, dB], ...]}, ...] */
void ht_precision_json(struct ht_doc *doc);
/* The same as a panel of the figure, its plot area from y0 on. */
#define HT_PRECISION_HEIGHT 440.0
void ht_precision_panel(double y0, struct ht_buf *out);

/* The lines that theory gives: bound, Lloyd-Max, even levels. Bits from 0 to 10. */
#define HT_ERROR_LINE_POINTS 11
struct ht_error_limits {
    double power, panter_dite;               /* of the density */
    int n;                                   /* levels counts filled */
    int levels[HT_ERROR_LINE_POINTS];
    double bits[HT_ERROR_LINE_POINTS], lloyd_max[HT_ERROR_LINE_POINTS], uniform[HT_ERROR_LINE_POINTS];
    double step[HT_ERROR_LINE_POINTS];
    double bound_bits[2], bound[2];
};

/* ---- errors_curve.c ---------------------------------------------------------------------------------------- */

ht_status ht_error_limits_of(const struct ht_density *density, struct ht_error_limits *out, ht_err *err);
json_t *ht_error_limits_json(struct ht_doc *doc, const struct ht_error_limits *limits);
/* lines [3] point into limits. */
void ht_error_limits_lines(const struct ht_error_limits *limits, struct ht_error_line lines[3]);

/* Writes text to path, replacing an existing file only when force. */
ht_status ht_errors_write(const char *path, bool force, const struct ht_buf *text, ht_err *err);

#endif
