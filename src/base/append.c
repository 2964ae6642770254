#include "base/append.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"

struct ht_append {
    int fd;
    uint64_t pos;
    char *path;
};

ht_status ht_append_open(const char *path, uint64_t keep, struct ht_append **out, ht_err *err) {
    *out = NULL;
    struct ht_append *a = ht_mem_calloc(1, sizeof *a);
    char *copy = ht_mem_strdup(path);
    if (a == NULL || copy == NULL) {
        ht_mem_free(a);
        ht_mem_free(copy);
        return ht_fail_nomem(err, sizeof *a);
    }
    *a = (struct ht_append){.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), .pos = keep,
                            .path = copy};
    ht_status status = HT_OK;
    struct stat st;
    if (a->fd < 0) {
        status = ht_fail_errno(err, errno, path, "open");
    } else if (flock(a->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        status = ht_fail(err, HT_EXISTS, path, HT_NO_POS,
                         "another process works on it; wait for it, or choose another output");
    } else if (fstat(a->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = ht_fail(err, HT_IO, path, HT_NO_POS, "expected a regular file");
    } else if (ftruncate(a->fd, (off_t)keep) != 0 || lseek(a->fd, (off_t)keep, SEEK_SET) < 0) {
        status = ht_fail_errno(err, errno, path, "cut");
    }
    if (status != HT_OK) {
        ht_append_close(a);
        return status;
    }
    *out = a;
    return HT_OK;
}

ht_status ht_append_write(struct ht_append *a, const void *data, uint64_t len, ht_err *err) {
    const unsigned char *p = data;
    while (len > 0) {
        ssize_t n = write(a->fd, p, len < (1u << 30) ? (size_t)len : (1u << 30));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return ht_fail_errno(err, n < 0 ? errno : EIO, a->path, "write");
        }
        p += n;
        len -= (uint64_t)n;
        a->pos += (uint64_t)n;
    }
    return HT_OK;
}

ht_status ht_append_zeros(struct ht_append *a, uint64_t len, ht_err *err) {
    static const unsigned char zeros[4096];
    return ht_append_write(a, zeros, len < sizeof zeros ? len : sizeof zeros, err);
}

uint64_t ht_append_pos(const struct ht_append *a) {
    return a->pos;
}

ht_status ht_append_sync(struct ht_append *a, ht_err *err) {
    return fsync(a->fd) == 0 ? HT_OK : ht_fail_errno(err, errno, a->path, "sync");
}

void ht_append_close(struct ht_append *a) {
    if (a != NULL) {
        if (a->fd >= 0) {
            close(a->fd);
        }
        ht_mem_free(a->path);
        ht_mem_free(a);
    }
}

ht_status ht_remove_file(const char *path, ht_err *err) {
    return unlink(path) == 0 || errno == ENOENT ? HT_OK : ht_fail_errno(err, errno, path, "remove");
}

/* ---- spill ------------------------------------------------------------------------------------------------ */

ht_status ht_spill_new(const char *path, uint64_t bytes, struct ht_spill *spill, ht_err *err) {
    *spill = (struct ht_spill){.bytes = bytes};
    size_t len = strlen(path) + 32;
    char *name = ht_mem_alloc(len);
    if (name == NULL) {
        return ht_fail_nomem(err, len);
    }
    snprintf(name, len, "%s.%016llx.spill", path, (unsigned long long)ht_rng_entropy());
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ht_status status = fd < 0 ? ht_fail_errno(err, errno, name, "create") : HT_OK;
    if (status == HT_OK) {
        unlink(name);
        int code = posix_fallocate(fd, 0, (off_t)bytes);
        if (code != 0) {
            status = ht_fail_errno(err, code, name, "reserve");
        }
    }
    if (status == HT_OK) {
        void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            status = ht_fail_errno(err, errno, name, "map");
        } else {
            spill->data = p;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    ht_mem_free(name);
    return status;
}

void ht_spill_drop(const struct ht_spill *spill, uint64_t from, uint64_t len) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), to = from + len;
    from = (from + page - 1) / page * page;
    to = to >= spill->bytes ? spill->bytes : to / page * page;
    if (from < to) { /* shared pages of a file: what was written stays in the file */
        madvise((unsigned char *)spill->data + from, to - from, MADV_DONTNEED);
    }
}

void ht_spill_free(struct ht_spill *spill) {
    if (spill->data != NULL) {
        munmap(spill->data, spill->bytes);
        spill->data = NULL;
    }
}
