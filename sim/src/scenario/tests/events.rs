//! What happens and what must be reached: which files make sense.

use super::{SIGNAL, client, only, right, wrong};
use crate::scenario::{Action, Does, Reached, Span, When};

fn event(rest: &str) -> String {
    format!("{}[[event]]\nat = \"1m\"\n{rest}\n", client("\"connect\""))
}

#[test]
fn events_have_the_keys_of_their_kind() {
    let between = "between = [\"pod\", \"c\"]";
    let scenario = right(&event(&format!("do = \"latency\"\nlatency = \"40ms\"\n{between}")));
    assert_eq!(scenario.events[0].action, Action::Latency);
    assert_eq!(scenario.events[0].between, Some(["pod".to_owned(), "c".to_owned()]));
    assert_eq!(scenario.events[0].latency.unwrap().to_string(), "40ms");
    let slow = right(&event(&format!("do = \"rate\"\nrate = \"250KB/s\"\n{between}"))).events.remove(0);
    assert_eq!(slow.rate.unwrap().to_string(), "250KB/s");
    let crash = right(&event("do = \"worker_crash\"")).events.remove(0);
    assert_eq!(crash.lasts().map(|lasts| Span(lasts).to_string()).as_deref(), Some("1s"));
    assert_eq!(right(&event("do = \"worker_hang\"")).events[0].lasts(), None);

    assert!(only(&event("do = \"partition\"")).contains("<\"partition\"> `partition` needs `between`: between whom?"));
    assert!(only(&event(&format!("do = \"latency\"\n{between}"))).contains("`latency` needs `latency`: how long?"));
    assert!(only(&event(&format!("do = \"rate\"\n{between}"))).contains("`rate` needs `rate`: how much?"));
    assert!(only(&event(&format!("do = \"rate\"\nrate = \"fast\"\n{between}"))).contains("\"fast\" is no rate"));
    assert!(only(&event(&format!("do = \"drain\"\n{between}"))).contains("`drain` has no `between`: not here"));
    assert!(only(&event("do = \"sigkill\"\nback_after = \"1s\"")).contains("`sigkill` has no `back_after`"));
    assert!(only(&event("do = \"worker_hang\"\nback_after = \"0s\"")).contains("`back_after` is 0"));
}

#[test]
fn what_a_client_is_told_is_told_to_one_that_is_there_and_listens() {
    let listens = |rest: &str| event(rest).replace("\"connect\"", "\"connect\", \"listen\"");
    let notified = right(&listens("do = \"notify\"\nclient = \"c\"\ncount = 5")).events.remove(0);
    assert_eq!((notified.count, notified.bytes), (Some(5), None));
    let terminated = right(&event("do = \"terminate\"\nclient = \"c\"\nstays_open = true")).events.remove(0);
    assert!(terminated.stays_open);

    assert!(only(&event("do = \"terminate\"")).contains("`terminate` needs `client`: whose sessions?"));
    assert!(only(&listens("do = \"notify\"\nclient = \"c\"")).contains("`notify` needs `count`: how many?"));
    assert!(
        only(&event("do = \"terminate\"\nclient = \"cc\"")).contains("no client is called `cc`: did you mean `c`?")
    );
    assert!(
        only(&event("do = \"notify\"\ncount = 5\nclient = \"c\"")).contains("is never notified: it does not listen")
    );
    assert!(only(&event("do = \"sigterm\"\nstays_open = true")).contains("`sigterm` has no `stays_open`"));
}

#[test]
fn a_process_that_stands_still_can_go_on_and_no_other() {
    let stop = "do = \"sigstop\"";
    let then = |word: &str| format!("{stop}\n[[event]]\nat = \"2m\"\ndo = \"{word}\"");
    right(&event(&then("sigcont")));
    assert!(only(&event("do = \"sigcont\"")).contains("`sigcont` changes nothing: there is no `sigstop` before it"));
    assert!(only(&event(&then("sigstop"))).contains("`sigstop` changes nothing: it stands still already"));
}

