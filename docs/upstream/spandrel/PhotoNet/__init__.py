from __future__ import annotations

from spandrel.util import KeyCondition, get_seq_len
from typing_extensions import override

from ...__helpers.model_descriptor import (
    Architecture,
    ImageModelDescriptor,
    SizeRequirements,
    StateDict,
)
from .__arch.photonet import PhotoNet


class PhotoNetArch(Architecture[PhotoNet]):
    def __init__(self) -> None:
        super().__init__(
            id="PhotoNet",
            detect=KeyCondition.has_all(
                "head.weight",
                "tail.weight",
                "encoders.0.0.conv1.weight",
                "down.0.weight",
                "up.0.weight",
                "decoders.0.0.conv2.weight",
            ),
        )

    @override
    def load(self, state_dict: StateDict) -> ImageModelDescriptor[PhotoNet]:
        channels = state_dict["head.weight"].shape[1] // 4
        widths = [state_dict["head.weight"].shape[0]]
        for i in range(get_seq_len(state_dict, "down")):
            widths.append(state_dict[f"down.{i}.weight"].shape[0])
        blocks = get_seq_len(state_dict, "encoders.0")
        middle_blocks = get_seq_len(state_dict, "middle")

        model = PhotoNet(
            widths=widths,
            blocks=blocks,
            middle_blocks=middle_blocks,
            channels=channels,
        )

        return ImageModelDescriptor(
            model,
            state_dict,
            architecture=self,
            purpose="Restoration",
            tags=["-".join(map(str, widths))],
            supports_half=False,
            supports_bfloat16=False,
            scale=1,
            input_channels=channels,
            output_channels=channels,
            size_requirements=SizeRequirements(),
        )


__all__ = ["PhotoNet", "PhotoNetArch"]
