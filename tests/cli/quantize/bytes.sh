# The same bytes for any number of threads and any way to name the input.
. "$(dirname "$0")/../lib.sh"
small_text calib.txt 3000
t 0 convert "$tiny" -o f32.gguf --dtype f32
t 0 imatrix collect f32.gguf --text calib.txt -o imat.gguf
for f in Q4_K_M Q8_0 IQ4_XS; do
    for n in 1 2 7; do
        t 0 quantize f32.gguf -o $f-$n.gguf --format $f --imatrix imat.gguf -t $n -q
        no_err
    done
    same $f-1.gguf $f-2.gguf
    same $f-1.gguf $f-7.gguf
done
for n in 1 3; do
    t 0 imatrix collect f32.gguf --text calib.txt -o imat-$n.gguf -t $n
    t 0 quantize f32.gguf -o s$n.gguf --format Q4_0 --shard-size 1M -t $n
done
same imat-1.gguf imat-3.gguf
for part in s1-*.gguf; do same "$part" "s3${part#s1}"; done
check [ "$(ls s1-*.gguf | wc -l)" -gt 1 ]
# Calibration inside quantize equals the two steps.
t 0 quantize f32.gguf -o direct.gguf --format Q4_K_M --calib calib.txt
t 0 eval direct.gguf --text calib.txt --json; cp .out direct.json
t 0 eval Q4_K_M-1.gguf --text calib.txt --json; cp .out two.json
if have python3; then
    check python3 -c 'import json, sys
a, b = (json.load(open(f))["perplexity"]["mean"] for f in ("direct.json", "two.json"))
sys.exit(a != b)'
fi
finish
