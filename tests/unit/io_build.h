/* Files for tests, written as text. Tokens are separated by spaces:
 *   t:TEXT   bytes of TEXT ("_" stands for a space)    w1:N w2:N w4:N w8:N   little-endian integers (N may be negative)
 *   s:TEXT   u64 length and the bytes of TEXT          f4:X f8:X             little-endian floats
 *   z:N      N zero bytes                              p:N                   zeros up to a multiple of N
 *   x:HEX    bytes in hex                              r:N:B                 N bytes of value B
 * The result is a heap block of exactly the right size, so that a sanitizer sees every byte read beyond it. */
#ifndef HT_TESTS_UNIT_IO_BUILD_H
#define HT_TESTS_UNIT_IO_BUILD_H

#include <dirent.h>
#include <unistd.h>

#include "base/file.h"
#include "test.h"

struct bytes {
    unsigned char *p;
    size_t n, cap;
};

static inline void bytes_add(struct bytes *b, const void *p, size_t n) {
    if (b->n + n > b->cap) {
        b->cap = (b->n + n) * 2;
        b->p = realloc(b->p, b->cap);
        assert_non_null(b->p);
    }
    if (n != 0) {
        memcpy(b->p + b->n, p, n);
    }
    b->n += n;
}

static inline void bytes_int(struct bytes *b, uint64_t v, int n) {
    unsigned char le[8];
    for (int i = 0; i < 8; i++) {
        le[i] = (unsigned char)(v >> (8 * i));
    }
    bytes_add(b, le, (size_t)n);
}

static inline void bytes_fill(struct bytes *b, uint64_t n, int value) {
    unsigned char c = (unsigned char)value;
    while (n-- > 0) {
        bytes_add(b, &c, 1);
    }
}

static inline void bytes_token(struct bytes *b, const char *t, size_t len) {
    char text[4096];
    assert_true(len >= 2 && len < sizeof text);
    memcpy(text, t, len);
    text[len] = '\0';
    char *arg = strchr(text, ':');
    assert_non_null(arg);
    arg++;
    size_t n = strlen(arg);
    switch (text[0]) {
    case 's':
        bytes_int(b, n, 8);
        bytes_add(b, arg, n);
        break;
    case 't':
        for (char *c = arg; *c != '\0'; c++) {
            *c = *c == '_' ? ' ' : *c;
        }
        bytes_add(b, arg, n);
        break;
    case 'w':
        bytes_int(b, arg[0] == '-' ? (uint64_t)strtoll(arg, NULL, 0) : strtoull(arg, NULL, 0), text[1] - '0');
        break;
    case 'f': {
        double d = strtod(arg, NULL);
        float f = (float)d;
        bytes_add(b, text[1] == '4' ? (void *)&f : (void *)&d, text[1] == '4' ? 4 : 8);
        break;
    }
    case 'z':
        bytes_fill(b, strtoull(arg, NULL, 0), 0);
        break;
    case 'r': {
        char *end;
        uint64_t count = strtoull(arg, &end, 0);
        bytes_fill(b, count, (int)strtol(end + 1, NULL, 0));
        break;
    }
    case 'p':
        while (b->n % strtoull(arg, NULL, 0) != 0) {
            bytes_fill(b, 1, 0);
        }
        break;
    case 'x':
        for (size_t i = 0; i + 1 < n; i += 2) {
            char hex[3] = {arg[i], arg[i + 1], '\0'};
            bytes_fill(b, 1, (int)strtol(hex, NULL, 16));
        }
        break;
    default:
        fail_msg("unknown token %s", text);
    }
}

static inline struct bytes build(const char *script) {
    struct bytes b = {NULL, 0, 0};
    for (const char *s = script; *s != '\0';) {
        size_t len = strcspn(s, " ");
        if (len != 0) {
            bytes_token(&b, s, len);
        }
        s += len + (s[len] == ' ');
    }
    unsigned char *exact = malloc(b.n ? b.n : 1);
    assert_non_null(exact);
    if (b.n != 0) {
        memcpy(exact, b.p, b.n);
    }
    free(b.p);
    b.p = exact;
    b.cap = b.n;
    return b;
}

/* A copy of the first n bytes, exactly n long. */
static inline unsigned char *prefix(const struct bytes *b, size_t n) {
    unsigned char *p = malloc(n ? n : 1);
    assert_non_null(p);
    memcpy(p, b->p, n);
    return p;
}

/* A fresh folder; path(dir, name) joins into one of a few static buffers. */
static inline void temp_dir(char dir[64]) {
    snprintf(dir, 64, "/tmp/ht-io-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static inline const char *in(const char *dir, const char *name) {
    static char buf[8][256];
    static unsigned next;
    char *b = buf[next++ % 8];
    snprintf(b, 256, "%s/%s", dir, name);
    return b;
}

static inline void put_file(const char *path, const void *data, size_t n) {
    ht_err err = {0};
    ASSERT_OK(ht_write_file(path, data, n, true, &err), &err);
}

static inline void put_text(const char *path, const char *text) {
    put_file(path, text, strlen(text));
}

static inline void put_script(const char *path, const char *script) {
    struct bytes b = build(script);
    put_file(path, b.p, b.n);
    free(b.p);
}

static inline struct bytes get_file(const char *path) {
    ht_err err = {0};
    char *data;
    size_t n;
    ASSERT_OK(ht_read_file(path, 1u << 30, &data, &n, &err), &err);
    return (struct bytes){(unsigned char *)data, n, n};
}

static inline void assert_same_bytes(const struct bytes *a, const struct bytes *b) {
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        if (a->p[i] != b->p[i]) {
            fail_msg("byte %zu: %02x and %02x", i, a->p[i], b->p[i]);
        }
    }
}

/* Removes a folder of plain files and returns how many it held. */
static inline int remove_dir(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            n++;
            unlinkat(dirfd(d), e->d_name, 0);
        }
    }
    closedir(d);
    rmdir(dir);
    return n;
}

/* The error that a malformed file must give: a code, a part of the message, a part of the file's name (may be NULL). */
static inline void check_refused(const char *name, ht_status got, ht_status want, const ht_err *err, const char *part,
                                 const char *what) {
    if (got != want) {
        fail_msg("%s: expected \"%s\", found \"%s\" (%s)", name, ht_status_text(want), ht_status_text(got), err->msg);
    }
    if (strstr(err->msg, part) == NULL) {
        fail_msg("%s: expected \"%s\" in the message, found \"%s\"", name, part, err->msg);
    }
    assert_int_equal(err->code, got);
    if (what != NULL && strstr(err->what, what) == NULL) {
        fail_msg("%s: the error is about \"%s\", expected \"%s\"", name, err->what, what);
    }
}

#endif
