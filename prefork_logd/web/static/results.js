/**
 * Lists the records that a search found, or those around a record.
 *
 * Knows pages and the chosen row. Does not know the other parts of the view.
 */

import { get } from "./api.js";
import { button, h, shown } from "./dom.js";
import { sameText, contextsOf } from "./detail.js";
import { formatCount } from "./numbers.js";
import { patternCondition, patternTable } from "./patterns.js";
import { StatisticsForm, statisticsTable } from "./statistics.js";
import { prefer, preference } from "./preferences.js";
import { emptyTable, placeholders, RowMaker } from "./rows.js";
import { columnsOf } from "./state.js";
import { zoneName } from "./time.js";

const PAGE = 50;
const MOST_AROUND = 500;

/** The list. `actions`: open (of a record), linkTo, leaveContext, context (of a record, same, before, after), compute (of a question). */
export class Results {
  constructor(place, actions) {
    this.place = place;
    this.actions = actions;
    this.found = new Map();
    this.cursor = null;
    this.chosen = null;
    /** Id of the record that had the focus when the list was replaced, "" for another part of it; null: none had. */
    this.lost = null;
    this.form = new StatisticsForm(actions.compute);
    place.addEventListener("click", (event) => this.onClick(event));
  }

  /** Show the places of records that are being loaded; of statistics the form. */
  showLoading(state) {
    const focused = document.activeElement;
    if (this.place.contains(focused)) this.lost = focused.closest("tr.record")?.dataset.id ?? "";
    if (isStatistics(state)) {
      this.form.text = state.stats;
      this.resetBelowForm(h("p", { class: "list-end" }, "Computing"));
      this.place.setAttribute("aria-busy", "true");
      return;
    }
    const columns = columnsOf(state);
    const table = emptyTable(columns, "Records are loading");
    table.tBodies[0].append(...placeholders(40, columns));
    this.reset(table);
    this.place.setAttribute("aria-busy", "true");
  }

  /** Show a state with actions: buttons or links. */
  say(title, sentence, actions = []) {
    this.reset(h("div", { class: "state" }, h("h2", {}, title), h("p", {}, sentence), actions.length ? h("div", { class: "state-actions" }, actions) : null));
  }

  /** Add a sentence to such a state, with a button if there is one. */
  note(sentence, action = null) {
    this.place.querySelector(".state")?.append(h("p", { role: "status" }, sentence, " ", action));
  }

  /** Add to such a state what may be wrong with the query; `linkTo` returns the address of the query that may be meant. */
  suggest(hints, linkTo) {
    const items = hints.map(({ column, message, query }) =>
      h("li", {}, h("span", {}, shown(`Column ${column}: ${message}.`, false)), query ? h("a", { class: "button small", href: linkTo(query) }, h("span", {}, h("code", {}, shown(query, false)))) : null),
    );
    const list = h("div", { role: "status", "aria-label": "What may be meant" });
    this.place.querySelector(".state")?.append(list);
    if (items.length > 0) list.append(h("ul", { class: "hints" }, items));
  }

  reset(...content) {
    this.forget();
    this.place.replaceChildren(...content);
  }

  /** Show content below the form, which keeps the focus. */
  resetBelowForm(...content) {
    this.forget();
    const { element } = this.form;
    if (element.parentNode === this.place) while (element.nextSibling) element.nextSibling.remove();
    else this.place.replaceChildren(element);
    this.place.append(...content);
  }

  forget() {
    this.found.clear();
    this.cursor = null;
    this.chosen = null;
    this.place.removeAttribute("aria-busy");
    this.place.scrollTop = 0;
  }

  /** Show the first page of an answer of /records; `more` loads the next one of a cursor. */
  showRecords(answer, state, more) {
    this.start(state, "Records");
    this.reset(this.table);
    this.add(answer);
    this.end = h("div", { class: "list-end" });
    this.place.append(this.end);
    this.more = more;
    this.drawEnd();
  }

  /** Show an answer of /records/ID/around. */
  showAround(answer, state) {
    this.start(state, "Records around one record");
    this.reset(this.contextHead(answer, state), this.table);
    this.add({ records: [...answer.before, answer.record, ...answer.after], cursor: null });
    const origin = this.row(answer.record.id);
    origin.classList.add("origin");
    origin.querySelector("a").setAttribute("aria-current", "true");
    this.place.scrollTop = origin.offsetTop - this.place.clientHeight / 2;
    this.chosen = answer.record.id;
  }

  /** Show an answer of /patterns. */
  showPatterns(answer, state, linkTo) {
    const others = Number(answer.others);
    this.reset(
      h("div", { class: "results-head" }, h("h2", {}, "Patterns of messages"), h("span", {}, coverageText(answer.coverage)), ),
      patternTable(answer, zoneName(state.tz), (one) => linkTo(patternCondition(one.text))),
      others ? h("p", { class: "list-end" }, `${formatCount(others, "record")} of other forms`) : "",
    );
  }

