// Charts in a narrow window: panels that stand side by side are stacked, long legends broken
// into lines, and what is still too wide is narrowed. What cannot be narrowed scrolls.
(() => {
  const embed = window.vegaEmbed;
  if (!embed) return;
  const SMALLEST = 140; // pixels; a narrower panel is unreadable

  const eachView = (view, change) => {
    change(view);
    for (const key of ["hconcat", "vconcat", "concat", "layer"]) {
      (view[key] || []).forEach((inner) => eachView(inner, change));
    }
    if (view.spec) eachView(view.spec, change);
  };

  const withLegend = (spec, columns) => {
    const copy = structuredClone(spec);
    ((copy.config ||= {}).legend ||= {}).columns = columns;
    return copy;
  };

  const stacked = (spec) => {
    const copy = withLegend(spec, 2);
    eachView(copy, (view) => {
      if (view.hconcat) {
        view.vconcat = view.hconcat;
        delete view.hconcat;
      }
      if (view.concat) view.columns = 1;
    });
    return copy;
  };

  const narrowed = (spec, factor) => {
    const copy = structuredClone(spec);
    const less = (width) => Math.max(SMALLEST, Math.floor(width * factor));
    eachView(copy, (view) => {
      if (typeof view.width === "number") view.width = less(view.width);
      if (view.width && view.width.step) view.width = { step: view.width.step * factor };
    });
    const defaults = ((copy.config ||= {}).view ||= {});
    if (defaults.continuousWidth) defaults.continuousWidth = less(defaults.continuousWidth);
    return copy;
  };

  const drawnWidth = (box) => {
    const drawing = box.querySelector("svg.marks, canvas.marks");
    return drawing ? drawing.getBoundingClientRect().width : 0;
  };

  const fit = async (box, spec, options) => {
    let result = await embed(box, spec, options);
    const room = box.parentElement.clientWidth;
    const again = async (next) => {
      result.finalize();
      spec = next;
      result = await embed(box, spec, options);
    };
    if (room && drawnWidth(box) > room) await again(stacked(spec));
    for (let tries = 0; room && tries < 4 && drawnWidth(box) > room; tries += 1) {
      // The axes beside a panel keep their width, so the panels give a little more.
      await again(narrowed(spec, (room / drawnWidth(box)) * 0.95));
    }
    if (room && drawnWidth(box) > room) await again(withLegend(spec, 1));
    return result;
  };

  // The reader's slider positions survive a new fit.
  const keepSettings = (spec, from, to) => {
    for (const { name, bind } of spec.params || []) {
      if (bind && typeof bind === "object") to.signal(name, from.signal(name));
    }
    to.runAsync();
  };

  window.vegaEmbed = async (element, spec, options) => {
    const box = typeof element === "string" ? document.querySelector(element) : element;
    let result = await fit(box, spec, options);
    let room = box.parentElement.clientWidth;
    let waiting;
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      waiting = setTimeout(async () => {
        if (Math.abs(box.parentElement.clientWidth - room) < 40) return;
        room = box.parentElement.clientWidth;
        const before = result;
        result = await fit(box, spec, options);
        keepSettings(spec, before.view, result.view);
        before.finalize();
      }, 300);
    });
    return result;
  };
})();
