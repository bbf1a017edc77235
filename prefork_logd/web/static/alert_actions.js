/**
 * Offers what people do with a rule: silence it, test it, change it, remove it.
 *
 * Does not know what else is shown of the rule.
 */

import { send } from "./api.js";
import { isSilenced } from "./alert_texts.js";
import { announce, button, h, shown } from "./dom.js";
import { attachMenu, menuItem } from "./menu.js";

const SILENCES = [
  [3600, "For an hour"],
  [8 * 3600, "For 8 hours"],
  [86400, "For a day"],
  [7 * 86400, "For a week"],
];

function pathOf(rule) {
  return `/alerts/${encodeURIComponent(rule.name)}`;
}

/** The buttons of one rule. `actions`: changed (gets the rule), removed, edit (gets the rule). */
export class AlertActions {
  constructor(actions) {
    this.actions = actions;
    this.rule = null;
    this.silence = button({ text: "Silence", name: "silence" });
    this.unsilence = button({ text: "End the silence", name: "bell", onclick: () => this.setSilence(0, "Silence ended") });
    this.test = button({ text: "Test", title: "Send a test notice to each receiver", onclick: () => this.runTest() });
    this.edit = button({ text: "Change", onclick: () => this.actions.edit(this.rule) });
    this.remove = button({ text: "Remove", name: "trash" });
    this.results = h("div", { class: "test-results", role: "status" });
    this.buttons = h("div", { class: "changes", role: "group", "aria-label": "Change the rule", hidden: true }, this.silence, this.unsilence, this.test, this.edit, this.remove);
    attachMenu(this.silence, "Silence", (menu, close) => this.fillSilence(menu, close));
    attachMenu(this.remove, "Remove", (menu, close) => this.fillRemove(menu, close));
  }

  /** Show the buttons that fit a rule. */
  show(rule, isAdmin, now_s) {
    if (rule?.name !== this.rule?.name) this.results.replaceChildren();
    this.rule = rule;
    this.buttons.hidden = !isAdmin || rule === null;
    if (rule === null) return;
    this.unsilence.hidden = !isSilenced(rule, now_s);
    this.edit.hidden = this.remove.hidden = rule.source !== "page";
  }

  async setSilence(for_s, told) {
    try {
      this.actions.changed(await send("POST", `${pathOf(this.rule)}/silence`, { for_s }));
      announce(told);
    } catch (error) {
      announce(error.message);
    }
  }

  fillSilence(menu, close) {
    const silence = (for_s, text) => () => {
      close();
      this.setSilence(for_s, `Silenced ${text.toLowerCase()}`);
    };
    menu.append(h("h2", {}, "Tell nobody"), ...SILENCES.map(([for_s, text]) => menuItem({ text, onclick: silence(for_s, text) })), h("p", { class: "menu-note" }, "The rule is still evaluated; its incidents are listed."));
  }

  fillRemove(menu, close) {
    const remove = async () => {
      close();
      try {
        await send("DELETE", pathOf(this.rule));
        announce("Rule removed");
        this.actions.removed();
      } catch (error) {
        announce(error.message);
      }
    };
    menu.append(h("h2", {}, "Remove the rule"), h("p", { class: "menu-note" }, "Nobody is told of it any more. Its incidents stay."), button({ text: "Remove it", kind: "primary", onclick: remove }));
  }

  async runTest() {
    const { rule } = this;
    this.test.disabled = true;
    this.results.replaceChildren(h("p", {}, "Sending a test notice to each receiver"));
    try {
      const { results } = await send("POST", `${pathOf(rule)}/test`);
      if (rule.name === this.rule?.name) this.results.replaceChildren(h("h3", {}, "Test"), h("ul", { class: "notices" }, results.map(resultItem)));
    } catch (error) {
      this.results.replaceChildren(h("p", { class: "error-text" }, shown(error.message, false)));
    }
    this.test.disabled = false;
  }
}

function resultItem(one) {
  const took = ` in ${Number(one.seconds).toFixed(2)} s`;
  return h("li", {}, h("span", { class: `notice ${one.ok ? "sent" : "failed"}` }, shown(one.receiver, false), one.ok ? ` sent${took}` : " failed"), one.answer ? h("small", {}, shown(one.answer.slice(0, 300), false)) : null);
}
