//! One machine, two processes: the next takes the listening sockets over while clients come and go, and may die at it.
//!
//! Both processes are the very code of `lastcall serve`; what the kernel does for them, sockets that two processes have and a
//! place to meet, is done here.
#![allow(clippy::unwrap_used, reason = "all of it is tests, their helpers too")]

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use cp::accept::{Service, serve};
use cp::records::{EndRecord, Meter};
use futures_util::future::{AbortHandle, abortable};
use lastcall_core::{Settings, Time};
use lastcall_world::handover::{Handover, Line};
use lastcall_world::{Listener, Signal, World};
use sim::cast::history::Recorder;
use sim::cast::worker::{self, Worker};
use sim::stage::{Engine, Host, Plan, SimWorld, TurmoilNet};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_postgres::{Client, Config, NoTls};

type Machine = <TurmoilNet as Engine>::World;

/// A process of a machine that has several: it can be killed, and its sockets close.
#[derive(Clone)]
struct Process {
    name: &'static str,
    machine: Machine,
    log: Log,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Process {
    fn new(name: &'static str, machine: &Machine, log: &Log) -> Process {
        Process { name, machine: machine.clone(), log: log.clone(), tasks: Arc::default() }
    }

    fn kill(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

impl World for Process {
    type Stream = <Machine as World>::Stream;
    type Listener = Socket;

    fn now(&self) -> Time {
        self.machine.now()
    }

    fn sleep_until(&self, at: Time) -> impl Future<Output = ()> + Send + 'static {
        self.machine.sleep_until(at)
    }

    fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (task, handle) = abortable(task);
        self.tasks.lock().unwrap().push(handle);
        self.machine.spawn(name, async { _ = task.await });
    }

    async fn bind(&self, address: &str) -> io::Result<Socket> {
        Ok(Socket::new(Arc::new(Mutex::new(self.machine.bind(address).await?)), Arc::default()))
    }

    async fn connect(&self, address: &str) -> io::Result<Self::Stream> {
        self.log.note(self.now(), format!("{} connects", self.name));
        self.machine.connect(address).await
    }

    fn random(&self, purpose: &'static str) -> u64 {
        self.machine.random(purpose)
    }

    async fn next_signal(&self) -> Signal {
        std::future::pending().await
    }
}

/// A listening socket: open as long as one process has it. Whoever waits at it is woken, and the first to come accepts.
struct Socket {
    listener: Arc<Mutex<<Machine as World>::Listener>>,
    waiting: Arc<Waiting>,
    handle: usize,
}

#[derive(Default)]
struct Waiting(Mutex<Vec<Option<Waker>>>);

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        let wakers: Vec<Waker> = self.0.lock().unwrap().iter_mut().filter_map(Option::take).collect();
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl Socket {
    fn new(listener: Arc<Mutex<<Machine as World>::Listener>>, waiting: Arc<Waiting>) -> Socket {
        let handle = {
            let mut handles = waiting.0.lock().unwrap();
            handles.push(None);
            handles.len() - 1
        };
        Socket { listener, waiting, handle }
    }
}

impl Clone for Socket {
    fn clone(&self) -> Self {
        Socket::new(self.listener.clone(), self.waiting.clone())
    }
}

impl Listener for Socket {
    type Stream = <Machine as World>::Stream;

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Self::Stream, SocketAddr)>> {
        self.waiting.0.lock().unwrap()[self.handle] = Some(cx.waker().clone());
        let everybody = Waker::from(self.waiting.clone());
        self.listener.lock().unwrap().poll_accept(&mut Context::from_waker(&everybody))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.lock().unwrap().local_addr()
    }
}

/// Where processes meet: whoever waits there.
type Place = Arc<Mutex<Option<UnboundedSender<End>>>>;

/// One end of a line between two processes. The other hears of its death.
struct End {
    say: UnboundedSender<Said>,
    hear: UnboundedReceiver<Said>,
}

