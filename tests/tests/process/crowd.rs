//! Those who only stand there: silent connections by the thousand, more clients than there are file descriptors. They keep no
//! cancel request out, no late session without its answer, and no processor busy.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use process_tests::control_plane::{ControlPlane, Signal};
use process_tests::raw::{self, Message, Raw};
use process_tests::{eventually, run, within};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{assert_exit, millis};

const CANCEL_REQUEST: u32 = 80_877_102;

#[test]
fn with_256_descriptors_400_clients_are_served_or_told_and_cancel_requests_get_in() {
    run(async {
        let worker = Worker::start().await;
        let flags = ["--lame-duck", "200ms", "--idle-grace", "400ms", "--close-linger", "1s"];
        let mut plane = ControlPlane::start_with_files(256, &worker.address, &flags).await;
        let mut clients = Vec::new();
        let mut refused = 0;
        for _ in 0..400 {
            let (client, told) = open(plane.port).await;
            refused += usize::from(told.error().is_some_and(|error| error[&'C'] == "53300"));
            clients.push((client, told));
        }
        let served = clients.iter().filter(|(_, told)| told.tag == b'Z').count();
        assert_eq!((served + refused, refused > 0), (400, true), "{served} served, {refused} refused");
        assert!(served >= 50, "{served} served");
        let warned = |line: &serde_json::Value| {
            line["level"] == "WARN" && line["message"].as_str().is_some_and(|text| text.contains("file descriptors"))
        };
        assert_eq!(plane.log().iter().filter(|line| warned(line)).count(), 1);

        let (mut holder, _) = clients.swap_remove(0);
        holder.send(&raw::query("for ever")).await;
        let _silent = silent(plane.port, 300).await;
        worker.is_reached_by_a_cancel_request(plane.port, 1).await;

        plane.drain().await;
        plane.until(millis(300)).await;
        let _more = silent(plane.port, 300).await;
        is_told_that_it_is_too_late(plane.port).await;
        worker.is_reached_by_a_cancel_request(plane.port, 1).await;
        is_calm(&plane).await;

        holder.reset();
        let ended = plane.since_signal();
        assert_exit(plane.exit().await, 0, ended + millis(1000));
    });
}

#[test]
fn among_5000_silent_connections_sessions_are_served_and_cancel_requests_get_in_and_the_drain_ends() {
    run(async {
        let worker = Worker::start().await;
        let flags = ["--lame-duck", "200ms", "--idle-grace", "400ms", "--close-linger", "1s"];
        let mut plane = ControlPlane::start_in_front_of(&worker.address, &flags).await;
        let _silent = silent(plane.port, 5000).await;
        let (mut holder, told) = open(plane.port).await;
        assert_eq!(told.tag, b'Z');
        holder.send(&raw::query("for ever")).await;
        worker.is_reached_by_a_cancel_request(plane.port, 1).await;
        is_calm(&plane).await;

        plane.drain().await;
        plane.until(millis(300)).await;
        let _more = silent(plane.port, 5000).await;
        is_told_that_it_is_too_late(plane.port).await;
        worker.is_reached_by_a_cancel_request(plane.port, 1).await;

        holder.reset();
        let ended = plane.since_signal();
        assert_exit(plane.exit().await, 0, ended + millis(1000));
    });
}

#[test]
fn who_is_in_the_listener_s_queue_at_the_exit_is_told() {
    run(async {
        let mut plane = ControlPlane::start(&["--lame-duck", "300ms", "--idle-grace", "300ms"]).await;
        plane.drain().await;
        plane.signal(Signal::STOP);
        // Behind the lame duck, and when it stands still for certain.
        plane.until(millis(350)).await;
        let mut late = Vec::new();
        for _ in 0..20 {
            let mut client = Raw::connect(plane.port).await;
            client.start_up("postgres", "late").await;
            late.push(client);
        }
        plane.until(millis(500)).await;
        plane.signal(Signal::CONT);
        for mut client in late {
            let told = client.messages.rest().await.expect("no reset");
            assert_eq!(
                told.iter().map(|message| message.error().unwrap()[&'C'].clone()).collect::<Vec<_>>(),
                ["57P03"]
            );
        }
        assert_exit(plane.exit().await, 0, millis(1000));
    });
}

