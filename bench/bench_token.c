/* Tokenizer speed, and ids against a golden file.
 *   bench_token FOLDER TEXT [REPEATS]            CPU seconds of encoding TEXT with FOLDER's tokenizer.json
 *   bench_token FOLDER CORPUS.jsonl IDS [literal] lines whose ids differ (tests/oracle/make_tokens.py) */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "token/tokenizer.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int speed(const struct ht_tokenizer *t, const char *path, int repeats, ht_err *err) {
    char *text;
    size_t len;
    if (ht_read_file(path, 1u << 30, &text, &len, err) != HT_OK) {
        return 1;
    }
    for (int i = 0; i < repeats; i++) {
        struct ht_ids ids = {0};
        double start = now();
        if (ht_tokenizer_encode(t, text, len, false, &ids, NULL, err) != HT_OK) {
            return 1;
        }
        double s = now() - start;
        printf("%zu bytes, %zu ids, %.3f CPU s, %.1f MB/s\n", len, ids.n, s, (double)len / s / 1e6);
        ht_mem_free(ids.ids);
    }
    ht_mem_free(text);
    return 0;
}

static int compare(const struct ht_tokenizer *t, const char *corpus, const char *golden, bool special,
                   ht_err *err) {
    char *lines, *want;
    size_t len, want_len;
    if (ht_read_file(corpus, 1u << 30, &lines, &len, err) ||
        ht_read_file(golden, 1u << 30, &want, &want_len, err)) {
        return 1;
    }
    size_t n = 0, n_different = 0;
    struct ht_ids ids = {0};
    for (char *line = lines, *ids_line = want; *line != '\0'; n++) {
        char *end = strchr(line, '\n'), *ids_end = strchr(ids_line, '\n');
        json_t *text = json_loadb(line, (size_t)(end - line), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        ids.n = 0;
        if (ht_tokenizer_encode(t, json_string_value(text), json_string_length(text), special, &ids, NULL,
                                err)) {
            return 1;
        }
        *ids_end = '\0';
        size_t k = 0;
        bool same = true;
        for (char *s = ids_line; *s != '\0'; k++) {
            long id = strtol(s, &s, 10);
            same = same && k < ids.n && ids.ids[k] == id;
            s += *s == ' ';
        }
        if (!same || k != ids.n) {
            n_different++;
            printf("line %zu: %.*s\n  want %s\n  have", n + 1, (int)(end - line), line, ids_line);
            for (size_t i = 0; i < ids.n; i++) {
                printf(" %d", ids.ids[i]);
            }
            printf("\n");
        }
        json_decref(text);
        line = end + 1;
        ids_line = ids_end + 1;
    }
    printf("%zu lines, %zu different\n", n, n_different);
    ht_mem_free(ids.ids);
    ht_mem_free(lines);
    ht_mem_free(want);
    return n_different != 0;
}

int main(int argc, char **argv) {
    ht_err err = {0};
    struct ht_hf_vocab *hf = NULL;
    struct ht_tokenizer *t = NULL;
    if (argc < 3) {
        fprintf(stderr, "bench_token FOLDER TEXT [REPEATS] | FOLDER CORPUS.jsonl IDS [literal]\n");
        return 2;
    }
    double start = now();
    int rc = ht_hf_vocab_load(argv[1], NULL, &hf, &err) != HT_OK;
    double loaded = now();
    rc = rc || ht_tokenizer_new(ht_hf_vocab_view(hf), argv[1], &t, &err) != HT_OK;
    if (!rc) {
        printf("%s: %s, %u tokens, loaded in %.3f s, built in %.3f s\n", argv[1], ht_hf_vocab_view(hf)->pre,
               ht_hf_vocab_view(hf)->n_tokens, loaded - start, now() - loaded);
        rc = argc > 3 && strstr(argv[3], ".ids") != NULL
                 ? compare(t, argv[2], argv[3], argc < 5 || strcmp(argv[4], "literal") != 0, &err)
                 : speed(t, argv[2], argc > 3 ? (int)strtol(argv[3], NULL, 10) : 3, &err);
    }
    if (err.code != HT_OK) {
        fprintf(stderr, "%s: %s\n", err.what, err.msg);
    }
    ht_tokenizer_free(t);
    ht_hf_vocab_free(hf);
    return rc;
}
