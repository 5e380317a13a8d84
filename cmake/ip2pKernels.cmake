# ip2p_add_kernels(target): the library's CUDA kernels in a program.
#
# The device code is compiled once a project, into the object library ip2p_kernels, by a unit of three lines each for nvcc and
# for the host's compiler; the latter registers the kernels at the start of the program, so that every pipeline uses them.
# `target` is an executable, a shared library, or an interface library that such targets link. From a static library the
# linker may drop what registers them; then give the program itself the kernels.
#
# Needs LibTorch with CUDA (-DIP2P_CUDA=ON insists on it) and the language CUDA, which LibTorch's package enables where ip2p
# is found with find_package(); before add_subdirectory() the project enables it itself. The architectures are those of
# TORCH_CUDA_ARCH_LIST: 8.0 and newer, 9.0 or 9.0a for clusters.

function(ip2p_add_kernels target)
  if(NOT TARGET torch_cuda)
    message(FATAL_ERROR "ip2p_add_kernels(${target}): expected LibTorch with CUDA, found it without; configure with -DIP2P_CUDA=ON")
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "ip2p_add_kernels(${target}): expected the language CUDA, found it not enabled; call enable_language(CUDA) first")
  endif()
  if(NOT TARGET ip2p_kernels)
    set(folder "${CMAKE_CURRENT_BINARY_DIR}/ip2p_kernels")
    file(CONFIGURE OUTPUT "${folder}/device.cu" CONTENT [=[
// The device code, by nvcc.
#include <ip2p/kernels/cuda/launch.cuh>
static_assert(__cplusplus >= 202002L, "ip2p: its kernels need C++20");
]=] @ONLY)
    file(CONFIGURE OUTPUT "${folder}/register.cpp" CONTENT [=[
// The table of the device code, registered when the program starts.
#include <ip2p/kernels/cuda.hpp>
[[maybe_unused]] static const auto* const ip2p_before = ip2p::register_kernels(at::kCUDA, &ip2p::cuda_kernels());
]=] @ONLY)
    add_library(ip2p_kernels OBJECT "${folder}/device.cu" "${folder}/register.cpp")
    target_link_libraries(ip2p_kernels PRIVATE ip2p::ip2p)
    target_compile_definitions(ip2p_kernels PUBLIC IP2P_HAS_CUDA_KERNELS=1)
    set_target_properties(ip2p_kernels PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_RUNTIME_LIBRARY Shared)
  endif()
  get_target_property(type ${target} TYPE)
  if(type STREQUAL "INTERFACE_LIBRARY")
    # Objects pass through an interface library by name only.
    target_link_libraries(${target} INTERFACE ip2p::ip2p ip2p_kernels $<TARGET_OBJECTS:ip2p_kernels>)
  else()
    target_link_libraries(${target} PRIVATE ip2p::ip2p ip2p_kernels)
    set_target_properties(${target} PROPERTIES CUDA_RUNTIME_LIBRARY Shared)
  endif()
endfunction()
