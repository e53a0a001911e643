"""The commands of SCAN against an interpreter that executes them, and against lines of the benchmark."""

from itertools import product

import pytest

from spectral_edge.experiments.families.scan_grammar import GRAMMARS, OUTPUTS, Example

FULL, SMALL = GRAMMARS["full"], GRAMMARS["small"]
EXAMPLES = FULL.examples()


class Interpreter:
    """Reads a command word by word, by recursive descent, and does what it says; knows nothing of how it was made."""

    def __init__(self, command):
        self.words = command.split()

    def run(self):
        first = self.sentence()
        if self.take("and"):
            done = first + self.sentence()
        elif self.take("after"):
            done = self.sentence() + first
        else:
            done = first
        if self.words:
            raise SyntaxError(self.words[0])
        return done

    def sentence(self):
        done = self.phrase()
        return done * (2 if self.take("twice") else 3 if self.take("thrice") else 1)

    def phrase(self):
        verb = self.take("walk", "look", "run", "jump", "turn")
        if verb is None:
            raise SyntaxError("no verb")
        act = [] if verb == "turn" else ["I_" + verb.upper()]
        manner = self.take("opposite", "around")
        direction = self.take("left", "right")
        if direction is None:
            if manner or not act:
                raise SyntaxError("no direction")
            return act
        turn = ["I_TURN_" + direction.upper()]
        if manner == "around":  # a quarter turn and the deed, all the way round
            return [step for _ in range(4) for step in turn + act]
        return (turn + turn if manner else turn) + act

    def take(self, *wanted):
        return self.words.pop(0) if self.words and self.words[0] in wanted else None


@pytest.mark.parametrize(
    ("grammar", "words", "phrases", "sentences", "commands", "longest", "output"),
    [(FULL, 13, 34, 102, 20_910, 9, 48), (SMALL, 11, 24, 48, 4_656, 9, 12)],
    ids=["full", "small"],
)
def test_sizes(grammar, words, phrases, sentences, commands, longest, output):
    examples = grammar.examples()
    assert len(set(grammar.phrases())) == len(grammar.phrases()) == phrases
    assert len(set(grammar.sentences())) == len(grammar.sentences()) == sentences
    assert len({command for command, _ in examples}) == len(examples) == grammar.size == commands
    assert max(len(command.split()) for command, _ in examples) == longest
    assert max(len(actions.split()) for _, actions in examples) == output
    assert {word for command, _ in examples for word in command.split()} == set(grammar.words)
    assert len(set(grammar.words)) == len(grammar.words) == words
    assert {action for _, actions in examples for action in actions.split()} == set(OUTPUTS)
    assert len(set(OUTPUTS)) == len(OUTPUTS) == 6
    assert grammar.source_positions >= longest
    assert grammar.target_positions >= output + 1


def test_an_interpreter_does_the_same():
    for command, actions in EXAMPLES:
        assert Interpreter(command).run() == actions.split()


def test_every_sentence_that_can_be_said_is_there():
    known = {command for command, _ in FULL.sentences()}
    found = set()
    for length in range(1, 5):
        for words in product((word for word in FULL.words if word not in ("and", "after")), repeat=length):
            try:
                Interpreter(" ".join(words)).run()
            except SyntaxError:
                continue
            found.add(" ".join(words))
    assert found == known  # a fifth word has no place in a sentence
    pairs = {f"{one} {word} {two}" for one in known for two in known for word in ("and", "after")}
    assert {command for command, _ in EXAMPLES} == known | pairs


def test_the_small_grammar_is_the_part_without_two_words():
    part = [example for example in EXAMPLES if not {"around", "thrice"} & set(example.command.split())]
    assert SMALL.examples() == part


def test_commands_are_in_alphabetical_order():
    commands = [command for command, _ in EXAMPLES]
    assert commands == sorted(commands)


@pytest.mark.parametrize(
    "line",
    [
        "IN: jump OUT: I_JUMP",
        "IN: jump left OUT: I_TURN_LEFT I_JUMP",
        "IN: jump thrice OUT: I_JUMP I_JUMP I_JUMP",
        "IN: turn left twice OUT: I_TURN_LEFT I_TURN_LEFT",
        "IN: turn opposite right OUT: I_TURN_RIGHT I_TURN_RIGHT",
        "IN: jump around right OUT: I_TURN_RIGHT I_JUMP I_TURN_RIGHT I_JUMP I_TURN_RIGHT I_JUMP I_TURN_RIGHT I_JUMP",
        "IN: jump and turn left OUT: I_JUMP I_TURN_LEFT",
        "IN: jump opposite left and walk thrice OUT: I_TURN_LEFT I_TURN_LEFT I_JUMP I_WALK I_WALK I_WALK",
        "IN: jump opposite left after walk around left OUT: I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK"
        " I_TURN_LEFT I_WALK I_TURN_LEFT I_TURN_LEFT I_JUMP",
        "IN: look opposite left after run OUT: I_RUN I_TURN_LEFT I_TURN_LEFT I_LOOK",
        "IN: turn left thrice after turn around left twice OUT:" + 11 * " I_TURN_LEFT",
        "IN: turn right thrice after jump around left twice OUT:"
        + 8 * " I_TURN_LEFT I_JUMP"
        + " I_TURN_RIGHT I_TURN_RIGHT I_TURN_RIGHT",
        "IN: run around right thrice and look around left thrice OUT:"
        + 12 * " I_TURN_RIGHT I_RUN"
        + 12 * " I_TURN_LEFT I_LOOK",
    ],
)
def test_lines_of_the_benchmark(line):
    command, actions = line.removeprefix("IN: ").split(" OUT: ")
    assert Example(command, actions) in EXAMPLES
    assert Example(command, actions).line == line
