#!/usr/bin/env python3
"""The checker's own test: each rule broken once must be reported, and a correct header must not."""
from check_headers import missing_foreign_includes, missing_includes, missing_operators, problems_of, umbrella_text

ONCE = "#pragma once\n"
CASES = [
    ("ip2p/core/a.hpp", ONCE + "#include <ATen/core/Tensor.h>\n#include <ATen/ops/exp.h>\n", None),
    ("ip2p/sampling/a.hpp", ONCE + '#include "ip2p/schedule/b.hpp"\n#include "ip2p/sampling/b.hpp"\n', None),
    ("ip2p/nn/checkpointed.hpp", ONCE + "#include <torch/csrc/autograd/custom_function.h>\n", None),
    ("ip2p/unet/a.hpp", ONCE + "#include <torch/nn/module.h>\n", "several times as long"),
    ("ip2p/core/a.hpp", "#include <string>\n", "expected #pragma once"),
    ("ip2p/core/a.hpp", ONCE + '#include "ip2p/io/image.hpp"\n', "comes after its own"),
    ("ip2p/nn/a.hpp", ONCE + '#include "ip2p/ip2p.hpp"\n', "includes the umbrella"),
    ("ip2p/nn/a.hpp", ONCE + '#include "layers.hpp"\n', "named from ip2p/"),
    ("ip2p/nn/a.hpp", ONCE + "#include <torch/torch.h>\n", "narrow header"),
    ("ip2p/guidance/a.hpp", ONCE + "#include <torch/nn/module.h>\n", "several times as long"),
    ("ip2p/guidance/a.hpp", ONCE + "# include <ATen/ATen.h>\n", "several times as long"),
    ("ip2p/elsewhere/a.hpp", ONCE, "no place in the order"),
]
for header, text, expected in CASES:
    found = problems_of(header, text)
    if expected is None:
        assert not found, (header, text, found)
    else:
        assert any(expected in problem for problem in found), (header, text, expected, found)

A = "namespace ip2p {\nstruct Photo {};\ninline int brighten(const Photo& photo) { return 0; }\n}\n"
USES = [
    ('#include "ip2p/core/a.hpp"\ninline int f() { return brighten(Photo{}); }\n', []),
    ('#include "ip2p/core/b.hpp"\ninline int f() { return brighten(Photo{}); }\n', []),  # which includes it
    ("inline int f() { Photo photo; }\n", ["names Photo"]),
    ("inline int f() { return brighten(0); }\n", ["names brighten"]),
    ('inline int f() { return x.brighten(0); }  // Photo\nconst char* text = "Photo";\n', []),
    ("template <class Photo>\nint f(Photo photo);\n", []),
    ("at::Tensor f();\n", ["names at::Tensor"]),
    ("#include <ATen/core/Tensor.h>\nat::Tensor f();\n", []),
]
for text, expected in USES:
    found = missing_includes({"ip2p/core/a.hpp": A, "ip2p/core/b.hpp": '#include "ip2p/core/a.hpp"\n', "ip2p/core/c.hpp": text})
    assert len(found) == len(expected), (text, expected, found)
    assert all(part in problem for part, problem in zip(expected, found)), (text, expected, found)

assert missing_operators("a", "#include <ATen/ops/exp.h>\nat::exp(x); at::exp_(x); at::toString(t); // at::sin(x)\n") == []
assert missing_operators("a", "at::exp(x)") == ["a: calls at::exp without including ATen/ops/exp.h"]

B = "#include <ATen/core/grad_mode.h>\n#include <vector>\n"
FOREIGN = [
    ('#include "ip2p/core/b.hpp"\ninline std::vector<at::NoGradGuard> f();\n', []),  # which includes both
    ("inline std::vector<int> f() { return {}; }\n", ["names std::vector without including vector"]),
    ("#include <torch/nn/module.h>\ninline void f() { const at::NoGradGuard guard; }\n", []),
    ("inline void f() { const at::NoGradGuard guard; }\n", ["without including ATen/core/grad_mode.h"]),
    ("inline void f(at::ScalarType type = at::kFloat);  // std::vector\n", []),
]
for text, expected in FOREIGN:
    found = missing_foreign_includes({"ip2p/core/b.hpp": B, "ip2p/core/c.hpp": text})
    assert len(found) == len(expected), (text, expected, found)
    assert all(part in problem for part, problem in zip(expected, found)), (text, expected, found)

umbrella = umbrella_text(["ip2p/unet/b.hpp", "ip2p/core/a.hpp", "ip2p/testing/c.hpp", "ip2p/ip2p.hpp", "ip2p/version.hpp"])
assert [line for line in umbrella.splitlines() if line.startswith("#include")] == [
    '#include "ip2p/core/a.hpp"', '#include "ip2p/unet/b.hpp"', '#include "ip2p/version.hpp"'], umbrella
print("the checker finds each broken rule")
