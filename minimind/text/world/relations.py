"""The relations of the little world: subjects, answers, and how they are stated.

Pure tables: facts from `tables`, statement forms in both languages, and which
subjects are held out (pretraining states them, SFT never asks about them).
"""

from minimind.text.world import tables
from minimind.text.world.facts import Relation


def _columns(table, x, y, zh_x, zh_y):
    rows = [row for row in table if "-" not in (row[x], row[y])]
    return {
        "en": tuple((row[x], row[y]) for row in rows),
        "zh": tuple((row[zh_x], row[zh_y]) for row in rows),
    }


def _both_ways(pairs):
    return tuple(pair for x, y in pairs for pair in ((x, y), (y, x)))


def _same(facts):
    return {"en": facts, "zh": facts}


_COUNTRY_HELD_OUT = frozenset(range(10, len(tables.COUNTRIES), 13))
_COLOUR = {
    "en": tuple((row[0], row[1]) for row in tables.COLOURED),
    "zh": tuple((row[2], tables.COLOURS[row[1]]) for row in tables.COLOURED),
}
_OPPOSITE = {
    "en": _both_ways((row[0], row[1]) for row in tables.OPPOSITES),
    "zh": _both_ways((row[2], row[3]) for row in tables.OPPOSITES),
}
_LEGS = _columns(tables.ANIMALS, 0, 1, 5, 1)
_SUMS = tuple((f"{a}+{b}", str(a + b)) for a in range(11) for b in range(11))


def _held_out_country(index: int) -> bool:
    return index in _COUNTRY_HELD_OUT


_RELATIONS = (
    Relation(
        "capital",
        _columns(tables.COUNTRIES, 0, 1, 2, 3),
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
        "sum",
        _same(_SUMS),
        {
            "en": ("{x}={y}", "{a} plus {b} is {y}."),
            "zh": ("{x}={y}", "{a}加{b}等于{y}。"),
        },
        lambda index: index % 10 == 7,
    ),
)
RELATIONS = {relation.name: relation for relation in _RELATIONS}
