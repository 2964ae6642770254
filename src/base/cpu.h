/* What this CPU can do, as an ordered list of kernel levels. HT_CPU=ref|avx2|avx512|... in the environment
 * masks everything above the named level (the only variable the library reads). */
#ifndef HT_BASE_CPU_H
#define HT_BASE_CPU_H

#include <stdbool.h>

/* X(NAME, text, needs): each level contains the ones before it of the same machine (but for
 * avxvnni, which machines with AVX-512 may lack). */
#define HT_CPU_LEVEL_LIST(X)                                      \
    X(REF, "ref", "plain C")                                      \
    X(AVX2, "avx2", "AVX2, FMA, F16C")                            \
    X(AVXVNNI, "avxvnni", "AVX2, AVX-VNNI")                       \
    X(AVX512, "avx512", "AVX-512 F, BW, DQ, VL")                  \
    X(AVX512VNNI, "avx512vnni", "AVX-512 VNNI")                   \
    X(AVX512BF16, "avx512bf16", "AVX-512 VNNI, VBMI, BF16")       \
    X(NEON, "neon", "ARM Advanced SIMD")                          \
    X(DOTPROD, "dotprod", "ARM dot product")                      \
    X(I8MM, "i8mm", "ARM int8 matrix multiply")

enum ht_cpu_level {
#define HT_CPU_LEVEL_ENUM(name, text, needs) HT_CPU_##name,
    HT_CPU_LEVEL_LIST(HT_CPU_LEVEL_ENUM)
#undef HT_CPU_LEVEL_ENUM
    HT_CPU_LEVELS
};

const char *ht_cpu_level_name(enum ht_cpu_level level);
const char *ht_cpu_level_needs(enum ht_cpu_level level);
bool ht_cpu_has(enum ht_cpu_level level);     /* found on this machine and not masked */
const char *ht_cpu_unknown_mask(void); /* value of HT_CPU where it names no level and masks nothing, else NULL */
bool ht_cpu_found(enum ht_cpu_level level);   /* found, masked or not */
enum ht_cpu_level ht_cpu_best(void);          /* highest level that ht_cpu_has */
const char *ht_cpu_model(char *buf, int len); /* "AMD EPYC ..." or "unknown" */

#endif
