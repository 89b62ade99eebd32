"""The states that interrupted trainings go on from, the runs' and the generator's; what is taken up trains on."""

from __future__ import annotations

import copy
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import datasets
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from PIL import Image

from baselines.cascade import Cascade
from baselines.matcher import Batch, Matcher
from baselines.recipe import Recipe
from benchmark.running.cascade import CascadeTraining, untrained
from benchmark.running.folder import RunFolder, RunLog
from benchmark.running.loop import MatcherTraining
from sc_imagenet.core.errors import InputError
from sc_imagenet.data.pairs import PairDataset
from sc_imagenet.data.schema import pair_features
from sc_imagenet.generation.cascade.options import NetworkOptions, TrainingOptions
from sc_imagenet.generation.cascade.training_pairs import StepDraws
from sc_imagenet.generation.cascade.view_features import Step, Views
from sc_imagenet.generation.features import Features
from tests.fuzz.mutations import odd_value, spoilt_text
from tests.fuzz.parser import Parser
from tests.fuzz.parsers.weights import _spoilt_pickle

STEPS = 4  # of a training; the seeds were left after two
CLASSES = (0, 0, 0, 1, 1, 1)  # of the cascade's images
NETWORK = NetworkOptions(
    attention_width=8, heads=2, token_projection=False, volume_width=8, volume_heads=2, volume_blocks=1, fold=2
)
OPTIONS = TrainingOptions(
    network=NETWORK, backbone="resnet10t", pretrained=False, size=64, optimiser="sgd", batch=2, candidates=4, pairs=2
)


