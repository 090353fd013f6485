-- Shared by check.lua and events.lua: the clock, the counted window, the line of results that load.py reads.
--
-- A run has a counted window of BENCH_SECONDS, then a drain: until wrk stops, requests go to the drain customer only. What is in
-- flight when wrk stops is therefore never counted, and what was acknowledged can be compared with the usage total exactly.
-- `answered` counts good answers to counted requests where a script can tell them from the drain's, and is -1 where it cannot.
-- wrk calls request() once before it opens a connection and throws the result away; `sent` starts at -1 for that.
local ffi = require("ffi")
ffi.cdef([[ typedef struct { long s; long ns; } tk_time; int clock_gettime(int, tk_time *); ]])
local clock = ffi.new("tk_time")

function monotonic() -- seconds
  ffi.C.clock_gettime(1, clock)
  return tonumber(clock.s) + tonumber(clock.ns) * 1e-9
end

function milliseconds() -- since 1970
  ffi.C.clock_gettime(0, clock)
  return tonumber(clock.s) * 1000 + math.floor(tonumber(clock.ns) / 1e6)
end

function headers()
  return { ["Content-Type"] = "application/json", ["Authorization"] = os.getenv("BENCH_AUTHORIZATION") }
end

local threads = {}
function setup(thread)
  threads[#threads + 1] = thread
end

local window = tonumber(os.getenv("BENCH_SECONDS"))
local started
sent, good, answered, bad, first_bad, good_in_window = -1, 0, -1, 0, "", 0

function in_window() -- called once a request
  local now = monotonic()
  if sent == 0 then
    started = now
  end
  if not started or now - started < window then
    sent = sent + 1
    good_in_window = good
    return true
  end
  return false
end

function refuse(status, body)
  if bad == 0 then
    first_bad = status .. " " .. body:sub(1, 200) .. " ... " .. body:sub(-200)
  end
  bad = bad + 1
end

function done(summary, latency)
  local sum, first = { sent = 0, good = 0, answered = 0, bad = 0, good_in_window = 0 }, ""
  for _, thread in ipairs(threads) do
    for name in pairs(sum) do
      sum[name] = sum[name] + thread:get(name)
    end
    first = first == "" and thread:get("first_bad") or first
  end
  local e = summary.errors
  print(string.format("\nRESULT\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s",
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99), latency.max,
    sum.sent, sum.good, sum.answered, sum.bad, sum.good_in_window, e.connect + e.read + e.write + e.timeout, (first:gsub("%s", " "))))
end
