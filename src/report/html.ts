/** The HTML report as the command line writes it: the page of src/report/html with the pictures that the samples name. */
import type { ValidateReport } from '../validate/result.js';
import { toHtml as render } from './html/index.js';
import { readPictures } from './pictures.js';

export { sweepToHtml } from './html/index.js';

/** One self-contained HTML page. Pictures of samples are read from the paths in the report, when they are there. */
export function toHtml(report: ValidateReport): string {
  return render(report, { pictures: readPictures(report.kept) });
}
