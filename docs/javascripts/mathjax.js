window.MathJax = {
  tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]], processEscapes: true, tags: "none" },
  options: { ignoreHtmlClass: ".*|", processHtmlClass: "arithmatex" },
};
