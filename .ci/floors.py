"""Print the oldest version that pyproject.toml allows of every library, as requirements for pip.

Left out: torch (a large download, and not every index keeps its old versions), types-* (only mypy reads them), and the
extra 'bench'.
"""

import itertools
import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = (required for extra, required in project["optional-dependencies"].items() if extra not in ("all", "bench"))
floors = (re.match(r"([\w-]+)>=([\w.]+)$", line) for line in itertools.chain(project["dependencies"], *extras))
for name, version in sorted({found.groups() for found in floors if found}):
    if name != "torch" and not name.startswith("types-"):
        print(f"{name}=={version}")
