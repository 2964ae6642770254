/* quantize: the driver. parse -> plan -> formats -> checks -> importance -> stream -> commit -> record. The six
 * steps of one row of weights stand in format/ (fit, snap, round, pack); which rows get which, here. */
#include "flow/quantize/quantize.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/sys.h"
#include "flow/flow.h"
#include "flow/flow_calib.h"
#include "flow/flow_finite.h"
#include "flow/flow_finish.h"
#include "flow/flow_folder.h"
#include "flow/flow_hash.h"
#include "flow/flow_paths.h"
#include "flow/quantize/quantize_learn.h"
#include "flow/quantize/quantize_work.h"

/* A place to write, with room for the output, and for finished layers that are kept beside it until then. */
static ht_status check_disk(const struct ht_quant_job *j, ht_err *err) {
    const char *output = j->o->output;
    uint64_t work = 0, there = 0;
    HT_TRY(ht_flow_check_writable(output, err));
    HT_TRY(ht_flow_check_space(output, j->bytes, err));
    if (!ht_quant_wants_blocks(j)) {
        return HT_OK;
    }
    HT_TRY(ht_work_look(output, &there, err));
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        work += j->plan->tensors[i].layer >= 0 ? j->plan->tensors[i].out.bytes : 0;
    }
    work = work > there ? work - there : 0;
    ht_status status = ht_flow_check_space(output, j->bytes + work, err);
    if (status == HT_NOSPACE) {
        ht_err_clear(err);
        return ht_fail(err, HT_NOSPACE, output, HT_NO_POS,
                       "the output needs %llu bytes, and %llu more the work file beside it, which keeps finished "
                       "layers until the end: the disk has less free; free space or choose another disk",
                       (unsigned long long)j->bytes, (unsigned long long)work);
    }
    return status;
}

/* Everything that can be refused is refused here, before work that takes time. */
static ht_status prepare(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const ht_quantize_options *o = j->o;
    char words[256];
    bool weighted = o->imatrix != NULL || o->n_calib > 0 || o->stats != NULL, replace = o->force || o->dry_run;
    const struct ht_calib_data_options data = HT_FLOW_CALIB(o, o->calib_tokens, o->ctx);
    const struct ht_flow_calib_asked asked = {
        .instead = o->stats != NULL ? "--stats" : o->imatrix != NULL ? "--imatrix" : NULL,
        .tokens = o->calib_tokens != UINT64_MAX, .window = o->ctx != 0};
    HT_TRY(ht_flow_calib_check(&data, &asked, err));
    HT_TRY(ht_quant_parse(ctx, j, err));
    /* The name of a split output is that of no file: its parts are checked when their number is known. */
    enum ht_target target = HT_TARGET_GGUF;
    HT_TRY(ht_quant_target(j, &target, err));
    HT_TRY(ht_flow_check_place(o->output, target != HT_TARGET_GGUF, replace || o->shard_bytes > 0, err));
    HT_TRY(ht_flow_plan_open(o->input, o->pre, target, &j->plan, err));
    if (j->recipe.places[HT_PLACE_KV].format[0] != '\0') { /* the folder says it, sessions do it */
        HT_TRY(ht_kv_parse(j->recipe.places[HT_PLACE_KV].format, &j->plan->kv, err));
    }
    HT_TRY(ht_quant_turn_plan(j, err));
    HT_TRY(ht_flow_check_output(j->plan->source, o->output, err));
    HT_TRY(ht_flow_check_inputs(o->output, &o->imatrix, 1, err));
    HT_TRY(ht_flow_check_inputs(o->output, &o->stats, 1, err));
    HT_TRY(ht_flow_check_inputs(o->output, o->calib, o->n_calib, err));
    HT_TRY(ht_flow_check_inputs(o->output, o->not_in, o->n_not_in, err));
    HT_TRY(ht_quant_choose(j, weighted, err));
    HT_TRY(ht_quant_check_recipe(ctx, j, err));
    HT_TRY(ht_quant_check_learning(j, err));
    HT_TRY(ht_quant_check_overrides(ctx, j, err));
    HT_TRY(ht_quant_check_input(j, err));
    if (!weighted) {
        HT_TRY(ht_quant_check_plain(ctx, j, err));
    }
    HT_TRY(ht_quant_stats_open(j, err));
    if (o->n_calib > 0 && ht_flow_calib_beyond(&j->plan->hp, j->window, words, sizeof words)) {
        ht_quant_warn(ctx, j, "%s", words);
    }
    HT_TRY(ht_quant_load_weights(ctx, j, err));
    if (target == HT_TARGET_GGUF) {
        HT_TRY(ht_quant_set_meta(j, err));
    }
    HT_TRY(ht_quant_predict(j, err));
    if (o->shard_bytes > 0 && target == HT_TARGET_GGUF) {
        HT_TRY(ht_flow_check_shards(j->plan->source, o->output, j->n_files, replace, err));
    }
    return o->dry_run ? HT_OK : check_disk(j, err);
}

