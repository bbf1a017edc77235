/**
 * Makes the field for a query: with completion, history of the arrows, and the place of an error.
 *
 * Does not run a query: `onSubmit` of the form does.
 */

import { get } from "./api.js";
import { h, icon, shown } from "./dom.js";

const WAIT_MS = 90;
const KINDS = { field: "field", value: "value", operator: "operator", word: "word" };

/** The query field. `about` returns the parameters of the time range for completions. */
export class QueryField {
  constructor(place, about, describedBy) {
    this.about = about;
    this.items = [];
    this.chosen = -1;
    this.timer = 0;
    this.running = null;
    this.input = h("input", {
      class: "field",
      type: "text",
      name: "q",
      id: "query",
      role: "combobox",
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      enterkeyhint: "search",
      maxlength: 16384,
      placeholder: "timeout level>=WARNING -healthz",
      "aria-label": "Query",
      "aria-autocomplete": "list",
      "aria-expanded": "false",
      "aria-controls": "completions",
      "aria-describedby": describedBy,
      on: {
        input: () => this.complete(),
        keydown: (event) => this.onKey(event),
        blur: () => this.close(),
        click: () => this.complete(),
      },
    });
    this.list = h("ul", { class: "completions", id: "completions", role: "listbox", "aria-label": "Completions", hidden: true });
    place.append(icon("search"), this.input, h("kbd", { "aria-hidden": "true" }, "/"), this.list);
  }

  get value() {
    return this.input.value.trim();
  }

  set value(text) {
    this.input.value = text;
    this.input.removeAttribute("aria-invalid");
    this.close();
  }

  focus() {
    this.input.focus();
    this.input.select();
  }

  /** Mark the query as wrong; `column` (from 1) is where the caret goes if the field has the focus. */
  markWrong(column) {
    this.input.setAttribute("aria-invalid", "true");
    if (column && document.activeElement === this.input) this.input.setSelectionRange(units(this.input.value, column - 1), this.input.value.length);
  }

  complete() {
    this.input.removeAttribute("aria-invalid");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(), WAIT_MS);
  }

  async ask() {
    this.running?.abort();
    const running = (this.running = new AbortController());
    const q = this.input.value;
    const position = points(q.slice(0, this.input.selectionStart ?? q.length));
    try {
      const answer = await get("/complete", { ...this.about(), q, position }, running.signal);
      if (running === this.running && document.activeElement === this.input) this.open(answer, q);
    } catch {
      // Completions are an offer. The search itself reports what is wrong.
      this.close();
    }
  }

  open(answer, q) {
    this.from = units(q, answer.from);
    this.to = units(q, answer.to);
    this.items = answer.items.filter((item) => item.text !== q.slice(this.from, this.to));
    if (this.items.length === 0) return this.close();
    this.list.replaceChildren(...this.items.map((item, number) => this.row(item, number)));
    this.list.hidden = false;
    this.list.scrollTop = 0;
    this.input.setAttribute("aria-expanded", "true");
    this.choose(-1);
  }

  row(item, number) {
    const count = Number(item.count) > 0 ? ` ${Number(item.count).toLocaleString("en")}` : "";
    return h(
      "li",
      {
        role: "option",
        id: `completion-${number}`,
        "aria-selected": "false",
        on: {
          pointerdown: (event) => {
            event.preventDefault();
            this.take(number);
          },
        },
      },
      h("span", { class: "text" }, shown(item.text, false)),
      h("span", { class: "kind" }, (KINDS[item.kind] ?? "") + count),
    );
  }

  close() {
    clearTimeout(this.timer);
    this.running?.abort();
    this.running = null;
    this.items = [];
    this.chosen = -1;
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  choose(number) {
    this.list.children[this.chosen]?.setAttribute("aria-selected", "false");
    this.chosen = number;
    const row = this.list.children[number];
    if (!row) return this.input.removeAttribute("aria-activedescendant");
    row.setAttribute("aria-selected", "true");
    row.scrollIntoView({ block: "nearest" });
    this.input.setAttribute("aria-activedescendant", row.id);
  }

  take(number) {
    const item = this.items[number];
    const value = this.input.value;
    const before = value.slice(0, this.from) + item.text;
    this.input.value = before + value.slice(this.to);
    this.input.setSelectionRange(before.length, before.length);
    this.close();
    this.complete();
  }

  onKey(event) {
    const isOpen = this.items.length > 0;
    const { key } = event;
    if (isOpen && (key === "ArrowDown" || key === "ArrowUp")) {
      const count = this.items.length;
      this.choose(key === "ArrowDown" ? (this.chosen + 1) % count : (this.chosen <= 0 ? count : this.chosen) - 1);
    } else if (isOpen && (key === "Tab" || (key === "Enter" && this.chosen >= 0)) && !event.shiftKey) {
      this.take(Math.max(0, this.chosen));
    } else if (key === "Escape") {
      if (isOpen) this.close();
      else this.input.blur();
    } else if (key === "ArrowDown" && !isOpen) {
      this.complete();
    } else {
      return;
    }
    event.preventDefault();
  }
}

/** Return the number of code points of a text: what the server counts. */
function points(text) {
  return [...text].length;
}

/** Return the number of UTF-16 units of so many code points: what the field counts. */
function units(text, count) {
  return [...text].slice(0, count).join("").length;
}
