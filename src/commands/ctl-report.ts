/** The answers of instances, as JSON and as text. */

import { amount, NO_VALUE } from '../base/number-format.ts';
import { printable, printableJson } from '../base/printable.ts';
import type { Reply } from '../control/client.ts';
import type { OperationName } from '../control/request.ts';
import type { TaskReport } from '../control/tasks.ts';
import type { ChangeFacts, ListFacts } from '../deliver/checkpoint-facts.ts';
import { namesText } from '../observe/comparison.ts';
import { inputRemarks, rejectionsExplained } from '../observe/input-remarks.ts';
import { longerText, sinkCard, troubleText, unchosenText } from '../observe/sink-card.ts';
import type { SinkStatus, Status } from '../observe/status.ts';
import { stateOf } from '../observe/view.ts';
import { changeText, listText } from './checkpoint-report.ts';
import { type Cell, renderTable } from './terminal/table.ts';
import { differencesInWords } from './verify-words.ts';

/** How an instance was reached that is not on the bus. */
const VIA = { bus: '', http: ' (over HTTP)', socket: ' (over its socket)' } as const;

/** `task`: how the awaited task ended; `unknown` if no instance reported it. */
export interface Outcome {
  readonly reply: Reply;
  readonly task?: TaskReport | 'unknown';
}

export function outcomesJson(outcomes: readonly Outcome[]): string {
  const answers = outcomes.map(({ reply: { instance, via, body, otherBus }, task }) => ({
    ...(body ?? { instance, ok: false, error: { code: 'no_answer', message: 'it did not answer in time' } }),
    via,
    ...(otherBus === undefined ? {} : { otherBus }),
    ...(task === undefined ? {} : { task: task === 'unknown' ? null : task }),
  }));
  return `${printableJson({ answers }, 2)}\n`;
}

export function outcomesText(operation: OperationName, outcomes: readonly Outcome[], width?: number): string {
  const refused = outcomes.filter(({ reply }) => !reply.body?.ok);
  const answered = outcomes.filter(({ reply }) => reply.body?.ok);
  const parts: string[] = [];
  if (answered.length > 0) {
    if (operation === 'status') parts.push(statusTable(answered, width));
    else if (operation === 'config') parts.push(...answered.map((outcome) => settingsTable(outcome, width)));
    else if (operation === 'checkpoint.list')
      parts.push(
        ...answered.map((outcome) => titled(outcome, listText(resultOf<ListFacts>(outcome), { width }))),
      );
    else {
      const changes = answered.filter((outcome) => changeOf(outcome) !== undefined);
      const others = answered.filter((outcome) => !changes.includes(outcome));
      parts.push(...changes.map((outcome) => titled(outcome, changeTold(outcome))));
      if (others.length > 0) parts.push(outcomeTable(others, width));
    }
  }
  parts.push(...otherBusTexts(answered.map(({ reply }) => reply)));
  if (refused.length > 0) parts.push(outcomeTable(refused, width));
  return `${parts.join('\n\n')}\n`;
}

/** An answer from another bus must not pass for one from this. */
export function otherBusTexts(replies: readonly Reply[]): string[] {
  return replies.flatMap(({ instance, otherBus }) =>
    otherBus === undefined
      ? []
      : [printable(`${instance}: is on ANOTHER BUS, ${otherBus.join(',')}, not on that of NATS_URL here.`)],
  );
}

/** The same for programs: nothing if all answers are from the bus of NATS_URL. */
export function otherBuses(replies: readonly Reply[]): {
  readonly otherBus?: readonly { readonly instance: string; readonly urls: readonly string[] }[];
} {
  const others = replies.flatMap(({ instance, otherBus: urls }) =>
    urls === undefined ? [] : [{ instance, urls }],
  );
  return others.length === 0 ? {} : { otherBus: others };
}

function titled({ reply: { instance, via } }: Outcome, text: string): string {
  return `${printable(instance)}${VIA[via]}:\n\n${text.trimEnd()}`;
}

