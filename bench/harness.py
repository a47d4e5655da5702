"""`nudge eval --task` compared with EleutherAI's lm-evaluation-harness: one model, number by number.

    pip install lm_eval transformers accelerate   # into an environment with nudge; compared with 0.4.13
    nudge export runs/small --to hf --out exported
    python bench/harness.py runs/small exported --task hellaswag --file hellaswag_val.jsonl --limit 200
    python bench/harness.py runs/small exported --task piqa    # no file: 200 examples of random words

Both compute in float32. Prints the largest difference of a log-likelihood (in nats and relative), whether the same
answers are greedy, and every score; with `--twice`, also how much the harness differs from itself when it reads one
row at a time instead of eight. Neighboring float32 numbers near 100 are 8e-6 apart, so no two programs agree better;
`--float64` computes both in float64, where only a difference in definition remains. Nothing is downloaded.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"

import torch

from nudge.eval import likelihood, tasks
from nudge.infer.engine import load

THEIR_FILES = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "lambada": "lambada/lambada_openai.yaml",
    "winogrande": "winogrande/default.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "piqa": "piqa/piqa.yaml",
}
WORDS = ["the", "a", "river", "stone", "lamp", "bread", "cold", "old", "open", "carry", "lift", "Tom's", "naïve"]
WORDS += ["김치", "(red)", "12", "not", "and,", "<b>", "…"]


def made(task: str, n: int) -> list[dict[str, Any]]:
    """Return random examples in the format of the original release."""
    draw = random.Random(5)

    def words(low: int, high: int) -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(low, high)))

    def one() -> dict[str, Any]:
        if task == "winogrande":
            sentence = f"{words(3, 12)} _ {words(2, 12)}."
            return {"sentence": sentence, "option1": words(1, 2), "option2": words(1, 2), "answer": draw.choice("12")}
        if task == "arc_easy":
            labels = draw.choice(["ABCD", "ABC", "1234", "ABCDE"])
            choices = [{"text": words(1, 6), "label": label} for label in labels]
            return {"question": {"stem": f"{words(5, 30)}?", "choices": choices}, "answerKey": draw.choice(labels)}
        if task == "piqa":
            return {"goal": words(3, 20), "sol1": words(3, 30), "sol2": words(3, 30), "label": draw.randint(0, 1)}
        if task == "lambada":
            return {"text": words(20, 150)}
        parts = {"ctx_a": f"{words(5, 60)} [header] {words(1, 3)} [title] {words(2, 4)}.", "ctx_b": words(1, 3)}
        endings = [words(2, 20) for _ in range(4)]
        return {"activity_label": words(1, 3), **parts, "endings": endings, "label": draw.randrange(4)}

    return [one() for _ in range(n)]


def for_hub(task: str, line: dict[str, Any]) -> dict[str, Any]:
    """Return the line with the fields of the Hub's copy, which the harness reads."""
    if task == "lambada" and "text" not in line:
        return {"text": f"{line['context']} {line['continuation']}"}
    if task == "hellaswag":
        return {"ctx_a": line["ctx"], "ctx_b": "", **line} if "ctx_a" not in line else line
    if task == "arc_easy" and isinstance(line["question"], dict):
        choices = line["question"]["choices"]
        columns = {name: [choice[name] for choice in choices] for name in ("text", "label")}
        return {"question": line["question"]["stem"], "choices": columns, "answerKey": line["answerKey"]}
    return line


