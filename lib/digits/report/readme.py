"""The README's result table, made from the published run: no number in it is typed by hand.

``python -m digits.report.readme`` renews it after a run was published; a test notices when nobody did.
"""

import re
from pathlib import Path

from digits import files
from digits.files import read_json, write_text
from digits.report import notebook

READMES = files.PROJECT / "README.md", files.PROJECT / "outputs" / "README.md"
_BLOCK = re.compile(r"(<!-- (results|aims):.*?-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def results(metrics: dict, record: dict) -> str:
    """The headline numbers as a Markdown table, and under it what they were measured with."""
    rows = [
        f"| {card['label']} | **{card['text']}** | {card['detail']} |"
        for card in notebook.headlines(metrics)
    ]
    machine, packages = record["machine"], record["packages"]
    versions = ", ".join(
        f"{title} {packages[name]}"
        for title, name in (
            ("TensorFlow", "tensorflow"),
            ("Keras", "keras"),
            ("LiteRT", "ai-edge-litert"),
        )
    )
    seeds = sorted(set(record["seeds"].values()))
    return "\n".join(
        [
            "| | | |",
            "|---|---|---|",
            *rows,
            "",
            f"One run of `./run_all.sh` with seed {', '.join(map(str, seeds))} on {record['started'][:10]}: "
            f"{record['seconds'] / 60:.0f} minutes on {machine['cores']} cores ({machine['processor']}), "
            f"Python {record['python']}, {versions}, commit `{record['code']['commit'][:10]}`.",
            "",
        ]
    )


def aims(metrics: dict) -> str:
    """What was to be reached and what was, as a Markdown table."""
    rows = [
        f"| {aim['label']} | {aim['goal']} | {aim['text']} | {'reached' if aim['reached'] else 'missed'} |"
        for aim in notebook.aims(metrics)
    ]
    n = max((aim["seeds"] or 0 for aim in notebook.aims(metrics)), default=0)
    seeds = f"{n:.0f} seeds, mean ± standard deviation" if n else "the published run"
    return "\n".join([f"| | aim | {seeds} | |", "|---|---|---|---|", *rows, ""])


def renewed(text: str, folder: Path = files.REFERENCE) -> str:
    """``text`` with its blocks of numbers made again from the run in ``folder``."""
    metrics = read_json(folder / "metrics.json")
    blocks = {"results": results(metrics, read_json(folder / "run.json")), "aims": aims(metrics)}
    return _BLOCK.sub(lambda match: f"{match[1]}{blocks[match[2]]}{match[3]}", text)


def refresh(folder: Path = files.REFERENCE) -> None:
    """Write the READMEs with the numbers of the run in ``folder``."""
    for path in READMES:
        write_text(path, renewed(path.read_text(encoding="utf-8"), folder))


if __name__ == "__main__":
    refresh()