/** What a change of a checkpoint does, or has done; undefined if it is about something else, or has failed. */
function changeOf({ reply: { body }, task }: Outcome): ChangeFacts | undefined {
  const ended = task === 'unknown' ? undefined : task?.result;
  const facts = (ended ?? (body?.ok ? body.result : undefined)) as Partial<ChangeFacts> | undefined;
  return Array.isArray(facts?.slices) && Array.isArray(facts.changes) ? (facts as ChangeFacts) : undefined;
}

function changeTold(outcome: Outcome): string {
  const facts = changeOf(outcome)!;
  const { operation, instances } = facts;
  const others = instances === null ? 'whether others run the same slice is not known' : instances.join(', ');
  const warning = `${instances === null ? others : `the same slice runs in ${others}`}; --yes needs --force, and all of them must be asked`;
  const warnings = facts.done || instances?.length === 0 ? [] : [warning];
  return changeText(facts, { title: `checkpoint ${operation}`, warnings, isRunning: true });
}

function resultOf<T>({ reply: { body } }: Outcome): T {
  return (body?.ok ? body.result : undefined) as T;
}

/** One row per sink. An instance that was never attached has one row without a sink. */
function statusTable(outcomes: readonly Outcome[], width: number | undefined): string {
  const header = [
    'instance',
    'slice',
    'state',
    'received',
    'pending',
    'sink',
    'sink state',
    'lag s',
    'backlog',
    'points written',
  ];
  const rows = outcomes.flatMap((outcome) => {
    const status = resultOf<Status>(outcome);
    const sinks: readonly (SinkStatus | undefined)[] = status.sinks.length > 0 ? status.sinks : [undefined];
    return sinks.map((sink, i) => [
      // Each row names its instance, so that it can be told from others wherever it stands.
      ...(i === 0 ? instanceCells(status, outcome.reply.via) : [printable(status.instance), '', '', '', '']),
      ...sinkCells(sink, status),
    ]);
  });
  const remarks = outcomes.flatMap((outcome) => {
    const status = resultOf<Status>(outcome);
    const troubles = status.detached ? [] : status.sinks.map((sink) => troubleText(sink, status));
    const names = status.sinks.flatMap((sink) => {
      const text = namesText(sink);
      if (text === '') return [];
      const nothing = unchosenText(sink);
      return nothing === ''
        ? [`${sink.id} gets only names that ${text} choose: fewer points than the stream gives.`]
        : [`${sink.id} gets nothing: ${nothing}.`];
    });
    const longer = status.sinks.flatMap((sink) => {
      const text = longerText(sink, status);
      return text === '' ? [] : [`${sink.id} has windows ${text}: fewer rows, and a longer lag.`];
    });
    const rejected = rejectionsExplained(status.messages.rejected, status.samples.rejected);
    const input = [...inputRemarks(status), ...rejected.map((text) => `Rejected, ${text}.`)];
    const texts = [unreadyText(status), ...troubles, ...longer, ...names, ...input].filter(
      (text) => text !== '',
    );
    return texts.map((text) => `${printable(status.instance)}: ${printable(text)}`);
  });
  const keys = [header.indexOf('instance'), header.indexOf('sink')];
  return [renderTable(header, rows, { width, keys }), ...remarks].join('\n\n');
}

/** Why an instance is not ready, though nobody took it off the bus. */
function unreadyText(status: Status): string {
  if (status.ready || status.detached) return '';
  const unopened = status.sinks.length === 0 ? ' Its sinks are opened once it has read from the bus.' : '';
  return `${stateOf(status).text}${unopened}`;
}

function instanceCells(
  { instance, slice, ready, detached, messages, source }: Status,
  via: Reply['via'],
): Cell[] {
  const state: Cell = detached
    ? { text: `detached${VIA[via]}`, colour: 'yellow' }
    : ready
      ? { text: 'ready', colour: 'green' }
      : { text: 'not ready', colour: 'red' };
  return [printable(instance), slice, state, amount(messages.received), amount(source.pendingMessages)];
}

