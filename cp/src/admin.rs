//! The admin port: HTTP for the kubelet and for whoever watches.
//!
//! | request | answer |
//! |---|---|
//! | `GET /readyz` | 200 `ready` while serving; 503 `draining` from the signal on |
//! | `GET /livez` | 200 `alive` as long as the process runs, drains included |
//! | `GET /metrics` | see [`metrics`] |
//! | `/drain` | see [`drain`] |
//! | `/sessions` | see [`sessions`] |
//!
//! Promises: a probe is answered however many silent connections others hold open, what was asked before the exit is answered,
//! and no connection here delays the exit.
//! An admin connection never counts as one.
//!
//! Not `axum::serve`: that spawns its tasks on its own, where the world can't see them.

pub mod drain;
pub mod guard;
mod metrics;
mod sessions;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde::Serialize;

use self::drain::Admin;
use crate::lifecycle::{Lifecycle, Listening};
use lastcall_world::alarm::Alarm;
use lastcall_world::tasks::Tasks;
use lastcall_world::watched::{Watched, Watcher};
use lastcall_world::{Listener, World};

/// Connections at a time: probes and scrapers are a handful. A further one takes the place of the oldest, because a
/// probe that waits behind silent connections is a probe that fails, and failing probes kill the pod.
pub const MAX_ADMIN_CONNECTIONS: usize = 64;

/// Bytes buffered for one connection: the largest head of a request. hyper takes no less than 8 KiB.
const MAX_BUFFER: usize = 16 * 1024;

/// Connections that an answer names at most: more is no text for people, and a program has counted enough by then.
const MAX_NAMED: usize = 1000;

/// Pause after a failed accept: where descriptors have run out, the next attempt fails as fast as this one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers HTTP on `listener` until the lifecycle says that the process exits. Then the task that accepts and those of all
/// connections end at once; `tasks` counts them.
pub(crate) fn spawn<W: World>(tasks: &Tasks, listener: W::Listener, admin: Admin<W>, port: Port) {
    tasks.spawn(&admin.world.clone(), "admin", accept(tasks.clone(), listener, admin, port));
}

/// Whose port it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// This process's, and the next one's once that accepts.
    Passed,
    /// This process's alone.
    Own,
}

impl Port {
    /// Whether the next process answers there.
    fn is_away(self, lifecycle: &Lifecycle) -> bool {
        self == Port::Passed && lifecycle.listening != Listening::Here
    }
}

async fn accept<W: World>(tasks: Tasks, listener: W::Listener, admin: Admin<W>, port: Port) {
    let (world, lifecycle) = (admin.world.clone(), admin.lifecycle.clone());
    let routes = routes(admin);
    let mut accepting = Accepting::new(world.clone(), listener, lifecycle.subscribe(), port);
    // Those that have ended are dropped before each count, so there are never more than `MAX_ADMIN_CONNECTIONS`.
    let mut open: VecDeque<Weak<Watched<Tenure>>> = VecDeque::new();
    while let Some(stream) = std::future::poll_fn(|cx| accepting.poll_next(cx)).await {
        open.retain(|connection| connection.strong_count() > 0);
        if open.len() == MAX_ADMIN_CONNECTIONS
            && let Some(oldest) = open.pop_front().and_then(|oldest| oldest.upgrade())
        {
            oldest.change(Tenure::Over);
        }
        let tenure = Arc::new(Watched::new(Tenure::Granted));
        open.push_back(Arc::downgrade(&tenure));
        tasks.spawn(
            &world,
            "admin connection",
            serve_connection::<W>(stream, routes.clone(), tenure, lifecycle.clone(), port),
        );
    }
}

/// What is answered to which request.
fn routes<W: World>(admin: Admin<W>) -> Router {
    let probes = Router::new().route("/readyz", get(readyz::<W>)).route("/livez", get(livez));
    let guarded = drain::routes().merge(sessions::routes());
    let guarded = guarded.layer(middleware::from_fn_with_state(admin.token.clone(), guard::guard));
    probes.route("/metrics", get(metrics::metrics::<W>)).merge(guarded).with_state(admin)
}

async fn readyz<W: World>(State(admin): State<Admin<W>>) -> (StatusCode, &'static str) {
    if admin.lifecycle.value().is_ready() {
        (StatusCode::OK, "ready")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    }
}

async fn livez() -> &'static str {
    "alive"
}

/// Whether this media type is named as one that is welcome.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|media| media.trim().starts_with(media_type))
}

/// A sentence, as an answer's body.
fn line(sentence: &str) -> String {
    format!("{sentence}\n")
}

/// An answer for programs.
fn json(value: &impl Serialize) -> Response {
    let json = serde_json::to_string(value).expect("an answer has texts and numbers only");
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], line(&json)).into_response()
}

/// Whether a connection may keep its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tenure {
    Granted,
    Over,
}

