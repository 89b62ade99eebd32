"""The generator's network with the backbone it reads: built, saved and loaded as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from sc_imagenet.backbones.layers import with_positions_of
from sc_imagenet.backbones.pretrained import LITE0
from sc_imagenet.backbones.weight_files import read_state
from sc_imagenet.core.errors import InputError
from sc_imagenet.core.files import atomic_path, read_json, write_json
from sc_imagenet.generation.cascade.network import CascadeNetwork
from sc_imagenet.generation.cascade.network_options import NetworkOptions
from sc_imagenet.generation.features import FeatureReader
from sc_imagenet.generation.option_kinds import WIDEST


class Generator(nn.Module):
    """Backbone and cascade.

    Args:
        backbone, layers, size, pretrained: see ``FeatureReader``.
        network: see ``NetworkOptions``.
    """

    def __init__(
        self,
        backbone: str = LITE0,
        layers: Sequence[int] | None = None,
        size: int = 320,
        pretrained: bool | str = True,
        network: NetworkOptions | None = None,
    ) -> None:
        super().__init__()
        self.backbone = FeatureReader(backbone, layers, size, pretrained=pretrained)
        self.network = CascadeNetwork(self.backbone.channels, network or NetworkOptions())

    def save(self, folder: Path | str) -> None:
        """Write config.json and model.safetensors, the latter last."""
        folder = Path(folder)
        reader = self.backbone.backbone
        config = {
            "backbone": reader.name,
            "layers": list(reader.layers),
            "size": self.backbone.size,
            "network": asdict(self.network.options),
        }
        write_json(folder / "config.json", config)
        state = {name: value.detach().cpu().contiguous().clone() for name, value in self.state_dict().items()}
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(state, temporary)

    @classmethod
    def load(cls, folder: Path | str) -> Generator:
        """The inverse of ``save``, in evaluation mode.

        Raises:
            InputError: files are missing, damaged or of another model.
        """
        folder = Path(folder)
        config = read_json(folder / "config.json")
        try:
            network = NetworkOptions(**config["network"])
            backbone, layers, size = config["backbone"], config["layers"], config["size"]
            if not (isinstance(backbone, str) and type(size) is int and 0 < size <= WIDEST):
                raise TypeError(f"backbone {backbone!r:.80} for images of side {size!r:.80}")
            if not (layers is None or (isinstance(layers, list) and all(type(layer) is int for layer in layers))):
                raise TypeError(f"layers {layers!r:.80}")
            generator = cls(backbone, layers, size, False, network)
            generator.load_state_dict(with_positions_of(generator, read_state(folder / "model.safetensors")))
        except (KeyError, TypeError, RuntimeError, IndexError, AttributeError, AssertionError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(f"does not hold a trained generator ({reason})", where=folder) from error
        return generator.eval()
