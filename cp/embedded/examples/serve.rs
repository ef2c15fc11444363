//! Serves until it is killed, and prints where: `psql -h 127.0.0.1 -p PORT`.

use lastcall_embedded::Engine;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::start().await?;
    println!("{}", engine.address());
    std::future::pending().await
}
