//! `lastcall demo`: the two promises, and how each of the two simple drains breaks one of them, in one terminal and less than a
//! minute.
//!
//! Nothing is staged: each round starts this very program in front of its embedded engine, connects clients to it, sends it
//! SIGTERM, and prints what the clients are told and when the process is gone.

use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use lastcall_core::Time;
use lastcall_world::alarm::within;
use lastcall_world::{Tcp, TokioWorld, World};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_postgres::{Client, NoTls};

/// From the start of a process to its first line that says that it serves, on a machine that does much else.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Nobody waits longer for a client that is to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Why the demo can't go on.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// One process that is told to stop.
struct Round {
    title: &'static str,
    flags: &'static [&'static str],
    /// For how long its statement runs that has begun when the signal comes.
    statement: u32,
    /// How long the kubelet waits before its SIGKILL.
    patience: Duration,
    moral: &'static str,
}

const ROUNDS: [Round; 3] = [
    Round {
        title: "1. Last Call",
        flags: &["--lame-duck", "1s", "--idle-grace", "4s", "--pacing", "none"],
        statement: 8,
        patience: Duration::from_secs(60),
        moral: "The idle client was told, and could reconnect elsewhere; the report ended; nobody waited for longer than that.",
    },
    Round {
        title: "2. What others do: wait for every connection (--drain-policy unbounded)",
        flags: &["--drain-policy", "unbounded"],
        statement: 2,
        patience: Duration::from_secs(7),
        moral: "One idle client holds the process until the SIGKILL, which may be 24 h away, and nobody is told anything.",
    },
    Round {
        title: "3. What others do: a flat cap (--drain-policy flat)",
        flags: &["--drain-policy", "flat", "--handover-drain-timeout", "3s", "--idle-grace", "2s", "--lame-duck", "1s"],
        statement: 8,
        patience: Duration::from_secs(60),
        moral: "The cap cuts whatever runs when it falls, and lets idle clients wait for it.",
    },
];

/// Plays all rounds.
pub(crate) fn run() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return crate::fail(&error),
    };
    runtime.block_on(async {
        let world = TokioWorld::without_signals(Tcp::default());
        tell(
            "A PostgreSQL front is told to stop (SIGTERM) while an idle client and a running report are connected.\n\
             Each round starts this program anew, in front of its embedded SQL engine. Ctrl-C ends it.",
        );
        for round in &ROUNDS {
            if let Err(error) = round.play(&world).await {
                crate::say(&format!("lastcall: the demo cannot go on: {error}"));
                return ExitCode::from(crate::EXIT_FAILED);
            }
        }
        tell(
            "\nNow yours: `lastcall serve`, then `psql -h 127.0.0.1 -p 6432`, and SIGTERM from elsewhere; with --admin\n\
             127.0.0.1:8080, `lastcall status` tells who holds the process and until when.",
        );
        ExitCode::SUCCESS
    })
}

