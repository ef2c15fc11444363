//! One host: a process is followed by the next at the same listening socket, and a service manager is told how it stands.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use process_tests::client::Client;
use process_tests::control_plane::{ControlPlane, Signal, command};
use process_tests::{eventually, http, run};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{ADMIN_SHUTDOWN, SOON, assert_exit, millis};

/// Where processes of a test meet.
struct Meeting {
    directory: TempDir,
}

impl Meeting {
    fn new() -> Meeting {
        Meeting { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> String {
        self.directory.path().join("handover").display().to_string()
    }

    async fn first(&self, flags: &[&str]) -> ControlPlane {
        ControlPlane::start(&[&["--handover-socket", &self.path()], flags].concat()).await
    }

    async fn next(&self, flags: &[&str]) -> ControlPlane {
        ControlPlane::start(&[&["--take-over", "--handover-socket", &self.path()], flags].concat()).await
    }
}

/// Applications that connect, ask and go, and the kubelet, who looks whether the port is ready.
struct Crowd {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<String>>>,
}

impl Crowd {
    fn start(plane: &ControlPlane) -> Crowd {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let (stop, served, port) = (stop.clone(), served.clone(), plane.port);
            tasks.push(tokio::spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match Client::try_connect(port, "crowd").await {
                        Ok(client) => match client.value("select 1").await {
                            Ok(_) => _ = served.fetch_add(1, Ordering::Relaxed),
                            Err(error) => failures.push(format!("query: {error:?}")),
                        },
                        Err(error) => failures.push(format!("connect: {error:?}")),
                    }
                }
                failures
            }));
        }
        let (ends, admin) = (stop.clone(), plane.admin);
        tasks.push(tokio::spawn(async move {
            let mut failures = Vec::new();
            while !ends.load(Ordering::Relaxed) {
                match http::ask(admin, "GET /readyz", "").await {
                    Ok((200, _)) => {}
                    answer => failures.push(format!("readyz: {answer:?}")),
                }
                tokio::time::sleep(millis(20)).await;
            }
            failures
        }));
        Crowd { stop, served, tasks }
    }

    /// Waits until so many more were served.
    async fn serves(&self, more: usize) {
        let enough = self.served.load(Ordering::Relaxed) + more;
        let served = async || (self.served.load(Ordering::Relaxed) >= enough).then_some(());
        eventually(Duration::from_secs(20), "further clients to be served", served).await;
    }

    /// What has failed.
    async fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        failures
    }
}

fn says(plane: &ControlPlane, message: &str) -> bool {
    plane.log().iter().any(|line| line["message"].as_str().is_some_and(|said| said.starts_with(message)))
}

const NOBODY: [String; 0] = [];

#[test]
fn the_next_process_takes_over_under_load_and_no_client_is_refused_nor_a_query_cut() {
    run(async {
        let meeting = Meeting::new();
        let mut one = meeting.first(&["--lame-duck", "500ms", "--idle-grace", "1s"]).await;
        let crowd = Crowd::start(&one);
        let (mut idle, busy) = (one.connect("idle").await, one.connect("busy").await);
        let running = tokio::spawn(async move { (busy.value("select pg_sleep(3)::text || 'whole'").await, busy) });
        crowd.serves(20).await;

        let mut other = meeting.next(&[]).await;
        assert_eq!(other.port, one.port, "the very socket");
        crowd.serves(200).await;
        let fatal = idle.fatal().await;
        assert_eq!((fatal.code().code(), fatal.message()), ADMIN_SHUTDOWN);
        let (answer, busy) = running.await.unwrap();
        assert_eq!(answer.unwrap(), "whole");
        drop(busy);
        assert_eq!(one.ends().await, Some(0));
        crowd.serves(20).await;
        assert_eq!(crowd.failures().await, NOBODY);
        assert!(says(&other, "took over") && says(&other, "the process before this one is gone"));
        assert!(other.is_running());
    });
}

