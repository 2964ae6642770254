# Folder -> GGUF -> folder -> GGUF: the same bytes; names, sizes and types as asked.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o a.gguf --dtype f32; out '^a.gguf: f32, 47 tensors, 19.1[0-9] MiB'
mkdir back # the name of the folder becomes the model's name
t 0 convert a.gguf -o back/tiny --to hf --dtype f32; check [ -f back/tiny/config.json ]; check [ -f back/tiny/tokenizer.json ]
t 0 convert back/tiny -o b.gguf --dtype f32
same a.gguf b.gguf
no_leftovers
t 0 convert "$tiny" -o n.gguf --json
json 'd["schema"] == "halftone.convert/1" and d["dtype"] == "bf16" and d["output"]["container"] == "gguf"'
for dtype in f32 f16 bf16; do
    t 0 convert "$tiny" -o plan.gguf --dtype $dtype --dry-run --json; check [ ! -e plan.gguf ]
    cp .out plan.json
    t 0 convert "$tiny" -o $dtype.gguf --dtype $dtype --json
    json "d['output']['bytes'] == json.load(open('plan.json'))['output']['bytes'] == $(stat -c %s $dtype.gguf)"
    t 0 convert "$tiny" -o one.gguf --dtype $dtype -t 1
    same $dtype.gguf one.gguf
    rm one.gguf
    t 0 inspect $dtype.gguf --json
    json "{'$dtype', 'f32'} >= {f['format'] for f in d['formats']}"
done
# A quantized file decodes to f16 unless told otherwise.
t 0 quantize a.gguf -o q.gguf --format Q8_0
t 0 convert q.gguf -o q-f16.gguf --json; json 'd["dtype"] == "f16"'
# Splits: the first file of a set opens the whole set.
t 0 convert "$tiny" -o s.gguf --dtype f16 --shard-size 3M --json
json 'd["output"]["files"] > 1'
parts=$(ls s-*-of-*.gguf | wc -l)
check [ "$parts" -gt 1 ]
t 0 convert "$(ls s-00001-of-*.gguf)" -o joined --to hf --dtype f16
t 0 convert f16.gguf -o whole --to hf --dtype f16
same joined/model.safetensors whole/model.safetensors
t 0 verify "$(ls s-00001-of-*.gguf)"
rm "$(ls s-00002-of-*.gguf)"
t 4 convert "$(ls s-00001-of-*.gguf)" -o x.gguf; gone x.gguf
t 2 convert "$tiny" -o x --to onnx; err 'gguf\|hf'
# An unknown pre-tokenizer is refused unless named.
cp -rL "$tiny" odd
sed -i 's/"use_regex": *true/"use_regex":false/' odd/tokenizer.json
if cmp -s odd/tokenizer.json "$tiny/tokenizer.json"; then
    fail "tokenizer.json has no use_regex to change"
fi
t 3 convert odd -o odd.gguf; err 'pre'; gone odd.gguf
t 0 convert odd -o odd.gguf --pre gpt-2
t 0 inspect odd.gguf --json; json '"gpt-2" in json.dumps(d)'
t 2 convert odd -o odd2.gguf --pre gpt-22; err 'gpt-2'; gone odd2.gguf
finish
