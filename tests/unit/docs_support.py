"""Reads the documentation as its readers do: what it tells them to type, and where it sends them.

Commands are read from code only: spans between backticks, indented blocks, and fenced blocks of a shell or of no
language. A block may also show what a program prints: a line of it that begins like a command must be one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from worker.cli.root import cli

SHELLS = ("", "sh", "bash", "console")


@dataclass(frozen=True)
class Page:
    """One Markdown file, taken apart."""

    path: Path
    code: tuple[str, ...]  # each span and each line of a block, without its comment
    fenced: tuple[tuple[str, str], ...]  # language and text of each fenced block
    prose: str  # the rest: code blanked out
    anchors: frozenset[str] = field(default_factory=frozenset)


def read(path: Path, text: str | None = None) -> Page:
    """Take a page apart; `text` stands in for the file's own."""
    code, fenced, prose = list[str](), list[tuple[str, str]](), list[str]()
    language: str | None = None
    block = list[str]()
    blank = indented = False
    for line in (path.read_text() if text is None else text).splitlines():
        if (fence := re.match(r"\s*```(\S*)", line)) is not None:
            if language is None:
                language = fence[1]
            else:
                fenced.append((language, "\n".join(block)))
                language, block = None, []
            prose.append("")
        elif language is not None:
            block.append(line)
            if language in SHELLS:
                code.append(_without_comment(line))
        else:
            indented = line.startswith("    ") and (blank or indented)
            if indented:
                code.append(_without_comment(line))
            prose.append("" if indented else line)
            blank = not line.strip()
    rest = "\n".join(prose)
    spans = re.compile(r"(?<!`)(`+)(?!`)((?:[^`\n]|\n(?!\s*\n))+?)\1(?!`)")
    code += [" ".join(found[2].split()) for found in spans.finditer(rest)]
    headings = re.findall(r"^#{1,6}\s+(.*)$", rest, re.MULTILINE)
    return Page(path, tuple(code), tuple(fenced), spans.sub(" ", rest), _anchors(headings))


def links(page: Page) -> list[str]:
    """Return where a page's links lead."""
    return re.findall(r"\]\(([^)\s]+)\)", page.prose)


def wrong_links(page: Page, known: set[Path]) -> list[str]:
    """Return the relative links that lead to no file of ours, or to no heading of one."""
    bad = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        target = (page.path.parent / name).resolve()
        if name and not (target in known or any(target in path.parents for path in known)):
            bad.append(f"{link}: there is no such file")
        elif anchor and anchor not in (read(target) if name else page).anchors:
            bad.append(f"{link}: there is no such heading")
    return bad


def wrong_commands(page: Page) -> list[str]:
    """Return what a page says of `worker` that the command line does not know."""
    return [problem for line in page.code for words in _calls("worker", line) if (problem := _problem(words))]


def wrong_targets(page: Page, targets: set[str]) -> list[str]:
    """Return the make targets that a page names and the Makefile does not have."""
    found = []
    for line in page.code:
        for words in _calls("make", line):
            named = [word for word in words if not word.startswith("-") and "=" not in word]
            found += named[:1]
    return sorted(name for name in set(found) - targets if re.fullmatch(r"[a-z.][a-z0-9./-]*", name))


def _problem(words: list[str]) -> str | None:
    """Say what is wrong with the words that follow `worker`. Words that stand for others (…, QUEUE) are no commands."""
    command: click.Command = cli
    path = ["worker"]
    options = _options(command)
    rest = iter(words)
    for word in rest:
        if word == "--":
            return None
        if word.startswith("-"):
            name = word.partition("=")[0]
            if name not in options:
                return f"{' '.join(path)}: no option {name}"
            if not options[name] and "=" not in word:
                next(rest, None)  # its value
        elif isinstance(command, click.Group) and re.fullmatch(r"[a-z][a-z-]*", word):
            found = command.get_command(click.Context(command), word)
            if found is None:
                return f"{' '.join(path)}: no command {word}"
            command, path = found, [*path, word]
            options |= _options(command)
    return None


def _options(command: click.Command) -> dict[str, bool]:
    """Return a command's options, each with whether it stands alone."""
    found = {"-h": True, "--help": True}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            alone = parameter.is_flag or bool(parameter.count)
            found |= dict.fromkeys([*parameter.opts, *parameter.secondary_opts], alone)
    return found


def _calls(program: str, line: str) -> Iterator[list[str]]:
    """Return the words that follow a program's name, for each time that a line calls it.

    Called is what stands at a beginning, after a setting (NAME=value), or after the name of a worker's container: in
    a drawing, `the worker drains` is no command.
    """
    before = r"(?:^|[|;&(`'\"])\s*|(?<=\S)=\S*\s+|\bworker(?:-\d+)?\s+"
    for found in re.finditer(rf"(?:{before})(?<![\w./:@=-]){program}((?:\s+[^\s|;&()<>]+)+)", line):
        words = list[str]()
        for word in found[1].split():
            words.append(word.strip("'\"`,"))
            if word[-1] in "'\"" and word[0] != word[-1]:
                break  # the end of what another program is given to run
        yield words


def _without_comment(line: str) -> str:
    """Cut off what is said about a command, after a # or in a column of its own."""
    return re.split(r"(?:^|\s)#\s|(?<=\S)\s{4,}", line, maxsplit=1)[0]


def _anchors(headings: list[str]) -> frozenset[str]:
    """Name headings as GitHub does."""
    found = list[str]()
    for heading in headings:
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        found.append(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    repeated = [f"{name}-{found[:index].count(name)}" for index, name in enumerate(found) if name in found[:index]]
    return frozenset([*found, *repeated])
