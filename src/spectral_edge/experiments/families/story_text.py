"""Seeded short stories with a state: who holds the thing, who is where, who has how many, who feels how.

Sentences are drawn from templates, but what they say of holders, places, counts and feelings is read from the state,
which the plot changes from sentence to sentence, so that later sentences follow from earlier ones. There are five plot
schemas (lost and found, help, sharing, quarrel and apology, discovery, the last with two ends), 6 to 14 sentences,
speech in 40 % and small sums in 20 %. Words, sentences and plots are in `story_words.txt`.

A line of a plot names a section of sentences and the changes of state that come with it, "give: A holds"; a question
mark makes it optional. `section_said` is preferred in stories with speech, `section_counted` in those with sums.
"""

from dataclasses import dataclass

from spectral_edge.experiments.families.phrases import Chance, Phrases, read_words

WORDS = "story_words.txt"
SCHEMAS = ("lost", "help", "share", "quarrel", "discovery")
SHORTEST, LONGEST = 6, 14
SPEECH, SUMS = 0.4, 0.2
_PRONOUNS = {"she": ("her", "her"), "he": ("him", "his")}


def number(value: int) -> str:
    """A number from 0 to 20 in words."""
    return read_words(WORDS)["numbers"][value]


@dataclass(slots=True)
class Place:
    """A place and the word for being there; as text, "the barn"."""

    name: str
    preposition: str

    @property
    def at(self) -> str:
        """For instance "in the barn"."""
        return f"{self.preposition} the {self.name}"

    def __str__(self) -> str:
        return f"the {self.name}"


@dataclass(slots=True)
class Person:
    """A character and the part of the state that is theirs; as text, the name.

    Attributes:
        name: proper name.
        he: pronoun.
        kind: "girl", "boy" or an animal.
        place: where they are.
        mood: how they feel.
        before: how they felt before that.
        amount: how many they have of what comes in numbers.
    """

    name: str
    he: str
    kind: str
    place: Place
    mood: str = ""
    before: str = ""
    amount: int = 0

    @property
    def He(self) -> str:
        """The pronoun that begins a sentence."""
        return self.he.capitalize()

    @property
    def him(self) -> str:
        """The object pronoun."""
        return _PRONOUNS[self.he][0]

    @property
    def his(self) -> str:
        """The possessive."""
        return _PRONOUNS[self.he][1]

    @property
    def at(self) -> str:
        """Where they are, for instance "in the barn"."""
        return self.place.at

    @property
    def count(self) -> str:
        """The amount in words."""
        return number(self.amount)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Story:
    """A story and the state that it ends in.

    Attributes:
        plot: name of its plot.
        sentences: the sentences in order.
        speech: whether anyone speaks.
        sums: whether anything is counted.
        thing: the noun of the thing, if the plot has one.
        holder: who has it in the end.
        places: where everyone is in the end, by name.
        amounts: how many everyone has in the end, by name.
    """

    plot: str
    sentences: tuple[str, ...]
    speech: bool
    sums: bool
    thing: str | None
    holder: str | None
    places: dict[str, str]
    amounts: dict[str, int]

    @property
    def text(self) -> str:
        """All of it on one line."""
        return " ".join(self.sentences)


def story(seed: int, index: int, *, part: str = "train") -> Story:
    """One of the endless stories of a seed, the same on every machine.

    Args:
        seed: seed of the corpus.
        index: which story.
        part: parts with different names share no draws.
    """
    return _Teller(Chance(f"story {seed} {part} {index}")).tell()


