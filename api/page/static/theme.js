/**
 * Light and dark: as the system has it, or as the reader chose: first.js has put that in place.
 *
 * Exports: color, current, toggle, onChange
 */

const KEY = 'tidemark-theme';
const system = matchMedia('(prefers-color-scheme: dark)');
/** @type {Set<() => void>} */
const listeners = new Set();

/** What is shown now. @returns {'light' | 'dark'} */
export function current() {
  const chosen = document.documentElement.dataset.theme;
  return chosen === 'light' || chosen === 'dark' ? chosen : system.matches ? 'dark' : 'light';
}

/** Shows the other one, and remembers it. */
export function toggle() {
  const next = current() === 'dark' ? 'light' : 'dark';
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // Without storage the choice holds until the page is closed.
  }
  changed();
}

/** Calls after each change, of either origin; the answer stops that. @param {() => void} listener */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * A colour of the style sheet as a canvas takes it: `color('--accent')`.
 * @param {string} name
 * @returns {string}
 */
export function color(name) {
  const probe = document.createElement('span');
  probe.style.setProperty('color', `var(${name})`);
  probe.hidden = true;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function changed() {
  for (const listener of listeners) listener();
}

system.addEventListener('change', changed);
