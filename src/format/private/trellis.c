#include "format/private/trellis.h"

#include <math.h>

#define LEN HT_TRELLIS_LEN
#define STATES (1 << HT_TRELLIS_WINDOW)
#define CHOICE_BYTES 256 /* of one element: STATES >> bits choices of `bits` bits, 2 or 4 bits each */
#define OVERLAP 32       /* elements on each side of the joint that decide how the ring is closed */

/* Windows are numbered here with the first digit highest, so that successors of a head lie together and the
 * predecessors of a head at one distance: window = head * 2^bits + digit, next head = window mod heads. */
struct search {
    float cost[STATES];              /* of the best path that ends in a window */
    float head[STATES / 4];          /* of the best path that may go on from a head */
    float level[STATES];             /* [digit][head] */
    uint8_t choice[LEN][CHOICE_BYTES]; /* per element and next head: the digit that leaves the window */
};

static unsigned turn_digits(unsigned window, unsigned bits) {
    unsigned turned = 0;
    for (unsigned i = 0; i < HT_TRELLIS_WINDOW; i += bits) {
        turned = turned << bits | (window >> i & ((1u << bits) - 1));
    }
    return turned;
}

static unsigned level_of(const struct ht_trellis *t, unsigned turned) {
    return ht_trellis_level(t->bits, t->factor, turn_digits(turned, t->bits));
}

static void load_levels(const struct ht_trellis *t, float *level) {
    unsigned heads = STATES >> t->bits;
    for (unsigned h = 0; h < heads; h++) {
        for (unsigned b = 0; b < 1u << t->bits; b++) {
            level[b * heads + h] = t->levels[level_of(t, h << t->bits | b)];
        }
    }
}

/* ---- the inner loops: one element, all windows ---- */

HT_INLINE void enter_windows(struct search *s, float x, float w, int bits) {
    const int digits = 1 << bits, heads = STATES >> bits;
    for (int h = 0; h < heads; h++) {
        HT_UNROLL
        for (int b = 0; b < digits; b++) {
            float r = x - s->level[b * heads + h];
            s->cost[h * digits + b] = s->head[h] + w * r * r;
        }
    }
}

HT_INLINE void leave_windows(struct search *s, uint8_t *choice, int bits) {
    const int digits = 1 << bits, heads = STATES >> bits;
    uint8_t digit[STATES / 4];
    for (int h = 0; h < heads; h++) {
        float best = s->cost[h];
        int d = 0;
        HT_UNROLL
        for (int b = 1; b < digits; b++) {
            float c = s->cost[b * heads + h];
            d = c < best ? b : d;
            best = c < best ? c : best;
        }
        s->head[h] = best;
        digit[h] = (uint8_t)d;
    }
    const int wide = bits == 2 ? 2 : 4, n = heads * wide / 8;
    for (int k = 0; k < n; k++) {
        choice[k] = (uint8_t)(bits == 2 ? digit[k] | digit[n + k] << 2 | digit[2 * n + k] << 4 | digit[3 * n + k] << 6
                                        : digit[k] | digit[n + k] << 4);
    }
}

HT_INLINE void walk(struct search *s, const float *x, const float *w, int from, int to, int bits) {
    for (int i = from; i < to; i++) {
        enter_windows(s, x[i], w[i], bits);
        leave_windows(s, s->choice[i], bits);
    }
}

HT_CLONES
static void walk_2(struct search *s, const float *x, const float *w, int from, int to) {
    walk(s, x, w, from, to, 2);
}

HT_CLONES
static void walk_3(struct search *s, const float *x, const float *w, int from, int to) {
    walk(s, x, w, from, to, 3);
}

HT_CLONES
static void walk_4(struct search *s, const float *x, const float *w, int from, int to) {
    walk(s, x, w, from, to, 4);
}

static void run(const struct ht_trellis *t, struct search *s, const float *x, const float *w, int from, int to) {
    static void (*const walks[3])(struct search *, const float *, const float *, int, int) = {walk_2, walk_3, walk_4};
    walks[t->bits - 2](s, x, w, from, to);
}

/* ---- paths ---- */

/* The window of element i on the best path that leaves it with this head. */
static unsigned window_before(const struct ht_trellis *t, const struct search *s, int i, unsigned head) {
    unsigned wide = t->bits == 2 ? 2 : 4, heads = STATES >> t->bits, n = heads * wide / 8;
    unsigned digit = s->choice[i][head % n] >> wide * (head / n) & ((1u << wide) - 1);
    return digit * heads + head;
}

