# The record beside the output: the same JSON as on stdout, and a page; --no-record, --dry-run; a place that cannot be written.   ht-suite: long
. "$(dirname "$0")/../lib.sh"
t 0 quantize "$tiny" -o a.gguf --format q4_0 --json
json 'd["record_files"] == ["a.gguf.record.json", "a.gguf.record.html"]'
check cmp -s .out a.gguf.record.json
check grep -q '<title>a.gguf, rtn</title>' a.gguf.record.html
t 0 report a.gguf.record.json -o again.html
# A folder's stand beside it, also with a slash behind its name.
t 0 quantize "$tiny" -o b/ --method gptq --format int4:g64 --calib "$story" --calib-tokens 256 --ctx 64
out 'record: b.record.json and b.record.html beside it'
check [ -s b.record.json ]
check grep -q '35 matrices, one after the other: squared error of their outputs 0\.' b.record.html
check grep -q 'outputs against rounding to nearest' b.record.html
check [ "$(find b -name '*record*' | wc -l)" = 0 ]
# The settings on the page: which texts, which share of them, how chosen; the recipe with what was asked for in its place.
page() { check grep -qE -- "$1" s.record.html; }
t 0 quantize "$tiny" -o s --method gptq --format int4:g64 --calib "$story" --calib "$root/models/text/northanger-abbey.txt" \
    --calib-weights 3,1 --sampling random --calib-tokens 512 --ctx 64 --embd q8_0 --json
json 'd["overrides"] == {"embd": "q8_0"} and "{tokens: 512, window: 64," in d["recipe"]'
page '<i>sampling</i> <bdi>random</bdi>'
page "<bdi>persuasion.txt</bdi></span> <span><i>share</i> 3 of 4</span> <span><i>windows</i> 6 of [0-9]+"
page 'northanger-abbey.txt</bdi></span> <span><i>share</i> 1 of 4</span> <span><i>windows</i> 2 of'
page "<i>sha256</i> <bdi>$(sha256sum <"$story" | cut -c1-64)"
page '<b>overrides</b> <span><i>embd</i> <bdi>q8_0'
t 0 verify b
t 0 quantize "$tiny" -o c.gguf --format q4_0 --no-record
not_out record
check [ ! -e c.gguf.record.json ]
# A record is of the output beside it, or of none: an earlier one goes; what is no record stays.
t 0 quantize "$tiny" -o a.gguf --format q5_0 --force --no-record
err 'a.gguf.record.json was the record of an earlier output: removed'
check [ ! -e a.gguf.record.json -a ! -e a.gguf.record.html ]
echo '{"schema": "mine"}' >c.gguf.record.json
t 0 quantize "$tiny" -o c.gguf --format q5_0 --force --no-record
not_err 'record'
check grep -q mine c.gguf.record.json
t 0 quantize "$tiny" -o d.gguf --format q4_0
t 0 quantize "$tiny" -o d.gguf --format q5_0 --dry-run --no-record
check [ -e d.gguf.record.json ]
rm d.gguf*
t 0 quantize "$tiny" -o d.gguf --format q4_0 --dry-run
check [ ! -e d.gguf.record.json ]
# The output stands, whatever becomes of its record.
mkdir e.gguf.record.json
t 0 quantize "$tiny" -o e.gguf --format q4_0
err 'the output is complete, but its record could not be written'
not_out '^record:'
echo precious >f.gguf.record.json
t 0 quantize "$tiny" -o f.gguf --format q4_0
err 'it exists and is no record'
check [ "$(cat f.gguf.record.json)" = precious ]
rm f.gguf
t 0 quantize "$tiny" -o f.gguf --format q4_0 --force
check grep -q halftone.quantize f.gguf.record.json
rm f.gguf
t 0 quantize "$tiny" -o f.gguf --format q5_0
check grep -q q5_0 f.gguf.record.json
t 0 verify e.gguf
t 0 quantize "$tiny" --method smoothquant --calib "$story" --dry-run
out 'would write tiny-quantized'
finish
