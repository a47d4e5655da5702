"""Writes errors.md from the wording in src/nudge/errors.toml: `make docs` runs this, and a test compares."""

from pathlib import Path

from nudge import errors

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Every error

`nudge` prints an expected error as one line and a hint, and exits with 2. In Python it is a `NudgeError` with `code`,
`message`, `hint` and `values`. The codes never change, so a program can rely on them; their wording may change.

`{...}` stands for a value. This page is written by `make docs` from
[errors.toml](../src/nudge/errors.toml), which holds the wording.
"""


def page() -> str:
    """Return the whole page."""
    kinds = {kind.family: kind for kind in errors.NudgeError.__subclasses__()}
    parts = [HEAD]
    for family, wordings in sorted(errors.catalog().items()):
        parts.append(f"\n## {family}\n\n{kinds[family].__name__}: {kinds[family].__doc__}\n")
        for name, wording in sorted(wordings.items()):
            lines = (wording["message"], *([wording["hint"]] if wording.get("hint") else ()))
            parts.append(f"\n### {family}.{name}\n\n```text\n" + "\n".join(lines) + "\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
