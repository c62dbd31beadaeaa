/** Kept equal to package.json by a test: reading the file at run time would tie the build to its folder. */
export const VERSION = '0.1.0';
/** Day of that version, or of the work on it. */
export const RELEASED = '2026-11-25';
