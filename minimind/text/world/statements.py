"""Facts to sentences and back: `state` writes, `parse_statement` reads."""

import re
from collections.abc import Iterator
from functools import cache
from random import Random

from minimind.text.world.facts import Relation, fill
from minimind.text.world.relations import RELATIONS


@cache
def _patterns(lang: str) -> tuple[tuple[Relation, re.Pattern[str]], ...]:
    found = []
    for relation in RELATIONS.values():
        for template in relation.statements[lang]:
            pattern = re.escape(template).replace(r"\{ax\}", r"an? \{x\}")
            pattern = pattern.replace(r"\{x\}'s", r"(?P<x>.+?)'s?")
            for slot in "xyab":
                pattern = pattern.replace(rf"\{{{slot}\}}", rf"(?P<{slot}>.+?)")
            found.append((relation, re.compile(pattern)))
    return tuple(found)


def parse_statement(text: str, lang: str) -> Iterator[tuple[Relation, str, str]]:
    """All readings (relation, subject, answer) of a sentence whose subject is known."""
    for relation, pattern in _patterns(lang):
        for variant in (text, text[:1].lower() + text[1:]):
            match = pattern.fullmatch(variant)
            if not match:
                continue
            slots = match.groupdict()
            x = slots.get("x") or f"{slots['a']}+{slots['b']}"
            for subject in (x, x[:1].upper() + x[1:]):
                if subject in relation.values[lang]:
                    yield relation, subject, slots["y"]
                    break


def state(rng: Random, relation: Relation, lang: str, x: str, form: int = -1) -> str:
    """One statement of a fact, in the given or a random form (canonical: a third)."""
    forms = relation.statements[lang]
    if form < 0:
        form = 0 if rng.random() < 1 / 3 else rng.randrange(len(forms))
    return fill(forms[form], x, relation.values[lang][x])
