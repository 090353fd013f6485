-- POST /v1/events: batches of BENCH_BATCH events with ids unique across the run (ulid, uuid7 or uuid4).
-- The body is a fixed-width template; only ids and times are written into it, so that making a batch costs little.
dofile(os.getenv("BENCH_LUA") .. "/common.lua")

local ffi = require("ffi")
local batch = tonumber(os.getenv("BENCH_BATCH"))
local kind = os.getenv("BENCH_IDS")
local expect, expect_drain = '"accepted":' .. batch .. ",", '"accepted":' .. batch - 1 .. "," -- a drain batch is one smaller
local find, random, floor = string.find, math.random, math.floor
local templates, drain, at

local width = kind == "ulid" and 26 or 36
local crockford = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
local pairs32, pairs16 = ffi.new("char[2048]"), ffi.new("char[512]")
for i = 0, 1023 do
  pairs32[i * 2] = crockford:byte(floor(i / 32) + 1)
  pairs32[i * 2 + 1] = crockford:byte(i % 32 + 1)
end
for i = 0, 255 do
  ffi.copy(pairs16 + i * 2, string.format("%02x", i), 2)
end

local function put32(p, value, characters) -- the low 5 × characters bits, high first; characters is even
  for i = characters - 2, 0, -2 do
    local low = value % 1024
    p[i], p[i + 1] = pairs32[low * 2], pairs32[low * 2 + 1]
    value = floor(value / 1024)
  end
end

local function put16(p, value, characters)
  for i = characters - 2, 0, -2 do
    local low = value % 256
    p[i], p[i + 1] = pairs16[low * 2], pairs16[low * 2 + 1]
    value = floor(value / 256)
  end
end

local function put_id(p, ms)
  if width == 36 then
    p[8], p[13], p[18], p[23] = 45, 45, 45, 45 -- "-"
  end
  if kind == "ulid" then
    put32(p, ms, 10)
    put32(p + 10, random(0, 2 ^ 40 - 1), 8)
    put32(p + 18, random(0, 2 ^ 40 - 1), 8)
    return
  end
  if kind == "uuid7" then
    put16(p, floor(ms / 65536), 8)
    put16(p + 9, ms % 65536, 4)
    put16(p + 14, 0x7000 + random(0, 4095), 4)
  else
    put16(p, random(0, 2 ^ 32 - 1), 8)
    put16(p + 9, random(0, 65535), 4)
    put16(p + 14, 0x4000 + random(0, 4095), 4)
  end
  put16(p + 19, 0x8000 + random(0, 16383), 4)
  put16(p + 24, random(0, 2 ^ 48 - 1), 12)
end

-- The events of one template line are joined to one request with places for ids ("@" × width) and times ("#" × 24).
local function compile(events)
  local text = wrk.format("POST", os.getenv("BENCH_PATH"), headers(), "[" .. table.concat(events, ",") .. "]")
  local template = { length = #text, bytes = ffi.new("char[?]", #text), count = #events, ids = {}, times = {} }
  ffi.copy(template.bytes, text, #text)
  local id, time, from = string.rep("@", width), string.rep("#", 24), 1
  for i = 1, #events do
    local a = find(text, id, from, true)
    local b = find(text, time, a, true)
    template.ids[i], template.times[i], from = a - 1, b - 1, b
  end
  return template
end

function init()
  answered = 0
  local seed = io.open("/dev/urandom", "rb"):read(6)
  local n = 0
  for i = 1, 6 do
    n = n * 256 + seed:byte(i)
  end
  math.randomseed(n)
  local lines = {}
  for line in io.lines(os.getenv("BENCH_BODIES")) do
    lines[#lines + 1] = line
  end
  local last = table.remove(lines) -- the drain customer's event
  templates, at = {}, 0
  for start = 0, #lines - 1, math.max(1, floor(#lines / 8)) do
    local events = {}
    for i = 0, batch - 1 do
      events[i + 1] = lines[(start + i) % #lines + 1]
    end
    templates[#templates + 1] = compile(events)
  end
  local events = {}
  for i = 1, batch - 1 do
    events[i] = last
  end
  drain = compile(events)
end

local function fill(template)
  local ms = milliseconds()
  local time = os.date("!%Y-%m-%dT%H:%M:%S", floor(ms / 1000)) .. string.format(".%03dZ", ms % 1000)
  local p, ids, times = template.bytes, template.ids, template.times
  for i = 1, template.count do
    put_id(p + ids[i], ms)
    ffi.copy(p + times[i], time, 24)
  end
  return ffi.string(p, template.length)
end

function request()
  if in_window() then
    at = at % #templates + 1
    return fill(templates[at])
  end
  return fill(drain)
end

function response(status, _, body)
  local tail = math.max(1, #body - 200)
  if status == 200 and find(body, expect, tail, true) then
    good, answered = good + 1, answered + 1
  elseif status == 200 and find(body, expect_drain, tail, true) then
    good = good + 1
  else
    refuse(status, body)
  end
end
