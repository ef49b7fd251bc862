/**
 * The last hours of a series as a line without axes, asked for when a row comes into sight.
 *
 * Exports: createSparklines
 */

import { h, svg } from './dom.js';
import { MISSING } from './format.js';
import { isAbort } from './http.js';

const HOURS = 48;
const MOST = 100;
const PAUSE_MS = 120;
const KEPT_MS = 60_000;
const WIDTH = 120;
const HEIGHT = 28;

/**
 * @param {any} http
 * @param {AbortSignal} signal
 * @param {(subjects: string[]) => void} onArrived which rows have something new to draw
 */
export function createSparklines(http, signal, onArrived) {
  /** @type {Map<string, { at: number, values: (number | null)[] | null }>} */
  const known = new Map();
  /** @type {[string, string][]} */
  let inSight = [];
  let timer = 0;

  /** @param {[string, string][]} wanted pairs of subject and metric */
  function want(wanted) {
    inSight = wanted;
    clearTimeout(timer);
    timer = setTimeout(() => void fetchMissing(), PAUSE_MS);
  }

  async function fetchMissing() {
    const now = Date.now();
    /** @type {Map<string, string[]>} */
    const byMetric = new Map();
    for (const [subject, metric] of inSight) {
      const found = known.get(`${metric} ${subject}`);
      if (found && now - found.at < KEPT_MS) continue;
      byMetric.set(metric, [...(byMetric.get(metric) ?? []), subject]);
    }
    for (const [metric, subjects] of byMetric) {
      for (let start = 0; start < subjects.length; start += MOST) await fetchSome(metric, subjects.slice(start, start + MOST));
    }
  }

  /** @param {string} metric @param {string[]} subjects */
  async function fetchSome(metric, subjects) {
    // Marked before the answer, so that scrolling on does not ask for the same again.
    const at = Date.now();
    for (const subject of subjects) known.set(`${metric} ${subject}`, { at, values: known.get(`${metric} ${subject}`)?.values ?? null });
    try {
      const { series } = await http.getJSON('/history/sparklines', { params: { subject: subjects, metric, hours: HOURS }, signal });
      for (const subject of subjects) known.set(`${metric} ${subject}`, { at, values: series[subject] ?? null });
      onArrived(subjects);
    } catch (error) {
      // The history may be away while everything else is there: the lines come when it is back.
      if (!isAbort(error) && !(error instanceof http.Problem)) throw error;
    }
  }

  /** @param {string} subject @param {string} metric */
  function draw(subject, metric) {
    const values = known.get(`${metric} ${subject}`)?.values;
    return values ? line(values) : h('span', { class: 'sparkline-none' }, MISSING);
  }

  return { want, draw, destroy: () => clearTimeout(timer) };
}

/** Of values at equal distances, null where there is none: a gap is drawn as one. @param {(number | null)[]} values */
export function line(values) {
  const present = values.filter((one) => one !== null);
  if (!present.length) return h('span', { class: 'sparkline-none' }, MISSING);
  const low = Math.min(...present);
  const range = Math.max(...present) - low;
  const step = WIDTH / Math.max(values.length - 1, 1);
  let path = '';
  let isDown = false;
  let last = [0, 0];
  values.forEach((one, index) => {
    if (one === null) {
      isDown = false;
      return;
    }
    const x = index * step;
    const y = range ? HEIGHT - 3 - ((one - low) / range) * (HEIGHT - 6) : HEIGHT / 2;
    // A lone value between gaps is a dot.
    path += `${isDown ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}${isDown ? '' : 'h.01'}`;
    isDown = true;
    last = [x, y];
  });
  return svg(
    'svg',
    { class: 'sparkline', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    svg('path', { d: path, 'vector-effect': 'non-scaling-stroke', 'stroke-linecap': 'round' }),
    svg('path', { class: 'last', d: `M${last[0].toFixed(1)} ${last[1].toFixed(1)}h.01`, 'vector-effect': 'non-scaling-stroke' }),
  );
}
