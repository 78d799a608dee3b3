"""The storyteller's memory: cast and props of one story, and what happened so far."""

from dataclasses import dataclass, field
from random import Random

from minimind.text.world.story_text import Event


@dataclass
class Teller:
    """The cast and the props of one story, and the events told so far."""

    rng: Random
    lang: str
    a: str
    b: str
    thing: str
    food: str
    p: str
    q: str
    pet: str
    shade: str  # of the thing
    events: list[Event] = field(default_factory=list)
    about: str = ""

    def __call__(self, kind: str, n: str = "", m: str = "", **slots: str) -> None:
        """Tell one event; things keep their colour."""
        thing = slots.get("t", "")
        colour = self.shade if thing == self.thing else None
        self.about = self.about or thing
        self.events.append(Event(kind, n, m, colour=colour, **slots))

    def maybe(self, chance: float = 0.5) -> bool:
        """True with the given chance."""
        return self.rng.random() < chance

    def friends(self) -> None:
        """Name both children, so that nobody turns up from nowhere."""
        self("friends", self.a, self.b)

    def together(self) -> None:
        """Both children in place p, in one of three ways."""
        way = self.rng.randrange(3)
        if way == 0:
            self("at2", self.a, self.b, p=self.p)
        elif way == 1:
            self.friends()
            self("at2", self.a, self.b, p=self.p)
        else:
            self("at2", self.a, self.b, p=self.q)
            self("go2", self.a, self.b, p=self.p)

    def joins(self) -> None:
        """The friend turns up where the hero is, in place p."""
        self("at", self.b, p=self.q)
        self("go", self.b, p=self.p)

    def sad(self, name: str, chance: float = 0.8) -> None:
        """Mostly: tell that someone is sad."""
        if self.maybe(chance):
            self("sad", name)

    def end(self, owner: str, thing: str) -> None:
        """A happy end; perhaps who has the thing now."""
        self("happy", owner)
        if self.maybe(0.4):
            self("now", owner, t=thing)