/** Below each other, the points are in line. */
const TENTHS = { minimumFractionDigits: 1, maximumFractionDigits: 1 };

const CELL_COLOURS = { good: undefined, plain: undefined, warn: 'yellow', bad: 'red' } as const;

function sinkCells(sink: SinkStatus | undefined, status: Status): Cell[] {
  if (sink === undefined) return Array.from({ length: 5 }, () => NO_VALUE);
  const { id, lagSeconds, backlogPoints, written } = sink;
  const { state, tone } = sinkCard(sink, status);
  const colour = CELL_COLOURS[tone];
  // Nobody has asked the stores since the instance left the bus.
  const shown: Cell =
    status.detached && !sink.paused ? sink.state : colour === undefined ? state : { text: state, colour };
  return [
    id,
    shown,
    lagSeconds?.toLocaleString('en', TENTHS) ?? NO_VALUE,
    amount(backlogPoints),
    amount(written),
  ];
}

function settingsTable(outcome: Outcome, width: number | undefined): string {
  const { settings } = resultOf<{ readonly settings: Readonly<Record<string, string>> }>(outcome);
  const rows = Object.entries(settings).map(([variable, value]) => [variable, printable(value)]);
  return `${printable(outcome.reply.instance)}:\n\n${renderTable(['variable', 'value'], rows, { width })}`;
}

function outcomeTable(outcomes: readonly Outcome[], width: number | undefined): string {
  const rows = outcomes.map((outcome): Cell[] => {
    const { text, detail, isWell } = outcomeWords(outcome);
    const state: Cell = { text, colour: isWell ? 'green' : 'red' };
    return [printable(outcome.reply.instance), state, printable(detail)];
  });
  return renderTable(['instance', 'outcome', 'detail'], rows, { width });
}

interface Words {
  readonly text: string;
  readonly detail: string;
  readonly isWell: boolean;
}

function outcomeWords({ reply: { body }, task }: Outcome): Words {
  if (body === undefined) return { text: 'no answer', detail: 'it did not answer in time', isWell: false };
  if (!body.ok) return { text: body.error.code, detail: body.error.message, isWell: false };
  if (task === 'unknown') {
    const { id } = body.result as TaskReport;
    return {
      text: 'unknown',
      detail: `no instance reported the end of the task. Ask with: ctl task ${id}`,
      isWell: false,
    };
  }
  const report = task ?? (body.result as Partial<TaskReport>);
  if (report.state === undefined) return { text: 'done', detail: doneText(body.result), isWell: true };
  const isWell = report.state === 'done' || report.state === 'running';
  const detail =
    report.error?.message ?? (report.state === 'running' ? `task ${report.id}` : summary(report));
  return { text: report.state, detail, isWell };
}

function summary({ operation, result }: Partial<TaskReport>): string {
  if (operation !== 'verify') return plain(result);
  const { equal, sinks } = result as {
    readonly equal: boolean;
    readonly sinks: readonly { readonly sink: string; readonly windows: { readonly different: number } }[];
  };
  const each = sinks.map(({ sink, windows }) => `${sink}: ${plain(windows)}`);
  const notEqual = differencesInWords(sinks) ?? 'not known to be equal';
  return [equal ? 'equal' : notEqual, ...each].join('; ');
}

/** What a sink is now is said in words. */
function doneText(result: unknown): string {
  const { sink, paused } = (result ?? {}) as { readonly sink?: unknown; readonly paused?: unknown };
  if (typeof sink !== 'string' || typeof paused !== 'boolean') return plain(result);
  return `${sink} is ${paused ? 'paused' : 'resumed'}`;
}

/** `key value, key value`. */
function plain(value: unknown): string {
  if (typeof value !== 'object' || value === null) return '';
  return Object.entries(value)
    .map(([key, item]) => `${key} ${typeof item === 'object' ? JSON.stringify(item) : String(item)}`)
    .join(', ');
}
