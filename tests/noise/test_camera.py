"""CameraTable drawn at random: what they keep, what they add, and that the parts are what they are named after."""

import gc
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from atbsn.noise.camera import RandomCamera, _Tone
from atbsn.noise.camera_table import CameraTable
from atbsn.noise.demosaic import bayer_pattern, demosaic_bilinear, demosaic_edges, demosaic_malvar
from atbsn.noise.fingerprint import Fingerprint
from atbsn.noise.jpeg import jpeg, quantisation_tables, to_rgb, to_ycbcr
from atbsn.noise.patterns import regular_pattern
from atbsn.noise.prior import CameraPrior
from atbsn.ops.constant import Constant
from atbsn.utils.errors import UserError

PLAIN: dict[str, Any] = {
    "processed": 0.0, "compressed": 0.0, "softened": 0.0, "toned": 0.0, "recoloured": 0.0, "noiseless": 0.0,
    "grey": 0.0, "patterned": 0.0, "enlarged": 0.0, "banding": 0.0, "hot_pixels": 0.0, "blotches": 0.0,
    "luma_alone": 0.0, "clipped": 0.0, "exposure": (1.0, 1.0), "light": (1.0, 1.0),
}  # fmt: skip
"""A camera that adds the noise of its sensor and nothing else, as SIDD's renderer does."""


def camera(**changes: Any) -> RandomCamera:
    return RandomCamera(CameraPrior(**{**PLAIN, **changes}))


def picture(batch: int = 2, side: int = 64) -> torch.Tensor:
    """Smooth colours with an edge."""
    row = torch.linspace(20, 230, side)
    rgb = torch.stack([row.expand(side, side), row.expand(side, side).T, 255 - row.expand(side, side)])
    rgb[:, :, side // 2 :] *= 0.6
    return rgb.expand(batch, 3, side, side).contiguous()


@pytest.mark.parametrize("demosaic", [demosaic_bilinear, demosaic_edges, demosaic_malvar])
def test_demosaicing_gives_back_a_flat_colour_and_the_pixels_that_were_measured(demosaic: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    flat = torch.rand(2, 3, 1, 1).expand(2, 3, 32, 32).contiguous()
    bayer = bayer_pattern(torch.tensor([0, 3]), 32, 32)
    assert bayer.sum(dim=1).eq(1).all()
    raw = (flat * bayer).sum(dim=1, keepdim=True)
    torch.testing.assert_close(demosaic(raw, bayer), flat, atol=1e-6, rtol=0)
    grey = torch.full((2, 1, 32, 32), 0.4)
    torch.testing.assert_close(demosaic(grey, bayer), torch.full((2, 3, 32, 32), 0.4), atol=1e-6, rtol=0)
    noise = torch.randn(2, 1, 32, 32)
    measured = demosaic(noise, bayer) * bayer
    torch.testing.assert_close(measured.sum(dim=1, keepdim=True), noise, atol=1e-5, rtol=0)


def test_malvar_has_the_published_weights() -> None:
    """Green at a red or blue pixel: 4/8 of itself, 2/8 of the greens beside, -1/8 of its own colour two away."""
    bayer = torch.zeros(1, 3, 16, 16)
    bayer[:, 0, 0::2, 0::2] = bayer[:, 2, 1::2, 1::2] = 1
    bayer[:, 1, 0::2, 1::2] = bayer[:, 1, 1::2, 0::2] = 1
    impulse = torch.zeros(1, 1, 16, 16)
    impulse[..., 8, 8] = 1
    result = demosaic_malvar(impulse, bayer)
    assert result[0, 1, 8, 8] == pytest.approx(4 / 8)
    assert result[0, 1, 8, 10] == pytest.approx(-1 / 8)
    assert result[0, 0, 8, 9] == pytest.approx(4 / 8)
    assert result[0, 0, 9, 9] == pytest.approx(2 / 8)


def test_edge_directed_demosaicing_has_the_published_weights() -> None:
    """Green at red: 2/8 of each green beside, 4/8 of itself, -1/8 of each red two away (Adams and Hamilton, 1997)."""
    bayer = bayer_pattern(torch.tensor([0]), 16, 16)
    for place, weight in (((8, 8), 4 / 8), ((8, 9), 2 / 8), ((7, 8), 2 / 8), ((8, 10), -1 / 8), ((6, 8), -1 / 8)):
        impulse = torch.zeros(1, 1, 16, 16)
        impulse[(..., *place)] = 1
        assert demosaic_edges(impulse, bayer)[0, 1, 8, 8] == pytest.approx(weight), place


@pytest.mark.parametrize("quality", [75, 95])
@pytest.mark.parametrize("subsampled", [False, True])
def test_jpeg_is_what_an_encoder_does(quality: int, subsampled: bool) -> None:
    torch.manual_seed(0)
    rgb = (picture(1) + 12 * torch.randn(1, 3, 64, 64)).clamp(0, 255).round()
    buffer = io.BytesIO()
    array = rgb[0].permute(1, 2, 0).byte().numpy()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=2 if subsampled else 0)
    reference = torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)[None].float()
    ours = jpeg(rgb, torch.tensor([float(quality)]), torch.tensor([subsampled]))
    # An encoder rounds luma and colour differences to whole numbers first; ours does not.
    assert (ours - reference).abs().mean() < 2
    assert (ours - reference).square().mean() < 0.35 * (rgb - reference).square().mean()


