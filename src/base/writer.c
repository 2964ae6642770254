/* Atomic writer: see base/file.h. Temporary names are ".NAME.RANDOM.part" and are held under flock, which is
 * how a later writer tells a live one from one that a killed process left behind. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"

#define BUFFER_BYTES (256u << 10)
#define ATTEMPTS 100 /* to create a temporary file that no sweep removes */

struct ht_writer {
    char *final_path, *temp_path, *dir;
    int fd;
    bool overwrite;
    uint64_t flushed; /* bytes of the append stream that are in the file */
    size_t n;         /* bytes waiting in buffer */
    unsigned char *buffer; /* [BUFFER_BYTES]; NULL after the first sync */
    bool synced;           /* nothing was written since the last sync */
};

static void free_writer(struct ht_writer *w) {
    if (w->fd >= 0) {
        close(w->fd);
    }
    ht_mem_free(w->final_path);
    ht_mem_free(w->temp_path);
    ht_mem_free(w->dir);
    ht_mem_free(w->buffer);
    ht_mem_free(w);
}

/* Removes ".NAME.*.part" files whose owner is gone. Best effort. */
static void sweep(const char *dir, const char *name) {
    DIR *d = opendir(dir);
    if (d == NULL) {
        return;
    }
    size_t nn = strlen(name);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t len = strlen(e->d_name);
        if (len != nn + 23 || e->d_name[0] != '.' || memcmp(e->d_name + 1, name, nn) != 0 ||
            e->d_name[nn + 1] != '.' || memcmp(e->d_name + len - 5, ".part", 5) != 0) {
            continue;
        }
        int fd = openat(dirfd(d), e->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (fd >= 0) {
            if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
                unlinkat(dirfd(d), e->d_name, 0);
            }
            close(fd);
        }
    }
    closedir(d);
}

/* Another writer's sweep may meet the file between its creation and its lock, take it for a dead one's and remove it:
 * then it has no name any more. True: it is ours, under lock. */
static bool hold(int fd) {
    struct stat st;
    while (flock(fd, LOCK_EX) != 0 && errno == EINTR) { /* a sweep holds it for a moment only */
    } /* other errors: the file system has no locks, then nobody's sweep gets one */
    return fstat(fd, &st) != 0 || st.st_nlink > 0;
}

/* Creates the temporary file. temp_path holds cap bytes. */
static ht_status create_temp(struct ht_writer *w, size_t dir_len, size_t cap, ht_err *err) {
    const char *path = w->final_path;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        snprintf(w->temp_path, cap, "%.*s.%s.%016" PRIx64 ".part", (int)dir_len, path, path + dir_len,
                 ht_rng_entropy());
        w->fd = open(w->temp_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (w->fd < 0) {
            return ht_fail_errno(err, errno, path, "create the output beside its final name");
        }
        if (hold(w->fd)) {
            return HT_OK;
        }
        close(w->fd);
        w->fd = -1;
    }
    return ht_fail(err, HT_BUSY, path, HT_NO_POS, "other programs that write it removed our temporary file %d times",
                   ATTEMPTS);
}

ht_status ht_writer_open(const char *path, const struct ht_writer_options *options, struct ht_writer **writer,
                         ht_err *err) {
    *writer = NULL;
    const char *base = ht_path_base(path);
    if (*base == '\0') {
        return ht_fail(err, HT_INVAL, path, HT_NO_POS, "expected a file name, found a folder name");
    }
    if (ht_path_is_dir(path)) {
        return ht_fail(err, HT_INVAL, path, HT_NO_POS, "expected a file name, but a folder of this name exists");
    }
    if (!options->overwrite && ht_path_exists(path)) {
        return ht_fail(err, HT_EXISTS, path, HT_NO_POS,
                       "the file exists already; choose another name or allow overwriting (--force)");
    }
    struct ht_writer *w = ht_mem_calloc(1, sizeof *w);
    if (w == NULL) {
        return ht_fail_nomem(err, sizeof *w);
    }
    ht_status status = HT_OK;
    w->fd = -1;
    w->overwrite = options->overwrite;
    size_t dir_len = (size_t)(base - path);
    size_t temp_cap = strlen(path) + 32;
    w->final_path = ht_mem_strdup(path);
    w->dir = dir_len ? ht_mem_strndup(path, dir_len) : ht_mem_strdup(".");
    w->temp_path = ht_mem_alloc(temp_cap);
    w->buffer = ht_mem_alloc(BUFFER_BYTES);
    if (w->final_path == NULL || w->dir == NULL || w->temp_path == NULL || w->buffer == NULL) {
        status = ht_fail_nomem(err, temp_cap);
        goto done;
    }
    sweep(w->dir, base);
    HT_TRY_DONE(create_temp(w, dir_len, temp_cap, err));
    if (options->expect_bytes != 0) {
        int e = posix_fallocate(w->fd, 0, (off_t)options->expect_bytes);
        if (e == ENOSPC || e == EFBIG || e == EDQUOT) {
            unlink(w->temp_path);
            status = ht_fail(err, HT_NOSPACE, path, HT_NO_POS, "the output needs %llu bytes: %s",
                             (unsigned long long)options->expect_bytes,
                             e == ENOSPC ? "no space left on the device" : "beyond the size limit or quota");
            goto done;
        } /* other errors: the file system cannot reserve; writing tells */
    }
    *writer = w;
    w = NULL;
done:
    if (w != NULL) {
        free_writer(w);
    }
    return status;
}

