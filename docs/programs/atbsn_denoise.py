#!/usr/bin/env python3
"""Filters > Enhance > Denoise with atbsn, for GIMP 3: the chosen layer, denoised by the atbsn command, as a new one.

Copy this file to a folder of its name among GIMP's plug-ins (Edit > Preferences > Folders > Plug-ins shows where that
is) and make it executable: plug-ins/atbsn_denoise/atbsn_denoise.py. See docs/programs.md.
"""

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import gi

gi.require_version("Gimp", "3.0")
gi.require_version("GimpUi", "3.0")
from gi.repository import Gimp, GimpUi, Gio, GLib, GObject  # noqa: E402

PROCEDURE = "plug-in-atbsn-denoise"
PULSE = 0.2
"""Seconds between two signs of life of the progress bar."""
NOT_OURS = ("PYTHONHOME", "PYTHONPATH")
"""Variables by which a packaged GIMP finds its own Python; the command has another one."""


class FailedError(Exception):
    """What the user is told."""


class AtbsnDenoise(Gimp.PlugIn):
    """The plug-in: GIMP asks it for its procedure, and calls that."""

    def do_set_i18n(self, name):
        del name
        return False

    def do_query_procedures(self):
        return [PROCEDURE]

    def do_create_procedure(self, name):
        procedure = Gimp.ImageProcedure.new(self, name, Gimp.PDBProcType.PLUGIN, run, None)
        procedure.set_image_types("*")
        procedure.set_sensitivity_mask(Gimp.ProcedureSensitivityMask.DRAWABLE)
        procedure.set_menu_label("Denoise with _atbsn...")
        procedure.add_menu_path("<Image>/Filters/Enhance")
        procedure.set_documentation(
            "Take the noise out of a layer",
            "A new layer above it is the denoised one; a selection becomes its mask. Needs the atbsn command.",
            name,
        )
        procedure.set_attribution("The atbsn authors", "The atbsn authors", "2026")
        how = GObject.ParamFlags.READWRITE
        procedure.add_double_argument("strength", "_Strength", "0 nothing, 1 all, up to 2 once more", 0, 2, 1, how)
        procedure.add_double_argument("detail", "_Detail", "How much fine detail comes back", 0, 1, 0, how)
        procedure.add_string_argument("weights", "_Weights", "Shipped weights by name, or a file", "real", how)
        procedure.add_string_argument("command", "_Command", "What starts atbsn", "atbsn", how)
        return procedure


def run(procedure, run_mode, image, drawables, config, data):
    """Denoise the chosen layer; with a dialogue first where somebody looks on."""
    del data
    if run_mode == Gimp.RunMode.INTERACTIVE:
        GimpUi.init(PROCEDURE)
        dialogue = GimpUi.ProcedureDialog.new(procedure, config, "Denoise with atbsn")
        dialogue.fill(None)
        agreed = dialogue.run()
        dialogue.destroy()
        if not agreed:
            return procedure.new_return_values(Gimp.PDBStatusType.CANCEL, GLib.Error())
    try:
        denoise(image, drawables, config)
    except (FailedError, OSError) as error:
        status = Gimp.PDBStatusType.EXECUTION_ERROR
        return procedure.new_return_values(status, GLib.Error(str(error)))
    return procedure.new_return_values(Gimp.PDBStatusType.SUCCESS, GLib.Error())


