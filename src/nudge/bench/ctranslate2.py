"""CTranslate2 as a contender in decoding. Source of the names: its GPT-2 converter (converters/transformers.py)."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from nudge.bench.peers import WEIGHTS, Prepared, decoding_figures


def ctranslate2(
    *, model: dict[str, Any], work: str, dtype: str, threads: int, device: str, ids: list[list[int]], tokens: int
) -> Prepared:
    """Convert the weights and load them. CTranslate2's tokens are strings: the ids as digits."""
    import ctranslate2 as ct2

    folder = Path(work) / f"ctranslate2-{dtype}"
    _convert(model, safetensors.numpy.load_file(Path(work) / WEIGHTS), folder, dtype)
    generator = ct2.Generator(
        str(folder), device=device, compute_type=dtype, inter_threads=1, intra_threads=threads, flash_attention=False
    )
    prompts = [[str(token) for token in prompt] for prompt in ids]

    def time_round() -> Mapping[str, Any]:
        step_ended = [0.0] * (tokens + 1)  # step 0 is the prefill's token

        def record(result: Any) -> bool:
            step_ended[result.step] = time.perf_counter()
            return False  # do not stop

        begun = time.perf_counter()
        (first, *_) = generator.generate_batch(
            prompts,
            max_length=tokens + 1,
            min_length=tokens + 1,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=record,
        )
        return decoding_figures(
            len(ids),
            tokens,
            prefill_s=step_ended[0] - begun,
            decode_s=step_ended[tokens] - step_ended[0],
            output=first.sequences_ids[0][:tokens],
        )

    return f"ctranslate2 {ct2.__version__}", time_round


def _convert(model: dict[str, Any], weights: Mapping[str, np.ndarray], folder: Path, dtype: str) -> None:
    """Write the weights as a folder of CTranslate2."""
    from ctranslate2.specs import common_spec, transformer_spec

    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        model["n_layer"], model["n_head"], pre_norm=True, activation=common_spec.Activation.GELUTanh
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weights["wte.weight"]
    decoder.projection.weight = weights["wte.weight"]
    decoder.position_encodings.encodings = weights["wpe.weight"]
    _norm(decoder.layer_norm, weights, "ln_f")
    for number, layer in enumerate(decoder.layer):
        _norm(layer.self_attention.layer_norm, weights, f"blocks.{number}.ln_1")
        _norm(layer.ffn.layer_norm, weights, f"blocks.{number}.ln_2")
        for linear, name in (
            (layer.self_attention.linear[0], "attn.c_attn"),
            (layer.self_attention.linear[1], "attn.c_proj"),
            (layer.ffn.linear_0, "mlp.c_fc"),
            (layer.ffn.linear_1, "mlp.c_proj"),
        ):
            linear.weight = np.ascontiguousarray(
                weights[f"blocks.{number}.{name}.weight"].T
            )  # CTranslate2 stores [out, in]
            linear.bias = weights[f"blocks.{number}.{name}.bias"]
    spec.register_vocabulary([str(token) for token in range(model["vocab_size"])])
    spec.config.unk_token = spec.config.bos_token = "0"
    spec.config.eos_token = str(model["vocab_size"] - 1)
    spec.validate()
    spec.optimize(quantization=None if dtype == "float32" else dtype)
    folder.mkdir()
    spec.save(str(folder))


def _norm(spec: Any, weights: Mapping[str, np.ndarray], name: str) -> None:
    spec.gamma, spec.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]
