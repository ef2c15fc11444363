//! Listening sockets that pass from process to process: handed over at a Unix socket, or passed on by a service manager.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener as StdListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::{TokioListener, TokioWorld};
use crate::handover::{Handover, Line};

/// Sockets that one process leaves to the next.
const MAX_SOCKETS: usize = 8;
/// The longest line that one process says to another, in bytes.
const MAX_LINE: usize = 64 * 1024;
/// What a service manager calls the socket of the admin port. Any other name is that of the clients' port.
const ADMIN: &str = "admin";
const LISTEN: &str = "listen";

/// See [`Handover`].
#[derive(Debug)]
pub struct Succession {
    world: TokioWorld,
    /// The meeting place, if there is one.
    path: Option<PathBuf>,
    /// Open while this process may be asked.
    meeting: Option<UnixListener>,
    inherited: BTreeMap<String, OwnedFd>,
    predecessor: Option<UnixLine>,
    kept: Vec<(&'static str, OwnedFd)>,
}

impl Succession {
    /// Of a process whose successor comes to `path`, if anywhere. It has the sockets that a service manager has passed to it
    /// (`LISTEN_FDS`), if there are any.
    ///
    /// # Errors
    /// If what was passed are no TCP sockets that listen.
    pub fn new(world: TokioWorld, path: Option<&Path>) -> io::Result<Succession> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut passed = listenfd::ListenFd::from_env();
        let mut inherited = BTreeMap::new();
        for index in 0..passed.len().min(MAX_SOCKETS) {
            let name = if names.get(index) == Some(&ADMIN) { ADMIN } else { LISTEN };
            let Some(listener) = passed.take_tcp_listener(index)? else { continue };
            if inherited.insert(name.to_owned(), listener.into()).is_some() {
                let error = format!("LISTEN_FDS has several sockets for what is one here: {name}");
                return Err(io::Error::new(ErrorKind::InvalidInput, error));
            }
        }
        let path = path.map(Path::to_owned);
        Ok(Succession { world, path, meeting: None, inherited, predecessor: None, kept: Vec::new() })
    }

    /// Asks the process that is at the meeting place for its sockets. False if nobody is there.
    ///
    /// # Errors
    /// If somebody is there who is of another user, or sends no sockets.
    pub async fn take_over(&mut self) -> io::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let stream = match UnixStream::connect(path).await {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let mut line = UnixLine::new(stream)?;
        let (names, sockets) = line.receive().await?;
        let names = names.split_whitespace().map(str::to_owned);
        self.inherited = names.zip(sockets).collect();
        self.predecessor = Some(line);
        Ok(true)
    }
}

impl Handover<TokioListener> for Succession {
    type Line = UnixLine;

    fn inherited(&mut self, name: &str) -> Option<TokioListener> {
        let listener = StdListener::from(self.inherited.remove(name)?);
        let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
        match listener {
            Ok(listener) => Some(self.world.listener(listener)),
            Err(error) => {
                tracing::warn!(name, %error, "a socket that was passed to this process can't be listened on");
                None
            }
        }
    }

    fn predecessor(&mut self) -> Option<UnixLine> {
        self.predecessor.take()
    }

