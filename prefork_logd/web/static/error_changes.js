/**
 * Offers what people do with a group of errors: resolve, reopen, mute, assign, write a note.
 *
 * Does not know what else is shown of the group.
 */

import { send, who } from "./api.js";
import { announce, button, h, shown } from "./dom.js";
import { attachMenu, menuItem } from "./menu.js";
import { formatCount } from "./numbers.js";

const MUTE_TIMES = [
  [3600, "For an hour"],
  [8 * 3600, "For 8 hours"],
  [86400, "For a day"],
  [7 * 86400, "For a week"],
];
const MUTE_COUNTS = [10, 100, 1000];
const MOST_VERSIONS = 8;
const LONGEST_NOTE = 4000;
const SPLIT = "v:";

/** The buttons and the note of one group. `actions`: changed (gets the group after a change), split, joined (get another group). */
export class ErrorChanges {
  constructor(actions) {
    this.actions = actions;
    this.group = null;
    this.isAdmin = false;
    this.user = "";
    this.resolve = button({ text: "Resolve", kind: "primary", onclick: () => this.change({ action: "resolve" }, "Resolved") });
    this.resolveIn = button({ name: "down", label: "Resolve in a version", kind: "primary joined" });
    this.reopen = button({ text: "Reopen", onclick: () => this.change({ action: "reopen" }, "Reopened") });
    this.mute = button({ text: "Mute" });
    this.assign = button({ text: "Assign" });
    this.join = button({ text: "Join again", title: "Count its errors in the group that it was split off", onclick: () => this.regroup({ action: "join" }, "Joined with its group", this.actions.joined) });
    this.buttons = h("div", { class: "changes", role: "group", "aria-label": "Change the state" }, h("span", { class: "pair" }, this.resolve, this.resolveIn), this.reopen, this.mute, this.assign, this.join);
    this.note = h("div", { class: "note-box" });
    this.isWriting = false;
    attachMenu(this.resolveIn, "Resolve in a version", (menu, close) => this.fillVersions(menu, close));
    attachMenu(this.mute, "Mute", (menu, close) => this.fillMute(menu, close));
    attachMenu(this.assign, "Assign", (menu, close) => this.fillAssign(menu, close));
    this.show(null);
  }

  /** Find out who reads: only admins change anything. */
  async start() {
    const { role, user } = await who();
    this.isAdmin = role === "admin";
    this.user = user;
    this.show(this.group);
  }

  /** Show the buttons that fit the state of a group. */
  show(group) {
    const isOther = group?.id !== this.group?.id;
    const isSameNote = !isOther && group?.note === this.group?.note && this.note.childElementCount > 0;
    this.group = group;
    const can = this.isAdmin && group !== null;
    const isQuiet = group?.state === "muted" || group?.state === "resolved";
    this.buttons.hidden = !can;
    this.reopen.hidden = !isQuiet;
    this.resolve.parentElement.hidden = group?.state === "resolved";
    this.mute.hidden = group?.state === "resolved";
    this.join.hidden = !group?.id.includes(SPLIT);
    if (isOther) this.isWriting = false;
    if (!this.isWriting && !(isSameNote && this.noteIsFor === can)) this.showNote(can);
  }

  async change(body, told) {
    try {
      this.actions.changed(await send("POST", `/errors/${this.group.id}`, body));
      announce(told);
      return true;
    } catch (error) {
      announce(error.message);
      return false;
    }
  }

  /** Return a button that makes the errors of a place a group of their own; null if that cannot be. */
  splitButton(place, places) {
    if (!this.isAdmin || places < 2 || place.startsWith("(")) return null;
    const split = () => this.regroup({ action: "split", text: place }, `Errors of ${place} are a group of their own`, this.actions.split);
    return button({ text: "Split off", kind: "small", title: "Make its errors a group of their own", onclick: split });
  }

  /** Split or join; what is answered is another group. */
  async regroup(body, told, then) {
    try {
      const group = await send("POST", `/errors/${this.group.id}`, body);
      announce(told);
      then(group);
    } catch (error) {
      announce(error.message);
    }
  }

