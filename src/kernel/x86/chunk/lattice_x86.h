/* The lattice formats' points and signs as bytes, for kernels that put vectors together from memory. */
#ifndef HT_KERNEL_X86_LATTICE_X86_H
#define HT_KERNEL_X86_LATTICE_X86_H

#include <stdint.h>

struct ht_lattice_x86 {
    /* 8 elements: magnitudes; iq1: 64 + 8 * level. */
    uint64_t iq2_xxs[256], iq2_xs[512], iq2_s[1024], iq1[2048];
    uint32_t iq3_xxs[256], iq3_s[512]; /* 4 magnitudes */
    uint64_t sign[256];                /* by 8 sign bits: bytes 1 or -1 */
    uint64_t even[128];                /* by 7 sign bits: the eighth makes the number of minus signs even */
};

/* Filled by ht_lattice_x86_init, which the tables' setup calls once; constant afterwards. */
extern struct ht_lattice_x86 ht_lattice_x86;
void ht_lattice_x86_init(void);

#endif