enum Said {
    Sockets(BTreeMap<&'static str, Socket>),
    Words(String),
}

impl Line for End {
    fn peer(&self) -> String {
        "the other process".to_owned()
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        self.say.send(Said::Words(text.to_owned())).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<String>> {
        match ready!(self.hear.poll_recv(cx)) {
            Some(Said::Words(words)) => Poll::Ready(Ok(words)),
            Some(Said::Sockets(_)) => Poll::Ready(Err(ErrorKind::InvalidData.into())),
            None => Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
        }
    }
}

struct Succession {
    place: Place,
    waits: Option<UnboundedReceiver<End>>,
    kept: BTreeMap<&'static str, Socket>,
    inherited: BTreeMap<&'static str, Socket>,
    predecessor: Option<End>,
}

impl Succession {
    /// With what the process at this place sends, if there is one.
    async fn at(place: &Place) -> Succession {
        let (inherited, predecessor) = match Succession::ask(place).await {
            Some((inherited, predecessor)) => (inherited, Some(predecessor)),
            None => (BTreeMap::new(), None),
        };
        Succession { place: place.clone(), waits: None, kept: BTreeMap::new(), inherited, predecessor }
    }

    async fn ask(place: &Place) -> Option<(BTreeMap<&'static str, Socket>, End)> {
        let ((say, hear_there), (say_there, hear)) = (unbounded_channel(), unbounded_channel());
        let mut line = End { say, hear };
        place.lock().unwrap().as_ref()?.send(End { say: say_there, hear: hear_there }).ok()?;
        match line.hear.recv().await? {
            Said::Sockets(sockets) => Some((sockets, line)),
            Said::Words(words) => panic!("{words}: the sockets come first"),
        }
    }
}

impl Handover<Socket> for Succession {
    type Line = End;

    fn inherited(&mut self, name: &str) -> Option<Socket> {
        self.inherited.remove(name)
    }

    fn predecessor(&mut self) -> Option<End> {
        self.predecessor.take()
    }

    fn keep(&mut self, name: &'static str, listener: &Socket) -> io::Result<()> {
        self.kept.insert(name, listener.clone());
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let (ask, waits) = unbounded_channel();
        self.waits = Some(waits);
        *self.place.lock().unwrap() = Some(ask);
        Ok(())
    }

    fn close(&mut self) {
        self.waits = None;
        *self.place.lock().unwrap() = None;
    }

    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match &mut self.waits {
            Some(waits) => Poll::Ready(ready!(waits.poll_recv(cx)).expect("it has the place")),
            None => Poll::Pending,
        }
    }

    fn offer(&mut self, line: &mut End) -> io::Result<()> {
        line.say.send(Said::Sockets(self.kept.clone())).map_err(|_| ErrorKind::BrokenPipe.into())
    }

    fn give_up(&mut self) {
        self.kept.clear();
    }
}

#[derive(Clone)]
struct NoMeter;

impl Meter for NoMeter {
    fn session_ended(&self, _: &EndRecord) {}

    async fn flush(&self) {}
}

/// What happened, and when.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Time, String)>>>);

impl Log {
    fn note(&self, at: Time, what: impl Into<String>) {
        self.0.lock().unwrap().push((at, what.into()));
    }

    fn times(&self, what: &str) -> Vec<Time> {
        let log = self.0.lock().unwrap();
        log.iter().filter(|(_, noted)| noted == what).map(|(at, _)| *at).collect()
    }

