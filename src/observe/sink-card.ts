/** How a sink is, in words: what the page, `compare` and `ctl status` say about it. Pure. */
import { amount, byReason, counted, percent, seconds, total } from '../base/number-format.ts';
import { isRefusal, type RefuseReason } from '../sink/contract.ts';
import type { SinkStatus, Status } from './status.ts';

export type Tone = 'good' | 'warn' | 'bad' | 'plain';

/** One thing that is to be known about a sink. */
export interface CardLine {
  readonly what: string;
  readonly text: string;
  readonly tone: Tone;
}

export interface SinkCard {
  readonly id: string;
  readonly kind: string;
  readonly state: string;
  readonly tone: Tone;
  readonly detail: string;
  readonly lines: readonly CardLine[];
}

/** What a status says about when it was made, and about how the windows are. */
export type AboutWindows = Pick<Status, 'now' | 'source' | 'windows'>;

const line = (what: string, text: string, tone: Tone = 'plain'): CardLine => ({ what, text, tone });

/** `at` is RFC 3339 text. With the day, if that is not the one of `now`. */
export function clockTime(at: string, now = at): string {
  const text = new Date(at).toISOString();
  return `${dayIfOther(text, now)}${text.slice(11, 19)} UTC`;
}

/** The same without seconds, for a time that is an estimate. */
export function minuteTime(at: string, now: string): string {
  return `${dayIfOther(at, now)}${at.slice(11, 16)} UTC`;
}

const dayIfOther = (at: string, now: string) =>
  at.slice(0, 10) === now.slice(0, 10) ? '' : `${at.slice(0, 10)} `;

const secondsBetween = (from: string, to: string) => Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);

/** When reading is so far behind, in seconds, no sink is up to date, however well its store is. */
const BEHIND_SECONDS = 30;

export function sinkCard(sink: SinkStatus, about: AboutWindows): SinkCard {
  const { id, kind, lastFailure, catchUp } = sink;
  // A third-party sink may have left out the reason.
  const failure =
    lastFailure === null ? '' : `${String(lastFailure.reason).replaceAll('_', ' ')}: ${lastFailure.message}`;
  const card = (state: string, tone: Tone, detail: string, ...lines: readonly CardLine[][]): SinkCard => {
    return { id, kind, state, tone, detail, lines: [...lines.flat(), ...lasting(sink, about)] };
  };
  if (sink.paused) {
    const detail = 'Nothing is written until somebody resumes it.';
    return card(
      'paused',
      'warn',
      detail,
      [line('what to do', `metrics-fanout ctl resume ${id}`)],
      safety(sink, about),
    );
  }
  if (sink.state === 'stopped')
    return card('stopped', 'bad', failure, outage(sink, about), safety(sink, about));
  if (!sink.up && failure === '') return card('connecting', 'warn', 'No answer from the store yet.');
  if (!sink.up) return card('down', 'bad', failure, outage(sink, about), safety(sink, about));
  if (catchUp !== null) {
    const left = catchUp.secondsLeft === null ? '' : `, about ${seconds(catchUp.secondsLeft)} left`;
    const detail = `${counted(Math.ceil(catchUp.windowsBehind), 'window')} behind${left}`;
    return card('catching up', 'warn', detail, safety(sink, about));
  }
  // Then all sinks that follow the live path wait for that.
  const { lagSeconds } = about.source;
  if (lagSeconds > BEHIND_SECONDS) {
    const detail = `The service reads messages that are ${seconds(lagSeconds)} old`;
    return card('catching up', 'warn', detail, safety(sink, about));
  }
  const silent = receiptTrouble(sink, about);
  if (silent !== undefined) return card('without receipts', 'warn', silent);
  const before = `Last failure at ${clockTime(new Date(lastFailure?.at ?? 0).toISOString(), about.now)}: ${failure}`;
  return card('healthy', 'good', failure === '' ? 'No failure so far.' : before);
}

