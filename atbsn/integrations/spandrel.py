"""Our networks for spandrel, the library by which ComfyUI and chaiNNer open weight files.

    from atbsn.integrations.spandrel import install

    install()
    model = spandrel.ModelLoader().load_from_file("real.safetensors")

spandrel knows weights by the names of their tensors alone; it never sees the metadata of a file. What leaves no trace
in names and shapes, such as ``StudentC.scale``, is found as ``atbsn.load`` finds it for bare files.
"""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from atbsn.archs.base import Network
from atbsn.archs.weights import Weights, fits, network_of
from atbsn.registry import ARCHS
from atbsn.utils.errors import UserError

if TYPE_CHECKING:
    import spandrel

NAMES = ("PhotoNet", "StudentA", "StudentB", "StudentC", "NBSN")
"""Networks that take one pass, whose tiles give what the whole picture gives, and that others may have files of."""


def install(registry: "spandrel.ArchRegistry | None" = None) -> None:
    """Add our networks to spandrel, so that its ``ModelLoader`` opens their files. Again, it does nothing.

    They are tried after spandrel's own.

    Args:
        registry: to which they are added; None: spandrel's own, ``MAIN_REGISTRY``, which every program uses.

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
    """``net_class`` as spandrel has architectures, under the id ``atbsn.PhotoNet``."""
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
    """``image`` (1, C, H, W), RGB, in [0, 1], denoised by ``net``: the same shape, not clipped."""
    return net.denoise(image * 255) / 255


def _only_tensors(state: dict[str, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in state.values())


def _tags(net: Network) -> list[str]:
    """What spandrel's users read of a model's size: ``1.2M``, and its channels if it is not for RGB."""
    count = sum(weight.numel() for weight in net.parameters())
    size = f"{count / 1e6:.1f}M" if count >= 1e6 else f"{round(count / 1e3)}K"
    return [size] if net.channels == 3 else [size, f"{net.channels}ch"]
