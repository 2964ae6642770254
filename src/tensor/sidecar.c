/* A sidecar's parts, checks, and what it makes of inputs and weights. */
#include "tensor/sidecar.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/limits.h"
#include "base/mem.h"
#include "format/half.h"
#include "tensor/hadamard.h"

static const char *const leaves_names[HT_LEAVES_BITS] = {
#define LEAVES_NAME(name, text, what) text,
    HT_LEAVES_LIST(LEAVES_NAME)
#undef LEAVES_NAME
};

const char *ht_leaves_name(enum ht_leaves_bit bit) {
    return leaves_names[bit];
}

const char *ht_leaves_text(unsigned leaves, char out[HT_LEAVES_TEXT]) {
    size_t at = 0;
    snprintf(out, HT_LEAVES_TEXT, "nothing");
    for (int bit = 0; bit < HT_LEAVES_BITS; bit++) {
        if ((leaves >> bit & 1) != 0 && at < HT_LEAVES_TEXT) {
            at += (size_t)snprintf(out + at, HT_LEAVES_TEXT - at, "%s%s", at > 0 ? ", " : "", leaves_names[bit]);
        }
    }
    return out;
}

/* ---- parts ------------------------------------------------------------------------------------------------- */

static uint64_t n_act(const struct ht_sidecar *s) {
    return (s->leaves & HT_LEAVES_CLUSTERS) != 0 ? s->n_clusters : 1;
}

bool ht_sidecar_part(struct ht_sidecar *s, size_t i, struct ht_qpart *part) {
    bool zero = (s->leaves & HT_LEAVES_ACT_SCALE) != 0 && s->act.zero == HT_ZERO_CODE;
    const struct {
        unsigned present;
        const char *suffix, *format;
        int n_dims;
        uint64_t ne[2];
        void **slot;
    } all[] = {
        {HT_LEAVES_IN_SHIFT, "in_shift", "f32", 1, {s->cols, 1}, (void **)&s->in_shift},
        {HT_LEAVES_IN_SCALE, "in_scale", "f32", 1, {s->cols, 1}, (void **)&s->in_scale},
        {HT_LEAVES_PERM, "perm", "u32", 1, {s->cols, 1}, (void **)&s->perm},
        {HT_LEAVES_COLUMNS, "out_idx", "u32", 1, {s->n_out, 1}, (void **)&s->out_idx},
        {HT_LEAVES_COLUMNS, "out_val", "f16", 2, {s->n_out, s->rows}, (void **)&s->out_val},
        {HT_LEAVES_SPARSE, "sp_ptr", "u32", 1, {s->rows + 1, 1}, (void **)&s->sp_ptr},
        {HT_LEAVES_SPARSE, "sp_idx", "u32", 1, {s->n_sparse, 1}, (void **)&s->sp_idx},
        {HT_LEAVES_SPARSE, "sp_val", "f16", 1, {s->n_sparse, 1}, (void **)&s->sp_val},
        {HT_LEAVES_LOWRANK, "lr_a", "f16", 2, {s->cols, s->rank}, (void **)&s->lr_a},
        {HT_LEAVES_LOWRANK, "lr_b", "f16", 2, {s->rank, s->rows}, (void **)&s->lr_b},
        {HT_LEAVES_OUT_BIAS, "out_bias", "f32", 1, {s->rows, 1}, (void **)&s->out_bias},
        {HT_LEAVES_CLUSTERS, "act_idx", "u32", 1, {s->n_clusters, 1}, (void **)&s->act_idx},
        {HT_LEAVES_ACT_SCALE, "act_scale", "f32", 1, {n_act(s), 1}, (void **)&s->act_scale},
        {zero ? HT_LEAVES_ACT_SCALE : 0, "act_zero", "i32", 1, {n_act(s), 1}, (void **)&s->act_zero},
    };
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        if ((s->leaves & all[k].present) != 0 && i-- == 0) {
            part->suffix = all[k].suffix;
            part->format = ht_format_find(all[k].format);
            part->n_dims = all[k].n_dims;
            part->ne[0] = all[k].ne[0];
            part->ne[1] = all[k].ne[1];
            part->bytes = part->ne[0] * part->ne[1] * part->format->block_bytes;
            part->slot = all[k].slot;
            return true;
        }
    }
    return false;
}

