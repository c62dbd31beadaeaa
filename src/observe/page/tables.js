/** The figures: facts about the source, a card for each sink, the comparison and the names. */
import { byId, fillChildren, make, setAttribute, setText } from './dom.js';

/** @typedef {import('../view.ts').View} View */
/** @typedef {import('../view.ts').Fact} Fact */
/** @typedef {import('../sink-card.ts').SinkCard} SinkCard */
/** @typedef {import('../comparison.ts').ComparedCell} ComparedCell */
/** @typedef {import('../status.ts').Status} Status */
/** @typedef {import('./percentiles.js').TimerPercentiles} TimerPercentiles */

/** @param {readonly Fact[]} facts */
export function showSource(facts) {
  fillChildren(
    byId('source'),
    facts,
    () => make('div', {}, make('dt', {}), make('dd', { class: 'value' }), make('dd', { class: 'note' })),
    (child, { what, text, note, tone }) => {
      const [name, value, more] = /** @type {[Element, Element, Element]} */ (
        /** @type {unknown} */ (child.children)
      );
      setAttribute(child, 'data-tone', tone);
      setAttribute(child, 'data-fact', what);
      setText(name, what);
      setText(value, text);
      setText(more, note);
    },
  );
}

/** @param {readonly SinkCard[]} cards */
export function showCards(cards) {
  fillChildren(
    byId('cards'),
    cards,
    () =>
      make(
        'li',
        {},
        make('h3', {}, make('span', {}), make('small', {})),
        make('p', { class: 'state' }),
        make('p', { class: 'note' }),
        make('dl', { class: 'lines' }),
        make('dl', { class: 'measures' }),
      ),
    (child, { id, kind, state, tone, detail, lines }) => {
      setAttribute(child, 'data-tone', tone);
      setAttribute(child, 'data-sink', id);
      const [name, small] = child.querySelectorAll('h3 > *');
      const [, line, note, more] = child.children;
      if (!name || !small || !line || !note || !more) return;
      setText(name, id);
      setText(small, kind === id ? '' : kind);
      setText(line, state);
      setText(note, detail);
      showTerms(more, lines);
    },
  );
}

/** @param {Element} list @param {readonly { what: string, text: string, tone: string }[]} terms */
function showTerms(list, terms) {
  fillChildren(
    list,
    terms,
    () => make('div', {}, make('dt', {}), make('dd', {})),
    (child, { what, text, tone }) => {
      const [name, value] = child.children;
      if (!name || !value) return;
      setAttribute(child, 'data-tone', tone);
      setAttribute(child, 'data-line', what);
      setText(name, what);
      setText(value, text);
    },
  );
}

/** On a phone or in a narrow window, the sinks are cards one below the other: a table would be pushed around. */
export const NARROW = matchMedia('(max-width: 48rem)');

/**
 * @param {HTMLElement} table
 * @param {readonly string[]} header
 */
function showHeader(table, header) {
  const head = /** @type {Element} */ (table.querySelector('thead'));
  const [row] = head.children.length > 0 ? head.children : [head.appendChild(make('tr', {}))];
  fillChildren(
    /** @type {Element} */ (row),
    header,
    () => make('th', { scope: 'col' }),
    (cell, text) => setText(cell, text),
  );
}

/** @param {View['comparison']} comparison */
function showMeasures({ rows }) {
  for (const [index, list] of document.querySelectorAll('#cards .measures').entries()) {
    const terms = rows.slice(1).flatMap(({ what, cells }) => {
      const cell = cells[index];
      if (cell === undefined) return [];
      const { text, tone, best, factor } = cell;
      return [{ what, text: factor ? `${text} (${factor})` : text, tone: best ? 'best' : tone }];
    });
    showTerms(list, NARROW.matches ? terms : []);
  }
}

/** @param {View['comparison']} comparison */
export function showComparison({ sinks, rows }) {
  showMeasures({ sinks, rows });
  const table = byId('comparison');
  if (NARROW.matches) return;
  showHeader(table, ['measure', ...sinks]);
  fillChildren(
    /** @type {Element} */ (table.querySelector('tbody')),
    rows,
    () => make('tr', {}, make('th', { scope: 'row' })),
    (row, { what, cells }) => {
      setAttribute(row, 'data-row', what);
      fillChildren(
        row,
        /** @type {readonly ComparedCell[]} */ ([{ text: what, note: '', tone: 'plain' }, ...cells]),
        () => make('td', {}, make('span', {}), make('small', {})),
        (cell, { text, note, tone, best, factor }) => {
          const [value, times] = cell.children;
          if (value && times) {
            setText(value, text);
            setText(times, factor ? ` ${factor}` : best ? ' best' : '');
          } else setText(cell, text);
          setAttribute(cell, 'data-tone', best ? 'best' : tone);
          setAttribute(cell, 'title', note);
        },
      );
    },
  );
}

/**
 * @param {Status['topNames']} names
 * @param {TimerPercentiles['known']} percentiles
 */
export function showNames(names, percentiles) {
  const table = byId('names');
  // On a phone, there is no room for more.
  const hasPercentiles = percentiles.size > 0 && !NARROW.matches;
  const more = hasPercentiles ? ['p50 of 5 min', 'p99 of 5 min'] : [];
  showHeader(table, ['name', 'type', 'samples/s', 'share', ...more]);
  const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
  const digits = new Intl.NumberFormat('en', { maximumSignificantDigits: 4 });
  fillChildren(
    /** @type {Element} */ (table.querySelector('tbody')),
    names,
    () => make('tr', {}, make('th', { scope: 'row' })),
    (row, { name, type, samplesPerSecond, share }) => {
      const { p50 = null, p99 = null } = (type === 'timer' && percentiles.get(name)) || {};
      const merged = [p50, p99].map((value) => (value === null ? '' : digits.format(value)));
      const texts = [name, type, number.format(samplesPerSecond), `${number.format(100 * share)} %`];
      fillChildren(
        row,
        hasPercentiles ? [...texts, ...merged] : texts,
        () => make('td', {}),
        (cell, text) => setText(cell, text),
      );
    },
  );
}

/** @param {readonly string[]} notes */
export function showNotes(notes) {
  fillChildren(
    byId('notes'),
    notes,
    () => make('li', {}),
    (child, text) => setText(child, text),
  );
}
