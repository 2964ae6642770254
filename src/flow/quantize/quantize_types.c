#include <stdio.h>
#include <strings.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "flow/flow.h"
#include "flow/flow_stats.h"
#include "flow/quantize/quantize.h"
#include "format/scheme.h"
#include "quant/recipe_yaml.h"

#define DEFAULT_FORMAT "Q4_K_M"

/* Formats that a GGUF file can hold and weights can have. */
static bool usable(const struct ht_format *f) {
    return f != NULL && f->gguf_type >= 0 && f->kind != HT_KIND_INT && f->encode != NULL &&
           strcmp(f->name, "f64") != 0;
}

const char *ht_quant_type_text(const struct ht_quant_type *type, char text[HT_SCHEME_TEXT]) {
    if (type->coded) {
        return ht_scheme_text(&type->scheme, text);
    }
    snprintf(text, HT_SCHEME_TEXT, "%s", type->format->name);
    return text;
}

static ht_status refuse_format(const char *option, const char *name, const char *what, const char *near, ht_err *err) {
    const struct ht_format *f = ht_format_find(name);
    if (f != NULL && f->kind == HT_KIND_CODE) {
        return ht_fail(err, HT_INVAL, option, HT_NO_POS,
                       "%s has no scales of its own: say which weights share one, as in %s:g64 or %s:channel", f->name,
                       f->name, f->name);
    }
    return ht_fail(err, HT_INVAL, option, HT_NO_POS, "unknown %s '%s'%s%s; 'halftone list %ss' shows all",
                   strcmp(what, "preset") == 0 ? "format or preset" : what, name,
                   near[0] != '\0' ? ", did you mean " : "", near, what);
}

/* A scheme or a GGUF type. False: neither; *status then tells a scheme that is wrong. */
static bool find_type(const char *name, struct ht_quant_type *type, ht_status *status, ht_err *err) {
    *type = (struct ht_quant_type){.coded = strchr(name, ':') != NULL};
    *status = HT_OK;
    if (type->coded) {
        *status = ht_scheme_parse(name, &type->scheme, err);
        type->format = type->scheme.format;
        return *status == HT_OK;
    }
    type->format = ht_format_find(name);
    return usable(type->format);
}

static ht_status find_format(const char *option, const char *name, struct ht_quant_type *type, ht_err *err) {
    ht_status status;
    if (find_type(name, type, &status, err)) {
        return HT_OK;
    }
    HT_TRY(status);
    char near[128];
    ht_nearest(name, ht_format_name_at, NULL, ht_format_count(), near, sizeof near);
    return refuse_format(option, name, "format", near, err);
}

/* A preset's name wins over a format's: "Q4_0" means what it means to llama-quantize, with a better head. */
static ht_status parse_format(struct ht_quant_job *j, ht_err *err) {
    const char *name = j->o->format != NULL ? j->o->format : j->recipe.places[HT_PLACE_WEIGHTS].format;
    ht_status status;
    if (strlen(name) >= sizeof j->format_text) {
        return ht_fail(err, HT_INVAL, "format", HT_NO_POS, "'%.40s...' names no format", name);
    }
    snprintf(j->format_text, sizeof j->format_text, "%s", name);
    j->mix = ht_mix_find(name);
    if (j->mix != NULL) {
        j->type = (struct ht_quant_type){.format = ht_mix_base(j->mix)};
        return HT_OK;
    }
    if (find_type(name, &j->type, &status, err)) {
        return HT_OK;
    }
    HT_TRY(status);
    char near[128];
    ht_nearest(name, ht_mix_name_at, NULL, ht_mix_count(), near, sizeof near);
    return refuse_format("format", name, "preset", near, err);
}

