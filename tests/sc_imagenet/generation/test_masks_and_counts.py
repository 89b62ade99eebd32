"""Saliency and counting, whatever they come from."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.ops import nms
from torchvision.transforms.functional import to_tensor

from sc_imagenet.core.errors import InputError
from sc_imagenet.data.roots import open_source
from sc_imagenet.generation import onnx_trial
from sc_imagenet.generation.counting import (
    OVERLAP,
    SURE,
    MaskCounter,
    count_objects,
    count_regions,
    open_counter,
)
from sc_imagenet.generation.feature_masks import FOREGROUND, feature_masks
from sc_imagenet.generation.features import Features
from sc_imagenet.generation.photographs import Photograph
from sc_imagenet.generation.saliency import onnx_input, onnx_mask, open_saliency
from tests import PATIENCE

ROWS = [Photograph(f"cat/{name}.jpg", "cat", "0", 64, 48) for name in ("a", "b")]
FEATURES = Features(torch.zeros(2, 4, 6, 6), torch.zeros(2, 4))


def test_what_differs_from_the_border_is_foreground():
    draw = torch.Generator().manual_seed(0)
    around, thing = (F.normalize(torch.randn(32, generator=draw), dim=0) for _ in range(2))
    tokens = around.view(32, 1, 1).repeat(1, 12, 12)
    tokens[:, 4:8, 3:9] = thing.view(32, 1, 1)
    tokens = F.normalize(tokens + 0.05 * torch.randn(tokens.shape, generator=draw), dim=0)
    mask = feature_masks(tokens[None])[0]
    assert mask.min() >= 0
    assert mask.max() <= 1
    inside = torch.zeros(12, 12, dtype=torch.bool)
    inside[4:8, 3:9] = True
    assert torch.equal(mask >= FOREGROUND, inside)


def test_masks_of_a_folder_are_averaged_over_the_cells(tmp_path):
    (tmp_path / "cat").mkdir()
    pixels = np.zeros((48, 64), np.uint8)
    pixels[:, :32] = 255
    for name in ("a.png", "b.jpg.png"):
        Image.fromarray(pixels).save(tmp_path / "cat" / name)
    masks = open_saliency(str(tmp_path)).masks(Path(), ROWS, FEATURES)
    assert masks.shape == (2, 6, 6)
    assert (masks[:, :, :3] == 1).all()
    assert (masks[:, :, 3:] == 0).all()


def test_one_mask_is_not_taken_for_two_photographs(tmp_path):
    both = [Photograph(f"cat/a.{ending}", "cat", "0", 64, 48) for ending in ("jpg", "png")]
    (tmp_path / "cat").mkdir()
    Image.new("L", (64, 48), 255).save(tmp_path / "cat" / "a.png")
    with pytest.raises(InputError, match=r"a\.png: is the mask of both cat/a\.jpg and cat/a\.png"):
        open_saliency(str(tmp_path)).content(both)
    for each, level in zip(both, (255, 0)):
        Image.new("L", (64, 48), level).save(tmp_path / f"{each.path}.png")
    masks = open_saliency(str(tmp_path))
    assert len(set(masks.content(both))) == 2
    assert masks.masks(Path(), both, FEATURES).mean((1, 2)).tolist() == [1, 0]


def test_a_missing_mask_and_an_unknown_kind_of_masks_are_said(tmp_path):
    with pytest.raises(InputError, match=r"holds no mask cat/a\.png"):
        open_saliency(str(tmp_path)).masks(Path(), ROWS, FEATURES)
    with pytest.raises(InputError, match="neither 'features' nor a folder"):
        open_saliency("nothing")


@pytest.mark.parametrize(
    ("side", "brightest", "darkest"),
    [
        (320, (1 - 0.485) / 0.229, (0 - 0.485) / 0.229),  # U2-Net: of the brightest pixel, then ImageNet's
        (1024, 100 / 255 - 0.5, -0.5),  # IS-Net
    ],
)
def test_pixels_are_scaled_as_the_saliency_network_was_trained(side, brightest, darkest):
    dim = np.zeros((60, 80, 3), np.uint8)
    dim[:, 40:] = 100
    given = onnx_input(Image.fromarray(dim), (side, side))
    assert given.shape == (1, 3, side, side)
    assert given.dtype == np.float32
    assert given[0, 0].max() == pytest.approx(brightest, abs=1e-6)
    assert given[0, 0].min() == pytest.approx(darkest, abs=1e-6)


def test_the_mask_is_the_first_output_of_one_channel_stretched_and_logits_pass_a_sigmoid():
    side_output = np.full((1, 1, 2, 2), 0.9, np.float32)
    fused = np.array([[[[0.1, 0.3], [0.2, 0.5]]]], np.float32)
    deep = np.zeros((1, 64, 2, 2), np.float32)
    assert onnx_mask([deep, fused, side_output]) == pytest.approx(np.array([[0, 0.5], [0.25, 1]]))
    logits = np.array([[[[-20.0, 0.0], [20.0, 20.0]]]], np.float32)
    assert onnx_mask([logits]) == pytest.approx(np.array([[0, 0.5], [1, 1]]), abs=1e-6)
    with pytest.raises(InputError, match="gives no mask"):
        onnx_mask([deep])


def test_what_is_no_onnx_model_is_one_clear_error(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"broken\.onnx: (is not an ONNX saliency model|onnxruntime is needed)"):
        open_saliency(str(tmp_path / "broken.onnx"))


@pytest.mark.parametrize(
    ("does", "seconds", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", PATIENCE, r"ends the process of onnxruntime \(SIGSEGV\)"),
        (f"time.sleep({PATIENCE})", 1, "has not made a mask after 1 s"),
        ("print(json.dumps('not one'))", PATIENCE, "not one"),
    ],
)
def test_what_a_model_does_to_its_process_is_told(tmp_path, monkeypatch, does, seconds, said):
    monkeypatch.setattr(onnx_trial, "START", f"import json, os, signal, time; {does}")
    monkeypatch.setattr(onnx_trial, "SECONDS", float(seconds))
    (tmp_path / "a.onnx").write_bytes(b"model")
    with pytest.raises(onnx_trial.Refused, match=said):
        onnx_trial.try_model(tmp_path / "a.onnx")


def test_a_model_whose_weights_lie_in_other_files_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x0a\x08location\x12\x0b/etc/passwd")
    with pytest.raises(onnx_trial.Refused, match="names other files"):
        onnx_trial.try_model(tmp_path / "a.onnx")


def test_a_mask_that_is_empty_or_not_finite_is_refused():
    for mask in (np.full((1, 1, 2, 2), np.nan), np.zeros((1, 1, 0, 4), np.float32)):
        with pytest.raises(InputError, match="empty or not finite"):
            onnx_mask([mask])


@pytest.mark.parametrize(("second", "expected"), [(4, 2), (1, 1)])
def test_a_second_region_counts_if_it_is_not_much_smaller(second, expected):
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = True
    mask[12 : 12 + second, 12:15] = True
    assert count_regions(mask) == expected


def test_a_mask_of_nothing_or_everything_shows_no_object():
    assert MaskCounter().counts(Path(), ROWS, torch.stack([torch.zeros(9, 9), torch.ones(9, 9)])) == [0, 0]


def test_counts_are_read_from_a_file(tmp_path):
    path = tmp_path / "counts.csv"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):  # the latter two from Windows
        path.write_bytes("path,objects\r\ncat/a.jpg,1\r\ncat/b.jpg,3\r\n".encode(encoding))
        assert open_counter(str(path)).counts(Path(), ROWS, torch.zeros(2, 1, 1)) == [1, 3]
    short = tmp_path / "short.csv"
    short.write_text("path,objects\ncat/a.jpg,1\n")
    with pytest.raises(InputError, match=r"no line for cat/b\.jpg"):
        open_counter(str(short)).counts(Path(), ROWS, torch.zeros(2, 1, 1))
    wrong = tmp_path / "wrong.csv"
    for text in ("many", "nan", "inf", "-1"):
        wrong.write_text(f"path,objects\ncat/a.jpg,{text}\n")
        with pytest.raises(InputError, match=f"line 2: '{text}' is not a count"):
            open_counter(str(wrong))


def test_a_detector_without_its_weights_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match="no such file of weights"):
        open_counter(str(tmp_path / "absent.pth"))
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="fasterrcnn_resnet50_fpn"):
        open_counter(str(tmp_path / "other.pth"))


def test_a_detector_counts_on_photographs_what_torchvisions_own_pass_finds(tmp_path):
    """COCO's weights are not at hand: those that training begins with, and one class that some regions are sure of."""
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    torch.manual_seed(0)
    net = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    predictor = net.roi_heads.box_predictor
    with torch.no_grad():  # one class, so that there are no unknown objects, which torchvision does not look for
        predictor.cls_score.weight[0] = 0
        predictor.cls_score.weight[2:] = 0
        predictor.cls_score.bias[:] = torch.tensor([0.0, 0.0, *[-20.0] * 89])
    torch.save(net.state_dict(), tmp_path / "detector.pth")
    counter = open_counter(str(tmp_path / "detector.pth"))
    root, categories = open_source("toy").photographs()
    if "SC_DATA_ROOT" in os.environ:
        root, categories = Path(os.environ["SC_DATA_ROOT"]) / "caltech-101", ["dalmatian", "panda"]
    files = [min((root / name).iterdir()) for name in categories[:2]]
    rows = [Photograph(str(file.relative_to(root)), file.parent.name, "0", 160, 120) for file in files]
    net = fasterrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=91,
        box_score_thresh=SURE,
        box_nms_thresh=OVERLAP,
        box_detections_per_img=10_000,
    ).eval()
    net.load_state_dict(torch.load(tmp_path / "detector.pth", weights_only=True))
    expected = []
    for file in files:
        with torch.inference_mode():
            found = net([to_tensor(Image.open(file).convert("RGB"))])[0]
        expected.append(len(nms(found["boxes"], found["scores"], OVERLAP)))
    assert counter.counts(root, rows, torch.zeros(2, 1, 1)) == expected
    assert min(expected) > 0


def test_sure_and_unknown_objects_are_counted_once_each_and_background_is_not():
    logits = torch.zeros(5, 4)
    logits[0, 1] = 12  # a sure object
    logits[1, 2] = 12  # the same region as another class
    logits[2, 1:] = 7  # much energy, no sure class: an object that is not known
    logits[3, 0] = 12  # background
    places = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 9], [30, 30, 40, 40], [60, 0, 70, 9], [0, 60, 9, 70]])
    boxes = places.float()[:, None].expand(-1, 4, -1)
    assert count_objects(logits, boxes) == 2
    assert count_objects(torch.zeros(5, 4), boxes) == 0
