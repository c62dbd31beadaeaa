/** What NO_PROXY names, in the terms of Node.js. */
import { expect, test } from 'vitest';
import { proxyEnvironment, proxyProblems } from '../../src/base/http-agent.ts';

const except = (list: string) =>
  proxyEnvironment({ HTTP_PROXY: 'http://proxy:3128', NO_PROXY: list })!.no_proxy!.split(',').slice(HERE);
/** This machine comes first. */
const HERE = 'localhost .localhost 127.0.0.0-127.255.255.255 ::1 [::1]'.split(' ').length;

test.each([
  ['example.org', ['example.org', '.example.org']],
  [
    '.example.org *.example.net:8080',
    ['example.org', '.example.org', 'example.net:8080', '.example.net:8080'],
  ],
  ['10.1.2.3, 10.1.2.3:80', ['10.1.2.3', '10.1.2.3:80']],
  ['10.1.2.3/8', ['10.0.0.0-10.255.255.255']],
  ['192.168.77.130/25', ['192.168.77.128-192.168.77.255']],
  ['0.0.0.0/0 1.2.3.4/32', ['0.0.0.0-255.255.255.255', '1.2.3.4-1.2.3.4']],
  ['fd00::1 [fd00::1]:80', ['fd00::1', '[fd00::1]:80']],
  ['*', ['*']],
])('%s', (list, expected) => {
  expect(except(list)).toEqual(expected);
});

test('no proxy, no environment; the name in lower case comes first', () => {
  expect(proxyEnvironment({ NO_PROXY: 'a', HTTP_PROXY: '' })).toBeUndefined();
  expect(proxyEnvironment({ HTTPS_PROXY: 'http://a', https_proxy: 'http://b' })).toMatchObject({
    https_proxy: 'http://b',
  });
  expect(proxyEnvironment({ http_proxy: 'proxy:3128' })).toMatchObject({ http_proxy: 'http://proxy:3128' });
});

test('what has no effect is told, without the value of a proxy', () => {
  const problems = proxyProblems({
    HTTP_PROXY: 'socks5://u:secret@a',
    NO_PROXY: 'fd00::/8,10.0.0.0/8,1.2.3.4/33',
  });
  expect(problems).toHaveLength(3);
  expect(problems[0]).toMatch(/^HTTP_PROXY: a proxy is named by a URL/);
  expect(problems.slice(1)).toEqual([
    expect.stringMatching(/^NO_PROXY: fd00::\/8 /),
    expect.stringMatching(/^NO_PROXY: 1\.2\.3\.4\/33 /),
  ]);
  expect(problems.join()).not.toContain('secret');
  expect(proxyProblems({ HTTPS_PROXY: 'http://proxy:3128' })).toEqual([]);
});

test.each([
  ['22.18.0', 1],
  ['22.21.1', 0],
  ['23.11.0', 1],
  ['24.4.1', 1],
  ['24.5.0', 0],
  ['26.0.0', 0],
])('Node.js %s', (version, problems) => {
  expect(proxyProblems({ HTTPS_PROXY: 'http://proxy:3128' }, version)).toHaveLength(problems);
  expect(proxyProblems({}, version)).toEqual([]);
});
