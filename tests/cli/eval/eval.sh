# Perplexity, divergence, intervals, several texts, the gate.
. "$(dirname "$0")/../lib.sh"
small_text a.txt 5000
tail -c 5000 "$story" >b.txt
t 0 convert "$tiny" -o f32.gguf --dtype f32
t 0 quantize f32.gguf -o q2.gguf --format Q2_K
t 0 eval f32.gguf --text a.txt; out 'perplexity \[95 %\]'; out 'windows of 512 tokens'
t 0 eval f32.gguf --text a.txt --json; no_err
json 'd["schema"] == "halftone.eval/1" and d["perplexity"]["low"] <= d["perplexity"]["mean"] <= d["perplexity"]["high"]'
json '"kld" not in d or d["kld"] is None'
cp .out first; t 0 eval f32.gguf --text a.txt --json -t 1
if have python3; then # speed aside, the same numbers for any number of threads
    json '(lambda a: all(a[k] == d[k] for k in ("perplexity", "tokens_scored", "windows")))(json.load(open("first")))'
fi
t 0 eval q2.gguf --reference f32.gguf --text a.txt --text b.txt --json
json 'len(d["texts"]) == 2 and d["kld"]["mean"] > 0.001 and d["kld"]["max"] >= d["kld"]["p99"] >= d["kld"]["mean"]'
json 'd["kld"]["low"] <= d["kld"]["mean"] <= d["kld"]["high"] and 0 < d["same_top"]["mean"] < 1'
json 'sum(x["tokens_scored"] for x in d["texts"]) == d["tokens_scored"]'
t 0 eval q2.gguf -r f32.gguf --text a.txt --text b.txt; out '^a.txt'; out '^b.txt'; out '^all'
# Against itself nothing is lost.
t 0 eval f32.gguf --reference f32.gguf --text a.txt --exact --json
json 'abs(d["kld"]["mean"]) < 1e-9 and d["same_top"]["mean"] == 1'
t 0 eval "$tiny" --reference f32.gguf --text a.txt --exact --tokens 1024 --windows all --json
json 'abs(d["kld"]["mean"]) < 1e-9 and d["tokens_scored"] > 1000'
t 0 eval q2.gguf -r f32.gguf --text a.txt --fail-if-kld 100
t 9 eval q2.gguf -r f32.gguf --text a.txt --fail-if-kld 0.0001; err 'diverg|KL'; out 'a.txt'
t 9 eval q2.gguf -r f32.gguf --text a.txt --fail-if-kld 0.0001 --json; json 'd["kld"]["mean"] > 0.0001'
for ctx in 0 1 2 3; do
    t 2 eval f32.gguf --text a.txt --ctx $ctx; err "a window of $ctx tokens: 4 to"
done
t 2 eval f32.gguf --text a.txt --ctx 100000; err 'window'
finish
