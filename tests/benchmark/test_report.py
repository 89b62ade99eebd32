"""The report: a measured cell only with a run behind it; every format from the same content."""

import csv
import io
import json
import re
import shutil
import statistics
from dataclasses import asdict, replace
from html.parser import HTMLParser

import pytest

from baselines import registry
from baselines.registry import find_recipe
from benchmark.report.csv_files import curves_csv, runs_csv, tables_csv
from benchmark.report.html import to_html
from benchmark.report.latex import to_latex
from benchmark.report.markdown import to_markdown
from benchmark.report.paper_tables import tables
from benchmark.report.run_sheet import command_of
from benchmark.report.tables import build, build_from, preparation_for
from benchmark.report.terminal import console, lines_of
from benchmark.report.write import write_reports
from benchmark.scoring.curves import ALPHAS
from benchmark.scoring.pck import Metric
from benchmark.scoring.result import EvaluatedData
from benchmark.scoring.runs import FoundRun
from sc_imagenet.core.command import Command, nested, settings_of
from sc_imagenet.generation.cascade.options import TrainingOptions, paper_options
from tests.benchmark.commands.test_score import scbench
from tests.benchmark.runs import make_run

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


def row_of(report, number, method, pretrain=None):
    view = report.tables[number - 1]
    return next(row for row in view.rows if (row.row.method, row.row.pretrain) == (method, pretrain))


def test_the_paper_s_figures():
    shapes = [(table.number, len(table.rows), len(table.columns)) for table in tables()]
    assert shapes == [(1, 4, 4), (2, 17, 7), (3, 15, 19), (4, 7, 4), (5, 6, 4)]
    generator, benchmarks, classes, components, stages = tables()
    figures = {(row.method, row.pretrain): row.values for row in benchmarks.rows}
    assert figures["CATs", "sc-imagenet"] == (78.4, 92.9, 96.6, 53.2, 84.0, 94.5, 54.6)
    assert figures["ProposalFlow", None][-1] is None
    by_class = {(row.method, row.pretrain): row.values for row in classes.rows}
    assert by_class["VAT", "sc-imagenet"][0] == 65.2
    assert by_class["CATs", "sc-imagenet"][-1] == 54.5
    assert [row.values for row in generator.rows][2] == components.rows[0].values == stages.rows[0].values
    assert components.rows[-1].values == (52.6, 74.7, 53.6, 78.5)
    assert stages.rows[1].method == "(II) (I) IIR=256 \N{MULTIPLICATION SIGN} 256"


def test_without_runs_no_cell_is_measured_and_commands_say_how():
    report = build([])
    assert filled(report) == []
    assert tuple(map(str, row_of(report, 2, "CATs", "sc-imagenet").commands)) == (
        "scbench run cats --pretrain sc-imagenet --finetune pf-pascal --eval pf-pascal,pf-willow",
        "scbench run cats --pretrain sc-imagenet --finetune spair-71k --eval spair-71k",
    )
    assert tuple(map(str, row_of(report, 2, "CNNGeo").commands)) == (
        "scbench run cnngeo --finetune synthetic:pf-pascal --eval pf-pascal,pf-willow",
        "scbench run cnngeo --finetune synthetic:spair-71k --eval spair-71k",
    )
    assert tuple(map(str, row_of(report, 3, "Weakalign").commands)) == (
        "scbench run weakalign --pretrain synthetic:spair-71k --finetune spair-71k --eval spair-71k",
    )
    assert tuple(map(str, row_of(report, 2, "ProposalFlow").commands)) == (
        "scbench run proposalflow --eval pf-pascal,pf-willow",
    )


def test_every_model_that_a_table_names_is_here():
    rows = {table.paper.number: [row.row.model for row in table.rows] for table in build([]).tables}
    assert {number: len(rows[number]) for number in (2, 3)} == {2: 17, 3: 15}
    named = {model for models in rows.values() for model in models}
    assert len(named) == 13
    assert named <= {entry.name for entry in registry.cards()}


