"""The script for darktable, run by Lua with a stand-in of what it uses of darktable."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.photos import NETWORK, noise, tiny

import atbsn
from atbsn.archs.weights import save_weights
from atbsn.pictures import Picture, read_picture, write_picture

LUA = shutil.which("lua5.4") or shutil.which("lua")
STAND_IN = """
-- As darktable 5.0 behaves: properties are set in any order, and a slider cuts its value to the limits of then.
local function slider()
  local inside = { hard_min = 0, hard_max = 0, value = 0 }
  return setmetatable({}, { __index = inside, __newindex = function(_, name, value)
    if name == "value" then
      value = math.max(inside.hard_min, math.min(inside.hard_max, value))
    end
    inside[name] = value
  end })
end

local dt = { configuration = { running_os = "linux" }, preferences = {}, control = {}, database = {} }
local preferences, storages = {}, {}

function dt.new_widget(kind)
  return function(properties)
    local widget = kind == "slider" and slider() or {}
    local names = {}
    for name in pairs(properties) do
      names[#names + 1] = name
    end
    table.sort(names, function(a, b) return tostring(a) > tostring(b) end)
    for _, name in ipairs(names) do
      widget[name] = properties[name]
    end
    return widget
  end
end
function dt.preferences.register(script, name, kind, label, tooltip, default) preferences[name] = default end
function dt.preferences.read(script, name, kind) return preferences[name] end
function dt.control.execute(command) return os.execute(command) and 0 or 1 end
function dt.print(text) print("PRINT", text) end
function dt.print_error(text) print("ERROR", text) end
function dt.register_storage(name, label, store, finalize, supported, initialize, widget)
  storages[name] = { store = store, supported = supported, widget = widget }
end
function dt.database.import(path)
  return { group_with = function(_, image) print("IMPORTED", path, image.filename) end }
end
package.preload.darktable = function() return dt end
"""


@pytest.fixture
def darktable(tmp_path: Path, repository: Path) -> Callable[..., Any]:
    """``darktable(lines)``: what is printed after the script was loaded and the lines of Lua were run."""
    if LUA is None or sys.platform == "win32":
        pytest.skip("needs lua, and a shell that quotes as on Linux")
    save_weights(tmp_path / "tiny.pth", tiny().state_dict(), {"network": NETWORK})

    def run(lines: str) -> str:
        command = f"{shlex.quote(sys.executable)} -m atbsn"
        text = f"{STAND_IN}\ndofile([[{repository / 'docs' / 'programs' / 'atbsn.lua'}]])\n"
        text += f"preferences.command, preferences.weights = [[{command}]], [[{tmp_path / 'tiny.pth'}]]\n{lines}"
        (tmp_path / "run.lua").write_text(text)
        ended = subprocess.run([LUA, "run.lua"], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


def export(folder: Path, name: str = "exported.png") -> None:
    """What darktable would have exported."""
    write_picture(folder / name, Picture(noise(40, 50, 3)))


STORE = """
local image = {{ path = [[{0}]], filename = "it's a.b.NEF" }}
storages.atbsn.store(nil, image, nil, [[{0}/exported.png]], 1, 2, true, {{}})
"""


def test_an_exported_picture_is_denoised_beside_the_original(darktable: Callable[..., Any], tmp_path: Path) -> None:
    export(tmp_path)
    made = tmp_path / "it's a.b_clean.png"
    said = darktable(STORE.format(tmp_path))
    assert f"IMPORTED\t{made}\tit's a.b.NEF" in said and "ERROR" not in said, said
    assert abs(read_picture(made).rgb.astype(int) - atbsn.denoise(tiny(), noise(40, 50, 3))).max() <= 1
    assert not (tmp_path / "exported.png").exists() and not list(tmp_path.glob("*.txt"))
    before = made.read_bytes()
    export(tmp_path)
    assert "it's a.b_clean_2.png" in darktable(STORE.format(tmp_path))
    assert made.read_bytes() == before, "nothing is written over"


def test_what_goes_wrong_is_told(darktable: Callable[..., Any], tmp_path: Path) -> None:
    export(tmp_path)
    said = darktable("preferences.weights = 'none such'\n" + STORE.format(tmp_path))
    assert "could not be denoised: ERROR: none such: no weights of this name" in said and "IMPORTED" not in said
    assert not list(tmp_path.glob("*_clean*")) and not list(tmp_path.glob("exported*"))


def test_formats_and_settings(darktable: Callable[..., Any]) -> None:
    lines = """
    for _, name in ipairs { "tiff", "png", "jpeg", "pdf", "exr" } do
      print(name, storages.atbsn.supported(nil, { plugin_name = name }))
    end
    print(storages.atbsn.widget[1].value, storages.atbsn.widget[2].value)
    """
    said = darktable(lines).split()
    assert said == ["tiff", "true", "png", "true", "jpeg", "true", "pdf", "false", "exr", "false", "1", "0"]
