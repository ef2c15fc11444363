//! Several pods, applications, and what is expected of them: which files make sense.

use super::{only, right, wrong};
use crate::scenario::{Action, PoolKind, Share};

/// Three pods, an application and this.
fn file(rest: &str) -> String {
    format!(
        "title = \"t\"\n[deployment]\nreplicas = 3\nmax_surge = 1\n[[application]]\nname = \"shop\"\npool = \"hikaricp\"\n\
         jobs = [{{ query = \"5ms\" }}]\n{rest}"
    )
}

const ROLLOUT: &str = "[[event]]\nat = \"1m\"\ndo = \"rollout\"\n[expect]\nclient.shop = { failed = 0 }\n";

#[test]
fn a_rollout_has_kubernetes_own_words_and_defaults() {
    let scenario = right(&file(ROLLOUT));
    let deployment = scenario.deployment.unwrap();
    assert_eq!((deployment.max_surge, deployment.max_unavailable), (Share::Pods(1), Share::Percent(25)));
    assert_eq!((deployment.max_unavailable.rounded_down(3), Share::Percent(25).rounded_up(3)), (0, 1));
    assert_eq!(scenario.applications[0].pool, PoolKind::Hikari);
    assert_eq!(scenario.events[0].action, Action::Rollout);
    assert_eq!(scenario.expect.client["shop"].failed, Some(0));
}

#[test]
fn slips_are_told_with_what_would_be_right() {
    let slip = |from: &str, to: &str| only(&file(ROLLOUT).replace(from, to));
    let pool = slip("\"hikaricp\"", "\"hikari\"");
    assert!(pool.contains("<\"hikari\">") && pool.contains("did you mean `hikaricp`?"), "{pool}");
    let surge = slip("max_surge = 1", "max_surge = \"a quarter\"");
    assert!(
        surge.contains("\"a quarter\" is no share: expected a number of pods, or a share such as \"25%\""),
        "{surge}"
    );
    let job = slip("{ query = \"5ms\" }", "\"listen\", \"disconnect\"");
    assert!(job.contains("`disconnect` is no part of a job") && job.contains("such as { query"), "{job}");
    let replicas = slip("do = \"rollout\"", "do = \"scale\"");
    assert!(replicas.contains("`scale` needs `replicas`: to how many?"), "{replicas}");
    let pods = slip("do = \"rollout\"", "do = \"node_drain\"\npods = 4");
    assert!(pods.contains("no node runs 4 of the pods: there are 3 replicas"), "{pods}");
    let nobody = slip("client.shop", "client.shopp");
    assert!(nobody.contains("no client is called `shopp`") && nobody.contains("`shop`"), "{nobody}");
}

#[test]
fn what_is_about_one_pod_has_no_place_beside_several_and_the_other_way_round() {
    let signal = only(&file(&ROLLOUT.replace("rollout", "sigterm")));
    assert!(signal.contains("`sigterm` is for a file with one pod") && signal.contains("`rollout`"), "{signal}");
    let exit = only(&file(&format!("{ROLLOUT}exit = {{ code = 0 }}\n")));
    assert!(exit.contains("`exit` is for a file with one pod: which of the pods?"), "{exit}");
    let between = "[[event]]\nat = \"1m\"\ndo = \"partition\"\nbetween = [\"pod\", \"worker\"]\n";
    let which = only(&file(&format!("{between}{ROLLOUT}")));
    assert!(which.contains("there is no host `pod`: expected such as `pod-2`"), "{which}");
    let lone = "title = \"t\"\n[[event]]\nat = \"1m\"\ndo = \"rollout\"\n[expect]\nrollout = { within = \"1m\" }\n";
    let lone = wrong(lone);
    assert!(lone.iter().all(|told| told.contains("add one: [deployment] with replicas = 3")), "{lone:?}");
    let client = "[[client]]\nname = \"c\"\nsteps = [\"connect\"]\n";
    let jobs = only(&file(&format!("{client}{ROLLOUT}client.c = {{ failed = 0 }}\n")));
    assert!(jobs.contains("only applications have jobs"), "{jobs}");
}
