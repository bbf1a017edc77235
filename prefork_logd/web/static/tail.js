/**
 * Runs the tail view: records as they arrive, pause and resume.
 *
 * Does not know how records come over the network.
 */

import { announce, button, h, icon } from "./dom.js";
import { Detail } from "./detail.js";
import { fillFrame } from "./frame.js";
import { parse } from "./json.js";
import { bind } from "./keyboard.js";
import { prefer, preference } from "./preferences.js";
import { QueryField } from "./query_field.js";
import { condition, excluding, including } from "./query_text.js";
import { emptyTable, RowMaker } from "./rows.js";
import { columnsOf, href, read, show } from "./state.js";
import { Stream } from "./stream.js";
import { zoneName } from "./time.js";

const MOST_ROWS = 2000;
const NEAR_END = 40;
const place = (id) => document.getElementById(id);

let state = read();
let isPaused = false;
let unseen = 0;
let shownCount = 0;
let table = null;
let maker = null;
let chosen = null;
let ofStore = "";
const kept = new Map();
const area = place("stream");

const query = new QueryField(place("query-box"), () => ({ since: "1h", tz: zoneName(state.tz), store: state.store }), "summary");
const stream = new Stream({ onBatch: addBatch, onRate: showRate, onState: showState, onGap: showGap, onStart: showStore, onWrong: showWrong });
const detail = new Detail(place("detail"), {
  include: (field, value) => change({ q: including(state.q, condition(field, value)) }),
  exclude: (field, value) => change({ q: excluding(state.q, condition(field, value)) }),
  column: (field) => toggleColumn(field),
  search: (one) => location.assign(searchAddress({ q: one })),
  context: (one, same) => location.assign(searchAddress({ around: one.id, same })),
  close: closeDetail,
  linkTo: (one) => searchAddress({ record: one.id }),
  store: () => state.store,
  openGroup: (id) => location.assign(`/errors/${id}`),
});

function searchAddress(part) {
  return href({ ...state, record: "", ...part }, "/");
}

function change(part) {
  state = { ...state, ...part };
  show(state, true);
  start();
}

function toggleColumn(field) {
  const columns = columnsOf(state);
  change({ columns: (columns.includes(field) ? columns.filter((name) => name !== field) : [...columns, field]).join(",") });
}

/** Begin anew: an empty table, and records from now on. */
function start() {
  query.value = state.q;
  updateLinks();
  kept.clear();
  chosen = null;
  unseen = 0;
  shownCount = 0;
  table = emptyTable(columnsOf(state), "Records as they arrive");
  table.classList.toggle("wraps", preference("wrap") === "true");
  maker = new RowMaker(columnsOf(state), zoneName(state.tz), (one) => searchAddress({ record: one.id }));
  area.replaceChildren(table, h("div", { class: "state", id: "waiting" }, h("h2", {}, "Waiting for records"), h("p", {}, "Records that match the query appear here as they arrive. For older ones use Search.")));
  summarize("", "Connecting");
  setPaused(false);
  stream.follow({ q: state.q, store: state.store, tz: zoneName(state.tz) });
}

function addBatch(batch) {
  // Of more records than the table holds only the newest are made into rows.
  const found = batch.slice(-MOST_ROWS).map(parse);
  const isAtEnd = area.scrollHeight - area.scrollTop - area.clientHeight < NEAR_END;
  place("waiting")?.remove();
  for (const one of found) {
    one.created ??= one.record.created;
    kept.set(one.id, one);
  }
  const body = table.tBodies[0];
  body.append(...maker.rows(found));
  shownCount += batch.length;
  trim(body);
  if (isAtEnd) area.scrollTop = area.scrollHeight;
  else unseen += batch.length;
  drawNewest();
}

/** Forget the oldest rows; a reader who has scrolled up keeps what is in view. */
function trim(body) {
  const surplus = kept.size - MOST_ROWS;
  if (surplus <= 0) return;
  const height = area.scrollHeight;
  const ids = kept.keys();
  for (let number = 0; number < surplus; number += 1) kept.delete(ids.next().value);
  for (let row = body.firstChild; row && !(row.dataset.id && kept.has(row.dataset.id)); row = body.firstChild) row.remove();
  area.scrollTop -= height - area.scrollHeight;
}

function drawNewest() {
  const newest = place("newest-button");
  newest.hidden = unseen === 0;
  if (unseen) newest.replaceChildren(h("span", {}, `${unseen.toLocaleString("en")} new below`), icon("down"));
}

function summarize(kind, ...parts) {
  place("summary").replaceChildren(h("span", { class: `rate ${kind}` }, h("span", {}, ...parts)));
}

/** Say whose records these are: a store with a filter has a part of those that arrive. */
function showStore({ store, filter }) {
  ofStore = filter ? `. Only what the store ${store} keeps: ${filter}` : "";
  showState("live", "");
}

