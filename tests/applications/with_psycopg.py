"""psycopg_pool as its documentation shows it, with `check=` or without."""

import application
from application import CHECK, INSERT, LIFETIME_S, LONG, PATIENCE_S, POOL
from psycopg_pool import ConnectionPool

with ConnectionPool(
    "",
    min_size=POOL,
    max_size=POOL,
    timeout=PATIENCE_S,
    max_lifetime=LIFETIME_S or 3600,
    check=ConnectionPool.check_connection if CHECK else None,
    kwargs={"autocommit": True},
) as pool:
    pool.wait()

    def job(kind, id, sleeps_s):
        with pool.connection() as connection:
            if kind == "long":
                connection.execute(LONG.format("%s", "%s"), [id, sleeps_s])
            elif kind == "single":
                connection.execute(INSERT.format("%s"), [id])
            else:
                with connection.transaction():
                    connection.execute("select 1")
                    connection.execute(INSERT.format("%s"), [id])

    application.run_in_threads(job)
