"""The little world's facts: relations, the sentences that state them, their check.

A relation maps a subject to one answer in each language. Its first statement form
is canonical: it is the whole reply to any question about that fact, so that exact
match is equality of strings. Some subjects are held out: pretraining states them,
SFT never asks about them.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from random import Random

from . import tables

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
    is_held_out: Callable[[int], bool] = lambda index: index % 8 == 5

    def subjects(self, lang: str, held_out: bool) -> list[str]:
        """The subjects that SFT asks about (held_out=False), or the others."""
        return [
            x
            for index, (x, _) in enumerate(self.facts[lang])
            if self.is_held_out(index) == held_out
        ]

    def value(self, lang: str, x: str) -> str:
        """The one answer for a subject; KeyError if the world does not know it."""
        return _values(self.name, lang)[x]

    def answer(self, lang: str, x: str) -> str:
        """The canonical sentence: the whole reply to a question about `x`."""
        return fill(self.statements[lang][0], x, self.value(lang, x))


def insert(template: str, x: str, y: str = "") -> str:
    """Put a subject and its answer into a template."""
    operands = x.split() if "{a}" in template else ["", "", ""]
    text = template.format(x=x, y=y, ax=with_article(x), a=operands[0], b=operands[2])
    return text.replace("s's ", "s' ")


def fill(template: str, x: str, y: str = "") -> str:
    """The same, as a sentence that starts with a capital letter."""
    text = insert(template, x, y)
    return text[0].upper() + text[1:]


def with_article(noun: str) -> str:
    """a dog, an ant."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _columns(table, x, y, zh_x, zh_y):
    rows = [row for row in table if "-" not in (row[x], row[y])]
    return {
        "en": tuple((row[x], row[y]) for row in rows),
        "zh": tuple((row[zh_x], row[zh_y]) for row in rows),
    }


def _next(table, step):
    return {
        lang: tuple(
            (row[column], table[(i + step) % len(table)][column])
            for i, row in enumerate(table)
        )
        for column, lang in enumerate(LANGS)
    }


def _both_ways(pairs):
    return tuple(pair for x, y in pairs for pair in ((x, y), (y, x)))


def _same(facts):
    return {"en": facts, "zh": facts}


_COUNTRY_HELD_OUT = frozenset(range(3, len(tables.COUNTRIES), 7))
_COUNTRY_INDEX = {row[0]: i for i, row in enumerate(tables.COUNTRIES)}
_ON_CONTINENT = tuple(row for row in tables.COUNTRIES if row[2] != "-")
_CONTINENT = {
    "en": tuple((row[0], row[2]) for row in _ON_CONTINENT),
    "zh": tuple((row[3], tables.CONTINENTS[row[2]]) for row in _ON_CONTINENT),
}
_COLOUR = {
    "en": tuple((row[0], row[1]) for row in tables.COLOURED),
    "zh": tuple((row[2], tables.COLOURS[row[1]]) for row in tables.COLOURED),
}
_OPPOSITE = {
    "en": _both_ways((row[0], row[1]) for row in tables.OPPOSITES),
    "zh": _both_ways((row[2], row[3]) for row in tables.OPPOSITES),
}
_LEGS = _columns(tables.ANIMALS, 0, 1, 5, 1)
_SUMS = tuple((f"{a} + {b}", str(a + b)) for a in range(11) for b in range(11))
_DIFFERENCES = tuple(
    (f"{total} - {b}", str(total - b))
    for total in range(21)
    for b in range(11)
    if 0 <= total - b <= 10
)


def _held_out_country(index: int) -> bool:
    return index in _COUNTRY_HELD_OUT


def _held_out_continent(index: int) -> bool:
    return _COUNTRY_INDEX[_ON_CONTINENT[index][0]] in _COUNTRY_HELD_OUT


