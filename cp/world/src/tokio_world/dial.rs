//! Opening a connection to a name that may have several addresses, of which some may be dead.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

/// The next address is tried when the one before has not answered for so long, beside it. Source: RFC 8305, "Connection
/// Attempt Delay".
const STAGGER: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;

/// Looks `address` (`host:port`) up and connects to the first of its addresses that answers. One that takes no notice costs
/// the others no more than [`STAGGER`].
pub(super) async fn dial(address: &str) -> io::Result<TcpStream> {
    race(lookup_host(address).await?.take(MAX_ADDRESSES).collect()).await
}

async fn race(mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    let mut attempts: Vec<Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>> = Vec::new();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut next = Box::pin(sleep(Duration::ZERO));
    std::future::poll_fn(|cx| {
        loop {
            let mut i = 0;
            while i < attempts.len() {
                match attempts[i].as_mut().poll(cx) {
                    Poll::Pending => i += 1,
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(error)) => {
                        drop(attempts.remove(i));
                        failed = error;
                    }
                }
            }
            if !attempts.is_empty() && (addresses.is_empty() || next.as_mut().poll(cx).is_pending()) {
                return Poll::Pending;
            }
            let Some(address) = addresses.pop_front() else {
                return Poll::Ready(Err(std::mem::replace(&mut failed, io::ErrorKind::Other.into())));
            };
            attempts.push(Box::pin(TcpStream::connect(address)));
            next = Box::pin(sleep(STAGGER));
        }
    })
    .await
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// A listener whose queue is full: the kernel drops every further SYN, as a black hole does.
    fn black_hole() -> (socket2::Socket, Vec<std::net::TcpStream>, SocketAddr) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut filling = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            filling.push(stream);
        }
        (socket, filling, address)
    }

    #[test]
    fn an_address_that_takes_no_notice_does_not_eat_the_others_time() {
        let (_socket, _filling, silent) = black_hole();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let alive = listener.local_addr().unwrap();
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limit = Duration::from_secs(5);
            let race = |addresses: &[SocketAddr]| race(addresses.iter().copied().collect());
            let stream = tokio::time::timeout(limit, race(&[closed, silent, alive])).await.unwrap().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), alive);
            let error = tokio::time::timeout(limit, race(&[closed])).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            assert!(tokio::time::timeout(limit, race(&[])).await.unwrap().is_err());
        });
    }
}
