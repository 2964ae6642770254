/* The residual stream turned: E Q^T, W Q^T, Q W with one Q for the whole model (quant/transform/rotation.h). */
#include "base/mem.h"
#include "flow/flow_finite.h"
#include "flow/quantize/quantize.h"
#include "quant/transform/transform.h"

static bool wants_stream(const struct ht_recipe *recipe) {
    const struct ht_place_recipe *w = &recipe->places[HT_PLACE_WEIGHTS];
    for (size_t i = 0; i < w->n_transforms; i++) {
        const struct ht_choice *c = &w->transforms[i];
        if (strcmp(c->part->name, "rotate") == 0 && ht_choice_value(c, "stream") != 0) {
            return true;
        }
    }
    return false;
}

static struct ht_plan_tensor *find(struct ht_flow_plan *p, enum ht_role role) {
    for (size_t i = 0; i < p->n_tensors; i++) {
        if (p->tensors[i].role == role && p->tensors[i].layer < 0) {
            return &p->tensors[i];
        }
    }
    return NULL;
}

ht_status ht_quant_turn_plan(struct ht_quant_job *j, ht_err *err) {
    struct ht_flow_plan *p = j->plan;
    uint64_t width = p->hp.width;
    if (!wants_stream(&j->recipe)) {
        return HT_OK;
    }
    j->turn = ht_mem_calloc(1, sizeof *j->turn);
    if (j->turn == NULL) {
        return ht_fail_nomem(err, sizeof *j->turn);
    }
    struct ht_quant_turn *turn = j->turn;
    HT_TRY(ht_rotation_init(&turn->q, width, j->o->seed, err));
    turn->gamma = ht_mem_alloc_array(2 * width, sizeof *turn->gamma);
    if (turn->gamma == NULL) {
        return ht_fail_nomem(err, 2 * width * sizeof *turn->gamma);
    }
    turn->ones = turn->gamma + width;
    HT_TRY(ht_flow_plan_untie(p, err));
    struct ht_plan_tensor *embd = find(p, HT_ROLE_TOKEN_EMBD), *head = find(p, HT_ROLE_OUTPUT);
    struct ht_plan_tensor *norm = find(p, HT_ROLE_OUTPUT_NORM);
    if (embd == NULL || head == NULL || norm == NULL) {
        return ht_fail(err, HT_UNSUPPORTED, p->arch->name, HT_NO_POS,
                       "part rotate wants an embedding, a last norm and a head; this architecture lacks one of them");
    }
    norm->in->format->decode(norm->in->data, turn->gamma, width);
    norm->n_nonfinite = ht_finite_zero(turn->gamma, width); /* the scan does not see it any more */
    if (norm->n_nonfinite != 0 && !j->o->allow_nonfinite) {
        return ht_finite_refuse(norm, norm->n_nonfinite, err);
    }
    for (uint64_t i = 0; i < width; i++) {
        turn->ones[i] = 1;
    }
    norm->in = NULL;
    norm->literal = turn->ones;
    turn->embd = (struct ht_row_turn){&turn->q, NULL};
    turn->head = (struct ht_row_turn){&turn->q, turn->gamma};
    embd->turn = &turn->embd;
    head->turn = &turn->head;
    return HT_OK;
}

void ht_quant_turn_free(struct ht_quant_turn *turn) {
    if (turn != NULL) {
        ht_rotation_deinit(&turn->q);
        ht_mem_free(turn->gamma);
        ht_mem_free(turn);
    }
}
