//! The way of the log out of the process: a queue with a thread of its own at its end, so that whoever reads the log, or
//! doesn't, has no say in what the process does.
//!
//! Adding a line never waits for the reader. What the queue has no room for is dropped and counted, and so is what the
//! reader's end refuses (a closed pipe, a full disk); when there is room again a line says how much was lost. End records
//! have room of their own: no flood of other lines pushes one out.
//!
//! Not `tracing-appender`: its queue counts lines and not bytes, has one room for all, and can't say when it is empty.
#![expect(
    clippy::disallowed_methods,
    reason = "what may block belongs to no task; nothing that the process does depends on when this thread runs"
)]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use crate::records::Lost;

/// Bytes of lines that may wait.
const MAX_LINES: usize = 1024 * 1024;
/// Bytes of end records that may wait besides: those of 10,000 sessions that end together.
const MAX_RECORDS: usize = 8 * 1024 * 1024;

/// Where lines are handed over. Clones hand them to the same thread.
#[derive(Clone, Debug)]
pub struct Outlet(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Line>,
    /// Bytes that wait, by their kind.
    lines: usize,
    records: usize,
    /// A line has been taken and is not written yet.
    writing: bool,
    /// The thread waits for a line, and nobody has woken it.
    asleep: bool,
    lost: Lost,
    /// How much of that has been told.
    told: Lost,
    /// Whoever waits for everything to be written: one at a time.
    waiter: Option<Waker>,
}

/// Where lines end up.
pub(crate) trait Out: Write + Send + 'static {
    /// Waits until it takes something again. Called where a write would have to wait and did not.
    fn wait_for_room(&self) {}

    /// There is nothing more to write for now.
    fn settle(&mut self) {}
}

/// One line, its newline included.
#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    is_record: bool,
}