@pytest.mark.parametrize("quality", [10, 49, 50, 51, 75, 100])
def test_quantisation_tables_are_libjpegs(quality: int) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG", quality=quality)
    tables = JpegImageFile(io.BytesIO(buffer.getvalue())).quantization
    for number, ours in enumerate(quantisation_tables(torch.tensor([float(quality)]))):
        assert ours[0].flatten().tolist() == tables[number]


def test_luma_and_colour_differences_turn_back() -> None:
    rgb = picture()
    torch.testing.assert_close(to_rgb(to_ycbcr(rgb)), rgb, atol=1e-3, rtol=0)
    grey = torch.full((1, 3, 4, 4), 77.0)
    torch.testing.assert_close(to_ycbcr(grey)[:, 1:], torch.zeros(1, 2, 4, 4), atol=1e-4, rtol=0)


def test_a_batch_is_taken_by_different_cameras_and_the_noise_is_noise() -> None:
    torch.manual_seed(0)
    noisy, clean = RandomCamera(CameraPrior(enlarged=0.0, noiseless=0.0))(picture(16))
    assert noisy.shape == clean.shape == (16, 3, 64, 64)
    assert noisy.min() >= 0 and noisy.max() <= 255 and clean.min() >= 0 and clean.max() <= 255
    assert torch.equal(noisy, noisy.round())
    levels = (noisy - clean).std(dim=(1, 2, 3))
    assert levels.max() > 4 * levels.min() > 0
    assert ((noisy - clean).mean(dim=(2, 3)).abs() < 0.35 * levels[:, None] + 0.6).all()


def test_all_is_drawn_from_torch_generator() -> None:
    random, pictures = RandomCamera(), picture()
    torch.manual_seed(3)
    first = random(pictures)
    other = random(pictures)
    torch.manual_seed(3)
    again = random(pictures)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_shot_noise_is_the_variance_of_white() -> None:
    """On three sensors without processing, raw variance a x + b: four times the a, twice the noise."""
    levels = []
    for shot in (2.5e-4, 1e-3):
        torch.manual_seed(5)
        noisy, clean = camera(shot_noise=(shot, shot), read_offset=-20.0, demosaicing=(0.0, 0.0, 0.0, 1.0))(
            torch.full((32, 3, 32, 32), 150.0)
        )
        levels.append((noisy - clean).std(dim=(1, 2, 3)))
    ratio = (levels[1] / levels[0]).median()
    assert ratio == pytest.approx(2.0, rel=0.1)


