# The ONNX schema comes from the installed `onnx` Python package (or -DONNX_PROTO=file); protobuf-c's output stays in
# the build tree.
find_program(PROTOC_C NAMES protoc-c REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
if(NOT ONNX_PROTO)
    find_package(Python3 REQUIRED COMPONENTS Interpreter)
    execute_process(COMMAND ${Python3_EXECUTABLE} -c
        "import importlib.util, os; print(os.path.join(os.path.dirname(importlib.util.find_spec('onnx').origin), 'onnx-ml.proto'))"
        OUTPUT_VARIABLE ONNX_PROTO OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT EXISTS "${ONNX_PROTO}")
    message(FATAL_ERROR "onnx-ml.proto not found: install the Python package onnx (pip install onnx==1.22.0) or give -DONNX_PROTO=FILE")
endif()
set(ONNX_GEN ${CMAKE_BINARY_DIR}/onnx_proto)
file(MAKE_DIRECTORY ${ONNX_GEN})
configure_file("${ONNX_PROTO}" ${ONNX_GEN}/onnx.proto COPYONLY)
add_custom_command(OUTPUT ${ONNX_GEN}/onnx.pb-c.c ${ONNX_GEN}/onnx.pb-c.h
    COMMAND ${PROTOC_C} --proto_path=${ONNX_GEN} --c_out=${ONNX_GEN} onnx.proto
    DEPENDS ${ONNX_GEN}/onnx.proto COMMENT "Generating the ONNX schema reader" VERBATIM)
add_library(onnx_proto STATIC ${ONNX_GEN}/onnx.pb-c.c)
target_include_directories(onnx_proto SYSTEM PUBLIC ${ONNX_GEN})
target_link_libraries(onnx_proto PUBLIC PkgConfig::PROTOBUF_C)
