/**
 * Tells who reads the page: the server has written it into the document.
 *
 * Does not know what a reader may do: the views leave out what would be refused.
 */

const { role } = document.documentElement.dataset;

/** Whether the reader may change rules, groups of errors and searches of others. */
export const isAdmin = role === "admin";

/** Whether the reader came by a share link, which shows records only. */
export const isShared = role === "share";