def test_few_photons_make_skewed_noise() -> None:
    """By 1 / sqrt(n), where n photons are counted."""
    torch.manual_seed(0)
    shot, linear = 2e-2, 0.2158  # of a grey value of 128
    random = camera(
        shot_noise=(shot, shot), read_offset=-20.0, balance=(1.0, 1.0), demosaicing=(0.0, 0.0, 0.0, 1.0),
        matrix_mean=(0.0,) * 6, matrix_std=(0.0,) * 6, target="scene",
    )  # fmt: skip
    noisy, _ = random(torch.full((8, 3, 128, 128), 128.0))
    raw = (((noisy / 255 + 0.055) / 1.055) ** 2.4)[:, 1]
    skewness = ((raw - raw.mean()) ** 3).mean() / raw.std() ** 3
    assert skewness == pytest.approx((shot / linear) ** 0.5, abs=0.06)


@pytest.mark.parametrize("kind", range(4))
def test_every_demosaicing_can_be_chosen_alone(kind: int) -> None:
    """Neighbouring pixels of noise are correlated by every demosaicing, and by no demosaicing only by the colours."""
    torch.manual_seed(0)
    shares = [0.0] * 4
    shares[kind] = 1.0
    noisy, clean = camera(shot_noise=(1e-3, 1e-3), demosaicing=tuple(shares))(torch.full((16, 3, 64, 64), 140.0))
    green = (noisy - clean)[:, 1] - (noisy - clean)[:, 1].mean(dim=(1, 2), keepdim=True)
    correlation = (green[..., 1:] * green[..., :-1]).mean() / green.square().mean()
    assert correlation < 0.05 if kind == 3 else correlation > 0.15


def test_all_four_bayer_mosaics_occur_and_are_what_they_are_called() -> None:
    names = ("RGGB", "GRBG", "GBRG", "BGGR")
    bayer = bayer_pattern(torch.arange(4), 4, 4)
    for name, pattern in zip(names, bayer, strict=True):
        assert "".join("RGB"[pattern[:, row, column].argmax()] for row in (0, 1) for column in (0, 1)) == name
        assert torch.equal(pattern, pattern.roll((2, 2), (1, 2)))
    torch.manual_seed(0)
    noisy, clean = camera(
        shot_noise=(1e-3, 1e-3), demosaicing=(1.0, 0.0, 0.0, 0.0), matrix_mean=(0.0,) * 6, matrix_std=(0.0,) * 6
    )(torch.full((64, 3, 32, 32), 140.0))
    # A measured red has more noise than one between others: where it is, is where red is measured.
    spread = (noisy - clean)[:, 0].unflatten(2, (16, 2)).unflatten(1, (16, 2)).std(dim=(1, 3)).flatten(1)
    counts = spread.argmax(dim=1).bincount(minlength=4)
    assert (counts >= 6).all()


def test_the_noise_of_sidds_renderer_is_met() -> None:
    """With a Galaxy S6's colour matrix and Malvar's demosaicing: the statistics that SIDD's 160 pairs have.

    Measured on those pairs with ``Fingerprint``: along .44 .26 .40, diagonal .23 .08 .22, channels .32 .32 .54. White
    balance after the demosaicing would give red and green -.1 less, green .2 more.
    """
    torch.manual_seed(0)
    pictures = torch.linspace(30, 200, 128).expand(24, 3, 128, 128).contiguous()
    noisy, clean = camera(
        shot_noise=(1.7e-3, 6e-3), demosaicing=(0.0, 0.0, 1.0, 0.0),
        matrix_mean=(-0.40, 0.32, -0.15, -0.20, 0.0, -0.55), matrix_std=(0.0,) * 6,
    )(pictures)  # fmt: skip
    found = Fingerprint.of([(noisy - clean, clean)])
    assert found.along == pytest.approx((0.44, 0.25, 0.40), abs=0.07)
    assert found.down == pytest.approx((0.44, 0.25, 0.40), abs=0.07)
    assert found.diagonal == pytest.approx((0.22, 0.075, 0.22), abs=0.05)
    assert found.channels == pytest.approx((0.33, 0.29, 0.55), abs=0.1)
    assert found.power == pytest.approx((0.37, 0.37, 0.2, 0.056), abs=0.03)


