"""asyncpg's pool as its documentation shows it."""

import asyncio
import time

import application
import asyncpg
from application import CALLERS, INSERT, LONG, PATIENCE_S, POOL, Caller


async def main():
    async with asyncpg.create_pool(min_size=POOL, max_size=POOL) as pool:

        async def job(kind, id, sleeps_s):
            async with pool.acquire(timeout=PATIENCE_S) as connection:
                if kind == "long":
                    await connection.execute(LONG.format("$1::bigint", "$2"), id, sleeps_s)
                elif kind == "single":
                    await connection.execute(INSERT.format("$1"), id)
                else:
                    async with connection.transaction():
                        await connection.execute("select 1")
                        await connection.execute(INSERT.format("$1"), id)

        async def call(caller):
            while not application.done.is_set():
                kind, id, sleeps_s = caller.next()
                began, error = time.monotonic(), None
                try:
                    await job(kind, id, sleeps_s)
                except Exception as caught:
                    error = caught
                caller.says(id, began, sleeps_s, error)
                await asyncio.sleep(caller.thinks_s())

        end = asyncio.get_running_loop().run_in_executor(None, application.wait_for_the_end)
        await asyncio.gather(end, *[call(Caller(number)) for number in range(CALLERS)])


asyncio.run(main())
