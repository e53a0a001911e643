"""Seeded technical notes: the second generated style, as unlike the stories as short texts can be.

Log sheets, stock counts, batch recipes, weather bulletins and work orders, with a line an entry and numbers that agree:
readings drift and raise alarms above a limit, stocks and costs add up, ingredients follow the portions, the outlook
follows the pressure. Words and lines are in `notes_words.txt`.
"""

from spectral_edge.experiments.families.phrases import Chance, Phrases

WORDS = "notes_words.txt"


def note(seed: int, index: int, *, part: str = "train") -> str:
    """One of the endless notes of a seed, the same on every machine.

    Args:
        seed: seed of the corpus.
        index: which note.
        part: parts with different names share no draws.
    """
    writer = _Writer(Chance(f"note {seed} {part} {index}"))
    kind = writer.chance.one_of((writer.log, writer.stock, writer.recipe, writer.weather, writer.repair))
    kind()
    return "\n".join(writer.lines)


class _Writer:
    """Writes one note, line by line."""

    def __init__(self, chance: Chance) -> None:
        self.chance, self._phrases = chance, Phrases(WORDS, chance)
        self.lines: list[str] = []

    def log(self) -> None:
        between, word = self.chance.between, self._phrases.word
        quantity, measure, *numbers = word("quantities").split()
        usual, step, limit = map(int, numbers)
        self._write("log_head", device=word("devices"))
        minute, value, every = 60 * between(0, 17), usual, self.chance.one_of((10, 15, 20, 30, 45))
        values: list[int] = []
        for _ in range(between(3, 8)):
            values.append(value)
            section = "log_alarm" if value > limit else "log_ok"
            self._write(section, time=_clock(minute), quantity=quantity, value=value, measure=measure, limit=limit)
            minute += every
            # An alarm brings the value back; else it drifts.
            value = usual - between(0, step) if value > limit else value + between(-step // 2, step)
        alarms = sum(value > limit for value in values)
        self._write("log_end", count=len(values), alarms=alarms, highest=max(values), measure=measure)

    def stock(self) -> None:
        between = self.chance.between
        self._write("stock_head")
        total = 0
        for part in self._several("parts", between(2, 5)):
            before, into = between(20, 300), self.chance.one_of((0, 0, 25, 50, 100))
            out = between(1, before)
            left, least = before - out + into, self.chance.one_of((20, 40, 60))
            total += left
            self._write("stock_line", part=part, before=before, out=out, into=into, left=left)
            if left < least:
                self._write("stock_low", part=part, least=least, order=2 * least - left)
        self._write("stock_end", total=total)

    def recipe(self) -> None:
        between = self.chance.between
        portions = self.chance.one_of((4, 6, 8, 10, 12, 20, 40))
        self._write("recipe_head", product=self._phrases.word("products"), portions=portions)
        for entry in self._several("ingredients", between(3, 6)):
            ingredient, measure, each = entry.split()
            self._write("recipe_line", ingredient=ingredient, measure=measure, amount=portions * int(each))
        total = 0
        for _ in range(between(2, 4)):
            minutes = 5 * between(1, 12)
            total += minutes
            self._write("recipe_step", minutes=minutes, degrees=5 * between(1, 44))
        self._write("recipe_end", total=total)

    def weather(self) -> None:
        between = self.chance.between
        date = f"{between(1981, 2039)}-{between(1, 12):02d}-{between(1, 28):02d}"
        self._write("weather_head", station=self._phrases.word("stations"), date=date)
        pressure, trend = between(985, 1030), self.chance.one_of((-3, -2, -1, 0, 1, 2, 3))
        wind, knots, hour = self._phrases.word("winds"), between(3, 30), 3 * between(0, 3)
        rows = between(3, 5)
        for row in range(rows):
            self._write(
                "weather_line",
                time=_clock(60 * (hour + 3 * row)),
                wind=wind,
                knots=knots,
                visibility=between(1, 40),
                pressure=pressure + row * trend,
            )
            knots = max(1, knots + between(-3, 3) - trend)
        section = "weather_steady" if trend == 0 else "weather_rising" if trend > 0 else "weather_falling"
        self._write(section, change=abs(trend) * (rows - 1))

    def repair(self) -> None:
        between = self.chance.between
        self._write("repair_head", device=self._phrases.word("devices"))
        search, test = 5 * between(1, 12), 5 * between(1, 8)
        self._write("repair_cause", minutes=search)
        cost = 0
        for part in self._several("parts", between(1, 3)):
            pieces, price = between(1, 9), between(2, 60)
            cost += pieces * price
            self._write("repair_part", part=part, pieces=pieces, price=price)
        self._write("repair_test", minutes=test)
        self._write("repair_end", cost=cost, labour=search + test)

    def _write(self, section: str, **slots: object) -> None:
        number, unit = f"{self.chance.between(0, 9999):04d}", self.chance.between(1, 24)
        shift = self.chance.one_of(("A", "B", "C"))
        self.lines.append(self._phrases.sentence(section, {"number": number, "unit": unit, "shift": shift, **slots}))

    def _several(self, section: str, count: int) -> list[str]:
        """Different entries of a pool."""
        found: list[str] = []
        while len(found) < count:
            entry = self._phrases.word(section)
            if entry not in found:
                found.append(entry)
        return found


def _clock(minutes: int) -> str:
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"
