#include "base/nearest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define MAX_LEN 63

/* Optimal string alignment distance: insert, delete, replace, swap of neighbours. */
static int distance(const char *a, const char *b) {
    int na = (int)strnlen(a, MAX_LEN), nb = (int)strnlen(b, MAX_LEN);
    int d[3][MAX_LEN + 1];
    for (int j = 0; j <= nb; j++) {
        d[0][j] = j;
    }
    for (int i = 1; i <= na; i++) {
        int *row = d[i % 3], *up = d[(i + 2) % 3], *up2 = d[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= nb; j++) {
            int ca = tolower((unsigned char)a[i - 1]), cb = tolower((unsigned char)b[j - 1]);
            int best = up[j - 1] + (ca != cb);
            best = up[j] + 1 < best ? up[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
                tolower((unsigned char)a[i - 2]) == cb && up2[j - 2] + 1 < best) {
                best = up2[j - 2] + 1;
            }
            row[j] = best;
        }
    }
    return d[na % 3][nb];
}

const char *ht_nearest(const char *name, const char *(*name_at)(const void *table, size_t i),
                       const void *table, size_t n, char *out, size_t out_len) {
    size_t used = 0;
    int limit = (int)strnlen(name, MAX_LEN) / 3 + 1, found = 0;
    if (out_len != 0) {
        out[0] = '\0';
    }
    for (int want = 0; want <= limit && found < 3; want++) {
        for (size_t i = 0; i < n && found < 3; i++) {
            const char *candidate = name_at(table, i);
            if (distance(name, candidate) == want) {
                int w = snprintf(out + used, out_len - used, "%s%s", found ? ", " : "", candidate);
                if (w < 0 || (size_t)w >= out_len - used) {
                    out[used] = '\0';
                    return out;
                }
                used += (size_t)w;
                found++;
            }
        }
    }
    return out;
}