ht_status ht_quant_target(const struct ht_quant_job *j, enum ht_target *target, ht_err *err) {
    const struct ht_quant_type *coded = j->type.coded   ? &j->type
                                        : j->embd.coded ? &j->embd
                                        : j->head.coded ? &j->head
                                                        : NULL;
    for (size_t i = 0; i < j->o->n_tensor_rules && coded == NULL; i++) {
        coded = j->rules[i].type.coded ? &j->rules[i].type : NULL;
    }
    bool ruled = false;
    for (size_t i = 0; i < j->recipe.n_rules; i++) {
        ruled |= strchr(j->recipe.rules[i].format, ':') != NULL;
    }
    bool ours = coded != NULL || ruled || ht_recipe_leaves(&j->recipe) != HT_LEAVES_NOTHING;
    size_t len = strlen(j->o->output);
    bool gguf = len > 5 && strcasecmp(j->o->output + len - 5, ".gguf") == 0;
    *target = ours ? HT_TARGET_HALFTONE : HT_TARGET_GGUF;
    if (gguf && coded == NULL) {
        HT_TRY(ht_recipe_check_container(&j->recipe, "GGUF", HT_LEAVES_NOTHING, err));
    }
    if (gguf && coded == NULL && ruled) {
        return ht_fail(err, HT_UNSUPPORTED, "recipe", HT_NO_POS,
                       "a rule of the recipe asks for codes with scales apart, and GGUF has no type for that; write a "
                       "halftone folder: -o OUT without .gguf");
    }
    if (coded != NULL && gguf) {
        char text[HT_SCHEME_TEXT];
        return ht_fail(err, HT_UNSUPPORTED, "format", HT_NO_POS,
                       "%s keeps its scales apart from its codes, and GGUF has no type for that; a folder of our own "
                       "has: name one, without .gguf; or take a format that GGUF has, as q4_k",
                       ht_quant_type_text(coded, text));
    }
    return HT_OK;
}

static ht_status parse_rule(const char *text, struct ht_quant_rule *rule, ht_err *err) {
    const char *eq = strchr(text, '=');
    char role[64];
    if (eq == NULL || eq == text || (size_t)(eq - text) >= sizeof role) {
        return ht_fail(err, HT_INVAL, "tensor", HT_NO_POS, "rule '%s': expected ROLE=FORMAT, as in ffn_down=q6_k",
                       text);
    }
    snprintf(role, sizeof role, "%.*s", (int)(eq - text), text);
    rule->role = ht_role_find(role);
    if (rule->role == HT_ROLES) {
        char near[128];
        ht_nearest(role, ht_role_name_at, NULL, HT_ROLES, near, sizeof near);
        return ht_fail(err, HT_INVAL, "tensor", HT_NO_POS, "unknown role '%s'%s%s", role,
                       near[0] != '\0' ? ", did you mean " : "", near);
    }
    if (!ht_role_quantizable(rule->role)) {
        return ht_fail(err, HT_INVAL, "tensor", HT_NO_POS, "role '%s' is no matrix of weights; it stays as it is",
                       role);
    }
    return find_format("tensor", eq + 1, &rule->type, err);
}

/* Statistics are of the unquantized model. A method's row is taken in that way, and that is said; a recipe file means
 * what it says. */
static ht_status settle_sequence(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    if (ht_flow_stats_unordered(&j->recipe)) {
        return HT_OK;
    }
    if (j->o->recipe != NULL) {
        return ht_flow_stats_refuse_order(j->o->recipe, err);
    }
    j->recipe.calibration.sequential = false;
    ht_quant_warn(ctx, j,
                  "statistics are of the unquantized model: method %s does not see what quantization changes from "
                  "layer to layer (sequential: false)",
                  j->recipe.name);
    return HT_OK;
}

