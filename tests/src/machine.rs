//! Another machine, as far as TCP can tell: a network namespace at the other end of a cable, which can be pulled.
//!
//! A test that needs one runs in a network of its own ([`in_own_network`]), so that no address of the real machine is ever
//! touched. Both networks are gone when their last process is. It takes root, `unshare` and `nsenter` (util-linux), `ip` and
//! `tc` (iproute2).

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::watchdog::Watchdog;

/// This machine's end of the first cable.
pub const HERE: &str = "192.0.2.1";

/// One for each cable. Source: RFC 5737, for documentation; nobody's.
const NETWORKS: [&str; 3] = ["192.0.2", "198.51.100", "203.0.113"];

/// Set for the process that runs inside.
const INSIDE: &str = "PROCESS_TESTS_IN_OWN_NETWORK";

/// Runs `test` in a network of its own: in a second process of this very program, which runs only the test called `name`.
///
/// # Panics
/// If the test fails there, or no network can be made.
pub fn in_own_network(name: &str, test: impl Future<Output = ()>) {
    if std::env::var_os(INSIDE).is_some() {
        ip(Command::new("ip"), &["link", "set", "lo", "up"]);
        return crate::run(test);
    }
    // Built out here, where it may take its time.
    crate::control_plane::binary();
    let program = std::env::current_exe().expect("a test knows where it is");
    let inside = Command::new("unshare")
        .args([OsStr::new("--net"), OsStr::new("--"), program.as_os_str()])
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare is there: it is part of util-linux");
    let (said, log) = (String::from_utf8_lossy(&inside.stdout), String::from_utf8_lossy(&inside.stderr));
    assert!(inside.status.success(), "{name} in a network of its own (this takes root):\n{said}\n{log}");
    assert!(said.contains("1 passed"), "there is no test called {name}:\n{said}");
}

/// The other machine. Gone when dropped.
#[derive(Debug)]
pub struct Machine {
    number: usize,
    /// A process that does nothing but be there; the namespace lives as long as it.
    keeper: Child,
    watchdog: Option<Watchdog>,
}

impl Machine {
    /// Makes it and connects it by a cable, whose end here is [`HERE`]. One at a time.
    pub fn plug_in() -> Machine {
        Machine::plug_in_at(0)
    }

    /// Makes the one with this `number` (0, 1 or 2), and connects it by a cable of its own.
    ///
    /// # Panics
    /// If that can't be done.
    pub fn plug_in_at(number: usize) -> Machine {
        let keeper = Command::new("unshare")
            // `cat` ends with its standard input, and so with this process.
            .args(["--net", "--", "sh", "-c", "echo there; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is there: it is part of util-linux");
        let watchdog = Some(Watchdog::over(keeper.id(), "KILL", None));
        let mut machine = Machine { number, keeper, watchdog };
        machine.wait_until_there();
        let id = machine.keeper.id().to_string();
        let (here, there) = (machine.cable(), format!("{}.2/24", NETWORKS[number]));
        ip(Command::new("ip"), &["link", "add", &here, "type", "veth", "peer", "name", "there", "netns", &id]);
        ip(Command::new("ip"), &["address", "add", &format!("{}/24", machine.here()), "dev", &here]);
        ip(Command::new("ip"), &["link", "set", &here, "up"]);
        ip(machine.command("ip"), &["address", "add", &there, "dev", "there"]);
        ip(machine.command("ip"), &["link", "set", "there", "up"]);
        machine
    }

    /// The address of this end of its cable.
    pub fn here(&self) -> String {
        format!("{}.1", NETWORKS[self.number])
    }

    fn cable(&self) -> String {
        format!("here{}", self.number)
    }

    /// From here on its cable takes no more than `rate` (as `tc` has it: `2mbit`) from here to there. What waits for the cable
    /// is not dropped.
    ///
    /// # Panics
    /// If that can't be done.
    pub fn slow_down(&self, rate: &str) {
        let cable = self.cable();
        let mut arguments = vec!["qdisc", "add", "dev", &cable, "root", "tbf", "rate", rate];
        arguments.extend(["burst", "16kb", "limit", "16mb"]);
        ip(Command::new("tc"), &arguments);
    }

    /// Connects from there to `port` here.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(&self, port: u16) -> TcpStream {
        let network = File::open(format!("/proc/{}/ns/net", self.keeper.id())).expect("it lives as long as its keeper");
        let here = self.here();
        // A socket belongs to the network in which its thread was when it was made.
        let connecting = std::thread::spawn(move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).expect("this takes root");
            TcpStream::connect((here.as_str(), port))
        });
        connecting.join().expect("connecting does not panic").expect("it listens")
    }

    /// The cable is gone from this end, as a pod's goes when its processes are gone: nothing that is still queued here gets
    /// there.
    ///
    /// # Panics
    /// If that can't be done.
    pub fn unplug(&self) {
        ip(Command::new("ip"), &["link", "delete", &self.cable()]);
    }

    /// A program of this machine's, run on the other one.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.keeper.id().to_string(), "--"]).arg(program);
        command
    }

    /// The machine is gone, without a packet: its end of the cable is pulled. What runs there goes on and reaches nobody.
    ///
    /// # Panics
    /// If that can't be done.
    pub fn vanish(&self) {
        ip(self.command("ip"), &["link", "set", "there", "down"]);
    }

    /// Its network exists when the shell in it speaks.
    fn wait_until_there(&mut self) {
        use std::io::Read;

        let mut said = [0; 6];
        let output = self.keeper.stdout.as_mut().expect("asked for just now");
        output.read_exact(&mut said).expect("a network can be made by root");
        assert_eq!(&said, b"there\n");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.release();
        }
    }
}

fn ip(mut command: Command, arguments: &[&str]) {
    let output = command.args(arguments).output().expect("ip and tc are there: they are part of iproute2");
    assert!(output.status.success(), "{}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
}
