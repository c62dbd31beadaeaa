/** The chart library is a global of the page. */
declare const uPlot: typeof import('uplot');
