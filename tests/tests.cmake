# Every tests/ROOM/test_NAME.c is one cmocka program and one CTest; tests/support is compiled into all of them.
find_package(cmocka REQUIRED)
file(GLOB support_sources CONFIGURE_DEPENDS tests/support/*.c)
add_library(digpt-test-support STATIC ${support_sources})
target_include_directories(digpt-test-support PUBLIC tests/support)
target_link_libraries(digpt-test-support PUBLIC digpt-core cmocka)
target_compile_definitions(digpt-test-support PUBLIC DIGPT_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data"
  DIGPT_SOURCE_DIR="${CMAKE_SOURCE_DIR}" DIGPT_BINARY_DIR="${CMAKE_BINARY_DIR}" DIGPT_GENERATOR="${CMAKE_GENERATOR}")
# Small plugins, right and wrong, for the tests of core/plugin and of the program.
file(GLOB module_sources CONFIGURE_DEPENDS tests/plugin/modules/*.c)
set(test_modules "")
foreach(source ${module_sources})
  get_filename_component(name ${source} NAME_WE)
  add_library(module-${name} MODULE ${source})
  target_link_libraries(module-${name} PRIVATE digpt-sdk)
  set_target_properties(module-${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name}
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/modules)
  list(APPEND test_modules module-${name})
endforeach()
# Files that fail, for the tests in tests/faults. Without sanitizers: it stands before their libraries.
add_library(faults-shim MODULE tests/faults/shim.c)
target_compile_options(faults-shim PRIVATE -fno-sanitize=all)
target_link_libraries(faults-shim PRIVATE ${CMAKE_DL_LIBS})
set_target_properties(faults-shim PROPERTIES PREFIX "" OUTPUT_NAME shim LINK_OPTIONS "-fno-sanitize=all"
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/faults)
file(GLOB test_sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR} tests/*/test_*.c)
foreach(source ${test_sources})
  string(REGEX REPLACE "^tests/(.*)/test_(.*)\\.c$" "\\1-\\2" name ${source})
  add_executable(test-${name} ${source})
  target_link_libraries(test-${name} PRIVATE digpt-test-support)
  set_target_properties(test-${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_dependencies(test-${name} plugins)
  if(name MATCHES "^(plugin|cli|train|faults)-")
    add_dependencies(test-${name} ${test_modules})
  endif()
  if(name MATCHES "^(cli|train|faults)-")
    add_dependencies(test-${name} digpt)
  endif()
  if(name MATCHES "^(train|faults)-")
    add_dependencies(test-${name} faults-shim)
  endif()
  add_test(NAME ${name} COMMAND test-${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 300 ENVIRONMENT "DIGPT_PLUGIN_PATH=${DIGPT_PLUGIN_OUTPUT}")
  if(name MATCHES "^faults-")
    set_tests_properties(${name} PROPERTIES TIMEOUT 900) # hundreds of runs
  endif()
endforeach()

# Every tests/fuzz/fuzz_NAME.c is a fuzz target. It links with libFuzzer where DIGPT_SANITIZE asks for a fuzzer
# (scripts/fuzz), and else runs, as a test, on its first inputs and on what was once found with it.
set(fuzz_corpus ${CMAKE_BINARY_DIR}/fuzz/corpus)
add_executable(digpt-make-corpus tests/fuzz/make_corpus.c)
target_link_libraries(digpt-make-corpus PRIVATE digpt-core ZLIB::ZLIB)
target_compile_definitions(digpt-make-corpus PRIVATE DIGPT_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data")
add_custom_command(OUTPUT ${fuzz_corpus}/made COMMAND digpt-make-corpus ${fuzz_corpus}
  COMMAND ${CMAKE_COMMAND} -E touch ${fuzz_corpus}/made DEPENDS digpt-make-corpus VERBATIM)
add_custom_target(fuzz-corpus ALL DEPENDS ${fuzz_corpus}/made)
add_custom_target(fuzz)
file(GLOB fuzz_sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_SOURCE_DIR} tests/fuzz/fuzz_*.c)
foreach(source ${fuzz_sources})
  string(REGEX REPLACE "^tests/fuzz/fuzz_(.*)\\.c$" "\\1" name ${source})
  add_executable(fuzz-${name} ${source})
  target_link_libraries(fuzz-${name} PRIVATE digpt-core ZLIB::ZLIB PkgConfig::XXHASH)
  set_target_properties(fuzz-${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/fuzz)
  add_dependencies(fuzz-${name} fuzz-corpus)
  add_dependencies(fuzz fuzz-${name})
  if(DIGPT_SANITIZE MATCHES "fuzzer")
    target_link_options(fuzz-${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(fuzz-${name} PRIVATE tests/fuzz/replay.c)
    file(GLOB fuzz_found CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/data/fuzz/${name}/*)
    add_test(NAME fuzz-${name} COMMAND fuzz-${name} ${fuzz_corpus}/${name} ${fuzz_found})
    set_tests_properties(fuzz-${name} PROPERTIES TIMEOUT 300)
  endif()
endforeach()

# The cpu backend as on a processor without AVX-512: oneDNN reads the limit from the environment.
foreach(name cpu cpu_shapes cpu_threads)
  add_test(NAME backends-${name}-avx2 COMMAND test-backends-${name})
  set_tests_properties(backends-${name}-avx2 PROPERTIES TIMEOUT 300 ENVIRONMENT "ONEDNN_MAX_CPU_ISA=AVX2")
endforeach()

# What `cmake --install` places is enough to run, and to build a plugin.
add_test(NAME project-install COMMAND ${CMAKE_SOURCE_DIR}/tests/project/install ${CMAKE_BINARY_DIR})

# Our own plugins are what `digpt check` asks of everybody's.
foreach(target ${plugin_targets})
  if(NOT target MATCHES "^module-")
    add_test(NAME check-${target} COMMAND digpt check --time-limit 200 $<TARGET_FILE:${target}>)
    set_tests_properties(check-${target} PROPERTIES TIMEOUT 600)
  endif()
endforeach()

# digpt-reference compares a build with recorded tensors of the official code; `given` is its own tokenizer.
add_library(module-given MODULE tests/reference/given.c)
target_link_libraries(module-given PRIVATE digpt-sdk)
set_target_properties(module-given PROPERTIES PREFIX "" OUTPUT_NAME given
  LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/reference)
file(GLOB reference_files CONFIGURE_DEPENDS tests/reference/*.c)
list(FILTER reference_files EXCLUDE REGEX "/given\\.c$")
add_executable(digpt-reference ${reference_files})
target_link_libraries(digpt-reference PRIVATE digpt-core)
target_compile_definitions(digpt-reference PRIVATE
  DIGPT_REFERENCE_PLUGINS="${CMAKE_BINARY_DIR}/tests/reference")
add_dependencies(digpt-reference plugins module-given)
