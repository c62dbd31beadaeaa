/** Shows on the page what the service reports, or that it does not report. */
import { ChartBoard } from './charts.js';
import { byId, setAttribute, setText } from './dom.js';
import { TimerPercentiles } from './percentiles.js';
import { NARROW, showCards, showComparison, showNames, showNotes, showSource } from './tables.js';

/** @typedef {import('../page.ts').ReportData} ReportData */
/** @typedef {import('../view.ts').View} View */
/** @typedef {import('../watch.ts').PageEvents} PageEvents */

/** The service sends an event every second. */
const SILENCE_MS = 4_000;
const CHECK_MS = 1_000;
const RETRY_MS = 2_000;

const board = new ChartBoard();
const timers = new TimerPercentiles();

/** @type {View | undefined} */
let shown;
NARROW.addEventListener('change', () => {
  if (shown !== undefined) showComparison(shown.comparison);
});

/** @param {string} text @param {string} tone @param {string} id */
function say(text, tone, id = 'headline') {
  setText(byId(id), text);
  setAttribute(byId(id), 'data-tone', tone);
}

/** @param {View} view */
function show(view) {
  const { status } = view;
  shown = view;
  say(view.headline.text, view.headline.tone);
  say(view.proof.text, view.proof.tone, 'proof');
  setText(
    byId('about'),
    `pipeline ${status.pipeline}, slice ${status.slice}, instance ${status.instance}, version ${status.version}, since ${status.startedAt.slice(0, 19).replace('T', ' ')} UTC`,
  );
  document.body.classList.remove('stale');
  showSource(view.source);
  showCards(view.cards);
  showComparison(view.comparison);
  showNotes(view.notes);
  showNames(status.topNames, timers.known);
}

/** @param {View} view */
async function showLive(view) {
  show(view);
  const areNew = await timers.ask(view.status.topNames);
  if (areNew && shown !== undefined) showNames(shown.status.topNames, timers.known);
}

class Connection {
  constructor() {
    this.heardAt = Date.now();
    /** @type {EventSource | undefined} */
    this.source = undefined;
    this.connect();
    setInterval(() => this.check(), CHECK_MS);
  }

  connect() {
    this.source?.close();
    const source = new EventSource('api/events');
    this.source = source;
    /** @template {keyof PageEvents} K @param {K} name @param {(data: PageEvents[K]) => void} take */
    const on = (name, take) =>
      source.addEventListener(name, (event) => {
        this.heardAt = Date.now();
        take(JSON.parse(event.data));
      });
    on('opening', ({ view, charts }) => {
      void showLive(view);
      board.begin(view.comparison.sinks, charts);
    });
    on('view', (view) => {
      void showLive(view);
      // Before the service is attached to the bus, its status has no sinks.
      if (!board.isOf(view.comparison.sinks)) board.begin(view.comparison.sinks, board.charts);
    });
    on('moment', (moment) => board.add(moment));
    // If it is refused because too many pages are open, it does not reconnect on its own.
    source.addEventListener('error', () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.connect(), RETRY_MS);
    });
  }

  check() {
    if (Date.now() - this.heardAt < SILENCE_MS) return;
    const since = new Date(this.heardAt).toLocaleTimeString('en-GB');
    say(`The service has not answered since ${since}. Trying again …`, 'bad');
    document.body.classList.add('stale');
  }
}

/** @param {ReportData} report */
function showReport({ view, charts, from, to, url }) {
  show(view);
  const minutes = (Date.parse(to) - Date.parse(from)) / 60_000;
  say(
    `Report of ${url}: ${from.slice(0, 19).replace('T', ' ')} to ${to.slice(11, 19)} UTC, ${minutes.toFixed(1)} minutes. At the end: ${view.headline.text}`,
    view.headline.tone,
  );
  setText(byId('charts-title'), 'During the report');
  byId('footer').remove();
  board.begin(view.comparison.sinks, charts);
}

const embedded = document.getElementById('report');
if (embedded === null) {
  // Addresses are relative, because a proxy may put the page under a path. They are relative to a folder.
  const { pathname, search } = location;
  if (!pathname.endsWith('/')) history.replaceState(null, '', `${pathname}/${search}`);
  new Connection();
} else showReport(JSON.parse(embedded.textContent ?? ''));