    fn keep(&mut self, name: &'static str, listener: &TokioListener) -> io::Result<()> {
        if self.path.is_some() {
            self.kept.push((name, listener.listener.as_fd().try_clone_to_owned()?));
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        // Whatever nobody here has taken is not left open: who connects there would wait for ever.
        self.inherited.clear();
        let Some(path) = &self.path else { return Ok(()) };
        if fs::symlink_metadata(path).is_ok_and(|file| !file.file_type().is_socket()) {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "something is there that is no socket"));
        }
        // One that nobody answers at was left by a process that was killed.
        if StdUnixStream::connect(path).is_ok() {
            return Err(io::Error::new(
                ErrorKind::AddrInUse,
                "another process waits for its successor there; to be that: --take-over",
            ));
        }
        // In one step, so that whoever comes finds one or the other.
        let mut fresh = path.clone().into_os_string();
        fresh.push(format!(".{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let meeting = UnixListener::bind(&fresh)?;
        fs::rename(&fresh, path).inspect_err(|_| drop(fs::remove_file(&fresh)))?;
        self.meeting = Some(meeting);
        Ok(())
    }

    fn close(&mut self) {
        if let (Some(_), Some(path)) = (self.meeting.take(), &self.path) {
            let _ = fs::remove_file(path);
        }
    }

    fn poll_asked(&mut self, cx: &mut Context<'_>) -> Poll<UnixLine> {
        let Some(meeting) = &self.meeting else { return Poll::Pending };
        loop {
            match std::task::ready!(meeting.poll_accept(cx)).and_then(|(stream, _)| UnixLine::new(stream)) {
                Ok(line) => return Poll::Ready(line),
                Err(error) => tracing::warn!(%error, "whoever came to take over was sent away"),
            }
        }
    }

    fn offer(&mut self, line: &mut UnixLine) -> io::Result<()> {
        let names: Vec<&str> = self.kept.iter().map(|(name, _)| *name).collect();
        let sockets: Vec<_> = self.kept.iter().map(|(_, socket)| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(&sockets));
        debug_assert!(fits, "{} sockets are at most {MAX_SOCKETS}", sockets.len());
        let text = format!("{}\n", names.join(" "));
        let sent = sendmsg(&line.stream, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
        if sent == text.len() { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    fn give_up(&mut self) {
        self.kept.clear();
    }
}

impl Drop for Succession {
    fn drop(&mut self) {
        self.close();
    }
}

/// A Unix socket to another process of the same user.
#[derive(Debug)]
pub struct UnixLine {
    stream: UnixStream,
    heard: Vec<u8>,
    peer: String,
}

impl UnixLine {
    /// Whoever is no more than this process, or root, is none of its successors.
    fn new(stream: UnixStream) -> io::Result<UnixLine> {
        let peer = stream.peer_cred()?;
        let own = rustix::process::geteuid().as_raw();
        if peer.uid() != own && peer.uid() != 0 {
            let error = format!("it is of user {}, and this process is of user {own}", peer.uid());
            return Err(io::Error::new(ErrorKind::PermissionDenied, error));
        }
        let peer = peer.pid().map_or("another process".to_owned(), |pid| format!("process {pid}"));
        Ok(UnixLine { stream, heard: Vec::new(), peer })
    }

    /// The first line, and the sockets that come with it.
    async fn receive(&mut self) -> io::Result<(String, Vec<OwnedFd>)> {
        let mut sockets = Vec::new();
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [0; 256];
            let read =
                recvmsg(&self.stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    sockets.extend(rights);
                }
            }
            Ok(bytes[..read.bytes].to_vec())
        };
        let heard = self.stream.async_io(Interest::READABLE, receive).await?;
        self.heard.extend(heard);
        let names = std::future::poll_fn(|cx| self.poll_hear(cx)).await?;
        Ok((names, sockets))
    }
}

impl Line for UnixLine {
    fn peer(&self) -> String {
        self.peer.clone()
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        let line = format!("{text}\n");
        match rustix::net::send(&self.stream, line.as_bytes(), SendFlags::NOSIGNAL)? {
            sent if sent == line.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }

    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<String>> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.heard.drain(..=end).take(end).collect();
                return Poll::Ready(String::from_utf8(line).map_err(|_| ErrorKind::InvalidData.into()));
            }
            if self.heard.len() > MAX_LINE {
                return Poll::Ready(Err(ErrorKind::InvalidData.into()));
            }
            std::task::ready!(self.stream.poll_read_ready(cx))?;
            let mut bytes = [0; 4096];
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.heard.extend(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Its process was killed with something unread.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Listener as _, Tcp, World as _};

    #[test]
    fn the_next_process_gets_the_very_sockets_and_hears_when_this_one_is_gone() {
        let directory = std::env::temp_dir().join(format!("succession-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("meeting");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = TokioWorld::without_signals(Tcp::default());
            let succession = || Succession::new(world.clone(), Some(&path)).unwrap();
            let mut one = succession();
            let (listener, admin) =
                (world.bind("127.0.0.1:0").await.unwrap(), world.bind("127.0.0.1:0").await.unwrap());
            one.keep(LISTEN, &listener).unwrap();
            one.keep(ADMIN, &admin).unwrap();
            let mut other = succession();
            assert!(!other.take_over().await.unwrap(), "nobody is there");
            one.open().unwrap();
            assert_eq!(other.open().unwrap_err().kind(), ErrorKind::AddrInUse);
            let give = async {
                let mut looked = std::future::poll_fn(|cx| one.poll_asked(cx)).await;
                assert_eq!(one.offer(&mut looked).unwrap_err().kind(), ErrorKind::BrokenPipe, "it only looked");
                let mut line = std::future::poll_fn(|cx| one.poll_asked(cx)).await;
                one.offer(&mut line).unwrap();
                line
            };
            let (taken, mut to_other) = tokio::join!(other.take_over(), give);
            assert!(taken.unwrap());
            let mut to_one = other.predecessor().unwrap();
            assert_eq!(to_one.peer(), format!("process {}", std::process::id()));
            let address = listener.local_addr().unwrap();
            drop(listener);
            one.give_up();
            let inherited = other.inherited(LISTEN).unwrap();
            assert_eq!(inherited.local_addr().unwrap(), address);
            assert_eq!(other.inherited(ADMIN).unwrap().local_addr().unwrap(), admin.local_addr().unwrap());
            assert!(other.inherited(LISTEN).is_none(), "once");
            assert!(tokio::net::TcpStream::connect(address).await.is_ok());
            to_one.say("ready").unwrap();
            assert_eq!(std::future::poll_fn(|cx| to_other.poll_hear(cx)).await.unwrap(), "ready");
            one.close();
            other.open().unwrap();
            drop(to_one);
            let gone = std::future::poll_fn(|cx| to_other.poll_hear(cx)).await;
            assert_eq!(gone.unwrap_err().kind(), ErrorKind::UnexpectedEof);
            drop((one, other));
            assert!(!path.exists(), "whoever leaves takes the meeting place along");
        });
        fs::remove_dir_all(&directory).unwrap();
    }
}
