-- For darktable: "denoise with atbsn" among the targets of an export. The exported picture is denoised by the atbsn
-- command, written beside the original as <name>_clean, imported, and grouped with the original.
--
-- Copy this file to darktable's configuration folder as lua/atbsn.lua, and add the line  require "atbsn"  to luarc
-- there. See docs/programs.md.

local dt = require "darktable"

local NAME = "atbsn"
local WINDOWS = dt.configuration.running_os == "windows"
local FORMATS = { tiff = true, png = true, jpeg = true } -- what atbsn reads and writes of what darktable exports

dt.preferences.register(NAME, "command", "string", "atbsn: command", "what starts atbsn, such as its path", "atbsn")
dt.preferences.register(NAME, "weights", "string", "atbsn: weights", "shipped weights by name, or a file", "real")

local function slider(label, tooltip, maximum, default)
  local made = dt.new_widget("slider") {
    label = label, tooltip = tooltip, step = 0.05, digits = 2,
    soft_min = 0, soft_max = maximum, hard_min = 0, hard_max = maximum,
  }
  made.value = default -- among the others it may come before its limits, and be cut to others
  return made
end

local strength = slider("strength", "how much of the noise is removed: 0 nothing, 1 all, up to 2 more", 2, 1)
local detail = slider("detail", "how much fine detail comes back", 1, 0)

-- One word for the shell, whatever is in it.
local function quote(text)
  if WINDOWS then
    return '"' .. text .. '"' -- no file's name has a quote there
  end
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

local function exists(path)
  local file = io.open(path, "rb")
  if file then
    file:close()
  end
  return file ~= nil
end

-- <folder>/<stem>_clean<suffix>, with a number where that is there already: nothing is written over.
local function target_of(image, exported)
  local stem = image.path .. (WINDOWS and "\\" or "/") .. image.filename:gsub("%.[^.]*$", "") .. "_clean"
  local suffix = exported:match("%.[^.]*$")
  local target, number = stem .. suffix, 1
  while exists(target) do
    number = number + 1
    target = string.format("%s_%d%s", stem, number, suffix)
  end
  return target
end

-- The last line that was said.
local function last_line(path)
  local last = ""
  for line in io.lines(path) do
    if line:match("%S") then
      last = line
    end
  end
  return last
end

-- Called with each exported picture, a temporary file.
local function store(storage, image, format, exported, number, total, high_quality, extra)
  local target, said = target_of(image, exported), exported .. ".txt"
  dt.print(string.format("atbsn: %d of %d, %s", number, total, image.filename))
  local settings = string.format(" --strength=%.2f --detail=%.2f", strength.value, detail.value):gsub(",", ".")
  local command = dt.preferences.read(NAME, "command", "string") .. " denoise " .. quote(exported)
    .. " --output " .. quote(target) .. " --weights " .. quote(dt.preferences.read(NAME, "weights", "string"))
    .. settings .. " > " .. quote(said) .. " 2>&1"
  dt.control.execute(command)
  if exists(target) then
    dt.database.import(target):group_with(image)
  else
    local why = exists(said) and last_line(said) or ""
    dt.print_error(command .. ": " .. why)
    dt.print("atbsn: " .. image.filename .. " could not be denoised: " .. why)
  end
  os.remove(exported)
  os.remove(said)
end

local function is_supported(storage, format)
  return FORMATS[format.plugin_name] == true
end

local widget = dt.new_widget("box") { orientation = "vertical", strength, detail }

dt.register_storage(NAME, "denoise with atbsn", store, nil, is_supported, nil, widget)

return { store = store }
