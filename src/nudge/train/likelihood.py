"""The name that nudge.eval.likelihood had in version 0.1, which other programs may still import."""

import sys

from nudge.eval import likelihood

sys.modules[__name__] = likelihood
