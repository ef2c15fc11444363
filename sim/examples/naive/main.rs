//! Judges a naive proxy beside `lastcall`, by the acceptance scenarios and the incidents, and prints which promises each keeps:
//!
//! ```sh
//! cargo run --release -p sim --example naive
//! ```

mod proxy;

fn main() -> Result<(), String> {
    let suite = sim::Suite::new("scenarios/acceptance").and("scenarios/incidents");
    print!("{}", suite.pod("lastcall", sim::LastCall).pod("naive", proxy::serve).run()?);
    Ok(())
}
