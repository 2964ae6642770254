# Collecting, showing, merging, quantizing and converting.
. "$(dirname "$0")/../lib.sh"
small_text a.txt 3000
tail -c 3000 "$story" >b.txt
t 0 stats collect "$tiny" --calib a.txt --ctx 64 -o a.st --json
json 'd["schema"] == "halftone.stats/1" and d["groups"] == 20 and d["runs"][0]["sources"][0]["path"] == "a.txt"'
json 'len(d["runs"][0]["sources"][0]["sha256"]) == 64 and "gram" not in d["statistics"]'
t 0 stats collect "$tiny" --calib b.txt --ctx 64 -m smoothquant -m imatrix -o b.st; out 'mean square, absmax of [0-9]+ tokens'
t 0 stats show a.st; out '^blk.0.attn_q.weight \.\.\. +256 '; out 'of tiny \(llama\)'
t 0 stats merge a.st b.st -o both.st; out '2 runs'; err 'not all files have these'
t 0 quantize "$tiny" -o s --method smoothquant --stats both.st; err 'sequential: false'
t 0 quantize "$tiny" -o i.gguf --format q4_0 --stats both.st; not_err 'sequential'
# The same importance, whichever way it comes; llama.cpp's layout of it too.
t 0 imatrix convert both.st -o both.gguf; out 'both.gguf: 35 entries'
t 0 quantize "$tiny" -o j.gguf --format q4_0 --imatrix both.gguf
t 0 eval i.gguf --reference j.gguf --text a.txt --ctx 64 --exact --json; json 'd["kld"]["mean"] < 1e-5'
t 2 stats collect "$tiny" --calib a.txt --ctx 64 -o a.st; err 'exists'
t 2 stats merge a.st -o a.st; err 'a.st'
t 3 stats show "$tiny/model.safetensors"; err 'halftone.stats'
t 4 stats show missing.st
t 2 quantize "$tiny" -o x --method awq --stats a.st; err 'also needs: gram'; gone x
t 2 stats collect "$tiny" --calib a.txt -m rtn -o x.st; err 'needs no statistics'; gone x.st
t 2 stats collect "$tiny" -o x.st; err 'needs one MODEL and --calib TEXT'
t 2 stats colect a; err 'did you mean: collect'
# Windows beyond the model's context (512), and rows that are too short.
for c in "stats collect $tiny --calib $story --calib-tokens 600 --ctx 600 -m imatrix -o w.st" \
    "imatrix collect $tiny --text $story --tokens 600 --ctx 600 -o w.gguf" \
    "quantize $tiny -o w.gguf --format q4_0 --calib $story --calib-tokens 600 --ctx 600 -n"; do
    # shellcheck disable=SC2086
    t 0 $c --json; err 'windows of 600 tokens are longer than the context of 512'; json '"context of 512" in " ".join(d["warnings"])'
    # shellcheck disable=SC2086
    t 0 ${c//600/512} --json --force; not_err 'context'; json '"context" not in " ".join(d["warnings"])'
done
rm w.st w.gguf
printf '"Yes."\n"No."\n' >short.jsonl
t 2 stats collect "$tiny" --calib short.jsonl -m imatrix -o x.st; err '2 of 2 rows were dropped'; err '--no-filters keeps them'; gone x.st
# One kind of file in the place of the other.
t 2 quantize "$tiny" -o x.gguf --format q4_0 --imatrix a.st; err 'a.st: it is a file of statistics.*--stats FILE takes it'; gone x.gguf
t 0 imatrix convert both.gguf -o both.dat
for m in both.gguf both.dat; do
    t 3 quantize "$tiny" -o x.gguf --format q4_0 --stats $m; err "$m: it is an importance matrix.*--imatrix FILE takes it"; gone x.gguf
    t 3 stats show $m; err "$m: it is an importance matrix.*imatrix merge"
    t 3 stats merge a.st $m -o x.st; err "$m: it is an importance matrix"; gone x.st
done
t 3 quantize "$tiny" -o x.gguf --format q4_0 --stats "$tiny/model.safetensors"; err 'no file of statistics'; not_err 'importance matrix'
# No file serves these: told before the pass.
t 3 stats collect "$tiny" --calib a.txt -m quarot -o x.st; err 'quarot: transform rotate changes inputs .* --calib TEXT'; gone x.st
t 3 stats collect "$tiny" --calib a.txt -m gptq -m autoround -o x.st; err 'autoround: it needs what no file .* gradients'; gone x.st
# A damaged file and another model's.
head -c 20000 a.st >cut.st
t 3 quantize "$tiny" -o x --method smoothquant --stats cut.st; err "cut short or damaged"; gone x
cp -r "$tiny" other && chmod -R u+w other
python3 - <<'P' || skip 'no Python'
import json, struct
p = "other/model.safetensors"
b = bytearray(open(p, "rb").read())
n = struct.unpack("<Q", b[:8])[0]
h = json.loads(b[8:8 + n])
at = 8 + n + h["model.norm.weight"]["data_offsets"][0]
b[at] ^= 64
open(p, "wb").write(b)
P
t 2 quantize other -o x --method smoothquant --stats a.st; err 'of another model'; gone x
# What only collecting has a use for is refused elsewhere, and what only a text has beside a file: every option.
value_of() { case $1 in calib-weights) echo 1 ;; sampling) echo random ;; memory) echo 1G ;; method) echo gptq ;; calib | not-in) echo a.txt ;; *) echo 64 ;; esac; }
n=0
while read -r o arg; do
    args=("--$o")
    [ "${arg#[A-Z]}" = "$arg" ] || args+=("$(value_of "$o")")
    for action in "show a.st" "merge a.st b.st -o x.st"; do
        # shellcheck disable=SC2086
        t 2 stats $action "${args[@]}"; err "--$o says how to collect and has no effect on ${action%% *}"; gone x.st
    done
    n=$((n + 1))
done < <("$HALFTONE" stats --help | sed -nE 's/^ +(-[a-z], )?--([a-z-]+) ?([A-Z]?).* collect: .*/\2 \3/p')
check [ "$n" -ge 11 ]
t 2 stats show a.st -o x.st; err '--output says how to collect'
t 2 stats show a.st --force; err '--force says how to collect'
for o in "--calib-tokens 512" "--ctx 64" "--calib-weights 1" "--sampling random" "--no-filters" "--not-in b.txt" "--drop-overlap"; do
    # shellcheck disable=SC2086
    t 2 quantize "$tiny" -o x --method smoothquant --stats a.st $o; err "no effect beside --stats.*: ${o%% *}; .*--calib TEXT in place"; gone x
    # shellcheck disable=SC2086
    t 2 quantize "$tiny" -o x.gguf --imatrix both.gguf $o; err "no effect beside --imatrix.*: ${o%% *}; "; gone x.gguf
    # shellcheck disable=SC2086
    t 2 quantize "$tiny" -o x.gguf --format q4_0 $o -n; err "no effect without a calibration text: ${o%% *}; "
done
t 2 quantize "$tiny" -o x --method smoothquant --stats a.st --ctx 64 --calib-tokens 0; err ': --calib-tokens, --ctx; '
no_leftovers
finish
