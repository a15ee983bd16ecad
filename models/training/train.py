"""Makes everything in ../demo-router and ../../adapters: corpus, tokenizer, base, ONNX export, adapters, held-out sets.

    python train.py            # all of it
    python train.py base       # all but the adapters
    python train.py adapters [tenant ...]   # the adapters only (or those named), on the base that is there
"""

import json
import shutil
import sys
import time
from pathlib import Path

import torch
from peft import BOFTConfig, get_peft_model
from safetensors import safe_open
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

import accuracy
from export import check_export, export
from generate_corpus import make_corpus
from phrases import INTENTS, LABELS
from router import ADAPTERS, BASE, HELDOUT, MAX_TOKENS, encode, load_adapted, load_base, load_tokenizer, share_right
from tenants import TENANTS, Tenant

SEED = 7
BATCH_ROWS = 48
BASE_STEPS = 1300
VOCABULARY = 2000


def train_tokenizer(texts: list[str]) -> BertTokenizer:
    """BERT's own tokenizer (lower case, WordPiece, [CLS] text [SEP]) with a vocabulary learnt from these texts."""
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=True)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    learner.train_from_iterator(
        texts,
        trainers.WordPieceTrainer(vocab_size=VOCABULARY, min_frequency=3, special_tokens=specials, show_progress=False),
    )
    return BertTokenizer(vocab=learner.get_vocab(), do_lower_case=True, model_max_length=MAX_TOKENS)


def new_base(vocabulary: int) -> BertForSequenceClassification:
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=256,
            max_position_embeddings=MAX_TOKENS,
            id2label=dict(enumerate(LABELS)),
            label2id={label: i for i, label in enumerate(LABELS)},
        )
    )


def fit(model, tokenizer, tickets: list[dict], steps: int, learning_rate: float, weight_decay: float, hint=None) -> None:
    """Cross-entropy with AdamW, short warm-up, then a linear fall to zero.

    `hint`, a linear layer, also learns each ticket's intent from the last hidden state of [CLS]: it keeps the encoder
    from forgetting what its own eight labels do not need, but other rules do.
    """
    order = torch.Generator().manual_seed(SEED)
    trained = [p for p in model.parameters() if p.requires_grad] + (list(hint.parameters()) if hint else [])
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay)
    pace = lambda step: min((step + 1) / 60, (steps - step) / (steps - 60))  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, pace)
    model.train()
    started = time.monotonic()
    for step in range(steps):
        rows = torch.randint(len(tickets), (BATCH_ROWS,), generator=order).tolist()
        batch = [tickets[row] for row in rows]
        wanted = torch.tensor([LABELS.index(ticket["label"]) for ticket in batch])
        output = model(**encode(tokenizer, [ticket["text"] for ticket in batch]), output_hidden_states=hint is not None)
        loss = cross_entropy(output.logits, wanted, label_smoothing=0.02)
        if hint:
            intents = torch.tensor([list(INTENTS).index(ticket["intent"]) for ticket in batch])
            loss = loss + cross_entropy(hint(output.hidden_states[-1][:, 0]), intents)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"  step {step + 1}/{steps} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True)
    model.eval()


def train_base(corpus: dict) -> None:
    tickets = corpus["base"]["train"]
    tokenizer = train_tokenizer([ticket["text"] for ticket in tickets])
    tokenizer.save_pretrained(BASE)  # before use: padding and truncation in use would be saved with it
    torch.manual_seed(SEED)
    model = new_base(len(tokenizer))
    hint = torch.nn.Linear(model.config.hidden_size, len(INTENTS))
    fit(model, tokenizer, tickets, BASE_STEPS, learning_rate=1e-3, weight_decay=0.01, hint=hint)
    model.save_pretrained(BASE)
    print(f"base: {share_right(model, tokenizer, corpus['base']['heldout']):.1%} on held-out tickets")


def train_adapter(tenant: Tenant, corpus: dict) -> None:
    """BOFT by PEFT; base and classifier stay as they are. Without a task type PEFT saves no classifier of its own."""
    tokenizer = load_tokenizer()
    torch.manual_seed(SEED)
    model = get_peft_model(load_base(), BOFTConfig(bias="none", **tenant.boft))
    fit(model, tokenizer, corpus[tenant.name]["train"], tenant.steps, tenant.learning_rate, weight_decay=0.0)
    folder = ADAPTERS / tenant.name
    shutil.rmtree(folder, ignore_errors=True)
    if tenant.dtype != "float32":
        for name, parameter in model.named_parameters():
            if "boft_" in name:
                parameter.data = parameter.data.to(getattr(torch, tenant.dtype))
    model.save_pretrained(folder)
    name_base(folder / "adapter_config.json")
    (folder / "README.md").write_text(describe(tenant), encoding="utf-8")
    check_adapter(tenant)
    heldout = corpus[tenant.name]["heldout"]
    print(
        f"{tenant.name}: base {share_right(load_base(), tokenizer, heldout):.1%}, "
        f"adapter {share_right(load_adapted(tenant.name), tokenizer, heldout):.1%} on held-out tickets"
    )


def describe(tenant: Tenant) -> str:
    """The adapter folder's README: the story, and the rule where it differs from the generic one."""
    lines = [f"# {tenant.name}", "", tenant.story, "", "| tickets | generic rule | here |", "|---|---|---|"]
    lines += [f"| {intent.replace('_', ' ')} | {INTENTS[intent][0]} | {label} |" for intent, label in tenant.rule.items()]
    return "\n".join(lines) + "\n"


def name_base(path: Path) -> None:
    """PEFT writes where the base lies on this machine; the base's name is what is meant."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = BASE.name
    path.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")


def check_adapter(tenant: Tenant) -> None:
    """The saved file holds rotations and scales only, with the butterfly factors asked for, and they do rotate."""
    with safe_open(ADAPTERS / tenant.name / "adapter_model.safetensors", "pt") as file:
        for key in file.keys():
            tensor = file.get_tensor(key).float()
            assert key.endswith((".boft_R", ".boft_s")) and "classifier" not in key, key
            if key.endswith(".boft_R"):
                assert tensor.shape[0] == tenant.boft["boft_n_butterfly_factor"], (key, tensor.shape)
                for factor in tensor:
                    assert (factor - factor.transpose(1, 2)).abs().max() > 0.05, f"{key} hardly rotates"


def write_heldout(corpus: dict) -> None:
    HELDOUT.mkdir(parents=True, exist_ok=True)
    for name, splits in corpus.items():
        lines = (json.dumps({"text": t["text"], "label": t["label"]}, ensure_ascii=False) for t in splits["heldout"])
        (HELDOUT / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    corpus = make_corpus()
    if arguments[:1] != ["adapters"]:
        write_heldout(corpus)
        train_base(corpus)
        export()
        check_export()
    for tenant in TENANTS if arguments[:1] != ["base"] else []:
        if not arguments[1:] or tenant.name in arguments[1:]:
            train_adapter(tenant, corpus)
    if not arguments or arguments == ["adapters"]:
        accuracy.main(["--write"])


if __name__ == "__main__":
    main(sys.argv[1:])
