#include "tensor/kv.h"

#include <math.h>
#include <stdio.h>
#include <strings.h>

#define TURNED "+hadamard"

static ht_status check(const struct ht_kv *kv, ht_err *err) {
    const struct ht_scheme *s = &kv->scheme;
    const struct ht_code *c = s->format->code;
    if (s->nested || c->fitted != HT_FITTED_NOT || c->bits > 8 || c->bits == 0 ||
        (s->granularity != HT_PER_TOKEN && s->granularity != HT_PER_GROUP)) {
        char text[HT_SCHEME_TEXT];
        return ht_fail(err, HT_INVAL, "kv", HT_NO_POS,
                       "the cache takes codes of at most 8 bits with a scale per token or group, as in int8:token or "
                       "uint4:g32, found %s",
                       ht_scheme_text(s, text));
    }
    return HT_OK;
}

ht_status ht_kv_parse(const char *text, struct ht_kv *kv, ht_err *err) {
    char scheme[HT_KV_TEXT];
    size_t len = strlen(text), tail = sizeof TURNED - 1;
    *kv = (struct ht_kv){.hadamard = len > tail && strcasecmp(text + len - tail, TURNED) == 0};
    len -= kv->hadamard ? tail : 0;
    if (strcasecmp(text, "none") == 0 || strcasecmp(text, "f16") == 0) { /* as sessions keep it */
        return HT_OK;
    }
    if (len == 0 || len >= HT_SCHEME_TEXT) {
        return ht_fail(err, HT_INVAL, "kv", HT_NO_POS, "'%.100s': expected a scheme, as in int8:token or uint4:g32%s",
                       text, TURNED);
    }
    snprintf(scheme, sizeof scheme, "%.*s%s", (int)len, text, memchr(text, ':', len) == NULL ? ":token" : "");
    HT_TRY(ht_scheme_parse(scheme, &kv->scheme, err));
    return check(kv, err);
}

const char *ht_kv_text(const struct ht_kv *kv, char text[HT_KV_TEXT]) {
    char scheme[HT_SCHEME_TEXT];
    if (kv->scheme.format == NULL) {
        snprintf(text, HT_KV_TEXT, "none");
        return text;
    }
    snprintf(text, HT_KV_TEXT, "%s%s", ht_scheme_text(&kv->scheme, scheme), kv->hadamard ? TURNED : "");
    return text;
}

/* Codes of a row are packed in pieces that begin at a whole byte in every format. */
enum { PIECE = 480 };

void ht_kv_put(const struct ht_qtensor *q, uint64_t pos, const float *x) {
    const struct ht_scheme *s = &q->scheme;
    for (uint64_t g = 0; g < q->groups; g++) {
        uint64_t from = g * q->run, to = q->cols - from < q->run ? q->cols : from + q->run;
        float lo = x[from], hi = x[from];
        bool finite = true;
        for (uint64_t k = from; k < to; k++) {
            lo = x[k] < lo ? x[k] : lo;
            hi = x[k] > hi ? x[k] : hi;
            finite = finite && isfinite(x[k]);
        }
        struct ht_affine a = finite ? ht_scheme_cover(s, lo, hi) : (struct ht_affine){NAN, 0, 0};
        ht_qtensor_set_grid((struct ht_qtensor *)(uintptr_t)q, pos, g, &a);
    }
    int32_t codes[PIECE];
    uint8_t *row = q->codes + pos * q->row_bytes;
    struct ht_affine a = {0, 0, 0};
    for (uint64_t at = 0; at < q->cols; at += PIECE) {
        uint64_t n = q->cols - at < PIECE ? q->cols - at : PIECE;
        for (uint64_t i = 0; i < n; i++) {
            if ((at + i) % q->run == 0) {
                a = ht_qtensor_grid(q, pos, (at + i) / q->run); /* as stored */
            }
            codes[i] = ht_scheme_nearest(s, NULL, &a, isfinite(x[at + i]) ? x[at + i] : 0);
        }
        ht_code_pack(s->format, codes, row + ht_code_row_bytes(s->format, at), (size_t)n);
    }
}