/* Whether what the recipe's parts need can come from what was given. */
static ht_status parse_method(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const ht_quantize_options *o = j->o;
    bool has_data = o->imatrix != NULL || o->n_calib > 0 || o->stats != NULL;
    const char *name = o->recipe != NULL ? o->recipe : o->method != NULL ? o->method : has_data ? "imatrix" : "rtn";
    if (o->recipe != NULL && o->method != NULL) {
        return ht_fail(err, HT_INVAL, "recipe", HT_NO_POS, "give either --recipe or --method, not both");
    }
    HT_TRY(o->recipe != NULL ? ht_recipe_load(name, &j->recipe, err) : ht_flow_find_recipe(name, &j->recipe, err));
    if (o->format != NULL) {
        snprintf(j->recipe.places[HT_PLACE_WEIGHTS].format, HT_RECIPE_FORMAT, "%s", o->format);
    }
    if (o->range != NULL) {
        HT_TRY(ht_choice_parse(HT_AXIS_RANGE, o->range, &j->recipe.places[HT_PLACE_WEIGHTS].range, err));
    }
    if (j->recipe.places[HT_PLACE_WEIGHTS].format[0] == '\0') { /* what follows is checked as it will be done */
        snprintf(j->recipe.places[HT_PLACE_WEIGHTS].format, HT_RECIPE_FORMAT, "%s", DEFAULT_FORMAT);
    }
    HT_TRY(ht_recipe_check(&j->recipe, err));
    j->tokens = o->calib_tokens != UINT64_MAX ? o->calib_tokens : j->recipe.calibration.tokens;
    j->window = o->ctx != 0 ? o->ctx : j->recipe.calibration.window;
    j->recipe.calibration.tokens = j->tokens; /* the record's recipe is what was done */
    j->recipe.calibration.window = j->window;
    unsigned needs = ht_recipe_needs(&j->recipe);
    char seen[160];
    bool wants_text = (needs & ~(unsigned)HT_NEEDS_MEAN_SQUARE) != 0;
    if (needs != HT_NEEDS_NOTHING && !wants_text && !has_data) {
        return ht_fail(err, HT_INVAL, "method", HT_NO_POS,
                       "method %s needs importance: give --imatrix FILE, or --calib TEXT to collect it first",
                       j->recipe.name);
    }
    if (wants_text && o->n_calib == 0 && o->stats == NULL) {
        return ht_fail(err, HT_INVAL, "method", HT_NO_POS,
                       "method %s wants to see inputs (%s), which no importance file holds: give --calib TEXT, or "
                       "--stats FILE",
                       j->recipe.name, ht_part_needs_text(needs, seen, sizeof seen));
    }
    if (needs == HT_NEEDS_NOTHING && has_data) {
        return ht_fail(err, HT_INVAL, "method", HT_NO_POS,
                       "method %s uses no importance: leave --imatrix, --calib and --stats away, or choose method "
                       "imatrix",
                       j->recipe.name);
    }
    if ((o->imatrix != NULL) + (o->n_calib > 0) + (o->stats != NULL) > 1) {
        return ht_fail(err, HT_INVAL, "calib", HT_NO_POS, "give one of --imatrix, --calib and --stats");
    }
    return o->stats != NULL ? settle_sequence(ctx, j, err) : HT_OK;
}

ht_status ht_quant_parse(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const ht_quantize_options *o = j->o;
    HT_TRY(parse_method(ctx, j, err));
    HT_TRY(parse_format(j, err));
    if (o->embd != NULL) {
        HT_TRY(find_format("embd", o->embd, &j->embd, err));
    }
    if (o->head != NULL) {
        HT_TRY(find_format("head", o->head, &j->head, err));
    }
    j->rules = ht_mem_calloc(o->n_tensor_rules + 1, sizeof *j->rules);
    if (j->rules == NULL) {
        return ht_fail_nomem(err, o->n_tensor_rules * sizeof *j->rules);
    }
    for (size_t i = 0; i < o->n_tensor_rules; i++) {
        HT_TRY(parse_rule(o->tensor_rules[i], &j->rules[i], err));
    }
    return HT_OK;
}

/* What the user asks for one tensor, NULL: nothing. The embedding of a model without a head of its own is its
 * head too; --embd names it first. */