def theirs(exported: Path, task: str, file: Path, dtype: str, batch: int) -> tuple[list[tuple[float, bool]], Any]:
    """Return the harness's log-likelihoods, in order, and its scores."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    network = HFLM(pretrained=str(exported), device="cpu", dtype=dtype, softmax_dtype=dtype, batch_size=batch)
    split = "test" if task in ("lambada", "arc_easy") else "validation"
    local = {
        "include": str(Path(lm_eval.__file__).parent / "tasks" / THEIR_FILES[task]),
        "task": f"local_{task}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(file)}},
        "training_split": None,
        "validation_split": None,
        "test_split": None,
        f"{split}_split": split,
    }
    described = file.with_suffix(".yaml")
    described.write_text(json.dumps(local), encoding="utf-8")  # JSON is YAML
    with contextlib.redirect_stdout(sys.stderr):
        result = lm_eval.simple_evaluate(model=network, tasks=[str(described)], log_samples=True)
    (samples,) = result["samples"].values()
    (scores,) = result["results"].values()
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    return [(float(ll), bool(greedy)) for sample in ordered for ((ll, greedy),) in sample["resps"]], scores


def ours(source: str, task: str, file: Path, dtype: str) -> tuple[list[likelihood.Likelihood], Any, int]:
    """Our likelihoods, in order, our scores, and how many contexts were cut."""
    model = load(source, device="cpu")
    model.network.to(getattr(torch, dtype))
    examples = tasks.read(tasks.TASKS[task], file)
    rows = likelihood.continuations(model, examples)
    found = dict(likelihood.log_likelihoods(model.network, rows))
    vocab_size = model.network.config.vocab_size
    scores = likelihood.scores(tasks.TASKS[task], examples, found.items(), vocab_size=vocab_size)
    return [found[i] for i in range(len(rows))], scores, sum(row.n_cut > 0 for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="run folder or checkpoint")
    parser.add_argument("exported", type=Path, help="what `nudge export --to hf` made of it, tokenizer included")
    parser.add_argument("--task", required=True, choices=list(tasks.TASKS))
    parser.add_argument("--file", type=Path)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--twice", action="store_true", help="the harness beside itself with another batch, too")
    args = parser.parse_args()
    dtype = "float64" if args.float64 else "float32"
    lines = made(args.task, args.limit)
    if args.file:
        with args.file.open(encoding="utf-8") as file:
            lines = [json.loads(line) for line in itertools.islice(file, args.limit)]
    with tempfile.TemporaryDirectory() as folder:
        mine, hub = Path(folder, "ours.jsonl"), Path(folder, "hub.jsonl")
        for path, form in ((mine, lambda line: line), (hub, lambda line: for_hub(args.task, line))):
            path.write_text("".join(json.dumps(form(line)) + "\n" for line in lines), encoding="utf-8")
        found, scores, cut = ours(args.source, args.task, mine, dtype)
        wanted, their_scores = theirs(args.exported, args.task, hub, dtype, batch=8)
        again = theirs(args.exported, args.task, hub, dtype, batch=1)[0] if args.twice else wanted
    answers = list(zip(found, wanted, strict=True))
    print(f"{args.task}, {dtype}: {len(lines)} examples, {len(answers)} answers, {cut} contexts cut")
    print(f"largest |log-likelihood|         {max(abs(ll) for _, (ll, _) in answers):.1f}")
    print(f"largest difference, nats         {max(abs(a.logprob - ll) for a, (ll, _) in answers):.2e}")
    print(f"largest difference, of the value {max(abs(a.logprob / ll - 1) for a, (ll, _) in answers):.2e}")
    if args.twice:
        itself = max(abs(one - other) for (one, _), (other, _) in zip(wanted, again, strict=True))
        print(f"the harness and itself, nats     {itself:.2e}")
    otherwise = sum(a.greedy != greedy for a, (_, greedy) in answers)
    print(f"greedy {sum(a.greedy for a in found)}, otherwise in the harness {otherwise}")
    for name, score in scores.items():
        value, stderr = (their_scores[f"{name}{kind},none"] for kind in ("", "_stderr"))
        print(f"{name:<10} ours   {score.value:.10g} ± {score.stderr:.6g}")
        print(f"{'':<10} theirs {value:.10g} ± {stderr:.6g}")


if __name__ == "__main__":
    main()
