//! What a scenario can't do without, of a network.

/// Something that not every simulated network can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A side that has sent FIN still reads.
    HalfClose,
    /// A socket closed with unread bytes resets its peer.
    Reset,
    /// A reader that has stopped holds its writer back.
    Backpressure,
    /// A process can close a connection with RST when it likes.
    AbortiveClose,
    /// A machine can vanish.
    Vanish,
    /// Packets can be lost, and come through later.
    PacketLoss,
    /// Packets can be held and released.
    Hold,
    /// The time that packets take can be changed.
    Latency,
    /// The rate can be limited.
    Rate,
    /// A host that was killed can be started again.
    Restart,
    /// A machine can die with its process.
    DyingMachines,
}
