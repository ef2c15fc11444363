"""What the programs in this directory share that compare lastcall with its peers: what must be on the machine, processes that are
started and always ended, a PostgreSQL of their own, a client that knows as much of the protocol as they need, and their tables.
"""

import contextlib
import ctypes
import glob
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
USER = "postgres"
# How long a program may take to start, or a session to open.
PATIENCE_S = 30
# Another process may take a port between its choice and its use: then another is tried.
ATTEMPTS = 3


class Failure(Exception):
    """Why nothing can be measured, and what to do about it."""


class EndedAtItsStart(Failure):
    """For one because its port was taken."""


class House:
    """The programs, a directory of their own, and a PostgreSQL that runs once it is asked for."""

    # How long psql or pgbench may run.
    client_limit_s = 120

    def __init__(self, stack, database, lastcall, *programs):
        self.database = database
        self.postgresql, *self.paths = find_or_install("postgresql", *programs)
        self.lastcall = os.path.abspath(lastcall) if lastcall else build_lastcall()
        self.versions = {"lastcall": version_of(self.lastcall, "--version"), "postgres": version_of(self.program("postgres"), "--version")}
        # PostgreSQL and PgBouncer refuse to be root.
        self.account = account() if os.geteuid() == 0 else None
        self.home = stack.enter_context(tempfile.TemporaryDirectory(prefix=f"lastcall-{database}-", ignore_cleanup_errors=True))
        if self.account:
            os.chown(self.home, self.account.pw_uid, self.account.pw_gid)
        # Where that user can run it, and where no build replaces it meanwhile.
        self.lastcall = shutil.copy(self.lastcall, self.path("lastcall"))

    def path(self, name):
        return os.path.join(self.home, name)

    def program(self, name):
        return os.path.join(self.postgresql, name)

    def start_postgres(self, stack, **more):
        """A server with a database of its own; `more` settings than those that make it fast."""
        progress("starting PostgreSQL")
        data = self.path("data")
        self.call(
            self.program("initdb"), "--username", USER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--pgdata", data
        )
        settings = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": 500, "shared_buffers": "256MB",
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off", "jit": "off", **more,
        }
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        command = [self.program("postgres"), "-D", data, *arguments, "-p"]
        server = enter(stack, lambda port: Running("postgres", [*command, str(port)], port, self, ends_by=signal.SIGINT))
        self.client("psql", server.port, "-qc", f"create database {self.database}", database="postgres")
        return server.port

    def client(self, name, port, *arguments, tls=False, database=None, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL):
        """Runs psql or pgbench to its end. Its output, or a failure that shows what it said."""
        database = database or self.database
        connection = ["-h", "127.0.0.1", "-p", port, "-U", USER] + (["-X", "-v", "ON_ERROR_STOP=1"] if name == "psql" else [])
        environment = {"PGSSLMODE": "require" if tls else "disable", "PGGSSENCMODE": "disable", "PGCONNECT_TIMEOUT": "20"}
        # Home: libpq looks for a certificate of its user's there.
        environment["HOME"] = self.home
        return self.call(
            self.program(name), *connection, *arguments, *(["-d", database] if name == "psql" else [database]),
            environment=environment, stdout=stdout, stdin=stdin, timeout=self.client_limit_s,
        )

    def call(self, *command, environment=None, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=120):
        command = [str(word) for word in command]
        child = self.as_child({**clean_environment(), **(environment or {})})
        process = subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True, **child)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise Failure(f"took longer than {timeout} s: {' '.join(command)}") from None
        finally:
            end(process, signal.SIGKILL)
        if process.returncode != 0:
            raise Failure(f"exit code {process.returncode}: {' '.join(command)}\n{last_lines(err)}")
        return out

    def as_child(self, environment, privileged=False, ends_by=signal.SIGKILL):
        """How a program is started: as another user where this one is root, out of Ctrl-C's reach, and never left behind."""
        arguments = {"cwd": self.home, "env": environment, "start_new_session": True, "preexec_fn": lambda: end_with_parent(ends_by)}
        if self.account and not privileged:
            arguments.update(user=self.account.pw_uid, group=self.account.pw_gid, extra_groups=[])
        return arguments

    def wait_until_deserted(self):
        """PostgreSQL notices a lost client a moment later, and should not do so in the next one's time."""
        until = time.monotonic() + PATIENCE_S
        with Session(self.postgres_port, self.database) as session:
            while session.query("select 1 from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()", rows=True):
                if time.monotonic() > until:
                    raise Failure(f"sessions are left in PostgreSQL {PATIENCE_S} s after their proxy was ended.")
                time.sleep(0.02)

    def write(self, path, text):
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)


