//! `SIOCOUTQ`: how much of what was written the peer has not acknowledged. No safe crate offers it.
#![expect(unsafe_code, reason = "one ioctl that fills in one integer")]

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