#[test]
fn a_flood_of_wrong_cancel_requests_is_passed_on_by_the_few_and_the_right_one_gets_in() {
    run(async {
        let worker = Worker::start().await;
        let mut plane = ControlPlane::start_in_front_of(&worker.address, &["--idle-grace", "5s"]).await;
        let (_client, told) = open(plane.port).await;
        assert_eq!(told.tag, b'Z');
        // The worker takes its time with each that it does not know.
        let mut flood = Vec::new();
        for wrong in 0..200 {
            let mut client = Raw::connect(plane.port).await;
            client.send(&cancel_request(1_000_000 + wrong)).await;
            flood.push(client);
        }
        worker.is_reached_by_a_cancel_request(plane.port, 1).await;
        let asked = worker.cancelled.lock().unwrap().iter().filter(|process_id| **process_id >= 1_000_000).count();
        assert!((1..=16).contains(&asked), "the worker was asked {asked} times");
        plane.signal(Signal::QUIT);
        plane.ends().await;
        let lines = plane.log();
        let said =
            lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.contains("no session here")));
        assert!(said.count() <= 12, "one a second of each kind");
    });
}

/// A worker that lets everybody in, answers nothing, and remembers whom it was told to cancel.
struct Worker {
    address: String,
    cancelled: Arc<Mutex<Vec<u32>>>,
}

impl Worker {
    async fn start() -> Worker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let worker = Worker { address: listener.local_addr().unwrap().to_string(), cancelled: Arc::default() };
        let cancelled = worker.cancelled.clone();
        tokio::spawn(async move {
            for process_id in 1.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, process_id, cancelled.clone()));
            }
        });
        worker
    }

    /// Cancels through the control plane, and waits until the worker was told and the connection is closed.
    async fn is_reached_by_a_cancel_request(&self, port: u16, process_id: u32) {
        let count = || self.cancelled.lock().unwrap().iter().filter(|cancelled| **cancelled == process_id).count();
        let before = count();
        let mut client = Raw::connect(port).await;
        client.send(&cancel_request(process_id)).await;
        let closed = within(millis(5000), "the end of a cancel request's connection", client.messages.rest()).await;
        assert!(closed.is_ok_and(|said| said.is_empty()));
        eventually(millis(1000), "the cancel request at the worker", async || (count() > before).then_some(())).await;
    }
}

async fn serve(mut stream: TcpStream, process_id: u32, cancelled: Arc<Mutex<Vec<u32>>>) -> std::io::Result<()> {
    let mut packet = vec![0; stream.read_u32().await? as usize - 4];
    stream.read_exact(&mut packet).await?;
    let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    if word(0) == CANCEL_REQUEST {
        cancelled.lock().unwrap().push(word(4));
        if word(4) >= 1_000_000 {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        return Ok(());
    }
    let mut welcome = b"R\0\0\0\x08\0\0\0\0K\0\0\0\x0c".to_vec();
    welcome.extend(process_id.to_be_bytes());
    welcome.extend(b"\0\0\0\x07Z\0\0\0\x05I");
    stream.write_all(&welcome).await?;
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

fn cancel_request(process_id: u32) -> Vec<u8> {
    [16, CANCEL_REQUEST, process_id, 7].into_iter().flat_map(u32::to_be_bytes).collect()
}

/// A client that wants a session, and its first ReadyForQuery or what it is told instead.
async fn open(port: u16) -> (Raw, Message) {
    let mut client = Raw::connect(port).await;
    client.start_up("app", "crowd").await;
    loop {
        let told =
            within(millis(5000), "an answer", client.messages.next()).await.expect("no reset").expect("an answer");
        if matches!(told.tag, b'Z' | b'E') {
            return (client, told);
        }
    }
}

async fn is_told_that_it_is_too_late(port: u16) {
    let (_client, told) = open(port).await;
    assert_eq!(told.error().unwrap()[&'C'], "57P03");
}

/// Connections that say nothing.
async fn silent(port: u16, count: usize) -> Vec<TcpStream> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let mut silent = Vec::new();
    for _ in 0..count {
        silent.push(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    silent
}

/// Nothing happens, and the process does nothing.
async fn is_calm(plane: &ControlPlane) {
    let before = plane.processor_time();
    tokio::time::sleep(millis(3000)).await;
    let spent = plane.processor_time() - before;
    assert!(spent < millis(500), "{spent:?} in three seconds");
}
