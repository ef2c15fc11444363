//! A real PostgreSQL: found on this machine, made anew for each test process, and gone with it.
//!
//! The server listens on a port of its own on 127.0.0.1 and keeps its data in a temporary directory. Two users log in
//! with a password, [`BY_MD5`] and [`BY_SCRAM`]; everybody else is let in. It never fsyncs: it is not going to survive
//! anyway.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::certificates::{Authority, Pair};
use crate::client::Client;
use crate::watchdog::Watchdog;

/// A user and its password; logs in with md5.
pub const BY_MD5: (&str, &str) = ("by_md5", "password one");
/// A user and its password; logs in with scram-sha-256.
pub const BY_SCRAM: (&str, &str) = ("by_scram", "password two");
/// The superuser. No password.
pub const SUPERUSER: &str = "postgres";
/// The database that is always there.
pub const DATABASE: &str = "postgres";

/// The programs that must be there, all in one directory so that they are of one version.
const PROGRAMS: [&str; 7] = ["initdb", "postgres", "psql", "pgbench", "pg_dump", "pg_restore", "pg_receivewal"];
/// Where distributions keep the programs of each version, beside the `PATH`.
const VERSIONED: [(&str, &str); 2] = [("/usr/lib/postgresql", "bin"), ("/usr", "bin")];
/// The users that the server runs as where this process is root, for it refuses to be root. First match wins.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

const HBA: &str = "\
host all by_md5   127.0.0.1/32 md5
host all by_scram 127.0.0.1/32 scram-sha-256
host all all      127.0.0.1/32 trust
host replication all 127.0.0.1/32 trust
";

/// How long the server may take to be ready. It takes a second; this is for a machine that does much else.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Another process may take the port between its choice and its use: then another is tried.
const ATTEMPTS: usize = 3;

/// A running server. It offers TLS, and takes those who want none.
#[derive(Debug)]
pub struct PostgreSql {
    /// Who has signed its certificate, which is for localhost.
    pub authority: Authority,
    /// That certificate.
    pub pair: Pair,
    /// Its port on 127.0.0.1.
    pub port: u16,
    programs: PathBuf,
    // Neither is used again: the watchdog stops the server when this process is gone.
    _server: Child,
    _watchdog: Watchdog,
}

/// The server of this test process, started when the first test asks for it.
///
/// # Panics
/// If there is none and none can be started, with the reason and the remedy.
pub fn postgres() -> &'static PostgreSql {
    static SERVER: OnceLock<Result<PostgreSql, String>> = OnceLock::new();
    match SERVER.get_or_init(PostgreSql::start) {
        Ok(server) => server,
        Err(why) => panic!("no PostgreSQL to test with: {why}"),
    }
}

impl PostgreSql {
    /// The path of one of PostgreSQL's programs, of the server's version.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// A client that bypasses the control plane.
    pub async fn connect(&self, application: &str) -> Client {
        Client::connect(self.port, application).await
    }

    /// Waits until the session of `application` executes a statement.
    pub async fn wait_until_active(&self, application: &str) {
        self.wait_until_any("application_name", application, 1).await;
    }

    /// Waits until this very statement is executed, in so many sessions, whatever their application.
    pub async fn wait_until_running(&self, statement: &str, sessions: usize) {
        self.wait_until_any("query", statement, sessions).await;
    }

    async fn wait_until_any(&self, column: &str, is: &str, sessions: usize) {
        let observer = self.connect("observer").await;
        let active = format!("select 1 from pg_stat_activity where {column} = $1 and state = 'active'");
        crate::eventually(Duration::from_secs(10), "a running statement", async || {
            let rows = observer.query(&active, &[&is]).await.expect("the server answers its own superuser");
            (rows.len() >= sessions).then_some(())
        })
        .await;
    }

    /// Waits until none of these sessions executes a statement any more: their answers are on their way.
    pub async fn wait_until_idle(&self, applications: &[&str]) {
        let observer = self.connect("observer").await;
        let idle = "select 1 from pg_stat_activity where application_name = any($1) and state = 'idle' and query <> ''";
        crate::eventually(Duration::from_secs(10), "the end of statements", async || {
            let rows = observer.query(idle, &[&applications]).await.expect("the server answers its own superuser");
            (rows.len() == applications.len()).then_some(())
        })
        .await;
    }

    /// Waits until there is no session any more whose application's name begins with `application`, no longer than `limit`.
    ///
    /// # Panics
    /// If there still is one then, with what it is doing.
    pub async fn wait_until_gone(&self, limit: Duration, application: &str) {
        let observer = self.connect("observer").await;
        let left = "select application_name || ': ' || state || ' ' || query from pg_stat_activity \
                    where starts_with(application_name, $1) order by 1";
        let started = Instant::now();
        loop {
            let rows = observer.query(left, &[&application]).await.expect("the server answers its own superuser");
            if rows.is_empty() {
                return;
            }
            let sessions: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            assert!(started.elapsed() < limit, "still there after {limit:?}: {sessions:#?}");
            tokio::time::sleep(crate::LOOK_EVERY).await;
        }
    }

