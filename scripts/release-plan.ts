/** The changes of a release, as functions on texts. Pure, so that they can be shown before they are made. */

export type Version = readonly [major: number, minor: number, patch: number];

const BUMPS: readonly string[] = ['major', 'minor', 'patch'];

export function parseVersion(text: string): Version | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)$/.exec(text);
  return match ? [Number(match[1]), Number(match[2]), Number(match[3])] : undefined;
}

/** `bump` is `major`, `minor`, `patch` or a version. Returns undefined if it is none of these. */
export function nextVersion(current: Version, bump: string): Version | undefined {
  const place = BUMPS.indexOf(bump);
  if (place < 0) return parseVersion(bump);
  const [major, minor, patch] = current.map((part, i) => (i < place ? part : i === place ? part + 1 : 0));
  return [major!, minor!, patch!];
}

export function isBefore(a: Version, b: Version): boolean {
  const place = a.findIndex((part, i) => part !== b[i]);
  return place >= 0 && a[place]! < b[place]!;
}

const UNRELEASED = '## [Unreleased]';

/** Returns the text under Unreleased, or undefined if there is no such heading. */
export function unreleased(changelog: string): string | undefined {
  const [, after] = changelog.split(`${UNRELEASED}\n`);
  return after?.replace(/^## .*/ms, '').trim();
}

export interface Release {
  readonly before: string;
  readonly version: string;
  /** Such as 2026-11-25. */
  readonly day: string;
}

/**
 * By path of a file that contains the version: the function from its old text to its new text. It throws if the old
 * version is not in the text.
 */
export const EDITS: Readonly<Record<string, (text: string, release: Release) => string>> = {
  'package.json': (text, { before, version }) =>
    replaced(text, `"version": "${before}"`, `"version": "${version}"`),
  'package-lock.json': (text, { version }) => {
    const lock = JSON.parse(text);
    lock.version = version;
    lock.packages[''].version = version;
    return `${JSON.stringify(lock, null, 2)}\n`;
  },
  'src/base/version.ts': (text, { before, version, day }) =>
    replaced(text, `'${before}'`, `'${version}'`).replace(/'\d{4}-\d\d-\d\d'/, `'${day}'`),
  Dockerfile: (text, { before, version }) =>
    replaced(text, `ARG VERSION=${before}`, `ARG VERSION=${version}`),
  'README.md': tarball,
  'examples/acme-sink/README.md': tarball,
  'helm/Chart.yaml': (text, { version }) =>
    text
      .replace(/^version: .*$/m, `version: ${version}`)
      .replace(/^appVersion: .*$/m, `appVersion: "${version}"`),
  'CHANGELOG.md': (text, { version, day }) =>
    replaced(text, `${UNRELEASED}\n`, `${UNRELEASED}\n\n## [${version}] - ${day}\n`),
};

function tarball(text: string, { before, version }: Release): string {
  return replaced(text, `metrics-fanout-${before}.tgz`, `metrics-fanout-${version}.tgz`);
}

function replaced(text: string, from: string, to: string): string {
  if (!text.includes(from)) throw new Error(`it does not contain ${JSON.stringify(from)}`);
  return text.replaceAll(from, to);
}
