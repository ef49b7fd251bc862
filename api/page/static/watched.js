/**
 * Where what belongs to a subject is asked for, and how its metrics are measured.
 *
 * Exports: subjectPath, predictPath, statsPath, unitOf, HOUR_MS
 */

import { subjectParts } from './format.js';

export const HOUR_MS = 3_600_000;

const UNITS = { 'average-response-time': 'ms', 'error-rate': '%', 'timeout-error-rate': '%', calls: 'calls' };

/** `/billers/B1` or `/models/Llama/v1`. @param {string} subject */
export function subjectPath(subject) {
  const { kind } = subjectParts(subject);
  return kind === 'model' ? `/models/${idPath(subject)}` : `/billers/${idPath(subject)}`;
}

/** @param {string} subject @param {string} metric */
export function predictPath(subject, metric) {
  const { kind } = subjectParts(subject);
  return `/metrics/predict/${kind === 'model' ? 'gauges/' : ''}${encodeURIComponent(metric)}/${idPath(subject)}`;
}

/** @param {string} subject */
export function statsPath(subject) {
  return subjectParts(subject).kind === 'model' ? `/stats/${idPath(subject)}` : `/stats${subjectPath(subject)}`;
}

/** The unit where only the metric is known; gauges have none. @param {string} metric */
export function unitOf(metric) {
  return /** @type {Record<string, string>} */ (UNITS)[metric] ?? '';
}

/** A model's name ends at the first slash, and everything behind it is its version. @param {string} subject */
function idPath(subject) {
  const { kind, id } = subjectParts(subject);
  if (kind !== 'model') return encodeURIComponent(id);
  const slash = id.indexOf('/');
  return `${encodeURIComponent(id.slice(0, slash))}/${encodeURIComponent(id.slice(slash + 1))}`;
}
