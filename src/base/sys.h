/* What the machine and this process look like: memory, time. */
#ifndef HT_BASE_SYS_H
#define HT_BASE_SYS_H

#include <stdint.h>

double ht_sys_now(void);               /* monotonic seconds */
double ht_sys_cpu_seconds(void);       /* user + system time of this process */
uint64_t ht_sys_peak_rss_bytes(void);  /* as the kernel reports it */
uint64_t ht_sys_mem_available_bytes(void); /* MemAvailable, lowered by the cgroup limit; 0: unknown */
uint64_t ht_sys_disk_free_bytes(const char *path); /* of the file system that holds path; 0: unknown */

#endif
