//! How a page looks: nothing runs over, no label lies on another, and it can be read by day and by night.

use serde_json::json;

use crate::run;

/// What is as wide as a laptop's screen, and as a telephone's.
const WIDTHS: [u32; 3] = [1280, 861, 390];

#[test]
fn nothing_runs_over_on_a_screen_or_a_telephone() {
    run(async |browser, pages| {
        for width in WIDTHS {
            browser.look(width, false).await;
            for page in pages.all() {
                browser.open(&page).await;
                browser.ask("document.querySelectorAll('details').forEach((details) => { details.open = true })").await;
                let wide = browser.ask("return document.documentElement.scrollWidth").await;
                assert!(wide.as_u64().unwrap() <= u64::from(width), "{} is {wide} wide at {width}", page.display());
                // An SVG cuts off what runs over; a word that is cut can't be read.
                let cut = "return [...document.querySelectorAll('svg.picture')].flatMap((svg) => {
                    const frame = svg.getBoundingClientRect();
                    const isCut = (box) => box.width > 0 && (box.left < frame.left - 1 || box.right > frame.right + 1);
                    return [...svg.querySelectorAll('text')].filter((text) => isCut(text.getBoundingClientRect())).map((text) => text.textContent);
                })";
                assert_eq!(browser.ask(cut).await, json!([]), "{} at {width}", page.display());
            }
        }
    });
}

#[test]
fn no_label_lies_on_another() {
    run(async |browser, pages| {
        for width in WIDTHS {
            browser.look(width, false).await;
            for page in pages.all() {
                browser.open(&page).await;
                let overlaps = "const texts = [...document.querySelectorAll('svg.picture text')].filter((text) => text.getBoundingClientRect().width > 0);
                    const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
                    const on = (one, other) => Math.min(one.right, other.right) - Math.max(one.left, other.left) > 1
                        && Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top) > 4;
                    return boxes.flatMap(([name, box], index) =>
                        boxes.slice(index + 1).filter(([, other]) => on(box, other)).map(([other]) => name + ' on ' + other));";
                assert_eq!(browser.ask(overlaps).await, json!([]), "{} at {width}", page.display());
            }
        }
    });
}

#[test]
fn every_phase_has_its_name() {
    run(async |browser, pages| {
        for width in WIDTHS {
            browser.look(width, false).await;
            for page in pages.runs() {
                browser.open(&page).await;
                let unnamed = "const shown = (element) => element.getBoundingClientRect().width > 0;
                    const names = [...document.querySelectorAll('.picture .phase')].filter(shown).map((text) => text.textContent);
                    const phases = [...document.querySelectorAll('.picture .i .strip')].filter(shown)
                        .map((strip) => strip.classList.item(1).slice(2).replace('-', ' '));
                    return [phases.length, phases.filter((phase) => !names.some((name) => name.startsWith(phase)))];";
                let answer = browser.ask(unnamed).await;
                assert!(answer[0].as_u64().unwrap() >= 1, "no phases: {} at {width}", page.display());
                assert_eq!(answer[1], json!([]), "{} at {width}", page.display());
            }
        }
    });
}

#[test]
fn the_legend_explains_what_is_drawn_and_nothing_else() {
    run(async |browser, pages| {
        for width in [1280, 390] {
            browser.look(width, false).await;
            for page in pages.runs() {
                browser.open(&page).await;
                let unlike = "const svg = [...document.querySelectorAll('svg.picture')].find((svg) => svg.getBoundingClientRect().width > 0);
                    const all = '[class^=b-], [class^=m-], [class=torn]';
                    const isSeen = (shape) => { const box = shape.getBBox(); return !shape.matches('path[class^=b-]') && box.width * box.height >= 30; };
                    const classes = (shapes) => new Set([...shapes].map((shape) => shape.getAttribute('class')));
                    const explained = classes(svg.querySelectorAll('.legend :is(' + all + ')'));
                    const drawn = [...svg.querySelectorAll('.lane :is(' + all + ')')];
                    const [there, seen] = [classes(drawn), classes(drawn.filter(isSeen))];
                    return [explained.size, [...explained].filter((name) => !there.has(name)), [...seen].filter((name) => !explained.has(name))];";
                let answer = browser.ask(unlike).await;
                assert!(answer[0].as_u64().unwrap() > 3, "{answer}");
                assert_eq!([&answer[1], &answer[2]], [&json!([]), &json!([])], "{} at {width}", page.display());
            }
        }
    });
}

