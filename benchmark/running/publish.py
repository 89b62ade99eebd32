"""What ``scbench push`` uploads: a run's model or a data set's annotations, as a folder that can be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from baselines.checkpoints import load_checkpoint
from baselines.model_card import Score, Trained
from benchmark.running.folder import RunFolder
from benchmark.scoring.pck import strict_metrics
from benchmark.scoring.result import RESULT_FILE, Result, read_result
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import read_json, sha256_of
from sc_imagenet.data.publish import prepare_data


@dataclass(frozen=True)
class Prepared:
    """A folder that is ready to be uploaded as it is."""

    folder: Path
    kind: Literal["model", "dataset"]

    @property
    def files(self) -> dict[str, int]:
        """Bytes by path, relative to the folder."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in found}


def prepare(what: str, out: Path, repo: str, data_root: Path | None, licence: str | None) -> Prepared:
    """Write what would be uploaded into ``out``, which must be empty or not there.

    Args:
        what: a run's folder, or a data set: NAME, NAME:SPLIT, or the folder of a generated one.
        out: the folder.
        repo: what the card says it is loaded from.
        data_root: where data sets lie.
        licence: the Hub's identifier; None: "unknown" for weights, the catalogue's for data.

    Raises:
        InputError: neither a run nor a data set, or one that cannot or may not be published.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("is not an empty folder", where=out, fix="Give --out a new one.")
    if (Path(what) / RESULT_FILE).is_file():
        prepare_model(Path(what), out, repo, licence or "unknown")
        return Prepared(out, "model")
    if (Path(what) / "config.json").is_file() and not (Path(what) / "pairs").is_dir():
        raise InputError(f"has no {RESULT_FILE}, so it is not a finished run", where=what)
    prepare_data(what, out, repo=repo, root=data_root, licence=licence)
    return Prepared(out, "dataset")


def prepare_model(run: Path, out: Path, repo: str, licence: str) -> None:
    """Write the model of a run: weights, configuration, and a card with its training and its scores.

    Raises:
        InputError: the run was not trained here, or its weights are gone.
    """
    result = read_result(run)
    weights = weights_of(run, result)
    matcher, _ = load_checkpoint(result.model, weights)
    config = read_json(weights.parent.parent / "config.json")
    about = {
        "licence": licence,
        "trainings": [
            Trained(stage["dataset"], stage["split"], stage["manifest_sha256"], stage["recipe"])
            for stage in config["stages"]
        ],
        "scores": scores_of(result),
        "departs": result.changes,
        "seed": result.seed,
    }
    matcher.save_pretrained(out, repo_id=repo, model_card_kwargs=about)


def weights_of(run: Path, result: Result) -> Path:
    """The file of the weights that a run was scored with; a run of another direction shares those of its training.

    Raises:
        InputError: there is none.
    """
    if not (result.pretrain or result.finetune):
        raise InputError("was not trained, so there are no weights of it to publish", where=run)
    homes = [run, *(path for path in sorted(run.absolute().parent.iterdir()) if path.name != run.name)]
    for home in homes:
        file = RunFolder(home).best
        if file.is_file() and sha256_of(file) == result.weights_sha256:
            return file
    raise InputError("the weights of this run are gone", where=RunFolder(run).best, fix="Run it again.")


def scores_of(result: Result) -> list[Score]:
    """A run's scores under the strict protocol of each data set."""
    found = []
    for data in result.data:
        measured = result.metrics.get(data.key, {})
        for metric in strict_metrics(data.scored_as):
            if (score := measured.get(str(metric))) is not None:
                found.append(
                    Score(data.name, data.split, str(metric), **score, pairs=data.pairs, published=data.published)
                )
    return found
