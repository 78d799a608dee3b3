"""What pretraining reads beside the stories: facts in many forms, sums, plain prose."""

from random import Random

from minimind.text.world import tables
from minimind.text.world.decks import Decks, weighted
from minimind.text.world.facts import Relation, insert
from minimind.text.world.relations import RELATIONS
from minimind.text.world.statements import state

# How often each relation is stated, in parts of the whole.
STATED = {
    "capital": 54, "colour": 10, "opposite": 14, "sound": 5, "legs": 5, "home": 5,
    "young": 5,
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


PROBLEMS = {
    "en": "{n} has {a} and gets {b} more: {a}+{b}={y}.",
    "zh": "{n}有{a}个，又来了{b}个：{a}+{b}={y}。",
}
# Sentences that only bring a subject up; the fact about it follows.
ASIDES = {
    "en": (
        "{n} thinks of {x}.",
        "{n} asks about {x}.",
        "{n} reads about {x} in a book.",
        "there is a question about {x} for {n}.",
        "{n}, do you know about {x}?",
        "now {n} wants to talk about {x}.",
        "about {x}: {n} has forgotten it.",
        "{x} is what {n} wants to know about.",
    ),
    "zh": (
        "{n}想到了{x}。",
        "{n}问起{x}。",
        "{n}在书里看到{x}。",
        "有一个关于{x}的问题要问{n}。",
        "{n}，你知道{x}吗？",
        "现在{n}想说说{x}。",
        "关于{x}，{n}忘了。",
        "{x}是{n}想知道的。",
    ),
}


def gap(lang: str) -> str:
    """What stands between two sentences."""
    return " " if lang == "en" else ""


def facts(rng: Random, lang: str, decks: Decks) -> str:
    """Several facts of one kind or of mixed kinds, in one of four ways.

    Plain; each fact in two ways, so that the second repeats what the first names;
    after a roll call of the subjects; each after an aside. All but the first make
    a model look back for the name it is to speak of, as a reply to a question does.
    """
    way = (0, 1, 2, 2, 3, 3, 3, 3)[rng.randrange(8)]
    mixed = rng.random() < 0.2
    name = weighted(rng, STATED)
    told = []
    for _ in range(rng.randrange(3, 6)):
        relation = RELATIONS[weighted(rng, STATED) if mixed else name]
        told.append((relation, decks.draw_any(relation, lang)))
    if way == 0:
        said = [state(rng, relation, lang, x) for relation, x in told]
    elif way == 1:
        said = [text for fact in told for text in twice(rng, *fact, lang)]
    elif way == 2:
        said = [roll_call([x for _, x in told], lang)]
        said += [relation.answer(lang, x) for relation, x in told]
    else:
        said = [text for fact in told for text in aside(rng, *fact, lang)]
    return gap(lang).join(said)


def aside(rng: Random, relation: Relation, x: str, lang: str) -> list[str]:
    """ "Tom thinks of France." and the canonical fact about it."""
    form = ASIDES[lang][rng.randrange(len(ASIDES[lang]))]
    name = tables.USER_NAMES[lang][rng.randrange(len(tables.USER_NAMES[lang]))]
    text = form.format(n=name, x=relation.spoken(lang, x))
    return [text[0].upper() + text[1:], relation.answer(lang, x)]


def twice(rng: Random, relation: Relation, x: str, lang: str) -> list[str]:
    """One fact in two different forms."""
    forms = list(range(len(relation.statements[lang])))
    rng.shuffle(forms)
    return [state(rng, relation, lang, x, form) for form in forms[:2]]


def roll_call(subjects: list[str], lang: str) -> str:
    """The subjects of the sentences that follow, as a list."""
    text = (", " if lang == "en" else "、").join(subjects)
    return text[0].upper() + text[1:] + ("." if lang == "en" else "。")


def sums(rng: Random, lang: str, decks: Decks) -> str:
    """Sums: as equations, in words, or as small problems."""
    way = rng.randrange(4)
    relation, said = RELATIONS["sum"], []
    for _ in range(rng.randrange(2, 4) if way == 3 else rng.randrange(4, 9)):
        x = decks.draw_any(relation, lang)
        if way == 3:
            said.append(problem(rng, x, relation.values[lang][x], lang))
        else:
            said.append(state(rng, relation, lang, x, form=1 if way == 2 else 0))
    return gap(lang).join(said) if way >= 2 else ", ".join(said)


def problem(rng: Random, x: str, y: str, lang: str) -> str:
    """ "Tom has 3 and gets 4 more: 3+4=7." """
    name = tables.USER_NAMES[lang][rng.randrange(len(tables.USER_NAMES[lang]))]
    return insert(PROBLEMS[lang].replace("{n}", name), x, y)


def prose(rng: Random, lang: str, decks: Decks) -> str:
    """Plain prose about things of the world, in one of four kinds."""
    kinds = (animal, travel, travel, colours, lists)
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