#[test]
fn a_bar_that_is_torn_says_how_long_it_is_and_each_gap_how_much_is_left_out() {
    run(async |browser, pages| {
        for width in [1280, 390] {
            browser.look(width, false).await;
            for page in pages.runs() {
                browser.open(&page).await;
                let silent = "const box = (element) => element.getBoundingClientRect();
                    const middle = (element) => (box(element).left + box(element).right) / 2;
                    let gaps = 0;
                    const silent = [...document.querySelectorAll('svg.picture .lane')].filter((lane) => box(lane).width > 0).flatMap((lane) => {
                        // The line of the worker's statements below a bar is none.
                        const bars = [...lane.querySelectorAll('.i > rect[class^=b-]:not(.b-worker-runs-a-statement)')];
                        const said = [...lane.querySelectorAll('.fold-time')];
                        const torn = [...lane.querySelectorAll('.fold')].filter((fold) =>
                            bars.some((bar) => box(bar).left < box(fold).left && box(bar).right > box(fold).right));
                        gaps += torn.length;
                        // The parts of a bar between gaps; in one of them is its length, if one is wide enough.
                        const parts = (bar) => {
                            const over = torn.map(box).filter((gap) => gap.left > box(bar).left && gap.right < box(bar).right);
                            const begins = [box(bar).left, ...over.map((gap) => gap.right)];
                            return over.length ? [...over.map((gap) => gap.left), box(bar).right].map((end, index) => end - begins[index]) : [];
                        };
                        const isSilent = (bar) => Math.max(0, ...parts(bar)) > 60 && !bar.parentNode.querySelector('text')?.textContent.match(/\\d/);
                        return torn.filter((fold) => !said.some((text) =>
                            text.textContent.match(/\\d/) && middle(text) > box(fold).left && middle(text) < box(fold).right))
                            .concat(bars.filter(isSilent))
                            .map(() => lane.ariaLabel);
                    });
                    return [gaps, silent];";
                let answer = browser.ask(silent).await;
                assert_eq!(answer[1], json!([]), "{} at {width}", page.display());
                let gaps = answer[0].as_u64().unwrap();
                assert!(page != pages.day() || gaps > 5, "only {gaps} gaps in a day at {width}");
            }
        }
    });
}

/// Of the bar of who held the pod: how much higher it is than the highest of the others; the least contrast of its frame and of
/// itself with what lies behind lanes.
const HOLDER: &str = "
    const height = (element) => element.getBoundingClientRect().height;
    const svg = [...document.querySelectorAll('svg.picture')].find((svg) => height(svg) > 0);
    const channel = (value) => { const part = value / 255; return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; };
    const light = (colour) => {
        const [red, green, blue] = colour.match(/[\\d.]+/g).map(Number);
        return 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
    };
    const against = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    const grounds = [...svg.querySelectorAll('.ground')].map((ground) => light(getComputedStyle(ground).fill));
    const least = (colour) => Math.min(...grounds.map((ground) => against(light(colour), ground)));
    const frame = svg.querySelector('.holds .held');
    const others = [...svg.querySelectorAll('.lane:not(.holds) .i > rect[class^=b-]')].map(height);
    const bar = getComputedStyle(svg.querySelector('.holds .b-idle')).fill;
    return [height(frame) - Math.max(...others), least(getComputedStyle(frame).stroke), least(bar)];";

#[test]
fn the_bar_of_who_held_the_pod_stands_out_by_day_and_by_night() {
    run(async |browser, pages| {
        for (width, is_dark) in [(1280, false), (1280, true), (390, false), (390, true)] {
            browser.look(width, is_dark).await;
            browser.open(&pages.day()).await;
            let holder = browser.ask(HOLDER).await;
            let [higher, frame, bar] = [0, 1, 2].map(|index| holder[index].as_f64().unwrap());
            assert!(higher > 2.0 && frame >= 7.0 && bar >= 4.5, "{holder} at {width} where dark is {is_dark}");
        }
    });
}

#[test]
fn one_picture_is_shown_and_it_is_the_one_for_the_width() {
    run(async |browser, pages| {
        browser.open(&pages.whole()).await;
        let shown =
            "return [...document.querySelectorAll('svg.picture')].map((svg) => svg.getBoundingClientRect().width > 0)";
        for (width, is_shown) in [(1280, json!([true, false])), (390, json!([false, true]))] {
            browser.look(width, false).await;
            assert_eq!(browser.ask(shown).await, is_shown, "at {width}");
        }
    });
}

/// The least contrast of any text with what lies behind it, of those whose ground is a plain colour; and the page's ground.
const CONTRAST: &str = "
    const channel = (value) => { const part = value / 255; return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; };
    const light = (colour) => {
        const [red, green, blue] = colour.match(/[\\d.]+/g).map(Number);
        return 0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
    };
    const ground = getComputedStyle(document.body).backgroundColor;
    const against = (colour, behind) => {
        const [dark, bright] = [light(colour), light(behind)].sort((one, other) => one - other);
        return (bright + 0.05) / (dark + 0.05);
    };
    const inText = [...document.querySelectorAll('h1, h2, p, li, td, th, caption')].map((element) => {
        let around = element;
        while (around && getComputedStyle(around).backgroundColor.match(/, 0\\)$/)) around = around.parentElement;
        return against(getComputedStyle(element).color, around ? getComputedStyle(around).backgroundColor : ground);
    });
    const inPicture = [...document.querySelectorAll('svg.wide .name, svg.wide .note, svg.wide .tick, svg.wide .key')]
        .map((text) => against(getComputedStyle(text).fill, ground));
    return [Math.min(...inText), Math.min(...inPicture), light(ground)];";

#[test]
fn it_can_be_read_by_day_and_by_night() {
    run(async |browser, pages| {
        let mut grounds = Vec::new();
        for is_dark in [false, true] {
            browser.look(1280, is_dark).await;
            for page in [pages.whole(), pages.broken()] {
                browser.open(&page).await;
                let contrast = browser.ask(CONTRAST).await;
                let least = contrast[0].as_f64().unwrap().min(contrast[1].as_f64().unwrap());
                assert!(least >= 4.5, "{contrast} where dark is {is_dark}");
                grounds.push(contrast[2].as_f64().unwrap());
            }
        }
        assert!(grounds[0] > 0.8 && grounds[2] < 0.1, "{grounds:?}");
    });
}
