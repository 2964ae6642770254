# What is in a file, for people and as JSON, whatever the container.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o m.gguf --dtype f16
t 0 quantize m.gguf -o q.gguf --format Q4_K_M
for m in m.gguf q.gguf "$tiny" "$tiny/model.safetensors"; do
    t 0 inspect "$m"; no_err; out 'bits per weight'
    t 0 inspect "$m" --json; no_err
    json 'd["schema"] == "halftone.inspect/1" and len(d["tensors"]) == 47 and d["weights"] > 4900000'
    json 'sum(f["tensors"] for f in d["formats"]) == 47'
    json 'all(x["name"] and x["format"] and x["shape"] for x in d["tensors"])'
done
t 0 inspect q.gguf; not_out 'blk.4.ffn_up.weight'; not_out 'tokenizer.ggml.tokens '
t 0 inspect q.gguf --tensors; out 'blk.4.ffn_up.weight +ffn_up +q4_k'
t 0 inspect q.gguf --metadata; out 'general.architecture +"llama"'; out 'tokenizer.ggml.pre +"gpt-2"'
t 0 inspect q.gguf --json; json 'd["quantized"] is True'
t 0 inspect m.gguf --json; json 'd["quantized"] is False'
finish