static ht_status write_all(struct ht_writer *w, uint64_t pos, const void *data, uint64_t len, ht_err *err) {
    const unsigned char *p = data;
    while (len != 0) {
        size_t step = len > (1u << 30) ? 1u << 30 : (size_t)len;
        ssize_t n = pwrite(w->fd, p, step, (off_t)pos);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return ht_fail_errno(err, n == 0 ? EIO : errno, w->final_path, "write");
        }
        p += n;
        pos += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return HT_OK;
}

static ht_status flush(struct ht_writer *w, ht_err *err) {
    if (w->n == 0) {
        return HT_OK;
    }
    HT_TRY(write_all(w, w->flushed, w->buffer, w->n, err));
    w->flushed += w->n;
    w->n = 0;
    return HT_OK;
}

ht_status ht_writer_write(struct ht_writer *w, const void *data, uint64_t len, ht_err *err) {
    assert(w->buffer != NULL); /* appending is over after a sync */
    if (len > BUFFER_BYTES - w->n) {
        HT_TRY(flush(w, err));
        if (len >= BUFFER_BYTES) {
            HT_TRY(write_all(w, w->flushed, data, len, err));
            w->flushed += len;
            return HT_OK;
        }
    }
    if (len != 0) {
        memcpy(w->buffer + w->n, data, (size_t)len);
        w->n += (size_t)len;
    }
    return HT_OK;
}

ht_status ht_writer_zeros(struct ht_writer *w, uint64_t len, ht_err *err) {
    static const unsigned char zeros[4096];
    while (len != 0) {
        uint64_t step = len < sizeof zeros ? len : sizeof zeros;
        HT_TRY(ht_writer_write(w, zeros, step, err));
        len -= step;
    }
    return HT_OK;
}

ht_status ht_writer_write_at(struct ht_writer *w, uint64_t pos, const void *data, uint64_t len, ht_err *err) {
    w->synced = false;
    HT_TRY(flush(w, err));
    return write_all(w, pos, data, len, err);
}

ht_status ht_writer_skip(struct ht_writer *w, uint64_t len, ht_err *err) {
    HT_TRY(flush(w, err));
    w->flushed += len;
    return HT_OK;
}

uint64_t ht_writer_pos(const struct ht_writer *w) {
    return w->flushed + w->n;
}

static ht_status sync_dir(const char *dir, ht_err *err) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return ht_fail_errno(err, errno, dir, "open folder");
    }
    int rc = fsync(fd), e = errno;
    close(fd);
    /* Some file systems cannot sync folders and say EINVAL: nothing more can be done there. */
    return rc == 0 || e == EINVAL ? HT_OK : ht_fail_errno(err, e, dir, "sync folder");
}

ht_status ht_writer_sync(struct ht_writer *w, ht_err *err) {
    if (w->synced) {
        return HT_OK;
    }
    HT_TRY(flush(w, err));
    mode_t mask = umask(0);
    umask(mask);
    /* An fsync error is final: the kernel may have dropped the pages, so trying again proves nothing. */
    if (ftruncate(w->fd, (off_t)w->flushed) != 0 || fchmod(w->fd, 0666 & ~mask) != 0 || fsync(w->fd) != 0) {
        return ht_fail_errno(err, errno, w->final_path, "finish");
    }
    ht_mem_free(w->buffer);
    w->buffer = NULL;
    w->synced = true;
    return HT_OK;
}

ht_status ht_writer_commit(struct ht_writer *w, ht_err *err) {
    ht_status status = HT_OK;
    bool linked = false; /* a name that was free is ours: taken back when what follows fails */
    HT_TRY_DONE(ht_writer_sync(w, err));
    if (w->overwrite) {
        if (rename(w->temp_path, w->final_path) != 0) {
            status = ht_fail_errno(err, errno, w->final_path, "give the finished file its name");
            goto done;
        }
    } else {
        /* link refuses an existing name, so a file that appeared meanwhile is not lost. */
        if (link(w->temp_path, w->final_path) != 0) {
            int e = errno;
            bool no_links = e == EPERM || e == ENOSYS || e == EOPNOTSUPP;
            if (!no_links || ht_path_exists(w->final_path) || rename(w->temp_path, w->final_path) != 0) {
                status = ht_fail_errno(err, no_links ? errno : e, w->final_path,
                                       "give the finished file its name");
                goto done;
            }
        } else {
            unlink(w->temp_path);
        }
        linked = true;
    }
    w->temp_path[0] = '\0';
    if (close(w->fd) != 0) {
        w->fd = -1;
        status = ht_fail_errno(err, errno, w->final_path, "close");
        goto done;
    }
    w->fd = -1;
    status = sync_dir(w->dir, err);
done:
    if (status != HT_OK && w->temp_path[0] != '\0') {
        unlink(w->temp_path);
    }
    if (status != HT_OK && linked) {
        unlink(w->final_path);
    }
    free_writer(w);
    return status;
}

void ht_writer_abort(struct ht_writer *w) {
    if (w != NULL) {
        unlink(w->temp_path);
        free_writer(w);
    }
}

ht_status ht_write_file(const char *path, const void *data, size_t len, bool overwrite, ht_err *err) {
    struct ht_writer *w;
    HT_TRY(ht_writer_open(path, &(struct ht_writer_options){.expect_bytes = len, .overwrite = overwrite}, &w,
                          err));
    ht_status status = ht_writer_write(w, data, len, err);
    if (status != HT_OK) {
        ht_writer_abort(w);
        return status;
    }
    return ht_writer_commit(w, err);
}