const struct ht_quant_type *ht_quant_override(const struct ht_quant_job *j, enum ht_role role) {
    bool tied = j->plan->hp.tied;
    if (role == HT_ROLE_TOKEN_EMBD && j->embd.format != NULL) {
        return &j->embd;
    }
    if ((role == HT_ROLE_OUTPUT || (role == HT_ROLE_TOKEN_EMBD && tied)) && j->head.format != NULL) {
        return &j->head;
    }
    for (size_t i = j->o->n_tensor_rules; i-- > 0;) { /* later rules win */
        if (j->rules[i].role == role) {
            return &j->rules[i].type;
        }
    }
    return NULL;
}

/* Embedding and head stay in f16 beside codes, unless they are asked for: published methods leave them alone. */
static bool is_outer(enum ht_role role) {
    return role == HT_ROLE_TOKEN_EMBD || role == HT_ROLE_OUTPUT;
}

/* What a rule of the recipe asks for, in place of the type for all: *ruled; *keep: the input's own type. */
static ht_status rule_type(struct ht_quant_job *j, const struct ht_plan_tensor *t, const struct ht_quant_type **type,
                           bool *keep, ht_err *err) {
    struct ht_place_recipe how;
    ht_recipe_weights(&j->recipe, t->role, t->layer, &how);
    *type = NULL;
    *keep = strcasecmp(how.format, "keep") == 0;
    if (*keep || strcmp(how.format, j->recipe.places[HT_PLACE_WEIGHTS].format) == 0) {
        return HT_OK;
    }
    struct ht_quant_type *own = ht_arena_calloc(&j->plan->arena, 1, sizeof *own);
    if (own == NULL) {
        return ht_fail_nomem(err, sizeof *own);
    }
    *type = own;
    return find_format("recipe", how.format, own, err);
}

static ht_status choose_one(struct ht_quant_job *j, struct ht_plan_tensor *t, const struct ht_mix_facts *facts,
                            const struct ht_quant_type *half, ht_err *err) {
    const struct ht_quant_type *type = ht_quant_override(j, t->role);
    uint64_t row = t->out.ne[0];
    bool keep = false;
    if (type == NULL) {
        HT_TRY(rule_type(j, t, &type, &keep, err));
    }
    if (keep) {
        t->wanted = t->out.format;
        return HT_OK;
    }
    if (type == NULL && j->mix == NULL) {
        type = is_outer(t->role) && j->type.coded ? half : &j->type;
    }
    if (type != NULL) {
        t->wanted = type->format;
        t->scheme = type->coded ? &type->scheme : NULL;
        t->out.format = type->coded ? t->wanted : ht_format_fallback(t->wanted, row);
    } else {
        uint32_t layer = t->layer < 0 ? 0 : (uint32_t)t->layer;
        t->out.format = ht_mix_choose(j->mix, facts, t->role, layer, row, &t->wanted);
    }
    return HT_OK;
}

ht_status ht_quant_choose(struct ht_quant_job *j, bool weighted, ht_err *err) {
    struct ht_flow_plan *p = j->plan;
    const struct ht_quant_type half = {.format = ht_format_find("f16")};
    const struct ht_mix_facts facts = {
        .n_layers = p->hp.n_layers,
        .n_heads = p->hp.n_heads,
        .n_kv_heads = p->hp.n_kv_heads,
        .tied = p->hp.tied,
        .imatrix = weighted,
        .pure = j->o->pure,
    };
    for (size_t i = 0; i < p->n_tensors; i++) {
        struct ht_plan_tensor *t = &p->tensors[i];
        if (ht_plan_is_weight(t)) {
            HT_TRY(choose_one(j, t, &facts, &half, err));
        } else if (p->target == HT_TARGET_GGUF && !p->from_gguf && t->out.format->kind == HT_KIND_FLOAT) {
            t->out.format = t->wanted = ht_format_find("f32"); /* vectors of a GGUF file */
        }
    }
    return ht_flow_plan_sizes(p, err);
}

