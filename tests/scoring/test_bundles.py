"""Bundles of metrics are those of the published codes."""

import pytest

from baselines import registry
from baselines.protocol import PublishedProtocol
from benchmark.scoring import pck
from benchmark.scoring.pck import METRIC_AVERAGES
from benchmark.scoring.protocol import published_protocol
from sc_imagenet.core.errors import InputError


@pytest.mark.parametrize(
    ("dataset", "model", "middle"),
    [
        ("pf-pascal", "cats", "pck@0.1/img@256/image"),
        ("pf_pascal", "vat", "pck@0.1/img@512/image"),
        ("pf-pascal", "ncnet", "pck@0.1/img@224/image"),
        ("pf-pascal", "hpf", "pck@0.1/img/image"),
        ("spair-71k", "scorrsan", "pck@0.1/bbox@256/image"),
        ("spair-71k", "dhpf", "pck@0.1/bbox@240/image"),
        ("pf-pascal", "dhpf_weak", "pck@0.1/img@240/image"),
        ("pf-willow", "semimatch", "pck@0.1/bbox-padded@256/image"),
        ("pf-willow", "transformatcher", "pck@0.1/bbox-padded2@240/image"),
        ("pf-willow", "nearest", "pck@0.1/bbox-padded@320/image"),
        ("toy", "nearest", "pck@0.1/bbox-kp@320/image"),
    ],
)
def test_paper(dataset, model, middle):
    low, found, high = pck.paper_metrics(dataset, model, 320)
    assert str(found) == middle
    assert (low.alpha, high.alpha) == (0.05, 0.15)


@pytest.mark.parametrize(
    ("model", "pascal", "willow"),
    [
        ("cnngeo", "pck@0.1/img@224/image", "pck@0.1/bbox-kp/image"),
        ("weakalign", "pck@0.1/img@224/image", "pck@0.1/bbox-kp/image"),
        ("a2net", "pck@0.1/img/image", "pck@0.1/bbox-kp/image"),
        ("proposalflow", "pck@0.1/img/image", "pck@0.1/bbox-kp/image"),
    ],
)
def test_the_box_around_the_points_of_pf_willow_is_taken_in_original_pixels(model, pascal, willow):
    protocol = registry.card(model).protocol
    found = [pck.paper_metrics(dataset, model, 240, protocol)[1] for dataset in ("pf-pascal", "pf-willow")]
    assert [str(metric) for metric in found] == [pascal, willow]
    assert protocol.direction == ("forward" if model == "proposalflow" else "backward")


@pytest.mark.parametrize(
    ("dataset", "threshold"),
    [("pf-pascal", "img"), ("pf-willow", "bbox-kp"), ("spair-71k", "bbox"), ("toy", "bbox-kp")],
)
def test_strict_is_in_original_pixels_and_never_legacy(dataset, threshold):
    for metric in pck.strict_metrics(dataset):
        assert (metric.threshold, metric.frame, metric.average, metric.legacy) == (threshold, None, "image", False)


@pytest.mark.parametrize("dataset", ["pf-pascal", "pf-willow", "spair-71k", "toy", "sc-imagenet", "diy-sc"])
def test_all_holds_the_others_and_each_metric_once(dataset):
    everything = pck.every_metric(dataset, "cats", 256)
    assert {*pck.strict_metrics(dataset), *pck.paper_metrics(dataset, "cats")} <= set(everything)
    assert len(everything) == len(set(everything))
    assert {metric.average for metric in everything} == set(METRIC_AVERAGES)
    assert {metric.frame for metric in everything} == {None, 256}
    assert any(metric.legacy for metric in everything) == (dataset == "pf-willow")
    assert all(m.threshold != "bbox" for m in pck.every_metric(dataset, "cats", 256, boxes=False))


def test_older_predictions_are_scored_as_the_models_files_say():
    cards = {card.name: card.protocol for card in registry.cards() if card.protocol is not None}
    known = {name: protocol for name, protocol in cards.items() if published_protocol(name) is not None}
    assert len(known) == 9
    assert {name: published_protocol(name) for name in known} == known


def test_what_predictions_tell_of_their_protocol_counts_before_the_model_s_name():
    told = PublishedProtocol(100, "forward", padded="bbox-padded2")
    assert str(pck.paper_metrics("pf-willow", "cats", 256, told)[1]) == "pck@0.1/bbox-padded2@100/image"
    assert {metric.frame for metric in pck.every_metric("pf-willow", "cats", 256, protocol=told)} == {None, 100}


def test_unknown_names_are_refused_with_the_valid_ones():
    with pytest.raises(InputError, match="Did you mean 'strict'"):
        pck.bundle("strickt", "toy", "cats")
    with pytest.raises(InputError, match="unknown data set"):
        pck.bundle("strict", "pf-pascel", "cats")
