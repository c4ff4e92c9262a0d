# Compiler options shared by every target of ours.
add_library(accelc_options INTERFACE)
target_compile_options(accelc_options INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes
    -Wmissing-prototypes -Wundef -Wno-sign-conversion -fno-math-errno -ffp-contract=off)
target_compile_definitions(accelc_options INTERFACE _GNU_SOURCE)
if(ACCELC_WERROR)
    target_compile_options(accelc_options INTERFACE -Werror)
endif()
if(ACCELC_HOSTILE)
    target_compile_definitions(accelc_options INTERFACE ACCELC_HOSTILE=1)
endif()
if(ACCELC_SANITIZE)
    target_compile_options(accelc_options INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(accelc_options INTERFACE -fsanitize=address,undefined)
    # Relocating LLVM is a third of the start of a sanitized compiler, which the tests start hundreds of times.
    target_link_options(accelc_options INTERFACE $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-no-pie>)
endif()

# LLVM's C API; only codegen links it.
add_library(accelc_llvm INTERFACE)

