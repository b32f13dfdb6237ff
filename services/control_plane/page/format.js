// @ts-check
// Numbers, durations and times as text.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0, signDisplay: "negative" });
const INSTANT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

/** Shown in place of a missing value. */
export const NONE = "–";

/**
 * A whole number with separators.
 * @param {number | null | undefined} value
 */
export function count(value) {
  return value === null || value === undefined ? NONE : WHOLE.format(value);
}

/**
 * A number with a fixed number of decimals; what rounds to zero has no sign.
 * @param {number} value
 * @param {number} decimals
 */
export function fixed(value, decimals) {
  const text = value.toFixed(decimals);
  return Number(text) === 0 ? text.replace("-", "") : text;
}

/**
 * A large number with a letter for its power of thousand.
 * @param {number} value
 */
export function si(value) {
  const power = Math.min(4, Math.max(0, Math.floor(Math.log10(Math.abs(value) || 1) / 3 + 1e-9)));
  const scaled = Number((value / 1000 ** power).toPrecision(4)) + 0; // + 0: no minus zero
  return `${power ? scaled : WHOLE.format(value)}${["", "k", "M", "G", "T"][power]}`;
}

/**
 * Three significant digits, however small the number is.
 * @param {number | null | undefined} value
 */
export function precise(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  return size > 0 && size < 0.001 ? value.toExponential(2).replace(/[.]?0*e/, "e") : String(Number(value.toPrecision(3)) + 0);
}

/**
 * Three or four significant digits.
 * @param {number | null | undefined} value
 */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 100) return WHOLE.format(value);
  if (size >= 10) return fixed(value, 1);
  if (size >= 1 || size === 0) return fixed(value, 2);
  return size >= 0.001 ? fixed(value, 3) : value.toExponential(1);
}

/**
 * A measured entropy in nats.
 * @param {number | null | undefined} value
 */
export function level(value) {
  return value === null || value === undefined || !Number.isFinite(value) ? NONE : fixed(value, 3);
}

/**
 * A target in nats: three decimals, or as many as were given.
 * @param {number | null | undefined} value
 */
export function nats(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const given = String(Number(fixed(value, 6)));
  return given.length > fixed(value, 3).length ? given : fixed(value, 3);
}

/**
 * A duration in its two largest units.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/**
 * How long ago, in whole seconds or larger units.
 * @param {number | null | undefined} seconds
 */
export function age(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  return seconds < 10 ? `${Math.max(0, Math.floor(seconds))} s ago` : `${duration(seconds)} ago`;
}

/**
 * Date and local time.
 * @param {string} instant
 */
export function when(instant) {
  return INSTANT.format(new Date(instant));
}

/**
 * Date and local time without year and seconds; only the time for today.
 * @param {string | number} instant
 */
export function brief(instant) {
  const date = new Date(instant);
  return (date.toDateString() === new Date().toDateString() ? CLOCK : DAY).format(date);
}
