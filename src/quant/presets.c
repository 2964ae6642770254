/* Methods: each is a row of choices on the five axes (docs/methods.md). Presets of types (Q4_K_M ...) stand in
 * mix.c: they are the FORMAT choice alone, tensor by tensor. */
#include <strings.h>

#include "quant/method.h"

static const struct ht_method methods[] = {
    {"rtn", "round to nearest on the format's own searched grid; needs no data",
     "none", "squared error, searched", "any", "nearest", "none", "Jacob et al. 2017, arXiv 1712.05877",
     HT_NEEDS_NOTHING},
    {"imatrix", "the same search, each column weighted by the mean square of its input on calibration text",
     "none", "weighted squared error, searched", "any", "nearest", "none", "llama.cpp, pull request 4861",
     HT_NEEDS_MEAN_SQUARE},
    {"gptq", "columns rounded one after the other, each making up for the errors before it, then polished",
     "none", "weighted squared error, searched", "any GGUF grid", "error feedback, descent, refit", "none",
     "Frantar et al. 2022, arXiv 2210.17323", HT_NEEDS_GRAM},
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
