/* The rows of every axis. What is not implemented does not stand here. */
#include <strings.h>

#include "quant/fold_job.h"
#include "quant/job.h"
#include "quant/range.h"

#define NO_OPTIONS {{NULL, 0, 0, 0, NULL, HT_OPTION_REAL, NULL}}
#define REAL(name, value, low, high, help) {name, value, low, high, help, HT_OPTION_REAL, NULL}
#define WHOLE(name, value, low, high, help) {name, value, low, high, help, HT_OPTION_WHOLE, NULL}
#define FLAG(name, value, help) {name, value, 0, 1, help, HT_OPTION_FLAG, NULL}
#define WORD(name, value, last, help, words) {name, value, 0, last, help, HT_OPTION_WORD, words}

/* A transform of the weights of a block: folds away, so it leaves nothing. */
#define FOLD(name, needs, summary, formula, source, fold, ...)                                                  \
    {name, HT_AXIS_TRANSFORM, HT_ON_WEIGHTS, HT_GRIDS_ALL, needs, HT_LEAVES_NOTHING, summary, formula, source, NULL, \
     fold, __VA_ARGS__}

static const struct ht_part transforms[] = {
    FOLD("none", HT_NEEDS_NOTHING, "the tensor as it is", "W' = W", "-", NULL, NO_OPTIONS),
    FOLD("rotate", HT_NEEDS_NOTHING,
         "the residual stream turned by a random Hadamard matrix, and each head's values; norms move into their "
         "readers, the head leaves the embedding",
         "W' = W Q^T, Q W,  Q = H diag(+-1)", "Ashkboos et al. 2024, arXiv 2404.00456, section 4", ht_fold_job_rotate,
         {FLAG("stream", 1, "the residual stream, with embedding and head"),
          FLAG("values", 1, "the values of each head")}),
    FOLD("migrate", HT_NEEDS_ABSMAX,
         "the reach of inputs moves into the weights that read them, by an exponent; folded into the norm before",
         "s_j = max|x_j|^alpha / max|W_j|^(1 - alpha),  x' = x / s,  W' = W diag(s)",
         "Xiao et al. 2022, arXiv 2211.10438, eq. 4", ht_fold_job_migrate,
         {REAL("alpha", 0.5, 0, 1, "share of the inputs' reach that moves"),
          FLAG("all", 0, "also between matrices: values into the output projection, up into down")}),
    FOLD("search", HT_NEEDS_MEAN_ABS | HT_NEEDS_ABSMAX | HT_NEEDS_GRAM,
         "columns scaled by the size of their inputs, the exponent found by trial; folded into what comes before",
         "s_j = mean|x_j|^alpha / sqrt(max s min s),  alpha = argmin tr(E H E^T),  E = Q(W diag(s)) diag(1/s) - W",
         "Lin et al. 2023, arXiv 2306.00978, section 3.2", ht_fold_job_search,
         {WHOLE("grid", 20, 1, 100, "exponents tried between 0 and 1"),
          WORD("by", 0, 1, "mean magnitude of inputs alone, or against the weights' reach", "magnitude|migrate"),
          WHOLE("rows", 256, 0, 65536, "rows of each linear that are tried, evenly spaced; 0: all")}),
    FOLD("clip", HT_NEEDS_GRAM,
         "the largest weights of each group cut, as far as that loses least; not queries and keys",
         "m = argmin_m e^T H_gg e,  e = w - Q(clip(w, m max|w|))",
         "Lin et al. 2023, arXiv 2306.00978, the authors' code",
         ht_fold_job_clip,
         {WHOLE("grid", 20, 2, 100, "steps of the largest weight; half of them are tried")}),
    FOLD("equalize", HT_NEEDS_NOTHING,
         "two matrices that follow each other get the same reach per channel; needs no data",
         "s_j = sqrt(max|row j of the first| / max|column j of the second|)",
         "Nagel et al. 2019, arXiv 1906.04721, section 4.1", ht_fold_job_equalize, NO_OPTIONS),
    FOLD("order", HT_NEEDS_MEAN_SQUARE,
         "channels of the feed-forward and of each head's values in another order: those that matter dealt over the "
         "groups that share a scale, or sorted into them; inputs behind norms stay",
         "x' = x[p],  W' = W[:, p],  p by falling E[x_j^2] sum_i w_ij^2", "Lin et al. 2024, arXiv 2406.01721, zigzag",
         ht_fold_job_order,
         {WORD("by", 0, 1, "back and forth over the groups, or one group after the other", "deal|sort"),
          WORD("of", 2, 2, "what matters: mean squares, squares of weights, or their product",
               "inputs|weights|outputs")}),
    {"rotate-inputs", HT_AXIS_TRANSFORM, HT_ON_WEIGHTS, HT_GRIDS_ALL, HT_NEEDS_NOTHING, HT_LEAVES_HADAMARD,
     "inputs that nothing before can turn are turned at run time: those of the feed-forward's last matrix",
     "y = (W H) (H x)", "Ashkboos et al. 2024, arXiv 2404.00456, section 4", NULL, ht_fold_job_rotate_inputs,
     {FLAG("output", 0, "those of the attention's output projection too")}},
    {"shift", HT_AXIS_TRANSFORM, HT_ON_WEIGHTS, HT_GRIDS_ALL, HT_NEEDS_MINMAX | HT_NEEDS_SAMPLE,
     HT_LEAVES_IN_SHIFT | HT_LEAVES_OUT_BIAS,
     "inputs moved to lie around 0, then the widest scaled to a threshold that is found by trial; scales are folded, "
     "shifts where biases are, else subtracted at run time",
     "z_j = (max x_j + min x_j) / 2,  s_j = max(1, max|x_j - z_j| / t),  y = W diag(s) ((x - z) / s) + W z",
     "Wei et al. 2023, arXiv 2304.09145, sections 4.1 and 4.2", NULL, ht_fold_job_shift,
     {FLAG("all", 1, "also values into the output projection and up into down"),
      FLAG("always", 0, "a shift also where a threshold alone loses less"),
      FLAG("relative", 1, "tokens count by 1 / |x|^2 when losses are compared, so that few huge ones do not decide"),
      WHOLE("grid", 20, 1, 100, "thresholds tried"),
      WHOLE("rows", 0, 0, 65536, "rows of each linear that are tried; 0: all")}},
    {"cluster", HT_AXIS_TRANSFORM, HT_ON_WEIGHTS, HT_GRIDS_ALL, HT_NEEDS_MINMAX, HT_LEAVES_PERM | HT_LEAVES_CLUSTERS,
     "inputs reordered so that those of similar range are neighbours, each cluster with a scale of its own; orders of "
     "the feed-forward's channels are folded, others made at run time",
     "K-means on (min x_j, max x_j)", "Yuan et al. 2023, arXiv 2304.01089, section 4.1", NULL, ht_fold_job_cluster,
     {WHOLE("k", 32, 1, 1024, "clusters of each input")}},
    {"center", HT_AXIS_TRANSFORM, HT_ON_WEIGHTS, HT_GRIDS_ALL, HT_NEEDS_MEAN, HT_LEAVES_OUT_BIAS,
     "each output's mean error is taken off by a bias: the model's own where it has one, else one beside the codes",
     "b' = b - (W^ - W) E[x]", "Nagel et al. 2019, arXiv 1906.04721, section 4.2", NULL, NULL, NO_OPTIONS},
    FOLD("center-biases", HT_NEEDS_MEAN, "the same where the model has biases, and nowhere else",
         "b' = b - (W^ - W) E[x]", "Nagel et al. 2019, arXiv 1906.04721, section 4.2", NULL, NO_OPTIONS),
};

