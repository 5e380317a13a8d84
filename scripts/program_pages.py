#!/usr/bin/env python3
"""The options of the programs as a page of the documentation, man pages and shell completion, made from the programs.

    program_pages.py PROGRAMS --page FILE [--check]
    program_pages.py PROGRAMS --man FOLDER --completions FOLDER

PROGRAMS is the folder with the programs; each prints the table of its options for --help-json. --page writes the page of
the reference, or with --check compares it with the programs and fails where they differ. --man writes NAME.1 for each
program; --completions writes bash/NAME, zsh/_NAME and fish/NAME.fish.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

INTRODUCTION = """# Options of the programs

Made from the programs by `scripts/program_pages.py build/release/examples --page docs/reference/programs.md`; a test
compares them. `PROGRAM --help` prints the same. An option that takes a list is marked with "..."; it takes several
values after its name, and may be repeated. Every other option may be given once.

| value | means |
|---|---|
| `FILE`, `FOLDER` | a path; in a file for `--config`, relative to that file |
| `MODEL` | a folder, a file or a name on the Hugging Face Hub; see [models by name](../how-to/use-models-by-name.md) |
| `N`, `X` | a whole number, a number |
| `TEXT` | any text; quote it if it has spaces |

Exit status of every program: 0 success, 1 error, 2 wrong usage, 130 interrupted by Ctrl-C.