class Shift(Matcher):
    """Carries all points by one learned shift."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 32
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(6, 2, 3), torch.nn.BatchNorm2d(2))

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([source, target], 1)).mean((2, 3))

    def loss(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        return (self.transfer(output, batch["source_points"]) - batch["target_points"]).norm(dim=-1).mean()

    def transfer(self, output: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        return points + output[:, None]


@lru_cache(maxsize=1)
def _rows() -> datasets.Dataset:
    pictures = io.BytesIO()
    Image.radial_gradient("L").resize((40, 30)).save(pictures, "PNG")
    image = {"bytes": pictures.getvalue(), "path": None}
    points = [[5.0, 6.0], [20.0, 9.0], [30.0, 21.0]]
    row = dict.fromkeys(pair_features(["x"])) | {"dataset": "made", "category": 0, "source": image, "target": image}
    row |= {"source_size": [40, 30], "target_size": [40, 30], "source_points": points, "target_points": points}
    rows = [{**row, "pair_id": str(number), "mirrored": False} for number in range(2)]
    return datasets.Dataset.from_list(rows, features=pair_features(["x"]))


def _run_training(folder: Path) -> MatcherTraining:
    torch.manual_seed(0)
    matcher = Shift()
    pairs = PairDataset(_rows(), 32, matcher.mean, matcher.std, seed=0)
    recipe = Recipe(lr=0.01, batch=2, epochs=STEPS)
    return MatcherTraining(
        matcher, recipe, pairs, RunFolder(folder), Accelerator(cpu=True), validate=lambda: 50.0, seed=0
    )


@lru_cache(maxsize=1)
def _cascade_at_start() -> tuple[Cascade, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    cascade = untrained(OPTIONS)
    return cascade, copy.deepcopy(cascade.network.state_dict())


class DrawnViews:
    """Views of random features, whole images all of them."""

    classes = CLASSES

    def steps(self, draws: StepDraws, start: int, stop: int, device: torch.device) -> Iterator[Step]:
        """The steps from ``start`` to before ``stop``."""
        channels = _cascade_at_start()[0].backbone.channels
        for number in range(start, stop):
            torch.manual_seed(number)
            yield Step(*(self._views(len(draws.at(number).source), channels, device) for _ in range(5)))

    def _views(self, count: int, channels: int, device: torch.device) -> Views:
        tokens = F.normalize(torch.randn(count, channels, 4, 4), dim=1)
        placements = torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(count, 4)
        features = Features(tokens.to(device), F.normalize(torch.randn(count, channels), dim=1).to(device))
        return Views(features, torch.ones(count, 16, device=device), placements.to(device))


def _cascade_training(folder: Path) -> CascadeTraining:
    cascade, start = _cascade_at_start()
    cascade.network.load_state_dict(start)
    folder.mkdir(parents=True, exist_ok=True)
    return CascadeTraining(OPTIONS, DrawnViews(), cascade, folder, Accelerator(cpu=True), {"images": 6}, STEPS)


def _left_run(folder: Path) -> Path:
    """A training of a run, left after two validated steps."""
    training = _run_training(folder)
    step = training._step

    def until(batch: dict[str, Any]) -> float:
        if training.position.step == 2:
            training._save()
            raise EOFError
        return step(batch)

    training._step = until  # type: ignore[method-assign]
    _until_left(training.run)
    return folder / "checkpoints" / "resume.pt"


def _left_cascade(folder: Path) -> Path:
    """A training of the cascade, left after two steps."""
    training = _cascade_training(folder)

    def report(what: str, done: int, total: int | None, note: str = "") -> None:
        if done == 2:
            training._save()
            raise EOFError

    _until_left(lambda: training.run(report))
    return folder / "resume.pt"


def _until_left(run: Callable[[], None]) -> None:
    try:
        run()
    except EOFError:
        return
    raise AssertionError("it was not left")


@lru_cache(maxsize=2)
def _left(how: Callable[[Path], Path]) -> dict[str, bytes]:
    """The files of a training that was left, by their path."""
    with tempfile.TemporaryDirectory() as name:
        how(Path(name))
        return {str(path.relative_to(name)): path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}


def _resumed(folder: Path, how: Callable[[Path], Path], file: str, content: bytes, run: Callable[[Path], int]) -> None:
    """Go on from a state; it ends after all steps, or the state is refused and still there."""
    place = folder / "training"
    shutil.rmtree(place, ignore_errors=True)
    for each, inside in {**_left(how), file: content}.items():
        (place / each).parent.mkdir(parents=True, exist_ok=True)
        (place / each).write_bytes(inside)
    try:
        assert run(place) == STEPS
    except InputError:
        assert (place / file).read_bytes() == content or file.endswith(".jsonl")
        raise


def _go_on_run(place: Path) -> int:
    training = _run_training(place)
    training.run()
    assert not (place / "checkpoints" / "resume.pt").exists()
    return training.position.step


def _go_on_cascade(place: Path) -> int:
    training = _cascade_training(place)
    training.run()
    return training.position.step


def _run(content: bytes, folder: Path) -> None:
    _resumed(folder, _left_run, "checkpoints/resume.pt", content, _go_on_run)


def _cascade(content: bytes, folder: Path) -> None:
    _resumed(folder, _left_cascade, "resume.pt", content, _go_on_cascade)


def _log(content: bytes, folder: Path) -> None:
    file = folder / "log.jsonl"
    file.write_bytes(content)
    RunLog(file, from_step=2).write(step=3)
    assert json.loads(file.read_text(encoding="utf-8").splitlines()[-1]) == {"step": 3}


def _log_seeds() -> list[bytes]:
    lines = [{"step": n, "loss": 1 / n, "lr": [0.1]} for n in range(1, 4)] + [{"step": 3, "validation_pck": 30.0}]
    return ["".join(f"{json.dumps(line)}\n" for line in lines).encode()]


def _spoilt_state(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """The file's bytes changed, or its values: a whole pickle that holds something else."""
    if rng.random() < 0.5:
        return _spoilt_pickle(rng, seeds)
    state = torch.load(io.BytesIO(rng.choice(seeds)), weights_only=True)
    for _ in range(rng.choice((1, 1, 2))):
        state = _changed(rng, state)
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _changed(rng: Random, value: Any) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        changed = dict(value)
        kind = rng.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.15:
            changed[rng.choice((-1, 0, 99, "", None, 2**70))] = value[key]
        else:
            changed[key] = _changed(rng, value[key])
        return changed
    if isinstance(value, torch.Tensor) and rng.random() < 0.8:
        return _odd_tensor(rng, value)
    return odd_value(rng)


def _odd_tensor(rng: Random, value: torch.Tensor) -> Any:
    number = value.detach().float()
    return rng.choice(
        (
            lambda: number * rng.choice((-1, 0, 1e30, float("nan"), float("inf"), -1e-30)),
            lambda: number[None],
            lambda: number.flatten()[:-1],
            lambda: number.to(rng.choice((torch.int8, torch.int64, torch.bool, torch.float16, torch.complex64))),
            lambda: torch.zeros(()).expand(2**33),
            lambda: torch.zeros(()).expand(value.shape),
            lambda: number.to_sparse() if number.dim() else number,
            lambda: torch.empty(value.shape, device="meta"),
            lambda: torch.nn.Parameter(number),
            lambda: number.tolist(),
        )
    )()


PARSERS = [
    Parser("resume-run", lambda: [_left(_left_run)["checkpoints/resume.pt"]], _run, _spoilt_state, 0.8),
    Parser("resume-cascade", lambda: [_left(_left_cascade)["resume.pt"]], _cascade, _spoilt_state, 0.8),
    Parser("resume-log", _log_seeds, _log, spoilt_text, 1),
]