class _Teller:
    """Tells one story: the plot, the state and the sentences so far."""

    def __init__(self, chance: Chance) -> None:
        self._chance, self._phrases = chance, Phrases(WORDS, chance)
        self._speech, self._sums = chance.happens(SPEECH), chance.happens(SUMS)
        self._told: list[str] = []
        self._places = dict(zip("PQ", self._two_places(), strict=True))
        self._people = dict(zip("AB", self._two_people(), strict=True))
        self._holder: Person | None = None
        noun, tool = self._phrases.word("things"), self._phrases.word("tools")
        entry = self._phrases.word("fruit").split()
        self._slots: dict[str, object] = {
            **self._places,
            **self._people,
            "N": noun,
            "T": f"{self._phrases.word('adjectives')} {noun}",
            "X": tool,
            "fruit": entry[1] if len(entry) > 1 else f"{entry[0]}s",
        }

    def tell(self) -> Story:
        plot = self._chance.one_of(SCHEMAS)
        if plot == "discovery" and self._chance.happens(0.5):
            plot = "discovery_owner"
        shared = plot == "share"
        if self._sums and shared:
            self._people["A"].amount = self._chance.between(4, 12)
        for line in self._lines(f"plot_{plot}"):
            section, _, changes = line.partition(": ")
            self._say(section, changes)
        return Story(
            plot=plot,
            sentences=tuple(self._told),
            speech=self._speech,
            sums=self._sums,
            thing=None if shared else str(self._slots["N"]),
            holder=None if self._holder is None else self._holder.name,
            places={person.name: person.place.name for person in self._people.values()},
            amounts={person.name: person.amount for person in self._people.values()},
        )

    def _lines(self, plot: str) -> list[str]:
        """The lines of a plot that this story follows: all that are needed, and optional ones up to its length."""
        lines: list[str] = []
        for line in self._phrases.words[plot]:
            if line == "sum":
                lines += ["sum_have", "sum_change"] if self._sums else []
            elif line == "? now" and self._sums:
                lines.append("now")
            elif line != "? sum_later" or self._sums:
                lines.append(line)
        needed = sum(not line.startswith("?") for line in lines)
        wanted = self._chance.between(max(needed, SHORTEST), LONGEST) - needed
        offered = len(lines) - needed
        chosen: list[str] = []
        for line in lines:
            if not line.startswith("?"):
                chosen.append(line)
                continue
            # Every set of `wanted` of the `offered` lines is equally likely.
            if self._chance.happens(wanted / offered):
                chosen.append(line.removeprefix("? "))
                wanted -= 1
            offered -= 1
        return chosen

    def _say(self, section: str, changes: str) -> None:
        """Changes the state, then says so; nothing is said twice in a story."""
        for change in changes.split(", ") if changes else []:
            self._change(*change.split())
        if section == "sum_have":
            self._count_more_or_less()
        if section == "sum_change":
            section = self._direction
        if section == "share" and self._sums:
            self._give_some()
        words = self._phrases.words
        for wanted, suffix in ((self._sums, "_counted"), (self._speech, "_said")):
            if wanted and section + suffix in words:
                section += suffix
        slots = {**self._slots, "H": self._holder}
        sentence = self._phrases.sentence(section, slots)
        while sentence in self._told:
            sentence = self._phrases.sentence(section, slots)
        self._told.append(sentence)

    def _change(self, who: str, does: str, what: str = "") -> None:
        person = self._people[who]
        if does == "holds":
            self._holder = person
        elif does == "drops":
            self._holder = None
        elif does == "goes":
            person.place = self._places[what]
        elif does == "meets":
            person.place = self._people[what].place
        elif does == "feels":
            person.before, person.mood = person.mood, self._phrases.word(what)
        else:
            raise ValueError(f"a plot says that {who} {does}")

    def _count_more_or_less(self) -> None:
        n = self._chance.between(3, 10)
        more = self._chance.happens(0.5)
        k = self._chance.between(1, 10) if more else self._chance.between(1, n - 2)  # two are left: a plural
        total = n + k if more else n - k
        self._people["A"].amount, self._direction = total, "sum_more" if more else "sum_less"
        self._slots.update(n=number(n), k=number(k), total=number(total))

    def _give_some(self) -> None:
        giver, taker = self._people["A"], self._people["B"]
        k = self._chance.between(2, giver.amount - 2)  # a plural for both
        giver.amount, taker.amount = giver.amount - k, k
        self._slots["k"] = number(k)

    def _two_places(self) -> list[Place]:
        return [Place(*entry.split()) for entry in self._two_of("places")]

    def _two_people(self) -> list[Person]:
        people: list[Person] = []
        for entry in self._two_of("names"):
            name, he = entry.split()
            child = "girl" if he == "she" else "boy"
            kind = self._phrases.word("animals") if self._chance.happens(0.5) else child
            people.append(Person(name, he, kind, self._places["P"]))
        return people

    def _two_of(self, section: str) -> tuple[str, str]:
        first = second = self._phrases.word(section)
        while second == first:
            second = self._phrases.word(section)
        return first, second
