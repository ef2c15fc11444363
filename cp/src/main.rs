//! The command line of Last Call.

#[cfg(feature = "embedded")]
mod demo;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use cp::accept::{self, Service};
use cp::admin::guard::Token;
use cp::config::{self, Config, Probes, Sources};
use cp::control::{Control, ControlError};
use cp::log;
use cp::records::{Meter as _, Records, Sum, Target, sum};
use cp::reload::{self, Reload};
use cp::tls::Tls;
use lastcall_core::settings::{parse_duration, print_duration};
use lastcall_world::alarm::within;
use lastcall_world::{Succession, Tcp, TokioWorld, World};
use serde_json::json;

/// A runtime failure, such as an address in use.
const EXIT_FAILED: u8 = 1;
/// The configuration or the command line is wrong; nothing was started. clap's own code.
const EXIT_BAD_CONFIGURATION: u8 = 2;

/// How long the line may take that says that the process stops.
const LAST_RECORD: Duration = Duration::from_millis(200);

/// How long the process before this one may take to send its sockets.
const PATIENCE: Duration = Duration::from_secs(10);

/// `lastcall drain --wait` gave up waiting.
const EXIT_STILL_THERE: u8 = 4;

/// `lastcall end` names a session that is not there.
const EXIT_NO_SESSION: u8 = 5;

/// Pause between two tables of `lastcall status --watch`, and between two looks of `lastcall drain --wait`.
const REFRESH: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(500);

/// Kubernetes' own defaults of a probe.
const PROBE_PERIOD: Duration = Duration::from_secs(10);
const PROBE_FAILURES: u32 = 3;

/// The largest configuration file, in bytes: some thousand times what every setting with a comment takes.
const MAX_FILE: u64 = 1024 * 1024;

fn main() -> ExitCode {
    let matches = command().get_matches();
    match matches.subcommand() {
        Some(("serve", matches)) => serve(matches),
        Some(("config", matches)) => config(matches),
        Some(("check", matches)) => check(matches),
        Some(("status", matches)) => status(matches),
        Some(("drain", matches)) => drain(matches),
        Some(("end", matches)) => end(matches),
        Some(("records", matches)) => records(matches),
        Some(("settings", matches)) => settings(matches),
        #[cfg(feature = "embedded")]
        Some(("demo", _)) => demo::run(),
        _ => unreachable!("clap requires one of the subcommands above"),
    }
}

fn serve(matches: &ArgMatches) -> ExitCode {
    let config = match Config::load(&sources(matches), read) {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    let take_over = matches.get_flag("take-over");
    if take_over && config.handover_socket.is_none() {
        say("lastcall: --take-over needs to know where: --handover-socket PATH, as the process before this one has it");
        return ExitCode::from(EXIT_BAD_CONFIGURATION);
    }
    let files = config.tls.clone();
    let tls = match Tls::load(&files) {
        Ok(tls) => Arc::new(tls),
        Err(error) => return refuse(&error),
    };
    let token = match config.admin_token_file.as_deref().map(token).transpose() {
        Ok(token) => token,
        Err(error) => return refuse(&error),
    };
    let filter = log::filter(&config.log).expect("the configuration parsed it");
    let outlet = match log::start(config.log_format, filter) {
        Ok(outlet) => outlet,
        Err(error) => return fail(&*error),
    };
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    tracing::info!(told = config.told(), "configured");

    // Sessions have threads of their own; here is what there is one of: it listens, watches over the drain, answers probes.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let homes = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let code = runtime.block_on(async {
        let world = match TokioWorld::new(config.tcp).and_then(|world| world.with_homes(homes)) {
            Ok(world) => world,
            Err(error) => return fail(&error),
        };
        let clock = world.clone();
        let mut succession = match Succession::new(world.clone(), config.handover_socket.as_deref().map(Path::new)) {
            Ok(succession) => succession,
            Err(error) => return fail(&error),
        };
        let sources = sources(matches);
        let reload = match Reload::start(config.clone(), move || Config::load(&sources, read_again)) {
            Ok(reload) => Some(reload),
            Err(error) => return fail(&error),
        };
        let Config { listen, workers, admin, settings, records, records_checkpoint, .. } = config;
        tell_of_before(&records);
        let meter = match Records::start(outlet, &records, records_checkpoint, clock.random("records")) {
            Ok(meter) => meter,
            Err(error) => return fail(&error),
        };
        // As long as this process serves.
        #[cfg(feature = "embedded")]
        let (workers, _engine) = match embedded(workers).await {
            Ok(found) => found,
            Err(error) => return fail(&error),
        };
        if let Err(error) = tls.watch(files) {
            return fail(&error);
        }
        let service = Service { listen, workers, admin, token, tls, settings, reload };
        // Last of all: the process before this one serves until everything that can fail has not.
        if take_over && let Err(error) = take(&world, &mut succession).await {
            return fail(&error);
        }
        match accept::serve(world, service, meter.clone(), succession).await {
            Ok(exit) => {
                meter.stop(exit.code);
                // As long as its last line may take, and no longer.
                let _ = within(&clock, clock.now() + LAST_RECORD, meter.flush()).await;
                ExitCode::from(exit.code)
            }
            Err(error) => fail(&error),
        }
    });
    // A name that is being looked up sits in a thread that nobody can stop; the exit does not wait for it.
    runtime.shutdown_background();
    code
}

