// The check as it would be written on Hono and ioredis: key, limit, quota and event in one Lua script, one round trip.
import { createHash, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { Redis } from 'ioredis'

const redis = new Redis(Number(process.env.BENCH_REDIS_PORT), '127.0.0.1') // enableAutoPipelining makes it slower here
redis.defineCommand('check', { numberOfKeys: 1, lua: readFileSync(new URL('check.lua', import.meta.url), 'utf8') })

const LIMIT = 1000000
const WINDOW = 1000000
const QUOTA = 1e12
const app = new Hono()

app.post('/v1/check', async (c) => {
  const body = await c.req.json()
  const digest = createHash('sha256').update(body.key).digest('hex')
  const id = randomUUID()
  const [code, customer, key, plan, remaining, used] = await redis.check(
    `key:${digest}`, body.cost ?? '1', id, WINDOW / LIMIT, WINDOW, QUOTA, '2026-01')
  if (code !== 'VALID') return c.json({ code })
  return c.json({
    code,
    status: 200,
    request_id: `req_${id.slice(0, 26)}`,
    event_id: id.slice(0, 26),
    reservation: null,
    customer,
    key_id: key,
    environment: 'live',
    plan,
    rate_limits: [{ name: 'burst', limit: LIMIT, remaining, reset_seconds: 1 }],
    quota: {
      meter: 'api_calls', kind: 'hard', limit: String(QUOTA), used: String(used), remaining: String(QUOTA - used),
      resets_at: '2026-01-01T00:00:00Z',
    },
    problem: null,
  })
})

serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.BENCH_PORT) })