def enter(stack, at_port):
    """What `at_port` makes for a free port, running."""
    for left in reversed(range(ATTEMPTS)):
        try:
            return stack.enter_context(at_port(free_port()))
        except EndedAtItsStart:
            if left == 0:
                raise


class Running:
    """A program that listens on a port, as long as the context is not left."""

    def __init__(self, name, command, port, house, privileged=False, pass_fds=(), ends_by=signal.SIGKILL):
        self.name, self.command, self.port, self.ends_by = name, command, port, ends_by
        self.log_path = house.path(f"{name}.log".replace(" ", "-"))
        self.start = lambda log: subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=pass_fds,
            **house.as_child(clean_environment(), privileged, ends_by),
        )

    def __enter__(self):
        with open(self.log_path, "wb") as log:
            self.process = self.start(log)
        try:
            self.wait_until_ready()
        except BaseException:
            end(self.process, self.ends_by)
            raise
        return self

    def wait_until_ready(self):
        until = time.monotonic() + PATIENCE_S
        while True:
            if self.process.poll() is not None:
                raise EndedAtItsStart(f"{self.name} ended at its start, exit code {self.process.returncode}. {self.log()}")
            try:
                Session(self.port, "postgres").close()
                return
            except (OSError, Refused) as error:
                if time.monotonic() > until:
                    raise Failure(f"{self.name} takes no session after {PATIENCE_S} s: {error}. {self.log()}") from None
                time.sleep(0.02)

    def __exit__(self, *_):
        end(self.process, self.ends_by)

    def cpu_us(self):
        """User and system time of all its threads, those that have ended too."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000 // os.sysconf("SC_CLK_TCK")

    def cost(self, unit, amount):
        return {unit: amount}

    def resident_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return int(line_of(status.read(), "VmRSS:").split()[0])

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return f"The command was: {' '.join(self.command)}\n{last_lines(log.read())}"


class Refused(Exception):
    """An error instead of a ReadyForQuery."""


class Session:
    """A client of its own: the startup packet, and simple queries whose answers are counted and not kept."""

    def __init__(self, port, database):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        try:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            parameters = f"user\0{USER}\0database\0{database}\0application_name\0observer\0\0".encode()
            self.socket.sendall(struct.pack("!ii", len(parameters) + 8, 196608) + parameters)
            self.until_ready()
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def once(self):
        """One statement, after which PgBouncer has a connection for this session as the others have from the start."""
        self.query("select 1")
        return self

    def query(self, statement, rows=False):
        """The length of its answer in bytes; or whether there was a row."""
        text = statement.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!i", len(text) + 4) + text)
        length, ending = self.until_ready()
        return b"SELECT 0\0" not in ending if rows else length

    def until_ready(self):
        """Up to the ReadyForQuery, which no row of these statements looks like: the length, and the last bytes."""
        buffer = bytearray(256 * 1024)
        view, length, ending = memoryview(buffer), 0, b""
        while not ending.endswith(b"Z\0\0\0\x05I"):
            received = self.socket.recv_into(buffer)
            if received == 0:
                raise Refused(f"the connection was closed: {last_lines(ending.decode('utf-8', 'replace'))}")
            length += received
            ending = (ending + view[max(received - 512, 0):received])[-512:]
            if length == received and buffer[0] == ord("E"):
                raise Refused(ending.replace(b"\0", b" ").decode("utf-8", "replace"))
        return length, ending

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.sendall(b"X\0\0\0\x04")
        self.socket.close()


def end(process, by):
    """Ends a process that this one has started, in any case, and waits for it."""
    if process.poll() is None:
        process.send_signal(by)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end_with_parent(by):
    """In a child, before it is the program: the signal that it gets should this process be killed. prctl(PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, by)