def test_nothing_is_rounded_to_bfloat16() -> None:
    random = RandomCamera(CameraPrior(compressed=1.0))
    torch.manual_seed(0)
    plain = random(picture(4))
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = random(picture(4))
    assert all(torch.equal(*both) for both in zip(plain, mixed, strict=True))


def test_black_and_white_cut_the_noise_off_on_the_mosaic() -> None:
    """What is clipped has a mean of its own, which the clean picture shares."""
    dark, bright = torch.full((32, 3, 32, 32), 18.0), torch.full((32, 3, 32, 32), 250.0)
    for pictures, clipped in ((dark, 1.0), (bright, 0.0)):
        torch.manual_seed(0)
        noisy, clean = camera(shot_noise=(5e-3, 5e-3), clipped=clipped)(pictures)
        assert (noisy - clean).mean().abs() < 2  # 3 and more with a mean that knows nothing of the cut
    torch.manual_seed(0)
    kept = camera(shot_noise=(5e-3, 5e-3))(dark)[0].std()
    torch.manual_seed(0)
    assert camera(shot_noise=(5e-3, 5e-3), clipped=1.0)(dark)[0].std() < 0.97 * kept


def test_the_mean_picture_is_the_mean_of_many_noisy_ones() -> None:
    """In the dark, black cuts noise off and the tone curve bends it: the mean moves, and the target with it."""
    dark = torch.full((64, 3, 32, 32), 25.0)
    torch.manual_seed(0)
    noisy, mean = camera(shot_noise=(2e-2, 2e-2))(dark)
    torch.manual_seed(0)
    _, scene = camera(shot_noise=(2e-2, 2e-2), target="scene")(dark)
    off_mean, off_scene = (noisy - mean).mean(), (noisy - scene).mean()
    assert off_scene.abs() > 2.5 and off_mean.abs() < 0.4 * off_scene.abs()


