# Cross build for 64-bit ARM with Debian's gcc-aarch64-linux-gnu; programs are static, so that qemu-user needs no
# system root. Use with HT_KERNELS_ONLY, which needs no libraries of the target:
#   cmake -B build/arm -G Ninja --toolchain cmake/aarch64-linux-gnu.cmake -DHT_KERNELS_ONLY=ON
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_EXE_LINKER_FLAGS_INIT -static)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
