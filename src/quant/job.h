/* ONE LINEAR on its way through the six steps (recipe.h). Step 1, the transforms, has been taken when a job
 * starts, because it changes several linears at once; the job takes the rest:
 *
 *     2 outlier->run    takes weights out of the grid's reach, into the sidecar
 *     3..6 round->run   fits ranges, snaps, rounds and encodes, each in the way of the grid: blocks or codes
 *
 * and measures what was lost. A job is the only thing that a part sees: no model, no file. */
#ifndef HT_QUANT_JOB_H
#define HT_QUANT_JOB_H

#include "base/pool.h"
#include "quant/recipe.h"
#include "quant/round/round.h"
#include "tensor/sidecar.h"

/* Plain numbers only: work files hold it as it is. Losses are means over tokens of |y - y^|^2, summed over
 * outputs: tr(E H E^T), H undamped; without second moments sum_j E[x_j^2] |E_j|^2, without any statistics |E|^2. Both
 * are of the weights as they came, before drift is corrected for, and of outputs as the model has them, whatever
 * transforms have multiplied them by: linears, methods and formats compare. What learned bits or columns apart do for
 * inputs that are rounded, too, is no part of them. */
struct ht_job_report {
    double signal;       /* the same of the outputs themselves: 10 log10(loss / signal) is the error in dB */
    double loss_nearest; /* of the model's own weights on the format's own grid, to nearest, as method rtn writes them:
                          * what everything that the recipe does starts from. NaN without moments */
    double loss;         /* of what was written */
    double damping, drift; /* taken; 0: none */
    double seconds;
    uint64_t tokens;                  /* that the statistics saw */
    uint64_t dampings;                /* times damping was raised */
    uint64_t dead;                    /* inputs that were always 0 */
    uint64_t kept_nearest;            /* rows that nothing did better for */
    uint64_t columns, sparse, pruned; /* kept apart in 16 bits; made 0 */
    uint64_t saturated;               /* weights beyond the grid's ends */
    uint32_t moments;                 /* 2: tr(E H E^T), 1: weighted, 0: plain */
    /* learned with the whole layer: all its linears have the same. Mean squared error of the layer's output */
    uint32_t steps, best_step;        /* steps 0: not learned; best 0: nothing did better than the start */
    uint32_t searched;                /* values of the inputs that a search for their fixed range looked at */
    double layer_signal, layer_start, layer_loss;
};

struct ht_front_cut {
    uint64_t at; /* in [rows, cols] */
    float was;
};

/* What transforms leave to the run time in front of the codes of one linear, and a bias behind them. The linear's
 * matrix is then the one that the codes see, and its statistics are those of what reaches them. */
struct ht_front {
    struct ht_sidecar side; /* IN_SHIFT, IN_SCALE, HADAMARD, PERM, OUT_BIAS; owned */
    uint32_t *clusters;     /* [n_clusters] first column of each range of activations, or NULL */
    uint32_t n_clusters;
    float *unit;            /* [rows] outputs have become these times the model's; NULL: ones */
    struct ht_front_cut *cuts; /* [n_cuts] weights that a part has made smaller, as they were */
    uint64_t n_cuts;
    bool measured;          /* before the transforms: */
    double loss_nearest;    /* ht_job_nearest, of the weights as they were */
};

/* Makes room for more of it: parts that are new hold zeros, perm is the identity. hadamard: block, with
 * HT_LEAVES_HADAMARD. */
ht_status ht_front_add(struct ht_front *front, uint64_t rows, uint64_t cols, unsigned leaves, uint32_t hadamard,
                       ht_err *err);
void ht_front_deinit(struct ht_front *front);
/* Takes down where now [n] is not what was [n] is. HT_NOMEM. */
ht_status ht_front_cut(struct ht_front *front, const float *was, const float *now, uint64_t n, ht_err *err);
/* Into w as it came, what was cut: what losses are told against. */
void ht_front_restore(const struct ht_front *front, float *w);
/* The matrix is another one from here on: losses are told against what was cut. */
void ht_front_forget_cuts(struct ht_front *front);

/* Of a low-rank term: what its error is weighed with. */
enum ht_lowrank {
    HT_LOWRANK_NONE,
    HT_LOWRANK_PLAIN,  /* nothing */
    HT_LOWRANK_SCALED, /* the mean square of each input */
    HT_LOWRANK_MOMENTS /* the second moments */
};

/* Where the mean error of each output goes. */
enum ht_center {
    HT_CENTER_NONE,
    HT_CENTER_BIAS,  /* to job->bias: what the file's own bias gains */
    HT_CENTER_BESIDE /* to out_bias */
};

