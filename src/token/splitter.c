#include "token/splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h> /* compiled regexes, JIT where the machine has it */

#include "base/buf.h"
#include "base/mem.h"

enum { MAX_PASSES = 4 };

/* Bounds for one match. Every regex of the table is linear in the run of text it looks at, but PCRE2 counts
 * each step of a long run of white space, so the step limit only guards against the impossible. */
#define MATCH_LIMIT UINT32_MAX
#define HEAP_LIMIT_KIB (256u << 10)
#define JIT_STACK_MIN (32u << 10)
#define JIT_STACK_MAX (8u << 20)

struct ht_splitter {
    pcre2_general_context *general;
    pcre2_code *passes[MAX_PASSES];
    size_t n;
};

struct ht_split_run {
    const struct ht_splitter *splitter;
    pcre2_match_data *match[MAX_PASSES]; /* one per pass: an outer match goes on after the inner ones */
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

static void *take(PCRE2_SIZE bytes, void *user) {
    (void)user;
    return ht_mem_alloc(bytes);
}

static void give(void *p, void *user) {
    (void)user;
    ht_mem_free(p);
}

/* tokenizer.json's \s is the property White_Space; PCRE2's \s with UCP also takes U+180E. */
#define SPACES \
    "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

/* Its \p{L} and \p{N} are those of Unicode 16 (Hugging Face tokenizers 0.23); PCRE2 10.42 has Unicode 14.
 * What was added since, from tests/oracle/unicode_classes.py; nothing left either class. */
#define NEW_LETTERS \
    "\\x{1c89}-\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}" \
    "\\x{10d4a}-\\x{10d65}\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}-\\x{11240}" \
    "\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}" \
    "\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}" \
    "\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}\\x{16d40}-\\x{16d6c}\\x{18cff}" \
    "\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}" \
    "\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}"
#define NEW_NUMBERS \
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}" \
    "\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}" \
    "\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}"

static const struct {
    const char *escape, *members; /* members: what the escape means, as the inside of a class */
} escapes[] = {{"\\s", SPACES}, {"\\p{L}", "\\p{L}" NEW_LETTERS}, {"\\p{N}", "\\p{N}" NEW_NUMBERS}};

/* Rewrites the escapes whose meaning differs; everything else means the same in PCRE2. */
static void translate(const char *regex, struct ht_buf *out) {
    bool in_class = false;
    for (const char *s = regex; *s != '\0';) {
        size_t i = 0, n = sizeof escapes / sizeof *escapes;
        while (i < n && strncmp(s, escapes[i].escape, strlen(escapes[i].escape)) != 0) {
            i++;
        }
        if (i < n) {
            ht_buf_printf(out, in_class ? "%s" : "[%s]", escapes[i].members);
            s += strlen(escapes[i].escape);
        } else if (strncmp(s, "\\S", 2) == 0) { /* the table has it outside classes only */
            ht_buf_puts(out, "[^" SPACES "]");
            s += 2;
        } else {
            in_class = *s == '[' || (in_class && *s != ']');
            ht_buf_append(out, s, *s == '\\' ? 2 : 1);
            s += *s == '\\' ? 2 : 1;
        }
    }
}

static ht_status compile(struct ht_splitter *splitter, const char *regex, ht_err *err) {
    struct ht_buf pattern;
    ht_buf_init(&pattern, 0);
    translate(regex, &pattern);
    ht_status status = HT_OK;
    if (!ht_buf_ok(&pattern)) {
        status = ht_fail_nomem(err, pattern.len);
        goto done;
    }
    int code;
    PCRE2_SIZE at;
    pcre2_compile_context *context = pcre2_compile_context_create(splitter->general);
    pcre2_code *re = context == NULL ? NULL
                                     : pcre2_compile((PCRE2_SPTR)pattern.data, pattern.len,
                                                     PCRE2_UTF | PCRE2_UCP, &code, &at, context);
    bool nomem = context == NULL || (re == NULL && code == PCRE2_ERROR_HEAP_FAILED);
    pcre2_compile_context_free(context);
    if (re == NULL) {
        status = nomem ? ht_fail_nomem(err, pattern.len)
                       : ht_fail(err, HT_INTERNAL, NULL, at, "PCRE2 refuses a pre-tokenizer, code %d", code);
        goto done;
    }
    /* Without JIT (not built in, or no executable memory) the interpreter gives the same pieces. */
    pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
    splitter->passes[splitter->n++] = re;
done:
    ht_buf_deinit(&pattern);
    return status;
}

