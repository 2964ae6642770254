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
json 'd["folded"]["clamped_factors"] == 0 and d["folded"]["clipped_groups"] > 1000'
finish
