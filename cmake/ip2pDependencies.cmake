# Finds what ip2p::ip2p links to. Used by the build and, installed, by the package config: both see the same targets.
#
# Defines
#   ip2p::libtorch   LibTorch, with CUDA where it can be used
#   ip2p::stb        the headers of stb, which are required
#   ip2p::png        libpng with IP2P_HAS_PNG, or nothing where it is absent
#   ip2p::jpeg       libjpeg with IP2P_HAS_JPEG, or nothing where it is absent
#   ip2p::lcms       lcms2 with IP2P_HAS_LCMS, or nothing where it is absent
#   ip2p::webp       libwebp with IP2P_HAS_WEBP, or nothing where it is absent
#   ip2p::curl       libcurl with IP2P_HAS_CURL, or nothing where it is absent
#   ip2p::gloo       the headers of Gloo with IP2P_HAS_GLOO, or nothing where they are absent; its code is in LibTorch
#   ip2p::nccl       the header of NCCL with IP2P_HAS_NCCL where LibTorch is used with a CUDA toolkit, else nothing
# and finds fmt, nlohmann_json, Eigen and Threads.
#
# Reads
#   IP2P_CUDA   AUTO (default): CUDA if this machine has all libraries that libtorch_cuda needs;
#               ON: CUDA, or an error; OFF: CPU only.

include(CMakeFindDependencyMacro)

if(NOT TARGET fmt::fmt-header-only)
  find_dependency(fmt)
endif()
if(NOT TARGET nlohmann_json::nlohmann_json)
  find_dependency(nlohmann_json)
endif()
if(NOT TARGET Eigen3::Eigen)
  find_dependency(Eigen3 NO_MODULE)
endif()
if(NOT TARGET Threads::Threads)
  find_dependency(Threads)
endif()

