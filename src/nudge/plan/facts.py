"""The facts in TOML files beside this module. tests/unit/test_published.py checks their types and sources."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def read(name: str) -> dict[str, Any]:
    """Return the tables of a file, which is read only once."""
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
