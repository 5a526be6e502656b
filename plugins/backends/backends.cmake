# The backends, each with the libraries that it needs.

# ---- cpu: oneDNN, OpenMP where the compiler has it, and the kernels once for each instruction set
find_path(DNNL_INCLUDE dnnl.h REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
find_package(OpenMP COMPONENTS C)
digpt_plugin(backends cpu ${DNNL_LIBRARY})
target_include_directories(backends-cpu SYSTEM PRIVATE ${DNNL_INCLUDE})
if(OpenMP_C_FOUND)
  target_link_libraries(backends-cpu PRIVATE OpenMP::OpenMP_C)
endif()
file(GLOB cpu_kernels CONFIGURE_DEPENDS plugins/backends/cpu/kernels/*.c)
set(cpu_isas plain)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND cpu_isas avx2 avx512 avx512_bf16)
  target_compile_definitions(backends-cpu PRIVATE DG_CPU_X86)
endif()
set(cpu_flags_avx2 -mavx2 -mfma)
set(cpu_flags_avx512 ${cpu_flags_avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512cd -mprefer-vector-width=512)
set(cpu_flags_avx512_bf16 ${cpu_flags_avx512} -mavx512bf16)
set(cpu_flags -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -fopenmp-simd)
if(DIGPT_SANITIZE)
  list(APPEND cpu_flags -O1) # the checks in unrolled tiles would take minutes to compile
endif()
if(CMAKE_C_COMPILER_ID MATCHES Clang)
  list(APPEND cpu_flags -Wno-pass-failed) # a loop that stays scalar is no error
endif()
foreach(isa ${cpu_isas})
  add_library(cpu-kernels-${isa} OBJECT ${cpu_kernels})
  target_link_libraries(cpu-kernels-${isa} PRIVATE digpt-sdk)
  target_compile_definitions(cpu-kernels-${isa} PRIVATE DG_CPU_ISA=${isa})
  target_compile_options(cpu-kernels-${isa} PRIVATE ${cpu_flags} ${cpu_flags_${isa}})
  target_link_libraries(backends-cpu PRIVATE $<TARGET_OBJECTS:cpu-kernels-${isa}>)
endforeach()

# ---- pjrt: only where PJRT's header is (scripts/fetch-pjrt brings it)
find_path(DIGPT_PJRT_INCLUDE pjrt_c_api.h HINTS ${CMAKE_BINARY_DIR}/pjrt/include ${CMAKE_SOURCE_DIR}/build/pjrt/include
          DOC "folder of pjrt_c_api.h")
if(DIGPT_PJRT_INCLUDE)
  digpt_plugin(backends pjrt ${CMAKE_DL_LIBS} Threads::Threads PkgConfig::XXHASH)
  get_filename_component(DIGPT_PJRT_HOME ${DIGPT_PJRT_INCLUDE} DIRECTORY)
  target_include_directories(backends-pjrt SYSTEM PRIVATE ${DIGPT_PJRT_INCLUDE})
  target_compile_definitions(backends-pjrt PRIVATE DIGPT_PJRT_HOME="${DIGPT_PJRT_HOME}")
  if(DIGPT_TESTS) # PJRT plugins that are wrong
    foreach(name pjrt_old pjrt_major pjrt_empty pjrt_abort)
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

# ---- cuda: only where NVIDIA's compiler and headers are; needs no device to be built, and none to be loaded
set(DIGPT_CUDA_ARCHITECTURES "90" CACHE STRING
    "compute capabilities that kernels are built for, a list such as 80;90;100; the last one also as PTX")
find_program(DIGPT_NVCC nvcc HINTS /usr/local/cuda/bin DOC "NVIDIA's compiler")
if(DIGPT_NVCC)
  get_filename_component(cuda_home ${DIGPT_NVCC} REALPATH)
  get_filename_component(cuda_home ${cuda_home}/../.. ABSOLUTE)
  find_path(DIGPT_CUDA_INCLUDE cublasLt.h HINTS ${cuda_home}/include ${cuda_home}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux/include
            DOC "folder of cuda_runtime_api.h and cublasLt.h")
  find_library(DIGPT_CUDART_STATIC cudart_static
               HINTS ${cuda_home}/lib64 ${cuda_home}/lib ${cuda_home}/targets/${CMAKE_SYSTEM_PROCESSOR}-linux/lib)
endif()
if(DIGPT_NVCC AND DIGPT_CUDA_INCLUDE AND DIGPT_CUDART_STATIC)
  include(plugins/backends/cuda/cuda.cmake)
else()
  message(STATUS "cuda backend: skipped, no nvcc, cublasLt.h and libcudart_static.a (set DIGPT_NVCC to where nvcc is)")
endif()
