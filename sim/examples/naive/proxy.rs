//! A proxy as anybody would write it first: bytes go to and fro, and at SIGTERM it stops accepting and waits for every
//! connection. Nothing of it knows that it may be simulated.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use lastcall_world::tasks::Tasks;
use lastcall_world::{Listener, Signal, World};
use sim::Config;
use tokio::io::copy_bidirectional;

/// Serves until SIGTERM, and then for as long as anybody is there. Returns the exit code.
pub(crate) async fn serve<W: World>(world: W, config: Config) -> u8 {
    let mut listener = world.bind(&config.listen).await.expect("the address is free");
    let connections = Tasks::default();
    let mut told = pin!(told_to_stop(&world));
    loop {
        let accepted = poll_fn(|cx| match told.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => listener.poll_accept(cx).map(Some),
        });
        match accepted.await {
            Some(Ok((client, _))) => {
                connections.spawn(&world, "relay", relay(world.clone(), client, config.worker.clone()));
            }
            Some(Err(_)) => {}
            None => break,
        }
    }
    drop(listener);
    connections.gone().await;
    0
}

async fn told_to_stop<W: World>(world: &W) {
    while !matches!(world.next_signal().await, Signal::Term | Signal::Int | Signal::Quit) {}
}

async fn relay<W: World>(world: W, mut client: W::Stream, worker: String) {
    if let Ok(mut worker) = world.connect(&worker).await {
        // Whichever side fails: the other one reads the end of the stream.
        let _ = copy_bidirectional(&mut client, &mut worker).await;
    }
}
