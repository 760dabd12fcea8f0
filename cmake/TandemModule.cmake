# Functions that define Tandem's targets the same way everywhere.

# The include root: build/include/tandem -> the source tree, so that "tandem/core/..." reads the same
# inside the tree and after installation.
set(TANDEM_INCLUDE_ROOT ${PROJECT_BINARY_DIR}/include)
file(MAKE_DIRECTORY ${TANDEM_INCLUDE_ROOT})
file(CREATE_LINK ${PROJECT_SOURCE_DIR} ${TANDEM_INCLUDE_ROOT}/tandem SYMBOLIC)

# The libraries and programs without the tests: what setup.sh builds.
add_custom_target(tandem_programs)

# What a sanitized test binary runs with.
set(TANDEM_SANITIZER_ENVIRONMENT)
if(TANDEM_SANITIZE MATCHES "thread")
  set(TANDEM_SANITIZER_ENVIRONMENT
    # Calls from inside uninstrumented libraries are not followed: judging each of libzmq's against the
    # suppressions makes its threads so slow that deadlines of the transport pass.
    "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/support/tsan.supp:second_deadlock_stack=1:ignore_noninstrumented_modules=1")
elseif(TANDEM_SANITIZE)
  set(TANDEM_SANITIZER_ENVIRONMENT
    "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1"
    "UBSAN_OPTIONS=print_stacktrace=1")
endif()

