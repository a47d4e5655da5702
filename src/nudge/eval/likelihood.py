"""The likelihoods of the answers of a task (tasks.py), and the scores that papers report.

    context, continuation -> tokens -> log p(continuation | context), and whether the network would write it

Tokens, windows and scores are computed as in EleutherAI's lm-evaluation-harness 0.4.13 (Source: lm_eval/api/model.py,
lm_eval/models/huggingface.py, lm_eval/api/task.py and metrics.py). bench/harness.py compares every number with it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor

from nudge.data.tokenizer import Tokenizer
from nudge.errors import DataError
from nudge.eval.loss import LARGEST_EXPONENT, exp
from nudge.eval.tasks import Example, Task
from nudge.infer import sampling
from nudge.infer.engine import LanguageModel
from nudge.model.gpt import GPT

TOKENS_AT_ONCE = 2048
LOGITS_AT_ONCE = 512  # positions whose logits are in memory at once: 0.1 GB for GPT-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """The tokens that a network reads for one answer, after its context."""

    ids: tuple[int, ...]
    n_scored: int  # the last ids: the answer
    n_cut: int  # tokens of the context that did not fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """A network's likelihood of one continuation."""

    logprob: float  # ln p of all its tokens, in nats
    greedy: bool  # every token is the likeliest: the network would write this continuation
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score, its standard error (None for a single example), and the score of a blind guess."""

    value: float
    stderr: float | None
    guess: float


def continuations(model: LanguageModel, examples: Sequence[Example]) -> list[Continuation]:
    """Return the tokens of every answer of every example, in order.

    A context that is too long loses its beginning. Raises: DataError for an answer without a token or longer than the
    window, or a vocabulary without a first token for a text; TokenizerError for text that it cannot encode.
    """
    if not model.tokenizer.opening:
        raise DataError("no_start_token")
    window = model.network.config.block_size
    return [_continuation(model.tokenizer, window, example, pair) for example in examples for pair in example.pairs]


def _continuation(tokenizer: Tokenizer, window: int, example: Example, pair: tuple[str, str]) -> Continuation:
    before, answer = encode(tokenizer, *pair)
    if not answer:
        raise DataError("answer_without_token", place=example.where, answer=pair[1])
    if len(answer) > window:
        raise DataError("answer_too_long", place=example.where, n=len(answer), window=window)
    ids = (*before, *answer)
    kept = ids[-(window + 1) :]  # one more than the window: the last token is only predicted, never read
    return Continuation(ids=kept, n_scored=len(answer), n_cut=len(ids) - len(kept))


def encode(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a context, and the tokens that its continuation adds.

    Both are encoded in one piece, so that words are split as in running text; spaces at the end of the context belong
    to the continuation. An empty context becomes the token that opens a text.
    """
    bare = context.rstrip()
    before = tokenizer.encode(bare)
    both = tokenizer.encode(context + continuation)
    return before or list(tokenizer.opening), both[len(before) :]


