"""Generated stories and notes, and the byte-pair vocabulary: the same everywhere, true to their state, lossless."""

import hashlib
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_edge.experiments.families import pieces
from spectral_edge.experiments.families.notes_text import note
from spectral_edge.experiments.families.phrases import Chance, read_words
from spectral_edge.experiments.families.pieces import (
    END,
    FIRST_CODEWORD,
    MOST_CODEWORDS,
    codeword,
    decode,
    encode,
    read_pieces,
)
from spectral_edge.experiments.families.story_text import number, story

COUNT = 1_500
WORDS = read_words("story_words.txt")


@pytest.fixture(scope="module")
def stories():
    return [story(7, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def notes():
    return [note(7, index).split("\n") for index in range(COUNT)]


def digest(texts):
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


# ---- both generators


def test_texts_are_the_same_everywhere():
    assert digest(story(42, index).text for index in range(50)) == "859b687104489469"
    assert digest(note(42, index) for index in range(50)) == "994c5f9ffd795e99"


def test_seed_index_and_part_make_other_texts(stories):
    texts = [one.text for one in stories]
    assert len(set(texts)) == COUNT
    assert not set(texts) & {story(8, index).text for index in range(200)}
    assert not set(texts) & {story(7, index, part="validation").text for index in range(200)}


def test_the_two_styles_share_few_words(stories, notes):
    def vocabulary(texts):
        counts = Counter(word for text in texts for word in re.findall(r"[a-z]{3,}", text.lower()))
        return {word for word, count in counts.items() if count >= 5}

    one, other = vocabulary(s.text for s in stories), vocabulary(" ".join(lines) for lines in notes)
    assert len(one) > 300
    assert len(other) > 150
    assert len(one & other) < 0.15 * len(other)


def test_draws_are_zipfian():
    chance, items = Chance("zipf"), list("abcdefgh")
    counts = Counter(chance.often_first(items) for _ in range(8_000))
    total = sum(1 / rank for rank in range(1, 9))
    for rank, item in enumerate(items, start=1):
        expected = 8_000 / rank / total
        assert abs(counts[item] - expected) < 5 * expected**0.5


# ---- stories


def test_pools_have_the_sizes_that_were_asked_for():
    sizes = {name: len(entries) for name, entries in WORDS.items()}
    assert (sizes["names"], sizes["animals"], sizes["things"], sizes["places"]) == (60, 40, 120, 40)
    assert sizes["adjectives"] + sizes["traits"] == 60
    assert sum(sizes[name] for name in ("moves", "looks", "says", "asks", "plays")) == 80
    assert sizes["glad"] + sizes["upset"] == 20
    for name, entries in WORDS.items():
        assert len(set(entries)) == len(entries) or name.startswith("plot_"), name
    # Nothing can be found at a place that has its own name, and nobody uses a tool on itself.
    assert not set(WORDS["things"]) & {*WORDS["tools"], *WORDS["vessels"], *(e.split()[0] for e in WORDS["fruit"])}


def test_every_line_of_every_plot_and_template_can_be_used():
    slots = {"A", "B", "H", "P", "Q", "N", "T", "X", "fruit", "n", "k", "total"}
    fields = {"", "he", "He", "him", "his", "kind", "at", "place", "mood", "before", "count"}
    plots = [name for name in WORDS if name.startswith("plot_")]
    used = {line.removeprefix("? ").split(":")[0] for plot in plots for line in WORDS[plot]}
    used = (used - {"sum_change"}) | {"sum_more", "sum_less", "sum_have"}
    assert used - {"sum"} <= set(WORDS)
    sections = {f"{name}{suffix}" for name in used for suffix in ("", "_said", "_counted")} & set(WORDS)
    templates = [template for section in sections for template in WORDS[section]]
    assert len(templates) >= 200
    pools = set()
    for template in templates:
        outside = re.sub(r"\([^()]*\|[^()]*\)", "", template)
        assert not re.search(r"[(|)]", outside), template
        for slot, _, field in (found.partition(".") for found in re.findall(r"\{(.*?)\}", template)):
            assert slot in slots, template
            assert field in fields, template
        pools |= set(re.findall(r"<(.*?)>", template))
    assert pools <= set(WORDS)
    # Nothing in the file is left unused.
    drawn = {"names", "places", "things", "fruit", "tools", "adjectives", "animals", "glad", "upset", "numbers"}
    assert set(WORDS) == sections | pools | set(plots) | drawn


def test_lengths_speech_and_sums(stories):
    assert {len(s.sentences) for s in stories} == set(range(6, 15))
    assert all(s.text == " ".join(s.sentences) for s in stories)
    speaking = [('"' in s.text) for s in stories]
    assert speaking == [s.speech for s in stories]
    for share, found in ((0.4, speaking), (0.2, [s.sums for s in stories])):
        assert abs(sum(found) - share * COUNT) < 5 * (COUNT * share * (1 - share)) ** 0.5
    assert {s.plot for s in stories} == {"lost", "help", "share", "quarrel", "discovery", "discovery_owner"}


def test_sentences_are_whole(stories):
    for s in stories:
        for sentence in s.sentences:
            assert re.fullmatch(r'"?[A-Z].*[.!?]"?', sentence), sentence
            assert not re.search(r"[{}<>|()]|  | \.|\b[Aa] [aeiou]|\b[Aa]n [^aeiou]", sentence), sentence
            assert sentence.count('"') % 2 == 0
        assert len(set(s.sentences)) == len(s.sentences)


def last_holder(s):
    """Who has the thing, read from the sentences alone; None where it lies somewhere, "" if nobody ever had it."""
    name, holder = r"([A-Z]\w+)", ""
    thing = rf"(?:the {s.thing}|it)"
    gains = [
        rf"(?:gave|handed|passed) {thing} (?:back )?to {name}",
        rf"{name} (?:found|took) the {s.thing}",
        rf"{name} had it again",
        rf"{name} (?:had|owned|was holding|carried|had got) a \w+ {s.thing}\b",
        rf"sent {name} a \w+ {s.thing}\b",
        rf"The best thing {name} had was a",
        rf"For (?:her|his) (?:birthday|name day), {name} had got",
        rf"In (?:her|his) hands {name} carried",
    ]
    losses = [
        r"fell down",
        r"left it there",
        r"laid the \w+ down",
        r"slipped out",
        r"dropped",
        r"was stuck",
        r"had fallen into",
    ]
    losses += [r"which hung on", r"was caught in"]
    for sentence in s.sentences[:-1]:
        if any(re.search(loss, sentence) for loss in losses):
            holder = None
        for gain in gains:
            for found in re.findall(gain.replace("a \\w+", "an? \\w+"), sentence):
                holder = found
    return holder


def test_the_thing_ends_with_whom_the_sentences_say(stories):
    """An independent reading of the text agrees with the closing sentence and with the recorded state."""
    checked = 0
    for s in stories:
        if s.thing is None:
            assert s.holder is None
            continue
        assert s.holder in s.sentences[-1]
        if s.plot != "discovery":  # who finds a thing there is said with a pronoun now and then
            assert last_holder(s) == s.holder, s.text
            checked += 1
        others = set(s.places) - {s.holder}
        assert not any(other in s.sentences[-1] for other in others)
    assert checked > COUNT // 2


def test_the_last_place_is_where_they_went(stories):
    prepositions = dict(entry.split() for entry in WORDS["places"])
    closings = [(s, re.search(r"(?:was with|sat) (?:\w+ )?(in|at|by|on) the (\w+)", s.sentences[-1])) for s in stories]
    closings = [(s, found) for s, found in closings if found and s.thing]
    assert len(closings) > 100
    for s, found in closings:
        preposition, place = found.groups()
        assert prepositions[place] == preposition
        assert s.places[s.holder] == place
        # A finder stays where the thing was found; whoever got it back in a quarrel is where it began.
        if s.plot.startswith("discovery"):
            found_at = next(x for x in s.sentences if re.search(rf"an? \w+ {s.thing}\b", x))
            assert f"the {place}" in found_at


def test_sums_are_right(stories):
    word = "|".join(WORDS["numbers"][1:])
    checked = Counter()

    def counted(sentence):
        return [WORDS["numbers"].index(found) for found in re.findall(rf"\b({word})\b", sentence)]

    for s in (one for one in stories if one.sums):
        # Sentences that count the fruit; others may say "one", or "between two stones", "the two of them".
        said = [x for x in s.sentences if not x.startswith("The two of them")]
        told = [x for x in said if re.search(rf"\b(?:{word}) (?:of|more|(?!stones)[a-z]+s\b)", x)]
        rows = [counted(x) for x in told if counted(x)]
        if s.plot == "share":
            (had, *_), (given, *_), now = rows[:3]
            assert sorted(now) == sorted((given, had - given)) == sorted(s.amounts.values()), s.text
            checked["share"] += 1
        else:
            (had, *_), (change, total) = rows[:2]
            kind = "more" if " more" in told[1] else "less"
            assert total == (had + change if kind == "more" else had - change), s.text
            assert all(row == [total] for row in rows[2:])
            assert sorted(s.amounts.values()) == [0, total]
            checked[kind] += 1
    assert min(checked[kind] for kind in ("share", "more", "less")) > 20


def test_numbers_in_words():
    assert [number(i) for i in (1, 5, 12, 20)] == ["one", "five", "twelve", "twenty"]


# ---- notes


def numbers_of(line):
    return [int(found) for found in re.findall(r"-?\d+", line)]


def test_stocks_and_costs_add_up(notes):
    stocks = [lines for lines in notes if re.match(r"STOCK|Inventory|Store", lines[0])]
    repairs = [lines for lines in notes if re.match(r"JOB|Work order|Ticket", lines[0])]
    assert min(len(stocks), len(repairs)) > 100
    for lines in stocks:
        left = []
        for line in lines[1:-1]:
            if re.search("minimum", line):
                least, order = numbers_of(line)[-2:]
                assert left[-1] < least
                assert order == 2 * least - left[-1]
                continue
            opening, out, into, closing = (abs(value) for value in numbers_of(line)[-4:])
            assert opening - out + into == closing
            left.append(closing)
        assert numbers_of(lines[-1]) == [sum(left)]
    for lines in repairs:
        search, test = numbers_of(lines[1])[-1], numbers_of(lines[-2])[-1]
        cost = 0
        for line in lines[2:-2]:
            found = re.search(
                r"(?P<n>\d+) pcs, (?:unit price )?(?P<each>\d+)|Fitted (?P<m>\d+) x .* at (?P<one>\d+)", line
            )
            cost += int(found["n"] or found["m"]) * int(found["each"] or found["one"])
        assert numbers_of(lines[-1])[:2] == [cost, search + test]


def test_alarms_are_readings_above_the_limit(notes):
    logs = [lines for lines in notes if re.match(r"LOG|Log|.* / run ", lines[0])]
    assert len(logs) > 100
    alarmed = 0
    for lines in logs:
        values, alarms = [], 0
        for line in lines[1:-1]:
            body = line[5:]
            values.append(numbers_of(body)[0])
            limit = re.search(r"(?:limit|above|exceeds) (\d+)", body)
            if limit:
                assert values[-1] > int(limit[1])
                alarms += 1
        alarmed += alarms
        found = numbers_of(lines[-1])
        assert found[:2] == [len(values), alarms]
        assert found[2] == max(values)
    assert alarmed > 10


def test_the_outlook_follows_the_pressure(notes):
    bulletins = [lines for lines in notes if re.search(r"\d{4}-\d\d-\d\d", lines[0])]
    assert len(bulletins) > 100
    for lines in bulletins:
        pressure = [
            int(re.search(r"(\d+) hPa|QNH(\d+)", line)[1] or re.search(r"QNH(\d+)", line)[1]) for line in lines[1:-1]
        ]
        change = pressure[-1] - pressure[0]
        assert abs(change) in [abs(value) for value in numbers_of(lines[-1])]
        words = "no significant" if change == 0 else "clearing|dry" if change > 0 else "gusts|precipitation"
        assert re.search(words, lines[-1])


# ---- vocabulary


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=80))
def test_any_bytes_come_back(data):
    ids = encode(data)
    assert decode(ids) == data
    assert all(0 <= i < END for i in ids)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=40))
