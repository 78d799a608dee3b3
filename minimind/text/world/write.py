"""Writes the little world to a folder: training sets, evaluation sets, a data card."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from minimind.errors import UserError
from minimind.text.world.reasoning import reason_exam, reason_rows
from minimind.text.world.rows import pretrain_rows, questions, sft_rows, story_prompts
from minimind.text.world.tuning import (
    identity_exam,
    identity_rows,
    medical_exam,
    medical_rows,
    preference_exam,
    preference_rows,
)
from minimind.text.world.tuning_tables import NAME

CARD = """# The little world

A seeded bilingual (English and Simplified Chinese) corpus in MiniMind's jsonl
formats, written by `minimind.text.world`. Everything in it can be checked by rule:
stories are replayed, facts and sums are looked up. All text is made by the program;
it holds nothing personal and nothing copied.

| file | rows | bytes | what |
| --- | --- | --- | --- |
{table}

Written again, byte for byte, by

    python -m minimind.text.world --out DIR --seed {seed} --size {size} --name {name}

Held out from the SFT set: whole phrasings of questions, one country in thirteen and
some subjects of every other table (pretraining states them), and some invented
countries. Held out from the adapter sets: whole phrasings; from the preferences: the
stories about one thing in four; from the long sums: one in fourteen.
"""
# Rows of the sets that do not grow with the corpus.
TUNING = {
    "lora_identity.jsonl": 2400,
    "lora_medical.jsonl": 2400,
    "dpo.jsonl": 2000,
    "reason.jsonl": 12000,
}
WHAT = {
    "pretrain.jsonl": "pretraining: stories, facts, sums, prose",
    "sft.jsonl": "chats of one to four turns",
    "pretrain_heldout.jsonl": "rows of the same kinds that are not in pretrain.jsonl",
    "questions.jsonl": "questions in phrasings never trained on, with their answers",
    "story_prompts.jsonl": "requests for stories to be sampled",
    "lora_identity.jsonl": "chats about who the model is, and ordinary ones",
    "lora_identity_heldout.jsonl": "the same questions in phrasings never trained on",
    "lora_medical.jsonl": "chats about first aid, and ordinary ones",
    "lora_medical_heldout.jsonl": "the same questions in phrasings never trained on",
    "dpo.jsonl": "pairs of stories, chosen and rejected by the way people talk in them",
    "dpo_heldout.jsonl": "pairs of stories about other things",
    "reason.jsonl": "long sums with their working, and ordinary chats",
    "reason_heldout.jsonl": "long sums never trained on, with their answers",
}


def write_world(
    out_dir: str | Path, seed: int = 0, size: int = 60000, name: str = NAME
) -> dict:
    """Write all files and a README.md; return rows and bytes of each file.

    `size` is the number of pretraining rows; there is one SFT row to two of
    them. `name` is what the identity set calls the model. Raises UserError if the
    folder cannot be written or size is below 1.
    """
    if size < 1:
        raise UserError(f"--size {size}: give 1 or more rows")
    out = Path(out_dir)
    try:
        out.mkdir(parents=True, exist_ok=True)
        return _write_all(out, seed, size, name)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--out {out}: {reason}; name a folder to write to") from error


def _write_all(out: Path, seed: int, size: int, name: str) -> dict:
    texts: set[str] = set()

    def remembered():
        for row in pretrain_rows(seed, size):
            texts.add(row["text"])
            yield row

    def fresh():
        wanted = max(20, size // 50)
        rows = (
            r for r in pretrain_rows(-1 - seed, 4 * wanted) if r["text"] not in texts
        )
        return islice(rows, wanted)

    rows = {
        "pretrain.jsonl": remembered(),
        "sft.jsonl": sft_rows(seed, max(1, size // 2)),
        "pretrain_heldout.jsonl": fresh(),
        "questions.jsonl": map(asdict, questions(seed)),
        "story_prompts.jsonl": story_prompts(seed),
        "lora_identity.jsonl": identity_rows(seed, TUNING["lora_identity.jsonl"], name),
        "lora_identity_heldout.jsonl": map(asdict, identity_exam(seed, name)),
        "lora_medical.jsonl": medical_rows(seed, TUNING["lora_medical.jsonl"]),
        "lora_medical_heldout.jsonl": map(asdict, medical_exam(seed)),
        "dpo.jsonl": preference_rows(seed, TUNING["dpo.jsonl"]),
        "dpo_heldout.jsonl": preference_exam(seed),
        "reason.jsonl": reason_rows(seed, TUNING["reason.jsonl"]),
        "reason_heldout.jsonl": map(asdict, reason_exam(seed)),
    }
    report = {file: _write(out / file, stream) for file, stream in rows.items()}
    table = "\n".join(
        f"| {file} | {r['rows']:,} | {r['bytes']:,} | {WHAT[file]} |"
        for file, r in report.items()
    )
    card = CARD.format(table=table, seed=seed, size=size, name=name)
    (out / "README.md").write_text(card, encoding="utf-8", newline="\n")
    return report


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            if "text" in row and "answer" in row:
                row["question"] = row.pop("text")
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return {"rows": count, "bytes": path.stat().st_size}
