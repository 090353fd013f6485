"""FastAPI and `limits` on Redis, the usual pair in Python: a key is known, its limit is taken, nothing is recorded.

`STRATEGY`: "sliding" is limits' SlidingWindowCounter, its best accuracy at a fixed cost; "fixed" its cheapest.
"""

from __future__ import annotations

import hashlib
import os

import limits
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter, SlidingWindowCounterRateLimiter
from pydantic import BaseModel

from benchmarks.apps.answer import ANSWER

KEYS = {hashlib.sha256(key.encode()).digest(): f"cus_{n}" for n, key in enumerate(os.environ["BENCH_KEYS"].split())}
LIMIT = limits.parse("1000000 per 1 second")
storage = RedisStorage(f"async+redis://127.0.0.1:{os.environ['BENCH_REDIS_PORT']}", implementation="redispy")
strategy = {"sliding": SlidingWindowCounterRateLimiter, "fixed": FixedWindowRateLimiter}[os.environ["BENCH_STRATEGY"]]
limiter = strategy(storage)
app = FastAPI()


class Check(BaseModel):
    key: str
    meter: str
    cost: str = "1"


@app.post("/v1/check")
async def check(body: Check) -> JSONResponse:
    customer = KEYS.get(hashlib.sha256(body.key.encode()).digest())
    if customer is None:
        return JSONResponse({"code": "NOT_FOUND"})
    if not await limiter.hit(LIMIT, customer, cost=1):
        return JSONResponse({"code": "RATE_LIMITED"})
    return JSONResponse({**ANSWER, "customer": customer})
