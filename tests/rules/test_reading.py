"""The reading path of docs/reading.md is there, and stays an afternoon's."""

import ast
import io
import re
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reading.md"
MOST_LINES = 2200
NOT_ON_THE_WAY = {"fast/fused_update.py", "train/run.py", "train/resolve.py"}  # the page names them for later
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def code_lines(path: Path) -> int:
    """Count the lines of code, without docstrings, comments and blank lines."""
    source = path.read_text(encoding="utf-8")
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            documented.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def test_the_way_is_an_afternoon():
    way = PAGE.read_text(encoding="utf-8").partition("## The way")[2]
    found = set(re.findall(r"\(\.\./src/nudge/([\w/]+\.py)\)", way)) - NOT_ON_THE_WAY
    assert len(found) >= 18
    total = sum(code_lines(ROOT / "src" / "nudge" / name) for name in found)
    assert total <= MOST_LINES, f"{total} lines of code in {len(found)} files"


def test_the_concepts_are_few():
    page = PAGE.read_text(encoding="utf-8")
    update = page.partition("## One update")[2].partition("## One token")[0]
    assert len(re.findall(r"^\| (?!Concept|---)\w", update, re.M)) <= 8
    token = page.partition("## One token")[2].partition("## The way")[0]
    assert "Six concepts" in token
    assert len(set(re.findall(r"\*(\w[\w ]*)\*", token))) == 7  # probabilities and their draw are one
