/** Computes the windows of a trial from the stream, once, and keeps them in memory: a trial writes them many times. */

import { SeriesTable } from '../aggregate/series-table.ts';
import type { Tiling } from '../aggregate/tiling.ts';
import type { ClosedWindow } from '../aggregate/window.ts';
import { counted } from '../base/number-format.ts';
import type { Bus } from '../bus/connect.ts';
import type { Config } from '../config/config.ts';
import { windowBytes } from '../deliver/lane/queue.ts';
import type { WindowHandler } from '../deliver/pipeline.ts';
import { lostInWords, replays, wholeWindows } from '../deliver/replay/recompute-range.ts';
import { windowsTouched } from '../deliver/start-points.ts';
import type { WindowRange } from '../sink/contract.ts';

export interface TrialTraffic {
  readonly tiling: Tiling;
  readonly windows: readonly ClosedWindow[];
  readonly range: WindowRange;
  readonly messages: number;
  readonly remarks: readonly string[];
}

export interface TrafficRequest {
  readonly from?: number;
  readonly to?: number;
  /** Of the windows that are kept. If there are more, the oldest are left out. */
  readonly maxBytes: number;
}

/** Collects windows within a budget of memory. */
class Collected {
  windows: ClosedWindow[] = [];
  droppedTo: number | undefined;
  #bytes = 0;
  readonly #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  add(window: ClosedWindow): void {
    if (window.size === 0) return;
    this.windows.push(window);
    this.#bytes += windowBytes(window);
    while (this.#bytes > this.#maxBytes && this.windows.length > 1) {
      const oldest = this.windows.shift()!;
      this.#bytes -= windowBytes(oldest);
      this.droppedTo = oldest.start + oldest.windowMs;
    }
  }
}

/** Resolves to the windows of the range, by consumers of its own. `progress` hears how far it is, 0 to 1. */
export async function readTraffic(
  request: TrafficRequest,
  { config, bus, tiling }: { readonly config: Config; readonly bus: Bus; readonly tiling: Tiling },
  progress: (share: number) => void,
  signal: AbortSignal,
): Promise<TrialTraffic> {
  const range = await wholeWindows(request, config, bus, tiling);
  const collected = new Collected(request.maxBytes);
  const done = new AbortController();
  /** Windows that are not whole, or were computed without all of their samples. */
  const broken: WindowRange[] = [];
  let messages = 0;
  const onWindows: WindowHandler = (windows, boundary) => {
    for (const window of windows) if (window.start < range.to) collected.add(window);
    progress((Math.min(boundary, range.to) - range.from) / (range.to - range.from));
    if (boundary >= range.to) done.abort();
    return undefined;
  };
  const open = replays(config, bus, tiling, SeriesTable.of(tiling), {
    onGap: ({ fromTime, toTime }) => broken.push(windowsTouched(fromTime, toTime, tiling)),
    onReopened: (starts) => broken.push(...starts.map((from) => ({ from, to: tiling.endOf(from) }))),
    onProgress: (count) => {
      messages = count;
    },
  });
  const { source, reader, release } = open(range.from, undefined, onWindows);
  await source.run(reader, AbortSignal.any([signal, done.signal]));
  release();
  const isWhole = ({ start }: ClosedWindow) => !broken.some(({ from, to }) => start >= from && start < to);
  const windows = collected.windows.filter(isWhole);
  const left = collected.windows.length - windows.length;
  return {
    tiling,
    windows,
    range: {
      from: windows[0]?.start ?? range.from,
      to: windows.length > 0 ? tiling.endOf(windows.at(-1)!.start) : range.to,
    },
    messages,
    remarks: [
      ...(range.lost > 0 ? [lostInWords(range)] : []),
      ...(collected.droppedTo === undefined
        ? []
        : [
            `the windows before ${new Date(collected.droppedTo).toISOString()} are left out, because more do not fit in --memory`,
          ]),
      ...(left > 0
        ? [
            `${counted(left, 'window is', 'windows are')} left out, because not all of ${left === 1 ? 'its' : 'their'} messages were read`,
          ]
        : []),
    ],
  };
}
