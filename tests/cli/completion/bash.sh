# The bash completion: valid syntax, and the words that a user sees at the tab key.
. "$(dirname "$0")/../lib.sh"
t 0 completion bash; no_err
check bash -n .out
cp .out completion.bash
mkdir bin && ln -s "$HALFTONE" bin/halftone && export PATH=$tmp/bin:$PATH
# complete WORD...: the replies for the last word
words() {
    bash -c 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _halftone; printf "%s\n" "${COMPREPLY[@]}"' \
        x "$tmp/completion.bash" "$@" >.out 2>.err
    last="complete $*"
    no_err
}
one() { grep -qxF -- "$1" .out || fail "no reply $1"; }
words halftone ''
for c in $(commands); do one "$c"; done
words halftone qu; one quantize; check [ "$(wc -l <.out)" -eq 1 ]
words halftone quantize --for; one --format; one --force
words halftone quantize m --format Q4_K_; one Q4_K_M; one Q4_K_S
words halftone quantize m --format iq4; one iq4_nl
words halftone convert m --dtype ''; one f32; one bf16
words halftone quantize m --color ''; one never
words halftone list ''; one presets
words halftone completion ''; one zsh
touch some-model.gguf
words halftone inspect some; one some-model.gguf
words halftone imatrix me; one merge
finish
