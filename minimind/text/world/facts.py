"""What a fact is in the little world: a relation, a subject, one answer.

The first statement form of a relation is canonical: it is the whole reply to any
question about that fact, so that exact match is equality of strings. Some subjects
are held out: pretraining states them, SFT never asks about them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

LANGS = ("en", "zh")


@dataclass(frozen=True)
class Relation:
    """One kind of fact: aligned (subject, answer) pairs and statement templates.

    Templates hold {x} (subject) and {y} (answer); {ax} is the subject with a or an,
    {a} and {b} are the operands of a sum.
    """

    name: str
    facts: dict[str, tuple[tuple[str, str], ...]]
    statements: dict[str, tuple[str, ...]]
    is_held_out: Callable[[int], bool] = lambda index: index % 12 == 5

    @cached_property
    def values(self) -> dict[str, dict[str, str]]:
        """Language -> subject -> answer."""
        return {lang: dict(facts) for lang, facts in self.facts.items()}

    def subjects(self, lang: str, held_out: bool) -> list[str]:
        """The subjects that SFT asks about (held_out=False), or the others."""
        return [
            x
            for index, (x, _) in enumerate(self.facts[lang])
            if self.is_held_out(index) == held_out
        ]

    def spoken(self, lang: str, x: str) -> str:
        """The subject as it is named in a sentence: "a dog", "France"."""
        with_a = lang == "en" and "{ax}" in self.statements[lang][0]
        return with_article(x) if with_a else x

    def answer(self, lang: str, x: str) -> str:
        """The whole reply to a question about `x`; KeyError if `x` is unknown."""
        return fill(self.statements[lang][0], x, self.values[lang][x])


def insert(template: str, x: str, y: str = "") -> str:
    """Put a subject and its answer into a template."""
    a, b = x.split("+") if "{a}" in template else ("", "")
    text = template.format(x=x, y=y, ax=with_article(x), a=a, b=b)
    return text.replace("s's ", "s' ")


def fill(template: str, x: str, y: str = "") -> str:
    """The same, as a sentence that starts with a capital letter."""
    text = insert(template, x, y)
    return text[0].upper() + text[1:]


def with_article(noun: str) -> str:
    """a dog, an ant."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun
