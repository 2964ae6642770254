# ht-suite: long
# Memory does not grow with the number of tokens under --memory: hidden states lie in a file, also while embeddings
# are rounded (a BF16 model whose embedding becomes F16) or rotated (quarot).
. "$(dirname "$0")/../lib.sh"
calib="--calib $root/models/text/northanger-abbey.txt --ctx 256 -t 1"
for how in '--method percentile' '--method quarot'; do
    for tokens in 2048 24576; do # 2 and 24 MiB
        t 0 quantize "$tiny" -o out $how $calib --calib-tokens $tokens --memory 20M --json --force --no-record
        json 'd["calibration"]["hidden_states_in_file"]'
        peak=$(sed -n 's/.*"peak_rss_bytes": \([0-9]*\).*/\1/p' "$tmp/.out")
        [ "$tokens" = 2048 ] && small=$peak
    done
    [ "$peak" -lt $((small + (8 << 20))) ] || fail "$how: $peak bytes at the peak with 24,576 tokens, $small with 2,048"
done
finish
