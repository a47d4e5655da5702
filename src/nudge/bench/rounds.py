"""What the contenders of a kind share, whatever library they are. No torch: some of them bring threads of their own."""

from typing import Any

WEIGHTS = "weights.safetensors"  # in the folder of work: float32, by our names


def decoding_figures(batch: int, tokens: int, *, prefill_s: float, decode_s: float, output: list[int]) -> dict[str, Any]:
    """What a round of decoding says. `output`: the tokens of the first sequence."""
    return {
        "prefill_ms": 1000 * prefill_s,
        "ms_per_token": 1000 * decode_s / tokens / batch,
        "tokens_per_s": batch * tokens / decode_s,
        "output": output,
    }
