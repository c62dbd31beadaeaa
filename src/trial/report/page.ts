/** The report of a trial: an HTML file that loads nothing and runs nothing. The verdict comes first, in words. Pure. */
import {
  amount,
  bytes,
  counted,
  milliseconds,
  NO_VALUE,
  perSecond,
  seconds,
} from '../../base/number-format.ts';
import type { StoreResult, TrialResult } from '../result.ts';
import { geometricMean } from '../statistics.ts';
import { askedQuestions, hotRunOf, verdictOf } from '../verdict.ts';
import { barChart, type ChartBar, type ChartLine, lineChart, markOf, styleOf } from './charts.ts';
import { element, escaped } from './html.ts';
import { STYLE } from './style.ts';
import { groupsOf, type ReportCell, type ReportGroup, timesOf, waited, withoutTime } from './table.ts';

export function trialReport(trial: TrialResult): string {
  const { stores, traffic } = trial;
  const names = stores.map(({ id }) => id);
  const title = `Trial of ${names.join(', ')}`;
  const about = `${trial.at}, ${counted(traffic.points, 'point')} of ${amount(traffic.series)} series from ${traffic.from} to ${traffic.to}`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
${element('title', `metrics-fanout: ${title}`)}
<link rel="icon" href="data:,">
<style>${STYLE}</style>
</head>
<body>
<header>
${element('h1', title)}
${element('p', about, 'class="quiet"')}
</header>
<main>
${verdict(trial)}
<h2>What was tried</h2>
${facts(trial)}
<h2>Side by side</h2>
${table('The best of each row is in bold; the others are so many times slower, larger or dearer.', names, groupsOf(trial))}
<h2>Charts</h2>
${legend(names)}
<div class="charts">
${charts(trial).join('\n')}
</div>
${askedQuestions(trial).length > 0 ? `<h2>All times of the questions</h2>\n${table('p50, p95, p99, and answers a second. Cold: once, over a new connection, before all others.', names, timesOf(trial))}` : ''}
<h2>How to read it</h2>
${notes(trial)}
</main>
</body>
</html>
`;
}

function verdict(trial: TrialResult): string {
  const said = verdictOf(trial);
  const sentences = said.map(({ text, tone }) => element('li', text, `class="${tone}"`));
  // No green beside what is wrong.
  const worst = (['bad', 'warn'] as const).find((tone) => said.some((one) => one.tone === tone));
  return `<ul class="verdict${worst === undefined ? '' : ` ${worst}-edge`}" aria-label="Verdict">${sentences.join('\n')}</ul>`;
}

function facts({ stores, machine, program, traffic, command, settings, ...trial }: TrialResult): string {
  const commit = program.commit === null ? '' : `, commit ${program.commit}`;
  const rows: [string, string][] = [
    ...stores.map(({ id, kind, version, endpoint }): [string, string] => [
      id,
      `${version ?? `${kind}, version not told`}, at ${endpoint}`,
    ]),
    [
      'machine',
      `${counted(machine.cores, 'core')} (${machine.cpu}), ${bytes(machine.memoryBytes)}, ${machine.os}; clients and writers run here`,
    ],
    ['program', `metrics-fanout ${program.version}${commit}, Node.js ${program.node}`],
    [
      'traffic',
      `${counted(traffic.windows, 'window')} of ${seconds(traffic.windowMs / 1000)}, ${perSecond(traffic.pointsPerSecond)} points, from ${counted(traffic.messages, 'message')}`,
    ],
    [
      'time',
      `${seconds(trial.seconds)} in all, ${seconds(trial.secondsEach)} for each rung and each question`,
    ],
    ...(trial.without.length > 0 ? [['left out', trial.without.join(', ')] as [string, string]] : []),
  ];
  const list = rows
    .map(([term, text]) => `<div>${element('dt', term)}${element('dd', text)}</div>`)
    .join('\n');
  const variables = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
  const again = `<p class="quiet again">To run it again on the same windows, while the stream holds them: <code>${escaped([...variables, command].join(' '))}</code></p>`;
  return `<dl class="facts">${list}</dl>\n${again}`;
}

function legend(names: readonly string[]): string {
  const items = names.map(
    (name, index) => `<li><span class="fill-${styleOf(index)}">${markOf(index)}</span> ${escaped(name)}</li>`,
  );
  return `<ul class="legend">${items.join('')}</ul>`;
}

function table(caption: string, names: readonly string[], groups: readonly ReportGroup[]): string {
  const head = ['', ...names].map((name) => element('th', name, 'scope="col"')).join('');
  const bodies = groups.map(({ title, rows }) => {
    const heading = element('th', title, `scope="rowgroup" colspan="${names.length + 1}"`);
    const lines = rows.map(
      ({ what, cells }) => `<tr>${element('th', what, 'scope="row"')}${cells.map(cell).join('')}</tr>`,
    );
    return `<tbody><tr>${heading}</tr>${lines.join('\n')}</tbody>`;
  });
  return `${element('p', caption, 'class="quiet about"')}<section class="scroll" tabindex="0" aria-label="${escaped(caption)}"><table><thead><tr>${head}</tr></thead>${bodies.join('\n')}</table></section>`;
}

/** Longer text than this is wrapped. */
const SHORT = 24;

function cell({ text, note, tone }: ReportCell): string {
  const classes = [...(tone === 'plain' ? [] : [tone]), ...(text.length > SHORT ? ['words'] : [])];
  const small = note === '' ? '' : element('small', note);
  return `<td${classes.length > 0 ? ` class="${classes.join(' ')}"` : ''}>${escaped(text)}${small}</td>`;
}

function figure(caption: string, note: string, chart: string): string {
  return `<figure><figcaption>${escaped(caption)} ${element('small', note)}</figcaption>${chart}</figure>`;
}

function charts(trial: TrialResult): string[] {
  const { stores } = trial;
  return [
    ...(askedQuestions(trial).length > 0 ? [questionChart(trial), ...clientsChart(trial)] : []),
    ...(stores.some(({ ingest }) => ingest) ? [ingestChart(stores)] : []),
    ...(stores.some(({ freshness }) => freshness) ? [freshnessChart(stores)] : []),
  ];
}

function bar(store: number, name: string, value: number | undefined, text: string): ChartBar {
  return { store, name, value, text };
}

function questionChart(trial: TrialResult): string {
  const { stores } = trial;
  const groups = askedQuestions(trial).map(({ id, text }) => ({
    label: text,
    bars: stores.map((store, index) => {
      const asked = store.questions.find((question) => question.id === id)?.asked;
      const run = hotRunOf(asked);
      if (run !== undefined) return bar(index, store.id, run.p50, milliseconds(run.p50));
      return bar(index, store.id, undefined, (withoutTime(asked)?.text ?? NO_VALUE).split(':')[0]!);
    }),
  }));
  const label = 'p50 of each question with 8 clients';
  return figure(
    'Questions',
    'p50 with 8 clients; shorter is better; each step of the length is a factor',
    barChart(label, groups, true),
  );
}

function clientsChart({ stores, questions }: TrialResult): string[] {
  const able = stores.filter(({ questions: own }) => own.some(({ asked }) => asked.kind === 'equal'));
  const runs = able.map(
    ({ questions: own }) =>
      new Map(own.map(({ id, asked }) => [id, asked.kind === 'equal' ? asked.hot : []] as const)),
  );
  let clients = [...new Set(runs.flatMap((own) => [...own.values()].flat().map((run) => run.clients)))];
  clients.sort((a, b) => a - b);
  // A store would look faster with more clients if only its fast answers were left with them.
  const answered = () =>
    questions.filter(({ id }) =>
      runs.every((own) => clients.every((count) => own.get(id)?.some((run) => run.clients === count))),
    );
  while (clients.length > 0 && answered().length === 0) clients = clients.slice(0, -1);
  if (clients.length === 0) return [];
  const common = answered();
  const about = `geometric mean of ${common.length} of ${counted(questions.length, 'question')}: those that all stores answered by as many clients`;
  return (['p50', 'p99'] as const).map((which) => {
    const lines = able.map((store, index): ChartLine => {
      const timeOf = (id: string, count: number) =>
        Math.max(runs[index]!.get(id)!.find((run) => run.clients === count)![which], 1e-3);
      const points = clients.map((x) => ({ x, y: geometricMean(common.map(({ id }) => timeOf(id, x))) }));
      return { store: stores.indexOf(store), name: store.id, points };
    });
    const label = `${which} of the answers by number of clients`;
    const chart = lineChart(lines, { label, unit: 'clients', isLog: true, format: milliseconds });
    return figure(`Latency over clients: ${which}`, about, chart);
  });
}

function ingestChart(stores: readonly StoreResult[]): string {
  const lines = stores.flatMap((store, index): ChartLine[] => {
    const points = (store.ingest?.rungs ?? []).map(({ writers, pointsPerSecond }) => ({
      x: writers,
      y: pointsPerSecond,
    }));
    return points.length === 0 ? [] : [{ store: index, name: store.id, points }];
  });
  const label = 'points a second by number of writers';
  const chart = lineChart(lines, { label, unit: 'writers', isLog: false, format: (value) => amount(value) });
  return figure(
    'Ingest',
    'points a second; higher is better; a single point: it takes one write at a time',
    chart,
  );
}

function freshnessChart(stores: readonly StoreResult[]): string {
  const groups = (['acknowledged', 'returned'] as const).map((which) => ({
    label: which === 'returned' ? 'until a query returned all rows, p95' : 'until it was acknowledged, p95',
    bars: stores.map((store, index) => {
      const value = store.freshness?.[which].p95;
      return bar(index, store.id, value, value === undefined ? 'not measured' : waited(value));
    }),
  }));
  return figure(
    'Freshness',
    'of single windows, after LATENESS; shorter is better',
    barChart('Freshness', groups, true),
  );
}

function notes({ stores, traffic, questions }: TrialResult): string {
  const texts = [
    'An answer is compared with the truth, which is computed from the stream, before any time counts. Sums may differ in the last digits, because stores add in any order.',
    'Latencies are those of a client in this program, which asks again as soon as it has its answer. They include the client, and the wait for its turn.',
    'Stores are asked after their own compaction, where it can be asked for. The service writes to them all the time, so they answer as at a quiet hour.',
    ...(questions.some(({ id }) => id === 'highest-p99')
      ? [
          'Percentiles of windows cannot be merged into one of a day, and no store holds what they were made from. So the question is for the highest.',
        ]
      : []),
    ...traffic.remarks,
    ...stores.flatMap(({ id, money }) => (money === null ? [] : [`${id}, money: ${money.assumption}.`])),
    ...stores.flatMap(({ id, remarks }) => remarks.map((remark) => `${id}: ${remark}.`)),
    ...stores.flatMap(({ id, proof }) => (proof?.examples ?? []).map((example) => `${id}: ${example}.`)),
  ];
  return `<ul class="notes quiet">${texts.map((text) => element('li', text)).join('\n')}</ul>`;
}
