# The runtime is compiled once per executor family and embedded in the compiler, which links it into every model.
add_library(accelc_rt_object OBJECT runtime/rt_all.c)
add_library(accelc_rt_openmp OBJECT runtime/rt_all.c)
target_compile_definitions(accelc_rt_openmp PRIVATE RT_OPENMP)
foreach(variant object openmp)
    target_include_directories(accelc_rt_${variant} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_compile_definitions(accelc_rt_${variant} PRIVATE _GNU_SOURCE)
    target_compile_options(accelc_rt_${variant} PRIVATE -O2 -g0 -fvisibility=hidden -fno-sanitize=all -fno-stack-protector
        -ffunction-sections -Wall -Wextra)
endforeach()
target_compile_options(accelc_rt_openmp PRIVATE -fopenmp)

# The functions that models call, for the evaluator.
add_library(accelc_call STATIC runtime/call_all.c)
target_include_directories(accelc_call PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(accelc_call PRIVATE accelc_options m)
target_link_libraries(accelc_frontend PRIVATE accelc_call)

enable_language(ASM)
set(RT_BLOB ${CMAKE_BINARY_DIR}/runtime_blob)
file(MAKE_DIRECTORY ${RT_BLOB})
file(WRITE ${RT_BLOB}/blob.S.in "
    .section .rodata
    .global accelc_rt_blob, accelc_rt_blob_end, accelc_rt_omp_blob, accelc_rt_omp_blob_end
    .balign 16
accelc_rt_blob:
    .incbin \"${RT_BLOB}/rt.o\"
accelc_rt_blob_end:
    .balign 16
accelc_rt_omp_blob:
    .incbin \"${RT_BLOB}/rt_omp.o\"
accelc_rt_omp_blob_end:
    .section .note.GNU-stack,\"\",@progbits
")
add_custom_command(OUTPUT ${RT_BLOB}/blob.S
    COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_OBJECTS:accelc_rt_object> ${RT_BLOB}/rt.o
    COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_OBJECTS:accelc_rt_openmp> ${RT_BLOB}/rt_omp.o
    COMMAND ${CMAKE_COMMAND} -E copy ${RT_BLOB}/blob.S.in ${RT_BLOB}/blob.S
    DEPENDS accelc_rt_object accelc_rt_openmp $<TARGET_OBJECTS:accelc_rt_object> $<TARGET_OBJECTS:accelc_rt_openmp>
    VERBATIM)
add_library(accelc_rt_blob STATIC ${RT_BLOB}/blob.S)
target_link_libraries(accelc_codegen PRIVATE accelc_rt_blob)

add_executable(accelc-run runtime/run.c runtime/npy.c)
target_include_directories(accelc-run PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(accelc-run PRIVATE accelc_options dl m)
