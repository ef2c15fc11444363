//! What a page has, and that a keyboard, a finger and a screen reader reach it.

use serde_json::json;

use crate::run;

/// Where the focus is: its lane and its details, or null.
const FOCUS: &str = "const item = document.activeElement.closest('.i');
    return item && [item.parentNode.getAttribute('aria-label'), item.querySelector('title').textContent];";
/// What the details say.
const DETAILS: &str = "return document.getElementById('details').innerText";

#[test]
fn a_page_says_in_words_what_came_of_the_run_and_draws_its_lanes() {
    run(async |browser, pages| {
        browser.look(1280, false).await;
        browser.open(&pages.broken()).await;
        let words = browser.ask("return document.querySelector('main').innerText").await;
        let words = words.as_str().unwrap();
        for said in [
            "A flat cap <b onclick='alert(1)'>cuts</b> & \"breaks\"",
            "FAIL",
            "never-cut",
            "The pod was held longest by etl, until 2m",
            "Exit code 3, 2m after SIGTERM.",
            "Held by etl (executing), until 2m after SIGTERM.",
            "to spare: it had to be gone",
            "The process exited 2m",
            "with code 3: a wall ended what was left.",
            "40 × 57P01 terminating connection",
        ] {
            assert!(words.contains(said), "{said:?} is not in: {words}");
        }
        let lanes = "return [...document.querySelectorAll('svg.wide .lane .name')].map((name) => name.textContent)";
        assert_eq!(browser.ask(lanes).await, json!(["pod", "etl", "dashboard ×40", "worker"]));
        let drawn = browser
            .ask(
                "const box = document.querySelector('svg.wide .b-executing').getBoundingClientRect(); return box.width",
            )
            .await;
        assert!(drawn.as_f64().unwrap() > 100.0, "{drawn}");
        let broken = browser.ask("return document.querySelectorAll('svg.wide .rule.r-broken').length").await;
        assert!(broken.as_u64().unwrap() >= 1, "nothing is marked as broken");
    });
}

#[test]
fn arrow_keys_go_from_mark_to_mark_and_enter_keeps_the_details() {
    run(async |browser, pages| {
        browser.look(1280, false).await;
        browser.open(&pages.whole()).await;
        browser.ask("document.querySelector('svg.wide .lane .i').focus()").await;
        let first = browser.ask(FOCUS).await;
        assert!(first[0].as_str().unwrap().starts_with("pod: "), "{first}");
        browser.press("ArrowRight").await;
        let second = browser.ask(FOCUS).await;
        assert_eq!(first[0], second[0]);
        assert_ne!(first[1], second[1]);
        let details = browser.ask(DETAILS).await;
        let what = second[1].as_str().unwrap().lines().last().unwrap().to_owned();
        assert!(details.as_str().unwrap().contains(&what), "{details} does not say {what}");

        browser.press("ArrowDown").await;
        let below = browser.ask(FOCUS).await;
        assert_ne!(second[0], below[0], "another lane");
        browser.press("Enter").await;
        let kept = browser.ask(DETAILS).await;
        browser.press("End").await;
        assert_ne!(browser.ask(FOCUS).await[1], below[1]);
        assert_eq!(browser.ask(DETAILS).await, kept, "Enter keeps the details");
        browser.press("Escape").await;
        assert_ne!(browser.ask(DETAILS).await, kept, "Escape lets them go");
    });
}

#[test]
fn each_lane_is_one_stop_of_tab() {
    run(async |browser, pages| {
        browser.look(1280, false).await;
        browser.open(&pages.whole()).await;
        browser.ask("document.querySelector('svg.wide .lane .i').focus()").await;
        let mut seen = vec![browser.ask(FOCUS).await[0].clone()];
        for _ in 0..3 {
            browser.press("Tab").await;
            let lane = browser.ask(FOCUS).await[0].clone();
            assert!(!lane.is_null() && !seen.contains(&lane), "{lane} after {seen:?}");
            seen.push(lane);
        }
    });
}

#[test]
fn a_tap_shows_the_details_on_a_telephone() {
    run(async |browser, pages| {
        browser.look(390, false).await;
        browser.open(&pages.whole()).await;
        let place = "const item = [...document.querySelectorAll('svg.narrow .lane .i')].find((item) => item.querySelector('.m-told'));
            item.scrollIntoView({ block: 'center' });
            const box = item.querySelector('.hit').getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];";
        let place = browser.ask(place).await;
        browser.tap(place[0].as_f64().unwrap(), place[1].as_f64().unwrap()).await;
        let details = browser.ask(DETAILS).await;
        assert!(details.as_str().unwrap().contains("read FATAL"), "{details}");
    });
}

