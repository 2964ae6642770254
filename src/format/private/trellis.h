/* The trellis of tr2, tr3 and tr4: computed code, best path.
 *
 * A block of 256 elements is a ring of 256 digits of K bits. The WINDOW of element i is the 12 bits of the digits
 * i, i + 1 ... i + 12 / K - 1, the first one lowest; its highest digit is called new, the 12 - K bits below it the
 * head. The level of a window is number
 *
 *     ((factor * head mod 2^16) >> (12 - K)) ^ (new << 4)          K + 4 bits
 *
 * of a table: the new digit chooses one of 2^K parts of the range, the head says which digit stands for which part
 * and which of the part's 16 levels is meant. So the choice of one digit decides over 12 / K elements, and the best
 * path is found by dynamic programming over the 4096 windows (Viterbi).
 *
 * QTIP (arXiv 2406.11235) describes bit-shift trellises with computed codes; the factor and the tables of levels are
 * this format's own. With Gaussian values they give 0.068, 0.018 and 0.0048 of the energy as error at 2, 3 and 4
 * bits. */
#ifndef HT_FORMAT_TRELLIS_H
#define HT_FORMAT_TRELLIS_H

#include "format/format_impl.h"

#define HT_TRELLIS_WINDOW 12
#define HT_TRELLIS_LEN 256

struct ht_trellis {
    unsigned bits, factor;
    const float *levels; /* [2^(bits + 4)], ascending, integers within +-127 */
    float unit;          /* standard deviation of the values that the levels suit best is 1 / unit */
    float floor, slope;  /* mean squared error, in units of levels: floor + slope * mean square of the values */
};

/* Level number of a window. */
HT_INLINE unsigned ht_trellis_level(unsigned bits, unsigned factor, unsigned window) {
    unsigned head = window & ((1u << (HT_TRELLIS_WINDOW - bits)) - 1), digit = window >> (HT_TRELLIS_WINDOW - bits);
    return (factor * head & 0xffffu) >> (HT_TRELLIS_WINDOW - bits) ^ digit << 4;
}

/* Level numbers of the path with the least sum of w * (x - level)^2, x in units of levels, w finite and not
 * negative. ring: the path ends as it began, so that the block can hold it. */
void ht_trellis_path(const struct ht_trellis *t, const float *x, const float *w, int ring, uint8_t *numbers);

/* 256 digits in bits * 32 bytes, the first lowest, to level numbers. */
void ht_trellis_numbers(const struct ht_trellis *t, const uint8_t *digits, uint8_t *numbers);
/* The inverse; 0: no ring gives these numbers, and nothing is written. */
int ht_trellis_digits(const struct ht_trellis *t, const uint8_t *numbers, uint8_t *digits);

#endif
