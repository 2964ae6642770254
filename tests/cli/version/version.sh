. "$(dirname "$0")/../lib.sh"
t 0 version; no_err; out '^halftone [0-9]+\.[0-9]+\.[0-9]+$'
cp .out v
t 0 --version; same .out v
t 0 version --json; json 'd["schema"] == "halftone.version/1" and d["version"].count(".") == 2'
check [ "$(wc -l <v)" -eq 1 ]
t 2 version extra; err "unexpected argument 'extra'"
finish
