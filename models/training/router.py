"""What training and measuring share: places, loading the base and its adapters, encoding, predicting."""

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

import boft_cpu

MODELS = Path(__file__).resolve().parent.parent
BASE = MODELS / "demo-router"
ADAPTERS = MODELS.parent / "adapters"
HELDOUT = BASE / "heldout"
MAX_TOKENS = 128

boft_cpu.install()
logging.disable_progress_bar()


def load_base():
    """The base without dropout, in eager attention: plain matrix products, also in the export."""
    return AutoModelForSequenceClassification.from_pretrained(BASE, attn_implementation="eager").eval()


def load_tokenizer():
    return AutoTokenizer.from_pretrained(BASE)


def load_adapted(name: str, dtype: torch.dtype = torch.float32):
    """The base with one adapter applied by PEFT, unmerged."""
    return PeftModel.from_pretrained(load_base(), ADAPTERS / name).eval().to(dtype)


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def encode(tokenizer, texts: list[str]):
    return tokenizer(texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")


@torch.no_grad()
def logits_of(model, tokenizer, texts: list[str], batch_rows: int = 32) -> torch.Tensor:
    """[texts, labels]. PEFT passes on the inputs only under their names."""
    parts = [
        model(**encode(tokenizer, texts[start : start + batch_rows])).logits
        for start in range(0, len(texts), batch_rows)
    ]
    return torch.cat(parts)


def share_right(model, tokenizer, tickets: list[dict]) -> float:
    predicted = logits_of(model, tokenizer, [t["text"] for t in tickets]).argmax(-1).tolist()
    names = model.config.id2label
    return sum(names[p] == t["label"] for p, t in zip(predicted, tickets)) / len(tickets)
