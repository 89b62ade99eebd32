"""One table, whatever it is written as: columns, rows of cells, what is said of it; and how figures are rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Literal

MINUS, EN_DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
CROWDED = 10  # columns: beyond, headings are turned or cut and a measured figure stands below the paper's

Format = Literal["html", "md", "tex", "terminal"]
Kind = Literal["words", "figure", "paper", "bar", "interval", "runs"]


def rounded(value: float) -> str:
    """A figure in percent or points, as all are printed: with one decimal."""
    return f"{value:.1f}"


def number(value: float) -> str:
    """A count in full, anything else with one decimal.

    >>> number(41_483), number(57.14)
    ('41,483', '57.1')
    """
    return f"{value:,}" if isinstance(value, int) else rounded(value)


def signed(value: float) -> str:
    """A difference, with a real minus sign.

    >>> signed(0.44), signed(-0.44)
    ('+0.4', '−0.4')
    """
    return f"{value:+.1f}".replace("-", MINUS)


@dataclass(frozen=True)
class Column:
    """What stands in a column.

    head      its heading
    group     what it shares with its neighbours: the data set
    kind      "words"; "figure": in percent with its interval; "paper": a measured figure beside the paper's; "bar":
              drawn from 0 to 100 by a page; "interval": drawn so with its interval; "runs": the runs behind a row
    detail    the heading's small print
    below     a page shows its cells as the small print of the column before it
    style     classes of its cells on a page
    left_out  of formats that have no room for it
    """

    head: str
    group: str = ""
    kind: Kind = "words"
    detail: str = ""
    below: bool = False
    style: str = ""
    left_out: tuple[Format, ...] = ()

    @property
    def full_head(self) -> str:
        """The heading where no line above names the group."""
        return " ".join(part for part in (self.group, self.head) if part)


@dataclass(frozen=True)
class Cell:
    """Words, or a figure with what it is read beside.

    value      words, or a figure as it is, not rounded; None: nothing
    paper      the paper's figure for the same
    low, high  the value's interval
    spread     standard deviation of a mean over runs
    runs       ids of the runs behind it
    note       what a page says of it when asked: how it was measured, or what would fill it
    tag        words that belong to the value, in another colour
    below      small print
    """

    value: str | float | None = None
    paper: float | None = None
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    runs: tuple[str, ...] = ()
    note: str = ""
    tag: str = ""
    below: str = ""

    @property
    def text(self) -> str:
        """The value in words, figures rounded."""
        if self.value is None:
            return ""
        return self.value if isinstance(self.value, str) else rounded(self.value)

    @property
    def words(self) -> str:
        """The value and its tag."""
        return f"{self.text} {self.tag}".strip()

    @property
    def printed(self) -> str:
        """The paper's figure."""
        return "" if self.paper is None else rounded(self.paper)

    @property
    def difference(self) -> str:
        """``+0.4``: value minus paper; "" where there is nothing to compare."""
        if self.paper is None or not isinstance(self.value, (int, float)):
            return ""
        return signed(self.value - self.paper)

    @property
    def interval(self) -> str:
        """``57.1-58.3`` with an en dash, "" where there is none."""
        return "" if self.low is None or self.high is None else f"{rounded(self.low)}{EN_DASH}{rounded(self.high)}"

    @property
    def detail(self) -> str:
        """Of a mean over runs their standard deviation, ``± 0.8``; of one run's figure its interval."""
        return self.interval if self.spread is None else f"\N{PLUS-MINUS SIGN} {rounded(self.spread)}"


@dataclass(frozen=True)
class Row:
    """A row.

    cells     by column
    divided   a rule stands above it
    commands  that would fill what is empty, in the order they must be given
    filters   what a page can filter it by
    """

    cells: tuple[Cell, ...]
    divided: bool = False
    commands: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table.

    title     its heading
    columns   the first names the rows
    rows      from the top
    caption   how it is read
    notes     further sentences
    number    in the paper
    dense     small print throughout
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str = ""
    notes: tuple[str, ...] = ()
    number: int | None = None
    dense: bool = False

    @property
    def heading(self) -> str:
        """The title with the number."""
        return self.title if self.number is None else f"Table {self.number}: {self.title}"

    @property
    def crowded(self) -> bool:
        """Whether it has more columns than there is room for."""
        return len(self.columns) > CROWDED and self.number is not None

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands of all rows, each once."""
        return tuple(dict.fromkeys(command for row in self.rows for command in row.commands))

    @property
    def measured(self) -> int:
        """Figures beside the paper's that have runs behind them."""
        return sum(bool(cell.runs) for cell in self._beside_paper())

    @property
    def printed(self) -> int:
        """Figures that the paper has."""
        return sum(cell.paper is not None for cell in self._beside_paper())

    @property
    def grouped(self) -> bool:
        """Whether a line above the headings names groups of columns."""
        return any(column.group for column in self.columns)

    def groups(self) -> list[tuple[str, tuple[Column, ...]]]:
        """The columns by their groups; one without a group stands alone, under "".

        >>> table = Table("", (Column("method"), Column("@0.05", "PF-PASCAL"), Column("@0.10", "PF-PASCAL")), ())
        >>> [(group, [column.head for column in columns]) for group, columns in table.groups()]
        [('', ['method']), ('PF-PASCAL', ['@0.05', '@0.10'])]
        """
        alone = groupby(enumerate(self.columns), lambda each: each[1].group or each[0])
        found = [tuple(column for _, column in members) for _, members in alone]
        return [(columns[0].group, columns) for columns in found]

    def written_as(self, format: Format) -> Table:
        """With the columns of a format alone; on a page some are the small print of others."""
        kept = [place for place, column in enumerate(self.columns) if format not in column.left_out]
        below: dict[int, int] = {}  # a column's place: that of its small print
        if format == "html":
            below = {before: place for before, place in pairwise(kept) if self.columns[place].below}
        places = [place for place in kept if place not in below.values()]
        columns = (
            replace(self.columns[place], detail=self.columns[below[place]].head.lower())
            if place in below
            else self.columns[place]
            for place in places
        )
        rows = (
            tuple(
                replace(row.cells[place], below=row.cells[below[place]].text) if place in below else row.cells[place]
                for place in places
            )
            for row in self.rows
        )
        return replace(
            self,
            columns=tuple(columns),
            rows=tuple(replace(row, cells=cells) for row, cells in zip(self.rows, rows)),
        )

    def _beside_paper(self) -> Iterator[Cell]:
        """The cells of columns that have the paper's figures."""
        return (cell for row in self.rows for column, cell in zip(self.columns, row.cells) if column.kind == "paper")
