# Debian's libcpp-httplib-dev ships no CMake package in every release, but always a pkg-config file: it says with
# which definitions the library was compiled, and a program that is compiled without them does not fit it.
# Where there is only the header, that is enough. Defines the imported target CppHttplib::cpp-httplib.
find_package(PkgConfig QUIET)
if(PkgConfig_FOUND)
  pkg_check_modules(PC_CppHttplib QUIET cpp-httplib)
endif()
find_path(CppHttplib_INCLUDE_DIR NAMES httplib.h HINTS ${PC_CppHttplib_INCLUDE_DIRS})
find_library(CppHttplib_LIBRARY NAMES cpp-httplib HINTS ${PC_CppHttplib_LIBRARY_DIRS})
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CppHttplib
  REQUIRED_VARS CppHttplib_INCLUDE_DIR
  VERSION_VAR PC_CppHttplib_VERSION)
if(CppHttplib_FOUND AND NOT TARGET CppHttplib::cpp-httplib)
  if(CppHttplib_LIBRARY)
    add_library(CppHttplib::cpp-httplib UNKNOWN IMPORTED)
    set_target_properties(CppHttplib::cpp-httplib PROPERTIES IMPORTED_LOCATION "${CppHttplib_LIBRARY}")
  else()
    add_library(CppHttplib::cpp-httplib INTERFACE IMPORTED)
  endif()
  set_target_properties(CppHttplib::cpp-httplib PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${CppHttplib_INCLUDE_DIR}"
    INTERFACE_COMPILE_OPTIONS "${PC_CppHttplib_CFLAGS_OTHER}")
endif()
mark_as_advanced(CppHttplib_INCLUDE_DIR CppHttplib_LIBRARY)
