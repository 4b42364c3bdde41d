// Uploads by Uppy: photos by one PUT, large files in parts. A lost connection costs no more than the parts that were on
// their way. The gateway (../README.md) decides how a file travels; this page never sees the service's token.
import AwsS3 from '@uppy/aws-s3';
import Uppy from '@uppy/core';

// Pauses between attempts: two minutes without a connection are survived, also where the browser does not notice.
const PAUSES_MS = [1_000, 2_000, 3_000, 5_000, 5_000, 10_000, 15_000, 20_000, 30_000, 30_000];
const REPEATABLE = new Set([429, 502, 503, 504]);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** One request to the gateway. All of them may be repeated, so they are until there is an answer. */
async function call(method, path, body, signal) {
  for (const pauseMs of [...PAUSES_MS, undefined]) {
    let retryAfterS;
    try {
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(path, { method, signal, headers, body: body && JSON.stringify(body) });
      if (response.ok) return response.status === 204 ? undefined : await response.json();
      if (!REPEATABLE.has(response.status) || pauseMs === undefined) throw new Error((await response.json()).error);
      retryAfterS = response.headers.get('retry-after');
    } catch (error) {
      if (!(error instanceof TypeError) || pauseMs === undefined) throw error; // fetch: the connection failed
    }
    await pause(retryAfterS ? retryAfterS * 1000 : pauseMs);
  }
}

const parts = ({ key, uploadId }, number = '') =>
  `/uploads/${key}/parts${number && `/${number}`}?${new URLSearchParams({ uploadId })}`;

/** Send bytes to the store, unless it has them: then only the response to the last attempt was lost. */
async function send(options) {
  const { stored, etag } = options.signature;
  if (!stored) return AwsS3.uploadPartBytes(options);
  options.onComplete(etag);
  return { ETag: etag };
}

const uppy = new Uppy({ autoProceed: true }).use(AwsS3, {
  shouldUseMultipart: (file) => Boolean(file.meta.granted.uploadId),
  // All files of a size have parts of the same size.
  getChunkSize: ({ size }) =>
    uppy.getFiles().find((file) => file.size === size && file.meta.granted).meta.granted.partSize,
  getUploadParameters: (file) => file.meta.granted,
  createMultipartUpload: (file) => file.meta.granted,
  listParts: (file, { signal, ...upload }) => call('GET', parts(upload), undefined, signal),
  signPart: (file, { partNumber, signal, ...upload }) => call('GET', parts(upload, partNumber), undefined, signal),
  completeMultipartUpload: (file, { key, uploadId, signal }) =>
    call('POST', `/uploads/${key}/complete?${new URLSearchParams({ uploadId })}`, undefined, signal),
  abortMultipartUpload: (file, { key, uploadId }) =>
    call('DELETE', `/uploads/${key}?${new URLSearchParams({ uploadId })}`),
  uploadPartBytes: send,
  retryDelays: PAUSES_MS,
});

// Ask the gateway first: it decides between one PUT and parts, and Uppy wants to know the size of parts at once.
uppy.addPreProcessor((ids) => Promise.all(ids.map(async (id) => {
  const { name, type, size } = uppy.getFile(id);
  try {
    uppy.setFileMeta(id, { granted: await call('POST', '/uploads', { filename: name, type, size }) });
  } catch (error) {
    uppy.emit('upload-error', uppy.getFile(id), error); // and the others go on
  }
})));

// Then follow what becomes of it. Parts are complete by then; a single PUT is not.
uppy.on('upload-success', async ({ id, meta: { granted } }) => {
  try {
    if (!granted.uploadId) await call('POST', `/uploads/${granted.key}/complete`);
    const { reason, ...status } = await watch(granted.key, (status) => show(id, status));
    if (reason) show(id, { ...status, reason: (await call('GET', '/reasons'))[reason] ?? reason }); // a sentence
  } catch (error) {
    show(id, { state: 'FAILED', reason: error.message });
  }
});

/** Call `onStatus` for each state; resolve to the final one. EventSource connects again by itself. */
function watch(key, onStatus) {
  return new Promise((resolve) => {
    const source = new EventSource(`/uploads/${key}/events`);
    source.onmessage = ({ data }) => {
      const status = JSON.parse(data);
      onStatus(status);
      if (!['READY', 'FAILED', 'DELETED'].includes(status.state)) return;
      source.close();
      resolve(status);
    };
    source.onerror = async () => {
      if (source.readyState !== EventSource.CLOSED) return;
      await pause(PAUSES_MS[0]);
      resolve(watch(key, onStatus));
    };
  });
}

// When the connection is back, the store is asked what it has, and the rest is sent.
addEventListener('offline', () => uppy.pauseAll());
addEventListener('online', () => uppy.resumeAll());

// A single PUT that was interrupted starts again. What the gateway refused stays refused: such an error has no `source`.
uppy.on('upload-error', async (file, error) => {
  show(file.id, { state: error.source ? 'INTERRUPTED' : 'REFUSED', reason: error.message });
  if (!error.source) return;
  await pause(PAUSES_MS[0]);
  uppy.retryUpload(file.id);
});

const rows = new Map();
uppy.on('file-added', ({ id, name }) => {
  const row = document.createElement('li');
  const state = Object.assign(document.createElement('output'), { value: 'waiting' });
  row.append(name, document.createElement('progress'), state);
  rows.set(id, row);
  document.querySelector('#uploads').append(row);
});
uppy.on('upload-progress', ({ id }, { bytesUploaded, bytesTotal }) => {
  const progress = rows.get(id).querySelector('progress');
  progress.max = bytesTotal;
  progress.value = bytesUploaded;
});

function show(id, { state, reason, thumbnails = {} }) {
  const row = rows.get(id);
  row.querySelector('output').value = reason ? `${state}: ${reason}` : state;
  row.querySelectorAll('img').forEach((image) => image.remove());
  if (thumbnails.small) row.append(Object.assign(new Image(), { src: thumbnails.small, alt: '' }));
}

document.querySelector('#files').addEventListener('change', ({ target }) => {
  uppy.addFiles([...target.files].map((data) => ({ name: data.name, type: data.type, data })));
  target.value = '';
});
