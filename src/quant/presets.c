/* Methods: each is a row that names parts on the axes (docs/methods.md). Presets of types (Q4_K_M ...) stand in
 * mix.c: they are the FORMAT choice alone, tensor by tensor. */
#include <stdio.h>
#include <strings.h>

#include "quant/method.h"

static const struct ht_method methods[] = {
    {"rtn",         "round to nearest on the format's own searched grid; needs no data",
          "Jacob et al. 2017, arXiv 1712.05877",
     "scales of GGUF types are searched for the least squared error instead of taken from the largest value",
     {{.range = "own", .round = "nearest"}}},
    {"imatrix",         "the same search, each column weighted by the mean square of its input on calibration text",
          "llama.cpp, pull request 4861",
     NULL,
     {{.range = "weighted", .round = "nearest"}}},
    {"gptq",         "columns rounded one after the other, each making up for the errors before it, then polished",
          "Frantar et al. 2022, arXiv 2210.17323",
     "scales are weighted and fixed before the feedback, columns go by falling diag(H), and descent on the "
     "codes and a refit of scales follow",
     {{.range = "weighted", .round = "feedback:damping=0.01,descents=4"}}},
    {"percentile",         "8-bit weights and activations, the rarest values clipped",
          "McKinstry et al. 2018, arXiv 1809.04191",
     "the share inside is 99.99 % for both places; activations are taken from up to 512 tokens spread over "
     "the text",
     {{.range = "percentile:p=99.99", .format = "int8:channel"},
      {.range = "percentile:p=99.99", .format = "int8:tensor"}}},
    {"entropy",         "8-bit weights and activations, thresholds of activations by the divergence of histograms",
          "Migacz 2017, 8-bit inference with TensorRT, GTC",
     "histograms are of up to 512 tokens spread over the text",
     {{.range = "absmax", .format = "int8:channel"},
      {.range = "entropy", .format = "int8:tensor"}}},
    {"awq", "columns scaled by the size of their inputs before rounding, the exponent found by trial; then clipping",
          "Lin et al. 2023, arXiv 2306.00978",
     "the trial scores tr(E H E^T) on the second moments of all tokens instead of outputs of a few",
     {{.transforms = {"search", "clip"}, .range = "own", .format = "uint4:g128", .round = "nearest"}}},
    {"smoothquant",         "the reach of inputs moves into the weights; then 8-bit weights and activations",
          "Xiao et al. 2022, arXiv 2211.10438",
     "weights have a scale per output channel and activations one per token, the finest of the paper's "
     "settings (O1)",
     {{.transforms = {"migrate:alpha=0.5"}, .range = "absmax", .format = "int8:channel"},
      {.range = "absmax", .format = "int8:token"}}},
    {"llm-int8",         "8-bit weights and activations; large inputs meet the weights in floating point",
          "Dettmers et al. 2022, arXiv 2208.07339",
     "which inputs are large is decided token by token, not for a whole batch, so that results do not depend "
     "on the batch",
     {{.range = "absmax", .format = "int8:channel"},
      {.range = "absmax", .format = "int8:token", .outlier = "threshold:6"}}},
    {"hqq",         "4-bit groups whose zero is fitted by shrinking large errors; needs no data",
          "Badri and Shaji 2023, Half-Quadratic Quantization",
     "the minimum is stored as real number, f16, as the scale",
     {{.range = "half-quadratic", .format = "uint4:g64:offset"}}},
    {"nf4",         "16 levels at the quantiles of a normal distribution, scales quantized again",
          "Dettmers et al. 2023, arXiv 2305.14314",
     NULL,
     {{.range = "absmax", .format = "nf4:g64:nested"}}},
    {"fp4",         "4-bit floats of bitsandbytes, scales quantized again",
          "Dettmers et al. 2023, arXiv 2305.14314",
     NULL,
     {{.range = "absmax", .format = "fp4:g64:nested"}}},
    {"fp8",         "8-bit floats (E4M3) for weights and activations",
          "Micikevicius et al. 2022, arXiv 2209.05433",
     NULL,
     {{.range = "absmax", .format = "fp8_e4m3:channel"},
      {.range = "absmax", .format = "fp8_e4m3:token"}}},
    {"olive",         "pairs: an outlier takes the code of its neighbour, which becomes 0; in the format ovp4",
          "Guo et al. 2023, arXiv 2304.07493",
     "weights alone; activations stay float",
     {{.range = "own", .format = "ovp4"}}},
    {"obq",         "each row in its own order, the cheapest weight next; exact, for layers of up to 2,048 inputs",
          "Frantar and Alistarh 2022, arXiv 2208.11580",
     "scales are weighted and fixed before, as for gptq",
     {{.range = "weighted", .format = "int4:g64", .round = "greedy"}}},
    {"owq",         "the inputs that rounding hurts most stay in f16, the others go by error feedback",
          "Lee et al. 2023, arXiv 2306.02272",
     "scales are weighted least squares, and descent and refit follow the feedback; at least one column, which on "
     "narrow matrices costs more than the bits allowed",
     {{.range = "weighted", .format = "int3:channel", .round = "feedback", .outlier = "columns:bits=0.1"}}},
    {"spqr",         "the single weights that rounding hurts most keep the rest in f16; groups of 16, scales in 8 bits",
          "Dettmers et al. 2023, arXiv 2306.03078",
     "second-level scales are 8-bit codes per 256 groups instead of 3-bit; codes are symmetric",
     {{.range = "weighted", .format = "int3:g16:nested", .round = "feedback", .outlier = "sparse:fraction=0.01"}}},
    {"adaround", "up or down learned weight by weight, on the error of one matrix's output",
          "Nagel et al. 2020, arXiv 2004.10568",
     "on second moments of the inputs instead of samples, so 400 steps do for 10,000; the penalty's weight is in units "
     "of what one rounding costs; scales are weighted least squares",
     {{.range = "weighted", .round = "relax"}}},
    {"autoround", "rounding and scales of a whole layer learned by signed gradients of its output's error",
          "Cheng et al. 2023, arXiv 2309.05516",
     "starts from the codes of error feedback, with a quarter of the paper's rate, instead of from nearest; 128 steps "
     "of one window; a token's error counts by the size of its target; one window of six is kept from learning and "
     "tells the best step",
     {{.range = "weighted", .round = "learn:by=sign"}}},
    {"zeroquant", "group weights and token activations in integers; each layer learns from the unquantized one",
          "Yao et al. 2022, arXiv 2206.01861",
     "all weights have 4 bits (in the paper those of attention 8) and are learned from the codes of error feedback, "
     "the loss seeing rounded activations; scales are symmetric, weighted least squares",
     {{.range = "weighted", .format = "int4:g64", .round = "learn:by=adam"},
      {.range = "absmax", .format = "int8:token"}}},
    {"sparse-2-4",         "two of every four weights become 0, the others 4 bits by error feedback",
          "Frantar and Alistarh 2023, arXiv 2301.00774",
     "which weights go is chosen beforehand; zeros are codes like others, nothing skips them yet",
     {{.range = "weighted", .format = "int4:g64", .round = "feedback", .outlier = "prune:n=2,m=4"}}},
    {"quarot",         "everything turned by Hadamard matrices, so that nothing sticks out; then 4 bits for weights, "
          "activations and cache",
          "Ashkboos et al. 2024, arXiv 2404.00456",
     "values are turned within each head alone, ranges of activations and cache are not cut (the paper: to 0.9 and "
     "0.95), and descent and refit follow the feedback",
     {{.transforms = {"rotate", "rotate-inputs"}, .range = "weighted", .format = "int4:channel", .round = "feedback"},
      {.range = "absmax", .format = "int4:token"},
      {.range = "minmax", .format = "uint4:token+hadamard"}}},
    {"os+",         "inputs moved to lie around 0 and the widest scaled to a threshold; then 8-bit weights and "
          "activations",
          "Wei et al. 2023, arXiv 2304.09145",
     "a threshold without a shift is tried too, and tokens count by 1 / |x|^2 when losses are compared; activations "
     "have a scale per token",
     {{.transforms = {"shift"}, .range = "absmax", .format = "int8:channel"},
      {.range = "absmax", .format = "int8:token"}}},
    {"rptq",         "inputs reordered into clusters of similar range, each with a fixed scale and zero; 4-bit weights",
          "Yuan et al. 2023, arXiv 2304.01089",
     "every input has up to 32 clusters (the paper: 1 to 32 by place); orders behind norms are made at run time; keys "
     "and values stay float",
     {{.transforms = {"cluster:k=32"}, .range = "weighted", .format = "int4:channel", .round = "feedback"},
      {.range = "minmax", .format = "uint8:tensor"}}},
    {"awq-mixed",         "the inputs of the largest mean magnitude keep their weights in f16, the others have 4 bits",
          "Lin et al. 2023, arXiv 2306.00978, section 3.1",
     NULL,
     {{.range = "own", .format = "uint4:g128", .outlier = "salient:fraction=0.01"}}},
    {"lorc",         "rounding to nearest, and the best product of two thin matrices for its error; needs no data",
          "Yao et al. 2023, arXiv 2303.08302",
     "the two matrices are f16 (the paper: 8 bits)",
     {{.range = "own", .format = "uint4:g128", .outlier = "lowrank:rank=8"}}},
    {"lqer",         "the same, the error weighted by the size of inputs; 8-bit activations",
          "Zhang et al. 2024, arXiv 2402.02446",
     "columns are weighted by the root of the mean square of their input (the paper: the mean magnitude, normalized); "
     "integer groups of 64 instead of MXINT of 16; the two matrices are f16",
     {{.range = "own", .format = "int4:g64", .outlier = "lowrank-scaled:rank=32"},
      {.range = "absmax", .format = "int8:token"}}},
};
enum { N_METHODS = sizeof methods / sizeof methods[0] };