uint64_t ht_sidecar_bytes(const struct ht_sidecar *s) {
    struct ht_sidecar view = *s;
    struct ht_qpart part;
    uint64_t bytes = 0;
    for (size_t i = 0; ht_sidecar_part(&view, i, &part); i++) {
        bytes += part.bytes;
    }
    return bytes;
}

/* ---- checks ------------------------------------------------------------------------------------------------ */

/* act_scale and act_idx against the scheme that they belong to. */
static ht_status check_act_parts(const struct ht_sidecar *s, const char *name, ht_err *err) {
    bool fixed = (s->leaves & HT_LEAVES_ACT_SCALE) != 0, clusters = (s->leaves & HT_LEAVES_CLUSTERS) != 0;
    char text[HT_SCHEME_TEXT];
    ht_scheme_text(&s->act, text);
    if (s->act.granularity == HT_PER_CHANNEL) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS,
                       "act '%s': channel is for weights; activations take token, gN or tensor", text);
    }
    if (s->act.granularity == HT_PER_TENSOR && !fixed) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS,
                       "act '%s': activations per tensor need act_scale (from calibration), found none; per token or "
                       "group they find their scales themselves", text);
    }
    if (s->act.granularity != HT_PER_TENSOR && fixed) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS,
                       "act '%s': activations per token or group find their scales at run time: expected no act_scale, "
                       "found one; fixed scales go with tensor", text);
    }
    if (clusters && s->act.granularity == HT_PER_GROUP) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS, "act '%s': activations have either clusters or groups of %u",
                       text, s->act.group);
    }
    return HT_OK;
}

static ht_status check_act(const struct ht_sidecar *s, const char *name, ht_err *err) {
    static const struct {
        unsigned leaves;
        const char *what;
    } alone[] = {
        {HT_LEAVES_ACT_SCALE, "act_scale"}, {HT_LEAVES_CLUSTERS, "act_idx"}, {HT_LEAVES_THRESHOLD, "threshold"}};
    char text[HT_SCHEME_TEXT];
    if ((s->leaves & HT_LEAVES_ACT) == 0) {
        for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
            if ((s->leaves & alone[i].leaves) != 0) {
                return ht_fail(err, HT_INVAL, name, HT_NO_POS,
                               "%s: scales, clusters or a threshold of activations without their scheme: expected act, "
                               "found none", alone[i].what);
            }
        }
        return HT_OK;
    }
    HT_TRY(ht_scheme_check(&s->act, err));
    if (s->act.zero == HT_ZERO_OFFSET || s->act.nested || s->act.format->code->fitted != HT_FITTED_NOT ||
        s->act.format->code->hi - s->act.format->code->lo > 65535) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS,
                       "act '%s': activations need a scheme without offset, nested scales and fitted levels, of at "
                       "most 16 bits", ht_scheme_text(&s->act, text));
    }
    HT_TRY(check_act_parts(s, name, err));
    if ((s->leaves & HT_LEAVES_THRESHOLD) != 0 && !(s->threshold > 0 && isfinite(s->threshold))) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS, "threshold %g: expected a positive number",
                       (double)s->threshold);
    }
    return HT_OK;
}

