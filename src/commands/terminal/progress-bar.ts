/** A progress bar on stderr, if that is a terminal. It never takes more than one line. */
const REFRESH_MS = 250;
const BAR_CHARACTERS = 30;

/**
 * Shows the bar until the returned function is called. `share` returns how much is done, 0 to 1; `detail` returns the
 * text next to the bar.
 */
export function showProgress(share: () => number, detail: () => string): () => void {
  if (!process.stderr.isTTY) return () => {};
  const started = performance.now();
  const timer = setInterval(() => {
    const done = Math.min(1, Math.max(0, share()));
    const bar = '#'.repeat(Math.round(done * BAR_CHARACTERS)).padEnd(BAR_CHARACTERS, '.');
    const seconds = (performance.now() - started) / 1000;
    const left = done > 0 ? `${Math.round((seconds / done) * (1 - done))} s left` : '';
    const line = `[${bar}] ${(100 * done).toFixed(0)} % ${detail()} ${left}`;
    process.stderr.write(`\r${line.slice(0, process.stderr.columns - 1)}\x1b[K`);
  }, REFRESH_MS);
  return () => {
    clearInterval(timer);
    process.stderr.write('\r\x1b[K');
  };
}
