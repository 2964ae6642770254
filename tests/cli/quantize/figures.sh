# ht-suite: long
# Figures of the record: errors where they are errors, of what they are named after; fixed scales of inputs.
. "$(dirname "$0")/../lib.sh"
small_text calib.txt
calib="--calib calib.txt --calib-tokens 256 --ctx 128"
# Codes without statistics: an error of the weights, which the table shows.
t 0 quantize "$tiny" -o a --format int4:g64 -v
out 'q_proj.weight +int4:g64 .* -[12][0-9]\.[0-9] dB'
t 0 quantize "$tiny" -o b --method nf4 --json
json 'all("output_error_db" not in r["round"] and -30 < r["rel_error_db"] < -15 for r in d["tensors"] if "round" in r)'
# Scales of inputs that calibration fixed: what lies beyond the grid's ends is cut.
t 0 quantize "$tiny" -o c --method entropy $calib --json
json 'all(a["low"] < 0 < a["high"] and abs(a["high"] - a["low"] - 255 * a["scale"]) < 1e-4 * a["high"] for a in (r["activations"] for r in d["tensors"] if "round" in r))'
# Norms that a transform has emptied into its neighbours are no errors; clipped groups are no clamped factors.
t 0 quantize "$tiny" -o e --method quarot $calib --json
json 'not [r for r in d["tensors"] if r["layer"] is not None and "rel_error_db" in r]'
t 0 quantize "$tiny" -o f.gguf --method awq --format q4_0 $calib --json
json 'len(d["folds"]) > 10 and all(f["loss"] <= f["loss_before"] for f in d["folds"])'
json 'all(f["alpha"] is None or 0 <= f["alpha"] <= 1 for f in d["folds"] if f["part"] == "search")'
json 'sum(f["clipped_groups"] for f in d["folds"] if f["part"] == "clip") == d["folded"]["clipped_groups"]'
json 'd["folded"]["clamped_factors"] == 0 and d["folded"]["clipped_groups"] > 1000'
t 0 quantize "$tiny" -o g --method smoothquant $calib --json
json 'len(d["folds"]) == 10 and all(f["part"] == "migrate" and f["alpha"] == 0.5 for f in d["folds"])'
# Orders: what takes none is counted. Heads as long as a group, and inputs behind norms.
printf 'name: t\nsummary: "t"\nweights: {transform: [order], format: "int4:g64"}\n' > order.yaml
t 0 quantize "$tiny" -o i --recipe order.yaml $calib --json
json 'd["folded"]["sites"] == 5 and d["folded"]["left_out_sites"] == 15'
json 'all(f["left_out"] == (f["site"] != "up") for f in d["folds"]) and len(d["folds"]) == 20'
# A limit that cannot be kept is told before work.
t 0 quantize "$tiny" -o h.gguf --method gptq --format q4_0 $calib --memory 1M --json
err 'memory 1.0 MiB is not enough .* about [0-9.]+ MiB will be taken'
json 'd["calibration"]["memory_limit_bytes"] == 1000000 and any("memory 1.0 MiB" in w for w in d["warnings"])'
json 'd["calibration"]["predicted_rss_bytes"] > 4 << 20'
finish
