//! What a run costs on each engine: without the control plane, and the acceptance scenarios with it.
//!
//! Throughput (criterion's `elem/s`) is simulated seconds per second of wall time: `86.4 Melem/s` means that a day takes a
//! millisecond. Only in the rows `scenarios` it is scenarios per second. A new row is a [`Load`]; every load runs on every
//! engine. The rows `1,000 round trips` are one load over longer and longer times: on an engine that skips idle time they
//! cost the same, within noise (20 %).

use std::future::poll_fn;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lastcall_core::Time;
use lastcall_world::{Listener, World};
use sim::cast::pod::last_call;
use sim::cast::run::{self, EngineName};
use sim::scenario::{self, ScenarioFile};
use sim::stage::{Ending, Engine, Host, Madsim, Plan, SimWorld, Turmoil, TurmoilNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Clients that each do a round trip every `period` until the end.
struct Load {
    name: &'static str,
    clients: u64,
    period: Duration,
    lasts: Duration,
}

const LOADS: [Load; 2] = [
    Load {
        name: "24 h, 1 client, a round trip an hour",
        clients: 1,
        period: Duration::from_secs(3600),
        lasts: Duration::from_secs(24 * 3600),
    },
    Load {
        name: "60 s, 100 clients, a round trip a second",
        clients: 100,
        period: Duration::from_secs(1),
        lasts: Duration::from_secs(60),
    },
];

/// The same events over an hour, a day and a month of simulated time.
const HORIZONS: [(&str, Duration); 3] = [
    ("1 h", Duration::from_secs(3_600)),
    ("24 h", Duration::from_secs(24 * 3_600)),
    ("30 days", Duration::from_secs(30 * 24 * 3_600)),
];

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = engine::<TurmoilNet>, engine::<Turmoil>, engine::<Madsim>, horizons, scenarios
}
criterion_main!(benches);

fn engine<E: Engine>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(E::NAME);
    for load in LOADS {
        group.throughput(Throughput::Elements(load.lasts.as_secs()));
        group.bench_function(load.name, |bencher| bencher.iter(|| black_box(run::<E>(&load))));
    }
    group.finish();
}

/// What only grows with simulated time would show here.
fn horizons(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("{}, 1,000 round trips in", TurmoilNet::NAME));
    for (name, lasts) in HORIZONS {
        let load = Load { name, clients: 10, period: lasts / 100, lasts };
        group.throughput(Throughput::Elements(lasts.as_secs()));
        group.bench_function(load.name, |bencher| bencher.iter(|| black_box(run::<TurmoilNet>(&load))));
    }
    group.finish();
}

/// The acceptance scenarios, one by one and all in a row, on each engine.
fn scenarios(criterion: &mut Criterion) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/acceptance");
    let paths = scenario::find(&root).expect("the acceptance scenarios are there");
    let files: Vec<_> = paths.iter().map(|path| scenario::load(path).expect("they are good files")).collect();
    let pod = last_call();
    for engine in EngineName::ALL {
        let go = |file: &ScenarioFile| run::run(&pod, &file.scenario, &run::settings(&file.scenario), 1, engine);
        let mut group = criterion.benchmark_group(format!("{} with cp", engine.name()));
        for file in &files {
            group.throughput(Throughput::Elements(go(file).simulated().as_secs()));
            let name = file.path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            group.bench_function(name, |bencher| bencher.iter(|| black_box(go(file))));
        }
        group.throughput(Throughput::Elements(files.len() as u64));
        group.bench_function("scenarios", |bencher| {
            bencher.iter(|| files.iter().for_each(|file| drop(black_box(go(file)))))
        });
        group.finish();
    }
}

fn run<E: Engine>(load: &Load) -> Ending {
    let Load { clients, period, lasts, .. } = *load;
    let hosts = vec![
        Host::new("server", echo_server),
        Host::new("clients", async move |world: E::World| {
            for _ in 0..clients {
                let client = world.clone();
                world.spawn("client", async move {
                    let mut stream = client.connect("server:6432").await.expect("the server listens");
                    loop {
                        client.sleep_until(client.now() + period).await;
                        stream.write_all(b"?").await.expect("the server reads");
                        stream.read_exact(&mut [0]).await.expect("the server answers");
                    }
                });
            }
            world.sleep_until(Time::from_epoch(lasts)).await;
            world.finish();
        }),
    ];
    E::simulate(Plan { seed: 1, limit: lasts + period }, hosts)
}

async fn echo_server<W: World>(world: W) {
    let mut listener = world.bind("0.0.0.0:6432").await.expect("the port is free");
    loop {
        let accepted = poll_fn(|cx| listener.poll_accept(cx)).await;
        let (mut stream, _peer) = accepted.expect("a simulated accept does not fail");
        world.spawn("echo", async move {
            while stream.read_exact(&mut [0]).await.is_ok() {
                stream.write_all(b"!").await.expect("the client reads");
            }
        });
    }
}
