"""``load_dataset``: every data set by one name, through the one builder that reads its Parquet."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from datasets.load import BuilderConfigsParameters, DatasetModule

from sc_imagenet.core.errors import InputError, unknown_name
from sc_imagenet.data import convert as conversion
from sc_imagenet.data.catalog import catalog, configs_of, info
from sc_imagenet.data.convert import available_splits, convert_source
from sc_imagenet.data.record import Record
from sc_imagenet.data.roots import open_source
from sc_imagenet.data.schema import SCHEMA_VERSION, upright_images
from sc_imagenet.data.shards import SHARD_ROWS, features_of, open_parquet, read_batches
from sc_imagenet.sources.source import SourceOptions

# The one ``datasets`` builder of every data set; it reads the Parquet that ``convert`` makes or a root has.
#
# Reached through ``sc_imagenet.data.datasets_plugin`` or ``sc_imagenet.load_dataset``. Building a config converts its
# annotations if that was not done before, since the cache of ``datasets`` is keyed by their content.

logger = logging.getLogger(__name__)
VERSION = "1.0.0"  # of the rows the builder makes, not of the data

# `datasets` replaces open, os.path and a dozen readers in a builder's module so that they take URLs, and
# imports scipy and pandas for it (0.4 s). Here only local files are read; this says that it was done.
_patched_for_streaming = True


@dataclass
class PairsConfig(datasets.BuilderConfig):
    """What ``load_dataset(name, config, ...)`` takes for our data sets; also see ``sources.Options``.

    root     the data set's folder, or a folder that holds it; else ``SC_DATA_ROOT``
    splits   read these splits only, ','-separated; by default all that the root holds
    """

    data_set: str = ""
    root: str | None = None
    imagenet_dir: str | None = None
    voc_dir: str | None = None
    outside: str | None = None
    splits: str | None = None

    def create_config_id(self, config_kwargs: dict, custom_features: Any = None) -> str:
        """The config's name and a hash of the content read and of where its images lie."""
        self.records, self.image_root = self._read()
        digest = hashlib.sha256(f"{self.image_root}\n{custom_features}\nschema {SCHEMA_VERSION}".encode())
        for record in self.records:
            digest.update(f"{record.split}={record.content_sha256}\n".encode())
        return f"{self.name}-{digest.hexdigest()[:20]}"

    def _read(self) -> tuple[list[Record], str]:
        options = SourceOptions(self.imagenet_dir, self.voc_dir, self.outside)  # type: ignore[arg-type]
        source = open_source(_read_of(self.data_set, self.name), self.root, options)
        found = available_splits(source)
        if self.splits is not None:
            wanted = [split.strip() for split in self.splits.split(",")]
            for split in wanted:
                if split not in found:
                    raise unknown_name(f"split of {source.name}", split, found)
        else:
            wanted = [split for split, reason in found.items() if reason is None]
            for split, reason in found.items():
                if wanted and reason is not None:
                    logger.warning("'%s' of %s is left out: %s", split, info(source.name).title, reason)
            wanted = wanted or list(found)[:1]  # none can be read: the first says why
        config = "images" if self.name == "images" else "pairs"
        records = [convert_source(source, split, config) for split in wanted]
        different = [record.split for record in records if record.categories != records[0].categories]
        if different:
            raise InputError(
                f"the splits {records[0].split} and {different[0]} have different classes",
                where=source.root,
                fix="Read them one by one, with splits='NAME'.",
            )
        # Where no images are at hand their paths still tell where they belong: never the working directory.
        images = source.image_root() or source.root / "JPEGImages"
        return records, str(images.absolute())


