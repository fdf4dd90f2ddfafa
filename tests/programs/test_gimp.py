"""The plug-in for GIMP 3, run by GIMP itself where it is installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.photos import NETWORK, noise, tiny

import atbsn
from atbsn.archs.weights import save_weights
from atbsn.pictures import Picture, read_picture, write_picture

GIMP = "gimp-console-3.0"
HEAD = """
import json
from gi.repository import Gimp, Gio
QUIETLY = Gimp.RunMode.NONINTERACTIVE

def denoise(image, layers, **settings):
    procedure = Gimp.get_pdb().lookup_procedure("plug-in-atbsn-denoise")
    config = procedure.create_config()
    config.set_property("image", image)
    config.set_core_object_array("drawables", layers)
    for name, value in {"command": COMMAND, "weights": WEIGHTS, **settings}.items():
        config.set_property(name, value)
    ended = procedure.run(config)
    told = None if ended.index(0) == Gimp.PDBStatusType.SUCCESS else Gimp.get_pdb().get_last_error()
    layers = [[each.get_name(), each.get_offsets()[1:], each.get_mask() is not None] for each in image.get_layers()]
    print("TOLD " + json.dumps([told, layers]))

def save(layer, path):
    # without its mask
    image = layer.get_image()
    size = layer.get_width(), layer.get_height()
    alone = Gimp.Image.new_with_precision(*size, image.get_base_type(), image.get_precision())
    copy = Gimp.Layer.new_from_drawable(layer, alone)
    alone.insert_layer(copy, None, 0)
    if copy.get_mask() is not None:
        copy.remove_mask(Gimp.MaskApplyMode.DISCARD)
    copy.set_offsets(0, 0)
    Gimp.file_save(QUIETLY, alone, Gio.File.new_for_path(path), None)

"""
CALLS = """
image = Gimp.file_load(QUIETLY, Gio.File.new_for_path("8.tif"))
(layer,) = image.get_layers()
layer.set_opacity(40)
denoise(image, [layer])
save(image.get_layers()[0], "8_made.tif")

image = Gimp.file_load(QUIETLY, Gio.File.new_for_path("16.png"))
(layer,) = image.get_layers()
layer.set_offsets(3, -4)
layer.add_mask(layer.create_mask(Gimp.AddMaskType.BLACK))
image.select_rectangle(Gimp.ChannelOps.REPLACE, 5, 5, 9, 9)
denoise(image, [layer], strength=0.5)
save(image.get_layers()[0], "16_made.png")

denoise(image, image.get_layers())
denoise(image, [image.get_layers()[0]], weights="none such")
denoise(image, [image.get_layers()[0]], command="no-such-command")
"""
REASONS = ("choose a single layer", "no weights of this name", "cannot be started")
"""Of the last three."""


def test_gimp_denoises(tmp_path: Path, repository: Path) -> None:
    if shutil.which(GIMP) is None:
        pytest.skip(f"needs {GIMP}")
    plug_in = tmp_path / "profile" / "plug-ins" / "atbsn_denoise" / "atbsn_denoise.py"
    plug_in.parent.mkdir(parents=True)
    shutil.copy(repository / "docs" / "programs" / "atbsn_denoise.py", plug_in)
    plug_in.chmod(0o755)
    save_weights(tmp_path / "tiny.pth", tiny().state_dict(), {"network": NETWORK})
    eight = noise(40, 50, 3)
    sixteen = np.random.default_rng(1).integers(0, 2**16, (40, 50, 3), dtype=np.uint16)
    write_picture(tmp_path / "8.tif", Picture(eight))
    alpha = noise(40, 50).astype(np.uint16) * 257
    write_picture(tmp_path / "16.png", Picture(sixteen, alpha))

    said = gimp(tmp_path, HEAD + CALLS)
    told = [json.loads(line.removeprefix("TOLD ")) for line in said.splitlines() if line.startswith("TOLD ")]
    assert len(told) == 5, said
    (wrong, layers), *others = told
    assert wrong is None and layers[0][1:] == [[0, 0], False] and layers[0][0].endswith(" denoised"), said
    (wrong, layers), *failed = others
    assert wrong is None and [layer[1:] for layer in layers] == [[[3, -4], True], [[3, -4], True]], said
    for (wrong, layers), reason in zip(failed, REASONS, strict=True):
        assert reason in wrong and len(layers) == 2, "nothing is added where it fails"

    made = read_picture(tmp_path / "8_made.tif")
    assert np.abs(made.rgb.astype(int) - atbsn.denoise(tiny(), eight)).max() <= 1
    made = read_picture(tmp_path / "16_made.png")
    difference = np.abs(made.rgb.astype(int) - atbsn.denoise(tiny(), sixteen, strength=0.5))
    assert difference[made.alpha > 0].max() <= 257  # what cannot be seen GIMP writes black into a PNG
    assert made.rgb.dtype == np.uint16 and np.array_equal(made.alpha, alpha)


def gimp(folder: Path, text: str) -> str:
    """Run Python in GIMP, without windows; what it says."""
    command = os.environ.get("ATBSN_COMMAND", f'"{sys.executable}" -m atbsn')
    text = f"COMMAND, WEIGHTS = {command!r}, {str(folder / 'tiny.pth')!r}\n{text}"
    arguments = [GIMP, "-i", "-f", "-d", "--batch-interpreter=python-fu-eval", "-b", text, "--quit"]
    environment = {**os.environ, "GIMP3_DIRECTORY": str(folder / "profile"), "HOME": str(folder)}
    ended = subprocess.run(arguments, env=environment, cwd=folder, capture_output=True, text=True, timeout=600)
    return ended.stdout + ended.stderr
