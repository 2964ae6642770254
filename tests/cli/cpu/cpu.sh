# The kernel levels; HT_CPU masks them, down to the plain C reference.
. "$(dirname "$0")/../lib.sh"
t 0 cpu; no_err; out 'served by'; out '^decode, by format '; not_out '^decode q4_0'
t 0 cpu -v; out '^decode q4_0 '
t 0 cpu --json
json 'd["schema"] == "halftone.cpu/1" and d["cpus"] >= 1 and d["levels"] and d["kernels"]'
json 'all(s["slot"] and s["level"] for s in d["kernels"])'
export HT_CPU=ref
t 0 cpu --json
json 'all(s["level"] in ("ref", "-") for s in d["kernels"])'
export HT_CPU=no-such-level
t 0 cpu --json
err 'HT_CPU=no-such-level names no level'
json 'd["kernels"]'
finish
