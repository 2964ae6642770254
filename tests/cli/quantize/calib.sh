# Calibration data: sources, options, what the record says, refusals with their place.
. "$(dirname "$0")/../lib.sh"
q() { local code=$1; shift; t "$code" quantize "$tiny" -o out.gguf --format q4_0 --ctx 64 --force "$@"; }
small_text a.txt 6000
head -c 40000 "$story" | tail -c 6000 >b.txt
printf '{"text": "%s"}\n' "$(head -c 400 "$story" | tr -d '"\\\n\r')" >rows.jsonl
q 0 --calib a.txt --calib b.txt --calib-weights 3,1 --calib-tokens 1024 --json
json '[s["taken"] for s in d["calibration"]["data"]["sources"]] == [12, 4] and d["calibration"]["data"]["sampling"] == "sequential"'
json 'len(d["calibration"]["data"]["sources"][0]["sha256"]) == 64 and "grams" not in d["calibration"]["data"]'
q 0 --calib a.txt --calib rows.jsonl --sampling diverse --seed 3 --calib-tokens 512 -v
err 'a.txt: 1 documents, [0-9]+ tokens, [0-9]+ windows, 6 taken'
cp out.gguf first.gguf
q 0 --calib a.txt --calib rows.jsonl --sampling diverse --seed 3 --calib-tokens 512 --threads 1; same out.gguf first.gguf
q 0 --calib self --calib-tokens 128 --json; json 'd["calibration"]["data"]["sources"][0]["kind"] == "self"'
q 0 --calib a.txt --calib-tokens 999936; err 'shorter than asked: [0-9]+ of 999936 tokens'
q 0 --calib a.txt; not_err 'shorter'
# Evaluation text.
cat b.txt a.txt >both.txt
q 2 --calib both.txt --not-in b.txt; err 'windows .* share 5 % or more .* must stay unseen'
q 2 --calib b.txt --not-in b.txt; err 'must stay unseen'; not_err 'nothing of it was taken' # one reason, the right one
q 0 --calib both.txt --not-in b.txt --drop-overlap --json; json 'd["calibration"]["data"]["sources"][0]["dropped"]["overlap"] > 5'
t 0 eval out.gguf --text a.txt --ctx 64; out 'warning: a.txt: about [0-9]+ % of it is text that the model was calibrated on'
t 0 eval out.gguf --text b.txt --ctx 64; not_out 'calibrated'
# Bad input.
echo '{"txt": 1}' >>rows.jsonl
q 3 --calib rows.jsonl; err 'rows.jsonl: .*line 2: expected'
: >empty.txt
q 2 --calib empty.txt; err 'empty'
head -c 3000 "$tiny/model.safetensors" >binary.txt
q 3 --calib binary.txt; err 'binary file'
q 2 --calib a.txt --calib-weights 1,2; err '2 weights for 1 sources'
q 2 --calib a.txt --sampling best; err 'sequential.random.diverse'
q 2 --calib a.txt --drop-overlap; err 'overlap with what'
q 2 --method rtn --not-in a.txt; err 'give --calib TEXT'
no_leftovers
finish
