# Sourced by every script here: a folder of its own, the last run's output, checks that count.
# shellcheck shell=bash disable=SC2034
set -u
: "${HALFTONE:?HALFTONE names the program}"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
tiny=$root/models/tiny
story=$root/models/text/persuasion.txt
unset NO_COLOR CLICOLOR_FORCE HT_CPU
export LC_ALL=C TERM=xterm
tmp=$(mktemp -d)
cleanup() { :; } # scripts override it
trap 'cleanup; rm -rf "$tmp"' EXIT
cd "$tmp" || exit 2
failures=0

fail() {
    echo "FAILED: $* (line ${BASH_LINENO[1]})"
    echo "   after: ${last:-nothing}"
    [ ! -f "$tmp/.out" ] || head -c 600 "$tmp/.out" | sed 's/^/   stdout: /'
    [ ! -f "$tmp/.err" ] || head -c 600 "$tmp/.err" | sed 's/^/   stderr: /'
    failures=$((failures + 1))
}
check() { # condition as a command
    "$@" || fail "$*"
}
t() { # CODE ARGUMENT...: runs the program, expects the exit code
    local want=$1
    shift
    last="halftone $*"
    "$HALFTONE" "$@" >"$tmp/.out" 2>"$tmp/.err" </dev/null
    rc=$?
    [ "$rc" -eq "$want" ] || fail "exit code $rc, expected $want"
}
out() { grep -qE -- "$1" "$tmp/.out" || fail "stdout lacks: $1"; }
err() { grep -qE -- "$1" "$tmp/.err" || fail "stderr lacks: $1"; }
not_out() { ! grep -qE -- "$1" "$tmp/.out" || fail "stdout has: $1"; }
not_err() { ! grep -qE -- "$1" "$tmp/.err" || fail "stderr has: $1"; }
no_out() { [ ! -s "$tmp/.out" ] || fail "stdout is not empty"; }
no_err() { [ ! -s "$tmp/.err" ] || fail "stderr is not empty"; }
same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
gone() { # nothing under this name, and no temporary file
    [ ! -e "$1" ] || fail "$1 exists"
    no_leftovers "$(dirname "$1")"
}
no_leftovers() {
    local left
    left=$(find "${1:-.}" -name '.*.part' 2>/dev/null)
    [ -z "$left" ] || fail "left behind: $left"
}
have() { command -v "$1" >/dev/null 2>&1; }
# json EXPRESSION: Python over the document d on stdout; without Python only the shape is looked at.
json() {
    if have python3; then
        python3 -c 'import json, sys
d = json.load(open(sys.argv[1], encoding="utf-8"))
sys.exit(0 if eval(sys.argv[2]) else 1)' "$tmp/.out" "$1" 2>"$tmp/.json" || fail "JSON: $1 $(tail -n 1 "$tmp/.json")"
    else
        head -c 1 "$tmp/.out" | grep -q '[[{]' || fail "no JSON on stdout"
    fi
}
value() { # EXPRESSION over d: prints it
    python3 -c 'import json, sys
d = json.load(open(sys.argv[1], encoding="utf-8"))
print(eval(sys.argv[2]))' "$tmp/.out" "$1"
}
commands() { "$HALFTONE" --help | sed -n '/^Commands/,/^$/s/^  \([a-z]*\) .*/\1/p'; }
chatml() { # FILE: gives a tokenizer_config.json the ChatML template
    chmod u+w "$1" "$(dirname "$1")"
    sed -i '1s/{/{"chat_template": "{% for m in messages %}{{ '"'<|im_start|>' + m['role'] + '\\\\n' + m['content'] + '<|im_end|>' + '\\\\n'"' }}{% endfor %}{% if add_generation_prompt %}{{ '"'<|im_start|>assistant\\\\n'"' }}{% endif %}",/' "$1"
}
small_text() { head -c "${2:-4000}" "$story" >"$1"; }
finish() {
    [ "$failures" -eq 0 ] && echo "passed" && exit 0
    echo "$failures checks failed"
    exit 1
}
skip() {
    echo "skipped: $*"
    exit 77
}
