"""The name that nudge.eval.tasks had in version 0.1, which other programs may still import."""

import sys

from nudge.eval import tasks

sys.modules[__name__] = tasks
