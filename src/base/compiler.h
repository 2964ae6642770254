/* Compiler extensions, the only place outside kernel/ that may use them. */
#ifndef HT_BASE_COMPILER_H
#define HT_BASE_COMPILER_H

#define HT_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#define HT_LIKELY(x) __builtin_expect(!!(x), 1)
#define HT_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HT_ALIGNED(n) __attribute__((aligned(n)))
#define HT_NOINLINE __attribute__((noinline))
#define HT_INLINE static inline __attribute__((always_inline, unused))
#define HT_WARN_UNUSED __attribute__((warn_unused_result))
#define HT_UNUSED __attribute__((unused))

/* Before a loop over a fixed number of lanes: keeps it whole, so that it becomes vector instructions rather than
 * many scalar ones that the compiler then gathers in other ways. */
#if defined(__GNUC__) && !defined(__clang__)
#define HT_LANE_LOOP _Pragma("GCC unroll 1")
#else
#define HT_LANE_LOOP
#endif

/* Before a short inner loop over a constant number of parts: all of it in the outer loop's body, so that the outer
 * one becomes vector instructions. */
#if defined(__GNUC__) && !defined(__clang__)
#define HT_UNROLL _Pragma("GCC unroll 16")
#elif defined(__clang__)
#define HT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HT_UNROLL
#endif

/* 16 floats that the compiler keeps in vector registers, and another order of them. GCC below 12 has no
 * __builtin_shufflevector. */
typedef float ht_lanes16 __attribute__((vector_size(64)));
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HT_SHUFFLE16(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#endif
#endif
#if !defined(HT_SHUFFLE16)
typedef int ht_order16 __attribute__((vector_size(64)));
#define HT_SHUFFLE16(v, ...) __builtin_shuffle(v, (ht_order16){__VA_ARGS__})
#endif

/* One C body compiled for several x86 levels, chosen when the program is loaded. The arithmetic is the
 * same at every level because the build sets -ffp-contract=off and the body fixes its own summation order.
 * Off under sanitizers, whose run time is not up when the chooser runs. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(HT_SANITIZED)
#define HT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define HT_CLONES
#endif

#endif
