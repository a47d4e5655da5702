"""The facts in this folder's TOML files. tests/unit/test_published.py checks their types and sources."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any


@cache
def read(name: str) -> dict[str, Any]:
    """Return the tables of a TOML file. Each file is read only once."""
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
