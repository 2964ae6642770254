#include "base/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__aarch64__)
#include <sys/auxv.h> /* HWCAP */
#elif defined(__x86_64__)
#include <cpuid.h>
#endif

static const char *const level_names[] = {
#define NAME_ROW(name, text, needs) text,
    HT_CPU_LEVEL_LIST(NAME_ROW)
#undef NAME_ROW
};

static const char *const level_needs[] = {
#define NEEDS_ROW(name, text, needs) needs,
    HT_CPU_LEVEL_LIST(NEEDS_ROW)
#undef NEEDS_ROW
};

const char *ht_cpu_level_name(enum ht_cpu_level level) {
    return level_names[level];
}

const char *ht_cpu_level_needs(enum ht_cpu_level level) {
    return level_needs[level];
}

#if defined(__x86_64__)
/* For features that some compilers' __builtin_cpu_supports do not know. */
static bool cpuid_ecx1(unsigned bit) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> bit & 1u) != 0;
}

static bool cpuid_eax7_1(unsigned bit) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> bit & 1u) != 0;
}
#endif

bool ht_cpu_found(enum ht_cpu_level level) {
    switch (level) {
    case HT_CPU_REF:
        return true;
#if defined(__x86_64__)
    case HT_CPU_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && cpuid_ecx1(29); /* F16C */
    case HT_CPU_AVXVNNI:
        return ht_cpu_found(HT_CPU_AVX2) && cpuid_eax7_1(4);
    case HT_CPU_AVX512:
        return ht_cpu_found(HT_CPU_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
    case HT_CPU_AVX512VNNI:
        return ht_cpu_found(HT_CPU_AVX512) && __builtin_cpu_supports("avx512vnni");
    case HT_CPU_AVX512BF16:
        return ht_cpu_found(HT_CPU_AVX512VNNI) && __builtin_cpu_supports("avx512vbmi") &&
               __builtin_cpu_supports("avx512bf16");
#elif defined(__aarch64__)
    case HT_CPU_NEON:
        return true;
    case HT_CPU_DOTPROD:
        return (getauxval(AT_HWCAP) & (1ul << 20)) != 0; /* HWCAP_ASIMDDP */
    case HT_CPU_I8MM:
        return ht_cpu_found(HT_CPU_DOTPROD) && (getauxval(AT_HWCAP2) & (1ul << 13)) != 0; /* HWCAP2_I8MM */
#endif
    default:
        return false;
    }
}

static int mask_level(void) {
    const char *env = getenv("HT_CPU");
    for (int i = 0; env != NULL && i < HT_CPU_LEVELS; i++) {
        if (strcmp(env, level_names[i]) == 0) {
            return i;
        }
    }
    return HT_CPU_LEVELS - 1;
}

const char *ht_cpu_unknown_mask(void) {
    const char *env = getenv("HT_CPU");
    for (int i = 0; env != NULL && i < HT_CPU_LEVELS; i++) {
        if (strcmp(env, level_names[i]) == 0) {
            return NULL;
        }
    }
    return env;
}

bool ht_cpu_has(enum ht_cpu_level level) {
    return (int)level <= mask_level() && ht_cpu_found(level);
}

enum ht_cpu_level ht_cpu_best(void) {
    enum ht_cpu_level best = HT_CPU_REF;
    for (int i = 0; i < HT_CPU_LEVELS; i++) {
        if (ht_cpu_has((enum ht_cpu_level)i)) {
            best = (enum ht_cpu_level)i;
        }
    }
    return best;
}

const char *ht_cpu_model(char *buf, int len) {
    char line[256];
    snprintf(buf, (size_t)len, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        char *colon = strchr(line, ':');
        if (colon != NULL && strncmp(line, "model name", 10) == 0) {
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(buf, (size_t)len, "%s", colon + 2);
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return buf;
}
