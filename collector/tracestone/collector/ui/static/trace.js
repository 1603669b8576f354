// Opens a span beside the timeline without loading the page again, and brings more rows while one scrolls. Without this
// file the links do the same.
"use strict";

const pane = document.getElementById("span");
const box = document.querySelector(".spans");
const holder = document.querySelector(".rows");
const MOST_CHUNKS = 6; // of rows in the page at once; those furthest away leave it
let asked = 0;
let current = holder.querySelector("a[aria-current]")?.dataset.pane;

const rows = () => Array.from(holder.querySelectorAll("a[data-pane]"));

function mark(within) {
  for (const row of within.querySelectorAll("a[data-pane]")) {
    if (row.dataset.pane === current) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}

async function open(row) {
  const mine = ++asked;
  const narrow = window.matchMedia("(max-width: 999px)").matches;
  current = row.dataset.pane;
  mark(holder);
  pane.setAttribute("aria-busy", "true");
  try {
    const response = await fetch(row.dataset.pane);
    if (!response.ok) throw new Error(response.statusText);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    if (mine !== asked) return;
    pane.replaceChildren(...page.body.childNodes);
    pane.scrollTop = 0;
    history.replaceState(null, "", row.href.replace("#span", ""));
    if (narrow) pane.scrollIntoView();
  } catch {
    if (mine === asked) location.assign(row.href);
  } finally {
    if (mine === asked) pane.removeAttribute("aria-busy");
  }
}

// Only the outermost links lead on; those between two chunks are passed.
function settle() {
  const chunks = Array.from(holder.children);
  chunks.forEach((chunk, place) => {
    for (const link of chunk.querySelectorAll(".more-rows")) {
      link.hidden = link.rel === "prev" ? place > 0 : place < chunks.length - 1;
      if (link.hidden) watcher.unobserve(link);
      else watcher.observe(link);
    }
  });
}

// Whatever changes above the rows in sight, they stay where they are.
function keeping(row, change) {
  const before = row.getBoundingClientRect().top;
  change();
  box.scrollTop += row.getBoundingClientRect().top - before;
}

async function more(link) {
  if (link.dataset.state) return;
  link.dataset.state = "asked";
  watcher.unobserve(link);
  try {
    const address = new URL(link.href);
    address.searchParams.set("part", "rows");
    const response = await fetch(address);
    if (!response.ok) throw new Error(response.statusText);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const chunk = page.querySelector(".chunk");
    mark(chunk);
    const forward = link.rel === "next";
    const beside = link.closest(".chunk");
    keeping(beside.querySelector(forward ? "li:last-child" : "li"), () => {
      beside[forward ? "after" : "before"](chunk);
      if (holder.children.length > MOST_CHUNKS) holder[forward ? "firstElementChild" : "lastElementChild"].remove();
      delete link.dataset.state;
      settle();
    });
  } catch {
    link.dataset.state = "failed"; // it is still a link
  }
}

const watcher = new IntersectionObserver(
  (seen) => seen.filter((entry) => entry.isIntersecting).forEach((entry) => more(entry.target)),
  { root: box, rootMargin: "800px" },
);

document.addEventListener("click", (event) => {
  const row = event.target.closest("a[data-pane]");
  if (!row || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  open(row);
});

document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const all = step ? rows() : [];
  const from = all.indexOf(document.activeElement);
  if (from < 0 || !all[from + step]) return;
  event.preventDefault();
  all[from + step].focus();
  open(all[from + step]);
});

const chosen = holder.querySelector("a[aria-current]");
if (chosen) {
  const [place, frame] = [chosen.getBoundingClientRect(), box.getBoundingClientRect()];
  if (place.bottom > frame.bottom) box.scrollTop += place.top - frame.top - frame.height / 2;
}
settle();
