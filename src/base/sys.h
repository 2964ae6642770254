/* What the machine and this process look like: memory, time. */
#ifndef HT_BASE_SYS_H
#define HT_BASE_SYS_H

#include <stdbool.h>
#include <stdint.h>

double ht_sys_now(void);               /* monotonic seconds */
double ht_sys_cpu_seconds(void);       /* user + system time of this process */
uint64_t ht_sys_peak_rss_bytes(void);  /* as the kernel reports it */
/* Resident memory of this process in bytes, 0 where the kernel does not tell. */
struct ht_sys_memory {
    uint64_t resident, peak; /* peak: since the start or the last ht_sys_peak_rss_reset */
    uint64_t own, mapped;    /* pages that belong to no file (heap, stacks); pages of mapped files */
};
void ht_sys_memory(struct ht_sys_memory *memory);
bool ht_sys_peak_rss_reset(void);     /* false: the kernel does not offer it, the peak is the process's */
double ht_sys_load_average(void);     /* of the last minute; -1: unknown */
uint64_t ht_sys_last_cache_bytes(void); /* size of the last cache level; 0: unknown */
uint64_t ht_sys_mem_available_bytes(void); /* MemAvailable, lowered by the cgroup limit; 0: unknown */
uint64_t ht_sys_disk_free_bytes(const char *path); /* of the file system that holds path; 0: unknown */

#endif
