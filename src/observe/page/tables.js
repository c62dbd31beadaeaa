/** The figures: facts about the source, a card for each sink, the comparison and the names. */
import { byId, fillChildren, make, setAttribute, setText } from './dom.js';

/** @typedef {import('../view.ts').View} View */
/** @typedef {import('../view.ts').Fact} Fact */
/** @typedef {import('../view.ts').SinkCard} SinkCard */
/** @typedef {import('../status.ts').Status} Status */

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
      ),
    (child, { id, kind, state, tone, detail }) => {
      setAttribute(child, 'data-tone', tone);
      setAttribute(child, 'data-sink', id);
      const [name, small] = child.querySelectorAll('h3 > *');
      const [, line, note] = child.children;
      if (!name || !small || !line || !note) return;
      setText(name, id);
      setText(small, kind === id ? '' : kind);
      setText(line, state);
      setText(note, detail);
    },
  );
}

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
export function showComparison({ sinks, rows }) {
  const table = byId('comparison');
  showHeader(table, ['measure', ...sinks]);
  fillChildren(
    /** @type {Element} */ (table.querySelector('tbody')),
    rows,
    () => make('tr', {}, make('th', { scope: 'row' }), make('td', {})),
    (row, { what, cells }) => {
      setAttribute(row, 'data-row', what);
      fillChildren(
        row,
        [{ text: what, note: '', tone: 'plain' }, ...cells],
        () => make('td', {}),
        (cell, { text, note, tone }) => {
          setText(cell, text);
          setAttribute(cell, 'data-tone', tone);
          setAttribute(cell, 'title', note);
        },
      );
    },
  );
}

/** @param {Status['topNames']} names */
export function showNames(names) {
  const table = byId('names');
  showHeader(table, ['name', 'type', 'samples/s', 'share']);
  const number = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
  fillChildren(
    /** @type {Element} */ (table.querySelector('tbody')),
    names,
    () => make('tr', {}, make('th', { scope: 'row' }), make('td', {}), make('td', {}), make('td', {})),
    (row, { name, type, samplesPerSecond, share }) => {
      const texts = [name, type, number.format(samplesPerSecond), `${number.format(100 * share)} %`];
      for (const [index, text] of texts.entries())
        setText(/** @type {Element} */ (row.children[index]), text);
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
