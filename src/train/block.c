#include "train/block.h"

#include "base/ckd.h"
#include "base/mem.h"
#include "model/rope.h"
#include "tensor/act.h"
#include "train/steps.h"

/* ---- the tape ---------------------------------------------------------------------------------------------- */

static int new_value(struct ht_train_block *b, size_t width) {
    b->values[b->n_values].width = width;
    return (int)b->n_values++;
}

/* Gives every step's output a value of its own; what an activation buffer of the plan holds at each moment is the
 * value written to it last. Keys and values that CACHE takes are what ATTEND reads. */
static ht_status build_tape(struct ht_train_block *b, const struct ht_model *m, ht_err *err) {
    int now[HT_ACTS], keys = -1, values = -1;
    for (int act = 0; act < HT_ACTS; act++) {
        now[act] = -1;
    }
    now[HT_ACT_RESIDUAL] = new_value(b, ht_act_width(m, HT_ACT_RESIDUAL));
    for (const struct ht_block_step *s = m->arch->block; s->kind != HT_STEPS; s++) {
        if (b->n_steps == HT_TAPE_MAX || ht_train_step(s->kind)->backward == NULL) {
            return ht_fail(err, HT_UNSUPPORTED, m->arch->name, HT_NO_POS,
                           "a layer with a step '%s', or of more than %d steps, cannot be trained",
                           ht_step_name(s->kind), HT_TAPE_MAX);
        }
        struct ht_tape_step *t = &b->steps[b->n_steps++];
        *t = (struct ht_tape_step){s->kind, s->role, {now[s->in], now[s->in2], -1}, -1};
        if (s->kind == HT_STEP_CACHE) {
            keys = t->in[0];
            values = t->in[1];
            continue;
        }
        if (s->kind == HT_STEP_ATTEND) {
            t->in[1] = keys;
            t->in[2] = values;
        }
        t->out = now[s->out] = new_value(b, ht_act_width(m, s->out));
    }
    b->output = now[HT_ACT_RESIDUAL];
    return HT_OK;
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

struct sizes {
    uint64_t values, scratch, attend, partial, angles, params;
    bool overflow;
};

static void most(struct sizes *z, uint64_t *to, uint64_t a, uint64_t b) {
    uint64_t n;
    z->overflow |= ht_ckd_mul(&n, a, b);
    *to = n > *to ? n : *to;
}

static void linear_sizes(struct sizes *z, const struct ht_linear *l, uint64_t T, int threads) {
    uint64_t wide = l->w.rows > l->w.cols ? l->w.rows : l->w.cols, n;
    z->overflow |= ht_ckd_mul(&n, T + 32, wide + 32) || n > SIZE_MAX / 64;
    if (!z->overflow) {
        most(z, &z->scratch, ht_product_scratch_bytes((size_t)T, (size_t)wide, threads), 1);
        most(z, &z->scratch, ht_product_scratch_bytes((size_t)l->w.rows, (size_t)T, threads), 1);
    }
    z->params += l->w.rows * l->w.cols * sizeof(float);
}

static struct sizes sizes_of(const struct ht_model *m, size_t windows, size_t tokens, int threads) {
    struct sizes z = {0};
    uint64_t T, width = 0, widest = 0, n;
    z.overflow = ht_ckd_mul(&T, windows, tokens) || T > UINT32_MAX;
    for (const struct ht_block_step *s = m->arch->block; s->kind != HT_STEPS; s++) {
        uint64_t w = ht_act_width(m, s->out);
        width += w;
        widest = w > widest ? w : widest;
    }
    for (int role = 0; role < HT_ROLES && !z.overflow; role++) {
        if (m->layers[0].linears[role] != NULL) {
            linear_sizes(&z, m->layers[0].linears[role], T, threads);
        }
    }
    z.attend = (ht_train_attend_bytes(tokens, m->hp.head_dim) + HT_CACHE_LINE - 1) & ~(uint64_t)(HT_CACHE_LINE - 1);
    most(&z, &z.scratch, z.attend, (uint64_t)threads);
    most(&z, &z.partial, (T + HT_TRAIN_PIECE - 1) / HT_TRAIN_PIECE, widest * sizeof(float));
    most(&z, &z.angles, tokens, m->hp.rope_dim * sizeof(float));
    most(&z, &z.values, T, (width + m->hp.width) * sizeof(float));
    z.overflow |= ht_ckd_add(&n, z.values, z.scratch) || n > SIZE_MAX / 4;
    return z;
}

uint64_t ht_train_block_bytes(const struct ht_model *model, size_t max_windows, size_t max_tokens, int threads) {
    struct sizes z = sizes_of(model, max_windows, max_tokens, threads);
    return z.overflow ? UINT64_MAX : z.values + z.scratch + z.partial + 2 * z.angles + z.params;
}

static ht_status new_floats(uint64_t count, float **out, ht_err *err) {
    *out = ht_mem_alloc_aligned(count, sizeof **out);
    return *out != NULL ? HT_OK : ht_fail_nomem(err, count * sizeof **out);
}

static ht_status allocate(struct ht_train_block *b, const struct sizes *z, ht_err *err) {
    size_t T = b->max_windows * b->max_tokens;
    for (size_t i = 0; i < b->n_values; i++) {
        HT_TRY(new_floats(T * b->values[i].width, &b->values[i].x, err));
    }
    HT_TRY(new_floats(z->partial / sizeof(float), &b->partial, err));
    HT_TRY(new_floats(z->angles / sizeof(float), &b->angles, err));
    HT_TRY(new_floats(z->angles / sizeof(float), &b->angles_back, err));
    b->attend_bytes = z->attend;
    b->scratch_bytes = z->scratch;
    b->scratch = ht_mem_alloc_aligned(z->scratch, 1);
    return b->scratch != NULL ? HT_OK : ht_fail_nomem(err, z->scratch);
}

/* ---- weights ----------------------------------------------------------------------------------------------- */

struct decode {
    const struct ht_linear *linear;
    float *to;
};

static void decode_task(void *ctx, size_t row, int thread) {
    (void)thread;
    const struct decode *d = ctx;
    ht_linear_row(d->linear, row, d->to + row * d->linear->w.cols, NULL);
}

static ht_status load_params(struct ht_train_block *b, const struct ht_model *m, ht_err *err) {
    const struct ht_layer *layer = &m->layers[b->layer];
    for (const struct ht_arch_tensor *t = m->arch->tensors; t->hf != NULL || t->gguf != NULL; t++) {
        struct ht_train_param *p = &b->params[t->role];
        const struct ht_linear *linear = layer->linears[t->role];
        const float *vector = layer->vectors[t->role];
        if (!(t->flags & HT_TENSOR_LAYER) || (linear == NULL && vector == NULL)) {
            continue;
        }
        if (vector != NULL) {
            p->rows = ht_arch_dim(&m->hp, t->ne[0]);
            HT_TRY(new_floats(p->rows, &p->w, err));
            memcpy(p->w, vector, p->rows * sizeof *p->w);
            continue;
        }
        unsigned leaves = linear->side != NULL ? linear->side->leaves : 0;
        if ((leaves & ~(unsigned)(HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE | HT_LEAVES_THRESHOLD)) != 0) {
            return ht_fail(err, HT_UNSUPPORTED, linear->name, HT_NO_POS,
                           "training starts from plain weights, this one carries a sidecar of an earlier quantization");
        }
        p->rows = linear->w.rows;
        p->cols = linear->w.cols;
        HT_TRY(new_floats(p->rows * p->cols, &p->w, err));
        struct decode d = {linear, p->w};
        ht_pool_run(b->pool, p->rows, decode_task, &d);
    }
    return HT_OK;
}

static void turn_angles(struct ht_train_block *b, const struct ht_model *m) {
    size_t half = m->hp.rope_dim / 2;
    ht_rope_angles(m->rope_inv_freq, half, 0, b->max_tokens, b->angles);
    for (size_t i = 0; i < b->max_tokens * half; i++) {
        b->angles_back[2 * i] = b->angles[2 * i];
        b->angles_back[2 * i + 1] = -b->angles[2 * i + 1];
    }
}

ht_status ht_train_block_new(struct ht_pool *pool, const struct ht_model *model, int32_t layer, size_t max_windows,
                             size_t max_tokens, struct ht_train_block **out, ht_err *err) {
    *out = NULL;
    if (layer < 0 || (uint32_t)layer >= model->hp.n_layers || max_windows == 0 || max_tokens == 0) {
        return ht_fail(err, HT_INVAL, "block", HT_NO_POS, "expected a layer below %u and a batch, found layer %d and "
                       "%zu windows of %zu tokens", model->hp.n_layers, layer, max_windows, max_tokens);
    }
    struct sizes z = sizes_of(model, max_windows, max_tokens, ht_pool_threads(pool));
    if (z.overflow) {
        return ht_fail(err, HT_LIMIT, "block", HT_NO_POS, "%zu windows of %zu tokens do not fit into memory; use fewer",
                       max_windows, max_tokens);
    }
    struct ht_train_block *b = ht_mem_calloc(1, sizeof *b);
    if (b == NULL) {
        return ht_fail_nomem(err, sizeof *b);
    }
    *b = (struct ht_train_block){.pool = pool, .hp = model->hp, .rope = model->rope, .layer = layer,
                                 .max_windows = max_windows, .max_tokens = max_tokens};
    ht_status status;
    HT_TRY_DONE(build_tape(b, model, err));
    HT_TRY_DONE(allocate(b, &z, err));
    HT_TRY_DONE(load_params(b, model, err));
    turn_angles(b, model);
done:
    if (status != HT_OK) {
        ht_train_block_free(b);
        b = NULL;
    }
    *out = b;
    return status;
}

void ht_train_block_free(struct ht_train_block *b) {
    if (b == NULL) {
        return;
    }
    for (size_t i = 0; i < b->n_values; i++) {
        ht_mem_free_aligned(b->values[i].x);
        ht_mem_free_aligned(b->values[i].dx);
    }
    for (int role = 0; role < HT_ROLES; role++) {
        ht_mem_free_aligned(b->params[role].w);
        ht_mem_free_aligned(b->params[role].dw);
    }
    ht_mem_free_aligned(b->partial);
    ht_mem_free_aligned(b->angles);
    ht_mem_free_aligned(b->angles_back);
    ht_mem_free_aligned(b->scratch);
    ht_mem_free_aligned(b->inputs);
    ht_mem_free(b->grids);
    ht_mem_free(b);
}

/* ---- what is trained --------------------------------------------------------------------------------------- */

static bool trains(const struct ht_train_block *b, const struct ht_tape_step *s) {
    return b->params[s->role].dw != NULL || b->params[ht_role_bias(s->role)].dw != NULL;
}

ht_status ht_train_block_want(struct ht_train_block *b, const bool want[HT_ROLES], bool input, ht_err *err) {
    for (int role = 0; role < HT_ROLES; role++) {
        struct ht_train_param *p = &b->params[role];
        ht_mem_free_aligned(p->dw);
        p->dw = NULL;
        if (want[role] && p->w != NULL) {
            HT_TRY(new_floats(p->rows * (p->cols != 0 ? p->cols : 1), &p->dw, err));
        }
    }
    b->want_input = input;
    for (size_t i = 0; i < b->n_values; i++) {
        b->values[i].wanted = i == 0 && input;
    }
    for (size_t i = 0; i < b->n_steps; i++) {
        const struct ht_tape_step *s = &b->steps[i];
        for (int k = 0; k < HT_STEP_INPUTS && s->out >= 0; k++) {
            b->values[s->out].wanted |= trains(b, s) || (s->in[k] >= 0 && b->values[s->in[k]].wanted);
        }
    }
    size_t T = b->max_windows * b->max_tokens;
    for (size_t i = 0; i < b->n_values; i++) {
        ht_mem_free_aligned(b->values[i].dx);
        b->values[i].dx = NULL;
        if (b->values[i].wanted) {
            HT_TRY(new_floats(T * b->values[i].width, &b->values[i].dx, err));
        }
    }
    return HT_OK;
}

ht_status ht_train_block_round_inputs(struct ht_train_block *b, enum ht_role role, const struct ht_sidecar *side,
                                      ht_err *err) {
    const unsigned can = HT_LEAVES_ACT | HT_LEAVES_ACT_SCALE | HT_LEAVES_THRESHOLD;
    uint64_t cols = b->params[role].cols, grids = (uint64_t)ht_pool_threads(b->pool) * ht_act_segments(side);
    if ((side->leaves & ~can) != 0 || (side->leaves & HT_LEAVES_ACT) == 0 || side->cols != cols) {
        char text[HT_LEAVES_TEXT];
        return ht_fail(err, HT_UNSUPPORTED, ht_role_name(role), HT_NO_POS,
                       "training rounds inputs, it cannot do all of: %s", ht_leaves_text(side->leaves, text));
    }
    if (cols > b->inputs_width) {
        ht_mem_free_aligned(b->inputs);
        b->inputs_width = 0;
        HT_TRY(new_floats(b->max_windows * b->max_tokens * cols, &b->inputs, err));
        b->inputs_width = cols;
    }
    if (grids > b->grids_count) {
        ht_mem_free(b->grids);
        b->grids_count = 0;
        b->grids = ht_mem_alloc_array(grids, sizeof *b->grids);
        if (b->grids == NULL) {
            return ht_fail_nomem(err, grids * sizeof *b->grids);
        }
        b->grids_count = grids;
    }
    b->rounded[role] = side;
    return HT_OK;
}

/* ---- forward and backward ---------------------------------------------------------------------------------- */

static struct ht_step_job job_of(struct ht_train_block *b, const struct ht_tape_step *s) {
    struct ht_step_job j = {.block = b, .step = s, .T = b->windows * b->tokens};
    for (int k = 0; k < HT_STEP_INPUTS; k++) {
        if (s->in[k] >= 0) {
            const struct ht_tape_value *v = &b->values[s->in[k]];
            j.x[k] = v->x;
            j.dx[k] = v->wanted ? v->dx : NULL;
            j.width[k] = v->width;
        }
    }
    if (s->out >= 0) {
        j.y = b->values[s->out].x;
        j.dy = b->values[s->out].dx;
        j.y_width = b->values[s->out].width;
    }
    return j;
}

const float *ht_train_block_forward(struct ht_train_block *b, const float *x, size_t windows, size_t tokens) {
    b->windows = windows;
    b->tokens = tokens;
    memcpy(b->values[0].x, x, windows * tokens * b->values[0].width * sizeof *x);
    for (size_t i = 0; i < b->n_steps; i++) {
        struct ht_step_job j = job_of(b, &b->steps[i]);
        ht_train_step(b->steps[i].kind)->forward(&j);
    }
    return b->values[b->output].x;
}

void ht_train_block_backward_in_place(struct ht_train_block *b, bool add) {
    bool written[HT_TAPE_MAX + 1] = {false};
    for (size_t i = b->n_steps; i-- > 0;) {
        const struct ht_tape_step *s = &b->steps[i];
        if (s->out < 0 || !b->values[s->out].wanted) {
            continue;
        }
        struct ht_step_job j = job_of(b, s);
        j.add_params = add;
        for (int k = 0; k < HT_STEP_INPUTS; k++) {
            if (s->in[k] >= 0) {
                j.add[k] = written[s->in[k]];
                written[s->in[k]] = true;
            }
        }
        ht_train_step(s->kind)->backward(&j);
    }
}

void ht_train_block_backward(struct ht_train_block *b, const float *dy, bool add) {
    struct ht_tape_value *v = &b->values[b->output];
    if (v->wanted) {
        memcpy(v->dx, dy, b->windows * b->tokens * v->width * sizeof *dy);
        ht_train_block_backward_in_place(b, add);
    }
}

const float *ht_train_block_input_gradient(const struct ht_train_block *b) {
    return b->want_input ? b->values[0].dx : NULL;
}
