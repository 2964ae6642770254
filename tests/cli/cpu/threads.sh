# The same probabilities for any number of threads, at every level this machine has.
. "$(dirname "$0")/../lib.sh"
t 0 cpu
levels=$(awk '$2 == "yes" && $3 == "yes" {print $1}' .out)
check test -n "$levels"
t 0 quantize "$tiny" -o q.gguf --format Q4_K_M -q
for level in $levels; do
    export HT_CPU=$level
    for math in "" --exact; do
        for threads in 1 2 5; do
            t 0 eval q.gguf --text "$story" --tokens 160 --ctx 64 --json --threads "$threads" $math
            grep -E '"(mean|low|high)"' .out >"figures-$threads"
            check test -s "figures-$threads"
            same figures-1 "figures-$threads"
        done
    done
done
finish
