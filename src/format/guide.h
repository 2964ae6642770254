/* What a person wants to know of a format before choosing it: what it can express, computed from its row, what it is
 * for and where it runs. */
#ifndef HT_FORMAT_GUIDE_H
#define HT_FORMAT_GUIDE_H

#include "format/code.h"

struct ht_format_span {
    char range[48];      /* "-8 .. 7 x scale" */
    double max;          /* largest value that decoding can give; with scales from outside: largest level */
    double min_normal;   /* floats: smallest at full precision; NAN for the others */
    double min_positive; /* floats: smallest value; codes and blocks: smallest level above 0 */
    double eps;          /* floats: 1 to the next value; others: smallest distance of levels over the largest level */
    double levels;       /* values that one element of a block can take; NAN for floats of more than 16 bits */
    double decades;      /* log10 of the largest over the smallest positive value (level) */
};
void ht_format_span(const struct ht_format *f, struct ht_format_span *out);

/* Never NULL, never empty. */
const char *ht_format_use(const struct ht_format *f);
const char *ht_format_hardware(const struct ht_format *f);

/* GGUF type numbers from here on are this program's own. */
#define HT_GGUF_OWN_TYPES 0x48540001

#endif
