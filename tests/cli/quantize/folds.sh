# Scales that were folded into norms reach the output from either container: norms of a GGUF file are f32 already.
. "$(dirname "$0")/../lib.sh"
head -c 20000 "$story" >calib.txt
tail -c 20000 "$root/models/text/northanger-abbey.txt" >text.txt
t 0 convert "$tiny" -o f16.gguf --dtype f16
for input in "$tiny" f16.gguf; do
    rm -rf out
    t 0 quantize "$input" -o out --method smoothquant --calib calib.txt --calib-tokens 512 --ctx 128
    t 0 eval out --reference "$tiny" --text text.txt --ctx 128 --tokens 1024 --json
    json '0 < d["kld"]["mean"] < 0.02'
done
finish
