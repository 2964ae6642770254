/* The drivers: each runs one command from files to files and gives its record as JSON. They implement the
 * functions of halftone.h of the same name; api/ checks arguments and forwards. */
#ifndef HT_FLOW_FLOW_H
#define HT_FLOW_FLOW_H

#include "base/context.h"

struct ht_recipe;

ht_status ht_flow_inspect(struct ht_context *ctx, const char *path, char **json, ht_err *err);
ht_status ht_flow_curve(struct ht_context *ctx, const ht_curve_options *options, char **json, ht_err *err);
ht_status ht_flow_errors(struct ht_context *ctx, const ht_errors_options *options, char **json, ht_err *err);
ht_status ht_flow_verify(struct ht_context *ctx, const char *path, const ht_verify_options *options,
                         char **json, ht_err *err);
ht_status ht_flow_convert(struct ht_context *ctx, const ht_convert_options *options, char **json, ht_err *err);
ht_status ht_flow_quantize(struct ht_context *ctx, const ht_quantize_options *options, char **json,
                           ht_err *err);
/* name: a method, or a path that ends in .yaml or holds a slash. */
ht_status ht_flow_find_recipe(const char *name, struct ht_recipe *recipe, ht_err *err);
ht_status ht_flow_show(const char *name, char **json, ht_err *err);
ht_status ht_flow_imatrix(struct ht_context *ctx, const ht_imatrix_options *options, char **json, ht_err *err);
ht_status ht_flow_imatrix_merge(struct ht_context *ctx, const char *const *inputs, size_t n, const char *output,
                                bool force, char **json, ht_err *err);
ht_status ht_flow_stats(struct ht_context *ctx, const ht_stats_options *options, char **json, ht_err *err);
ht_status ht_flow_stats_merge(struct ht_context *ctx, const char *const *inputs, size_t n, const char *output,
                              bool force, char **json, ht_err *err);
ht_status ht_flow_stats_show(struct ht_context *ctx, const char *path, char **json, ht_err *err);
ht_status ht_flow_report(struct ht_context *ctx, const char *title, const char *const *records, size_t n,
                         const char *output, bool force, char **json, ht_err *err);

#endif
