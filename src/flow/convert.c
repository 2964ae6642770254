#include "flow/flow.h"

#include <stdio.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/sys.h"
#include "flow/flow_doc.h"
#include "flow/flow_finish.h"
#include "flow/flow_folder.h"
#include "flow/flow_paths.h"
#include "quant/mix.h"

static const char *const dtypes[] = {"f32", "f16", "bf16"};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

static const char *dtype_at(const void *unused, size_t i) {
    (void)unused;
    return dtypes[i];
}

static ht_status find_dtype(const char *name, const struct ht_format **f, ht_err *err) {
    for (size_t i = 0; i < N_DTYPES; i++) {
        if (strcasecmp(dtypes[i], name) == 0) {
            *f = ht_format_find(dtypes[i]);
            return HT_OK;
        }
    }
    char near[64];
    ht_nearest(name, dtype_at, NULL, N_DTYPES, near, sizeof near);
    return ht_fail(err, HT_INVAL, "dtype", HT_NO_POS, "unknown dtype '%s'; expected f32, f16 or bf16%s%s", name,
                   near[0] != '\0' ? "; did you mean " : "", near);
}

static ht_status find_target(const ht_convert_options *o, enum ht_target *target, ht_err *err) {
    if (o->to == NULL) {
        size_t len = strlen(o->output);
        *target = len > 5 && strcasecmp(o->output + len - 5, ".gguf") == 0 ? HT_TARGET_GGUF : HT_TARGET_HF;
        return HT_OK;
    }
    if (strcasecmp(o->to, "gguf") != 0 && strcasecmp(o->to, "hf") != 0) {
        return ht_fail(err, HT_INVAL, "to", HT_NO_POS, "unknown container '%s'; expected gguf or hf", o->to);
    }
    *target = strcasecmp(o->to, "gguf") == 0 ? HT_TARGET_GGUF : HT_TARGET_HF;
    return HT_OK;
}

/* Weights get the wanted type. GGUF keeps vectors in f32 because its runtimes compute with them; transformers
 * wants one type throughout. Integer tensors stay what they are. */
static void set_formats(struct ht_flow_plan *p, const struct ht_format *dtype) {
    const struct ht_format *f32 = ht_format_find("f32");
    for (size_t i = 0; i < p->n_tensors; i++) {
        struct ht_plan_tensor *t = &p->tensors[i];
        if (t->out.format->kind != HT_KIND_INT) {
            bool vector = p->target == HT_TARGET_GGUF && (t->out.n_dims < 2 || t->role == HT_ROLE_ROPE_FREQS);
            t->out.format = vector ? f32 : dtype;
            t->wanted = t->out.format;
        }
    }
}

static ht_status set_meta(struct ht_flow_plan *p, const struct ht_format *dtype, ht_err *err) {
    const struct ht_mix *mix = ht_mix_find(dtype->name);
    ht_flow_drop_provenance(p);
    HT_TRY(ht_meta_set_u32(&p->meta, "general.quantization_version", 2, err));
    HT_TRY(ht_meta_set_u32(&p->meta, "general.file_type", mix != NULL ? ht_mix_file_type(mix) : 0, err));
    HT_TRY(ht_meta_set_str(&p->meta, "halftone.version", ht_version(), strlen(ht_version()), err));
    return ht_flow_reserve_checksums(p, err);
}

struct job {
    const ht_convert_options *o;
    struct ht_flow_plan *plan;
    const struct ht_format *dtype;
    uint64_t bytes; /* of the output's tensor files, exact */
    uint32_t n_files;
    json_t *left_out, *warnings; /* arrays */
    double started_s, started_cpu_s;
};

static ht_status prepare(struct job *j, ht_err *err) {
    struct ht_flow_plan *p = j->plan;
    bool quantized;
    const struct ht_format *main_format = ht_flow_plan_main_format(p, &quantized);
    if (j->o->dtype != NULL) {
        HT_TRY(find_dtype(j->o->dtype, &j->dtype, err));
    } else {
        bool plain = main_format != NULL && !quantized && strcmp(main_format->name, "f64") != 0;
        j->dtype = plain ? main_format : ht_format_find(quantized ? "f16" : "f32");
    }
    set_formats(p, j->dtype);
    HT_TRY(ht_flow_plan_sizes(p, err));
    if (p->target == HT_TARGET_GGUF) {
        HT_TRY(set_meta(p, j->dtype, err));
    }
    return ht_flow_predict(p, j->o->shard_bytes, &j->bytes, &j->n_files, err);
}

static ht_status write_output(struct ht_context *ctx, struct job *j, ht_err *err) {
    const struct ht_stream_options options = {.stage = "convert"};
    const struct ht_folder_options place = {j->o->output, j->o->shard_bytes, j->o->force};
    if (j->plan->target != HT_TARGET_GGUF) {
        return ht_folder_write(ctx, j->plan, j->dtype, &place, &options, err);
    }
    if (j->o->shard_bytes > 0) {
        HT_TRY(ht_flow_check_shards(j->plan->source, j->o->output, j->n_files, j->o->force, err));
    }
    return ht_gguf_file_write(ctx, j->plan, &place, &options, err);
}

