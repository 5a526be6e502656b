# The backends, each with the libraries that it needs.

# ---- pjrt: only where PJRT's header is (scripts/fetch-pjrt brings it)
find_path(DIGPT_PJRT_INCLUDE pjrt_c_api.h HINTS ${CMAKE_BINARY_DIR}/pjrt/include ${CMAKE_SOURCE_DIR}/build/pjrt/include
          DOC "folder of pjrt_c_api.h")
if(DIGPT_PJRT_INCLUDE)
  digpt_plugin(backends pjrt ${CMAKE_DL_LIBS} Threads::Threads)
  get_filename_component(DIGPT_PJRT_HOME ${DIGPT_PJRT_INCLUDE} DIRECTORY)
  target_include_directories(backends-pjrt SYSTEM PRIVATE ${DIGPT_PJRT_INCLUDE})
  target_compile_definitions(backends-pjrt PRIVATE DIGPT_PJRT_HOME="${DIGPT_PJRT_HOME}")
  if(DIGPT_TESTS) # PJRT plugins that are wrong
    foreach(name pjrt_old pjrt_major pjrt_empty)
      add_library(module-${name} MODULE tests/backends/modules/${name}.c)
      target_link_libraries(module-${name} PRIVATE digpt-sdk)
      target_include_directories(module-${name} SYSTEM PRIVATE ${DIGPT_PJRT_INCLUDE})
      set_target_properties(module-${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name}
        LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/modules)
      list(APPEND plugin_targets module-${name})
    endforeach()
  endif()
else()
  message(STATUS "pjrt backend: skipped, no pjrt_c_api.h (run scripts/fetch-pjrt, or set DIGPT_PJRT_INCLUDE)")
endif()