def test_the_mean_over_the_noise_is_exact_for_a_curve_of_second_degree() -> None:
    """E[(x + n)^2] = x^2 + s^2, whatever nodes were drawn."""

    class Square(_Tone):
        def __call__(self, linear: torch.Tensor) -> torch.Tensor:
            return linear.square()

    one = torch.ones(2, 1, 1, 1)
    linear = torch.rand(2, 3, 16, 16)
    std = torch.tensor([0.1, 0.3]).view(2, 1, 1, 1)
    noise = std * torch.ones_like(linear)
    noise[..., ::2] *= -1
    expected = linear.square() + std.square()
    torch.testing.assert_close(Square(one, one).mean(linear, noise), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_black_and_white_pictures_have_black_and_white_noise(grey: float) -> None:
    torch.manual_seed(0)
    for made in camera(grey=grey, shot_noise=(1e-2, 1e-2), compressed=0.5)(picture(32, side=32)):
        equal = (made - made[:, :1]).abs().amax(dim=(1, 2, 3)) <= 1  # a JPEG's colours are rounded
        assert abs(equal.float().mean() - grey) < 0.25 and (0 < grey < 1) == bool(equal.any() and not equal.all())


def test_hot_pixels_banding_and_blotches_are_there_when_asked_for() -> None:
    flat = torch.full((16, 3, 64, 64), 100.0)
    weak = {"shot_noise": (7e-5, 7e-5), "read_offset": -6.0}

    def noise(**changes: Any) -> torch.Tensor:
        torch.manual_seed(0)
        noisy, clean = camera(**weak, **changes)(flat)
        return noisy - clean

    plain = noise()
    hot = noise(hot_pixels=1.0, hot_density=(1e-3, 1e-3))
    assert plain.max() < 20 and 10 < ((hot.amax(dim=1) > 40).sum()) < 1000
    bands = noise(banding=1.0, banding_level=(1.0, 1.0))
    rows, columns = (bands.mean(dim=(1, axis)).std(dim=1) for axis in (3, 2))
    assert (rows > 2 * columns).sum() >= 3 and (columns > 2 * rows).sum() >= 3
    blotches = to_ycbcr(noise(blotches=1.0, blotch_level=(1.0, 1.0)))[:, 1:]
    coarse = torch.nn.functional.avg_pool2d(blotches, 16).std()
    assert coarse > 3 * torch.nn.functional.avg_pool2d(to_ycbcr(plain)[:, 1:], 16).std()


def test_smoothing_keeps_the_level_and_may_differ_across_and_along_rows() -> None:
    flat = torch.full((32, 3, 64, 64), 110.0)
    settings = {"shot_noise": (1e-3, 1e-3), "demosaicing": (0.0, 0.0, 0.0, 1.0)}
    smooth = {"processed": 1.0, "luma_smoothing": (1.0, 1.0), "anisotropy": 0.9}
    torch.manual_seed(0)
    noisy, clean = camera(**settings)(flat)
    torch.manual_seed(0)
    other, same = camera(**settings, **smooth)(flat)
    before, after = (to_ycbcr(a - b)[:, 0] for a, b in ((noisy, clean), (other, same)))
    assert after.std() == pytest.approx(before.std().item(), rel=0.25)
    along = (after[..., 1:] * after[..., :-1]).mean((1, 2)) / after.square().mean((1, 2))
    down = (after[:, 1:] * after[:, :-1]).mean((1, 2)) / after.square().mean((1, 2))
    assert (along - down).max() > 0.1 and (along - down).min() < -0.1


def test_luma_noise_has_no_colour() -> None:
    torch.manual_seed(0)
    noisy, clean = camera(luma_alone=1.0, shot_noise=(2e-3, 2e-3))(torch.full((16, 3, 64, 64), 120.0))
    assert min(Fingerprint.of([(noisy - clean, clean)]).channels) > 0.8


def test_enlarged_pictures_have_enlarged_noise() -> None:
    torch.manual_seed(0)
    settings = {"shot_noise": (2e-3, 2e-3), "demosaicing": (0.0, 0.0, 0.0, 1.0)}
    noisy, clean = camera(**settings, enlarged=1.0, enlargement=(3.0, 3.0))(torch.full((8, 3, 96, 96), 120.0))
    assert min(Fingerprint.of([(noisy - clean, clean)]).along) > 0.7


def test_regular_patterns_are_regular_and_cover_a_part() -> None:
    torch.manual_seed(0)
    flat = torch.full((64, 3, 64, 64), -1.0)
    made = regular_pattern(flat)
    covered = (made != flat).all(dim=1)
    shares = covered.float().mean((1, 2))
    assert 0.3 < shares.mean() < 0.7 and ((shares > 0.1) & (shares < 0.9)).sum() > 20
    assert made[covered[:, None].expand_as(made)].min() >= 0 and made.max() <= 255
    quarters, inside = (x.unfold(1, 32, 32).unfold(2, 32, 32) for x in (made[:, 0], covered))
    quarters = quarters[inside.all(-1).all(-1)]
    waves = torch.fft.rfft2(quarters - quarters.mean((1, 2), keepdim=True)).abs().flatten(1).square()
    few = waves.topk(waves.shape[1] // 20).values.sum(1) / waves.sum(1)
    assert len(quarters) > 20 and few.min() > 0.7  # white noise has a fifth of its energy there


def test_patterns_begin_anywhere_and_go_either_way() -> None:
    """The line that bounds them parts the two pairs of opposite corners equally often: in 0.75 of the pictures."""
    torch.manual_seed(0)
    covered = (regular_pattern(torch.full((1500, 3, 16, 24), -1.0)) >= 0).all(dim=1)
    falling = (covered[:, 0, 0] != covered[:, -1, -1]).float().mean()
    rising = (covered[:, 0, -1] != covered[:, -1, 0]).float().mean()
    assert abs(falling - rising) < 0.06 and 0.5 < falling < 0.9
    assert float(covered[:, 8, 12].float().mean()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("patterned", [0.0, 0.5, 1.0])
def test_as_many_pictures_are_patterned_as_asked(patterned: float) -> None:
    torch.manual_seed(0)
    _, clean = camera(noiseless=1.0, patterned=patterned)(torch.full((64, 3, 64, 64), 90.0))
    flat = (clean - clean[..., :1, :1]).abs().amax((1, 2, 3)) < 0.5
    assert abs((1 - flat.float().mean()) - 0.85 * patterned) < 0.2 and flat.all() == (patterned == 0)


def test_nothing_is_read_from_the_device_or_copied_to_it(request: pytest.FixtureRequest) -> None:
    """On a made-up GPU: what would wait for the device, or could not be captured in a CUDA graph."""

    class Crossings(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            devices = {each.device.type for each in args if isinstance(each, torch.Tensor) and each.dim()}
            target = (kwargs or {}).get("device")
            moved = target is not None and devices and torch.device(target).type not in devices
            if moved or len(devices) > 1 or func is torch.ops.aten._local_scalar_dense.default:
                self.found.append(str(func))
            return func(*args, **(kwargs or {}))

    _need_made_up_gpus()
    request.addfinalizer(_forget_constants)
    random = RandomCamera(CameraPrior(grey=0.5))
    with FakeTensorMode(allow_non_fake_inputs=True):
        pictures = torch.empty(2, 3, 64, 64, device="cuda")
        random(pictures)  # constants are copied once
        with Crossings() as crossings:
            random(pictures)
    assert not crossings.found


def _need_made_up_gpus() -> None:
    with FakeTensorMode():
        try:
            torch.empty(1, device="cuda")[..., None]
        except RuntimeError:  # torch 2.6 asks a driver which device it is on
            pytest.skip("this torch makes up GPUs only where there is one")


def _forget_constants() -> None:
    """What was kept for the made-up GPU is no use on a real one."""
    for each in gc.get_objects():
        if type(each) is Constant:
            each._kept.clear()


def test_a_table_of_cameras_is_drawn_from_and_comes_back_from_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    table = CameraTable.drawn(CameraPrior(**PLAIN, shot_noise=(1e-2, 1e-2), read_spread=0.0), torch.empty(3, 1, 1, 1))
    table.write(tmp_path / "cameras.json")
    again = CameraTable.read_from(tmp_path / "cameras.json")
    assert len(again) == 3
    for name, value in vars(table).items():
        torch.testing.assert_close(getattr(again, name), value)
    weak = CameraPrior(**PLAIN, shot_noise=(1e-5, 1e-5))  # which the table overrules
    torch.manual_seed(1)
    drawn = RandomCamera(weak, again)._drawn(torch.empty(64, 3, 16, 16))
    ratio = drawn.shot / 1e-2
    assert ratio.min() >= 1 / 1.51 and ratio.max() <= 1.51 and ratio.max() > 1.3
    assert len(drawn.matrix.flatten(1).unique(dim=0)) == 3
    torch.testing.assert_close(drawn.read / drawn.shot**2, (table.read / table.shot**2)[0].expand(64, 1, 1, 1))
    noisy, clean = RandomCamera(weak, again)(torch.full((4, 3, 64, 64), 128.0))
    assert (noisy - clean).std() > 8


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", '{"shot": [[1.0]]}', '{"shot": "x"}'], ids=["empty", "list", "one column", "words"]
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "cameras.json").write_text(text)
    with pytest.raises(UserError, match="not a table of cameras"):
        CameraTable.read_from(tmp_path / "cameras.json")
    with pytest.raises(UserError, match="cannot be read"):
        CameraTable.read_from(tmp_path / "none.json")


def test_shares_are_shares_of_the_pictures() -> None:
    """Of 64 pictures, the chosen part has banding: an offset of whole rows or columns well above the noise's own."""
    torch.manual_seed(0)
    weak = {"shot_noise": (7e-5, 7e-5), "read_offset": -6.0, "banding_level": (1.0, 1.0)}
    flat = torch.full((64, 3, 64, 64), 100.0)
    for share in (0.0, 0.25, 1.0):
        noisy, clean = camera(banding=share, **weak)(flat)
        noise = (noisy - clean)[:, 1]
        lines = torch.stack([noise.mean(dim=axis).std(dim=1) for axis in (1, 2)]).amax(dim=0) / noise.std(dim=(1, 2))
        assert float((lines > 0.4).float().mean()) == pytest.approx(share, abs=0.15)
