/* What a job writes: one row per tensor of the output, in its order, each saying where its values come from and
 * in which format they go out. convert and quantize make the plan, flow_stream.h carries it out.
 *
 * Names, shapes and row orders of both containers come from the architecture's table; a tensor that the table
 * does not know is carried over unchanged between files of one kind, and refused or reported otherwise. */
#ifndef HT_FLOW_FLOW_PLAN_H
#define HT_FLOW_FLOW_PLAN_H

#include "io/halftone.h"
#include "model/arch.h"
#include "quant/job.h"
#include "quant/transform/rotation.h"
#include "tensor/kv.h"
#include "token/tokenizer.h"

enum ht_target {
    HT_TARGET_GGUF,
    HT_TARGET_HF,      /* a folder that transformers loads: floats */
    HT_TARGET_HALFTONE /* a folder of our own (io/halftone.h): any format, codes, sidecars */
};

/* What becomes of rows of a matrix that is streamed: x -> Q (x scale). The residual stream turned (QuaRot): the
 * embedding's rows, and the head's behind the last norm's weights. */
struct ht_row_turn {
    const struct ht_rotation *q; /* of the row's length */
    const float *scale;          /* [cols] or NULL */
};

struct ht_plan_tensor {
    struct ht_tensor out;       /* name, format, shape; data NULL */
    const struct ht_tensor *in; /* NULL: literal */
    const float *literal;       /* [elems] values made by the plan */
    enum ht_role role;
    int32_t layer;
    /* 0, or heads of the rows: within a head of D rows, the order of in and stored changes between halves
     * (row j * D/2 + i) and pairs (row 2i + j). */
    uint32_t heads;
    bool to_pairs;
    const struct ht_format *wanted; /* the format asked for; another than out.format: a fallback was taken */
    const float *importance;        /* [ne[0]] or NULL */
    const unsigned char *stored;    /* finished rows in out.format, ordered as heads tells; NULL: to be encoded */
    const struct ht_job_report *report;  /* how stored or q came to be, or NULL */
    const struct ht_packed *packed;      /* of in, or NULL: values then come through it */
    const struct ht_row_turn *turn;      /* rows change on their way, or NULL */
    /* Codes of a scheme, for HT_TARGET_HALFTONE; out.format is then the scheme's code format. */
    const struct ht_scheme *scheme; /* or NULL: out.format alone */
    ht_range_fn *range;             /* of codes that are made while streaming; NULL: the scheme's own */
    const void *range_ctx;
    struct ht_qtensor *q;    /* finished codes, rows in the output's order; NULL: made while streaming, to nearest */
    struct ht_sidecar *side; /* what goes beside codes or blocks, rows in the output's order, or NULL */
    const struct ht_mapping *made; /* where stored, q and side lie from made_at on, or NULL: pages go once written */
    uint64_t made_at, made_bytes;
    /* Filled while streaming. Sums over all elements. */
    double sum_sq, err_sq;         /* x^2, (x - y)^2 */
    double weight_sum, weight_err; /* importance, importance * (x - y)^2 */
    uint64_t n_nonfinite, n_overflow;
    uint64_t hash; /* XXH3-64 of the stored bytes */
};

struct ht_flow_plan {
    enum ht_target target;
    bool from_gguf; /* the source has GGUF names and metadata */
    struct ht_source *source;
    const struct ht_arch *arch;
    struct ht_hparams hp;
    struct ht_binding *bindings; /* [source->n_tensors] */
    struct ht_hf_vocab *hf_vocab;
    struct ht_plan_tensor *tensors;
    size_t n_tensors;
    struct ht_meta meta;      /* of a GGUF target */
    struct ht_kv kv;          /* of a HT_TARGET_HALFTONE: how its cache keeps keys and values; format NULL: floats */
    bool untied;              /* the source's head is its embedding, the output has one of its own */
    char **skipped;           /* [n_skipped] names of source tensors that the output does not hold */
    size_t n_skipped;
    struct ht_arena arena;
};

/* Opens path and lays out the output with the input's formats; the caller sets out.format and wanted, then calls
 * ht_flow_plan_sizes. pre: name of the pre-tokenizer or NULL. */
ht_status ht_flow_plan_open(const char *path, const char *pre, enum ht_target target, struct ht_flow_plan **plan,
                            ht_err *err);
void ht_flow_plan_close(struct ht_flow_plan *plan);

/* The output gets a head of its own, whose values are the embedding's; nothing for a model that has one. HT_NOMEM. */
ht_status ht_flow_plan_untie(struct ht_flow_plan *plan, ht_err *err);

/* x [rows, cols] as the plan wants them; scratch [cols]. */
void ht_flow_turn_rows(const struct ht_plan_tensor *t, float *x, uint64_t rows, float *scratch);

/* Recomputes out.bytes of every tensor from its format, scheme, sidecar and shape. */
ht_status ht_flow_plan_sizes(struct ht_flow_plan *plan, ht_err *err);

/* The tensors of the output's files, in order: the plan's, or (HT_TARGET_HALFTONE) their parts; of each the plan's row.
 * Names live as long as the plan, the arrays until ht_flow_stored_free. HT_NOMEM, HT_LIMIT. */
struct ht_flow_stored {
    struct ht_tensor *tensors; /* [n] data NULL */
    size_t *rows;              /* [n] index into plan->tensors */
    size_t n;
};
ht_status ht_flow_plan_stored(struct ht_flow_plan *plan, struct ht_flow_stored *stored, ht_err *err);
void ht_flow_stored_free(struct ht_flow_stored *stored);
/* quantization_config.weights of a HT_TARGET_HALFTONE plan, a new object. HT_NOMEM. */
ht_status ht_flow_plan_entries(const struct ht_flow_plan *plan, json_t **weights, ht_err *err);
/* A tensor of a HT_TARGET_HALFTONE plan that is stored in parts. */
bool ht_flow_is_packed(const struct ht_flow_plan *plan, const struct ht_plan_tensor *t);
/* "int4:g64", "q4_k": what out holds. Returns text. */
const char *ht_plan_format(const struct ht_plan_tensor *t, char text[HT_SCHEME_TEXT]);

/* A matrix that a recipe may quantize. */
static inline bool ht_plan_is_weight(const struct ht_plan_tensor *t) {
    return ht_role_quantizable(t->role) && t->out.n_dims == 2;
}

/* Metadata of a GGUF target made of a Hugging Face source: general.*, hyper-parameters, tokenizer. */
ht_status ht_flow_meta_from_hf(struct ht_flow_plan *plan, ht_err *err);

/* The format of most weights by elements; *quantized: some weight is not float. */
const struct ht_format *ht_flow_plan_main_format(const struct ht_flow_plan *plan, bool *quantized);

/* "135M", "1.5B" for general.size_label. */
void ht_flow_size_label(uint64_t n_params, char *buf, size_t len);

#endif
