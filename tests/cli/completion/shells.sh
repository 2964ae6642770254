# zsh and fish completion: every command and option is there; syntax where the shell is installed.
. "$(dirname "$0")/../lib.sh"
for shell in zsh fish; do
    t 0 completion $shell; no_err
    cp .out script
    for c in $(commands); do
        check grep -q "$c" script
        for o in $("$HALFTONE" "$c" --help | sed -n 's/^  .*--\([a-z0-9-]*\).*/\1/p'); do
            case $shell in zsh) p="--$o[=[]" ;; fish) p="-l $o " ;; esac
            check grep -q -- "$p" script
        done
    done
    if have $shell; then check $shell -n script; fi
done
t 0 completion bash; cp .out script
t 0 completion bash --json; json 'd["schema"] == "halftone.completion/1" and d["text"] == open("script").read()'
t 2 completion tcsh; no_out; err "expected bash, zsh, fish or man, found 'tcsh'"
finish
