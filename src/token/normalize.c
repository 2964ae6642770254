#include "token/normalize.h"

#include <utf8proc.h> /* decompositions, combining classes, composition */

#include "token/utf8.h"

/* Marks and compositions since Unicode 9 (tests/oracle/unicode_nfc.py). For NFC as of Unicode 9 each is a
 * character that neither moves nor combines, so the text is cut before and behind it. */
static const uint32_t late[][2] = {
    {0x5C8, 0x5C9},     {0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},
    {0xC3C, 0xC3C},     {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1AF0},
    {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0x105C9, 0x105C9}, {0x105D2, 0x105D2}, {0x105DA, 0x105DA},
    {0x105E4, 0x105E4}, {0x10D24, 0x10D27}, {0x10D69, 0x10D6D}, {0x10EAB, 0x10EAC}, {0x10ECB, 0x10ECF},
    {0x10EF0, 0x10EFB}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070},
    {0x1133B, 0x1133B}, {0x11383, 0x11383}, {0x11385, 0x11385}, {0x1138E, 0x1138E}, {0x11391, 0x11391},
    {0x113B8, 0x113B8}, {0x113BB, 0x113BB}, {0x113C2, 0x113C2}, {0x113C5, 0x113C5}, {0x113C7, 0x113C9},
    {0x113CE, 0x113D0}, {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938},
    {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47},
    {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42},
    {0x1611E, 0x16129}, {0x1612F, 0x1612F}, {0x16D67, 0x16D6A}, {0x16FF0, 0x16FF1}, {0x1D127, 0x1D128},
    {0x1D250, 0x1D252}, {0x1D25B, 0x1D25C}, {0x1D25F, 0x1D25F}, {0x1D280, 0x1D281}, {0x1E08F, 0x1E08F},
    {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF}, {0x1E5EE, 0x1E5EF},
    {0x1E6E3, 0x1E6E3}, {0x1E6E6, 0x1E6E6}, {0x1E6EE, 0x1E6EF}, {0x1E6F5, 0x1E6F5}};

static bool is_late(uint32_t c) {
    size_t lo = 0, hi = sizeof late / sizeof *late;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c > late[mid][1]) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo < sizeof late / sizeof *late && c >= late[lo][0];
}

/* Lead bytes of characters that decompose into nothing that stays apart, do not move, and never combine with
 * what stands before them: below U+0300, and U+4000 to U+9FFF (ideographs). Text may be cut before each. */
static bool plain_lead(unsigned char lead) {
    return lead < 0xCC || (lead >= 0xE4 && lead <= 0xE9);
}

bool ht_nfc_is_plain(const char *text, size_t len) {
    for (size_t i = 0; i < len; i++) {
        if (!plain_lead((unsigned char)text[i])) { /* continuation bytes are below 0xCC */
            return false;
        }
    }
    return true;
}

struct points {
    utf8proc_int32_t *c, *sorted; /* [cap] each */
    size_t n, cap;
};

static ht_status reserve(struct points *p, size_t more, ht_err *err) {
    if (p->n + more <= p->cap) {
        return HT_OK;
    }
    size_t cap = 2 * (p->n + more) + 64;
    utf8proc_int32_t *c = ht_mem_realloc_array(p->c, cap, sizeof *c);
    p->c = c != NULL ? c : p->c;
    utf8proc_int32_t *sorted = c != NULL ? ht_mem_realloc_array(p->sorted, cap, sizeof *c) : NULL;
    p->sorted = sorted != NULL ? sorted : p->sorted;
    if (sorted == NULL) {
        return ht_fail_nomem(err, cap * sizeof *c);
    }
    p->cap = cap;
    return HT_OK;
}

static unsigned combining_class(utf8proc_int32_t c) {
    return (unsigned)utf8proc_get_property(c)->combining_class;
}

/* Canonical order of the marks c[0..n): stable by class. utf8proc's own ordering swaps neighbours, which
 * takes n * n steps for a long run; this counts. */
static void order_marks(utf8proc_int32_t *c, utf8proc_int32_t *sorted, size_t n) {
    if (n < 2) {
        return;
    }
    if (n == 2) {
        if (combining_class(c[0]) > combining_class(c[1])) {
            utf8proc_int32_t t = c[0];
            c[0] = c[1];
            c[1] = t;
        }
        return;
    }
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) {
        start[(combining_class(c[i]) & 0xFF) + 1]++;
    }
    for (size_t k = 1; k <= 256; k++) {
        start[k] += start[k - 1];
    }
    for (size_t i = 0; i < n; i++) {
        sorted[start[combining_class(c[i]) & 0xFF]++] = c[i];
    }
    memcpy(c, sorted, n * sizeof *c);
}

/* Orders and composes what was collected, writes it out. */
static void flush(struct points *p, struct ht_buf *out) {
    if (p->n == 0) {
        return;
    }
    for (size_t i = 0; i < p->n;) {
        size_t end = i;
        while (end < p->n && combining_class(p->c[end]) != 0) {
            end++;
        }
        order_marks(p->c + i, p->sorted, end - i);
        i = end + 1;
    }
    utf8proc_ssize_t n =
        utf8proc_normalize_utf32(p->c, (utf8proc_ssize_t)p->n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char bytes[4];
        ht_buf_append(out, bytes, ht_utf8_put((uint32_t)p->c[i], bytes));
    }
    p->n = 0;
}

static ht_status add(struct points *p, uint32_t c, ht_err *err) {
    HT_TRY(reserve(p, 8, err)); /* a canonical decomposition has at most 4 code points */
    utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)c, p->c + p->n, 8,
                                                 UTF8PROC_STABLE | UTF8PROC_COMPOSE, NULL);
    if (n < 0 || n > 8) {
        return ht_fail(err, HT_INTERNAL, NULL, HT_NO_POS, "U+%04X: decomposition of length %lld", (unsigned)c,
                       (long long)n);
    }
    p->n += (size_t)n;
    return HT_OK;
}

ht_status ht_nfc(const char *text, size_t len, struct ht_buf *out, ht_err *err) {
    struct points p = {0};
    ht_status status = HT_OK;
    for (size_t i = 0, n; i < len; i += n) {
        uint32_t c = ht_utf8_at(text + i, len - i, &n);
        bool plain = plain_lead((unsigned char)text[i]);
        bool alone = plain ? i + n == len || plain_lead((unsigned char)text[i + n]) : is_late(c);
        if (alone || plain) {
            flush(&p, out);
        }
        if (alone) {
            ht_buf_append(out, text + i, n);
            continue;
        }
        HT_TRY_DONE(add(&p, c, err));
    }
    flush(&p, out);
    if (!ht_buf_ok(out)) {
        status = ht_fail_nomem(err, len);
    }
done:
    ht_mem_free(p.c);
    ht_mem_free(p.sorted);
    return status;
}