    /// Everything that begins like this.
    fn all(&self, begins: &str) -> Vec<(Time, String)> {
        let log = self.0.lock().unwrap();
        log.iter().filter(|(_, noted)| noted.starts_with(begins)).cloned().collect()
    }
}

const LAME_DUCK: Duration = Duration::from_secs(5);
/// When the next process starts.
const HANDOVER: Time = Time::from_epoch(Duration::from_secs(10));
const END: Time = Time::from_epoch(Duration::from_secs(40));

/// Starts `lastcall serve --take-over`; notes its exit code under its name. Each process has a worker of its own.
fn launch(process: &Process, place: &Place) {
    let (world, place) = (process.clone(), place.clone());
    process.spawn("serve", async move {
        let Process { name, log, .. } = world.clone();
        let settings = Settings { lame_duck: LAME_DUCK, idle_grace: Duration::from_secs(10), ..Settings::default() };
        let service = Service {
            listen: "0.0.0.0:6432".to_owned(),
            workers: vec![format!("worker-of-{name}:5432")],
            admin: None,
            token: None,
            tls: Arc::default(),
            settings,
            reload: None,
        };
        let succession = Succession::at(&place).await;
        let exit = serve(world.clone(), service, NoMeter, succession).await.unwrap();
        log.note(world.now(), format!("{name} exits with {}", exit.code));
    });
}

async fn connect(world: &Machine) -> Result<Client, String> {
    let stream = world.connect("pod:6432").await.map_err(|error| format!("connect: {error}"))?;
    let connected = Config::new().user("app").dbname("app").connect_raw(stream, NoTls).await;
    let (client, connection) = connected.map_err(|error| format!("startup: {error:?}"))?;
    world.spawn("connection", async { _ = connection.await });
    Ok(client)
}

async fn work(client: &Client, takes: &str) -> Result<(), String> {
    let text = format!("/* client.1/1 */ SELECT work('{takes}', rows => 1, row_bytes => 16)");
    let answer = client.simple_query(&text).await;
    answer.map(|_| ()).map_err(|error| match error.code() {
        Some(code) => code.code().to_owned(),
        None => format!("{error:?}"),
    })
}

/// Applications that connect, ask and go, some hundred times a second.
async fn crowd(world: Machine, log: Log) {
    for number in 0..10 {
        let (world, log) = (world.clone(), log.clone());
        world.clone().spawn("newcomer", async move {
            world.sleep_until(Time::from_epoch(Duration::from_millis(1000 + 7 * number))).await;
            while world.now() < END {
                let served = match connect(&world).await {
                    Ok(client) => work(&client, "20ms").await.map_err(|error| format!("query: {error}")),
                    Err(error) => Err(error),
                };
                match served {
                    Ok(()) => log.note(world.now(), "served"),
                    Err(error) => log.note(world.now(), format!("failed: {error}")),
                }
                world.sleep_until(world.now() + Duration::from_millis(100)).await;
            }
        });
    }
    for (name, takes) in [("etl", "20s"), ("wedged", "1h")] {
        let (world, log) = (world.clone(), log.clone());
        world.clone().spawn(name, async move {
            world.sleep_until(Time::from_epoch(Duration::from_secs(2))).await;
            let client = connect(&world).await.unwrap();
            let cancel = client.cancel_token();
            if name == "wedged" {
                let world = world.clone();
                world.clone().spawn("cancel", async move {
                    world.sleep_until(HANDOVER + Duration::from_secs(11)).await;
                    let stream = world.connect("pod:6432").await.unwrap();
                    cancel.cancel_query_raw(stream, NoTls).await.unwrap();
                });
            }
            let answer = work(&client, takes).await.map_or_else(|code| code, |()| "whole".to_owned());
            log.note(world.now(), format!("{name}: {answer}"));
        });
    }
    world.sleep_until(END).await;
    world.finish();
}

fn postgres(name: &'static str) -> Host<Machine> {
    Host::new(name, |world| worker::run(world, Recorder::default(), Worker::default()))
}

/// Runs what `next` makes of the process that listens first, its meeting place and its machine.
fn simulate<F: Future<Output = ()> + Send + 'static>(
    seed: u64,
    next: impl FnOnce(Machine, Place, Log) -> F + Send + 'static,
) -> Log {
    let (log, kept) = (Log::default(), Log::default());
    let (of_pod, of_crowd) = (log.clone(), log.clone());
    let pod = async move |machine: Machine| {
        let place = Place::default();
        launch(&Process::new("first", &machine, &of_pod), &place);
        machine.sleep_until(HANDOVER).await;
        next(machine, place, of_pod).await;
        std::future::pending::<()>().await;
    };
    let hosts = vec![
        postgres("worker-of-first"),
        postgres("worker-of-second"),
        postgres("worker-of-third"),
        Host::new("pod", pod),
        Host::new("crowd", |world| crowd(world, of_crowd)),
    ];
    TurmoilNet::simulate(Plan { seed, limit: END.since_epoch() + Duration::from_secs(1) }, hosts);
    kept.0.lock().unwrap().append(&mut log.0.lock().unwrap());
    kept
}

const SEEDS: std::ops::RangeInclusive<u64> = 1..=10;
const NOTHING: [(Time, String); 0] = [];

