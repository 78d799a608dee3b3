"""What a reader of a story knows at any moment: the state that the rules keep."""

from dataclasses import dataclass, field


@dataclass
class Item:
    """A thing: its colour, and who holds it, or the place where it lies."""

    colour: str | None
    holder: str = ""
    place: str = ""
    owner: str = ""
    state: str = ""  # "", "lost", "stuck" or "broken"


@dataclass
class Scene:
    """What a story has established so far, and what is wrong with it."""

    cast: tuple[str, ...] = ()
    place: dict[str, str] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    wants: dict[tuple[str, str], str | None] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    owes: list[tuple[str, str]] = field(default_factory=list)
    helpers: dict[str, str] = field(default_factory=dict)
    joy: list[str] = field(default_factory=list)
    woe: list[str] = field(default_factory=list)
    sad: list[str] = field(default_factory=list)
    hungry: list[str] = field(default_factory=list)
    birthday: list[str] = field(default_factory=list)
    seeker: dict[str, str] = field(default_factory=dict)
    counted: list[str] = field(default_factory=list)
    hidden: dict[str, str] = field(default_factory=dict)
    shop: str = ""
    complaints: list[str] = field(default_factory=list)

    def need(self, holds: bool, complaint: str) -> None:
        """Note a complaint unless the condition holds."""
        if not holds:
            self.complaints.append(complaint)

    def where(self, t: str) -> str:
        """The place of a thing, wherever it is or whoever carries it."""
        item = self.items[t]
        return self.place.get(item.holder, "") if item.holder else item.place

    def together(self, n: str, m: str) -> None:
        """Two different characters in one place."""
        self.need(n != m, f"{n} acts on {n}")
        self.need(
            self.place.get(n) == self.place.get(m) is not None,
            f"{n} and {m} are not in one place",
        )

    def holds(self, n: str, t: str) -> None:
        """Someone has a thing in hand."""
        self.need(self.items[t].holder == n, f"{n} does not have {t}")

    def pleased(self, *names: str) -> None:
        """A reason to be happy."""
        for name in names:
            self.joy = [*(n for n in self.joy if n != name), name]
            self.woe = [n for n in self.woe if n != name]

    def obtains(self, n: str, t: str) -> None:
        """A thing comes into someone's hands: a wish or a loss may end here."""
        item = self.items[t]
        item.holder, item.place = n, ""
        if item.state == "lost" and item.owner == n:
            item.state = ""
            self.pleased(n)
        if (n, t) in self.wants:
            del self.wants[n, t]
            self.pleased(n)
        self.asked = [a for a in self.asked if (a[0], a[2]) != (n, t)]
