/* The commands of halftone.h: arguments are checked here, the work is in flow/ and eval/. */
#include "api/options.h"
#include "base/mem.h"
#include "eval/bench.h"
#include "eval/eval.h"
#include "flow/flow.h"

void ht_string_free(char *s) {
    ht_mem_free(s);
}

static ht_status need_texts(const char *const *texts, size_t n, const char *name, ht_err *err) {
    if (n == 0) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS, "at least one file must be given");
    }
    HT_TRY(ht_need(texts, name, err));
    for (size_t i = 0; i < n; i++) {
        HT_TRY(ht_need_text(texts[i], name, err));
    }
    return HT_OK;
}

static ht_status need_window(uint32_t ctx, ht_err *err) {
    if (ctx < 2) {
        return ht_fail(err, HT_INVAL, "ctx", HT_NO_POS,
                       "a window of %u tokens has nothing to predict; expected 2 or more", ctx);
    }
    return HT_OK;
}

/* The lists that ht_quantize_options and ht_stats_options share. */
#define NEED_CALIB_LISTS(o, err)                                                                        \
    do {                                                                                                \
        HT_TRY((o)->n_not_in > 0 ? need_texts((o)->not_in, (o)->n_not_in, "not_in", err) : HT_OK);      \
        HT_TRY((o)->n_calib_weights > 0 ? ht_need((o)->calib_weights, "calib_weights", err) : HT_OK); \
    } while (0)

static void forget(char **json) {
    if (json != NULL) {
        *json = NULL;
    }
}

ht_status ht_inspect(ht_context *ctx, const char *path, char **json, ht_err *err) {
    ht_err_clear(err);
    forget(json);
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(path, "path", err));
    return ht_flow_inspect(ctx, path, json, err);
}

ht_status ht_curve(ht_context *ctx, const ht_curve_options *options, char **json, ht_err *err) {
    ht_curve_options o;
    ht_err_clear(err);
    forget(json);
    ht_curve_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    if (o.n_formats > 0) {
        HT_TRY(ht_need(o.formats, "formats", err));
    }
    return ht_flow_curve(ctx, &o, json, err);
}

ht_status ht_errors(ht_context *ctx, const ht_errors_options *options, char **json, ht_err *err) {
    ht_errors_options o;
    ht_err_clear(err);
    forget(json);
    ht_errors_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(o.path, "path", err));
    if (o.n_formats > 0) {
        HT_TRY(ht_need(o.formats, "formats", err));
    }
    if (o.n_ranges > 0) {
        HT_TRY(ht_need(o.ranges, "ranges", err));
    }
    return ht_flow_errors(ctx, &o, json, err);
}

ht_status ht_verify(ht_context *ctx, const char *path, const ht_verify_options *options, char **json,
                    ht_err *err) {
    ht_verify_options o;
    ht_err_clear(err);
    forget(json);
    ht_verify_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(path, "path", err));
    return ht_flow_verify(ctx, path, &o, json, err);
}

ht_status ht_convert(ht_context *ctx, const ht_convert_options *options, char **json, ht_err *err) {
    ht_convert_options o;
    ht_err_clear(err);
    forget(json);
    ht_convert_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(o.input, "input", err));
    HT_TRY(ht_need_text(o.output, "output", err));
    return ht_flow_convert(ctx, &o, json, err);
}

ht_status ht_quantize(ht_context *ctx, const ht_quantize_options *options, char **json, ht_err *err) {
    ht_quantize_options o;
    ht_err_clear(err);
    forget(json);
    ht_quantize_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(o.input, "input", err));
    HT_TRY(ht_need_text(o.output, "output", err));
    if (o.format != NULL) {
        HT_TRY(ht_need_text(o.format, "format", err));
    }
    if (o.n_calib > 0) {
        HT_TRY(need_texts(o.calib, o.n_calib, "calib", err));
        HT_TRY(o.ctx != 0 ? need_window(o.ctx, err) : HT_OK);
    }
    if (o.n_tensor_rules > 0) {
        HT_TRY(need_texts(o.tensor_rules, o.n_tensor_rules, "tensor", err));
    }
    NEED_CALIB_LISTS(&o, err);
    return ht_flow_quantize(ctx, &o, json, err);
}

ht_status ht_imatrix_collect(ht_context *ctx, const ht_imatrix_options *options, char **json, ht_err *err) {
    ht_imatrix_options o;
    ht_err_clear(err);
    forget(json);
    ht_imatrix_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(o.model, "model", err));
    HT_TRY(ht_need_text(o.output, "output", err));
    HT_TRY(need_texts(o.texts, o.n_texts, "texts", err));
    HT_TRY(need_window(o.ctx, err));
    return ht_flow_imatrix(ctx, &o, json, err);
}

ht_status ht_stats_collect(ht_context *ctx, const ht_stats_options *options, char **json, ht_err *err) {
    ht_stats_options o;
    ht_err_clear(err);
    forget(json);
    ht_stats_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(o.model, "model", err));
    HT_TRY(ht_need_text(o.output, "output", err));
    HT_TRY(need_texts(o.calib, o.n_calib, "calib", err));
    HT_TRY(o.n_methods > 0 ? need_texts(o.methods, o.n_methods, "methods", err) : HT_OK);
    NEED_CALIB_LISTS(&o, err);
    HT_TRY(need_window(o.ctx, err));
    return ht_flow_stats(ctx, &o, json, err);
}

ht_status ht_stats_merge(ht_context *ctx, const char *const *inputs, size_t n, const char *output, bool force,
                         char **json, ht_err *err) {
    ht_err_clear(err);
    forget(json);
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(need_texts(inputs, n, "inputs", err));
    HT_TRY(ht_need_text(output, "output", err));
    return ht_flow_stats_merge(ctx, inputs, n, output, force, json, err);
}

ht_status ht_stats_show(ht_context *ctx, const char *path, char **json, ht_err *err) {
    ht_err_clear(err);
    forget(json);
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(path, "path", err));
    return ht_flow_stats_show(ctx, path, json, err);
}

ht_status ht_imatrix_merge(ht_context *ctx, const char *const *inputs, size_t n, const char *output,
                           bool force, char **json, ht_err *err) {
    ht_err_clear(err);
    forget(json);
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(need_texts(inputs, n, "inputs", err));
    HT_TRY(ht_need_text(output, "output", err));
    return ht_flow_imatrix_merge(ctx, inputs, n, output, force, json, err);
}

ht_status ht_eval(ht_context *ctx, const ht_eval_options *options, ht_eval_result *result, char **json,
                  ht_err *err) {
    ht_eval_options o;
    ht_err_clear(err);
    forget(json);
    ht_eval_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need_text(o.model, "model", err));
    HT_TRY(need_texts(o.texts, o.n_texts, "texts", err));
    return ht_eval_run(ctx, &o, result, json, err);
}

ht_status ht_bench(ht_context *ctx, const ht_bench_options *options, char **json, ht_err *err) {
    ht_bench_options o;
    ht_err_clear(err);
    forget(json);
    ht_bench_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(need_texts(o.models, o.n_models, "models", err));
    HT_TRY(o.n_threads == 0 ? HT_OK : ht_need(o.threads, "threads", err));
    return ht_bench_run(ctx, &o, json, err);
}

ht_status ht_report(ht_context *ctx, const char *title, const char *const *records, size_t n,
                    const char *output, bool force, char **json, ht_err *err) {
    ht_err_clear(err);
    forget(json);
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(need_texts(records, n, "records", err));
    HT_TRY(ht_need_text(output, "output", err));
    return ht_flow_report(ctx, title, records, n, output, force, json, err);
}
