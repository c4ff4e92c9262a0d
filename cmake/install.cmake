# What `cmake --install` puts in place: the two programs, the header of compiled models, a CMake package with
# accelc_add_model(), a pkg-config file, and the Python package (for PYTHONPATH; pip installs runtime/python).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(ACCELC_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/accelc)
set(ACCELC_PYTHON_DIR ${CMAKE_INSTALL_DATADIR}/accelc/python)

install(TARGETS accelc accelc-run RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES runtime/accelc_rt.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

configure_package_config_file(cmake/accelcConfig.cmake.in ${CMAKE_BINARY_DIR}/package/accelcConfig.cmake
    INSTALL_DESTINATION ${ACCELC_PACKAGE_DIR} PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_BINDIR)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/package/accelcConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/package/accelcConfig.cmake ${CMAKE_BINARY_DIR}/package/accelcConfigVersion.cmake
    DESTINATION ${ACCELC_PACKAGE_DIR})

# Relative to its own place, so that the installed tree can be moved.
file(RELATIVE_PATH ACCELC_PC_PREFIX /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/accelc.pc.in ${CMAKE_BINARY_DIR}/package/accelc.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/package/accelc.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(DIRECTORY runtime/python/accelc DESTINATION ${ACCELC_PYTHON_DIR} FILES_MATCHING PATTERN "*.py" PATTERN "__pycache__" EXCLUDE)
# The package looks for the compiler in its own bin first.
file(RELATIVE_PATH ACCELC_BIN_LINK /prefix/${ACCELC_PYTHON_DIR}/accelc/bin /prefix/${CMAKE_INSTALL_BINDIR}/accelc)
install(CODE "set(dir \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${ACCELC_PYTHON_DIR}/accelc/bin\")
file(MAKE_DIRECTORY \"\${dir}\")
file(CREATE_LINK \"${ACCELC_BIN_LINK}\" \"\${dir}/accelc\" SYMBOLIC)")