#define RANGE(name, grids, needs, summary, formula, source)                                                        \
    {name, HT_AXIS_RANGE, HT_ON_WEIGHTS, grids, needs, HT_LEAVES_NOTHING, summary, formula, source, NULL, NULL, \
     NO_OPTIONS}

/* Ranges that belong to the format itself; those that any code grid can have follow from range_table.c. */
static const struct ht_part own_ranges[] = {
    RANGE("own", HT_GRIDS_ALL, HT_NEEDS_NOTHING,
          "what the format does by itself: GGUF types search the least squared error, codes cover the smallest to the "
          "largest value",
          "scale = argmin_s sum_j (w_j - s q_j)^2", "Jacob et al. 2017, arXiv 1712.05877"),
    RANGE("weighted", HT_GRIDS_ALL, HT_NEEDS_MEAN_SQUARE,
          "a search like that, each column weighted by the mean square of its input",
          "scale = argmin_s sum_j E[x_j^2] (w_j - s q_j)^2", "llama.cpp, pull request 4861"),
};

static const struct ht_part rounds[] = {
    {"nearest", HT_AXIS_ROUND, HT_ON_WEIGHTS | HT_ON_ACTIVATIONS | HT_ON_KV, HT_GRIDS_ALL, HT_NEEDS_NOTHING,
     HT_LEAVES_NOTHING, "each value takes the nearest point of its grid", "q = argmin_q |w - s q|",
     "Jacob et al. 2017, arXiv 1712.05877", ht_job_round_nearest, NULL, NO_OPTIONS},
    {"stochastic", HT_AXIS_ROUND, HT_ON_WEIGHTS, HT_GRIDS_CODE, HT_NEEDS_NOTHING, HT_LEAVES_NOTHING,
     "up or down by chance, so that the mean is exact; the seed decides", "P(up) = w/s - floor(w/s)",
     "Gupta et al. 2015, arXiv 1502.02551", ht_job_round_stochastic, NULL, NO_OPTIONS},
    {"feedback", HT_AXIS_ROUND, HT_ON_WEIGHTS, HT_GRIDS_ALL, HT_NEEDS_GRAM, HT_LEAVES_NOTHING,
     "columns one after the other, each making up for the errors before it; then descent and refit",
     "w_j <- w_j + sum_{i<j} e_i R_ij / R_jj,  H = R R^T", "Frantar et al. 2022, arXiv 2210.17323",
     ht_job_round_feedback, NULL,
     {REAL("damping", 0.01, 0, 10, "added to the diagonal of H, times its mean"),
      WORD("order", 0, 2, "columns by falling diag(H), in their own order, or group by group",
           "falling|natural|groups"),
      FLAG("dynamic", 0, "fit each group when its turn comes, to weights as feedback has left them"),
      WHOLE("descents", 4, 0, 64, "sweeps of coordinate descent behind the feedback")}},
    {"relax", HT_AXIS_ROUND, HT_ON_WEIGHTS, HT_GRIDS_SINGLE, HT_NEEDS_GRAM, HT_LEAVES_NOTHING,
     "each weight between its two neighbours, then driven to one of them by a penalty that grows sharper; Adam",
     "min_u tr(E H E^T) / c + weight sum_ij 1 - |2 h(u_ij) - 1|^beta,  h(u) = clip(1.2 sigmoid(u) - 0.1)",
     "Nagel et al. 2020, arXiv 2004.10568, eq. 22 to 24", ht_job_round_relax, NULL,
     {WHOLE("steps", 400, 1, 100000, "of Adam"), REAL("lr", 0.03, 1e-6, 10, "Adam's step"),
      REAL("weight", 6, 0, 1e6, "of the penalty, when moving one weight by a step costs 1"),
      REAL("beta-from", 20, 1, 100, "exponent of the penalty at first"),
      REAL("beta-to", 2, 1, 100, "and at last"), REAL("warmup", 0, 0, 0.99, "share of the steps without penalty")}},
    {"learn", HT_AXIS_ROUND, HT_ON_WEIGHTS, HT_GRIDS_SINGLE, HT_NEEDS_GRAM | HT_NEEDS_GRAD, HT_LEAVES_NOTHING,
     "all matrices of a layer at once, by gradients of the error of the layer's output; rounding passes them on",
     "min_{v,s} |f(s clip(round(w / s + v))) - f_float|^2,  dq/dv = 1", "Cheng et al. 2023, arXiv 2309.05516, eq. 3",
     ht_job_round_start, NULL,
     {WORD("by", 0, 1, "signed gradients, v within half a step; or Adam, v without bound", "sign|adam"),
      WORD("start", 0, 1, "codes that learning starts from", "feedback|nearest"),
      WHOLE("steps", 128, 1, 100000, "of learning"), WHOLE("batch", 1, 1, 256, "windows of text per step"),
      REAL("lr", 0, 0, 10, "step of v, falling to 0; 0: adam 0.004, sign 1 / (4 steps), from nearest 1 / steps"),
      REAL("lr-range", 0, 0, 1, "step of scales, of their size; 0: a quarter of lr"),
      WHOLE("checks", 4, 1, 1000, "how often the best step is looked for, on one window of six"),
      WORD("error", 0, 1, "each token's by the mean square of its target, or as it is", "relative|plain")}},
    {"greedy", HT_AXIS_ROUND, HT_ON_WEIGHTS, HT_GRIDS_SINGLE, HT_NEEDS_GRAM, HT_LEAVES_NOTHING,
     "each row in its own order, the cheapest weight next, the rest making up for it; n^3 per row, to 2,048 inputs",
     "j = argmin_j (w_j - q_j)^2 / [H^-1]_jj,  w <- w - e_j [H^-1]_:j / [H^-1]_jj",
     "Frantar and Alistarh 2022, arXiv 2208.11580",
     ht_job_round_greedy, NULL,
     {REAL("damping", 0.01, 0, 10, "added to the diagonal of H, times its mean"),
      WHOLE("descents", 0, 0, 64, "sweeps of coordinate descent behind it")}},
};

