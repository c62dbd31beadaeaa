#!/usr/bin/env node
/**
 * What the package's bin starts. On a Node.js that cannot read the rest it says so; so it must itself be readable by
 * any.
 */
const NEEDED = [22, 18] as const;
const EXIT_UNAVAILABLE = 69;

const [major, minor] = process.versions.node.split('.').map(Number) as [number, number];
if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) {
  import('./main.ts');
} else {
  process.stderr.write(
    `metrics-fanout: needs Node.js ${NEEDED.join('.')} or newer; this is ${process.versions.node}\n`,
  );
  process.exitCode = EXIT_UNAVAILABLE;
}
