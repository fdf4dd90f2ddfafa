"""atbsn denoise: what is read, what is written and what is left alone."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from helpers.kinds import Command
from helpers.photos import NETWORK, noise, tiny
from helpers.raw_files import linear, write_dng

from atbsn.app.before_after import Look, compare_before_after
from atbsn.app.sheet import choose_crops, cut, sheet_of
from atbsn.archs import build_arch
from atbsn.archs.weights import save_weights
from atbsn.engine.inference.photo import photo_denoiser
from atbsn.engine.inference.pipeline.clean import clean_picture
from atbsn.engine.inference.pipeline.plan import beside
from atbsn.engine.inference.pipeline.progress import Progress
from atbsn.noise.level import noise_level
from atbsn.pictures import Picture, from_tensor, picture_size, read_picture, read_raw, to_tensor, write_picture
from atbsn.utils.errors import UserError


def test_a_folder_with_a_bad_file(atbsn: Command, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "sub/c.tif"):
        write_picture(tmp_path / "in" / name, Picture(noise(40, 50, 3)))
    (tmp_path / "in" / "torn.jpg").write_bytes((tmp_path / "in" / "b.jpg").read_bytes()[:300])
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    os.utime(tmp_path / "in" / "a.png", (1e9, 1e9))
    status, said = atbsn("denoise", "in", "-o", "out", "--weights", "tiny.pth", "--compare")
    assert status == 2 and "using 4, skipped 1: notes.txt (not a picture by its name)" in said
    assert "torn.jpg: cannot be read as a picture" in said and "1 could not be done" in said
    made = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert made == {
        "a_clean.png", "b_clean.jpg", "sub/c_clean.tif", "a_compare.png", "b_compare.png", "sub/c_compare.png",
    }  # fmt: skip
    assert (tmp_path / "out" / "a_clean.png").stat().st_mtime == 1e9
    expected = from_tensor(tiny().denoise(to_tensor(read_picture("in/a.png").rgb)[None])[0])
    difference = read_picture("out/a_clean.png").rgb.astype(int) - expected
    assert np.abs(difference).max() <= 1  # where bfloat16 is used, it rounds


def test_beside_the_original_and_only_once(atbsn: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(noise(40, 50, 3)))
    before = (tmp_path / "a.png").read_bytes()
    assert atbsn("denoise", ".", "--weights", "tiny.pth")[0] == 0
    assert (tmp_path / "a.png").read_bytes() == before
    first = (tmp_path / "a_clean.png").read_bytes()
    status, said = atbsn("denoise", ".", "--weights", "tiny.pth", "--strength", "0.5")
    assert status == 0 and "done already; --overwrite does it again" in said and "made by atbsn" in said
    assert "nothing is left to do" in said
    assert (tmp_path / "a_clean.png").read_bytes() == first
    assert atbsn("denoise", ".", "--weights", "tiny.pth", "--strength", "0.5", "--overwrite")[0] == 0
    assert (tmp_path / "a_clean.png").read_bytes() != first and not (tmp_path / "a_clean_clean.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.png", "--weights", "nothing"], "no weights of this name; shipped are"),
        (["a.png", "--weights", "tiny.pth", "--k", "3"], "PhotoNet has no blind spot to choose"),
        (["a.png", "--weights", "tiny.pth", "--strength", "3"], "strength"),
        (["a.png", "--weights", "tiny.pth", "--tile", "7"], "tile: 7: not auto, none or 128"),
        (["a.png", "--weights", "tiny.pth", "--device", "abacus"], "there is no such device here"),
        (["a.png", "--weights", "tiny.pth", "-o", "a.png"], "would be overwritten"),
        (["a.png", "b.png", "--weights", "tiny.pth", "-o", "c.png"], "name a folder"),
        (["gone.png", "--weights", "tiny.pth"], "no such file"),
        (["a.png", "--weights", "tiny.pth", "-o", "out.gif"], "GIF is not written; name a .tif, .png or .jpg file"),
        (["a.png", "b.png", "--weights", "tiny.pth", "-o", "out.psd"], "PSD is not written"),
        (["a.png", "--weights", "tiny.pth", "-o", "out.dng"], "camera RAW is not written"),
    ],
)
def test_what_cannot_be(atbsn: Command, tmp_path: Path, arguments: list[str], said: str) -> None:
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name, Picture(noise(40, 50, 3)))
    status, output = atbsn("denoise", *arguments)
    assert status == 2 and said in output and "Traceback" not in output
    assert not any(path.is_dir() for path in tmp_path.iterdir()), "a folder of the name of a file"


def test_what_a_target_cannot_hold_is_said_before_anything_is_computed(
    atbsn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(tmp_path / "a.png", Picture(noise(40, 50, 3), noise(40, 50)))
    monkeypatch.setattr("atbsn.engine.inference.pipeline.steps.begin_clean", None)
    status, output = atbsn("denoise", "a.png", "-o", "a.jpg", "--weights", "tiny.pth")
    assert status == 2 and "holds no transparency" in output and "defect" not in output
    assert not (tmp_path / "a.jpg").exists()


def test_a_folder_with_dots_in_its_name(atbsn: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", Picture(noise(40, 50, 3)))
    for name, given in (("out.gif", "out.gif/"), ("v1.2", "v1.2")):
        assert atbsn("denoise", "a.png", "-o", given, "--weights", "tiny.pth")[0] == 0
        assert (tmp_path / name / "a_clean.png").is_file()


def test_a_single_output_file(atbsn: Command, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", Picture(noise(40, 50, 3)))
    assert atbsn("denoise", "a.jpg", "-o", "made/b.png", "--weights", "tiny.pth")[0] == 0
    assert read_picture("made/b.png").rgb.shape == (40, 50, 3)


def test_two_pictures_of_one_target(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        write_picture(tmp_path / folder / "a.png", Picture(noise(20, 20, 3)))
    found = beside([str(tmp_path / "x"), str(tmp_path / "y")], str(tmp_path / "out"), overwrite=False)
    assert len(found.tasks) == found.refused == 1 and "is the clean picture of" in found.found.skipped[0][1]


def test_a_picture_that_is_asked_for_is_no_target(atbsn: Command, tmp_path: Path) -> None:
    """Though it is named as our own are, and --overwrite is given."""
    for name in ("a.png", "a_clean.png"):
        write_picture(tmp_path / name, Picture(noise(40, 50, 3)))
    before = (tmp_path / "a_clean.png").read_bytes()
    status, said = atbsn("denoise", "a.png", "a_clean.png", "--overwrite", "--weights", "tiny.pth")
    assert status == 2 and "a_clean.png, which is one of the pictures" in said
    assert (tmp_path / "a_clean.png").read_bytes() == before and (tmp_path / "a_clean_clean.png").is_file()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(300, 70), (70, 300), (300, 290), (20, 20), (1, 9)])
def test_bands_give_what_the_whole_picture_gives(dtype: type[np.generic], shape: tuple[int, int]) -> None:
    rgb = noise(*shape, 3).astype(dtype) * (257 if dtype == np.uint16 else 1)
    denoiser = photo_denoiser(tiny(), tile=128)
    shares: list[Any] = []
    clean = clean_picture(denoiser, Picture(rgb), "x", shares.append)
    assert (clean.rgb == from_tensor(denoiser(to_tensor(rgb)[None])[0], dtype)).all()
    assert shares == sorted(shares) and shares[-1] == 1
    assert clean_picture(denoiser, Picture(rgb), "x", in_place=True).rgb is rgb
    assert (clean.rgb == rgb).all()


def test_nothing_at_strength_0() -> None:
    picture = Picture(noise(30, 40, 3))
    assert clean_picture(photo_denoiser(tiny(), strength=0), picture, "x") is picture


def test_weights_that_give_no_numbers() -> None:
    net = tiny()
    net.tail.bias.data.fill_(float("inf"))
    with pytest.raises(UserError, match=r"x: the network's output is not finite"):
        clean_picture(photo_denoiser(net), Picture(noise(30, 40, 3)), "x")


def colour_drift(noisy: np.ndarray, clean: np.ndarray) -> Any:
    return compare_before_after(noisy, clean).drift


def test_colours_that_drift_are_told() -> None:
    green, brown = np.zeros((2, 150, 200, 3), np.uint8)
    green[:], brown[:] = (0, 200, 0), (128, 115, 71)
    drift = colour_drift(green, brown)
    assert drift.share == 1 and (drift.before, drift.after) == ((0, 200, 0), (128, 115, 71))
    assert "(0, 200, 0) became (128, 115, 71)" in str(drift) and "100%" in str(drift)
    patch = green.copy()
    patch[:64, :64] = brown[:64, :64]
    assert 0 < colour_drift(green, patch).share < 0.3
    seen = Look.at(green)  # and it is gone when the clean one comes
    assert compare_before_after(seen, brown).drift == drift and compare_before_after(seen, green).drift is None
    deep = colour_drift(green.astype(np.uint16) * 257, brown.astype(np.uint16) * 257)
    assert deep == drift


def test_noise_is_no_drift() -> None:
    rng = np.random.default_rng(0)
    for level in (2, 60, 128, 250):
        noisy = np.clip(level + rng.normal(0, 25, (200, 200, 3)), 0, 255).round().astype(np.uint8)
        assert colour_drift(noisy, np.full_like(noisy, level)) is None


@pytest.mark.parametrize("end", [0, 255])
def test_where_noise_is_clipped_the_mean_may_move_back_but_no_further(end: int) -> None:
    noisy = np.clip(end + np.random.default_rng(0).normal(0, 60, (128, 128, 3)), 0, 255).round().astype(np.uint8)
    inwards = 1 if end == 0 else -1
    mean, deviation = float(noisy.mean()), float(noisy.std())
    assert abs(mean - end) == pytest.approx(0.399 * 60, abs=1) and deviation == pytest.approx(0.584 * 60, abs=1)
    assert colour_drift(noisy, np.full_like(noisy, end)) is None
    assert colour_drift(noisy, np.full_like(noisy, round(mean + inwards * (4 + 0.7 * deviation)))) is None
    assert colour_drift(noisy, np.full_like(noisy, round(mean + inwards * (4 + 0.9 * deviation)))).share == 1


@pytest.mark.parametrize("level", [2.0, 10.0, 30.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_noise_of_a_picture(level: float, dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(0)
    ramp = np.linspace(90, 160, 400)[:, None, None]
    scale = 257 if dtype == np.uint16 else 1
    noisy = (np.clip(ramp + rng.normal(0, level, (400, 300, 3)), 0, 255) * scale).round().astype(dtype)
    noisy[:, 150:] = np.where(rng.random((400, 150, 1)) < 0.5, 40 * scale, 200 * scale)  # texture
    assert noise_level(noisy) == pytest.approx(level, rel=0.15)


def test_too_little_to_tell_noise_from() -> None:
    assert noise_level(np.zeros((300, 300, 3), np.uint8)) is None
    assert "too little" in str(compare_before_after(noise(9, 9, 3), noise(9, 9, 3)))


def test_texture_is_not_taken_for_noise_where_a_part_is_flat() -> None:
    rng = np.random.default_rng(0)
    scene = np.full((320, 320, 3), 120.0)
    scene[:, :240] += rng.normal(0, 25, (320, 240, 1))  # a gravel path, in three quarters of the picture
    noisy = np.clip(np.round(scene + rng.normal(0, 6, scene.shape)), 0, 255).astype(np.uint8)
    clean = np.clip(np.round(scene + rng.normal(0, 1, scene.shape)), 0, 255).astype(np.uint8)
    found = compare_before_after(noisy, clean)
    assert found.noise_before == pytest.approx(6, rel=0.1) and found.noise_after == pytest.approx(1, rel=0.15)
    assert str(compare_before_after(noisy, noisy)) == "noise 5.9 -> 5.9"  # the flattest tenth is a little flatter
    assert compare_before_after(noisy[:40, :40], clean[:40, :40]).noise_before is None


def test_a_sheet_shows_texture_flat_and_dark() -> None:
    picture = np.full((700, 1000, 3), 120, np.uint8)
    picture[:350, :350] = noise(350, 350, 3) // 2 + 60
    picture[350:, 650:] = 15
    crops = choose_crops(picture, 320)
    assert max(crops["texture"]) < 64 and crops["dark"][0] >= 320 and crops["dark"][1] >= 600
    made = sheet_of({"before": cut(picture, crops.values(), 320), "after": cut(picture // 2, crops.values(), 320)})
    assert made.shape == (3 * 328 + 26, 2 * 328 + 8, 3)
    top, left = crops["texture"]
    assert (made[26 : 26 + 320, 8 : 8 + 320] == picture[top : top + 320, left : left + 320]).all()
    small = picture[:20, :30]
    assert sheet_of({"a": cut(small, choose_crops(small).values())}).shape == (20 + 8 + 26, 30 + 16, 3)


def test_nothing_taken_off_is_the_file_itself(atbsn: Command, tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png"):
        write_picture(tmp_path / name, Picture(noise(40, 50, 3)))
    assert atbsn("denoise", "a.jpg", "b.png", "--weights", "tiny.pth", "--strength", "0")[0] == 0
    for name in ("a.jpg", "b.png"):
        clean = tmp_path / name.replace(".", "_clean.")
        assert clean.read_bytes() == (tmp_path / name).read_bytes()
    assert atbsn("denoise", "a.jpg", "-o", "c.png", "--weights", "tiny.pth", "--strength", "0")[0] == 0
    assert np.array_equal(read_picture("c.png").rgb, read_picture("a.jpg").rgb)


def test_a_page_and_a_white_of_its_own(atbsn: Command, tmp_path: Path) -> None:
    pages = [np.random.default_rng(page).integers(0, 4096, (40 + page, 50, 3), np.uint16) for page in range(2)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pages:
            file.write(page, photometric="rgb", metadata=None)
    said = atbsn("denoise", "a.tif", "-o", "b.tif", "--weights", "tiny.pth", "--strength", "0", "--page", "2")[1]
    assert np.array_equal(read_picture("b.tif", white=65535).rgb, pages[1]) and "give --white 4095" in said
    status, said = atbsn("denoise", "a.tif", "-o", "c.tif", "--weights", "tiny.pth", "--white", "4095")
    assert status == 0 and "only number 1 is used; --page takes another" in said and "give --white" not in said
    clean = clean_picture(photo_denoiser(tiny()), read_picture("a.tif", white=4095), "a.tif").rgb
    expected = np.floor(clean * (4095 / 65535) + 0.5)
    assert np.array_equal(read_picture("c.tif", white=65535).rgb, expected)
    for arguments, word in {("--white", "0"): "white: 0.0 is not above 0", ("--page", "0"): "page: 0 is not 1"}.items():
        status, said = atbsn("denoise", "a.tif", "-o", "d.tif", *arguments)
        assert status == 2 and word in said and not (tmp_path / "d.tif").exists()


def test_what_a_target_cannot_hold_is_told_before_anything_is_computed(
    atbsn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_picture(tmp_path / "a.png", Picture(noise(40, 50, 3), alpha=noise(40, 50)))
    monkeypatch.setattr(type(tiny()), "forward", lambda *_: pytest.fail("computed"))
    status, said = atbsn("denoise", "a.png", "-o", "b.jpg", "--weights", "tiny.pth")
    assert status == 2 and re.search(r"JPEG holds no transparency; write (?=.*\bPNG\b)(?=.*\bTIFF\b)", said)


def test_weights_that_bring_strength_and_detail(atbsn: Command, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"strength": 0.25, "detail": "auto", "keep_colours": False}
    save_weights("own.pth", tiny().state_dict(), {"network": NETWORK, "denoise": settings})
    write_picture(tmp_path / "a.png", Picture(noise(40, 50, 3)))
    assert atbsn("denoise", "a.png", "-o", "own.png", "--weights", "own.pth")[0] == 0
    assert atbsn("denoise", "a.png", "-o", "all.png", "--weights", "tiny.pth")[0] == 0
    expected = clean_picture(photo_denoiser(tiny(), **settings), read_picture("a.png"), "a.png").rgb
    assert np.array_equal(read_picture("own.png").rgb, expected)
    assert not np.array_equal(read_picture("own.png").rgb, read_picture("all.png").rgb)
    save_weights("wrong.pth", tiny().state_dict(), {"network": NETWORK, "denoise": {"strength": 7}})
    status, output = atbsn("denoise", "a.png", "-o", "wrong.png", "--weights", "wrong.pth")
    assert status == 2 and "strength: 7" in output


def test_weights_that_may_not_be_read(atbsn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    write_picture(tmp_path / "a.png", Picture(noise(40, 50, 3)))
    monkeypatch.setattr("atbsn.archs.weight_files.read_tensors", refuse)
    status, said = atbsn("denoise", "a.png", "--weights", "tiny.pth")
    assert status == 2 and "tiny.pth: cannot be read (Permission denied); check its permissions" in said


def test_an_empty_file_says_so_when_it_is_measured_too(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="it is empty"):
        picture_size(tmp_path / "a.jpg")


@pytest.mark.parametrize("output", ["a_out.png", "folder"])
def test_a_single_picture_of_test_shows_its_tiles(
    atbsn: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    shares = []

    monkeypatch.setattr(Progress, "part", lambda progress, share: shares.append(share))
    write_picture(tmp_path / "a.png", Picture(noise(300, 300, 3)))
    options = "{name: x, num_gpu: 0, path: {pretrain_network: tiny.pth}, test: {tile: 128}}"
    (tmp_path / "x.yml").write_text(options)
    assert atbsn("test", "-opt", "x.yml", "--input", "a.png", "--output", output)[0] == 0
    assert len(shares) >= 9 and shares == sorted(shares) and shares[-1] == 1


@pytest.mark.parametrize("kind", ["grey", "grey as RGB", "colour", "little noise", "weak"])
def test_grey_pictures_whose_noise_stays_are_named(atbsn: Command, tmp_path: Path, kind: str) -> None:
    scene = 128 + (2 if kind == "little noise" else 20) * (noise(200, 200, 3).astype(float) / 255 - 0.5)
    rgb = np.round(scene).astype(np.uint8)
    if kind != "colour":
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    torch.manual_seed(0)
    net = build_arch(NETWORK)  # as it is made, it gives back what it gets
    save_weights("idle.pth", net.state_dict(), {"network": NETWORK})
    write_picture(tmp_path / "a.png", Picture(rgb, None, kind == "grey"))
    status, said = atbsn("denoise", "a.png", "--weights", "idle.pth", "--strength", "0.5" if kind == "weak" else "1")
    assert status == 0 and ("a grey picture, whose noise" in said) == kind.startswith("grey")


def test_settings_reach_the_network(atbsn: Command, tmp_path: Path) -> None:
    write_picture("a.png", Picture(noise(60, 400, 3)))
    settings: dict[str, Any] = {"luma": 0.3, "colour": 1.5, "hot_pixels": True, "banding": True, "enlarged": 2}
    words = ["--luma", "0.3", "--colour", "1.5", "--hot-pixels", "--banding", "--enlarged", "2"]
    assert atbsn("denoise", "a.png", "--weights", "tiny.pth", *words)[0] == 0
    expected = clean_picture(photo_denoiser(tiny(), **settings), read_picture("a.png"), "a.png").rgb
    assert np.array_equal(read_picture("a_clean.png").rgb, expected)
    assert not np.array_equal(expected, clean_picture(photo_denoiser(tiny()), read_picture("a.png"), "a.png").rgb)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--luma", "3"], "luma: 3"),
        (["--colour", "-1"], "colour: -1"),
        (["--enlarged", "0"], "enlarged: 0"),
        (["--margin", "8"], "margin: not a setting of PhotoNet"),
    ],
)
def test_settings_out_of_range(atbsn: Command, tmp_path: Path, words: list[str], said: str) -> None:
    write_picture("a.png", Picture(noise(16, 16, 3)))
    status, output = atbsn("denoise", "a.png", "--weights", "tiny.pth", *words)
    assert status == 2 and said in output and not (tmp_path / "a_clean.png").exists()


def test_nothing_of_luma_and_colour_is_the_file_itself(atbsn: Command, tmp_path: Path) -> None:
    write_picture("a.jpg", Picture(noise(40, 50, 3)))
    words = ["--luma", "0", "--colour", "0"]
    assert atbsn("denoise", "a.jpg", "-o", "b.jpg", "--weights", "tiny.pth", *words)[0] == 0
    assert (tmp_path / "b.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()


@pytest.fixture
def raw_folder(tmp_path: Path) -> Path:
    """A noisy raw file and a picture, and weights for 4 channels that change nothing."""
    pytest.importorskip("rawpy")
    rng = np.random.default_rng(0)
    folder = tmp_path / "raws"
    folder.mkdir()
    write_dng(folder / "a.dng", (linear() + rng.normal(0, 0.03, (96, 128, 3))).clip(0, 1), orientation=6)
    write_picture(folder / "b.png", Picture(noise(40, 50, 3)))
    net = build_arch({**NETWORK, "channels": 4})
    save_weights(tmp_path / "four.pth", net.state_dict(), {"network": net.options})
    return folder


def test_raw_becomes_a_dng(atbsn: Command, raw_folder: Path, tmp_path: Path) -> None:
    status, output = atbsn("denoise", raw_folder, "--raw", "--weights", tmp_path / "four.pth")
    assert status == 0, output
    assert "b.png (no camera RAW; it is denoised without --raw)" in output and "noise " in output
    noisy, clean = read_raw(raw_folder / "a.dng"), read_raw(raw_folder / "a_clean.dng")
    assert clean.mosaic.size == noisy.mosaic.size and clean.mosaic.orientation == 6
    assert np.abs(clean.rgb - noisy.rgb.clip(0, 255)).max() < 0.01
    assert sorted(path.name for path in raw_folder.iterdir()) == ["a.dng", "a_clean.dng", "b.png"]
    status, output = atbsn("denoise", raw_folder, "--raw")
    assert status == 0 and "nothing is left to do" in output
    status, output = atbsn("denoise", raw_folder / "a.dng", "--raw", "-o", tmp_path / "raw.dng")
    assert status == 0 and read_raw(tmp_path / "raw.dng").rgb.shape == noisy.rgb.shape
    status, output = atbsn(
        "denoise", raw_folder / "a.dng", "--raw", "--weights", tmp_path / "four.pth", "-o", tmp_path / "c.dng",
        "--strength", "0",
    )  # fmt: skip
    assert status == 0 and np.array_equal(read_raw(tmp_path / "c.dng").rgb, noisy.rgb)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.dng", "--raw", "--weights", "real"], "--weights real: a network for 3 channels, but raw data have 4"),
        (["a.dng", "--weights", "../four.pth"], r"four\.pth: a network for raw data; give --raw too"),
        (["a.dng", "--raw", "-o", "x.tif"], r"--output x\.tif: raw data are written as DNG; name a \.dng file"),
        (["a.dng", "--raw", "--white", "4095"], "--white and --page: a raw file says its white"),
        (["a.dng", "--raw", "--compare"], "--compare: raw data are no picture yet"),
        (["b.png", "--raw", "--weights", "../four.pth"], "no camera RAW; it is denoised without --raw"),
    ],
)
def test_raw_that_cannot_be(
    atbsn: Command, raw_folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(raw_folder)
    status, output = atbsn("denoise", *arguments)
    assert status == 2 and re.search(said, output), output
    assert sorted(path.name for path in raw_folder.iterdir()) == ["a.dng", "b.png"]


def test_masks_of_a_folder(atbsn: Command, tmp_path: Path) -> None:
    for name in ("a.png", "sub/b.png", "c.png"):
        write_picture(tmp_path / "in" / name, Picture(noise(40, 50, 3)))
    left = np.zeros((40, 50, 3), np.uint8)
    left[:, :25] = 255
    for name in ("a.png", "sub/b.tif"):
        write_picture(tmp_path / "in" / "masks" / name, Picture(left, grey=True))
    status, said = atbsn("denoise", "in", "--weights", "tiny.pth", "-o", "out", "--mask", "in/masks")
    assert status == 2
    assert "c.png (no mask of its name in" in said and "(a mask)" in said
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["a_clean.png", "b_clean.png"]
    for name in ("a", "sub/b"):
        noisy = read_picture(tmp_path / "in" / f"{name}.png").rgb.astype(int)
        moved = np.abs(read_picture(tmp_path / "out" / f"{name}_clean.png").rgb - noisy)
        assert moved[:, :25].mean() > 1 and not moved[:, 25:].any()
    assert atbsn("denoise", "in/c.png", "--weights", "tiny.pth", "--mask", "in/masks/a.png")[0] == 0
    noisy, clean = (read_picture(tmp_path / "in" / name).rgb for name in ("c.png", "c_clean.png"))
    moved = noisy != clean
    assert moved[:, :25].any() and not moved[:, 25:].any()


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("nosuch.png", "--mask nosuch.png: no such file"),
        ("small.png", "small.png: 9 x 8 pixels, but a.png has 50 x 40"),
        ("colours.png", "colours.png: a mask is grey"),
        ("tiny.pth", "tiny.pth"),
        ("a.png", "(a mask)"),
        (".", "(a mask)"),
    ],
)
def test_what_is_no_mask(atbsn: Command, tmp_path: Path, mask: str, said: str) -> None:
    write_picture(tmp_path / "a.png", Picture(noise(40, 50, 3)))
    write_picture(tmp_path / "colours.png", Picture(noise(40, 50, 3)))
    write_picture(tmp_path / "small.png", Picture(noise(8, 9, 1).repeat(3, axis=2), grey=True))
    status, answer = atbsn("denoise", "a.png", "--weights", "tiny.pth", "--mask", mask)
    assert status == 2 and said in answer
    assert not list(tmp_path.glob("*_clean*"))


def test_what_a_mask_leaves_in_is_no_fault(atbsn: Command, tmp_path: Path) -> None:
    grey = np.clip(120 + np.random.default_rng(0).normal(0, 20, (200, 200, 1)), 0, 255).astype(np.uint8)
    write_picture(tmp_path / "a.png", Picture(grey.repeat(3, axis=2), grey=True))
    write_picture(tmp_path / "black.png", Picture(np.zeros((200, 200, 3), np.uint8), grey=True))
    save_weights("idle.pth", build_arch(NETWORK).state_dict(), {"network": NETWORK})
    assert "a grey picture" in atbsn("denoise", "a.png", "--weights", "idle.pth")[1]
    status, said = atbsn("denoise", "a.png", "--weights", "idle.pth", "--mask", "black.png", "--overwrite")
    assert status == 0 and "a grey picture" not in said
