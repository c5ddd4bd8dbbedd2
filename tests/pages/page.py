"""Reading the pages: their blocks of code, the command lines in them, and the rows of their tables."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.test_docs import pages

ROOT = Path(__file__).parent.parent.parent

#: All pages of the project.
PAGES = pages()


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its page.
        line: the number of its first line of code.
        language: the word behind the fence.
        text: the code.
    """

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command line of a block of shell, with its continuation lines joined, and without its comment.

    Attributes:
        block: its block.
        text: the command line.
    """

    block: Block
    text: str

    def __str__(self) -> str:
        return f"{self.block}: {self.text}"


def blocks(page: Path, language: str) -> list[Block]:
    """Return the fenced blocks of one language on a page."""
    text = page.read_text("utf-8")
    found = re.finditer(rf"^( *)```{language}(?: [^\n]*)?\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [Block(page, text.count("\n", 0, each.start(2)) + 1, language, each[2]) for each in found]


def commands(block: Block) -> Iterator[Command]:
    """Yield the command lines of a block of shell."""
    for line in re.sub(r"\\\n\s*", "", re.sub(r"\|\n\s*", "| ", block.text)).splitlines():
        text = _without_comment(line).strip()
        if text:
            yield Command(block, text)


def _without_comment(line: str) -> str:
    """Return a line without the comment at its end; a ``#`` in quotes begins none."""
    for found in re.finditer(r"(?:^|\s)#", line):
        try:
            shlex.split(line[: found.start()])
        except ValueError:  # an open quote
            continue
        return line[: found.start()]
    return line


def rows(page: Path) -> list[list[str]]:
    r"""Return the cells of the rows of all tables of a page, but for headings; ``\|`` is no border."""
    lines = page.read_text("utf-8").splitlines()
    found = zip(lines, [*lines[1:], ""], strict=True)
    bodies = [line for line, after in found if line.startswith("| ") and "| --- |" not in line + after]
    return [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in bodies]


def spans(cell: str) -> list[str]:
    """Return the code in a cell: between single or double backticks."""
    return [double.strip() or single for double, single in re.findall(r"``(.+?)``|`([^`]+)`", cell)]