def test_any_text_comes_back(text):
    assert decode(encode(text)).decode() == text


def naive(text):
    """All merges in the order in which they were learned, over the whole text, not crossing word borders."""
    words = [
        [bytes([byte]) for byte in part] for part in re.findall(rb" ?[A-Za-z]+| ?[0-9]| ?[^A-Za-z0-9\s]+|\s", text)
    ]
    for piece in read_pieces()[256:]:
        for word in words:
            i = 0
            while i < len(word) - 1:
                if word[i] + word[i + 1] == piece:
                    word[i : i + 2] = [piece]
                i += 1
    return [read_pieces().index(piece) for word in words for piece in word]


def test_encoding_is_the_merges_in_order(stories, notes):
    for text in [s.text for s in stories[:10]] + ["\n".join(lines) for lines in notes[:10]]:
        assert encode(text) == naive(text.encode())


def test_pieces_are_merges_of_earlier_pieces():
    table = read_pieces()
    assert len(table) == len(set(table)) == 512
    assert table[:256] == tuple(bytes([byte]) for byte in range(256))
    for i in range(256, 512):
        earlier = set(table[:i])
        assert any(table[i][:cut] in earlier and table[i][cut:] in earlier for cut in range(1, len(table[i])))


def test_both_styles_are_short_in_pieces(stories, notes):
    for texts, least in (([s.text for s in stories], 2.0), (["\n".join(lines) for lines in notes], 1.6)):
        assert sum(map(len, texts)) / sum(len(encode(text)) for text in texts) > least


def test_codewords_are_tokens_of_their_own():
    names = [codeword(index) for index in range(MOST_CODEWORDS)]
    assert len(set(names)) == MOST_CODEWORDS
    assert all(re.fullmatch("[A-Z]{4}", name) for name in names)
    assert decode([*encode("say"), FIRST_CODEWORD + 3, *encode("."), END]) == f"say {names[3]}.\n".encode()
    assert max(encode(f"say {names[3]}.")) < pieces.PIECES  # written out they are no codewords
