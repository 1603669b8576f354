// Opens a span beside the timeline without loading the page again. Without this file the links do the same.
"use strict";

const pane = document.getElementById("span");
const rows = Array.from(document.querySelectorAll("a[data-pane]"));
let asked = 0;

async function open(row) {
  const mine = ++asked;
  const narrow = window.matchMedia("(max-width: 999px)").matches;
  rows.forEach((other) => other.removeAttribute("aria-current"));
  row.setAttribute("aria-current", "true");
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

document.addEventListener("click", (event) => {
  const row = event.target.closest("a[data-pane]");
  if (!row || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  open(row);
});

document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const from = rows.indexOf(document.activeElement);
  if (!step || from < 0 || !rows[from + step]) return;
  event.preventDefault();
  rows[from + step].focus();
  open(rows[from + step]);
});
