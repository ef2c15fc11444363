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

    /// Every page there is.
    fn all(&self) -> [PathBuf; 5] {
        [self.whole(), self.broken(), self.path("idle.html"), self.path("faults.html"), self.index()]
    }
}

/// Written by the first test that asks, for all of them.
fn pages() -> &'static Pages {
    static PAGES: OnceLock<Pages> = OnceLock::new();
    PAGES.get_or_init(|| {
        let pages = Pages { directory: TempDir::new().unwrap() };
        let broken = pages.path("broken.toml");
        std::fs::write(&broken, BROKEN).unwrap();
        let [whole, idle, faults] = [
            "scenarios/acceptance/every-activity-falls-silent.toml",
            "scenarios/acceptance/idle-clients-cannot-hold-the-pod.toml",
            "scenarios/incidents/worker-drift.toml",
        ];
        let write = |from: &str, to: &Path| sim(&["report", from, "-o", to.to_str().unwrap()]);
        write(whole, &pages.whole());
        write(broken.to_str().unwrap(), &pages.broken());
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
