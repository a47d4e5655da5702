"""Writes glossary.md and glossary.ko.md from studio/words/glossary.toml: `make docs` runs this, and a test compares."""

import textwrap
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src" / "nudge" / "studio" / "words" / "glossary.toml"
PAGES = {"en": HERE / "glossary.md", "ko": HERE / "glossary.ko.md"}
HEADS = {
    "en": """# Glossary

[한국어](glossary.ko.md)

The field's terms as nudge uses them, each with where to see it. This page is written by `make docs` from
[glossary.toml](../src/nudge/studio/words/glossary.toml).
""",
    "ko": """# 용어집

[English](glossary.md)

nudge에서 쓰는 이 분야의 용어와, 어디에서 볼 수 있는지를 모았습니다. 이 페이지는 `make docs`가
[glossary.toml](../src/nudge/studio/words/glossary.toml)에서 만듭니다.
""",
}
SEE = {"en": "See it", "ko": "볼 곳"}


def page(language: str) -> str:
    """Return the whole page."""
    parts = [HEADS[language]]
    for group in tomllib.loads(SOURCE.read_text(encoding="utf-8")).values():
        parts.append(f"\n## {group[language]}\n")
        for name, entry in group.items():
            if name not in PAGES:
                words = entry[language]
                text = f"**{words['term']}.** {words['text']} *{SEE[language]}:* {words['see']}"
                filled = textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
                parts.append(f"\n{filled}\n")
    return "".join(parts)


if __name__ == "__main__":
    for language, path in PAGES.items():
        path.write_text(page(language), encoding="utf-8")
