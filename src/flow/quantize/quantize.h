/* Parts of quantize: which format each tensor gets, whose importance weights it, what a run will cost, and what
 * stands in the record. */
#ifndef HT_FLOW_QUANTIZE_H
#define HT_FLOW_QUANTIZE_H

#include "base/context.h"
#include "flow/flow_doc.h"
#include "flow/flow_plan.h"
#include "io/imatrix.h"
#include "model/model.h"
#include "quant/job.h"
#include "quant/mix.h"
#include "quant/transform/rotation.h"

struct ht_calib_windows;
struct ht_fold_note;
struct ht_quant_stats;
struct ht_work;

struct ht_quant_type { /* what a weight becomes: a GGUF type, or codes of a scheme */
    const struct ht_format *format; /* of a scheme: its code format; NULL: nothing was asked for */
    bool coded;
    struct ht_scheme scheme;        /* when coded */
};

struct ht_quant_rule { /* --tensor ROLE=FORMAT, --embd, --head */
    enum ht_role role;
    struct ht_quant_type type;
};

struct ht_quant_job {
    const ht_quantize_options *o;
    struct ht_flow_plan *plan;
    struct ht_recipe recipe;             /* all choices, from a method's row */
    const struct ht_mix *mix;            /* preset, or NULL: one format for all */
    struct ht_quant_type type;           /* of all, or the preset's base */
    char format_text[HT_RECIPE_FORMAT];  /* what was asked for: --format, else the recipe's, else Q4_K_M */
    struct ht_work *work;                /* finished tensors of the plan point into it; NULL: none */
    bool spilled;                        /* hidden states lay in a file */
    /* Of a run of blocks: those that an earlier run had finished, those that are finished, all. */
    uint32_t resumed_layers, finished_layers, n_layers;
    uint64_t folded_sites, folded_dead, folded_clamped, folded_cut; /* by transforms */
    const struct ht_fold_note *folds;    /* [n_folds] of all layers */
    size_t n_folds;
    struct ht_quant_turn *turn;          /* the residual stream is turned; NULL: it is not */
    struct ht_quant_type embd, head;     /* overrides */
    struct ht_quant_rule *rules;
    struct ht_imatrix *imatrix;          /* NULL: none */
    struct ht_quant_stats *stats;        /* of --stats; NULL: none */
    json_t *data;                        /* what calibration text was taken; NULL: none */
    size_t n_unweighted;                 /* weights without an entry */
    uint64_t tokens;                     /* of calibration that are wanted: the options', else the recipe's */
    uint32_t window;
    uint64_t calib_tokens;               /* that a run of blocks saw; that a dry run expects */
    bool tokens_guessed;                 /* by the bytes of the text */
    uint64_t bytes;                      /* predicted, or written */
    unsigned expect;                     /* enum ht_expect: how these may differ, before the run */
    uint32_t n_files;
    char source_xxh3[17], output_xxh3[17]; /* hex; empty: not known (dry run; output in several files) */
    double started_s, started_cpu_s;
    double predicted_s;
    uint64_t predicted_rss_bytes;
    uint64_t without_streams_bytes; /* of that, all but hidden states, which may go to a file */
    bool no_record;   /* its files could not be written */
    json_t *warnings; /* array of strings */
};

/* quantize_types.c */
const char *ht_quant_type_text(const struct ht_quant_type *type, char text[HT_SCHEME_TEXT]);
/* Which container holds what was parsed: GGUF when every format is one of its types and nothing is left to the run
 * time, else a folder of our own. HT_UNSUPPORTED when the output's name says otherwise. */
ht_status ht_quant_target(const struct ht_quant_job *job, enum ht_target *target, ht_err *err);
/* What --tensor, --embd and --head say of a role, which no rule changes; NULL: nothing. */
const struct ht_quant_type *ht_quant_override(const struct ht_quant_job *job, enum ht_role role);
/* Names of format, method, roles. */
ht_status ht_quant_parse(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);
ht_status ht_quant_choose(struct ht_quant_job *job, bool weighted, ht_err *err);
/* Overrides that contradict each other on a tied model are refused; one that meets no tensor is a warning. */
ht_status ht_quant_check_overrides(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);
/* Without importance: refuses presets that need it (a dry run is told). What the user named is the user's word. */
ht_status ht_quant_check_plain(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);
ht_status ht_quant_check_input(const struct ht_quant_job *job, ht_err *err); /* quantized already? */

/* quantize_check.c: choices that would do nothing: HT_INVAL for activations, a warning for rules. */
ht_status ht_quant_check_recipe(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);

/* quantize_expect.c: bytes and n_files of the output, with all that will stand beside the codes; expect. */
ht_status ht_quant_predict(struct ht_quant_job *job, ht_err *err);

/* quantize_weights.c: reads the matrix of --imatrix; and, for --calib, collects one. Both give each tensor its row. */
ht_status ht_quant_load_weights(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);
ht_status ht_quant_collect_weights(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);
/* The windows of --calib; job->data says which. */
ht_status ht_quant_windows(struct ht_context *ctx, struct ht_quant_job *job, const struct ht_model *model,
                           struct ht_calib_windows *windows, ht_err *err);

