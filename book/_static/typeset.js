// The widgets' runtime asks for typesetting in the words of MathJax 2, and this site has
// MathJax 3: without an answer to `MathJax.Hub.Queue`, drawing a widget's label fails.
(() => {
  let mathjax;
  const Hub = { Queue: ([, , element]) => mathjax.typesetPromise?.([element]) };
  const given = window.MathJax;
  Object.defineProperty(window, "MathJax", {
    configurable: true,
    get: () => mathjax,
    set: (value) => { mathjax = Object.assign(value, { Hub }); },
  });
  if (given) window.MathJax = given;
})();
