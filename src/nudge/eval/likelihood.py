"""How likely a network finds the answers of a task (tasks.py), and the scores that papers report.

    context, continuation -> tokens -> log p(continuation | context), and whether the network would write it

Tokens, windows and scores are those of EleutherAI's lm-evaluation-harness 0.4.13 (Source: lm_eval/api/model.py,
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
LOGITS_AT_ONCE = 512  # positions whose whole vocabulary is in memory: 0.1 GB of GPT-2's


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """The tokens that a network reads for one answer; the last `n_scored` of `ids` are the answer's."""

    ids: tuple[int, ...]
    n_scored: int
    n_cut: int  # tokens of the context that did not fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """How likely a network finds one continuation."""

    logprob: float  # ln p of all its tokens, in nats
    greedy: bool  # each of them is the likeliest: the network would write it
    n_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score, its standard error (None for a single example), and what a blind guess would reach."""

    value: float
    stderr: float | None
    guess: float


def continuations(model: LanguageModel, examples: Sequence[Example]) -> list[Continuation]:
    """Return the tokens of every answer of every example, in order.

    A context that is too long loses its beginning. Raises: DataError for an answer longer than the window or without a
    token, or a network that reads no text; TokenizerError for text that its vocabulary cannot encode.
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
    kept = ids[-(window + 1) :]  # the last token is only predicted, never read
    return Continuation(ids=kept, n_scored=len(answer), n_cut=len(ids) - len(kept))


def encode(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Return the tokens of a context, and those that its continuation adds.

    Both are encoded in one piece, so that words are cut as in running text; spaces at the end of the context belong to
    the continuation. An empty context is the token that opens a text.
    """
    bare = context.rstrip()
    before = tokenizer.encode(bare)
    both = tokenizer.encode(context + continuation)
    return before or list(tokenizer.opening), both[len(before) :]


def log_likelihoods(
    network: GPT, rows: Sequence[Continuation], *, at_once: int = TOKENS_AT_ONCE
) -> Iterator[tuple[int, Likelihood]]:
    """Yield the index and likelihood of each of `rows`, the longest first, about `at_once` tokens in a pass."""
    waiting = sorted(range(len(rows)), key=lambda i: -len(rows[i].ids))
    while waiting:
        fit = max(1, at_once // len(rows[waiting[0]].ids))
        group, waiting = waiting[:fit], waiting[fit:]
        yield from zip(group, _pass(network, [rows[i] for i in group]), strict=True)


@torch.inference_mode()
def _pass(network: GPT, rows: Sequence[Continuation]) -> list[Likelihood]:
    """Return the likelihoods of rows, the longest first. Shorter ones are padded at the end, which no token sees."""
    device = network.wte.weight.device
    T = len(rows[0].ids) - 1
    tokens = torch.tensor([[*row.ids[:-1], *[0] * (T + 1 - len(row.ids))] for row in rows], device=device)
    hidden = network.hidden(tokens)
    ends = [len(row.ids) - 1 for row in rows]
    read = [hidden[b, end - row.n_scored : end] for b, (row, end) in enumerate(zip(rows, ends, strict=True))]
    targets = torch.tensor([id_ for row in rows for id_ in row.ids[-row.n_scored :]], device=device)
    logprobs, likeliest = _scored(network, torch.cat(read), targets)
    sizes = [row.n_scored for row in rows]
    return [
        Likelihood(logprob=float(nats.sum()), greedy=bool(hits.all()), n_tokens=len(nats))
        for nats, hits in zip(logprobs.split(sizes), likeliest.split(sizes), strict=True)
    ]


def _scored(network: GPT, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return ln p of each target, and whether it is the likeliest: hidden [M, C], targets [M] -> both [M], on CPU."""
    logprobs, likeliest = [], []
    for h, wanted in zip(hidden.split(LOGITS_AT_ONCE), targets.split(LOGITS_AT_ONCE), strict=True):
        logits = network.logits(h)
        nats = F.cross_entropy(logits, wanted, reduction="none").cpu().double()
        sampling.check_finite(nats)
        logprobs.append(-nats)
        likeliest.append((logits.argmax(-1) == wanted).cpu())
    return torch.cat(logprobs), torch.cat(likeliest)


def scores(
    task: Task, examples: Sequence[Example], found: Iterable[tuple[int, Likelihood]], *, vocab_size: int
) -> dict[str, Score]:
    """Return a task's scores, from the numbered likelihoods of all answers of all examples, in any order."""
    in_order = iter([likelihood for _, likelihood in sorted(found, key=lambda numbered: numbered[0])])
    of_examples = [[next(in_order) for _ in example.pairs] for example in examples]
    guess = fmean([_guess(answers, vocab_size) for answers in of_examples])
    made = {}
    for name in task.scores:
        if name == "perplexity":
            made[name] = _perplexity([answer for (answer,) in of_examples], vocab_size)
        else:
            norm = name == "acc_norm"
            hits = [_is_right(*both, by_length=norm) for both in zip(examples, of_examples, strict=True)]
            made[name] = Score(value=fmean(hits), stderr=_stderr(hits), guess=guess)
    return made


def _is_right(example: Example, answers: Sequence[Likelihood], *, by_length: bool) -> bool:
    """Return whether the right answer is the likeliest; a single one has to be what the network would write.

    `by_length` compares likelihoods per character, because long answers are always less likely. The harness counts
    characters too; only its acc_bytes, which none of these tasks reports, divides by bytes.
    """
    if len(answers) == 1:
        return answers[0].greedy
    lengths = example.lengths if by_length else [1] * len(answers)
    values = [answer.logprob / n if n else -math.inf for answer, n in zip(answers, lengths, strict=True)]
    return values.index(max(values)) == example.right


def _guess(answers: Sequence[Likelihood], vocab_size: int) -> float:
    """Return how often a guess is right: among the answers, or for a single one among all texts of its length."""
    return 1 / len(answers) if len(answers) > 1 else float(vocab_size) ** -answers[0].n_tokens


def _stderr(values: Sequence[float]) -> float | None:
    """Return the standard error of a mean: the standard deviation of the sample over the root of its size."""
    if len(values) == 1:
        return None
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def _perplexity(answers: Sequence[Likelihood], vocab_size: int) -> Score:
    """Return exp of the mean of -ln p over the answers (not over their tokens)."""
    logprobs = [answer.logprob for answer in answers]
    return Score(
        value=exp(-fmean(logprobs)),
        stderr=_bootstrap_stderr(logprobs) if len(logprobs) > 1 else None,
        guess=exp(fmean([answer.n_tokens for answer in answers]) * math.log(vocab_size)),
    )


def _bootstrap_stderr(logprobs: Sequence[float]) -> float:
    """Return the standard deviation of the perplexity of samples drawn from this one, with replacement.

    The harness draws 100,000 samples; this is the limit of infinitely many. A sample is n independent draws x, so the
    mean of exp(-t mean(x)) over samples is M(t) = (mean of exp(-t x / n))^n, and the variance is M(2) - M(1)^2.
    """
    n = len(logprobs)
    x = torch.tensor(logprobs, dtype=torch.float64)
    log_m1, log_m2 = (n * (torch.logsumexp(-t * x / n, dim=0).item() - math.log(n)) for t in (1, 2))
    return exp(log_m1) * math.sqrt(max(math.expm1(min(log_m2 - 2 * log_m1, LARGEST_EXPONENT)), 0.0))