# Compile options shared by every target of this project, never exported to users.
function(tandem_compile_options target)
  # -fPIC for programs too: a precompiled header is refused where the code model differs.
  target_compile_options(${target} PRIVATE
    -fPIC -Wall -Wextra -Wpedantic -Wshadow -Wno-unused-parameter -Wno-missing-field-initializers
    $<$<NOT:$<CONFIG:Release>>:-D_GLIBCXX_ASSERTIONS>
    $<$<BOOL:${TANDEM_WARNINGS_AS_ERRORS}>:-Werror>)
  if(TANDEM_SANITIZE)
    target_compile_options(${target} PRIVATE
      -fsanitize=${TANDEM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${TANDEM_SANITIZE})
  endif()
endfunction()

# <torch/torch.h> costs eleven seconds in every file that includes it; it is precompiled once and shared.
# By a target of its own: a precompiled header is refused by targets that lack one of its definitions.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/empty.cpp CONTENT "")
add_library(tandem_torch_pch OBJECT ${PROJECT_BINARY_DIR}/empty.cpp)
target_compile_features(tandem_torch_pch PUBLIC cxx_std_20)
target_link_libraries(tandem_torch_pch PRIVATE torch Threads::Threads)
target_precompile_headers(tandem_torch_pch PRIVATE <torch/torch.h>)
tandem_compile_options(tandem_torch_pch)

# Files that do without LibTorch's front end are spared the three seconds that even a precompiled
# header costs: GCC finishes its pending template instantiations in every file.
function(tandem_precompile_torch target)
  tandem_reuse_precompiled(${target} tandem_torch_pch)
endfunction()

function(tandem_reuse_precompiled target from)
  target_precompile_headers(${target} REUSE_FROM ${from})
  get_target_property(sources ${target} SOURCES)
  foreach(source IN LISTS sources)
    get_filename_component(path ${source} ABSOLUTE)
    file(STRINGS ${path} mentions REGEX "torch::|torch/|support/test\\.h" LIMIT_COUNT 1)
    if(NOT mentions)
      set_source_files_properties(${source} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    endif()
  endforeach()
endfunction()

# tandem_plain_library(TARGET name PUBLIC lib ... PRIVATE lib ...)
# What the static library TARGET, installed and exported as tandem::name, needs besides its sources.
function(tandem_plain_library target name)
  cmake_parse_arguments(arg "" "" "PUBLIC;PRIVATE" ${ARGN})
  add_library(tandem::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME ${name}
    POSITION_INDEPENDENT_CODE ON)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${TANDEM_INCLUDE_ROOT}>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${target} PUBLIC ${arg_PUBLIC})
  foreach(library IN LISTS arg_PRIVATE)
    # A header-only library leaves nothing to link: users of the installed package do not need it.
    if(library IN_LIST TANDEM_HEADER_ONLY_LIBRARIES)
      set(library $<BUILD_INTERFACE:${library}>)
    endif()
    target_link_libraries(${target} PRIVATE ${library})
  endforeach()
  tandem_compile_options(${target})
  add_dependencies(tandem_programs ${target})
  install(TARGETS ${target} EXPORT TandemTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endfunction()

# tandem_add_module(NAME SOURCES a.cpp ... PUBLIC lib ... PRIVATE lib ...)
# A static library tandem_NAME, alias tandem::NAME, installed and exported with the folder's headers.
function(tandem_add_module name)
  cmake_parse_arguments(arg "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  set(target tandem_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  tandem_plain_library(${target} ${name} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  tandem_precompile_torch(${target})
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${name}/
          DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tandem/${name}
          FILES_MATCHING PATTERN "*.h" PATTERN "*_detail.h" EXCLUDE PATTERN "doc" EXCLUDE)
endfunction()

# tandem_add_program(tandem-edge SOURCES main.cpp LIBRARIES ...)
function(tandem_add_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE ${arg_LIBRARIES} tandem_before_libraries)
  tandem_compile_options(${name})
  tandem_precompile_torch(${name})
  add_dependencies(tandem_programs ${name})
  install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# What tests spend their time in is the libraries; optimising their own code takes a fifth of its compilation.
function(tandem_test_options target)
  tandem_compile_options(${target})
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()

# doctest's main function once for all test binaries, and a precompiled header of the tests' own: one that was
# compiled with another -O is refused.
if(TANDEM_BUILD_TESTS)
  add_library(tandem_test_main OBJECT ${PROJECT_SOURCE_DIR}/tests/support/main.cpp)
  add_library(tandem_test_pch OBJECT ${PROJECT_BINARY_DIR}/empty.cpp)
  foreach(target tandem_test_main tandem_test_pch)
    target_compile_features(${target} PRIVATE cxx_std_20)
    target_include_directories(${target} PRIVATE ${TANDEM_INCLUDE_ROOT} ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${target} PRIVATE torch doctest::doctest Threads::Threads)
    tandem_test_options(${target})
  endforeach()
  target_precompile_headers(tandem_test_pch PRIVATE ${PROJECT_SOURCE_DIR}/tests/support/test.h)
  # For tests of libraries that do without LibTorch: loading it takes longer than all of them.
  add_library(tandem_plain_test_main OBJECT ${PROJECT_SOURCE_DIR}/tests/support/plain_main.cpp)
  target_compile_features(tandem_plain_test_main PRIVATE cxx_std_20)
  target_include_directories(tandem_plain_test_main PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(tandem_plain_test_main PRIVATE doctest::doctest)
  tandem_test_options(tandem_plain_test_main)
endif()

# tandem_add_test(core_wire SOURCES ... LIBRARIES tandem::core [TIMEOUT seconds] [LABELS tsan ...] [PLAIN])
# One doctest binary for one module, run by ctest under a timeout, beside others: threads that wait for work sleep.
# The label "tsan" says that the binary runs no LibTorch kernel, so that ThreadSanitizer can judge it (see
# tests/support/tsan.supp).
# Each label L has a target tests_L that builds what carries it. PLAIN: the test includes support/plain_test.h and
# links nothing of LibTorch.
function(tandem_add_test name)
  cmake_parse_arguments(arg "PLAIN" "TIMEOUT" "SOURCES;LIBRARIES;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  set(target test_${name})
  add_executable(${target} ${arg_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  tandem_test_options(${target})
  if(arg_PLAIN)
    target_link_libraries(${target} PRIVATE tandem_plain_test_main ${arg_LIBRARIES} doctest::doctest)
  else()
    target_link_libraries(${target} PRIVATE tandem_test_main ${arg_LIBRARIES} doctest::doctest)
    tandem_reuse_precompiled(${target} tandem_test_pch)
  endif()
  add_test(NAME ${name} COMMAND ${target} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(TANDEM_SANITIZE)
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 5")
  endif()
  # What may take long begins first, so that no core idles in the end.
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} COST ${arg_TIMEOUT} LABELS "${arg_LABELS}"
    ENVIRONMENT "OMP_WAIT_POLICY=PASSIVE;${TANDEM_SANITIZER_ENVIRONMENT}")
  foreach(label IN LISTS arg_LABELS)
    if(NOT TARGET tests_${label})
      add_custom_target(tests_${label})
    endif()
    add_dependencies(tests_${label} ${target})
  endforeach()
endfunction()

# tandem_add_script_test(layering [TIMEOUT seconds] COMMAND program argument ...)
# A test that is a script; exit status 0 passes, 77 skips.
function(tandem_add_script_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "COMMAND" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_test(NAME ${name} COMMAND ${arg_COMMAND} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} COST ${arg_TIMEOUT} SKIP_RETURN_CODE 77
    LABELS script)
endfunction()
