"""The grammar of SCAN: every command of the benchmark and the actions that it stands for.

Source: Lake and Baroni, arXiv 1711.00350. The benchmark is finite and holds every sentence of its grammar once, so it
is generated here, 20,910 commands, instead of downloaded. The small grammar leaves "around" and "thrice" out.
"""

from typing import NamedTuple

ACTIONS = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
"""Verbs that act; "turn" has no action of its own and needs a direction."""

TURNS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
"""Directions and the turns that they make."""

OUTPUTS = (*ACTIONS.values(), *TURNS.values())
"""Every action."""


class Example(NamedTuple):
    """A command and what it stands for, both as words between single spaces.

    Attributes:
        command: for instance "jump left twice".
        actions: for instance "I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP".
    """

    command: str
    actions: str

    @property
    def line(self) -> str:
        """The benchmark's own line."""
        return f"IN: {self.command} OUT: {self.actions}"


class Grammar(NamedTuple):
    """A part of SCAN.

    Attributes:
        manners: modifiers of a direction: to how many turns each leads, and how often the whole is done.
        counts: words that repeat a phrase, and how often.
        source_positions: places that a model needs for a command.
        target_positions: places that it needs for the actions and a mark before or after them.
    """

    manners: dict[str, tuple[int, int]]
    counts: dict[str, int]
    source_positions: int
    target_positions: int

    @property
    def words(self) -> tuple[str, ...]:
        """Every word of a command."""
        return (*ACTIONS, "turn", *TURNS, *self.manners, *self.counts, "and", "after")

    @property
    def size(self) -> int:
        """Number of its commands."""
        sentences = len(self.sentences())
        return sentences + 2 * sentences**2

    def phrases(self) -> list[Example]:
        """A verb with or without a direction: 34 in the full grammar."""
        found = [Example(verb, action) for verb, action in ACTIONS.items()]
        for verb in (*ACTIONS, "turn"):
            for direction, turn in TURNS.items():
                act = [ACTIONS[verb]] if verb in ACTIONS else []
                found.append(Example(f"{verb} {direction}", " ".join([turn, *act])))
                for manner, (turns, times) in self.manners.items():
                    found.append(Example(f"{verb} {manner} {direction}", " ".join(([turn] * turns + act) * times)))
        return found

    def sentences(self) -> list[Example]:
        """Phrases, done once or as often as a word says: 102 in the full grammar."""
        found = self.phrases()
        repeated = [
            Example(f"{command} {word}", " ".join([actions] * times))
            for word, times in self.counts.items()
            for command, actions in found
        ]
        return found + repeated

    def examples(self) -> list[Example]:
        """Every command, in alphabetical order: sentences and any two of them joined, 20,910 in the full grammar."""
        found = self.sentences()
        joined = [
            example
            for one in found
            for two in found
            for example in (
                Example(f"{one.command} and {two.command}", f"{one.actions} {two.actions}"),
                Example(f"{one.command} after {two.command}", f"{two.actions} {one.actions}"),
            )
        ]
        return sorted(found + joined)


GRAMMARS = {
    # As many places as the longest command and the longest output with its mark take.
    "small": Grammar({"opposite": (2, 1)}, {"twice": 2}, source_positions=9, target_positions=13),
    # The published model has two places for commands, and one for actions, that nothing ever fills.
    "full": Grammar(
        {"opposite": (2, 1), "around": (1, 4)}, {"twice": 2, "thrice": 3}, source_positions=11, target_positions=50
    ),
}
"""The whole benchmark, and a part of it for a CPU: 4,656 commands of at most 9 words and 12 actions."""
