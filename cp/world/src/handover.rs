//! How one process of a machine leaves its listening sockets to the next.
//!
//! The next process comes to a meeting place that both know, and is sent the sockets. What the two then say to each other is
//! theirs: here is a line between them, and the news that its other end is gone.

use std::io;
use std::task::{Context, Poll};

/// Both sides of it: what came from the process before this one, and what goes to the one behind.
pub trait Handover<L>: Send + 'static {
    /// What connects two processes.
    type Line: Line;

    /// The listening socket that came with this process under this name. Once.
    fn inherited(&mut self, name: &str) -> Option<L>;

    /// The line to the process that listens there still, if there is one. Once.
    fn predecessor(&mut self) -> Option<Self::Line>;

    /// Keeps a handle of this listening socket for the next process, until [`Handover::give_up`].
    ///
    /// # Errors
    /// What the kernel reports.
    fn keep(&mut self, name: &'static str, listener: &L) -> io::Result<()>;

    /// From now on the next process may come.
    ///
    /// # Errors
    /// If another process has the meeting place, or the kernel refuses it.
    fn open(&mut self) -> io::Result<()>;

    /// Nobody may come any more: the meeting place is free for another process.
    fn close(&mut self);

    /// The next process has come.
    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<Self::Line>;

    /// Sends it all that was kept.
    ///
    /// # Errors
    /// If it is gone.
    fn offer(&mut self, line: &mut Self::Line) -> io::Result<()>;

    /// Lets go of what was kept: from now on the sockets live as long as others hold them.
    fn give_up(&mut self);
}

/// The line between two processes.
pub trait Line: Send + 'static {
    /// Who is at the other end, for the log.
    fn peer(&self) -> String;

    /// Says one line. Never waits: what is said here is short and seldom.
    ///
    /// # Errors
    /// If the other process is gone, or does not read.
    fn say(&mut self, text: &str) -> io::Result<()>;

    /// The next line that the other process says.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the other process is gone.
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<String>>;
}

/// Of a process that has no other before it and none behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

/// Nobody is ever at its other end.
#[derive(Clone, Copy, Debug)]
pub enum NoLine {}

impl<L> Handover<L> for Alone {
    type Line = NoLine;

    fn inherited(&mut self, _name: &str) -> Option<L> {
        None
    }

    fn predecessor(&mut self) -> Option<NoLine> {
        None
    }

    fn keep(&mut self, _name: &'static str, _listener: &L) -> io::Result<()> {
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn close(&mut self) {}

    fn poll_asked(&mut self, _cx: &mut Context<'_>) -> Poll<NoLine> {
        Poll::Pending
    }

    fn offer(&mut self, line: &mut NoLine) -> io::Result<()> {
        match *line {}
    }

    fn give_up(&mut self) {}
}

impl Line for NoLine {
    fn peer(&self) -> String {
        match *self {}
    }

    fn say(&mut self, _text: &str) -> io::Result<()> {
        match *self {}
    }

    fn poll_hear(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<String>> {
        match *self {}
    }
}
