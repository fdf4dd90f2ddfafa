"""atbsn adapt: learning a camera's noise from its pictures."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_denoise import NETWORK, atbsn, tiny

from atbsn.app.adapt import adapt
from atbsn.app.judgement import judge
from atbsn.archs import build_arch
from atbsn.archs.base import Network
from atbsn.archs.weights import read_weights, save_weights
from atbsn.data.crops import PictureCrops
from atbsn.noise import estimate
from atbsn.pictures import Picture, write_picture
from atbsn.utils.errors import UserError

__all__ = ["atbsn"]


def scene(height=320, width=320):
    """Something flat, something with edges."""
    rows, columns = np.mgrid[:height, :width]
    wave = 60 * np.sign(np.sin(rows / 9) * np.sin(columns / 13)) * (columns > width // 2)
    return np.stack([110 + wave + shift for shift in (0, 10, -10)], axis=2) + rows[..., None] / 8


def camera(level=12.0, seed=0, height=320, width=320):
    """A noisy picture with correlated noise, and the clean one."""
    clean = scene(height, width)
    field = gaussian_filter(np.random.default_rng(seed).normal(size=clean.shape), (0.6, 0.6, 0))
    return np.clip(clean + field * level / field.std(), 0, 255).round().astype(np.uint8), clean


class Takes(Network):
    """Takes off a part of what it is told the noise is, or blurs."""

    def __init__(self, noise, part, blur=0):
        super().__init__()
        self.noise, self.part, self.blur = noise, part, blur
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, noisy):
        if self.blur:
            return torch.nn.functional.avg_pool2d(noisy, self.blur, 1, self.blur // 2, count_include_pad=False)
        noise = self.noise if isinstance(self.noise, int) else self.noise[:, : noisy.shape[2], : noisy.shape[3]]
        return noisy - self.part * noise


def test_the_judgement_knows_the_right_denoiser():
    noisy, clean = camera()
    crop = torch.from_numpy(noisy).permute(2, 0, 1).float()
    residual = crop - torch.from_numpy(clean).permute(2, 0, 1).float()
    model = estimate([noisy])
    right, timid, blurred = (
        judge([net], [crop], model)[0]
        for net in (Takes(residual, 1.0), Takes(residual, 0.4), Takes(residual, 0, blur=7))
    )
    assert right.level == pytest.approx(1, abs=0.15) and timid.level == pytest.approx(0.4, abs=0.1)
    assert abs(right.correlation - right.expected) < 0.1
    assert blurred.structure > right.structure + 0.2
    assert right.score < min(timid.score, blurred.score)


def test_weights_are_better_only_where_no_detail_pays_for_it():
    noisy = camera()[0]
    crop = torch.from_numpy(noisy).permute(2, 0, 1).float()
    model = estimate([noisy])
    little, nothing = judge([Takes(0, 0, blur=3), Takes(0, 0)], [crop], model)
    assert little.noise_error < nothing.noise_error and little.score < nothing.score
    assert judge([Takes(0, 0, blur=3), Takes(0, 0)], [crop], model)[0] == little  # the same noise is drawn again
    sharp = replace(little, detail_error=nothing.detail_error)
    assert sharp.is_better_than(nothing) and not nothing.is_better_than(sharp)
    for worse in ({"detail_error": 1.1 * nothing.detail_error}, {"noise_error": 1.1 * nothing.noise_error}):
        assert not replace(sharp, **worse).is_better_than(nothing)
    assert not replace(sharp, structure=nothing.structure + 9).is_better_than(nothing)


def test_texture_is_not_smoothed_away():
    """Noise that is drawn far too strong makes a blur look right on itself, but not on the picture made smaller."""
    rng = np.random.default_rng(0)
    texture = torch.from_numpy(128 + 25 * rng.standard_normal((3, 256, 256))).float().clamp(0, 255)
    model = estimate([camera(level=9.0)[0]])
    blur, nothing = judge([Takes(0, 0, blur=3), Takes(0, 0)], [texture], model)
    assert blur.detail_error > 1.1 * nothing.detail_error and not blur.is_better_than(nothing)


def test_crops_of_whatever_can_be_read(tmp_path):
    for name, shape in (("a.png", (700, 300, 3)), ("b.png", (100, 90, 3)), ("small.png", (20, 90, 3))):
        write_picture(tmp_path / name, Picture(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)))
    (tmp_path / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:99])
    images = PictureCrops([str(tmp_path)], num_crops=40, side=256)
    assert {images.key(index).split("/")[-2] for index in range(len(images))} == {"a.png", "b.png"}
    assert all(max(images.size(index)) <= 256 for index in range(len(images))) and len(images) == 5
    assert {path.name for path, _ in images.skipped} == {"small.png", "torn.png"}
    assert images.crop(0, 3, 5, 32).shape == (32, 32, 3)
    with pytest.raises(UserError, match="no picture can be used"):
        PictureCrops([str(tmp_path / "torn.png")])


def test_adapting_learns_and_keeps_the_better(tmp_path):
    write_picture(tmp_path / "a.png", Picture(camera()[0]))
    start = build_arch(NETWORK)  # the identity, which takes nothing off
    before = {name: value.clone() for name, value in start.state_dict().items()}
    shares = []
    learned = []
    result = adapt(
        [tmp_path / "a.png"], 10, start, lambda share, what: shares.append((share, what)),
        lambda: learned.append(1) or len(learned) == 300,
    )  # fmt: skip
    assert all((value == before[name]).all() for name, value in start.state_dict().items())
    assert shares[0] == (0, "reading") and shares[-1] == (1, "judging") and result.iterations == 300
    assert result.before.level < 0.01 and result.helped and result.after.level > result.before.level
    assert "lag-1 correlation" in result.noise and "better" in result.sentence
    assert result.metadata["model"] == "RecorruptModel" and result.metadata["noise"]["levels"]


def test_a_stop_is_heard_at_once(tmp_path):
    write_picture(tmp_path / "a.png", Picture(camera()[0]))
    result = adapt([tmp_path / "a.png"], 10, build_arch(NETWORK), should_stop=lambda: True)
    assert result.iterations == 1
    assert not result.helped or result.after.noise_error < result.before.noise_error
    if not result.helped:
        assert result.metadata["network"]["type"] == "PhotoNet" and "before" in result.sentence


def test_the_command_ends_by_a_signal_with_usable_weights(tmp_path, repository):
    write_picture(tmp_path / "in" / "a.png", Picture(camera()[0]))
    save_weights(tmp_path / "tiny.pth", tiny().state_dict(), {"network": NETWORK})
    command = [sys.executable, "-c", "from atbsn.app import main; main()", "adapt", "in", "--start", "tiny.pth"]
    command += ["-o", "mine.pth", "--minutes", "30"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout.readline().startswith("using 1")
        time.sleep(5)
        process.send_signal(signal.SIGHUP)
        said = process.communicate(timeout=240)[0]
    assert "Traceback" not in said
    if process.returncode == 128 + signal.SIGHUP:
        assert "finishing this iteration" in said and "use them: atbsn denoise in --weights mine.pth" in said
        assert read_weights(tmp_path / "mine.pth").metadata["network"]["type"] == "PhotoNet"
        assert (tmp_path / "mine_compare.png").is_file()
    else:  # it came while torch was still being imported
        assert process.returncode == -signal.SIGHUP


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in", "-o", "mine.jpg"], "weights are .pth or .safetensors files"),
        (["in", "-o", "tiny.pth"], "is there already"),
        (["nowhere", "--start", "tiny.pth"], "no picture can be used"),
    ],
)
def test_what_cannot_be(atbsn, tmp_path, arguments, said):
    write_picture(tmp_path / "in" / "a.png", Picture(camera()[0]))
    status, output = atbsn("adapt", *arguments)
    assert status == 2 and said in output and "Traceback" not in output