/* The output has its name already: an interrupt only leaves the hash away. */
static ht_status hash_output(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const char *path = j->o->output;
    struct ht_mapping map;
    HT_TRY(ht_map_file(path, &map, err));
    ht_status status = ht_flow_hash_files(ctx, ht_path_base(path), &map, 1, j->output_xxh3, err);
    ht_unmap_file(&map);
    if (status == HT_CANCELLED) {
        ht_err_clear(err);
        ht_quant_warn(ctx, j, "stopped while the finished output was hashed: it is whole, its hash is not recorded");
        status = HT_OK;
    }
    return status;
}

static ht_status write_output(struct ht_context *ctx, struct ht_quant_job *j, ht_err *err) {
    const ht_quantize_options *o = j->o;
    const struct ht_folder_options place = {o->output, o->shard_bytes, o->force};
    const struct ht_stream_options options = {
        .stage = "quantize", .measure = true, .allow_nonfinite = o->allow_nonfinite};
    if (j->plan->target != HT_TARGET_GGUF) { /* its checksums stand beside it */
        return ht_folder_write(ctx, j->plan, ht_format_find("f16"), &place, &options, err);
    }
    HT_TRY(ht_gguf_file_write(ctx, j->plan, &place, &options, err));
    return j->n_files == 1 && o->shard_bytes == 0 ? hash_output(ctx, j, err) : HT_OK;
}

static ht_status run(struct ht_context *ctx, struct ht_quant_job *j, char **json, ht_err *err) {
    const ht_quantize_options *o = j->o;
    HT_TRY(prepare(ctx, j, err));
    if (o->dry_run) {
        HT_TRY(ht_quant_estimate(ctx, j, err));
        HT_TRY(ht_quant_check_memory(ctx, j, err));
    } else {
        const struct ht_source *source = j->plan->source;
        bool blocks = ht_quant_wants_blocks(j);
        HT_TRY(ht_quant_check_memory(ctx, j, err));
        if (blocks || o->n_calib > 0) { /* the model will run on them */
            HT_TRY(ht_finite_scan(ctx, j->plan, o->allow_nonfinite, err));
        }
        if (!blocks) {
            HT_TRY(ht_quant_collect_weights(ctx, j, err));
        }
        HT_TRY(ht_flow_hash_files(ctx, ht_path_base(source->path), source->maps, source->n_maps, j->source_xxh3, err));
        ht_quant_stats_compare(ctx, j);
        if (blocks) {
            HT_TRY(ht_quant_blocks(ctx, j, err));
            HT_TRY(ht_flow_predict(j->plan, o->shard_bytes, &j->bytes, &j->n_files, err));
        }
        if (j->plan->target == HT_TARGET_GGUF) {
            HT_TRY(ht_quant_set_meta(j, err));
        }
        HT_TRY(write_output(ctx, j, err));
        if (blocks) {
            HT_TRY(ht_work_remove(o->output, err));
        }
    }
    uint64_t zeroed = 0;
    for (size_t i = 0; i < j->plan->n_tensors; i++) {
        zeroed += j->plan->tensors[i].n_nonfinite;
    }
    if (zeroed != 0) {
        char words[64];
        ht_finite_words(zeroed, words, sizeof words);
        ht_quant_warn(ctx, j, "%s", words);
    }
    if (!o->record && !o->dry_run) {
        ht_quant_drop_records(ctx, j);
    }
    char *record = NULL;
    HT_TRY(ht_quant_record(ctx, j, &record, err));
    if (o->record && !o->dry_run && !ht_quant_write_records(ctx, j, record)) {
        ht_mem_free(record); /* it names files that are not there */
        record = NULL;
        j->no_record = true;
        HT_TRY(ht_quant_record(ctx, j, &record, err));
    }
    if (json != NULL) {
        *json = record;
    } else {
        ht_mem_free(record);
    }
    return HT_OK;
}

ht_status ht_flow_quantize(struct ht_context *ctx, const ht_quantize_options *o, char **json, ht_err *err) {
    struct ht_quant_job j = {.o = o, .started_s = ht_sys_now(), .started_cpu_s = ht_sys_cpu_seconds()};
    j.warnings = json_array();
    ht_status status = run(ctx, &j, json, err);
    if (status != HT_OK && j.finished_layers > 0) {
        ht_log(ctx, HT_LOG_WARN, "%u of %u layers are finished and stay in the work file beside the output: the same "
               "command%s goes on from there", j.finished_layers, j.n_layers, o->restart ? " without --restart" : "");
    }
    json_decref(j.warnings);
    ht_imatrix_free(j.imatrix);
    ht_quant_stats_close(j.stats);
    json_decref(j.data);
    ht_mem_free(j.rules);
    ht_flow_plan_close(j.plan);
    ht_quant_turn_free(j.turn);
    ht_work_close(j.work);
    return status;
}
