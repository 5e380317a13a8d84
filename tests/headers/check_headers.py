#!/usr/bin/env python3
"""Checks the order of includes among the library's headers, that each includes what it names of the others, of LibTorch
and of the standard library, and that the umbrella names every one of them.

    check_headers.py ROOT          prints what is wrong, one line each; exit status 1 if anything is
    check_headers.py ROOT --fix    rewrites include/ip2p/ip2p.hpp
"""
import pathlib
import re
import sys

# A folder may include itself and those before it.
FOLDERS = ["core", "io", "schedule", "sampling", "guidance", "kernels", "attention", "execution", "filter", "upsampling", "nn",
           "text", "codec", "unet", "vision", "language", "data", "parallel", "train", "pipeline", "text2live", "evaluate", "testing"]

# Headers that bring in c10d or the nodes of autograd, which other applications would compile for nothing. All others
# make do with LibTorch's tensors and single operators.
HEAVY = ("ip2p/parallel/process_group.hpp", "ip2p/parallel/launch.hpp", "ip2p/parallel/nccl.hpp",
         "ip2p/nn/checkpointed.hpp", "ip2p/nn/winograd_gradients.hpp", "ip2p/unet/checkpoint_gradients.hpp",
         "ip2p/execution/cuda_graph.hpp", "ip2p/kernels/cuda/bound.hpp", "ip2p/kernels/cuda.hpp")

# What brings in the libraries of picture formats. `io/image.hpp` includes it where it is not linked.
FORMATS = tuple(f"ip2p/io/{name}.hpp" for name in ("icc", "image_definitions", "jpeg", "jpeg_segments", "png", "png_chunks",
                                                   "stb", "stb_pictures", "webp", "whole_pictures"))

# Headers that applications ask for by name: the conformance kit, forward declarations, and what is heavy.
OUTSIDE_UMBRELLA = ("ip2p/testing/", "ip2p/ip2p.hpp", "ip2p/fwd.hpp", "ip2p/kernels/cuda", *FORMATS, *HEAVY)

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)

# Which header declares a name of std; those that nearly every header declares (size_t, begin, less) are left out.
STANDARD = {
    "algorithm": "adjacent_find all_of any_of binary_search clamp copy copy_if equal fill find find_if find_if_not for_each "
                 "lower_bound max max_element min min_element none_of partial_sort replace reverse sort stable_sort "
                 "transform upper_bound",
    "any": "any any_cast", "array": "array", "atomic": "atomic", "bit": "endian", "charconv": "from_chars",
    "chrono": "chrono chrono_literals", "cctype": "isspace tolower",
    "cmath": "ceil cos exp expm1 floor fma fmod isfinite isnan ldexp llround log log10 lround nearbyint nextafter pow sin "
             "sqrt",
    "concepts": "convertible_to copy_constructible copyable default_initializable same_as",
    "condition_variable": "condition_variable condition_variable_any", "cstddef": "byte to_integer",
    "cstdint": "int16_t int32_t int64_t uint16_t uint32_t uint64_t uint8_t uintmax_t",
    "cstdio": "FILE fclose ferror fopen fputs fread snprintf", "cstdlib": "free getenv", "cstring": "memcmp memcpy memset",
    "deque": "deque", "exception": "current_exception exception_ptr rethrow_exception", "filesystem": "filesystem",
    "fstream": "ifstream ofstream", "functional": "function multiplies ref",
    "future": "async future future_status launch promise", "iterator": "back_inserter istreambuf_iterator",
    "limits": "numeric_limits", "list": "list", "map": "map",
    "memory": "dynamic_pointer_cast make_shared make_unique shared_ptr unique_ptr weak_ptr",
    "mutex": "mutex scoped_lock", "new": "bad_alloc", "numbers": "numbers", "numeric": "accumulate iota",
    "optional": "nullopt optional", "queue": "priority_queue", "random": "random_device", "set": "set",
    "span": "as_bytes as_writable_bytes span", "sstream": "istringstream", "stdexcept": "logic_error runtime_error",
    "stop_token": "stop_callback stop_source stop_token", "string": "getline stoll stoul string to_string u32string",
    "string_view": "string_view string_view_literals u32string_view", "system_error": "errc error_code generic_category",
    "thread": "jthread this_thread thread", "tuple": "tie tuple",
    "type_traits": "bool_constant integral_constant invoke_result_t is_floating_point_v is_integral_v is_invocable_r_v "
                   "is_invocable_v is_member_function_pointer_v is_same_v remove_const_t remove_cvref_t "
                   "remove_reference_t",
    "unordered_map": "unordered_map",
    "utility": "as_const declval exchange forward index_sequence make_index_sequence move pair swap",
    "variant": "get_if holds_alternative variant visit", "vector": "vector",
}
HEADER_OF = {name: header for header, names in STANDARD.items() for name in names.split()}
# Classes and functions of LibTorch that are not operators and do not come with its tensors.
TORCH_HEADER_OF = {
    "AutoGradMode": "ATen/core/grad_mode.h", "GradMode": "ATen/core/grad_mode.h", "NoGradGuard": "ATen/core/grad_mode.h",
    "CPUGeneratorImpl": "ATen/CPUGeneratorImpl.h", "Generator": "ATen/core/Generator.h",
    "Reduction": "ATen/core/Reduction.h", "autocast": "ip2p/core/autocast.hpp",
    "get_cpu_capability": "ip2p/kernels/cpu/levels.hpp",
    "detail": "ATen/detail/CUDAHooksInterface.h", "getHostAllocator": "ATen/core/CachingHostAllocator.h",
    "globalContext": "ATen/Context.h", "hasCUDA": "ATen/Context.h",
    "hasMKLDNN": "ATen/Context.h", "make_generator": "ATen/core/Generator.h",
    "philox_engine": "ATen/core/PhiloxRNGEngine.h", "get_num_threads": "ATen/Parallel.h",
    "in_parallel_region": "ATen/Parallel.h", "set_num_threads": "ATen/Parallel.h",
}

TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\'', re.DOTALL)
# Declarations inside namespaces are not indented.
TYPE = re.compile(r"^(?:struct|class|enum class|concept|using) (\w+)", re.MULTILINE)
FUNCTION = re.compile(r"^(?:\[\[nodiscard\]\] )?(?:inline |constexpr |consteval )*[A-Za-z_][\w:<>,&* ]*?[ &*>](\w+)\(", re.MULTILINE)
LOCAL = re.compile(r"\b(?:class|struct|typename|using|concept|enum class|auto|auto&|auto\.\.\.|template|Attention) (\w+)")
NO_NAMES = {"operator", "static_assert", "requires"}


def declared_names(text):
    """(types, functions) that a header declares for others."""
    code = TEXT.sub('""', text)
    return set(TYPE.findall(code)), set(FUNCTION.findall(code)) - NO_NAMES


def used_names(text):
    """(types, functions) that a header names, except those that it introduces itself."""
    code = TEXT.sub('""', text)
    code = re.sub(r"^\s*#.*$", "", code, flags=re.MULTILINE)
    own = set(LOCAL.findall(code))
    types = set(re.findall(r"(?<![\w:.>])(?:ip2p::|detail::)*([A-Z][a-z]\w*)\b", code)) - own
    calls = set(re.findall(r"(?:(?<=return )|(?<![\w:.>*&] ))(?<![\w:.>])(?:ip2p::|detail::)*([a-z]\w*)\(", code)) - own
    members = set(re.findall(r"[\w>&*\]] (\w+)\([^()]*\)(?: const)?(?: override)?(?: [{;]| = 0;)", code))
    return types, calls - members


def missing_includes(texts):
    """Headers that name something that no header they include declares. \param texts of all headers by name"""
    own = {header: {name for _, name in INCLUDE.findall(text) if name in texts} for header, text in texts.items()}
    closure = {}

    def closure_of(header):
        if header not in closure:
            closure[header] = {header}
            for name in own[header]:
                closure[header] |= closure_of(name)
        return closure[header]

    places = {}
    for header, text in texts.items():
        for names in declared_names(text):
            for name in names:
                places.setdefault(name, set()).add(header)
    found = []
    for header, text in texts.items():
        for names in used_names(text):
            for name in sorted(names & places.keys()):
                if not places[name] & closure_of(header):
                    found.append(f"{header}: names {name} without including {' or '.join(sorted(places[name]))}")
        tensors = re.compile(r"<(?:ATen|torch)/|ip2p/core/tensor.hpp")
        if "at::Tensor" in TEXT.sub("", text) and not any(tensors.search(texts[name]) for name in closure_of(header)):
            if header != "ip2p/core/tensor.hpp":
                found.append(f"{header}: names at::Tensor without including ip2p/core/tensor.hpp")
    return found


# Names in namespace at that are not operators and so have no header of their own.
NO_OPERATORS = TORCH_HEADER_OF.keys() | {"isComplexType", "isFloatingType", "toString"}


def missing_operators(header, text):
    """Operators of LibTorch that a header calls without including their headers."""
    called = set(re.findall(r"\bat::([a-z]\w*)\(", TEXT.sub('""', text))) - NO_OPERATORS
    headers = {name: re.sub(r"_$", "", name) for name in called}
    return [f"{header}: calls at::{name} without including ATen/ops/{file}.h" for name, file in sorted(headers.items())
            if f"<ATen/ops/{file}.h>" not in text and f"<ATen/ops/{name}.h>" not in text]


