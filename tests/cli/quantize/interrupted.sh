# SIGINT and SIGTERM: 128 + signal, a word about it, nothing left behind.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o in.gguf --dtype f32
interrupt() { # SIGNAL CODE DELAY ARGUMENT...
    local sig=$1 code=$2 delay=$3
    shift 3
    last="$sig after $delay: halftone $*"
    # A shell without job control ignores SIGINT in its background jobs; env gives it back.
    env --default-signal=INT "$HALFTONE" "$@" >.out 2>.err </dev/null &
    local pid=$!
    until [ "$(readlink /proc/$pid/exe)" = "$(readlink -f "$HALFTONE")" ] || ! kill -0 $pid; do
        sleep 0.01
    done 2>/dev/null
    sleep "$delay"
    kill -"$sig" $pid 2>/dev/null
    wait $pid
    rc=$?
    [ $rc -eq 0 ] && return 1 # it was done before the signal came
    [ $rc -eq "$code" ] || fail "exit code $rc, expected $code"
    err 'signal|nothing was left'
    no_leftovers
}
env --default-signal=INT true 2>/dev/null || skip "env has no --default-signal"
head -c 400000 "$story" >long.txt
stopped=0
for delay in 0.03 0.06 0.1; do
    for sig in INT:130 TERM:143; do
        if interrupt ${sig%:*} ${sig#*:} $delay quantize in.gguf -o out.gguf --format IQ4_XS -t 1 --calib long.txt; then
            stopped=$((stopped + 1))
        fi
        [ $rc -eq 0 ] || gone out.gguf
        rm -f out.gguf
    done
done
check [ "$stopped" -ge 4 ]
interrupt INT 130 0.3 eval in.gguf --text long.txt -t 1 || fail "eval was too quick for a signal"
no_out
interrupt INT 130 0.3 imatrix collect in.gguf --text long.txt -o i.gguf -t 1 || fail "imatrix was too quick"
gone i.gguf
# A prompt that takes seconds to read: tens of thousands of tokens.
text=$(head -c 100000 "$story")
interrupt INT 130 0.3 run in.gguf -p "$text" -n 1 -t 1 --ctx 60000 || fail "the prompt was read too quickly"
no_out
finish
