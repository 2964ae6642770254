# Thin front of CMake. The two commands of a newcomer: make demo, make test.
BUILD  ?= build/release
PRESET ?= release
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 20

.PHONY: all build demo test check check-kernels bench fuzz interop install clean

all: build

build: deps
	@[ -f $(BUILD)/build.ninja ] || cmake --preset $(PRESET) >/dev/null
	@cmake --build $(BUILD)

.PHONY: deps
deps:
	@tools/install-deps build

# Quantizes the embedded model (or MODEL=path) to five formats and reports what was lost.
demo: build
	@tools/demo $(if $(MODEL),"$(MODEL)")

# Everything but the peers: house checks, unit, kernel and command-line tests.
test: build
	@tools/install-deps test
	@tools/check-house
	@tools/run-tests $(BUILD)

# Before every commit: under two minutes, no network.
check:
	@[ -f $(BUILD)/build.ninja ] || cmake --preset $(PRESET) >/dev/null
	@cmake --build $(BUILD)
	@tools/check-house
	@HT_SUITE=check tools/run-tests $(BUILD)

# Every kernel on every CPU level of this machine, and ARM's under qemu-user where that is installed
# (tools/install-deps arm). BENCH=1 adds the speed of every format and level, BENCH=q4_k of one format.
check-kernels: build
	@tools/check-kernels $(BUILD)
	@$(if $(BENCH),tools/check-kernels $(BUILD) bench $(if $(filter-out 1,$(BENCH)),$(BENCH)))

# PEER=path/to/llama-bench (or several, in quotes) measures other programs beside ours; models and more: tools/bench.
bench: build
	@tools/bench $(BUILD) $(PEER)

fuzz:
	@tools/install-deps build fuzz
	@tools/fuzz $(FUZZ_SECONDS)

# Against independent peers in a Python environment of its own (build/interop-venv); FULL=1 adds torch.
interop: build
	@tools/install-deps build interop
	@tools/interop $(BUILD) $(if $(FULL),full)

install: build
	@cmake --install $(BUILD) --prefix "$(PREFIX)"

clean:
	rm -rf build demo-out