#define LOWRANK(name, needs, summary, formula, source, run)                                                       \
    {name, HT_AXIS_OUTLIER, HT_ON_WEIGHTS, HT_GRIDS_ALL, needs, HT_LEAVES_LOWRANK, summary, formula, source, run, \
     NULL,                                                                                                        \
     {WHOLE("rank", 32, 1, 1024, "columns of the one matrix, rows of the other")}}

static const struct ht_part outliers[] = {
    {"none", HT_AXIS_OUTLIER, HT_ON_WEIGHTS | HT_ON_ACTIVATIONS | HT_ON_KV, HT_GRIDS_ALL, HT_NEEDS_NOTHING,
     HT_LEAVES_NOTHING, "everything stays on the grid", "W'' = W'", "-", NULL, NULL, NO_OPTIONS},
    {"threshold", HT_AXIS_OUTLIER, HT_ON_ACTIVATIONS, HT_GRIDS_CODE, HT_NEEDS_NOTHING, HT_LEAVES_THRESHOLD,
     "inputs beyond a threshold are not rounded and meet the decoded weights, token by token",
     "y = sum_{|x_j| > t} x_j W_j + s_x s_w sum_{|x_j| <= t} q_xj q_wj",
     "Dettmers et al. 2022, arXiv 2208.07339, section 3.2",
     NULL, NULL, {REAL("threshold", 6, 0.001, 1e6, "magnitude of an input that is large")}},
    {"columns", HT_AXIS_OUTLIER, HT_ON_WEIGHTS, HT_GRIDS_CODE, HT_NEEDS_GRAM, HT_LEAVES_COLUMNS,
     "the inputs whose rounding costs most keep their weights in f16", "H_jj sum_i (w_ij - q_ij)^2",
     "Lee et al. 2023, arXiv 2306.02272, section 3.2", ht_job_keep_columns, NULL,
     {REAL("bits", 0.1, 0, 4, "bits per weight that they may cost, at least one column; when fraction is 0"),
      REAL("fraction", 0, 0, 0.5, "of the columns; 0: by bits")}},
    {"salient", HT_AXIS_OUTLIER, HT_ON_WEIGHTS, HT_GRIDS_CODE, HT_NEEDS_MEAN_ABS, HT_LEAVES_COLUMNS,
     "the inputs of the largest mean magnitude keep their weights in f16", "the largest of mean|x_j|",
     "Lin et al. 2023, arXiv 2306.00978, section 3.1", ht_job_keep_salient, NULL,
     {REAL("fraction", 0.01, 0, 0.5, "of the columns, rounded up")}},
    {"sparse", HT_AXIS_OUTLIER, HT_ON_WEIGHTS, HT_GRIDS_CODE, HT_NEEDS_GRAM, HT_LEAVES_SPARSE,
     "the single weights whose rounding costs most get what their codes lack in f16", "(w - q)^2 / (2 [H^-1]_jj) > tau",
     "Dettmers et al. 2023, arXiv 2306.03078, section 3.1", ht_job_keep_sparse, NULL,
     {REAL("fraction", 0.01, 0, 0.5, "of all weights, when tau is 0"), REAL("tau", 0, 0, 1e9, "threshold"),
      REAL("damping", 0.01, 0, 10, "of H in its inverse, times the mean of its diagonal")}},
    {"prune", HT_AXIS_OUTLIER, HT_ON_WEIGHTS, HT_GRIDS_CODE, HT_NEEDS_GRAM, HT_LEAVES_NOTHING,
     "weights become 0: n of every m stay, or a fraction goes; feedback makes up for them",
     "w_ij -> 0 where w_ij^2 / [H^-1]_jj is least",
     "Frantar and Alistarh 2023, arXiv 2301.00774", ht_job_prune, NULL,
     {WHOLE("n", 2, 1, 64, "of every m neighbours stay"), WHOLE("m", 4, 1, 64, "neighbours"),
      REAL("fraction", 0, 0, 0.99, "of the weights that go, wherever they are; 0: n of every m stay"),
      WORD("score", 2, 2, "what is least", "magnitude|activation|hessian"),
      REAL("damping", 0.01, 0, 10, "of H in its inverse, times the mean of its diagonal")}},
    LOWRANK("lowrank", HT_NEEDS_NOTHING, "the best product of two thin f16 matrices is added for the error of rounding",
            "B A ~ W - Q,  least |E - B A|^2", "Yao et al. 2023, arXiv 2303.08302, section 5", ht_job_lowrank),
    LOWRANK("lowrank-scaled", HT_NEEDS_MEAN_SQUARE, "the same, each column weighted by the mean square of its input",
            "B A ~ W - Q,  least |(E - B A) diag(E[x_j^2])^1/2|^2", "Zhang et al. 2024, arXiv 2402.02446, section 3.2",
            ht_job_lowrank_scaled),
    LOWRANK("lowrank-moments", HT_NEEDS_GRAM, "the same for the error of the outputs",
            "B A ~ W - Q,  least tr((E - B A) H (E - B A)^T)", "Liu et al. 2024, arXiv 2410.21271",
            ht_job_lowrank_moments),
};

