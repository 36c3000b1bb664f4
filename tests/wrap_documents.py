#!/usr/bin/env python3
"""Wraps the prose of the documents at 100 columns; tables, code, headings and comments stay as they are.

A paragraph or an item of a list is wrapped anew only where one of its lines is longer. With --check nothing is written,
and the exit code is 1 where something would be.
"""

import re
import subprocess
import sys
from pathlib import Path

WIDTH = 100
ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"\s*```")
ITEM = re.compile(r"\s*(?:[-*]|\d+\.)\s+")
# Lines that are no prose: headings, tables, quotations, comments and other HTML, definitions of links.
OTHER = re.compile(r"\s*(?:#|\||>|<|\[[^\]]+\]: )")
# Begins a list, a heading, a quotation or a table where it begins a line.
MARKER = re.compile(r"[-+*>#|]+|\d+[.)]")
# A word, with the code spans in it whole.
WORD = re.compile(r"(?:(`+).*?(?<!`)\1(?!`)|\S)+")


def wrapped(block: list[str]) -> list[str]:
    if all(len(line) <= WIDTH for line in block):
        return block
    item = ITEM.match(block[0])
    first = item.group() if item else re.match(r"\s*", block[0]).group()
    text = " ".join([block[0][len(first) :], *(line.strip() for line in block[1:])])
    words = [found.group() for found in WORD.finditer(text)]
    lines, line = [], first + words[0]
    for word in words[1:]:
        if len(line) + 1 + len(word) <= WIDTH or MARKER.fullmatch(word):
            line += " " + word
        else:
            lines.append(line)
            line = " " * len(first) + word
    return [*lines, line]


def rewritten(text: str) -> str:
    lines, block, is_code, is_comment = [], [], False, False

    def end() -> None:
        lines.extend(wrapped(block) if block else [])
        block.clear()

    for line in text.split("\n"):
        is_fence = FENCE.match(line) is not None
        is_comment = is_comment or not is_code and line.lstrip().startswith("<!--")
        if is_fence or is_code or is_comment or not line.strip() or OTHER.match(line):
            end()
            lines.append(line)
        else:
            if ITEM.match(line):
                end()
            block.append(line)
        is_code ^= is_fence
        is_comment = is_comment and "-->" not in line
    end()
    return "\n".join(lines)


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    is_check = "--check" in sys.argv[1:]
    differing = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        new = rewritten(text)
        if new != text:
            differing.append(name)
            if not is_check:
                path.write_text(new, encoding="utf-8")
    if is_check and differing:
        print(f"prose beyond {WIDTH} columns, `make fmt` wraps it: {', '.join(differing)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
