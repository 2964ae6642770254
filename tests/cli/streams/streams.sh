# stdout has the result and nothing else; progress, notes and errors go to stderr; colour only where wanted.
. "$(dirname "$0")/../lib.sh"
esc=$(printf '\033')
small_text a.txt 3000
t 0 convert "$tiny" -o m.gguf --dtype f16; not_out "$esc"; not_err "$esc"
t 0 quantize m.gguf -o q.gguf --format Q4_0 --json; json 'd["schema"]'
check [ "$(head -c 1 .out)" = '{' ]
t 0 quantize m.gguf -o q1.gguf --format Q4_0 --json -q; no_err
t 0 inspect m.gguf; not_out "$esc"
t 0 inspect m.gguf --color always; out "$esc"
t 0 inspect m.gguf --color never; not_out "$esc"
export CLICOLOR_FORCE=1
t 0 inspect m.gguf; out "$esc"
t 4 inspect nowhere; err "$esc"
export NO_COLOR=1
t 0 inspect m.gguf; not_out "$esc"
t 4 inspect nowhere; not_err "$esc"
t 0 inspect m.gguf --color always; out "$esc"
unset CLICOLOR_FORCE NO_COLOR
t 4 inspect nowhere -q; err '^halftone: error: '; no_out
t 4 inspect nowhere --json; err '^halftone: error: '
# A terminal: progress is drawn there, never on stdout. Bare containers may have no pseudo terminals.
if have script && script -qec true /dev/null >/dev/null 2>&1; then
    last='progress on a terminal'
    script -qec "$HALFTONE eval m.gguf --text a.txt --json 2>progress >result" /dev/null >/dev/null 2>&1
    cp result .out
    json 'd["schema"] == "halftone.eval/1"'
    script -qec "stty cols 100; $HALFTONE eval m.gguf --text $story --tokens 6144 -t 1 >result" /dev/null >terminal 2>&1
    check grep -q 'evaluate  *\[#*\.*\]' terminal
    check [ "$(grep -c 'evaluate  *\[' result)" -eq 0 ]
    NO_COLOR=1 script -qec "$HALFTONE inspect m.gguf" /dev/null >terminal 2>&1
    check [ "$(grep -c "$esc\[1m" terminal)" -eq 0 ]
    script -qec "$HALFTONE inspect m.gguf" /dev/null >terminal 2>&1
    check grep -q "$esc\[1m" terminal
    TERM=dumb script -qec "$HALFTONE inspect m.gguf" /dev/null >terminal 2>&1
    check [ "$(grep -c "$esc" terminal)" -eq 0 ]
fi
last='stdout is full'
if [ -e /dev/full ]; then
    for args in 'inspect m.gguf' --help 'help eval' 'eval --help' --version 'completion bash'; do
        # shellcheck disable=SC2086
        "$HALFTONE" $args >/dev/full 2>.err
        check [ $? -eq 7 ]
        err 'standard output: cannot write.*No space left on device'
    done
fi
finish