def missing_foreign_includes(texts):
    """Headers that name something of LibTorch or of the standard library whose header they do not include, directly or
    through ours. \\param texts of all headers by name"""
    own = {header: {name for _, name in INCLUDE.findall(text)} for header, text in texts.items()}
    closure = {}

    def closure_of(header):
        if header not in closure:
            closure[header] = set(own[header])
            for name in own[header] & texts.keys():
                closure[header] |= closure_of(name)
        return closure[header]

    found = []
    for header, text in texts.items():
        code = TEXT.sub('""', text)
        included = closure_of(header)
        for name in sorted(set(re.findall(r"\bstd::(\w+)", code)) & HEADER_OF.keys()):
            if HEADER_OF[name] not in included:
                found.append(f"{header}: names std::{name} without including {HEADER_OF[name]}")
        if any(name.startswith("torch/") for name in included):
            continue  # these include everything below
        for name in sorted(set(re.findall(r"\bat::(\w+)", code)) & TORCH_HEADER_OF.keys()):
            if TORCH_HEADER_OF[name] not in included | {header}:
                found.append(f"{header}: names at::{name} without including {TORCH_HEADER_OF[name]}")
    return found


def public_headers(root):
    include = root / "include"
    return sorted(path.relative_to(include).as_posix() for path in include.glob("ip2p/**/*.hpp"))


def problems_of(header, text):
    """What is wrong with one header's own include lines."""
    parts = header.split("/")
    folder = parts[1] if len(parts) > 2 else None
    found = []
    if not re.search(r"^#pragma once$", text, re.MULTILINE):
        found.append(f"{header}: expected #pragma once, found none")
    if folder is None:
        return found
    if folder not in FOLDERS:
        return found + [f"{header}: folder {folder} has no place in the order of includes"]
    for bracket, name in INCLUDE.findall(text):
        if name == "ip2p/ip2p.hpp":
            found.append(f"{header}: includes the umbrella, which is for applications")
        elif name.startswith("ip2p/"):
            below = name.split("/")
            if len(below) > 2 and FOLDERS.index(below[1]) > FOLDERS.index(folder):
                found.append(f"{header}: includes {name}, of a folder that comes after its own")
        elif bracket == '"':
            found.append(f'{header}: includes "{name}"; library headers are named from ip2p/, others in <>')
        if name == "torch/torch.h" or name == "torch/all.h":
            found.append(f"{header}: includes {name}; name the narrow header instead")
        if header not in HEAVY and (name in HEAVY or name.startswith("torch/") or
                                    name in ("ATen/ATen.h", "ATen/Functions.h", "ATen/autocast_mode.h")):
            found.append(f"{header}: includes {name}; expected ATen/core/Tensor.h and ATen/ops/*.h, because it takes a "
                         "compiler several times as long")
    return found


def in_umbrella(header):
    """Definitions come with the header that they stand behind, where they are not linked."""
    return not header.startswith(OUTSIDE_UMBRELLA) and not header.endswith("_definitions.hpp")


def umbrella_text(headers):
    lines = ["#pragma once", "", "/// \\file", "/// Everything, for applications. Library headers never include this one.", ""]
    wanted = [h for h in headers if in_umbrella(h)]
    wanted.sort(key=lambda h: (FOLDERS.index(h.split("/")[1]) if h.count("/") > 1 else len(FOLDERS), h))
    folder = None
    for header in wanted:
        if folder is not None and header.rsplit("/", 1)[0] != folder:
            lines.append("")
        folder = header.rsplit("/", 1)[0]
        lines.append(f'#include "{header}"')
    return "\n".join(lines) + "\n"


def main():
    root = pathlib.Path(sys.argv[1])
    headers = public_headers(root)
    umbrella = root / "include/ip2p/ip2p.hpp"
    if sys.argv[2:] == ["--fix"]:
        umbrella.write_text(umbrella_text(headers))
    texts = {header: (root / "include" / header).read_text() for header in headers}
    found = [problem for header in headers for problem in problems_of(header, texts[header])]
    found += [problem for header in headers for problem in missing_operators(header, texts[header])]
    parts = {header: text for header, text in texts.items() if header != "ip2p/ip2p.hpp"}
    found += missing_includes(parts) + missing_foreign_includes(parts)
    present = umbrella.read_text() if umbrella.exists() else ""
    if present != umbrella_text(headers):
        named = {name for _, name in INCLUDE.findall(present)}
        for header in headers:
            if in_umbrella(header) and header not in named:
                found.append(f"ip2p/ip2p.hpp: does not include {header}")
        found.append("ip2p/ip2p.hpp: expected the list that tests/headers/check_headers.py . --fix writes")
    print("\n".join(found) if found else f"{len(headers)} headers in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
