/**
 * How often a claim held: of what was judged, how much went beyond its threshold, against the share that was claimed.
 *
 * Exports: claimSentence, claimBadge, rangePlot, spanName
 */

import { badge, h, svg } from './dom.js';
import { percent, whole } from './format.js';

/**
 * One row of `GET /coverage` or `GET /coverage/cohorts`.
 * @typedef {{ judged: number, exceeded: number, claimed_exceedance: ?number, observed_exceedance: ?number,
 *   interval: ?[number, number], span: string }} Claim
 */

const SPANS = { day: 'the last day', week: 'the last week', month: 'the last month' };
const PLOT = { width: 160, height: 22, edge: 6 };

/** @param {string} span */
export function spanName(span) {
  return /** @type {Record<string, string>} */ (SPANS)[span] ?? span;
}

/** Whether the claim can still be believed: `held`, `more`, `fewer`, or `unknown`. @param {Claim} claim */
function judged(claim) {
  const { claimed_exceedance: claimed, interval } = claim;
  if (!claim.judged || claimed === null || interval === null || interval === undefined) return 'unknown';
  if (claimed < interval[0]) return 'more';
  return claimed > interval[1] ? 'fewer' : 'held';
}

/** @param {Claim} claim */
export function claimBadge(claim) {
  switch (judged(claim)) {
    case 'held':
      return badge('holds', 'ok', 'The claim lies within the 95 % interval of what was observed');
    case 'more':
      return badge('too many beyond', 'warning', 'More went beyond than chance explains');
    case 'fewer':
      return badge(
        'fewer beyond',
        'info',
        'Fewer went beyond than was claimed: the threshold is wider than it must be',
      );
    default:
      return badge('not judged', 'muted', 'No hour was judged in this time');
  }
}

/** In one plain sentence. @param {Claim} claim */
export function claimSentence(claim) {
  const when = spanName(claim.span);
  if (!claim.judged) return `Nothing was judged over ${when}.`;
  const hours = `Over ${when} ${whole(claim.exceeded)} of ${whole(claim.judged)} ${claim.judged === 1 ? 'hour' : 'hours'} went beyond the threshold`;
  const shares = `${percent(claim.observed_exceedance)}, and ${percent(claim.claimed_exceedance)} was claimed`;
  switch (judged(claim)) {
    case 'held':
      return `${hours}: ${shares}. That fits the claim.`;
    case 'more':
      return `${hours}: ${shares}. That is more than chance explains: incidents, or a threshold that is too tight.`;
    case 'fewer':
      return `${hours}: ${shares}. That is less than was claimed: the threshold is wider than it must be.`;
    default:
      return `${hours}.`;
  }
}

/**
 * The interval of what was observed as a bar with a dot, and the claim as a line across it; `most` is the right end.
 * @param {Claim} claim
 * @param {number} most
 */
export function rangePlot(claim, most) {
  const { claimed_exceedance: claimed, observed_exceedance: observed, interval } = claim;
  if (!claim.judged || interval === null || interval === undefined || claimed === null)
    return h('span', { class: 'muted' }, '–');
  const { width, height, edge } = PLOT;
  // A square root spreads the small shares, where the claims are.
  const at = (/** @type {number} */ share) => edge + Math.sqrt(Math.min(share / most, 1)) * (width - 2 * edge);
  const middle = height / 2;
  const text = `claimed ${percent(claimed)}, observed ${percent(observed)}, 95 % interval ${percent(interval[0])} to ${percent(interval[1])}`;
  return svg(
    'svg',
    { class: `range-plot range-${judged(claim)}`, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': text },
    svg('title', null, text),
    svg('line', { class: 'range-axis', x1: edge, x2: width - edge, y1: middle, y2: middle }),
    svg('rect', {
      class: 'range-interval',
      x: at(interval[0]),
      y: middle - 4,
      width: Math.max(at(interval[1]) - at(interval[0]), 2),
      height: 8,
      rx: 4,
    }),
    observed !== null && svg('circle', { class: 'range-observed', cx: at(observed), cy: middle, r: 4 }),
    svg('line', { class: 'range-claim', x1: at(claimed), x2: at(claimed), y1: 1, y2: height - 1 }),
  );
}