def denoise(image, drawables, config):
    """Put the denoised layer above the one that is chosen; where something is selected, it shows there alone."""
    if len(drawables) != 1 or not isinstance(drawables[0], Gimp.Layer) or drawables[0].is_group():
        raise FailedError("choose a single layer, no group, channel or mask")
    layer = drawables[0]
    Gimp.progress_init("Denoising with atbsn")
    with tempfile.TemporaryDirectory(prefix="atbsn-") as folder:
        noisy, clean = Path(folder) / "noisy.tif", Path(folder) / "clean.tif"
        save(image, layer, noisy)
        call(config, noisy, clean)
        made = Gimp.file_load_layer(Gimp.RunMode.NONINTERACTIVE, image, Gio.File.new_for_path(str(clean)))
    if made is None:
        raise FailedError("what atbsn made could not be read")
    image.undo_group_start()
    try:
        made.set_name(f"{layer.get_name()} denoised")
        image.insert_layer(made, layer.get_parent(), image.get_item_position(layer))
        _, left, top = layer.get_offsets()
        made.set_offsets(left, top)
        made.set_opacity(layer.get_opacity())
        made.set_mode(layer.get_mode())
        if not Gimp.Selection.is_empty(image):
            made.add_mask(made.create_mask(Gimp.AddMaskType.SELECTION))
    finally:
        image.undo_group_end()
    Gimp.displays_flush()


def save(image, layer, path):
    """Write the layer alone, without its mask, opacity and mode, as 8 or 16 bits as they are seen, with the profile."""
    size = layer.get_width(), layer.get_height()
    alone = Gimp.Image.new_with_precision(*size, image.get_base_type(), image.get_precision())
    try:
        if image.get_color_profile() is not None:
            alone.set_color_profile(image.get_color_profile())
        if image.get_base_type() == Gimp.ImageBaseType.INDEXED:
            alone.set_palette(image.get_palette())
        copy = Gimp.Layer.new_from_drawable(layer, alone)
        alone.insert_layer(copy, None, 0)
        if copy.get_mask() is not None:
            copy.remove_mask(Gimp.MaskApplyMode.DISCARD)
        copy.set_offsets(0, 0)
        copy.set_opacity(100)
        copy.set_mode(Gimp.LayerMode.NORMAL)
        copy.set_visible(True)
        if alone.get_base_type() == Gimp.ImageBaseType.INDEXED:
            alone.convert_rgb()
        eight = alone.get_precision() in (
            Gimp.Precision.U8_LINEAR, Gimp.Precision.U8_NON_LINEAR, Gimp.Precision.U8_PERCEPTUAL,
        )  # fmt: skip
        wanted = Gimp.Precision.U8_NON_LINEAR if eight else Gimp.Precision.U16_NON_LINEAR
        if alone.get_precision() != wanted:
            alone.convert_precision(wanted)
        export = Gimp.get_pdb().lookup_procedure("file-tiff-export")
        how = export.create_config()
        how.set_property("image", alone)
        how.set_property("file", Gio.File.new_for_path(str(path)))
        how.set_property("include-color-profile", True)
        how.set_property("save-transparent-pixels", True)
        how.set_property("include-thumbnail", False)
        if export.run(how).index(0) != Gimp.PDBStatusType.SUCCESS:
            raise FailedError(f"{path}: GIMP could not write the layer ({Gimp.get_pdb().get_last_error()})")
    finally:
        alone.delete()


def call(config, noisy, clean):
    """Have the command denoise; what it says last is told where it fails."""
    windows = os.name == "nt"  # whose paths have the backslashes that quote elsewhere
    command = [part.strip('"') for part in shlex.split(config.get_property("command"), posix=not windows)]
    settings = {name: str(config.get_property(name)) for name in ("strength", "detail", "weights")}
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    environment = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    window = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows would show one
    said = noisy.with_name("said.txt")
    with said.open("wb") as log:
        try:
            process = subprocess.Popen(
                [*command, "denoise", str(noisy), "--output", str(clean), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, creationflags=window,
            )  # fmt: skip
        except (OSError, IndexError) as error:
            name = config.get_property("command")
            raise FailedError(f"{name}: cannot be started ({error}); install atbsn, or give the whole path") from error
        while True:
            try:
                status = process.wait(PULSE)
                break
            except subprocess.TimeoutExpired:
                Gimp.progress_pulse()
    if status or not clean.is_file():
        lines = said.read_text(errors="replace").strip().splitlines()
        raise FailedError("\n".join(lines[-3:]) or f"atbsn ended with status {status}")


Gimp.main(AtbsnDenoise.__gtype__, sys.argv)
