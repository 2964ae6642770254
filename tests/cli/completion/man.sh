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
t 4 completion man --dir missing/folder; err 'missing/folder'
finish