ht_status ht_sidecar_check_counts(const struct ht_sidecar *s, const char *name, ht_err *err) {
    const struct {
        unsigned leaves;
        const char *what;
        uint64_t n, max;
    } counts[] = {
        {HT_LEAVES_COLUMNS, "kept columns (out_idx)", s->n_out, s->cols},
        {HT_LEAVES_SPARSE, "single weights (sp_idx)", s->n_sparse, UINT32_MAX},
        {HT_LEAVES_LOWRANK, "ranks (lr_a)", s->rank, s->cols < s->rows ? s->cols : s->rows},
        {HT_LEAVES_CLUSTERS, "clusters (act_idx)", s->n_clusters, s->cols},
    };
    if (s->rows == 0 || s->cols == 0 || s->rows > UINT32_MAX - 1 || s->cols > UINT32_MAX ||
        s->leaves >> HT_LEAVES_BITS != 0) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS,
                       "a sidecar of %llu x %llu: expected 1 to 2^32 - 2 rows and columns",
                       (unsigned long long)s->rows, (unsigned long long)s->cols);
    }
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        bool present = (s->leaves & counts[i].leaves) != 0;
        if (present != (counts[i].n > 0) || counts[i].n > counts[i].max) {
            return ht_fail(err, HT_INVAL, name, HT_NO_POS, "%llu %s: expected %s%llu", (unsigned long long)counts[i].n,
                           counts[i].what, present ? "1 to " : "none, not ",
                           (unsigned long long)(present ? counts[i].max : counts[i].n));
        }
    }
    return HT_OK;
}

ht_status ht_sidecar_check_shape(const struct ht_sidecar *s, const char *name, ht_err *err) {
    HT_TRY(ht_sidecar_check_counts(s, name, err));
    if ((s->leaves & HT_LEAVES_HADAMARD) != 0 && !ht_hadamard_fits(s->hadamard, s->cols)) {
        return ht_fail(err, HT_INVAL, name, HT_NO_POS,
                       "hadamard block %u: expected a power of two above 1 that divides %llu columns", s->hadamard,
                       (unsigned long long)s->cols);
    }
    return check_act(s, name, err);
}

struct place {
    const char *what, *name;
    ht_err *err;
};

static ht_status bad(const struct place *p, const char *part, uint64_t i, const char *fmt, ...) HT_PRINTF(4, 5);
static ht_status bad(const struct place *p, const char *part, uint64_t i, const char *fmt, ...) {
    char text[160];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return ht_fail(p->err, HT_FORMAT, p->what, HT_NO_POS, "%s.%s: entry %llu: expected %s", p->name, part,
                   (unsigned long long)i, text);
}

/* idx[from .. to) ascending, below end; from_0: the first is 0. */
static ht_status check_ascending(const struct place *p, const char *part, const uint32_t *idx, uint64_t from,
                                 uint64_t to, uint64_t end, bool from_0) {
    for (uint64_t i = from; i < to; i++) {
        if (idx[i] >= end) {
            return bad(p, part, i, "a column below %llu, found %u", (unsigned long long)end, idx[i]);
        }
        if (i > from && idx[i] <= idx[i - 1]) {
            return bad(p, part, i, "columns in ascending order, found %u behind %u", idx[i], idx[i - 1]);
        }
        if (from_0 && i == from && idx[i] != 0) {
            return bad(p, part, i, "0: the first begins at the first column; found %u", idx[i]);
        }
    }
    return HT_OK;
}

static ht_status check_perm(const struct ht_sidecar *s, const struct place *p) {
    unsigned char *seen = ht_mem_calloc((size_t)s->cols, 1);
    ht_status status = seen != NULL ? HT_OK : ht_fail_nomem(p->err, s->cols);
    for (uint64_t i = 0; status == HT_OK && i < s->cols; i++) {
        if (s->perm[i] >= s->cols) {
            status = bad(p, "perm", i, "a column below %llu, found %u", (unsigned long long)s->cols, s->perm[i]);
        } else if (seen[s->perm[i]]) {
            status = bad(p, "perm", i, "each column once, found %u again", s->perm[i]);
        } else {
            seen[s->perm[i]] = 1;
        }
    }
    ht_mem_free(seen);
    return status;
}

