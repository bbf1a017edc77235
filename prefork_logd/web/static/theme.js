// Sets the chosen theme before the page is painted. A classic script, because modules run after the first paint.
(() => {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // The browser keeps nothing: the system's theme counts.
  }
})();
