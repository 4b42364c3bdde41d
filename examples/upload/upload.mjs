// upload.mjs FILE TYPE: upload a file, wait until it is published, and print where it is.
// What was begun is kept in FILE.upload, so that an upload that was killed goes on when the same command is run again.
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { MediaClient, MediaError } from 'avion-media-client';

const [path, contentType] = process.argv.slice(2);
const kept = `${path}.upload`;
const media = MediaClient.fromEnvironment();
try {
  const mediaId = await media.upload(path, contentType, {
    owner: 'alice',
    progress: (stored, size) => console.error(`${stored} of ${size} bytes`),
    begun: (upload) => writeFileSync(kept, JSON.stringify(upload)),
    resume: existsSync(kept) ? JSON.parse(readFileSync(kept, 'utf8')) : undefined,
  });
  rmSync(kept, { force: true });
  const status = await media.wait(mediaId);
  console.log(mediaId, status.contentType, ...Object.keys(status.thumbnails).sort());
} catch (error) {
  if (!(error instanceof MediaError)) throw error;
  console.error(String(error));
  console.error(error.sentence || 'This did not work. Please try again later.');
  process.exitCode = 1;
} finally {
  media.close();
}