static const struct ht_part *range_at(size_t i) {
    return &ht_range_at(i)->part;
}

/* Pieces of the table, axis after axis. */
static const struct {
    const struct ht_part *rows; /* NULL: at */
    size_t n;
    size_t (*count)(void);
    const struct ht_part *(*at)(size_t i);
} pieces[] = {
    {transforms, sizeof transforms / sizeof transforms[0], NULL, NULL},
    {own_ranges, sizeof own_ranges / sizeof own_ranges[0], NULL, NULL},
    {NULL, 0, ht_range_count, range_at},
    {rounds, sizeof rounds / sizeof rounds[0], NULL, NULL},
    {outliers, sizeof outliers / sizeof outliers[0], NULL, NULL},
};
enum { N_PIECES = sizeof pieces / sizeof pieces[0] };

size_t ht_part_count(void) {
    size_t n = 0;
    for (size_t i = 0; i < N_PIECES; i++) {
        n += pieces[i].rows != NULL ? pieces[i].n : pieces[i].count();
    }
    return n;
}

const struct ht_part *ht_part_at(size_t i) {
    for (size_t p = 0; p < N_PIECES; p++) {
        size_t n = pieces[p].rows != NULL ? pieces[p].n : pieces[p].count();
        if (i < n) {
            return pieces[p].rows != NULL ? &pieces[p].rows[i] : pieces[p].at(i);
        }
        i -= n;
    }
    return NULL;
}

const struct ht_part *ht_part_find(enum ht_axis axis, const char *name) {
    const struct ht_part *part;
    for (size_t i = 0; (part = ht_part_at(i)) != NULL; i++) {
        if (part->axis == axis && strcasecmp(part->name, name) == 0) {
            return part;
        }
    }
    return NULL;
}
