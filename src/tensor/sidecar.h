/* SIDECAR: what a recipe leaves beside the codes of one linear, because it fits no grid or happens at run time. The
 * linear's weight is a qtensor (or a block format) of the matrix that the codes see; the sidecar says how an input
 * reaches it and what is added to the product:
 *
 *     v = (x - in_shift) / in_scale        online SmoothQuant and AWQ; shift of Outlier Suppression+
 *     w = v H                              online rotation, in blocks (tensor/hadamard.h)
 *     u[j] = w[perm[j]]                    column j of the codes is input perm[j]
 *
 *     y =   codes * act(u with 0 at out_idx)      act: rounding of activations, see below
 *         + sum over i of out_val[:, i] u[out_idx[i]]     columns REPLACE: the codes there count nothing
 *         + S u                                           sparse ADDS: an entry is what the codes lack of the weight
 *         + lr_b (lr_a u)                                 low rank ADDS
 *         + out_bias
 *
 * All indices count columns of the codes (u), after perm. Only the codes see rounded activations.
 *
 * Stored parts, as of a qtensor (NAME.out_idx ...):
 *
 *     in_shift [cols] f32     in_scale [cols] f32, finite, not 0     perm [cols] u32, a permutation
 *     out_idx [n_out] u32, ascending         out_val [rows, n_out] f16
 *     sp_ptr [rows + 1] u32, from 0, never falling   sp_idx [n_sparse] u32, ascending in a row   sp_val [n_sparse] f16
 *     lr_a [rank, cols] f16   lr_b [rows, rank] f16  out_bias [rows] f32
 *     act_idx [n_clusters] u32: first column of each cluster, from 0, ascending
 *     act_scale [n_act] f32, positive        act_zero [n_act] i32: of asym activations
 *                             n_act: n_clusters, or 1 without clusters
 *
 * ACTIVATIONS (act.format set): u is rounded to a scheme before it meets the codes. Codes times codes are summed in
 * int32 where both are integers; small floats are multiplied as values.
 *     int8:token   a scale per token (with clusters: per token and cluster), found at run time
 *     int8:gN      a scale per token and N columns, found at run time
 *     int8:tensor  act_scale (and act_zero): fixed scales, found by calibration; one per cluster if there are any
 * threshold > 0: in each token, inputs with |u| > threshold skip the rounding and are multiplied with the decoded
 * weight (LLM.int8(), Dettmers et al. 2022, arXiv 2208.07339, sec. 3.2; there an input that is large in one token is
 * taken out of all tokens of the batch; deciding token by token makes results independent of the batch).
 *
 * Clusters: Yuan et al. 2023 (RPTQ, arXiv 2304.01089). Low rank: Yao et al. 2023 (arXiv 2303.08302), Zhang et al. 2024
 * (LQER, arXiv 2402.02446). Sparse: Dettmers et al. 2023 (SpQR, arXiv 2306.03078). Columns: Lee et al. 2023 (OWQ,
 * arXiv 2306.02272). */
#ifndef HT_TENSOR_SIDECAR_H
#define HT_TENSOR_SIDECAR_H

#include "tensor/qtensor.h"

/* What is left behind, one bit each: recipes declare it, containers must store it, the runtime must do it.
 * X(NAME, text, what) */
#define HT_LEAVES_LIST(X)                                                                \
    X(COLUMNS, "columns", "columns kept in f16")                                         \
    X(SPARSE, "sparse", "single weights added in f16")                                   \
    X(LOWRANK, "lowrank", "a product of two thin f16 matrices added")                    \
    X(IN_SCALE, "in-scale", "inputs divided by a vector")                                \
    X(IN_SHIFT, "in-shift", "a vector subtracted from inputs")                           \
    X(HADAMARD, "hadamard", "inputs rotated at run time")                                \
    X(PERM, "perm", "inputs reordered at run time")                                      \
    X(OUT_BIAS, "out-bias", "a bias that the architecture does not have")                \
    X(ACT, "act", "activations rounded at run time")                                     \
    X(ACT_SCALE, "act-scale", "fixed scales of activations")                             \
    X(CLUSTERS, "clusters", "groups of inputs with scales of their own")                 \
    X(THRESHOLD, "threshold", "large activations not rounded")                           \
    X(KV, "kv", "keys and values rounded in the cache")

