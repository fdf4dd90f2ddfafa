"""Our networks for spandrel, the library by which ComfyUI and chaiNNer open weight files.

    from atbsn.integrations.spandrel import install

    install()
    model = spandrel.ModelLoader().load_from_file("real.safetensors")

spandrel recognises weights by the names and shapes of their tensors alone; it does not read the metadata of a file.
Arguments that these do not show, such as ``StudentC.scale``, are set as by ``atbsn.load`` for files without metadata.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from atbsn.archs.base import Network
from atbsn.archs.recognition import fits
from atbsn.archs.weights import Weights, network_of
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError

if TYPE_CHECKING:
    import spandrel

NAMES = ("PhotoNet", "StudentA", "StudentB", "StudentC", "NBSN")
"""The networks that are added: those that need one pass, give the same result in tiles, and have files elsewhere."""


def install(registry: "spandrel.ArchRegistry | None" = None) -> None:
    """Add our networks to spandrel, so that its ``ModelLoader`` opens their files. A second call does nothing.

    They are tried after spandrel's own.

    Args:
        registry: the registry to add them to; None: ``MAIN_REGISTRY``, which every program uses.

    Raises:
        UserError: spandrel is not installed.
    """
    try:
        import spandrel
    except ImportError as error:
        raise UserError(f"spandrel: cannot be imported ({error}); pip install 'atbsn[spandrel]'") from None
    supports = [spandrel.ArchSupport.from_architecture(_architecture(ARCHS.get(name))) for name in NAMES]
    (spandrel.MAIN_REGISTRY if registry is None else registry).add(*supports, ignore_duplicates=True)


def _architecture(net_class: type[Network]) -> "spandrel.Architecture[Network]":
    """An architecture of spandrel for ``net_class``, with an id such as ``atbsn.PhotoNet``."""
    from spandrel import Architecture, ImageModelDescriptor, ModelTiling, SizeRequirements

    class Ours(Architecture[Network]):  # type: ignore[misc]  # spandrel says nothing about its types
        def __init__(self) -> None:
            super().__init__(
                id=f"atbsn.{net_class.__name__}", name=f"{net_class.__name__} (atbsn)",
                detect=lambda state: _only_tensors(state) and fits(net_class, state),
            )  # fmt: skip

        def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[Network]:
            net = network_of(Weights(state_dict), "the file")
            return ImageModelDescriptor(
                net, net.state_dict(), self, "Restoration", _tags(net),
                supports_half=False, supports_bfloat16=False,  # on [0, 255] they would round grey levels
                scale=1, input_channels=net.channels, output_channels=net.channels,
                size_requirements=SizeRequirements(),  # any: the network pads
                tiling=ModelTiling.SUPPORTED, call_fn=denoise,
            )  # fmt: skip

    return Ours()


def denoise(net: Network, image: Tensor) -> Tensor:
    """Denoise ``image`` (1, C, H, W), RGB, [0, 1], with ``net``; returns the same shape, not clipped."""
    return net.denoise(image * 255) / 255


def _only_tensors(state: dict[str, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in state.values())


def _tags(net: Network) -> list[str]:
    """Tags that spandrel shows: the number of parameters, such as ``1.2M``, and the channels if the model is not for
    RGB."""
    count = sum(weight.numel() for weight in net.parameters())
    size = f"{count / 1e6:.1f}M" if count >= 1e6 else f"{round(count / 1e3)}K"
    return [size] if net.channels == 3 else [size, f"{net.channels}ch"]
