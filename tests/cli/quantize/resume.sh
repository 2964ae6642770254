# kill -9 at many moments: each run goes on behind the last finished layer, to the bytes of a run in one go.
. "$(dirname "$0")/../lib.sh"
ms() { echo $(($(date +%s%N) / 1000000)); }
args=(--format int4:g64 --method gptq --calib "$story" --calib-tokens 256 --ctx 64 -t 1 -q)
start=$(ms)
t 0 quantize "$tiny" -o whole "${args[@]}"
took=$(($(ms) - start + 1))
killed=0 left=0
RANDOM=5
for i in $(seq 8); do
    "$HALFTONE" quantize "$tiny" -o out "${args[@]}" >/dev/null 2>&1 &
    pid=$!
    wait_ms=$((RANDOM * took / 32768))
    sleep "$(printf '%d.%03d' $((wait_ms / 1000)) $((wait_ms % 1000)))"
    { kill -9 $pid && wait $pid; } 2>/dev/null
    [ -e out ] && break
    killed=$((killed + 1))
    [ ! -s out.work ] || left=$((left + 1))
done
last="killed $killed times, a work file left $left times"
check [ "$killed" -ge 1 ]
check [ "$left" -ge 1 ]
[ -e out ] || t 0 quantize "$tiny" -o out "${args[@]}" -v
gone out.work
same out/model.safetensors whole/model.safetensors
same out/config.json whole/config.json
# Killed behind the first layer: what is taken over is said. Another job does not go on from it, and --restart never does.
killed_behind() { # NAME BYTES
    "$HALFTONE" quantize "$tiny" -o "$1" "${args[@]}" >/dev/null 2>&1 &
    pid=$!
    until [ -s "$1.work" ] && [ "$(stat -c %s "$1.work")" -gt "$2" ]; do sleep 0.02; kill -0 $pid 2>/dev/null || break; done
    { kill -9 $pid && wait $pid; } 2>/dev/null
    [ ! -e "$1" ]
}
if killed_behind one 600000; then # a layer has 412,928 bytes
    t 0 quantize "$tiny" -o one "${args[@]/-q/--json}"
    json '1 <= d["resumed"]["layers"] < 5 and d["resumed"]["of"] == 5 and d["warnings"] == []'
    rm -r one
fi
if killed_behind one 600000; then
    t 0 quantize "$tiny" -o one "${args[@]/-q/--no-record}"
    out '^[1-4] of 5 layers were taken over from the work file'
fi
killed_behind two 100000
t 0 quantize "$tiny" -o two --format int4:g32 --method gptq --calib "$story" --calib-tokens 256 --ctx 64 -t 1
not_out 'taken over'
err 'the work file beside two was of another job'
t 0 quantize "$tiny" -o three --format int4:g32 --method gptq --calib "$story" --calib-tokens 256 --ctx 64 -t 2 --restart -q
same two/model.safetensors three/model.safetensors
# A file that is none of this program's own is no work file, and stays.
echo precious >four.work
t 2 quantize "$tiny" -o four "${args[@]}"
err 'four.work: .*no work file'
check [ "$(cat four.work)" = precious -a ! -e four ]
finish
