# What formats would do to a model: tables, JSON, figure, page; the same for any number of threads.
. "$(dirname "$0")/../lib.sh"
t 0 inspect "$tiny" --errors --rows 8
out '^tiny: llama, 36 weight matrices, 288 of 16896 rows measured'
out '^format +range +bits/weight +error +SNR +above bound'
out '^q4_k +4.5000 '; out '^int8:tensor +entropy +8.0'; out '^int4:g128 +mse +4.1'
out 'Signal-to-noise ratio by role'; out 'ffn_down'; not_out 'down_proj'
t 0 inspect "$tiny" --errors --format q8_0,q4_0 --format int8:channel --range minmax --rows 8 --tensors
out 'model.layers.0.mlp.down_proj.weight +ffn_down'
t 0 inspect "$tiny" --errors --format q8_0,q4_0 --format int8:channel --range minmax --range mse --rows 8 --json --threads 1
no_err
cp .out one
json 'd["schema"] == "halftone.errors/1" and d["architecture"] == "llama" and d["quantized"] is False'
json '[(f["format"], f["range"]) for f in d["formats"]] == [("q8_0", None), ("q4_0", None), ("int8:channel", "minmax"), ("int8:channel", "mse")]'
json 'all(len(x["errors"]) == 4 and x["rows_measured"] == 8 for x in d["tensors"])'
json 'all(44 < f["mean_snr_db"] < 48 for f in d["formats"] if f["format"] == "q8_0")'
json 'all(abs(e["model_ratio"] - 1) < 0.1 for x in d["tensors"] for e in x["errors"] if e["range"] == "minmax")'
t 0 inspect "$tiny" --errors --format q8_0,q4_0 --format int8:channel --range minmax --range mse --rows 8 --json --threads 3
same .out one

t 0 inspect "$tiny" --errors --rows 2 -o e.svg; err 'wrote e.svg'
t 0 inspect "$tiny" --errors --rows 2 -o e.html
for f in e.svg e.html; do
    check grep -q 'Shannon bound' "$f"
    check grep -q 'bits per weight, scales included' "$f"
    not_grep=$(grep -cE 'https?://' "$f" || true)
    [ "$f" = e.svg ] || [ "$not_grep" -eq 0 ] || fail "$f refers to the network"
done
if have python3; then
    python3 -c 'import xml.dom.minidom as m; m.parse("e.svg")' || fail "e.svg is no XML"
    # No label of the figure lies on another: boxes from their anchors and lengths.
    python3 - <<'PY' || fail "labels of e.svg overlap"
import re
text = open("e.svg", encoding="utf-8").read()
boxes = []
for x, y, s in re.findall(r'<text class="l" x="([\d.]+)" y="([\d.]+)" text-anchor="middle">([^<]*)</text>', text):
    w = 5.6 * len(s)
    boxes.append((float(x) - w / 2, float(y) - 9, float(x) + w / 2, float(y) + 1, s))
assert len(boxes) > 20
for i, a in enumerate(boxes):
    for b in boxes[:i]:
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a[4], b[4])
PY
fi
t 2 inspect "$tiny" --errors --rows 2 -o e.svg; err 'e.svg'
t 0 inspect "$tiny" --errors --format q8_0 --rows 2 -o e.svg --force
t 2 inspect "$tiny" --errors --format int4; err 'int4:g64'
t 2 inspect "$tiny" --errors --format q4_k --range wmse --rows 1 -o x.pdf; err '.svg'
t 2 inspect "$tiny" --errors --format int4:g64 --range percentile:40; err 'from 50 to 100'
t 2 inspect "$tiny" --format q4_k; err '--errors'
t 4 inspect no-such --errors
t 0 quantize "$tiny" -o q.gguf --format Q4_0
t 0 inspect q.gguf --errors --format q8_0 --rows 4; out 'quantized already'
finish
