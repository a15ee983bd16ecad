"""Held-out accuracy of the base and every adapter on every tenant's tickets, in PyTorch and through a server.

    python accuracy.py                                # PyTorch only; prints the table
    python accuracy.py --url http://127.0.0.1:8080    # both; exits with 1 when they disagree
    python accuracy.py ... --write                    # also rewrites the table in ../README.md and
                                                      # ../demo-router/heldout/expected.json

Disagree means: another first label for any ticket, or a score further than 1e-4 from PyTorch's.
"""

import argparse
import json
import sys
import urllib.request

import peft
import torch

from phrases import LABELS
from router import BASE, HELDOUT, MODELS, encode, load_adapted, load_base, load_tokenizer, logits_of, read_jsonl
from tenants import TENANTS

SCORE_TOLERANCE = 1e-4
TEXTS_A_REQUEST = 16
EXPECTED_TEXTS = 20
BEGIN, END = "<!-- accuracy:begin -->", "<!-- accuracy:end -->"
BASE_SET = "base"
SETS = [BASE_SET, *(tenant.name for tenant in TENANTS)]


def load(name: str, dtype: torch.dtype = torch.float32):
    return load_base().to(dtype) if name == BASE_SET else load_adapted(name, dtype)


def scores_in_pytorch(heldout: dict) -> dict:
    """{(model, set): [tickets, labels] probabilities}"""
    tokenizer = load_tokenizer()
    scores = {}
    for name in SETS:
        model = load(name)
        for chosen in SETS:
            texts = [ticket["text"] for ticket in heldout[chosen]]
            scores[name, chosen] = logits_of(model, tokenizer, texts).softmax(-1)
    return scores


def scores_from_server(url: str, heldout: dict) -> dict:
    scores = {}
    for name in SETS:
        model = BASE.name if name == BASE_SET else name
        for chosen in SETS:
            texts = [ticket["text"] for ticket in heldout[chosen]]
            rows = []
            for start in range(0, len(texts), TEXTS_A_REQUEST):
                rows += classify(url, model, texts[start : start + TEXTS_A_REQUEST])
            scores[name, chosen] = torch.tensor(rows)
    return scores


def classify(url: str, model: str, texts: list[str]) -> list[list[float]]:
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/classify",
        json.dumps({"model": model, "input": texts}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        data = json.load(answer)["data"]
    rows = []
    for item in sorted(data, key=lambda item: item["index"]):
        by_label = {score["label"]: score["score"] for score in item["scores"]}
        assert max(by_label, key=by_label.get) == item["label"], item
        rows.append([by_label[label] for label in LABELS])
    assert len(rows) == len(texts), f"{len(rows)} answers to {len(texts)} texts"
    return rows


def share_right(scores: torch.Tensor, tickets: list[dict]) -> float:
    right = sum(LABELS[p] == t["label"] for p, t in zip(scores.argmax(-1).tolist(), tickets))
    return right / len(tickets)


def disagreements(ours: dict, theirs: dict) -> list[str]:
    found = []
    for pair, expected in ours.items():
        flips = int((expected.argmax(-1) != theirs[pair].argmax(-1)).sum())
        worst = float((expected - theirs[pair]).abs().max())
        if flips or worst > SCORE_TOLERANCE:
            found.append(f"{pair[0]} on {pair[1]}'s tickets: {flips} other first labels, scores up to {worst:.1e} apart")
    return found


def table(heldout: dict, ours: dict, theirs: dict | None) -> str:
    """Two tables: each tenant's own adapter against the base, and every adapter on every set."""

    def cell(scores: dict | None, model: str, chosen: str) -> str:
        return "not measured" if scores is None else f"{share_right(scores[model, chosen], heldout[chosen]):.1%}"

    lines = [
        "| tickets of | base, PyTorch | base, server | adapter, PyTorch | adapter, server |",
        "|---|---:|---:|---:|---:|",
    ]
    for chosen in SETS:
        adapter = ["", ""] if chosen == BASE_SET else [cell(ours, chosen, chosen), cell(theirs, chosen, chosen)]
        cells = [cell(ours, BASE_SET, chosen), cell(theirs, BASE_SET, chosen), *adapter]
        lines.append(f"| {'the generic rule' if chosen == BASE_SET else chosen} | {' | '.join(cells)} |")
    lines += [
        "",
        "Every adapter on every tenant's tickets, in PyTorch: a wrong adapter would show.",
        "",
        f"| adapter | {' | '.join(SETS)} |",
        f"|---|{'---:|' * len(SETS)}",
    ]
    lines += [f"| {model} | {' | '.join(cell(ours, model, chosen) for chosen in SETS)} |" for model in SETS]
    return "\n".join(lines)


def rewrite_readme(text: str) -> None:
    path = MODELS / "README.md"
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def write_expected(heldout: dict, ours: dict) -> None:
    """Accuracies, and for the first tickets of each set PEFT's logits in float64, unmerged, each ticket alone."""
    tokenizer = load_tokenizer()
    sets = {}
    for name in SETS:
        model = load(name, torch.float64)
        rows = []
        for ticket in heldout[name][:EXPECTED_TEXTS]:
            logits = logits_of(model, tokenizer, [ticket["text"]])[0]
            ids = encode(tokenizer, [ticket["text"]])["input_ids"][0]
            rows.append({"text": ticket["text"], "input_ids": ids.tolist(), "logits": logits.tolist()})
        sets[name] = {
            "model": BASE.name if name == BASE_SET else name,
            "accuracy": share_right(ours[name, name], heldout[name]),
            "base_accuracy": share_right(ours[BASE_SET, name], heldout[name]),
            "logits": rows,
        }
    made_with = {"torch": torch.__version__.split("+")[0], "peft": peft.__version__}
    text = json.dumps({"made_with": made_with, "labels": LABELS, "sets": sets}, ensure_ascii=False, indent=1)
    (HELDOUT / "expected.json").write_text(text + "\n", encoding="utf-8")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Held-out accuracy in PyTorch and through a server.")
    parser.add_argument("--url", help="a running server, such as http://127.0.0.1:8080")
    parser.add_argument("--write", action="store_true", help="rewrite ../README.md's table and heldout/expected.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)

    heldout = {name: read_jsonl(HELDOUT / f"{name}.jsonl") for name in SETS}
    ours = scores_in_pytorch(heldout)
    theirs = scores_from_server(options.url, heldout) if options.url else None
    text = table(heldout, ours, theirs)
    print(text)
    found = disagreements(ours, theirs) if theirs else []
    for line in found:
        print(f"disagreement: {line}", file=sys.stderr)
    if options.write and not found:
        rewrite_readme(text)
        write_expected(heldout, ours)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
