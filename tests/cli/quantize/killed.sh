# kill -9 at many moments: nothing under the final name, the next run works and sweeps what was left.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o in.gguf --dtype f32
sum=$(cksum <in.gguf)
t 0 quantize in.gguf -o whole.gguf --format IQ4_NL -t 1
ms() { echo $(($(date +%s%N) / 1000000)); }
start=$(ms)
t 0 quantize in.gguf -o time.gguf --format IQ4_NL -t 1
took=$(($(ms) - start + 1))
killed=0 left=0
RANDOM=17
for i in $(seq 14); do
    "$HALFTONE" quantize in.gguf -o out.gguf --format IQ4_NL -t 1 -q >/dev/null 2>&1 &
    pid=$!
    sleep "$(printf '%d.%03d' 0 $((RANDOM * took / 32768 % 1000)))"
    { kill -9 $pid && wait $pid; } 2>/dev/null
    last="kill -9 number $i"
    if [ -e out.gguf ]; then
        same out.gguf whole.gguf # it was finished already
        rm out.gguf
    else
        killed=$((killed + 1))
        [ -z "$(find . -name '.*.part')" ] || left=$((left + 1))
    fi
done
echo "killed $killed, temporary file left $left times"
check [ "$killed" -ge 5 ]
check [ "$left" -ge 1 ]
t 0 quantize in.gguf -o out.gguf --format IQ4_NL
same out.gguf whole.gguf
no_leftovers
check [ "$(cksum <in.gguf)" = "$sum" ]
finish