#[test]
fn a_process_that_was_followed_answers_at_an_admin_port_of_its_own_and_cancel_requests_reach_its_sessions() {
    run(async {
        let meeting = Meeting::new();
        let one = meeting.first(&["--lame-duck", "0", "--idle-grace", "20s"]).await;
        let busy = one.connect("cancelled-behind-the-next").await;
        let cancel = busy.cancel_token();
        let running = tokio::spawn(async move { (busy.value("select pg_sleep(600)").await, busy) });
        process_tests::postgres::postgres().wait_until_active("cancelled-behind-the-next").await;

        let other = meeting.next(&[]).await;
        let line = other.says("took over").await;
        let port: u16 = line["admin"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        let (status, drain) = http::ask(port, "GET /drain", "").await.unwrap();
        assert_eq!(status, 200);
        assert!(drain.contains("cancelled-behind-the-next") && drain.contains("handover"), "{drain}");
        assert_eq!(http::ask(port, "GET /readyz", "").await.unwrap().0, 503);
        assert_eq!(http::ask(one.admin, "GET /readyz", "").await.unwrap().0, 200, "the next process's");
        let back = http::ask(port, "DELETE /drain", "X-Lastcall: drain\r\n").await.unwrap();
        assert_eq!(back.0, 409, "{back:?}");

        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
        let (answer, _busy) = running.await.unwrap();
        assert_eq!(answer.unwrap_err().as_db_error().unwrap().code().code(), "57014");
        assert!(says(&other, "cancel request for no session here"), "the next process has passed it on");
    });
}

#[test]
fn where_the_next_process_dies_the_one_before_serves_on_and_nobody_notices() {
    run(async {
        let meeting = Meeting::new();
        let mut one = meeting.first(&["--lame-duck", "30s", "--idle-grace", "30s"]).await;
        let stays = one.connect("stays").await;
        for round in 1..=2 {
            let mut other = meeting.next(&[]).await;
            one.says("drain begins").await;
            other.signal(Signal::KILL);
            let back = async || {
                let taken = one.log().iter().filter(|line| line["message"] == "drain taken back").count();
                (taken == round).then_some(())
            };
            eventually(SOON, "the drain to be taken back", back).await;
            // Sessions of the one that was killed are gone with it; whoever comes from now on is served.
            let crowd = Crowd::start(&one);
            crowd.serves(20).await;
            assert_eq!(crowd.failures().await, NOBODY);
        }
        assert_eq!(stays.value("select 'still here'").await.unwrap(), "still here");
        one.signal(Signal::QUIT);
        assert_exit(one.exit().await, 131, Duration::ZERO);
    });
}

#[test]
fn a_process_with_nobody_before_it_starts_as_always_and_two_can_t_wait_at_one_place() {
    run(async {
        let meeting = Meeting::new();
        let one = meeting.next(&[]).await;
        assert!(says(&one, "nobody is there to take over from"));
        let (refused, path) = (["serve", "--worker", "127.0.0.1:5432", "--listen", "127.0.0.1:0"], meeting.path());
        let output = command().args(refused).args(["--handover-socket", &path]).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("--take-over"), "{words}");
        let output = command().args(refused).arg("--take-over").output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains("--handover-socket PATH"), "{words}");
        assert_eq!(one.connect("served").await.value("select 'served'").await.unwrap(), "served");
    });
}

#[test]
fn a_process_before_it_that_does_not_answer_is_not_waited_for_and_keeps_its_sockets() {
    run(async {
        let meeting = Meeting::new();
        let mut one = meeting.first(&[]).await;
        one.signal(Signal::STOP);
        let serve = ["serve", "--worker", "127.0.0.1:5432", "--take-over", "--handover-socket", &meeting.path()];
        let output = tokio::process::Command::from(command()).args(serve).output().await.unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("no answer within 10 s"), "{words}");
        one.signal(Signal::CONT);
        assert_eq!(one.connect("served").await.value("select 'served'").await.unwrap(), "served");
        assert!(!says(&one, "drain begins"));
    });
}

#[test]
fn a_next_process_that_is_told_to_stop_brings_the_one_before_not_back() {
    run(async {
        let meeting = Meeting::new();
        let mut one = meeting.first(&["--lame-duck", "3s", "--idle-grace", "3s"]).await;
        let mut other = meeting.next(&["--lame-duck", "0", "--idle-grace", "0"]).await;
        one.says("drain begins").await;
        other.signal(Signal::TERM);
        assert_exit(other.exit().await, 0, Duration::ZERO);
        assert_eq!(one.ends().await, Some(0));
        assert!(!says(&one, "drain taken back"));
    });
}