_RELATIONS = (
    Relation(
        "capital",
        _columns(tables.COUNTRIES, 0, 1, 3, 4),
        {
            "en": (
                "the capital of {x} is {y}.",
                "{y} is the capital of {x}.",
                "{x}'s capital is {y}.",
                "the capital city of {x} is {y}.",
                "{x} has {y} as its capital.",
                "{y} is the capital city of {x}.",
                "in {x}, the capital is {y}.",
                "{x} is a country, and its capital is {y}.",
            ),
            "zh": (
                "{x}的首都是{y}。",
                "{y}是{x}的首都。",
                "{x}首都是{y}。",
                "{x}的首都叫{y}。",
                "{x}把{y}作为首都。",
                "{y}这座城市是{x}的首都。",
                "在{x}，首都是{y}。",
                "{x}是一个国家，它的首都是{y}。",
            ),
        },
        _held_out_country,
    ),
    Relation(
        "country",
        _columns(tables.COUNTRIES, 1, 0, 4, 3),
        {
            "en": ("{x} is the capital of {y}.", "{x} is the capital city of {y}."),
            "zh": ("{x}是{y}的首都。", "{x}这座城市是{y}的首都。"),
        },
        _held_out_country,
    ),
    Relation(
        "continent",
        _CONTINENT,
        {
            "en": ("{x} is in {y}.", "{x} is a country in {y}.", "{x} lies in {y}."),
            "zh": ("{x}在{y}。", "{x}是{y}的一个国家。", "{x}位于{y}。"),
        },
        _held_out_continent,
    ),
    Relation(
        "colour",
        _COLOUR,
        {
            "en": (
                "{x} is {y}.",
                "the colour of {x} is {y}.",
                "{y} is the colour of {x}.",
            ),
            "zh": ("{x}是{y}的。", "{x}的颜色是{y}。", "{y}是{x}的颜色。"),
        },
    ),
    Relation(
        "opposite",
        _OPPOSITE,
        {
            "en": (
                "the opposite of {x} is {y}.",
                "{y} is the opposite of {x}.",
                "{x} and {y} are opposites.",
            ),
            "zh": (
                "{x}的反义词是{y}。",
                "{y}是{x}的反义词。",
                "{x}和{y}是一对反义词。",
            ),
        },
        lambda index: index // 2 % 8 == 5,
    ),
    Relation(
        "sound",
        _columns(tables.ANIMALS, 0, 3, 5, 7),
        {
            "en": ("{ax} says {y}.", "{y} is the sound of {ax}."),
            "zh": ("{x}的叫声是{y}。", "{y}是{x}的叫声。"),
        },
    ),
    Relation(
        "legs",
        {
            "en": _LEGS["en"],
            "zh": tuple((x, y.replace("2", "两")) for x, y in _LEGS["zh"]),
        },
        {
            "en": ("{ax} has {y} legs.", "the number of legs of {ax} is {y}."),
            "zh": ("{x}有{y}条腿。", "{x}的腿有{y}条。"),
        },
    ),
    Relation(
        "home",
        _columns(tables.ANIMALS, 0, 2, 5, 6),
        {
            "en": ("{ax} lives {y}.", "the home of {ax} is {y}."),
            "zh": ("{x}住在{y}。", "{x}的家在{y}。"),
        },
    ),
    Relation(
        "young",
        _columns(tables.ANIMALS, 0, 4, 5, 8),
        {
            "en": ("a young {x} is {y}.", "{y} is a young {x}."),
            "zh": ("{x}的宝宝是{y}。", "{y}是{x}的宝宝。"),
        },
    ),
    Relation(
        "day_after",
        _next(tables.DAYS, 1),
        {
            "en": ("the day after {x} is {y}.", "{y} is the day after {x}."),
            "zh": ("{x}的后一天是{y}。", "{y}是{x}的后一天。"),
        },
    ),
    Relation(
        "day_before",
        _next(tables.DAYS, -1),
        {
            "en": ("the day before {x} is {y}.", "{y} is the day before {x}."),
            "zh": ("{x}的前一天是{y}。", "{y}是{x}的前一天。"),
        },
    ),
    Relation(
        "month_after",
        _next(tables.MONTHS, 1),
        {
            "en": ("the month after {x} is {y}.", "{y} is the month after {x}."),
            "zh": ("{x}的下一个月是{y}。", "{y}是{x}的下一个月。"),
        },
    ),
    Relation(
        "sum",
        _same(_SUMS),
        {
            "en": ("{x} = {y}", "{a} plus {b} is {y}."),
            "zh": ("{x} = {y}", "{a}加{b}等于{y}。"),
        },
        lambda index: index % 10 == 7,
    ),
    Relation(
        "difference",
        _same(_DIFFERENCES),
        {
            "en": ("{x} = {y}", "{a} minus {b} is {y}."),
            "zh": ("{x} = {y}", "{a}减{b}等于{y}。"),
        },
        lambda index: index % 10 == 7,
    ),
)
RELATIONS = {relation.name: relation for relation in _RELATIONS}


@cache
def _values(name: str, lang: str) -> dict[str, str]:
    return dict(RELATIONS[name].facts[lang])


@cache
def _patterns(lang: str) -> tuple[tuple[Relation, re.Pattern[str]], ...]:
    found = []
    for relation in RELATIONS.values():
        operator = "+" if relation.name == "sum" else "-"
        for template in relation.statements[lang]:
            pattern = re.escape(template).replace(r"\{ax\}", r"an? \{x\}")
            pattern = pattern.replace(r"\{x\}'s", r"(?P<x>.+?)'s?")
            for slot in "xyab":
                pattern = pattern.replace(rf"\{{{slot}\}}", rf"(?P<{slot}>.+?)")
            if "{x}" in template and "{y}" in template and "=" in template:
                pattern = rf"(?P<x>\d+ \{operator} \d+) = (?P<y>\d+)"
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
            operator = "+" if relation.name == "sum" else "-"
            x = slots.get("x") or f"{slots.get('a')} {operator} {slots.get('b')}"
            for subject in (x, x[:1].upper() + x[1:]):
                if subject in _values(relation.name, lang):
                    yield relation, subject, slots["y"]
                    break


def state(rng: Random, relation: Relation, lang: str, x: str, form: int = -1) -> str:
    """One statement of a fact, in the given or a random form (canonical: a third)."""
    forms = relation.statements[lang]
    if form < 0:
        form = 0 if rng.random() < 1 / 3 else rng.randrange(len(forms))
    return fill(forms[form], x, relation.value(lang, x))
