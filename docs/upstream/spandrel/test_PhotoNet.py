from spandrel.architectures.PhotoNet import PhotoNet, PhotoNetArch

from .util import (
    ModelFile,
    TestImage,
    assert_image_inference,
    assert_loads_correctly,
    assert_size_requirements,
    disallowed_props,
    skip_if_unchanged,
)

skip_if_unchanged(__file__)


def test_load():
    assert_loads_correctly(
        PhotoNetArch(),
        lambda: PhotoNet(),
        lambda: PhotoNet(widths=(24, 32, 48), blocks=1, middle_blocks=1),
        lambda: PhotoNet(widths=(8, 12), middle_blocks=0),
        lambda: PhotoNet(channels=1),
        condition=lambda a, b: (
            a.widths == b.widths
            and a.blocks == b.blocks
            and a.middle_blocks == b.middle_blocks
            and a.channels == b.channels
        ),
    )


def test_real(snapshot):
    file = ModelFile("atbsn_real.safetensors")
    model = file.load_model()
    assert model == snapshot(exclude=disallowed_props)
    assert isinstance(model.model, PhotoNet)
    assert_image_inference(file, model, [TestImage.JPEG_15])
    assert_size_requirements(model, max_size=128)
