-- GET through a gateway: one request a key, round robin; the last line of BENCH_BODIES is the drain key.
dofile(os.getenv("BENCH_LUA") .. "/common.lua")

local find, expect = string.find, os.getenv("BENCH_EXPECT")
local requests, count, at, drain

function init()
  requests, count, at = {}, 0, 0
  for key in io.lines(os.getenv("BENCH_BODIES")) do
    count = count + 1
    requests[count] = wrk.format("GET", os.getenv("BENCH_PATH"), { ["Authorization"] = "Bearer " .. key })
  end
  drain = requests[count]
  count = count - 1
end

function request()
  if in_window() then
    at = at % count + 1
    return requests[at]
  end
  return drain
end

function response(status, _, body)
  if status == 200 and find(body, expect, 1, true) then
    good = good + 1
  else
    refuse(status, body)
  end
end
