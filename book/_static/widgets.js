// ipywidgets asks for formulae the way MathJax 2 did; the book has MathJax 3.
document.addEventListener("DOMContentLoaded", () => {
  if (!window.MathJax?.startup || window.MathJax.Hub) return;
  window.MathJax.Hub = {
    Queue: ([, , element]) =>
      window.MathJax.startup.promise.then(() => window.MathJax.typesetPromise([element])),
  };
});
