import { amount, counted } from '../../base/number-format.ts';
import { printable, printableJson } from '../../base/printable.ts';
import { loadConfig, WITHOUT_SINKS } from '../../config/config.ts';
import type { CardinalityAnswer, Spread } from '../../recent/cardinality.ts';
import { otherBuses, otherBusTexts } from '../ctl-report.ts';
import { print, warn } from '../terminal/output.ts';
import { exitCodeOf, stopSignal } from '../terminal/stop-signal.ts';
import { renderTable } from '../terminal/table.ts';
import { type Addressed, askInstances } from './instances.ts';

interface CardinalityOptions extends Addressed {
  readonly json?: true;
}

const NEVER = '-';

export default async function runCardinality(options: CardinalityOptions): Promise<void> {
  stopSignal();
  const config = await loadConfig(process.env, WITHOUT_SINKS);
  const asking = { operation: 'cardinality', unaddressed: 'all', request: {} } as const;
  const { replies } = await askInstances(asking, options, config);
  const answers = replies.flatMap(({ instance, body }) =>
    body?.ok ? [{ instance, answer: body.result as CardinalityAnswer }] : [],
  );
  warn(otherBusTexts(replies));
  for (const { instance, body } of replies) {
    if (body === undefined) warn([`${instance} did not answer in time`]);
    else if (!body.ok) warn([printable(`${instance}: ${body.error.message}`)]);
  }
  answers.sort((a, b) => b.answer.series.count - a.answer.series.count);
  const [most] = answers;
  if (most === undefined) {
    process.exitCode = exitCodeOf(1);
    process.exit();
  }
  const text = options.json
    ? `${printableJson({ instance: most.instance, answered: answers.length, ...most.answer, ...otherBuses(replies) }, 2)}\n`
    : toText(most.instance, most.answer);
  await print(text, exitCodeOf(0));
  process.exit();
}

function toText(instance: string, answer: CardinalityAnswer): string {
  const { since, boundary, series, names, keys, folded = [] } = answer;
  const spread = ({ count, added, addedPerMinute, growingSince }: Spread) => [
    String(count),
    String(added),
    amount(addedPerMinute),
    growingSince ?? NEVER,
  ];
  const header = ['new', 'new/min', 'growing since'];
  const byName = names.map(({ name, types, keys: widest, ...rest }) => [
    printable(name),
    types.join(','),
    ...spread(rest),
    widest.map(({ key, values }) => `${printable(key)} (${values})`).join(', '),
  ]);
  const byKey = keys.map(({ key, series: having, ...rest }) => [
    printable(key),
    ...spread(rest),
    String(having),
  ]);
  const { count, added } = series;
  const lines = [
    `${instance}: ${counted(count, 'series', 'series')} in the windows from ${since ?? NEVER} to ${boundary ?? NEVER}, ${added} of them new`,
    '',
    renderTable(['name', 'type', 'series', ...header, 'dimensions with the most values'], byName),
    '',
    renderTable(['dimension', 'values', ...header, 'series'], byKey),
    ...(folded.length === 0 ? [] : ['', 'Folded, because there were too many series:']),
    ...folded.map(({ name, type, key, values, looked, samples, lastAt }) => {
      const why =
        key === null ? '' : `; ${printable(key)} has ${counted(values, 'value')} in ${looked} of its series`;
      return `${printable(name)} (${type}): ${counted(samples, 'sample')}, last at ${lastAt}${why}`;
    }),
  ];
  return `${lines.join('\n')}\n`;
}
