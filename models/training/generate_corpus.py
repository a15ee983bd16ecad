"""Writes support tickets from the grammar in phrases.py. Deterministic: same seed, same tickets.

    python generate_corpus.py [folder]     # writes <folder>/{base,<tenant>}.{train,heldout}.jsonl

Held out means: every (phrasing, extra sentence) pair of an intent belongs to either training or held-out tickets,
never to both, and no ticket's text occurs twice. Every phrasing is seen in training, in other company.
"""

import json
import random
import re
import sys
import zlib
from pathlib import Path

from phrases import CLOSERS, INTENTS, OPENERS, SECTORS, SLOTS
from tenants import TENANTS

SEED = 20240611
HELDOUT_SHARE = 5  # one pair in five is held out
INNERMOST = re.compile(r"\(([^()]*)\)")
SLOT = re.compile(r"\{(\w+)\}")
KEYBOARD = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "k": "jl",
    "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o", "r": "et", "s": "ad", "t": "ry", "u": "yi", "w": "qe", "y": "tu",
}  # fmt: skip


def expand(grammar: str, sector: dict[str, str], rng: random.Random) -> str:
    """Picks one alternative of every group, innermost first, then fills the slots."""
    while INNERMOST.search(grammar):
        grammar = INNERMOST.sub(lambda group: rng.choice(group[1].split("|")), grammar)
    while SLOT.search(grammar):
        grammar = SLOT.sub(lambda slot: fill(slot[1], sector, rng), grammar)
    return grammar


def fill(slot: str, sector: dict[str, str], rng: random.Random) -> str:
    if slot in sector:
        return rng.choice(sector[slot].split("|"))
    if slot in SLOTS:
        return rng.choice(SLOTS[slot].split("|"))
    numbers = {
        "order": lambda: f"{rng.choice(['A', 'C', 'ORD', '#'])}{rng.choice(['', '-'])}{rng.randrange(1000, 99999)}",
        "amount": lambda: rng.choice(["{} EUR", "{} euros", "${}", "£{}", "{}.99", "€{}"]).format(rng.randrange(5, 480)),
        "days": lambda: str(rng.randrange(3, 60)),
        "small": lambda: rng.choice(["two", "three", "four", "2", "3", "5", "six"]),
        "year": lambda: str(rng.randrange(2009, 2025)),
        "hour": lambda: rng.choice(["{} pm", "{}:30", "{} o'clock"]).format(rng.randrange(1, 11)),
        "last4": lambda: str(rng.randrange(1000, 9999)),
        "code": lambda: rng.choice(["500", "404", "403", "502", "E17", "E42", "0x80", "1012", "429"]),
    }
    return numbers[slot]()


def mistype(text: str, rng: random.Random) -> str:
    """One slip of the fingers: two letters swapped, one lost, one doubled, or the neighbouring key."""
    places = [i for i in range(1, len(text) - 1) if text[i - 1 : i + 2].isalpha()]
    if not places:
        return text
    i = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    if kind == 1:
        return text[:i] + text[i + 1 :]
    if kind == 2:
        return text[:i] + text[i] + text[i:]
    return text[:i] + rng.choice(KEYBOARD.get(text[i].lower(), text[i])) + text[i + 1 :]


def write_ticket(intent: str, sector_name: str, heldout: bool, rng: random.Random) -> str:
    sector = SECTORS[sector_name]
    _, phrasings, extras = INTENTS[intent]
    pairs = [(p, e) for p in phrasings for e in ["", *extras] if is_heldout(intent, p, e) == heldout]
    phrasing, extra = rng.choice(pairs)
    said = expand(phrasing, sector, rng).strip()
    said = said[0].upper() + said[1:]
    said += rng.choice(["?", "?", "??", ""] if said.split()[0].lower() in QUESTIONS else [".", ".", ".", ".", "!", ""])
    added = expand(extra, sector, rng)
    body = f"{added} {said}" if added and rng.random() < 0.25 else f"{said} {added}"
    text = f"{expand(rng.choice(OPENERS), sector, rng)} {body} {expand(rng.choice(CLOSERS), sector, rng)}"
    text = re.sub(r"\s+", " ", text).replace(" ,", ",").replace(" ?", "?").strip()
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2])):
        text = mistype(text, rng)
    mood = rng.random()
    if mood < 0.25:
        text = text.lower()
    elif mood < 0.28:
        text = text.upper()
    return text


QUESTIONS = {"how", "where", "where's", "when", "what", "why", "who", "which", "can", "could", "is", "are", "do", "does",
             "will", "would"}  # fmt: skip


def is_heldout(intent: str, phrasing: str, extra: str) -> bool:
    return zlib.crc32(f"{intent}|{phrasing}|{extra}".encode()) % HELDOUT_SHARE == 0


def write_tickets(count: int, sectors: list[str], weights: dict[str, float], heldout: bool, seed: str, seen: set[str]):
    """`count` tickets as (text, intent), none of them in `seen`, to which they are added."""
    rng = random.Random(f"{SEED}/{seed}")
    intents = list(INTENTS)
    tickets = []
    while len(tickets) < count:
        intent = rng.choices(intents, [weights.get(i, 1.0) for i in intents])[0]
        text = write_ticket(intent, rng.choice(sectors), heldout, rng)
        if text.lower() not in seen:
            seen.add(text.lower())
            tickets.append((text, intent))
    return tickets


def make_corpus(base_train: int = 14000, tenant_train: int = 5000, heldout: int = 250):
    """{name: {"train"|"heldout": [{"text", "intent", "label"}]}} for the base and every tenant.

    A tenant sees the intents that it routes in its own way twice as often as the others.
    """
    seen: set[str] = set()
    corpus = {}
    jobs = [("base", list(SECTORS), {}, lambda intent: INTENTS[intent][0], base_train)]
    jobs += [(t.name, [t.sector], dict.fromkeys(t.rule, 2.0), t.label, tenant_train) for t in TENANTS]
    for name, sectors, weights, label, train in jobs:
        corpus[name] = {
            split: [
                {"text": text, "intent": intent, "label": label(intent)}
                for text, intent in write_tickets(n, sectors, weights, split == "heldout", f"{name}/{split}", seen)
            ]
            for split, n in (("heldout", heldout), ("train", train))
        }
    return corpus


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "corpus")
    folder.mkdir(parents=True, exist_ok=True)
    for name, splits in make_corpus().items():
        for split, tickets in splits.items():
            lines = "".join(json.dumps(ticket, ensure_ascii=False) + "\n" for ticket in tickets)
            (folder / f"{name}.{split}.jsonl").write_text(lines, encoding="utf-8")
