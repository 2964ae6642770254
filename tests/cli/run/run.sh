# Text generation: the prompt comes back, greedy repeats, JSON, chat, stdin.
. "$(dirname "$0")/../lib.sh"
t 0 convert "$tiny" -o m.gguf --dtype f16
t 0 run m.gguf -p 'She walked' -n 16 --temp 0; out '^She walked.+'; err 'prompt [0-9]+ tokens.*generated [0-9]+ tokens'
cp .out greedy
t 0 run m.gguf -p 'She walked' -n 16 --temp 0 -t 1 -q; no_err; same .out greedy
t 0 run "$tiny" -p 'She walked' -n 4 --temp 0 -q; out '^She walked'
t 0 run m.gguf -p 'She walked' -n 16 --seed 3 -q; cp .out a
t 0 run m.gguf -p 'She walked' -n 16 --seed 3 -q; same .out a
t 0 run m.gguf -p 'She walked' -n 16 --seed 4 -q; check [ "$(cksum <a)" != "$(cksum <.out)" ]
t 0 run m.gguf -p 'She walked' -n 8 --ignore-eos --json; no_err
json 'd["schema"] == "halftone.run/1" and d["tokens"] == 8 and d["prompt_tokens"] > 0 and isinstance(d["text"], str)'
json 'd["decode_tokens_per_s"] > 0 and d["prefill_tokens_per_s"] > 0'
t 0 run m.gguf -p 'x' -n 0 --json; json 'd["tokens"] == 0 and d["text"] == ""'
cp -rL "$tiny" chat && chatml chat/tokenizer_config.json
t 0 convert chat -o c.gguf
t 3 run m.gguf --chat -p Hello; err "chat-format.*chatml"
t 0 run m.gguf --chat --chat-format chatml -p Hello -n 4 -q
t 0 run c.gguf --chat -p 'Hello' -n 4 --temp 0 -q
t 2 run m.gguf --chat --chat-format chatnl -p Hi; err 'chatml'
last='prompt from standard input'
echo 'It was a' | "$HALFTONE" run m.gguf -p - -n 4 --temp 0 -q >.out 2>.err
check [ $? -eq 0 ]
out '^It was a'
last='two turns'
printf 'Hello\nAnd you?\n' | "$HALFTONE" run c.gguf --chat -n 4 --temp 0 >.out 2>.err
check [ $? -eq 0 ]
check [ "$(grep -c 'tokens/s' .err)" -ge 2 ]
# What is refused prints nothing.
for bad in '--top-p 2' '--temp=-1' '--min-p 7'; do
    # shellcheck disable=SC2086
    t 2 run m.gguf -p 'She walked' -n 4 $bad; no_out; err 'expected 0 to'
done
# Beyond the context: a message, not a crash.
head -c 6000 "$story" >long
last='a prompt that is too long'
"$HALFTONE" run m.gguf -p - -n 4 <long >.out 2>.err
rc=$?
check [ $rc -eq 2 -o $rc -eq 3 ]
err 'ctx|context|positions'
no_out
last='output into a closed pipe'
"$HALFTONE" list presets 2>/dev/null | head -n 1 >/dev/null
check [ "${PIPESTATUS[0]}" -ne 139 ]
finish