/* quantize_stats.c: --stats. open: HT_INVAL, HT_UNSUPPORTED when the file is of another model, or lacks what the recipe
 * needs; nothing without --stats. */
ht_status ht_quant_stats_open(struct ht_quant_job *job, ht_err *err);
void ht_quant_stats_close(struct ht_quant_stats *stats); /* NULL is fine */
void ht_quant_stats_compare(struct ht_context *ctx, struct ht_quant_job *job); /* source_xxh3 is known: warns */
/* Statistics of one layer's linears come to memory, those of another leave it. needs: enum ht_needs. */
ht_status ht_quant_stats_layer(struct ht_quant_stats *stats, const struct ht_layer *layer, unsigned needs, ht_err *err);
const struct ht_stats *ht_quant_stats_of(struct ht_quant_stats *stats, const struct ht_linear *linear);
void ht_quant_stats_divide(struct ht_quant_stats *stats, const struct ht_linear *linear, const float *by);
uint64_t ht_quant_stats_tokens(const struct ht_quant_stats *stats);
uint64_t ht_quant_stats_hash(const struct ht_quant_stats *stats);
const json_t *ht_quant_stats_doc(const struct ht_quant_stats *stats);
ht_status ht_quant_stats_imatrix(const struct ht_quant_stats *stats, struct ht_imatrix **imatrix, ht_err *err);

/* quantize_blocks.c: layer by layer, for whatever is more than rows rounded to nearest. */
bool ht_quant_wants_blocks(const struct ht_quant_job *job);
/* Fills stored, q and side of the layers' tensors: views of job->work. source_xxh3 is known. */
ht_status ht_quant_blocks(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);

/* quantize_rehearse.c: for a dry run: seconds that calibration, and quantizing layer by layer, will take, by the first
 * layer on three windows of text; calib_tokens, and data where the text was read. Fails as the run would. */
ht_status ht_quant_rehearse(struct ht_context *ctx, struct ht_quant_job *job, double *seconds, ht_err *err);

/* quantize_text.c: the windows that the run will take, where its texts are not too long to be read for a plan; ids
 * NULL: they are, or the model is to write them. calib_tokens: that the run will see; tokens_guessed. */
ht_status ht_quant_plan_text(struct ht_context *ctx, struct ht_quant_job *job, const struct ht_model *model,
                             struct ht_calib_windows *windows, ht_err *err);

/* quantize_turn.c: the residual stream of the whole model turned by one rotation (part rotate). Embedding and head are
 * turned while they are streamed, hidden states once, layers when their turn comes. */
struct ht_quant_turn {
    struct ht_rotation q;
    struct ht_row_turn embd, head;
    float *gamma, *ones; /* [width] the last norm's weights, which move into the head; what it becomes */
};
/* Looks whether the recipe turns the stream, and prepares the plan: the head leaves the embedding. HT_UNSUPPORTED when
 * there is no rotation of this width. */
ht_status ht_quant_turn_plan(struct ht_quant_job *job, ht_err *err);
void ht_quant_turn_free(struct ht_quant_turn *turn); /* NULL is fine */

/* quantize_estimate.c: seconds and peak memory of the run, from a measurement on this model's rows. */
ht_status ht_quant_estimate(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);
/* Warns before work when a run of blocks will take more than the options' memory_bytes; predicted_rss_bytes. */
ht_status ht_quant_check_memory(struct ht_context *ctx, struct ht_quant_job *job, ht_err *err);
/* Bytes of the hidden states of so many tokens, and whether they have to go to a file to keep the options'
 * memory_bytes; without_streams_bytes. */
uint64_t ht_quant_streams(const struct ht_quant_job *job, const struct ht_model *model, uint64_t tokens);
bool ht_quant_spills(const struct ht_quant_job *job, uint64_t streams);

/* quantize_record.c */
/* Metadata of the output. What is not known yet (hash, figures of a collected matrix) is 0 and of the same length, so
 * that the size of the file is known before any work; called again when all is known. */
ht_status ht_quant_set_meta(struct ht_quant_job *job, ht_err *err);
ht_status ht_quant_record(const struct ht_context *ctx, const struct ht_quant_job *job, char **json, ht_err *err);
void ht_quant_warn(struct ht_context *ctx, struct ht_quant_job *job, const char *fmt, ...) HT_PRINTF(3, 4);

/* quantize_beside.c: the record as files beside the output; what fails is a warning, because the output stands. False:
 * they are not there. */
#define HT_RECORD_JSON ".record.json"
#define HT_RECORD_HTML ".record.html"
bool ht_quant_write_records(struct ht_context *ctx, struct ht_quant_job *job, const char *record);
/* Files of a record that this program wrote of an output that is no more; others are left alone. */
void ht_quant_drop_records(struct ht_context *ctx, struct ht_quant_job *job);

#endif
