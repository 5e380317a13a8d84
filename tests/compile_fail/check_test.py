#!/usr/bin/env python3
"""The checker's own test: each kind of file that differs from what it says must be reported, a correct one must not.

    check_test.py COMPILER
"""
import pathlib
import shutil
import subprocess
import sys
import tempfile

HEADER = """#pragma once
template <class Type>
consteval void require_size() {
  static_assert(requires(Type value) { value.size(); }, "ip2p: a Type needs `size()`");
}
template <class Type>
struct Holder {
  int held() const { return value.size(); }
  Type value;
};
template <class Type>
struct Checked : Holder<Type> {
  Checked() { require_size<Type>(); }
};
"""
FIRST = "// expect-error: ip2p: a Type needs `size\\(\\)`\n"
EACH = "// expect-each: ip2p: a Type needs `size\\(\\)`\n"
LACKS = """#include "header.hpp"
namespace {name} {{
struct Mine {{
#ifdef IP2P_CORRECTED
  int size() const;
#endif
}};
{use}
}}
"""
CALL = "void use() { require_size<Mine>(); }"
# Two errors of one use, with ours first and with ours last.
OURS_FIRST = "int use() { Checked<Mine> checked; return checked.held(); }"
OURS_LAST = "int use() { Mine().size(); return Checked<Mine>().held(); }"

CASES = [  # texts of the files of a unit, and what is reported about which of them
    ([FIRST + LACKS.format(name="a", use=CALL), FIRST + LACKS.format(name="b", use=OURS_FIRST)], {}),
    ([FIRST + LACKS.format(name="a", use=OURS_FIRST), EACH + LACKS.format(name="b", use=CALL)], {}),
    ([FIRST + LACKS.format(name="a", use=CALL), FIRST + LACKS.format(name="b", use="")], {1: "expected an error, found none"}),
    ([FIRST + LACKS.format(name="a", use=OURS_LAST), FIRST + LACKS.format(name="b", use=CALL)],
     {0: "expected a first error"}),
    ([FIRST + LACKS.format(name="a", use=CALL), EACH + LACKS.format(name="b", use=OURS_FIRST)],
     {1: "expected 1 errors, found besides"}),
    ([EACH * 2 + LACKS.format(name="a", use=CALL), FIRST + LACKS.format(name="b", use=CALL)],
     {0: "expected an error with"}),
    (["// expect-lines: 3\n// expect-lines-clang: 3\n" + FIRST + LACKS.format(name="a", use=CALL)],
     {0: "expected at most 3 lines"}),
    ([LACKS.format(name="a", use=CALL)], {0: "expected lines"}),
    ([FIRST + '#include "header.hpp"\nvoid use() { require_size<int>(); }\n'], {0: "expected lines"}),
]
NOT_MENDED = FIRST + '#include "header.hpp"\n#ifdef IP2P_CORRECTED\nint more = "";\n#endif\nvoid use() { require_size<int>(); }\n'


def check(folder, compiler, texts):
    names = [folder / f"file_{i}.cpp" for i in range(len(texts))]
    for name, text in zip(names, texts):
        name.write_text(text)
    command = [sys.executable, pathlib.Path(__file__).parent / "check.py", compiler, folder / "flags.txt", *names]
    return names, subprocess.run(command, capture_output=True, text=True)


def main():
    for compiler in [sys.argv[1], *filter(None, [shutil.which("clang++")])]:
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(made).resolve()
            (folder / "header.hpp").write_text(HEADER)
            (folder / "flags.txt").write_text("-std=c++20\n")
            for texts, expected in CASES:
                names, run = check(folder, compiler, texts)
                assert (run.returncode != 0) == bool(expected), (compiler, texts, run.stdout, run.stderr)
                for i, name in enumerate(names):
                    report = f"{name}: {expected.get(i, 'expected')}"
                    assert (report in run.stderr) == (i in expected), (compiler, report, run.stdout, run.stderr)
            if "clang" not in pathlib.Path(compiler).name:
                _, run = check(folder, compiler, [NOT_MENDED])
                assert "expected the corrected programs to compile" in run.stderr, run.stderr


if __name__ == "__main__":
    main()
