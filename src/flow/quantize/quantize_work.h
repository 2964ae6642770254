/* WORK FILE: what a quantization of blocks has finished so far, beside its output. After kill -9 the next run with the
 * same job goes on behind the last finished layer, and writes the same bytes as one that was never interrupted.
 *
 *     header [128]   "HTWORK05", SHA-256 of the job in hex: source, recipe, formats, text, seed, version, CPU level
 *     items          header [320], then payload, both in multiples of 64 bytes; little-endian
 *       tensor       index in the plan; report; rows of a format, or parts of codes; parts of the sidecar
 *       vector       index in the plan; f32 values (norms that a transform changed)
 *       layer end    layer; synced to disk before the next one starts
 *
 * Items behind the last layer end, and whatever does not match its checksum, are cut off when the file is opened. The
 * file holds only finished work: nothing in it is trusted beyond the digest and the checksums of each item. */
#ifndef HT_FLOW_QUANTIZE_WORK_H
#define HT_FLOW_QUANTIZE_WORK_H

#include "flow/flow_plan.h"
#include "quant/fold_job.h"
#include "quant/job.h"

struct ht_work;

struct ht_work_item {
    uint32_t tensor;   /* index in the plan */
    int32_t layer;
    bool vector;
    struct ht_job_report report;
    const unsigned char *bytes; /* rows of a format, or NULL; vector: f32 */
    uint64_t n_bytes;
    struct ht_qtensor q;        /* codes: views of the file */
    bool has_q;
    struct ht_sidecar side;     /* leaves 0: none; views of the file */
};

/* Before work: bytes of what stands under the work file's name; 0: nothing. HT_EXISTS: it is none of ours, and
 * stays. */
ht_status ht_work_look(const char *output, uint64_t *bytes, ht_err *err);
/* Opens or creates the work file of output. digest: 64 hex digits. *layers: finished ones (0: none); *replaced: one of
 * another job was there and is gone. HT_EXISTS: another process works on it. */
ht_status ht_work_open(const char *output, const char digest[65], bool restart, struct ht_work **work, uint32_t *layers,
                       bool *replaced, ht_err *err);
void ht_work_close(struct ht_work *work); /* NULL is fine; the file stays */
ht_status ht_work_remove(const char *output, ht_err *err);

/* One linear's result. */
ht_status ht_work_put(struct ht_work *work, uint32_t tensor, int32_t layer, struct ht_job *job, ht_err *err);
ht_status ht_work_put_vector(struct ht_work *work, uint32_t tensor, int32_t layer, const float *x, uint64_t n,
                             ht_err *err);
/* What transforms did to a layer; notes [n_notes]. */
struct ht_work_folds {
    uint64_t sites, dead, clamped, cut, n_notes;
    const struct ht_fold_note *notes;
};
/* On disk when this returns. */
ht_status ht_work_end_layer(struct ht_work *work, int32_t layer, const struct ht_work_folds *folds, ht_err *err);

/* Maps what is there now; views of an earlier map die. Then items in order: *at starts at 0. False at the end. The
 * plan gives formats and shapes; HT_FORMAT when an item does not fit it. */
ht_status ht_work_map(struct ht_work *work, ht_err *err);
const struct ht_mapping *ht_work_mapping(const struct ht_work *work); /* what items point into */
bool ht_work_next(const struct ht_work *work, const struct ht_flow_plan *plan, uint64_t *at, struct ht_work_item *item,
                  ht_status *status, ht_err *err);
/* The same for finished layers; notes are views of the map. False at the end. */
bool ht_work_next_layer(const struct ht_work *work, uint64_t *at, struct ht_work_folds *folds);

#endif
