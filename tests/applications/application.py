"""What the applications in Python do, whatever their pool is: so many callers, each of which does one job after the other, thinks
between two, and never tries one again.

A job is one row with a number of its own. It is told line by line what came of each, so that whoever reads can compare that with
the table at the end. `ready` is said when each caller has done a job; the end of standard input ends it.
"""

import os
import random
import sys
import threading
import time

CALLERS = int(os.environ["CALLERS"])
POOL = int(os.environ["POOL"])
CHECK = os.environ["CHECK"] == "1"
# None: connections may get as old as they like.
LIFETIME_S = int(os.environ["LIFETIME_S"]) or None
# How long a caller waits for a connection.
PATIENCE_S = int(os.environ["PATIENCE_S"])
THINK_S = [int(ms) / 1000 for ms in os.environ["THINK_MS"].split("-")]
LONG_S = [float(seconds) for seconds in os.environ["LONG_S"].split("-")]
ONE_IN = {kind: int(os.environ[f"ONE_IN_{kind.upper()}"]) for kind in ("transaction", "long")}
FIRST_ID = int(os.environ["FIRST_ID"])

INSERT = "insert into jobs (id) values ({})"
LONG = "insert into jobs (id) select {} from pg_sleep({})"

done = threading.Event()
lock = threading.Lock()
callers_with_a_job = set()


class Caller:
    """Which jobs one caller does, and what is said of them."""

    def __init__(self, number):
        self.number, self.jobs = number, 0
        self.random = random.Random(FIRST_ID + number)

    def thinks_s(self):
        return self.random.uniform(*THINK_S)

    def next(self):
        """Kind and number of the next job, and how long its statement sleeps."""
        id = FIRST_ID + self.number + CALLERS * self.jobs
        self.jobs += 1
        if self.random.randrange(ONE_IN["long"]) == 0:
            return "long", id, self.random.uniform(*LONG_S)
        return "transaction" if self.random.randrange(ONE_IN["transaction"]) == 0 else "single", id, 0

    def says(self, id, began, sleeps_s, error=None):
        stall_ms = (time.monotonic() - began - sleeps_s) * 1000
        say(f"{'done' if error is None else 'failed'} {id} {stall_ms:.0f}{'' if error is None else ' ' + told(error)}")
        with lock:
            if error is None and self.number not in callers_with_a_job:
                callers_with_a_job.add(self.number)
                if len(callers_with_a_job) == CALLERS:
                    say("ready")


def told(error):
    """Class, SQLSTATE and the first line of the text; of an error around an error, the inner one's."""
    inner = getattr(error, "orig", None) or error
    kind = type(error).__name__ + (f" of {type(inner).__name__}" if inner is not error else "")
    return f"{kind} {getattr(inner, 'sqlstate', None) or '-'}: {str(inner).strip().splitlines()[0] if str(inner).strip() else ''}"


def say(line):
    # Whole lines, whichever thread says them.
    os.write(1, f"{line}\n".encode())


def wait_for_the_end():
    sys.stdin.read()
    done.set()


def run_in_threads(job):
    """`job(kind, id, sleeps_s)` in one thread for each caller."""

    def call(caller):
        while not done.is_set():
            kind, id, sleeps_s = caller.next()
            began, error = time.monotonic(), None
            try:
                job(kind, id, sleeps_s)
            except Exception as caught:
                error = caught
            caller.says(id, began, sleeps_s, error)
            done.wait(caller.thinks_s())

    threads = [threading.Thread(target=call, args=[Caller(number)]) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    wait_for_the_end()
    for thread in threads:
        thread.join()
