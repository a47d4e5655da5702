"""The name that nudge.fast.decoder had in version 0.1, which other programs may still import."""

import sys

from nudge.fast import decoder

sys.modules[__name__] = decoder
