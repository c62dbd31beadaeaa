#!/usr/bin/env node
/**
 * The entry point of the package's bin. It reports a Node.js that is too old for the rest of the program, so any
 * Node.js must be able to read this file.
 */
const NEEDED = [22, 18] as const;
const EXIT_UNAVAILABLE = 69;

const [major, minor] = process.versions.node.split('.').map(Number) as [number, number];
if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) {
  import('./main.ts');
} else {
  process.stderr.write(
    `metrics-fanout: needs Node.js ${NEEDED.join('.')} or newer; this is ${process.versions.node}\n` +
      '  npm install node@24, in the same folder, gets one beside this package: npx metrics-fanout uses it, or put node_modules/.bin first on the PATH.\n',
  );
  process.exitCode = EXIT_UNAVAILABLE;
}
