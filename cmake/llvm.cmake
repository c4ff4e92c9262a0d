# LLVM is linked statically where its archives, and what those need, are there: loading the shared library costs 15 ms per
# start of the compiler, more than compiling a small model does, and a static program needs no LLVM where it runs.
option(ACCELC_LLVM_STATIC "link LLVM statically, if its archives are there" ON)

set(llvm_archive "")
if(TARGET LLVMX86CodeGen)
    get_target_property(llvm_archive LLVMX86CodeGen LOCATION)
endif()
if(ACCELC_LLVM_STATIC AND EXISTS "${llvm_archive}" AND (TARGET ZLIB::ZLIB OR NOT LLVM_ENABLE_ZLIB)
   AND (TARGET zstd::libzstd_shared OR NOT LLVM_ENABLE_ZSTD))
    target_link_libraries(accelc_llvm INTERFACE LLVMX86CodeGen LLVMNVPTXCodeGen LLVMPasses stdc++)
    find_program(ACCELC_LLD ld.lld HINTS ${LLVM_TOOLS_BINARY_DIR})
    if(ACCELC_LLD) # several times as fast as bfd on archives of this size
        get_filename_component(lld_folder ${ACCELC_LLD} DIRECTORY)
        target_link_options(accelc_llvm INTERFACE -fuse-ld=lld -B${lld_folder} -Wl,--gc-sections)
    endif()
else()
    target_link_libraries(accelc_llvm INTERFACE LLVM)
endif()
