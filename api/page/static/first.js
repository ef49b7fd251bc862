// Before anything is drawn: the theme that the reader chose. Not a module, because those come after the first drawing.
try {
  const chosen = localStorage.getItem('tidemark-theme');
  if (chosen) document.documentElement.dataset.theme = chosen;
} catch {
  // Without storage the system's choice holds.
}