/** A store that takes rows, and no receipts; undefined if it takes them, or never did. */
function receiptTrouble({ receipts }: SinkStatus, { now }: AboutWindows): string | undefined {
  // Absent in what an older version says.
  const { state, until = null, lastFailure = null } = receipts ?? {};
  if (state !== 'failing' && !(state === 'none' && until !== null)) return undefined;
  const since = until === null ? '' : ` since ${clockTime(until, now)}`;
  const why = state === 'failing' && lastFailure !== null ? ` (${lastFailure.message})` : '';
  return `It takes rows, and no receipts${since}${why}: nobody would notice that it was restored from a backup.`;
}

/** Since when the store takes nothing, what to do, and when it is tried again. */
function outage(
  { id, downSince, nextAttempt, lastFailure, state }: SinkStatus,
  { now }: AboutWindows,
): CardLine[] {
  const lines: CardLine[] = [];
  // Absent in what an older version says.
  if (downSince)
    lines.push(line('since', `${clockTime(downSince, now)}, for ${seconds(secondsBetween(downSince, now))}`));
  lines.push(line('what to do', adviceFor(String(lastFailure?.reason), id)));
  if (state === 'stopped') return lines;
  const wait = nextAttempt ? secondsBetween(now, nextAttempt) : 0;
  lines.push(line('next attempt', wait > 0 ? `in ${seconds(Math.max(1, Math.ceil(wait)))}` : 'now'));
  return lines;
}

/** What an operator does about a store that refuses: it does not pass by itself. */
const REPAIRS: Readonly<Record<RefuseReason, string>> = {
  unauthorized:
    'Correct its user, password or token, or the rights of that user. Secrets are read when the service starts.',
  untrusted: 'Correct its CA_FILE, or the certificate of the store.',
  not_found: 'Make what is missing in the store, or correct its name in the settings.',
  schema_mismatch: 'Change the table in the store as the message says.',
  bad_request: 'Correct what the message names, in the settings or in the store.',
};

/** What the store itself advises is part of the failure. */
function adviceFor(reason: string, id: string): string {
  const tryIt = 'metrics-fanout check tries a write and says what is wrong.';
  switch (reason) {
    case 'connection':
      return `See that the store runs, and can be reached from here. ${tryIt}`;
    case 'timeout':
      return `See what keeps the store busy; SINK_${id.toUpperCase()}_TIMEOUT is the limit of one write.`;
    case 'throttled':
      return 'Nothing if it passes. If not, give the store more capacity.';
    case 'checkpoint':
      return 'Do what the message says; after a change to its checkpoint, the sink goes on by itself.';
    case 'shared_table':
      return 'Give this sink another table, and restart. Leave the rows of the other one: metrics-fanout verify says whether some were overwritten, and replay writes them again.';
    default:
      return isRefusal(reason) ? `${REPAIRS[reason]} ${tryIt}` : tryIt;
  }
}

/** Until when nothing is lost, if the store takes nothing until then. */
function safety(
  { safeUntil, lagSeconds, backlogBytes, backlogLimitBytes }: SinkStatus,
  { now, source }: AboutWindows,
): CardLine[] {
  if (source.kind === 'core') {
    const share = backlogLimitBytes > 0 ? backlogBytes / backlogLimitBytes : 0;
    return [line('nothing is lost', `until its memory is full: ${percent(share)} used`, 'warn')];
  }
  if (safeUntil === undefined) return [];
  if (lagSeconds === null)
    return [line('lag', 'not known, and so not how long the stream holds what it needs')];
  if (safeUntil === null)
    return [line('nothing is lost', 'as long as the stream holds it: it has no time limit')];
  const left = secondsBetween(now, safeUntil);
  if (left === 0)
    return [
      line(
        'windows are lost',
        `since ${minuteTime(safeUntil, now)}: the stream deletes what it needs`,
        'bad',
      ),
    ];
  return [
    line('nothing is lost', `until ${minuteTime(safeUntil, now)}: the stream still holds ${seconds(left)}`),
  ];
}

