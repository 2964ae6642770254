# Inputs that are shifted at run time: weights alone are another model where the model's bias makes up for it.   ht-suite: long
. "$(dirname "$0")/../lib.sh"
have python3 || skip "python3 makes the model with biases"
mkdir biased
cp "$tiny"/*.json biased
sed -i 's/"attention_bias": false/"attention_bias": true/' biased/config.json
python3 - "$tiny/model.safetensors" biased/model.safetensors <<'PY'
import json, struct, sys
d = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", d[:8])[0]
h, body, extra = json.loads(d[8:8 + n]), d[8 + n:], b""
for k in [k for k in h if k.endswith("proj.weight") and "self_attn" in k]:
    rows, at = h[k]["shape"][0], len(body) + len(extra)
    h[k.replace("weight", "bias")] = {"dtype": "BF16", "shape": [rows], "data_offsets": [at, at + 2 * rows]}
    extra += struct.pack("<%dH" % rows, *[0x3c00 + i % 64 for i in range(rows)])
text = json.dumps(h).encode()
text += b" " * (-len(text) % 8)
open(sys.argv[2], "wb").write(struct.pack("<Q", len(text)) + text + body + extra)
PY
t 0 quantize biased -o shifted --method os+ --calib "$story" --calib-tokens 512 --ctx 128
t 0 eval shifted --reference biased --text "$story" --tokens 512 --ctx 128 --fail-if-kld 0.01
t 3 convert shifted -o plain; err 'q_proj.weight: its inputs are shifted at run time and the model.s bias makes up for it'; gone plain
t 3 quantize shifted -o plain.gguf --format q8_0 --allow-requantize; err 'shifted at run time'; gone plain.gguf
# Without a bias to go into, what makes up for the shift stands beside the weights, and both are left out together.
t 0 quantize "$tiny" -o apart --method os+ --calib "$story" --calib-tokens 512 --ctx 128
t 0 convert apart -o plain; err 'left out'
t 0 eval plain --reference "$tiny" --text "$story" --tokens 512 --ctx 128 --fail-if-kld 0.01
finish
