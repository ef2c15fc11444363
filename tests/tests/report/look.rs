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
