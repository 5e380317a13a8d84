#pragma once

/// \file
/// Tensors of a pickle: types, shapes and places in the file, without LibTorch.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ip2p/io/zip_archive.hpp"

namespace ip2p::detail {

/// The bytes behind one or more tensors.
struct PickledStorage {
  std::string name;     ///< Of the archive's entry, or the number under which the pickle knows it.
  ZipEntry place;       ///< Where its bytes lie, and the sum that was written.
  bool summed = false;  ///< Whether there is a sum.
};

/// One tensor, a view of a storage that lies within it.
struct PickledTensor {
  std::string_view type;              ///< As safetensors name it, e.g. "F16"; also "C128".
  std::uint64_t element_bytes = 1;    ///< Size of an element.
  std::vector<std::int64_t> shape;    ///< Sizes; empty for a scalar.
  std::vector<std::int64_t> strides;  ///< In elements, 0 or more, one for each size.
  std::uint64_t begin = 0;            ///< Place of its first element in the file, in bytes.
  std::uint64_t span = 0;             ///< Bytes from its first to the end of its last element; 0 if it has none.
  std::size_t storage = 0;            ///< Place in `PickledTensors::storages`.
};

/// What is read of a file.
struct PickledTensors {
  std::map<std::string, PickledTensor, std::less<>> tensors;  ///< By name.
  std::vector<PickledStorage> storages;                       ///< Those that tensors use.
  std::string root;                                           ///< What the file holds, in words.
};

/// A type of PyTorch's storages and tensors.
struct PickledType {
  std::string_view storage;  ///< Name of its class of storages, if it has one.
  std::string_view dtype;    ///< Its name as a dtype.
  std::string_view name;     ///< As safetensors name it; empty for types that are not read.
  std::uint64_t bytes;       ///< Of an element.
};

inline constexpr std::array<PickledType, 28> pickled_types{{
    {"FloatStorage", "float32", "F32", 4},
    {"HalfStorage", "float16", "F16", 2},
    {"BFloat16Storage", "bfloat16", "BF16", 2},
    {"DoubleStorage", "float64", "F64", 8},
    {"LongStorage", "int64", "I64", 8},
    {"IntStorage", "int32", "I32", 4},
    {"ShortStorage", "int16", "I16", 2},
    {"CharStorage", "int8", "I8", 1},
    {"ByteStorage", "uint8", "U8", 1},
    {"UntypedStorage", "", "U8", 1},
    {"BoolStorage", "bool", "BOOL", 1},
    {"ComplexFloatStorage", "complex64", "C64", 8},
    {"ComplexDoubleStorage", "complex128", "C128", 16},
    {"", "uint16", "U16", 2},
    {"", "uint32", "U32", 4},
    {"", "uint64", "U64", 8},
    {"", "float8_e4m3fn", "F8_E4M3", 1},
    {"", "float8_e5m2", "F8_E5M2", 1},
    {"", "float8_e4m3fnuz", "F8_E4M3FNUZ", 1},
    {"", "float8_e5m2fnuz", "F8_E5M2FNUZ", 1},
    {"", "float8_e8m0fnu", "F8_E8M0", 1},
    {"ComplexHalfStorage", "complex32", "", 4},
    {"QInt8Storage", "qint8", "", 1},
    {"QUInt8Storage", "quint8", "", 1},
    {"QInt32Storage", "qint32", "", 4},
    {"QUInt4x2Storage", "quint4x2", "", 1},
    {"QUInt2x4Storage", "quint2x4", "", 1},
    {"", "float4_e2m1fn_x2", "", 1},
}};

}  // namespace ip2p::detail
