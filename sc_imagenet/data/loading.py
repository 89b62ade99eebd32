"""``load_dataset``: every data set by one name, without touching ``datasets``' own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.data import convert as conversion
from sc_imagenet.data.catalog import canonical, info
from sc_imagenet.sources.source import Options


def load_dataset(
    name: str,
    config: str | None = None,
    *,
    split: str | None = None,
    root: str | Path | None = None,
    streaming: bool = False,
    num_proc: int | None = None,
    **options: Any,
) -> Any:
    """A data set under the schema of ``sc_imagenet.data.schema``, as ``datasets`` gives it.

    ``load_dataset("toy")``, ``load_dataset("spair_71k", split="test")``, ``load_dataset("pf-willow:test")``.
    With ``split`` only the splits it names are converted and prepared; slices and sums ("test[:10]",
    "train+validation") work as in ``datasets``.

    Args:
        name: with hyphens or underscores; "toy" is short for ("sc_imagenet", "toy"); "NAME:SPLIT" works too.
        config: "pairs" (the default), for SC-ImageNet also "images" and "toy".
        split: without it, a dict of all splits the root holds.
        root: the data set's folder, or a folder that holds it; else ``SC_DATA_ROOT``.
        streaming: rows straight from Parquet, nothing prepared.
        num_proc: processes for converting and preparing.
        options: ``imagenet_dir``, ``voc_dir``, ``outside`` (see ``sources.Options``), and whatever else
            ``datasets.load_dataset`` takes.

    Raises:
        InputError: unknown name, or data missing or damaged, in one line.
    """
    from datasets import load_dataset as load
    from datasets.exceptions import DatasetGenerationError

    name, config, split = _resolve(name, config, split)
    ours = {key: options[key] for key in Options.__dataclass_fields__ if options.get(key) is not None}
    for key in ours:
        options[key] = str(options[key])
    wanted = None
    if split is not None:
        wanted = _names_of(split, name)
        for each in wanted:
            _convert(name, config, each, root, num_proc, ours)
        options["splits"] = ",".join(wanted)
    try:
        with _progress_only_on_a_terminal():
            return load(
                info(name).python_name,
                config,
                split=split,
                root=None if root is None else str(root),
                streaming=streaming,
                num_proc=None if streaming else num_proc,
                **options,
            )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, InputError):  # what our builder refused, wrapped by ``datasets``
            raise error.__cause__ from None
        raise


def manifest_sha256(
    name: str,
    split: str | None = None,
    root: str | Path | None = None,
    config: str | None = None,
    **options: Any,
) -> str:
    """The hash of a split's pairs and annotations that results quote; the same on every machine.

    It does not depend on where the images lie or whether they are at hand. Cheap once converted.
    """
    name, config, split = _resolve(name, config, split)
    if split is None:
        raise InputError(f"which split of {name}?", fix=f"One of: {', '.join(info(name).splits)}.")
    return _convert(name, config, split, root, None, options).manifest_sha256


@contextmanager
def _progress_only_on_a_terminal() -> Iterator[None]:
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    quiet = not sys.stderr.isatty() and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        yield
    finally:
        if quiet:
            enable_progress_bars()


def _resolve(name: str, config: str | None, split: str | None) -> tuple[str, str, str | None]:
    name, _, after = name.partition(":")
    if after and split is not None:
        raise InputError(f"the split is given twice, ':{after}' and split={split!r}")
    name = canonical(name)
    if name == "toy":
        if config not in (None, "pairs", "toy"):
            raise unknown_name("config of toy", config, ["pairs"])
        name, config = "sc-imagenet", "toy"
    configs = info(name).configs
    if config is not None and config not in configs:
        raise unknown_name(f"config of {name}", config, configs)
    return name, config or configs[0], after or split


def _convert(name: str, config: str, split: str, root: Any, num_proc: int | None, options: Any) -> Any:
    if config == "toy":
        return conversion.convert("toy", split, num_proc=num_proc)
    return conversion.convert(name, split, root, num_proc, config=config, **options)


def _names_of(split: str, name: str) -> list[str]:
    """The splits that an expression such as "train[:10%]+test" names, each once.

    >>> _names_of("train[:10%]+test", "spair-71k")
    ['train', 'test']
    """
    names = [re.split(r"[\[(]", part.strip())[0] for part in str(split).split("+")]
    return list(info(name).splits) if names == ["all"] else list(dict.fromkeys(names))
