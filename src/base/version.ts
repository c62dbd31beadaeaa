/** A test keeps it equal to package.json: reading the file at run time would tie the build to its folder. */
export const VERSION = '0.1.0';
/** The day of that version, or of the latest work on it. */
export const RELEASED = '2026-11-25';
