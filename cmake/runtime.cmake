# The runtime is compiled once per executor family and embedded in the compiler, which links it into every model.
add_library(accelc_rt_object OBJECT runtime/rt_all.c)
add_library(accelc_rt_openmp OBJECT runtime/rt_all.c)
# What only models with calls need: the functions, and what runs them.
add_library(accelc_rt_call OBJECT runtime/call_all.c)
add_library(accelc_rt_objects OBJECT runtime/rt_object.c)
# What only models with kernels of a GPU need.
add_library(accelc_rt_gpu OBJECT runtime/rt_gpu_all.c)
include(cmake/images.cmake)
add_library(accelc_rt_image OBJECT runtime/call_image.c)
target_compile_definitions(accelc_rt_image PRIVATE ${IMAGE_DEFINITIONS})
target_include_directories(accelc_rt_image SYSTEM PRIVATE ${IMAGE_INCLUDES})
target_compile_definitions(accelc_rt_openmp PRIVATE RT_OPENMP)
foreach(variant object openmp call objects image gpu)
    target_include_directories(accelc_rt_${variant} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
    target_compile_definitions(accelc_rt_${variant} PRIVATE _GNU_SOURCE)
    target_compile_options(accelc_rt_${variant} PRIVATE -O2 -g0 -fvisibility=hidden -fno-sanitize=all -fno-stack-protector
        -ffunction-sections -fdata-sections -Wall -Wextra)
endforeach()
target_compile_options(accelc_rt_openmp PRIVATE -fopenmp)

# The functions that models call, for the evaluator.
add_library(accelc_call STATIC runtime/call_all.c runtime/call_image.c)
target_compile_definitions(accelc_call PRIVATE ${IMAGE_DEFINITIONS})
target_include_directories(accelc_call SYSTEM PRIVATE ${IMAGE_INCLUDES})
target_include_directories(accelc_call PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(accelc_call PRIVATE accelc_options m ${IMAGE_LIBRARIES})
target_link_libraries(accelc_frontend PRIVATE accelc_call)

enable_language(ASM)
set(RT_BLOB ${CMAKE_BINARY_DIR}/runtime_blob)
file(MAKE_DIRECTORY ${RT_BLOB})
set(blob_text "    .section .rodata\n")
set(blob_objects)
set(blob_copies)
foreach(variant object openmp call objects image gpu) # accelc_rt_VARIANT_blob .. accelc_rt_VARIANT_blob_end
    string(APPEND blob_text "    .global accelc_rt_${variant}_blob, accelc_rt_${variant}_blob_end\n    .balign 16\n"
        "accelc_rt_${variant}_blob:\n    .incbin \"${RT_BLOB}/${variant}.o\"\naccelc_rt_${variant}_blob_end:\n")
    list(APPEND blob_objects accelc_rt_${variant} $<TARGET_OBJECTS:accelc_rt_${variant}>)
    list(APPEND blob_copies COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_OBJECTS:accelc_rt_${variant}> ${RT_BLOB}/${variant}.o)
endforeach()
file(CONFIGURE OUTPUT ${RT_BLOB}/blob.S.in CONTENT "${blob_text}    .section .note.GNU-stack,\"\",@progbits\n" @ONLY) # written only when it changes
add_custom_command(OUTPUT ${RT_BLOB}/blob.S ${blob_copies}
    COMMAND ${CMAKE_COMMAND} -E copy ${RT_BLOB}/blob.S.in ${RT_BLOB}/blob.S
    DEPENDS ${blob_objects} ${RT_BLOB}/blob.S.in
    VERBATIM)
add_library(accelc_rt_blob STATIC ${RT_BLOB}/blob.S)
target_link_libraries(accelc_codegen PRIVATE accelc_rt_blob)
target_compile_definitions(accelc_codegen PRIVATE "IMAGE_LINK=${IMAGE_LINK}")

add_executable(accelc-run runtime/run.c runtime/profile.c runtime/npy.c)
target_include_directories(accelc-run PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(accelc-run PRIVATE ACCELC_VERSION="${PROJECT_VERSION}")
target_link_libraries(accelc-run PRIVATE accelc_options dl m)
