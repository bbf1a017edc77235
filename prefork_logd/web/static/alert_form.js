/**
 * Asks for a rule in a dialog: a new one, or another version of one that was made on the page.
 *
 * Does not judge the values: the server does, and names the field that is wrong.
 */

import { get, send } from "./api.js";
import { announce, button, h, shown } from "./dom.js";
import { formatCount } from "./numbers.js";

const KINDS = [
  ["count", "More records than a number"],
  ["absence", "No record at all"],
  ["new-group", "A new group of errors"],
  ["regressed-group", "A group of errors comes back"],
];
const WANTED = { count: ["query", "window", "above", "by"], absence: ["query", "window", "by"], "new-group": ["service", "text"], "regressed-group": ["service", "text"] };
const TYPING_MS = 400;

export const EMPTY_RULE = { name: "", on: "count", query: "", store: "", window: "5m", above: 0, by: "", service: "", text: "", every: "1m", for: "0s", repeat: "", resolved: true, send: [] };

/** Open the dialog for a rule; `name` is that of the rule to change, "" for a new one. `saved` gets the rule. */
export function openForm(rule, name, receivers, saved) {
  new RuleForm(rule, name, receivers, saved).open();
}

class RuleForm {
  constructor(rule, name, receivers, saved) {
    this.rule = rule;
    this.name = name;
    this.saved = saved;
    this.fields = new Map();
    this.timer = 0;
    this.running = null;
    this.problem = h("p", { class: "error-text", role: "alert" });
    this.preview = h("p", { class: "menu-note", role: "status" });
    this.kind = h("select", { class: "field", on: { change: () => this.showKind() } }, KINDS.map(([value, text]) => h("option", { value, selected: value === rule.on }, text)));
    const input = (key, rest = {}) => this.input(key, rest);
    this.searches = h("select", { class: "field", "aria-label": "Saved search", hidden: true, on: { change: (event) => this.takeSearch(event.target.value) } });
    this.form = h(
      "form",
      { class: "rule-form", on: { submit: (event) => this.submit(event) } },
      this.labelled("name", "Name", input("name", { maxlength: 64, required: true, placeholder: "Shop has errors" })),
      this.labelled("on", "Alert on", this.kind),
      this.labelled("query", "Query", input("query", { maxlength: 16384, class: "field mono", spellcheck: "false", placeholder: "service=shop level>=ERROR" }), this.searches, this.preview),
      this.labelled("window", "Within", input("window", { maxlength: 40, placeholder: "5m" })),
      this.labelled("above", "More than", input("above", { type: "number", min: 0, max: 1e9, step: 1, required: true })),
      this.labelled("by", "Of each value of the field", input("by", { maxlength: 200, class: "field mono", spellcheck: "false", placeholder: "all records together" })),
      this.labelled("service", "Service", input("service", { maxlength: 200, placeholder: "any" })),
      this.labelled("text", "Text in the title, the place or the logger", input("text", { maxlength: 200, placeholder: "any" })),
      this.receivers(receivers),
      h("details", { class: "more", open: this.isUnusual(rule) }, h("summary", {}, "When, and how often"),
        h("div", { class: "form-grid" },
          this.labelled("every", "Evaluate every", input("every", { maxlength: 40, placeholder: "1m" })),
          this.labelled("for", "Only if it holds for", input("for", { maxlength: 40, placeholder: "0s" })),
          this.labelled("repeat", "Tell again after", input("repeat", { maxlength: 40, placeholder: "never" })),
          h("label", { class: "check" }, this.keep("resolved", h("input", { type: "checkbox", checked: rule.resolved })), "Tell when it is over"))),
      this.problem,
      h("div", { class: "state-actions" }, button({ text: name ? "Save" : "Make the rule", kind: "primary", type: "submit" }), button({ text: "Cancel", onclick: () => this.dialog.close() })),
    );
    this.dialog = h("dialog", { class: "dialog wide", "aria-labelledby": "rule-title" }, h("h2", { id: "rule-title" }, name ? "Change the rule" : "New rule"), this.form);
    this.dialog.addEventListener("close", () => this.dialog.remove());
  }

  open() {
    document.body.append(this.dialog);
    this.showKind();
    this.dialog.showModal();
    this.fields.get("name").focus();
    this.loadSearches();
  }

  keep(key, element) {
    this.fields.set(key, element);
    return element;
  }

  input(key, rest) {
    const value = key === "above" ? Number(this.rule[key]) : this.rule[key];
    const element = this.keep(key, h("input", { class: "field", type: "text", autocomplete: "off", value, ...rest }));
    if (key === "query" || key === "window") element.addEventListener("input", () => this.countLater());
    return element;
  }