#[test]
fn a_handover_under_load_refuses_nobody_cuts_nothing_and_cancel_requests_arrive() {
    for seed in SEEDS {
        let log = simulate(seed, async |machine, place, log| launch(&Process::new("second", &machine, &log), &place));
        assert_eq!(log.all("failed"), NOTHING, "seed {seed}");
        let served = log.times("served");
        assert!(served.iter().filter(|at| **at > HANDOVER).count() > 500, "seed {seed}");
        assert_eq!(log.times("etl: whole").len(), 1, "seed {seed}: {:?}", log.all("etl"));
        assert_eq!(log.times("wedged: 57014").len(), 1, "seed {seed}: {:?}", log.all("wedged"));
        // Its last statement takes until 22 s.
        let exits = log.times("first exits with 0");
        let second = |second| Time::from_epoch(Duration::from_secs(second));
        assert!(matches!(exits[..], [at] if at > second(22) && at < second(24)), "seed {seed}: {exits:?}");
        assert_eq!(log.all("second exits"), NOTHING, "seed {seed}");
        // The newcomers of the moment itself, and nobody later.
        let last = log.times("first connects").into_iter().max();
        assert!(last < Some(HANDOVER + Duration::from_millis(50)), "seed {seed}: {last:?}: newcomers are the second's");
    }
}

#[test]
fn a_next_process_that_dies_at_any_moment_gives_back_and_costs_no_more_than_its_own_sessions() {
    for seed in SEEDS {
        // From before it is ready to the end of the first one's lame duck.
        let lives = Duration::from_millis([0, 1, 2, 3, 5, 10, 100, 1000, 2500, 4900][seed as usize % 10]);
        let died = HANDOVER + lives;
        let log = simulate(seed, async move |machine, place, log| {
            let next = Process::new("second", &machine, &log);
            launch(&next, &place);
            machine.sleep_until(died).await;
            next.kill();
        });
        for (at, failed) in log.all("failed") {
            let its_own = !failed.contains("connect:") && at >= died && at < died + Duration::from_millis(10);
            assert!(its_own, "seed {seed}: at {at:?}: {failed}");
        }
        let served = log.times("served");
        assert!(served.iter().filter(|at| **at > died).count() > 500, "seed {seed}");
        assert_eq!(log.times("etl: whole").len(), 1, "seed {seed}: {:?}", log.all("etl"));
        assert_eq!(log.times("wedged: 57014").len(), 1, "seed {seed}: {:?}", log.all("wedged"));
        assert_eq!(log.all("first exits"), NOTHING, "seed {seed}: it serves on");
    }
}

#[test]
fn behind_one_that_has_died_the_next_takes_over_all_the_same() {
    let log = simulate(1, async |machine, place, log| {
        let second = Process::new("second", &machine, &log);
        launch(&second, &place);
        machine.sleep_until(HANDOVER + Duration::from_secs(1)).await;
        second.kill();
        machine.sleep_until(HANDOVER + Duration::from_secs(2)).await;
        launch(&Process::new("third", &machine, &log), &place);
    });
    assert_eq!(log.times("first exits with 0").len(), 1);
    assert_eq!(log.all("third exits"), NOTHING);
    let late = log.all("failed").into_iter().find(|(at, _)| *at > HANDOVER + Duration::from_millis(1010));
    assert_eq!(late, None);
}

#[test]
fn one_in_the_middle_that_dies_when_it_has_handed_on_brings_the_first_one_not_back() {
    let log = simulate(1, async |machine, place, log| {
        let second = Process::new("second", &machine, &log);
        launch(&second, &place);
        machine.sleep_until(HANDOVER + Duration::from_secs(1)).await;
        launch(&Process::new("third", &machine, &log), &place);
        machine.sleep_until(HANDOVER + Duration::from_secs(2)).await;
        second.kill();
    });
    assert_eq!(log.times("first exits with 0").len(), 1);
    let last = log.times("first connects").into_iter().max();
    assert!(last < Some(HANDOVER + Duration::from_millis(50)), "{last:?}: newcomers are the third's");
    assert_eq!(log.all("third exits"), NOTHING);
}
