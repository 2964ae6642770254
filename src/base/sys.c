#include "base/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>

double ht_sys_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double ht_sys_cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t ht_sys_peak_rss_bytes(void) {
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (uint64_t)u.ru_maxrss * 1024 : 0;
}

/* First number behind key (or at the start when key is empty) in a small system file; 0 when absent. */
static uint64_t read_number(const char *path, const char *key) {
    char line[256];
    uint64_t v = 0;
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        size_t n = strlen(key);
        if (strncmp(line, key, n) == 0 && sscanf(line + n, "%" SCNu64, &v) == 1) {
            break;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return v;
}

void ht_sys_memory(struct ht_sys_memory *m) {
    static const char status[] = "/proc/self/status";
    *m = (struct ht_sys_memory){.resident = read_number(status, "VmRSS:") * 1024,
                                .peak = read_number(status, "VmHWM:") * 1024,
                                .own = read_number(status, "RssAnon:") * 1024,
                                .mapped = read_number(status, "RssFile:") * 1024};
}

bool ht_sys_peak_rss_reset(void) {
    FILE *f = fopen("/proc/self/clear_refs", "we");
    bool ok = f != NULL && fputs("5", f) >= 0; /* 5: the peak becomes the present size, see proc(5) */
    return f != NULL && fclose(f) == 0 && ok;
}

double ht_sys_load_average(void) {
    double load;
    return getloadavg(&load, 1) == 1 ? load : -1;
}

/* sysconf tells the caches of a whole socket on some machines; this is the one that a core sees. */
uint64_t ht_sys_last_cache_bytes(void) {
    uint64_t most = 0;
    for (int i = 0; i < 8; i++) {
        char path[64];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", i);
        uint64_t bytes = read_number(path, "") * 1024; /* "32768K" */
        most = bytes > most ? bytes : most;
    }
    return most;
}

uint64_t ht_sys_mem_available_bytes(void) {
    uint64_t avail = read_number("/proc/meminfo", "MemAvailable:") * 1024;
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max", "");
    uint64_t used = read_number("/sys/fs/cgroup/memory.current", "");
    if (limit != 0 && limit > used && limit - used < avail) {
        avail = limit - used;
    }
    return avail;
}

uint64_t ht_sys_disk_free_bytes(const char *path) {
    struct statvfs s;
    return statvfs(path, &s) == 0 ? (uint64_t)s.f_bavail * (uint64_t)s.f_frsize : 0;
}
