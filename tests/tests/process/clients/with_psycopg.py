"""psycopg 3 through lastcall: what works, and what its connections see of a drain that begins when this says "ready".

Where to connect is in libpq's environment variables. Whatever is not as it must be ends this with an error.
"""

import select
import threading

import psycopg
from psycopg import errors

ROWS = list(range(1, 101))
LIMIT_S = 30


def main():
    work()
    idle = connect("idle")
    cancelled_connection = connect("cancelled")
    cancelled = InThread(sleep_for_ever, cancelled_connection)
    transaction = connect("transaction", autocommit=False)
    cursor = transaction.cursor(name="half_read")
    cursor.execute("select generate_series(1, 100)")
    rows = cursor.fetchmany(50)
    copying = connect("copying")
    with copying.cursor().copy("copy with_psycopg (n) from stdin") as copy:
        for n in ROWS[:50]:
            copy.write_row([n])
        running = InThread(pipeline, connect("running"))
        say("ready")

        readable, _, _ = select.select([idle], [], [], LIMIT_S)
        assert readable, "nothing is said to an idle connection"
        say(f"idle: {end(idle)}")

        cancelled_connection.cancel()
        say(f"cancelled: {cancelled.result()}, then {end(cancelled_connection)}")

        rows += cursor.fetchall()
        assert [n for (n,) in rows] == ROWS
        cursor.close()
        transaction.commit()
        say(f"transaction: {len(rows)} rows, then {end(transaction)}")

        for n in ROWS[50:]:
            copy.write_row([n])
    say(f"copy: {end(copying)}")

    answers, connection = running.result()
    say(f"running: {answers}, then {end(connection)}")


def work():
    """Everything that is special about this driver, before the drain."""
    with connect("works", autocommit=False) as connection:
        answer = connection.execute("select %s + 1, %b::bytea, %s::text", [41, b"\0\xff", None], prepare=True)
        assert answer.fetchone() == (42, b"\0\xff", None)
        connection.execute("create table with_psycopg (n int)")
        try:
            with connection.transaction():
                connection.execute("insert into with_psycopg values (0)")
                raise psycopg.Rollback()
        except psycopg.Rollback:
            pass
        cursor = connection.cursor()
        cursor.executemany("insert into with_psycopg values (%s)", [(n,) for n in ROWS])
        connection.commit()

        with cursor.copy("copy (select n from with_psycopg order by n) to stdout") as copy:
            assert [int(n) for (n,) in copy.rows()] == ROWS
        with connection.cursor(name="by_seven") as by_seven:
            by_seven.itersize = 7
            by_seven.execute("select n from with_psycopg order by n")
            assert [n for (n,) in by_seven] == ROWS
        connection.execute("truncate with_psycopg")

    with connect("pipelines") as connection:
        # An error is told once, and leaves out the rest up to the Sync.
        try:
            with connection.pipeline():
                connection.execute("insert into with_psycopg values (1)")
                connection.execute("select 1 / 0")
                connection.execute("insert into with_psycopg values (2)")
            raise AssertionError("no error of a pipeline is told")
        except errors.DivisionByZero:
            pass
        with connection.pipeline():
            cursors = [connection.execute("select %s + count(*) from with_psycopg", [n]) for n in ROWS]
        assert [cursor.fetchone()[0] for cursor in cursors] == ROWS


def pipeline(connection):
    """Three statements, all sent before the first is answered."""
    with connection.pipeline():
        cursors = [connection.execute("select %s::int from pg_sleep(%s)", [n, 1.0]) for n in range(3)]
    return [cursor.fetchone()[0] for cursor in cursors], connection


def sleep_for_ever(connection):
    try:
        connection.execute("select pg_sleep(600)")
    except errors.QueryCanceled as error:
        return error.sqlstate
    raise AssertionError("it was not cancelled")


def connect(name, autocommit=True):
    return psycopg.connect(application_name=f"psycopg-{name}", autocommit=autocommit)


def end(connection):
    """What the next statement is told. As in front of PostgreSQL itself, this driver has read the FATAL and the end of the
    stream at once, and then passes on the text without the SQLSTATE."""
    try:
        connection.execute("select 1")
    except psycopg.OperationalError as error:
        assert connection.closed and connection.broken
        assert error.sqlstate in (None, "57P01"), error.sqlstate
        if "terminating connection due to administrator command" in str(error):
            return "the FATAL"
        raise
    raise AssertionError("the connection goes on")


def say(line):
    print(line, flush=True)


class InThread(threading.Thread):
    """What a function returns that runs beside the others."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self.call = lambda: function(*arguments)
        self.outcome = self.error = None
        self.start()

    def run(self):
        try:
            self.outcome = self.call()
        except BaseException as error:
            self.error = error

    def result(self):
        self.join(LIMIT_S)
        if self.error:
            raise self.error
        assert not self.is_alive(), "nothing is said to a running statement"
        return self.outcome


main()
