# The cuda backend, and for the tests the same host code and kernels on the emulator (tests/cuda/emu). Kernels go through
# commands of their own: to enable CMake's CUDA and C++ languages would burden builds that have neither.
set(cuda_dir ${CMAKE_SOURCE_DIR}/plugins/backends/cuda)
file(GLOB cuda_kernels CONFIGURE_DEPENDS ${cuda_dir}/kernels/*.cu)
file(GLOB cuda_sources CONFIGURE_DEPENDS ${cuda_dir}/*.c)
set(cuda_headers ${cuda_dir}/kernels/cu.h ${cuda_dir}/kernels/flash.h ${cuda_dir}/kernels/kernels.h ${CMAKE_SOURCE_DIR}/core/include/digpt/base.h)

set(cuda_codes "")
foreach(arch ${DIGPT_CUDA_ARCHITECTURES})
  list(APPEND cuda_codes -gencode arch=compute_${arch},code=sm_${arch})
  set(cuda_ptx -gencode arch=compute_${arch},code=compute_${arch})
endforeach()
# What nvcc makes of a launch must not ask for the C++ runtime; all calls come from one thread.
set(cuda_flags -O3 -std=c++17 -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-fno-threadsafe-statics,-fno-exceptions
    ${cuda_codes} ${cuda_ptx})
if(DIGPT_WERROR)
  list(APPEND cuda_flags -Werror all-warnings)
endif()
set(cuda_objects "")
foreach(kernel ${cuda_kernels})
  get_filename_component(name ${kernel} NAME_WE)
  set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
  add_custom_command(OUTPUT ${object} COMMAND ${DIGPT_NVCC} ${cuda_flags} -I${CMAKE_SOURCE_DIR}/core/include -c ${kernel}
                     -o ${object} DEPENDS ${kernel} ${cuda_headers} COMMENT "nvcc ${name}.cu" VERBATIM)
  list(APPEND cuda_objects ${object})
endforeach()
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)

digpt_plugin(backends cuda ${DIGPT_CUDART_STATIC} Threads::Threads ${CMAKE_DL_LIBS} rt)
target_include_directories(backends-cuda SYSTEM PRIVATE ${DIGPT_CUDA_INCLUDE})
target_compile_definitions(backends-cuda PRIVATE DG_CUDA_NAME="cuda" DG_CUDA_HOME="${cuda_home}")
target_sources(backends-cuda PRIVATE ${cuda_objects})
target_link_options(backends-cuda PRIVATE -Wl,--exclude-libs,ALL)

# ---- the emulated one. Its fibers have stacks that sanitizers do not know.
find_program(DIGPT_CXX NAMES c++ g++ clang++ DOC "C++ compiler, which only the emulated cuda backend of the tests needs")
if(DIGPT_TESTS AND DIGPT_CXX AND NOT DIGPT_SANITIZE)
  file(GLOB emu_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/cuda/emu/*.c)
  list(REMOVE_ITEM emu_sources ${CMAKE_SOURCE_DIR}/tests/cuda/emu/race.c)
  set(emu_host ${cuda_sources})
  list(REMOVE_ITEM emu_host ${cuda_dir}/load.c)
  set(emu_headers ${cuda_headers} ${CMAKE_SOURCE_DIR}/tests/cuda/emu/emu.h ${CMAKE_SOURCE_DIR}/tests/cuda/planted.h)
  # Compiles kernels as C++ for module `name`; sets `objects`.
  function(digpt_emulate name flags)
    set(made "")
    foreach(kernel ${ARGN})
      get_filename_component(base ${kernel} NAME_WE)
      set(object ${CMAKE_BINARY_DIR}/cuda/${name}-${base}.o)
      add_custom_command(OUTPUT ${object} COMMAND ${DIGPT_CXX} -std=c++17 -fPIC -fvisibility=hidden -fno-exceptions -Wall
                         -Wextra -Wno-unused-function -Wno-unknown-pragmas ${flags} -isystem ${DIGPT_CUDA_INCLUDE}
                         -I${CMAKE_SOURCE_DIR}/core/include -I${CMAKE_SOURCE_DIR}/tests/cuda/emu -I${cuda_dir}/kernels
                         -x c++ -c ${kernel} -o ${object} DEPENDS ${kernel} ${emu_headers}
                         COMMENT "${name} ${base}.cu" VERBATIM)
      list(APPEND made ${object})
    endforeach()
    set(objects ${made} PARENT_SCOPE)
  endfunction()
  function(digpt_emulated_module name)
    add_library(${name} MODULE ${emu_sources} ${objects} ${ARGN})
    target_link_libraries(${name} PRIVATE digpt-sdk m)
    target_include_directories(${name} SYSTEM PRIVATE ${DIGPT_CUDA_INCLUDE})
    target_include_directories(${name} PRIVATE ${cuda_dir} tests/cuda/emu)
    target_compile_definitions(${name} PRIVATE DG_CUDA_NAME="${name}")
    set_target_properties(${name} PROPERTIES PREFIX "" LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/reference)
    add_dependencies(${name} digpt-ops-header)
  endfunction()
  set(emu_race ${CMAKE_SOURCE_DIR}/tests/cuda/emu/race.c)
  list(REMOVE_ITEM emu_sources ${CMAKE_SOURCE_DIR}/tests/cuda/emu/load.c)
  list(APPEND emu_host ${CMAKE_SOURCE_DIR}/tests/cuda/emu/load.c)
  digpt_emulate(cuda-emulated "-O2" ${cuda_kernels})
  digpt_emulated_module(cuda-emulated ${emu_host})
  # With a watch on all accesses of the kernels; and a kernel with mistakes, for the emulator's own test.
  digpt_emulate(module-cuda-raced "-O1;-fsanitize=thread" ${cuda_kernels})
  digpt_emulated_module(module-cuda-raced ${emu_host} ${emu_race})
  digpt_emulate(module-cuda-planted "-O1;-fsanitize=thread" ${CMAKE_SOURCE_DIR}/tests/cuda/planted.cu)
  digpt_emulated_module(module-cuda-planted ${emu_race})
  list(APPEND plugin_targets cuda-emulated module-cuda-raced module-cuda-planted)
endif()
