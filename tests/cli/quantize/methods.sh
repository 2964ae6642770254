# Every method that is listed quantizes the tiny model, to a file that is sound and close to it.   ht-suite: long
. "$(dirname "$0")/../lib.sh"
head -c 60000 "$story" >calib.txt
tail -c 40000 "$root/models/text/northanger-abbey.txt" >text.txt
for m in $("$HALFTONE" list methods --json | python3 -c 'import json, sys; print(*(r["name"] for r in json.load(sys.stdin)))'); do
    t 0 show "$m"
    args=()
    grep -q '^needs: nothing' .out || args=(--calib calib.txt --calib-tokens 512 --ctx 128)
    grep -q 'leaves to the run time: nothing' .out || { t 3 quantize "$tiny" -o "$m.gguf" --method "$m" "${args[@]}"; err 'halftone folder|no type for that'; }
    output=$m
    "$HALFTONE" show "$m" --yaml | grep -q 'format: "[a-z0-9_]*:' || output=$m.gguf
    t 0 quantize "$tiny" -o "$output" --method "$m" "${args[@]}" --json
    json 'd["method"] == "'"$m"'" and d["recipe"].startswith("name: ")'
    gone "$output.work"
    t 0 verify "$output"
    t 0 eval "$output" --reference "$tiny" --text text.txt --ctx 128 --tokens 1024 --json
    most=0.2
    [ "$m" != sparse-2-4 ] || most=0.6 # half of the weights are gone
    json "0 < d['kld']['mean'] < $most"
done
finish