def test_a_faithful_run_fills_its_cells_under_the_authors_protocol(tmp_path):
    run = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal")
    result, report = run.result, build([run])
    assert filled(report) == [(2, "CATs", None, "pf-pascal", alpha) for alpha in (0.05, 0.1, 0.15)]
    cell = row_of(report, 2, "CATs").cells[1]
    measured = result.metrics["pf-pascal"]["pck@0.1/img@256/image"]
    assert (cell.measured.value, cell.measured.low, cell.measured.high) == tuple(measured.values())
    assert cell.measured.runs == ("r1",)
    assert cell.measured.metric == "pck@0.1/img@256/image"
    assert cell.paper == 92.6
    assert cell.difference == pytest.approx(measured["value"] - 92.6)


def test_table_3_takes_each_category_of_a_spair_run(tmp_path):
    data = [("spair-71k", "test", 12_234)]
    run = make_run(tmp_path, "r1", data=data, finetune="spair-71k", pretrain="sc-imagenet", draws=2)
    result, report = run.result, build([run])
    cells = filled(report)
    assert cells[0] == (2, "CATs", "sc-imagenet", "spair-71k", 0.1)
    columns = tables()[2].columns
    assert [cell[-1] for cell in cells[1:]] == [column.category or 0.1 for column in columns]
    row = row_of(report, 3, "CATs", "sc-imagenet")
    sheep = next(cell for column, cell in zip(columns, row.cells) if column.category == "sheep")
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
        ("another model", {"model": "nearest"}),
        ("the recipe of another version", {"recipe": {"lr": 1e-4}}),
        ("a network of another version", {"arguments": {"backbone": "resnet101.a1h_in1k", "size": 256}}),
        ("other weights of its backbone", {"backbone_weights": "file"}),
    ],
)
def test_any_other_run_fills_no_cell_but_is_listed(tmp_path, what, fields):
    report = build([make_run(tmp_path, "r1", **{"data": PASCAL, "finetune": "pf-pascal", **fields}, draws=2)])
    assert filled(report) == [], what
    assert [entry.result.run for board in report.boards for entry in board.entries] == ["r1"]


GENERATED = {
    "model": "cascade",
    "supervision": "weak",
    "finetune": None,
    "checkpoint": "model",
    "trained_on": "filtered-imagenet",
    "backbone": "vit_base_patch16_224",
    "backbone_weights": "ibot",
}


def like_the_paper(size=None, network=None):
    """What a run of the paper's generator records, with some of it set."""
    paper = paper_options()
    used = replace(paper, size=size or paper.size, network=replace(paper.network, **(network or {})))
    arguments = {} if size is None else {"size": size, "network": asdict(used.network)}
    return {"arguments": arguments, "trained_with": {"options": used.as_dict(), "max_steps": None}}


ONE_PASCAL = {
    "pf-pascal": {f"pck@{alpha}/img@512/image": {"value": 50.0, "low": 45.0, "high": 55.0} for alpha in (0.05, 0.1)}
}


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        ({"size": 512}, {(1, 2), (4, 0), (4, 4), (5, 0), (5, 3)}),  # the full procedure
        ({"size": 512, "network": {"hough_length": 5, "stages": "pixel"}}, {(1, 2), (4, 0), (4, 4), (5, 0), (5, 3)}),
        ({"size": 512, "network": {"saliency": False}}, {(4, 1)}),
        ({"size": 512, "network": {"hough": False}}, {(4, 2)}),
        ({"size": 512, "network": {"hough_length": 3}}, {(4, 3)}),
        ({"size": 512, "network": {"hough_length": 7}}, {(4, 5)}),
        ({"size": 512, "network": {"shared_attention": True}}, {(4, 6)}),
        ({"size": 256}, {(5, 1)}),
        ({"size": 384}, {(5, 2)}),
        ({"size": 512, "network": {"stages": "region"}}, {(5, 4)}),
        ({"size": 512, "network": {"stages": "image"}}, {(5, 5)}),
        ({"size": 512, "network": {"stages": "image", "hough": False}}, set()),
        ({}, set()),  # an older result, which does not say
    ],
)
def test_ablations_of_the_generator_fill_the_rows_of_their_settings(tmp_path, arguments, rows):
    run = made_up(tmp_path, **like_the_paper(**arguments), **GENERATED)
    found = {
        (view.paper.number, place)
        for view in build([run]).tables
        for place, row in enumerate(view.rows)
        if any(cell.measured for cell in row.cells)
    }
    assert found == rows


