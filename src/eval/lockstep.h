/* Two models that read the same windows piece by piece. */
#ifndef HT_EVAL_LOCKSTEP_H
#define HT_EVAL_LOCKSTEP_H

#include "calib/calib.h"
#include "eval/tally.h"
#include "model/session.h"

struct ht_eval_side { /* one of the two models */
    struct ht_model *model;
    struct ht_run *run;
    float *logits; /* [piece, vocab] */
    double seconds; /* spent computing logits */
    uint64_t tokens;
};

struct ht_lockstep {
    struct ht_context *ctx;
    struct ht_eval_side model, reference; /* reference.model NULL: perplexity only */
    uint32_t window, first, per_window;   /* positions first .. first + per_window - 1 are scored */
    uint32_t piece;                       /* tokens whose logits are held at once */
    int32_t *ids;                         /* [window] */
    struct ht_score *scores;              /* [per_window] */
    bool *finite;                         /* [per_window] */
};

ht_status ht_lockstep_init(struct ht_lockstep *ls, struct ht_context *ctx, const ht_eval_options *options,
                           ht_err *err);
void ht_lockstep_deinit(struct ht_lockstep *ls);
/* Both runs tell the meter between their steps, so that a window can be cancelled; NULL: no more. */
void ht_lockstep_watch(struct ht_lockstep *ls, struct ht_meter *meter);

/* Scores ids [window]: ls->scores holds the result. number and path are for errors. */
ht_status ht_lockstep_window(struct ht_lockstep *ls, const int32_t *ids, uint64_t number, const char *path,
                             ht_err *err);

#endif