def log_likelihoods(
    network: GPT, rows: Sequence[Continuation], *, at_once: int = TOKENS_AT_ONCE
) -> Iterator[tuple[int, Likelihood]]:
    """Yield the index and likelihood of each of `rows`, the longest first, with about `at_once` tokens per pass."""
    waiting = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    while waiting:
        fit = max(1, at_once // len(rows[waiting[0]].ids))
        group, waiting = waiting[:fit], waiting[fit:]
        yield from zip(group, _forward(network, [rows[i] for i in group]), strict=True)


@torch.inference_mode()
def _forward(network: GPT, rows: Sequence[Continuation]) -> list[Likelihood]:
    """Return the likelihoods of rows that are sorted by length, the longest first.

    Shorter rows are padded at the end, which no other token attends to.
    """
    device = network.wte.weight.device
    T = len(rows[0].ids) - 1
    tokens = torch.tensor([[*row.ids[:-1], *[0] * (T + 1 - len(row.ids))] for row in rows], device=device)
    hidden = network.hidden(tokens)
    ends = [len(row.ids) - 1 for row in rows]
    read = [hidden[b, end - row.n_scored : end] for b, (row, end) in enumerate(zip(rows, ends, strict=True))]
    targets = torch.tensor([id_ for row in rows for id_ in row.ids[-row.n_scored :]], device=device)
    logprobs, likeliest = _score_targets(network, torch.cat(read), targets)
    sizes = [row.n_scored for row in rows]
    return [
        Likelihood(logprob=float(nats.sum()), greedy=bool(hits.all()), n_tokens=len(nats))
        for nats, hits in zip(logprobs.split(sizes), likeliest.split(sizes), strict=True)
    ]


def _score_targets(network: GPT, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln p of each target, and whether it is the likeliest: hidden [M, C], targets [M] -> both [M], on CPU."""
    logprobs, likeliest = [], []
    for h, target in zip(hidden.split(LOGITS_AT_ONCE), targets.split(LOGITS_AT_ONCE), strict=True):
        logits = network.logits(h)
        nats = F.cross_entropy(logits, target, reduction="none").cpu().double()
        sampling.check_finite(nats)
        logprobs.append(-nats)
        likeliest.append((logits.argmax(-1) == target).cpu())
    return torch.cat(logprobs), torch.cat(likeliest)


def scores(
    task: Task, examples: Sequence[Example], found: Iterable[tuple[int, Likelihood]], *, vocab_size: int
) -> dict[str, Score]:
    """Compute a task's scores. `found`: (index, likelihood) of every answer of all examples, in any order."""
    likelihoods = iter([likelihood for _, likelihood in sorted(found, key=lambda pair: pair[0])])
    answers = [[next(likelihoods) for _ in example.pairs] for example in examples]  # of each example
    guess = fmean([_chance(one, vocab_size) for one in answers])
    by_name = {}
    for name in task.scores:
        if name == "perplexity":
            by_name[name] = _perplexity([answer for (answer,) in answers], vocab_size)
        else:
            norm = name == "acc_norm"
            hits = [_is_right(*both, by_length=norm) for both in zip(examples, answers, strict=True)]
            by_name[name] = Score(value=fmean(hits), stderr=_stderr(hits), guess=guess)
    return by_name


def _is_right(example: Example, answers: Sequence[Likelihood], *, by_length: bool) -> bool:
    """Return whether the right answer is the likeliest. A single answer is right if the network would write it.

    `by_length` compares likelihoods per character, because long answers are less likely. The harness counts characters
    too; only its acc_bytes, which none of these tasks reports, divides by bytes.
    """
    if len(answers) == 1:
        return answers[0].greedy
    lengths = example.lengths if by_length else [1] * len(answers)
    values = [answer.logprob / n if n else -math.inf for answer, n in zip(answers, lengths, strict=True)]
    return values.index(max(values)) == example.right


def _chance(answers: Sequence[Likelihood], vocab_size: int) -> float:
    """Return the chance of a blind guess: among the answers, or among all texts as long as the only answer."""
    return 1 / len(answers) if len(answers) > 1 else float(vocab_size) ** -answers[0].n_tokens


def _stderr(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean: the sample's standard deviation over the square root of its size."""
    if len(values) == 1:
        return None
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def _perplexity(answers: Sequence[Likelihood], vocab_size: int) -> Score:
    """Return exp of the mean of -ln p over answers (not over tokens)."""
    logprobs = [answer.logprob for answer in answers]
    return Score(
        value=exp(-fmean(logprobs)),
        stderr=_bootstrap_stderr(logprobs) if len(logprobs) > 1 else None,
        guess=exp(fmean([answer.n_tokens for answer in answers]) * math.log(vocab_size)),
    )


def _bootstrap_stderr(logprobs: Sequence[float]) -> float:
    """Return the standard deviation of the perplexity over samples that are drawn from this one with replacement.

    The harness draws 100,000 samples; this is the limit of infinitely many. A sample is n independent draws x, so the
    mean of exp(-t mean(x)) over samples is M(t) = (mean of exp(-t x / n))^n, and the variance is M(2) - M(1)^2.
    """
    n = len(logprobs)
    x = torch.tensor(logprobs, dtype=torch.float64)
    log_m1, log_m2 = (n * (torch.logsumexp(-t * x / n, dim=0).item() - math.log(n)) for t in (1, 2))
    return exp(log_m1) * math.sqrt(max(math.expm1(min(log_m2 - 2 * log_m1, LARGEST_EXPONENT)), 0.0))