def test_a_generator_fills_cells_only_if_its_weights_say_what_they_were_trained_on(tmp_path):
    size = like_the_paper(512)
    assert filled(build([made_up(tmp_path, **size, **GENERATED)]))
    for what in ({"trained_on": None}, {"trained_on": "caltech-101"}, {"changes": ("--limit 5",)}, {"preset": "small"}):
        assert not filled(build([made_up(tmp_path, **size, **{**GENERATED, **what})])), what
    on_pascal = {**GENERATED, "trained_on": None, "checkpoint": None, "finetune": "pf-pascal"}
    changes = ("--backbone vit_base_patch16_224", "recipe.model.size=512")
    cells = filled(build([made_up(tmp_path, changes=changes, **size, **on_pascal)]))
    assert {(table, data) for table, _, _, data, _ in cells} == {(1, "pf-pascal")}


def made_up(tmp_path, **fields):
    """A run with figures of its own: no model of such a size is scored here."""
    run = make_run(tmp_path, "r1", data=[("toy", "test", 4)], draws=2, **fields)
    data = (EvaluatedData("pf-pascal", "test", "m" * 64, 299),)
    result = replace(run.result, size=512, data=data, metrics=ONE_PASCAL, per_category={})
    return FoundRun(run.folder, result)


def test_commands_of_the_generator_train_it_first():
    rows = {
        row.row.method: row.commands
        for number in (1, 4, 5)
        for row in build([]).tables[number - 1].rows
        if row.row.model == "cascade"
    }
    assert tuple(map(str, rows["(IV) (I) L(RHM) = 3"])) == (
        "scbench generate train imagenet --out generator/hough_length-3 --backbone vit_base_patch16_224 "
        "--weights ibot.pth --size 512 --set labels_from=network --set loop_radius=0.0 --set class_loss=literal "
        "--set pixel_loss=binary --set hough_share=0.0 --set views=1 --set optimiser=sgd --set lr=3e-05 "
        "--set weight_decay=0.0 --set batch=32 --set warmup=0 --set network.region_fold=1 --set network.window=4 "
        "--set network.hough_length=3 --set 'network.hough_scales=[1.0]' --set network.reading=similarity "
        "--set network.votes=relu",
        "scbench run cascade --checkpoint generator/hough_length-3/work/network/model --eval pf-pascal,pf-willow",
    )
    assert rows["(V) (I) L(RHM) = 5*"] == rows["(I) Full Procedure"]  # one run fills both


def test_a_pre_training_by_another_recipe_fills_no_cell(tmp_path):
    trained = {"data": PASCAL, "pretrain": "sc-imagenet", "finetune": "pf-pascal", "draws": 2}
    run = make_run(tmp_path, "r1", **trained)
    assert filled(build([run]))
    same = asdict(find_recipe("cats", "sc-imagenet"))
    for epochs, wanted in ((same["epochs"], True), (same["epochs"] + 1, False)):
        result = replace(run.result, pretrain_recipe={**same, "epochs": epochs})
        assert bool(filled(build([FoundRun(run.folder, result)]))) is wanted


