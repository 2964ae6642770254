/* The levels of this machine and which of them serves each slot, as `halftone cpu` shows it. */
#include <stdio.h>

#include "base/cpu.h"
#include "kernel/kernel.h"

int main(void) {
    for (int i = 0; i < HT_CPU_LEVELS; i++) {
        enum ht_cpu_level l = (enum ht_cpu_level)i;
        if (ht_cpu_found(l)) {
            printf("level %s\n", ht_cpu_level_name(l));
        }
    }
    const char *name, *level;
    for (size_t i = 0; (name = ht_kernel_slot(i, &level)) != NULL; i++) {
        printf("%-24s %s\n", name, level);
    }
    return 0;
}
