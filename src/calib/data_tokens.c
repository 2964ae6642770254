/* Files of token ids: NumPy arrays and tensors of safetensors files. Ids are taken as they are, nothing is
 * put in front or behind; windows do not cross rows. */
#include <stdio.h>
#include <stdlib.h> /* strtoull */

#include "base/ckd.h"
#include "base/mem.h"
#include "calib/data_impl.h"
#include "io/bytes.h"
#include "io/safetensors.h"

/* ---- NumPy
 * ------------------------------------------------------------------------------------------------- */

static ht_status npy_bad(const char *what, const char *expected, ht_err *err) {
    return ht_fail(err, HT_FORMAT, what, HT_NO_POS, "not a .npy array of token ids: expected %s", expected);
}

/* The text behind 'KEY': of the header's dictionary; NULL: it has no such key. */
static const char *npy_value(const char *dict, const char *key) {
    char quoted[32];
    snprintf(quoted, sizeof quoted, "'%s':", key);
    const char *s = strstr(dict, quoted);
    s = s != NULL ? s + strlen(quoted) : NULL;
    return s != NULL ? s + strspn(s, " ") : NULL;
}

static ht_status npy_shape(const char *s, const char *what, struct ht_token_array *a, ht_err *err) {
    uint64_t dims[2] = {0, 0};
    size_t n = 0;
    s += *s == '(';
    for (; *s != ')' && n < 2; n++) {
        char *end;
        size_t digits = strspn(s, "0123456789");
        if (digits == 0 || digits > 18) {
            return npy_bad(what, "a shape such as (1000,) or (10, 512)", err);
        }
        dims[n] = strtoull(s, &end, 10);
        s = end + strspn(end, ", ");
    }
    if (*s != ')' || n == 0) {
        return npy_bad(what, "one or two dimensions", err);
    }
    a->rows = n == 1 ? 1 : dims[0];
    a->cols = n == 1 ? dims[0] : dims[1];
    return HT_OK;
}

ht_status ht_token_npy(const void *data, uint64_t size, const char *what, struct ht_token_array *a,
                       ht_err *err) {
    static const struct {
        const char *descr;
        unsigned bytes;
        bool is_signed;
    } types[] = {{"'<i4'", 4, true},  {"'<u4'", 4, false}, {"'<i8'", 8, true},
                 {"'<u8'", 8, false}, {"'<u2'", 2, false}, {"'<i2'", 2, true}};
    const unsigned char *p = data;
    char dict[1024];
    *a = (struct ht_token_array){0};
    if (size < 12 || memcmp(p, "\x93NUMPY", 6) != 0 || p[6] < 1 || p[6] > 3) {
        return npy_bad(what, "\\x93NUMPY and version 1 to 3", err);
    }
    uint64_t head = p[6] == 1 ? 10 : 12, len = p[6] == 1 ? ht_le16(p + 8) : ht_le32(p + 8), n;
    if (len >= sizeof dict || len > size - head) {
        return npy_bad(what, "a header of less than 1,024 bytes inside the file", err);
    }
    memcpy(dict, p + head, len);
    dict[len] = '\0';
    const char *descr = npy_value(dict, "descr"), *order = npy_value(dict, "fortran_order");
    const char *shape = npy_value(dict, "shape");
    for (size_t i = 0; descr != NULL && i < sizeof types / sizeof types[0]; i++) {
        if (strncmp(descr, types[i].descr, strlen(types[i].descr)) == 0) {
            a->bytes = types[i].bytes;
            a->is_signed = types[i].is_signed;
        }
    }
    if (a->bytes == 0) {
        return npy_bad(what, "integers of 2, 4 or 8 bytes, little-endian, as in astype('int32')", err);
    }
    if (order == NULL || strncmp(order, "False", 5) != 0 || shape == NULL || *shape != '(') {
        return npy_bad(what, "C order and a shape", err);
    }
    HT_TRY(npy_shape(shape, what, a, err));
    if (ht_ckd_mul(&n, a->rows, a->cols) || ht_ckd_mul(&n, n, a->bytes) || n != size - head - len) {
        return ht_fail(err, HT_FORMAT, what, HT_NO_POS,
                       "the shape (%llu, %llu) of %u bytes each does not fill the file's %llu; it is cut "
                       "short or damaged",
                       (unsigned long long)a->rows, (unsigned long long)a->cols, a->bytes,
                       (unsigned long long)(size - head - len));
    }
    a->data = p + head + len;
    return HT_OK;
}

