#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static ht_status open_regular(const char *path, int *fd, struct stat *st, ht_err *err) {
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a fifo must not hang us */
    if (*fd < 0) {
        return ht_fail_errno(err, errno, path, "open");
    }
    if (fstat(*fd, st) != 0) {
        int e = errno;
        close(*fd);
        return ht_fail_errno(err, e, path, "stat");
    }
    if (!S_ISREG(st->st_mode)) {
        close(*fd);
        return ht_fail(err, HT_FORMAT, path, HT_NO_POS, "expected a regular file, found %s",
                       S_ISDIR(st->st_mode) ? "a folder" : "a special file");
    }
    return HT_OK;
}

static int64_t mtime_ns(const struct stat *st) {
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

ht_status ht_map_file(const char *path, struct ht_mapping *map, ht_err *err) {
    int fd;
    struct stat st;
    memset(map, 0, sizeof *map);
    HT_TRY(open_regular(path, &fd, &st, err));
    map->size = (uint64_t)st.st_size;
    map->dev = (uint64_t)st.st_dev;
    map->ino = (uint64_t)st.st_ino;
    map->mtime_ns = mtime_ns(&st);
    if (map->size != 0) {
        void *p = map->size > SIZE_MAX ? MAP_FAILED
                                       : mmap(NULL, (size_t)map->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED) {
            int e = errno;
            close(fd);
            return ht_fail_errno(err, e, path, "map");
        }
        map->data = p;
    }
    close(fd);
    return HT_OK;
}

void ht_unmap_file(struct ht_mapping *map) {
    if (map->data != NULL) {
        munmap((void *)(uintptr_t)map->data, (size_t)map->size);
    }
    memset(map, 0, sizeof *map);
}

ht_status ht_map_check(const struct ht_mapping *map, const char *path, ht_err *err) {
    struct stat st;
    if (stat(path, &st) != 0 || (uint64_t)st.st_dev != map->dev || (uint64_t)st.st_ino != map->ino) {
        return HT_OK;
    }
    if ((uint64_t)st.st_size != map->size) {
        return ht_fail(err, HT_IO, path, HT_NO_POS,
                       "the file changed while it was read: it had %llu bytes, now %llu; run again when it is complete",
                       (unsigned long long)map->size, (unsigned long long)st.st_size);
    }
    if (mtime_ns(&st) != map->mtime_ns) {
        return ht_fail(err, HT_IO, path, HT_NO_POS,
                       "the file was written to while it was read; run again when it is complete");
    }
    return HT_OK;
}

static void advise(const struct ht_mapping *map, uint64_t from, uint64_t len, int advice, bool inner) {
    if (map->data == NULL || from >= map->size) {
        return;
    }
    if (len > map->size - from) {
        len = map->size - from;
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t begin = from & ~(page - 1), end = from + len;
    if (inner) { /* dropping: only pages wholly inside */
        begin = (from + page - 1) & ~(page - 1);
        end = end == map->size ? end : end & ~(page - 1);
    }
    if (begin < end) {
        madvise((void *)(uintptr_t)(map->data + begin), (size_t)(end - begin), advice);
    }
}

void ht_map_will_need(const struct ht_mapping *map, uint64_t from, uint64_t len) {
    advise(map, from, len, MADV_WILLNEED, false);
}

void ht_map_drop(const struct ht_mapping *map, uint64_t from, uint64_t len) {
    advise(map, from, len, MADV_DONTNEED, true);
}

void ht_map_keep(const struct ht_mapping *map) {
#ifdef MADV_HUGEPAGE
    advise(map, 0, map->size, MADV_HUGEPAGE, false);
#else
    (void)map;
#endif
}

ht_status ht_read_file(const char *path, uint64_t max_bytes, char **data, size_t *len, ht_err *err) {
    int fd;
    struct stat st;
    *data = NULL;
    *len = 0;
    HT_TRY(open_regular(path, &fd, &st, err));
    ht_status status = HT_OK;
    uint64_t size = (uint64_t)st.st_size, got = 0;
    char *buf = NULL;
    if (size > max_bytes) {
        status = ht_fail(err, HT_LIMIT, path, HT_NO_POS, "file has %llu bytes, the limit is %llu",
                         (unsigned long long)size, (unsigned long long)max_bytes);
        goto done;
    }
    buf = ht_mem_alloc((size_t)size + 1);
    if (buf == NULL) {
        status = ht_fail_nomem(err, size + 1);
        goto done;
    }
    while (got < size) {
        ssize_t n = read(fd, buf + got, (size_t)(size - got));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            status = ht_fail_errno(err, errno, path, "read");
            goto done;
        }
        if (n == 0) {
            break; /* shrank meanwhile: give what there is */
        }
        got += (uint64_t)n;
    }
    buf[got] = '\0';
    *data = buf;
    *len = (size_t)got;
    buf = NULL;
done:
    ht_mem_free(buf);
    close(fd);
    return status;
}

bool ht_path_is_dir(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool ht_path_exists(const char *path) {
    struct stat st;
    return lstat(path, &st) == 0;
}

bool ht_path_same(const char *a, const char *b) {
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

char *ht_path_join(const char *dir, const char *name) {
    size_t nd = strlen(dir), nn = strlen(name);
    char *p = ht_mem_alloc(nd + nn + 2);
    if (p != NULL) {
        memcpy(p, dir, nd);
        if (nd != 0 && dir[nd - 1] != '/') {
            p[nd++] = '/';
        }
        memcpy(p + nd, name, nn + 1);
    }
    return p;
}

const char *ht_path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

ht_status ht_make_dir(const char *path, ht_err *err) {
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && ht_path_is_dir(path))) {
        return HT_OK;
    }
    return ht_fail_errno(err, errno, path, "create folder");
}

ht_status ht_make_dirs(const char *path, ht_err *err) {
    size_t len = strlen(path);
    char *part = ht_mem_alloc(len + 1);
    ht_status status = HT_OK;
    if (part == NULL) {
        return ht_fail_nomem(err, len + 1);
    }
    memcpy(part, path, len + 1);
    for (size_t i = 1; i < len && status == HT_OK; i++) {
        if (path[i] == '/' && path[i - 1] != '/') {
            part[i] = '\0';
            status = ht_make_dir(part, err);
            part[i] = '/';
        }
    }
    ht_mem_free(part);
    return status == HT_OK ? ht_make_dir(path, err) : status;
}
