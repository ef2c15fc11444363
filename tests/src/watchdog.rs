//! Nothing started by a test process outlives it, however it ends: finished, panicked, interrupted or killed.
//!
//! Guards alone don't do: statics are not dropped, and after a SIGKILL nothing is. So for each process there is a
//! little shell that waits on a pipe from the test process. The kernel closes that pipe when the test process is gone;
//! the shell then stops the one process whose id it was given, and cleans up behind it. A process that has ended in
//! time is taken off its watchdog first, so that an id used again is never hit.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for the pipe's end, stops the process, and removes what it leaves: at most ten seconds after the signal. A
/// process that only its new parent has not waited for yet (`Z`) is as good as gone; in a container that can take for
/// ever.
const SCRIPT: &str = r#"
read -r released && exit 0
kill -s "$2" "$1"
looks=0
while kill -s 0 "$1" && ! grep -q '^State:.Z' "/proc/$1/status" && [ "$looks" -lt 200 ]; do
  sleep 0.05
  looks=$((looks + 1))
done
[ -z "$3" ] || rm -rf -- "$3"
"#;

/// Stops one process when this one is gone.
#[derive(Debug)]
pub struct Watchdog(Child);

impl Watchdog {
    /// Watches over the process `id`, to be stopped with `signal` (a name as `kill -s` takes it). The directory
    /// `leaves` is removed afterwards.
    ///
    /// # Panics
    /// If there is no shell.
    pub fn over(id: u32, signal: &str, leaves: Option<&Path>) -> Watchdog {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "watchdog", &id.to_string(), signal])
            .arg(leaves.unwrap_or(Path::new("")))
            // An interrupt from the terminal goes to the whole group; this shell has work to do then.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("every Unix has /bin/sh");
        Watchdog(shell)
    }

    /// The process has ended and was waited for: there is nothing to watch over any more.
    pub fn release(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // A shell that is gone needs no word.
            let _ = pipe.write_all(b"released\n");
        }
        let _ = self.0.wait();
    }
}
