"""Looking inside the network: its predictions, the effect of one update, and the purpose of its parts.

Each file is named after the part that it looks at. A file is imported with the first use of one of its names, so that
the smallest networks need no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nudge.look.arithmetic import Arithmetic as Arithmetic
    from nudge.look.arithmetic import Term as Term
    from nudge.look.arithmetic import explain as explain
    from nudge.look.arithmetic import explain_fold as explain_fold
    from nudge.look.changes import Change as Change
    from nudge.look.changes import Difference as Difference
    from nudge.look.changes import difference as difference
    from nudge.look.forward_pass import Strip as Strip
    from nudge.look.forward_pass import Trace as Trace
    from nudge.look.forward_pass import trace as trace
    from nudge.look.inspection import Stored as Stored
    from nudge.look.inspection import Weights as Weights
    from nudge.look.inspection import weights as weights
    from nudge.look.knobs import Knobs as Knobs
    from nudge.look.knobs import Turned as Turned
    from nudge.look.knobs import turn as turn
    from nudge.look.logit_lens import Lens as Lens
    from nudge.look.logit_lens import lens as lens
    from nudge.look.parameters import Node as Node
    from nudge.look.parameters import Parameter as Parameter
    from nudge.look.patterns import Habit as Habit
    from nudge.look.patterns import fold as fold
    from nudge.look.patterns import fold_rows as fold_rows
    from nudge.look.patterns import habit as habit
    from nudge.look.patterns import shrink as shrink
    from nudge.look.prediction import Candidate as Candidate
    from nudge.look.prediction import Prediction as Prediction
    from nudge.look.prediction import predict as predict
    from nudge.look.single_update import Drift as Drift
    from nudge.look.single_update import Moved as Moved
    from nudge.look.single_update import Nudge as Nudge
    from nudge.look.single_update import control_contexts as control_contexts
    from nudge.look.single_update import nudge_once as nudge_once
    from nudge.look.smallest_networks import Line as Line
    from nudge.look.smallest_networks import Logistic as Logistic
    from nudge.look.stages import Stage as Stage
    from nudge.look.values import Histogram as Histogram
    from nudge.look.values import Neighbour as Neighbour
    from nudge.look.values import neighbours as neighbours
    from nudge.look.writing import Drawn as Drawn
    from nudge.look.writing import watch as watch

_NAMES = {
    "arithmetic": ("Arithmetic", "Term", "explain", "explain_fold"),
    "changes": ("Change", "Difference", "difference"),
    "forward_pass": ("Strip", "Trace", "trace"),
    "inspection": ("Stored", "Weights", "weights"),
    "knobs": ("Knobs", "Turned", "turn"),
    "logit_lens": ("Lens", "lens"),
    "single_update": ("Drift", "Moved", "Nudge", "control_contexts", "nudge_once"),
    "parameters": ("Node", "Parameter"),
    "patterns": ("Habit", "fold", "fold_rows", "habit", "shrink"),
    "prediction": ("Candidate", "Prediction", "predict"),
    "smallest_networks": ("Line", "Logistic"),
    "stages": ("Stage",),
    "values": ("Histogram", "Neighbour", "neighbours"),
    "writing": ("Drawn", "watch"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"nudge.look.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'nudge.look' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
