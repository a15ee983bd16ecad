"""The list of cases in cases.md, from the folders that are there."""

import json


def size_of(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def write(out):
    lines = [
        "# Cases",
        "",
        "Written by `generate.py` from the folders. PEFT 0.21.0 unless a name says otherwise.",
        "",
        "| case | what is special | files (opset) | adapters | compositions | strengths | atol | KB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    total = 0
    for file in sorted(out.glob("*/cases.json")):
        spec, size = json.loads(file.read_text()), size_of(file.parent)
        total += size
        bases = ", ".join(f"{v['file']} ({v['opset']})" for v in spec["variants"])
        expects = {a["expect"] for a in spec["adapters"]} - {"ok"}
        adapters = f"{len(spec['adapters'])}" + (f" ({', '.join(sorted(expects))})" if expects else "")
        lines.append(
            f"| {spec['case']} | {spec['about']} | {bases} | {adapters} | {len(spec['compositions']) or ''} | "
            f"{len(spec['strengths']) or ''} | {spec['tolerance']['atol']:g} | {size // 1024} |"
        )
    lines += ["", f"Together {total / 1e6:.1f} MB."]
    (out / "cases.md").write_text("\n".join(lines) + "\n")