  /** Show an answer of askStatistics below the form; `link` returns the address of the records of a group. */
  showStatistics(answer, link) {
    const leftOut = Number(answer.left_out);
    const notes = [coverageText(answer.coverage), leftOut ? `without ${formatCount(leftOut, "smaller group")}` : ""].filter((text) => text);
    this.resetBelowForm(statisticsTable(answer, link), h("p", { class: "list-end" }, notes.join(", ")));
  }

  /** Show that a question for statistics cannot be read. */
  refuseStatistics(state, sentence) {
    this.form.text = state.stats;
    this.resetBelowForm();
    this.form.complain(sentence);
  }

  start(state, caption) {
    const columns = columnsOf(state);
    this.table = emptyTable(columns, caption);
    if (preference("wrap") === "true") this.table.classList.add("wraps");
    this.maker = new RowMaker(columns, zoneName(state.tz), this.actions.linkTo);
  }

  add(answer) {
    this.table.tBodies[0].append(...this.maker.rows(answer.records));
    for (const one of answer.records) this.found.set(one.id, one);
    this.cursor = answer.cursor;
  }

  contextHead(answer, state) {
    const one = answer.record;
    const [before, after] = [Number(state.before), Number(state.after)];
    const choice = h(
      "select",
      { class: "field", "aria-label": "Which records", on: { change: (event) => this.actions.context(one, event.target.value, state.before, state.after) } },
      contextsOf(one.record).map(([name, text]) => h("option", { value: name, selected: name === state.same }, text)),
    );
    const wider = (text, more) => button({ text, kind: "small", onclick: () => this.actions.context(one, state.same, ...more.map((count) => String(Math.min(MOST_AROUND, count)))) });
    return h(
      "div",
      { class: "results-head" },
      h("h2", {}, `Around a record, ${sameText(state.same).toLowerCase()}`),
      h("span", {}, `${answer.before.length} before, ${answer.after.length} after`),
      choice,
      answer.before.length === before && before < MOST_AROUND ? wider("More before", [before * 2, after]) : null,
      answer.after.length === after && after < MOST_AROUND ? wider("More after", [before, after * 2]) : null,
      button({ text: "Back to the search", name: "close", kind: "small", onclick: this.actions.leaveContext }),
    );
  }

  drawEnd() {
    if (this.cursor === null) return this.end.replaceChildren(h("span", {}, `End of the list, ${formatCount(this.found.size, "record")}`));
    const next = button({ text: `Show ${PAGE} more`, kind: "", onclick: () => this.loadMore(next) });
    this.end.replaceChildren(next);
  }

  async loadMore(next) {
    const { end } = this;
    next.disabled = true;
    try {
      const answer = await this.more(this.cursor);
      if (answer === null || end !== this.end) return;
      this.add(answer);
      this.drawEnd();
    } catch (error) {
      if (error.name !== "AbortError") end.append(h("span", { class: "error-text", role: "alert" }, error.message));
      next.disabled = false;
    }
  }

  row(id) {
    return [...this.place.querySelectorAll("tr.record")].find((row) => row.dataset.id === id) ?? null;
  }

  /** Mark a row as the open one; null for none. */
  mark(id) {
    this.place.querySelector("tr.selected")?.classList.remove("selected");
    this.chosen = id ?? this.chosen;
    if (id !== null) this.row(id)?.classList.add("selected");
  }

  /** Focus the next row (1) or the one before (-1), and return its record; null if there is none. */
  move(direction) {
    const rows = [...this.place.querySelectorAll("tr.record:not(.placeholder)")];
    if (rows.length === 0) return null;
    const at = rows.findIndex((row) => row.dataset.id === this.chosen);
    const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + direction))];
    const link = next.querySelector("a");
    link.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
    this.chosen = next.dataset.id;
    return this.found.get(this.chosen) ?? null;
  }

  /** Give the list its focus back if that was lost with the rows before: who uses the keyboard goes on from there. */
  restoreFocus() {
    const { lost } = this;
    this.lost = null;
    if (lost === null || document.activeElement !== document.body) return;
    const link = this.row(lost)?.querySelector("a");
    if (link) this.chosen = lost;
    (link ?? this.place).focus({ preventScroll: true });
  }

  onClick(event) {
    const row = event.target.closest("tr.record");
    if (!row?.dataset.id || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    // Somebody who marks a text with the mouse does not open the record.
    if (!event.target.closest("a") && String(getSelection()) !== "") return;
    event.preventDefault();
    const one = this.found.get(row.dataset.id);
    if (one) this.actions.open(one);
  }

  /** Break long messages into lines, or not; the choice is remembered. */
  toggleWrap() {
    const wraps = preference("wrap") !== "true";
    prefer("wrap", String(wraps));
    this.place.querySelector(".rows")?.classList.toggle("wraps", wraps);
    return wraps;
  }
}

/** Return whether a state shows statistics. */
export function isStatistics(state) {
  return state.view === "stats" && !state.around;
}

/** Ask for a page of records. */
export function askRecords(parameters, order, cursor, signal) {
  return get("/records", { ...parameters, order, limit: PAGE, cursor }, signal);
}

function coverageText({ records, is_complete: isComplete }) {
  return `${isComplete ? "of" : "of the newest"} ${formatCount(records, "record")}`;
}
