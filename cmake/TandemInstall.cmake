# find_package(Tandem) for other projects.
include(CMakePackageConfigHelpers)
set(tandem_config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/Tandem)
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/TandemConfig.cmake.in
  ${PROJECT_BINARY_DIR}/TandemConfig.cmake
  INSTALL_DESTINATION ${tandem_config_dir})
write_basic_package_version_file(
  ${PROJECT_BINARY_DIR}/TandemConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/TandemConfig.cmake
  ${PROJECT_BINARY_DIR}/TandemConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FindCppHttplib.cmake
  ${PROJECT_SOURCE_DIR}/cmake/FindxxHash.cmake
  DESTINATION ${tandem_config_dir})
install(EXPORT TandemTargets NAMESPACE tandem:: DESTINATION ${tandem_config_dir})