/// Asks the process before this one for its listening sockets, if there is such a process.
async fn take(world: &TokioWorld, succession: &mut Succession) -> Result<(), TakeError> {
    let late = || Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs())));
    let taken = within(world, world.now() + PATIENCE, succession.take_over()).await;
    if !taken.unwrap_or_else(late).map_err(TakeError)? {
        tracing::info!("nobody is there to take over from");
    }
    Ok(())
}

/// Why nothing was taken over. What the process before this one does it goes on doing.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over at --handover-socket: {0}")]
struct TakeError(io::Error);

/// Starts the engine that is the worker where there is no other.
#[cfg(feature = "embedded")]
async fn embedded(
    workers: Vec<String>,
) -> Result<(Vec<String>, Option<lastcall_embedded::Engine>), lastcall_embedded::EngineError> {
    if !workers.is_empty() {
        return Ok((workers, None));
    }
    let engine = lastcall_embedded::Engine::start().await?;
    tracing::warn!(
        "there is no worker: the embedded SQL engine serves, which is SQLite behind PostgreSQL's protocol, for trying out. Its \
         data is gone at the exit, anybody may log in, and it is no PostgreSQL: SQLite's dialect, no pg_catalog, no COPY. For a \
         real server: --worker host:port"
    );
    Ok((vec![engine.address().to_string()], Some(engine)))
}

/// What records add up to.
fn records(matches: &ArgMatches) -> ExitCode {
    let Some(("sum", matches)) = matches.subcommand() else { unreachable!("clap requires the subcommand above") };
    let files: Vec<&String> = matches.get_many("file").into_iter().flatten().collect();
    let mut all: Vec<Box<dyn Read>> = Vec::new();
    for file in files {
        match file.as_str() {
            "-" => all.push(Box::new(io::stdin())),
            path => match std::fs::File::open(path) {
                // A file that ends inside a line ends that line.
                Ok(opened) => all.push(Box::new(opened.chain(&b"\n"[..]))),
                Err(error) => {
                    say(&format!("lastcall: cannot open {path}: {error}"));
                    return ExitCode::from(EXIT_FAILED);
                }
            },
        }
    }
    let one = all.into_iter().fold(Box::new(io::empty()) as Box<dyn Read>, |one, next| Box::new(one.chain(next)));
    match sum(io::BufReader::new(one)) {
        Ok(sum) if wants_json(matches) => print(&format!("{:#}\n", json!(sum))),
        Ok(sum) => print(&sum_for_people(&sum)),
        Err(error) => fail(&error),
    }
}

