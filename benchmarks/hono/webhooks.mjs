// Webhooks as most tutorials have them: verify, SISMEMBER, effect, SADD, EXPIRE, answer.
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { Redis } from 'ioredis'
import Stripe from 'stripe'

const redis = new Redis(Number(process.env.BENCH_REDIS_PORT), '127.0.0.1')
const stripe = new Stripe('sk_test_bench')
const secret = process.env.BENCH_SECRET
const app = new Hono()

app.post('/webhooks/stripe', async (c) => {
  let event
  try {
    event = stripe.webhooks.constructEvent(await c.req.text(), c.req.header('stripe-signature'), secret)
  } catch (error) {
    return c.json({ error: error.message }, 400)
  }
  if (await redis.sismember('processed', event.id)) return c.json({ received: true })
  await redis.hincrby('applied', event.id, 1) // the effect: one write, and the count of how often
  await redis.sadd('processed', event.id)
  await redis.expire('processed', 3 * 86400)
  return c.json({ received: true })
})

serve({ fetch: app.fetch, hostname: '127.0.0.1', port: Number(process.env.BENCH_PORT) })
