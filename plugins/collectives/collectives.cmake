# Engines that join processes, each with the library that it needs.

# ---- mpi: only where an MPI is found (Debian: libopenmpi-dev)
set(MPI_CXX_SKIP_MPICXX TRUE)
find_package(MPI QUIET COMPONENTS C)
if(MPI_C_FOUND)
  digpt_plugin(collectives mpi MPI::MPI_C)
else()
  message(STATUS "ranks over MPI: skipped, no MPI (Debian: libopenmpi-dev)")
endif()