"""


def tables(folder):
    """The option table of every program in `folder`."""
    found = []
    for path in sorted(folder.resolve().iterdir()):
        if path.is_file() and os.access(path, os.X_OK) and not path.suffix:
            answer = subprocess.run([path, "--help-json"], capture_output=True, text=True, check=False)
            if answer.returncode:
                sys.exit(f"{path}: expected its options from --help-json, found status {answer.returncode}: "
                         f"{answer.stderr.strip()}")
            found.append(json.loads(answer.stdout))
    if not found:
        sys.exit(f"{folder}: expected programs, found none")
    return found


def parts(program):
    """The program and its subcommands, each as (words to type, table)."""
    yield program["name"], program
    for command in program["subcommands"]:
        yield f"{program['name']} {command['name']}", command


def value_of(option):
    """What to type after the name."""
    value = option["value"]
    if not value:
        return ""
    if "choices" in option:
        value = "|".join(option["choices"])
    return value + (" ..." if option["list"] else "")


def meaning_of(option):
    """The meaning, with the range that is allowed."""
    return option["meaning"] + (f"; {option['range']}" if "range" in option else "")


# The page ------------------------------------------------------------------------------------------------------------


def cell(text):
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def code(text):
    return f"`{cell(text)}`" if text else ""


def page_table(options):
    lines = ["| option | value | default | meaning |", "|---|---|---|---|"]
    for option in options:
        default = option["default"]
        default = default if default == "required" or " " in default else code(default)
        lines.append(f"| `{option['name']}` | {code(value_of(option))} | {cell(default)} | {cell(meaning_of(option))} |")
    return "\n".join(lines) + "\n"


def shared_options(programs):
    """Names of the options that every program has, and that one table explains."""
    return {option["name"] for option in programs[0]["options"]}.intersection(
        *({option["name"] for option in program["options"]} for program in programs))


def page_of(programs):
    shared = shared_options(programs)
    text = INTRODUCTION + "## Every program\n\n"
    text += page_table([option for option in programs[0]["options"] if option["name"] in shared])
    for program in programs:
        for words, table in parts(program):
            text += f"\n{'##' if table is program else '###'} {words}\n\n{table['description'].rstrip('.')}.\n"
            options = [option for option in table["options"] if option["name"] not in shared]
            if options:
                text += "\n" + page_table(options)
    old = [(words, option) for program in programs for words, table in parts(program) for option in table["options"]
           if "old_names" in option]
    if old:
        text += "\n## Old names\n\nThey still work in this version, with a note.\n\n"
        text += "| program | old name | name |\n|---|---|---|\n"
        for words, option in old:
            for name in option["old_names"]:
                text += f"| {words} | `{name}` | `{option['name']}` |\n"
    return text


# Man pages -----------------------------------------------------------------------------------------------------------


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def man_of(program, version):
    lines = [f'.TH {program["name"].upper()} 1 "" "ip2p {version}" "ip2p"', ".SH NAME",
             roff(f"{program['name']} - {program['description'].rstrip('.')}"), ".SH SYNOPSIS",
             f".B {roff(program['name'])}"]
    lines.append(".I COMMAND\n[options]" if program["subcommands"] else "[options]")
    for words, table in parts(program):
        lines.append(".SH OPTIONS" if table is program else f".SH {roff(table['name'].upper())}\n.B {roff(words)}\n.br\n"
                     f"{roff(table['description'])}")
        for option in table["options"]:
            lines += [".TP", f".B {roff(option['name'])} \\fI{roff(value_of(option))}\\fR", roff(meaning_of(option))]
            if option["default"] == "required":
                lines.append("(required)")
            elif option["default"]:
                lines.append(f"(default: {roff(option['default'])})")
    lines += [".SH NOTES", roff(program["notes"])]
    return "\n".join(lines) + "\n"


# Shell completion ----------------------------------------------------------------------------------------------------


def kind_of(option):
    """What completes its value: a list of words, "file", "folder", nothing, or None for a flag."""
    if not option["value"]:
        return None
    if "choices" in option:
        return option["choices"]
    return {"FILE": "file", "MODEL": "file", "PATH": "file", "FILE[:SCALE]": "file", "FOLDER": "folder"}.get(
        option["value"], "")


def bash_of(program):
    name = program["name"]
    lines = [f"# Completion of {name} for bash.", f"_{name}() {{", "  local words before=${COMP_WORDS[COMP_CWORD-1]}",
             "  local word=${COMP_WORDS[COMP_CWORD]} command=", "  COMPREPLY=()"]
    commands = [command["name"] for command in program["subcommands"]]
    if commands:
        lines += ["  for words in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do",
                  f"    case $words in {'|'.join(commands)}) command=$words; break;; esac", "  done"]
    lines.append("  case $command in")
    common = program["options"]
    for table in [*program["subcommands"], program]:
        own = table is program
        options = common if own else [*table["options"], *common]
        lines.append(f"    {'*' if own else table['name']})")
        words = " ".join([*(option["name"] for option in options), *(commands if own else [])])
        lines.append(f"      words={words!r}")
        lines.append("      case $before in")
        for option in options:
            kind = kind_of(option)
            if kind is None:
                continue
            if isinstance(kind, list):
                action = f"COMPREPLY=($(compgen -W {' '.join(kind)!r} -- \"$word\")); return"
            elif kind:
                what = "-d" if kind == "folder" else "-f"
                action = f"compopt -o filenames; mapfile -t COMPREPLY < <(compgen {what} -- \"$word\"); return"
            else:
                action = "return"
            lines.append(f"        {option['name']}) {action};;")
        lines += ["      esac;;"]
    lines += ["  esac", "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))", "}", f"complete -F _{name} {name}"]
    return "\n".join(lines) + "\n"


def zsh_of(program):
    name = program["name"]

    def quoted(text):
        return text.replace("'", "'\\''")

    def spec(option):
        text = re.sub(r"([\[\]:\\])", r"\\\1", option["meaning"])
        entry = f"{'*' if option['list'] else ''}{option['name']}[{text}]"
        kind = kind_of(option)
        if kind is not None:
            what = option["value"].replace(":", "\\:").replace("[", "\\[").replace("]", "\\]")
            files = {"file": "_files", "folder": "_files -/"}
            action = f"({' '.join(kind)})" if isinstance(kind, list) else files.get(kind, " ")
            entry += f":{what}:{action}"
        return f"'{quoted(entry)}'"

    def arguments(options):
        return " \\\n    ".join(["_arguments", *(spec(option) for option in options)])

    lines = [f"#compdef {name}"]
    if not program["subcommands"]:
        return "\n".join([*lines, arguments(program["options"])]) + "\n"
    names = [command["name"] for command in program["subcommands"]]
    lines += ["local word command=", "for word in ${words[2,CURRENT-1]}; do",
              f"  case $word in {'|'.join(names)}) command=$word; break;; esac", "done", "case $command in"]
    for command in program["subcommands"]:
        options = [*command["options"], *program["options"]]
        lines += [f"  {command['name']})", f"    {arguments(options)} \\\n    '*: :'", "    ;;"]
    lines += ["  *)", f"    {arguments(program['options'])} \\\n    '1:command:({' '.join(names)})'", "    ;;", "esac"]
    return "\n".join(lines) + "\n"


def fish_of(program):
    name = program["name"]

    def quoted(text):
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    lines = [f"# Completion of {name} for fish.", f"complete -c {name} -f"]
    names = " ".join(command["name"] for command in program["subcommands"])
    for words, table in parts(program):
        condition = ""
        if table is not program:
            condition = f" -n '__fish_seen_subcommand_from {table['name']}'"
            lines.append(f"complete -c {name} -n 'not __fish_seen_subcommand_from {names}' -a {table['name']} "
                         f"-d {quoted(table['description'])}")
        for option in table["options"]:
            kind = kind_of(option)
            action = "" if kind is None else " -x" if kind == "" else " -r -F"
            if isinstance(kind, list):
                action = f" -x -a {quoted(' '.join(kind))}"
            elif kind == "folder":
                action = " -x -a '(__fish_complete_directories)'"
            lines.append(f"complete -c {name}{condition} -l {option['name'].lstrip('-')}{action} "
                         f"-d {quoted(option['meaning'])}")
    return "\n".join(lines) + "\n"


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", type=pathlib.Path)
    parser.add_argument("--page", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--man", type=pathlib.Path)
    parser.add_argument("--completions", type=pathlib.Path)
    arguments = parser.parse_args()
    programs = tables(arguments.programs)
    if arguments.page:
        page = page_of(programs)
        if not arguments.check:
            write(arguments.page, page)
        elif (found := arguments.page.read_text() if arguments.page.exists() else "") != page:
            differ = [f"-{a}\n+{b}" for a, b in zip(found.splitlines(), page.splitlines()) if a != b][:3]
            sys.exit(f"{arguments.page}: differs from the programs; write it again with\n"
                     f"  scripts/program_pages.py {arguments.programs} --page {arguments.page}\n" + "\n".join(differ))
    for program in programs:
        if arguments.man:
            write(arguments.man / f"{program['name']}.1", man_of(program, program["version"]))
        if arguments.completions:
            for shell, file, text in (("bash", program["name"], bash_of(program)),
                                      ("zsh", "_" + program["name"], zsh_of(program)),
                                      ("fish", program["name"] + ".fish", fish_of(program))):
                write(arguments.completions / shell / file, text)


if __name__ == "__main__":
    main()
