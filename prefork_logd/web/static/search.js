/**
 * Runs the search view: the state of the address, one search at a time, and its parts.
 *
 * Does not know how a part is drawn.
 */

import { get } from "./api.js";
import { announce, button, h } from "./dom.js";
import { Detail } from "./detail.js";
import { FieldList } from "./field_list.js";
import { fillFrame } from "./frame.js";
import { Histogram } from "./histogram.js";
import { bind, describeKeys } from "./keyboard.js";
import { formatCount } from "./numbers.js";
import { QueryField } from "./query_field.js";
import { condition, excluding, including } from "./query_text.js";
import { askRecords, isStatistics, Results } from "./results.js";
import { columnsOf, href, read, show } from "./state.js";
import { askStatistics } from "./statistics.js";
import { attachRange, labelRange } from "./time_range.js";
import { bound, dateTime, duration, iso, rangeText, zoneName } from "./time.js";
import { fillTools } from "./tools.js";

const SLOTS = 90;
const WIDER = { "15m": "1d", "1h": "1d", "4h": "7d", "1d": "7d", "7d": "30d" };
const SEND = "`prefork-logd send hello` sends one.";
/** Length of the range that shows the newest record. */
const NEAR_S = 3600;
const VIEWS = [["records", "Records"], ["patterns", "Patterns"], ["stats", "Statistics"]];
const place = (id) => document.getElementById(id);

let state = read();
let running = null;
let problems = [];

const parameters = (now = state) => ({ q: now.q, since: bound(now.since), until: bound(now.until), tz: zoneName(now.tz), store: now.store });
const query = new QueryField(place("query-box"), () => {
  const { since, until, tz, store } = parameters();
  return { since, until, tz, store };
}, "summary");
const histogram = new Histogram(place("histogram"), (start, end) => change({ since: iso(start), until: iso(end) }));
const actions = {
  include: (field, value) => change({ q: including(state.q, condition(field, value)), view: "records", around: "" }),
  exclude: (field, value) => change({ q: excluding(state.q, condition(field, value)), view: "records", around: "" }),
  search: (one) => change({ q: including(state.q, one), view: "records", around: "" }),
  column: (field) => toggleColumn(field),
};
const fields = new FieldList(place("fields"), actions, parameters);
const detail = new Detail(place("detail"), {
  ...actions,
  search: (one) => change({ q: one, view: "records", around: "", record: "" }),
  context: openContext,
  close: closeDetail,
  linkTo,
  store: () => state.store,
  openGroup: (id) => location.assign(`/errors/${id}`),
});
const results = new Results(place("results"), {
  open: openRecord,
  linkTo,
  context: openContext,
  leaveContext: () => change({ around: "" }),
  compute: (stats) => change({ stats, view: "stats" }),
});
const views = VIEWS.map(([view, text]) => button({ text, kind: "small", onclick: () => change({ view, around: "" }) }));

function linkTo(one) {
  return href({ ...state, record: one.id });
}

/** Change a part of the state; what follows is a search, and a step of the Back button. */
function change(part) {
  state = { ...state, ...part };
  show(state, true);
  run();
}

function toggleColumn(field) {
  const columns = columnsOf(state);
  const isThere = columns.includes(field);
  announce(isThere ? `Column ${field} removed` : `Column ${field} added`);
  change({ columns: (isThere ? columns.filter((name) => name !== field) : [...columns, field]).join(",") });
}

function openRecord(one) {
  state = { ...state, record: one.id };
  show(state, true);
  detail.show(one, zoneName(state.tz));
  results.mark(one.id);
}

function closeDetail() {
  state = { ...state, record: "" };
  show(state, true);
  detail.close();
  results.mark(null);
  results.row(results.chosen)?.querySelector("a").focus();
}

function openContext(one, same, before = "10", after = "10") {
  change({ around: one.id, same, before, after, view: "records", record: innerWidth < 720 ? "" : state.record });
}

function summarize(...parts) {
  const summary = place("summary");
  summary.classList.remove("error-text");
  summary.replaceChildren(...parts);
}