/// One connection, to its end: the client's, a newer connection's need, or the process's.
async fn serve_connection<W: World>(
    stream: W::Stream,
    routes: Router,
    tenure: Arc<Watched<Tenure>>,
    lifecycle: Watched<Lifecycle>,
    port: Port,
) {
    let mut connection = pin!(
        http1::Builder::new()
            // Bytes that depend on the clock differ from run to run.
            .auto_date_header(false)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    );
    let mut tenure = tenure.subscribe();
    let mut lifecycle = lifecycle.subscribe();
    std::future::poll_fn(|cx| {
        // Whoever keeps a connection means the port, not this process: the next request goes to the next process.
        let exiting = lifecycle.poll_until(|lifecycle| lifecycle.exiting, cx);
        if port.is_away(lifecycle.value()) {
            connection.as_mut().graceful_shutdown();
        }
        // First of all the answers: every order is answered before the process exits, so one look is enough.
        if let Poll::Ready(end) = connection.as_mut().poll(cx) {
            if let Err(error) = end {
                // A prober that hangs up half-way is no event.
                tracing::debug!(%error, "admin connection ended");
            }
            return Poll::Ready(());
        }
        let over = tenure.poll_until(|tenure| *tenure == Tenure::Over, cx);
        if exiting.is_ready() || over.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The accepting side of the port.
struct Accepting<W: World> {
    world: W,
    listener: W::Listener,
    lifecycle: Watcher<Lifecycle>,
    port: Port,
    /// While set, nothing is accepted: see [`ACCEPT_PAUSE`].
    paused_until: Option<lastcall_core::Time>,
    alarm: Alarm<W>,
}

impl<W: World> Accepting<W> {
    fn new(world: W, listener: W::Listener, lifecycle: Watcher<Lifecycle>, port: Port) -> Self {
        Accepting { alarm: Alarm::new(world.clone()), world, listener, lifecycle, port, paused_until: None }
    }

    /// The next connection, or `None` when the process exits.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<W::Stream>> {
        if self.lifecycle.poll_until(|lifecycle| lifecycle.exiting, cx).is_ready() {
            return Poll::Ready(None);
        }
        if self.port.is_away(self.lifecycle.value()) {
            let over = self.lifecycle.value().listening == Listening::Left;
            return if over { Poll::Ready(None) } else { Poll::Pending };
        }
        loop {
            if let Some(until) = self.paused_until {
                if !self.alarm.poll_at(until, cx) {
                    return Poll::Pending;
                }
                self.paused_until = None;
            }
            match self.listener.poll_accept(cx) {
                Poll::Ready(Ok((stream, _))) => return Poll::Ready(Some(stream)),
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "the admin port can't accept; trying again");
                    self.paused_until = Some(self.world.now() + ACCEPT_PAUSE);
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    use super::*;
    use crate::lifecycle::Cause;
    use crate::orders::{Order, orders};
    use crate::records::Lost;
    use lastcall_core::Drain;
    use lastcall_core::Time;
    use lastcall_world::{Signal, Tcp, TokioWorld};

    /// An admin port on this machine.
    struct Port {
        world: TokioWorld,
        address: SocketAddr,
        lifecycle: Watched<Lifecycle>,
        tasks: Tasks,
        orders: mpsc::Receiver<Order>,
    }

    impl Port {
        async fn open() -> Port {
            let world = TokioWorld::new(Tcp::default()).unwrap();
            let listener = world.bind("127.0.0.1:0").await.unwrap();
            let address = Listener::local_addr(&listener).unwrap();
            let (lifecycle, tasks) = (Watched::new(Lifecycle::serving(Drain::new(Arc::default()))), Tasks::default());
            let (orders, taken) = orders();
            let registry = Default::default();
            let lost = Arc::new(Lost::default);
            let admin =
                Admin { world: world.clone(), registry, lifecycle: lifecycle.clone(), orders, token: None, lost };
            spawn(&tasks, listener, admin, super::Port::Passed);
            Port { world, address, lifecycle, tasks, orders: taken }
        }

        async fn connect(&self) -> <TokioWorld as World>::Stream {
            self.world.connect(&self.address.to_string()).await.unwrap()
        }

        /// The status line and the body of the answer.
        async fn answer(&self, method: &str, path: &str) -> (String, String) {
            let mut stream = self.connect().await;
            stream.write_all(request(method, path, "").as_bytes()).await.unwrap();
            read(stream).await
        }
    }

    fn request(method: &str, path: &str, headers: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n")
    }

    /// The status line and the body of an answer.
    async fn read(mut stream: <TokioWorld as World>::Stream) -> (String, String) {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(!answer.contains("date:"), "bytes must not depend on the clock: {answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// Runs a test that must not hang.
    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let world = TokioWorld::new(Tcp::default()).unwrap();
            let mut deadline = pin!(world.sleep_until(Time::from_epoch(Duration::from_secs(20))));
            let mut test = pin!(test);
            std::future::poll_fn(|cx| {
                assert!(deadline.as_mut().poll(cx).is_pending(), "the test hangs");
                test.as_mut().poll(cx)
            })
            .await;
        });
    }

    fn said(status: &str, body: &str) -> (String, String) {
        (format!("HTTP/1.1 {status}"), body.to_owned())
    }

    #[test]
    fn readiness_is_false_from_the_signal_on_and_liveness_stays_true() {
        run(async {
            let port = Port::open().await;
            assert_eq!(port.answer("GET", "/readyz").await, said("200 OK", "ready"));
            let mut lifecycle = port.lifecycle.value();
            lifecycle.cause = Some(Cause::Signal(Signal::Term));
            lifecycle.signal = Some(Signal::Term);
            lifecycle.drain.handle_signal(port.world.now());
            port.lifecycle.change(lifecycle);
            assert_eq!(port.answer("GET", "/readyz").await, said("503 Service Unavailable", "draining"));
            assert_eq!(port.answer("GET", "/livez").await, said("200 OK", "alive"));
        });
    }

    #[test]
    fn what_is_not_there_is_told_so() {
        run(async {
            let port = Port::open().await;
            assert_eq!(port.answer("GET", "/").await, said("404 Not Found", ""));
            assert_eq!(port.answer("POST", "/readyz").await, said("405 Method Not Allowed", ""));
        });
    }

    #[test]
    fn an_order_is_answered_although_it_is_what_ends_the_process() {
        run(async {
            let mut port = Port::open().await;
            let mut stream = port.connect().await;
            let post = request("POST", "/drain", "Host: localhost\r\nX-Lastcall: drain\r\n");
            stream.write_all(post.as_bytes()).await.unwrap();
            let Order { answer, .. } = port.orders.recv().await.unwrap();
            // An empty pod without a lame duck: begun and over in one step.
            answer.send(crate::orders::Answer::Begun).unwrap();
            port.lifecycle.change(Lifecycle { exiting: true, ..port.lifecycle.value() });
            port.tasks.gone().await;
            assert_eq!(read(stream).await.0, "HTTP/1.1 202 Accepted");
        });
    }

    #[test]
    fn what_a_page_in_a_browser_could_send_is_refused_and_told_what_to_send() {
        run(async {
            let port = Port::open().await;
            for (method, headers, told) in [
                ("POST", "Host: localhost:8080\r\n", "-H 'X-Lastcall: drain'"),
                ("DELETE", "Host: localhost:8080\r\nX-Lastcall: other\r\n", "curl -X DELETE"),
                ("OPTIONS", "Host: localhost:8080\r\nAccess-Control-Request-Headers: x-lastcall\r\n", "X-Lastcall"),
                ("POST", "Host: evil.example\r\nX-Lastcall: drain\r\n", "-H 'Host: localhost'"),
                ("GET", "Host: evil.example\r\n", "-H 'Host: localhost'"),
            ] {
                let mut stream = port.connect().await;
                stream.write_all(request(method, "/drain", headers).as_bytes()).await.unwrap();
                let (status, body) = read(stream).await;
                assert_eq!(status, "HTTP/1.1 403 Forbidden", "{method} {headers}");
                assert!(body.contains(told), "{body}");
            }
        });
    }

    #[test]
    fn the_exit_waits_for_no_admin_connection() {
        run(async {
            let port = Port::open().await;
            let mut kept_alive = port.connect().await;
            kept_alive.write_all(b"GET /livez HTTP/1.1\r\nHost: pod\r\n\r\n").await.unwrap();
            let mut answer = [0; 4096];
            assert!(kept_alive.read(&mut answer).await.unwrap() > 0);
            port.lifecycle.change(Lifecycle { exiting: true, ..port.lifecycle.value() });
            port.tasks.gone().await;
            assert_eq!(kept_alive.read(&mut answer).await.unwrap(), 0);
        });
    }

    #[test]
    fn a_probe_is_answered_while_silent_connections_hold_every_place() {
        run(async {
            let port = Port::open().await;
            let mut silent = Vec::new();
            for _ in 0..MAX_ADMIN_CONNECTIONS + 1 {
                silent.push(port.connect().await);
            }
            assert_eq!(port.answer("GET", "/livez").await, said("200 OK", "alive"));
            // Those that had to go are the two oldest: one for the last silent connection, one for the probe.
            let mut byte = [0];
            assert_eq!(silent[0].read(&mut byte).await.unwrap(), 0);
            assert_eq!(silent[1].read(&mut byte).await.unwrap(), 0);
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let mut room = tokio::io::ReadBuf::new(&mut byte);
            assert!(std::pin::Pin::new(&mut silent[2]).poll_read(&mut cx, &mut room).is_pending());
            assert!(port.tasks.count() <= 1 + MAX_ADMIN_CONNECTIONS);
        });
    }
}
