#!/usr/bin/env python3
"""Prepares the guides for Doxygen: pages with labels and references, and the navigation.

    pages.py ROOT INTO LAYOUT

Pages are read as they stand in the repository, where their links are those of files; written into the folder INTO, links
become references, and names of types lead into the reference. LAYOUT is Doxygen's own layout (`doxygen -l`), whose navigation
is replaced. The order of pages is that of docs/index.md, which must name each of them.
"""
import pathlib
import re
import sys

SECTIONS = (("tutorials", "Tutorials"), ("how-to", "How-to guides"), ("reference", "Reference"),
            ("explanation", "Explanation"))
REFERENCE = """
      <tab type="user" visible="yes" url="@ref ip2p" title="Namespace ip2p"/>
      <tab type="user" visible="yes" url="@ref ip2p::testing" title="Namespace ip2p::testing"/>
      <tab type="namespacemembers" visible="yes" title="Functions and types by letter" intro=""/>
      <tab type="concepts" visible="yes" title="Concepts as declared" intro=""/>
      <tab type="classlist" visible="yes" title="Classes" intro=""/>
      <tab type="classindex" visible="yes" title="Classes by letter" intro=""/>
      <tab type="filelist" visible="yes" title="Headers" intro=""/>"""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
# A code span, or a character that begins one of Doxygen's commands or links.
PROSE = re.compile(r"(?<!`)`([^`]+)`(?!`)|(?<!\w)#(?=\w)|@(?=\w)")
TYPE = re.compile(r"^(?:class|struct|concept|enum class|using) ([A-Z]\w+)(?! *[;<])", re.MULTILINE)


def anchor_of(heading):
    """The anchor that repository sites make from a heading: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def label_of(root, page):
    name = page.relative_to(root).with_suffix("").as_posix().removeprefix("docs/")
    return "guides" if name == "index" else re.sub(r"\W", "-", name).lower()


def title_of(page):
    return re.search(r"^# (.+)$", page.read_text(), re.MULTILINE).group(1)


def types_of(root):
    """Names of public types and concepts."""
    names = set()
    for header in (root / "include").rglob("*.hpp"):
        text = re.sub(r"^namespace detail \{.*?^\}  // namespace detail$", "", header.read_text(), flags=re.M | re.S)
        if "namespace ip2p {" in text:
            names.update(TYPE.findall(text))
    return names


def reference_of(root, page, target, pages):
    """What Doxygen calls the place that a link leads to; None for what is not on the site."""
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if file in pages:
        return f"@ref {label_of(root, file)}" + (f"-{anchor}" if anchor else "")
    if file.suffix == ".hpp" and root / "include" in file.parents:
        return f"@ref {file.relative_to(root / 'include')}"
    return None


def unlinked(line):
    """The word ip2p means the library, not its namespace."""
    return re.sub(r"(?<![\w:/@%`.-])ip2p(?![\w:/`.-])", "%ip2p", line)


def prepared(root, page, pages, types):
    label, lines, fenced, seen = label_of(root, page), [], False, set()

    def link(match):
        image, text, target = match.groups()
        if re.match(r"[a-z]+:", target):
            return match.group(0)
        if image:
            return f"![{text}]({pathlib.PurePosixPath(target).name})"
        reference = reference_of(root, page, target, pages)
        return f"[{text.replace('`', '')}]({reference})" if reference else text

    def prose(match):
        if match.group(1) is None:
            return "\\" + match.group(0)
        if "'" in match.group(1):  # would end a code span that single backticks began
            return f"``{match.group(1)}``"
        name, arguments = re.fullmatch(r"(\w*)(.*)", match.group(1)).groups()
        if name not in types or arguments and not re.fullmatch(r"<[\w., ]*>", arguments):
            return match.group(0)
        arguments = arguments.replace("<", "&lt;").replace(">", "&gt;")
        return f'<code>@ref ip2p::{name} "{name}"{arguments}</code>'

    text = page.read_text()
    if page == root / "README.md":
        text = text.replace("# ip2p\n", "# InstructPix2Pix in C++20\n", 1)
    # Doxygen reads a link in one line only, and no emphasis that begins with a quotation mark.
    text = re.sub(r"^\*(?=[^*\s])((?:[^*\n]|\n(?!\n))+)\*$", r"<em>\1</em>", text, flags=re.MULTILINE)
    text = re.sub(r"\[[^\]\n]*\n[^\]]*\]\([^)\s]+\)", lambda match: match.group(0).replace("\n", " "), text)
    for line in text.splitlines():
        fence = re.match(r"^(\s*)```(\w*)", line)
        if fence:
            fenced = not fenced
            known = {"cpp": "{.cpp}", "python": "{.py}"}.get(fence.group(2), "")
            lines.append(f"{fence.group(1)}```{known}")
            continue
        heading = None if fenced else re.match(r"^(#+) (.+)$", line)
        if heading:
            anchor = anchor_of(heading.group(2))
            while anchor in seen:
                anchor += "-"
            seen.add(anchor)
            place = label if heading.group(1) == "#" else f"{label}-{anchor}"
            lines.append(f"{heading.group(1)} {unlinked(heading.group(2))} {{#{place}}}")
        elif fenced:
            lines.append(line)
        else:
            parts = re.split(r"(!?\[[^\]]*\]\([^)\s]+\))", unlinked(line))
            lines.append("".join(LINK.sub(link, part) if i % 2 else PROSE.sub(prose, part) for i, part in enumerate(parts)))
    return "\n".join(lines) + "\n"


def navigation(root, pages):
    def tab(page, title=None):
        name = (title or title_of(page)).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        return f'\n      <tab type="user" visible="yes" url="@ref {label_of(root, page)}" title="{name}"/>'

    groups = []
    for folder, title in SECTIONS:
        tabs = "".join(tab(page) for page in pages if page.parent == root / "docs" / folder)
        if folder == "reference":
            tabs += tab(root / "docs/benchmarks.md") + REFERENCE
        groups.append(f'\n    <tab type="usergroup" visible="yes" title="{title}">{tabs}\n    </tab>')
    project = "".join(tab(root / name, title) for name, title in (("CONTRIBUTING.md", None), ("CHANGELOG.md", None)))
    return (f'<navindex>\n    <tab type="mainpage" visible="yes" title="ip2p"/>{tab(root / "docs/index.md", "All guides")}'
            f'{"".join(groups)}\n    <tab type="usergroup" visible="yes" title="Project">{project}\n    </tab>\n  </navindex>')


def main():
    root, into, layout = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    index = root / "docs/index.md"
    listed = [(index.parent / target.partition("#")[0]).resolve() for _, _, target in LINK.findall(index.read_text())]
    guides = [page for page in sorted((root / "docs").rglob("*.md")) if page.parent.name != "images"]
    unlisted = [page for page in guides if page not in listed and page != index]
    if unlisted:
        sys.exit("docs/index.md: expected a link to each page, found none to " +
                 ", ".join(str(page.relative_to(root)) for page in unlisted))
    pages = sorted(guides, key=lambda page: listed.index(page) if page in listed else -1)
    pages += [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    types = types_of(root)
    into.mkdir(parents=True, exist_ok=True)
    for page in pages:
        (into / f"{label_of(root, page)}.md").write_text(prepared(root, page, pages, types))
    text = re.sub(r"<navindex>.*</navindex>", lambda _: navigation(root, pages), layout.read_text(), flags=re.DOTALL)
    layout.write_text(text)


if __name__ == "__main__":
    main()