struct ht_job {
    struct ht_pool *pool;
    const char *name; /* for messages */
    const struct ht_place_recipe *weights;
    const struct ht_place_recipe *activations; /* NULL or without format: they stay float */
    const struct ht_format *block;             /* a type of GGUF, or NULL: */
    struct ht_scheme scheme;                   /* codes */
    float *w;                                  /* [rows, cols] finite; steps change it */
    uint64_t rows, cols;
    const struct ht_front *front; /* or NULL */
    const struct ht_stats *stats; /* what the recipe needs; NULL: nothing was collected */
    uint8_t *keep; /* [rows, cols] enum ht_keep: what outlier parts took off the grid; NULL: nothing */
    float *target; /* [rows, cols] the weights before rounding, where a part wants them; NULL: not kept */
    enum ht_lowrank lowrank; /* set by a part */
    enum ht_center center;   /* with stats->mean */
    double drift;  /* 0..1, with stats->cross */
    uint64_t seed;
    /* results; the caller's to release with ht_job_release */
    unsigned char *bytes;   /* block: [rows] rows of the format */
    struct ht_qtensor q;    /* codes */
    struct ht_sidecar side; /* leaves 0: nothing beside */
    float *bias;            /* [rows] with HT_CENTER_BIAS */
    struct ht_job_report report;
};

/* How what is told beforehand may differ from what will be: bits; 0: not at all. */
enum ht_expect { HT_EXPECT_EXACT = 0, HT_EXPECT_LESS = 1, HT_EXPECT_MORE = 2 };

/* What the job will leave beside its codes, by shapes and choices alone: side gets leaves, counts and act, and no
 * memory. w, stats and what the front's parts hold are not read. *expect: enum ht_expect, of bytes. */
ht_status ht_job_expect(struct ht_job *job, unsigned *expect, ht_err *err);

/* HT_NUMERIC: weights or statistics are not finite; HT_INVAL, HT_UNSUPPORTED name the choice that cannot be
 * made; HT_NOMEM. */
ht_status ht_job_run(struct ht_job *job, ht_err *err);
void ht_job_release(struct ht_job *job);
/* Signal and loss of the report, for the result as it is now; original [rows, cols]: the weights it stands for.
 * ht_job_run does it; called again by who changes codes afterwards. */
ht_status ht_job_measure(struct ht_job *job, const float *original, ht_err *err);

/* Rows x [n, cols] of errors, taken to the inputs that the statistics are of. */
typedef ht_status ht_job_carry(const void *ctx, float *x, uint64_t n, uint64_t cols, ht_err *err);
/* Loss of w [rows, cols], rounded to nearest on the format's own grid whatever the job's choices are, against w itself:
 * one encoding and one product. carry NULL: w's inputs are those of the statistics. NaN where these have neither second
 * moments nor mean squares. HT_NOMEM and what encoding fails with. */
ht_status ht_job_nearest(const struct ht_job *job, float *w, ht_job_carry *carry, const void *ctx, double *loss,
                         ht_err *err);

/* The weights as they act on what reaches the codes, rows row0 .. row0 + n - 1: x [n, cols]; scratch [cols]. */
void ht_job_decode(const struct ht_job *job, uint64_t row0, uint64_t n, float *x, float *scratch);

/* ---- what rows of part.c call ---- */

/* Importance of each column, [cols]: the diagonal of the gram or the mean squares; NULL: nothing is known.
 * room [cols]. */
const float *ht_job_importance(const struct ht_job *job, float *room);

ht_status ht_job_round_nearest(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_round_stochastic(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_keep_columns(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_keep_sparse(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_keep_salient(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_lowrank(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_lowrank_scaled(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_lowrank_moments(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_prune(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_round_greedy(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_round_feedback(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
ht_status ht_job_round_relax(struct ht_job *job, const struct ht_choice *choice, ht_err *err);
/* The codes that learning on a block starts from. */
ht_status ht_job_round_start(struct ht_job *job, const struct ht_choice *choice, ht_err *err);

/* What the part will add to side, which has all but that: enum ht_expect. */
unsigned ht_job_expect_outliers(struct ht_job *job, const struct ht_choice *choice);
/* A copy of w in target, for parts that want it behind the rounding. HT_NOMEM. */
ht_status ht_job_keep_target(struct ht_job *job, ht_err *err);
/* Behind the rounding: factors of the low-rank term, for what was rounded; then the bias, towards the mean outputs of
 * original: the weights as they came, drift not corrected for. */
ht_status ht_job_make_up(struct ht_job *job, const float *original, ht_err *err);

/* W <- W + drift (W G (H + damping)^-1 - W), G = E[y x^T], y the inputs of the unquantized model: the weights
 * that give the unquantized outputs on inputs as they are now (QEP, Arai and Ichikawa 2025, arXiv 2504.09629,
 * with strength; Qronos, Zhang et al. 2025, arXiv 2505.11695, with 1). w [rows, cols], h and g [cols, cols].
 */
ht_status ht_drift_correct(struct ht_pool *pool, float *w, uint64_t rows, uint64_t cols, const float *h,
                           const float *g, double drift, ht_err *err);

#endif
