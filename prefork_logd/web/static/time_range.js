/**
 * Lets the reader choose a time range and a time zone.
 *
 * Does not know what is searched in it.
 */

import { button, h, icon } from "./dom.js";
import { attachMenu, menuItem } from "./menu.js";
import { LOCAL_ZONE, RANGES, rangeText, zoneName, zones } from "./time.js";

/**
 * Make the button of a range.
 *
 * @param {HTMLButtonElement} opener
 * @param {function(): Object} current returns the state
 * @param {function(Object): void} change gets {since, until} or {tz}
 */
export function attachRange(opener, current, change) {
  attachMenu(opener, "Time range", (menu, close) => fill(menu, close, current(), change), "range");
}

/** Write the range on its button. */
export function labelRange(opener, state) {
  const text = rangeText(state.since, state.until, zoneName(state.tz));
  const zone = state.tz && state.tz !== LOCAL_ZONE ? ` ${state.tz}` : "";
  opener.replaceChildren(icon("clock"), h("span", {}, text + zone), icon("down"));
  opener.setAttribute("aria-label", `Time range: ${text}${zone}`);
}

function fill(menu, close, state, change) {
  const pick = (part) => () => {
    close();
    change(part);
  };
  const since = h("input", { class: "field", name: "since", placeholder: "2026-11-29 14:05, yesterday, 90m", value: state.since === "all" ? "" : state.since });
  const until = h("input", { class: "field", name: "until", placeholder: "now", value: state.until });
  const form = h(
    "form",
    {
      class: "menu-form",
      on: {
        submit: (event) => {
          event.preventDefault();
          pick({ since: since.value.trim() || "all", until: until.value.trim() })();
        },
      },
    },
    h("label", { class: "labelled" }, "From", since),
    h("label", { class: "labelled" }, "Until", until),
    button({ text: "Apply", kind: "primary", type: "submit" }),
  );
  const presets = RANGES.map(([value, text]) => menuItem({ text, isCurrent: value === state.since && !state.until, onclick: pick({ since: value, until: "" }) }));
  const words = [
    ["today", "Today"],
    ["yesterday", "Since yesterday"],
  ].map(([value, text]) => menuItem({ text, isCurrent: value === state.since && !state.until, onclick: pick({ since: value, until: "" }) }));
  menu.append(
    h("h2", {}, "Time range"),
    h("div", { class: "range-presets" }, presets, words),
    h("hr", { class: "menu-rule" }),
    form,
    h("hr", { class: "menu-rule" }),
    h("div", { class: "menu-form" }, h("label", { class: "labelled" }, "Time zone", zoneChoice(state.tz, (tz) => pick({ tz })()))),
  );
}

function zoneChoice(chosen, onchoose) {
  const option = (value, text) => h("option", { value, selected: value === chosen }, text);
  const named = zones().filter((name) => name !== "UTC");
  return h(
    "select",
    { class: "field", on: { change: (event) => onchoose(event.target.value) } },
    option("", `Local (${LOCAL_ZONE})`),
    option("UTC", "UTC"),
    h("optgroup", { label: "Named" }, named.map((name) => option(name, name))),
  );
}