/* Follows the best path from the head after element to - 1 back to that before element from. */
static unsigned follow(const struct ht_trellis *t, const struct search *s, int from, int to, unsigned head,
                       uint8_t *numbers) {
    for (int i = to - 1; i >= from; i--) {
        unsigned window = window_before(t, s, i, head);
        if (numbers) {
            numbers[i] = (uint8_t)level_of(t, window);
        }
        head = window >> t->bits;
    }
    return head;
}

static unsigned best_head(const struct ht_trellis *t, const struct search *s) {
    unsigned best = 0;
    for (unsigned h = 1; h < (unsigned)STATES >> t->bits; h++) {
        best = s->head[h] < s->head[best] ? h : best;
    }
    return best;
}

void ht_trellis_path(const struct ht_trellis *t, const float *x, const float *w, int ring, uint8_t *numbers) {
    struct search s;
    unsigned heads = STATES >> t->bits;
    load_levels(t, s.level);
    memset(s.head, 0, sizeof s.head);
    if (!ring) {
        run(t, &s, x, w, 0, LEN);
        follow(t, &s, 0, LEN, best_head(t, &s), numbers);
        return;
    }
    float xj[2 * OVERLAP], wj[2 * OVERLAP]; /* the end of the block and its beginning, joined */
    for (int i = 0; i < 2 * OVERLAP; i++) {
        xj[i] = x[(i + LEN - OVERLAP) % LEN];
        wj[i] = w[(i + LEN - OVERLAP) % LEN];
    }
    run(t, &s, xj, wj, 0, 2 * OVERLAP);
    unsigned joint = follow(t, &s, OVERLAP, 2 * OVERLAP, best_head(t, &s), NULL);
    for (unsigned h = 0; h < heads; h++) {
        s.head[h] = h == joint ? 0.0f : INFINITY;
    }
    run(t, &s, x, w, 0, LEN);
    follow(t, &s, 0, LEN, joint, numbers);
}

/* ---- digits ---- */

void ht_trellis_numbers(const struct ht_trellis *t, const uint8_t *digits, uint8_t *numbers) {
    uint8_t ring[LEN / 2 + 2] = {0};
    unsigned bytes = LEN / 8 * t->bits;
    memcpy(ring, digits, bytes);
    memcpy(ring + bytes, digits, 2); /* the last window begins in the last byte */
    for (unsigned i = 0; i < LEN; i++) {
        unsigned at = i * t->bits / 8, shift = i * t->bits % 8;
        unsigned bits = ring[at] | (unsigned)ring[at + 1] << 8 | (unsigned)ring[at + 2] << 16;
        numbers[i] = (uint8_t)ht_trellis_level(t->bits, t->factor, bits >> shift & (STATES - 1));
    }
}

/* The windows that begin with head `first` and give these numbers; the digit that each brings in. 0: there are none. */
static int digits_from(const struct ht_trellis *t, const uint8_t *numbers, unsigned first, uint8_t *digit) {
    unsigned head = first, head_bits = HT_TRELLIS_WINDOW - t->bits;
    for (int i = 0; i < LEN; i++) {
        unsigned differ = ht_trellis_level(t->bits, t->factor, head) ^ numbers[i];
        if (differ & 15 || differ >> (t->bits + 4)) {
            return 0;
        }
        digit[i] = (uint8_t)(differ >> 4);
        head = (head | (unsigned)digit[i] << head_bits) >> t->bits;
    }
    return head == first;
}

int ht_trellis_digits(const struct ht_trellis *t, const uint8_t *numbers, uint8_t *digits) {
    uint8_t digit[LEN];
    unsigned ahead = HT_TRELLIS_WINDOW / t->bits - 1; /* element i brings in digit i + ahead */
    for (unsigned first = 0; first < (unsigned)STATES >> t->bits; first++) {
        if (digits_from(t, numbers, first, digit)) {
            memset(digits, 0, LEN / 8 * t->bits);
            for (unsigned i = 0; i < LEN; i++) {
                unsigned at = (i + ahead) % LEN * t->bits, v = (unsigned)digit[i] << at % 8;
                digits[at / 8] = (uint8_t)(digits[at / 8] | v);
                if (v > 255) {
                    digits[at / 8 + 1] = (uint8_t)(digits[at / 8 + 1] | v >> 8);
                }
            }
            return 1;
        }
    }
    return 0;
}
