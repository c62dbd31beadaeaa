/**
 * Node.js's HTTP. An `import` of it would read every property of the module, and some of them load Node.js's whole
 * client for fetch and web sockets: 4 MB in each thread, and as long as all else that a thread needs to start.
 */
export const http = process.getBuiltinModule('node:http');

/** Only who speaks HTTPS loads TLS, 0.5 MB in each thread. */
export function loadHttps() {
  return process.getBuiltinModule('node:https');
}