fn sum_for_people(sum: &Sum) -> String {
    let heads = ["USER", "DATABASE", "SESSIONS", "STATEMENTS", "COMPUTE SECONDS", "HELD SECONDS", "RECEIVED", "SENT"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(sum.used.iter().map(|used| {
        let [sessions, statements, received, sent] =
            [used.sessions, used.statements, used.received, used.sent].map(|count| count.to_string());
        let [executing, waiting] = [used.executing_s, used.waiting_s].map(|seconds| format!("{seconds:.3}"));
        [used.user.clone(), used.database.clone(), sessions, statements, executing, waiting, received, sent]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            // Names to the left, numbers to the right.
            text += &if column < 2 { format!("{cell:width$}  ") } else { format!("{cell:>width$}  ") };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    for (count, what) in [
        (
            sum.without_end,
            "sessions have no end: they go on, or their process was killed; they count up to their last checkpoint",
        ),
        (sum.without_stop, "processes have not said that they stop: they go on, or were killed"),
        (sum.lost_records, "records could not be written, as their processes say"),
        (sum.unreadable, "lines are no records"),
    ] {
        if count > 0 {
            text += &format!("{count} {what}\n");
        }
    }
    text
}

/// Counts what earlier processes have left without an end in the file that records go to. In a thread of its own: the file may be
/// long.
#[expect(clippy::disallowed_methods, reason = "a file of the machine's; nothing that is served depends on it")]
fn tell_of_before(records: &Target) {
    let Target::File(path) = records else { return };
    // What this process writes comes behind it.
    let Ok((length, file)) = std::fs::File::open(path).and_then(|file| Ok((file.metadata()?.len(), file))) else {
        return;
    };
    let read = move || match sum(io::BufReader::new(file.take(length).chain(&b"\n"[..]))) {
        Ok(Sum { without_end, without_stop, unreadable, .. }) if without_end + without_stop + unreadable > 0 => {
            tracing::warn!(
                processes = without_stop,
                sessions = without_end,
                unreadable,
                "records of before: so many processes have not said that they stop, and so many sessions have no end; if they \
                 don't go on, what they did since their last checkpoint is lost"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "records of before cannot be read"),
    };
    // Without a thread nobody is told, and nothing else is lost.
    let _ = std::thread::Builder::new().name("records of before".to_owned()).spawn(read);
}

/// Every setting, its value, and where that came from.
fn config(matches: &ArgMatches) -> ExitCode {
    let config = match Config::load(&sources(matches), read) {
        Ok(config) => config,
        Err(errors) if wants_json(matches) => return refuse_in_json(&errors.told(), "settings"),
        Err(errors) => return refuse(&errors),
    };
    let effective = |entry: &config::Entry| {
        [entry.name.to_owned(), config.value(entry.name).unwrap_or_default(), config.origin(entry.name).to_string()]
    };
    let effective: Vec<[String; 3]> = config::entries().iter().map(effective).collect();
    if wants_json(matches) {
        let rows = effective.iter().map(|[name, value, from]| json!({ "name": name, "value": value, "from": from }));
        let settings = serde_json::Value::from_iter(rows);
        let told = json!({ "errors": [], "warnings": config.warnings, "settings": settings });
        return print(&format!("{told:#}\n"));
    }
    let width = |column: usize| effective.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (names, values) = (width(0), width(1));
    let lines = effective.iter().map(|[name, value, from]| format!("{name:names$}  {value:values$}  {from}\n"));
    print(&lines.collect::<String>())
}

/// What a configuration makes of a drain, or what is wrong with it.
fn check(matches: &ArgMatches) -> ExitCode {
    let config = match Config::load(&sources(matches), read) {
        Ok(config) => config,
        Err(errors) if wants_json(matches) => return refuse_in_json(&errors.told(), "drain"),
        Err(errors) => return refuse(&errors),
    };
    match Tls::load(&config.tls) {
        Ok(_) => {}
        Err(error) if wants_json(matches) => return refuse_in_json(&[error.to_string()], "drain"),
        Err(error) => return refuse(&error),
    }
    let period = matches.get_one::<Duration>("probe-period").copied().unwrap_or(PROBE_PERIOD);
    let failures = matches.get_one::<u32>("probe-failures").copied().unwrap_or(PROBE_FAILURES);
    let steps = config::plan(&config.settings, Probes { period, failures });
    let told = if wants_json(matches) {
        format!("{:#}\n", json!({ "errors": [], "warnings": config.warnings, "drain": steps }))
    } else {
        let mut text = "A drain under this configuration, from the signal on:\n".to_owned();
        for step in steps {
            text.push_str(&format!("{:>10}  {}\n", print_duration(step.at), step.what));
        }
        for warning in &config.warnings {
            text.push_str(&format!("warning: {warning}\n"));
        }
        text
    };
    match print(&told) {
        ExitCode::SUCCESS if matches.get_flag("deny-warnings") && !config.warnings.is_empty() => {
            ExitCode::from(EXIT_FAILED)
        }
        code => code,
    }
}

/// Who is there, once or again and again.
fn status(matches: &ArgMatches) -> ExitCode {
    let (json, watch) = (wants_json(matches), matches.get_flag("watch"));
    ask(matches, async |world: TokioWorld, control: Control<TokioWorld>| {
        let mut was_there = false;
        loop {
            let seen = match control.seen().await {
                Ok(seen) => seen,
                Err(ControlError::Unreachable { .. }) if was_there => {
                    say("lastcall: the process is gone");
                    return ExitCode::SUCCESS;
                }
                Err(error) => return fail(&error),
            };
            was_there = true;
            let text = if json { format!("{:#}\n", json!(seen)) } else { seen.to_string() };
            // A table takes the place of the one before; where nobody looks, one follows the other.
            let home = if watch && io::stdout().is_terminal() { "\u{1b}[H\u{1b}[J" } else { "" };
            match io::stdout().write_all(format!("{home}{text}").as_bytes()).and_then(|()| io::stdout().flush()) {
                Ok(()) if watch => {}
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return fail(&error),
                // Told, or nobody reads any more.
                _ => return ExitCode::SUCCESS,
            }
            world.sleep_until(world.now() + REFRESH).await;
        }
    })
}

/// Begins a drain, or takes it back; and waits until the process is gone.
fn drain(matches: &ArgMatches) -> ExitCode {
    let (wait, undo) = (matches.get_flag("wait"), matches.get_flag("undo"));
    let timeout = matches.get_one::<humantime::Duration>("timeout").map(|timeout| **timeout);
    ask(matches, async |world: TokioWorld, control: Control<TokioWorld>| {
        let began = world.now();
        let told = if undo { control.recall().await } else { control.drain().await };
        match told {
            Ok(told) => say(&format!("lastcall: {told}")),
            Err(error) => return fail(&error),
        }
        if !wait {
            return ExitCode::SUCCESS;
        }
        let mut connections = None;
        loop {
            match control.seen().await {
                Ok(seen) if connections != Some(seen.connections()) => {
                    connections = Some(seen.connections());
                    say(&seen.headline());
                }
                Ok(_) => {}
                Err(ControlError::Unreachable { .. }) => {
                    say(&format!("lastcall: gone after {}s", world.now().since(began).as_secs()));
                    return ExitCode::SUCCESS;
                }
                Err(error) => return fail(&error),
            }
            if timeout.is_some_and(|timeout| world.now().since(began) >= timeout) {
                say("lastcall: it is still there; `lastcall status` says who holds it");
                return ExitCode::from(EXIT_STILL_THERE);
            }
            world.sleep_until(world.now() + LOOK).await;
        }
    })
}

/// Ends one session.
fn end(matches: &ArgMatches) -> ExitCode {
    let session = *matches.get_one::<u32>("session").expect("clap requires it");
    let json = wants_json(matches);
    ask(matches, async |_, control: Control<TokioWorld>| {
        let (ends, told, code) = match control.end(session).await {
            Ok(told) => (true, told, ExitCode::SUCCESS),
            Err(ControlError::NoSession(told)) => (false, told, ExitCode::from(EXIT_NO_SESSION)),
            Err(error) => return fail(&error),
        };
        if !json {
            say(&format!("lastcall: {told}"));
            return code;
        }
        match print(&format!("{:#}\n", json!({ "session": session, "ends": ends, "told": told }))) {
            ExitCode::SUCCESS => code,
            failed => failed,
        }
    })
}

/// Runs what asks the admin port that the command line names. Ctrl-C ends it.
fn ask(matches: &ArgMatches, question: impl AsyncFnOnce(TokioWorld, Control<TokioWorld>) -> ExitCode) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let admin = matches.get_one::<String>("admin").expect("it has a default");
    runtime.block_on(async {
        let world = TokioWorld::without_signals(Tcp::default());
        let file = matches.try_get_one::<String>("token-file").ok().flatten();
        match file.map(|file| token(file)).transpose() {
            Ok(token) => question(world.clone(), Control::new(world, admin, token)).await,
            Err(error) => fail(&error),
        }
    })
}

/// The token in this file.
fn token(path: &str) -> Result<Token, TokenError> {
    let text = read(path).map_err(|source| TokenError::Unreadable { path: path.to_owned(), source })?;
    Token::read(&text).ok_or_else(|| TokenError::Empty { path: path.to_owned() })
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("cannot read the token in {path}: {source}")]
    Unreadable { path: String, source: io::Error },
    #[error("there is no token in the first line of {path}")]
    Empty { path: String },
}

fn wants_json(matches: &ArgMatches) -> bool {
    matches.get_one::<String>("format").is_some_and(|format| format == "json")
}

fn settings(matches: &ArgMatches) -> ExitCode {
    let text = match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => format!("{:#}\n", config::json()),
        _ => config::markdown(),
    };
    print(&text)
}

/// To stdout.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads only the first lines (`| head`) has what they wanted.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&error),
        _ => ExitCode::SUCCESS,
    }
}

