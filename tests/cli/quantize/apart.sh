# Schemes, whose scales lie apart: not for GGUF, but for a folder of our own.
. "$(dirname "$0")/../lib.sh"
for f in int4:g64 NF4:G64:nested fp8_e4m3:tensor; do
    t 3 quantize "$tiny" -o out.gguf --format "$f"
    err 'keeps its scales apart from its codes, and GGUF has no type for that; a folder of our own has'
    gone out.gguf
done
t 2 quantize "$tiny" -o out --format nf4
err 'nf4 has no scales of its own: say which (weights|values) share one, as in nf4:g64'
t 2 quantize "$tiny" -o out --format int4:g0
err "group 'g0': expected g1 to g1048576"
t 3 quantize "$tiny" -o out.gguf --format Q4_0 --tensor ffn_down=int4:channel
err 'int4:channel keeps its scales apart'
gone out.gguf out
# The folder runs, is measured, converted back, checked and looked at like any other.
t 0 quantize "$tiny" -o folder --format int4:g64 --json
out '"format": "int4:g64"'; out '"container": "halftone"'
t 0 verify folder
t 0 inspect folder
out 'int4:g64'; out 'halftone'
t 0 run folder -p "It is a truth" -n 4 --temp 0
t 0 eval folder --reference "$tiny" --text "$story" --tokens 1024 --fail-if-kld 0.5
t 0 eval folder --reference "$tiny" --text "$story" --tokens 1024 --kv int4+hadamard --json
json 'd["model"]["kv"] == "int4:token+hadamard" and d["reference"]["kv"] == "none"'
t 2 eval folder --text "$story" --kv int8:tensor
err 'scale per token or group'
t 0 run folder -p "It is a truth" -n 4 --temp 0 --kv int8
# A recipe's cache goes into the folder, and sessions keep it so.
printf 'name: mine\nweights: {format: int8:channel}\nkv: {format: int8:token}\n' >kv.yaml
t 3 quantize "$tiny" -o kv.gguf --recipe kv.yaml
t 0 quantize "$tiny" -o cached --recipe kv.yaml
t 0 inspect cached; out 'keys and values are cached as int8:token'
t 0 eval cached --reference "$tiny" --text "$story" --tokens 1024 --json; json 'd["model"]["kv"] == "int8:token"'
t 0 convert folder -o plain.gguf --dtype f16
t 0 verify plain.gguf
t 2 quantize folder -o again.gguf --format q8_0
err 'quantizing twice loses more'
t 0 quantize folder -o again.gguf --format q8_0 --allow-requantize
# Mixed: schemes, GGUF types, floats.
t 0 quantize "$tiny" -o mixed --format int4:g64 --tensor ffn_down=q6_k --tensor attn_v=fp8_e4m3:channel --embd int8:channel
t 0 verify mixed
t 0 inspect mixed
out 'q6_k'; out 'fp8_e4m3:channel'; out 'int8:channel'
t 2 quantize "$tiny" -o folder --format int4:g64
err 'force'
t 0 quantize "$tiny" -o folder --format int3:g32 --force --shard-size 1M
t 0 verify folder
# Types of our own are written, and said to be so.
t 0 quantize "$tiny" -o out.gguf --format q4_0 --tensor attn_v=tr2
err "tr2 is a type of halftone's own: no other program will read this file"
finish