function showRate({ per_s: perSecond, shown_per_s: shownPerSecond, sampled }) {
  if (isPaused) return;
  const rate = Number(perSecond).toLocaleString("en", { maximumFractionDigits: 1 });
  const sample = sampled ? `. Too many to show: a sample of ${Math.round(shownPerSecond).toLocaleString("en")} a second` : "";
  summarize("live", h("b", {}, rate), ` records/s, ${shownCount.toLocaleString("en")} shown${sample}${ofStore}`);
}

function showState(name, problem) {
  if (name === "live") summarize("live", `Connected, waiting for records${ofStore}`);
  else if (problem) summarize("broken", `${problem}. Trying again.`);
  else summarize("broken", "The connection broke. Trying again; records that arrive meanwhile are not missed.");
}

/** Say what is wrong with the query, and where. */
function showWrong({ message, column }) {
  query.markWrong(Number(column ?? 0));
  summarize("broken", message);
  place("waiting")?.replaceChildren(h("h2", {}, "The query cannot be read"), h("p", {}, "Correct it above, then press Enter."));
}

function showGap(sentence) {
  table.tBodies[0].append(h("tr", { class: "day" }, h("th", { colspan: columnsOf(state).length + 3 }, `Not shown: ${sentence}`)));
}

function setPaused(isNow) {
  isPaused = isNow;
  place("pause-button").replaceChildren(icon(isNow ? "play" : "pause"), h("span", {}, isNow ? "Resume" : "Pause"));
  place("pause-button").setAttribute("aria-pressed", String(isNow));
}

function pause() {
  setPaused(!isPaused);
  if (!isPaused) return stream.resume();
  stream.stop();
  return summarize("", "Paused. Resume goes on after the last record, without a gap.");
}

function closeDetail() {
  detail.close();
  table.querySelector("tr.selected")?.classList.remove("selected");
  rowOf(chosen)?.querySelector("a").focus({ preventScroll: true });
}

function rowOf(id) {
  return [...table.querySelectorAll("tr.record")].find((row) => row.dataset.id === id) ?? null;
}

function open(row) {
  const one = kept.get(row.dataset.id);
  if (!one) return;
  chosen = one.id;
  table.querySelector("tr.selected")?.classList.remove("selected");
  row.classList.add("selected");
  detail.show(one, zoneName(state.tz));
}

function move(direction) {
  const rows = [...table.querySelectorAll("tr.record")];
  if (rows.length === 0) return;
  const at = rows.findIndex((row) => row.dataset.id === chosen);
  const row = rows[at < 0 ? rows.length - 1 : Math.max(0, Math.min(rows.length - 1, at + direction))];
  chosen = row.dataset.id;
  row.querySelector("a").focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
  if (detail.isOpen) open(row);
}

function updateLinks() {
  const { q, tz, columns, store } = state;
  for (const link of document.querySelectorAll(".views a")) link.href = href({ ...read(""), q, tz, columns, store }, link.pathname);
}

function toNewest() {
  area.scrollTop = area.scrollHeight;
}

function toggleWrap() {
  const wraps = table.classList.toggle("wraps");
  prefer("wrap", String(wraps));
  announce(wraps ? "Long lines are broken" : "Long lines are cut");
}

place("query-form").addEventListener("submit", (event) => {
  event.preventDefault();
  query.close();
  change({ q: query.value });
});
place("pause-button").addEventListener("click", pause);
place("newest-button").addEventListener("click", toNewest);
area.addEventListener("scroll", () => {
  if (area.scrollHeight - area.scrollTop - area.clientHeight >= NEAR_END) return;
  unseen = 0;
  drawNewest();
});
area.addEventListener("click", (event) => {
  const row = event.target.closest("tr.record");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey || (!event.target.closest("a") && String(getSelection()) !== "")) return;
  event.preventDefault();
  open(row);
});
// A browser has six connections to a server. A tab that cannot be seen leaves its own to the others.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stream.stop();
  else if (!isPaused) stream.resume();
});
addEventListener("popstate", () => {
  state = read();
  start();
});

bind("/", "Write a query", () => query.focus());
bind("j", "Next record", () => move(1));
bind("k", "Record before", () => move(-1));
bind("Enter", "Open the record", (event) => {
  const row = rowOf(chosen);
  if (!row || (event.target.closest("a, button, summary") && !event.target.closest("tr.record"))) return false;
  open(row);
  return true;
});
bind("Escape", "Close the record", () => detail.isOpen && closeDetail());
bind("p", "Pause, or resume without a gap", pause);
bind("G", "Newest record", toNewest);
bind("w", "Break long lines, or cut them", toggleWrap);

fillFrame();
place("tools").append(button({ text: "Clear", name: "trash", kind: "quiet", onclick: () => {
  kept.clear();
  maker.day = null;
  table.tBodies[0].replaceChildren();
} }));
start();
