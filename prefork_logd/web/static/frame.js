/**
 * Fills the bar above every view: theme, keys, the user.
 *
 * Does not know the views.
 */

import { who } from "./api.js";
import { button, h } from "./dom.js";
import { showKeys } from "./keyboard.js";
import { attachMenu, menuItem } from "./menu.js";
import { prefer } from "./preferences.js";
import { isShared } from "./rights.js";

const THEMES = [
  ["", "As the system"],
  ["light", "Light"],
  ["dark", "Dark"],
];

function chooseTheme(name) {
  if (name) {
    document.documentElement.dataset.theme = name;
  } else {
    delete document.documentElement.dataset.theme;
  }
  prefer("theme", name);
}

function fillThemes(menu, close) {
  const chosen = document.documentElement.dataset.theme ?? "";
  const choose = (name) => () => {
    chooseTheme(name);
    close();
  };
  menu.append(h("h2", {}, "Theme"), ...THEMES.map(([name, text]) => menuItem({ text, isCurrent: name === chosen, onclick: choose(name) })));
}

async function fillUser(menu) {
  if (isShared) {
    menu.append(
      h("p", { class: "menu-note" }, "You see the records of a share link."),
      menuItem({ text: "Log in", note: "to see more", href: `/login?next=${encodeURIComponent(location.pathname + location.search)}` }),
      h("form", { method: "post", action: "/logout" }, menuItem({ text: "Forget the link", type: "submit" })),
    );
    return;
  }
  const note = h("p", { class: "menu-note" }, "Loading");
  menu.append(note);
  try {
    const session = await who();
    note.textContent = `${session.user || "Not logged in"}, ${session.role}`;
    menu.append(h("form", { method: "post", action: "/logout" }, menuItem({ text: "Log out", type: "submit" })));
  } catch (error) {
    note.textContent = error.message;
  }
}

/** Fill the bar. */
export function fillFrame() {
  const theme = button({ name: "theme", label: "Theme", kind: "quiet" });
  const user = button({ name: "user", label: "User", kind: "quiet" });
  const keys = button({ name: "help", label: "Keys", kind: "quiet", onclick: showKeys });
  document.getElementById("bar-end").append(keys, theme, user);
  attachMenu(theme, "Theme", fillThemes);
  attachMenu(user, "User", fillUser);
}
