#include "format/guide.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- what it can express ------------------------------------------------------------------------------- */

static void put_range(struct ht_format_span *s, double lo, double hi, const char *more) {
    snprintf(s->range, sizeof s->range, "%.6g .. %.6g%s", lo, hi, more);
}

static void real_span(const struct ht_real *r, struct ht_format_span *s) {
    s->max = r->max;
    s->min_normal = r->min_normal;
    s->min_positive = r->min_subnormal;
    s->eps = r->eps;
    put_range(s, r->sign_bits > 0 ? -r->max : r->min_subnormal, r->max, "");
}

/* level(k) for k < n, in any order, may hold Inf and NaN. */
static void level_span(const float *levels, int32_t lo, int32_t hi, const char *more, struct ht_format_span *s) {
    double least = INFINITY, most = -INFINITY, near = INFINITY;
    for (int32_t c = lo; c <= hi; c++) {
        double v = levels != NULL ? (double)levels[c - lo] : c;
        if (isfinite(v)) {
            least = fmin(least, v);
            most = fmax(most, v);
            near = v > 0 ? fmin(near, v) : near;
        }
    }
    s->max = most;
    s->min_positive = isfinite(near) ? near : NAN;
    put_range(s, least, most, more);
}

/* Smallest distance of two levels, in any order; +0 and -0 are one. */
static double least_gap(const float *levels, int n) {
    double gap = INFINITY;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < i; k++) {
            double g = fabs((double)levels[i] - levels[k]);
            gap = g > 0 ? fmin(gap, g) : gap;
        }
    }
    return gap;
}

static void code_span(const struct ht_format *f, struct ht_format_span *s) {
    const struct ht_code *c = f->code;
    if (c->fitted) {
        s->max = 1;
        s->levels = (double)c->hi - c->lo + 1;
        put_range(s, -1, 1, " x scale");
        return;
    }
    if (f->real != NULL) {
        real_span(f->real, s);
        snprintf(s->range + strlen(s->range), sizeof s->range - strlen(s->range), " x scale");
    } else {
        level_span(c->levels, c->lo, c->hi, " x scale", s);
        s->eps = (c->levels != NULL ? least_gap(c->levels, c->hi - c->lo + 1) : 1) / fmax(s->max, 1);
    }
    s->levels = (double)c->hi - c->lo + 1;
}

/* The largest value is what decoding gives after encoding values that are too large for any format. */
static void block_span(const struct ht_format *f, struct ht_format_span *s) {
    float x[HT_BLOCK_MAX], y[HT_BLOCK_MAX];
    unsigned char bytes[HT_BLOCK_MAX * 8] = {0};
    if (f->unpack != NULL) {
        struct ht_grid g;
        int8_t codes[HT_BLOCK_MAX];
        f->unpack(bytes, &g, codes);
        level_span(g.levels, g.lo, g.hi, " x scale", s);
        s->eps = (g.levels != NULL ? least_gap(g.levels, g.hi - g.lo + 1) : 1) / s->max;
        s->levels = g.hi - g.lo + 1;
        s->decades = log10(s->max / s->min_positive);
    } else {
        snprintf(s->range, sizeof s->range, "sequences of %u x scale", f->vector > 0 ? f->vector : f->block_elems);
    }
    for (uint32_t i = 0; i < f->block_elems; i++) {
        x[i] = i & 1 ? -FLT_MAX : FLT_MAX;
    }
    f->encode(x, NULL, bytes, f->block_elems);
    f->decode(bytes, y, f->block_elems);
    s->max = 0;
    for (uint32_t i = 0; i < f->block_elems; i++) {
        double a = fabs((double)y[i]);
        s->max = a > s->max ? a : s->max;
    }
}

/* Plain integers of files: u8, i64, bool. */
static void int_span(const struct ht_format *f, struct ht_format_span *s) {
    int bits = (int)(8 * f->block_bytes);
    bool truth = strcasecmp(f->name, "bool") == 0, sign = f->name[0] == 'i';
    double lo = sign ? -ldexp(1, bits - 1) : 0, hi = truth ? 1 : sign ? ldexp(1, bits - 1) - 1 : ldexp(1, bits) - 1;
    s->max = hi;
    s->min_positive = 1;
    s->eps = 1 / s->max;
    s->levels = hi - lo + 1;
    put_range(s, lo, hi, "");
}

void ht_format_span(const struct ht_format *f, struct ht_format_span *s) {
    *s = (struct ht_format_span){"", NAN, NAN, NAN, NAN, NAN, NAN};
    if (f->code != NULL) {
        code_span(f, s);
    } else if (f->real != NULL) {
        real_span(f->real, s);
    } else if (f->kind == HT_KIND_INT) {
        int_span(f, s);
    } else if (f->encode != NULL && f->block_elems <= HT_BLOCK_MAX) {
        block_span(f, s);
        return;
    }
    if (s->max > 0 && s->min_positive > 0) {
        s->decades = log10(s->max / s->min_positive);
    }
}

/* ---- what it is for ------------------------------------------------------------------------------------ */

struct guide {
    const char *name; /* NULL: any */
    int kind;         /* -1: any */
    const char *use, *hardware;
};

