include(GNUInstallDirs)
install(TARGETS accelc accelc-run RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES runtime/accelc_rt.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