fn sources(matches: &ArgMatches) -> Sources {
    // A list may be given in one flag or in several.
    let given = |name: &str| {
        let values: Vec<String> = matches.get_many(name)?.cloned().collect();
        Some(values.join(","))
    };
    let flags =
        config::entries().iter().filter_map(|entry| Some((entry.name.to_owned(), given(entry.name)?))).collect();
    // Bytes that are no text don't parse as any value either, and are then told with the variable's name.
    let environment: BTreeMap<String, String> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    Sources { file: given("config"), flags, environment }
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {MAX_FILE} bytes")));
    }
    Ok(text)
}

/// The same for a file that was read before.
fn read_again(path: &str) -> io::Result<String> {
    reload::only_regular(path)?;
    read(path)
}

fn refuse(errors: &dyn std::error::Error) -> ExitCode {
    say(&format!("lastcall: {errors}\n\n`lastcall serve --help` explains every setting."));
    ExitCode::from(EXIT_BAD_CONFIGURATION)
}

/// The same for programs: `nothing` is the name of what there would be.
fn refuse_in_json(errors: &[String], nothing: &str) -> ExitCode {
    let _ = print(&format!("{:#}\n", json!({ "errors": errors, "warnings": [], nothing: [] })));
    ExitCode::from(EXIT_BAD_CONFIGURATION)
}

fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    let mut text = format!("lastcall: {error}");
    if let Some(remedy) = remedy(error) {
        text.push_str(&format!("\n  {remedy}"));
    }
    say(&text);
    ExitCode::from(EXIT_FAILED)
}

/// To stderr. Not `eprintln!`, which panics where stderr is gone, and then the exit code would be the panic's.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// What to do about the I/O error at the bottom of `error`, if there is one.
fn remedy(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let io = chain.filter_map(|error| error.downcast_ref::<io::Error>()).last()?;
    match io.kind() {
        io::ErrorKind::AddrInUse => {
            Some("Another process listens there. Stop it, or choose another --listen or --admin.")
        }
        io::ErrorKind::AddrNotAvailable => {
            Some("This machine has no such address. 0.0.0.0 listens on all that it has.")
        }
        io::ErrorKind::PermissionDenied => Some("Ports below 1024 need a privilege. Choose a port from 1024 on."),
        _ => None,
    }
}

fn command() -> Command {
    Command::new("lastcall")
        .about("A PostgreSQL front that drains without hanging and without cutting")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve_command())
        .subcommand(
            configured(Command::new("config"))
                .about("Print every setting's effective value and where it came from, without starting")
                .arg(text_or_json()),
        )
        .subcommand(
            configured(Command::new("check"))
                .about("Check a configuration and tell what a drain under it would be, without starting")
                .after_help(
                    "Exit codes: 0 it can be started, 1 it has warnings and --deny-warnings is given, 2 it is refused.",
                )
                .arg(text_or_json())
                .arg(
                    Arg::new("deny-warnings")
                        .long("deny-warnings")
                        .action(ArgAction::SetTrue)
                        .help("Exit with 1 where something is probably a mistake: for CI"),
                )
                .arg(
                    Arg::new("probe-period")
                        .long("probe-period")
                        .value_name("DURATION")
                        .value_parser(probe_period)
                        .help("periodSeconds of the pod's readiness probe [default: 10s, as Kubernetes has it]"),
                )
                .arg(
                    Arg::new("probe-failures")
                        .long("probe-failures")
                        .value_name("COUNT")
                        .value_parser(value_parser!(u32).range(1..=1000))
                        .help("failureThreshold of that probe [default: 3, as Kubernetes has it]"),
                ),
        )
        .subcommand(records_command())
        .subcommands(demo_command())
        .subcommand(
            Command::new("status")
                .about("Tell who is connected to a process that runs, and while it drains who holds it and until when")
                .after_help("While it drains, those come first that hold it longest. Exit codes: 0 told, or gone; 1 nothing answers.")
                .arg(admin())
                .arg(text_or_json())
                .arg(
                    Arg::new("watch")
                        .long("watch")
                        .action(ArgAction::SetTrue)
                        .help("Tell it again every 2s, until the process is gone"),
                ),
        )
        .subcommand(
            Command::new("drain")
                .about("Drain a process that runs, as a signal would, but so that it can be taken back")
                .after_help(
                    "In a preStop hook: lastcall drain --wait\n\nExit codes: 0 it drains, or is gone with --wait; 1 nothing answers, or \
                     it says no; 4 it is still there at --timeout.",
                )
                .arg(admin())
                .arg(token_file())
                .arg(
                    Arg::new("wait")
                        .long("wait")
                        .action(ArgAction::SetTrue)
                        .help("Wait until the process is gone, and tell how many are left on the way"),
                )
                .arg(
                    Arg::new("timeout")
                        .long("timeout")
                        .value_name("DURATION")
                        .value_parser(value_parser!(humantime::Duration))
                        .requires("wait")
                        .help("Wait no longer than this; the drain goes on"),
                )
                .arg(
                    Arg::new("undo")
                        .long("undo")
                        .action(ArgAction::SetTrue)
                        .conflicts_with("wait")
                        .help("Take the drain back; refused once a signal has come"),
                ),
        )
        .subcommand(
            Command::new("end")
                .about("End one session of a process that runs: its statement is cancelled, and its client told who ended it")
                .after_help(
                    "In every phase, and whether the process drains or not; no other session is touched. Exit codes: 0 it ends; 1 \
                     nothing answers, or it says no; 5 there is no such session.",
                )
                .arg(
                    Arg::new("session")
                        .value_name("SESSION")
                        .required(true)
                        .value_parser(value_parser!(u32))
                        .help("Its number: what `lastcall status`, the log and the records say"),
                )
                .arg(admin())
                .arg(token_file())
                .arg(text_or_json()),
        )
        .subcommand(
            Command::new("settings").about("Print every setting with its default and meaning").arg(
                Arg::new("format")
                    .long("format")
                    .value_name("FORMAT")
                    .help("Markdown as in the README, or JSON with flags, variables and valid values")
                    .value_parser(PossibleValuesParser::new(["markdown", "json"]))
                    .default_value("markdown"),
            ),
        )
}