impl Outlet {
    /// Starts the thread that writes to `out`, for as long as the process lives. Once something was lost and there is room
    /// again it has `tell` write a line about that.
    ///
    /// # Errors
    /// If there can be no thread.
    pub(crate) fn start(out: impl Out, tell: fn(Lost)) -> io::Result<Outlet> {
        let outlet = Outlet(Arc::default());
        let writer = outlet.clone();
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_all(out, tell))?;
        Ok(outlet)
    }

    /// Hands over one line. It is dropped if there is no room for it.
    pub(crate) fn add(&self, bytes: &[u8], is_record: bool) {
        let mut queue = self.queue();
        let (used, room) = if is_record { (queue.records, MAX_RECORDS) } else { (queue.lines, MAX_LINES) };
        if used + bytes.len() > room {
            return queue.lose(is_record);
        }
        queue.count(is_record, used + bytes.len());
        queue.waiting.push_back(Line { bytes: bytes.to_vec(), is_record });
        let wakes = std::mem::take(&mut queue.asleep);
        drop(queue);
        // A system call, which a thousand ends in one moment need not make a thousand times.
        if wakes {
            self.0.filled.notify_one();
        }
    }

    /// Completes when everything handed over so far is written, or lost. One caller at a time.
    pub async fn written(&self) {
        poll_fn(|cx| {
            let mut queue = self.queue();
            if queue.waiting.is_empty() && !queue.writing {
                return Poll::Ready(());
            }
            queue.waiter = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What was lost since the start.
    pub fn lost(&self) -> Lost {
        self.queue().lost
    }

    fn write_all(&self, mut out: impl Out, tell: fn(Lost)) {
        loop {
            let line = self.next();
            let written = write(&mut out, &line.bytes);
            if self.queue().waiting.is_empty() {
                out.settle();
            }
            if let Some(lost) = self.done(&line, written.is_ok()) {
                tell(lost);
            }
        }
    }

    /// Waits for a line.
    fn next(&self) -> Line {
        let mut queue = self.queue();
        loop {
            if let Some(line) = queue.waiting.pop_front() {
                queue.writing = true;
                return line;
            }
            queue.asleep = true;
            queue = self.0.filled.wait(queue).expect("nothing panics while it holds the queue");
        }
    }

    /// The line is written, or can't be. Returns what is to be told as lost.
    fn done(&self, line: &Line, is_written: bool) -> Option<Lost> {
        let mut queue = self.queue();
        queue.writing = false;
        let used = if line.is_record { queue.records } else { queue.lines };
        queue.count(line.is_record, used - line.bytes.len());
        if !is_written {
            queue.lose(line.is_record);
        }
        let news = queue.lost - queue.told;
        let has_room = queue.lines <= MAX_LINES / 2 && queue.records <= MAX_RECORDS / 2;
        // Whoever reads nothing would not read that either.
        let news = (is_written && has_room && news != Lost::default()).then_some(news);
        if news.is_some() {
            queue.told = queue.lost;
        }
        // What is about to be told has to be written too.
        let waiter = if queue.waiting.is_empty() && news.is_none() { queue.waiter.take() } else { None };
        drop(queue);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
        news
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().expect("nothing panics while it holds the queue")
    }
}

impl Queue {
    fn count(&mut self, is_record: bool, bytes: usize) {
        *(if is_record { &mut self.records } else { &mut self.lines }) = bytes;
    }

    fn lose(&mut self, is_record: bool) {
        *(if is_record { &mut self.lost.records } else { &mut self.lost.lines }) += 1;
    }
}

/// Writes a line, however long its reader takes.
fn write(out: &mut impl Out, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Whoever shares the other end has made it one that doesn't block.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => out.wait_for_room(),
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

/// Waits until this takes something again.
pub(crate) fn wait_for_room(out: impl std::os::fd::AsFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    // An error is seen by the next attempt to write.
    let _ = poll(&mut [PollFd::new(&out, PollFlags::OUT)], None);
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::sync::mpsc;
    use std::task::Context;

    use super::*;

    impl Out for io::PipeWriter {}

    fn is_written(outlet: &Outlet) -> bool {
        std::pin::pin!(outlet.written()).as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn lines_that_nobody_reads_hold_up_nobody_and_are_counted_and_records_have_room_of_their_own() {
        let (reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::start(writer, |_| {}).unwrap();
        let line = [b'x'; 1024];
        for _ in 0..4096 {
            outlet.add(&line, false);
        }
        let Lost { lines, records } = outlet.lost();
        // The pipe itself has taken some.
        assert!((4096 - 1024 - 128..=4096 - 1024).contains(&lines), "{lines}");
        assert_eq!(records, 0);
        for _ in 0..4096 {
            outlet.add(&line, true);
        }
        assert_eq!(outlet.lost().records, 0);
        assert!(!is_written(&outlet));
        drop(reader);
    }

    #[test]
    fn what_was_lost_is_told_when_there_is_room_again() {
        static TOLD: Mutex<Vec<Lost>> = Mutex::new(Vec::new());
        let (reader, writer) = io::pipe().unwrap();
        let outlet = Outlet::start(writer, |lost| TOLD.lock().unwrap().push(lost)).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..4096 {
            outlet.add(&line, false);
        }
        let lost = outlet.lost();
        assert_eq!(TOLD.lock().unwrap().len(), 0);
        for _ in 0..4096 - lost.lines {
            line_of(&mut BufReader::with_capacity(1, &reader));
        }
        while !is_written(&outlet) {
            std::thread::yield_now();
        }
        assert_eq!(*TOLD.lock().unwrap(), [lost]);
    }

    fn line_of(reader: &mut impl BufRead) -> String {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn what_can_not_be_written_is_lost_and_not_tried_for_ever() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let outlet = Outlet::start(writer, |_| {}).unwrap();
        outlet.add(b"line\n", false);
        outlet.add(b"record\n", true);
        while !is_written(&outlet) {
            std::thread::yield_now();
        }
        assert_eq!(outlet.lost(), Lost { lines: 1, records: 1 });
    }

    #[test]
    fn whoever_waits_for_the_last_line_is_woken_behind_it() {
        struct Slow(mpsc::Receiver<()>);
        impl Out for Slow {}
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (go_on, wait) = mpsc::channel();
        let outlet = Outlet::start(Slow(wait), |_| {}).unwrap();
        outlet.add(b"one\n", false);
        outlet.add(b"two\n", true);
        assert!(!is_written(&outlet));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        go_on.send(()).unwrap();
        go_on.send(()).unwrap();
        runtime.block_on(outlet.written());
        assert_eq!(outlet.lost(), Lost::default());
    }
}