def test_the_printed_training_of_the_generator_is_the_papers():
    """What the command line makes of it, weights and all that names files aside."""
    (row,) = (row.row for row in build([]).tables[3].rows if row.row.method == "(I) Full Procedure")
    options = preparation_for(row).options
    given = {"backbone": options["backbone"], "size": options["size"]}
    words = Command("", (), {"set": options["set"]}).words
    settings = settings_of([word for word in words if "=" in word])
    assert TrainingOptions.from_dict({**given, **nested(settings)}) == paper_options()


def test_predictions_in_the_other_direction_fill_no_cell(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmark.scoring.bundles.published", lambda model: None)  # written forward, as for any model
    run = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal", draws=2)
    monkeypatch.undo()
    assert run.result.direction == "forward"
    assert filled(build([run])) == []


def test_several_seeds_are_averaged_and_their_intervals_joined(tmp_path):
    runs = [
        make_run(tmp_path, f"r{seed}", data=PASCAL, finetune="pf-pascal", seed=seed, noise=noise)
        for seed, noise in enumerate((5, 10, 20))
    ]
    scores = [run.result.metrics["pf-pascal"]["pck@0.05/img@256/image"] for run in runs]
    cell = row_of(build(runs), 2, "CATs").cells[0]
    assert cell.measured.value == pytest.approx(sum(score["value"] for score in scores) / 3)
    assert cell.measured.low == min(score["low"] for score in scores)
    assert cell.measured.high == max(score["high"] for score in scores)
    assert cell.measured.runs == ("r0", "r1", "r2")


def test_a_board_holds_the_runs_on_the_same_pairs_best_first(tmp_path):
    runs = [
        make_run(tmp_path, "weak", data=[("toy", "test", 30)], noise=60),
        make_run(tmp_path, "strong", data=[("toy", "test", 30)], noise=4),
        make_run(tmp_path, "limited", data=[("toy", "test", 10)]),
        make_run(tmp_path, "other-split", data=[("toy", "validation", 30)]),
        make_run(tmp_path, "only-trained", data=[]),
    ]
    report = build(runs)
    boards = {(board.key, board.pairs): [entry.result.run for entry in board.entries] for board in report.boards}
    assert boards == {
        ("toy", 10): ["limited"],
        ("toy", 30): ["strong", "weak"],
        ("toy:validation", 30): ["other-split"],
    }
    assert [result.run for result in report.unscored] == ["only-trained"]
    assert report.boards[0].metrics[1] == Metric(0.1, "bbox-kp")
    for page in (to_html(report), to_markdown(report)):
        for run in runs:
            assert run.result.run in page


def test_runs_that_predict_the_other_way_are_never_ranked_together(tmp_path):
    data = [("toy", "test", 20)]
    runs = [
        make_run(tmp_path, "into-source", data=data, noise=60),
        make_run(tmp_path, "into-target", data=data, noise=4, model="nearest"),
    ]
    boards = build(runs).boards
    assert [(board.direction, [e.result.run for e in board.entries]) for board in boards] == [
        ("backward", ["into-source"]),
        ("forward", ["into-target"]),
    ]


def seeded(runs, seed, configuration, **fields):
    """A run with the configuration that a real one has beside it."""
    run = make_run(runs, f"{configuration['model']}-{seed}", data=[("toy", "test", 30)], seed=seed, **fields)
    (run.folder / "config.json").write_text(json.dumps({**configuration, "seed": seed}))
    return run


def test_runs_that_differ_in_their_seeds_alone_are_one_row(tmp_path):
    small, large = ({"model": "cats", "precision": precision} for precision in ("no", "bf16"))
    runs = [seeded(tmp_path, seed, small, noise=noise) for seed, noise in enumerate((9, 10, 12))]
    runs.append(seeded(tmp_path / "bf16", 3, large, noise=30))
    runs.append(make_run(tmp_path, "lost", data=[("toy", "test", 30)], seed=4, noise=9))  # no config.json
    (board,) = build(runs).boards
    assert sorted(setting.seeds for setting in board.settings) == [(0, 1, 2), (3,), (4,)]
    (grouped,) = (setting for setting in board.settings if len(setting.seeds) == 3)
    name = str(board.metrics[1])
    values = [run.result.metrics["toy"][name]["value"] for run in runs[:3]]
    assert grouped.scores[1].value == pytest.approx(statistics.mean(values))
    assert grouped.scores[1].spread == pytest.approx(statistics.stdev(values))
    cubes = [run.result.per_category["toy"][name]["cube"] for run in runs[:3]]
    assert grouped.categories["cube"] == pytest.approx(statistics.mean(cubes))
    at = ALPHAS.index(0.1)
    curves = [entry.curve[at] for entry in grouped.entries]
    assert grouped.curve[at] == pytest.approx(statistics.mean(curves))
    assert grouped.result.run == "cats-0"


def test_grouped_runs_say_how_many_and_each_stays_within_reach(tmp_path):
    runs = [seeded(tmp_path, seed, {"model": "cats"}, noise=noise) for seed, noise in enumerate((9, 10, 12))]
    runs.append(make_run(tmp_path, "single", data=[("toy", "test", 30)], noise=40))
    report = build(runs)
    mean = report.boards[0].settings[0].scores[1]
    for page in (to_html(report), to_markdown(report)):
        assert f"\N{PLUS-MINUS SIGN} {mean.spread:.1f}" in page
        assert "0, 1, 2 (n = 3)" in page
        assert page.count("n = 3") == 1
        for run in runs:
            assert run.result.run in page
    page = to_html(report)
    assert "The 4 runs one by one" in page
    assert re.search(r'data-runs="\d \d \d "[^>]*>3 runs</a>', page)
    assert "one by one" not in to_html(build(runs[-1:]))
    assert [line["run"] for line in csv.DictReader(io.StringIO(curves_csv(report)))] == [
        *("cats-0", "cats-1", "cats-2", "single")
    ]


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
    names = {"categories": (evil, "a|b"), "changes": (f"--x {evil}",), "title": evil, "backbone": evil}
    run = make_run(tmp_path, "r1", data=[("toy", "test", 8)], **names)
    report = build([run], [f"runs/{evil}: damaged"])
    page = Page(to_html(report))
    assert page.tags.count("script") == 1  # the page's own
    assert "".join(page.text).count(evil) >= 6  # category, change, title, backbone, command, problem
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    markdown = to_markdown(report)
    assert "<script" not in markdown
    assert "a\\|b" in markdown


def test_tables_of_the_page_are_complete(tmp_path):
    page = to_html(build([make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal", draws=2)]))
    for table in tables():
        part = Page(
            page[page.index(f'<section class="printed" id="table-{table.number}"') :].partition("</section>")[0]
        )
        heads = 1 if table.by_category else 2
        assert part.tags.count("tr") == len(table.rows) + heads
        extra = {1: 0, 2: 1, 3: 0, 4: 0, 5: 0}[table.number]  # supervision
        corner = 0 if table.by_category else 1 + extra
        assert part.tags.count("td") == len(table.rows) * (len(table.columns) + extra) + corner
        said = "".join(part.text)
        assert all(f"{value:.1f}" in said for row in table.rows for value in row.values if value is not None)


def test_what_is_incomplete_says_so_in_every_form(tmp_path, capsys):
    part = make_run(tmp_path, "part", data=[("spair-71k", "test", 35)], draws=2)
    whole = make_run(tmp_path, "whole", data=PASCAL, draws=2)
    report = build([part, whole])
    for part in lines_of(report):
        console().print(part)
    said = {"html": to_html(report), "md": to_markdown(report)}
    for text in (*said.values(), capsys.readouterr().out):
        assert "35 of 12,234 pairs" in text
        assert "PF-PASCAL, test split, 299 pairs" in text
    rows = list(csv.DictReader(io.StringIO(runs_csv(report))))
    assert {(row["data"], row["pairs"], row["published"]) for row in rows} == {
        ("spair-71k", "35", "12234"),
        ("pf-pascal", "299", "299"),
    }


def test_sheets_hold_every_figure(tmp_path):
    run = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal")
    result, report = run.result, build([run])
    cells = list(csv.DictReader(io.StringIO(tables_csv(report))))
    assert len(cells) == 4 * 4 + 17 * 7 + 15 * 19 + 7 * 4 + 6 * 4
    measured = [line for line in cells if line["measured"]]
    assert [line["runs"] for line in measured] == ["r1"] * 3
    value = result.metrics["pf-pascal"]["pck@0.05/img@256/image"]["value"]
    assert float(measured[0]["measured"]) == value
    assert float(measured[0]["difference"]) == pytest.approx(value - 75.4)
    assert measured[0]["metric"] == "pck@0.05/img@256/image"
    lines = list(csv.DictReader(io.StringIO(runs_csv(report))))
    assert {line["metric"]: float(line["value"]) for line in lines} == {
        name: score["value"] for name, score in result.metrics["pf-pascal"].items()
    }
    curves = list(csv.DictReader(io.StringIO(curves_csv(report))))
    assert [(line["run"], line["data"], line["protocol"]) for line in curves] == [("r1", "pf-pascal", "img/image")]
    assert float(curves[0]["0.1"]) == pytest.approx(result.metrics["pf-pascal"]["pck@0.1/img/image"]["value"], abs=1e-3)


def test_latex_holds_every_row_and_the_measured_cells(tmp_path):
    run = make_run(tmp_path, "r1", data=PASCAL, finetune="pf-pascal", draws=2)
    latex = to_latex(build([run]))
    value = run.result.metrics["pf-pascal"]["pck@0.1/img@256/image"]["value"]
    assert f"92.6 / \\textbf{{{value:.1f}}}" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 5
    for table in tables():
        part = latex.split(r"\label{tab:paper-")[table.number]
        rows = [line for line in part.splitlines() if line.endswith(r"\\") and "midrule" not in line]
        widths = {line.count(" & ") for line in rows if "multicolumn" not in line}
        assert widths == {len(table.columns)}
        assert len(rows) == len(table.rows) + (1 if table.by_category else 2)
    assert latex.count("{") == latex.count("}")
    assert "256 $\\times$ 256" in latex


def test_the_command_writes_all_formats_and_says_what_it_left_out(tmp_path):
    make_run(tmp_path / "runs", "r1", data=[("toy", "test", 8)])
    (tmp_path / "runs" / "cats" / "half").mkdir()
    (tmp_path / "runs" / "cats" / "half" / "config.json").write_text("{}")
    done = scbench("report", "--runs", tmp_path / "runs", "--out", tmp_path / "out", light=False)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"report.html", "report.md", "tables.tex", "tables.csv", "runs.csv", "curves.csv"}
    assert "Toy, test split, 8 of 300 pairs" in done.stdout
    assert "half: has no result.json" in done.stdout
    content = json.loads(scbench("report", "--runs", tmp_path / "runs", "--json", light=False).stdout)
    assert content["runs"] == 1
    assert len(content["problems"]) == 1


def test_what_is_wrong_with_runs_is_said_in_its_place_and_the_others_stand(tmp_path):
    """Half-written, of an older version, twice under one id, without predictions: none hides the others."""
    runs = tmp_path / "runs"
    good, bare, lost = (make_run(runs, name, data=[("toy", "test", 8)]) for name in ("good", "bare", "lost"))
    for run in (bare, lost):
        shutil.rmtree(run.folder / "predictions")
    (lost.folder / "curves.json").unlink()
    for name, content in (("half", None), ("older", {"version": 0}), ("cut", None)):
        (runs / "cats" / name).mkdir()
        (runs / "cats" / name / "config.json").write_text("{}")
        if content is not None:
            (runs / "cats" / name / "result.json").write_text(json.dumps(content))
    (runs / "cats/cut/result.json").write_text((good.folder / "result.json").read_text()[:200])
    shutil.copytree(good.folder, runs / "copied" / "good")
    done = scbench("report", "--runs", runs, "--out", tmp_path / "out", light=False)
    page, words = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    for line in (
        "cats/half: has no result.json: still running, or interrupted; run it again",
        "cats/older/result.json: is version 0 of results, this is 1. Run again: its predictions and weights are kept.",
        "cats/cut/result.json: is not valid JSON",
        "run good lies in",
    ):
        for text in (page.replace("&#39;", "'"), words, done.stdout.replace("\n", " ")):
            assert line in " ".join(text.split()), line
    content = json.loads(scbench("report", "--runs", runs, "--json", light=False).stdout)
    assert (content["runs"], len(content["problems"])) == (3, 4)
    assert [len(board["entries"]) for board in content["boards"]] == [3]
    gaps = {sheet["result"]["run"]: " ".join(sheet["problems"]) for sheet in content["sheets"]}
    assert "the predictions were deleted: no curve and no pictures for toy" in gaps["lost"]
    assert "the predictions were deleted: no pictures for toy" in gaps["bare"]
    assert gaps["lost"].removeprefix(str(runs)) in page
    assert gaps["good"] == ""


def test_reports_of_a_folder_of_runs(tmp_path):
    make_run(tmp_path / "runs", "r1", data=[("toy", "test", 8)])
    files = write_reports(tmp_path / "runs", tmp_path / "out")
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert "r1" in files[0].read_text()


def test_generated_sets_stand_in_the_report_with_the_true_errors_of_their_labels(tmp_path):
    folder = tmp_path / "generated" / "toy<set>"
    folder.mkdir(parents=True)
    counts = {"images": 640, "kept_images": 187, "classes": 10, "pairs": 1309, "points": 41_483}
    offsets = {"median_offset_matched": 11.5, "median_offset_selected": 9.2}
    options = {"backbone": "lite0", "size": 224, "network": None}
    (folder / "generation.json").write_text(json.dumps({"options": options, "counts": {**counts, **offsets}}))
    (folder / "label_errors.json").write_text(json.dumps({"points": 41_483, "PCK@0.1 of all": 57.14}))
    (tmp_path / "generated" / "half").mkdir()
    (tmp_path / "generated" / "half" / "generation.json").write_text('{"options": {}}')
    report = build_from(tmp_path)
    (made,) = report.generated
    assert made.how == "lite0 at 224 px, raw features with Hough scores"
    assert (made.counts["points"], made.errors["PCK@0.1 of all"]) == ("41,483", "57.1")
    assert "half" in report.problems[0]
    for written in (to_html(report), to_markdown(report)):
        assert "toy&lt;set" in written
        assert "57.1" in written
        assert "41,483" in written


def test_a_run_on_a_generated_set_keeps_its_name_and_fills_no_cell_of_the_released_one(tmp_path):
    released = make_run(tmp_path, "r1", data=PASCAL, pretrain="sc-imagenet", finetune="pf-pascal", draws=2)
    ours = make_run(tmp_path, "r2", data=PASCAL, pretrain="my-set", finetune="pf-pascal", draws=2)
    assert len(filled(build([released]))) == 3
    assert not filled(build([ours]))
    for run in (released, ours):
        stages = [{"dataset": name, "split": "train"} for name in (run.result.pretrain, "pf-pascal")]
        command = f"--pretrain {run.result.pretrain} --finetune pf-pascal"
        assert command in str(command_of(run.result, {"stages": stages}))


def test_mistakes_in_the_command_end_in_one_line(tmp_path):
    done = scbench("report", "--runs", tmp_path / "none", check=False, light=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no such folder of runs" in done.stderr
    done = scbench("report", "--runs", tmp_path, "--format", "htm", "--out", tmp_path / "out", check=False, light=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "Did you mean 'html'" in done.stderr
    assert not (tmp_path / "out").exists()