/// Adds the flags that make a configuration.
fn configured(command: Command) -> Command {
    let file = Arg::new("config").long("config").value_name("FILE").help(
        "TOML file with any of the settings below; keys with underscores: idle_grace = \"30s\" [env: LASTCALL_CONFIG]",
    );
    let settings = config::entries().into_iter().map(|entry| {
        Arg::new(entry.name)
            .long(entry.flag().trim_start_matches('-').to_owned())
            .value_name(entry.value_name)
            // A value may begin with a dash; the setting's own error says what would be valid.
            .allow_hyphen_values(true)
            .action(if entry.name == "worker" { ArgAction::Append } else { ArgAction::Set })
            .help(format!("{} [default: {}] [env: {}]", sentence(entry.help), entry.default, entry.variable()))
    });
    command.arg(file).args(settings)
}

/// What Kubernetes takes: it counts in whole seconds.
fn probe_period(text: &str) -> Result<Duration, String> {
    let period = parse_duration(text).filter(|period| *period >= Duration::from_secs(1));
    period.ok_or_else(|| "valid is a duration from 1s to 365d".to_owned())
}

fn admin() -> Arg {
    Arg::new("admin")
        .long("admin")
        .value_name("HOST:PORT")
        .value_parser(|text: &str| config::reachable(text).ok_or("valid is host:port, such as 127.0.0.1:8080"))
        .env("LASTCALL_ADMIN")
        .default_value("127.0.0.1:8080")
        .help("The process's admin port: what --admin of its `lastcall serve` says")
}

fn token_file() -> Arg {
    Arg::new("token-file")
        .long("token-file")
        .value_name("FILE")
        .env("LASTCALL_ADMIN_TOKEN_FILE")
        .help("What --admin-token-file of its `lastcall serve` says")
}

fn text_or_json() -> Arg {
    Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .help("For people or for programs")
        .value_parser(PossibleValuesParser::new(["text", "json"]))
        .default_value("text")
}

