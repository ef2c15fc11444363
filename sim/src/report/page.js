// Shows the details of what is pointed at, tapped or reached with the keyboard, beside it and never over it. Each lane is one
// stop of Tab; inside it the arrow keys go from thing to thing, and up and down to the nearest thing of the next lane.
"use strict";

const panel = document.getElementById("details");
const narrow = matchMedia("(max-width: 860px)");
let kept = null;

function show(item) {
  document.querySelectorAll(".i.shown").forEach((other) => other.classList.remove("shown"));
  const title = item && item.querySelector("title");
  if (!title) {
    panel.replaceChildren();
    return;
  }
  item.classList.add("shown");
  const [when, who, ...what] = title.textContent.split("\n");
  const line = (name, text) => {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    return part;
  };
  const first = document.createElement("p");
  first.append(line("when", when), " ", line("who", who));
  const second = document.createElement("p");
  second.append(line("what", what.join(" ")));
  panel.replaceChildren(first, second);
  place(item.getBoundingClientRect());
}

// Below the thing, above it, or beside it, whichever is the first with room in the window. On a narrow screen at the window's
// lower edge, or at its upper one, if the thing lies there.
function place(thing) {
  const gap = 8;
  panel.style.left = panel.style.top = "";
  panel.classList.remove("above");
  if (narrow.matches) {
    panel.classList.toggle("above", thing.bottom + gap > panel.getBoundingClientRect().top);
    return;
  }
  panel.style.left = panel.style.top = "0";
  const box = panel.getBoundingClientRect();
  const [wide, high] = [document.documentElement.clientWidth, innerHeight];
  const within = (at, size, all) => Math.max(gap, Math.min(at, all - size - gap));
  const left = within(thing.left, box.width, wide);
  const top = within(thing.top, box.height, high);
  const places = [
    [left, thing.bottom + gap],
    [left, thing.top - gap - box.height],
    [thing.right + gap, top],
    [thing.left - gap - box.width, top],
  ];
  const fits = ([x, y]) => x >= 0 && y >= 0 && x + box.width <= wide && y + box.height <= high;
  const [x, y] = places.find(fits) || places[0];
  // Relative to where the panel lies at 0, 0, however far the page has moved.
  panel.style.left = `${x - box.left}px`;
  panel.style.top = `${y - box.top}px`;
}

function keep(item) {
  kept = kept === item ? null : item;
  panel.classList.toggle("kept", kept !== null);
  show(item);
}

function letGo() {
  kept = null;
  panel.classList.remove("kept");
}

for (const picture of document.querySelectorAll("svg.picture")) {
  const x = (item) => Number(item.dataset.x);
  const lanes = [...picture.querySelectorAll(":scope > g")]
    .map((lane) => [...lane.querySelectorAll(".i")].sort((one, other) => x(one) - x(other)))
    .filter((items) => items.length > 0);

  // One of a lane's things is its stop of Tab: the last that was reached.
  const stop = (items, item) => {
    items.forEach((other) => other.setAttribute("tabindex", other === item ? "0" : "-1"));
  };
  lanes.forEach((items) => stop(items, items[0]));

  const go = (lane, place) => {
    const items = lanes[lane];
    const item = items && items[place];
    if (!item) return;
    stop(items, item);
    item.focus();
  };
  const nearest = (lane, from) => {
    const items = lanes[lane] || [];
    const apart = items.map((item) => Math.abs(x(item) - from));
    return apart.indexOf(Math.min(...apart));
  };

  picture.addEventListener("keydown", (event) => {
    const item = event.target.closest(".i");
    const lane = lanes.findIndex((items) => items.includes(item));
    if (lane < 0) return;
    const place = lanes[lane].indexOf(item);
    const moves = {
      ArrowLeft: () => go(lane, place - 1),
      ArrowRight: () => go(lane, place + 1),
      ArrowUp: () => go(lane - 1, nearest(lane - 1, x(item))),
      ArrowDown: () => go(lane + 1, nearest(lane + 1, x(item))),
      Home: () => go(lane, 0),
      End: () => go(lane, lanes[lane].length - 1),
      Enter: () => keep(item),
      " ": () => keep(item),
      // Once lets go of what was kept, twice of everything.
      Escape: () => {
        show(kept && kept !== item ? item : null);
        letGo();
      },
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  });
  picture.addEventListener("focusin", (event) => {
    const item = event.target.closest(".i");
    if (item && !kept) show(item);
  });
  picture.addEventListener("focusout", () => {
    if (!kept) show(null);
  });
  // What the pointer has left is shown no longer; what the keyboard is on is.
  picture.addEventListener("pointerover", (event) => {
    if (!kept) show(event.target.closest(".i") || document.activeElement.closest(".i"));
  });
  picture.addEventListener("pointerleave", () => {
    if (!kept) show(document.activeElement.closest(".i"));
  });
  picture.addEventListener("click", (event) => {
    const item = event.target.closest(".i");
    if (item) {
      keep(item);
    } else {
      letGo();
      show(null);
    }
  });
}