enum ht_leaves_bit {
#define HT_LEAVES_BIT(name, text, what) HT_LEAVES_BIT_##name,
    HT_LEAVES_LIST(HT_LEAVES_BIT)
#undef HT_LEAVES_BIT
    HT_LEAVES_BITS
};

enum ht_leaves {
    HT_LEAVES_NOTHING = 0,
#define HT_LEAVES_ENUM(name, text, what) HT_LEAVES_##name = 1 << HT_LEAVES_BIT_##name,
    HT_LEAVES_LIST(HT_LEAVES_ENUM)
#undef HT_LEAVES_ENUM
};

const char *ht_leaves_name(enum ht_leaves_bit bit);
/* "columns, sparse" into out; "nothing" for 0. Returns out. */
#define HT_LEAVES_TEXT 160
const char *ht_leaves_text(unsigned leaves, char out[HT_LEAVES_TEXT]);

struct ht_sidecar {
    uint64_t rows, cols;
    unsigned leaves;      /* parts that are there; COLUMNS with n_out, SPARSE with n_sparse ... */
    uint32_t hadamard;    /* block, with HT_LEAVES_HADAMARD */
    uint32_t n_out, rank, n_clusters;
    uint64_t n_sparse;    /* below 2^32 */
    struct ht_scheme act; /* with HT_LEAVES_ACT; granularity token, group or tensor, zero none or code, not nested */
    float threshold;      /* with HT_LEAVES_THRESHOLD */

    float *in_shift, *in_scale;
    uint32_t *perm;
    uint32_t *out_idx;
    uint16_t *out_val;
    uint32_t *sp_ptr, *sp_idx;
    uint16_t *sp_val;
    uint16_t *lr_a, *lr_b;
    float *out_bias;
    uint32_t *act_idx;
    float *act_scale;
    int32_t *act_zero;
    bool owned; /* the memory above is the sidecar's */
};

/* Part i as files store it; false past the end. Needs rows, cols, leaves and the counts; as ht_qtensor_part. */
bool ht_sidecar_part(struct ht_sidecar *s, size_t i, struct ht_qpart *part);
/* *s holds rows, cols, leaves, counts, act, hadamard, threshold: checks them and takes zeroed memory, which deinit
 * gives back. HT_INVAL names the linear. name may be NULL. */
ht_status ht_sidecar_init(struct ht_sidecar *s, const char *name, ht_err *err);
void ht_sidecar_deinit(struct ht_sidecar *s);
/* Sizes alone, those that tensors in a file have; HT_INVAL. */
ht_status ht_sidecar_check_counts(const struct ht_sidecar *s, const char *name, ht_err *err);
/* The sizes and choices alone: what can be said without contents. */
ht_status ht_sidecar_check_shape(const struct ht_sidecar *s, const char *name, ht_err *err);
/* Contents from outside: every index in range and in order, scales finite and not 0. HT_FORMAT names linear, part and
 * place; what: file, may be NULL. */
ht_status ht_sidecar_check(const struct ht_sidecar *s, const char *what, const char *name, ht_err *err);
uint64_t ht_sidecar_bytes(const struct ht_sidecar *s);

/* Inputs on their way to the codes: x [n, cols] -> u [n, cols], another memory. scratch [cols]. */
void ht_sidecar_inputs(const struct ht_sidecar *s, const float *x, uint64_t n, float *u, float *scratch);

/* The effective weights, as they act on x: rows row0 .. row0 + n - 1 of the matrix that makes y without in_shift and
 * out_bias, and without rounding of activations. w [n, cols]: on entry the decoded codes, on return the weights.
 * scratch [cols]. */
void ht_sidecar_apply_rows(const struct ht_sidecar *s, uint64_t row0, uint64_t n, float *w, float *scratch);
/* The same from a qtensor; side may be NULL: decoding alone. x [n, cols], scratch [cols]. */
void ht_sidecar_dense(const struct ht_qtensor *q, const struct ht_sidecar *side, uint64_t row0, uint64_t n, float *x,
                      float *scratch);

#endif