    fn start() -> Result<PostgreSql, String> {
        let programs = find_programs()?;
        let home = tempfile::Builder::new()
            .prefix("lastcall-tests-")
            .tempdir()
            .map_err(|error| format!("no temporary directory: {error}"))?;
        let account = Account::find()?;
        account.take_over(home.path()).map_err(|error| format!("can't hand over {:?}: {error}", home.path()))?;
        let data = home.path().join("data");
        let mut initdb = account.command(&programs.join("initdb"), home.path());
        initdb.args(["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]);
        let made = initdb.arg("--pgdata").arg(&data).output().map_err(|error| format!("initdb: {error}"))?;
        if !made.status.success() {
            return Err(format!("initdb: {}", String::from_utf8_lossy(&made.stderr)));
        }
        let authority = Authority::new();
        let pair = authority.signs("server", &["localhost"]);
        for (from, to) in [(&pair.cert, "server.crt"), (&pair.key, "server.key")] {
            let to = data.join(to);
            let copied = fs::copy(from, &to).and_then(|_| account.owns(&to));
            copied.map_err(|error| format!("{}: {error}", to.display()))?;
        }
        fs::write(data.join("pg_hba.conf"), HBA).map_err(|error| format!("pg_hba.conf: {error}"))?;

        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match start_server(&account, &programs, home.path()) {
                Ok((server, watchdog, port)) => {
                    // The watchdog removes it, when the server is gone.
                    let _ = home.keep();
                    let server = PostgreSql { authority, pair, port, programs, _server: server, _watchdog: watchdog };
                    server.make_users()?;
                    return Ok(server);
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    fn make_users(&self) -> Result<(), String> {
        let ((md5, one), (scram, two)) = (BY_MD5, BY_SCRAM);
        let made = crate::psql::command(&self.program("psql"), self.port, SUPERUSER, "users")
            .args(["-c", "set password_encryption = 'md5'"])
            .args(["-c", &format!("create role {md5} login password '{one}'")])
            .args(["-c", "set password_encryption = 'scram-sha-256'"])
            .args(["-c", &format!("create role {scram} login password '{two}'")])
            .output()
            .map_err(|error| format!("psql: {error}"))?;
        if made.status.success() {
            return Ok(());
        }
        Err(format!("can't make users: {}", String::from_utf8_lossy(&made.stderr)))
    }
}

/// Starts the server on a free port and waits until it is ready.
fn start_server(account: &Account, programs: &Path, home: &Path) -> Result<(Child, Watchdog, u16), String> {
    let told = home.join("log");
    let port = free_port().map_err(|error| format!("no free port: {error}"))?;
    let log = fs::File::create(&told).map_err(|error| format!("{}: {error}", told.display()))?;
    let mut command = account.command(&programs.join("postgres"), home);
    command.arg("-D").arg(home.join("data")).args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
        "fsync=off",
        "full_page_writes=off",
        "synchronous_commit=off",
        "autovacuum=off",
        "logging_collector=off",
        "ssl=on",
    ] {
        command.args(["-c", setting]);
    }
    let mut server = command
        // An interrupt from the terminal is the watchdog's to answer, after the test process has ended.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("postgres: {error}"))?;
    let watchdog = Watchdog::over(server.id(), "QUIT", Some(home));
    let started = Instant::now();
    loop {
        let said = fs::read_to_string(&told).unwrap_or_default();
        if said.contains("database system is ready to accept connections") {
            return Ok((server, watchdog, port));
        }
        let ended = server.try_wait().map_err(|error| format!("postgres: {error}"))?;
        if ended.is_some() || started.elapsed() > START_LIMIT {
            let _ = server.kill();
            let _ = server.wait();
            watchdog.release();
            return Err(format!("postgres did not get ready:\n{said}"));
        }
        std::thread::sleep(crate::LOOK_EVERY);
    }
}

/// A port on which nobody listens right now. Somebody else may be faster; whoever uses it must be able to try again.
///
/// # Errors
/// What the kernel reports.
pub fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// The directory that has all of [`PROGRAMS`]: first on the `PATH`, then the newest version where distributions keep
/// them.
fn find_programs() -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path);
    let found = on_path.chain(versioned()).find(|bin| PROGRAMS.iter().all(|program| bin.join(program).is_file()));
    found.ok_or_else(|| {
        format!(
            "{} were not found in one directory, neither on the PATH nor in /usr/lib/postgresql/*/bin. \
             `tests/run` installs them and runs the tests.",
            PROGRAMS.join(", ")
        )
    })
}

/// The `bin` directories of installed versions, the newest first.
fn versioned() -> impl Iterator<Item = PathBuf> {
    let mut found = Vec::new();
    for (parent, bin) in VERSIONED {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.strip_prefix("pgsql-").unwrap_or(&name);
            if let Ok(version) = version.parse::<u32>() {
                found.push((version, entry.path().join(bin)));
            }
        }
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, bin)| bin)
}

/// Whom the server runs as.
struct Account(Option<(u32, u32)>);

impl Account {
    /// Whoever runs the tests, unless that is root.
    fn find() -> Result<Account, String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Account(None));
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?;
        let ids = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2).map(str::parse);
            Some((fields.next()?.ok()?, fields.next()?.ok()?))
        };
        let found = ACCOUNTS.into_iter().find_map(ids);
        found
            .map(|ids| Account(Some(ids)))
            .ok_or_else(|| format!("PostgreSQL refuses to run as root, and there is no user {}", ACCOUNTS.join(" or ")))
    }

    /// Makes this directory, and nothing else, the account's own.
    fn take_over(&self, directory: &Path) -> io::Result<()> {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        self.owns(directory)
    }

    fn owns(&self, path: &Path) -> io::Result<()> {
        match self.0 {
            Some((user, group)) => chown(path, Some(user), Some(group)),
            None => Ok(()),
        }
    }

    /// A command that runs as this account, in `directory`: that is one which it may enter.
    fn command(&self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}
