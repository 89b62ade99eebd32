"""The one interface of every model."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from huggingface_hub import ModelCard
from torch import Tensor, nn

from baselines.model_card import Registered, model_card
from baselines.weights import CARD, CONFIG, FILES, WEIGHTS, PublishedWeights, load_strictly, read_config, write_model
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path
from sc_imagenet.core.hub import fetch_repository, upload
from sc_imagenet.data.feature_folder import FeatureFolder
from sc_imagenet.data.tensor_files import read_state
from sc_imagenet.geometry.resize import Frame

Own = TypeVar("Own", bound="Matcher")

Direction = Literal["forward", "backward"]
Batch = Mapping[str, Any]
Features = Sequence[Tensor]  # of B images, which lie along the first dimension of each tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Matcher(nn.Module):
    """A model that transfers points from one image of a pair to the other.

    A child sets these and writes ``encode``, ``match``, ``transfer`` and, if it is trained, ``loss``;
    ``baselines/nearest.py`` is the shortest example. Whoever matches many pairs of few images encodes each image
    once. A network that sees both images from its first layer on writes ``forward`` in place of ``encode`` and
    ``match``. A training scheme that needs more than one forward pass a step (negative pairs, two networks, several
    views) writes ``training_loss`` instead of ``loss``.

    size        side S of the square images it is made for; points are in pixels of that S x S frame
    direction   "forward": points of the source are transferred to the target; "backward": target to source
    keep_aspect images keep their shape in the S x S frame (see ``sc_imagenet/geometry/resize.py``), not filling it
    mean, std   normalisation of the RGB input in [0, 1]
    backbone    the part trained at the recipe's ``backbone_lr``, or frozen; None if there is none
    training_arguments  names of constructor arguments that only training reads, kept as attributes of these names:
                each stage of a run sets them as its own recipe has them
    match_arguments  names of constructor arguments that ``encode`` does not depend on: features kept on disk
                serve whatever their values
    match_weights  how the names of weights begin that ``encode`` does not read: likewise
    trains_on_features  whether ``training_loss`` takes its features from ``features_of`` and looks at no image: where
                the encoder is frozen and images are not augmented, they are then encoded once
    feature_folder  features of images that another program made: they are read by the images' names, and
                ``from_array`` takes them where ``encode`` would take the image

    Constructor arguments are plain JSON values, so that ``save_pretrained`` can keep them. ``from_pretrained``
    is strict, and fetches no weights for the backbone: those saved with the model are complete.
    """

    size: int
    direction: Direction = "forward"
    keep_aspect: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    backbone: nn.Module | None  # no value here: a class attribute would hide the child's module
    training_arguments: ClassVar[tuple[str, ...]] = ()
    match_arguments: ClassVar[Sequence[str]] = ()
    match_weights: ClassVar[tuple[str, ...]] = ()
    trains_on_features: ClassVar[bool] = False
    feature_folder: FeatureFolder | None = None
    card: ClassVar[Registered | None] = None  # set by ``registry.register``
    published: ClassVar[PublishedWeights | None] = None  # how the authors' files of weights are read
    _arguments: dict[str, Any]

    def __new__(cls, *given: Any, **named: Any) -> Matcher:
        """Keeps what it is built with; called without any of it by ``copy.deepcopy``, which fills it in."""
        matcher = super().__new__(cls)
        _, *parameters = inspect.signature(cls.__init__).parameters.values()
        by_default = {each.name: each.default for each in parameters if each.default is not each.empty}
        matcher.__dict__["_arguments"] = {**by_default, **dict(zip((each.name for each in parameters), given)), **named}
        return matcher

    def __init__(self) -> None:
        super().__init__()
        self.backbone = None

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was built with, constructor arguments by name; whether weights were fetched is not kept.

        Those that only training reads have the values of its last stage, and ``size`` is the side that images have, be
        it another than was asked for (see ``Backbone.size``).
        """
        kept = {name: value for name, value in self._arguments.items() if name != "pretrained"}
        named = [*self.training_arguments, "size"]
        return {**kept, **{name: getattr(self, name) for name in named if name in kept}}

    def set_training_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Set those of ``training_arguments`` that are among ``arguments``, as a stage's recipe has them.

        Raises:
            InputError: see ``check_training_arguments``.
        """
        for name in self.training_arguments:
            if name in arguments:
                setattr(self, name, arguments[name])
        self.check_training_arguments()

    def check_training_arguments(self) -> None:
        """A model that cannot be trained with some of their values says so.

        Raises:
            InputError: one of these.
        """

    @property
    def frame(self) -> Frame:
        """How images lie in the squares that it is given."""
        return Frame(self.size, self.keep_aspect)

    def encode(self, images: Tensor) -> Features:
        """What ``match`` needs of normalised images (B, 3, S, S), each seen by itself; of sources, if roles differ."""
        raise NotImplementedError(f"{type(self).__name__} must define encode and match, or forward")

    def from_array(self, features: Tensor) -> Features:
        """What ``match`` needs of features (1, C, n, n) of ``feature_folder``."""
        raise NotImplementedError(f"{type(self).__name__} takes no features made elsewhere")

    def encode_target(self, images: Tensor) -> Features:
        """The same of targets; a model that has a network for each role defines it."""
        return self.encode(images)

    def match(self, source: Features, target: Features) -> Any:
        """The model's native output for the features of B pairs: a flow, a correlation, ..."""
        raise NotImplementedError(f"{type(self).__name__} must define match")

    def features(self, source: Tensor, target: Tensor) -> tuple[Features, Features]:
        """Features of both images of B pairs; of one pass, where one network sees both roles.

        A model whose network is trained on the statistics of one role's images a pass defines it.
        """
        if self.encodes_by_role:
            return self.encode(source), self.encode_target(target)
        both = [maps.chunk(2) for maps in self.encode(torch.cat((source, target)))]
        return [maps[0] for maps in both], [maps[1] for maps in both]

    def forward(self, source: Tensor, target: Tensor) -> Any:
        """The model's native output for normalised images (B, 3, S, S)."""
        return self.match(*self.features(source, target))

    @property
    def encodes_alone(self) -> bool:
        """Whether ``forward`` is no more than ``match`` of what ``encode`` makes of each image by itself."""
        return type(self).forward is Matcher.forward and type(self).encode is not Matcher.encode

    @property
    def encodes_by_role(self) -> bool:
        """Whether the features of an image depend on its being source or target."""
        return type(self).encode_target is not Matcher.encode_target

    def loss(self, output: Any, batch: Batch) -> Tensor:
        """The published training loss of one forward pass, a scalar.

        ``batch`` is what ``sc_imagenet.data.pairs.PairDataset`` yields, collated: ``source_points`` and
        ``target_points`` (B, K, 2) in pixels of the S x S frame, ``valid`` (B, K) bool, ``source_bbox`` and
        ``target_bbox`` (B, 4) in the same frame (NaN where unknown), ``partners`` (B, K), the row of each point's
        left-right partner (-1: not known), ``category`` (B,), the class's number,
        images ``source`` and ``target``, and what the recipe's augmentation adds.
        """
        raise NotImplementedError(f"{type(self).__name__} is not trained")

    def training_loss(self, batch: Batch, epoch: int) -> Tensor:
        """What one training step minimises: a forward pass and its ``loss``, unless a model needs more.

        ``epoch`` counts from 0.
        """
        if "source_features" in batch:
            return self.loss(self.match(*self.features_of(batch)), batch)
        return self.loss(self(batch["source"], batch["target"]), batch)

    def features_of(self, batch: Batch) -> tuple[Features, Features]:
        """Features of a batch's images; of one of a frozen encoder they may be there in place of the images."""
        if "source_features" in batch:
            return batch["source_features"], batch["target_features"]
        return self.features(batch["source"], batch["target"])

    def transfer(self, output: Any, points: Tensor) -> Tensor:
        """Transfer ``points`` (B, K, 2), pixels of the S x S frame, to the other image; same shape and frame."""
        raise NotImplementedError(f"{type(self).__name__} must define transfer")

    def save_pretrained(
        self,
        save_directory: Path | str,
        *,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: Mapping[str, Any] | None = None,
        **upload_options: Any,
    ) -> str | None:
        """Write the model's folder (see ``baselines/weights.py``): what ``push_to_hub`` uploads, no more and no less.

        Args:
            save_directory: made if it is not there; a card that lies in it stays.
            repo_id: what the card says it is loaded from; the folder's name by default.
            push_to_hub: upload it, too.
            model_card_kwargs: what the card tells of the weights, see ``baselines.model_card.write_card``.
            upload_options: as for ``push_to_hub``.

        Raises:
            InputError: the folder cannot be written, or the Hub refuses.
        """
        folder = Path(save_directory)
        registered = self.registered()
        if not (folder / CARD).exists():
            card = self.generate_model_card(repo_id=repo_id or folder.name, **(model_card_kwargs or {}))
            with atomic_path(folder / CARD) as temporary:
                temporary.write_text(str(card), encoding="utf-8")
        write_model(folder, self, registered.name if registered else None, self.arguments)  # the weights last
        if not push_to_hub:
            return None
        return self.push_to_hub(repo_id or folder.name, model_card_kwargs=model_card_kwargs, **upload_options)

    def push_to_hub(
        self, repo_id: str, *, model_card_kwargs: Mapping[str, Any] | None = None, **upload_options: Any
    ) -> str:
        """Upload what ``save_pretrained`` writes to the Hub; the commit's address.

        Args:
            repo_id: OWNER/NAME.
            model_card_kwargs: as for ``save_pretrained``.
            upload_options: ``private``, ``token``, ... as for ``sc_imagenet.core.hub.upload``.

        Raises:
            InputError: the Hub cannot be reached or refuses.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id=repo_id, model_card_kwargs=model_card_kwargs)
            return upload(Path(folder), repo_id, "model", **upload_options)

    def generate_model_card(self, *_: Any, **about: Any) -> ModelCard:
        """The card of these weights; ``about`` is what is known of them, see ``baselines.model_card``."""
        return ModelCard(model_card(self, **about))

    @classmethod
    def from_pretrained(
        cls: type[Own],
        pretrained_model_name_or_path: Path | str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        **arguments: Any,
    ) -> Own:
        """The model that a folder of ``save_pretrained`` or a repository of the Hub holds, in evaluation mode.

        ``baselines.registry.from_pretrained`` does the same for whichever model it is.

        Args:
            pretrained_model_name_or_path: a folder, or OWNER/NAME.
            revision: branch, tag or commit.
            token: instead of the one of ``hf auth login``.
            arguments: of the constructor, in place of the saved ones.

        Raises:
            InputError: it cannot be had, or holds another model.
        """
        folder = fetch_repository(pretrained_model_name_or_path, FILES, revision=revision, token=token)
        name, saved = read_config(folder / CONFIG)
        known = {base.__dict__["card"].name for base in cls.__mro__ if base.__dict__.get("card") is not None}
        if name is not None and known and name not in known:
            raise InputError(
                f"holds {name}, not {cls.__name__}",
                where=pretrained_model_name_or_path,
                fix="registry.from_pretrained loads whichever model it is.",
            )
        _, *taken = inspect.signature(cls.__init__).parameters
        built = {**cls.as_saved(saved), **arguments, **({"pretrained": False} if "pretrained" in taken else {})}
        if unknown := sorted(set(built) - set(taken)):
            raise InputError(f"{cls.__name__} takes no argument {unknown[0]!r}", where=pretrained_model_name_or_path)
        matcher = cls(**built)
        load_strictly(matcher, cls.__name__, read_state(folder / WEIGHTS), folder / WEIGHTS)
        return matcher.eval()

    @classmethod
    def as_saved(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that saved weights came with, as this version takes them.

        What it did not have then stands for what was done then, not for today's default.
        """
        return dict(arguments)

    @classmethod
    def registered(cls) -> Registered | None:
        """What the registry knows of this very class, None if it is not entered there."""
        return cls.__dict__.get("card")