function complain(error) {
  const summary = place("summary");
  summary.classList.add("error-text");
  summary.textContent = error.message;
  histogram.say("");
  if (error.parameter === "q") {
    query.markWrong(error.column);
    results.say("The query cannot be read", "Correct it above, then press Enter.");
  } else if (error.parameter === "stats") {
    summary.textContent = "The question for statistics cannot be read";
    results.refuseStatistics(state, error.message);
  } else {
    summary.textContent = "The search failed";
    results.say("The search failed", error.message, [button({ text: "Search again", kind: "primary", onclick: run })]);
  }
}

function markView() {
  VIEWS.forEach(([view], at) => views[at].setAttribute("aria-pressed", String(view === state.view && !state.around)));
}

function setRunning(isRunning) {
  const run = place("run-button");
  run.replaceChildren(h("span", {}, isRunning ? "Cancel" : "Search"));
  run.classList.toggle("primary", !isRunning);
}

function cancel() {
  if (running === null) return false;
  running.abort();
  running = null;
  setRunning(false);
  place("fields").removeAttribute("aria-busy");
  summarize("Search cancelled");
  results.say("The search was cancelled", "A shorter time range or a further condition makes it quicker.", [button({ text: "Search again", kind: "primary", onclick: run })]);
  if (histogram.data === null) histogram.say("");
  fields.say("");
  return true;
}

/** Run the search of the state, in place of the one that runs. */
async function run() {
  running?.abort();
  const now = (running = new AbortController());
  const { signal } = now;
  query.value = state.q;
  labelRange(place("range-button"), state);
  updateLinks();
  markView();
  setRunning(true);
  place("fields").setAttribute("aria-busy", "true");
  summarize("Searching");
  results.showLoading(state);
  if (!state.record) detail.close();
  const started = performance.now();
  try {
    const list = loadList(signal).finally(() => {
      if (!signal.aborted) results.restoreFocus();
    });
    // Not at once: the first records would share the processors with the bars.
    const bars = list.then(() => loadHistogram(signal));
    list.then(() => summarize(`First records after ${since(started)}`), () => {});
    await Promise.all([openRecordOfState(list, signal), bars]);
    summarizeAll(started);
    if (now === running) setRunning(false);
    await loadFields(signal);
  } catch (error) {
    if (error.name !== "AbortError" && now === running) complain(error);
    now.abort();
  }
  if (now === running) {
    running = null;
    setRunning(false);
    place("fields").removeAttribute("aria-busy");
  }
}

async function loadList(signal) {
  if (state.around) {
    const { around, same, before, after } = state;
    return results.showAround(await get(`/records/${around}/around`, { same, before, after, store: state.store }, signal), state);
  }
  if (state.view === "patterns") {
    const linkTo = (one) => href({ ...state, q: one ? including(state.q, one) : state.q, view: "records" });
    return results.showPatterns(await get("/patterns", { ...parameters(), top: 100 }, signal), state, linkTo);
  }
  if (isStatistics(state)) {
    const linkTo = (conditions) => href({ ...state, q: conditions.reduce(including, state.q), view: "records" });
    return results.showStatistics(await askStatistics({ ...parameters(), stats: state.stats }, signal), linkTo);
  }
  const asked = parameters();
  const answer = await askRecords(asked, state.order, null, signal);
  problems = answer.problems ?? [];
  if (answer.records.length === 0) return sayEmpty(signal);
  return results.showRecords(answer, state, (cursor) => askRecords(asked, state.order, cursor, null));
}

async function sayEmpty(signal) {
  const wider = state.until ? "all" : (WIDER[state.since] ?? "all");
  const offers = [];
  const isBounded = state.since !== "all" || Boolean(state.until);
  if (isBounded) offers.push(button({ text: wider === "all" ? "Search all records" : `Search the ${rangeText(wider, "", "").toLowerCase()}`, kind: "primary", onclick: () => change({ since: wider, until: "" }) }));
  if (state.q) offers.push(button({ text: "Clear the query", onclick: () => change({ q: "" }) }));
  const hint = state.q ? "No record matches the query" : "No record was stored";
  results.say("No records", `${hint}${isBounded ? " in this time range" : ""}.`, offers);
  if (state.q) await sayHints(signal);
  if (isBounded) await sayNewest(signal);
  else if (!state.q) results.note(SEND);
}

