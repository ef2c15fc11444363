//! SCRAM's channel binding, where a worker is reached under TLS: it ties a login to the certificate that the client sees, which
//! is this process's and not the worker's.
//!
//! A client that binds would therefore be turned away by the worker, and one that could have and was not offered it is taken
//! for the victim of a downgrade. So the offer is passed on only where both show the same certificate; else it is left
//! out, and a client that says that it would have is told the reason, and what helps, in the worker's place.
//!
//! Sources: RFC 5802, "Channel Binding"; RFC 5929, "tls-server-end-point"; PostgreSQL's protocol, "SASL Authentication".

use lastcall_core::fatal::Fatal;

/// The mechanism that binds.
const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
/// AuthenticationSASL's code.
const SASL: [u8; 4] = [0, 0, 0, 10];
/// A longer message than this is none of those that are looked for.
const LONGEST: usize = 16_384;
/// How a client begins that could bind and was not offered it.
const COULD_HAVE: &[u8] = b"y,";

/// Follows a login until the mechanism is chosen.
#[derive(Debug, Default)]
pub(super) struct Binding {
    state: State,
    /// From the worker, not yet passed on: the beginning of a message.
    from_worker: Vec<u8>,
    /// For the client.
    to_client: Vec<u8>,
    /// From the client: first the beginning of its choice, then what waits to be sent.
    from_client: Vec<u8>,
}

/// What is awaited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The worker's list of mechanisms, or something that says that there is none.
    #[default]
    Offer,
    /// The client's choice.
    Choice,
    /// Nothing more.
    Settled,
    /// The client was refused: the connection ends behind what it is told.
    Refused,
    /// The worker has ended its side.
    Ended,
}

impl Binding {
    /// Takes what the worker sends.
    pub(super) fn handle_worker(&mut self, bytes: &[u8]) {
        self.from_worker.extend_from_slice(bytes);
        while self.state == State::Offer {
            let Some((&kind, length)) = header(&self.from_worker) else { break };
            if length <= LONGEST && self.from_worker.len() < 1 + length {
                break;
            }
            let end = (1 + length).min(self.from_worker.len());
            let message: Vec<u8> = self.from_worker.drain(..end).collect();
            // Options of the protocol that it does not know, and notices, may come before.
            if kind == b'R' && message.get(5..9) == Some(&SASL) {
                self.to_client.extend_from_slice(&without_plus(&message));
                self.state = State::Choice;
            } else {
                self.to_client.extend_from_slice(&message);
                self.state = if matches!(kind, b'v' | b'N') { State::Offer } else { State::Settled };
            }
        }
        if self.state != State::Offer {
            self.to_client.append(&mut self.from_worker);
        }
    }

    /// The worker has ended its side.
    pub(super) fn handle_worker_ended(&mut self) {
        self.to_client.append(&mut self.from_worker);
        self.state = State::Ended;
    }

    /// Whether the next bytes of the client's belong here.
    pub(super) fn watches_client(&self) -> bool {
        matches!(self.state, State::Choice | State::Refused)
    }

    /// Takes what the client sends, all of it.
    pub(super) fn handle_client(&mut self, bytes: &[u8]) -> usize {
        if self.state == State::Choice {
            self.from_client.extend_from_slice(bytes);
            match could_have_bound(&self.from_client) {
                None => {}
                Some(false) => self.state = State::Settled,
                Some(true) => {
                    self.from_client = Vec::new();
                    self.to_client.extend_from_slice(&refusal().encode());
                    self.state = State::Refused;
                }
            }
        }
        bytes.len()
    }

    /// What is to be sent to the worker now.
    pub(super) fn unsent(&self) -> Option<&[u8]> {
        (self.state == State::Settled && !self.from_client.is_empty()).then_some(&self.from_client)
    }

    /// So much of it was.
    pub(super) fn handle_taken(&mut self, taken: usize) {
        self.from_client.drain(..taken);
    }

    /// What the client reads next, `limit` bytes at most.
    pub(super) fn hear(&mut self, limit: usize) -> Option<Vec<u8>> {
        let some = self.to_client.len().min(limit);
        (some > 0).then(|| self.to_client.drain(..some).collect())
    }

    /// Whether nothing comes any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Refused | State::Ended) && self.to_client.is_empty()
    }

    /// Whether the rest passes without a look.
    pub(super) fn is_settled(&self) -> bool {
        self.state == State::Settled && self.to_client.is_empty() && self.from_client.is_empty()
    }
}

/// The type of the message that `bytes` begin with, and its length.
fn header(bytes: &[u8]) -> Option<(&u8, usize)> {
    let [kind, a, b, c, d, ..] = bytes else { return None };
    Some((kind, u32::from_be_bytes([*a, *b, *c, *d]).max(4) as usize))
}

/// AuthenticationSASL without the mechanism that binds.
fn without_plus(message: &[u8]) -> Vec<u8> {
    let mechanisms = message[9..].split(|byte| *byte == 0).filter(|name| !name.is_empty() && *name != PLUS);
    let mut left = SASL.to_vec();
    for name in mechanisms {
        left.extend_from_slice(name);
        left.push(0);
    }
    left.push(0);
    let length = (left.len() + 4) as u32;
    [&b"R"[..], &length.to_be_bytes(), &left].concat()
}

