"""Training runs that others published, what GPT-2 cost and reached, and what the lecture says of it: data with sources.

Every run is counted by one formula, 6N + 12LTC floating-point operations per token (model/sizes.py), whatever its
authors counted by: only so can the shares of the peak that they reached be compared.
"""

from dataclasses import dataclass
from typing import Literal

from nudge.config import ModelConfig
from nudge.model import sizes
from nudge.recipes import recipe

Kind = Literal["handwritten", "compiled", "eager", "lab"]
Unit = Literal["s", "min", "hours", "days", "GPU hours", "tokens/s/GPU"]
SECONDS = {"s": 1.0, "min": 60.0, "hours": 3600.0, "days": 86_400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What a token costs in a network, also in one that is no GPT-2."""

    n_layer: int
    n_embd: int
    vocab_size: int
    context: int  # tokens that attention spans, on average over the layers
    matmul_parameters: int  # that one token meets: of a mixture of experts, the active ones
    attention_width: int  # heads x head size; n_embd in most

    @property
    def flops_per_token(self) -> int:
        """6N + 12LTC, as model/sizes.py counts a GPT-2."""
        return 6 * self.matmul_parameters + 12 * self.n_layer * self.context * self.attention_width


def network(model: ModelConfig, *, context: int | None = None) -> Network:
    """The network of these sizes."""
    return Network(
        n_layer=model.n_layer,
        n_embd=model.n_embd,
        vocab_size=model.vocab_size,
        context=context or model.block_size,
        matmul_parameters=sizes.matmul_parameters(model),
        attention_width=model.n_embd,
    )


def _gpt2(n_layer: int, n_embd: int, vocab_size: int = 50_257, context: int = 1024) -> Network:
    return network(ModelConfig(n_layer=n_layer, n_embd=n_embd, vocab_size=vocab_size, block_size=context))


def _llama(n_layer: int, n_embd: int, n_hidden: int, key_value_width: int, vocab_size: int, context: int) -> Network:
    """Three matrices in the MLP (SwiGLU), and keys and values narrower than queries (grouped-query attention)."""
    block = 2 * n_embd**2 + 2 * n_embd * key_value_width + 3 * n_embd * n_hidden
    return Network(
        n_layer=n_layer,
        n_embd=n_embd,
        vocab_size=vocab_size,
        context=context,
        matmul_parameters=n_layer * block + vocab_size * n_embd,
        attention_width=n_embd,
    )


def _deepseek_v3() -> Network:
    """Per token: 3 dense and 58 layers of 8 + 1 experts, with attention through low-rank matrices.

    Source: DeepSeek-V3 report, section 4.2. Its second head, which predicts one token further, is not counted.
    """
    L, C, heads = 61, 7168, 128
    latent, query_latent, content, rotary = 512, 1536, 128, 64
    queries = C * query_latent + query_latent * heads * (content + rotary)
    keys_and_values = C * (latent + rotary) + latent * heads * 2 * content
    attention = queries + keys_and_values + heads * content * C
    expert = 3 * C * 2048
    return Network(
        n_layer=L,
        n_embd=C,
        vocab_size=129_280,
        context=4096,
        matmul_parameters=L * attention + 3 * (3 * C * 18_432) + 58 * 9 * expert + 129_280 * C,
        attention_width=heads * (2 * content + rotary) // 2,  # scores over 192, values over 128: their mean
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """One run: `figure` is what was published, for `tokens` where it is a time."""

    name: str
    network: Network
    device: str  # plan/hardware.py
    count: int
    figure: float
    unit: Unit
    tokens: float = 0.0
    code: str  # runs of one code are a family: they resemble each other more than others
    kind: Kind  # handwritten kernels; PyTorch with torch.compile or without; a laboratory's own over many machines
    source: str
    fp8: bool = False  # products in 8 bits instead of 16
    peak_share: float = 1.0  # of the data sheet's peak, of devices that were slowed down
    usd: float | None = None
    note: str = ""
    why_left_out: str = ""  # of the validation

    @property
    def tokens_per_s(self) -> float:
        """Of all devices together."""
        if self.unit == "tokens/s/GPU":
            return self.figure * self.count
        if self.unit == "GPU hours":
            return self.tokens * self.count / (self.figure * 3600)
        return self.tokens / (self.figure * SECONDS[self.unit])

    def in_unit(self, tokens_per_s: float) -> float:
        """What would have been published, had all devices together been that fast."""
        if self.unit == "tokens/s/GPU":
            return tokens_per_s / self.count
        if self.unit == "GPU hours":
            return self.tokens * self.count / (tokens_per_s * 3600)
        return self.tokens / (tokens_per_s * SECONDS[self.unit])

    def mfu(self, peak_flops: float) -> float:
        """The share of the peak of its devices, by 6N + 12LTC."""
        return self.tokens_per_s * self.network.flops_per_token / (self.count * peak_flops)


SMALL, MEDIUM, LARGE, XL = (
    network(recipe(name).model) for name in ("gpt2_small", "gpt2_medium", "gpt2_large", "gpt2_xl")
)
_LLAMA_2_7B = _llama(32, 4096, 11_008, 4096, 32_000, 4096)
_LLAMA_2_70B = _llama(80, 8192, 28_672, 1024, 32_000, 4096)
_LLAMA_3_8B = _llama(32, 4096, 14_336, 1024, 128_256, 8192)
_LLAMA_3_405B = _llama(126, 16_384, 53_248, 1024, 128_256, 8192)

_LLMC = "github.com/karpathy/llm.c"
_MODDED = "github.com/KellerJordan/modded-nanogpt"
_FOUNDRY = "github.com/mosaicml/llm-foundry, scripts/train/benchmarking"
_TITAN = "github.com/pytorch/torchtitan, benchmarks/llama3_h100_202412"
_500_WATTS = (
    "its H100 were held at 500 W: their peak lies between the SXM's and the NVL's (835 TFLOP/s), the middle here"
)
_OF_700_WATTS = (989.4 + 835) / 2 / 989.4
_STEP = 524_288  # tokens of an update in most of them

RUNS = (
    PublishedRun(
        name="GPT-2 small, llm.c, 8 x A100",
        network=SMALL,
        device="a100-80",
        count=8,
        figure=0.300,
        unit="s",
        tokens=_STEP,
        code="llm.c",
        kind="handwritten",
        usd=20,
        source=f"{_LLMC}, scripts/run_gpt2_124M.sh: 18,865 updates (9.89B tokens), 94.3 minutes",
    ),
    PublishedRun(
        name="GPT-2 small, llm.c, 8 x H100",
        network=SMALL,
        device="h100",
        count=8,
        figure=0.140,
        unit="s",
        tokens=_STEP,
        code="llm.c",
        kind="handwritten",
        source=f"{_MODDED}, records/track_1_short/2024-10-13_llmc: 10.26B tokens, 45 minutes",
    ),
    PublishedRun(
        name="GPT-2 medium, llm.c, 8 x A100",
        network=MEDIUM,
        device="a100-80",
        count=8,
        figure=0.820,
        unit="s",
        tokens=_STEP,
        code="llm.c",
        kind="handwritten",
        usd=200,
        source=f"{_LLMC}, scripts/run_gpt2_350M.sh: 60,000 updates (31.5B tokens), 13.7 hours",
    ),
    PublishedRun(
        name="GPT-2 medium, llm.c, 8 x H100",
        network=MEDIUM,
        device="h100",
        count=8,
        figure=5.8,
        unit="hours",
        tokens=60_000 * _STEP,
        code="llm.c",
        kind="handwritten",
        source=f"{_MODDED}, track 2, record 1, and its main.log: 60,000 updates",
    ),
    PublishedRun(
        name="GPT-2 large, llm.c, 8 x A100",
        network=LARGE,
        device="a100-80",
        count=8,
        figure=1.7,
        unit="s",
        tokens=_STEP,
        code="llm.c",
        kind="handwritten",
        usd=2000,
        source=f"{_LLMC}, scripts/run_gpt2_774M.sh: 286,102 updates (150B tokens), 135 hours",
    ),
    PublishedRun(
        name="GPT-2 XL, llm.c, 8 x H100",
        network=XL,
        device="h100",
        count=8,
        figure=2.75,
        unit="s",
        tokens=2 * _STEP,
        code="llm.c",
        kind="handwritten",
        usd=672,
        source=f"{_LLMC}, scripts/run_gpt2_1558M.sh and discussion 677: 32,000 updates (33.55B tokens), 24 hours",
        note="published as 2.7 and as 2.8 s; the middle",
    ),
    PublishedRun(
        name="GPT-2 small, modded-nanogpt, AdamW, 8 x H100",
        network=SMALL,
        device="h100",
        count=8,
        figure=31.4,
        unit="min",
        tokens=9536 * _STEP,
        code="modded-nanogpt",
        kind="compiled",
        source=f"{_MODDED}, record 2 and its log: 9,536 updates (5.0B tokens)",
    ),
    PublishedRun(
        name="GPT-2 small, modded-nanogpt, Muon, 8 x H100",
        network=SMALL,
        device="h100",
        count=8,
        figure=0.216,
        unit="s",
        tokens=_STEP,
        code="modded-nanogpt",
        kind="compiled",
        source=f"{_MODDED}, record 4 and its log: 6,200 updates (3.25B tokens), 22.3 minutes",
    ),
    PublishedRun(
        name="GPT-2 small, nanoGPT, 8 x A100",
        network=SMALL,
        device="a100-40",
        count=8,
        figure=4,
        unit="days",
        tokens=600_000 * 491_520,
        code="nanoGPT",
        kind="compiled",
        source="github.com/karpathy/nanoGPT, README and config/train_gpt2.py: 295B tokens",
        note="about 4 days, evaluations included",
    ),
    PublishedRun(
        name="GPT-2 small, nanoGPT, 1 x 4090",
        network=SMALL,
        device="4090",
        count=1,
        figure=0.29 * 312e12 / SMALL.flops_per_token,
        unit="tokens/s/GPU",
        code="nanoGPT",
        kind="compiled",
        source="github.com/karpathy/nanoGPT, issue 182",
        note="published as 29% of an A100's peak, 312 TFLOP/s, which nanoGPT divides by whatever the GPU",
    ),
    PublishedRun(
        name="nanochat d24, 8 x H100",
        network=network(
            ModelConfig(n_layer=24, n_embd=1536, vocab_size=32_768, block_size=2048),
            context=1280,  # three of four layers see 1,024 tokens, the fourth all
        ),
        device="h100",
        count=8,
        figure=10_949,
        unit="s",
        tokens=16_704 * _STEP,
        code="nanochat",
        kind="compiled",
        usd=73,
        source="github.com/karpathy/nanochat, dev/LEADERBOARD.md, run 1: 8.76B tokens, 4.33e19 FLOP",
        note="without evaluations",
    ),
    PublishedRun(
        name="nanochat d20, 1 x 4090",
        network=_gpt2(20, 1280, vocab_size=65_536, context=2048),
        device="4090",
        count=1,
        figure=13.777,
        unit="s",
        tokens=_STEP,
        code="nanochat",
        kind="compiled",
        source="github.com/karpathy/nanochat, issue 157: 561M parameters",
        note="it reports 13.44% of an H100's peak, which is 80% of a 4090's",
    ),
    PublishedRun(
        name="MPT-7B, 440 x A100",
        network=_gpt2(32, 4096, vocab_size=50_432, context=2048),
        device="a100-40",
        count=440,
        figure=9.5,
        unit="days",
        tokens=1e12,
        code="llm-foundry",
        kind="eager",
        usd=200_000,
        source="databricks.com/blog/mpt-7b; sizes and GPUs: huggingface.co/mosaicml/mpt-7b",
    ),
    PublishedRun(
        name="MPT 125M, llm-foundry, 8 x A100",
        network=_gpt2(12, 768, vocab_size=50_368),
        device="a100-80",
        count=8,
        figure=156_468,
        unit="tokens/s/GPU",
        code="llm-foundry",
        kind="eager",
        source=f"{_FOUNDRY}: 43.15% MFU",
    ),
    PublishedRun(
        name="MPT 350M, llm-foundry, 8 x A100",
        network=_gpt2(24, 1024, vocab_size=50_368),
        device="a100-80",
        count=8,
        figure=64_813,
        unit="tokens/s/GPU",
        code="llm-foundry",
        kind="eager",
        source=f"{_FOUNDRY}: 50.51% MFU",
    ),
    PublishedRun(
        name="MPT 1.3B, llm-foundry, 8 x A100",
        network=_gpt2(24, 2048, vocab_size=50_368),
        device="a100-80",
        count=8,
        figure=22_112,
        unit="tokens/s/GPU",
        code="llm-foundry",
        kind="eager",
        source=f"{_FOUNDRY}: 60.15% MFU",
    ),
    PublishedRun(
        name="MPT 1.3B, llm-foundry, 8 x H100",
        network=_gpt2(24, 2048, vocab_size=50_368),
        device="h100",
        count=8,
        figure=48_910,
        unit="tokens/s/GPU",
        code="llm-foundry",
        kind="eager",
        source=f"{_FOUNDRY}: 41.95% MFU",
    ),
    PublishedRun(
        name="MPT 1.3B, llm-foundry, 8 x H100, fp8",
        network=_gpt2(24, 2048, vocab_size=50_368, context=512),
        device="h100",
        count=8,
        figure=70_315,
        unit="tokens/s/GPU",
        code="llm-foundry",
        kind="eager",
        fp8=True,
        source=f"{_FOUNDRY}: 29.06% of the peak in 8 bits",
    ),
    PublishedRun(
        name="Llama-3.1 8B, torchtitan, 8 x H100",
        network=_LLAMA_3_8B,
        device="h100",
        count=8,
        figure=5762,
        unit="tokens/s/GPU",
        code="torchtitan",
        kind="eager",
        source=_TITAN,
        peak_share=_OF_700_WATTS,
        note=_500_WATTS,
    ),
    PublishedRun(
        name="Llama-3.1 8B, torchtitan, compiled, 8 x H100",
        network=_LLAMA_3_8B,
        device="h100",
        count=8,
        figure=6667,
        unit="tokens/s/GPU",
        code="torchtitan",
        kind="compiled",
        source=_TITAN,
        peak_share=_OF_700_WATTS,
        note=_500_WATTS,
    ),
    PublishedRun(
        name="Llama-3.1 8B, torchtitan, compiled, fp8, 8 x H100",
        network=_LLAMA_3_8B,
        device="h100",
        count=8,
        figure=8532,
        unit="tokens/s/GPU",
        code="torchtitan",
        kind="compiled",
        fp8=True,
        source=_TITAN,
        peak_share=_OF_700_WATTS,
        note=_500_WATTS,
    ),
    PublishedRun(
        name="Llama-2 7B, A100",
        network=_LLAMA_2_7B,
        device="a100-80",
        count=2000,
        figure=184_320,
        unit="GPU hours",
        tokens=2e12,
        code="Llama",
        kind="lab",
        source="Touvron et al. 2023, table 2",
        note="how many GPUs is not published; its clusters have up to 2,000",
    ),
    PublishedRun(
        name="Llama-2 70B, A100",
        network=_LLAMA_2_70B,
        device="a100-80",
        count=2000,
        figure=1_720_320,
        unit="GPU hours",
        tokens=2e12,
        code="Llama",
        kind="lab",
        source="Touvron et al. 2023, table 2",
        note="how many GPUs is not published; its clusters have up to 2,000",
    ),
    PublishedRun(
        name="Llama-3.1 405B, 16,384 x H100",
        network=_LLAMA_3_405B,
        device="h100",
        count=16_384,
        figure=30.84e6,
        unit="GPU hours",
        tokens=15.6e12,
        code="Llama",
        kind="lab",
        source="Grattafiori et al. 2024, tables 3 and 4; hours: model card of Llama 3.1",
        note="all hours, interruptions included; while it ran, 380 to 430 TFLOP/s per GPU (38 to 43%)",
    ),
    PublishedRun(
        name="DeepSeek-V3, 2,048 x H800, fp8",
        network=_deepseek_v3(),
        device="h800",
        count=2048,
        figure=2.664e6,
        unit="GPU hours",
        tokens=14.8e12,
        code="DeepSeek",
        kind="lab",
        fp8=True,
        usd=5.328e6,
        source="DeepSeek-V3 report, table 1: $2 per GPU hour assumed",
        note="its 2.788M GPU hours ($5.576M) include what followed; a mixture of experts, the only one here",
    ),
    PublishedRun(
        name="10.6M on characters, nanoGPT, 1 x A100",
        network=_gpt2(6, 384, vocab_size=65, context=256),
        device="a100-40",
        count=1,
        figure=3,
        unit="min",
        tokens=5000 * 64 * 256,
        code="nanoGPT",
        kind="compiled",
        source="github.com/karpathy/nanoGPT, README, config/train_shakespeare_char.py and train.py",
        why_left_out="about 3 minutes, of which about one compiles and 8,400 batches evaluate: no speed can be told",
    ),
    PublishedRun(
        name="GPT-2 XL, OpenAI 2019, 32 x TPU v3",
        network=XL,
        device="tpu-v3",
        count=32,
        figure=168,
        unit="hours",
        code="OpenAI",
        kind="lab",
        usd=43_000,
        source="github.com/karpathy/nanochat, README",
        why_left_out="how many tokens it was trained on was never published",
    ),
    PublishedRun(
        name="Llama-3.1 8B, H100",
        network=_LLAMA_3_8B,
        device="h100",
        count=2000,
        figure=1.46e6,
        unit="GPU hours",
        tokens=15e12,
        code="Llama",
        kind="lab",
        source="model card of Llama 3.1",
        why_left_out="its GPU hours fit no formula: they would mean 17% of the peak, not half of what the 405B reached",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What one of OpenAI's GPT-2 checkpoints reaches. Accuracies are per cent."""

    recipe: str
    hellaswag: float  # 0-shot, length-normalised accuracy
    lambada: float  # accuracy
    lambada_perplexity: float
    wikitext2_perplexity: float
    openwebtext_loss: float


QUALITY_SOURCE = (
    "HellaSwag: 29.55 of the 124M in llm.c's script, the others (and 30.9 for the 124M) in nanochat's notebook; "
    "LAMBADA and WikiText-2: Radford et al. 2019, table 3; OpenWebText: nanoGPT's README"
)
QUALITY = tuple(
    Quality(
        recipe=name,
        hellaswag=hellaswag,
        lambada=lambada,
        lambada_perplexity=perplexity,
        wikitext2_perplexity=wikitext2,
        openwebtext_loss=loss,
    )
    for name, hellaswag, lambada, perplexity, wikitext2, loss in (
        ("gpt2_small", 29.55, 45.99, 35.13, 29.41, 3.12),
        ("gpt2_medium", 39.0, 55.48, 15.60, 22.76, 2.84),
        ("gpt2_large", 44.0, 60.12, 10.87, 19.93, 2.67),
        ("gpt2_xl", 50.2, 63.24, 8.63, 18.34, 2.54),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GPT2Cost:
    """What it costs to train GPT-2 XL, as the lecture tells it."""

    when: str
    usd: float
    machine: str
    hours: float | None
    status: Literal["estimated", "measured", "hoped"]
    source: str


LECTURE_COSTS = (
    GPT2Cost(
        when="2019",
        usd=40_000,
        machine="32 x TPU v3",
        hours=168,
        status="estimated",
        source="the lecture; $43,000 in nanochat's README: 32 x 168 hours x $8",
    ),
    GPT2Cost(
        when="2024",
        usd=600,
        machine="8 x H100",
        hours=24,
        status="measured",
        source="the lecture; $672 in llm.c's script: 24 hours at $28",
    ),
    GPT2Cost(
        when="hoped",
        usd=100,
        machine="not said",
        hours=None,
        status="hoped",
        source="the lecture: a hope, nobody's result",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What the lecture says that its own figures, or the source, contradict: shown beside it, never silently."""

    said: str
    right: str
    source: str


CORRECTIONS = (
    Correction(
        said="GPT-2 XL takes one day: 32,000 updates of 7 s",
        right="32,000 x 7 s is 62 hours; one day needs 2.7 s per update, which 8 x H100 reached",
        source="arithmetic; llm.c's scripts/run_gpt2_1558M.sh",
    ),
    Correction(
        said="training became 400 times cheaper, from $40,000",
        right="$40,000 -> $600 is 67x; 400x would be $100, which is a hope and nobody's result",
        source="arithmetic",
    ),
    Correction(
        said="$600 for a day on 8 x H100",
        right="8 GPUs x 24 hours x $3 is $576; the run that was published paid $28 an hour: $672",
        source="arithmetic; llm.c's scripts/run_gpt2_1558M.sh",
    ),
    Correction(
        said="GPT-2 has 1.6B parameters, GPT-2 small 120 million",
        right="1,557,611,200 and 124,439,808",
        source="counted (model/sizes.py)",
    ),
    Correction(
        said="GPT-2 was trained on 100B tokens",
        right="OpenAI never published how many; 100B is an estimate. The reproduction took 33.55B: another run",
        source="Radford et al. 2019; llm.c's scripts/run_gpt2_1558M.sh",
    ),
    Correction(
        said="update 420 of 32,000, as how far the run is",
        right="1.3% of it",
        source="arithmetic",
    ),
)
