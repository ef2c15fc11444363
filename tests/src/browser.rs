//! A real browser: Chromium without a screen, driven over WebDriver.
//!
//! Each browser is one of its own, with a profile of its own that is gone with it. What WebDriver has no words for (how wide
//! the screen is, whether it is dark, what the network was asked) goes over Chromium's own protocol, through its driver.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::watchdog::Watchdog;
use crate::within;

/// The programs that must be there.
const PROGRAMS: [&str; 2] = ["chromium", "chromedriver"];
const REMEDY: &str = "run tests/run, which installs both, or install Debian's packages chromium and chromium-driver";

/// How long the driver and the browser may take to start. They take a second; this is for a machine that does much else.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A running browser with one window. Killed when dropped, with everything that it has started.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    driver: Child,
    watchdog: Option<Watchdog>,
    _profile: TempDir,
}

impl Browser {
    /// Starts one.
    ///
    /// # Panics
    /// If it isn't there or doesn't start, with the remedy.
    pub async fn start() -> Browser {
        for program in PROGRAMS {
            assert!(is_there(program), "no browser to test with: {program} is not on the PATH; {REMEDY}");
        }
        let profile = TempDir::new().expect("a temporary directory can be made");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            // An interrupt from the terminal is for the tests.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it is there");
        let watchdog = Some(Watchdog::over(driver.id(), "KILL", Some(profile.path())));
        let port = port(&mut driver);
        let capabilities = capabilities(profile.path());
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities);
        let address = format!("http://127.0.0.1:{port}");
        let client = within(START_LIMIT, "a browser", builder.connect(&address)).await;
        let client = client.unwrap_or_else(|error| panic!("chromium does not start: {error}; {REMEDY}"));
        Browser { client, driver, watchdog, _profile: profile }
    }

    /// Opens a page of the file system.
    ///
    /// # Panics
    /// If it doesn't load.
    pub async fn open(&self, page: &Path) {
        let address = format!("file://{}", page.display());
        within(LIMIT, "the page", self.client.goto(&address)).await.expect("the page loads");
    }

    /// Makes its screen so wide, and dark or light.
    pub async fn look(&self, width: u32, is_dark: bool) {
        let shade = if is_dark { "dark" } else { "light" };
        let screen = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", screen).await;
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": shade }] });
        self.tell("Emulation.setEmulatedMedia", features).await;
    }

    /// Runs the body of a function in the page, and returns what it does.
    ///
    /// # Panics
    /// If it throws.
    pub async fn ask(&self, script: &str) -> Value {
        let asked = within(LIMIT, "an answer of the page", self.client.execute(script, Vec::new())).await;
        asked.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Presses a key, as the protocol names it: `Tab`, `ArrowRight`, `Enter`.
    pub async fn press(&self, key: &str) {
        let text = if key == "Enter" { "\r" } else { "" };
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            "End" => 35,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            key => panic!("no key {key} is known here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code });
            self.tell("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Taps at a place of the window.
    pub async fn tap(&self, x: f64, y: f64) {
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.tell("Input.dispatchMouseEvent", event).await;
        }
    }

    /// What stands on the console since the last look.
    pub async fn console(&self) -> Vec<String> {
        let entries = self.log("browser").await;
        entries.iter().map(|entry| entry["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The addresses on the network and in the file system that were asked for since the last look. The browser's first page
    /// is made of others, in the browser itself.
    pub async fn requests(&self) -> Vec<String> {
        let entries = self.log("performance").await;
        let messages = entries.iter().filter_map(|entry| serde_json::from_str(entry["message"].as_str()?).ok());
        let asked = messages.filter(|message: &Value| message["message"]["method"] == "Network.requestWillBeSent");
        let address = |message: Value| Some(message["message"]["params"]["request"]["url"].as_str()?.to_owned());
        let leads_out = |address: &String| {
            ["file:", "http:", "https:", "ws:", "wss:", "ftp:"].iter().any(|scheme| address.starts_with(scheme))
        };
        asked.filter_map(address).filter(leads_out).collect()
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        let command = Chromium { path: "se/log", body: json!({ "type": kind }) };
        match self.issue(command).await {
            Value::Array(entries) => entries,
            other => panic!("a log is a list: {other}"),
        }
    }

    /// Says something in Chromium's own protocol.
    async fn tell(&self, command: &str, params: Value) {
        self.issue(Chromium { path: "goog/cdp/execute", body: json!({ "cmd": command, "params": params }) }).await;
    }

    async fn issue(&self, command: Chromium) -> Value {
        let told = format!("{command:?}");
        let answer = within(LIMIT, "an answer of the driver", self.client.issue_cmd(command)).await;
        answer.unwrap_or_else(|error| panic!("{told}: {error}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser hangs on a pipe from its driver, and ends with it.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
    }
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// The port that the driver has chosen; it says so first of all.
fn port(driver: &mut Child) -> u16 {
    let stdout = driver.stdout.take().expect("asked for just now");
    let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
    let port = lines.find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    // It says little more, and nobody has to read that: a pipe holds it.
    port.unwrap_or_else(|| panic!("chromedriver says no port; {REMEDY}"))
}

fn capabilities(profile: &Path) -> Map<String, Value> {
    let profile = format!("--user-data-dir={}", profile.display());
    let args = [
        "--headless=new",
        // Where the tests are root, as in a container, Chromium has no sandbox; it sees nothing but these pages.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        // It asks nothing of the network for itself either.
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--remote-debugging-pipe",
        &profile,
    ];
    let capabilities = json!({
        "browserName": "chrome",
        "goog:chromeOptions": { "args": args },
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
    });
    match capabilities {
        Value::Object(capabilities) => capabilities,
        _ => unreachable!("it is written as one"),
    }
}

/// A command that only Chromium's driver knows.
#[derive(Debug)]
struct Chromium {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Chromium {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}