ht_status ht_splitter_new(const struct ht_pretokenizer *row, struct ht_splitter **out, ht_err *err) {
    *out = NULL;
    struct ht_splitter *splitter = ht_mem_calloc(1, sizeof *splitter);
    if (splitter == NULL) {
        return ht_fail_nomem(err, sizeof *splitter);
    }
    ht_status status = HT_OK;
    splitter->general = pcre2_general_context_create(take, give, NULL);
    if (splitter->general == NULL) {
        status = ht_fail_nomem(err, 0);
    }
    for (size_t i = 0; status == HT_OK && row->passes[i] != NULL; i++) {
        status = i == MAX_PASSES
                     ? ht_fail(err, HT_INTERNAL, row->name, HT_NO_POS, "more than %d passes", MAX_PASSES)
                     : compile(splitter, row->passes[i], err);
    }
    if (status != HT_OK) {
        ht_splitter_free(splitter);
        return status;
    }
    *out = splitter;
    return HT_OK;
}

void ht_splitter_free(struct ht_splitter *splitter) {
    if (splitter != NULL) {
        for (size_t i = 0; i < splitter->n; i++) {
            pcre2_code_free(splitter->passes[i]);
        }
        pcre2_general_context_free(splitter->general);
        ht_mem_free(splitter);
    }
}

ht_status ht_split_run_begin(const struct ht_splitter *splitter, struct ht_split_run **out, ht_err *err) {
    *out = NULL;
    struct ht_split_run *run = ht_mem_calloc(1, sizeof *run);
    if (run == NULL) {
        return ht_fail_nomem(err, sizeof *run);
    }
    run->splitter = splitter;
    run->context = pcre2_match_context_create(splitter->general);
    bool ok = run->context != NULL;
    for (size_t i = 0; ok && i < splitter->n; i++) {
        run->match[i] = pcre2_match_data_create(1, splitter->general);
        ok = run->match[i] != NULL;
    }
    if (!ok) {
        ht_split_run_end(run);
        return ht_fail_nomem(err, sizeof *run);
    }
    pcre2_set_match_limit(run->context, MATCH_LIMIT);
    pcre2_set_heap_limit(run->context, HEAP_LIMIT_KIB);
    *out = run;
    return HT_OK;
}

void ht_split_run_end(struct ht_split_run *run) {
    if (run != NULL) {
        for (size_t i = 0; i < MAX_PASSES; i++) {
            pcre2_match_data_free(run->match[i]);
        }
        pcre2_match_context_free(run->context);
        if (run->stack != NULL) {
            pcre2_jit_stack_free(run->stack);
        }
        ht_mem_free(run);
    }
}

/* A match that overflows the JIT's 32 KiB of machine stack is tried again with a stack of its own. */
static int match_at(struct ht_split_run *run, size_t pass, const char *text, size_t len, size_t from) {
    pcre2_code *re = run->splitter->passes[pass];
    int rc = pcre2_match(re, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK, run->match[pass], run->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && run->stack == NULL) {
        run->stack = pcre2_jit_stack_create(JIT_STACK_MIN, JIT_STACK_MAX, run->splitter->general);
        if (run->stack == NULL) {
            return PCRE2_ERROR_NOMEMORY;
        }
        pcre2_jit_stack_assign(run->context, NULL, run->stack);
        rc = pcre2_match(re, (PCRE2_SPTR)text, len, from, PCRE2_NO_UTF_CHECK, run->match[pass], run->context);
    }
    return rc;
}

static ht_status split(struct ht_split_run *run, size_t pass, const char *text, size_t len,
                       ht_piece_fn *piece, void *user, ht_err *err) {
    if (pass == run->splitter->n) {
        return len == 0 ? HT_OK : piece(user, text, len, err);
    }
    size_t at = 0;
    while (at < len) {
        int rc = match_at(run, pass, text, len, at);
        if (rc == PCRE2_ERROR_NOMATCH) {
            return split(run, pass + 1, text + at, len - at, piece, user, err);
        }
        if (rc == PCRE2_ERROR_NOMEMORY) {
            return ht_fail_nomem(err, len);
        }
        const PCRE2_SIZE *range = pcre2_get_ovector_pointer(run->match[pass]);
        size_t begin = rc < 0 ? 0 : range[0], end = rc < 0 ? 0 : range[1];
        if (end <= at) {
            return ht_fail(err, HT_LIMIT, "text", at,
                           "the pre-tokenizer's regex gave up (PCRE2 code %d) on a run of %llu bytes",
                           rc, (unsigned long long)(len - at));
        }
        HT_TRY(split(run, pass + 1, text + at, begin - at, piece, user, err));
        HT_TRY(split(run, pass + 1, text + begin, end - begin, piece, user, err));
        at = end;
    }
    return HT_OK;
}

ht_status ht_split_run_text(struct ht_split_run *run, const char *text, size_t len, ht_piece_fn *piece,
                            void *user, ht_err *err) {
    return split(run, 0, text, len, piece, user, err);
}
