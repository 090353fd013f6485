-- One atomic step in Redis: key lookup, limit (GCRA), hard quota, event appended. Refused: nothing is taken.
-- KEYS[1] key:<sha256>   ARGV: cost, event id, interval µs, window µs, quota, period
local key = redis.call('HMGET', KEYS[1], 'customer', 'id', 'plan')
local customer = key[1]
if not customer then
  return {'NOT_FOUND'}
end
local cost, interval, window, limit = tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local bucket, counter = 'tat:' .. customer, 'used:' .. customer .. ':' .. ARGV[6]
local tat = math.max(tonumber(redis.call('GET', bucket) or '0'), now) + cost * interval
if tat - now > window then
  return {'RATE_LIMITED', customer}
end
local used = tonumber(redis.call('GET', counter) or '0') + cost
if used > limit then
  return {'QUOTA_EXCEEDED', customer}
end
redis.call('SET', bucket, string.format('%.0f', tat), 'PX', math.ceil(window / 1000))
redis.call('INCRBY', counter, ARGV[1])
redis.call('XADD', 'events', '*', 'id', ARGV[2], 'customer', customer, 'key', key[2], 'meter', 'api_calls', 'quantity', ARGV[1])
return {'VALID', customer, key[2], key[3], math.floor((window - (tat - now)) / interval), used}