/** What is to be known about a sink whether it is well or not. */
function lasting(sink: SinkStatus, about: AboutWindows): CardLine[] {
  const { now } = about;
  const longer = longerText(sink, about);
  const { kind, version, address, names, verified, rejected, lastRejected, receipts } = sink;
  const unchosen = unchosenText(sink);
  // Absent in what an older version says.
  const store = address ? `${version ?? kind}, ${address}` : (version ?? '');
  const lines = [
    line('verified', verifiedText(verified, now), verified.different > 0 ? 'bad' : 'plain'),
    ...(store === '' ? [] : [line('store', store)]),
    ...(longer === '' ? [] : [line('windows', longer)]),
    ...(names ? [line('names', `only those that ${names.join(', ')} choose`)] : []),
    ...(unchosen === '' ? [] : [line('nothing chosen', unchosen, 'warn')]),
    ...(receipts?.state === 'none' ? [line('receipts', 'it keeps none')] : []),
  ];
  const count = total(rejected);
  if (count === 0) return lines;
  const example = lastRejected ? `; the last: ${lastRejected.example} (${lastRejected.message})` : '';
  return [...lines, line('rejected', `${byReason(rejected)}${example}`, 'warn')];
}

/** How long the windows of a sink are, if they are longer than those of the pipeline; empty if not. */
export function longerText({ windowMs }: SinkStatus, { windows }: AboutWindows): string {
  // Absent in what an older version says.
  if (!windowMs || windowMs <= windows.windowMs) return '';
  const [own, pipeline] = [windowMs, windows.windowMs].map((ms) => seconds(ms / 1000));
  return `of ${own}, made of those of ${pipeline}`;
}

/** A sink that gets nothing, most likely because its names are misspelled; empty for one that gets something. */
export function unchosenText({ names, unchosenWindows }: SinkStatus): string {
  // Absent in what an older version says.
  if (!names || !unchosenWindows) return '';
  return `no name of the latest ${counted(unchosenWindows, 'window')} matches ${[...names].sort().join(', ')}`;
}

const LASTING: readonly string[] = [
  'verified',
  'store',
  'windows',
  'names',
  'nothing chosen',
  'receipts',
  'rejected',
];
/** With its text, it is a sentence. */
const BEGINNINGS: readonly string[] = ['nothing is lost', 'windows are lost'];

/** `state`: of the sink. */
function sentenceOf({ what, text }: CardLine, state: string): string {
  if (what === 'since') return capitalized(`${state} since ${text}`);
  return capitalized(BEGINNINGS.includes(what) ? `${what} ${text}` : `${what}: ${text}`);
}

const capitalized = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);

/** A sink that is not well, in one sentence after the other; empty for one that is. */
export function troubleText(sink: SinkStatus, about: AboutWindows): string {
  const { id, state, tone, detail, lines } = sinkCard(sink, about);
  if (tone === 'good') return '';
  const rest = lines.filter(({ what }) => !LASTING.includes(what));
  const all = [capitalized(detail), ...rest.map((each) => sentenceOf(each, state))].filter(
    (text) => text !== '',
  );
  return `${id} is ${state}. ${all.map((text) => (text.endsWith('.') ? text : `${text}.`)).join(' ')}`;
}

/** What part of the windows was checked, what differs, and when somebody last looked. */
export function verifiedText(
  verified: Pick<SinkStatus['verified'], 'equal' | 'different' | 'confirmed' | 'lastAt'>,
  now: string,
): string {
  const { equal, different, confirmed = 0, lastAt } = verified;
  const checked = equal + different;
  if (checked === 0) return 'no window yet';
  const part =
    confirmed > 0
      ? `${amount(checked)} of ${counted(confirmed, 'window')} (${percent(Math.min(1, checked / confirmed))})`
      : counted(checked, 'window');
  const ago = lastAt
    ? `, last look ${seconds(Math.max(1, Math.round(secondsBetween(lastAt, now))))} ago`
    : '';
  return `${part}: ${different > 0 ? counted(different, 'differs', 'differ') : 'all equal'}${ago}`;
}
