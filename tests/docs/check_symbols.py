#!/usr/bin/env python3
"""Checks that every public symbol of the headers has a comment.

    check_symbols.py ROOT

Public is what namespaces ip2p and ip2p::testing declare outside of `detail`, and the public and protected members of these
types. A comment is asked of every type, concept, function, alias, variable and macro. Excepted are

- data members and values of enumerations that the comment of their type names, or that share the declaration of one with
  a comment (`double a, b;  ///< both`);
- what every class has: functions that are defaulted or deleted, destructors, copies and moves, deduction guides;
- specialisations of what is documented elsewhere, macros of others (those of ours begin with IP2P_), and functions of
  LibTorch that a header declares anew.

Ends with status 77 where doxygen is not installed.
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

NOT_PUBLIC = re.compile(r"(?:^|::)detail(?:::|$)|^(?:at|torch|c10)(?:::|$)")


def text_of(element, *tags):
    return " ".join("".join(element.find(tag).itertext()) for tag in tags if element.find(tag) is not None).strip()


def comment_of(element):
    return text_of(element, "briefdescription", "detaileddescription", "inbodydescription")


def place_of(element):
    location = element.find("location")
    return location.get("file"), int(location.get("line") or 0)


def excepted(member, owner):
    """Members that need no comment. `owner` is the unqualified name of their class or namespace."""
    name, arguments = member.findtext("name"), member.findtext("argsstring") or ""
    if member.get("kind") == "define":
        return not name.startswith("IP2P_")
    if member.get("kind") != "function":
        return member.get("kind") == "friend" or name.startswith("@")
    return (name.startswith("~") or re.search(r"=\s*(?:default|delete)\s*$", arguments) is not None or "->" in arguments
            or name == owner and re.match(rf"\((?:const )?{owner} &&?\w*\)", arguments) is not None
            or name == "operator=" and owner in arguments
            or re.match(r"[A-Z]", name) is not None and re.match(r"[a-z0-9]", owner) is not None)


def undocumented_of(compound, private):
    """(file, line, kind, name) of each symbol of a compound without a comment; `private` names types within others."""
    name, kind = compound.findtext("compoundname"), compound.get("kind")
    if NOT_PUBLIC.search(name) or any(name.startswith(f"{inner}::") or name == inner for inner in private):
        return []
    found, comment = [], comment_of(compound)
    if kind in ("class", "struct", "union", "concept") and not comment and "<" not in name:
        found.append((*place_of(compound), kind, name))
    if kind in ("concept", "file"):
        members = compound.findall("sectiondef/memberdef[@kind='define']")
    else:
        members = compound.findall("sectiondef/memberdef")
    lines_with_comment = {place_of(member) for member in members if comment_of(member)}
    for member in members:
        what, own = member.get("kind"), member.findtext("name")
        full = f"{name}::{own}" if kind != "file" else own
        if member.get("prot") == "private" or excepted(member, re.sub(r"<.*", "", name).rsplit("::", 1)[-1]):
            continue
        words = set(re.findall(r"\w+", comment)) if kind in ("class", "struct", "union") and what == "variable" else ()
        if not comment_of(member) and own not in words and not (
                what == "variable" and place_of(member) in lines_with_comment):
            found.append((*place_of(member), what, full))
        if what == "enum":
            words = set(re.findall(r"\w+", comment_of(member)))
            for value in member.findall("enumvalue"):
                if not comment_of(value) and value.findtext("name") not in words:
                    found.append((*place_of(member), "enum value", f"{full}::{value.findtext('name')}"))
    return found


def main():
    root = pathlib.Path(sys.argv[1]).resolve()
    if shutil.which("doxygen") is None:
        print("skipped: doxygen is not installed")
        return 77
    with tempfile.TemporaryDirectory() as scratch:
        settings = (root / "docs/site/Doxyfile").read_text() + f"""
INPUT            = include
FILE_PATTERNS    = *.hpp
OUTPUT_DIRECTORY = {scratch}
GENERATE_HTML    = NO
GENERATE_XML     = YES
XML_PROGRAMLISTING = NO
"""
        run = subprocess.run(["doxygen", "-"], input=settings, cwd=root, capture_output=True, text=True)
        if run.returncode:
            sys.exit(f"doxygen: status {run.returncode}\n{run.stderr}")
        problems = {line for line in run.stderr.splitlines() if re.search(r": (?:warning|error):", line)}
        compounds = [ElementTree.parse(path).getroot().find("compounddef")
                     for path in sorted(pathlib.Path(scratch, "xml").glob("*.xml"))
                     if re.match(r"(?:class|struct|union|concept|namespace)|.*_8hpp\.xml$", path.name)]
    symbols = sum(len(compound.findall("sectiondef/memberdef")) + 1 for compound in compounds)
    private = {inner.text for compound in compounds for inner in compound.findall("innerclass[@prot='private']")}
    found = sorted({entry for compound in compounds for entry in undocumented_of(compound, private)})
    for file, line, kind, name in found:
        print(f"{file}:{line}: expected a comment on the {kind} {name}, found none")
    print("\n".join(sorted(problems)), end="\n" if problems else "")
    print(f"{symbols} symbols, {len(found)} without a comment, {len(problems)} warnings of doxygen")
    return 1 if found or problems else 0


if __name__ == "__main__":
    sys.exit(main())
