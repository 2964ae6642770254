/* Sessions and generation. */
#include "api/options.h"
#include "base/buf.h"
#include "base/sys.h"
#include "model/sampler.h"
#include "model/session.h"
#include "token/utf8.h"

#define DEFAULT_CTX 4096u /* positions, when the caller leaves the choice to us */

struct ht_session {
    const struct ht_context *context;
    const struct ht_model *model;
    struct ht_run *run;
    uint32_t ctx;
    float *logits; /* [vocab] of the last token */
};

ht_status ht_session_new(ht_context *ctx, const ht_model *model, const ht_session_options *options,
                         ht_session **session, ht_err *err) {
    ht_session_options o;
    ht_err_clear(err);
    ht_session_options_defaults(&o);
    HT_TRY(ht_need(session, "session", err));
    *session = NULL;
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(ctx, "ctx", err));
    HT_TRY(ht_need(model, "model", err));
    if (o.exact && o.bf16) {
        return ht_fail(err, HT_INVAL, "bf16", HT_NO_POS, "exact keeps f32 activations, bf16 rounds them: choose one");
    }
    struct ht_kv kv;
    if (o.kv != NULL) {
        HT_TRY(ht_kv_parse(o.kv, &kv, err));
    }
    struct ht_session *s = ht_mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return ht_fail_nomem(err, sizeof *s);
    }
    uint32_t most = model->hp.context < DEFAULT_CTX ? model->hp.context : DEFAULT_CTX;
    s->context = ctx;
    s->model = model;
    s->ctx = o.ctx != 0 ? o.ctx : most;
    s->logits = ht_mem_alloc_array(model->hp.vocab, sizeof *s->logits);
    const struct ht_run_options run = {
        .ctx = s->ctx,
        .math = o.exact ? HT_MATH_EXACT : o.bf16 ? HT_MATH_BF16 : HT_MATH_FAST,
        .f32_cache = o.exact || o.bf16,
        .kv = o.kv != NULL ? &kv : NULL,
    };
    ht_status status = s->logits == NULL ? ht_fail_nomem(err, model->hp.vocab * sizeof *s->logits)
                                         : ht_run_new(ctx->pool, model, &run, &s->run, err);
    if (status != HT_OK) {
        ht_session_free(s);
        return status;
    }
    *session = s;
    return HT_OK;
}

void ht_session_free(ht_session *s) {
    if (s != NULL) {
        ht_run_free(s->run);
        ht_mem_free(s->logits);
        ht_mem_free(s);
    }
}

uint32_t ht_session_pos(const ht_session *s) {
    return ht_run_pos(s->run);
}

void ht_session_rewind(ht_session *s, uint32_t pos) {
    ht_run_rewind(s->run, pos);
}

struct reading { /* a prompt on its way into the cache */
    struct ht_meter meter;
    uint32_t from; /* position of its first token */
};

static ht_status tell_reading(void *user, uint32_t pos, ht_err *err) {
    struct reading *r = user;
    return ht_meter_tell(&r->meter, pos - r->from, 0, NULL, err);
}

/* ht_run_feed with progress: HT_CANCELLED when the context's callback says so; nothing is appended then. A single
 * token is too soon done to be told of. */
static ht_status feed(struct ht_session *s, const int32_t *ids, size_t n, size_t n_out, float *logits, ht_err *err) {
    struct reading r = {.from = ht_run_pos(s->run)};
    if (n == 1) {
        return ht_run_feed(s->run, ids, n, n_out, logits, err);
    }
    ht_meter_init(&r.meter, s->context, "prompt", "tokens", n);
    ht_run_watch(s->run, tell_reading, &r);
    ht_status status = ht_run_feed(s->run, ids, n, n_out, logits, err);
    ht_run_watch(s->run, NULL, NULL);
    if (status == HT_OK) {
        status = tell_reading(&r, ht_run_pos(s->run), err);
    }
    if (status != HT_OK) {
        ht_run_rewind(s->run, r.from);
    }
    return status;
}

ht_status ht_session_feed(ht_session *s, const int32_t *ids, size_t n, bool all, float *logits, ht_err *err) {
    ht_err_clear(err);
    HT_TRY(ht_need(s, "session", err));
    if (n == 0) {
        return HT_OK;
    }
    HT_TRY(ht_need(ids, "ids", err));
    return feed(s, ids, n, logits == NULL ? 0 : all ? n : 1, logits, err);
}

/* ---- generation -------------------------------------------------------------------------------------- */