  labelled(key, text, field, ...others) {
    return h("div", { class: "form-field", data: { key } }, h("label", { class: "labelled" }, text, field), others);
  }

  receivers(receivers) {
    const boxes = receivers.map((one) => h("label", { class: "check" }, h("input", { type: "checkbox", name: "send", value: one.name, checked: this.rule.send.includes(one.name) || receivers.length === 1 }), shown(one.name, false), h("small", {}, one.form || one.type)));
    const gone = this.rule.send.filter((name) => !receivers.some((one) => one.name === name));
    const lost = gone.map((name) => h("label", { class: "check" }, h("input", { type: "checkbox", name: "send", value: name, checked: true }), shown(name, false), h("small", { class: "error-text" }, "is not configured")));
    return h("fieldset", { class: "form-field", data: { key: "send" } }, h("legend", {}, "Tell"), boxes, lost);
  }

  isUnusual(rule) {
    return ["every", "for", "repeat", "resolved"].some((key) => rule[key] !== EMPTY_RULE[key]);
  }

  showKind() {
    const wanted = WANTED[this.kind.value];
    for (const key of ["query", "window", "above", "by", "service", "text"]) {
      this.form.querySelector(`[data-key="${key}"]`).hidden = !wanted.includes(key);
      this.fields.get(key).disabled = !wanted.includes(key);
    }
    this.countLater();
  }

  countLater() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.count(), TYPING_MS);
  }

  /** Say how many records the query matches now. */
  async count() {
    this.running?.abort();
    if (!WANTED[this.kind.value].includes("query")) return;
    const running = (this.running = new AbortController());
    const query = this.fields.get("query");
    query.removeAttribute("aria-invalid");
    const since = this.fields.get("window").value.trim() || EMPTY_RULE.window;
    try {
      const { count } = await get("/count", { q: query.value, since, store: this.rule.store }, running.signal);
      this.preview.textContent = `${formatCount(count, "matching record")} now, in the last ${since}`;
      this.preview.classList.remove("error-text");
    } catch (error) {
      if (error.name === "AbortError") return;
      if (error.parameter === "q") query.setAttribute("aria-invalid", "true");
      this.preview.textContent = error.message;
      this.preview.classList.add("error-text");
    }
  }

  async loadSearches() {
    try {
      const { searches } = await get("/searches");
      if (searches.length === 0) return;
      this.searchesByName = new Map(searches.map((one) => [one.name, one]));
      this.searches.replaceChildren(h("option", { value: "" }, "Take a saved search"), ...searches.map((one) => h("option", { value: one.name }, shown(one.name, false))));
      this.searches.hidden = false;
    } catch {
      // Without saved searches the query is written by hand.
    }
  }

  takeSearch(name) {
    const search = this.searchesByName.get(name);
    if (!search) return;
    this.fields.get("query").value = search.q;
    if (this.fields.get("name").value === "") this.fields.get("name").value = search.name.slice(0, 64);
    this.count();
  }

  values() {
    const text = (key) => this.fields.get(key).value.trim();
    const wanted = WANTED[this.kind.value];
    const found = { name: text("name"), on: this.kind.value, every: text("every") || EMPTY_RULE.every, for: text("for") || EMPTY_RULE.for, repeat: text("repeat"), resolved: this.fields.get("resolved").checked, send: [...this.form.querySelectorAll("input[name=send]:checked")].map((box) => box.value) };
    for (const key of wanted) found[key] = key === "above" ? this.fields.get(key).valueAsNumber : text(key);
    if (found.window === "") found.window = EMPTY_RULE.window;
    if (wanted.includes("query")) found.store = this.rule.store;
    return found;
  }

  async submit(event) {
    event.preventDefault();
    const values = this.values();
    for (const element of this.form.querySelectorAll("[aria-invalid]")) element.removeAttribute("aria-invalid");
    this.problem.textContent = "";
    if (values.send.length === 0) return this.complain("Choose who is told.", "send");
    try {
      const rule = this.name ? await send("PUT", `/alerts/${encodeURIComponent(this.name)}`, values) : await send("POST", "/alerts", values);
      this.dialog.close();
      announce(this.name ? "Rule saved" : "Rule made");
      this.saved(rule);
    } catch (error) {
      this.complain(error.message, error.parameter);
    }
    return null;
  }

  complain(message, key) {
    this.problem.textContent = message;
    const field = this.fields.get(key) ?? this.form.querySelector("input[name=send]");
    if (!field || !key) return;
    field.closest("details")?.setAttribute("open", "");
    field.setAttribute("aria-invalid", "true");
    field.focus();
  }
}