  fillVersions(menu, close) {
    const resolve = (version) => {
      close();
      this.change({ action: "resolve", version }, `Resolved in ${version}`);
    };
    const field = h("input", { class: "field", maxlength: 200, required: true, autocomplete: "off", placeholder: "2.5" });
    const versions = this.group.versions.slice(0, MOST_VERSIONS);
    menu.append(
      h("h2", {}, "Resolve in a version"),
      form(h("label", { class: "labelled" }, "Version with the repair", field), "Resolve", () => resolve(field.value.trim())),
      versions.length ? h("h2", {}, "Versions with this error") : "",
      ...versions.map((version) => menuItem({ text: shown(version, false), onclick: () => resolve(version) })),
      h("p", { class: "menu-note" }, "Errors of older versions do not make it regress: servers may still run them."),
    );
  }

  fillMute(menu, close) {
    const mute = (part, told) => {
      close();
      this.change({ action: "mute", ...part }, told);
    };
    const until = (more) => mute({ more }, `Muted until ${formatCount(more, "more error")}`);
    const field = h("input", { class: "field", type: "number", min: 1, max: 1e9, step: 1, required: true, placeholder: "3" });
    menu.append(
      h("h2", {}, "Mute for a time"),
      ...MUTE_TIMES.map(([for_s, text]) => menuItem({ text, onclick: () => mute({ for_s }, `Muted ${text.toLowerCase()}`) })),
      menuItem({ text: "For ever", onclick: () => mute({}, "Muted for ever") }),
      h("hr", { class: "menu-rule" }),
      h("h2", {}, "Mute until it happens again so often"),
      h("div", { class: "menu-row" }, MUTE_COUNTS.map((more) => button({ text: more.toLocaleString("en"), label: `Until ${formatCount(more, "more error")}`, kind: "small", onclick: () => until(more) }))),
      form(h("label", { class: "labelled" }, "Further errors", field), "Mute", () => until(field.valueAsNumber)),
    );
  }

  fillAssign(menu, close) {
    const assign = (text) => {
      close();
      this.change({ action: "assign", text }, text ? `Assigned to ${text}` : "Assigned to nobody");
    };
    const field = h("input", { class: "field", maxlength: 200, required: true, autocomplete: "off", value: this.group.assignee });
    menu.append(
      h("h2", {}, "Who deals with it"),
      this.user && this.user !== this.group.assignee ? menuItem({ text: "Me", note: this.user, onclick: () => assign(this.user) }) : "",
      this.group.assignee ? menuItem({ text: "Nobody", onclick: () => assign("") }) : "",
      form(h("label", { class: "labelled" }, "Name", field), "Assign", () => assign(field.value.trim())),
    );
  }

  showNote(can) {
    this.isWriting = false;
    this.noteIsFor = can;
    const text = this.group?.note ?? "";
    const edit = can ? button({ text: text ? "Edit" : "Write a note", kind: "small", onclick: () => this.writeNote() }) : null;
    this.note.replaceChildren(text ? h("p", { class: "note-text" }, shown(text)) : h("p", { class: "menu-note" }, "No note"), edit ?? "");
  }

  writeNote() {
    this.isWriting = true;
    const area = h("textarea", { class: "field", rows: 5, maxlength: LONGEST_NOTE, "aria-label": "Note" });
    area.value = this.group.note;
    const save = async () => {
      if (await this.change({ action: "note", text: area.value }, "Note saved")) this.showNote(true);
    };
    const leave = () => {
      this.showNote(true);
      this.note.querySelector("button").focus();
    };
    area.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      leave();
    });
    this.note.replaceChildren(area, h("div", { class: "state-actions" }, button({ text: "Save", kind: "primary small", onclick: save }), button({ text: "Cancel", kind: "small", onclick: leave })));
    area.focus();
  }
}

function form(content, text, submit) {
  const onsubmit = (event) => {
    event.preventDefault();
    submit();
  };
  return h("form", { class: "menu-form", on: { submit: onsubmit } }, content, button({ text, kind: "primary", type: "submit" }));
}
