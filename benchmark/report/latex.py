"""The paper's tables as LaTeX: paper and measured side by side, for a paper of one's own (needs booktabs)."""

from __future__ import annotations

from benchmark.report import tables
from benchmark.report.reproduction import Cell, Report, TableView
from sc_imagenet.data.catalog import info

_SPECIAL = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
}


def to_latex(report: Report) -> str:
    r"""Tables 1 to 5, each a ``table`` to ``\input``: the paper's figure, then the measured one and its difference."""
    head = "% \\usepackage{booktabs,graphicx}. A cell: the paper's figure, then in bold the measured one (difference)."
    return "\n\n".join([head, *(_table(view) for view in report.tables)]) + "\n"


def escaped(words: str) -> str:
    r"""Text with what LaTeX would read as commands written out.

    >>> escaped("car_side & 50 %")
    'car\\_side \\& 50 \\%'
    """
    return "".join(_SPECIAL.get(sign, sign) for sign in " ".join(words.split()))


def _table(view: TableView) -> str:
    paper = view.paper
    columns = "l" + "c" * len(paper.columns)
    lines = [r"\begin{table*}[t]", r"\centering", rf"\caption{{{escaped(_caption(view))}}}"]
    lines += [
        rf"\label{{tab:paper-{paper.number}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
    ]
    lines += [r"\toprule"]
    if not paper.by_category:
        lines += _groups(view)
    by_category = paper.by_category
    heads = [column.category or "all" if by_category else tables.column_title(column) for column in paper.columns]
    lines += [_row(["Method", *map(escaped, heads)]), r"\midrule"]
    for number, row in enumerate(view.rows):
        if row.row.pretrain and not view.rows[number - 1].row.pretrain:
            lines.append(r"\midrule")
        name = tables.method(row.row)
        lines.append(_row([escaped(name), *map(_cell, row.cells)]))
    lines += [r"\bottomrule", r"\end{tabular}}", r"\end{table*}"]
    return "\n".join(lines)


def _caption(view: TableView) -> str:
    return f"{view.paper.title[0].upper()}{view.paper.title[1:]} ({view.filled} of {view.printed} figures measured)."


def _groups(view: TableView) -> list[str]:
    heads, rules, start = [""], [], 2
    names = [info(column.dataset).title for column in view.paper.columns]
    for name in dict.fromkeys(names):
        span = names.count(name)
        heads.append(rf"\multicolumn{{{span}}}{{c}}{{{escaped(name)}}}")
        rules.append(rf"\cmidrule(lr){{{start}-{start + span - 1}}}")
        start += span
    return [_row(heads), "".join(rules)]


def _cell(cell: Cell) -> str:
    printed = "--" if cell.paper is None else f"{cell.paper:.1f}"
    if cell.measured is None:
        return printed
    change = f" ({escaped(tables.difference(cell))})" if cell.difference is not None else ""
    return rf"{printed} / \textbf{{{cell.measured.value:.1f}}}{change}"


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
