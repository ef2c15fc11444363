//! Follows what a client writes to the end of its startup packet.

/// What was written of it so far.
#[derive(Debug, Default)]
pub(super) struct StartupWatch {
    /// Length and code of the packet that is being written.
    head: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// In the head of a packet.
    #[default]
    Head,
    /// So many bytes of the startup packet are still to come.
    Body(usize),
    /// It was written, or it is no startup packet.
    Over,
}

/// Length and code.
const HEAD_BYTES: usize = 8;
/// Codes of packets before the startup packet: requests for TLS and GSSAPI.
const ENCRYPTION: [i32; 2] = [80_877_103, 80_877_104];

impl StartupWatch {
    /// These bytes were written. True once: with the last byte of the startup packet.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> bool {
        loop {
            match self.state {
                State::Over => return false,
                State::Body(left) if bytes.len() < left => {
                    self.state = State::Body(left - bytes.len());
                    return false;
                }
                State::Body(_) => {
                    self.state = State::Over;
                    return true;
                }
                State::Head => {
                    let (more, rest) = bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
                    self.head.extend_from_slice(more);
                    bytes = rest;
                    let Some((length, code)) = self.read_head() else {
                        return false;
                    };
                    self.head.clear();
                    if !ENCRYPTION.contains(&code) {
                        let body = usize::try_from(length).ok().and_then(|length| length.checked_sub(HEAD_BYTES));
                        self.state = body.map_or(State::Over, State::Body);
                    }
                }
            }
        }
    }

    fn read_head(&self) -> Option<(i32, i32)> {
        let (length, code) = self.head.split_first_chunk()?;
        Some((i32::from_be_bytes(*length), i32::from_be_bytes(*code.first_chunk()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TLS: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0app\0\0";

    #[test]
    fn the_packet_is_whole_with_its_last_byte_however_it_is_cut() {
        let all = [TLS, STARTUP, b"Q\0\0\0\x05\0"].concat();
        let last = TLS.len() + STARTUP.len();
        for cut in 1..all.len() {
            let mut watch = StartupWatch::default();
            assert_eq!((watch.feed(&all[..cut]), watch.feed(&all[cut..])), (cut >= last, cut < last), "{cut}");
        }
    }

    #[test]
    fn half_a_packet_and_garbage_are_none() {
        let mut watch = StartupWatch::default();
        assert!(!watch.feed(&STARTUP[..STARTUP.len() / 2]));
        assert!(!StartupWatch::default().feed(b"\0\0\0\0\0\0\0\0\0\0"));
    }
}
