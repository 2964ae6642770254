# Speed: every figure is there and hangs together; what is left out is left out; bad options are refused.
. "$(dirname "$0")/../lib.sh"
t 0 quantize "$tiny" -o q8.gguf --format q8_0 -q
t 0 quantize "$tiny" -o q4.gguf --format q4_0 -q
t 0 bench q8.gguf -p 32 -n 8 -r 2 --threads 1,2 -q --json; no_err
json 'd["schema"] == "halftone.bench/1" and d["prompt"] == 32 and d["gen"] == 8 and d["repeat"] == 2'
json 'd["machine"]["cpus"] >= 1 and d["machine"]["read_test_bytes"] > 0'
json '[r["threads"] for r in d["models"][0]["runs"]] == [1, 2]'
json 'all(r[k]["low"] <= r[k]["median"] <= r[k]["high"] and len(r[k]["rounds"]) == 2 and r[k]["low"] > 0
          for r in d["models"][0]["runs"] for k in ("read_bytes_per_s", "gemm_f32_flops", "gemm_int8_flops", "ttft_s",
          "prefill_tokens_per_s", "prefill_gemm_share", "decode_tokens_per_s", "decode_read_share", "cpu_share"))'
json 'all(abs(r[k]["median"] / __import__("statistics").median(r[k]["rounds"]) - 1) < 1e-9 and r[k]["low"] == min(r[k]["rounds"]) and
          r[k]["high"] == max(r[k]["rounds"]) for r in d["models"][0]["runs"] for k in r if k != "threads")'
# Tokens per second and seconds are one measurement; bytes per second are tokens per second times bytes.
json 'all(abs(p * s / 32 - 1) < 1e-9 for r in d["models"][0]["runs"]
          for p, s in zip(sorted(r["prefill_tokens_per_s"]["rounds"]), sorted(r["ttft_s"]["rounds"], reverse=True)))'
json 'all(abs(b / t / d["models"][0]["per_token"]["weight_bytes"] - 1) < 1e-9 for r in d["models"][0]["runs"]
          for b, t in zip(r["decode_bytes_per_s"]["rounds"], r["decode_tokens_per_s"]["rounds"]))'
cp .out bench.json
# What a decode step reads: every matrix once (here the embedding is the output, too), and little else.
t 0 inspect q8.gguf --json; cp .out inspect.json
if have python3; then
    check python3 -c '
import json
b = json.load(open("bench.json"))["models"][0]
i = json.load(open("inspect.json"))
matrices = sum(t["bytes"] for t in i["tensors"] if len(t["shape"]) > 1)
vectors = sum(t["bytes"] for t in i["tensors"] if len(t["shape"]) == 1)
row = next(t["bytes"] / max(t["shape"]) for t in i["tensors"] if t["name"] == "token_embd.weight")
untied = any(t["name"] == "output.weight" for t in i["tensors"])
embedding = next(t["bytes"] for t in i["tensors"] if t["name"] == "token_embd.weight") if untied else 0
want = matrices - embedding + vectors + row
assert b["per_token"]["weight_bytes"] == want, (b["per_token"], want)
assert b["file_bytes"] == __import__("os").path.getsize("q8.gguf")
assert b["memory"]["own_bytes"] > 0 and b["memory"]["peak_bytes"] > 0
'
fi
# Two models, tables for people and for pages.
t 0 bench q8.gguf q4.gguf -p 16 -n 4 -r 1 -t 1 -q; out '^q8.gguf +1 '; out '^q4.gguf +1 '; out 'of memory, %'; out 'median \(lowest-highest\) of 1 rounds'
t 0 bench q8.gguf -p 16 -n 4 -r 1 -t 1 --markdown -q; out '^\| q8.gguf \| 1 \|'; out '^\|---\|---:\|'
t 0 bench q8.gguf -p 4 -n 0 -r 1 -t 1 -q --json; json '"decode_tokens_per_s" not in d["models"][0]["runs"][0] and d["models"][0]["runs"][0]["ttft_s"]["median"] > 0'
t 0 bench q8.gguf -p 0 -n 4 --depth 8 -r 1 -t 1 --exact -q --json
json '"ttft_s" not in d["models"][0]["runs"][0] and d["models"][0]["runs"][0]["decode_tokens_per_s"]["median"] > 0'
json 'd["math"] == "exact" and d["depth"] == 8 and d["models"][0]["per_token"]["cache_bytes"] > 0'
t 0 bench --help; check [ "$(grep -c -- '--threads' .out)" -eq 2 ] # one option and one example
t 2 bench; err 'usage'
t 2 bench q8.gguf --threads 1,x; err "found '1,x'"; t 2 bench q8.gguf --threads 1,,2
t 2 bench q8.gguf --threads 0; err 'threads'
t 2 bench q8.gguf --threads 1,2,; err 'threads'
t 2 bench q8.gguf -p 0 -n 0; err 'nothing would be measured'
t 2 bench q8.gguf -r 0; err 'rounds'
t 3 bench q8.gguf -p 4000000000; err 'positions'
t 4 bench nothing.gguf; err 'nothing.gguf'
head -c 5000 q8.gguf >cut.gguf
t 3 bench q8.gguf cut.gguf -p 4 -n 1 -r 1 -t 1; err 'cut.gguf'; no_out
finish
