"""The report: a measured cell only with a run behind it; every format from the same content."""

import csv
import io
import json
from html.parser import HTMLParser

import pytest

from benchmark.pck import Metric
from benchmark.report.build import build
from benchmark.report.html import to_html
from benchmark.report.markdown import to_markdown
from benchmark.report.paper_tables import table_2, table_3
from benchmark.report.sheets import runs_csv, tables_csv
from benchmark.report.write import write_reports
from tests.benchmark.runs import make_run
from tests.benchmark.test_score import scbench

PASCAL = [("pf-pascal", "test", 299)]


def filled(report):
    """The cells with a measured value: (table, method, pretrain, data, alpha or category)."""
    return [
        (view.paper.number, row.row.method, row.row.pretrain, column.dataset, column.category or column.alpha)
        for view in report.tables
        for row in view.rows
        for column, cell in zip(view.paper.columns, row.cells)
        if cell.measured
    ]


def test_the_paper_s_figures():
    benchmarks, classes = table_2(), table_3()
    assert (len(benchmarks.rows), len(benchmarks.columns)) == (17, 7)
    assert (len(classes.rows), len(classes.columns)) == (15, 19)
    figures = {(row.method, row.pretrain): row.values for row in benchmarks.rows}
    assert figures["CATs", "sc-imagenet"] == (78.4, 92.9, 96.6, 53.2, 84.0, 94.5, 54.6)
    assert figures["ProposalFlow", None][-1] is None
    by_class = {(row.method, row.pretrain): row.values for row in classes.rows}
    assert by_class["VAT", "sc-imagenet"][0] == 65.2
    assert by_class["CATs", "sc-imagenet"][-1] == 54.5


def test_without_runs_no_cell_is_measured_and_commands_say_how():
    report = build([])
    assert filled(report) == []
    cats = next(row for row in report.tables[0].rows if row.row.method == "CATs" and row.row.pretrain)
    assert cats.commands == (
        "scbench run cats --pretrain sc-imagenet --finetune pf-pascal --eval pf-pascal,pf-willow",
        "scbench run cats --pretrain sc-imagenet --finetune spair-71k --eval spair-71k",
    )
    assert next(row for row in report.tables[0].rows if row.row.method == "CNNGeo").commands == ()


def test_a_faithful_run_fills_its_cells_under_the_authors_protocol(tmp_path):
    result = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal")
    report = build([result])
    assert filled(report) == [(2, "CATs", None, "pf-pascal", alpha) for alpha in (0.05, 0.1, 0.15)]
    cell = next(row for row in report.tables[0].rows if row.row.method == "CATs").cells[1]
    measured = result.metrics["pf-pascal"]["pck@0.1/img@256/image"]
    assert (cell.measured.value, cell.measured.low, cell.measured.high) == tuple(measured.values())
    assert cell.measured.runs == ("r1",)
    assert cell.paper == 92.6
    assert cell.difference == pytest.approx(measured["value"] - 92.6)


def test_table_3_takes_each_category_of_a_spair_run(tmp_path):
    data = [("spair-71k", "test", 12_234)]
    result = make_run(tmp_path, "r1", data=data, finetune="spair-71k", pretrain="sc-imagenet", draws=2)
    cells = filled(build([result]))
    assert cells[0] == (2, "CATs", "sc-imagenet", "spair-71k", 0.1)
    assert [cell[-1] for cell in cells[1:]] == [column.category or 0.1 for column in table_3().columns]
    sheep = next(
        cell
        for row in build([result]).tables[1].rows
        if (row.row.method, row.row.pretrain) == ("CATs", "sc-imagenet")
        for column, cell in zip(table_3().columns, row.cells)
        if column.category == "sheep"
    )
    assert sheep.measured.value == result.per_category["spair-71k"]["pck@0.1/bbox@256/image"]["sheep"]
    assert sheep.measured.low is None


@pytest.mark.parametrize(
    ("what", "fields"),
    [
        ("another preset", {"preset": "small"}),
        ("a changed recipe", {"changes": ("recipe.lr=0.1",)}),
        ("another backbone", {"backbone": "tf_efficientnet_lite0"}),
        ("loaded weights", {"checkpoint": "model_best.pth"}),
        ("trained on other data", {"finetune": "toy"}),
        ("pre-trained on other data", {"pretrain": "toy"}),
        ("never trained", {"finetune": None}),
        ("a part of the split", {"data": [("pf-pascal", "test", 100)]}),
        ("another split", {"data": [("pf-pascal", "test_clean", 204)]}),
        ("another model", {"title": "Cats and dogs"}),
    ],
)
def test_any_other_run_fills_no_cell_but_is_listed(tmp_path, what, fields):
    result = make_run(tmp_path, "r1", **{"data": PASCAL, "finetune": "pf-pascal", **fields}, draws=2)
    report = build([result])
    assert filled(report) == [], what
    assert [entry.result.run for board in report.boards for entry in board.entries] == ["r1"]