#[test]
fn a_fault_is_between_two_that_talk_to_each_other() {
    let hold = |one: &str, other: &str| wrong(&event(&format!("do = \"hold\"\nbetween = [\"{one}\", \"{other}\"]")));
    assert!(hold("c", "prod")[0].contains("there is no host or client `prod`: did you mean `pod`?"));
    assert!(hold("clients", "worker")[0].contains("no packet passes between these two: one must be `pod`"));
    assert!(hold("pod", "pod")[0].contains("no packet passes between these two"));
    let named = client("\"connect\"").replace("\"c\"", "\"pod\"");
    assert!(only(&named).contains("<\"pod\"> this is the name of a host: call the client otherwise"));
}

#[test]
fn what_ends_a_fault_needs_one_that_it_ends() {
    let two = |first: &str, second: &str, between: &str| {
        let event = |at: u32, action: &str, between: &str| {
            format!("[[event]]\nat = \"{at}s\"\ndo = \"{action}\"\nbetween = [{between}]\n")
        };
        client("\"connect\"") + &event(2, second, between) + &event(1, first, "\"c\", \"pod\"")
    };
    right(&two("partition", "heal", "\"pod\", \"c\""));
    assert!(only(&two("partition", "heal", "\"pod\", \"clients\"")).contains("<\"heal\"> `heal` ends nothing"));
    assert!(
        only(&two("partition", "release", "\"c\", \"pod\""))
            .contains("`release` ends nothing: there is no `hold` between these two before it")
    );
    let worker = |at: &str| format!("[[event]]\nat = \"{at}\"\ndo = \"worker_crash\"\nback_after = \"10s\"\n");
    right(&format!("title = \"t\"\n{}{}", worker("1s"), worker("12s")));
    assert!(only(&format!("title = \"t\"\n{}{}", worker("1s"), worker("9s"))).contains("is not over yet"));
}

#[test]
fn a_timeline_is_made_of_milestones() {
    let timeline = |list: &str| format!("{}{SIGNAL}[expect]\ntimeline = [{list}]\n", client("\"connect\""));
    let expect = right(&timeline("\"c begins\", \"signal\", \"exit by 31s\"")).expect;
    assert_eq!(expect.timeline[0].what, Reached::Client { name: "c".to_owned(), does: Does::Begins });
    assert_eq!(expect.timeline[2].when.map(|when| matches!(when, When::By(_))), Some(true));

    let slips = wrong(&timeline("\"c begun\", \"signl\", 7"));
    assert_eq!(slips.len(), 3, "{slips:#?}");
    assert!(slips[0].contains("<\"c begun\"> \"c begun\" is no milestone: `begun`: did you mean `begins`?"));
    assert!(slips[1].contains("`signl`: did you mean `signal`?"));
    assert!(slips[2].starts_with("<7> `timeline` is a whole number: expected a string"));
    assert!(only(&timeline("\"d ends\"")).contains("<\"d ends\"> no client is called `d`"));
    assert!(only(&timeline("")).contains("`timeline` expects nothing"));
    let unsignalled = timeline("\"c ends\", \"exit by 5s\"").replace(SIGNAL, "");
    assert!(only(&unsignalled).contains("<\"exit by 5s\"> there is no signal in this file"));
}

#[test]
fn seeds_are_a_number_within_reason() {
    assert_eq!(right("title = \"t\"").seeds, 1);
    assert_eq!(right("title = \"t\"\nseeds = 64").seeds, 64);
    assert!(only("title = \"t\"\nseeds = 0").contains("expected a whole number from 1 to 1000"));
}

#[test]
fn an_event_that_is_no_signal_is_none() {
    let text = event("do = \"drain\"") + "[expect]\nexit.code = 0";
    assert!(only(&text).contains("`exit` is counted from the first signal: there is no signal"));
}
