// What the theme, Sphinx and Vega leave out for those who read by ear or by keyboard.
(() => {
  const NAMES = {
    ".toctree-toggle": (e) =>
      `Pages under ${e.closest("li").querySelector("a").textContent.trim()}`,
    ".vega-embed > details > summary": () => "Save this chart, or see its source",
  };
  const SCROLLING = "pre, figure.chart, .cell_output > .output, .pst-scrollable-table-container";

  // What can be scrolled sideways can be reached with the Tab key, and only then.
  const reach = (element) => {
    if (element.scrollWidth > element.clientWidth + 1) element.tabIndex = 0;
    else if (element.tabIndex === 0) element.removeAttribute("tabindex");
  };
  const sizes = new ResizeObserver((changes) => changes.forEach(({ target }) => reach(target)));

  const mend = () => {
    for (const [selector, name] of Object.entries(NAMES)) {
      for (const found of document.querySelectorAll(selector)) {
        const summary = found.closest("summary");
        if (!summary.ariaLabel) summary.ariaLabel = name(found);
      }
    }
    // These have words to show; another name would hide them.
    for (const named of document.querySelectorAll(
      ".search-button-field, details.hide > summary",
    )) {
      named.removeAttribute("aria-label");
    }
    // A signature's parameters have no terms, so they are a list and no list of definitions.
    for (const list of document.querySelectorAll("dt.sig > dl")) {
      list.setAttribute("role", "list");
      for (const item of list.children) item.setAttribute("role", "listitem");
    }
    for (const entry of document.querySelectorAll(".citation-list > .citation")) {
      entry.setAttribute("role", "listitem"); // for doc-biblioentry, which ARIA gave up
    }
    for (const element of document.querySelectorAll(SCROLLING)) sizes.observe(element);
  };

  document.addEventListener("DOMContentLoaded", () => {
    mend();
    // Charts and widgets are drawn later.
    new MutationObserver((changes) => {
      if (changes.some(({ addedNodes }) => addedNodes.length)) mend();
    }).observe(document.querySelector("main"), { childList: true, subtree: true });
  });
})();
