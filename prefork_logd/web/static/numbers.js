/**
 * Writes numbers for people.
 *
 * Does not know what is counted.
 */

/** Return a number with separators; "-" for null. */
export function number(value) {
  return value === null || value === undefined ? "-" : Math.round(Number(value)).toLocaleString("en");
}

/** Return a number with its noun, such as "1 group" or "2,000 groups"; the plural has an s. */
export function formatCount(value, noun) {
  return `${number(value)} ${noun}${Number(value) === 1 ? "" : "s"}`;
}