ht_status ht_token_at(const struct ht_token_array *a, uint64_t i, uint32_t vocab, const char *what,
                      int32_t *id, ht_err *err) {
    const unsigned char *p = a->data + i * a->bytes;
    uint64_t v = a->bytes == 2 ? ht_le16(p) : a->bytes == 4 ? ht_le32(p) : ht_le64(p);
    /* A negative number has its top bit set and is beyond every vocabulary. */
    if (v >= vocab) {
        bool negative = a->is_signed && (v >> (8 * a->bytes - 1)) != 0;
        return ht_fail(err, HT_FORMAT, what, (uint64_t)(p - a->data),
                       "token %llu is %s%llu; the model has ids 0 to %u", (unsigned long long)i,
                       negative ? "negative, read as " : "", (unsigned long long)v, vocab - 1);
    }
    *id = (int32_t)v;
    return HT_OK;
}

/* ---- windows
 * ----------------------------------------------------------------------------------------------- */

static ht_status read_array(struct ht_data *d, struct ht_data_source *s, const struct ht_token_array *a,
                            ht_err *err) {
    uint32_t window = d->o->window;
    uint64_t per_row = a->cols / window;
    bool full = false;
    if (per_row == 0) {
        return ht_fail(err, HT_INVAL, s->path, HT_NO_POS,
                       "rows of %llu tokens, one window needs %u; use a smaller window (--ctx)",
                       (unsigned long long)a->cols, window);
    }
    int32_t *one = ht_mem_alloc_array(window, sizeof *one);
    ht_status status = one != NULL ? HT_OK : ht_fail_nomem(err, window * sizeof *one);
    for (uint64_t w = 0; w < a->rows * per_row && status == HT_OK && !full; w++) {
        uint64_t at = w / per_row * a->cols + w % per_row * window;
        for (uint32_t i = 0; i < window && status == HT_OK; i++) {
            status = ht_token_at(a, at + i, d->model->hp.vocab, s->path, &one[i], err);
        }
        status = status == HT_OK ? ht_data_window(d, s, one, &full, err) : status;
        s->stopped = full && w + 1 < a->rows * per_row;
    }
    s->documents = a->rows;
    s->tokens = a->rows * a->cols;
    s->rest = a->rows * (a->cols % window);
    ht_mem_free(one);
    return status;
}

ht_status ht_data_read_npy(struct ht_data *d, struct ht_data_source *s, const struct ht_mapping *map,
                           ht_err *err) {
    struct ht_token_array a;
    HT_TRY(ht_token_npy(map->data, map->size, s->path, &a, err));
    return read_array(d, s, &a, err);
}

ht_status ht_data_read_safetensors(struct ht_data *d, struct ht_data_source *s, const struct ht_mapping *map,
                                   ht_err *err) {
    struct ht_safetensors st;
    const struct ht_tensor *t = NULL;
    HT_TRY(ht_safetensors_parse(map->data, map->size, s->path, &st, err));
    for (size_t i = 0; i < st.n_tensors; i++) {
        const char *name = st.tensors[i].name;
        if (strcmp(name, "input_ids") == 0 || (t == NULL && strcmp(name, "tokens") == 0)) {
            t = &st.tensors[i];
        }
    }
    bool fits = t != NULL && t->n_dims >= 1 && t->n_dims <= 2;
    const char *format = fits ? t->format->name : "";
    bool four = strcmp(format, "i32") == 0 || strcmp(format, "u32") == 0, eight = strcmp(format, "i64") == 0;
    ht_status status;
    if (!four && !eight) {
        status =
            ht_fail(err, HT_FORMAT, s->path, HT_NO_POS,
                    "expected a tensor input_ids or tokens of I32, U32 or I64, in one or two dimensions%s%s",
                    fits ? "; it is " : "", format);
    } else {
        const struct ht_token_array a = {t->data, t->ne[1], t->ne[0], four ? 4 : 8, format[0] == 'i'};
        status = read_array(d, s, &a, err);
    }
    ht_safetensors_deinit(&st);
    return status;
}