/** Say when the newest record is that matches at any time; it is asked for after the list has said that the range has none. */
async function sayNewest(signal) {
  let records = [];
  try {
    ({ records } = await get("/records", { ...parameters(), since: "", until: "", limit: 1 }, signal));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // The list has been answered; this is not worth an error.
    return;
  }
  if (records.length === 0) {
    results.note(state.q ? "None matches at any time." : SEND);
    return;
  }
  const created = Number(records[0].created);
  const open = () => change({ since: iso(created - NEAR_S), until: iso(created + 1) });
  results.note(`The newest one is of ${dateTime(created, zoneName(state.tz))}.`, button({ text: "Show it", kind: "small", onclick: open }));
}

/** Show what may be wrong with a query that has found nothing; it is asked after the list has said so. */
async function sayHints(signal) {
  try {
    const { hints } = await get("/hints", parameters(), signal);
    results.suggest(hints, (meant) => href({ ...state, q: meant }));
  } catch (error) {
    // The list has been answered; a hint is not worth an error.
    if (error.name === "AbortError") throw error;
  }
}

async function loadHistogram(signal) {
  try {
    histogram.show(await get("/histogram", { ...parameters(), slots: SLOTS }, signal), zoneName(state.tz));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    histogram.say(`No bars: ${error.message}`);
  }
}

async function loadFields(signal) {
  try {
    const found = await get("/fields", parameters(), signal);
    fields.show(found);
    results.form.offer(fields.fields);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    fields.say(`No fields: ${error.message}`);
  }
}

function summarizeAll(started) {
  const [count, ...noun] = histogram.data ? formatCount(histogram.total, "matching record").split(" ") : [null];
  summarize(...[count ? h("b", {}, count) : "Done", count ? ` ${noun.join(" ")}` : null, `, ${since(started)}`, problems.length ? `. Incomplete: ${problems.join(" ")}` : ""].filter((part) => part !== null));
}

function since(started) {
  return duration((performance.now() - started) / 1000);
}

async function openRecordOfState(list, signal) {
  await list;
  if (!state.record) return;
  results.mark(state.record);
  const known = results.found.get(state.record);
  try {
    detail.show(known ?? (await get(`/records/${state.record}`, { store: state.store }, signal)), zoneName(state.tz));
  } catch (error) {
    if (error.name === "AbortError") throw error;
    detail.say(error.message);
  }
}

function updateLinks() {
  const { q, tz, columns, store } = state;
  for (const link of document.querySelectorAll(".views a")) link.href = href({ ...read(""), q, tz, columns, store }, link.pathname);
}

function toggleWrap() {
  announce(results.toggleWrap() ? "Long lines are broken" : "Long lines are cut");
}

place("query-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running !== null && query.value === state.q) return cancel();
  query.close();
  return change({ q: query.value, around: "" });
});
place("fields-button").addEventListener("click", (event) => {
  const isOpen = place("fields").classList.toggle("open");
  event.currentTarget.setAttribute("aria-expanded", String(isOpen));
});
addEventListener("popstate", () => {
  state = read();
  run();
});

function move(direction) {
  const one = results.move(direction);
  if (one && detail.isOpen) {
    state = { ...state, record: one.id };
    show(state, false);
    detail.show(one, zoneName(state.tz));
    results.mark(one.id);
  }
}

bind("/", "Write a query", () => query.focus());
bind("j", "Next record", () => move(1));
bind("k", "Record before", () => move(-1));
bind("Enter", "Open the record", (event) => {
  const one = results.found.get(results.chosen);
  if (!one || (event.target.closest("a, button, summary") && !event.target.closest("tr.record"))) return false;
  openRecord(one);
  return true;
});
bind("Escape", "Close the record, leave the context, cancel the search", () => {
  if (detail.isOpen) closeDetail();
  else if (state.around) change({ around: "" });
  else cancel();
});
bind("c", "Context of the record: what its process logged before and after", () => {
  const one = results.found.get(results.chosen);
  if (one) openContext(one, one.record.process === undefined ? "" : "process");
});
bind("r", "Search again", () => run());
bind("w", "Break long lines, or cut them", () => toggleWrap());
describeKeys(["ArrowLeft", "ArrowRight"], "While the bars have the focus: the bar before, and the next one; with Shift a range");
describeKeys(["Enter"], "While the bars have the focus: search the bar, or the range");

fillFrame();
place("views").append(...views);
fillTools(place("tools"), () => state, parameters, { change, wrap: toggleWrap });
attachRange(place("range-button"), () => state, change);
run();
