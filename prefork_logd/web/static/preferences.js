/**
 * Remembers choices of the reader in this browser.
 *
 * Does not know what they mean. A browser may refuse to keep anything; then a choice lasts as long as the page.
 */

const kept = new Map();

/** Return a choice; "" if there is none. */
export function preference(name) {
  if (kept.has(name)) return kept.get(name);
  try {
    return localStorage.getItem(name) ?? "";
  } catch {
    return "";
  }
}

/** Remember a choice; "" forgets it. */
export function prefer(name, value) {
  kept.set(name, value);
  try {
    if (value) localStorage.setItem(name, value);
    else localStorage.removeItem(name);
  } catch {
    // Refused: the choice lasts as long as the page.
  }
}
