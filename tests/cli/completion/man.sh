# Manual pages, one per command, that groff or man takes without a warning.
. "$(dirname "$0")/../lib.sh"
t 0 completion man; no_err; out '^\.TH "HALFTONE" 1'; out 'EXIT STATUS'
mkdir pages
t 0 completion man --dir pages; no_out
check [ -f pages/halftone.1 ]
for c in $(commands); do
    page=pages/halftone-$c.1
    check [ -f "$page" ]
    for section in NAME SYNOPSIS 'COMMON OPTIONS' 'EXIT STATUS' 'SEE ALSO'; do
        check grep -q "^.SH $section" "$page"
    done
    for o in $("$HALFTONE" "$c" --help | sed -n 's/^  .*--\([a-z-]*\).*/\1/p'); do
        check grep -qF -- "$(printf %s "--$o" | sed 's/-/\\-/g')" "$page"
    done
done
for page in pages/*.1; do
    check grep -q '^\.TH ' "$page"
    if have groff; then
        groff -man -Tascii -ww "$page" >text 2>warnings || fail "groff $page"
        check [ ! -s warnings ]
    elif have man && man --version >/dev/null 2>&1; then
        man -l "$page" >text 2>warnings || fail "man -l $page"
    fi
done
# Missing folders are made: the help's example names one that a new account lacks.
t 0 completion man --dir missing/folder --json
json 'd["schema"] == "halftone.completion/1" and len(d["files"]) == '"$(find pages -name "*.1" | wc -l)"
for page in pages/*.1; do same "$page" "missing/folder/$(basename "$page")"; done
touch file
t 2 completion man --dir file/folder; err "file"
t 2 completion bash --dir pages; no_out; err 'belongs to man'
finish