/* Types that no other program knows are said to be so. */
static void warn_private(struct ht_context *ctx, struct ht_quant_job *j) {
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_format *f = j->plan->tensors[i].out.format;
        if (f->gguf_type >= HT_GGUF_PRIVATE) {
            ht_quant_warn(ctx, j, "%s is a type of halftone's own: no other program will read this file", f->name);
            return;
        }
    }
}

ht_status ht_quant_check_overrides(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    bool tied = j->plan->hp.tied;
    char head[HT_SCHEME_TEXT] = "", embd[HT_SCHEME_TEXT] = "";
    if (j->head.format != NULL) {
        ht_quant_type_text(&j->head, head);
    }
    if (j->embd.format != NULL) {
        ht_quant_type_text(&j->embd, embd);
    }
    if (tied && head[0] != '\0' && embd[0] != '\0' && strcmp(head, embd) != 0) {
        return ht_fail(err, HT_INVAL, "head", HT_NO_POS,
                       "the model's head is its embedding: --head %s and --embd %s cannot both hold; give one",
                       head, embd);
    }
    if (tied && head[0] != '\0' && embd[0] == '\0') {
        ht_quant_warn(ctx, j, "the model's head is its embedding: --head sets both to %s", head);
    }
    for (size_t r = 0; r < j->o->n_tensor_rules; r++) {
        bool found = false;
        for (size_t i = 0; i < j->plan->n_tensors && !found; i++) {
            found = j->plan->tensors[i].role == j->rules[r].role && ht_plan_is_weight(&j->plan->tensors[i]);
        }
        if (!found) {
            ht_quant_warn(ctx, j, "--tensor %s: the model has no such matrix%s", j->o->tensor_rules[r],
                          tied && j->rules[r].role == HT_ROLE_OUTPUT ? " (its head is the embedding)" : "");
        }
    }
    warn_private(ctx, j);
    return HT_OK;
}

ht_status ht_quant_check_plain(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const struct ht_plan_tensor *first = NULL;
    size_t n = 0;
    for (size_t i = 0; i < j->plan->n_tensors && j->mix != NULL; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        if (ht_plan_is_weight(t) && ht_quant_override(j, t->role) == NULL &&
            ht_mix_needs_importance(j->mix, t->role, t->out.format)) {
            first = first != NULL ? first : t;
            n++;
        }
    }
    if (first == NULL) {
        return HT_OK;
    }
    if (j->o->dry_run) {
        ht_quant_warn(ctx, j, "%s needs importance for %zu matrices: give --imatrix FILE or --calib TEXT",
                      ht_mix_name(j->mix), n);
        return HT_OK;
    }
    return ht_fail(err, HT_INVAL, "format", HT_NO_POS,
                   "%s needs importance: without it, %zu matrices (the first: %s as %s) would lose too much; give "
                   "--imatrix FILE or --calib TEXT, or choose a preset of more bits",
                   ht_mix_name(j->mix), n, first->out.name, first->out.format->name);
}

ht_status ht_quant_check_input(const struct ht_quant_job *j, ht_err *err) {
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        const struct ht_plan_tensor *t = &j->plan->tensors[i];
        bool packed = t->packed != NULL && (t->packed->has_q || t->packed->has_side);
        bool same = t->in != NULL && t->in->format == t->out.format && t->scheme == NULL && !packed;
        if (t->in == NULL || same || (t->in->format->kind == HT_KIND_FLOAT && !packed)) {
            continue;
        }
        if (t->in->format->kind == HT_KIND_INT) {
            return ht_fail(err, HT_UNSUPPORTED, t->in->name, HT_NO_POS, "integers of type %s are no weights",
                           t->in->format->name);
        }
        if (!j->o->allow_requantize) {
            return ht_fail(err, HT_INVAL, t->in->name, HT_NO_POS,
                           "it is %s already, and quantizing twice loses more; start from the 16-bit model, or allow "
                           "it with --allow-requantize",
                           t->in->format->name);
        }
    }
    return HT_OK;
}