static ht_status check_sparse(const struct ht_sidecar *s, const struct place *p) {
    if (s->sp_ptr[0] != 0) {
        return bad(p, "sp_ptr", 0, "0, found %u", s->sp_ptr[0]);
    }
    if (s->sp_ptr[s->rows] != s->n_sparse) {
        return bad(p, "sp_ptr", s->rows, "the number of entries, %llu, found %u", (unsigned long long)s->n_sparse,
                   s->sp_ptr[s->rows]);
    }
    for (uint64_t r = 0; r < s->rows; r++) {
        if (s->sp_ptr[r + 1] < s->sp_ptr[r] || s->sp_ptr[r + 1] > s->n_sparse) {
            return bad(p, "sp_ptr", r + 1, "numbers that never fall, up to %llu, found %u behind %u",
                       (unsigned long long)s->n_sparse, s->sp_ptr[r + 1], s->sp_ptr[r]);
        }
        HT_TRY(check_ascending(p, "sp_idx", s->sp_idx, s->sp_ptr[r], s->sp_ptr[r + 1], s->cols, false));
    }
    return HT_OK;
}

static ht_status check_floats(const struct place *p, const char *part, const float *x, uint64_t n, bool any_sign,
                              bool zero) {
    for (uint64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) || (!zero && x[i] == 0) || (!any_sign && x[i] < 0)) {
            const char *expected = zero ? "a finite number" : any_sign ? "a finite number, not 0" : "a positive number";
            return bad(p, part, i, "%s, found %g", expected, (double)x[i]);
        }
    }
    return HT_OK;
}

