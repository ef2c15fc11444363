//! `SIOCOUTQ` and `SIOCOUTQNSD`: how much of what was written the peer has not acknowledged, and how much was not even sent.
//! No safe crate offers them.
#![expect(unsafe_code, reason = "two ioctls that fill in one integer")]

use std::ffi::c_int;
use std::io;

use rustix::ioctl::{Getter, Opcode, ioctl};
use tokio::net::TcpStream;

/// `SIOCOUTQ` of `linux/sockios.h`, which is `TIOCOUTQ`. For a TCP socket the kernel answers `write_seq - snd_una`
/// (`tcp_ioctl`): what is unsent and what is on its way, our FIN included.
const SIOCOUTQ: Opcode = 0x5411;

pub(super) fn unacknowledged(stream: &TcpStream) -> io::Result<usize> {
    // Safety: SIOCOUTQ writes one C integer to where it is told, on any socket, and reads nothing from there.
    let bytes = unsafe { ioctl(stream, Getter::<SIOCOUTQ, c_int>::new()) }?;
    // An error of the kernel's, never a negative count.
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// `SIOCOUTQNSD` of `linux/sockios.h`. For a TCP socket the kernel answers `write_seq - snd_nxt` (`tcp_ioctl`).
const SIOCOUTQNSD: Opcode = 0x894b;

/// Bytes that were written and not sent: the peer's window, or the network's capacity, is in their way.
pub(super) fn unsent(stream: &TcpStream) -> io::Result<usize> {
    // Safety: SIOCOUTQNSD writes one C integer to where it is told, on any socket, and reads nothing from there.
    let bytes = unsafe { ioctl(stream, Getter::<SIOCOUTQNSD, c_int>::new()) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