if(NOT TARGET ip2p::stb)
  find_path(IP2P_STB_INCLUDE_DIR stb_image.h PATH_SUFFIXES stb)
  mark_as_advanced(IP2P_STB_INCLUDE_DIR)
  if(NOT IP2P_STB_INCLUDE_DIR)
    set(${CMAKE_FIND_PACKAGE_NAME}_FOUND FALSE)
    set(${CMAKE_FIND_PACKAGE_NAME}_NOT_FOUND_MESSAGE
      "ip2p needs stb_image.h (Debian: libstb-dev); name its folder in IP2P_STB_INCLUDE_DIR")
    if(${CMAKE_FIND_PACKAGE_NAME}_FIND_REQUIRED)
      message(FATAL_ERROR "${${CMAKE_FIND_PACKAGE_NAME}_NOT_FOUND_MESSAGE}")
    endif()
    return()
  endif()
  add_library(ip2p::stb INTERFACE IMPORTED)
  set_target_properties(ip2p::stb PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${IP2P_STB_INCLUDE_DIR}")
endif()

# Where one is absent, the header alone must not be taken for the library.
foreach(ip2p_format IN ITEMS PNG JPEG)
  string(TOLOWER ${ip2p_format} ip2p_target)
  if(NOT TARGET ip2p::${ip2p_target})
    if(NOT TARGET ${ip2p_format}::${ip2p_format})
      find_package(${ip2p_format} QUIET)
    endif()
    add_library(ip2p::${ip2p_target} INTERFACE IMPORTED)
    if(TARGET ${ip2p_format}::${ip2p_format})
      set_target_properties(ip2p::${ip2p_target} PROPERTIES
        INTERFACE_COMPILE_DEFINITIONS IP2P_HAS_${ip2p_format}=1
        INTERFACE_LINK_LIBRARIES ${ip2p_format}::${ip2p_format})
    else()
      set_target_properties(ip2p::${ip2p_target} PROPERTIES INTERFACE_COMPILE_DEFINITIONS IP2P_HAS_${ip2p_format}=0)
    endif()
  endif()
endforeach()

if(NOT TARGET ip2p::lcms)
  find_path(IP2P_LCMS_INCLUDE_DIR lcms2.h)
  find_library(IP2P_LCMS_LIBRARY lcms2)
  mark_as_advanced(IP2P_LCMS_INCLUDE_DIR IP2P_LCMS_LIBRARY)
  add_library(ip2p::lcms INTERFACE IMPORTED)
  if(IP2P_LCMS_INCLUDE_DIR AND IP2P_LCMS_LIBRARY)
    set_target_properties(ip2p::lcms PROPERTIES
      INTERFACE_COMPILE_DEFINITIONS IP2P_HAS_LCMS=1
      INTERFACE_INCLUDE_DIRECTORIES "${IP2P_LCMS_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "${IP2P_LCMS_LIBRARY}")
  else()
    set_target_properties(ip2p::lcms PROPERTIES INTERFACE_COMPILE_DEFINITIONS IP2P_HAS_LCMS=0)
  endif()
endif()

if(NOT TARGET ip2p::webp)
  find_path(IP2P_WEBP_INCLUDE_DIR webp/decode.h)
  find_library(IP2P_WEBP_LIBRARY webp)
  find_library(IP2P_WEBPDEMUX_LIBRARY webpdemux)
  mark_as_advanced(IP2P_WEBP_INCLUDE_DIR IP2P_WEBP_LIBRARY IP2P_WEBPDEMUX_LIBRARY)
  add_library(ip2p::webp INTERFACE IMPORTED)
  if(IP2P_WEBP_INCLUDE_DIR AND IP2P_WEBP_LIBRARY AND IP2P_WEBPDEMUX_LIBRARY)
    set_target_properties(ip2p::webp PROPERTIES
      INTERFACE_COMPILE_DEFINITIONS IP2P_HAS_WEBP=1
      INTERFACE_INCLUDE_DIRECTORIES "${IP2P_WEBP_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "${IP2P_WEBPDEMUX_LIBRARY};${IP2P_WEBP_LIBRARY}")
  else()
    set_target_properties(ip2p::webp PROPERTIES INTERFACE_COMPILE_DEFINITIONS IP2P_HAS_WEBP=0)
  endif()
endif()

if(NOT TARGET ip2p::curl)
  find_path(IP2P_CURL_INCLUDE_DIR curl/curl.h)
  find_library(IP2P_CURL_LIBRARY curl)
  mark_as_advanced(IP2P_CURL_INCLUDE_DIR IP2P_CURL_LIBRARY)
  add_library(ip2p::curl INTERFACE IMPORTED)
  if(IP2P_CURL_INCLUDE_DIR AND IP2P_CURL_LIBRARY)
    set_target_properties(ip2p::curl PROPERTIES
      INTERFACE_COMPILE_DEFINITIONS IP2P_HAS_CURL=1
      INTERFACE_INCLUDE_DIRECTORIES "${IP2P_CURL_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES "${IP2P_CURL_LIBRARY}")
  else()
    # The header alone, without the library, must not be taken for a libcurl.
    set_target_properties(ip2p::curl PROPERTIES INTERFACE_COMPILE_DEFINITIONS IP2P_HAS_CURL=0)
  endif()
endif()

if(NOT TARGET ip2p::gloo)
  find_path(IP2P_GLOO_INCLUDE_DIR gloo/rendezvous/store.h)
  mark_as_advanced(IP2P_GLOO_INCLUDE_DIR)
  add_library(ip2p::gloo INTERFACE IMPORTED)
  if(IP2P_GLOO_INCLUDE_DIR)
    set_target_properties(ip2p::gloo PROPERTIES
      # c10d's header shows its Gloo part only where the second is defined, whoever includes it first.
      INTERFACE_COMPILE_DEFINITIONS "IP2P_HAS_GLOO=1;USE_C10D_GLOO=1"
      INTERFACE_INCLUDE_DIRECTORIES "${IP2P_GLOO_INCLUDE_DIR}")
  endif()
endif()

if(TARGET ip2p::libtorch)
  return()
endif()

# Sets `result` to the libraries that libtorch_cuda needs and the loader does not find here.
function(ip2p_missing_cuda_libraries library result)
  execute_process(COMMAND ldd "${library}" OUTPUT_VARIABLE needed ERROR_QUIET)
  string(REGEX MATCHALL "[^ \t\n]+ => not found" missing "${needed}")
  list(TRANSFORM missing REPLACE " => not found" "")
  list(REMOVE_DUPLICATES missing)
  set(${result} "${missing}" PARENT_SCOPE)
endfunction()

set(ip2p_libtorch_note "")
if(TARGET torch)
  # The caller found Torch already: its choice stands.
  set(ip2p_libtorch_way package)
  set(ip2p_libtorch_note "the target torch that was there")
  set(ip2p_libtorch_prefix "${TORCH_INSTALL_PREFIX}")  # as TorchConfig.cmake sets it
  if(NOT ip2p_libtorch_prefix AND Torch_DIR)
    get_filename_component(ip2p_libtorch_prefix "${Torch_DIR}/../../.." ABSOLUTE)
  endif()
else()
  # The wheel's own package stops with a fatal error where no CUDA toolkit is, so it is asked only where one is.
  find_path(IP2P_TORCH_CONFIG_DIR TorchConfig.cmake
    HINTS "${Torch_DIR}" "${Torch_ROOT}" ENV Torch_DIR ENV Torch_ROOT ${CMAKE_PREFIX_PATH} ENV CMAKE_PREFIX_PATH
    PATHS "$ENV{XDG_CACHE_HOME}/ip2p/libtorch-2.11.0/torch" "$ENV{HOME}/.cache/ip2p/libtorch-2.11.0/torch"
    PATH_SUFFIXES share/cmake/Torch Torch NO_CACHE)
  if(IP2P_TORCH_CONFIG_DIR)
    get_filename_component(ip2p_libtorch_prefix "${IP2P_TORCH_CONFIG_DIR}/../../.." ABSOLUTE)
  endif()
  if(NOT IP2P_TORCH_CONFIG_DIR OR NOT EXISTS "${ip2p_libtorch_prefix}/lib/libtorch_cuda.so")
    # No wheel with CUDA: a package of a distribution, or a CPU build of LibTorch, knows best itself.
    set(ip2p_libtorch_way package)
    set(ip2p_libtorch_note "a build without CUDA")
  elseif(DEFINED IP2P_CUDA AND NOT IP2P_CUDA STREQUAL "AUTO" AND NOT IP2P_CUDA)
    set(ip2p_libtorch_way headers)
    set(ip2p_libtorch_note "CPU only: IP2P_CUDA is ${IP2P_CUDA}")
  else()
    ip2p_missing_cuda_libraries("${ip2p_libtorch_prefix}/lib/libtorch_cuda.so" ip2p_missing)
    list(JOIN ip2p_missing ", " ip2p_missing)
    find_package(CUDAToolkit QUIET)
    if(ip2p_missing AND (NOT DEFINED IP2P_CUDA OR IP2P_CUDA STREQUAL "AUTO"))
      set(ip2p_libtorch_way headers)
      set(ip2p_libtorch_note "CPU only: libtorch_cuda.so needs ${ip2p_missing}")
    elseif(ip2p_missing OR (CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE))
      set(ip2p_libtorch_way package)
      set(ip2p_libtorch_note "with CUDA ${CUDAToolkit_VERSION}")
    else()
      set(ip2p_libtorch_way headers_and_cuda)
      set(ip2p_libtorch_note "with CUDA, without a toolkit")
    endif()
  endif()
endif()

add_library(ip2p::libtorch INTERFACE IMPORTED)
if(ip2p_libtorch_way STREQUAL "package")
  if(NOT TARGET torch)
    if(IP2P_TORCH_CONFIG_DIR)
      set(Torch_DIR "${IP2P_TORCH_CONFIG_DIR}")
    endif()
    find_dependency(Torch)
  endif()
  set_property(TARGET ip2p::libtorch PROPERTY INTERFACE_LINK_LIBRARIES torch)
  # The target torch carries include folders and libraries; a library of CUDA that is absent here is needed only where
  # the program runs on a GPU, so it must not stop the link.
  if(TARGET torch_cuda)
    set_property(TARGET ip2p::libtorch PROPERTY INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
  endif()
  # libtorch.so exports parts of the C++ library that it was built with. Found before the system's, they mix with it:
  # std::filesystem::remove_all(path, error) then calls address 0.
  if(UNIX AND NOT APPLE)
    set_property(TARGET ip2p::libtorch APPEND PROPERTY INTERFACE_LINK_OPTIONS
      "LINKER:--push-state,--no-as-needed,-lstdc++,--pop-state")
  endif()
else()
  add_library(ip2p::c10 SHARED IMPORTED)
  set_target_properties(ip2p::c10 PROPERTIES IMPORTED_LOCATION "${ip2p_libtorch_prefix}/lib/libc10.so")
  add_library(ip2p::torch_cpu SHARED IMPORTED)
  set_target_properties(ip2p::torch_cpu PROPERTIES IMPORTED_LOCATION "${ip2p_libtorch_prefix}/lib/libtorch_cpu.so")
  set_target_properties(ip2p::libtorch PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES
      "${ip2p_libtorch_prefix}/include;${ip2p_libtorch_prefix}/include/torch/csrc/api/include"
    INTERFACE_LINK_LIBRARIES "ip2p::torch_cpu;ip2p::c10")
  if(ip2p_libtorch_way STREQUAL "headers_and_cuda")
    # Nothing names a symbol of it: it registers itself when it is loaded.
    set_property(TARGET ip2p::libtorch APPEND PROPERTY INTERFACE_LINK_OPTIONS
      "LINKER:--no-as-needed,${ip2p_libtorch_prefix}/lib/libtorch_cuda.so,--as-needed")
  endif()
endif()
# A .cu file that includes our headers is C++20 as well, which CMake up to 3.25 does not know of any nvcc.
if(CMAKE_CUDA_COMPILER_ID STREQUAL "NVIDIA" AND NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION
   AND CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.0)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
# Only a project that has the language may ask for its standard.
if("cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
  set_property(TARGET ip2p::libtorch APPEND PROPERTY INTERFACE_COMPILE_FEATURES cuda_std_20)
endif()
# NCCL's header comes as a Python package beside LibTorch's, which then is the version that LibTorch runs with, or with
# the toolkit.
find_path(IP2P_NCCL_INCLUDE_DIR nccl.h
  HINTS "${ip2p_libtorch_prefix}/../nvidia/nccl/include" ${CUDAToolkit_INCLUDE_DIRS})
mark_as_advanced(IP2P_NCCL_INCLUDE_DIR)
if(NOT TARGET ip2p::nccl)
  add_library(ip2p::nccl INTERFACE IMPORTED)
  if(TARGET torch_cuda AND CUDAToolkit_FOUND AND IP2P_NCCL_INCLUDE_DIR)
    set_target_properties(ip2p::nccl PROPERTIES
      INTERFACE_COMPILE_DEFINITIONS "IP2P_HAS_NCCL=1;USE_C10D_NCCL=1"
      INTERFACE_INCLUDE_DIRECTORIES "${IP2P_NCCL_INCLUDE_DIR}")
  endif()
endif()
if(NOT ip2p_FIND_QUIETLY)
  message(STATUS "ip2p: LibTorch ${ip2p_libtorch_prefix} (${ip2p_libtorch_note})")
endif()
