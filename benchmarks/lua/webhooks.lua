-- POST /webhooks/stripe: BENCH_BODIES is one event, signed anew for every request with an id of its own. Those of the drain are told apart by it.
dofile(os.getenv("BENCH_LUA") .. "/common.lua")
local ffi = require("ffi")
ffi.cdef([[
  const void *EVP_sha256(void);
  unsigned char *HMAC(const void *, const void *, int, const unsigned char *, size_t, unsigned char *, unsigned int *);
]])
local crypto
for _, name in ipairs({ "libcrypto.so.3", "libcrypto.so.1.1", "crypto" }) do
  local found, library = pcall(ffi.load, name)
  if found then
    crypto = library
    break
  end
end

local find, format = string.find, string.format
local secret, before, after, path = os.getenv("BENCH_SECRET"), nil, nil, os.getenv("BENCH_PATH")
local digest, length, hex = ffi.new("unsigned char[32]"), ffi.new("unsigned int[1]"), {}
for byte = 0, 255 do
  hex[byte] = format("%02x", byte)
end

function init()
  local file = io.open(os.getenv("BENCH_BODIES"))
  local text = file:read("*a"):gsub("%s+$", "")
  file:close()
  local from, to = find(text, string.rep("@", 24), 1, true)
  before, after = text:sub(1, from - 1), text:sub(to + 1)
  math.randomseed(milliseconds())
end

local sha256 = crypto.EVP_sha256()
local function signed(id)
  local body = before .. id .. after
  local at = format("%d", milliseconds() / 1000)
  local message = at .. "." .. body
  crypto.HMAC(sha256, secret, #secret, message, #message, digest, length)
  local parts = {}
  for i = 0, 31 do
    parts[i + 1] = hex[digest[i]]
  end
  return wrk.format("POST", path, {
    ["Content-Type"] = "application/json; charset=utf-8",
    ["Stripe-Signature"] = "t=" .. at .. ",v1=" .. table.concat(parts),
  }, body)
end

local random = math.random
function request()
  if in_window() then -- as Stripe's ids: the second it happened, then chance
    return signed(format("1%07x%08x%08x", milliseconds() / 1000 % 0x10000000, random(0, 0x7fffffff), random(0, 0x7fffffff)))
  end
  return signed(format("1drain%02x%08x%08x", random(0, 255), random(0, 0x7fffffff), random(0, 0x7fffffff)))
end

function response(status, _, body)
  if status == 200 and find(body, '"received":true', 1, true) then
    good = good + 1
  else
    refuse(status, body)
  end
end