/// Whether the SASLInitialResponse that `bytes` begin with says that its client could have bound; none while that can't be
/// told. What is no such message is the worker's to judge.
fn could_have_bound(bytes: &[u8]) -> Option<bool> {
    let (kind, length) = header(bytes)?;
    if *kind != b'p' {
        return Some(false);
    }
    let body = &bytes[5..bytes.len().min(1 + length)];
    let is_whole = bytes.len() > length;
    match body.iter().position(|byte| *byte == 0) {
        Some(end) => match body.get(end + 5..).filter(|data| data.len() >= COULD_HAVE.len()) {
            Some(data) => Some(data.starts_with(COULD_HAVE)),
            None => is_whole.then_some(false),
        },
        None => is_whole.then_some(false),
    }
}

fn refusal() -> Fatal {
    Fatal {
        code: "28000",
        message: "SCRAM channel binding cannot pass through this server".to_owned(),
        detail: Some(
            "Its certificate is not that of the worker behind it, which would take this login for a downgrade. Connect with \
             channel_binding=disable, or give lastcall the certificate and key of the worker."
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(mechanisms: &[&str]) -> Vec<u8> {
        let mut body = SASL.to_vec();
        for name in mechanisms {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
        }
        body.push(0);
        [&b"R"[..], &(body.len() as u32 + 4).to_be_bytes(), &body].concat()
    }

    fn choice(data: &str) -> Vec<u8> {
        let mut body = b"SCRAM-SHA-256\0".to_vec();
        body.extend_from_slice(&(data.len() as u32).to_be_bytes());
        body.extend_from_slice(data.as_bytes());
        [&b"p"[..], &(body.len() as u32 + 4).to_be_bytes(), &body].concat()
    }

    fn heard(binding: &mut Binding) -> Vec<u8> {
        binding.hear(usize::MAX).unwrap_or_default()
    }

    #[test]
    fn the_offer_to_bind_is_left_out_however_it_is_cut_and_what_comes_before_it_is_not() {
        let before = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0".to_vec();
        let sent = [before.clone(), offer(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"])].concat();
        for piece in [1, 3, 7, sent.len()] {
            let mut binding = Binding::default();
            sent.chunks(piece).for_each(|bytes| binding.handle_worker(bytes));
            assert_eq!(heard(&mut binding), [before.clone(), offer(&["SCRAM-SHA-256"])].concat(), "{piece}");
            assert!(binding.watches_client());
        }
    }

    #[test]
    fn a_login_that_binds_nothing_passes_as_it_is_however_it_is_cut() {
        let sent = [choice("n,,n=,r=nonce"), b"more".to_vec()].concat();
        for piece in [1, 5, 20, sent.len()] {
            let mut binding = Binding::default();
            binding.handle_worker(&offer(&["SCRAM-SHA-256"]));
            heard(&mut binding);
            let mut passed = Vec::new();
            for bytes in sent.chunks(piece) {
                if !binding.watches_client() {
                    passed.extend_from_slice(bytes);
                    continue;
                }
                assert_eq!(binding.handle_client(bytes), bytes.len());
                if let Some(bytes) = binding.unsent().map(<[u8]>::to_vec) {
                    binding.handle_taken(bytes.len());
                    passed.extend(bytes);
                }
            }
            assert_eq!(passed, sent, "{piece}");
            assert!(binding.is_settled() && !binding.is_over());
        }
    }

    #[test]
    fn a_client_that_could_have_bound_is_told_why_it_can_not_and_nothing_of_it_reaches_the_worker() {
        for piece in [1, 9, 100] {
            let mut binding = Binding::default();
            binding.handle_worker(&offer(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]));
            heard(&mut binding);
            for bytes in choice("y,,n=,r=nonce").chunks(piece) {
                binding.handle_client(bytes);
                assert_eq!(binding.unsent(), None);
            }
            let told = String::from_utf8_lossy(&heard(&mut binding)).into_owned();
            assert!(
                told.starts_with('E') && told.contains("28000") && told.contains("channel_binding=disable"),
                "{told}"
            );
            assert!(binding.is_over());
        }
    }

    #[test]
    fn another_kind_of_login_settles_it_at_once() {
        for message in [&b"R\0\0\0\x08\0\0\0\0"[..], b"R\0\0\0\x08\0\0\0\x03", b"E\0\0\0\x05\0"] {
            let mut binding = Binding::default();
            binding.handle_worker(&[message, b"rest"].concat());
            assert_eq!(heard(&mut binding), [message, b"rest"].concat());
            assert!(binding.is_settled());
        }
    }

    #[test]
    fn a_worker_that_leaves_in_the_middle_of_its_offer_is_passed_on_as_far_as_it_came() {
        let mut binding = Binding::default();
        binding.handle_worker(b"R\0\0");
        assert!(binding.hear(9).is_none());
        binding.handle_worker_ended();
        assert_eq!(heard(&mut binding), b"R\0\0");
        assert!(binding.is_over());
    }
}
