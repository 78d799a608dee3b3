"""Drawing without favourites: every subject of a table comes equally often.

A deck is a shuffled table that is dealt to its end before it is shuffled again, so
that of 40,000 rows no country gets 30 and another 300.
"""

from random import Random

from minimind.text.world.facts import Relation
from minimind.text.world.relations import RELATIONS

# How often each relation is asked about, in parts of the whole.
SHARES = {
    "capital": 36, "colour": 8, "opposite": 13, "sound": 5, "legs": 5, "home": 5,
    "young": 5, "sum": 13,
}  # fmt: skip


class Decks:
    """Dealt and shuffled tables, one per relation, language and side of the split."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.decks: dict[tuple[str, str, str], list[str]] = {}

    def draw(self, relation: Relation, lang: str, held_out: bool = False) -> str:
        """The next subject that SFT asks about, or of those held out."""
        pool = relation.subjects(lang, held_out)
        return self._deal((relation.name, lang, str(held_out)), pool)

    def draw_any(self, relation: Relation, lang: str) -> str:
        """The next subject of the whole table, as pretraining states it."""
        pool = [x for x, _ in relation.facts[lang]]
        return self._deal((relation.name, lang, "all"), pool)

    def relation(self, rng: Random) -> Relation:
        """A relation, by its share."""
        return RELATIONS[weighted(rng, SHARES)]

    def _deal(self, key: tuple[str, str, str], pool: list[str]) -> str:
        if not self.decks.get(key):
            self.decks[key] = list(pool)
            self.rng.shuffle(self.decks[key])
        return self.decks[key].pop()


def weighted(rng: Random, shares: dict[str, int]) -> str:
    """A key, drawn in proportion to its share."""
    point = rng.randrange(sum(shares.values()))
    for key, share in shares.items():
        point -= share
        if point < 0:
            return key
    raise ValueError("no shares")