#[test]
fn what_is_no_socket_is_left_where_it_is() {
    let meeting = Meeting::new();
    std::fs::write(meeting.path(), "precious").unwrap();
    let serve =
        ["serve", "--worker", "127.0.0.1:5432", "--listen", "127.0.0.1:0", "--handover-socket", &meeting.path()];
    let output = command().args(serve).output().unwrap();
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{words}");
    assert!(words.contains("no socket"), "{words}");
    assert_eq!(std::fs::read_to_string(meeting.path()).unwrap(), "precious");
}

/// Listens, and becomes the program behind it as a service manager would have started it.
const ACTIVATE: &str = "
import os, socket, sys
admin, listen = [socket.create_server(('0.0.0.0', 0)) for _ in range(2)]
for fd, listening in (10, admin), (11, listen):
    os.dup2(listening.fileno(), fd)
os.dup2(10, 3), os.dup2(11, 4)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='admin:lastcall.socket')
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn sockets_of_a_service_manager_are_listened_on_by_their_names() {
    run(async {
        let plane = ControlPlane::start_with(&[], &["python3", "-c", ACTIVATE], &[]).await;
        let serving = plane.log().into_iter().find(|line| line["message"] == "serving").unwrap();
        let listen = serving["listen"].as_str().unwrap();
        assert!(listen.starts_with("0.0.0.0:"), "{listen}: where the socket listens, whatever the flag says");
        assert_eq!(plane.connect("served").await.value("select 'served'").await.unwrap(), "served");
        assert!(http::ask(plane.admin, "GET /readyz", "").await.is_err(), "that socket has another port");
    });
}

#[test]
fn a_service_manager_is_told_when_it_serves_when_it_stops_and_for_as_long_as_it_drains() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let told = UnixDatagram::bind(&path).unwrap();
        told.set_nonblocking(true).unwrap();
        let next = async |what: &str| {
            let hear = async || {
                let mut bytes = [0; 1024];
                let length = told.recv(&mut bytes).ok()?;
                Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
            };
            eventually(Duration::from_secs(15), what, hear).await
        };
        let environment = [("NOTIFY_SOCKET", path.to_str().unwrap())];
        let mut plane = ControlPlane::start_with(&environment, &[], &["--lame-duck", "0", "--idle-grace", "1s"]).await;
        assert_eq!(next("that it serves").await, "READY=1\nSTATUS=serving");
        let busy = plane.connect("busy").await;
        let running = tokio::spawn(async move { (busy.value("select pg_sleep(11)").await, busy) });
        process_tests::postgres::postgres().wait_until_active("busy").await;
        plane.drain().await;
        for what in ["that it stops", "that it still does"] {
            let stopping = next(what).await;
            assert_eq!(stopping, "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000\nSTATUS=draining, connections: 1");
        }
        assert!(running.await.unwrap().0.is_ok());
        assert_exit(plane.exit().await, 0, millis(12_000));
    });
}

#[test]
fn the_unit_is_one_that_systemd_understands_and_its_command_line_is_one_of_ours() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let unit = include_str!("../../../cp/systemd/lastcall@.service");
        let here = unit.replace("/usr/local/bin/lastcall", command().get_program().to_str().unwrap());
        let path = directory.path().join("lastcall@a.service");
        std::fs::write(&path, here).unwrap();
        let output = std::process::Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
        let words = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !words.contains("lastcall@"), "{words}");

        let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/lastcall serve ")).unwrap();
        let config = directory.path().join("lastcall.toml");
        std::fs::write(&config, "idle_grace = \"20s\"").unwrap();
        let line = line.replace("/etc/lastcall.toml", config.to_str().unwrap());
        let line = line.replace("/run/lastcall/handover", directory.path().join("handover").to_str().unwrap());
        let plane = ControlPlane::start(&line.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(plane.connect("served").await.value("select 'served'").await.unwrap(), "served");
    });
}
