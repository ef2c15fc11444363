//! The examples of lastcall-core, each a whole proxy: as processes in front of the PostgreSQL of this test process.

use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::client::Client;
use crate::postgres::{free_port, postgres};
use crate::program::{self, Program};

/// How long it may take from start to serving.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Another process may take the port between its choice and its use: then another is tried.
const ATTEMPTS: usize = 3;

/// The path of the one with this name, once it is built. However long that takes, it is no test's time.
///
/// # Panics
/// If it can't be built, with the reason.
pub fn built(name: &str) -> PathBuf {
    match program::build(["--example", name]) {
        Ok(programs) => programs.join("examples").join(name),
        Err(why) => panic!("no {name} to test: {why}"),
    }
}

/// A running example. Killed when dropped.
#[derive(Debug)]
pub struct Example {
    /// Where clients connect, on 127.0.0.1.
    pub port: u16,
    program: Program,
}

impl Example {
    /// Starts this one, with these settings.
    ///
    /// # Panics
    /// If it does not begin to serve.
    pub async fn start(program: &Path, settings: &[&str]) -> Example {
        let mut told = String::new();
        for _ in 0..ATTEMPTS {
            let port = free_port().expect("the machine has free ports");
            let mut command = Command::new(program);
            command.args([format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", postgres().port)]).args(settings);
            let mut example = Example { port, program: Program::start(command) };
            let serving = crate::eventually(START_LIMIT, "the example to serve", async || {
                if example.has_ended() {
                    return Some(false);
                }
                TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
            });
            if serving.await && !example.has_ended() {
                return example;
            }
            told = example.text();
        }
        panic!("{} does not start:\n{told}", program.display());
    }

    /// Opens a session through it.
    pub async fn connect(&self, application: &str) -> Client {
        Client::connect(self.port, application).await
    }
}

impl Deref for Example {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Example {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}
