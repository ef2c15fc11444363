//! The pages of `sim report` in a real browser: that they are drawn, that everything in them can be reached with a keyboard, that
//! they ask nothing of the network, and that they can be read on a screen and on a telephone, by day and by night.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "these tests run on the real machine")]
#![allow(clippy::unwrap_used, reason = "all of it is tests, their helpers too")]

mod look;
mod reach;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use process_tests::browser::Browser;
use process_tests::simulator::sim;
use process_tests::within;
use tempfile::TempDir;

/// No test takes longer, however slow the machine: what does hangs.
const TEST_LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

/// Breaks what it promises, under two old policies at once; its words are an attempt at markup.
const BROKEN: &str = r#"
title = "A flat cap <b onclick='alert(1)'>cuts</b> & \"breaks\""
[drain]
drain_policy = "flat"
handover_drain_timeout = "2m"
[[client]]
name = "etl"
steps = ["connect", { query = "10m", rows = 3 }, "disconnect"]
[[client]]
name = "dashboard"
count = 40
stagger = "100ms"
steps = ["connect", { repeat = "forever", steps = [{ query = "20ms" }, { think = "5s" }] }]
[[event]]
at = "1m"
do = "sigterm"
[expect]
exit = { within = "11m", code = 0 }
client.etl = { answered = "all" }
"#;

/// A client that sleeps holds the pod for a day, under an old policy: most of it is left out of the picture.
const DAY: &str = r#"
title = "A client that sleeps holds the pod for a day"
[pod]
termination_grace = "24h"
[drain]
idle_timeout = "0"
drain_policy = "unbounded"
[[client]]
name = "silent"
steps = ["connect", { query = "20ms" }, { idle = "forever" }]
[[client]]
name = "nightly"
start = "358m"
steps = ["connect", { query = "2m" }, "disconnect"]
[[client]]
name = "web"
count = 12
start = "359m"
stagger = "300ms"
steps = ["connect", { repeat = 40, steps = [{ query = "20ms" }, { think = "5s" }] }, "disconnect"]
[[event]]
at = "6h"
do = "sigterm"
[expect]
exit = { within = "25h", code = 0 }
"#;

/// A pool that comes back, what runs for minutes, who forgets its transaction, and who comes late.
const ROLLOUT: &str = r#"
title = "A rollout at noon"
[pod]
termination_grace = "1h"
[[client]]
name = "web-pool"
count = 60
stagger = "40ms"
reconnect = { backoff = "500ms", retries = 3 }
steps = ["connect", { repeat = "forever", steps = [{ query = "15ms" }, { think = "4s" }] }]
[[client]]
name = "report"
steps = ["connect", "begin", { query = "12m", rows = 5000 }, { think = "30s" }, { insert = 1 }, "commit", { idle = "forever" }]
[[client]]
name = "loader"
start = "50s"
steps = ["connect", { copy_in = 100, every = "2s" }, { idle = "forever" }]
[[client]]
name = "psql"
steps = ["connect", "begin", { query = "20ms" }, { idle = "forever" }]
[[client]]
name = "late"
start = "70s"
steps = ["connect", { query = "20ms" }]
[[event]]
at = "1m"
do = "sigterm"
[expect]
exit = { within = "20m", code = 0 }
"#;

/// The pages that are looked at.
struct Pages {
    directory: TempDir,
}

impl Pages {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The page of a run in which everything holds, and everything that a connection can do is done.
    fn whole(&self) -> PathBuf {
        self.path("whole.html")
    }

    /// The page of a run in which a promise is broken.
    fn broken(&self) -> PathBuf {
        self.path("broken.html")
    }

    /// The index of a folder.
    fn index(&self) -> PathBuf {
        self.path("folder/index.html")
    }

    /// The page of a run of a day, most of which is left out.
    fn day(&self) -> PathBuf {
        self.path("day.html")
    }

    /// Every page of a run.
    fn runs(&self) -> [PathBuf; 6] {
        let [idle, faults, rollout] = ["idle.html", "faults.html", "rollout.html"].map(|name| self.path(name));
        [self.whole(), self.broken(), idle, faults, self.day(), rollout]
    }

    /// Every page there is.
    fn all(&self) -> Vec<PathBuf> {
        self.runs().into_iter().chain([self.index()]).collect()
    }
}

/// Written by the first test that asks, for all of them.
fn pages() -> &'static Pages {
    static PAGES: OnceLock<Pages> = OnceLock::new();
    PAGES.get_or_init(|| {
        let pages = Pages { directory: TempDir::new().unwrap() };
        let file = |name: &str, text: &str| {
            let path = pages.path(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (broken, day, rollout) =
            (file("broken.toml", BROKEN), file("day.toml", DAY), file("rollout.toml", ROLLOUT));
        let [whole, idle, faults] = [
            "scenarios/acceptance/every-activity-falls-silent.toml",
            "scenarios/acceptance/idle-clients-cannot-hold-the-pod.toml",
            "scenarios/incidents/worker-drift.toml",
        ];
        let write = |from: &str, to: &Path| sim(&["report", from, "-o", to.to_str().unwrap()]);
        write(whole, &pages.whole());
        write(broken.to_str().unwrap(), &pages.broken());
        write(day.to_str().unwrap(), &pages.day());
        write(rollout.to_str().unwrap(), &pages.path("rollout.html"));
        write(idle, &pages.path("idle.html"));
        write(faults, &pages.path("faults.html"));
        let folder = pages.path("folder");
        sim(&["report", broken.to_str().unwrap(), idle, "-o", folder.to_str().unwrap()]);
        pages
    })
}

/// Runs a test with a browser of its own to its end, and fails it if it has none.
fn run(test: impl AsyncFnOnce(&Browser, &Pages)) {
    // However long they take, it is not the test's time.
    let pages = pages();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(within(TEST_LIMIT, "the test", async {
        let browser = Browser::start().await;
        test(&browser, pages).await;
    }));
}