size_t ht_method_count(void) {
    return N_METHODS;
}

const struct ht_method *ht_method_at(size_t i) {
    return &methods[i];
}

const struct ht_method *ht_method_find(const char *name) {
    for (size_t i = 0; i < N_METHODS; i++) {
        if (strcasecmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

const char *ht_method_name_at(const void *unused, size_t i) {
    (void)unused;
    return methods[i].name;
}

/* ---- the recipe of a row --------------------------------------------------------------------------------- */

static ht_status choose(enum ht_axis axis, const char *text, struct ht_choice *choice, ht_err *err) {
    return text != NULL ? ht_choice_parse(axis, text, choice, err) : HT_OK;
}

static ht_status place_recipe(const struct ht_place_row *row, struct ht_place_recipe *p, ht_err *err) {
    for (size_t i = 0; i < HT_MAX_TRANSFORMS && row->transforms[i] != NULL; i++) {
        HT_TRY(choose(HT_AXIS_TRANSFORM, row->transforms[i], &p->transforms[p->n_transforms++], err));
    }
    HT_TRY(choose(HT_AXIS_RANGE, row->range, &p->range, err));
    HT_TRY(choose(HT_AXIS_ROUND, row->round, &p->round, err));
    HT_TRY(choose(HT_AXIS_OUTLIER, row->outlier, &p->outlier, err));
    snprintf(p->format, sizeof p->format, "%s", row->format != NULL ? row->format : "");
    return HT_OK;
}

ht_status ht_method_recipe(const struct ht_method *m, struct ht_recipe *recipe, ht_err *err) {
    ht_recipe_defaults(recipe);
    snprintf(recipe->name, sizeof recipe->name, "%s", m->name);
    snprintf(recipe->summary, sizeof recipe->summary, "%s", m->summary);
    snprintf(recipe->source, sizeof recipe->source, "%s", m->source);
    for (int i = 0; i < HT_PLACES; i++) {
        if (place_recipe(&m->places[i], &recipe->places[i], err) != HT_OK) {
            return err != NULL ? (err->code = HT_INTERNAL) : HT_INTERNAL;
        }
    }
    return HT_OK;
}
