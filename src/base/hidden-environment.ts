/** Keeps the environment, and so its secrets, out of Node.js's diagnostic reports. Every thread must call it. */
export function hideEnvironment(): void {
  if (process.report) process.report.excludeEnv = true;
}