/* ---- what a folder of our own does at run time, and no plain weight can hold ---- */

static void add_left_out(struct ht_context *ctx, struct job *j, unsigned leaves, uint64_t tensors) {
    char what[160], text[320], in[48] = "";
    ht_part_leaves_text(leaves, what, sizeof what);
    if (tensors > 0) {
        snprintf(in, sizeof in, " (%llu matrices)", (unsigned long long)tensors);
    }
    snprintf(text, sizeof text, "left out, because the output has no place for it: %s%s", what, in);
    ht_log(ctx, HT_LOG_WARN, "%s", text);
    json_array_append_new(j->warnings, json_string(text));
    json_t *row = json_pack("{s:s, s:s, s:I}", "part", ht_leaves_text(leaves, what), "text", text, "tensors",
                            (json_int_t)tensors);
    json_array_append_new(j->left_out, row);
}

/* Weights come with everything that acts on them alone; the rest is named and counted. */
static void find_left_out(struct ht_context *ctx, struct job *j) {
    static const unsigned at_run_time[] = {HT_LEAVES_ACT, HT_LEAVES_IN_SHIFT, HT_LEAVES_OUT_BIAS};
    const struct ht_flow_plan *p = j->plan;
    for (size_t k = 0; k < sizeof at_run_time / sizeof at_run_time[0]; k++) {
        uint64_t n = 0;
        for (size_t i = 0; i < p->n_tensors; i++) {
            const struct ht_packed *packed = p->tensors[i].packed;
            n += packed != NULL && packed->has_side && (packed->side.leaves & at_run_time[k]) != 0;
        }
        if (n > 0) {
            add_left_out(ctx, j, at_run_time[k], n);
        }
    }
    const json_t *q = p->source->config != NULL ? json_object_get(p->source->config, "quantization_config") : NULL;
    if (json_object_get(q, "kv_cache") != NULL) {
        add_left_out(ctx, j, HT_LEAVES_KV, 0);
    }
}

static ht_status record(struct ht_context *ctx, const struct job *j, char **json, ht_err *err) {
    const struct ht_flow_plan *p = j->plan;
    struct ht_doc doc;
    ht_doc_init(&doc, "halftone.convert/1");
    ht_flow_record_input(&doc, p);
    ht_flow_record_output(&doc, p, j->o->output, j->o->shard_bytes > 0, j->bytes, j->n_files);
    ht_doc_set(&doc, doc.root, "dtype", json_string(j->dtype->name));
    ht_doc_set(&doc, doc.root, "tensors", json_integer((json_int_t)p->n_tensors));
    json_t *skipped = ht_doc_array(&doc, doc.root, "skipped");
    for (size_t i = 0; i < p->n_skipped; i++) {
        ht_doc_append(&doc, skipped, ht_doc_text(p->skipped[i], strlen(p->skipped[i])));
    }
    ht_doc_set(&doc, doc.root, "left_out", json_incref(j->left_out));
    ht_doc_set(&doc, doc.root, "warnings", json_incref(j->warnings));
    ht_doc_set(&doc, doc.root, "dry_run", json_boolean(j->o->dry_run));
    ht_flow_record_cost(&doc, ctx, j->started_s, j->started_cpu_s);
    return ht_doc_finish(&doc, json, err);
}

ht_status ht_flow_convert(struct ht_context *ctx, const ht_convert_options *o, char **json, ht_err *err) {
    struct job j = {.o = o, .started_s = ht_sys_now(), .started_cpu_s = ht_sys_cpu_seconds()};
    enum ht_target target = HT_TARGET_GGUF;
    HT_TRY(find_target(o, &target, err));
    /* The name of a split output is that of no file. */
    HT_TRY(ht_flow_check_place(o->output, target == HT_TARGET_HF, o->force || o->dry_run || o->shard_bytes > 0, err));
    HT_TRY(ht_flow_plan_open(o->input, o->pre, target, &j.plan, err));
    ht_status status;
    j.left_out = json_array();
    j.warnings = json_array();
    HT_TRY_DONE(ht_flow_check_output(j.plan->source, o->output, err));
    HT_TRY_DONE(prepare(&j, err));
    find_left_out(ctx, &j);
    if (!o->dry_run) {
        HT_TRY_DONE(ht_flow_check_space(o->output, j.bytes, err));
        HT_TRY_DONE(write_output(ctx, &j, err));
    }
    for (size_t i = 0; i < j.plan->n_skipped; i++) {
        ht_log(ctx, HT_LOG_INFO, "%s is not carried over", j.plan->skipped[i]);
    }
    status = record(ctx, &j, json, err);
done:
    json_decref(j.left_out);
    json_decref(j.warnings);
    ht_flow_plan_close(j.plan);
    return status;
}