/* The first row that matches. */
static const struct guide guides[] = {
    {"f64", -1, "reference precision, statistics, sums of errors", "every CPU; data-center GPUs"},
    {"f32", -1, "training master weights, norms, baseline", "every CPU and GPU"},
    {"tf32", -1, "precision of a matrix product, not a way to store", "NVIDIA A100 and later"},
    {"f16", -1, "weights and activations; gradients need loss scaling", "every GPU; CPUs convert (F16C, NEON)"},
    {"bf16", -1, "training and weights: range of f32", "TPU, NVIDIA A100 and later, AVX-512 BF16, AMX"},
    {"fp8_e4m3", -1, "weights and activations", "NVIDIA H100, AMD MI300 and later; here emulated"},
    {"fp8_e5m2", -1, "gradients, caches with wide range", "NVIDIA H100, AMD MI300 and later; here emulated"},
    {"fp6_e2m3", -1, "weights between 4 and 8 bits", "NVIDIA B200, AMD MI350; here emulated"},
    {"fp6_e3m2", -1, "weights between 4 and 8 bits", "NVIDIA B200, AMD MI350; here emulated"},
    {"fp4_e2m1", -1, "elements of mxfp4 and nvfp4", "NVIDIA B200 and later; here emulated"},
    {"e8m0", -1, "shared scales of MX formats", "NVIDIA B200 and later; here emulated"},
    {"nf4", -1, "frozen base of a fine-tuned adapter", "GPUs through bitsandbytes; table look-up"},
    {"fp4", -1, "frozen base of a fine-tuned adapter", "GPUs through bitsandbytes; table look-up"},
    {"int8", -1, "weights and activations of integer inference", "CPUs (VNNI, dotprod, i8mm), every GPU, NPUs"},
    {"uint8", -1, "activations of integer inference", "CPUs (VNNI), NPUs"},
    {"int4", -1, "weights, usually with groups of 32 to 128", "GPU kernels (Marlin, AWQ, GPTQ), NPUs"},
    {"uint4", -1, "weights with a zero point", "GPU kernels (AWQ, GPTQ), NPUs"},
    {"binary", -1, "nets trained with binary weights", "halftone only"},
    {"ternary", -1, "nets trained with ternary weights (BitNet b1.58)", "halftone only"},
    {"ternary_b3", -1, "the same in 1.6 bits", "halftone only"},
    {"q8_0", -1, "nearly lossless; requantize from it", "GGUF runtimes: CPU and GPU"},
    {"q6_k", -1, "nearly lossless, output heads", "GGUF runtimes: CPU and GPU"},
    {"q5_k", -1, "little loss", "GGUF runtimes: CPU and GPU"},
    {"q4_k", -1, "the usual choice", "GGUF runtimes: CPU and GPU"},
    {"q3_k", -1, "small memory, visible loss", "GGUF runtimes: CPU and GPU"},
    {"q2_k", -1, "smallest of its family, large loss", "GGUF runtimes: CPU and GPU"},
    {"q4_0", -1, "simple and fast; more error than q4_k at the same size", "GGUF runtimes: CPU and GPU"},
    {"q4_1", -1, "older; q4_k is smaller and closer", "GGUF runtimes: CPU and GPU"},
    {"q5_0", -1, "older; where rows do not divide by 256", "GGUF runtimes: CPU and GPU"},
    {"q5_1", -1, "older; q5_k is smaller and closer", "GGUF runtimes: CPU and GPU"},
    {"iq4_nl", -1, "4 bits where rows do not divide by 256", "GGUF runtimes: CPU and GPU"},
    {"iq4_xs", -1, "best error per byte at 4 bits", "GGUF runtimes: CPU and GPU"},
    {"tq1_0", -1, "nets trained with ternary weights (BitNet b1.58)", "GGUF runtimes: CPU"},
    {"tq2_0", -1, "nets trained with ternary weights, faster", "GGUF runtimes: CPU"},
    {"q1_0", -1, "nets trained with binary weights", "newest GGUF runtimes"},
    {"q2_0", -1, "nets trained for 2 bits", "newest GGUF runtimes"},
    {"mxfp4", -1, "models released in it (gpt-oss)", "GGUF runtimes; NVIDIA B200 natively"},
    {"nvfp4", -1, "models released in it", "newest GGUF runtimes; NVIDIA B200 natively"},
    {"tr2", -1, "least error at 2 bits; slow to encode", "halftone only"},
    {"tr3", -1, "least error at 3 bits; slow to encode", "halftone only"},
    {"tr4", -1, "least error at 4 bits; slow to encode", "halftone only"},
    {"ovp4", -1, "4 bits with rare outliers, without side tables", "halftone only"},
    {NULL, HT_KIND_INT, "indices and tables in files, not for weights", "every CPU"},
    {NULL, HT_KIND_LATTICE, "below 4 bits, with an importance matrix", "GGUF runtimes: CPU and GPU"},
    {NULL, HT_KIND_CODE, "experiments: any scale and granularity", "halftone only"},
    {NULL, -1, "weights", "GGUF runtimes"},
};

static const struct guide *guide_of(const struct ht_format *f) {
    const struct guide *g = guides;
    while ((g->name != NULL && strcasecmp(g->name, f->name) != 0) || (g->kind >= 0 && g->kind != (int)f->kind)) {
        g++; /* the last row matches everything */
    }
    return g;
}

const char *ht_format_use(const struct ht_format *f) {
    return guide_of(f)->use;
}

const char *ht_format_hardware(const struct ht_format *f) {
    return f->gguf_type >= HT_GGUF_OWN_TYPES ? "halftone only" : guide_of(f)->hardware;
}
