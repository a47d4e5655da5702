"""nudge.fast.decoder by its name in 0.1, which programs may still import."""

import sys

from nudge.fast import decoder

sys.modules[__name__] = decoder