def clean_environment():
    """Without what would tell psql, pgbench or lastcall something that this command does not know of."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LASTCALL_", "RUST_LOG"))}
    return {**environment, "LC_ALL": "C", "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}


# What must be on the machine


def find_or_install(*names):
    """The paths of these programs; of PostgreSQL, the directory that has all of its."""
    missing = [name for name in names if not find(name)]
    if missing:
        install(*missing)
    return [find(name) or give_up(f"{name} was not found, although it is installed.") for name in names]


def find(name):
    if name == "postgresql":
        return find_postgresql()
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def find_postgresql():
    """The same places in which the tests look."""
    for directory in os.environ.get("PATH", "").split(":") + sorted(glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/usr/pgsql-*/bin")):
        if all(os.access(os.path.join(directory, program), os.X_OK) for program in ("initdb", "postgres", "psql", "pgbench")):
            return directory
    return None


def build_lastcall():
    progress_end("building lastcall")
    if not shutil.which("cargo"):
        give_up("there is no cargo to build lastcall with: install Rust, or name a binary with --lastcall.")
    if subprocess.run(["cargo", "build", "--release", "--locked", "-p", "cp"], cwd=ROOT, stdout=sys.stderr, check=False).returncode != 0:
        give_up("lastcall could not be built, for the reason above.")
    target = os.path.join(ROOT, os.environ.get("CARGO_TARGET_DIR", "target"))
    binary = os.path.join(target, "release", "lastcall")
    return binary if os.access(binary, os.X_OK) else give_up(f"cargo built no {binary}: name the binary with --lastcall.")


def install(*programs):
    """From the distribution, as tests/run does; without starting a service, now or at the next boot."""
    packages = [*programs, *["postgresql-contrib"] * ("postgresql" in programs)]
    names = " ".join(packages)
    remedy = f"Install {names}, or leave out what needs it (--help)."
    if not shutil.which("apt-get"):
        give_up(f"{names} would have to be installed, and there is no apt-get to do it with. {remedy}")
    prefix = as_root(names, remedy)

    def run(*command, text=None):
        progress_end("+ " + " ".join(command))
        return subprocess.run([*prefix, *command], input=text, text=True, stdout=sys.stderr, check=False).returncode == 0

    # Debian's packages of PostgreSQL would set up a cluster and start it, and those of services start these: unless it is denied.
    cluster, policy = "/etc/postgresql-common/createcluster.conf", "/usr/sbin/policy-rc.d"
    if not os.path.exists(cluster):
        run("mkdir", "-p", os.path.dirname(cluster))
        run("tee", cluster, text="create_main_cluster = false\n")
    denied = not os.path.exists(policy)
    if denied:
        run("tee", policy, text="#!/bin/sh\nexit 101\n")
        run("chmod", "755", policy)
    try:
        if not run("apt-get", "update"):
            give_up("apt-get update failed, for the reason above.")
        if not run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-o", "Dpkg::Options::=--force-confold", *packages):
            give_up(f"apt-get could not install {names}, for the reason above. {remedy}")
        for package in packages:
            if package in ("pgbouncer", "haproxy") and shutil.which("systemctl"):
                run("systemctl", "disable", package)
    finally:
        if denied:
            run("rm", policy)


def unpack(directory, *packages):
    """Unpacks these packages of the distribution there, without what they depend on."""
    os.makedirs(directory, exist_ok=True)
    if not shutil.which("apt-get"):
        give_up(f"{' '.join(packages)} would have to be unpacked, and there is no apt-get to get them with.")
    names = " ".join(packages)
    download = lambda: run_aloud("apt-get", "download", *packages, cwd=directory)
    if not download() and not (run_aloud(*as_root(names), "apt-get", "update") and download()):
        give_up(f"apt-get could not download {names}, for the reason above.")
    for package in glob.glob(os.path.join(directory, "*.deb")):
        if not run_aloud("dpkg-deb", "--extract", package, directory):
            give_up(f"{package} could not be unpacked, for the reason above.")


def as_root(names, remedy=""):
    """What a command begins with that installs something."""
    if os.geteuid() == 0:
        return []
    return ["sudo"] if shutil.which("sudo") else give_up(f"{names} would have to be installed, which takes root or sudo. {remedy}")


def run_aloud(*command, cwd=None):
    """Prints the command, then runs it: whether it has succeeded."""
    progress_end("+ " + " ".join(command))
    return subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False).returncode == 0


def give_up(why):
    raise Failure(f"{why} Nothing was measured.")


def account():
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return give_up("PostgreSQL refuses to be root, and there is neither a user postgres nor nobody: run this as another user.")


def version_of(program, flag):
    out = subprocess.run([program, flag], capture_output=True, text=True, check=False).stdout.split()
    return next((word for word in out if word[:1].isdigit()), "?")


# Small things


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def line_of(text, beginning):
    for line in text.splitlines():
        if line.startswith(beginning):
            return line[len(beginning):]
    raise Failure(f"no line begins with {beginning!r} in:\n{last_lines(text)}")


def last_lines(text):
    return "\n".join(text.strip().splitlines()[-12:])


def aligned(rows, left):
    """The first columns to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = lambda at, cell: cell.ljust(widths[at]) if at < left else cell.rjust(widths[at])
    return ["  ".join(padded(at, cell) for at, cell in enumerate(row)).rstrip() for row in rows]


def progress(text):
    """On a terminal, one line that changes."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def progress_end(text=None):
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    if text:
        print(text, file=sys.stderr, flush=True)
