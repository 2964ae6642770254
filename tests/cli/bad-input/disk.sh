# A full disk: exit code 7, nothing under the final name, the input as it was.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o in.gguf --dtype f16
sum=$(cksum <in.gguf)
tested=0
full() { # FOLDER
    t 7 quantize in.gguf -o "$1/x.gguf" --format Q8_0; no_out; err 'x.gguf: '; gone "$1/x.gguf"
    t 7 convert in.gguf -o "$1/x.gguf" --dtype f32; gone "$1/x.gguf"
    t 7 convert in.gguf -o "$1/hf" --to hf; check [ ! -e "$1/hf" ]
    t 7 quantize in.gguf -o "$1/y" --method rtn --format int4:g64; check [ -z "$(ls -A "$1")" ]
    t 7 quantize in.gguf -o "$1/x.gguf" --format Q8_0 --shard-size 500k; check [ -z "$(ls -A "$1")" ]
    tested=$((tested + 1))
}
mkdir small
if mount -t tmpfs -o size=1m none small 2>/dev/null; then
    cleanup() { umount "$tmp/small"; }
    full small
    # Disk full behind the first bytes: standard output is a file there.
    last="inspect --json onto a full disk"
    head -c 1048576 /dev/zero >small/filler 2>/dev/null
    "$HALFTONE" inspect in.gguf --json >small/out 2>.err
    check [ $? -ne 0 ]
    err 'standard output: cannot write: No space'
    umount small
    # Room for the output, and not for the work file beside it: said before any work.
    mount -t tmpfs -o size=5m none small
    t 7 quantize in.gguf -o small/y --method rtn --format int4:g64; err 'the work file beside it'; check [ -z "$(ls -A small)" ]
    umount small
    cleanup() { :; }
fi
# A limit on the size of files, in kilobytes: the file system would have room.
mkdir limited
(ulimit -f 1000 && t 7 quantize in.gguf -o limited/x.gguf --format Q8_0 && exit $failures) || fail "ulimit -f"
gone limited/x.gguf
(ulimit -f 1000 && t 7 convert in.gguf -o limited/hf --to hf && exit $failures) || fail "ulimit -f, folder"
check [ -z "$(ls -A limited)" ]
# Layer by layer: what is finished stays, that is said, and the same command goes on when there is room. A layer has
# 412,928 bytes of codes; the embedding alone does not fit the output's file.
codes=(--method rtn --format int4:g64 --json)
(ulimit -f 1000 && t 7 quantize in.gguf -o limited/codes "${codes[@]}" && err 'limited/codes.work: cannot write' &&
    err '[12] of 5 layers are finished and stay in the work file' && exit $failures) || fail "ulimit -f, codes"
t 0 quantize in.gguf -o limited/codes "${codes[@]}"
json 'd["resumed"]["layers"] >= 1 and d["resumed"]["of"] == 5'
rm -r limited/codes
check [ "$(cksum <in.gguf)" = "$sum" ]
[ $tested -gt 0 ] || echo "no tmpfs mount here: only the size limit was tested"
finish
