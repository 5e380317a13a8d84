"""Reads the pages of the documentation: their fenced blocks, the commands in these, and code within the text."""
import dataclasses
import pathlib
import re
import shlex

SHELL = ("bash", "sh")
OUTPUT = ("text", "")  # languages of blocks that show what a command prints
OPERATORS = {"&&", "||", "|", ";", "&"}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


@dataclasses.dataclass
class Block:
    line: int  # of its first line of text
    language: str
    word: str  # after the language
    text: str


@dataclasses.dataclass
class Command:
    line: int
    text: str  # as on the page, over one line or several

    def __str__(self):
        return " ".join(self.text.replace("\\\n", " ").split())

    def parts(self):
        """The simple commands of a list or pipeline, each as its words; without assignments and redirections."""
        lexer = shlex.shlex(self.text.replace("\\\n", " "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        found, words, redirected = [], [], False
        for token in [*lexer, ";"]:
            if token in OPERATORS:
                while words and re.match(r"\w+=", words[0]):
                    words.pop(0)
                found += [words] if words else []
                words = []
            elif token in (">", ">>", "<"):
                redirected = True
            elif redirected:
                redirected = False
            else:
                words.append(token)
        return found


def pages_of(root):
    """The pages whose commands are checked, as paths relative to the root."""
    pages = [root / "README.md", root / "CONTRIBUTING.md", *(root / "docs").rglob("*.md"), *(root / "models").rglob("*.md")]
    return sorted(page.relative_to(root).as_posix() for page in pages)


def blocks_of(path):
    """The fenced blocks of a page, in order."""
    found, opened = [], None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fence = re.match(r"^```(\S*)\s*(.*)$", line)
        if opened is None and fence:
            opened = Block(number + 1, fence.group(1), fence.group(2), "")
        elif opened is not None and line == "```":
            found.append(opened)
            opened = None
        elif opened is not None:
            opened.text += line + "\n"
    if opened is not None:
        raise SystemExit(f"{path}:{opened.line}: expected the block to end")
    return found


def commands_of(block):
    """The commands of a shell block: a command goes on after a backslash, within quotes, and to the end of a heredoc."""
    found, text, end = [], "", None
    for number, line in enumerate(block.text.splitlines(), block.line):
        if not text and (not line.strip() or line.lstrip().startswith("#")):
            continue
        if not text:
            start = number
        text += line + "\n"
        if end is not None:
            if line != end:
                continue
        else:
            heredoc = re.search(r"<<\s*'?(\w+)'?", line)
            if heredoc:
                end = heredoc.group(1)
                continue
            if line.endswith("\\"):
                continue
            try:
                shlex.split(text, comments=True)
            except ValueError:  # an open quote
                continue
        found.append(Command(start, text.rstrip("\n")))
        text, end = "", None
    if text:
        raise SystemExit(f"line {start}: expected the command to end: {text}")
    return found


def spans_of(path):
    """(line, code) of the code within the text of a page."""
    text = re.sub(r"^```.*?^```$", lambda block: "\n" * block.group().count("\n"), path.read_text(), flags=re.S | re.M)
    found, line = [], 1
    for paragraph in text.split("\n\n"):
        for span in re.finditer(r"(?<!`)`([^`]+)`(?!`)", paragraph):
            found.append((line + paragraph.count("\n", 0, span.start()), " ".join(span.group(1).split())))
        line += paragraph.count("\n") + 2
    return found
