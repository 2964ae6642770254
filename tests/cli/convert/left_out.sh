# ht-suite: long
# A folder of our own to plain weights: what acts on weights alone is applied; what happens at run time is named.
. "$(dirname "$0")/../lib.sh"
small_text calib.txt
calib="--calib calib.txt --calib-tokens 128 --ctx 64"
# Kept columns are part of the weights: the same model comes out, and nothing is left out.
t 0 quantize "$tiny" -o owq --method owq $calib
t 0 convert owq -o plain --dtype f32 --json
json 'd["left_out"] == [] and d["warnings"] == []'
t 0 eval plain --reference owq --text calib.txt --ctx 64 --tokens 512 --exact --json
json 'abs(d["kld"]["mean"]) < 1e-6'
# Rounded inputs are not.
t 0 quantize "$tiny" -o smooth --method smoothquant $calib
t 0 convert smooth -o smooth.gguf --dtype f32
err 'left out, because the output has no place for it: activations rounded at run time \(35 matrices\)'
# Nor is a cache in 4 bits; turned inputs are turned back in the weights.
t 0 quantize "$tiny" -o turned --method quarot $calib
t 0 convert turned -o turned-plain --dtype f32 --json
json '[(r["part"], r["tensors"]) for r in d["left_out"]] == [("act", 35), ("kv", 0)] and len(d["warnings"]) == 2'
t 0 eval turned-plain --reference "$tiny" --text calib.txt --ctx 64 --tokens 512 --json
json 'd["kld"]["mean"] < 0.5'
finish