ht_status ht_sidecar_check(const struct ht_sidecar *s, const char *what, const char *name, ht_err *err) {
    const struct place p = {what, name, err};
    HT_TRY(ht_sidecar_check_shape(s, name, err));
    if ((s->leaves & HT_LEAVES_IN_SHIFT) != 0) {
        HT_TRY(check_floats(&p, "in_shift", s->in_shift, s->cols, true, true));
    }
    if ((s->leaves & HT_LEAVES_IN_SCALE) != 0) {
        HT_TRY(check_floats(&p, "in_scale", s->in_scale, s->cols, true, false));
    }
    if ((s->leaves & HT_LEAVES_PERM) != 0) {
        HT_TRY(check_perm(s, &p));
    }
    if ((s->leaves & HT_LEAVES_COLUMNS) != 0) {
        HT_TRY(check_ascending(&p, "out_idx", s->out_idx, 0, s->n_out, s->cols, false));
    }
    if ((s->leaves & HT_LEAVES_SPARSE) != 0) {
        HT_TRY(check_sparse(s, &p));
    }
    if ((s->leaves & HT_LEAVES_OUT_BIAS) != 0) {
        HT_TRY(check_floats(&p, "out_bias", s->out_bias, s->rows, true, true));
    }
    if ((s->leaves & HT_LEAVES_CLUSTERS) != 0) {
        HT_TRY(check_ascending(&p, "act_idx", s->act_idx, 0, s->n_clusters, s->cols, true));
    }
    if ((s->leaves & HT_LEAVES_ACT_SCALE) != 0) {
        HT_TRY(check_floats(&p, "act_scale", s->act_scale, n_act(s), false, false));
        for (uint64_t i = 0; s->act.zero == HT_ZERO_CODE && i < n_act(s); i++) {
            if (s->act_zero[i] < ht_scheme_lo(&s->act) || s->act_zero[i] > ht_scheme_hi(&s->act)) {
                return bad(&p, "act_zero", i, "a code of the scheme, %d to %d, found %d", ht_scheme_lo(&s->act),
                           ht_scheme_hi(&s->act), s->act_zero[i]);
            }
        }
    }
    return HT_OK;
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

ht_status ht_sidecar_init(struct ht_sidecar *s, const char *name, ht_err *err) {
    struct ht_qpart part;
    HT_TRY(ht_sidecar_check_shape(s, name, err));
    s->owned = true;
    for (size_t i = 0; ht_sidecar_part(s, i, &part); i++) {
        *part.slot = NULL;
    }
    for (size_t i = 0; ht_sidecar_part(s, i, &part); i++) {
        *part.slot = ht_mem_calloc((size_t)part.bytes, 1);
        if (*part.slot == NULL) {
            ht_sidecar_deinit(s);
            return ht_fail_nomem(err, part.bytes);
        }
    }
    return HT_OK;
}

void ht_sidecar_deinit(struct ht_sidecar *s) {
    struct ht_qpart part;
    for (size_t i = 0; s->owned && ht_sidecar_part(s, i, &part); i++) {
        ht_mem_free(*part.slot);
    }
    memset(s, 0, sizeof *s);
}

/* ---- inputs ------------------------------------------------------------------------------------------------ */

void ht_sidecar_inputs(const struct ht_sidecar *s, const float *x, uint64_t n, float *u, float *scratch) {
    bool turned = (s->leaves & HT_LEAVES_HADAMARD) != 0, moved = (s->leaves & HT_LEAVES_PERM) != 0;
    for (; n > 0; n--, x += s->cols, u += s->cols) {
        float *v = moved ? scratch : u;
        for (uint64_t j = 0; j < s->cols; j++) {
            v[j] = (s->leaves & HT_LEAVES_IN_SHIFT) != 0 ? x[j] - s->in_shift[j] : x[j];
        }
        for (uint64_t j = 0; (s->leaves & HT_LEAVES_IN_SCALE) != 0 && j < s->cols; j++) {
            v[j] /= s->in_scale[j];
        }
        if (turned) {
            ht_hadamard(v, (size_t)s->cols, s->hadamard);
        }
        for (uint64_t j = 0; moved && j < s->cols; j++) {
            u[j] = v[s->perm[j]];
        }
    }
}

/* ---- weights ----------------------------------------------------------------------------------------------- */

static void add_low_rank(const struct ht_sidecar *s, uint64_t r, float *w) {
    for (uint32_t k = 0; k < s->rank; k++) {
        float b = ht_f16_to_f32(s->lr_b[r * s->rank + k]);
        const uint16_t *a = s->lr_a + (uint64_t)k * s->cols;
        for (uint64_t j = 0; j < s->cols; j++) {
            w[j] += b * ht_f16_to_f32(a[j]);
        }
    }
}

/* A row that acts on u becomes one that acts on x. */
static void move_back(const struct ht_sidecar *s, float *w, float *scratch) {
    if ((s->leaves & HT_LEAVES_PERM) != 0) {
        memcpy(scratch, w, (size_t)s->cols * sizeof *w);
        for (uint64_t j = 0; j < s->cols; j++) {
            w[s->perm[j]] = scratch[j];
        }
    }
    if ((s->leaves & HT_LEAVES_HADAMARD) != 0) {
        ht_hadamard(w, (size_t)s->cols, s->hadamard);
    }
    for (uint64_t j = 0; (s->leaves & HT_LEAVES_IN_SCALE) != 0 && j < s->cols; j++) {
        w[j] /= s->in_scale[j];
    }
}

void ht_sidecar_apply_rows(const struct ht_sidecar *s, uint64_t row0, uint64_t n, float *w, float *scratch) {
    for (uint64_t r = row0; r < row0 + n; r++, w += s->cols) {
        for (uint32_t i = 0; i < s->n_out; i++) {
            w[s->out_idx[i]] = ht_f16_to_f32(s->out_val[r * s->n_out + i]);
        }
        for (uint64_t i = s->n_sparse > 0 ? s->sp_ptr[r] : 0, end = s->n_sparse > 0 ? s->sp_ptr[r + 1] : 0; i < end;
             i++) {
            w[s->sp_idx[i]] += ht_f16_to_f32(s->sp_val[i]);
        }
        add_low_rank(s, r, w);
        move_back(s, w, scratch);
    }
}

void ht_sidecar_dense(const struct ht_qtensor *q, const struct ht_sidecar *side, uint64_t row0, uint64_t n, float *x,
                      float *scratch) {
    ht_qtensor_decode(q, row0, n, x);
    if (side != NULL) {
        ht_sidecar_apply_rows(side, row0, n, x, scratch);
    }
}