/// Goes to everything that has details, with it at the window's upper edge, in its middle and at its lower edge: how many there
/// are, and those whose details lie on them or outside the window.
const COVERED: &str = "
    const panel = document.getElementById('details');
    const on = (one, other) => Math.min(one.right, other.right) - Math.max(one.left, other.left) > 0
        && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 0;
    const items = [...document.querySelectorAll('svg.picture .i')].filter((item) => item.getBoundingClientRect().width > 0);
    const covered = (block) => items.filter((item) => {
        item.scrollIntoView({ block });
        item.focus({ preventScroll: true });
        const [box, thing] = [panel.getBoundingClientRect(), item.getBoundingClientRect()];
        const isInside = box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
        return !panel.innerText || !isInside || on(box, thing);
    });
    return [items.length, ['start', 'center', 'end'].flatMap(covered).map((item) => item.querySelector('title').textContent)];";

#[test]
fn details_never_lie_on_what_they_explain() {
    run(async |browser, pages| {
        for width in [1280, 390] {
            browser.look(width, false).await;
            for page in pages.runs() {
                browser.open(&page).await;
                let answer = browser.ask(COVERED).await;
                assert!(answer[0].as_u64().unwrap() > 10, "{answer}");
                assert_eq!(answer[1], json!([]), "{} at {width}", page.display());
            }
        }
    });
}

#[test]
fn on_a_telephone_details_are_at_the_lower_edge_of_the_window() {
    run(async |browser, pages| {
        browser.look(390, false).await;
        browser.open(&pages.whole()).await;
        let place = "const item = document.querySelector('svg.narrow .lane .i');
            item.scrollIntoView({ block: 'start' });
            item.focus({ preventScroll: true });
            const box = document.getElementById('details').getBoundingClientRect();
            return [box.left, document.documentElement.clientWidth - box.right, innerHeight - box.bottom];";
        assert_eq!(browser.ask(place).await, json!([0, 0, 0]));
    });
}

#[test]
fn details_go_with_the_pointer_and_with_escape() {
    run(async |browser, pages| {
        browser.look(1280, false).await;
        browser.open(&pages.whole()).await;
        let over = "const item = document.querySelector('svg.wide .lane .i');
            item.dispatchEvent(new PointerEvent('pointerover', { bubbles: true }));
            const shown = document.getElementById('details').innerText;
            document.querySelector('svg.wide').dispatchEvent(new PointerEvent('pointerleave'));
            return [shown.length > 0, document.getElementById('details').innerText];";
        assert_eq!(browser.ask(over).await, json!([true, ""]));
        browser.ask("document.querySelector('svg.wide .lane .i').focus()").await;
        assert_ne!(browser.ask(DETAILS).await, json!(""));
        browser.press("Escape").await;
        assert_eq!(browser.ask(DETAILS).await, json!(""));
    });
}

#[test]
fn who_does_not_see_the_picture_has_its_words_and_a_table() {
    run(async |browser, pages| {
        browser.open(&pages.whole()).await;
        let unnamed = "return [...document.querySelectorAll('.i')].filter((item) => !item.querySelector('title')?.textContent.trim()).length";
        assert_eq!(browser.ask(unnamed).await, json!(0), "every mark has a name");
        let tables = "return [...document.querySelectorAll('table')].every((table) =>
            table.querySelector('caption') && table.querySelector('thead th[scope=col]') && table.querySelector('tbody tr'))";
        assert_eq!(browser.ask(tables).await, json!(true));
        let rows = browser.ask("return document.querySelectorAll('table.events tbody tr').length").await;
        assert!(rows.as_u64().unwrap() > 30, "{rows}");
        let groups = "return [...document.querySelectorAll('svg.picture > g:not([aria-hidden])')].every((group) => group.ariaLabel)";
        assert_eq!(browser.ask(groups).await, json!(true));
    });
}

#[test]
fn a_page_asks_nothing_of_the_network_and_complains_of_nothing() {
    run(async |browser, pages| {
        for page in pages.all() {
            let _of_the_page_before = (browser.requests().await, browser.console().await);
            browser.open(&page).await;
            browser.ask("document.querySelectorAll('details').forEach((details) => { details.open = true })").await;
            assert_eq!(browser.requests().await, [format!("file://{}", page.display())]);
            assert_eq!(browser.console().await, [""; 0], "{}", page.display());
        }
    });
}

#[test]
fn the_index_leads_to_the_pages_of_what_failed() {
    run(async |browser, pages| {
        browser.open(&pages.index()).await;
        let rows =
            "return [...document.querySelectorAll('#files ~ div tbody tr')].map((row) => row.cells[0].textContent)";
        assert_eq!(browser.ask(rows).await, json!(["FAIL", "pass"]));
        let link = browser.ask("return document.querySelector('#files ~ div a').getAttribute('href')").await;
        let page = pages.index().with_file_name(link.as_str().unwrap());
        browser.open(&page).await;
        let verdict = browser.ask("return document.querySelector('.verdict').innerText").await;
        assert!(verdict.as_str().unwrap().contains("never-cut"), "{verdict}");
        let sabotages = std::fs::read_to_string(pages.index()).unwrap();
        assert!(sabotages.contains("Could it fail?"), "the table of sabotages is kept beside this test");
    });
}
