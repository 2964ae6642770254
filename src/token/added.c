#include "token/added.h"

#include <stdlib.h>

#include "base/mem.h"
#include "token/utf8.h"

static int by_text(const void *a, const void *b) {
    const struct ht_added_token *x = a, *y = b;
    int c = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

void ht_added_adopt(struct ht_added *added, struct ht_added_token *tokens, size_t n) {
    qsort(tokens, n, sizeof *tokens, by_text);
    added->tokens = tokens;
    added->n = n;
    size_t i = 0;
    for (unsigned b = 0; b <= 256; b++) {
        while (i < n && (unsigned char)tokens[i].text[0] < b) {
            i++;
        }
        added->first[b] = (uint32_t)i;
    }
}

void ht_added_deinit(struct ht_added *added) {
    ht_mem_free(added->tokens);
    memset(added, 0, sizeof *added);
}

/* Byte at depth of token i; tokens that end before it sort first: -1. */
static int byte_at(const struct ht_added *added, size_t i, size_t depth) {
    return depth < added->tokens[i].len ? (unsigned char)added->tokens[i].text[depth] : -1;
}

/* First of tokens [lo, hi), which share depth bytes, whose byte at depth is not below b. */
static size_t lower(const struct ht_added *added, size_t lo, size_t hi, size_t depth, int b) {
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (byte_at(added, mid, depth) < b) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

/* Longest token that text starts with: the range of candidates narrows byte by byte. */
static const struct ht_added_token *longest(const struct ht_added *added, const char *text, size_t len) {
    const struct ht_added_token *best = NULL;
    unsigned char b = (unsigned char)text[0];
    size_t lo = added->first[b], hi = added->first[b + 1];
    for (size_t depth = 1; lo < hi; depth++) {
        if (added->tokens[lo].len == depth) {
            best = &added->tokens[lo++];
        }
        if (depth == len) {
            break;
        }
        b = (unsigned char)text[depth];
        lo = lower(added, lo, hi, depth, b);
        hi = lower(added, lo, hi, depth, b + 1);
    }
    return best;
}

static bool word_before(const char *text, size_t at) {
    size_t start = at, n;
    while (start > 0 && at - start < 4) {
        start--;
        if (((unsigned char)text[start] & 0xC0) != 0x80) {
            break;
        }
    }
    return start < at && ht_utf8_is_word(ht_utf8_at(text + start, at - start, &n));
}

static bool stands_alone(const char *text, size_t len, size_t begin, size_t end) {
    size_t n;
    return !word_before(text, begin) &&
           !(end < len && ht_utf8_is_word(ht_utf8_at(text + end, len - end, &n)));
}

bool ht_added_find(const struct ht_added *added, const char *text, size_t len, size_t from, size_t floor,
                   bool special, struct ht_added_match *match) {
    for (size_t i = from; i < len && added->n > 0; i++) {
        unsigned char b = (unsigned char)text[i];
        if (added->first[b] == added->first[b + 1]) {
            continue;
        }
        const struct ht_added_token *t = longest(added, text + i, len - i);
        if (t == NULL) {
            continue;
        }
        size_t begin = i, end = i + t->len;
        if ((t->special && !special) || (t->single_word && !stands_alone(text, len, begin, end))) {
            i = end - 1;
            continue;
        }
        *match = (struct ht_added_match){begin, end, end, t->id};
        if (t->lstrip && begin > floor) {
            match->begin -= ht_utf8_space_tail(text + floor, begin - floor);
        }
        if (t->rstrip) {
            match->end += ht_utf8_space_head(text + end, len - end);
        }
        return true;
    }
    return false;
}
