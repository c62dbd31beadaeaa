/** What a chaos run did and found. */

import type { Status } from '../../src/observe/status.ts';
import { isEqual, type RowComparison } from '../../src/verify/rows.ts';
import type { FaultCounts } from './faults.ts';
import type { Healing } from './heal.ts';
import type { InstanceTotals } from './instances.ts';

export interface ChaosReport {
  readonly seed: number;
  readonly seconds: number;
  readonly faults: FaultCounts;
  /** Number of messages in the stream. */
  readonly messages: number;
  /** Messages that `load` sent while the bus was down or crashed. They are not in the stream, so not in the truth. */
  readonly lostByTheBus: number;
  /** Number of rows in the truth. */
  readonly rows: number;
  /** Rows to which rules on names and dimensions gave a key of their own. */
  readonly shaped: number;
  readonly samples: number;
  /** Samples in the store with longer windows, and those of the names that it gets. */
  readonly own: { readonly held: number; readonly sent: number };
  readonly sinks: Readonly<Record<string, RowComparison>>;
  /** By sink: rows that `verify` found equal; undefined if it did not find all rows equal. */
  readonly verified: Readonly<Record<string, number>> | undefined;
  readonly healing: Healing;
  /** Sinks that had not confirmed everything in time. */
  readonly unconfirmed: readonly string[];
  readonly totals: InstanceTotals;
  /** Instances that ended when they should not, or not cleanly. */
  readonly failures: readonly string[];
  /** The status of the last instance when everything was confirmed. */
  readonly lastStatus: Status | undefined;
}

/** Lists everything that is wrong. The list is empty if all is well. */
export function findings(report: ChaosReport): string[] {
  const { sinks, totals, lostByTheBus, own } = report;
  const unequal = Object.entries(sinks).filter(([, sink]) => !isEqual(sink) || sink.points !== report.rows);
  const late = Object.entries(report.healing.headAfterMs).filter(([, ms]) => ms === null);
  return [
    ...unequal.map(([id, sink]) => `${id} differs from the truth: ${JSON.stringify(sink)}`),
    ...Object.keys(sinks)
      .filter((id) => report.verified?.[id] !== report.rows)
      .map((id) => `${id}: verify found ${report.verified?.[id] ?? 'not all'} of ${report.rows} rows equal`),
    ...(own.held === own.sent ? [] : [`longer windows hold ${own.held} of ${own.sent} samples`]),
    ...(report.rows === 0 ? ['there was no traffic'] : []),
    ...(lostByTheBus < 0 ? ['the stream held more than was sent'] : []),
    ...report.unconfirmed.map((id) => `not confirmed in time: ${id}`),
    ...late.map(([id]) => `${id} did not reach the head of the stream again in time`),
    ...(totals.rejectedPoints > 0 ? [`${totals.rejectedPoints} points were refused`] : []),
    ...(totals.rejectedMessages > 0 ? [`${totals.rejectedMessages} messages were rejected`] : []),
    ...(totals.gaps > 0 ? [`${totals.gaps} gaps in a stream that held everything`] : []),
    ...report.failures,
  ];
}

const count = (value: number) => value.toLocaleString('en-US', { maximumFractionDigits: 0 });

export function renderReport(report: ChaosReport): string {
  const { totals, healing } = report;
  const faults = Object.entries(report.faults).map(([target, kinds]) => {
    const listed = Object.entries(kinds).sort(([a], [b]) => (a < b ? -1 : 1));
    return `  ${target}: ${listed.map(([kind, times]) => `${kind} ${times}`).join(', ')}`;
  });
  const injected = Object.values(report.faults).flatMap((kinds) => Object.values(kinds));
  const sinks = Object.entries(report.sinks).map(([id, sink]) => {
    const { points, missing, extra, different } = sink;
    const head = healing.headAfterMs[id];
    const healed =
      head == null
        ? 'not at the head again'
        : `at the head ${(head / 1000).toFixed(1)} s after the last fault`;
    return `  ${id}: ${count(points)} points, ${missing} missing, ${extra} too many, ${different} different; ${healed}`;
  });
  const found = findings(report);
  return [
    `seed ${report.seed}, ${report.seconds.toFixed(0)} s, ${count(injected.reduce((a, b) => a + b, 0))} faults:`,
    ...faults.sort(),
    `the stream holds ${count(report.messages)} messages (${count(report.lostByTheBus)} more were sent while the bus was down)`,
    `the truth: ${count(report.samples)} samples in ${count(report.rows)} rows`,
    ...sinks,
    `longer windows: ${count(report.own.held)} of ${count(report.own.sent)} samples`,
    `verify: ${report.verified === undefined ? 'not all is equal' : 'all is equal'}`,
    `starts of instances ${totals.starts}, resumptions of reading ${totals.resumptions}, samples for closed windows ${totals.reopened}, ` +
      `overflows of backlogs ${totals.overflows}, retries ${totals.retries}, failed saves of checkpoints ${totals.checkpointFailures}`,
    `worst lag after healing: ${healing.worstLagSeconds.toFixed(1)} s`,
    found.length === 0 ? 'all is equal' : `FOUND (seed ${report.seed}):\n  ${found.join('\n  ')}`,
  ].join('\n');
}
