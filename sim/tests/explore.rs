//! The explorer: what it draws can be run, a defect is found without a hint, and what is kept shows it again.

use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lastcall_world::{Listener as _, World};
use sim::cast::pod::{Pod, last_call};
use sim::explore::variants::{self, Compared, Tries, Variant};
use sim::explore::{self, Asked};
use sim::scenario::{Purpose, Step, parse_for};
use sim::{AnyWorld, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A folder of this test's own, which is empty.
fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
    folder
}

fn asked(seeds: u64, out: PathBuf) -> Asked {
    Asked { from: 1, seeds, shard: (0, 1), variants: Tries::default(), out, corpus: None }
}

#[test]
fn a_seed_draws_the_same_scenario_each_time_and_nearly_each_can_be_run() {
    let drawn: Vec<String> = (1..=300).map(explore::draw).collect();
    assert_eq!(drawn, (1..=300).map(explore::draw).collect::<Vec<_>>());
    let right = drawn.iter().filter(|text| parse_for(Purpose::Tried, "t.toml", text).is_ok()).count();
    assert!(right >= 285, "only {right} of 300 fit together");
}

#[test]
fn every_word_of_the_vocabulary_is_drawn_and_every_promise_is_at_stake() {
    let out = folder("words");
    let explored = explore::explore(&last_call(), &asked(600, out), &|| false, |_| {}).expect("nothing is in the way");
    assert_eq!(explored.unused(), [""; 0]);
    assert_eq!(explored.runs + explored.misfits, 600);
    for promise in sim::scenario::Promise::ALL {
        assert!(explored.occasions.of_promise(promise) > 0, "{promise} was never at stake");
    }
}

/// A control plane that knows nothing of a signal: it says goodbye to nobody.
async fn deaf(world: AnyWorld, config: Config) -> u8 {
    let _listener = world.bind(&config.listen).await.expect("the address is free");
    let _signal = world.next_signal().await;
    0
}

#[test]
fn a_defect_is_found_made_small_and_shown_again_by_the_file_that_is_kept() {
    let out = folder("deaf");
    let pod: Arc<dyn Pod> = Arc::new(deaf);
    let mut explored = explore::explore(&pod, &asked(30, out), &|| false, |_| {}).expect("nothing is in the way");
    explored.shrink(&pod, Duration::from_secs(20)).expect("it can be written");
    let find = &explored.finds["clean-goodbye"];
    let kept = std::fs::read_to_string(&find.path).expect("it is kept");
    assert!(kept.contains("# breaks clean-goodbye: ") && kept.contains("# again: sim run "), "{kept}");
    let scenario = parse_for(Purpose::Tried, "t.toml", &kept).expect("it is a scenario");
    let steps: usize = scenario.clients.iter().map(|client| Step::every(&client.steps).count()).sum();
    assert!(steps <= 2 && scenario.events.len() <= 1, "{kept}");
    let suite = sim::Suite::new(&find.path).seeds(sim::suite::Seeds::Only(find.shows_under));
    let again = suite.pod("deaf", deaf).run().expect("it is a good file");
    assert_eq!(again.column("deaf").on(sim::scenario::Promise::CleanGoodbye).broken.len(), 1, "{again}");
}

/// A control plane that turns everybody away, and without a word if the startup packet does not come at once.
async fn hasty(world: AnyWorld, config: Config) -> u8 {
    const FATAL: &[u8] = b"E\0\0\0\x3bSFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0";
    let mut listener = world.bind(&config.listen).await.expect("the address is free");
    world.spawn("accept", async move {
        while let Ok((mut stream, _)) = poll_fn(|cx| listener.poll_accept(cx)).await {
            if stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 20) {
                let _ = stream.write_all(FATAL).await;
            }
            let _ = stream.shutdown().await;
        }
    });
    let _signal = world.next_signal().await;
    0
}

#[test]
fn a_scenario_that_comes_out_otherwise_when_it_is_told_otherwise_is_a_find_like_any_other() {
    let pod: Arc<dyn Pod> = Arc::new(hasty);
    let variants = Tries { one_in: 1, only: vec![Variant::Split] };
    let asked = Asked { variants, ..asked(20, folder("hasty")) };
    let mut explored = explore::explore(&pod, &asked, &|| false, |_| {}).expect("nothing is in the way");
    assert!(explored.variants[&Variant::Split].compared > 0);
    explored.finds.retain(|broke, _| broke == "variant-split");
    explored.shrink(&pod, Duration::from_secs(20)).expect("it can be written");
    let find = &explored.finds["variant-split"];
    let kept = std::fs::read_to_string(&find.path).expect("it is kept");
    let again = format!("# again: sim run {} --seed {} --variant split\n", find.path.display(), find.shows_under);
    assert!(kept.contains("# breaks variant-split: ") && kept.contains(&again), "{kept}");
    assert_eq!(explore::seed_of(&kept), Some(find.shows_under));
    let scenario = parse_for(Purpose::Tried, "t.toml", &kept).expect("it is a scenario");
    assert!(scenario.clients.len() == 1 && scenario.events.len() <= 1, "{kept}");
    let again = variants::compare(&pod, &kept, find.shows_under, Variant::Split);
    assert!(matches!(again, Some(Compared::Differs(_))), "{again:?}");
    assert!(explored.text(Duration::ZERO, false).contains("--variant split\n"));
}

#[test]
fn shards_share_the_seeds_and_a_wrong_one_is_told_how_it_is_written() {
    assert_eq!(explore::shard(None, None), Ok((0, 1)));
    assert_eq!(explore::shard(Some("1/4"), None), Ok((1, 4)));
    assert_eq!(explore::shard(Some("/4"), Some("3")), Ok((3, 4)));
    for wrong in ["4/4", "1", "/4", "a/b", "0/0"] {
        let error = explore::shard(Some(wrong), None).expect_err("there is no such shard");
        assert!(error.contains("such as 0/4"), "{error}");
    }
    let runs = |shard| {
        let asked = Asked { shard, ..asked(40, folder("shards")) };
        let explored = explore::explore(&last_call(), &asked, &|| false, |_| {}).expect("nothing is in the way");
        explored.runs + explored.misfits
    };
    assert_eq!(runs((0, 3)) + runs((1, 3)) + runs((2, 3)), 40);
}