/* Tokens may end inside a character: its first bytes wait here for the rest. */
struct tail {
    struct ht_buf bytes;
    ht_text_fn *fn;
    void *user;
    bool stop; /* the callback said so */
};

static void give(struct tail *t, const char *text, size_t len) {
    if (len > 0 && !t->stop && t->fn != NULL) {
        t->stop = t->fn(t->user, text, len) != 0;
    }
}

/* Whether s[len] may be the start of a character whose other bytes come later. */
static bool is_partial(const char *s, size_t len) {
    unsigned char c = (unsigned char)s[0];
    size_t need = c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 1;
    for (size_t i = 1; i < len; i++) {
        if (((unsigned char)s[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    return len < need;
}

/* Hands over all whole characters; bytes that belong to none become U+FFFD, at the end also those that wait.
 */
static ht_status add_bytes(struct tail *t, const char *bytes, size_t len, bool end, ht_err *err) {
    ht_buf_append(&t->bytes, bytes, len);
    if (!ht_buf_ok(&t->bytes)) {
        return ht_fail_nomem(err, len);
    }
    size_t used = 0, n = t->bytes.len;
    while (used < n) {
        const char *s = t->bytes.data + used;
        size_t whole = ht_utf8_valid(s, n - used);
        give(t, s, whole);
        used += whole;
        if (used == n || (!end && is_partial(s + whole, n - used))) {
            break;
        }
        give(t, "\xef\xbf\xbd", 3);
        used = end && is_partial(s + whole, n - used) ? n : used + 1;
    }
    if (n > 0) {
        memmove(t->bytes.data, t->bytes.data + used, n - used);
        t->bytes.len = n - used;
    }
    return HT_OK;
}

static ht_status decode_loop(struct ht_session *s, struct ht_sampler *sampler, const ht_generate_options *o,
                             struct tail *tail, ht_generate_result *r, double started, ht_err *err) {
    const struct ht_tokenizer *tok = s->model->tokenizer;
    while (r->tokens < o->max_tokens && !tail->stop) {
        int32_t id;
        HT_TRY(ht_sampler_next(sampler, s->logits, &id, err));
        if (r->tokens == 0) {
            r->first_token_s = ht_sys_now() - started;
        }
        if (ht_tokenizer_is_end(tok, id) && !o->ignore_eos) {
            r->stopped = true;
            return HT_OK;
        }
        r->tokens++;
        const char *bytes;
        size_t len;
        HT_TRY(ht_tokenizer_piece(tok, id, false, &bytes, &len, err));
        HT_TRY(add_bytes(tail, bytes, len, false, err));
        if (r->tokens == o->max_tokens || ht_run_pos(s->run) == s->ctx) {
            return HT_OK;
        }
        HT_TRY(ht_run_feed(s->run, &id, 1, 1, s->logits, err));
    }
    return HT_OK;
}

ht_status ht_generate(ht_session *s, const int32_t *prompt, size_t n, const ht_generate_options *options,
                      ht_text_fn *text, void *user, ht_generate_result *result, ht_err *err) {
    ht_generate_options o;
    ht_generate_result r = {0};
    ht_err_clear(err);
    ht_generate_options_defaults(&o);
    HT_TRY(ht_options_take(&o, sizeof o, options, err));
    HT_TRY(ht_need(s, "session", err));
    if (n == 0) {
        return ht_fail(err, HT_INVAL, "prompt", HT_NO_POS, "the prompt has no tokens");
    }
    HT_TRY(ht_need(prompt, "prompt", err));
    struct ht_sampler sampler;
    HT_TRY(ht_sampler_init(&sampler, s->model->hp.vocab, &o, err));
    struct tail tail = {.fn = text, .user = user};
    ht_buf_init(&tail.bytes, 0);
    double start = ht_sys_now();
    ht_status status = feed(s, prompt, n, 1, s->logits, err);
    if (status == HT_OK) {
        double fed = ht_sys_now();
        r.prompt_tokens = (uint32_t)n;
        r.prompt_s = fed - start;
        status = decode_loop(s, &sampler, &o, &tail, &r, start, err);
        if (status == HT_OK) {
            status = add_bytes(&tail, "", 0, true, err);
        }
        r.decode_s = ht_sys_now() - fed;
    }
    ht_buf_deinit(&tail.bytes);
    ht_sampler_deinit(&sampler);
    if (result != NULL) {
        *result = r;
    }
    return status;
}
