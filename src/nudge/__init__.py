"""nudge: train a GPT-2, watch it learn, look inside it, and use it.

    import nudge

    for event in nudge.run(nudge.recipe("tiny"), "runs/first"):
        print(event)
    model = nudge.load("runs/first")
    print(model.generate("def ", max_tokens=40, seed=0))

Importing this package is fast, because torch is imported only when it is needed.
"""

import importlib
from typing import TYPE_CHECKING, Any

from nudge.version import __version__ as __version__

if TYPE_CHECKING:
    from nudge.config import Config as Config
    from nudge.errors import NudgeError as NudgeError
    from nudge.eval.loss import evaluate as evaluate
    from nudge.infer.engine import LanguageModel as LanguageModel
    from nudge.infer.engine import load as load
    from nudge.recipes import recipe as recipe
    from nudge.train.run import resume as resume
    from nudge.train.run import run as run

_HOMES = {
    "Config": "nudge.config",
    "NudgeError": "nudge.errors",
    "LanguageModel": "nudge.infer.engine",
    "load": "nudge.infer.engine",
    "recipe": "nudge.recipes",
    "evaluate": "nudge.eval.loss",
    "resume": "nudge.train.run",
    "run": "nudge.train.run",
}
__all__ = ["Config", "LanguageModel", "NudgeError", "evaluate", "load", "recipe", "resume", "run"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'nudge' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
