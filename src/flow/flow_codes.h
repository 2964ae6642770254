/* Codes of schemes, and sidecars, on their way into a folder of our own: made from the input's rows where the plan has
 * no finished ones, then written part after part. Rows stand in the output's order. flow_stream.h calls this. */
#ifndef HT_FLOW_FLOW_CODES_H
#define HT_FLOW_FLOW_CODES_H

#include "flow/flow_stream.h"

/* Row of the input that becomes row r of rows of the output. */
uint64_t ht_plan_source_row(const struct ht_plan_tensor *t, uint64_t r, uint64_t rows);

/* Writes all parts of t, a tensor with a scheme. Makes its codes first when t->q is NULL: to nearest, ranges by
 * t->range, in chunks of rows; formats with fitted levels take the whole matrix in f32. Adds to t's figures. sink NULL:
 * computes only. */
ht_status ht_codes_run(struct ht_context *ctx, struct ht_plan_tensor *t, struct ht_sink *sink,
                       const struct ht_stream_options *options, ht_err *err);
/* Seconds of one thread for rows [row, row + rows) of t, made and thrown away. */
ht_status ht_codes_sample(struct ht_plan_tensor *t, uint64_t row, uint64_t rows, double *seconds, ht_err *err);
/* The parts of t->side alone, behind blocks. */
ht_status ht_codes_write_side(struct ht_plan_tensor *t, struct ht_sink *sink, ht_err *err);
/* Bytes that ht_codes_run takes for t. */
uint64_t ht_codes_memory(const struct ht_plan_tensor *t);

#endif
