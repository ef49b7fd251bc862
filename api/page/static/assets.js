/**
 * Files of others that only some views need, fetched when the first of them is shown and checked against their digest.
 *
 * Exports: chartLibrary
 */

/** @type {Promise<any> | null} */
let loading = null;

/**
 * The constructor of uPlot, with its style sheet in place.
 * @returns {Promise<any>}
 */
export function chartLibrary() {
  loading ??= Promise.all([added('script', 'chart-script'), added('link', 'chart-style')]).then(
    () => /** @type {any} */ (window).uPlot,
    (error) => {
      loading = null;
      throw error;
    },
  );
  return loading;
}

/** @param {'script' | 'link'} tag @param {string} name the `<meta>` that says where it is and what its digest must be */
function added(tag, name) {
  const meta = /** @type {HTMLMetaElement} */ (document.querySelector(`meta[name="${name}"]`));
  const element = document.createElement(tag);
  element.integrity = meta.dataset.integrity ?? '';
  if (element instanceof HTMLScriptElement) element.src = meta.content;
  else Object.assign(element, { rel: 'stylesheet', href: meta.content });
  return new Promise((resolve, reject) => {
    element.addEventListener('load', () => resolve(undefined));
    element.addEventListener('error', () => {
      element.remove();
      reject(new Error('The charting library did not arrive as it was built: reload the page.'));
    });
    document.head.append(element);
  });
}