fn records_command() -> Command {
    let file = Arg::new("file")
        .value_name("FILE")
        .num_args(1..)
        .required(true)
        .help("What `serve --records FILE` has written, of one process or of many; - for stdin");
    let sum = Command::new("sum")
        .about("Add records up: compute seconds, statements and bytes of each user and database")
        .arg(file)
        .arg(text_or_json());
    Command::new("records")
        .about("Read the records of sessions")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(sum)
}

fn demo_command() -> Option<Command> {
    let about = "Show in less than a minute what a drain does, and what the simple ones do";
    cfg!(feature = "embedded").then(|| Command::new("demo").about(about))
}

fn serve_command() -> Command {
    let serve = Command::new("serve")
        .about("Serve clients until told to stop, then drain: idle clients are let go, running work is waited for")
        .long_about(ABOUT)
        .after_long_help(AFTER);
    configured(serve).arg(Arg::new("take-over").long("take-over").action(ArgAction::SetTrue).help(
        "Take the listening sockets over from the process at --handover-socket, if one is there; that one drains",
    ))
}

/// Markdown's backticks say nothing on a terminal.
fn sentence(help: &str) -> String {
    help.replace('`', "")
}

const ABOUT: &str = "\
Serve PostgreSQL clients until told to stop, then drain.

Clients that do nothing can't hold the drain, and nothing that is running is cut: for a worker it
waits, for a client a clock runs.

A flag wins over an environment variable, that over the file, that over the default.
Durations: 250ms, 30s, 5m, 1h30m.";

const AFTER: &str = "\
The drain, from the signal (SIGTERM or SIGINT) on:
  lame duck  up to --lame-duck: /readyz says 503, new sessions are still served
  grace      up to --idle-grace: new sessions are refused (57P03), connections fall due
  boundary   once due, a connection is closed (57P01) when nothing runs and no transaction is open
  wall       only if set: what still runs is cancelled at --handover-drain-timeout or at the end of
             --termination-grace less --teardown-budget, whichever comes first
  drained    the last session is gone: exit

Signals:
  SIGTERM, SIGINT  drain; a second SIGTERM is ignored, a second SIGINT is the wall
  SIGQUIT          exit at once
  SIGHUP           settings and certificates are read again; never an end
  all others       ignored and logged, if they would end the process

On the admin port:
  POST /drain          drain without a signal
  DELETE /drain        take that back, as long as no signal has come
  GET /drain           who is here, what the drain waits for, and until when (`lastcall status`)
  GET /metrics         the same in numbers, for Prometheus
  GET /sessions        who is here, for programs
  DELETE /sessions/7   end session 7, and no other (`lastcall end 7`)
  curl -X POST -H 'X-Lastcall: drain' localhost:8080/drain   POST and DELETE take this header

Exit codes:
  0    drained: every session ended as promised
  1    failed, for example an address in use
  2    bad configuration, nothing was started
  3    a wall fell on running work
  131  SIGQUIT

Example:
  lastcall serve --listen 0.0.0.0:6432 --worker 10.0.0.7:5432 --admin 0.0.0.0:8080 \\
    --idle-grace 30s --termination-grace 24h";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_one_that_clap_accepts() {
        command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag_whose_help_has_its_default_and_its_variable() {
        let mut command = serve_command().term_width(0);
        let help = command.render_help().to_string();
        for entry in config::entries() {
            let flag = format!("{} <", entry.flag());
            let line = help.lines().find(|line| line.trim_start().starts_with(&flag)).expect(entry.name);
            assert!(line.ends_with(&format!("[default: {}] [env: {}]", entry.default, entry.variable())), "{line}");
        }
    }

    #[test]
    fn flags_are_given_on_by_the_name_of_their_setting() {
        let arguments = ["lastcall", "serve", "--idle-grace", "-1s", "--config", "a.toml"];
        let matches = command().try_get_matches_from(arguments).unwrap();
        let sources = sources(matches.subcommand_matches("serve").unwrap());
        assert_eq!(sources.flags, BTreeMap::from([("idle_grace".to_owned(), "-1s".to_owned())]));
        assert_eq!(sources.file.as_deref(), Some("a.toml"));
    }

    #[test]
    fn an_address_in_use_is_answered_with_what_to_do() {
        let error = accept::ServeError::Bind {
            flag: "listen",
            address: "127.0.0.1:1".to_owned(),
            source: io::Error::from(io::ErrorKind::AddrInUse),
        };
        assert!(remedy(&error).unwrap().contains("--listen"));
    }
}