def test_predictions_in_the_other_direction_fill_no_cell(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.protocols.published", lambda model: None)  # written forward, as for any model
    result = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal", draws=2)
    monkeypatch.undo()
    assert result.direction == "forward"
    assert filled(build([result])) == []


def test_several_seeds_are_averaged_and_their_intervals_joined(tmp_path):
    results = [
        make_run(tmp_path, f"r{seed}", data=PASCAL, finetune="pf-pascal", seed=seed, noise=noise)
        for seed, noise in enumerate((5, 10, 20))
    ]
    scores = [result.metrics["pf-pascal"]["pck@0.05/img@256/image"] for result in results]
    cell = next(row for row in build(results).tables[0].rows if row.row.method == "CATs").cells[0]
    assert cell.measured.value == pytest.approx(sum(score["value"] for score in scores) / 3)
    assert cell.measured.low == min(score["low"] for score in scores)
    assert cell.measured.high == max(score["high"] for score in scores)
    assert cell.measured.runs == ("r0", "r1", "r2")


def test_a_board_holds_the_runs_on_the_same_pairs_best_first(tmp_path):
    results = [
        make_run(tmp_path, "weak", data=[("toy", "test", 30)], noise=60),
        make_run(tmp_path, "strong", data=[("toy", "test", 30)], noise=4),
        make_run(tmp_path, "limited", data=[("toy", "test", 10)]),
        make_run(tmp_path, "other-split", data=[("toy", "validation", 30)]),
        make_run(tmp_path, "only-trained", data=[]),
    ]
    report = build(results)
    boards = {(board.key, board.pairs): [entry.result.run for entry in board.entries] for board in report.boards}
    assert boards == {
        ("toy", 10): ["limited"],
        ("toy", 30): ["strong", "weak"],
        ("toy:validation", 30): ["other-split"],
    }
    assert [result.run for result in report.unscored] == ["only-trained"]
    assert report.boards[0].metrics[1] == Metric(0.1, "bbox-kp")
    for page in (to_html(report), to_markdown(report)):
        for result in results:
            assert result.run in page


class Page(HTMLParser):
    """Collects the tags, the text and the addresses of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.addresses = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_file_and_escapes_what_data_says(tmp_path):
    evil = "<script>alert(1)</script>"
    result = make_run(tmp_path, "r1", data=[("toy", "test", 8)], categories=(evil, "a|b"), changes=(f"--x {evil}",))
    report = build([result], [f"runs/{evil}: damaged"])
    page = Page(to_html(report))
    assert "script" not in page.tags
    assert "".join(page.text).count(evil) == 3  # category, change, problem
    assert all(address.startswith("#") for address in page.addresses)
    markdown = to_markdown(report)
    assert "<script" not in markdown
    assert "a\\|b" in markdown


def test_tables_of_the_page_are_complete(tmp_path):
    page = Page(to_html(build([make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal", draws=2)])))
    # 17 + 15 rows, 1 board row and one category row for each of the two categories, and the heads
    assert page.tags.count("tr") == 17 + 15 + 1 + 2 + (2 + 1 + 1 + 1)
    assert page.tags.count("td") == 17 * 8 + 15 * 19 + 9 + 2
    assert "92.6" in "".join(page.text)


def test_sheets_hold_every_figure(tmp_path):
    result = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal")
    cells = list(csv.DictReader(io.StringIO(tables_csv(build([result])))))
    assert len(cells) == 17 * 7 + 15 * 19
    measured = [line for line in cells if line["measured"]]
    assert [line["runs"] for line in measured] == ["r1"] * 3
    value = result.metrics["pf-pascal"]["pck@0.05/img@256/image"]["value"]
    assert float(measured[0]["measured"]) == value
    assert float(measured[0]["difference"]) == pytest.approx(value - 75.4)
    lines = list(csv.DictReader(io.StringIO(runs_csv([result]))))
    assert {line["metric"]: float(line["value"]) for line in lines} == {
        name: score["value"] for name, score in result.metrics["pf-pascal"].items()
    }


def test_the_command_writes_all_formats_and_says_what_it_left_out(tmp_path):
    make_run(tmp_path / "runs", "r1", data=[("toy", "test", 8)])
    (tmp_path / "runs" / "cats" / "half").mkdir()
    (tmp_path / "runs" / "cats" / "half" / "config.json").write_text("{}")
    done = scbench("report", "--runs", tmp_path / "runs", "--out", tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.md", "tables.csv", "runs.csv"}
    assert "Toy, test split, 8 pairs" in done.stdout
    assert "half: has no result.json" in done.stdout
    content = json.loads(scbench("report", "--runs", tmp_path / "runs", "--json").stdout)
    assert content["runs"] == 1
    assert len(content["problems"]) == 1


def test_reports_of_a_folder_of_runs(tmp_path):
    make_run(tmp_path / "runs", "r1", data=[("toy", "test", 8)])
    files = write_reports(tmp_path / "runs", tmp_path / "out")
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert "r1" in files[0].read_text()


def test_mistakes_in_the_command_end_in_one_line(tmp_path):
    done = scbench("report", "--runs", tmp_path / "none", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no such folder of runs" in done.stderr
    done = scbench("report", "--runs", tmp_path, "--format", "htm", "--out", tmp_path / "out", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Did you mean 'html'" in done.stderr
    assert not (tmp_path / "out").exists()