class Pairs(datasets.ArrowBasedBuilder):
    """Builder of pairs and of image listings."""

    BUILDER_CONFIG_CLASS = PairsConfig
    # The batches of the prepared file are walked through when it is opened: few large ones open fast, and
    # touch few pages of it.
    DEFAULT_WRITER_BATCH_SIZE = SHARD_ROWS
    config: PairsConfig

    @property
    def info(self) -> datasets.DatasetInfo:
        """What is known of the data set; where ``datasets`` reads it from its cache, its images are ours again."""
        return self._known

    @info.setter
    def info(self, known: datasets.DatasetInfo) -> None:
        known.features = upright_images(known.features)
        self._known = known

    def _info(self) -> datasets.DatasetInfo:
        entry = info(_read_of(self.config.data_set, self.config.name))
        manifests = ", ".join(f"{record.split} {record.manifest_sha256}" for record in self.config.records)
        return datasets.DatasetInfo(
            description=f"{entry.title} ({entry.paper}). Manifests: {manifests}",
            homepage=entry.homepage,
            license=entry.licence,
            features=features_of(self.config.name, self.config.records[0].categories),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(
                name=record.split,
                gen_kwargs={
                    "files": [str(file) for file in record.files],
                    "image_root": self.config.image_root,
                },
            )
            for record in self.config.records
        ]

    def _generate_tables(self, files: list[str], image_root: str) -> Iterator[tuple[Any, pa.Table]]:
        schema = self.info.features.arrow_schema
        for number, file in enumerate(files):
            for part, table in enumerate(read_batches(open_parquet(Path(file)), schema, Path(file))):
                yield (number, part), _with_absolute_paths(table, image_root)


def _with_absolute_paths(table: pa.Table, image_root: str) -> pa.Table:
    for column in ("source", "target", "image"):
        index = table.schema.get_field_index(column)
        if index < 0:
            continue
        image = table[column].combine_chunks()
        path = pc.struct_field(image, "path")
        joined = pc.binary_join_element_wise(image_root, path, "/")
        joined = pc.if_else(pc.starts_with(path, "/"), path, joined)
        whole = pa.StructArray.from_arrays(
            [pc.struct_field(image, "bytes"), joined], fields=list(image.type), mask=image.is_null()
        )
        table = table.set_column(index, table.schema.field(index), whole)
    return table


def dataset_module(name: str, data_dir: Any = None, data_files: Any = None) -> DatasetModule:
    """What ``datasets`` needs to know of one of our data sets to build it.

    Raises:
        InputError: ``data_dir`` or ``data_files`` was given, which are not how our roots are named.
    """
    if data_dir is not None or data_files is not None:
        raise InputError(
            f"data_dir and data_files are not read by {name}",
            fix="Give the data set's folder as root=FOLDER.",
        )
    entry = info(name)
    configs = [
        PairsConfig(name=config, version=datasets.Version(VERSION), data_set=entry.name) for config in configs_of(name)
    ]
    return DatasetModule(
        module_path=__name__,
        hash=VERSION,
        builder_kwargs={"dataset_name": entry.python_name},
        builder_configs_parameters=BuilderConfigsParameters(
            builder_configs=configs, default_config_name=entry.configs[0]
        ),
    )


# ``load_dataset``: every data set by one name, without touching ``datasets``' own.


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
    stated = {key: options[key] for key in SourceOptions.__dataclass_fields__ if options.get(key) is not None}
    for key in stated:
        options[key] = str(options[key])
    wanted = None
    if split is not None:
        wanted = _names_of(split, name)
        for each in wanted:
            _convert(name, config, each, root, num_proc, stated)
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
    entry = info(name)
    if entry.config_of is not None:
        if config is not None and config not in (entry.name, *entry.configs):
            raise unknown_name(f"config of {entry.name}", config, entry.configs)
        return entry.config_of, entry.name, after or split
    configs = configs_of(entry.name)
    if config is not None and config not in configs:
        raise unknown_name(f"config of {entry.name}", config, configs)
    return entry.name, config or configs[0], after or split


def _read_of(data_set: str, config: str) -> str:
    """The data set that a config reads: another one, where that is known as a config of ``data_set``."""
    found = catalog().get(config)
    return config if found is not None and found.config_of == data_set else data_set


def _convert(name: str, config: str, split: str, root: Any, num_proc: int | None, options: Any) -> Any:
    if (read := _read_of(name, config)) != name:
        return conversion.convert(read, split, num_proc=num_proc)
    return conversion.convert(name, split, root, num_proc, config=config, **options)


def _names_of(split: str, name: str) -> list[str]:
    """The splits that an expression such as "train[:10%]+test" names, each once.

    >>> _names_of("train[:10%]+test", "spair-71k")
    ['train', 'test']
    """
    names = [re.split(r"[\[(]", part.strip())[0] for part in str(split).split("+")]
    return list(info(name).splits) if names == ["all"] else list(dict.fromkeys(names))
