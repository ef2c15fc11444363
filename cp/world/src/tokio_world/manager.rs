//! What a service manager wants to be told: datagrams to the socket that it names in `NOTIFY_SOCKET`, as `sd_notify(3)` has them.

use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::Standing;

/// Nothing is said where nobody wants to know. Never waits.
pub(super) fn tell(standing: Standing, status: &str) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(text(standing, status).as_bytes(), &address(&name)?)?;
    Ok(())
}

fn text(standing: Standing, status: &str) -> String {
    match standing {
        Standing::Ready => format!("READY=1\nSTATUS={status}"),
        Standing::Draining => format!("STATUS={status}"),
        Standing::Stopping { patience } => {
            format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}\nSTATUS={status}", patience.as_micros())
        }
    }
}

/// A path, or behind an `@` a name that is on no disk.
fn address(name: &std::ffi::OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(abstract_name) = name.as_encoded_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(abstract_name);
    }
    SocketAddr::from_pathname(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_process_that_stops_asks_not_to_be_killed_in_microseconds() {
        let stopping = Standing::Stopping { patience: Duration::from_secs(60) };
        assert_eq!(text(stopping, "draining"), "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000\nSTATUS=draining");
        assert_eq!(text(Standing::Ready, "serving"), "READY=1\nSTATUS=serving");
        assert_eq!(text(Standing::Draining, "draining"), "STATUS=draining", "it may serve again");
    }
}