impl Round {
    async fn play(&self, world: &TokioWorld) -> Result<(), Error> {
        tell(&format!("\n{}\n   $ lastcall serve {}", self.title, self.flags.join(" ")));
        let (mut process, port) = within(world, world.now() + START_LIMIT, start(self.flags))
            .await
            .ok_or("the process does not begin to serve")??;
        let stage = Stage { world: world.clone(), port, began: None };
        let (idle, idle_ended) = stage.connect("idle client").await?;
        idle.simple_query("select 1").await?;
        let (report, report_ended) = stage.connect("report").await?;
        let asked = stage.world.now();
        let sql = format!("select pg_sleep({})", self.statement);
        let running = async move {
            let answer = report.simple_query(&sql).await;
            (report, answer)
        };
        let mut running = Box::pin(running);
        // It runs once its bytes are there; half a second is what a person sees as "it is running".
        let _ = within(world, asked + Duration::from_millis(500), &mut running).await;

        let stage = Arc::new(Stage { began: Some(world.now()), ..stage });
        let pid =
            process.id().and_then(|id| Pid::from_raw(id.cast_signed())).ok_or("the process has ended by itself")?;
        kill_process(pid, Signal::TERM)?;
        stage.tell(&format!("SIGTERM; the report has run for half a second of its {} s", self.statement));

        stage.watch("idle client", idle_ended);
        let told = stage.clone();
        world.spawn("report", async move {
            let (report, answer) = running.await;
            match answer {
                Ok(_) => told.tell("report: its statement is done, and answered"),
                Err(error) => told.tell(&format!("report: its statement is CUT: {}", reason(&error))),
            }
            told.watch("report", report_ended);
            std::future::pending::<()>().await;
            drop(report);
        });
        let newcomer = stage.clone();
        world.spawn("newcomer", async move {
            newcomer.world.sleep_until(newcomer.world.now() + Duration::from_secs(2)).await;
            match newcomer.connect("newcomer").await {
                Ok(_) => newcomer.tell("newcomer: let in"),
                Err(error) => newcomer.tell(&format!("newcomer: {error}")),
            }
        });
        match within(world, world.now() + self.patience, process.wait()).await {
            Some(status) => stage.tell(&format!("the process is gone: {}", status?)),
            None => {
                stage.tell("STILL THERE. This demo does what the kubelet does at the end of the grace: SIGKILL");
                process.kill().await?;
            }
        }
        drop(idle);
        tell(&format!("   {}", self.moral));
        Ok(())
    }
}

/// Where a round takes place.
#[derive(Clone)]
struct Stage {
    world: TokioWorld,
    port: u16,
    /// When the signal came.
    began: Option<Time>,
}

/// What a session ends with.
type Ended = tokio::sync::oneshot::Receiver<Option<String>>;

impl Stage {
    async fn connect(&self, name: &str) -> Result<(Client, Ended), Error> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user("demo").dbname("demo").application_name(name);
        let connected = within(&self.world, self.world.now() + CONNECT_LIMIT, config.connect(NoTls)).await;
        let (client, connection) = connected.ok_or("no answer")?.map_err(|error| reason(&error))?;
        let (ends, ended) = tokio::sync::oneshot::channel();
        self.world.spawn("client", async move {
            let end = connection.await.err().map(|error| reason(&error));
            let _ = ends.send(end);
        });
        Ok((client, ended))
    }

    /// Tells the end of a session.
    fn watch(self: &Arc<Self>, name: &'static str, ended: Ended) {
        let stage = self.clone();
        self.world.spawn("watch", async move {
            match ended.await {
                Ok(Some(error)) => stage.tell(&format!("{name}: {error}")),
                Ok(None) => stage.tell(&format!("{name}: closed without a word")),
                Err(_) => {}
            }
        });
    }

    fn tell(&self, what: &str) {
        let after = self.began.map_or(Duration::ZERO, |began| self.world.now().since(began));
        tell(&format!("   {:>5.1} s  {what}", after.as_secs_f64()));
    }
}

/// What a person reads of an error.
fn reason(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => {
            let detail = told.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
            format!("{} {}: {}{detail}", told.severity(), told.code().code(), told.message())
        }
        None => error.to_string(),
    }
}

/// Starts this program, and returns it with its port once it serves.
async fn start(flags: &[&str]) -> Result<(Child, u16), Error> {
    let mut command = Command::new(std::env::current_exe()?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LASTCALL_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.args(["serve", "--listen", "127.0.0.1:0", "--worker", "embedded", "--log-format", "json"]).args(flags);
    command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut process = command.spawn()?;
    let mut lines = BufReader::new(process.stderr.take().ok_or("its log can't be read")?).lines();
    let mut log = String::new();
    while let Some(line) = lines.next_line().await? {
        let told: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let listen = (told["message"] == "serving").then(|| told["listen"].as_str()).flatten();
        if let Some(port) = listen.and_then(|listen| listen.rsplit_once(':')?.1.parse().ok()) {
            // Whoever reads its log no more holds nothing up.
            return Ok((process, port));
        }
        log.push_str(&line);
        log.push('\n');
    }
    Err(format!("the process does not start:\n{log}").into())
}

fn tell(text: &str) {
    let _ = crate::print(&format!("{text}\n"));
}
