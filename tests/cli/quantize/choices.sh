# Choices that take effect, or are refused: nothing that is asked for is dropped without a word.   ht-suite: long
. "$(dirname "$0")/../lib.sh"
calib=(--calib "$story" --calib-tokens 256 --ctx 64)
sum() { value "sum(t['round'].get('$1', 0) for t in d['tensors'] if 'round' in t)"; }
# Columns: by bits, at least one; by fraction.
t 0 quantize "$tiny" -o owq --method owq "${calib[@]}" --json
[ "$(sum columns_apart)" -ge 35 ] || fail "owq keeps $(sum columns_apart) columns in 35 matrices"
printf 'name: mine\nweights: {format: "int3:channel", range: weighted, round: feedback, outlier: {part: columns, fraction: 0.02}}\n' >f.yaml
t 0 quantize "$tiny" -o by-fraction --recipe f.yaml "${calib[@]}" --json
json 'all(t["round"]["columns_apart"] == -(-t["cols"] * 2 // 100) for t in d["tensors"] if "round" in t)'
t 0 quantize "$tiny" -o spqr --method spqr "${calib[@]}" --json
[ "$(sum weights_apart)" -gt 1000 ] || fail "spqr keeps $(sum weights_apart) weights"
# A share of the weights goes wherever they are, else n of every m stay.
for o in fraction:0.3 m:4; do
    printf 'name: mine\nweights: {format: "int4:g64", range: weighted, round: feedback, outlier: {part: prune, %s}}\n' "${o/:/: }" >p.yaml
    t 0 quantize "$tiny" -o "prune-$o" --recipe p.yaml "${calib[@]}" --json
    json 'abs(sum(t["round"]["weights_pruned"] for t in d["tensors"] if "round" in t) / sum(t["rows"] * t["cols"] for t in d["tensors"] if "round" in t) - '"$([ $o = m:4 ] && echo 0.5 || echo 0.3)"') < 0.001'
done
# A rounded cache alone; rounded inputs need weights with a grid.
printf 'name: mine\nweights: {format: f16}\nkv: {format: "int8:token"}\n' >kv.yaml
t 0 quantize "$tiny" -o cache --recipe kv.yaml
t 0 verify cache
t 0 inspect cache; out 'keys and values are cached as int8:token'
t 0 eval cache --reference "$tiny" --text "$story" --tokens 512 --ctx 128 --json; json 'd["model"]["kv"] == "int8:token" and 0 < d["kld"]["mean"] < 0.01'
printf 'name: mine\nweights: {format: f16}\nactivations: {format: "int8:token"}\n' >a.yaml
t 2 quantize "$tiny" -o a --recipe a.yaml; err 'int8:token would round nothing'; gone a
printf 'name: mine\nweights: {format: "int4:g64"}\nrules: [{layers: 0-4, format: keep}]\n' >k.yaml
t 0 quantize "$tiny" -o kept --recipe k.yaml
t 0 eval kept --text "$story" --tokens 512 --ctx 128
# The range part alone is changed.
t 0 quantize "$tiny" -o range --format uint4:g64 --method rtn --range minmax --json
out 'range: .*minmax'
t 3 quantize "$tiny" -o x --format q4_0 --method rtn --range minmax; err 'minmax'
t 2 quantize "$tiny" -o x --format uint4:g64 --range minimax; err 'minmax'
t 3 quantize "$tiny" -o x.gguf --range mse; err "mse works on schemes.*Q4_K_M is a GGUF type"; gone x.gguf
# Rules for inputs: some stay float, some get a format of their own.
printf 'name: mine\nweights: {format: "int8:channel"}\nactivations: {format: "int8:token"}\nrules: [{roles: [ffn_down], activations: keep}, {layers: 0, roles: [attn_q], activations: "int8:tensor"}]\n' >i.yaml
t 3 quantize "$tiny" -o inputs.gguf --recipe i.yaml "${calib[@]}"
t 0 quantize "$tiny" -o inputs --recipe i.yaml "${calib[@]}"
t 0 verify inputs
check [ "$(grep -o '"act": *"int8:token"' inputs/config.json | wc -l)" = 29 ]
check [ "$(grep -o '"act": *"int8:tensor"' inputs/config.json | wc -l)" = 1 ]
t 0 eval inputs --reference "$tiny" --text "$story" --tokens 512 --ctx 128 --fail-if-kld 0.05
printf 'name: mine\nweights: {format: "int8:channel"}\nactivations: {format: "int8:token"}\nrules: [{activations: keep}]\n' >all.yaml
t 2 quantize "$tiny" -o x --recipe all.yaml; err 'rules leave the inputs of every weight float'
sed -i 's/activations: keep/activations: int8:channels/' i.yaml
t 2 quantize "$tiny" -o x --recipe i.yaml "${calib[@]}"
sed -i 's/activations: int8:channels/activations: "int8:channel"/' i.yaml
t 2 quantize "$tiny" -o x --recipe i.yaml "${calib[@]}" --dry-run; err 'inputs have none: take int8:token'
t 0 imatrix collect "$tiny" --text "$story" --tokens 512 -o im.gguf
t 2 quantize "$tiny" -o x --method imatrix --format int4:g64 --imatrix im.gguf --dry-run; err 'give --calib TEXT or --stats FILE in place of --imatrix'
head -c 20000 "$story" >eval.txt
t 2 stats collect "$tiny" --calib "$story" --calib-tokens 256 --not-in eval.txt -o eval.txt --force
same eval.txt <(head -c 20000 "$story")
# Rules that meet no tensor are said.
printf 'name: mine\nweights: {format: "int4:g64"}\nrules: [{layers: 50-60, format: keep}]\n' >r.yaml
t 0 quantize "$tiny" -o r --recipe r.yaml --dry-run; err 'rule 1 of the recipe \(layers 50-60\) matches no tensor: the model has layers 0-4'
t 2 quantize "$tiny" -o x -f i8; err 'i8 stores integers and no weights; codes with a scale are int8:channel or int8:g64'
t 2 show Q4_K_M; err 'Q4_K_M is a preset of formats, not a method: --format Q4_K_M'
t 0 show spqr --why; out 'Where ours differs: second-level'
t 0 show ./f.yaml --why; not_out 'Where ours differs'
finish
