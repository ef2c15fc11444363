"""SQLAlchemy's pool over psycopg as its documentation shows it, with `pool_pre_ping` or without."""

import os

import application
from application import CHECK, INSERT, LIFETIME_S, LONG, PATIENCE_S, POOL
from sqlalchemy import create_engine, text

engine = create_engine(
    f"postgresql+psycopg://{os.environ['PGUSER']}@{os.environ['PGHOST']}:{os.environ['PGPORT']}/{os.environ['PGDATABASE']}",
    pool_size=POOL,
    max_overflow=0,
    pool_timeout=PATIENCE_S,
    pool_recycle=LIFETIME_S or -1,
    pool_pre_ping=CHECK,
)
autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
insert, long = text(INSERT.format(":id")), text(LONG.format(":id", ":sleeps_s"))


def job(kind, id, sleeps_s):
    if kind == "transaction":
        with engine.begin() as connection:
            connection.execute(text("select 1"))
            connection.execute(insert, {"id": id})
    else:
        with autocommit.connect() as connection:
            connection.execute(*[insert, {"id": id}] if kind == "single" else [long, {"id": id, "sleeps_s": sleeps_s}])


application.run_in_threads(job)
engine.dispose()
