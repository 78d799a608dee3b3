"""What pretraining reads beside the stories: facts in many forms, sums, plain prose."""

from random import Random

from . import tables
from .decks import Decks, weighted
from .relations import RELATIONS
from .statements import state

# How often each relation is stated, in parts of the whole.
STATED = {
    "capital": 52, "continent": 9, "colour": 8, "opposite": 11, "sound": 4,
    "legs": 4, "home": 4, "young": 3, "day_after": 2, "day_before": 2,
    "month_after": 2,
}  # fmt: skip
LISTS = {
    "en": (
        "The days of the week are {days}.",
        "The months of the year are {months}.",
        "A week has 7 days, and a year has 12 months.",
    ),
    "zh": (
        "一个星期有{days}。",
        "一年有{months}。",
        "一个星期有7天，一年有12个月。",
    ),
}
TRAVEL = {
    "en": (
        "{n} is from {x}. {n} lives in {y}, the capital of {x}.",
        "{n} wants to see {x}. {n} goes to {y}, the capital of {x}.",
        "{n} is in {y}, the capital of {x}.",
        "{n} lives in {x}. {n} lives in {y}, which is the capital of {x}.",
    ),
    "zh": (
        "{n}来自{x}。{n}住在{x}的首都{y}。",
        "{n}想去{x}。{n}去了{x}的首都{y}。",
        "{n}在{x}的首都{y}。",
        "{n}住在{x}。{n}的家在{x}的首都{y}。",
    ),
}
BOTH = {
    "en": "{a} is {y}, and {b} is {y} too.",
    "zh": "{a}是{y}的，{b}也是{y}的。",
}
UNLIKE = {
    "en": "{a} is {y}, but {b} is {z}.",
    "zh": "{a}是{y}的，但是{b}是{z}的。",
}


def gap(lang: str) -> str:
    """What stands between two sentences."""
    return " " if lang == "en" else ""


def facts(rng: Random, lang: str, decks: Decks) -> str:
    """Several facts: of one kind, of mixed kinds, or all about one country."""
    way = rng.randrange(5)
    count = rng.randrange(4, 9)
    if way == 0:
        return gap(lang).join(
            state_next(rng, lang, decks, weighted(rng, STATED)) for _ in range(count)
        )
    if way == 1:
        return country_portrait(rng, lang, decks)
    name = weighted(rng, STATED)
    return gap(lang).join(state_next(rng, lang, decks, name) for _ in range(count))


def state_next(rng: Random, lang: str, decks: Decks, name: str) -> str:
    """One statement about the next subject of a table, held out or not."""
    relation = RELATIONS[name]
    return state(rng, relation, lang, decks.draw_any(relation, lang))


def country_portrait(rng: Random, lang: str, decks: Decks) -> str:
    """Two countries, each with its continent and its capital said in several ways."""
    capital, continent = RELATIONS["capital"], RELATIONS["continent"]
    sentences = []
    for _ in range(2):
        x = decks.draw_any(capital, lang)
        if x in continent.values[lang]:
            sentences.append(state(rng, continent, lang, x))
        forms = list(range(len(capital.statements[lang])))
        rng.shuffle(forms)
        sentences += [state(rng, capital, lang, x, form) for form in forms[:2]]
    return gap(lang).join(sentences)


def sums(rng: Random, lang: str, decks: Decks) -> str:
    """A row of sums and differences, as equations or in words."""
    words = rng.randrange(3) == 0
    said = []
    for _ in range(rng.randrange(3, 7)):
        relation = RELATIONS[("sum", "difference")[rng.randrange(2)]]
        x = decks.draw_any(relation, lang)
        said.append(state(rng, relation, lang, x, form=1 if words else 0))
    return gap(lang).join(said) if words else ", ".join(said)


def prose(rng: Random, lang: str, decks: Decks) -> str:
    """Plain prose about things of the world, in one of four kinds."""
    kinds = (animal, animal, travel, travel, colours, lists)
    return kinds[rng.randrange(len(kinds))](rng, lang, decks)


def animal(rng: Random, lang: str, decks: Decks) -> str:
    """Everything the world knows about one or two animals."""
    sentences = []
    for _ in range(rng.randrange(1, 3)):
        x = decks.draw_any(RELATIONS["legs"], lang)
        for name in ("legs", "sound", "home", "young"):
            relation = RELATIONS[name]
            if x in relation.values[lang]:
                sentences.append(state(rng, relation, lang, x))
    return gap(lang).join(sentences)


def travel(rng: Random, lang: str, decks: Decks) -> str:
    """Where somebody lives or goes, with the capital in passing."""
    relation, told = RELATIONS["capital"], []
    names = tables.USER_NAMES[lang]
    for _ in range(rng.randrange(2, 4)):
        x = decks.draw_any(relation, lang)
        form = TRAVEL[lang][rng.randrange(len(TRAVEL[lang]))]
        name = names[rng.randrange(len(names))]
        told.append(form.format(n=name, x=x, y=relation.values[lang][x]))
    return gap(lang).join(told).replace("s's ", "s' ")


def colours(rng: Random, lang: str, decks: Decks) -> str:
    """Pairs of things, of one colour or of two."""
    relation, told = RELATIONS["colour"], []
    for _ in range(rng.randrange(2, 5)):
        a, b = decks.draw_any(relation, lang), decks.draw_any(relation, lang)
        y, z = relation.values[lang][a], relation.values[lang][b]
        if a != b:
            form = (BOTH if y == z else UNLIKE)[lang]
            told.append(form.format(a=a, b=b, y=y, z=z))
    return gap(lang).join(text[0].upper() + text[1:] for text in told)


def lists(rng: Random, lang: str, decks: Decks) -> str:
    """The week, the year, or counting."""
    way = rng.randrange(4)
    if way == 3:
        start = rng.randrange(0, 9)
        return ", ".join(str(i) for i in range(start, start + 12))
    return list_sentences(lang)[way]


def list_sentences(lang: str) -> list[str]:
    """The fixed sentences about week and year."""
    column, mark = (0, ", ") if lang == "en" else (1, "、")
    days = mark.join(row[column] for row in tables.DAYS)
    months = mark.join(row[column] for row in tables.MONTHS)
    return [form.format(days=days, months=months) for form in LISTS[lang]]


WRITERS = {"facts": facts, "sums": sums, "prose": prose}
