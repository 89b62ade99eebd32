"""A cell of the paper's tables is filled by a run that is what the paper did, and by no other."""

from dataclasses import asdict, replace

import pytest

from baselines import registry
from baselines.registry import find_recipe
from benchmark.report.contents import build
from benchmark.report.paper_tables import tables
from benchmark.report.reproduction import preparation_for
from benchmark.report.run_details import command_of
from benchmark.scoring.result import EvaluatedData
from benchmark.scoring.runs import FoundRun
from sc_imagenet.core.command import Command, nested, settings_of
from sc_imagenet.generation.cascade.options import TrainingOptions, paper_options
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
    assert [entry.result.run for board in report.leaderboards for entry in board.entries] == ["r1"]


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
        "--weights ibot.pth --size 512 --set pooling=1.0 --set standardise=false "
        "--set order=jointly --set image_trains=all --set region_loss=class "
        "--set held_out=0 --set loop_radius=0.0 --set class_loss=literal --set pixel_loss=binary --set hough_share=0.0 "
        "--set views=1 --set optimiser=sgd --set lr=3e-05 --set weight_decay=0.0 --set batch=32 "
        "--set schedule=constant --set warmup=0 --set network.region_fold=1 "
        "--set network.window=4 --set network.hough_length=3 --set 'network.hough_scales=[1.0]' "
        "--set network.reading=similarity --set network.votes=relu --set network.balanced=false "
        "--set network.joined=false",
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
    for place in ("tests.benchmark.runs", "benchmark.scoring.pck"):
        monkeypatch.setattr(f"{place}.published_protocol", lambda model: None)  # written forward, as for any model
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


def test_a_run_on_a_generated_set_keeps_its_name_and_fills_no_cell_of_the_released_one(tmp_path):
    released = make_run(tmp_path, "r1", data=PASCAL, pretrain="sc-imagenet", finetune="pf-pascal", draws=2)
    ours = make_run(tmp_path, "r2", data=PASCAL, pretrain="my-set", finetune="pf-pascal", draws=2)
    assert len(filled(build([released]))) == 3
    assert not filled(build([ours]))
    for run in (released, ours):
        stages = [{"dataset": name, "split": "train"} for name in (run.result.pretrain, "pf-pascal")]
        command = f"--pretrain {run.result.pretrain} --finetune pf-pascal"
        assert command in str(command_of(run.result, {"stages": stages}))
